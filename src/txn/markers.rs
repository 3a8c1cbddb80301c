//! The markers of transactions that are decided: each partition gets its own, and when all have theirs that is written
//! down. Partitions that cannot be written to now are tried again, for as long as it takes: what is decided is done.

use std::collections::BTreeSet;

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
        let retry_at = now.mono.plus_ms(self.config.retry_ms);
        let is_known = self.change(id, |entry| {
            let Some(entry) = entry else { return false };
            let Some(marking) = entry.marking.as_mut().filter(|it| it.round == round) else {
                return false;
            };
            for (partition, error) in results {
                if marking.sent.remove(&partition) && is_to_be_repeated(error) {
                    marking.again.insert(partition);
                    entry.not_before = retry_at;
                }
            }
            true
        });
        if is_known {
            self.go_on(now, id, out);
        }
    }

    /// Sends the markers of a transaction that still need it; when all partitions have theirs, writes that down.
    pub(super) fn mark(&mut self, now: Now, id: &Name, commits: bool, out: &mut Vec<TxnEffect>) {
        if self.is_unloading {
            return;
        }
        self.rounds += 1;
        let round = self.rounds;
        let sent = self.change(id, |entry| {
            let entry = entry.as_mut()?;
            let left = match entry.marking.take() {
                Some(marking) => marking.again,
                None => entry.facts.partitions.clone(),
            };
            let producer = TxnProducer {
                id: entry.facts.producer_id,
                epoch: entry.facts.epoch,
            };
            let partitions: Vec<TxnPartition> = left.iter().cloned().collect();
            entry.marking = Some(Marking {
                round,
                sent: left,
                again: BTreeSet::new(),
            });
            let facts = &entry.facts;
            let (decided_ms, version) = (facts.updated_ms, facts.version);
            let completed = facts.completed(commits, now.wall_ms);
            let markers = MarkersToSend {
                id: id.clone(),
                round,
                producer,
                commits,
                version,
                decided_ms,
                partitions,
            };
            Some((markers, completed))
        });
        let Some((markers, completed)) = sent else {
            return;
        };
        if markers.partitions.is_empty() {
            return self.write(id, Some(completed), TxnThen::Nothing, out);
        }
        out.push(TxnEffect::Markers(markers));
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
