//! What a shard remembers of finished requests: counts for ever, the slowest for a
//! while. Its memory is the same from its start to its end.

use std::sync::Arc;

use super::board::Board;
use super::disk_reads::DiskReads;
use super::stage::STAGES;
use super::stats::{RequestKind, Stats};
use super::turns::Turns;
use super::units::Units;
use super::walk::Trace;
use crate::base::limits::{CLIENT_NAME_BYTES_MAX, SLOWEST_KEPT, SLOWEST_WINDOW_MS};
use crate::base::{LogId, Mono};
use crate::wire::Api;

/// The beginning of a client's id, copied: a slice of its request would keep all of that in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientName {
    len: u8,
    bytes: [u8; CLIENT_NAME_BYTES_MAX],
}

impl ClientName {
    /// Changes the name, UTF-8, if it is another one.
    pub fn set(&mut self, name: &[u8]) {
        let mut len = name.len().min(CLIENT_NAME_BYTES_MAX);
        while len > 0 && name.get(len).is_some_and(|byte| byte & 0xc0 == 0x80) {
            len -= 1;
        }
        let name = &name[..len];
        if self.text() != name {
            self.len = len as u8;
            self.bytes[..len].copy_from_slice(name);
        }
    }

    /// The name, UTF-8.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// A slow request.
#[derive(Clone, Copy, Debug)]
pub struct SlowTrace {
    pub key: i16,
    pub client: ClientName,
    pub log: LogId,
    pub partitions: u32,
    pub bytes: u32,
    pub finished: Mono,
    pub spent: [Units; STAGES],
    pub parked: Units,
    pub total: u64,
}

/// The slowest requests of one kind in one span of time.
#[derive(Clone, Debug, Default)]
struct Slowest {
    /// In no order.
    kept: Vec<SlowTrace>,
    /// No request below this gets in.
    floor: u64,
}

impl Slowest {
    fn new() -> Self {
        Self {
            kept: Vec::with_capacity(SLOWEST_KEPT),
            floor: 0,
        }
    }

    fn clear(&mut self) {
        self.kept.clear();
        self.floor = 0;
    }

    fn offer(&mut self, total: u64, slow: impl FnOnce() -> SlowTrace) {
        if self.kept.len() < SLOWEST_KEPT {
            self.kept.push(slow());
        } else if total > self.floor {
            if let Some(least) = self.kept.iter_mut().min_by_key(|slow| slow.total) {
                *least = slow();
            }
            self.floor = self.kept.iter().map(|slow| slow.total).min().unwrap_or(0);
        }
    }
}

/// The requests of one kind.
#[derive(Debug)]
struct Kind {
    ever: Slowest,
    /// Of the current window and the one before.
    windows: [Slowest; 2],
}

/// See the module.
#[derive(Debug)]
pub struct Tracer {
    kinds: [Kind; RequestKind::ALL.len()],
    /// Where it counts.
    board: Arc<Board>,
    /// When the current window began.
    window: Mono,
}

impl Tracer {
    /// Without requests; it counts on this board.
    pub fn new(board: Arc<Board>) -> Self {
        Self {
            kinds: std::array::from_fn(|_| Kind {
                ever: Slowest::new(),
                windows: [Slowest::new(), Slowest::new()],
            }),
            board,
            window: Mono(0),
        }
    }

    /// A turn of the shard took this long.
    pub fn turn(&self, ns: u64) {
        self.board.turns.add(ns);
    }

    /// So many bytes of batches are in the reply to a fetch.
    pub fn fetched(&self, bytes: u64) {
        self.board.fetched_bytes.add(bytes);
    }

    /// What the driver has counted so far.
    pub fn disk_reads(&self, counts: DiskReads) {
        counts.show(&self.board.disk_reads);
    }

    /// See [`Tracer::disk_reads`].
    pub fn disk_reads_so_far(&self) -> DiskReads {
        self.board.disk_reads()
    }

    /// The turns of the shard.
    pub fn turns(&self) -> Turns {
        self.board.turns.read()
    }

    /// Takes a request whose answer has left.
    pub fn finish(&mut self, trace: &Trace, client: &ClientName, now: Mono) {
        self.board.finished(trace);
        // Looking changes nothing that is looked at.
        if !trace.answered || trace.key == Api::EXPLAIN {
            return;
        }
        self.turn_window(now);
        let class = RequestKind::of(trace.key);
        self.board.stats[class as usize].add(trace);
        let kind = &mut self.kinds[class as usize];
        let total = trace.total();
        let slow = || SlowTrace {
            key: trace.key,
            client: *client,
            log: trace.log,
            partitions: trace.partitions,
            bytes: trace.received.max(trace.replied),
            finished: now,
            spent: trace.spent,
            parked: trace.parked,
            total,
        };
        kind.ever.offer(total, slow);
        kind.windows[0].offer(total, slow);
    }

    /// Begins a new window if it is time.
    pub fn turn_window(&mut self, now: Mono) {
        let passed = now.ms_since(self.window) / SLOWEST_WINDOW_MS;
        if passed == 0 {
            return;
        }
        self.window = now;
        for kind in &mut self.kinds {
            kind.windows.swap(0, 1);
            kind.windows[0].clear();
            if passed > 1 {
                kind.windows[1].clear();
            }
        }
    }

    /// The counts of a kind.
    pub fn stats(&self, class: RequestKind) -> Stats {
        self.board.stats[class as usize].read()
    }

    /// The slowest requests since the start, then those of the last one or two windows.
    pub fn slowest(&self) -> impl Iterator<Item = (bool, &SlowTrace)> {
        self.kinds.iter().flat_map(|kind| {
            let [now, before] = &kind.windows;
            let recent = now.kept.iter().chain(&before.kept);
            let ever = kind.ever.kept.iter().map(|slow| (false, slow));
            ever.chain(recent.map(|slow| (true, slow)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Stage;
    use super::*;

    fn finish(tracer: &mut Tracer, key: i16, units: u64, now_ms: u64) {
        let mut trace = Trace::new(key, 10, Mono(0));
        trace.pass(Stage::Sync, Mono(units * 64));
        tracer.finish(&trace, &ClientName::default(), Mono(now_ms * 1_000_000));
    }

    fn totals(tracer: &Tracer, recent: bool) -> Vec<u64> {
        let mut totals: Vec<u64> = tracer
            .slowest()
            .filter(|(r, _)| *r == recent)
            .map(|(_, slow)| slow.total)
            .collect();
        totals.sort_unstable();
        totals
    }

    #[test]
    fn the_slowest_are_kept_and_no_more() {
        let mut tracer = Tracer::new(Arc::default());
        let many = 10 * SLOWEST_KEPT as u64;
        for i in 0..many {
            // In an order that is neither up nor down.
            finish(&mut tracer, 0, (i * 7919) % many, 1);
        }
        let expected: Vec<u64> = (many - SLOWEST_KEPT as u64..many).collect();
        assert_eq!(totals(&tracer, false), expected);
        assert_eq!(totals(&tracer, true), expected);
        assert_eq!(tracer.stats(RequestKind::Produce).count(), many);
        assert_eq!(tracer.stats(RequestKind::Fetch).count(), 0);
    }

    #[test]
    fn kinds_do_not_push_each_other_out() {
        let mut tracer = Tracer::new(Arc::default());
        finish(&mut tracer, 0, 5, 1);
        for i in 0..100 {
            finish(&mut tracer, 1, 1000 + i, 1);
        }
        assert!(totals(&tracer, false).contains(&5));
    }

    #[test]
    fn windows_pass() {
        let mut tracer = Tracer::new(Arc::default());
        let window = SLOWEST_WINDOW_MS;
        finish(&mut tracer, 0, 900, window);
        finish(&mut tracer, 0, 100, 2 * window);
        assert_eq!(totals(&tracer, true), [100, 900], "this one and the last");
        finish(&mut tracer, 0, 50, 3 * window);
        assert_eq!(totals(&tracer, true), [50, 100]);
        tracer.turn_window(Mono(9 * window * 1_000_000));
        assert!(totals(&tracer, true).is_empty(), "nothing for long");
        assert_eq!(totals(&tracer, false), [50, 100, 900]);
    }

    #[test]
    fn names_are_cut_at_a_character() {
        let mut name = ClientName::default();
        name.set(b"short");
        assert_eq!(name.text(), b"short");
        name.set("é".repeat(100).as_bytes());
        assert!(name.text().len() <= CLIENT_NAME_BYTES_MAX);
        assert!(std::str::from_utf8(name.text()).is_ok());
        name.set(b"");
        assert_eq!(name.text(), b"");
    }
}
