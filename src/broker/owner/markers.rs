//! The ends of transactions in the partitions of this shard.

use super::Owner;
use super::acks::{LogWaiter, MarkerWait};
use crate::base::limits::{MARKER_ROOM_BYTES, MARKER_WAITS_MS_MAX};
use crate::base::{ErrorCode, LogId, Mono, Now};
use crate::broker::msg::{MarkerAsker, MarkerPart};
use crate::log::{ActiveProducer, EndOfTransaction};
use crate::replica::Mark;
use crate::store::RoomFor;

impl Owner {
    /// Ends a transaction in a log; whoever asks is told when that is committed, or why it is not written. A
    /// coordinator asks again until it is, so nothing that lasts refuses it but what fences it, and a newer epoch of
    /// the producer that is committed: nothing of the transaction is open here then, nor will be.
    pub fn write_marker(&mut self, now: Now, asker: MarkerAsker, marker: MarkerPart) {
        if let Err(code) = self.append_marker(now, asker, marker) {
            self.acks.marked(asker, marker.slot, code);
        }
    }

    /// Who has written to a log that this node leads.
    pub fn active_producers(&self, log: LogId) -> Result<Vec<ActiveProducer>, ErrorCode> {
        let open = self.partitions.get(&log);
        match open.ok_or_else(|| self.missing(log))? {
            open if open.leader.is_some() => Ok(open.log.active_producers()),
            _ => Err(ErrorCode::NotLeaderOrFollower),
        }
    }

    fn append_marker(
        &mut self,
        now: Now,
        asker: MarkerAsker,
        marker: MarkerPart,
    ) -> Result<(), ErrorCode> {
        let MarkerPart { slot, log: id, .. } = marker;
        let is_of_client = matches!(asker, MarkerAsker::Client(_));
        let what = match is_of_client {
            true => RoomFor::Clients,
            false => RoomFor::Markers,
        };
        if self.partitions.contains_key(&id) && !self.has_room(id, MARKER_ROOM_BYTES, what) {
            return Err(ErrorCode::KafkaStorageError);
        }
        (self.may_wait(id, Mark::Committed)).map_err(|refused| refused.code)?;
        let missing = self.missing(id);
        let partition = self.partitions.get_mut(&id).ok_or(missing)?;
        let leader = partition.leader.as_ref();
        let leader = leader.ok_or(ErrorCode::NotLeaderOrFollower)?;
        (leader.admit(Mark::Committed)).map_err(|refused| refused.code)?;
        let at = &mut self.slots[partition.slot];
        let end = EndOfTransaction {
            producer_id: marker.producer_id,
            producer_epoch: marker.producer_epoch,
            coordinator_epoch: marker.coordinator_epoch,
            commits: marker.commits,
            version: marker.version,
        };
        let appended = partition.log.append_end(now, &end, &mut at.store);
        partition.count(&mut self.kept);
        let appended = appended.map_err(|refused| {
            let is_sure = is_of_client
                || refused.code != ErrorCode::InvalidProducerEpoch
                || partition.log.is_settled_with(marker.producer_id);
            match is_sure {
                true => refused.code,
                // What says so could be gone with this leader, and the transaction still be open for the next one.
                false => ErrorCode::NotEnoughReplicas,
            }
        })?;
        if let Some(flush) = appended.flush {
            partition.changed(flush, at, &mut self.kept);
        }
        partition.has_moved(&mut self.roles);
        let until = match partition.leads_others() {
            true => now.mono.plus_ms(MARKER_WAITS_MS_MAX),
            false => Mono::NEVER,
        };
        let end = appended.last_offset.plus(1);
        let asker = Some((asker, slot));
        let waiter = LogWaiter::Marker(MarkerWait { asker, marker });
        let leader = partition.leader.as_mut();
        // It has just been appended, so it waits for its flush at least.
        let back =
            leader.and_then(|it| it.wait(&partition.log, Mark::Committed, (end, until), waiter));
        match back {
            None => {
                self.acks.add_own();
                self.may_be_late(now.mono, id, until);
                Ok(())
            }
            Some(_) => Err(ErrorCode::NotLeaderOrFollower),
        }
    }
}
