//! The group coordinator as a service: what waits for it, and what its effects answer.

use std::collections::BTreeMap;

use kafka_wire::{DeleteGroupsResponse, OffsetCommitResponse, OffsetDeleteResponse};

use super::answers::{join_response, set_commit_error, sync_response};
use super::call::{Call, GroupEffect, NodeInfo, OFFSETS_TOPIC, Origin, TopicLookup, reply};
use crate::base::{ErrorCode, Mono, Now};
use crate::group::records::RecordError;
use crate::group::{Coordinator, Effect, GroupConfig, Record, partition_for};
use crate::wire::WireError;

/// The handler of one API: a method of [`GroupService`]. An error closes the connection.
pub(crate) type GroupHandler = fn(
    &mut GroupService,
    Now,
    Origin,
    Call,
    &dyn TopicLookup,
    &mut Vec<GroupEffect>,
) -> Result<(), WireError>;

/// A request whose answer has to wait, by the token that the coordinator has for it.
#[derive(Debug)]
pub enum Wait {
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
pub struct DeleteBatch {
    pub origin: Origin,
    pub response: DeleteGroupsResponse,
    pub waiting: usize,
}

/// The group coordinator as a service on shard 0.
#[derive(Debug)]
pub struct GroupService {
    pub(super) coordinator: Coordinator,
    pub(super) node: NodeInfo,
    pub(super) waits: BTreeMap<u64, Wait>,
    pub(super) deletes: BTreeMap<u64, DeleteBatch>,
    next: u64,
    pub(super) stopped: bool,
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
    pub(crate) fn request(
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
    pub(super) fn partitions(&self, topics: &dyn TopicLookup) -> Result<i32, ErrorCode> {
        if self.stopped {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        let topic = topics.by_name(OFFSETS_TOPIC);
        topic.map(|t| t.partitions).ok_or(ErrorCode::NotCoordinator)
    }

    /// The same for a group: its own partition has to be readable.
    pub(super) fn serving(&self, group: &str, topics: &dyn TopicLookup) -> Result<i32, ErrorCode> {
        let partitions = self.partitions(topics)?;
        let served = self.coordinator.serves(partition_for(group, partitions));
        served
            .then_some(partitions)
            .ok_or(ErrorCode::NotCoordinator)
    }

    /// The same for a member. An empty id is no group's, which the coordinator says.
    pub(super) fn serving_member(
        &self,
        group: &str,
        topics: &dyn TopicLookup,
    ) -> Result<i32, ErrorCode> {
        if group.is_empty() {
            return self.partitions(topics);
        }
        self.serving(group, topics)
    }

    pub(super) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(super) fn wait(&mut self, wait: Wait) -> u64 {
        let number = self.number();
        self.waits.insert(number, wait);
        number
    }

    pub(super) fn perform(&mut self, effects: Vec<Effect>, out: &mut Vec<GroupEffect>) {
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
                        reply(origin, &join_response(origin.version, joined), out);
                    }
                }
                Effect::Synced(wait, synced) => {
                    if let Some(Wait::Sync(origin)) = self.waits.remove(&wait) {
                        reply(origin, &sync_response(synced), out);
                    }
                }
                Effect::Written(wait, error) => self.written(wait, error, out),
            }
        }
    }

    pub(super) fn written(&mut self, wait: u64, error: ErrorCode, out: &mut Vec<GroupEffect>) {
        match self.waits.remove(&wait) {
            Some(Wait::Commit(origin, mut response)) => {
                set_commit_error(&mut response, error);
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

    /// A group is deleted, or not.
    pub(super) fn group_deleted(
        &mut self,
        number: u64,
        index: usize,
        error: ErrorCode,
        out: &mut Vec<GroupEffect>,
    ) {
        let batch = self.deletes.get_mut(&number);
        if let Some(result) = batch.and_then(|b| b.response.results.get_mut(index)) {
            result.error_code = error.code();
        }
        self.batch_went_on(number, out);
    }

    /// Answers a DeleteGroups if nothing of it is waited for any more.
    pub(super) fn batch_went_on(&mut self, number: u64, out: &mut Vec<GroupEffect>) {
        let Some(batch) = self.deletes.get_mut(&number) else {
            return;
        };
        batch.waiting -= 1;
        if batch.waiting == 0
            && let Some(batch) = self.deletes.remove(&number)
        {
            reply(batch.origin, &batch.response, out);
        }
    }
}
