//! Where every byte of a store's file belongs, whatever is appended, deleted and cut off, and that what a small store
//! has taken it can also finish.

use super::*;

const SEEDS: std::ops::Range<u64> = 0..10;

/// A store of few regions.
fn cramped(seed: u64, sabotage: Sabotage) -> World {
    let mut rng = Rng::new(seed);
    let raw = rng.chance(1, 2);
    let mut config = World::config(&mut rng, raw);
    config.bytes_max = config.least_bytes() + rng.below(4) * REGION;
    config.sabotage = sabotage;
    World::with(rng, config)
}

impl World {
    /// Something large, something that is to be remembered, or the end of something.
    fn act_in_cramped_space(&mut self) {
        let Some(log) = self.alive() else {
            return self.act();
        };
        match self.rng.below(100) {
            // A run that no small chunk holds, nor a hundred of them if that is all there is.
            0..8 => {
                let len = 1 << 20 | self.rng.below(1 << 20);
                self.append(log, len as usize);
            }
            8..20 => {
                let len = 1 + self.rng.below(30_000) as usize;
                // Twice in this checkpoint, twice in the next one.
                if self.store.has_room(len + 1024, RoomFor::Broker) {
                    self.give_state(log);
                    let flush = self.store.note(log, vec![7; len].into());
                    self.logs.get_mut(&log).unwrap().mark(flush);
                    *self.states.entry(log).or_insert(8) += len;
                }
            }
            20..30 if !self.store.has_room(1 << 20, RoomFor::Clients) && self.rng.chance(1, 3) => {
                self.give_state(log);
                let model = self.logs.get_mut(&log).unwrap();
                model.deleted = true;
                let flush = self.store.delete_log(log);
                model.mark(flush);
                self.states.remove(&log);
            }
            _ => self.act(),
        }
    }

    /// Everything gets done, whatever there is room for.
    fn comes_to_rest(&mut self) {
        for _ in 0..20_000 {
            self.pump(50);
            if self.store.is_quiet() {
                assert_eq!(self.durable, self.store.pending_seq());
                return;
            }
            self.store.try_again();
        }
        panic!("the store does not come to rest: {:?}", self.store.usage());
    }
}

/// How often a store had no room for clients.
fn run_in_cramped_space(seed: u64, sabotage: Sabotage) -> usize {
    let mut world = cramped(seed, sabotage);
    let mut full = 0;
    for step in 0..200 {
        for _ in 0..world.rng.below(8) {
            world.act_in_cramped_space();
        }
        let pump = world.rng.below(30);
        world.pump(pump);
        world.read();
        full += usize::from(!world.store.has_room(1, RoomFor::Clients));
        if step % 20 == 0 {
            world.store.try_again();
        }
        match world.rng.below(100) {
            0 => world.restart(true),
            1 => {
                world.comes_to_rest();
                world.restart(false);
            }
            _ => {}
        }
    }
    world.comes_to_rest();
    // Of an emptied store everything comes back, but for two copies of what says so.
    for log in world.logs.keys() {
        world.store.delete_log(*log);
    }
    world.pins.clear();
    world.states.clear();
    for _ in 0..2 {
        let mut ops = Vec::new();
        world.store.checkpoint(Vec::new(), &mut ops);
        world.disk.ask(&mut ops);
        world.logs.clear();
        world.comes_to_rest();
    }
    let area = world.store.chunks.end() - world.store.chunks.start();
    let copies = copies::bytes_of(&world.store.copies);
    let ahead = world.store.ahead.bytes();
    assert_eq!(world.store.chunks.free_bytes() + copies + ahead, area);
    assert_eq!(copies, 2 * Class::Small.bytes());
    full
}

#[test]
fn every_byte_has_one_owner_and_what_is_taken_is_finished() {
    let full = SEEDS.map(|seed| run_in_cramped_space(seed, Sabotage::default()));
    let full: usize = full.sum();
    assert!(full > 20, "full {full} times");
}

#[test]
fn chunks_that_are_reused_at_once_are_found() {
    let sabotage = Sabotage {
        reuse_at_once: true,
        ..Sabotage::default()
    };
    let found =
        |seed| std::panic::catch_unwind(move || run_in_cramped_space(seed, sabotage)).is_err();
    assert!({ SEEDS }.any(found));
}

#[test]
fn a_full_store_refuses_appends_and_recovers_by_deleting() {
    let mut world = World::new(99);
    world.config.tail_bytes_max = 0;
    let log = LogId(500);
    world.store.create_log(log, LogLabel::default(), Offset(0));
    let mut full = false;
    let mut base = 0;
    for _ in 0..5_000 {
        let bytes = batch(&mut world.rng, 30_000);
        world.give_state(log);
        match world.store.append(log, bytes, Offset(base), LeaderEpoch(0)) {
            Ok(_) => base += 1,
            Err(StoreFull) => full = true,
        }
        world.pump(30);
    }
    assert!(full, "the bound is never reached");
    world.give_state(log);
    world.store.delete_log(log);
    for _ in 0..5_000 {
        world.pump(30);
    }
    let other = LogId(501);
    world
        .store
        .create_log(other, LogLabel::default(), Offset(0));
    let bytes = batch(&mut world.rng, 30_000);
    assert!(
        world
            .store
            .append(other, bytes, Offset(0), LeaderEpoch(0))
            .is_ok()
    );
}
