//! What a streams group is told with everything, and what it wants done.

use super::super::consumer::{GroupOut, GroupTopics};
use super::change::StreamsChange;
use super::heartbeat::StreamsReply;
use super::topology::InternalTopic;
use crate::base::Now;
use crate::base::limits::OFFSETS_PER_SLICE;

/// The settings of Kafka that streams groups obey.
#[derive(Clone, Debug)]
pub struct StreamsConfig {
    /// `group.streams.session.timeout.ms`
    pub session_timeout_ms: u64,
    /// `group.streams.heartbeat.interval.ms`
    pub heartbeat_interval_ms: i32,
    /// `group.streams.max.size`, members
    pub max_size: usize,
    /// `group.streams.assignment.interval.ms`: there is no new target before so much time has gone by since the last.
    pub assignment_interval_ms: u64,
    /// `group.streams.initial.rebalance.delay.ms`: how long an empty group waits for more members.
    pub initial_rebalance_delay_ms: u64,
    /// `group.streams.num.standby.replicas`
    pub standby_replicas: usize,
    /// `group.streams.task.offset.interval.ms`: how often members say how far their tasks are.
    pub task_offset_interval_ms: i32,
    /// `group.streams.acceptable.recovery.lag`, offsets
    pub acceptable_recovery_lag: i64,
    /// Tasks that are looked at at a time ([`OFFSETS_PER_SLICE`])
    pub slice: usize,
}

impl Default for StreamsConfig {
    fn default() -> Self {
        Self {
            session_timeout_ms: 45_000,
            heartbeat_interval_ms: 5_000,
            max_size: i32::MAX as usize,
            assignment_interval_ms: 1_000,
            initial_rebalance_delay_ms: 3_000,
            standby_replicas: 0,
            task_offset_interval_ms: 60_000,
            acceptable_recovery_lag: 10_000,
            slice: OFFSETS_PER_SLICE,
        }
    }
}

/// What is known when a group does something.
pub struct StreamsCx<'a> {
    /// The time.
    pub now: Now,
    /// The settings.
    pub config: &'a StreamsConfig,
    /// The topics.
    pub topics: &'a dyn GroupTopics,
    /// Bytes that there is room for.
    pub room_bytes: usize,
    /// New targets that may be begun and go on in other slices.
    pub room_refreshes: usize,
}

/// What a streams group wants done.
#[derive(Debug, Default)]
pub struct StreamsOut {
    /// What any group may want.
    pub group: GroupOut<StreamsChange, StreamsReply>,
    /// Topics that are to be created, each with its partitions. If they are not, it asks again.
    pub creates: Vec<InternalTopic>,
}
