//! The coordinator of one partition: its state, its groups, and what waits for its writes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ask::{
    Described, DescribedConsumer, DescribedStreams, FetchedOf, FetchedOffset, Fetcher, GroupAnswer,
    GroupAsk, Listed, OffsetsOf, Stability, ToldConsumer, TopicOffsets,
};
use crate::base::limits::OFFSETS_TOLD_PER_SLICE;
use crate::base::{ErrorCode, Now, TopicId};
use crate::group::records::RecordError;
use crate::group::streams::InternalTopic;
use crate::group::{
    Committed, Coordinator, Effect, GroupConfig, GroupTopics, Name, News, Record, Replayed,
    TopicIds, TransactionalProducer,
};

/// How far an instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceState {
    /// What its partition holds is being replayed.
    Loading,
    /// It decides.
    Active,
    /// Its partition could not be read: nothing is known of its groups, and what was replayed of them may be
    /// outdated. What the partition holds is left as it is.
    Failed,
    /// It is given up, and its last appends are on their way.
    Unloading,
}

impl InstanceState {
    /// What is told to who asks something of a group; an error unless the instance decides.
    ///
    /// # Errors
    /// As Kafka's: the client tries again, or looks for the coordinator again.
    pub fn serves(self) -> Result<(), ErrorCode> {
        match self {
            Self::Active => Ok(()),
            Self::Loading => Err(ErrorCode::CoordinatorLoadInProgress),
            Self::Failed | Self::Unloading => Err(ErrorCode::NotCoordinator),
        }
    }
}

/// What waits for a write, by token.
#[derive(Debug)]
enum Write {
    /// It is answered with what comes of the write.
    Done,
    /// An OffsetDelete with these errors of its partitions.
    OffsetsDeleted(Vec<ErrorCode>),
}

/// What an instance wants done.
#[derive(Debug)]
pub(super) enum InstanceEffect {
    Answer(u64, GroupAnswer),
    TooLarge(Name),
    CreateTopics(Name, Vec<InternalTopic>),
    News(Name, News),
    Append {
        append: u64,
        records: Arc<[Record]>,
        producer: Option<TransactionalProducer>,
    },
}

/// See the module.
#[derive(Debug)]
pub(super) struct Instance {
    state: InstanceState,
    pub coordinator: Coordinator,
    writes: BTreeMap<u64, Write>,
}

impl Instance {
    /// One that is to be loaded.
    pub fn new(config: GroupConfig, seed: u64) -> Self {
        Self {
            state: InstanceState::Loading,
            coordinator: Coordinator::new(config, seed),
            writes: BTreeMap::new(),
        }
    }

    pub fn state(&self) -> InstanceState {
        self.state
    }

    /// One record of the partition, in log order.
    pub fn replay(&mut self, record: Replayed<'_>, ids: TopicIds<'_>) -> Result<(), RecordError> {
        debug_assert_eq!(self.state, InstanceState::Loading);
        self.coordinator.replay(record, ids)
    }

    /// A marker of the partition, in log order; see [`Coordinator::marker`]. One that is given up knows of no
    /// transactions.
    pub fn marker(&mut self, producer: i64, commits: bool) {
        match self.state {
            InstanceState::Loading | InstanceState::Active => {
                self.coordinator.marker(producer, commits);
            }
            InstanceState::Failed | InstanceState::Unloading => {}
        }
    }

    /// Every record has been replayed.
    pub fn loaded(&mut self, now: Now, out: &mut Vec<InstanceEffect>) {
        debug_assert_eq!(self.state, InstanceState::Loading);
        self.state = InstanceState::Active;
        self.with(out, |coordinator, effects| coordinator.loaded(now, effects));
    }

    /// The partition cannot be read: forgets what was replayed.
    pub fn fail(&mut self, config: GroupConfig) {
        debug_assert_eq!(self.state, InstanceState::Loading);
        self.state = InstanceState::Failed;
        self.coordinator = Coordinator::new(config, 0);
    }

    /// The partition is given up.
    pub fn unload(&mut self, now: Now, out: &mut Vec<InstanceEffect>) {
        self.state = InstanceState::Unloading;
        self.with(out, |coordinator, effects| coordinator.unload(now, effects));
    }

    /// Whether nothing is left of one that is given up.
    pub fn is_unloaded(&self) -> bool {
        self.state == InstanceState::Unloading && self.coordinator.is_quiet()
    }

    /// Answers, now or later.
    pub fn ask(
        &mut self,
        now: Now,
        token: u64,
        ask: GroupAsk,
        topics: &dyn GroupTopics,
        out: &mut Vec<InstanceEffect>,
    ) {
        if let Err(error) = self.state.serves() {
            let answer = match ask {
                // As Kafka's `GroupCoordinatorService.heartbeat`: sessions begin when it is loaded, and clients do not
                // expect to be told anything else.
                GroupAsk::Heartbeat(_) if self.state == InstanceState::Loading => {
                    GroupAnswer::Done(ErrorCode::None)
                }
                ask => ask.refused(error),
            };
            return out.push(InstanceEffect::Answer(token, answer));
        }
        let mut effects = Vec::new();
        let coordinator = &mut self.coordinator;
        let answer = match ask {
            GroupAsk::Join(request) => {
                coordinator.join(now, token, request, &mut effects);
                None
            }
            GroupAsk::Sync(request) => {
                coordinator.sync(now, token, request, &mut effects);
                None
            }
            GroupAsk::Heartbeat(request) => {
                let error = coordinator.heartbeat(now, &request, &mut effects);
                Some(GroupAnswer::Done(error))
            }
            GroupAsk::ConsumerHeartbeat(request) => {
                coordinator.consumer_heartbeat(now, token, *request, topics, &mut effects);
                None
            }
            GroupAsk::StreamsHeartbeat(request) => {
                coordinator.streams_heartbeat(now, token, *request, topics, &mut effects);
                None
            }
            GroupAsk::Leave(group, leaving) => {
                let left = coordinator.leave(now, &group, &leaving, &mut effects);
                Some(GroupAnswer::Left(left))
            }
            GroupAsk::Commit(request) => {
                let asked = coordinator.commit(now, token, &request, &mut effects);
                self.writes_or(token, asked.map(|()| Write::Done), GroupAnswer::Done)
            }
            GroupAsk::DeleteOffsets(group, targets) => {
                let asked = coordinator.delete_offsets(now, token, &group, &targets, &mut effects);
                let refused = |error| GroupAnswer::OffsetsDeleted(Err(error));
                self.writes_or(token, asked.map(Write::OffsetsDeleted), refused)
            }
            GroupAsk::Delete(group) => {
                let asked = coordinator.delete_group(now, token, &group, &mut effects);
                self.writes_or(token, asked.map(|()| Write::Done), GroupAnswer::Done)
            }
            GroupAsk::Fetch(group, of, fetcher) => {
                let checked = check_fetch(coordinator, &group, &fetcher);
                let fetch = Fetch {
                    coordinator,
                    group,
                    stability: fetcher.stability,
                };
                Some(GroupAnswer::Fetched(checked.map(|()| fetch.of(of))))
            }
            GroupAsk::DescribeConsumer(group, things_max) => {
                Some(describe_consumer(coordinator, group, things_max))
            }
            GroupAsk::DescribeStreams(group, things_max) => {
                Some(describe_streams(coordinator, group, things_max))
            }
            GroupAsk::Describe(group, things_max) => {
                let found = coordinator.group(&group);
                let told = found.map(|group| Described::of(group, things_max));
                Some(match told {
                    // Whoever asks again has room for it.
                    Some(None) => {
                        let whole = GroupAsk::Describe(group, usize::MAX);
                        GroupAnswer::Again(Box::new(whole))
                    }
                    told => GroupAnswer::Described(Ok(told.flatten())),
                })
            }
        };
        out.extend(answer.map(|answer| InstanceEffect::Answer(token, answer)));
        self.perform(effects, out);
    }

    /// Notes what waits for a write that has begun, or says how it was refused.
    fn writes_or(
        &mut self,
        token: u64,
        asked: Result<Write, ErrorCode>,
        refused: impl FnOnce(ErrorCode) -> GroupAnswer,
    ) -> Option<GroupAnswer> {
        match asked {
            Ok(write) => {
                self.writes.insert(token, write);
                None
            }
            Err(error) => Some(refused(error)),
        }
    }

    /// Its groups, behind this one.
    pub fn list(&self, after: Option<&Name>) -> impl Iterator<Item = Listed> {
        let groups = self.coordinator.shown_after(after);
        groups
            .filter(|_| self.state == InstanceState::Active)
            .map(Listed::of)
    }

    /// Topics are gone: their offsets are to be deleted. Returns whether there may be some.
    pub fn begin_sweep(&mut self) -> bool {
        let is_active = self.state == InstanceState::Active;
        if is_active {
            self.coordinator.begin_sweep();
        }
        is_active
    }

    /// Goes on with that; see [`Coordinator::sweep_part`].
    pub fn sweep_part(
        &mut self,
        now: Now,
        is_gone: impl Fn(&str, TopicId) -> bool,
        left: &mut usize,
        out: &mut Vec<InstanceEffect>,
    ) {
        self.with(out, |coordinator, effects| {
            coordinator.sweep_part(now, is_gone, left, effects);
        });
    }

    /// See [`Coordinator::late`].
    pub fn late(&mut self, now: Now, append: u64, error: ErrorCode, out: &mut Vec<InstanceEffect>) {
        self.with(out, |coordinator, effects| {
            coordinator.late(now, append, error, effects);
        });
    }

    /// An append has ended.
    pub fn appended(
        &mut self,
        now: Now,
        append: u64,
        result: Result<(), ErrorCode>,
        out: &mut Vec<InstanceEffect>,
    ) {
        self.with(out, |coordinator, effects| {
            coordinator.appended(now, append, result, effects);
        });
    }

    /// Does what is due.
    pub fn tick(
        &mut self,
        now: Now,
        topics: &dyn GroupTopics,
        left: &mut usize,
        out: &mut Vec<InstanceEffect>,
    ) {
        self.with(out, |coordinator, effects| {
            coordinator.tick(now, topics, left, effects);
        });
    }

    /// Lets the coordinator do something, and passes on what it wants.
    fn with<T>(
        &mut self,
        out: &mut Vec<InstanceEffect>,
        act: impl FnOnce(&mut Coordinator, &mut Vec<Effect>) -> T,
    ) -> T {
        let mut effects = Vec::new();
        let done = act(&mut self.coordinator, &mut effects);
        self.perform(effects, out);
        done
    }

    fn perform(&mut self, effects: Vec<Effect>, out: &mut Vec<InstanceEffect>) {
        for effect in effects {
            out.push(match effect {
                Effect::Append {
                    append,
                    records,
                    producer,
                } => InstanceEffect::Append {
                    append,
                    records,
                    producer,
                },
                Effect::Joined(token, reply) => {
                    InstanceEffect::Answer(token, GroupAnswer::Joined(reply))
                }
                Effect::Synced(token, reply) => {
                    InstanceEffect::Answer(token, GroupAnswer::Synced(reply))
                }
                Effect::Heartbeat(token, reply) => {
                    InstanceEffect::Answer(token, GroupAnswer::ConsumerHeartbeat(reply))
                }
                Effect::StreamsHeartbeat(token, reply) => {
                    InstanceEffect::Answer(token, GroupAnswer::StreamsHeartbeat(reply))
                }
                Effect::CreateTopics(group, topics) => InstanceEffect::CreateTopics(group, topics),
                Effect::TooLarge(group) => InstanceEffect::TooLarge(group),
                Effect::News(group, news) => InstanceEffect::News(group, news),
                Effect::Written(token, error) => match self.writes.remove(&token) {
                    Some(Write::Done) => InstanceEffect::Answer(token, GroupAnswer::Done(error)),
                    Some(Write::OffsetsDeleted(errors)) => {
                        let errors = if error.is_none() {
                            Ok(errors)
                        } else {
                            Err(error)
                        };
                        InstanceEffect::Answer(token, GroupAnswer::OffsetsDeleted(errors))
                    }
                    None => continue,
                },
            });
        }
    }

    /// Panics if something is wrong inside. For tests and the simulator.
    pub fn invariants(&self) {
        self.coordinator.invariants();
        match self.state {
            InstanceState::Active => {}
            InstanceState::Loading | InstanceState::Failed => {
                assert!(
                    self.coordinator.is_quiet() && self.writes.is_empty(),
                    "no writes"
                );
            }
            InstanceState::Unloading => {
                assert!(!self.is_unloaded(), "it is dropped when all has ended")
            }
        }
    }
}

/// A group of the consumer protocol, for people. Whoever asks again has room for it.
fn describe_consumer(coordinator: &Coordinator, group: Name, things_max: usize) -> GroupAnswer {
    let config = &coordinator.config().consumer;
    let shown = coordinator.shown(&group);
    let told = shown.map(|shown| DescribedConsumer::of(shown, config, things_max));
    match told {
        Some(Some(ToldConsumer::TooMuch)) => {
            let whole = GroupAsk::DescribeConsumer(group, usize::MAX);
            GroupAnswer::Again(Box::new(whole))
        }
        Some(Some(ToldConsumer::Group(told))) => GroupAnswer::ConsumerDescribed(Ok(Some(told))),
        Some(None) | None => GroupAnswer::ConsumerDescribed(Ok(None)),
    }
}

/// The same of a streams group.
fn describe_streams(coordinator: &Coordinator, group: Name, things_max: usize) -> GroupAnswer {
    let shown = coordinator.shown(&group);
    match shown.and_then(|shown| DescribedStreams::of(shown, things_max)) {
        Some(Err(())) => {
            let whole = GroupAsk::DescribeStreams(group, usize::MAX);
            GroupAnswer::Again(Box::new(whole))
        }
        told => GroupAnswer::StreamsDescribed(Ok(told.and_then(Result::ok))),
    }
}

/// Whether who fetches may be told offsets of a group.
fn check_fetch(
    coordinator: &Coordinator,
    group: &Name,
    fetcher: &Fetcher,
) -> Result<(), ErrorCode> {
    let (member, epoch) = (fetcher.member.as_deref(), fetcher.epoch);
    if let Some(consumer) = coordinator.consumer_group(group) {
        return consumer.state().check_fetch(member, epoch);
    }
    let streams = coordinator.streams_group(group);
    streams.map_or(Ok(()), |streams| streams.state().check_fetch(member, epoch))
}

/// Looks at the offsets of a group.
struct Fetch<'a> {
    coordinator: &'a Coordinator,
    group: Name,
    stability: Stability,
}

impl Fetch<'_> {
    /// The offsets of these partitions or of all that have one, and whether there are more.
    fn of(&self, of: FetchedOf) -> (Vec<TopicOffsets>, bool) {
        let topics = match of {
            FetchedOf::Some(topics) => topics,
            FetchedOf::AllAfter(after) => return self.all(after.as_ref()),
        };
        let offsets = self.coordinator.offsets(&self.group);
        let asked = topics.into_iter().map(|topic| {
            let OffsetsOf {
                name,
                id,
                partitions,
            } = topic;
            let fetched = |partition| {
                let committed = offsets.and_then(|offsets| offsets.get(&name, partition));
                let committed = committed.filter(|committed| committed.is_of(id));
                (partition, self.one((&name, partition, id), committed))
            };
            let found = partitions.into_iter().map(fetched).collect();
            (name, found)
        });
        (asked.collect(), false)
    }

    /// The offsets behind this partition, as many as are told at a time. As in Kafka those alone for which something is
    /// committed, whatever a transaction has.
    fn all(&self, after: Option<&(Name, i32)>) -> (Vec<TopicOffsets>, bool) {
        let offsets = self.coordinator.offsets(&self.group);
        let mut all = offsets.into_iter().flat_map(|o| o.after(after));
        let (mut some, mut left) = (Vec::<TopicOffsets>::new(), OFFSETS_TOLD_PER_SLICE);
        while left > 0
            && let Some((topic, partition, committed)) = all.next()
        {
            let place = (&**topic, partition, committed.topic_id);
            let fetched = self.one(place, Some(committed));
            left = left.saturating_sub(fetched.things());
            let told = (partition, fetched);
            match some.last_mut() {
                Some((last, offsets)) if last == topic => offsets.push(told),
                _ => {
                    // A topic costs its name besides.
                    left = left.saturating_sub(1);
                    some.push((topic.clone(), vec![told]));
                }
            }
        }
        (some, all.next().is_some())
    }

    fn one(
        &self,
        (topic, partition, id): (&str, i32, TopicId),
        committed: Option<&Committed>,
    ) -> FetchedOffset {
        let coordinator = self.coordinator;
        let is_unstable = || coordinator.is_unstable(&self.group, topic, partition, id);
        match committed {
            _ if self.stability == Stability::Stable && is_unstable() => {
                FetchedOffset::Unstable(id)
            }
            Some(committed) => FetchedOffset::At(committed.clone()),
            None => FetchedOffset::Nothing,
        }
    }
}
