//! A node without a vote: how it begins, what it tells and is told.

use super::machine::{Machine, address};
use super::members::MemberAsk;
use super::said::NodeSaid;
use super::testing::replica;
use crate::base::{LeaderEpoch, NodeId};
use crate::controller::BrokerAddress;
use crate::controller::testing::broker;
use crate::quorum::{
    EntryId, EntryIndex, Formed, Knows, Payload, QuorumEntry, QuorumMessage, ReplicaKey, Restored,
    Says, Sitting, Voters,
};

/// A replica of another node, or that of this one, which is node 4.
fn key(node: i32) -> ReplicaKey {
    replica(node, 4)
}

fn formed(voters: [i32; 3]) -> NodeSaid {
    NodeSaid::Sits(Sitting {
        replica: key(voters[0]),
        knows: Knows::Formed(Formed {
            cluster: "formed".into(),
            voters: Voters::new(voters.map(key)).unwrap(),
        }),
    })
}

/// The leader, node 2, sends its first entry.
fn append(machine: &mut Machine) {
    let id = EntryId {
        term: LeaderEpoch(1),
        index: EntryIndex(1),
    };
    let payload = Payload::LeaderChange;
    let says = Says::Append {
        prev: EntryId::default(),
        entries: vec![QuorumEntry { id, payload }],
        commit: EntryIndex(1),
    };
    let message = QuorumMessage {
        from: key(2),
        to: key(4),
        term: LeaderEpoch(1),
        says,
    };
    machine.heard(NodeId(2), &NodeSaid::Quorum(message));
    machine.settle();
}

fn reached(listener: &str, node: i32) -> BrokerAddress {
    BrokerAddress {
        listener: listener.to_owned(),
        host: format!("node-{node}"),
        port: 9093,
        shards: Vec::new(),
    }
}

fn has_quorum(machine: &Machine) -> bool {
    machine.control.metadata.quorum.is_some()
}

#[test]
fn an_observer_begins_when_a_voter_says_who_votes_and_acknowledges_what_it_is_sent() {
    let mut machine = Machine::observer(4, 3);
    machine.start();
    machine.up(key(1));
    machine.settle();
    let blank = NodeSaid::Sits(Sitting {
        replica: key(4),
        knows: Knows::Blank(None),
    });
    assert_eq!(machine.said(), [(NodeId(1), blank)]);
    assert!(!has_quorum(&machine));
    machine.heard(NodeId(1), &formed([1, 2, 3]));
    machine.settle();
    assert!(has_quorum(&machine));
    assert_eq!(machine.committed().cluster_id.as_deref(), Some("formed"));
    machine.up(key(2));
    machine.said();
    append(&mut machine);
    let said = machine.said();
    let has_it = |(to, said): &(NodeId, NodeSaid)| match said {
        NodeSaid::Quorum(message) => {
            let matched = EntryIndex(1);
            *to == NodeId(2) && message.says == Says::Appended { matched }
        }
        _ => false,
    };
    assert!(said.iter().any(has_it), "{said:?}");
    // It asks the leader to be a broker, and says where other nodes reach it.
    let asks = said.iter().find_map(|(to, said)| match said {
        NodeSaid::Ask(MemberAsk::Register(joining)) => Some((*to, joining.addresses.clone())),
        _ => None,
    });
    let (to, addresses) = asks.expect("it asks to be registered");
    assert_eq!(to, NodeId(2));
    assert!(
        addresses
            .iter()
            .any(|it| it.listener == "C" && it.host == "node-4")
    );
    // What it has is there again, and it follows again.
    let file = machine.file.clone();
    let mut again = Machine::restart_as_observer(file, 4, 3);
    let again = again.as_mut().expect("it starts");
    assert!(has_quorum(again));
}

#[test]
fn one_that_has_a_vote_keeps_it_whatever_its_roles_are_and_says_so() {
    let mut machine = Machine::one_of_several(&[NodeId(2), NodeId(3)]);
    machine.start();
    let me = ReplicaKey {
        node: NodeId(1),
        ..key(4)
    };
    for node in [2, 3] {
        machine.up(key(node));
        let knows = Knows::Blank(Voters::new([me, key(2), key(3)]));
        let replica = key(node);
        let sits = NodeSaid::Sits(Sitting { replica, knows });
        machine.heard(NodeId(node), &sits);
    }
    machine.settle();
    assert!(has_quorum(&machine));
    let again = Machine::restart_as_observer(machine.file.clone(), 1, 3);
    let again = again.as_ref().expect("it starts");
    let quorum = again.control.metadata.quorum.as_ref().unwrap();
    assert!(quorum.quorum().voters().contains(me));
    let doubts = |restored: &Restored| {
        let others = &again.control.others;
        others.doubts(restored, again.committed()).join("\n")
    };
    let said = doubts(&Restored::empty(quorum.quorum().voters().clone()));
    assert!(said.contains("the broker role alone"), "{said}");
    // Others have a vote in its place, or nobody knows where they are.
    let with = |one, other| Voters::new([key(2), key(3), one, other]).unwrap();
    let lost = ReplicaKey {
        node: NodeId(1),
        ..key(7)
    };
    let said = doubts(&Restored::empty(with(lost, key(9))));
    assert!(said.contains("its disk was lost"), "{said}");
    let said = doubts(&Restored::empty(with(me, key(9))));
    assert!(
        said.contains("where nodes [NodeId(9)] are") || said.contains("where nodes [9] are"),
        "{said}"
    );
}

#[test]
fn a_voter_tells_a_node_without_a_vote_where_the_voters_are() {
    let mut voter = Machine::node(1, 3);
    voter.start();
    for node in [3, 9] {
        voter.up(key(node));
    }
    voter.settle();
    let nodes = |(to, said): (NodeId, NodeSaid)| match said {
        NodeSaid::Nodes(addresses) => Some((to, addresses)),
        _ => None,
    };
    let told: Vec<_> = voter.said().into_iter().filter_map(nodes).collect();
    let (two, three) = (address(NodeId(2)), address(NodeId(3)));
    assert_eq!(told, [(NodeId(9), vec![two.clone(), three.clone()])]);
    // An observer looks there; a voter knows better.
    let mut observer = Machine::observer(4, 0);
    observer.start();
    observer.up(key(1));
    let said = NodeSaid::Nodes(vec![two.clone(), three]);
    observer.heard(NodeId(1), &said);
    assert_eq!(observer.control.others.next_known(), Some(two));
    voter.heard(NodeId(3), &said);
    assert_eq!(voter.control.others.next_known(), None);
}

#[test]
fn brokers_are_found_where_they_have_registered() {
    let mut observer = Machine::observer(4, 3);
    observer.start();
    let others = &mut observer.control.others;
    let mut image = observer.control.metadata.committed.clone();
    for node in [1, 4, 6] {
        let mut registered = broker(node, 1);
        registered.addresses = ["PLAINTEXT", "C"].map(|name| reached(name, node)).into();
        image.brokers.register(registered).unwrap();
    }
    others.learn(&image);
    assert_eq!(
        others.next_known(),
        Some(address(NodeId(6))),
        "who is not named, nor this node"
    );
    assert_eq!(others.next_known(), None);
    others.learn(&image);
    assert_eq!(others.next_known(), None, "once");
}
