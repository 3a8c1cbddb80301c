//! Which nodes of a cluster talk with each other: what each of them says of itself is looked at on both sides.

use crate::base::NodeId;
use crate::controller::{BrokerAddress, Image, Registration};
use crate::wire::NodePlace;
use crate::wire::peer::{Hello, NodeFacts, PEER_VERSION, PeerRefusal};

/// Another node, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress {
    /// The node; less than 0 if that is to be found out there.
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
    /// The voters of the configuration, without this node.
    pub others: Vec<PeerAddress>,
    /// Whether the configuration gives this node no vote: those that vote may give it one.
    pub observes: bool,
    /// Whether it has the controller role, as who votes should.
    pub may_vote: bool,
    /// Where it finds voters that the configuration does not name: host and port each.
    pub servers: Vec<(String, u16)>,
    /// Where other nodes reach this one, by which listener.
    pub reached: Option<BrokerAddress>,
}

/// Why a stream is refused: the kind, and what to do, for people.
pub(super) type GreetingRefused = (PeerRefusal, String);

impl ClusterSetup {
    /// A voter among these other ones, all of whom the configuration names.
    #[must_use]
    pub const fn of_voters(me: NodeFacts, others: Vec<PeerAddress>) -> Self {
        Self {
            me,
            others,
            observes: false,
            may_vote: true,
            servers: Vec::new(),
            reached: None,
        }
    }

    /// The voters of the configuration, in order; none if it leaves that to others.
    #[must_use]
    pub fn voters(&self) -> Vec<NodeId> {
        let me = (!self.observes).then_some(self.me.node);
        let others = self.others.iter().map(|other| other.node);
        let mut voters: Vec<NodeId> = others.chain(me).collect();
        voters.sort_unstable();
        voters
    }

    /// Whether the configuration says where a node is.
    #[must_use]
    pub fn names(&self, node: NodeId) -> bool {
        self.others.iter().any(|other| other.node == node)
    }

    /// What the configuration says of the nodes, for other ones.
    pub(in crate::broker) fn place(&self) -> NodePlace {
        let reached = self.reached.as_ref();
        NodePlace {
            voters: self.voters(),
            reached: reached.map(|it| (it.host.clone(), it.port)),
        }
    }

    /// Where a broker has registered that other nodes reach it, by a listener of the name of this node's.
    #[must_use]
    pub fn registered(&self, broker: &Registration) -> Option<PeerAddress> {
        let listener = &self.reached.as_ref()?.listener;
        let mut all = broker.addresses.iter();
        let address = all.find(|it| it.listener == *listener && it.port > 0)?;
        Some(PeerAddress {
            node: broker.member.node,
            host: address.host.clone(),
            port: address.port,
        })
    }

    /// Where a node is, by the configuration or by what it has registered.
    #[must_use]
    pub fn address_of(&self, node: NodeId, image: &Image) -> Option<PeerAddress> {
        let named = self.others.iter().find(|other| other.node == node);
        let registered = || self.registered(image.brokers.get(node)?);
        named.cloned().or_else(registered)
    }

    /// What is to be said if another node's configuration names other voters than this one's; of one of an earlier
    /// release, or that names none, nothing is known.
    pub(super) fn differs(&self, hello: &Hello) -> Option<String> {
        let (mine, mut theirs) = (self.voters(), hello.place.voters.clone());
        theirs.sort_unstable();
        let differ = !mine.is_empty() && !theirs.is_empty() && mine != theirs;
        differ.then(|| {
            format!(
                "controller.quorum.voters of node {} names nodes {}, that of node {} nodes {}: it has to be the same \
                 everywhere",
                self.me.node,
                listed(&mine),
                hello.from.node,
                listed(&theirs)
            )
        })
    }

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
        if hello.to != mine && hello.to.0 >= 0 {
            let text = format!(
                "this is node {mine}, not node {}: correct controller.quorum.voters of node {theirs}",
                hello.to
            );
            return Err((PeerRefusal::OtherNode, text));
        }
        let observes = hello.place.observes(theirs);
        // One that was not told who the voters are takes those that there are.
        if !self.names(theirs) && !observes && !self.others.is_empty() {
            let text = format!(
                "node {theirs} is not in controller.quorum.voters of node {mine}: let it not name itself there, but give \
                 it controller.quorum.bootstrap.servers alone; those that vote can give it a vote then"
            );
            return Err((PeerRefusal::NoMember, text));
        }
        fit(me, &hello.from)
    }
}

/// Nodes, for people.
fn listed(nodes: &[NodeId]) -> String {
    let nodes: Vec<String> = nodes.iter().map(ToString::to_string).collect();
    nodes.join(", ")
}

/// Whether the node that answered is the one that was meant.
pub(super) fn may_stay(
    me: &NodeFacts,
    meant: NodeId,
    answered: &NodeFacts,
) -> Result<(), GreetingRefused> {
    if answered.node == me.node {
        let text = format!("node {} is this node itself, or has its node.id", me.node);
        return Err((PeerRefusal::SameNode, text));
    }
    if answered.node != meant && meant.0 >= 0 {
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
            place: NodePlace::default(),
        }
    }

    #[test]
    fn an_observer_may_come_and_one_who_thinks_that_it_votes_may_not() {
        let setup = setup(1, &[2, 3]);
        let me = facts(1, Some("a"));
        let comes = |from, voters: &[i32], reached: bool| {
            let mut hello = hello(from, 1);
            hello.place = NodePlace {
                voters: voters.iter().copied().map(NodeId).collect(),
                reached: reached.then(|| ("a".to_owned(), 1)),
            };
            setup.may_come(&me, &hello).map_err(|(why, _)| why)
        };
        let four = || facts(4, None);
        assert_eq!(comes(four(), &[1, 2, 3], true), Ok(()));
        assert_eq!(comes(four(), &[], true), Ok(()), "told by a server");
        assert_eq!(comes(four(), &[1, 2], true), Ok(()), "it decides nothing");
        let no_member = Err(PeerRefusal::NoMember);
        assert_eq!(comes(four(), &[1, 2, 3, 4], true), no_member);
        assert_eq!(comes(four(), &[1, 2, 3], false), no_member);
        // That two voters differ is told, and what forms a quorum, or has one on its disk, needs no more.
        assert_eq!(comes(facts(2, None), &[1, 2], true), Ok(()));
        let mut differing = hello(facts(2, None), 1);
        differing.place.voters = vec![NodeId(1), NodeId(2)];
        let said = setup.differs(&differing).unwrap();
        assert!(
            said.contains("of node 1 names nodes 1, 2, 3, that of node 2 nodes 1, 2:"),
            "{said}"
        );
    }

    #[test]
    fn a_node_that_is_to_be_found_out_may_be_any_but_this_one() {
        let me = facts(1, Some("a"));
        let stays = |answered| may_stay(&me, NodeId(-1), &answered).map_err(|(why, _)| why);
        assert_eq!(stays(facts(3, Some("a"))), Ok(()));
        assert_eq!(stays(facts(1, Some("a"))), Err(PeerRefusal::SameNode));
        let setup = setup(1, &[2]);
        assert_eq!(setup.may_come(&me, &hello(facts(2, Some("a")), -1)), Ok(()));
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
