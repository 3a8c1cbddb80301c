//! The markers of transactions that are decided: each partition gets its own, and when all have theirs that is written
//! down. Partitions that cannot be written to now are tried again, for as long as it takes: what is decided is done.
//!
//! Of a transaction only some are on their way at a time, and of all of a shard no more than it has room for: others
//! wait. However many partitions fail, the others of their transaction have their turn.

use super::coordinator::TxnCoordinator;
use super::effect::{MarkersToSend, TxnEffect, TxnProducer};
use super::entry::{Marking, TxnThen};
use super::state::TxnPartition;
use crate::base::limits::MARKERS_TOGETHER_MAX;
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
        let retry_at = now.mono.plus_ms(self.config.retry_ms);
        let is_known = self.change(id, |entry| {
            let Some(entry) = entry else { return false };
            let Some(marking) = entry.marking.as_mut().filter(|it| it.round == round) else {
                return false;
            };
            for (partition, error) in results {
                if marking.answered(partition, is_to_be_repeated(error)) {
                    entry.not_before = retry_at;
                }
            }
            true
        });
        if is_known {
            self.go_on_soon(now, id, out);
        }
    }

    /// Sends the next markers of a transaction that still need it, as far as there is room for them; when all
    /// partitions have theirs, writes that down.
    pub(super) fn mark(&mut self, now: Now, id: &Name, commits: bool, out: &mut Vec<TxnEffect>) {
        if self.is_unloading {
            return;
        }
        self.rounds += 1;
        let (round, most) = (self.rounds, self.room.markers.min(MARKERS_TOGETHER_MAX));
        let next = self.change(id, |entry| {
            let entry = entry.as_mut()?;
            let facts = &entry.facts;
            let marking = entry.marking.take();
            let mut marking = marking.unwrap_or_else(|| Marking::of(facts.partitions.clone()));
            let completed = marking
                .is_done()
                .then(|| facts.completed(commits, now.wall_ms));
            let partitions = marking.send(round, most);
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
            Some(Ok(markers)) if markers.partitions.is_empty() => {
                self.not_before(id, now.mono.plus_ms(self.config.retry_ms));
            }
            Some(Ok(markers)) => {
                self.room.markers -= markers.partitions.len();
                out.push(TxnEffect::Markers(markers));
            }
        }
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
