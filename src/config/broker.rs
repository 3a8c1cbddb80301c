//! The settings of a broker: their table and what follows from them.

use std::collections::{BTreeMap, BTreeSet};

use super::listeners::{Address, Endpoint, Endpoints, ProtocolMap};
use super::setting::{ANY, from, settings};
use super::value::{
    Assignors, CleanupPolicy, CompressionType, LogFormat, LogLevel, PageCacheReads, Share,
};
use crate::base::limits::{CLUSTER_ID_BYTES_MAX, RACK_BYTES_MAX, TAIL_START_BYTES};
use crate::base::{BLOCK, NodeId, ShardId};
use crate::record::TimestampType;
use crate::store::StoreConfig;

const MIB: i64 = 1024 * 1024;
const HOUR_MS: i64 = 3_600_000;

/// Something that was set and changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ignored {
    /// The line of the file, from 1; `None` if it was not in the file.
    pub line: Option<usize>,
    /// The setting.
    pub key: &'static str,
    /// Why it changes nothing.
    pub why: String,
}

settings! {
    /// The configuration of one broker, complete and checked.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct BrokerConfig {
        /// Id of this node in the cluster. `broker.id` is taken as another name of it.
        node_id: i32 = 1, "node.id", None, (0, i32::MAX as i64);
        /// Addresses to listen on, `NAME://host:port` separated by commas. No host means every
        /// address of the machine; port 0 means a free one.
        listeners: Endpoints = Endpoints::plaintext(9092), "listeners", None, ANY;
        /// Addresses that clients are told to connect to, one for each listener of the same name.
        /// Without it, the listeners themselves, with this machine's name where they name no host.
        advertised_listeners: Option<Endpoints> = None, "advertised.listeners", None, ANY;
        /// The security protocol of each listener name, `NAME:PROTOCOL` separated by commas. Only
        /// listeners whose protocol is PLAINTEXT can be used so far.
        listener_security_protocol_map: ProtocolMap = ProtocolMap::default(),
            "listener.security.protocol.map", None, ANY;
        /// Where this broker stands: the replicas of a partition are on brokers of different racks where there are
        /// enough, and clients are told.
        broker_rack: Option<String> = None, "broker.rack", None, ANY;
        /// The directory of the stores. Exactly one: a store uses a disk by itself. `log.dir` is
        /// taken as another name of it. A relative path starts at the working directory.
        log_dirs: String = "millrace-data".to_owned(), "log.dirs", None, ANY;

        /// Partitions of a topic that is created without saying how many.
        num_partitions: i32 = 1, "num.partitions", None, (1, i32::MAX as i64);
        /// Replicas of a topic that is created without saying how many.
        default_replication_factor: i32 = 1, "default.replication.factor", None, (1, i16::MAX as i64);
        /// Whether asking for the metadata of a topic that does not exist creates it.
        auto_create_topics_enable: bool = true, "auto.create.topics.enable", None, ANY;
        /// Whether topics can be deleted.
        delete_topic_enable: bool = true, "delete.topic.enable", None, ANY;
        /// In-sync replicas that a produce with acks=all needs.
        min_insync_replicas: i32 = 1, "min.insync.replicas", None, (1, i32::MAX as i64);
        /// Whether a replica that is not in sync may lead if no other one can: what was acknowledged may be lost then.
        unclean_leader_election_enable: bool = false, "unclean.leader.election.enable", None, ANY;

        /// Whether partitions are led again by the first of their replicas, by and by, when that is in sync.
        auto_leader_rebalance_enable: bool = true, "auto.leader.rebalance.enable", None, ANY;
        /// How often, in seconds, it is looked whether there are such.
        leader_imbalance_check_interval_seconds: i64 = 300, "leader.imbalance.check.interval.seconds", None,
            (1, i64::MAX / 1000);

        /// Largest batch that is accepted.
        message_max_bytes: i32 = 1_048_588, "message.max.bytes", Bytes, (0, i32::MAX as i64);
        /// Largest request that is read.
        socket_request_max_bytes: i32 = 104_857_600, "socket.request.max.bytes", Bytes, (1, i32::MAX as i64);
        /// Send buffer of a client's socket; -1: the kernel sizes it. A small one keeps what is being sent in the
        /// core's cache. A client far away gets at most twice this much per round trip.
        socket_send_buffer_bytes: i32 = 102_400, "socket.send.buffer.bytes", Bytes, (-1, i32::MAX as i64);
        /// Receive buffer of a client's socket; -1: the kernel sizes it. Kafka's default is 102400.
        socket_receive_buffer_bytes: i32 = -1, "socket.receive.buffer.bytes", Bytes, (-1, i32::MAX as i64);
        /// Memory that requests being read and waiting may take, over all connections; at the bound
        /// the sockets are not read. Kafka's default is no bound, here there always is one.
        queued_max_request_bytes: i64 = 256 * MIB, "queued.max.request.bytes", Bytes, from(1);
        /// Client connections of this broker; more are closed as soon as they are accepted.
        max_connections: i32 = i32::MAX, "max.connections", None, (0, i32::MAX as i64);
        /// Client connections from one address; more are closed as soon as they are accepted.
        max_connections_per_ip: i32 = i32::MAX, "max.connections.per.ip", None, (0, i32::MAX as i64);
        /// A connection without a request for this long is closed.
        connections_max_idle_ms: i64 = 600_000, "connections.max.idle.ms", Ms, from(1);

        /// Most bytes in the answer to one fetch, whatever the client asks for.
        fetch_max_bytes: i32 = 57_671_680, "fetch.max.bytes", Bytes, (1024, i32::MAX as i64);
        /// Incremental fetch sessions that are remembered.
        max_incremental_fetch_session_cache_slots: i32 = 1000,
            "max.incremental.fetch.session.cache.slots", None, (0, i32::MAX as i64);

        /// Most partitions in the answer to one request for the partitions of topics.
        max_request_partition_size_limit: i32 = 2000,
            "max.request.partition.size.limit", None, (1, i32::MAX as i64);

        /// Partitions of the topic that keeps the committed offsets. Counts when it is created.
        offsets_topic_num_partitions: i32 = 50, "offsets.topic.num.partitions", None, (1, i32::MAX as i64);
        /// Replicas of the topic that keeps the committed offsets, but no more than there are voters: one where a node
        /// is alone. Counts when it is created, for which there have to be so many brokers, as in Kafka.
        offsets_topic_replication_factor: i16 = 3, "offsets.topic.replication.factor", None, (1, i16::MAX as i64);
        /// Partitions of the topic that keeps the state of transactions. Counts when it is created.
        transaction_state_log_num_partitions: i32 = 50, "transaction.state.log.num.partitions", None,
            (1, i32::MAX as i64);
        /// Replicas of the topic that keeps the state of transactions, but no more than there are voters: one where a
        /// node is alone. Counts when it is created, for which there have to be so many brokers, as in Kafka.
        transaction_state_log_replication_factor: i16 = 3, "transaction.state.log.replication.factor", None,
            (1, i16::MAX as i64);
        /// In-sync replicas that the topic of the state of transactions needs, but no more than it has. Counts when it
        /// is created.
        transaction_state_log_min_isr: i32 = 2, "transaction.state.log.min.isr", None, (1, i32::MAX as i64);
        /// Segment size of the topic that keeps the state of transactions. Counts when it is created.
        transaction_state_log_segment_bytes: i32 = 104_857_600, "transaction.state.log.segment.bytes", Bytes,
            (MIB, i32::MAX as i64);
        /// Longest time that a producer may let its transactions take.
        transaction_max_timeout_ms: i32 = 900_000, "transaction.max.timeout.ms", Ms, (1, i32::MAX as i64);
        /// How long a partition that a client writes to is to become part of a transaction before the client is told to
        /// try again, because the transaction before still ends, or others become part of it.
        add_partitions_to_txn_retry_backoff_max_ms: i32 = 100, "add.partitions.to.txn.retry.backoff.max.ms", Ms,
            (0, i32::MAX as i64);
        /// How long is waited before that is tried again.
        add_partitions_to_txn_retry_backoff_ms: i32 = 20, "add.partitions.to.txn.retry.backoff.ms", Ms,
            (1, i32::MAX as i64);
        /// A transactional id without a transaction is forgotten after this long.
        transactional_id_expiration_ms: i32 = 604_800_000, "transactional.id.expiration.ms", Ms,
            (1, i32::MAX as i64);
        /// Committed offsets of a group without members are forgotten after this long.
        offsets_retention_minutes: i32 = 10_080, "offsets.retention.minutes", Minutes, (1, i32::MAX as i64);
        /// How long what a coordinator writes, such as committed offsets, waits for the other replicas:
        /// clients get COORDINATOR_NOT_AVAILABLE then.
        offsets_commit_timeout_ms: i32 = 5000, "offsets.commit.timeout.ms", Ms, (1, i32::MAX as i64);
        /// How often is looked for committed offsets to forget.
        offsets_retention_check_interval_ms: i64 = 600_000,
            "offsets.retention.check.interval.ms", Ms, from(1);
        /// Largest metadata text of a committed offset.
        offset_metadata_max_bytes: i32 = 4096, "offset.metadata.max.bytes", Bytes, (0, i32::MAX as i64);
        /// Shortest session timeout that a group member may ask for.
        group_min_session_timeout_ms: i32 = 6000, "group.min.session.timeout.ms", Ms, (1, i32::MAX as i64);
        /// Longest session timeout that a group member may ask for.
        group_max_session_timeout_ms: i32 = 1_800_000, "group.max.session.timeout.ms", Ms, (1, i32::MAX as i64);
        /// How long an empty group waits for more members before its first rebalance.
        group_initial_rebalance_delay_ms: i32 = 3000, "group.initial.rebalance.delay.ms", Ms, (0, i32::MAX as i64);
        /// Most members of one group.
        group_max_size: i32 = i32::MAX, "group.max.size", None, (1, i32::MAX as i64);

        /// A member of a group of the consumer protocol that was silent for so long is removed.
        group_consumer_session_timeout_ms: i32 = 45_000, "group.consumer.session.timeout.ms", Ms, (1, i32::MAX as i64);
        /// Least session timeout that such groups may have.
        group_consumer_min_session_timeout_ms: i32 = 45_000, "group.consumer.min.session.timeout.ms", Ms,
            (1, i32::MAX as i64);
        /// Largest session timeout that such groups may have.
        group_consumer_max_session_timeout_ms: i32 = 60_000, "group.consumer.max.session.timeout.ms", Ms,
            (1, i32::MAX as i64);
        /// How often their members are told to send heartbeats.
        group_consumer_heartbeat_interval_ms: i32 = 5000, "group.consumer.heartbeat.interval.ms", Ms,
            (1, i32::MAX as i64);
        /// Least heartbeat interval that such groups may have.
        group_consumer_min_heartbeat_interval_ms: i32 = 5000, "group.consumer.min.heartbeat.interval.ms", Ms,
            (1, i32::MAX as i64);
        /// Largest heartbeat interval that such groups may have.
        group_consumer_max_heartbeat_interval_ms: i32 = 15_000, "group.consumer.max.heartbeat.interval.ms", Ms,
            (1, i32::MAX as i64);
        /// Least time between two assignments of such a group; until it is over members go on with what they have.
        group_consumer_assignment_interval_ms: i32 = 1000, "group.consumer.assignment.interval.ms", Ms,
            (0, i32::MAX as i64);
        /// Least assignment interval that such groups may have.
        group_consumer_min_assignment_interval_ms: i32 = 0, "group.consumer.min.assignment.interval.ms", Ms,
            (0, i32::MAX as i64);
        /// Largest assignment interval that such groups may have.
        group_consumer_max_assignment_interval_ms: i32 = 15_000, "group.consumer.max.assignment.interval.ms", Ms,
            (0, i32::MAX as i64);
        /// Most members of one such group.
        group_consumer_max_size: i32 = i32::MAX, "group.consumer.max.size", None, (1, i32::MAX as i64);
        /// Their assignors; the first one is that of groups whose members want none.
        group_consumer_assignors: Assignors = Assignors::all(), "group.consumer.assignors", None, ANY;

        /// A member of a streams group that was silent for so long is removed.
        group_streams_session_timeout_ms: i32 = 45_000, "group.streams.session.timeout.ms", Ms, (1, i32::MAX as i64);
        /// Least session timeout that such groups may have.
        group_streams_min_session_timeout_ms: i32 = 45_000, "group.streams.min.session.timeout.ms", Ms,
            (1, i32::MAX as i64);
        /// Largest session timeout that such groups may have.
        group_streams_max_session_timeout_ms: i32 = 60_000, "group.streams.max.session.timeout.ms", Ms,
            (1, i32::MAX as i64);
        /// How often their members are told to send heartbeats.
        group_streams_heartbeat_interval_ms: i32 = 5000, "group.streams.heartbeat.interval.ms", Ms,
            (1, i32::MAX as i64);
        /// Least heartbeat interval that such groups may have.
        group_streams_min_heartbeat_interval_ms: i32 = 5000, "group.streams.min.heartbeat.interval.ms", Ms,
            (1, i32::MAX as i64);
        /// Largest heartbeat interval that such groups may have.
        group_streams_max_heartbeat_interval_ms: i32 = 15_000, "group.streams.max.heartbeat.interval.ms", Ms,
            (1, i32::MAX as i64);
        /// Least time between two assignments of such a group; until it is over members go on with what they have.
        group_streams_assignment_interval_ms: i32 = 1000, "group.streams.assignment.interval.ms", Ms,
            (0, i32::MAX as i64);
        /// Least assignment interval that such groups may have.
        group_streams_min_assignment_interval_ms: i32 = 0, "group.streams.min.assignment.interval.ms", Ms,
            (0, i32::MAX as i64);
        /// Largest assignment interval that such groups may have.
        group_streams_max_assignment_interval_ms: i32 = 15_000, "group.streams.max.assignment.interval.ms", Ms,
            (0, i32::MAX as i64);
        /// How long an empty streams group waits for more members before it gives out tasks.
        group_streams_initial_rebalance_delay_ms: i32 = 3000, "group.streams.initial.rebalance.delay.ms", Ms,
            (0, i32::MAX as i64);
        /// How many members of other processes keep a copy of the state of each task.
        group_streams_num_standby_replicas: i32 = 0, "group.streams.num.standby.replicas", None, (0, i32::MAX as i64);
        /// Most standby replicas that such groups may have.
        group_streams_max_standby_replicas: i32 = 2, "group.streams.max.standby.replicas", None, (0, i32::MAX as i64);
        /// Most members of one such group.
        group_streams_max_size: i32 = i32::MAX, "group.streams.max.size", None, (1, i32::MAX as i64);

        /// Segments older than this are deleted; -1 for never. Wins over the minutes and the hours.
        log_retention_ms: Option<i64> = None, "log.retention.ms", Ms, from(-1);
        /// Segments older than this are deleted; -1 for never. Wins over the hours.
        log_retention_minutes: Option<i32> = None, "log.retention.minutes", Minutes, (-1, i32::MAX as i64);
        /// Segments older than this are deleted; -1 for never.
        log_retention_hours: i32 = 168, "log.retention.hours", Hours, (-1, i32::MAX as i64);
        /// The oldest segments of a partition are deleted when it is larger than this; -1 for never.
        log_retention_bytes: i64 = -1, "log.retention.bytes", Bytes, from(-1);
        /// How often is looked for segments to delete.
        log_retention_check_interval_ms: i64 = 300_000, "log.retention.check.interval.ms", Ms, from(1);
        /// A segment of this size is followed by a new one.
        log_segment_bytes: i32 = 1_073_741_824, "log.segment.bytes", Bytes, (MIB, i32::MAX as i64);
        /// A segment of this age is followed by a new one. Wins over the hours.
        log_roll_ms: Option<i64> = None, "log.roll.ms", Ms, from(1);
        /// A segment of this age is followed by a new one.
        log_roll_hours: i32 = 168, "log.roll.hours", Hours, (1, i32::MAX as i64);
        /// Whether records keep the producer's timestamp or get the broker's.
        log_message_timestamp_type: TimestampType = TimestampType::CreateTime,
            "log.message.timestamp.type", None, ANY;
        /// How far a producer's timestamp may lie in the past.
        log_message_timestamp_before_max_ms: i64 = i64::MAX,
            "log.message.timestamp.before.max.ms", Ms, from(0);
        /// How far a producer's timestamp may lie in the future.
        log_message_timestamp_after_max_ms: i64 = HOUR_MS,
            "log.message.timestamp.after.max.ms", Ms, from(0);
        /// What happens to old segments: they are deleted, or of each key the newest record is kept, or both.
        log_cleanup_policy: CleanupPolicy = CleanupPolicy::Delete, "log.cleanup.policy", None, ANY;
        /// Whether topics are compacted at all. Those of the broker's own always are.
        log_cleaner_enable: bool = true, "log.cleaner.enable", None, ANY;
        /// How often is looked for partitions to compact while none is.
        log_cleaner_backoff_ms: i64 = 15_000, "log.cleaner.backoff.ms", Ms, from(0);
        /// Memory for the keys of the partitions that are being compacted, one on each core, of all cores together.
        /// What is dirty in a partition and has more keys is compacted in several passes.
        log_cleaner_dedupe_buffer_size: i64 = 128 * MIB, "log.cleaner.dedupe.buffer.size", Bytes, from(MIB);
        /// How long a tombstone stays in a compacted topic after compaction has met it first.
        log_cleaner_delete_retention_ms: i64 = 86_400_000, "log.cleaner.delete.retention.ms", Ms, from(0);
        /// A record of a compacted topic that is older than this is compacted, however little is dirty.
        log_cleaner_max_compaction_lag_ms: i64 = i64::MAX, "log.cleaner.max.compaction.lag.ms", Ms, from(1);
        /// A compacted partition is compacted when more than this share of it was not compacted yet.
        log_cleaner_min_cleanable_ratio: Share = Share { millionths: 500_000 },
            "log.cleaner.min.cleanable.ratio", None, ANY;
        /// No record of a compacted topic that is younger than this is compacted.
        log_cleaner_min_compaction_lag_ms: i64 = 0, "log.cleaner.min.compaction.lag.ms", Ms, from(0);
        /// The codec that Kafka would store batches in. Here they are stored as they came, whatever it says.
        compression_type: CompressionType = CompressionType::Producer, "compression.type", None, ANY;
        /// An idempotent producer that sent nothing for this long is forgotten. A partition remembers 10,000
        /// of them: for one more the longest silent one is forgotten, if it is silent for a minute.
        producer_id_expiration_ms: i32 = 86_400_000, "producer.id.expiration.ms", Ms, (1, i32::MAX as i64);

        /// The cluster id of a new cluster; a random one if not set. The id of a cluster that
        /// exists must be the same.
        millrace_cluster_id: Option<String> = None, "millrace.cluster.id", None, ANY;
        /// Cores to use, one shard on each; 0 for all.
        millrace_shards: i32 = 0, "millrace.shards", None, (0, 1024);
        /// Microseconds for which a core without work looks for some before it sleeps; 0 to sleep at once.
        /// Longer than the usual time between two requests it saves what waking takes, some 0.08 ms of
        /// an acknowledgement, and the core is never idle. Only for cores that nothing else runs on.
        millrace_spin_us: i32 = 0, "millrace.spin.us", None, (0, 1_000_000);
        /// A log of the broker's own (the metadata, each partition of `__consumer_offsets`) that has grown
        /// to this, and to twice what is valid in it, is compacted: what is valid is written anew, and
        /// the rest dropped.
        millrace_internal_compact_bytes: i64 = 4 * MIB, "millrace.internal.compact.bytes", Bytes, from(4096);
        /// What cannot be read of `__consumer_offsets` at a start is skipped, and the rest of the partition
        /// written anew. The commits in it are lost: groups go on from older ones, or where auto.offset.reset
        /// says. Without this the groups of a damaged partition are refused with NOT_COORDINATOR, as in Kafka,
        /// and also while replicas on other nodes are in sync: these have the commits. To be set for one start.
        millrace_groups_skip_damage: bool = false, "millrace.groups.skip.damage", None, ANY;
        /// The records of a compressed batch are checked when it is produced if they decompress to no
        /// more than this; 0 to leave compressed batches unopened, which saves 0.7 to 3 CPU-seconds
        /// per GB of records. Uncompressed ones are always checked.
        millrace_produce_open_bytes_max: i32 = 32 * 1024 * 1024, "millrace.produce.open.bytes.max", Bytes, (0, 1 << 30);
        /// Announces each core as a broker of its own, so that clients connect to the core that has the
        /// data: core n listens, besides, on the listener's port plus this plus n, and has the id node.id
        /// times 10000 plus n. The same holds for ports in advertised.listeners. 0 for off. The same on
        /// all nodes of a cluster.
        millrace_direct_ports: i32 = 0, "millrace.direct.ports", None, (0, 65_535);
        /// Lets nodes form a cluster (`controller.quorum.voters` with several of them), for trial: they agree on
        /// topics and settings, and each partition is on one node. No partition is replicated: what is on a
        /// node that is gone is gone until it returns. To be the same on all nodes.
        millrace_cluster_preview: bool = false, "millrace.cluster.preview", None, ANY;
        /// Where to answer HTTP requests about this node, as host:port: `/metrics` for Prometheus, `/health/live`,
        /// `/health/ready` and `/version`. Not set: nowhere. Whoever reaches it may read it.
        millrace_metrics_listener: Option<Address> = None, "millrace.metrics.listener", None, ANY;
        /// How lines of the log look, on standard error: text for people, or json, an object a line.
        millrace_log_format: LogFormat = LogFormat::Text, "millrace.log.format", None, ANY;
        /// What is logged: this and what is more severe. SIGHUP changes it while the broker runs. The environment's
        /// RUST_LOG, which chooses by part of the program, wins over it.
        millrace_log_level: LogLevel = LogLevel::Info, "millrace.log.level", None, ANY;
        /// Size to which a store is written ahead from its start on, in the background: a store that need not
        /// grow under load is faster, and its latencies are more even. Per core.
        millrace_store_initial_bytes: i64 = 64 * MIB, "millrace.store.initial.bytes", Bytes, from(16 * MIB);
        /// Raw block devices to put the stores on, in place of files in log.dirs: one for each core, separated by
        /// commas, each used from its first byte to its last. Names that stay the same are best, such as those
        /// in /dev/disk/by-id. A device that holds something else is refused.
        millrace_store_devices: Option<String> = None, "millrace.store.devices", None, ANY;
        /// A store never grows beyond this; when full, produce is refused. Per core.
        millrace_store_bytes_max: i64 = i64::MAX, "millrace.store.bytes.max", Bytes, from(16 * MIB);
        /// Size of a store's journal ring, a multiple of 4096. Counts when the store is made.
        millrace_store_journal_bytes: i64 = 32 * MIB, "millrace.store.journal.bytes", Bytes, (4 * MIB, 4096 * MIB);
        /// From this many new bytes of a partition in one flush on, they are written once,
        /// into their place, and not by way of the journal.
        millrace_store_bulk_bytes_min: i32 = 32 * 1024, "millrace.store.bulk.bytes.min", Bytes, (4096, MIB);
        /// Flushes of a store that may be on their way to the disk at once.
        millrace_store_flushes_in_flight_max: i32 = 4, "millrace.store.flushes.in.flight.max", None, (1, 64);
        /// Memory that keeps the newest batches, so that reading them needs no disk. Per core. It is taken as it is
        /// used, and given back where others need it. Not set: all cores together a quarter of the memory that the
        /// machine has, or that the control group allows.
        millrace_store_tail_bytes_max: Option<i64> = None, "millrace.store.tail.bytes.max", Bytes, (MIB, 1 << 40);
        /// Which records on the disk are read by way of the page cache, and sent from there without being copied: those
        /// that several connections read, one soon after the other (auto), none (never) or all (always). Others are
        /// read past it. Never from raw devices, and only on ext4 and xfs.
        millrace_fetch_page_cache: PageCacheReads = PageCacheReads::Auto, "millrace.fetch.page.cache", None, ANY;
        /// A checkpoint is due after this many bytes. Per core.
        millrace_store_checkpoint_bytes: i64 = 512 * MIB, "millrace.store.checkpoint.bytes", Bytes, from(MIB);
    }
    extra {
        /// What was set, rather than left at its default, as text; settings that change nothing too.
        explicit: BTreeMap<&'static str, String> = BTreeMap::new();
        /// The lines of the file, from 1, on which settings stand, but for those that were set elsewhere after that.
        lines: BTreeMap<&'static str, usize> = BTreeMap::new();
        /// The file that was read, if one was. The driver fills it in.
        file: Option<String> = None;
        /// Where something was set that changes nothing.
        ignored: Vec<Ignored> = Vec::new();
        /// Where controllers of other nodes reach this one, if there are others: the listeners of
        /// `controller.listener.names`.
        controller_listeners: Vec<Endpoint> = Vec::new();
        /// Name of this machine, for listeners that name no host. The driver fills it in.
        host_name: String = "localhost".to_owned();
        /// The direct ports of listeners with port 0, by listener and shard. The driver fills it in.
        direct_bound: Vec<Vec<u16>> = Vec::new();
    }
}

impl BrokerConfig {
    /// The id of this node.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        NodeId(self.node_id)
    }

    /// Age at which segments are deleted, in ms; -1 for never.
    #[must_use]
    pub fn retention_ms(&self) -> i64 {
        let minutes = |n: i32| if n < 0 { -1 } else { i64::from(n) * 60_000 };
        let hours = |n: i32| if n < 0 { -1 } else { i64::from(n) * HOUR_MS };
        self.log_retention_ms
            .or(self.log_retention_minutes.map(minutes))
            .unwrap_or_else(|| hours(self.log_retention_hours))
    }

    /// Age at which a segment is followed by a new one, in ms.
    #[must_use]
    pub fn roll_ms(&self) -> i64 {
        self.log_roll_ms
            .unwrap_or(i64::from(self.log_roll_hours) * HOUR_MS)
    }

    /// Where clients of a listener are told to connect to; the first listener's address if there
    /// is none of this number.
    #[must_use]
    pub fn advertised(&self, listener: usize) -> (String, u16) {
        let listeners = &self.listeners.0;
        let Some(bound) = listeners.get(listener).or(listeners.first()) else {
            return (self.host_name.clone(), 0);
        };
        let advertised = self.advertised_listeners.as_ref();
        let shown = advertised
            .and_then(|all| all.0.iter().find(|endpoint| endpoint.name == bound.name))
            .unwrap_or(bound);
        let host = if shown.names_no_host() {
            &self.host_name
        } else {
            &shown.host
        };
        (host.clone(), shown.port)
    }

    /// Whether each shard is announced as a broker of its own.
    #[must_use]
    pub const fn is_direct(&self) -> bool {
        self.millrace_direct_ports > 0
    }

    /// The port of its own that a shard has next to a listener's port; `None` if there is no such port.
    #[must_use]
    pub fn direct_port(&self, port: u16, shard: ShardId) -> Option<u16> {
        let port = i32::from(port) + self.millrace_direct_ports + i32::from(shard.0);
        u16::try_from(port).ok()
    }

    /// Where clients of a listener are told to connect to for one shard.
    #[must_use]
    pub fn advertised_direct(&self, listener: usize, shard: ShardId) -> (String, u16) {
        let (host, port) = self.advertised(listener);
        let bound = self.direct_bound.get(listener);
        let bound = bound.and_then(|ports| ports.get(usize::from(shard.0)));
        let is_bound_port = self
            .listeners
            .0
            .get(listener)
            .is_some_and(|l| l.port == port);
        let direct = match bound {
            // What the system chose counts, unless other ports are advertised in its stead.
            Some(chosen) if is_bound_port => Some(*chosen),
            _ => self.direct_port(port, shard),
        };
        (host, direct.unwrap_or(port))
    }

    /// Tells the port that the system chose for a listener with port 0.
    pub fn bound(&mut self, listener: usize, port: u16) {
        let Some(endpoint) = self.listeners.0.get_mut(listener) else {
            return;
        };
        endpoint.port = port;
        let advertised = self.advertised_listeners.iter_mut();
        for shown in advertised.flat_map(|all| all.0.iter_mut()) {
            if shown.name == endpoint.name && shown.port == 0 {
                shown.port = port;
            }
        }
    }

    /// The devices of the stores, in the order of the stores; none if they are files.
    #[must_use]
    pub fn store_devices(&self) -> Vec<&str> {
        let devices = self.millrace_store_devices.as_deref();
        devices.map_or_else(Vec::new, |list| list.split(',').map(str::trim).collect())
    }

    /// The bounds and sizes of each store.
    #[must_use]
    pub fn store(&self) -> StoreConfig {
        // The table allows positive numbers only, so that none of these is cut.
        let size = |n: i64| usize::try_from(n).unwrap_or(usize::MAX);
        StoreConfig {
            journal_bytes: self.millrace_store_journal_bytes.unsigned_abs(),
            initial_bytes: self.millrace_store_initial_bytes.unsigned_abs(),
            bytes_max: self.millrace_store_bytes_max.unsigned_abs(),
            bulk_bytes_min: size(self.millrace_store_bulk_bytes_min.into()),
            flushes_in_flight_max: size(self.millrace_store_flushes_in_flight_max.into()),
            tail_bytes_max: self
                .millrace_store_tail_bytes_max
                .map_or(TAIL_START_BYTES, size),
            checkpoint_bytes: self.millrace_store_checkpoint_bytes.unsigned_abs(),
            ..StoreConfig::default()
        }
    }

    /// What no single setting can see: the contradictions between settings, as (key, why).
    #[must_use]
    pub fn contradictions(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let mut require = |holds: bool, key, why: &str| {
            if !holds {
                found.push((key, why.to_owned()));
            }
        };
        require(
            self.group_min_session_timeout_ms <= self.group_max_session_timeout_ms,
            "group.min.session.timeout.ms",
            "no larger than group.max.session.timeout.ms",
        );
        let of_groups = self.consumer_group_rules().into_iter();
        for (holds, key, why) in of_groups.chain(self.streams_group_rules()) {
            require(holds, key, why);
        }
        require(
            self.group_streams_num_standby_replicas <= self.group_streams_max_standby_replicas,
            "group.streams.num.standby.replicas",
            "no larger than group.streams.max.standby.replicas",
        );
        require(
            self.queued_max_request_bytes >= i64::from(self.socket_request_max_bytes),
            "queued.max.request.bytes",
            "at least socket.request.max.bytes",
        );
        require(
            self.log_retention_ms != Some(0),
            "log.retention.ms",
            "-1 for never, or at least 1",
        );
        require(
            self.log_retention_minutes != Some(0),
            "log.retention.minutes",
            "-1 for never, or at least 1",
        );
        require(
            self.log_retention_hours != 0,
            "log.retention.hours",
            "-1 for never, or at least 1",
        );
        require(
            !self.log_dirs.is_empty() && !self.log_dirs.contains(','),
            "log.dirs",
            "exactly one directory",
        );
        let devices = self.store_devices();
        let different: BTreeSet<&&str> = devices.iter().collect();
        require(
            devices.iter().all(|path| path.starts_with('/')) && different.len() == devices.len(),
            "millrace.store.devices",
            "absolute paths, each once",
        );
        require(
            self.millrace_store_journal_bytes % BLOCK as i64 == 0,
            "millrace.store.journal.bytes",
            "a multiple of 4096",
        );
        require(
            self.millrace_store_initial_bytes <= self.millrace_store_bytes_max,
            "millrace.store.initial.bytes",
            "no larger than millrace.store.bytes.max",
        );
        require(
            self.millrace_store_initial_bytes > self.millrace_store_journal_bytes,
            "millrace.store.initial.bytes",
            "larger than millrace.store.journal.bytes",
        );
        require(
            self.millrace_cluster_id
                .as_ref()
                .is_none_or(|id| is_cluster_id(id)),
            "millrace.cluster.id",
            "1 to 64 letters, digits, '-' or '_'",
        );
        require(
            self.broker_rack.as_deref().is_none_or(is_rack),
            "broker.rack",
            "a name of 1 to 255 bytes without control characters",
        );
        require(
            !self.is_direct() || self.node_id <= NodeId::DIRECT_MAX,
            "node.id",
            "no larger than 214747 with millrace.direct.ports, which makes ids of it",
        );
        require(
            !self.listeners.0.is_empty(),
            "listeners",
            "at least one listener besides those of controller.listener.names",
        );
        found.extend(self.listener_contradictions());
        found.extend(self.quorum_contradictions());
        found
    }

    fn listener_contradictions(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let protocols = &self.listener_security_protocol_map;
        let listeners = &self.listeners.0;
        for Endpoint { name, .. } in listeners {
            let why = match protocols.protocol(name) {
                Some("PLAINTEXT") => continue,
                Some(protocol) => format!(
                    "PLAINTEXT listeners only, because neither TLS nor SASL is supported yet: {name} has {protocol}. \
                     Remove it, or give it PLAINTEXT in listener.security.protocol.map and let a proxy do the rest"
                ),
                None => {
                    format!("names of listener.security.protocol.map only, which lacks {name}")
                }
            };
            found.push(("listeners", why));
        }
        for shown in self.advertised_listeners.iter().flat_map(|all| &all.0) {
            if !listeners.iter().any(|l| l.name == shown.name) {
                let why = format!("names of listeners only, which lacks {}", shown.name);
                found.push(("advertised.listeners", why));
            } else if shown.host == "0.0.0.0" {
                let why = "a host that clients can reach, not 0.0.0.0".to_owned();
                found.push(("advertised.listeners", why));
            }
        }
        found
    }
}

fn is_rack(rack: &str) -> bool {
    (1..=RACK_BYTES_MAX).contains(&rack.len()) && !rack.chars().any(char::is_control)
}

fn is_cluster_id(id: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    (1..=CLUSTER_ID_BYTES_MAX).contains(&id.len()) && id.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_contradict_nothing() {
        assert_eq!(BrokerConfig::default().contradictions(), []);
    }

    #[test]
    fn every_setting_reads_what_it_shows() {
        let config = BrokerConfig::default();
        for setting in BrokerConfig::SETTINGS {
            let mut copy = config.clone();
            if let Some(text) = config.show(setting.key) {
                copy.set(setting.key, &text).unwrap();
            }
            assert_eq!(copy, config, "{}", setting.key);
        }
    }

    #[test]
    fn the_finer_unit_of_time_wins() {
        let mut config = BrokerConfig::default();
        assert_eq!(config.retention_ms(), 7 * 24 * HOUR_MS);
        config.log_retention_minutes = Some(5);
        assert_eq!(config.retention_ms(), 300_000);
        config.log_retention_ms = Some(-1);
        assert_eq!(config.retention_ms(), -1);
        config.log_retention_ms = None;
        config.log_retention_minutes = None;
        config.log_retention_hours = -1;
        assert_eq!(config.retention_ms(), -1);
    }

    #[test]
    fn defaults_of_the_stores_are_the_stores_own() {
        let store = BrokerConfig::default().store();
        let own = StoreConfig::default();
        assert_eq!(store.journal_bytes, own.journal_bytes);
        assert_eq!(store.initial_bytes, own.initial_bytes);
        assert_eq!(store.bulk_bytes_min, own.bulk_bytes_min);
        assert_eq!(store.flushes_in_flight_max, own.flushes_in_flight_max);
        assert_eq!(store.tail_bytes_max, own.tail_bytes_max);
        assert_eq!(store.checkpoint_bytes, own.checkpoint_bytes);
    }

    #[test]
    fn shards_have_ports_of_their_own() {
        let mut config = BrokerConfig::default();
        assert!(!config.is_direct());
        config.set("millrace.direct.ports", "100").unwrap();
        config
            .set("listeners", "PLAINTEXT://127.0.0.1:9092")
            .unwrap();
        let at = |config: &BrokerConfig, shard| config.advertised_direct(0, ShardId(shard)).1;
        assert_eq!((at(&config, 0), at(&config, 3)), (9192, 9195));
        config
            .set("advertised.listeners", "PLAINTEXT://kafka.example:19092")
            .unwrap();
        assert_eq!(at(&config, 1), 19_193, "mapped as a range");
        assert_eq!(config.direct_port(65_435, ShardId(0)), Some(65_535));
        assert_eq!(config.direct_port(65_435, ShardId(1)), None);
        // Ports that the system chose do not come in a row.
        config.set("listeners", "PLAINTEXT://127.0.0.1:0").unwrap();
        config.advertised_listeners = None;
        config.bound(0, 4000);
        config.direct_bound = vec![vec![5000, 4500]];
        assert_eq!((at(&config, 0), at(&config, 1)), (5000, 4500));
        config.set("node.id", "214748").unwrap();
        assert_eq!(config.contradictions()[0].0, "node.id");
    }

    #[test]
    fn clients_are_told_where_to_connect() {
        let mut config = BrokerConfig {
            host_name: "box".to_owned(),
            ..BrokerConfig::default()
        };
        assert_eq!(config.advertised(0), ("box".to_owned(), 9092));
        config.set("listeners", "PLAINTEXT://127.0.0.1:0").unwrap();
        config.bound(0, 1234);
        assert_eq!(config.advertised(0), ("127.0.0.1".to_owned(), 1234));
        config
            .set("advertised.listeners", "PLAINTEXT://kafka.example:9")
            .unwrap();
        assert_eq!(config.advertised(0), ("kafka.example".to_owned(), 9));
    }
}
