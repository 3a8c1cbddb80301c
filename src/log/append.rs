//! Appending one batch: what is refused, which offsets it gets, when a new
//! segment begins.

use bytes::{Bytes, BytesMut};

use crate::base::limits::{
    ABORTED_TRANSACTIONS_PER_SEGMENT, SEGMENT_BYTES_OF_MANY, SEGMENTS_BY_AGE_MAX,
};
use crate::base::{ErrorCode, Mono, Now, Refused};
use crate::record::{self, BatchInfo, EndMarker, TimestampType};
use crate::store::{RoomFor, Store};

use super::Log;
use super::message_size::check_message_size;
use super::outcome::Appended;
use super::producers::{ProducerBatch, Remembered};
use super::segment::{BatchEntry, NO_TIMESTAMP, SEGMENT_BYTES_MAX};
use super::steps::EndOfTransaction;

/// Who appends: clients are held to the topic's limits, the broker's own records are not.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Client,
    Internal,
}

impl Log {
    /// Appends a batch that passed [`record::validate_produced`]; `info` is what that returned.
    /// It is to be acknowledged when the durable end, or the high watermark, is past `last_offset`.
    ///
    /// # Errors
    /// MESSAGE_TOO_LARGE, RECORD_LIST_TOO_LARGE, INVALID_TIMESTAMP, OUT_OF_ORDER_SEQUENCE_NUMBER,
    /// INVALID_PRODUCER_EPOCH, INVALID_TXN_STATE as Kafka gives them. KAFKA_STORAGE_ERROR if the store is full, or a
    /// producer that is new would have to take the place of one that has just written: of the errors that clients retry
    /// (the Java client, librdkafka, sarama, kafka-python) it is the one that points at the disk, and unlike
    /// NOT_ENOUGH_REPLICAS it does not blame other nodes.
    pub fn append(
        &mut self,
        now: Now,
        batch: Bytes,
        info: &BatchInfo,
        store: &mut Store,
    ) -> Result<Appended, Refused> {
        let appended = self.append_as(Origin::Client, now, batch, info, store);
        appended.inspect_err(|refused| {
            let is_sent_again = [ErrorCode::KafkaStorageError, ErrorCode::NotLeaderOrFollower];
            if is_sent_again.contains(&refused.code) {
                self.turn_away(now, info);
            }
        })
    }

    /// Clients are sent here from now on, where what they send may have been refused a moment ago: one that is new here
    /// does not begin in the middle, unless he says so twice.
    pub fn leads_from(&mut self, now: Mono) {
        self.turned_away.is_unsure(now);
        self.verifications.clear();
    }

    /// A batch is not appended, and its producer told to send it again: one that is new here does not begin with what
    /// comes behind it.
    pub fn turn_away(&mut self, now: Now, info: &BatchInfo) {
        if let Some(batch) = ProducerBatch::of(info)
            && self.producers.is_new(&batch)
        {
            self.turned_away.note(now.mono, &batch);
        }
    }

    /// Whether a batch is in the log already, and comes once more.
    #[must_use]
    pub fn has(&self, info: &BatchInfo) -> bool {
        let batch = ProducerBatch::of(info);
        batch.is_some_and(|batch| matches!(self.producers.check(&batch), Ok(Some(_))))
    }

    /// Appends the end of a producer's transaction, whether one is open here or not. It is nothing that a full store
    /// or a setting could refuse.
    ///
    /// # Errors
    /// INVALID_PRODUCER_EPOCH, TRANSACTION_COORDINATOR_FENCED as Kafka gives them; KAFKA_STORAGE_ERROR if something is
    /// [lost](Self::lost_before) here.
    pub fn append_end(
        &mut self,
        now: Now,
        end: &EndOfTransaction,
        store: &mut Store,
    ) -> Result<Appended, Refused> {
        let producer = (end.producer_id, end.producer_epoch);
        let coordinator_epoch = end.coordinator_epoch;
        let checked = (self.producers).check_end(producer, coordinator_epoch, end.version);
        if let Err(refused) = checked {
            if refused.code == ErrorCode::InvalidProducerEpoch {
                // A newer epoch is known, and nothing of that transaction open; nor may anything begin in it, now that
                // it ends, when the newer epoch is forgotten.
                let epoch = (end.producer_epoch).saturating_sub(i16::from(end.version >= 2));
                self.verifications.forget(end.producer_id, epoch);
            }
            return Err(refused);
        }
        let marker = EndMarker {
            commits: end.commits,
            coordinator_epoch,
        };
        let batch = marker.batch(end.producer_id, end.producer_epoch, now.wall_ms);
        let info = record::parse(&batch).map_err(|_| bad_offsets())?;
        let appended = self.append_as(Origin::Internal, now, batch, &info, store)?;
        if end.version < 2 {
            // It has the epoch of its transaction: what is asked about that is over.
            (self.verifications).forget(end.producer_id, end.producer_epoch);
        }
        Ok(appended)
    }

    /// Whether it is committed that a producer is in the epoch that is known here: no other leader will know less.
    #[must_use]
    pub fn is_settled_with(&self, producer_id: i64) -> bool {
        let known = self.producers.get(producer_id);
        let is_committed = |offset| offset < self.high_watermark();
        // One that never stops to write has always something that is not; all its batches are of one epoch.
        known.is_none_or(|known| {
            is_committed(known.last_offset())
                || known
                    .batches()
                    .iter()
                    .any(|it| is_committed(it.last_offset()))
        })
    }

    /// Appends a batch of the broker's own: no limit on its size but the segment's, no bounds on
    /// its timestamps, which stay as they are; control batches are welcome.
    ///
    /// # Errors
    /// As [`append`](Self::append), without MESSAGE_TOO_LARGE and INVALID_TIMESTAMP. Nor does it ask whether
    /// there is room: the caller does where a full store is a reason to refuse.
    pub fn append_internal(
        &mut self,
        now: Now,
        batch: Bytes,
        info: &BatchInfo,
        store: &mut Store,
    ) -> Result<Appended, Refused> {
        self.append_as(Origin::Internal, now, batch, info, store)
    }

    /// Begins a new segment, unless the active one is still empty: what is appended from now on can
    /// stay when all that is there is dropped.
    pub fn roll(&mut self, now: Now, store: &mut Store) {
        if self.active().batches > 0 {
            self.roll_at_end(now, store);
        }
    }

    fn append_as(
        &mut self,
        origin: Origin,
        now: Now,
        batch: Bytes,
        info: &BatchInfo,
        store: &mut Store,
    ) -> Result<Appended, Refused> {
        debug_assert_eq!(batch.len(), info.len, "exactly one batch");
        if self.lost_before().is_some() {
            return Err(has_lost());
        }
        if origin == Origin::Client {
            check_message_size(info, self.config.max_message_bytes)?;
        }
        self.check_segment_size(info)?;
        let stamps_time =
            origin == Origin::Client && self.config.timestamp_type == TimestampType::LogAppendTime;
        let says_append_time =
            origin == Origin::Client && info.timestamp_type() == TimestampType::LogAppendTime;
        if says_append_time && (stamps_time || info.max_timestamp == NO_TIMESTAMP) {
            return Err(not_a_brokers_time());
        }
        if origin == Origin::Client && !stamps_time {
            self.check_timestamps(now, info)?;
        }
        let mut entry =
            BatchEntry::new(info, self.end, self.leader_epoch()).ok_or_else(bad_offsets)?;
        if info.is_control() {
            entry = entry.reading(&batch);
        }
        if let Some(producer) = &entry.producer {
            if let Some(original) = self.producers.check(producer)? {
                return Ok(self.duplicate_of(&original));
            }
            if !self.turned_away.is_empty() && self.producers.is_new(producer) {
                self.turned_away.check(now.mono, producer)?;
            }
            let recent = self.recent.from(now.mono, self.end);
            self.producers.check_room(producer, recent)?;
        }
        if info.producer_id >= 0 && !info.is_control() {
            (self.producers).check_epoch(info.producer_id, info.producer_epoch)?;
            self.check_transaction(info)?;
        }
        if origin == Origin::Client && !store.has_room(batch.len(), RoomFor::Clients) {
            return Err(store_full());
        }
        self.before_change(store);
        let mut batch = batch;
        if stamps_time {
            batch = with_log_append_time(&batch, now.wall_ms);
            entry.stamp(now.wall_ms);
            if let Some(step) = &mut entry.transaction {
                step.timestamp = now.wall_ms;
            }
        } else if says_append_time {
            // As in Kafka: its records are taken at their own times, which the bit had hidden.
            batch = with_create_time(&batch);
        }
        if self.must_roll(&entry, now) {
            self.roll_at_end(now, store);
        }
        let (base, epoch) = (entry.base_offset, entry.epoch);
        let flush = match origin {
            Origin::Client => store
                .append(self.id, batch, base, epoch)
                .map_err(|_| store_full())?,
            Origin::Internal => store.append_anyway(self.id, batch, base, epoch),
        };
        self.record_entry(&entry, now.wall_ms, flush);
        Ok(Appended {
            base_offset: entry.base_offset,
            last_offset: entry.last_offset,
            log_append_time: if stamps_time {
                now.wall_ms
            } else {
                NO_TIMESTAMP
            },
            flush: Some(flush),
        })
    }

    fn check_segment_size(&self, info: &BatchInfo) -> Result<(), Refused> {
        if info.len as u64 <= self.config.segment_bytes.min(SEGMENT_BYTES_MAX) {
            return Ok(());
        }
        let message = format!(
            "The record batch has {} bytes, a segment holds {}: send smaller batches or raise segment.bytes of the \
             topic.",
            info.len, self.config.segment_bytes
        );
        Err(Refused::because(ErrorCode::RecordListTooLarge, message))
    }

    /// Every record has to be in time: those with the smallest and the largest timestamp tell.
    fn check_timestamps(&self, now: Now, info: &BatchInfo) -> Result<(), Refused> {
        let (before, after) = (
            self.config.timestamp_before_max_ms,
            self.config.timestamp_after_max_ms,
        );
        for timestamp in [info.min_timestamp, info.max_timestamp] {
            let ahead = timestamp.saturating_sub(now.wall_ms);
            let outside = ahead > after || ahead < before.saturating_neg();
            if timestamp != NO_TIMESTAMP && outside {
                let message = format!(
                    "Timestamp {timestamp} is {ahead} ms ahead of the broker's clock, message.timestamp.before.max.ms \
                     is {before} and message.timestamp.after.max.ms is {after}: check the clock of the producer, or \
                     change the setting of the topic."
                );
                return Err(Refused::because(ErrorCode::InvalidTimestamp, message));
            }
        }
        Ok(())
    }

    /// Whether the batch goes to a new segment: the active one would get too long, has been open for too long, has too
    /// many aborted transactions, or its offsets would no longer fit 31 bits.
    pub(super) fn must_roll(&self, entry: &BatchEntry, now: Now) -> bool {
        let active = self.active();
        let open_ms = active.open_ms(now.wall_ms, entry.max_timestamp);
        active.batches > 0
            && (active.len + entry.len > self.config.segment_bytes
                || (open_ms > self.config.segment_ms && self.may_roll_by_age(open_ms))
                || self.must_roll_to_clean()
                || !active.fits(entry))
    }

    /// Compaction lets go of transactions that were aborted, but not of those in the active segment.
    fn must_roll_to_clean(&self) -> bool {
        let most = ABORTED_TRANSACTIONS_PER_SEGMENT;
        self.config.compaction.is_some()
            && self.transactions.aborted() > most
            && self.transactions.aborted_from(self.active().base) > most
    }

    /// A log of many segments gets no short ones any more, in bytes and in time: each costs memory, and a place in
    /// every checkpoint. How long one has been open is what clients say, so there is an end to those that are long
    /// open; segments that are full do not count there.
    fn may_roll_by_age(&self, open_ms: i64) -> bool {
        let retention_ms = self.config.retention_ms;
        // One that is full may lack as much as the batch that did not fit; half of the least is on the safe side.
        let full = self.size_bytes() / (SEGMENT_BYTES_OF_MANY / 2);
        let has_few_short = (self.segments.len() as u64) < full + 2 * SEGMENTS_BY_AGE_MAX as u64;
        let is_long_open = retention_ms >= 0 && open_ms > retention_ms / SEGMENTS_BY_AGE_MAX as i64;
        self.segments.len() < SEGMENTS_BY_AGE_MAX
            || self.active().len >= SEGMENT_BYTES_OF_MANY
            || (is_long_open && has_few_short)
    }

    fn duplicate_of(&self, original: &Remembered) -> Appended {
        let stamped = self.config.timestamp_type == TimestampType::LogAppendTime;
        Appended {
            base_offset: original.base_offset,
            last_offset: original.last_offset(),
            log_append_time: if stamped {
                original.timestamp
            } else {
                NO_TIMESTAMP
            },
            flush: None,
        }
    }
}

fn with_log_append_time(batch: &[u8], wall_ms: i64) -> Bytes {
    let mut stamped = BytesMut::from(batch);
    record::set_log_append_time(&mut stamped, wall_ms);
    stamped.freeze()
}

fn with_create_time(batch: &[u8]) -> Bytes {
    let mut cleared = BytesMut::from(batch);
    record::set_create_time(&mut cleared);
    cleared.freeze()
}

fn not_a_brokers_time() -> Refused {
    let message = "Producers must not set the timestamp type to LogAppendTime.";
    Refused::because(ErrorCode::InvalidTimestamp, message)
}

fn bad_offsets() -> Refused {
    let message = "The offsets of the record batch do not fit the log.";
    Refused::because(ErrorCode::InvalidRecord, message)
}

fn has_lost() -> Refused {
    let message =
        "Committed records of this partition are lost on this broker: it does not lead it.";
    Refused::because(ErrorCode::KafkaStorageError, message)
}

fn store_full() -> Refused {
    let message = "The broker's store is full; the records were not written. Raise millrace.store.bytes.max, \
         shorten the retention of topics or delete some; the producer may go on retrying meanwhile.";
    Refused::because(ErrorCode::KafkaStorageError, message)
}

#[cfg(test)]
mod tests;
