//! The produce and fetch path of one [`Shard`] without a machine around it: no socket, no disk, no clock. Run under
//! callgrind (`perf/profile instructions`) it gives instructions and allocations per request as figures that do not
//! depend on what else the machine does. Only what happens within `measured_turn` counts; that includes everything from
//! the request frame to the reply, and not the kernel, the ring or the executor.
//!
//!     micro small|bulk|fetch TURNS REQUESTS_PER_TURN

use std::collections::VecDeque;
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;
use kafka_wire::create_topics_request::CreatableTopic;
use kafka_wire::fetch_request::{FetchPartition, FetchTopic};
use kafka_wire::{CreateTopicsRequest, FetchRequest};
use kafka_wire_core::StrBytes;
use millrace::base::{DirectoryId, Mono, Now, ShardId, StoreId};
use millrace::broker::{ConnId, Input, Output, Shard, ShardSetup, format_store};
use millrace::config::BrokerConfig;
use millrace::controller::Directory;
use millrace::record::{BatchBuilder, Codec};
use millrace::store::IoId;
use millrace::wire::TopicRef;
use millrace::wire::client::{encode_produce_flat, encode_request};
use millrace::wire::produce::{ProducePartition, ProduceRequest, ProduceTopic};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const TOPIC: &str = "micro";
const PARTITIONS: i32 = 16;
const STORE: StoreId = StoreId(0);
/// The last versions that name topics instead of giving their ids.
const PRODUCE_VERSION: i16 = 12;
const FETCH_VERSION: i16 = 12;
const CREATE_VERSION: i16 = 7;
/// Length prefix of a frame, which the driver takes off.
const PREFIX: usize = 4;
/// Turns before anything counts: tables have grown, the store has its chunks.
const WARMUP_TURNS: u64 = 200;

/// A shard, and a disk that takes everything at once and keeps nothing.
struct Bench {
    shard: Shard,
    out: Vec<Output>,
    disk: VecDeque<IoId>,
    /// Connections whose reply is to leave, once for each.
    leaving: Vec<ConnId>,
    replies: u64,
    nanos: u64,
}

impl Bench {
    fn new(connections: u64) -> Result<Self, String> {
        let config = BrokerConfig::default();
        // Formatting writes through the disk that keeps nothing.
        let (slot, _ops) = format_store(STORE, config.store(), 1);
        let shard = Shard::new(ShardSetup {
            id: ShardId(0),
            shards: 1,
            config: Arc::new(config),
            seed: 1,
            slots: vec![slot],
            directories: vec![Directory {
                id: DirectoryId::new(1, StoreId(0)),
                shard: ShardId(0),
            }],
            cluster: None,
            board: Arc::default(),
        });
        let mut bench = Self {
            shard,
            out: Vec::new(),
            disk: VecDeque::new(),
            leaving: Vec::new(),
            replies: 0,
            nanos: 0,
        };
        bench.turn([Input::Start]);
        for conn in 0..connections {
            let peer = ([127, 0, 0, 1], 1000).into();
            bench.turn([Input::ConnOpened {
                conn: ConnId(conn),
                peer,
                listener: 0,
            }]);
        }
        bench.turn([request(0, create_topic()?)]);
        if bench.replies == 1 {
            Ok(bench)
        } else {
            Err(String::from("the topic was not made"))
        }
    }

    fn now(&self) -> Now {
        Now {
            mono: Mono(self.nanos),
            wall_ms: 1_700_000_000_000 + (self.nanos / 1_000_000) as i64,
        }
    }

    fn handle(&mut self, input: Input) {
        let now = self.now();
        let input = match input {
            Input::Request { conn, frame, .. } => Input::Request {
                conn,
                frame,
                at: now.mono,
            },
            other => other,
        };
        self.shard.handle(now, input, &mut self.out);
        for output in self.out.drain(..) {
            match output {
                Output::Reply { conn, pieces } => {
                    black_box(pieces);
                    self.leaving.push(conn);
                    self.replies += 1;
                }
                Output::Disk { op, .. } => self.disk.push_back(op.id()),
                _ => {}
            }
        }
    }

    /// What the pump does with what has arrived: tells it, says that nothing more waits, and brings the completions,
    /// until nothing is in flight. Then all replies have left.
    fn turn(&mut self, inputs: impl IntoIterator<Item = Input>) {
        self.nanos += 1_000_000;
        for input in inputs {
            self.handle(input);
        }
        self.handle(Input::Idle);
        while !self.disk.is_empty() {
            for id in std::mem::take(&mut self.disk) {
                self.handle(Input::Disk {
                    store: STORE,
                    id,
                    result: Ok(()),
                });
            }
            self.handle(Input::Idle);
        }
        let mut leaving = std::mem::take(&mut self.leaving);
        for conn in leaving.drain(..) {
            self.handle(Input::Sent { conn, replies: 1 });
        }
        self.leaving = leaving;
    }
}

/// A function of its own, whose name callgrind is told to collect.
#[inline(never)]
fn measured_turn(bench: &mut Bench, inputs: Vec<Input>) {
    bench.turn(inputs);
}

fn request(conn: u64, frame: Bytes) -> Input {
    // Fresh memory, as a connection gives it: the broker stamps batches in place.
    let frame = Bytes::from(frame[PREFIX..].to_vec());
    Input::Request {
        conn: ConnId(conn),
        frame,
        at: Mono(0),
    }
}

fn create_topic() -> Result<Bytes, String> {
    let mut topic = CreatableTopic::default();
    topic.name = StrBytes::from(TOPIC);
    topic.num_partitions = PARTITIONS;
    topic.replication_factor = 1;
    let mut request = CreateTopicsRequest::default();
    request.topics = vec![topic];
    request.timeout_ms = 30_000;
    encode_request(1, Some("micro"), CREATE_VERSION, &request).map_err(|e| e.to_string())
}

fn produce(partition: i32, records: usize, record_bytes: usize) -> Bytes {
    let value = vec![b'x'; record_bytes];
    let mut builder = BatchBuilder::new(Codec::None, 1_700_000_000_000);
    for _ in 0..records {
        builder.push(1_700_000_000_000, None, Some(&value), &[]);
    }
    let partition = ProducePartition {
        index: partition,
        records: Some(builder.build()),
    };
    let request = ProduceRequest {
        transactional_id: None,
        acks: -1,
        timeout_ms: 30_000,
        topics: vec![ProduceTopic {
            topic: TopicRef::Name(TOPIC.into()),
            partitions: vec![partition],
        }],
    };
    encode_produce_flat(1, Some("micro"), PRODUCE_VERSION, &request)
}

fn fetch(partition: i32, offset: i64) -> Result<Bytes, String> {
    let mut at = FetchPartition::default();
    at.partition = partition;
    at.current_leader_epoch = -1;
    at.fetch_offset = offset;
    at.last_fetched_epoch = -1;
    at.log_start_offset = -1;
    at.partition_max_bytes = 1 << 20;
    let mut topic = FetchTopic::default();
    topic.topic = StrBytes::from(TOPIC);
    topic.partitions = vec![at];
    let mut request = FetchRequest::default();
    request.max_wait_ms = 500;
    request.min_bytes = 1;
    request.max_bytes = 50 << 20;
    request.session_epoch = -1;
    request.topics = vec![topic];
    encode_request(1, Some("micro"), FETCH_VERSION, &request).map_err(|e| e.to_string())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// One record of 100 bytes per request.
    Small,
    /// 63 records of 1 KiB per request.
    Bulk,
    /// A consumer at the end of the log reads one such batch.
    Fetch,
}

fn run(kind: Kind, turns: u64, per_turn: u64) -> Result<u64, String> {
    let mut bench = Bench::new(per_turn)?;
    let (records, record_bytes) = if kind == Kind::Small {
        (1, 100)
    } else {
        (63, 1024)
    };
    let frames: Vec<Bytes> = (0..PARTITIONS)
        .map(|partition| produce(partition, records, record_bytes))
        .collect();
    let mut offsets = vec![0; PARTITIONS as usize];
    let mut measured = 0;
    for turn in 0..WARMUP_TURNS + turns {
        let partition = |n: u64| ((turn * per_turn + n) % PARTITIONS as u64) as usize;
        let mut inputs: Vec<Input> = (0..per_turn)
            .map(|n| request(n, frames[partition(n)].clone()))
            .collect();
        if kind == Kind::Fetch {
            bench.turn(inputs);
            inputs = (0..per_turn)
                .map(|n| fetch(partition(n) as i32, offsets[partition(n)]).map(|f| request(n, f)))
                .collect::<Result<_, _>>()?;
            (0..per_turn).for_each(|n| offsets[partition(n)] += records as i64);
        }
        let before = bench.replies;
        if turn < WARMUP_TURNS {
            bench.turn(inputs);
        } else {
            measured_turn(&mut bench, inputs);
            measured += bench.replies - before;
        }
        if bench.replies - before != per_turn {
            return Err(format!(
                "{} replies to {per_turn} requests",
                bench.replies - before
            ));
        }
    }
    Ok(measured)
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let kind = match args.first().map(String::as_str) {
        Some("small") => Kind::Small,
        Some("bulk") => Kind::Bulk,
        Some("fetch") => Kind::Fetch,
        _ => return usage(),
    };
    let number = |index: usize| args.get(index).and_then(|text| text.parse().ok());
    let (Some(turns), Some(per_turn)) = (number(1), number(2)) else {
        return usage();
    };
    // Within one turn a partition is read once, so that each fetch finds what was just written.
    if per_turn == 0 || kind == Kind::Fetch && per_turn > PARTITIONS as u64 {
        return usage();
    }
    match run(kind, turns, per_turn) {
        Ok(requests) => {
            println!("{requests} requests");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("micro: {why}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!(
        "micro small|bulk|fetch TURNS REQUESTS_PER_TURN (fetch: at most {PARTITIONS} per turn)"
    );
    ExitCode::from(64)
}
