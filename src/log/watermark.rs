//! The high watermark over a restart. What has been durable on all replicas that count must not be lost or replaced by
//! any of them, so each writes down how far it has known that, and what it recovers is that and not the durable end:
//! behind it another leader may have written something else.
//!
//! It is what the log remarks in the store (`store/remarks`): written with flushes that there are anyway, so a crash
//! may leave an older one, which is as true. A leader that has no other replica writes none: what is durable is
//! committed there.

use super::Log;
use super::codec::{Malformed, Reader, Writer};
use super::hints::Position;
use super::notes::Note;
use crate::base::Offset;
use crate::store::Store;

/// Of what is remarked.
const VERSION: u8 = 1;

impl Log {
    /// The high watermark is to be on the disk with the next flush of this log, or when the store has come to rest: for
    /// a log that other nodes have too, whenever it may have moved.
    pub fn write_watermark(&mut self, store: &mut Store) {
        // A place behind a cut that is not durable would not be there after a crash.
        if self.cut.is_some() || self.written == Some(self.high_watermark) {
            return;
        }
        self.written = Some(self.high_watermark);
        let mut out = Writer::default();
        out.byte(VERSION);
        write_position(&mut out, &self.high_watermark);
        store.remark(self.id, out.finish());
    }

    /// The leader of this log says that everything before this is committed, as far as it is here, durable or not. A
    /// leader itself knows no more than its high watermark: it lets in who has that much.
    pub fn is_committed(&mut self, to: Offset) {
        self.committed = self.committed.max(to.min(self.end));
    }

    /// Everything before it is known to be committed, whether it is on this disk or not.
    #[must_use]
    pub fn known_committed(&self) -> Offset {
        self.committed.max(self.high_watermark())
    }

    /// Everything before this was known to be committed, and some of it is not here: after a start the log ended before
    /// it. `None` if nothing is missing. Whoever has lost something must not count as in sync, and takes no appends and
    /// [no epoch](Self::begin_epoch) as a leader. However much comes behind it: that is so until it [is given
    /// up](Self::give_up_lost), or until the log is started over as another one.
    #[must_use]
    pub fn lost_before(&self) -> Option<Offset> {
        self.lost
    }

    /// What [was lost](Self::lost_before) is not looked for any more, on the disk too, or the next start would find it
    /// missing once more: the log is the beginning of its leader's, and is not in sync, so nobody counts on more. Or it
    /// is to lead all the same, by an unclean election, which has to be told to a person. Known to be committed is no
    /// more than the high watermark then. Returns what was lost.
    pub fn give_up_lost(&mut self, store: &mut Store) -> Option<Offset> {
        let lost = self.lost?;
        self.before_change(store);
        self.nothing_is_lost();
        // Before that is on the disk a crash would find it lost once more.
        self.cut = Some(store.note(self.id, Note::GivenUp(self.end).encode()));
        Some(lost)
    }

    /// The same in the bookkeeping.
    pub(super) fn nothing_is_lost(&mut self) {
        if self.lost.take().is_some() {
            self.committed = self.high_watermark();
        }
    }

    /// Everything before this was known to be committed when it was written down.
    fn was_committed(&mut self, to: Offset) {
        self.committed = self.committed.max(to.min(self.end));
        if to > self.end {
            self.lost = self.lost.max(Some(to));
        }
    }

    /// Recovery found a remark.
    pub(super) fn restore_remark(&mut self, mark: &[u8]) -> Result<(), Malformed> {
        let mut input = Reader::new(mark);
        if input.byte()? != VERSION {
            return Err(Malformed::VERSION);
        }
        let at = read_position(&mut input)?;
        input.end()?;
        self.was_committed(at.offset);
        // One in a segment that is gone says less than where the log starts. One behind the end says that something
        // is lost, but not where it is.
        if at.offset > self.high_watermark.offset && self.is_place(&at) {
            self.high_watermark = at;
            self.transactions.are_committed(at.offset);
        }
        Ok(())
    }

    /// In recovery all that there is is durable.
    pub(super) fn all_is_durable(&mut self) {
        let end = self.end_position();
        if self.high_watermark.offset >= end.offset {
            self.high_watermark = end;
        }
        self.committed = self.committed.max(self.high_watermark());
        self.pending.clear();
        self.places.clear();
        self.durable = end;
        if self.high_watermark.offset < end.offset {
            self.places.push_back(end);
        }
    }

    /// The watermark in a checkpoint, what is known to be committed, and what was and is lost.
    pub(super) fn write_committed(&self, out: &mut Writer) {
        let end = self.end_position();
        // A segment that has begun since is the same place.
        let mark = match self.high_watermark.offset == end.offset {
            true => &end,
            false => &self.high_watermark,
        };
        write_position(out, mark);
        out.signed(self.committed.0);
        out.byte(u8::from(self.lost.is_some()));
        if let Some(lost) = self.lost {
            out.signed(lost.0);
        }
    }

    /// What [`write_committed`](Self::write_committed) wrote; builds before wrote no more than one offset for both.
    pub(super) fn read_committed(
        &mut self,
        input: &mut Reader<'_>,
        says_lost: bool,
    ) -> Result<(), Malformed> {
        self.high_watermark = read_position(input)?;
        (self.committed, self.lost) = (self.high_watermark.offset, None);
        self.was_committed(input.offset()?);
        if says_lost {
            self.lost = match input.flag()? {
                true => Some(input.offset()?),
                false => None,
            };
        }
        match self.is_place(&self.high_watermark) {
            true => Ok(()),
            false => Err(Malformed("the high watermark is nowhere")),
        }
    }

    /// Builds before wrote none, and had one replica: what was durable was committed.
    pub(super) fn committed_all(&mut self) {
        self.high_watermark = self.end_position();
        (self.committed, self.lost) = (self.end, None);
    }
}

fn write_position(out: &mut Writer, at: &Position) {
    out.signed(at.offset.0);
    out.unsigned(at.segment.0);
    out.unsigned(at.pos);
}

fn read_position(input: &mut Reader<'_>) -> Result<Position, Malformed> {
    Ok(Position {
        offset: input.offset()?,
        segment: input.segment()?,
        pos: input.unsigned()?,
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::LogConfig;
    use super::super::clean_marks::CleanMarks;
    use super::super::recovery::LogRecoveryError;
    use super::super::testing::{Draft, Fixture, LOG, START_MS};
    use super::super::transactions::Transactions;
    use super::*;
    use crate::base::{BLOCK, LeaderEpoch, Now, SegmentId};
    use crate::store::ReplayItem;

    fn mark(offset: i64, segment: u64, pos: u64) -> Bytes {
        let mut out = Writer::default();
        out.byte(VERSION);
        let at = Position {
            offset: Offset(offset),
            segment: SegmentId(segment),
            pos,
        };
        write_position(&mut out, &at);
        out.finish()
    }

    /// A log with other replicas: it is told what is committed.
    struct Replica(Fixture);

    impl Replica {
        fn new() -> Self {
            let config = LogConfig {
                segment_bytes: 10_000,
                ..LogConfig::default()
            };
            Self(Fixture::new(config, 0))
        }

        /// Ten records more, durable.
        fn append(&mut self) {
            self.0.append(&Draft::plain(&[START_MS; 10], 100)).unwrap();
            self.settle();
        }

        fn settle(&mut self) {
            if let Some(flush) = self.0.disk.settle() {
                self.0.log.on_durable(flush);
            }
            self.0.log.check_live();
        }

        fn committed(&mut self, to: i64) {
            self.0.log.raise_high_watermark(Offset(to));
            self.0.log.write_watermark(&mut self.0.disk.store);
        }

        /// The watermark and the durable end after a crash.
        fn restart(&mut self) -> (i64, i64) {
            let config = *self.0.log.config();
            self.0.log = self.0.disk.restart(self.0.now).finish(config).unwrap();
            self.0.log.check_live();
            let log = &self.0.log;
            assert_eq!(log.lost_before(), None);
            (log.high_watermark().0, log.durable_end().0)
        }
    }

    #[test]
    fn what_comes_back_is_what_was_known_to_be_committed() {
        let mut it = Replica::new();
        (0..30).for_each(|_| it.append());
        it.committed(200);
        assert_eq!(it.restart(), (0, 300), "no flush has come since");
        it.committed(299);
        assert_eq!(it.0.log.high_watermark().0, 0, "where 299 is is not known");
        it.committed(300);
        (0..2).for_each(|_| it.append());
        assert_eq!(it.restart(), (300, 320));
        it.append();
        assert_eq!(it.0.read_bases(290, 1 << 20), [290], "no more is readable");
        it.committed(320);
        it.0.disk.store.prove();
        it.settle();
        assert_eq!(it.restart(), (320, 330), "it is said at rest too");
        it.0.log.raise_high_watermark(Offset(330));
        it.0.file();
        it.append();
        assert_eq!(it.restart(), (330, 340), "and in a checkpoint");
    }

    #[test]
    fn a_log_start_is_never_behind_it() {
        let mut it = Replica::new();
        (0..30).for_each(|_| it.append());
        it.0.log.raise_high_watermark(Offset(300));
        // The mark is not written down.
        it.0.delete_records(155).unwrap();
        it.settle();
        assert_eq!(it.restart(), (155, 300));
        assert_eq!(it.0.read_bases(155, 1 << 20), []);
        it.committed(300);
        assert_eq!(it.0.read_bases(155, 1 << 20)[0], 150);
    }

    #[test]
    fn a_cut_takes_it_back_and_nothing_behind_one_that_is_not_durable_is_written() {
        let mut it = Replica::new();
        (0..30).for_each(|_| it.append());
        it.committed(300);
        it.append();
        it.0.truncate(250).unwrap();
        assert_eq!(it.0.log.high_watermark().0, 250);
        it.committed(250);
        it.0.disk.store.prove();
        assert_eq!(it.restart(), (300, 310), "the cut was lost");
        it.0.truncate(250).unwrap();
        it.settle();
        assert_eq!(it.restart(), (250, 250));
        it.append();
        it.committed(260);
        it.append();
        assert_eq!(it.restart(), (260, 270));
        it.0.log
            .start_over(it.0.now, Offset(5000), &mut it.0.disk.store);
        it.settle();
        assert_eq!(it.restart(), (5000, 5000));
    }

    fn found(items: impl IntoIterator<Item = ReplayItem>) -> Result<Log, LogRecoveryError> {
        let mut recovery = Log::recovered(LOG, Now::default());
        items.into_iter().for_each(|item| recovery.replay(item));
        recovery.finish(LogConfig::default())
    }

    #[test]
    fn what_is_lost_is_known_until_it_is_back() {
        let mut it = Replica::new();
        (0..3).for_each(|_| it.append());
        it.committed(20);
        let state = it.0.log.state();
        let state = || ReplayItem::State(state.clone());
        let marked = |offset, segment, pos| ReplayItem::Remarked(mark(offset, segment, pos));
        let older = found([state(), marked(10, 0, 5)]).unwrap();
        assert_eq!((older.high_watermark().0, older.lost_before()), (20, None));
        for place in [marked(50, 0, 1 << 20), marked(50, 9, 0), marked(50, 0, 7)] {
            let log = found([state(), place]).unwrap();
            assert_eq!(log.high_watermark().0, 20);
            assert_eq!(log.lost_before(), Some(Offset(50)));
            let again = found([ReplayItem::State(log.state())]).unwrap();
            assert_eq!(again.lost_before(), Some(Offset(50)));
        }
        assert!(found([state(), ReplayItem::Remarked(Bytes::from_static(b"?"))]).is_err());
        // A remark that comes later says less.
        it.0.log = found([state(), marked(50, 9, 0), marked(30, 0, 0)]).unwrap();
        assert_eq!(it.0.log.lost_before(), Some(Offset(50)));
        assert_eq!(it.0.log.known_committed(), Offset(30));
        it.0.truncate(25).unwrap();
        assert_eq!(
            it.0.log.lost_before(),
            Some(Offset(50)),
            "it is no other log"
        );
        let lost = it.0.log.give_up_lost(&mut it.0.disk.store);
        assert_eq!((lost, it.0.log.lost_before()), (Some(Offset(50)), None));
        assert_eq!(it.0.log.known_committed(), it.0.log.high_watermark());
        it.0.log = found([state(), marked(50, 9, 0)]).unwrap();
        it.0.log
            .start_over(it.0.now, Offset(40), &mut it.0.disk.store);
        assert_eq!(it.0.log.lost_before(), None, "it is another one");
    }

    /// What was lost was told by where the log ends.
    #[test]
    fn a_state_of_builds_before_says_what_was_lost() {
        let mut it = Replica::new();
        (0..3).for_each(|_| it.append());
        it.committed(20);
        for (known, committed, lost) in [(25, 25, None), (50, 30, Some(Offset(50)))] {
            let mut state = it.0.log.state().to_vec();
            let mut marks = Writer::default();
            marks.signed(20);
            marks.byte(0);
            marks.signed(-1);
            CleanMarks::default().write(&mut marks);
            Transactions::default().write(&mut marks);
            state.truncate(state.len() - marks.finish().len());
            let mut old = Writer::default();
            old.signed(known);
            state.extend_from_slice(&old.finish());
            state[0] = 7;
            let log = found([ReplayItem::State(state.into())]).unwrap();
            assert_eq!(
                (log.known_committed().0, log.lost_before()),
                (committed, lost)
            );
        }
    }

    /// What they wrote was committed as soon as it was durable: there was no other replica.
    #[test]
    fn a_state_of_builds_before_has_none() {
        let mut it = Replica::new();
        (0..3).for_each(|_| it.append());
        it.committed(20);
        let mut marks = Writer::default();
        it.0.log.write_committed(&mut marks);
        marks.signed(-1);
        CleanMarks::default().write(&mut marks);
        Transactions::default().write(&mut marks);
        let mut state = it.0.log.state().to_vec();
        state.truncate(state.len() - marks.finish().len());
        state[0] = 6;
        let log = found([ReplayItem::State(state.into())]).unwrap();
        assert_eq!((log.high_watermark().0, log.lost_before()), (30, None));
    }

    #[test]
    fn a_state_of_builds_before_has_no_transactions() {
        let mut it = Replica::new();
        (0..3).for_each(|_| it.append());
        it.committed(20);
        let state = it.0.log.state();
        let (mut left, mut none) = (Writer::default(), Writer::default());
        left.signed(0);
        left.signed(0);
        Transactions::default().write(&mut none);
        let (left, none) = (left.finish(), none.finish());
        let old = state.slice(..state.len() - left.len() - none.len());
        // The next one has them, and not what compaction left.
        for (version, rest) in [(9, &b""[..]), (10, &none[..])] {
            let mut old = [&old[..], rest].concat();
            old[0] = version;
            let log = found([ReplayItem::State(old.into())]).unwrap();
            assert_eq!(
                (log.last_stable(), log.state()),
                (Offset(20), state.clone())
            );
        }
    }

    /// A flush of one small batch is a block of the journal with it and without.
    #[test]
    fn it_costs_some_bytes_of_a_flush_and_no_flush() {
        let journal = |replicated: bool| {
            let mut it = Replica::new();
            for n in 1..=100 {
                it.append();
                match replicated {
                    true => it.committed(10 * n),
                    false => drop(it.0.log.raise_high_watermark(Offset(10 * n))),
                }
            }
            it.0.disk.store.usage().journal_bytes_used
        };
        assert_eq!(journal(true), journal(false));
        // Kind, log and length of an entry, and the mark.
        let bytes = |offset, segment, pos| 10 + mark(offset, segment, pos).len();
        assert_eq!(bytes(1_000, 0, 100_000), 17);
        assert_eq!(bytes(1_000_000_000, 40, 900_000_000), 22);
    }

    /// What a follower hears of it comes behind the proof of its last flush.
    #[test]
    fn a_store_at_rest_comes_to_rest() {
        let journal = |it: &Replica| it.0.disk.store.usage().journal_bytes_used;
        let one_by_one = |replicated: bool| {
            let mut it = Replica::new();
            for n in 1..=50 {
                it.append();
                assert!(it.0.disk.store.lacks_proof());
                it.0.disk.store.prove();
                it.settle();
                if replicated {
                    it.committed(10 * n);
                }
                assert!(!it.0.disk.store.lacks_proof());
            }
            it
        };
        let mut it = one_by_one(true);
        assert_eq!(journal(&it), journal(&one_by_one(false)));
        // At rest it is one record, and then none.
        let before = journal(&it);
        assert!(it.0.disk.store.lacks_remarks());
        it.0.disk.store.prove();
        it.settle();
        it.committed(500);
        assert!(!it.0.disk.store.lacks_remarks());
        assert_eq!(journal(&it), before + BLOCK as u64);
        // Nor has a start anything to add, or who has a checkpoint.
        assert_eq!(it.restart(), (500, 500));
        it.committed(500);
        assert!(!it.0.disk.store.lacks_remarks());
        it.append();
        it.committed(510);
        it.0.file();
        assert!(!it.0.disk.store.lacks_remarks());
        assert_eq!(it.restart(), (510, 510));
    }

    #[test]
    fn the_newest_epoch_is_no_part_of_it() {
        let mut it = Replica::new();
        it.append();
        it.0.log.begin_epoch(LeaderEpoch(3), &mut it.0.disk.store);
        it.committed(10);
        it.settle();
        assert_eq!(it.restart(), (10, 10));
        assert_eq!(it.0.log.leader_epoch(), LeaderEpoch(3));
    }
}
