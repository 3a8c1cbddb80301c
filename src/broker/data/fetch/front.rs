//! Fetch (key 1), versions 4 to 18.
//!
//! Front: resolves the session (KIP-227) and the partitions, asks the owners for read plans, and waits
//! until `min.bytes` are there, a partition has an error, or `max.wait.ms` is over. (A partition that there
//! is not when the request comes is answered as unknown and ends no wait, as in Kafka.) Owner: plans reads up
//! to the high watermark, or to the last stable offset if what is committed is asked for; if there is too
//! little, it watches the logs and the front asks again when told.
//! The plans are sent as they are: memory and file ranges, never copied.
//!
//! Limits: only the first partition that has records, in the order of the request, may exceed its limit or the
//! request's, by one batch. With several owners none of them knows whether it has that one: the first one asked
//! for is taken for it, and if it turns out to be another one, that one is asked for once more.
//!
//! Deviations: no preferred read replica. Requests of followers (replica id 0 or more) are refused with
//! NOT_LEADER_OR_FOLLOWER: replication is a protocol of its own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::session::{Asked, SessionUse, Sessions};
use super::turns::FetchTurns;
use crate::base::limits::FETCH_WAIT_MS_MAX;
use crate::base::{ErrorCode, IdMap, Mono, Offset, ShardId};
use crate::broker::front::conns::ReplyTo;
use crate::broker::front::leaders::LeaderHints;
use crate::broker::front::parked::Family;
use crate::broker::front::{Front, Head, check_epoch, partition_of};
use crate::broker::fx::Fx;
use crate::broker::io::ConnId;
use crate::broker::msg::{FetchPart, FetchPass, FetchPlanned, FetchedPart, Msg, ReqRef, Watch};
use crate::broker::trace::Stage;
use crate::controller::Topic;
use crate::log::AbortedRange;
use crate::store::Piece;
use crate::wire::fetch::{
    AbortedTransaction, FetchHead, FetchPartitionResponse, FetchRequest, FetchTopicResponse,
    IsolationLevel, LEADERS_FROM, TOPIC_IDS_FROM, encode_response,
};
use crate::wire::{RequestHeader, TopicRef};

/// A fetch in progress.
#[derive(Debug)]
pub struct PendingFetch {
    reply_to: ReplyTo,
    correlation_id: i32,
    version: i16,
    session: SessionUse,
    /// The session whose other fetches wait for this one.
    holds: Option<i32>,
    /// Those of the slots, each once.
    topics: Vec<TopicRef>,
    slots: Vec<Slot>,
    /// [Counted](FetchedPart::counts); no more than `bytes_max`.
    bytes_min: u64,
    bytes_max: usize,
    /// It is for what is committed.
    committed: bool,
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
    /// Its topic, by its place.
    topic: u32,
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
    /// What was found, as it counts for `min.bytes`.
    fn counted(&self) -> u64 {
        self.slots.iter().map(|slot| slot.found.counts).sum()
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

    /// Forgets what was found, but not how much it was.
    fn let_go(&mut self) {
        for slot in &mut self.slots {
            (slot.found.pieces, slot.found.aborted) = (Vec::new(), None);
        }
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

/// The fetches of a shard's clients.
#[derive(Debug)]
pub struct Fetches {
    sessions: Sessions,
    /// Those that have not begun.
    turns: FetchTurns,
    waiting: IdMap<u64, PendingFetch>,
    /// Those whose watches have seen enough, and that have to wait for a turn.
    woken: VecDeque<u64>,
}

impl Fetches {
    /// With room for so many sessions.
    pub fn new(sessions_max: usize) -> Self {
        Self {
            sessions: Sessions::new(sessions_max),
            turns: FetchTurns::default(),
            waiting: IdMap::default(),
            woken: VecDeque::new(),
        }
    }

    /// Takes a fetch request. `Err` closes the connection.
    pub fn begin(
        &mut self,
        front: &mut Front,
        reply_to: ReplyTo,
        header: &RequestHeader,
        body: Bytes,
        fx: &mut Fx<'_>,
    ) -> Result<(), String> {
        let head = Head {
            correlation_id: header.correlation_id,
            version: header.version,
        };
        let session = FetchRequest::resumed_session(&body, head.version);
        if self.turns.may_begin(session) {
            return self.begin_now(front, (reply_to, head, body), session, fx);
        }
        let id = front.park(reply_to, Family::Fetch);
        self.turns.wait(id, (reply_to, head, body), session);
        Ok(())
    }

    /// The shard is idle: fetches may ask for more again.
    pub fn begin_turn(&mut self) {
        self.turns.begin_turn();
    }

    /// Whether fetches may ask for no more before the shard is idle.
    pub fn is_spent(&self) -> bool {
        self.turns.is_spent()
    }

    /// Goes on with those that wait for a turn.
    pub fn go_on_some(&mut self, front: &mut Front, fx: &mut Fx<'_>) {
        while !self.is_spent()
            && let Some(id) = front.conns.next_turn()
        {
            self.go_on(front, id, true, fx);
        }
        while !self.is_spent()
            && let Some(id) = self.woken.pop_front()
        {
            self.wake(front, id, fx);
        }
        while let Some((id, waiting)) = self.turns.next() {
            front.parked.unpark(id);
            let (reply_to, now) = (waiting.reply_to, fx.now.mono);
            front.conns.pass(reply_to, Stage::Order, now);
            let asked = (reply_to, waiting.head, waiting.body);
            if let Err(why) = self.begin_now(front, asked, waiting.session, fx) {
                front.conns.fail(reply_to, why, fx.out);
            }
        }
    }

    /// Whether some wait for a turn.
    pub fn has_more(&self, front: &Front) -> bool {
        self.turns.has_more() || !self.woken.is_empty() || front.conns.has_turns()
    }

    /// Begins with a fetch, which holds this session. `Err` closes the connection.
    fn begin_now(
        &mut self,
        front: &mut Front,
        (reply_to, head, body): (ReplyTo, Head, Bytes),
        holds: Option<i32>,
        fx: &mut Fx<'_>,
    ) -> Result<(), String> {
        // A fetch may wait for long, and the names in it hold all of it.
        let detach = body.len() > DETACH_FROM_BYTES;
        let request = match FetchRequest::parse(body, head.version) {
            Ok(request) => request,
            Err(error) => {
                self.release(holds);
                return Err(error.to_string());
            }
        };
        let bytes_max = request.max_bytes.clamp(0, front.config.fetch_max_bytes) as usize;
        // As in Kafka: more than it may have is not waited for.
        let bytes_min = (request.min_bytes.max(0) as usize).min(bytes_max) as u64;
        let wait_ms = (request.max_wait_ms.max(0) as u64).min(FETCH_WAIT_MS_MAX);
        let deadline = fx.now.mono.plus_ms(wait_ms);
        let follower = request.replica_id >= 0;
        let committed = request.isolation == IsolationLevel::ReadCommitted;
        let by_id = head.version >= TOPIC_IDS_FROM;
        let (session, mut wanted) = match self.sessions.open(fx.now, by_id, request, &mut front.rng)
        {
            Ok(opened) => opened,
            Err(error) => {
                self.release(holds);
                let (id, version) = (head.correlation_id, head.version);
                let head = FetchHead {
                    error,
                    ..FetchHead::default()
                };
                let pieces = encode_response(id, version, head, Vec::new(), &[]);
                front.conns.reply(reply_to, pieces, fx.out);
                return Ok(());
            }
        };
        if detach {
            for topic in &mut wanted.topics {
                *topic = topic.detached();
            }
        }
        let topics: Vec<_> = wanted
            .topics
            .iter()
            .map(|topic| front.topic(topic))
            .collect();
        let asked = wanted.partitions.iter().enumerate();
        let slots: Vec<Slot> = asked
            .map(|(slot, asked)| {
                let topic = topics[asked.topic as usize];
                new_slot(front, slot as u32, topic, asked, follower)
            })
            .collect();
        if let Some((_, part)) = slots.iter().find_map(|slot| slot.ask.as_ref())
            && let Some(trace) = front.conns.trace(reply_to)
        {
            trace.describe(part.log, slots.len());
        }
        let pending = PendingFetch {
            reply_to,
            correlation_id: head.correlation_id,
            version: head.version,
            session,
            holds,
            last_round: deadline <= fx.now.mono || slots.is_empty(),
            topics: wanted.topics,
            slots,
            bytes_min,
            bytes_max,
            committed,
            deadline,
            oversized: None,
            round: 0,
            open: 0,
            watched_by: Vec::new(),
            ready: false,
        };
        let id = front.park(reply_to, Family::Fetch);
        self.waiting.insert(id, pending);
        self.round(front, id, fx);
        Ok(())
    }

    /// Asks the owners, once more or for the first time.
    fn round(&mut self, front: &mut Front, id: u64, fx: &mut Fx<'_>) {
        let Some(fetch) = self.waiting.get_mut(&id) else {
            return;
        };
        self.turns.spend(fetch.slots.len());
        fetch.round += 1;
        fetch.ready = false;
        fetch.last_round |= front.draining || fetch.deadline <= fx.now.mono;
        let mut by_shard: BTreeMap<ShardId, Vec<FetchPart>> = BTreeMap::new();
        for (shard, part) in fetch.slots.iter().filter_map(|slot| slot.ask.as_ref()) {
            by_shard.entry(*shard).or_default().push(*part);
        }
        fetch.open = by_shard.len();
        let several = by_shard.len() > 1;
        let bytes_min = fetch.bytes_min;
        let watch = match several {
            _ if fetch.last_round || fetch.has_error() => Watch::No,
            true => Watch::Count(bytes_min),
            false => Watch::Until(bytes_min),
        };
        if several && fetch.oversized.is_none() {
            let mut asked = fetch.slots.iter().filter_map(|slot| slot.ask.as_ref());
            fetch.oversized = asked.next().map(|(_, part)| part.slot);
        }
        let pass = FetchPass {
            round: fetch.round,
            bytes_max: fetch.bytes_max,
            oversized: fetch.oversized,
            watch,
            committed: fetch.committed,
        };
        if by_shard.is_empty() {
            return self.finish(front, id, fx);
        }
        let req = ReqRef { shard: fx.me, id };
        for (shard, parts) in by_shard {
            fx.send(shard, Msg::Fetch { req, pass, parts });
        }
    }

    /// An owner has planned its part of a pass.
    pub fn done(&mut self, front: &mut Front, id: u64, planned: FetchPlanned, fx: &mut Fx<'_>) {
        let FetchPlanned {
            round,
            parts,
            watching,
            stamps,
        } = planned;
        let Some(fetch) = self.waiting.get_mut(&id) else {
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
        if let Some(trace) = front.conns.trace(fetch.reply_to) {
            trace.pass(Stage::Hop, stamps.arrived);
            trace.pass(Stage::Plan, stamps.planned);
            trace.pass(Stage::Answer, fx.now.mono);
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
            return self.round(front, id, fx);
        }
        if fetch.last_round || fetch.counted() >= fetch.bytes_min || fetch.has_error() {
            self.finish(front, id, fx);
        } else if fetch.ready {
            self.round(front, id, fx);
        } else {
            // Parked. What was found so far is planned again later: holding it would pin memory.
            fetch.let_go();
            if fetch.oversized.is_some() {
                let missing = fetch.bytes_min.saturating_sub(fetch.counted());
                let req = ReqRef { shard: fx.me, id };
                let bytes = missing.div_ceil(fetch.watched_by.len().max(1) as u64);
                for shard in &fetch.watched_by {
                    fx.send(*shard, Msg::FetchWatch { req, bytes });
                }
            }
            let deadline = fetch.deadline;
            front.parked.wait_until(id, deadline);
        }
    }

    /// A parked fetch goes on.
    fn go_on(&mut self, front: &mut Front, id: u64, last_round: bool, fx: &mut Fx<'_>) {
        let Some(fetch) = self.waiting.get_mut(&id) else {
            return;
        };
        fetch.last_round |= last_round;
        let reply_to = fetch.reply_to;
        if let Some(trace) = front.conns.trace(reply_to) {
            trace.unpark(fx.now.mono);
        }
        self.round(front, id, fx);
    }

    /// A watch has seen enough bytes.
    pub fn ready(&mut self, front: &mut Front, id: u64, fx: &mut Fx<'_>) {
        let Some(fetch) = self.waiting.get_mut(&id) else {
            return;
        };
        fetch.ready = true;
        if self.is_spent() {
            self.woken.push_back(id);
        } else {
            self.wake(front, id, fx);
        }
    }

    /// Goes on with a fetch whose watch has seen enough, if nobody is asked already.
    fn wake(&mut self, front: &mut Front, id: u64, fx: &mut Fx<'_>) {
        let fetch = self.waiting.get(&id);
        if fetch.is_some_and(|fetch| fetch.ready && fetch.open == 0) {
            front.parked.forget_deadline(id);
            self.go_on(front, id, false, fx);
        }
    }

    /// A parked fetch waits no longer: whatever there is now is the answer.
    pub fn due(&mut self, front: &mut Front, id: u64, fx: &mut Fx<'_>) {
        self.go_on(front, id, true, fx);
    }

    /// How many wait for something.
    pub fn len(&self) -> usize {
        self.waiting.len() + self.turns.len()
    }

    /// How many have begun.
    #[cfg(test)]
    pub fn begun(&self) -> usize {
        self.waiting.len()
    }

    /// The connection of a fetch is gone, in whatever state the fetch was.
    pub fn forget(&mut self, id: u64, fx: &mut Fx<'_>) {
        if self.turns.forget(id) {
            return;
        }
        let Some(fetch) = self.waiting.remove(&id) else {
            return;
        };
        self.release(fetch.holds);
        let req = ReqRef { shard: fx.me, id };
        for shard in fetch.owners() {
            fx.send(shard, Msg::FetchCancel { req });
        }
    }

    /// A connection is gone, and all its fetches are forgotten.
    pub fn conn_closed(&mut self, conn: ConnId) {
        self.turns.closed(conn);
    }

    /// The fetch that held this session is over.
    fn release(&mut self, session: Option<i32>) {
        if let Some(session) = session {
            self.turns.release(session);
        }
    }

    /// Answers a fetch, unless too much is kept for its connection already: then what was found is let go, and
    /// planned again when all before it are answered and mostly sent.
    fn finish(&mut self, front: &mut Front, id: u64, fx: &mut Fx<'_>) {
        let Some(fetch) = self.waiting.get_mut(&id) else {
            return;
        };
        let bytes = fetch.slots.iter().map(|slot| slot.found.bytes).sum();
        if !front.conns.keeps(fetch.reply_to, bytes) {
            fetch.let_go();
            fetch.last_round = true;
            cancel(fetch, id, fx);
            return front.conns.wait_for_turn(fetch.reply_to);
        }
        let Some(mut fetch) = self.waiting.remove(&id) else {
            return;
        };
        front.parked.unpark(id);
        self.release(fetch.holds);
        cancel(&fetch, id, fx);
        trim(&mut fetch.slots, fetch.bytes_max);
        let mut topics: Vec<FetchTopicResponse> = Vec::new();
        let mut last = None;
        let may_hint = fetch.version >= LEADERS_FROM;
        let bytes: usize = fetch.slots.iter().map(|slot| slot.found.bytes).sum();
        front.tracer.fetched(bytes as u64);
        let mut leaders = LeaderHints::new(front, fetch.reply_to, may_hint);
        let mut noting = self.sessions.noting(fx.now, fetch.session, &fetch.topics);
        for slot in fetch.slots {
            if !noting.has_to_be_told(slot.topic, slot.index, &slot.found) {
                continue;
            }
            let (topic, error) = (&fetch.topics[slot.topic as usize], slot.found.error);
            let answer = FetchPartitionResponse {
                leader: leaders.leader(front, topic, slot.index, error),
                index: slot.index,
                error,
                high_watermark: slot.found.high_watermark,
                last_stable_offset: slot.found.last_stable,
                log_start_offset: slot.found.log_start,
                aborted: slot.found.aborted.map(told),
                preferred_read_replica: -1,
                records: slot.found.pieces,
            };
            if last.replace(slot.topic) != Some(slot.topic) {
                topics.push(FetchTopicResponse {
                    topic: topic.clone(),
                    partitions: Vec::new(),
                });
            }
            if let Some(topic) = topics.last_mut() {
                topic.partitions.push(answer);
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
            &leaders.endpoints(),
        );
        front.conns.reply(fetch.reply_to, pieces, fx.out);
    }
}

fn told(aborted: Vec<AbortedRange>) -> Vec<AbortedTransaction> {
    let told = aborted.into_iter().map(|range| AbortedTransaction {
        producer_id: range.producer_id,
        first_offset: range.first.0,
    });
    told.collect()
}

/// A partition of a request, and where to ask for it.
fn new_slot(
    front: &Front,
    slot: u32,
    topic: Result<&Arc<Topic>, ErrorCode>,
    asked: &Asked,
    follower: bool,
) -> Slot {
    let partition = topic.and_then(|topic| partition_of(topic, asked.index));
    let unknown = partition.is_err();
    let located = partition.and_then(|partition| {
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
        Ok((front.owner_of(front.led(partition)?), part))
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
            last_stable: -1,
            log_start: -1,
            ..Default::default()
        },
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A slot with pieces of these lengths.
    fn slot(slot: u32, lens: &[usize], first_bytes_max: usize) -> Slot {
        let pieces: Vec<Piece> = lens
            .iter()
            .map(|len| Piece::Memory(vec![0; *len].into()))
            .collect();
        Slot {
            topic: 0,
            index: slot as i32,
            ask: None,
            unknown: false,
            found: FetchedPart {
                slot,
                bytes: lens.iter().sum(),
                counts: lens.iter().sum::<usize>() as u64,
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
            session: SessionUse::Sessionless,
            holds: None,
            topics: vec![TopicRef::Name("t".into())],
            slots,
            bytes_min: 1,
            bytes_max: 100,
            committed: false,
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
