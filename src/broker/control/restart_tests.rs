//! Starts of the control shard on whatever a crash leaves: after each write of the disk, what was published is there.

use super::Control;
use super::follows::Then;
use super::logs;
use super::machine::{File, Machine, config, store_config};
use super::testing::{directories, req, topic};
use crate::base::{DirectoryId, LeaderEpoch, LogId, NodeId, TopicId};
use crate::broker::io::Output;
use crate::broker::msg::Called;
use crate::controller::testing::partition;
use crate::controller::{
    Change, FEATURE_LEVEL, Image, METADATA_LOG, METADATA_LOGS, METADATA_SNAPSHOT_LOG,
    METADATA_STATE_LOG, MetadataRecord,
};
use crate::quorum::{EntryId, EntryIndex, QuorumInput, QuorumMessage, ReplicaKey, Says};
use crate::record::{BatchBuilder, Codec};
use crate::store::{RoomFor, StoreConfig};

/// Decides on many topics, so that there are snapshots, and changes while they are made.
fn decide_much(machine: &mut Machine) {
    for id in 10..60 {
        machine.commit(vec![topic(id), partition(id, 0, u64::from(id))]);
        if id % 3 == 0 {
            machine.settle();
        }
    }
    machine.settle();
}

/// After each write a crash: the next start finds all that was published before, and nothing that was never decided.
fn crash_after_each_write(before: &File, machine: &Machine, at_least: u64, fits: impl Fn(&Image)) {
    let newest = machine.committed().version;
    let mut file = before.clone();
    for (n, op) in machine.writes.iter().enumerate() {
        let known = machine
            .published
            .iter()
            .rev()
            .find(|(writes, _)| *writes <= n);
        let known = known.map_or(at_least, |(_, version)| *version);
        let again = Machine::restart(file.clone());
        let mut again = again.unwrap_or_else(|why| panic!("after {n} writes: {why}"));
        let version = again.committed().version;
        // A start may register the node once more.
        assert!(
            (known..=newest + 3).contains(&version),
            "after {n} writes: {version} of {known}"
        );
        assert!(again.control.metadata.leads());
        fits(again.committed());
        again.commit(vec![topic(200)]);
        again.settle();
        let last = Machine::restart(again.file.clone()).unwrap();
        assert!(
            last.committed().topic_by_id(TopicId([200; 16])).is_some(),
            "after {n} writes"
        );
        file.perform(op);
    }
    assert!(machine.writes.len() > 3);
}

#[test]
fn a_new_store_is_one_of_a_quorum_after_each_write() {
    let mut machine = Machine::new();
    machine.start();
    assert!(machine.control.metadata.leads());
    assert_eq!(machine.committed().features, FEATURE_LEVEL);
    assert_eq!(
        machine.offsets(METADATA_LOG),
        (1, 3),
        "the first entry has number 1"
    );
    machine.commit(vec![topic(1)]);
    machine.settle();
    assert_eq!(machine.offsets(METADATA_LOG), (1, 4));
    crash_after_each_write(&machine.begun, &machine, 0, |_| {});
}

#[test]
fn the_log_is_cut_by_snapshots_and_nothing_is_lost_after_any_write() {
    let mut machine = Machine::new();
    machine.start();
    let mut machine = Machine::restart(machine.file).unwrap();
    let before = machine.file.clone();
    let known = machine.committed().version;
    machine.writes.clear();
    machine.published.clear();
    decide_much(&mut machine);
    let (start, end) = machine.offsets(METADATA_LOG);
    assert!(start > 1 && end > 50, "{start} to {end}");
    let (first, _) = machine.offsets(METADATA_SNAPSHOT_LOG);
    assert!(first > 0, "older snapshots are dropped");
    let (first, last) = machine.offsets(METADATA_STATE_LOG);
    assert!(
        last - first < 60,
        "the state is written anew: {first} to {last}"
    );
    crash_after_each_write(&before, &machine, known, |_| {});
}

/// What is kept for the broker, so that topics can still be deleted, is not for snapshots; and they are tried again.
#[test]
fn a_snapshot_without_room_takes_nothing_and_is_made_when_there_is_some() {
    const BATCH_BYTES: usize = 64 << 10;
    const FILLER: LogId = LogId(900);
    let mut machine = Machine::of(StoreConfig {
        bytes_max: 16 << 20,
        ..store_config()
    });
    machine.start();
    machine.act(|_, owner, fx| {
        let label = crate::store::LogLabel::default();
        owner.open_own(fx.now, 0, FILLER, label, crate::log::LogConfig::default());
    });
    while machine
        .owner
        .has_room(FILLER, BATCH_BYTES, RoomFor::Clients)
    {
        let batch = logs::batch_of(0, &[0; BATCH_BYTES], 0);
        let written = machine.act(|_, owner, fx| owner.append_internal(fx.now, FILLER, batch));
        written.expect("written");
        machine.settle();
    }
    while machine.owner.has_room(FILLER, 512, RoomFor::Clients) {
        let batch = logs::batch_of(0, &[0; 512], 0);
        let written = machine.act(|_, owner, fx| owner.append_internal(fx.now, FILLER, batch));
        written.expect("written");
        machine.settle();
    }
    let snapshots = machine.offsets(METADATA_SNAPSHOT_LOG);
    decide_much(&mut machine);
    assert_eq!(machine.offsets(METADATA_SNAPSHOT_LOG), snapshots);
    assert_eq!(machine.offsets(METADATA_LOG).0, 1, "nothing is cut");
    assert!(machine.control.is_quiet(), "it keeps nobody from stopping");
    let end = machine.owner.partitions[&FILLER].log.end_offset();
    machine.act(|_, owner, fx| owner.drop_before(fx.now, FILLER, end));
    machine.settle();
    assert_eq!(machine.offsets(METADATA_SNAPSHOT_LOG), snapshots, "not yet");
    machine.now.mono = machine.now.mono.plus_ms(10_000);
    machine.settle();
    assert!(machine.offsets(METADATA_SNAPSHOT_LOG).1 > snapshots.1);
    machine.commit(vec![topic(1)]);
    machine.settle();
    assert!(machine.offsets(METADATA_LOG).0 > 1, "it is cut");
}

/// A store as releases before the quorum left it: its metadata log has records from offset 0 on.
fn old() -> File {
    let mut machine = Machine::new();
    machine.act(|_, owner, fx| {
        let config = crate::log::LogConfig::default();
        owner.open_own(fx.now, 0, METADATA_LOG, logs::label(METADATA_LOG), config);
        let cluster = MetadataRecord::Cluster {
            id: "cluster".to_owned(),
        };
        let features = MetadataRecord::Features {
            level: FEATURE_LEVEL - 1,
        };
        for records in [
            vec![cluster, features],
            vec![topic(1), partition(1, 0, 1)],
            vec![topic(2)],
        ] {
            let mut batch = BatchBuilder::new(Codec::None, 0);
            for record in records {
                batch.push(0, None, Some(&record.encode(FEATURE_LEVEL - 1)), &[]);
            }
            let written = owner.append_internal(fx.now, METADATA_LOG, batch.build());
            written.expect("written");
        }
    });
    machine.settle();
    machine.file
}

#[test]
fn a_store_of_an_earlier_release_is_the_old_one_or_a_new_one_after_each_write() {
    let fits = |image: &Image| {
        assert_eq!(image.cluster_id.as_deref(), Some("cluster"));
        assert!(image.topic_by_id(TopicId([1; 16])).is_some());
        assert!(image.topic_by_id(TopicId([2; 16])).is_some());
        assert_eq!(image.features, FEATURE_LEVEL);
    };
    let mut machine = Machine::restart(old()).unwrap();
    fits(machine.committed());
    let (start, end) = machine.offsets(METADATA_LOG);
    assert_eq!(
        (start, end),
        (5, 7),
        "behind what there was, and nothing of that"
    );
    decide_much(&mut machine);
    crash_after_each_write(&machine.begun, &machine, 5, fits);
}

/// An earlier release is started once more when the snapshot and the first state are there, and no entry yet.
#[test]
fn an_earlier_release_in_between_is_read_as_one_after_each_write() {
    let machine = Machine::restart(old()).unwrap();
    let mut file = machine.begun.clone();
    let mut with_state = 0;
    for (n, op) in machine.writes.iter().enumerate() {
        file.perform(op);
        let mut earlier = Machine::stopped(file.clone());
        earlier.act(|_, owner, fx| {
            for log in [METADATA_LOG, METADATA_STATE_LOG] {
                let config = crate::log::LogConfig::default();
                owner.open_own(fx.now, 0, log, logs::label(log), config);
            }
        });
        let (start, end) = earlier.offsets(METADATA_LOG);
        if (start, end) != (0, 5) {
            continue;
        }
        with_state += u32::from(earlier.offsets(METADATA_STATE_LOG).1 > 0);
        earlier.act(|_, owner, fx| {
            let mut batch = BatchBuilder::new(Codec::None, 0);
            batch.push(0, None, Some(&topic(3).encode(FEATURE_LEVEL - 1)), &[]);
            let written = owner.append_internal(fx.now, METADATA_LOG, batch.build());
            written.expect("written");
        });
        earlier.settle();
        let again = Machine::restart(earlier.file.clone());
        let again = again.unwrap_or_else(|why| panic!("after {n} writes: {why}"));
        assert!(again.control.metadata.leads());
        for id in 1..4 {
            let found = again.committed().topic_by_id(TopicId([id; 16]));
            assert!(found.is_some(), "topic {id} after {n} writes");
        }
        let last = Machine::restart(again.file).unwrap();
        assert!(last.committed().topic_by_id(TopicId([3; 16])).is_some());
    }
    assert!(with_state > 0, "a state without an entry is met");
}

/// What has rotted of any of the three logs is found, and the start refused.
#[test]
fn damage_in_any_of_the_logs_refuses_the_start() {
    let mut machine = Machine::new();
    machine.start();
    let is_right = |machine: &Machine| Machine::restart(machine.file.clone());
    assert!(is_right(&machine).is_ok());
    for log in METADATA_LOGS {
        let mut other = Machine::restart(machine.file.clone()).unwrap();
        let kept: Vec<LogId> = METADATA_LOGS
            .into_iter()
            .filter(|kept| *kept != log)
            .collect();
        other.owner.delete_log(log);
        other.act(|_, owner, fx| owner.idle(fx));
        for output in std::mem::take(&mut other.out) {
            if let Output::Disk { op, .. } = output {
                other.file.perform(&op);
            }
        }
        let why = Machine::restart(other.file).err();
        let why = why.unwrap_or_else(|| panic!("without {log}, with {kept:?}"));
        assert!(why.contains("metadata"), "{why}");
    }
}

/// Another node's store: nobody would be elected.
#[test]
fn a_replica_without_a_vote_refuses_to_start() {
    let mut machine = Machine::new();
    machine.start();
    let mut other = Machine::restart(machine.file.clone()).unwrap();
    other.control = Control::new(config(), 1, directories(2)[1..].to_vec(), None, 1);
    other.owner.partitions.drain().for_each(|(id, open)| {
        other.owner.slots[open.slot].recovered.insert(id, open.log);
    });
    other.start();
    let why = other.fatal.unwrap();
    assert!(why.contains("none of the voters"), "{why}");
}

#[test]
fn who_waits_for_a_controller_that_is_none_any_more_is_told() {
    let mut machine = Machine::new();
    machine.start();
    let reply = || Called::Frame(vec![bytes::Bytes::from_static(b"reply")]);
    let change = Change::new(&machine.control.metadata.image, [topic(1)]).unwrap();
    let done = machine.act(|control, owner, fx| {
        let then = Then::Answer(req(1), reply());
        control.metadata.commit(change, then, owner, fx)
    });
    assert!(done.is_ok());
    // Decided by what is not committed.
    machine.act(|control, _, fx| control.metadata.reply(req(2), reply(), fx));
    let me = machine.control.me;
    let other = ReplicaKey {
        node: NodeId(9),
        directory: DirectoryId([9; 16]),
    };
    let message = QuorumMessage {
        from: other,
        to: me,
        term: LeaderEpoch(7),
        says: Says::Append {
            prev: EntryId::default(),
            entries: Vec::new(),
            commit: EntryIndex(0),
        },
    };
    machine.act(|control, owner, fx| {
        control.quorum_input(QuorumInput::Message(message), owner, fx);
        control.call(req(3), super::testing::call(0), owner, fx);
    });
    machine.settle();
    let refused = machine
        .answers
        .iter()
        .map(|(id, answer)| (*id, answer.is_err()));
    assert_eq!(
        refused.collect::<Vec<_>>(),
        [(1, true), (2, true), (3, true)]
    );
    assert!(!machine.control.metadata.leads());
    assert!(machine.committed().topic_by_id(TopicId([1; 16])).is_none());
    // Nobody else has a vote: it leads again, and what it had written is committed.
    machine.now.mono = machine.now.mono.plus_ms(1_000);
    machine.settle();
    assert!(machine.control.metadata.leads());
    assert!(machine.committed().topic_by_id(TopicId([1; 16])).is_some());
}
