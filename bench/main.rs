//! `millrace-bench`: load generator and verifier for any Kafka broker.
//!
//! Its own thin client prebuilds every batch, so that the generator is not what is
//! measured; `verify` proves that what a broker acknowledged is there.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a program of its own: clocks, files, sockets and threads are its business"
)]

use std::path::PathBuf;
use std::process::ExitCode;

mod args;
mod book;
mod compare;
mod consume;
mod disk;
mod e2e;
mod environment;
mod fetcher;
mod group;
mod hdrlog;
mod layout;
mod load;
mod omb;
mod pace;
mod page;
mod payload;
mod plan;
mod procfs;
mod produce;
mod progress;
mod reactor;
mod report;
mod requests;
mod search;
mod sender;
mod session;
mod sink;
mod socket;
mod stamp;
mod stats;
mod summary;
mod timeline;
mod units;
mod verify;
mod walk;

use args::{Cli, Command, LoadArgs};
use clap::CommandFactory as _;
use report::Report;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit status when the run could not be carried out; a run that was, and failed, gives 1.
const EXIT_NOT_RUN: u8 = 2;

/// Where a result is to be written, beside the screen.
struct Files {
    json: Option<PathBuf>,
    html: Option<PathBuf>,
}

impl Files {
    fn of(load: &LoadArgs) -> Self {
        Self {
            json: load.json.clone(),
            html: load.html.clone(),
        }
    }

    fn save(&self, report: &Report) -> Result<(), String> {
        if let Some(path) = &self.json {
            report.save(path)?;
        }
        if let Some(path) = &self.html {
            let run = page::Run {
                name: report.title().to_owned(),
                json: report.json(),
            };
            page::save(path, &[run])?;
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    if let Some(status) = millrace_manual::written(Cli::command()) {
        return status;
    }
    let (files, result) = match &Cli::read().command {
        Command::Produce(args) => (Files::of(&args.load), produce::run(args)),
        Command::Consume(args) => (Files::of(&args.load), consume::run(args)),
        Command::E2e(args) => (Files::of(&args.load), e2e::run(args)),
        Command::Mixed(args) => (Files::of(&args.load), e2e::run_mixed(args)),
        Command::Search(args) => (Files::of(&args.e2e.load), search::run(args)),
        Command::Omb(args) => (Files::of(&args.e2e.load), omb::run(args)),
        Command::Verify(args) => {
            let json = args.json.clone();
            (Files { json, html: None }, verify::run(args))
        }
        Command::Disk(args) => return tell(disk::run(args).map_err(|e| e.to_string())),
        Command::Compare(args) => return tell(compare::run(args)),
        Command::Sink(args) => return tell(sink::run(args).map(|()| "")),
    };
    let saved = result.and_then(|report| {
        print!("{report}");
        files.save(&report).map(|()| report.is_good())
    });
    match saved {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("millrace-bench: {error}");
            ExitCode::from(EXIT_NOT_RUN)
        }
    }
}

/// Prints what came out of a subcommand that makes no report.
fn tell<T: std::fmt::Display>(result: Result<T, String>) -> ExitCode {
    match result {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("millrace-bench: {error}");
            ExitCode::from(EXIT_NOT_RUN)
        }
    }
}
