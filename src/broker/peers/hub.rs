//! All other nodes, as the control shard knows them: links to them, what comes of their streams to this node, and
//! what is thought of each.

use std::collections::VecDeque;

use bytes::Bytes;

use super::detector::{Detector, OwnTime, Verdict};
use super::greeting::ClusterSetup;
use super::outgoing::{Became, Outgoing};
use crate::base::limits::PEER_TICK_MS;
use crate::base::{Mono, NodeId, Rng};
use crate::broker::io::{LinkId, LinkLost, Output};
use crate::broker::msg::{PeerSaid, PeerStream};
use crate::wire::peer::{NodeFacts, PeerMessage, PeerMessages};

/// Something that whoever works with other nodes has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerEvent {
    /// Messages to a node can be sent; who it is.
    Up(NodeFacts),
    /// They cannot be sent any more, and those that were may not have arrived; why, for people.
    Down(NodeId, String),
    /// A node has said this to the metadata quorum.
    Heard(NodeId, Bytes),
}

/// Why a message is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsent {
    /// The node takes less than it is sent.
    Full,
    /// There is no link to it.
    Down,
}

#[derive(Debug)]
struct Peer {
    outgoing: Outgoing,
    /// The newest stream of it to this node: what comes on an earlier one counts no more.
    stream: Option<PeerStream>,
    /// What is heard of the process whose stream that is.
    detector: Option<Detector>,
}

/// See the module.
#[derive(Debug)]
pub struct Peers {
    setup: ClusterSetup,
    cluster_id: Option<Box<str>>,
    peers: Vec<Peer>,
    /// The number of the last link.
    links: u64,
    rng: Rng,
    own: OwnTime,
    tick_at: Mono,
    events: VecDeque<PeerEvent>,
    stopping: bool,
}

impl Peers {
    /// Dials nobody before its first [tick](Self::tick).
    #[must_use]
    pub fn new(setup: ClusterSetup, seed: u64) -> Self {
        let others = setup.others.iter().cloned();
        let peers = others.map(|to| Peer {
            outgoing: Outgoing::new(to),
            stream: None,
            detector: None,
        });
        Self {
            peers: peers.collect(),
            setup,
            cluster_id: None,
            links: 0,
            rng: Rng::new(seed),
            own: OwnTime::default(),
            tick_at: Mono(0),
            events: VecDeque::new(),
            stopping: false,
        }
    }

    /// When [`Peers::tick`] has something to do.
    #[must_use]
    pub fn deadline(&self) -> Mono {
        if self.stopping {
            return Mono::NEVER;
        }
        let deadlines = self.peers.iter().map(|peer| peer.outgoing.deadline());
        deadlines.fold(self.tick_at, Mono::min)
    }

    /// Does what it is time for. `cluster_id` is that of the cluster which this node is part of by now.
    pub fn tick(&mut self, now: Mono, cluster_id: Option<&str>, out: &mut Vec<Output>) {
        if self.stopping {
            return;
        }
        if self.cluster_id.as_deref() != cluster_id {
            self.cluster_id = cluster_id.map(Into::into);
        }
        // It has to be asked so often, whatever else there is to do.
        self.own.at(now);
        if self.tick_at <= now {
            self.tick_at = now.plus_ms(PEER_TICK_MS);
        }
        for peer in &mut self.peers {
            peer.outgoing.tick(now, &mut self.links, &mut self.rng, out);
        }
    }

    fn by_link(&mut self, link: LinkId) -> Option<&mut Peer> {
        let mut peers = self.peers.iter_mut();
        peers.find(|peer| peer.outgoing.link() == Some(link))
    }

    fn by_node(&mut self, node: NodeId) -> Option<&mut Peer> {
        let mut peers = self.peers.iter_mut();
        peers.find(|peer| peer.outgoing.to.node == node)
    }

    /// A link is there.
    pub fn link_up(&mut self, now: Mono, link: LinkId, out: &mut Vec<Output>) {
        let me = self.setup.facts(self.cluster_id.as_deref());
        if let Some(peer) = self.by_link(link) {
            peer.outgoing.connected(now, me, out);
        }
    }

    /// A frame came on a link.
    pub fn link_received(&mut self, now: Mono, link: LinkId, frame: Bytes, out: &mut Vec<Output>) {
        let me = self.setup.facts(self.cluster_id.as_deref());
        let own = self.own.at(now);
        let mut rng = self.rng.clone();
        if let Some(peer) = self.by_link(link) {
            let became = peer.outgoing.received(now, &me, frame, &mut rng, out);
            if let (Became::Up(_), Some(detector)) = (&became, &mut peer.detector) {
                detector.hear(own);
            }
            let node = peer.outgoing.to.node;
            self.tell(node, became);
        }
        self.rng = rng;
    }

    /// Bytes have left on a link.
    pub fn link_sent(&mut self, link: LinkId, bytes: usize) {
        if let Some(peer) = self.by_link(link) {
            peer.outgoing.sent(bytes);
        }
    }

    /// A link is gone, or has not come to be.
    pub fn link_down(&mut self, now: Mono, link: LinkId, why: &LinkLost) {
        let mut rng = self.rng.clone();
        if let Some(peer) = self.by_link(link) {
            match (why, &mut peer.detector) {
                (LinkLost::Refused, Some(detector)) => detector.refused(),
                (LinkLost::Reset | LinkLost::Closed, Some(detector)) => detector.reset(),
                _ => {}
            }
            let became = peer.outgoing.lost(now, why, &mut rng);
            let node = peer.outgoing.to.node;
            self.tell(node, became);
        }
        self.rng = rng;
    }

    fn tell(&mut self, node: NodeId, became: Became) {
        self.events.extend(match became {
            Became::Same => None,
            Became::Up(facts) => Some(PeerEvent::Up(facts)),
            Became::Down(why) => Some(PeerEvent::Down(node, why)),
        });
    }

    /// Another node has said something on a stream to this one.
    pub fn said(&mut self, now: Mono, stream: PeerStream, said: PeerSaid) {
        let own = self.own.at(now);
        let Some(peer) = self.by_node(stream.process.node) else {
            return;
        };
        match said {
            PeerSaid::Hello => {
                if peer.stream.is_some_and(|newest| newest >= stream) {
                    return;
                }
                let before = peer.stream.replace(stream);
                let same = before.is_some_and(|before| before.process == stream.process);
                match &mut peer.detector {
                    Some(detector) if same => detector.hear(own),
                    detector => *detector = Some(Detector::new(own)),
                }
            }
            _ if peer.stream != Some(stream) => {}
            PeerSaid::Messages(messages) => {
                let mut heard = Vec::new();
                if let Some(detector) = &mut peer.detector {
                    detector.hear(own);
                    for message in messages {
                        match message {
                            PeerMessage::Heartbeat { stuck_ms } => {
                                detector.hear_stuck(stuck_ms.into());
                            }
                            PeerMessage::Quorum(bytes) => heard.push(bytes),
                        }
                    }
                }
                let node = stream.process.node;
                let heard = heard.into_iter().map(|bytes| PeerEvent::Heard(node, bytes));
                self.events.extend(heard);
            }
            PeerSaid::Gone => {
                if let Some(detector) = &mut peer.detector {
                    detector.reset();
                }
            }
        }
    }

    /// Sends a message to a node.
    ///
    /// # Errors
    /// Why it is not sent. One that is sent may be lost with the link, of which is told then.
    pub fn send(
        &mut self,
        now: Mono,
        node: NodeId,
        message: PeerMessage,
        out: &mut Vec<Output>,
    ) -> Result<(), Unsent> {
        let peer = self.by_node(node).filter(|peer| peer.outgoing.is_up());
        let outgoing = &mut peer.ok_or(Unsent::Down)?.outgoing;
        let frame = PeerMessages::encode(&[message]);
        if !outgoing.has_room(frame.len()) {
            return Err(Unsent::Full);
        }
        outgoing.send(now, frame, out);
        Ok(())
    }

    /// What is thought of a node; `None` if it was never heard.
    pub fn verdict(&mut self, now: Mono, node: NodeId) -> Option<Verdict> {
        let own = self.own.at(now);
        let detector = self.by_node(node)?.detector.as_ref()?;
        Some(detector.verdict(own))
    }

    /// Nodes to which messages can be sent.
    #[must_use]
    pub fn up(&self) -> usize {
        let peers = self.peers.iter();
        peers.filter(|peer| peer.outgoing.is_up()).count()
    }

    /// The next thing that has to be known.
    pub fn next_event(&mut self) -> Option<PeerEvent> {
        self.events.pop_front()
    }

    /// The node is to stop: no more links.
    pub fn stop(&mut self, out: &mut Vec<Output>) {
        self.stopping = true;
        for peer in &mut self.peers {
            peer.outgoing.stop(out);
        }
    }

    /// Panics if it contradicts itself. For the simulator.
    pub fn invariants(&self) {
        self.peers
            .iter()
            .for_each(|peer| peer.outgoing.invariants());
    }
}

#[cfg(test)]
#[path = "hub_tests.rs"]
pub(super) mod tests;
