//! Batches of the broker's own logs, read at a start: record by record, up to what cannot be read, and past it.

use crate::base::Offset;
use crate::record::{self, BatchError, BatchInfo};

/// Takes key, value and timestamp of a record.
pub(super) type Each<'a> =
    &'a mut dyn FnMut(Option<&[u8]>, Option<&[u8]>, i64) -> Result<(), String>;

/// Batches that were read of a log, the last one perhaps cut.
pub(super) struct Run<'a> {
    rest: &'a [u8],
    /// Offset of what is at the start of `rest`.
    pub next: Offset,
    /// Whether there was a batch before that.
    begun: bool,
}

impl<'a> Run<'a> {
    /// What was read from the batch that holds the offset `next` on.
    pub fn new(bytes: &'a [u8], next: Offset) -> Self {
        Self {
            rest: bytes,
            next,
            begun: false,
        }
    }

    /// Feeds every record to `each`, up to the end or to what cannot be read; `next` says up to where.
    ///
    /// # Errors
    /// What is wrong with the batch at `next`, or what `each` says.
    pub fn each(&mut self, each: Each<'_>) -> Result<(), String> {
        while !self.rest.is_empty() {
            match self.first() {
                Ok((info, batch)) => {
                    feed(batch, each)?;
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

    /// Goes to the next batch behind the start of `rest`; false if there is none.
    pub fn skip(&mut self) -> bool {
        for at in 1..self.rest.len() {
            let rest = &self.rest[at..];
            if let Ok(info) = record::parse(rest)
                && info.base_offset > self.next.0
                && record::check_crc(&rest[..info.len])
            {
                self.rest = rest;
                self.next = Offset(info.base_offset);
                return true;
            }
        }
        false
    }

    /// The batch at the start. Logs have no gaps, and base offsets are no part of a batch's CRC.
    fn first(&self) -> Result<(BatchInfo, &'a [u8]), BatchError> {
        let info = record::parse(self.rest)?;
        if !(info.base_offset..=info.last_offset()).contains(&self.next.0) {
            return Err(BatchError::Counts);
        }
        Ok((info, &self.rest[..info.len]))
    }
}

fn feed(batch: &[u8], each: Each<'_>) -> Result<(), String> {
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

    /// Keys that are read, past all damage, and the offset before each damage.
    fn read(bytes: &[u8]) -> (Vec<u8>, Vec<i64>, i64) {
        let mut run = Run::new(bytes, Offset(5));
        let (mut keys, mut damage) = (Vec::new(), Vec::new());
        while run
            .each(&mut |key, _, _| {
                keys.extend_from_slice(key.unwrap_or_default());
                Ok(())
            })
            .is_err()
        {
            damage.push(run.next.0);
            if !run.skip() {
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
                _ => assert_eq!(found, (vec![5, 7, 8], vec![6], 9), "byte {at}"),
            }
        }
    }

    #[test]
    fn a_cut_batch_is_an_end_only_behind_a_whole_one() {
        let (bytes, len) = batches();
        assert_eq!(read(&bytes[..2 * len - 1]), (vec![5], vec![], 6));
        assert_eq!(read(&bytes[..len - 1]), (vec![], vec![5], 5));
        assert_eq!(read(&[]), (vec![], vec![], 5));
    }
}
