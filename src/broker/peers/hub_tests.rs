//! One node, its driver played by the test.

use super::super::greeting::PeerAddress;
use super::*;
use crate::base::limits::{
    PEER_FRAME_BYTES_MAX, PEER_GREETED_WITHIN_MS, PEER_HEARTBEAT_MS, PEER_REDIAL_MS_MAX,
    PEER_REDIAL_MS_MIN, PEER_UNSENT_BYTES_MAX,
};
use crate::base::{DirectoryId, Incarnation, ShardId};
use crate::broker::io::ConnId;
use crate::wire::NodePlace;
use crate::wire::encode_own_response;
use crate::wire::peer::{Hello, HelloAnswer, PEER_VERSION, PeerRefusal, Purpose};

const OTHER: NodeId = NodeId(2);
/// Bytes of a request before its body.
const HEAD: usize = 14;

pub fn facts(node: i32, cluster_id: Option<&str>) -> NodeFacts {
    process(node, cluster_id, 1)
}

/// The process of a node, by its incarnation.
fn process(node: i32, cluster_id: Option<&str>, incarnation: u64) -> NodeFacts {
    NodeFacts {
        node: NodeId(node),
        directory: DirectoryId([node as u8; 16]),
        incarnation: Incarnation(incarnation),
        start: incarnation,
        levels: (1, 2),
        cluster_id: cluster_id.map(Into::into),
    }
}

pub fn setup(me: i32, others: &[i32]) -> ClusterSetup {
    let other = |node: &i32| PeerAddress {
        node: NodeId(*node),
        host: format!("node-{node}"),
        port: 9093,
    };
    let others = others.iter().map(other).collect();
    ClusterSetup::of_voters(facts(me, None), others)
}

struct One {
    peers: Peers,
    ms: u64,
    /// The cluster that this node knows itself to be of.
    cluster_id: Option<&'static str>,
}

impl One {
    fn new() -> Self {
        Self {
            peers: Peers::new(setup(1, &[2]), 1),
            ms: 0,
            cluster_id: Some("a"),
        }
    }

    fn now(&self) -> Mono {
        Mono(self.ms * 1_000_000)
    }

    /// Lets time pass, millisecond by millisecond; what is wanted of the driver.
    fn pass(&mut self, ms: u64) -> Vec<Output> {
        let mut out = Vec::new();
        for _ in 0..ms {
            self.ms += 1;
            self.peers.tick(self.now(), self.cluster_id, &mut out);
            self.peers.invariants();
        }
        out
    }

    /// Lets time pass until the other node is dialled: the link, and after how many ms.
    fn dialled(&mut self) -> (LinkId, u64) {
        let before = self.ms;
        loop {
            if let Some(Output::Dial { link, to }) = self.pass(1).pop() {
                assert_eq!(to, ("node-2".to_owned(), 9093));
                return (link, self.ms - before);
            }
            assert!(self.ms - before < 10_000, "it is not dialled any more");
        }
    }

    /// The link is there; the hello on it.
    fn hello(&mut self, link: LinkId) -> Hello {
        let mut out = Vec::new();
        self.peers.link_up(self.now(), link, &mut out);
        let [Output::LinkSend { pieces, .. }] = &out[..] else {
            panic!("{out:?}");
        };
        self.peers.link_sent(link, pieces[0].len());
        let hello = Hello::decode(pieces[0].slice(HEAD..));
        hello.expect("a hello").expect("of this version")
    }

    fn answered(&mut self, link: LinkId, answer: &HelloAnswer) -> Vec<Output> {
        let mut out = Vec::new();
        let frame = encode_own_response(1, &answer.encode()).slice(4..);
        self.peers.link_received(self.now(), link, frame, &mut out);
        out
    }

    fn lost(&mut self, link: LinkId, why: LinkLost) {
        self.peers.link_down(self.now(), link, &why);
    }

    /// It is up.
    fn up() -> (Self, LinkId) {
        let mut one = Self::new();
        let (link, _) = one.dialled();
        one.hello(link);
        assert!(one.answered(link, &welcome(2)).is_empty());
        let event = one.peers.next_event();
        assert_eq!(event, Some(PeerEvent::Up(facts(2, Some("a")))));
        (one, link)
    }

    fn send(&mut self, bytes: usize) -> (Result<(), Unsent>, Vec<Output>) {
        let mut out = Vec::new();
        let message = PeerMessage::Quorum(vec![7; bytes].into());
        let now = self.now();
        (self.peers.send(now, OTHER, message, &mut out), out)
    }

    /// What comes of the stream by this connection, and what is wanted of the driver then.
    fn said(&mut self, conn: u64, said: PeerSaid) -> Vec<Output> {
        let (now, mut out) = (self.now(), Vec::new());
        let is_messages = matches!(said, PeerSaid::Messages { .. });
        self.peers.said(now, stream(conn), said, &mut out);
        if is_messages {
            // Whatever becomes of them they are not in the way of the next ones.
            let (to, taken) = self.peers.answers.remove(0);
            assert!(to == stream(conn) && matches!(taken, PeerAnswer::Taken(3)));
        }
        out
    }

    /// A process says hello on a connection: why it is refused, if it is.
    fn greeted(&mut self, conn: u64, from: NodeFacts, number: u64) -> Result<(), PeerRefusal> {
        self.said(conn, hello(from, number));
        self.answer(conn)
    }

    /// The same where the stream before has to be over by that.
    fn over_and_greeted(
        &mut self,
        before: u64,
        (conn, from, number): (u64, NodeFacts, u64),
    ) -> Result<(), PeerRefusal> {
        self.said(conn, hello(from, number));
        assert_eq!(self.over(), stream(before));
        self.answer(conn)
    }

    /// The next stream that is over.
    fn over(&mut self) -> PeerStream {
        match self.peers.answers.remove(0) {
            (stream, PeerAnswer::Over(_)) => stream,
            other => panic!("{other:?}"),
        }
    }

    /// What was answered to the last hello, on this connection.
    fn answer(&mut self, conn: u64) -> Result<(), PeerRefusal> {
        match self.peers.answers.remove(0) {
            (to, PeerAnswer::Greeted(HelloAnswer::Welcome { .. })) if to == stream(conn) => Ok(()),
            (to, PeerAnswer::Greeted(HelloAnswer::Refused { why, .. })) if to == stream(conn) => {
                Err(why)
            }
            other => panic!("{other:?}"),
        }
    }

    fn heard(&mut self) -> Vec<Bytes> {
        let events = std::iter::from_fn(|| self.peers.next_event());
        let heard = events.filter_map(|event| match event {
            PeerEvent::Heard(OTHER, bytes) => Some(bytes),
            _ => None,
        });
        heard.collect()
    }
}

fn hello(from: NodeFacts, number: u64) -> PeerSaid {
    let hello = Hello {
        versions: (PEER_VERSION, PEER_VERSION),
        purpose: Purpose::Metadata,
        to: NodeId(1),
        number,
        from,
        place: NodePlace::default(),
    };
    PeerSaid::Hello(Box::new(hello))
}

const fn stream(conn: u64) -> PeerStream {
    PeerStream {
        shard: ShardId(1),
        conn: ConnId(conn),
    }
}

fn welcome(node: i32) -> HelloAnswer {
    HelloAnswer::Welcome {
        version: PEER_VERSION,
        from: facts(node, Some("a")),
    }
}

fn messages(message: PeerMessage) -> PeerSaid {
    let (seq, messages) = (3, vec![message]);
    PeerSaid::Messages { seq, messages }
}

fn quorum(text: &'static str) -> PeerSaid {
    let bytes = Bytes::from_static(text.as_bytes());
    messages(PeerMessage::Quorum(bytes))
}

#[test]
fn who_refuses_is_dialled_again_after_pauses_that_grow_to_a_bound() {
    let mut one = One::new();
    let mut pauses = Vec::new();
    for _ in 0..50 {
        let (link, pause) = one.dialled();
        pauses.push(pause);
        one.lost(link, LinkLost::Refused);
    }
    assert_eq!(pauses[0], 1);
    assert!(
        (PEER_REDIAL_MS_MIN / 2..=PEER_REDIAL_MS_MIN).contains(&pauses[1]),
        "{pauses:?}"
    );
    let late = &pauses[10..];
    assert!(
        late.iter()
            .all(|ms| (PEER_REDIAL_MS_MAX / 2..=PEER_REDIAL_MS_MAX).contains(ms))
    );
    assert!(late.iter().any(|ms| *ms != late[0]), "no jitter: {late:?}");
    assert_eq!(one.peers.next_event(), None, "it was never up");
    assert_eq!(one.send(1).0, Err(Unsent::Down));
}

#[test]
fn one_that_is_up_is_told_so_and_dialled_again_at_once_when_it_is_lost() {
    let (mut one, link) = One::up();
    let mut beats = 0;
    // Not at once but for one that lasts.
    for _ in 0..PEER_REDIAL_MS_MAX {
        for output in one.pass(1) {
            let Output::LinkSend { link: on, pieces } = output else {
                panic!("{output:?}");
            };
            assert_eq!(on, link);
            let messages = PeerMessages::decode(pieces[0].slice(HEAD..));
            assert_eq!(messages, Ok(vec![PeerMessage::Heartbeat { stuck_ms: 0 }]));
            one.peers.link_sent(link, pieces[0].len());
            beats += 1;
        }
    }
    assert_eq!(beats, PEER_REDIAL_MS_MAX / PEER_HEARTBEAT_MS);
    one.lost(link, LinkLost::Reset);
    let event = one.peers.next_event();
    assert!(
        matches!(event, Some(PeerEvent::Down(OTHER, _))),
        "{event:?}"
    );
    let (next, pause) = one.dialled();
    assert_eq!((next.0, pause), (link.0 + 1, 1));
    one.lost(next, LinkLost::Refused);
    let (_, pause) = one.dialled();
    assert!(pause >= PEER_REDIAL_MS_MIN / 2, "{pause}");
}

#[test]
fn who_welcomes_and_hangs_up_is_dialled_after_pauses_that_grow() {
    let mut one = One::new();
    let mut pauses = Vec::new();
    for _ in 0..20 {
        let (link, pause) = one.dialled();
        pauses.push(pause);
        one.hello(link);
        one.answered(link, &welcome(2));
        one.lost(link, LinkLost::Closed);
    }
    let grown = PEER_REDIAL_MS_MAX / 2..=PEER_REDIAL_MS_MAX;
    assert!(
        pauses[10..].iter().all(|ms| grown.contains(ms)),
        "{pauses:?}"
    );
    // One that lasts is as good as new.
    let (link, _) = one.dialled();
    one.hello(link);
    one.answered(link, &welcome(2));
    one.pass(PEER_REDIAL_MS_MAX);
    one.lost(link, LinkLost::Closed);
    let (link, pause) = one.dialled();
    assert_eq!(pause, 1);
    one.lost(link, LinkLost::Refused);
    assert!(one.dialled().1 <= 2 * PEER_REDIAL_MS_MIN);
}

#[test]
fn who_accepts_and_does_not_answer_is_given_up() {
    let mut one = One::new();
    let (link, _) = one.dialled();
    let hello = one.hello(link);
    assert_eq!(
        (hello.to, hello.from.node, hello.number),
        (OTHER, NodeId(1), link.0)
    );
    assert_eq!(hello.from.cluster_id.as_deref(), Some("a"));
    assert_eq!(one.pass(PEER_GREETED_WITHIN_MS - 1).len(), 0);
    let out = one.pass(1);
    assert!(
        matches!(out[..], [Output::LinkClose { link: it }] if it == link),
        "{out:?}"
    );
    assert!(one.dialled().0 > link);
}

#[test]
fn who_answers_wrongly_is_hung_up_on() {
    let refused = HelloAnswer::Refused {
        why: PeerRefusal::OtherCluster,
        text: "no".to_owned(),
    };
    for answer in [welcome(3), refused] {
        let mut one = One::new();
        let (link, _) = one.dialled();
        one.hello(link);
        let out = one.answered(link, &answer);
        assert!(matches!(out[..], [Output::LinkClose { .. }]), "{out:?}");
        assert_eq!(one.peers.next_event(), None);
        assert!(one.dialled().1 >= PEER_REDIAL_MS_MAX / 2);
    }
    // Nothing is to come but the answer.
    let (mut one, link) = One::up();
    let out = one.answered(link, &welcome(2));
    assert!(matches!(out[..], [Output::LinkClose { .. }]), "{out:?}");
    assert!(matches!(
        one.peers.next_event(),
        Some(PeerEvent::Down(OTHER, _))
    ));
}

#[test]
fn what_waits_to_be_sent_is_bounded() {
    let (mut one, link) = One::up();
    // Whatever its size, if nothing is before it.
    let (sent, out) = one.send(2 * PEER_UNSENT_BYTES_MAX);
    assert_eq!(sent, Ok(()));
    // Each of them is heard when it comes, and none takes as long as a silence that is odd.
    let mut bytes = 0;
    for output in out {
        let Output::LinkSend { pieces, .. } = output else {
            panic!("{output:?}");
        };
        let len = pieces.iter().map(Bytes::len).sum::<usize>();
        assert!(len <= PEER_FRAME_BYTES_MAX, "{len}");
        bytes += len;
    }
    assert_eq!(one.send(1).0, Err(Unsent::Full));
    assert_eq!(one.pass(1_000).len(), 0, "no heartbeats behind it");
    one.peers.link_sent(link, bytes);
    assert_eq!(one.send(1).0, Ok(()));
    one.lost(link, LinkLost::TimedOut);
    assert_eq!(one.send(1).0, Err(Unsent::Down));
    let (link, _) = one.dialled();
    one.hello(link);
    assert_eq!(
        one.send(1).0,
        Err(Unsent::Down),
        "not before it has answered"
    );
    one.answered(link, &welcome(2));
    assert_eq!(
        one.send(PEER_UNSENT_BYTES_MAX / 2).0,
        Ok(()),
        "what was lost is not counted"
    );
}

#[test]
fn what_comes_on_an_earlier_stream_counts_no_more() {
    let (mut one, first) = (One::new(), || facts(2, None));
    one.said(1, quorum("without a hello"));
    assert_eq!(one.greeted(1, first(), 1), Ok(()));
    one.said(1, quorum("a"));
    one.said(9, quorum("on another connection"));
    assert_eq!(one.over_and_greeted(1, (3, first(), 3)), Ok(()));
    one.said(1, quorum("late"));
    one.said(1, PeerSaid::Gone);
    for number in [2, 3] {
        let refused = one.greeted(2, first(), number);
        assert_eq!(refused, Err(PeerRefusal::Stale), "{number}");
    }
    one.said(2, quorum("late too"));
    one.said(2, PeerSaid::Gone);
    one.said(3, quorum("b"));
    assert_eq!(one.heard(), ["a", "b"]);
    // What is not there any more is in nobody's way.
    one.said(3, PeerSaid::Gone);
    assert_eq!(one.greeted(4, first(), 2), Ok(()));
    one.pass(1_000);
    assert_eq!(one.over_and_greeted(4, (5, first(), 1)), Ok(()), "silent");
    one.said(5, quorum("c"));
    assert_eq!(one.heard(), ["c"]);
}

#[test]
fn parts_are_joined_and_bounded_and_forgotten_with_their_stream() {
    let part = |len: usize| messages(PeerMessage::QuorumPart(vec![1; len].into()));
    let (mut one, first) = (One::new(), || facts(2, None));
    assert_eq!(one.greeted(1, first(), 1), Ok(()));
    one.said(1, part(3));
    one.said(1, messages(PeerMessage::Heartbeat { stuck_ms: 0 }));
    one.said(1, part(2));
    one.said(1, quorum("end"));
    one.said(1, quorum("next"));
    assert_eq!(one.heard(), [&b"\x01\x01\x01\x01\x01end"[..], b"next"]);
    one.said(1, part(3));
    assert_eq!(one.over_and_greeted(1, (2, first(), 2)), Ok(()));
    one.said(2, quorum("whole"));
    assert_eq!(one.heard(), ["whole"]);
    for last in [part(1), quorum("x")] {
        let conn = 10 + one.ms;
        one.said(2, PeerSaid::Gone);
        assert_eq!(one.greeted(conn, first(), 3), Ok(()));
        one.said(conn, part(QUORUM_MESSAGE_BYTES_MAX));
        assert!(one.peers.answers.is_empty());
        one.said(conn, last);
        assert_eq!(one.over(), stream(conn));
        one.said(conn, quorum("of nobody"));
        assert!(one.heard().is_empty());
        one.pass(1);
    }
}

#[test]
fn of_two_processes_of_a_node_the_one_that_is_heard_stays() {
    let copy = NodeFacts {
        start: 77,
        ..facts(2, None)
    };
    let wiped = NodeFacts {
        directory: DirectoryId([9; 16]),
        ..process(2, None, 0)
    };
    let (mut one, earlier) = (One::new(), process(2, None, 0));
    let all = || [&copy, &wiped, &earlier].map(Clone::clone);
    for other in all() {
        let conn = one.ms + 10;
        // Whoever stays says so, whatever the other one counts.
        let mut first = facts(2, None);
        first.start = one.ms;
        assert_eq!(one.greeted(conn, first.clone(), 1), Ok(()));
        for number in 1..100 {
            one.pass(10);
            one.said(conn, quorum("here"));
            let refused = one.greeted(conn + 1, other.clone(), number);
            assert_eq!(refused, Err(PeerRefusal::TwoProcesses));
            one.said(conn + 1, quorum("not heard"));
        }
        assert_eq!(one.heard(), vec!["here"; 99]);
        one.said(conn, PeerSaid::Gone);
        assert_eq!(one.greeted(conn + 1, other, 1), Ok(()), "it is alone");
        one.said(conn + 1, PeerSaid::Gone);
    }
    // A silent one goes: at once, or later if its place is taken by one that may only be late.
    for (other, silent_ms) in all().into_iter().zip([101, 101, 201]) {
        let conn = one.ms + 10;
        let mut first = facts(2, None);
        first.start = one.ms;
        assert_eq!(one.greeted(conn, first, 1), Ok(()));
        one.pass(silent_ms - 1);
        let refused = one.greeted(conn + 1, other.clone(), 1);
        assert_eq!(refused, Err(PeerRefusal::TwoProcesses));
        one.pass(1);
        assert_eq!(one.over_and_greeted(conn, (conn + 1, other, 1)), Ok(()));
        one.said(conn + 1, PeerSaid::Gone);
    }
}

#[test]
fn a_node_talks_to_the_process_that_it_hears() {
    // Another one is heard: the link to the first one is of no use.
    let (mut one, link) = One::up();
    let mut out = one.said(1, hello(process(2, None, 2), 1));
    assert_eq!(one.answer(1), Ok(()));
    assert!(
        matches!(out.pop(), Some(Output::LinkClose { link: it }) if it == link),
        "{out:?}"
    );
    assert!(matches!(
        one.peers.next_event(),
        Some(PeerEvent::Down(OTHER, _))
    ));
    // It is not the one that answers.
    let mut pauses = Vec::new();
    for _ in 0..10 {
        let before = one.ms;
        let link = loop {
            one.said(1, quorum("here"));
            if let Some(Output::Dial { link, .. }) = one.pass(1).pop() {
                break link;
            }
        };
        pauses.push(one.ms - before);
        one.hello(link);
        let out = one.answered(link, &welcome(2));
        assert!(matches!(out[..], [Output::LinkClose { .. }]), "{out:?}");
    }
    assert!(
        pauses[1..].iter().all(|ms| *ms >= PEER_REDIAL_MS_MAX / 2),
        "{pauses:?}"
    );
    assert!(!one.heard().is_empty());
    // A silent one does not count when another one answers.
    let (link, _) = one.dialled();
    one.hello(link);
    assert!(one.answered(link, &welcome(2)).is_empty());
    assert!(matches!(one.peers.next_event(), Some(PeerEvent::Up(_))));
    assert_eq!(one.over(), stream(1));
    one.said(1, quorum("late"));
    assert!(one.heard().is_empty());
}

#[test]
fn what_is_heard_and_seen_of_a_node_is_what_is_thought_of_it() {
    let mut one = One::new();
    let verdict = |one: &mut One| {
        let judged = one.peers.judged(one.now(), OTHER);
        judged.map(|(_, it)| it.verdict)
    };
    assert_eq!(verdict(&mut one), None);
    let (link, _) = one.dialled();
    assert_eq!(one.greeted(1, facts(2, None), 1), Ok(()));
    assert_eq!(verdict(&mut one), Some(Verdict::Alive));
    one.pass(1_000);
    assert_eq!(verdict(&mut one), Some(Verdict::Dead), "silence");
    one.said(1, quorum("here"));
    assert_eq!(verdict(&mut one), Some(Verdict::Alive));
    // It does not listen, or not there, and is heard all the same.
    one.lost(link, LinkLost::Refused);
    assert_eq!(verdict(&mut one), Some(Verdict::Alive));
    one.said(1, quorum("here"));
    one.said(1, PeerSaid::Gone);
    assert_eq!(verdict(&mut one), Some(Verdict::Suspected));
    let (link, _) = one.dialled();
    one.lost(link, LinkLost::Refused);
    assert_eq!(verdict(&mut one), Some(Verdict::Dead));
    assert_eq!(one.greeted(2, process(2, None, 2), 1), Ok(()));
    assert_eq!(verdict(&mut one), Some(Verdict::Alive), "another process");
    let stuck = PeerMessage::Heartbeat { stuck_ms: 5_000 };
    one.said(2, messages(stuck));
    assert_eq!(verdict(&mut one), Some(Verdict::Suspected));
}

#[test]
fn who_was_greeted_before_the_cluster_was_known_is_greeted_again() {
    let mut one = One::new();
    one.cluster_id = None;
    let (link, _) = one.dialled();
    assert_eq!(one.hello(link).from.cluster_id, None);
    one.answered(link, &welcome(2));
    assert!(matches!(one.peers.next_event(), Some(PeerEvent::Up(_))));
    assert_eq!(one.greeted(1, facts(2, None), 1), Ok(()));
    one.cluster_id = Some("a");
    let out = one.pass(1);
    assert!(
        matches!(out[0], Output::LinkClose { link: it } if it == link),
        "{out:?}"
    );
    assert!(matches!(
        one.peers.next_event(),
        Some(PeerEvent::Down(OTHER, _))
    ));
    // At once, and it stays so.
    let [_, Output::Dial { link, .. }] = out[..] else {
        panic!("{out:?}");
    };
    assert_eq!(one.hello(link).from.cluster_id.as_deref(), Some("a"));
    one.answered(link, &welcome(2));
    one.pass(100);
    assert!(one.peers.up() == 1 && one.peers.answers.is_empty());
    // The same where the answer is on its way; and who came from another cluster has to go.
    for (theirs, stays) in [(None, true), (Some("a"), true), (Some("b"), false)] {
        let mut one = One::new();
        one.cluster_id = None;
        let (link, _) = one.dialled();
        one.hello(link);
        assert_eq!(one.greeted(1, facts(2, theirs), 1), Ok(()));
        one.cluster_id = Some("a");
        let out = one.pass(1);
        assert!(
            matches!(out[..], [Output::LinkClose { link: it }, Output::Dial { .. }] if it == link),
            "{out:?}"
        );
        if !stays {
            assert_eq!(one.over(), stream(1));
        }
        one.said(1, quorum("said"));
        assert_eq!(one.heard().len(), usize::from(stays), "{theirs:?}");
        assert!(one.peers.answers.is_empty());
    }
}

#[test]
fn a_node_that_stops_hangs_up_and_dials_no_more() {
    let (mut one, link) = One::up();
    let mut out = Vec::new();
    one.peers.stop(&mut out);
    assert!(
        matches!(out[..], [Output::LinkClose { link: it }] if it == link),
        "{out:?}"
    );
    assert_eq!(one.pass(5_000).len(), 0);
    assert_eq!(one.peers.deadline(), Mono::NEVER);
}

/// The hello of a node that has no vote.
fn observer_hello(node: i32, number: u64) -> PeerSaid {
    let PeerSaid::Hello(mut said) = hello(facts(node, None), number) else {
        panic!("a hello");
    };
    said.place = NodePlace {
        voters: Vec::new(),
        reached: Some((format!("node-{node}"), 9093)),
    };
    PeerSaid::Hello(said)
}

/// Whom it dials next, in a millisecond.
fn dials(one: &mut One) -> Vec<(LinkId, String)> {
    let out = one.pass(1).into_iter();
    out.filter_map(|output| match output {
        Output::Dial { link, to } => Some((link, to.0)),
        _ => None,
    })
    .collect()
}

#[test]
fn a_node_without_a_vote_is_talked_to_when_it_has_come() {
    let mut one = One::up().0;
    one.said(7, observer_hello(4, 1));
    assert_eq!(one.answer(7), Ok(()));
    let [(link, host)] = &dials(&mut one)[..] else {
        panic!("it is not dialled");
    };
    assert_eq!(host, "node-4");
    assert_eq!(one.hello(*link).to, NodeId(4));
    assert!(one.answered(*link, &welcome(4)).is_empty());
    let event = one.peers.next_event();
    assert_eq!(event, Some(PeerEvent::Up(facts(4, Some("a")))));
    assert_eq!(
        one.peers
            .judged(one.now(), NodeId(4))
            .map(|(_, it)| it.verdict),
        Some(Verdict::Alive)
    );
    // A second process with its id is refused, and nobody looks for the first one there.
    let PeerSaid::Hello(mut second) = observer_hello(4, 1) else {
        panic!("a hello");
    };
    second.from.start = 99;
    second.place.reached = Some(("second".to_owned(), 9093));
    one.said(8, PeerSaid::Hello(second));
    assert_eq!(one.answer(8), Err(PeerRefusal::TwoProcesses));
    let known = one.peers.peers.iter().map(|peer| &*peer.outgoing.to.host);
    assert_eq!(known.collect::<Vec<_>>(), ["node-2", "node-4"]);
    // One that is elsewhere since, by what it has registered.
    one.peers.know(PeerAddress {
        node: NodeId(4),
        host: "moved".to_owned(),
        port: 9,
    });
    one.lost(*link, LinkLost::Closed);
    let mut dialled = Vec::new();
    while dialled.is_empty() {
        dialled = dials(&mut one);
    }
    assert_eq!(dialled[0].1, "moved");
    // What the configuration says of one counts.
    one.peers.know(PeerAddress {
        node: OTHER,
        host: "elsewhere".to_owned(),
        port: 9,
    });
    assert_eq!(one.peers.peers[0].outgoing.to.host, "node-2");
}

#[test]
fn a_server_is_found_out_and_then_talked_to_as_the_node_that_it_is() {
    let mut one = One::new();
    let mut observer = setup(4, &[]);
    observer.observes = true;
    observer.servers = vec![("server".to_owned(), 9093)];
    one.peers = Peers::new(observer, 1);
    let (link, host) = dials(&mut one).remove(0);
    assert_eq!((one.hello(link).to, &*host), (NodeId(-1), "server"));
    let out = one.answered(link, &welcome(2));
    assert!(
        matches!(out[..], [Output::LinkClose { link: it }] if it == link),
        "{out:?}"
    );
    assert_eq!(one.peers.next_event(), None);
    let (link, host) = dials(&mut one).remove(0);
    assert_eq!((one.hello(link).to, &*host), (OTHER, "server"));
    one.answered(link, &welcome(2));
    let event = one.peers.next_event();
    assert_eq!(event, Some(PeerEvent::Up(facts(2, Some("a")))));
    assert_eq!(
        one.pass(3_000)
            .iter()
            .filter(|it| matches!(it, Output::Dial { .. }))
            .count(),
        0
    );
}

#[test]
fn nodes_that_come_are_bounded_and_those_that_are_gone_make_room() {
    let mut one = One::new();
    for node in 4..4 + PEERS_MAX as i32 - 1 {
        one.said(node as u64, observer_hello(node, 1));
        assert_eq!(one.answer(node as u64), Ok(()));
    }
    one.said(1, observer_hello(1_000, 1));
    assert_eq!(one.answer(1), Err(PeerRefusal::NoMember));
    one.said(9, PeerSaid::Gone);
    one.said(1, observer_hello(1_000, 1));
    assert_eq!(one.answer(1), Ok(()));
    assert_eq!(one.peers.peers.len(), PEERS_MAX);
    assert!(
        one.peers.judged(one.now(), NodeId(9)).is_none(),
        "forgotten"
    );
}
