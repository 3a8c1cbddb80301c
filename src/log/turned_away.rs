//! Producers that a log does not know and that it has told to come again. Such a one may begin anywhere, and what it
//! has sent behind the refused batch is on its way: taken, that would be its beginning, and the refused batch out of
//! order for good; librdkafka would even report it as delivered. So nothing behind it is taken before it. Kafka does
//! the same in transactions, by the lowest sequence that it has seen (`VerificationStateEntry`).
//!
//! Who was refused is not always known: too many were, or they came just before this node led the partition, or knew
//! of it. Then whoever does not begin at the beginning is told once to come again, with everything that is on its way:
//! what he comes back with is where he begins.

use std::collections::VecDeque;

use super::producers::ProducerBatch;
use crate::base::limits::{PRODUCER_KEPT_MS, PRODUCERS_TURNED_AWAY_MAX};
use crate::base::{ErrorCode, Mono, Refused};

/// See the module. It is no part of the log's state: a restart ends all connections, and who comes back begins with
/// what was refused.
#[derive(Debug, Default)]
pub(super) struct TurnedAway {
    /// At most [`PRODUCERS_TURNED_AWAY_MAX`], who was told longest ago first.
    newcomers: VecDeque<Newcomer>,
    /// When somebody may have been refused last of whom nothing is noted.
    unsure: Option<Mono>,
}

#[derive(Clone, Copy, Debug)]
struct Newcomer {
    id: i64,
    epoch: i16,
    /// Where it is to begin.
    sequence: i32,
    /// When it was told last.
    told: Mono,
}

impl TurnedAway {
    /// A batch of a producer that is not known was refused, and is sent again.
    pub(super) fn note(&mut self, now: Mono, batch: &ProducerBatch) {
        self.forget_old(now);
        let at = self.newcomers.iter().position(|known| known.id == batch.id);
        let known = at.and_then(|at| self.newcomers.remove(at));
        let known = known.filter(|known| !known.comes_after(batch));
        if self.newcomers.len() == PRODUCERS_TURNED_AWAY_MAX {
            self.unsure = Some(now);
            return;
        }
        let (epoch, sequence) = known.map_or((batch.epoch, batch.base_sequence), |known| {
            (known.epoch, known.sequence)
        });
        self.newcomers.push_back(Newcomer {
            id: batch.id,
            epoch,
            sequence,
            told: now,
        });
    }

    /// Batches may have been refused, and sent again, of which nothing is known.
    pub(super) fn is_unsure(&mut self, now: Mono) {
        self.unsure = Some(now);
    }

    /// Whether a producer that is not known may begin with this batch.
    ///
    /// # Errors
    /// OUT_OF_ORDER_SEQUENCE_NUMBER if it is behind one that was refused. NOT_LEADER_OR_FOLLOWER, which clients retry,
    /// if that is not known.
    pub(super) fn check(&mut self, now: Mono, batch: &ProducerBatch) -> Result<(), Refused> {
        self.forget_old(now);
        let mut newcomers = self.newcomers.iter();
        let known = newcomers.find(|known| (known.id, known.epoch) == (batch.id, batch.epoch));
        match known {
            Some(known) if is_behind(batch.base_sequence, known.sequence) => {
                Err(overtakes(batch, known.sequence))
            }
            None if self.unsure.is_some() && batch.base_sequence != 0 => Err(comes_again(batch)),
            _ => Ok(()),
        }
    }

    /// Whether all producers may begin anywhere.
    pub(super) fn is_empty(&self) -> bool {
        self.newcomers.is_empty() && self.unsure.is_none()
    }

    /// A producer has begun.
    pub(super) fn begun(&mut self, id: i64) {
        self.newcomers.retain(|known| known.id != id);
        self.let_go();
    }

    /// Forgets those that were told so long ago that nothing is on its way any more.
    pub(super) fn forget_old(&mut self, now: Mono) {
        let is_old = |told: Mono| now.ms_since(told) >= PRODUCER_KEPT_MS;
        self.newcomers.retain(|known| !is_old(known.told));
        self.unsure = self.unsure.filter(|since| !is_old(*since));
        self.let_go();
    }

    /// There are none as a rule, and they are to cost nothing then.
    fn let_go(&mut self) {
        if self.newcomers.is_empty() {
            self.newcomers = VecDeque::new();
        }
    }
}

impl Newcomer {
    /// Whether it has to begin with a batch that was refused now, and no longer with the one before.
    fn comes_after(&self, batch: &ProducerBatch) -> bool {
        batch.epoch > self.epoch
            || batch.epoch == self.epoch && is_behind(self.sequence, batch.base_sequence)
    }
}

/// Sequence numbers wrap.
fn is_behind(sequence: i32, first: i32) -> bool {
    let ahead = sequence.wrapping_sub(first) & i32::MAX;
    (1..=i32::MAX / 2).contains(&ahead)
}

fn overtakes(batch: &ProducerBatch, first: i32) -> Refused {
    let message = format!(
        "Producer {} sent sequence {} before {first}, which was refused a moment ago and must be sent again first.",
        batch.id, batch.base_sequence
    );
    Refused::because(ErrorCode::OutOfOrderSequenceNumber, message)
}

fn comes_again(batch: &ProducerBatch) -> Refused {
    let message = format!(
        "Producer {} is not known and begins with sequence {}: what comes before may have been refused a moment ago. \
         It may begin there when it is sent again.",
        batch.id, batch.base_sequence
    );
    Refused::because(ErrorCode::NotLeaderOrFollower, message)
}

#[cfg(test)]
mod tests {
    use super::super::LogConfig;
    use super::super::testing::{Draft, Fixture, START_MS};
    use super::*;

    fn by(id: i64, epoch: i16, sequence: i32, bytes: usize) -> Draft {
        let mut draft = Draft::plain(&[START_MS], bytes);
        draft.producer = Some((id, epoch, sequence));
        draft
    }

    fn send(f: &mut Fixture, draft: &Draft) -> Result<i64, ErrorCode> {
        let sent = f.append(draft);
        sent.map(|sent| sent.base_offset.0)
            .map_err(|refused| refused.code)
    }

    const MUCH: usize = 256 << 10;

    /// One whose store takes a little more, but not much.
    fn nearly_full() -> Fixture {
        let mut f = Fixture::new(LogConfig::default(), 0);
        let refused = (0..1000).find_map(|_| send(&mut f, &Draft::plain(&[START_MS], MUCH)).err());
        assert_eq!(refused, Some(ErrorCode::KafkaStorageError));
        f
    }

    #[test]
    fn what_is_behind_the_refused_batch_does_not_overtake_it() {
        let mut f = nearly_full();
        let end = f.log.end_offset().0;
        let full = Err(ErrorCode::KafkaStorageError);
        let gap = Err(ErrorCode::OutOfOrderSequenceNumber);
        assert_eq!(send(&mut f, &by(1, 0, 0, MUCH)), full);
        assert_eq!(send(&mut f, &by(1, 0, 1, 10)), gap);
        assert_eq!(
            send(&mut f, &by(2, 0, 1, 10)),
            Ok(end),
            "it was not refused"
        );
        f.settle();
        assert_eq!(
            send(&mut f, &by(1, 0, 1, 10)),
            gap,
            "there is room, and yet"
        );
        assert_eq!(send(&mut f, &by(1, 0, 0, MUCH)), Ok(end + 1));
        assert_eq!(send(&mut f, &by(1, 0, 1, 10)), Ok(end + 2));
    }
    fn batch(id: i64, epoch: i16, base_sequence: i32) -> ProducerBatch {
        ProducerBatch {
            id,
            epoch,
            base_sequence,
            last_delta: 0,
        }
    }

    fn may(away: &mut TurnedAway, now: Mono, batch: ProducerBatch) -> Result<(), ErrorCode> {
        away.check(now, &batch).map_err(|refused| refused.code)
    }

    const GAP: Result<(), ErrorCode> = Err(ErrorCode::OutOfOrderSequenceNumber);

    #[test]
    fn it_begins_with_the_first_that_was_refused() {
        let (mut away, now) = (TurnedAway::default(), Mono(1));
        away.note(now, &batch(1, 3, 105));
        away.note(now, &batch(1, 3, 100));
        away.note(now, &batch(1, 3, 102));
        assert_eq!(may(&mut away, now, batch(1, 3, 101)), GAP);
        assert_eq!(may(&mut away, now, batch(1, 3, 100)), Ok(()));
        assert_eq!(may(&mut away, now, batch(1, 3, 99)), Ok(()), "before it");
        assert_eq!(may(&mut away, now, batch(1, 4, 101)), Ok(()), "other epoch");
        // What comes late of an earlier epoch does not count, and a new one does.
        away.note(now, &batch(1, 2, 0));
        assert_eq!(may(&mut away, now, batch(1, 3, 101)), GAP);
        away.note(now, &batch(1, 4, 0));
        assert_eq!(may(&mut away, now, batch(1, 3, 101)), Ok(()));
        assert_eq!(may(&mut away, now, batch(1, 4, 1)), GAP);
        away.begun(1);
        assert_eq!(may(&mut away, now, batch(1, 4, 1)), Ok(()));
        away.note(now, &batch(2, 0, i32::MAX));
        assert_eq!(may(&mut away, now, batch(2, 0, 0)), GAP, "they wrap");
    }

    #[test]
    fn it_is_held_to_that_while_something_may_be_on_its_way() {
        let (mut away, now) = (TurnedAway::default(), Mono(1));
        away.note(now, &batch(1, 0, 0));
        let later = now.plus_ms(PRODUCER_KEPT_MS - 1);
        assert_eq!(may(&mut away, later, batch(1, 0, 1)), GAP);
        away.note(later, &batch(1, 0, 0));
        let later = later.plus_ms(PRODUCER_KEPT_MS - 1);
        assert_eq!(may(&mut away, later, batch(1, 0, 1)), GAP);
        assert_eq!(may(&mut away, later.plus_ms(1), batch(1, 0, 1)), Ok(()));
        assert_eq!(away.newcomers.capacity(), 0);
    }

    #[test]
    fn of_more_than_are_noted_none_begins_in_the_middle() {
        let (mut away, now) = (TurnedAway::default(), Mono(1));
        let max = PRODUCERS_TURNED_AWAY_MAX as i64;
        for id in 0..=max {
            assert_eq!(may(&mut away, now, batch(id, 0, 7)), Ok(()));
            away.note(now, &batch(id, 0, 7));
        }
        assert_eq!(away.newcomers.len(), PRODUCERS_TURNED_AWAY_MAX);
        let later = now.plus_ms(PRODUCER_KEPT_MS - 1);
        let again = Err(ErrorCode::NotLeaderOrFollower);
        assert_eq!(may(&mut away, later, batch(max, 0, 8)), again);
        assert_eq!(may(&mut away, later, batch(max, 0, 0)), Ok(()));
        assert_eq!(may(&mut away, later, batch(0, 0, 7)), Ok(()));
        away.begun(0);
        assert_eq!(may(&mut away, later, batch(max, 0, 8)), again);
        away.note(later, &batch(max, 0, 8));
        assert_eq!(may(&mut away, later, batch(max, 0, 8)), Ok(()), "noted now");
        let later = later.plus_ms(1);
        assert_eq!(may(&mut away, later, batch(max + 1, 0, 8)), Ok(()));
    }

    #[test]
    fn in_a_new_epoch_nobody_overtakes_what_was_refused_before() {
        let mut f = Fixture::new(LogConfig::default(), 0);
        let again = Err(ErrorCode::NotLeaderOrFollower);
        assert_eq!(send(&mut f, &by(1, 0, 0, 10)), Ok(0));
        f.log.leads_from(f.now.mono);
        assert_eq!(send(&mut f, &by(1, 0, 1, 10)), Ok(1), "it is known");
        // Batch 0 of each was refused by one who did not lead yet.
        assert_eq!(send(&mut f, &by(2, 0, 1, 10)), again);
        assert_eq!(
            send(&mut f, &by(2, 0, 2, 10)),
            Err(ErrorCode::OutOfOrderSequenceNumber)
        );
        assert_eq!(send(&mut f, &by(2, 0, 0, 10)), Ok(2));
        assert_eq!(send(&mut f, &by(2, 0, 1, 10)), Ok(3));
        // One of whom all was forgotten long ago comes with the same once more.
        assert_eq!(send(&mut f, &by(3, 0, 70, 10)), again);
        assert_eq!(send(&mut f, &by(3, 0, 70, 10)), Ok(4));
        f.now.mono = f.now.mono.plus_ms(PRODUCER_KEPT_MS);
        assert_eq!(send(&mut f, &by(4, 0, 70, 10)), Ok(5));
    }
}
