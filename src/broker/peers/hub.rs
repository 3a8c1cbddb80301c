//! All other nodes, as the control shard knows them: links to them, what comes of their streams to this node, and
//! what is thought of each.

use std::collections::VecDeque;

use bytes::Bytes;

use super::detector::{Detector, Judged, OwnTime, Verdict};
use super::greeting::{ClusterSetup, GreetingRefused, PeerAddress, fit, text_of, two_processes};
use super::outgoing::{Became, Outgoing};
use crate::base::limits::{PEER_TICK_MS, PEERS_MAX, QUORUM_MESSAGE_BYTES_MAX};
use crate::base::{DirectoryId, Mono, NodeId, Rng};
use crate::broker::io::{LinkId, LinkLost, Output};
use crate::broker::msg::{PeerAnswer, PeerSaid, PeerStream};
use crate::broker::rare_log::RareLog;
use crate::wire::peer::{
    Hello, HelloAnswer, NodeFacts, PEER_VERSION, PeerMessage, PeerMessages, PeerRefusal, Purpose,
};

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

/// The process of another node that is heard. There may be others: of a node whose stores were copied, or one before it
/// that is not quite gone.
#[derive(Debug)]
struct Process {
    facts: NodeFacts,
    /// Its newest stream to this node while that is there: what comes on an earlier one counts no more.
    stream: Option<PeerStream>,
    /// Which one of the process that is.
    number: u64,
    /// The parts of a message of the quorum that has not come whole, of `QUORUM_MESSAGE_BYTES_MAX` at most.
    parts: Vec<u8>,
    detector: Detector,
}

impl Process {
    fn new(own: Mono, stream: PeerStream, hello: &Hello) -> Self {
        Self {
            facts: hello.from.clone(),
            stream: Some(stream),
            number: hello.number,
            parts: Vec::new(),
            detector: Detector::new(own),
        }
    }

    /// It has said this. Whether it may say more.
    fn hear(
        &mut self,
        own: Mono,
        messages: Vec<PeerMessage>,
        events: &mut VecDeque<PeerEvent>,
    ) -> bool {
        self.detector.hear(own);
        for message in messages {
            match message {
                PeerMessage::Heartbeat { stuck_ms } => self.detector.hear_stuck(stuck_ms.into()),
                PeerMessage::QuorumPart(bytes) | PeerMessage::Quorum(bytes)
                    if self.parts.len() + bytes.len() > QUORUM_MESSAGE_BYTES_MAX =>
                {
                    return false;
                }
                PeerMessage::QuorumPart(bytes) => self.parts.extend_from_slice(&bytes),
                PeerMessage::Quorum(mut bytes) => {
                    if !self.parts.is_empty() {
                        self.parts.extend_from_slice(&bytes);
                        bytes = std::mem::take(&mut self.parts).into();
                    }
                    events.push_back(PeerEvent::Heard(self.facts.node, bytes));
                }
            }
        }
        true
    }

    /// Its stream is gone, or counts no more.
    fn over(&mut self) -> Option<PeerStream> {
        self.parts = Vec::new();
        self.stream.take()
    }

    /// Whether it is there, so that another one of its node has to wait.
    fn is_heard(&self, own: Mono) -> bool {
        self.stream.is_some() && self.detector.by_silence(own) == Verdict::Alive
    }

    /// Whether a stream may take the place of the one that it has. Whoever is heard stays: so none can drive out
    /// another one that is well, and two that have copied stores do not take turns. Whoever is not heard any more holds
    /// up nobody, whatever he said of himself.
    fn may_give_way(&self, own: Mono, hello: &Hello) -> Result<(), GreetingRefused> {
        let (facts, from) = (&self.facts, &hello.from);
        let is_same = facts.start == from.start;
        let is_earlier = if is_same {
            hello.number <= self.number
        } else {
            facts.directory == from.directory && from.incarnation < facts.incarnation
        };
        let silence = self.detector.by_silence(own);
        let is_there = match (is_same, is_earlier) {
            (true, false) => false,
            (false, false) => silence == Verdict::Alive,
            // It may only have been late.
            (_, true) => silence < Verdict::Dead,
        };
        if self.stream.is_none() || !is_there {
            return Ok(());
        }
        if is_same {
            let text = "a later stream of this process is there".to_owned();
            return Err((PeerRefusal::Stale, text));
        }
        Err(two_processes(facts, from))
    }
}

#[derive(Debug)]
struct Peer {
    outgoing: Outgoing,
    /// The one that was heard last, if any was.
    process: Option<Process>,
    /// What was said of its streams to this node.
    log: RareLog,
}

impl Peer {
    fn new(to: PeerAddress) -> Self {
        Self {
            outgoing: Outgoing::new(to, Purpose::Metadata),
            process: None,
            log: RareLog::default(),
        }
    }

    /// Whether nobody is there, in either direction.
    fn is_gone(&self) -> bool {
        let process = self.process.as_ref();
        self.outgoing.link().is_none() && process.is_none_or(|process| process.stream.is_none())
    }
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
    /// What is to be told of streams to this node.
    answers: Vec<(PeerStream, PeerAnswer)>,
    /// What was said of nodes that are not among the others.
    log: RareLog,
    stopping: bool,
}

impl Peers {
    /// Dials nobody before its first [tick](Self::tick).
    #[must_use]
    pub fn new(setup: ClusterSetup, seed: u64) -> Self {
        let others = setup.others.iter().cloned();
        let servers = setup.servers.iter().zip(1..);
        let servers = servers.map(|((host, port), number)| PeerAddress {
            node: NodeId(-number),
            host: host.clone(),
            port: *port,
        });
        Self {
            peers: others.chain(servers).map(Peer::new).collect(),
            setup,
            cluster_id: None,
            links: 0,
            rng: Rng::new(seed),
            own: OwnTime::default(),
            tick_at: Mono(0),
            events: VecDeque::new(),
            answers: Vec::new(),
            log: RareLog::default(),
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
            self.greet_again(now, out);
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

    /// The cluster is known now. Nodes that were greeted without it are greeted again; those that have greeted this one
    /// do so themselves when they know theirs, and of those that did what they said is looked at now. So of any two
    /// nodes of different clusters one finds out, whichever of them comes to know its own first.
    fn greet_again(&mut self, now: Mono, out: &mut Vec<Output>) {
        let me = self.me();
        for Peer {
            outgoing, process, ..
        } in &mut self.peers
        {
            if outgoing.greet_again(now, out) {
                let node = outgoing.to.node;
                let why = "it is greeted again, for the cluster is known now".to_owned();
                self.events.push_back(PeerEvent::Down(node, why));
            }
            let Some(process) = process else { continue };
            if let Err((_, why)) = fit(&me, &process.facts)
                && let Some(stream) = process.over()
            {
                self.answers.push((stream, PeerAnswer::Over(why)));
            }
        }
    }

    /// A node is known, and where it is. Of those that the configuration names that one counts. Returns whether there
    /// is room for it.
    pub fn know(&mut self, address: PeerAddress) -> bool {
        let node = address.node;
        if node == self.setup.me.node || self.stopping {
            return false;
        }
        let is_named = self.setup.names(node);
        if let Some(peer) = by_node(&mut self.peers, node) {
            if !is_named {
                peer.outgoing.to = address;
            }
            return true;
        }
        if self.peers.len() >= PEERS_MAX {
            let setup = &self.setup;
            let mut all = self.peers.iter();
            let gone = all.position(|it| it.is_gone() && !setup.names(it.outgoing.to.node));
            let Some(gone) = gone else {
                return false;
            };
            self.peers.swap_remove(gone);
        }
        self.peers.push(Peer::new(address));
        // It is dialled at the next tick.
        self.tick_at = Mono(0);
        true
    }

    fn me(&self) -> NodeFacts {
        self.setup.facts(self.cluster_id.as_deref())
    }

    /// A link is there.
    pub fn link_up(&mut self, now: Mono, link: LinkId, out: &mut Vec<Output>) {
        let who = (self.me(), self.setup.place());
        if let Some(peer) = by_link(&mut self.peers, link) {
            peer.outgoing.connected(now, who, out);
        }
    }

    /// A frame came on a link.
    pub fn link_received(&mut self, now: Mono, link: LinkId, frame: Bytes, out: &mut Vec<Output>) {
        let (me, own) = (self.me(), self.own.at(now));
        let Some(Peer {
            outgoing, process, ..
        }) = by_link(&mut self.peers, link)
        else {
            return;
        };
        let heard = process.as_ref().filter(|process| process.is_heard(own));
        let facts = (&me, heard.map(|process| &process.facts));
        let became = outgoing.received(now, facts, frame, &mut self.rng, out);
        let node = outgoing.to.node;
        if let Became::Up(facts) = &became
            && node.0 < 0
        {
            // A server that the configuration names, and who it is: it is talked to as that.
            let node = facts.node;
            let address = PeerAddress {
                node,
                ..outgoing.to.clone()
            };
            out.push(Output::LinkClose { link });
            self.peers.retain(|it| it.outgoing.link() != Some(link));
            self.know(address);
            return;
        }
        if let (Became::Up(facts), Some(process)) = (&became, process) {
            if facts.start == process.facts.start {
                process.detector.hear(own);
            } else if let Some(stream) = process.over() {
                // It was silent. Whom this node talks to is whom it hears.
                let why = format!("another process of node {node} has answered");
                self.answers.push((stream, PeerAnswer::Over(why)));
            }
        }
        self.tell(node, became);
    }

    /// Bytes have left on a link.
    pub fn link_sent(&mut self, link: LinkId, bytes: usize) {
        if let Some(peer) = by_link(&mut self.peers, link) {
            peer.outgoing.sent(bytes);
        }
    }

    /// A link is gone, or has not come to be.
    pub fn link_down(&mut self, now: Mono, link: LinkId, why: &LinkLost) {
        if let Some(peer) = by_link(&mut self.peers, link) {
            match (why, &mut peer.process) {
                (LinkLost::Refused, Some(process)) => process.detector.refused(),
                (LinkLost::Reset | LinkLost::Closed, Some(process)) => process.detector.reset(),
                _ => {}
            }
            let became = peer.outgoing.lost(now, why, &mut self.rng);
            let node = peer.outgoing.to.node;
            self.tell(node, became);
        }
    }

    fn tell(&mut self, node: NodeId, became: Became) {
        self.events.extend(match became {
            Became::Same => None,
            Became::Up(facts) => Some(PeerEvent::Up(facts)),
            Became::Down(why) => Some(PeerEvent::Down(node, why)),
        });
    }

    /// Another node has said something on a stream to this one.
    pub fn said(&mut self, now: Mono, stream: PeerStream, said: PeerSaid, out: &mut Vec<Output>) {
        let own = self.own.at(now);
        let mut processes = self.peers.iter_mut().flat_map(|peer| &mut peer.process);
        let process = processes.find(|process| process.stream == Some(stream));
        match said {
            PeerSaid::Hello(hello) => {
                let answer = self.greeted(now, stream, &hello, out);
                let answer = PeerAnswer::Greeted(answer);
                self.answers.push((stream, answer));
            }
            PeerSaid::Messages { seq, messages } => {
                // Whether they count or not: the connection goes on, or is closed when they are answered.
                self.answers.push((stream, PeerAnswer::Taken(seq)));
                if let Some(process) = process
                    && !process.hear(own, messages, &mut self.events)
                {
                    process.over();
                    let why = "a message of the quorum that is too long".to_owned();
                    self.answers.push((stream, PeerAnswer::Over(why)));
                }
            }
            PeerSaid::Gone => {
                if let Some(process) = process {
                    process.over();
                    process.detector.gone();
                }
            }
        }
    }

    /// A node wants to begin a stream to this one.
    fn greeted(
        &mut self,
        now: Mono,
        stream: PeerStream,
        hello: &Hello,
        out: &mut Vec<Output>,
    ) -> HelloAnswer {
        let me = self.me();
        let may_come = self.setup.may_come(&me, hello);
        match may_come.and_then(|()| self.begin(now, stream, hello, out)) {
            Ok(()) => HelloAnswer::Welcome {
                version: PEER_VERSION,
                from: me,
            },
            Err((why, text)) => {
                let node = hello.from.node;
                let log = by_node(&mut self.peers, node).map(|peer| &mut peer.log);
                log.unwrap_or(&mut self.log).say(now, &text, |more| {
                    tracing::warn!("a stream of node {node} is refused: {text}{more}");
                });
                HelloAnswer::Refused { why, text }
            }
        }
    }

    /// Begins a stream to this node in the place of the one before, if it may be.
    fn begin(
        &mut self,
        now: Mono,
        stream: PeerStream,
        hello: &Hello,
        out: &mut Vec<Output>,
    ) -> Result<(), GreetingRefused> {
        let (node, own) = (hello.from.node, self.own.at(now));
        // Whose place it cannot take is reached where he was.
        let known = by_node(&mut self.peers, node).and_then(|peer| peer.process.as_mut());
        if let Some(process) = known {
            process.may_give_way(own, hello)?;
        }
        if let Some((host, port)) = hello.place.reached.clone() {
            self.know(PeerAddress { node, host, port });
        }
        if let (Some(text), Some(peer)) =
            (self.setup.differs(hello), by_node(&mut self.peers, node))
        {
            peer.log
                .say(now, &text, |more| tracing::warn!("{text}{more}"));
        }
        let Some(peer) = by_node(&mut self.peers, node) else {
            return Err((PeerRefusal::NoMember, text_of(PeerRefusal::NoMember)));
        };
        let before = match &mut peer.process {
            Some(process) => {
                let before = process.over();
                if process.facts.start == hello.from.start {
                    process.detector.back(own);
                    (process.stream, process.number) = (Some(stream), hello.number);
                    process.facts.clone_from(&hello.from);
                } else {
                    *process = Process::new(own, stream, hello);
                }
                before
            }
            none => {
                *none = Some(Process::new(own, stream, hello));
                None
            }
        };
        peer.log.say(now, "heard", |more| {
            let incarnation = hello.from.incarnation;
            tracing::info!("node {node} is heard, start {incarnation} of it{more}");
        });
        if let Some(before) = before {
            let why = format!("another stream of node {node} has taken its place");
            self.answers.push((before, PeerAnswer::Over(why)));
        }
        let start = peer.outgoing.start();
        if start.is_some_and(|start| start != hello.from.start) {
            let why = "another process of it is heard now";
            let became = peer.outgoing.hang_up(now, why, &mut self.rng, out);
            self.tell(node, became);
        }
        Ok(())
    }

    /// What is to be told of streams to this node.
    pub fn take_answers(&mut self) -> Vec<(PeerStream, PeerAnswer)> {
        std::mem::take(&mut self.answers)
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
        let peer = by_node(&mut self.peers, node).filter(|peer| peer.outgoing.is_up());
        let outgoing = &mut peer.ok_or(Unsent::Down)?.outgoing;
        if !outgoing.has_room() {
            return Err(Unsent::Full);
        }
        for frame in PeerMessages::in_parts(message) {
            outgoing.send(now, vec![frame], out);
        }
        Ok(())
    }

    /// With which first directory a node was heard last, and what is thought of it; `None` if it was never heard.
    pub fn judged(&mut self, now: Mono, node: NodeId) -> Option<(DirectoryId, Judged)> {
        let own = self.own.at(now);
        let process = by_node(&mut self.peers, node)?.process.as_ref()?;
        Some((process.facts.directory, process.detector.judged(own)))
    }

    /// Nodes that clients should not be sent to for now, though the metadata may not know yet: see
    /// [`Detector::is_lost`]. And whether no connection to it was reset: then it may be so for its silence alone.
    #[must_use]
    pub fn lost(&mut self, now: Mono) -> Vec<(NodeId, bool)> {
        let own = self.own.at(now);
        let processes = self.peers.iter().filter_map(|peer| peer.process.as_ref());
        let lost = processes.filter(|process| process.detector.is_lost(own));
        let one = |process: &Process| (process.facts.node, !process.detector.is_reset());
        lost.map(one).collect()
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

fn by_link(peers: &mut [Peer], link: LinkId) -> Option<&mut Peer> {
    let mut peers = peers.iter_mut();
    peers.find(|peer| peer.outgoing.link() == Some(link))
}

fn by_node(peers: &mut [Peer], node: NodeId) -> Option<&mut Peer> {
    let mut peers = peers.iter_mut();
    peers.find(|peer| peer.outgoing.to.node == node)
}

#[cfg(test)]
#[path = "hub_tests.rs"]
pub(super) mod tests;
