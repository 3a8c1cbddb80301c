//! Which nodes are brokers: each asks whoever leads the metadata quorum to be registered, and when it serves by the
//! metadata to be let lead; a leader fences those that are gone. What follows from that for partitions is decided in
//! changes of bounded size, as everything else is: in the same queue, one at a time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::queue::ToDecide;
use crate::base::limits::{BROKER_ASKS_EVERY_MS, BROKER_SILENT_MS, REGISTERED_WITHIN_MS};
use crate::base::{DirectoryId, Leftovers, Mono, NodeId, NodeProcess};
use crate::broker::admin::{Decided, Deciding, Decision};
use crate::broker::msg::{Called, MemberDone};
use crate::broker::peers::Verdict;
use crate::controller::{
    BrokerAddress, Cause, Draft, Image, Joining, Moves, Registration, Settled, fence, register,
    unfence,
};
use crate::wire::WireError;

/// Moves of this [rank](Moves::rank) at most come before brokers may lead; those of a higher one may take long.
const FORCED_RANK_MAX: u8 = 1;

/// What a node asks of whoever leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberAsk {
    /// To be registered, in place of the process of its node before it.
    Register(Box<Joining>),
    /// That its process, which is registered, may lead: it serves by the metadata.
    Unfence(NodeProcess),
    /// That its process leads nothing any more: it is about to stop.
    Leave(NodeProcess),
}

impl MemberAsk {
    /// For which node.
    pub const fn node(&self) -> NodeId {
        match self {
            Self::Register(joining) => joining.node,
            Self::Unfence(member) | Self::Leave(member) => member.node,
        }
    }
}

/// See the module. Of who leads.
#[derive(Debug, Default)]
pub struct ClusterMembers {
    /// The decision that is being made, by its number.
    making: Option<u64>,
    /// What it goes on with, if it cannot be made.
    moving: Option<Moves>,
    /// One could not be made: the next one is tried at the next look at the others.
    pauses: bool,
    /// What the brokers ask for; the newest of each counts.
    asks: BTreeMap<NodeId, MemberAsk>,
    /// What follows from those that are fenced or have come back.
    moves: VecDeque<Moves>,
    /// Nodes of which another process has registered not long after this node began to lead: what follows from that
    /// waits until it is known of all others whether they are there, and those that are have had time to register too.
    /// Those that come back at once would leave the ISR one after the other, each in favour of processes that are gone
    /// and not known to be, and only the last one would be left, whatever its disk has.
    together: BTreeSet<NodeId>,
    /// Brokers of which all that followed from their fencing is recorded.
    settled: BTreeMap<NodeId, Settled>,
    /// Since when this node leads.
    since: Option<Mono>,
    /// That is not long ago, or some were not heard since: until when that was so.
    is_early: bool,
    unsure_at: Mono,
    /// Those that were registered before.
    before: BTreeSet<NodeId>,
    /// Brokers that are to be fenced.
    gone: BTreeSet<NodeId>,
    /// Those whose nodes are heard with another disk than the registered ones: with which, and since when.
    strangers: BTreeMap<NodeId, (DirectoryId, Mono)>,
    /// When it is looked for partitions that others lead than the first of their replicas.
    balances_at: Mono,
}

impl ClusterMembers {
    /// This node leads from now on: a leader before it may have left something undone.
    pub fn lead(&mut self, now: Mono, image: &Image) {
        let fenced = image.brokers.iter().filter(|broker| broker.fenced);
        let fenced = fenced.map(|broker| Cause::Fenced(broker.member.node));
        *self = Self {
            moves: fenced.chain([Cause::Living]).map(Moves::new).collect(),
            since: Some(now),
            is_early: true,
            unsure_at: now,
            before: image.brokers.iter().map(|it| it.member.node).collect(),
            balances_at: now,
            ..Self::default()
        };
    }

    /// It does not lead any more.
    pub fn resign(&mut self) {
        *self = Self::default();
    }

    /// When [`ClusterMembers::pass`] has something to do.
    pub fn deadline(&self) -> Mono {
        match self.is_early {
            true => self.unsure_at.plus_ms(REGISTERED_WITHIN_MS),
            false => Mono::NEVER,
        }
    }

    /// Time has passed: those that were started anew with others have asked by now.
    pub fn pass(&mut self, now: Mono) {
        if self.deadline() <= now {
            self.is_early = false;
            self.together.clear();
        }
    }

    /// A broker asks for something.
    pub fn ask(&mut self, node: NodeId, ask: MemberAsk) {
        self.asks.insert(node, ask);
    }

    /// Looks for partitions that others lead than the first of their replicas, so often in ms and not at once; one pass
    /// at a time, and none while something else moves.
    pub fn balance(&mut self, now: Mono, every_ms: u64) {
        let Some(since) = self.since else {
            return;
        };
        let at = self.balances_at.max(since).plus_ms(every_ms);
        if at <= now && self.moves.is_empty() && self.moving.is_none() {
            self.balances_at = now;
            self.moves.push_back(Moves::new(Cause::Balance));
        }
    }

    /// Other replicas may be elected than before by the settings: partitions that have no leader may get one.
    pub fn elects_others(&mut self) {
        let moves = Moves::new(Cause::Leaderless);
        if self.since.is_some() && !self.moves.contains(&moves) {
            self.moves.push_back(moves);
        }
    }

    /// Looks which brokers are gone: `heard` says with which first directory a node was heard last, and what is thought
    /// of it.
    pub fn look(
        &mut self,
        now: Mono,
        me: NodeId,
        image: &Image,
        mut heard: impl FnMut(NodeId) -> Option<(DirectoryId, Verdict)>,
    ) {
        let Some(since) = self.since else {
            return;
        };
        self.pauses = false;
        self.gone.clear();
        let is_late = now.ms_since(since) >= BROKER_SILENT_MS;
        let mut strangers = BTreeMap::new();
        let others = image.brokers.iter().filter(|it| it.member.node != me);
        for broker in others.filter(|broker| !broker.fenced) {
            let node = broker.member.node;
            let has = |id: DirectoryId| broker.directories.iter().any(|it| it.id == id);
            let known = heard(node);
            let is_gone = match known {
                Some((_, Verdict::Dead)) => true,
                // With another disk it is another process, and who is heard lets nobody take his place: the one that is
                // registered is not there, and this one cannot register as long as it seems to be. Unless it comes back
                // soon: somebody may have started another node with its id.
                Some((directory, verdict)) if !has(directory) => {
                    let known = self.strangers.get(&node);
                    let known = known.filter(|(of, _)| *of == directory).copied();
                    let (_, since) = known.unwrap_or((directory, now));
                    strangers.insert(node, (directory, since));
                    verdict == Verdict::Alive && now.ms_since(since) >= BROKER_SILENT_MS
                }
                Some((_, Verdict::Alive | Verdict::Suspected)) => false,
                None => is_late,
            };
            if !is_late && !matches!(known, Some((_, Verdict::Alive | Verdict::Dead))) {
                self.unsure_at = now;
            }
            if is_gone {
                self.gone.insert(node);
            }
        }
        self.strangers = strangers;
    }

    /// Whether there is something to be decided.
    pub fn has_more(&self) -> bool {
        let asks = || {
            self.asks
                .iter()
                .any(|(node, ask)| self.may_decide(*node, ask))
        };
        self.making.is_none()
            && !self.pauses
            && (!self.gone.is_empty() || self.next_moves().is_some() || asks())
    }

    /// Which of the moves come next.
    fn next_moves(&self) -> Option<usize> {
        let waits = |moves: &Moves| match moves.cause() {
            Cause::Fenced(node) => self.together.contains(&node),
            _ => false,
        };
        let all = self.moves.iter().enumerate();
        let next = all.filter(|(_, moves)| !waits(moves));
        next.min_by_key(|(_, moves)| moves.rank()).map(|(at, _)| at)
    }

    /// Those of this rank at most.
    fn take_moves(&mut self, rank: u8) -> Option<Moves> {
        let at = self.next_moves()?;
        (self.moves[at].rank() <= rank).then(|| self.moves.remove(at))?
    }

    fn move_some(&mut self, moves: Moves) -> Box<dyn Decision> {
        self.moving = Some(moves.clone());
        Box::new(Moving(moves))
    }

    fn may_decide(&self, node: NodeId, ask: &MemberAsk) -> bool {
        match ask {
            MemberAsk::Register(_) | MemberAsk::Leave(_) => true,
            MemberAsk::Unfence(_) => self.settled.contains_key(&node),
        }
    }

    /// The next decision, if there is one and the one before is made; it gets this number.
    pub fn next(&mut self, number: u64) -> Option<ToDecide> {
        if self.making.is_some() || self.pauses {
            return None;
        }
        let decision = self.next_decision()?;
        self.making = Some(number);
        Some(ToDecide::Inside(Some(decision)))
    }

    fn next_decision(&mut self) -> Option<Box<dyn Decision>> {
        if let Some(node) = self.gone.pop_first() {
            return Some(Box::new(Fencing(node)));
        }
        // Who has registered is fenced, and takes the place of nobody.
        let registers = |it: &MemberAsk| matches!(it, MemberAsk::Register(_));
        if let Some(MemberAsk::Register(joining)) = self.take_ask(registers) {
            let node = joining.node;
            if self.is_early && self.before.contains(&node) {
                self.together.insert(node);
            }
            return Some(Box::new(Registering(Some(joining))));
        }
        if let Some(MemberAsk::Leave(member)) =
            self.take_ask(|it| matches!(it, MemberAsk::Leave(_)))
        {
            return Some(Box::new(Leaving(member)));
        }
        if let Some(moves) = self.take_moves(FORCED_RANK_MAX) {
            return Some(self.move_some(moves));
        }
        if let Some(MemberAsk::Unfence(member)) = self.take_ask(|_| true) {
            let settled = *self.settled.get(&member.node)?;
            return Some(Box::new(Unfencing(member, settled)));
        }
        let moves = self.take_moves(u8::MAX)?;
        Some(self.move_some(moves))
    }

    /// Takes the first of such that may be decided on.
    fn take_ask(&mut self, of: impl Fn(&MemberAsk) -> bool) -> Option<MemberAsk> {
        let may = |(node, ask): &(&NodeId, &MemberAsk)| of(ask) && self.may_decide(**node, ask);
        let node = *self.asks.iter().find(may)?.0;
        self.asks.remove(&node)
    }

    /// If this is the number of the decision that is being made, it is made, and true; or it cannot be made: it is
    /// begun again, by whoever asks for it or as it was.
    pub fn done(&mut self, number: u64, done: Result<Called, String>) {
        if self.making.take_if(|making| *making == number).is_none() {
            return;
        }
        let moving = self.moving.take();
        let Ok(Called::Member(done)) = done else {
            self.pauses = true;
            if let Some(moves) = moving {
                self.moves.push_front(moves);
            }
            return;
        };
        match done {
            MemberDone::Follows(node, cause) => {
                match cause {
                    Some(Cause::Fenced(_)) => {
                        self.settled.remove(&node);
                        tracing::info!("node {node} is a broker that leads nothing for now");
                    }
                    Some(Cause::Unfenced(_)) => tracing::info!("node {node} is a broker"),
                    _ => {}
                }
                // Before what this node has found when it began to lead.
                if let Some(cause) = cause {
                    // A process that registers once more begins them anew.
                    self.moves.retain(|moves| moves.cause() != cause);
                    self.moves.push_front(Moves::new(cause));
                }
            }
            MemberDone::Moved(moves, true) => {
                if let Some(settled) = moves.settled() {
                    self.settled.insert(settled.node(), settled);
                }
            }
            MemberDone::Moved(moves, false) => self.moves.push_front(moves),
            MemberDone::Refused(node, why) => {
                tracing::warn!("node {node} is refused as a broker: {why}");
            }
        }
    }
}

/// What the metadata say of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnRegistration {
    /// It has not been registered.
    NotYet,
    /// It is the one that its broker is.
    Registered,
    /// It was, and is not any more, which it did not ask for.
    Out,
}

/// When a node asks again: it is told by the metadata that it has what it wants.
#[derive(Debug)]
pub struct Membership {
    /// Random, of this process.
    pub start: [u8; 16],
    /// Where other nodes reach it, which it registers too.
    pub reached: Option<BrokerAddress>,
    ask_at: Mono,
    /// It is about to stop, and whether it has said so.
    leaves: bool,
    has_said_so: bool,
    was_registered: bool,
}

impl Membership {
    /// Of a process that has asked for nothing.
    pub const fn new(start: [u8; 16], reached: Option<BrokerAddress>) -> Self {
        Self {
            start,
            reached,
            ask_at: Mono(0),
            leaves: false,
            has_said_so: false,
            was_registered: false,
        }
    }

    /// Looks whether this process is registered, and whether it is out: it was and is not any more, for somebody has
    /// unregistered it, or another process has its id. It would lead and follow as who it was, whatever it registered
    /// as.
    pub fn look(&mut self, node: NodeId, image: &Image) -> OwnRegistration {
        match self.is_registered(node, image) {
            true => {
                self.was_registered = true;
                OwnRegistration::Registered
            }
            false if self.was_registered && !self.leaves => OwnRegistration::Out,
            false => OwnRegistration::NotYet,
        }
    }

    /// This process is about to stop: it wants to lead nothing.
    pub const fn leave(&mut self) {
        (self.leaves, self.ask_at) = (true, Mono(0));
    }

    /// Whether this process is registered.
    pub fn is_registered(&self, node: NodeId, image: &Image) -> bool {
        let known = image.brokers.get(node);
        known.is_some_and(|known| known.start == self.start)
    }

    /// Whether it is not yet what it wants to be: a broker that may lead or, if it stops, one that may not.
    pub fn wants(&self, node: NodeId, image: &Image) -> bool {
        let known = image.brokers.get(node);
        if self.leaves {
            // It may have asked to be let lead before, and be heard only now: the last word counts.
            let is_left = |known: &Registration| known.fenced && self.has_said_so;
            return known.is_some_and(|known| known.start == self.start && !is_left(known));
        }
        known.is_none_or(|known| known.start != self.start || known.fenced)
    }

    /// What it asks for now, if something. `is_served` says whether it serves by that image, `joining` who it is.
    pub fn ask(
        &mut self,
        now: Mono,
        image: &Image,
        is_served: bool,
        joining: impl FnOnce() -> Option<Joining>,
        node: NodeId,
    ) -> Option<MemberAsk> {
        let is_early = self.is_registered(node, image) && !is_served && !self.leaves;
        if !self.wants(node, image) || is_early || now < self.ask_at {
            return None;
        }
        self.ask_at = now.plus_ms(BROKER_ASKS_EVERY_MS);
        match image
            .brokers
            .get(node)
            .filter(|known| known.start == self.start)
        {
            Some(known) if self.leaves => {
                self.has_said_so = true;
                Some(MemberAsk::Leave(known.member))
            }
            Some(known) => Some(MemberAsk::Unfence(known.member)),
            None => joining().map(|joining| MemberAsk::Register(Box::new(joining))),
        }
    }

    /// When it may ask again.
    pub const fn ask_at(&self) -> Mono {
        self.ask_at
    }
}

fn made(done: MemberDone) -> Decided {
    Decided::Whole {
        commits: true,
        reply: Called::Member(done),
        refusal: None,
    }
}

#[derive(Debug)]
struct Registering(Option<Box<Joining>>);

impl Decision for Registering {
    fn go_on(&mut self, cx: &mut Deciding<'_>, left: &mut usize) -> Result<Decided, WireError> {
        if let Some(joining) = self.0.take() {
            let node = joining.node;
            return Ok(match register(cx.draft, *joining) {
                Ok((_, cause)) => {
                    cx.draft.go_on(&mut 1);
                    *left = left.saturating_sub(1);
                    made(MemberDone::Follows(node, cause))
                }
                Err(refused) => made(MemberDone::Refused(node, refused.text().to_owned())),
            });
        }
        Ok(Decided::Partly)
    }

    fn leave(self: Box<Self>, _: &mut Leftovers) {}
}

#[derive(Debug)]
struct Unfencing(NodeProcess, Settled);

impl Decision for Unfencing {
    fn go_on(&mut self, cx: &mut Deciding<'_>, left: &mut usize) -> Result<Decided, WireError> {
        let Self(member, settled) = *self;
        *left = left.saturating_sub(1);
        Ok(match unfence(cx.draft, member, settled) {
            Ok(cause) => {
                cx.draft.go_on(&mut 2);
                made(MemberDone::Follows(member.node, cause))
            }
            Err(refused) => made(MemberDone::Refused(member.node, refused.text().to_owned())),
        })
    }

    fn leave(self: Box<Self>, _: &mut Leftovers) {}
}

#[derive(Debug)]
struct Fencing(NodeId);

impl Decision for Fencing {
    fn go_on(&mut self, cx: &mut Deciding<'_>, left: &mut usize) -> Result<Decided, WireError> {
        *left = left.saturating_sub(1);
        let cause = fence(cx.draft, self.0);
        cx.draft.go_on(&mut 1);
        Ok(made(MemberDone::Follows(self.0, cause)))
    }

    fn leave(self: Box<Self>, _: &mut Leftovers) {}
}

#[derive(Debug)]
struct Leaving(NodeProcess);

impl Decision for Leaving {
    fn go_on(&mut self, cx: &mut Deciding<'_>, left: &mut usize) -> Result<Decided, WireError> {
        *left = left.saturating_sub(1);
        let Self(member) = *self;
        let cause = leave(cx.draft, member);
        cx.draft.go_on(&mut 1);
        Ok(made(MemberDone::Follows(member.node, cause)))
    }

    fn leave(self: Box<Self>, _: &mut Leftovers) {}
}

/// Fences a process that is about to stop. Another one of its node that has come since stays what it is.
fn leave(draft: &mut Draft, member: NodeProcess) -> Option<Cause> {
    let is_it = draft.image().brokers.is_live(member);
    is_it.then(|| fence(draft, member.node)).flatten()
}

#[derive(Debug)]
struct Moving(Moves);

impl Decision for Moving {
    fn go_on(&mut self, cx: &mut Deciding<'_>, left: &mut usize) -> Result<Decided, WireError> {
        let is_done = self.0.go_on(cx.draft, cx.ctx.config, left);
        let is_full = self.0.is_full(cx.draft) && cx.draft.is_settled();
        if is_done || is_full {
            return Ok(made(MemberDone::Moved(self.0.clone(), is_done)));
        }
        Ok(Decided::Partly)
    }

    fn leave(self: Box<Self>, _: &mut Leftovers) {}
}

#[cfg(test)]
#[path = "members_tests.rs"]
mod tests;
