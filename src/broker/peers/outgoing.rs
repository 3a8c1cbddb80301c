//! A link to another node: dialled, greeted, kept alive if it is the control shard's, dialled again when it is gone.

use bytes::Bytes;

use super::greeting::{PeerAddress, may_stay, two_processes};
use crate::base::limits::{
    PEER_GREETED_WITHIN_MS, PEER_HEARTBEAT_MS, PEER_REDIAL_MS_MAX, PEER_REDIAL_MS_MIN,
    PEER_UNSENT_BYTES_MAX,
};
use crate::base::{Mono, Rng};
use crate::broker::io::{LinkId, LinkLost, Output};
use crate::broker::rare_log::RareLog;
use crate::wire::NodePlace;
use crate::wire::client::decode_own_response;
use crate::wire::peer::{
    Hello, HelloAnswer, NodeFacts, PEER_VERSION, PeerMessage, PeerMessages, PeerRefusal, Purpose,
};

/// Every link has one hello.
const HELLO_ID: i32 = 1;

/// Where it stands with the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// There is none, and it is dialled again then.
    Waiting(Mono),
    Dialling(LinkId),
    /// The hello is sent, and has to be answered by then.
    Greeting(LinkId, Mono),
    /// It can be used, since then; and the start of the process that has answered.
    Up(LinkId, Mono, u64),
}

/// What has become of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Became {
    /// Nothing that anybody has to know.
    Same,
    /// It is up.
    Up(NodeFacts),
    /// It was up, and is not.
    Down(String),
}

/// See the module.
#[derive(Debug)]
pub struct Outgoing {
    /// The other node.
    pub to: PeerAddress,
    purpose: Purpose,
    stage: Stage,
    /// The pause before it is dialled after the next failure, in ms.
    pause_ms: u64,
    /// Bytes that the driver was given and has not sent.
    unsent: usize,
    /// When something has to be said again.
    beat_at: Mono,
    /// The age of the oldest push of the other node that is not on this one's disk, in ms.
    pub stuck_ms: u32,
    log: RareLog,
}

impl Outgoing {
    /// To be dialled at once.
    pub fn new(to: PeerAddress, purpose: Purpose) -> Self {
        Self {
            to,
            purpose,
            stage: Stage::Waiting(Mono(0)),
            pause_ms: PEER_REDIAL_MS_MIN,
            unsent: 0,
            beat_at: Mono::NEVER,
            stuck_ms: 0,
            log: RareLog::default(),
        }
    }

    /// The link that there is, if one is asked for.
    pub fn link(&self) -> Option<LinkId> {
        match self.stage {
            Stage::Waiting(_) => None,
            Stage::Dialling(link) | Stage::Greeting(link, _) | Stage::Up(link, ..) => Some(link),
        }
    }

    /// Whether messages can be sent.
    pub fn is_up(&self) -> bool {
        matches!(self.stage, Stage::Up(..))
    }

    /// The start of the process that messages go to.
    pub fn start(&self) -> Option<u64> {
        match self.stage {
            Stage::Up(.., start) => Some(start),
            _ => None,
        }
    }

    /// When [`Outgoing::tick`] has something to do.
    pub fn deadline(&self) -> Mono {
        match self.stage {
            Stage::Waiting(until) | Stage::Greeting(_, until) => until,
            Stage::Dialling(_) => Mono::NEVER,
            Stage::Up(..) => self.beat_at,
        }
    }

    /// Does what it is time for. `next` is the id of a link, and counted up where one is dialled.
    pub fn tick(&mut self, now: Mono, next: &mut u64, rng: &mut Rng, out: &mut Vec<Output>) {
        match self.stage {
            Stage::Waiting(until) if until <= now => {
                *next += 1;
                let link = LinkId(*next);
                self.stage = Stage::Dialling(link);
                let to = (self.to.host.clone(), self.to.port);
                out.push(Output::Dial { link, to });
            }
            Stage::Greeting(link, until) if until <= now => {
                out.push(Output::LinkClose { link });
                self.failed(now, "it does not answer", rng);
            }
            Stage::Up(link, ..) if self.beat_at <= now => {
                self.beat_at = now.plus_ms(PEER_HEARTBEAT_MS);
                // What waits to be sent says as much, and one that takes nothing is not sent more.
                if self.unsent == 0 {
                    let stuck_ms = self.stuck_ms;
                    let beat = PeerMessages::encode(&[PeerMessage::Heartbeat { stuck_ms }]);
                    self.give(link, vec![beat], out);
                }
            }
            _ => {}
        }
    }

    /// The link is there: says hello.
    pub fn connected(
        &mut self,
        now: Mono,
        (me, place): (NodeFacts, NodePlace),
        out: &mut Vec<Output>,
    ) {
        if let Stage::Dialling(link) = self.stage {
            self.stage = Stage::Greeting(link, now.plus_ms(PEER_GREETED_WITHIN_MS));
            self.unsent = 0;
            let hello = Hello {
                versions: (PEER_VERSION, PEER_VERSION),
                purpose: self.purpose,
                to: self.to.node,
                number: link.0,
                from: me,
                place,
            };
            self.give(link, vec![hello.encode(HELLO_ID)], out);
        }
    }

    /// The other node has sent something: the answer to the hello, or what it should not. `heard` is the process
    /// of it that this node hears.
    pub fn received(
        &mut self,
        now: Mono,
        (me, heard): (&NodeFacts, Option<&NodeFacts>),
        frame: Bytes,
        rng: &mut Rng,
        out: &mut Vec<Output>,
    ) -> Became {
        let Some(link) = self.link() else {
            return Became::Same;
        };
        // But for one reason nothing passes by itself: it is not asked again and again.
        let mut passes = false;
        let why = match (self.stage, decode_own_response(frame)) {
            (Stage::Greeting(..), Ok((HELLO_ID, body))) => match HelloAnswer::decode(body) {
                Ok(HelloAnswer::Welcome { from, .. }) => match may_stay(me, self.to.node, &from) {
                    Err((_, text)) => text,
                    Ok(()) => match heard.filter(|heard| heard.start != from.start) {
                        Some(heard) => two_processes(heard, &from).1,
                        None => return self.welcomed(now, link, from),
                    },
                },
                Ok(HelloAnswer::Refused { why, text }) => {
                    passes = why == PeerRefusal::NotYet;
                    format!("it refuses: {text:?}")
                }
                Err(bad) => bad.to_string(),
            },
            _ => "what it says is no answer to a hello".to_owned(),
        };
        out.push(Output::LinkClose { link });
        let was_up = self.is_up();
        if !passes {
            self.pause_ms = PEER_REDIAL_MS_MAX;
        }
        self.failed(now, &why, rng);
        if was_up {
            Became::Down(why)
        } else {
            Became::Same
        }
    }

    fn welcomed(&mut self, now: Mono, link: LinkId, from: NodeFacts) -> Became {
        self.stage = Stage::Up(link, now, from.start);
        let PeerAddress { node, host, port } = &self.to;
        let incarnation = from.incarnation;
        match self.purpose {
            Purpose::Metadata => {
                self.beat_at = now;
                self.log.say(now, "up", |more| {
                    tracing::info!(
                        "connected to node {node} at {host}:{port}, start {incarnation} of it{more}"
                    );
                });
            }
            // There are many, and what becomes of the node is told of the one for the metadata.
            Purpose::Replicas { from, to } => tracing::debug!(
                "shard {from} is connected to shard {to} of node {node}, start {incarnation} of it"
            ),
        }
        Became::Up(from)
    }

    /// The link is gone, or has not come to be.
    pub fn lost(&mut self, now: Mono, why: &LinkLost, rng: &mut Rng) -> Became {
        self.ended(now, why.to_string(), rng)
    }

    /// The hello of before says too little: says another one at once, on another link. Whether it was up.
    pub fn greet_again(&mut self, now: Mono, out: &mut Vec<Output>) -> bool {
        let was_up = self.is_up();
        if let Stage::Greeting(link, _) | Stage::Up(link, ..) = self.stage {
            out.push(Output::LinkClose { link });
            self.stage = Stage::Waiting(now);
            self.unsent = 0;
            self.beat_at = Mono::NEVER;
        }
        was_up
    }

    /// Ends the link, for this reason.
    pub fn hang_up(
        &mut self,
        now: Mono,
        why: &str,
        rng: &mut Rng,
        out: &mut Vec<Output>,
    ) -> Became {
        out.extend(self.link().map(|link| Output::LinkClose { link }));
        self.ended(now, why.to_owned(), rng)
    }

    fn ended(&mut self, now: Mono, text: String, rng: &mut Rng) -> Became {
        let Stage::Up(_, since, _) = self.stage else {
            self.failed(now, &text, rng);
            return Became::Same;
        };
        // One that welcomes and hangs up, again and again, is one that failed.
        let lasted = now.ms_since(since) >= PEER_REDIAL_MS_MAX;
        if lasted {
            self.pause_ms = PEER_REDIAL_MS_MIN;
        }
        self.failed(now, &text, rng);
        if lasted {
            // Once at once: whether it refuses tells one that is gone from one that only ended the connection.
            self.stage = Stage::Waiting(now);
        }
        Became::Down(text)
    }

    fn failed(&mut self, now: Mono, why: &str, rng: &mut Rng) {
        // Jittered, or nodes that start together dial together.
        let pause_ms = self.pause_ms / 2 + rng.below(self.pause_ms / 2 + 1);
        self.stage = Stage::Waiting(now.plus_ms(pause_ms));
        self.pause_ms = (2 * self.pause_ms).min(PEER_REDIAL_MS_MAX);
        self.unsent = 0;
        self.beat_at = Mono::NEVER;
        let PeerAddress { node, host, port } = &self.to;
        match self.purpose {
            Purpose::Metadata => self.log.say(now, why, |more| {
                tracing::warn!(
                    "not connected to node {node} at {host}:{port}: {why}. It is tried again and again{more}"
                );
            }),
            Purpose::Replicas { from, to } => {
                tracing::debug!("shard {from} is not connected to shard {to} of node {node}: {why}");
            }
        }
    }

    /// Bytes have left.
    pub fn sent(&mut self, bytes: usize) {
        self.unsent = self.unsent.saturating_sub(bytes);
    }

    /// Bytes that have not left.
    pub fn unsent(&self) -> usize {
        self.unsent
    }

    /// Whether more may wait to be sent. One message may go beyond the bound: a large one would never have its turn
    /// behind small ones that come with it.
    pub fn has_room(&self) -> bool {
        self.unsent < PEER_UNSENT_BYTES_MAX
    }

    /// Sends a request, in pieces, on a link that is up and has room.
    pub fn send(&mut self, now: Mono, frame: Vec<Bytes>, out: &mut Vec<Output>) {
        if let Stage::Up(link, ..) = self.stage {
            if self.purpose == Purpose::Metadata {
                self.beat_at = now.plus_ms(PEER_HEARTBEAT_MS);
            }
            self.give(link, frame, out);
        }
    }

    fn give(&mut self, link: LinkId, pieces: Vec<Bytes>, out: &mut Vec<Output>) {
        self.unsent += pieces.iter().map(Bytes::len).sum::<usize>();
        out.push(Output::LinkSend { link, pieces });
    }

    /// The node is to stop: the link is closed, and not dialled again.
    pub fn stop(&mut self, out: &mut Vec<Output>) {
        out.extend(self.link().map(|link| Output::LinkClose { link }));
        self.stage = Stage::Waiting(Mono::NEVER);
        self.unsent = 0;
    }

    /// Panics if it contradicts itself. For the simulator.
    pub fn invariants(&self) {
        assert!(
            self.link().is_some() || self.unsent == 0,
            "unsent to nobody"
        );
        assert!((PEER_REDIAL_MS_MIN..=PEER_REDIAL_MS_MAX).contains(&self.pause_ms));
    }
}
