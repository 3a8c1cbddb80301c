//! Groups of the consumer protocol beside the classic ones: they share offsets, timers, appends and snapshots, and an
//! empty group becomes one of the other kind when a member of that kind comes.

use std::ops::Bound;

use super::classic::ClassicGroup;
use super::consumer::{
    self, ConsumerCx, ConsumerGroup, ConsumerHeartbeat, ConsumerOut, ConsumerReply, GroupChange,
    GroupTopics, JOINS, MemberTimer, NextSlice,
};
use super::coordinator::{Coordinator, Entry};
use super::cx::{Then, Timer};
use super::effect::{Effect, News, Record};
use super::offsets::GroupOffsets;
use super::records;
use super::state::State;
use super::streams::{self, StreamsGroup};
use crate::base::limits::{GROUP_REFRESH_RETRY_MS, HEARTBEAT_BYTES_SPARE, HEARTBEATS_PER_SLICE};
use crate::base::{ErrorCode, Name, Now};

/// A group, of whatever kind.
#[derive(Clone, Copy, Debug)]
pub enum ShownGroup<'a> {
    /// A classic one.
    Classic(&'a ClassicGroup),
    /// One of the consumer protocol; and whether it is being deleted.
    Consumer(&'a Name, &'a ConsumerGroup, bool),
    /// A streams group; the same.
    Streams(&'a Name, &'a StreamsGroup, bool),
}

impl Entry {
    fn shown(&self) -> ShownGroup<'_> {
        let is_dead = self.group.state() == State::Dead;
        match (&self.consumer, &self.streams) {
            (Some(consumer), _) => ShownGroup::Consumer(self.group.id(), consumer, is_dead),
            (None, Some(streams)) => ShownGroup::Streams(self.group.id(), streams, is_dead),
            (None, None) => ShownGroup::Classic(&self.group),
        }
    }
}

/// What becomes of a group by these changes, if that is something to tell.
fn news_of(consumer: &ConsumerGroup, changes: &[GroupChange]) -> Option<News> {
    let (epoch, members) = (consumer.state().epoch(), consumer.state().members().len());
    let is_due = |change: &GroupChange| match change {
        GroupChange::Member(_, None) => members == 0,
        GroupChange::TargetEpoch(Some(_)) => members > 0,
        _ => false,
    };
    changes.iter().any(is_due).then_some(match members {
        0 => News::Empty,
        _ => News::Assigns { epoch, members },
    })
}

impl Coordinator {
    /// A group of whatever kind.
    #[must_use]
    pub fn shown(&self, id: &str) -> Option<ShownGroup<'_>> {
        self.groups.get(id).map(Entry::shown)
    }

    /// The groups behind this one, by id.
    pub fn shown_after(&self, after: Option<&Name>) -> impl Iterator<Item = ShownGroup<'_>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = self.groups.range::<Name, _>((from, Bound::Unbounded));
        behind.map(|(_, entry)| entry.shown())
    }

    /// A group of the consumer protocol.
    #[must_use]
    pub fn consumer_group(&self, id: &str) -> Option<&ConsumerGroup> {
        self.groups.get(id)?.consumer.as_deref()
    }

    /// ConsumerGroupHeartbeat. The token gets [`Effect::Heartbeat`], now or later.
    pub fn consumer_heartbeat(
        &mut self,
        now: Now,
        token: u64,
        mut request: ConsumerHeartbeat,
        topics: &dyn GroupTopics,
        out: &mut Vec<Effect>,
    ) {
        if let Err(refused) = self.check_heartbeat(&request) {
            return out.push(Effect::Heartbeat(token, refused));
        }
        let id = request.group.clone();
        if !self.groups.contains_key(&id) {
            let group = ClassicGroup::new(id.clone(), None);
            self.add(id.clone(), Entry::new(group, GroupOffsets::default()));
        }
        // Who was given an id joins no classic group any more.
        self.with_group(now, &id, out, |group, cx| {
            for pending in group.pending_join.clone() {
                group.remove(cx, &pending);
            }
        });
        if request.member.is_empty() {
            // Version 0: later ones bring an id of their own.
            request.member = self.random_id();
        }
        self.change(&id, |entry| {
            let consumer = entry.consumer.get_or_insert_default();
            consumer.ask(token, request);
        });
        // As others may have a heartbeat at the same time the rest is done when that is due.
        let mut left = (self.config.consumer.slice / HEARTBEATS_PER_SLICE).max(1);
        self.consumer_goes_on((now, topics), &id, &mut left, out, |_, _, _| {});
    }

    /// What is wrong with a heartbeat, whatever its member is.
    fn check_heartbeat(&self, request: &ConsumerHeartbeat) -> Result<(), ConsumerReply> {
        let refuse = |error, why| Err(ConsumerReply::refused(error, why));
        if let Some(flaw) = request.flaw() {
            return refuse(ErrorCode::InvalidRequest, flaw.to_owned());
        }
        let id = &request.group;
        let joins = request.epoch == JOINS;
        let not_now = || Err(ConsumerReply::error(ErrorCode::CoordinatorNotAvailable));
        match self.groups.get(id) {
            None if !joins => {
                let why = format!("Group {id} not found.");
                refuse(ErrorCode::GroupIdNotFound, why)
            }
            None if self.room.groups == 0 => not_now(),
            // It is not gone before that is committed.
            Some(entry) if entry.group.state() == State::Dead => not_now(),
            Some(entry)
                if entry.consumer.is_none()
                    && !(joins && entry.is_classic() && entry.group.state() == State::Empty) =>
            {
                let why = format!("Group {id} is not a consumer group.");
                refuse(ErrorCode::GroupIdNotFound, why)
            }
            // Members go on when there is no room for more.
            _ if joins && request.bytes() > self.room.bytes => not_now(),
            _ if request.bytes() > self.room.bytes.max(HEARTBEAT_BYTES_SPARE) => not_now(),
            None | Some(_) => Ok(()),
        }
    }

    pub(super) fn random_id(&mut self) -> Name {
        let id = u128::from_be_bytes(self.rng.uuid());
        Name::from(format!("{id:032x}"))
    }

    /// Lets a consumer group do this, and then what it has to, as much as is `left` of a slice.
    fn consumer_goes_on(
        &mut self,
        (now, topics): (Now, &dyn GroupTopics),
        id: &Name,
        left: &mut usize,
        out: &mut Vec<Effect>,
        first: impl FnOnce(&mut ConsumerGroup, &ConsumerCx<'_>, &mut ConsumerOut),
    ) {
        let mut wanted = ConsumerOut::default();
        let config = self.config.consumer_of(id);
        let cx = ConsumerCx {
            now,
            config: &config,
            topics,
            room_bytes: self.room.bytes,
            room_refreshes: self.room.refreshes,
        };
        self.change(id, |entry| {
            if let Some(consumer) = &mut entry.consumer {
                first(consumer, &cx, &mut wanted);
                consumer.go_on(&cx, left, &mut wanted);
            }
        });
        self.perform_consumer(now, id, wanted, out);
    }

    /// Does what a consumer group wants.
    fn perform_consumer(
        &mut self,
        now: Now,
        id: &Name,
        wanted: ConsumerOut,
        out: &mut Vec<Effect>,
    ) {
        let ConsumerOut {
            replies,
            timers,
            write,
            is_too_large,
            goes_on,
        } = wanted;
        if !timers.is_empty() {
            let session_ms = self.config.consumer_of(id).session_timeout_ms;
            self.set_member_timers(now, id, session_ms, timers);
        }
        out.extend(
            replies
                .into_iter()
                .map(|(token, reply)| Effect::Heartbeat(token, reply)),
        );
        if is_too_large {
            out.push(Effect::TooLarge(id.clone()));
        }
        if let Some(write) = write {
            let consumer = self.groups.get(id).and_then(|it| it.consumer.as_ref());
            let news = consumer.and_then(|consumer| news_of(consumer, &write.changes));
            out.extend(news.map(|news| Effect::News(id.clone(), news)));
            let changes = write.changes.iter();
            let records = changes.map(|change| consumer::records::record(id, change));
            let records = self.not_classic_any_more(id).chain(records).collect();
            self.write(now, id, records, Then::Consumer(write.replies), out);
        }
        self.set_go_on(now, id, goes_on);
        self.drop_blank(id);
    }

    /// The deletion of the record that says that a group is a classic one, if there is one.
    pub(super) fn not_classic_any_more(&self, id: &Name) -> impl Iterator<Item = Record> + use<> {
        let was_classic = self.groups.get(id).is_some_and(|it| it.record.is_some());
        was_classic
            .then(|| (records::group_key(id), None))
            .into_iter()
    }

    /// Begins and ends timers of members.
    pub(super) fn set_member_timers(
        &mut self,
        now: Now,
        id: &Name,
        session_ms: u64,
        timers: Vec<MemberTimer>,
    ) {
        for timer in timers {
            let session = |member: &Name| Timer::Session(id.clone(), member.clone());
            let rebalance = |member: &Name| Timer::Rebalance(id.clone(), member.clone());
            let all = &mut self.timers;
            match timer {
                MemberTimer::Session(of) => all.set_after(session(&of), now.mono, session_ms),
                MemberTimer::Rebalance(of, ms) => all.set_after(rebalance(&of), now.mono, ms),
                MemberTimer::EndRebalance(of) => all.cancel(&rebalance(&of)),
                MemberTimer::End(of) => {
                    all.cancel(&session(&of));
                    all.cancel(&rebalance(&of));
                }
            }
        }
    }

    /// A group has more to do, when that is said.
    pub(super) fn set_go_on(&mut self, now: Now, id: &Name, goes_on: NextSlice) {
        let timer = Timer::GoOn(id.clone());
        match goes_on {
            NextSlice::No => {}
            NextSlice::Next => self.timers.set_after(timer, now.mono, 0),
            // Before those that have had their turn in this slice, of which nothing is left.
            NextSlice::First => self.timers.set(timer, now.mono),
            NextSlice::Later => self
                .timers
                .set_after(timer, now.mono, GROUP_REFRESH_RETRY_MS),
        }
    }

    /// A group of another kind than the classic one that nobody came to be a member of is none.
    pub(super) fn drop_blank(&mut self, id: &Name) {
        let committing = self.appends.committing.contains_key(id);
        let is_blank = |entry: &Entry| {
            let consumer = entry.consumer.as_ref();
            let streams = entry.streams.as_ref();
            consumer.is_some_and(|it| it.is_idle() && it.state().is_blank())
                || streams.is_some_and(|it| it.is_idle() && it.state().is_blank())
        };
        if !self.groups.get(id).is_some_and(is_blank) {
            return;
        }
        self.change(id, |entry| (entry.consumer, entry.streams) = (None, None));
        let is_nothing = |entry: &Entry| {
            let group = &entry.group;
            group.state() == State::Empty
                && group.protocol_type().is_none()
                && entry.record.is_none()
                && entry.offsets.is_empty()
                && entry.pending.is_empty()
        };
        if !committing && self.groups.get(id).is_some_and(is_nothing) {
            self.take_out(id);
        }
    }

    /// What a consumer group has decided is durable, or will never be.
    pub(super) fn consumer_written(
        &mut self,
        now: Now,
        id: &Name,
        replies: Vec<(u64, ConsumerReply)>,
        error: ErrorCode,
        out: &mut Vec<Effect>,
    ) {
        let mut wanted = ConsumerOut::default();
        self.change(id, |entry| {
            if let Some(consumer) = &mut entry.consumer {
                consumer.written(error.is_none(), &mut wanted);
                if error.is_none() && entry.group.state() == State::Empty {
                    // What it was before, if it was a classic one, counts no more.
                    entry.group = ClassicGroup::new(id.clone(), None);
                }
            }
        });
        wanted.replies = match error {
            ErrorCode::None => replies,
            error => {
                let refused = |(token, _)| (token, ConsumerReply::error(error));
                replies.into_iter().map(refused).collect()
            }
        };
        self.perform_consumer(now, id, wanted, out);
    }

    /// The partition is given up: who waits is sent to find the coordinator.
    pub(super) fn give_up_consumer(&mut self, id: &Name, out: &mut Vec<Effect>) {
        let mut tokens = Vec::new();
        self.change(id, |entry| {
            if let Some(consumer) = &mut entry.consumer {
                tokens = consumer.give_up();
            }
        });
        let refused = || ConsumerReply::error(ErrorCode::NotCoordinator);
        out.extend(
            tokens
                .into_iter()
                .map(|token| Effect::Heartbeat(token, refused())),
        );
    }

    /// The members of a group begin their sessions.
    pub(super) fn consumer_loaded(&mut self, now: Now, id: &Name) {
        let mut wanted = ConsumerOut::default();
        if let Some(consumer) = self.consumer_group(id) {
            consumer.begin_sessions(&mut wanted);
            self.perform_consumer(now, id, wanted, &mut Vec::new());
        }
    }

    /// A timer is due. Gives it back if it is none of a consumer group.
    pub(super) fn consumer_timer(
        &mut self,
        at: (Now, &dyn GroupTopics),
        timer: Timer,
        left: &mut usize,
        out: &mut Vec<Effect>,
    ) -> Option<Timer> {
        let (Timer::Session(id, _) | Timer::Rebalance(id, _) | Timer::GoOn(id)) = &timer else {
            return Some(timer);
        };
        let id = id.clone();
        let is_consumer = self.groups.get(&id).is_some_and(|it| it.consumer.is_some());
        if !is_consumer {
            return Some(timer);
        }
        self.consumer_goes_on(at, &id, left, out, |consumer, cx, wanted| match timer {
            Timer::Session(_, member) => consumer.session_is_over(cx, member, wanted),
            Timer::Rebalance(_, member) => consumer.rebalance_time_is_up(cx, member, wanted),
            _ => {}
        });
        None
    }

    /// A member of a classic group comes: an empty group becomes one.
    ///
    /// # Errors
    /// INCONSISTENT_GROUP_PROTOCOL if it is a consumer or streams group that has members.
    pub(super) fn becomes_classic(
        &mut self,
        now: Now,
        id: &Name,
        out: &mut Vec<Effect>,
    ) -> Result<(), ErrorCode> {
        let Some(entry) = self.groups.get(id) else {
            return Ok(());
        };
        if entry.is_classic() {
            return Ok(());
        }
        if entry.group.state() == State::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        if !entry.is_unused() {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        let mut records: Vec<Record> = tombstones_of_kind(entry).collect();
        let mut group = ClassicGroup::new(id.clone(), Some(now.wall_ms));
        records.push(group.metadata_record(&Default::default()));
        self.change(id, |entry| {
            (entry.consumer, entry.streams) = (None, None);
            std::mem::swap(&mut entry.group, &mut group);
        });
        self.write(now, id, records, Then::Nothing, out);
        Ok(())
    }

    /// A change of a consumer group that is durable: it is read from the log, or deletes it.
    pub(super) fn replay_consumer(&mut self, id: &str, change: GroupChange) {
        if !self.groups.contains_key(id) {
            if !change.is_value() {
                return;
            }
            let id = Name::from(id);
            let group = ClassicGroup::new(id.clone(), None);
            self.add(id, Entry::new(group, GroupOffsets::default()));
        }
        self.change(id, |entry| {
            entry.consumer.get_or_insert_default().replay(change);
        });
        self.drop_blank(&Name::from(id));
    }
}

/// Deletions of all that is known of a consumer or streams group, but for its offsets.
pub(super) fn tombstones_of_kind(entry: &Entry) -> impl Iterator<Item = Record> {
    let id = entry.group.id();
    let consumer = entry.consumer.iter();
    let changes = consumer.flat_map(|consumer| consumer.state().tombstones());
    let of_consumer = changes.map(|change| consumer::records::record(id, &change));
    let streams = entry.streams.iter();
    let changes = streams.flat_map(|streams| streams.state().all());
    let of_streams = changes.map(|change| streams::records::record(id, &change.tombstone()));
    of_consumer.chain(of_streams)
}
