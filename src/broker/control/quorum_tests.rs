//! Control shards of several nodes that talk to each other: what one decides for another.

use super::forwarding::ForwardedHere;
use super::machine::Machine;
use super::said::{CallSaid, NodeSaid};
use super::testing::{req, topic};
use crate::base::limits::{DECODE_BYTES_MAX, FORWARDED_BYTES_MAX, MOVES_PER_CHANGE_MAX};
use crate::base::{DirectoryId, ErrorCode, LeaderEpoch, LogId, NodeId, StoreId, TopicId};
use crate::broker::admin::{Altered, alter_partition_call, altered};
use crate::broker::apis;
use crate::broker::msg::{Called, ControlCall};
use crate::broker::peers::{Judged, PeerEvent, Verdict};
use crate::controller::{AlterInSync, Elections, Image, MetadataRecord, PartitionRecord};
use crate::quorum::ReplicaKey;
use crate::wire::client::encode_request;
use crate::wire::{Api, parse_header};

pub const NODES: i32 = 3;
const TOPIC: TopicId = TopicId([1; 16]);
/// A process that looks at its clock as often as that runs all the time.
const STEP_MS: u64 = 20;

fn directory(node: i32) -> DirectoryId {
    DirectoryId::new(node as u64, StoreId(0))
}

/// Nodes 1 to 3, each of which hears the others at once.
pub struct Nodes {
    pub machines: Vec<Machine>,
    /// What one node would hear of another, if it is kept from it: from, to, what.
    kept: Vec<(i32, i32, NodeSaid)>,
    /// Whom messages of the quorum do not reach.
    pub deaf: Option<i32>,
}

impl Nodes {
    /// All of them are brokers that may lead.
    pub fn new() -> Self {
        let machines = (1..=NODES).map(|node| Machine::node(node, NODES)).collect();
        let mut nodes = Self {
            machines,
            kept: Vec::new(),
            deaf: None,
        };
        nodes.machines.iter_mut().for_each(Machine::start);
        for (node, other) in (1..=NODES).flat_map(|a| (1..=NODES).map(move |b| (a, b))) {
            if node != other {
                nodes.of(node).up(ReplicaKey {
                    node: NodeId(other),
                    directory: directory(other),
                });
            }
        }
        for _ in 0..100 {
            nodes.pass(100);
            let status = nodes.of(1).control.status();
            if status.is_some_and(|it| it.live == NODES as usize) && nodes.leader().is_some() {
                return nodes;
            }
        }
        panic!("no quorum of three brokers");
    }

    pub fn of(&mut self, node: i32) -> &mut Machine {
        &mut self.machines[node as usize - 1]
    }

    /// Who leads the quorum.
    pub fn leader(&self) -> Option<i32> {
        let mut nodes = (1..).zip(&self.machines);
        let leader = nodes.find(|(_, machine)| machine.control.metadata.leads());
        leader.map(|(node, _)| node)
    }

    /// Time passes, in which all of them run.
    pub fn pass(&mut self, ms: u64) {
        (0..ms / STEP_MS).for_each(|_| self.stand_still(STEP_MS));
    }

    /// None of them runs for so long.
    fn stand_still(&mut self, ms: u64) {
        for machine in &mut self.machines {
            machine.now.mono = machine.now.mono.plus_ms(ms);
        }
        self.settle();
    }

    /// Who leads the quorum, and in which term.
    fn leads(&self) -> Option<(i32, LeaderEpoch)> {
        let mut nodes = (1..).zip(&self.machines);
        nodes.find_map(|(node, machine)| Some((node, machine.control.status()?.leads?)))
    }

    /// Lets everything happen, and everybody hear what is said.
    pub fn settle(&mut self) {
        loop {
            let mut said = std::mem::take(&mut self.kept);
            for (node, machine) in (1..).zip(&mut self.machines) {
                machine.settle();
                assert_eq!(machine.fatal, None);
                said.extend(machine.said().into_iter().map(|(to, it)| (node, to.0, it)));
            }
            let is_kept = |(_, to, it): &(i32, i32, NodeSaid)| {
                self.deaf == Some(*to) && matches!(it, NodeSaid::Quorum(_))
            };
            let (kept, heard): (Vec<_>, Vec<_>) = said.into_iter().partition(is_kept);
            self.kept = kept;
            if heard.is_empty() {
                return;
            }
            for (from, to, it) in heard {
                self.of(to).heard(NodeId(from), &it);
            }
        }
    }

    /// A topic whose partitions are on all nodes, and led by this one.
    fn create(&mut self, leader: i32, partitions: i32) {
        let nodes = || (1..=NODES).map(NodeId);
        let partition = |index| {
            MetadataRecord::Partition(PartitionRecord {
                topic: TOPIC,
                index,
                log: LogId(index as u64 + 1),
                replicas: nodes().collect(),
                directories: (1..=NODES).map(directory).collect(),
                isr: nodes().collect(),
                leader: NodeId(leader),
                leader_epoch: LeaderEpoch(0),
                partition_epoch: 0,
                elections: Elections::default(),
            })
        };
        let records = [topic(1)].into_iter().chain((0..partitions).map(partition));
        let decides = self.leader().expect("one leads");
        self.of(decides).commit(records.collect());
        self.settle();
    }

    /// A node asks for the first `partitions` to have these in their ISR.
    fn ask(&mut self, node: i32, id: u64, partitions: i32, in_sync: &[i32]) {
        let brokers = self.of(node).committed().brokers.clone();
        let member = |node: &i32| brokers.member(NodeId(*node)).expect("a broker");
        let alter = |index| {
            let alter = AlterInSync {
                leader: member(&node),
                leader_epoch: LeaderEpoch(0),
                partition_epoch: 0,
                in_sync: in_sync.iter().map(member).collect(),
                recovering: false,
            };
            (TOPIC, index, alter)
        };
        let alters: Vec<_> = (0..partitions).map(alter).collect();
        let call = alter_partition_call(&alters);
        let machine = self.of(node);
        machine.act(|control, owner, fx| control.call(req(id), call, owner, fx));
    }

    /// What a node was answered since the last time.
    pub fn answers(&mut self, node: i32) -> Vec<(u64, Result<Called, String>)> {
        std::mem::take(&mut self.of(node).answers)
    }
}

fn in_sync(image: &Image, index: i32) -> Vec<i32> {
    let topic = image.topic_by_id(TOPIC).expect("it is there");
    let isr = &topic.partition(index).expect("a partition").isr;
    isr.iter().map(|node| node.0).collect()
}

fn outcomes(answers: Vec<(u64, Result<Called, String>)>) -> Vec<(u64, Vec<Altered>)> {
    let read = |called| altered(called).expect("an answer to an AlterPartition");
    let answers = answers.into_iter();
    answers
        .map(|(id, answer)| (id, read(answer.expect("it is answered"))))
        .collect()
}

#[test]
fn a_leader_is_answered_when_it_serves_by_the_isr_that_it_has_asked_for() {
    let mut nodes = Nodes::new();
    let decides = nodes.leader().expect("one leads");
    for asks in 1..=NODES {
        nodes.create(asks, 2);
        // It does not hear what is committed, and does hear that its request is decided.
        nodes.deaf = Some(asks).filter(|asks| *asks != decides);
        nodes.ask(asks, 7, 2, &[asks]);
        nodes.settle();
        if asks != decides {
            assert_eq!(nodes.answers(asks), [], "it does not serve by it");
            let decided = nodes.of(decides).committed();
            assert_eq!(in_sync(decided, 1), [asks]);
        }
        nodes.deaf = None;
        nodes.settle();
        let done = |index| (TOPIC, index, Ok(()));
        let answers = outcomes(nodes.answers(asks));
        assert_eq!(answers, [(7, vec![done(0), done(1)])]);
        for node in 1..=NODES {
            assert_eq!(in_sync(nodes.of(node).committed(), 0), [asks], "{node}");
        }
        // Of a state that is not any more.
        nodes.ask(asks, 8, 1, &[1, 2, 3]);
        nodes.settle();
        let stale = (TOPIC, 0, Err(ErrorCode::InvalidUpdateVersion));
        assert_eq!(outcomes(nodes.answers(asks)), [(8, vec![stale])]);
        let remove = MetadataRecord::RemoveTopic { id: TOPIC };
        nodes.of(decides).commit(vec![remove]);
        nodes.settle();
    }
}

/// Other requests have their turn between its slices, and in the end all partitions are answered.
#[test]
fn as_many_partitions_as_a_change_may_have() {
    let mut nodes = Nodes::new();
    let asks = (1..=NODES).find(|it| nodes.leader() != Some(*it)).unwrap();
    let most = MOVES_PER_CHANGE_MAX as i32;
    nodes.create(asks, most);
    nodes.ask(asks, 1, most, &[asks]);
    nodes.settle();
    let [(1, all)] = &outcomes(nodes.answers(asks))[..] else {
        panic!("one answer");
    };
    assert!(
        (0..)
            .zip(all)
            .all(|(index, it)| *it == (TOPIC, index, Ok(())))
    );
    assert_eq!(all.len(), MOVES_PER_CHANGE_MAX);
}

/// What comes of a call that node 2 makes by itself at who decides.
fn called(nodes: &mut Nodes, call: (i16, i16, usize)) -> Option<Result<Called, String>> {
    let (key, version, bytes) = call;
    let decides = nodes.leader().expect("one leads");
    let from = (1..=NODES).find(|it| *it != decides).expect("another one");
    let call = CallSaid {
        number: 99,
        key,
        version,
        correlation_id: 5,
        listener: String::new(),
        body: vec![0; bytes].into(),
    };
    let machine = nodes.of(decides);
    machine.heard(NodeId(from), &NodeSaid::Call(call));
    machine.settle();
    let answers = machine
        .said()
        .into_iter()
        .filter_map(|(to, said)| match said {
            NodeSaid::Called {
                number: 99, answer, ..
            } if to == NodeId(from) => Some(answer),
            _ => None,
        });
    answers.last()
}

#[test]
fn a_node_forwards_what_clients_may_ask_of_the_control_shard_and_what_it_asks_itself() {
    let mut nodes = Nodes::new();
    let nothing = "it is nothing that another node decides on";
    let strange = [
        (Api::FETCH, 18),
        (Api::API_VERSIONS, 3),
        (Api::ALTER_PARTITION, 2),
        (Api::ALTER_PARTITION, 4),
        (19, 1),
        (19, 99),
        (19, -1),
        (-1, 0),
        (20_100, 0),
    ];
    for (key, version) in strange {
        let answer = called(&mut nodes, (key, version, 40));
        assert_eq!(answer, Some(Err(nothing.to_owned())), "{key} {version}");
    }
    let long = called(&mut nodes, (19, 5, DECODE_BYTES_MAX + 1));
    assert!(matches!(long, Some(Err(why)) if why.contains("more is forwarded")));
    // A body that is none closes the connection of whoever it was for, and no more.
    for key in [19, 22, Api::ALTER_PARTITION] {
        let garbage = called(&mut nodes, (key, 3, 3));
        assert!(matches!(garbage, Some(Err(why)) if why != nothing), "{key}");
    }
}

/// Those that have no body take something too.
#[test]
fn what_a_node_forwards_is_bounded_however_short_it_is() {
    let mut forwarded = ForwardedHere::default();
    let mut taken = (0..).take_while(|number| forwarded.insert(*number, NodeId(2), (*number, 0)));
    let taken = taken.by_ref().count();
    assert!(taken < FORWARDED_BYTES_MAX / 50, "{taken}");
    assert!(forwarded.insert(u64::MAX, NodeId(3), (1, 0)), "another one");
}

/// A client wants a producer id, for which a block of them has to be given out.
fn producer_id() -> ControlCall {
    let mut request = kafka_wire::InitProducerIdRequest::default();
    request.transactional_id = None;
    let frame = encode_request(5, None, 3, &request).expect("a request");
    let (header, body) = parse_header(frame.slice(4..), apis::api).expect("a header");
    ControlCall {
        header,
        body,
        listener: 0,
    }
}

/// Until then whoever asked is told nothing.
#[test]
fn a_leader_that_loses_what_it_has_decided_has_it_asked_of_the_next_one() {
    let mut nodes = Nodes::new();
    let before = nodes.leader().expect("one leads");
    let other = (1..=NODES).find(|it| *it != before).expect("another one");
    nodes.create(other, 2);
    nodes.deaf = Some(before);
    // Of the leader itself, and of another node, which is told what has come of it by whoever leads next.
    let call = Box::new(producer_id());
    nodes
        .of(before)
        .act(|control, owner, fx| control.call(req(1), call, owner, fx));
    nodes.ask(other, 2, 1, &[other]);
    nodes.settle();
    assert_eq!(
        (nodes.answers(before), nodes.answers(other)),
        (vec![], vec![])
    );
    let passes = (0..100).find(|_| {
        nodes.pass(100);
        nodes.leader().is_some_and(|leader| leader != before)
    });
    assert!(passes.is_some(), "another one leads");
    nodes.deaf = None;
    (0..10).for_each(|_| nodes.pass(100));
    assert_eq!(nodes.answers(before), [(1, Ok(Called::Again))]);
    // The others had it, so it was done the first time.
    let done = (2, vec![(TOPIC, 0, Err(ErrorCode::InvalidUpdateVersion))]);
    assert_eq!(outcomes(nodes.answers(other)), [done]);
    assert_eq!(in_sync(nodes.of(before).committed(), 0), [other]);
}

#[test]
fn what_nobody_waits_for_any_more_is_let_go_where_nobody_decides() {
    let mut nodes = Nodes::new();
    let before = nodes.leader().expect("one leads");
    let other = (1..=NODES).find(|it| *it != before).expect("another one");
    nodes.create(other, 2);
    nodes.deaf = Some(before);
    // One that is with the leader, which cannot commit it, and one that waits for the next leader.
    nodes.ask(other, 1, 1, &[other]);
    nodes.settle();
    nodes.of(other).act(|control, _, _| control.cancel(req(1)));
    assert!(nodes.of(other).control.forwarding.is_empty());
    nodes.of(other).act(|control, owner, fx| {
        control.peer_event(
            PeerEvent::Down(NodeId(before), "gone".to_owned()),
            owner,
            fx,
        );
    });
    nodes.ask(other, 2, 1, &[other]);
    assert_eq!(nodes.of(other).control.undecided(), 1);
    nodes.of(other).act(|control, _, _| control.cancel(req(2)));
    assert_eq!(nodes.of(other).control.undecided(), 0);
    nodes.of(other).control.invariants();
}

/// On a host that is busy with something else all of them stand still again and again, and nobody is to blame.
#[test]
fn who_stood_still_waits_for_what_came_meanwhile() {
    let mut nodes = Nodes::new();
    let leads = nodes.leads();
    assert!(leads.is_some());
    for _ in 0..20 {
        nodes.stand_still(2_000);
        nodes.pass(100);
    }
    assert_eq!(nodes.leads(), leads);
}

#[test]
fn who_is_late_as_usual_is_waited_for() {
    let mut nodes = Nodes::new();
    let leads = nodes.leads();
    let (before, _) = leads.expect("one leads");
    for (ms, is_waited_for) in [(2_000, true), (200, false)] {
        let judged = Judged {
            verdict: Verdict::Alive,
            silence_ms_max: ms,
        };
        nodes.pass(100);
        for machine in &mut nodes.machines {
            machine.act(|control, owner, fx| {
                let heard = |node: NodeId| Some((directory(node.0), judged));
                control.look_at_others(heard, owner, fx);
            });
        }
        // Heard by the others again, they wait as long as is usual now.
        nodes.pass(100);
        nodes.deaf = Some(before);
        nodes.pass(1_500);
        assert_eq!(nodes.leads() == leads, is_waited_for, "{ms} ms");
        nodes.deaf = None;
        nodes.pass(100);
    }
}
