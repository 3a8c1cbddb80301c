//! What the memory tails may take: a share of the memory that there is, taken as it is needed, and given back when
//! others need it or when it is not needed any more. A thread of its own sees to that, which has the core when nobody
//! else wants it. (The kernel would give the page cache back by itself; this memory is ours.)

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::arena::{Arena, STEP_BYTES};
use super::available::{Memory, System};
use super::sys;
use crate::base::limits::{MEMORY_LEFT_BYTES, TAIL_START_BYTES};

/// The tails get one part in so many of the memory that there is, unless a setting says how much.
const SHARE: u64 = 4;
/// Others are left one part in so many, up to [`MEMORY_LEFT_BYTES`].
const LEFT: u64 = 10;
/// How often is looked what is needed.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long memory is taken for at a time, if no single step takes longer, and which part of a core that may take, one
/// in so many. A GiB takes some 0.35 s, and 1.5 s where a hypervisor has to find it first.
const TAKE_FOR: Duration = Duration::from_millis(2);
const TAKING: u32 = 10;
/// How much more or less there may be before something is done about it.
const BAND_BYTES: u64 = 64 * 1024 * 1024;
/// What has not been needed for so long is given back.
const IDLE: Duration = Duration::from_secs(60);
/// One part in so many of an arena is not a tail's: buffers on their way, and room between others.
const SLACK: usize = 8;

/// What the tails may take, of `most`, when they take `taken` now. They neither take nor give back the last
/// [`BAND_BYTES`] of what there is: what others take changes all the time.
fn allowed(memory: Memory, most: u64, taken: u64) -> u64 {
    let left = (memory.total / LEFT).min(MEMORY_LEFT_BYTES);
    let there_is = (taken + memory.available).saturating_sub(left);
    most.min(there_is.min(taken.max(there_is.saturating_sub(BAND_BYTES))))
}

/// The memory of one shard's tails.
struct ShardMemory {
    /// `None` where there is no address space for one, or the tails may take no more than their start: then they stay
    /// as they are.
    arena: Option<Arc<Arena>>,
    /// What its tails may take now.
    bytes_max: AtomicUsize,
    /// What they have missed so far: forgotten because they might not take more.
    missed: AtomicU64,
}

/// The memory of all tails.
pub struct TailMemory {
    shards: Vec<ShardMemory>,
    /// What each shard always has, of the allocator.
    start: usize,
    /// What all arenas together may take.
    most: u64,
    /// `None` if the system does not say: then nothing is taken.
    system: Option<System>,
}

impl TailMemory {
    /// For so many shards: what the setting gives each of them, else a share of the memory that there is now.
    #[must_use]
    pub fn new(shards: u16, setting: Option<i64>) -> Arc<Self> {
        let count = usize::from(shards.max(1));
        let system = System::open().and_then(|system| Ok((system.memory()?.total, system)));
        let (total, system) = system
            .inspect_err(|error| {
                tracing::warn!("memory tails stay small: how much memory there is: {error}")
            })
            .ok()
            .unzip();
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let each = match (setting, total) {
            (Some(bytes), _) => size(bytes.unsigned_abs()),
            (None, Some(total)) => size(total / SHARE) / count,
            (None, None) => TAIL_START_BYTES,
        };
        let start = each.min(TAIL_START_BYTES);
        // Together with its slack, so that the tail gets what it may have.
        let room = (each - start) / (SLACK - 1) * SLACK;
        let shard = |_| ShardMemory {
            arena: (room >= STEP_BYTES)
                .then(|| Arena::new(room))
                .and_then(|arena| {
                    arena
                        .inspect_err(|error| tracing::warn!("memory tails stay small: {error}"))
                        .ok()
                }),
            bytes_max: AtomicUsize::new(start),
            missed: AtomicU64::new(0),
        };
        Arc::new(Self {
            shards: (0..count).map(shard).collect(),
            start,
            most: (room as u64).saturating_mul(count as u64),
            system,
        })
    }

    /// Where a shard's tails live.
    #[must_use]
    pub fn arena(&self, shard: usize) -> Option<Arc<Arena>> {
        self.shards[shard].arena.clone()
    }

    /// What the tails of a shard may take now.
    #[must_use]
    pub fn bytes_max(&self, shard: usize) -> usize {
        self.shards[shard].bytes_max.load(Ordering::Relaxed)
    }

    /// The same of all shards together.
    #[must_use]
    pub fn bytes_max_of_all(&self) -> usize {
        (0..self.shards.len())
            .map(|shard| self.bytes_max(shard))
            .sum()
    }

    /// What a shard's tails may take when its arena has so much.
    fn bytes_max_with(&self, arena: usize) -> usize {
        self.start + arena / SLACK * (SLACK - 1)
    }

    /// Says what a shard's tails have missed so far: forgotten for lack of memory.
    pub fn missed(&self, shard: usize, bytes: u64) {
        self.shards[shard].missed.store(bytes, Ordering::Relaxed);
    }

    /// Starts the thread that sees to it, which ends when nobody else has this. It calls `changed` when a shard may
    /// take another amount.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn look_after(
        self: &Arc<Self>,
        changed: impl Fn() + Send + 'static,
    ) -> std::io::Result<()> {
        let memory = Arc::downgrade(self);
        let keeper = Keeper::new(self.shards.len());
        let thread = std::thread::Builder::new().name("memory".into());
        thread
            .spawn(move || keep(keeper, &memory, changed))
            .map(drop)
    }
}

fn keep(mut keeper: Keeper, memory: &Weak<TailMemory>, changed: impl Fn()) {
    sys::step_back();
    while let Some(memory) = memory.upgrade() {
        let before = sys::thread_cpu_ns();
        let machine = || memory.system.as_ref()?.memory().ok();
        let more = keeper.look(&memory, machine, &changed);
        drop(memory);
        let took = Duration::from_nanos(sys::thread_cpu_ns() - before);
        std::thread::sleep(if more {
            took * (TAKING - 1)
        } else {
            LOOK_EVERY
        });
    }
}

/// What the thread knows of a shard.
struct Known {
    missed: u64,
    /// What it has forgotten since it was last idle and could have kept with more memory, in bytes.
    wants: usize,
    /// When it last wanted some.
    wanted: Instant,
}

struct Keeper {
    shards: Vec<Known>,
    /// How often it has looked, to know who is first.
    turn: usize,
}

impl Keeper {
    fn new(shards: usize) -> Self {
        let now = Instant::now();
        let known = |_| Known {
            missed: 0,
            wants: 0,
            wanted: now,
        };
        Self {
            shards: (0..shards).map(known).collect(),
            turn: 0,
        }
    }

    /// Looks what is needed, and takes or gives back some. True if there is more to be taken at once. Where it cannot
    /// be known what there is, all stays as it is.
    fn look(
        &mut self,
        memory: &TailMemory,
        machine: impl FnOnce() -> Option<Memory>,
        changed: &impl Fn(),
    ) -> bool {
        let shards = self.shards.iter_mut().zip(&memory.shards);
        let mut shards: Vec<(&mut Known, &ShardMemory, &Arena)> = shards
            .filter_map(|(known, shard)| Some((known, shard, shard.arena.as_deref()?)))
            .collect();
        for (known, shard, _) in &mut shards {
            known.look(shard);
        }
        let populated = shards.iter().map(|(_, _, arena)| arena.populated());
        let taken: usize = populated.sum();
        let wanted = shards.iter().any(|(known, ..)| known.wants > 0);
        if taken == 0 && !wanted {
            return false;
        }
        let Some(machine) = machine() else {
            return false;
        };
        let allowed =
            usize::try_from(allowed(machine, memory.most, taken as u64)).unwrap_or(usize::MAX);
        let states: Vec<State> = shards
            .iter()
            .map(|(known, _, arena)| known.state(arena))
            .collect();
        let targets = targets(&states, allowed);
        let until = Instant::now() + TAKE_FOR;
        let (mut more, mut is_other) = (false, false);
        let mut order: Vec<_> = shards.into_iter().zip(targets).collect();
        // Whoever was first is last the next time: there may be time for one of them only.
        let first = self.turn % order.len().max(1);
        order.rotate_left(first);
        self.turn = self.turn.wrapping_add(1);
        for ((known, shard, arena), target) in order {
            let before = shard.bytes_max.load(Ordering::Relaxed);
            if target < arena.populated() {
                // In whole steps: what others take changes by little all the time, and a part of one cannot be given.
                let target = target - target % STEP_BYTES;
                // First the tail forgets, then there is something to give back: the next time, if not now.
                shard
                    .bytes_max
                    .store(memory.bytes_max_with(target), Ordering::Relaxed);
                give_back(arena, target);
            } else {
                more |= known.take(arena, target, until);
                let bytes = memory.bytes_max_with(arena.populated());
                shard.bytes_max.store(bytes, Ordering::Relaxed);
            }
            is_other |= before != shard.bytes_max.load(Ordering::Relaxed);
        }
        if is_other {
            changed();
        }
        more
    }
}

impl Known {
    /// Sees what a shard has forgotten since the last look.
    fn look(&mut self, shard: &ShardMemory) {
        let missed = shard.missed.load(Ordering::Relaxed);
        let bytes = missed.saturating_sub(self.missed);
        self.missed = missed;
        if bytes > 0 {
            self.wanted = Instant::now();
            let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
            self.wants = self.wants.saturating_add(bytes);
        } else if self.is_idle() {
            self.wants = 0;
        }
    }

    fn is_idle(&self) -> bool {
        self.wanted.elapsed() >= IDLE
    }

    fn state(&self, arena: &Arena) -> State {
        let populated = arena.populated();
        // The slack of what a tail has is no more unused than the tail is.
        let unused = match self.is_idle() {
            true => arena.free_bytes().saturating_sub(populated / SLACK),
            false => 0,
        };
        State {
            room: arena.steps() * STEP_BYTES,
            populated,
            wants: self.wants,
            unused,
        }
    }

    /// Takes memory up to a target, until a moment. True if there was no time for all of it.
    fn take(&mut self, arena: &Arena, target: usize, until: Instant) -> bool {
        let without = (0..arena.steps()).filter(|step| !arena.has_memory(*step));
        for step in without {
            if arena.populated() + STEP_BYTES > target {
                break;
            }
            if Instant::now() >= until {
                return true;
            }
            arena.populate(step);
            self.wants = self.wants.saturating_sub(STEP_BYTES);
        }
        false
    }
}

/// Gives memory back that nobody has, down to a target.
fn give_back(arena: &Arena, target: usize) {
    let with_memory = (0..arena.steps())
        .rev()
        .filter(|step| arena.has_memory(*step));
    for step in with_memory {
        if arena.populated() < target + STEP_BYTES {
            break;
        }
        arena.depopulate(step);
    }
}

/// How it stands with a shard, in bytes.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// What its arena has room for.
    room: usize,
    /// What it has.
    populated: usize,
    /// What it could do with besides.
    wants: usize,
    /// What of it has not been needed for long.
    unused: usize,
}

/// What each shard is to have, where all together may have so much.
fn targets(states: &[State], allowed: usize) -> Vec<usize> {
    let fair = allowed / states.len().max(1);
    let mut targets: Vec<usize> = states
        .iter()
        .map(|s| s.populated - s.unused.min(s.populated))
        .collect();
    let wants = |n: usize| {
        states[n]
            .wants
            .min(states[n].room.saturating_sub(states[n].populated))
    };
    // Who has more than its share has to let others have theirs.
    let total: usize = targets.iter().sum();
    let missing = |targets: &[usize], n: usize| wants(n).min(fair.saturating_sub(targets[n]));
    let claimed: usize = (0..states.len()).map(|n| missing(&targets, n)).sum();
    let mut over = (total + claimed).saturating_sub(allowed);
    let excess: usize = targets.iter().map(|bytes| bytes.saturating_sub(fair)).sum();
    for target in &mut targets {
        let mine = target.saturating_sub(fair);
        let gives = over.min(excess) as u128 * mine as u128;
        *target -= gives.div_ceil(excess.max(1) as u128) as usize;
    }
    // First everybody's share, then whatever is left to whoever wants it.
    over = allowed.saturating_sub(targets.iter().sum());
    for up_to in [fair, allowed] {
        for n in 0..states.len() {
            let more = wants(n).min(up_to.saturating_sub(targets[n])).min(over);
            let more = more.min((states[n].populated + wants(n)).saturating_sub(targets[n]));
            targets[n] += more;
            over -= more;
        }
    }
    targets
}

#[cfg(test)]
mod tests {
    use super::super::arena::Cells;
    use super::*;
    use crate::base::pages::PageSource;

    const GIB: u64 = 1 << 30;

    #[test]
    fn tails_take_what_is_free_beyond_what_others_are_left() {
        let of = |available| Memory {
            total: 16 * GIB,
            available,
        };
        let left = 16 * GIB / LEFT;
        assert_eq!(allowed(of(10 * GIB), 4 * GIB, 0), 4 * GIB);
        assert_eq!(
            allowed(of(3 * GIB), 4 * GIB, GIB),
            4 * GIB - left - BAND_BYTES
        );
        let little = BAND_BYTES / 2;
        assert_eq!(
            allowed(of(left + little), 4 * GIB, GIB),
            GIB,
            "not worth it"
        );
        assert_eq!(allowed(of(left - little), 4 * GIB, GIB), GIB - little);
        assert_eq!(allowed(of(left), 4 * GIB, GIB), GIB, "as it is");
        assert_eq!(
            allowed(of(GIB), 4 * GIB, 3 * GIB),
            4 * GIB - left,
            "gives some back"
        );
        assert_eq!(allowed(of(0), 4 * GIB, GIB), 0);
        let large = Memory {
            total: 1024 * GIB,
            available: 10 * GIB,
        };
        assert_eq!(
            allowed(large, 256 * GIB, 0),
            10 * GIB - MEMORY_LEFT_BYTES - BAND_BYTES
        );
    }

    #[test]
    fn shards_share_what_there_is() {
        let state = |populated, wants| State {
            room: 1000,
            populated,
            wants,
            unused: 0,
        };
        assert_eq!(targets(&[state(0, 50), state(0, 0)], 400), [50, 0]);
        assert_eq!(
            targets(&[state(100, 500), state(100, 500)], 400),
            [200, 200]
        );
        assert_eq!(targets(&[state(100, 500), state(0, 20)], 400), [380, 20]);
        assert_eq!(
            targets(&[state(400, 500), state(0, 0)], 400),
            [400, 0],
            "nobody else wants it"
        );
        assert_eq!(targets(&[state(400, 500), state(0, 30)], 400), [370, 30]);
        assert_eq!(targets(&[state(400, 500), state(0, 900)], 400), [200, 200]);
        assert_eq!(
            targets(&[state(300, 0), state(100, 0)], 200),
            [100, 100],
            "less for all"
        );
        assert_eq!(targets(&[state(300, 0), state(50, 0)], 200), [150, 50]);
        assert_eq!(
            targets(&[state(990, 100)], 5000),
            [1000],
            "as much as there is room for"
        );
        let idle = State {
            unused: 60,
            ..state(100, 0)
        };
        assert_eq!(targets(&[idle, state(100, 0)], 400), [40, 100]);
        assert_eq!(targets(&[], 400), [0; 0]);
    }

    proptest::proptest! {
        #[test]
        fn nobody_gets_more_than_there_is(
            shards in proptest::collection::vec((0usize..300, 0usize..400, 0usize..400), 1..6),
            allowed in 0usize..1000,
        ) {
            let state = |&(populated, wants, unused): &(usize, usize, usize)| State {
                room: 300,
                populated,
                wants,
                unused,
            };
            let states: Vec<State> = shards.iter().map(state).collect();
            let targets = targets(&states, allowed);
            proptest::prop_assert!(targets.iter().sum::<usize>() <= allowed);
            for (state, target) in states.iter().zip(&targets) {
                proptest::prop_assert!(*target <= state.room && *target <= state.populated + state.wants);
            }
            // Nothing is left over that somebody wants.
            let lacks = |(s, has): (&State, &usize)| {
                s.wants > 0 && s.unused == 0 && *has < (s.populated + s.wants).min(s.room)
            };
            let one_lacks = states.iter().zip(&targets).any(lacks);
            proptest::prop_assert!(!one_lacks || targets.iter().sum::<usize>() == allowed);
        }
    }

    #[test]
    fn tails_get_memory_as_they_forget_and_lose_it_when_idle() {
        const MIB: usize = 1 << 20;
        let memory = TailMemory::new(2, Some(200 << 20));
        let mut keeper = Keeper::new(2);
        let told = std::cell::Cell::new(0);
        let plenty = || {
            let (total, available) = (32 << 30, 16 << 30);
            Some(Memory { total, available })
        };
        let look = |keeper: &mut Keeper, machine: fn() -> Option<Memory>| {
            keeper.look(&memory, machine, &|| told.set(told.get() + 1))
        };
        look(&mut keeper, plenty);
        assert_eq!((memory.bytes_max(0), told.get()), (64 * MIB, 0));
        // However long it takes, it goes on as long as there is more to be forgotten.
        for missed in 1.. {
            memory.missed(0, missed << 30);
            assert!(missed < 1000, "it takes nothing");
            if !look(&mut keeper, plenty) && memory.bytes_max(0) > 190 * MIB {
                break;
            }
        }
        let arena = memory.arena(0).expect("address space");
        let all = 64 * MIB + arena.populated() / 8 * 7;
        assert_eq!((memory.bytes_max(0), memory.bytes_max(1)), (all, 64 * MIB));
        assert!(told.get() > 0 && all <= 200 * MIB);
        let populated = arena.populated();
        look(&mut keeper, || None);
        assert_eq!(arena.populated(), populated, "nobody knows what there is");
        look(&mut keeper, plenty);
        assert_eq!(memory.bytes_max(0), all, "it stays");
        let scarce = || {
            let (total, available) = (32 << 30, 2 << 30);
            Some(Memory {
                total,
                available: available - (64 << 20),
            })
        };
        look(&mut keeper, scarce);
        let fewer = 64 * MIB + arena.populated() / 8 * 7;
        assert!(all - fewer >= 48 * MIB, "others need it");
        assert_eq!(memory.bytes_max(0), fewer);
        // A tail that is full stays, however long nothing is written.
        let mut cells = Cells::new(Arc::clone(&arena));
        let populated = arena.populated();
        let mut kept = Vec::new();
        while kept.len() * MIB < populated / 8 * 7 {
            kept.extend(cells.pages(MIB));
        }
        keeper
            .shards
            .iter_mut()
            .for_each(|known| known.wanted -= IDLE);
        look(&mut keeper, plenty);
        assert_eq!((arena.populated(), memory.bytes_max(0)), (populated, fewer));
        kept.clear();
        for _ in 0..10 {
            look(&mut keeper, plenty);
        }
        assert!(arena.populated() <= STEP_BYTES, "it has nothing any more");
        assert!(memory.bytes_max(0) < 68 * MIB);
    }

    #[test]
    fn a_bound_does_not_move_with_all_that_others_do() {
        const MIB: usize = 1 << 20;
        let memory = TailMemory::new(1, Some(200 << 20));
        let (mut keeper, told) = (Keeper::new(1), std::cell::Cell::new(0));
        let changed = || told.set(told.get() + 1);
        let with = |available| {
            let total = 32 << 30;
            move || Some(Memory { total, available })
        };
        let arena = memory.arena(0).expect("address space");
        for missed in 1.. {
            memory.missed(0, missed << 30);
            assert!(missed < 1000, "it takes nothing");
            if !keeper.look(&memory, with(16 << 30), &changed) && arena.populated() > 0 {
                break;
            }
        }
        let all = arena.populated();
        told.set(0);
        // They take a little more each time, from when it is a little too much.
        for more in 0..5 {
            let theirs = 100_000 + more * 1000 + arena.populated() as u64;
            let available = MEMORY_LEFT_BYTES + all as u64 - theirs;
            keeper.look(&memory, with(available), &changed);
        }
        assert_eq!((arena.populated(), told.get()), (all - STEP_BYTES, 1));
        let bound = 64 * MIB + arena.populated() / 8 * 7;
        assert_eq!(memory.bytes_max(0), bound);
    }

    #[test]
    fn a_setting_is_for_each_shard_and_memory_for_all() {
        let small = TailMemory::new(3, Some(1 << 20));
        assert_eq!(
            (small.bytes_max(2), small.bytes_max_of_all()),
            (1 << 20, 3 << 20)
        );
        let memory = System::open().expect("this system says it").memory();
        let memory = memory.expect("this system says it");
        assert!(memory.available <= memory.total);
        let tails = TailMemory::new(2, None);
        assert!(tails.most > 0 && tails.most <= memory.total / SHARE * 8 / 7);
    }
}
