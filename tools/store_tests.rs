//! A store made by the store's own code, written to a file, looked into from outside.

use std::os::unix::fs::FileExt;

use bytes::Bytes;
use millrace::base::TopicId;
use millrace::base::{LeaderEpoch, Offset};
use millrace::record::{BatchBuilder, Codec};
use millrace::store::DiskOp;

use super::*;

/// Performs these operations, and what the store asks for, until it is quiet.
fn drive(store: &mut Store, file: &File, mut ops: Vec<DiskOp>) {
    let mut events = Vec::new();
    store.poll(&mut ops);
    while let Some(op) = ops.pop() {
        let id = match &op {
            DiskOp::Write { id, pos, data, .. } => {
                file.write_all_at(data, *pos).unwrap();
                *id
            }
            DiskOp::Sync { id, .. } | DiskOp::Allocate { id, .. } => *id,
        };
        store.on_disk(id, Ok(()), &mut ops, &mut events);
        store.poll(&mut ops);
    }
    assert!(store.is_quiet());
}

/// A data directory with one store of two partitions: one of two segments, one of one. With a
/// checkpoint everything lies in chunks, without one everything is in the journal.
fn data(checkpointed: bool) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let file = File::create(directory.path().join("store-0")).unwrap();
    let config = StoreConfig {
        journal_bytes: 1 << 20,
        initial_bytes: 4 << 20,
        ..StoreConfig::default()
    };
    let (mut store, ops) = Store::format(StoreId(0), config, 7);
    for op in ops {
        if let DiskOp::Write { pos, data, .. } = op {
            file.write_all_at(&data, pos).unwrap();
        }
    }
    for partition in 0..2 {
        let log = LogId(10 + partition as u64);
        let label = LogLabel {
            topic: "orders".into(),
            topic_id: TopicId([9; 16]),
            partition,
        };
        store.create_log(log, label, Offset(0));
        for base in [0, 3] {
            if partition == 0 && base == 3 {
                store.roll(log, Offset(3));
            }
            let mut builder = BatchBuilder::new(Codec::None, 1000);
            for n in 0..3 {
                builder.push(1000 + base + n, None, Some(&[b'v'; 3000]), &[]);
            }
            store
                .append(log, builder.build(), Offset(base), LeaderEpoch(0))
                .unwrap();
        }
        drive(&mut store, &file, Vec::new());
    }
    if checkpointed {
        let states = (10..12).map(|log| (LogId(log), Bytes::new())).collect();
        let mut ops = Vec::new();
        store.checkpoint(states, &mut ops);
        drive(&mut store, &file, ops);
    }
    directory
}

#[test]
fn logs_and_segments_are_found() {
    let data = data(false);
    assert_eq!(ls(data.path()), Ok(()));
    let stores = open_all(data.path()).unwrap();
    let logs = stores[0].logs(&Pick::default());
    assert_eq!(logs.len(), 2);
    assert_eq!(stores[0].segments(logs[0].0).len(), 2);
    let one = Pick {
        topic: Some("orders".into()),
        partition: Some(1),
    };
    assert_eq!(stores[0].logs(&one).len(), 1);
    assert_eq!(check(data.path(), &Pick::default()), Ok(()));
}

#[test]
fn what_is_exported_is_what_was_stored() {
    for checkpointed in [false, true] {
        exports_what_was_stored(&data(checkpointed));
    }
}

fn exports_what_was_stored(data: &tempfile::TempDir) {
    let out = tempfile::tempdir().unwrap();
    assert_eq!(export(data.path(), out.path(), &Pick::default()), Ok(()));
    let mut offsets = Vec::new();
    for name in ["00000000000000000000.log", "00000000000000000003.log"] {
        let log = fs::read(out.path().join("orders-0").join(name)).unwrap();
        for batch in record::batches(&log) {
            let (info, batch) = batch.unwrap();
            assert!(record::check_crc(batch));
            offsets.push((info.base_offset, info.records));
        }
    }
    assert_eq!(offsets, [(0, 3), (3, 3)]);
    let both = fs::read(out.path().join("orders-1/00000000000000000000.log")).unwrap();
    assert_eq!(record::batches(&both).count(), 2);
    // What is there already is not overwritten.
    assert!(export(data.path(), out.path(), &Pick::default()).is_err());
    let none = Pick {
        topic: Some("nothing".into()),
        partition: None,
    };
    assert!(
        export(data.path(), out.path(), &none)
            .unwrap_err()
            .contains("nothing to export")
    );
}

#[test]
fn a_running_brokers_directory_is_left_alone() {
    let data = data(false);
    let broker = File::create(data.path().join(LOCK_FILE)).unwrap();
    assert_eq!(ls(data.path()), Ok(()));
    broker.try_lock().unwrap();
    assert!(ls(data.path()).unwrap_err().contains("stop it first"));
}

#[test]
fn damage_is_found() {
    let data = data(true);
    assert_eq!(check(data.path(), &Pick::default()), Ok(()));
    let stores = open_all(data.path()).unwrap();
    let (log, _) = stores[0].logs(&Pick::default())[1].clone();
    let (pos, ..) = stores[0].store.extents(log, Offset(0))[0];
    let path = data.path().join("store-0");
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(b"rot", pos + 100).unwrap();
    let found = check(data.path(), &Pick::default());
    assert!(found.unwrap_err().contains("1 segments are damaged"));
    let other = Pick {
        topic: None,
        partition: Some(0),
    };
    assert_eq!(check(data.path(), &other), Ok(()));
    let out = tempfile::tempdir().unwrap();
    let exported = export(data.path(), out.path(), &Pick::default());
    assert!(exported.unwrap_err().contains("is damaged at byte 0"));
}

#[test]
fn directories_without_a_store_are_named() {
    let empty = tempfile::tempdir().unwrap();
    assert!(
        ls(empty.path())
            .unwrap_err()
            .contains("holds no store-<n> file")
    );
    fs::write(empty.path().join("store-0"), b"not a store").unwrap();
    assert!(ls(empty.path()).unwrap_err().contains("store-0"));
    assert!(ls(&empty.path().join("missing")).is_err());
    assert_eq!(store_id("store-12"), Some(StoreId(12)));
    assert_eq!(store_id("store-x"), None);
}
