//! What the requests look like that have lists of structures, as far as it takes to count the entries of
//! all of them, and the tagged fields of each, before one is decoded: an entry or a tag takes a few bytes of the
//! request, and ten times that and some of a core's time once it is decoded.
//!
//! Requests whose lists have plain values are not here: the limits of a list and of a structure's tags bound them. Nor
//! are those that are read some partitions at a time (`partitions`).

use bytes::Bytes;

use super::error::WireError;
use super::reader::Reader;
use crate::base::limits::REQUEST_ENTRIES_MAX;

/// A field, in the versions that have it.
#[derive(Clone, Copy)]
struct Field {
    kind: Kind,
    since: i16,
    until: i16,
}

#[derive(Clone, Copy)]
enum Kind {
    /// A value of so many bytes.
    Fixed(usize),
    /// A string that may be null.
    Text,
    /// Bytes that may be null.
    Blob,
    /// A structure that may be null, as flexible versions have it.
    Maybe(&'static [Field]),
    /// An array of structures, which may be null.
    Structs(&'static [Field]),
    /// An array of plain values.
    Values(&'static Field),
}

impl Field {
    const fn of(kind: Kind) -> Self {
        Self {
            kind,
            since: 0,
            until: i16::MAX,
        }
    }

    const fn since(self, since: i16) -> Self {
        Self { since, ..self }
    }

    const fn until(self, until: i16) -> Self {
        Self { until, ..self }
    }
}

const BYTE: Field = Field::of(Kind::Fixed(1));
const SHORT: Field = Field::of(Kind::Fixed(2));
const INT: Field = Field::of(Kind::Fixed(4));
const LONG: Field = Field::of(Kind::Fixed(8));
const UUID: Field = Field::of(Kind::Fixed(16));
const TEXT: Field = Field::of(Kind::Text);
const BLOB: Field = Field::of(Kind::Blob);
const INTS: Field = Field::of(Kind::Values(&INT));
const SHORTS: Field = Field::of(Kind::Values(&SHORT));
const TEXTS: Field = Field::of(Kind::Values(&TEXT));

const fn list(of: &'static [Field]) -> Field {
    Field::of(Kind::Structs(of))
}

/// The fields of a request, by its API key.
const fn fields(key: i16) -> Option<&'static [Field]> {
    Some(match key {
        3 => METADATA,
        8 => OFFSET_COMMIT,
        9 => OFFSET_FETCH,
        10 => FIND_COORDINATOR,
        11 => JOIN_GROUP,
        13 => LEAVE_GROUP,
        14 => SYNC_GROUP,
        19 => CREATE_TOPICS,
        20 => DELETE_TOPICS,
        24 => ADD_PARTITIONS_TO_TXN,
        27 => WRITE_TXN_MARKERS,
        28 => TXN_OFFSET_COMMIT,
        32 => DESCRIBE_CONFIGS,
        33 => ALTER_CONFIGS,
        37 => CREATE_PARTITIONS,
        43 => ELECT_LEADERS,
        44 => INCREMENTAL_ALTER_CONFIGS,
        46 => LIST_PARTITION_REASSIGNMENTS,
        47 => OFFSET_DELETE,
        55 => DESCRIBE_QUORUM,
        56 => ALTER_PARTITION,
        61 => DESCRIBE_PRODUCERS,
        68 => CONSUMER_GROUP_HEARTBEAT,
        74 => LIST_CONFIG_RESOURCES,
        75 => DESCRIBE_TOPIC_PARTITIONS,
        80 => ADD_RAFT_VOTER,
        88 => STREAMS_GROUP_HEARTBEAT,
        _ => return None,
    })
}

const METADATA: &[Field] = &[
    list(&[UUID.since(10), TEXT]),
    BYTE.since(4),
    BYTE.since(8).until(10),
    BYTE.since(8),
];
const OFFSET_COMMIT: &[Field] = &[
    TEXT,
    INT,
    TEXT,
    TEXT.since(7),
    LONG.until(4),
    list(&[
        TEXT.until(9),
        UUID.since(10),
        list(&[INT, LONG, INT.since(6), TEXT]),
    ]),
];
const TXN_OFFSET_COMMIT: &[Field] = &[
    TEXT,
    TEXT,
    LONG,
    SHORT,
    INT.since(3),
    TEXT.since(3),
    TEXT.since(3),
    list(&[
        TEXT.until(5),
        UUID.since(6),
        list(&[INT, LONG, INT.since(2), TEXT]),
    ]),
];
const OFFSET_FETCH: &[Field] = &[
    TEXT.until(7),
    list(&[TEXT, INTS]).until(7),
    list(&[
        TEXT,
        TEXT.since(9),
        INT.since(9),
        list(&[TEXT.until(9), UUID.since(10), INTS]),
    ])
    .since(8),
    BYTE.since(7),
];
const FIND_COORDINATOR: &[Field] = &[
    TEXT.until(3),
    BYTE.since(1),
    Field::of(Kind::Values(&TEXT)).since(4),
];
const JOIN_GROUP: &[Field] = &[
    TEXT,
    INT,
    INT.since(1),
    TEXT,
    TEXT.since(5),
    TEXT,
    list(&[TEXT, BLOB]),
    TEXT.since(8),
];
const LEAVE_GROUP: &[Field] = &[
    TEXT,
    TEXT.until(2),
    list(&[TEXT, TEXT, TEXT.since(5)]).since(3),
];
const CONSUMER_GROUP_HEARTBEAT: &[Field] = &[
    TEXT,
    TEXT,
    INT,
    TEXT,
    TEXT,
    INT,
    TEXTS,
    TEXT.since(1),
    TEXT,
    list(&[UUID, INTS]),
];
const STREAMS_TOPIC: &[Field] = &[TEXT, INT, SHORT, list(&[TEXT, TEXT])];
const STREAMS_TASKS: Field = list(&[TEXT, INTS]);
const STREAMS_TASK_OFFSETS: Field = list(&[TEXT, INT, LONG]);
const STREAMS_SUBTOPOLOGY: &[Field] = &[
    TEXT,
    TEXTS,
    TEXTS,
    list(STREAMS_TOPIC),
    TEXTS,
    list(STREAMS_TOPIC),
    list(&[SHORTS, SHORTS, SHORTS]),
];
const STREAMS_GROUP_HEARTBEAT: &[Field] = &[
    TEXT,
    TEXT,
    INT,
    INT,
    TEXT,
    TEXT,
    INT,
    Field::of(Kind::Maybe(&[INT, list(STREAMS_SUBTOPOLOGY)])),
    STREAMS_TASKS,
    STREAMS_TASKS,
    STREAMS_TASKS,
    TEXT,
    Field::of(Kind::Maybe(&[TEXT, SHORT])),
    list(&[TEXT, TEXT]),
    STREAMS_TASK_OFFSETS,
    STREAMS_TASK_OFFSETS,
    BYTE,
];
const SYNC_GROUP: &[Field] = &[
    TEXT,
    INT,
    TEXT,
    TEXT.since(3),
    TEXT.since(5),
    TEXT.since(5),
    list(&[TEXT, BLOB]),
];
const CREATE_TOPICS: &[Field] = &[
    list(&[TEXT, INT, SHORT, list(&[INT, INTS]), list(&[TEXT, TEXT])]),
    INT,
    BYTE,
];
const DELETE_TOPICS: &[Field] = &[
    list(&[TEXT, UUID]).since(6),
    Field::of(Kind::Values(&TEXT)).until(5),
    INT,
];
const DESCRIBE_CONFIGS: &[Field] = &[
    list(&[BYTE, TEXT, Field::of(Kind::Values(&TEXT))]),
    BYTE,
    BYTE.since(3),
];
const ALTER_CONFIGS: &[Field] = &[list(&[BYTE, TEXT, list(&[TEXT, TEXT])]), BYTE];
const CREATE_PARTITIONS: &[Field] = &[list(&[TEXT, INT, list(&[INTS])]), INT, BYTE];
const INCREMENTAL_ALTER_CONFIGS: &[Field] = &[list(&[BYTE, TEXT, list(&[TEXT, BYTE, TEXT])]), BYTE];
const ELECT_LEADERS: &[Field] = &[BYTE.since(1), list(&[TEXT, INTS]), INT];
const LIST_PARTITION_REASSIGNMENTS: &[Field] = &[INT, list(&[TEXT, INTS])];
const OFFSET_DELETE: &[Field] = &[TEXT, list(&[TEXT, list(&[INT])])];
const DESCRIBE_QUORUM: &[Field] = &[list(&[TEXT, list(&[INT])])];
const ADD_RAFT_VOTER: &[Field] = &[
    TEXT,
    INT,
    INT,
    UUID,
    list(&[TEXT, TEXT, SHORT]),
    BYTE.since(1),
];
const ALTER_PARTITION: &[Field] = &[
    INT,
    LONG,
    list(&[
        UUID,
        list(&[
            INT,
            INT,
            INTS.until(2),
            list(&[INT, LONG]).since(3),
            BYTE,
            INT,
        ]),
    ]),
];
const ADD_PARTITIONS_TO_TXN: &[Field] = &[
    TEXT.until(3),
    LONG.until(3),
    SHORT.until(3),
    list(&[TEXT, INTS]).until(3),
    list(&[TEXT, LONG, SHORT, BYTE, list(&[TEXT, INTS])]).since(4),
];
const WRITE_TXN_MARKERS: &[Field] = &[list(&[
    LONG,
    SHORT,
    BYTE,
    list(&[TEXT, INTS]),
    INT,
    BYTE.since(2),
])];
const DESCRIBE_PRODUCERS: &[Field] = &[list(&[TEXT, INTS])];
const LIST_CONFIG_RESOURCES: &[Field] = &[Field::of(Kind::Values(&BYTE)).since(1)];
const DESCRIBE_TOPIC_PARTITIONS: &[Field] =
    &[list(&[TEXT]), INT, Field::of(Kind::Maybe(&[TEXT, INT]))];

/// Refuses a request of more entries in all its lists, and tags in all its structures, than
/// [`crate::base::limits::REQUEST_ENTRIES_MAX`].
///
/// # Errors
/// If it has more, or ends too early.
pub(super) fn check(key: i16, version: i16, flexible: bool, body: &Bytes) -> Result<(), WireError> {
    match fields(key) {
        Some(fields) => skip(&mut Reader::new(body.clone(), flexible), version, fields),
        None => Ok(()),
    }
}

/// Refuses an element of the list of a request if it has more entries in its own lists than
/// [`crate::base::limits::REQUEST_ENTRIES_MAX`], or all elements have more than the reader takes.
///
/// # Errors
/// If it has more, or ends too early.
pub(super) fn check_element(key: i16, version: i16, reader: &mut Reader) -> Result<(), WireError> {
    let has = |field: &&Field| (field.since..=field.until).contains(&version);
    let lists = |field: &&Field| matches!(field.kind, Kind::Structs(_) | Kind::Values(_));
    let list = fields(key).and_then(|fields| fields.iter().filter(has).find(lists));
    reader.within_entries(REQUEST_ENTRIES_MAX, |reader| {
        match list.map(|list| list.kind) {
            Some(Kind::Structs(fields)) => skip(reader, version, fields),
            Some(Kind::Values(field)) => skip_field(reader, version, field.kind),
            _ => Ok(()),
        }
    })
}

/// Skips a structure.
fn skip(reader: &mut Reader, version: i16, fields: &[Field]) -> Result<(), WireError> {
    for field in fields {
        if (field.since..=field.until).contains(&version) {
            skip_field(reader, version, field.kind)?;
        }
    }
    reader.skip_tags()
}

fn skip_field(reader: &mut Reader, version: i16, kind: Kind) -> Result<(), WireError> {
    const WHAT: &str = "lists";
    match kind {
        Kind::Fixed(bytes) => reader.skip(bytes, WHAT),
        Kind::Text => reader.skip_string(WHAT),
        Kind::Blob => reader.skip_bytes(WHAT),
        Kind::Maybe(fields) => match reader.i8(WHAT)? {
            0.. => skip(reader, version, fields),
            _ => Ok(()),
        },
        Kind::Structs(fields) => {
            let list = reader.nullable_list(1, WHAT, |reader| skip(reader, version, fields));
            list.map(drop)
        }
        Kind::Values(field) => {
            let value = |reader: &mut Reader| skip_field(reader, version, field.kind);
            reader.nullable_list(1, WHAT, value).map(drop)
        }
    }
}

#[cfg(test)]
mod tests {
    use kafka_wire::*;
    use kafka_wire_core::{ApiVersion, KafkaEncode};

    use super::*;
    use crate::wire::codec::decode;

    /// Two entries in each list of structures and one in each of values: what an entry ends with is seen.
    fn samples(version: i16) -> Vec<(i16, Option<Bytes>)> {
        let mut all = Vec::new();
        let kafkas = ApiVersion::new(version);
        macro_rules! sample {
            ($($request:ident: $($field:ident)?, $topic:expr;)*) => {$({
                let mut request = $request::default();
                request.$($field)? = $topic.into();
                let serves = $request::SUPPORTED_VERSIONS.contains(kafkas);
                let bytes = serves.then(|| request.encode_to_bytes(kafkas).unwrap());
                all.push(($request::API_KEY.value(), bytes));
            })*};
        }
        /// Two of a structure that has this in its fields.
        macro_rules! two {
            ($module:ident::$of:ident { $($field:ident: $value:expr),* }) => {{
                let mut one = $module::$of::default();
                $(one.$field = $value.into();)*
                vec![one.clone(), one]
            }};
        }
        let name = |until: i16| if version <= until { "name" } else { "" };
        sample! {
            OffsetCommitRequest: topics, two!(offset_commit_request::OffsetCommitRequestTopic {
                name: name(9),
                partitions: two!(offset_commit_request::OffsetCommitRequestPartition {
                    committed_metadata: Some("note".into()) }) });
            TxnOffsetCommitRequest: topics, two!(txn_offset_commit_request::TxnOffsetCommitRequestTopic {
                name: name(5),
                partitions: two!(txn_offset_commit_request::TxnOffsetCommitRequestPartition {
                    committed_metadata: Some("note".into()) }) });
            CreateTopicsRequest: topics, two!(create_topics_request::CreatableTopic {
                name: "name",
                assignments: two!(create_topics_request::CreatableReplicaAssignment { broker_ids: [7] }),
                configs: two!(create_topics_request::CreatableTopicConfig { name: "key" }) });
            DescribeConfigsRequest: resources, two!(describe_configs_request::DescribeConfigsResource {
                configuration_keys: Some(vec!["key".into()]) });
            AlterConfigsRequest: resources, two!(alter_configs_request::AlterConfigsResource {
                configs: two!(alter_configs_request::AlterableConfig { name: "key" }) });
            CreatePartitionsRequest: topics, two!(create_partitions_request::CreatePartitionsTopic {
                assignments: Some(two!(create_partitions_request::CreatePartitionsAssignment { broker_ids: [7] })) });
            IncrementalAlterConfigsRequest: resources, two!(incremental_alter_configs_request::AlterConfigsResource {
                configs: two!(incremental_alter_configs_request::AlterableConfig { name: "key" }) });
            ListPartitionReassignmentsRequest: topics,
                Some(two!(list_partition_reassignments_request::ListPartitionReassignmentsTopics {
                    partition_indexes: [7] }));
            ElectLeadersRequest: topic_partitions, Some(two!(elect_leaders_request::TopicPartitions {
                topic: "name", partitions: [7] }));
            MetadataRequest: topics, Some(two!(metadata_request::MetadataRequestTopic { name: Some("name".into()) }));
            JoinGroupRequest: protocols, two!(join_group_request::JoinGroupRequestProtocol { metadata: vec![7; 300] });
            SyncGroupRequest: assignments, two!(sync_group_request::SyncGroupRequestAssignment {
                assignment: vec![7; 300] });
            DescribeTopicPartitionsRequest: topics, two!(describe_topic_partitions_request::TopicRequest {
                name: "name" });
            AddRaftVoterRequest: listeners, two!(add_raft_voter_request::Listener { name: "name", host: "host" });
            DescribeTopicPartitionsRequest: cursor, Some(describe_topic_partitions_request::Cursor::default());
            OffsetDeleteRequest: topics, two!(offset_delete_request::OffsetDeleteRequestTopic {
                partitions: two!(offset_delete_request::OffsetDeleteRequestPartition { partition_index: 7 }) });
        }
        if version <= 2 {
            sample! {
                AlterPartitionRequest: topics, two!(alter_partition_request::TopicData {
                    partitions: two!(alter_partition_request::PartitionData { new_isr: [7] }) });
            }
        } else {
            sample! {
                AlterPartitionRequest: topics, two!(alter_partition_request::TopicData {
                    partitions: two!(alter_partition_request::PartitionData {
                        new_isr_with_epochs: two!(alter_partition_request::BrokerState { broker_id: 7 }) }) });
            }
        }
        if version <= 2 {
            sample! { LeaveGroupRequest: member_id, "member"; }
        } else {
            sample! {
                LeaveGroupRequest: members, two!(leave_group_request::MemberIdentity { member_id: "member" });
            }
        }
        if version <= 5 {
            sample! { DeleteTopicsRequest: topic_names, ["a".into(), "b".into()]; }
        } else {
            sample! {
                DeleteTopicsRequest: topics, two!(delete_topics_request::DeleteTopicState { name: Some("name".into()) });
            }
        }
        if version <= 7 {
            sample! {
                OffsetFetchRequest: topics, Some(two!(offset_fetch_request::OffsetFetchRequestTopic {
                    name: "name", partition_indexes: [7] }));
            }
        } else {
            sample! {
                OffsetFetchRequest: groups, two!(offset_fetch_request::OffsetFetchRequestGroup {
                    topics: Some(two!(offset_fetch_request::OffsetFetchRequestTopics {
                        name: name(9), partition_indexes: [7] })) });
            }
        }
        all.extend(samples_of_coordinators(version));
        all.extend(samples_of_streams(version));
        all
    }

    fn samples_of_streams(version: i16) -> Vec<(i16, Option<Bytes>)> {
        let mut all = [(); 3].map(|()| StreamsGroupHeartbeatRequest::default());
        all[0].topology = Some(streams_topology());
        all[1].user_endpoint = Some(streams_group_heartbeat_request::Endpoint::default());
        let offset = streams_group_heartbeat_request::TaskOffset::default();
        all[2].task_end_offsets = Some(vec![offset; 2]);
        let version = ApiVersion::new(version);
        let serves = StreamsGroupHeartbeatRequest::SUPPORTED_VERSIONS.contains(version);
        let bytes = |it: &StreamsGroupHeartbeatRequest| {
            let bytes = serves.then(|| it.encode_to_bytes(version).unwrap());
            (StreamsGroupHeartbeatRequest::API_KEY.value(), bytes)
        };
        all.iter().map(bytes).collect()
    }

    fn streams_topology() -> streams_group_heartbeat_request::Topology {
        use streams_group_heartbeat_request::{
            CopartitionGroup, KeyValue, Subtopology, TopicInfo, Topology,
        };
        let mut topic = TopicInfo::default();
        topic.name = "name".into();
        topic.topic_configs = vec![KeyValue::default(); 2];
        let mut copartitioned = CopartitionGroup::default();
        copartitioned.source_topics = vec![7];
        copartitioned.repartition_source_topics = vec![7];
        let mut subtopology = Subtopology::default();
        subtopology.source_topics = vec!["a".into()];
        subtopology.state_changelog_topics = vec![topic.clone(); 2];
        subtopology.repartition_sink_topics = vec!["b".into()];
        subtopology.repartition_source_topics = vec![topic; 2];
        subtopology.copartition_groups = vec![copartitioned; 2];
        let mut topology = Topology::default();
        topology.subtopologies = vec![subtopology; 2];
        topology
    }

    fn samples_of_coordinators(version: i16) -> [(i16, Option<Bytes>); 4] {
        let mut topic = add_partitions_to_txn_request::AddPartitionsToTxnTopic::default();
        topic.partitions = vec![7];
        let topics = vec![topic; 2];
        let mut adds = AddPartitionsToTxnRequest::default();
        if version <= 3 {
            adds.v3_and_below_topics = topics;
        } else {
            let mut one = add_partitions_to_txn_request::AddPartitionsToTxnTransaction::default();
            one.topics = topics;
            adds.transactions = vec![one; 2];
        }
        let mut topic = write_txn_markers_request::WritableTxnMarkerTopic::default();
        topic.partition_indexes = vec![7];
        let mut marker = write_txn_markers_request::WritableTxnMarker::default();
        marker.topics = vec![topic; 2];
        let mut ends = WriteTxnMarkersRequest::default();
        ends.markers = vec![marker; 2];
        let mut topic = describe_producers_request::TopicRequest::default();
        topic.partition_indexes = vec![7];
        let mut asks = DescribeProducersRequest::default();
        asks.topics = vec![topic; 2];
        let mut topic = consumer_group_heartbeat_request::TopicPartitions::default();
        topic.partitions = vec![7];
        let mut beats = ConsumerGroupHeartbeatRequest::default();
        beats.topic_partitions = Some(vec![topic; 2]);
        let kafkas = ApiVersion::new(version);
        [
            (68, beats.encode_to_bytes(kafkas).ok()),
            (24, adds.encode_to_bytes(kafkas).ok()),
            (27, ends.encode_to_bytes(kafkas).ok()),
            (61, asks.encode_to_bytes(kafkas).ok()),
        ]
    }

    fn is_flexible(key: i16, version: i16) -> bool {
        let descriptor = API_DESCRIPTORS.iter().find(|d| d.api_key.value() == key);
        let flexible = descriptor.unwrap().flexible_versions;
        flexible.is_some_and(|range| range.contains(ApiVersion::new(version)))
    }

    #[test]
    fn shapes_are_those_of_every_version() {
        let mut seen = 0;
        for version in 0..20 {
            for (key, bytes) in samples(version) {
                let Some(bytes) = bytes else {
                    continue;
                };
                let mut reader = Reader::new(bytes, is_flexible(key, version));
                let skipped = skip(&mut reader, version, fields(key).unwrap());
                assert_eq!(skipped, Ok(()), "API {key}, version {version}");
                assert_eq!(reader.remaining(), 0, "API {key}, version {version}");
                seen += 1;
            }
        }
        assert!(seen > 50, "{seen}");
    }

    #[test]
    fn entries_of_all_lists_count_together_and_before_anything_is_decoded() {
        let request = |topics: usize| {
            let mut request = OffsetDeleteRequest::default();
            let mut topic = offset_delete_request::OffsetDeleteRequestTopic::default();
            // With the topic itself a tenth of what there may be.
            let partition = offset_delete_request::OffsetDeleteRequestPartition::default();
            topic.partitions = vec![partition; REQUEST_ENTRIES_MAX / 10 - 1];
            request.topics = vec![topic; topics];
            request.encode_to_bytes(ApiVersion::new(0)).unwrap()
        };
        assert!(decode::<OffsetDeleteRequest>(request(10), 0).is_ok());
        let many = decode::<OffsetDeleteRequest>(request(11), 0);
        assert!(matches!(many, Err(WireError::TooManyEntries { .. })));
    }

    /// A structure that says nothing but tags takes three bytes for each of them, and forty once it is decoded.
    #[test]
    fn tags_count_as_entries() {
        const TAGS: usize = 200;
        let request = |topics: usize| {
            let mut topic = vec![2, b'x', TAGS as u8, 1];
            topic.splice(2.., [(TAGS as u8) | 0x80, 1]);
            for tag in 0..TAGS {
                match tag {
                    0..128 => topic.extend([tag as u8, 0]),
                    _ => topic.extend([tag as u8 | 0x80, 1, 0]),
                }
            }
            let mut body = vec![(topics + 1) as u8];
            (0..topics).for_each(|_| body.extend_from_slice(&topic));
            // What may be created and told, and no tags.
            body.extend([1, 0, 0, 0]);
            Bytes::from(body)
        };
        assert!(decode::<MetadataRequest>(request(REQUEST_ENTRIES_MAX / (TAGS + 1)), 9).is_ok());
        let many = decode::<MetadataRequest>(request(REQUEST_ENTRIES_MAX / (TAGS + 1) + 1), 9);
        assert!(matches!(many, Err(WireError::TooManyEntries { .. })));
    }

    #[test]
    fn what_is_cut_is_refused() {
        for (key, bytes) in samples(0) {
            let Some(bytes) = bytes else {
                continue;
            };
            for len in 0..bytes.len() {
                let cut = bytes.slice(..len);
                assert!(
                    check(key, 0, false, &cut).is_err(),
                    "API {key}, {len} bytes"
                );
            }
        }
    }
}
