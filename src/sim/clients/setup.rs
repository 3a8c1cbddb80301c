//! The client that creates the topics of a run, and from then on looks whether
//! they are still there.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use kafka_wire as kw;

use super::client::Ctx;
use super::frames::{error_of, frame, message, text, uuid};
use super::shared::{Phase, Topic, Use};
use super::talk::{Next, Script};
use crate::base::{ErrorCode, TopicId};
use crate::sim::fact::{Address, Fact, Moment, Place};
use crate::sim::what::What;
use crate::wire::client;

/// API keys.
const METADATA: i16 = 3;
const CREATE_TOPICS: i16 = 19;
/// First Metadata version that tells topic ids.
const IDS_FROM: i16 = 10;

/// A topic to be made.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its name.
    pub name: String,
    /// Its number of partitions.
    pub partitions: i32,
    /// What it is for.
    pub used: Use,
    /// Its settings.
    pub configs: Vec<(&'static str, String)>,
}

#[derive(Clone, Copy, Debug)]
enum Asked {
    Create(i16),
    Identify(i16),
    Watch(i16, u32),
}

/// See the module.
#[derive(Debug)]
pub struct Setup {
    todo: VecDeque<Plan>,
    /// Whether the first one to do has been created.
    created: bool,
    /// Whether it was refused for now.
    refused: bool,
    asked: Option<Asked>,
}

impl Setup {
    /// A client that makes these topics.
    #[must_use]
    pub fn new(topics: Vec<Plan>) -> Self {
        Self {
            todo: topics.into(),
            created: false,
            refused: false,
            asked: None,
        }
    }

    fn identified(&mut self, ctx: &mut Ctx<'_>, found: Option<Described>) {
        let Some(plan) = self.todo.front() else {
            return;
        };
        match found {
            Some(Described { id, leaders }) if leaders.len() == plan.partitions as usize => {
                let number = ctx.shared.next_topic;
                ctx.shared.next_topic += 1;
                ctx.oracle.tell(Fact::Created {
                    topic: number,
                    id,
                    partitions: plan.partitions,
                    expires: plan.used == Use::Expiring,
                });
                ctx.shared.topics.push(Topic {
                    number,
                    name: plan.name.clone(),
                    id,
                    partitions: plan.partitions,
                    used: plan.used,
                });
                follow(ctx, number, &leaders);
                self.todo.pop_front();
                self.created = false;
            }
            other => {
                let what = format!("{} was created, and is {other:?}", plan.name);
                ctx.oracle.fail("TopicsSurvive", what);
            }
        }
    }
}

/// A CreateTopics request for one topic.
pub fn create_topic(version: i16, plan: &Plan) -> Bytes {
    let configs = plan.configs.iter().map(|(key, value)| {
        message!(kw::create_topics_request::CreatableTopicConfig {
            name: text(key),
            value: Some(text(value)),
        })
    });
    let topic = message!(kw::create_topics_request::CreatableTopic {
        name: text(&plan.name),
        num_partitions: plan.partitions,
        replication_factor: 1,
        configs: configs.collect(),
    });
    let request = message!(kw::CreateTopicsRequest {
        topics: vec![topic],
        timeout_ms: 30_000,
    });
    frame(version, &request)
}

/// The error of creating one topic.
pub fn created_topic(frame: Bytes, version: i16) -> Result<ErrorCode, String> {
    let (_, response) = client::decode_response::<kw::CreateTopicsRequest>(frame, version)
        .map_err(|error| error.to_string())?;
    let topic = response.topics.first().ok_or("no topic in the answer")?;
    Ok(error_of(topic.error_code))
}

/// A Metadata request for one topic, which must not create it.
pub fn metadata(version: i16, name: &str) -> Bytes {
    let topic = message!(kw::metadata_request::MetadataRequestTopic {
        name: Some(text(name)),
    });
    let mut request = message!(kw::MetadataRequest {
        topics: Some(vec![topic]),
    });
    // Before version 4 there is no such field, and before 10 no ids.
    request.allow_auto_topic_creation = version < 4;
    frame(version, &request)
}

/// What Metadata tells of a topic.
#[derive(Clone, Debug)]
pub struct Described {
    /// Its id; zeroes before version 10.
    pub id: TopicId,
    /// Where each partition's leader listens.
    pub leaders: Vec<Address>,
}

impl Described {
    /// Id and number of partitions.
    #[must_use]
    pub fn shape(&self) -> (TopicId, usize) {
        (self.id, self.leaders.len())
    }
}

/// The topic asked for, if it exists. Its leaders have to be among the brokers of the same answer.
pub fn described(frame: Bytes, version: i16) -> Result<Option<Described>, String> {
    let (_, response) = client::decode_response::<kw::MetadataRequest>(frame, version)
        .map_err(|error| error.to_string())?;
    let topic = response.topics.first().ok_or("no topic in the answer")?;
    match error_of(topic.error_code) {
        ErrorCode::None => {}
        ErrorCode::UnknownTopicOrPartition => return Ok(None),
        error => return Err(error.to_string()),
    }
    let mut leaders = BTreeMap::new();
    for partition in &topic.partitions {
        let mut brokers = response.brokers.iter();
        let leader = brokers.find(|broker| broker.node_id == partition.leader_id);
        let unknown = || format!("{} leads, which is no broker", partition.leader_id);
        let leader = leader.ok_or_else(unknown)?;
        let address = Address::parse(&leader.host, leader.port)?;
        leaders.insert(partition.partition_index, address);
    }
    if !leaders.keys().copied().eq(0..topic.partitions.len() as i32) {
        return Err(format!("partitions {:?}", leaders.keys()));
    }
    Ok(Some(Described {
        id: TopicId(*topic.topic_id.as_bytes()),
        leaders: leaders.into_values().collect(),
    }))
}

/// Clients go where Metadata sends them.
fn follow(ctx: &mut Ctx<'_>, topic: u32, leaders: &[Address]) {
    for (partition, address) in (0..).zip(leaders) {
        let at = Place { topic, partition };
        ctx.shared.leaders.insert(at, *address);
    }
}

impl Script for Setup {
    fn next(&mut self, ctx: &mut Ctx<'_>) -> Next {
        if std::mem::take(&mut self.refused) {
            return Next::Pause(ctx.up_to_ms(20));
        }
        if let Some(plan) = self.todo.front() {
            let (asked, request) = if self.created {
                let version = ctx.version(METADATA, IDS_FROM);
                (Asked::Identify(version), metadata(version, &plan.name))
            } else {
                let version = ctx.version(CREATE_TOPICS, 2);
                (Asked::Create(version), create_topic(version, plan))
            };
            self.asked = Some(asked);
            return Next::Ask(request);
        }
        if ctx.shared.phase != Phase::Busy {
            return Next::Done;
        }
        if self.asked.take().is_some() {
            return Next::Pause(ctx.up_to_ms(60));
        }
        let topic = ctx.rng.below(ctx.shared.topics.len() as u64) as usize;
        let topic = &ctx.shared.topics[topic];
        let (name, number) = (topic.name.clone(), topic.number);
        let version = ctx.version(METADATA, 1);
        self.asked = Some(Asked::Watch(version, number));
        Next::Ask(metadata(version, &name))
    }

    fn answer(&mut self, ctx: &mut Ctx<'_>, frame: Bytes, asked: Moment) {
        let outcome = match self.asked {
            Some(Asked::Create(version)) => match created_topic(frame, version) {
                // It exists if the answer to an earlier request was lost.
                Ok(error @ (ErrorCode::None | ErrorCode::TopicAlreadyExists)) => {
                    if !error.is_none() {
                        ctx.oracle.saw(What::CreatedBefore);
                    }
                    self.created = true;
                    Ok(())
                }
                // The store is full; it is asked for again, later.
                Ok(ErrorCode::KafkaStorageError) => {
                    self.refused = true;
                    Ok(())
                }
                Ok(error) => Err(format!("creating {:?}: {error}", self.todo.front())),
                Err(why) => Err(why),
            },
            Some(Asked::Identify(version)) => {
                described(frame, version).map(|found| self.identified(ctx, found))
            }
            Some(Asked::Watch(version, topic)) => described(frame, version).map(|found| {
                if let Some(found) = &found {
                    follow(ctx, topic, &found.leaders);
                }
                let mut found = found.map(|found| found.shape());
                if version < IDS_FROM
                    && let (Some((id, _)), Some(known)) = (&mut found, ctx.shared.topic(topic))
                {
                    *id = known.id;
                }
                ctx.oracle.tell(Fact::Described {
                    topic,
                    asked,
                    found,
                });
            }),
            None => Ok(()),
        };
        if let Err(why) = outcome {
            ctx.oracle.fail("TopicsSurvive", why);
        }
    }

    fn doing(&self) -> String {
        format!(
            "setup, {} topics to do, asked {:?}",
            self.todo.len(),
            self.asked
        )
    }
}

/// A DeleteTopics request for one topic.
pub fn delete_topic(version: i16, name: &str, id: TopicId) -> Bytes {
    let mut request = message!(kw::DeleteTopicsRequest { timeout_ms: 30_000 });
    if version >= 6 {
        request.topics = vec![message!(kw::delete_topics_request::DeleteTopicState {
            name: None,
            topic_id: uuid(id),
        })];
    } else {
        request.topic_names = vec![text(name)];
    }
    frame(version, &request)
}

/// The error of deleting one topic.
pub fn deleted_topic(frame: Bytes, version: i16) -> Result<ErrorCode, String> {
    let (_, response) = client::decode_response::<kw::DeleteTopicsRequest>(frame, version)
        .map_err(|error| error.to_string())?;
    let topic = response.responses.first().ok_or("no topic in the answer")?;
    Ok(error_of(topic.error_code))
}
