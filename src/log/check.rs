//! What always holds of a log. Checked after each step by the simulator and the
//! tests, and by recovery before it trusts what the disk says.

use crate::base::limits::PRODUCERS_PER_PARTITION_MAX;

use super::Log;
use super::hints::Position;
use super::segment::{SEGMENT_BYTES_MAX, SEGMENT_DELTA_MAX, Segment};

/// Says which rule is broken.
macro_rules! rule {
    ($holds:expr, $($what:tt)*) => {
        if !$holds {
            return Err(format!($($what)*));
        }
    };
}

impl Log {
    /// Checks that the tables of this log agree with each other.
    ///
    /// # Panics
    /// If they do not, which is a bug.
    pub fn invariants(&self) {
        if let Err(what) = self.check() {
            panic!("log {}: {what}", self.id);
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        self.check_segments()?;
        self.check_marks()?;
        self.check_tables()
    }

    fn check_segments(&self) -> Result<(), String> {
        rule!(!self.segments.is_empty(), "it has no segment");
        for (number, segment) in self.segments.iter().enumerate() {
            let next = self.segments.get(number + 1);
            let end = next.map_or(self.end, |next| next.base);
            check_segment(segment, end.0)?;
            if let Some(next) = next {
                rule!(
                    segment.start + segment.len == next.start,
                    "segment {} does not begin where {} ends",
                    next.base,
                    segment.base
                );
                rule!(
                    segment.id < next.id,
                    "segment {} has number {}, the next one {}",
                    segment.base,
                    segment.id,
                    next.id
                );
                rule!(segment.batches > 0, "segment {} is empty", segment.base);
            }
        }
        Ok(())
    }

    fn check_marks(&self) -> Result<(), String> {
        let (mark, durable) = (&self.high_watermark, &self.durable);
        rule!(
            self.segments[0].base <= self.log_start,
            "the log start {} is before the first segment",
            self.log_start
        );
        rule!(
            self.log_start <= self.end && durable.offset <= self.end,
            "log start {} or durable end {} is after the end {}",
            self.log_start,
            durable.offset,
            self.end
        );
        rule!(
            mark.offset <= durable.offset,
            "the high watermark {} is not durable",
            mark.offset
        );
        rule!(self.is_place(mark), "the high watermark is nowhere");
        rule!(
            mark.offset <= self.committed,
            "the high watermark {} is not known to be committed",
            mark.offset
        );
        rule!(
            self.committed <= self.end,
            "what is known to be committed, {}, is after the end {}",
            self.committed,
            self.end
        );
        let mut last = *mark;
        for place in &self.places {
            rule!(
                last.offset < place.offset,
                "the high watermark may go back to {}",
                place.offset
            );
            last = *place;
        }
        rule!(
            last.offset == durable.offset,
            "the high watermark may go to {}, and not to the durable end {}",
            last.offset,
            durable.offset
        );
        let mut last = (None, *durable);
        for (flush, end) in &self.pending {
            rule!(
                last.0 < Some(*flush) && last.1.offset < end.offset,
                "flush {} is out of order",
                flush.0
            );
            last = (Some(*flush), *end);
        }
        Ok(())
    }

    fn check_tables(&self) -> Result<(), String> {
        rule!(self.epochs.is_sound(), "the epochs are not in order");
        let newest = self.epochs.entries().last().map(|last| last.1);
        rule!(
            newest <= Some(self.end),
            "the newest epoch begins after the end"
        );
        rule!(
            self.producers.len() <= PRODUCERS_PER_PARTITION_MAX.max(self.producers.open()),
            "it has too many producers"
        );
        for (id, producer) in self.producers.iter() {
            let last = producer.last_offset();
            rule!(
                last.0 >= 0 && last < self.end,
                "producer {id} wrote nothing, or after the end"
            );
            let first = producer
                .transaction
                .filter(|at| at.offset >= self.log_start);
            rule!(
                first.is_none_or(|at| self.is_place(&at)),
                "the transaction of producer {id} begins nowhere"
            );
        }
        self.transactions.check(self.end)?;
        let mut firsts = self.transactions.ended_firsts();
        rule!(
            firsts.all(|at| at.offset < self.log_start || self.is_place(&at)),
            "a transaction that has ended begins nowhere"
        );
        rule!(
            self.last_stable() <= self.high_watermark(),
            "what is stable is behind the high watermark"
        );
        for hint in self.hints.iter().chain(self.push_hints.iter()) {
            rule!(self.is_place(&hint.at), "hint {hint:?} is nowhere");
        }
        Ok(())
    }

    /// The live marks, which recovery sets only at its end.
    #[cfg(test)]
    pub(super) fn check_live(&self) {
        self.invariants();
        assert!(self.log_start <= self.committed);
        assert!(self.is_place(&self.high_watermark) && self.is_place(&self.durable));
        assert!(self.places.iter().all(|place| self.is_place(place)));
        assert!(self.starts.iter().map(|(flush, _)| flush).is_sorted());
        let start = self.starts.back();
        assert_eq!(
            start.map_or(self.durable_start, |last| last.1),
            self.log_start
        );
        let reached = self
            .pending
            .back()
            .map_or(self.durable.offset, |(_, end)| end.offset);
        assert_eq!(reached, self.end);
    }

    pub(super) fn is_place(&self, at: &Position) -> bool {
        self.segment(at.segment).is_some_and(|(_, segment)| {
            at.pos <= segment.len && segment.base <= at.offset && at.offset <= self.end
        })
    }
}

fn check_segment(segment: &Segment, end: i64) -> Result<(), String> {
    let base = segment.base;
    let span = end.checked_sub(base.0).filter(|span| *span >= 0);
    // Its batches are near enough; a gap behind them may be of any length.
    let longest = match segment.has_gaps {
        true => i64::MAX,
        false => SEGMENT_DELTA_MAX + 1,
    };
    rule!(
        span.is_some_and(|span| span <= longest),
        "segment {base} ends at offset {end}"
    );
    rule!(
        (span == Some(0)) == (segment.batches == 0) && (segment.len == 0) == (segment.batches == 0),
        "segment {base} has {} batches in {} bytes up to offset {end}",
        segment.batches,
        segment.len
    );
    rule!(
        segment.len <= SEGMENT_BYTES_MAX && segment.largest_batch <= segment.len,
        "segment {base} is too long"
    );
    let max = &segment.max;
    rule!(
        max.pos
            .checked_add(max.len)
            .is_some_and(|to| to <= segment.len)
            && (0..=SEGMENT_DELTA_MAX).contains(&max.base_offset.0.saturating_sub(base.0))
            && max.base_offset.0 <= end,
        "the largest timestamp of segment {base} is nowhere"
    );
    let index = &segment.index;
    let inside = index.entries().last().is_none_or(|last| {
        let delta = i64::from(last.delta);
        u64::from(last.pos) < segment.len && delta < end - base.0 && delta <= SEGMENT_DELTA_MAX
    });
    rule!(
        index.is_sound() && inside,
        "the index of segment {base} is unsound"
    );
    Ok(())
}
