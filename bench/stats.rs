//! What is counted while the load runs: counters that all threads add to and the
//! display reads, the window in which latencies count, and the shape of histograms.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;

/// Latencies above this are counted as this.
const LATENCY_MAX: Duration = Duration::from_secs(600);

/// What a latency or a throughput is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// From when a request was due to its acknowledgement.
    Produce,
    /// From when a fetch was sent to its answer, if that had records.
    Fetch,
    /// From when a record was due to its arrival at a consumer.
    EndToEnd,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Produce, Self::Fetch, Self::EndToEnd];

    /// As it is called in files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Produce => "produce",
            Self::Fetch => "fetch",
            Self::EndToEnd => "e2e",
        }
    }
}

/// Counters of all threads together. Relaxed: they are sums, nothing is ordered by them.
#[derive(Debug, Default)]
pub struct Counters {
    flows: [Flow; 3],
    errors: AtomicU64,
    /// Records handed to the kernel or waiting for an answer, and done ones: what has been begun.
    begun: AtomicU64,
    /// Records that came again or out of order.
    late: AtomicU64,
    senders: AtomicUsize,
    /// When consumers that waited for a backlog began to read it, and when they were done.
    catch_up: Mutex<(Option<Instant>, Option<Instant>)>,
    closed: AtomicBool,
    expired: AtomicBool,
    stop: AtomicBool,
}

#[derive(Debug, Default)]
struct Flow {
    records: AtomicU64,
    bytes: AtomicU64,
    requests: AtomicU64,
}

/// Values of one kind's counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Records done.
    pub records: u64,
    /// Bytes of their batches.
    pub bytes: u64,
    /// Requests answered.
    pub requests: u64,
    /// Batches refused, of all kinds.
    pub errors: u64,
}

impl Counters {
    /// Counts one request.
    pub fn add(&self, kind: Kind, records: u64, bytes: u64) {
        let flow = &self.flows[kind as usize];
        flow.records.fetch_add(records, Ordering::Relaxed);
        flow.bytes.fetch_add(bytes, Ordering::Relaxed);
        flow.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one refused batch.
    pub fn add_error(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts records whose sending begins.
    pub fn begin(&self, records: u64) {
        self.begun.fetch_add(records, Ordering::Relaxed);
    }

    /// Records whose sending has begun.
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Counts records that came again or out of order.
    pub fn add_late(&self, records: u64) {
        self.late.fetch_add(records, Ordering::Relaxed);
    }

    /// Records that came again or out of order.
    pub fn late(&self) -> u64 {
        self.late.load(Ordering::Relaxed)
    }

    /// Consumers begin to read what has piled up, or have read it all. The first time counts.
    pub fn catching_up(&self, done: bool, now: Instant) {
        let mut times = self
            .catch_up
            .lock()
            .expect("nothing panics while it is held");
        let time = if done { &mut times.1 } else { &mut times.0 };
        time.get_or_insert(now);
    }

    /// How long catching up took; `None` if it did not come to its end.
    pub fn catch_up(&self) -> Option<Duration> {
        let times = self
            .catch_up
            .lock()
            .expect("nothing panics while it is held");
        Some(times.1?.saturating_duration_since(times.0?))
    }

    /// One more client has something to send.
    pub fn sender_added(&self) {
        self.senders.fetch_add(1, Ordering::Relaxed);
    }

    /// One has sent everything and has every answer.
    pub fn sender_done(&self) {
        self.senders.fetch_sub(1, Ordering::Release);
    }

    /// Clients that still send or wait for answers.
    pub fn senders(&self) -> usize {
        self.senders.load(Ordering::Acquire)
    }

    /// From now on nothing new falls due; what was due is still sent.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Whether nothing new falls due.
    pub fn closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// What was due and has not been answered by now is given up.
    pub fn expire(&self) {
        self.expired.store(true, Ordering::Relaxed);
    }

    /// Whether senders are to give up what they wait for.
    pub fn expired(&self) -> bool {
        self.expired.load(Ordering::Relaxed) || self.stopped()
    }

    /// Asks the workers to end.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether the workers are to end.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The values of one kind now.
    pub fn sample(&self, kind: Kind) -> Sample {
        let flow = &self.flows[kind as usize];
        Sample {
            records: flow.records.load(Ordering::Relaxed),
            bytes: flow.bytes.load(Ordering::Relaxed),
            requests: flow.requests.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
        }
    }

    /// The values of every kind now.
    pub fn samples(&self) -> [Sample; 3] {
        Kind::ALL.map(|kind| self.sample(kind))
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
    /// Whether requests fall due by the clock. Then what was *due* within the window counts,
    /// whenever it was answered: a broker that stalls cannot make its worst answers uncounted.
    /// In closed loop what was *answered* within it counts.
    pub open: bool,
    /// The time of day at `start`, nanoseconds since 1970.
    pub start_wall_ns: u64,
}

impl Window {
    /// A run that starts now.
    pub fn new(warmup: Duration, length: Duration, open: bool) -> Self {
        let start = Instant::now();
        let wall = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            start,
            from: start + warmup,
            to: start + warmup + length,
            open,
            start_wall_ns: wall.unwrap_or_default().as_nanos() as u64,
        }
    }

    /// Whether something due at `due` and answered at `now` counts.
    pub fn counts(&self, due: Instant, now: Instant) -> bool {
        let at = if self.open { due } else { now };
        at >= self.from && at < self.to
    }

    /// A moment as nanoseconds since 1970. Steps of the clock during the run do not matter: this
    /// is the monotonic clock, moved.
    pub fn wall_ns(&self, at: Instant) -> u64 {
        self.start_wall_ns + at.saturating_duration_since(self.start).as_nanos() as u64
    }

    /// The moment that [`Window::wall_ns`] gave; the start of the run for anything before.
    pub fn moment(&self, wall_ns: u64) -> Instant {
        let since = wall_ns.saturating_sub(self.start_wall_ns);
        self.start + Duration::from_nanos(since).min(LATENCY_MAX * 1000)
    }
}

/// An empty histogram of nanoseconds: three digits, up to ten minutes.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX.as_nanos() as u64, 3).expect("the bounds are sound")
}

/// Adds a latency, `count` times.
pub fn record(histogram: &mut Histogram<u64>, latency: Duration, count: u64) {
    let ns = latency.as_nanos().min(LATENCY_MAX.as_nanos()) as u64;
    histogram.saturating_record_n(ns, count);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_loop_counts_by_answer_and_open_loop_by_due_time() {
        let mut window = Window::new(
            Duration::from_millis(100),
            Duration::from_millis(100),
            false,
        );
        let at = |ms| window.start + Duration::from_millis(ms);
        let cases = [(50, 99), (50, 100), (190, 199), (190, 5000), (200, 5000)];
        let counted = |window: &Window| cases.map(|(due, now)| window.counts(at(due), at(now)));
        assert_eq!(counted(&window), [false, true, true, false, false]);
        window.open = true;
        assert_eq!(counted(&window), [false, false, true, true, false]);
    }

    #[test]
    fn moments_survive_the_trip_through_a_record() {
        let window = Window::new(Duration::ZERO, Duration::ZERO, true);
        let at = window.start + Duration::from_nanos(123_456_789);
        assert_eq!(window.moment(window.wall_ns(at)), at);
        assert_eq!(window.moment(5), window.start);
        assert!(window.moment(u64::MAX) > window.start);
    }

    #[test]
    fn kinds_are_counted_apart() {
        let counters = Counters::default();
        counters.add(Kind::Produce, 3, 30);
        counters.add(Kind::EndToEnd, 2, 20);
        assert_eq!(counters.sample(Kind::Produce).records, 3);
        assert_eq!(counters.sample(Kind::Fetch).records, 0);
        let all = counters.samples();
        assert_eq!(
            all[Kind::EndToEnd as usize].since(&Sample::default()).bytes,
            20
        );
    }

    #[test]
    fn absurd_latencies_saturate() {
        let mut latency = histogram();
        record(&mut latency, Duration::from_secs(1 << 40), 1);
        assert_eq!(latency.len(), 1);
    }
}
