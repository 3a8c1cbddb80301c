//! Finding offsets and planning fetches. The position of an offset comes from, in
//! this order: the hint an earlier read left, the sparse index, and the batch
//! headers from there on. Headers in memory are walked at once; for headers in
//! the file the caller gets a [`ReadOutcome::Scan`], and asks again after
//! [`Log::scanned`]. A consumer that reads on, and every consumer at the tail,
//! is served from hints alone; but what comes from the file first has its first
//! header looked at.
//!
//! A leader reads what it pushes to other replicas in the same way, farther than
//! clients may: how far a read goes is its [`Reach`].

use crate::base::limits::FETCH_PIECES_MAX;
use crate::base::{BLOCK, ErrorCode, Offset};
use crate::record;
use crate::store::{FlushSeq, Piece, Store};

use super::Log;
use super::hints::{Boundary, Hints, Position, Span};
use super::outcome::{Goal, Reach, ReadOutcome, Ticket};
use super::walk::{HEADER_BYTES, Loaded, Window, load, window_len};

/// Where an offset is, or what to read to find out.
enum Located {
    At(Boundary),
    /// There is nothing but a gap from there on, up to where the read ends.
    Nowhere,
    Scan {
        pieces: Vec<Piece>,
        ticket: Ticket,
    },
}

impl Log {
    /// Plans a fetch of at most `max_bytes` from `offset` on, never past the high watermark. What
    /// is planned holds at least one whole batch or is empty. With `at_least_one` the first batch
    /// is there whatever its size.
    ///
    /// # Errors
    /// OFFSET_OUT_OF_RANGE before the log start or after the log end; CORRUPT_MESSAGE if the bytes in
    /// memory, or those of the scan before, are no batches; KAFKA_STORAGE_ERROR if the store lacks some.
    pub fn read(
        &mut self,
        store: &Store,
        offset: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<ReadOutcome, ErrorCode> {
        self.read_within(Reach::Readable, store, offset, (max_bytes, at_least_one))
    }

    /// The same for those who read what is committed: never past the [last stable offset](Self::last_stable). What
    /// they have to leave out of it [`aborted_between`](Self::aborted_between) says.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_stable(
        &mut self,
        store: &Store,
        offset: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<ReadOutcome, ErrorCode> {
        self.read_within(Reach::Stable, store, offset, (max_bytes, at_least_one))
    }

    /// The same for what a leader pushes to other replicas: at least one batch, and as far as flushes go of which
    /// `started` is the last that [has begun](Store::started_seq), durable or not. What no flush has taken cannot be
    /// read. `offset` is where a batch begins, or inside of one, which is read from its beginning then.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_to_push(
        &mut self,
        store: &Store,
        offset: Offset,
        max_bytes: usize,
        started: FlushSeq,
    ) -> Result<ReadOutcome, ErrorCode> {
        let taken = self.pending.partition_point(|(flush, _)| *flush <= started);
        let last = taken.checked_sub(1).and_then(|n| self.pending.get(n));
        let reach = Reach::Pushed(last.map_or(self.durable, |(_, end)| *end));
        self.read_within(reach, store, offset, (max_bytes, true))
    }

    fn read_within(
        &mut self,
        reach: Reach,
        store: &Store,
        offset: Offset,
        (max_bytes, at_least_one): (usize, bool),
    ) -> Result<ReadOutcome, ErrorCode> {
        // What is pushed is looked at whole before it is sent, so nothing of its beginning has to be known; and nobody
        // who pushes may take away what a scan has left for a client.
        let is_pushed = matches!(reach, Reach::Pushed(_));
        let seen = if is_pushed { None } else { self.seen.take() };
        if offset < self.log_start || offset > self.end {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        let bound = self.bound(reach);
        if offset >= bound.offset {
            if offset == bound.offset && (reach != Reach::Stable || bound == self.high_watermark) {
                // It waits here for more: remember where that will be.
                self.learn(reach, Boundary::unseen(bound));
            }
            return Ok(ReadOutcome::nothing(Some(offset)));
        }
        let max_bytes = max_bytes as u64;
        if !at_least_one && max_bytes < HEADER_BYTES {
            return Ok(ReadOutcome::withheld(max_bytes));
        }
        let mut looked_at = 0;
        match self.locate(reach, store, offset, (max_bytes, &mut looked_at))? {
            Located::Scan { pieces, ticket } => Ok(ReadOutcome::Scan { pieces, ticket }),
            Located::Nowhere => Ok(ReadOutcome::nothing(Some(bound.offset))),
            Located::At(boundary) => {
                let mut planned = self.plan(reach, store, &boundary, (max_bytes, at_least_one))?;
                if let ReadOutcome::Plan { looked_at: at, .. } = &mut planned {
                    *at = looked_at;
                }
                if !is_pushed
                    && let ReadOutcome::Plan { pieces, .. } = &mut planned
                    && let Some(Piece::File { begins, .. }) = pieces.first_mut()
                {
                    let Some((_, beginning)) = seen.filter(|(at, _)| *at == boundary.at) else {
                        return self.look_at_first(reach, store, boundary.at);
                    };
                    *begins = Some(Box::new(beginning));
                }
                Ok(planned)
            }
        }
    }

    /// Where a read ends.
    fn bound(&self, reach: Reach) -> Position {
        match reach {
            Reach::Readable => self.high_watermark,
            Reach::Stable => self.stable_position(),
            Reach::Pushed(to) => to,
        }
    }

    /// What reads have left that go as far.
    fn hints_of(&self, reach: Reach) -> &Hints {
        match reach {
            Reach::Readable | Reach::Stable => &self.hints,
            Reach::Pushed(_) => &self.push_hints,
        }
    }

    fn learn(&mut self, reach: Reach, found: Boundary) {
        match reach {
            Reach::Readable | Reach::Stable => self.hints.learn(found),
            Reach::Pushed(_) => self.push_hints.learn(found),
        }
    }

    /// Asks for the header of the first batch of a plan, and for what is in its block of it. A reader could
    /// not tell a length that has rotted from a batch that was cut, and would ask for it for ever. What has
    /// rotted farther on is the first batch of a later plan.
    fn look_at_first(
        &mut self,
        reach: Reach,
        store: &Store,
        at: Position,
    ) -> Result<ReadOutcome, ErrorCode> {
        const BLOCK_BYTES: u64 = BLOCK as u64;
        let (_, segment) = self
            .segment(at.segment)
            .ok_or(ErrorCode::OffsetOutOfRange)?;
        let end = (at.pos + HEADER_BYTES).next_multiple_of(BLOCK_BYTES);
        let end = end.min(Self::end_within(segment, &self.bound(reach)));
        let len = end.saturating_sub(at.pos);
        let mut pieces = Vec::new();
        store.read(self.id, at.segment, at.pos, len as usize, &mut pieces);
        let ticket = Ticket {
            segment: at.segment,
            pos: at.pos,
            len: len as usize,
            goal: Goal::First(at.offset),
            reach,
        };
        self.check_scan(&ticket)?;
        Ok(ReadOutcome::Scan { pieces, ticket })
    }

    /// The pieces of a scan that was put off; `None` if they are no longer there.
    #[must_use]
    pub fn pieces_of(&self, store: &Store, ticket: &Ticket) -> Option<Vec<Piece>> {
        let mut pieces = Vec::new();
        store.read(self.id, ticket.segment, ticket.pos, ticket.len, &mut pieces);
        let there: usize = pieces.iter().map(Piece::len).sum();
        (there == ticket.len).then_some(pieces)
    }

    /// Takes the bytes of a scan: exactly those of the pieces that came with the ticket. The
    /// operation that wanted them is to be tried again at once; if this failed, so does that.
    ///
    /// # Errors
    /// CORRUPT_MESSAGE if they are no batches, KAFKA_STORAGE_ERROR if they are too few.
    pub fn scanned(&mut self, ticket: Ticket, bytes: &[u8]) -> Result<(), ErrorCode> {
        let outcome = self.learn_from(ticket, bytes);
        self.failed_scan = outcome.err().map(|error| (ticket, error));
        outcome
    }

    fn learn_from(&mut self, ticket: Ticket, bytes: &[u8]) -> Result<(), ErrorCode> {
        if bytes.len() != ticket.len {
            return Err(ErrorCode::KafkaStorageError);
        }
        match ticket.goal {
            Goal::Time(goal) => {
                return self.scanned_time(ticket.segment, ticket.pos, bytes, goal);
            }
            Goal::Rebuild => return self.scanned_rebuild(&ticket, bytes),
            Goal::Offset { .. } | Goal::First(_) => {}
        }
        let bound = self.bound(ticket.reach);
        // Where a push ended may have been cut off.
        let there = self
            .segment(ticket.segment)
            .filter(|_| self.is_place(&bound))
            .filter(|(_, s)| ticket.pos + ticket.len as u64 <= Self::end_within(s, &bound));
        let Some((_, segment)) = there else {
            return Ok(()); // Dropped or cut meanwhile; asking again will tell.
        };
        let window = Window {
            segment,
            start: ticket.pos,
            bytes,
            limit: self.limit_within(segment, &bound),
        };
        match ticket.goal {
            Goal::Offset { from, offset } => {
                let found = walk(&window, from, offset)?;
                // Its header was among these bytes, so it need not be looked at once more.
                let beginning = found.batch.and_then(|_| window.beginning(found.at.pos));
                self.seen = beginning.map(|beginning| (found.at, beginning));
                self.learn(ticket.reach, found);
            }
            Goal::First(offset) => {
                let found = self.first(&window, offset)?;
                let beginning = window.beginning(found.at.pos);
                self.seen = beginning.map(|beginning| (found.at, beginning));
                self.learn(ticket.reach, found);
            }
            Goal::Time(_) | Goal::Rebuild => {}
        }
        Ok(())
    }

    /// Looks at the batch at the start of a window, whose offset is known.
    fn first(&self, window: &Window<'_>, offset: Offset) -> Result<Boundary, ErrorCode> {
        let head = window.head(window.start)?;
        let good = head.filter(|head| {
            let whole = window.batch(head);
            window.follows(offset, head.base_offset)
                && head.epoch == self.epochs.at(head.last_offset)
                && whole.is_none_or(record::check_crc)
        });
        let head = good.ok_or(ErrorCode::CorruptMessage)?;
        let at = Position {
            offset,
            segment: window.segment.id,
            pos: head.pos,
        };
        let batch = Some(Span {
            len: head.len,
            last_offset: head.last_offset,
        });
        Ok(Boundary { at, batch })
    }

    /// Refuses a scan that has just failed.
    pub(super) fn check_scan(&mut self, ticket: &Ticket) -> Result<(), ErrorCode> {
        match self.failed_scan.take() {
            Some((failed, error)) if failed.is_like(ticket) => Err(error),
            _ => Ok(()),
        }
    }

    /// Bytes from `offset` to the high watermark, for `min.bytes`. Cheap: where the batch of the
    /// offset is not known it counts from the last known one before.
    #[must_use]
    pub fn bytes_available(&self, offset: Offset) -> u64 {
        self.available(self.high_watermark, offset)
    }

    /// The same to the last stable offset.
    #[must_use]
    pub fn stable_bytes_available(&self, offset: Offset) -> u64 {
        self.available(self.stable_position(), offset)
    }

    fn available(&self, to: Position, offset: Offset) -> u64 {
        if offset < self.log_start || offset >= to.offset {
            return 0;
        }
        let Some(from) = self.floor(Reach::Readable, offset) else {
            return 0;
        };
        self.log_bytes(&to).saturating_sub(self.log_bytes(&from.at))
    }

    /// The known boundary nearest to `offset` and not after it.
    fn floor(&self, reach: Reach, offset: Offset) -> Option<Boundary> {
        let after = self.segments.partition_point(|s| s.base <= offset);
        let segment = self.segments.get(after.checked_sub(1)?)?;
        let (indexed, pos) = segment.floor(offset);
        let indexed = Boundary::unseen(Position {
            offset: indexed,
            segment: segment.id,
            pos,
        });
        match self.hints_of(reach).floor(segment.id, offset) {
            Some(hint) if hint.at.offset >= indexed.at.offset => Some(hint),
            _ => Some(indexed),
        }
    }

    /// The first offset behind `offset` at which a batch is known to begin without reading any; the high
    /// watermark if there is none before it.
    #[must_use]
    pub fn known_after(&self, offset: Offset) -> Offset {
        let end = self.high_watermark.offset;
        let after = self.segments.partition_point(|s| s.base <= offset);
        let indexed = after.checked_sub(1).and_then(|n| self.segments.get(n));
        let indexed = indexed.and_then(|s| s.around(s.floor(offset).1).1);
        let segment = self.segments.get(after).map(|s| s.base);
        let known = indexed.map(|(offset, _)| offset).or(segment);
        known.map_or(end, |known| known.min(end))
    }

    /// Bytes of the log before this place, counted as the segments' starts are.
    pub(super) fn log_bytes(&self, at: &Position) -> u64 {
        self.segment(at.segment).map_or_else(
            || self.segments.front().map_or(0, |first| first.start),
            |(_, segment)| segment.start + at.pos,
        )
    }

    /// Finds the batch that holds `offset`, which is before where the read ends. If that batch may be
    /// larger than `max_bytes`, its length is found out too. Adds the bytes in memory that it has gone through.
    fn locate(
        &mut self,
        reach: Reach,
        store: &Store,
        mut offset: Offset,
        (max_bytes, looked_at): (u64, &mut usize),
    ) -> Result<Located, ErrorCode> {
        let bound = self.bound(reach);
        loop {
            let from = self
                .floor(reach, offset)
                .ok_or(ErrorCode::OffsetOutOfRange)?;
            let (number, segment) = self
                .segment(from.at.segment)
                .ok_or(ErrorCode::OffsetOutOfRange)?;
            let limit = Self::end_within(segment, &bound);
            if from.at.pos >= limit {
                // Behind the last batch of the segment there is a gap.
                match self.segments.get(number + 1) {
                    Some(next) if next.id <= bound.segment => offset = next.base,
                    _ => return Ok(Located::Nowhere),
                }
                continue;
            }
            let sized = from.batch.is_some() || segment.largest_batch <= max_bytes;
            let held = from.holds(offset);
            if held && sized {
                return Ok(Located::At(from));
            }
            let len = match held {
                true => HEADER_BYTES.min(limit.saturating_sub(from.at.pos)),
                // No further than to where the index has the next batch: it is before that.
                false => {
                    let next = segment.around(from.at.pos).1;
                    let limit = next.map_or(limit, |(_, pos)| limit.min(pos));
                    window_len(segment, from.at.pos, limit)
                }
            };
            match load(store, self.id, segment.id, from.at.pos, len)? {
                Loaded::Memory(bytes) => {
                    *looked_at += bytes.len();
                    let window = Window {
                        segment,
                        start: from.at.pos,
                        bytes: &bytes,
                        limit: self.limit_within(segment, &bound),
                    };
                    let found = walk(&window, from.at.offset, offset)?;
                    self.learn(reach, found);
                }
                Loaded::File(pieces) => {
                    let ticket = Ticket {
                        segment: segment.id,
                        pos: from.at.pos,
                        len: len as usize,
                        goal: Goal::Offset {
                            from: from.at.offset,
                            offset,
                        },
                        reach,
                    };
                    self.check_scan(&ticket)?;
                    return Ok(Located::Scan { pieces, ticket });
                }
            }
        }
    }

    /// Plans the bytes from a batch on, across segments.
    fn plan(
        &mut self,
        reach: Reach,
        store: &Store,
        from: &Boundary,
        (max_bytes, at_least_one): (u64, bool),
    ) -> Result<ReadOutcome, ErrorCode> {
        let bound = self.bound(reach);
        let Some((first, segment)) = self.segment(from.at.segment) else {
            return Ok(ReadOutcome::nothing(None));
        };
        let first_len = from.batch.map_or(segment.largest_batch, |batch| batch.len);
        let most = max_bytes.max(first_len);
        let counts = |limit: u64| match from.at.segment < bound.segment {
            true => ReadOutcome::ENOUGH,
            false => bound.pos.saturating_sub(from.at.pos).min(limit),
        };
        if !at_least_one && first_len > max_bytes {
            return Ok(ReadOutcome::withheld(counts(max_bytes)));
        }
        let (mut left, mut pieces) = (most, Vec::new());
        let mut start = from.at.pos;
        let (mut reached, mut ends) = (None, (first, start));
        for number in first..self.segments.len() {
            let segment = &self.segments[number];
            let limit = Self::end_within(segment, &bound);
            let (len, end) = self.part(number, (start, limit), left, &bound);
            if len == 0 {
                break;
            }
            let before = pieces.len();
            let pieces_max = FETCH_PIECES_MAX - before;
            store.read_some(
                self.id,
                segment.id,
                (start, len as usize),
                pieces_max,
                &mut pieces,
            );
            let mut got = bytes_of(&pieces[before..]);
            if got < len && pieces.len() == FETCH_PIECES_MAX {
                // The rest has its turn when the reader comes for it. The first batch is whole all the same.
                if number == first && got < first_len {
                    pieces.clear();
                    got = first_len.min(len);
                    store.read(self.id, segment.id, start, got as usize, &mut pieces);
                }
                (reached, ends) = (None, (number, start + got));
                left -= got;
                break;
            }
            (reached, ends) = (end, (number, start + len));
            left -= len;
            if start + len < limit || pieces.len() == FETCH_PIECES_MAX {
                break;
            }
            start = 0;
        }
        let bytes = bytes_of(&pieces);
        if bytes != most - left {
            // Something in the middle would be left out, and whoever reads it takes that for a gap.
            return Err(ErrorCode::KafkaStorageError);
        }
        let bytes = bytes as usize;
        if let Some(end) = reached {
            self.learn(reach, Boundary::unseen(end));
        }
        Ok(ReadOutcome::Plan {
            bytes,
            counts: counts(most),
            looked_at: 0,
            first_bytes_max: first_len as usize,
            withheld: false,
            pieces,
            next: reached.map(|end| end.offset),
            before: reached.map_or_else(|| self.before(ends, &bound), |end| end.offset),
        })
    }

    /// An offset that is not before the batch that begins at this byte of a segment, or has it within.
    fn before(&self, (number, pos): (usize, u64), bound: &Position) -> Offset {
        let indexed = self.segments.get(number).and_then(|s| s.around(pos).1);
        let next = self.segments.get(number + 1).map(|next| next.base);
        let known = indexed.map(|(offset, _)| offset).or(next);
        known.map_or(bound.offset, |known| known.min(bound.offset))
    }

    /// How many bytes of one segment to plan, and where that ends if it ends at a batch that is
    /// known. A plan that has to be cut ends at an indexed batch if one is in its second half: the
    /// reader will come back for the offset there, and need not be searched for.
    fn part(
        &self,
        number: usize,
        (start, limit): (u64, u64),
        left: u64,
        bound: &Position,
    ) -> (u64, Option<Position>) {
        let segment = &self.segments[number];
        let room = limit.saturating_sub(start);
        if room <= left {
            return (room, Some(self.end_of(number, bound)));
        }
        match segment.boundary_between(start + left / 2, start + left) {
            Some((offset, pos)) => {
                let end = Position {
                    offset,
                    segment: segment.id,
                    pos,
                };
                (pos - start, Some(end))
            }
            None => (left, None),
        }
    }

    /// Where the part of a segment ends that may be read: where the read does, or the next segment.
    fn end_of(&self, number: usize, bound: &Position) -> Position {
        match self.segments.get(number + 1) {
            Some(next) if self.segments[number].id < bound.segment => Position {
                offset: next.base,
                segment: next.id,
                pos: 0,
            },
            _ => *bound,
        }
    }
}

fn bytes_of(pieces: &[Piece]) -> u64 {
    pieces.iter().map(|piece| piece.len() as u64).sum()
}

/// Walks the headers of a window, which begins with offset `from`, until the batch that holds
/// `offset`, or until the window ends: then the boundary is where the next batch begins.
fn walk(window: &Window<'_>, from: Offset, offset: Offset) -> Result<Boundary, ErrorCode> {
    let segment = window.segment.id;
    let mut expected = from;
    let mut pos = window.start;
    while let Some(head) = window.head(pos)? {
        if !window.follows(expected, head.base_offset) {
            return Err(ErrorCode::CorruptMessage);
        }
        if head.last_offset >= offset {
            let at = Position {
                offset: expected,
                segment,
                pos,
            };
            let batch = Some(Span {
                len: head.len,
                last_offset: head.last_offset,
            });
            return Ok(Boundary { at, batch });
        }
        expected = head.last_offset.plus(1);
        pos = head.end();
    }
    if pos == window.start {
        return Err(ErrorCode::CorruptMessage); // Not one header: not the bytes that were asked for.
    }
    Ok(Boundary::unseen(Position {
        offset: expected,
        segment,
        pos,
    }))
}

#[cfg(test)]
mod tests;
