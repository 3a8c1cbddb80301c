//! What is shown while a run lasts: a bar on a terminal, a line per second elsewhere.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::stats::Sample;
use crate::units::count_text;

/// See the module.
pub struct Progress {
    bar: Option<ProgressBar>,
    name: String,
    shown: u64,
    last: Sample,
}

impl Progress {
    /// A display of a run of `seconds`.
    pub fn new(name: &str, seconds: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len} s  {msg}");
            ProgressBar::new(seconds)
                .with_style(style.expect("the template is sound"))
                .with_prefix(name.to_owned())
        });
        Self {
            bar,
            name: name.to_owned(),
            shown: 0,
            last: Sample::default(),
        }
    }

    /// Shows how it goes, once a second; may be called more often.
    pub fn tick(&mut self, elapsed: Duration, sample: &Sample) {
        let seconds = elapsed.as_secs();
        if seconds <= self.shown {
            return;
        }
        let text = line(&sample.since(&self.last), seconds - self.shown);
        self.shown = seconds;
        self.last = *sample;
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

fn line(added: &Sample, seconds: u64) -> String {
    let per_second = |count: u64| count / seconds.max(1);
    let mut text = format!(
        "{:>8.1} MB/s  {:>11} records/s  {:>9} requests/s",
        per_second(added.bytes) as f64 / 1e6,
        count_text(per_second(added.records)),
        count_text(per_second(added.requests))
    );
    if added.errors > 0 {
        text.push_str(&format!("  {} ERRORS", count_text(added.errors)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_per_second() {
        let added = Sample {
            records: 3_000,
            bytes: 6_000_000,
            requests: 30,
            errors: 0,
        };
        let text = line(&added, 3);
        assert!(
            text.contains("2.0 MB/s") && text.contains("1 000 records/s"),
            "{text}"
        );
        assert!(!text.contains("ERRORS"));
        assert!(line(&Sample { errors: 2, ..added }, 1).ends_with("2 ERRORS"));
    }
}
