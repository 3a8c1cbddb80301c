//! `millrace-sim`: runs seeds of the simulator.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a program of its own: clocks, files, sockets and threads are its business"
)]

use std::cell::Cell;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use millrace::sim::{Counts, Options, Outcome, Shape, run};
use millrace::store::Sabotage;

/// Runs the broker in virtual time, with everything going wrong that may, and checks what it promised.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// How many seeds to run.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Run seeds until so many minutes are over, however many they are.
    #[arg(long, conflicts_with_all = ["seeds", "seed"])]
    minutes: Option<u64>,
    /// Run this one seed alone.
    #[arg(long)]
    seed: Option<u64>,
    /// Run this many seeds at a time; as many as there are cores if it is not given.
    #[arg(long)]
    jobs: Option<NonZeroUsize>,
    /// Events in a run until things stop going wrong.
    #[arg(long, default_value_t = Options::default().steps)]
    steps: u64,
    /// Make the store do something wrong, to see that it is found.
    #[arg(long)]
    sabotage: Option<Wrong>,
    /// Give every run this shape; a seed chooses otherwise.
    #[arg(long)]
    shape: Option<Shape>,
    /// Go on after a failure.
    #[arg(long)]
    keep_going: bool,
    /// Print every event.
    #[arg(short, long)]
    verbose: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Wrong {
    /// Acknowledge before the data is durable.
    AckBeforeFlush,
    /// Trust what recovery finds.
    SkipRecoveryCrc,
    /// Take any record with the right number and chain for the successor.
    AnySuccessor,
    /// Leave the mark of a clean stop when a store is begun again.
    KeepStop,
    /// Give chunks out again as soon as they are dropped.
    ReuseAtOnce,
}

impl Args {
    /// The arguments without which a seed is another run.
    fn same_again(&self) -> String {
        let mut args = format!("--steps {}", self.steps);
        let sabotage = self.sabotage.and_then(|wrong| wrong.to_possible_value());
        let shape = self.shape.and_then(|shape| shape.to_possible_value());
        for (name, value) in [("sabotage", sabotage), ("shape", shape)] {
            if let Some(value) = value {
                args += &format!(" --{name} {}", value.get_name());
            }
        }
        args
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let options = Options {
        steps: args.steps,
        sabotage: match args.sabotage {
            None => Sabotage::default(),
            Some(Wrong::AckBeforeFlush) => Sabotage {
                ack_before_flush: true,
                ..Sabotage::default()
            },
            Some(Wrong::SkipRecoveryCrc) => Sabotage {
                skip_recovery_crc: true,
                ..Sabotage::default()
            },
            Some(Wrong::AnySuccessor) => Sabotage {
                any_successor: true,
                ..Sabotage::default()
            },
            Some(Wrong::KeepStop) => Sabotage {
                keep_stop: true,
                ..Sabotage::default()
            },
            Some(Wrong::ReuseAtOnce) => Sabotage {
                reuse_at_once: true,
                ..Sabotage::default()
            },
        },
        shape: args.shape,
        verbose: args.verbose,
    };
    let until = args
        .minutes
        .map(|minutes| Instant::now() + Duration::from_secs(minutes * 60));
    let (from, seeds) = match (args.seed, until) {
        (Some(seed), _) => (seed, 1),
        (None, Some(_)) => (args.from, u64::MAX - args.from),
        (None, None) => (args.from, args.seeds),
    };
    let shown = match until {
        Some(_) => "{pos} seeds, {per_sec}, {elapsed} {msg}",
        None => "{bar:30} {pos}/{len} seeds, {per_sec}, {eta} left {msg}",
    };
    let style = ProgressStyle::with_template(shown);
    let bar =
        ProgressBar::new(seeds).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    name_seeds_in_panics(args.same_again());
    let cores = || thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let most = usize::try_from(seeds).unwrap_or(usize::MAX);
    let jobs = args.jobs.unwrap_or_else(cores).get().min(most);
    let progress = Mutex::new(Progress {
        left: from..from.saturating_add(seeds),
        passed: 0,
        failed: 0,
        counts: Counts::default(),
    });
    // Not held while a seed runs.
    let next = || {
        let is_time = until.is_none_or(|until| Instant::now() < until);
        locked(&progress).left.next().filter(|_| is_time)
    };
    thread::scope(|scope| {
        let work = || {
            while let Some(seed) = next() {
                SEED.set(Some(seed));
                let outcome = run(seed, &options);
                let mut progress = locked(&progress);
                bar.inc(1);
                progress.counts.add(&outcome.counts);
                if bar.suspend(|| report(seed, &args, &outcome, seeds == 1)) {
                    progress.passed += 1;
                    continue;
                }
                progress.failed += 1;
                bar.set_message(format!("({} failed)", progress.failed));
                if !args.keep_going {
                    progress.left = 0..0;
                }
            }
        };
        for _ in 0..jobs {
            scope.spawn(work);
        }
    });
    bar.finish_and_clear();
    let Progress {
        passed,
        failed,
        counts,
        ..
    } = *locked(&progress);
    println!("{counts}");
    let complete = is_narrow(&args) || none_missing(&counts);
    println!("seeds from {from} on: {passed} passed, {failed} failed");
    if failed == 0 && complete {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// How far all threads have come.
struct Progress {
    /// Seeds that nobody has taken.
    left: std::ops::Range<u64>,
    passed: u64,
    failed: u64,
    counts: Counts,
}

fn locked(progress: &Mutex<Progress>) -> std::sync::MutexGuard<'_, Progress> {
    // A panic ends the process, so that nobody sees what it leaves behind.
    progress
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

thread_local! {
    /// The seed that this thread runs.
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Runs that are shorter than usual, of one shape, or not of a good store, need not show everything.
fn is_narrow(args: &Args) -> bool {
    args.steps < Options::default().steps || args.sabotage.is_some() || args.shape.is_some()
}

/// Whether everything happened in as many seeds as it has to; prints what did not.
fn none_missing(counts: &Counts) -> bool {
    let missing = counts.missing();
    for it in &missing {
        println!(
            "FAILED: {:?} happened in {} seeds, {} or more are due",
            it.what, it.shown, it.floor
        );
    }
    missing.is_empty()
}

/// A panic is a broken invariant too; it ends the process, so that it has to name the seed itself.
fn name_seeds_in_panics(same_again: String) {
    std::panic::set_hook(Box::new(move |info| {
        let seed = SEED.get().map_or_else(String::new, |seed| seed.to_string());
        eprintln!("\nFAILED seed {seed}: {info}");
        eprintln!("replay with: millrace-sim --seed {seed} {same_again} -v");
        std::process::exit(1);
    }));
}

/// Prints how a run ended; true if it ended well.
fn report(seed: u64, args: &Args, outcome: &Outcome, alone: bool) -> bool {
    if let Some(violation) = &outcome.violation {
        println!(
            "FAILED seed {seed}: {}: {}",
            violation.invariant, violation.what
        );
        println!("the last events:\n{}", outcome.last_events);
        println!(
            "replay with: millrace-sim --seed {seed} {} -v",
            args.same_again()
        );
        return false;
    }
    if alone {
        println!("seed {seed}: trace {:016x}", outcome.hash);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_all_that_makes_the_run() {
        let parsed = |line: &str| Args::parse_from(line.split(' '));
        let again = |line: &str| parsed(line).same_again();
        assert_eq!(again("millrace-sim --seeds 9 --steps 50"), "--steps 50");
        let all = "--steps 50 --sabotage any-successor --shape ring-end";
        assert_eq!(
            again(&format!("millrace-sim --keep-going --seed 7 {all}")),
            all
        );
        assert_eq!(again(&format!("millrace-sim {all}")), all);
    }
}
