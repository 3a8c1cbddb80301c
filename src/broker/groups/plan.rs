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
use crate::coordinator::{GroupAnswer, GroupAsk, GroupPlace};
use crate::group::{self, Name};
use crate::wire::{ListFrame, RequestHeader, WireError, encode_response};

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
    pub shape: ResponseShape,
}

/// How a response is made.
#[derive(Debug)]
pub enum ResponseShape {
    /// When all is answered, which is asked at once.
    Whole(MakeResponse<GroupAnswer>),
    /// As it is answered: some is asked at a time.
    Listed(Box<ListResponse>),
}

/// What comes of an answer that is written.
#[derive(Debug)]
pub enum Written {
    /// The next answer.
    Yes,
    /// This is to be asked next: there is more.
    Ask(GroupAsk),
    /// So is this, of the same shard.
    List(GroupPlace),
    /// This is to be written next, in the next slice.
    Rest(GroupAnswer),
    /// Nothing: this is the response.
    Instead(Bytes),
}

type WriteAnswer = dyn FnMut(&mut ListFrame, GroupAnswer) -> Result<Written, WireError>;

/// A response that is written answer by answer, in the order of what was asked.
pub struct ListResponse {
    frame: ListFrame,
    write: Box<WriteAnswer>,
}

impl ListResponse {
    /// As this writes an answer; the frame has the response with nothing listed.
    pub fn new(
        frame: ListFrame,
        write: impl FnMut(&mut ListFrame, GroupAnswer) -> Result<Written, WireError> + 'static,
    ) -> Self {
        Self {
            frame,
            write: Box::new(write),
        }
    }

    /// Writes the next answer.
    pub fn write(&mut self, answer: GroupAnswer) -> Result<Written, WireError> {
        (self.write)(&mut self.frame, answer)
    }

    /// What was written is not copied as it becomes more.
    pub fn end_slice(&mut self) {
        self.frame.end_slice();
    }

    /// The response frame.
    pub fn finish(&mut self) -> Result<Vec<Bytes>, WireError> {
        self.frame.finish()
    }
}

impl fmt::Debug for ListResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ListResponse")
    }
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

type MakeFrame<A> = dyn FnOnce(Head, std::vec::IntoIter<A>) -> Result<Bytes, WireError>;

/// Makes the response frame, of the answers in the order of what was asked.
pub struct MakeResponse<A>(Box<MakeFrame<A>>);

impl<A> MakeResponse<A> {
    /// As this makes the response.
    pub fn new<R: KafkaResponse>(make: impl FnOnce(std::vec::IntoIter<A>) -> R + 'static) -> Self {
        Self(Box::new(|head, answers| {
            encode_response(head.correlation_id, head.version, &make(answers))
        }))
    }

    /// The response frame.
    pub fn response(self, head: Head, answers: Vec<A>) -> Result<Bytes, WireError> {
        (self.0)(head, answers.into_iter())
    }
}

impl<A> fmt::Debug for MakeResponse<A> {
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
            shape: ResponseShape::Whole(MakeResponse::new(make)),
        }
    }

    /// Asks these, some at a time, and writes the response answer by answer.
    pub fn list(
        asks: Asks,
        frame: ListFrame,
        write: impl FnMut(&mut ListFrame, GroupAnswer) -> Result<Written, WireError> + 'static,
    ) -> Self {
        Self {
            asks,
            shape: ResponseShape::Listed(Box::new(ListResponse::new(frame, write))),
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
