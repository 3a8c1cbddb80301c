//! The group coordinator on the control shard: its calls, its records in `__consumer_offsets`, its timers.

use bytes::Bytes;

use crate::base::{ErrorCode, IdMap, LogId, TopicId};
use crate::broker::fx::Fx;
use crate::broker::groups::{
    Call, GroupEffect, GroupHandler, GroupService, OFFSETS_TOPIC, TopicInfo, TopicLookup,
};
use crate::broker::msg::{ControlCall, Msg, ReqRef};
use crate::broker::owner::Owner;
use crate::controller::{Image, Topic};
use crate::group::Record;
use crate::record::{BatchBuilder, Codec};

impl TopicLookup for Image {
    fn by_name(&self, name: &str) -> Option<TopicInfo<'_>> {
        self.topic(name).map(|topic| info(topic))
    }

    fn by_id(&self, id: TopicId) -> Option<TopicInfo<'_>> {
        self.topic_by_id(id).map(|topic| info(topic))
    }
}

fn info(topic: &Topic) -> TopicInfo<'_> {
    TopicInfo {
        name: &topic.name,
        id: topic.id,
        partitions: topic.partitions.len() as i32,
    }
}

/// The log of a partition of `__consumer_offsets`.
pub fn offsets_log(image: &Image, partition: i32) -> Option<LogId> {
    let topic = image.topic(OFFSETS_TOPIC)?;
    Some(topic.partition(partition)?.log)
}

/// See the module.
#[derive(Debug)]
pub struct Groups {
    pub service: GroupService,
    /// Who waits for the coordinator, by the token of the call.
    calls: IdMap<u64, ReqRef>,
    /// Tokens of calls.
    begun: u64,
    /// Appends that are being flushed, by the token of the flush: number and partition.
    appends: IdMap<u64, (u64, i32)>,
}

impl Groups {
    pub fn new(service: GroupService) -> Self {
        Self {
            service,
            calls: IdMap::default(),
            begun: 0,
            appends: IdMap::default(),
        }
    }

    /// Whether nothing is being written.
    pub fn is_quiet(&self) -> bool {
        self.appends.is_empty()
    }

    /// Takes a group request.
    pub fn call(
        &mut self,
        handler: GroupHandler,
        req: ReqRef,
        call: ControlCall,
        image: &Image,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) {
        self.begun += 1;
        let token = self.begun;
        self.calls.insert(token, req);
        let call = Call {
            token,
            header: call.header,
            body: call.body,
            client_host: format!("/{}", call.client_host),
            listener: call.listener,
        };
        let mut effects = Vec::new();
        self.service
            .request(fx.now, handler, call, image, &mut effects);
        self.perform(effects, image, owner, fx);
    }

    /// Lets the coordinator see the time.
    pub fn tick(&mut self, image: &Image, owner: &mut Owner, fx: &mut Fx<'_>) {
        if fx.now.mono >= self.service.next_deadline() {
            let mut effects = Vec::new();
            self.service.tick(fx.now, &mut effects);
            self.perform(effects, image, owner, fx);
        }
    }

    /// The broker goes down: members that wait for a rebalance are told to look for another coordinator.
    pub fn stop(&mut self, image: &Image, owner: &mut Owner, fx: &mut Fx<'_>) {
        let mut effects = Vec::new();
        self.service.stop(fx.now, &mut effects);
        self.perform(effects, image, owner, fx);
    }

    /// All records have been replayed.
    pub fn loaded(&mut self, fx: &mut Fx<'_>) -> Vec<GroupEffect> {
        let mut effects = Vec::new();
        self.service.loaded(fx.now, &mut effects);
        effects
    }

    /// If the token is that of an append of the coordinator, it is durable: returns its partition.
    pub fn durable(
        &mut self,
        token: u64,
        image: &Image,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) -> Option<i32> {
        let (append, partition) = self.appends.remove(&token)?;
        self.appended(append, Ok(()), image, owner, fx);
        Some(partition)
    }

    /// Records of the coordinator are durable, or could not be written.
    fn appended(
        &mut self,
        append: u64,
        result: Result<(), ErrorCode>,
        image: &Image,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) {
        let mut effects = Vec::new();
        self.service.appended(fx.now, append, result, &mut effects);
        self.perform(effects, image, owner, fx);
    }

    /// Topics are gone: so are the offsets committed for them.
    pub fn topics_deleted(
        &mut self,
        topics: &[String],
        image: &Image,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) {
        let mut effects = Vec::new();
        for topic in topics {
            self.service.topic_deleted(fx.now, topic, &mut effects);
        }
        self.perform(effects, image, owner, fx);
    }

    /// Does what the coordinator wants.
    pub fn perform(
        &mut self,
        effects: Vec<GroupEffect>,
        image: &Image,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) {
        for effect in effects {
            match effect {
                GroupEffect::Reply { token, frame } => self.reply(token, Ok(frame), fx),
                GroupEffect::Fail { token, error } => {
                    self.reply(token, Err(error.to_string()), fx);
                }
                GroupEffect::Append {
                    append,
                    partition,
                    records,
                } => {
                    let written = write(partition, &records, image, owner, fx);
                    match written {
                        Ok(token) => {
                            self.appends.insert(token, (append, partition));
                        }
                        Err(code) => self.appended(append, Err(code), image, owner, fx),
                    }
                }
            }
        }
    }

    fn reply(&mut self, token: u64, answer: Result<Bytes, String>, fx: &mut Fx<'_>) {
        if let Some(req) = self.calls.remove(&token) {
            fx.send(req.shard, Msg::ControlDone { id: req.id, answer });
        }
    }
}

/// Appends records to a partition of `__consumer_offsets`; returns the token of their flush.
fn write(
    partition: i32,
    records: &[Record],
    image: &Image,
    owner: &mut Owner,
    fx: &mut Fx<'_>,
) -> Result<u64, ErrorCode> {
    let log = offsets_log(image, partition).ok_or(ErrorCode::CoordinatorNotAvailable)?;
    let wall_ms = fx.now.wall_ms;
    let mut batch = BatchBuilder::new(Codec::None, wall_ms);
    for (key, value) in records {
        batch.push(wall_ms, Some(key), value.as_deref(), &[]);
    }
    let batch = batch.build();
    if !owner.has_room(log, batch.len(), true) {
        return Err(ErrorCode::KafkaStorageError);
    }
    let slot = owner
        .append_internal(fx.now, log, batch)
        .map_err(|(code, _)| code)?;
    Ok(owner.tell_when_durable(slot, fx))
}
