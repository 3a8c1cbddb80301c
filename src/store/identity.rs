//! Whose store a file is. The stores of a node belong together: metadata is in store-0, and what it says
//! of the logs of the others is true only of the others as they were left. So each store holds a block, twice,
//! that names the node's set of stores and counts its starts, and a start looks at all of them before
//! anything is written: what is missing, older than the rest or somebody else's is refused.
//!
//! A start is a round in three steps, each durable before the next: store-0 says that a round begins, every
//! other store takes its number, store-0 says that all have it. Nothing else is written to any store before
//! the last step. So stores that disagree are a cut-off round if store-0 says that one has begun, and
//! otherwise one of them is an older copy.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::api::{DiskError, DiskOp};
use super::layout::{IDENTITIES, SUPERBLOCKS};
use super::sealed;
use super::superblock::Superblock;
use crate::base::codec::{Put, Reader};
use crate::base::{BLOCK, StoreId};

const MAGIC: u64 = u64::from_le_bytes(*b"MILLNODE");
const VERSION: u32 = 1;

/// What a store says of itself and its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Which of the node's stores it is.
    pub store: StoreId,
    /// Random; the same in all stores of a node.
    pub set: u64,
    /// The node's id.
    pub node: i32,
    /// Counts the starts of the node.
    pub round: u64,
    /// In store-0: the next round has begun, and some stores may have its number.
    pub begins: bool,
    /// In store-0: how many stores the node has.
    pub stores: u16,
}

/// What was found where a store is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A device with nothing on it.
    Blank,
    /// A store that was made and never used.
    Unused,
    /// A store that was used.
    Known(Identity),
    /// No copy can be read; why.
    Damaged(String),
}

/// What a look into a store's file shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// What it says.
    pub found: Found,
    /// Which copy of that is damaged or older.
    pub worse: usize,
    /// For people, what is wrong with one copy if the other one is good.
    pub warnings: Vec<String>,
}

/// Why a node does not start with the stores it finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It was a store of the node, and is not there or blank.
    Missing(StoreId),
    /// Store-0 is not there, but this one, which was used.
    FirstMissing(StoreId),
    /// It and store-0 are of different sets.
    Stranger(StoreId),
    /// Another store of the node is in this one's place.
    Misplaced {
        /// Whose place.
        place: StoreId,
        /// What is there.
        is: StoreId,
    },
    /// It is a copy from so many starts ago.
    Older {
        /// The store.
        store: StoreId,
        /// How many starts of the node it has not seen.
        by: u64,
    },
    /// The setting and the node that the stores are of.
    Node {
        /// The setting `node.id`.
        set: i32,
        /// Who made the directory.
        made_by: i32,
    },
    /// It is no store of the node.
    Stray(StoreId),
    /// No copy of what it says of itself is whole.
    Damaged(StoreId, String),
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing(store) => write!(
                f,
                "store-{store} is missing or blank, and holds partitions of this node: put it back as it was \
                 when the broker stopped"
            ),
            Self::FirstMissing(other) => write!(
                f,
                "store-0 is missing or blank, but store-{other} is there: without store-0, which holds the \
                 metadata, the records of all others are lost. Put it back as it was when the broker stopped, or \
                 use an empty directory"
            ),
            Self::Stranger(store) => write!(
                f,
                "store-{store} and store-0 belong to different nodes or clusters: put back the one that was here"
            ),
            Self::Misplaced { place, is } => write!(
                f,
                "the file store-{place} is store-{is}: give each store its own name again"
            ),
            Self::Older { store, by } => write!(
                f,
                "store-{store} is an older copy: the broker has started {by} times since it was taken. Put back \
                 the newest one, or all stores from one moment at which the broker was stopped"
            ),
            Self::Node { set, made_by } => write!(
                f,
                "node.id is {set}, but these are the stores of node {made_by}: set node.id={made_by}, or use \
                 another directory"
            ),
            Self::Stray(store) => write!(
                f,
                "store-{store} is no store of this node: move it elsewhere"
            ),
            Self::Damaged(store, why) => {
                write!(f, "store-{store}: whose store it is cannot be read: {why}")
            }
        }
    }
}

/// The stores of a node, as a start finds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Members {
    /// `None` if nothing was ever used.
    set: Option<u64>,
    /// The last round that was completed.
    round: u64,
    /// How many stores there were.
    before: u16,
    /// How many there are from now on: those that do not exist or are blank are to be made first.
    pub stores: u16,
}

impl Identity {
    /// The operations that write it, to be performed one after the other: the worse copy first, as a torn write
    /// is to leave one.
    #[must_use]
    pub fn write(&self, worse: usize) -> Vec<DiskOp> {
        sealed::write_twice(&self.encode(), IDENTITIES, worse)
    }

    fn encode(&self) -> Bytes {
        let mut out = sealed::begin(MAGIC, VERSION);
        out.u16(self.store.0);
        out.u64(self.set);
        out.i32(self.node);
        out.u64(self.round);
        out.u8(u8::from(self.begins));
        out.u16(self.stores);
        sealed::seal(out)
    }

    /// `None` is a block that was never written.
    fn decode(block: &Bytes) -> Result<Option<Self>, &'static str> {
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let mut r = sealed::open(block, MAGIC, VERSION, "not what a store has there")?;
        let fields = |r: &mut Reader| {
            Some(Self {
                store: StoreId(r.u16()?),
                set: r.u64()?,
                node: r.i32()?,
                round: r.size()?,
                begins: r.u8()? != 0,
                stores: r.u16()?,
            })
        };
        fields(&mut r).map(Some).ok_or("short")
    }
}

/// Looks into a store's file, which is to be read in whole blocks.
pub fn look(id: StoreId, read: &mut dyn FnMut(u64, usize) -> Result<Bytes, DiskError>) -> Look {
    let mut newest: Option<(Identity, usize)> = None;
    let (mut problems, mut blank, mut worse) = (Vec::new(), 0, 0);
    for (n, pos) in IDENTITIES.into_iter().enumerate() {
        let found = read(pos, BLOCK)
            .map_err(|error| format!("errno {}", error.errno))
            .and_then(|block| Identity::decode(&block).map_err(str::to_string));
        match found {
            Ok(Some(identity)) => {
                let order = |i: &Identity| (i.round, i.begins);
                if newest.is_none_or(|(best, _)| order(&best) < order(&identity)) {
                    newest = Some((identity, n));
                }
            }
            Ok(None) => blank += 1,
            Err(problem) => {
                problems.push(format!("copy {n}: {problem}"));
                worse = n;
            }
        }
    }
    if let Some((identity, n)) = newest {
        return Look {
            found: Found::Known(identity),
            worse: 1 - n,
            warnings: problems,
        };
    }
    let damaged = |why: String| Look {
        found: Found::Damaged(why),
        worse,
        warnings: Vec::new(),
    };
    // One copy is written when the other one is durable: a start that was cut off before has used nothing.
    if blank == 0 {
        return damaged(problems.join("; "));
    }
    // A store that was made by an older version has none either, and is not to be taken for a new one.
    let mut why = String::new();
    for pos in SUPERBLOCKS {
        match read(pos, BLOCK).map(|block| Superblock::decode(&block)) {
            Ok(Ok(superblock)) if superblock.store == id => {
                return Look {
                    found: Found::Unused,
                    worse,
                    warnings: Vec::new(),
                };
            }
            Ok(Ok(superblock)) => why = format!("this is store-{}", superblock.store),
            Ok(Err(problem)) => why = format!("superblock: {problem}"),
            Err(error) => why = format!("superblock: errno {}", error.errno),
        }
    }
    damaged(why)
}

/// Whether a node may start with what was found, and which stores it has then.
///
/// # Errors
/// It may not: something of it would be lost.
pub fn judge(node: i32, shards: u16, found: &BTreeMap<StoreId, Found>) -> Result<Members, Refusal> {
    for (id, found) in found {
        match found {
            Found::Damaged(why) => return Err(Refusal::Damaged(*id, why.clone())),
            // Before anything else is said: this is the likeliest, and the easiest to mend.
            Found::Known(identity) if *id == StoreId(0) && identity.node != node => {
                let made_by = identity.node;
                return Err(Refusal::Node { set: node, made_by });
            }
            _ => {}
        }
    }
    let known = |id: StoreId| match found.get(&id) {
        Some(Found::Known(identity)) => Some(*identity),
        _ => None,
    };
    let first = known(StoreId(0));
    for (id, other) in found.keys().filter_map(|id| Some((*id, known(*id)?))) {
        let Some(first) = first else {
            return Err(Refusal::FirstMissing(id));
        };
        if other.set != first.set {
            return Err(Refusal::Stranger(id));
        }
        if other.store != id {
            let is = other.store;
            return Err(Refusal::Misplaced { place: id, is });
        }
        // Completed by store-0's word, or taken part in the round that has begun.
        let member = id.0 < first.stores || id.0 == 0;
        let is_current = member && other.round == first.round;
        if is_current || first.begins && other.round == first.round + 1 {
            continue;
        }
        return Err(match other.round.checked_sub(first.round) {
            None => Refusal::Older {
                store: id,
                by: first.round - other.round,
            },
            Some(0) => Refusal::Stray(id),
            Some(by) => Refusal::Older {
                store: StoreId(0),
                by,
            },
        });
    }
    let before = first.map_or(0, |first| first.stores);
    let missing = (0..before).map(StoreId).find(|id| known(*id).is_none());
    if let Some(store) = missing {
        return Err(Refusal::Missing(store));
    }
    // Stores are made in order, so that one that was made and not used has no gap before it.
    let mut stores = before.max(shards);
    while found.contains_key(&StoreId(stores)) {
        stores += 1;
    }
    if let Some(stray) = found.keys().find(|id| id.0 >= stores) {
        return Err(Refusal::Stray(*stray));
    }
    Ok(Members {
        set: first.map(|first| first.set),
        round: first.map_or(0, |first| first.round),
        before,
        stores,
    })
}

impl Members {
    /// What is to be written before the stores are used, once all of them exist, each durable before the next.
    /// `random` names the set if it has no name yet.
    #[must_use]
    pub fn round(&self, node: i32, random: u64) -> Vec<Identity> {
        let begun = Identity {
            store: StoreId(0),
            set: self.set.unwrap_or(random),
            node,
            round: self.round,
            begins: true,
            stores: self.before,
        };
        let done = Identity {
            round: self.round + 1,
            begins: false,
            stores: self.stores,
            ..begun
        };
        let others = (1..self.stores).map(|n| Identity {
            store: StoreId(n),
            ..done
        });
        std::iter::once(begun).chain(others).chain([done]).collect()
    }
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
