//! Where earlier reads ended. A consumer that reads on asks for the offset that
//! followed its last fetch; remembering where that is spares it the search.

use crate::base::limits::READ_HINTS_PER_PARTITION_MAX;
use crate::base::{Offset, SegmentId};

/// A place in the log: `offset` is the first offset at or after byte `pos` of the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) offset: Offset,
    pub(super) segment: SegmentId,
    pub(super) pos: u64,
}

/// A batch whose header was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) len: u64,
    pub(super) last_offset: Offset,
}

/// A place where a batch begins, or will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Boundary {
    pub(super) at: Position,
    /// The batch there, if its header was seen.
    pub(super) batch: Option<Span>,
}

impl Boundary {
    pub(super) fn unseen(at: Position) -> Self {
        Self { at, batch: None }
    }

    /// Whether the batch that begins here is known to hold `offset`.
    pub(super) fn holds(&self, offset: Offset) -> bool {
        self.at.offset == offset
            || self
                .batch
                .is_some_and(|batch| self.at.offset <= offset && offset <= batch.last_offset)
    }
}

/// The boundaries learned last, at most [`READ_HINTS_PER_PARTITION_MAX`].
#[derive(Clone, Debug, Default)]
pub(super) struct Hints {
    slots: Vec<Boundary>,
    oldest: usize,
}

impl Hints {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Boundary> {
        self.slots.iter()
    }

    /// Remembers a boundary in the place of the one learned longest ago.
    pub(super) fn learn(&mut self, boundary: Boundary) {
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.at == boundary.at) {
            slot.batch = boundary.batch.or(slot.batch);
        } else if self.slots.len() < READ_HINTS_PER_PARTITION_MAX {
            self.slots.push(boundary);
        } else {
            self.slots[self.oldest] = boundary;
            self.oldest = (self.oldest + 1) % READ_HINTS_PER_PARTITION_MAX;
        }
    }

    /// The known boundary of this segment that is nearest to `offset` and not after it.
    pub(super) fn floor(&self, segment: SegmentId, offset: Offset) -> Option<Boundary> {
        self.slots
            .iter()
            .filter(|slot| slot.at.segment == segment && slot.at.offset <= offset)
            .max_by_key(|slot| (slot.at.offset, slot.batch.is_some()))
            .copied()
    }

    /// Forgets what was cut off, in a log that ends at `end` now: everything behind the first `len` bytes of a
    /// segment, which is gone if they are none.
    pub(super) fn forget_behind(&mut self, segment: SegmentId, len: u64, end: Offset) {
        self.slots.retain(|slot| {
            let to = slot.at.pos + slot.batch.map_or(0, |batch| batch.len);
            let stays = slot.at.segment == segment && len > 0 && to <= len;
            // Behind a gap, an offset may be known of the place where the cut is.
            slot.at.offset <= end && (slot.at.segment < segment || stays)
        });
        self.oldest = 0;
    }

    /// Forgets segments whose place another one has taken.
    pub(super) fn forget_between(&mut self, first: SegmentId, last: SegmentId) {
        self.slots
            .retain(|slot| !(first..=last).contains(&slot.at.segment));
        self.oldest = 0;
    }

    /// Forgets segments that were dropped: those before this one.
    pub(super) fn forget_before(&mut self, segment: SegmentId) {
        self.slots.retain(|slot| slot.at.segment >= segment);
        self.oldest = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boundary(segment: u64, offset: i64, pos: u64) -> Boundary {
        Boundary::unseen(Position {
            offset: Offset(offset),
            segment: SegmentId(segment),
            pos,
        })
    }

    #[test]
    fn the_nearest_boundary_of_the_segment() {
        let mut hints = Hints::default();
        for b in [
            boundary(0, 10, 100),
            boundary(0, 20, 200),
            boundary(1, 55, 60),
        ] {
            hints.learn(b);
        }
        assert_eq!(hints.floor(SegmentId(0), Offset(9)), None);
        assert_eq!(
            hints.floor(SegmentId(0), Offset(19)),
            Some(boundary(0, 10, 100))
        );
        assert_eq!(
            hints.floor(SegmentId(0), Offset(99)),
            Some(boundary(0, 20, 200))
        );
        hints.forget_before(SegmentId(1));
        assert_eq!(hints.floor(SegmentId(0), Offset(99)), None);
        assert_eq!(
            hints.floor(SegmentId(1), Offset(55)),
            Some(boundary(1, 55, 60))
        );
    }

    #[test]
    fn a_seen_batch_is_not_forgotten_by_learning_less() {
        let mut hints = Hints::default();
        let span = Span {
            len: 70,
            last_offset: Offset(19),
        };
        hints.learn(Boundary {
            batch: Some(span),
            ..boundary(0, 10, 100)
        });
        hints.learn(boundary(0, 10, 100));
        let found = hints.floor(SegmentId(0), Offset(15)).unwrap();
        assert!(found.holds(Offset(19)) && !found.holds(Offset(20)));
    }

    #[test]
    fn the_oldest_goes() {
        let mut hints = Hints::default();
        for n in 0..=READ_HINTS_PER_PARTITION_MAX as i64 {
            hints.learn(boundary(0, n, n as u64));
        }
        assert_eq!(hints.iter().count(), READ_HINTS_PER_PARTITION_MAX);
        assert_eq!(hints.floor(SegmentId(0), Offset(0)), None);
        assert!(hints.floor(SegmentId(0), Offset(1)).is_some());
    }
}
