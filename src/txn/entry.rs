//! A transactional id as the coordinator keeps it: what is known of it, and what is on its way.

use std::collections::BTreeSet;

use super::state::{TxnFacts, TxnPartition, TxnUsage, bytes_of};
use crate::base::limits::{MARKERS_AGAIN_MS_MAX, MARKERS_TOGETHER_MAX};
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
    /// Which time that this transaction's markers are written: what comes of those before is nothing to it.
    pub round: u64,
    /// These are not sent yet,
    unsent: BTreeSet<TxnPartition>,
    /// nothing is known of these yet,
    sent: BTreeSet<TxnPartition>,
    /// and these are to be tried again when all others have been.
    again: BTreeSet<TxnPartition>,
    /// When they are.
    again_at: Mono,
    /// How long after the last refusal that is, ms.
    pause_ms: u64,
}

impl Marking {
    /// All of them are to be sent; those that are refused again after so long.
    pub fn of(round: u64, partitions: BTreeSet<TxnPartition>, pause_ms: u64) -> Self {
        Self {
            round,
            unsent: partitions,
            sent: BTreeSet::new(),
            again: BTreeSet::new(),
            again_at: Mono(0),
            pause_ms,
        }
    }

    /// When there is something to be done that waits for no answer.
    pub fn next(&self) -> Mono {
        let (sends, waits) = (!self.unsent.is_empty(), !self.sent.is_empty());
        match (sends, waits) {
            (true, _) if self.sent.len() <= MARKERS_TOGETHER_MAX / 2 => Mono(0),
            (false, false) if !self.again.is_empty() => self.again_at,
            (_, true) => Mono::NEVER,
            (_, false) => Mono(0),
        }
    }

    /// The next ones are sent.
    pub fn send(&mut self) -> Vec<TxnPartition> {
        if self.unsent.is_empty() && self.sent.is_empty() {
            self.unsent = std::mem::take(&mut self.again);
            self.pause_ms = (2 * self.pause_ms).min(MARKERS_AGAIN_MS_MAX);
        }
        let most = MARKERS_TOGETHER_MAX.saturating_sub(self.sent.len());
        let behind = self.unsent.iter().nth(most).cloned();
        let rest = behind.map(|first| self.unsent.split_off(&first));
        let next = std::mem::replace(&mut self.unsent, rest.unwrap_or_default());
        self.sent.extend(next.iter().cloned());
        next.into_iter().collect()
    }

    /// What has come of one that was sent.
    pub fn answered(&mut self, now: Mono, partition: TxnPartition, is_refused: bool) {
        if self.sent.remove(&partition) && is_refused {
            self.again.insert(partition);
            self.again_at = now.plus_ms(self.pause_ms);
        }
    }

    /// Whether all of them are written.
    pub fn is_done(&self) -> bool {
        self.unsent.is_empty() && self.sent.is_empty() && self.again.is_empty()
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
