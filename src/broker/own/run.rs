//! Batches of the broker's own logs, read at a start: record by record, up to what cannot be read, and past it.

use crate::base::Offset;
use crate::record::{self, BatchError, BatchInfo};

/// Takes key, value and timestamp of a record.
pub type Each<'a> = &'a mut dyn FnMut(Option<&[u8]>, Option<&[u8]>, i64) -> Result<(), String>;

/// Takes a batch, of which the header alone was looked at.
pub type EachBatch<'a> = &'a mut dyn FnMut(&BatchInfo, &[u8]) -> Result<(), String>;

/// Batches that were read of a log, the last one perhaps cut.
pub struct BatchRun<'a> {
    rest: &'a [u8],
    /// Offset of what is at the start of `rest`.
    pub next: Offset,
    /// Whether there was a batch before that.
    begun: bool,
    /// Batches may be missing: records of theirs have a newer one of their key.
    has_gaps: bool,
}

impl<'a> BatchRun<'a> {
    /// What was read from the batch that holds the offset `next` on.
    pub fn new(bytes: &'a [u8], next: Offset) -> Self {
        Self {
            rest: bytes,
            next,
            begun: false,
            has_gaps: false,
        }
    }

    /// The same of a log that is compacted by the cleaner: what was read begins at the batch that holds the offset
    /// `next`, or at the first one behind it.
    pub fn with_gaps(bytes: &'a [u8], next: Offset) -> Self {
        Self {
            has_gaps: true,
            ..Self::new(bytes, next)
        }
    }

    /// Feeds every batch to `each`, up to the end or to what cannot be read; `next` says up to where.
    ///
    /// # Errors
    /// What is wrong with the batch at `next`, or what `each` says.
    pub fn each_batch(&mut self, each: EachBatch<'_>) -> Result<(), String> {
        while !self.rest.is_empty() {
            match self.first() {
                Ok((info, batch)) => {
                    each(&info, batch)?;
                    self.rest = &self.rest[info.len..];
                    self.next = Offset(info.last_offset() + 1);
                    self.begun = true;
                }
                // Cut, or a length that has rotted: the first header of what is read next tells.
                Err(BatchError::Truncated) if self.begun => return Ok(()),
                Err(why) => return Err(why.to_string()),
            }
        }
        Ok(())
    }

    /// Goes to the next batch behind what is wrong with the one at the start of `rest`, if it is among these bytes;
    /// false if there is none. At `known`, which is behind `next`, a batch begins, or the log ends; it ends at `end`.
    ///
    /// What a record holds may look like a batch. So nothing inside of the damaged one is taken for one, if its
    /// header is still one and says where it ends, nor anything that this log cannot have there.
    pub fn skip(&mut self, known: Offset, end: Offset) -> bool {
        /// Bytes that are gone over for checksums: there may be many headers of which each claims all the rest.
        const CHECKED_BYTES_MAX: usize = 64 << 20;
        let mut left = CHECKED_BYTES_MAX;
        // What has rotted in a header may be something else than its length.
        let claimed = claimed_len(self.rest).filter(|len| *len < self.rest.len());
        let behind = record::parse(self.rest).map_or(1, |info| info.len);
        for at in claimed.into_iter().chain(behind..self.rest.len()) {
            let rest = &self.rest[at..];
            let Some(info) = self.candidate(rest, known, end) else {
                continue;
            };
            if info.len > left {
                return false;
            }
            left -= info.len;
            if record::check_crc(&rest[..info.len]) {
                self.rest = rest;
                self.next = Offset(info.base_offset);
                return true;
            }
        }
        false
    }

    /// The header at the start of these bytes, if it may be the one to go on with.
    fn candidate(&self, rest: &[u8], known: Offset, end: Offset) -> Option<BatchInfo> {
        let info = record::parse(rest).ok()?;
        let bound = match info.base_offset < known.0 {
            true => known,
            false => end,
        };
        let fits = info.base_offset > self.next.0
            && info.base_offset <= known.0
            && info.last_offset() < bound.0;
        fits.then_some(info)
    }

    /// The batch at the start. Logs have no gaps but those of compaction, and base offsets are no part of a batch's
    /// CRC.
    fn first(&self) -> Result<(BatchInfo, &'a [u8]), BatchError> {
        let info = record::parse(self.rest)?;
        let from = match self.has_gaps {
            true => info.base_offset.min(self.next.0),
            false => info.base_offset,
        };
        if !(from..=info.last_offset()).contains(&self.next.0) {
            return Err(BatchError::Counts);
        }
        Ok((info, &self.rest[..info.len]))
    }
}

/// How long the first batch says that it is.
fn claimed_len(bytes: &[u8]) -> Option<usize> {
    /// Of what is before the end of the length.
    const PREFIX_BYTES: usize = 12;
    let len = usize::try_from(record::header(bytes)?.batch_length()).ok()?;
    len.checked_add(PREFIX_BYTES)
}

/// Feeds the records of a batch to `each`.
///
/// # Errors
/// What is wrong with it, or what `each` says.
pub fn feed(batch: &[u8], each: Each<'_>) -> Result<(), String> {
    /// The broker writes these batches itself, uncompressed: what could be written can be read.
    const OPENED_BYTES_MAX: usize = i32::MAX as usize;
    if !record::check_crc(batch) {
        return Err("the checksum of a record batch is wrong".into());
    }
    for record in record::records(batch, OPENED_BYTES_MAX).map_err(|error| error.to_string())? {
        let record = record.map_err(|error| error.to_string())?;
        each(
            record.key.as_deref(),
            record.value.as_deref(),
            record.timestamp,
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::LeaderEpoch;
    use crate::record::{BatchBuilder, Codec};

    /// Batches of one record each, with the offsets 5 to 8 as their keys.
    fn batches() -> (Vec<u8>, usize) {
        let mut bytes = Vec::new();
        for offset in 5..9u8 {
            let mut builder = BatchBuilder::new(Codec::None, 0);
            builder.push(0, Some(&[offset]), None, &[]);
            let mut batch = builder.build().to_vec();
            record::stamp(&mut batch, Offset(i64::from(offset)), LeaderEpoch(0));
            bytes.extend(batch);
        }
        let len = bytes.len() / 4;
        (bytes, len)
    }

    /// A batch of one record.
    fn one(offset: i64, key: u8, value: &[u8]) -> Vec<u8> {
        let mut builder = BatchBuilder::new(Codec::None, 0);
        builder.push(0, Some(&[key]), Some(value), &[]);
        let mut batch = builder.build().to_vec();
        record::stamp(&mut batch, Offset(offset), LeaderEpoch(0));
        batch
    }

    /// Clients say what is in a record: it may look like a batch.
    #[test]
    fn what_a_record_holds_is_not_taken_for_a_batch() {
        for forged in [6, 7, 8, 1_000_000_000_000] {
            let inner = one(forged, 66, b"forged");
            for rotten in [0, 16, 17, 21, 24, 40, 57, 64, 70] {
                let mut bytes = one(5, 5, b"");
                let at = bytes.len();
                bytes.extend(one(6, 6, &inner));
                bytes.extend(one(7, 7, b""));
                bytes.extend(one(8, 8, b""));
                bytes[at + rotten] ^= 0x40;
                let found = read(&bytes);
                assert_eq!(
                    found,
                    (vec![5, 7, 8], vec![6], 9),
                    "{forged}, byte {rotten}"
                );
            }
        }
    }

    #[test]
    fn a_batch_that_goes_past_what_is_known_is_none() {
        let mut forged = BatchBuilder::new(Codec::None, 0);
        forged.push(0, Some(&[66]), None, &[]);
        let mut forged = forged.build().to_vec();
        record::stamp(&mut forged, Offset(6), LeaderEpoch(0));
        // A claim of offsets up to far away, in a batch whose length has rotted.
        forged[23..27].copy_from_slice(&i32::MAX.to_be_bytes());
        let crc = crate::base::crc::crc32c(&forged[21..]);
        forged[17..21].copy_from_slice(&crc.to_be_bytes());
        let mut bytes = one(5, 5, &forged);
        bytes.extend(one(6, 6, b""));
        bytes[8] ^= 0x40;
        assert_eq!(read(&bytes), (vec![6], vec![5], 7));
    }

    #[test]
    fn headers_that_each_claim_all_the_rest_are_not_all_checked() {
        const HEADERS: usize = 3000;
        let mut inner = one(6, 66, b"");
        inner.truncate(record::HEADER_LEN);
        let mut inner = inner.repeat(HEADERS);
        for at in (0..inner.len()).step_by(record::HEADER_LEN) {
            let len = (inner.len() - at - 12) as i32;
            inner[at + 8..at + 12].copy_from_slice(&len.to_be_bytes());
        }
        let mut bytes = one(5, 5, &inner);
        bytes.extend(one(6, 6, b""));
        bytes[8] ^= 0x40;
        let mut run = BatchRun::new(&bytes, Offset(5));
        assert!(!run.skip(Offset(7), Offset(7)), "the log knows of a batch");
    }

    /// Keys that are read, past all damage, and the offset before each damage.
    fn read(bytes: &[u8]) -> (Vec<u8>, Vec<i64>, i64) {
        let mut run = BatchRun::new(bytes, Offset(5));
        let (mut keys, mut damage) = (Vec::new(), Vec::new());
        while run
            .each_batch(&mut |_, batch| {
                feed(batch, &mut |key, _, _| {
                    keys.extend_from_slice(key.unwrap_or_default());
                    Ok(())
                })
            })
            .is_err()
        {
            damage.push(run.next.0);
            if !run.skip(Offset(9), Offset(9)) {
                break;
            }
        }
        (keys, damage, run.next.0)
    }

    #[test]
    fn whatever_byte_has_rotted_the_batches_behind_it_are_read() {
        let (bytes, len) = batches();
        assert_eq!(read(&bytes), (vec![5, 6, 7, 8], vec![], 9));
        for at in len..2 * len {
            let mut bad = bytes.clone();
            bad[at] ^= 0x40;
            let found = read(&bad);
            match at - len {
                // The leader's epoch is no part of the CRC.
                12..16 => assert_eq!(found.0, [5, 6, 7, 8], "byte {at}"),
                // A length that is too large: as if the batch had been cut.
                8..=10 if found.1.is_empty() => assert_eq!((found.0, found.2), (vec![5], 6)),
                // One that is somewhat too large: nothing inside of what it claims is a batch.
                11 => assert_eq!(found, (vec![5, 8], vec![6], 9)),
                _ => assert_eq!(found, (vec![5, 7, 8], vec![6], 9), "byte {at}"),
            }
        }
    }

    #[test]
    fn batches_that_compaction_left_out_are_no_damage() {
        let (bytes, len) = batches();
        let bytes = [&bytes[..len], &bytes[2 * len..]].concat();
        let (mut keys, each) = (Vec::new(), |batch: &[u8], keys: &mut Vec<u8>| {
            feed(batch, &mut |key, _, _| {
                keys.extend_from_slice(key.unwrap_or_default());
                Ok(())
            })
        });
        let mut run = BatchRun::with_gaps(&bytes, Offset(4));
        assert_eq!(
            run.each_batch(&mut |_, batch| each(batch, &mut keys)),
            Ok(())
        );
        assert_eq!((keys, run.next), (vec![5, 7, 8], Offset(9)));
        let mut run = BatchRun::new(&bytes, Offset(5));
        let mut keys = Vec::new();
        assert!(
            run.each_batch(&mut |_, batch| each(batch, &mut keys))
                .is_err()
        );
        let mut run = BatchRun::with_gaps(&bytes, Offset(9));
        assert!(
            run.each_batch(&mut |_, _| Ok(())).is_err(),
            "it is behind all of them"
        );
    }

    #[test]
    fn a_cut_batch_is_an_end_only_behind_a_whole_one() {
        let (bytes, len) = batches();
        assert_eq!(read(&bytes[..2 * len - 1]), (vec![5], vec![], 6));
        assert_eq!(read(&bytes[..len - 1]), (vec![], vec![5], 5));
        assert_eq!(read(&[]), (vec![], vec![], 5));
    }
}
