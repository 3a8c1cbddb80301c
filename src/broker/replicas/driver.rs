//! What a shard does for the partitions that other nodes have too: what it hears goes to the machine of the partition,
//! and what that wants said, read or written is done.

use super::Replication;
use super::follow::FollowsUp;
use super::leading::{self, FollowerRead, Next, ReadFor};
use super::said::{ReplicaSaid, ReplicaWhat};
use crate::base::limits::{
    REPLICA_CHECKS_MS, REPLICA_LOGS_PER_SLICE, REPLICA_MARKS_AFTER_MS, REPLICA_PUSHED_PER_SLICE,
    REPLICA_READ_BYTES_MAX,
};
use crate::base::{ErrorCode, LogId, Mono, NodeId, Now, Offset};
use crate::broker::fx::Fx;
use crate::broker::io::ReadId;
use crate::broker::msg::ReplicaPeer;
use crate::broker::owner::Owner;
use crate::broker::owner::work::Worker;
use crate::controller::{Image, Partition, Topic};
use crate::log::Truncation;
use crate::replica::{EpochEnd, LeaderLog, Mark, Term};
use crate::store::{DiskError, Piece};
use bytes::Bytes;

impl Replication {
    /// Goes on with what there is to do before a flush begins. `is_adopted` says whether the owner knows what the image
    /// says.
    pub fn go_on(
        &mut self,
        is_adopted: bool,
        (image, owner): (&Image, &mut Owner),
        fx: &mut Fx<'_>,
    ) {
        if is_adopted {
            self.assign_some(image, owner, fx);
        }
        for (log, flush) in std::mem::take(&mut owner.roles.durable) {
            let now = fx.now;
            let todo = self.followed.step(now.mono, log, owner, |it, here| {
                Ok(it.on_durable(now, flush, here))
            });
            self.perform(log, todo, owner, fx);
        }
        // What waits for a flush is tried each time: a flush may have begun.
        self.cutting.append(&mut self.cuts_wait);
        for _ in 0..self.cutting.len().min(REPLICA_LOGS_PER_SLICE) {
            if let Some(log) = self.cutting.pop_front() {
                self.cut(log, owner, fx);
            }
        }
        for _ in 0..REPLICA_LOGS_PER_SLICE {
            let next = self.followed.next_due(fx.now.mono);
            let asking = self.asking.iter().next().copied();
            let Some(log) = next.or(asking) else {
                break;
            };
            self.asking.remove(&log);
            let todo = self.followed.ask(fx.now, log, owner);
            self.perform(log, todo, owner, fx);
        }
        self.check(image, owner, fx.now.mono);
        self.alter_some(image, owner, fx);
    }

    /// The node is to stop: it follows nobody any more.
    pub fn leave(&mut self) {
        self.is_leaving = true;
        self.followed.leave_all();
    }

    /// Whether there is something to do at once.
    pub fn has_more(&self, owner: &Owner) -> bool {
        !owner.roles.reassigned.is_empty()
            || !self.asking.is_empty()
            || !self.cutting.is_empty()
            || self.checking > 0
            || self.turns.has_more()
    }

    /// When there is something to do in any case.
    pub fn deadline(&self, now: Mono) -> Mono {
        let marks = (!self.untold.is_empty()).then_some(self.marks_at);
        let checks = (!self.lacking.is_empty()).then_some(self.checks_at);
        let others = [self.followed.deadline(), self.altering.deadline(now)];
        let all = marks.into_iter().chain(checks).chain(others);
        all.fold(self.links.deadline(), Mono::min)
    }

    /// Some of the partitions of which it is to be looked who leads them, and who follows.
    fn assign_some(&mut self, image: &Image, owner: &mut Owner, fx: &mut Fx<'_>) {
        for _ in 0..REPLICA_LOGS_PER_SLICE {
            let Some(log) = owner.roles.reassigned.iter().next().copied() else {
                break;
            };
            owner.roles.reassigned.remove(&log);
            self.assign(log, image, owner, fx);
        }
    }

    fn assign(&mut self, log: LogId, image: &Image, owner: &mut Owner, fx: &mut Fx<'_>) {
        let me = owner.roles.me().unwrap_or_default();
        let place = owner.place_of(log).filter(|_| !self.is_leaving);
        let known = place.and_then(|(topic, index)| {
            let topic = image.topic_by_id(topic)?;
            let partition = topic.partition(index)?;
            let is_me = image.brokers.member(me.node) == Some(me);
            (is_me && partition.log == log).then_some((topic, index, partition))
        });
        let Some((topic, index, partition)) = known else {
            self.led.remove(&log);
            self.unled.remove(&log);
            return self.followed.leave(log);
        };
        let open = owner.partitions.get(&log);
        if let Some((open, leader)) = open.and_then(|it| Some((it, it.leader.as_ref()?))) {
            self.followed.leave(log);
            let others = partition.replicas.iter().filter(|node| **node != me.node);
            let others = others.map(|node| (*node, peer_of(image, partition, *node)));
            let others: Vec<(NodeId, Option<ReplicaPeer>)> = others.collect();
            let peers = others.iter().filter_map(|(_, peer)| *peer);
            peers.for_each(|peer| self.links.want(peer, image));
            let led = self.led.entry(log).or_default();
            let is_new = !led.is_of(leader.epoch());
            led.assign(&others, leader.epoch(), leader.partition_epoch());
            for (node, peer) in others.into_iter().filter(|_| is_new) {
                if let Some((peer, follower)) = peer.zip(image.brokers.member(node)) {
                    let (epoch, leader) = (leader.epoch(), me);
                    let term = Term {
                        epoch,
                        leader,
                        follower,
                    };
                    self.links
                        .say(peer, &leading::call(&open.log, term), Vec::new());
                }
            }
            self.altering.look_at(log);
            owner.roles.moved.insert(log);
            return;
        }
        self.led.remove(&log);
        let leader = partition.leader;
        if leader == me.node && owner.has_lost(log) {
            self.cannot_lead(topic, index, partition);
        } else {
            self.unled.remove(&log);
        }
        let member = image.brokers.member(leader).filter(|it| it.node != me.node);
        let Some((member, peer)) = member.zip(peer_of(image, partition, leader)) else {
            return self.followed.leave(log);
        };
        self.links.want(peer, image);
        let term = Term {
            epoch: partition.leader_epoch,
            leader: member,
            follower: me,
        };
        let in_sync = partition.isr.contains(&me.node);
        // What was known here to be committed keeps it from nothing if that counts no more.
        let newest = owner
            .partitions
            .get(&log)
            .map(|open| open.log.leader_epoch());
        let is_overruled = !in_sync && newest.is_some_and(|epoch| partition.overrules(epoch));
        let has_lost = owner.is_unreadable(log) || is_overruled;
        let todo = self
            .followed
            .follow(fx.now, (log, term), peer, (in_sync, has_lost), owner);
        self.perform(log, todo, owner, fx);
    }

    /// This node is to lead a partition, and something of it is lost here: others are to lead it, if there are any.
    fn cannot_lead(&mut self, topic: &Topic, index: i32, partition: &Partition) {
        let epoch = partition.leader_epoch;
        if self.unled.insert(partition.log, epoch) != Some(epoch) {
            let (name, in_sync) = (&topic.name, partition.isr.len());
            match in_sync {
                1 => tracing::error!(
                    "{name}-{index}: this node is to lead it, but has lost some of it, and no other replica is in \
                     sync: it is not served"
                ),
                _ => tracing::error!(
                    "{name}-{index}: this node is to lead it, but has lost some of it: another one of the {in_sync} \
                     that are in sync is to"
                ),
            }
        }
        self.altering.look_at(partition.log);
    }

    /// A stream of another shard to this one has begun: what was said on the one before may not have come.
    pub(super) fn began(&mut self, from: ReplicaPeer) {
        self.asking.extend(self.followed.of_leader(from));
    }

    /// A link to another shard is up: what was said on the one before may not have come there.
    pub(super) fn link_is_up(&mut self, to: ReplicaPeer) {
        self.asking.extend(self.followed.of_leader(to));
    }

    /// A link to another shard is gone.
    pub(super) fn link_is_down(&mut self, to: ReplicaPeer) {
        for led in self.led.values_mut() {
            led.lost_touch(to);
        }
    }

    /// Another shard has said something.
    pub(super) fn heard(
        &mut self,
        from: ReplicaPeer,
        heard: ReplicaSaid,
        image: &Image,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) {
        let ReplicaSaid { log, term, what } = heard;
        let (now, node) = (fx.now, from.node);
        if self.is_leaving {
            return;
        }
        match what {
            ReplicaWhat::Asks(_) | ReplicaWhat::Tells(_) | ReplicaWhat::Lost => {
                let member = image.brokers.member(node);
                if term.follower.node == node && member == Some(term.follower) {
                    self.of_follower(from, (log, term, what), (image, owner), now.mono);
                }
            }
            ReplicaWhat::Answers { asked, log: answer } => {
                if !self.followed.is_of_leader(log, node, term) {
                    return;
                }
                if owner.is_damaged(log) {
                    return self.begins_anew(log, (asked, answer), (image, owner), now);
                }
                let todo = self.followed.step(now.mono, log, owner, |it, here| {
                    it.answered(now, asked, answer, here)
                });
                self.perform(log, todo, owner, fx);
            }
            ReplicaWhat::Pushes(push) => {
                if self.followed.is_of_leader(log, node, term) && self.followed.takes(log) {
                    let todo = self
                        .followed
                        .step(now.mono, log, owner, |it, here| it.pushed(now, &push, here));
                    self.perform(log, todo, owner, fx);
                }
            }
        }
    }

    /// The leader of a partition whose log is damaged here as a whole has answered. If it has all that there was, the
    /// log is made anew, and looked at as every new one.
    fn begins_anew(
        &mut self,
        log: LogId,
        answer: (EpochEnd, LeaderLog),
        (image, owner): (&Image, &mut Owner),
        now: Now,
    ) {
        let place = owner.place_of(log);
        let known = place.and_then(|(id, index)| {
            let topic = image.topic_by_id(id)?;
            Some((topic, index, topic.partition(index)?))
        });
        let Some((topic, index, partition)) = known.filter(|(.., it)| it.log == log) else {
            return;
        };
        let (least, epoch) = owner.least_elsewhere(log);
        let least = match partition.overrules(epoch) {
            true => Offset(0),
            false => least,
        };
        if self.followed.may_begin_anew(now.mono, log, answer, least)
            && owner.recreate(now, topic, index)
        {
            let (name, leader) = (&topic.name, partition.leader);
            tracing::warn!(
                "{name}-{index} is damaged as a whole: it is made anew, of what node {leader} has"
            );
        }
    }

    /// A follower has said something to the leader that it believes in.
    fn of_follower(
        &mut self,
        from: ReplicaPeer,
        (log, term, what): (LogId, Term, ReplicaWhat),
        (image, owner): (&Image, &mut Owner),
        now: Mono,
    ) {
        let (node, me) = (term.follower.node, owner.roles.me());
        let Some(open) = owner.partitions.get_mut(&log) else {
            return;
        };
        let (Some(led), Some(leader)) = (self.led.get_mut(&log), &mut open.leader) else {
            return;
        };
        // What this node does not know of itself yet, it is asked for again.
        let is_known = led.is_of(leader.epoch());
        if leader.epoch() != term.epoch || me != Some(term.leader) || !is_known {
            return;
        }
        match what {
            ReplicaWhat::Asks(asked) => {
                let Some(is_in_sync) = leader.is_in_sync(node) else {
                    return;
                };
                leader.on_asked(node);
                self.links.want(from, image);
                let here = (is_in_sync, &mut open.log);
                let answer = led.asked(now, from, (term, asked), here);
                self.links.say(from, &answer, Vec::new());
            }
            ReplicaWhat::Tells(on_disk) => {
                if !led.told(now, term, on_disk, &mut open.log) {
                    return;
                }
                if leader.has_lost(node, on_disk.end, &open.log) {
                    led.loses(now, term);
                } else {
                    owner.replicated(log, node, on_disk.end);
                    owner.dropped(log, node, on_disk.start);
                }
            }
            ReplicaWhat::Lost => {
                leader.on_asked(node);
                led.loses(now, term);
            }
            ReplicaWhat::Answers { .. } | ReplicaWhat::Pushes(_) => {}
        }
        self.wants_alter(log, image, owner, now);
        owner.roles.moved.insert(log);
    }

    /// Does what is to be done for a partition that is followed.
    pub(super) fn perform(
        &mut self,
        log: LogId,
        todo: Option<FollowsUp>,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) {
        match todo {
            None => {}
            Some(FollowsUp::Say(to, said)) => self.links.say(to, &said, Vec::new()),
            Some(FollowsUp::Cut(Truncation::Scan { pieces, ticket })) => {
                let id = owner.work.read(Worker::Replicas, pieces, fx);
                self.reads.insert(id.0, (log, ReadFor::Cut(ticket)));
            }
            Some(FollowsUp::Cut(Truncation::More)) => self.cutting.push_back(log),
            // When the flush has begun, for which something else has to be over first.
            Some(FollowsUp::Cut(_)) => self.cuts_wait.push_back(log),
        }
    }

    fn cut(&mut self, log: LogId, owner: &mut Owner, fx: &mut Fx<'_>) {
        let now = fx.now;
        let todo = self
            .followed
            .step(now.mono, log, owner, |it, here| it.go_on(now, here));
        self.perform(log, todo, owner, fx);
    }

    /// A read has ended.
    pub fn read(
        &mut self,
        id: ReadId,
        result: Result<Bytes, DiskError>,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) {
        let Some((log, what)) = self.reads.remove(&id.0) else {
            return;
        };
        // Too few bytes are what tells a log that they cannot be read.
        let bytes = result.as_ref().map_or(&b""[..], |bytes| bytes);
        match what {
            ReadFor::Cut(ticket) => {
                if self.followed.read(fx.now.mono, log, result.as_ref().err()) {
                    owner.scanned(log, ticket, bytes);
                    self.cut(log, owner, fx);
                }
            }
            ReadFor::Follower(reading, bytes_read) => {
                self.turns.may_go_on();
                self.bytes_read = self.bytes_read.saturating_sub(bytes_read);
                self.read_for_follower((log, id, reading), &result, owner, fx);
            }
        }
    }

    /// What was read for a follower is pushed, or its place is known now.
    fn read_for_follower(
        &mut self,
        (log, id, reading): (LogId, ReadId, FollowerRead),
        result: &Result<Bytes, DiskError>,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) {
        let read = match (reading, result) {
            (FollowerRead::Place(ticket), _) => {
                let bytes = result.as_ref().map_or(&b""[..], |bytes| bytes);
                owner.scanned(log, ticket, bytes);
                Ok(None)
            }
            (FollowerRead::Push(from), Ok(bytes)) => Ok(Some((from, bytes.clone()))),
            (FollowerRead::Push(_), Err(_)) => Err(ErrorCode::KafkaStorageError),
        };
        let open = owner.partitions.get(&log);
        let Some((led, open)) = self.led.get_mut(&log).zip(open) else {
            return;
        };
        let has_room = led.reader(id).is_some_and(|peer| self.links.has_room(peer));
        if !has_room {
            led.drops_read(id);
        } else if let Some((place, next)) = led.read(fx.now.mono, id, read, &open.log) {
            self.send(log, place, next, owner, fx);
        }
        self.push_log(log, owner, fx);
    }

    /// Pushes what there is to be pushed, now that flushes have begun.
    pub fn push(&mut self, owner: &mut Owner, fx: &mut Fx<'_>) {
        for log in owner.roles.moved.drain() {
            self.turns.moved(log);
        }
        self.turns.begin_turn(owner.flushes_begun());
        while let Some(log) = self.turns.next() {
            self.push_log(log, owner, fx);
        }
        if self.marks_at <= fx.now.mono {
            self.tell_marks(owner);
            self.marks_at = match self.untold.is_empty() {
                true => Mono::NEVER,
                false => fx.now.mono,
            };
        }
    }

    /// Tells some of those who do not know how far it is committed.
    fn tell_marks(&mut self, owner: &Owner) {
        for _ in 0..REPLICA_PUSHED_PER_SLICE {
            let Some(log) = self.untold.pop() else {
                break;
            };
            let open = owner.partitions.get(&log);
            let led = self.led.get_mut(&log).zip(open);
            let marks = led.map_or_else(Vec::new, |(led, open)| led.marks(&open.log));
            for (peer, said) in marks {
                self.links.say(peer, &said, Vec::new());
            }
        }
    }

    fn push_log(&mut self, log: LogId, owner: &mut Owner, fx: &mut Fx<'_>) {
        let now = fx.now.mono;
        let (mut place, mut waits, mut lags) = (0, false, false);
        loop {
            let Some(led) = self.led.get_mut(&log) else {
                return;
            };
            let Some((_, other)) = led.others.get(place) else {
                break;
            };
            let may_read = self.bytes_read < REPLICA_READ_BYTES_MAX;
            let has_room = self.links.has_room(other.peer);
            let Some(open) = owner.partitions.get_mut(&log) else {
                return;
            };
            let store = &owner.slots[open.slot].store;
            match led.next(now, (place, has_room), (open, store)) {
                Next::Nothing => place += 1,
                Next::Waits => (place, waits) = (place + 1, true),
                Next::Lags => (place, lags) = (place + 1, true),
                // When others are over.
                Next::Reads(..) if !may_read => (place, lags) = (place + 1, true),
                next => self.send(log, place, next, owner, fx),
            }
        }
        let (Some(led), Some(open)) = (self.led.get(&log), owner.partitions.get(&log)) else {
            return;
        };
        if waits {
            self.turns.waits(log);
        }
        if lags {
            self.turns.lags(log);
        }
        if (open.leader.as_ref()).is_some_and(|it| led.lacks(it, &open.log))
            && self.lacking.push(log)
            && self.lacking.len() == 1
        {
            self.checks_at = now.plus_ms(REPLICA_CHECKS_MS);
        }
        if led.lacks_marks(&open.log) && self.untold.push(log) {
            self.marks_at = self.marks_at.min(now.plus_ms(REPLICA_MARKS_AFTER_MS));
        }
    }

    /// Sends a follower what is next, or reads it.
    fn send(&mut self, log: LogId, place: usize, next: Next, owner: &mut Owner, fx: &mut Fx<'_>) {
        let Some(led) = self.led.get_mut(&log) else {
            return;
        };
        match next {
            Next::Nothing | Next::Waits | Next::Lags => {}
            Next::Reads(pieces, reading) => {
                let bytes: usize = pieces.iter().map(Piece::len).sum();
                let id = owner.work.read(Worker::Replicas, pieces, fx);
                let read = ReadFor::Follower(reading, bytes);
                self.reads.insert(id.0, (log, read));
                self.bytes_read += bytes;
                led.reads(place, id);
            }
            Next::Pushes(push, batches) => {
                if let Some((peer, said)) = led.says(log, place, ReplicaWhat::Pushes(push)) {
                    self.links.say(peer, &said, batches);
                }
            }
        }
    }

    /// Looks whether others say nothing for too long, and makes those ask that do not by themselves.
    fn check(&mut self, image: &Image, owner: &Owner, now: Mono) {
        if self.checking == 0 && now >= self.checks_at && !self.lacking.is_empty() {
            self.checks_at = now.plus_ms(REPLICA_CHECKS_MS);
            self.checking = self.lacking.len();
            self.turns.look_again();
        }
        for _ in 0..self.checking.min(REPLICA_LOGS_PER_SLICE) {
            self.checking -= 1;
            let Some(log) = self.lacking.pop() else {
                break;
            };
            let open = owner.partitions.get(&log);
            let Some((led, open)) = self.led.get_mut(&log).zip(open) else {
                continue;
            };
            for (peer, said) in led.wakes(now, &open.log) {
                self.links.say(peer, &said, Vec::new());
            }
            if (open.leader.as_ref()).is_some_and(|it| led.lacks(it, &open.log)) {
                self.lacking.push(log);
                self.wants_alter(log, image, owner, now);
            }
        }
    }

    /// Whether another ISR is to be asked for is looked at soon, if one is wanted now.
    fn wants_alter(&mut self, log: LogId, image: &Image, owner: &Owner, now: Mono) {
        if self.wanted(log, image, owner, now).is_some() {
            self.altering.look_at(log);
        }
    }

    /// The ISR that the leader of a partition wants, if it is another one than that which there is. Who is not in it
    /// joins only if it can be reached and may lead, for the controller would refuse it; and not soon again if it has
    /// been too slow.
    pub(super) fn wanted(
        &self,
        log: LogId,
        image: &Image,
        owner: &Owner,
        now: Mono,
    ) -> Option<Vec<NodeId>> {
        let open = owner.partitions.get(&log)?;
        let (led, leader) = (self.led.get(&log)?, open.leader.as_ref()?);
        let is_silent = led.silent(now);
        // One that is slow is better than none.
        let is_short = leader.admit(Mark::Committed).is_err();
        let wanted = leader.wanted(&open.log, |node| {
            let may_join = || {
                let member = led.member(node);
                member.is_some_and(|member| image.brokers.is_live(member))
                    && (is_short || led.may_return(now, node))
                    && led.peer(node).is_some_and(|peer| self.links.is_up(peer))
            };
            is_silent(node) || leader.is_in_sync(node) != Some(true) && !may_join()
        })?;
        let is_live = |node: NodeId| image.brokers.get(node).is_some_and(|it| !it.fenced);
        let (topic, index) = owner.place_of(log)?;
        let known = image.topic_by_id(topic)?.partition(index)?;
        without_fenced(wanted, &known.isr, is_live)
    }
}

/// What is wanted, without those that were fenced and are in sync still: a set with them would be refused, and nobody
/// else is to wait until the metadata have changed. If that is all, it is not asked for: they change by themselves.
fn without_fenced(
    wanted: Vec<NodeId>,
    in_sync: &[NodeId],
    is_live: impl Fn(NodeId) -> bool,
) -> Option<Vec<NodeId>> {
    let leaves = in_sync.iter().any(|node| !wanted.contains(node));
    let leader = wanted.first().copied()?;
    let mut live = wanted;
    live.retain(|node| is_live(*node));
    let joins = live.iter().any(|node| !in_sync.contains(node));
    // A set without the leader says something else.
    ((leaves || joins) && live.first() == Some(&leader)).then_some(live)
}

/// The shard of a node that has a replica of a partition.
fn peer_of(image: &Image, partition: &Partition, node: NodeId) -> Option<ReplicaPeer> {
    let mut replicas = partition.replicas.iter().zip(&*partition.directories);
    let (_, id) = replicas.find(|(replica, _)| **replica == node)?;
    let directories = &image.brokers.get(node)?.directories;
    let directory = directories.iter().find(|directory| directory.id == *id)?;
    let shard = directory.shard;
    Some(ReplicaPeer { node, shard })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(ids: &[i32]) -> Vec<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    #[test]
    fn who_is_fenced_keeps_nobody_from_joining_or_leaving() {
        let in_sync = nodes(&[1, 2, 3]);
        let asks = |wanted: &[i32], fenced: &[i32]| {
            let is_live = |node: NodeId| !fenced.contains(&node.0);
            without_fenced(nodes(wanted), &in_sync, is_live)
        };
        assert_eq!(asks(&[1, 2, 3, 4], &[]), Some(nodes(&[1, 2, 3, 4])));
        assert_eq!(
            asks(&[1, 2, 3, 4], &[3]),
            Some(nodes(&[1, 2, 4])),
            "4 joins"
        );
        assert_eq!(asks(&[1, 3], &[3]), Some(nodes(&[1])), "2 is silent");
        assert_eq!(asks(&[1, 2], &[3]), Some(nodes(&[1, 2])), "3 is silent");
        assert_eq!(asks(&[1, 2, 3], &[3]), None, "it leaves by itself");
        assert_eq!(asks(&[1, 2, 3, 4], &[4]), None, "nor does it join");
        assert_eq!(
            asks(&[1, 2, 4], &[1]),
            None,
            "nothing of who is fenced itself"
        );
    }
}
