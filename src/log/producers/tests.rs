//! Retries, gaps and epochs of producers, and how many are known.

use super::*;

struct Fixture {
    producers: Producers,
    next: i64,
}

impl Fixture {
    fn new() -> Self {
        Self {
            producers: Producers::default(),
            next: 0,
        }
    }

    /// The base offset given, or the original one's negative for a duplicate.
    fn send(&mut self, id: i64, epoch: i16, sequence: i32, records: i32) -> Result<i64, ErrorCode> {
        let batch = ProducerBatch {
            id,
            epoch,
            base_sequence: sequence,
            last_delta: records - 1,
        };
        match self.producers.check(&batch) {
            Err(refused) => {
                let text = refused.text();
                assert!(text.contains(&id.to_string()), "{text}");
                Err(refused.code)
            }
            Ok(Some(original)) => Ok(-original.base_offset.0),
            Ok(None) => {
                let base = self.next;
                self.next += i64::from(records);
                let appended = Remembered {
                    base_sequence: sequence,
                    last_delta: records - 1,
                    base_offset: Offset(base),
                    timestamp: base,
                };
                self.producers.remember(&batch, appended);
                Ok(base)
            }
        }
    }
}

#[test]
fn the_last_five_batches_are_recognized() {
    let mut f = Fixture::new();
    for n in 0..6 {
        assert_eq!(f.send(7, 0, n * 10, 10), Ok(i64::from(n) * 10));
    }
    for n in 1..6 {
        assert_eq!(f.send(7, 0, n * 10, 10), Ok(-i64::from(n) * 10));
    }
    assert_eq!(
        f.send(7, 0, 0, 10),
        Err(ErrorCode::OutOfOrderSequenceNumber)
    );
    assert_eq!(
        f.send(7, 0, 50, 9),
        Err(ErrorCode::OutOfOrderSequenceNumber),
        "same start, other length"
    );
    assert_eq!(f.send(7, 0, 60, 1), Ok(60));
}

#[test]
fn gaps_and_epochs() {
    let mut f = Fixture::new();
    assert_eq!(
        f.send(1, 3, 100, 5),
        Ok(0),
        "an unknown producer begins anywhere"
    );
    assert_eq!(
        f.send(1, 3, 106, 1),
        Err(ErrorCode::OutOfOrderSequenceNumber)
    );
    assert_eq!(f.send(1, 3, 105, 1), Ok(5));
    assert_eq!(f.send(1, 2, 0, 1), Err(ErrorCode::InvalidProducerEpoch));
    assert_eq!(
        f.send(1, 4, 106, 1),
        Err(ErrorCode::OutOfOrderSequenceNumber)
    );
    assert_eq!(f.send(1, 4, 0, 1), Ok(6));
    assert_eq!(
        f.send(1, 3, 105, 1),
        Err(ErrorCode::InvalidProducerEpoch),
        "the old epoch's batches are forgotten"
    );
    assert_eq!(
        f.send(2, 0, 9, 1),
        Ok(7),
        "producers do not disturb each other"
    );
}

/// As Kafka 4.3.1 answers.
#[test]
fn epoch_minus_one_is_that_of_none() {
    let mut f = Fixture::new();
    assert_eq!(f.send(1, -2, 0, 1), Err(ErrorCode::InvalidProducerEpoch));
    assert_eq!(f.send(1, -1, 7, 1), Ok(0));
    assert_eq!(f.send(1, -1, 7, 1), Ok(0), "a duplicate, of offset 0");
    assert_eq!(f.send(1, -1, 3, 1), Ok(1));
    assert_eq!(f.send(1, -1, 90, 1), Ok(2));
    assert_eq!(f.send(1, 0, 5, 1), Ok(3), "any sequence");
    assert_eq!(f.send(1, -1, 0, 1), Err(ErrorCode::InvalidProducerEpoch));
    assert_eq!(f.send(1, 0, 5, 1), Ok(-3), "a duplicate");
    assert_eq!(f.send(1, 0, 7, 1), Err(ErrorCode::OutOfOrderSequenceNumber));
}

#[test]
fn sequences_wrap() {
    let mut f = Fixture::new();
    assert_eq!(f.send(1, 0, i32::MAX - 1, 4), Ok(0));
    assert_eq!(f.send(1, 0, 3, 1), Err(ErrorCode::OutOfOrderSequenceNumber));
    assert_eq!(f.send(1, 0, 2, 1), Ok(4));
    assert_eq!(f.send(1, 0, i32::MAX - 1, 4), Ok(0), "duplicate, offset 0");
    let mut f = Fixture::new();
    assert_eq!(f.send(1, 0, i32::MAX, 1), Ok(0));
    assert_eq!(f.send(1, 0, 0, 1), Ok(1));
}

#[test]
fn producers_expire_and_are_bounded() {
    let mut f = Fixture::new();
    let max = PRODUCERS_PER_PARTITION_MAX as i64;
    for id in 0..max {
        f.send(id, 0, 0, 1).unwrap();
    }
    f.send(0, 0, 1, 1).unwrap();
    assert_eq!(f.producers.len(), PRODUCERS_PER_PARTITION_MAX);
    f.send(max, 0, 0, 1).unwrap();
    assert_eq!(f.producers.len(), PRODUCERS_PER_PARTITION_MAX);
    assert!(f.producers.known.contains_key(&2), "is not in the way");
    assert!(
        f.producers.known.contains_key(&0),
        "used last but one, stays"
    );
    assert!(!f.producers.known.contains_key(&1), "used first, goes");
    f.producers.expire(max - 1);
    let ids: Vec<i64> = f.producers.iter().map(|(id, _)| id).collect();
    assert_eq!(ids, [0, max]);
}

#[test]
fn those_who_are_too_many_are_forgotten() {
    let mut f = Fixture::new();
    f.producers.begin_segment(SegmentId(0), Offset(0));
    for n in 1..=3 {
        (0..10).for_each(|id| assert!(f.send(id, 0, n, 1).is_ok()));
        f.producers
            .begin_segment(SegmentId(n as u64), Offset(f.next));
    }
    assert_eq!((f.producers.len(), f.producers.entries()), (10, 30));
    f.producers.limit(4);
    f.send(10, 0, 0, 1).unwrap();
    assert_eq!(f.producers.len(), 10, "one for another");
    f.producers.thin_out();
    let ids: Vec<i64> = f.producers.iter().map(|(id, _)| id).collect();
    assert_eq!(ids, [7, 8, 9, 10]);
    assert!(f.producers.entries() <= 8, "{}", f.producers.entries());
    f.producers.limit(usize::MAX);
    assert_eq!(f.producers.most, PRODUCERS_PER_PARTITION_MAX);
}

#[test]
fn what_was_known_before_a_segment_is_bounded() {
    let mut f = Fixture::new();
    let max = PRODUCERS_PER_PARTITION_MAX as i64;
    let begin = |f: &mut Fixture, n| f.producers.begin_segment(SegmentId(n), Offset(f.next));
    let kept = |f: &Fixture| -> Vec<usize> {
        let before = f.producers.before();
        before.map(|before| before.producers.len()).collect()
    };
    begin(&mut f, 0);
    for id in 0..max {
        f.send(id, 0, 0, 1).unwrap();
        f.send(id, 0, 1, 1).unwrap();
    }
    assert_eq!(kept(&f), [0], "nothing was known of them");
    begin(&mut f, 1);
    let base = f.next;
    for id in (0..max).chain(max..3 * max) {
        f.send(id, 0, 2, 1).unwrap();
    }
    assert_eq!(kept(&f), [0, max as usize]);
    assert!(f.producers.written().count() <= PRODUCERS_PER_PARTITION_MAX);
    // All of whom something is left come back, and nobody else stays.
    f.producers.roll_back(SegmentId(1), Offset(base));
    assert_eq!(f.producers.len(), PRODUCERS_PER_PARTITION_MAX);
    assert!(
        f.producers
            .iter()
            .all(|(id, p)| id < max && p.batches().len() == 2)
    );
    // Before a cut others may have been known.
    f.next = base;
    begin(&mut f, 1);
    for id in 0..max {
        f.send(id, 0, 2, 1).unwrap();
    }
    begin(&mut f, 2);
    let base = f.next;
    for id in 0..max / 2 {
        f.send(id, 0, 3, 1).unwrap();
    }
    for id in 5 * max..6 * max {
        f.send(id, 0, 0, 1).unwrap();
    }
    f.producers.roll_back(SegmentId(2), Offset(base));
    assert!(f.producers.len() <= PRODUCERS_PER_PARTITION_MAX);
}
