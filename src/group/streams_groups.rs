//! Streams groups beside those of other kinds: they share offsets, timers, appends and snapshots, and an empty classic
//! group becomes one when a member of a streams application comes.

use super::classic::ClassicGroup;
use super::consumer::{GroupTopics, JOINS, Keyed};
use super::coordinator::{Coordinator, Entry};
use super::cx::{Then, Timer};
use super::effect::{Effect, News};
use super::offsets::GroupOffsets;
use super::state::State;
use super::streams::{
    self, StreamsChange, StreamsCx, StreamsGroup, StreamsHeartbeat, StreamsOut, StreamsReply,
};
use crate::base::limits::{HEARTBEAT_BYTES_SPARE, HEARTBEATS_PER_SLICE};
use crate::base::{ErrorCode, Name, Now};

/// What becomes of a group by these changes, if that is something to tell.
fn news_of(streams: &StreamsGroup, changes: &[StreamsChange]) -> Option<News> {
    let (epoch, members) = (streams.state().epoch(), streams.state().members().len());
    let is_due = |change: &StreamsChange| match change {
        StreamsChange::Member(_, None) => members == 0,
        StreamsChange::TargetEpoch(Some(_)) => members > 0,
        _ => false,
    };
    changes.iter().any(is_due).then_some(match members {
        0 => News::Empty,
        _ => News::Assigns { epoch, members },
    })
}

impl Coordinator {
    /// A streams group.
    #[must_use]
    pub fn streams_group(&self, id: &str) -> Option<&StreamsGroup> {
        self.groups.get(id)?.streams.as_deref()
    }

    /// StreamsGroupHeartbeat. The token gets [`Effect::StreamsHeartbeat`], now or later.
    pub fn streams_heartbeat(
        &mut self,
        now: Now,
        token: u64,
        request: StreamsHeartbeat,
        topics: &dyn GroupTopics,
        out: &mut Vec<Effect>,
    ) {
        if let Err(refused) = self.check_streams_heartbeat(&request) {
            return out.push(Effect::StreamsHeartbeat(token, refused));
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
        self.change(&id, |entry| {
            entry.streams.get_or_insert_default().ask(token, request);
        });
        // As others may have a heartbeat at the same time the rest is done when that is due.
        let mut left = (self.config.streams.slice / HEARTBEATS_PER_SLICE).max(1);
        self.streams_goes_on((now, topics), &id, &mut left, out, |_, _, _| {});
    }

    /// What is wrong with a heartbeat, whatever its member is.
    fn check_streams_heartbeat(&self, request: &StreamsHeartbeat) -> Result<(), StreamsReply> {
        let refuse = |error, why| Err(StreamsReply::refused(error, why));
        if let Some((error, flaw)) = request.flaw() {
            return refuse(error, flaw);
        }
        let id = &request.group;
        let joins = request.epoch == JOINS;
        let not_now = || Err(StreamsReply::error(ErrorCode::CoordinatorNotAvailable));
        match self.groups.get(id) {
            None if !joins => {
                let why = format!("Streams group {id} not found.");
                refuse(ErrorCode::GroupIdNotFound, why)
            }
            None if self.room.groups == 0 => not_now(),
            // It is not gone before that is committed.
            Some(entry) if entry.group.state() == State::Dead => not_now(),
            Some(entry)
                if entry.streams.is_none()
                    && !(joins && entry.is_classic() && entry.group.state() == State::Empty) =>
            {
                let why = format!("Group {id} is not a streams group.");
                refuse(ErrorCode::GroupIdNotFound, why)
            }
            // Members go on when there is no room for more.
            _ if joins && request.bytes() > self.room.bytes => not_now(),
            _ if request.bytes() > self.room.bytes.max(HEARTBEAT_BYTES_SPARE) => not_now(),
            None | Some(_) => Ok(()),
        }
    }

    /// Lets a streams group do this, and then what it has to, as much as is `left` of a slice.
    fn streams_goes_on(
        &mut self,
        (now, topics): (Now, &dyn GroupTopics),
        id: &Name,
        left: &mut usize,
        out: &mut Vec<Effect>,
        first: impl FnOnce(&mut StreamsGroup, &StreamsCx<'_>, &mut StreamsOut),
    ) {
        let mut wanted = StreamsOut::default();
        let config = self.config.streams_of(id);
        let cx = StreamsCx {
            now,
            config: &config,
            topics,
            room_bytes: self.room.bytes,
            room_refreshes: self.room.refreshes,
        };
        self.change(id, |entry| {
            if let Some(streams) = &mut entry.streams {
                first(streams, &cx, &mut wanted);
                streams.go_on(&cx, left, &mut wanted);
            }
        });
        self.perform_streams(now, id, wanted, out);
    }

    /// Does what a streams group wants.
    fn perform_streams(&mut self, now: Now, id: &Name, wanted: StreamsOut, out: &mut Vec<Effect>) {
        let StreamsOut { group, creates } = wanted;
        if !group.timers.is_empty() {
            let session_ms = self.config.streams_of(id).session_timeout_ms;
            self.set_member_timers(now, id, session_ms, group.timers);
        }
        let replies = group.replies.into_iter();
        out.extend(replies.map(|(token, reply)| Effect::StreamsHeartbeat(token, reply)));
        if !creates.is_empty() {
            out.push(Effect::CreateTopics(id.clone(), creates));
        }
        if let Some(write) = group.write {
            let streams = self.groups.get(id).and_then(|it| it.streams.as_ref());
            let news = streams.and_then(|streams| news_of(streams, &write.changes));
            out.extend(news.map(|news| Effect::News(id.clone(), news)));
            let changes = write.changes.iter();
            let records = changes.map(|change| streams::records::record(id, change));
            let records = self.not_classic_any_more(id).chain(records).collect();
            self.write(now, id, records, Then::Streams(write.replies), out);
        }
        self.set_go_on(now, id, group.goes_on);
        self.drop_blank(id);
    }

    /// What a streams group has decided is durable, or will never be.
    pub(super) fn streams_written(
        &mut self,
        now: Now,
        id: &Name,
        replies: Vec<(u64, StreamsReply)>,
        error: ErrorCode,
        out: &mut Vec<Effect>,
    ) {
        let mut wanted = StreamsOut::default();
        self.change(id, |entry| {
            if let Some(streams) = &mut entry.streams {
                streams.written(error.is_none(), &mut wanted);
                if error.is_none() && entry.group.state() == State::Empty {
                    // What it was before, if it was a classic one, counts no more.
                    entry.group = ClassicGroup::new(id.clone(), None);
                }
            }
        });
        wanted.group.replies = match error {
            ErrorCode::None => replies,
            error => {
                let refused = |(token, _)| (token, StreamsReply::error(error));
                replies.into_iter().map(refused).collect()
            }
        };
        self.perform_streams(now, id, wanted, out);
    }

    /// The partition is given up: who waits is sent to find the coordinator.
    pub(super) fn give_up_streams(&mut self, id: &Name, out: &mut Vec<Effect>) {
        let mut tokens = Vec::new();
        self.change(id, |entry| {
            if let Some(streams) = &mut entry.streams {
                tokens = streams.give_up();
            }
        });
        let refused = || StreamsReply::error(ErrorCode::NotCoordinator);
        let tokens = tokens.into_iter();
        out.extend(tokens.map(|token| Effect::StreamsHeartbeat(token, refused())));
    }

    /// The members of a group begin their sessions.
    pub(super) fn streams_loaded(&mut self, now: Now, id: &Name) {
        let mut wanted = StreamsOut::default();
        if let Some(streams) = self.streams_group(id) {
            streams.begin_sessions(&mut wanted);
            self.perform_streams(now, id, wanted, &mut Vec::new());
        }
    }

    /// A timer is due. Gives it back if it is none of a streams group.
    pub(super) fn streams_timer(
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
        let group = self.groups.get(&id);
        if group.is_none_or(|it| it.streams.is_none()) {
            return Some(timer);
        }
        self.streams_goes_on(at, &id, left, out, |streams, cx, wanted| match timer {
            Timer::Session(_, member) => streams.session_is_over(cx, member, wanted),
            Timer::Rebalance(_, member) => streams.rebalance_time_is_up(cx, member, wanted),
            _ => {}
        });
        None
    }

    /// A change of a streams group that is durable: it is read from the log, or deletes it.
    pub(super) fn replay_streams(&mut self, id: &str, change: StreamsChange) {
        if !self.groups.contains_key(id) {
            if !change.is_value() {
                return;
            }
            let id = Name::from(id);
            let group = ClassicGroup::new(id.clone(), None);
            self.add(id, Entry::new(group, GroupOffsets::default()));
        }
        self.change(id, |entry| {
            entry.streams.get_or_insert_default().replay(change);
        });
        self.drop_blank(&Name::from(id));
    }
}
