//! Answers that list much, made some at a time: what is listed takes a few bytes of the request each, and up to some
//! kilobytes of the answer.

use std::fmt::Debug;

use bytes::Bytes;
use kafka_wire::RequestResponsePair;
use kafka_wire_core::KafkaEncode;

use super::handler::{Answer, Ctx, Listing, Progress};
use crate::base::limits::LISTED_PER_SLICE;
use crate::wire::{self, ListFrame, RequestHeader, WireError};

/// What an API lists in its answer.
pub(super) trait List: Debug + Send + Sized + 'static {
    type Request: RequestResponsePair;
    /// One of those that are listed.
    type Element: KafkaEncode;

    /// The answer without what it lists, and the list.
    fn begin(
        ctx: &Ctx<'_>,
        version: i16,
        request: Self::Request,
    ) -> (<Self::Request as RequestResponsePair>::Response, Self);

    /// Goes on with what comes before the first element, as long as there is something `left` of a slice. Returns
    /// whether there is nothing.
    fn prepare(&mut self, _left: &mut usize) -> bool {
        true
    }

    /// The next element.
    fn next(&mut self, ctx: &Ctx<'_>) -> Option<Self::Element>;

    /// The answer with what has turned out to be behind the list, without what is listed.
    fn behind(&mut self) -> Option<<Self::Request as RequestResponsePair>::Response> {
        None
    }

    /// Whether something has to be created before the element can be told.
    fn creates(&self) -> bool {
        false
    }

    /// How many things the element is made of besides itself.
    fn size(element: &Self::Element) -> usize;

    /// Bytes that the answer has behind the list, besides tagged fields.
    fn bytes_behind(version: i16) -> usize;
}

/// Answers a request; one that lists much goes on as [`Answer::Listing`].
pub(super) fn list<L: List>(ctx: &Ctx<'_>, header: &RequestHeader, body: Bytes) -> Answer {
    let begun = wire::decode::<L::Request>(body, header.version)
        .and_then(|request| Making::<L>::new(ctx, header, request));
    let made = begun.and_then(|mut making| Ok((making.go_on(ctx)?, making)));
    match made {
        Ok((Progress::Whole(pieces), _)) => Answer::Reply(pieces.concat().into()),
        Ok((Progress::Partly, making)) => Answer::Listing(Box::new(making)),
        Ok((Progress::Create, _)) => Answer::Create,
        Err(error) => Answer::Malformed(error.to_string()),
    }
}

/// See [`Listing`].
#[derive(Debug)]
struct Making<L> {
    list: L,
    frame: ListFrame,
}

impl<L: List> Making<L> {
    fn new(ctx: &Ctx<'_>, header: &RequestHeader, request: L::Request) -> Result<Self, WireError> {
        let (empty, list) = L::begin(ctx, header.version, request);
        let frame = ListFrame::new(
            header.correlation_id,
            header.version,
            &empty,
            L::bytes_behind(header.version),
        )?;
        Ok(Self { list, frame })
    }
}

impl<L: List> Listing for Making<L> {
    fn go_on(&mut self, ctx: &Ctx<'_>) -> Result<Progress, WireError> {
        let mut left = LISTED_PER_SLICE;
        while left > 0 {
            if !self.list.prepare(&mut left) {
                continue;
            }
            let Some(element) = self.list.next(ctx) else {
                if let Some(response) = self.list.behind() {
                    self.frame.set_behind(&response)?;
                }
                return self.frame.finish().map(Progress::Whole);
            };
            if self.list.creates() {
                return Ok(Progress::Create);
            }
            left = left.saturating_sub(1 + L::size(&element));
            self.frame.add(&element)?;
        }
        self.frame.end_slice();
        Ok(Progress::Partly)
    }
}
