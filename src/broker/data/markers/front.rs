//! WriteTxnMarkers (key 27), versions 1 and 2: a coordinator of transactions on another node, or a tool that aborts a
//! transaction nobody ends, has transactions ended in partitions that this node leads. Each partition is answered when
//! its marker is committed.
//!
//! Deviations: a request of more than [`MARKERS_PER_REQUEST_MAX`] partitions is not served; coordinators send no such.

use bytes::Bytes;
use kafka_wire::WriteTxnMarkersRequest;

use crate::base::limits::MARKERS_PER_REQUEST_MAX;
use crate::base::{ErrorCode, IdMap};
use crate::broker::front::Front;
use crate::broker::front::conns::ReplyTo;
use crate::broker::front::parked::Family;
use crate::broker::fx::Fx;
use crate::broker::msg::{MarkerAsker, Msg, ReqRef};
use crate::broker::txn::MarkersAsked;
use crate::store::Piece;
use crate::wire::{self, RequestHeader};

/// The requests of a shard's clients that end transactions.
#[derive(Debug, Default)]
pub struct MarkerRequests {
    /// Those whose markers are on their way, with where the answer goes.
    waiting: IdMap<u64, (ReplyTo, MarkersAsked)>,
}

impl MarkerRequests {
    /// Takes a request. `Err` closes the connection.
    pub fn begin(
        &mut self,
        front: &mut Front,
        reply_to: ReplyTo,
        header: &RequestHeader,
        body: Bytes,
        fx: &mut Fx<'_>,
    ) -> Result<(), String> {
        let request = wire::decode::<WriteTxnMarkersRequest>(body, header.version)
            .map_err(|error| error.to_string())?;
        let topics = request.markers.iter().flat_map(|marker| &marker.topics);
        let partitions: usize = topics.map(|topic| topic.partition_indexes.len()).sum();
        if partitions > MARKERS_PER_REQUEST_MAX {
            return Err(format!(
                "it ends transactions in {partitions} partitions at once"
            ));
        }
        let (asked, by_shard) = MarkersAsked::new(front, header, request);
        if by_shard.is_empty() {
            return finish(front, (reply_to, asked), fx);
        }
        let id = front.park(reply_to, Family::Markers);
        self.waiting.insert(id, (reply_to, asked));
        let asker = MarkerAsker::Client(ReqRef { shard: fx.me, id });
        for (shard, markers) in by_shard {
            fx.send(shard, Msg::WriteMarkers { asker, markers });
        }
        Ok(())
    }

    /// Some partitions have answered.
    pub fn done(
        &mut self,
        front: &mut Front,
        id: u64,
        results: Vec<(u32, ErrorCode)>,
        fx: &mut Fx<'_>,
    ) {
        let Some((_, asked)) = self.waiting.get_mut(&id) else {
            return;
        };
        if asked.answer(results)
            && let Some((reply_to, asked)) = self.waiting.remove(&id)
        {
            front.parked.unpark(id);
            if let Err(why) = finish(front, (reply_to, asked), fx) {
                front.conns.fail(reply_to, why, fx.out);
            }
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

/// Answers a request of which nothing is open any more.
fn finish(
    front: &mut Front,
    (reply_to, asked): (ReplyTo, MarkersAsked),
    fx: &mut Fx<'_>,
) -> Result<(), String> {
    let frame = asked.frame().map_err(|error| error.to_string())?;
    front
        .conns
        .reply(reply_to, vec![Piece::Memory(frame)], fx.out);
    Ok(())
}
