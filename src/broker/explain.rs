//! Explain (key 20100, version 0): our own, for `millracectl explain`; not advertised.
//!
//! The request has no body. The answer is an error code (16 bit, always 0 so far) and a
//! [`Report`]: the counts and the slowest requests of all shards of this node. Like every
//! request it may be sent to any shard, which asks the others.

use bytes::{BufMut, BytesMut};

use super::front::Front;
use super::front::conns::ReplyTo;
use super::front::parked::Family;
use super::fx::Fx;
use super::msg::{Msg, ReqRef};
use super::trace::Report;
use crate::base::{ErrorCode, IdMap, ShardId};
use crate::store::Piece;
use crate::wire::{self, RequestHeader};

/// An explanation to which shards still have to contribute.
#[derive(Debug)]
struct PendingExplain {
    reply_to: ReplyTo,
    correlation_id: i32,
    report: Option<Report>,
    open: u16,
}

/// The requests of a shard's clients to explain.
#[derive(Debug, Default)]
pub(super) struct Explains {
    waiting: IdMap<u64, PendingExplain>,
}

impl Explains {
    /// Takes the request: asks every shard.
    pub fn begin(
        &mut self,
        front: &mut Front,
        reply_to: ReplyTo,
        header: &RequestHeader,
        fx: &mut Fx<'_>,
    ) -> Result<(), String> {
        let id = front.park(reply_to, Family::Explain);
        let pending = PendingExplain {
            reply_to,
            correlation_id: header.correlation_id,
            report: None,
            open: front.shards,
        };
        self.waiting.insert(id, pending);
        let req = ReqRef { shard: fx.me, id };
        for shard in 0..front.shards {
            fx.send(ShardId(shard), Msg::Explain { req });
        }
        Ok(())
    }

    /// A shard has contributed.
    pub fn done(&mut self, front: &mut Front, id: u64, part: Report, fx: &mut Fx<'_>) {
        let Some(pending) = self.waiting.get_mut(&id) else {
            return;
        };
        pending.open -= 1;
        match &mut pending.report {
            Some(report) => report.merge(part),
            None => pending.report = Some(part),
        }
        if pending.open > 0 {
            return;
        }
        front.parked.unpark(id);
        if let Some(pending) = self.waiting.remove(&id)
            && let Some(report) = pending.report
        {
            let report = report.encode();
            let mut body = BytesMut::with_capacity(2 + report.len());
            body.put_i16(ErrorCode::None.code());
            body.put_slice(&report);
            let frame = wire::encode_own_response(pending.correlation_id, &body);
            let pieces = vec![Piece::Memory(frame)];
            front.conns.reply(pending.reply_to, pieces, fx.out);
        }
    }

    /// How many wait for something.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Nobody waits for the answer any more.
    pub fn forget(&mut self, id: u64) {
        self.waiting.remove(&id);
    }
}

/// Another shard, or this one, asks for what this shard knows.
pub(super) fn part(front: &mut Front, req: ReqRef, fx: &mut Fx<'_>) {
    front.tracer.turn_window(fx.now.mono);
    let mut report = Report::of_shard(fx.me.0, &front.tracer, &front.image, fx.now.mono);
    report.node = front.config.node().0;
    report.started_ms = front.started_ms;
    let report = Box::new(report);
    fx.send(req.shard, Msg::Explained { id: req.id, report });
}
