//! Snapshots of the metadata in a log of their own: records that make the image, in parts of bounded size, and behind
//! them a record with the mark, the number of parts and a checksum over them. So a part of a snapshot is never taken
//! for a whole one. A snapshot begins in a new segment, and when it counts the one before is dropped.
//!
//! The image is one that is committed, and never changes: decisions go on while it is written down. It is gone through
//! twice: what it takes is counted before the first part is written, so that none begins for which there is no room.

use std::sync::Arc;

use bytes::Bytes;

use super::growth::room_in;
use super::logs::{batch_of, record_of};
use crate::base::codec::{Put, Reader};
use crate::base::crc::crc32c;
use crate::base::{Leftovers, Offset, StoreId};
use crate::broker::fx::Fx;
use crate::broker::own::compact::PART_BYTES_MAX;
use crate::broker::owner::Owner;
use crate::controller::{
    FeatureLevel, Image, ImageRecords, METADATA_SNAPSHOT_LOG, RecordList, RecordListReader,
};
use crate::quorum::{EntryIndex, SnapshotMark};

/// The kinds of records, which no other log has: the part with which a snapshot begins, one that follows, the end.
const FIRST: u8 = 0x20;
const NEXT: u8 = 0x21;
const END: u8 = 0x22;
/// The end of one that was fetched: the metadata log may not have been begun anew behind it.
const FETCHED_END: u8 = 0x23;
/// What a batch has at most besides the part of a snapshot in it; its end, with all the voters that there can be, is
/// smaller too.
pub const BATCH_BYTES: usize = 1024;

/// What the parts of a snapshot come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    parts: u64,
    crc: u32,
}

impl Sum {
    /// The batch of the next part.
    pub fn part(&mut self, part: &[u8], wall_ms: i64) -> Bytes {
        let kind = if self.parts == 0 { FIRST } else { NEXT };
        self.add(part);
        batch_of(kind, part, wall_ms)
    }

    /// What is said at the end, of a snapshot up to this mark.
    fn end(self, mark: &SnapshotMark) -> Bytes {
        let mut end = Vec::new();
        end.u64(self.parts);
        end.u32(self.crc);
        end.put(&mark.encode());
        end.into()
    }

    /// The batch at the end of a snapshot that was fetched.
    pub fn fetched(self, mark: &SnapshotMark, wall_ms: i64) -> Bytes {
        batch_of(FETCHED_END, &self.end(mark), wall_ms)
    }

    fn add(&mut self, part: &[u8]) {
        let mut both = [0; 8];
        both[..4].copy_from_slice(&self.crc.to_le_bytes());
        both[4..].copy_from_slice(&crc32c(part).to_le_bytes());
        self.crc = crc32c(&both);
        self.parts += 1;
    }
}

/// How far a snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotWritten {
    /// There is more to be written.
    Partly,
    /// The store has to grow first, or what has taken the room meanwhile has to go.
    Waits,
    /// There is no room for it, and nothing was written of it.
    NoRoom,
    /// It is whole.
    Whole {
        /// Where it begins in its log.
        first: Offset,
        /// Where it ends.
        end: Offset,
    },
}

/// A snapshot that is being written down.
#[derive(Debug)]
pub struct SnapshotWriter {
    /// What it is of.
    pub mark: SnapshotMark,
    records: ImageRecords,
    level: FeatureLevel,
    /// Of a cluster that does not exist yet: it is a few bytes, for which a store that is new has not grown yet.
    is_nothing: bool,
    /// Whether what the store keeps for the broker stays untouched.
    spares: bool,
    part: RecordList,
    sum: Sum,
    /// How many bytes it takes in its log, as far as they are counted.
    bytes: usize,
    /// The image, as long as they are.
    counted: Option<Image>,
    /// What is to be appended next.
    ready: Option<(u8, Bytes)>,
    /// Where it begins in the log, when it does.
    first: Option<Offset>,
}

impl SnapshotWriter {
    /// Of an image, which is what the mark says. Whether it `spares` what the store keeps for the broker: one that
    /// does without is not made where a topic that is deleted would find no room any more.
    pub fn new(mark: SnapshotMark, image: &Image, spares: bool) -> Self {
        let is_nothing = mark.id.index == EntryIndex::ZERO;
        Self {
            mark,
            records: ImageRecords::new(image),
            level: image.features.max(1),
            is_nothing,
            spares,
            part: RecordList::default(),
            sum: Sum::default(),
            bytes: 0,
            counted: Some(image.clone()),
            ready: None,
            first: None,
        }
    }

    /// Gives up what it is made of, to be dropped some at a time.
    pub fn leave(self, leftovers: &mut Leftovers) {
        self.records.leave(leftovers);
        if let Some(image) = self.counted {
            Arc::new(image).leave(leftovers);
        }
    }

    /// Goes on, as long as there is something `left` of a slice; a record costs one.
    ///
    /// # Errors
    /// The log cannot be written.
    pub fn go_on(
        &mut self,
        left: &mut usize,
        owner: &mut Owner,
        fx: &Fx<'_>,
    ) -> Result<SnapshotWritten, String> {
        loop {
            if let Some((kind, value)) = &self.ready {
                let kind = *kind;
                match self.room(value.len(), owner) {
                    Some(true) => {}
                    _ if self.is_nothing => {}
                    // What is written of it already stays, and no other one begins.
                    Some(false) if self.first.is_none() => return Ok(SnapshotWritten::NoRoom),
                    _ => return Ok(SnapshotWritten::Waits),
                }
                let batch = batch_of(kind, value, fx.now.wall_ms);
                let end = self.append(batch, owner, fx)?;
                self.ready = None;
                if let Some(first) = self.first.filter(|_| kind == END) {
                    return Ok(SnapshotWritten::Whole { first, end });
                }
            }
            if *left == 0 {
                return Ok(SnapshotWritten::Partly);
            }
            *left -= 1;
            match self.records.next() {
                Some(record) => {
                    self.part.push(&record, self.level);
                    if self.part.len() >= PART_BYTES_MAX {
                        self.end_part();
                    }
                }
                None if !self.part.is_empty() => self.end_part(),
                None if self.counted.is_some() => {
                    self.bytes += BATCH_BYTES;
                    // Now that it is known what it takes.
                    if let Some(image) = self.counted.take() {
                        self.records = ImageRecords::new(&image);
                    }
                }
                None => self.ready = Some((END, self.sum.end(&self.mark))),
            }
        }
    }

    /// Whether there is room for the next part, and before the first one for all of it; `None` as long as the store
    /// grows.
    fn room(&self, part: usize, owner: &mut Owner) -> Option<bool> {
        let bytes = match self.first {
            None => self.bytes,
            Some(_) => part + BATCH_BYTES,
        };
        room_in(owner, StoreId(0), bytes, self.spares)
    }

    fn end_part(&mut self) {
        let part = std::mem::take(&mut self.part).into_bytes();
        if self.counted.is_some() {
            self.bytes += part.len() + BATCH_BYTES;
            return;
        }
        let kind = if self.sum.parts == 0 { FIRST } else { NEXT };
        self.sum.add(&part);
        self.ready = Some((kind, part));
    }

    fn append(&mut self, batch: Bytes, owner: &mut Owner, fx: &Fx<'_>) -> Result<Offset, String> {
        if self.first.is_none() {
            self.first = owner.begin_rewrite(fx.now, METADATA_SNAPSHOT_LOG);
        }
        let appended = owner.append_internal(fx.now, METADATA_SNAPSHOT_LOG, batch);
        appended.map_err(|why| format!("a snapshot of the metadata cannot be written: {why}"))
    }
}

/// Reads the log of snapshots, batch by batch.
#[derive(Debug)]
pub struct SnapshotReader {
    /// The image without any records.
    pub nothing: Image,
    /// The one that is being read.
    reading: Option<(Image, Sum)>,
    /// The newest whole one.
    pub whole: Option<(SnapshotMark, Image)>,
    /// Whether that was fetched.
    pub is_fetched: bool,
}

impl SnapshotReader {
    /// For a node whose image is this one before there are any records.
    pub const fn new(nothing: Image) -> Self {
        Self {
            nothing,
            reading: None,
            whole: None,
            is_fetched: false,
        }
    }

    /// Takes a batch.
    ///
    /// # Errors
    /// It is none that this release writes there.
    pub fn take(&mut self, batch: &[u8]) -> Result<(), String> {
        let (kind, value) = record_of(batch)?;
        match (kind, &mut self.reading) {
            (FIRST, reading) => {
                *reading = Some((self.nothing.clone(), Sum::default()));
                self.take_part(value)
            }
            (NEXT, Some(_)) => self.take_part(value),
            (END | FETCHED_END, reading) => {
                let (image, sum) = reading.take().ok_or("the end of no snapshot")?;
                let (said, mark) = end_of(value).ok_or("the end of a snapshot that is none")?;
                if said != sum {
                    return Err("a snapshot that is not what it was".into());
                }
                self.whole = Some((mark, image));
                self.is_fetched = kind == FETCHED_END;
                Ok(())
            }
            (NEXT, None) => Err("a part of a snapshot that has not begun".into()),
            (kind, _) => Err(format!("kind {kind} of snapshot is of a later release")),
        }
    }

    fn take_part(&mut self, part: Bytes) -> Result<(), String> {
        let Some((image, sum)) = &mut self.reading else {
            return Ok(());
        };
        sum.add(&part);
        replay_part(image, part)
    }
}

/// Takes the records of a part into the image that a snapshot comes to.
///
/// # Errors
/// They are none, or contradict it.
pub fn replay_part(image: &mut Image, part: Bytes) -> Result<(), String> {
    for record in RecordListReader::new(part).map_err(|error| error.to_string())? {
        let record = record.map_err(|error| error.to_string())?;
        image.replay(&record).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn end_of(value: Bytes) -> Option<(Sum, SnapshotMark)> {
    let mut from = Reader::new(value.clone());
    let (parts, crc) = (from.u64()?, from.u32()?);
    let mark = SnapshotMark::decode(&value.slice(12..))?;
    Some((Sum { parts, crc }, mark))
}
