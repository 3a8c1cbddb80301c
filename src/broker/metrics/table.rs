//! The table of metrics.

use super::metric::{Durations, In, Metric, MetricKind, MetricValue, Read};
use super::node::Node;
use crate::broker::apis;
use crate::broker::trace::{DiskReads, PARKED, RequestKind, Stage, Stats, upper_ns};

/// The counts of all shards together, of one kind of requests.
fn merged(node: &Node, kind: RequestKind) -> Stats {
    let mut all = Stats::default();
    for board in &node.boards {
        all.merge(&board.stats[kind as usize].read());
    }
    all
}

/// One value of each shard.
macro_rules! by_shard {
    ($field:ident) => {
        |node, tell| {
            for (shard, board) in node.boards.iter().enumerate() {
                tell(
                    &[&shard.to_string()],
                    MetricValue::Whole(board.$field.get()),
                );
            }
        }
    };
}

const fn row(
    name: &'static str,
    unit: In,
    kind: MetricKind,
    labels: &'static [&'static str],
    help: &'static str,
    read: Read,
) -> Metric {
    Metric {
        name,
        unit,
        kind,
        labels,
        help,
        read,
    }
}

/// A row without labels.
const fn plain(
    name: &'static str,
    unit: In,
    kind: MetricKind,
    help: &'static str,
    read: Read,
) -> Metric {
    row(name, unit, kind, &[], help, read)
}

/// A row with a value for each shard.
const fn shards(
    name: &'static str,
    unit: In,
    kind: MetricKind,
    help: &'static str,
    read: Read,
) -> Metric {
    row(name, unit, kind, &["shard"], help, read)
}

/// A row that counts by topic.
const fn topics(name: &'static str, unit: In, help: &'static str, read: Read) -> Metric {
    row(name, unit, MetricKind::Counter, &["topic"], help, read)
}

/// Everything, in the order in which it is told.
pub(super) const METRICS: &[Metric] = &[
    Metric {
        name: "millrace_build_info",
        unit: In::Pieces,
        kind: MetricKind::Gauge,
        labels: &["version", "commit", "node_id"],
        help: "1, with the version of the program, its commit if that is known, and node.id",
        read: |node, tell| {
            let commit = node.commit.unwrap_or_default();
            tell(
                &[node.version, commit, &node.id.to_string()],
                MetricValue::Whole(1),
            );
        },
    },
    plain(
        "millrace_ready",
        In::Pieces,
        MetricKind::Gauge,
        "1 while the node serves, 0 while it starts or stops",
        |node, tell| tell(&[], MetricValue::Whole(u64::from(node.is_ready))),
    ),
    plain(
        "millrace_shards",
        In::Pieces,
        MetricKind::Gauge,
        "Cores that the node uses",
        |node, tell| tell(&[], MetricValue::Whole(node.boards.len() as u64)),
    ),
    Metric {
        name: "millrace_requests",
        unit: In::Pieces,
        kind: MetricKind::Counter,
        labels: &["api"],
        help: "Requests whose reply has left, or that get none, by API",
        read: |node, tell| {
            for api in apis::advertised() {
                let count = node
                    .boards
                    .iter()
                    .map(|board| board.requests(api.key))
                    .sum();
                tell(&[api.name], MetricValue::Whole(count));
            }
        },
    },
    Metric {
        name: "millrace_request_duration",
        unit: In::Seconds,
        kind: MetricKind::Histogram,
        labels: &["kind"],
        help: "From the last byte of a request until the last byte of its reply has left; the time for which a fetch \
               waits for records is not part of it",
        read: |node, tell| {
            for kind in RequestKind::ALL {
                let stats = merged(node, kind);
                let counts = std::array::from_fn(|bucket| stats.rows[bucket].count);
                let spent = stats.rows.iter().flat_map(|row| row.spent);
                let sum_ns = spent.fold(0, u64::saturating_add);
                tell(
                    &[kind.name()],
                    MetricValue::Durations(Box::new(Durations { counts, sum_ns })),
                );
            }
        },
    },
    Metric {
        name: "millrace_request_stage_duration",
        unit: In::Seconds,
        kind: MetricKind::Histogram,
        labels: &["kind", "stage"],
        help: "What requests spent in a stage of their way, those that met it (`millracectl explain` says what the \
               stages are)",
        read: |node, tell| {
            for kind in RequestKind::ALL {
                let stats = merged(node, kind);
                for stage in Stage::ALL {
                    let of = stage as usize;
                    let spent = stats.rows.iter().map(|row| row.spent[of]);
                    let durations = Durations {
                        counts: stats.stages[of],
                        sum_ns: spent.fold(0, u64::saturating_add),
                    };
                    tell(
                        &[kind.name(), stage.name()],
                        MetricValue::Durations(Box::new(durations)),
                    );
                }
            }
        },
    },
    plain(
        "millrace_fetch_wait",
        In::Seconds,
        MetricKind::Histogram,
        "How long fetches waited for records, those that had to",
        |node, tell| {
            let fetch = RequestKind::Fetch;
            let lives = node.boards.iter().map(|board| &board.stats[fetch as usize]);
            let durations = Durations {
                counts: merged(node, fetch).stages[PARKED],
                sum_ns: lives
                    .map(|live| live.parked_ns())
                    .fold(0, u64::saturating_add),
            };
            tell(&[], MetricValue::Durations(Box::new(durations)));
        },
    ),
    plain(
        "millrace_received",
        In::Bytes,
        MetricKind::Counter,
        "Bytes of requests whose reply has left, or that get none, of other nodes too",
        |node, tell| {
            tell(
                &[],
                MetricValue::Whole(node.sum(|board| &board.received_bytes)),
            )
        },
    ),
    plain(
        "millrace_sent",
        In::Bytes,
        MetricKind::Counter,
        "Bytes of replies that have left",
        |node, tell| {
            tell(
                &[],
                MetricValue::Whole(node.sum(|board| &board.replied_bytes)),
            )
        },
    ),
    shards(
        "millrace_connections",
        In::Pieces,
        MetricKind::Gauge,
        "Connections that clients and other nodes have opened and that are open",
        by_shard!(connections),
    ),
    shards(
        "millrace_connections_opened",
        In::Pieces,
        MetricKind::Counter,
        "Connections that were accepted",
        by_shard!(connections_opened),
    ),
    plain(
        "millrace_request_memory",
        In::Bytes,
        MetricKind::Gauge,
        "Memory that cores have taken for requests that are read or wait, with what they hold ready for the next ones",
        |node, tell| tell(&[], MetricValue::Whole(node.request_bytes[0])),
    ),
    plain(
        "millrace_request_memory_max",
        In::Bytes,
        MetricKind::Gauge,
        "Memory that they may take: seven eighths of queued.max.request.bytes; the rest is kept for small ones",
        |node, tell| tell(&[], MetricValue::Whole(node.request_bytes[1])),
    ),
    shards(
        "millrace_produced_batches",
        In::Pieces,
        MetricKind::Counter,
        "Batches that clients have produced to partitions that the node leads, those that came twice left out",
        by_shard!(produced_batches),
    ),
    shards(
        "millrace_produced_records",
        In::Pieces,
        MetricKind::Counter,
        "Records of those batches",
        by_shard!(produced_records),
    ),
    shards(
        "millrace_produced",
        In::Bytes,
        MetricKind::Counter,
        "Bytes of those batches, as they were sent",
        by_shard!(produced_bytes),
    ),
    shards(
        "millrace_fetched",
        In::Bytes,
        MetricKind::Counter,
        "Bytes of batches in the replies to fetches, by the core of the connection",
        by_shard!(fetched_bytes),
    ),
    topics(
        "millrace_topic_produced_records",
        In::Pieces,
        "Records that clients have produced, by topic: to partitions that the node leads, as long as it has some",
        |node, tell| {
            node.topics
                .iter()
                .for_each(|one| tell(&[&one.topic], MetricValue::Whole(one.produced_records)))
        },
    ),
    topics(
        "millrace_topic_produced",
        In::Bytes,
        "Bytes of the batches of those records, as they were sent",
        |node, tell| {
            node.topics
                .iter()
                .for_each(|one| tell(&[&one.topic], MetricValue::Whole(one.produced_bytes)))
        },
    ),
    plain(
        "millrace_topics_left_out",
        In::Pieces,
        MetricKind::Gauge,
        "Topics that are not told of one by one: the thousand with the most bytes are",
        |node, tell| tell(&[], MetricValue::Whole(node.topics_left_out as u64)),
    ),
    shards(
        "millrace_partitions",
        In::Pieces,
        MetricKind::Gauge,
        "Partitions that the node has, as a leader or not, internal ones and logs of its own too",
        by_shard!(partitions),
    ),
    shards(
        "millrace_leaders",
        In::Pieces,
        MetricKind::Gauge,
        "Partitions that the node leads",
        by_shard!(leaders),
    ),
    shards(
        "millrace_under_replicated_partitions",
        In::Pieces,
        MetricKind::Gauge,
        "Partitions that the node leads and of which a replica is not in sync",
        by_shard!(under_replicated),
    ),
    shards(
        "millrace_under_min_isr_partitions",
        In::Pieces,
        MetricKind::Gauge,
        "Partitions that the node leads and that have fewer replicas in sync than min.insync.replicas: acks=all is \
         refused",
        by_shard!(under_min_isr),
    ),
    shards(
        "millrace_offline_partitions",
        In::Pieces,
        MetricKind::Gauge,
        "Partitions of which the node has a replica and that nobody leads",
        by_shard!(offline),
    ),
    shards(
        "millrace_unserved_partitions",
        In::Pieces,
        MetricKind::Gauge,
        "Partitions whose log here is damaged, or has lost records: clients that ask this node for them get an error",
        |node, tell| {
            for (shard, board) in node.boards.iter().enumerate() {
                let all = board.damaged.get() + board.unserved.get();
                tell(&[&shard.to_string()], MetricValue::Whole(all));
            }
        },
    ),
    plain(
        "millrace_controller",
        In::Pieces,
        MetricKind::Gauge,
        "1 while the node is the active controller: decides on the metadata, for all nodes",
        |node, tell| tell(&[], MetricValue::Whole(node.first(|board| &board.controls))),
    ),
    plain(
        "millrace_metadata_entry",
        In::Pieces,
        MetricKind::Gauge,
        "Number of the last entry of the metadata log that the node has applied: a node whose number stays behind that \
         of others does not hear of changes",
        |node, tell| {
            tell(
                &[],
                MetricValue::Whole(node.first(|board| &board.metadata_entry)),
            )
        },
    ),
    Metric {
        name: "millrace_brokers",
        unit: In::Pieces,
        kind: MetricKind::Gauge,
        labels: &["state"],
        help: "Brokers that are registered, by what the node knows: live ones, and those that are fenced, which are down \
               or not back yet; none where the only node is not configured as a cluster",
        read: |node, tell| {
            let [live, fenced] = [0, 1].map(|of| node.first(|board| &board.brokers[of]));
            tell(&["live"], MetricValue::Whole(live));
            tell(&["fenced"], MetricValue::Whole(fenced));
        },
    },
    shards(
        "millrace_groups",
        In::Pieces,
        MetricKind::Gauge,
        "Groups that the node coordinates",
        by_shard!(groups),
    ),
    shards(
        "millrace_transactional_ids",
        In::Pieces,
        MetricKind::Gauge,
        "Transactional ids that the node coordinates",
        by_shard!(transactional_ids),
    ),
    shards(
        "millrace_leaderships_begun",
        In::Pieces,
        MetricKind::Counter,
        "How often the node began to lead a partition, at its start too",
        by_shard!(leaderships),
    ),
    shards(
        "millrace_isr_shrinks",
        In::Pieces,
        MetricKind::Counter,
        "How often fewer replicas of a partition that the node leads were in sync than before",
        by_shard!(isr_shrinks),
    ),
    shards(
        "millrace_isr_expansions",
        In::Pieces,
        MetricKind::Counter,
        "How often more replicas of a partition that the node leads were in sync than before",
        by_shard!(isr_expansions),
    ),
    shards(
        "millrace_flushes",
        In::Pieces,
        MetricKind::Counter,
        "Flushes that became durable",
        by_shard!(flushes),
    ),
    Metric {
        name: "millrace_disk_read",
        unit: In::Bytes,
        kind: MetricKind::Counter,
        labels: &["way"],
        help: "Bytes that replies had from the disk: past the page cache, brought into it for them, and sent from it",
        read: |node, tell| {
            let mut all = DiskReads::default();
            for board in &node.boards {
                all.merge(&board.disk_reads());
            }
            tell(&["direct"], MetricValue::Whole(all.past));
            tell(&["page_cache_filled"], MetricValue::Whole(all.filled));
            tell(&["page_cache_sent"], MetricValue::Whole(all.sent));
        },
    },
    shards(
        "millrace_store",
        In::Bytes,
        MetricKind::Gauge,
        "Bytes of the stores' files that are in use, or written ahead",
        by_shard!(store_bytes),
    ),
    shards(
        "millrace_store_free",
        In::Bytes,
        MetricKind::Gauge,
        "Bytes of those that are free for what comes next",
        by_shard!(store_free_bytes),
    ),
    shards(
        "millrace_store_max",
        In::Bytes,
        MetricKind::Gauge,
        "Bytes that the stores may use: millrace.store.bytes.max",
        by_shard!(store_max_bytes),
    ),
    shards(
        "millrace_journal",
        In::Bytes,
        MetricKind::Gauge,
        "Size of the stores' journal rings",
        by_shard!(journal_bytes),
    ),
    shards(
        "millrace_journal_used",
        In::Bytes,
        MetricKind::Gauge,
        "Bytes of the rings that a start after a crash would read",
        by_shard!(journal_used_bytes),
    ),
    shards(
        "millrace_tail",
        In::Bytes,
        MetricKind::Gauge,
        "Memory with the newest batches, for those who read them",
        by_shard!(tail_bytes),
    ),
    shards(
        "millrace_long_turn_duration",
        In::Seconds,
        MetricKind::Histogram,
        "Longer turns of a core, in which no other request of it gets on; the short ones are not counted, and the sum is up to \
         an eighth too large",
        |node, tell| {
            for (shard, board) in node.boards.iter().enumerate() {
                let counts = board.turns.counts();
                let ns = |(bucket, count): (usize, &u64)| upper_ns(bucket).saturating_mul(*count);
                let sum_ns = counts
                    .iter()
                    .enumerate()
                    .map(ns)
                    .fold(0, u64::saturating_add);
                let durations = Durations { counts, sum_ns };
                tell(
                    &[&shard.to_string()],
                    MetricValue::Durations(Box::new(durations)),
                );
            }
        },
    ),
    plain(
        "process_cpu",
        In::Seconds,
        MetricKind::Counter,
        "Time that cores have worked for the process, in it and in the kernel",
        |node, tell| tell(&[], MetricValue::Real(node.process.cpu_seconds)),
    ),
    plain(
        "process_resident_memory",
        In::Bytes,
        MetricKind::Gauge,
        "Memory of the process that is in RAM",
        |node, tell| tell(&[], MetricValue::Whole(node.process.resident_bytes)),
    ),
    plain(
        "process_virtual_memory",
        In::Bytes,
        MetricKind::Gauge,
        "Address space of the process",
        |node, tell| tell(&[], MetricValue::Whole(node.process.virtual_bytes)),
    ),
    plain(
        "process_open_fds",
        In::Pieces,
        MetricKind::Gauge,
        "File descriptors that are open",
        |node, tell| tell(&[], MetricValue::Whole(node.process.open_fds)),
    ),
    plain(
        "process_max_fds",
        In::Pieces,
        MetricKind::Gauge,
        "File descriptors that may be open",
        |node, tell| tell(&[], MetricValue::Whole(node.process.max_fds)),
    ),
    plain(
        "process_start_time",
        In::Seconds,
        MetricKind::Gauge,
        "When the process was started, since 1970",
        |node, tell| tell(&[], MetricValue::Real(node.process.start_seconds)),
    ),
];
