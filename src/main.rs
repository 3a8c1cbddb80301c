//! The broker's process: command line, signals, exit status.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the process belongs to the real world, as `runtime` does"
)]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use clap::Parser;
use millrace::config::{self, BrokerConfig};
use millrace::runtime::fatal::{CONFIG, Fatal, SYSTEM, USAGE};
use millrace::runtime::sys::Signal;
use millrace::runtime::{Server, Stopper, logging, sys};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An Apache Kafka compatible event-streaming broker.
///
/// Exit status: 0 stopped by a signal; 64 command line; 65 a store is damaged; 70 a shard ended, or could not be made
/// or stopped; 71 the system lacks something; 73 data directory; 74 a disk failed; 78 configuration; 130 and 143 a
/// second signal; 134 a fault of the broker's own.
#[derive(Parser)]
#[command(name = "millrace", version)]
struct Args {
    /// Settings, in the format of Kafka's server.properties.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting; wins over the file. May be given several times.
    #[arg(long = "override", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Print every setting with its meaning and default.
    #[arg(long)]
    list_settings: bool,
}

/// What a signal does: nothing but exit before the server is there, stop it the first time.
static STOPPER: Mutex<Option<Stopper>> = Mutex::new(None);

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    if args.list_settings {
        // Whoever reads may have seen enough: `millrace --list-settings | head`.
        let _ = std::io::stdout().write_all(config::settings_page().as_bytes());
        return ExitCode::SUCCESS;
    }
    sys::avoid_huge_pages();
    sys::keep_freed_memory();
    // Before any thread starts, the log's included, for threads inherit it: one that did not would
    // take SIGTERM's default action and end the process on the spot.
    sys::block_signals();
    logging::start();
    let result = run(&args);
    if let Err(fatal) = &result {
        tracing::error!("{fatal}");
    }
    logging::flush();
    let status = result.err().map_or(0, |fatal| fatal.status);
    // Not by returning: a shard that hangs may not keep the process.
    std::process::exit(i32::from(status))
}

fn run(args: &Args) -> Result<(), Fatal> {
    let config = load(args)?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(on_signals)
        .map_err(|error| Fatal::new(SYSTEM, format!("cannot start a thread: {error}")))?;
    let server = Server::start(config)?;
    *STOPPER.lock().unwrap_or_else(PoisonError::into_inner) = Some(server.stopper());
    server.serve();
    server.wait()
}

fn load(args: &Args) -> Result<BrokerConfig, Fatal> {
    let text = args.config.as_ref().map(|path| {
        std::fs::read_to_string(path)
            .map_err(|error| Fatal::new(CONFIG, format!("cannot read {}: {error}", path.display())))
    });
    let pair = |text: &String| match text.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_owned(), value.trim().to_owned())),
        None => Err(Fatal::new(
            USAGE,
            format!("--override {text}: expected KEY=VALUE"),
        )),
    };
    let overrides = args
        .overrides
        .iter()
        .map(pair)
        .collect::<Result<Vec<_>, _>>()?;
    let config = config::load(text.transpose()?.as_deref(), &overrides)
        .map_err(|error| Fatal::new(CONFIG, error.to_string()))?;
    for ignored in &config.ignored {
        let place = match (&args.config, ignored.line) {
            (Some(path), Some(line)) => format!("{}:{line}", path.display()),
            _ => "--override".to_owned(),
        };
        tracing::warn!(
            "{place}: {} changes nothing here. {}",
            ignored.key,
            ignored.why
        );
    }
    if let Some(doubt) = config.bootstrap_doubt() {
        tracing::warn!("{doubt}");
    }
    Ok(config)
}

fn on_signals() {
    loop {
        let signal = match sys::wait_for_signal() {
            Signal::Stop(signal) => signal,
            Signal::Other(name) => {
                tracing::info!("{name} has no meaning here; SIGTERM stops the broker");
                continue;
            }
        };
        match STOPPER
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            Some(stopper) => stopper.stop(),
            None => std::process::exit(128 + signal),
        }
    }
}
