//! `millrace-bench`: load generator and verifier for any Kafka broker.
//!
//! Its own thin client prebuilds every batch, so that the generator is not what is
//! measured; `verify` proves that what a broker acknowledged is there.

#![allow(
    clippy::disallowed_methods,
    reason = "a program of its own: clocks, files, sockets and threads are its business"
)]

use std::process::ExitCode;

use clap::Parser;

mod args;
mod book;
#[path = "../tools/client/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "each of the two programs uses its part of the client"
)]
mod client;
mod consume;
mod disk;
mod e2e;
mod fetcher;
mod hdrlog;
mod layout;
mod load;
mod pace;
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
mod socket;
mod stamp;
mod stats;
mod summary;
mod timeline;
mod units;
mod verify;
mod walk;

use args::{Cli, Command};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit status when the run could not be carried out; a run that was, and failed, gives 1.
const EXIT_NOT_RUN: u8 = 2;

fn main() -> ExitCode {
    let (json, result) = match &Cli::parse().command {
        Command::Produce(args) => (args.load.json.clone(), produce::run(args)),
        Command::Consume(args) => (args.load.json.clone(), consume::run(args)),
        Command::E2e(args) => (args.load.json.clone(), e2e::run(args)),
        Command::Mixed(args) => (args.load.json.clone(), e2e::run_mixed(args)),
        Command::Search(args) => (args.e2e.load.json.clone(), search::run(args)),
        Command::Verify(args) => (args.json.clone(), verify::run(args)),
        Command::Disk(args) => return print_disk(args),
    };
    let saved = result.and_then(|report| {
        print!("{report}");
        json.map_or(Ok(()), |path| report.save(&path))
            .map(|()| report.is_good())
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

fn print_disk(args: &disk::DiskArgs) -> ExitCode {
    match disk::run(args) {
        Ok(table) => {
            print!("{table}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("millrace-bench: {error}");
            ExitCode::from(EXIT_NOT_RUN)
        }
    }
}
