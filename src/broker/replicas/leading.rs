//! The partitions of a shard that this node leads and others follow: what is pushed to whom, who has what on its disk,
//! and who seems to be gone.
//!
//! A push is what the log has behind the one before, as far as a flush of this node has begun with it: so the disks of
//! all replicas work at the same time. How much may be on its way to a follower without being on its disk is bounded,
//! so that one that is slow takes no memory here: what it lacks is read again when it can take it.

use std::collections::VecDeque;

use bytes::Bytes;

use super::probation::Probation;
use super::said::{ReplicaSaid, ReplicaWhat};
use super::tombstones::Lacking;
use crate::base::limits::{
    REPLICA_ASKS_AGAIN_MS_MAX, REPLICA_IN_FLIGHT_BYTES_MAX, REPLICA_PUSH_BYTES, REPLICA_SILENT_MS,
};
use crate::base::{ErrorCode, LeaderEpoch, LogId, Mono, NodeId, NodeProcess, Offset};
use crate::broker::io::ReadId;
use crate::broker::msg::ReplicaPeer;
use crate::broker::owner::OpenLog;
use crate::log::{Log, ReadOutcome, Ticket};
use crate::record;
use crate::replica::{EpochEnd, Leader, LeaderLog, OnDisk, Push, Term};
use crate::store::{Piece, Store};

/// What was read of a log for a follower is for this.
#[derive(Clone, Copy, Debug)]
pub enum FollowerRead {
    /// To find the place.
    Place(Ticket),
    /// To be pushed, from this offset on.
    Push(Offset),
}

/// What is read of a store for a partition.
#[derive(Clone, Copy, Debug)]
pub enum ReadFor {
    /// A cut of a follower's log.
    Cut(Ticket),
    /// A follower, and so many bytes.
    Follower(FollowerRead, usize),
}

/// What a follower is to be sent next.
#[derive(Debug)]
pub enum Next {
    /// Nothing before something is heard of it, or appended.
    Nothing,
    /// What it lacks when a flush has begun with it.
    Waits,
    /// What it lacks when that would leave.
    Lags,
    /// This has to be read first.
    Reads(Vec<Piece>, FollowerRead),
    /// This.
    Pushes(Push, Vec<Bytes>),
}

/// A follower, as its leader knows it.
#[derive(Debug)]
pub struct FollowedBy {
    /// Where it is.
    pub peer: ReplicaPeer,
    /// Between whom, since it has asked.
    pub term: Option<Term>,
    /// Behind which offset it is pushed what comes next; `None` until it has asked, and the answer lets it follow.
    next: Option<Offset>,
    /// Everything before this is on its disk.
    durable: Offset,
    /// Where pushes end that are not on its disk, and how long they are.
    on_way: VecDeque<(Offset, usize)>,
    bytes_on_way: usize,
    reading: Option<ReadId>,
    tombstones: Lacking,
    /// The high watermark and the log start that it was pushed last.
    told: Option<(Offset, Offset)>,
    /// The most that it has told to be on its disk.
    furthest: Offset,
    /// Since when it lacks something and has come no further.
    lacks_since: Option<Mono>,
    /// It has said that something is lost there.
    pub has_lost: bool,
    /// When it is made to ask again, if it does not by itself.
    asks_at: Option<Mono>,
    probation: Probation,
}

impl FollowedBy {
    fn new(peer: ReplicaPeer) -> Self {
        Self {
            peer,
            term: None,
            next: None,
            durable: Offset(0),
            on_way: VecDeque::new(),
            bytes_on_way: 0,
            reading: None,
            tombstones: Lacking::default(),
            told: None,
            furthest: Offset(0),
            lacks_since: None,
            has_lost: false,
            asks_at: None,
            probation: Probation::default(),
        }
    }

    /// It has asked, in this term and from there: what is answered.
    fn asks(
        &mut self,
        now: Mono,
        from: ReplicaPeer,
        (term, asked): (Term, EpochEnd),
        (is_in_sync, log): (bool, &mut Log),
    ) -> LeaderLog {
        let mut answer = LeaderLog::answering(log, asked);
        let is_same = self.term == Some(term);
        let before = is_same.then_some(&self.tombstones);
        let tombstones = Lacking::asks(now, before, asked, (is_in_sync, &mut answer, &*log));
        tombstones.hold(from.node, log);
        *self = Self {
            term: Some(term),
            next: answer.goes_on(asked),
            tombstones,
            furthest: if is_same { self.furthest } else { Offset(0) },
            lacks_since: self.lacks_since,
            probation: self.probation,
            ..Self::new(from)
        };
        answer
    }

    /// It has everything before this on its disk.
    fn tells(&mut self, now: Mono, end: Offset, log: &mut Log) {
        let log_end = log.end_offset();
        self.durable = end;
        if self.next.is_some() {
            self.tombstones.tells(now, end, log);
            self.tombstones.hold(self.peer.node, log);
        }
        while let Some((to, bytes)) = self.on_way.front()
            && *to <= end
        {
            self.bytes_on_way -= bytes;
            self.on_way.pop_front();
        }
        if end >= log_end {
            self.lacks_since = None;
        } else if end > self.furthest {
            self.lacks_since = Some(now);
        }
        self.furthest = self.furthest.max(end);
    }

    /// Whether it lacks something for so long that nobody can wait for it.
    pub fn is_silent(&self, now: Mono) -> bool {
        let is_late = |since: Mono| now.ms_since(since) > REPLICA_SILENT_MS;
        self.has_lost || self.lacks_since.is_some_and(is_late)
    }

    /// What it is to be sent next of a log, as far as flushes of the store have begun. `has_room` says whether it would
    /// leave now.
    fn next(&mut self, now: Mono, has_room: bool, (log, store): (&mut Log, &Store)) -> Next {
        if self.durable < log.end_offset() {
            self.lacks_since.get_or_insert(now);
        }
        let Some(from) = self.next else {
            return Next::Nothing;
        };
        if self.reading.is_some() || self.bytes_on_way >= REPLICA_IN_FLIGHT_BYTES_MAX {
            return Next::Nothing;
        }
        let lacks = from < log.end_offset();
        if !has_room {
            return if lacks { Next::Lags } else { Next::Nothing };
        }
        // What it has may have been deleted by a tombstone that is gone here now.
        if from < log.start_offset() || self.tombstones.lacks(from, log) {
            return self.starts_behind(from, log);
        }
        match log.read_to_push(store, from, REPLICA_PUSH_BYTES, store.started_seq()) {
            Ok(ReadOutcome::Scan { pieces, ticket }) => {
                Next::Reads(pieces, FollowerRead::Place(ticket))
            }
            Ok(ReadOutcome::Plan { pieces, .. }) if pieces.is_empty() => match lacks {
                true => Next::Waits,
                false => Next::Nothing,
            },
            Ok(ReadOutcome::Plan { pieces, .. }) => match in_memory(&pieces) {
                Some(batches) => self.push(now, from, batches, log),
                None => Next::Reads(pieces, FollowerRead::Push(from)),
            },
            Err(error) => self.cannot_read(now, error, log),
        }
    }

    /// What it lacks next is deleted here: it finds out when it compares again.
    fn starts_behind(&mut self, from: Offset, log: &Log) -> Next {
        self.next = None;
        self.asks_at = Some(Mono(0));
        Next::Pushes(head(log, from, from), Vec::new())
    }

    /// It is not pushed on before it has asked again, after a pause.
    fn cannot_read(&mut self, now: Mono, error: ErrorCode, log: &Log) -> Next {
        let label = log.label();
        let (topic, partition, node) = (&label.topic, label.partition, self.peer.node);
        tracing::warn!("{topic}-{partition}: what node {node} lacks cannot be read: {error}");
        self.next = None;
        self.asks_at = Some(now.plus_ms(REPLICA_ASKS_AGAIN_MS_MAX));
        Next::Nothing
    }

    /// Pushes those of some batches that are whole; the first one begins at `from`, or holds it.
    fn push(&mut self, now: Mono, from: Offset, batches: Vec<Bytes>, log: &Log) -> Next {
        let (batches, end) = whole(batches);
        let Some(to) = end.filter(|end| *end > from) else {
            return self.cannot_read(now, ErrorCode::CorruptMessage, log);
        };
        let bytes = batches.iter().map(Bytes::len).sum();
        self.next = Some(to);
        self.on_way.push_back((to, bytes));
        self.bytes_on_way += bytes;
        let push = head(log, from, to);
        self.told = Some((push.committed, push.start));
        Next::Pushes(push, batches)
    }

    /// If it is not pushed anything and does not ask by itself: what makes it ask, a push of what it cannot have yet.
    fn wakes(&mut self, now: Mono, log: &Log) -> Option<Push> {
        self.asks_at.take_if(|at| *at <= now)?;
        self.asks_at = Some(now.plus_ms(REPLICA_ASKS_AGAIN_MS_MAX));
        Some(too_far(log))
    }

    /// It has everything, but for where the marks are: that it is told now.
    fn marks(&mut self, log: &Log) -> Option<Push> {
        let at = self.lacks_marks(log)?;
        self.told = Some((log.high_watermark(), log.start_offset()));
        Some(head(log, at, at))
    }

    /// Where it stands, if it has everything and does not know where the marks are.
    fn lacks_marks(&self, log: &Log) -> Option<Offset> {
        let at = self.next.filter(|next| *next == log.end_offset())?;
        let marks = (log.high_watermark(), log.start_offset());
        (self.told != Some(marks)).then_some(at)
    }
}

/// A push without batches.
fn head(log: &Log, from: Offset, to: Offset) -> Push {
    Push {
        from,
        batches: Bytes::new(),
        to,
        committed: log.high_watermark(),
        start: log.start_offset(),
    }
}

/// A push of what nobody can have yet: whoever gets it asks.
fn too_far(log: &Log) -> Push {
    let far = log.end_offset().plus(1);
    head(log, far, far)
}

/// What makes a follower ask that may have asked before this node knew that it leads.
pub fn call(log: &Log, term: Term) -> ReplicaSaid {
    said(log.id(), term, ReplicaWhat::Pushes(too_far(log)))
}

/// The batches of a plan that is in memory, if each piece begins with one.
fn in_memory(pieces: &[Piece]) -> Option<Vec<Bytes>> {
    let of = |piece: &Piece| match piece {
        Piece::Memory(bytes) => record::parse(bytes).ok().map(|_| bytes.clone()),
        _ => None,
    };
    pieces.iter().map(of).collect()
}

/// The batches without what is cut at their end, and where they end.
fn whole(mut pieces: Vec<Bytes>) -> (Vec<Bytes>, Option<Offset>) {
    let mut end = None;
    for number in 0..pieces.len() {
        let (piece, mut at) = (&pieces[number], 0);
        while let Ok(info) = record::parse(&piece[at..]) {
            at += info.len;
            end = Some(Offset(info.last_offset()).plus(1));
        }
        if at < piece.len() {
            pieces[number].truncate(at);
            pieces.truncate(number + 1);
            break;
        }
    }
    (pieces, end)
}

/// A partition that this node leads and others follow.
#[derive(Debug, Default)]
pub struct Led {
    /// The epoch that this is about.
    epoch: Option<LeaderEpoch>,
    /// By node.
    pub others: Vec<(NodeId, FollowedBy)>,
    /// The ISR that was asked for last, and of which state of the partition it is a change.
    pub asks_for: Option<(i32, Vec<NodeProcess>)>,
}

impl Led {
    /// Its other replicas are these nodes, and where each is, if that is known; a new epoch knows nothing of them.
    pub fn assign(
        &mut self,
        others: &[(NodeId, Option<ReplicaPeer>)],
        epoch: LeaderEpoch,
        partition_epoch: i32,
    ) {
        if self.epoch != Some(epoch) {
            *self = Self::default();
            self.epoch = Some(epoch);
        }
        if (self.asks_for.as_ref()).is_some_and(|(asked, _)| *asked < partition_epoch) {
            self.asks_for = None;
        }
        self.others
            .retain(|(node, _)| others.iter().any(|(other, _)| other == node));
        for (node, peer) in others {
            match (self.other(*node), peer) {
                (None, Some(peer)) => self.others.push((*node, FollowedBy::new(*peer))),
                (Some(other), Some(peer)) if other.term.is_none() => other.peer = *peer,
                _ => {}
            }
        }
    }

    /// A follower.
    pub fn other(&mut self, node: NodeId) -> Option<&mut FollowedBy> {
        let other = self.others.iter_mut().find(|(it, _)| *it == node);
        other.map(|(_, other)| other)
    }

    /// A follower asks, from there, which is in sync or is not: what it is answered.
    pub fn asked(
        &mut self,
        now: Mono,
        from: ReplicaPeer,
        (term, asked): (Term, EpochEnd),
        (is_in_sync, log): (bool, &mut Log),
    ) -> ReplicaSaid {
        let known = self.others.iter().position(|(node, _)| *node == from.node);
        let place = known.unwrap_or_else(|| {
            self.others.push((from.node, FollowedBy::new(from)));
            self.others.len() - 1
        });
        let other = &mut self.others[place].1;
        let answer = other.asks(now, from, (term, asked), (is_in_sync, &mut *log));
        let what = ReplicaWhat::Answers { asked, log: answer };
        said(log.id(), term, what)
    }

    fn get(&self, node: NodeId) -> Option<&FollowedBy> {
        let other = self.others.iter().find(|(it, _)| *it == node);
        other.map(|(_, other)| other)
    }

    /// Where a follower is.
    pub fn peer(&self, node: NodeId) -> Option<ReplicaPeer> {
        self.get(node).map(|other| other.peer)
    }

    /// Where all of them are.
    pub fn peers(&self) -> impl Iterator<Item = ReplicaPeer> + '_ {
        self.others.iter().map(|(_, other)| other.peer)
    }

    /// All of them.
    pub fn nodes(&self) -> Vec<NodeId> {
        self.others.iter().map(|(node, _)| *node).collect()
    }

    /// The process of a follower that has asked.
    pub fn member(&self, node: NodeId) -> Option<NodeProcess> {
        self.get(node)?.term.map(|term| term.follower)
    }

    /// Something is lost at a follower.
    pub fn loses(&mut self, now: Mono, term: Term) {
        if let Some(other) = self.other(term.follower.node) {
            (other.has_lost, other.next) = (true, None);
            other.asks_at = Some(now.plus_ms(REPLICA_ASKS_AGAIN_MS_MAX));
        }
    }

    /// Those that do not ask by themselves are made to: what they are told.
    pub fn wakes(&mut self, now: Mono, log: &Log) -> Vec<(ReplicaPeer, ReplicaSaid)> {
        self.push_each(log.id(), |other| other.wakes(now, log))
    }

    /// What is pushed to each follower that has asked, as far as something is.
    fn push_each(
        &mut self,
        log: LogId,
        mut push: impl FnMut(&mut FollowedBy) -> Option<Push>,
    ) -> Vec<(ReplicaPeer, ReplicaSaid)> {
        let mut all = Vec::new();
        for (_, other) in &mut self.others {
            if let Some(term) = other.term
                && let Some(push) = push(other)
            {
                all.push((other.peer, said(log, term, ReplicaWhat::Pushes(push))));
            }
        }
        all
    }

    /// Whether somebody has to be looked after: one that counts and lacks something, one that follows and is not in
    /// sync yet, or one that is to be made to ask.
    pub fn lacks<W>(&self, leader: &Leader<W>, log: &Log) -> bool {
        let end = log.end_offset();
        let mut others = self.others.iter();
        others.any(|(node, other)| {
            let is_due = match leader.is_in_sync(*node) == Some(true) {
                true => other.durable < end,
                false => other.next.is_some(),
            };
            is_due || other.asks_at.is_some()
        })
    }

    /// Whether a follower has everything, and does not know how far it is committed.
    pub fn lacks_marks(&self, log: &Log) -> bool {
        let mut others = self.others.iter();
        others.any(|(_, other)| other.lacks_marks(log).is_some())
    }

    /// What is said to a follower in its term, and where it is.
    pub fn says(
        &self,
        log: LogId,
        place: usize,
        what: ReplicaWhat,
    ) -> Option<(ReplicaPeer, ReplicaSaid)> {
        let (_, other) = self.others.get(place)?;
        Some((other.peer, said(log, other.term?, what)))
    }

    /// A follower tells what is on its disk. Whether that can be, and it follows.
    pub fn told(&mut self, now: Mono, term: Term, on_disk: OnDisk, log: &mut Log) -> bool {
        match self.other(term.follower.node) {
            Some(other) if other.term == Some(term) && on_disk.end <= log.end_offset() => {
                other.tells(now, on_disk.end, log);
                if other.next.is_none() {
                    // It believes that it follows.
                    other.asks_at.get_or_insert(now);
                }
                true
            }
            _ => false,
        }
    }

    /// Who seems to be gone.
    pub fn silent(&self, now: Mono) -> impl Fn(NodeId) -> bool + '_ {
        move |node| self.get(node).is_none_or(|other| other.is_silent(now))
    }

    /// It is asked for that a follower leaves the ISR.
    pub fn leaves(&mut self, now: Mono, node: NodeId) {
        let other = self.other(node);
        if let Some(other) = other.filter(|it| it.is_silent(now) && !it.has_lost) {
            other.probation.leaves(now);
        }
    }

    /// Whether one that had to leave may be in sync again.
    pub fn may_return(&self, now: Mono, node: NodeId) -> bool {
        self.get(node)
            .is_none_or(|other| other.probation.is_over(now))
    }

    /// The connection to a shard is gone: what was pushed there may not have arrived, and it will ask again.
    pub fn lost_touch(&mut self, peer: ReplicaPeer) {
        let others = self.others.iter_mut().map(|(_, other)| other);
        for other in others.filter(|other| other.peer == peer) {
            (other.next, other.reading) = (None, None);
        }
    }

    /// Whether it is about this epoch.
    pub fn is_of(&self, epoch: LeaderEpoch) -> bool {
        self.epoch == Some(epoch)
    }

    /// What a follower is to be sent next.
    pub fn next(
        &mut self,
        now: Mono,
        (place, has_room): (usize, bool),
        (open, store): (&mut OpenLog, &Store),
    ) -> Next {
        let other = self.others.get_mut(place);
        other.map_or(Next::Nothing, |(_, other)| {
            other.next(now, has_room, (&mut open.log, store))
        })
    }

    /// A read for a follower has begun.
    pub fn reads(&mut self, place: usize, id: ReadId) {
        if let Some((_, other)) = self.others.get_mut(place) {
            other.reading = Some(id);
        }
    }

    /// What was read is not sent: it is read again.
    pub fn drops_read(&mut self, id: ReadId) {
        for (_, other) in &mut self.others {
            other.reading.take_if(|reading| *reading == id);
        }
    }

    /// For whom a read is.
    pub fn reader(&self, id: ReadId) -> Option<ReplicaPeer> {
        let mut others = self.others.iter();
        let (_, other) = others.find(|(_, other)| other.reading == Some(id))?;
        Some(other.peer)
    }

    /// A read has ended; with what was to be pushed, if that was what it was for: what is sent, and its place.
    pub fn read(
        &mut self,
        now: Mono,
        id: ReadId,
        result: Result<Option<(Offset, Bytes)>, ErrorCode>,
        log: &Log,
    ) -> Option<(usize, Next)> {
        let mut others = self.others.iter_mut();
        let place = others.position(|(_, other)| other.reading == Some(id))?;
        let (_, other) = &mut self.others[place];
        other.reading = None;
        let next = match result {
            // It was cut back, or has asked meanwhile.
            Ok(Some((from, _))) if other.next != Some(from) => Next::Nothing,
            Ok(Some((from, bytes))) => other.push(now, from, vec![bytes], log),
            Ok(None) => Next::Nothing,
            Err(error) => other.cannot_read(now, error, log),
        };
        Some((place, next))
    }

    /// What is to be said to followers that have everything and do not know how far it is committed.
    pub fn marks(&mut self, log: &Log) -> Vec<(ReplicaPeer, ReplicaSaid)> {
        self.push_each(log.id(), |other| other.marks(log))
    }
}

/// Something that is said about a log.
pub fn said(log: LogId, term: Term, what: ReplicaWhat) -> ReplicaSaid {
    ReplicaSaid { log, term, what }
}
