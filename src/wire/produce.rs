//! Produce, versions 3 to 13, by hand: the records of a request stay slices of
//! its frame. Flexible from version 9, topics by id from version 13.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use bytes::Bytes;
use kafka_wire_core::StrBytes;

use super::error::WireError;
use super::gather::Gather;
use super::leaders::{CurrentLeader, NodeEndpoint};
use super::reader::{Reader, TOPIC_BYTES_MIN};
use super::topic::TopicRef;
use crate::base::ErrorCode;
use crate::record::Codec;

/// The versions that are read and written here.
pub const VERSIONS: RangeInclusive<i16> = 3..=13;
pub(super) const FLEXIBLE_FROM: i16 = 9;
pub(super) const TOPIC_IDS_FROM: i16 = 13;
pub(super) const ERROR_MESSAGES_FROM: i16 = 8;
pub(super) const LOG_START_FROM: i16 = 5;
/// From this version on it is said who leads a partition that another broker leads.
pub const LEADERS_FROM: i16 = 10;
/// The number of that field of a partition.
const LEADER_TAG: u32 = 0;

/// A produce request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProduceRequest {
    /// Set by transactional producers.
    pub transactional_id: Option<StrBytes>,
    /// 0 no answer, 1 and -1 an answer when durable; other values are for the broker to refuse.
    pub acks: i16,
    /// Milliseconds the client is willing to wait for the replicas.
    pub timeout_ms: i32,
    /// The records.
    pub topics: Vec<ProduceTopic>,
}

/// The records for one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceTopic {
    /// Which one.
    pub topic: TopicRef,
    /// Its partitions.
    pub partitions: Vec<ProducePartition>,
}

/// The records for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducePartition {
    /// Which one.
    pub index: i32,
    /// As sent, not looked at; see [`crate::record::validate_produced`].
    pub records: Option<Bytes>,
}

impl ProduceRequest {
    /// Parses the body of a request of a version that is served. What follows it is ignored, as by Kafka.
    ///
    /// # Errors
    /// If the body is malformed, or the version is not served.
    pub fn parse(body: Bytes, version: i16) -> Result<Self, WireError> {
        check_version(version)?;
        let mut reader = Reader::new(body, version >= FLEXIBLE_FROM);
        let transactional_id = reader.nullable_string("transactional id")?;
        let acks = reader.i16("acks")?;
        let timeout_ms = reader.i32("timeout")?;
        let topics = reader.list(TOPIC_BYTES_MIN, "topics", |reader| {
            let topic = reader.topic(version >= TOPIC_IDS_FROM)?;
            let partitions = reader.list(5, "partitions", |reader| {
                let index = reader.i32("partition index")?;
                let records = reader.nullable_bytes("records")?;
                reader.skip_tags()?;
                Ok(ProducePartition { index, records })
            })?;
            reader.skip_tags()?;
            Ok(ProduceTopic { topic, partitions })
        })?;
        reader.skip_tags()?;
        Ok(Self {
            transactional_id,
            acks,
            timeout_ms,
            topics,
        })
    }
}

fn check_version(version: i16) -> Result<(), WireError> {
    if VERSIONS.contains(&version) {
        return Ok(());
    }
    Err(WireError::UnsupportedVersion {
        api: "Produce",
        version,
    })
}

/// Whether a producer may use this codec in a request of this version; if not, the partition is
/// refused with `UNSUPPORTED_COMPRESSION_TYPE`. Zstandard came with version 7.
#[must_use]
pub fn codec_allowed(version: i16, codec: Codec) -> bool {
    version >= 7 || codec != Codec::Zstd
}

/// The answer to a produce request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProduceResponse {
    /// The answers, topics and partitions as in the request.
    pub topics: Vec<ProduceTopicResponse>,
    /// Milliseconds for which the client should hold back.
    pub throttle_time_ms: i32,
    /// Where the leaders are that are named, from version 10. Nobody here reads them.
    pub endpoints: Vec<NodeEndpoint>,
}

/// The answers for one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceTopicResponse {
    /// As the request named it.
    pub topic: TopicRef,
    /// Its partitions.
    pub partitions: Vec<ProducePartitionResponse>,
}

/// The answer for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducePartitionResponse {
    /// Which one.
    pub index: i32,
    /// Success or why not.
    pub error: ErrorCode,
    /// Offset of the first record; -1 on error.
    pub base_offset: i64,
    /// Milliseconds since 1970 if the topic has LogAppendTime, otherwise -1.
    pub log_append_time: i64,
    /// First offset of the partition; -1 if unknown.
    pub log_start_offset: i64,
    /// For people, on error; from version 8.
    pub error_message: Option<Cow<'static, str>>,
    /// Who leads it, if that is another broker; from version 10. Nobody here reads it.
    pub leader: Option<CurrentLeader>,
}

impl ProducePartitionResponse {
    /// The answer for records that were not taken.
    #[must_use]
    pub const fn failed(index: i32, error: ErrorCode, message: Option<Cow<'static, str>>) -> Self {
        Self {
            index,
            error,
            base_offset: -1,
            log_append_time: -1,
            log_start_offset: -1,
            error_message: message,
            leader: None,
        }
    }
}

/// The frame of a response, length prefix included.
///
/// # Panics
/// If the frame is 2 GiB or longer; the size of the request bounds it far below.
#[must_use]
pub fn encode_response(correlation_id: i32, version: i16, response: &ProduceResponse) -> Bytes {
    let mut out = ResponseWriter::new(correlation_id, version, response.topics.len());
    for topic in &response.topics {
        out.topic(&topic.topic, topic.partitions.len());
        topic.partitions.iter().for_each(|p| out.partition(p));
        out.end_topic();
    }
    out.finish(response.throttle_time_ms, &response.endpoints)
}

/// A response while it is written, topic after topic: a broker that answers very many of them need not
/// gather each first.
#[derive(Debug)]
pub struct ResponseWriter {
    out: Gather<Bytes>,
    version: i16,
}

impl ResponseWriter {
    /// Begins a response for so many topics.
    #[must_use]
    pub fn new(correlation_id: i32, version: i16, topics: usize) -> Self {
        let mut out = Gather::new(64 + 64 * topics, version >= FLEXIBLE_FROM);
        out.i32(correlation_id);
        out.no_tags();
        out.len(Some(topics));
        Self { out, version }
    }

    /// Begins a topic, of which so many partitions follow.
    pub fn topic(&mut self, topic: &TopicRef, partitions: usize) {
        self.out.topic(topic);
        self.out.len(Some(partitions));
    }

    /// The answer for the next partition.
    pub fn partition(&mut self, partition: &ProducePartitionResponse) {
        let leads = self.version >= LEADERS_FROM;
        let out = &mut self.out;
        out.i32(partition.index);
        out.i16(partition.error.code());
        out.i64(partition.base_offset);
        out.i64(partition.log_append_time);
        if self.version >= LOG_START_FROM {
            out.i64(partition.log_start_offset);
        }
        if self.version >= ERROR_MESSAGES_FROM {
            // No errors of single records: a batch is refused as a whole.
            out.len(Some(0));
            out.nullable_string(partition.error_message.as_deref());
        }
        out.leader_tag(LEADER_TAG, partition.leader.filter(|_| leads));
    }

    /// Ends a topic.
    pub fn end_topic(&mut self) {
        self.out.no_tags();
    }

    /// The frame, length prefix included.
    ///
    /// # Panics
    /// As [`encode_response`].
    #[must_use]
    pub fn finish(mut self, throttle_time_ms: i32, endpoints: &[NodeEndpoint]) -> Bytes {
        self.out.i32(throttle_time_ms);
        match self.version {
            LEADERS_FROM.. => self.out.endpoints_tag(endpoints),
            _ => self.out.no_tags(),
        }
        self.out.written()
    }
}

#[cfg(test)]
mod tests {
    //! Our coding against the generated one, in both directions and all versions.

    use kafka_wire::produce_request as theirs;
    use kafka_wire::produce_response as their;
    use kafka_wire_core::Uuid;
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;
    use crate::base::TopicId;
    use crate::wire::api::known;
    use crate::wire::client::{
        decode_produce, decode_response, encode_produce, encode_produce_flat, encode_request,
    };
    use crate::wire::{decode, parse_header};

    fn any_topic(version: i16) -> BoxedStrategy<TopicRef> {
        if version >= TOPIC_IDS_FROM {
            any::<[u8; 16]>()
                .prop_map(|id| TopicRef::Id(TopicId(id)))
                .boxed()
        } else {
            "\\PC{0,20}"
                .prop_map(|name| TopicRef::Name(name.into()))
                .boxed()
        }
    }

    fn any_request() -> impl Strategy<Value = (i16, ProduceRequest)> {
        (3i16..=13).prop_flat_map(|version| {
            let partition = (any::<i32>(), option::of(vec(any::<u8>(), 0..300))).prop_map(
                |(index, records)| ProducePartition {
                    index,
                    records: records.map(Bytes::from),
                },
            );
            let topic = (any_topic(version), vec(partition, 0..4))
                .prop_map(|(topic, partitions)| ProduceTopic { topic, partitions });
            (
                Just(version),
                option::of("[a-z]{0,9}"),
                any::<(i16, i32)>(),
                vec(topic, 0..4),
            )
                .prop_map(|(version, id, (acks, timeout_ms), topics)| {
                    let transactional_id = id.map(StrBytes::from);
                    (
                        version,
                        ProduceRequest {
                            transactional_id,
                            acks,
                            timeout_ms,
                            topics,
                        },
                    )
                })
        })
    }

    fn any_response() -> impl Strategy<Value = (i16, ProduceResponse)> {
        (3i16..=13).prop_flat_map(|version| {
            let partition = (
                any::<(i32, i64, i64, i64)>(),
                -1i16..130,
                option::of("\\PC{0,20}"),
                option::of((0..i32::MAX, any::<i32>())),
            )
                .prop_map(
                    move |((index, base, append, start), error, message, leader)| {
                        ProducePartitionResponse {
                            index,
                            error: ErrorCode::from_code(error).unwrap_or_default(),
                            base_offset: base,
                            log_append_time: append,
                            log_start_offset: if version >= LOG_START_FROM { start } else { -1 },
                            error_message: message
                                .filter(|_| version >= ERROR_MESSAGES_FROM)
                                .map(Cow::Owned),
                            leader: leader
                                .filter(|_| version >= LEADERS_FROM)
                                .map(|(id, epoch)| CurrentLeader { id, epoch }),
                        }
                    },
                );
            let endpoint = (any::<(i32, i32)>(), "\\PC{0,20}").prop_map(|((id, port), host)| {
                let host = host.as_str().into();
                NodeEndpoint { id, host, port }
            });
            let topic = (any_topic(version), vec(partition, 0..4))
                .prop_map(|(topic, partitions)| ProduceTopicResponse { topic, partitions });
            let topics = vec(topic, 0..4);
            (Just(version), any::<i32>(), topics, vec(endpoint, 0..3)).prop_map(
                |(version, throttle_time_ms, topics, mut endpoints)| {
                    if version < LEADERS_FROM {
                        endpoints.clear();
                    }
                    let response = ProduceResponse {
                        topics,
                        throttle_time_ms,
                        endpoints,
                    };
                    (version, response)
                },
            )
        })
    }

    fn named(topic: &TopicRef) -> (StrBytes, Uuid) {
        match topic {
            TopicRef::Name(name) => (name.clone(), Uuid::ZERO),
            TopicRef::Id(id) => (StrBytes::default(), Uuid::from_bytes(id.0)),
        }
    }

    fn generated_request(request: &ProduceRequest) -> theirs::ProduceRequest {
        let mut out = theirs::ProduceRequest::default();
        out.transactional_id = request.transactional_id.clone();
        out.acks = request.acks;
        out.timeout_ms = request.timeout_ms;
        for topic in &request.topics {
            let mut data = theirs::TopicProduceData::default();
            (data.name, data.topic_id) = named(&topic.topic);
            for partition in &topic.partitions {
                let mut item = theirs::PartitionProduceData::default();
                item.index = partition.index;
                item.records = partition.records.clone();
                data.partition_data.push(item);
            }
            out.topic_data.push(data);
        }
        out
    }

    fn generated_response(response: &ProduceResponse) -> their::ProduceResponse {
        let mut out = their::ProduceResponse::default();
        out.throttle_time_ms = response.throttle_time_ms;
        for endpoint in &response.endpoints {
            let mut one = their::NodeEndpoint::default();
            (one.node_id, one.host, one.port) = (endpoint.id, endpoint.host.clone(), endpoint.port);
            out.node_endpoints.push(one);
        }
        for topic in &response.topics {
            let mut data = their::TopicProduceResponse::default();
            (data.name, data.topic_id) = named(&topic.topic);
            for partition in &topic.partitions {
                let mut item = their::PartitionProduceResponse::default();
                item.index = partition.index;
                item.error_code = partition.error.code();
                item.base_offset = partition.base_offset;
                item.log_append_time_ms = partition.log_append_time;
                item.log_start_offset = partition.log_start_offset;
                item.error_message = partition.error_message.as_deref().map(StrBytes::from);
                if let Some(leader) = partition.leader {
                    item.current_leader.leader_id = leader.id;
                    item.current_leader.leader_epoch = leader.epoch;
                }
                data.partition_responses.push(item);
            }
            out.responses.push(data);
        }
        out
    }

    #[test]
    fn records_are_slices_of_the_frame() {
        let partition = ProducePartition {
            index: 0,
            records: Some(vec![7; 1000].into()),
        };
        let topic = TopicRef::Name("t".into());
        let request = ProduceRequest {
            topics: vec![ProduceTopic {
                topic,
                partitions: vec![partition],
            }],
            ..ProduceRequest::default()
        };
        let frame = encode_produce_flat(1, None, 9, &request).slice(4..);
        let (_, body) = parse_header(frame.clone(), known).unwrap();
        let parsed = ProduceRequest::parse(body, 9).unwrap();
        let records = parsed.topics[0].partitions[0].records.clone().unwrap();
        assert!(frame.as_ptr_range().contains(&records.as_ptr()));
        assert_eq!(records.len(), 1000);
        // And on the way out the client's batch is not copied either.
        let sent = request.topics[0].partitions[0].records.as_ref().unwrap();
        let parts = encode_produce(1, None, 9, &request);
        assert!(parts.iter().any(|part| part.as_ptr() == sent.as_ptr()));
    }

    #[test]
    fn what_the_newest_brokers_add_is_skipped() {
        let mut item = their::PartitionProduceResponse::default();
        item.record_errors = vec![their::BatchIndexAndErrorMessage::default(); 3];
        item.current_leader.leader_id = 4;
        let mut data = their::TopicProduceResponse::default();
        data.partition_responses.push(item);
        let mut response = their::ProduceResponse::default();
        response.responses.push(data);
        response.node_endpoints = vec![their::NodeEndpoint::default()];
        let frame = crate::wire::encode_response(1, 13, &response).unwrap();
        let (_, back) = decode_produce(frame.slice(4..), 13).unwrap();
        assert_eq!(back.topics[0].partitions.len(), 1);
    }

    #[test]
    fn old_versions_may_not_use_zstd() {
        assert!(!codec_allowed(6, Codec::Zstd));
        assert!(codec_allowed(7, Codec::Zstd) && codec_allowed(3, Codec::Lz4));
        assert!(ProduceRequest::parse(Bytes::new(), 2).is_err());
    }

    proptest! {
        #[test]
        fn requests_agree_with_the_generated_type((version, request) in any_request()) {
            let generated = generated_request(&request);
            let ours = encode_produce_flat(5, Some("c"), version, &request);
            prop_assert_eq!(&ours, &encode_request(5, Some("c"), version, &generated).unwrap());
            let (_, body) = parse_header(ours.slice(4..), known).unwrap();
            prop_assert_eq!(decode::<theirs::ProduceRequest>(body.clone(), version).unwrap(), generated);
            prop_assert_eq!(ProduceRequest::parse(body.clone(), version).unwrap(), request);
            for len in 0..body.len() {
                prop_assert!(ProduceRequest::parse(body.slice(..len), version).is_err());
            }
        }

        #[test]
        fn responses_agree_with_the_generated_type((version, response) in any_response()) {
            let generated = generated_response(&response);
            let ours = encode_response(5, version, &response);
            prop_assert_eq!(&ours, &crate::wire::encode_response(5, version, &generated).unwrap());
            let frame = ours.slice(4..);
            let back = decode_response::<theirs::ProduceRequest>(frame.clone(), version).unwrap();
            prop_assert_eq!(back.0, 5);
            let mut response = response;
            response.endpoints.clear();
            let partitions = response.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
            partitions.for_each(|partition| partition.leader = None);
            prop_assert_eq!(decode_produce(frame, version).unwrap(), (5, response));
        }

        #[test]
        fn damaged_bodies_never_panic(
            (version, request) in any_request(),
            at: prop::sample::Index,
            byte: u8,
            noise: Vec<u8>,
        ) {
            let _ = ProduceRequest::parse(noise.clone().into(), version);
            let _ = decode_produce(noise.into(), version);
            let mut body = encode_produce_flat(5, None, version, &request).to_vec();
            let at = at.index(body.len());
            body[at] = byte;
            if let Ok((header, body)) = parse_header(Bytes::from(body).slice(4..), known) {
                let _ = ProduceRequest::parse(body, header.version);
            }
        }
    }
}
