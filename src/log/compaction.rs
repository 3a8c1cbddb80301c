//! One pass of compaction over a log. First the keys of what is dirty are gathered, with the offset of the newest
//! record of each, as far as there is memory for them. Then the log is gone through from its beginning, a group of
//! segments after the other, and of each key only what is not older than that is written anew; what was written takes
//! the place of the group. A pass that ends in the middle leaves groups that are cleaned and others that are not.
//!
//! A tombstone stays until `delete.retention.ms` have gone by since a pass has met it, and as long as anything older
//! of its key may still be there.

use bytes::Bytes;

use super::clean::{CleanSegment, CleaningGroup, Dirt};
use super::{CompactionConfig, Log, NewestOffsets};
use crate::base::limits::COMPACTION_OPEN_BYTES_MAX;
use crate::base::{LeaderEpoch, Now, Offset};
use crate::record::{
    BatchError, BatchInfo, KeyWalk, KeyedRecord, Thinned, Thinning, check_crc, emptied, parse,
};
use crate::store::{FlushSeq, Store};

/// See the module.
#[derive(Debug)]
pub struct CompactionPass {
    config: CompactionConfig,
    now_ms: i64,
    keys_bytes_max: usize,
    keys: NewestOffsets,
    /// Keys are gathered up to here, or are to be.
    keys_to: Offset,
    /// Where the last group ends.
    to: Offset,
    /// The first offset that was not looked at in this phase.
    next: Offset,
    phase: Phase,
    /// Something older of a key may be left in what was gone through so far.
    leaves_older: bool,
    /// Where the last tombstone was that went, and one more.
    tombstones: Offset,
    /// Bytes of groups, before and after.
    pub bytes: (u64, u64),
}

#[derive(Debug)]
enum Phase {
    Keys(Option<KeyWalk>),
    /// Before a group.
    Between,
    Group(Box<Writing>),
    Over,
}

/// A group while what is left of it is written.
#[derive(Debug)]
struct Writing {
    group: CleaningGroup,
    segment: CleanSegment,
    thinning: Option<Thinning>,
    /// The last batch that was left out.
    left_out: Option<BatchInfo>,
}

/// What has to be done next.
#[derive(Debug, PartialEq, Eq)]
pub enum PassNeeds {
    /// The batches from this offset on are to be [looked at](CompactionPass::look).
    Batches(Offset),
    /// What is left of the next group is about to be written: its base offset.
    Begin(Offset),
    /// This is to be written, as a batch that stays.
    Write(KeptBatch),
    /// What is left of a group is written: when that is durable, [it ends](CompactionPass::end_group).
    End,
    /// Nothing.
    Nothing,
}

/// A batch that stays, and what is to be stamped on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptBatch {
    /// All of it.
    pub batch: Bytes,
    /// Its base offset.
    pub base_offset: Offset,
    /// The epoch that wrote it.
    pub epoch: LeaderEpoch,
}

/// How far a batch was looked at.
#[derive(Debug, PartialEq, Eq)]
pub enum LookedAt {
    /// There is more: the same batch again.
    Part,
    /// All of it, and it is to be written, or nothing of it.
    All(Option<KeptBatch>),
    /// It comes behind what this phase is about.
    Beyond,
}

impl CompactionPass {
    /// A pass over a log that is [dirty enough](Log::dirt), with so much memory for keys, and for those of one batch
    /// more.
    #[must_use]
    pub fn begin(log: &Log, now: Now, keys_bytes_max: usize) -> Option<Self> {
        let Dirt { from, to, .. } = log.dirt(now)?;
        Some(Self {
            config: log.config().compaction?,
            now_ms: now.wall_ms,
            keys_bytes_max,
            keys: NewestOffsets::default(),
            keys_to: to,
            to,
            next: from,
            phase: Phase::Keys(None),
            leaves_older: false,
            tombstones: Offset(0),
            bytes: (0, 0),
        })
    }

    /// The keys that were gathered, of a pass that is over: to be let go bit by bit.
    pub fn take_keys(&mut self) -> NewestOffsets {
        std::mem::take(&mut self.keys)
    }

    /// What has to be done next.
    pub fn needs(&mut self, log: &Log) -> PassNeeds {
        loop {
            match &mut self.phase {
                Phase::Keys(_) if self.next < self.keys_to => return PassNeeds::Batches(self.next),
                Phase::Keys(_) => {
                    let (start, end) = log.cleaning_bounds(self.keys_to);
                    (self.next, self.to) = (start, self.to.min(end));
                    self.phase = Phase::Between;
                }
                Phase::Between => {
                    let group = log.cleaning_group(self.next, self.to);
                    let begun = group.and_then(|group| {
                        let segment = log.begin_clean(&group)?;
                        Some((group, segment))
                    });
                    let Some((group, segment)) = begun else {
                        self.phase = Phase::Over;
                        return PassNeeds::Nothing;
                    };
                    let base = group.base;
                    self.phase = Phase::Group(Box::new(Writing {
                        group,
                        segment,
                        thinning: None,
                        left_out: None,
                    }));
                    return PassNeeds::Begin(base);
                }
                Phase::Group(writing) if self.next < writing.group.end => {
                    return PassNeeds::Batches(self.next);
                }
                Phase::Group(writing) => {
                    // A segment has a batch.
                    let Some(info) = writing
                        .left_out
                        .take()
                        .filter(|_| writing.segment.is_empty())
                    else {
                        return PassNeeds::End;
                    };
                    return match writing.keep(emptied(&info)) {
                        Ok(kept) => PassNeeds::Write(kept),
                        Err(_) => PassNeeds::End,
                    };
                }
                Phase::Over => return PassNeeds::Nothing,
            }
        }
    }

    /// Where this phase ends.
    fn limit(&self) -> Offset {
        match &self.phase {
            Phase::Keys(_) => self.keys_to,
            Phase::Group(writing) => writing.group.end,
            Phase::Between | Phase::Over => Offset(0),
        }
    }

    /// Nothing is to be read any more before where this phase ends.
    pub fn nothing_more(&mut self) {
        self.next = self.next.max(self.limit());
    }

    /// Looks at a batch, the first one that ends at or behind what [it needs](Self::needs), until `work` is used up,
    /// counted in bytes decompressed.
    ///
    /// # Errors
    /// It is no batch, its CRC is wrong, or what stays is too long for a segment: the log is to be left as it is.
    pub fn look(
        &mut self,
        log: &Log,
        batch: &Bytes,
        work: &mut usize,
    ) -> Result<LookedAt, BatchError> {
        let info = parse(batch)?;
        if info.base_offset >= self.limit().0 {
            self.nothing_more();
            return Ok(LookedAt::Beyond);
        }
        let looked = match &mut self.phase {
            Phase::Keys(walk) => Self::gather(&mut self.keys, walk, batch, work)?,
            Phase::Group(_) => self.thin(log, &info, batch, work)?,
            Phase::Between | Phase::Over => LookedAt::Beyond,
        };
        if let LookedAt::All(_) = looked {
            self.next = Offset(info.last_offset() + 1);
            if matches!(self.phase, Phase::Keys(_)) && self.keys.bytes() >= self.keys_bytes_max {
                self.keys_to = self.keys_to.min(self.next);
            }
        }
        Ok(looked)
    }

    /// Gathers the keys of a batch.
    fn gather(
        keys: &mut NewestOffsets,
        walk: &mut Option<KeyWalk>,
        batch: &Bytes,
        work: &mut usize,
    ) -> Result<LookedAt, BatchError> {
        let begun = match walk.take() {
            Some(walk) => Ok(walk),
            None => begin(batch, work, KeyWalk::new),
        };
        let looked = begun.and_then(|mut walk| {
            let all = walk.go_on(work, &mut |record, _, _| {
                if let Some(key) = record.key {
                    keys.note(key, Offset(record.offset));
                }
            })?;
            Ok((all, walk))
        });
        match looked {
            Ok((false, begun)) => *walk = Some(begun),
            Ok((true, _)) => return Ok(LookedAt::All(None)),
            Err(BatchError::Crc) => return Err(BatchError::Crc),
            // It stays as it is, and its keys are nobody's newest.
            Err(_) => return Ok(LookedAt::All(None)),
        }
        Ok(LookedAt::Part)
    }

    /// Takes out of a batch what is not the newest of its key.
    fn thin(
        &mut self,
        log: &Log,
        info: &BatchInfo,
        batch: &Bytes,
        work: &mut usize,
    ) -> Result<LookedAt, BatchError> {
        let Phase::Group(writing) = &mut self.phase else {
            return Ok(LookedAt::Beyond);
        };
        let begun = match writing.thinning.take() {
            Some(thinning) => Ok(thinning),
            None => begin(batch, work, Thinning::new),
        };
        let is_past = info.delete_horizon_ms().is_some_and(|at| at < self.now_ms);
        let goes = is_past && !self.leaves_older;
        let (keys, keys_to, tombstones) = (&self.keys, self.keys_to, &mut self.tombstones);
        let mut keep = |record: &KeyedRecord<'_>| {
            let Some(key) = record.key else {
                return false;
            };
            let offset = Offset(record.offset);
            if !keys.is_newest(key, offset) {
                return false;
            }
            // Of one behind that nobody knows what is older.
            if record.is_tombstone && goes && offset < keys_to {
                *tombstones = offset.plus(1).max(*tombstones);
                return false;
            }
            true
        };
        let horizon = self.now_ms.saturating_add(self.config.delete_retention_ms);
        let looked = begun.and_then(|mut thinning| match thinning.go_on(work, &mut keep)? {
            false => {
                writing.thinning = Some(thinning);
                Ok(None)
            }
            true => thinning.finish(horizon).map(Some),
        });
        let kept = match looked {
            Ok(None) => return Ok(LookedAt::Part),
            Ok(Some(_)) if info.is_control() => batch.clone(),
            Ok(Some(Thinned::Whole)) => batch.clone(),
            Ok(Some(Thinned::Part(part))) => part,
            Ok(Some(Thinned::Nothing)) if log.is_last_of_producer(info) => emptied(info),
            Ok(Some(Thinned::Nothing)) => {
                writing.left_out = Some(*info);
                return Ok(LookedAt::All(None));
            }
            Err(BatchError::Crc) => return Err(BatchError::Crc),
            Ok(Some(Thinned::Unthinned)) | Err(_) => {
                self.leaves_older = true;
                batch.clone()
            }
        };
        Ok(LookedAt::All(Some(writing.keep(kept)?)))
    }

    /// What is left of a group takes its place; all of it is durable. False if the log has changed meanwhile: then
    /// what was written is no good, and the pass is over.
    pub fn end_group(&mut self, log: &mut Log, store: &mut Store) -> Option<FlushSeq> {
        let Phase::Group(writing) = std::mem::replace(&mut self.phase, Phase::Over) else {
            return None;
        };
        let Writing { group, segment, .. } = *writing;
        // As long as others are to come, nothing says that they are clean.
        let cleaned = match group.end >= self.to {
            true => self.keys_to,
            false => Offset(0),
        };
        let after = segment.bytes();
        let flush = log.end_cleaning(&group, segment, (cleaned, self.tombstones), store)?;
        self.bytes.0 += group.bytes();
        self.bytes.1 += after;
        (self.phase, self.next) = (Phase::Between, group.end);
        Some(flush)
    }
}

/// Begins with a batch, of which nothing was looked at.
fn begin<T>(
    batch: &Bytes,
    work: &mut usize,
    new: impl FnOnce(&Bytes, usize) -> Result<T, BatchError>,
) -> Result<T, BatchError> {
    /// Bytes that go into a checksum in the time of one decompressed.
    const CHECKED_PER_WORK: usize = 16;
    *work = work.saturating_sub(batch.len() / CHECKED_PER_WORK);
    if !check_crc(batch) {
        return Err(BatchError::Crc);
    }
    new(batch, COMPACTION_OPEN_BYTES_MAX)
}

impl Writing {
    fn keep(&mut self, batch: Bytes) -> Result<KeptBatch, BatchError> {
        let info = parse(&batch)?;
        match self.segment.add(&info) {
            true => Ok(KeptBatch {
                batch,
                base_offset: Offset(info.base_offset),
                epoch: LeaderEpoch(info.leader_epoch),
            }),
            false => Err(BatchError::TooLarge),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::testing::{Fixture, START_MS};
    use super::super::{LogConfig, Position};
    use super::*;
    use crate::base::Rng;
    use crate::record::{BatchBuilder, Codec, records};

    const CONFIG: CompactionConfig = CompactionConfig {
        min_dirty_millionths: 0,
        min_lag_ms: 0,
        max_lag_ms: i64::MAX,
        delete_retention_ms: 1000,
    };

    fn fixture() -> Fixture {
        let config = LogConfig {
            segment_bytes: 3000,
            retention_ms: -1,
            compaction: Some(CONFIG),
            ..LogConfig::default()
        };
        Fixture::new(config, 0)
    }

    /// Records of these keys; a value of `None` is a tombstone.
    fn batch(records: &[(&str, Option<&str>)], codec: Codec, now_ms: i64) -> BatchBuilder {
        let mut builder = BatchBuilder::new(codec, now_ms);
        for (key, value) in records {
            builder.push(now_ms, Some(key.as_bytes()), value.map(str::as_bytes), &[]);
        }
        builder
    }

    impl Fixture {
        fn produce(&mut self, builder: BatchBuilder) -> Offset {
            let batch = builder.build();
            let info = crate::record::validate_produced(&batch).unwrap();
            let appended = self
                .log
                .append(self.now, batch, &info, &mut self.disk.store);
            appended.unwrap().base_offset
        }

        fn put(&mut self, records: &[(&str, Option<&str>)]) -> Offset {
            let now_ms = self.now.wall_ms;
            self.produce(batch(records, Codec::None, now_ms))
        }

        fn roll(&mut self) {
            self.log.roll(self.now, &mut self.disk.store);
            self.settle();
        }

        /// A pass, as a driver makes it; false if there is nothing to do.
        fn compact(&mut self, keys_bytes_max: usize) -> bool {
            self.compact_until(keys_bytes_max, usize::MAX)
        }

        /// One that is left after so many groups.
        fn compact_until(&mut self, keys_bytes_max: usize, mut groups: usize) -> bool {
            let Some(mut pass) = CompactionPass::begin(&self.log, self.now, keys_bytes_max) else {
                return false;
            };
            let id = self.log.id();
            loop {
                match pass.needs(&self.log) {
                    PassNeeds::Nothing => break,
                    PassNeeds::Begin(base) => {
                        let label = self.log.label().clone();
                        self.disk.store.begin_cleaning(id, label, base);
                    }
                    PassNeeds::Write(kept) => self.keep(kept),
                    PassNeeds::End => {
                        self.settle();
                        if groups == 0 {
                            return true;
                        }
                        groups -= 1;
                        let ended = pass.end_group(&mut self.log, &mut self.disk.store);
                        assert!(ended.is_some());
                        self.log.check_live();
                        self.disk.store.invariants();
                    }
                    PassNeeds::Batches(offset) => {
                        let batches = self.disk.batches();
                        let ends = |batch: &&Bytes| parse(batch).unwrap().last_offset() >= offset.0;
                        let Some(batch) = batches.iter().find(ends) else {
                            pass.nothing_more();
                            continue;
                        };
                        // As little at a time as there is.
                        loop {
                            match pass.look(&self.log, batch, &mut 1).unwrap() {
                                LookedAt::Part => {}
                                LookedAt::All(Some(kept)) => break self.keep(kept),
                                LookedAt::All(None) | LookedAt::Beyond => break,
                            }
                        }
                    }
                }
            }
            self.settle();
            true
        }

        fn keep(&mut self, kept: KeptBatch) {
            let KeptBatch {
                batch,
                base_offset,
                epoch,
            } = kept;
            let (id, store) = (self.log.id(), &mut self.disk.store);
            store.append_cleaned(id, batch, base_offset, epoch).unwrap();
        }

        /// Every record that is there: offset, key, value.
        fn all(&self) -> Vec<(i64, String, Option<String>)> {
            let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
            let batches = self.disk.batches();
            let all = batches.iter().flat_map(|b| records(b, 1 << 20).unwrap());
            all.map(|record| {
                let record = record.unwrap();
                (
                    record.offset,
                    text(record.key.unwrap()),
                    record.value.map(text),
                )
            })
            .collect()
        }

        fn offsets(&self) -> Vec<i64> {
            self.all().into_iter().map(|record| record.0).collect()
        }
    }

    #[test]
    fn of_each_key_the_newest_record_stays_where_it_was() {
        let mut f = fixture();
        f.put(&[("a", Some("1")), ("b", Some("1")), ("c", Some("1"))]);
        f.put(&[("a", Some("2"))]);
        f.roll();
        f.put(&[("b", Some("2")), ("d", Some("1"))]);
        f.roll();
        f.put(&[("a", Some("3"))]);
        f.settle();
        assert!(f.compact(1 << 20));
        // What is in the active segment replaces nothing yet.
        assert_eq!(f.offsets(), [2, 3, 4, 5, 6]);
        assert_eq!(f.log.segment_count(), 2, "small ones become one");
        assert_eq!((f.log.start_offset().0, f.log.end_offset().0), (0, 7));
        assert!(!f.compact(1 << 20), "nothing is dirty");
        let before = f.log.state();
        f.restart();
        assert_eq!(f.log.state(), before);
        f.file();
        f.restart();
        assert_eq!(f.log.state(), before);
        assert_eq!(f.offsets(), [2, 3, 4, 5, 6]);
        assert_eq!(f.read_bases(0, 1 << 20), [0, 3, 4, 6]);
        assert_eq!(
            f.read_bases(1, 1 << 20),
            [0, 3, 4, 6],
            "in a gap comes what follows"
        );
        f.roll();
        assert!(f.compact(1 << 20));
        assert_eq!(f.offsets(), [2, 4, 5, 6]);
    }

    #[test]
    fn tombstones_stay_for_a_while_and_then_go() {
        let mut f = fixture();
        f.put(&[("a", Some("1")), ("b", Some("1"))]);
        f.put(&[("a", None)]);
        f.roll();
        f.put(&[("x", Some("1"))]);
        f.roll();
        assert!(f.compact(1 << 20));
        assert_eq!(f.offsets(), [1, 2, 3]);
        assert_eq!(f.log.tombstones_removed_before(), Offset(0));
        let dirty = |f: &mut Fixture, later_ms| {
            f.now.wall_ms += later_ms;
            f.put(&[("y", Some("1"))]);
            f.roll();
            assert!(f.compact(1 << 20));
            f.log.tombstones_removed_before().0
        };
        assert_eq!(dirty(&mut f, 1000), 0);
        assert_eq!(dirty(&mut f, 1), 3);
        assert_eq!(f.offsets(), [1, 3, 5]);
        f.restart();
        assert_eq!(f.log.tombstones_removed_before().0, 3);
    }

    #[test]
    fn nothing_is_touched_before_it_is_time() {
        let mut f = fixture();
        let set = |f: &mut Fixture, change: &dyn Fn(&mut CompactionConfig)| {
            let mut config = *f.log.config();
            let mut compaction = CONFIG;
            change(&mut compaction);
            config.compaction = Some(compaction);
            f.log.set_config(config);
            f.log.dirt(f.now).map(|dirt| (dirt.from.0, dirt.to.0))
        };
        f.put(&[("a", Some("1"))]);
        f.roll();
        f.put(&[("a", Some("2"))]);
        assert_eq!(set(&mut f, &|_| {}), Some((0, 1)));
        assert_eq!(set(&mut f, &|c| c.min_lag_ms = 10), None);
        f.now.wall_ms += 10;
        assert_eq!(set(&mut f, &|c| c.min_lag_ms = 10), Some((0, 1)));
        assert_eq!(set(&mut f, &|c| c.min_dirty_millionths = 1_000_000), None);
        let overdue = |c: &mut CompactionConfig| {
            c.min_dirty_millionths = 1_000_000;
            c.max_lag_ms = 9;
        };
        assert_eq!(set(&mut f, &overdue), Some((0, 1)));
        let mut config = *f.log.config();
        config.compaction = None;
        f.log.set_config(config);
        assert_eq!(f.log.dirt(f.now), None);
    }

    #[test]
    fn the_last_batch_of_a_producer_stays_emptied() {
        let mut f = fixture();
        let idempotent = |sequence| {
            let now_ms = START_MS;
            batch(&[("a", Some("1"))], Codec::Lz4, now_ms).producer(9, 0, sequence)
        };
        f.produce(idempotent(0));
        f.produce(idempotent(1));
        f.put(&[("a", Some("2"))]);
        f.roll();
        assert!(f.compact(1 << 20));
        assert_eq!(f.offsets(), [2]);
        let batches: Vec<_> = f.disk.batches().iter().map(|b| parse(b).unwrap()).collect();
        let emptied = (
            batches[0].base_offset,
            batches[0].records,
            batches[0].base_sequence,
        );
        assert_eq!((batches.len(), emptied), (2, (1, 0, 1)));
        let again = idempotent(1).build();
        let info = crate::record::validate_produced(&again).unwrap();
        let again = f
            .log
            .append(f.now, again, &info, &mut f.disk.store)
            .unwrap();
        assert_eq!((again.base_offset.0, again.flush), (1, None), "it is known");
    }

    #[test]
    fn memory_for_a_few_keys_cleans_a_part_at_a_time() {
        let mut f = fixture();
        for n in 0..20 {
            let key = format!("key-{}", n % 10);
            f.put(&[(&key, Some("1"))]);
        }
        f.roll();
        let mut passes = 0;
        while f.compact(3 * 70) {
            passes += 1;
            assert!(passes < 20);
        }
        assert!(passes > 3, "{passes}");
        assert_eq!(f.offsets(), (10..20).collect::<Vec<_>>());
    }

    /// A log that is compacted, cut back, dropped and restarted at random has what a map has.
    #[test]
    fn nothing_but_what_is_superseded_is_lost() {
        for seed in 0..12 {
            let mut rng = Rng::new(seed);
            let mut f = fixture();
            let mut values: BTreeMap<String, (i64, Option<String>)> = BTreeMap::new();
            let mut written: BTreeMap<i64, (String, Option<String>)> = BTreeMap::new();
            for step in 0..60 {
                match rng.below(10) {
                    0..5 => {
                        let list: Vec<(String, Option<String>)> = (0..1 + rng.below(4))
                            .map(|_| {
                                let value =
                                    format!("{step}-{}", "v".repeat(rng.below(300) as usize));
                                (
                                    format!("k{}", rng.below(12)),
                                    rng.chance(3, 4).then_some(value),
                                )
                            })
                            .collect();
                        let refs: Vec<_> = list
                            .iter()
                            .map(|(k, v)| (k.as_str(), v.as_deref()))
                            .collect();
                        let codec = Codec::from_id(rng.below(5) as u8).unwrap();
                        let base = f.produce(batch(&refs, codec, f.now.wall_ms));
                        for (n, (key, value)) in list.into_iter().enumerate() {
                            let offset = base.0 + n as i64;
                            values.insert(key.clone(), (offset, value.clone()));
                            written.insert(offset, (key, value));
                        }
                        f.settle();
                    }
                    5 => f.roll(),
                    6 => f.now.wall_ms += rng.below(1500) as i64,
                    7 => {
                        let keys = [1 << 20, 500][rng.below(2) as usize];
                        let groups = [usize::MAX, 0, 1][rng.below(3) as usize];
                        f.compact_until(keys, groups);
                        if groups < usize::MAX {
                            f.settle();
                            f.restart();
                            let left: Vec<_> = f.disk.store.cleanings().collect();
                            for log in left {
                                f.disk.store.give_up_cleaning(log);
                            }
                            f.settle();
                        }
                    }
                    8 => {
                        f.file();
                    }
                    _ => {
                        let before = (f.all(), f.log.dirt(f.now));
                        f.restart();
                        assert_eq!((f.all(), f.log.dirt(f.now)), before, "seed {seed}");
                    }
                }
                f.log.check_live();
                f.disk.store.invariants();
            }
            let all = f.all();
            assert!(all.is_sorted_by(|a, b| a.0 < b.0));
            let mut newest: BTreeMap<&str, (i64, Option<&str>)> = BTreeMap::new();
            for (offset, key, value) in &all {
                assert_eq!(written[offset], (key.clone(), value.clone()), "seed {seed}");
                newest.insert(key, (*offset, value.as_deref()));
            }
            for (key, (offset, value)) in &values {
                match (newest.get(key.as_str()), value) {
                    (Some(found), _) => {
                        assert_eq!(*found, (*offset, value.as_deref()), "seed {seed}")
                    }
                    (None, value) => assert_eq!(*value, None, "seed {seed}: {key} is lost"),
                }
            }
            let end = f.log.high_watermark();
            let at = Position {
                offset: end,
                ..f.log.high_watermark
            };
            assert!(f.log.is_place(&at));
        }
    }
}
