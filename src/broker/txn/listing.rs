//! ListTransactions (66) at the shard that it came to: the shards that have transactional ids are asked one after the
//! other, for some of theirs at a time, and the response is written as they answer. One is in the making at a time; the
//! others wait as they came, and connections take turns, as where other answers list much.

use std::collections::VecDeque;

use bytes::Bytes;
use kafka_wire::{ListTransactionsResponse, list_transactions_response::TransactionState};
use kafka_wire_core::StrBytes;

use crate::base::{ErrorCode, ShardId};
use crate::broker::front::Front;
use crate::broker::front::conns::ReplyTo;
use crate::broker::front::long::LongRequests;
use crate::broker::front::parked::Family;
use crate::broker::fx::Fx;
use crate::broker::io::ConnId;
use crate::broker::msg::{Msg, ReqRef};
use crate::coordinator::{ListedTxn, TxnAnswer, TxnAsk, TxnFilter, TxnPlace};
use crate::store::Piece;
use crate::wire::{ListFrame, RequestHeader, WireError, encode_response};

/// What is asked for, and what is written of it.
#[derive(Debug)]
pub struct TxnListing {
    filter: TxnFilter,
    correlation_id: i32,
    version: i16,
    frame: ListFrame,
    /// Those that have not told all of theirs, and behind which of its ids the first one goes on.
    shards: VecDeque<ShardId>,
    after: Option<TxnPlace>,
}

/// What comes of an answer.
enum Told {
    Partly,
    Whole(Vec<Bytes>),
}

impl TxnListing {
    /// Of a request; the names of states that it asks for and that do not exist are told.
    ///
    /// # Errors
    /// The response cannot be written.
    pub fn new(
        header: &RequestHeader,
        filter: TxnFilter,
        unknown_states: Vec<StrBytes>,
    ) -> Result<Self, WireError> {
        let mut empty = ListTransactionsResponse::default();
        empty.unknown_state_filters = unknown_states;
        Ok(Self {
            filter,
            correlation_id: header.correlation_id,
            version: header.version,
            frame: ListFrame::new(header.correlation_id, header.version, &empty, 0)?,
            shards: VecDeque::new(),
            after: None,
        })
    }

    /// What is asked next, and whom.
    fn ask(&self) -> Option<(ShardId, TxnAsk)> {
        let shard = *self.shards.front()?;
        Some((shard, TxnAsk::List(self.filter.clone(), self.after.clone())))
    }

    /// A shard has answered.
    fn told(&mut self, answer: TxnAnswer) -> Result<Told, WireError> {
        let (listed, more) = match answer {
            TxnAnswer::Listed(Ok(some)) => some,
            TxnAnswer::Listed(Err(error)) => return self.refused(error),
            _ => return self.refused(ErrorCode::UnknownServerError),
        };
        for ListedTxn {
            id,
            producer_id,
            state,
        } in listed
        {
            let mut told = TransactionState::default();
            told.transactional_id = StrBytes::from(&*id);
            told.producer_id = producer_id;
            told.transaction_state = StrBytes::from(state.name());
            self.frame.add(&told)?;
        }
        self.frame.end_slice();
        self.after = more;
        if self.after.is_none() {
            self.shards.pop_front();
        }
        match self.shards.is_empty() {
            true => self.frame.finish().map(Told::Whole),
            false => Ok(Told::Partly),
        }
    }

    fn refused(&self, error: ErrorCode) -> Result<Told, WireError> {
        let mut response = ListTransactionsResponse::default();
        response.error_code = error.code();
        let frame = encode_response(self.correlation_id, self.version, &response)?;
        Ok(Told::Whole(vec![frame]))
    }
}

/// One that is answered, or waits for its turn.
#[derive(Debug)]
struct ListingTo {
    id: u64,
    to: ReplyTo,
    listing: Box<TxnListing>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct TxnListings {
    making: Option<ListingTo>,
    /// Some of this one, which nobody may wait for any more, is asked for and not answered.
    asked: Option<u64>,
    waiting: LongRequests<ListingTo>,
}

impl TxnListings {
    /// Takes a request.
    pub fn begin(
        &mut self,
        front: &mut Front,
        (to, is_direct): (ReplyTo, bool),
        mut listing: TxnListing,
        fx: &mut Fx<'_>,
    ) {
        // With direct ports a shard is a broker of its own, and clients ask each of them.
        let all = (0..front.shards).map(ShardId);
        listing.shards = all.filter(|shard| !is_direct || *shard == fx.me).collect();
        let id = front.park(to, Family::Transactions);
        let listing = Box::new(listing);
        self.waiting.push(to, ListingTo { id, to, listing });
        self.go_on(front, fx);
    }

    /// Asks for more, or begins with the next one.
    pub fn go_on(&mut self, front: &mut Front, fx: &mut Fx<'_>) {
        if self.asked.is_some() {
            return;
        }
        if self.making.is_none() {
            self.making = self.waiting.next(&mut front.conns);
        }
        let Some(making) = &self.making else {
            return;
        };
        if let Some((shard, ask)) = making.listing.ask() {
            self.asked = Some(making.id);
            let req = ReqRef {
                shard: fx.me,
                id: making.id,
            };
            let parts = vec![(0, NO_PARTITION, ask)];
            fx.send(shard, Msg::Transactions { req, parts });
        }
    }

    /// Whether there is something to be asked for now.
    pub fn has_more(&self, front: &Front) -> bool {
        self.asked.is_none() && (self.making.is_some() || self.waiting.has_next(&front.conns))
    }

    /// If it is what was asked for here, it is written.
    pub fn told(
        &mut self,
        front: &mut Front,
        (id, answers): (u64, Vec<(u32, TxnAnswer)>),
        fx: &mut Fx<'_>,
    ) -> Option<Vec<(u32, TxnAnswer)>> {
        if self.asked != Some(id) {
            return Some(answers);
        }
        self.asked = None;
        let making = self.making.as_mut().filter(|it| it.id == id)?;
        let answer = answers.into_iter().next().map(|(_, answer)| answer);
        let told = making.listing.told(answer.unwrap_or(NOTHING));
        if matches!(told, Ok(Told::Partly)) {
            return None;
        }
        let ListingTo { to, .. } = self.making.take()?;
        front.parked.unpark(id);
        match told {
            Ok(Told::Whole(pieces)) => {
                let pieces = pieces.into_iter().map(Piece::Memory).collect();
                front.conns.reply_long(to, pieces, fx.out);
            }
            Ok(Told::Partly) => {}
            Err(why) => front.conns.fail(to, why.to_string(), fx.out),
        }
        None
    }

    /// Something of a connection was answered, or has been sent.
    pub fn moved(&mut self, conn: ConnId) {
        self.waiting.moved(conn);
    }

    /// The shard stops: those whose turn has not come are not answered.
    pub fn stop(&mut self, front: &mut Front, fx: &mut Fx<'_>) {
        while let Some(ListingTo { id, to, .. }) = self.waiting.take_any() {
            front.parked.unpark(id);
            let why = "the broker stops before what it asks for is listed".to_owned();
            front.conns.fail(to, why, fx.out);
        }
    }

    /// How many wait for their answer.
    pub fn len(&self) -> usize {
        self.waiting.len() + usize::from(self.making.is_some())
    }

    /// Nobody waits for the answer any more, nor for another one of the connection.
    pub fn forget(&mut self, conn: ConnId, id: u64) {
        self.making.take_if(|making| making.id == id);
        self.waiting.forget(conn);
    }
}

/// A question of no partition.
const NO_PARTITION: i32 = -1;

/// The answer of a shard that has answered nothing, which is a fault of our own.
const NOTHING: TxnAnswer = TxnAnswer::Listed(Err(ErrorCode::UnknownServerError));
