//! A store made by the store's own code, written to a file, looked into from outside.

use std::os::unix::fs::FileExt;

use millrace::base::TopicId;
use millrace::base::{LeaderEpoch, LogId, Now, Offset, SegmentId};
use millrace::record::{BatchBuilder, Codec};
use millrace::store::{DiskOp, LogLabel};

use super::*;

/// The verdicts alone.
fn ls(directory: &Path) -> Result<(), String> {
    super::ls(directory).and_then(|seen| seen.verdict)
}
fn check(directory: &Path, pick: &Pick) -> Result<(), String> {
    super::check(directory, pick).and_then(|seen| seen.verdict)
}
fn export(directory: &Path, out: &Path, pick: &Pick) -> Result<(), String> {
    super::export(directory, out, pick).and_then(|seen| seen.verdict)
}
fn salvage(directory: &Path, out: &Path, pick: &Pick) -> Result<(), String> {
    super::salvage(directory, out, pick).and_then(|seen| seen.verdict)
}

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

/// Logs of partitions of one topic, in one store of a data directory.
struct Data {
    directory: tempfile::TempDir,
    file: File,
    store: Store,
    logs: Vec<Log>,
}

impl Data {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = File::create(directory.path().join("store-0")).unwrap();
        let config = StoreConfig {
            journal_bytes: 1 << 20,
            initial_bytes: 32 << 20,
            ..StoreConfig::default()
        };
        let (mut store, ops) = Store::format(StoreId(0), config, 7);
        for op in ops {
            if let DiskOp::Write { pos, data, .. } = op {
                file.write_all_at(&data, pos).unwrap();
            }
        }
        drive(&mut store, &file, Vec::new());
        Self {
            directory,
            file,
            store,
            logs: Vec::new(),
        }
    }

    /// Makes the next partition.
    fn create(&mut self) -> usize {
        let partition = self.logs.len();
        let label = LogLabel {
            topic: "orders".into(),
            topic_id: TopicId([9; 16]),
            partition: partition as i32,
        };
        let (id, config) = (LogId(10 + partition as u64), LogConfig::default());
        let log = Log::create(id, label, config, Now::default(), &mut self.store);
        self.logs.push(log);
        partition
    }

    /// Appends three records to a partition at this offset.
    fn append(&mut self, partition: usize, base: i64) {
        let mut builder = BatchBuilder::new(Codec::None, 1000);
        for n in 0..3 {
            builder.push(1000 + base + n, None, Some(&[b'v'; 3000]), &[]);
        }
        let mut batch = builder.build().to_vec();
        record::stamp(&mut batch, Offset(base), LeaderEpoch(0));
        let (log, store) = (&mut self.logs[partition], &mut self.store);
        let appended = log.append_replica(Now::default(), &batch.into(), LeaderEpoch(0), store);
        appended.unwrap();
    }

    fn roll(&mut self, partition: usize) {
        self.logs[partition].roll(Now::default(), &mut self.store);
    }

    fn flush(&mut self) {
        drive(&mut self.store, &self.file, Vec::new());
    }

    fn checkpoint(&mut self) {
        let mut ops = Vec::new();
        self.store.begin_checkpoint(&mut ops);
        for log in &self.logs {
            self.store.give_state(log.id(), log.state());
        }
        self.store.checkpoint_advance(&mut ops);
        drive(&mut self.store, &self.file, ops);
    }
}

/// A data directory with one store of two partitions: one of two segments, one of one. With a
/// checkpoint everything lies in chunks, without one everything is in the journal.
fn data(checkpointed: bool) -> tempfile::TempDir {
    let mut data = Data::new();
    for _ in 0..2 {
        let partition = data.create();
        data.append(partition, 0);
        if partition == 0 {
            data.roll(partition);
        }
        data.append(partition, 3);
        data.flush();
    }
    if checkpointed {
        data.checkpoint();
    }
    data.directory
}

fn opened(data: &Path) -> Reopened {
    let entry = open_all(data).unwrap().swap_remove(0);
    entry.opened.unwrap()
}

#[test]
fn logs_and_segments_are_found() {
    let data = data(false);
    assert_eq!(ls(data.path()), Ok(()));
    let stores = open_all(data.path()).unwrap();
    let (_, logs) = stores[0].logs(&Pick::default());
    assert_eq!(logs.len(), 2);
    assert_eq!(logs[0].segments.len(), 2);
    let one = Pick {
        topic: Some("orders".into()),
        partition: Some(1),
    };
    assert_eq!(stores[0].logs(&one).1.len(), 1);
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

/// Base offsets of what was written of a partition.
fn offsets(out: &Path, partition: &str) -> Vec<i64> {
    let mut logs: Vec<PathBuf> = fs::read_dir(out.join(partition))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "log"))
        .collect();
    logs.sort();
    let bytes = logs.iter().flat_map(|path| fs::read(path).unwrap());
    let bytes: Vec<u8> = bytes.collect();
    record::batches(&bytes)
        .map(|batch| batch.unwrap().0.base_offset)
        .collect()
}

fn rot(data: &Path, pos: u64) {
    overwrite(data, pos, b"rot");
}

fn overwrite(data: &Path, pos: u64, bytes: &[u8]) {
    let path = data.join("store-0");
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(bytes, pos).unwrap();
}

#[test]
fn damage_is_found_and_passed() {
    let data = data(true);
    assert_eq!(check(data.path(), &Pick::default()), Ok(()));
    let store = opened(data.path()).store;
    let (pos, ..) = store.extents(LogId(11), SegmentId::FIRST)[0];
    // In the first batch of two, its length included.
    rot(data.path(), pos + 9);
    let found = check(data.path(), &Pick::default());
    assert!(found.unwrap_err().contains("1 segments are damaged"));
    let other = Pick {
        topic: None,
        partition: Some(0),
    };
    assert_eq!(check(data.path(), &other), Ok(()));
    for exporting in [export, salvage] {
        let out = tempfile::tempdir().unwrap();
        assert!(exporting(data.path(), out.path(), &Pick::default()).is_err());
        assert_eq!(offsets(out.path(), "orders-0"), [0, 3]);
        assert_eq!(offsets(out.path(), "orders-1"), [3]);
    }
    let log = store.remains().swap_remove(1);
    let file = File::open(data.path().join("store-0")).unwrap();
    let out = tempfile::tempdir().unwrap();
    let written = LogWriter::write(&log, None, &file, out.path()).unwrap();
    assert_eq!(written.missing, ["0..2"]);
    assert_eq!(
        (written.first, written.last, written.records),
        (Some(3), 5, 3)
    );
}

/// One store refused, the other whole: every command serves the whole one, and says that it is not all.
#[test]
fn one_damaged_store_does_not_hide_another() {
    let data = data(false);
    fs::write(data.path().join("store-1"), vec![0; 1 << 16]).unwrap();
    assert!(ls(data.path()).unwrap_err().contains("1 of 2 stores"));
    let checked = check(data.path(), &Pick::default());
    assert!(checked.unwrap_err().contains("1 of 2 stores"));
    for exporting in [export, salvage] {
        let out = tempfile::tempdir().unwrap();
        assert!(exporting(data.path(), out.path(), &Pick::default()).is_err());
        assert_eq!(offsets(out.path(), "orders-0"), [0, 3]);
        assert_eq!(offsets(out.path(), "orders-1"), [0, 3]);
    }
}

#[test]
fn what_is_readable_of_a_refused_store_is_salvaged() {
    // The record of the first partition has rotted, the one of the second vouches for it.
    let data = data(false);
    rot(data.path(), 16 * 4096 + 60);
    let image = fs::read(data.path().join("store-0")).unwrap();
    let refused = check(data.path(), &Pick::default());
    assert!(refused.unwrap_err().contains("salvage"));
    let out = tempfile::tempdir().unwrap();
    let salvaged = salvage(data.path(), out.path(), &Pick::default());
    assert!(salvaged.unwrap_err().contains("damaged"));
    assert_eq!(offsets(out.path(), "orders-1"), [0, 3]);
    assert!(!out.path().join("orders-0").exists());
    // Nothing is changed.
    assert!(fs::read(data.path().join("store-0")).unwrap() == image);
    assert_eq!(
        salvage(
            self::data(false).path(),
            &out.path().join("whole"),
            &Pick::default()
        ),
        Ok(())
    );
}

#[test]
fn without_a_checkpoint_the_journal_speaks() {
    let data = data(true);
    let extents = opened(data.path()).store.checkpoint_extents();
    for (pos, _) in extents {
        rot(data.path(), pos + 9);
    }
    assert!(ls(data.path()).is_err());
    let out = tempfile::tempdir().unwrap();
    assert!(salvage(data.path(), out.path(), &Pick::default()).is_err());
    for partition in ["orders-0", "orders-1"] {
        assert_eq!(offsets(out.path(), partition), [0, 3]);
    }
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
    assert!(ls(empty.path()).unwrap_err().contains("1 of 1 stores"));
    assert!(ls(&empty.path().join("missing")).is_err());
    assert_eq!(store_id("store-12"), Some(StoreId(12)));
    assert_eq!(store_id("store-x"), None);
}

/// Records that were compacted away, or never written here, are no damage: before a segment's first batch, between
/// two, behind the last one.
#[test]
fn offsets_that_were_left_out_are_not_missing() {
    for checkpointed in [false, true] {
        let mut data = Data::new();
        data.create();
        for base in [5, 8, 20] {
            data.append(0, base);
        }
        data.roll(0);
        for base in [40, 43, 60] {
            data.append(0, base);
        }
        data.flush();
        if checkpointed {
            data.checkpoint();
        }
        let directory = data.directory.path();
        assert_eq!(check(directory, &Pick::default()), Ok(()));
        for exporting in [export, salvage] {
            let out = tempfile::tempdir().unwrap();
            assert_eq!(exporting(directory, out.path(), &Pick::default()), Ok(()));
            assert_eq!(offsets(out.path(), "orders-0"), [5, 8, 20, 40, 43, 60]);
        }
        // What has rotted among them is missing all the same.
        if checkpointed {
            let (pos, ..) = opened(directory).store.extents(LogId(10), SegmentId::FIRST)[0];
            // In the second batch.
            rot(directory, pos + 9500);
            assert!(check(directory, &Pick::default()).is_err());
            let out = tempfile::tempdir().unwrap();
            assert!(export(directory, out.path(), &Pick::default()).is_err());
            assert_eq!(offsets(out.path(), "orders-0"), [5, 20, 40, 43, 60]);
        }
    }
}

/// Base offsets are outside of a batch's CRC. Where none was left out, one that is looks like a gap.
#[test]
fn an_offset_that_has_rotted_is_no_gap() {
    for offset in [1, 200] {
        let data = data(true);
        let (pos, ..) = opened(data.path())
            .store
            .extents(LogId(10), SegmentId::FIRST)[0];
        overwrite(data.path(), pos + 7, &[offset]);
        let checked = check(data.path(), &Pick::default());
        assert!(checked.unwrap_err().contains("1 segments are damaged"));
        let out = tempfile::tempdir().unwrap();
        assert!(export(data.path(), out.path(), &Pick::default()).is_err());
    }
}
