//! DeleteTopics (20), versions 1-6.
//!
//! - Version 6 names topics by name or by id; both or neither is INVALID_REQUEST.
//! - What comes twice is answered once, with INVALID_REQUEST, and not deleted.
//! - `delete.topic.enable=false` is TOPIC_DELETION_DISABLED, before version 3 INVALID_REQUEST.
//! - Internal topics cannot be deleted (Kafka allows it): groups would lose their offsets.
//! - `timeout_ms` is not looked at, see CreateTopics.

use std::collections::HashMap;
use std::collections::VecDeque;

use bytes::Bytes;
use kafka_wire::DeleteTopicsRequest;
use kafka_wire::delete_topics_request::DeleteTopicState;
use kafka_wire::delete_topics_response::DeletableTopicResult;
use kafka_wire_core::StrBytes;

use super::deciding::{Decide, Deciding, Decision, decide};
use super::handler::{Ctx, from_wire, outcome, to_wire};
use crate::base::{ErrorCode, Leftovers, Refused, TopicId};
use crate::controller::{Image, remove_topic};
use crate::wire::{RequestHeader, WireError};

/// Decides on a DeleteTopics request.
pub fn delete_topics(header: &RequestHeader, body: Bytes) -> Result<Box<dyn Decision>, WireError> {
    decide::<Topics>(header, body)
}

/// A topic as the client named it.
type Named = (Option<StrBytes>, TopicId);

/// The topics of a request.
#[derive(Debug)]
struct Topics {
    version: i16,
    /// Which topic each one is, or why it is none; those that were named twice only once.
    resolved: VecDeque<(Named, Result<TopicId, Refused>)>,
    /// The position of the first one that means the topic, by what was given and by its id.
    names: HashMap<StrBytes, usize>,
    ids: HashMap<TopicId, usize>,
}

impl Decide for Topics {
    type Request = DeleteTopicsRequest;
    type Element = DeletableTopicResult;
    const WHEN_FULL: Option<fn(&mut DeletableTopicResult)> = None;

    fn new(version: i16) -> Self {
        Self {
            version,
            resolved: VecDeque::new(),
            names: HashMap::new(),
            ids: HashMap::new(),
        }
    }

    fn take(&mut self, ctx: &Ctx<'_>, topic: DeleteTopicState) {
        let invalid = |why| Err(Refused::because(ErrorCode::InvalidRequest, why));
        let at = self.resolved.len();
        let (name, id) = (topic.name, from_wire(topic.topic_id));
        let target = match (&name, id) {
            (None, TopicId::ZERO) => invalid("Neither topic name nor id were specified."),
            (Some(name), TopicId::ZERO) => {
                let first = *self.names.entry(name.clone()).or_insert(at);
                if first < at {
                    self.resolved[first].1 = invalid("Duplicate topic name.");
                    return;
                }
                let topic = ctx.image.topic(name);
                let topic = topic.ok_or(ErrorCode::UnknownTopicOrPartition);
                topic.map(|topic| topic.id).map_err(Refused::from)
            }
            (None, id) => Ok(id),
            (Some(_), _) => invalid("You may not specify both topic name and topic id."),
        };
        if let Ok(id) = &target {
            let first = *self.ids.entry(*id).or_insert(at);
            if first < at {
                self.resolved[first].1 = invalid(if name.is_some() {
                    "The provided topic name maps to an ID that was already supplied."
                } else {
                    "Duplicate topic id."
                });
                return;
            }
        }
        self.resolved.push_back(((name, id), target));
    }

    fn rest(&mut self, _: DeleteTopicsRequest) -> bool {
        false
    }

    fn next(&mut self, cx: &mut Deciding<'_>) -> Option<DeletableTopicResult> {
        let (topic, target) = self.resolved.pop_front()?;
        let result = target.and_then(|id| {
            enabled(&cx.ctx, self.version)?;
            remove_topic(cx.draft, id)
        });
        Some(shown(cx.ctx.image, topic, result))
    }

    fn leave(self, leftovers: &mut Leftovers) {
        leftovers.add(self.resolved, |_| 0);
        leftovers.add(self.names, |_| 0);
        leftovers.add(self.ids, |_| 0);
    }

    fn size(&self) -> usize {
        0
    }
}

fn enabled(ctx: &Ctx<'_>, version: i16) -> Result<(), Refused> {
    let code = match version {
        _ if ctx.config.delete_topic_enable => return Ok(()),
        3.. => ErrorCode::TopicDeletionDisabled,
        _ => ErrorCode::InvalidRequest,
    };
    Err(Refused::because(code, "Topic deletion is disabled."))
}

fn shown(image: &Image, (name, id): Named, result: Result<(), Refused>) -> DeletableTopicResult {
    let topic = match &name {
        Some(name) if id == TopicId::ZERO => image.topic(name),
        Some(_) => None,
        None => image.topic_by_id(id),
    };
    let mut shown = DeletableTopicResult::default();
    (shown.error_code, shown.error_message) = outcome(result.as_ref().err());
    shown.topic_id = to_wire(topic.map_or(id, |topic| topic.id));
    shown.name = name.or(topic.map(|topic| (&*topic.name).into()));
    shown
}

#[cfg(test)]
mod tests {
    use kafka_wire::delete_topics_request::DeleteTopicState;

    use super::super::testing::{Cluster, text};
    use super::*;

    fn by_name(names: &[&str]) -> DeleteTopicsRequest {
        let mut request = DeleteTopicsRequest::default();
        request.topic_names = names.iter().map(|name| text(name)).collect();
        request
    }

    fn state(name: Option<&str>, id: TopicId) -> DeleteTopicState {
        let mut state = DeleteTopicState::default();
        state.name = name.map(text);
        state.topic_id = to_wire(id);
        state
    }

    fn codes(cluster: &mut Cluster, version: i16, request: &DeleteTopicsRequest) -> Vec<i16> {
        let response = cluster.ask(version, request, delete_topics);
        response
            .responses
            .iter()
            .map(|topic| topic.error_code)
            .collect()
    }

    #[test]
    fn every_version_deletes_a_topic() {
        for version in 1..=6 {
            let mut cluster = Cluster::with(&[("a", 1), ("b", 1)]);
            let mut request = by_name(&["a", "x"]);
            if version == 6 {
                request = DeleteTopicsRequest::default();
                request.topics = vec![
                    state(Some("a"), TopicId::ZERO),
                    state(Some("x"), TopicId::ZERO),
                ];
            }
            assert_eq!(
                codes(&mut cluster, version, &request),
                [0, 3],
                "version {version}"
            );
            assert!(cluster.image.topic("a").is_none() && cluster.image.topic("b").is_some());
        }
    }

    #[test]
    fn topics_by_id() {
        let mut cluster = Cluster::with(&[("a", 1)]);
        let id = cluster.image.topic("a").unwrap().id;
        let mut request = DeleteTopicsRequest::default();
        request.topics = vec![
            state(None, id),
            state(None, TopicId([9; 16])),
            state(None, TopicId::ZERO),
            state(Some("a"), id),
        ];
        let response = cluster.ask(6, &request, delete_topics);
        let codes: Vec<_> = response
            .responses
            .iter()
            .map(|topic| topic.error_code)
            .collect();
        assert_eq!(codes, [0, 100, 42, 42]);
        assert_eq!(response.responses[0].name, Some(text("a")));
        assert!(cluster.image.topic("a").is_none());
    }

    #[test]
    fn what_comes_twice_stays() {
        let mut cluster = Cluster::with(&[("a", 1), ("b", 1)]);
        let id = cluster.image.topic("a").unwrap().id;
        assert_eq!(codes(&mut cluster, 5, &by_name(&["a", "b", "a"])), [42, 0]);
        for twice in [
            [state(None, id), state(None, id)],
            [state(Some("a"), TopicId::ZERO), state(None, id)],
        ] {
            let mut request = DeleteTopicsRequest::default();
            request.topics = twice.to_vec();
            assert_eq!(codes(&mut cluster, 6, &request), [42]);
        }
        assert!(cluster.image.topic("a").is_some());
    }

    #[test]
    fn deletion_can_be_switched_off() {
        let mut cluster = Cluster::with(&[("a", 1)]);
        cluster.config.delete_topic_enable = false;
        assert_eq!(codes(&mut cluster, 2, &by_name(&["a"])), [42]);
        assert_eq!(codes(&mut cluster, 3, &by_name(&["a"])), [73]);
        assert!(cluster.image.topic("a").is_some());
    }
}
