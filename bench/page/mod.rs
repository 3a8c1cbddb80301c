//! The report as one HTML page that needs nothing else: figures, environment, and
//! pictures as inline SVG. One run, or several over each other.

mod axis;
mod charts;
mod svg;

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value as Json;

pub use self::charts::Run;
use self::charts::charts;
use self::svg::escape;

const STYLE: &str = "body{font:15px/1.45 sans-serif;color:#222;background:#fff;max-width:960px;\
margin:2em auto;padding:0 1em}h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}\
table{border-collapse:collapse}td,th{padding:.2em .9em .2em 0;text-align:left;\
vertical-align:top;border-bottom:1px solid #e4e4e4}td.n{text-align:right;\
font-variant-numeric:tabular-nums}svg{max-width:100%;height:auto;margin:.6em 0}\
.bad{color:#a00;font-weight:bold}.doubt{color:#850}";

/// Parts of a result that are drawn, or told in a place of their own.
const NOT_IN_TABLE: [&str; 6] = [
    "timeline",
    "percentile_curves",
    "environment",
    "warnings",
    "failures",
    "trials_in_order",
];

/// Writes the page.
pub fn save(path: &Path, runs: &[Run]) -> Result<(), String> {
    std::fs::write(path, render(runs))
        .map_err(|error| format!("cannot write {}: {error}", path.display()))
}

fn render(runs: &[Run]) -> String {
    let title = match runs {
        [run] => format!("millrace-bench: {}", run.name),
        runs => format!("millrace-bench: {} runs side by side", runs.len()),
    };
    let title = escape(&title);
    let mut out = format!(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <style>{STYLE}</style></head><body><h1>{title}</h1>"
    );
    for run in runs {
        for (key, class) in [("failures", "bad"), ("warnings", "doubt")] {
            for text in run.json[key].as_array().into_iter().flatten() {
                let text = escape(&format!("{}: {}", run.name, text.as_str().unwrap_or("")));
                let _ = write!(out, "<p class=\"{class}\">{text}</p>");
            }
        }
    }
    for chart in charts(runs) {
        out.push_str(&chart);
    }
    for run in runs {
        out.push_str(&trials(run, runs.len() > 1));
    }
    out.push_str("<h2>Figures</h2>");
    out.push_str(&table(runs, &rows(runs, figures)));
    out.push_str("<h2>Environment and settings</h2>");
    out.push_str(&table(runs, &rows(runs, environment)));
    out.push_str("</body></html>\n");
    out
}

/// A name with the value of every run.
pub type Row = (String, Vec<String>);

/// The figures of a run, by name: latencies in lines of their own.
pub fn figures(run: &Run) -> Vec<(String, String)> {
    let mut flat = Vec::new();
    for (key, value) in run.json.as_object().into_iter().flatten() {
        if NOT_IN_TABLE.contains(&key.as_str()) {
            continue;
        }
        match value.as_object() {
            Some(inner) => flat.extend(inner.iter().map(|(name, value)| {
                (
                    format!("{key} {}", name.replace("_ms", ", ms"))
                        .replace("p99_", "p99.")
                        .replace('_', " "),
                    text(value),
                )
            })),
            None => flat.push((key.replace('_', " "), text(value))),
        }
    }
    flat
}

/// What a search tried, in its order; nothing for other runs.
fn trials(run: &Run, named: bool) -> String {
    let Some(trials) = run.json["trials_in_order"].as_array() else {
        return String::new();
    };
    let of = if named {
        format!(" of {}", escape(&run.name))
    } else {
        String::new()
    };
    let mut out = format!(
        "<h2>Trials{of}</h2><table><tr><th>records per s</th><th>p50, ms</th><th>p99, ms</th>\
         <th>p99.9, ms</th><th>max, ms</th><th></th></tr>"
    );
    for trial in trials {
        out.push_str("<tr>");
        for figure in [
            "rate_records_per_s",
            "p50_ms",
            "p99_ms",
            "p99_9_ms",
            "max_ms",
        ] {
            let _ = write!(out, "<td class=\"n\">{}</td>", text(&trial[figure]));
        }
        let verdict = trial["because"].as_str().unwrap_or("good");
        let _ = write!(out, "<td>{}</td></tr>", escape(verdict));
    }
    out.push_str("</table>");
    out
}

fn environment(run: &Run) -> Vec<(String, String)> {
    let mut flat = Vec::new();
    flatten("", &run.json["environment"], &mut flat);
    flat
}

fn flatten(prefix: &str, value: &Json, out: &mut Vec<(String, String)>) {
    for (key, value) in value.as_object().into_iter().flatten() {
        let name = format!("{prefix}{key}");
        if value.is_object() {
            flatten(&format!("{name} "), value, out);
        } else {
            out.push((name.replace('_', " "), text(value)));
        }
    }
}

fn text(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        Json::Null => String::from("-"),
        Json::Number(number) => match (number.as_u64(), number.as_f64()) {
            (Some(count), _) => crate::units::count_text(count),
            (None, Some(value)) => format!("{value:.3}"),
            _ => number.to_string(),
        },
        Json::Array(list) => list.iter().map(text).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// The rows of all runs under each other's names.
pub fn rows(runs: &[Run], of: fn(&Run) -> Vec<(String, String)>) -> Vec<Row> {
    let told: Vec<Vec<(String, String)>> = runs.iter().map(of).collect();
    let mut names: Vec<&String> = Vec::new();
    for (name, _) in told.iter().flatten() {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let find = |list: &[(String, String)], name: &str| {
        let found = list.iter().find(|(known, _)| known == name);
        found.map_or_else(|| String::from("-"), |(_, value)| value.clone())
    };
    names
        .into_iter()
        .map(|name| {
            (
                name.clone(),
                told.iter().map(|list| find(list, name)).collect(),
            )
        })
        .collect()
}

fn table(runs: &[Run], rows: &[Row]) -> String {
    let mut out = String::from("<table>");
    if runs.len() > 1 {
        out.push_str("<tr><th></th>");
        for run in runs {
            let _ = write!(out, "<th>{}</th>", escape(&run.name));
        }
        out.push_str("</tr>");
    }
    for (name, values) in rows {
        let _ = write!(out, "<tr><td>{}</td>", escape(name));
        for value in values {
            let digits = value.starts_with(|c: char| c.is_ascii_digit());
            let class = if digits && value.len() < 16 {
                " class=\"n\""
            } else {
                ""
            };
            let _ = write!(out, "<td{class}>{}</td>", escape(value));
        }
        out.push_str("</tr>");
    }
    out.push_str("</table>");
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(name: &str, mb: f64) -> Run {
        let second = |n: u64| {
            json!({
                "second": n, "records": 10, "mb": mb, "requests": 1, "count": 1, "p50_ms": 1.0,
                "p90_ms": 1.0, "p99_ms": 2.0, "p99_9_ms": 2.0, "p99_99_ms": 2.0, "max_ms": 2.0,
                "histogram": [[60, 5], [61, 1]],
            })
        };
        let json = json!({
            "run": "e2e", "mb_per_s": mb, "records": 12_345,
            "ack_latency": {"count": 100, "p99_ms": 2.0},
            "warnings": ["a <b> doubt"], "failures": [],
            "environment": {"host": "h", "broker": {"fsync": "yes"}},
            "percentile_curves": {"produce": [[0.5, 1.0], [0.99, 2.0], [1.0, 3.0]]},
            "timeline": {
                "measured_from_second": 1, "measured_to_second": 3,
                "histogram_buckets_per_decade_from_1_us": 20.0,
                "seconds": {"produce": [second(0), second(1), second(2)]},
            },
        });
        Run {
            name: name.to_owned(),
            json,
        }
    }

    #[test]
    fn a_page_has_every_picture_and_needs_nothing_else() {
        let page = render(&[run("one", 5.0)]);
        // Percentiles, latency over time, throughput, heat map.
        assert_eq!(page.matches("<svg").count(), 4);
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
        assert!(page.contains("broker fsync") && page.contains("12 345"));
        assert!(page.contains("a &lt;b&gt; doubt"));
        assert!(!page.contains("src=") && !page.contains("href="));
    }

    #[test]
    fn a_search_shows_its_trials() {
        let mut search = run("search", 5.0);
        search.json["trials_in_order"] = json!([
            {"rate_records_per_s": 4000.0, "p99_ms": 70.5, "because": "p99 above 50 ms"},
            {"rate_records_per_s": 2000.0, "p99_ms": 9.25, "because": null},
        ]);
        let page = render(&[search]);
        let at = |what: &str| {
            page.find(what)
                .unwrap_or_else(|| panic!("{what} is missing"))
        };
        assert!(at("4000.000") < at("p99 above 50 ms") && at("9.250") < at("<td>good</td>"));
        assert!(!render(&[run("one", 5.0)]).contains("Trials"));
    }

    #[test]
    fn several_runs_share_the_pictures() {
        let runs = [run("one", 5.0), run("two", 7.0)];
        let page = render(&runs);
        assert_eq!(page.matches("<svg").count(), 5);
        assert!(page.contains("<th>one</th><th>two</th>"));
        let rows = rows(&runs, figures);
        let mb = rows.iter().find(|(name, _)| name == "mb per s").unwrap();
        assert_eq!(mb.1, ["5.000", "7.000"]);
    }

    #[test]
    fn what_is_missing_is_a_dash_and_no_failure() {
        let bare = Run {
            name: String::from("bare"),
            json: json!({"run": "x"}),
        };
        let page = render(&[run("one", 5.0), bare]);
        assert!(page.contains("<td>-</td>"));
    }
}
