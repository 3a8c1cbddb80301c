//! Decisions on changes of the metadata, made some at a time: a request names any number of things in a few bytes each.
//! What it lists is read, then decided on one by one, and answered one by one; each comes to records that are taken
//! into the draft before the next one is looked at.

use std::fmt::Debug;

use bytes::Bytes;
use kafka_wire::RequestResponsePair;
use kafka_wire_core::KafkaEncode;

use super::handler::Ctx;
use super::voter_ask::VoterAsk;
use crate::base::{Leftovers, Now};
use crate::broker::msg::Called;
use crate::controller::{Draft, ProducerIdAllocator};
use crate::quorum::Quorum;
use crate::wire::{ListFrame, ListedRequest, Lists, RequestHeader, WireError};

/// What a decision works with.
#[derive(Debug)]
pub struct Deciding<'a> {
    /// What it may look at: the metadata as it was when the decision began, which nobody else changes meanwhile.
    pub ctx: Ctx<'a>,
    /// The change that it comes to.
    pub draft: &'a mut Draft,
    /// For new producers.
    pub producer_ids: &'a mut ProducerIdAllocator,
    /// This node's replica of the metadata, which leads; `None` only in tests.
    pub quorum: Option<&'a Quorum>,
    /// Whether the node is one of several, or may be, so that others can have a vote.
    pub is_member: bool,
    /// When it goes on.
    pub now: Now,
}

impl Deciding<'_> {
    /// Nodes that have a vote about the metadata.
    pub(super) fn voters(&self) -> usize {
        self.quorum.map_or(1, |quorum| quorum.voters().len())
    }
}

/// A decision in the making.
pub trait Decision: Debug + Send {
    /// Goes on, as long as there is something `left` of a slice.
    ///
    /// # Errors
    /// If the request cannot be read, or its answer cannot be written in the version: the connection is closed.
    fn go_on(&mut self, cx: &mut Deciding<'_>, left: &mut usize) -> Result<Decided, WireError>;

    /// It is made, or it cannot be.
    fn leave(self: Box<Self>, leftovers: &mut Leftovers);
}

/// How far a decision is.
#[derive(Debug)]
pub enum Decided {
    /// There is more to be decided.
    Partly,
    /// It is a change of the voters, which the quorum makes.
    Voters(Box<VoterAsk>),
    /// It is made.
    Whole {
        /// Whether the draft is to become true.
        commits: bool,
        /// The answer when every shard serves by it.
        reply: Called,
        /// The answer instead, with nothing changed, if a store is full. `None` for what makes the stores emptier,
        /// which is never refused.
        refusal: Option<Called>,
    },
}

/// Begins to decide on a request.
pub type Decider = fn(&RequestHeader, Bytes) -> Result<Box<dyn Decision>, WireError>;

/// How the requests of an API are decided on.
pub(super) trait Decide: Debug + Send + Sized + 'static {
    type Request: RequestResponsePair<Response: Default> + Lists;
    /// What is answered to one of those that are listed.
    type Element: KafkaEncode;

    fn new(version: i16) -> Self;

    /// Keeps what is listed; it is decided on when the whole request is read.
    fn take(&mut self, ctx: &Ctx<'_>, item: <Self::Request as Lists>::Item);

    /// Takes what a request says besides its list. Returns whether it is only to be found out what would be.
    fn rest(&mut self, request: Self::Request) -> bool;

    /// Decides on the next one.
    fn next(&mut self, cx: &mut Deciding<'_>) -> Option<Self::Element>;

    /// Leaves what may be much when all is decided, or cannot be.
    fn leave(self, leftovers: &mut Leftovers);

    /// What the next one takes of a slice.
    fn size(&self) -> usize;

    /// What the answer to one takes of a slice.
    fn answer_size(_: &Self::Element) -> usize {
        0
    }

    /// Makes of an answer the one for a full store. None for what is done however full the stores are.
    const WHEN_FULL: Option<fn(&mut Self::Element)>;
}

/// Begins to decide on a request of an API.
pub(super) fn decide<D: Decide>(
    header: &RequestHeader,
    body: Bytes,
) -> Result<Box<dyn Decision>, WireError> {
    let frame = || {
        let empty = <D::Request as RequestResponsePair>::Response::default();
        ListFrame::new(header.correlation_id, header.version, &empty, 0)
    };
    Ok(Box::new(Making::<D> {
        reading: Some(ListedRequest::new(body, header.version)?),
        deciding: D::new(header.version),
        only_validates: false,
        reply: frame()?,
        refusal: D::WHEN_FULL.map(|_| frame()).transpose()?,
    }))
}

/// See [`Decision`].
#[derive(Debug)]
struct Making<D: Decide> {
    /// What is not read yet.
    reading: Option<ListedRequest<D::Request>>,
    deciding: D,
    only_validates: bool,
    reply: ListFrame,
    refusal: Option<ListFrame>,
}

impl<D: Decide> Making<D> {
    /// Reads one more of those that are listed.
    fn read(&mut self, ctx: &Ctx<'_>, left: &mut usize) -> Result<(), WireError> {
        let Some(reading) = &mut self.reading else {
            return Ok(());
        };
        if let Some(item) = reading.read()? {
            *left = left.saturating_sub(1 + D::Request::entries(&item));
            self.deciding.take(ctx, item);
        } else if let Some(reading) = self.reading.take() {
            self.only_validates = self.deciding.rest(reading.rest()?);
        }
        Ok(())
    }

    /// Decides on one more; false if there is none.
    fn decide(&mut self, cx: &mut Deciding<'_>, left: &mut usize) -> Result<bool, WireError> {
        let size = self.deciding.size();
        let Some(mut element) = self.deciding.next(cx) else {
            return Ok(false);
        };
        *left = left.saturating_sub(1 + size + D::answer_size(&element));
        self.reply.add(&element)?;
        if let (Some(refusal), Some(when_full)) = (&mut self.refusal, D::WHEN_FULL) {
            when_full(&mut element);
            refusal.add(&element)?;
        }
        Ok(true)
    }
}

impl<D: Decide> Decision for Making<D> {
    fn go_on(&mut self, cx: &mut Deciding<'_>, left: &mut usize) -> Result<Decided, WireError> {
        loop {
            cx.draft.go_on(left);
            if *left == 0 {
                break;
            }
            if self.reading.is_some() {
                self.read(&cx.ctx, left)?;
            } else if !self.decide(cx, left)? {
                let refusal = self.refusal.as_mut().map(ListFrame::finish).transpose()?;
                return Ok(Decided::Whole {
                    commits: !self.only_validates,
                    reply: Called::Frame(self.reply.finish()?),
                    refusal: refusal.map(Called::Frame),
                });
            }
        }
        self.reply.end_slice();
        if let Some(refusal) = &mut self.refusal {
            refusal.end_slice();
        }
        Ok(Decided::Partly)
    }

    fn leave(self: Box<Self>, leftovers: &mut Leftovers) {
        self.deciding.leave(leftovers);
    }
}
