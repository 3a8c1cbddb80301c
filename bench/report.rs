//! The result: a table for people, JSON for programs, an exit status for scripts.

use std::fmt;
use std::path::Path;

use hdrhistogram::Histogram;
use serde_json::{Map, Number, Value as Json, json};

use crate::stats::{Kind, Window};
use crate::timeline::Timeline;
use crate::units::count_text;

/// Points of a percentile curve each time the rest halves.
const CURVE_POINTS: u32 = 8;
/// Buckets of a factor of ten in the histograms of seconds, which make the heat map.
const BUCKETS_PER_DECADE: f64 = 20.0;

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
    /// 99.99 % are below.
    pub p9999: f64,
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
            p9999: at(0.9999),
            max: histogram.max() as f64 / 1e6,
        }
    }
}

impl Percentiles {
    fn json(&self) -> Json {
        json!({
            "count": self.count,
            "p50_ms": number(self.p50),
            "p90_ms": number(self.p90),
            "p99_ms": number(self.p99),
            "p99_9_ms": number(self.p999),
            "p99_99_ms": number(self.p9999),
            "max_ms": number(self.max),
        })
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
    /// What only programs want to know.
    sections: Map<String, Json>,
    warnings: Vec<String>,
    failures: Vec<String>,
}

impl Report {
    /// Nothing yet.
    pub fn new(title: &str) -> Self {
        Self {
            title: title.to_owned(),
            rows: Vec::new(),
            sections: Map::new(),
            warnings: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// What was run.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Gives it another title.
    pub fn retitle(&mut self, title: &str) {
        title.clone_into(&mut self.title);
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
        std::fs::write(path, format!("{:#}\n", self.json()))
            .map_err(|error| format!("cannot write {}: {error}", path.display()))
    }

    /// Adds a part that is not shown in the table.
    pub fn section(&mut self, key: &str, value: Json) {
        self.sections.insert(key.to_owned(), value);
    }

    /// Adds the percentile curve of a latency: pairs of share and milliseconds.
    pub fn distribution(&mut self, kind: Kind, histogram: &Histogram<u64>) {
        let curve: Vec<Json> = histogram
            .iter_quantiles(CURVE_POINTS)
            .map(|v| json!([v.quantile_iterated_to(), v.value_iterated_to() as f64 / 1e6]))
            .collect();
        let all = self
            .sections
            .entry("percentile_curves")
            .or_insert_with(|| json!({}));
        all[kind.name()] = Json::Array(curve);
    }

    /// Adds every second of the run.
    pub fn timeline(&mut self, timeline: &Timeline, kinds: &[Kind], window: &Window) {
        let mut all = Map::new();
        for kind in kinds {
            let seconds = timeline.seconds(*kind).into_iter().map(|s| {
                let p = Percentiles::of(&s.latency);
                let mut line = json!({
                    "second": s.second,
                    "records": s.records,
                    "mb": number(s.bytes as f64 / 1e6),
                    "requests": s.requests,
                });
                if let (Json::Object(line), Json::Object(latency)) = (&mut line, p.json()) {
                    line.extend(latency);
                    line.insert("histogram".into(), buckets(&s.latency));
                }
                line
            });
            all.insert(kind.name().to_owned(), seconds.collect());
        }
        let measured = |at: std::time::Instant| (at - window.start).as_secs();
        self.section(
            "timeline",
            json!({
                "measured_from_second": measured(window.from),
                "measured_to_second": measured(window.to),
                "histogram_buckets_per_decade_from_1_us": BUCKETS_PER_DECADE,
                "seconds": all,
            }),
        );
    }

    /// One JSON object; latencies are objects in milliseconds.
    pub fn json(&self) -> Json {
        let mut out = Map::new();
        out.insert("run".into(), self.title.clone().into());
        for (key, value) in &self.rows {
            let value = match value {
                Value::Text(text) => text.clone().into(),
                Value::Number(value) => number(*value),
                Value::Count(count) => (*count).into(),
                Value::Latency(percentiles) => percentiles.json(),
            };
            out.insert(key.clone(), value);
        }
        out.insert("warnings".into(), self.warnings.clone().into());
        out.insert("failures".into(), self.failures.clone().into());
        out.extend(self.sections.clone());
        Json::Object(out)
    }
}

/// Six digits after the point; JSON knows neither infinity nor NaN.
fn number(value: f64) -> Json {
    Number::from_f64((value * 1e6).round() / 1e6).map_or(Json::Null, Json::Number)
}

/// Pairs of bucket number and count, for those that are not empty.
fn buckets(latency: &Histogram<u64>) -> Json {
    let mut sums = std::collections::BTreeMap::new();
    for value in latency.iter_recorded() {
        let us = value.value_iterated_to() as f64 / 1e3;
        let bucket = (us.max(1.0).log10() * BUCKETS_PER_DECADE) as u64;
        *sums.entry(bucket).or_insert(0) += value.count_since_last_iteration();
    }
    sums.into_iter()
        .map(|(bucket, count)| json!([bucket, count]))
        .collect()
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
                    "  {key:width$}  p50 {:.3}  p90 {:.3}  p99 {:.3}  p99.9 {:.3}  p99.99 {:.3}  max {:.3} ms  (of {})",
                    p.p50,
                    p.p90,
                    p.p99,
                    p.p999,
                    p.p9999,
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
    fn json_has_everything() {
        let mut report = sample();
        report.section("more", json!([1]));
        let json = report.json();
        assert_eq!(json["topic"], "a \"b\"\\\n");
        assert_eq!(json["mb_per_s"], 1234.5678);
        assert!(json["odd"].is_null());
        assert_eq!(json["latency"]["p50_ms"], 0.25);
        assert_eq!(json["failures"], json!([]));
        assert_eq!(json["more"], json!([1]));
    }

    #[test]
    fn a_run_is_told_second_by_second() {
        let timeline = Timeline::default();
        let mut page = timeline.blank_page(3, Kind::Produce);
        page.records = 7;
        page.latency.record_n(1_000_000, 5).unwrap();
        timeline.hand_in(page);
        let seconds = std::time::Duration::from_secs;
        let window = Window::new(seconds(2), seconds(5), true);
        let mut report = sample();
        report.timeline(&timeline, &[Kind::Produce], &window);
        let told = &report.json()["timeline"];
        assert_eq!(told["measured_from_second"], 2);
        let second = &told["seconds"]["produce"][0];
        assert_eq!(
            (&second["second"], &second["records"]),
            (&json!(3), &json!(7))
        );
        // A millisecond is three decades above a microsecond.
        assert_eq!(second["histogram"], json!([[60, 5]]));
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
