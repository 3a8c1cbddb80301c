//! Looks for a record of a batch by its timestamp, a bounded amount at a time: the batch is opened in
//! pieces, and nothing of it is gathered.

use super::batch::{BatchInfo, HEADER_LEN, parse};
use super::error::BatchError;
use super::opener::Opener;
use super::walk::{Walk, Wanted};

/// What [`Seek`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sought {
    /// The first record that is wanted: its offset and timestamp.
    Record(i64, i64),
    /// All records with such a timestamp lie before the first offset that counts.
    Before,
    /// No record has such a timestamp.
    Nothing,
}

/// See the module.
#[derive(Debug)]
pub struct Seek<B: AsRef<[u8]> + Clone> {
    opener: Opener<B>,
    walk: Walk,
    /// Bytes that may still be decompressed.
    left: usize,
}

impl<B: AsRef<[u8]> + Clone> Seek<B> {
    /// For the first record of a batch with this timestamp or a larger one, from this offset on. `body` is
    /// what follows the batch's header; at most `open_bytes_max` bytes of it are decompressed.
    pub fn new(
        info: &BatchInfo,
        body: B,
        timestamp: i64,
        first: i64,
        open_bytes_max: usize,
    ) -> Self {
        let wanted = Wanted {
            timestamp,
            first,
            found: None,
            matched: false,
        };
        Self {
            opener: Opener::new(info.codec(), body),
            walk: Walk::seeking(info, wanted),
            left: open_bytes_max,
        }
    }

    /// Goes on until there is an answer or `work` is used up, counted in bytes decompressed.
    ///
    /// # Errors
    /// The batch cannot be opened, holds a malformed record or opens to more than it may.
    pub fn go_on(&mut self, work: &mut usize) -> Result<Option<Sought>, BatchError> {
        while *work > 0 {
            let Some(bytes) = self.opener.step(self.left, work)? else {
                self.walk.finish()?;
                return Ok(Some(match self.walk.wanted() {
                    Some(wanted) if wanted.matched => Sought::Before,
                    _ => Sought::Nothing,
                }));
            };
            let len = bytes.len();
            self.walk.feed_all(bytes, work)?;
            if let Some((offset, timestamp)) = self.walk.wanted().and_then(|w| w.found) {
                return Ok(Some(Sought::Record(offset, timestamp)));
            }
            self.left = self.left.checked_sub(len).ok_or(BatchError::TooLarge)?;
        }
        Ok(None)
    }
}

/// A batch's header as [`Seek::new`] wants it, and where its body begins.
///
/// # Errors
/// As [`parse`].
pub fn parts(batch: &[u8]) -> Result<(BatchInfo, &[u8]), BatchError> {
    let info = parse(batch)?;
    let body = batch.get(HEADER_LEN..info.len);
    Ok((info, body.ok_or(BatchError::Truncated)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{BatchBuilder, Codec};

    fn seek(batch: &[u8], timestamp: i64, first: i64, max: usize) -> Result<Sought, BatchError> {
        let (info, body) = parts(batch)?;
        let mut seek = Seek::new(&info, body, timestamp, first, max);
        let mut turns = 0;
        loop {
            // As little at a time as there is.
            if let Some(sought) = seek.go_on(&mut 1)? {
                return Ok(sought);
            }
            turns += 1;
            assert!(turns < 100_000, "it makes no progress");
        }
    }

    #[test]
    fn the_first_that_counts_is_found_whatever_the_codec() {
        for codec in Codec::ALL {
            let mut builder = BatchBuilder::new(codec, 100);
            for timestamp in [10, 30, 20, 40] {
                builder.push(timestamp, None, Some(&vec![7; 200_000]), &[]);
            }
            let batch = builder.build().to_vec();
            let find = |timestamp, first| seek(&batch, timestamp, first, 1 << 20);
            let base = parse(&batch).unwrap().base_offset;
            assert_eq!(find(0, 0), Ok(Sought::Record(base, 10)), "{codec:?}");
            assert_eq!(find(15, 0), Ok(Sought::Record(base + 1, 30)));
            assert_eq!(find(15, base + 2), Ok(Sought::Record(base + 2, 20)));
            assert_eq!(find(31, 0), Ok(Sought::Record(base + 3, 40)));
            assert_eq!(find(41, 0), Ok(Sought::Nothing));
            assert_eq!(find(31, base + 4), Ok(Sought::Before));
            if codec != Codec::None {
                assert_eq!(seek(&batch, 41, 0, 300_000), Err(BatchError::TooLarge));
            }
        }
    }
}
