//! All groups of this broker: finds the group of a request, keeps the timers and
//! the appends in flight, and turns durable records into committed offsets.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::join::JoinRequest;
use super::rebalance::{Leaving, SyncRequest};
use super::records::{self, Key, RecordError};
use super::timers::Timers;
use super::{
    Appends, ClassicGroup, Cx, Effect, GroupConfig, GroupOffsets, InFlight, JoinReply, Name,
    OffsetToCommit, Record, State, SyncReply, Then, Timer, client_error, partition_for,
};
use crate::base::{ErrorCode, Mono, Now, Rng, limits};

/// Groups looked at for expired offsets in one go; the next ones have to wait for the next tick.
const EXPIRY_CHUNK: usize = 1_000;

/// Longest prefix of a generated member id, so that the id stays below Kafka's 32767 bytes.
const MEMBER_ID_PREFIX_BYTES_MAX: usize = 32_000;

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

/// Who sends a heartbeat.
#[derive(Clone, Debug)]
pub struct HeartbeatRequest {
    /// Group id.
    pub group: Name,
    /// Member id.
    pub member: Name,
    /// `group.instance.id`
    pub instance: Option<Name>,
    /// The generation that the member is in.
    pub generation: i32,
}

#[derive(Debug)]
struct Entry {
    group: ClassicGroup,
    offsets: GroupOffsets,
}

/// The coordinator of all groups of this broker. Requests carry a token, under which they are
/// answered, at once or later, by an [`Effect`] (or at once by the return value).
#[derive(Debug)]
pub struct Coordinator {
    config: GroupConfig,
    groups: BTreeMap<Name, Entry>,
    timers: Timers<Timer>,
    appends: Appends,
    rng: Rng,
    expiry_cursor: Option<Name>,
}

impl Coordinator {
    /// A coordinator without groups. The seed is for member ids.
    #[must_use]
    pub fn new(config: GroupConfig, seed: u64) -> Self {
        Self {
            config,
            groups: BTreeMap::new(),
            timers: Timers::default(),
            appends: Appends::default(),
            rng: Rng::new(seed),
            expiry_cursor: None,
        }
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &GroupConfig {
        &self.config
    }

    /// A group.
    #[must_use]
    pub fn group(&self, id: &str) -> Option<&ClassicGroup> {
        self.groups.get(id).map(|entry| &entry.group)
    }

    /// All groups, by id.
    pub fn groups(&self) -> impl Iterator<Item = &ClassicGroup> {
        self.groups.values().map(|entry| &entry.group)
    }

    /// The committed offsets of a group; durable ones only.
    #[must_use]
    pub fn offsets(&self, id: &str) -> Option<&GroupOffsets> {
        self.groups.get(id).map(|entry| &entry.offsets)
    }

    fn with_group<R>(
        &mut self,
        now: Now,
        id: &str,
        out: &mut Vec<Effect>,
        f: impl FnOnce(&mut ClassicGroup, &mut Cx<'_>) -> R,
    ) -> Option<R> {
        let entry = self.groups.get_mut(id)?;
        let mut cx = Cx {
            now,
            config: &self.config,
            timers: &mut self.timers,
            appends: &mut self.appends,
            out,
        };
        Some(f(&mut entry.group, &mut cx))
    }

    /// JoinGroup. `partitions` is how many `__consumer_offsets` has, here and elsewhere.
    pub fn join(&mut self, now: Now, token: u64, request: JoinRequest, partitions: i32, out: &mut Vec<Effect>) {
        let limits = self.config.min_session_timeout_ms..=self.config.max_session_timeout_ms;
        let exists = self.groups.contains_key(&request.group);
        let error = if request.group.is_empty() {
            ErrorCode::InvalidGroupId
        } else if !limits.contains(&request.session_timeout_ms) {
            ErrorCode::InvalidSessionTimeout
        } else if !exists && !request.member.is_empty() {
            ErrorCode::UnknownMemberId
        } else if !exists && self.groups.len() >= limits::GROUPS_MAX {
            ErrorCode::CoordinatorNotAvailable
        } else {
            ErrorCode::None
        };
        if !error.is_none() {
            return out.push(Effect::Joined(token, JoinReply::error(error, request.member)));
        }
        let id = request.group.clone();
        let new_id = self.new_member_id(&request);
        if !exists {
            let partition = partition_for(&id, partitions);
            let group = ClassicGroup::new(id.clone(), partition, Some(now.wall_ms));
            let offsets = GroupOffsets::default();
            self.groups.insert(id.clone(), Entry { group, offsets });
        }
        self.with_group(now, &id, out, |group, cx| {
            if !exists {
                // So that the topic, and who reads it, knows the group from its first moment.
                group.write_metadata(cx, BTreeMap::new(), Then::Nothing);
            }
            group.join(cx, token, request, new_id);
        });
    }

    /// The prefix tells people who it is; the random part makes it unique.
    fn new_member_id(&mut self, request: &JoinRequest) -> Name {
        let prefix = request.instance.as_deref().unwrap_or(&request.client_id);
        let mut len = prefix.len().min(MEMBER_ID_PREFIX_BYTES_MAX);
        while !prefix.is_char_boundary(len) {
            len -= 1;
        }
        let id = u128::from_be_bytes(self.rng.uuid());
        let (a, b, c) = (id >> 96, id >> 80 & 0xffff, id >> 64 & 0xffff);
        let (d, e) = (id >> 48 & 0xffff, id & 0xffff_ffff_ffff);
        Name::from(format!("{}-{a:08x}-{b:04x}-{c:04x}-{d:04x}-{e:012x}", &prefix[..len]))
    }

    /// SyncGroup.
    pub fn sync(&mut self, now: Now, token: u64, request: SyncRequest, out: &mut Vec<Effect>) {
        let error = match request.group.is_empty() {
            true => ErrorCode::InvalidGroupId,
            false => ErrorCode::UnknownMemberId,
        };
        let id = request.group.clone();
        if self.with_group(now, &id, out, |group, cx| group.sync(cx, token, request)).is_none() {
            out.push(Effect::Synced(token, SyncReply::error(error)));
        }
    }

    /// Heartbeat.
    pub fn heartbeat(&mut self, now: Now, request: &HeartbeatRequest, out: &mut Vec<Effect>) -> ErrorCode {
        if request.group.is_empty() {
            return ErrorCode::InvalidGroupId;
        }
        let instance = request.instance.as_deref();
        self.with_group(now, &request.group, out, |group, cx| {
            group.heartbeat(cx, &request.member, instance, request.generation)
        })
        .unwrap_or(ErrorCode::UnknownMemberId)
    }

    /// LeaveGroup: one error for each who leaves, or one for all.
    pub fn leave(&mut self, now: Now, group: &str, leaving: &[Leaving], out: &mut Vec<Effect>) -> Result<Vec<ErrorCode>, ErrorCode> {
        if group.is_empty() {
            return Err(ErrorCode::InvalidGroupId);
        }
        self.with_group(now, group, out, |group, cx| group.leave(cx, leaving))
            .unwrap_or_else(|| Ok(vec![ErrorCode::UnknownMemberId; leaving.len()]))
    }

    /// OffsetCommit. After `Ok` the token gets [`Effect::Written`].
    pub fn commit(&mut self, now: Now, token: u64, request: &CommitRequest, partitions: i32, out: &mut Vec<Effect>) -> Result<(), ErrorCode> {
        let checked = self.with_group(now, &request.group, out, |group, cx| {
            group.check_commit(&request.member, request.instance.as_deref(), request.generation)?;
            group.touch(cx, &request.member);
            Ok(group.partition)
        });
        let partition = match checked {
            Some(checked) => checked?,
            // Somebody who assigns partitions to itself; the group comes to be with the record.
            None if request.generation < 0 && self.groups.len() < limits::GROUPS_MAX => {
                partition_for(&request.group, partitions)
            }
            None if request.generation < 0 => return Err(ErrorCode::CoordinatorNotAvailable),
            None if request.knows_group_id_not_found => return Err(ErrorCode::GroupIdNotFound),
            None => return Err(ErrorCode::IllegalGeneration),
        };
        let group = &request.group;
        let records = request.offsets.iter().map(|o| {
            let key = records::offset_key(group, &o.topic, o.partition);
            (key, Some(records::offset_value(&o.committed)))
        });
        self.write(now, group, partition, records.collect(), Then::Replay(Some(token)), out);
        Ok(())
    }

    /// OffsetDelete: one error for each partition, or one for all. After `Ok` the token gets
    /// [`Effect::Written`].
    pub fn delete_offsets(&mut self, now: Now, token: u64, group: &Name, targets: &[(Name, i32)], out: &mut Vec<Effect>) -> Result<Vec<ErrorCode>, ErrorCode> {
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
        let partition = entry.group.partition;
        self.write(now, group, partition, records, Then::Replay(Some(token)), out);
        Ok(errors)
    }

    /// DeleteGroups, one group. After `Ok` the token gets [`Effect::Written`].
    pub fn delete_group(&mut self, now: Now, token: u64, group: &Name, out: &mut Vec<Effect>) -> Result<(), ErrorCode> {
        let entry = self.groups.get(group).ok_or(ErrorCode::GroupIdNotFound)?;
        match entry.group.state() {
            State::Dead => Err(ErrorCode::GroupIdNotFound),
            State::PreparingRebalance | State::CompletingRebalance | State::Stable => Err(ErrorCode::NonEmptyGroup),
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
        let partition = entry.group.partition;
        let mut records = tombstones(id, &targets);
        records.push((records::group_key(id), None));
        self.write(now, id, partition, records, then, out);
    }

    /// Offsets whose commits are on their way: what a deletion has to cover as well.
    fn offsets_in_flight(&self, group: &Name) -> BTreeSet<(Name, i32)> {
        let of_group = self.appends.in_flight.values().filter(|a| a.group == *group);
        of_group
            .flat_map(|append| &append.records)
            .filter_map(|(key, value)| match records::parse_key(key) {
                Ok(Key::Offset { topic, partition, .. }) if value.is_some() => Some((topic, partition)),
                _ => None,
            })
            .collect()
    }

    /// Appends records; if there are none, what should happen then happens now.
    fn write(&mut self, now: Now, group: &Name, partition: i32, records: Vec<Record>, then: Then, out: &mut Vec<Effect>) {
        if records.is_empty() {
            let nothing = InFlight {
                group: group.clone(),
                partition,
                records,
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
        cx.append(group, partition, records, then);
    }

    /// The append of [`Effect::Append`] ended. Appends to one partition end in the order in which
    /// they were asked for.
    pub fn appended(&mut self, now: Now, append: u64, result: Result<(), ErrorCode>, out: &mut Vec<Effect>) {
        if let Some(ended) = self.appends.in_flight.remove(&append) {
            let error = result.err().map_or(ErrorCode::None, client_error);
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
        for (key, value) in &ended.records {
            let replayed = self.replay(ended.partition, key, value.as_deref(), -1);
            debug_assert!(replayed.is_ok(), "own records can be read");
        }
    }

    /// Applies one durable record: at start each record of the topic, in log order. The timestamp
    /// (wall clock ms) stands in where an old record does not say since when a group is as it is.
    pub fn replay(&mut self, partition: i32, key: &[u8], value: Option<&[u8]>, record_ms: i64) -> Result<(), RecordError> {
        match records::parse_key(key)? {
            Key::Offset { group, topic, partition: of_topic } => {
                self.replay_offset(partition, group, topic, of_topic, value)
            }
            Key::Group(id) => {
                let group = match value {
                    Some(value) => {
                        let value = records::parse_group_value(value)?;
                        Some(ClassicGroup::from_value(id.clone(), partition, value, record_ms))
                    }
                    None => None,
                };
                self.replay_group(partition, id, group);
                Ok(())
            }
            Key::Other(_) => Ok(()),
        }
    }

    fn replay_offset(&mut self, partition: i32, group: Name, topic: Name, of_topic: i32, value: Option<&[u8]>) -> Result<(), RecordError> {
        let Some(value) = value else {
            if let Some(entry) = self.groups.get_mut(&group) {
                entry.offsets.remove(&topic, of_topic);
            }
            return Ok(());
        };
        let committed = records::parse_offset_value(value)?;
        let entry = self.groups.entry(group.clone()).or_insert_with(|| Entry {
            group: ClassicGroup::new(group, partition, None),
            offsets: GroupOffsets::default(),
        });
        entry.offsets.put(topic, of_topic, committed);
        Ok(())
    }

    fn replay_group(&mut self, partition: i32, id: Name, group: Option<ClassicGroup>) {
        let offsets = self.groups.remove(&id).map(|entry| entry.offsets).unwrap_or_default();
        // A tombstone leaves offsets alone: Kafka writes one without touching them when a group
        // goes over to the new protocol.
        let group = match group {
            None if offsets.is_empty() => return,
            None => ClassicGroup::new(id.clone(), partition, None),
            Some(group) => group,
        };
        self.groups.insert(id, Entry { group, offsets });
    }

    /// Every record has been replayed: sessions start anew, since nobody could send heartbeats.
    pub fn loaded(&mut self, now: Now, out: &mut Vec<Effect>) {
        let max_size = self.config.max_size;
        let ids: Vec<Name> = self.groups.keys().cloned().collect();
        for id in ids {
            self.with_group(now, &id, out, |group, cx| {
                for member in group.member_ids() {
                    group.touch(cx, &member);
                }
                if group.size() > max_size {
                    group.prepare_rebalance(cx);
                }
            });
        }
        let interval = self.config.offsets_retention_check_interval_ms;
        self.timers.set(Timer::Expiry, now.mono.plus_ms(interval));
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Now, out: &mut Vec<Effect>) {
        while let Some(timer) = self.timers.pop_due(now.mono) {
            match timer {
                Timer::Session(group, member) => {
                    self.with_group(now, &group, out, |g, cx| g.session_is_over(cx, &member));
                }
                Timer::Join(group) => {
                    self.with_group(now, &group, out, ClassicGroup::join_time_is_up);
                }
                Timer::Sync(group) => {
                    self.with_group(now, &group, out, ClassicGroup::sync_time_is_up);
                }
                Timer::Expiry => self.expire(now, out),
            }
        }
    }

    /// When [`Coordinator::tick`] has something to do next.
    #[must_use]
    pub fn next_deadline(&self) -> Mono {
        self.timers.next_deadline()
    }

    /// Writes tombstones for offsets whose retention is over, and for empty groups without offsets.
    fn expire(&mut self, now: Now, out: &mut Vec<Effect>) {
        let from = self.expiry_cursor.take().map_or(Bound::Unbounded, Bound::Excluded);
        let range = self.groups.range::<Name, _>((from, Bound::Unbounded));
        let ids: Vec<Name> = range.take(EXPIRY_CHUNK).map(|(id, _)| id.clone()).collect();
        if ids.len() < EXPIRY_CHUNK {
            let interval = self.config.offsets_retention_check_interval_ms;
            self.timers.set(Timer::Expiry, now.mono.plus_ms(interval));
        } else {
            self.expiry_cursor = ids.last().cloned();
            self.timers.set(Timer::Expiry, Mono(now.mono.0.saturating_add(1)));
        }
        // A commit on its way may renew an offset that looks expired; such groups can wait.
        let busy: BTreeSet<Name> = self.appends.in_flight.values().map(|a| a.group.clone()).collect();
        for id in ids.iter().filter(|id| !busy.contains(*id)) {
            self.expire_group(now, id, out);
        }
    }

    fn expire_group(&mut self, now: Now, id: &Name, out: &mut Vec<Effect>) {
        let Some(entry) = self.groups.get(id) else {
            return;
        };
        let retention_ms = self.config.offsets_retention_ms;
        let (expired, all) = entry.offsets.expired(&entry.group, now.wall_ms, retention_ms);
        if all && entry.group.state() == State::Empty && entry.group.pending_join.is_empty() {
            return self.bury(now, id, Then::Delete(None), out);
        }
        let partition = entry.group.partition;
        let records = tombstones(id, &expired);
        self.write(now, id, partition, records, Then::Replay(None), out);
    }

    /// A topic was deleted: nobody's offsets for it mean anything any more.
    pub fn topic_deleted(&mut self, now: Now, topic: &str, out: &mut Vec<Effect>) {
        let mut targets: BTreeMap<(Name, i32), BTreeSet<(Name, i32)>> = BTreeMap::new();
        for (id, entry) in &self.groups {
            let found: BTreeSet<_> = entry.offsets.partitions(topic).map(|p| (Name::from(topic), p)).collect();
            if !found.is_empty() {
                targets.insert((id.clone(), entry.group.partition), found);
            }
        }
        for append in self.appends.in_flight.values() {
            let key = (append.group.clone(), append.partition);
            let offsets = self.offsets_in_flight(&append.group);
            let of_topic: Vec<_> = offsets.into_iter().filter(|(t, _)| **t == *topic).collect();
            if !of_topic.is_empty() {
                targets.entry(key).or_default().extend(of_topic);
            }
        }
        for ((id, partition), found) in targets {
            let records = tombstones(&id, &found);
            self.write(now, &id, partition, records, Then::Replay(None), out);
        }
    }

    /// The broker goes down: everybody who waits for a rebalance is sent to find the coordinator.
    pub fn unload(&mut self, now: Now, out: &mut Vec<Effect>) {
        let ids: Vec<Name> = self.groups.keys().cloned().collect();
        for id in ids {
            self.with_group(now, &id, out, |group, cx| {
                for member in group.member_ids() {
                    let reply = JoinReply::error(ErrorCode::NotCoordinator, member.clone());
                    group.answer_join(cx, &member, reply);
                    group.answer_sync(cx, &member, SyncReply::error(ErrorCode::NotCoordinator));
                }
            });
        }
    }

    /// Panics if something is wrong inside. For tests and the simulator.
    pub fn invariants(&self) {
        for (id, entry) in &self.groups {
            assert_eq!(id, entry.group.id());
            entry.group.invariants();
            for (member, m) in entry.group.members() {
                let session = Timer::Session(id.clone(), member.clone());
                let watched = m.has_satisfied_heartbeat() || self.timers.contains(&session);
                assert!(watched, "member {member} of {id} would stay for ever");
            }
            for member in &entry.group.pending_join {
                assert!(self.timers.contains(&Timer::Session(id.clone(), member.clone())));
            }
            if entry.group.state() == State::PreparingRebalance {
                let waits = self.timers.contains(&Timer::Join(id.clone()));
                assert!(waits, "the join phase of {id} would never end");
            }
            let syncing = entry.group.state() == State::CompletingRebalance;
            if syncing && !entry.group.pending_sync.is_empty() {
                assert!(self.timers.contains(&Timer::Sync(id.clone())), "sync phase of {id}");
            }
        }
    }
}

fn tombstones<'a>(group: &str, targets: impl IntoIterator<Item = &'a (Name, i32)>) -> Vec<Record> {
    let key = |(topic, partition): &(Name, i32)| (records::offset_key(group, topic, *partition), None);
    targets.into_iter().map(key).collect()
}
