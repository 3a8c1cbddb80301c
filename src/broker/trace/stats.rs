//! Counts of finished requests, by kind. Fixed arrays of counters that only grow:
//! two looks at them give what happened in between.

use super::buckets::{BUCKETS, bucket_of, upper_ns};
use super::stage::{STAGES, Stage};
use super::units::ns;
use super::walk::Trace;
use crate::base::Counter;

/// Kinds of requests that are counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// Produce requests.
    Produce,
    /// Fetch requests. The time for which they wait for records is no latency of the broker's.
    Fetch,
    /// All others.
    Other,
}

impl RequestKind {
    /// All, in the order in which they are reported.
    pub const ALL: [Self; 3] = [Self::Produce, Self::Fetch, Self::Other];

    /// The kind of an API.
    #[must_use]
    pub const fn of(key: i16) -> Self {
        match key {
            0 => Self::Produce,
            1 => Self::Fetch,
            _ => Self::Other,
        }
    }

    /// Its name for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Produce => "produce",
            Self::Fetch => "fetch",
            Self::Other => "other",
        }
    }
}

/// Requests of one latency: how many, and what they spent in each stage together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Requests.
    pub count: u64,
    /// Nanoseconds by stage.
    pub spent: [u64; STAGES],
}

/// The requests of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// By latency: tells what the requests of a percentile spent their time on.
    pub rows: Box<[Row; BUCKETS]>,
    /// By stage, the time that requests spent there which met it; the last one is the wait for records.
    pub stages: Box<[[u64; BUCKETS]; STAGES + 1]>,
}

/// Index of the wait for records in [`Stats::stages`].
pub const PARKED: usize = STAGES;

impl Default for Stats {
    fn default() -> Self {
        Self {
            rows: Box::new([Row::default(); BUCKETS]),
            stages: Box::new([[0; BUCKETS]; STAGES + 1]),
        }
    }
}

/// [`Stats`] that a shard adds to, and others may look at.
#[derive(Debug)]
pub struct LiveStats {
    rows: Box<[LiveRow; BUCKETS]>,
    stages: Box<[[Counter; BUCKETS]; STAGES + 1]>,
    parked_ns: Counter,
}

/// A [`Row`] of them.
#[derive(Debug, Default)]
struct LiveRow {
    count: Counter,
    spent: [Counter; STAGES],
}

impl Default for LiveStats {
    fn default() -> Self {
        Self {
            rows: Box::new(std::array::from_fn(|_| LiveRow::default())),
            stages: Box::new(std::array::from_fn(|_| counters())),
            parked_ns: Counter::default(),
        }
    }
}

/// A counter for each bucket.
pub(super) fn counters() -> [Counter; BUCKETS] {
    std::array::from_fn(|_| Counter::default())
}

impl LiveStats {
    pub(super) fn add(&self, trace: &Trace) {
        let row = &self.rows[bucket_of(trace.total())];
        row.count.add(1);
        for (stage, units) in trace.spent.iter().enumerate() {
            // Those that a request did not meet, half of them, cost nothing.
            if *units > 0 {
                row.spent[stage].add(ns(*units));
                self.stages[stage][bucket_of(u64::from(*units))].add(1);
            }
        }
        if trace.parked > 0 {
            self.stages[PARKED][bucket_of(u64::from(trace.parked))].add(1);
            self.parked_ns.add(ns(trace.parked));
        }
    }

    /// As they are now.
    #[must_use]
    pub fn read(&self) -> Stats {
        let mut stats = Stats::default();
        for (row, live) in stats.rows.iter_mut().zip(self.rows.iter()) {
            row.count = live.count.get();
            for (spent, live) in row.spent.iter_mut().zip(&live.spent) {
                *spent = live.get();
            }
        }
        for (stage, live) in stats.stages.iter_mut().zip(self.stages.iter()) {
            for (count, live) in stage.iter_mut().zip(live) {
                *count = live.get();
            }
        }
        stats
    }

    /// Nanoseconds that fetches waited for records, together.
    #[must_use]
    pub fn parked_ns(&self) -> u64 {
        self.parked_ns.get()
    }
}

impl Stats {
    /// Changes each counter by the one of the other.
    fn with(&mut self, other: &Self, change: impl Fn(&mut u64, u64)) {
        for (row, other) in self.rows.iter_mut().zip(other.rows.iter()) {
            change(&mut row.count, other.count);
            for (ns, other) in row.spent.iter_mut().zip(other.spent) {
                change(ns, other);
            }
        }
        for (stage, other) in self.stages.iter_mut().zip(other.stages.iter()) {
            for (count, other) in stage.iter_mut().zip(other) {
                change(count, *other);
            }
        }
    }

    /// Takes in the counts of another shard.
    pub fn merge(&mut self, other: &Self) {
        self.with(other, |mine, theirs| *mine = mine.saturating_add(theirs));
    }

    /// Leaves what was counted after `earlier` was taken.
    pub fn subtract(&mut self, earlier: &Self) {
        self.with(earlier, |mine, theirs| *mine = mine.saturating_sub(theirs));
    }

    /// Finished requests.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.rows.iter().map(|row| row.count).sum()
    }

    /// The bucket of the latency that `share` (0 to 1) of the requests do not exceed, and what its
    /// requests spent in each stage on average. `None` without requests.
    #[must_use]
    pub fn at(&self, share: f64) -> Option<(usize, [u64; STAGES])> {
        let bucket = percentile(self.rows.iter().map(|row| row.count), share)?;
        let row = &self.rows[bucket];
        Some((bucket, row.spent.map(|ns| ns / row.count.max(1))))
    }

    /// The time in a stage that `share` of the requests do not exceed, in nanoseconds: the end of
    /// its bucket, so 1 is the longest to within an eighth.
    #[must_use]
    pub fn stage_ns(&self, stage: Stage, share: f64) -> u64 {
        let stage = &self.stages[stage as usize];
        let missed = self.count().saturating_sub(stage.iter().sum());
        let counts = std::iter::once(missed).chain(stage.iter().copied());
        match percentile(counts, share) {
            None | Some(0) => 0,
            Some(after) => upper_ns(after - 1),
        }
    }

    /// How many fetches had to wait for records, and how long `share` of them at most, in nanoseconds.
    #[must_use]
    pub fn parked_ns(&self, share: f64) -> (u64, u64) {
        let parked = &self.stages[PARKED];
        let bucket = percentile(parked.iter().copied(), share);
        (parked.iter().sum(), bucket.map_or(0, upper_ns))
    }

    /// The part of all time that was spent in a stage, 0 to 1.
    #[must_use]
    pub fn share(&self, stage: Stage) -> f64 {
        let of = |stage: usize| self.rows.iter().map(|row| row.spent[stage]).sum::<u64>();
        let all: u64 = (0..STAGES).map(of).sum();
        of(stage as usize) as f64 / all.max(1) as f64
    }
}

fn percentile(counts: impl Iterator<Item = u64> + Clone, share: f64) -> Option<usize> {
    let all: u64 = counts.clone().sum();
    let wanted = ((all as f64 * share).ceil() as u64).clamp(1, all.max(1));
    let mut seen = 0;
    counts
        .enumerate()
        .find(|(_, count)| {
            seen += count;
            seen >= wanted
        })
        .map(|(bucket, _)| bucket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Mono;

    /// In units of 64 ns.
    fn trace(queue: u64, sync: u64) -> Trace {
        let mut trace = Trace::new(0, 10, Mono(0));
        trace.pass(Stage::Queue, Mono(queue * 64));
        trace.pass(Stage::Sync, Mono((queue + sync) * 64));
        trace
    }

    fn stats() -> Stats {
        let stats = LiveStats::default();
        for _ in 0..98 {
            stats.add(&trace(1000, 100_000));
        }
        stats.add(&trace(3_000_000, 100_000));
        stats.add(&trace(1000, 8_000_000));
        stats.read()
    }

    #[test]
    fn a_percentile_tells_what_its_own_requests_did() {
        let stats = stats();
        assert_eq!(stats.count(), 100);
        let (bucket, spent) = stats.at(0.5).unwrap();
        assert_eq!(bucket, bucket_of(101_000));
        assert_eq!(spent[Stage::Sync as usize], 6_400_000);
        let (_, spent) = stats.at(0.99).unwrap();
        assert_eq!(
            spent[Stage::Queue as usize],
            192_000_000,
            "it was the queue"
        );
        let (_, spent) = stats.at(1.0).unwrap();
        assert_eq!(spent[Stage::Sync as usize], 512_000_000, "it was the disk");
        assert_eq!(Stats::default().at(0.5), None);
    }

    #[test]
    fn stages_have_percentiles_of_their_own() {
        let stats = stats();
        assert_eq!(stats.stage_ns(Stage::Hop, 1.0), 0);
        assert_eq!(
            stats.stage_ns(Stage::Sync, 0.5),
            upper_ns(bucket_of(100_000))
        );
        assert_eq!(
            stats.stage_ns(Stage::Queue, 1.0),
            upper_ns(bucket_of(3_000_000))
        );
        let shares: f64 = Stage::ALL.iter().map(|stage| stats.share(*stage)).sum();
        assert!((shares - 1.0).abs() < 1e-9);
    }

    #[test]
    fn two_looks_give_what_was_between() {
        let before = stats();
        let more = LiveStats::default();
        more.add(&trace(7, 77_000));
        let mut after = more.read();
        after.merge(&before);
        let mut merged = after.clone();
        merged.merge(&before);
        assert_eq!(merged.count(), 201);
        after.subtract(&before);
        assert_eq!(after.count(), 1);
        assert_eq!(after.at(0.5).unwrap().1[Stage::Sync as usize], 77_000 * 64);
    }
}
