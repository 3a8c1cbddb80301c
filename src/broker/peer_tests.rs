//! Nodes that talk to each other, whole shards with a network of the tests between them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::admin::alter_partition_call;
use super::io::{ConnId, Input, LinkId, LinkLost, Output};
use super::msg::ReplicaPeer;
use super::peers::{ClusterSetup, PeerAddress};
use super::replicas::said::{ReplicaSaid, ReplicaWhat};
use super::replicas::{Replication, is_for_replicas};
use super::testing::Bench;
use crate::base::{
    DirectoryId, Incarnation, LeaderEpoch, LogId, Mono, NodeId, NodeProcess, Offset, ShardId,
    StoreId,
};
use crate::config::BrokerConfig;
use crate::controller::Image;
use crate::replica::{OnDisk, Push, Term};
use crate::wire::NodePlace;
use crate::wire::client::{decode_own_response, encode_request};
use crate::wire::peer::{
    Hello, HelloAnswer, NodeFacts, PEER_VERSION, PeerMessage, PeerMessages, PeerRefusal, Purpose,
    ReplicaMessages,
};

const SHARDS: u16 = 2;
const PREFIX: usize = 4;

/// The node and the shard that have dialled.
type Near = (usize, usize);

/// The end of a link at the node that was dialled, and how many replies on it have gone back.
struct FarEnd {
    node: usize,
    conn: u64,
    replies: usize,
}

/// Nodes 1, 2 and so on, all of one cluster.
struct Cluster {
    nodes: Vec<Option<Bench>>,
    links: BTreeMap<(Near, LinkId), FarEnd>,
    conns: u64,
    heard: Vec<(usize, NodeId, Bytes)>,
    starts: u64,
    /// Whether their control shards know each other by their stores, so that there is a quorum.
    is_quorum: bool,
}

impl Cluster {
    fn new(nodes: usize) -> Self {
        Self::of(nodes, false)
    }

    fn of(nodes: usize, is_quorum: bool) -> Self {
        let mut cluster = Self {
            nodes: (0..nodes).map(|_| None).collect(),
            links: BTreeMap::new(),
            conns: 0,
            heard: Vec::new(),
            starts: 0,
            is_quorum,
        };
        (0..nodes).for_each(|node| cluster.start(node));
        cluster
    }

    fn start(&mut self, node: usize) {
        self.starts += 1;
        let id = |node: usize| NodeId(node as i32 + 1);
        let others = (0..self.nodes.len()).filter(|other| *other != node);
        let mut me = facts(id(node), self.starts);
        if self.is_quorum {
            me.directory = DirectoryId::new(me.node.0 as u64, StoreId(0));
        }
        let others = others.map(|other| PeerAddress {
            node: id(other),
            host: other.to_string(),
            port: 9093,
        });
        let setup = ClusterSetup::of_voters(me, others.collect());
        let config = config(id(node));
        self.nodes[node] = Some(Bench::of_cluster(SHARDS, config, Some(Arc::new(setup))));
    }

    /// A node is gone: so are its links, and those to it.
    fn kill(&mut self, node: usize) {
        self.nodes[node] = None;
        let all = std::mem::take(&mut self.links);
        for ((from, link), far) in all {
            if from.0 == node {
                self.hang_up(&far);
            } else if far.node == node {
                let why = LinkLost::Reset;
                self.tell(from, Input::LinkDown { link, why });
            } else {
                self.links.insert((from, link), far);
            }
        }
    }

    fn hang_up(&mut self, far: &FarEnd) {
        if let Some(bench) = &mut self.nodes[far.node] {
            bench.close(far.conn);
        }
    }

    fn tell(&mut self, (node, shard): Near, input: Input) {
        if let Some(bench) = &mut self.nodes[node] {
            bench.handle(shard, input);
        }
    }

    /// Lets so many milliseconds pass on all nodes.
    fn pass(&mut self, ms: u64) {
        for _ in 0..ms {
            for node in 0..self.nodes.len() {
                let Some(bench) = &mut self.nodes[node] else {
                    continue;
                };
                bench.nanos += 1_000_000;
                bench.settle();
                if let Some((control, _)) = bench.shards[0].others() {
                    let strange = control.strange.drain(..);
                    self.heard
                        .extend(strange.map(|(from, bytes)| (node, from, bytes)));
                }
                let outputs: Vec<_> = bench.links.drain(..).collect();
                for (shard, output) in outputs {
                    self.perform((node, shard), output);
                }
            }
            self.carry_back();
        }
    }

    fn perform(&mut self, near: Near, output: Output) {
        match output {
            Output::Dial { link, to } => {
                let far: usize = to.0.parse().expect("a node");
                let Some(bench) = &mut self.nodes[far] else {
                    let why = LinkLost::Refused;
                    return self.tell(near, Input::LinkDown { link, why });
                };
                // To any shard, as the system likes it.
                self.conns += 1;
                bench.open(self.conns);
                let end = FarEnd {
                    node: far,
                    conn: self.conns,
                    replies: 0,
                };
                self.links.insert((near, link), end);
                self.tell(near, Input::LinkUp { link });
            }
            Output::LinkSend { link, pieces } => {
                let frame = Bytes::from(pieces.concat());
                let bytes = frame.len();
                if let Some(far) = self.links.get(&(near, link)) {
                    let (to, conn) = (far.node, far.conn);
                    self.nodes[to]
                        .as_mut()
                        .expect("it is up")
                        .send(conn, &frame);
                    self.tell(near, Input::LinkSent { link, bytes });
                }
            }
            Output::LinkClose { link } => {
                if let Some(far) = self.links.remove(&(near, link)) {
                    self.hang_up(&far);
                }
            }
            other => panic!("{other:?} is nothing of a link"),
        }
    }

    /// Carries replies, and the news of closed connections, to those who dialled.
    fn carry_back(&mut self) {
        let (mut news, mut ended) = (Vec::new(), Vec::new());
        for ((near, link), far) in &mut self.links {
            let bench = self.nodes[far.node].as_ref().expect("it is up");
            let conn = ConnId(far.conn);
            let replies: Vec<_> = bench.replies.iter().filter(|(to, _)| *to == conn).collect();
            for (_, frame) in &replies[far.replies..] {
                if !frame.is_empty() {
                    let frame = frame.slice(PREFIX..);
                    news.push((*near, Input::LinkReceived { link: *link, frame }));
                }
            }
            far.replies = replies.len();
            if bench.closed.iter().any(|(closed, _)| *closed == conn) {
                let why = LinkLost::Closed;
                news.push((*near, Input::LinkDown { link: *link, why }));
                ended.push((*near, *link));
            }
        }
        self.links.retain(|link, _| !ended.contains(link));
        for (near, input) in news {
            self.tell(near, input);
        }
    }

    fn up(&self) -> Vec<usize> {
        let nodes = self.nodes.iter().flatten();
        nodes.map(|bench| bench.shards[0].peers_up()).collect()
    }

    fn say(&mut self, from: usize, to: usize, text: &'static str) -> bool {
        let bench = self.nodes[from].as_mut().expect("it is up");
        let (now, node) = (Mono(bench.nanos), NodeId(to as i32 + 1));
        let message = PeerMessage::Quorum(Bytes::from_static(text.as_bytes()));
        let mut out = Vec::new();
        let (_, others) = bench.shards[0].others().expect("there are others");
        let peers = others.peers.as_mut().expect("of the control shard");
        let sent = peers.send(now, node, message, &mut out);
        bench
            .links
            .extend(out.into_iter().map(|output| (0, output)));
        sent.is_ok()
    }

    fn heard_by(&self, node: usize) -> Vec<(i32, &[u8])> {
        let heard = self.heard.iter().filter(|(by, ..)| *by == node);
        heard.map(|(_, from, bytes)| (from.0, &bytes[..])).collect()
    }
}

fn config(node: NodeId) -> BrokerConfig {
    let mut config = BrokerConfig::default();
    config.set("millrace.cluster.id", "a").expect("a setting");
    config.set("node.id", &node.to_string()).expect("a setting");
    config
}

fn facts(node: NodeId, incarnation: u64) -> NodeFacts {
    NodeFacts {
        node,
        directory: DirectoryId([node.0 as u8; 16]),
        incarnation: Incarnation(incarnation),
        start: incarnation,
        levels: (1, 2),
        cluster_id: None,
    }
}

#[test]
fn nodes_find_each_other_and_what_is_said_arrives_in_its_order() {
    let mut cluster = Cluster::new(3);
    cluster.pass(10);
    assert_eq!(cluster.up(), [2, 2, 2]);
    for text in ["a", "b", "c"] {
        assert!(cluster.say(0, 2, text) && cluster.say(1, 2, text));
    }
    assert!(cluster.say(2, 0, "d"));
    cluster.pass(5);
    let heard = cluster.heard_by(2);
    for from in [1, 2] {
        let texts: Vec<_> = heard.iter().filter(|(by, _)| *by == from).collect();
        assert_eq!(texts, [&(from, &b"a"[..]), &(from, b"b"), &(from, b"c")]);
    }
    assert_eq!(cluster.heard_by(0), [(3, &b"d"[..])]);
    assert!(cluster.heard_by(1).is_empty());
}

#[test]
fn a_node_that_is_killed_is_missed_at_once_and_found_again() {
    let mut cluster = Cluster::new(3);
    cluster.pass(10);
    cluster.kill(1);
    cluster.pass(2);
    assert_eq!(cluster.up(), [1, 1]);
    assert!(!cluster.say(0, 1, "nobody is there"));
    cluster.pass(5_000);
    assert_eq!(cluster.up(), [1, 1]);
    cluster.start(1);
    // The longest pause before it is dialled again, and a little more.
    cluster.pass(1_010);
    assert_eq!(cluster.up(), [2, 2, 2]);
    assert!(cluster.say(0, 1, "again") && cluster.say(1, 0, "here"));
    cluster.pass(5);
    assert_eq!(cluster.heard_by(1), [(1, &b"again"[..])]);
    assert_eq!(cluster.heard_by(0), [(2, &b"here"[..])]);
}

#[test]
fn a_node_that_lost_its_disk_is_heard_although_it_counts_its_starts_anew() {
    let mut cluster = Cluster::new(2);
    cluster.pass(10);
    cluster.kill(1);
    cluster.pass(2);
    // Another directory, and a start whose number was given out before.
    cluster.starts = 0;
    cluster.start(1);
    cluster.pass(1_010);
    assert_eq!(cluster.up(), [1, 1]);
    assert!(cluster.say(1, 0, "here"));
    cluster.pass(5);
    assert_eq!(cluster.heard_by(0), [(2, &b"here"[..])]);
}

#[test]
fn who_says_once_that_he_is_another_node_makes_nobody_deaf_to_it() {
    let mut cluster = Cluster::new(2);
    cluster.pass(10);
    let node = cluster.nodes[0].as_mut().expect("it is up");
    node.open(1001);
    node.send(1001, &hello_of(2, 1, u64::MAX));
    node.settle();
    cluster.pass(10);
    assert!(cluster.say(1, 0, "still here"));
    cluster.pass(5);
    assert_eq!(cluster.heard_by(0), [(2, &b"still here"[..])]);
    cluster.nodes[0].as_mut().expect("it is up").close(1001);
    cluster.kill(1);
    cluster.start(1);
    cluster.pass(1_010);
    assert!(cluster.say(1, 0, "again"));
    cluster.pass(5);
    assert_eq!(cluster.heard_by(0).len(), 2);
}

#[test]
fn no_more_waits_for_the_control_shard_than_a_connection_may_have_in_progress() {
    let mut cluster = Cluster::new(2);
    cluster.kill(1);
    cluster.pass(1);
    let node = cluster.nodes[0].as_mut().expect("it is up");
    // By the shard that is not the control shard, whose messages are not delivered.
    node.open(1001);
    node.ask(1001, &hello(2, 1));
    let before = node.replies.len();
    let beat = PeerMessage::Heartbeat { stuck_ms: 0 };
    let said = PeerMessage::Quorum(Bytes::from_static(b"said"));
    for _ in 0..3 {
        let messages = [beat.clone(), said.clone(), beat.clone()];
        node.send(1001, &PeerMessages::encode(&messages));
    }
    assert_eq!(node.replies.len(), before, "answered before it is taken");
    node.settle();
    let replies = node.replies[before..].iter();
    assert!(
        replies
            .clone()
            .all(|(to, frame)| to.0 == 1001 && frame.is_empty())
    );
    assert_eq!(replies.len(), 3);
    cluster.pass(1);
    assert_eq!(cluster.heard_by(0), [(2, &b"said"[..]); 3]);
}

/// The body of the answer to a hello.
fn answer(reply: &Bytes) -> HelloAnswer {
    let (_, body) = decode_own_response(reply.slice(PREFIX..)).expect("a response");
    HelloAnswer::decode(body).expect("an answer")
}

fn hello(from: i32, to: i32) -> Bytes {
    hello_of(from, to, 1)
}

fn hello_of(from: i32, to: i32, incarnation: u64) -> Bytes {
    let hello = Hello {
        versions: (PEER_VERSION, PEER_VERSION),
        purpose: Purpose::Metadata,
        to: NodeId(to),
        number: 1,
        from: facts(NodeId(from), incarnation),
        place: NodePlace::default(),
    };
    hello.encode(1)
}

#[test]
fn a_node_that_is_alone_refuses_other_nodes_and_goes_on() {
    let mut alone = Bench::new(SHARDS, BrokerConfig::default());
    alone.open(1);
    let reply = alone.ask(1, &hello(2, 1)).expect("a reply");
    let HelloAnswer::Refused { why, .. } = answer(&reply) else {
        panic!("it is welcome");
    };
    assert_eq!(why, PeerRefusal::NoMember);
    assert_eq!(alone.shards[0].peers_up(), 0);
    // It is a connection as any other.
    let metadata = encode_request(7, None, 1, &kafka_wire::MetadataRequest::default());
    alone
        .ask(1, &metadata.expect("a request"))
        .expect("a reply");
    assert_eq!(alone.closed, []);
}

/// No client alters an ISR, nor anybody else by a connection on which nodes do not talk.
#[test]
fn what_nodes_ask_of_each_other_is_no_api_of_a_client() {
    let mut alone = Bench::new(SHARDS, BrokerConfig::default());
    let call = alter_partition_call(&[]);
    let request = kafka_wire::AlterPartitionRequest::default();
    let asked = encode_request(7, None, call.header.version, &request).expect("a request");
    for conn in [1, 2] {
        alone.open(conn);
        if conn == 2 {
            alone.ask(conn, &hello(2, 1)).expect("a reply");
        }
        alone.ask(conn, &asked);
        let (closed, why) = alone.closed.pop().expect("it is closed");
        assert_eq!(closed, ConnId(conn));
        assert_eq!(why, "unknown API key 56");
    }
}

#[test]
fn what_no_peer_says_closes_the_connection_and_nothing_else() {
    let mut cluster = Cluster::new(2);
    cluster.pass(10);
    // As long as the other one is there its streams are not taken from it.
    cluster.kill(1);
    cluster.pass(1);
    let node = cluster.nodes[0].as_mut().expect("it is up");
    let beat = PeerMessages::encode(&[PeerMessage::Heartbeat { stuck_ms: 0 }]);
    let mut unknown = beat.to_vec();
    unknown[14] = 99;
    let mut garbage = hello(2, 1).to_vec();
    garbage.truncate(30);
    let first = node.ask(0, &beat);
    assert_eq!(first, None, "of a connection that is not there");
    for (conn, frames, why) in [
        (1001, vec![beat.clone()], "without a hello"),
        (1002, vec![hello(2, 1), hello(2, 1)], "second hello"),
        (1003, vec![hello(2, 1), unknown.into()], "kind 99"),
        (1004, vec![garbage.into()], "malformed hello"),
    ] {
        node.open(conn);
        for frame in &frames {
            node.ask(conn, frame);
        }
        let (closed, said) = node.closed.pop().expect("one is closed");
        assert!(
            closed == ConnId(conn) && said.contains(why),
            "{conn}: {said}"
        );
    }
    cluster.start(1);
    cluster.pass(1_010);
    assert_eq!(cluster.up(), [1, 1]);
    assert!(cluster.say(1, 0, "still here"));
    cluster.pass(5);
    assert_eq!(cluster.heard_by(0), [(2, &b"still here"[..])]);
}

const fn shard_of(node: usize, shard: u16) -> ReplicaPeer {
    ReplicaPeer {
        node: NodeId(node as i32 + 1),
        shard: ShardId(shard),
    }
}

fn about(log: u64, what: ReplicaWhat) -> ReplicaSaid {
    let process = |node| NodeProcess {
        node: NodeId(node),
        incarnation: Incarnation(1),
    };
    ReplicaSaid {
        log: LogId(log),
        term: Term {
            epoch: LeaderEpoch(1),
            leader: process(1),
            follower: process(2),
        },
        what,
    }
}

fn pushes(batches: Bytes) -> ReplicaSaid {
    let push = Push {
        from: Offset(0),
        batches,
        to: Offset(9),
        committed: Offset(0),
        start: Offset(0),
    };
    about(7, ReplicaWhat::Pushes(push))
}

impl Cluster {
    /// What a shard has of shards of other nodes.
    fn replicas(&mut self, node: usize, shard: u16) -> &mut Replication {
        let bench = self.nodes[node].as_mut().expect("it is up");
        let shard = &mut bench.shards[usize::from(shard)];
        shard.replicas().expect("there are others")
    }

    /// Two nodes that know their cluster, and shards of which want links to each other.
    fn of_two(wanted: &[(u16, u16)]) -> Self {
        let mut cluster = Self::of(2, true);
        cluster.pass(3_000);
        for (first, second) in wanted {
            let to = shard_of(1, *second);
            cluster
                .replicas(0, *first)
                .links
                .want(to, &Image::default());
            let to = shard_of(0, *first);
            cluster
                .replicas(1, *second)
                .links
                .want(to, &Image::default());
        }
        cluster.pass(20);
        cluster
    }

    fn say_of(&mut self, (node, shard): (usize, u16), to: ReplicaPeer, said: &ReplicaSaid) {
        self.replicas(node, shard).links.say(to, said, Vec::new());
    }

    fn heard_of(&mut self, (node, shard): (usize, u16)) -> Vec<(ReplicaPeer, ReplicaSaid)> {
        std::mem::take(&mut self.replicas(node, shard).said)
    }
}

#[test]
fn shards_of_two_nodes_say_to_each_other_what_is_about_replicas() {
    let mut cluster = Cluster::of_two(&[(0, 1), (1, 1)]);
    for (node, shard, up) in [(0, 0, 1), (0, 1, 1), (1, 0, 0), (1, 1, 2)] {
        assert_eq!(cluster.replicas(node, shard).links.up(), up);
    }
    let batches: Bytes = (0..300 * 1024).map(|n| (n / 7) as u8).collect();
    let tells = |end| {
        let (end, start) = (Offset(end), Offset(0));
        about(7, ReplicaWhat::Tells(OnDisk { end, start }))
    };
    for shard in [0, 1] {
        let links = &mut cluster.replicas(0, shard).links;
        let halves = vec![batches.slice(..1000), batches.slice(1000..)];
        links.say(shard_of(1, 1), &pushes(Bytes::new()), halves);
        cluster.say_of((0, shard), shard_of(1, 1), &about(8, ReplicaWhat::Lost));
        cluster.say_of((1, 1), shard_of(0, shard), &tells(shard.into()));
    }
    cluster.pass(5);
    let mut heard = cluster.heard_of((1, 1));
    heard.sort_by_key(|(from, _)| *from);
    let both = [0, 1].map(|shard| {
        let from = shard_of(0, shard);
        [
            (from, pushes(batches.clone())),
            (from, about(8, ReplicaWhat::Lost)),
        ]
    });
    assert!(heard == both.concat());
    for shard in [0, 1] {
        assert_eq!(
            cluster.heard_of((0, shard)),
            [(shard_of(1, 1), tells(shard.into()))]
        );
    }
    assert!(cluster.heard_of((1, 0)).is_empty());
}

impl Cluster {
    /// A connection of the test to a node, on which it says that it is the second node's shard 5, about replicas.
    fn greet(&mut self, conn: u64, hello: &Hello) -> HelloAnswer {
        let node = self.nodes[0].as_mut().expect("it is up");
        node.open(conn);
        let reply = node.ask(conn, &hello.encode(1));
        answer(&reply.expect("a reply"))
    }

    fn closed(&mut self) -> Vec<(u64, String)> {
        let node = self.nodes[0].as_mut().expect("it is up");
        let closed = node.closed.drain(..);
        closed.map(|(conn, why)| (conn.0, why)).collect()
    }
}

fn hello_for_replicas(start: u64, number: u64, to: u16) -> Hello {
    let from = NodeFacts {
        start,
        cluster_id: Some("a".into()),
        ..facts(NodeId(2), start)
    };
    Hello {
        versions: (PEER_VERSION, PEER_VERSION),
        purpose: Purpose::Replicas {
            from: ShardId(5),
            to: ShardId(to),
        },
        to: NodeId(1),
        number,
        from,
        place: NodePlace::default(),
    }
}

fn request_of(messages: &[ReplicaSaid]) -> Bytes {
    let mut body = Vec::new();
    messages.iter().for_each(|said| said.put(0, &mut body));
    [ReplicaMessages::head(body.len()), body].concat().into()
}

#[test]
fn what_was_said_about_replicas_on_an_earlier_stream_counts_no_more() {
    let mut cluster = Cluster::of_two(&[]);
    let says = |log| request_of(&[about(log, ReplicaWhat::Lost), about(log, ReplicaWhat::Lost)]);
    // By either of the shards, which is not the one that is meant, and is.
    let streams = [(1001, 7, 4), (1002, 7, 5), (1003, 8, 1), (1004, 8, 3)];
    for (log, (conn, start, number)) in (0..).zip(streams) {
        let hello = hello_for_replicas(start, number, 1);
        let answer = cluster.greet(conn, &hello);
        assert!(matches!(answer, HelloAnswer::Welcome { .. }), "{answer:?}");
        let node = cluster.nodes[0].as_mut().expect("it is up");
        if conn > 1001 {
            // What was on its way already.
            node.send(conn - 1, &says(99));
            node.settle();
        }
        node.send(conn, &says(log));
        node.settle();
        let heard = cluster.heard_of((0, 1));
        let from = shard_of(1, 5);
        assert_eq!(
            heard,
            [(); 2].map(|()| (from, about(log, ReplicaWhat::Lost)))
        );
        let closed: Vec<u64> = cluster.closed().iter().map(|(conn, _)| *conn).collect();
        assert_eq!(closed, if conn > 1001 { vec![conn - 1] } else { vec![] });
    }
    // One that comes late, by way of another shard.
    cluster.greet(1005, &hello_for_replicas(8, 2, 1));
    assert_eq!(cluster.closed()[0].0, 1005);
    let node = cluster.nodes[0].as_mut().expect("it is up");
    node.send(1004, &says(4));
    node.settle();
    assert_eq!(cluster.heard_of((0, 1)).len(), 2);
}

#[test]
fn who_may_say_nothing_about_replicas_is_told_why() {
    let mut cluster = Cluster::of_two(&[]);
    let good = hello_for_replicas(1, 1, 1);
    let with = |change: fn(&mut Hello)| {
        let mut hello = good.clone();
        change(&mut hello);
        hello
    };
    let other = with(|hello| hello.from.cluster_id = Some("b".into()));
    let none = with(|hello| hello.from.cluster_id = None);
    let to_other = with(|hello| hello.to = NodeId(2));
    let stranger = with(|hello| hello.from.node = NodeId(9));
    let no_shard = hello_for_replicas(1, 1, SHARDS);
    for (conn, (hello, why)) in (1001..).zip([
        (other, PeerRefusal::OtherCluster),
        (none, PeerRefusal::NotYet),
        (to_other, PeerRefusal::OtherNode),
        (stranger, PeerRefusal::NoMember),
        (no_shard, PeerRefusal::NoShard),
    ]) {
        let HelloAnswer::Refused { why: said, .. } = cluster.greet(conn, &hello) else {
            panic!("{why:?}: it is welcome");
        };
        assert_eq!(said, why);
        let node = cluster.nodes[0].as_mut().expect("it is up");
        node.ask(conn, &request_of(&[about(1, ReplicaWhat::Lost)]));
        assert_eq!(
            cluster.closed()[0].0,
            conn,
            "it says something all the same"
        );
    }
    assert!(cluster.heard_of((0, 1)).is_empty());
    // Before this node knows its cluster nobody may.
    let mut early = Cluster::new(2);
    let answer = early.greet(1001, &good);
    assert!(matches!(
        answer,
        HelloAnswer::Refused {
            why: PeerRefusal::NotYet,
            ..
        }
    ));
}

#[test]
fn no_more_about_replicas_waits_for_a_shard_than_a_connection_may_have_in_progress() {
    let mut cluster = Cluster::of_two(&[]);
    cluster.greet(1001, &hello_for_replicas(1, 1, 0));
    let node = cluster.nodes[0].as_mut().expect("it is up");
    let before = node.replies.len();
    for _ in 0..3 {
        node.send(1001, &request_of(&[about(1, ReplicaWhat::Lost)]));
    }
    assert_eq!(node.replies.len(), before, "answered before it is taken");
    node.settle();
    let replies = node.replies[before..].iter();
    assert!(
        replies
            .clone()
            .all(|(to, frame)| to.0 == 1001 && frame.is_empty())
    );
    assert_eq!(replies.len(), 3);
    assert_eq!(cluster.heard_of((0, 0)).len(), 3);
}

#[test]
fn what_no_shard_says_about_replicas_closes_the_connection_and_nothing_else() {
    let mut cluster = Cluster::of_two(&[(0, 0)]);
    let lost = request_of(&[about(1, ReplicaWhat::Lost)]);
    let mut damaged = lost.to_vec();
    damaged[30] ^= 1;
    let beat = PeerMessages::encode(&[PeerMessage::Heartbeat { stuck_ms: 0 }]);
    let hello = |number| hello_for_replicas(1, number, 0).encode(1);
    for (conn, frames, why) in [
        (1001, vec![lost.clone()], "without a hello"),
        (1002, vec![hello(1), hello(2)], "second hello"),
        (1003, vec![hello(3), damaged.into()], "malformed"),
        (1004, vec![hello(4), beat], "without a hello"),
    ] {
        let node = cluster.nodes[0].as_mut().expect("it is up");
        node.open(conn);
        for frame in &frames {
            node.ask(conn, frame);
        }
        let closed = cluster.closed();
        let (closed, said) = closed.last().expect("one is closed");
        assert!(*closed == conn && said.contains(why), "{conn}: {said}");
        cluster.nodes[0].as_mut().expect("it is up").close(conn);
    }
    cluster.say_of((1, 0), shard_of(0, 0), &about(2, ReplicaWhat::Lost));
    cluster.pass(5);
    let heard = (shard_of(1, 0), about(2, ReplicaWhat::Lost));
    assert_eq!(cluster.heard_of((0, 0)), [heard]);
}

#[test]
fn a_link_about_replicas_that_is_cut_comes_again_and_what_follows_is_heard() {
    let mut cluster = Cluster::of_two(&[(0, 1)]);
    let to = shard_of(1, 1);
    for log in 0..3 {
        let links = cluster.links.iter();
        let cut = links.filter(|((near, link), _)| *near == (0, 0) && is_for_replicas(*link));
        let cut: Vec<_> = cut.map(|(of, _)| *of).collect();
        assert_eq!(cut.len(), 1);
        let far = cluster.links.remove(&cut[0]).expect("it is there");
        cluster.hang_up(&far);
        let (near, link) = cut[0];
        let why = LinkLost::Reset;
        cluster.tell(near, Input::LinkDown { link, why });
        assert!(!cluster.replicas(0, 0).links.is_up(to));
        cluster.say_of((0, 0), to, &about(99, ReplicaWhat::Lost));
        cluster.pass(1_010);
        assert!(cluster.replicas(0, 0).links.is_up(to));
        cluster.say_of((0, 0), to, &about(log, ReplicaWhat::Lost));
        cluster.pass(5);
        let heard = (shard_of(0, 0), about(log, ReplicaWhat::Lost));
        assert_eq!(cluster.heard_of((1, 1)), [heard]);
    }
}
