//! Whose work at a shard's partitions goes on when: after others have had their turn, or when a read of a store's
//! file has ended. The work itself is kept by whoever began it.

use std::collections::VecDeque;

use crate::base::IdMap;
use crate::broker::fx::Fx;
use crate::broker::io::{Output, ReadId};
use crate::store::Piece;

/// Who keeps a piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worker {
    Fetch,
    Query,
    /// The start of the control shard, which reads the metadata.
    Metadata,
    /// The coordinators of groups, which load partitions.
    Offsets,
    /// Those of transactions.
    Transactions,
    /// Partitions that other nodes have too.
    Replicas,
    /// The one that compacts partitions.
    Cleaner,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Work {
    put_off: VecDeque<Worker>,
    reads_begun: u64,
    reads: IdMap<u64, Worker>,
}

impl Work {
    /// Somebody has put off the rest of a large piece of work.
    pub fn put_off(&mut self, whose: Worker) {
        self.put_off.push_back(whose);
    }

    /// Who goes on now; what was put off may have been given up since.
    pub fn next(&mut self) -> Option<Worker> {
        self.put_off.pop_front()
    }

    /// Whether somebody is to go on.
    pub fn has_more(&self) -> bool {
        !self.put_off.is_empty()
    }

    /// Begins to read from a store's file.
    pub fn read(&mut self, whose: Worker, pieces: Vec<Piece>, fx: &mut Fx<'_>) -> ReadId {
        self.reads_begun += 1;
        self.reads.insert(self.reads_begun, whose);
        let id = ReadId(self.reads_begun);
        fx.out.push(Output::Read { id, pieces });
        id
    }

    /// A read has ended: whose it was.
    pub fn read_ended(&mut self, id: ReadId) -> Option<Worker> {
        self.reads.remove(&id.0)
    }
}
