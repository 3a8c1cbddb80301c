//! What tests of the quorum are made with: replicas that hear each other at once, and any message.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;

use super::{
    EntryId, EntryIndex, Payload, Quorum, QuorumConfig, QuorumEntry, QuorumInput, QuorumMessage,
    QuorumRole, Ready, ReplicaKey, Restored, Says, SnapshotMark, Vote, Voters,
};
use crate::base::{DirectoryId, LeaderEpoch, Mono, NodeId};

pub(super) fn key(node: i32) -> ReplicaKey {
    key_in(node, node as u8)
}

/// A replica in one of several stores that a node has had.
pub(super) fn key_in(node: i32, directory: u8) -> ReplicaKey {
    ReplicaKey {
        node: NodeId(node),
        directory: DirectoryId([directory; 16]),
    }
}

pub(super) fn voters(count: i32) -> Voters {
    Voters::new((1..=count).map(key)).unwrap()
}

pub(super) fn id(term: i32, index: u64) -> EntryId {
    EntryId {
        term: LeaderEpoch(term),
        index: EntryIndex(index),
    }
}

pub(super) fn entry(term: i32, index: u64) -> QuorumEntry {
    QuorumEntry {
        id: id(term, index),
        payload: Payload::Records(Bytes::from(format!("{index} of {term}"))),
    }
}

pub(super) fn config(seed: u64) -> QuorumConfig {
    QuorumConfig {
        append_bytes: 1_000,
        in_flight_bytes: 4_000,
        log_bytes: 40_000,
        snapshot_bytes: 10_000,
        ..QuorumConfig::new(seed)
    }
}

pub(super) fn message(from: i32, to: i32, term: i32, says: Says) -> QuorumInput {
    QuorumInput::Message(QuorumMessage {
        from: key(from),
        to: key(to),
        term: LeaderEpoch(term),
        says,
    })
}

/// Replicas 1 to n. What they send arrives at once, unless the way is cut; what they write is durable at once, unless
/// the disk is slow.
pub(super) struct Group {
    pub now: Mono,
    pub replicas: BTreeMap<ReplicaKey, Quorum>,
    pub cut: BTreeSet<(ReplicaKey, ReplicaKey)>,
    /// Nothing that these write is durable before they are in here no more.
    pub slow: BTreeSet<ReplicaKey>,
    /// The write of each that is not durable, and what may leave when it is.
    held: BTreeMap<ReplicaKey, (u64, Vec<QuorumMessage>)>,
    /// What each has been handed out.
    pub committed: BTreeMap<ReplicaKey, Vec<QuorumEntry>>,
    /// The last of what each wanted, but for messages and writes.
    pub wanted: BTreeMap<ReplicaKey, Ready>,
    /// Entries of which each has said that the voters that they name are committed.
    pub in_force: BTreeMap<ReplicaKey, Vec<EntryId>>,
}

impl Group {
    pub fn new(count: i32) -> Self {
        let mut group = Self {
            now: Mono(0),
            replicas: BTreeMap::new(),
            cut: BTreeSet::new(),
            slow: BTreeSet::new(),
            held: BTreeMap::new(),
            committed: BTreeMap::new(),
            wanted: BTreeMap::new(),
            in_force: BTreeMap::new(),
        };
        for node in 1..=count {
            group.start(node, Restored::empty(voters(count)));
        }
        group
    }

    pub fn start(&mut self, node: i32, restored: Restored) {
        self.start_as(key(node), restored);
    }

    pub fn start_as(&mut self, me: ReplicaKey, restored: Restored) {
        let seed = me.node.0 as u64;
        let quorum = Quorum::new(me, config(seed), restored, self.now).unwrap();
        self.replicas.insert(me, quorum);
    }

    pub fn get(&mut self, node: i32) -> &mut Quorum {
        self.replicas.get_mut(&key(node)).unwrap()
    }

    /// Nobody hears this one, and it hears nobody.
    pub fn isolate(&mut self, node: i32) {
        for other in self.replicas.keys() {
            self.cut.extend([(key(node), *other), (*other, key(node))]);
        }
    }

    /// Time passes, a millisecond after the other.
    pub fn pass(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now = self.now.plus_ms(1);
            for quorum in self.replicas.values_mut() {
                quorum.step(self.now, QuorumInput::Time);
            }
            self.settle();
        }
    }

    pub fn step(&mut self, node: i32, input: QuorumInput) {
        let now = self.now;
        self.get(node).step(now, input);
        self.settle();
    }

    /// One that leads proposes something.
    pub fn propose(&mut self, node: i32) {
        let (now, records) = (self.now, Bytes::from_static(b"records"));
        self.get(node).propose(now, records).unwrap();
        self.settle();
    }

    /// Until nobody wants anything any more.
    pub fn settle(&mut self) {
        loop {
            let mut messages = Vec::new();
            let mut is_over = true;
            for (me, quorum) in &mut self.replicas {
                let mut ready = quorum.ready();
                messages.append(&mut ready.messages);
                let held = self.held.entry(*me).or_default();
                held.0 = ready.write.as_ref().map_or(held.0, |write| write.number);
                held.1.append(&mut ready.messages_when_durable);
                if !self.slow.contains(me) {
                    let (number, mut said) = std::mem::take(held);
                    messages.append(&mut said);
                    if number > 0 {
                        quorum.step(self.now, QuorumInput::Durable(number));
                        is_over = false;
                    }
                }
                let committed = self.committed.entry(*me).or_default();
                committed.append(&mut ready.committed);
                let in_force = self.in_force.entry(*me).or_default();
                in_force.extend(ready.voters_committed);
                if ready.fetch.is_some() || ready.installed.is_some() || ready.changed.is_some() {
                    self.wanted.insert(*me, ready);
                }
            }
            for message in messages {
                is_over = false;
                let way = (message.from, message.to);
                if let (false, Some(to)) =
                    (self.cut.contains(&way), self.replicas.get_mut(&message.to))
                {
                    to.step(self.now, QuorumInput::Message(message));
                }
            }
            if is_over {
                return;
            }
        }
    }

    /// Who leads, when there is somebody after some time.
    pub fn leader(&mut self) -> i32 {
        for _ in 0..2_000 {
            let leads = |(key, quorum): (&ReplicaKey, &Quorum)| {
                matches!(quorum.role(), QuorumRole::Leader { .. }).then_some(key.node.0)
            };
            let cut = &self.cut;
            let mut all = self.replicas.iter();
            let is_in = |key: &ReplicaKey| cut.iter().filter(|(from, _)| from == key).count() < 2;
            let leader = all.find_map(|it| leads(it).filter(|_| is_in(it.0)));
            match leader {
                Some(leader) => return leader,
                None => self.pass(1),
            }
        }
        panic!("nobody was elected");
    }
}

fn any_id() -> impl Strategy<Value = EntryId> {
    (-1..6, 0..12u64).prop_map(|(term, index)| id(term, index))
}

fn any_key() -> impl Strategy<Value = ReplicaKey> {
    (1..5).prop_map(key)
}

fn any_payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        Just(Payload::LeaderChange),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| Payload::Records(bytes.into())),
        (1..5).prop_map(|count| Payload::Voters(voters(count))),
    ]
}

/// Entries that follow one, mostly as they may.
fn any_entries() -> impl Strategy<Value = (EntryId, Vec<QuorumEntry>)> {
    let steps = prop::collection::vec((any_payload(), 0..2, 1..20u64), 0..5);
    (any_id(), steps).prop_map(|(prev, steps)| {
        let mut last = prev;
        let entries = steps.into_iter().map(|(payload, term, gap)| {
            last.term.0 += term;
            last.index.0 += if gap == 19 { 2 } else { 1 };
            QuorumEntry { id: last, payload }
        });
        (prev, entries.collect())
    })
}

fn any_says() -> impl Strategy<Value = Says> {
    let mark = || {
        (any_id(), 1..5).prop_map(|(id, count)| SnapshotMark {
            id,
            voters: voters(count),
        })
    };
    prop_oneof![
        (any::<bool>(), any::<bool>(), any_id()).prop_map(|(pre, by_leader, last)| {
            Says::Vote(Vote {
                pre,
                by_leader,
                last,
            })
        }),
        (any::<bool>(), any::<bool>()).prop_map(|(pre, granted)| Says::Voted { pre, granted }),
        (any_entries(), 0..15u64).prop_map(|((prev, entries), commit)| Says::Append {
            prev,
            entries,
            commit: EntryIndex(commit),
        }),
        (0..15u64).prop_map(|matched| Says::Appended {
            matched: EntryIndex(matched),
        }),
        (any_id(), any_id()).prop_map(|(prev, hint)| Says::Rejected { prev, hint }),
        mark().prop_map(Says::Offer),
        Just(Says::Elect),
    ]
}

/// Any message, also those that no replica sends.
pub(super) fn any_message() -> impl Strategy<Value = QuorumMessage> {
    let term = prop_oneof![20 => -1..8, 1 => Just(i32::MAX)];
    (any_key(), any_key(), term, any_says()).prop_map(|(from, to, term, says)| QuorumMessage {
        from,
        to,
        term: LeaderEpoch(term),
        says,
    })
}
