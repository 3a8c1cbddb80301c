//! Answers that list much, made some at a time: what is listed takes a few bytes of the request each, and up to some
//! kilobytes of the answer.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use kafka_wire::{KafkaMessage, RequestResponsePair};
use kafka_wire_core::{ApiVersion, KafkaEncode};

use super::handler::{Answer, Ctx, Listing, Progress};
use crate::base::limits::LISTED_PER_SLICE;
use crate::wire::{self, RequestHeader, WireError};

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

    /// The next element.
    fn next(&mut self, ctx: &Ctx<'_>) -> Option<Self::Element>;

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
    version: i16,
    flexible: bool,
    /// The frame as it is if nothing is listed, up to the list, and from it on.
    before: BytesMut,
    behind: Bytes,
    listed: Vec<Bytes>,
    count: usize,
}

impl<L: List> Making<L> {
    fn new(ctx: &Ctx<'_>, header: &RequestHeader, request: L::Request) -> Result<Self, WireError> {
        let version = header.version;
        let (empty, list) = L::begin(ctx, version, request);
        let frame = wire::encode_response(header.correlation_id, version, &empty)?;
        let flexible = L::Request::is_flexible(ApiVersion::new(version));
        let count = wire::list_count(flexible, 0).len();
        let tags = usize::from(flexible);
        let behind = frame.len() - tags - L::bytes_behind(version);
        Ok(Self {
            list,
            version,
            flexible,
            before: BytesMut::from(&frame[..behind - count]),
            behind: frame.slice(behind..),
            listed: Vec::new(),
            count: 0,
        })
    }

    /// The frame, when all is listed.
    fn finish(&mut self) -> Result<Vec<Bytes>, WireError> {
        const PREFIX: usize = 4;
        let mut before = std::mem::take(&mut self.before);
        before.extend_from_slice(&wire::list_count(self.flexible, self.count));
        let listed: usize = self.listed.iter().map(Bytes::len).sum();
        let bytes = before.len() + listed + self.behind.len() - PREFIX;
        let too_large = |_| kafka_wire_core::EncodeError::FrameTooLarge { bytes };
        let len = i32::try_from(bytes).map_err(too_large)?;
        before[..PREFIX].copy_from_slice(&len.to_be_bytes());
        let mut pieces = vec![before.freeze()];
        pieces.append(&mut self.listed);
        pieces.push(std::mem::take(&mut self.behind));
        Ok(pieces)
    }
}

impl<L: List> Listing for Making<L> {
    fn go_on(&mut self, ctx: &Ctx<'_>) -> Result<Progress, WireError> {
        let mut some = BytesMut::new();
        let mut left = LISTED_PER_SLICE;
        while left > 0 {
            let Some(element) = self.list.next(ctx) else {
                self.listed.push(some.freeze());
                return self.finish().map(Progress::Whole);
            };
            if self.list.creates() {
                return Ok(Progress::Create);
            }
            left = left.saturating_sub(1 + L::size(&element));
            element.encode_into(&mut some, ApiVersion::new(self.version))?;
            self.count += 1;
        }
        self.listed.push(some.freeze());
        Ok(Progress::Partly)
    }
}
