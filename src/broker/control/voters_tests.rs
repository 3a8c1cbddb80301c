//! Who has a vote is changed, a voter loses its disk, and what clients are told of it.

use bytes::Bytes;
use kafka_wire::add_raft_voter_request::Listener;
use kafka_wire::{AddRaftVoterRequest, RemoveRaftVoterRequest, RequestResponsePair};
use kafka_wire_core::Uuid;

use super::machine::Machine;
use super::quorum_tests::{NODES, Nodes};
use super::testing::req;
use crate::base::{DirectoryId, ErrorCode, NodeId, StoreId};
use crate::broker::apis;
use crate::broker::msg::{Called, ControlCall};
use crate::broker::peers::{Judged, PeerEvent, Verdict};
use crate::quorum::ReplicaKey;
use crate::wire::client::{decode_response, encode_request};
use crate::wire::parse_header;

fn replica(node: i32, set: u64) -> ReplicaKey {
    ReplicaKey {
        node: NodeId(node),
        directory: DirectoryId::new(set, StoreId(0)),
    }
}

fn call<Q: kafka_wire::KafkaRequest>(version: i16, request: &Q) -> Box<ControlCall> {
    let frame = encode_request(5, None, version, request).expect("a request");
    let (header, body) = parse_header(frame.slice(4..), apis::api).expect("a header");
    Box::new(ControlCall {
        header,
        body,
        listener: 0,
    })
}

fn add(voter: ReplicaKey, when_committed: bool) -> Box<ControlCall> {
    let mut request = AddRaftVoterRequest::default();
    (request.cluster_id, request.voter_id) = (None, voter.node.0);
    request.voter_directory_id = Uuid::from_bytes(voter.directory.0);
    let mut listener = Listener::default();
    listener.name = "CONTROLLER".into();
    request.listeners = vec![listener];
    request.ack_when_committed = when_committed;
    call(1, &request)
}

fn remove(voter: ReplicaKey) -> Box<ControlCall> {
    let mut request = RemoveRaftVoterRequest::default();
    (request.cluster_id, request.voter_id) = (None, voter.node.0);
    request.voter_directory_id = Uuid::from_bytes(voter.directory.0);
    call(0, &request)
}

fn code<Q: RequestResponsePair>(answer: &Result<Called, String>, version: i16) -> Q::Response {
    let Ok(Called::Frame(pieces)) = answer else {
        panic!("no answer: {answer:?}");
    };
    let frame: Bytes = pieces.concat().into();
    decode_response::<Q>(frame.slice(4..), version)
        .expect("an answer")
        .1
}

fn was_added(answer: &Result<Called, String>) -> ErrorCode {
    ErrorCode::from_code(code::<AddRaftVoterRequest>(answer, 1).error_code).expect("a code")
}

fn was_removed(answer: &Result<Called, String>) -> ErrorCode {
    ErrorCode::from_code(code::<RemoveRaftVoterRequest>(answer, 0).error_code).expect("a code")
}

fn ask(nodes: &mut Nodes, node: i32, call: Box<ControlCall>) {
    nodes
        .of(node)
        .act(|control, owner, fx| control.call(req(7), call, owner, fx));
    nodes.settle();
}

/// The answer that a node has for its client, if it has one.
fn told(nodes: &mut Nodes, node: i32) -> Option<Result<Called, String>> {
    let mut answers = nodes.answers(node);
    assert!(answers.len() < 2, "{answers:?}");
    answers.pop().map(|(_, answer)| answer)
}

fn voters(nodes: &mut Nodes, node: i32) -> Vec<ReplicaKey> {
    let quorum = nodes.of(node).control.metadata.quorum.as_ref();
    quorum.expect("a quorum").quorum().voters().iter().collect()
}

/// The node has another disk, and is started anew.
fn wipe(nodes: &mut Nodes, node: i32, set: u64) {
    nodes.machines[node as usize - 1] = Machine::node_of(node, NODES, set);
    let all: Vec<i32> = (1..=NODES).filter(|it| *it != node).collect();
    for other in &all {
        let why = "it was killed".to_owned();
        nodes.of(*other).act(|control, owner, fx| {
            control.peer_event(PeerEvent::Down(NodeId(node), why), owner, fx);
        });
    }
    // Whoever leads fences the process that is gone.
    for other in &all {
        let judged = |of: NodeId| {
            let verdict = match of.0 == node {
                true => Verdict::Dead,
                false => Verdict::Alive,
            };
            let judged = Judged {
                verdict,
                silence_ms_max: 0,
            };
            Some((DirectoryId::new(of.0 as u64, StoreId(0)), judged))
        };
        nodes
            .of(*other)
            .act(|control, owner, fx| control.look_at_others(judged, owner, fx));
    }
    nodes.machines[node as usize - 1].now = nodes.of(all[0]).now;
    for other in &all {
        nodes.of(*other).settle();
    }
    nodes.of(node).now = nodes.of(all[0]).now;
    nodes.of(node).start();
    for other in all {
        nodes.of(other).up(replica(node, set));
        nodes.of(node).up(replica(other, other as u64));
    }
    nodes.settle();
    (0..20).for_each(|_| nodes.pass(100));
}

/// Whichever node is asked, also the one that is to have no vote any more, or leads.
#[test]
fn voters_are_removed_and_added_by_who_leads() {
    let mut nodes = Nodes::new();
    for asked in 1..=NODES {
        for voter in 1..=NODES {
            let key = replica(voter, voter as u64);
            ask(&mut nodes, asked, remove(key));
            (0..20).for_each(|_| nodes.pass(100));
            let answer = told(&mut nodes, asked).expect("it is answered");
            assert_eq!(was_removed(&answer), ErrorCode::None, "{asked} {voter}");
            for node in 1..=NODES {
                assert_eq!(voters(&mut nodes, node).len(), 2, "{asked} {voter} {node}");
            }
            assert_ne!(nodes.leader(), Some(voter), "it has no vote");
            ask(&mut nodes, asked, remove(key));
            let answer = told(&mut nodes, asked).expect("it is answered");
            assert_eq!(was_removed(&answer), ErrorCode::VoterNotFound);
            ask(&mut nodes, asked, add(key, asked == 1));
            (0..20).for_each(|_| nodes.pass(100));
            let answer = told(&mut nodes, asked).expect("it is answered");
            assert_eq!(was_added(&answer), ErrorCode::None, "{asked} {voter}");
            for node in 1..=NODES {
                assert_eq!(voters(&mut nodes, node).len(), 3, "{asked} {voter} {node}");
            }
        }
    }
}

#[test]
fn a_voter_that_has_lost_its_disk_observes_until_it_is_given_a_vote() {
    let mut nodes = Nodes::new();
    let lost = (1..=NODES).find(|it| nodes.leader() != Some(*it)).unwrap();
    let (old, new) = (replica(lost, lost as u64), replica(lost, 77));
    wipe(&mut nodes, lost, 77);
    let leader = nodes.leader().expect("two of three are there");
    let committed = nodes.of(leader).committed().version;
    assert_eq!(
        nodes.of(lost).committed().version,
        committed,
        "it has everything"
    );
    assert!(voters(&mut nodes, lost).contains(&old));
    assert_eq!(nodes.of(lost).fatal, None);
    // Its broker is one again, with the new directory.
    let known = nodes
        .of(leader)
        .committed()
        .brokers
        .get(NodeId(lost))
        .cloned();
    assert_eq!(known.expect("a broker").directories[0].id, new.directory);
    ask(&mut nodes, lost, add(new, true));
    let answer = told(&mut nodes, lost).expect("it is answered");
    assert_eq!(
        was_added(&answer),
        ErrorCode::DuplicateVoter,
        "the old one first"
    );
    ask(&mut nodes, lost, remove(old));
    nodes.pass(100);
    let answer = told(&mut nodes, lost).expect("it is answered");
    assert_eq!(was_removed(&answer), ErrorCode::None);
    ask(&mut nodes, lost, add(new, true));
    nodes.pass(1_000);
    let answer = told(&mut nodes, lost).expect("it is answered");
    assert_eq!(was_added(&answer), ErrorCode::None);
    for node in 1..=NODES {
        assert!(voters(&mut nodes, node).contains(&new), "{node}");
    }
}

/// One that is no node any more, and what comes meanwhile.
#[test]
fn a_new_voter_that_does_not_come_is_given_up() {
    let mut nodes = Nodes::new();
    let leader = nodes.leader().expect("one leads");
    let gone = leader % NODES + 1;
    let key = replica(gone, gone as u64);
    ask(&mut nodes, leader, remove(key));
    (0..10).for_each(|_| nodes.pass(100));
    assert_eq!(
        was_removed(&told(&mut nodes, leader).expect("an answer")),
        ErrorCode::None
    );
    let leader = nodes.leader().expect("one leads");
    nodes.deaf = Some(gone);
    ask(&mut nodes, leader, add(key, true));
    assert_eq!(told(&mut nodes, leader), None);
    // Another client is told at once.
    let again = add(key, true);
    nodes
        .of(leader)
        .act(|control, owner, fx| control.call(req(8), again, owner, fx));
    nodes.settle();
    assert_eq!(
        was_added(&told(&mut nodes, leader).expect("an answer")),
        ErrorCode::RequestTimedOut
    );
    (0..130).for_each(|_| nodes.pass(100));
    let answer = told(&mut nodes, leader).expect("it is given up");
    assert_eq!(was_added(&answer), ErrorCode::RequestTimedOut);
    assert_eq!(voters(&mut nodes, leader).len(), 2);
    nodes.deaf = None;
    nodes.settle();
    ask(&mut nodes, leader, add(key, true));
    (0..20).for_each(|_| nodes.pass(100));
    assert_eq!(
        was_added(&told(&mut nodes, leader).expect("an answer")),
        ErrorCode::None
    );
}

/// It does not know what becomes of it.
#[test]
fn a_leader_that_loses_its_lead_says_so() {
    let mut nodes = Nodes::new();
    let leader = nodes.leader().expect("one leads");
    let other = leader % NODES + 1;
    nodes.deaf = Some(leader);
    ask(&mut nodes, leader, remove(replica(other, other as u64)));
    assert_eq!(told(&mut nodes, leader), None);
    (0..50).for_each(|_| nodes.pass(100));
    let answer = told(&mut nodes, leader).expect("it is answered");
    assert_eq!(was_removed(&answer), ErrorCode::NotLeaderOrFollower);
    nodes.deaf = None;
    (0..20).for_each(|_| nodes.pass(100));
    let all = voters(&mut nodes, 1);
    for node in 1..=NODES {
        assert_eq!(voters(&mut nodes, node), all, "{node}");
    }
}
