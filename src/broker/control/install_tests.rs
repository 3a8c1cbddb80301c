//! A replica that follows: what another leader has not is cut off, snapshots are fetched, and after each write of that
//! a crash comes.

use super::load::Load;
use super::machine::{File, Machine, config};
use super::members::MemberAsk;
use super::said::NodeSaid;
use super::snapshot::{Sum, replay_part};
use super::testing::{directories, replica, topic};
use crate::base::{LeaderEpoch, NodeId};
use crate::broker::io::Output;
use crate::controller::testing::partition;
use crate::controller::{
    FEATURE_LEVEL, Image, ImageRecords, Joining, METADATA_LOG, METADATA_SNAPSHOT_LOG,
    MetadataRecord, RecordList,
};
use crate::quorum::{
    EntryId, EntryIndex, Knows, Payload, QuorumEntry, QuorumMessage, ReplicaKey, Restored, Says,
    Sitting, SnapshotMark, Voters,
};

const OTHERS: [NodeId; 2] = [NodeId(2), NodeId(3)];

/// A replica of another node, or that of this one.
fn key(node: i32) -> ReplicaKey {
    replica(node, 1)
}

fn voters() -> Voters {
    Voters::new([1, 2, 3].map(key)).unwrap()
}

fn id(term: i32, index: u64) -> EntryId {
    EntryId {
        term: LeaderEpoch(term),
        index: EntryIndex(index),
    }
}

/// One that is part of a quorum whose log is empty.
fn formed() -> Machine {
    let mut machine = Machine::one_of_several(&OTHERS);
    machine.start();
    for node in [2, 3] {
        machine.up(key(node));
        let sitting = Sitting {
            replica: key(node),
            knows: Knows::Blank(Some(voters())),
        };
        machine.heard(NodeId(node), &NodeSaid::Sits(sitting));
    }
    machine.settle();
    assert!(machine.control.metadata.quorum.is_some(), "it is formed");
    machine.said();
    machine
}

/// One on what a crash has left, which knows that the others are there.
fn restart(file: &File) -> Result<Machine, String> {
    let mut machine = Machine::restart_of_several(file.clone(), &OTHERS)?;
    for node in [2, 3] {
        machine.up(key(node));
    }
    machine.said();
    Ok(machine)
}

/// What a start finds on a file.
fn found(file: &File) -> (Restored, Image) {
    let mut machine = Machine::stopped(file.clone());
    let nothing = machine.control.metadata.nothing();
    let mut load = Load::new(key(1), nothing);
    let started = machine.act(|_, owner, fx| load.start(&config(), owner, fx));
    started.expect("its logs are there");
    let found = loop {
        let found = machine.act(|_, owner, fx| load.read(owner, fx));
        if let Some(found) = found.expect("it is understood") {
            break found;
        }
        for output in std::mem::take(&mut machine.out) {
            if let Output::Read { id, pieces } = output {
                let bytes = machine.bytes_of(pieces);
                machine.owner.work.read_ended(id);
                machine.act(|_, owner, fx| load.reader.ended(owner, id, Ok(bytes), fx));
            }
        }
    };
    assert!(!found.is_new);
    (found.restored, found.image)
}

/// A leader with the entries that it has had committed or only written.
struct OtherLeader {
    node: i32,
    term: i32,
    entries: Vec<QuorumEntry>,
}

impl OtherLeader {
    /// The first of a quorum.
    fn first(node: i32) -> Self {
        let mut leader = Self {
            node,
            term: 1,
            entries: Vec::new(),
        };
        leader.push(Payload::LeaderChange);
        leader.decide(&[MetadataRecord::Features {
            level: FEATURE_LEVEL,
        }]);
        leader
    }

    /// One of the next term, which has only so many of the entries.
    fn next(&self, node: i32, kept: usize) -> Self {
        let mut next = Self {
            node,
            term: self.term + 1,
            entries: self.entries[..kept].to_vec(),
        };
        next.push(Payload::LeaderChange);
        next
    }

    fn push(&mut self, payload: Payload) {
        let id = id(self.term, self.entries.len() as u64 + 1);
        self.entries.push(QuorumEntry { id, payload });
    }

    fn decide(&mut self, records: &[MetadataRecord]) {
        let mut list = RecordList::default();
        records
            .iter()
            .for_each(|record| list.push(record, FEATURE_LEVEL));
        self.push(Payload::Records(list.into_bytes()));
    }

    /// Decides on topics, each of which is an entry.
    fn decide_topics(&mut self, ids: std::ops::Range<u8>) {
        ids.for_each(|id| self.decide(&[topic(id), partition(id, 0, u64::from(id))]));
    }

    fn last(&self) -> EntryId {
        self.entries.last().expect("there are some").id
    }

    fn says(&self, machine: &mut Machine, says: Says) {
        let message = QuorumMessage {
            from: key(self.node),
            to: key(1),
            term: LeaderEpoch(self.term),
            says,
        };
        machine.heard(NodeId(self.node), &NodeSaid::Quorum(message));
    }

    /// Sends what follows so many entries, of which it says that they are committed up to `commit`.
    fn send(&self, machine: &mut Machine, behind: usize, commit: u64) {
        let prev = behind.checked_sub(1).map(|at| self.entries[at].id);
        let says = Says::Append {
            prev: prev.unwrap_or_default(),
            entries: self.entries[behind..].to_vec(),
            commit: EntryIndex(commit),
        };
        self.says(machine, says);
    }

    /// What all of its entries come to at a node, behind what its quorum begins with.
    fn image(&self, at: &Machine) -> Image {
        let mut image = at.control.metadata.nothing();
        let id = at.committed().cluster_id.as_deref();
        let id = id.expect("it is of a cluster").to_owned();
        image.replay(&MetadataRecord::Cluster { id }).unwrap();
        for entry in &self.entries {
            if let Payload::Records(records) = &entry.payload {
                replay_part(&mut image, records.clone()).unwrap();
            }
        }
        image
    }

    fn mark(&self) -> SnapshotMark {
        SnapshotMark {
            id: self.last(),
            voters: voters(),
        }
    }

    fn offer(&self, machine: &mut Machine) {
        self.says(machine, Says::Offer(self.mark()));
    }

    /// The snapshot of all that it has, in parts of a few records.
    fn parts(&self, to: &Machine) -> Vec<NodeSaid> {
        let image = self.image(to);
        let records: Vec<MetadataRecord> = ImageRecords::new(&image).collect();
        let lists: Vec<_> = records
            .chunks(7)
            .map(|records| {
                let mut list = RecordList::default();
                records
                    .iter()
                    .for_each(|record| list.push(record, FEATURE_LEVEL));
                list.into_bytes()
            })
            .collect();
        let count = lists.len();
        assert!(count > 2, "several parts");
        let part = |(number, records)| NodeSaid::Part {
            id: self.last(),
            number: number as u32,
            is_last: number + 1 == count,
            records,
        };
        lists.into_iter().enumerate().map(part).collect()
    }

    /// Offers a snapshot and sends all of it; what the machine has said meanwhile.
    fn send_snapshot(&self, machine: &mut Machine) -> Vec<(NodeId, NodeSaid)> {
        self.offer(machine);
        machine.settle();
        for part in self.parts(machine) {
            machine.heard(NodeId(self.node), &part);
            machine.settle();
        }
        machine.said()
    }
}

/// Up to where a leader was told that the log is on the disk.
fn acknowledged(said: &[(NodeId, NodeSaid)], to: i32) -> Option<u64> {
    let matched = said.iter().filter_map(|(node, said)| match said {
        NodeSaid::Quorum(message) if node.0 == to => match message.says {
            Says::Appended { matched } => Some(matched.0),
            _ => None,
        },
        _ => None,
    });
    matched.max()
}

fn ids(entries: &[QuorumEntry]) -> Vec<EntryId> {
    entries.iter().map(|entry| entry.id).collect()
}

/// After each write a crash comes. What is found is a log that `old` had or that `new` has; nothing of both, and never
/// a state without the entries that came with it. It goes on with `new` then. All of `old` `is_there` before, or is
/// still on its way.
fn crash_after_each_write(
    machine: &Machine,
    (old, is_there): (&OtherLeader, bool),
    new: &OtherLeader,
) {
    let (was, is) = (ids(&old.entries), ids(&new.entries));
    let same = was.iter().zip(&is).take_while(|(a, b)| a == b).count();
    let mut file = machine.begun.clone();
    for n in 0..=machine.writes.len() {
        let (restored, _) = found(&file);
        let here = ids(&restored.entries);
        let is_old = here == was || (!is_there && here.len() >= same && was.starts_with(&here));
        let is_cut = here.len() >= same && is.starts_with(&here);
        assert!(is_old || is_cut, "after {n} writes: {here:?}");
        let end = machine.writes.len();
        assert!(n < end || here == is, "after all writes: {here:?}");
        let again = restart(&file);
        let mut again = again.unwrap_or_else(|why| panic!("after {n} writes: {why}"));
        new.send(&mut again, same, is.len() as u64);
        again.settle();
        assert_eq!(again.fatal, None, "after {n} writes");
        assert_eq!(*again.committed(), new.image(&again), "after {n} writes");
        assert_eq!(again.control.metadata.replayed, new.last());
        assert_eq!(ids(&found(&again.file).0.entries), is);
        if let Some(op) = machine.writes.get(n) {
            file.perform(op);
        }
    }
    assert!(!machine.writes.is_empty());
}

/// Where what is cut off is when the cut comes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Lies {
    InMemory,
    InTheFile,
    NotFlushed,
}

#[test]
fn entries_are_cut_off_wherever_they_are_and_each_crash_is_survived() {
    for lies in [Lies::InMemory, Lies::InTheFile, Lies::NotFlushed] {
        let mut machine = formed();
        let mut old = OtherLeader::first(2);
        old.decide_topics(10..14);
        let kept = old.entries.len();
        old.send(&mut machine, 0, kept as u64);
        machine.settle();
        // More than the journal has, so that a start does not find it in memory.
        for _ in 0..8 {
            old.push(Payload::Records(vec![7; 60_000].into()));
        }
        let mut new = old.next(3, kept);
        new.decide_topics(40..45);
        machine.begun = machine.file.clone();
        machine.writes.clear();
        old.send(&mut machine, kept, kept as u64);
        if lies != Lies::NotFlushed {
            machine.settle();
            assert_eq!(acknowledged(&machine.said(), 2), Some(old.last().index.0));
            machine.begun = machine.file.clone();
            machine.writes.clear();
        }
        if lies == Lies::InTheFile {
            machine = restart(&machine.file).unwrap();
            (machine.begun, machine.reads) = (machine.file.clone(), 0);
            machine.writes.clear();
        }
        new.send(&mut machine, kept, new.last().index.0);
        // Behind it, and before it is done: entries, and what is committed.
        new.decide_topics(45..48);
        let behind = new.entries.len() - 3;
        new.send(&mut machine, behind, new.last().index.0);
        assert_eq!(acknowledged(&machine.said(), 3), None, "{lies:?}");
        machine.settle();
        assert_eq!(machine.fatal, None, "{lies:?}");
        let reads = machine.reads;
        assert_eq!(reads > 0, lies == Lies::InTheFile, "{lies:?}: {reads}");
        assert_eq!(acknowledged(&machine.said(), 3), Some(new.last().index.0));
        assert_eq!(machine.control.metadata.replayed, new.last());
        assert_eq!(ids(&found(&machine.file).0.entries), ids(&new.entries));
        crash_after_each_write(&machine, (&old, lies != Lies::NotFlushed), &new);
    }
}

#[test]
fn a_snapshot_that_is_fetched_is_there_or_not_after_each_write() {
    let mut machine = formed();
    let mut old = OtherLeader::first(2);
    old.decide_topics(10..14);
    let kept = old.entries.len();
    old.decide_topics(14..20);
    old.send(&mut machine, 0, kept as u64);
    machine.settle();
    machine.said();
    let mut new = old.next(3, kept);
    new.decide_topics(40..80);
    machine.begun = machine.file.clone();
    machine.writes.clear();
    new.send_snapshot(&mut machine);
    assert_eq!(machine.fatal, None);
    assert_eq!(*machine.committed(), new.image(&machine));
    assert_eq!(machine.control.metadata.installed, 1);
    let first = new.last().index.0 as i64 + 1;
    assert_eq!(machine.offsets(METADATA_LOG), (first, first));
    let mut file = machine.begun.clone();
    for n in 0..=machine.writes.len() {
        let (restored, image) = found(&file);
        if restored.snapshot.id == new.last() {
            assert_eq!(image, new.image(&machine), "after {n} writes");
            assert_eq!(restored.entries, []);
        } else {
            assert_eq!(restored.snapshot.id, EntryId::default());
            assert_eq!(ids(&restored.entries), ids(&old.entries), "{n}");
            assert!(n < machine.writes.len(), "it is there in the end");
        }
        let again = restart(&file);
        let mut again = again.unwrap_or_else(|why| panic!("after {n} writes: {why}"));
        let mut more = new.next(2, new.entries.len());
        more.decide_topics(80..83);
        if restored.snapshot.id != new.last() {
            new.send_snapshot(&mut again);
        }
        more.send(&mut again, new.entries.len(), more.last().index.0);
        again.settle();
        assert_eq!(again.fatal, None, "after {n} writes");
        assert_eq!(*again.committed(), more.image(&again), "after {n} writes");
        let (restored, image) = found(&again.file);
        assert_eq!(
            (restored.snapshot.id, image),
            (new.last(), new.image(&again))
        );
        assert_eq!(restored.entries, more.entries[new.entries.len()..]);
        if let Some(op) = machine.writes.get(n) {
            file.perform(op);
        }
    }
    assert!(machine.writes.len() > 3);
}

/// The process ended when the end of a snapshot was on the disk, and the log had not begun anew behind it.
#[test]
fn the_end_of_a_fetched_snapshot_stands_for_the_log_before_it() {
    let mut machine = formed();
    let mut old = OtherLeader::first(2);
    old.decide_topics(10..20);
    old.send(&mut machine, 0, 2);
    machine.settle();
    let mut new = old.next(3, 2);
    new.decide_topics(40..80);
    let parts = new.parts(&machine);
    let expected = new.image(&machine);
    let append = |machine: &mut Machine, batch| {
        let log = METADATA_SNAPSHOT_LOG;
        let written = machine.act(|_, owner, fx| owner.append_internal(fx.now, log, batch));
        written.expect("written");
        machine.settle();
    };
    machine.act(|_, owner, fx| owner.begin_rewrite(fx.now, METADATA_SNAPSHOT_LOG));
    let mut sum = Sum::default();
    for part in &parts {
        if let NodeSaid::Part { records, .. } = part {
            append(&mut machine, sum.part(records, 0));
        }
    }
    let (restored, _) = found(&machine.file);
    assert_eq!(
        ids(&restored.entries),
        ids(&old.entries),
        "no end, no snapshot"
    );
    append(&mut machine, sum.fetched(&new.mark(), 0));
    let first = new.last().index.0 as i64 + 1;
    assert!(machine.offsets(METADATA_LOG).1 < first, "as it was");
    let (restored, image) = found(&machine.file);
    assert_eq!((restored.snapshot, image), (new.mark(), expected));
    assert_eq!(restored.entries, []);
    assert_eq!(restored.state.term, new.last().term);
    // A start does what was not done, and the next one finds that.
    let again = restart(&machine.file).unwrap();
    assert_eq!(again.offsets(METADATA_LOG), (first, first));
    let mut again = restart(&again.file).unwrap();
    let mut more = new.next(2, new.entries.len());
    more.decide_topics(80..83);
    more.send(&mut again, new.entries.len(), more.last().index.0);
    again.settle();
    assert_eq!(again.fatal, None);
    assert_eq!(*again.committed(), more.image(&again));
}

/// A leader that has not cut its log sends what is in it meanwhile.
#[test]
fn a_snapshot_that_is_not_needed_any_more_is_forgotten() {
    let mut machine = formed();
    let mut leader = OtherLeader::first(2);
    leader.decide_topics(10..40);
    leader.offer(&mut machine);
    machine.settle();
    leader.send(&mut machine, 0, leader.last().index.0);
    machine.settle();
    assert_eq!(machine.control.metadata.replayed, leader.last());
    for part in leader.parts(&machine) {
        machine.heard(NodeId(2), &part);
        machine.settle();
    }
    assert_eq!(machine.fatal, None);
    assert_eq!(machine.control.metadata.installed, 0);
    assert_eq!(*machine.committed(), leader.image(&machine));
    // It would keep this node from making any, and its log from being cut.
    assert!(machine.control.fetched.is_none());
}

/// Its parts would be in the log before the end of the other one, and no start would understand that.
#[test]
fn no_snapshot_is_fetched_while_another_one_waits_for_the_disk() {
    let mut machine = formed();
    let mut old = OtherLeader::first(2);
    let kept = old.entries.len();
    old.send(&mut machine, 0, kept as u64);
    machine.settle();
    old.decide_topics(14..20);
    old.send(&mut machine, kept, kept as u64);
    let mut new = old.next(3, kept);
    // What is cut off is on its way to the disk, and the snapshot has to wait for that.
    new.send(&mut machine, kept, 0);
    let mut offer = |machine: &mut Machine, ids| {
        new.decide_topics(ids);
        new.offer(machine);
        machine.act(|control, _, fx| control.fetch_some(fx));
        for part in new.parts(machine) {
            machine.heard(NodeId(3), &part);
        }
        new.last()
    };
    let first = offer(&mut machine, 40..60);
    assert!(machine.control.fetched.is_some());
    let second = offer(&mut machine, 60..70);
    assert!(machine.control.fetching.is_none(), "not yet");
    machine.settle();
    assert_eq!(machine.fatal, None);
    assert_eq!(machine.control.metadata.replayed, first);
    assert_eq!(found(&machine.file).0.snapshot.id, first);
    let asked = (NodeId(3), NodeSaid::AskPart(second, 0));
    assert!(machine.said().contains(&asked), "now");
    for part in new.parts(&machine) {
        machine.heard(NodeId(3), &part);
    }
    machine.settle();
    assert_eq!(machine.fatal, None);
    assert_eq!(machine.control.metadata.replayed, second);
    assert_eq!(found(&machine.file).0.snapshot.id, second);
}

#[test]
fn nobody_asks_in_the_name_of_another_node() {
    let mut machine = formed();
    for (node, is_asked) in [(2, false), (3, true)] {
        let ask = MemberAsk::Register(Box::new(Joining {
            node: NodeId(node),
            start: [1; 16],
            cluster_id: "cluster".to_owned(),
            level: FEATURE_LEVEL,
            rack: None,
            addresses: Vec::new(),
            directories: directories(1),
        }));
        machine.heard(NodeId(3), &NodeSaid::Ask(ask));
        assert_eq!(machine.control.members.has_more(), is_asked);
    }
}
