//! The chunk area: regions of 4 MiB, each a chunk or split 16-fold, once or
//! twice. Small logs get small chunks, large ones few; freed siblings join again.

use std::collections::BTreeSet;

use super::layout::REGION;
use crate::base::BLOCK;

/// A size class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Class {
    Small,
    Medium,
    Large,
}

impl Class {
    pub const ALL: [Self; 3] = [Self::Small, Self::Medium, Self::Large];

    /// Bytes of a chunk of this class.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Small => 16 << 10,
            Self::Medium => 256 << 10,
            Self::Large => REGION,
        }
    }

    pub const fn code(self) -> u8 {
        self as u8
    }

    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Small),
            1 => Some(Self::Medium),
            2 => Some(Self::Large),
            _ => None,
        }
    }

    const fn larger(self) -> Option<Self> {
        match self {
            Self::Small => Some(Self::Medium),
            Self::Medium => Some(Self::Large),
            Self::Large => None,
        }
    }

    /// The class for the next chunk of a segment that holds `bytes` already and gets `more`.
    pub const fn for_growth(bytes: u64, more: u64) -> Self {
        if bytes + more <= 16 << 10 {
            Self::Small
        } else if bytes + more <= 2 << 20 {
            Self::Medium
        } else {
            Self::Large
        }
    }
}

const _: () = assert!(Class::Medium.bytes() == 16 * Class::Small.bytes());
const _: () = assert!(Class::Large.bytes() == 16 * Class::Medium.bytes());

/// A chunk: its position in the file and its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Chunk {
    pub pos: u64,
    pub class: Class,
}

/// Bytes of free space that are kept for each byte which is in no chunk yet: a checkpoint stands twice, the
/// one before it too, and the last block of a log may have a chunk to itself.
pub(super) const UNPLACED_COST: u64 = 4;

const _: () = assert!(UNPLACED_COST * BLOCK as u64 >= Class::Small.bytes());

/// The free chunks, and how far the area reaches.
#[derive(Debug)]
pub(super) struct Chunks {
    start: u64,
    /// End of the regions that are in use or free; growth continues here.
    end: u64,
    /// Up to here the disk has blocks for the area: growth beyond might not be possible.
    allocated: u64,
    end_max: u64,
    free: [BTreeSet<u64>; 3],
    free_bytes: u64,
}

impl Chunks {
    /// An area that begins at `start`, has no region yet and never grows past `end_max`.
    pub fn new(start: u64, end_max: u64) -> Self {
        Self {
            start,
            end: start,
            allocated: start,
            end_max: end_max.max(start),
            free: Default::default(),
            free_bytes: 0,
        }
    }

    /// An area that reaches to `end`, where all but `used` is free. `None` if chunks overlap or lie outside.
    pub fn rebuilt(start: u64, end: u64, end_max: u64, used: &BTreeSet<Chunk>) -> Option<Self> {
        let mut chunks = Self::new(start, end_max);
        let mut at = start;
        for chunk in used {
            if chunk.pos < at || !(chunk.pos - start).is_multiple_of(chunk.class.bytes()) {
                return None;
            }
            chunks.free_range(at, chunk.pos);
            at = chunk.pos + chunk.class.bytes();
        }
        chunks.end = end.max(at.next_multiple_of(REGION));
        chunks.allocated = chunks.end;
        chunks.free_range(at, chunks.end);
        Some(chunks)
    }

    /// Frees `[from, to)` as the largest aligned chunks.
    fn free_range(&mut self, from: u64, to: u64) {
        let mut at = from;
        while at < to {
            let class = Class::ALL
                .into_iter()
                .rev()
                .find(|c| (at - self.start).is_multiple_of(c.bytes()) && at + c.bytes() <= to);
            let Some(class) = class else { return };
            self.free(Chunk { pos: at, class });
            at += class.bytes();
        }
    }

    /// Takes a free chunk of exactly this class.
    pub fn take(&mut self, class: Class) -> Option<Chunk> {
        if self.free[class as usize].is_empty() {
            let whole = self.take(class.larger()?)?;
            for i in 0..16 {
                self.free[class as usize].insert(whole.pos + i * class.bytes());
            }
            self.free_bytes += whole.class.bytes();
        }
        let pos = self.free[class as usize].pop_first()?;
        self.free_bytes -= class.bytes();
        Some(Chunk { pos, class })
    }

    /// Takes a chunk of this class. A region that was never written is opened if nothing written is left
    /// for it, and smaller chunks are taken if there is no such region either.
    pub fn take_up_to(&mut self, class: Class) -> Option<Chunk> {
        if let Some(chunk) = self.take(class) {
            return Some(chunk);
        }
        if let Some(region) = self.grow() {
            self.free(Chunk {
                pos: region,
                class: Class::Large,
            });
            return self.take(class);
        }
        let mut smaller = Class::ALL.into_iter().rev().filter(|c| *c < class);
        smaller.find_map(|smaller| self.take(smaller))
    }

    /// As [`take_up_to`](Self::take_up_to), for `to_go` bytes of a log that are in no chunk yet: only what
    /// leaves as much as has to stay free, `leave`, once those bytes count no more. A small chunk for whole
    /// blocks always does.
    pub fn take_for_log(&mut self, wanted: Class, to_go: u64, leave: u64) -> Option<Chunk> {
        let there = self.free_bytes + self.growable_bytes();
        let fits = |class: &Class| {
            let placed = UNPLACED_COST * to_go.min(class.bytes());
            there.saturating_add(placed) >= leave.saturating_add(class.bytes())
        };
        let mut classes = Class::ALL.into_iter().rev().filter(|c| *c <= wanted);
        let class = classes.find(fits)?;
        self.take_up_to(class)
    }

    /// Takes chunks of at least so many bytes together, with as little over as can be; `None`, with nothing
    /// taken, if there are too few.
    pub fn take_bytes(&mut self, bytes: u64) -> Option<Vec<Chunk>> {
        let (mut chunks, mut room) = (Vec::new(), 0);
        while room < bytes {
            let fits = |class: &Class| class.bytes() <= bytes - room;
            let class = Class::ALL.into_iter().rev().find(fits);
            let Some(chunk) = self.take_up_to(class.unwrap_or(Class::Small)) else {
                chunks.into_iter().for_each(|chunk| self.free(chunk));
                return None;
            };
            room += chunk.class.bytes();
            chunks.push(chunk);
        }
        Some(chunks)
    }

    /// Gives a chunk back for reuse. The caller knows that nothing refers to it any more.
    pub fn free(&mut self, chunk: Chunk) {
        let Chunk { pos, class } = chunk;
        let fresh = self.free[class as usize].insert(pos);
        debug_assert!(fresh, "chunk {pos} freed twice");
        self.free_bytes += class.bytes();
        if let Some(larger) = class.larger() {
            let parent = pos - (pos - self.start) % larger.bytes();
            let siblings = parent..parent + larger.bytes();
            if self.free[class as usize].range(siblings.clone()).count() == 16 {
                let all: Vec<u64> = self.free[class as usize].range(siblings).copied().collect();
                for sibling in all {
                    self.free[class as usize].remove(&sibling);
                }
                self.free_bytes -= larger.bytes();
                self.free(Chunk {
                    pos: parent,
                    class: larger,
                });
            }
        }
    }

    /// The disk has blocks up to here, as far as the area may ever reach.
    pub fn allocated_to(&mut self, end: u64) {
        let end = end.min(self.end_max);
        let whole = end.saturating_sub(self.start) / REGION * REGION;
        self.allocated = self.allocated.max(self.start + whole);
    }

    /// There are no blocks beyond the end after all.
    pub fn allocated_no_further(&mut self) {
        self.allocated = self.end;
    }

    /// Up to where the disk has blocks.
    pub fn allocated(&self) -> u64 {
        self.allocated
    }

    /// Up to where the area may ever reach.
    pub fn allocated_max(&self) -> u64 {
        self.start + (self.end_max - self.start) / REGION * REGION
    }

    /// Adds a region at the end; returns its position, or `None` where the disk has no blocks. It is not free yet:
    /// the caller writes it ahead and then frees it.
    pub fn grow(&mut self) -> Option<u64> {
        if self.end + REGION > self.allocated {
            return None;
        }
        let region = self.end;
        self.end += REGION;
        Some(region)
    }

    /// Takes a region back that [`grow`](Self::grow) gave and that is not free yet; `false`, and it is still the
    /// caller's, if others came after it.
    #[must_use]
    pub fn ungrow(&mut self, region: u64) -> bool {
        let is_last = region + REGION == self.end;
        if is_last {
            self.end = region;
        }
        is_last
    }

    /// Bytes that can be handed out at once.
    pub fn free_bytes(&self) -> u64 {
        self.free_bytes
    }

    /// Bytes that can be added by growing, at once.
    pub fn growable_bytes(&self) -> u64 {
        self.allocated.saturating_sub(self.end)
    }

    /// End of the area.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Start of the area.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Panics unless free and `used` chunks are disjoint, inside the area, and with `reserved` bytes all of it.
    pub fn check(&self, used: &BTreeSet<Chunk>, reserved: u64) {
        let mut spans: Vec<(u64, u64)> = used
            .iter()
            .map(|chunk| (chunk.pos, chunk.class.bytes()))
            .collect();
        let taken = spans.len();
        for class in Class::ALL {
            let free = &self.free[class as usize];
            spans.extend(free.iter().map(|pos| (*pos, class.bytes())));
        }
        let free: u64 = spans[taken..].iter().map(|(_, bytes)| bytes).sum();
        assert_eq!(free, self.free_bytes);
        spans.sort_unstable();
        let mut at = self.start;
        for (pos, len) in spans {
            assert!(pos >= at, "chunks overlap at {pos}");
            at = pos + len;
        }
        assert!(at <= self.end, "a chunk lies beyond the end of the area");
        let used: u64 = used.iter().map(|chunk| chunk.class.bytes()).sum();
        let area = self.end - self.start;
        assert_eq!(
            free + used + reserved,
            area,
            "{free} free, {used} used, {reserved} reserved"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;

    #[test]
    fn chunks_split_join_and_never_overlap() {
        let mut rng = Rng::new(1);
        let mut chunks = Chunks::new(0, 8 * REGION);
        chunks.allocated_to(u64::MAX);
        let mut used = BTreeSet::new();
        for _ in 0..20_000 {
            if rng.chance(1, 2) {
                let class = Class::ALL[rng.below(3) as usize];
                if let Some(chunk) = chunks.take_up_to(class) {
                    assert!(used.insert(chunk));
                }
            } else if let Some(chunk) = used.iter().nth(rng.below(used.len() as u64) as usize) {
                let chunk = *chunk;
                used.remove(&chunk);
                chunks.free(chunk);
            }
        }
        chunks.check(&used, 0);
        let rebuilt = Chunks::rebuilt(0, chunks.end(), 8 * REGION, &used).unwrap();
        assert_eq!(rebuilt.free_bytes(), chunks.free_bytes());
        for chunk in std::mem::take(&mut used) {
            chunks.free(chunk);
        }
        assert_eq!(chunks.free_bytes(), chunks.end(), "all joined again");
        assert_eq!(chunks.free[Class::Small as usize].len(), 0);
        assert_eq!(chunks.free[Class::Medium as usize].len(), 0);
    }

    #[test]
    fn overlapping_chunks_are_refused() {
        let used = BTreeSet::from([
            Chunk {
                pos: 0,
                class: Class::Medium,
            },
            Chunk {
                pos: 16 << 10,
                class: Class::Small,
            },
        ]);
        assert!(Chunks::rebuilt(0, REGION, REGION, &used).is_none());
    }
}
