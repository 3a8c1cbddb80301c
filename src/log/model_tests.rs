//! Random lives of a log, compared with a list of batches after each step.

mod producer;
mod transactions;

use proptest::prelude::*;

use super::segment::SEGMENT_DELTA_MAX;
use super::testing::{Draft, Fixture, START_MS};
use super::{EndOfTransaction, Log, LogConfig, Unfit};
use crate::base::limits::{PRODUCER_BATCHES_REMEMBERED, PRODUCER_SNAPSHOTS_MAX};
use crate::base::{ErrorCode, LeaderEpoch, Now, Offset};
use crate::record::{self, Codec, TimestampType};
use crate::store::{FlushSeq, ReplayItem};
use producer::Producer;
use transactions::{Step, Transact, transact};

#[derive(Clone, Debug)]
enum Op {
    Append {
        records: usize,
        value_len: usize,
        codec: usize,
        jitter_ms: i64,
    },
    /// An idempotent producer sends its next batch, or does something wrong.
    Produce {
        id: usize,
        records: usize,
        how: How,
    },
    /// Something happens to the transaction of a producer.
    Transact {
        id: usize,
        what: Transact,
    },
    /// Those who read what is committed.
    ReadCommitted {
        at: prop::sample::Index,
        max_bytes: usize,
    },
    Settle,
    /// Begins a flush, and leaves it at that.
    Start,
    File,
    /// Forgets what makes searches short: the index as a much larger segment would have it.
    Forget,
    Read {
        at: prop::sample::Index,
        max_bytes: usize,
        at_least_one: bool,
    },
    /// What a leader pushes.
    Push {
        at: prop::sample::Index,
        max_bytes: usize,
    },
    Time {
        at: prop::sample::Index,
        off_ms: i64,
    },
    Retain {
        wait_ms: i64,
    },
    Delete {
        at: prop::sample::Index,
    },
    Epoch,
    Restart,
    Stamping(bool),
    /// What a follower appends.
    Stamped {
        records: usize,
        value_len: usize,
        gap: i64,
        newer: bool,
        /// An idempotent producer, who sent it to the leader.
        id: Option<usize>,
    },
    Truncate {
        at: prop::sample::Index,
        /// Not farther back than so many offsets.
        near: bool,
    },
    StartOver {
        at: i64,
    },
}

#[derive(Clone, Copy, Debug)]
enum How {
    Next,
    Retry(usize),
    Gap,
    NewEpoch,
    OldEpoch,
}

fn how() -> impl Strategy<Value = How> {
    prop_oneof![
        6 => Just(How::Next),
        2 => (1..8usize).prop_map(How::Retry),
        1 => Just(How::Gap),
        1 => Just(How::NewEpoch),
        1 => Just(How::OldEpoch),
    ]
}

/// How many offsets are left out before a batch: none, some, or about as many as a segment spans, and more.
fn gap() -> impl Strategy<Value = i64> {
    prop_oneof![
        6 => Just(0i64),
        4 => 0..40i64,
        1 => (-100..40i64).prop_map(|gap| SEGMENT_DELTA_MAX + gap),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        20 => (1..20usize, 0..2500usize, 0..5usize, -50..50i64).prop_map(
            |(records, value_len, codec, jitter_ms)| Op::Append {
                records,
                value_len: value_len / records,
                codec,
                jitter_ms
            }
        ),
        8 => (0..3usize, 1..4usize, how()).prop_map(|(id, records, how)| Op::Produce { id, records, how }),
        12 => (0..3usize, transact()).prop_map(|(id, what)| Op::Transact { id, what }),
        8 => (index(), 0..12_000usize).prop_map(|(at, max_bytes)| Op::ReadCommitted { at, max_bytes }),
        6 => Just(Op::Settle),
        6 => Just(Op::Start),
        3 => Just(Op::File),
        1 => Just(Op::Forget),
        12 => (index(), 0..12_000usize, any::<bool>())
            .prop_map(|(at, max_bytes, at_least_one)| Op::Read { at, max_bytes, at_least_one }),
        12 => (index(), 0..12_000usize).prop_map(|(at, max_bytes)| Op::Push { at, max_bytes }),
        5 => (index(), -20..20i64).prop_map(|(at, off_ms)| Op::Time { at, off_ms }),
        1 => (0..400i64).prop_map(|wait_ms| Op::Retain { wait_ms }),
        1 => index().prop_map(|at| Op::Delete { at }),
        1 => Just(Op::Epoch),
        1 => Just(Op::Restart),
        1 => any::<bool>().prop_map(Op::Stamping),
        4 => (1..4usize, 0..2500usize, gap(), any::<bool>(), prop::option::of(0..3usize)).prop_map(
            |(records, value_len, gap, newer, id)| Op::Stamped { records, value_len, gap, newer, id }
        ),
        3 => (index(), any::<bool>()).prop_map(|(at, near)| Op::Truncate { at, near }),
        1 => (0..300i64).prop_map(|at| Op::StartOver { at }),
    ]
}

/// A batch as the log should have it.
struct Batch {
    base: i64,
    timestamps: Vec<i64>,
    len: usize,
    epoch: i32,
    /// What makes it durable.
    flush: FlushSeq,
}

impl Batch {
    fn end(&self) -> i64 {
        self.base + self.timestamps.len() as i64
    }

    fn records(&self) -> impl Iterator<Item = (i64, i64)> + '_ {
        (self.base..).zip(self.timestamps.iter().copied())
    }
}

struct Model {
    f: Fixture,
    steps: Vec<Step>,
    batches: Vec<Batch>,
    log_start: i64,
    end: i64,
    durable: i64,
    stamping: bool,
    indexed: bool,
    /// Each with its first offset.
    epochs: Vec<(i32, i64)>,
    producers: [Producer; 3],
}

impl Model {
    fn new(tail_bytes_max: usize) -> Self {
        let config = LogConfig {
            segment_bytes: 20_000,
            segment_ms: 100,
            retention_ms: 500,
            retention_bytes: 120_000,
            ..LogConfig::default()
        };
        Self {
            f: Fixture::new(config, tail_bytes_max),
            steps: Vec::new(),
            batches: Vec::new(),
            log_start: 0,
            end: 0,
            durable: 0,
            stamping: false,
            indexed: true,
            epochs: vec![(0, 0)],
            producers: Default::default(),
        }
    }

    fn epoch(&self) -> i32 {
        self.epochs.last().map_or(-1, |last| last.0)
    }

    fn begin_epoch(&mut self, epoch: i32, start: i64) {
        if epoch > self.epoch() {
            self.epochs.retain(|known| known.1 < start);
            self.epochs.push((epoch, start));
        }
    }

    /// Some offset of the log, or one just outside.
    fn pick(&self, at: prop::sample::Index) -> i64 {
        self.log_start - 1 + at.index((self.end - self.log_start) as usize + 3) as i64
    }

    fn step(&mut self, op: &Op) {
        match op {
            Op::Append {
                records,
                value_len,
                codec,
                jitter_ms,
            } => {
                self.f.now.wall_ms += 3;
                let first = self.f.now.wall_ms + jitter_ms;
                let mut draft = Draft::plain(&[first], *value_len);
                draft.timestamps = (0..*records as i64).map(|n| first + n * 7 % 5).collect();
                draft.codec = Codec::ALL[*codec];
                let appended = self.f.append(&draft).unwrap();
                assert!(appended.flush.is_some());
                self.appended(&draft, appended.base_offset.0);
            }
            Op::Produce { id, records, how } => self.produce(*id, *records, *how),
            Op::Transact { id, what } => self.transact(10 + *id as i64, *what),
            Op::ReadCommitted { at, max_bytes } => {
                let offset = self.pick(*at);
                let read = self.f.read_committed(offset, *max_bytes);
                self.is_read(read, self.last_stable(), offset, (*max_bytes, true));
            }
            Op::Settle => {
                self.f.settle();
                self.durable = self.end;
            }
            Op::Start => self.f.disk.start(),
            Op::File => {
                self.f.file();
                self.durable = self.end;
            }
            Op::Forget => {
                self.indexed = false;
                self.f.log.forget_shortcuts();
            }
            Op::Read {
                at,
                max_bytes,
                at_least_one,
            } => {
                self.read(self.pick(*at), *max_bytes, *at_least_one);
            }
            Op::Push { at, max_bytes } => self.read_to_push(self.pick(*at), *max_bytes),
            Op::Time { at, off_ms } => self.time(self.pick(*at), *off_ms),
            Op::Retain { wait_ms } => {
                self.f.now.wall_ms += wait_ms;
                self.f.retain();
                self.retained();
            }
            Op::Delete { at } => self.delete(self.pick(*at)),
            Op::Epoch => {
                let epoch = self.epoch() + 1;
                self.begin_epoch(epoch, self.end);
                self.f
                    .log
                    .begin_epoch(LeaderEpoch(epoch), &mut self.f.disk.store);
            }
            Op::Stamped {
                records,
                value_len,
                gap,
                newer,
                id,
            } => self.stamped((*records, *value_len), *gap, *newer, *id),
            Op::Truncate { at, near } => {
                let offset = self.pick(*at);
                let newest = self
                    .f
                    .log
                    .segments
                    .len()
                    .saturating_sub(PRODUCER_SNAPSHOTS_MAX);
                let known = self.f.log.segments[newest].base.0;
                self.truncate(if *near { offset.max(known) } else { offset });
            }
            Op::StartOver { at } => {
                self.f
                    .log
                    .start_over(self.f.now, Offset(*at), &mut self.f.disk.store);
                self.f.log.check_live();
                self.started_over(*at);
            }
            Op::Restart => self.restart(),
            Op::Stamping(on) => {
                self.stamping = *on;
                let timestamp_type = match on {
                    true => TimestampType::LogAppendTime,
                    false => TimestampType::CreateTime,
                };
                let config = LogConfig {
                    timestamp_type,
                    ..*self.f.log.config()
                };
                self.f.log.set_config(config);
            }
        }
        self.compare();
    }

    fn appended(&mut self, draft: &Draft, base: i64) {
        assert_eq!(base, self.end);
        let mut timestamps = draft.timestamps.clone();
        if self.stamping {
            timestamps.fill(self.f.now.wall_ms);
        }
        self.push(draft, base, timestamps);
    }

    fn push(&mut self, draft: &Draft, base: i64, timestamps: Vec<i64>) {
        self.push_of(self.epoch(), draft, base, timestamps);
    }

    fn push_of(&mut self, epoch: i32, draft: &Draft, base: i64, timestamps: Vec<i64>) {
        self.push_len(epoch, draft.build().0.len(), base, timestamps);
    }

    fn push_len(&mut self, epoch: i32, len: usize, base: i64, timestamps: Vec<i64>) {
        // What has begun at the end has written nothing.
        let end = self.end;
        self.epochs.retain(|known| known.1 < end || known.0 > epoch);
        self.begin_epoch(epoch, base);
        self.batches.push(Batch {
            base,
            timestamps,
            len,
            epoch,
            flush: self.f.disk.store.pending_seq(),
        });
        self.end = self.batches[self.batches.len() - 1].end();
    }

    fn stamped(
        &mut self,
        (records, value_len): (usize, usize),
        gap: i64,
        newer: bool,
        id: Option<usize>,
    ) {
        let now = self.f.now.wall_ms;
        let mut draft = Draft::plain(&vec![now; records], value_len / records);
        let producer = |id: usize| {
            let producer = &self.producers[id];
            (id as i64, producer.epoch, producer.sequence)
        };
        draft.producer = id.map(producer);
        let (base, epoch) = (self.end + gap, self.epoch());
        if self.end > 0 {
            let refused = self.f.append_stamped(&draft, self.end - 1, epoch);
            assert!(matches!(refused, Err(Unfit::Overlaps { .. })));
        }
        if epoch > 0 {
            let refused = self.f.append_stamped(&draft, base, epoch - 1);
            assert!(matches!(refused, Err(Unfit::Epoch { .. })));
        }
        let epoch = epoch + i32::from(newer);
        let active = self.f.log.active();
        let (empty, span) = (
            active.batches == 0,
            base + records as i64 - 1 - active.base.0,
        );
        let is_alone = self.f.log.segments.len() == 1;
        let appended = self.f.append_stamped(&draft, base, epoch);
        if empty && span > SEGMENT_DELTA_MAX && is_alone {
            (self.log_start, self.durable) = (base, base);
            self.start_moved();
        }
        assert_eq!(appended.unwrap().end.0, base + records as i64);
        self.push_of(epoch, &draft, base, draft.timestamps.clone());
        if let Some(id) = id {
            self.producers[id].has_sent(records, base);
        }
    }

    fn truncate(&mut self, offset: i64) {
        if offset < 0 {
            return;
        }
        let knows = self.f.log.knows_transactions_at(Offset(offset));
        let known = self
            .f
            .log
            .segments
            .len()
            .saturating_sub(PRODUCER_SNAPSHOTS_MAX);
        let is_known = offset >= self.f.log.segments[known].base.0;
        let end = self.f.truncate(offset).unwrap();
        if std::mem::take(&mut self.f.settled) {
            self.durable = self.end;
        }
        if offset >= self.end {
            assert_eq!(end, self.end);
            return self.epochs_end();
        }
        if offset < self.log_start {
            assert_eq!(end, offset);
            return self.started_over(offset);
        }
        if !knows {
            assert!(!self.steps.is_empty());
            assert_eq!(end, self.log_start);
            return self.started_over(end);
        }
        let gone = self.batches.iter().position(|batch| batch.end() > offset);
        let base = gone.map_or(offset, |gone| self.batches[gone].base);
        assert_eq!(end, offset.min(base).max(self.log_start));
        self.batches.truncate(gone.unwrap_or(self.batches.len()));
        self.steps.retain(|step| step.base < offset.min(base));
        (self.end, self.durable) = (end, self.durable.min(end));
        let kept = self.batches.last().map_or(self.log_start, Batch::end);
        if self.durable >= kept && self.f.log.high_watermark().0 == end {
            // Of what is left all is durable; behind it there is nothing but a gap, or was.
            self.durable = end;
        }
        if kept <= self.log_start && self.f.log.segments.len() == 1 {
            (self.log_start, self.durable) = (end, end);
            self.start_moved();
        }
        self.epochs_end();
        for producer in &mut self.producers {
            // Of a batch that the log start cuts through nothing is left either.
            producer.truncate(offset.min(base));
        }
        if !is_known {
            // What is still known of somebody is right, but may be less than what he wrote.
            self.producers
                .iter_mut()
                .for_each(|p| *p = Producer::default());
            self.f.log.producers = Default::default();
            self.f.log.transactions = Default::default();
            self.steps.clear();
            self.f.file();
            self.durable = self.end;
        }
    }

    /// Those that have written nothing are forgotten.
    fn epochs_end(&mut self) {
        self.epochs.retain(|known| known.1 < self.end);
        if self.epochs.is_empty() {
            self.epochs.push((0, self.end));
        }
    }

    /// The log start has moved: the epoch that wrote across it begins there.
    fn start_moved(&mut self) {
        let start = self.log_start;
        let before = self.epochs.iter().filter(|known| known.1 <= start).count();
        if before > 0 {
            self.epochs.drain(..before - 1);
            self.epochs[0].1 = start;
        }
    }

    fn started_over(&mut self, offset: i64) {
        self.batches.clear();
        (self.log_start, self.end, self.durable) = (offset, offset, offset);
        self.epochs = vec![(0, offset)];
        self.producers = Default::default();
        self.steps.clear();
    }

    fn produce(&mut self, id: usize, records: usize, how: How) {
        let producer = &self.producers[id];
        let mut draft = Draft::plain(&vec![self.f.now.wall_ms; records], 30);
        let (epoch, sequence) = (producer.epoch, producer.sequence);
        let recent = producer.recent();
        let known = !recent.is_empty();
        let identity = |epoch, sequence| Some((id as i64, epoch, sequence));
        let expected = match how {
            How::Next => {
                draft.producer = identity(epoch, sequence);
                Ok(None)
            }
            How::Retry(back) => {
                let Some(n) = recent.len().checked_sub(back) else {
                    return;
                };
                let (sequence, records, base) = recent[n];
                draft.timestamps = vec![self.f.now.wall_ms; records];
                draft.producer = identity(epoch, sequence);
                match back <= PRODUCER_BATCHES_REMEMBERED {
                    true => Ok(Some(base)),
                    false => Err(ErrorCode::OutOfOrderSequenceNumber),
                }
            }
            How::Gap if known => {
                draft.producer = identity(epoch, sequence + 1);
                Err(ErrorCode::OutOfOrderSequenceNumber)
            }
            How::OldEpoch if known => {
                draft.producer = identity(epoch - 1, sequence);
                match epoch {
                    0 => return,
                    _ => Err(ErrorCode::InvalidProducerEpoch),
                }
            }
            How::NewEpoch => {
                let producer = &mut self.producers[id];
                (producer.epoch, producer.sequence) = (epoch + 1, 0);
                draft.producer = identity(epoch + 1, 0);
                Ok(None)
            }
            How::Gap | How::OldEpoch => return,
        };
        let outcome = self.f.append(&draft).map_err(|refusal| refusal.code);
        let duplicate = outcome.map(|a| a.flush.is_none().then_some(a.base_offset.0));
        assert_eq!(duplicate, expected, "{how:?}");
        if let Ok(appended) = outcome
            && appended.flush.is_some()
        {
            let base = appended.base_offset.0;
            self.appended(&draft, base);
            self.producers[id].has_sent(records, base);
        }
    }

    fn read(&mut self, offset: i64, max_bytes: usize, at_least_one: bool) {
        let read = self.f.read(offset, max_bytes, at_least_one);
        self.is_read(read, self.durable, offset, (max_bytes, at_least_one));
    }

    fn read_to_push(&mut self, offset: i64, max_bytes: usize) {
        let read = self.f.push(offset, max_bytes);
        self.is_read(read, self.taken(), offset, (max_bytes, true));
    }

    /// Where the batches end that flushes have taken.
    fn taken(&self) -> i64 {
        let started = self.f.disk.store.started_seq();
        let mut taken = self.batches.iter().filter(|batch| batch.flush <= started);
        let last = taken.next_back().map_or(0, Batch::end);
        last.max(self.durable)
    }

    /// Whether this is what a read yields that goes as far as `bound`.
    fn is_read(
        &self,
        read: Result<Vec<u8>, ErrorCode>,
        bound: i64,
        offset: i64,
        (max_bytes, at_least_one): (usize, bool),
    ) {
        if offset < self.log_start || offset > self.end {
            assert_eq!(read, Err(ErrorCode::OffsetOutOfRange), "offset {offset}");
            return;
        }
        let bytes = read.unwrap();
        let readable: Vec<&Batch> = self
            .batches
            .iter()
            .filter(|batch| batch.end() > offset && batch.end() <= bound)
            .collect();
        let available: usize = readable.iter().map(|batch| batch.len).sum();
        let first = readable.first().map_or(0, |batch| batch.len);
        let largest = self
            .batches
            .iter()
            .map(|batch| batch.len)
            .max()
            .unwrap_or(0);
        if first > max_bytes && !at_least_one {
            assert!(bytes.is_empty());
            return;
        }
        let most = if at_least_one {
            max_bytes.max(largest)
        } else {
            max_bytes
        };
        assert!(bytes.len() <= most.min(available));
        assert!(
            bytes.len() >= available.min(max_bytes / 2).max(first),
            "too little"
        );
        let whole: Vec<_> = record::batches(&bytes)
            .map(|batch| batch.unwrap())
            .collect();
        let mut rest = bytes.len();
        for ((info, batch), expected) in whole.iter().zip(&readable) {
            assert_eq!((info.base_offset, info.len), (expected.base, expected.len));
            assert_eq!(info.leader_epoch, expected.epoch);
            assert!(record::check_crc(batch));
            rest -= info.len;
        }
        let next = readable.get(whole.len()).map_or(0, |batch| batch.len);
        assert!(rest == 0 || rest < next, "batches are missing");
    }

    fn time(&mut self, offset: i64, off_ms: i64) {
        let near = self
            .batches
            .iter()
            .flat_map(Batch::records)
            .find(|r| r.0 >= offset);
        let target = near.map_or(START_MS, |record| record.1) + off_ms;
        let readable = |record: &(i64, i64)| record.0 >= self.log_start && record.0 < self.durable;
        let expected = self
            .batches
            .iter()
            .flat_map(Batch::records)
            .filter(readable)
            .find(|record| record.1 >= target);
        assert_eq!(self.f.time(target), expected, "first at or after {target}");
        self.max_time();
    }

    fn max_time(&mut self) {
        let kept = self.f.log.segments[0].base.0;
        let records = || {
            self.batches
                .iter()
                .flat_map(Batch::records)
                .filter(|r| r.0 >= kept)
        };
        let largest = records().map(|record| record.1).max();
        let first = records().find(|record| Some(record.1) == largest);
        let expected = first.filter(|record| record.0 < self.durable);
        assert_eq!(self.f.max_time(), expected, "largest");
    }

    /// What retention dropped is taken from the log, and checked against what it may drop.
    fn retained(&mut self) {
        let (start, now) = (self.f.log.start_offset().0, self.f.now.wall_ms);
        assert!(start >= self.log_start && start <= self.durable);
        let config = *self.f.log.config();
        let kept: u64 = self
            .batches
            .iter()
            .filter(|batch| batch.base >= self.f.log.segments[0].base.0)
            .map(|batch| batch.len as u64)
            .sum();
        assert_eq!(self.f.log.size_bytes(), kept);
        let by_size = kept < config.retention_bytes as u64 + config.segment_bytes;
        let pinned = self.end - self.durable > 0;
        assert!(by_size || pinned, "{kept} bytes stay");
        for batch in self.batches.iter().filter(|batch| batch.base < start) {
            let fresh = batch
                .timestamps
                .iter()
                .all(|t| now - t <= config.retention_ms);
            let many = self.batches.iter().filter(|later| later.base >= batch.base);
            let many: usize = many.map(|later| later.len).sum();
            assert!(
                !fresh || batch.base < self.log_start || many as i64 > config.retention_bytes,
                "offset {} was dropped",
                batch.base
            );
        }
        if start > self.log_start {
            self.log_start = start;
            self.start_moved();
        }
    }

    fn delete(&mut self, before: i64) {
        let outcome = self.f.delete_records(before);
        // One before offset 0 is -1, which stands for the high watermark.
        let before = if before == -1 { self.durable } else { before };
        if before > self.durable.max(self.log_start) {
            assert_eq!(outcome, Err(ErrorCode::OffsetOutOfRange));
        } else {
            if before > self.log_start {
                self.log_start = before;
                self.start_moved();
            }
            assert_eq!(outcome, Ok(self.log_start));
        }
    }

    fn restart(&mut self) {
        self.f.settle();
        self.durable = self.end;
        // What was committed is found on the disk, and nobody says it once more.
        self.f.log.write_watermark(&mut self.f.disk.store);
        self.f.disk.store.prove();
        self.f.settle();
        let before = essence(&self.f.log, self.indexed);
        self.f.restart_as_found();
        assert_eq!(
            essence(&self.f.log, self.indexed),
            before,
            "recovery changed the log"
        );
    }

    fn compare(&self) {
        let log = &self.f.log;
        self.f.disk.store.invariants();
        assert_eq!(log.end_offset().0, self.end);
        assert_eq!(log.high_watermark().0, self.durable);
        assert_eq!(log.start_offset().0, self.log_start);
        assert_eq!(log.leader_epoch().0, self.epoch());
        self.compare_transactions();
    }
}

/// The state without what recovery cannot know: wall times, and indexes if the test took them away.
fn essence(log: &Log, indexed: bool) -> bytes::Bytes {
    let mut recovery = Log::recovered(log.id(), Now::default());
    recovery.replay(ReplayItem::State(log.state()));
    let mut copy = recovery.finish(LogConfig::default()).unwrap();
    for segment in &mut copy.segments {
        (segment.created_ms, segment.modified_ms) = (0, 0);
    }
    if !indexed {
        copy.forget_shortcuts();
    }
    copy.state()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_log_is_a_list_of_batches(
        tail_bytes_max in prop::sample::select(vec![0usize, 5000, 1 << 20]),
        ops in prop::collection::vec(op(), 1..150),
    ) {
        let mut model = Model::new(tail_bytes_max);
        for op in &ops {
            model.step(op);
        }
        // A replica from the beginning is pushed every batch once that a flush has taken.
        let (mut offset, mut pushed) = (model.log_start, Vec::new());
        while offset < model.taken() {
            let bases = model.f.push_bases(offset, 3000);
            if bases.is_empty() {
                break; // Nothing but a gap is left.
            }
            pushed.extend(bases);
            let last = pushed.last().unwrap();
            offset = model.batches.iter().find(|batch| batch.base == *last).unwrap().end();
        }
        let taken = model.taken();
        let all = model.batches.iter().filter(|batch| batch.end() > model.log_start && batch.end() <= taken);
        prop_assert_eq!(pushed, all.map(|batch| batch.base).collect::<Vec<_>>());
        model.step(&Op::Restart);
        // A consumer from the beginning sees every batch once.
        let mut offset = model.log_start;
        let mut seen = Vec::new();
        while offset < model.durable {
            let bases = model.f.read_bases(offset, 3000);
            if bases.is_empty() {
                break; // Nothing but a gap is left.
            }
            seen.extend(bases);
            let last = seen.last().unwrap();
            offset = model.batches.iter().find(|batch| batch.base == *last).unwrap().end();
        }
        let all = model.batches.iter().filter(|batch| batch.end() > model.log_start);
        prop_assert_eq!(seen, all.map(|batch| batch.base).collect::<Vec<_>>());
        prop_assert_eq!(model.f.log.end_offset(), Offset(model.end));
    }
}
