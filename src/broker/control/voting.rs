//! A change of the voters that a client has asked for and waits for, and what people are told of votes that are lost.

use crate::broker::admin::VoterAsk;
use crate::broker::msg::ReqRef;
use crate::quorum::{EntryId, ReplicaKey};

/// A change that is being made.
#[derive(Debug)]
pub struct VoterChanging {
    /// Who waits for it.
    pub req: ReqRef,
    /// What he asks for.
    pub ask: VoterAsk,
    /// The entry that makes it, once there is one.
    pub entry: Option<EntryId>,
}

/// What to do where a node has lost the disk by which it had a vote, for people.
pub fn how_to_vote_again(lost: ReplicaKey, now: ReplicaKey) -> String {
    let node = lost.node;
    format!(
        "node {node} had a vote about the metadata with directory {}, and this is another one, {}: its disk was lost, or \
         it has the wrong log.dirs. It goes on without a vote, and nothing votes in the old one's name. If the old \
         directory will not come back, give the vote to this one: millracectl cluster voters remove {node}, then \
         millracectl cluster voters add {node} (or kafka-metadata-quorum remove-controller and add-controller)",
        lost.directory, now.directory
    )
}
