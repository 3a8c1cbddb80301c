//! A transactional id as the coordinator keeps it: what is known of it, and what is on its way.

use std::collections::BTreeSet;

use super::coordinator::TxnUsage;
use super::state::{TxnFacts, TxnPartition, bytes_of};
use crate::base::{Mono, Name};

/// Somebody who waits for an add, here and with whoever hosts the coordinator, in bytes.
pub(super) const ADD_BYTES: usize = 96;

/// A transactional id, and what is on its way for it.
#[derive(Debug)]
pub(super) struct TxnEntry {
    pub facts: TxnFacts,
    /// What an append makes of it: until that has ended nothing else is decided.
    pub pending: Option<u64>,
    pub pending_bytes: usize,
    /// Adds of its producer that are written when the one on its way has been.
    pub waiting: WaitingAdds,
    /// The markers that are still to be written, if the transaction is decided.
    pub marking: Option<Marking>,
    /// It was refused what it wanted: not before this again.
    pub not_before: Mono,
}

impl TxnEntry {
    pub fn new(facts: TxnFacts) -> Self {
        Self {
            facts,
            pending: None,
            pending_bytes: 0,
            waiting: WaitingAdds::default(),
            marking: None,
            not_before: Mono(0),
        }
    }

    /// Whether something is on its way for it, be it markers: whoever wants something else has to come again.
    pub fn is_busy(&self) -> bool {
        self.pending.is_some() || self.facts.state.decided().is_some()
    }

    /// What it takes, with this id.
    pub fn usage(&self, id: &Name) -> TxnUsage {
        TxnUsage {
            ids: 1,
            bytes: 2 * id.len() + self.memory(),
            markers: self.marking.as_ref().map_or(0, Marking::on_their_way),
        }
    }

    fn memory(&self) -> usize {
        let marking = self.marking.as_ref().map_or(0, Marking::memory);
        let waiting = self.waiting.memory();
        size_of::<Self>() + self.facts.memory() + self.pending_bytes + waiting + marking
    }
}

/// Adds that share the next write.
#[derive(Debug, Default)]
pub(super) struct WaitingAdds {
    pub tokens: Vec<u64>,
    /// What they want, and the write on its way does not bring.
    pub partitions: BTreeSet<TxnPartition>,
}

impl WaitingAdds {
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Whether somebody wants the partitions.
    pub fn is_whole(&self) -> bool {
        self.tokens.is_empty() == self.partitions.is_empty()
    }

    pub fn memory(&self) -> usize {
        self.tokens.len() * ADD_BYTES + bytes_of(&self.partitions)
    }
}

/// How far the markers of a transaction are.
#[derive(Debug)]
pub(super) struct Marking {
    pub round: u64,
    /// These are not sent yet,
    unsent: BTreeSet<TxnPartition>,
    /// nothing is known of these yet,
    sent: BTreeSet<TxnPartition>,
    /// and these are to be tried again when all others have been.
    again: BTreeSet<TxnPartition>,
}

impl Marking {
    /// All of them are to be sent.
    pub fn of(partitions: BTreeSet<TxnPartition>) -> Self {
        Self {
            round: 0,
            unsent: partitions,
            sent: BTreeSet::new(),
            again: BTreeSet::new(),
        }
    }

    /// The next ones are sent, at most so many, as this round of them.
    pub fn send(&mut self, round: u64, most: usize) -> Vec<TxnPartition> {
        self.round = round;
        if self.unsent.is_empty() {
            self.unsent = std::mem::take(&mut self.again);
        }
        let behind = self.unsent.iter().nth(most).cloned();
        let rest = behind.map(|first| self.unsent.split_off(&first));
        self.sent = std::mem::replace(&mut self.unsent, rest.unwrap_or_default());
        self.sent.iter().cloned().collect()
    }

    /// What has come of one that was sent: whether it is to be tried again, and all others have been tried.
    pub fn answered(&mut self, partition: TxnPartition, is_refused: bool) -> bool {
        let counts = self.sent.remove(&partition) && is_refused;
        if counts {
            self.again.insert(partition);
        }
        counts && self.unsent.is_empty()
    }

    /// Whether all of them are written.
    pub fn is_done(&self) -> bool {
        self.unsent.is_empty() && self.sent.is_empty() && self.again.is_empty()
    }

    /// How many are on their way.
    pub fn on_their_way(&self) -> usize {
        self.sent.len()
    }

    /// Whether partitions are still to answer.
    pub fn waits(&self) -> bool {
        !self.sent.is_empty()
    }

    pub fn memory(&self) -> usize {
        /// An entry of a tree, and of the list that is sent.
        const PARTITION_BYTES: usize = 96;
        (self.unsent.len() + self.sent.len() + self.again.len()) * PARTITION_BYTES
    }

    pub fn is_within(&self, partitions: &BTreeSet<TxnPartition>) -> bool {
        let all = [&self.unsent, &self.sent, &self.again];
        let together: BTreeSet<_> = all.into_iter().flatten().collect();
        let count = all.iter().map(|some| some.len()).sum::<usize>();
        together.len() == count && together.into_iter().all(|it| partitions.contains(it))
    }
}

/// What follows an append; who waits for it, if somebody does still.
#[derive(Debug)]
pub(super) enum TxnThen {
    /// A request that is told as whom its producer goes on.
    Producer(Option<u64>),
    /// Those who want partitions of it to be part of a transaction.
    Added(Vec<u64>),
    /// A transaction is aborted, because its producer takes too long or for a later one, which has to ask again.
    Fence(Option<u64>),
    /// The markers are written, or the id is forgotten: nobody waits for it.
    Nothing,
}

impl TxnThen {
    pub fn memory(&self) -> usize {
        match self {
            Self::Added(tokens) => tokens.len() * ADD_BYTES,
            Self::Producer(_) | Self::Fence(_) | Self::Nothing => 0,
        }
    }
}

/// An append on its way.
#[derive(Debug)]
pub(super) struct TxnWrite {
    pub id: Name,
    /// What it makes of the id; `None`: nothing is left.
    pub facts: Option<TxnFacts>,
    pub then: TxnThen,
    pub is_late: bool,
}
