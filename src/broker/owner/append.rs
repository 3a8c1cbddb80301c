//! What is appended to the logs of a shard that this node leads: by clients, by coordinators, by the broker itself.

use bytes::Bytes;

use super::Owner;
use super::acks::{Ack, LogWaiter};
use crate::base::{ErrorCode, LeaderEpoch, LogId, Mono, Now, Offset, Refused};
use crate::broker::msg::{Appender, ProducePart, Produced};
use crate::replica::Mark;
use crate::store::RoomFor;

impl Owner {
    /// Appends a batch, which is to be answered when a mark is behind it; `ack` gets to know that it waits, or what has
    /// come of it. A coordinator's is the broker's own, but what a store keeps for the broker is not for it: as many
    /// come as clients like. Some of it is, where the batch ends what clients could begin.
    pub fn append(&mut self, now: Now, part: ProducePart, mark: Mark, ack: &mut Ack) {
        let ProducePart {
            slot: place,
            log,
            batch,
            info,
            admission,
            ends,
        } = part;
        let own = match ack.appender {
            Appender::Coordinator(req, epoch) => Some((req, epoch)),
            Appender::Client(_) => None,
        };
        let is_own = own.is_some();
        let is_full = match ends {
            true => !self.has_room(log, batch.len(), RoomFor::Ends),
            false => is_own && !self.has_room(log, batch.len(), RoomFor::Clients),
        };
        if is_full && self.partitions.contains_key(&log) {
            let full = ErrorCode::KafkaStorageError.into();
            return ack.results.push((place, Err(full)));
        }
        let may_wait = self.may_wait(log, mark);
        let Some(partition) = self.partitions.get_mut(&log) else {
            let missing = self.missing(log).into();
            return ack.results.push((place, Err(missing)));
        };
        let slot = &mut self.slots[partition.slot];
        let leader = partition.leader.as_ref();
        // Another one may have led since a coordinator has decided, and have written what that does not know.
        let leader = leader.filter(|it| own.is_none_or(|(_, epoch)| epoch == it.epoch()));
        let (Some(leader), log) = (leader, &mut partition.log) else {
            let elsewhere = ErrorCode::NotLeaderOrFollower.into();
            return ack.results.push((place, Err(elsewhere)));
        };
        log.limit_kept(self.kept.each());
        let has_room = may_wait.is_ok();
        let admitted = leader.admit(mark).and(may_wait);
        let admitted = admitted.and_then(|()| Ok(log.still_admits(&info, admission)?));
        // What is here already waits: refused, librdkafka may send it anew in another epoch, and nobody knows it then.
        let admitted = admitted.or_else(|refused| match log.has(&info) {
            true if has_room => Ok(()),
            true => Err(ErrorCode::RequestTimedOut.into()),
            false => Err(refused),
        });
        let admitted = admitted.inspect_err(|_| log.turn_away(now, &info));
        let (records, bytes) = (info.records.max(0) as u64, batch.len() as u64);
        let append = |()| match is_own {
            true => log.append_internal(now, batch, &info, &mut slot.store),
            false => log.append(now, batch, &info, &mut slot.store),
        };
        let appended = admitted.and_then(append);
        partition.count(&mut self.kept);
        let appended = match appended {
            Ok(appended) => appended,
            Err(refused) => return ack.results.push((place, Err(refused))),
        };
        if let Some(flush) = appended.flush {
            partition.changed(flush, slot, &mut self.kept);
            if !is_own {
                self.board.appended(records, bytes);
                partition.counts.produced(records, bytes);
            }
        }
        let produced = Produced {
            base_offset: appended.base_offset,
            log_append_time_ms: appended.log_append_time,
            log_start: partition.log.start_offset(),
        };
        let waiter = match own {
            Some((req, _)) => LogWaiter::Coordinator(req),
            None => LogWaiter::Produced {
                ack: ack.place,
                slot: place,
                produced,
            },
        };
        let end = appended.last_offset.plus(1);
        partition.has_moved(&mut self.roles);
        let until = match partition.leads_others() && mark == Mark::Committed {
            true => ack.until,
            false => Mono::NEVER,
        };
        let leader = partition.leader.as_mut();
        match leader.and_then(|it| it.wait(&partition.log, mark, (end, until), waiter)) {
            None => {
                match is_own {
                    true => self.acks.add_own(),
                    false => ack.waiting += 1,
                }
                let log = partition.log.id();
                self.may_be_late(now.mono, log, until);
            }
            Some(_) => ack.results.push((place, Ok(produced))),
        }
    }

    /// Appends a batch of the broker's own to one of its internal topics. Returns the offset behind it, for
    /// [`Owner::tell_when_committed`].
    pub fn append_internal(
        &mut self,
        now: Now,
        log: LogId,
        batch: Bytes,
    ) -> Result<Offset, Refused> {
        let info = crate::record::parse(&batch)
            .map_err(|error| Refused::because(ErrorCode::UnknownServerError, error.to_string()))?;
        let Some(partition) = self.partitions.get_mut(&log) else {
            return Err(self.missing(log).into());
        };
        if partition.leader.is_none() {
            return Err(ErrorCode::NotLeaderOrFollower.into());
        }
        let slot = &mut self.slots[partition.slot];
        let appended = partition
            .log
            .append_internal(now, batch, &info, &mut slot.store)?;
        if let Some(flush) = appended.flush {
            partition.changed(flush, slot, &mut self.kept);
        }
        partition.has_moved(&mut self.roles);
        Ok(appended.last_offset.plus(1))
    }

    /// Appends a batch to one of the broker's own logs with this leader epoch, if that is where the log ends.
    ///
    /// # Errors
    /// It ends elsewhere, or has batches of a later epoch; nothing is changed then.
    pub fn append_at(
        &mut self,
        now: Now,
        log: LogId,
        (offset, epoch): (Offset, LeaderEpoch),
        batch: Bytes,
    ) -> Result<(), String> {
        let Some(partition) = self.partitions.get_mut(&log) else {
            return Err(format!("log {log} is not there"));
        };
        let (end, newest) = (partition.log.end_offset(), partition.log.leader_epoch());
        if end != offset || newest > epoch {
            return Err(format!(
                "it ends at {end} in epoch {newest}, and what follows is of {offset} in epoch {epoch}"
            ));
        }
        let slot = &mut self.slots[partition.slot];
        if let Some(flush) = partition.log.begin_epoch(epoch, &mut slot.store) {
            partition.changed(flush, slot, &mut self.kept);
        }
        let appended = self.append_internal(now, log, batch);
        appended.map(drop).map_err(|refused| refused.to_string())
    }

    /// Where one of the broker's own logs begins and ends. One that is new begins at this offset.
    pub fn begin_at(&mut self, now: Now, log: LogId, offset: Offset) -> (Offset, Offset) {
        let span = |owner: &Self| {
            let open = owner.partitions.get(&log);
            open.map(|open| (open.log.start_offset(), open.log.end_offset()))
        };
        if span(self).is_some_and(|(_, end)| end == Offset(0)) {
            self.begin_anew(now, log, offset);
        }
        span(self).unwrap_or_default()
    }
}
