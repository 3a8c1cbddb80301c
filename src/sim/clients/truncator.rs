//! A client that deletes records.

use bytes::Bytes;
use kafka_wire as kw;

use super::client::Ctx;
use super::frames::{error_of, frame, message, text};
use super::shared::{Phase, Whom};
use super::talk::{Next, Script};
use crate::base::ErrorCode;
use crate::sim::fact::{Fact, Moment, Place, Use};
use crate::wire::client;

/// API key of DeleteRecords.
const DELETE_RECORDS: i16 = 21;

/// See the module.
#[derive(Debug, Default)]
pub struct Truncator {
    asked: Option<(i16, Place, i64)>,
    /// In a cluster, the partition whose records it will delete.
    at: Option<Place>,
}

impl Script for Truncator {
    fn next(&mut self, ctx: &mut Ctx<'_>) -> Next {
        if ctx.shared.phase != Phase::Busy {
            return Next::Done;
        }
        let places = ctx.shared.places(|topic| topic.used == Use::Truncated);
        if places.is_empty() || self.asked.take().is_some() {
            if ctx.shared.cluster && !places.is_empty() {
                self.at = Some(ctx.pick(&places));
            }
            return Next::Pause(ctx.up_to_ms(100));
        }
        let at = self.at.unwrap_or_else(|| ctx.pick(&places));
        let end = ctx.shared.ends.get(&at).copied().unwrap_or(0);
        let before = ctx.rng.below(end as u64 + 1) as i64;
        let version = ctx.version(DELETE_RECORDS, 0);
        self.asked = Some((version, at, before));
        ctx.oracle.tell(Fact::Deleting { at, before });
        let name = ctx.shared.topic(at.topic).map_or("", |topic| &topic.name);
        let partition = message!(kw::delete_records_request::DeleteRecordsPartition {
            partition_index: at.partition,
            offset: before,
        });
        let topic = message!(kw::delete_records_request::DeleteRecordsTopic {
            name: text(name),
            partitions: vec![partition],
        });
        let request = message!(kw::DeleteRecordsRequest {
            topics: vec![topic],
            timeout_ms: 30_000,
        });
        Next::Ask(frame(version, &request))
    }

    fn answer(&mut self, ctx: &mut Ctx<'_>, frame: Bytes, _asked: Moment) {
        let Some((version, at, before)) = self.asked else {
            return;
        };
        let answer = client::decode_response::<kw::DeleteRecordsRequest>(frame, version);
        let partition = answer.as_ref().ok().and_then(|(_, response)| {
            let topic = response.topics.first()?;
            topic.partitions.first()
        });
        match partition.map(|p| (error_of(p.error_code), p.low_watermark)) {
            Some((ErrorCode::None, low)) if low >= before => {
                ctx.oracle.tell(Fact::Deleted { at, before: low });
            }
            Some((error, _)) if ctx.is_led_elsewhere(at, error) => {}
            other => {
                let what = format!("{at}: deleting before {before} was answered {other:?}");
                ctx.oracle.fail("DeletedStaysDeleted", what);
            }
        }
    }

    fn whom(&self, _ctx: &Ctx<'_>) -> Whom {
        self.at.map_or(Whom::Anybody, Whom::Leader)
    }

    fn finds_nobody(&mut self) {
        self.at = None;
    }

    fn lost(&mut self, _ctx: &mut Ctx<'_>) {
        self.asked = None;
    }

    fn doing(&self) -> String {
        format!("truncator {:?}", self.asked)
    }
}
