//! What the memory tails may take: a share of the memory that there is, taken as it is needed, and given back when
//! others need it or when it is not needed any more. A thread of its own sees to that, which has the core when nobody
//! else wants it. (The kernel would give the page cache back by itself; this memory is ours.)

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::arena::{Arena, STEP_BYTES};
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
/// What has not been needed for so long is given back.
const IDLE: Duration = Duration::from_secs(60);
/// One part in so many of an arena is not a tail's: buffers on their way, and room between others.
const SLACK: usize = 8;

/// Memory that this process may use, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Memory {
    total: u64,
    /// What can be had without taking it from anybody; the page cache can.
    available: u64,
}

impl Memory {
    /// The machine's, or what a control group allows where that is less. `None` if the system does not say.
    fn now() -> Option<Self> {
        let machine = parse_meminfo(&fs::read_to_string("/proc/meminfo").ok()?)?;
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let groups = [&VERSION_2, &VERSION_1]
            .into_iter()
            .flat_map(|version| version.limits(&own));
        Some(groups.fold(machine, |least, group| Self {
            total: least.total.min(group.total),
            available: least.available.min(group.available),
        }))
    }

    /// What the tails may take, of `most`, when they, or what else is in page buffers, take `taken` now.
    fn tails(self, most: u64, taken: u64) -> u64 {
        let left = (self.total / LEFT).min(MEMORY_LEFT_BYTES);
        most.min((taken + self.available).saturating_sub(left))
    }
}

/// How a version of control groups names things.
struct Cgroups {
    /// What is before the path of a group in `/proc/self/cgroup`, up to a number in front of it.
    own: &'static str,
    root: &'static str,
    limit: &'static str,
    usage: &'static str,
    cached: [&'static str; 2],
}

const VERSION_2: Cgroups = Cgroups {
    own: "::/",
    root: "/sys/fs/cgroup",
    limit: "memory.max",
    usage: "memory.current",
    cached: ["inactive_file ", "active_file "],
};

const VERSION_1: Cgroups = Cgroups {
    own: ":memory:/",
    root: "/sys/fs/cgroup/memory",
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    cached: ["total_inactive_file ", "total_active_file "],
};

impl Cgroups {
    /// What this process' group and those that it is in have and leave, given `/proc/self/cgroup`.
    fn limits(&self, own: &str) -> Vec<Memory> {
        let Some(dir) = self.dir(own) else {
            return Vec::new();
        };
        let above = dir.ancestors().take_while(|dir| dir.starts_with(self.root));
        above.filter_map(|dir| self.memory(dir)).collect()
    }

    /// The directory of this process' group.
    fn dir(&self, own: &str) -> Option<PathBuf> {
        let path = own.lines().find_map(|line| {
            let number = line.trim_start_matches(|c: char| c.is_ascii_digit());
            number.strip_prefix(self.own)
        })?;
        Some(Path::new(self.root).join(path))
    }

    /// A group's, if it has a limit.
    fn memory(&self, dir: &Path) -> Option<Memory> {
        let read = |name: &str| fs::read_to_string(dir.join(name)).ok();
        let total: u64 = read(self.limit)?.trim().parse().ok()?;
        let usage: u64 = read(self.usage)?.trim().parse().ok()?;
        let stat = read("memory.stat")?;
        let cached = self
            .cached
            .iter()
            .filter_map(|name| number_after(&stat, name));
        let cached: u64 = cached.sum();
        Some(Memory {
            total,
            available: total.saturating_sub(usage.saturating_sub(cached)),
        })
    }
}

fn parse_meminfo(text: &str) -> Option<Memory> {
    Some(Memory {
        total: number_after(text, "MemTotal:")? * 1024,
        available: number_after(text, "MemAvailable:")? * 1024,
    })
}

/// The number behind a name at the beginning of a line.
fn number_after(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// The memory of one shard's tails.
struct ShardMemory {
    /// `None` where there is no address space for one, or the tails may take no more than their start.
    arena: Option<Arc<Arena>>,
    /// What its tails may take now.
    bytes_max: AtomicUsize,
    /// What they have forgotten so far, because they might not take more.
    forgotten: AtomicU64,
}

/// The memory of all tails.
pub struct TailMemory {
    shards: Vec<ShardMemory>,
    /// What each shard always has, of the allocator.
    start: usize,
    /// What all arenas together may take.
    most: u64,
}

impl TailMemory {
    /// For so many shards: what the setting gives each of them, else a share of the memory that there is now.
    #[must_use]
    pub fn new(shards: u16, setting: Option<i64>) -> Arc<Self> {
        let count = usize::from(shards.max(1));
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let each = match setting {
            Some(bytes) => size(bytes.unsigned_abs()),
            None => Memory::now().map_or(TAIL_START_BYTES, |memory| {
                size(memory.total / SHARE) / count
            }),
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
            forgotten: AtomicU64::new(0),
        };
        Arc::new(Self {
            shards: (0..count).map(shard).collect(),
            start,
            most: (room as u64).saturating_mul(count as u64),
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

    /// Says what a shard's tails have forgotten so far.
    pub fn forgotten(&self, shard: usize, bytes: u64) {
        self.shards[shard].forgotten.store(bytes, Ordering::Relaxed);
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
        let more = keeper.look(&memory, Memory::now, &changed);
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
    /// Which steps have memory.
    steps: Vec<bool>,
    forgotten: u64,
    /// What it has forgotten since it was last idle and could have kept with more memory, in bytes.
    wants: usize,
    /// When it last wanted some.
    wanted: Instant,
}

struct Keeper(Vec<Known>);

impl Keeper {
    fn new(shards: usize) -> Self {
        let now = Instant::now();
        let known = |_| Known {
            steps: Vec::new(),
            forgotten: 0,
            wants: 0,
            wanted: now,
        };
        Self((0..shards).map(known).collect())
    }

    /// Looks what is needed, and takes or gives back some. True if there is more to be taken at once.
    fn look(
        &mut self,
        memory: &TailMemory,
        machine: impl FnOnce() -> Option<Memory>,
        changed: &impl Fn(),
    ) -> bool {
        for (known, shard) in self.0.iter_mut().zip(&memory.shards) {
            known.look(shard);
        }
        let arenas: Vec<&Arena> = memory
            .shards
            .iter()
            .filter_map(|s| s.arena.as_deref())
            .collect();
        let taken = arenas.iter().map(|arena| arena.populated() as u64).sum();
        let wanted = self.0.iter().any(|known| known.wants > 0);
        if arenas.len() < self.0.len() || (taken == 0 && !wanted) {
            return false;
        }
        let allowed = machine().map_or(0, |now| now.tails(memory.most, taken));
        let states: Vec<State> = self
            .0
            .iter()
            .zip(&arenas)
            .map(|(known, arena)| known.state(arena))
            .collect();
        let targets = targets(&states, usize::try_from(allowed).unwrap_or(usize::MAX));
        let mut more = false;
        let until = Instant::now() + TAKE_FOR;
        for ((known, shard), target) in self.0.iter_mut().zip(&memory.shards).zip(targets) {
            let Some(arena) = &shard.arena else { continue };
            let was = arena.populated();
            let fewer = target < was;
            let may_take = |bytes| memory.start + bytes / SLACK * (SLACK - 1);
            if fewer {
                // First the tail forgets, then there is something to give back: the next time, if not now.
                shard.bytes_max.store(may_take(target), Ordering::Relaxed);
                known.give_back(arena, target);
            } else {
                more |= known.take(arena, target, until);
                shard
                    .bytes_max
                    .store(may_take(arena.populated()), Ordering::Relaxed);
            }
            if fewer || arena.populated() != was {
                changed();
            }
        }
        more
    }
}

impl Known {
    /// Sees what a shard has forgotten since the last look.
    fn look(&mut self, shard: &ShardMemory) {
        let forgotten = shard.forgotten.load(Ordering::Relaxed);
        let bytes = forgotten.saturating_sub(self.forgotten);
        self.forgotten = forgotten;
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
        self.steps.resize(arena.steps(), false);
        for step in 0..self.steps.len() {
            if arena.populated() + STEP_BYTES > target {
                break;
            }
            if self.steps[step] {
                continue;
            }
            if Instant::now() >= until {
                return true;
            }
            if let Err(error) = arena.populate(step) {
                tracing::debug!("no memory for the tail: {error}");
                self.wants = 0;
                break;
            }
            self.steps[step] = true;
            self.wants = self.wants.saturating_sub(STEP_BYTES);
        }
        false
    }

    /// Gives memory back that nobody has, down to a target.
    fn give_back(&mut self, arena: &Arena, target: usize) {
        for step in (0..self.steps.len()).rev() {
            if arena.populated() < target + STEP_BYTES {
                break;
            }
            if self.steps[step] && arena.depopulate(step) {
                self.steps[step] = false;
            }
        }
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
        assert_eq!(of(10 * GIB).tails(4 * GIB, 0), 4 * GIB);
        assert_eq!(of(3 * GIB).tails(4 * GIB, GIB), 4 * GIB - left);
        assert_eq!(of(left).tails(4 * GIB, GIB), GIB, "as it is");
        assert_eq!(
            of(GIB).tails(4 * GIB, 3 * GIB),
            4 * GIB - left,
            "gives some back"
        );
        assert_eq!(of(0).tails(4 * GIB, GIB), 0);
        let large = Memory {
            total: 1024 * GIB,
            available: 10 * GIB,
        };
        assert_eq!(large.tails(256 * GIB, 0), 10 * GIB - MEMORY_LEFT_BYTES);
    }

    #[test]
    fn files_of_the_system_are_read() {
        let text = "MemTotal:       24683748 kB\nMemFree:  1 kB\nMemAvailable:   22012345 kB\n";
        let memory = parse_meminfo(text).expect("both lines");
        assert_eq!(memory.total, 24_683_748 * 1024);
        assert_eq!(memory.available, 22_012_345 * 1024);
        assert_eq!(parse_meminfo("MemTotal: x kB"), None);
        let slice = Path::new("/sys/fs/cgroup/system.slice/millrace.service");
        let own = "0::/system.slice/millrace.service\n";
        assert_eq!(VERSION_2.dir(own), Some(slice.into()));
        assert_eq!(VERSION_1.dir(own), None);
        let own = "12:cpu:/y\n4:memory:/x\n0::/\n";
        assert_eq!(VERSION_2.dir(own), Some("/sys/fs/cgroup/".into()));
        assert_eq!(VERSION_1.dir(own), Some("/sys/fs/cgroup/memory/x".into()));
    }

    #[test]
    fn a_control_group_limits_what_there_is() {
        let dir = std::env::temp_dir().join(format!("millrace-cgroup-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let write = |name: &str, text: &str| fs::write(dir.join(name), text).unwrap();
        write("memory.max", "max\n");
        write("memory.current", "5000\n");
        write(
            "memory.stat",
            "anon 3000\ninactive_file 1500\nactive_file 500\n",
        );
        assert_eq!(VERSION_2.memory(&dir), None);
        write("memory.max", "8000\n");
        let memory = VERSION_2.memory(&dir);
        fs::remove_dir_all(&dir).unwrap();
        let (total, available) = (8000, 5000);
        assert_eq!(memory, Some(Memory { total, available }));
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
        for forgotten in 1.. {
            memory.forgotten(0, forgotten << 30);
            if !look(&mut keeper, plenty) && memory.bytes_max(0) > 190 * MIB {
                break;
            }
        }
        let arena = memory.arena(0).expect("address space");
        let all = 64 * MIB + arena.populated() / 8 * 7;
        assert_eq!((memory.bytes_max(0), memory.bytes_max(1)), (all, 64 * MIB));
        assert!(told.get() > 0 && all <= 200 * MIB);
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
        keeper.0.iter_mut().for_each(|known| known.wanted -= IDLE);
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
    fn a_setting_is_for_each_shard_and_memory_for_all() {
        let small = TailMemory::new(3, Some(1 << 20));
        assert_eq!(
            (small.bytes_max(2), small.bytes_max_of_all()),
            (1 << 20, 3 << 20)
        );
        let memory = Memory::now().expect("this system says it");
        assert!(memory.available <= memory.total);
        let tails = TailMemory::new(2, None);
        assert!(tails.most > 0 && tails.most <= memory.total / SHARE * 8 / 7);
    }
}
