//! Chunks that segments have given up. Each is free when a checkpoint covers that, and when no read plan holds it.

use std::collections::VecDeque;
use std::vec;

use super::api::{ChunkPin, FlushSeq};
use super::chunks::Chunk;
use super::map::Extent;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Freed {
    /// By the flush that gave them up, in order. Those of a segment stay together, so that giving up any number of them
    /// is no work; there is always one.
    by_flush: VecDeque<(FlushSeq, vec::IntoIter<Extent>)>,
    /// Bytes of all.
    bytes: u64,
}

impl Freed {
    /// A flush gives up chunks of a segment.
    pub fn push(&mut self, flush: FlushSeq, extents: Vec<Extent>) {
        if !extents.is_empty() {
            let bytes = extents.iter().map(|extent| extent.chunk.class.bytes());
            self.bytes += bytes.sum::<u64>();
            self.by_flush.push_back((flush, extents.into_iter()));
        }
    }

    /// Whether there are some that this flush or one before it gave up.
    pub fn has(&self, flush: FlushSeq) -> bool {
        let first = self.by_flush.front();
        first.is_some_and(|(gave_up, _)| *gave_up <= flush)
    }

    /// Takes one of them.
    pub fn pop(&mut self, flush: FlushSeq) -> Option<(Chunk, ChunkPin)> {
        if !self.has(flush) {
            return None;
        }
        let (_, extents) = self.by_flush.front_mut()?;
        let Extent { chunk, pin, .. } = extents.next()?;
        if extents.len() == 0 {
            self.by_flush.pop_front();
        }
        self.bytes -= chunk.class.bytes();
        Some((chunk, pin))
    }

    /// Bytes of all.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// All of them.
    pub fn chunks(&self) -> impl Iterator<Item = Chunk> + Clone {
        let extents = self.by_flush.iter();
        extents.flat_map(|(_, extents)| extents.as_slice().iter().map(|extent| extent.chunk))
    }

    /// Segments that gave some up.
    #[cfg(test)]
    pub fn segments(&self) -> usize {
        self.by_flush.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::chunks::Class;
    use super::*;

    fn extents(first: u64, count: u64) -> Vec<Extent> {
        let extent = |n| Extent {
            start: n * Class::Small.bytes(),
            chunk: Chunk {
                class: Class::Small,
                pos: n,
            },
            pin: ChunkPin::default(),
        };
        (first..first + count).map(extent).collect()
    }

    #[test]
    fn chunks_are_given_up_together_and_come_free_one_by_one() {
        let mut freed = Freed::default();
        freed.push(FlushSeq(7), extents(0, 100_000));
        freed.push(FlushSeq(8), Vec::new());
        freed.push(FlushSeq(9), extents(100_000, 1));
        assert_eq!(freed.segments(), 2);
        assert_eq!(freed.bytes(), 100_001 * Class::Small.bytes());
        assert!(freed.pop(FlushSeq(6)).is_none());
        let mut come = Vec::new();
        while let Some((chunk, _)) = freed.pop(FlushSeq(8)) {
            come.push(chunk.pos);
        }
        assert!(come.into_iter().eq(0..100_000));
        assert!(freed.has(FlushSeq(9)) && !freed.has(FlushSeq(8)));
        assert_eq!(
            freed.chunks().map(|chunk| chunk.pos).collect::<Vec<_>>(),
            [100_000]
        );
        freed.pop(FlushSeq(9)).unwrap();
        assert_eq!((freed.bytes(), freed.segments()), (0, 0));
    }
}
