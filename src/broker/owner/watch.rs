//! Fetches that wait for `fetch.min.bytes`. A watch counts the bytes that become
//! visible in its logs and speaks up once, when it has enough; nothing polls.
//!
//! What an append costs is set by the watches that it may complete, not by how many there are. Each watch
//! is armed in each of its logs: it is not looked at before that log has its share of the missing bytes
//! more. A share is half of what is missing, divided by the logs, so that what is not counted yet
//! in all of them is less than what is missing: a watch that has enough is never overlooked. When what is
//! left falls to what may be uncounted, everything is counted and armed anew, which happens no more often
//! than what is missing halves.
//!
//! Where a fetch has logs on several shards, its front adds up what each of them found and tells each one's watch
//! an equal share of what is missing: when all together have it, at least one of them has its share. So it is never
//! too late; where it is too early, the front asks again, and what is missing then is less.

use std::collections::{BTreeSet, VecDeque};

use std::collections::BTreeMap;

use crate::base::{IdMap, LogId, ShardId};
use crate::broker::msg::ReqRef;
use crate::log::Log;

/// What a watch waits for as long as it was not told.
const UNTOLD: u64 = 1 << 62;

/// Key of a watch: shard and number of its request.
type Key = (u16, u64);

#[derive(Debug)]
struct Watch {
    bytes_missing: u64,
    /// What may be visible in each log without having been counted, in all of them together.
    uncounted_max: u64,
    /// Empty once it has spoken up.
    logs: Vec<WatchedLog>,
}

/// What of a log is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Watched {
    /// What is before its high watermark.
    Readable(LogId),
    /// What is before its last stable offset.
    Stable(LogId),
}

#[derive(Debug)]
struct WatchedLog {
    log: Watched,
    /// [`LogWatches::visible`] up to which its bytes are counted.
    counted: u64,
    /// [`LogWatches::visible`] at which the watch is looked at.
    armed_at: u64,
}

/// The watches of one log.
#[derive(Debug, Default)]
struct LogWatches {
    /// Bytes that became visible since somebody has been watching.
    visible: u64,
    /// When whose watch is to be looked at, and which one of its logs this is.
    armed: BTreeSet<(u64, Key, u32)>,
}

/// The watches on the partitions of one shard. At most one for each fetch in progress.
#[derive(Debug, Default)]
pub struct Watches {
    by_req: IdMap<Key, Watch>,
    by_log: BTreeMap<Watched, LogWatches>,
    /// Watches that have enough and have not said so yet.
    ready: VecDeque<ReqRef>,
    /// How often a watch was looked at in one of its logs; tests hold it against the appends.
    touched: u64,
}

impl Watches {
    /// Waits until `bytes_missing` more bytes are visible in `logs` together; each log is there once.
    pub fn add(&mut self, req: ReqRef, bytes_missing: u64, logs: impl Iterator<Item = Watched>) {
        let key = (req.shard.0, req.id);
        let mut watch = Watch {
            bytes_missing,
            uncounted_max: 0,
            logs: logs.map(WatchedLog::new).collect(),
        };
        arm(&mut self.by_log, key, &mut watch);
        self.by_req.insert(key, watch);
    }

    /// Counts what becomes visible in `logs` from now on, until [`Watches::want`] says how much is wanted.
    pub fn count(&mut self, req: ReqRef, logs: impl Iterator<Item = Watched>) {
        self.add(req, UNTOLD, logs);
    }

    /// Says how many bytes a watch waits for, since it has been counting.
    pub fn want(&mut self, req: ReqRef, bytes: u64) {
        let key = (req.shard.0, req.id);
        let Some(watch) = self.by_req.get_mut(&key) else {
            return;
        };
        if watch.logs.is_empty() {
            return;
        }
        watch.bytes_missing = bytes;
        self.recount(key);
    }

    /// A log is gone: who waits for it is woken, and will learn it when it asks again.
    pub fn gone(&mut self, log: LogId) {
        let both = [Watched::Readable(log), Watched::Stable(log)];
        let here = both.iter().filter_map(|watched| self.by_log.get(watched));
        let armed = here.flat_map(|here| &here.armed);
        let waiting: Vec<Key> = armed.map(|(_, key, _)| *key).collect();
        for key in waiting {
            if let Some(watch) = self.by_req.get_mut(&key) {
                watch.bytes_missing = 0;
                self.recount(key);
            }
        }
    }

    /// Forgets the watch of a request, if it has one.
    pub fn cancel(&mut self, req: ReqRef) {
        let key = (req.shard.0, req.id);
        if let Some(watch) = self.by_req.remove(&key) {
            disarm(&mut self.by_log, key, &watch.logs);
        }
    }

    /// So many bytes of a log became readable, and perhaps others stable.
    pub fn moved(&mut self, log: &mut Log, readable: u64) {
        if readable > 0 {
            self.advanced(Watched::Readable(log.id()), readable);
            match log.stable_advance() {
                0 => {}
                stable => self.advanced(Watched::Stable(log.id()), stable),
            }
        }
    }

    /// `bytes` more are visible in a partition. A watch that has enough is silent until its request
    /// cancels or renews it.
    pub fn advanced(&mut self, log: Watched, bytes: u64) {
        let Some(here) = self.by_log.get_mut(&log) else {
            return;
        };
        here.visible += bytes;
        while let Some(here) = self.by_log.get_mut(&log) {
            let Some(&(armed_at, key, place)) = here.armed.first() else {
                self.by_log.remove(&log);
                break;
            };
            if armed_at > here.visible {
                break;
            }
            here.armed.pop_first();
            let visible = here.visible;
            self.look(key, place, visible);
        }
    }

    /// Counts what a watch has in one of its logs, whose turn it is.
    fn look(&mut self, key: Key, place: u32, visible: u64) {
        self.touched += 1;
        let Some(watch) = self.by_req.get_mut(&key) else {
            return;
        };
        let of_log = &mut watch.logs[place as usize];
        let share = of_log.armed_at - of_log.counted;
        watch.bytes_missing = watch.bytes_missing.saturating_sub(visible - of_log.counted);
        of_log.counted = visible;
        if watch.bytes_missing > watch.uncounted_max {
            of_log.armed_at = visible + share;
            let armed = &mut self.by_log.entry(of_log.log).or_default().armed;
            armed.insert((of_log.armed_at, key, place));
            return;
        }
        self.recount(key);
    }

    /// Counts what a watch has in all of its logs, since what is not counted may be all that is missing.
    fn recount(&mut self, key: Key) {
        let Some(watch) = self.by_req.get_mut(&key) else {
            return;
        };
        self.touched += watch.logs.len() as u64;
        for of_log in &watch.logs {
            let visible = self.by_log.get(&of_log.log).map_or(0, |here| here.visible);
            let more = visible.saturating_sub(of_log.counted);
            watch.bytes_missing = watch.bytes_missing.saturating_sub(more);
        }
        disarm(&mut self.by_log, key, &watch.logs);
        if watch.bytes_missing > 0 {
            arm(&mut self.by_log, key, watch);
        } else {
            watch.logs = Vec::new();
            self.ready.push_back(ReqRef {
                shard: ShardId(key.0),
                id: key.1,
            });
        }
    }

    /// The next watch that has enough and has not said so yet.
    pub fn next_ready(&mut self) -> Option<ReqRef> {
        self.ready.pop_front()
    }

    /// How many watches there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.by_req.len()
    }

    /// Whether there is one.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }
}

impl WatchedLog {
    fn new(log: Watched) -> Self {
        Self {
            log,
            counted: 0,
            armed_at: 0,
        }
    }
}

/// Begins to count anew in all logs of a watch.
fn arm(by_log: &mut BTreeMap<Watched, LogWatches>, key: Key, watch: &mut Watch) {
    let logs = watch.logs.len().max(1) as u64;
    let share = (watch.bytes_missing / 2 / logs).max(1);
    watch.uncounted_max = (share - 1) * logs;
    for (place, of_log) in watch.logs.iter_mut().enumerate() {
        let here = by_log.entry(of_log.log).or_default();
        of_log.counted = here.visible;
        of_log.armed_at = here.visible + share;
        here.armed.insert((of_log.armed_at, key, place as u32));
    }
}

fn disarm(by_log: &mut BTreeMap<Watched, LogWatches>, key: Key, logs: &[WatchedLog]) {
    for (place, of_log) in logs.iter().enumerate() {
        if let Some(here) = by_log.get_mut(&of_log.log) {
            here.armed.remove(&(of_log.armed_at, key, place as u32));
            if here.armed.is_empty() {
                by_log.remove(&of_log.log);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;

    fn req(id: u64) -> ReqRef {
        ReqRef {
            shard: ShardId(0),
            id,
        }
    }

    fn log(id: u64) -> Watched {
        Watched::Readable(LogId(id))
    }

    fn ready(watches: &mut Watches) -> Vec<u64> {
        std::iter::from_fn(|| watches.next_ready().map(|req| req.id)).collect()
    }

    #[test]
    fn an_append_costs_what_it_may_complete_and_not_what_watches() {
        let mut watches = Watches::default();
        for id in 0..10_000 {
            watches.add(req(id), 1 << 40, [1, 2].map(log).into_iter());
        }
        watches.add(req(10_000), 1, [1].map(log).into_iter());
        watches.advanced(log(1), 100);
        assert_eq!(ready(&mut watches), [10_000]);
        assert!(watches.touched <= 2, "{}", watches.touched);
        for _ in 0..1000 {
            watches.advanced(log(1), 100);
        }
        assert!(watches.touched <= 2, "{}", watches.touched);
        (0..=10_000).for_each(|id| watches.cancel(req(id)));
        assert!(watches.by_log.is_empty() && watches.by_req.is_empty());
    }

    #[test]
    fn a_watch_speaks_up_once() {
        let mut watches = Watches::default();
        watches.add(req(1), 10, [1, 2].map(log).into_iter());
        watches.advanced(log(1), 10);
        watches.advanced(log(2), 10);
        assert_eq!(ready(&mut watches), [1]);
        watches.cancel(req(1));
        assert!(watches.by_log.is_empty());
    }

    /// Against the plain sum over shards, by the rounds of a front that asks them.
    #[test]
    fn shares_of_shards_are_never_too_late() {
        let mut rng = Rng::new(11);
        for _ in 0..500 {
            let shards = 2 + rng.below(4);
            let wanted = 1 + rng.below(5000);
            let mut of_shard: Vec<Watches> = Vec::new();
            of_shard.resize_with(shards as usize, Watches::default);
            let (mut all, mut rounds, mut asks) = (0, 0, true);
            while all < wanted {
                let more = 1 + rng.below(300);
                if !asks {
                    let log = log(rng.below(2));
                    of_shard[rng.below(shards) as usize].advanced(log, more);
                    all += more;
                } else {
                    rounds += 1;
                    for watches in &mut of_shard {
                        watches.cancel(req(1));
                        watches.count(req(1), [0, 1].map(log).into_iter());
                    }
                    // Some become visible between the plan and the front's word.
                    let share = (wanted - all).div_ceil(shards);
                    if rng.chance(1, 2) {
                        of_shard[rng.below(shards) as usize].advanced(log(0), more);
                        all += more;
                    }
                    of_shard.iter_mut().for_each(|w| w.want(req(1), share));
                }
                asks = of_shard.iter_mut().any(|w| !ready(w).is_empty());
                assert!(
                    asks || all < wanted,
                    "{all} of {wanted} and nobody spoke up"
                );
            }
            assert!(rounds <= 20 * shards, "{rounds} rounds");
        }
    }

    #[test]
    fn who_watches_a_log_that_goes_is_woken() {
        let mut watches = Watches::default();
        watches.add(req(1), 100, [1, 2].map(log).into_iter());
        watches.count(req(2), [2].map(log).into_iter());
        watches.add(req(3), 100, [1].map(log).into_iter());
        watches.gone(LogId(2));
        let mut woken = ready(&mut watches);
        woken.sort_unstable();
        assert_eq!(woken, [1, 2]);
        watches.want(req(2), 5);
        assert_eq!(ready(&mut watches), [0; 0], "it has spoken up");
        (1..=3).for_each(|id| watches.cancel(req(id)));
        assert!(watches.by_log.is_empty() && watches.by_req.is_empty());
    }

    /// Against the plain sum, whatever comes where.
    #[test]
    fn a_watch_that_has_enough_is_never_overlooked() {
        let mut rng = Rng::new(7);
        for _ in 0..500 {
            let mut watches = Watches::default();
            let logs = 1 + rng.below(6);
            let mut missing: Vec<i64> = Vec::new();
            for id in 0..20 {
                let wanted = 1 + rng.below(3000);
                watches.add(req(id), wanted, (0..logs).map(log));
                missing.push(wanted as i64);
            }
            for _ in 0..60 {
                let bytes = 1 + rng.below(150);
                watches.advanced(log(rng.below(logs)), bytes);
                let spoke = ready(&mut watches);
                for (id, missing) in missing.iter_mut().enumerate() {
                    let before = *missing;
                    *missing -= bytes as i64;
                    let due = before > 0 && *missing <= 0;
                    assert_eq!(spoke.contains(&(id as u64)), due);
                }
            }
        }
    }
}
