//! The client that creates the topics of a run, and from then on looks whether
//! they are still there.

use std::collections::VecDeque;

use bytes::Bytes;
use kafka_wire as kw;

use super::client::Ctx;
use super::finding::{Described, ask_identity, ask_metadata, described};
use super::frames::{error_of, frame, message, text, uuid};
use super::shared::{Phase, Topic};
use super::talk::{Next, Script};
use crate::base::{ErrorCode, TopicId};
use crate::sim::fact::{Fact, Moment, Use};
use crate::sim::what::What;
use crate::wire::client;

/// API key of CreateTopics.
const CREATE_TOPICS: i16 = 19;

/// A topic to be made.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its name.
    pub name: String,
    /// Its number of partitions.
    pub partitions: i32,
    /// What it is for.
    pub used: Use,
    /// Replicas of each partition.
    pub replicas: i16,
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
    /// Whether the first one to do has been created, and which node has said so.
    created: Option<usize>,
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
            created: None,
            refused: false,
            asked: None,
        }
    }

    fn identified(&mut self, ctx: &mut Ctx<'_>, found: Option<Described>) {
        let Some(plan) = self.todo.front() else {
            return;
        };
        let shape = found.as_ref().map(|found| found.shape(TopicId::default()));
        let (id, found) = match (shape, found) {
            (Some((id, partitions)), Some(found)) if partitions == plan.partitions as usize => {
                (id, found)
            }
            // Another node may not know it yet.
            (None, _) if self.created != Some(ctx.node) => {
                self.refused = true;
                return;
            }
            (_, found) => {
                let what = format!("{} was created, and is {found:?}", plan.name);
                return ctx.oracle.fail("TopicsSurvive", what);
            }
        };
        let number = ctx.shared.new_topic(&plan.name, id);
        ctx.oracle.tell(Fact::Created {
            node: ctx.node,
            topic: number,
            id,
            partitions: plan.partitions,
            replicas: plan.replicas,
            used: plan.used,
        });
        ctx.shared.topics.push(Topic {
            number,
            name: plan.name.clone(),
            id,
            partitions: plan.partitions,
            used: plan.used,
        });
        found.follow(ctx, number);
        self.todo.pop_front();
        self.created = None;
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
        replication_factor: plan.replicas,
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

impl Script for Setup {
    fn next(&mut self, ctx: &mut Ctx<'_>) -> Next {
        if std::mem::take(&mut self.refused) {
            return Next::Pause(ctx.up_to_ms(20));
        }
        // In a cluster it looks everywhere.
        if ctx.shared.cluster && self.created != Some(ctx.node) && ctx.rng.chance(1, 8) {
            return Next::Elsewhere;
        }
        if let Some(plan) = self.todo.front() {
            let (asked, request) = if self.created.is_some() {
                let (version, request) = ask_identity(ctx, &plan.name);
                (Asked::Identify(version), request)
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
        let (version, request) = ask_metadata(ctx, 1, &name);
        self.asked = Some(Asked::Watch(version, number));
        Next::Ask(request)
    }

    fn answer(&mut self, ctx: &mut Ctx<'_>, frame: Bytes, asked: Moment) {
        let outcome = match self.asked {
            Some(Asked::Create(version)) => match created_topic(frame, version) {
                // It exists if the answer to an earlier request was lost.
                Ok(error @ (ErrorCode::None | ErrorCode::TopicAlreadyExists)) => {
                    if !error.is_none() {
                        ctx.oracle.saw(What::CreatedBefore);
                    }
                    self.created = Some(ctx.node);
                    Ok(())
                }
                Ok(error) if ctx.passes(error) => {
                    self.refused = true;
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
                described(ctx, frame, version).map(|found| self.identified(ctx, found))
            }
            Some(Asked::Watch(version, topic)) => described(ctx, frame, version).map(|found| {
                if let Some(found) = &found {
                    found.follow(ctx, topic);
                }
                let known = ctx.shared.topic(topic).map(|known| known.id);
                let found = found.map(|found| found.shape(known.unwrap_or_default()));
                ctx.oracle.tell(Fact::Described {
                    node: ctx.node,
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
