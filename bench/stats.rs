//! What is counted while the load runs: counters that the progress display reads,
//! and a latency histogram per worker.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use millrace::base::ErrorCode;

/// Latencies above this are counted as this.
const LATENCY_MAX: Duration = Duration::from_secs(600);

/// Counters of all workers together. Relaxed: they are sums, nothing is ordered by them.
#[derive(Debug, Default)]
pub struct Counters {
    records: AtomicU64,
    bytes: AtomicU64,
    requests: AtomicU64,
    errors: AtomicU64,
    stop: AtomicBool,
}

/// Values of the counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Records done.
    pub records: u64,
    /// Bytes of their batches.
    pub bytes: u64,
    /// Requests answered.
    pub requests: u64,
    /// Batches refused.
    pub errors: u64,
}

impl Counters {
    /// Counts one request.
    pub fn add(&self, records: u64, bytes: u64) {
        self.records.fetch_add(records, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one refused batch.
    pub fn add_error(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    /// Asks the workers to end.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether the workers are to end.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The values now.
    pub fn sample(&self) -> Sample {
        Sample {
            records: self.records.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            requests: self.requests.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
        }
    }
}

impl Sample {
    /// What was added since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            records: self.records - earlier.records,
            bytes: self.bytes - earlier.bytes,
            requests: self.requests - earlier.requests,
            errors: self.errors - earlier.errors,
        }
    }
}

/// The time in which latencies count.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Start of the run.
    pub start: Instant,
    /// End of the warm-up.
    pub from: Instant,
    /// End of the run.
    pub to: Instant,
}

/// What one worker keeps for itself.
#[derive(Debug)]
pub struct Tally {
    window: Window,
    /// Latencies in nanoseconds, of what was answered within the window.
    pub latency: Histogram<u64>,
    /// Batches refused within the window, by error.
    pub errors: BTreeMap<&'static str, u64>,
    /// Batches refused before or after it: a topic that was just made may need a moment.
    pub errors_outside: u64,
}

impl Tally {
    /// Nothing yet.
    pub fn new(window: Window) -> Self {
        Self {
            window,
            latency: histogram(),
            errors: BTreeMap::new(),
            errors_outside: 0,
        }
    }

    /// Counts an answer that came at `now` to something that was due at `intended`.
    pub fn answered(&mut self, intended: Instant, now: Instant) {
        if now >= self.window.from && now < self.window.to {
            record(&mut self.latency, now.saturating_duration_since(intended));
        }
    }

    /// Counts a refused batch.
    pub fn refused(&mut self, error: ErrorCode, now: Instant) {
        if now >= self.window.from && now < self.window.to {
            *self.errors.entry(error.name()).or_default() += 1;
        } else {
            self.errors_outside += 1;
        }
    }

    /// Adds what another worker kept.
    pub fn merge(&mut self, other: &Self) {
        self.latency
            .add(&other.latency)
            .expect("histograms of one shape add");
        for (name, count) in &other.errors {
            *self.errors.entry(name).or_default() += count;
        }
        self.errors_outside += other.errors_outside;
    }
}

/// An empty histogram of nanoseconds: three digits, up to ten minutes.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX.as_nanos() as u64, 3).expect("the bounds are sound")
}

/// Adds a latency.
pub fn record(histogram: &mut Histogram<u64>, latency: Duration) {
    histogram.saturating_record(latency.as_nanos().min(LATENCY_MAX.as_nanos()) as u64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_window_counts() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut tally = Tally::new(Window {
            start,
            from: at(100),
            to: at(200),
        });
        tally.answered(at(50), at(99));
        tally.answered(at(50), at(100));
        tally.answered(at(190), at(199));
        tally.answered(at(190), at(200));
        assert_eq!(tally.latency.len(), 2);
        assert!((49_000_000..=51_000_000).contains(&tally.latency.max()));
    }

    #[test]
    fn tallies_merge() {
        let start = Instant::now();
        let window = Window {
            start,
            from: start,
            to: start + Duration::from_secs(1),
        };
        let mut left = Tally::new(window);
        let mut right = Tally::new(window);
        left.refused(ErrorCode::NotLeaderOrFollower, start);
        right.refused(ErrorCode::NotLeaderOrFollower, start);
        right.refused(ErrorCode::NotLeaderOrFollower, window.to);
        right.answered(start, start + Duration::from_millis(1));
        left.merge(&right);
        assert_eq!(left.errors["NOT_LEADER_OR_FOLLOWER"], 2);
        assert_eq!((left.latency.len(), left.errors_outside), (1, 1));
    }

    #[test]
    fn absurd_latencies_saturate() {
        let mut latency = histogram();
        record(&mut latency, Duration::from_secs(1 << 40));
        assert_eq!(latency.len(), 1);
    }
}
