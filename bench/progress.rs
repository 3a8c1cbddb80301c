//! What is shown while a run lasts: a bar on a terminal, a line per second elsewhere.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::report::Percentiles;
use crate::stats::{Counters, Kind};
use crate::timeline::{Second, Timeline};
use crate::units::count_text;

/// How long after the end of a second its figures are complete.
const LAG: Duration = Duration::from_millis(150);

/// See the module.
pub struct Progress {
    bar: Option<ProgressBar>,
    name: String,
    kinds: &'static [Kind],
    /// Seconds shown so far.
    shown: u64,
    errors: u64,
}

impl Progress {
    /// A display of a run of `seconds`.
    pub fn new(name: &str, kinds: &'static [Kind], seconds: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{prefix} {bar:20} {pos}/{len} s  {msg}");
            ProgressBar::new(seconds)
                .with_style(style.expect("the template is sound"))
                .with_prefix(name.to_owned())
        });
        Self {
            bar,
            name: name.to_owned(),
            kinds,
            shown: 0,
            errors: 0,
        }
    }

    /// Shows the second that has just ended; may be called more often.
    pub fn tick(
        &mut self,
        elapsed: Duration,
        timeline: &Timeline,
        counters: &Counters,
        backlog: Option<u64>,
    ) {
        let seconds = elapsed.saturating_sub(LAG).as_secs();
        if seconds <= self.shown {
            return;
        }
        self.shown = seconds;
        let parts = self.kinds.iter().map(|&kind| {
            let second = timeline.second(kind, seconds - 1);
            second.map_or_else(
                || format!("{} -", kind.name()),
                |second| line(kind, &second),
            )
        });
        let mut text = parts.collect::<Vec<_>>().join("  |  ");
        if let Some(records) = backlog {
            text.push_str(&format!("  |  backlog {}", count_text(records)));
        }
        let errors = counters.sample(self.kinds[0]).errors;
        if errors > self.errors {
            text.push_str(&format!("  |  {} ERRORS", count_text(errors - self.errors)));
            self.errors = errors;
        }
        match &self.bar {
            Some(bar) => {
                bar.set_position(seconds);
                bar.set_message(text);
            }
            None => eprintln!("{} {seconds:>4} s  {text}", self.name),
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn line(kind: Kind, second: &Second) -> String {
    let p = Percentiles::of(&second.latency);
    format!(
        "{} {:.1} MB/s, {} records/s, p50 {:.2} p99 {:.2} p99.9 {:.2} max {:.2} ms",
        kind.name(),
        second.bytes as f64 / 1e6,
        count_text(second.records),
        p.p50,
        p.p99,
        p.p999,
        p.max
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::histogram;

    #[test]
    fn a_line_tells_one_second() {
        let mut latency = histogram();
        latency.record(2_000_000).unwrap();
        let second = Second {
            second: 4,
            records: 3_000,
            bytes: 6_000_000,
            requests: 30,
            latency,
        };
        let text = line(Kind::Produce, &second);
        assert!(
            text.starts_with("produce 6.0 MB/s, 3 000 records/s, p50 2.00"),
            "{text}"
        );
    }
}
