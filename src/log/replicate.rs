//! Appending what another replica has stamped: a follower's side. The bytes are the leader's, offsets and epochs too,
//! and stay as they are, so that a log is the same on all its replicas, byte for byte.

use bytes::Bytes;

use super::Log;
use super::outcome::{Replicated, Unfit};
use super::segment::{BatchEntry, Segment};
use crate::base::{LeaderEpoch, Now, Offset, SegmentId};
use crate::record::{self, BatchError, BatchInfo};
use crate::store::{FlushSeq, RoomFor, Store};

impl Log {
    /// Appends batches as the leader of `epoch` has them, one behind the other and the last one whole, with the offsets
    /// and leader epochs that they carry. Offsets may be left out before each: compaction leaves gaps. What may be
    /// asked of a producer was asked by the leader; segments roll by this log's settings. All of them are appended, or
    /// none. The caller bounds how much it is: each byte is looked at once.
    ///
    /// # Errors
    /// See [`Unfit`]; nothing is changed then.
    pub fn append_replica(
        &mut self,
        now: Now,
        batches: &Bytes,
        epoch: LeaderEpoch,
        store: &mut Store,
    ) -> Result<Replicated, Unfit> {
        self.check_replica(batches, self.end, self.leader_epoch(), epoch)?;
        if !store.has_room(batches.len(), RoomFor::Broker) {
            return Err(Unfit::Full);
        }
        self.append_checked(now, batches, 0, store)
    }

    /// The leader has no batch from this log's end up to `to`, as compaction leaves it, and none will come there: this
    /// log ends at `to` then, in a new segment. Returns the flush that makes that durable; `None` if it does
    /// not end before that.
    pub fn leave_out(&mut self, now: Now, to: Offset, store: &mut Store) -> Option<FlushSeq> {
        if to <= self.end {
            return None;
        }
        match self.active().batches {
            0 => self.begin_farther(now, to, store),
            _ => {
                self.skip_to(to);
                let flush = self.roll_at_end(now, store);
                self.end_moved(flush);
            }
        }
        self.undurable()
    }

    /// Drops everything and begins anew with these batches, of which there is one: otherwise as
    /// [`append_replica`](Self::append_replica). `start` is where the log starts then: at the first batch, before it,
    /// or inside of it. A crash leaves what was there before, or a log that begins with that batch and starts there.
    ///
    /// # Errors
    /// See [`Unfit`]; nothing is changed then.
    pub fn begin_anew(
        &mut self,
        now: Now,
        start: Offset,
        batches: &Bytes,
        epoch: LeaderEpoch,
        store: &mut Store,
    ) -> Result<Replicated, Unfit> {
        let Some((info, entry)) = entry_at(batches, 0)? else {
            let (at, what) = (0, BatchError::Truncated);
            return Err(Unfit::Malformed { at, what });
        };
        let before = LeaderEpoch(0);
        self.check_replica(batches, entry.base_offset, before, epoch)?;
        if entry.next_offset() <= start {
            let (base, end) = (entry.base_offset, start);
            return Err(Unfit::Overlaps { base, end });
        }
        if !store.has_room(batches.len(), RoomFor::Broker) {
            return Err(Unfit::Full);
        }
        // Without a record for so long there is no offset that anybody could read.
        let is_far = !Segment::new(SegmentId::FIRST, start, 0, 0).fits(&entry);
        let base = match is_far {
            true => entry.base_offset,
            false => start.min(entry.base_offset),
        };
        self.start_over_with(now, (base, start), &entry, batches.slice(..info.len), store);
        self.append_checked(now, batches, info.len, store)
    }

    /// Appends what [fits](Self::check_replica), from a byte on.
    fn append_checked(
        &mut self,
        now: Now,
        batches: &Bytes,
        from: usize,
        store: &mut Store,
    ) -> Result<Replicated, Unfit> {
        self.before_change(store);
        let mut at = from;
        while let Some((info, entry)) = entry_at(batches, at)? {
            if self.active().batches == 0 && !self.active().fits(&entry) {
                self.begin_farther(now, entry.base_offset, store);
            }
            if self.must_roll(&entry, now) {
                self.skip_to(entry.base_offset);
                self.roll_at_end(now, store);
            }
            let batch = batches.slice(at..at + info.len);
            let appended = store.append_anyway(self.id, batch, entry.base_offset, entry.epoch);
            self.record_entry(&entry, now.wall_ms, appended);
            at += info.len;
        }
        let flush = match at {
            0 => None,
            _ => self.undurable(),
        };
        let end = self.end;
        Ok(Replicated { end, flush })
    }

    /// Whether all of it can be appended to a log that ends at `end`, in the epoch `newest`.
    fn check_replica(
        &self,
        batches: &[u8],
        mut end: Offset,
        mut newest: LeaderEpoch,
        epoch: LeaderEpoch,
    ) -> Result<(), Unfit> {
        let mut at = 0;
        while let Some((info, entry)) = entry_at(batches, at)? {
            let base = entry.base_offset;
            if !record::check_crc(&batches[at..at + info.len]) {
                return Err(Unfit::Corrupt { base });
            }
            if base < end {
                return Err(Unfit::Overlaps { base, end });
            }
            if entry.epoch < newest || entry.epoch > epoch {
                let at = entry.epoch;
                return Err(Unfit::Epoch { at, newest, epoch });
            }
            if !Segment::new(SegmentId::FIRST, base, 0, 0).fits(&entry) {
                return Err(Unfit::TooLarge { base });
            }
            at += info.len;
            (end, newest) = (entry.next_offset(), entry.epoch);
        }
        Ok(())
    }
}

/// The batch that begins at a byte; `None` at the end.
fn entry_at(batches: &[u8], at: usize) -> Result<Option<(BatchInfo, BatchEntry)>, Unfit> {
    let rest = batches.get(at..).unwrap_or_default();
    if rest.is_empty() {
        return Ok(None);
    }
    let info = record::parse(rest).map_err(|what| Unfit::Malformed { at, what })?;
    let (base, epoch) = (Offset(info.base_offset), LeaderEpoch(info.leader_epoch));
    let counts = || Unfit::Malformed {
        at,
        what: BatchError::Counts,
    };
    let entry = BatchEntry::new(&info, base, epoch).ok_or_else(counts)?;
    let entry = entry.reading(rest.get(..info.len).unwrap_or_default());
    Ok(Some((info, entry)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::LogConfig;
    use super::super::testing::{Draft, Fixture, START_MS};
    use super::*;

    /// A batch of so many records as a leader has it.
    fn batch(base: i64, records: usize, epoch: i32) -> Vec<u8> {
        let mut batch = Draft::plain(&vec![START_MS; records], 50)
            .build()
            .0
            .to_vec();
        record::stamp(&mut batch, Offset(base), LeaderEpoch(epoch));
        batch
    }

    fn append(f: &mut Fixture, batches: &[u8], epoch: i32) -> Result<i64, Unfit> {
        let (batches, epoch) = (Bytes::copy_from_slice(batches), LeaderEpoch(epoch));
        let store = &mut f.disk.store;
        let appended = f.log.append_replica(f.now, &batches, epoch, store);
        f.log.check_live();
        appended.map(|appended| {
            assert_eq!(appended.flush.is_some(), !batches.is_empty());
            appended.end.0
        })
    }

    fn fixture() -> Fixture {
        let config = LogConfig {
            segment_bytes: 1000,
            ..LogConfig::default()
        };
        Fixture::new(config, 0)
    }

    #[test]
    fn many_at_once_are_there_as_they_were() {
        let mut f = fixture();
        let piece = [
            batch(3, 2, 1),
            batch(5, 7, 1),
            batch(100, 4, 2),
            batch(104, 9, 2),
        ];
        assert_eq!(append(&mut f, &piece.concat(), 2), Ok(113));
        assert_eq!(append(&mut f, &[], 2), Ok(113));
        assert!(f.log.segment_count() > 1, "it rolls");
        f.settle();
        for restart in [false, true] {
            if restart {
                f.restart();
            }
            let mut read = Vec::new();
            for base in [3, 5, 100, 104] {
                read.extend(f.read(base, 1, true).unwrap());
            }
            assert_eq!(read, piece.concat());
            let epoch_at = |offset| f.log.epoch_at(Offset(offset)).0;
            assert_eq!((epoch_at(11), epoch_at(100)), (1, 2));
        }
    }

    /// An epoch has not written what the log leaves out before its first batch, also where an empty segment makes way.
    #[test]
    fn an_epoch_begins_with_its_first_batch() {
        let mut f = fixture();
        let far = 5 + super::super::segment::SEGMENT_DELTA_MAX;
        assert_eq!(append(&mut f, &batch(0, 5, 1), 1), Ok(5));
        f.log.roll(f.now, &mut f.disk.store);
        f.log.begin_epoch(LeaderEpoch(2), &mut f.disk.store);
        assert_eq!(append(&mut f, &batch(far, 3, 2), 2), Ok(far + 3));
        f.settle();
        for restart in [false, true] {
            if restart {
                f.restart();
            }
            let epoch_at = |offset| f.log.epoch_at(Offset(offset)).0;
            assert_eq!((epoch_at(far - 1), epoch_at(far)), (1, 2));
        }
    }

    #[test]
    fn producers_are_known_by_what_they_wrote() {
        let mut f = fixture();
        let mut draft = Draft::plain(&[START_MS; 3], 10);
        draft.producer = Some((7, 2, 40));
        let mut stamped = draft.build().0.to_vec();
        record::stamp(&mut stamped, Offset(12), LeaderEpoch(0));
        assert_eq!(append(&mut f, &stamped, 0), Ok(15));
        let again = f.append(&draft).unwrap();
        assert_eq!((again.base_offset, again.flush), (Offset(12), None));
    }

    #[test]
    fn what_does_not_go_on_where_the_log_ends_is_refused_as_a_whole() {
        let mut f = fixture();
        append(&mut f, &batch(0, 10, 3), 3).unwrap();
        let good = batch(10, 1, 3);
        let mut refused = |second: Vec<u8>, epoch| {
            let refused = append(&mut f, &[good.clone(), second].concat(), epoch).unwrap_err();
            assert_eq!(f.log.end_offset(), Offset(10));
            refused
        };
        let (base, end) = (Offset(10), Offset(11));
        assert_eq!(refused(batch(10, 1, 3), 3), Unfit::Overlaps { base, end });
        let of = |at, newest, epoch| Unfit::Epoch {
            at: LeaderEpoch(at),
            newest: LeaderEpoch(newest),
            epoch: LeaderEpoch(epoch),
        };
        assert_eq!(refused(batch(11, 1, 2), 3), of(2, 3, 3), "it goes back");
        assert_eq!(
            refused(batch(11, 1, 4), 3),
            of(4, 3, 3),
            "nobody has it yet"
        );
        let at = good.len();
        let what = BatchError::Truncated;
        let cut = batch(11, 1, 3)[..80].to_vec();
        assert_eq!(refused(cut, 3), Unfit::Malformed { at, what });
        let mut magic = batch(11, 1, 3);
        magic[16] = 1;
        let what = BatchError::OldMagic(1);
        assert_eq!(refused(magic, 3), Unfit::Malformed { at, what });
        let mut rotten = batch(11, 1, 3);
        rotten[90] ^= 1;
        assert_eq!(refused(rotten, 3), Unfit::Corrupt { base: end });
        let last = batch(i64::MAX, 1, 3);
        let what = BatchError::Counts;
        assert_eq!(refused(last, 3), Unfit::Malformed { at, what });
        let negative = batch(-7, 1, 3);
        assert_eq!(refused(negative, 3), Unfit::Malformed { at, what });
        assert_eq!(append(&mut f, &good, 3), Ok(11));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        /// Whatever a peer sends: it is refused, or the log is sound and has it.
        #[test]
        fn no_bytes_are_a_panic(
            places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut piece = [batch(0, 3, 1), batch(3, 1, 1), batch(9, 2, 2)].concat();
            // What is outside of the CRC is what gets through.
            let len = piece.len();
            for (n, (place, byte)) in places.into_iter().enumerate() {
                let at = if n % 2 == 0 { place.index(len) } else { place.index(17) };
                piece[at] = byte;
            }
            piece.truncate(len - cut.index(len) / 4);
            let mut f = fixture();
            if let Ok(end) = append(&mut f, &piece, 2) {
                f.settle();
                f.restart();
                prop_assert_eq!(f.log.end_offset(), Offset(end));
            }
        }
    }
}
