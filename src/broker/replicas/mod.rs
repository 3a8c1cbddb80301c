//! What a shard does for partitions that other nodes have too. It opens a link to each shard of another node with which
//! it shares some, and says everything on that (`links`, in bytes `said`); what is said to it comes on links of theirs,
//! by way of the shard that has the connection (`peers/streams`). Of those only the newest one of each counts
//! (`incoming`).
//!
//! - `leading` what is pushed to the followers of a partition that is led here; `alter`, `altering` which ISR its
//!   leader asks for, `probation` when one that was too slow may be in it again;
//! - `follow` what this node asks and tells the leaders of others;
//! - `driver` does what they want, for some of them in each turn (`turns`).

mod alter;
mod altering;
#[cfg(test)]
mod damaged_tests;
mod driver;
mod follow;
mod incoming;
mod leading;
mod links;
mod probation;
pub(super) mod said;
mod tombstones;
mod turns;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use self::altering::Altering;
use self::follow::Followeds;
use self::incoming::NewestStreams;
use self::leading::{Led, ReadFor};
pub(super) use self::links::is_for_replicas;
use self::links::{LinkEvent, ReplicaLinks};
#[cfg(test)]
use self::said::ReplicaSaid;
use self::turns::{LogTurns, PushTurns};
use super::fx::Fx;
use super::io::Input;
use super::msg::{Msg, PeerAnswer, PeerStream, ReplicaHeard, ReplicaPeer, ReplicaStream};
use super::owner::Owner;
use super::peers::ClusterSetup;
use crate::base::limits::REPLICA_LINKS_CHECKED_MS;
use crate::base::{IdMap, IdSet, LeaderEpoch, LogId, Mono, ShardId};
use crate::controller::Image;

/// See the module.
#[derive(Debug)]
pub(super) struct Replication {
    /// To shards of other nodes.
    pub links: ReplicaLinks,
    newest: NewestStreams,
    /// The partitions that are led here and followed elsewhere.
    led: IdMap<LogId, Led>,
    /// Those that this node is to lead and cannot, and in which epoch that was said.
    unled: IdMap<LogId, LeaderEpoch>,
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
    /// Led ones that may be pushed.
    turns: PushTurns,
    /// Led ones with a follower that has to be looked after, when that is done, and how many are left of this time.
    lacking: LogTurns,
    checks_at: Mono,
    checking: usize,
    /// Led ones whose followers do not know where the marks are, and when they are told.
    untold: LogTurns,
    marks_at: Mono,
    /// When it is looked for links that nobody wants.
    links_checked_at: Mono,
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
            unled: IdMap::default(),
            followed: Followeds::default(),
            altering: Altering::default(),
            reads: IdMap::default(),
            bytes_read: 0,
            cutting: VecDeque::new(),
            cuts_wait: VecDeque::new(),
            asking: IdSet::default(),
            turns: PushTurns::default(),
            lacking: LogTurns::default(),
            checks_at: Mono::NEVER,
            checking: 0,
            untold: LogTurns::default(),
            marks_at: Mono::NEVER,
            links_checked_at: Mono(0),
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
            Input::LinkSent { link, bytes } => {
                links.link_sent(link, bytes);
                self.turns.may_go_on();
            }
            Input::LinkDown { link, why } => links.link_down(now, link, &why),
            _ => {}
        }
        self.take_events();
    }

    /// The shard is idle, and its flushes have begun: pushes, does what it is time for, and sends what was said.
    pub fn idle(&mut self, cluster_id: Option<&str>, owner: &mut Owner, fx: &mut Fx<'_>) {
        let now = fx.now.mono;
        self.push(owner, fx);
        self.drop_links(fx);
        self.links.tick(now, cluster_id, fx.out);
        self.links.flush(now, fx.out);
        self.take_events();
    }

    /// Ends the links to shards with which no partition is shared any more: a node that starts with fewer cores has
    /// fewer of them. Only if there is one that is not up: it would be dialled for ever.
    fn drop_links(&mut self, fx: &mut Fx<'_>) {
        if fx.now.mono < self.links_checked_at || !self.links.is_any_down() {
            return;
        }
        let before = self.links_checked_at;
        self.links_checked_at = fx.now.mono.plus_ms(REPLICA_LINKS_CHECKED_MS);
        if before == Mono(0) {
            return;
        }
        let led = self.led.values().flat_map(Led::peers);
        let wanted: BTreeSet<ReplicaPeer> = led.chain(self.followed.leaders()).collect();
        let links = &mut self.links;
        links.drop_unwanted(|to| wanted.contains(&to), fx.out);
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
