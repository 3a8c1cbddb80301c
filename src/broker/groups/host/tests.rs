//! Tests of the coordinators of a shard, with its owner, a disk, and images that come when the test says so.

use std::sync::Arc;

use super::*;
use crate::base::{DirectoryId, NodeId, Offset, TopicId};
use crate::broker::control::testing::{NOW, Site, directories, req, topic};
use crate::broker::data::produce::owner::Delayed;
use crate::config::TopicConfig;
use crate::controller::MetadataRecord;
use crate::controller::testing::{broker, partition};
use crate::coordinator::{FetchedOf, FetchedOffset, InstanceState, OffsetsOf, Stability};
use crate::group::join::JoinRequest;
use crate::group::testing::commit_of;
use crate::group::{Name, Protocol, records};
use crate::log::LogConfig;
use crate::record;
use crate::store::LogLabel;

mod late;

const OFFSETS_LOG: LogId = LogId(5);

/// A shard with the one partition of `__consumer_offsets`, which is served, and a topic besides.
struct Fixture {
    site: Site,
    delayed: Delayed,
    coordinators: Coordinators,
    image: Image,
    /// Versions of images that the control shard was told of.
    served: Vec<u64>,
    answers: Vec<(u64, Vec<(u32, GroupAnswer)>)>,
}

impl Fixture {
    fn new() -> Self {
        Self::with(&[])
    }

    /// One whose partition has these records.
    fn with(records: &[Record]) -> Self {
        let mut image = Image::of_node(directories(1).iter().map(|directory| directory.id));
        let offsets = MetadataRecord::Topic {
            name: OFFSETS_TOPIC.to_owned(),
            id: TopicId([2; 16]),
        };
        let metadata = [
            topic(1),
            partition(1, 0, 1),
            offsets,
            partition(2, 0, OFFSETS_LOG.0),
        ];
        for record in &metadata {
            image.replay(record).unwrap();
        }
        image.brokers.register(broker(1, 1)).expect("the first");
        let mut site = Site::new();
        let (label, config) = (LogLabel::default(), LogConfig::default());
        site.act(|owner, fx| {
            owner.open_own(fx.now, 0, OFFSETS_LOG, label, config);
            if !records.is_empty() {
                let batch = compact::batch(fx.now, records);
                let written = owner.append_internal(fx.now, OFFSETS_LOG, batch);
                written.expect("written");
            }
        });
        site.flush();
        let mut f = Self {
            site,
            delayed: Delayed::default(),
            coordinators: Coordinators::new(Arc::default(), 1),
            image,
            served: Vec::new(),
            answers: Vec::new(),
        };
        f.adopt(1, false);
        f.idle();
        assert!(f.coordinators.is_loaded());
        assert_eq!(f.served, [1]);
        f
    }

    fn adopt(&mut self, version: u64, removes_topics: bool) {
        self.image.version = version;
        let adopted = Adopted {
            version,
            strays: Vec::new(),
            removes_topics,
        };
        let (coordinators, image) = (&mut self.coordinators, &self.image);
        self.site
            .act(|owner, fx| coordinators.adopted(image, adopted, owner, fx));
        self.settle();
    }

    /// What is committed by group `g` for a partition of the topic of a name and id.
    fn committed(&mut self, name: &str, id: TopicId) -> Option<i64> {
        let wanted = OffsetsOf {
            name: Name::from(name),
            id,
            partitions: vec![0],
        };
        let fetch = GroupAsk::Fetch(
            Name::from("g"),
            FetchedOf::Some(vec![wanted]),
            Stability::Any.into(),
        );
        self.ask(99, 0, fetch);
        match self.answers.pop().unwrap().1.pop().unwrap() {
            (4, GroupAnswer::Fetched(Ok((topics, false)))) => match &topics[0].1[0].1 {
                FetchedOffset::At(committed) => Some(committed.offset),
                _ => None,
            },
            other => panic!("{other:?}"),
        }
    }

    fn commit(&mut self, id: u64) {
        self.commit_by(id, 0);
    }

    /// The same, by metadata of this version.
    fn commit_by(&mut self, id: u64, version: u64) {
        let commit = commit_of("topic-1", TopicId([1; 16]), NOW);
        self.ask(id, version, GroupAsk::Commit(commit));
    }

    /// Asks by metadata of this version.
    fn ask(&mut self, id: u64, version: u64, ask: GroupAsk) {
        let (coordinators, image) = (&mut self.coordinators, &self.image);
        let parts = vec![(4, Question::To(0, ask))];
        self.site
            .act(|_, fx| coordinators.ask(req(id), version, parts, image, fx));
        self.settle();
    }

    /// Hands messages on until there are none.
    fn settle(&mut self) {
        loop {
            let sent = self.site.sent();
            if sent.is_empty() {
                break;
            }
            for (_, msg) in sent {
                let (coordinators, image) = (&mut self.coordinators, &self.image);
                match msg {
                    Msg::Produce { appender, parts } => {
                        let delayed = &mut self.delayed;
                        self.site
                            .act(|owner, fx| delayed.begin(owner, appender, parts, fx));
                    }
                    Msg::Appended { id, fate } => self
                        .site
                        .act(|owner, fx| coordinators.appended(id, fate, image, owner, fx)),
                    Msg::ImageApplied { version, .. } => self.served.push(version),
                    Msg::GroupsDone { id, answers } => self.answers.push((id, answers)),
                    msg => panic!("unexpected {msg:?}"),
                }
                self.coordinators.invariants();
            }
        }
    }

    /// Does what is put off.
    fn idle(&mut self) {
        loop {
            let coordinators = &mut self.coordinators;
            let image = &self.image;
            self.site.act(|owner, fx| {
                owner.slice(fx);
                coordinators.slice(image, owner, fx);
            });
            self.settle();
            self.told();
            if !self.coordinators.has_more() {
                break;
            }
        }
    }

    /// Lets the disk finish.
    fn flush(&mut self) {
        self.flush_only();
        self.settle();
    }

    /// Lets the disk finish; what comes of it is not looked at yet.
    fn flush_only(&mut self) {
        let tokens = self.site.flush().into_iter();
        self.site.owner.acks.told = tokens.map(|token| (token, Ok(()))).collect();
        self.told();
    }

    /// Tells who waits for something of the shard's own.
    fn told(&mut self) {
        let coordinators = &mut self.coordinators;
        for told in std::mem::take(&mut self.site.owner.acks.told) {
            self.site
                .act(|owner, fx| coordinators.told(told, owner, fx));
        }
    }

    /// The partition is led by this one of nodes 1 and 2, in this epoch, and these are in sync.
    fn lead(&mut self, leader: i32, epoch: i32, in_sync: &[i32]) {
        self.owner_learns(leader, epoch, in_sync);
        self.adopt(self.image.version + 1, false);
    }

    /// The same; the coordinators have still to be told.
    fn owner_learns(&mut self, leader: i32, epoch: i32, in_sync: &[i32]) {
        let nodes = |ids: &[i32]| ids.iter().copied().map(NodeId).collect();
        let MetadataRecord::Partition(mut record) = partition(2, 0, OFFSETS_LOG.0) else {
            panic!("a partition");
        };
        record.replicas = nodes(&[1, 2]);
        record.directories.push(DirectoryId([9; 16]));
        record.isr = nodes(in_sync);
        record.leader = NodeId(leader);
        record.leader_epoch = LeaderEpoch(epoch);
        record.partition_epoch = self.image.version as i32;
        let record = MetadataRecord::Partition(record);
        self.image.replay(&record).expect("it fits");
        let topic = Arc::clone(self.image.topic(OFFSETS_TOPIC).expect("it is there"));
        let config = TopicConfig::effective(&BrokerConfig::default(), &topic.configs);
        self.site.act(|owner, fx| {
            owner.serves_by(&self.image);
            owner.open(fx.now, 0, &topic, 0, &topic.partitions[0], &config);
        });
    }

    /// The other node has all that there is.
    fn replicated(&mut self) {
        let end = self.end();
        self.site.act(|owner, fx| {
            owner.replicated(OFFSETS_LOG, NodeId(2), end);
            owner.slice(fx);
        });
        self.settle();
        self.told();
    }

    /// The disk here has everything, and the other node takes longer than anybody waits.
    fn is_late(&mut self) {
        self.flush();
        let timeout_ms = self.site.owner.config.offsets_commit_timeout_ms as u64;
        self.site.pass_ms(timeout_ms + 2 * limits::LATE_CHECKS_MS);
        self.site.act(|owner, fx| owner.idle(fx));
        self.settle();
    }

    /// What the next coordinator of the partition finds.
    fn load_anew(&mut self, epoch: i32) {
        self.lead(1, epoch, &[1]);
        self.idle();
        assert_eq!(self.state(), Some(InstanceState::Active));
    }

    /// A leader of this epoch has written that group `g` commits this, and it is here.
    fn written(&mut self, offset: i64, epoch: i32) {
        let mut commit = commit_of("topic-1", TopicId([1; 16]), NOW)
            .offsets
            .remove(0);
        commit.committed.offset = offset;
        let value = records::offset_value(&commit.committed);
        let record = (records::offset_key("g", "topic-1", 0), Some(value));
        let (mut batch, epoch) = (compact::batch(NOW, &[record]).to_vec(), LeaderEpoch(epoch));
        record::stamp(&mut batch, self.end(), epoch);
        self.site.act(|owner, fx| {
            let open = owner.partitions.get_mut(&OFFSETS_LOG).expect("it is there");
            let store = &mut owner.slots[open.slot].store;
            let written = open.log.append_replica(fx.now, &batch.into(), epoch, store);
            let flush = written.expect("it fits").flush.expect("something");
            owner.wrote(OFFSETS_LOG, flush);
        });
        self.flush();
    }

    fn state(&self) -> Option<InstanceState> {
        self.coordinators.host.state(0)
    }

    /// Where the partition ends.
    fn end(&self) -> Offset {
        let partitions = &self.site.owner.partitions;
        partitions[&OFFSETS_LOG].log.end_offset()
    }
}

#[test]
fn a_commit_is_answered_when_its_records_are_durable() {
    let mut f = Fixture::new();
    f.commit(7);
    assert_eq!(f.end(), Offset(1));
    assert!(f.answers.is_empty() && !f.coordinators.is_quiet());
    f.flush();
    assert_eq!(
        f.answers,
        [(7, vec![(4, GroupAnswer::Done(ErrorCode::None))])]
    );
    assert!(f.coordinators.is_quiet());
}

#[test]
fn a_commit_that_cannot_be_written_is_refused() {
    let mut f = Fixture::new();
    f.site.owner.partitions.remove(&OFFSETS_LOG);
    f.commit(7);
    f.flush();
    let refused = GroupAnswer::Done(ErrorCode::CoordinatorNotAvailable);
    assert_eq!(f.answers, [(7, vec![(4, refused)])]);
    assert!(f.coordinators.is_quiet());
}

const DONE: GroupAnswer = GroupAnswer::Done(ErrorCode::None);
const ELSEWHERE: GroupAnswer = GroupAnswer::Done(ErrorCode::NotCoordinator);

#[test]
fn a_partition_that_another_node_leads_is_given_up_and_taken_over_again() {
    let mut f = Fixture::new();
    f.commit(7);
    f.lead(2, 1, &[1, 2]);
    f.commit(8);
    assert_eq!(f.answers, [(8, vec![(4, ELSEWHERE)])]);
    f.idle();
    assert_eq!(f.answers[1..], [(7, vec![(4, ELSEWHERE)])], "of nobody");
    assert_eq!(f.state(), None);
    f.commit(9);
    assert_eq!(f.answers[2..], [(9, vec![(4, ELSEWHERE)])]);
    f.written(50, 1);
    f.lead(1, 2, &[1]);
    f.idle();
    let id = TopicId([1; 16]);
    assert_eq!(f.committed("topic-1", id), Some(50), "by another leader");
    f.commit(10);
    f.flush();
    assert_eq!(f.answers[3..], [(10, vec![(4, DONE)])]);
}

/// Between the two another one may have led.
#[test]
fn a_leader_in_another_epoch_loads_anew() {
    let mut f = Fixture::new();
    let id = TopicId([1; 16]);
    f.written(50, 0);
    f.lead(1, 0, &[1]);
    f.idle();
    assert_eq!(f.committed("topic-1", id), None, "it is the same epoch");
    f.lead(1, 2, &[1]);
    f.idle();
    assert_eq!(f.committed("topic-1", id), Some(50));
}

#[test]
fn what_is_on_its_way_ends_before_a_partition_is_taken_over_again() {
    let mut f = Fixture::new();
    f.commit(7);
    f.lead(2, 1, &[1]);
    f.lead(1, 2, &[1]);
    assert_eq!(f.state(), Some(InstanceState::Unloading));
    f.commit(8);
    assert_eq!(f.answers, [(8, vec![(4, ELSEWHERE)])]);
    f.idle();
    assert_eq!(f.answers[1..], [(7, vec![(4, ELSEWHERE)])]);
    assert_eq!(f.state(), Some(InstanceState::Loading));
    f.flush();
    f.idle();
    assert_eq!(f.state(), Some(InstanceState::Active));
    // Nobody has cut it off.
    assert!(f.committed("topic-1", TopicId([1; 16])).is_some());
}

/// The metadata has still what an earlier process of this node led.
#[test]
fn what_this_process_may_not_lead_is_not_coordinated_here() {
    let mut f = Fixture::new();
    assert!(f.image.brokers.set_fenced(NodeId(1), true));
    f.lead(1, 1, &[1]);
    f.idle();
    assert_eq!(f.state(), None);
    f.image.brokers.set_fenced(NodeId(1), false);
    f.lead(1, 3, &[1]);
    f.idle();
    assert_eq!(f.state(), Some(InstanceState::Active));
}

/// What the leader before has acknowledged is there, but that all have it the new one may not know yet.
#[test]
fn a_new_leader_serves_when_all_that_it_has_is_committed() {
    let mut f = Fixture::new();
    f.lead(2, 1, &[1, 2]);
    f.written(50, 1);
    f.lead(1, 2, &[1, 2]);
    f.idle();
    let loads = GroupAnswer::Done(ErrorCode::CoordinatorLoadInProgress);
    f.commit(7);
    assert_eq!(f.answers, [(7, vec![(4, loads)])]);
    assert!(f.coordinators.is_loaded(), "nobody waits for it");
    f.lead(1, 2, &[1]);
    f.idle();
    assert_eq!(f.committed("topic-1", TopicId([1; 16])), Some(50));
    // While it is loaded another one leads again.
    f.lead(2, 3, &[1, 2]);
    f.written(60, 3);
    f.lead(1, 4, &[1, 2]);
    f.idle();
    assert_eq!(f.state(), Some(InstanceState::Loading));
    f.lead(2, 5, &[1]);
    f.idle();
    assert_eq!(f.state(), None);
}

fn remove_topic(f: &mut Fixture) {
    let id = TopicId([1; 16]);
    f.image.replay(&MetadataRecord::RemoveTopic { id }).unwrap();
}

#[test]
fn what_was_committed_for_topics_that_an_image_removes_is_deleted() {
    let mut f = Fixture::new();
    f.commit(7);
    f.flush();
    f.adopt(2, true);
    f.idle();
    assert_eq!(f.end(), Offset(1), "the topic is there");
    remove_topic(&mut f);
    f.adopt(3, true);
    assert_eq!(f.served, [1, 2, 3], "at once");
    f.idle();
    assert_eq!(f.end(), Offset(2));
    f.flush();
    assert!(f.coordinators.is_quiet() && !f.coordinators.has_more());
}

/// Offsets as builds before wrote them, which do not say of which topic they are: of this topic, and another one.
fn without_ids() -> [Record; 2] {
    ["topic-1", "gone"].map(|topic| {
        let offset = commit_of(topic, TopicId::ZERO, NOW).offsets.remove(0);
        let value = records::offset_value(&offset.committed);
        (records::offset_key("g", topic, 0), Some(value))
    })
}

/// A topic of the name of the one that there was.
fn make_topic_anew(f: &mut Fixture) -> TopicId {
    remove_topic(f);
    let id = TopicId([3; 16]);
    let anew = MetadataRecord::Topic {
        name: "topic-1".to_owned(),
        id,
    };
    for record in [anew, partition(3, 0, 9)] {
        f.image.replay(&record).unwrap();
    }
    id
}

#[test]
fn offsets_that_do_not_say_of_which_topic_they_are_are_of_the_one_that_there_is_at_the_start() {
    let mut f = Fixture::with(&without_ids());
    assert_eq!(f.committed("topic-1", TopicId([1; 16])), Some(5));
    assert_eq!(f.committed("gone", TopicId::ZERO), None);
    assert_eq!(f.committed("gone", TopicId([4; 16])), None);
    let anew = make_topic_anew(&mut f);
    f.adopt(2, true);
    assert_eq!(f.committed("topic-1", anew), None);
    for _ in 0..4 {
        f.flush();
        f.idle();
    }
    assert!(f.coordinators.is_quiet() && !f.coordinators.has_more());
}

#[test]
fn offsets_that_were_given_ids_keep_them_across_restarts() {
    let mut f = Fixture::with(&without_ids());
    f.flush();
    f.idle();
    f.flush();
    let anew = make_topic_anew(&mut f);
    // The process ends before they are deleted.
    f.coordinators = Coordinators::new(Arc::default(), 2);
    f.adopt(2, false);
    assert!(f.coordinators.is_loaded());
    assert_eq!(f.committed("topic-1", anew), None);
}

/// The process ends and starts again; nothing is done yet but to load.
fn restart(f: &mut Fixture) {
    f.coordinators = Coordinators::new(Arc::default(), 2);
    f.adopt(f.image.version + 1, false);
    assert!(f.coordinators.is_loaded());
}

/// A shard that has just loaded these records.
fn loaded(records: &[Record]) -> Fixture {
    let mut f = Fixture::new();
    f.site.act(|owner, fx| {
        let batch = compact::batch(fx.now, records);
        let written = owner.append_internal(fx.now, OFFSETS_LOG, batch);
        written.expect("written");
    });
    f.site.flush();
    restart(&mut f);
    f
}

fn finish(f: &mut Fixture) {
    for _ in 0..3 {
        f.idle();
        f.flush();
    }
    assert!(f.coordinators.is_quiet());
}

#[test]
fn offsets_are_given_ids_also_if_there_is_no_room_for_them_at_first() {
    let mut f = loaded(&without_ids());
    let log = f.site.owner.partitions.remove(&OFFSETS_LOG).unwrap();
    f.idle();
    f.site.owner.partitions.insert(OFFSETS_LOG, log);
    let (coordinators, image) = (&mut f.coordinators, &f.image);
    f.site.act(|_, fx| {
        fx.now.mono = coordinators.next_deadline();
        coordinators.tick(image, fx);
    });
    finish(&mut f);
    let anew = make_topic_anew(&mut f);
    restart(&mut f);
    assert_eq!(f.committed("topic-1", anew), None);
}

#[test]
fn offsets_are_given_ids_beside_records_of_a_later_version() {
    let [first, second] = without_ids();
    let foreign = (
        Bytes::from_static(b"\0\x08"),
        Some(Bytes::from_static(b"?")),
    );
    let mut f = loaded(&[first, foreign, second]);
    finish(&mut f);
    let end = f.end();
    let anew = make_topic_anew(&mut f);
    restart(&mut f);
    assert_eq!(f.committed("topic-1", anew), None);
    finish(&mut f);
    restart(&mut f);
    finish(&mut f);
    assert_eq!(
        f.end(),
        end.plus(1),
        "the deletion; nothing is written twice"
    );
}

#[test]
fn offsets_that_are_given_ids_while_they_are_deleted_do_not_come_back() {
    let mut f = loaded(&without_ids());
    f.ask(7, 0, GroupAsk::Delete(Name::from("g")));
    finish(&mut f);
    let done = GroupAnswer::Done(ErrorCode::None);
    assert_eq!(f.answers, [(7, vec![(4, done)])]);
    restart(&mut f);
    assert_eq!(f.committed("topic-1", TopicId([1; 16])), None);
}

#[test]
fn a_deletion_that_finds_no_room_is_tried_again() {
    let mut f = Fixture::new();
    f.commit(7);
    f.flush();
    let log = f.site.owner.partitions.remove(&OFFSETS_LOG).unwrap();
    remove_topic(&mut f);
    f.adopt(2, true);
    f.idle();
    assert!(f.coordinators.is_quiet() && !f.coordinators.has_more());
    f.site.owner.partitions.insert(OFFSETS_LOG, log);
    let (coordinators, image) = (&mut f.coordinators, &f.image);
    f.site.act(|_, fx| {
        fx.now.mono = coordinators.next_deadline();
        coordinators.tick(image, fx);
    });
    f.idle();
    assert_eq!(f.end(), Offset(2));
}

#[test]
fn a_commit_by_metadata_that_is_not_served_by_yet_waits_for_it() {
    let mut f = Fixture::new();
    for id in 0..3 {
        f.commit_by(id, 3);
    }
    // It came later, and is not done before them.
    f.commit(3);
    f.adopt(2, false);
    assert!(f.end() == Offset(0) && !f.coordinators.is_quiet());
    f.adopt(3, false);
    assert_eq!(f.end(), Offset(4));
    f.flush();
    assert_eq!(f.answers.len(), 4);
}

#[test]
fn many_commits_wait_for_metadata_and_are_done_in_slices_and_more_bytes_are_refused() {
    const MANY: u64 = 3 * limits::OFFSETS_PER_SLICE as u64 / 2;
    let mut f = Fixture::new();
    for id in 0..MANY {
        f.commit_by(id, 2);
    }
    assert_eq!(f.answers.len(), 0, "none is refused");
    f.adopt(2, false);
    let begun = |f: &Fixture| f.coordinators.waits.len();
    let first = begun(&f);
    assert!((1..MANY as usize / 2).contains(&first), "{first} at once");
    f.idle();
    assert!(f.coordinators.early.is_empty());
    assert_eq!((begun(&f), f.answers.len()), (MANY as usize, 0));
    let mut large = commit_of("topic-1", TopicId([1; 16]), NOW);
    large.offsets[0].committed.metadata = Name::from("x".repeat(1 << 20));
    for id in 0..limits::EARLY_BYTES_MAX as u64 >> 20 {
        f.ask(id, 3, GroupAsk::Commit(large.clone()));
    }
    let refused = GroupAnswer::Done(ErrorCode::CoordinatorLoadInProgress);
    assert_eq!(f.answers.len(), 1);
    assert_eq!(f.answers[0].1, [(4, refused)]);
}

#[test]
fn a_large_commit_has_its_turn_later_and_none_is_refused_for_those_before_it() {
    let mut f = Fixture::new();
    let mut large = commit_of("topic-1", TopicId([1; 16]), NOW);
    large.offsets[0].committed.metadata = Name::from("x".repeat(4096));
    large.offsets = vec![large.offsets[0].clone(); limits::OFFSETS_COMMITTED_AT_ONCE_MAX + 1];
    f.ask(0, 1, GroupAsk::Commit(large.clone()));
    f.commit_by(1, 1);
    assert!(f.end() == Offset(0) && !f.coordinators.is_quiet());
    for id in 2..9 {
        f.ask(id, 1, GroupAsk::Commit(large.clone()));
    }
    f.idle();
    f.flush();
    let done = vec![(4, GroupAnswer::Done(ErrorCode::None))];
    assert!(
        f.answers
            .iter()
            .cloned()
            .eq((0..9).map(|id| (id, done.clone())))
    );
}

#[test]
fn a_large_commit_behind_many_small_ones_has_no_more_than_a_slice_of_them_done() {
    let mut f = Fixture::new();
    let mut small = commit_of("topic-1", TopicId([1; 16]), NOW);
    small.offsets[0].committed.metadata = Name::from("x".repeat(512));
    let mut id = 0;
    while f.answers.is_empty() {
        f.ask(id, 2, GroupAsk::Commit(small.clone()));
        id += 1;
    }
    let waiting = id as usize - 1;
    assert!(waiting > 3 * limits::OFFSETS_PER_SLICE, "{waiting}");
    f.adopt(2, false);
    let begun = f.coordinators.waits.len();
    let mut large = commit_of("topic-1", TopicId([1; 16]), NOW);
    large.offsets[0].committed.metadata = Name::from("x".repeat(4096));
    large.offsets = vec![large.offsets[0].clone(); limits::OFFSETS_COMMITTED_AT_ONCE_MAX + 1];
    f.ask(id, 2, GroupAsk::Commit(large));
    let more = f.coordinators.waits.len() - begun;
    assert!(more <= limits::OFFSETS_PER_SLICE, "{more} at once");
}

#[test]
fn who_joins_or_leaves_does_so_behind_a_commit_for_the_group_that_waits() {
    let mut f = Fixture::new();
    let mut commit = commit_of("topic-1", TopicId([1; 16]), NOW);
    commit.group = Name::from("rebalances");
    f.ask(1, 2, GroupAsk::Commit(commit));
    // A commit of somebody who is no member is refused when the group has some.
    f.ask(2, 1, join());
    // Nobody else waits.
    let leave = GroupAsk::Leave(Name::from("other"), Vec::new());
    f.ask(3, 1, leave);
    assert_eq!(
        f.answers,
        [(3, vec![(4, GroupAnswer::Left(Ok(Vec::new())))])]
    );
    f.adopt(2, false);
    f.idle();
    f.flush();
    let done = GroupAnswer::Done(ErrorCode::None);
    assert_eq!(f.answers[1..], [(1, vec![(4, done)])]);
    assert!(f.coordinators.early.is_empty());
}

/// A member of a group that has joined and never syncs.
fn join() -> GroupAsk {
    GroupAsk::Join(JoinRequest {
        group: Name::from("rebalances"),
        member: Name::from(""),
        instance: None,
        client_id: Name::from("c"),
        client_host: Name::from("/127.0.0.1"),
        session_timeout_ms: 1_800_000,
        rebalance_timeout_ms: i32::MAX,
        protocol_type: Name::from("consumer"),
        protocols: vec![Protocol {
            name: Name::from("range"),
            metadata: Bytes::new(),
        }],
        needs_member_id: false,
        may_skip_assignment: false,
    })
}

#[test]
fn a_partition_is_compacted_while_a_group_rebalances_and_some_commit_is_always_on_its_way() {
    const LEAST: i64 = 4096;
    let mut f = Fixture::new();
    f.site.owner.config = Arc::new(BrokerConfig {
        millrace_internal_compact_bytes: LEAST,
        ..BrokerConfig::default()
    });
    f.ask(1, 0, join());
    for id in 2..400 {
        // What was written before is durable, and told of when the next commit has begun.
        f.flush_only();
        f.commit(id);
        f.idle();
        let log = &f.site.owner.partitions[&OFFSETS_LOG].log;
        assert!(log.size_bytes() < 2 * LEAST as u64, "commit {id}");
    }
    let log = &f.site.owner.partitions[&OFFSETS_LOG].log;
    assert!(log.start_offset() > Offset(300), "{}", log.start_offset());
    f.flush();
    f.idle();
    f.flush();
    assert!(f.coordinators.is_quiet());
}
