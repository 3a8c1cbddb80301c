//! What a shard owns, as images of the metadata come.

use std::sync::Arc;

use super::settings::log_config;
use super::stores::format_store;
use crate::base::limits::{
    FLUSH_ITEMS_MAX, LOGS_CHANGED_PER_SLICE, PRODUCER_KEPT_MS, PRODUCERS_PER_LOG_CHANGED,
    PROOF_AFTER_MS, REMARKS_AFTER_MS, WAITS_TOLD_PER_SLICE,
};
use crate::base::{
    BLOCK, DirectoryId, ErrorCode, Incarnation, LeaderEpoch, LogId, Mono, NodeId, NodeProcess, Now,
    Offset, ShardId, StoreId, TopicId,
};
use crate::broker::fx::Fx;
use crate::broker::io::Output;
use crate::broker::msg::{Appender, Msg, ProducePart, ReqRef};
use crate::broker::owner::Owner;
use crate::broker::owner::adopt::Adoption;
use crate::broker::testing::with_fx;
use crate::config::{BrokerConfig, TopicConfig};
use crate::controller::testing::partition;
use crate::controller::{Delta, Image, MetadataRecord, Registration};
use crate::log::Log;
use crate::record::{self, BatchBuilder, Codec};
use crate::replica::{Leader, Mark};
use crate::store::{DiskOp, LogLabel, StoreConfig};

#[path = "waiting_tests.rs"]
mod waiting;

const NOW: Now = Now {
    mono: Mono(1),
    wall_ms: 1_700_000_000_000,
};

struct Fixture {
    owner: Owner,
    image: Image,
}

impl Fixture {
    fn new() -> Self {
        let config = BrokerConfig::default();
        let store = StoreConfig {
            journal_bytes: 1 << 20,
            initial_bytes: 4 << 20,
            raw: true,
            ..config.store()
        };
        let slots = vec![format_store(StoreId(0), store, 1).0];
        let mut image = Image::of_node([DirectoryId::new(1, StoreId(0))]);
        let me = Registration {
            member: NodeProcess {
                node: config.node(),
                incarnation: Incarnation(1),
            },
            ..Registration::default()
        };
        image.replay(&MetadataRecord::Broker(me)).unwrap();
        Self {
            owner: Owner::new(ShardId(0), Arc::new(config), slots),
            image,
        }
    }

    /// Looks at one partition at a time.
    fn adopt(&mut self, delta: Delta) -> Vec<LogId> {
        let mut adoption = Adoption::new(Arc::new(self.image.clone()), Arc::new(delta));
        std::iter::repeat_with(|| self.owner.adopt(NOW, &mut adoption, 1))
            .find_map(|adopted| adopted)
            .expect("the end of it")
            .strays
    }

    /// Commits records; the shard gets what is different.
    fn change(&mut self, records: &[MetadataRecord]) {
        let mut delta = Delta::default();
        for record in records {
            delta.note(&self.image, record);
            self.image.replay(record).unwrap();
        }
        self.adopt(delta);
    }

    /// A log as recovery finds it, of a topic of this id.
    fn recovered(&mut self, log: u64, topic: u8) {
        let label = LogLabel {
            topic: format!("topic-{topic}"),
            topic_id: TopicId([topic; 16]),
            partition: 0,
        };
        let config = log_config(
            "a",
            &TopicConfig::effective(&self.owner.config, &Default::default()),
            &self.owner.config,
        );
        let slot = &mut self.owner.slots[0];
        let made = Log::create(LogId(log), label, config, NOW, &mut slot.store);
        slot.recovered.insert(LogId(log), made);
    }

    /// The first image after a start.
    fn start(&mut self) -> Vec<LogId> {
        let delta = Delta::everything();
        self.adopt(delta)
    }

    fn served(&self) -> Vec<u64> {
        let mut logs: Vec<u64> = self.owner.partitions.keys().map(|log| log.0).collect();
        logs.sort_unstable();
        logs
    }

    fn strays(&self) -> Vec<u64> {
        self.owner.slots[0]
            .recovered
            .keys()
            .map(|log| log.0)
            .collect()
    }
}

fn topic(id: u8) -> MetadataRecord {
    MetadataRecord::Topic {
        name: format!("topic-{id}"),
        id: TopicId([id; 16]),
    }
}

fn remove(id: u8) -> MetadataRecord {
    MetadataRecord::RemoveTopic {
        id: TopicId([id; 16]),
    }
}

/// However many there are: those of other shards, too, when a node has fewer than it had.
#[test]
fn the_stores_of_a_shard_share_what_its_tails_may_take() {
    let config = BrokerConfig::default();
    let store = |id| format_store(StoreId(id), config.store(), 1).0;
    let slots = (0..3).map(store).collect();
    let mut owner = Owner::new(ShardId(0), Arc::new(config.clone()), slots);
    let shares = |owner: &Owner| -> Vec<usize> {
        let slots = owner.slots.iter();
        slots.map(|slot| slot.store.tail_bytes_max()).collect()
    };
    assert_eq!(shares(&owner), [config.store().tail_bytes_max / 3; 3]);
    owner.set_tail_bytes_max(1000);
    assert_eq!(shares(&owner), [333; 3]);
}

#[test]
fn what_is_a_stray_by_the_metadata_is_kept_for_ever() {
    let mut f = Fixture::new();
    f.recovered(7, 9);
    let found = f.start();
    assert_eq!(found, [LogId(7)]);
    f.change(&[MetadataRecord::Stray { log: LogId(7) }]);
    assert_eq!(f.image.next_log, 8, "nobody else gets its id");
    f.change(&[topic(1), partition(1, 0, 8)]);
    assert_eq!(f.start(), [], "the metadata knows");
    assert_eq!((f.served(), f.strays()), (vec![8], vec![7]));
}

#[test]
fn logs_come_and_go_with_their_topics() {
    let mut f = Fixture::new();
    f.change(&[topic(1), partition(1, 0, 1), topic(2), partition(2, 0, 2)]);
    assert_eq!(f.served(), [1, 2]);
    f.change(&[partition(2, 1, 3)]);
    assert_eq!(f.served(), [1, 2, 3]);
    f.change(&[remove(1)]);
    assert_eq!(f.served(), [2, 3]);
}

#[test]
fn who_waits_in_a_partition_that_goes_is_told() {
    let mut f = Fixture::new();
    f.change(&[topic(1), partition(1, 0, 1)]);
    let part = ProducePart {
        slot: 3,
        ..batch(b"v")
    };
    let shard = ShardId(0);
    let mut ack = f
        .owner
        .acks
        .begin(Appender::Client(ReqRef { shard, id: 9 }), 1, NOW.mono);
    f.owner.append(NOW, part, Mark::Committed, &mut ack);
    assert_eq!((ack.waiting, &ack.results[..]), (1, &[][..]));
    let token = f.owner.tell_when_committed(LogId(1), Offset(1));
    let ((), _, mut local) = with_fx(NOW, |fx| {
        f.owner.acks.add(ack, fx);
        assert!(!f.owner.is_quiet() && !f.owner.has_more());
        f.change(&[remove(1)]);
        assert!(f.owner.has_more());
        f.owner.slice(fx);
    });
    assert!(f.owner.acks.is_empty() && !f.owner.has_more());
    let gone = ErrorCode::UnknownTopicOrPartition;
    assert_eq!(
        f.owner.acks.told,
        [(token, Err(gone))],
        "it is not committed"
    );
    let late = f.owner.tell_when_committed(LogId(1), Offset(1));
    assert_eq!(f.owner.acks.told[1..], [(late, Err(gone))]);
    let Some(Msg::ProduceDone { id: 9, results, .. }) = local.pop_front() else {
        panic!("no answer");
    };
    assert_eq!(results, [(3, Err(gone.into()))]);
}

fn batch(value: &[u8]) -> ProducePart {
    let mut builder = BatchBuilder::new(Codec::None, NOW.wall_ms);
    builder.push(NOW.wall_ms, None, Some(value), &[]);
    let batch = builder.build();
    ProducePart {
        slot: 0,
        log: LogId(1),
        info: record::parse(&batch).unwrap(),
        batch,
        admission: None,
        ends: false,
    }
}

/// Requests of one batch each, which all wait.
fn produce(owner: &mut Owner, requests: usize, fx: &mut Fx<'_>) {
    let shard = ShardId(0);
    for id in 0..requests as u64 {
        let req = Appender::Client(ReqRef { shard, id });
        let mut ack = owner.acks.begin(req, 1, NOW.mono);
        owner.append(NOW, batch(b"v"), Mark::Committed, &mut ack);
        assert_eq!(ack.waiting, 1);
        owner.acks.add(ack, fx);
    }
}

#[test]
fn what_becomes_durable_at_once_is_told_some_at_a_time() {
    const REQUESTS: usize = 10 * WAITS_TOLD_PER_SLICE;
    let mut f = Fixture::new();
    f.change(&[topic(1), partition(1, 0, 1)]);
    let owner = &mut f.owner;
    with_fx(NOW, |fx| {
        produce(owner, REQUESTS, fx);
        // All of it is on its way, and the first flush is the last one that ends.
        owner.want_checkpoint();
        (0..2 * REQUESTS / FLUSH_ITEMS_MAX).for_each(|_| owner.idle(fx));
        let mut told = Vec::new();
        while !owner.is_quiet() {
            let asked = std::mem::take(fx.out);
            for output in asked.into_iter().rev() {
                if let Output::Disk { store, op } = output {
                    owner.on_disk(store, op.id(), Ok(()), fx);
                }
            }
            owner.slice(fx);
            owner.idle(fx);
            told.push(fx.local.drain(..).count());
        }
        assert_eq!(told.iter().sum::<usize>(), REQUESTS);
        let most = told.into_iter().max().unwrap_or(0);
        assert!(most <= WAITS_TOLD_PER_SLICE, "{most} at once");
    });
}

#[test]
fn who_waits_in_what_goes_is_told_some_at_a_time() {
    const REQUESTS: usize = 10 * WAITS_TOLD_PER_SLICE;
    let mut f = Fixture::new();
    f.change(&[topic(1), partition(1, 0, 1)]);
    with_fx(NOW, |fx| {
        produce(&mut f.owner, REQUESTS, fx);
        f.change(&[remove(1)]);
        let mut told = 0;
        while !f.owner.acks.is_empty() {
            assert!(f.owner.has_more());
            f.owner.slice(fx);
            let now = fx.local.drain(..).count();
            assert!(now <= WAITS_TOLD_PER_SLICE, "{now} at once");
            told += now;
        }
        assert_eq!(told, REQUESTS);
    });
}

/// The partition that a test produces to has another replica, which is in sync or not.
fn replicate(owner: &mut Owner, is_in_sync: bool, min: usize) {
    let open = owner.partitions.get_mut(&LogId(1)).unwrap();
    let here = (&mut open.log, &mut owner.slots[0].store);
    let replicas = [owner.config.node(), NodeId(owner.config.node().0 + 1)];
    let in_sync = &replicas[..1 + usize::from(is_in_sync)];
    let leader = open.leader.as_mut().expect("it leads");
    let epoch = leader.partition_epoch() + 1;
    leader.assign(here, epoch, (&replicas, in_sync), min);
}

/// What the disks are asked for is done.
fn flush(owner: &mut Owner, fx: &mut Fx<'_>) {
    owner.idle(fx);
    for output in std::mem::take(fx.out) {
        if let Output::Disk { store, op } = output {
            owner.on_disk(store, op.id(), Ok(()), fx);
        }
    }
}

/// One record of a producer; an error if it does not come to wait.
fn produce_one(
    owner: &mut Owner,
    now: Now,
    log: u64,
    (id, sequence): (i64, i32),
) -> Result<(), ErrorCode> {
    let mut builder = BatchBuilder::new(Codec::None, NOW.wall_ms).producer(id, 0, sequence);
    builder.push(NOW.wall_ms, None, Some(b"v"), &[]);
    let batch = builder.build();
    let part = ProducePart {
        slot: 0,
        log: LogId(log),
        info: record::parse(&batch).unwrap(),
        batch,
        admission: None,
        ends: false,
    };
    let (shard, id) = (ShardId(0), 1);
    let req = Appender::Client(ReqRef { shard, id });
    let mut ack = owner.acks.begin(req, 1, now.mono);
    owner.append(now, part, Mark::Committed, &mut ack);
    if let Some((_, result)) = ack.results.pop() {
        return Err(result.expect_err("nothing is durable yet").code);
    }
    assert_eq!(ack.waiting, 1);
    Ok(())
}

/// Produces as clients do that make up their ids.
fn produce_as(owner: &mut Owner, now: Now, log: u64, ids: std::ops::Range<i64>) {
    for id in ids {
        assert_eq!(produce_one(owner, now, log, (id, 0)), Ok(()));
    }
}

#[test]
fn what_too_few_replicas_refused_is_not_overtaken() {
    let mut f = Fixture::new();
    f.change(&[topic(1), partition(1, 0, 1)]);
    let owner = &mut f.owner;
    replicate(owner, false, 2);
    let refused = Err(ErrorCode::NotEnoughReplicas);
    assert_eq!(produce_one(owner, NOW, 1, (7, 0)), refused);
    replicate(owner, false, 1);
    let gap = Err(ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(produce_one(owner, NOW, 1, (7, 1)), gap);
    assert_eq!(produce_one(owner, NOW, 1, (7, 0)), Ok(()));
    assert_eq!(produce_one(owner, NOW, 1, (7, 1)), Ok(()));
    // Sent once more it waits for those that are in sync again, as it did before.
    replicate(owner, false, 2);
    assert_eq!(produce_one(owner, NOW, 1, (7, 1)), Ok(()));
    assert_eq!(produce_one(owner, NOW, 1, (7, 2)), refused);
}

/// A new leader does not know yet how far the one before has told clients that records are.
#[test]
fn a_new_leader_deletes_what_it_knows_to_be_committed() {
    let mut f = Fixture::new();
    f.change(&[topic(1), partition(1, 0, 1)]);
    let owner = &mut f.owner;
    assert_eq!(produce_one(owner, NOW, 1, (7, 0)), Ok(()));
    let me = owner.config.node();
    let mut delete = |began, before| {
        let open = owner.partitions.get_mut(&LogId(1)).unwrap();
        open.leader = Some(Leader::begins(me, LeaderEpoch(1), Offset(began)));
        let deleted = owner.delete_records(NOW, LogId(1), Offset(before));
        deleted.map_err(|refused| refused.code)
    };
    assert_eq!(delete(1, 0), Ok(Offset(0)));
    for before in [1, 2, Log::DELETE_ALL.0] {
        assert_eq!(delete(1, before), Err(ErrorCode::OffsetNotAvailable));
    }
    // One whose epoch begins with what is committed knows.
    assert_eq!(delete(0, 1), Err(ErrorCode::OffsetOutOfRange));
    assert_eq!(delete(0, Log::DELETE_ALL.0), Ok(Offset(0)));
}

#[test]
fn producers_of_a_shard_are_bounded_and_those_that_have_most_get_less() {
    const MOST: usize = 1000;
    let mut f = Fixture::new();
    f.change(&[topic(1), topic(2)]);
    for log in 1..=10 {
        f.change(&[partition(1, log - 1, log as u64)]);
    }
    f.change(&[partition(2, 0, 11)]);
    let owner = &mut f.owner;
    owner.kept.most.producers = MOST;
    produce_as(owner, NOW, 11, 0..40);
    with_fx(NOW, |fx| owner.idle(fx));
    let mut peak = 0;
    for round in 0..100 {
        // Those of the rounds before have been silent for long.
        let mono = NOW.mono.plus_ms(round as u64 * 2 * PRODUCER_KEPT_MS);
        let now = Now { mono, ..NOW };
        for log in 1..=10 {
            produce_as(owner, now, log, round * 20..(round + 1) * 20);
            with_fx(NOW, |fx| owner.idle(fx));
            peak = peak.max(owner.kept.kept().producers);
        }
    }
    let entries = |owner: &Owner, log| owner.partitions[&LogId(log)].log.kept().producers;
    let all = (1..=11).map(|log| entries(owner, log)).sum::<usize>();
    assert_eq!(owner.kept.kept().producers, all);
    assert!(peak <= MOST + 200, "{peak}");
    assert_eq!(entries(owner, 11), 40, "it has not much");
    f.change(&[remove(1)]);
    assert_eq!(f.owner.kept.kept().producers, 40);
}

#[test]
fn a_pass_of_retention_counts_producers() {
    const EACH: usize = PRODUCERS_PER_LOG_CHANGED * LOGS_CHANGED_PER_SLICE / 8;
    let mut f = Fixture::new();
    f.change(&[topic(1)]);
    for log in 1..=12 {
        f.change(&[partition(1, log - 1, log as u64)]);
        produce_as(&mut f.owner, NOW, log as u64, 0..EACH as i64);
    }
    let mut turns = 0;
    while turns == 0 || !f.owner.retaining.is_empty() {
        with_fx(NOW, |fx| f.owner.idle(fx));
        turns += 1;
    }
    assert_eq!(turns, 2);
}

#[test]
fn a_pass_of_retention_ends_however_often_one_is_due() {
    const LOGS: usize = 3 * LOGS_CHANGED_PER_SLICE;
    let mut f = Fixture::new();
    let mut config = BrokerConfig::clone(&f.owner.config);
    config.log_retention_check_interval_ms = 1;
    f.owner.config = Arc::new(config);
    f.change(&[topic(1)]);
    for log in 0..LOGS as i32 {
        f.change(&[partition(1, log, log as u64 + 1)]);
    }
    let mut ms = 0;
    let mut turn = |owner: &mut Owner| {
        ms += 1;
        let mono = NOW.mono.plus_ms(ms);
        let later = |wall_ms| Now { mono, wall_ms };
        with_fx(later(NOW.wall_ms), |fx| owner.idle(fx));
        owner.retaining.clone()
    };
    let mut missing = turn(&mut f.owner);
    for _ in 0..LOGS / LOGS_CHANGED_PER_SLICE {
        let left = turn(&mut f.owner);
        missing.retain(|log| left.contains(log));
    }
    assert_eq!(missing.len(), 0, "of {LOGS} were never looked at");
    // One that is due is no reason not to stop.
    f.owner.wind_down();
    turn(&mut f.owner);
    assert!(f.owner.retaining.is_empty() && f.owner.next_deadline() > NOW.mono.plus_ms(1000));
}

#[test]
fn what_was_removed_and_is_still_on_the_disk_goes_at_the_next_start() {
    let mut f = Fixture::new();
    f.recovered(1, 1);
    f.recovered(2, 2);
    let records = [
        topic(1),
        partition(1, 0, 1),
        topic(2),
        partition(2, 0, 2),
        remove(1),
    ];
    for record in &records {
        f.image.replay(record).unwrap();
    }
    f.start();
    assert_eq!((f.served(), f.strays()), (vec![2], vec![]));
}

#[test]
fn what_recovery_has_found_is_decided_about_some_at_a_time() {
    const FOUND: u64 = 20;
    let mut f = Fixture::new();
    // One half is of a topic that was removed, the other half was never given out.
    (1..=2 * FOUND).for_each(|log| f.recovered(log, 1));
    for record in [topic(1), partition(1, 0, FOUND), remove(1)] {
        f.image.replay(&record).unwrap();
    }
    let everything = Delta::everything();
    let mut adoption = Adoption::new(Arc::new(f.image.clone()), Arc::new(everything));
    let mut left = f.strays().len();
    let (mut turns, mut strays) = (0, None);
    while strays.is_none() {
        strays = f.owner.adopt(NOW, &mut adoption, 2);
        turns += 1;
        assert!(left - f.strays().len() <= 2);
        left = f.strays().len();
    }
    assert!(turns >= FOUND, "{turns}");
    let mut strays = strays.expect("the end of it").strays;
    strays.sort_unstable();
    assert!(
        strays
            .into_iter()
            .map(|log| log.0)
            .eq(FOUND + 1..=2 * FOUND)
    );
}

/// What is damaged is not given up because its topic is looked at in slices.
#[test]
fn what_is_a_partitions_and_damaged_stays() {
    let mut f = Fixture::new();
    f.owner.damaged.insert(LogId(2), 0);
    for record in [topic(1), partition(1, 0, 1), partition(1, 1, 2)] {
        f.image.replay(&record).unwrap();
    }
    assert_eq!(f.start(), []);
    assert_eq!(f.served(), [1]);
    assert!(f.owner.is_damaged(LogId(2)));
}

/// A partition that others have too is never empty where it is led, or where it counts.
#[test]
fn what_is_damaged_and_others_have_is_made_anew_to_follow_and_for_nothing_else() {
    let mut f = Fixture::new();
    f.owner.roles.replicates = true;
    f.owner.damaged.insert(LogId(1), 0);
    let me = f.owner.config.node();
    let other = NodeId(me.0 + 1);
    let is = |leader: NodeId, in_sync: &[NodeId], epoch: i32| {
        let MetadataRecord::Partition(mut it) = partition(1, 0, 1) else {
            panic!("a partition");
        };
        it.replicas = vec![me, other];
        it.directories.push(DirectoryId([9; 16]));
        (it.leader, it.isr) = (leader, in_sync.to_vec());
        (it.leader_epoch, it.partition_epoch) = (LeaderEpoch(epoch), epoch);
        MetadataRecord::Partition(it)
    };
    f.change(&[topic(1), is(me, &[me, other], 1)]);
    for (leader, in_sync) in [
        (me, &[me, other][..]),
        (me, &[me]),
        (other, &[me, other]),
        (NodeId::NOBODY, &[other]),
    ] {
        f.change(&[is(leader, in_sync, 2)]);
        let topic = Arc::clone(f.image.topic("topic-1").unwrap());
        assert!(!f.owner.recreate(NOW, &topic, 0), "{leader} {in_sync:?}");
        assert!(f.owner.has_lost(LogId(1)));
        assert!(f.owner.roles.reassigned.remove(&LogId(1)));
    }
    f.change(&[is(other, &[other], 3)]);
    let topic = Arc::clone(f.image.topic("topic-1").unwrap());
    assert!(f.owner.recreate(NOW, &topic, 0));
    let open = &f.owner.partitions[&LogId(1)];
    assert!(open.leader.is_none() && open.log.end_offset() == Offset(0));
    assert!(!f.owner.has_lost(LogId(1)));
}

/// An older copy of the metadata, or none, must not cost a log.
#[test]
fn a_log_that_the_metadata_never_gave_out_is_kept() {
    let mut f = Fixture::new();
    f.recovered(1, 1);
    f.recovered(7, 9);
    f.start();
    assert_eq!(f.served(), [0u64; 0]);
    let mut kept = f.strays();
    kept.sort_unstable();
    assert_eq!(kept, [1, 7]);
    // Given out again by metadata that did not know of it: not served under the other topic's name.
    f.change(&[topic(2), partition(2, 0, 1)]);
    assert_eq!(f.served(), [0u64; 0]);
    assert!(f.strays().contains(&1));
    // Nor does it go when the ids have grown beyond it and everything is looked at once more.
    f.start();
    assert!(f.strays().contains(&1));
    // Under its own name it is what was lost.
    f.change(&[topic(9), partition(9, 0, 7)]);
    assert_eq!((f.served(), f.strays()), (vec![7], vec![1]));
}

/// Performs at once all that the stores ask for; how much was written.
fn settle(owner: &mut Owner, mono: Mono) -> usize {
    let mut written = 0;
    with_fx(Now { mono, ..NOW }, |fx| {
        loop {
            owner.idle(fx);
            let asked = std::mem::take(fx.out);
            if asked.is_empty() {
                return written;
            }
            for output in asked {
                if let Output::Disk { store, op } = output {
                    if let DiskOp::Write { data, .. } = &op {
                        written += data.len();
                    }
                    owner.on_disk(store, op.id(), Ok(()), fx);
                }
            }
        }
    })
    .0
}

#[test]
fn a_store_at_rest_says_once_what_is_durable() {
    let settings = StoreConfig {
        raw: true,
        ..StoreConfig::default()
    };
    let slots = vec![format_store(StoreId(0), settings, 1).0];
    let mut owner = Owner::new(ShardId(0), Arc::new(BrokerConfig::default()), slots);
    let note = |owner: &mut Owner| owner.slots[0].store.note(LogId(1), "note".into());
    let later = |ms| NOW.mono.plus_ms(ms);
    (owner.slots[0].store).create_log(LogId(1), LogLabel::default(), Offset(0));
    assert_eq!(settle(&mut owner, later(0)), BLOCK);
    for ms in 0..PROOF_AFTER_MS {
        assert_eq!(settle(&mut owner, later(ms)), 0, "at {ms} ms");
        assert_eq!(owner.next_deadline(), later(PROOF_AFTER_MS));
    }
    assert_eq!(settle(&mut owner, later(PROOF_AFTER_MS)), BLOCK);
    // Then there is nothing to wake up for.
    assert!(owner.next_deadline() > later(1000));
    assert_eq!(settle(&mut owner, later(1000)), 0);
    // What its logs remark waits longer.
    owner.slots[0].store.remark(LogId(1), "remark".into());
    assert_eq!(settle(&mut owner, later(1000)), 0);
    assert_eq!(owner.next_deadline(), later(1000 + REMARKS_AFTER_MS));
    assert_eq!(settle(&mut owner, later(1000 + REMARKS_AFTER_MS)), BLOCK);
    assert!(owner.next_deadline() > later(10_000));
    // And no longer, once there is a flush to be proven.
    owner.slots[0].store.remark(LogId(1), "other".into());
    assert_eq!(settle(&mut owner, later(3000)), 0);
    note(&mut owner);
    assert_eq!(settle(&mut owner, later(3000)), BLOCK);
    assert_eq!(settle(&mut owner, later(3000 + PROOF_AFTER_MS)), BLOCK);
    assert!(owner.next_deadline() > later(10_000));
    // Under load the next flush says it.
    for n in 1000..1100 {
        note(&mut owner);
        let now = later(1000 + n * (PROOF_AFTER_MS - 1));
        assert_eq!(settle(&mut owner, now), BLOCK);
    }
}
