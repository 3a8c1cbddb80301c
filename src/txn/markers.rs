//! The markers of transactions that are decided: each partition gets its own, and when all have theirs that is written
//! down. Partitions that cannot be written to now are tried again, for as long as it takes: what is decided is done.
//!
//! Of a transaction only some are on their way at a time; others follow as these are answered. However many partitions
//! fail, the others of their transaction have their turn before those, which are tried less and less often.

use super::coordinator::TxnCoordinator;
use super::effect::{MarkersToSend, TxnEffect, TxnProducer};
use super::entry::{Marking, TxnThen};
use super::state::TxnPartition;
use crate::base::{ErrorCode, Name, Now};

impl TxnCoordinator {
    /// What has come of some markers of [`TxnEffect::Markers`]: for each partition no error when the marker is
    /// committed, or when there is no such partition any more.
    pub fn marked(
        &mut self,
        now: Now,
        (id, round): (&Name, u64),
        results: Vec<(TxnPartition, ErrorCode)>,
        out: &mut Vec<TxnEffect>,
    ) {
        let is_known = self.change(id, |entry| {
            let marking = entry.as_mut().and_then(|entry| entry.marking.as_mut());
            let Some(marking) = marking.filter(|it| it.round == round) else {
                return false;
            };
            for (partition, error) in results {
                marking.answered(now.mono, partition, is_to_be_repeated(error));
            }
            true
        });
        if is_known {
            self.go_on_soon(now, id, out);
        }
    }

    /// Sends the next markers of a transaction that still need it; when all partitions have theirs, writes that down.
    pub(super) fn mark(&mut self, now: Now, id: &Name, commits: bool, out: &mut Vec<TxnEffect>) {
        if self.is_unloading {
            return;
        }
        self.rounds += 1;
        let (new, pause_ms) = (self.rounds, self.config.retry_ms);
        let next = self.change(id, |entry| {
            let entry = entry.as_mut()?;
            let facts = &entry.facts;
            let marking = entry.marking.take();
            let mut marking =
                marking.unwrap_or_else(|| Marking::of(new, facts.partitions.clone(), pause_ms));
            let completed = marking
                .is_done()
                .then(|| facts.completed(commits, now.wall_ms));
            let (round, partitions) = (marking.round, marking.send());
            entry.marking = Some(marking);
            if let Some(completed) = completed {
                return Some(Err(completed));
            }
            Some(Ok(MarkersToSend {
                id: id.clone(),
                round,
                producer: TxnProducer {
                    id: facts.producer_id,
                    epoch: facts.epoch,
                },
                commits,
                version: facts.version,
                decided_ms: facts.updated_ms,
                partitions,
            }))
        });
        match next {
            None => {}
            Some(Err(completed)) => self.write(id, Some(completed), TxnThen::Nothing, out),
            Some(Ok(markers)) => out.push(TxnEffect::Markers(markers)),
        }
        self.go_on(now, id, out);
    }
}

/// Whether a marker is to be tried again that was answered with this.
const fn is_to_be_repeated(error: ErrorCode) -> bool {
    // A partition that can have no markers has no transactions either. One that knows a newer epoch has none open of
    // this one, and none begins there: somebody has written in that epoch, be he the producer or not.
    !matches!(
        error,
        ErrorCode::None | ErrorCode::UnsupportedForMessageFormat | ErrorCode::InvalidProducerEpoch
    )
}
