//! What a shard has to do with other nodes: the control shard with the nodes themselves, each shard with shards of
//! theirs about replicas. Nothing, on a node that stands alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::control::Control;
use super::fx::Fx;
use super::io::{Input, LinkId};
use super::msg::{Msg, PeerSaid, PeerStream, ReplicaHeard, ReplicaStream};
use super::owner::Owner;
use super::peers::{ClusterSetup, Peers, Verdict};
use super::replicas::{Replication, is_for_replicas};
use crate::base::limits::LOST_SHOWN_MS;
use crate::base::{Mono, NodeId, ShardId};
use crate::controller::Image;

/// See the module.
#[derive(Debug)]
pub(super) struct OtherNodes {
    /// On shard 0 alone, and only if there are others.
    pub peers: Option<Peers>,
    /// If there are others.
    pub replicas: Option<Replication>,
    /// Nodes that are lost, since when, and whether each was silent then: what is not heard for long is hung up by this
    /// node itself.
    lost: BTreeMap<NodeId, (Mono, bool)>,
    /// What the shards know of that.
    told_lost: Vec<(NodeId, bool)>,
    shards: u16,
}

impl OtherNodes {
    /// Of the shard `me`, one of so many.
    pub fn new(
        cluster: Option<&Arc<ClusterSetup>>,
        (me, shards): (ShardId, u16),
        seed: u64,
    ) -> Self {
        let peers = cluster.filter(|_| me == ShardId(0));
        Self {
            peers: peers.map(|cluster| Peers::new(ClusterSetup::clone(cluster), seed)),
            replicas: cluster.map(|cluster| Replication::new(Arc::clone(cluster), me, seed)),
            lost: BTreeMap::new(),
            told_lost: Vec::new(),
            shards,
        }
    }

    /// Something has come of a link, all of which are to other nodes.
    pub fn link(&mut self, id: LinkId, input: Input, fx: &mut Fx<'_>) {
        let now = fx.now.mono;
        if is_for_replicas(id) {
            if let Some(replicas) = &mut self.replicas {
                replicas.link(input, fx);
            }
            return;
        }
        let Some(peers) = &mut self.peers else {
            return;
        };
        match input {
            Input::LinkUp { link } => peers.link_up(now, link, fx.out),
            Input::LinkReceived { link, frame } => peers.link_received(now, link, frame, fx.out),
            Input::LinkSent { link, bytes } => peers.link_sent(link, bytes),
            Input::LinkDown { link, why } => peers.link_down(now, link, &why),
            _ => {}
        }
        self.answer_peers(fx);
    }

    /// Another node has said something, to the control shard.
    pub fn said(&mut self, stream: PeerStream, said: PeerSaid, fx: &mut Fx<'_>) {
        if let Some(peers) = &mut self.peers {
            peers.said(fx.now.mono, stream, said, fx.out);
        }
        self.answer_peers(fx);
    }

    /// A shard of another node has said something to this one.
    pub fn said_of_replicas(
        &mut self,
        stream: ReplicaStream,
        back: PeerStream,
        heard: ReplicaHeard,
        here: (&Image, &mut Owner),
        fx: &mut Fx<'_>,
    ) {
        if let Some(replicas) = &mut self.replicas {
            replicas.incoming(stream, back, heard, here, fx);
        }
    }

    /// Tells the shards what is decided about streams of other nodes to them.
    fn answer_peers(&mut self, fx: &mut Fx<'_>) {
        let answers = self.peers.as_mut().map(Peers::take_answers);
        for (PeerStream { shard, conn }, answer) in answers.into_iter().flatten() {
            fx.send(shard, Msg::PeerAnswer { conn, answer });
        }
    }

    /// The shard is idle: does what it is time for with the nodes themselves.
    pub fn look_after_peers(
        &mut self,
        control: Option<&mut Control>,
        cluster_id: Option<&str>,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) {
        if let Some(peers) = &mut self.peers {
            let now = fx.now.mono;
            peers.tick(now, cluster_id, fx.out);
            if let Some(control) = control {
                control.look_at_others(|node| peers.judged(now, node), owner, fx);
            }
            let lost = peers.lost(now);
            self.tell_lost(lost, fx);
        }
        self.answer_peers(fx);
    }

    /// Tells the shards which nodes are lost, if that has changed; after a while no more: whom the controller does not
    /// fence in that time it hears, as clients may.
    fn tell_lost(&mut self, lost: Vec<(NodeId, bool)>, fx: &mut Fx<'_>) {
        let now = fx.now.mono;
        let of_before = |(node, is_silent)| {
            let known = self.lost.get(&node);
            (node, known.copied().unwrap_or((now, is_silent)))
        };
        self.lost = lost.into_iter().map(of_before).collect();
        let is_told = |since: Mono| now.ms_since(since) < LOST_SHOWN_MS;
        let told = self.lost.iter().filter(|(_, (since, _))| is_told(*since));
        let told = told.map(|(node, (_, is_silent))| (*node, *is_silent));
        let lost: Vec<(NodeId, bool)> = told.collect();
        if lost != self.told_lost {
            self.told_lost.clone_from(&lost);
            let shards = (0..self.shards).map(ShardId);
            shards.for_each(|shard| fx.send(shard, Msg::Lost(lost.clone())));
        }
    }

    /// The shard is idle, and its flushes have not begun: what replicas want written belongs into them.
    pub fn go_on_with_replicas(
        &mut self,
        is_adopted: bool,
        here: (&Image, &mut Owner),
        fx: &mut Fx<'_>,
    ) {
        if let Some(replicas) = &mut self.replicas {
            replicas.go_on(is_adopted, here, fx);
        }
    }

    /// The node is to stop: it follows nobody any more, for nobody waits here for a follower.
    pub fn leave_replicas(&mut self) {
        if let Some(replicas) = &mut self.replicas {
            replicas.leave();
        }
    }

    /// Whether there is something to do at once.
    pub fn has_more(&self, owner: &Owner) -> bool {
        let replicas = self.replicas.as_ref();
        replicas.is_some_and(|replicas| replicas.has_more(owner))
    }

    /// The shard is idle, and will say no more about replicas before it sleeps.
    pub fn look_after_replicas(
        &mut self,
        cluster_id: Option<&str>,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) {
        if let Some(replicas) = &mut self.replicas {
            replicas.idle(cluster_id, owner, fx);
        }
    }

    /// When one of the two before has something to do.
    pub fn deadline(&self, now: Mono) -> Mono {
        let peers = self.peers.as_ref().map_or(Mono::NEVER, Peers::deadline);
        let replicas = self.replicas.as_ref();
        peers.min(replicas.map_or(Mono::NEVER, |replicas| replicas.deadline(now)))
    }

    /// The node is to stop: its control shard says no more to others.
    pub fn stop_peers(&mut self, fx: &mut Fx<'_>) {
        if let Some(peers) = &mut self.peers {
            peers.stop(fx.out);
        }
    }

    /// The node is to stop: no more is said about replicas.
    pub fn stop_replicas(&mut self, fx: &mut Fx<'_>) {
        if let Some(replicas) = &mut self.replicas {
            replicas.stop(fx);
        }
    }

    /// Other nodes to which something can be said.
    pub fn up(&self) -> usize {
        self.peers.as_ref().map_or(0, Peers::up)
    }

    /// What is thought of another node; `None` if it was never heard, or this is not the control shard.
    pub fn verdict(&mut self, now: Mono, node: NodeId) -> Option<Verdict> {
        let judged = self.peers.as_mut()?.judged(now, node);
        judged.map(|(_, it)| it.verdict)
    }

    /// Panics if something contradicts itself. For the simulator.
    pub fn invariants(&self) {
        if let Some(peers) = &self.peers {
            peers.invariants();
        }
        if let Some(replicas) = &self.replicas {
            replicas.invariants();
        }
    }
}
