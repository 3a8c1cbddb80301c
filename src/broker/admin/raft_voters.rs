//! AddRaftVoter (80), versions 0-1, and RemoveRaftVoter (81), version 0: who votes about the metadata (KIP-853,
//! `kafka-metadata-quorum add-controller` and `remove-controller`). Decided by whoever leads the quorum, whichever node
//! is asked; answered when the change is committed, of AddRaftVoter version 1 when it is appended if the client says so
//! (KIP-1186).
//!
//! - A voter is a node with a directory, that of its store-0. One more of a node that has one is DUPLICATE_VOTER, one
//!   that there is not VOTER_NOT_FOUND. A node alone cannot have others: UNSUPPORTED_VERSION, as of kraft.version 0.
//! - One change at a time: REQUEST_TIMED_OUT until the one before is committed, as in Kafka.
//! - A new voter has to be a live broker of this directory, which has caught up within
//!   [`VOTER_JOINS_WITHIN_MS`](crate::base::limits::VOTER_JOINS_WITHIN_MS): else REQUEST_TIMED_OUT. Others reach it
//!   where it has registered; the listeners of the request have to name this cluster's controller listener, and their
//!   addresses are not looked at. Kafka keeps those instead.
//! - What leaves no voter, or too few that are heard to be a majority, is INVALID_REQUEST. Kafka does it, and decides
//!   nothing more.
//! - A leader that loses its lead while it makes a change answers NOT_LEADER_OR_FOLLOWER: whether it is made is not
//!   known, and DescribeQuorum tells.

use bytes::Bytes;
use kafka_wire::{AddRaftVoterRequest, RemoveRaftVoterRequest};
use kafka_wire_core::{StrBytes, Uuid};

use super::deciding::{Decided, Deciding, Decision};
use super::voter_ask::VoterAsk;
use crate::base::{DirectoryId, ErrorCode, Leftovers, NodeId, Refused};
use crate::quorum::{Quorum, ReplicaKey, VoterChange, Voters};
use crate::wire::{self, RequestHeader, WireError};

/// Begins to decide on an AddRaftVoter request.
///
/// # Errors
/// If it is malformed.
pub fn add_raft_voter(header: &RequestHeader, body: Bytes) -> Result<Box<dyn Decision>, WireError> {
    let request: AddRaftVoterRequest = wire::decode(body, header.version)?;
    Ok(Box::new(Asking {
        ask: VoterAsk {
            header: header.clone(),
            change: VoterChange::Add(key(request.voter_id, request.voter_directory_id)),
            when_committed: request.ack_when_committed,
        },
        cluster: request.cluster_id,
        listeners: request.listeners.into_iter().map(|it| it.name).collect(),
    }))
}

/// Begins to decide on a RemoveRaftVoter request.
///
/// # Errors
/// If it is malformed.
pub fn remove_raft_voter(
    header: &RequestHeader,
    body: Bytes,
) -> Result<Box<dyn Decision>, WireError> {
    let request: RemoveRaftVoterRequest = wire::decode(body, header.version)?;
    Ok(Box::new(Asking {
        ask: VoterAsk {
            header: header.clone(),
            change: VoterChange::Remove(key(request.voter_id, request.voter_directory_id)),
            when_committed: true,
        },
        cluster: request.cluster_id,
        listeners: Vec::new(),
    }))
}

fn key(node: i32, directory: Uuid) -> ReplicaKey {
    ReplicaKey {
        node: NodeId(node),
        directory: DirectoryId(directory.to_bytes()),
    }
}

/// See the module.
#[derive(Debug)]
struct Asking {
    ask: VoterAsk,
    /// The cluster that the client means, if it says so.
    cluster: Option<StrBytes>,
    /// The names of the listeners of a new voter.
    listeners: Vec<StrBytes>,
}

impl Decision for Asking {
    fn go_on(&mut self, cx: &mut Deciding<'_>, left: &mut usize) -> Result<Decided, WireError> {
        *left = left.saturating_sub(1);
        Ok(match self.refusal(cx) {
            Ok(()) => Decided::Voters(Box::new(self.ask.clone())),
            Err(refused) => Decided::Whole {
                commits: false,
                reply: self.ask.told(Some(&refused))?,
                refusal: None,
            },
        })
    }

    fn leave(self: Box<Self>, _: &mut Leftovers) {}
}

impl Asking {
    /// Why the quorum is not even asked.
    fn refusal(&self, cx: &Deciding<'_>) -> Result<(), Refused> {
        let (config, image) = (cx.ctx.config, cx.ctx.image);
        let refuse = |code, why: String| Err(Refused::because(code, why));
        let (replica, verb) = match self.ask.change {
            VoterChange::Add(replica) => (replica, "adding"),
            VoterChange::Remove(replica) => (replica, "removing"),
        };
        let is_meant = |id: &StrBytes| Some(id.as_str()) == image.cluster_id.as_deref();
        if !self.cluster.as_ref().is_none_or(is_meant) {
            let id = image.cluster_id.as_deref().unwrap_or_default();
            return refuse(
                ErrorCode::InconsistentClusterId,
                format!("This is cluster {id}."),
            );
        }
        if replica.node.0 < 0 || replica.directory == DirectoryId([0; 16]) {
            let why = "A voter is the id of a node, and the id of its directory.";
            return refuse(ErrorCode::InvalidRequest, why.to_owned());
        }
        if let VoterChange::Add(_) = self.ask.change {
            let name = config.controller_listeners.first().map(|it| &*it.name);
            let name = name.unwrap_or("CONTROLLER");
            if !self
                .listeners
                .iter()
                .any(|it| it.eq_ignore_ascii_case(name))
            {
                let why = format!(
                    "The listeners of the new voter lack {name}, by which the others reach it."
                );
                return refuse(ErrorCode::InvalidRequest, why);
            }
        }
        if !cx.is_member {
            let why = format!(
                "Cluster doesn't support {verb} voter because the kraft.version feature is 0: this node stands alone."
            );
            return refuse(ErrorCode::UnsupportedVersion, why);
        }
        let Some(voters) = cx.quorum.map(Quorum::voters) else {
            return refuse(
                ErrorCode::NotLeaderOrFollower,
                "This node does not lead.".to_owned(),
            );
        };
        match self.ask.change {
            VoterChange::Remove(_) => may_go(replica, voters),
            VoterChange::Add(_) => {
                may_come(replica, voters)?;
                let known = image.brokers.get(replica.node);
                let directory = known.and_then(|it| it.directories.first().map(|first| first.id));
                let is_live = known.is_some_and(|it| !it.fenced);
                match directory {
                    Some(directory) if directory == replica.directory && is_live => Ok(()),
                    Some(directory) if directory != replica.directory => refuse(
                        ErrorCode::RequestTimedOut,
                        format!(
                            "New voter {replica} is not ready to receive requests: node {} has directory {directory}.",
                            replica.node
                        ),
                    ),
                    _ => refuse(
                        ErrorCode::RequestTimedOut,
                        format!(
                            "New voter {replica} is not ready to receive requests: it is no live broker."
                        ),
                    ),
                }
            }
        }
    }
}

fn may_come(replica: ReplicaKey, voters: &Voters) -> Result<(), Refused> {
    if voters.has_node(replica.node) {
        let why = format!(
            "The voter id for {replica} is already part of the set of voters {voters:?}: remove the one that is there first."
        );
        return Err(Refused::because(ErrorCode::DuplicateVoter, why));
    }
    if voters.with(replica).is_none() {
        let why = format!(
            "There are {} voters, as many as there may be.",
            voters.len()
        );
        return Err(Refused::because(ErrorCode::InvalidRequest, why));
    }
    Ok(())
}

fn may_go(replica: ReplicaKey, voters: &Voters) -> Result<(), Refused> {
    if !voters.contains(replica) {
        let why = format!("Cannot remove voter {replica} from the set of voters {voters:?}.");
        return Err(Refused::because(ErrorCode::VoterNotFound, why));
    }
    if voters.without(replica).is_none() {
        let why = format!("{replica} is the last voter: nobody would decide on anything any more.");
        return Err(Refused::because(ErrorCode::InvalidRequest, why));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use kafka_wire::add_raft_voter_request::Listener;

    use super::super::testing::{Cluster, text};
    use super::*;
    use crate::base::Mono;
    use crate::quorum::{QuorumConfig, Restored};

    fn directory(node: i32) -> Uuid {
        Uuid::from_bytes([node as u8; 16])
    }

    fn voter(node: i32) -> ReplicaKey {
        key(node, directory(node))
    }

    /// Brokers 1 to 3, of which the first have a vote.
    fn cluster(voters: i32) -> Cluster {
        let mut cluster = Cluster::of_three();
        let voters = Voters::new((1..=voters).map(voter)).unwrap();
        let config = QuorumConfig::new(1);
        let quorum = Quorum::new(voter(1), config, Restored::empty(voters), Mono(0));
        cluster.quorum = Some(quorum.unwrap());
        cluster
    }

    fn add(node: i32, directory: Uuid) -> AddRaftVoterRequest {
        let mut request = AddRaftVoterRequest::default();
        request.cluster_id = None;
        (request.voter_id, request.voter_directory_id) = (node, directory);
        let mut listener = Listener::default();
        listener.name = text("CONTROLLER");
        request.listeners = vec![listener];
        request
    }

    fn added(cluster: &mut Cluster, request: &AddRaftVoterRequest) -> ErrorCode {
        let answers = (0..=1).map(|version| {
            let response = cluster.ask(version, request, add_raft_voter);
            assert!(response.error_message.is_some_and(|it| !it.is_empty()));
            response.error_code
        });
        let codes: Vec<i16> = answers.collect();
        assert_eq!(codes[0], codes[1]);
        ErrorCode::from_code(codes[0]).unwrap()
    }

    fn removed(cluster: &mut Cluster, node: i32, directory: Uuid) -> ErrorCode {
        let mut request = RemoveRaftVoterRequest::default();
        request.cluster_id = None;
        (request.voter_id, request.voter_directory_id) = (node, directory);
        ErrorCode::from_code(cluster.ask(0, &request, remove_raft_voter).error_code).unwrap()
    }

    #[test]
    fn what_the_metadata_do_not_allow_is_refused_with_kafkas_codes() {
        let mut two = cluster(2);
        let mut other = add(3, directory(3));
        other.cluster_id = Some(text("another"));
        assert_eq!(added(&mut two, &other), ErrorCode::InconsistentClusterId);
        for (node, directory) in [(-1, directory(3)), (3, Uuid::from_bytes([0; 16]))] {
            let request = add(node, directory);
            assert_eq!(added(&mut two, &request), ErrorCode::InvalidRequest);
            assert_eq!(
                removed(&mut two, node, directory),
                ErrorCode::InvalidRequest
            );
        }
        let mut unnamed = add(3, directory(3));
        unnamed.listeners[0].name = text("PLAINTEXT");
        assert_eq!(added(&mut two, &unnamed), ErrorCode::InvalidRequest);
        for request in [add(2, directory(2)), add(2, directory(9))] {
            assert_eq!(added(&mut two, &request), ErrorCode::DuplicateVoter);
        }
        // Not there, or there with another directory.
        for request in [add(7, directory(7)), add(3, directory(9))] {
            assert_eq!(added(&mut two, &request), ErrorCode::RequestTimedOut);
        }
        assert_eq!(removed(&mut two, 2, directory(9)), ErrorCode::VoterNotFound);
        assert_eq!(removed(&mut two, 3, directory(3)), ErrorCode::VoterNotFound);
        let mut one = cluster(1);
        assert_eq!(
            removed(&mut one, 1, directory(1)),
            ErrorCode::InvalidRequest
        );
        let mut alone = Cluster::new();
        let request = add(3, directory(3));
        assert_eq!(added(&mut alone, &request), ErrorCode::UnsupportedVersion);
        assert_eq!(
            removed(&mut alone, 3, directory(3)),
            ErrorCode::UnsupportedVersion
        );
    }

    #[test]
    fn what_they_allow_the_quorum_is_asked_for() {
        let mut two = cluster(2);
        let known = two.image.brokers.get(NodeId(3)).unwrap();
        let there = Uuid::from_bytes(known.directories[0].id.0);
        let mut request = add(3, there);
        request.ack_when_committed = false;
        let (decided, _) = two.decide(1, &request, add_raft_voter);
        let Decided::Voters(ask) = decided else {
            panic!("{decided:?}");
        };
        let expected = VoterChange::Add(key(3, there));
        assert_eq!((ask.change, ask.when_committed), (expected, false));
        two.image.brokers.set_fenced(NodeId(3), true);
        request.ack_when_committed = true;
        assert_eq!(added(&mut two, &request), ErrorCode::RequestTimedOut);
    }
}
