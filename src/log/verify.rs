//! Who may begin a transaction here: those of whom its coordinator has said that the partition is part of it (KIP-890).
//! Otherwise a batch that comes late could begin one that nobody ends. A marker ends what was said before: what is
//! asked about a producer when its transaction ends says nothing about the next one.

use super::Log;
use super::verified::{TransactionAdmission, Verification};
use crate::base::limits::VERIFICATIONS_PER_LOG_MAX;
use crate::base::{ErrorCode, Refused};
use crate::record::BatchInfo;

impl Log {
    /// Whether the coordinator is to be asked before a batch is appended: it would begin a transaction here.
    #[must_use]
    pub fn needs_verification(&self, info: &BatchInfo) -> bool {
        let (id, epoch) = (info.producer_id, info.producer_epoch);
        info.is_transactional()
            && !info.is_control()
            && !self.has_open_transaction(id, epoch)
            && !self.verifications.is_verified(id, epoch)
            && !self.has(info)
    }

    /// Begins a question about the producer of such a batch, or goes on with one that is under way: its number, and
    /// whether it is new and is to be asked. With `adds` the partition becomes part of the transaction by it.
    ///
    /// # Errors
    /// INVALID_PRODUCER_EPOCH if a newer one is known or asked about; KAFKA_STORAGE_ERROR if too many are.
    pub fn begin_verification(
        &mut self,
        info: &BatchInfo,
        adds: bool,
    ) -> Result<(u64, bool), Refused> {
        let (id, epoch) = (info.producer_id, info.producer_epoch);
        self.producers.check_epoch(id, epoch)?;
        let all = &mut self.verifications;
        match all.by_producer.get(&id) {
            Some(known) if known.epoch == epoch && !known.is_verified => {
                return Ok((known.token, false));
            }
            Some(known) if known.epoch > epoch => {
                return Err(ErrorCode::InvalidProducerEpoch.into());
            }
            None if all.by_producer.len() >= VERIFICATIONS_PER_LOG_MAX => {
                let message = "Too many transactions are about to begin in the partition.";
                return Err(Refused::because(ErrorCode::KafkaStorageError, message));
            }
            Some(_) | None => {}
        }
        all.tokens += 1;
        let asked = Verification {
            token: all.tokens,
            epoch,
            is_verified: false,
            adds,
        };
        all.by_producer.insert(id, asked);
        Ok((all.tokens, true))
    }

    /// The coordinator has answered a question, or none is waited for any more: whether it still counts.
    ///
    /// # Errors
    /// NOT_LEADER_OR_FOLLOWER if another one may have led since it was asked; INVALID_TXN_STATE if the transaction has
    /// ended.
    pub fn end_verification(
        &mut self,
        producer_id: i64,
        token: u64,
        is_part: bool,
    ) -> Result<(), ErrorCode> {
        let all = &mut self.verifications.by_producer;
        let known = all.get_mut(&producer_id);
        let Some(known) = known.filter(|known| known.token == token) else {
            return Err(self.verifications.over(token));
        };
        known.is_verified = is_part;
        if !is_part {
            all.remove(&producer_id);
        }
        Ok(())
    }

    /// By what a batch may be appended that may be without a question.
    #[must_use]
    pub fn admission(&self, info: &BatchInfo) -> Option<TransactionAdmission> {
        let known = self.producers.get(info.producer_id);
        let first = known.and_then(|it| it.transaction)?.offset;
        info.is_transactional()
            .then_some(TransactionAdmission::Open(first))
    }

    /// Whether that is still so, after a wait: its transaction may have ended, and the producer's next one begun.
    ///
    /// # Errors
    /// As of [`end_verification`](Self::end_verification), as [`why_over`](Self::why_over) has them.
    pub fn still_admits(
        &self,
        info: &BatchInfo,
        by: Option<TransactionAdmission>,
    ) -> Result<(), ErrorCode> {
        let admits = self.admits(info, by);
        admits.map_err(|found| self.why_over(info, found))
    }

    fn admits(&self, info: &BatchInfo, by: Option<TransactionAdmission>) -> Result<(), ErrorCode> {
        let known = self.producers.get(info.producer_id);
        let open = known
            .and_then(|it| it.transaction)
            .map(|first| first.offset);
        match (by, open) {
            (Some(TransactionAdmission::Open(first)), open) if open != Some(first) => {
                Err(ErrorCode::InvalidTxnState)
            }
            (Some(TransactionAdmission::Verified(token)), None) => {
                let known = self.verifications.by_producer.get(&info.producer_id);
                match known {
                    Some(known) if known.token == token => Ok(()),
                    _ => Err(self.verifications.over(token)),
                }
            }
            _ => Ok(()),
        }
    }

    /// What is told of a batch whose transaction has ended while it waited, where this was found: that its producer's
    /// epoch is over, if it is. An end of version 2 has a newer one, and so has that of who was fenced; producers know
    /// then what to do, as in Kafka, which looks at the epoch first.
    #[must_use]
    pub fn why_over(&self, info: &BatchInfo, found: ErrorCode) -> ErrorCode {
        let known = self.producers.get(info.producer_id);
        let is_newer = known.is_some_and(|it| it.epoch > info.producer_epoch);
        match found {
            ErrorCode::InvalidTxnState if is_newer => ErrorCode::InvalidProducerEpoch,
            found => found,
        }
    }

    /// Whether a batch may be appended as far as transactions are concerned.
    ///
    /// # Errors
    /// INVALID_TXN_STATE if it would begin one and is not [verified](Self::needs_verification), or is of none while its
    /// producer has one open; OUT_OF_ORDER_SEQUENCE_NUMBER if it is of version 2 and something is missing before it;
    /// KAFKA_STORAGE_ERROR if one more cannot begin here.
    pub(super) fn check_transaction(&self, info: &BatchInfo) -> Result<(), Refused> {
        let (id, epoch) = (info.producer_id, info.producer_epoch);
        if !info.is_transactional() {
            let is_open = self
                .producers
                .get(id)
                .is_some_and(|it| it.transaction.is_some());
            let message =
                "The producer has a transaction open in the partition, and this batch is of none.";
            return match is_open {
                true => Err(Refused::because(ErrorCode::InvalidTxnState, message)),
                false => Ok(()),
            };
        }
        if self.has_open_transaction(id, epoch) {
            return Ok(());
        }
        if !self.verifications.is_verified(id, epoch) {
            let message = "The partition is not part of the producer's transaction.";
            return Err(Refused::because(ErrorCode::InvalidTxnState, message));
        }
        if self.verifications.adds(id) && self.producers.is_silent(id) && info.base_sequence > 0 {
            let message = "A transaction of version 2 begins with sequence 0 where nothing is known of its producer.";
            return Err(Refused::because(
                ErrorCode::OutOfOrderSequenceNumber,
                message,
            ));
        }
        match self.producers.get(id).and_then(|it| it.transaction) {
            // It goes on in a newer epoch.
            Some(_) => Ok(()),
            None => self.check_transactions(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Offset;
    use crate::log::testing::{Draft, Fixture, START_MS};
    use crate::log::{EndOfTransaction, LogConfig};

    fn draft(epoch: i16, sequence: i32) -> Draft {
        let mut draft = Draft::plain(&[START_MS], 10);
        draft.producer = Some((7, epoch, sequence));
        draft.transactional = true;
        draft
    }

    fn end(f: &mut Fixture, epoch: i16, commits: bool) -> Result<i64, ErrorCode> {
        let end = EndOfTransaction {
            producer_id: 7,
            producer_epoch: epoch,
            coordinator_epoch: 0,
            commits,
            version: 0,
        };
        let ended = f.log.append_end(f.now, &end, &mut f.disk.store);
        ended
            .map(|it| it.base_offset.0)
            .map_err(|refused| refused.code)
    }

    fn append(f: &mut Fixture, draft: &Draft) -> Result<i64, ErrorCode> {
        let appended = f.append(draft);
        appended
            .map(|it| it.base_offset.0)
            .map_err(|refused| refused.code)
    }

    #[test]
    fn nobody_begins_a_transaction_of_whom_nobody_has_said_that_he_may() {
        let mut f = Fixture::new(LogConfig::default(), 0);
        let (first, (_, info)) = (draft(0, 0), draft(0, 0).build());
        assert_eq!(append(&mut f, &first), Err(ErrorCode::InvalidTxnState));
        assert!(f.log.needs_verification(&info));
        let (token, is_new) = f.log.begin_verification(&info, false).unwrap();
        assert_eq!(
            (is_new, f.log.begin_verification(&info, false)),
            (true, Ok((token, false)))
        );
        assert_eq!(append(&mut f, &first), Err(ErrorCode::InvalidTxnState));
        assert!(f.log.end_verification(7, token + 1, true).is_err());
        assert_eq!(f.log.end_verification(7, token, true), Ok(()));
        assert_eq!(append(&mut f, &first), Ok(0));
        assert_eq!(append(&mut f, &first), Ok(0), "a retry");
        assert_eq!(append(&mut f, &draft(0, 1)), Ok(1), "it goes on");
        let mut plain = Draft::plain(&[START_MS], 10);
        plain.producer = Some((7, 0, 2));
        assert_eq!(append(&mut f, &plain), Err(ErrorCode::InvalidTxnState));
        f.settle();
        assert_eq!(
            (f.log.high_watermark(), f.log.last_stable()),
            (Offset(2), Offset(0))
        );
        assert_eq!(end(&mut f, 0, true), Ok(2));
        assert_eq!(
            f.log.last_stable(),
            Offset(0),
            "its end is not committed yet"
        );
        f.settle();
        assert_eq!(f.log.last_stable(), Offset(3));
        assert_eq!(
            append(&mut f, &draft(0, 2)),
            Err(ErrorCode::InvalidTxnState)
        );
        assert_eq!(append(&mut f, &plain), Ok(3));
    }

    #[test]
    fn what_was_asked_before_the_end_says_nothing_behind_it() {
        let mut f = Fixture::new(LogConfig::default(), 0);
        let (_, info) = draft(0, 0).build();
        let (token, _) = f.log.begin_verification(&info, false).unwrap();
        assert_eq!(end(&mut f, 0, false), Ok(0));
        assert!(f.log.end_verification(7, token, true).is_err());
        assert_eq!(
            append(&mut f, &draft(0, 0)),
            Err(ErrorCode::InvalidTxnState)
        );
        let (again, is_new) = f.log.begin_verification(&info, false).unwrap();
        assert!(is_new && again > token);
        // A newer epoch takes its place.
        let (_, newer) = draft(1, 0).build();
        let (token, _) = f.log.begin_verification(&newer, false).unwrap();
        assert!(f.log.end_verification(7, again, true).is_err());
        assert!(f.log.begin_verification(&info, false).is_err());
        assert_eq!(f.log.end_verification(7, token, false), Ok(()));
        assert_eq!(
            append(&mut f, &draft(1, 0)),
            Err(ErrorCode::InvalidTxnState)
        );
    }

    /// In version 2 the end of a transaction has the epoch of the next one (KIP-890), and that may begin first.
    #[test]
    fn what_was_asked_about_the_next_transaction_holds_behind_the_end_of_the_one_before() {
        let mut f = Fixture::new(LogConfig::default(), 0);
        f.verified(7, 0);
        assert_eq!(append(&mut f, &draft(0, 0)), Ok(0));
        let (_, next) = draft(1, 0).build();
        let (token, _) = f.log.begin_verification(&next, true).unwrap();
        let end = EndOfTransaction {
            producer_id: 7,
            producer_epoch: 1,
            coordinator_epoch: 0,
            commits: true,
            version: 2,
        };
        f.log.append_end(f.now, &end, &mut f.disk.store).unwrap();
        assert_eq!(f.log.end_verification(7, token, true), Ok(()));
        assert_eq!(append(&mut f, &draft(1, 0)), Ok(2));
    }

    #[test]
    fn what_waited_while_its_transaction_ended_is_of_none() {
        let mut f = Fixture::new(LogConfig::default(), 0);
        let (_, first) = draft(0, 0).build();
        let (token, _) = f.log.begin_verification(&first, false).unwrap();
        let verified = Some(TransactionAdmission::Verified(token));
        assert_eq!(f.log.end_verification(7, token, true), Ok(()));
        assert_eq!(f.log.still_admits(&first, verified), Ok(()));
        assert_eq!(append(&mut f, &draft(0, 0)), Ok(0));
        let (_, second) = draft(0, 1).build();
        let open = f.log.admission(&second);
        assert_eq!(open, Some(TransactionAdmission::Open(Offset(0))));
        for by in [open, verified] {
            assert_eq!(f.log.still_admits(&second, by), Ok(()));
        }
        assert_eq!(end(&mut f, 0, false), Ok(1));
        let over = Err(ErrorCode::InvalidTxnState);
        for next_begins in [false, true] {
            if next_begins {
                f.verified(7, 0);
            }
            for by in [open, verified] {
                assert_eq!(f.log.still_admits(&second, by), over, "{by:?}");
            }
        }
        assert_eq!(append(&mut f, &draft(0, 1)), Ok(2), "as the next one's");
        assert_eq!(f.log.still_admits(&second, open), over);
        // Of what was asked by an earlier leader nobody knows.
        let (token, _) = f
            .log
            .begin_verification(&draft(1, 0).build().1, false)
            .unwrap();
        f.log.leads_from(f.now.mono);
        let unsure = Err(ErrorCode::NotLeaderOrFollower);
        assert_eq!(f.log.end_verification(7, token, true), unsure);
    }

    /// A transaction that takes too long is aborted in the producer's next epoch (KIP-890), and Streams goes on after
    /// INVALID_PRODUCER_EPOCH, but ends after INVALID_TXN_STATE.
    #[test]
    fn who_waited_while_a_newer_epoch_ended_its_transaction_is_told_of_the_epoch() {
        let mut f = Fixture::new(LogConfig::default(), 0);
        f.verified(7, 0);
        assert_eq!(append(&mut f, &draft(0, 0)), Ok(0));
        let (_, second) = draft(0, 1).build();
        let open = f.log.admission(&second);
        let abort = EndOfTransaction {
            producer_id: 7,
            producer_epoch: 1,
            coordinator_epoch: 0,
            commits: false,
            version: 2,
        };
        f.log.append_end(f.now, &abort, &mut f.disk.store).unwrap();
        let over = ErrorCode::InvalidProducerEpoch;
        assert_eq!(f.log.still_admits(&second, open), Err(over));
        assert_eq!(f.log.why_over(&second, ErrorCode::InvalidTxnState), over);
        let moved = ErrorCode::NotLeaderOrFollower;
        assert_eq!(f.log.why_over(&second, moved), moved);
        let (_, next) = draft(1, 0).build();
        let ended = ErrorCode::InvalidTxnState;
        assert_eq!(f.log.why_over(&next, ended), ended, "of the same epoch");
    }

    #[test]
    fn in_version_2_what_begins_where_nothing_is_known_begins_with_the_first_sequence() {
        let mut f = Fixture::new(LogConfig::default(), 0);
        let (_, info) = draft(0, 3).build();
        for (adds, want) in [
            (true, Err(ErrorCode::OutOfOrderSequenceNumber)),
            (false, Ok(0)),
        ] {
            let (token, _) = f.log.begin_verification(&info, adds).unwrap();
            assert_eq!(f.log.end_verification(7, token, true), Ok(()));
            assert_eq!(append(&mut f, &draft(0, 3)), want);
        }
        assert_eq!(end(&mut f, 1, true), Ok(1));
        let (_, next) = draft(1, 0).build();
        let (token, _) = f.log.begin_verification(&next, true).unwrap();
        assert_eq!(f.log.end_verification(7, token, true), Ok(()));
        let out_of_order = Err(ErrorCode::OutOfOrderSequenceNumber);
        assert_eq!(append(&mut f, &draft(1, 4)), out_of_order);
        assert_eq!(
            append(&mut f, &draft(0, 4)),
            Err(ErrorCode::InvalidProducerEpoch)
        );
        assert_eq!(append(&mut f, &draft(1, 0)), Ok(2));
    }

    #[test]
    fn the_largest_epoch_ends_what_is_open_in_it() {
        let mut f = Fixture::new(LogConfig::default(), 0);
        f.verified(7, i16::MAX);
        assert_eq!(append(&mut f, &draft(i16::MAX, 0)), Ok(0));
        let end = EndOfTransaction {
            producer_id: 7,
            producer_epoch: i16::MAX,
            coordinator_epoch: 0,
            commits: false,
            version: 2,
        };
        assert!(f.log.append_end(f.now, &end, &mut f.disk.store).is_ok());
        f.settle();
        assert_eq!(f.log.last_stable(), Offset(2));
    }

    /// The end of a transaction of which nothing is here, since a newer epoch is known, takes back that it may begin:
    /// the newer epoch may be forgotten, and no other end comes.
    #[test]
    fn a_transaction_that_has_ended_does_not_begin_when_a_newer_epoch_is_forgotten() {
        for version in [0, 2] {
            let mut f = Fixture::new(LogConfig::default(), 0);
            f.verified(7, 5);
            let mut newer = Draft::plain(&[START_MS], 10);
            newer.producer = Some((7, 9, 0));
            assert_eq!(append(&mut f, &newer), Ok(0));
            let end = EndOfTransaction {
                producer_id: 7,
                producer_epoch: 5 + i16::from(version >= 2),
                coordinator_epoch: 0,
                commits: false,
                version,
            };
            let ended = f.log.append_end(f.now, &end, &mut f.disk.store);
            let code = ended.map_err(|refused| refused.code).map(drop);
            assert_eq!(code, Err(ErrorCode::InvalidProducerEpoch));
            assert!(f.log.verifications.by_producer.is_empty());
        }
    }

    /// A client may send any epoch.
    #[test]
    fn the_least_epoch_ends_nothing() {
        let mut f = Fixture::new(LogConfig::default(), 0);
        f.verified(7, 5);
        let mut newer = Draft::plain(&[START_MS], 10);
        newer.producer = Some((7, 9, 0));
        assert_eq!(append(&mut f, &newer), Ok(0));
        let end = EndOfTransaction {
            producer_id: 7,
            producer_epoch: i16::MIN,
            coordinator_epoch: 0,
            commits: false,
            version: 2,
        };
        let ended = f.log.append_end(f.now, &end, &mut f.disk.store);
        let code = ended.map_err(|refused| refused.code).map(drop);
        assert_eq!(code, Err(ErrorCode::InvalidProducerEpoch));
        assert!(f.log.verifications.is_verified(7, 5));
    }

    #[test]
    fn an_epoch_is_settled_when_the_first_batch_of_it_is_committed() {
        let mut f = Fixture::new(LogConfig::default(), 0);
        assert!(f.log.is_settled_with(7), "nothing is known");
        let mut plain = Draft::plain(&[START_MS], 10);
        plain.producer = Some((7, 9, 0));
        assert_eq!(append(&mut f, &plain), Ok(0));
        assert!(!f.log.is_settled_with(7));
        f.settle();
        plain.producer = Some((7, 9, 1));
        assert_eq!(append(&mut f, &plain), Ok(1));
        assert!(f.log.is_settled_with(7), "however much follows");
        plain.producer = Some((7, 10, 0));
        assert_eq!(append(&mut f, &plain), Ok(2));
        assert!(!f.log.is_settled_with(7), "a newer one is not");
    }

    #[test]
    fn ends_are_fenced() {
        let mut f = Fixture::new(LogConfig::default(), 0);
        f.verified(7, 5);
        assert_eq!(append(&mut f, &draft(5, 0)), Ok(0));
        let mut ends = |epoch, coordinator_epoch, version| {
            let end = EndOfTransaction {
                producer_id: 7,
                producer_epoch: epoch,
                coordinator_epoch,
                commits: false,
                version,
            };
            let ended = f.log.append_end(f.now, &end, &mut f.disk.store);
            ended
                .map(|it| it.base_offset.0)
                .map_err(|refused| refused.code)
        };
        let stale = Err(ErrorCode::InvalidProducerEpoch);
        assert_eq!(ends(4, 3, 0), stale);
        assert_eq!(ends(5, 3, 2), stale, "of version 2 it has a newer epoch");
        assert_eq!(ends(6, 3, 2), Ok(1));
        assert_eq!(ends(6, 3, 2), Ok(2), "once more");
        let fenced = Err(ErrorCode::TransactionCoordinatorFenced);
        assert_eq!(ends(6, 2, 2), fenced);
        assert_eq!(ends(6, 4, 0), Ok(3));
        f.verified(7, 6);
        let out_of_order = Err(ErrorCode::OutOfOrderSequenceNumber);
        assert_eq!(append(&mut f, &draft(6, 5)), out_of_order);
        assert_eq!(append(&mut f, &draft(6, 0)), Ok(4));
        f.settle();
        let ranges = f.log.aborted_between(Offset(0), Offset(9));
        let ranges: Vec<_> = ranges.iter().map(|it| (it.first.0, it.last.0)).collect();
        assert_eq!(ranges, [(0, 1)]);
    }
}
