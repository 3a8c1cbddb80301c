//! A producer: several requests in flight, batches in the order of their
//! sequences, and after a cut or a retriable error the same batches again.

use std::collections::VecDeque;

use bytes::Bytes;
use kafka_wire as kw;

use super::client::{Act, Client, Ctx};
use super::finding::{ask_for, told};
use super::frames::{error_of, frame, with_correlation};
use super::shared::{Phase, Whom};
use crate::base::ErrorCode;
use crate::record::{BatchBuilder, Codec};
use crate::sim::clock::MS;
use crate::sim::fact::{Address, Fact, Place, Placed, Use};
use crate::sim::values::{PLAIN, Value};
use crate::sim::what::What;
use crate::wire::client;
use crate::wire::produce::{
    ProducePartition, ProducePartitionResponse, ProduceRequest, ProduceTopic, codec_allowed,
};

/// As Kafka's own producer with idempotence.
const IN_FLIGHT_MAX: usize = 5;
/// How long it waits for an answer in a cluster, ns.
const PATIENCE: u64 = 2_000 * MS;
/// Records in one batch.
pub const RECORDS_PER_BATCH_MAX: usize = 8;
/// API key of InitProducerId.
const INIT_PRODUCER_ID: i16 = 22;

/// One batch, made once and sent until it is acknowledged.
#[derive(Debug)]
struct Batch {
    first: Value,
    timestamps: Vec<i64>,
    bytes: Bytes,
    /// It was sent before.
    sent: bool,
    /// In which epoch the node that it was sent to led the partition in truth.
    reign: Option<i32>,
    /// Correlation id of the request it is in.
    flying: Option<i32>,
}

/// The batches for one partition, in order.
#[derive(Debug)]
struct Lane {
    at: Place,
    made: u32,
    batches: VecDeque<Batch>,
    /// A batch came back: nothing is sent before all have, so that they keep their order.
    held: bool,
    /// The rest is not sent any more: the store is full and the run is to end.
    given_up: bool,
}

#[derive(Debug)]
enum Asked {
    ProducerId(i16),
    Produce(i16),
    /// In a cluster: who leads a partition.
    Leader(i16, Place),
}

/// See the module.
#[derive(Debug)]
pub struct Producer {
    number: u32,
    acks: i16,
    /// Id and epoch; an idempotent one asks for them first.
    id: Option<(i64, i16)>,
    lanes: Vec<Lane>,
    version: i16,
    codec: Codec,
    value_bytes_max: usize,
    /// Average pause between batches, ms.
    pace_ms: u64,
    connected: bool,
    in_flight: VecDeque<(i32, Asked)>,
    correlations: i32,
    /// When something was sent or answered last, ns.
    heard: u64,
    done: bool,
}

impl Producer {
    /// An idempotent producer, or a plain one if `acks` is given.
    #[must_use]
    pub fn new(
        number: u32,
        acks: Option<i16>,
        value_bytes_max: usize,
        rng: &mut crate::base::Rng,
    ) -> Self {
        let version = 3 + rng.below(11) as i16;
        let codec = Codec::ALL[rng.below(5) as usize];
        let codec = if rng.chance(1, 3) && codec_allowed(version, codec) {
            codec
        } else {
            Codec::None
        };
        Self {
            number: if acks.is_some() {
                number | PLAIN
            } else {
                number
            },
            acks: acks.unwrap_or(-1),
            id: acks.is_some().then_some((-1, -1)),
            lanes: Vec::new(),
            version,
            codec,
            value_bytes_max,
            pace_ms: 1 + rng.below(8),
            connected: false,
            in_flight: VecDeque::new(),
            correlations: 0,
            heard: 0,
            done: false,
        }
    }

    fn is_idempotent(&self) -> bool {
        self.number & PLAIN == 0
    }

    fn send(&mut self, ctx: &mut Ctx<'_>, frame: &Bytes, asked: Asked, answered: bool) {
        self.correlations += 1;
        let frame = with_correlation(frame, self.correlations);
        if answered {
            if self.in_flight.is_empty() {
                self.heard = ctx.now.mono.0;
            }
            self.in_flight.push_back((self.correlations, asked));
        }
        ctx.acts.push(Act::Send { frame, answered });
    }

    fn ask_producer_id(&mut self, ctx: &mut Ctx<'_>) {
        let version = ctx.version(INIT_PRODUCER_ID, 0);
        let mut request = kw::InitProducerIdRequest::default();
        request.transactional_id = None;
        request.transaction_timeout_ms = 60_000;
        self.send(
            ctx,
            &frame(version, &request),
            Asked::ProducerId(version),
            true,
        );
    }

    fn make_lanes(&mut self, ctx: &mut Ctx<'_>) {
        // What of a plain one is where, nobody knows: compaction could not be judged.
        let idempotent = self.is_idempotent();
        let mut places = ctx.shared.places(|topic| match topic.used {
            Use::Compacted { .. } => idempotent,
            Use::Transacted => false,
            Use::Kept | Use::Expiring | Use::Truncated => true,
        });
        while places.len() > 4 {
            places.swap_remove(ctx.rng.below(places.len() as u64) as usize);
        }
        self.lanes = places
            .into_iter()
            .map(|at| Lane {
                at,
                made: 0,
                batches: VecDeque::new(),
                held: false,
                given_up: false,
            })
            .collect();
    }

    fn make_batch(&mut self, ctx: &mut Ctx<'_>) {
        let lane = ctx.rng.below(self.lanes.len() as u64) as usize;
        if self.lanes[lane].given_up {
            return;
        }
        let (id, epoch) = self.id.unwrap_or((-1, -1));
        let lane = &mut self.lanes[lane];
        let topic = ctx.shared.topic(lane.at.topic);
        let is_compacted = topic.is_some_and(|topic| topic.used.is_compacted());
        let first = Value {
            producer: self.number,
            number: lane.made,
        };
        let count = 1 + ctx.rng.below(RECORDS_PER_BATCH_MAX as u64) as u32;
        let base = ctx.now.wall_ms;
        let sequence = if id < 0 { -1 } else { lane.made as i32 };
        let mut builder = BatchBuilder::new(self.codec, base).producer(id, epoch, sequence);
        let mut timestamps = Vec::new();
        for number in lane.made..lane.made + count {
            let value = Value { number, ..first };
            let len = 8 + ctx.rng.below(self.value_bytes_max as u64) as usize;
            let timestamp = base - ctx.rng.below(20) as i64;
            timestamps.push(timestamp);
            let bytes = value.bytes(len);
            if is_compacted {
                let key = [value.key()];
                match value.is_tombstone() {
                    true => builder.push(timestamp, Some(&key), None, &[("value", Some(&bytes))]),
                    false => builder.push(timestamp, Some(&key), Some(&bytes), &[]),
                }
                continue;
            }
            let key = number.to_be_bytes();
            let key = ctx.rng.chance(1, 2).then_some(&key[..]);
            builder.push(timestamp, key, Some(&bytes), &[]);
        }
        lane.made += count;
        lane.batches.push_back(Batch {
            first,
            timestamps,
            bytes: builder.build(),
            sent: false,
            reign: None,
            flying: None,
        });
    }

    /// Sends what may be sent.
    fn pump(&mut self, ctx: &mut Ctx<'_>) {
        if !self.connected {
            return;
        }
        if self.id.is_none() {
            if self.in_flight.is_empty() {
                self.ask_producer_id(ctx);
            }
            return;
        }
        while self.in_flight.len() < IN_FLIGHT_MAX {
            let is_here = |at| !ctx.shared.cluster || ctx.is_at(Whom::Leader(at));
            let mut ready: Vec<usize> = (0..self.lanes.len())
                .filter(|lane| self.lanes[*lane].next().is_some() && is_here(self.lanes[*lane].at))
                .collect();
            if ready.is_empty() {
                break;
            }
            while ready.len() > 1 && ctx.rng.chance(1, 2) {
                ready.swap_remove(ctx.rng.below(ready.len() as u64) as usize);
            }
            self.produce(ctx, &ready);
        }
    }

    /// In a cluster it is at one node at a time: where nothing can be sent, it looks for who leads the partition of
    /// something that waits, and goes there.
    fn look_around(&mut self, ctx: &mut Ctx<'_>) {
        let waits = self.lanes.iter().filter(|lane| lane.next().is_some());
        let waits: Vec<Place> = waits.map(|lane| lane.at).collect();
        if !self.connected || !self.in_flight.is_empty() || waits.is_empty() {
            return;
        }
        let at = ctx.pick(&waits);
        let whom = Whom::Leader(at);
        match ctx.shared.address(whom) {
            Some(address) if address.node != ctx.node => {
                ctx.oracle.saw(What::WentToAnother);
                self.leave(ctx, Some(address));
            }
            Some(_) => {}
            None if ctx.rng.chance(1, 4) => self.leave(ctx, None),
            None => {
                let (version, frame) = ask_for(ctx, whom);
                self.send(ctx, &frame, Asked::Leader(version, at), true);
            }
        }
    }

    /// It goes to another node, with nothing under way.
    fn leave(&mut self, ctx: &mut Ctx<'_>, to: Option<Address>) {
        self.connected = false;
        let after = ctx.up_to_ms(2);
        ctx.acts
            .extend([Act::Disconnect, Act::Connect { after, to }]);
    }

    /// It has waited for an answer for too long.
    fn loses_patience(&self, ctx: &Ctx<'_>) -> bool {
        let waits = ctx.shared.cluster && self.connected && !self.in_flight.is_empty();
        waits && ctx.now.mono.0.saturating_sub(self.heard) > PATIENCE
    }

    fn produce(&mut self, ctx: &mut Ctx<'_>, lanes: &[usize]) {
        let correlation = self.correlations + 1;
        let by_id = self.version >= 13;
        let mut topics: Vec<ProduceTopic> = Vec::new();
        for &index in lanes {
            let lane = &mut self.lanes[index];
            let (Some(next), Some(topic)) = (lane.next(), ctx.shared.topic(lane.at.topic)) else {
                continue;
            };
            let batch = &mut lane.batches[next];
            batch.flying = Some(correlation);
            batch.reign = ctx.reign(lane.at);
            if std::mem::replace(&mut batch.sent, true) {
                ctx.oracle.saw(What::SentAgain);
            }
            ctx.oracle.tell(Fact::Sent {
                at: lane.at,
                first: batch.first,
                count: batch.timestamps.len() as u32,
            });
            let partition = ProducePartition {
                index: lane.at.partition,
                records: Some(batch.bytes.clone()),
            };
            let topic = topic.reference(by_id);
            match topics.iter_mut().find(|known| known.topic == topic) {
                Some(known) => known.partitions.push(partition),
                None => topics.push(ProduceTopic {
                    topic,
                    partitions: vec![partition],
                }),
            }
            if self.acks == 0 {
                lane.batches.remove(next);
            }
        }
        let request = ProduceRequest {
            transactional_id: None,
            acks: self.acks,
            timeout_ms: 30_000,
            topics,
        };
        let frame = client::encode_produce_flat(0, Some("sim"), self.version, &request);
        self.send(ctx, &frame, Asked::Produce(self.version), self.acks != 0);
    }

    fn produced(&mut self, ctx: &mut Ctx<'_>, correlation: i32, frame: Bytes, version: i16) {
        let response = match client::decode_produce(frame, version) {
            Ok((_, response)) => response,
            Err(error) => {
                let what = format!("produce v{version}: {error}");
                return ctx.oracle.fail("AnswersAreWellFormed", what);
            }
        };
        for topic in response.topics {
            let number = ctx.shared.topics.iter().find(|t| t.is(&topic.topic));
            let Some(number) = number.map(|topic| topic.number) else {
                let what = format!("produce answered for {:?}", topic.topic);
                ctx.oracle.fail("AnswersAreWellFormed", what);
                continue;
            };
            for partition in topic.partitions {
                let at = Place {
                    topic: number,
                    partition: partition.index,
                };
                self.partition_produced(ctx, correlation, at, &partition);
            }
        }
        for lane in &mut self.lanes {
            // Whatever was in the request and not in the answer.
            let flying = Some(correlation);
            if lane.batches.iter().any(|batch| batch.flying == flying) {
                let what = format!("produce: no answer for {}", lane.at);
                ctx.oracle.fail("AnswersAreWellFormed", what);
            }
        }
    }

    fn partition_produced(
        &mut self,
        ctx: &mut Ctx<'_>,
        correlation: i32,
        at: Place,
        answer: &ProducePartitionResponse,
    ) {
        let idempotent = self.is_idempotent();
        let lane = self.lanes.iter_mut().find(|lane| lane.at == at);
        let Some(lane) = lane.filter(|lane| !lane.given_up) else {
            return;
        };
        let flying = Some(correlation);
        let Some(index) = lane.batches.iter().position(|b| b.flying == flying) else {
            let what = format!("produce: {at} was not in the request");
            return ctx.oracle.fail("AnswersAreWellFormed", what);
        };
        match answer.error {
            ErrorCode::None => {
                if let Some(batch) = lane.batches.remove(index) {
                    acked(ctx, (at, self.acks), &batch, answer);
                }
            }
            // Of errors that pass, the batch is sent again.
            ErrorCode::KafkaStorageError => {
                ctx.shared.refused += 1;
                if ctx.shared.phase >= Phase::Quiet {
                    lane.give_up();
                } else {
                    lane.hold(index);
                }
            }
            ErrorCode::NotLeaderOrFollower if !ctx.shared.cluster => lane.hold(index),
            // What is not idempotent may be there, and again.
            error if ctx.is_led_elsewhere(at, error) => lane.hold(index),
            // The batch before it came back and was not appended.
            ErrorCode::OutOfOrderSequenceNumber if idempotent && index > 0 => {
                ctx.oracle.saw(What::OutOfOrder);
                lane.hold(index);
            }
            error => {
                let what = format!(
                    "{at}: {} was answered {error}: {:?}",
                    lane.batches[index].first, answer.error_message
                );
                ctx.oracle.fail("GoodBatchesAreTaken", what);
            }
        }
    }
}

impl Lane {
    /// The batch to be sent next.
    fn next(&self) -> Option<usize> {
        if self.held {
            return None;
        }
        self.batches.iter().position(|batch| batch.flying.is_none())
    }

    fn hold(&mut self, index: usize) {
        self.batches[index].flying = None;
        self.held = true;
    }

    fn give_up(&mut self) {
        self.batches.clear();
        self.given_up = true;
    }
}

/// Whether a producer asks for its id again.
fn asks_again(ctx: &Ctx<'_>, error: ErrorCode) -> bool {
    error == ErrorCode::CoordinatorLoadInProgress || ctx.passes(error)
}

fn acked(
    ctx: &mut Ctx<'_>,
    (at, acks): (Place, i16),
    batch: &Batch,
    answer: &ProducePartitionResponse,
) {
    let records: Vec<Placed> = batch
        .timestamps
        .iter()
        .enumerate()
        .map(|(index, timestamp)| Placed {
            offset: answer.base_offset + index as i64,
            value: Value {
                number: batch.first.number + index as u32,
                ..batch.first
            },
            timestamp: Some(match answer.log_append_time {
                -1 => *timestamp,
                time => time,
            }),
        })
        .collect();
    if answer.base_offset < 0 {
        let what = format!("{at}: acknowledged at offset {}", answer.base_offset);
        return ctx.oracle.fail("AnswersAreWellFormed", what);
    }
    let end = answer.base_offset + records.len() as i64;
    let replicas = ctx.shared.replicated(at).map_or(1, |it| it.replicas.len());
    if acks == 1 && replicas > 1 {
        if let Some(epoch) = batch.reign.filter(|epoch| ctx.reign(at) == Some(*epoch)) {
            let known = ctx.shared.by_one.entry(at).or_default();
            *known = (epoch, end).max(*known);
        }
        return ctx.oracle.tell(Fact::AckedByOne);
    }
    let known = ctx.shared.ends.entry(at).or_default();
    *known = end.max(*known);
    ctx.oracle.tell(Fact::Acked {
        at,
        records: &records,
    });
}

impl Client for Producer {
    fn start(&mut self, ctx: &mut Ctx<'_>) {
        let after = ctx.up_to_ms(3);
        ctx.acts.push(Act::Connect { after, to: None });
        let after = ctx.up_to_ms(3);
        ctx.acts.push(Act::Timer { after, token: 0 });
    }

    fn connected(&mut self, ctx: &mut Ctx<'_>) {
        self.connected = true;
        self.pump(ctx);
    }

    fn answer(&mut self, ctx: &mut Ctx<'_>, frame: Bytes) {
        let correlation = client::correlation_id(&frame);
        let Some((expected, asked)) = self.in_flight.pop_front() else {
            return ctx
                .oracle
                .fail("RepliesInOrder", "an answer to nothing".into());
        };
        if correlation != Some(expected) {
            let what = format!("answer {correlation:?} where {expected} is due");
            return ctx.oracle.fail("RepliesInOrder", what);
        }
        self.heard = ctx.now.mono.0;
        match asked {
            Asked::ProducerId(version) => {
                match client::decode_response::<kw::InitProducerIdRequest>(frame, version) {
                    Ok((_, answer)) if answer.error_code == 0 => {
                        ctx.oracle.tell(Fact::ProducerId(answer.producer_id));
                        self.id = Some((answer.producer_id, answer.producer_epoch));
                    }
                    // The store is full, or nobody decides; it is asked for again, at the next tick.
                    Ok((_, answer)) if asks_again(ctx, error_of(answer.error_code)) => {
                        return;
                    }
                    Ok((_, answer)) => {
                        let what = format!("InitProducerId: {}", error_of(answer.error_code));
                        ctx.oracle.fail("GoodBatchesAreTaken", what);
                    }
                    Err(error) => ctx.oracle.fail("AnswersAreWellFormed", error.to_string()),
                }
            }
            Asked::Produce(version) => self.produced(ctx, expected, frame, version),
            Asked::Leader(version, at) => {
                if let Err(why) = told(ctx, Whom::Leader(at), version, frame) {
                    let what = format!("{at}, v{version}: {why}");
                    ctx.oracle.fail("ClientsFindTheirWay", what);
                }
            }
        }
        self.pump(ctx);
    }

    fn cut(&mut self, ctx: &mut Ctx<'_>) {
        self.connected = false;
        self.in_flight.clear();
        for lane in &mut self.lanes {
            lane.held = false;
            for batch in &mut lane.batches {
                batch.flying = None;
            }
        }
        if !self.done {
            // Soon, so that requests of the old connection may still be on their way.
            let after = ctx.up_to_ms(30);
            // To the leader of its first partition, if it knows; all shards take the others as well.
            let home = self.lanes.first().map(|lane| lane.at);
            let to = home.and_then(|at| ctx.shared.address(Whom::Leader(at)));
            let to = to.filter(|_| !ctx.shared.cluster || ctx.rng.chance(1, 2));
            ctx.acts.push(Act::Connect { after, to });
        }
    }

    fn timer(&mut self, ctx: &mut Ctx<'_>, token: u64) {
        let waiting: usize = self.lanes.iter().map(|lane| lane.batches.len()).sum();
        for lane in &mut self.lanes {
            lane.held &= lane.batches.iter().any(|batch| batch.flying.is_some());
        }
        if ctx.shared.phase == Phase::Busy {
            if ctx.shared.is_set_up() && self.lanes.is_empty() {
                self.make_lanes(ctx);
            }
            if !self.lanes.is_empty() && waiting < 3 * IN_FLIGHT_MAX && self.id.is_some() {
                for _ in 0..=ctx.rng.below(3) {
                    self.make_batch(ctx);
                }
            }
        } else if waiting == 0 {
            self.done = true;
            ctx.acts.push(Act::Disconnect);
            return;
        }
        if self.loses_patience(ctx) {
            ctx.oracle.saw(What::LostPatience);
            ctx.acts.push(Act::Disconnect);
            self.cut(ctx);
        }
        self.pump(ctx);
        if ctx.shared.cluster {
            self.look_around(ctx);
        }
        let after = ctx.rng.below(2 * self.pace_ms * MS) + 1;
        ctx.acts.push(Act::Timer { after, token });
    }

    fn is_done(&self) -> bool {
        self.done
    }

    fn doing(&self) -> String {
        let lanes = self.lanes.iter().filter(|lane| !lane.batches.is_empty());
        let lanes: Vec<String> = lanes
            .map(|lane| {
                let flying = lane.batches.iter().filter(|b| b.flying.is_some()).count();
                format!("{}: {} of {} flying", lane.at, flying, lane.batches.len())
            })
            .collect();
        format!(
            "producer {:#x}, id {:?}, connected {}, {} requests in flight, {lanes:?}",
            self.number,
            self.id,
            self.connected,
            self.in_flight.len()
        )
    }
}
