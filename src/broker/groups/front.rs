//! Requests of the group APIs at the shard that they came to: it asks the owners of their groups' partitions, and
//! answers when all have.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::plan::{Asks, GroupPlan, PlanCx, Planner, ResponseShape, Written};
use super::topic::of_ask;
use crate::base::limits::{GROUP_ASKED_COST, OFFSETS_TOLD_PER_SLICE, SMALL_REQUEST_BYTES_MAX};
use crate::base::{ErrorCode, IdMap, Now, ShardId};
use crate::broker::front::conns::{ConnPurpose, ReplyTo};
use crate::broker::front::long::{LongKind, LongLines};
use crate::broker::front::parked::Family;
use crate::broker::front::slots::Slots;
use crate::broker::front::{Front, Head};
use crate::broker::fx::Fx;
use crate::broker::io::ConnId;
use crate::broker::msg::{Msg, ReqRef};
use crate::coordinator::{FetchedOf, GroupAnswer, GroupAsk, GroupPlace, OffsetsOf, Question};
use crate::store::Piece;
use crate::wire::{RequestHeader, WireError};

/// What is asked of whom.
#[derive(Debug)]
enum Ask {
    /// Of the coordinator of its group.
    Group(GroupAsk),
    /// Of a shard: which groups it has behind this one.
    List(ShardId, Option<GroupPlace>),
    /// Of nobody: it is answered, and still to be written.
    Answered(GroupAnswer),
}

/// A request as it came.
#[derive(Debug)]
pub struct GroupRequest {
    reply_to: ReplyTo,
    header: RequestHeader,
    body: Bytes,
    planner: Planner,
    kind: LongKind,
}

impl GroupRequest {
    /// One whose plan is made so, and which is of this kind if it turns out to be long.
    pub fn new(
        (reply_to, header, body): (ReplyTo, RequestHeader, Bytes),
        planner: Planner,
        kind: LongKind,
    ) -> Self {
        Self {
            reply_to,
            header,
            body,
            planner,
            kind,
        }
    }
}

/// A request that waits.
#[derive(Debug)]
enum Waiting {
    /// For its first turn: it may be too long for one, and takes nothing but itself until then.
    InLine(GroupRequest),
    /// For coordinators, or its next turn.
    Begun(PendingGroups),
}

impl Waiting {
    fn reply_to(&self) -> ReplyTo {
        match self {
            Self::InLine(request) => request.reply_to,
            Self::Begun(pending) => pending.reply_to,
        }
    }
}

/// How much is written of a request's answers.
#[derive(Debug)]
enum Reach {
    /// All of them at once.
    Whole,
    /// A slice. If there is more, what was answered is dropped, and this is asked anew when its turn comes.
    Slice(GroupRequest),
    /// Many slices: it is one of those of its kind that are in progress.
    Long(LongKind),
}

/// A request whose coordinators are being asked.
#[derive(Debug)]
struct PendingGroups {
    reply_to: ReplyTo,
    head: Head,
    reach: Reach,
    shape: ResponseShape,
    slots: Slots<GroupAnswer>,
    /// What is still to be asked,
    left: VecDeque<Ask>,
    /// and the shard that was asked last which groups it has.
    listed: ShardId,
}

/// The group requests of a shard's clients.
#[derive(Debug, Default)]
pub struct GroupRequests {
    waiting: IdMap<u64, Waiting>,
    /// Those of them that may be too long for one turn, and wait for their first one,
    lines: LongLines<u64>,
    /// and those that wait for their next turn.
    turns: VecDeque<u64>,
}

/// Questions to each shard, each with its place among those that are asked at a time.
type ByShard = BTreeMap<ShardId, Vec<(u32, Question)>>;

/// How far a request is.
enum Progress {
    /// It has had its turn.
    Partly,
    /// These have to answer first.
    Asked(ByShard),
    /// This is its response.
    Whole(Vec<Bytes>),
}

impl PendingGroups {
    /// Whether one slice is enough for all of it.
    fn is_short(&self) -> bool {
        let mut left = OFFSETS_TOLD_PER_SLICE;
        let mut asks = self.left.iter();
        asks.all(|ask| {
            let cost = cost(ask);
            let fits = cost <= left;
            left = left.saturating_sub(cost);
            fits
        })
    }

    /// The request, if it has no more than a slice and what was answered is more.
    fn take_if_long(&mut self) -> Option<GroupRequest> {
        let answers = || self.slots.iter().flatten();
        let things: usize = answers().map(GroupAnswer::things).sum();
        let is_part = answers().any(|answer| matches!(answer, GroupAnswer::Again(_)));
        if things <= OFFSETS_TOLD_PER_SLICE && !is_part {
            return None;
        }
        match std::mem::replace(&mut self.reach, Reach::Whole) {
            Reach::Slice(request) => Some(request),
            other => {
                self.reach = other;
                None
            }
        }
    }

    /// Writes what was answered, and goes on if that was not all and it has a turn.
    fn go_on(&mut self, front: &Front, has_turn: bool) -> Result<Progress, WireError> {
        let mut told = OFFSETS_TOLD_PER_SLICE;
        for refused in 0.. {
            if let Some(instead) = self.write(&mut told)? {
                return Ok(Progress::Whole(vec![instead]));
            }
            if self.left.is_empty() || !has_turn || refused == 1 || told == 0 {
                break;
            }
            let asked = self.next(front);
            if !asked.is_empty() {
                return Ok(Progress::Asked(asked));
            }
            // All of them were refused at once: that is written too, and is enough for a turn.
        }
        match &mut self.shape {
            ResponseShape::Listed(response) if self.left.is_empty() => {
                response.finish().map(Progress::Whole)
            }
            _ => Ok(Progress::Partly),
        }
    }

    /// Writes answers, as much as is left of a slice; a response that there is in place of all that was written.
    fn write(&mut self, told: &mut usize) -> Result<Option<Bytes>, WireError> {
        let ResponseShape::Listed(response) = &mut self.shape else {
            return Ok(None);
        };
        let slots = std::mem::replace(&mut self.slots, Slots::with_capacity(0));
        let mut answers: VecDeque<GroupAnswer> = slots.into_known().flatten().collect();
        let mut next = None;
        while *told > 0
            && next.is_none()
            && let Some(answer) = answers.pop_front()
        {
            if let GroupAnswer::Again(ask) = answer {
                next = Some(Ask::Group(*ask));
                break;
            }
            *told = told.saturating_sub(answer.things());
            next = match response.write(answer)? {
                Written::Yes => None,
                Written::Ask(ask) => Some(Ask::Group(ask)),
                Written::List(after) => Some(Ask::List(self.listed, Some(after))),
                Written::Rest(answer) => {
                    *told = 0;
                    Some(Ask::Answered(answer))
                }
                Written::Instead(frame) => return Ok(Some(frame)),
            };
        }
        // What comes behind it is written behind it.
        let behind = answers.into_iter().map(|answer| match answer {
            GroupAnswer::Again(ask) => Ask::Group(*ask),
            answer => Ask::Answered(answer),
        });
        let asks: Vec<Ask> = next.into_iter().chain(behind).collect();
        for ask in asks.into_iter().rev() {
            self.left.push_front(ask);
        }
        response.end_slice();
        Ok(None)
    }

    /// What is asked next, as much as a slice takes.
    fn next(&mut self, front: &Front) -> ByShard {
        let (mut by_shard, mut slots) = (ByShard::new(), Vec::new());
        let mut left = OFFSETS_TOLD_PER_SLICE;
        while left > 0
            && let Some(ask) = self.left.pop_front()
        {
            let slot = slots.len() as u32;
            let cost = cost(&ask);
            if cost > left && slot > 0 {
                self.left.push_front(ask);
                break;
            }
            left = left.saturating_sub(cost);
            slots.push(match ask {
                Ask::Group(ask) => locate(front, slot, ask, &mut by_shard),
                Ask::List(shard, after) => {
                    self.listed = shard;
                    let parts = by_shard.entry(shard).or_default();
                    parts.push((slot, Question::List(after)));
                    None
                }
                Ask::Answered(answer) => Some(answer),
            });
        }
        self.slots = slots.into_iter().collect();
        by_shard
    }
}

/// What a question takes of a slice: more than there is where nobody knows how much is told.
fn cost(ask: &Ask) -> usize {
    match ask {
        Ask::Group(GroupAsk::Fetch(_, FetchedOf::Some(topics), _)) => {
            let of = |topic: &OffsetsOf| 1 + topic.partitions.len();
            GROUP_ASKED_COST + topics.iter().map(of).sum::<usize>()
        }
        Ask::Group(GroupAsk::Fetch(_, FetchedOf::AllAfter(_), _)) | Ask::List(..) => {
            OFFSETS_TOLD_PER_SLICE + 1
        }
        Ask::Group(_) => GROUP_ASKED_COST,
        Ask::Answered(_) => 0,
    }
}

impl GroupRequests {
    /// Takes a request.
    ///
    /// # Errors
    /// It cannot be read: the reason to close the connection.
    pub fn begin(
        &mut self,
        front: &mut Front,
        request: GroupRequest,
        fx: &mut Fx<'_>,
    ) -> Result<(), String> {
        let Some(mut pending) = plan(front, &request, fx.now, fx.me)? else {
            return Ok(());
        };
        match pending.shape {
            ResponseShape::Whole(_) => self.ask_at_once(front, pending, fx),
            ResponseShape::Listed(_) if pending.is_short() => {
                pending.reach = Reach::Slice(request);
                self.go_on(front, None, (pending, true), fx);
            }
            ResponseShape::Listed(_) => self.wait_in_line(front, request),
        }
        Ok(())
    }

    /// Takes one that may list much. What has many bytes is not even read before its turn.
    ///
    /// # Errors
    /// As from [`Self::begin`].
    pub fn begin_list(
        &mut self,
        front: &mut Front,
        request: GroupRequest,
        fx: &mut Fx<'_>,
    ) -> Result<(), String> {
        if request.body.len() <= SMALL_REQUEST_BYTES_MAX {
            return self.begin(front, request, fx);
        }
        self.wait_in_line(front, request);
        Ok(())
    }

    fn wait_in_line(&mut self, front: &mut Front, request: GroupRequest) {
        let id = front.park(request.reply_to, Family::Groups);
        self.put_in_line(id, request);
    }

    /// What was planned of it is forgotten: when its turn comes, it is answered by the metadata of then.
    fn put_in_line(&mut self, id: u64, request: GroupRequest) {
        self.lines.push(request.reply_to, request.kind, id);
        self.waiting.insert(id, Waiting::InLine(request));
    }

    /// A request that waited in the line has its first turn.
    fn begin_long(&mut self, front: &mut Front, id: u64, fx: &mut Fx<'_>) {
        let Some(Waiting::InLine(request)) = self.waiting.remove(&id) else {
            return;
        };
        match plan(front, &request, fx.now, fx.me) {
            Ok(Some(mut pending)) => {
                pending.reach = Reach::Long(request.kind);
                self.lines.begun(request.kind);
                self.waiting.insert(id, Waiting::Begun(pending));
                self.turns.push_back(id);
            }
            Ok(None) => unpark(front, Some(id)),
            Err(why) => {
                unpark(front, Some(id));
                front.conns.fail(request.reply_to, why, fx.out);
            }
        }
    }

    /// It is answered, or nobody waits for it any more.
    fn leave(&mut self, pending: &PendingGroups) {
        if let Reach::Long(kind) = pending.reach {
            self.lines.ended(kind);
        }
    }

    /// Goes on with a request whose response is written as it is answered.
    fn go_on(
        &mut self,
        front: &mut Front,
        id: Option<u64>,
        (mut pending, has_turn): (PendingGroups, bool),
        fx: &mut Fx<'_>,
    ) {
        let to = pending.reply_to;
        let asked = match pending.go_on(front, has_turn) {
            Ok(Progress::Whole(pieces)) => {
                self.leave(&pending);
                unpark(front, id);
                let pieces = pieces.into_iter().map(Piece::Memory).collect();
                return front.conns.reply_long(to, pieces, fx.out);
            }
            Err(why) => {
                self.leave(&pending);
                unpark(front, id);
                return front.conns.fail(to, why.to_string(), fx.out);
            }
            Ok(Progress::Asked(asked)) => Some(asked),
            Ok(Progress::Partly) => None,
        };
        let id = id.unwrap_or_else(|| front.park(to, Family::Groups));
        self.waiting.insert(id, Waiting::Begun(pending));
        match asked {
            Some(asked) => ask(front, id, asked, fx),
            None => self.turns.push_back(id),
        }
    }

    /// Asks all that is to be asked of a request whose response is made at once.
    fn ask_at_once(&mut self, front: &mut Front, mut pending: PendingGroups, fx: &mut Fx<'_>) {
        let (mut by_shard, mut slots) = (ByShard::new(), Vec::new());
        for asked in std::mem::take(&mut pending.left) {
            if let Ask::Group(asked) = asked {
                slots.push(locate(front, slots.len() as u32, asked, &mut by_shard));
            }
        }
        pending.slots = slots.into_iter().collect();
        if pending.slots.are_known() {
            return finish(front, pending, fx);
        }
        let id = front.park(pending.reply_to, Family::Groups);
        self.waiting.insert(id, Waiting::Begun(pending));
        ask(front, id, by_shard, fx);
    }

    /// Coordinators have answered.
    pub fn done(
        &mut self,
        front: &mut Front,
        id: u64,
        answers: Vec<(u32, GroupAnswer)>,
        fx: &mut Fx<'_>,
    ) {
        let Some(Waiting::Begun(pending)) = self.waiting.get_mut(&id) else {
            return;
        };
        if !pending.slots.answer(answers) {
            return;
        }
        if let Some(request) = pending.take_if_long() {
            self.put_in_line(id, request);
        } else if !pending.left.is_empty() {
            self.turns.push_back(id);
        } else if let Some(Waiting::Begun(pending)) = self.waiting.remove(&id) {
            if let ResponseShape::Listed(_) = pending.shape {
                return self.go_on(front, Some(id), (pending, false), fx);
            }
            front.parked.unpark(id);
            finish(front, pending, fx);
        }
    }

    /// Something of a connection was answered, or has been sent.
    pub fn moved(&mut self, conn: ConnId) {
        self.lines.moved(conn);
    }

    /// Goes on with the request whose turn it is. The shard does not stop for one that has more to ask.
    pub fn slice(&mut self, front: &mut Front, fx: &mut Fx<'_>) {
        if front.draining {
            self.turns.extend(self.lines.take_any());
        } else {
            for id in self.lines.next(&mut front.conns) {
                self.begin_long(front, id, fx);
            }
        }
        let next = self.turns.pop_front();
        let Some((id, waiting)) = next.and_then(|id| Some((id, self.waiting.remove(&id)?))) else {
            return;
        };
        let to = waiting.reply_to();
        if let Waiting::Begun(pending) = waiting {
            if !front.draining {
                return self.go_on(front, Some(id), (pending, true), fx);
            }
            self.leave(&pending);
        }
        front.parked.unpark(id);
        let why = "the broker stops before all is answered that was asked".to_owned();
        front.conns.fail(to, why, fx.out);
    }

    /// Whether one can go on now.
    pub fn has_more(&self, front: &Front) -> bool {
        let fails = front.draining && !self.lines.is_empty();
        let begins = self.lines.has_next(&front.conns);
        !self.turns.is_empty() || fails || begins
    }

    /// Whether none waits for a turn.
    pub fn is_quiet(&self) -> bool {
        self.turns.is_empty() && self.lines.is_empty()
    }

    /// How many wait for something.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Nobody waits for the answers any more. What was asked is done all the same, as in Kafka.
    pub fn forget(&mut self, id: u64) {
        let Some(waiting) = self.waiting.remove(&id) else {
            return;
        };
        self.lines.forget(waiting.reply_to().conn);
        if let Waiting::Begun(pending) = waiting {
            self.leave(&pending);
        }
    }
}

/// What a request comes down to, by the metadata that is served by now; nothing if its connection is gone.
fn plan(
    front: &Front,
    request: &GroupRequest,
    now: Now,
    me: ShardId,
) -> Result<Option<PendingGroups>, String> {
    let Some(client) = front.conns.get(request.reply_to.conn) else {
        return Ok(None);
    };
    let cx = PlanCx {
        now,
        image: &front.image,
        metadata_max: front.config.offset_metadata_max_bytes.max(0) as usize,
        client_host: format!("/{}", client.peer.ip()),
    };
    let planned = (request.planner)(&cx, &request.header, request.body.clone());
    let GroupPlan { asks, shape } = planned.map_err(|error| error.to_string())?;
    let left = match asks {
        Asks::Groups(asks) => asks.into_iter().map(Ask::Group).collect(),
        Asks::List => {
            // With direct ports a shard is a broker of its own, and clients ask each of them.
            let all = (0..front.shards).map(ShardId);
            let asked = all.filter(|shard| client.purpose != ConnPurpose::Direct || *shard == me);
            asked.map(|shard| Ask::List(shard, None)).collect()
        }
    };
    Ok(Some(PendingGroups {
        reply_to: request.reply_to,
        head: Head {
            correlation_id: request.header.correlation_id,
            version: request.header.version,
        },
        reach: Reach::Whole,
        shape,
        slots: Slots::with_capacity(0),
        left,
        listed: me,
    }))
}

fn unpark(front: &mut Front, id: Option<u64>) {
    if let Some(id) = id {
        front.parked.unpark(id);
    }
}

fn ask(front: &Front, id: u64, asked: ByShard, fx: &mut Fx<'_>) {
    let (req, image) = (ReqRef { shard: fx.me, id }, front.image.version);
    for (shard, parts) in asked {
        fx.send(shard, Msg::Groups { req, image, parts });
    }
}

/// Adds a question to those of the shard that has the group; the answer, if there is none.
fn locate(front: &Front, slot: u32, ask: GroupAsk, by_shard: &mut ByShard) -> Option<GroupAnswer> {
    let place = of_ask(&front.image, &ask).and_then(|(index, partition)| {
        let led = front.led(partition);
        let store = led.map_err(|_| ErrorCode::NotCoordinator)?;
        Ok((index, front.owner_of(store)))
    });
    match place {
        Ok((partition, shard)) => {
            let parts = by_shard.entry(shard).or_default();
            parts.push((slot, Question::To(partition, ask)));
            None
        }
        Err(error) => Some(ask.refused(error)),
    }
}

fn finish(front: &mut Front, pending: PendingGroups, fx: &mut Fx<'_>) {
    if let ResponseShape::Whole(shape) = pending.shape {
        let answers = pending.slots.into_known().flatten().collect();
        let frame = shape.response(pending.head, answers);
        front.reply_or_close(pending.reply_to, frame, fx);
    }
}
