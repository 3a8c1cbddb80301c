//! A coordinator with a virtual clock and a log, for the tests of this directory.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::coordinator::HeartbeatRequest;
use super::join::JoinRequest;
use super::rebalance::{Leaving, SyncRequest};
use super::records::{self, Key};
use super::streams::{InternalTopic, StreamsReply};
use super::writes::CommitRequest;
use super::{
    Committed, ConsumerReply, Coordinator, Effect, GroupConfig, GroupTopics, JoinReply, Name, News,
    NoTopics, OffsetToCommit, Protocol, Record, Replayed, State, SyncReply, TopicIds,
    TransactionalProducer,
};
use crate::base::limits::OFFSETS_PER_SLICE;
use crate::base::{ErrorCode, Mono, Now, TopicId};

/// What somebody commits who is no member of group `g`: offset 5 of partition 0 of a topic.
pub fn commit_of(topic: &str, id: TopicId, now: Now) -> CommitRequest {
    CommitRequest {
        group: Name::from("g"),
        member: Name::from(""),
        instance: None,
        generation: -1,
        knows_group_id_not_found: true,
        producer: None,
        offsets: vec![OffsetToCommit {
            topic: Name::from(topic),
            partition: 0,
            committed: Committed {
                topic_id: id,
                offset: 5,
                leader_epoch: -1,
                metadata: Name::from(""),
                commit_ms: now.wall_ms,
                expire_ms: None,
                lacks_id: false,
            },
        }],
    }
}

impl Pending {
    /// Its records in the log.
    pub fn logged(&self) -> impl Iterator<Item = Logged> {
        Logged::all(&self.records, self.producer)
    }

    /// Bytes of its keys and values.
    pub fn bytes(&self) -> usize {
        let of = |(key, value): &Record| key.len() + value.as_ref().map_or(0, Bytes::len);
        self.records.iter().map(of).sum()
    }
}

/// An append that has not ended.
pub struct Pending {
    pub append: u64,
    pub records: Arc<[Record]>,
    /// In whose transaction.
    pub producer: Option<i64>,
    /// It is in the log, and nobody waits for it any more.
    pub is_late: bool,
    /// Markers behind it.
    pub markers: Vec<(i64, bool)>,
}

/// What a log holds.
#[derive(Clone, Debug)]
pub enum Logged {
    /// A record, perhaps in a transaction of a producer.
    Record(Record, Option<i64>),
    /// The end of a transaction, committed or not.
    Marker(i64, bool),
}

impl Logged {
    pub fn all(records: &[Record], producer: Option<i64>) -> impl Iterator<Item = Self> {
        let records = records.iter().cloned();
        records.map(move |record| Self::Record(record, producer))
    }
}

/// A coordinator that reads it knows this.
pub fn replay(
    coordinator: &mut Coordinator,
    logged: &Logged,
    timestamp_ms: i64,
    ids: TopicIds<'_>,
) {
    match logged {
        Logged::Record((key, value), producer) => {
            let record = Replayed {
                key,
                value: value.as_deref(),
                timestamp_ms,
                producer: *producer,
            };
            coordinator.replay(record, ids).unwrap();
        }
        Logged::Marker(producer, commits) => coordinator.marker(*producer, *commits),
    }
}

/// Group, topic and partition of an offset.
pub type OffsetPlace = (Name, Name, i32);

/// What a log says of offsets, by the rules alone.
#[derive(Clone, Debug, Default)]
pub struct LoggedOffsets {
    at: usize,
    /// By group, topic and partition: the offset, and where it was written.
    committed: BTreeMap<OffsetPlace, (i64, usize)>,
    /// The same by producer.
    pending: BTreeMap<(i64, OffsetPlace), (i64, usize)>,
}

impl LoggedOffsets {
    pub fn of<'a>(log: impl IntoIterator<Item = &'a Logged>) -> Self {
        let mut offsets = Self::default();
        log.into_iter().for_each(|logged| offsets.add(logged));
        offsets
    }

    pub fn add(&mut self, logged: &Logged) {
        self.at += 1;
        match logged {
            Logged::Record((key, value), producer) => {
                let Ok(Key::Offset {
                    group,
                    topic,
                    partition,
                }) = records::parse_key(key)
                else {
                    return;
                };
                let of = (Name::from(group), Name::from(topic), partition);
                let Some(value) = value else {
                    self.committed.remove(&of);
                    return self.pending.retain(|(_, pending), _| *pending != of);
                };
                let offset = records::parse_offset_value(value).unwrap().offset;
                match producer {
                    None => self.committed.insert(of, (offset, self.at)),
                    Some(producer) => self.pending.insert((*producer, of), (offset, self.at)),
                };
            }
            Logged::Marker(producer, commits) => {
                let of_all = std::mem::take(&mut self.pending);
                for ((of_producer, of), (offset, at)) in of_all {
                    if of_producer != *producer {
                        self.pending.insert((of_producer, of), (offset, at));
                    } else if *commits && self.committed.get(&of).is_none_or(|it| it.1 < at) {
                        self.committed.insert(of, (offset, at));
                    }
                }
            }
        }
    }

    /// What is committed.
    pub fn committed(&self) -> BTreeMap<OffsetPlace, i64> {
        let committed = self.committed.iter();
        committed
            .map(|(of, (offset, _))| (of.clone(), *offset))
            .collect()
    }

    /// For what transactions have offsets.
    pub fn pending(&self) -> Vec<OffsetPlace> {
        let pending = self.pending.keys();
        let all: std::collections::BTreeSet<_> = pending.map(|(_, of)| of.clone()).collect();
        all.into_iter().collect()
    }
}

impl Coordinator {
    /// What is committed.
    pub fn all_committed(&self) -> BTreeMap<OffsetPlace, i64> {
        let groups = self.groups.iter();
        let all = groups.flat_map(|(id, entry)| {
            let offsets = entry.offsets.after(None);
            offsets.map(|(topic, p, it)| ((id.clone(), topic.clone(), p), it.offset))
        });
        all.collect()
    }

    /// For what transactions have offsets.
    pub fn all_pending(&self) -> Vec<OffsetPlace> {
        let groups = self.groups.iter();
        let all = groups.flat_map(|(id, entry)| {
            let places = entry.pending.places();
            places.map(|(topic, p)| (id.clone(), topic.clone(), p))
        });
        all.collect()
    }
}

/// The coordinator and the world around it.
pub struct World {
    pub coordinator: Coordinator,
    pub now: Now,
    /// Appends end at once unless this is set.
    pub hold_appends: bool,
    pub pending: VecDeque<Pending>,
    /// Those in transactions that are being looked at, if appends do not end at once.
    pub parked: VecDeque<Pending>,
    pub log: Vec<Logged>,
    pub joined: BTreeMap<u64, JoinReply>,
    pub synced: BTreeMap<u64, SyncReply>,
    pub written: BTreeMap<u64, ErrorCode>,
    /// Those of consumer groups.
    pub heartbeats: BTreeMap<u64, ConsumerReply>,
    /// Those of streams groups, and topics that they want.
    pub streams_heartbeats: BTreeMap<u64, StreamsReply>,
    pub created: Vec<InternalTopic>,
    /// How often it was said that a group is too large.
    pub too_large: usize,
    /// What became of groups.
    pub news: Vec<(Name, News)>,
    pub topics: Box<dyn GroupTopics>,
    /// How often the coordinator saw that something is due.
    pub ticks: u64,
    /// What is done of what is due at a time.
    pub slice: usize,
    next_token: u64,
    config: GroupConfig,
}

/// A member of group `g` as its client sees it.
#[derive(Clone, Debug)]
pub struct Client {
    pub group: Name,
    pub id: Name,
    pub instance: Option<Name>,
    pub generation: i32,
    pub protocols: Vec<(&'static str, &'static str)>,
    pub session_timeout_ms: i32,
    pub rebalance_timeout_ms: i32,
    pub version: i16,
}

impl Client {
    pub fn new() -> Self {
        Self {
            group: Name::from("g"),
            id: Name::from(""),
            instance: None,
            generation: -1,
            protocols: vec![("range", "r")],
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 60_000,
            version: 5,
        }
    }

    pub fn fixed(instance: &str) -> Self {
        Self {
            instance: Some(Name::from(instance)),
            ..Self::new()
        }
    }

    pub fn with_protocols(protocols: &[(&'static str, &'static str)]) -> Self {
        Self {
            protocols: protocols.to_vec(),
            ..Self::new()
        }
    }
}

impl World {
    pub fn new(config: GroupConfig) -> Self {
        let now = Now {
            mono: Mono(1),
            wall_ms: 1_000_000,
        };
        let mut world = Self {
            coordinator: Coordinator::new(config.clone(), 7),
            now,
            hold_appends: false,
            pending: VecDeque::new(),
            parked: VecDeque::new(),
            log: Vec::new(),
            joined: BTreeMap::new(),
            synced: BTreeMap::new(),
            written: BTreeMap::new(),
            heartbeats: BTreeMap::new(),
            streams_heartbeats: BTreeMap::new(),
            created: Vec::new(),
            too_large: 0,
            news: Vec::new(),
            topics: Box::new(NoTopics),
            ticks: 0,
            slice: OFFSETS_PER_SLICE,
            next_token: 0,
            config,
        };
        world.coordinator.loaded(now, &mut Vec::new());
        world
    }

    pub fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }

    /// Performs effects; every token is answered once.
    pub fn perform(&mut self, effects: Vec<Effect>) {
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Joined(token, reply) => assert!(self.joined.insert(token, reply).is_none()),
                Effect::Synced(token, reply) => assert!(self.synced.insert(token, reply).is_none()),
                Effect::Heartbeat(token, reply) => {
                    assert!(self.heartbeats.insert(token, reply).is_none());
                }
                Effect::StreamsHeartbeat(token, reply) => {
                    assert!(self.streams_heartbeats.insert(token, reply).is_none());
                }
                Effect::CreateTopics(_, topics) => self.created.extend(topics),
                Effect::TooLarge(_) => self.too_large += 1,
                Effect::News(group, news) => self.news.push((group, news)),
                Effect::Written(token, error) => {
                    assert!(self.written.insert(token, error).is_none())
                }
                Effect::Append {
                    append,
                    records,
                    producer,
                } => {
                    assert!(!records.is_empty());
                    let pending = Pending {
                        append,
                        records,
                        producer: producer.map(|producer| producer.id),
                        is_late: false,
                        markers: Vec::new(),
                    };
                    if !self.hold_appends {
                        self.pending.push_back(pending);
                        effects.extend(self.end_append(Ok(())));
                    } else if pending.producer.is_some() {
                        self.parked.push_back(pending);
                    } else {
                        self.pending.push_back(pending);
                    }
                }
            }
        }
        self.coordinator.invariants();
    }

    fn end_append(&mut self, result: Result<(), ErrorCode>) -> Vec<Effect> {
        let mut effects = Vec::new();
        if let Some(pending) = self.pending.pop_front() {
            if result.is_ok() {
                self.log.extend(pending.logged());
            }
            self.coordinator
                .appended(self.now, pending.append, result, &mut effects);
            for (producer, commits) in pending.markers {
                self.log.push(Logged::Marker(producer, commits));
                self.coordinator.marker(producer, commits);
            }
        }
        effects
    }

    /// It is known whether the oldest append in a transaction may be in the log.
    pub fn verified(&mut self, result: Result<(), ErrorCode>) {
        let Some(parked) = self.parked.pop_front() else {
            return;
        };
        match result {
            Ok(()) => self.pending.push_back(parked),
            Err(error) => {
                let (now, mut effects) = (self.now, Vec::new());
                self.coordinator
                    .appended(now, parked.append, Err(error), &mut effects);
                self.perform(effects);
            }
        }
    }

    /// A transaction is over: a marker comes to be in the log behind so many appends of those on their way, if it can:
    /// it is behind what was verified in it, and behind earlier markers. What else was to be appended in it is refused.
    pub fn end_transaction(&mut self, producer: i64, commits: bool, behind: usize) {
        for _ in 0..self.parked.len() {
            match self
                .parked
                .front()
                .is_some_and(|it| it.producer == Some(producer))
            {
                true => self.verified(Err(ErrorCode::InvalidTxnState)),
                false => self.parked.rotate_left(1),
            }
        }
        let is_before = |it: &Pending| it.producer == Some(producer) || !it.markers.is_empty();
        let last = self.pending.iter().rposition(is_before);
        let behind = behind
            .max(last.map_or(0, |at| at + 1))
            .min(self.pending.len());
        match behind
            .checked_sub(1)
            .and_then(|at| self.pending.get_mut(at))
        {
            Some(last) => last.markers.push((producer, commits)),
            None => {
                self.log.push(Logged::Marker(producer, commits));
                self.coordinator.marker(producer, commits);
            }
        }
        self.coordinator.invariants();
    }

    /// Ends the oldest append.
    pub fn append_ends(&mut self, result: Result<(), ErrorCode>) {
        let effects = self.end_append(result);
        self.perform(effects);
    }

    /// Other replicas take too long for the oldest append of which that is not known.
    pub fn append_is_late(&mut self) {
        let mut effects = Vec::new();
        if let Some(pending) = self.pending.iter_mut().find(|pending| !pending.is_late) {
            pending.is_late = true;
            let error = ErrorCode::RequestTimedOut;
            self.coordinator
                .late(self.now, pending.append, error, &mut effects);
        }
        self.perform(effects);
    }

    /// What a coordinator would know that replays the log.
    pub fn replayed(&self) -> Coordinator {
        let mut coordinator = Coordinator::new(self.config.clone(), 9);
        for logged in &self.log {
            replay(&mut coordinator, logged, 1, &|_| TopicId::ZERO);
        }
        coordinator.invariants();
        coordinator
    }

    /// Ends all appends well.
    pub fn flush(&mut self) {
        while !self.parked.is_empty() || !self.pending.is_empty() {
            self.verified(Ok(()));
            self.append_ends(Ok(()));
        }
    }

    /// Lets time pass; what is due happens when it is due.
    pub fn advance(&mut self, ms: u64) {
        let end = self.now.mono.plus_ms(ms);
        let end_wall = self.now.wall_ms + ms as i64;
        while self.coordinator.next_deadline() <= end {
            let at = self.coordinator.next_deadline().max(self.now.mono);
            self.now.wall_ms += at.ms_since(self.now.mono) as i64;
            self.now.mono = at;
            let mut effects = Vec::new();
            let mut left = self.slice;
            self.coordinator
                .tick(self.now, &*self.topics, &mut left, &mut effects);
            self.ticks += 1;
            self.perform(effects);
        }
        self.now.mono = end;
        self.now.wall_ms = end_wall;
    }

    /// The process dies and starts again from the log.
    pub fn restart(&mut self) {
        self.pending.clear();
        self.parked.clear();
        self.coordinator = self.replayed();
        let mut effects = Vec::new();
        self.coordinator.loaded(self.now, &mut effects);
        self.perform(effects);
    }

    pub fn state(&self) -> State {
        self.coordinator
            .group("g")
            .map_or(State::Dead, |g| g.state())
    }

    /// Sends a JoinGroup.
    pub fn send_join(&mut self, client: &Client) -> u64 {
        let token = self.token();
        let protocols = client.protocols.iter().map(|(name, metadata)| Protocol {
            name: Name::from(*name),
            metadata: Bytes::from_static(metadata.as_bytes()),
        });
        let request = JoinRequest {
            group: client.group.clone(),
            member: client.id.clone(),
            instance: client.instance.clone(),
            client_id: Name::from("c"),
            client_host: Name::from("/127.0.0.1"),
            session_timeout_ms: client.session_timeout_ms,
            rebalance_timeout_ms: client.rebalance_timeout_ms,
            protocol_type: Name::from("consumer"),
            protocols: protocols.collect(),
            needs_member_id: client.version >= 4,
            may_skip_assignment: client.version >= 9,
        };
        let mut effects = Vec::new();
        self.coordinator
            .join(self.now, token, request, &mut effects);
        self.perform(effects);
        token
    }

    /// Sends a JoinGroup, again with the id it is given if that is asked for.
    pub fn join(&mut self, client: &mut Client) -> u64 {
        let token = self.send_join(client);
        match self.joined.get(&token) {
            Some(reply) if reply.error == ErrorCode::MemberIdRequired => {
                client.id = reply.member.clone();
                self.send_join(client)
            }
            _ => token,
        }
    }

    /// Takes the answer to a join over into the client.
    pub fn finish_join(&mut self, client: &mut Client, token: u64) -> JoinReply {
        let reply = self.joined.remove(&token).expect("the join is answered");
        if reply.error.is_none() {
            client.id = reply.member.clone();
            client.generation = reply.generation;
        }
        reply
    }

    /// Sends a SyncGroup; a leader gives everybody this assignment.
    pub fn sync(&mut self, client: &Client, assignments: &[(&Client, &str)]) -> u64 {
        let token = self.token();
        let assignments = assignments
            .iter()
            .map(|(c, a)| (c.id.clone(), Bytes::copy_from_slice(a.as_bytes())));
        let request = SyncRequest {
            group: client.group.clone(),
            member: client.id.clone(),
            instance: client.instance.clone(),
            generation: client.generation,
            protocol_type: None,
            protocol: None,
            assignments: assignments.collect(),
        };
        let mut effects = Vec::new();
        self.coordinator
            .sync(self.now, token, request, &mut effects);
        self.perform(effects);
        token
    }

    pub fn heartbeat(&mut self, client: &Client) -> ErrorCode {
        let request = HeartbeatRequest {
            group: client.group.clone(),
            member: client.id.clone(),
            instance: client.instance.clone(),
            generation: client.generation,
        };
        let mut effects = Vec::new();
        let error = self.coordinator.heartbeat(self.now, &request, &mut effects);
        self.perform(effects);
        error
    }

    pub fn leave(&mut self, leaving: &[(&str, Option<&str>)]) -> Result<Vec<ErrorCode>, ErrorCode> {
        let leaving: Vec<Leaving> = leaving
            .iter()
            .map(|(member, instance)| Leaving {
                member: Name::from(*member),
                instance: instance.map(Name::from),
            })
            .collect();
        let mut effects = Vec::new();
        let result = self
            .coordinator
            .leave(self.now, "g", &leaving, &mut effects);
        self.perform(effects);
        result
    }

    /// Sends an OffsetCommit for one partition of topic `t`.
    pub fn commit(
        &mut self,
        client: &Client,
        partition: i32,
        offset: i64,
    ) -> Result<u64, ErrorCode> {
        self.commit_all(client, partition..partition + 1, offset)
    }

    /// Sends an OffsetCommit for these partitions of topic `t`.
    pub fn commit_all(
        &mut self,
        client: &Client,
        partitions: Range<i32>,
        offset: i64,
    ) -> Result<u64, ErrorCode> {
        self.commit_by(client, None, partitions, offset)
    }

    /// Sends a TxnOffsetCommit for these partitions of topic `t`.
    pub fn commit_in_transaction(
        &mut self,
        client: &Client,
        id: i64,
        partitions: Range<i32>,
        offset: i64,
    ) -> Result<u64, ErrorCode> {
        let producer = TransactionalProducer {
            id,
            epoch: 0,
            transactional_id: Name::from("x"),
            adds: false,
            knows_abortable: true,
        };
        self.commit_by(client, Some(producer), partitions, offset)
    }

    fn commit_by(
        &mut self,
        client: &Client,
        producer: Option<TransactionalProducer>,
        partitions: Range<i32>,
        offset: i64,
    ) -> Result<u64, ErrorCode> {
        let token = self.token();
        let offsets = partitions.map(|partition| OffsetToCommit {
            topic: Name::from("t"),
            partition,
            committed: Committed {
                topic_id: TopicId([7; 16]),
                offset,
                leader_epoch: -1,
                metadata: Name::from(""),
                commit_ms: self.now.wall_ms,
                expire_ms: None,
                lacks_id: false,
            },
        });
        let request = CommitRequest {
            group: client.group.clone(),
            member: client.id.clone(),
            instance: client.instance.clone(),
            generation: client.generation,
            knows_group_id_not_found: client.version >= 9,
            producer,
            offsets: offsets.collect(),
        };
        let mut effects = Vec::new();
        let result = self
            .coordinator
            .commit(self.now, token, &request, &mut effects);
        self.perform(effects);
        result.map(|()| token)
    }

    pub fn offset(&self, partition: i32) -> Option<i64> {
        Some(self.coordinator.offsets("g")?.get("t", partition)?.offset)
    }

    /// A stable group of these clients.
    pub fn stable(&mut self, clients: &mut [&mut Client]) {
        let tokens: Vec<u64> = clients.iter_mut().map(|c| self.join(c)).collect();
        while !tokens.iter().all(|t| self.joined.contains_key(t)) {
            self.advance(500);
        }
        for (client, token) in clients.iter_mut().zip(tokens) {
            let reply = self.finish_join(client, token);
            assert_eq!(reply.error, ErrorCode::None);
        }
        self.sync_all(clients);
    }

    /// Everybody syncs; each gets its own member id as assignment.
    pub fn sync_all(&mut self, clients: &mut [&mut Client]) {
        let leader = self
            .coordinator
            .group("g")
            .and_then(|g| g.leader())
            .cloned()
            .unwrap();
        for client in clients.iter() {
            let ids: Vec<(&Client, &str)> = match client.id == leader {
                true => clients.iter().map(|c| (&**c, &*c.id)).collect(),
                false => Vec::new(),
            };
            self.sync(client, &ids);
        }
        assert_eq!(self.state(), State::Stable);
    }
}
