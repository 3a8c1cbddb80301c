//! Who leads what a client has asked of this node and another one leads: said with the error (KIP-951), so that it goes
//! there at once.

use std::collections::BTreeMap;

use super::Front;
use super::conns::ReplyTo;
use crate::base::ErrorCode;
use crate::wire::{CurrentLeader, NodeEndpoint, TopicRef};

/// What is said of leaders in one answer.
#[derive(Debug)]
pub struct LeaderHints {
    /// The client's; none if its version has no place for it, or the client is gone.
    listener: Option<usize>,
    endpoints: BTreeMap<i32, NodeEndpoint>,
}

impl LeaderHints {
    /// Of an answer to this request, `may` there be any in it.
    pub fn new(front: &Front, to: ReplyTo, may: bool) -> Self {
        let client = front.conns.get(to.conn).filter(|_| may);
        Self {
            listener: client.map(|client| client.listener),
            endpoints: BTreeMap::new(),
        }
    }

    /// Who leads a partition, by the metadata that this shard serves by, if that is what the error is about.
    pub fn leader(
        &mut self,
        front: &Front,
        topic: &TopicRef,
        index: i32,
        error: ErrorCode,
    ) -> Option<CurrentLeader> {
        let is_elsewhere = matches!(
            error,
            ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch
        );
        let listener = self.listener.filter(|_| is_elsewhere)?;
        let partition = front.topic(topic).ok()?.partition(index)?;
        let (image, config) = (&front.image, &front.config);
        let leader = front.brokers.leader(image, config, listener, partition)?;
        let id = leader.id;
        self.endpoints.entry(id).or_insert_with(|| NodeEndpoint {
            id,
            host: leader.host,
            port: leader.port,
        });
        Some(CurrentLeader {
            id,
            epoch: partition.leader_epoch.0,
        })
    }

    /// Where those are that were named.
    pub fn endpoints(self) -> Vec<NodeEndpoint> {
        self.endpoints.into_values().collect()
    }
}
