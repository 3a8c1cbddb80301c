//! Which nodes of a cluster talk with each other: what each of them says of itself is looked at on both sides.

use crate::base::NodeId;
use crate::wire::peer::{Hello, NodeFacts, PEER_VERSION, PeerRefusal};

/// Another node, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress {
    /// The node.
    pub node: NodeId,
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// What makes a node one of several. All shards of a node have the same.
#[derive(Clone, Debug)]
pub struct ClusterSetup {
    /// This process. Which cluster it is of its metadata say.
    pub me: NodeFacts,
    /// The other nodes, without this one.
    pub others: Vec<PeerAddress>,
}

/// Why a stream is refused: the kind, and what to do, for people.
pub(super) type GreetingRefused = (PeerRefusal, String);

impl ClusterSetup {
    /// This process as part of a cluster, or of none yet.
    #[must_use]
    pub(in crate::broker) fn facts(&self, cluster_id: Option<&str>) -> NodeFacts {
        NodeFacts {
            cluster_id: cluster_id.map(Into::into),
            ..self.me.clone()
        }
    }

    /// Whether a node that greets this one may open a stream to it. `me` are the facts of now.
    pub(super) fn may_come(&self, me: &NodeFacts, hello: &Hello) -> Result<(), GreetingRefused> {
        let (mine, theirs) = (me.node, hello.from.node);
        if theirs == mine {
            let text = format!("two nodes have node.id {mine}: give one of them another");
            return Err((PeerRefusal::SameNode, text));
        }
        if hello.to != mine {
            let text = format!(
                "this is node {mine}, not node {}: correct controller.quorum.voters of node {theirs}",
                hello.to
            );
            return Err((PeerRefusal::OtherNode, text));
        }
        if !self.others.iter().any(|other| other.node == theirs) {
            let text = format!("node {theirs} is not in controller.quorum.voters of node {mine}");
            return Err((PeerRefusal::NoMember, text));
        }
        fit(me, &hello.from)
    }
}

/// Whether the node that answered is the one that was meant.
pub(super) fn may_stay(
    me: &NodeFacts,
    meant: NodeId,
    answered: &NodeFacts,
) -> Result<(), GreetingRefused> {
    if answered.node != meant {
        let text = format!(
            "node {} is there instead: correct controller.quorum.voters",
            answered.node
        );
        return Err((PeerRefusal::OtherNode, text));
    }
    fit(me, answered)
}

/// Whether two nodes can be of one cluster.
pub(super) fn fit(me: &NodeFacts, other: &NodeFacts) -> Result<(), GreetingRefused> {
    if let (Some(mine), Some(theirs)) = (&me.cluster_id, &other.cluster_id)
        && mine != theirs
    {
        let text = format!(
            "node {} is of cluster {mine}, node {} of cluster {theirs}: one of them has the wrong stores, or is named \
             wrongly in controller.quorum.voters",
            me.node, other.node
        );
        return Err((PeerRefusal::OtherCluster, text));
    }
    if me.levels.0 > other.levels.1 || other.levels.0 > me.levels.1 {
        let text = format!(
            "node {} reads feature levels {} to {}, node {} levels {} to {}: upgrade the older one first",
            me.node, me.levels.0, me.levels.1, other.node, other.levels.0, other.levels.1
        );
        return Err((PeerRefusal::Version, text));
    }
    Ok(())
}

/// Why a process may not come, or stay, while another one of its node is heard.
pub(super) fn two_processes(heard: &NodeFacts, other: &NodeFacts) -> GreetingRefused {
    let text = format!(
        "two processes have node.id {}: start {} of directory {} is heard, and start {} of directory {} is there too. \
         Stop one of them, or give it another node.id and stores of its own",
        heard.node, heard.incarnation, heard.directory, other.incarnation, other.directory
    );
    (PeerRefusal::TwoProcesses, text)
}

/// What a node is told whose hello this release cannot take for what it is.
pub(super) fn text_of(why: PeerRefusal) -> String {
    match why {
        PeerRefusal::Version => {
            format!(
                "this release speaks version {PEER_VERSION} between nodes: upgrade step by step"
            )
        }
        PeerRefusal::Purpose => {
            "this release has no streams for that: upgrade this node first".to_owned()
        }
        _ => "this node takes part in no cluster".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::hub::tests::{facts, setup};
    use super::*;
    use crate::wire::peer::Purpose;

    fn hello(from: NodeFacts, to: i32) -> Hello {
        Hello {
            versions: (PEER_VERSION, PEER_VERSION),
            purpose: Purpose::Metadata,
            to: NodeId(to),
            number: 1,
            from,
        }
    }

    #[test]
    fn who_is_not_meant_is_refused_with_what_to_do() {
        let (setup, me) = (setup(1, &[2, 3]), facts(1, Some("a")));
        let comes = |from, to| {
            setup
                .may_come(&me, &hello(from, to))
                .map_err(|(why, _)| why)
        };
        assert_eq!(comes(facts(2, Some("a")), 1), Ok(()));
        assert_eq!(comes(facts(2, None), 1), Ok(()), "of no cluster yet");
        assert_eq!(comes(facts(1, Some("a")), 1), Err(PeerRefusal::SameNode));
        assert_eq!(comes(facts(2, Some("a")), 3), Err(PeerRefusal::OtherNode));
        assert_eq!(comes(facts(4, Some("a")), 1), Err(PeerRefusal::NoMember));
        assert_eq!(
            comes(facts(2, Some("b")), 1),
            Err(PeerRefusal::OtherCluster)
        );
        let newer = NodeFacts {
            levels: (me.levels.1 + 1, me.levels.1 + 2),
            ..facts(2, Some("a"))
        };
        assert_eq!(comes(newer, 1), Err(PeerRefusal::Version));
        let (_, text) = setup.may_come(&me, &hello(facts(1, None), 1)).unwrap_err();
        assert_eq!(text, "two nodes have node.id 1: give one of them another");
    }

    #[test]
    fn who_answers_has_to_be_the_one_that_was_meant() {
        let me = facts(1, Some("a"));
        let stays = |answered| may_stay(&me, NodeId(2), &answered).map_err(|(why, _)| why);
        assert_eq!(stays(facts(2, Some("a"))), Ok(()));
        assert_eq!(stays(facts(3, Some("a"))), Err(PeerRefusal::OtherNode));
        assert_eq!(stays(facts(2, Some("b"))), Err(PeerRefusal::OtherCluster));
    }
}
