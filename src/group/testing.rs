//! A coordinator with a virtual clock and a log, for the tests of this directory.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::coordinator::HeartbeatRequest;
use super::join::JoinRequest;
use super::rebalance::{Leaving, SyncRequest};
use super::writes::CommitRequest;
use super::{
    Committed, Coordinator, Effect, GroupConfig, JoinReply, Name, OffsetToCommit, Protocol, Record,
    State, SyncReply,
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
    /// It is in the log, and nobody waits for it any more.
    pub is_late: bool,
}

/// The coordinator and the world around it.
pub struct World {
    pub coordinator: Coordinator,
    pub now: Now,
    /// Appends end at once unless this is set.
    pub hold_appends: bool,
    pub pending: VecDeque<Pending>,
    pub log: Vec<Record>,
    pub joined: BTreeMap<u64, JoinReply>,
    pub synced: BTreeMap<u64, SyncReply>,
    pub written: BTreeMap<u64, ErrorCode>,
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
            log: Vec::new(),
            joined: BTreeMap::new(),
            synced: BTreeMap::new(),
            written: BTreeMap::new(),
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
                Effect::Written(token, error) => {
                    assert!(self.written.insert(token, error).is_none())
                }
                Effect::Append { append, records } => {
                    assert!(!records.is_empty());
                    self.pending.push_back(Pending {
                        append,
                        records,
                        is_late: false,
                    });
                    if !self.hold_appends {
                        effects.extend(self.end_append(Ok(())));
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
                self.log.extend(pending.records.iter().cloned());
            }
            self.coordinator
                .appended(self.now, pending.append, result, &mut effects);
        }
        effects
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
        for (key, value) in &self.log {
            let ids = &|_: &str| TopicId::ZERO;
            let replayed = coordinator.replay(key, value.as_deref(), 1, ids);
            replayed.unwrap();
        }
        coordinator
    }

    /// Ends all appends well.
    pub fn flush(&mut self) {
        while !self.pending.is_empty() {
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
            self.coordinator.tick(self.now, &mut left, &mut effects);
            self.ticks += 1;
            self.perform(effects);
        }
        self.now.mono = end;
        self.now.wall_ms = end_wall;
    }

    /// The process dies and starts again from the log.
    pub fn restart(&mut self) {
        self.pending.clear();
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
