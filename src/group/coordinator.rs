//! The groups of one partition of `__consumer_offsets`: finds the group of a request, keeps the timers and
//! the appends in flight, and turns durable records into committed offsets.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::classic::ClassicGroup;
use super::consumer::{ConsumerConfig, ConsumerGroup, GroupTopics};
use super::cx::{Appends, Cx, GroupConfig, OwnSettings, Timer};
use super::effect::{Effect, JoinReply, SyncReply};
use super::join::JoinRequest;
use super::member::carried;
use super::offsets::GroupOffsets;
use super::pending::{OpenTransactions, PendingOffsets};
use super::progress::{GoesOn, SnapshotProgress, Sweep};
use super::rebalance::{Leaving, SyncRequest};
use super::state::State;
use super::streams::{StreamsConfig, StreamsGroup};
use crate::base::Name;
use crate::base::{ErrorCode, Mono, Now, Rng, Timers, limits};

/// Longest prefix of a generated member id, so that the id stays below Kafka's 32767 bytes.
const MEMBER_ID_PREFIX_BYTES_MAX: usize = 32_000;

/// Who sends a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
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
pub(super) struct Entry {
    pub(super) group: ClassicGroup,
    pub(super) offsets: GroupOffsets,
    /// The group of the consumer protocol that it is. The classic one is empty then.
    pub(super) consumer: Option<Box<ConsumerGroup>>,
    /// The streams group that it is. The classic one is empty then, and it is none of the consumer protocol.
    pub(super) streams: Option<Box<StreamsGroup>>,
    /// Of transactions that are not over.
    pub(super) pending: PendingOffsets,
    /// The value of the group's own record that is durable; the group may be ahead of it.
    pub(super) record: Option<Bytes>,
}

impl Entry {
    pub(super) fn new(group: ClassicGroup, offsets: GroupOffsets) -> Self {
        Self {
            group,
            offsets,
            consumer: None,
            streams: None,
            pending: PendingOffsets::default(),
            record: None,
        }
    }

    /// Whether nobody is a member, or about to be.
    pub(super) fn is_unused(&self) -> bool {
        let consumer = self.consumer.as_ref();
        self.group.state() == State::Empty
            && self.group.pending_join.is_empty()
            && consumer.is_none_or(|consumer| consumer.is_unused())
            && self
                .streams
                .as_ref()
                .is_none_or(|streams| streams.is_unused())
    }

    /// Whether it is a classic group.
    pub(super) fn is_classic(&self) -> bool {
        self.consumer.is_none() && self.streams.is_none()
    }

    /// Whether members may be subscribed to a topic.
    pub(super) fn is_subscribed_to(&self, topic: &str) -> bool {
        match (&self.consumer, &self.streams) {
            (Some(consumer), _) => consumer.state().is_subscribed_to(topic),
            (None, Some(streams)) => streams.is_subscribed_to(topic),
            (None, None) => self.group.is_subscribed_to(topic),
        }
    }

    /// What has expired by now of its offsets, from a place on. Those of another than
    /// a classic group count from each commit.
    pub(super) fn expired<'a>(
        &'a self,
        after: Option<&(Name, i32)>,
        times: (i64, i64),
    ) -> impl Iterator<Item = (&'a Name, i32, bool)> + use<'a> {
        let since = match self.is_classic() {
            false => Some(None),
            true => self.group.expiry_base(),
        };
        let is_used = |topic: &str| self.is_subscribed_to(topic);
        self.offsets.expired((since, is_used), after, times)
    }

    /// Bytes that what is durable of it takes in a log, about.
    pub(super) fn record_bytes(&self) -> usize {
        /// What a record has besides the group's id and its value.
        const FIXED_BYTES: usize = 16;
        let id_bytes = self.group.id().len();
        let record = self.record.as_ref();
        let consumer = self.consumer.as_ref();
        record.map_or(0, |value| FIXED_BYTES + id_bytes + value.len())
            + consumer.map_or(0, |consumer| consumer.state().record_bytes())
            + self
                .streams
                .as_ref()
                .map_or(0, |streams| streams.state().record_bytes())
            + self.offsets.record_bytes(id_bytes)
    }

    /// Whether a new target is being made, in slices.
    pub(super) fn is_refreshing(&self) -> bool {
        let consumer = self.consumer.as_ref();
        consumer.is_some_and(|consumer| consumer.is_refreshing())
            || self
                .streams
                .as_ref()
                .is_some_and(|streams| streams.is_refreshing())
    }

    /// What the group takes, about, with the record that is kept of it.
    pub(super) fn bytes(&self) -> usize {
        /// A group by itself, with its entries in tables.
        const GROUP_BYTES: usize = 1024;
        let record = self.record.as_ref().map_or(0, Bytes::len);
        let consumer = self
            .consumer
            .as_ref()
            .map_or(0, |consumer| consumer.bytes());
        let streams = self.streams.as_ref().map_or(0, |streams| streams.bytes());
        let offsets = self.offsets.bytes() + self.pending.bytes() + consumer + streams;
        GROUP_BYTES + self.group.id().len() + self.group.bytes + record + offsets
    }
}

/// What groups take, or may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupsUsage {
    /// Groups.
    pub groups: usize,
    /// Bytes of all that is known of them and of what is being written, about.
    pub bytes: usize,
    /// New targets of consumer groups that are being made in slices ([`limits::GROUP_REFRESHES_MAX`]).
    pub refreshes: usize,
}

/// The coordinator of the groups of one partition. Requests carry a token, under which they are
/// answered, at once or later, by an [`Effect`] (or at once by the return value).
#[derive(Debug)]
pub struct Coordinator {
    pub(super) config: GroupConfig,
    pub(super) groups: BTreeMap<Name, Entry>,
    /// What they take.
    pub(super) bytes: usize,
    /// New targets that are being made.
    pub(super) refreshes: usize,
    /// What new groups, members and commits may take.
    pub(super) room: GroupsUsage,
    pub(super) timers: Timers<Timer>,
    pub(super) appends: Appends,
    /// The [order](super::offsets::LogPlace::order) of the last record that became durable.
    pub(super) placed: u64,
    pub(super) rng: Rng,
    /// How far the search for expired offsets is.
    pub(super) expiry: GoesOn,
    /// While offsets of topics that are gone are looked for.
    pub(super) sweep: Option<Sweep>,
    /// The number of the first append that was begun after that was last asked for.
    pub(super) swept: u64,
    /// There is to be another pass when a transaction is over.
    pub(super) sweeps_behind: bool,
    /// Transactions that are not over.
    pub(super) open: OpenTransactions,
    /// Bytes that what is durable takes in a log, about.
    pub(super) durable_bytes: usize,
    /// One that is being made.
    pub(super) snapshot: Option<SnapshotProgress>,
    /// Everything was replayed, and nothing is forgotten yet.
    pub(super) loaded: bool,
    /// There are records that this release does not understand.
    pub(super) foreign: bool,
}

impl Coordinator {
    /// A coordinator without groups. The seed is for member ids.
    #[must_use]
    pub fn new(config: GroupConfig, seed: u64) -> Self {
        Self {
            config,
            groups: BTreeMap::new(),
            bytes: 0,
            refreshes: 0,
            room: GroupsUsage {
                groups: limits::GROUPS_MAX,
                bytes: limits::GROUPS_BYTES_MAX,
                refreshes: limits::GROUP_REFRESHES_MAX,
            },
            timers: Timers::default(),
            appends: Appends {
                next: 1,
                ..Appends::default()
            },
            placed: 0,
            rng: Rng::new(seed),
            expiry: GoesOn::default(),
            sweep: None,
            swept: 0,
            sweeps_behind: false,
            open: OpenTransactions::default(),
            durable_bytes: 0,
            snapshot: None,
            loaded: false,
            foreign: false,
        }
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &GroupConfig {
        &self.config
    }

    /// What consumer groups obey has changed.
    pub fn set_consumer_config(&mut self, config: ConsumerConfig) {
        self.config.consumer = config;
    }

    /// What streams groups obey has changed.
    pub fn set_streams_config(&mut self, config: StreamsConfig) {
        self.config.streams = config;
    }

    /// What single groups have of their own has changed.
    pub fn set_own(&mut self, own: Arc<dyn OwnSettings>) {
        self.config.own = Some(own);
    }

    /// What its groups take, and what is being written.
    #[must_use]
    pub fn usage(&self) -> GroupsUsage {
        GroupsUsage {
            groups: self.groups.len(),
            bytes: self.bytes + self.appends.bytes,
            refreshes: self.refreshes,
        }
    }

    /// What there is room for besides. Who would take more gets COORDINATOR_NOT_AVAILABLE.
    pub fn set_room(&mut self, room: GroupsUsage) {
        self.room = room;
    }

    /// Adds a group that there is not, and counts it.
    pub(super) fn add(&mut self, id: Name, entry: Entry) {
        self.bytes += entry.bytes();
        self.durable_bytes += entry.record_bytes();
        self.groups.insert(id, entry);
    }

    /// Takes a group out, if there is one.
    pub(super) fn take_out(&mut self, id: &str) -> Option<Entry> {
        let entry = self.groups.remove(id)?;
        self.bytes -= entry.bytes();
        self.durable_bytes -= entry.record_bytes();
        self.count_refreshes(entry.is_refreshing(), false);
        Some(entry)
    }

    /// Changes what is durable of a group, if there is one.
    pub(super) fn change(&mut self, id: &str, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.groups.get_mut(id) {
            self.bytes -= entry.bytes();
            self.durable_bytes -= entry.record_bytes();
            let refreshed = entry.is_refreshing();
            change(entry);
            self.bytes += entry.bytes();
            self.durable_bytes += entry.record_bytes();
            let refreshes = entry.is_refreshing();
            self.count_refreshes(refreshed, refreshes);
        }
    }

    /// Whether there is a target being made of a group, before and now.
    fn count_refreshes(&mut self, before: bool, now: bool) {
        let (before, now) = (usize::from(before), usize::from(now));
        self.refreshes = self.refreshes + now - before;
        self.room.refreshes = (self.room.refreshes + before).saturating_sub(now);
    }

    /// A classic group.
    #[must_use]
    pub fn group(&self, id: &str) -> Option<&ClassicGroup> {
        let entry = self.groups.get(id)?;
        entry.is_classic().then_some(&entry.group)
    }

    /// All of them as classic groups, which those of the consumer protocol are without members; by id.
    pub fn groups(&self) -> impl Iterator<Item = &ClassicGroup> {
        self.groups.values().map(|entry| &entry.group)
    }

    /// The committed offsets of a group; durable ones only.
    #[must_use]
    pub fn offsets(&self, id: &str) -> Option<&GroupOffsets> {
        self.groups.get(id).map(|entry| &entry.offsets)
    }

    pub(super) fn with_group<R>(
        &mut self,
        now: Now,
        id: &str,
        out: &mut Vec<Effect>,
        f: impl FnOnce(&mut ClassicGroup, &mut Cx<'_>) -> R,
    ) -> Option<R> {
        let entry = self.groups.get_mut(id)?;
        let before = entry.group.bytes;
        let mut cx = Cx {
            now,
            config: &self.config,
            timers: &mut self.timers,
            appends: &mut self.appends,
            out,
        };
        let done = f(&mut entry.group, &mut cx);
        self.bytes = self.bytes + entry.group.bytes - before;
        Some(done)
    }

    /// JoinGroup.
    pub fn join(&mut self, now: Now, token: u64, request: JoinRequest, out: &mut Vec<Effect>) {
        let limits = self.config.min_session_timeout_ms..=self.config.max_session_timeout_ms;
        let exists = self.groups.contains_key(&request.group);
        let error = if request.group.is_empty() {
            ErrorCode::InvalidGroupId
        } else if !limits.contains(&request.session_timeout_ms) {
            ErrorCode::InvalidSessionTimeout
        } else if !exists && !request.member.is_empty() {
            ErrorCode::UnknownMemberId
        } else if !self.has_room_for(&request) {
            ErrorCode::CoordinatorNotAvailable
        } else {
            ErrorCode::None
        };
        if !error.is_none() {
            return out.push(Effect::Joined(
                token,
                JoinReply::error(error, request.member),
            ));
        }
        let id = request.group.clone();
        let new_id = self.new_member_id(&request);
        if let Err(error) = self.becomes_classic(now, &id, out) {
            let refused = JoinReply::error(error, request.member);
            return out.push(Effect::Joined(token, refused));
        }
        if !exists {
            let group = ClassicGroup::new(id.clone(), Some(now.wall_ms));
            let offsets = GroupOffsets::default();
            self.add(id.clone(), Entry::new(group, offsets));
        }
        self.with_group(now, &id, out, |group, cx| {
            if !exists {
                // So that the topic, and who reads it, knows the group from its first moment.
                group.write_metadata(cx);
            }
            group.join(cx, token, request, new_id);
        });
    }

    /// Whether there is room for one who joins, unless it is a member already.
    fn has_room_for(&self, request: &JoinRequest) -> bool {
        let group = self.group(&request.group);
        if group.is_some_and(|group| group.member(&request.member).is_some()) {
            return true;
        }
        let names = [&*request.client_id, &request.client_host, &request.group];
        let bytes = carried(names, &request.protocols);
        bytes <= self.room.bytes && (group.is_some() || self.room.groups > 0)
    }

    /// The prefix tells people who it is; the random part makes it unique. Unless a restarted
    /// broker is given the same seed again: then ids that are taken are skipped.
    fn new_member_id(&mut self, request: &JoinRequest) -> Name {
        loop {
            let id = self.random_member_id(request);
            let group = self.group(&request.group);
            if !group.is_some_and(|g| g.member(&id).is_some() || g.pending_join.contains(&id)) {
                return id;
            }
        }
    }

    fn random_member_id(&mut self, request: &JoinRequest) -> Name {
        let prefix = request.instance.as_deref().unwrap_or(&request.client_id);
        let mut len = prefix.len().min(MEMBER_ID_PREFIX_BYTES_MAX);
        while !prefix.is_char_boundary(len) {
            len -= 1;
        }
        let id = u128::from_be_bytes(self.rng.uuid());
        let (a, b, c) = (id >> 96, id >> 80 & 0xffff, id >> 64 & 0xffff);
        let (d, e) = (id >> 48 & 0xffff, id & 0xffff_ffff_ffff);
        Name::from(format!(
            "{}-{a:08x}-{b:04x}-{c:04x}-{d:04x}-{e:012x}",
            &prefix[..len]
        ))
    }

    /// SyncGroup.
    pub fn sync(&mut self, now: Now, token: u64, request: SyncRequest, out: &mut Vec<Effect>) {
        let error = match request.group.is_empty() {
            true => ErrorCode::InvalidGroupId,
            false => ErrorCode::UnknownMemberId,
        };
        let id = request.group.clone();
        if self
            .with_group(now, &id, out, |group, cx| group.sync(cx, token, request))
            .is_none()
        {
            out.push(Effect::Synced(token, SyncReply::error(error)));
        }
    }

    /// Heartbeat.
    pub fn heartbeat(
        &mut self,
        now: Now,
        request: &HeartbeatRequest,
        out: &mut Vec<Effect>,
    ) -> ErrorCode {
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
    pub fn leave(
        &mut self,
        now: Now,
        group: &str,
        leaving: &[Leaving],
        out: &mut Vec<Effect>,
    ) -> Result<Vec<ErrorCode>, ErrorCode> {
        if group.is_empty() {
            return Err(ErrorCode::InvalidGroupId);
        }
        self.with_group(now, group, out, |group, cx| group.leave(cx, leaving))
            .unwrap_or_else(|| Ok(vec![ErrorCode::UnknownMemberId; leaving.len()]))
    }

    /// Whether nothing is being written.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.appends.in_flight.is_empty()
    }

    /// Every record has been replayed: sessions start anew, since nobody could send heartbeats.
    pub fn loaded(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.loaded = true;
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
            self.consumer_loaded(now, &id);
            self.streams_loaded(now, &id);
        }
        let interval = self.config.offsets_retention_check_interval_ms;
        self.timers.set_after(Timer::Expiry, now.mono, interval);
    }

    /// Does what is due, as much as is `left` of a slice. It ends because all timers are set for later than `now`
    /// ([`Timers::set_after`]).
    pub fn tick(
        &mut self,
        now: Now,
        topics: &dyn GroupTopics,
        left: &mut usize,
        out: &mut Vec<Effect>,
    ) {
        /// What a timer of a group takes, in offsets that are looked at.
        const TIMER_WORK: usize = 16;
        while *left > 0
            && let Some(timer) = self.timers.pop_due(now.mono)
        {
            *left = left.saturating_sub(TIMER_WORK);
            let timer = self.consumer_timer((now, topics), timer, left, out);
            let timer = timer.and_then(|it| self.streams_timer((now, topics), it, left, out));
            let Some(timer) = timer else {
                continue;
            };
            let told = out.len();
            let mut removed = 0;
            let mut of_group = |group: &Name, due: fn(&mut ClassicGroup, &mut Cx<'_>)| {
                let members = self.with_group(now, group, out, |group, cx| {
                    let before = group.size();
                    due(group, cx);
                    before - group.size()
                });
                removed += members.unwrap_or(0);
            };
            match timer {
                Timer::Session(group, member) => {
                    self.with_group(now, &group, out, |g, cx| g.session_is_over(cx, &member));
                }
                Timer::Join(group) => of_group(&group, ClassicGroup::join_time_is_up),
                Timer::Sync(group) => of_group(&group, ClassicGroup::sync_time_is_up),
                Timer::GoOn(group) => of_group(&group, ClassicGroup::go_on),
                Timer::Expiry => {
                    self.expire(now, left, out);
                    continue;
                }
                Timer::Sweep => self.sweep_again(),
                // It was that of a group which is a classic one by now.
                Timer::Rebalance(..) => {}
            }
            // Whoever is told something, or removed, takes as much as a timer.
            let work = removed + out.len() - told;
            *left = left.saturating_sub(work * TIMER_WORK);
        }
    }

    /// When [`Coordinator::tick`] has something to do next.
    #[must_use]
    pub fn next_deadline(&self) -> Mono {
        self.timers.next_deadline()
    }

    /// The partition is given up: everybody who waits for a rebalance is sent to find the coordinator,
    /// and the groups are forgotten. Appends in flight still get their answers.
    pub fn unload(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.loaded = false;
        let ids: Vec<Name> = self.groups.keys().cloned().collect();
        for id in ids {
            self.with_group(now, &id, out, |group, cx| {
                for member in group.member_ids() {
                    let reply = JoinReply::error(ErrorCode::NotCoordinator, member.clone());
                    group.answer_join(cx, &member, reply);
                    group.answer_sync(cx, &member, SyncReply::error(ErrorCode::NotCoordinator));
                }
            });
            self.give_up_consumer(&id, out);
            self.give_up_streams(&id, out);
        }
        self.groups.clear();
        (self.bytes, self.refreshes) = (0, 0);
        self.durable_bytes = 0;
        self.end_snapshot();
        self.sweep = None;
        self.sweeps_behind = false;
        self.open = OpenTransactions::default();
        self.timers = Timers::default();
    }
}
