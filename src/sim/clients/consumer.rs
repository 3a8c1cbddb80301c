//! A consumer: reads partitions from their beginning and follows them, with or
//! without a fetch session, with limits of all sizes.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kafka_wire as kw;

use super::client::Ctx;
use super::fetching::{COMMITTED_FROM, Limits, fetch, read, read_committed};
use super::frames::{error_of, frame, message, text};
use super::shared::{Phase, Whom};
use super::talk::{Next, Script};
use crate::base::ErrorCode;
use crate::sim::clock::MS;
use crate::sim::fact::{Address, Fact, Moment, Place, Use};
use crate::sim::what::What;
use crate::wire::client;

/// API key of ListOffsets.
const LIST_OFFSETS: i16 = 2;

/// More answers in a row without anything new, although there is something, are not bad luck.
const STOOD_STILL_MAX: u32 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Nothing,
    Fetch(i16),
    Earliest(i16, Place, bool),
}

/// See the module.
#[derive(Debug)]
pub struct Consumer {
    with_session: bool,
    /// It reads what is committed, of topics written in transactions.
    committed: bool,
    positions: BTreeMap<Place, i64>,
    /// Partitions that the session has left out for a while.
    forgotten: BTreeSet<Place>,
    /// Partitions of which the broker knows the position by its session.
    told: BTreeMap<Place, i64>,
    /// Partitions that do not have the position, and whether it is before their start, for sure: said by who leads
    /// them, on the connection there is.
    out_of_range: Vec<(Place, bool)>,
    session: (i32, i32),
    asked: Asked,
    /// Answers in a row that brought nothing although there was something.
    stood_still: u32,
    /// In a cluster, the partition whose leader it is at, or on its way to.
    at: Option<Place>,
}

impl Consumer {
    /// A consumer that follows some partitions.
    #[must_use]
    pub const fn new(with_session: bool) -> Self {
        Self {
            with_session,
            committed: false,
            positions: BTreeMap::new(),
            forgotten: BTreeSet::new(),
            told: BTreeMap::new(),
            out_of_range: Vec::new(),
            session: (0, 0),
            asked: Asked::Nothing,
            stood_still: 0,
            at: None,
        }
    }

    fn assign(&mut self, ctx: &mut Ctx<'_>) {
        let transacted = ctx.shared.places(|topic| topic.used == Use::Transacted);
        self.committed = !transacted.is_empty() && ctx.rng.chance(1, 2);
        let places = match self.committed {
            true => transacted,
            false => ctx.shared.places(|_| true),
        };
        for place in places {
            if ctx.rng.chance(3, 4) {
                self.positions.insert(place, 0);
            }
        }
    }

    /// Partitions of which not everything has been read that was ever acknowledged.
    fn lacks<'a>(&'a self, ctx: &'a Ctx<'_>) -> impl Iterator<Item = Place> + 'a {
        let lacks = |(at, position): (&Place, &i64)| {
            let end = ctx.shared.ends.get(at).copied().unwrap_or(0);
            (*position < end).then_some(*at)
        };
        self.positions.iter().filter_map(lacks)
    }

    /// In a cluster it is at one node at a time, and goes on to another one if there is nothing to be read here, or
    /// for no reason. Whether it does not stay.
    fn moves_on(&mut self, ctx: &mut Ctx<'_>) -> bool {
        if !ctx.shared.cluster {
            return false;
        }
        let all: Vec<Place> = match ctx.shared.phase {
            Phase::Busy => self.positions.keys().copied().collect(),
            Phase::Quiet | Phase::Audit => self.lacks(ctx).collect(),
        };
        let is_here = |at: &Place| ctx.is_at(Whom::Leader(*at));
        if all.iter().any(is_here) && !ctx.rng.chance(1, 16) {
            return false;
        }
        self.at = Some(ctx.pick(&all));
        true
    }

    fn fetch(&mut self, ctx: &mut Ctx<'_>) -> Next {
        let version = ctx.version(1, if self.with_session { 7 } else { COMMITTED_FROM });
        let (session, epoch) = if self.with_session {
            self.session
        } else {
            (0, -1)
        };
        let limits = Limits {
            wait_ms: ctx.pick(&[0, 5, 100, 500]),
            bytes_min: ctx.pick(&[0, 1, 1, 300, 5000]),
            bytes_max: ctx.pick(&[1, 1000, 100_000, 1 << 20]),
            partition_bytes_max: ctx.pick(&[1, 500, 20_000, 1 << 20]),
            session,
            epoch,
            committed: self.committed,
        };
        let mut left_out = Vec::new();
        if epoch > 0 {
            ctx.oracle.saw(What::SessionFetch);
            self.toggle(ctx, &mut left_out);
        }
        let wanted: Vec<(Place, i64)> = self
            .positions
            .iter()
            .filter(|(at, _)| !self.forgotten.contains(at))
            .filter(|(at, _)| !ctx.shared.cluster || ctx.is_at(Whom::Leader(**at)))
            .filter(|(at, position)| epoch <= 0 || self.told.get(at) != Some(position))
            .map(|(at, position)| (*at, *position))
            .collect();
        for (at, position) in &wanted {
            self.told.insert(*at, *position);
        }
        self.asked = Asked::Fetch(version);
        Next::Ask(fetch(ctx, version, limits, &wanted, &left_out))
    }

    /// Sometimes takes a partition out of the session, or back in.
    fn toggle(&mut self, ctx: &mut Ctx<'_>, left_out: &mut Vec<Place>) {
        if ctx.shared.phase != Phase::Busy {
            self.forgotten.clear();
        } else if let Some(at) = self.forgotten.pop_first() {
            self.told.remove(&at);
        } else if self.positions.len() > 1 && ctx.rng.chance(1, 8) {
            let places: Vec<Place> = self.positions.keys().copied().collect();
            let at = ctx.pick(&places);
            self.forgotten.insert(at);
            self.told.remove(&at);
            left_out.push(at);
            ctx.oracle.saw(What::Forgotten);
        }
    }

    fn fetched(&mut self, ctx: &mut Ctx<'_>, frame: Bytes, version: i16, asked: Moment) {
        let fetched = match client::decode_fetch(frame, version) {
            Ok((_, fetched)) => fetched,
            Err(error) => {
                let what = format!("fetch v{version}: {error}");
                return ctx.oracle.fail("AnswersAreWellFormed", what);
            }
        };
        match fetched.head.error {
            ErrorCode::None => {}
            // The last one because the version changes from request to request, which no real client does.
            ErrorCode::FetchSessionIdNotFound
            | ErrorCode::InvalidFetchSessionEpoch
            | ErrorCode::FetchSessionTopicIdError
                if self.with_session =>
            {
                ctx.oracle.saw(What::SessionLost);
                return self.begin_session(fetched.head.error);
            }
            error => {
                let what = format!("fetch was answered {error}");
                return ctx.oracle.fail("GoodFetchesAreAnswered", what);
            }
        }
        if self.with_session {
            let epoch = if fetched.head.session_id == 0 {
                0
            } else {
                self.session.1 + 1
            };
            self.session = (fetched.head.session_id, epoch);
        }
        let (mut moved, mut behind) = (false, None);
        for topic in fetched.topics {
            let known = ctx
                .shared
                .topics
                .iter()
                .find(|known| known.is(&topic.topic));
            let Some(number) = known.map(|topic| topic.number) else {
                let what = format!("fetch answered for {:?}", topic.topic);
                return ctx.oracle.fail("AnswersAreWellFormed", what);
            };
            for partition in topic.partitions {
                let at = Place {
                    topic: number,
                    partition: partition.index,
                };
                let Some(position) = self.positions.get(&at).copied() else {
                    let what = format!("fetch answered for {at}");
                    return ctx.oracle.fail("AnswersAreWellFormed", what);
                };
                match partition.error {
                    ErrorCode::None => {
                        let (next, end) = match self.committed {
                            true => (
                                read_committed(ctx, at, position, &partition),
                                partition.last_stable_offset,
                            ),
                            false => (
                                read(ctx, at, asked, position, &partition),
                                partition.high_watermark,
                            ),
                        };
                        moved |= next > position;
                        if next < end {
                            behind = Some((at, next, end));
                        }
                        self.positions.insert(at, next);
                    }
                    ErrorCode::OffsetOutOfRange => {
                        ctx.oracle.saw(What::OutOfRange);
                        moved = true;
                        // Who leads no more and does not know it may not have got so far.
                        let is_sure = !ctx.shared.cluster || ctx.reign(at).is_some();
                        self.out_of_range.push((at, is_sure));
                    }
                    // A read of the file failed, maybe at the very end of the busy phase.
                    ErrorCode::KafkaStorageError if ctx.shared.phase != Phase::Audit => {
                        ctx.oracle.saw(What::Unreadable);
                        moved = true;
                    }
                    error if ctx.is_led_elsewhere(at, error) => {
                        moved = true;
                        // A session would go on to ask for it here.
                        self.begin_session(ErrorCode::None);
                    }
                    error => {
                        let what = format!("{at}: fetch of {position} was answered {error}");
                        ctx.oracle.fail("GoodFetchesAreAnswered", what);
                    }
                }
            }
        }
        self.gets_on(ctx, moved, behind);
    }

    /// A consumer that is told of records and does not get them would stand still for ever: above all one
    /// that gets a batch that is never whole.
    fn gets_on(&mut self, ctx: &mut Ctx<'_>, moved: bool, behind: Option<(Place, i64, i64)>) {
        let Some((at, position, end)) = behind.filter(|_| !moved) else {
            self.stood_still = 0;
            return;
        };
        self.stood_still += 1;
        if self.stood_still > STOOD_STILL_MAX {
            let what =
                format!("{at}: nothing at {position} again and again, with the end at {end}");
            ctx.oracle.fail("ConsumersGetOn", what);
        }
    }

    fn begin_session(&mut self, why: ErrorCode) {
        // A session that is not found has no id any more; otherwise the id tells which one to replace.
        let id = if why == ErrorCode::FetchSessionIdNotFound {
            0
        } else {
            self.session.0
        };
        self.session = (id, 0);
        self.told.clear();
        self.forgotten.clear();
        self.stood_still = 0;
    }

    /// The node may have crashed, with what retention had dropped and no flush had made durable: that is back then.
    fn is_sure_no_more(&mut self) {
        for (_, is_sure) in &mut self.out_of_range {
            *is_sure = false;
        }
    }

    fn earliest(&mut self, ctx: &mut Ctx<'_>, (at, is_sure): (Place, bool)) -> Next {
        let version = ctx.version(LIST_OFFSETS, 1);
        self.asked = Asked::Earliest(version, at, is_sure);
        Next::Ask(list_offsets(ctx, version, at, -2))
    }
}

/// A ListOffsets request for one partition.
pub fn list_offsets(ctx: &Ctx<'_>, version: i16, at: Place, timestamp: i64) -> Bytes {
    let name = ctx.shared.topic(at.topic).map_or("", |topic| &topic.name);
    let partition = message!(kw::list_offsets_request::ListOffsetsPartition {
        partition_index: at.partition,
        current_leader_epoch: if version >= 4 { ctx.epoch(at) } else { -1 },
        timestamp: timestamp,
    });
    let topic = message!(kw::list_offsets_request::ListOffsetsTopic {
        name: text(name),
        partitions: vec![partition],
    });
    let request = message!(kw::ListOffsetsRequest {
        replica_id: -1,
        topics: vec![topic],
    });
    frame(version, &request)
}

/// Offset and timestamp that a ListOffsets request for one partition was answered, or the error.
pub fn listed_offset(frame: Bytes, version: i16) -> Result<Result<(i64, i64), ErrorCode>, String> {
    let (_, response) = client::decode_response::<kw::ListOffsetsRequest>(frame, version)
        .map_err(|error| error.to_string())?;
    let partition = response
        .topics
        .first()
        .and_then(|topic| topic.partitions.first())
        .ok_or("no partition in the answer")?;
    Ok(match error_of(partition.error_code) {
        ErrorCode::None => Ok((partition.offset, partition.timestamp)),
        error => Err(error),
    })
}

impl Script for Consumer {
    fn next(&mut self, ctx: &mut Ctx<'_>) -> Next {
        if !ctx.shared.is_set_up() && ctx.shared.phase == Phase::Busy {
            return Next::Pause(5 * MS);
        }
        if self.positions.is_empty() && ctx.shared.phase == Phase::Busy {
            self.assign(ctx);
        }
        if let Some(out) = self.out_of_range.pop() {
            if ctx.shared.cluster && !ctx.is_at(Whom::Leader(out.0)) {
                self.out_of_range.push(out);
                self.at = Some(out.0);
                return Next::Pause(ctx.up_to_ms(5));
            }
            return self.earliest(ctx, out);
        }
        if ctx.shared.phase >= Phase::Quiet && self.lacks(ctx).next().is_none() {
            return Next::Done;
        }
        if !self.positions.is_empty() && self.moves_on(ctx) {
            self.asked = Asked::Nothing;
            return Next::Pause(ctx.up_to_ms(5));
        }
        if self.positions.is_empty() || ctx.rng.chance(1, 6) && self.asked != Asked::Nothing {
            self.asked = Asked::Nothing;
            return Next::Pause(ctx.up_to_ms(20));
        }
        self.fetch(ctx)
    }

    fn home(&self, ctx: &mut Ctx<'_>) -> Option<Address> {
        let places: Vec<Place> = self.positions.keys().copied().collect();
        let at = (!places.is_empty()).then(|| ctx.pick(&places))?;
        ctx.shared.address(Whom::Leader(at))
    }

    fn whom(&self, _ctx: &Ctx<'_>) -> Whom {
        self.at.map_or(Whom::Anybody, Whom::Leader)
    }

    fn finds_nobody(&mut self) {
        self.at = None;
    }

    fn leaves(&mut self, _ctx: &mut Ctx<'_>) {
        // Sessions are of a node.
        self.session = (0, 0);
        self.begin_session(ErrorCode::None);
        self.is_sure_no_more();
    }

    fn answer(&mut self, ctx: &mut Ctx<'_>, frame: Bytes, asked: Moment) {
        match self.asked {
            Asked::Nothing => {}
            Asked::Fetch(version) => self.fetched(ctx, frame, version, asked),
            Asked::Earliest(version, at, is_sure) => match listed_offset(frame, version) {
                Ok(Ok((offset, _))) => {
                    let asked = ctx.as_of(at, asked);
                    ctx.oracle.tell(Fact::Earliest { at, asked, offset });
                    let position = self.positions.entry(at).or_default();
                    if offset <= *position && is_sure {
                        let what = format!("{at}: {position} was out of range from {offset} on");
                        ctx.oracle.fail("GoodFetchesAreAnswered", what);
                    }
                    *position = offset.max(*position);
                }
                Ok(Err(error)) if ctx.is_led_elsewhere(at, error) => {
                    self.out_of_range.push((at, is_sure));
                }
                Ok(Err(error)) => {
                    let what = format!("{at}: ListOffsets was answered {error}");
                    ctx.oracle.fail("GoodFetchesAreAnswered", what);
                }
                Err(why) => ctx.oracle.fail("GoodFetchesAreAnswered", why),
            },
        }
    }

    fn lost(&mut self, ctx: &mut Ctx<'_>) {
        if ctx.shared.cluster {
            self.session = (0, 0);
        }
        self.begin_session(ErrorCode::None);
        self.is_sure_no_more();
    }

    fn doing(&self) -> String {
        let Self {
            positions,
            asked,
            session,
            ..
        } = self;
        format!("consumer, session {session:?}, asked {asked:?}, positions {positions:?}")
    }
}
