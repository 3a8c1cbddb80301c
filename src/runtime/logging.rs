//! Log lines go to standard error through a thread of their own, so that a shard
//! never waits for a terminal or a pipe. When that thread cannot keep up, lines are
//! dropped and counted.

use std::cell::Cell;
use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait to be written.
const LINES_MAX: usize = 4096;
/// What [`Often`] lets through at once, and how long it takes to let through as many again.
const OFTEN_LINES: u32 = 10;
const OFTEN_PERIOD: Duration = Duration::from_secs(10);

enum Line {
    Text(Vec<u8>),
    Flush(Sender<()>),
}

static LINES: OnceLock<Sender<Line>> = OnceLock::new();
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Starts logging. `RUST_LOG` chooses what is logged, by default everything from info up.
/// Further calls do nothing.
pub fn start() {
    let (sender, lines) = bounded(LINES_MAX);
    if LINES.set(sender).is_err() {
        return;
    }
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,glommio=error"));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(ToThread)
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
        .with_target(false)
        .try_init();
    let thread = std::thread::Builder::new().name("log".into());
    if let Err(error) = thread.spawn(move || write_lines(&lines)) {
        eprintln!("no thread for the log: {error}");
    }
}

/// Waits until everything logged so far is written, but no longer than a second.
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

fn write_lines(lines: &Receiver<Line>) {
    let mut stderr = io::stderr();
    for line in lines {
        // A closed standard error is nothing to stop the broker for.
        match line {
            Line::Text(text) => drop(stderr.write_all(&text)),
            Line::Flush(done) => drop(done.send(())),
        }
        let dropped = DROPPED.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let _ = writeln!(
                stderr,
                "{dropped} log lines dropped: standard error is too slow"
            );
        }
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
        if let Some(lines) = LINES.get()
            && let Err(TrySendError::Full(_)) = lines.try_send(Line::Text(text.to_vec()))
        {
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
