//! The APIs that the broker serves, one row each: versions, who answers, and what a request changes or looks
//! at. Dispatch, ApiVersions, the order of effects on a connection and the README follow from it.
//!
//! To add one: a handler beside its like (`admin/`, `groups/`, `data/`), a row here, and the length of `APIS`.

use bytes::Bytes;
use kafka_wire::api_versions_response::ApiVersion;

use super::admin::{self, Decider, ImageHandler};
use super::front::Front;
use super::front::conns::ReplyTo;
use super::front::long::LongKind;
use super::front::order::{Footprint, Things};
use super::fx::Fx;
use super::groups::{self, Planner};
use super::requests::Requests;
use super::txn::{self, TxnPlanner};
use crate::wire::peer::{Hello, PeerMessages, ReplicaMessages};
use crate::wire::{Api, RequestHeader, WireError, fetch, produce};

/// One API as it is served.
#[derive(Clone, Copy, Debug)]
pub(super) struct Served {
    pub api: Api,
    /// The oldest version that ApiVersions claims; `None`: it does not list it.
    claimed_from: Option<i16>,
    pub handler: Handler,
    pub footprint: Footprint,
    /// Whether a request may wait until others do something.
    waits: bool,
}

/// Who answers the requests of an API. An error closes the connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum Handler {
    /// The shard that the client is connected to, which asks the owners of what the request names.
    Front(FrontHandler),
    /// That shard, from the metadata that every shard has.
    Image(ImageHandler),
    /// As `Image`; but if it makes the broker create topics, the control shard decides on that by the third one, and
    /// then the request is answered by the second one.
    ImageOrCreate(ImageHandler, ImageHandler, Decider),
    /// The control shard, which decides on changes of the metadata.
    Control(Decider),
    /// The coordinators of groups, asked by the shard that the client is connected to.
    Groups(Planner),
    /// The same for a request that may list much, and be told much.
    GroupList(Planner),
    /// The coordinators of transactional ids, asked in the same way.
    Transactions(TxnPlanner),
    /// The same, or the control shard if the request is about none.
    TransactionsOrControl(TxnPlanner, Decider),
}

type FrontHandler = fn(
    &mut Requests,
    &mut Front,
    ReplyTo,
    &RequestHeader,
    Bytes,
    &mut Fx<'_>,
) -> Result<(), String>;

/// Why a connection is closed.
fn said(begun: Result<(), WireError>) -> Result<(), String> {
    begun.map_err(|why| why.to_string())
}

/// The row of a key, if it is served.
pub(super) fn served(key: i16) -> Option<&'static Served> {
    let at = APIS.binary_search_by_key(&key, |served| served.api.key);
    at.ok().map(|at| &APIS[at])
}

/// What nodes ask of whoever decides. To clients it is a key like any that is not served.
pub const INSIDE: Api = Api {
    key: Api::ALTER_PARTITION,
    name: "AlterPartition",
    min: admin::ALTER_PARTITION_VERSION,
    max: admin::ALTER_PARTITION_VERSION,
    flexible_from: 0,
};

/// Whether this is what nodes ask each other about transactions, and no leader decides on.
pub(super) const fn is_of_nodes(key: i16, version: i16) -> bool {
    matches!(
        (key, version),
        (Api::ADD_PARTITIONS_TO_TXN, 5) | (Api::WRITE_TXN_MARKERS, 1 | 2)
    )
}

/// How a request is decided on that comes to the control shard: one that a client of some node may bring there, in the
/// versions that are served, or what only nodes ask of each other.
pub(super) fn decider(key: i16, version: i16) -> Option<Decider> {
    if key == INSIDE.key {
        return INSIDE.serves(version).then_some(admin::alter_partition);
    }
    let served = served(key).filter(|served| served.api.serves(version));
    match served?.handler {
        Handler::Control(decider)
        | Handler::ImageOrCreate(_, _, decider)
        | Handler::TransactionsOrControl(_, decider) => Some(decider),
        _ => None,
    }
}

/// The API of a key, if it is served.
#[must_use]
pub fn api(key: i16) -> Option<&'static Api> {
    served(key).map(|served| &served.api)
}

/// Whether a request, by its first bytes, may wait until others do something.
#[must_use]
pub fn may_wait_for_others(frame: &[u8]) -> bool {
    let key = frame.first_chunk().map(|key| i16::from_be_bytes(*key));
    key.and_then(served).is_some_and(|served| served.waits)
}

/// Everything that is served and listed by ApiVersions, by key.
pub fn advertised() -> impl Iterator<Item = &'static Api> {
    let listed = APIS.iter().filter(|served| served.claimed_from.is_some());
    listed.map(|served| &served.api)
}

/// The same, as ApiVersions lists it.
pub(super) fn claims() -> impl Iterator<Item = ApiVersion> {
    APIS.iter().filter_map(|served| {
        let mut range = ApiVersion::default();
        range.api_key = served.api.key;
        range.min_version = served.claimed_from?;
        range.max_version = served.api.max;
        Some(range)
    })
}

/// A row: key, name, oldest and newest version, first flexible version, what a request changes before it is
/// answered and what it looks at when it begins.
const fn row(
    api: (i16, &'static str, i16, i16, i16),
    handler: Handler,
    changes: Things,
    looks: Things,
) -> Served {
    let (key, name, min, max, flexible_from) = api;
    Served {
        api: Api {
            key,
            name,
            min,
            max,
            flexible_from,
        },
        claimed_from: Some(min),
        handler,
        footprint: Footprint {
            changes,
            looks,
            watches: Things::NONE,
        },
        waits: false,
    }
}

impl Served {
    /// It takes several turns, and goes on to look at this until it is answered.
    const fn watching(mut self, watches: Things) -> Self {
        self.footprint.watches = watches;
        self
    }

    /// What a long request waits for.
    pub fn long_kind(&self) -> LongKind {
        match self.footprint.changes {
            Things::NONE => LongKind::Looks,
            _ => LongKind::Changes,
        }
    }
}

use Handler::{Control, Image, ImageOrCreate};

const NONE: Things = Things::NONE;
const TOPICS: Things = Things::TOPICS;
const NEW_TOPICS: Things = Things::NEW_TOPICS;
const OLD_TOPICS: Things = Things::OLD_TOPICS;
const RECORDS: Things = Things::RECORDS;
const MEMBERS: Things = Things::MEMBERS;
const OFFSETS: Things = Things::OFFSETS;
const TRANSACTIONS: Things = Things::TRANSACTIONS;
const DATA: Things = RECORDS.and(TOPICS);
const OLD_DATA: Things = RECORDS.and(OLD_TOPICS);
const GROUPS: Things = MEMBERS.and(OFFSETS);
const PRODUCE: (i16, i16) = (*produce::VERSIONS.start(), *produce::VERSIONS.end());
const FETCH: (i16, i16) = (*fetch::VERSIONS.start(), *fetch::VERSIONS.end());

/// By key. What is decided by the owner of a thing, in the order of arrival, does not count as looking at it: a
/// Produce appends behind the one before. What is done in slices watches what it looks at; a Fetch does not, for it is
/// answered with what is there when it is. Changes of topics look at them: what makes partitions may have to wait
/// until stores have room, and others must not be decided before it.
#[rustfmt::skip]
static APIS: [Served; 52] = [
    // librdkafka refuses a broker that does not claim Produce 0 (KAFKA-18659), so 0 is claimed as Kafka 4 claims
    // it; versions 0 to 2 are refused all the same.
    Served { claimed_from: Some(0), ..row((0, "Produce", PRODUCE.0, PRODUCE.1, 9),
        Handler::Front(|all, front, to, header, body, fx| all.produce.begin(front, to, header, body, fx)),
        RECORDS, TOPICS).watching(OLD_TOPICS) },
    Served { waits: true, ..row((1, "Fetch", FETCH.0, FETCH.1, 12),
        Handler::Front(|all, front, to, header, body, fx| all.fetch.begin(front, to, header, body, fx)),
        NONE, DATA) },
    row((2, "ListOffsets", 1, 11, 6),
        Handler::Front(
            |all, front, to, header, body, fx| said(all.query.list_offsets(front, to, header, body, fx))),
        NONE, DATA).watching(OLD_DATA),
    // It may create topics.
    row((3, "Metadata", 0, 13, 9),
        ImageOrCreate(admin::metadata, admin::metadata_after_creation, admin::auto_create),
        NEW_TOPICS, TOPICS).watching(TOPICS),
    row((8, "OffsetCommit", 2, 10, 8), Handler::Groups(groups::offset_commit), OFFSETS, TOPICS),
    row((9, "OffsetFetch", 1, 10, 6), Handler::GroupList(groups::offset_fetch), NONE, OFFSETS)
        .watching(OFFSETS),
    row((10, "FindCoordinator", 0, 6, 3),
        ImageOrCreate(groups::find_coordinator, groups::find_after_creation, groups::create_coordinators), NONE, NONE),
    Served { waits: true, ..row((11, "JoinGroup", 0, 9, 6), Handler::Groups(groups::join_group), MEMBERS, NONE) },
    // What a heartbeat changes nobody can look at.
    row((12, "Heartbeat", 0, 4, 4), Handler::Groups(groups::heartbeat), NONE, NONE),
    row((13, "LeaveGroup", 0, 5, 4), Handler::Groups(groups::leave_group), MEMBERS, NONE),
    Served { waits: true, ..row((14, "SyncGroup", 0, 5, 4), Handler::Groups(groups::sync_group), MEMBERS, NONE) },
    row((15, "DescribeGroups", 0, 6, 5), Handler::GroupList(groups::describe_groups), NONE, GROUPS)
        .watching(GROUPS),
    row((16, "ListGroups", 0, 5, 3), Handler::GroupList(groups::list_groups), NONE, GROUPS)
        .watching(GROUPS),
    row((18, "ApiVersions", 0, 5, 3),
        Image(|ctx, header, body| admin::api_versions(ctx, header, body, claims())), NONE, NONE),
    row((19, "CreateTopics", 2, 7, 5),
        Control(admin::create_topics), NEW_TOPICS, TOPICS),
    // What was committed for them goes too.
    row((20, "DeleteTopics", 1, 6, 4),
        Control(admin::delete_topics), OLD_DATA.and(OFFSETS), TOPICS),
    // Up to a high watermark, which the records before it must have moved.
    row((21, "DeleteRecords", 0, 2, 2),
        Handler::Front(
            |all, front, to, header, body, fx| said(all.query.delete_records(front, to, header, body, fx))),
        RECORDS, DATA).watching(OLD_DATA),
    row((22, "InitProducerId", 0, 5, 2),
        Handler::TransactionsOrControl(txn::init_transactions, admin::init_producer_id),
        TRANSACTIONS, TRANSACTIONS),
    row((23, "OffsetForLeaderEpoch", 2, 4, 4),
        Handler::Front(
            |all, front, to, header, body, fx| said(all.query.offset_for_leader_epoch(front, to, header, body, fx))),
        NONE, DATA).watching(OLD_DATA),
    row((24, "AddPartitionsToTxn", 0, 5, 3), Handler::Transactions(txn::add_partitions_to_txn),
        TRANSACTIONS, TRANSACTIONS),
    row((25, "AddOffsetsToTxn", 0, 4, 3), Handler::Transactions(txn::add_offsets_to_txn),
        TRANSACTIONS, TRANSACTIONS),
    row((26, "EndTxn", 0, 5, 3), Handler::Transactions(txn::end_txn), TRANSACTIONS, TRANSACTIONS),
    row((27, "WriteTxnMarkers", 1, 2, 1),
        Handler::Front(|all, front, to, header, body, fx| all.markers.begin(front, to, header, body, fx)),
        RECORDS, TOPICS),
    row((28, "TxnOffsetCommit", 0, 6, 3), Handler::Groups(groups::txn_offset_commit), OFFSETS, TOPICS),
    row((29, "DescribeAcls", 1, 3, 2), Image(|_, header, body| admin::describe_acls(header, body)), NONE, NONE),
    row((32, "DescribeConfigs", 1, 4, 4), Image(admin::describe_configs), NONE, TOPICS).watching(TOPICS),
    row((33, "AlterConfigs", 0, 2, 2),
        Control(admin::alter_configs), OLD_TOPICS, TOPICS),
    row((35, "DescribeLogDirs", 1, 5, 2),
        Handler::Front(
            |all, front, to, header, body, fx| said(all.query.describe_log_dirs(front, to, header, body, fx))),
        NONE, DATA).watching(OLD_DATA),
    row((37, "CreatePartitions", 0, 3, 2),
        Control(admin::create_partitions), NEW_TOPICS, TOPICS),
    row((42, "DeleteGroups", 0, 3, 2), Handler::GroupList(groups::delete_groups), GROUPS, GROUPS)
        .watching(GROUPS),
    row((43, "ElectLeaders", 0, 2, 2),
        Control(admin::elect_leaders), OLD_TOPICS, TOPICS),
    row((44, "IncrementalAlterConfigs", 0, 1, 1),
        Control(admin::incremental_alter_configs), OLD_TOPICS, TOPICS),
    row((46, "ListPartitionReassignments", 0, 0, 0),
        Image(|_, header, body| admin::list_partition_reassignments(header, body)), NONE, NONE),
    row((47, "OffsetDelete", 0, 0, i16::MAX), Handler::Groups(groups::offset_delete), OFFSETS, GROUPS),
    row((55, "DescribeQuorum", 0, 2, 0), Control(admin::describe_quorum), NONE, NONE),
    row((60, "DescribeCluster", 0, 2, 0), Image(admin::describe_cluster), NONE, TOPICS),
    row((61, "DescribeProducers", 0, 0, 0),
        Handler::Front(|all, front, to, header, body, fx| all.producers.begin(front, to, header, body, fx)),
        NONE, DATA).watching(OLD_DATA),
    row((64, "UnregisterBroker", 0, 0, 0), Control(admin::unregister_broker), OLD_TOPICS, TOPICS),
    row((65, "DescribeTransactions", 0, 0, 0), Handler::Transactions(txn::describe_transactions),
        NONE, TRANSACTIONS),
    row((66, "ListTransactions", 0, 1, 0), Handler::Transactions(txn::list_transactions), NONE, TRANSACTIONS),
    row((68, "ConsumerGroupHeartbeat", 0, 1, 0), Handler::Groups(groups::consumer_group_heartbeat), MEMBERS, TOPICS),
    row((69, "ConsumerGroupDescribe", 0, 1, 0), Handler::GroupList(groups::consumer_group_describe), NONE, GROUPS)
        .watching(GROUPS),
    row((74, "ListConfigResources", 0, 1, 0), Image(admin::list_config_resources), NONE, TOPICS).watching(TOPICS),
    row((75, "DescribeTopicPartitions", 0, 0, 0), Image(admin::describe_topic_partitions), NONE, TOPICS)
        .watching(TOPICS),
    row((80, "AddRaftVoter", 0, 1, 0), Control(admin::add_raft_voter), NONE, NONE),
    row((81, "RemoveRaftVoter", 0, 0, 0), Control(admin::remove_raft_voter), NONE, NONE),
    row((88, "StreamsGroupHeartbeat", 0, 1, 0), Handler::Groups(groups::streams_group_heartbeat), MEMBERS, TOPICS),
    row((89, "StreamsGroupDescribe", 0, 0, 0), Handler::GroupList(groups::streams_group_describe), NONE, GROUPS)
        .watching(GROUPS),
    // Other nodes of the cluster say them. What they say is in no order with what clients do.
    Served { claimed_from: None, ..row((Hello::KEY, "PeerHello", 0, 0, i16::MAX),
        Handler::Front(|all, front, to, header, body, fx| all.streams.hello(front, to, header, body, fx)),
        NONE, NONE) },
    Served { claimed_from: None, ..row((PeerMessages::KEY, "PeerMessages", 0, 0, i16::MAX),
        Handler::Front(|all, _, to, _, body, fx| all.streams.messages(to, body, fx)), NONE, NONE) },
    Served { claimed_from: None, ..row((ReplicaMessages::KEY, "ReplicaMessages", 0, 0, i16::MAX),
        Handler::Front(|all, _, to, _, body, fx| all.streams.replica_messages(to, body, fx)), NONE, NONE) },
    // Our own tools ask it; it takes its turn behind everything.
    Served { claimed_from: None, ..row((Api::EXPLAIN, "Explain", 0, 0, 0),
        Handler::Front(|all, front, to, header, _, fx| all.explain.begin(front, to, header, fx)),
        Things::ALL, Things::ALL) },
];

#[cfg(test)]
mod tests {
    use kafka_wire::API_DESCRIPTORS;

    use super::*;
    use crate::broker::front::order::Order;

    #[test]
    fn the_table_is_sorted_and_agrees_with_the_generated_types() {
        assert!(APIS.is_sorted_by_key(|served| served.api.key));
        for api in advertised().chain([&INSIDE]) {
            let theirs = API_DESCRIPTORS
                .iter()
                .find(|d| d.api_key.value() == api.key)
                .unwrap();
            assert_eq!(theirs.request.name, format!("{}Request", api.name));
            let range = theirs.supported_versions;
            assert!(
                range.min().value() <= api.min && api.max <= range.max().value(),
                "{api:?}"
            );
            for version in api.min..=api.max {
                let flexible = theirs
                    .flexible_versions
                    .is_some_and(|range| range.contains(kafka_wire_core::ApiVersion::new(version)));
                assert_eq!(api.is_flexible(version), flexible, "{api:?} {version}");
            }
        }
    }

    #[test]
    fn our_own_is_served_and_not_advertised() {
        for key in [
            Api::EXPLAIN,
            Hello::KEY,
            PeerMessages::KEY,
            ReplicaMessages::KEY,
        ] {
            assert!(api(key).unwrap().serves(0));
        }
        assert!(claims().all(|claim| claim.api_key < 1000));
    }

    /// A node may forward what its clients ask, and ask for what no client may.
    #[test]
    fn the_control_shard_decides_on_what_clients_may_bring_there_and_on_what_nodes_ask() {
        let keys = (0..1000).filter(|key| (0..20).any(|version| decider(*key, version).is_some()));
        assert_eq!(
            keys.collect::<Vec<_>>(),
            [3, 10, 19, 20, 22, 33, 37, 43, 44, 55, 56, 64, 80, 81]
        );
        let versions = |key| {
            let all = (-5..20).filter(|version| decider(key, *version).is_some());
            all.collect::<Vec<_>>()
        };
        assert_eq!(versions(19), [2, 3, 4, 5, 6, 7]);
        assert_eq!(versions(Api::ALTER_PARTITION), [3]);
        assert!(served(Api::ALTER_PARTITION).is_none() && api(Api::ALTER_PARTITION).is_none());
        assert!(decider(Api::EXPLAIN, 0).is_none() && decider(Hello::KEY, 0).is_none());
    }

    #[test]
    fn produce_is_claimed_from_0_but_served_from_3() {
        let claim = claims().next().unwrap();
        assert_eq!((claim.min_version, claim.max_version), (0, 13));
        assert!(!api(Api::PRODUCE).unwrap().serves(2));
    }

    #[test]
    fn fetches_joins_and_syncs_wait_for_others() {
        let waits = |api: &&Api| may_wait_for_others(&api.key.to_be_bytes());
        let names: Vec<_> = advertised().filter(waits).map(|api| api.name).collect();
        assert_eq!(names, ["Fetch", "JoinGroup", "SyncGroup"]);
        assert!(!may_wait_for_others(&[0]) && !may_wait_for_others(&[0x7f; 2]));
    }

    fn footprint(key: i16) -> Footprint {
        served(key).unwrap().footprint
    }

    /// Whether a request of the second API waits for one of the first.
    fn waits(first: i16, second: i16) -> bool {
        let mut order: Order<()> = Order::default();
        assert!(order.begin(footprint(first)));
        !order.begin(footprint(second))
    }

    #[test]
    fn who_waits_for_whom() {
        const PRODUCE: i16 = 0;
        const FETCH: i16 = 1;
        let waiting = [
            (PRODUCE, FETCH, "Fetch"),
            (PRODUCE, 2, "ListOffsets"),
            (PRODUCE, 21, "DeleteRecords"),
            (21, 2, "DeleteRecords, ListOffsets"),
            (8, 9, "OffsetCommit, OffsetFetch"),
            (8, 15, "OffsetCommit, DescribeGroups: it may make the group"),
            (8, 42, "OffsetCommit, DeleteGroups"),
            (47, 9, "OffsetDelete, OffsetFetch"),
            (42, 16, "DeleteGroups, ListGroups"),
            (11, 15, "JoinGroup, DescribeGroups"),
            (13, 15, "LeaveGroup, DescribeGroups"),
            (13, 42, "LeaveGroup, DeleteGroups"),
            (19, 3, "CreateTopics, Metadata"),
            (19, PRODUCE, "CreateTopics, Produce"),
            (19, FETCH, "CreateTopics, Fetch"),
            (37, PRODUCE, "CreatePartitions, Produce"),
            (20, 3, "DeleteTopics, Metadata"),
            (20, PRODUCE, "DeleteTopics, Produce"),
            (20, 9, "DeleteTopics, OffsetFetch"),
            (19, 20, "CreateTopics, DeleteTopics"),
            (20, 19, "DeleteTopics, CreateTopics"),
            (19, 19, "CreateTopics, CreateTopics"),
            (19, 44, "CreateTopics, IncrementalAlterConfigs"),
            (44, 32, "IncrementalAlterConfigs, DescribeConfigs"),
            (
                32,
                44,
                "DescribeConfigs, IncrementalAlterConfigs: in slices",
            ),
            (3, 20, "Metadata, DeleteTopics: in slices"),
            (44, PRODUCE, "IncrementalAlterConfigs, Produce"),
            (3, 3, "Metadata that creates, Metadata"),
            (Api::EXPLAIN, FETCH, "Explain, Fetch"),
            (
                21,
                PRODUCE,
                "DeleteRecords, Produce: what comes behind it stays",
            ),
            (2, PRODUCE, "ListOffsets, Produce"),
            (23, 21, "OffsetForLeaderEpoch, DeleteRecords"),
            (35, 20, "DescribeLogDirs, DeleteTopics"),
            (PRODUCE, 20, "Produce, DeleteTopics"),
            (PRODUCE, 44, "Produce, IncrementalAlterConfigs"),
            (9, 8, "OffsetFetch, OffsetCommit: in slices"),
            (9, 47, "OffsetFetch, OffsetDelete"),
            (9, 42, "OffsetFetch, DeleteGroups"),
            (9, 20, "OffsetFetch, DeleteTopics"),
            (15, 8, "DescribeGroups, OffsetCommit: it may make the group"),
            (15, 11, "DescribeGroups, JoinGroup"),
            (15, 13, "DescribeGroups, LeaveGroup"),
            (16, 42, "ListGroups, DeleteGroups"),
            (
                42,
                8,
                "DeleteGroups, OffsetCommit: what comes behind it stays",
            ),
            (42, 11, "DeleteGroups, JoinGroup"),
            (42, 42, "DeleteGroups, DeleteGroups"),
        ];
        for (first, second, what) in waiting {
            assert!(waits(first, second), "{what}");
        }
        for (first, second) in [
            (PRODUCE, PRODUCE),
            (PRODUCE, 3),
            (PRODUCE, 19),
            (2, 3),
            (2, 2),
            (PRODUCE, 8),
            (FETCH, FETCH),
            (FETCH, PRODUCE),
            (FETCH, 8),
            (8, 8),
            (8, FETCH),
            (11, 12),
            (22, PRODUCE),
            (9, 9),
            (9, 12),
            (9, FETCH),
            (15, 15),
            (15, 16),
        ] {
            assert!(!waits(first, second), "{first}, {second}");
        }
    }

    #[test]
    fn every_api_that_only_tells_changes_nothing() {
        let tells = |name: &str| {
            ["Describe", "List"]
                .iter()
                .any(|verb| name.starts_with(verb))
                || name.ends_with("Fetch")
                || name == "ApiVersions"
        };
        for api in advertised().filter(|api| tells(api.name)) {
            assert_eq!(footprint(api.key).changes, Things::NONE, "{}", api.name);
        }
    }

    #[test]
    fn what_comes_behind_one_that_waits_waits_too() {
        let mut order = Order::default();
        assert!(order.begin(footprint(0)));
        assert!(!order.begin(footprint(1)));
        order.wait(footprint(1), 'f');
        assert!(!order.begin(footprint(0)), "Fetch would see it");
        order.wait(footprint(0), 'p');
        assert!(order.answered(footprint(0)));
        assert_eq!((order.next(), order.next()), (Some('f'), Some('p')));
        assert_eq!(order.next(), None);
    }
}
