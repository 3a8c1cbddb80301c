//! A segment that is to be cut, while its headers are gone through.

use super::hints::Position;
use super::producers::Producers;
use super::segment::{BatchEntry, Segment};
use super::walk::Window;
use crate::base::{ErrorCode, LeaderEpoch, Offset};
use crate::record::BatchHeader;

/// A segment while it is gone through, up to the batch that goes first.
#[derive(Debug)]
pub(super) struct Rebuild {
    pub(super) offset: Offset,
    pub(super) segment: Segment,
    pub(super) producers: Producers,
    /// The offset after the last batch so far.
    pub(super) next: Offset,
    /// Wall time of the last append.
    pub(super) modified_ms: i64,
    /// Base offset of the first batch that goes.
    pub(super) first_gone: Option<Offset>,
}

impl Rebuild {
    /// Takes one batch; whether to go on.
    pub(super) fn take(
        &mut self,
        header: &BatchHeader,
        base: Offset,
        epoch: LeaderEpoch,
        (len, batch): (u64, Option<&[u8]>),
    ) -> Result<bool, ErrorCode> {
        let entry = BatchEntry::of_header(header, base, epoch, len)
            .map(|entry| entry.reading(batch.unwrap_or_default()))
            .filter(|entry| entry.base_offset >= self.next && self.segment.fits(entry))
            .ok_or(ErrorCode::CorruptMessage)?;
        if entry.last_offset >= self.offset {
            self.first_gone = Some(base);
            return Ok(false);
        }
        let at = Position {
            offset: base,
            segment: self.segment.id,
            pos: self.segment.len,
        };
        self.producers
            .take(entry.remembered(), entry.transaction, at);
        self.segment.has_gaps |= base > self.next;
        self.segment.add(&entry, self.modified_ms);
        self.next = entry.next_offset();
        Ok(true)
    }

    /// Goes through the headers in a window, which begins where this has got to.
    pub(super) fn go_through(&mut self, window: &Window<'_>) -> Result<(), ErrorCode> {
        let mut seen = false;
        while let Some(head) = window.head(self.segment.len)? {
            let header = window.header(head.pos).ok_or(ErrorCode::CorruptMessage)?;
            let batch = window.batch(&head);
            if seen && header.is_control() && batch.is_none() {
                // What a marker says is to be looked at: the next window begins with it, and is longer than any.
                break;
            }
            seen = true;
            if !self.take(header, head.base_offset, head.epoch, (head.len, batch))? {
                break;
            }
        }
        // Not one header: these are not the bytes that were asked for.
        seen.then_some(()).ok_or(ErrorCode::CorruptMessage)
    }
}
