//! The sparse index of one segment: where batches begin, by offset and by time.
//! It is bounded: when it is full every second entry goes and the interval
//! doubles, so a small segment is indexed finely and a large one coarsely.

use crate::base::limits::{SEGMENT_INDEX_ENTRIES_COARSE_MAX, SEGMENT_INDEX_ENTRIES_MAX};

/// Bytes between two entries of a fresh index, Kafka's `index.interval.bytes`.
const INTERVAL_BYTES_MIN: u32 = 4096;
/// From this interval on there may be more entries.
const INTERVAL_BYTES_COARSE: u32 = 512 * 1024;

/// One indexed batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IndexEntry {
    /// Base offset of the batch, relative to the segment's base offset.
    pub(super) delta: u32,
    /// Byte position of the batch in the segment.
    pub(super) pos: u32,
    /// Largest timestamp of all batches of the segment before this one, -1 if there is none.
    pub(super) max_before: i64,
}

/// See the module's description. The start of the segment is an implicit entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Index {
    interval: u32,
    entries: Vec<IndexEntry>,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            interval: INTERVAL_BYTES_MIN,
            entries: Vec::new(),
        }
    }
}

impl Index {
    /// An index read back from a checkpoint; `None` if no index could look like that.
    pub(super) fn restored(interval: u32, entries: Vec<IndexEntry>) -> Option<Self> {
        let index = Self { interval, entries };
        index.is_sound().then_some(index)
    }

    /// Whether the entries are in order and within the bounds.
    pub(super) fn is_sound(&self) -> bool {
        self.interval >= INTERVAL_BYTES_MIN
            && self.entries.len() < self.entries_max()
            && self.entries.first().is_none_or(|first| first.pos > 0)
            && self.entries.windows(2).all(|pair| {
                pair[0].delta < pair[1].delta
                    && pair[0].pos < pair[1].pos
                    && pair[0].max_before <= pair[1].max_before
            })
    }

    pub(super) fn interval(&self) -> u32 {
        self.interval
    }

    pub(super) fn entries(&self) -> &[IndexEntry] {
        &self.entries
    }

    /// Offers the batch that is about to be appended; taken if the last entry is an interval away.
    pub(super) fn offer(&mut self, entry: IndexEntry) {
        let last = self.entries.last().map_or(0, |last| last.pos);
        if entry.pos.saturating_sub(last) < self.interval {
            return;
        }
        self.entries.push(entry);
        if self.entries.len() == self.entries_max() {
            self.thin();
        }
    }

    fn entries_max(&self) -> usize {
        if self.interval < INTERVAL_BYTES_COARSE {
            SEGMENT_INDEX_ENTRIES_MAX
        } else {
            SEGMENT_INDEX_ENTRIES_COARSE_MAX
        }
    }

    /// Keeps the second of every two entries: the implicit entry at 0 is the first of the first two.
    fn thin(&mut self) {
        let mut number = 0;
        self.entries.retain(|_| {
            number += 1;
            number % 2 == 0
        });
        self.interval = self.interval.saturating_mul(2);
    }

    /// The last indexed batch that begins at or before this offset; `(delta, pos)`.
    pub(super) fn floor(&self, delta: u32) -> (u32, u32) {
        let after = self.entries.partition_point(|entry| entry.delta <= delta);
        self.before(after)
    }

    /// The last indexed batch before which every timestamp is below `timestamp`; `(delta, pos)`.
    pub(super) fn floor_time(&self, timestamp: i64) -> (u32, u32) {
        let after = self
            .entries
            .partition_point(|entry| entry.max_before < timestamp);
        self.before(after)
    }

    /// The last indexed batch that begins in `(low, high]`; `(delta, pos)`.
    pub(super) fn last_between(&self, low: u64, high: u64) -> Option<(u32, u32)> {
        let after = self
            .entries
            .partition_point(|entry| u64::from(entry.pos) <= high);
        let entry = self.entries.get(after.checked_sub(1)?)?;
        (u64::from(entry.pos) > low).then_some((entry.delta, entry.pos))
    }

    /// The batch that begins at `pos`, if it is indexed, and the first indexed one after it: the delta of the
    /// one, `(delta, pos)` of the other. The implicit entry counts.
    pub(super) fn around(&self, pos: u64) -> (Option<u32>, Option<(u32, u32)>) {
        let after = self
            .entries
            .partition_point(|entry| u64::from(entry.pos) <= pos);
        let (delta, at) = self.before(after);
        let next = self.entries.get(after).map(|next| (next.delta, next.pos));
        ((u64::from(at) == pos).then_some(delta), next)
    }

    fn before(&self, number: usize) -> (u32, u32) {
        number
            .checked_sub(1)
            .and_then(|last| self.entries.get(last))
            .map_or((0, 0), |entry| (entry.delta, entry.pos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Batches of `len` bytes and one record each, timestamps ten apart.
    fn filled(batches: u32, len: u32) -> Index {
        let mut index = Index::default();
        for n in 0..batches {
            index.offer(IndexEntry {
                delta: n,
                pos: n * len,
                max_before: i64::from(n) * 10 - 1,
            });
            assert!(index.is_sound());
        }
        index
    }

    #[test]
    fn entries_are_an_interval_apart() {
        let index = filled(100, 1000);
        assert_eq!(index.entries().len(), 19);
        assert_eq!(index.entries()[0].pos, 5000);
        assert_eq!(index.floor(4), (0, 0));
        assert_eq!(index.floor(5), (5, 5000));
        assert_eq!(index.floor(9), (5, 5000));
        assert_eq!(index.floor(99), (95, 95_000));
    }

    #[test]
    fn a_full_index_doubles_its_interval() {
        let index = filled(10_000, 4096);
        assert!(index.entries().len() < SEGMENT_INDEX_ENTRIES_MAX);
        assert_eq!(index.interval(), 4096 * 32);
        let steps: Vec<u32> = index
            .entries()
            .windows(2)
            .map(|pair| pair[1].pos - pair[0].pos)
            .collect();
        assert!(steps.iter().all(|step| *step == index.interval()));
        assert_eq!(index.entries()[0].pos, index.interval());
    }

    #[test]
    fn a_gibibyte_is_indexed_every_half_mebibyte() {
        let index = filled(1 << 14, 1 << 16);
        assert_eq!(index.interval(), 512 * 1024);
        assert!((1900..SEGMENT_INDEX_ENTRIES_COARSE_MAX).contains(&index.entries().len()));
        assert!(Index::restored(index.interval(), index.entries().to_vec()).is_some());
        assert!(Index::restored(256 * 1024, index.entries().to_vec()).is_none());
    }

    #[test]
    fn time_floor_never_passes_a_match() {
        let index = filled(100, 1000);
        // Batch n has timestamps up to 10n+9: the batch of 120 is batch 12, the entry before it is 10.
        assert_eq!(index.floor_time(120), (10, 10_000));
        assert_eq!(index.floor_time(0), (0, 0));
        assert_eq!(index.floor_time(i64::MAX), (95, 95_000));
    }

    #[test]
    fn boundaries_between_positions() {
        let index = filled(100, 1000);
        assert_eq!(index.last_between(0, 4999), None);
        assert_eq!(index.last_between(0, 5000), Some((5, 5000)));
        assert_eq!(index.last_between(5000, 9999), None);
        assert_eq!(index.last_between(5000, 99_999), Some((95, 95_000)));
    }

    #[test]
    fn what_is_known_around_a_position() {
        let index = filled(100, 1000);
        assert_eq!(index.around(0), (Some(0), Some((5, 5000))));
        assert_eq!(index.around(1000), (None, Some((5, 5000))));
        assert_eq!(index.around(5000), (Some(5), Some((10, 10_000))));
        assert_eq!(index.around(95_000), (Some(95), None));
        assert_eq!(index.around(96_000), (None, None));
    }

    #[test]
    fn unsound_entries_are_refused() {
        let entry = |delta, pos, max_before| IndexEntry {
            delta,
            pos,
            max_before,
        };
        assert!(Index::restored(4096, vec![entry(1, 5000, 3), entry(2, 9999, 3)]).is_some());
        assert!(Index::restored(4096, vec![entry(1, 0, 3)]).is_none());
        assert!(Index::restored(4096, vec![entry(2, 5000, 3), entry(2, 9999, 3)]).is_none());
        assert!(Index::restored(4096, vec![entry(1, 5000, 3), entry(2, 9999, 2)]).is_none());
        assert!(Index::restored(0, vec![]).is_none());
    }
}
