//! A client that asks for offsets: the first, the last, by time, of the largest
//! timestamp.

use bytes::Bytes;

use super::client::Ctx;
use super::consumer::{list_offsets, listed_offset};
use super::shared::{Phase, Whom};
use super::talk::{Next, Script};
use crate::base::ErrorCode;
use crate::sim::clock::MS;
use crate::sim::fact::{Fact, Moment, Place, Use};
use crate::sim::what::What;

/// API key of ListOffsets.
const LIST_OFFSETS: i16 = 2;

/// See the module.
#[derive(Debug, Default)]
pub struct Lookup {
    /// Version, place, time, and how often the node had been told to stop.
    asked: Option<(i16, Place, i64, u32)>,
    /// In a cluster, the partition that it will ask for.
    at: Option<Place>,
}

impl Script for Lookup {
    fn next(&mut self, ctx: &mut Ctx<'_>) -> Next {
        if ctx.shared.phase != Phase::Busy {
            return Next::Done;
        }
        let places = ctx.shared.places(|_| true);
        if places.is_empty() || self.asked.take().is_some() {
            if ctx.shared.cluster && !places.is_empty() {
                self.at = Some(ctx.pick(&places));
            }
            return Next::Pause(ctx.up_to_ms(30));
        }
        let at = self.at.unwrap_or_else(|| ctx.pick(&places));
        let version = ctx.version(LIST_OFFSETS, 1);
        let time = match ctx.rng.below(8) {
            0 => -1,
            1 => -2,
            2 if version >= 7 => -3,
            3 => ctx.now.wall_ms + 1000,
            _ => ctx.now.wall_ms - ctx.rng.below(2000) as i64,
        };
        self.asked = Some((version, at, time, ctx.shared.lives[ctx.node].stops));
        Next::Ask(list_offsets(ctx, version, at, time))
    }

    fn answer(&mut self, ctx: &mut Ctx<'_>, frame: Bytes, asked: Moment) {
        let Some((version, at, time, stops)) = self.asked else {
            return;
        };
        let (offset, timestamp) = match listed_offset(frame, version) {
            Ok(Ok(listed)) => listed,
            Ok(Err(ErrorCode::KafkaStorageError)) => return ctx.oracle.saw(What::Unreadable),
            Ok(Err(ErrorCode::NotLeaderOrFollower)) if ctx.shared.lives[ctx.node].stops > stops => {
                return;
            }
            Ok(Err(error)) if ctx.is_led_elsewhere(at, error) => return,
            other => {
                let what = format!("{at}: ListOffsets of {time}: {other:?}");
                return ctx.oracle.fail("GoodLookupsAreAnswered", what);
            }
        };
        let asked = ctx.as_of(at, asked);
        let expires = |topic| {
            let topic = ctx.shared.topic(topic);
            topic.is_some_and(|topic| topic.used == Use::Expiring)
        };
        match time {
            -1 => ctx.oracle.tell(Fact::Latest { at, asked, offset }),
            -2 => ctx.oracle.tell(Fact::Earliest { at, asked, offset }),
            // The largest timestamp: at least there is one, if something was acknowledged and is kept.
            -3 => {
                ctx.oracle.saw(What::FoundLargest);
                let end = ctx.shared.ends.get(&at).copied().unwrap_or(0);
                if offset >= 0 && timestamp < 0 || offset >= end.max(0) + 1_000_000 {
                    let what = format!("{at}: largest timestamp {timestamp} at {offset}");
                    ctx.oracle.fail("GoodLookupsAreAnswered", what);
                }
            }
            _ if expires(at.topic) => {}
            _ => ctx.oracle.tell(Fact::AtTime {
                at,
                asked,
                time,
                found: (offset >= 0).then_some((offset, timestamp)),
            }),
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
        format!("lookup {:?}, pauses up to {} ms", self.asked, 30 * MS / MS)
    }
}
