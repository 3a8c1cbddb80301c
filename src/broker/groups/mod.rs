//! The group APIs: turns requests of the wire into calls on the coordinator and
//! its effects into reply frames. Lives on shard 0.
//!
//! `offsets.rs` has commits, `find.rs` FindCoordinator, `members.rs` what members send, `describe.rs` what
//! tools ask; `super::apis` lists them with keys and versions.
//!
//! Deviation from Kafka: LeaveGroup is answered when the members are gone from the
//! group, not when a record says so; after a crash such members end with their session.

mod describe;
mod find;
mod members;
mod offsets;

pub use describe::no_groups;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_wire::{DeleteGroupsResponse, KafkaResponse, OffsetCommitResponse, OffsetDeleteResponse};
use kafka_wire_core::StrBytes;

use crate::base::{ErrorCode, Mono, Now, TopicId};
use crate::group::records::RecordError;
use crate::group::{Coordinator, Effect, GroupConfig, Name, Record, partition_for};
use crate::wire::{RequestHeader, WireError, encode_response};

/// The internal topic of groups and committed offsets.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// How clients reach the node that coordinates all groups.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    /// The id under which it is announced.
    pub id: i32,
    /// Host and port as announced, for each listener.
    pub endpoints: Vec<(StrBytes, i32)>,
}

/// A topic as the metadata image knows it.
#[derive(Clone, Copy, Debug)]
pub struct TopicInfo<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its id.
    pub id: TopicId,
    /// How many partitions it has.
    pub partitions: i32,
}

/// The topics of the cluster.
pub trait TopicLookup {
    /// The topic of this name.
    fn by_name(&self, name: &str) -> Option<TopicInfo<'_>>;
    /// The topic of this id.
    fn by_id(&self, id: TopicId) -> Option<TopicInfo<'_>>;
}

/// One request.
#[derive(Clone, Debug)]
pub struct Call {
    /// Chosen by the caller; comes back with the reply.
    pub token: u64,
    /// Header of the request.
    pub header: RequestHeader,
    /// The rest of the frame.
    pub body: Bytes,
    /// Where it comes from, in Kafka's form: a slash and the address (`/10.0.0.1`).
    pub client_host: String,
    /// Which of the configured listeners it came by.
    pub listener: usize,
}

/// What the service wants done. Each request gets one `Reply` or one `Fail`, sooner or later.
#[derive(Debug)]
pub enum GroupEffect {
    /// Send this frame.
    Reply {
        /// Of the request.
        token: u64,
        /// With length prefix and header.
        frame: Bytes,
    },
    /// The request cannot be read, or the answer not be written: close the connection.
    Fail {
        /// Of the request.
        token: u64,
        /// What is wrong.
        error: WireError,
    },
    /// Append to a partition of [`OFFSETS_TOPIC`], then call [`GroupService::appended`].
    Append {
        /// Number of the append.
        append: u64,
        /// The partition.
        partition: i32,
        /// The records, at least one: exactly one batch, so that all count or none.
        records: Vec<Record>,
    },
}

/// The handler of one API: a method of [`GroupService`]. An error closes the connection.
pub(super) type GroupHandler = fn(
    &mut GroupService,
    Now,
    Origin,
    Call,
    &dyn TopicLookup,
    &mut Vec<GroupEffect>,
) -> Result<(), WireError>;

/// Where an answer goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    token: u64,
    version: i16,
    correlation_id: i32,
}

/// A request whose answer has to wait, by the token that the coordinator has for it.
#[derive(Debug)]
enum Wait {
    Join(Origin),
    Sync(Origin),
    /// Error code 0 stands where the write decides.
    Commit(Origin, OffsetCommitResponse),
    OffsetDelete(Origin, OffsetDeleteResponse),
    /// One group of a DeleteGroups: which one, and its place in the answer.
    DeleteGroup(u64, usize),
}

/// A DeleteGroups of which some groups are still being deleted.
#[derive(Debug)]
struct DeleteBatch {
    origin: Origin,
    response: DeleteGroupsResponse,
    waiting: usize,
}

/// The group coordinator as a service on shard 0.
#[derive(Debug)]
pub struct GroupService {
    coordinator: Coordinator,
    node: NodeInfo,
    waits: BTreeMap<u64, Wait>,
    deletes: BTreeMap<u64, DeleteBatch>,
    next: u64,
    stopped: bool,
}

/// Whether a request makes the broker create [`OFFSETS_TOPIC`] if it is missing. Until it exists
/// FindCoordinator gets COORDINATOR_NOT_AVAILABLE and the others NOT_COORDINATOR, as in Kafka.
#[must_use]
pub fn needs_offsets_topic(header: &RequestHeader) -> bool {
    const OFFSET_COMMIT: i16 = 8;
    const FIND_COORDINATOR: i16 = 10;
    const JOIN_GROUP: i16 = 11;
    matches!(header.key, OFFSET_COMMIT | FIND_COORDINATOR | JOIN_GROUP)
}

impl GroupService {
    /// A service without groups. The seed is for member ids.
    #[must_use]
    pub fn new(config: GroupConfig, node: NodeInfo, seed: u64) -> Self {
        Self {
            coordinator: Coordinator::new(config, seed),
            node,
            waits: BTreeMap::new(),
            deletes: BTreeMap::new(),
            next: 0,
            stopped: false,
        }
    }

    /// Handles one request.
    pub(super) fn request(
        &mut self,
        now: Now,
        handler: GroupHandler,
        call: Call,
        topics: &dyn TopicLookup,
        out: &mut Vec<GroupEffect>,
    ) {
        let origin = Origin {
            token: call.token,
            version: call.header.version,
            correlation_id: call.header.correlation_id,
        };
        let handled = handler(self, now, origin, call, topics, out);
        if let Err(error) = handled {
            out.push(GroupEffect::Fail {
                token: origin.token,
                error,
            });
        }
    }

    /// The append of [`GroupEffect::Append`] is durable, or failed. Appends to one partition must
    /// be reported in the order in which they were asked for.
    pub fn appended(
        &mut self,
        now: Now,
        append: u64,
        result: Result<(), ErrorCode>,
        out: &mut Vec<GroupEffect>,
    ) {
        let mut effects = Vec::new();
        self.coordinator.appended(now, append, result, &mut effects);
        self.perform(effects, out);
    }

    /// Applies one record of [`OFFSETS_TOPIC`], at start, in log order for each partition. A
    /// record that is not understood changes nothing; the error is for the log.
    ///
    /// # Errors
    /// If the record is malformed.
    pub fn replay(
        &mut self,
        partition: i32,
        key: &[u8],
        value: Option<&[u8]>,
        record_timestamp_ms: i64,
    ) -> Result<(), RecordError> {
        self.coordinator
            .replay(partition, key, value, record_timestamp_ms)
    }

    /// A partition cannot be read: its groups get NOT_COORDINATOR, as from Kafka's coordinator that failed to
    /// load. See [`Coordinator::fail`].
    pub fn fail(&mut self, partition: i32) {
        self.coordinator.fail(partition);
    }

    /// Every record has been replayed; call it also if there was none.
    pub fn loaded(&mut self, now: Now, out: &mut Vec<GroupEffect>) {
        let mut effects = Vec::new();
        self.coordinator.loaded(now, &mut effects);
        self.perform(effects, out);
    }

    /// The records of a partition of [`OFFSETS_TOPIC`] that are still valid; see
    /// [`Coordinator::snapshot`].
    #[must_use]
    pub fn snapshot(&self, partition: i32) -> Option<Vec<Record>> {
        self.coordinator.snapshot(partition)
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Now, out: &mut Vec<GroupEffect>) {
        let mut effects = Vec::new();
        self.coordinator.tick(now, &mut effects);
        self.perform(effects, out);
    }

    /// When [`GroupService::tick`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Mono {
        self.coordinator.next_deadline()
    }

    /// A topic was deleted: its committed offsets get tombstones.
    pub fn topic_deleted(&mut self, now: Now, topic: &str, out: &mut Vec<GroupEffect>) {
        let mut effects = Vec::new();
        self.coordinator.topic_deleted(now, topic, &mut effects);
        self.perform(effects, out);
    }

    /// The broker goes down: who waits for a rebalance gets NOT_COORDINATOR, further requests get
    /// COORDINATOR_NOT_AVAILABLE. Appends in flight still end with [`GroupService::appended`].
    pub fn stop(&mut self, now: Now, out: &mut Vec<GroupEffect>) {
        self.stopped = true;
        let mut effects = Vec::new();
        self.coordinator.unload(now, &mut effects);
        self.perform(effects, out);
    }

    /// The groups and their offsets, for tools and tests.
    #[must_use]
    pub fn coordinator(&self) -> &Coordinator {
        &self.coordinator
    }

    /// Panics if something is wrong inside. For tests and the simulator.
    pub fn invariants(&self) {
        self.coordinator.invariants();
    }

    /// How many partitions [`OFFSETS_TOPIC`] has, or why groups cannot be served.
    fn partitions(&self, topics: &dyn TopicLookup) -> Result<i32, ErrorCode> {
        if self.stopped {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        let topic = topics.by_name(OFFSETS_TOPIC);
        topic.map(|t| t.partitions).ok_or(ErrorCode::NotCoordinator)
    }

    /// The same for a group: its own partition has to be readable.
    fn serving(&self, group: &str, topics: &dyn TopicLookup) -> Result<i32, ErrorCode> {
        let partitions = self.partitions(topics)?;
        let served = self.coordinator.serves(partition_for(group, partitions));
        served
            .then_some(partitions)
            .ok_or(ErrorCode::NotCoordinator)
    }

    /// The same for a member. An empty id is no group's, which the coordinator says.
    fn serving_member(&self, group: &str, topics: &dyn TopicLookup) -> Result<i32, ErrorCode> {
        if group.is_empty() {
            return self.partitions(topics);
        }
        self.serving(group, topics)
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn wait(&mut self, wait: Wait) -> u64 {
        let number = self.number();
        self.waits.insert(number, wait);
        number
    }

    fn perform(&mut self, effects: Vec<Effect>, out: &mut Vec<GroupEffect>) {
        for effect in effects {
            match effect {
                Effect::Append {
                    append,
                    partition,
                    records,
                } => out.push(GroupEffect::Append {
                    append,
                    partition,
                    records,
                }),
                Effect::Joined(wait, joined) => {
                    if let Some(Wait::Join(origin)) = self.waits.remove(&wait) {
                        reply(origin, &members::join_response(origin.version, joined), out);
                    }
                }
                Effect::Synced(wait, synced) => {
                    if let Some(Wait::Sync(origin)) = self.waits.remove(&wait) {
                        reply(origin, &members::sync_response(synced), out);
                    }
                }
                Effect::Written(wait, error) => self.written(wait, error, out),
            }
        }
    }

    fn written(&mut self, wait: u64, error: ErrorCode, out: &mut Vec<GroupEffect>) {
        match self.waits.remove(&wait) {
            Some(Wait::Commit(origin, mut response)) => {
                offsets::set_commit_error(&mut response, error);
                reply(origin, &response, out);
            }
            Some(Wait::OffsetDelete(origin, mut response)) => {
                response.error_code = error.code();
                reply(origin, &response, out);
            }
            Some(Wait::DeleteGroup(batch, index)) => self.group_deleted(batch, index, error, out),
            Some(Wait::Join(_) | Wait::Sync(_)) | None => {}
        }
    }
}

/// Sends a response; one that cannot be encoded ends the connection.
fn reply<R: KafkaResponse>(origin: Origin, response: &R, out: &mut Vec<GroupEffect>) {
    let token = origin.token;
    out.push(
        match encode_response(origin.correlation_id, origin.version, response) {
            Ok(frame) => GroupEffect::Reply { token, frame },
            Err(error) => GroupEffect::Fail { token, error },
        },
    );
}

fn name(text: &StrBytes) -> Name {
    Name::from(text.as_str())
}

fn text(name: &Name) -> StrBytes {
    StrBytes::from(&**name)
}
