//! What the clients of a run learn, as facts: what they send, what they are told,
//! and what the shards say of themselves.

use super::values::Value;
use super::what::What;
use crate::base::{LogId, TopicId};

/// A point in the order in which facts became known. An answer must be at least as new as all that
/// was known when its question was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

/// A partition of a topic; a topic that is deleted and made again is another topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Number of the topic in this run.
    pub topic: u32,
    /// Partition index.
    pub partition: i32,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "topic {} partition {}", self.topic, self.partition)
    }
}

/// What happens to the records of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// They stay.
    Kept,
    /// Retention removes them.
    Expiring,
    /// DeleteRecords removes them.
    Truncated,
    /// Compaction removes those that newer ones of the same key follow.
    Compacted {
        /// Tombstones stay longer than a run takes.
        keeps_tombstones: bool,
    },
    /// They are written in transactions.
    Transacted,
}

impl Use {
    /// Whether compaction removes records.
    #[must_use]
    pub const fn is_compacted(self) -> bool {
        matches!(self, Self::Compacted { .. })
    }

    /// Whether offsets follow each other without a gap: neither what is left out nor what brokers write is between.
    #[must_use]
    pub const fn is_dense(self) -> bool {
        !matches!(self, Self::Compacted { .. } | Self::Transacted)
    }
}

/// Where clients find a shard: the host that its node is announced with, and its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The node.
    pub node: usize,
    /// The port.
    pub port: u16,
}

impl Address {
    /// The address that a host and a port are.
    ///
    /// # Errors
    /// No node has such a host, or there is no such port.
    pub fn parse(host: &str, port: i32) -> Result<Self, String> {
        let unknown = || format!("{host}:{port} is no node's");
        let number = host.strip_prefix(HOST).ok_or_else(unknown)?;
        Ok(Self {
            node: number.parse().map_err(|_| unknown())?,
            port: port.try_into().map_err(|_| unknown())?,
        })
    }
}

const HOST: &str = "node-";

/// The host that a node is announced with.
#[must_use]
pub fn host_of(node: usize) -> String {
    format!("{HOST}{node}")
}

/// A node from one of its starts to its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// The node.
    pub node: usize,
    /// How often it had started.
    pub start: u32,
}

/// Who coordinates a group, and in which leader epoch, where there are several nodes.
pub type Coordinator = (Process, Option<i32>);

/// A record at its offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Offset.
    pub offset: i64,
    /// What it carries.
    pub value: Value,
    /// Its timestamp; `None` if it is not known to the one who tells.
    pub timestamp: Option<i64>,
}

/// Something that became known.
#[derive(Clone, Copy, Debug)]
pub enum Fact<'a> {
    /// These records may turn up in the partition from now on: `count` of them, numbered on from `first`.
    Sent {
        /// The partition.
        at: Place,
        /// The first record.
        first: Value,
        /// How many.
        count: u32,
    },
    /// A batch of a transaction is about to be sent, all in one transaction of its number in this run.
    Transacting {
        /// The transaction.
        transaction: u64,
        /// The first record.
        first: Value,
        /// How many.
        count: u32,
    },
    /// A transaction is about to be committed: it may be from now on.
    Deciding {
        /// The transaction.
        transaction: u64,
    },
    /// A transaction has ended.
    Ended {
        /// The transaction.
        transaction: u64,
        /// Committed, or aborted.
        commits: bool,
    },
    /// A transaction is to commit its number as an offset of a group, unless it is given up.
    Moving {
        /// The transaction.
        transaction: u64,
        /// The group: transactions of one have growing numbers.
        group: u32,
    },
    /// That is part of it now.
    Moved {
        /// The transaction.
        transaction: u64,
    },
    /// What transactions have committed for a group, while nothing goes wrong and none is going on; -1 is nothing.
    MovedRead {
        /// The group.
        group: u32,
        /// The offset.
        offset: i64,
    },
    /// Somebody has read what is committed: these are its records.
    ReadCommitted {
        /// The partition.
        at: Place,
        /// The records.
        records: &'a [Placed],
    },
    /// All that is committed has been read.
    AuditedCommitted,
    /// The broker has acknowledged a batch.
    Acked {
        /// The partition.
        at: Place,
        /// The records where the broker says they are.
        records: &'a [Placed],
    },
    /// The leader has acknowledged a batch, and other replicas may not have it: if it leads no more, it may be gone.
    AckedByOne,
    /// A fetch was answered.
    Read {
        /// The partition.
        at: Place,
        /// When it was asked.
        asked: Moment,
        /// Offset asked for.
        from: i64,
        /// Offset to go on with: there are no others between.
        next: i64,
        /// The records from there on.
        records: &'a [Placed],
        /// High watermark.
        high_watermark: i64,
        /// First offset; `None` before version 5.
        log_start: Option<i64>,
    },
    /// ListOffsets told the high watermark.
    Latest {
        /// The partition.
        at: Place,
        /// When it was asked.
        asked: Moment,
        /// The answer.
        offset: i64,
    },
    /// ListOffsets told the first offset.
    Earliest {
        /// The partition.
        at: Place,
        /// When it was asked.
        asked: Moment,
        /// The answer.
        offset: i64,
    },
    /// ListOffsets told the first record at or after a time.
    AtTime {
        /// The partition.
        at: Place,
        /// When it was asked.
        asked: Moment,
        /// The time.
        time: i64,
        /// Offset and timestamp, if there is such a record.
        found: Option<(i64, i64)>,
    },
    /// All records of the partition are going to be read, while nothing goes wrong.
    Auditing {
        /// The partition.
        at: Place,
    },
    /// All records of the partition have been read, from `log_start` to the high watermark.
    Audited {
        /// The partition.
        at: Place,
        /// First offset.
        log_start: i64,
        /// High watermark.
        end: i64,
    },
    /// The high watermark of a log, as its shard has it.
    ShardWatermark {
        /// The process; a node that stands alone is one for ever.
        of: Process,
        /// The log.
        log: LogId,
        /// High watermark.
        offset: i64,
        /// It is of a replica that is not in sync, which may begin anew.
        is_behind: bool,
    },
    /// A node has stopped in the middle of its work.
    Crashed {
        /// The node.
        node: usize,
    },
    /// All shards of a node were drained, and its process ended.
    Stopped {
        /// The node.
        node: usize,
        /// Its stores say so, all of them; else some may.
        whole: bool,
    },
    /// A node has stopped while its stores were begun, some of them perhaps not.
    StartCut {
        /// The node.
        node: usize,
    },
    /// A node has started with the stores that it had.
    Restarted {
        /// The node.
        node: usize,
        /// All of them say that they were stopped cleanly.
        clean: bool,
    },
    /// A DeleteRecords request is on its way.
    Deleting {
        /// The partition.
        at: Place,
        /// First offset to be kept.
        before: i64,
    },
    /// It was acknowledged.
    Deleted {
        /// The partition.
        at: Place,
        /// First offset kept.
        before: i64,
    },
    /// An offset commit is on its way. Those of one group and partition have growing offsets.
    Committing {
        /// The group.
        group: u32,
        /// The partition.
        at: Place,
        /// The offset.
        offset: i64,
    },
    /// It was acknowledged.
    Committed {
        /// The group.
        group: u32,
        /// The partition.
        at: Place,
        /// The offset.
        offset: i64,
    },
    /// A committed offset was asked for and answered; -1 is none.
    CommitRead {
        /// The group.
        group: u32,
        /// The partition.
        at: Place,
        /// When it was asked.
        asked: Moment,
        /// The offset.
        offset: i64,
    },
    /// The leader of a group's generation gives a member its assignment.
    Assigning {
        /// The group.
        group: u32,
        /// The coordinator: a generation that is not finished does not outlive it.
        coordinator: Coordinator,
        /// The generation.
        generation: i32,
        /// The member.
        member: &'a str,
        /// What it is assigned.
        assignment: &'a [u8],
    },
    /// A member was told its assignment.
    Assigned {
        /// The group.
        group: u32,
        /// The coordinator when the generation began.
        coordinator: Coordinator,
        /// The generation.
        generation: i32,
        /// The member.
        member: &'a str,
        /// What it is assigned.
        assignment: &'a [u8],
    },
    /// A topic creation was acknowledged, or the topic was found to exist.
    Created {
        /// The node that knows it.
        node: usize,
        /// Number of the topic in this run.
        topic: u32,
        /// Its id.
        id: TopicId,
        /// Its number of partitions.
        partitions: i32,
        /// Replicas of each.
        replicas: i16,
        /// What happens to its records.
        used: Use,
    },
    /// A topic deletion is on its way.
    Removing {
        /// Number of the topic.
        topic: u32,
    },
    /// It was acknowledged.
    Removed {
        /// The node that knows it.
        node: usize,
        /// Number of the topic.
        topic: u32,
    },
    /// Metadata of a topic: id and number of partitions, if it exists.
    Described {
        /// The node that was asked.
        node: usize,
        /// Number of the topic.
        topic: u32,
        /// When it was asked.
        asked: Moment,
        /// What there is by its name.
        found: Option<(TopicId, usize)>,
    },
    /// Metadata of a partition that has a leader.
    Led {
        /// The partition.
        at: Place,
        /// The leader epoch, if it was told.
        epoch: Option<i32>,
        /// The node that leads.
        node: usize,
    },
    /// An idempotent producer was given its id.
    ProducerId(i64),
}

impl Fact<'_> {
    /// What it tells of, if that is something that must happen.
    #[must_use]
    pub const fn kind(&self) -> Option<What> {
        Some(match self {
            Self::Acked { .. } => What::Acked,
            Self::AckedByOne => What::AckedByOne,
            Self::Read { .. } => What::Read,
            Self::AtTime { found, .. } => match found {
                Some(_) => What::FoundByTime,
                None => What::NothingAtTime,
            },
            Self::Audited { .. } => What::Audited,
            Self::Ended { commits, .. } => match commits {
                true => What::TransactionCommitted,
                false => What::TransactionAborted,
            },
            Self::Moved { .. } => What::OffsetMoved,
            Self::MovedRead { .. } => What::MovedRead,
            Self::ReadCommitted { .. } => What::ReadCommitted,
            Self::Deleted { .. } => What::Deleted,
            Self::Committed { .. } => What::Committed,
            Self::CommitRead { .. } => What::CommitRead,
            Self::Assigning { generation, .. } if *generation > 1 => What::Rebalanced,
            Self::Assigned { .. } => What::Assigned,
            Self::Stopped { whole: false, .. } => What::CutStop,
            Self::Restarted { clean: true, .. } => What::StoppedCleanly,
            Self::Created { .. } => What::Created,
            Self::Removed { .. } => What::Removed,
            _ => return None,
        })
    }
}
