//! Recovery: superblock, checkpoint, then the journal record by record. What the
//! map and the journal do not name does not exist; nothing is found by scanning.
//!
//! The first record that is not right ends the journal. If some valid record proves that the flush was
//! durable when it was written, the bad place is rot, not a torn write, and nothing acknowledged is dropped in
//! silence: the logs that it is about are damaged, and everything else goes on. Which they are the next record
//! says; without it recovery refuses to go on.

mod rot;

use bytes::Bytes;

use super::api::{DiskError, FlushSeq, Replay, ReplayItem, StoreConfig};
use super::batch::{batch_crc_is_right, batch_len};
use super::chunks::Chunks;
use super::copies::{self, COPIES, Copy};
use super::freed::Freed;
use super::journal::{self, Entry, Header};
use super::layout::{REGION, RING_START, SUPERBLOCKS, block_ceil, chunks_start};
use super::map::{Damage, Map, Segment};
use super::pending::{entry_growth, state_growth};
use super::report::{Left, RecoverError, RecoveryReport};
use super::snapshot;
use super::superblock::Superblock;
use super::{SinceCheckpoint, Store};
use crate::base::crc::crc32c;
use crate::base::{BLOCK, IdMap, LogId, SegmentId, StoreId};

pub(super) type Read<'a> = &'a mut dyn FnMut(u64, usize) -> Result<Bytes, DiskError>;
type Sink<'a> = &'a mut dyn FnMut(Replay);

impl Store {
    /// Opens a store. `read` reads whole blocks of the file and may block; `replay` is given all items of
    /// a log in their order. Memory: the unfilled tails and one journal record with what it refers to.
    ///
    /// # Errors
    /// See [`RecoverError`]; the caller must not go on with the store.
    pub fn recover(
        id: StoreId,
        config: StoreConfig,
        file_len: u64,
        read: Read<'_>,
        replay: Sink<'_>,
    ) -> Result<(Self, RecoveryReport), RecoverError> {
        let mut report = RecoveryReport::default();
        let (mut superblock, worse) = read_superblocks(id, read, &mut report)?;
        // The blocks of a device are all there, those of a file up to its end. A superblock that a crash left
        // before its sync may name regions whose blocks the same crash took; nothing is in them yet.
        let there = if config.raw { u64::MAX } else { file_len };
        superblock.chunks_end = superblock.chunks_end.min(there - there % REGION);
        let (snapshot, copies) = read_checkpoint(&superblock, read, &mut report)?;
        // A copy whose chunks are not known now is given up for good: its chunks are free, whatever the disk says
        // of them another time.
        superblock.checkpoint = copies.each_ref().map(Copy::named);
        let stands_once =
            superblock.checkpoint_len > 0 && copies.iter().any(|copy| copy.bytes == 0);
        let damaged = stands_once || !(report.warnings.is_empty() && report.rot.is_empty());
        for (log, state) in snapshot.states {
            let entry = &snapshot.map.logs[&log];
            if entry.damage.is_some() {
                continue;
            }
            replay((log, ReplayItem::Created(entry.label.clone())));
            if !state.is_empty() {
                replay((log, ReplayItem::State(state)));
            }
        }
        let tails = unplaced_bytes(&snapshot.map);
        let skip_crc = config.sabotage.skip_recovery_crc;
        let any_successor = config.sabotage.any_successor;
        let mut journal = Journal {
            read,
            superblock: &superblock,
            file_len,
            skip_crc,
            any_successor,
            map: snapshot.map,
            seq: superblock.flush,
            pos: superblock.ring_pos,
            chain: superblock.chain,
            freed: Freed::default(),
            last_logs: Vec::new(),
            passed_over: false,
            since: SinceCheckpoint::default(),
            placed: 0,
            placed_to: None,
            report: &mut report,
        };
        while let Some((header, record)) = journal.next()? {
            let (checked, rotten) = journal.check(&record)?;
            if !rotten.is_empty() && !journal.goes_on_past(&header, &rotten) {
                break;
            }
            let logs = journal::logs_of(checked.iter().map(|(entry, _)| entry));
            journal.apply(checked, &rotten, replay)?;
            journal.last_logs = logs;
            journal.seq = header.seq;
            journal.pos = block_ceil(journal.pos + u64::from(header.len));
            journal.chain = header.crc;
            journal.report.records += 1;
        }
        let last_logs = std::mem::take(&mut journal.last_logs);
        let end = (journal.seq, journal.pos, journal.chain);
        let (since, placed) = (journal.since, journal.placed);
        let passed_over = journal.passed_over;
        let (map, freed) = (journal.map, journal.freed);
        report.left = match (superblock.generation, superblock.stopped) {
            (0, _) => Left::Unused,
            (_, Some(last)) if last == end.0 && report.rot.is_empty() => Left::Stopped,
            _ => Left::Running,
        };
        let mut store = Self::reopened(id, config, superblock, map, copies, freed, end)?;
        store.chunks.allocated_to(there);
        store.last_logs = last_logs;
        store.state_bytes = store.state_bytes.saturating_sub(tails) + since.state_bytes;
        (store.since_checkpoint, store.placed_since) = (since, placed);
        store.copy_damaged = damaged;
        store.checkpoint_first = passed_over;
        store.unbegun = Some(worse);
        report.logs = store.logs().count();
        for (log, label, damage) in store.damaged() {
            report.rot.push(format!(
                "{}-{} (log {log}) is damaged and not served: {damage}",
                label.topic, label.partition
            ));
        }
        Ok((store, report))
    }

    fn reopened(
        id: StoreId,
        config: StoreConfig,
        superblock: Superblock,
        map: Map,
        copies: [Copy; COPIES],
        freed: Freed,
        (seq, pos, chain): (FlushSeq, u64, u32),
    ) -> Result<Self, RecoverError> {
        let start = chunks_start(superblock.journal_bytes);
        let mut used = map.chunks();
        let mut doubled = false;
        let mut not_mapped = 0;
        for chunk in copies.iter().flat_map(Copy::chunks).chain(freed.chunks()) {
            doubled |= !used.insert(chunk);
            not_mapped += 1;
        }
        let extents: usize = map
            .logs
            .values()
            .flat_map(|log| &log.segments)
            .map(|s| s.extents.len())
            .sum();
        doubled |= used.len() != extents + not_mapped;
        let end = superblock.chunks_end;
        let chunks = Chunks::rebuilt(start, end, config.bytes_max, &used)
            .filter(|_| !doubled)
            .ok_or_else(|| RecoverError::Corrupt {
                what: "the map: two owners for one chunk".into(),
                pos: start,
            })?;
        let mut store = Self::assemble(id, config, map, chunks, superblock);
        store.copies = copies;
        store.freed = freed;
        store.durable = seq;
        store.next_seq = FlushSeq(seq.0 + 1);
        store.ring_head = pos;
        store.chain = chain;
        store.unplaced_bytes = unplaced_bytes(&store.map);
        Ok(store)
    }
}

/// Bytes that are in no chunk.
fn unplaced_bytes(map: &Map) -> u64 {
    let segments = map.logs.values().flat_map(|log| &log.segments);
    segments.map(|s| s.len - s.placed).sum()
}

/// The newer superblock, and which copy is the other one, older or damaged.
pub(super) fn read_superblocks(
    id: StoreId,
    read: Read<'_>,
    report: &mut RecoveryReport,
) -> Result<(Superblock, usize), RecoverError> {
    let mut best: Option<(Superblock, usize)> = None;
    let mut problems = Vec::new();
    for (n, pos) in SUPERBLOCKS.into_iter().enumerate() {
        let found = match read(pos, BLOCK) {
            Ok(block) => Superblock::decode(&block).map_err(str::to_string),
            Err(error) => Err(format!("errno {}", error.errno)),
        };
        match found {
            Ok(superblock) => {
                if best
                    .as_ref()
                    .is_none_or(|(b, _)| b.generation < superblock.generation)
                {
                    best = Some((superblock, n));
                }
            }
            Err(problem) => problems.push(format!("superblock {n}: {problem}")),
        }
    }
    let Some((superblock, good)) = best else {
        let what = format!("the superblock, in both copies ({})", problems.join("; "));
        return Err(RecoverError::Corrupt { what, pos: 0 });
    };
    if superblock.store != id {
        let what = format!(
            "this file is store-{}, not store-{id}: it",
            superblock.store
        );
        return Err(RecoverError::Corrupt { what, pos: 0 });
    }
    for problem in problems {
        report
            .warnings
            .push(format!("{problem}; the other copy is good and is used"));
    }
    Ok((superblock, 1 - good))
}

/// The checkpoint, from the first copy of it that is whole, and where both are.
pub(super) fn read_checkpoint(
    superblock: &Superblock,
    read: Read<'_>,
    report: &mut RecoveryReport,
) -> Result<(snapshot::Snapshot, [Copy; COPIES]), RecoverError> {
    let mut found = [Copy::default(), Copy::default()];
    if superblock.checkpoint_len == 0 {
        return Ok((snapshot::Snapshot::default(), found));
    }
    let head = superblock.checkpoint_head;
    let (mut snapshot, mut rotten) = (None, Vec::new());
    let mut problems = Vec::new();
    for (n, named) in superblock.checkpoint.iter().enumerate() {
        if named.chunks.is_empty() {
            continue;
        }
        let problem = match copies::find(named, read) {
            Ok(copy) => {
                found[n] = copy;
                if snapshot.is_some() {
                    continue;
                }
                match copies::content(&found[n], superblock.checkpoint_sum(), read) {
                    Ok((content, true)) => match snapshot::decode(&[content], head) {
                        Some(decoded) => {
                            snapshot = Some(decoded);
                            continue;
                        }
                        None => "it does not parse".to_string(),
                    },
                    Ok((content, false)) => {
                        rotten.push(content);
                        "bad checksum".to_string()
                    }
                    Err(problem) => problem,
                }
            }
            Err(problem) => problem,
        };
        problems.push(format!("copy {n} of the checkpoint: {problem}"));
    }
    // What is whole in neither copy is little, as a rule.
    let whole = snapshot.is_some();
    let Some(snapshot) = snapshot.or_else(|| snapshot::decode(&rotten, head)) else {
        let pos = superblock.checkpoint.first().and_then(|c| c.chunks.first());
        return Err(RecoverError::Corrupt {
            what: format!("the checkpoint ({})", problems.join("; ")),
            pos: pos.map_or(0, |chunk| chunk.pos),
        });
    };
    for problem in problems {
        if whole {
            report
                .warnings
                .push(format!("{problem}; the other copy is good and is used"));
        } else {
            let used = "of both copies is used what is whole";
            report.rot.push(format!("{problem}; {used}"));
        }
    }
    Ok((snapshot, found))
}

/// The replay of the journal.
struct Journal<'a> {
    read: Read<'a>,
    superblock: &'a Superblock,
    file_len: u64,
    skip_crc: bool,
    any_successor: bool,
    map: Map,
    /// The last record that was good.
    seq: FlushSeq,
    /// Logical position after it.
    pos: u64,
    chain: u32,
    freed: Freed,
    /// What the last record was about.
    last_logs: Vec<LogId>,
    /// A record has rotted.
    passed_over: bool,
    /// What was replayed, counted as it was when it was written: the store decides by it when it makes a
    /// checkpoint, and whom it refuses until then.
    since: SinceCheckpoint,
    /// Bytes that went into chunks.
    placed: u64,
    /// Up to where the entry before put a log into a chunk: what follows inline is what filled no block.
    placed_to: Option<(LogId, u64)>,
    report: &'a mut RecoveryReport,
}

/// Entries of a record with the chunk bytes of its references.
type Checked = Vec<(Entry, Option<Bytes>)>;
/// References that are not what the record says: whose, and where in the file.
type Rotten = Vec<(LogId, u64)>;

impl Journal<'_> {
    fn ring(&self) -> u64 {
        self.superblock.journal_bytes
    }

    /// The next record, whole and with the right CRC; `None` at the end of the journal.
    fn next(&mut self) -> Result<Option<(Header, Bytes)>, RecoverError> {
        let wrapped = self.pos.next_multiple_of(self.ring());
        let seq = FlushSeq(self.seq.0 + 1);
        for pos in [self.pos, wrapped] {
            if let Some((header, record)) = self.record_at(pos)?
                && header.seq == seq
                && header.chain == self.chain
                && self.counts(&header)
            {
                self.pos = pos;
                return Ok(Some((header, record)));
            }
        }
        self.pass_over(seq)
    }

    /// See [`counts`].
    fn counts(&self, header: &Header) -> bool {
        self.any_successor || counts(self.superblock, header)
    }

    /// See [`record_at`].
    fn record_at(&mut self, pos: u64) -> Result<Option<(Header, Bytes)>, RecoverError> {
        record_at(self.superblock, self.skip_crc, pos, self.read)
    }

    /// Parses a record and reads what it refers to.
    fn check(&mut self, record: &Bytes) -> Result<(Checked, Rotten), RecoverError> {
        let Some(entries) = journal::entries(record) else {
            if self.skip_crc {
                return Ok((Checked::new(), vec![(LogId(0), self.pos)]));
            }
            let what = "a journal record that does not parse: it".to_string();
            let pos = RING_START + self.pos % self.ring();
            return Err(RecoverError::Corrupt { what, pos });
        };
        let mut checked = Vec::with_capacity(entries.len());
        let mut rotten = Vec::new();
        for entry in entries {
            let Entry::Ref {
                log,
                pos,
                len,
                crc,
                chunk,
                chunk_start,
                ..
            } = &entry
            else {
                checked.push((entry, None));
                continue;
            };
            let at = pos.checked_sub(*chunk_start).map(|skip| chunk.pos + skip);
            let inside = at.is_some_and(|at| at + u64::from(*len) <= self.file_len);
            let at = at.unwrap_or(0);
            if !inside {
                rotten.push((*log, at));
                checked.push((entry, None));
                continue;
            }
            let bytes = (self.read)(at, *len as usize).map_err(|error| RecoverError::Io {
                what: "chunk",
                error,
            })?;
            if !self.skip_crc && crc32c(&bytes) != *crc {
                rotten.push((*log, at));
            }
            checked.push((entry, Some(bytes)));
        }
        Ok((checked, rotten))
    }

    /// Applies a record to the map and replays what it says.
    fn apply(
        &mut self,
        entries: Checked,
        rotten: &Rotten,
        replay: Sink<'_>,
    ) -> Result<(), RecoverError> {
        let mut fresh: IdMap<LogId, Vec<u8>> = IdMap::default();
        for (entry, bytes) in entries {
            let log = entry.log();
            self.count(&entry);
            if !matches!(entry, Entry::Inline { .. } | Entry::Ref { .. })
                && let Some(bytes) = fresh.remove(&log)
            {
                self.emit(log, bytes.into(), replay);
            }
            let known = self.map.logs.get(&log);
            if let Some(segment) = entry.begins()
                && !matches!(entry, Entry::Create { .. })
                && known.is_some_and(|log| !log.is_new(segment))
            {
                return Err(self.contradiction(log, segment));
            }
            let gone = self.map.apply(&entry);
            self.free(gone);
            match entry {
                Entry::Create { first, label, .. } => {
                    self.tell(log, ReplayItem::Created(label), replay);
                    self.tell(log, ReplayItem::Rolled(SegmentId::FIRST, first), replay);
                }
                Entry::Delete { .. } => replay((log, ReplayItem::Deleted)),
                Entry::Roll { segment, base, .. } => {
                    self.tell(log, ReplayItem::Rolled(segment, base), replay);
                }
                Entry::Truncate { cut, note, .. } => {
                    self.tell(log, ReplayItem::Truncated(cut, note), replay);
                }
                Entry::Clean { cleaned, note, .. } => {
                    self.tell(log, ReplayItem::Cleaned(cleaned, note), replay);
                }
                Entry::DropBefore { segment, .. } => {
                    self.tell(log, ReplayItem::DroppedBefore(segment), replay);
                }
                Entry::Note { log, note } => self.tell(log, ReplayItem::Note(note), replay),
                Entry::Remark { log, remark } => {
                    self.tell(log, ReplayItem::Remarked(remark), replay)
                }
                Entry::Inline {
                    segment,
                    pos,
                    bytes,
                    ..
                } => {
                    let at_end = |segment: &Segment| pos == segment.len;
                    let Some(segment) = self.resumed((log, segment), pos, at_end)? else {
                        continue;
                    };
                    segment.push_copy(&bytes);
                    fresh.entry(log).or_default().extend_from_slice(&bytes);
                }
                Entry::Ref {
                    segment,
                    pos,
                    len,
                    chunk,
                    chunk_start,
                    ..
                } => {
                    let at = pos.checked_sub(chunk_start).map(|skip| chunk.pos + skip);
                    if rotten.contains(&(log, at.unwrap_or(0))) && self.map.logs.contains_key(&log)
                    {
                        self.damage(Damage::Chunk, [log]);
                    }
                    // It may begin before the end, but not before what is in chunks.
                    let follows = |segment: &Segment| (segment.placed..=segment.len).contains(&pos);
                    let Some(segment) = self.resumed((log, segment), pos, follows)? else {
                        continue;
                    };
                    let end = segment.len;
                    // What lies before the end was inline before, and is replayed already.
                    let bytes = bytes.unwrap_or_default();
                    let new = bytes.slice((end - pos).min(bytes.len() as u64) as usize..);
                    fresh.entry(log).or_default().extend_from_slice(&new);
                    if segment.place(pos, len.into(), chunk, chunk_start) {
                        segment.forget_memory_before(segment.placed);
                    } else {
                        // A fill that no checkpoint confirmed lies between: everything from there on is kept in
                        // memory and filled again.
                        segment.push_copy(&new);
                        self.since.inline_bytes += new.len() as u64;
                    }
                }
            }
        }
        for (log, bytes) in fresh {
            self.emit(log, bytes.into(), replay);
        }
        Ok(())
    }

    /// Counts what an entry makes of the next checkpoint.
    fn count(&mut self, entry: &Entry) {
        let placed_to = self.placed_to.take();
        match entry {
            Entry::Inline { log, pos, .. } if placed_to == Some((*log, *pos)) => {}
            Entry::Inline { bytes, .. } => self.since.inline_bytes += bytes.len() as u64,
            Entry::Ref { log, pos, len, .. } => {
                self.placed += u64::from(*len);
                self.placed_to = Some((*log, *pos + u64::from(*len)));
            }
            Entry::Remark { .. } => {}
            other => self.since.state_bytes += entry_growth(other),
        }
    }

    /// Freed chunks stay out of use until the next checkpoint: the records that refer to them would be
    /// replayed, and checked, once more after another crash.
    fn free(&mut self, segments: impl IntoIterator<Item = Segment>) {
        let seq = FlushSeq(self.seq.0 + 1);
        for segment in segments {
            self.freed.push(seq, segment.extents);
        }
    }

    /// Replays an item, unless the log is not there or not believed any more.
    fn tell(&self, log: LogId, item: ReplayItem, replay: Sink<'_>) {
        if self.is_sound(log) {
            replay((log, item));
        }
    }

    fn is_sound(&self, log: LogId) -> bool {
        let log = self.map.logs.get(&log);
        log.is_some_and(|log| log.damage.is_none())
    }

    /// Replays the whole batches that a record added to a log.
    fn emit(&mut self, log: LogId, bytes: Bytes, replay: Sink<'_>) {
        let mut at = 0;
        while at < bytes.len() && self.is_sound(log) {
            let batch = batch_len(&bytes[at..]).map(|len| bytes.slice(at..at + len));
            let good = |batch: &Bytes| self.skip_crc || batch_crc_is_right(batch);
            let Some(batch) = batch.filter(good) else {
                self.report.rot.push(format!(
                    "a batch of log {log}, in the journal at byte {} or referred to there, is none",
                    RING_START + self.pos % self.ring()
                ));
                return self.damage(Damage::Contradiction, [log]);
            };
            let len = batch.len();
            self.report.batches += 1;
            self.report.bytes += len as u64;
            self.since.state_bytes += state_growth(len as u64);
            replay((log, ReplayItem::Batch(batch)));
            at += len;
        }
    }
}

/// A record of this store at a logical position, if there is one and its CRC is right.
pub(super) fn record_at(
    superblock: &Superblock,
    skip_crc: bool,
    pos: u64,
    read: Read<'_>,
) -> Result<Option<(Header, Bytes)>, RecoverError> {
    let ring = superblock.journal_bytes;
    let at = pos % ring;
    let io = |error| RecoverError::Io {
        what: "journal",
        error,
    };
    let block = read(RING_START + at, BLOCK).map_err(io)?;
    let Some(header) = Header::decode(&block) else {
        return Ok(None);
    };
    let size = block_ceil(u64::from(header.len));
    if header.uuid != superblock.uuid || at + size > ring {
        return Ok(None);
    }
    let record = if size as usize > BLOCK {
        read(RING_START + at, size as usize).map_err(io)?
    } else {
        block
    };
    let len = header.len as usize;
    if record.len() < len {
        return Ok(None);
    }
    let record = record.slice(..len);
    let good = skip_crc || journal::crc_is_right(&header, &record);
    Ok(good.then_some((header, record)))
}

/// Whether a record was written by the start that owns its number. One that was not lay there when that
/// start recovered, which rejected it.
pub(super) fn counts(superblock: &Superblock, header: &Header) -> bool {
    superblock.owner_of(header.seq) == Some(header.start)
}
