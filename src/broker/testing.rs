//! A node of shards without a machine around it, for tests of what requests cost and in which order things
//! happen: messages between shards and completions of the disk come when the test says so.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use kafka_wire::CreateTopicsRequest;
use kafka_wire::create_topics_request::CreatableTopic;
use kafka_wire_core::StrBytes;

use super::fx::Fx;
use super::io::{ConnId, Input, Output, ReadId};
use super::msg::Msg;
use super::owner::stores::format_store;
use super::peers::ClusterSetup;
use super::shard::{Shard, ShardSetup};
use crate::base::{BLOCK, DirectoryId, Mono, Now, ShardId, StoreId};
use crate::config::BrokerConfig;
use crate::controller::Directory;
use crate::record::{BatchBuilder, Codec};
use crate::store::{DiskOp, Piece};
use crate::wire::TopicRef;
use crate::wire::client::{decode_response, encode_produce_flat, encode_request};
use crate::wire::produce::{ProducePartition, ProduceRequest, ProduceTopic};

/// Length prefix of a frame, which the driver takes off.
const PREFIX: usize = 4;
const WALL_MS: i64 = 1_700_000_000_000;

/// Lets a part of shard 0 do something; what comes of it, what it wants of the driver, and its messages to itself.
pub fn with_fx<T>(now: Now, act: impl FnOnce(&mut Fx<'_>) -> T) -> (T, Vec<Output>, VecDeque<Msg>) {
    let (mut out, mut local) = (Vec::new(), VecDeque::new());
    let done = act(&mut Fx {
        me: ShardId(0),
        now,
        out: &mut out,
        local: &mut local,
        ops: Vec::new(),
    });
    (done, out, local)
}

/// See the module. Every shard has one store, and connection `n` is with shard `n % shards`.
pub struct Bench {
    pub shards: Vec<Shard>,
    /// Messages and completions on their way, by receiver.
    pub coming: VecDeque<(usize, Input)>,
    /// Replies in the order in which they were given out.
    pub replies: Vec<(ConnId, Bytes)>,
    /// Connections that were closed by the broker, and why.
    pub closed: Vec<(ConnId, String)>,
    /// When each shard wants to be told that it is idle.
    pub wake_at: Vec<Mono>,
    pub drained: usize,
    pub nanos: u64,
    /// Blocks that were written, by store and position.
    blocks: BTreeMap<(StoreId, u64), Bytes>,
    /// Reads on their way,
    pub reads: VecDeque<(usize, ReadId, Vec<Piece>)>,
    /// the most bytes that they were of at a time,
    pub reads_peak: usize,
    /// and how long each one was that there has been.
    pub read_lens: Vec<usize>,
    /// What shards want done with links.
    pub links: VecDeque<(usize, Output)>,
}

impl Bench {
    pub fn new(shards: u16, config: BrokerConfig) -> Self {
        Self::of_cluster(shards, config, None)
    }

    /// One of several nodes, if there are others.
    pub fn of_cluster(
        shards: u16,
        config: BrokerConfig,
        cluster: Option<Arc<ClusterSetup>>,
    ) -> Self {
        let config = Arc::new(config);
        // Each node has stores of its own.
        let set = config.node().0 as u64;
        let directories: Vec<Directory> = (0..shards)
            .map(|n| Directory {
                id: DirectoryId::new(set, StoreId(n)),
                shard: ShardId(n),
            })
            .collect();
        let setup = |id: u16| ShardSetup {
            id: ShardId(id),
            shards,
            config: Arc::clone(&config),
            seed: u64::from(id),
            // Formatting writes to a disk that keeps nothing.
            slots: vec![format_store(StoreId(id), config.store(), set).0],
            directories: directories.clone(),
            cluster: cluster.clone(),
            board: Arc::default(),
        };
        let mut bench = Self {
            shards: (0..shards).map(|id| Shard::new(setup(id))).collect(),
            coming: VecDeque::new(),
            replies: Vec::new(),
            closed: Vec::new(),
            wake_at: vec![Mono::NEVER; usize::from(shards)],
            drained: 0,
            nanos: 0,
            blocks: BTreeMap::new(),
            reads: VecDeque::new(),
            reads_peak: 0,
            read_lens: Vec::new(),
            links: VecDeque::new(),
        };
        for shard in 0..bench.shards.len() {
            bench.handle(shard, Input::Start);
        }
        bench.settle();
        bench
    }

    pub fn open(&mut self, conn: u64) {
        let input = Input::ConnOpened {
            conn: ConnId(conn),
            peer: ([127, 0, 0, 1], 1000).into(),
            listener: 0,
        };
        self.handle(self.shard_of(conn), input);
    }

    pub fn close(&mut self, conn: u64) {
        let conn = ConnId(conn);
        self.handle(self.shard_of(conn.0), Input::ConnClosed { conn });
    }

    fn shard_of(&self, conn: u64) -> usize {
        (conn % self.shards.len() as u64) as usize
    }

    /// Gives a shard a request, and nothing else.
    pub fn send(&mut self, conn: u64, frame: &Bytes) {
        let input = Input::Request {
            conn: ConnId(conn),
            // Fresh memory, as a connection gives it.
            frame: Bytes::copy_from_slice(&frame[PREFIX..]),
            at: Mono(self.nanos),
        };
        self.handle(self.shard_of(conn), input);
    }

    /// Sends a request and lets everything happen that follows from it.
    pub fn ask(&mut self, conn: u64, frame: &Bytes) -> Option<Bytes> {
        self.send(conn, frame);
        self.settle();
        self.last_reply(conn)
    }

    pub fn last_reply(&self, conn: u64) -> Option<Bytes> {
        let mut replies = self.replies.iter().rev();
        replies
            .find(|(to, _)| to.0 == conn)
            .map(|(_, frame)| frame.clone())
    }

    pub fn create_topic(&mut self, conn: u64, name: &str, partitions: i32) {
        let reply = self.ask_for_topic(conn, name, partitions);
        assert!(reply.is_some(), "the topic was not made");
    }

    /// Asks for a topic.
    pub fn ask_for_topic(&mut self, conn: u64, name: &str, partitions: i32) -> Option<Bytes> {
        self.ask(conn, &create_topic(name, partitions))
    }

    /// Produces a record to one partition over connection 0; the error.
    pub fn produce(&mut self, topic: &str, index: i32, bytes: usize) -> i16 {
        self.produce_batch(topic, index, (BatchBuilder::new(Codec::None, 0), bytes))
    }

    /// The same as a batch of a producer: a record of so many bytes is its only one.
    pub fn produce_batch(
        &mut self,
        topic: &str,
        index: i32,
        (mut batch, bytes): (BatchBuilder, usize),
    ) -> i16 {
        batch.push(0, None, Some(&vec![7; bytes]), &[]);
        let records = Some(batch.build());
        let request = ProduceRequest {
            transactional_id: None,
            acks: -1,
            timeout_ms: 30_000,
            topics: vec![ProduceTopic {
                topic: TopicRef::Name(topic.into()),
                partitions: vec![ProducePartition { index, records }],
            }],
        };
        let frame = encode_produce_flat(1, Some("test"), 9, &request);
        let reply = self.ask(0, &frame).unwrap();
        let response = decode_response::<kafka_wire::ProduceRequest>(reply.slice(4..), 9);
        let (_, response) = response.unwrap();
        response.responses[0].partition_responses[0].error_code
    }

    pub fn handle(&mut self, shard: usize, input: Input) {
        self.nanos += 1000;
        let now = Now {
            mono: Mono(self.nanos),
            wall_ms: WALL_MS + (self.nanos / 1_000_000) as i64,
        };
        let mut out = Vec::new();
        self.shards[shard].handle(now, input, &mut out);
        for output in out {
            self.perform(shard, output);
        }
    }

    fn perform(&mut self, shard: usize, output: Output) {
        match output {
            Output::Reply { conn, pieces } => {
                let mut frame = Vec::new();
                for piece in pieces {
                    match piece {
                        Piece::Memory(bytes) => frame.extend_from_slice(&bytes),
                        Piece::File { len, .. } => frame.resize(frame.len() + len, 0),
                    }
                }
                self.replies.push((conn, frame.into()));
                let sent = Input::Sent { conn, replies: 1 };
                self.coming.push_back((shard, sent));
            }
            Output::Close { conn, why } => {
                self.closed.push((conn, why));
                let closed = Input::ConnClosed { conn };
                self.coming.push_back((shard, closed));
            }
            Output::Mesh { to, msg } => {
                let from = ShardId(shard as u16);
                self.coming
                    .push_back((usize::from(to.0), Input::Mesh { from, msg }));
            }
            Output::Disk { store, op } => {
                let id = op.id();
                if let DiskOp::Write { pos, data, .. } = op {
                    for (at, block) in (pos..).step_by(BLOCK).zip(data.chunks(BLOCK)) {
                        self.blocks.insert((store, at), data.slice_ref(block));
                    }
                }
                let result = Ok(());
                self.coming
                    .push_back((shard, Input::Disk { store, id, result }));
            }
            Output::WakeAt(at) => self.wake_at[shard] = at,
            Output::Drained => self.drained += 1,
            Output::Fatal { message, .. } => panic!("{message}"),
            Output::Read { id, pieces } => {
                self.read_lens.push(len(&pieces));
                self.reads.push_back((shard, id, pieces));
                let under_way = self.reads.iter().map(|(.., pieces)| len(pieces));
                self.reads_peak = self.reads_peak.max(under_way.sum());
            }
            Output::Dial { .. } | Output::LinkSend { .. } | Output::LinkClose { .. } => {
                self.links.push_back((shard, output));
            }
            Output::Ready | Output::TakeNoMore { .. } | Output::TakeNoRequests => {}
        }
    }

    /// Ends the reads that are on their way.
    pub fn end_reads(&mut self) {
        for (shard, id, pieces) in std::mem::take(&mut self.reads) {
            let parts: Vec<Vec<u8>> = pieces.iter().map(|piece| self.bytes_of(piece)).collect();
            let result = Ok(parts.concat().into());
            self.handle(shard, Input::Read { id, result });
        }
    }

    fn bytes_of(&self, piece: &Piece) -> Vec<u8> {
        match piece {
            Piece::Memory(bytes) => bytes.to_vec(),
            Piece::File {
                store, pos, len, ..
            } => {
                let skip = (pos % BLOCK as u64) as usize;
                let blocks = (pos - skip as u64..pos + *len as u64).step_by(BLOCK);
                let blocks: Vec<Bytes> = blocks
                    .map(|at| self.blocks[&(*store, at)].clone())
                    .collect();
                blocks.concat()[skip..skip + len].to_vec()
            }
        }
    }

    /// Tells a shard that nothing is waiting; returns whether it wants to go on at once.
    pub fn idle(&mut self, shard: usize) -> bool {
        self.handle(shard, Input::Idle);
        self.wake_at[shard] <= Mono(self.nanos)
    }

    /// Delivers what is on its way, once.
    pub fn deliver(&mut self) {
        for (shard, input) in std::mem::take(&mut self.coming) {
            self.handle(shard, input);
        }
    }

    /// Lets everything happen that needs neither time to pass nor the disk, which hangs; what that was to do is given.
    pub fn settle_but_disk(&mut self) -> Vec<(usize, Input)> {
        let is_of_disk = |input: &Input| matches!(input, Input::Disk { .. });
        let mut hung = Vec::new();
        loop {
            let coming = std::mem::take(&mut self.coming).into_iter();
            let (disk, others): (Vec<_>, Vec<_>) = coming.partition(|(_, i)| is_of_disk(i));
            hung.extend(disk);
            let mut more = !others.is_empty();
            for (shard, input) in others {
                self.handle(shard, input);
            }
            for shard in 0..self.shards.len() {
                more |= self.idle(shard);
            }
            if !more {
                return hung;
            }
        }
    }

    /// Lets everything happen that needs no time to pass.
    pub fn settle(&mut self) {
        loop {
            self.deliver();
            self.end_reads();
            let mut more = false;
            for shard in 0..self.shards.len() {
                more |= self.idle(shard);
            }
            if !more && self.coming.is_empty() && self.reads.is_empty() {
                return;
            }
        }
    }
}

/// CreateTopics version 5.
pub fn create_topic(name: &str, partitions: i32) -> Bytes {
    let mut topic = CreatableTopic::default();
    topic.name = StrBytes::from(name);
    topic.num_partitions = partitions;
    topic.replication_factor = 1;
    let mut request = CreateTopicsRequest::default();
    request.topics = vec![topic];
    request.timeout_ms = 30_000;
    encode_request(1, Some("test"), 5, &request).expect("a request")
}

fn len(pieces: &[Piece]) -> usize {
    pieces.iter().map(Piece::len).sum()
}
