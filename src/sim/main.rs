//! `millrace-sim`: runs seeds of the simulator.

#![allow(
    clippy::disallowed_methods,
    reason = "a program of its own: clocks, files, sockets and threads are its business"
)]

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use millrace::sim::{Counts, Options, Outcome, SEEDS_FOR_ALL, Shape, run};
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
    /// Run this one seed alone.
    #[arg(long)]
    seed: Option<u64>,
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
    /// Give chunks out again as soon as they are dropped.
    ReuseAtOnce,
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
            Some(Wrong::ReuseAtOnce) => Sabotage {
                reuse_at_once: true,
                ..Sabotage::default()
            },
        },
        shape: args.shape,
        verbose: args.verbose,
    };
    let (from, seeds) = args.seed.map_or((args.from, args.seeds), |seed| (seed, 1));
    let bar = ProgressBar::new(seeds).with_style(
        ProgressStyle::with_template("{bar:30} {pos}/{len} seeds, {per_sec}, {eta} left {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let mut failed = 0;
    let mut passed = 0;
    let mut counts = Counts::default();
    for seed in from..from.saturating_add(seeds) {
        name_seed_in_panics(seed, args.steps);
        let outcome = run(seed, &options);
        bar.inc(1);
        counts.add(&outcome.counts);
        if report(seed, &options, &outcome, seeds == 1) {
            passed += 1;
        } else {
            failed += 1;
            bar.set_message(format!("({failed} failed)"));
            if !args.keep_going {
                break;
            }
        }
    }
    bar.finish_and_clear();
    println!("{counts}");
    println!("{passed} passed, {failed} failed");
    let complete = seeds < SEEDS_FOR_ALL || is_narrow(&args) || none_missing(&counts);
    if failed == 0 && complete {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs that are shorter than usual, of one shape, or not of a good store, need not show everything.
fn is_narrow(args: &Args) -> bool {
    args.steps < Options::default().steps || args.sabotage.is_some() || args.shape.is_some()
}

/// Whether everything happened at least once; prints what never did.
fn none_missing(counts: &Counts) -> bool {
    let never = counts.never();
    for what in &never {
        println!("FAILED: {what:?} never happened");
    }
    never.is_empty()
}

/// A panic is a broken invariant too; it ends the process, so that it has to name the seed itself.
fn name_seed_in_panics(seed: u64, steps: u64) {
    std::panic::set_hook(Box::new(move |info| {
        eprintln!("\nFAILED seed {seed}: {info}");
        eprintln!("replay with: millrace-sim --seed {seed} --steps {steps} -v");
        std::process::exit(1);
    }));
}

/// Prints how a run ended; true if it ended well.
fn report(seed: u64, options: &Options, outcome: &Outcome, alone: bool) -> bool {
    if let Some(violation) = &outcome.violation {
        println!(
            "FAILED seed {seed}: {}: {}",
            violation.invariant, violation.what
        );
        println!("the last events:\n{}", outcome.last_events);
        println!(
            "replay with: millrace-sim --seed {seed} --steps {} -v",
            options.steps
        );
        return false;
    }
    if alone {
        println!("seed {seed}: trace {:016x}", outcome.hash);
    }
    true
}
