//! The run second by second: throughput, and the distribution of latencies. Threads
//! hand in whole pages, so that they lose no time over it while they measure.

use std::collections::BTreeMap;
use std::sync::Mutex;

use hdrhistogram::Histogram;

use crate::stats::{Kind, histogram};

/// One second of one kind on one thread.
pub struct Page {
    second: u64,
    kind: Kind,
    /// Records done.
    pub records: u64,
    /// Bytes of their batches.
    pub bytes: u64,
    /// Requests answered.
    pub requests: u64,
    /// Latencies in nanoseconds.
    pub latency: Histogram<u64>,
}

/// One second of one kind, all threads together.
#[derive(Clone, Debug)]
pub struct Second {
    /// Counted from the start of the run.
    pub second: u64,
    /// Records done.
    pub records: u64,
    /// Bytes of their batches.
    pub bytes: u64,
    /// Requests answered.
    pub requests: u64,
    /// Latencies in nanoseconds.
    pub latency: Histogram<u64>,
}

/// As [`Second`], with the latencies as the few values that occur: a histogram of every second
/// of a long run would take gigabytes.
#[derive(Default)]
struct Sums {
    records: u64,
    bytes: u64,
    requests: u64,
    latency: BTreeMap<u64, u64>,
}

/// See the module.
#[derive(Default)]
pub struct Timeline {
    inbox: Mutex<Vec<Page>>,
    spare: Mutex<Vec<Histogram<u64>>>,
    sums: Mutex<BTreeMap<(Kind, u64), Sums>>,
}

const UNBROKEN: &str = "nothing panics while it is held";

impl Timeline {
    /// An empty page.
    pub fn blank_page(&self, second: u64, kind: Kind) -> Page {
        let spare = self.spare.lock().expect(UNBROKEN).pop();
        Page {
            second,
            kind,
            records: 0,
            bytes: 0,
            requests: 0,
            latency: spare.unwrap_or_else(histogram),
        }
    }

    /// Takes a page that is full.
    pub fn hand_in(&self, page: Page) {
        self.inbox.lock().expect(UNBROKEN).push(page);
    }

    /// Adds up what was handed in. Takes time: not for threads that measure.
    pub fn digest(&self) {
        let pages = std::mem::take(&mut *self.inbox.lock().expect(UNBROKEN));
        for mut page in pages {
            let mut sums = self.sums.lock().expect(UNBROKEN);
            let sum = sums.entry((page.kind, page.second)).or_default();
            sum.records += page.records;
            sum.bytes += page.bytes;
            sum.requests += page.requests;
            for value in page.latency.iter_recorded() {
                *sum.latency.entry(value.value_iterated_to()).or_default() +=
                    value.count_since_last_iteration();
            }
            drop(sums);
            page.latency.reset();
            self.spare.lock().expect(UNBROKEN).push(page.latency);
        }
    }

    /// One second so far, if anything was handed in of it.
    pub fn second(&self, kind: Kind, second: u64) -> Option<Second> {
        self.digest();
        let sums = self.sums.lock().expect(UNBROKEN);
        sums.get(&(kind, second)).map(|sum| unpack(second, sum))
    }

    /// Every second in which something happened.
    pub fn seconds(&self, kind: Kind) -> Vec<Second> {
        self.digest();
        let sums = self.sums.lock().expect(UNBROKEN);
        let of_kind = sums.range((kind, 0)..=(kind, u64::MAX));
        of_kind
            .map(|(&(_, second), sum)| unpack(second, sum))
            .collect()
    }
}

fn unpack(second: u64, sum: &Sums) -> Second {
    let mut latency = histogram();
    for (&value, &count) in &sum.latency {
        // The values come from a histogram of this shape.
        latency.saturating_record_n(value, count);
    }
    Second {
        second,
        records: sum.records,
        bytes: sum.bytes,
        requests: sum.requests,
        latency,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_one_second_add_up() {
        let timeline = Timeline::default();
        for ns in [1_000, 2_000_000, 2_000_000] {
            let mut page = timeline.blank_page(7, Kind::EndToEnd);
            page.records = 10;
            page.latency.record(ns).unwrap();
            timeline.hand_in(page);
        }
        let second = timeline.second(Kind::EndToEnd, 7).unwrap();
        assert_eq!((second.records, second.latency.len()), (30, 3));
        assert_eq!(second.latency.max() / 10_000, 200);
        assert!(timeline.second(Kind::Produce, 7).is_none());
        assert_eq!(timeline.blank_page(8, Kind::Fetch).latency.len(), 0);
    }
}
