//! Feeds damaged bytes to every decoder and checks what must always hold: no
//! panic, no hang, no allocation that the input does not justify, and what the
//! target itself asserts (agreement of two decoders, round trips).
//!
//! A plain, seeded mutation loop on stable Rust: the corpus is made by our own
//! encoders, and an input is kept when its outcome (which the target returns as
//! a number) was not seen before. To add a decoder, add a file to `targets`.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a program of its own: clocks and files are its business"
)]

mod mutate;
mod pool;
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use millrace::base::Rng;
use peak_alloc::PeakAlloc;

use crate::mutate::mutate;
use crate::pool::Pool;
use crate::targets::{TARGETS, Target};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Longest an input may take in the best of so many attempts: a machine may be busy, but not always just then.
const INPUT_TIME_MAX: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 3;
/// Inputs between two looks at the clock.
const BATCH: u64 = 1024;

#[derive(Parser)]
#[command(about = "Feeds damaged bytes to the decoders of Millrace")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Mutate and run until the time is over or an input fails.
    Run {
        /// Targets; all of them by default.
        targets: Vec<String>,
        /// Seconds for each target.
        #[arg(long, default_value_t = 10)]
        seconds: u64,
        /// Seed of the mutations; the same seed tries the same inputs.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Where failing inputs are saved.
        #[arg(long, default_value = "artifacts")]
        artifacts: PathBuf,
    },
    /// Run one saved input, outside of any harness.
    Replay {
        /// The target.
        target: String,
        /// The input.
        input: PathBuf,
    },
    /// List the targets.
    List,
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::List => {
            TARGETS
                .iter()
                .for_each(|target| println!("{}", target.name));
            ExitCode::SUCCESS
        }
        Command::Replay { target, input } => replay(&target, &input),
        Command::Run {
            targets,
            seconds,
            seed,
            artifacts,
        } => {
            for name in &targets {
                if find(name).is_none() {
                    return unknown(name);
                }
            }
            let chosen =
                |target: &&Target| targets.is_empty() || targets.iter().any(|t| t == target.name);
            let clean = TARGETS
                .iter()
                .filter(chosen)
                .map(|target| run(target, Duration::from_secs(seconds), seed, &artifacts))
                .filter(|clean| !clean)
                .count()
                == 0;
            if clean {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

fn unknown(name: &str) -> ExitCode {
    eprintln!("there is no target {name}; see `list`");
    ExitCode::from(2)
}

fn replay(name: &str, input: &Path) -> ExitCode {
    let Some(target) = find(name) else {
        return unknown(name);
    };
    match std::fs::read(input) {
        Ok(bytes) => {
            println!("outcome {:#x}", (target.check)(&bytes));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("cannot read {}: {error}", input.display());
            ExitCode::from(2)
        }
    }
}

/// Runs one target; `false` if an input failed.
fn run(target: &Target, time: Duration, seed: u64, artifacts: &Path) -> bool {
    let mut rng = Rng::new(seed);
    let mut pool = Pool::default();
    for input in (target.corpus)() {
        match attempt(target, &input) {
            Ok(outcome) => pool.add(outcome, input, &mut rng),
            Err(why) => return failed(target, &input, seed, &why, artifacts),
        }
    }
    let started = Instant::now();
    let mut executions = 0;
    while started.elapsed() < time {
        for _ in 0..BATCH {
            let mut input = pool.pick(&mut rng).to_vec();
            mutate(&mut input, pool.pick(&mut rng), &mut rng);
            if rng.chance(1, 2) {
                (target.repair)(&mut input);
            }
            match attempt(target, &input) {
                Ok(outcome) => pool.add(outcome, input, &mut rng),
                Err(why) => return failed(target, &input, seed, &why, artifacts),
            }
        }
        executions += BATCH;
    }
    let per_second = executions as f64 / started.elapsed().as_secs_f64();
    println!(
        "ok   fuzz/{:<12} {executions} inputs, {per_second:.0}/s, {} outcomes, seed {seed}",
        target.name,
        pool.outcomes()
    );
    true
}

/// Checks one input under all limits.
fn attempt(target: &Target, input: &[u8]) -> Result<u64, String> {
    let mut outcome = checked(target, input)?;
    for _ in 1..ATTEMPTS {
        if outcome.1 <= INPUT_TIME_MAX {
            break;
        }
        outcome = checked(target, input)?;
    }
    match outcome {
        (_, took) if took > INPUT_TIME_MAX => Err(format!("it took {} ms", took.as_millis())),
        (outcome, _) => Ok(outcome),
    }
}

/// Its outcome, and how long it took.
fn checked(target: &Target, input: &[u8]) -> Result<(u64, Duration), String> {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let started = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| (target.check)(input)))
        .map_err(|_| "it panicked".to_owned())?;
    let took = started.elapsed();
    let used = MEMORY.peak_usage().saturating_sub(before);
    if used > target.memory.allowed(input.len()) {
        return Err(format!(
            "{} bytes of input made it use {used} bytes",
            input.len()
        ));
    }
    Ok((outcome, took))
}

fn failed(target: &Target, input: &[u8], seed: u64, why: &str, artifacts: &Path) -> bool {
    let name = format!(
        "{}-{:08x}.bin",
        target.name,
        millrace::base::crc::crc32c(input)
    );
    let path = artifacts.join(name);
    println!("FAIL fuzz/{}: {why}; seed {seed}", target.name);
    match std::fs::create_dir_all(artifacts).and_then(|()| std::fs::write(&path, input)) {
        Ok(()) => eprintln!(
            "saved; run it again with: replay {} {}",
            target.name,
            path.display()
        ),
        Err(error) => eprintln!(
            "cannot save {}: {error}; input: {input:02x?}",
            path.display()
        ),
    }
    false
}
