//! Explain (key 20100, version 0): our own, for `millracectl explain`; not advertised.
//!
//! The request has no body. The answer is an error code (16 bit, always 0 so far) and a
//! [`Report`]: the counts and the slowest requests of all shards of this node. Like every
//! request it may be sent to any shard, which asks the others.

use bytes::{BufMut, BytesMut};

use super::front::conns::ReplyTo;
use super::front::{Front, Pending};
use super::fx::Fx;
use super::msg::{Msg, ReqRef};
use super::trace::Report;
use crate::base::{ErrorCode, ShardId};
use crate::store::Piece;
use crate::wire::{self, RequestHeader};

/// An explanation to which shards still have to contribute.
#[derive(Debug)]
pub(super) struct PendingExplain {
    reply_to: ReplyTo,
    correlation_id: i32,
    report: Option<Report>,
    open: u16,
}

impl Front {
    /// Takes the request: asks every shard.
    pub fn explain(
        &mut self,
        reply_to: ReplyTo,
        header: &RequestHeader,
        fx: &mut Fx<'_>,
    ) -> Result<(), String> {
        let id = self.park(
            reply_to,
            Pending::Explain(PendingExplain {
                reply_to,
                correlation_id: header.correlation_id,
                report: None,
                open: self.shards,
            }),
        );
        let req = ReqRef { shard: fx.me, id };
        for shard in 0..self.shards {
            fx.send(ShardId(shard), Msg::Explain { req });
        }
        Ok(())
    }

    /// Another shard, or this one, asks for what this shard knows.
    pub fn explain_part(&mut self, req: ReqRef, fx: &mut Fx<'_>) {
        self.tracer.turn_window(fx.now);
        let mut report = Report::of_shard(fx.me.0, &self.tracer, &self.image, fx.now);
        report.node = self.config.node().0;
        report.started_ms = self.started_ms;
        let report = Box::new(report);
        fx.send(req.shard, Msg::Explained { id: req.id, report });
    }

    /// A shard has contributed.
    pub fn explained(&mut self, id: u64, part: Report, fx: &mut Fx<'_>) {
        let Some(Pending::Explain(pending)) = self.pending_mut(id) else {
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
        if let Some(Pending::Explain(pending)) = self.unpark(id)
            && let Some(report) = pending.report
        {
            let report = report.encode();
            let mut body = BytesMut::with_capacity(2 + report.len());
            body.put_i16(ErrorCode::None.code());
            body.put_slice(&report);
            let frame = wire::encode_own_response(pending.correlation_id, &body);
            let pieces = vec![Piece::Memory(frame)];
            self.conns.reply(pending.reply_to, pieces, fx.out);
        }
    }
}
