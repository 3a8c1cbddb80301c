//! Fetch (key 1), versions 4 to 18.
//!
//! Front: resolves the session (KIP-227) and the partitions, asks the owners for read plans, and waits
//! until `min.bytes` are there, a partition has an error, or `max.wait.ms` is over. (A partition that there
//! is not when the request comes is answered as unknown and ends no wait, as in Kafka.) Owner: plans reads up
//! to the high watermark; if there is too little, it watches the logs and the front asks again when told.
//! The plans are sent as they are: memory and file ranges, never copied.
//!
//! Limits: only the first partition that has records, in the order of the request, may exceed its limit or the
//! request's, by one batch. With several owners none of them knows whether it has that one: the first one asked
//! for is taken for it, and if it turns out to be another one, that one is asked for once more.
//!
//! Deviations: `isolation.level` is accepted and makes no difference while there are no transactions (the
//! last stable offset is the high watermark). No preferred read replica. Requests of followers (replica id
//! 0 or more) are refused with NOT_LEADER_OR_FOLLOWER: replication is a protocol of its own.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::session::{Asked, Opened};
use crate::base::limits::{FETCH_WAIT_MS_MAX, PARTITIONS_PER_SLICE, WAKES_PER_SLICE};
use crate::base::{ErrorCode, LogId, Mono, Now, Offset, ShardId};
use crate::broker::front::conns::ReplyTo;
use crate::broker::front::{Front, Pending, check_epoch, here};
use crate::broker::fx::Fx;
use crate::broker::msg::{FetchPart, FetchedPart, Msg, ReqRef, Watch};
use crate::broker::owner::{Later, Owner};
use crate::broker::trace::{FetchStamps, Stage};
use crate::log::ReadOutcome;
use crate::store::Piece;
use crate::wire::fetch::{
    FetchHead, FetchPartitionResponse, FetchRequest, FetchTopicResponse, TOPIC_IDS_FROM,
    encode_response,
};
use crate::wire::{RequestHeader, TopicRef};

/// A fetch in progress.
#[derive(Debug)]
pub struct PendingFetch {
    reply_to: ReplyTo,
    correlation_id: i32,
    version: i16,
    session: Opened,
    slots: Vec<Slot>,
    bytes_min: usize,
    bytes_max: usize,
    deadline: Mono,
    /// The slot that may exceed the limits, if there are several owners.
    oversized: Option<u32>,
    /// Number of the current pass over the owners.
    round: u32,
    /// Owners that have not answered the current pass.
    open: usize,
    /// Owners that watch for it.
    watched_by: Vec<ShardId>,
    /// A watch spoke up while a pass was under way.
    ready: bool,
    /// Whatever the current pass finds is the answer.
    last_round: bool,
}

#[derive(Debug)]
struct Slot {
    topic: TopicRef,
    index: i32,
    /// Where to ask; `None` if `found` is an error already.
    ask: Option<(ShardId, FetchPart)>,
    /// There was no such partition when the request came.
    unknown: bool,
    found: FetchedPart,
}

/// Requests of more than this are not kept for the names in them.
const DETACH_FROM_BYTES: usize = 4096;

impl PendingFetch {
    fn bytes(&self) -> usize {
        self.slots.iter().map(|slot| slot.found.bytes).sum()
    }

    fn has_error(&self) -> bool {
        let mut known = self.slots.iter().filter(|slot| !slot.unknown);
        known.any(|slot| !slot.found.error.is_none())
    }

    /// The slot that should have been the one to exceed the limits and was not.
    fn wrongly_withheld(&self) -> Option<u32> {
        let mut found = self.slots.iter().map(|slot| &slot.found);
        let first = found.find(|found| found.bytes > 0 || found.withheld)?;
        (first.withheld && self.oversized.is_some_and(|slot| slot != first.slot))
            .then_some(first.slot)
    }

    /// The owners that know of it.
    fn owners(&self) -> impl Iterator<Item = ShardId> + use<> {
        let asked = self.slots.iter().filter_map(|slot| slot.ask.as_ref());
        asked
            .map(|(shard, _)| *shard)
            .collect::<BTreeSet<ShardId>>()
            .into_iter()
    }
}

impl Front {
    /// Takes a fetch request. `Err` closes the connection.
    pub fn fetch(
        &mut self,
        now: Now,
        reply_to: ReplyTo,
        header: &RequestHeader,
        body: Bytes,
        fx: &mut Fx<'_>,
    ) -> Result<(), String> {
        // A fetch may wait for long, and the names in it hold all of it.
        let detach = body.len() > DETACH_FROM_BYTES;
        let request =
            FetchRequest::parse(body, header.version).map_err(|error| error.to_string())?;
        let (bytes_min, bytes_max) = (
            request.min_bytes.max(0) as usize,
            request.max_bytes.clamp(0, self.config.fetch_max_bytes) as usize,
        );
        let wait_ms = (request.max_wait_ms.max(0) as u64).min(FETCH_WAIT_MS_MAX);
        let deadline = now.mono.plus_ms(wait_ms);
        let follower = request.replica_id >= 0;
        let by_id = header.version >= TOPIC_IDS_FROM;
        let (session, asked) = match self.sessions.open(now, by_id, request, &mut self.rng) {
            Ok(opened) => opened,
            Err(error) => {
                let (id, version) = (header.correlation_id, header.version);
                let head = FetchHead {
                    error,
                    ..FetchHead::default()
                };
                let pieces = encode_response(id, version, head, Vec::new());
                self.conns.reply(reply_to, pieces, fx.out);
                return Ok(());
            }
        };
        let slots: Vec<Slot> = asked
            .into_iter()
            .enumerate()
            .map(|(slot, mut asked)| {
                if detach {
                    asked.topic = asked.topic.detached();
                }
                self.slot(slot as u32, asked, follower)
            })
            .collect();
        if let Some((_, part)) = slots.iter().find_map(|slot| slot.ask.as_ref())
            && let Some(trace) = self.conns.trace(reply_to)
        {
            trace.describe(part.log, slots.len());
        }
        let pending = PendingFetch {
            reply_to,
            correlation_id: header.correlation_id,
            version: header.version,
            session,
            last_round: deadline <= now.mono || slots.is_empty(),
            slots,
            bytes_min,
            bytes_max,
            deadline,
            oversized: None,
            round: 0,
            open: 0,
            watched_by: Vec::new(),
            ready: false,
        };
        let id = self.park(reply_to, Pending::Fetch(pending));
        self.fetch_round(now, id, fx);
        Ok(())
    }

    fn slot(&self, slot: u32, asked: Asked, follower: bool) -> Slot {
        let partition = self.partition(&asked.topic, asked.index);
        let unknown = partition.is_err();
        let located = partition.and_then(|(_, partition)| {
            if follower {
                return Err(ErrorCode::NotLeaderOrFollower);
            }
            check_epoch(asked.leader_epoch, partition.leader_epoch)?;
            let part = FetchPart {
                slot,
                log: partition.log,
                offset: Offset(asked.offset),
                bytes_max: asked.bytes_max.max(0) as usize,
                leader_epoch: asked.leader_epoch,
            };
            Ok((self.owner_of(here(partition)?), part))
        });
        let (ask, error) = match located {
            Ok(ask) => (Some(ask), ErrorCode::None),
            Err(error) => (None, error),
        };
        Slot {
            topic: asked.topic,
            index: asked.index,
            ask,
            unknown,
            found: FetchedPart {
                slot,
                error,
                high_watermark: -1,
                log_start: -1,
                ..Default::default()
            },
        }
    }

    /// Asks the owners, once more or for the first time.
    fn fetch_round(&mut self, now: Now, id: u64, fx: &mut Fx<'_>) {
        let draining = self.draining;
        let Some(Pending::Fetch(fetch)) = self.pending_mut(id) else {
            return;
        };
        fetch.round += 1;
        fetch.ready = false;
        fetch.last_round |= draining || fetch.deadline <= now.mono;
        let mut by_shard: BTreeMap<ShardId, Vec<FetchPart>> = BTreeMap::new();
        for (shard, part) in fetch.slots.iter().filter_map(|slot| slot.ask.as_ref()) {
            by_shard.entry(*shard).or_default().push(*part);
        }
        fetch.open = by_shard.len();
        let several = by_shard.len() > 1;
        let bytes_min = fetch.bytes_min as u64;
        let watch = match several {
            _ if fetch.last_round || fetch.has_error() => Watch::No,
            true => Watch::Count(bytes_min),
            false => Watch::Until(bytes_min),
        };
        if several && fetch.oversized.is_none() {
            let mut asked = fetch.slots.iter().filter_map(|slot| slot.ask.as_ref());
            fetch.oversized = asked.next().map(|(_, part)| part.slot);
        }
        let (round, bytes_max, oversized) = (fetch.round, fetch.bytes_max, fetch.oversized);
        if by_shard.is_empty() {
            return self.finish_fetch(now, id, fx);
        }
        let req = ReqRef { shard: fx.me, id };
        for (shard, parts) in by_shard {
            fx.send(
                shard,
                Msg::Fetch {
                    req,
                    round,
                    parts,
                    bytes_max,
                    oversized,
                    watch,
                },
            );
        }
    }

    /// An owner has planned its part of a pass.
    pub fn fetch_done(
        &mut self,
        now: Now,
        id: u64,
        round: u32,
        parts: Vec<FetchedPart>,
        watching: Option<ShardId>,
        fx: &mut Fx<'_>,
    ) {
        let Some(Pending::Fetch(fetch)) = self.pending_mut(id) else {
            if let Some(shard) = watching {
                // Its connection went while the owner was at it.
                let req = ReqRef { shard: fx.me, id };
                fx.send(shard, Msg::FetchCancel { req });
            }
            return;
        };
        if fetch.round != round {
            return;
        }
        if let Some(shard) = watching
            && !fetch.watched_by.contains(&shard)
        {
            fetch.watched_by.push(shard);
        }
        for part in parts {
            let slot = part.slot as usize;
            fetch.slots[slot].found = part;
        }
        fetch.open -= 1;
        if fetch.open > 0 {
            return;
        }
        if let Some(slot) = fetch.wrongly_withheld() {
            fetch.oversized = Some(slot);
            return self.fetch_round(now, id, fx);
        }
        if fetch.last_round || fetch.bytes() >= fetch.bytes_min || fetch.has_error() {
            self.finish_fetch(now, id, fx);
        } else if fetch.ready {
            self.fetch_round(now, id, fx);
        } else {
            // Parked. What was found so far is planned again later: holding it would pin memory.
            for slot in &mut fetch.slots {
                slot.found.pieces = Vec::new();
            }
            if fetch.oversized.is_some() {
                let missing = fetch.bytes_min.saturating_sub(fetch.bytes());
                let req = ReqRef { shard: fx.me, id };
                let bytes = missing.div_ceil(fetch.watched_by.len().max(1)) as u64;
                for shard in &fetch.watched_by {
                    fx.send(*shard, Msg::FetchWatch { req, bytes });
                }
            }
            let deadline = fetch.deadline;
            self.deadlines.insert((deadline, id));
        }
    }

    /// Notes when an owner did its part of a pass.
    pub fn fetch_passed(&mut self, now: Now, id: u64, round: u32, stamps: &FetchStamps) {
        let Some(Pending::Fetch(fetch)) = self.pending_ref(id) else {
            return;
        };
        if fetch.round == round
            && let Some(trace) = self.conns.trace(fetch.reply_to)
        {
            trace.pass(Stage::Hop, stamps.arrived);
            trace.pass(Stage::Plan, stamps.planned);
            trace.pass(Stage::Answer, now.mono);
        }
    }

    /// A parked fetch goes on.
    fn fetch_unpark(&mut self, now: Now, id: u64, last_round: bool, fx: &mut Fx<'_>) {
        let Some(Pending::Fetch(fetch)) = self.pending_mut(id) else {
            return;
        };
        fetch.last_round |= last_round;
        let reply_to = fetch.reply_to;
        if let Some(trace) = self.conns.trace(reply_to) {
            trace.unpark(now.mono);
        }
        self.fetch_round(now, id, fx);
    }

    /// A watch has seen enough bytes.
    pub fn fetch_ready(&mut self, now: Now, id: u64, fx: &mut Fx<'_>) {
        let Some(Pending::Fetch(fetch)) = self.pending_mut(id) else {
            return;
        };
        fetch.ready = true;
        if fetch.open == 0 {
            let deadline = fetch.deadline;
            self.deadlines.remove(&(deadline, id));
            self.fetch_unpark(now, id, false, fx);
        }
    }

    /// Answers the parked fetches whose time is up, some at a time; at a stop, every one.
    pub fn fetch_deadlines(&mut self, now: Now, fx: &mut Fx<'_>) {
        for _ in 0..WAKES_PER_SLICE {
            let Some(&(deadline, id)) = self.deadlines.first() else {
                break;
            };
            if deadline > now.mono && !self.draining {
                break;
            }
            self.deadlines.pop_first();
            self.fetch_unpark(now, id, true, fx);
        }
    }

    /// The connection of a fetch is gone, in whatever state the fetch was.
    pub fn fetch_abandoned(&mut self, id: u64, fetch: &PendingFetch, fx: &mut Fx<'_>) {
        self.deadlines.remove(&(fetch.deadline, id));
        let req = ReqRef { shard: fx.me, id };
        for shard in fetch.owners() {
            fx.send(shard, Msg::FetchCancel { req });
        }
    }

    fn finish_fetch(&mut self, now: Now, id: u64, fx: &mut Fx<'_>) {
        let Some(Pending::Fetch(mut fetch)) = self.unpark(id) else {
            return;
        };
        cancel(&fetch, id, fx);
        trim(&mut fetch.slots, fetch.bytes_max);
        let mut topics: Vec<FetchTopicResponse> = Vec::new();
        for slot in fetch.slots {
            let changed =
                self.sessions
                    .answered(now, &fetch.session, &slot.topic, slot.index, &slot.found);
            if !changed {
                continue;
            }
            let answer = FetchPartitionResponse {
                index: slot.index,
                error: slot.found.error,
                high_watermark: slot.found.high_watermark,
                last_stable_offset: slot.found.high_watermark,
                log_start_offset: slot.found.log_start,
                aborted: None,
                preferred_read_replica: -1,
                records: slot.found.pieces,
            };
            match topics.last_mut() {
                Some(last) if last.topic == slot.topic => last.partitions.push(answer),
                _ => topics.push(FetchTopicResponse {
                    topic: slot.topic,
                    partitions: vec![answer],
                }),
            }
        }
        let pieces = encode_response(
            fetch.correlation_id,
            fetch.version,
            FetchHead {
                session_id: fetch.session.id(),
                ..FetchHead::default()
            },
            topics,
        );
        self.conns.reply(fetch.reply_to, pieces, fx.out);
    }
}

/// Tells the owners that watch for a fetch to stop.
fn cancel(fetch: &PendingFetch, id: u64, fx: &mut Fx<'_>) {
    let req = ReqRef { shard: fx.me, id };
    for shard in &fetch.watched_by {
        fx.send(*shard, Msg::FetchCancel { req });
    }
}

/// Several owners may have found up to the limit each: the later partitions give way.
fn trim(slots: &mut [Slot], bytes_max: usize) {
    let mut total = 0;
    for found in slots.iter_mut().map(|slot| &mut slot.found) {
        let room = bytes_max.saturating_sub(total);
        if total > 0 && found.bytes > room {
            // A batch that is cut is no use to anybody if it is the only one.
            let room = if found.first_bytes_max <= room {
                room
            } else {
                0
            };
            cut(&mut found.pieces, room);
            found.bytes = room;
        }
        total += found.bytes;
    }
}

/// Keeps the first `len` bytes.
fn cut(pieces: &mut Vec<Piece>, len: usize) {
    let mut left = len;
    pieces.retain_mut(|piece| {
        let kept = left.min(piece.len());
        piece.truncate(kept);
        left -= kept;
        kept > 0
    });
}

/// How much a shard plans for a fetch.
#[derive(Clone, Copy, Debug)]
pub struct FetchLimits {
    /// Bytes after which further partitions are left empty.
    pub bytes_max: usize,
    /// The slot whose first batch is wanted whatever its size; `None` for the first one that has any.
    pub oversized: Option<u32>,
}

/// The part of a fetch that one shard plans.
#[derive(Debug)]
pub struct FetchJob {
    req: ReqRef,
    round: u32,
    todo: std::vec::IntoIter<FetchPart>,
    current: Option<FetchPart>,
    logs: Vec<LogId>,
    done: Vec<FetchedPart>,
    bytes: usize,
    limits: FetchLimits,
    watch: Watch,
    /// The logs are watched already.
    watching: bool,
    failed: bool,
    arrived: Mono,
}

impl FetchJob {
    /// The partition at hand cannot be read.
    pub fn fail(&mut self, error: ErrorCode) {
        if let Some(part) = self.current.take() {
            self.failed = true;
            self.done.push(FetchedPart {
                slot: part.slot,
                error,
                high_watermark: -1,
                log_start: -1,
                ..Default::default()
            });
        }
    }
}

impl Owner {
    /// Plans reads for a fetch.
    pub fn fetch(
        &mut self,
        req: ReqRef,
        round: u32,
        parts: Vec<FetchPart>,
        limits: FetchLimits,
        watch: Watch,
        fx: &mut Fx<'_>,
    ) {
        self.fetch_cancel(req);
        let job = FetchJob {
            req,
            round,
            arrived: fx.now,
            logs: parts.iter().map(|part| part.log).collect(),
            done: Vec::with_capacity(parts.len()),
            todo: parts.into_iter(),
            current: None,
            bytes: 0,
            limits,
            watch,
            watching: false,
            failed: false,
        };
        self.run_fetch(job, fx);
    }

    /// Goes on with a fetch until it is planned or has to read to find its place.
    pub fn run_fetch(&mut self, mut job: FetchJob, fx: &mut Fx<'_>) {
        for planned in 0.. {
            if planned == PARTITIONS_PER_SLICE && job.todo.len() > 0 {
                self.watch(&mut job);
                return self.go_on_later(Later::Fetch(job));
            }
            let Some(part) = job.current.take().or_else(|| job.todo.next()) else {
                break;
            };
            job.current = Some(part);
            let missing = self.missing(part.log);
            let Some(partition) = self.partitions.get_mut(&part.log) else {
                job.fail(missing);
                continue;
            };
            let room = job.limits.bytes_max.saturating_sub(job.bytes);
            let bytes_max = part.bytes_max.min(room);
            let store = &self.slots[partition.slot].store;
            let oversized = match job.limits.oversized {
                None => job.bytes == 0,
                Some(slot) => slot == part.slot,
            };
            let outcome = partition.log.read(store, part.offset, bytes_max, oversized);
            match outcome {
                Ok(ReadOutcome::Plan {
                    pieces,
                    bytes,
                    first_bytes_max,
                    withheld,
                    ..
                }) => {
                    job.current = None;
                    job.bytes += bytes;
                    job.done.push(FetchedPart {
                        slot: part.slot,
                        error: ErrorCode::None,
                        high_watermark: partition.log.high_watermark().0,
                        log_start: partition.log.start_offset().0,
                        pieces,
                        bytes,
                        first_bytes_max,
                        withheld,
                    });
                }
                Ok(ReadOutcome::Scan { pieces, ticket }) => {
                    // What becomes visible during the read, of partitions that are planned already, counts.
                    self.watch(&mut job);
                    return self.scan_for_fetch(pieces, job, part.log, ticket, fx);
                }
                Err(error) => job.fail(error),
            }
        }
        let (Watch::Until(wanted) | Watch::Count(wanted)) = job.watch else {
            return self.fetch_planned(job, None, fx);
        };
        let missing = wanted.saturating_sub(job.bytes as u64);
        let watches = !job.failed && missing > 0;
        if !watches {
            self.watches.cancel(job.req);
            return self.fetch_planned(job, None, fx);
        }
        match job.watch {
            Watch::Until(_) if job.watching => self.watches.want(job.req, missing),
            Watch::Until(_) => {
                let logs = std::mem::take(&mut job.logs);
                self.watches.add(job.req, missing, logs.into_iter());
            }
            Watch::Count(_) | Watch::No => self.watch(&mut job),
        }
        self.fetch_planned(job, Some(self.me), fx);
    }

    /// Begins to count what becomes visible for a fetch.
    fn watch(&mut self, job: &mut FetchJob) {
        if job.watch != Watch::No && !job.watching {
            job.watching = true;
            let logs = std::mem::take(&mut job.logs);
            self.watches.count(job.req, logs.into_iter());
        }
    }

    fn fetch_planned(&mut self, job: FetchJob, watching: Option<ShardId>, fx: &mut Fx<'_>) {
        fx.send(
            job.req.shard,
            Msg::FetchDone {
                id: job.req.id,
                round: job.round,
                parts: job.done,
                watching,
                stamps: FetchStamps {
                    arrived: job.arrived,
                    planned: fx.now,
                },
            },
        );
    }

    /// Together with other owners there was too little for a fetch.
    pub fn fetch_watch(&mut self, req: ReqRef, bytes: u64) {
        self.watches.want(req, bytes);
    }

    /// Forgets the watch of a fetch.
    pub fn fetch_cancel(&mut self, req: ReqRef) {
        self.watches.cancel(req);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::io::ConnId;

    /// A slot with pieces of these lengths.
    fn slot(slot: u32, lens: &[usize], first_bytes_max: usize) -> Slot {
        let pieces: Vec<Piece> = lens
            .iter()
            .map(|len| Piece::Memory(vec![0; *len].into()))
            .collect();
        Slot {
            topic: TopicRef::Name("t".into()),
            index: slot as i32,
            ask: None,
            unknown: false,
            found: FetchedPart {
                slot,
                bytes: lens.iter().sum(),
                pieces,
                first_bytes_max,
                ..Default::default()
            },
        }
    }

    fn withheld(number: u32) -> Slot {
        let mut slot = slot(number, &[], 0);
        slot.found.withheld = true;
        slot
    }

    fn fetch(slots: Vec<Slot>, oversized: Option<u32>) -> PendingFetch {
        PendingFetch {
            reply_to: ReplyTo {
                conn: ConnId(1),
                seq: 0,
            },
            correlation_id: 0,
            version: 11,
            session: Opened::Sessionless,
            slots,
            bytes_min: 1,
            bytes_max: 100,
            deadline: Mono(0),
            oversized,
            round: 1,
            open: 0,
            watched_by: Vec::new(),
            ready: false,
            last_round: false,
        }
    }

    #[test]
    fn later_partitions_give_way() {
        let mut slots = [slot(0, &[], 0), slot(1, &[60, 80], 140), slot(2, &[10], 10)];
        trim(&mut slots, 100);
        let lens: Vec<usize> = slots.iter().map(|slot| slot.found.bytes).collect();
        assert_eq!(lens, [0, 140, 0], "the first that has records is whole");
        let mut slots = [
            slot(0, &[50], 50),
            slot(1, &[20, 50, 9], 30),
            slot(2, &[9], 9),
        ];
        trim(&mut slots, 100);
        let lens: Vec<usize> = slots.iter().map(|slot| slot.found.bytes).collect();
        assert_eq!(lens, [50, 50, 0], "cut behind its first batch");
        let pieces: Vec<usize> = slots[1].found.pieces.iter().map(Piece::len).collect();
        assert_eq!(pieces, [20, 30]);
        let mut slots = [slot(0, &[50], 50), slot(1, &[70], 60), slot(2, &[40], 40)];
        trim(&mut slots, 100);
        let lens: Vec<usize> = slots.iter().map(|slot| slot.found.bytes).collect();
        assert_eq!(lens, [50, 0, 40], "half a batch is left out");
    }

    #[test]
    fn the_first_partition_with_records_may_be_too_large_and_no_other() {
        let wrong = |slots, oversized| fetch(slots, oversized).wrongly_withheld();
        // Slot 0 was taken for it and has nothing: slot 1 comes first.
        let slots = || vec![slot(0, &[], 0), withheld(1), slot(2, &[9], 9), withheld(3)];
        assert_eq!(wrong(slots(), Some(0)), Some(1));
        assert_eq!(wrong(vec![slot(0, &[9], 9), withheld(1)], Some(0)), None);
        assert_eq!(wrong(slots(), None), None, "one owner decides by itself");
    }

    #[test]
    fn an_unknown_partition_is_no_reason_to_answer() {
        let mut pending = fetch(vec![slot(0, &[], 0), slot(1, &[], 0)], None);
        pending.slots[0].found.error = ErrorCode::UnknownTopicOrPartition;
        assert!(pending.has_error(), "it was there when the request came");
        pending.slots[0].unknown = true;
        assert!(!pending.has_error());
        pending.slots[1].found.error = ErrorCode::OffsetOutOfRange;
        assert!(pending.has_error());
    }
}
