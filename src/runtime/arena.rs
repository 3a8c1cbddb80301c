//! Memory that a shard's tail lives in. Another thread takes it from the kernel, a step at a time, and gives it back:
//! the shard itself never waits until a page is found and zeroed.
//!
//! It is cut into cells of 4 KiB, with a bit for each that nobody has. Who takes some clears their bits and who lets go
//! sets them, on whatever thread; nobody else touches the memory of a cell whose bit is clear. A step without memory is
//! one whose cells are all taken. Cells are taken from where the last ones were on, and what a tail forgets first is
//! what it took first: so it goes round and round.

use std::io;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::sys;
use crate::base::BLOCK;
use crate::base::pages::{PageSource, Pages};

/// What is taken from the kernel, or given back, at a time.
pub const STEP_BYTES: usize = 4 * 1024 * 1024;
/// Cells that a word has bits for.
const BITS: usize = u64::BITS as usize;
/// Words of a step.
const STEP_WORDS: usize = STEP_BYTES / BLOCK / BITS;
/// Words that are looked at for one buffer, those of 32 MiB: where more than that is taken in one piece, there is
/// hardly anything to be had.
const WORDS_LOOKED_AT_MAX: usize = 128;

/// See the module.
pub struct Arena {
    memory: NonNull<u8>,
    /// A set bit is a cell that nobody has.
    free: Box<[AtomicU64]>,
    /// Bytes of the steps that have memory.
    populated: AtomicUsize,
}

// SAFETY: the memory is the arena's own until it is dropped, and who may touch which part of it is said by `free`,
// which is atomic.
unsafe impl Send for Arena {}
// SAFETY: as above; nothing of the memory is touched through a shared reference to the arena itself.
unsafe impl Sync for Arena {}

impl Arena {
    /// Room for so many bytes, rounded down to whole steps, without memory yet.
    ///
    /// # Errors
    /// There is no such address space, or a limit forbids it.
    pub fn new(bytes: usize) -> io::Result<Arc<Self>> {
        let steps = bytes / STEP_BYTES;
        Ok(Arc::new(Self {
            memory: sys::reserve(steps * STEP_BYTES)?,
            free: (0..steps * STEP_WORDS).map(|_| AtomicU64::new(0)).collect(),
            populated: AtomicUsize::new(0),
        }))
    }

    /// How many steps there is room for.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.free.len() / STEP_WORDS
    }

    /// Bytes of the steps that have memory.
    #[must_use]
    pub fn populated(&self) -> usize {
        self.populated.load(Ordering::Relaxed)
    }

    /// Bytes of cells that nobody has.
    #[must_use]
    pub fn free_bytes(&self) -> usize {
        let cells = self
            .free
            .iter()
            .map(|word| word.load(Ordering::Relaxed).count_ones());
        cells.sum::<u32>() as usize * BLOCK
    }

    /// Takes memory for a step that has none. One thread alone may call this and [`Arena::depopulate`].
    ///
    /// # Errors
    /// The kernel has no memory.
    pub fn populate(&self, step: usize) -> io::Result<()> {
        sys::populate(self.at(step * STEP_BYTES), STEP_BYTES)?;
        self.populated.fetch_add(STEP_BYTES, Ordering::Relaxed);
        for word in self.words(step) {
            word.store(u64::MAX, Ordering::Release);
        }
        Ok(())
    }

    /// Gives the memory of a step back, if it has some and nobody has a cell of it.
    pub fn depopulate(&self, step: usize) -> bool {
        let words = self.words(step);
        for (n, word) in words.iter().enumerate() {
            let all = word.compare_exchange(u64::MAX, 0, Ordering::Acquire, Ordering::Relaxed);
            if all.is_err() {
                for word in &words[..n] {
                    word.store(u64::MAX, Ordering::Release);
                }
                return false;
            }
        }
        self.populated.fetch_sub(STEP_BYTES, Ordering::Relaxed);
        // SAFETY: nobody has any of its cells, and nobody gets one before `populate`.
        unsafe { sys::depopulate(self.at(step * STEP_BYTES), STEP_BYTES) };
        true
    }

    fn words(&self, step: usize) -> &[AtomicU64] {
        &self.free[step * STEP_WORDS..(step + 1) * STEP_WORDS]
    }

    fn at(&self, byte: usize) -> NonNull<u8> {
        assert!(byte < self.free.len() * BITS * BLOCK);
        // SAFETY: it is within the memory.
        unsafe { self.memory.add(byte) }
    }

    /// Takes so many cells in one piece, looking from word `from` on; the first of them, and where it looked last.
    fn take(&self, from: usize, cells: usize) -> (Option<usize>, usize) {
        let words = self.free.len();
        let (mut first, mut run) = (0, 0);
        for n in 0..WORDS_LOOKED_AT_MAX.min(words) {
            let at = (from + n) % words;
            if at == 0 {
                run = 0; // the end and the beginning are not one piece
            }
            let word = self.free[at].load(Ordering::Relaxed);
            let mut bit = 0;
            while bit < BITS {
                let rest = word >> bit;
                let (taken, free) = (rest.trailing_zeros(), rest.trailing_ones());
                if taken > 0 {
                    run = 0;
                    bit += taken as usize;
                    continue;
                }
                if run == 0 {
                    first = at * BITS + bit;
                }
                run += free as usize;
                bit += free as usize;
                if run >= cells {
                    return (self.claim(first, cells).then_some(first), at);
                }
            }
        }
        (None, (from + WORDS_LOOKED_AT_MAX) % words.max(1))
    }

    /// Clears the bits of these cells, unless one of them is clear.
    fn claim(&self, first: usize, cells: usize) -> bool {
        for (n, (word, mask)) in masks(first, cells).enumerate() {
            let before = self.free[word].fetch_and(!mask, Ordering::Acquire);
            if before & mask != mask {
                self.free[word].fetch_or(before & mask, Ordering::Release);
                for (word, mask) in masks(first, cells).take(n) {
                    self.free[word].fetch_or(mask, Ordering::Release);
                }
                return false;
            }
        }
        true
    }

    fn let_go(&self, first: usize, cells: usize) {
        for (word, mask) in masks(first, cells) {
            self.free[word].fetch_or(mask, Ordering::Release);
        }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        let bytes = self.free.len() * BITS * BLOCK;
        // SAFETY: it was reserved with this length, and whoever has cells has the arena.
        unsafe { sys::unreserve(self.memory, bytes) };
    }
}

/// The words that have bits for these cells, and which bits.
fn masks(first: usize, cells: usize) -> impl Iterator<Item = (usize, u64)> {
    let end = first + cells;
    (first / BITS..end.div_ceil(BITS)).map(move |word| {
        let from = first.saturating_sub(word * BITS);
        let to = (end - word * BITS).min(BITS);
        let below = |bits: usize| {
            if bits == BITS {
                u64::MAX
            } else {
                (1 << bits) - 1
            }
        };
        (word, below(to) & !below(from))
    })
}

/// Takes cells for the buffers of one thread.
pub struct Cells {
    arena: Arc<Arena>,
    /// The word at which it looks next.
    next: usize,
}

impl Cells {
    /// Of this arena.
    #[must_use]
    pub fn new(arena: Arc<Arena>) -> Self {
        Self { arena, next: 0 }
    }
}

impl PageSource for Cells {
    fn pages(&mut self, len: usize) -> Option<Box<dyn Pages>> {
        let cells = len / BLOCK;
        let first;
        (first, self.next) = self.arena.take(self.next, cells);
        let arena = Arc::clone(&self.arena);
        first.map(|first| -> Box<dyn Pages> {
            Box::new(Loan {
                arena,
                first,
                cells,
            })
        })
    }
}

/// Cells that somebody has.
struct Loan {
    arena: Arc<Arena>,
    first: usize,
    cells: usize,
}

impl Pages for Loan {
    fn bytes(&self) -> &[u8] {
        let (at, len) = (self.arena.at(self.first * BLOCK), self.cells * BLOCK);
        // SAFETY: mapped memory, which the kernel has zeroed, and no other loan's: its bits are clear.
        unsafe { std::slice::from_raw_parts(at.as_ptr(), len) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        let (at, len) = (self.arena.at(self.first * BLOCK), self.cells * BLOCK);
        // SAFETY: as above, and this loan is borrowed for as long as the slice is.
        unsafe { std::slice::from_raw_parts_mut(at.as_ptr(), len) }
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.arena.let_go(self.first, self.cells);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;

    fn arena(steps: usize) -> (Arc<Arena>, Cells) {
        let arena = Arena::new(steps * STEP_BYTES).expect("address space");
        let cells = Cells::new(Arc::clone(&arena));
        (arena, cells)
    }

    #[test]
    fn masks_cover_the_cells_and_nothing_else() {
        assert_eq!(masks(3, 2).collect::<Vec<_>>(), [(0, 0b11000)]);
        let all: Vec<_> = masks(63, 66).collect();
        assert_eq!(all, [(0, 1 << 63), (1, u64::MAX), (2, 1)]);
    }

    #[test]
    fn there_is_nothing_without_memory() {
        let (arena, mut cells) = arena(2);
        assert!(cells.pages(BLOCK).is_none());
        arena.populate(1).unwrap();
        assert_eq!(
            (arena.populated(), arena.free_bytes()),
            (STEP_BYTES, STEP_BYTES)
        );
        let mut loan = cells.pages(STEP_BYTES).expect("a whole step");
        loan.bytes_mut().fill(7);
        assert!(cells.pages(BLOCK).is_none());
        assert!(!arena.depopulate(1), "somebody has it");
        drop(loan);
        assert!(arena.depopulate(1));
        assert!(!arena.depopulate(1) && !arena.depopulate(0));
        assert!(cells.pages(BLOCK).is_none());
        arena.populate(1).unwrap();
        let loan = (0..3).find_map(|_| cells.pages(BLOCK)).expect("a cell");
        assert_eq!(loan.bytes(), [0; BLOCK], "the kernel's");
    }

    #[test]
    fn it_goes_round_and_round() {
        let (arena, mut cells) = arena(2);
        (0..2).for_each(|step| arena.populate(step).unwrap());
        let mut kept = std::collections::VecDeque::new();
        // 7 MiB are kept, of the 8 that there are.
        for n in 0..1000 {
            let loan = (0..20).find_map(|_| cells.pages(17 * BLOCK));
            kept.push_back(loan.unwrap_or_else(|| panic!("buffer {n}")));
            if kept.len() * 17 * BLOCK > 7 << 20 {
                kept.pop_front();
            }
        }
    }

    #[test]
    fn nobody_gets_what_somebody_has() {
        let (arena, mut cells) = arena(3);
        let mut rng = Rng::new(3);
        let mut loans: Vec<(u8, Box<dyn Pages>)> = Vec::new();
        for n in 0..20_000u32 {
            match rng.below(8) {
                0..4 => {
                    let len = (1 + rng.below(200) as usize) * BLOCK;
                    if let Some(mut loan) = cells.pages(len) {
                        assert_eq!(loan.bytes().len(), len);
                        let mark = n as u8;
                        for cell in loan.bytes_mut().chunks_mut(BLOCK) {
                            (cell[0], cell[BLOCK - 1]) = (mark, mark);
                        }
                        loans.push((mark, loan));
                    }
                }
                4..7 if !loans.is_empty() => {
                    let (mark, loan) = loans.swap_remove(rng.below(loans.len() as u64) as usize);
                    let whole = |cell: &[u8]| cell[0] == mark && cell[BLOCK - 1] == mark;
                    assert!(loan.bytes().chunks(BLOCK).all(whole));
                }
                7 => {
                    let step = rng.below(3) as usize;
                    let has = arena
                        .words(step)
                        .iter()
                        .any(|w| w.load(Ordering::Relaxed) != 0);
                    let mine = |loan: &dyn Pages| {
                        let at = loan.bytes().as_ptr() as usize - arena.memory.as_ptr() as usize;
                        at / STEP_BYTES <= step
                            && step <= (at + loan.bytes().len() - 1) / STEP_BYTES
                    };
                    let used = loans.iter().any(|(_, loan)| mine(&**loan));
                    if has || used {
                        assert_eq!(arena.depopulate(step), !used);
                    } else {
                        arena.populate(step).unwrap();
                    }
                }
                _ => {}
            }
        }
        let held: usize = loans.iter().map(|(_, loan)| loan.bytes().len()).sum();
        assert_eq!(arena.populated(), arena.free_bytes() + held);
    }

    #[test]
    fn cells_are_let_go_and_given_back_on_other_threads() {
        let (arena, mut cells) = arena(2);
        let (sender, receiver) = std::sync::mpsc::channel::<Box<dyn Pages>>();
        let other =
            std::thread::spawn(move || receiver.iter().filter(|loan| loan.bytes()[0] == 9).count());
        let giver = {
            let arena = Arc::clone(&arena);
            std::thread::spawn(move || {
                for n in 0..2000 {
                    let step = n % 2;
                    let is_empty = arena
                        .words(step)
                        .iter()
                        .all(|w| w.load(Ordering::Relaxed) == 0);
                    if !arena.depopulate(step) && is_empty && arena.populated() < STEP_BYTES {
                        // Nobody can have a cell of a step as long as none has memory.
                        if arena.populated() == 0 {
                            let _ = arena.populate(step);
                        }
                    }
                }
            })
        };
        let mut sent = 0;
        for _ in 0..50_000 {
            if let Some(mut loan) = cells.pages(3 * BLOCK) {
                loan.bytes_mut().fill(9);
                sent += 1;
                sender.send(loan).expect("the other thread");
            }
        }
        drop(sender);
        giver.join().expect("no panic");
        assert_eq!(other.join().expect("no panic"), sent);
        assert_eq!(arena.populated(), arena.free_bytes());
    }
}
