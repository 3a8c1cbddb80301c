//! Directories of stores as maps of blocks.

use super::*;
use crate::store::{Store, StoreConfig};

/// The first blocks of each store.
type Blocks = BTreeMap<u64, Bytes>;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Directory(BTreeMap<StoreId, Blocks>);

const NODE: i32 = 1;

fn apply(blocks: &mut Blocks, ops: Vec<DiskOp>) {
    for op in ops {
        if let DiskOp::Write { pos, data, .. } = op {
            blocks.insert(pos, data);
        }
    }
}

fn made(id: StoreId) -> Blocks {
    let (_, ops) = Store::format(id, StoreConfig::default(), 9);
    let mut blocks = Blocks::new();
    apply(&mut blocks, ops);
    blocks.retain(|pos, _| SUPERBLOCKS.contains(pos) || IDENTITIES.contains(pos));
    blocks
}

impl Directory {
    fn look(&self, id: StoreId) -> Look {
        let blocks = &self.0[&id];
        look(id, &mut |pos, _| {
            blocks.get(&pos).cloned().ok_or(DiskError { errno: 5 })
        })
    }

    fn found(&self) -> BTreeMap<StoreId, Found> {
        let look = |id: &StoreId| (*id, self.look(*id).found);
        self.0.keys().map(look).collect()
    }

    /// A start that is cut off after so many steps; true if it came to its end.
    fn cut_off(&mut self, shards: u16, mut steps: usize) -> Result<bool, Refusal> {
        let members = judge(NODE, shards, &self.found())?;
        let missing = (0..members.stores).map(StoreId);
        for id in missing
            .filter(|id| !self.found().contains_key(id))
            .collect::<Vec<_>>()
        {
            if steps == 0 {
                return Ok(false);
            }
            steps -= 1;
            self.0.insert(id, made(id));
        }
        for identity in members.round(NODE, 77) {
            let worse = self.look(identity.store).worse;
            let blocks = self.0.get_mut(&identity.store).expect("made");
            for op in identity.write(worse) {
                if let (0, DiskOp::Write { pos, data, .. }) = (steps, &op) {
                    // Torn: neither the old block nor the new one.
                    let mut torn = data.to_vec();
                    torn[30] ^= 0x55;
                    blocks.insert(*pos, torn.into());
                    return Ok(false);
                }
                if steps == 0 {
                    return Ok(false);
                }
                steps -= 1;
                apply(blocks, vec![op]);
            }
        }
        Ok(true)
    }

    fn start(&mut self, shards: u16) -> Result<(), Refusal> {
        self.cut_off(shards, usize::MAX).map(|whole| assert!(whole))
    }

    fn started(shards: u16, times: usize) -> Self {
        let mut directory = Self::default();
        for _ in 0..times {
            directory.start(shards).expect("a start");
        }
        directory
    }

    fn remove(&mut self, id: u16) {
        self.0.remove(&StoreId(id)).expect("a store");
    }

    fn put(&mut self, from: &Self, id: u16) {
        self.0.insert(StoreId(id), from.0[&StoreId(id)].clone());
    }

    fn refusal(&self, node: i32, shards: u16) -> Refusal {
        judge(node, shards, &self.found()).expect_err("refused")
    }
}

#[test]
fn what_is_missing_is_not_made_again() {
    for shards in [1, 3, 5] {
        let mut directory = Directory::started(3, 2);
        directory.remove(0);
        assert_eq!(
            directory.refusal(NODE, shards),
            Refusal::FirstMissing(StoreId(1))
        );
        directory.0.insert(StoreId(0), made(StoreId(0)));
        assert_eq!(
            directory.refusal(NODE, shards),
            Refusal::FirstMissing(StoreId(1))
        );
        for id in [1, 2] {
            let mut directory = Directory::started(3, 2);
            directory.remove(id);
            assert_eq!(
                directory.refusal(NODE, shards),
                Refusal::Missing(StoreId(id))
            );
            directory.0.insert(StoreId(id), made(StoreId(id)));
            assert_eq!(
                directory.refusal(NODE, shards),
                Refusal::Missing(StoreId(id))
            );
            let mut found = directory.found();
            found.insert(StoreId(id), Found::Blank);
            assert_eq!(
                judge(NODE, shards, &found),
                Err(Refusal::Missing(StoreId(id)))
            );
        }
    }
}

#[test]
fn an_older_copy_is_known_by_the_starts_it_has_not_seen() {
    let old = Directory::started(3, 2);
    for by in 1..4 {
        let mut new = old.clone();
        for _ in 0..by {
            new.start(3).expect("a start");
        }
        for id in 0..3 {
            let mut mixed = new.clone();
            mixed.put(&old, id);
            let store = StoreId(id);
            assert_eq!(mixed.refusal(NODE, 3), Refusal::Older { store, by });
            mixed.put(&new, id);
            mixed.start(3).expect("put right");
        }
    }
    // All of one moment belong together.
    old.clone().start(3).expect("a start");
}

#[test]
fn what_is_of_another_node_or_place_is_refused() {
    let mut directory = Directory::started(3, 2);
    let mut other = Directory::default();
    let members = judge(NODE, 4, &other.found()).expect("a first start");
    for id in (0..4).map(StoreId) {
        other.0.insert(id, made(id));
    }
    for identity in members.round(NODE, 78) {
        apply(
            other.0.get_mut(&identity.store).expect("made"),
            identity.write(0),
        );
    }
    let mine = directory.clone();
    for id in [1, 2, 3] {
        directory.put(&other, id);
        assert_eq!(directory.refusal(NODE, 3), Refusal::Stranger(StoreId(id)));
        directory = mine.clone();
    }
    directory.put(&other, 0);
    assert_eq!(directory.refusal(NODE, 3), Refusal::Stranger(StoreId(1)));
    directory = mine.clone();
    let second = directory.0[&StoreId(2)].clone();
    directory.0.insert(StoreId(1), second);
    let (place, is) = (StoreId(1), StoreId(2));
    assert_eq!(directory.refusal(NODE, 3), Refusal::Misplaced { place, is });
    let node = Refusal::Node { set: 2, made_by: 1 };
    assert_eq!(mine.refusal(2, 3), node);
    assert!(node.to_string().contains("set node.id=1"));
    // Never used, but with a gap before it.
    directory = mine.clone();
    directory.0.insert(StoreId(7), made(StoreId(7)));
    assert_eq!(directory.refusal(NODE, 3), Refusal::Stray(StoreId(7)));
    assert_eq!(directory.refusal(NODE, 6), Refusal::Stray(StoreId(7)));
    assert!(judge(NODE, 7, &directory.found()).is_ok());
}

#[test]
fn more_and_fewer_shards_keep_every_store() {
    let mut directory = Directory::started(2, 1);
    for (shards, stores) in [(4, 4), (1, 4), (3, 4), (5, 5)] {
        directory.start(shards).expect("a start");
        assert_eq!(directory.0.len(), stores);
    }
    directory.remove(4);
    assert_eq!(directory.refusal(NODE, 1), Refusal::Missing(StoreId(4)));
}

/// Wherever a start is cut off, once or twice, the next one goes on; what was used before is still guarded.
#[test]
fn a_start_that_was_cut_off_is_begun_again() {
    for before in [0, 1, 3] {
        let begun = Directory::started(2, before);
        for shards in [1, 2, 4] {
            for first in 0.. {
                let mut once = begun.clone();
                let whole = once.cut_off(shards, first).expect("a start");
                for second in 0..8 {
                    let mut twice = once.clone();
                    twice.cut_off(2, second).expect("a second start");
                    twice.start(1).expect("a third start");
                    twice.start(1).expect("a fourth start");
                    for id in 0..u16::from(before > 0) * 2 {
                        let mut without = once.clone();
                        without.remove(id);
                        without.start(shards).expect_err("a store is missing");
                        let mut mixed = twice.clone();
                        mixed.put(&begun, id);
                        mixed.start(shards).expect_err("a store is older");
                    }
                }
                if whole {
                    break;
                }
            }
        }
    }
}

#[test]
fn one_rotten_copy_costs_nothing_and_two_are_told() {
    let directory = Directory::started(2, 2);
    let store = StoreId(1);
    let mut bad = directory.clone();
    let blocks = bad.0.get_mut(&store).expect("a store");
    for (n, pos) in IDENTITIES.into_iter().enumerate() {
        let mut rotten = blocks[&pos].to_vec();
        rotten[20] ^= 1;
        blocks.insert(pos, rotten.into());
        let mut read = |pos, _| Ok(blocks[&pos].clone());
        let Look {
            found,
            warnings,
            worse,
        } = look(store, &mut read);
        if n == 0 {
            assert_eq!(Some(&found), directory.found().get(&store));
            assert!(warnings[0].contains("copy 0") && worse == 0, "{warnings:?}");
        } else {
            assert!(matches!(found, Found::Damaged(_)), "{found:?}");
        }
    }
    let refusal = bad.refusal(NODE, 2);
    assert!(
        matches!(refusal, Refusal::Damaged(StoreId(1), _)),
        "{refusal}"
    );
}

#[test]
fn every_flipped_bit_is_noticed_and_no_bytes_break_it() {
    let identity = Identity {
        store: StoreId(3),
        set: 5,
        node: -1,
        round: 9,
        begins: true,
        stores: 4,
    };
    let block = identity.encode();
    assert_eq!(Identity::decode(&block), Ok(Some(identity)));
    for bit in 0..BLOCK * 8 {
        let mut bad = block.to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(Identity::decode(&bad.into()).is_err(), "bit {bit}");
    }
    for len in 0..64 {
        assert!(Identity::decode(&block.slice(..len)).is_err() || len == 0);
    }
}

/// What has superblocks of another version, or of another store, is not taken for a new store.
#[test]
fn only_what_was_just_made_is_unused() {
    let mut blocks = made(StoreId(1));
    let look = |blocks: &Blocks, id| look(id, &mut |pos, _| Ok(blocks[&pos].clone())).found;
    assert_eq!(look(&blocks, StoreId(1)), Found::Unused);
    assert!(matches!(look(&blocks, StoreId(2)), Found::Damaged(_)));
    for pos in SUPERBLOCKS {
        assert_eq!(look(&blocks, StoreId(1)), Found::Unused);
        blocks.insert(pos, Bytes::from(vec![1; BLOCK]));
    }
    assert!(matches!(look(&blocks, StoreId(1)), Found::Damaged(_)));
}
