//! The records of one decision, or of a part of a snapshot, as bytes: a version, then each record with its length in
//! front (u32, little-endian). Reading takes one after the other, for there may be many.

use bytes::Bytes;

use super::features::FeatureLevel;
use super::record::MetadataRecord;
use super::record_codec::BadRecord;
use crate::base::codec::{Put, Reader};

/// The version that is written, and the only one that is read.
const VERSION: u8 = 0;

/// Records being written.
#[derive(Clone, Debug)]
pub struct RecordList(Vec<u8>);

impl Default for RecordList {
    fn default() -> Self {
        Self(vec![VERSION])
    }
}

impl RecordList {
    /// Adds one, in the version that a feature level allows.
    pub fn push(&mut self, record: &MetadataRecord, level: FeatureLevel) {
        let bytes = record.encode(level);
        self.0.u32(bytes.len() as u32);
        self.0.put(&bytes);
    }

    /// What they take so far, in bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none yet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.len() <= 1
    }

    /// All of them.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0.into()
    }
}

/// Records being read. It ends behind the first one that cannot be.
#[derive(Debug)]
pub struct RecordListReader {
    from: Reader,
    is_bad: bool,
}

impl RecordListReader {
    /// Begins to read.
    ///
    /// # Errors
    /// It is of another version.
    pub fn new(bytes: Bytes) -> Result<Self, BadRecord> {
        let mut from = Reader::new(bytes);
        match from.u8() {
            Some(VERSION) => Ok(Self {
                from,
                is_bad: false,
            }),
            Some(other) => Err(BadRecord::UnknownList(other)),
            None => Err(BadRecord::Truncated),
        }
    }

    fn read(&mut self) -> Result<MetadataRecord, BadRecord> {
        let len = self.from.u32().ok_or(BadRecord::Truncated)?;
        let bytes = self.from.take(len as usize).ok_or(BadRecord::Truncated)?;
        MetadataRecord::decode(&bytes)
    }
}

impl Iterator for RecordListReader {
    type Item = Result<MetadataRecord, BadRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_bad || self.from.is_at_end() {
            return None;
        }
        let read = self.read();
        self.is_bad = read.is_err();
        Some(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::FEATURE_LEVEL;
    use crate::controller::testing::one_of_each;

    fn read(bytes: &[u8]) -> Result<Vec<MetadataRecord>, BadRecord> {
        RecordListReader::new(Bytes::copy_from_slice(bytes))?.collect()
    }

    #[test]
    fn what_is_written_is_read_and_what_is_cut_is_not() {
        let records = one_of_each();
        let mut list = RecordList::default();
        let mut ends = vec![list.len()];
        for record in &records {
            list.push(record, FEATURE_LEVEL);
            ends.push(list.len());
        }
        let bytes = list.into_bytes();
        assert_eq!(read(&bytes).as_ref(), Ok(&records));
        for cut in 0..bytes.len() {
            match ends.binary_search(&cut) {
                Ok(whole) => assert_eq!(read(&bytes[..cut]).unwrap(), records[..whole]),
                Err(_) => assert_eq!(read(&bytes[..cut]), Err(BadRecord::Truncated)),
            }
        }
        let mut other = bytes.to_vec();
        other[0] = 7;
        assert_eq!(read(&other), Err(BadRecord::UnknownList(7)));
        let long = [&[VERSION][..], &[255; 4]].concat();
        assert_eq!(read(&long), Err(BadRecord::Truncated));
    }
}
