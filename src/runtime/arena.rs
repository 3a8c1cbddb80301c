//! Memory that a shard's tail lives in. Another thread takes it from the kernel, a step at a time, and gives it back:
//! the shard itself never waits until a page is found and zeroed.
//!
//! It is cut into cells of 4 KiB, with a bit for each that nobody has. Who takes some clears their bits and who lets go
//! sets them, on whatever thread; nobody else touches the memory of a cell whose bit is clear. A step without memory is
//! one whose cells are all taken. Cells are taken from where the last ones were on, and what a tail forgets first is
//! what it took first: so it goes round and round over the steps that have memory.

use std::io;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use zerocopy::FromZeros;

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
    /// A set bit is a step that has memory.
    with_memory: Box<[AtomicU64]>,
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
        // Without touching them: there may be room for much more than is ever used.
        let zeroed = |words| {
            <[AtomicU64]>::new_box_zeroed_with_elems(words)
                .map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))
        };
        let (free, with_memory) = (zeroed(steps * STEP_WORDS)?, zeroed(steps.div_ceil(BITS))?);
        Ok(Arc::new(Self {
            memory: sys::reserve(steps * STEP_BYTES)?,
            free,
            with_memory,
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

    /// Whether a step has memory.
    #[must_use]
    pub fn has_memory(&self, step: usize) -> bool {
        self.with_memory[step / BITS].load(Ordering::Relaxed) & (1 << (step % BITS)) != 0
    }

    /// Bytes of cells that nobody has.
    #[must_use]
    pub fn free_bytes(&self) -> usize {
        let steps = (0..self.steps()).filter(|step| self.has_memory(*step));
        let words = steps.flat_map(|step| self.words(step));
        let cells = words.map(|word| word.load(Ordering::Relaxed).count_ones());
        cells.sum::<u32>() as usize * BLOCK
    }

    /// Takes memory for a step, if it has none. One thread alone may call this and [`Arena::depopulate`].
    pub fn populate(&self, step: usize) {
        if self.has_memory(step) {
            return;
        }
        // SAFETY: all its cells are taken, and by nobody.
        unsafe { sys::touch(self.at(step * STEP_BYTES), STEP_BYTES) };
        self.populated.fetch_add(STEP_BYTES, Ordering::Relaxed);
        for word in self.words(step) {
            word.store(u64::MAX, Ordering::Release);
        }
        self.with_memory[step / BITS].fetch_or(1 << (step % BITS), Ordering::Relaxed);
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
        self.with_memory[step / BITS].fetch_and(!(1 << (step % BITS)), Ordering::Relaxed);
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

    /// The first word of the next step that has memory, from step `from` on, round and round.
    fn next_with_memory(&self, from: usize) -> Option<usize> {
        let from = from % self.steps().max(1);
        let words = self.with_memory.len();
        // The word of `from` is looked at twice: for what is behind it at first, and for what is before it at last.
        for n in 0..=words {
            let at = (from / BITS + n) % words.max(1);
            let mut bits = self.with_memory.get(at)?.load(Ordering::Relaxed);
            if n == 0 {
                bits &= u64::MAX << (from % BITS);
            }
            if bits != 0 {
                return Some((at * BITS + bits.trailing_zeros() as usize) * STEP_WORDS);
            }
        }
        None
    }

    /// Takes so many cells in one piece, looking from word `from` on, at steps that have memory; the first of them, and
    /// where to look the next time.
    fn take(&self, from: usize, cells: usize) -> (Option<usize>, usize) {
        let (mut first, mut run) = (0, 0);
        let mut at = from;
        // What is oldest is let go first, just behind the last that was taken: it is not passed over for being there
        // still, but a little at a time, for it may stay.
        let mut missed = from + 1;
        for n in 0..WORDS_LOOKED_AT_MAX {
            if n == 0 || at.is_multiple_of(STEP_WORDS) {
                let step = at / STEP_WORDS;
                if step >= self.steps() || !self.has_memory(step) {
                    let Some(next) = self.next_with_memory(step) else {
                        break;
                    };
                    (at, run) = (next, 0);
                    if n == 0 {
                        missed = at + 1;
                    }
                }
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
            at += 1;
        }
        (None, missed)
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
        arena.populate(1);
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
        arena.populate(1);
        let loan = cells.pages(BLOCK).expect("a cell");
        assert_eq!(loan.bytes(), [0; BLOCK], "the kernel's");
    }

    #[test]
    fn it_goes_round_and_round_where_there_is_memory() {
        let (arena, mut cells) = arena(200);
        for steps in [[40, 41], [3, 150]] {
            steps.into_iter().for_each(|step| arena.populate(step));
            let mut kept = std::collections::VecDeque::new();
            // 6 MiB are kept, of the 8 that there are.
            for n in 0..1000 {
                let loan = cells.pages(17 * BLOCK);
                kept.push_back(loan.unwrap_or_else(|| panic!("buffer {n} of {steps:?}")));
                if kept.len() * 17 * BLOCK > 6 << 20 {
                    kept.pop_front();
                }
            }
            kept.clear();
            assert!(steps.map(|step| arena.depopulate(step)) == [true; 2]);
        }
    }

    #[test]
    fn what_is_held_for_long_is_passed_and_what_is_not_is_waited_for() {
        let (arena, mut cells) = arena(4);
        (0..4).for_each(|step| arena.populate(step));
        let mut all: Vec<_> = (0..16).map(|_| cells.pages(1 << 20)).collect();
        let at = |loan: &Option<Box<dyn Pages>>| loan.as_ref().map(|loan| loan.bytes().as_ptr());
        assert!(all.iter().all(Option::is_some) && cells.pages(BLOCK).is_none());
        // The oldest is let go: it is the next one.
        let oldest = all.remove(0);
        let place = at(&oldest);
        drop(oldest);
        let again = cells.pages(1 << 20);
        assert_eq!(at(&again), place);
        // One in the middle is: it is found as well.
        let middle = all.remove(9);
        let place = at(&middle);
        drop(middle);
        let again = (0..100).find_map(|_| cells.pages(1 << 20));
        assert_eq!(at(&again), place);
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
                    let mine = |loan: &dyn Pages| {
                        let at = loan.bytes().as_ptr() as usize - arena.memory.as_ptr() as usize;
                        at / STEP_BYTES <= step
                            && step <= (at + loan.bytes().len() - 1) / STEP_BYTES
                    };
                    let used = loans.iter().any(|(_, loan)| mine(&**loan));
                    if arena.has_memory(step) {
                        assert_eq!(arena.depopulate(step), !used);
                    } else {
                        arena.populate(step);
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
        let other = std::thread::spawn(move || {
            let is_own = |(n, loan): &(usize, Box<dyn Pages>)| {
                let mut words = loan.bytes().chunks(8);
                words.all(|word| word == (*n as u64).to_ne_bytes())
            };
            let (mut own, mut some) = (0, Vec::new());
            for loan in receiver.iter().enumerate() {
                some.push(loan);
                // They are looked at while others are taken and let go.
                if some.len() == 20 {
                    own += some.drain(..).filter(is_own).count();
                }
            }
            own + some.into_iter().filter(is_own).count()
        });
        let running = Arc::new(());
        let giver = {
            let (arena, ended) = (Arc::clone(&arena), Arc::clone(&running));
            std::thread::spawn(move || {
                let mut given_back = 0;
                for step in [0, 1].into_iter().cycle() {
                    if Arc::strong_count(&ended) == 1 && given_back > 0 {
                        break;
                    }
                    given_back += usize::from(arena.depopulate(step));
                    arena.populate(1 - step);
                    std::thread::yield_now();
                }
            })
        };
        let mut sent: usize = 0;
        while sent < 5_000 {
            if let Some(mut loan) = cells.pages(3 * BLOCK) {
                for word in loan.bytes_mut().chunks_mut(8) {
                    word.copy_from_slice(&(sent as u64).to_ne_bytes());
                }
                sent += 1;
                sender.send(loan).expect("the other thread");
            }
        }
        drop((sender, running));
        giver.join().expect("no panic");
        assert_eq!(other.join().expect("no panic"), sent);
        assert_eq!(arena.populated(), arena.free_bytes());
    }
}
