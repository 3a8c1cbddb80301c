//! What a shard does for partitions that other nodes have too. It opens a link to each shard of another node with which
//! it shares some, and says everything on that (`links`, in bytes `said`); what is said to it comes on links of theirs,
//! by way of the shard that has the connection (`peers/streams`). Of those only the newest one of each counts
//! (`incoming`).

mod incoming;
#[expect(dead_code, reason = "nobody wants a link yet")]
mod links;
pub(super) mod said;

use std::sync::Arc;

use self::incoming::NewestStreams;
use self::links::ReplicaLinks;
pub(super) use self::links::{LinkEvent, is_for_replicas};
use self::said::ReplicaSaid;
use super::fx::Fx;
use super::io::Input;
use super::msg::{Msg, PeerAnswer, PeerStream, ReplicaHeard, ReplicaPeer, ReplicaStream};
use super::owner::Owner;
use super::peers::ClusterSetup;
use crate::base::{Mono, ShardId};

/// See the module.
#[derive(Debug)]
pub(super) struct Replication {
    /// To shards of other nodes.
    pub links: ReplicaLinks,
    newest: NewestStreams,
    /// What was said to it, in order.
    #[cfg(test)]
    pub said: Vec<(ReplicaPeer, ReplicaSaid)>,
}

impl Replication {
    /// Of a shard of one of several nodes.
    pub fn new(setup: Arc<ClusterSetup>, me: ShardId, seed: u64) -> Self {
        Self {
            links: ReplicaLinks::new(setup, me, seed),
            newest: NewestStreams::default(),
            #[cfg(test)]
            said: Vec::new(),
        }
    }

    /// Something has come of a link, that is for replicas.
    pub fn link(&mut self, input: Input, owner: &mut Owner, fx: &mut Fx<'_>) {
        let (links, now) = (&mut self.links, fx.now.mono);
        match input {
            Input::LinkUp { link } => links.link_up(now, link, fx.out),
            Input::LinkReceived { link, frame } => links.link_received(now, link, frame, fx.out),
            Input::LinkSent { link, bytes } => links.link_sent(link, bytes),
            Input::LinkDown { link, why } => links.link_down(now, link, &why),
            _ => {}
        }
        self.take_events(owner, fx);
    }

    /// The shard is idle: does what it is time for, and sends what was said.
    pub fn idle(&mut self, cluster_id: Option<&str>, owner: &mut Owner, fx: &mut Fx<'_>) {
        let now = fx.now.mono;
        self.links.tick(now, cluster_id, fx.out);
        self.links.flush(now, fx.out);
        self.take_events(owner, fx);
    }

    fn take_events(&mut self, owner: &mut Owner, fx: &mut Fx<'_>) {
        while let Some(event) = self.links.next_event() {
            self.changed(event, owner, fx);
        }
    }

    /// When [`Replication::idle`] has something to do.
    pub fn deadline(&self) -> Mono {
        self.links.deadline()
    }

    /// The node is to stop: nothing more is said to others.
    pub fn stop(&mut self, fx: &mut Fx<'_>) {
        self.links.stop(fx.out);
    }

    /// Panics if it contradicts itself. For the simulator.
    pub fn invariants(&self) {
        self.links.invariants();
    }

    /// Something has come of a stream of another node's shard to this one.
    pub fn incoming(
        &mut self,
        stream: ReplicaStream,
        back: PeerStream,
        heard: ReplicaHeard,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) {
        let PeerStream { shard, conn } = back;
        match heard {
            ReplicaHeard::Begins => {
                let over = self.newest.begins(stream, back);
                if let Some(PeerStream { shard, conn }) = over {
                    let why = "another stream for replicas has taken its place".to_owned();
                    let answer = PeerAnswer::Over(why);
                    fx.send(shard, Msg::PeerAnswer { conn, answer });
                }
                if over != Some(back) {
                    self.began(stream.from, owner, fx);
                }
            }
            ReplicaHeard::Says { seq, said } => {
                if self.newest.counts(stream, back) {
                    for said in said {
                        self.heard(stream.from, said, owner, fx);
                    }
                }
                let answer = PeerAnswer::Taken(seq);
                fx.send(shard, Msg::PeerAnswer { conn, answer });
            }
        }
    }
}

/// What is done for what has come. Nothing yet.
impl Replication {
    /// A shard of another node has begun a stream to this one, in place of the one before if there was one: what it
    /// said on that may not have arrived.
    fn began(&mut self, from: ReplicaPeer, owner: &mut Owner, fx: &mut Fx<'_>) {
        let _ = (from, owner, fx);
    }

    /// It has said this.
    fn heard(&mut self, from: ReplicaPeer, said: ReplicaSaid, owner: &mut Owner, fx: &mut Fx<'_>) {
        let _ = (owner, fx);
        #[cfg(test)]
        self.said.push((from, said));
        #[cfg(not(test))]
        let _ = (from, said);
    }

    /// Takes what has become of links to others.
    fn changed(&mut self, event: LinkEvent, owner: &mut Owner, fx: &mut Fx<'_>) {
        let _ = (event, owner, fx);
    }
}
