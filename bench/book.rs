//! What one thread writes down: latencies of the whole run, and a page per second
//! that it hands to the [`Timeline`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use millrace::base::ErrorCode;

use crate::reactor::Notes;
use crate::stats::{Counters, Kind, Window, histogram, record};
use crate::timeline::{Page, Timeline};

/// See the module.
pub struct Book {
    window: Window,
    counters: Arc<Counters>,
    timeline: Arc<Timeline>,
    second: u64,
    second_ends: Instant,
    totals: [Option<Histogram<u64>>; 3],
    pages: [Option<Page>; 3],
    /// Batches refused within the window, by error.
    pub errors: BTreeMap<&'static str, u64>,
    /// Batches refused before or after it: a topic that was just made may need a moment.
    pub errors_outside: u64,
    /// Requests that were due in the window and never answered; each counts as a latency up to
    /// when the run was given up, which is less than the truth.
    pub unanswered: u64,
}

impl Book {
    /// An empty book for a thread.
    pub fn new(window: Window, counters: Arc<Counters>, timeline: Arc<Timeline>) -> Self {
        Self {
            window,
            counters,
            timeline,
            second: 0,
            second_ends: window.start + Duration::from_secs(1),
            totals: [const { None }; 3],
            pages: [const { None }; 3],
            errors: BTreeMap::new(),
            errors_outside: 0,
            unanswered: 0,
        }
    }

    /// Counts one answered request with this many records and bytes of batches.
    pub fn done(&mut self, kind: Kind, records: u64, bytes: u64, now: Instant) {
        self.counters.add(kind, records, bytes);
        let page = self.page(kind, now);
        page.records += records;
        page.bytes += bytes;
        page.requests += 1;
    }

    /// Notes the latency of something that was due at `due` and came to its end at `now`.
    pub fn latency(&mut self, kind: Kind, due: Instant, now: Instant) {
        self.latencies(kind, due, now, 1);
    }

    /// As [`Book::latency`], `count` times.
    pub fn latencies(&mut self, kind: Kind, due: Instant, now: Instant, count: u64) {
        let latency = now.saturating_duration_since(due);
        record(&mut self.page(kind, now).latency, latency, count);
        if self.window.counts(due, now) {
            self.note(kind, latency, count);
        }
    }

    fn note(&mut self, kind: Kind, latency: Duration, count: u64) {
        let total = self.totals[kind as usize].get_or_insert_with(histogram);
        record(total, latency, count);
    }

    /// Notes a request that was due and will not be answered any more.
    pub fn given_up(&mut self, kind: Kind, due: Instant, now: Instant) {
        if self.window.counts(due, now) {
            self.unanswered += 1;
            self.note(kind, now.saturating_duration_since(due), 1);
        }
    }

    /// Counts a refused batch.
    pub fn refused(&mut self, error: ErrorCode, now: Instant) {
        self.counters.add_error();
        if now >= self.window.from && now < self.window.to {
            *self.errors.entry(error.name()).or_default() += 1;
        } else {
            self.errors_outside += 1;
        }
    }

    /// Hands over what is left.
    pub fn close_pages(&mut self) {
        for page in self.pages.iter_mut().filter_map(Option::take) {
            self.timeline.hand_in(page);
        }
    }

    /// The latencies of the window; empty if there are none.
    pub fn total(&self, kind: Kind) -> Option<&Histogram<u64>> {
        self.totals[kind as usize].as_ref()
    }

    fn page(&mut self, kind: Kind, now: Instant) -> &mut Page {
        if now >= self.second_ends {
            self.tick(now);
        }
        let (timeline, second) = (&self.timeline, self.second);
        self.pages[kind as usize].get_or_insert_with(|| timeline.blank_page(second, kind))
    }
}

impl Notes for Book {
    /// Hands the pages of a second that is over to the timeline.
    fn tick(&mut self, now: Instant) {
        if now >= self.second_ends {
            self.close_pages();
            self.second = now.saturating_duration_since(self.window.start).as_secs();
            self.second_ends = self.window.start + Duration::from_secs(self.second + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_become_pages_and_the_window_counts() {
        let window = Window::new(Duration::from_secs(1), Duration::from_secs(2), false);
        let timeline = Arc::new(Timeline::default());
        let mut book = Book::new(window, Arc::default(), Arc::clone(&timeline));
        let at = |ms| window.start + Duration::from_millis(ms);
        book.latency(Kind::Produce, at(400), at(500));
        book.done(Kind::Produce, 5, 50, at(500));
        book.latency(Kind::Produce, at(1400), at(1500));
        book.latency(Kind::Produce, at(3400), at(3500));
        book.close_pages();
        assert_eq!(book.total(Kind::Produce).unwrap().len(), 1);
        assert!(book.total(Kind::Fetch).is_none());
        let seconds = timeline.seconds(Kind::Produce);
        let counts: Vec<_> = seconds
            .iter()
            .map(|s| (s.second, s.latency.len()))
            .collect();
        assert_eq!(counts, [(0, 1), (1, 1), (3, 1)]);
        assert_eq!((seconds[0].records, seconds[0].bytes), (5, 50));
    }

    #[test]
    fn errors_count_in_the_window_by_name() {
        let window = Window::new(Duration::ZERO, Duration::from_secs(1), false);
        let mut book = Book::new(window, Arc::default(), Arc::default());
        book.refused(ErrorCode::NotLeaderOrFollower, window.start);
        book.refused(ErrorCode::NotLeaderOrFollower, window.to);
        assert_eq!(book.errors["NOT_LEADER_OR_FOLLOWER"], 1);
        assert_eq!(book.errors_outside, 1);
    }
}
