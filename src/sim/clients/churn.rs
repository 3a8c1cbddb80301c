//! A client with a topic of its own that it creates, writes, reads and deletes,
//! again and again under the same name: nothing of an old topic may show in a new one.

use bytes::Bytes;

use super::client::Ctx;
use super::fetching::{Limits, fetch, read};
use super::setup::{
    Plan, create_topic, created_topic, delete_topic, deleted_topic, described, metadata,
};
use super::shared::{Phase, Topic, Use};
use super::talk::{Next, Script};
use crate::base::ErrorCode;
use crate::record::{BatchBuilder, Codec};
use crate::sim::fact::{Fact, Moment, Place, Placed};
use crate::sim::values::{PLAIN, Value};
use crate::wire::client;
use crate::wire::produce::{ProducePartition, ProduceRequest, ProduceTopic};

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
    /// Records produced to the topic of now, acknowledged or not.
    made: u32,
    batch: (u32, i64),
    position: i64,
    rest: bool,
}

impl Churn {
    /// A client with a topic of this name.
    #[must_use]
    pub fn new(producer: u32, name: &str) -> Self {
        Self {
            producer: producer | PLAIN,
            plan: Plan {
                name: name.to_owned(),
                partitions: 2,
                used: Use::Kept,
                configs: Vec::new(),
            },
            step: Step::Create,
            version: 0,
            topic: None,
            made: 0,
            batch: (0, 0),
            position: 0,
            rest: false,
        }
    }

    fn at(&self) -> Place {
        Place {
            topic: self.topic.as_ref().map_or(u32::MAX, |topic| topic.number),
            partition: 0,
        }
    }

    fn produce(&mut self, ctx: &mut Ctx<'_>) -> Bytes {
        self.version = 3 + ctx.rng.below(11) as i16;
        let count = 1 + ctx.rng.below(5) as u32;
        let timestamp = ctx.now.wall_ms;
        self.batch = (count, timestamp);
        let mut builder = BatchBuilder::new(Codec::None, timestamp);
        for number in self.made..self.made + count {
            let value = Value {
                producer: self.producer,
                number,
            };
            let len = 8 + ctx.rng.below(3000) as usize;
            builder.push(timestamp, None, Some(&value.bytes(len)), &[]);
        }
        let first = Value {
            producer: self.producer,
            number: self.made,
        };
        let at = self.at();
        ctx.oracle.tell(Fact::Sent { at, first, count });
        let partition = ProducePartition {
            index: 0,
            records: Some(builder.build()),
        };
        let topics = self.topic.iter().map(|topic| ProduceTopic {
            topic: topic.reference(self.version >= 13),
            partitions: vec![partition.clone()],
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
        let answer = response
            .topics
            .first()
            .and_then(|topic| topic.partitions.first())
            .ok_or("no partition in the answer")?;
        match answer.error {
            ErrorCode::None => {}
            ErrorCode::KafkaStorageError => {
                self.step = Step::Delete;
                return Ok(());
            }
            error => return Err(error.to_string()),
        }
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
        self.made += count;
        let at = self.at();
        ctx.oracle.tell(Fact::Acked {
            at,
            records: &records,
        });
        if ctx.rng.chance(1, 2) {
            self.step = Step::Fetch;
        }
        Ok(())
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
        };
        // The fetch names topics by what is shared; this one is nobody else's.
        ctx.shared.topics.extend(self.topic.clone());
        let request = fetch(
            ctx,
            self.version,
            limits,
            &[(self.at(), self.position)],
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
            error => return Err(error.to_string()),
        }
        let at = self.at();
        self.position = read(ctx, at, asked, self.position, partition);
        if self.position >= partition.high_watermark {
            self.step = if self.made < 30 && ctx.rng.chance(1, 2) {
                Step::Produce
            } else {
                Step::Delete
            };
        }
        Ok(())
    }

    fn identified(&mut self, ctx: &mut Ctx<'_>, frame: Bytes) -> Result<(), String> {
        let Some((id, partitions)) = described(frame, self.version)?.map(|found| found.shape())
        else {
            return Err("created, but not there".into());
        };
        if partitions != self.plan.partitions as usize {
            return Err(format!("{partitions} partitions"));
        }
        let number = ctx.shared.next_topic;
        ctx.shared.next_topic += 1;
        ctx.oracle.tell(Fact::Created {
            topic: number,
            id,
            partitions: self.plan.partitions,
            expires: false,
        });
        self.topic = Some(Topic {
            number,
            name: self.plan.name.clone(),
            id,
            partitions: self.plan.partitions,
            used: Use::Kept,
        });
        (self.made, self.position, self.step) = (0, 0, Step::Produce);
        Ok(())
    }

    fn answered(&mut self, ctx: &mut Ctx<'_>, frame: Bytes, asked: Moment) -> Result<(), String> {
        match self.step {
            Step::Create => match created_topic(frame, self.version)? {
                ErrorCode::None | ErrorCode::TopicAlreadyExists => self.step = Step::Identify,
                // The store is full; it is asked for again.
                ErrorCode::KafkaStorageError => {}
                error => return Err(error.to_string()),
            },
            Step::Identify => return self.identified(ctx, frame),
            Step::Produce => return self.produced(ctx, frame),
            Step::Fetch => return self.fetched(ctx, frame, asked),
            Step::Delete => match deleted_topic(frame, self.version)? {
                ErrorCode::None
                | ErrorCode::UnknownTopicOrPartition
                | ErrorCode::UnknownTopicId => {
                    let topic = self.at().topic;
                    ctx.oracle.tell(Fact::Removed { topic });
                    self.step = Step::LookGone;
                }
                error => return Err(error.to_string()),
            },
            Step::LookGone => {
                let found = described(frame, self.version)?.map(|found| found.shape());
                let topic = self.at().topic;
                ctx.oracle.tell(Fact::Described {
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
                self.version = ctx.version(3, 10);
                metadata(self.version, &name)
            }
            Step::Produce => self.produce(ctx),
            Step::Fetch => self.fetch(ctx),
            Step::Delete => {
                let id = self.topic.as_ref().map_or_else(Default::default, |t| t.id);
                let topic = self.at().topic;
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

    fn lost(&mut self, _ctx: &mut Ctx<'_>) {
        if self.step == Step::Produce {
            // The records may be there: those that follow are others.
            self.made += self.batch.0;
        }
    }

    fn doing(&self) -> String {
        format!("churn of {}: {:?}", self.plan.name, self.step)
    }
}
