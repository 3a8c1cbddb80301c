//! What a shard does for partitions that other nodes have too. It opens a link to each shard of another node with which
//! it shares some, and says everything on that (`links`, in bytes `said`); what is said to it comes on links of theirs,
//! by way of the shard that has the connection (`peers/streams`). Of those only the newest one of each counts
//! (`incoming`).
//!
//! - `leading` what is pushed to the followers of a partition that is led here; `alter`, `altering` which ISR its
//!   leader asks for;
//! - `follow` what this node asks and tells the leaders of others;
//! - `driver` does what they want.

mod alter;
mod altering;
mod driver;
mod follow;
mod incoming;
mod leading;
mod links;
pub(super) mod said;

use std::collections::VecDeque;
use std::sync::Arc;

use self::altering::Altering;
use self::follow::Followeds;
use self::incoming::NewestStreams;
use self::leading::{Led, ReadFor};
pub(super) use self::links::is_for_replicas;
use self::links::{LinkEvent, ReplicaLinks};
#[cfg(test)]
use self::said::ReplicaSaid;
use super::fx::Fx;
use super::io::Input;
#[cfg(test)]
use super::msg::ReplicaPeer;
use super::msg::{Msg, PeerAnswer, PeerStream, ReplicaHeard, ReplicaStream};
use super::owner::Owner;
use super::peers::ClusterSetup;
use crate::base::{IdMap, IdSet, LogId, Mono, ShardId};
use crate::controller::Image;

/// See the module.
#[derive(Debug)]
pub(super) struct Replication {
    /// To shards of other nodes.
    pub links: ReplicaLinks,
    newest: NewestStreams,
    /// The partitions that are led here and followed elsewhere.
    led: IdMap<LogId, Led>,
    /// Those that are followed here.
    followed: Followeds,
    altering: Altering,
    /// What is being read of stores, by the read.
    reads: IdMap<u64, (LogId, ReadFor)>,
    /// Bytes of those that are for followers.
    bytes_read: usize,
    /// Followed ones that are being cut back and can go on at once, and those that wait for a flush to begin.
    cutting: VecDeque<LogId>,
    cuts_wait: VecDeque<LogId>,
    /// Followed ones that are to ask their leaders again.
    asking: IdSet<LogId>,
    /// Led ones that could be pushed and are not yet: each once, in their order.
    stalled: VecDeque<LogId>,
    is_stalled: IdSet<LogId>,
    /// Led ones with a follower that has to be looked after, and when that is done.
    lacking: IdSet<LogId>,
    checks_at: Mono,
    /// Led ones whose followers do not know where the marks are, and when they are told.
    untold: IdSet<LogId>,
    marks_at: Mono,
    /// The node is to stop.
    is_leaving: bool,
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
            led: IdMap::default(),
            followed: Followeds::default(),
            altering: Altering::default(),
            reads: IdMap::default(),
            bytes_read: 0,
            cutting: VecDeque::new(),
            cuts_wait: VecDeque::new(),
            asking: IdSet::default(),
            stalled: VecDeque::new(),
            is_stalled: IdSet::default(),
            lacking: IdSet::default(),
            checks_at: Mono::NEVER,
            untold: IdSet::default(),
            marks_at: Mono::NEVER,
            is_leaving: false,
            #[cfg(test)]
            said: Vec::new(),
        }
    }

    /// Something has come of a link, that is for replicas.
    pub fn link(&mut self, input: Input, fx: &mut Fx<'_>) {
        let (links, now) = (&mut self.links, fx.now.mono);
        match input {
            Input::LinkUp { link } => links.link_up(now, link, fx.out),
            Input::LinkReceived { link, frame } => links.link_received(now, link, frame, fx.out),
            Input::LinkSent { link, bytes } => links.link_sent(link, bytes),
            Input::LinkDown { link, why } => links.link_down(now, link, &why),
            _ => {}
        }
        self.take_events();
    }

    /// The shard is idle, and its flushes have begun: pushes, does what it is time for, and sends what was said.
    pub fn idle(&mut self, cluster_id: Option<&str>, owner: &mut Owner, fx: &mut Fx<'_>) {
        let now = fx.now.mono;
        self.push(owner, fx);
        self.links.tick(now, cluster_id, fx.out);
        self.links.flush(now, fx.out);
        self.take_events();
    }

    fn take_events(&mut self) {
        while let Some(event) = self.links.next_event() {
            match event {
                LinkEvent::Up(to) => self.link_is_up(to),
                LinkEvent::Down(to) => self.link_is_down(to),
            }
        }
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
        (image, owner): (&Image, &mut Owner),
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
                    self.began(stream.from);
                }
            }
            ReplicaHeard::Says { seq, said } => {
                if self.newest.counts(stream, back) {
                    for said in said {
                        #[cfg(test)]
                        self.said.push((stream.from, said.clone()));
                        self.heard(stream.from, said, image, owner, fx);
                    }
                    // Who waited for that is told.
                    owner.slice(fx);
                }
                let answer = PeerAnswer::Taken(seq);
                fx.send(shard, Msg::PeerAnswer { conn, answer });
            }
        }
    }
}
