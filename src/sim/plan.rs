//! Everything that a seed chooses in advance: sizes, topics, clients, delays, and
//! what goes wrong how often.

use crate::base::Rng;
use crate::config::BrokerConfig;
use crate::sim::clients::{RECORDS_PER_BATCH_MAX, SetupTopic};
use crate::sim::clock::MS;
use crate::sim::fact::Use;
use crate::store::{Sabotage, StoreConfig};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// What the caller chooses.
#[derive(Clone, Debug)]
pub struct Options {
    /// Events until the faults stop.
    pub steps: u64,
    /// What the store is to do wrong on purpose.
    pub sabotage: Sabotage,
    /// The shape of the run; `None` leaves it to the seed.
    pub shape: Option<Shape>,
    /// Print every event.
    pub verbose: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            steps: 4000,
            sabotage: Sabotage::default(),
            shape: None,
            verbose: false,
        }
    }
}

/// Mean distance of the faults, in events, or in operations for those of the disk; 0 for never.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// A machine stops.
    pub crash: u64,
    /// A node is asked to shut down.
    pub shutdown: u64,
    /// A connection ends.
    pub cut: u64,
    /// The way between a client and a node is shut for a while.
    pub shut: u64,
    /// The wall clock jumps.
    pub wall_jump: u64,
    /// The memory tails may take more or less from now on.
    pub memory: u64,
    /// A write or sync fails.
    pub disk_error: u64,
    /// A read fails.
    pub read_error: u64,
    /// In eighths, how often the disk has no room for a store to grow, until there is relief; 0 for always room.
    pub no_room: u64,
}

/// Longest delays, ns. What happens within them is drawn from the seed.
#[derive(Clone, Copy, Debug)]
pub struct Delays {
    /// Of a frame on the network, one way.
    pub net: u64,
    /// Of a message between shards.
    pub mesh: u64,
    /// Of a disk operation.
    pub disk: u64,
    /// Of a shard that is told that nothing is waiting.
    pub idle: u64,
}

/// What the sizes of a run are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Shape {
    /// Nothing in particular.
    Any,
    /// Crashes at the end of a ring of a few flushes, many of which go into chunks: of a flush the record
    /// survives there and the chunk does not, and the next start's first flush is too large for the place.
    RingEnd,
    /// Flushes of more than the larger chunks, in a store with few of them free.
    Large,
    /// Thousands of logs with less than a block in each, which no chunk has: checkpoints of many megabytes.
    Crowd,
    /// Several nodes of one cluster. Some seeds have no clients, so that what goes wrong is about the nodes alone.
    Peers,
    /// The same, and topics have several replicas.
    Replicas,
}

impl Shape {
    fn new(rng: &mut Rng) -> Self {
        match rng.below(32) {
            0..5 => Self::RingEnd,
            5 => Self::Large,
            6 => Self::Crowd,
            7 => Self::Peers,
            8 => Self::Replicas,
            _ => Self::Any,
        }
    }

    /// Changes what was drawn to what the shape is about.
    fn lay_over(self, plan: &mut Plan, rng: &mut Rng) {
        let store = &mut plan.store;
        match self {
            Self::Any => {}
            Self::RingEnd => {
                // One store without the metadata, of which a start's first flushes are, small ones.
                plan.shards = 2;
                plan.shards_change = false;
                store.journal_bytes = pick(rng, &[64 * KIB, 128 * KIB]);
                store.bulk_bytes_min = 4096;
                store.flush_bytes_max = 16 * KIB as usize;
                store.checkpoint_bytes = 64 * MIB;
                plan.value_bytes_max = pick(rng, &[600, 1000]);
                plan.faults.crash = pick(rng, &[60, 120]);
                plan.faults.no_room = 0;
                plan.delays.disk = 20 * MS;
                plan.delays.idle = 2 * MS;
            }
            Self::Large => {
                store.journal_bytes = 16 * MIB;
                store.initial_bytes = 20 * MIB;
                store.bytes_max = pick(rng, &[36 * MIB, 44 * MIB]);
                store.flush_bytes_max = 2 * MIB as usize;
                store.bulk_bytes_min = pick(rng, &[32, 256]) * KIB as usize;
                plan.shards = 1;
                plan.shards_change = false;
                plan.value_bytes_max = 120_000;
                plan.delays.idle = 2 * MS;
            }
            Self::Peers | Self::Replicas => {
                plan.nodes = 2 + rng.below(2) as usize;
                // Drawn apart, as below.
                plan.observers = usize::from(Rng::new(!rng.clone().next_u64()).chance(1, 3));
                plan.nodes += plan.observers;
                if rng.chance(1, 4) {
                    plan.topics = Vec::new();
                }
                plan.config.offsets_topic_replication_factor = 1;
                if self == Self::Replicas {
                    plan.replicate(rng);
                }
                plan.config.millrace_cluster_id = Some("peers".to_owned());
                plan.config.millrace_direct_ports = 0;
                (plan.rot, plan.rot_live) = (false, false);
                plan.faults = Faults {
                    crash: pick(rng, &[0, 500, 1500]),
                    shutdown: pick(rng, &[0, 1000]),
                    cut: pick(rng, &[0, 100, 500]),
                    shut: pick(rng, &[0, 300, 1500]),
                    disk_error: pick(rng, &[0, 0, 0, 500]),
                    read_error: pick(rng, &[0, 0, 50]),
                    ..Faults::default()
                };
            }
            Self::Crowd => {
                store.journal_bytes = 16 * MIB;
                store.initial_bytes = 48 * MIB;
                // What a crowd leaves takes four times as much, for two copies of two checkpoints, and the others still
                // have to make their topics.
                store.bytes_max = pick(rng, &[104 * MIB, 128 * MIB]);
                store.flush_bytes_max = 2 * MIB as usize;
                store.checkpoint_bytes = pick(rng, &[MIB, 64 * MIB]);
                plan.shards = 1;
                plan.shards_change = false;
                plan.crowds = 1;
                plan.looks_every = 64;
                plan.value_bytes_max = pick(rng, &[600, 40_000]);
                plan.faults.crash = pick(rng, &[500, 1000]);
                plan.faults.no_room = 0;
                plan.delays.idle = 2 * MS;
            }
        }
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What the sizes are made for.
    pub shape: Shape,
    /// Machines.
    pub nodes: usize,
    /// The last ones of them, of a cluster, have no vote about its metadata.
    pub observers: usize,
    /// Shards at the first start of each.
    pub shards: u16,
    /// Whether their number changes from start to start.
    pub shards_change: bool,
    /// Sizes of the stores.
    pub store: StoreConfig,
    /// Configuration of the node.
    pub config: BrokerConfig,
    /// Topics to be made.
    pub topics: Vec<SetupTopic>,
    /// Replicas of a partition at the most.
    pub replicas: i16,
    /// Longest values of the producers; long ones fill a store.
    pub value_bytes_max: usize,
    /// Idempotent producers.
    pub idempotent: u32,
    /// The `acks` of plain producers.
    pub plain: Vec<i16>,
    /// Consumers; every second one uses fetch sessions.
    pub consumers: u32,
    /// Clients that look up offsets.
    pub lookups: u32,
    /// Groups with a committer of its own each.
    pub committers: u32,
    /// Members of each classic group.
    pub groups: Vec<u32>,
    /// Clients that create and delete topics.
    pub churns: u32,
    /// Clients that do so with topics of very many partitions.
    pub crowds: u32,
    /// The transactional ids of producers with transactions, by number; those with the same one fence each other.
    pub transactors: Vec<u32>,
    /// Clients that delete records.
    pub truncators: u32,
    /// After how many inputs the invariants of a shard are looked at. They go through all of its logs.
    pub looks_every: u64,
    /// What goes wrong.
    pub faults: Faults,
    /// Delays.
    pub delays: Delays,
    /// Bits are flipped at the end of the run, to see whether that is noticed.
    pub rot: bool,
    /// The same while the node is up, in what was acknowledged and is on the disk.
    pub rot_live: bool,
}

impl Plan {
    /// Whether the nodes are of one cluster, and talk to each other.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        matches!(self.shape, Shape::Peers | Shape::Replicas)
    }

    /// Whether there are clients.
    #[must_use]
    pub fn has_clients(&self) -> bool {
        !self.topics.is_empty()
    }

    /// Chooses how many replicas there are of what.
    fn replicate(&mut self, rng: &mut Rng) {
        self.replicas = pick(rng, &[1, 2, 3, 3]).min(self.nodes as i16);
        self.config.default_replication_factor = self.replicas.into();
        self.config.offsets_topic_replication_factor = self.replicas;
        if self.replicas == 1 {
            return;
        }
        for topic in &mut self.topics {
            topic.replicas = pick(rng, &[1, self.replicas, self.replicas]);
        }
        self.config.min_insync_replicas = pick(rng, &[1, 2]);
        // Groups wait for other replicas too, and the shorter they do the more is committed after that.
        self.committers = 2 + rng.below(4) as u32;
        self.config.offsets_commit_timeout_ms = pick(rng, &[1, 100, 5_000]);
        // One of several that has no room would keep the others from getting on.
        self.store.bytes_max = 64 * MIB;
    }

    /// Adds a topic that is compacted, in some seeds.
    fn compact(&mut self, rng: &mut Rng) {
        let may = matches!(self.shape, Shape::Any | Shape::Replicas) && !self.rot && !self.rot_live;
        if !may || !self.has_clients() || !rng.chance(1, 2) {
            return;
        }
        let keeps_tombstones = rng.chance(1, 2);
        let mut topic = SetupTopic {
            name: "compacted".to_owned(),
            partitions: 1 + rng.below(2) as i32,
            used: Use::Compacted { keeps_tombstones },
            replicas: pick(rng, &[1, self.replicas, self.replicas]),
            configs: vec![
                ("cleanup.policy", "compact".to_owned()),
                ("segment.ms", pick(rng, &[1, 10, 100]).to_string()),
                (
                    "min.cleanable.dirty.ratio",
                    pick(rng, &["0", "0.3"]).to_owned(),
                ),
            ],
        };
        if !keeps_tombstones {
            let retention = pick(rng, &[0, 20, 300]).to_string();
            topic.configs.push(("delete.retention.ms", retention));
        }
        self.topics.push(topic);
        self.config.log_cleaner_backoff_ms = pick(rng, &[1, 10, 100]);
    }

    /// Adds a topic that is written in transactions, and producers that do, in some seeds.
    fn transact(&mut self, rng: &mut Rng) {
        let may = matches!(self.shape, Shape::Any | Shape::Replicas) && !self.rot && !self.rot_live;
        let config = &mut self.config;
        config.transaction_state_log_replication_factor = self.replicas;
        config.transaction_state_log_min_isr = config.min_insync_replicas;
        config.transaction_state_log_num_partitions = 1 + rng.below(4) as i32;
        if !may || !self.has_clients() || !rng.chance(1, 2) {
            return;
        }
        self.topics.push(SetupTopic {
            name: "transacted".to_owned(),
            partitions: 1 + rng.below(3) as i32,
            used: Use::Transacted,
            replicas: pick(rng, &[1, self.replicas, self.replicas]),
            configs: Vec::new(),
        });
        // With a full store nothing that is open could end.
        self.store.bytes_max = 64 * MIB;
        self.faults.no_room = 0;
        self.transactors = pick(rng, &[&[0][..], &[0, 1], &[0, 0], &[0, 0, 1]]).to_vec();
    }

    /// The plan of a seed.
    #[must_use]
    pub fn new(rng: &mut Rng, options: &Options) -> Self {
        let shards = 1 + rng.below(4) as u16;
        // Drawn apart, so that the other choices of a seed stay what they were.
        let mut apart = Rng::new(rng.clone().next_u64());
        let direct = apart.chance(1, 3);
        let rot_live = apart.chance(1, 8);
        let drawn = Shape::new(&mut apart);
        let shape = options.shape.unwrap_or(drawn);
        let value_bytes_max = pick(rng, &[20, 600, 600, 3000, 40_000]);
        let tight = rng.chance(1, 3);
        let mut plan = Self {
            shape,
            nodes: 1,
            observers: 0,
            shards,
            shards_change: rng.chance(1, 3),
            store: if tight {
                tight_store(rng, options)
            } else {
                roomy_store(rng, options)
            },
            config: config(rng, value_bytes_max, direct),
            topics: topics(rng),
            replicas: 1,
            value_bytes_max,
            idempotent: 1 + rng.below(3) as u32,
            plain: (0..rng.below(3)).map(|_| rng.below(3) as i16 - 1).collect(),
            consumers: 1 + rng.below(4) as u32,
            lookups: rng.below(2) as u32,
            committers: rng.below(3) as u32,
            groups: (0..rng.below(2)).map(|_| 1 + rng.below(3) as u32).collect(),
            churns: rng.below(2) as u32,
            crowds: 0,
            transactors: Vec::new(),
            looks_every: 1,
            truncators: 1,
            faults: faults(rng, tight),
            delays: Delays {
                net: pick(rng, &[50_000, 500_000, 3 * MS]),
                mesh: pick(rng, &[2_000, 50_000, MS]),
                disk: pick(rng, &[100_000, 2 * MS, 20 * MS]),
                idle: pick(rng, &[1, 20_000, 200_000]),
            },
            rot: rng.chance(1, 5),
            rot_live,
        };
        shape.lay_over(&mut plan, &mut apart);
        // There are few logs, and yet a checkpoint is to take its time.
        plan.store.checkpoint_slice_bytes = pick(&mut apart, &[1, 6 * KIB, 256 * KIB]);
        plan.compact(&mut apart);
        plan.transact(&mut apart);
        let config = &mut plan.config;
        config.log_segment_bytes = config
            .log_segment_bytes
            .max(batch_bytes_max(plan.value_bytes_max));
        plan
    }
}

fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.below(from.len() as u64) as usize]
}

/// A store whose ring wraps every few flushes.
fn tight_store(rng: &mut Rng, options: &Options) -> StoreConfig {
    StoreConfig {
        journal_bytes: pick(rng, &[128 * KIB, 192 * KIB, 256 * KIB]),
        bulk_bytes_min: 4096,
        flush_bytes_max: pick(rng, &[32 * KIB, 64 * KIB]) as usize,
        ..roomy_store(rng, options)
    }
}

fn roomy_store(rng: &mut Rng, options: &Options) -> StoreConfig {
    let journal_bytes = pick(rng, &[256 * KIB, 512 * KIB, MIB]);
    let initial_bytes = 16 * MIB;
    StoreConfig {
        journal_bytes,
        initial_bytes,
        raw: journal_bytes == 512 * KIB,
        bytes_max: pick(rng, &[16 * MIB, 24 * MIB, 64 * MIB]),
        bulk_bytes_min: pick(rng, &[4096, 8192, 32 * 1024]),
        flushes_in_flight_max: 1 + rng.below(4) as usize,
        small_flush_bytes: pick(rng, &[0, 4 * KIB, 64 * KIB]) as usize,
        small_flushes_in_flight_max: 1 + rng.below(3) as usize,
        flush_bytes_max: pick(rng, &[64 * KIB, 128 * KIB, MIB]) as usize,
        tail_bytes_max: pick(rng, &[32 * KIB, 256 * KIB, 4 * MIB]) as usize,
        checkpoint_bytes: pick(rng, &[128 * KIB, MIB, 64 * MIB]),
        checkpoint_slice_bytes: 256 * KIB,
        sabotage: options.sabotage,
    }
}

fn config(rng: &mut Rng, value_bytes_max: usize, direct: bool) -> BrokerConfig {
    let segment_bytes = pick(rng, &[32 * KIB, 64 * KIB, 256 * KIB, MIB]);
    BrokerConfig {
        log_segment_bytes: batch_bytes_max(value_bytes_max).max(segment_bytes as i32),
        log_roll_ms: rng.chance(1, 4).then(|| 50 + rng.below(2000) as i64),
        log_retention_check_interval_ms: pick(rng, &[20, 200, 2000]),
        offsets_topic_num_partitions: 1 + rng.below(4) as i32,
        group_initial_rebalance_delay_ms: pick(rng, &[0, 30]),
        group_min_session_timeout_ms: 500,
        max_incremental_fetch_session_cache_slots: pick(rng, &[1, 100]),
        offsets_retention_check_interval_ms: 500,
        millrace_direct_ports: i32::from(direct),
        millrace_internal_compact_bytes: pick(rng, &[500, 2_000, 10_000]),
        ..BrokerConfig::default()
    }
}

/// A batch that is longer than a segment is refused for good.
const fn batch_bytes_max(value_bytes_max: usize) -> i32 {
    (RECORDS_PER_BATCH_MAX * (value_bytes_max + 100)) as i32
}

fn topics(rng: &mut Rng) -> Vec<SetupTopic> {
    let mut topics = Vec::new();
    let uses = [Use::Kept, Use::Kept, Use::Expiring, Use::Truncated];
    for (index, used) in uses.into_iter().enumerate() {
        if index > 0 && rng.chance(1, 3) {
            continue;
        }
        let mut configs = Vec::new();
        if used == Use::Expiring {
            configs.push(match rng.below(2) {
                0 => ("retention.bytes", rng.below(60_000).to_string()),
                _ => ("retention.ms", (1 + rng.below(3000)).to_string()),
            });
        }
        if used != Use::Expiring && rng.chance(1, 4) {
            configs.push(("message.timestamp.type", "LogAppendTime".to_owned()));
        }
        topics.push(SetupTopic {
            name: format!("topic-{index}"),
            partitions: 1 + rng.below(4) as i32,
            used,
            replicas: 1,
            configs,
        });
    }
    topics
}

/// With a tight store crashes come in quick succession: the next one before a checkpoint has made the last one
/// a thing of the past.
fn faults(rng: &mut Rng, tight: bool) -> Faults {
    if rng.chance(1, 10) {
        return Faults::default();
    }
    Faults {
        crash: if tight {
            pick(rng, &[100, 200, 400])
        } else {
            pick(rng, &[0, 400, 1000, 2500])
        },
        shutdown: pick(rng, &[0, 0, 1500]),
        cut: pick(rng, &[0, 100, 500]),
        shut: pick(rng, &[0, 0, 300, 1500]),
        wall_jump: pick(rng, &[0, 500]),
        memory: pick(rng, &[0, 50, 500]),
        disk_error: pick(rng, &[0, 0, 0, 500]),
        read_error: pick(rng, &[0, 0, 50]),
        no_room: pick(rng, &[0, 0, 4, 8]),
    }
}
