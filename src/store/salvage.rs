//! What can be read of a store that recovery refuses, for tools: the checkpoint if a copy of it is whole,
//! what the journal says beyond records that have rotted, and of each log the batches that are whole, past
//! those that are not. Nothing is written, and nothing is guessed: a record counts if its CRC is right and the
//! start that owns its number has written it, a batch if its CRC is right.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::api::{Cleaned, DiskError, FlushSeq, Piece};
use super::journal::{self, Entry, Header};
use super::layout::block_ceil;
use super::map::{Damage, LogEntry, Map};
use super::recover::{Read, counts, read_checkpoint, read_superblocks, record_at};
use super::remains::{LogRemains, Remains, Salvage};
use super::report::{RecoverError, RecoveryReport};
use super::superblock::Superblock;
use super::{ChunkPin, Store};
use crate::base::crc::crc32c;
use crate::base::{BLOCK, LogId, SegmentId, StoreId};

impl Store {
    /// Looks at a store that [`Store::recover`] refuses. `read` as there.
    ///
    /// # Errors
    /// If no superblock is whole: then nothing says what is where.
    pub fn salvage(id: StoreId, read: Read<'_>) -> Result<Salvage, RecoverError> {
        let mut report = RecoveryReport::default();
        let (superblock, _) = read_superblocks(id, read, &mut report)?;
        let mut found = Found::default();
        match read_checkpoint(&superblock, read, &mut report) {
            Ok((snapshot, _)) => {
                for log in snapshot.map.logs.into_values() {
                    let segments = log.segments.iter().map(|segment| {
                        let mut pieces = Vec::new();
                        segment.read(id, (0, segment.len), usize::MAX, &mut pieces);
                        Remains::whole(segment.id, segment.base, pieces)
                    });
                    let known = LogEntry {
                        id: log.id,
                        segments: segments.collect(),
                        label: log.label,
                        damage: log.damage,
                    };
                    found.map.logs.insert(log.id, known);
                }
            }
            Err(error) => {
                found.incomplete = true;
                found.problems.push(format!(
                    "{error}; only what the journal says by itself is known"
                ));
            }
        }
        let ring = Ring::scan(&superblock, found.incomplete, read);
        found.replay(id, &superblock, &ring, read);
        let mut problems = report.warnings;
        problems.append(&mut report.rot);
        problems.append(&mut found.problems);
        let logs = found.map.logs.into_values();
        let logs = logs.filter(|log| !log.id.is_cleaning()).map(remains);
        let mut logs: Vec<LogRemains> = logs.collect();
        logs.sort_by(|a, b| a.place().cmp(&b.place()));
        Ok(Salvage { logs, problems })
    }
}

fn remains(log: LogEntry<Remains>) -> LogRemains {
    LogRemains {
        id: log.id,
        label: log.label,
        segments: log.segments.into(),
    }
}

/// The records of the journal that count, by number.
struct Ring {
    records: BTreeMap<FlushSeq, u64>,
    /// Up to here everything was acknowledged.
    durable: FlushSeq,
}

impl Ring {
    /// Looks at every block. `earlier`: also for what a checkpoint has made superfluous.
    fn scan(superblock: &Superblock, earlier: bool, read: Read<'_>) -> Self {
        let mut all = Vec::new();
        let mut at = 0;
        while at < superblock.journal_bytes {
            // A block that cannot be read holds no record that can.
            let step = match record_at(superblock, false, at, read) {
                Ok(Some((header, _))) => {
                    all.push((at, header));
                    block_ceil(u64::from(header.len)).max(BLOCK as u64)
                }
                _ => BLOCK as u64,
            };
            at += step;
        }
        let counting = all.iter().filter(|(_, h)| counts(superblock, h));
        let durable = counting.clone().map(|(_, h)| h.durable).max();
        let mut records: BTreeMap<FlushSeq, u64> =
            counting.map(|(at, header)| (header.seq, *at)).collect();
        if earlier {
            // The superblock names the last record before the checkpoint's end by its CRC, and each record
            // the one before it. Its number is smaller, by more than one if a checkpoint took in flushes between.
            let by_name: BTreeMap<(u32, FlushSeq), &(u64, Header)> =
                all.iter().map(|r| ((r.1.crc, r.1.seq), r)).collect();
            let (mut chain, mut seq) = (superblock.chain, superblock.flush);
            while let Some((_, (at, header))) = by_name
                .range((chain, FlushSeq(0))..=(chain, seq))
                .next_back()
            {
                records.insert(header.seq, *at);
                (chain, seq) = (header.chain, FlushSeq(header.seq.0.saturating_sub(1)));
            }
        }
        let found = superblock.found();
        Self {
            records,
            durable: durable.map_or(found, |durable| durable.max(found)),
        }
    }
}

/// Segments of which a record has had bytes.
type Fresh = BTreeSet<(LogId, SegmentId)>;

/// What is known so far.
#[derive(Debug, Default)]
struct Found {
    map: Map<Remains>,
    deleted: BTreeSet<LogId>,
    /// The checkpoint or a record is lost: logs may be there whose creation is not, and segments.
    incomplete: bool,
    problems: Vec<String>,
}

impl Found {
    fn replay(&mut self, id: StoreId, superblock: &Superblock, ring: &Ring, read: Read<'_>) {
        let oldest = ring.records.keys().next();
        let mut seq = oldest.map_or(superblock.flush, |s| {
            superblock.flush.min(FlushSeq(s.0.saturating_sub(1)))
        });
        for (&this, &at) in &ring.records {
            let expected = FlushSeq(seq.0 + 1);
            if this != expected {
                if expected > ring.durable {
                    // Torn, and what comes after it was never acknowledged.
                    return;
                }
                self.lost(expected, FlushSeq(this.0 - 1));
            }
            let entries = match record_at(superblock, false, at, read) {
                Ok(Some((_, record))) => journal::entries(&record),
                _ => None,
            };
            let Some(entries) = entries else {
                self.lost(this, this);
                seq = this;
                continue;
            };
            let rotten = bad_ranges(&entries, read);
            if !rotten.is_empty() && this > ring.durable {
                return;
            }
            let old = this <= superblock.flush;
            for (log, at) in rotten.iter().filter(|_| !old) {
                self.problems.push(format!(
                    "bytes of log {log} that the journal refers to, at byte {at}, have rotted"
                ));
            }
            // What an older record refers to may belong to another log now.
            let stale = |entry: &Entry| {
                old && matches!(entry, Entry::Ref { .. })
                    && rotten.iter().any(|(log, _)| *log == entry.log())
            };
            let mut fresh = Fresh::new();
            for entry in entries.into_iter().filter(|entry| !stale(entry)) {
                self.apply(id, entry, &mut fresh);
            }
            seq = this;
        }
        if seq < ring.durable {
            self.lost(FlushSeq(seq.0 + 1), ring.durable);
        }
    }

    fn lost(&mut self, from: FlushSeq, to: FlushSeq) {
        self.incomplete = true;
        self.problems.push(format!(
            "the journal's records {} to {} are lost; any log may have lost records with them",
            from.0, to.0
        ));
    }

    /// The log of an entry. One that nobody has heard of may have been made by what is lost.
    fn log(&mut self, id: LogId) -> Option<&mut LogEntry<Remains>> {
        if self.incomplete && !self.deleted.contains(&id) {
            // The name of a log is lost with the record that made it, not its records.
            let unknown = || LogEntry::unknown(id, Damage::Record);
            return Some(self.map.logs.entry(id).or_insert_with(unknown));
        }
        self.map.logs.get_mut(&id)
    }

    /// `fresh` holds the segments of which this record has had bytes: a record begins with a whole batch of each.
    fn apply(&mut self, store: StoreId, entry: Entry, fresh: &mut Fresh) {
        match &entry {
            Entry::Create { log, .. } => {
                self.deleted.remove(log);
            }
            Entry::Delete { log } => {
                self.deleted.insert(*log);
            }
            Entry::Roll { log, .. } | Entry::Truncate { log, .. } => {
                self.log(*log);
            }
            Entry::Clean { log, cleaned, .. } => {
                self.clean(*log, cleaned);
            }
            Entry::DropBefore { .. } | Entry::Note { .. } | Entry::Remark { .. } => {}
            Entry::Inline { .. } | Entry::Ref { .. } => {}
        }
        self.map.apply(&entry);
        match entry {
            Entry::Inline {
                log,
                segment,
                pos,
                bytes,
            } => {
                let first = fresh.insert((log, segment));
                if let Some(remains) = self.active(log, segment) {
                    remains.add(pos, Piece::Memory(bytes), first);
                }
            }
            Entry::Ref {
                log,
                segment,
                pos,
                len,
                chunk,
                chunk_start,
                ..
            } => {
                let first = fresh.insert((log, segment));
                let (Some(remains), Some(skip)) =
                    (self.active(log, segment), pos.checked_sub(chunk_start))
                else {
                    return;
                };
                let piece = Piece::File {
                    store,
                    pos: chunk.pos + skip,
                    len: len as usize,
                    pin: ChunkPin::default(),
                    begins: None,
                };
                // It begins with the rest of a batch, if what came before is lost.
                let boundary = first && pos <= remains.end();
                remains.add(pos, piece, boundary);
            }
            Entry::Create { .. }
            | Entry::Delete { .. }
            | Entry::Roll { .. }
            | Entry::Truncate { .. }
            | Entry::Clean { .. }
            | Entry::DropBefore { .. }
            | Entry::Note { .. }
            | Entry::Remark { .. } => {}
        }
    }

    /// A cleaned segment takes the place of others. If they are not all known, or not all of it is, both stay: chunks
    /// of what it replaced may have others' bytes by now.
    fn clean(&mut self, log: LogId, cleaned: &Cleaned) {
        let is_whole = |clean: &LogEntry<Remains>| clean.damage.is_none();
        let is_whole = self.map.logs.get(&log.cleaning()).is_some_and(is_whole);
        let Some(known) = self.log(log) else {
            return;
        };
        if is_whole && known.can_replace(cleaned) {
            return;
        }
        if let Some(mut clean) = self.map.logs.remove(&log.cleaning())
            && let Some(clean) = clean.segments.pop_front()
            && let Some(known) = self.map.logs.get_mut(&log)
        {
            known.put_beside(cleaned.by, clean);
        }
    }

    fn active(&mut self, log: LogId, segment: SegmentId) -> Option<&mut Remains> {
        self.log(log)?.active_named(segment)
    }
}

/// The ranges that entries refer to and that are not what they say: whose, and where in the file.
fn bad_ranges(entries: &[Entry], read: Read<'_>) -> Vec<(LogId, u64)> {
    let mut bad = Vec::new();
    for entry in entries {
        if let Entry::Ref {
            log,
            pos,
            len,
            crc,
            chunk,
            chunk_start,
            ..
        } = entry
        {
            let at = pos.checked_sub(*chunk_start).map(|skip| chunk.pos + skip);
            let bytes: Option<Result<Bytes, DiskError>> = at.map(|at| read(at, *len as usize));
            if !matches!(bytes, Some(Ok(bytes)) if crc32c(&bytes) == *crc) {
                bad.push((*log, at.unwrap_or(0)));
            }
        }
    }
    bad
}

#[cfg(test)]
mod tests {
    use super::super::Offset;
    use super::super::api::LogLabel;
    use super::super::remains::Found as Event;
    use super::*;

    const NO_STORE: StoreId = StoreId(0);

    fn batch(base: i64, len: usize) -> Vec<u8> {
        let mut bytes = vec![b'b'; len];
        bytes[..8].copy_from_slice(&base.to_be_bytes());
        bytes[8..12].copy_from_slice(&(len as i32 - 12).to_be_bytes());
        bytes[12..16].fill(0);
        bytes[16] = 2;
        bytes[21..27].fill(0);
        let crc = crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    /// Base offsets, and -1 for each damage.
    fn walked(remains: &Remains) -> Vec<i64> {
        let mut seen = Vec::new();
        remains.walk(&mut |_, _| Err(DiskError { errno: 5 }), &mut |event| {
            seen.push(match event {
                Event::Batch(b) => i64::from_be_bytes(b[..8].try_into().expect("a batch")),
                Event::Damage(_) => -1,
            });
        });
        seen
    }

    #[test]
    fn a_walk_goes_past_every_kind_of_damage() {
        let batches: Vec<Vec<u8>> = (0..5).map(|n| batch(n, 100 + n as usize)).collect();
        let bytes = batches.concat();
        let of = |bytes: Vec<u8>| {
            let piece = Piece::Memory(bytes.into());
            Remains::whole(SegmentId::FIRST, Offset(0), vec![piece])
        };
        assert_eq!(walked(&of(bytes.clone())), [0, 1, 2, 3, 4]);
        // Whatever byte of the second batch has rotted, a length too: the others are there.
        for at in 100..201 {
            let mut bad = bytes.clone();
            bad[at] ^= 0x11;
            let offset = at < 108;
            let seen = walked(&of(bad));
            // Base offset, leader epoch and magic byte are no part of a batch's CRC.
            let silent = offset || (112..117).contains(&at);
            if silent {
                assert_eq!(seen.len(), 5, "byte {at}");
            } else {
                assert_eq!(seen, [0, -1, 2, 3, 4], "byte {at}");
            }
        }
        let mut bad = bytes.clone();
        bad.truncate(bytes.len() - 1);
        assert_eq!(walked(&of(bad)), [0, 1, 2, 3, -1]);
        // A range that is not there, and one that cannot be read.
        let hole = |piece: Option<Piece>| {
            let mut remains = of(batches[0].clone());
            if let Some(piece) = piece {
                remains.add(100, piece, true);
            }
            remains.add(201, Piece::Memory(batches[2].clone().into()), true);
            remains
        };
        assert_eq!(walked(&hole(None)), [0, -1, 2]);
        let unreadable = Piece::File {
            store: NO_STORE,
            pos: 8192,
            len: 101,
            pin: ChunkPin::default(),
            begins: None,
        };
        assert_eq!(walked(&hole(Some(unreadable))), [0, -1, 2]);
    }

    #[test]
    fn what_follows_a_lost_record_is_put_where_it_belongs() {
        let mut found = Found::default();
        let log = LogId(7);
        let inline = |segment, pos, base| Entry::Inline {
            log,
            segment: SegmentId(segment),
            pos,
            bytes: batch(base, 100).into(),
        };
        // Before anything is lost, what names no log is of a deleted one.
        found.apply(NO_STORE, inline(0, 0, 0), &mut Fresh::new());
        assert!(found.map.logs.is_empty());
        found.lost(FlushSeq(3), FlushSeq(4));
        for (segment, pos, base) in [(2, 300, 3), (2, 400, 4), (5, 100, 8), (4, 0, 1)] {
            found.apply(NO_STORE, inline(segment, pos, base), &mut Fresh::new());
        }
        let remains = remains(found.map.logs.remove(&log).expect("known now"));
        assert_eq!(remains.label.topic, "unnamed-log-7");
        let seen: Vec<Vec<i64>> = remains.segments.iter().map(walked).collect();
        assert_eq!(seen, [vec![-1, 3, 4], vec![-1, 8]]);
        found.apply(NO_STORE, Entry::Delete { log }, &mut Fresh::new());
        found.apply(NO_STORE, inline(5, 500, 9), &mut Fresh::new());
        assert!(found.map.logs.is_empty());
    }
    /// A cleaned segment that is in place is there, whatever else is lost.
    #[test]
    fn what_was_cleaned_is_kept_where_what_it_replaces_is_not_known() {
        let log = LogId(7);
        let (side, first) = (log.cleaning(), SegmentId::FIRST);
        let create = |log| Entry::Create {
            log,
            first: Offset(0),
            label: LogLabel::default(),
        };
        let inline = |log, segment, pos, base| Entry::Inline {
            log,
            segment,
            pos,
            bytes: batch(base, 100).into(),
        };
        let roll = |segment, base| Entry::Roll {
            log,
            segment,
            base: Offset(base),
        };
        let cleaned = Cleaned {
            replaced: (first, first),
            by: SegmentId(1),
        };
        let clean = Entry::Clean {
            log,
            cleaned,
            note: Bytes::new(),
        };
        // What comes before the loss, what is lost, and what is found then.
        let begin = [
            create(log),
            inline(log, first, 0, 0),
            roll(SegmentId(1 << 16), 5),
        ];
        let made = [create(side), inline(side, first, 0, 3)];
        let cases: [(bool, bool, &[&[i64]]); 4] = [
            (true, true, &[&[3], &[]]),
            (false, true, &[&[3], &[6]]),
            (true, false, &[&[0], &[3, 4], &[]]),
            (false, false, &[&[3, 4], &[6]]),
        ];
        for (has_begin, has_made, expected) in cases {
            let mut found = Found::default();
            let apply = |found: &mut Found, entries: &[Entry]| {
                for entry in entries {
                    found.apply(NO_STORE, entry.clone(), &mut Fresh::new());
                }
            };
            if has_begin {
                apply(&mut found, &begin);
            }
            found.lost(FlushSeq(3), FlushSeq(3));
            match has_made {
                true => apply(&mut found, &made),
                false => apply(
                    &mut found,
                    &[inline(side, first, 0, 3), inline(side, first, 100, 4)],
                ),
            }
            if !has_begin {
                apply(&mut found, &[inline(log, SegmentId(1 << 16), 0, 6)]);
            }
            apply(&mut found, std::slice::from_ref(&clean));
            assert!(!found.map.logs.contains_key(&side));
            let remains = remains(found.map.logs.remove(&log).expect("it is known"));
            let seen: Vec<Vec<i64>> = remains.segments.iter().map(walked).collect();
            assert_eq!(seen, expected, "{has_begin} {has_made}");
        }
    }
}
