//! `compare`: results side by side, on the screen and as a page.

use std::path::Path;

use crate::args::CompareArgs;
use crate::page::{self, Run, figures, rows};

/// Runs the subcommand; gives the table.
pub fn run(args: &CompareArgs) -> Result<String, String> {
    let mut runs = Vec::with_capacity(args.results.len());
    for (path, name) in args.results.iter().zip(names(args)?) {
        runs.push(Run {
            name,
            json: read(path)?,
        });
    }
    if let Some(path) = &args.html {
        page::save(path, &runs)?;
    }
    Ok(table(&runs))
}

fn read(path: &Path) -> Result<serde_json::Value, String> {
    let named = |what: String| format!("{}: {what}", path.display());
    let text = std::fs::read_to_string(path).map_err(|e| named(e.to_string()))?;
    let json: serde_json::Value = serde_json::from_str(&text).map_err(|e| named(e.to_string()))?;
    if json["run"].is_string() {
        Ok(json)
    } else {
        Err(named(String::from("not a result of millrace-bench --json")))
    }
}

/// Names given, or those of the files.
fn names(args: &CompareArgs) -> Result<Vec<String>, String> {
    if !args.names.is_empty() {
        if args.names.len() != args.results.len() {
            return Err(String::from("--names: one per result"));
        }
        return Ok(args.names.clone());
    }
    let stem = |path: &std::path::PathBuf| {
        path.file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    Ok(args.results.iter().map(stem).collect())
}

fn table(runs: &[Run]) -> String {
    let mut lines = vec![(
        String::new(),
        runs.iter().map(|run| run.name.clone()).collect(),
    )];
    lines.extend(rows(runs, figures));
    let first = lines
        .iter()
        .map(|(name, _)| name.chars().count())
        .max()
        .unwrap_or(0);
    let widths: Vec<usize> = (0..runs.len())
        .map(|n| {
            let cells = lines
                .iter()
                .map(|(_, values): &(_, Vec<String>)| values[n].chars().count());
            cells.max().unwrap_or(0)
        })
        .collect();
    let mut out = String::new();
    for (name, values) in &lines {
        let mut line = format!("{name:first$}");
        for (value, width) in values.iter().zip(&widths) {
            line.push_str(&format!("  {value:>width$}"));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_line_up() {
        let run = |name: &str, mb: f64| Run {
            name: name.to_owned(),
            json: json!({"run": "produce", "mb_per_s": mb, "latency": {"p99_ms": 2.5}}),
        };
        let text = table(&[run("a", 1234.5), run("other", 2.0)]);
        assert_eq!(
            text,
            "                        a    other\n\
             run               produce  produce\n\
             mb per s         1234.500    2.000\n\
             latency p99, ms     2.500    2.500\n"
        );
    }

    #[test]
    fn only_results_are_taken() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "{\"a\": 1}").unwrap();
        assert!(read(file.path()).unwrap_err().contains("not a result"));
        std::fs::write(file.path(), "{\"run\": \"e2e\"}").unwrap();
        assert!(read(file.path()).is_ok());
    }
}
