//! Answers that list much, made some at a time: what is listed takes a few bytes of the request each, and up to some
//! kilobytes of the answer.

use std::fmt::Debug;

use bytes::Bytes;
use kafka_wire::RequestResponsePair;
use kafka_wire_core::KafkaEncode;

use super::handler::{Answer, Ctx, Listing, Progress};
use crate::base::Leftovers;
use crate::base::limits::LISTED_PER_SLICE;
use crate::wire::{ListFrame, ListedRequest, Lists, RequestHeader, WireError};

/// What an API lists in its answer.
pub trait List: Debug + Send + Sized + 'static {
    /// The request.
    type Request: RequestResponsePair + Lists;
    /// One of those that are listed.
    type Element: KafkaEncode + Debug + Send;
    /// What such a one lists itself, where that may be much.
    type Part: KafkaEncode;

    /// For a request that lists so many things; none, if null is in their place.
    fn new(version: i16, listed: Option<usize>) -> Self;

    /// Keeps what the request lists.
    fn take(&mut self, item: <Self::Request as Lists>::Item);

    /// Takes what the request says besides, when all it lists is taken. Returns the answer without what it lists.
    fn rest(
        &mut self,
        ctx: &Ctx<'_>,
        request: Self::Request,
    ) -> <Self::Request as RequestResponsePair>::Response;

    /// Goes on with what comes before the first element, as long as there is something `left` of a slice. Returns
    /// whether there is nothing.
    fn prepare(&mut self, _left: &mut usize) -> bool {
        true
    }

    /// The next element. So many bytes of earlier slices are written.
    fn next(&mut self, ctx: &Ctx<'_>, written: usize) -> Option<Self::Element>;

    /// The next part of the element that came last.
    fn part(&mut self, _ctx: &Ctx<'_>) -> Option<Self::Part> {
        None
    }

    /// Leaves what may be much when the answer is made, or nobody waits for it any more.
    fn leave(self, _leftovers: &mut Leftovers) {}

    /// The answer with what has turned out to be behind the list, without what is listed.
    fn behind(&mut self) -> Option<<Self::Request as RequestResponsePair>::Response> {
        None
    }

    /// Whether something has to be created before the element can be told.
    fn creates(&self) -> bool {
        false
    }

    /// How many things the element is made of besides itself and its parts.
    fn size(_element: &Self::Element) -> usize {
        0
    }

    /// Bytes that the answer has behind the list, besides tagged fields.
    fn bytes_behind(_version: i16) -> usize {
        0
    }

    /// The same of an element behind its parts.
    fn bytes_behind_parts(_version: i16) -> usize {
        0
    }
}

/// Answers a request; one that lists much goes on as [`Answer::Listing`].
pub fn list<L: List>(ctx: &Ctx<'_>, header: &RequestHeader, body: Bytes) -> Answer {
    let made =
        Making::<L>::new(header, body).and_then(|mut making| Ok((making.go_on(ctx)?, making)));
    match made {
        Ok((Progress::Whole(pieces), _)) => Answer::Reply(pieces.concat().into()),
        Ok((Progress::Partly, making)) => Answer::Listing(Box::new(making)),
        Ok((Progress::Create, _)) => Answer::Create,
        Err(error) => Answer::Malformed(error.to_string()),
    }
}

/// See [`Listing`].
#[derive(Debug)]
struct Making<L: List> {
    correlation_id: i32,
    version: i16,
    list: L,
    /// The element whose parts are being written.
    element: Option<L::Element>,
    stage: MakingStage<L::Request>,
}

#[derive(Debug)]
enum MakingStage<Q> {
    Reading(ListedRequest<Q>),
    Writing(ListFrame),
    /// There is no further element; without a frame, because something has to be created.
    Ending(Option<ListFrame>),
}

impl<L: List> Making<L> {
    fn new(header: &RequestHeader, body: Bytes) -> Result<Self, WireError> {
        let request = ListedRequest::new(body, header.version)?;
        Ok(Self {
            correlation_id: header.correlation_id,
            version: header.version,
            list: L::new(header.version, request.listed()),
            element: None,
            stage: MakingStage::Reading(request),
        })
    }

    /// Reads one more of those that are listed.
    fn read(
        &mut self,
        ctx: &Ctx<'_>,
        mut request: ListedRequest<L::Request>,
        left: &mut usize,
    ) -> Result<MakingStage<L::Request>, WireError> {
        if let Some(item) = request.read()? {
            *left = left.saturating_sub(1 + L::Request::entries(&item));
            self.list.take(item);
            return Ok(MakingStage::Reading(request));
        }
        let empty = self.list.rest(ctx, request.rest()?);
        let behind = L::bytes_behind(self.version);
        let frame = ListFrame::new(self.correlation_id, self.version, &empty, behind)?;
        Ok(MakingStage::Writing(frame))
    }

    /// Writes one more of those that the answer lists, or a part of one.
    fn write(
        &mut self,
        ctx: &Ctx<'_>,
        mut frame: ListFrame,
        left: &mut usize,
    ) -> Result<MakingStage<L::Request>, WireError> {
        if let Some(element) = self.element.take() {
            match self.list.part(ctx) {
                Some(part) => {
                    *left -= 1;
                    frame.add_part(&part)?;
                    self.element = Some(element);
                }
                None => frame.add_around(&element, L::bytes_behind_parts(self.version))?,
            }
        } else if self.list.prepare(left) {
            let element = self.list.next(ctx, frame.written());
            if self.list.creates() {
                return Ok(MakingStage::Ending(None));
            }
            let Some(element) = element else {
                if let Some(response) = self.list.behind() {
                    frame.set_behind(&response)?;
                }
                return Ok(MakingStage::Ending(Some(frame)));
            };
            *left = left.saturating_sub(1 + L::size(&element));
            self.element = Some(element);
        }
        Ok(MakingStage::Writing(frame))
    }
}

impl<L: List> Listing for Making<L> {
    fn go_on(&mut self, ctx: &Ctx<'_>) -> Result<Progress, WireError> {
        let mut left = LISTED_PER_SLICE;
        while left > 0 {
            let ended = MakingStage::Ending(None);
            self.stage = match std::mem::replace(&mut self.stage, ended) {
                MakingStage::Reading(request) => self.read(ctx, request, &mut left)?,
                MakingStage::Writing(frame) => self.write(ctx, frame, &mut left)?,
                MakingStage::Ending(None) => return Ok(Progress::Create),
                MakingStage::Ending(Some(mut frame)) => return frame.finish().map(Progress::Whole),
            };
        }
        if let MakingStage::Writing(frame) = &mut self.stage {
            frame.end_slice();
        }
        Ok(Progress::Partly)
    }

    fn leave(self: Box<Self>, leftovers: &mut Leftovers) {
        self.list.leave(leftovers);
    }
}
