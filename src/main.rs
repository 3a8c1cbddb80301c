//! The broker's process: command line, signals, exit status.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the process belongs to the real world, as `runtime` does"
)]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use clap::{CommandFactory as _, Parser};
use millrace::config::{self, BrokerConfig};
use millrace::runtime::fatal::{CONFIG, Fatal, SYSTEM, USAGE};
use millrace::runtime::logging::{self, Often};
use millrace::runtime::sys::{self, Signal};
use millrace::runtime::version::version;
use millrace::runtime::{Reloader, Server, SettingsSource, Stopper, warn_about_ignored};

static VERSION: LazyLock<String> = LazyLock::new(|| version(option_env!("MILLRACE_COMMIT")));

/// The settings are read again no more often than this, however many signals come.
const RELOAD_EVERY: Duration = Duration::from_secs(1);

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An Apache Kafka compatible event-streaming broker.
///
/// Signals: SIGTERM and SIGINT stop it cleanly, a second one at once; SIGHUP reads the file of settings again.
///
/// Exit status: 0 stopped by a signal; 64 command line; 65 a store is damaged; 70 a shard ended, or could not be made
/// or stopped; 71 the system lacks something; 73 data directory; 74 a disk failed; 78 configuration; 130 and 143 a
/// second signal; 134 a fault of the broker's own.
#[derive(Parser)]
#[command(name = "millrace", version = VERSION.as_str())]
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
    if let Some(status) = millrace_manual::written(Args::command()) {
        return status;
    }
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
    LazyLock::force(&VERSION);
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
    let (source, config) = load(args)?;
    let thread = |name: &str| std::thread::Builder::new().name(name.into());
    let no_thread = |error| Fatal::new(SYSTEM, format!("cannot start a thread: {error}"));
    let (reload, reloads) = sync_channel(1);
    thread("signals")
        .spawn(move || on_signals(&reload))
        .map_err(no_thread)?;
    let known = config.clone();
    let server = Server::start(config)?;
    let reloader = server.reloader();
    thread("reload")
        .spawn(move || on_reloads(&reloads, &reloader, &source, known))
        .map_err(no_thread)?;
    *STOPPER.lock().unwrap_or_else(PoisonError::into_inner) = Some(server.stopper());
    server.serve();
    server.wait()
}

/// Reads the settings and begins to log as they say: also what is wrong with them.
fn load(args: &Args) -> Result<(SettingsSource, BrokerConfig), Fatal> {
    let pair = |text: &String| match text.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_owned(), value.trim().to_owned())),
        None => Err(Fatal::new(
            USAGE,
            format!("--override {text}: expected KEY=VALUE"),
        )),
    };
    let overrides: Result<Vec<_>, Fatal> = args.overrides.iter().map(pair).collect();
    let source = SettingsSource {
        path: args.config.clone(),
        overrides: overrides.clone().unwrap_or_default(),
    };
    let text = source.read();
    let known = text.as_ref().ok().and_then(Option::as_deref);
    let (format, level) = config::log_settings(known, &source.overrides);
    logging::start(format, level);
    logging::log_panics();
    overrides?;
    let text = text.map_err(|why| Fatal::new(CONFIG, why))?;
    let config = source.load(text.as_deref()).map_err(|problems| {
        for problem in &problems {
            tracing::error!("{problem}");
        }
        Fatal::new(CONFIG, "the configuration cannot be used")
    })?;
    warn_about_ignored(&config, &[]);
    if let Some(doubt) = config.bootstrap_doubt() {
        tracing::warn!("{doubt}");
    }
    Ok((source, config))
}

fn on_signals(reload: &SyncSender<()>) {
    let strays = Often::default();
    loop {
        let signal = match sys::wait_for_signal() {
            Signal::Stop(signal) => signal,
            // One that waits will find what this one would have.
            Signal::Reload => {
                let _ = reload.try_send(());
                continue;
            }
            Signal::Other(name) => {
                strays.info(|| format!("{name} has no meaning here; SIGTERM stops the broker"));
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

fn on_reloads(
    reloads: &Receiver<()>,
    reloader: &Reloader,
    source: &SettingsSource,
    mut known: BrokerConfig,
) {
    while reloads.recv().is_ok() {
        reloader.reload(source, &mut known);
        std::thread::sleep(RELOAD_EVERY);
    }
}
