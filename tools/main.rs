//! `millracectl`: the operator's command line, for any Kafka broker; the `store`
//! commands look into Millrace's own files.

#![allow(
    clippy::disallowed_methods,
    reason = "a program of its own: clocks, files, sockets and threads are its business"
)]

use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory as _, Parser};

mod args;
mod cluster;
mod consume;
mod explain;
mod explain_view;
mod groups;
mod kafka_dir;
mod produce;
mod start;
mod store;
mod table;
mod topics;

use args::{Cli, Command};
use millrace_client::Cluster;

/// What a command returns; the error is a text that says what to do.
type Outcome = Result<(), String>;

fn main() -> ExitCode {
    if let Some(status) = millrace_manual::written(Cli::command()) {
        return status;
    }
    // Sockets are written with MSG_NOSIGNAL, by the standard library.
    millrace::runtime::sys::end_on_broken_pipe();
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("millracectl: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Outcome {
    let timeout = Duration::from_secs(cli.timeout);
    let connect = || Cluster::connect(&cli.bootstrap, timeout).map_err(|e| e.to_string());
    match &cli.command {
        Command::Topics(command) => topics::run(&mut connect()?, command),
        Command::Groups(command) => groups::run(&mut connect()?, command),
        Command::Produce(args) => produce::run(&mut connect()?, args, timeout),
        Command::Consume(args) => consume::run(connect()?, args, timeout),
        Command::Cluster => cluster::run(&mut connect()?),
        Command::Explain(args) => explain::run(connect()?, args),
        Command::Store(command) => store::run(command),
    }
}
