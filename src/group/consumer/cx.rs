//! What a consumer group is told with everything, and what it wants done.

use super::assign::{Assignor, UniformAssignor, assignor};
use super::change::GroupChange;
use super::heartbeat::ConsumerReply;
use super::topics::GroupTopics;
use crate::base::limits::{GROUP_PARTITIONS_MAX, OFFSETS_PER_SLICE};
use crate::base::{Name, Now};

/// The settings of Kafka that consumer groups obey.
#[derive(Clone, Debug)]
pub struct ConsumerConfig {
    /// `group.consumer.session.timeout.ms`
    pub session_timeout_ms: u64,
    /// `group.consumer.heartbeat.interval.ms`
    pub heartbeat_interval_ms: i32,
    /// `group.consumer.max.size`, members
    pub max_size: usize,
    /// `group.consumer.assignment.interval.ms`: there is no new target before so much time has gone by since the last.
    pub assignment_interval_ms: u64,
    /// `group.consumer.assignors`: the first one is that of groups whose members want none.
    pub assignors: Vec<Name>,
    /// Partitions that a group may be subscribed to ([`GROUP_PARTITIONS_MAX`])
    pub partitions_max: usize,
    /// Partitions that are looked at at a time ([`OFFSETS_PER_SLICE`])
    pub slice: usize,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            session_timeout_ms: 45_000,
            heartbeat_interval_ms: 5_000,
            max_size: i32::MAX as usize,
            assignment_interval_ms: 0,
            assignors: vec![Name::from("uniform"), Name::from("range")],
            partitions_max: GROUP_PARTITIONS_MAX,
            slice: OFFSETS_PER_SLICE,
        }
    }
}

impl ConsumerConfig {
    /// Whether members may want this one.
    #[must_use]
    pub fn knows_assignor(&self, name: &str) -> bool {
        self.assignors.iter().any(|known| **known == *name)
    }

    /// The assignor of a group whose members want this one, or none.
    #[must_use]
    pub fn assignor(&self, wanted: Option<&Name>) -> &'static dyn Assignor {
        let wanted = wanted.filter(|name| self.knows_assignor(name));
        let named = wanted.or(self.assignors.first());
        named
            .and_then(|name| assignor(name))
            .unwrap_or(&UniformAssignor)
    }
}

/// What is known when a group does something.
pub struct ConsumerCx<'a> {
    /// The time.
    pub now: Now,
    /// The settings.
    pub config: &'a ConsumerConfig,
    /// The topics.
    pub topics: &'a dyn GroupTopics,
    /// Bytes that there is room for.
    pub room_bytes: usize,
    /// New targets that may be begun and go on in other slices ([`GROUP_REFRESHES_MAX`]).
    ///
    /// [`GROUP_REFRESHES_MAX`]: crate::base::limits::GROUP_REFRESHES_MAX
    pub room_refreshes: usize,
}

/// A timer of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberTimer {
    /// Its session begins anew.
    Session(Name),
    /// It has so long to give up partitions, ms.
    Rebalance(Name, u64),
    /// It has given them up.
    EndRebalance(Name),
    /// It is gone.
    End(Name),
}

/// What is to be written, and who is answered when it is durable.
#[derive(Debug)]
pub struct GroupWrite<C, R> {
    /// Each one is a record.
    pub changes: Vec<C>,
    /// By token.
    pub replies: Vec<(u64, R)>,
}

/// That of a consumer group.
pub type ConsumerWrite = GroupWrite<GroupChange, ConsumerReply>;

/// What a group wants done, of whatever kind its changes and answers are.
#[derive(Debug)]
pub struct GroupOut<C, R> {
    /// Answers, by token.
    pub replies: Vec<(u64, R)>,
    /// Timers.
    pub timers: Vec<MemberTimer>,
    /// One batch; the group is told (`written`) what comes of it.
    pub write: Option<GroupWrite<C, R>>,
    /// It is subscribed to more than it may be, since topics have grown, and goes on with the target that it has.
    pub is_too_large: bool,
    /// It has more to do, when that is said.
    pub goes_on: NextSlice,
}

/// What a consumer group wants done.
pub type ConsumerOut = GroupOut<GroupChange, ConsumerReply>;

impl<C, R> Default for GroupOut<C, R> {
    fn default() -> Self {
        Self {
            replies: Vec::new(),
            timers: Vec::new(),
            write: None,
            is_too_large: false,
            goes_on: NextSlice::default(),
        }
    }
}

/// When a group has more to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NextSlice {
    /// It waits for what comes.
    #[default]
    No,
    /// In the next slice.
    Next,
    /// In the next slice before all others: it needs most of one.
    First,
    /// When others may be done with what it waits for.
    Later,
}
