//! Topics that come into being because somebody asks for them
//! (`auto.create.topics.enable`, and the flag of Metadata from version 4 on).
//!
//! The shard that has a Metadata request goes as far as there is nothing to create; if there is, the control shard
//! decides on what is missing, and then the request is answered from the new image. Names that cannot be created are
//! left out, and the answer says why.

use std::vec;

use bytes::Bytes;
use kafka_wire::MetadataRequest;
use kafka_wire_core::StrBytes;

use super::deciding::{Decided, Deciding, Decision};
use super::handler::Ctx;
use crate::base::Leftovers;
use crate::base::limits::PARTITIONS_PER_REQUEST_MAX;
use crate::broker::msg::Called;
use crate::config::is_internal;
use crate::controller::{Terms, check_topic_name, create_missing};
use crate::wire::{ListedRequest, RequestHeader, WireError};

/// Decides on the topics that have to be created before a Metadata request is answered.
pub fn auto_create(header: &RequestHeader, body: Bytes) -> Result<Box<dyn Decision>, WireError> {
    Ok(Box::new(Reading {
        listed: Some(ListedRequest::new(body, header.version)?),
        names: Vec::new(),
        creating: Creating::default(),
    }))
}

/// The same for a topic of the broker's own.
#[must_use]
pub fn create_own(name: &'static str) -> Box<dyn Decision> {
    Box::new(Creating::of(vec![StrBytes::from(name)]))
}

/// A Metadata request whose topics are read.
#[derive(Debug)]
struct Reading {
    listed: Option<ListedRequest<MetadataRequest>>,
    names: Vec<StrBytes>,
    creating: Creating,
}

impl Decision for Reading {
    fn go_on(&mut self, cx: &mut Deciding<'_>, left: &mut usize) -> Result<Decided, WireError> {
        while let Some(listed) = &mut self.listed {
            if *left == 0 {
                return Ok(Decided::Partly);
            }
            if let Some(topic) = listed.read()? {
                *left -= 1;
                let by_name = topic.name.filter(|_| topic.topic_id.is_zero());
                self.names.extend(by_name);
            } else if let Some(listed) = self.listed.take() {
                let may_create = cx.ctx.config.auto_create_topics_enable
                    && listed.rest()?.allow_auto_topic_creation;
                if may_create {
                    self.creating = Creating::of(std::mem::take(&mut self.names));
                }
            }
        }
        self.creating.go_on(cx, left)
    }

    fn leave(self: Box<Self>, leftovers: &mut Leftovers) {
        leftovers.add(self.names, |_| 0);
        leftovers.add(self.creating.names, |_| 0);
    }
}

/// Topics that are created as far as they are missing.
#[derive(Debug)]
struct Creating {
    names: vec::IntoIter<StrBytes>,
    /// Partitions that may still be created.
    left: usize,
    /// No more topics are.
    is_full: bool,
}

impl Default for Creating {
    fn default() -> Self {
        Self::of(Vec::new())
    }
}

impl Creating {
    fn of(names: Vec<StrBytes>) -> Self {
        Self {
            names: names.into_iter(),
            left: PARTITIONS_PER_REQUEST_MAX,
            is_full: false,
        }
    }
}

impl Decision for Creating {
    fn go_on(&mut self, cx: &mut Deciding<'_>, left: &mut usize) -> Result<Decided, WireError> {
        loop {
            cx.draft.go_on(left);
            if *left == 0 {
                return Ok(Decided::Partly);
            }
            if self.is_full {
                break;
            }
            let Some(name) = self.names.next() else {
                break;
            };
            *left -= 1;
            if cx.draft.image().topic(&name).is_some() || !can_exist(&name) {
                continue;
            }
            let voters = cx.voters();
            let mut terms = Terms {
                config: cx.ctx.config,
                rng: cx.ctx.rng,
                voters,
            };
            self.is_full = !create_missing(cx.draft, &mut terms, &name, &mut self.left);
        }
        Ok(Decided::Whole {
            commits: true,
            reply: Called::Created,
            // The topics stay unknown, which is an answer.
            refusal: Some(Called::Created),
        })
    }

    fn leave(self: Box<Self>, leftovers: &mut Leftovers) {
        leftovers.add(self.names, |_| 0);
    }
}

/// Whether a topic that is missing is created for those who ask for it and allow it.
pub(super) fn may_be_created(ctx: &Ctx<'_>, name: &str) -> bool {
    ctx.config.auto_create_topics_enable && can_exist(name)
}

fn can_exist(name: &str) -> bool {
    check_topic_name(name).is_ok()
        && (!is_internal(name) || ["__consumer_offsets", "__transaction_state"].contains(&name))
}

#[cfg(test)]
mod tests {
    use kafka_wire::metadata_request::MetadataRequestTopic;

    use super::super::testing::{Cluster, text};
    use super::*;

    /// The topics that there are when those of a request are created that may be.
    fn created(cluster: &mut Cluster, version: i16, allow: bool, names: &[&str]) -> Vec<String> {
        let one = |name: &&str| {
            let mut topic = MetadataRequestTopic::default();
            topic.name = Some(text(name));
            topic
        };
        let mut request = MetadataRequest::default();
        request.allow_auto_topic_creation = allow;
        request.topics = Some(names.iter().map(one).collect());
        let (decided, change) = cluster.decide(version, &request, auto_create);
        let Decided::Whole { reply, refusal, .. } = decided else {
            panic!("it is made");
        };
        assert!(matches!(
            (reply, refusal),
            (Called::Created, Some(Called::Created))
        ));
        change.image.topics().map(|t| t.name.to_string()).collect()
    }

    #[test]
    fn missing_topics_are_created_if_they_can_be() {
        let mut cluster = Cluster::with(&[("a", 1)]);
        let names = [
            "a",
            "b",
            "no good",
            "__consumer_offsets",
            "__transaction_state",
        ];
        for version in 0..=13 {
            let all = ["__consumer_offsets", "__transaction_state", "a", "b"];
            assert_eq!(created(&mut cluster, version, true, &names), all);
        }
        assert_eq!(created(&mut cluster, 4, false, &names), ["a"]);
        cluster.config.auto_create_topics_enable = false;
        assert_eq!(created(&mut cluster, 4, true, &names), ["a"]);
    }

    #[test]
    fn what_is_missing_is_created_once_and_as_the_broker_has_it() {
        let mut cluster = Cluster::new();
        cluster.config.num_partitions = 3;
        let names = [text("b"), text("b")];
        for records in [4, 0] {
            let decide = |_: &RequestHeader, _| {
                let decision: Box<dyn Decision> = Box::new(Creating::of(names.to_vec()));
                Ok(decision)
            };
            let (_, change) = cluster.decide(4, &MetadataRequest::default(), decide);
            cluster.commit(&change);
            assert_eq!(cluster.committed, records);
        }
        assert_eq!(cluster.image.topic("b").unwrap().partitions.len(), 3);
    }

    #[test]
    fn a_client_gets_so_many_partitions_at_a_time() {
        let mut cluster = Cluster::new();
        cluster.config.num_partitions = PARTITIONS_PER_REQUEST_MAX as i32 / 2 - 1;
        assert_eq!(created(&mut cluster, 4, true, &["a", "b", "c"]), ["a", "b"]);
        cluster.config.num_partitions = PARTITIONS_PER_REQUEST_MAX as i32 + 1;
        assert_eq!(created(&mut cluster, 4, true, &["a", "b"]), ["a"]);
    }
}
