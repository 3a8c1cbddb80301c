//! The links of one shard, its driver and the other nodes played by the test.

use super::*;
use crate::base::limits::{PEER_REDIAL_MS_MAX, PEER_REDIAL_MS_MIN};
use crate::base::{
    DirectoryId, Incarnation, LeaderEpoch, LogId, Mono, NodeId, NodeProcess, Offset,
};
use crate::broker::peers::PeerAddress;
use crate::replica::{OnDisk, Push, Term};
use crate::wire::encode_own_response;
use crate::wire::peer::{Hello, HelloAnswer, NodeFacts, PEER_VERSION, PeerRefusal};

/// Bytes of a request before its body.
const HEAD: usize = 14;

const TO: ReplicaPeer = peer(2, 3);

const fn peer(node: i32, shard: u16) -> ReplicaPeer {
    ReplicaPeer {
        node: NodeId(node),
        shard: ShardId(shard),
    }
}

fn facts(node: i32) -> NodeFacts {
    NodeFacts {
        node: NodeId(node),
        directory: DirectoryId([node as u8; 16]),
        incarnation: Incarnation(1),
        start: 1,
        levels: (1, 2),
        cluster_id: Some("a".into()),
    }
}

fn said(what: ReplicaWhat) -> ReplicaSaid {
    let process = |node| NodeProcess {
        node: NodeId(node),
        incarnation: Incarnation(1),
    };
    let term = Term {
        epoch: LeaderEpoch(1),
        leader: process(1),
        follower: process(2),
    };
    let log = LogId(5);
    ReplicaSaid { log, term, what }
}

fn tells(end: i64) -> ReplicaSaid {
    said(ReplicaWhat::Tells(OnDisk {
        end: Offset(end),
        start: Offset(0),
    }))
}

fn push(batches: Bytes) -> Push {
    Push {
        from: Offset(1),
        batches,
        to: Offset(2),
        committed: Offset(1),
        start: Offset(0),
    }
}

struct One {
    links: ReplicaLinks,
    ms: u64,
    cluster_id: Option<&'static str>,
}

impl One {
    fn new() -> Self {
        let other = |node| PeerAddress {
            node: NodeId(node),
            host: format!("node-{node}"),
            port: 9093,
        };
        let setup = ClusterSetup::of_voters(facts(1), vec![other(2), other(3)]);
        Self {
            links: ReplicaLinks::new(Arc::new(setup), ShardId(1), 1),
            ms: 0,
            cluster_id: Some("a"),
        }
    }

    fn now(&self) -> Mono {
        Mono(self.ms * 1_000_000)
    }

    /// Lets time pass; what is wanted of the driver. Nothing is done that its deadline does not know of.
    fn pass(&mut self, ms: u64) -> Vec<Output> {
        let mut out = Vec::new();
        for _ in 0..ms {
            self.ms += 1;
            let (is_due, before) = (self.links.deadline() <= self.now(), out.len());
            self.links.tick(self.now(), self.cluster_id, &mut out);
            assert!(is_due || out.len() == before, "before its deadline");
            self.links.flush(self.now(), &mut out);
            self.links.invariants();
        }
        out
    }

    /// Lets time pass until somebody is dialled; the link, and after how many ms.
    fn dialled(&mut self) -> (LinkId, u64) {
        let before = self.ms;
        // It need not be asked before there is something to do, but for what was changed by the test meanwhile.
        self.links
            .tick(self.now(), self.cluster_id, &mut Vec::new());
        loop {
            if let Some(Output::Dial { link, .. }) = self.pass(1).pop() {
                return (link, self.ms - before);
            }
            assert!(self.ms - before < 10_000, "nobody is dialled any more");
        }
    }

    fn hello(&mut self, link: LinkId) -> Hello {
        let mut out = Vec::new();
        self.links.link_up(self.now(), link, &mut out);
        let [Output::LinkSend { pieces, .. }] = &out[..] else {
            panic!("{out:?}");
        };
        self.links.link_sent(link, pieces[0].len());
        let hello = Hello::decode(pieces[0].slice(HEAD..));
        hello.expect("a hello").expect("of this version")
    }

    fn answered(&mut self, link: LinkId, answer: &HelloAnswer) -> Vec<Output> {
        let mut out = Vec::new();
        let frame = encode_own_response(1, &answer.encode()).slice(4..);
        self.links.link_received(self.now(), link, frame, &mut out);
        self.links.invariants();
        out
    }

    /// One that is up.
    fn up(&mut self, to: ReplicaPeer) -> LinkId {
        self.links.want(to, &Image::default());
        let mut out = Vec::new();
        self.links.tick(self.now(), self.cluster_id, &mut out);
        let [Output::Dial { link, .. }] = out[..] else {
            panic!("{out:?}");
        };
        self.greeted(link, to);
        link
    }

    fn greeted(&mut self, link: LinkId, to: ReplicaPeer) {
        self.hello(link);
        assert!(self.answered(link, &welcome(to.node.0)).is_empty());
        assert_eq!(self.links.next_event(), Some(LinkEvent::Up(to)));
    }

    /// What is sent, request by request.
    fn sent(&mut self) -> Vec<(LinkId, Vec<Bytes>)> {
        let mut out = Vec::new();
        self.links.flush(self.now(), &mut out);
        let sent = out.into_iter().map(|output| match output {
            Output::LinkSend { link, pieces } => (link, pieces),
            other => panic!("{other:?}"),
        });
        sent.collect()
    }
}

fn welcome(node: i32) -> HelloAnswer {
    HelloAnswer::Welcome {
        version: PEER_VERSION,
        from: facts(node),
    }
}

/// The messages of a request, which has to be whole.
fn messages(pieces: &[Bytes]) -> Vec<ReplicaSaid> {
    let frame = Bytes::from(pieces.concat());
    let len = u32::from_be_bytes(*frame.first_chunk().expect("a length"));
    assert_eq!(len as usize + 4, frame.len());
    let key = i16::from_be_bytes([frame[4], frame[5]]);
    assert_eq!(key, ReplicaMessages::KEY);
    ReplicaSaid::decode_all(frame.slice(HEAD..)).expect("messages")
}

#[test]
fn who_is_wanted_is_dialled_when_the_cluster_is_known_and_greeted_for_replicas() {
    let mut one = One::new();
    one.cluster_id = None;
    one.links.want(TO, &Image::default());
    one.links.want(TO, &Image::default());
    one.links.want(peer(9, 0), &Image::default());
    assert!(one.pass(100).is_empty());
    assert_eq!(one.links.deadline(), Mono::NEVER);
    one.cluster_id = Some("a");
    let mut out = Vec::new();
    one.links.tick(one.now(), one.cluster_id, &mut out);
    let [Output::Dial { link, to }] = &out[..] else {
        panic!("{out:?}");
    };
    assert!(is_for_replicas(*link) && *to == ("node-2".to_owned(), 9093));
    let hello = one.hello(*link);
    let purpose = Purpose::Replicas {
        from: ShardId(1),
        to: ShardId(3),
    };
    assert_eq!((hello.purpose, hello.to), (purpose, NodeId(2)));
    assert!(!one.links.is_up(TO) && !one.links.has_room(TO));
    one.answered(*link, &welcome(2));
    assert_eq!(one.links.next_event(), Some(LinkEvent::Up(TO)));
    assert!(one.links.has_room(TO));
    // It is kept alive by nothing.
    assert!(one.pass(10_000).is_empty());
}

#[test]
fn what_is_said_goes_together_and_batches_go_as_they_are() {
    let mut one = One::new();
    one.links.say(TO, &tells(1), Vec::new());
    let link = one.up(TO);
    one.links.say(TO, &tells(2), Vec::new());
    let batches = [300 * 1024, 10].map(|len| Bytes::from(vec![7u8; len]));
    let empty = push(Bytes::new());
    let pushes = said(ReplicaWhat::Pushes(empty.clone()));
    one.links.say(TO, &pushes, batches.to_vec());
    one.links.say(TO, &pushes, Vec::new());
    one.links.say(TO, &tells(3), Vec::new());
    let sent = one.sent();
    let [(on, pieces)] = &sent[..] else {
        panic!("{} requests", sent.len());
    };
    assert_eq!((*on, pieces.len()), (link, 4), "heads, two batches, heads");
    for (piece, batch) in pieces[1..3].iter().zip(&batches) {
        assert_eq!(piece.as_ptr(), batch.as_ptr());
    }
    let with_batches = said(ReplicaWhat::Pushes(push(batches.concat().into())));
    let all = [tells(2), with_batches, pushes, tells(3)];
    assert_eq!(messages(pieces), all);
    assert!(one.sent().is_empty());
}

#[test]
fn requests_are_bounded_and_a_long_message_has_one_to_itself() {
    let mut one = One::new();
    one.up(TO);
    for end in 0..REPLICA_MESSAGES_MAX as i64 + 1 {
        one.links.say(TO, &tells(end), Vec::new());
    }
    let empty = said(ReplicaWhat::Pushes(push(Bytes::new())));
    for len in [600 * 1024, 600 * 1024, 2 * REPLICA_FRAME_BYTES, 1] {
        let batch = vec![Bytes::from(vec![7u8; len])];
        one.links.say(TO, &empty, batch);
    }
    let sent = one.sent();
    let counts: Vec<usize> = sent.iter().map(|(_, sent)| messages(sent).len()).collect();
    assert_eq!(counts, [REPLICA_MESSAGES_MAX, 2, 1, 1, 1]);
    for (_, pieces) in &sent {
        let bytes: usize = pieces.iter().map(Bytes::len).sum();
        assert!(bytes <= REPLICA_FRAME_BYTES + HEAD || messages(pieces).len() == 1);
    }
}

#[test]
fn who_takes_nothing_is_pushed_nothing_more_and_at_last_hung_up_on() {
    let mut one = One::new();
    let link = one.up(TO);
    let empty = said(ReplicaWhat::Pushes(push(Bytes::new())));
    let large = vec![Bytes::from(vec![7; 2 * REPLICA_UNSENT_BYTES_MAX])];
    one.links.say(TO, &empty, large.clone());
    assert!(!one.links.has_room(TO));
    let bytes: usize = one.sent()[0].1.iter().map(Bytes::len).sum();
    assert!(!one.links.has_room(TO));
    one.links.say(TO, &tells(1), Vec::new());
    assert_eq!(one.sent().len(), 1, "it is said all the same");
    one.links.link_sent(link, bytes);
    assert!(one.links.has_room(TO));
    // What was said without room is not held against it any more.
    let mut said = 0;
    one.links.say(TO, &empty, large);
    one.sent();
    while one.links.next_event().is_none() {
        one.links.say(TO, &tells(said), Vec::new());
        let mut out = Vec::new();
        one.links.flush(one.now(), &mut out);
        one.links.invariants();
        said += 1;
        assert!(said < REPLICA_UNSENT_BYTES_MAX as i64 / 50);
    }
    assert!(said > REPLICA_UNSENT_BYTES_MAX as i64 / 100);
    assert!(!one.links.is_up(TO));
    let (again, _) = one.dialled();
    assert!(again > link);
}

#[test]
fn one_that_is_lost_is_told_so_and_dialled_again_with_a_higher_number() {
    let mut one = One::new();
    let link = one.up(TO);
    one.pass(PEER_REDIAL_MS_MAX);
    one.links.say(TO, &tells(1), Vec::new());
    one.links.link_down(one.now(), link, &LinkLost::Reset);
    one.links.invariants();
    assert_eq!(one.links.next_event(), Some(LinkEvent::Down(TO)));
    assert!(one.sent().is_empty(), "it is lost with it");
    one.links.say(TO, &tells(2), Vec::new());
    let mut out = Vec::new();
    one.links.tick(one.now(), one.cluster_id, &mut out);
    let [Output::Dial { link: again, .. }] = out[..] else {
        panic!("not at once: {out:?}");
    };
    let number = one.hello(again).number;
    assert!(number > link.0);
    one.answered(again, &welcome(2));
    assert_eq!(one.links.next_event(), Some(LinkEvent::Up(TO)));
    assert!(one.sent().is_empty(), "said while it was down");
    // What still comes of the one before is nobody's.
    one.links.link_sent(link, 100);
    one.links.link_down(one.now(), link, &LinkLost::Closed);
    assert!(one.links.is_up(TO) && one.links.next_event().is_none());
}

#[test]
fn who_does_not_know_its_cluster_yet_is_asked_again_soon_others_later() {
    for (why, soon) in [(PeerRefusal::NotYet, true), (PeerRefusal::NoShard, false)] {
        let mut one = One::new();
        one.links.want(TO, &Image::default());
        let mut out = Vec::new();
        one.links.tick(one.now(), one.cluster_id, &mut out);
        let [Output::Dial { link, .. }] = out[..] else {
            panic!("{out:?}");
        };
        one.hello(link);
        let text = "no".to_owned();
        let out = one.answered(link, &HelloAnswer::Refused { why, text });
        assert!(matches!(out[..], [Output::LinkClose { .. }]));
        assert_eq!(one.links.next_event(), None);
        let (_, after) = one.dialled();
        assert_eq!(after <= PEER_REDIAL_MS_MIN, soon, "{after}");
    }
}

#[test]
fn who_is_wanted_no_more_is_hung_up_on_and_forgotten() {
    let mut one = One::new();
    let other = peer(3, 0);
    let link = one.up(TO);
    one.up(other);
    assert_eq!(one.links.up(), 2);
    one.links.say(TO, &tells(1), Vec::new());
    let mut out = Vec::new();
    one.links.drop_unwanted(|to| to == other, &mut out);
    assert!(matches!(out[..], [Output::LinkClose { link: it }] if it == link));
    one.links.invariants();
    assert_eq!((one.links.up(), one.links.next_event()), (1, None));
    assert!(one.pass(5_000).is_empty());
    // It may be wanted again.
    let again = one.up(TO);
    assert!(again > link);
    out.clear();
    one.links.stop(&mut out);
    assert_eq!(out.len(), 2);
    one.links.want(TO, &Image::default());
    assert!(one.pass(5_000).is_empty());
    assert_eq!(one.links.deadline(), Mono::NEVER);
}
