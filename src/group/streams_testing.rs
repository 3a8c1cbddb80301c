//! Members of a streams group as their clients see it, for the tests of this directory.

use std::sync::Arc;

use super::consumer::{JOINS, MemberState};
use super::streams::testing::{internal, subtopology};
use super::streams::{Subtopology, Tasks, Topology};
use super::testing::World;
use super::{Name, StreamsHeartbeat, StreamsReply};
use crate::base::ErrorCode;

/// A member as its client sees it.
#[derive(Clone, Debug)]
pub struct Streamer {
    pub id: Name,
    pub instance: Option<Name>,
    pub process: Name,
    pub epoch: i32,
    pub topology: Arc<Topology>,
    /// What it takes for its own.
    pub owned: Tasks,
}

/// One subtopology reads `in` and writes `re`, which another one reads, with state in `log`.
pub fn two_subtopologies() -> Vec<Subtopology> {
    let mut first = subtopology("0", &["in"]);
    first.repartition_sinks = vec![Name::from("re")];
    let mut second = subtopology("1", &[]);
    second.repartition_sources = vec![internal("re", 0)];
    second.changelogs = vec![internal("log", 0)];
    vec![first, second]
}

impl Streamer {
    pub fn new(id: &str, process: &str) -> Self {
        Self {
            id: Name::from(id),
            instance: None,
            process: Name::from(process),
            epoch: JOINS,
            topology: Arc::new(Topology::new(0, two_subtopologies())),
            owned: Tasks::default(),
        }
    }

    /// Joins.
    pub fn joins(&self) -> StreamsHeartbeat {
        StreamsHeartbeat {
            epoch: JOINS,
            rebalance_timeout_ms: Some(60_000),
            topology: Some(self.topology.clone()),
            process: Some(self.process.clone()),
            owned: Some(Tasks::default()),
            ..self.short()
        }
    }

    /// Says that it is there, and what it has.
    pub fn short(&self) -> StreamsHeartbeat {
        StreamsHeartbeat {
            group: Name::from("g"),
            member: self.id.clone(),
            epoch: self.epoch,
            instance: self.instance.clone(),
            owned: Some(self.owned.clone()),
            client_id: Name::from("c"),
            client_host: Name::from("/127.0.0.1"),
            ..StreamsHeartbeat::default()
        }
    }

    /// Does what it is told.
    pub fn take(&mut self, reply: &StreamsReply) {
        match reply.error {
            ErrorCode::None => {
                self.epoch = reply.epoch;
                if let Some(current) = &reply.assigned {
                    self.owned = Tasks {
                        standby: current.assigned.standby.clone(),
                        warmup: current.assigned.warmup.clone(),
                        ..Tasks::default()
                    };
                    for (of, task, _) in current.assigned.active.all() {
                        self.owned.active.add(of, [task]);
                    }
                }
            }
            ErrorCode::FencedMemberEpoch
            | ErrorCode::UnknownMemberId
            | ErrorCode::GroupIdNotFound => {
                (self.epoch, self.owned) = (JOINS, Tasks::default());
            }
            _ => {}
        }
    }

    /// Its active tasks, as text.
    pub fn active(&self) -> Vec<String> {
        let all = self.owned.active.all();
        all.map(|(of, task)| format!("{of}_{task}")).collect()
    }

    /// Its standby tasks, as text.
    pub fn standby(&self) -> Vec<String> {
        let all = self.owned.standby.all();
        all.map(|(of, task)| format!("{of}_{task}")).collect()
    }
}

impl World {
    /// Sends a heartbeat.
    pub fn send_streams(&mut self, request: StreamsHeartbeat) -> u64 {
        let token = self.token();
        let mut effects = Vec::new();
        let coordinator = &mut self.coordinator;
        coordinator.streams_heartbeat(self.now, token, request, &*self.topics, &mut effects);
        self.perform(effects);
        token
    }

    /// Sends one, and waits for the answer.
    pub fn stream(&mut self, request: StreamsHeartbeat) -> StreamsReply {
        let token = self.send_streams(request);
        for _ in 0..1_000 {
            if let Some(reply) = self.streams_heartbeats.remove(&token) {
                return reply;
            }
            self.advance(1);
        }
        panic!("a heartbeat is answered");
    }

    /// A member joins, or says that it is there, and does what it is told.
    pub fn stream_of(&mut self, member: &mut Streamer) -> StreamsReply {
        let request = match member.epoch {
            JOINS => member.joins(),
            _ => member.short(),
        };
        let reply = self.stream(request);
        member.take(&reply);
        reply
    }

    /// All members do so until nothing more comes of it.
    pub fn settle_streams(&mut self, members: &mut [&mut Streamer]) {
        for _ in 0..8 {
            for member in members.iter_mut() {
                let reply = self.stream_of(member);
                assert!(reply.error.is_none(), "{reply:?}");
            }
        }
    }

    /// The state of group `g`.
    pub fn streams_state(&self) -> &'static str {
        let group = self.coordinator.streams_group("g");
        group.map_or("none", |group| group.shown_state().name())
    }

    /// Whether a member is to give something up.
    pub fn has_to_revoke(&self, member: &Streamer) -> bool {
        let group = self.coordinator.streams_group("g");
        group.is_some_and(|it| {
            it.state().current(&member.id).state == MemberState::UnrevokedPartitions
        })
    }
}
