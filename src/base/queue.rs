//! A queue that grows by a block at a time: however long it is, adding to it never copies what is there.

use std::collections::VecDeque;
use std::ops::{Index, IndexMut};

/// Elements of a block.
const BLOCK_LEN: usize = 256;

/// A first-in-first-out queue with access by index, for what may become millions long where nobody may wait for its
/// memory to move. (A `VecDeque` doubles, which moves all of it.)
#[derive(Clone, Debug)]
pub struct Queue<T> {
    /// None is empty; all but the first and the last are full.
    blocks: VecDeque<VecDeque<T>>,
    len: usize,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            blocks: VecDeque::new(),
            len: 0,
        }
    }
}

impl<T> Queue<T> {
    /// How many elements there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds one at the end.
    pub fn push_back(&mut self, element: T) {
        self.len += 1;
        match self.blocks.back_mut() {
            Some(last) if last.len() < BLOCK_LEN => last.push_back(element),
            last => {
                // A queue that never had much stays small.
                let room = if last.is_some() { BLOCK_LEN } else { 1 };
                let mut block = VecDeque::with_capacity(room);
                block.push_back(element);
                self.blocks.push_back(block);
            }
        }
    }

    /// Takes the first one.
    pub fn pop_front(&mut self) -> Option<T> {
        let first = self.blocks.front_mut()?;
        let element = first.pop_front();
        self.len -= 1;
        if first.is_empty() {
            self.blocks.pop_front();
        }
        element
    }

    /// The first one.
    #[must_use]
    pub fn front(&self) -> Option<&T> {
        self.blocks.front()?.front()
    }

    /// The first one.
    pub fn front_mut(&mut self) -> Option<&mut T> {
        self.blocks.front_mut()?.front_mut()
    }

    /// The last one.
    pub fn back_mut(&mut self) -> Option<&mut T> {
        self.blocks.back_mut()?.back_mut()
    }

    /// Those from an index on.
    pub fn range(&self, from: usize) -> impl Iterator<Item = &T> {
        let (block, within) = self.place(from);
        let blocks = self.blocks.iter().enumerate().skip(block);
        blocks.flat_map(move |(n, elements)| elements.range(if n == block { within } else { 0 }..))
    }

    /// The index of the first one for which `is_before` is false, where it is true of those before and false of those
    /// after.
    pub fn partition_point(&self, is_before: impl Fn(&T) -> bool) -> usize {
        let is_whole = |block: &VecDeque<T>| block.back().is_some_and(&is_before);
        let block = self.blocks.partition_point(is_whole);
        let Some(elements) = self.blocks.get(block) else {
            return self.len;
        };
        self.start(block) + elements.partition_point(&is_before)
    }

    /// Takes those from an index on.
    #[must_use]
    pub fn split_off(&mut self, from: usize) -> Self {
        let (block, within) = self.place(from);
        let Some(elements) = self.blocks.get_mut(block) else {
            return Self::default();
        };
        let part = elements.split_off(within);
        let mut blocks = self.blocks.split_off(block + 1);
        if !part.is_empty() {
            blocks.push_front(part);
        }
        if within == 0 {
            self.blocks.pop_back();
        }
        let len = self.len.saturating_sub(from);
        self.len -= len;
        Self { blocks, len }
    }

    /// The block of an index, and which of its elements that is.
    fn place(&self, index: usize) -> (usize, usize) {
        let first = self.blocks.front().map_or(0, VecDeque::len);
        match index.checked_sub(first) {
            None => (0, index),
            Some(after) => (1 + after / BLOCK_LEN, after % BLOCK_LEN),
        }
    }

    /// The index of a block's first element.
    fn start(&self, block: usize) -> usize {
        match block.checked_sub(1) {
            None => 0,
            Some(after) => self.blocks[0].len() + after * BLOCK_LEN,
        }
    }
}

impl<T> Index<usize> for Queue<T> {
    type Output = T;

    fn index(&self, index: usize) -> &T {
        let (block, within) = self.place(index);
        &self.blocks[block][within]
    }
}

impl<T> IndexMut<usize> for Queue<T> {
    fn index_mut(&mut self, index: usize) -> &mut T {
        let (block, within) = self.place(index);
        &mut self.blocks[block][within]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;

    #[test]
    fn it_is_what_a_deque_is() {
        for seed in 0..20 {
            let mut rng = Rng::new(seed);
            let (mut queue, mut deque) = (Queue::default(), VecDeque::new());
            let mut next = 0u64;
            for _ in 0..200 {
                let n = rng.below(600);
                match rng.below(5) {
                    0 | 1 => (0..n).for_each(|_| {
                        next += 1 + rng.below(3);
                        queue.push_back(next);
                        deque.push_back(next);
                    }),
                    2 => {
                        (0..n).for_each(|_| assert_eq!(queue.pop_front(), deque.pop_front()));
                    }
                    3 if rng.chance(1, 3) => {
                        let from = rng.below(deque.len() as u64 + 1) as usize;
                        let (gone, same) = (queue.split_off(from), deque.split_off(from));
                        assert!(gone.range(0).eq(same.iter()));
                        assert_eq!(gone.len(), same.len());
                        if rng.chance(1, 2) {
                            (queue, deque) = (gone, same);
                        }
                    }
                    _ if !deque.is_empty() => {
                        let index = rng.below(deque.len() as u64) as usize;
                        queue[index] = deque[index];
                        assert!(queue.range(index).eq(deque.range(index..)));
                        let bound = deque[index] + rng.below(2);
                        let before = |element: &u64| *element < bound;
                        assert_eq!(queue.partition_point(before), deque.partition_point(before));
                    }
                    _ => {}
                }
                assert_eq!(queue.len(), deque.len());
                assert_eq!(queue.is_empty(), deque.is_empty());
                assert_eq!(queue.front(), deque.front());
                assert_eq!(queue.front_mut(), deque.front_mut());
                assert_eq!(queue.back_mut(), deque.back_mut());
                assert!(queue.range(0).eq(deque.iter()));
                let blocks = queue.blocks.len();
                let inner = queue.blocks.iter().take(blocks.saturating_sub(1)).skip(1);
                inner.for_each(|block| assert_eq!(block.len(), BLOCK_LEN));
                assert!(queue.blocks.iter().all(|block| !block.is_empty()));
            }
        }
    }
}
