//! Between the group coordinator and the shard: its calls, its records in
//! `__consumer_offsets`, its timers.

use super::room::Room;
use crate::base::{ErrorCode, Now, TopicId};
use crate::broker::control::{Change, Control};
use crate::broker::fx::Fx;
pub use crate::broker::groups::OFFSETS_TOPIC;
use crate::broker::groups::{
    Call, GroupEffect, GroupHandler, TopicInfo, TopicLookup, needs_offsets_topic,
};
use crate::broker::msg::{ControlCall, Msg, ReqRef};
use crate::broker::owner::Owner;
use crate::broker::owner::ack::Ack;
use crate::controller::{Image, Topic};
use crate::record::{BatchBuilder, Codec};
use bytes::Bytes;

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

impl Control {
    /// Takes a group request; makes `__consumer_offsets` first if it is not there.
    pub fn group_call(
        &mut self,
        now: Now,
        handler: GroupHandler,
        req: ReqRef,
        call: Box<ControlCall>,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) {
        if self.image().topic(OFFSETS_TOPIC).is_none() && needs_offsets_topic(&call.header) {
            let records = self.offsets_topic();
            let change = Change::new(now, self.image(), records);
            match self.room_for(&change, &call, owner) {
                Room::There => return self.commit_and_retry(now, change, req, call, owner, fx),
                Room::Unknown => return self.ask_for_room(req, call, &change, fx),
                // The topic has to wait; the coordinator says that it is not available.
                Room::Full => {}
            }
        }
        let token = self.token();
        self.group_calls.insert(token, req);
        let call = Call {
            token,
            header: call.header,
            body: call.body,
            client_host: format!("/{}", call.client_host),
            listener: call.listener,
        };
        let mut effects = Vec::new();
        self.groups
            .request(now, handler, call, &self.image, &mut effects);
        self.group_effects(now, effects, owner, fx);
    }

    /// Lets the coordinator see the time.
    pub fn group_tick(&mut self, now: Now, owner: &mut Owner, fx: &mut Fx<'_>) {
        if self.load.is_done() && now.mono >= self.groups.next_deadline() {
            let mut effects = Vec::new();
            self.groups.tick(now, &mut effects);
            self.group_effects(now, effects, owner, fx);
        }
    }

    /// The broker goes down: members that wait for a rebalance are told to look for another coordinator.
    pub fn stop_groups(&mut self, now: Now, owner: &mut Owner, fx: &mut Fx<'_>) {
        if self.load.is_done() {
            let mut effects = Vec::new();
            self.groups.stop(now, &mut effects);
            self.group_effects(now, effects, owner, fx);
        }
    }

    /// Records of the coordinator are durable, or could not be written.
    pub fn group_appended(
        &mut self,
        now: Now,
        append: u64,
        result: Result<(), ErrorCode>,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) {
        let mut effects = Vec::new();
        self.groups.appended(now, append, result, &mut effects);
        self.group_effects(now, effects, owner, fx);
    }

    /// Topics are gone: so are the offsets committed for them.
    pub fn group_topics_deleted(
        &mut self,
        now: Now,
        topics: &[String],
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) {
        let mut effects = Vec::new();
        for topic in topics {
            self.groups.topic_deleted(now, topic, &mut effects);
        }
        self.group_effects(now, effects, owner, fx);
    }

    /// Does what the coordinator wants.
    pub fn group_effects(
        &mut self,
        now: Now,
        effects: Vec<GroupEffect>,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) {
        for effect in effects {
            match effect {
                GroupEffect::Reply { token, frame } => self.group_reply(token, Ok(frame), fx),
                GroupEffect::Fail { token, error } => {
                    self.group_reply(token, Err(error.to_string()), fx);
                }
                GroupEffect::Append {
                    append,
                    partition,
                    records,
                } => {
                    if let Err(code) =
                        self.append_offsets(now, append, partition, &records, owner, fx)
                    {
                        self.group_appended(now, append, Err(code), owner, fx);
                    }
                }
            }
        }
    }

    fn group_reply(&mut self, token: u64, answer: Result<Bytes, String>, fx: &mut Fx<'_>) {
        if let Some(req) = self.group_calls.remove(&token) {
            fx.send(req.shard, Msg::ControlDone { id: req.id, answer });
        }
    }

    fn append_offsets(
        &mut self,
        now: Now,
        append: u64,
        partition: i32,
        records: &[(Bytes, Option<Bytes>)],
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) -> Result<(), ErrorCode> {
        let log = self
            .image()
            .topic(OFFSETS_TOPIC)
            .and_then(|topic| topic.partition(partition))
            .map(|partition| partition.log)
            .ok_or(ErrorCode::CoordinatorNotAvailable)?;
        let mut batch = BatchBuilder::new(Codec::None, now.wall_ms);
        for (key, value) in records {
            batch.push(now.wall_ms, Some(key), value.as_deref(), &[]);
        }
        let batch = batch.build();
        if !owner.has_room(log, batch.len(), true) {
            return Err(ErrorCode::KafkaStorageError);
        }
        let slot = owner
            .append_internal(now, log, batch)
            .map_err(|(code, _)| code)?;
        let token = self.token();
        self.group_appends.insert(token, (append, partition));
        owner.ack_after(slot, Ack::Control(token), fx);
        Ok(())
    }
}
