//! A client with a topic of its own that it creates, writes, reads and deletes,
//! again and again under the same name: nothing of an old topic may show in a new one.
//!
//! As a crowd it has thousands of partitions, and less than a block in each: that is in no chunk, so a checkpoint has
//! to hold it all.

use bytes::Bytes;

use super::client::Ctx;
use super::fetching::{Limits, fetch, read};
use super::finding::{ask_identity, described};
use super::setup::{Plan, create_topic, created_topic, delete_topic, deleted_topic};
use super::shared::{Phase, Topic, Whom};
use super::talk::{Next, Script};
use crate::base::{ErrorCode, TopicId};
use crate::record::{BatchBuilder, Codec};
use crate::sim::fact::{Fact, Moment, Place, Placed, Use};
use crate::sim::values::{PLAIN, Value};
use crate::wire::client;
use crate::wire::produce::{
    ProducePartition, ProducePartitionResponse, ProduceRequest, ProduceTopic,
};

/// Partitions of a crowd. What is written to each is nearly a block.
const CROWD: i32 = 3_000;
/// How many of them a request writes to.
const CROWD_PER_REQUEST: i32 = 500;
/// How many are read in a row.
const CROWD_READS: u32 = 12;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Create,
    Identify,
    Produce,
    Fetch,
    Delete,
    LookGone,
}

/// See the module.
#[derive(Debug)]
pub struct Churn {
    producer: u32,
    plan: Plan,
    step: Step,
    version: i16,
    topic: Option<Topic>,
    /// How many partitions are written to, and with one request.
    written: i32,
    per_request: i32,
    /// The first one that the next request writes to.
    from: i32,
    /// Records produced to each partition of the topic of now, acknowledged or not, before those of this round,
    made: u32,
    /// how many there are at the most,
    made_max: u32,
    /// and those of this round, the same for all partitions.
    batch: (u32, i64),
    /// The partition that is read, up to where it is, and how many are to be read.
    reading: i32,
    position: i64,
    reads: u32,
    rest: bool,
    /// The node that has created or deleted the topic: others may not know it yet.
    done_by: usize,
    /// The id of the last one.
    last: TopicId,
}

impl Churn {
    /// A client with a topic of this name, with so many replicas.
    #[must_use]
    pub fn new(producer: u32, name: &str, replicas: i16) -> Self {
        Self {
            producer: producer | PLAIN,
            plan: Plan {
                name: name.to_owned(),
                partitions: 2,
                used: Use::Kept,
                replicas,
                configs: Vec::new(),
            },
            step: Step::Create,
            version: 0,
            topic: None,
            written: 1,
            per_request: 1,
            from: 0,
            made: 0,
            made_max: 30,
            batch: (0, 0),
            reading: 0,
            position: 0,
            reads: 1,
            rest: false,
            done_by: 0,
            last: TopicId::default(),
        }
    }

    /// A client whose topic is a crowd of partitions.
    #[must_use]
    pub fn crowd(producer: u32, name: &str) -> Self {
        let mut churn = Self::new(producer, name, 1);
        churn.plan.partitions = CROWD;
        (churn.written, churn.per_request, churn.made_max) = (CROWD, CROWD_PER_REQUEST, 2);
        churn
    }

    fn is_crowd(&self) -> bool {
        self.written > 1
    }

    fn number(&self) -> u32 {
        self.topic.as_ref().map_or(u32::MAX, |topic| topic.number)
    }

    fn at(&self, partition: i32) -> Place {
        Place {
            topic: self.number(),
            partition,
        }
    }

    /// The partitions that a request writes to.
    fn slice(&self) -> std::ops::Range<i32> {
        self.from..(self.from + self.per_request).min(self.written)
    }

    /// They are written to, or may be. Whether that was the last slice of a round.
    fn next_slice(&mut self) -> bool {
        self.from = self.slice().end;
        let ends = self.from == self.written;
        if ends {
            self.from = 0;
            self.made += self.batch.0;
        }
        ends
    }

    /// Goes on to read, first what is anywhere.
    fn begin_reading(&mut self, ctx: &mut Ctx<'_>) {
        self.step = Step::Fetch;
        if self.is_crowd() {
            self.reads = CROWD_READS;
            self.read_another(ctx);
        }
    }

    fn read_another(&mut self, ctx: &mut Ctx<'_>) {
        self.reading = ctx.rng.below(self.written as u64) as i32;
        self.position = 0;
    }

    fn produce(&mut self, ctx: &mut Ctx<'_>) -> Bytes {
        self.version = 3 + ctx.rng.below(11) as i16;
        if self.from == 0 {
            let count = match self.is_crowd() {
                true => 1,
                false => 1 + ctx.rng.below(5) as u32,
            };
            self.batch = (count, ctx.now.wall_ms);
        }
        let (count, timestamp) = self.batch;
        let first = Value {
            producer: self.producer,
            number: self.made,
        };
        let mut builder = BatchBuilder::new(Codec::None, timestamp);
        for number in self.made..self.made + count {
            let value = Value { number, ..first };
            let len = match self.is_crowd() {
                true => 3_400 + ctx.rng.below(500) as usize,
                false => 8 + ctx.rng.below(3000) as usize,
            };
            builder.push(timestamp, None, Some(&value.bytes(len)), &[]);
        }
        let batch = builder.build();
        let mut partitions = Vec::new();
        for index in self.slice() {
            let at = self.at(index);
            ctx.oracle.tell(Fact::Sent { at, first, count });
            partitions.push(ProducePartition {
                index,
                records: Some(batch.clone()),
            });
        }
        let topics = self.topic.iter().map(|topic| ProduceTopic {
            topic: topic.reference(self.version >= 13),
            partitions: partitions.clone(),
        });
        let request = ProduceRequest {
            transactional_id: None,
            acks: -1,
            timeout_ms: 30_000,
            topics: topics.collect(),
        };
        client::encode_produce_flat(0, Some("churn"), self.version, &request)
    }

    fn produced(&mut self, ctx: &mut Ctx<'_>, frame: Bytes) -> Result<(), String> {
        let (_, response) =
            client::decode_produce(frame, self.version).map_err(|error| error.to_string())?;
        let answers = response.topics.first().map(|topic| &topic.partitions);
        let answers = answers.ok_or("no topic in the answer")?;
        if !answers.iter().map(|answer| answer.index).eq(self.slice()) {
            return Err("an answer for other partitions".into());
        }
        let mut is_full = false;
        for answer in answers {
            match answer.error {
                ErrorCode::None => self.acked(ctx, answer),
                ErrorCode::KafkaStorageError => is_full = true,
                // It may be there all the same.
                error if ctx.is_led_elsewhere(self.at(answer.index), error) => {}
                error => return Err(error.to_string()),
            }
        }
        if self.next_slice() && (self.made >= self.made_max || ctx.rng.chance(1, 2)) {
            self.begin_reading(ctx);
        }
        // A crowd may go on: the store grows.
        if is_full && (!self.is_crowd() || ctx.rng.chance(1, 4)) {
            self.step = Step::Delete;
        }
        Ok(())
    }

    fn acked(&self, ctx: &mut Ctx<'_>, answer: &ProducePartitionResponse) {
        let (count, timestamp) = self.batch;
        let records: Vec<Placed> = (0..count)
            .map(|index| Placed {
                offset: answer.base_offset + i64::from(index),
                value: Value {
                    producer: self.producer,
                    number: self.made + index,
                },
                timestamp: Some(timestamp),
            })
            .collect();
        let at = self.at(answer.index);
        ctx.oracle.tell(Fact::Acked {
            at,
            records: &records,
        });
    }

    fn fetch(&mut self, ctx: &mut Ctx<'_>) -> Bytes {
        self.version = ctx.version(1, 4);
        let limits = Limits {
            wait_ms: 10,
            bytes_min: 1,
            bytes_max: 1 << 20,
            partition_bytes_max: 1 << 20,
            session: 0,
            epoch: -1,
            committed: false,
        };
        // The fetch names topics by what is shared; this one is nobody else's.
        ctx.shared.topics.extend(self.topic.clone());
        let request = fetch(
            ctx,
            self.version,
            limits,
            &[(self.at(self.reading), self.position)],
            &[],
        );
        if self.topic.is_some() {
            ctx.shared.topics.pop();
        }
        request
    }

    fn fetched(&mut self, ctx: &mut Ctx<'_>, frame: Bytes, asked: Moment) -> Result<(), String> {
        let (_, fetched) =
            client::decode_fetch(frame, self.version).map_err(|error| error.to_string())?;
        let partition = fetched
            .topics
            .first()
            .and_then(|topic| topic.partitions.first())
            .ok_or("no partition in the answer")?;
        match partition.error {
            ErrorCode::None => {}
            ErrorCode::KafkaStorageError => return Ok(()),
            error if ctx.is_led_elsewhere(self.at(self.reading), error) => return Ok(()),
            error => return Err(error.to_string()),
        }
        let at = self.at(self.reading);
        self.position = read(ctx, at, asked, self.position, partition);
        if self.position < partition.high_watermark {
            return Ok(());
        }
        self.reads = self.reads.saturating_sub(1);
        if self.is_crowd() && self.reads > 0 {
            self.read_another(ctx);
        } else {
            self.step = if self.made < self.made_max && ctx.rng.chance(1, 2) {
                Step::Produce
            } else {
                Step::Delete
            };
        }
        Ok(())
    }

    fn identified(&mut self, ctx: &mut Ctx<'_>, frame: Bytes) -> Result<(), String> {
        let Some(found) = described(ctx, frame, self.version)? else {
            if self.done_by == ctx.node {
                return Err("created, but not there".into());
            }
            return Ok(());
        };
        let (id, partitions) = found.shape(TopicId::default());
        if partitions != self.plan.partitions as usize {
            return Err(format!("{partitions} partitions"));
        }
        if std::mem::replace(&mut self.last, id) == id {
            // So it was deleted on another one.
            return match self.done_by == ctx.node {
                true => Err("deleted, and there again".into()),
                false => Ok(()),
            };
        }
        let number = ctx.shared.new_topic(&self.plan.name, id);
        found.follow(ctx, number);
        ctx.oracle.tell(Fact::Created {
            node: ctx.node,
            topic: number,
            id,
            partitions: self.plan.partitions,
            replicas: self.plan.replicas,
            used: Use::Kept,
        });
        self.topic = Some(Topic {
            number,
            name: self.plan.name.clone(),
            id,
            partitions: self.plan.partitions,
            used: Use::Kept,
        });
        (self.from, self.made) = (0, 0);
        (self.reading, self.position, self.step) = (0, 0, Step::Produce);
        Ok(())
    }

    fn answered(&mut self, ctx: &mut Ctx<'_>, frame: Bytes, asked: Moment) -> Result<(), String> {
        match self.step {
            Step::Create => match created_topic(frame, self.version)? {
                ErrorCode::None | ErrorCode::TopicAlreadyExists => {
                    (self.step, self.done_by) = (Step::Identify, ctx.node);
                }
                // The store is full; it is asked for again.
                ErrorCode::KafkaStorageError => {}
                error if ctx.passes(error) => {}
                error => return Err(error.to_string()),
            },
            Step::Identify => return self.identified(ctx, frame),
            Step::Produce => return self.produced(ctx, frame),
            Step::Fetch => return self.fetched(ctx, frame, asked),
            Step::Delete => match deleted_topic(frame, self.version)? {
                ErrorCode::None
                | ErrorCode::UnknownTopicOrPartition
                | ErrorCode::UnknownTopicId => {
                    let topic = self.number();
                    let node = ctx.node;
                    ctx.oracle.tell(Fact::Removed { node, topic });
                    (self.step, self.done_by) = (Step::LookGone, node);
                }
                error if ctx.passes(error) => {}
                error => return Err(error.to_string()),
            },
            Step::LookGone => {
                let found = described(ctx, frame, self.version)?;
                let found = found.map(|found| found.shape(TopicId::default()));
                let topic = self.number();
                ctx.oracle.tell(Fact::Described {
                    node: ctx.node,
                    topic,
                    asked,
                    found,
                });
                self.topic = None;
                self.step = Step::Create;
            }
        }
        Ok(())
    }
}

impl Script for Churn {
    fn next(&mut self, ctx: &mut Ctx<'_>) -> Next {
        if ctx.shared.phase != Phase::Busy && matches!(self.step, Step::Create | Step::Produce) {
            return Next::Done;
        }
        self.rest = !self.rest;
        if self.rest {
            return Next::Pause(ctx.up_to_ms(10));
        }
        let name = self.plan.name.clone();
        Next::Ask(match self.step {
            Step::Create => {
                self.version = ctx.version(19, 2);
                create_topic(self.version, &self.plan)
            }
            Step::Identify | Step::LookGone => {
                let (version, request) = ask_identity(ctx, &name);
                self.version = version;
                request
            }
            Step::Produce => self.produce(ctx),
            Step::Fetch => self.fetch(ctx),
            Step::Delete => {
                let id = self.topic.as_ref().map_or_else(Default::default, |t| t.id);
                let topic = self.number();
                ctx.oracle.tell(Fact::Removing { topic });
                self.version = ctx.version(20, 1);
                delete_topic(self.version, &name, id)
            }
        })
    }

    fn answer(&mut self, ctx: &mut Ctx<'_>, frame: Bytes, asked: Moment) {
        let step = self.step;
        if let Err(why) = self.answered(ctx, frame, asked) {
            let what = format!("{}: {step:?} v{}: {why}", self.plan.name, self.version);
            ctx.oracle.fail("ChurnedTopicsWork", what);
        }
    }

    fn whom(&self, _ctx: &Ctx<'_>) -> Whom {
        match self.step {
            Step::Produce => Whom::Leader(self.at(self.from)),
            Step::Fetch => Whom::Leader(self.at(self.reading)),
            Step::Create | Step::Identify | Step::Delete | Step::LookGone => Whom::Anybody,
        }
    }

    fn lost(&mut self, _ctx: &mut Ctx<'_>) {
        // Perhaps nothing was sent yet: it has been cut off before.
        if self.step == Step::Produce && self.batch.0 > 0 {
            // The records may be there: those that follow are others.
            self.next_slice();
        }
    }

    fn doing(&self) -> String {
        format!("churn of {}: {:?}", self.plan.name, self.step)
    }
}
