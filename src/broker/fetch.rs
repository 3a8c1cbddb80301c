//! Fetch (key 1), versions 4 to 18.
//!
//! Front: resolves the session (KIP-227) and the partitions, asks the owners for read plans, and waits
//! until `min.bytes` are there, a partition has an error, or `max.wait.ms` is over. Owner: plans reads up
//! to the high watermark; if there is too little, it watches the logs and the front asks again when told.
//! The plans are sent as they are: memory and file ranges, never copied.
//!
//! Deviations: `isolation.level` is accepted and makes no difference while there are no transactions (the
//! last stable offset is the high watermark). No preferred read replica. Requests of followers (replica id
//! 0 or more) are refused with NOT_LEADER_OR_FOLLOWER: replication is a protocol of its own.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::conns::ReplyTo;
use super::fetch_session::{Asked, Opened};
use super::front::{Front, Pending};
use super::owner::{Later, Owner};
use super::trace::{FetchStamps, Stage};
use super::{FetchPart, FetchedPart, Fx, Msg, ReqRef};
use crate::base::limits::{FETCH_WAIT_MS_MAX, PARTITIONS_PER_SLICE, WAKES_PER_SLICE};
use crate::base::{ErrorCode, LogId, Mono, Now, Offset, ShardId};
use crate::log::ReadOutcome;
use crate::wire::fetch::{
    FetchHead, FetchPartitionResponse, FetchRequest, FetchTopicResponse, TOPIC_IDS_FROM,
    encode_response,
};
use crate::wire::{RequestHeader, TopicRef};

/// A fetch in progress.
#[derive(Debug)]
pub(super) struct PendingFetch {
    reply_to: ReplyTo,
    correlation_id: i32,
    version: i16,
    session: Opened,
    slots: Vec<Slot>,
    bytes_min: usize,
    bytes_max: usize,
    deadline: Mono,
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
    found: FetchedPart,
}

impl PendingFetch {
    fn bytes(&self) -> usize {
        self.slots.iter().map(|slot| slot.found.bytes).sum()
    }

    fn has_error(&self) -> bool {
        self.slots.iter().any(|slot| !slot.found.error.is_none())
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
            .map(|(slot, asked)| self.slot(slot as u32, asked, follower))
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
        let located = self
            .partition(&asked.topic, asked.index)
            .and_then(|(_, partition)| {
                if follower {
                    return Err(ErrorCode::NotLeaderOrFollower);
                }
                super::check_epoch(asked.leader_epoch, partition.leader_epoch)?;
                let part = FetchPart {
                    slot,
                    log: partition.log,
                    offset: Offset(asked.offset),
                    bytes_max: asked.bytes_max.max(0) as usize,
                    leader_epoch: asked.leader_epoch,
                };
                Ok((self.owner_of(partition.store), part))
            });
        let (ask, error) = match located {
            Ok(ask) => (Some(ask), ErrorCode::None),
            Err(error) => (None, error),
        };
        Slot {
            topic: asked.topic,
            index: asked.index,
            ask,
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
        // With several owners each waits for its share, so that no combination is waited for too long.
        let share = fetch.bytes_min.div_ceil(by_shard.len().max(1)) as u64;
        let watch = (!fetch.last_round && !fetch.has_error()).then_some(share);
        let (round, bytes_max) = (fetch.round, fetch.bytes_max);
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
        if fetch.last_round || fetch.bytes() >= fetch.bytes_min || fetch.has_error() {
            self.finish_fetch(now, id, fx);
        } else if fetch.ready {
            self.fetch_round(now, id, fx);
        } else {
            // Parked. What was found so far is planned again later: holding it would pin memory.
            for slot in &mut fetch.slots {
                slot.found.pieces = Vec::new();
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
    for slot in slots {
        if total > 0 && total + slot.found.bytes > bytes_max {
            slot.found.pieces = Vec::new();
            slot.found.bytes = 0;
        }
        total += slot.found.bytes;
    }
}

/// The part of a fetch that one shard plans.
#[derive(Debug)]
pub(super) struct FetchJob {
    req: ReqRef,
    round: u32,
    todo: std::vec::IntoIter<FetchPart>,
    current: Option<FetchPart>,
    logs: Vec<LogId>,
    done: Vec<FetchedPart>,
    bytes: usize,
    bytes_max: usize,
    watch: Option<u64>,
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
        bytes_max: usize,
        watch: Option<u64>,
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
            bytes_max,
            watch,
            failed: false,
        };
        self.run_fetch(job, fx);
    }

    /// Goes on with a fetch until it is planned or has to read to find its place.
    pub fn run_fetch(&mut self, mut job: FetchJob, fx: &mut Fx<'_>) {
        for planned in 0.. {
            if planned == PARTITIONS_PER_SLICE && job.todo.len() > 0 {
                return self.go_on_later(Later::Fetch(job));
            }
            let Some(part) = job.current.take().or_else(|| job.todo.next()) else {
                break;
            };
            job.current = Some(part);
            let Some(partition) = self.partitions.get_mut(&part.log) else {
                job.fail(ErrorCode::UnknownTopicOrPartition);
                continue;
            };
            let room = job.bytes_max.saturating_sub(job.bytes);
            let bytes_max = part.bytes_max.min(room);
            let store = &self.slots[partition.slot].store;
            let outcome = partition
                .log
                .read(store, part.offset, bytes_max, job.bytes == 0);
            match outcome {
                Ok(ReadOutcome::Plan { pieces, bytes, .. }) => {
                    job.current = None;
                    job.bytes += bytes;
                    job.done.push(FetchedPart {
                        slot: part.slot,
                        error: ErrorCode::None,
                        high_watermark: partition.log.high_watermark().0,
                        log_start: partition.log.start_offset().0,
                        pieces,
                        bytes,
                    });
                }
                Ok(ReadOutcome::Scan { pieces, ticket }) => {
                    return self.scan_for_fetch(pieces, job, part.log, ticket, fx);
                }
                Err(error) => job.fail(error),
            }
        }
        let watching = match job.watch {
            Some(wanted) if !job.failed && (job.bytes as u64) < wanted => {
                let missing = wanted - job.bytes as u64;
                self.watches.add(job.req, missing, job.logs.into_iter());
                Some(self.me)
            }
            _ => None,
        };
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

    /// Forgets the watch of a fetch.
    pub fn fetch_cancel(&mut self, req: ReqRef) {
        self.watches.cancel(req);
    }
}
