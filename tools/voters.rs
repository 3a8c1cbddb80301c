//! `cluster voters`: who votes about the metadata, and changes of that (KIP-853).

use kafka_wire::add_raft_voter_request::Listener;
use kafka_wire::describe_quorum_request::{PartitionData as Asked, TopicData};
use kafka_wire::describe_quorum_response::{Node, PartitionData, ReplicaState};
use kafka_wire::{AddRaftVoterRequest, DescribeQuorumRequest, RemoveRaftVoterRequest};
use kafka_wire_core::{StrBytes, Uuid};
use millrace::base::DirectoryId;
use millrace_client::{ClientError, Cluster, Result, message};

use crate::answer::{Answer, Cell, Output, Rows};
use crate::args::VotersCommand;
use crate::failure::{Failure, Outcome, Status};
use crate::kafka_source::METADATA_TOPIC;

/// How long the new voter may take to catch up.
const ADDED_WITHIN_MS: i32 = 30_000;

/// How far the replicas of the metadata are, and where the voters listen, as whoever leads tells it.
pub fn described(cluster: &mut Cluster) -> Result<(PartitionData, Vec<Node>)> {
    let log = message!(TopicData {
        topic_name: StrBytes::from(METADATA_TOPIC),
        partitions: vec![Asked::default()],
    });
    let request = message!(DescribeQuorumRequest { topics: vec![log] });
    let response = cluster.any()?.call(&request)?;
    let what = || "describe the quorum".to_owned();
    ClientError::check(what, response.error_code, response.error_message.as_deref())?;
    let mut topics = response.topics.into_iter();
    let log = topics
        .next()
        .and_then(|it| it.partitions.into_iter().next());
    let log = log.unwrap_or_default();
    ClientError::check(what, log.error_code, log.error_message.as_deref())?;
    Ok((log, response.nodes))
}

/// Runs the command.
pub fn run(cluster: &mut Cluster, output: Output, command: Option<VotersCommand>) -> Outcome {
    let answer = match command.unwrap_or(VotersCommand::Show) {
        VotersCommand::Show => show(cluster)?,
        VotersCommand::Add {
            node,
            listener,
            directory,
        } => {
            let (log, _) = described(cluster)?;
            let replica = chosen(&log.observers, node, directory.as_deref())
                .map_err(|why| why.among(&log, "observes the metadata"))?;
            add(cluster, node, replica, listener)?
        }
        VotersCommand::Remove { node, directory } => {
            let (log, _) = described(cluster)?;
            let replica = chosen(&log.current_voters, node, directory.as_deref())
                .map_err(|why| why.among(&log, "has a vote about the metadata"))?;
            remove(cluster, node, replica)?
        }
    };
    output.show(&answer)
}

/// Kafka's text form of a directory.
fn text(directory: Uuid) -> String {
    DirectoryId(directory.to_bytes()).to_string()
}

/// Why no replica is meant.
#[derive(Debug, PartialEq, Eq)]
enum NotFound {
    /// None of this node.
    Node(i32),
    /// None with this directory; which ones there are.
    Directory(i32, String, Vec<String>),
    /// More than one.
    Several(i32, Vec<String>),
}

impl NotFound {
    fn among(self, log: &PartitionData, what: &str) -> Failure {
        let text = match self {
            Self::Node(node) => {
                let nodes = |all: &[ReplicaState]| {
                    let nodes: Vec<String> =
                        all.iter().map(|it| it.replica_id.to_string()).collect();
                    nodes.join(",")
                };
                let (voters, observers) = (nodes(&log.current_voters), nodes(&log.observers));
                format!(
                    "node {node} is none that {what}: voters are {voters}, observers {observers}"
                )
            }
            Self::Directory(node, wanted, there) => {
                format!(
                    "node {node} {what} with directory {}, not {wanted}",
                    there.join(",")
                )
            }
            Self::Several(node, there) => format!(
                "node {node} {what} with several directories, {}: say which by --directory",
                there.join(",")
            ),
        };
        Failure::new(Status::Failed, text)
    }
}

/// The directory of the replica that is meant.
fn chosen(
    all: &[ReplicaState],
    node: i32,
    directory: Option<&str>,
) -> std::result::Result<Uuid, NotFound> {
    let of_node = all.iter().filter(|it| it.replica_id == node);
    let of_node: Vec<Uuid> = of_node.map(|it| it.replica_directory_id).collect();
    let there = || of_node.iter().copied().map(text).collect();
    match (&of_node[..], directory) {
        ([], _) => Err(NotFound::Node(node)),
        ([one], None) => Ok(*one),
        (_, None) => Err(NotFound::Several(node, there())),
        (several, Some(wanted)) => {
            let mut several = several.iter().copied();
            let found = several.find(|it| text(*it) == wanted);
            found.ok_or_else(|| NotFound::Directory(node, wanted.to_owned(), there()))
        }
    }
}

fn show(cluster: &mut Cluster) -> Result<Answer> {
    let (log, nodes) = described(cluster)?;
    let mut rows = Rows::of(&["node", "role", "directory", "listener", "lag"]);
    let end = log.current_voters.iter();
    let end = end.clone().find(|it| it.replica_id == log.leader_id);
    let end = end.map_or(log.high_watermark, |leader| leader.log_end_offset);
    let mut add = |state: &ReplicaState, role: &str, listener: Option<String>| {
        let lag = (end - state.log_end_offset).max(0);
        let is_known = state.log_end_offset >= 0;
        rows.add([
            state.replica_id.into(),
            role.into(),
            text(state.replica_directory_id).into(),
            listener.into(),
            if is_known { lag.into() } else { Cell::Null },
        ]);
    };
    for voter in &log.current_voters {
        let node = nodes.iter().find(|node| node.node_id == voter.replica_id);
        let listener = node.and_then(|node| node.listeners.first());
        let listener = listener.map(|it| format!("{}://{}:{}", it.name, it.host, it.port));
        let leads = voter.replica_id == log.leader_id;
        add(voter, if leads { "leader" } else { "voter" }, listener);
    }
    for observer in &log.observers {
        add(observer, "observer", None);
    }
    Ok(Answer::new()
        .field("leader", Cell::id(log.leader_id).alarm(log.leader_id < 0))
        .rows("replicas", rows))
}

fn add(
    cluster: &mut Cluster,
    node: i32,
    directory: Uuid,
    (name, host, port): (String, String, u16),
) -> Result<Answer> {
    let listener = message!(Listener {
        name: StrBytes::from(name),
        host: StrBytes::from(host),
        port: port,
    });
    let request = message!(AddRaftVoterRequest {
        cluster_id: None,
        timeout_ms: ADDED_WITHIN_MS,
        voter_id: node,
        voter_directory_id: directory,
        listeners: vec![listener],
        ack_when_committed: true,
    });
    let response = cluster.any()?.call(&request)?;
    let what = || format!("give node {node} a vote");
    ClientError::check(what, response.error_code, response.error_message.as_deref())?;
    Ok(Answer::new()
        .field("added", node)
        .field("directory", text(directory)))
}

fn remove(cluster: &mut Cluster, node: i32, directory: Uuid) -> Result<Answer> {
    let request = message!(RemoveRaftVoterRequest {
        cluster_id: None,
        voter_id: node,
        voter_directory_id: directory,
    });
    let response = cluster.any()?.call(&request)?;
    let what = || format!("take the vote from node {node}");
    ClientError::check(what, response.error_code, response.error_message.as_deref())?;
    Ok(Answer::new()
        .field("removed", node)
        .field("directory", text(directory)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_is_meant_by_its_node_or_also_by_its_directory() {
        let of = |node, directory| {
            let mut state = ReplicaState::default();
            state.replica_id = node;
            state.replica_directory_id = Uuid::from_bytes([directory; 16]);
            state
        };
        let all = [of(1, 1), of(3, 3), of(3, 9)];
        let id = |directory| Uuid::from_bytes([directory; 16]);
        let name = |directory| text(id(directory));
        assert_eq!(chosen(&all, 1, None), Ok(id(1)));
        assert_eq!(chosen(&all, 3, Some(&name(9))), Ok(id(9)));
        assert_eq!(chosen(&all, 2, None), Err(NotFound::Node(2)));
        let both = vec![name(3), name(9)];
        assert_eq!(chosen(&all, 3, None), Err(NotFound::Several(3, both)));
        let other = NotFound::Directory(1, name(3), vec![name(1)]);
        assert_eq!(chosen(&all, 1, Some(&name(3))), Err(other));
    }
}
