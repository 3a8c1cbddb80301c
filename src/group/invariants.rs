//! What must be true of the books at any time; broken only by a bug.

use std::collections::BTreeMap;

use super::classic::id_bytes;
use super::consumer::ConsumerGroup;
use super::coordinator::Entry;
use super::cx::InFlight;
use super::streams::StreamsGroup;
use super::{ClassicGroup, Coordinator, Name, State, Then, Timer};

impl ClassicGroup {
    /// Panics if the books contradict each other. For tests and the simulator.
    pub fn invariants(&self) {
        let joining = self.members.values().filter(|m| m.join.is_some()).count();
        assert_eq!(joining, self.awaiting_join, "waiting joins");
        let members = self.members.iter().map(|(id, m)| id.len() + m.bytes());
        let handed_out = self.pending_join.iter().map(|id| id_bytes(id));
        assert_eq!(
            members.chain(handed_out).sum::<usize>(),
            self.bytes,
            "bytes"
        );
        let statics = self
            .members
            .values()
            .filter(|m| m.instance.is_some())
            .count();
        assert_eq!(statics, self.statics.len(), "static members");
        for (instance, id) in &self.statics {
            let member = &self.members[id];
            assert_eq!(member.instance.as_ref(), Some(instance), "static member");
        }
        let mut supported: BTreeMap<Name, usize> = BTreeMap::new();
        for protocol in self.members.values().flat_map(|m| &m.protocols) {
            *supported.entry(protocol.name.clone()).or_default() += 1;
        }
        assert_eq!(supported, self.supported, "supporters of protocols");
        let leads = self
            .leader
            .as_ref()
            .is_some_and(|l| self.members.contains_key(l));
        assert_eq!(leads, !self.members.is_empty(), "the leader is a member");
        assert!(
            self.pending_join
                .iter()
                .all(|id| !self.members.contains_key(id))
        );
        assert!(
            self.pending_sync
                .iter()
                .all(|id| self.members.contains_key(id))
        );
        match self.state {
            State::Empty | State::Dead => assert!(self.members.is_empty(), "empty"),
            State::CompletingRebalance | State::Stable => {
                assert!(!self.members.is_empty(), "a generation has members");
                let all = |name| self.supporters(name) == self.members.len();
                assert!(
                    self.protocol.as_deref().is_some_and(all),
                    "all speak the protocol"
                );
            }
            State::PreparingRebalance => {}
        }
        if self.state != State::CompletingRebalance {
            let mut members = self.members.values();
            let undecided = members.any(|m| m.sync.is_some() && m.synced.is_none());
            assert!(!undecided, "syncs wait in CompletingRebalance only");
        }
        let untold = || self.members.iter().filter(|(_, m)| m.is_untold());
        assert_eq!(untold().count(), self.untold, "who is still to be told");
        let joins = untold().filter(|(_, m)| m.joined).count();
        assert_eq!(
            joins, self.untold_joins,
            "who is to be told of the generation"
        );
        for (id, member) in untold() {
            assert!(member.synced.is_none() || member.sync.is_some());
            assert!(Some(id) > self.told_to.as_ref(), "{id} would not be told");
        }
    }
}

impl Coordinator {
    /// Panics if something is wrong inside. For tests and the simulator.
    pub fn invariants(&self) {
        self.timers.invariants();
        let bytes = self.groups.values().map(Entry::record_bytes);
        assert_eq!(self.durable_bytes, bytes.sum::<usize>(), "durable bytes");
        assert_eq!(self.snapshot.is_some(), self.appends.since.is_some());
        let late = self.appends.in_flight.values().filter(|it| it.is_late);
        assert_eq!(self.appends.late, late.count(), "late appends");
        let bytes = self.groups.values().map(Entry::bytes);
        assert_eq!(self.bytes, bytes.sum::<usize>(), "bytes of groups");
        let appends = self.appends.in_flight.values();
        let bytes: usize = appends.map(InFlight::bytes).sum();
        assert_eq!(bytes, self.appends.bytes, "bytes of appends");
        let (mut none, mut unstable) = (true, 0);
        for append in self.appends.in_flight.values() {
            if let Then::Commit(commit) = &append.then {
                none = false;
                unstable += commit.producer.as_ref().map_or(0, |_| append.records.len());
            }
        }
        let appends = &self.appends;
        assert_eq!(none, appends.committing.is_empty(), "offsets on their way");
        assert_eq!(unstable == 0, appends.unstable.is_empty(), "unstable");
        let of_producers: usize = appends.of_producers.values().sum();
        assert_eq!(unstable, of_producers, "of producers");
        self.sweep_invariants();
        self.pending_invariants();
        for (id, entry) in &self.groups {
            assert_eq!(id, entry.group.id());
            entry.group.invariants();
            entry.offsets.invariants();
            if let Some(consumer) = &entry.consumer {
                consumer.invariants();
                assert_eq!(entry.group.size(), 0, "{id} is of two kinds");
                assert!(entry.streams.is_none(), "{id} is of two kinds");
            }
            if let Some(streams) = &entry.streams {
                streams.invariants();
                assert_eq!(entry.group.size(), 0, "{id} is of two kinds");
            }
            if !self.loaded {
                // The clocks of what is being replayed start when all of it is there.
                continue;
            }
            if let Some(consumer) = &entry.consumer {
                self.consumer_invariants(id, consumer);
            }
            if let Some(streams) = &entry.streams {
                self.streams_invariants(id, streams);
            }
            for (member, m) in entry.group.members() {
                let session = Timer::Session(id.clone(), member.clone());
                let watched = m.has_satisfied_heartbeat() || self.timers.contains(&session);
                assert!(watched, "member {member} of {id} would stay for ever");
            }
            for member in &entry.group.pending_join {
                assert!(
                    self.timers
                        .contains(&Timer::Session(id.clone(), member.clone()))
                );
            }
            if entry.group.untold > 0 || entry.group.subscribed.is_looking() {
                let goes_on = self.timers.contains(&Timer::GoOn(id.clone()));
                assert!(goes_on, "{id} would not go on");
            }
            if entry.group.state() == State::PreparingRebalance {
                let waits = self.timers.contains(&Timer::Join(id.clone()));
                assert!(waits, "the join phase of {id} would never end");
            }
            if entry.group.evicting {
                let goes_on = self.timers.contains(&Timer::Sync(id.clone()));
                assert!(goes_on, "{id} would keep who was silent");
            }
            let syncing = entry.group.state() == State::CompletingRebalance;
            if syncing && !entry.group.pending_sync.is_empty() {
                assert!(
                    self.timers.contains(&Timer::Sync(id.clone())),
                    "sync phase of {id}"
                );
            }
        }
    }

    fn streams_invariants(&self, id: &Name, streams: &StreamsGroup) {
        let goes_on = self.timers.contains(&Timer::GoOn(id.clone()));
        assert!(goes_on || !streams.has_more(), "{id} would not go on");
        for (member, _) in streams.state().members() {
            let session = Timer::Session(id.clone(), member.clone());
            let watched = self.timers.contains(&session) || !streams.is_idle();
            assert!(watched, "member {member} of {id} would stay for ever");
        }
    }

    fn consumer_invariants(&self, id: &Name, consumer: &ConsumerGroup) {
        let goes_on = self.timers.contains(&Timer::GoOn(id.clone()));
        assert!(goes_on || !consumer.has_more(), "{id} would not go on");
        for (member, _) in consumer.state().members() {
            let session = Timer::Session(id.clone(), member.clone());
            let watched = self.timers.contains(&session) || !consumer.is_idle();
            assert!(watched, "member {member} of {id} would stay for ever");
        }
    }
}
