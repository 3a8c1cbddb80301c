//! What a request of the group APIs comes down to: questions to the coordinators of its groups, and a response that is
//! made of their answers.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use kafka_wire::KafkaResponse;
use kafka_wire_core::StrBytes;

use crate::base::Now;
use crate::broker::front::Head;
use crate::controller::Image;
use crate::coordinator::{GroupAnswer, GroupAsk};
use crate::group::{self, Name};
use crate::wire::{RequestHeader, WireError, encode_response};

/// What is known where a request comes in.
#[derive(Debug)]
pub struct PlanCx<'a> {
    pub now: Now,
    pub image: &'a Arc<Image>,
    /// `offset.metadata.max.bytes`; as in Kafka it is compared with UTF-16 units
    pub metadata_max: usize,
    /// Where it comes from, in Kafka's form: a slash and the address (`/10.0.0.1`).
    pub client_host: String,
}

/// Makes a plan of a request. An error closes the connection.
pub type Planner = fn(&PlanCx<'_>, &RequestHeader, Bytes) -> Result<GroupPlan, WireError>;

/// See the module.
#[derive(Debug)]
pub struct GroupPlan {
    pub asks: Asks,
    pub shape: MakeResponse,
}

/// Who is asked what.
#[derive(Debug)]
pub enum Asks {
    /// The coordinator of each one's group. There may be none.
    Groups(Vec<GroupAsk>),
    /// Every shard: which groups it has.
    List,
}

/// The answers, in the order of what was asked.
pub type GroupAnswers = std::vec::IntoIter<GroupAnswer>;

/// Makes the response frame.
pub struct MakeResponse(Box<dyn FnOnce(Head, GroupAnswers) -> Result<Bytes, WireError>>);

impl MakeResponse {
    /// As this makes the response.
    pub fn new<R: KafkaResponse>(make: impl FnOnce(GroupAnswers) -> R + 'static) -> Self {
        Self(Box::new(|head, answers| {
            encode_response(head.correlation_id, head.version, &make(answers))
        }))
    }

    /// The response frame.
    pub fn response(self, head: Head, answers: Vec<GroupAnswer>) -> Result<Bytes, WireError> {
        (self.0)(head, answers.into_iter())
    }
}

impl fmt::Debug for MakeResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MakeResponse")
    }
}

impl GroupPlan {
    /// Asks these, and makes the response of their answers.
    pub fn ask<R: KafkaResponse>(
        asks: Vec<GroupAsk>,
        make: impl FnOnce(GroupAnswers) -> R + 'static,
    ) -> Self {
        Self {
            asks: Asks::Groups(asks),
            shape: MakeResponse::new(make),
        }
    }

    /// The response is known.
    pub fn known<R: KafkaResponse + 'static>(response: R) -> Self {
        Self::ask(Vec::new(), |_| response)
    }
}

pub fn name(text: &StrBytes) -> Name {
    group::name(text)
}

pub fn text(name: &Name) -> StrBytes {
    StrBytes::from(&**name)
}
