//! One producer of a verification run: sends stamped records to every partition,
//! and goes on through restarts, elections and lost connections as a client must.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hdrhistogram::Histogram;
use kafka_wire::{InitProducerIdRequest, ProduceRequest as ProduceApi};
use millrace::record::BatchBuilder;
use millrace::wire::TopicRef;
use millrace::wire::client::{decode_produce, encode_produce_flat};
use millrace::wire::produce::{ProducePartition, ProduceRequest, ProduceTopic};

use super::judge::Batch;
use super::lane::{Lane, Outcome};
use super::{Journal, Setup};
use crate::stamp::Stamp;
use crate::stats::{histogram, record};
use millrace_client::{CLIENT_ID, ClientError, Cluster, Conn, Result, Topic, message};

/// Pause before going on after something went wrong.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// From this version on, Produce names topics by id instead of by name.
const PRODUCE_BY_ID_SINCE: i16 = 13;
/// Milliseconds that a broker may take to replicate a batch.
const PRODUCE_TIMEOUT_MS: i32 = 30_000;

/// What a producer leaves behind.
pub struct Produced {
    /// Batches acknowledged.
    pub acked: Vec<Batch>,
    /// Batches of unknown outcome.
    pub unacked: Vec<Batch>,
    /// Refusals that a correct broker does not give.
    pub rejected: Vec<String>,
    /// From when a batch was due to its acknowledgement, nanoseconds.
    pub latency: Histogram<u64>,
    /// How often it had to connect again.
    pub reconnects: u64,
    /// Why it gave up, if it did.
    pub gave_up: Option<ClientError>,
}

/// A connection to a leader, and what was sent on it, oldest first.
struct Link {
    conn: Conn,
    version: i16,
    waiting: VecDeque<(usize, u64)>,
}

/// See the module.
pub struct Producer<'a> {
    setup: &'a Setup,
    journal: &'a Journal,
    number: u16,
    cluster: Cluster,
    topic: Topic,
    identity: Option<(i64, i16)>,
    lanes: Vec<Lane>,
    next_lane: usize,
    links: BTreeMap<i32, Link>,
    leaders_stale: bool,
    batches_made: u64,
    done: Produced,
}

impl<'a> Producer<'a> {
    /// A producer that has not sent anything yet.
    pub fn new(setup: &'a Setup, journal: &'a Journal, number: u16) -> Result<Self> {
        let mut cluster = setup.connect()?;
        let topic = cluster.topic(&setup.topic.name)?;
        let lanes = topic.partitions.iter();
        let lanes = lanes.map(|p| Lane::new(number, p.index, setup.idempotent, setup.in_flight));
        let lanes = lanes.collect();
        let identity = setup
            .idempotent
            .then(|| init_producer_id(&mut cluster))
            .transpose()?;
        Ok(Self {
            setup,
            journal,
            number,
            cluster,
            topic,
            identity,
            lanes,
            next_lane: 0,
            links: BTreeMap::new(),
            leaders_stale: false,
            batches_made: 0,
            done: Produced {
                acked: Vec::new(),
                unacked: Vec::new(),
                rejected: Vec::new(),
                latency: histogram(),
                reconnects: 0,
                gave_up: None,
            },
        })
    }

    /// Sends until `until`, then waits for what is still on its way.
    pub fn run(mut self, until: Instant) -> Produced {
        let start = Instant::now();
        let mut trouble: Option<Instant> = None;
        loop {
            let sending = Instant::now() < until && self.done.rejected.is_empty();
            if sending {
                self.make_batches(start);
            } else if self.lanes.iter().all(Lane::is_idle) {
                break;
            }
            match self.step() {
                Ok(()) => trouble = None,
                Err(error) => {
                    let since = *trouble.get_or_insert_with(Instant::now);
                    if !error.is_retriable() || since.elapsed() > self.setup.patience {
                        self.done.gave_up = Some(error);
                        break;
                    }
                    self.reconnect();
                }
            }
        }
        self.done.unacked = self.lanes.iter().flat_map(Lane::unacked).collect();
        self.done
    }

    /// Makes what is due, for each partition in turn, as far as the lanes have room.
    fn make_batches(&mut self, start: Instant) {
        for _ in 0..self.lanes.len() * self.setup.in_flight {
            let due = self.setup.rate_per_producer.map(|rate| {
                let batch = f64::from(self.setup.batch_records);
                start + Duration::from_secs_f64(self.batches_made as f64 * batch / rate)
            });
            let now = Instant::now();
            if due.is_some_and(|due| due > now) {
                if self.lanes.iter().all(Lane::is_idle) {
                    let rest = due.map_or(Duration::ZERO, |due| due - now);
                    std::thread::sleep(rest.min(RETRY_PAUSE));
                }
                return;
            }
            let room = (0..self.lanes.len()).map(|i| (self.next_lane + i) % self.lanes.len());
            let Some(lane) = { room }.find(|&lane| self.lanes[lane].has_room()) else {
                return;
            };
            self.next_lane = (lane + 1) % self.lanes.len();
            self.batches_made += 1;
            let late = due.map_or(Duration::ZERO, |due| now - due);
            let intended_ns = wall_ns().saturating_sub(late.as_nanos() as u64);
            let bytes = self.batch(&self.lanes[lane], intended_ns);
            self.lanes[lane].add(self.setup.batch_records, bytes, intended_ns);
        }
    }

    fn batch(&self, lane: &Lane, intended_ns: u64) -> Bytes {
        let timestamp_ms = (intended_ns / 1_000_000) as i64;
        let mut builder = BatchBuilder::new(self.setup.codec, timestamp_ms);
        if let Some((id, epoch)) = self.identity {
            // Kafka's sequence numbers start again at 0 after 2^31 - 1.
            let sequence = (lane.next_sequence() & i32::MAX as u64) as i32;
            builder = builder.producer(id, epoch, sequence);
        }
        let mut value = vec![0; self.setup.record_bytes];
        for i in 0..u64::from(self.setup.batch_records) {
            let stamp = Stamp {
                run: self.setup.run,
                producer: self.number,
                partition: lane.partition(),
                sequence: lane.next_sequence() + i,
                intended_ns,
            };
            stamp.write(&mut value);
            builder.push(timestamp_ms, None, Some(&value), &[]);
        }
        builder.build()
    }

    /// Sends what may be sent, then takes one answer from every leader that owes some.
    fn step(&mut self) -> Result<()> {
        if self.leaders_stale {
            std::thread::sleep(RETRY_PAUSE);
            self.topic = self.cluster.topic(&self.topic.name)?;
            self.leaders_stale = false;
        }
        for lane in 0..self.lanes.len() {
            self.send(lane)?;
        }
        let leaders: Vec<i32> = self.links.keys().copied().collect();
        for leader in leaders {
            self.receive(leader)?;
        }
        Ok(())
    }

    fn send(&mut self, lane: usize) -> Result<()> {
        if self.lanes[lane].is_idle() {
            return Ok(());
        }
        let partition = self.lanes[lane].partition();
        let leader = self.topic.partition(partition)?.leader;
        if leader < 0 {
            self.leaders_stale = true;
            return Ok(());
        }
        if !self.links.contains_key(&leader) {
            let conn = self.cluster.connect_to(leader)?;
            let by_id = self.topic.id.0 != [0; 16];
            let cap = if by_id {
                i16::MAX
            } else {
                PRODUCE_BY_ID_SINCE - 1
            };
            let version = conn.version_up_to::<ProduceApi>(cap)?;
            self.links.insert(
                leader,
                Link {
                    conn,
                    version,
                    waiting: VecDeque::new(),
                },
            );
        }
        let link = self.links.get_mut(&leader).expect("inserted above");
        while let Some(pending) = self.lanes[lane].send_next() {
            let name = if link.version >= PRODUCE_BY_ID_SINCE {
                TopicRef::Id(self.topic.id)
            } else {
                TopicRef::Name(self.topic.name.as_str().into())
            };
            let records = ProducePartition {
                index: partition,
                records: Some(pending.bytes.clone()),
            };
            let request = ProduceRequest {
                transactional_id: None,
                acks: -1,
                timeout_ms: PRODUCE_TIMEOUT_MS,
                topics: vec![ProduceTopic {
                    topic: name,
                    partitions: vec![records],
                }],
            };
            // Answers come in order, so the queue says which is whose and ids need not differ.
            let frame = encode_produce_flat(0, Some(CLIENT_ID), link.version, &request);
            if pending.batch.attempts > 1 {
                self.setup.retries.fetch_add(1, Ordering::Relaxed);
            }
            link.waiting.push_back((lane, pending.batch.first));
            link.conn.send_frame(&frame)?;
        }
        Ok(())
    }

    fn receive(&mut self, leader: i32) -> Result<()> {
        let Some(link) = self.links.get_mut(&leader) else {
            return Ok(());
        };
        let Some((lane, first)) = link.waiting.pop_front() else {
            return Ok(());
        };
        let frame = link.conn.receive()?;
        let (_, response) = link.conn.read(decode_produce(frame, link.version))?;
        let answer = response
            .topics
            .first()
            .and_then(|topic| topic.partitions.first());
        let answer = answer.ok_or_else(|| ClientError::Malformed {
            address: link.conn.address().to_owned(),
            what: String::from("an answer to a produce without a partition"),
        })?;
        match self.lanes[lane].on_answer(first, answer.error, answer.base_offset) {
            Outcome::Acked(batch, intended_ns) => {
                let latency = wall_ns().saturating_sub(intended_ns);
                record(&mut self.done.latency, Duration::from_nanos(latency), 1);
                self.done.acked.push(batch);
                self.setup
                    .acked
                    .fetch_add(u64::from(batch.count), Ordering::Relaxed);
                self.journal.acked(&batch);
            }
            Outcome::Retry => self.leaders_stale = true,
            Outcome::Rejected(text) => self.done.rejected.push(text),
            Outcome::Stale => {}
        }
        Ok(())
    }

    fn reconnect(&mut self) {
        std::thread::sleep(RETRY_PAUSE);
        self.done.reconnects += 1;
        self.links.clear();
        self.cluster.forget_all();
        for lane in &mut self.lanes {
            lane.on_lost();
        }
        self.leaders_stale = true;
    }
}

fn init_producer_id(cluster: &mut Cluster) -> Result<(i64, i16)> {
    // No transactional id and no earlier identity: a fresh, merely idempotent producer.
    let request = message!(InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: i32::MAX,
        producer_id: -1,
        producer_epoch: -1,
    });
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let response = cluster.any()?.call(&request)?;
        let what = || String::from("ask for a producer id");
        match ClientError::check(what, response.error_code, None) {
            Ok(()) => return Ok((response.producer_id, response.producer_epoch)),
            Err(error) if error.is_retriable() && Instant::now() < deadline => {
                std::thread::sleep(RETRY_PAUSE);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Nanoseconds since 1970.
pub fn wall_ns() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_nanos() as u64
}
