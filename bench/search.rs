//! `search`: the highest rate at which the 99th percentile stays under a bound and
//! nothing is lost, by bisection of open-loop runs.

use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::args::{E2eArgs, Of, SearchArgs};
use crate::e2e;
use crate::load::Outcome;
use crate::report::{Percentiles, Report};
use crate::stats::Kind;
use crate::units::count_text;

/// Runs at most; each halves what is not known.
const TRIALS_MAX: usize = 14;
/// Share of the rate it begins with below which the search gives up.
const FLOOR_SHARE: f64 = 0.01;
/// Pause after a run that was too fast, for the broker to get over it.
const REST: Duration = Duration::from_secs(1);

/// What is known so far.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bracket {
    /// Highest rate that was good; 0 for none yet.
    good: f64,
    /// Lowest rate that was not.
    bad: f64,
    /// Nothing is sought below this.
    floor: f64,
}

impl Bracket {
    /// Nothing is known but that `bad` is too much.
    fn below(bad: f64) -> Self {
        Self {
            good: 0.0,
            bad,
            floor: bad * FLOOR_SHARE,
        }
    }

    /// The rate to try next; `None` when the answer is known to within `precision`.
    fn next(&self, precision: f64) -> Option<f64> {
        let wide = self.bad - self.good > precision * self.bad && self.bad > self.floor;
        wide.then_some((self.good + self.bad) / 2.0)
    }

    fn note(&mut self, rate: f64, is_good: bool) {
        if is_good {
            self.good = self.good.max(rate);
        } else {
            self.bad = self.bad.min(rate);
        }
    }
}

/// One run.
struct Trial {
    rate: f64,
    latency: Percentiles,
    /// Why it was not good; `None` if it was.
    because: Option<String>,
    report: Report,
}

/// Runs the subcommand.
pub fn run(args: &SearchArgs) -> Result<Report, String> {
    let bad = match args.rate_max {
        Some(rate) => rate,
        None => closed_loop_rate(&args.e2e)?,
    };
    let mut bracket = Bracket::below(bad);
    let mut trials: Vec<Trial> = Vec::new();
    while let Some(rate) = bracket
        .next(args.precision)
        .filter(|_| trials.len() < TRIALS_MAX)
    {
        let trial = attempt(args, rate)?;
        let verdict = trial.because.as_deref().unwrap_or("good");
        eprintln!(
            "search: {} records/s: p99 {:.2} ms, {verdict}",
            count_text(rate as u64),
            trial.latency.p99
        );
        bracket.note(rate, trial.because.is_none());
        if trial.because.is_some() {
            std::thread::sleep(REST);
        }
        trials.push(trial);
    }
    Ok(report(args, &trials))
}

/// What goes through without a schedule: no schedule above it can be kept.
fn closed_loop_rate(args: &E2eArgs) -> Result<f64, String> {
    let mut args = args.clone();
    args.send.linger_ms = None;
    let (_, outcome) = e2e::measure(&args, true)?;
    eprintln!(
        "search: {} records/s in closed loop",
        count_text(outcome.rate as u64)
    );
    std::thread::sleep(REST);
    Ok(outcome.rate)
}

fn attempt(args: &SearchArgs, rate: f64) -> Result<Trial, String> {
    let mut e2e_args = args.e2e.clone();
    e2e_args.send.rate = Some(rate);
    let (report, outcome) = e2e::measure(&e2e_args, true)?;
    let kind = match args.of {
        Of::E2e => Kind::EndToEnd,
        Of::Ack => Kind::Produce,
    };
    let latency = outcome.latency[kind as usize].as_ref();
    let latency = latency.map(Percentiles::of).unwrap_or_default();
    Ok(Trial {
        rate,
        because: objection(&outcome, &latency, args.p99_ms),
        latency,
        report,
    })
}

fn objection(outcome: &Outcome, latency: &Percentiles, p99_ms: f64) -> Option<String> {
    let reasons = [
        (outcome.lost > 0, format!("{} records lost", outcome.lost)),
        (
            outcome.errors > 0,
            format!("{} batches refused", outcome.errors),
        ),
        (
            outcome.counters.late() > 0,
            String::from("records again or out of order"),
        ),
        (
            outcome.unanswered > 0,
            format!("{} requests unanswered", outcome.unanswered),
        ),
        (!outcome.kept_up, String::from("backlog")),
        (latency.count == 0, String::from("nothing measured")),
        (latency.p99 > p99_ms, format!("p99 above {p99_ms} ms")),
    ];
    reasons.into_iter().find_map(|(is, why)| is.then_some(why))
}

fn report(args: &SearchArgs, trials: &[Trial]) -> Report {
    let best = trials
        .iter()
        .filter(|trial| trial.because.is_none())
        .max_by(|a, b| a.rate.total_cmp(&b.rate));
    // The best run's own report, under what it was found by.
    let mut report = best.map_or_else(|| Report::new("search"), |best| best.report.clone());
    report.retitle("search");
    report.number("p99_bound_ms", args.p99_ms);
    report.text("p99_of", format!("{:?}", args.of).to_lowercase());
    report.count("trials", trials.len() as u64);
    report.number(
        "highest_good_records_per_s",
        best.map_or(0.0, |best| best.rate),
    );
    if best.is_none() {
        report.fail(format!("no rate kept p99 under {} ms", args.p99_ms));
    }
    report.section("trials_in_order", trials.iter().map(trial_json).collect());
    report
}

fn trial_json(trial: &Trial) -> Json {
    json!({
        "rate_records_per_s": trial.rate,
        "good": trial.because.is_none(),
        "because": trial.because,
        "p50_ms": trial.latency.p50,
        "p99_ms": trial.latency.p99,
        "p99_9_ms": trial.latency.p999,
        "max_ms": trial.latency.max,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn bisection_ends_at_the_highest_good_rate() {
        let mut bracket = Bracket::below(1000.0);
        let mut trials = 0;
        while let Some(rate) = bracket.next(0.01) {
            bracket.note(rate, rate <= 640.0);
            trials += 1;
        }
        assert!((633.0..=640.0).contains(&bracket.good), "{bracket:?}");
        assert!(trials <= 8, "{trials}");
        // Where nothing is good the search gives up.
        let mut hopeless = Bracket::below(1000.0);
        while let Some(rate) = hopeless.next(0.01) {
            hopeless.note(rate, false);
        }
        assert!(hopeless.good == 0.0 && hopeless.bad > 1.0, "{hopeless:?}");
    }

    #[test]
    fn each_defect_makes_a_run_bad() {
        let outcome = || Outcome {
            counters: Arc::default(),
            latency: [None, None, None],
            rate: 1.0,
            kept_up: true,
            unanswered: 0,
            errors: 0,
            lost: 0,
        };
        let latency = Percentiles {
            count: 9,
            p99: 4.0,
            ..Percentiles::default()
        };
        let judge = |outcome: &Outcome| objection(outcome, &latency, 5.0);
        assert_eq!(judge(&outcome()), None);
        assert!(
            objection(&outcome(), &latency, 3.0)
                .unwrap()
                .contains("p99")
        );
        assert!(objection(&outcome(), &Percentiles::default(), 5.0).is_some());
        let bad: [fn(&mut Outcome); 5] = [
            |o| o.lost = 1,
            |o| o.errors = 1,
            |o| o.unanswered = 1,
            |o| o.kept_up = false,
            |o| o.counters.add_late(1),
        ];
        for spoil in bad {
            let mut outcome = outcome();
            spoil(&mut outcome);
            assert!(judge(&outcome).is_some());
        }
    }
}
