//! Log lines go to standard error through a thread of their own, so that a shard
//! never waits for a terminal or a pipe. When that thread cannot keep up, lines are
//! dropped and counted.

use std::cell::Cell;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, reload};

use super::log_line::{self, Said};
use crate::base::limits::{LOG_LINES_MAX, LOG_QUEUE_BYTES_MAX};
use crate::config::{LogFormat, LogLevel};

/// What [`Often`] lets through at once, and how long it takes to let through as many again.
const OFTEN_LINES: u32 = 10;
const OFTEN_PERIOD: Duration = Duration::from_secs(10);
/// How long the thread waits before it tries again where standard error takes nothing and does not block.
const PAUSE: Duration = Duration::from_millis(10);

enum Line {
    Text(Vec<u8>),
    Flush(Sender<()>),
}

static LINES: OnceLock<Sender<Line>> = OnceLock::new();
/// Bytes of those that wait.
static WAITING: AtomicUsize = AtomicUsize::new(0);
static DROPPED: AtomicU64 = AtomicU64::new(0);
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Starts logging. `RUST_LOG` wins over the level. Further calls do nothing.
pub fn start(format: LogFormat, level: LogLevel) {
    let (sender, lines) = bounded(LOG_LINES_MAX);
    if LINES.set(sender).is_err() {
        return;
    }
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| filter(level));
    let (filter, handle) = reload::Layer::new(filter);
    let _ = FILTER.set(handle);
    let layer = tracing_subscriber::fmt::layer()
        .with_ansi(io::stderr().is_terminal())
        .with_writer(ToThread)
        // It would write to standard error itself.
        .log_internal_errors(false)
        .event_format(Look(format));
    let _ = tracing_subscriber::registry()
        .with(filter)
        .with(layer)
        .try_init();
    let thread = std::thread::Builder::new().name("log".into());
    if let Err(error) = thread.spawn(move || write_lines(&lines, format)) {
        eprintln!("no thread for the log: {error}");
    }
}

/// Logs this and what is more severe from now on. Whether it does: not if `RUST_LOG` says what is logged.
pub fn set_level(level: LogLevel) -> bool {
    let wins = EnvFilter::try_from_default_env().is_ok();
    let handle = FILTER.get().filter(|_| !wins);
    handle.is_some_and(|handle| handle.reload(filter(level)).is_ok())
}

fn filter(level: LogLevel) -> EnvFilter {
    let name = match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    EnvFilter::new(format!("{name},glommio=error"))
}

/// A panic is logged as everything is, and not by its thread: standard error may be a pipe that nobody reads, and a
/// shard that waits for it would be neither dead nor alive.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|info| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("?").to_owned();
        tracing::error!("a fault of the broker's own: thread {name} {info}");
        let trace = std::backtrace::Backtrace::capture();
        if trace.status() == std::backtrace::BacktraceStatus::Captured {
            for line in trace.to_string().lines() {
                tracing::error!("{line}");
            }
        }
        flush();
    }));
}

/// Waits until everything logged so far is written, but no longer than two seconds.
pub fn flush() {
    let Some(lines) = LINES.get() else { return };
    let (sender, done) = bounded(1);
    if lines
        .send_timeout(Line::Flush(sender), Duration::from_secs(1))
        .is_ok()
    {
        let _ = done.recv_timeout(Duration::from_secs(1));
    }
}

fn write_lines(lines: &Receiver<Line>, format: LogFormat) {
    let mut stderr = io::stderr();
    for line in lines {
        match line {
            Line::Text(text) => {
                write_whole(&mut stderr, &text);
                WAITING.fetch_sub(text.len(), Ordering::Relaxed);
            }
            Line::Flush(done) => drop(done.send(())),
        }
        let dropped = DROPPED.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let message = format!("{dropped} log lines dropped: standard error is too slow");
            let mut line = String::new();
            let of = (Level::WARN, module_path!());
            log_line::write(
                (format, false),
                &now(),
                of,
                &Said::message(&message),
                &mut line,
            );
            write_whole(&mut stderr, line.as_bytes());
        }
    }
}

/// A closed standard error is nothing to stop the broker for; what it does not take now is tried again.
fn write_whole(stderr: &mut impl Write, mut text: &[u8]) {
    while !text.is_empty() {
        match stderr.write(text) {
            Ok(0) => return,
            Ok(n) => text = &text[n..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(PAUSE),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// The time, in UTC, as RFC 3339 has it.
fn now() -> String {
    let mut text = String::new();
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

/// How lines look.
struct Look(LogFormat);

impl<S, N> FormatEvent<S, N> for Look
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut said = Said::default();
        event.record(&mut said);
        let look = (self.0, writer.has_ansi_escapes());
        let of = (*event.metadata().level(), event.metadata().target());
        let mut line = String::new();
        log_line::write(look, &now(), of, &said, &mut line);
        writer.write_str(&line)
    }
}

/// Hands each line to the thread.
struct ToThread;

impl<'a> MakeWriter<'a> for ToThread {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        Self
    }
}

impl Write for ToThread {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        // tracing-subscriber writes each event with one call.
        let Some(lines) = LINES.get() else {
            return Ok(text.len());
        };
        let waiting = WAITING.fetch_add(text.len(), Ordering::Relaxed) + text.len();
        let is_left_out = waiting > LOG_QUEUE_BYTES_MAX
            || matches!(
                lines.try_send(Line::Text(text.to_vec())),
                Err(TrySendError::Full(_))
            );
        if is_left_out {
            WAITING.fetch_sub(text.len(), Ordering::Relaxed);
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A message that clients can cause at will, and so may not fill the log: ten at once, then one a
/// second, with the number of those left out.
#[derive(Default)]
pub struct Often {
    state: Cell<Option<(Instant, u32)>>,
    left_out: Cell<u64>,
}

impl Often {
    /// Logs an error, or counts it.
    pub fn error(&self, message: impl FnOnce() -> String) {
        if let Some(line) = self.line(message) {
            tracing::error!("{line}");
        }
    }

    /// Logs a warning, or counts it.
    pub fn warn(&self, message: impl FnOnce() -> String) {
        if let Some(line) = self.line(message) {
            tracing::warn!("{line}");
        }
    }

    /// Logs what is no fault of ours, or counts it.
    pub fn info(&self, message: impl FnOnce() -> String) {
        if let Some(line) = self.line(message) {
            tracing::info!("{line}");
        }
    }

    /// How many lines there were lately.
    #[cfg(test)]
    pub fn lines(&self) -> u32 {
        self.state.get().map_or(0, |(_, level)| level)
    }

    fn line(&self, message: impl FnOnce() -> String) -> Option<String> {
        if !self.allow(Instant::now()) {
            self.left_out.set(self.left_out.get() + 1);
            return None;
        }
        Some(match self.left_out.replace(0) {
            0 => message(),
            n => format!("{} (and {n} more like it)", message()),
        })
    }

    /// A leaky bucket.
    fn allow(&self, now: Instant) -> bool {
        let (since, level) = self.state.get().unwrap_or((now, 0));
        let each = OFTEN_PERIOD / OFTEN_LINES;
        let leaked = (now.duration_since(since).as_nanos() / each.as_nanos()) as u32;
        let level = level.saturating_sub(leaked);
        let allowed = level < OFTEN_LINES;
        let since = if level == 0 {
            now
        } else {
            since + each * leaked
        };
        self.state.set(Some((since, level + u32::from(allowed))));
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes a few bytes at a time, and nothing in between.
    struct Slow(Vec<u8>, bool);

    impl Write for Slow {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let n = text.len().min(3);
            self.0.extend(&text[..n]);
            Ok(n)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_written_whole_where_standard_error_does_not_block() {
        let mut slow = Slow(Vec::new(), false);
        write_whole(&mut slow, b"0123456789");
        assert_eq!(slow.0, b"0123456789");
    }

    #[test]
    fn a_flood_is_thinned_to_one_a_second() {
        let often = Often::default();
        let start = Instant::now();
        let count = |from_ms: u64, to_ms: u64| {
            (from_ms..to_ms)
                .filter(|ms| often.allow(start + Duration::from_millis(*ms)))
                .count()
        };
        assert_eq!(count(0, 500), 10);
        assert_eq!(count(500, 5500), 5);
        assert_eq!(count(60_000, 60_100), 10);
    }
}
