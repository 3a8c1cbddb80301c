//! Remarks: what a log says of itself again and again, and of which only the last word counts. One goes to the disk
//! with the next flush that is about its log, or, when the store has come to rest, with the record that says what is
//! durable; one that comes later has a record when the store has been at rest for long, unless a checkpoint was first.
//! So it costs no flush while there is something to do, some bytes for a flush and log, and nothing for logs that say
//! nothing.
//!
//! Nobody waits for a remark, and an older one has to be as true: a record that holds nothing else is about nothing,
//! and if it rots no log is damaged.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::Store;
use super::journal::{Entry, REMARK_BYTES_MAX};
use super::pending::OpenFlush;
use crate::base::LogId;
use crate::base::codec::Put;
use crate::base::limits::REMARKS_AT_REST_MAX;

impl Store {
    /// What a log remarks from now on, which is opaque and no longer than 32 bytes. It may be replayed before
    /// what has been given to the store and not begun yet, so it must not speak of that.
    pub fn remark(&mut self, log: LogId, remark: Bytes) {
        debug_assert!(remark.len() <= REMARK_BYTES_MAX, "a remark is short");
        self.forget_remark(log);
        self.remarks.insert(log, remark);
    }

    /// What a log has remarked does not hold any more, unless it is on the disk.
    pub(super) fn forget_remark(&mut self, log: LogId) {
        self.remarks.remove(&log);
        if let Some(checkpoint) = &mut self.checkpoint {
            checkpoint.remarks.remove(&log);
        }
    }

    /// How many remarks the record of a flush may hold.
    pub(super) fn remarks_of(&self, open: &OpenFlush) -> usize {
        let most = match open.items.len() {
            0 => REMARKS_AT_REST_MAX,
            items => items,
        };
        self.remarks.len().min(most)
    }

    /// Writes the remarks of these logs into a record, or, if it is about none, as many of all as it may hold.
    pub(super) fn put_remarks(&mut self, most: usize, logs: &BTreeSet<LogId>, out: &mut impl Put) {
        if most == 0 {
            return;
        }
        let chosen: Vec<LogId> = match logs.is_empty() {
            true => self.remarks.keys().copied().take(most).collect(),
            false => logs.iter().copied().collect(),
        };
        for log in chosen {
            if let Some(remark) = self.remarks.remove(&log)
                && self.map.logs.contains_key(&log)
            {
                Entry::Remark { log, remark }.encode(out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{LeaderEpoch, Offset, Rng, StoreId};
    use crate::store::tests::batch;
    use crate::store::{DiskOp, FlushSeq, LogLabel, ReplayItem, StoreConfig};

    /// A store, its file, and the bytes that its journal got.
    struct Scene {
        store: Store,
        image: Vec<u8>,
        records: usize,
    }

    impl Scene {
        fn new(logs: u64) -> Self {
            let (store, ops) = Store::format(StoreId(0), Self::config(), 1);
            let mut scene = Self {
                store,
                image: Vec::new(),
                records: 0,
            };
            scene.perform(ops);
            for log in 0..logs {
                scene
                    .store
                    .create_log(LogId(log), LogLabel::default(), Offset(0));
            }
            scene.settle();
            scene
        }

        fn config() -> StoreConfig {
            StoreConfig {
                journal_bytes: 1 << 20,
                raw: true,
                ..StoreConfig::default()
            }
        }

        fn perform(&mut self, mut ops: Vec<DiskOp>) {
            let (mut more, mut events) = (Vec::new(), Vec::new());
            while !ops.is_empty() {
                for op in ops.drain(..) {
                    if let DiskOp::Write { pos, data, .. } = &op {
                        let end = *pos as usize + data.len();
                        self.image.resize(self.image.len().max(end), 0);
                        self.image[*pos as usize..end].copy_from_slice(data);
                        self.records += usize::from(Self::config().ring().contains(pos));
                    }
                    self.store.on_disk(op.id(), Ok(()), &mut more, &mut events);
                }
                std::mem::swap(&mut ops, &mut more);
            }
        }

        /// Everything is written; how many records that took.
        fn settle(&mut self) -> usize {
            let before = self.records;
            loop {
                let mut ops = Vec::new();
                self.store.poll(&mut ops);
                if ops.is_empty() {
                    return self.records - before;
                }
                self.perform(ops);
            }
        }

        fn append(&mut self, log: u64) {
            let batch = batch(&mut Rng::new(1), 100);
            let (log, offset, epoch) = (LogId(log), Offset(0), LeaderEpoch(0));
            self.store.append_anyway(log, batch, offset, epoch);
        }

        /// The last remark of each log that a start finds, and what the store is then.
        fn found(&self) -> (Vec<(u64, Bytes)>, Store) {
            let mut found = std::collections::BTreeMap::new();
            let mut read = |pos: u64, len: usize| {
                let mut bytes = vec![0; len];
                let there = self.image.get(pos as usize..).unwrap_or(&[]);
                let n = there.len().min(len);
                bytes[..n].copy_from_slice(&there[..n]);
                Ok(Bytes::from(bytes))
            };
            let mut replay = |(log, item): (LogId, ReplayItem)| {
                if let ReplayItem::Remarked(remark) = item {
                    found.insert(log.0, remark);
                }
            };
            let (id, len) = (StoreId(0), self.image.len() as u64);
            let recovered = Store::recover(id, Self::config(), len, &mut read, &mut replay);
            (found.into_iter().collect(), recovered.unwrap().0)
        }
    }

    fn remark(n: usize) -> Bytes {
        Bytes::copy_from_slice(&(n as u64).to_be_bytes())
    }

    #[test]
    fn remarks_go_with_the_flushes_of_their_logs_and_make_none() {
        let mut scene = Scene::new(3);
        for n in 1..4 {
            scene.store.remark(LogId(1), remark(n));
            scene.store.remark(LogId(2), remark(n));
            assert_eq!(scene.settle(), 0, "a remark alone makes no flush");
            scene.append(1);
            assert_eq!(scene.settle(), 1);
            assert_eq!(scene.found().0, [(1, remark(n))]);
        }
        assert!(scene.store.lacks_proof());
        scene.store.prove();
        assert_eq!(scene.settle(), 1);
        assert_eq!(scene.found().0, [(1, remark(3)), (2, remark(3))]);
        assert!(!scene.store.lacks_proof());
        scene.store.remark(LogId(0), remark(9));
        assert!(!scene.store.lacks_proof(), "it is no reason to hurry");
        assert!(scene.store.lacks_remarks(), "at rest a remark is written");
        scene.store.prove();
        assert_eq!(scene.settle(), 1);
        assert!(!scene.store.lacks_remarks());
        assert_eq!(scene.found().0.len(), 3);
    }

    #[test]
    fn a_record_of_remarks_alone_may_rot() {
        let mut scene = Scene::new(2);
        scene.append(1);
        scene.settle();
        scene.store.prove();
        scene.settle();
        scene.store.remark(LogId(1), remark(7));
        scene.store.prove();
        scene.settle();
        let at = scene.image.len();
        assert_eq!(scene.found().0, [(1, remark(7))]);
        let last = scene.image[..at]
            .rchunks(crate::base::BLOCK)
            .position(|block| block.windows(8).any(|bytes| bytes == remark(7)));
        let block = at - (last.unwrap() + 1) * crate::base::BLOCK;
        scene.append(1);
        scene.settle();
        scene.image[block + 50] ^= 1;
        let (remarks, store) = scene.found();
        assert_eq!(store.damaged().count(), 0);
        assert!(remarks.is_empty());
        assert!(store.durable_seq() > FlushSeq(0));
    }

    /// Nothing of it gets to the disk: a start would ask what the log was.
    #[test]
    fn what_is_gone_has_no_remark() {
        let mut scene = Scene::new(2);
        let is_written = |scene: &Scene, n| scene.image.windows(8).any(|at| at == remark(n));
        scene.store.remark(LogId(1), remark(0x1717_1717));
        scene.store.delete_log(LogId(1));
        // It is in the queue still, and nobody has.
        scene.store.remark(LogId(1), remark(0x1818_1818));
        scene.store.remark(LogId(5), remark(0x1919_1919));
        scene.store.remark(LogId(0), remark(0x2020_2020));
        scene.settle();
        scene.store.prove();
        scene.settle();
        for n in [0x1717_1717, 0x1818_1818, 0x1919_1919] {
            assert!(!is_written(&scene, n));
        }
        assert!(is_written(&scene, 0x2020_2020), "what is there has one");
        assert_eq!(scene.found().0, [(0, remark(0x2020_2020))]);
        assert!(!scene.store.lacks_proof() && !scene.store.lacks_remarks());
    }

    #[test]
    fn a_store_at_rest_says_many_remarks_in_several_records() {
        let logs = 2 * REMARKS_AT_REST_MAX + 1;
        let mut scene = Scene::new(logs as u64);
        (0..logs).for_each(|log| scene.store.remark(LogId(log as u64), remark(log)));
        let mut records = 0;
        while scene.store.lacks_proof() || scene.store.lacks_remarks() {
            scene.store.prove();
            records += scene.settle();
        }
        assert_eq!(records, 3);
        assert_eq!(scene.found().0.len(), logs);
    }
}
