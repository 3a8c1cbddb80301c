//! The named invariants: each sees every fact and says when it contradicts what
//! was known before. They share nothing, so that each can be read by itself.

mod compaction;
mod groups;
mod invariant;
mod log;
mod lookup;
mod metadata;
mod producers;
mod stops;
mod transactions;

pub use invariant::Invariant;

/// One of each.
#[must_use]
pub fn all() -> Vec<Box<dyn Invariant>> {
    vec![
        Box::new(log::AckedIsNeverLost::default()),
        Box::new(log::OneValuePerOffset::default()),
        Box::new(log::NothingIsMadeUp::default()),
        Box::new(log::WatermarkNeverGoesBack::default()),
        Box::new(log::DeletedStaysDeleted::default()),
        Box::new(producers::OrderPerProducer::default()),
        Box::new(producers::NoDuplicateWithIdempotence::default()),
        Box::new(producers::ProducerIdsAreUnique::default()),
        Box::new(compaction::LastValueStays::default()),
        Box::new(transactions::TransactionsAreWhole::default()),
        Box::new(lookup::FirstAtOrAfterTime::default()),
        Box::new(groups::CommittedOffsetSurvives::default()),
        Box::new(groups::AssignmentsAgree::default()),
        Box::new(metadata::TopicsSurvive::default()),
        Box::new(metadata::OneLeaderPerEpoch::default()),
        Box::new(stops::StopsAreToldFromCrashes::default()),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::fact::{Fact, Moment, Place, Placed, Process, Use};
    use super::super::oracle::Oracle;
    use super::super::values::{PLAIN, Value};
    use crate::base::{LogId, TopicId};

    const AT: Place = Place {
        topic: 0,
        partition: 0,
    };

    fn placed(offset: i64, producer: u32, number: u32) -> Placed {
        Placed {
            offset,
            value: Value { producer, number },
            timestamp: Some(1000 + offset),
        }
    }

    fn told(facts: &[Fact<'_>]) -> Option<&'static str> {
        let mut oracle = Oracle::default();
        oracle.tell(Fact::Created {
            node: 0,
            topic: 0,
            id: TopicId([1; 16]),
            partitions: 1,
            replicas: 1,
            used: Use::Kept,
        });
        for producer in [1, 2] {
            let first = Value {
                producer,
                number: 0,
            };
            oracle.tell(Fact::Sent {
                at: AT,
                first,
                count: 100,
            });
        }
        for fact in facts {
            oracle.tell(*fact);
        }
        oracle.violation().map(|violation| violation.invariant)
    }

    fn read(from: i64, records: &[Placed], high_watermark: i64) -> Fact<'_> {
        Fact::Read {
            at: AT,
            asked: Moment(u64::MAX),
            from,
            next: records.last().map_or(from, |last| last.offset + 1),
            records,
            high_watermark,
            log_start: Some(0),
        }
    }

    fn acked(records: &[Placed]) -> Fact<'_> {
        Fact::Acked { at: AT, records }
    }

    #[test]
    fn a_good_run_breaks_nothing() {
        let all = [placed(0, 1, 0), placed(1, 2, 0), placed(2, 1, 1)];
        let facts = [
            acked(&all[..1]),
            read(0, &all[..2], 3),
            read(1, &all[1..], 3),
            Fact::Audited {
                at: AT,
                log_start: 0,
                end: 3,
            },
        ];
        assert_eq!(told(&facts), None);
    }

    #[test]
    fn a_lost_record_is_seen() {
        let all = [placed(0, 1, 0), placed(1, 1, 1), placed(2, 1, 2)];
        assert_eq!(
            told(&[acked(&all), read(0, &[all[0], all[2]], 3)]),
            Some("AckedIsNeverLost"),
            "a gap"
        );
        assert_eq!(
            told(&[acked(&all), read(0, &all[..2], 2)]),
            Some("AckedIsNeverLost"),
            "a cut end"
        );
    }

    #[test]
    fn a_changed_record_is_seen() {
        let (before, after) = ([placed(0, 1, 0)], [placed(0, 2, 0)]);
        let facts = [read(0, &before, 1), read(0, &after, 1)];
        assert_eq!(told(&facts), Some("OneValuePerOffset"));
        assert_eq!(
            told(&[read(0, &[placed(0, 7, 0)], 1)]),
            Some("NothingIsMadeUp")
        );
    }

    #[test]
    fn doubled_and_reordered_records_are_seen() {
        let doubled = [placed(0, 1, 0), placed(1, 1, 0)];
        assert_eq!(
            told(&[read(0, &doubled, 2)]),
            Some("NoDuplicateWithIdempotence")
        );
        let reordered = [placed(0, 1, 1), placed(1, 1, 0)];
        assert_eq!(told(&[read(0, &reordered, 2)]), Some("OrderPerProducer"));
        let gap = [placed(0, 1, 0), placed(1, 1, 2)];
        let audited = Fact::Audited {
            at: AT,
            log_start: 0,
            end: 2,
        };
        assert_eq!(told(&[read(0, &gap, 2), audited]), Some("OrderPerProducer"));
    }

    #[test]
    fn a_watermark_that_goes_back_is_seen() {
        let records = [placed(0, 1, 0)];
        let facts = [
            Fact::Latest {
                at: AT,
                asked: Moment(0),
                offset: 5,
            },
            read(0, &records, 4),
        ];
        assert_eq!(told(&facts), Some("WatermarkNeverGoesBack"));
        let late = Fact::Read {
            at: AT,
            asked: Moment(1),
            from: 0,
            next: 2,
            records: &records,
            high_watermark: 4,
            log_start: None,
        };
        assert_eq!(told(&[facts[0], late]), None, "asked before it was known");
        let in_shard = |start, offset| Fact::ShardWatermark {
            of: Process { node: 1, start },
            log: LogId(3),
            offset,
            is_behind: false,
        };
        let broken = Some("WatermarkNeverGoesBack");
        assert_eq!(told(&[in_shard(1, 5), in_shard(1, 4)]), broken);
        assert_eq!(told(&[in_shard(1, 5), in_shard(2, 4)]), None, "it learns");
        let anew = Fact::ShardWatermark {
            of: Process { node: 1, start: 1 },
            log: LogId(3),
            offset: 0,
            is_behind: true,
        };
        assert_eq!(told(&[in_shard(1, 5), anew, in_shard(1, 4)]), None);
    }

    #[test]
    fn a_new_leader_of_several_replicas_may_tell_too_little_only_on_the_side() {
        let created = Fact::Created {
            node: 0,
            topic: 0,
            id: TopicId([1; 16]),
            partitions: 1,
            replicas: 3,
            used: Use::Kept,
        };
        let all = [placed(0, 1, 0), placed(1, 1, 1)];
        let latest = Fact::Latest {
            at: AT,
            asked: Moment(u64::MAX),
            offset: 1,
        };
        let audited = Fact::Audited {
            at: AT,
            log_start: 0,
            end: 1,
        };
        let (few, whole) = (read(0, &all[..1], 1), read(0, &all, 2));
        assert_eq!(told(&[created, acked(&all), few]), None);
        let lost = Some("AckedIsNeverLost");
        assert_eq!(told(&[created, acked(&all), few, latest]), lost);
        assert_eq!(told(&[created, acked(&all), few, audited]), lost);
        assert_eq!(
            told(&[created, whole, latest]),
            Some("WatermarkNeverGoesBack")
        );
    }

    /// Records of one key: the first of them that are tombstones, or are not.
    fn of_one_key(tombstones: [bool; 3]) -> [Value; 3] {
        let mut numbers = 0..100;
        tombstones.map(|is_tombstone| {
            let mut values = numbers.by_ref().map(|number| Value {
                producer: PLAIN,
                number,
            });
            let fits = |value: &Value| value.key() == 3 && value.is_tombstone() == is_tombstone;
            values.find(fits).unwrap()
        })
    }

    fn read_to_3(asked: u64, records: &[Placed]) -> Fact<'_> {
        Fact::Read {
            at: AT,
            asked: Moment(asked),
            from: 0,
            next: 3,
            records,
            high_watermark: 3,
            log_start: Some(0),
        }
    }

    #[test]
    fn what_compaction_may_not_remove_is_seen() {
        let created = |keeps_tombstones| Fact::Created {
            node: 0,
            topic: 0,
            id: TopicId([1; 16]),
            partitions: 1,
            replicas: 1,
            used: Use::Compacted { keeps_tombstones },
        };
        let place = |values: [Value; 3]| {
            let mut offset = 0;
            values.map(|value| {
                offset += 1;
                Placed {
                    offset: offset - 1,
                    value,
                    timestamp: Some(1000),
                }
            })
        };
        let (auditing, audited) = (
            Fact::Auditing { at: AT },
            Fact::Audited {
                at: AT,
                log_start: 0,
                end: 3,
            },
        );
        // Before it is known that the topic is compacted: else any of them may follow what is missing.
        let first = Value {
            producer: PLAIN,
            number: 0,
        };
        let sent = Fact::Sent {
            at: AT,
            first,
            count: 100,
        };
        let judged = |keeps, values, reads: &[&[usize]]| {
            let all = place(values);
            let reads: Vec<Vec<Placed>> = (reads.iter())
                .map(|read| read.iter().map(|n| all[*n]).collect())
                .collect();
            let mut facts = vec![sent, created(keeps), acked(&all), auditing];
            // The first one is asked for before anything is known.
            let asked = [0, u64::MAX].into_iter();
            facts.extend(
                asked
                    .zip(&reads)
                    .map(|(asked, read)| read_to_3(asked, read)),
            );
            facts.push(audited);
            told(&facts)
        };
        let values = of_one_key([false, false, false]);
        let deleted = of_one_key([false, false, true]);
        let broken = Some("LastValueStays");
        assert_eq!(judged(true, values, &[&[0, 1, 2], &[2]]), None);
        assert_eq!(judged(true, values, &[&[0, 1]]), broken, "the last one");
        assert_eq!(judged(true, deleted, &[&[0]]), broken, "a tombstone");
        assert_eq!(judged(false, deleted, &[&[0, 2], &[]]), None);
        assert_eq!(judged(false, deleted, &[&[2], &[]]), None);
        assert_eq!(judged(false, deleted, &[&[0]]), None, "at the same time");
        assert_eq!(judged(false, deleted, &[&[0], &[0]]), broken, "once more");
        let followed = of_one_key([false, true, false]);
        assert_eq!(
            judged(true, followed, &[&[0, 2], &[0, 2]]),
            None,
            "a replica that caught up"
        );
    }

    #[test]
    fn half_a_transaction_and_an_aborted_one_are_seen() {
        let all = [placed(0, 1, 0), placed(1, 1, 1)];
        let transacting = Fact::Transacting {
            transaction: 7,
            first: all[0].value,
            count: 2,
        };
        let deciding = Fact::Deciding { transaction: 7 };
        let ended = |commits| Fact::Ended {
            transaction: 7,
            commits,
        };
        let committed = |records| Fact::ReadCommitted { at: AT, records };
        let audited = Fact::AuditedCommitted;
        let begun = [transacting, acked(&all)];
        let judged = |facts: &[Fact<'_>]| told(&[&begun, facts].concat());
        let broken = Some("TransactionsAreWhole");
        let whole = [deciding, committed(&all), ended(true), audited];
        assert_eq!(judged(&whole), None);
        assert_eq!(judged(&[committed(&[]), audited]), None, "left");
        assert_eq!(judged(&[committed(&all)]), broken, "of nobody's wish");
        assert_eq!(
            judged(&[deciding, committed(&all[..1]), audited]),
            broken,
            "half"
        );
        assert_eq!(
            judged(&[deciding, ended(true), audited]),
            broken,
            "nothing of it"
        );
        assert_eq!(judged(&[ended(false), committed(&all)]), broken, "aborted");
        assert_eq!(judged(&[deciding, committed(&all), ended(false)]), broken);
        let moved = [placed(5, 1, 0)];
        assert_eq!(
            judged(&[deciding, committed(&all), committed(&moved)]),
            broken,
            "twice"
        );
    }

    #[test]
    fn an_offset_that_does_not_move_with_its_transaction_is_seen() {
        let moving = |transaction| {
            let group = 5;
            [
                Fact::Moving { transaction, group },
                Fact::Moved { transaction },
                Fact::Deciding { transaction },
            ]
        };
        let ended = |transaction, commits| Fact::Ended {
            transaction,
            commits,
        };
        let read = |offset| Fact::MovedRead { group: 5, offset };
        let judged = |facts: &[Fact<'_>]| {
            let facts = [&moving(7), &moving(8), facts, &[Fact::AuditedCommitted]].concat();
            told(&facts)
        };
        let broken = Some("TransactionsAreWhole");
        for offset in [-1, 7, 8] {
            assert_eq!(judged(&[read(offset)]), None, "nobody knows");
        }
        assert_eq!(judged(&[ended(7, true), ended(8, false), read(7)]), None);
        assert_eq!(judged(&[ended(7, true), ended(8, false), read(8)]), broken);
        assert_eq!(judged(&[ended(7, true), read(-1)]), broken, "it is lost");
        assert_eq!(judged(&[ended(8, true), read(7)]), broken, "it went back");
        assert_eq!(judged(&[read(9)]), broken, "of nobody");
    }

    #[test]
    fn a_forgotten_commit_is_seen() {
        let (group, at) = (0, AT);
        let commit = |offset| {
            [
                Fact::Committing { group, at, offset },
                Fact::Committed { group, at, offset },
            ]
        };
        let read = |offset| Fact::CommitRead {
            group,
            at,
            asked: Moment(u64::MAX),
            offset,
        };
        let [a, b] = commit(4);
        let [c, d] = commit(6);
        assert_eq!(told(&[a, b, c, read(4)]), None);
        assert_eq!(told(&[a, b, c, read(6)]), None, "sent, so it may count");
        assert_eq!(
            told(&[a, b, c, d, read(4)]),
            Some("CommittedOffsetSurvives")
        );
        assert_eq!(told(&[a, b, read(5)]), Some("CommittedOffsetSurvives"));
        assert_eq!(told(&[a, b, read(-1)]), Some("CommittedOffsetSurvives"));
        assert_eq!(told(&[a, read(-1)]), None);
    }

    #[test]
    fn wrong_time_lookups_are_seen() {
        let all = [placed(0, 1, 0), placed(1, 1, 1), placed(2, 1, 2)];
        let look = |time, found| Fact::AtTime {
            at: AT,
            asked: Moment(u64::MAX),
            time,
            found,
        };
        let told = |fact| told(&[acked(&all), fact]);
        assert_eq!(told(look(1001, Some((1, 1001)))), None);
        assert_eq!(told(look(1003, None)), None);
        assert_eq!(
            told(look(1001, Some((2, 1002)))),
            Some("FirstAtOrAfterTime")
        );
        assert_eq!(
            told(look(1001, Some((0, 1000)))),
            Some("FirstAtOrAfterTime")
        );
        assert_eq!(told(look(1001, None)), Some("FirstAtOrAfterTime"));
    }

    #[test]
    fn a_crash_that_is_taken_for_a_clean_stop_is_seen() {
        let (node, crashed) = (0, Fact::Crashed { node: 0 });
        let stopped = |whole| Fact::Stopped { node, whole };
        let restarted = |clean| Fact::Restarted { node, clean };
        let cut = Fact::StartCut { node };
        let broken = Some("StopsAreToldFromCrashes");
        assert_eq!(told(&[crashed, restarted(false)]), None);
        assert_eq!(told(&[crashed, restarted(true)]), broken);
        assert_eq!(told(&[crashed, cut, restarted(true)]), broken);
        assert_eq!(told(&[crashed, stopped(true), restarted(true)]), None);
        assert_eq!(told(&[stopped(true), restarted(false)]), broken);
        for clean in [false, true] {
            assert_eq!(told(&[stopped(false), restarted(clean)]), None);
            assert_eq!(told(&[stopped(true), cut, restarted(clean)]), None);
        }
    }

    #[test]
    fn two_leaders_of_an_epoch_are_seen() {
        let led = |epoch, node| Fact::Led {
            at: AT,
            epoch,
            node,
        };
        assert_eq!(told(&[led(Some(3), 0), led(Some(4), 1)]), None);
        assert_eq!(told(&[led(None, 0), led(None, 1)]), None);
        let both = [led(Some(3), 0), led(Some(3), 1)];
        assert_eq!(told(&both), Some("OneLeaderPerEpoch"));
    }

    #[test]
    fn a_lost_topic_is_seen() {
        let seen = |found| Fact::Described {
            node: 0,
            topic: 0,
            asked: Moment(u64::MAX),
            found,
        };
        let there = Some((TopicId([1; 16]), 1));
        assert_eq!(told(&[seen(there)]), None);
        assert_eq!(told(&[seen(None)]), Some("TopicsSurvive"));
        assert_eq!(
            told(&[seen(Some((TopicId([2; 16]), 1)))]),
            Some("TopicsSurvive")
        );
        let elsewhere = |found| Fact::Described {
            node: 1,
            topic: 0,
            asked: Moment(u64::MAX),
            found,
        };
        let broken = Some("TopicsSurvive");
        let starts = Fact::Restarted {
            node: 1,
            clean: false,
        };
        assert_eq!(told(&[elsewhere(None)]), None, "not known there yet");
        assert_eq!(told(&[elsewhere(there), elsewhere(None)]), broken);
        assert_eq!(told(&[starts, elsewhere(None)]), broken);
        let (removing, removed) = (
            Fact::Removing { topic: 0 },
            Fact::Removed { node: 0, topic: 0 },
        );
        assert_eq!(told(&[removing, seen(None), seen(there)]), None);
        assert_eq!(
            told(&[removing, removed, seen(there)]),
            Some("TopicsSurvive")
        );
        let late = [removing, removed, elsewhere(there)];
        assert_eq!(told(&late), None, "not known there yet");
        let [a, b, c] = late;
        assert_eq!(told(&[a, b, starts, c]), broken);
    }
}
