//! The coordinators of a shard, and what is around them: who waits for their answers, the records that they want
//! appended, what they have to load, and the compaction of their partitions.
//!
//! A coordinator is there as long as this node leads its partition, in one epoch: another leader may have written what
//! it does not know.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::consumers::ImageTopics;
use super::early::EarlyCommits;
use super::load::{LoadInto, LoadedPartition, Loads};
use super::own_settings::ImageSettings;
use super::refusals::{Refusals, in_transaction_of, refusal};
use super::snapshots::Snapshots;
use super::streams::CreatesTopics;
use super::topic::OFFSETS_TOPIC;
use crate::base::{ErrorCode, IdMap, LeaderEpoch, LogId, Mono, ShardId, StoreId, TopicId, limits};
use crate::broker::fx::Fx;
use crate::broker::io::ReadId;
use crate::broker::msg::{AppendFate, InTransaction, Msg, ReqRef};
use crate::broker::own::compact;
use crate::broker::own::led::{LedPartitions, led_by, place_of, send_batch};
use crate::broker::owner::Owner;
use crate::broker::owner::acks::Told;
use crate::broker::owner::adopt::Adopted;
use crate::broker::owner::work::Worker;
use crate::broker::rare_log::{LifeLog, RareLog};
use crate::config::BrokerConfig;
use crate::controller::{GroupConfigs, Image};
use crate::coordinator::{GroupAnswer, GroupAsk, Host, HostEffect, InstanceState, Question};
use crate::group::{
    ConsumerConfig, GroupConfig, Name, Record, StreamsConfig, TransactionalProducer,
};
use crate::store::DiskError;

/// See the module.
#[derive(Debug)]
pub struct Coordinators {
    host: Host,
    /// The partitions that are led here, each with its log and the epoch.
    led: LedPartitions,
    /// Who waits for an answer, by token: the request, and the place in it.
    waits: IdMap<u64, (ReqRef, u32)>,
    /// Tokens of questions, and numbers of appends.
    begun: u64,
    /// Appends on their way.
    appends: IdMap<u64, Appending>,
    loads: Loads,
    snapshots: Snapshots,
    early: EarlyCommits,
    refusals: Refusals,
    creates: CreatesTopics,
    news: LifeLog,
    too_large: RareLog,
    /// The version of the metadata that is served by.
    served: u64,
    /// The settings of the broker, and those of single groups.
    config: Arc<BrokerConfig>,
    own: Arc<GroupConfigs>,
}

/// An append on its way.
#[derive(Clone, Copy, Debug)]
struct Appending {
    partition: i32,
    /// The number that its coordinator knows.
    append: u64,
    /// The epoch in which that one is there.
    epoch: LeaderEpoch,
}

impl Coordinators {
    /// None yet. The seed is for member ids.
    pub fn new(config: Arc<BrokerConfig>, seed: u64) -> Self {
        Self {
            host: Host::new(group_config(&config), seed),
            led: LedPartitions::new(),
            waits: IdMap::default(),
            begun: 0,
            appends: IdMap::default(),
            loads: Loads::new(Worker::Offsets),
            snapshots: Snapshots::default(),
            early: EarlyCommits::default(),
            refusals: Refusals::default(),
            creates: CreatesTopics::default(),
            news: LifeLog::default(),
            too_large: RareLog::default(),
            served: 0,
            config,
            own: Arc::default(),
        }
    }

    /// Settings of the broker have changed.
    pub fn set_config(&mut self, config: Arc<BrokerConfig>) {
        self.host.set_consumer_config(&consumer_config(&config));
        self.host.set_streams_config(&streams_config(&config));
        self.config = config;
        self.set_own();
    }

    fn set_own(&mut self) {
        self.host.set_own(
            &(Arc::new(ImageSettings {
                broker: Arc::clone(&self.config),
                groups: Arc::clone(&self.own),
            }) as _),
        );
    }

    /// Whether everything that was there is loaded.
    pub fn is_loaded(&self) -> bool {
        self.loads.is_done()
    }

    /// How many groups there are.
    pub const fn groups(&self) -> usize {
        self.host.usage().groups
    }

    /// Whether nothing is being written.
    pub fn is_quiet(&self) -> bool {
        self.appends.is_empty() && self.snapshots.is_quiet() && self.early.is_empty()
    }

    /// When [`Coordinators::tick`] has something to do.
    pub fn next_deadline(&self) -> Mono {
        self.host.next_deadline().min(self.loads.next_deadline())
    }

    /// Panics if something is wrong inside. For the simulator.
    pub fn invariants(&self) {
        self.host.invariants();
        self.early.invariants();
    }

    /// The image is served by here: takes over the partitions that this shard leads, gives up those that it leads no
    /// more, begins to delete the offsets of topics that are gone, and takes the questions that came by it. The control
    /// shard is told.
    pub fn adopted(&mut self, image: &Image, adopted: Adopted, owner: &mut Owner, fx: &mut Fx<'_>) {
        if !Arc::ptr_eq(&self.own, &image.groups) {
            self.own = Arc::clone(&image.groups);
            self.set_own();
        }
        let led = led_by(image, OFFSETS_TOPIC, owner);
        let before = std::mem::replace(&mut self.led, led);
        for (index, before) in before {
            if self.led.get(&index) != Some(&before) {
                self.give_up(index, before.0, image, fx);
            }
        }
        let led: Vec<i32> = self.led.keys().copied().collect();
        led.into_iter().for_each(|index| self.take_over(index));
        let Adopted {
            version,
            strays,
            removes_topics,
        } = adopted;
        if removes_topics {
            self.host.begin_sweep(None);
        }
        fx.send(ShardId(0), Msg::ImageApplied { version, strays });
        self.served = version;
        self.put_early(image, fx);
        self.load_some(image, owner, fx);
    }

    /// Begins to load a partition that is led here, if that is not done and nothing is left of the time before.
    fn take_over(&mut self, partition: i32) {
        if let Some((log, _)) = self.led.get(&partition)
            && self.host.open(partition)
        {
            self.loads.want(partition, *log);
        }
    }

    /// A partition is led here no more, or in another epoch. What is on its way ends.
    fn give_up(&mut self, partition: i32, log: LogId, image: &Image, fx: &mut Fx<'_>) {
        self.loads.forget(partition);
        self.snapshots.forget(log);
        let mut effects = Vec::new();
        self.host.unload(fx.now, partition, &mut effects);
        self.perform(effects, image, fx);
    }

    /// Takes questions of a request. The shard that it came to serves by the image of this version.
    pub fn ask(
        &mut self,
        req: ReqRef,
        version: u64,
        parts: Vec<(u32, Question)>,
        image: &Image,
        fx: &mut Fx<'_>,
    ) {
        if !self.early.holds(&parts, version, image.version) {
            return self.put(req, parts, image, fx);
        }
        let mut pushed = self.early.push(version, req, parts);
        if pushed.is_err() && self.early.may_go(self.served) {
            // Of what needs not wait any more a slice makes room, and no more than that in one turn.
            self.put_early(image, fx);
            pushed = pushed.or_else(|parts| self.early.push(version, req, parts));
        }
        if let Err(parts) = pushed {
            let error = ErrorCode::CoordinatorLoadInProgress;
            let answers = parts.into_iter();
            let answers = answers.map(|(slot, question)| (slot, question.refused(error)));
            let (id, answers) = (req.id, answers.collect());
            fx.send(req.shard, Msg::GroupsDone { id, answers });
        }
    }

    /// Puts questions that need not wait any more to their coordinators, a slice of them.
    fn put_early(&mut self, image: &Image, fx: &mut Fx<'_>) {
        let mut left = limits::OFFSETS_PER_SLICE;
        while let Some((req, parts)) = self.early.next(self.served, &mut left) {
            self.put(req, parts, image, fx);
        }
    }

    /// Puts questions to their coordinators.
    fn put(
        &mut self,
        req: ReqRef,
        mut parts: Vec<(u32, Question)>,
        image: &Image,
        fx: &mut Fx<'_>,
    ) {
        let mut effects = Vec::new();
        for (_, question) in &mut parts {
            if let Question::To(_, GroupAsk::Commit(commit)) = question {
                // The topic may be gone since: so is what is committed for it, as if the commit had been earlier.
                let mut last = (TopicId::ZERO, false);
                commit.offsets.retain(|offset| {
                    let id = offset.committed.topic_id;
                    if last.0 != id {
                        last = (id, image.topic_by_id(id).is_some());
                    }
                    last.1
                });
            }
        }
        let (mut left, mut again) = (limits::OFFSETS_TOLD_PER_SLICE, Vec::new());
        for (slot, question) in parts {
            if let Question::To(_, ask) = &question
                && left == 0
                && ask.tells()
            {
                again.push((slot, GroupAnswer::Again(Box::new(ask.clone()))));
                continue;
            }
            let token = self.token();
            let transaction = in_transaction_of(&question);
            self.host
                .ask(fx.now, token, question, &ImageTopics(image), &mut effects);
            if let Some(HostEffect::Answer(_, answer)) = effects.last() {
                left = left.saturating_sub(answer.things());
                if let (Some(transaction), Some(error)) = (transaction, refusal(answer)) {
                    effects.pop();
                    self.refusals
                        .begin(token, (req, slot), transaction, error, fx);
                    continue;
                }
            }
            self.waits.insert(token, (req, slot));
        }
        if !again.is_empty() {
            let (id, answers) = (req.id, again);
            fx.send(req.shard, Msg::GroupsDone { id, answers });
        }
        self.perform(effects, image, fx);
    }

    /// What was asked about the transaction of a commit that is refused has come to this.
    pub fn transaction_told(&mut self, number: u64, errors: &[ErrorCode], fx: &mut Fx<'_>) {
        self.refusals.told(number, errors, fx);
    }

    /// Topics that a group needs are created, or are not.
    pub fn topics_created(&mut self, number: u64) {
        self.creates.ended(number);
    }

    /// Lets the coordinators see the time.
    pub fn tick(&mut self, image: &Image, fx: &mut Fx<'_>) {
        self.loads.tick(fx.now.mono);
        if fx.now.mono >= self.host.next_deadline() {
            let mut effects = Vec::new();
            self.host.tick(fx.now, &ImageTopics(image), &mut effects);
            self.perform(effects, image, fx);
        }
    }

    /// The broker goes down: members that wait for a rebalance are told to look for another coordinator.
    pub fn stop(&mut self, image: &Image, owner: &Owner, fx: &mut Fx<'_>) {
        self.snapshots.stop(owner);
        let mut effects = Vec::new();
        self.host.stop(fx.now, &mut effects);
        self.perform(effects, image, fx);
    }

    /// Something is known of records that were to be appended.
    pub fn appended(
        &mut self,
        number: u64,
        fate: AppendFate,
        image: &Image,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) {
        let Some(&Appending {
            partition,
            append,
            epoch,
        }) = self.appends.get(&number)
        else {
            return;
        };
        let (now, late, mut effects) = (fx.now, (partition, append), Vec::new());
        let result = match fate {
            AppendFate::Late => {
                let error = ErrorCode::RequestTimedOut;
                self.host.late(now, late, error, &mut effects);
                return self.perform(effects, image, fx);
            }
            AppendFate::Committed(told) => {
                if let Err(error) = told {
                    self.host.late(now, late, error, &mut effects);
                }
                Ok(())
            }
            AppendFate::Left(error) => {
                self.leads_no_more(partition, epoch, image, fx);
                Err(error)
            }
            AppendFate::Refused(refused) => Err(refused.code),
        };
        self.appends.remove(&number);
        let host = &mut self.host;
        host.appended(now, partition, append, result, &mut effects);
        self.perform(effects, image, fx);
        if let Some((_, log)) = place(image, partition) {
            let place = (partition, log);
            self.snapshots.appended(&mut self.host, place, owner, fx);
        }
        // It may have been the last one of a coordinator that was given up.
        self.take_over(partition);
        self.load_some(image, owner, fx);
    }

    /// The end of a transaction in a log is committed. If it is that of a partition whose coordinator is here, offsets
    /// count or are forgotten; one that is loaded reads it by itself. Told in the order of the log, among the messages
    /// that tell what has become of records ([`Msg::Appended`]).
    pub fn transaction_ended(
        &mut self,
        log: LogId,
        (producer_id, commits): (i64, bool),
        owner: &mut Owner,
        fx: &Fx<'_>,
    ) {
        let mut led = self.led.iter();
        let Some((&partition, _)) = led.find(|(_, (of, _))| *of == log) else {
            return;
        };
        if self.host.state(partition) == Some(InstanceState::Active) {
            self.host.marker(partition, producer_id, commits);
            let place = (partition, log);
            self.snapshots.appended(&mut self.host, place, owner, fx);
        }
    }

    /// What a coordinator has written may be committed by another leader, or not: it does not know any more what its
    /// log says, and decides on nothing. Its shard is about to serve by the metadata that say who leads.
    fn leads_no_more(
        &mut self,
        partition: i32,
        epoch: LeaderEpoch,
        image: &Image,
        fx: &mut Fx<'_>,
    ) {
        let led = self.led.get(&partition).filter(|(_, of)| *of == epoch);
        if let Some(&(log, _)) = led {
            self.led.remove(&partition);
            self.give_up(partition, log, image, fx);
        }
    }

    /// Goes on with what is done in slices.
    pub fn slice(&mut self, image: &Image, owner: &mut Owner, fx: &mut Fx<'_>) {
        self.put_early(image, fx);
        self.load_some(image, owner, fx);
        self.snapshots.go_on(&mut self.host, owner, fx);
        if self.host.can_sweep() {
            let gone = |topic: &str, id| match image.topic(topic) {
                Some(topic) => id != topic.id,
                None => true,
            };
            let mut effects = Vec::new();
            self.host.sweep_part(fx.now, gone, &mut effects);
            self.perform(effects, image, fx);
        }
    }

    /// Whether [`Coordinators::slice`] has more to do.
    pub fn has_more(&self) -> bool {
        self.snapshots.has_more()
            || self.host.can_sweep()
            || self.early.may_go(self.served)
            || self.loads.has_more()
    }

    /// If the token is that of a compaction: its records are committed, so what was before them can go. If it is that
    /// of a partition that is loaded, it is read on. Unless another one leads.
    pub fn told(&mut self, told: Told, owner: &mut Owner, fx: &Fx<'_>) {
        if !self.loads.told(told) {
            self.snapshots.told(told, owner, fx);
        }
    }

    /// A read of a partition that is being loaded has ended.
    pub fn read(
        &mut self,
        owner: &mut Owner,
        id: ReadId,
        result: Result<Bytes, DiskError>,
        image: &Image,
        fx: &mut Fx<'_>,
    ) {
        self.loads.reader.ended(owner, id, result, fx);
        self.load_some(image, owner, fx);
    }

    /// Goes on loading.
    fn load_some(&mut self, image: &Image, owner: &mut Owner, fx: &mut Fx<'_>) {
        loop {
            let mut to = LoadInto {
                host: &mut self.host,
                image,
                owner,
            };
            let Some(loaded) = self.loads.next(&mut to, fx) else {
                break;
            };
            self.loaded(loaded, image, owner, fx);
        }
    }

    /// A partition is read: its groups are served.
    fn loaded(
        &mut self,
        loaded: LoadedPartition,
        image: &Image,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) {
        let LoadedPartition { partition, skipped } = loaded;
        let mut effects = Vec::new();
        self.host.loaded(fx.now, partition, &mut effects);
        if skipped && let Some((_, log)) = place(image, partition) {
            let place = (partition, log);
            self.snapshots.begin(&mut self.host, place, owner, fx);
        }
        // Topics that were deleted just before a crash, and offsets that do not say of which topic they are.
        self.host.begin_sweep(Some(partition));
        self.perform(effects, image, fx);
    }

    fn token(&mut self) -> u64 {
        self.begun += 1;
        self.begun
    }

    /// Begins an append; returns the epoch in which its coordinator is there.
    fn write(
        &self,
        partition: i32,
        (records, producer): (&[Record], Option<&TransactionalProducer>),
        id: u64,
        image: &Image,
        fx: &mut Fx<'_>,
    ) -> Result<LeaderEpoch, ErrorCode> {
        let led = self.led.get(&partition);
        let (_, epoch) = *led.ok_or(ErrorCode::NotLeaderOrFollower)?;
        if self.host.is_behind(partition) {
            // What would wait behind what is late is not waited for: it would be kept for as long.
            return Err(ErrorCode::NotEnoughReplicas);
        }
        let place = place(image, partition);
        send(place, (records, producer), (id, epoch), fx)?;
        Ok(epoch)
    }

    /// Does what the coordinators want.
    fn perform(&mut self, effects: Vec<HostEffect>, image: &Image, fx: &mut Fx<'_>) {
        let mut effects = VecDeque::from(effects);
        // What is answered of a request at once goes there at once.
        let mut done: Vec<(ReqRef, Vec<(u32, GroupAnswer)>)> = Vec::new();
        while let Some(effect) = effects.pop_front() {
            match effect {
                HostEffect::Answer(token, answer) => {
                    if let Some((req, slot)) = self.waits.remove(&token) {
                        match done.last_mut() {
                            Some((last, answers)) if *last == req => answers.push((slot, answer)),
                            _ => done.push((req, vec![(slot, answer)])),
                        }
                    }
                }
                HostEffect::News(group, news) => self.news.say(fx.now.mono, |more| {
                    tracing::info!("group {group} {news}{more}");
                }),
                HostEffect::CreateTopics(_, topics) => {
                    let number = self.token();
                    self.creates.begin(number, topics, fx);
                }
                HostEffect::TooLarge(group) => self.too_large.say(fx.now.mono, &group, |more| {
                    tracing::warn!(
                        "group {group} is subscribed to more than {} partitions, or to names of topics that take too \
                         much: its members keep what they have{more}",
                        limits::GROUP_PARTITIONS_MAX
                    );
                }),
                HostEffect::Append {
                    partition,
                    append,
                    records,
                    producer,
                } => {
                    let id = self.token();
                    let write = (&*records, producer.as_ref());
                    match self.write(partition, write, id, image, fx) {
                        Ok(epoch) => {
                            let begun = Appending {
                                partition,
                                append,
                                epoch,
                            };
                            self.appends.insert(id, begun);
                        }
                        Err(code) => {
                            let mut more = Vec::new();
                            self.host
                                .appended(fx.now, partition, append, Err(code), &mut more);
                            effects.extend(more);
                        }
                    }
                }
            }
        }
        for (req, answers) in done {
            let id = req.id;
            fx.send(req.shard, Msg::GroupsDone { id, answers });
        }
    }
}

/// Store and log of a partition.
fn place(image: &Image, partition: i32) -> Option<(StoreId, LogId)> {
    place_of(image, OFFSETS_TOPIC, partition)
}

/// Sends records to a partition's owner, this shard, as one batch, perhaps in a transaction.
fn send(
    place: Option<(StoreId, LogId)>,
    (records, producer): (&[Record], Option<&TransactionalProducer>),
    of: (u64, LeaderEpoch),
    fx: &mut Fx<'_>,
) -> Result<(), ErrorCode> {
    // All that is put into a record is bounded when it comes; a batch could not even say that it has so many bytes.
    let bytes: usize = records.iter().map(compact::size).sum();
    if bytes > limits::GROUP_APPEND_BYTES_MAX {
        return Err(ErrorCode::RecordListTooLarge);
    }
    let in_name = producer.map(|producer| (producer.id, producer.epoch));
    let batch = compact::batch_of(fx.now, records, in_name);
    send_batch(place, (batch, producer.map(in_transaction)), of, fx)
}

/// The partition is part of the transaction already, because AddOffsetsToTxn has made it one; or it becomes one now.
fn in_transaction(producer: &TransactionalProducer) -> InTransaction {
    InTransaction {
        transactional_id: producer.transactional_id.clone(),
        adds: producer.adds,
        knows_abortable: producer.knows_abortable,
    }
}

fn group_config(config: &BrokerConfig) -> GroupConfig {
    GroupConfig {
        min_session_timeout_ms: config.group_min_session_timeout_ms,
        max_session_timeout_ms: config.group_max_session_timeout_ms,
        initial_rebalance_delay_ms: config.group_initial_rebalance_delay_ms.max(0) as u64,
        max_size: config.group_max_size.max(1) as usize,
        offsets_retention_ms: i64::from(config.offsets_retention_minutes) * 60_000,
        offsets_retention_check_interval_ms: config.offsets_retention_check_interval_ms.max(1)
            as u64,
        consumer: consumer_config(config),
        streams: streams_config(config),
        told_at_a_time: limits::MEMBERS_TOLD_PER_SLICE,
        own: None,
    }
}

fn consumer_config(config: &BrokerConfig) -> ConsumerConfig {
    let assignors = &config.group_consumer_assignors;
    ConsumerConfig {
        session_timeout_ms: config.group_consumer_session_timeout_ms.max(1) as u64,
        heartbeat_interval_ms: config.group_consumer_heartbeat_interval_ms,
        max_size: config.group_consumer_max_size.max(1) as usize,
        assignment_interval_ms: config.group_consumer_assignment_interval_ms.max(0) as u64,
        assignors: assignors.names().map(Name::from).collect(),
        ..ConsumerConfig::default()
    }
}

fn streams_config(config: &BrokerConfig) -> StreamsConfig {
    StreamsConfig {
        session_timeout_ms: config.group_streams_session_timeout_ms.max(1) as u64,
        heartbeat_interval_ms: config.group_streams_heartbeat_interval_ms,
        max_size: config.group_streams_max_size.max(1) as usize,
        assignment_interval_ms: config.group_streams_assignment_interval_ms.max(0) as u64,
        initial_rebalance_delay_ms: config.group_streams_initial_rebalance_delay_ms.max(0) as u64,
        standby_replicas: config.group_streams_num_standby_replicas.max(0) as usize,
        ..StreamsConfig::default()
    }
}

#[cfg(test)]
mod tests;
