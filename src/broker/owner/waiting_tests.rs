//! Who waits for other replicas, and for how long.

use std::collections::VecDeque;

use super::*;
use crate::base::limits::BATCHES_WAITING_MAX;
use crate::broker::msg::{Answered, AppendFate};
use crate::broker::owner::acks::LogWaiter;

/// A partition that other nodes have too.
fn replicated() -> Owner {
    let mut f = Fixture::new();
    f.change(&[topic(1), partition(1, 0, 1)]);
    replicate(&mut f.owner, true, 1);
    f.owner
}

/// So much later.
fn at(ms: u64) -> Now {
    Now {
        mono: NOW.mono.plus_ms(ms),
        ..NOW
    }
}

#[test]
fn other_replicas_are_waited_for_as_long_as_is_wanted_and_no_longer() {
    let mut owner = replicated();
    let owner = &mut owner;
    let timeout_ms = owner.config.offsets_commit_timeout_ms as u64;
    let shard = ShardId(0);
    let appenders = [
        Appender::Client(ReqRef { shard, id: 1 }),
        Appender::Coordinator(ReqRef { shard, id: 2 }, LeaderEpoch(0)),
    ];
    with_fx(NOW, |fx| {
        for appender in appenders {
            let mut ack = owner.acks.begin(appender, 1, NOW.mono);
            ack.until = owner.waits_until(appender, at(1_000).mono, NOW.mono);
            owner.append(NOW, batch(b"v"), Mark::Committed, &mut ack);
            owner.acks.add(ack, fx);
        }
        flush(owner, fx);
    });
    let mut told = Vec::new();
    for ms in (0..2 * timeout_ms).step_by(100) {
        let now = at(ms);
        assert!(owner.next_deadline() > now.mono || ms > 0);
        let ((), _, local) = with_fx(now, |fx| owner.idle(fx));
        for msg in local {
            told.push(match msg {
                Msg::ProduceDone { results, .. } => (ms, results[0].1.clone().err()),
                Msg::Appended {
                    id: 2,
                    fate: AppendFate::Late,
                } => (ms, None),
                other => panic!("{other:?}"),
            });
        }
    }
    let [(client_ms, client), (coordinator_ms, None)] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(*client, Some(ErrorCode::RequestTimedOut.into()));
    assert!((1_000..timeout_ms).contains(client_ms), "{told:?}");
    assert!(*coordinator_ms >= timeout_ms, "{told:?}");
    assert_eq!(owner.partitions[&LogId(1)].log.end_offset(), Offset(2));
    // The coordinator is told once more.
    assert!(!owner.acks.is_empty() && owner.acks.waiting() == 1);
    let later = at(2 * timeout_ms);
    let ((), _, local) = with_fx(later, |fx| {
        let other = NodeId(owner.config.node().0 + 1);
        owner.replicated(LogId(1), other, Offset(2));
        owner.slice(fx);
    });
    assert_eq!(fates(local), [(2, AppendFate::Committed(Ok(())))]);
    assert!(owner.acks.is_empty() && owner.acks.waiting() == 0);
}

/// What coordinators are told.
fn fates(local: VecDeque<Msg>) -> Vec<(u64, AppendFate)> {
    let fates = local.into_iter().map(|msg| match msg {
        Msg::Appended { id, fate } => (id, fate),
        other => panic!("{other:?}"),
    });
    fates.collect()
}

/// Coordinators rely on the order, and nobody has to be told of what is there that it takes too long.
#[test]
fn who_is_about_to_be_told_is_not_told_that_it_is_late() {
    const MANY: u64 = 2 * WAITS_TOLD_PER_SLICE as u64;
    let mut owner = replicated();
    let owner = &mut owner;
    let timeout_ms = owner.config.offsets_commit_timeout_ms as u64;
    for (id, now) in (0..MANY).map(|id| (id, at(id.min(1_000)))) {
        let shard = ShardId(0);
        let own = Appender::Coordinator(ReqRef { shard, id }, LeaderEpoch(0));
        let mut ack = owner.acks.begin(own, 1, now.mono);
        ack.until = owner.waits_until(own, Mono::NEVER, now.mono);
        owner.append(now, batch(b"v"), Mark::Committed, &mut ack);
    }
    let end = Offset(MANY as i64);
    with_fx(at(1_000), |fx| {
        while owner.partitions[&LogId(1)].log.durable_end() < end {
            flush(owner, fx);
        }
    });
    // Some are late already, others are when all is committed and not all are told yet.
    let ((), _, mut local) = with_fx(at(timeout_ms + 600), |fx| owner.idle(fx));
    let late = local.len() as u64;
    assert!((1..MANY).contains(&late), "{late}");
    assert!(
        fates(local)
            .iter()
            .all(|(_, fate)| *fate == AppendFate::Late)
    );
    let other = NodeId(owner.config.node().0 + 1);
    ((), _, local) = with_fx(at(timeout_ms + 2_000), |fx| {
        owner.replicated(LogId(1), other, end);
        while owner.acks.waiting() > 0 {
            owner.slice(fx);
            owner.idle(fx);
        }
    });
    let committed = |id| (id, AppendFate::Committed(Ok(())));
    assert!(fates(local).into_iter().eq((0..MANY).map(committed)));
}

#[test]
fn a_coordinator_is_told_whether_its_records_are_in_the_log() {
    let mut f = Fixture::new();
    f.change(&[topic(1), partition(1, 0, 1)]);
    let owner = &mut f.owner;
    replicate(owner, true, 2);
    let append = |owner: &mut Owner, id, epoch, fx: &mut Fx<'_>| {
        let shard = ShardId(0);
        let own = Appender::Coordinator(ReqRef { shard, id }, LeaderEpoch(epoch));
        let mut ack = owner.acks.begin(own, 1, NOW.mono);
        owner.append(NOW, batch(b"v"), Mark::Committed, &mut ack);
        owner.acks.add(ack, fx);
    };
    let elsewhere = ErrorCode::NotLeaderOrFollower;
    let ((), _, local) = with_fx(NOW, |fx| {
        append(owner, 1, 0, fx);
        // Another one may have led since that was decided.
        append(owner, 2, 1, fx);
        flush(owner, fx);
        let other = NodeId(owner.config.node().0 + 1);
        owner.replicated(LogId(1), other, Offset(1));
        replicate(owner, false, 2);
        owner.slice(fx);
        append(owner, 3, 0, fx);
        replicate(owner, true, 2);
        append(owner, 4, 0, fx);
        owner.resign(LogId(1), elsewhere);
        owner.slice(fx);
        append(owner, 5, 0, fx);
    });
    let after = Err(ErrorCode::NotEnoughReplicasAfterAppend);
    let told = fates(local);
    let AppendFate::Refused(few) = &told[2].1 else {
        panic!("{told:?}");
    };
    assert_eq!(few.code, ErrorCode::NotEnoughReplicas);
    let expected = [
        (2, AppendFate::Refused(elsewhere.into())),
        (1, AppendFate::Committed(after)),
        (3, AppendFate::Refused(few.clone())),
        (4, AppendFate::Left(elsewhere)),
        (5, AppendFate::Refused(elsewhere.into())),
    ];
    assert_eq!(told, expected);
    assert!(owner.acks.is_empty());
}

#[test]
fn no_more_waits_for_other_replicas_than_there_is_memory_for() {
    let mut f = Fixture::new();
    f.change(&[topic(1), partition(1, 0, 1)]);
    let owner = &mut f.owner;
    replicate(owner, true, 1);
    assert_eq!(produce_one(owner, NOW, 1, (7, 0)), Ok(()));
    let shard = ShardId(0);
    with_fx(NOW, |fx| {
        let mut ack = owner
            .acks
            .begin(Appender::Client(ReqRef { shard, id: 1 }), 1, NOW.mono);
        ack.waiting = BATCHES_WAITING_MAX;
        owner.acks.add(ack, fx);
    });
    let refused = Err(ErrorCode::NotEnoughReplicas);
    assert_eq!(produce_one(owner, NOW, 1, (7, 1)), refused);
    // What is in the log is not refused, nor does it wait.
    let late = Err(ErrorCode::RequestTimedOut);
    assert_eq!(produce_one(owner, NOW, 1, (7, 0)), late);
    // A disk alone is waited for all the same.
    let open = owner.partitions.get_mut(&LogId(1)).unwrap();
    let here = (&mut open.log, &mut owner.slots[0].store);
    let me = [owner.config.node()];
    let leader = open.leader.as_mut().expect("it leads");
    let epoch = leader.partition_epoch() + 1;
    leader.assign(here, epoch, (&me, &me), 1);
    assert_eq!(produce_one(owner, NOW, 1, (7, 1)), Ok(()));
}

/// Whoever leads next must not bring back what a client was told is deleted (KIP-107).
#[test]
fn what_is_deleted_is_told_when_all_that_are_in_sync_have_dropped_it() {
    let mut f = Fixture::new();
    f.change(&[topic(1), partition(1, 0, 1)]);
    let owner = &mut f.owner;
    let (log, other) = (LogId(1), NodeId(owner.config.node().0 + 1));
    replicate(owner, true, 1);
    let dropped = |id: u64| LogWaiter::Dropped {
        req: ReqRef {
            shard: ShardId(0),
            id,
        },
        slot: 0,
        answered: Answered {
            offset: 1,
            timestamp_ms: -1,
            leader_epoch: -1,
        },
    };
    let told = |local: VecDeque<Msg>| -> Vec<(u64, Option<ErrorCode>)> {
        let answers = local.into_iter().filter_map(|msg| match msg {
            Msg::QueryDone { id, results } => Some((id, results[0].1.err())),
            _ => None,
        });
        answers.collect()
    };
    let ((), _, local) = with_fx(NOW, |fx| {
        produce(owner, 2, fx);
        flush(owner, fx);
        owner.replicated(log, other, Offset(2));
        assert_eq!(owner.delete_records(NOW, log, Offset(1)), Ok(Offset(1)));
        let soon = NOW.mono.plus_ms(1);
        for (id, until) in [(1, Mono::NEVER), (2, soon)] {
            let until = owner.waits_for_others(log, until);
            let at = (Offset(1), until);
            assert!(owner.wait(log, Mark::Dropped, at, dropped(id)).is_none());
            owner.may_be_late(NOW.mono, log, until);
        }
        flush(owner, fx);
    });
    assert_eq!(told(local), [], "the other one may bring it back");
    let later = Now {
        mono: NOW.mono.plus_ms(2_000),
        ..NOW
    };
    let ((), _, local) = with_fx(later, |fx| owner.idle(fx));
    let late = Some(ErrorCode::RequestTimedOut);
    assert_eq!(told(local), [(2, late)], "behind one that waits on");
    let ((), _, local) = with_fx(later, |fx| {
        owner.dropped(log, other, Offset(1));
        owner.slice(fx);
    });
    assert_eq!(told(local), [(1, None)]);
    let ((), _, local) = with_fx(later, |fx| {
        assert_eq!(owner.delete_records(NOW, log, Offset(2)), Ok(Offset(2)));
        let at = (Offset(2), later.mono);
        assert!(owner.wait(log, Mark::Dropped, at, dropped(3)).is_none());
        owner.may_be_late(later.mono, log, at.1);
        flush(owner, fx);
    });
    assert_eq!(told(local), []);
    let latest = Now {
        mono: later.mono.plus_ms(2_000),
        ..NOW
    };
    let ((), _, local) = with_fx(latest, |fx| owner.idle(fx));
    assert_eq!(told(local), [(3, late)]);
}

/// As Kafka's `checkEnoughReplicasReachOffset`: the other one has it, and has left since.
#[test]
fn what_is_committed_and_has_too_few_in_sync_by_then_is_told_so() {
    let mut f = Fixture::new();
    f.change(&[topic(1), partition(1, 0, 1)]);
    let owner = &mut f.owner;
    replicate(owner, true, 2);
    let ((), _, local) = with_fx(NOW, |fx| {
        produce(owner, 1, fx);
        flush(owner, fx);
        let other = NodeId(owner.config.node().0 + 1);
        owner.replicated(LogId(1), other, Offset(1));
        replicate(owner, false, 2);
        owner.slice(fx);
    });
    let [Msg::ProduceDone { results, .. }] = &Vec::from(local)[..] else {
        panic!("one answer");
    };
    let after = ErrorCode::NotEnoughReplicasAfterAppend;
    assert_eq!(results[..], [(0, Err(after.into()))]);
}
