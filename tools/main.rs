//! `millracectl`: the operator's command line, for any Kafka broker; the `store`
//! commands look into Millrace's own files.

#![allow(
    clippy::disallowed_methods,
    reason = "a program of its own: clocks, files, sockets and threads are its business"
)]

use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory as _, Parser};

mod answer;
mod args;
mod backup;
mod cluster;
mod configs;
mod consume;
mod dirs;
mod explain;
mod explain_view;
mod failure;
mod format;
mod groups;
mod import;
mod kafka_dir;
mod kafka_metadata;
mod kafka_source;
mod logdirs;
mod members;
mod membership;
mod metrics;
mod new_store;
mod offsets;
mod pattern;
mod produce;
mod profiles;
mod record_json;
mod settings_file;
mod start;
mod store;
mod table;
mod time;
mod top;
mod topics;
mod transactions;
mod voters;

use answer::Output;
use args::{Cli, Command};
use failure::Outcome;
use millrace_client::Cluster;

fn main() -> ExitCode {
    if let Some(status) = millrace_manual::written(Cli::command()) {
        return status;
    }
    // Sockets are written with MSG_NOSIGNAL, by the standard library.
    millrace::runtime::sys::end_on_broken_pipe();
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("millracectl: {failure}");
            failure.into()
        }
    }
}

fn run(cli: &Cli) -> Outcome {
    let output = Output::new(cli.json);
    let timeout = Duration::from_secs(cli.timeout);
    let connect = || -> Outcome<Cluster> {
        let bootstrap = profiles::chosen(cli)?.bootstrap;
        Ok(Cluster::connect(&bootstrap, timeout)?)
    };
    match &cli.command {
        Command::Topics(command) => topics::run(&mut connect()?, output, command),
        Command::Groups(command) => groups::run(&mut connect()?, output, command),
        Command::Produce(args) => produce::run(&mut connect()?, output, args, timeout),
        Command::Consume(args) => consume::run(connect()?, output, args, timeout),
        Command::Configs(command) => configs::run(&mut connect()?, output, command),
        Command::Transactions(command) => transactions::run(&mut connect()?, output, command),
        Command::Cluster { command } => cluster::run(&mut connect()?, output, command.clone()),
        Command::Logdirs(args) => logdirs::run(&mut connect()?, output, args),
        Command::Explain(args) => explain::run(connect()?, output, args),
        Command::Top(args) => {
            let metrics = args.metrics.clone().or(profiles::chosen(cli)?.metrics);
            top::run(&mut connect()?, output, args, metrics.as_deref(), timeout)
        }
        Command::Profiles(command) => profiles::run(output, cli, command),
        Command::Backup(args) => backup::run(&mut connect()?, output, args, &connect, timeout),
        Command::Store(command) => store::run(output, command),
    }
}
