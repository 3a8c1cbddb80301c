//! What has become of the partitions of a shard that other nodes have too, for whoever talks with those.

use crate::base::{IdMap, IdSet, LogId, NodeProcess, TopicId};
use crate::store::FlushSeq;

/// What has become of partitions that other nodes have too. Each log is in it once at most.
#[derive(Debug, Default)]
pub struct Roles {
    /// This process, as the first metadata had it that it has served by: a later one of its node is another one.
    pub(super) me: Option<NodeProcess>,
    /// It may lead.
    pub(super) is_live: bool,
    /// It stops, and leads no more what others may.
    pub(super) is_leaving: bool,
    /// There are other nodes.
    pub replicates: bool,
    /// Those that may be led by somebody else now, or have other replicas, or are gone.
    pub reassigned: IdSet<LogId>,
    /// Those whose logs are damaged as a whole: the topic and the index.
    pub(super) damaged: IdMap<LogId, (TopicId, i32)>,
    /// Those that this node leads and in which something has moved.
    pub moved: IdSet<LogId>,
    /// Those that it does not lead, and the last flush of them that is durable.
    pub durable: IdMap<LogId, FlushSeq>,
}

impl Roles {
    /// This process, once it serves.
    #[must_use]
    pub const fn me(&self) -> Option<NodeProcess> {
        self.me
    }

    /// Whether this node is one of several and may lead what others have too.
    #[must_use]
    pub const fn may_lead(&self) -> bool {
        self.replicates && self.is_live
    }

    /// A flush of a log that this node does not lead is durable, and all before it.
    pub fn durable(&mut self, log: LogId, flush: FlushSeq) {
        self.durable.insert(log, flush);
    }
}
