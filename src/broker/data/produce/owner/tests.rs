//! Produces at the owner of their partitions: when they wait, for room or for the coordinator of their transaction.

use std::sync::Arc;

use super::*;
use crate::base::{LeaderEpoch, LogId, Mono, Now, ShardId};
use crate::broker::data::markers::owner::MarkerJobs;
use crate::broker::io::Output;
use crate::broker::msg::{
    AppendFate, InTransaction, MarkerAsker, MarkerPart, Msg, ProducePart, ReqRef,
};
use crate::broker::owner::stores::format_store;
use crate::broker::testing::with_fx;
use crate::config::BrokerConfig;
use crate::log::LogConfig;
use crate::record::{self, BatchBuilder, Codec};
use crate::replica::Mark;
use crate::store::{LogLabel, RoomFor, StoreConfig};

const ME: ShardId = ShardId(0);
const NOW: Now = Now {
    mono: Mono(1),
    wall_ms: 1_700_000_000_000,
};
const STORE: StoreId = StoreId(0);
const LOGS: u64 = LOGS_CHANGED_PER_SLICE as u64 / 2 + 1;

fn part(log: u64, bytes: usize) -> ProducePart {
    let mut builder = BatchBuilder::new(Codec::None, NOW.wall_ms);
    builder.push(NOW.wall_ms, None, Some(&vec![0; bytes]), &[]);
    let batch = builder.build();
    ProducePart {
        slot: 0,
        log: LogId(log),
        info: record::parse(&batch).unwrap(),
        batch,
        admission: None,
        ends: false,
    }
}

fn parts(batches: Vec<ProducePart>) -> ProduceParts {
    ProduceParts {
        store: STORE,
        transaction: None,
        mark: Mark::Committed,
        until: Mono::NEVER,
        batches,
    }
}

/// Lets something happen, and the disk do what it is asked for.
fn run(owner: &mut Owner, act: impl FnOnce(&mut Owner, &mut Fx<'_>)) {
    with_fx(NOW, |fx| {
        act(owner, fx);
        for output in std::mem::take(fx.out) {
            if let Output::Disk { store, op } = output {
                owner.on_disk(store, op.id(), Ok(()), fx);
            }
        }
    });
}

fn appended(owner: &Owner) -> i64 {
    let partitions = owner.partitions.values();
    partitions.map(|open| open.log.end_offset().0).sum()
}

/// One whose store has to grow for what the tests append.
fn small() -> Owner {
    let config = StoreConfig {
        journal_bytes: 1 << 20,
        initial_bytes: 4 << 20,
        ..StoreConfig::default()
    };
    let slot = format_store(STORE, config, 1).0;
    Owner::new(ME, Arc::new(BrokerConfig::default()), vec![slot])
}

/// One whose stores have room for it.
fn roomy<const STORES: usize>(stores: [StoreId; STORES]) -> Owner {
    const ROOM: usize = 32 << 20;
    let config = StoreConfig {
        initial_bytes: 1 << 30,
        ..StoreConfig::default()
    };
    let slots = stores.map(|id| format_store(id, config.clone(), 1).0);
    let mut owner = Owner::new(ME, Arc::new(BrokerConfig::default()), slots.into());
    let has_room = |owner: &Owner| {
        let mut slots = owner.slots.iter();
        slots.all(|slot| slot.store.has_room(ROOM, RoomFor::Clients))
    };
    while !has_room(&owner) {
        run(&mut owner, Owner::idle);
    }
    owner
}

#[test]
fn what_waited_for_a_store_to_grow_is_appended_in_slices() {
    const REQUESTS: u64 = 10;
    /// More than the store has room for.
    const MUCH: usize = 20 << 20;
    let mut owner = small();
    let mut delayed = Delayed::default();
    let req = |id| Appender::Client(ReqRef { shard: ME, id });
    run(&mut owner, |owner, fx| {
        for log in 0..LOGS {
            owner.open_own(
                NOW,
                0,
                LogId(log),
                LogLabel::default(),
                LogConfig::default(),
            );
        }
        // It is too large for its log too; but that is told when it has its turn.
        delayed.begin(owner, req(0), parts(vec![part(0, MUCH)]), fx);
        for id in 1..=REQUESTS {
            let batches = (0..LOGS).map(|log| part(log, 1)).collect();
            delayed.begin(owner, req(id), parts(batches), fx);
        }
    });
    assert_eq!((appended(&owner), delayed.is_empty()), (0, false));
    let mut turns = 0;
    while !delayed.is_empty() {
        let before = appended(&owner);
        run(&mut owner, |owner, fx| {
            delayed.go_on(owner, fx);
            owner.idle(fx);
        });
        let now = appended(&owner) - before;
        assert!(now <= LOGS_CHANGED_PER_SLICE as i64, "{now} at once");
        let waits = before == 0 && now == 0;
        assert!(waits || delayed.has_more(&owner) != delayed.is_empty());
        if !delayed.has_more(&owner) {
            let before = appended(&owner);
            run(&mut owner, |owner, fx| delayed.go_on(owner, fx));
            assert_eq!(appended(&owner), before, "nobody asks for this turn");
        }
        turns += 1;
        assert!(turns < 10 * REQUESTS, "it does not end");
    }
    assert_eq!(appended(&owner), (REQUESTS * LOGS) as i64);
}

#[test]
fn stores_take_turns() {
    const OTHER: StoreId = StoreId(1);
    let mut owner = roomy([STORE, OTHER]);
    let mut delayed = Delayed {
        left: 0,
        ..Delayed::default()
    };
    let to = |store, logs: std::ops::Range<u64>| ProduceParts {
        store,
        ..parts(logs.map(|log| part(log, 1)).collect())
    };
    run(&mut owner, |owner, fx| {
        for log in 0..2 * LOGS {
            let slot = usize::from(log >= LOGS);
            let (label, config) = (LogLabel::default(), LogConfig::default());
            owner.open_own(NOW, slot, LogId(log), label, config);
        }
        for id in 0..10 {
            let client = Appender::Client(ReqRef { shard: ME, id });
            delayed.begin(owner, client, to(STORE, 0..LOGS), fx);
        }
        let client = Appender::Client(ReqRef { shard: ME, id: 10 });
        delayed.begin(owner, client, to(OTHER, LOGS..2 * LOGS), fx);
    });
    assert_eq!(appended(&owner), 0);
    for _ in 0..2 {
        run(&mut owner, |owner, fx| {
            delayed.go_on(owner, fx);
            owner.idle(fx);
        });
        assert!(delayed.has_more(&owner));
    }
    let other = &owner.partitions[&LogId(LOGS)].log;
    assert_eq!(
        other.end_offset().0,
        1,
        "it does not wait for all of the first"
    );
}

#[test]
fn what_coordinators_append_is_not_refused_for_want_of_a_turn() {
    const BATCH: usize = 1 << 20;
    let mut owner = roomy([STORE]);
    let mut delayed = Delayed {
        left: 0,
        ..Delayed::default()
    };
    let ((), _, local) = with_fx(NOW, |fx| {
        let (label, config) = (LogLabel::default(), LogConfig::default());
        owner.open_own(NOW, 0, LogId(0), label, config);
        for id in 0..40 {
            let own = Appender::Coordinator(ReqRef { shard: ME, id }, LeaderEpoch(0));
            delayed.begin(&mut owner, own, parts(vec![part(0, BATCH)]), fx);
        }
    });
    assert_eq!((local.len(), appended(&owner)), (0, 0));
    assert!(delayed.has_more(&owner));
}

#[test]
fn a_lone_batch_of_a_coordinator_waits_however_large_it_is() {
    let mut owner = small();
    let mut delayed = Delayed::default();
    let ((), _, local) = with_fx(NOW, |fx| {
        let (label, config) = (LogLabel::default(), LogConfig::default());
        owner.open_own(NOW, 0, LogId(0), label, config);
        let own = Appender::Coordinator(ReqRef { shard: ME, id: 1 }, LeaderEpoch(0));
        let batch = part(0, COORDINATORS_WAITING_BYTES_MAX + 1);
        delayed.begin(&mut owner, own, parts(vec![batch]), fx);
    });
    assert_eq!((local.len(), delayed.is_empty()), (0, false));
}

#[test]
fn what_coordinators_append_waits_for_room_within_a_bound() {
    const BATCH: usize = 1 << 20;
    let mut owner = small();
    let mut delayed = Delayed::default();
    let mut refused = 0;
    let ((), _, local) = with_fx(NOW, |fx| {
        let (label, config) = (LogLabel::default(), LogConfig::default());
        owner.open_own(NOW, 0, LogId(0), label, config);
        let client = Appender::Client(ReqRef { shard: ME, id: 0 });
        delayed.begin(&mut owner, client, parts(vec![part(0, 20 << 20)]), fx);
        for id in 0..40 {
            let own = Appender::Coordinator(ReqRef { shard: ME, id }, LeaderEpoch(0));
            delayed.begin(&mut owner, own, parts(vec![part(0, BATCH)]), fx);
        }
    });
    for msg in local {
        let Msg::Appended { fate, .. } = msg else {
            panic!("unexpected {msg:?}");
        };
        let full = ErrorCode::KafkaStorageError.into();
        assert_eq!(fate, AppendFate::Refused(full));
        refused += 1;
    }
    assert_eq!(refused, 40 - (COORDINATORS_WAITING_BYTES_MAX / BATCH - 1));
    while !delayed.is_empty() {
        run(&mut owner, |owner, fx| {
            delayed.go_on(owner, fx);
            owner.idle(fx);
        });
    }
    assert_eq!(delayed.own_bytes, 0);
}

fn transactional(epoch: i16, sequence: i32) -> ProduceParts {
    let mut builder = BatchBuilder::new(Codec::None, NOW.wall_ms)
        .producer(7, epoch, sequence)
        .transactional();
    builder.push(NOW.wall_ms, None, Some(b"v"), &[]);
    let batch = builder.build();
    let info = record::parse(&batch).unwrap();
    let part = ProducePart {
        slot: sequence as u32,
        log: LogId(0),
        info,
        batch,
        admission: None,
        ends: false,
    };
    ProduceParts {
        transaction: Some(InTransaction {
            transactional_id: "id".into(),
            adds: false,
            knows_abortable: false,
        }),
        ..parts(vec![part])
    }
}

/// What is asked of coordinators, and what produces are told, by their slots.
fn said(local: impl IntoIterator<Item = Msg>) -> (Vec<u64>, Vec<(u32, ErrorCode)>) {
    let (mut asked, mut told) = (Vec::new(), Vec::new());
    for msg in local {
        match msg {
            Msg::AskTransaction { req, question } => {
                assert_eq!(
                    (question.producer_id, &*question.transactional_id),
                    (7, "id")
                );
                assert_eq!(question.partitions.len(), 1);
                asked.push(req.id);
            }
            Msg::ProduceDone { results, .. } => {
                let results = results.into_iter();
                told.extend(results.map(|(slot, result)| {
                    (slot, result.err().map_or(ErrorCode::None, |why| why.code))
                }));
            }
            msg => panic!("unexpected {msg:?}"),
        }
    }
    (asked, told)
}

fn verifying() -> (Owner, Delayed) {
    let mut owner = roomy([STORE]);
    run(&mut owner, |owner, _| {
        let (label, config) = (LogLabel::default(), LogConfig::default());
        owner.open_own(NOW, 0, LogId(0), label, config);
    });
    (owner, Delayed::default())
}

fn client(id: u64) -> Appender {
    Appender::Client(ReqRef { shard: ME, id })
}

#[test]
fn what_begins_a_transaction_waits_for_its_coordinator_and_what_follows_behind_it() {
    let (mut owner, mut delayed) = verifying();
    let ((), _, local) = with_fx(NOW, |fx| {
        for sequence in 0..3 {
            let parts = transactional(0, sequence);
            delayed.begin(&mut owner, client(sequence as u64), parts, fx);
        }
    });
    let (asked, told) = said(local);
    assert_eq!((asked.len(), told.len(), appended(&owner)), (1, 0, 0));
    assert!(!delayed.is_empty() && delayed.deadline() > NOW.mono);
    with_fx(NOW, |fx| {
        delayed.told(&mut owner, asked[0], &[ErrorCode::None], fx)
    });
    assert_eq!((appended(&owner), delayed.is_empty()), (3, true));
    let ((), _, local) = with_fx(NOW, |fx| {
        delayed.begin(&mut owner, client(3), transactional(0, 3), fx);
    });
    assert_eq!(
        (said(local), appended(&owner)),
        ((vec![], vec![]), 4),
        "it is open"
    );
}

#[test]
fn what_is_of_no_transaction_is_refused_as_its_producer_knows_it() {
    use ErrorCode as E;
    for (error, wanted) in [
        (E::TransactionAbortable, E::InvalidTxnState),
        (E::InvalidTxnState, E::InvalidTxnState),
        (E::ProducerFenced, E::InvalidProducerEpoch),
        (E::NotCoordinator, E::NotEnoughReplicas),
        (E::ConcurrentTransactions, E::NotEnoughReplicas),
        (E::InvalidProducerIdMapping, E::InvalidProducerIdMapping),
    ] {
        let (mut owner, mut delayed) = verifying();
        let ((), _, local) = with_fx(NOW, |fx| {
            delayed.begin(&mut owner, client(0), transactional(0, 0), fx);
            delayed.begin(&mut owner, client(1), transactional(0, 1), fx);
        });
        let (asked, _) = said(local);
        let ((), _, local) = with_fx(NOW, |fx| {
            delayed.told(&mut owner, asked[0], &[error], fx);
            delayed.told(&mut owner, asked[0], &[E::None], fx);
        });
        assert_eq!(said(local).1, [(0, wanted), (1, wanted)], "{error:?}");
        assert_eq!((appended(&owner), delayed.is_empty()), (0, true));
    }
}

/// Where the coordinator is to add the partition, what is in the way mostly is the end of the transaction before.
#[test]
fn a_coordinator_that_is_busy_is_asked_again_for_a_while() {
    use ErrorCode as E;
    let (mut owner, mut delayed) = verifying();
    let mut parts = transactional(0, 0);
    if let Some(transaction) = &mut parts.transaction {
        transaction.adds = true;
    }
    let ((), _, local) = with_fx(NOW, |fx| {
        delayed.begin(&mut owner, client(0), parts, fx);
    });
    let (asked, _) = said(local);
    let mut now = NOW;
    for again in 0..5 {
        let busy = |owner: &mut Owner, delayed: &mut Delayed, now| {
            let ((), _, local) = with_fx(now, |fx| {
                delayed.told(owner, asked[0], &[E::ConcurrentTransactions], fx);
            });
            said(local)
        };
        let told = busy(&mut owner, &mut delayed, now);
        if again == 4 {
            assert_eq!(told, (vec![], vec![(0, E::ConcurrentTransactions)]));
            break;
        }
        assert_eq!(told, (vec![], vec![]), "{again}");
        assert_eq!(delayed.deadline(), now.mono.plus_ms(20));
        now.mono = delayed.deadline();
        let ((), _, local) = with_fx(now, |fx| delayed.give_up_late(&mut owner, fx));
        assert_eq!(said(local), (asked.clone(), vec![]));
    }
    assert!(delayed.is_empty());
    assert_eq!(delayed.deadline(), Mono::NEVER);
}

#[test]
fn who_is_not_answered_is_told_to_come_again() {
    let (mut owner, mut delayed) = verifying();
    let ((), _, local) = with_fx(NOW, |fx| {
        delayed.begin(&mut owner, client(0), transactional(0, 0), fx);
        delayed.give_up_late(&mut owner, fx);
    });
    assert_eq!((said(local).1, delayed.is_empty()), (vec![], false));
    let late = Now {
        mono: delayed.deadline(),
        ..NOW
    };
    let ((), _, local) = with_fx(late, |fx| delayed.give_up_late(&mut owner, fx));
    assert_eq!(said(local).1, [(0, ErrorCode::NotEnoughReplicas)]);
    assert_eq!(delayed.deadline(), Mono::NEVER);
}

/// An abort comes between the question and its answer: what it was about begins no other transaction.
#[test]
fn what_came_before_the_end_of_a_transaction_is_not_for_the_next_one() {
    let (mut owner, mut delayed) = verifying();
    let marker = MarkerPart {
        slot: 0,
        log: LogId(0),
        producer_id: 7,
        producer_epoch: 0,
        coordinator_epoch: 0,
        commits: false,
        version: 0,
    };
    let asker = MarkerAsker::Coordinator(ReqRef { shard: ME, id: 9 });
    for again in [false, true] {
        let ((), _, local) = with_fx(NOW, |fx| {
            delayed.begin(&mut owner, client(0), transactional(0, 0), fx);
        });
        let (mut asked, _) = said(local);
        let ends = appended(&owner) + 1;
        owner.write_marker(NOW, asker, marker);
        if again {
            let ((), _, local) = with_fx(NOW, |fx| {
                delayed.begin(&mut owner, client(1), transactional(0, 0), fx);
            });
            asked.extend(said(local).0);
            assert_eq!(asked.len(), 2);
        }
        let ((), _, local) = with_fx(NOW, |fx| {
            for asked in &asked {
                delayed.told(&mut owner, *asked, &[ErrorCode::None], fx);
            }
        });
        assert_eq!(said(local).1, [(0, ErrorCode::InvalidTxnState)]);
        assert_eq!(appended(&owner), ends + i64::from(again));
        assert!(delayed.is_empty());
    }
}

#[test]
fn ends_are_told_when_they_are_committed() {
    let (mut owner, _) = verifying();
    let marker = MarkerPart {
        slot: 4,
        log: LogId(0),
        producer_id: 7,
        producer_epoch: 5,
        coordinator_epoch: 3,
        commits: true,
        version: 0,
    };
    let asker = MarkerAsker::Coordinator(ReqRef { shard: ME, id: 9 });
    let mut jobs = MarkerJobs::default();
    let elsewhere = MarkerPart {
        slot: 5,
        log: LogId(1),
        ..marker
    };
    let ((), _, mut local) = with_fx(NOW, |fx| {
        jobs.begin(&mut owner, asker, vec![marker, elsewhere], fx);
    });
    let told = |msg: Option<Msg>| match msg {
        Some(Msg::MarkersWritten { asker: to, results }) if to == asker => results,
        msg => panic!("unexpected {msg:?}"),
    };
    let unknown = ErrorCode::UnknownTopicOrPartition;
    assert_eq!(told(local.pop_front()), [(5, unknown)]);
    assert!(local.is_empty());
    let ((), _, mut local) = with_fx(NOW, |fx| {
        owner.idle(fx);
        while let Some(at) = fx
            .out
            .iter()
            .position(|it| matches!(it, Output::Disk { .. }))
        {
            if let Output::Disk { store, op } = fx.out.remove(at) {
                owner.on_disk(store, op.id(), Ok(()), fx);
            }
        }
    });
    match local.pop_front() {
        Some(Msg::TransactionEnded {
            log,
            producer_id,
            commits,
        }) => assert_eq!((log, producer_id, commits), (LogId(0), 7, true)),
        msg => panic!("unexpected {msg:?}"),
    }
    assert_eq!(told(local.pop_front()), [(4, ErrorCode::None)]);
    assert!(owner.acks.is_empty());
}
