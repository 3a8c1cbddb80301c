//! What has rotted in the journal, which logs that is about, and how far a damaged log can still be followed.

use bytes::Bytes;

use super::{Journal, RecoverError, Rotten};
use crate::base::{BLOCK, LogId, SegmentId};
use crate::store::api::FlushSeq;
use crate::store::journal::{self, Header};
use crate::store::layout::{RING_START, block_ceil};
use crate::store::map::{Damage, LogEntry, Segment};

/// What the ring says of a flush whose record is not there.
#[derive(Debug, Default)]
struct Beyond {
    /// It was durable.
    durable: bool,
    /// Where the next flush's record is in the ring.
    next: Option<u64>,
    /// Where there is one of that number that a start has rejected: it followed the same record all the same.
    rejected: Option<u64>,
}

impl Journal<'_> {
    /// Flush `seq` has no record where it should be: that is the end of the journal, unless it was acknowledged.
    /// Then the record has rotted, and the one after it says which logs it was about. Returns that one, if it
    /// counts.
    pub(super) fn pass_over(
        &mut self,
        seq: FlushSeq,
    ) -> Result<Option<(Header, Bytes)>, RecoverError> {
        let found = self.beyond(seq);
        if !found.durable {
            return Ok(None);
        }
        let at = RING_START + self.pos % self.ring();
        let told = found
            .next
            .or(found.rejected)
            .and_then(|pos| Some((pos, self.record_at(pos).transpose()?)));
        let Some((pos, told)) = told else {
            return Err(Self::unreadable(seq, "the journal", at));
        };
        let (header, record) = told?;
        let lost =
            journal::before(&record).ok_or_else(|| Self::unreadable(seq, "the journal", at))?;
        self.report.rot.push(format!(
            "the journal's record {} at byte {at} has rotted: {} logs are damaged",
            seq.0,
            lost.len()
        ));
        self.damage(Damage::Record, lost.iter().copied());
        self.passed_over = true;
        // It is where the ring has it, on this lap or the next one.
        let ring = self.ring();
        let lap = self.pos - self.pos % ring;
        self.pos = [lap + pos, lap + ring + pos]
            .into_iter()
            .find(|at| *at > self.pos)
            .unwrap_or(self.pos);
        self.seq = seq;
        // If the journal ends here, the next record is one that follows the lost one too, and says so.
        self.chain = header.chain;
        self.last_logs = lost;
        Ok(found.next.is_some().then_some((header, record)))
    }

    /// The logs have lost something; what comes of them is not believed any more.
    pub(super) fn damage(&mut self, damage: Damage, logs: impl IntoIterator<Item = LogId>) {
        for log in logs {
            /// What a log that nothing is known of takes in a checkpoint.
            const UNKNOWN_BYTES_MAX: u64 = 512;
            let unknown = || {
                let mut unknown = LogEntry::unknown(log, damage);
                unknown.active();
                unknown
            };
            let entry = self.map.logs.entry(log).or_insert_with(unknown);
            entry.damage.get_or_insert(damage);
            self.since.state_bytes += UNKNOWN_BYTES_MAX;
        }
    }

    /// What the rest of the ring says of flush `seq`, whose record is not there: whether a start since, or any
    /// record that counts, of whatever lap since the checkpoint, proves that it was durable; and where the next
    /// flush's is, of which there is one, as a start writes each number once.
    fn beyond(&mut self, seq: FlushSeq) -> Beyond {
        let mut found = Beyond::default();
        if self.skip_crc {
            return found;
        }
        found.durable = self.superblock.found() >= seq;
        let owner = self.superblock.owner_of(seq);
        let mut at = 0;
        while at < self.ring() {
            let mut len = 0;
            match self.record_at(at) {
                Ok(Some((header, _))) => {
                    len = u64::from(header.len);
                    let counts = self.counts(&header);
                    found.durable |= counts && header.durable >= seq;
                    if header.seq.0 == seq.0 + 1 {
                        // Whoever wrote that later than the owner of `seq` has found what the owner wrote.
                        if counts {
                            found.next = Some(at);
                        } else if owner.is_some_and(|owner| header.start >= owner) {
                            found.rejected = Some(at);
                        }
                    }
                }
                Ok(None) => {}
                // It holds no record that can be read, and perhaps none that anybody needs.
                Err(error) => {
                    let at = RING_START + at;
                    let warning = format!("{error}: at byte {at}, beyond the journal's end");
                    if !self.report.warnings.contains(&warning) {
                        self.report.warnings.push(warning);
                    }
                }
            }
            at += block_ceil(len).max(BLOCK as u64);
        }
        found
    }

    fn unreadable(seq: FlushSeq, what: &str, pos: u64) -> RecoverError {
        RecoverError::Corrupt {
            what: format!(
                "{what}: flush {seq:?} was acknowledged but is not readable; restore the store \
                 from a replica or a backup (`millracectl store salvage` writes what can still be read)"
            ),
            pos,
        }
    }

    /// The record is whole, what it refers to is not: rot, if the flush was acknowledged, else torn with it.
    pub(super) fn goes_on_past(&mut self, header: &Header, rotten: &Rotten) -> bool {
        if !self.beyond(header.seq).durable {
            return false;
        }
        for (log, pos) in rotten {
            self.report.rot.push(format!(
                "bytes of log {log} at byte {pos}, that the journal refers to, have rotted"
            ));
        }
        true
    }

    /// The segment of a log that is to be its active one and goes on at `pos`; `None` if there is no such log. If
    /// it is another one, or ends elsewhere, as `follows` says, something of the log is lost: in place of that
    /// there are zeros.
    pub(super) fn resumed(
        &mut self,
        (log, id): (LogId, SegmentId),
        pos: u64,
        follows: impl Fn(&Segment) -> bool,
    ) -> Result<Option<&mut Segment>, RecoverError> {
        /// More than any record is about.
        const LOST_BYTES_MAX: u64 = 128 << 20;
        let Some(entry) = self.map.logs.get_mut(&log) else {
            return Ok(None);
        };
        let known = entry.segment(id).is_some();
        let segment = entry.active_named(id);
        let mends = segment.and_then(|segment| {
            if known && follows(segment) {
                return Some(false);
            }
            let lost = pos.checked_sub(segment.len)?;
            if lost > LOST_BYTES_MAX {
                return None;
            }
            segment.push_copy(&vec![0; lost as usize]);
            Some(true)
        });
        match mends {
            Some(false) => {}
            Some(true) => {
                entry.damage.get_or_insert(Damage::Contradiction);
            }
            None => return Err(self.contradiction(log, id)),
        }
        Ok(self.map.segment_mut(log, id))
    }

    /// The journal says something of a segment that no loss explains.
    pub(super) fn contradiction(&self, log: LogId, segment: SegmentId) -> RecoverError {
        RecoverError::Corrupt {
            what: format!("the journal (log {log} does not go on with segment {segment}): it"),
            pos: RING_START + self.pos % self.ring(),
        }
    }
}
