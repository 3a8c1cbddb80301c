//! The metrics of a node, as Prometheus reads them. One table says what there is, for the text and for the page about
//! it: a metric is a row, and a row is all that it takes.
//!
//! Nothing here runs on a shard: what shards have counted is on their [`Board`](crate::broker::trace::Board)s, which
//! another thread reads.

mod metric;
mod node;
mod table;
mod topics;

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Registry;

use metric::{Metric, MetricKind};
pub use node::{Node, Process};
use table::METRICS;
pub use topics::{ToldTopics, Traffic};

/// How metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// What Prometheus has always read, and everything that reads it.
    Text,
    /// OpenMetrics, for those who ask for it.
    OpenMetrics,
}

impl Format {
    /// The one for a request with this `Accept` header.
    #[must_use]
    pub fn accepted(header: &str) -> Self {
        match header.contains("application/openmetrics-text") {
            true => Self::OpenMetrics,
            false => Self::Text,
        }
    }

    /// What it is called in `Content-Type`.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// All metrics of a node.
///
/// # Errors
/// A value that the library does not write, which is a fault of ours.
pub fn text(node: &Node, format: Format) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Metrics(node.clone())));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(match format {
        Format::OpenMetrics => text,
        Format::Text => older(&text),
    })
}

/// OpenMetrics as the format before it, in which a counter's description names it whole, and there are no units.
fn older(text: &str) -> String {
    let mut older = String::with_capacity(text.len());
    for line in text.lines() {
        let Some(said) = line.strip_prefix("# ") else {
            older.push_str(line);
            older.push('\n');
            continue;
        };
        let mut words = said.splitn(3, ' ');
        let (Some(kind @ ("HELP" | "TYPE")), Some(name), Some(rest)) =
            (words.next(), words.next(), words.next())
        else {
            continue;
        };
        let is_counter =
            |metric: &&Metric| metric.kind == MetricKind::Counter && metric.family() == name;
        let ending = METRICS.iter().find(is_counter).map_or("", |_| "_total");
        older.push_str(&format!("# {kind} {name}{ending} {rest}\n"));
    }
    older
}

/// The page about them: what `tools/METRICS.md` is.
#[must_use]
pub fn page() -> String {
    let mut page = String::from(
        "# Metrics\n\nGenerated from the code: `UPDATE=1 cargo test --test pages` writes it. \
         `millrace.metrics.listener=127.0.0.1:9644` has a broker answer `GET /metrics` there with what Prometheus \
         reads, `/health/live` and `/health/ready` with 200 or 503, and `/version`. Counters begin anew with each \
         start; `shard` is the number of a core's thread. No shard does anything for it: another thread reads what \
         they count.\n\n| Metric | Kind | Labels | Meaning |\n|---|---|---|---|\n",
    );
    for metric in METRICS {
        let labels = match metric.labels {
            [] => "-".to_owned(),
            labels => labels.join(", "),
        };
        let (name, kind, help) = (metric.full_name(), metric.kind.name(), metric.help);
        page.push_str(&format!("| `{name}` | {kind} | {labels} | {help}. |\n"));
    }
    page
}

#[derive(Debug)]
struct Metrics(Node);

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        METRICS
            .iter()
            .try_for_each(|metric| metric.encode(&self.0, &mut encoder))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::*;
    use crate::broker::trace::Board;

    fn node() -> Node {
        let boards: Vec<Arc<Board>> = vec![Arc::default(), Arc::default()];
        boards[0].produced_bytes.add(7);
        boards[1].produced_bytes.add(11);
        boards[0].received_bytes.add(100);
        boards[1].received_bytes.add(23);
        Node {
            id: 5,
            version: "1.2.3",
            commit: Some("abc"),
            is_ready: true,
            process: Process {
                cpu_seconds: 1.5,
                ..Process::default()
            },
            request_bytes: [3, 4],
            boards,
            topics: vec![Traffic {
                topic: "a".into(),
                produced_records: 1,
                produced_bytes: 2,
            }],
            topics_left_out: 4,
        }
    }

    #[test]
    fn what_shards_have_counted_is_told() {
        let text = text(&node(), Format::OpenMetrics).unwrap();
        let has = |line: &str| assert!(text.lines().any(|it| it == line), "{line}: {text}");
        has("millrace_build_info{version=\"1.2.3\",commit=\"abc\",node_id=\"5\"} 1");
        has("millrace_ready 1");
        has("millrace_produced_bytes_total{shard=\"0\"} 7");
        has("millrace_produced_bytes_total{shard=\"1\"} 11");
        has("millrace_received_bytes_total 123");
        has("millrace_requests_total{api=\"Produce\"} 0");
        has("millrace_request_duration_seconds_bucket{le=\"+Inf\",kind=\"produce\"} 0");
        has("millrace_topic_produced_records_total{topic=\"a\"} 1");
        has("millrace_topic_produced_bytes_total{topic=\"a\"} 2");
        has("millrace_topics_left_out 4");
        has("process_cpu_seconds_total 1.5");
        has("# TYPE millrace_request_duration_seconds histogram");
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn no_number_is_too_large() {
        let node = node();
        node.boards[0].store_max_bytes.set(u64::MAX);
        node.boards[0].produced_bytes.set(u64::MAX);
        node.boards[1].leaders.take(1);
        let text = text(&node, Format::OpenMetrics).unwrap();
        assert!(
            text.contains("millrace_store_max_bytes{shard=\"0\"} 1844674407370955"),
            "{text}"
        );
        assert!(text.contains("millrace_produced_bytes_total{shard=\"0\"} 18446744073709551615"));
    }

    #[test]
    fn the_older_format_names_counters_whole() {
        let text = text(&node(), Format::Text).unwrap();
        let has = |line: &str| assert!(text.lines().any(|it| it == line), "{line}: {text}");
        has("# TYPE millrace_received_bytes_total counter");
        has("millrace_received_bytes_total 123");
        has("# TYPE millrace_ready gauge");
        has("# TYPE millrace_fetch_wait_seconds histogram");
        assert!(!text.contains("# EOF") && !text.contains("# UNIT"));
        assert_eq!(Format::accepted("text/plain"), Format::Text);
        let asked = "application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1";
        assert_eq!(Format::accepted(asked), Format::OpenMetrics);
    }

    #[test]
    fn names_follow_the_conventions_and_are_there_once() {
        let mut names = BTreeSet::new();
        for metric in METRICS {
            assert!(names.insert(metric.full_name()), "{}", metric.name);
            let is_of_name = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(metric.name.chars().all(is_of_name), "{}", metric.name);
            let endings = ["_total", "_bytes", "_seconds", "_bucket", "_sum", "_count"];
            let ends = endings.iter().any(|ending| metric.name.ends_with(ending));
            assert!(!ends, "{}", metric.name);
            assert!(!metric.help.ends_with('.') && !metric.help.contains('|'));
        }
    }
}
