//! What coordinators are asked about the producers of a log, and have said: see `verify`.

use std::collections::BTreeMap;

use crate::base::{ErrorCode, Offset};

/// What is asked about a producer, or was said.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verification {
    /// Grows with each question.
    pub(super) token: u64,
    pub(super) epoch: i16,
    pub(super) is_verified: bool,
    /// The partition becomes part of the transaction by that (transaction.version 2): it begins with sequence 0.
    pub(super) adds: bool,
}

/// Why a batch of a transaction may be appended, as of when it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionAdmission {
    /// The transaction was open, which began at this offset.
    Open(Offset),
    /// It was verified, by the question of this number.
    Verified(u64),
}

/// What is known of all of them. It is no part of the log's state.
#[derive(Debug, Default)]
pub(super) struct Verifications {
    pub(super) by_producer: BTreeMap<i64, Verification>,
    pub(super) tokens: u64,
    /// Those of an earlier leader.
    tokens_before: u64,
}

impl Verifications {
    /// A transaction of this producer goes on here in this epoch, or has ended. What is asked about a newer epoch is
    /// about another one.
    pub(super) fn forget(&mut self, producer_id: i64, epoch: i16) {
        let known = self.by_producer.get(&producer_id);
        if known.is_some_and(|known| known.epoch <= epoch) {
            self.by_producer.remove(&producer_id);
        }
    }

    /// What was said and asked so far does not count.
    pub(super) fn clear(&mut self) {
        self.by_producer.clear();
        self.tokens_before = self.tokens;
    }

    /// Why a question counts no more.
    pub(super) fn over(&self, token: u64) -> ErrorCode {
        match token <= self.tokens_before {
            true => ErrorCode::NotLeaderOrFollower,
            false => ErrorCode::InvalidTxnState,
        }
    }

    /// Whether the partition has become part of a producer's transaction by what was said.
    pub(super) fn adds(&self, producer_id: i64) -> bool {
        let known = self.by_producer.get(&producer_id);
        known.is_some_and(|known| known.adds)
    }

    /// Whether the transaction of a producer may begin here.
    pub(super) fn is_verified(&self, producer_id: i64, epoch: i16) -> bool {
        let known = self.by_producer.get(&producer_id);
        known.is_some_and(|known| known.is_verified && known.epoch == epoch)
    }
}
