//! Fetches that wait for `fetch.min.bytes`. A watch counts the bytes that become
//! visible in its logs and speaks up once, when it has enough; nothing polls.
//!
//! What an append costs is set by the watches that it may complete, not by how many there are. Each watch
//! is armed in each of its logs: it is not looked at before that log has its share of the missing bytes
//! more. A share is half of what is missing, divided by the logs, so that what is not counted yet
//! in all of them is less than what is missing: a watch that has enough is never overlooked. When what is
//! left falls to what may be uncounted, everything is counted and armed anew in a pass over its logs, which happens no
//! more often than what is missing halves.
//!
//! Passes over many logs, and forgetting those of a watch that is over, are done in slices: each watch has a number, so
//! that what is still armed for one that is gone is nobody's.
//!
//! Where a fetch has logs on several shards, its front adds up what each of them found and tells each one's watch
//! an equal share of what is missing: when all together have it, at least one of them has its share. So it is never
//! too late; where it is too early, the front asks again, and what is missing then is less.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::base::limits::{PARTITIONS_PER_SLICE, WATCHED_LOGS_PER_SLICE};
use crate::base::{IdMap, LogId};
use crate::broker::msg::ReqRef;
use crate::log::Log;

/// What a watch waits for as long as it was not told.
const UNTOLD: u64 = 1 << 62;
/// Logs of a watch that is over that are forgotten at once, if there are no more.
const FORGOTTEN_AT_ONCE: usize = 16;

/// Key of a watch: shard and number of its request.
type Key = (u16, u64);

#[derive(Debug)]
struct Watch {
    req: ReqRef,
    bytes_missing: u64,
    /// What may be visible in each log without having been counted, in all of them together, when no pass is under way.
    uncounted_max: u64,
    /// All armed. Empty once it has spoken up.
    logs: Vec<WatchedLog>,
    /// All of them are counted and armed anew.
    pass: Option<Pass>,
    spoken: bool,
}

/// How far it is.
#[derive(Debug)]
struct Pass {
    next: usize,
    /// Of each log.
    share: u64,
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
    /// When whose watch is to be looked at, by its number, and which one of its logs this is.
    armed: BTreeSet<(u64, u64, u32)>,
}

type ByLog = BTreeMap<Watched, LogWatches>;

/// The watches on the partitions of one shard. At most one for each fetch in progress.
#[derive(Debug, Default)]
pub struct Watches {
    /// How many there have been: the number of the last one.
    begun: u64,
    by_req: IdMap<Key, u64>,
    watches: IdMap<u64, Watch>,
    by_log: ByLog,
    /// Those with a pass under way; some may be gone.
    passes: VecDeque<u64>,
    /// Logs of watches that are over, still armed.
    leaving: VecDeque<(u64, Vec<WatchedLog>)>,
    /// Watches that have enough and have not said so yet.
    ready: VecDeque<ReqRef>,
    /// How often a watch was looked at in one of its logs; tests hold it against the appends.
    touched: u64,
}

impl Watches {
    /// Waits until `bytes_missing` more bytes are visible in `logs` together; each log is there once.
    pub fn add(&mut self, req: ReqRef, bytes_missing: u64, logs: impl Iterator<Item = Watched>) {
        self.cancel(req);
        let logs: Vec<Watched> = logs.collect();
        let share = share_of(bytes_missing, logs.len());
        let uncounted_max = (share - 1) * logs.len() as u64;
        if let Some(watch) = self.arm(req, share, logs.into_iter()) {
            (watch.bytes_missing, watch.uncounted_max) = (bytes_missing, uncounted_max);
        }
    }

    /// Counts what becomes visible in `logs` too from now on, until [`Watches::want`] says how much is wanted.
    pub fn count(&mut self, req: ReqRef, logs: impl Iterator<Item = Watched>) {
        self.arm(req, UNTOLD, logs);
    }

    /// Arms the watch of a request, a new one if it has none, in these logs too; `None` if it has spoken up.
    fn arm(
        &mut self,
        req: ReqRef,
        share: u64,
        logs: impl Iterator<Item = Watched>,
    ) -> Option<&mut Watch> {
        let number = *self.by_req.entry(key(req)).or_insert_with(|| {
            self.begun += 1;
            self.begun
        });
        let watch = self.watches.entry(number).or_insert_with(|| Watch {
            req,
            bytes_missing: UNTOLD,
            uncounted_max: 0,
            logs: Vec::new(),
            pass: None,
            spoken: false,
        });
        if watch.spoken {
            return None;
        }
        for log in logs {
            let here = self.by_log.entry(log).or_default();
            let armed_at = here.visible + share;
            here.armed
                .insert((armed_at, number, watch.logs.len() as u32));
            watch.logs.push(WatchedLog {
                log,
                counted: here.visible,
                armed_at,
            });
        }
        Some(watch)
    }

    /// Says how many bytes a watch waits for, since it has been counting.
    pub fn want(&mut self, req: ReqRef, bytes: u64) {
        if let Some(&number) = self.by_req.get(&key(req))
            && let Some(watch) = self.watches.get_mut(&number)
            && !watch.spoken
        {
            watch.bytes_missing = bytes;
            self.begin_pass(number);
        }
    }

    /// A log is gone: who waits for it is woken, and will learn it when it asks again.
    pub fn gone(&mut self, log: LogId) {
        for watched in [Watched::Readable(log), Watched::Stable(log)] {
            let here = self.by_log.remove(&watched).unwrap_or_default();
            for (_, number, _) in here.armed {
                self.touched += 1;
                self.speak(number);
            }
        }
    }

    /// Forgets the watch of a request, if it has one.
    pub fn cancel(&mut self, req: ReqRef) {
        if let Some(number) = self.by_req.remove(&key(req))
            && let Some(watch) = self.watches.remove(&number)
        {
            self.leave(number, watch.logs);
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
            let Some(&(armed_at, number, place)) = here.armed.first() else {
                self.by_log.remove(&log);
                break;
            };
            if armed_at > here.visible {
                break;
            }
            here.armed.pop_first();
            let visible = here.visible;
            self.look(number, place, visible);
        }
    }

    /// Counts what a watch has in one of its logs, whose turn it is.
    fn look(&mut self, number: u64, place: u32, visible: u64) {
        self.touched += 1;
        let Some(watch) = self.watches.get_mut(&number) else {
            return;
        };
        let Some(of_log) = watch.logs.get_mut(place as usize) else {
            return;
        };
        let share = of_log.armed_at - of_log.counted;
        watch.bytes_missing = watch.bytes_missing.saturating_sub(visible - of_log.counted);
        (of_log.counted, of_log.armed_at) = (visible, visible + share);
        let armed = &mut self.by_log.entry(of_log.log).or_default().armed;
        armed.insert((of_log.armed_at, number, place));
        if watch.bytes_missing == 0 {
            return self.speak(number);
        }
        // A pass that is under way has a look at what is missing when it is over.
        if watch.pass.is_none() && watch.bytes_missing <= watch.uncounted_max {
            self.begin_pass(number);
        }
    }

    /// Counts what a watch has in all of its logs, since what is not counted may be all that is missing.
    fn begin_pass(&mut self, number: u64) {
        let Some(watch) = self.watches.get_mut(&number) else {
            return;
        };
        watch.begin_pass();
        let mut work = PARTITIONS_PER_SLICE;
        if watch.logs.len() > work {
            self.passes.push_back(number);
        } else {
            self.go_on_with_pass(number, &mut work);
        }
    }

    /// Whether the pass of a watch, if it has one, is over.
    fn go_on_with_pass(&mut self, number: u64, work: &mut usize) -> bool {
        loop {
            let Some(watch) = self.watches.get_mut(&number) else {
                return true;
            };
            let Some(pass) = &mut watch.pass else {
                return true;
            };
            let rest = watch.logs.iter_mut().enumerate().skip(pass.next);
            for (place, of_log) in rest.take(*work) {
                let counted = of_log.arm_anew(&mut self.by_log, (number, place), pass.share);
                watch.bytes_missing = watch.bytes_missing.saturating_sub(counted);
                pass.next += 1;
                self.touched += 1;
                *work -= 1;
            }
            if watch.bytes_missing == 0 {
                self.speak(number);
                return true;
            }
            if pass.next < watch.logs.len() {
                return false;
            }
            watch.pass = None;
            if watch.bytes_missing > watch.uncounted_max {
                return true;
            }
            // It is armed for more than is missing by now.
            watch.begin_pass();
            if *work == 0 {
                return false;
            }
        }
    }

    /// A watch has enough.
    fn speak(&mut self, number: u64) {
        if let Some(watch) = self.watches.get_mut(&number)
            && !std::mem::replace(&mut watch.spoken, true)
        {
            self.ready.push_back(watch.req);
            watch.pass = None;
            let logs = std::mem::take(&mut watch.logs);
            self.leave(number, logs);
        }
    }

    /// Nobody looks at these logs for this watch any more.
    fn leave(&mut self, number: u64, mut logs: Vec<WatchedLog>) {
        if logs.len() <= FORGOTTEN_AT_ONCE {
            forget_some(&mut self.by_log, (number, &mut logs), FORGOTTEN_AT_ONCE);
        } else {
            self.leaving.push_back((number, logs));
        }
    }

    /// Goes on with what was put off, for a slice.
    pub fn go_on(&mut self) {
        let mut work = WATCHED_LOGS_PER_SLICE;
        while work > 0
            && let Some(&number) = self.passes.front()
        {
            if self.go_on_with_pass(number, &mut work) {
                self.passes.pop_front();
            }
        }
        let mut work = WATCHED_LOGS_PER_SLICE;
        while work > 0
            && let Some((number, logs)) = self.leaving.front_mut()
        {
            work -= forget_some(&mut self.by_log, (*number, logs), work);
            if logs.is_empty() {
                self.leaving.pop_front();
            }
        }
    }

    /// Whether anything was put off.
    pub fn has_more(&self) -> bool {
        !self.passes.is_empty() || !self.leaving.is_empty()
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

impl Watch {
    fn begin_pass(&mut self) {
        let share = share_of(self.bytes_missing, self.logs.len());
        self.uncounted_max = (share - 1) * self.logs.len() as u64;
        self.pass = Some(Pass { next: 0, share });
    }
}

impl WatchedLog {
    /// Is looked at again when there is so much more; how much there is that was not counted.
    fn arm_anew(&mut self, by_log: &mut ByLog, (number, place): (u64, usize), share: u64) -> u64 {
        let here = by_log.entry(self.log).or_default();
        let armed = &mut here.armed;
        armed.remove(&(self.armed_at, number, place as u32));
        let counted = here.visible.saturating_sub(self.counted);
        (self.counted, self.armed_at) = (here.visible, here.visible + share);
        armed.insert((self.armed_at, number, place as u32));
        counted
    }
}

/// What each of so many logs may have without being looked at, when so much is missing.
fn share_of(bytes_missing: u64, logs: usize) -> u64 {
    (bytes_missing / 2 / logs.max(1) as u64).max(1)
}

const fn key(req: ReqRef) -> Key {
    (req.shard.0, req.id)
}

/// Takes the last of these logs of a watch out, so many at most; how many it were.
fn forget_some(
    by_log: &mut ByLog,
    (number, logs): (u64, &mut Vec<WatchedLog>),
    most: usize,
) -> usize {
    let keep = logs.len().saturating_sub(most);
    let forgotten = logs.len() - keep;
    for (place, of_log) in logs.drain(keep..).enumerate() {
        if let Some(here) = by_log.get_mut(&of_log.log) {
            let place = (keep + place) as u32;
            here.armed.remove(&(of_log.armed_at, number, place));
            if here.armed.is_empty() {
                by_log.remove(&of_log.log);
            }
        }
    }
    forgotten
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Rng, ShardId};

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

    /// A partition that 64 fetches of a connection wait for, and 5,000 others each, is led by another node now.
    #[test]
    fn many_logs_of_many_watches_are_not_gone_through_at_once() {
        let mut watches = Watches::default();
        for id in 0..64 {
            watches.add(req(id), 1 << 40, (0..5000).map(log));
        }
        while watches.has_more() {
            watches.go_on();
        }
        let before = watches.touched;
        watches.gone(LogId(7));
        let touched = watches.touched - before;
        assert!(touched <= 1000, "{touched} looked at");
        let armed: usize = watches.by_log.values().map(|here| here.armed.len()).sum();
        assert!(armed > 300_000, "{armed} are left to be forgotten");
        assert_eq!(ready(&mut watches), (0..64).collect::<Vec<_>>());
        // Who asks again is a watch of its own, whatever is still there of the one before.
        watches.add(req(3), 10, (0..5000).map(log));
        (0..64)
            .filter(|id| *id != 3)
            .for_each(|id| watches.cancel(req(id)));
        let mut slices = 0;
        while watches.has_more() {
            watches.go_on();
            slices += 1;
        }
        assert!(slices >= 64 * 5000 / WATCHED_LOGS_PER_SLICE, "{slices}");
        let armed: usize = watches.by_log.values().map(|here| here.armed.len()).sum();
        assert_eq!(armed, 5000);
        watches.advanced(log(4999), 10);
        assert_eq!(ready(&mut watches), [3]);
        watches.cancel(req(3));
        while watches.has_more() {
            watches.go_on();
        }
        assert!(watches.by_log.is_empty() && watches.by_req.is_empty());
        assert!(watches.watches.is_empty());
    }

    /// Against the plain sum, whatever comes between the slices.
    #[test]
    fn a_watch_of_many_logs_is_never_overlooked() {
        let mut rng = Rng::new(17);
        let logs = 3 * PARTITIONS_PER_SLICE as u64;
        for _ in 0..20 {
            let mut watches = Watches::default();
            let mut missing: Vec<i64> = Vec::new();
            for id in 0..5 {
                let wanted = 1 + rng.below(200_000);
                watches.count(req(id), (0..logs / 2).map(log));
                let early = rng.below(3000);
                watches.advanced(log(rng.below(logs / 2)), early);
                (missing.iter_mut()).for_each(|missing| *missing -= early as i64);
                watches.count(req(id), (logs / 2..logs).map(log));
                watches.want(req(id), wanted);
                missing.push(wanted as i64 - early as i64);
            }
            let mut spoken = BTreeSet::new();
            for _ in 0..3000 {
                let bytes = 1 + rng.below(300);
                watches.advanced(log(rng.below(logs)), bytes);
                (missing.iter_mut()).for_each(|missing| *missing -= bytes as i64);
                if rng.chance(1, 3) {
                    watches.go_on();
                }
                if rng.chance(1, 20) {
                    while watches.has_more() {
                        watches.go_on();
                    }
                }
                let is_exact = !watches.has_more();
                for id in ready(&mut watches) {
                    assert!(missing[id as usize] <= 0, "too early");
                    assert!(spoken.insert(id), "twice");
                }
                for (id, missing) in missing.iter().enumerate() {
                    let overlooked = *missing <= 0 && !spoken.contains(&(id as u64));
                    assert!(!is_exact || !overlooked, "{missing}");
                }
            }
        }
    }
}
