//! What coordinators are asked about the producers of a log, and have said: see `verify`.

use std::collections::BTreeMap;

/// What is asked about a producer, or was said.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verification {
    /// Grows with each question.
    pub(super) token: u64,
    pub(super) epoch: i16,
    pub(super) is_verified: bool,
}

/// What is known of all of them. It is no part of the log's state.
#[derive(Debug, Default)]
pub(super) struct Verifications {
    pub(super) by_producer: BTreeMap<i64, Verification>,
    pub(super) tokens: u64,
}

impl Verifications {
    /// A transaction of this producer has begun here, or has ended.
    pub(super) fn forget(&mut self, producer_id: i64) {
        if !self.by_producer.is_empty() {
            self.by_producer.remove(&producer_id);
        }
    }

    /// What was said and asked so far does not count.
    pub(super) fn clear(&mut self) {
        self.by_producer.clear();
    }

    /// Whether the transaction of a producer may begin here.
    pub(super) fn is_verified(&self, producer_id: i64, epoch: i16) -> bool {
        let known = self.by_producer.get(&producer_id);
        known.is_some_and(|known| known.is_verified && known.epoch == epoch)
    }
}
