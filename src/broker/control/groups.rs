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

/// What a record has besides its key and value, about, in bytes.
const RECORD_OVERHEAD: usize = 10;

/// Appends records to a partition of `__consumer_offsets`; returns the token of their commit.
fn write(
    partition: i32,
    records: &[Record],
    image: &Image,
    owner: &mut Owner,
    fx: &mut Fx<'_>,
) -> Result<u64, ErrorCode> {
    let log = offsets_log(image, partition).ok_or(ErrorCode::CoordinatorNotAvailable)?;
    let wall_ms = fx.now.wall_ms;
    let bytes = |(key, value): &Record| key.len() + value.as_ref().map_or(0, Bytes::len);
    let bytes = records.iter().map(bytes).sum::<usize>() + records.len() * RECORD_OVERHEAD;
    let mut batch = BatchBuilder::with_capacity(Codec::None, wall_ms, bytes);
    for (key, value) in records {
        batch.push(wall_ms, Some(key), value.as_deref(), &[]);
    }
    let batch = batch.build();
    if !owner.has_room(log, batch.len(), true) {
        return Err(ErrorCode::KafkaStorageError);
    }
    let end = owner
        .append_internal(fx.now, log, batch)
        .map_err(|(code, _)| code)?;
    Ok(owner.tell_when_committed(log, end))
}

#[cfg(test)]
mod tests {
    use kafka_wire as kw;

    use super::*;
    use crate::base::StoreId;
    use crate::broker::apis::{self, Handler};
    use crate::broker::control::testing::{Site, call, req, topic};
    use crate::broker::groups::NodeInfo;
    use crate::controller::MetadataRecord;
    use crate::controller::testing::partition;
    use crate::group::GroupConfig;
    use crate::log::LogConfig;
    use crate::store::LogLabel;
    use crate::wire::client::{decode_response, encode_request};
    use crate::wire::parse_header;

    const OFFSETS_LOG: LogId = LogId(5);
    const VERSION: i16 = 8;

    struct Fixture {
        site: Site,
        groups: Groups,
        image: Image,
    }

    impl Fixture {
        /// The coordinator, with its topic in the image; its log is not open yet.
        fn new() -> Self {
            let node = NodeInfo {
                id: 1,
                endpoints: vec![("here".into(), 9092)],
            };
            let mut image = Image::of_node([crate::base::DirectoryId::new(1, StoreId(0))]);
            let offsets = MetadataRecord::Topic {
                name: OFFSETS_TOPIC.to_owned(),
                id: TopicId([2; 16]),
            };
            let records = [
                topic(1),
                partition(1, 0, 1),
                offsets,
                partition(2, 0, OFFSETS_LOG.0),
            ];
            for record in &records {
                image.replay(record).unwrap();
            }
            let mut f = Self {
                site: Site::new(),
                groups: Groups::new(GroupService::new(GroupConfig::default(), node, 1)),
                image,
            };
            let groups = &mut f.groups;
            assert!(f.site.act(|_, fx| groups.loaded(fx)).is_empty());
            f
        }

        fn open_log(&mut self) {
            let (label, config) = (LogLabel::default(), LogConfig::default());
            self.site
                .act(|owner, fx| owner.open_log(fx.now, 0, OFFSETS_LOG, label, config));
            self.site.flush();
        }

        /// A request as it comes from the shard of its client.
        fn call<R: kw::KafkaRequest>(&mut self, id: u64, request: &R) {
            let frame = encode_request(1, Some("me"), VERSION, request).unwrap();
            let (header, body) = parse_header(frame.slice(4..), apis::api).unwrap();
            self.call_raw(
                id,
                ControlCall {
                    header,
                    body,
                    ..*call(0)
                },
            );
        }

        fn call_raw(&mut self, id: u64, call: ControlCall) {
            let Some(Handler::Groups(handler)) =
                apis::served(call.header.key).map(|served| served.handler)
            else {
                panic!("not the coordinator's");
            };
            let (groups, image) = (&mut self.groups, &self.image);
            self.site
                .act(|owner, fx| groups.call(handler, req(id), call, image, owner, fx));
        }

        /// Lets the disk finish; the partitions of which something is durable.
        fn flush(&mut self) -> Vec<Option<i32>> {
            let (groups, image) = (&mut self.groups, &self.image);
            let tokens = self.site.flush().into_iter();
            let site = &mut self.site;
            tokens
                .map(|token| site.act(|owner, fx| groups.durable(token, image, owner, fx)))
                .collect()
        }

        /// Records in the log.
        fn written(&self) -> i64 {
            self.site.owner.partitions[&OFFSETS_LOG].log.end_offset().0
        }

        fn error_of_commit(&mut self) -> i16 {
            let answers = self.site.answers();
            let [(7, Ok(frame))] = &answers[..] else {
                panic!("{answers:?}");
            };
            let frame = frame.slice(4..);
            let (_, response) = decode_response::<kw::OffsetCommitRequest>(frame, VERSION).unwrap();
            response.topics[0].partitions[0].error_code
        }
    }

    fn commit() -> kw::OffsetCommitRequest {
        let mut partition = kw::offset_commit_request::OffsetCommitRequestPartition::default();
        partition.committed_offset = 3;
        let mut topic = kw::offset_commit_request::OffsetCommitRequestTopic::default();
        topic.name = "topic-1".into();
        topic.partitions = vec![partition];
        let mut request = kw::OffsetCommitRequest::default();
        request.group_id = "g".into();
        request.generation_id_or_member_epoch = -1;
        request.topics = vec![topic];
        request
    }

    #[test]
    fn a_commit_is_answered_when_its_records_are_durable() {
        let mut f = Fixture::new();
        f.open_log();
        f.call(7, &commit());
        assert_eq!(f.written(), 1);
        assert!(f.site.answers().is_empty() && !f.groups.is_quiet());
        assert_eq!(f.flush(), [Some(0)]);
        assert_eq!((f.error_of_commit(), f.groups.is_quiet()), (0, true));
    }

    #[test]
    fn a_commit_that_cannot_be_written_is_refused() {
        let mut f = Fixture::new();
        // Its log is not there.
        f.call(7, &commit());
        assert_eq!(f.flush(), []);
        assert_ne!(f.error_of_commit(), 0);
        assert!(f.groups.is_quiet());
    }

    #[test]
    fn what_cannot_be_read_is_answered_with_the_reason() {
        let mut f = Fixture::new();
        let cut_off = ControlCall {
            header: crate::wire::RequestHeader {
                key: 8,
                ..call(0).header
            },
            ..*call(1)
        };
        f.call_raw(7, cut_off);
        assert!(matches!(&f.site.answers()[..], [(7, Err(_))]));
    }

    #[test]
    fn what_was_committed_for_a_topic_goes_with_it() {
        let mut f = Fixture::new();
        f.open_log();
        f.call(7, &commit());
        f.flush();
        assert_eq!(f.error_of_commit(), 0);
        let (groups, image) = (&mut f.groups, &f.image);
        f.site.act(|owner, fx| {
            groups.topics_deleted(&["topic-2".to_owned()], image, owner, fx);
        });
        assert_eq!(f.written(), 1, "nothing was committed for that one");
        let (groups, image) = (&mut f.groups, &f.image);
        f.site.act(|owner, fx| {
            groups.topics_deleted(&["topic-1".to_owned()], image, owner, fx);
        });
        assert!(f.written() > 1, "it is forgotten");
        assert_eq!(f.flush(), [Some(0)]);
        assert!(f.site.answers().is_empty(), "nobody has asked");
    }
}
