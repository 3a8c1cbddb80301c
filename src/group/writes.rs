//! The requests that write: commits, deletions, expiry; and what happens when an
//! append has ended.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::cx::InFlight;
use super::records::{self, Key};
use super::{
    Coordinator, Cx, Effect, Name, OffsetToCommit, Record, State, Then, Timer, client_error,
};
use crate::base::{ErrorCode, Now, limits};

/// Groups looked at for expired offsets in one go; the next ones have to wait for the next tick.
const EXPIRY_CHUNK: usize = 1_000;

/// An OffsetCommit.
#[derive(Clone, Debug)]
pub struct CommitRequest {
    /// Group id.
    pub group: Name,
    /// Member id, empty for who is no member.
    pub member: Name,
    /// `group.instance.id`
    pub instance: Option<Name>,
    /// The generation, -1 for who is no member.
    pub generation: i32,
    /// The client understands GROUP_ID_NOT_FOUND (v9); older ones get ILLEGAL_GENERATION.
    pub knows_group_id_not_found: bool,
    /// What to commit.
    pub offsets: Vec<OffsetToCommit>,
}

impl Coordinator {
    /// OffsetCommit. After `Ok` the token gets [`Effect::Written`].
    pub fn commit(
        &mut self,
        now: Now,
        token: u64,
        request: &CommitRequest,
        out: &mut Vec<Effect>,
    ) -> Result<(), ErrorCode> {
        let checked = self.with_group(now, &request.group, out, |group, cx| {
            group.check_commit(
                &request.member,
                request.instance.as_deref(),
                request.generation,
            )?;
            group.touch(cx, &request.member);
            Ok(())
        });
        match checked {
            Some(checked) => checked?,
            // Somebody who assigns partitions to itself; the group comes to be with the record.
            None if request.generation < 0 && self.groups.len() < self.config.groups_max => {}
            None if request.generation < 0 => return Err(ErrorCode::CoordinatorNotAvailable),
            None if request.knows_group_id_not_found => return Err(ErrorCode::GroupIdNotFound),
            None => return Err(ErrorCode::IllegalGeneration),
        }
        if request.offsets.len() > limits::OFFSETS_PER_COMMIT_MAX {
            return Err(client_error(ErrorCode::RecordListTooLarge));
        }
        let group = &request.group;
        let records = request.offsets.iter().map(|o| {
            let key = records::offset_key(group, &o.topic, o.partition);
            (key, Some(records::offset_value(&o.committed)))
        });
        self.write(
            now,
            group,
            records.collect(),
            Then::Replay(Some(token)),
            out,
        );
        Ok(())
    }

    /// OffsetDelete: one error for each partition, or one for all. After `Ok` the token gets
    /// [`Effect::Written`].
    pub fn delete_offsets(
        &mut self,
        now: Now,
        token: u64,
        group: &Name,
        targets: &[(Name, i32)],
        out: &mut Vec<Effect>,
    ) -> Result<Vec<ErrorCode>, ErrorCode> {
        if group.is_empty() {
            return Err(ErrorCode::InvalidGroupId);
        }
        let entry = self.groups.get(group).ok_or(ErrorCode::GroupIdNotFound)?;
        match entry.group.state() {
            State::Dead => return Err(ErrorCode::GroupIdNotFound),
            State::Empty => {}
            State::PreparingRebalance | State::CompletingRebalance | State::Stable => {
                if !entry.group.is_consumer() {
                    return Err(ErrorCode::NonEmptyGroup);
                }
            }
        }
        let in_flight = self.offsets_in_flight(group);
        let mut records = Vec::new();
        let mut errors = Vec::with_capacity(targets.len());
        for target in targets {
            let (topic, partition) = target;
            if entry.group.is_subscribed_to(topic) {
                errors.push(ErrorCode::GroupSubscribedToTopic);
                continue;
            }
            errors.push(ErrorCode::None);
            if entry.offsets.get(topic, *partition).is_some() || in_flight.contains(target) {
                records.push((records::offset_key(group, topic, *partition), None));
            }
        }
        self.write(now, group, records, Then::Replay(Some(token)), out);
        Ok(errors)
    }

    /// DeleteGroups, one group. After `Ok` the token gets [`Effect::Written`].
    pub fn delete_group(
        &mut self,
        now: Now,
        token: u64,
        group: &Name,
        out: &mut Vec<Effect>,
    ) -> Result<(), ErrorCode> {
        let entry = self.groups.get(group).ok_or(ErrorCode::GroupIdNotFound)?;
        match entry.group.state() {
            State::Dead => Err(ErrorCode::GroupIdNotFound),
            State::PreparingRebalance | State::CompletingRebalance | State::Stable => {
                Err(ErrorCode::NonEmptyGroup)
            }
            State::Empty => {
                self.bury(now, group, Then::Delete(Some(token)), out);
                Ok(())
            }
        }
    }

    /// Writes tombstones for everything that an empty group has. Until they are durable it is
    /// Dead: it takes neither members nor commits, which the tombstones would not cover.
    fn bury(&mut self, now: Now, id: &Name, then: Then, out: &mut Vec<Effect>) {
        let mut targets = self.offsets_in_flight(id);
        let Some(entry) = self.groups.get_mut(id) else {
            return;
        };
        for (topic, offsets) in entry.offsets.topics() {
            targets.extend(offsets.keys().map(|partition| (topic.clone(), *partition)));
        }
        entry.group.become_state(State::Dead, now.wall_ms);
        let mut records = tombstones(id, &targets);
        records.push((records::group_key(id), None));
        self.write(now, id, records, then, out);
    }

    /// Offsets whose commits are on their way: what a deletion has to cover as well.
    fn offsets_in_flight(&self, group: &Name) -> BTreeSet<(Name, i32)> {
        let of_group = self
            .appends
            .in_flight
            .values()
            .filter(|a| a.group == *group);
        of_group.flat_map(committed_by).collect()
    }

    /// Appends records; if there are none, what should happen then happens now.
    fn write(
        &mut self,
        now: Now,
        group: &Name,
        records: Vec<Record>,
        then: Then,
        out: &mut Vec<Effect>,
    ) {
        if records.is_empty() {
            let nothing = InFlight {
                group: group.clone(),
                records: records.into(),
                then,
            };
            return self.written(now, nothing, ErrorCode::None, out);
        }
        let mut cx = Cx {
            now,
            config: &self.config,
            timers: &mut self.timers,
            appends: &mut self.appends,
            out,
        };
        cx.append(group, records, then);
    }

    /// The append of [`Effect::Append`] ended. Appends to one partition end in the order in which
    /// they were asked for.
    pub fn appended(
        &mut self,
        now: Now,
        append: u64,
        result: Result<(), ErrorCode>,
        out: &mut Vec<Effect>,
    ) {
        if let Some(ended) = self.appends.end(append) {
            let error = result.err().map_or(ErrorCode::None, client_error);
            if !error.is_none() {
                self.snapshot_again(&ended.records);
            } else if ended.then.follows_state() {
                self.note_durable(&ended.records);
            }
            self.written(now, ended, error, out);
        }
    }

    fn written(&mut self, now: Now, ended: InFlight, error: ErrorCode, out: &mut Vec<Effect>) {
        let id = &ended.group;
        match &ended.then {
            Then::Nothing => {}
            Then::Assign(generation, assignments) => {
                self.with_group(now, id, out, |group, cx| {
                    group.assignment_stored(cx, *generation, assignments, error);
                });
            }
            Then::StaticMember(member, reply) => {
                self.with_group(now, id, out, |group, cx| {
                    group.static_member_stored(cx, member, reply, error);
                });
            }
            Then::Replay(token) => {
                if error.is_none() {
                    self.replay_all(&ended);
                }
                out.extend(token.map(|token| Effect::Written(token, error)));
            }
            Then::Delete(token) => {
                if error.is_none() {
                    self.replay_all(&ended);
                } else {
                    self.with_group(now, id, out, |group, cx| {
                        group.become_state(State::Empty, cx.now.wall_ms);
                    });
                }
                out.extend(token.map(|token| Effect::Written(token, error)));
            }
        }
    }

    fn replay_all(&mut self, ended: &InFlight) {
        for (key, value) in &*ended.records {
            let replayed = self.replay(key, value.as_deref(), -1);
            debug_assert!(replayed.is_ok(), "own records can be read");
        }
    }

    /// Writes tombstones for offsets whose retention is over, and for empty groups without offsets.
    pub(super) fn expire(&mut self, now: Now, out: &mut Vec<Effect>) {
        let from = self
            .expiry_cursor
            .take()
            .map_or(Bound::Unbounded, Bound::Excluded);
        let range = self.groups.range::<Name, _>((from, Bound::Unbounded));
        let ids: Vec<Name> = range.take(EXPIRY_CHUNK).map(|(id, _)| id.clone()).collect();
        if ids.len() < EXPIRY_CHUNK {
            let interval = self.config.offsets_retention_check_interval_ms;
            self.timers.set_after(Timer::Expiry, now.mono, interval);
        } else {
            self.expiry_cursor = ids.last().cloned();
            self.timers.set_after(Timer::Expiry, now.mono, 1);
        }
        // A commit on its way may renew an offset that looks expired; such groups can wait.
        let busy: BTreeSet<Name> = self
            .appends
            .in_flight
            .values()
            .map(|a| a.group.clone())
            .collect();
        for id in ids.iter().filter(|id| !busy.contains(*id)) {
            self.expire_group(now, id, out);
        }
    }

    fn expire_group(&mut self, now: Now, id: &Name, out: &mut Vec<Effect>) {
        let Some(entry) = self.groups.get(id) else {
            return;
        };
        let retention_ms = self.config.offsets_retention_ms;
        let (expired, all) = entry
            .offsets
            .expired(&entry.group, now.wall_ms, retention_ms);
        if all && entry.group.state() == State::Empty && entry.group.pending_join.is_empty() {
            return self.bury(now, id, Then::Delete(None), out);
        }
        let records = tombstones(id, &expired);
        self.write(now, id, records, Then::Replay(None), out);
    }

    /// Topics are gone: nobody's offsets for them mean anything any more. The token gets [`Effect::Written`] once for
    /// each group that has some; returns how many that are.
    pub fn topics_gone(
        &mut self,
        now: Now,
        token: u64,
        is_gone: impl Fn(&str) -> bool,
        out: &mut Vec<Effect>,
    ) -> usize {
        let mut targets: BTreeMap<Name, BTreeSet<(Name, i32)>> = BTreeMap::new();
        for (id, entry) in &self.groups {
            let gone = entry.offsets.topics().filter(|(topic, _)| is_gone(topic));
            let found = gone.flat_map(|(t, offsets)| offsets.keys().map(|p| (t.clone(), *p)));
            let found: BTreeSet<_> = found.collect();
            if !found.is_empty() {
                targets.insert(id.clone(), found);
            }
        }
        for append in self.appends.in_flight.values() {
            for target in committed_by(append).filter(|(topic, _)| is_gone(topic)) {
                let group = append.group.clone();
                targets.entry(group).or_default().insert(target);
            }
        }
        let groups = targets.len();
        for (id, found) in targets {
            let records = tombstones(&id, &found);
            self.write(now, &id, records, Then::Replay(Some(token)), out);
        }
        groups
    }
}

/// The offsets that an append on its way is about to commit.
fn committed_by(append: &InFlight) -> impl Iterator<Item = (Name, i32)> {
    let keys = append.records.iter().filter(|(_, value)| value.is_some());
    keys.filter_map(|(key, _)| match records::parse_key(key) {
        Ok(Key::Offset {
            topic, partition, ..
        }) => Some((Name::from(topic), partition)),
        Ok(Key::Group(_) | Key::Other(_)) | Err(_) => None,
    })
}

fn tombstones<'a>(group: &str, targets: impl IntoIterator<Item = &'a (Name, i32)>) -> Vec<Record> {
    let key =
        |(topic, partition): &(Name, i32)| (records::offset_key(group, topic, *partition), None);
    targets.into_iter().map(key).collect()
}
