//! The result: a table for people, JSON for programs, an exit status for scripts.

use std::fmt::{self, Write as _};
use std::path::Path;

use hdrhistogram::Histogram;

use crate::units::count_text;

/// What is told of a latency distribution, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Percentiles {
    /// Number of values.
    pub count: u64,
    /// Half are below.
    pub p50: f64,
    /// 90 % are below.
    pub p90: f64,
    /// 99 % are below.
    pub p99: f64,
    /// 99.9 % are below.
    pub p999: f64,
    /// The largest.
    pub max: f64,
}

impl Percentiles {
    /// Of a histogram of nanoseconds.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1e6;
        Self {
            count: histogram.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max() as f64 / 1e6,
        }
    }
}

#[derive(Clone, Debug)]
enum Value {
    Text(String),
    Number(f64),
    Count(u64),
    Latency(Percentiles),
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Report {
    title: String,
    rows: Vec<(String, Value)>,
    warnings: Vec<String>,
    failures: Vec<String>,
}

impl Report {
    /// Nothing yet.
    pub fn new(title: &str) -> Self {
        Self {
            title: title.to_owned(),
            rows: Vec::new(),
            warnings: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// Adds a row.
    pub fn text(&mut self, key: &str, value: impl Into<String>) {
        self.rows.push((key.to_owned(), Value::Text(value.into())));
    }

    /// Adds a row.
    pub fn number(&mut self, key: &str, value: f64) {
        self.rows.push((key.to_owned(), Value::Number(value)));
    }

    /// Adds a row.
    pub fn count(&mut self, key: &str, value: u64) {
        self.rows.push((key.to_owned(), Value::Count(value)));
    }

    /// Adds a row.
    pub fn latency(&mut self, key: &str, value: Percentiles) {
        self.rows.push((key.to_owned(), Value::Latency(value)));
    }

    /// Adds a doubt about the result.
    pub fn warn(&mut self, text: String) {
        self.warnings.push(text);
    }

    /// Adds a reason why the run failed.
    pub fn fail(&mut self, text: String) {
        self.failures.push(text);
    }

    /// Whether the run did what it was to do.
    pub fn is_good(&self) -> bool {
        self.failures.is_empty()
    }

    /// Writes [`Report::json`] to a file.
    pub fn save(&self, path: &Path) -> Result<(), String> {
        std::fs::write(path, self.json())
            .map_err(|error| format!("cannot write {}: {error}", path.display()))
    }

    /// One JSON object; latencies are objects in milliseconds.
    pub fn json(&self) -> String {
        let mut out = format!("{{\n  \"run\": {}", Quoted(&self.title));
        for (key, value) in &self.rows {
            let _ = write!(out, ",\n  {}: ", Quoted(key));
            let _ = match value {
                Value::Text(text) => write!(out, "{}", Quoted(text)),
                Value::Number(number) => write!(out, "{}", Finite(*number)),
                Value::Count(count) => write!(out, "{count}"),
                Value::Latency(p) => write!(
                    out,
                    "{{\"count\": {}, \"p50_ms\": {}, \"p90_ms\": {}, \"p99_ms\": {}, \"p99_9_ms\": {}, \"max_ms\": {}}}",
                    p.count,
                    Finite(p.p50),
                    Finite(p.p90),
                    Finite(p.p99),
                    Finite(p.p999),
                    Finite(p.max)
                ),
            };
        }
        for (key, list) in [("warnings", &self.warnings), ("failures", &self.failures)] {
            let texts: Vec<String> = list.iter().map(|text| Quoted(text).to_string()).collect();
            let _ = write!(out, ",\n  \"{key}\": [{}]", texts.join(", "));
        }
        out.push_str("\n}\n");
        out
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self
            .rows
            .iter()
            .map(|(key, _)| key.len())
            .max()
            .unwrap_or(0);
        writeln!(f, "{}", self.title)?;
        for (key, value) in &self.rows {
            let key = key.replace('_', " ");
            match value {
                Value::Text(text) => writeln!(f, "  {key:width$}  {text}")?,
                Value::Number(number) => writeln!(f, "  {key:width$}  {}", Rounded(*number))?,
                Value::Count(count) => writeln!(f, "  {key:width$}  {}", count_text(*count))?,
                Value::Latency(p) => writeln!(
                    f,
                    "  {key:width$}  p50 {:.3}  p90 {:.3}  p99 {:.3}  p99.9 {:.3}  max {:.3} ms  ({} answers)",
                    p.p50,
                    p.p90,
                    p.p99,
                    p.p999,
                    p.max,
                    count_text(p.count)
                )?,
            }
        }
        for warning in &self.warnings {
            writeln!(f, "WARNING: {warning}")?;
        }
        for failure in &self.failures {
            writeln!(f, "FAILED: {failure}")?;
        }
        Ok(())
    }
}

/// A JSON string.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                c if (c as u32) < 0x20 => write!(f, "\\u{:04x}", c as u32)?,
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}

/// A JSON number: JSON knows neither infinity nor NaN.
struct Finite(f64);

impl fmt::Display for Finite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_finite() {
            write!(f, "{:.6}", self.0)
        } else {
            f.write_str("null")
        }
    }
}

/// As many digits as a person needs.
struct Rounded(f64);

impl fmt::Display for Rounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.abs() >= 1000.0 {
            f.write_str(&count_text(self.0.round().abs() as u64))
        } else {
            write!(f, "{:.3}", self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::histogram;

    #[test]
    fn percentiles_of_a_known_distribution() {
        let mut latency = histogram();
        for ms in 1..=1000u64 {
            latency.record(ms * 1_000_000).unwrap();
        }
        let p = Percentiles::of(&latency);
        let near = |got: f64, want: f64| (got - want).abs() <= want * 0.002;
        assert!(
            near(p.p50, 500.0) && near(p.p90, 900.0) && near(p.p99, 990.0),
            "{p:?}"
        );
        assert!(near(p.p999, 999.0) && near(p.max, 1000.0), "{p:?}");
        assert_eq!(p.count, 1000);
        assert_eq!(Percentiles::of(&histogram()), Percentiles::default());
    }

    fn sample() -> Report {
        let mut report = Report::new("produce");
        report.text("topic", "a \"b\"\\\n");
        report.number("mb_per_s", 1234.5678);
        report.number("odd", f64::NAN);
        report.count("records", 1_234_567);
        report.latency(
            "latency",
            Percentiles {
                count: 2,
                p50: 0.25,
                ..Percentiles::default()
            },
        );
        report
    }

    #[test]
    fn json_is_json() {
        let json = sample().json();
        assert!(json.contains(r#""topic": "a \"b\"\\\n""#), "{json}");
        assert!(json.contains(r#""mb_per_s": 1234.567800"#), "{json}");
        assert!(json.contains(r#""odd": null"#), "{json}");
        assert!(json.contains(r#""p50_ms": 0.250000"#), "{json}");
        assert!(json.contains(r#""failures": []"#), "{json}");
    }

    #[test]
    fn the_table_lines_up_and_tells_failures() {
        let mut report = sample();
        assert!(report.is_good());
        report.warn("slow".into());
        report.fail("lost".into());
        let text = report.to_string();
        assert!(text.contains("  records   1 234 567\n"), "{text}");
        assert!(text.contains("  mb per s  1 235\n"), "{text}");
        assert!(text.ends_with("WARNING: slow\nFAILED: lost\n"), "{text}");
        assert!(!report.is_good());
    }
}
