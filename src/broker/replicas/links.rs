//! The links of a shard to shards of other nodes: each is dialled when it is first wanted, and what is said on it goes
//! in requests of several messages. Nothing comes back but the answer to the hello: what the other shard says comes on
//! a link of its own (`peers/streams`).
//!
//! A message is lost with its link, which is told ([`LinkEvent`]): whoever drives the replicas begins again then.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::said::{ReplicaSaid, ReplicaWhat};
use crate::base::limits::{REPLICA_FRAME_BYTES, REPLICA_MESSAGES_MAX, REPLICA_UNSENT_BYTES_MAX};
use crate::base::{IdMap, Mono, Rng, ShardId};
use crate::broker::io::{LinkId, LinkLost, Output};
use crate::broker::msg::ReplicaPeer;
use crate::broker::peers::ClusterSetup;
use crate::broker::peers::outgoing::{Became, Outgoing};
use crate::controller::Image;
use crate::wire::peer::{Purpose, ReplicaMessages};

/// Ids of links that are for replicas have this bit, so that they are others than those of `Peers`.
const REPLICA_LINKS: u64 = 1 << 63;

/// Whether it is the id of such a link.
pub const fn is_for_replicas(link: LinkId) -> bool {
    link.0 & REPLICA_LINKS != 0
}

/// What has become of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// What is said to this shard is sent.
    Up(ReplicaPeer),
    /// It is not any more, and what was said may not have arrived.
    Down(ReplicaPeer),
}

/// What waits to be sent on a link: messages without the batches of pushes, and those.
#[derive(Debug, Default)]
struct SaidQueue {
    heads: Vec<u8>,
    /// Of each message: where its head ends in `heads`, its batches, and all its bytes.
    messages: VecDeque<(usize, Vec<Bytes>, usize)>,
    bytes: usize,
}

impl SaidQueue {
    fn push(&mut self, said: &ReplicaSaid, batches: Vec<Bytes>) {
        let before = self.heads.len();
        let len = batches.iter().map(Bytes::len).sum();
        said.put(len, &mut self.heads);
        let bytes = self.heads.len() - before + len;
        let end = self.heads.len();
        self.messages.push_back((end, batches, bytes));
        self.bytes += bytes;
    }

    /// All of it as requests, each in pieces.
    fn take(&mut self, mut give: impl FnMut(Vec<Bytes>)) {
        let mut from = 0;
        while !self.messages.is_empty() {
            let (mut count, mut bytes) = (0, 0);
            for (.., more) in self.messages.iter().take(REPLICA_MESSAGES_MAX) {
                if count > 0 && bytes + more > REPLICA_FRAME_BYTES {
                    break;
                }
                (count, bytes) = (count + 1, bytes + more);
            }
            let mut own = ReplicaMessages::head(bytes);
            let mut pieces = Vec::new();
            for (end, batches, _) in self.messages.drain(..count) {
                own.extend_from_slice(&self.heads[from..end]);
                from = end;
                if !batches.is_empty() {
                    pieces.push(std::mem::take(&mut own).into());
                    pieces.extend(batches);
                }
            }
            if !own.is_empty() {
                pieces.push(own.into());
            }
            give(pieces);
        }
        self.clear();
    }

    fn clear(&mut self) {
        self.heads.clear();
        self.messages.clear();
        self.bytes = 0;
    }
}

#[derive(Debug)]
struct ReplicaLink {
    outgoing: Outgoing,
    queue: SaidQueue,
    /// Bytes that were said while there was no room.
    over: usize,
}

impl ReplicaLink {
    fn has_room(&self) -> bool {
        self.outgoing.unsent() + self.queue.bytes < REPLICA_UNSENT_BYTES_MAX
    }
}

/// See the module.
#[derive(Debug)]
pub struct ReplicaLinks {
    setup: Arc<ClusterSetup>,
    me: ShardId,
    cluster_id: Option<Box<str>>,
    links: BTreeMap<ReplicaPeer, ReplicaLink>,
    by_id: IdMap<LinkId, ReplicaPeer>,
    /// The id of the last one.
    last: u64,
    rng: Rng,
    /// When the next one has something to do.
    due: Mono,
    /// Those to whom something was said that is not sent.
    said_to: Vec<ReplicaPeer>,
    events: VecDeque<LinkEvent>,
    stopping: bool,
}

impl ReplicaLinks {
    /// None yet.
    pub fn new(setup: Arc<ClusterSetup>, me: ShardId, seed: u64) -> Self {
        Self {
            setup,
            me,
            cluster_id: None,
            links: BTreeMap::new(),
            by_id: IdMap::default(),
            last: REPLICA_LINKS,
            rng: Rng::new(seed),
            due: Mono::NEVER,
            said_to: Vec::new(),
            events: VecDeque::new(),
            stopping: false,
        }
    }

    /// A link to this shard is wanted from now on, and dialled at the next [tick](Self::tick) if there is none. To a
    /// node that neither the configuration names nor the metadata know there is none.
    pub fn want(&mut self, to: ReplicaPeer, image: &Image) {
        if self.stopping {
            return;
        }
        let Some(address) = self.setup.address_of(to.node, image) else {
            return;
        };
        if let Some(link) = self.links.get_mut(&to) {
            // It may be elsewhere since it has registered again.
            link.outgoing.to = address;
            return;
        }
        let purpose = Purpose::Replicas {
            from: self.me,
            to: to.shard,
        };
        let link = ReplicaLink {
            outgoing: Outgoing::new(address, purpose),
            queue: SaidQueue::default(),
            over: 0,
        };
        self.links.insert(to, link);
        self.due = Mono(0);
    }

    /// Ends the links that are not wanted any more. Nothing is told of them.
    pub fn drop_unwanted(
        &mut self,
        is_wanted: impl Fn(ReplicaPeer) -> bool,
        out: &mut Vec<Output>,
    ) {
        let by_id = &mut self.by_id;
        self.links.retain(|to, link| {
            let keeps = is_wanted(*to);
            if !keeps {
                link.outgoing.link().map(|id| by_id.remove(&id));
                link.outgoing.stop(out);
            }
            keeps
        });
    }

    /// Says something, behind what was said before. `batches` are those of a push, in order: they belong into no
    /// message twice, so `batches` of the push itself has to be empty. If the link is not up nothing is said, and
    /// nobody told: that was told before.
    pub fn say(&mut self, to: ReplicaPeer, said: &ReplicaSaid, batches: Vec<Bytes>) {
        debug_assert!(match &said.what {
            ReplicaWhat::Pushes(push) => push.batches.is_empty(),
            _ => batches.is_empty(),
        });
        let Some(link) = self.links.get_mut(&to) else {
            return;
        };
        if !link.outgoing.is_up() {
            return;
        }
        let had_room = link.has_room();
        let before = link.queue.bytes;
        if before == 0 {
            self.said_to.push(to);
        }
        link.queue.push(said, batches);
        link.over = if had_room {
            0
        } else {
            link.over + (link.queue.bytes - before)
        };
    }

    /// Whether more should be pushed to this shard: its link is up, and not too much waits to be sent on it.
    pub fn has_room(&self, to: ReplicaPeer) -> bool {
        let link = self.links.get(&to);
        link.is_some_and(|link| link.outgoing.is_up() && link.has_room())
    }

    /// Whether what is said to this shard is sent.
    pub fn is_up(&self, to: ReplicaPeer) -> bool {
        let link = self.links.get(&to);
        link.is_some_and(|link| link.outgoing.is_up())
    }

    /// Whether one is not up.
    pub fn is_any_down(&self) -> bool {
        self.links.values().any(|link| !link.outgoing.is_up())
    }

    /// How many are up.
    #[cfg(test)]
    pub fn up(&self) -> usize {
        let links = self.links.values();
        links.filter(|link| link.outgoing.is_up()).count()
    }

    /// Sends what was said.
    pub fn flush(&mut self, now: Mono, out: &mut Vec<Output>) {
        for to in std::mem::take(&mut self.said_to) {
            let Some(link) = self.links.get_mut(&to) else {
                continue;
            };
            if link.over > REPLICA_UNSENT_BYTES_MAX {
                let why = "it takes nothing of what it is sent";
                let id = link.outgoing.link();
                let became = link.outgoing.hang_up(now, why, &mut self.rng, out);
                self.changed(to, id, &became);
                continue;
            }
            let outgoing = &mut link.outgoing;
            link.queue.take(|frame| outgoing.send(now, frame, out));
        }
    }

    /// Does what it is time for. `cluster_id` is that of the cluster which this node is part of by now: before that
    /// nobody is dialled.
    pub fn tick(&mut self, now: Mono, cluster_id: Option<&str>, out: &mut Vec<Output>) {
        if self.cluster_id.as_deref() != cluster_id {
            self.cluster_id = cluster_id.map(Into::into);
        }
        if self.stopping || self.cluster_id.is_none() || now < self.due {
            return;
        }
        self.due = Mono::NEVER;
        for (to, link) in &mut self.links {
            let outgoing = &mut link.outgoing;
            let before = outgoing.link();
            outgoing.tick(now, &mut self.last, &mut self.rng, out);
            let after = outgoing.link();
            if before != after {
                before.map(|id| self.by_id.remove(&id));
                after.map(|id| self.by_id.insert(id, *to));
            }
            self.due = self.due.min(outgoing.deadline());
        }
    }

    /// When [`ReplicaLinks::tick`] has something to do, once the cluster is known.
    pub const fn deadline(&self) -> Mono {
        if self.stopping || self.cluster_id.is_none() {
            return Mono::NEVER;
        }
        self.due
    }

    fn by_id(&mut self, id: LinkId) -> Option<(ReplicaPeer, &mut ReplicaLink)> {
        let to = *self.by_id.get(&id)?;
        self.links.get_mut(&to).map(|link| (to, link))
    }

    /// A link is there.
    pub fn link_up(&mut self, now: Mono, id: LinkId, out: &mut Vec<Output>) {
        let me = self.setup.facts(self.cluster_id.as_deref());
        let who = (me, self.setup.place());
        if let Some((_, link)) = self.by_id(id) {
            link.outgoing.connected(now, who, out);
            let deadline = link.outgoing.deadline();
            self.due = self.due.min(deadline);
        }
    }

    /// A frame came on a link.
    pub fn link_received(&mut self, now: Mono, id: LinkId, frame: Bytes, out: &mut Vec<Output>) {
        let me = self.setup.facts(self.cluster_id.as_deref());
        let Some(to) = self.by_id.get(&id).copied() else {
            return;
        };
        let Some(link) = self.links.get_mut(&to) else {
            return;
        };
        let (outgoing, rng) = (&mut link.outgoing, &mut self.rng);
        let became = outgoing.received(now, (&me, None), frame, rng, out);
        self.changed(to, Some(id), &became);
    }

    /// Bytes have left on a link.
    pub fn link_sent(&mut self, id: LinkId, bytes: usize) {
        if let Some((_, link)) = self.by_id(id) {
            link.outgoing.sent(bytes);
        }
    }

    /// A link is gone, or has not come to be.
    pub fn link_down(&mut self, now: Mono, id: LinkId, why: &LinkLost) {
        let Some(to) = self.by_id.get(&id).copied() else {
            return;
        };
        if let Some(link) = self.links.get_mut(&to) {
            let became = link.outgoing.lost(now, why, &mut self.rng);
            self.changed(to, Some(id), &became);
        }
    }

    /// Something has become of a link, that had this id.
    fn changed(&mut self, to: ReplicaPeer, id: Option<LinkId>, became: &Became) {
        let Some(link) = self.links.get_mut(&to) else {
            return;
        };
        if link.outgoing.link() != id {
            id.map(|id| self.by_id.remove(&id));
        }
        match became {
            Became::Same => {}
            Became::Up(_) => self.events.push_back(LinkEvent::Up(to)),
            Became::Down(_) => {
                link.queue.clear();
                link.over = 0;
                self.events.push_back(LinkEvent::Down(to));
            }
        }
        self.due = self.due.min(link.outgoing.deadline());
    }

    /// What has become of links, in order.
    pub fn next_event(&mut self) -> Option<LinkEvent> {
        self.events.pop_front()
    }

    /// The node is to stop: no more links.
    pub fn stop(&mut self, out: &mut Vec<Output>) {
        self.stopping = true;
        self.drop_unwanted(|_| false, out);
    }

    /// Panics if it contradicts itself. For the simulator.
    pub fn invariants(&self) {
        for (to, link) in &self.links {
            link.outgoing.invariants();
            let id = link.outgoing.link();
            assert!(
                id.is_none_or(|id| self.by_id.get(&id) == Some(to)),
                "{to:?} is not known by its link"
            );
            assert!(
                link.queue.bytes == 0 || link.outgoing.is_up(),
                "{to:?} is said what is never sent"
            );
        }
        let with_id = |link: &&ReplicaLink| link.outgoing.link().is_some();
        let links = self.links.values().filter(with_id).count();
        assert_eq!(links, self.by_id.len(), "links that are over are known");
    }
}

#[cfg(test)]
#[path = "links_tests.rs"]
mod tests;
