//! What a group works with while it handles one event: the settings, the timers, the appends on their way and what
//! follows them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;

use bytes::Bytes;

use super::consumer::{ConsumerConfig, ConsumerReply};
use super::effect::{Effect, JoinReply, News, Record, SyncReply, TransactionalProducer};
use super::logged::LogPlace;
use super::streams::{StreamsConfig, StreamsReply};
use crate::base::Name;
use crate::base::limits::MEMBERS_TOLD_PER_SLICE;
use crate::base::{Now, Timers, TopicId};

/// How long a new member may take until its first rebalance ends, whatever its session timeout.
pub const NEW_MEMBER_JOIN_TIMEOUT_MS: u64 = 5 * 60 * 1000;

/// The settings of Kafka that the coordinator obeys, and one of our own.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// `group.min.session.timeout.ms`
    pub min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`
    pub max_session_timeout_ms: i32,
    /// `group.initial.rebalance.delay.ms`
    pub initial_rebalance_delay_ms: u64,
    /// `group.max.size`, members
    pub max_size: usize,
    /// `offsets.retention.minutes`, in ms
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`
    pub offsets_retention_check_interval_ms: u64,
    /// Those of groups of the consumer protocol
    pub consumer: ConsumerConfig,
    /// Those of streams groups
    pub streams: StreamsConfig,
    /// Members that are told something, or removed, at a time ([`MEMBERS_TOLD_PER_SLICE`])
    pub told_at_a_time: usize,
    /// What single groups have of their own
    pub own: Option<Arc<dyn OwnSettings>>,
}

/// The settings that single groups have of their own, over the broker's.
pub trait OwnSettings: Debug + Send + Sync {
    /// Puts what a group has of its own into what holds for groups of the consumer protocol.
    fn consumer(&self, group: &str, config: &mut ConsumerConfig);
    /// The same for streams groups.
    fn streams(&self, group: &str, config: &mut StreamsConfig);
}

impl GroupConfig {
    /// What holds for a group of the consumer protocol.
    #[must_use]
    pub fn consumer_of(&self, group: &str) -> ConsumerConfig {
        let mut config = self.consumer.clone();
        if let Some(own) = &self.own {
            own.consumer(group, &mut config);
        }
        config
    }

    /// What holds for a streams group.
    #[must_use]
    pub fn streams_of(&self, group: &str) -> StreamsConfig {
        let mut config = self.streams.clone();
        if let Some(own) = &self.own {
            own.streams(group, &mut config);
        }
        config
    }
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            min_session_timeout_ms: 6_000,
            max_session_timeout_ms: 1_800_000,
            initial_rebalance_delay_ms: 3_000,
            max_size: i32::MAX as usize,
            offsets_retention_ms: 7 * 24 * 60 * 60 * 1000,
            offsets_retention_check_interval_ms: 10 * 60 * 1000,
            consumer: ConsumerConfig::default(),
            streams: StreamsConfig::default(),
            told_at_a_time: MEMBERS_TOLD_PER_SLICE,
            own: None,
        }
    }
}

/// What is to happen when an append ends.
#[derive(Debug)]
pub(crate) enum Then {
    /// Nothing: the record describes a state that the group is in already.
    Nothing,
    /// The members of this generation get their assignments.
    Assign(i32, BTreeMap<Name, Bytes>),
    /// A static member came back under this id: its join is answered.
    StaticMember(Name, StaticReply),
    /// What a consumer group has decided counts, and these are answered.
    Consumer(Vec<(u64, ConsumerReply)>),
    /// The same of a streams group.
    Streams(Vec<(u64, StreamsReply)>),
    /// Replay the records, offsets that are committed, then answer the token, if it is not yet.
    Commit(Committing),
    /// Replay the records, which delete; go on with what is left, then answer the token, if there is one.
    Forget(Forget),
    /// Replay the records, which delete offsets of topics that are gone, or say of which topics they are; go on with
    /// the sweep.
    Sweep,
}

/// A commit on its way.
#[derive(Debug)]
pub(crate) struct Committing {
    pub token: Option<u64>,
    /// Ids of topics for which the records have no place.
    pub ids: BTreeMap<Name, TopicId>,
    /// In a transaction of this one.
    pub producer: Option<TransactionalProducer>,
}

/// What is to be deleted of a group besides what is being deleted.
#[derive(Debug)]
pub(crate) struct Forget {
    pub token: Option<u64>,
    pub left: Leftover,
    /// The group itself, with the last of them; a failure makes it usable again.
    pub group: bool,
    /// Nobody waits for it any more: what is left stays.
    pub is_given_up: bool,
}

/// What is left of a deletion.
#[derive(Debug)]
pub(crate) enum Leftover {
    /// These offsets, perhaps none.
    Offsets(Vec<(Name, i32)>),
    /// Whatever the group has.
    Group,
}

impl Forget {
    /// These offsets of a group.
    pub fn offsets(token: Option<u64>, offsets: Vec<(Name, i32)>) -> Self {
        Self {
            token,
            left: Leftover::Offsets(offsets),
            group: false,
            is_given_up: false,
        }
    }

    /// A group with all that it has.
    pub fn group(token: Option<u64>) -> Self {
        Self {
            token,
            left: Leftover::Group,
            group: true,
            is_given_up: false,
        }
    }

    /// Whether nothing is left.
    pub fn is_whole(&self) -> bool {
        matches!(&self.left, Leftover::Offsets(left) if left.is_empty())
    }
}

impl Then {
    /// Whether the records describe a state that the group is in already; others become state when they are durable.
    pub(crate) fn follows_state(&self) -> bool {
        match self {
            Self::Nothing
            | Self::Assign(..)
            | Self::StaticMember(..)
            | Self::Consumer(_)
            | Self::Streams(_) => true,
            Self::Commit(..) | Self::Forget(_) | Self::Sweep => false,
        }
    }
}

/// How a static member that came back is answered once its new id is durable.
#[derive(Debug)]
pub(crate) struct StaticReply {
    /// Generation at the time; another one by then means that a rebalance answers instead.
    pub generation: i32,
    /// The client knows `skip_assignment` (v9).
    pub may_skip: bool,
    /// The leader before the id changed: what older clients are told, so that none takes itself for the leader.
    pub old_leader: Name,
}

/// A timer of the coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// Session of a member, or of a member id that was handed out and not used yet.
    Session(Name, Name),
    /// The join phase of a group ends.
    Join(Name),
    /// The sync phase of a group ends.
    Sync(Name),
    /// A group goes on with what it does in slices.
    GoOn(Name),
    /// A member of a consumer or streams group has had its time to give up what it has to.
    Rebalance(Name, Name),
    /// Look for expired offsets.
    Expiry,
    /// Go on with a sweep that could not write.
    Sweep,
}

/// Appends that are on their way, by number.
#[derive(Debug, Default)]
pub(crate) struct Appends {
    /// The number of the next one, from 1 on.
    pub next: u64,
    pub in_flight: BTreeMap<u64, InFlight>,
    /// Bytes of their keys and values.
    pub bytes: usize,
    /// How many of them commit an offset, by group,
    pub committing: BTreeMap<Name, Counts>,
    /// and of those that do so in transactions.
    pub unstable: BTreeMap<Name, Counts>,
    /// How many offsets producers commit in transactions; no zeroes.
    pub of_producers: BTreeMap<i64, usize>,
    /// How many of them are [late](InFlight::is_late).
    pub late: usize,
    /// While a snapshot is made.
    pub since: Option<Since>,
}

/// What the appends write that were begun since an offset of the log was noted: all of it is behind that offset.
#[derive(Debug)]
pub(crate) struct Since {
    /// The number of the first one.
    from: u64,
    /// Keys that those in flight write, and how many of them do.
    keys: BTreeMap<Bytes, usize>,
}

impl Since {
    pub(crate) fn begins(from: u64) -> Self {
        Self {
            from,
            keys: BTreeMap::new(),
        }
    }

    /// Whether the offset was noted before the append of a record was begun, which is behind it then.
    pub(crate) fn began_before(&self, place: LogPlace) -> bool {
        self.from <= place.append
    }

    /// The number of the first append that was begun after it was.
    pub(crate) fn from(&self) -> u64 {
        self.from
    }

    /// Whether an append that is in flight writes this key.
    pub(crate) fn writes(&self, key: &Bytes) -> bool {
        self.keys.contains_key(key)
    }

    fn begun(&mut self, records: &[Record]) {
        for (key, _) in records {
            *self.keys.entry(key.clone()).or_default() += 1;
        }
    }

    fn ended(&mut self, append: u64, records: &[Record]) {
        for (key, _) in records.iter().filter(|_| append >= self.from) {
            if let Some(count) = self.keys.get_mut(key) {
                *count -= 1;
                if *count == 0 {
                    self.keys.remove(key);
                }
            }
        }
    }
}

impl Appends {
    /// Whether all that have a smaller number have ended.
    pub(crate) fn have_ended_before(&self, number: u64) -> bool {
        let first = self.in_flight.first_key_value();
        first.is_none_or(|(first, _)| *first >= number)
    }

    /// The groups of which something is being deleted.
    pub(crate) fn deleting(&self) -> BTreeSet<&Name> {
        let deletions = self.in_flight.values();
        let deletions = deletions.filter(|append| matches!(append.then, Then::Forget(_)));
        deletions.map(|append| &append.group).collect()
    }

    /// An append has ended.
    pub(crate) fn end(&mut self, append: u64) -> Option<InFlight> {
        let ended = self.in_flight.remove(&append)?;
        if let Some(since) = &mut self.since {
            since.ended(append, &ended.records);
        }
        self.late -= usize::from(ended.is_late);
        self.bytes -= ended.bytes();
        Some(ended)
    }
}

/// How often partitions of topics are named; no zeroes.
#[derive(Debug, Default)]
pub(crate) struct Counts(BTreeMap<Name, BTreeMap<i32, usize>>);

impl Counts {
    pub fn add(&mut self, topic: &Name, partition: i32) {
        let of_topic = match self.0.get_mut(topic) {
            Some(of_topic) => of_topic,
            None => self.0.entry(topic.clone()).or_default(),
        };
        *of_topic.entry(partition).or_default() += 1;
    }

    pub fn remove(&mut self, topic: &str, partition: i32) {
        let Some(of_topic) = self.0.get_mut(topic) else {
            return;
        };
        if let Some(count) = of_topic.get_mut(&partition) {
            *count -= 1;
            if *count == 0 {
                of_topic.remove(&partition);
            }
        }
        if of_topic.is_empty() {
            self.0.remove(topic);
        }
    }

    pub fn contains(&self, topic: &str, partition: i32) -> bool {
        self.0
            .get(topic)
            .is_some_and(|partitions| partitions.contains_key(&partition))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, by topic.
    pub fn all(&self) -> impl Iterator<Item = (Name, i32)> {
        let topics = self.0.iter();
        topics.flat_map(|(topic, partitions)| partitions.keys().map(|p| (topic.clone(), *p)))
    }
}

/// One append on its way.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub group: Name,
    pub records: Arc<[Record]>,
    pub then: Then,
    /// Nobody waits for it any more. It is in the log.
    pub is_late: bool,
}

impl InFlight {
    /// Bytes of its keys and values.
    pub fn bytes(&self) -> usize {
        let value = |value: &Option<Bytes>| value.as_ref().map_or(0, Bytes::len);
        let records = self.records.iter();
        records.map(|(key, v)| key.len() + value(v)).sum()
    }
}

/// What a group needs from the coordinator while it handles one event.
pub(crate) struct Cx<'a> {
    pub now: Now,
    pub config: &'a GroupConfig,
    pub timers: &'a mut Timers<Timer>,
    pub appends: &'a mut Appends,
    pub out: &'a mut Vec<Effect>,
}

impl Cx<'_> {
    pub(crate) fn append(&mut self, group: &Name, records: Vec<Record>, then: Then) {
        let producer = match &then {
            Then::Commit(commit) => commit.producer.clone(),
            _ => None,
        };
        let records: Arc<[Record]> = records.into();
        let append = self.appends.next;
        self.appends.next += 1;
        if let Some(since) = &mut self.appends.since {
            since.begun(&records);
        }
        let in_flight = InFlight {
            group: group.clone(),
            records: Arc::clone(&records),
            then,
            is_late: false,
        };
        self.appends.bytes += in_flight.bytes();
        self.appends.in_flight.insert(append, in_flight);
        self.out.push(Effect::Append {
            append,
            records,
            producer,
        });
    }

    pub(crate) fn tell(&mut self, group: &Name, news: News) {
        self.out.push(Effect::News(group.clone(), news));
    }

    pub(crate) fn joined(&mut self, token: u64, reply: JoinReply) {
        self.out.push(Effect::Joined(token, reply));
    }

    pub(crate) fn synced(&mut self, token: u64, reply: SyncReply) {
        self.out.push(Effect::Synced(token, reply));
    }

    pub(crate) fn after(&mut self, timer: Timer, ms: u64) {
        self.timers.set_after(timer, self.now.mono, ms);
    }
}
