//! A streams group: what is asked of it, in turns, as a consumer group does it. A turn takes what has come, lets
//! members come and go, looks at the topics of the topology, makes a new target if there has to be one, lets each
//! member who has asked take its next step, and ends when the records of all that are durable: then all are answered.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::super::consumer::{
    Changes, Changing, GroupWrite, MemberState, MemberTimer, NextSlice, TargetEpoch,
};
use super::assign::TaskAssignment;
use super::change::{StreamsChange, StreamsEpoch};
use super::configure::{Configured, configure};
use super::cx::{StreamsCx, StreamsOut};
use super::heartbeat::{EndpointPartitions, StreamsHeartbeat};
use super::state::StreamsState;
use super::topology::Topology;
use super::turn::{StreamsAsked, StreamsTurn, TurnStage};
use crate::base::limits::GROUP_HEARTBEATS_PER_TURN;
use crate::base::{Mono, Name};

/// Where a group stands, as people are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamsGroupState {
    /// Nobody is a member.
    Empty,
    /// Topics of its topology are missing, or are not as they should be.
    NotReady,
    /// There is no target for its epoch yet.
    Assigning,
    /// Members are on their way to the target.
    Reconciling,
    /// All have what they are to have.
    Stable,
}

impl StreamsGroupState {
    /// Kafka's name of the state.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::NotReady => "NotReady",
            Self::Assigning => "Assigning",
            Self::Reconciling => "Reconciling",
            Self::Stable => "Stable",
        }
    }
}

/// How much of a turn is done.
enum Worked {
    Partly,
    /// There is no room for what is next, as long as others are at the same.
    Waits,
    Yes,
}

#[derive(Debug)]
enum Phase {
    Idle,
    Works(Box<StreamsTurn>),
    /// What takes back what is being written, since when; and timers that begin when that is told.
    Writes(Changes<StreamsState>, Mono, Vec<MemberTimer>),
}

/// What is known of endpoints: of the epoch and the version of the metadata by which it was looked up.
type Endpoints = (i32, u64, Arc<Vec<EndpointPartitions>>);

/// See the module.
#[derive(Debug)]
pub struct StreamsGroup {
    pub(super) state: StreamsState,
    asked: VecDeque<StreamsAsked>,
    /// Of what the turn has taken too, until it is done.
    asked_bytes: usize,
    /// Who was silent for too long, which is asked to be acted on, and was not heard since.
    pub(super) silent: BTreeSet<Name>,
    /// Who was heard in the turn, and is not answered yet.
    pub(super) heard: BTreeSet<Name>,
    phase: Phase,
    /// What the topology comes to, and which it is.
    configured: Option<(Arc<Topology>, Arc<Configured>)>,
    /// Who wants all members to end.
    pub(super) shutdown: Option<Name>,
    pub(super) endpoint_epoch: i32,
    pub(super) endpoints: Option<Endpoints>,
    /// More members are waited for until then.
    pub(super) gathers_until: Mono,
    /// When another target may be made.
    assigns_from: Mono,
    /// When internal topics may be asked for again.
    pub(super) creates_from: Mono,
}

impl Default for StreamsGroup {
    fn default() -> Self {
        Self {
            state: StreamsState::default(),
            asked: VecDeque::new(),
            asked_bytes: 0,
            silent: BTreeSet::new(),
            heard: BTreeSet::new(),
            phase: Phase::Idle,
            configured: None,
            shutdown: None,
            endpoint_epoch: 0,
            endpoints: None,
            gathers_until: Mono(0),
            assigns_from: Mono(0),
            creates_from: Mono(0),
        }
    }
}

impl StreamsGroup {
    /// What is known of it, with what is still to become durable.
    #[must_use]
    pub fn state(&self) -> &StreamsState {
        &self.state
    }

    /// What its topology comes to, as far as it was looked at.
    #[must_use]
    pub fn configured(&self) -> Option<&Arc<Configured>> {
        let (of, configured) = self.configured.as_ref()?;
        let topology = self.state.topology()?;
        Arc::ptr_eq(of, topology).then_some(configured)
    }

    /// Makes a change that is durable: it is read from the log.
    pub fn replay(&mut self, change: StreamsChange) {
        drop(self.state.apply(change));
    }

    /// Whether nobody is a member, and nobody is about to be or to go.
    #[must_use]
    pub fn is_unused(&self) -> bool {
        self.state.members().len() == 0 && self.is_idle()
    }

    /// Whether nothing is asked of it, nor written.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle) && self.asked.is_empty()
    }

    /// Whether it has something to do by itself: it has to be told to go on.
    #[must_use]
    pub fn has_more(&self) -> bool {
        match self.phase {
            Phase::Idle => !self.asked.is_empty(),
            Phase::Works(_) => true,
            Phase::Writes(..) => false,
        }
    }

    /// Whether a new target is being made, and goes on in another slice.
    #[must_use]
    pub fn is_refreshing(&self) -> bool {
        matches!(&self.phase, Phase::Works(turn) if matches!(turn.stage, TurnStage::Assigns(_)))
    }

    /// What it takes, about, with what is asked of it.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let configured = self.configured.as_ref().map_or(0, |(_, it)| it.bytes());
        let endpoints = self.endpoints.as_ref().map_or(0, |(.., it)| {
            let of = |it: &EndpointPartitions| it.bytes();
            it.iter().map(of).sum()
        });
        self.state.bytes() + self.asked_bytes + configured + endpoints
    }

    /// Where it stands.
    #[must_use]
    pub fn shown_state(&self) -> StreamsGroupState {
        if self.state.members().len() == 0 {
            StreamsGroupState::Empty
        } else if !self.state.is_validated() {
            StreamsGroupState::NotReady
        } else if self.state.epoch() > self.state.target_epoch() {
            StreamsGroupState::Assigning
        } else if !self.state.is_reconciled() {
            StreamsGroupState::Reconciling
        } else {
            StreamsGroupState::Stable
        }
    }

    /// Whether members may read a topic.
    #[must_use]
    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        let topology = self
            .state
            .topology()
            .filter(|_| self.state.members().len() > 0);
        topology.is_some_and(|topology| topology.reads(topic))
    }

    /// Takes a heartbeat: it is answered by [`StreamsGroup::go_on`] or when something is written.
    pub fn ask(&mut self, token: u64, request: StreamsHeartbeat) {
        self.asked_bytes += request.bytes();
        self.asked
            .push_back(StreamsAsked::Heartbeat(token, Arc::new(request)));
    }

    /// The session of a member is over: it is removed. Unless its heartbeats may be waiting behind a write that takes
    /// long, or it has no answer yet to the last one, which is none of its faults; then the session begins anew.
    pub fn session_is_over(&mut self, cx: &StreamsCx<'_>, member: Name, out: &mut StreamsOut) {
        if self.is_held_up(cx) || self.heard.contains(&member) {
            return out.group.timers.push(MemberTimer::Session(member));
        }
        self.silent.insert(member.clone());
        self.asked.push_back(StreamsAsked::Remove(member));
    }

    /// A member took too long to give up tasks: it is removed. The same holds for it.
    pub fn rebalance_time_is_up(&mut self, cx: &StreamsCx<'_>, member: Name, out: &mut StreamsOut) {
        let current = self.state.current(&member);
        if current.state != MemberState::UnrevokedPartitions {
            return;
        }
        if self.is_held_up(cx) || self.heard.contains(&member) {
            let timer = self.rebalance_timer(&member);
            return out.group.timers.push(timer);
        }
        self.asked
            .push_back(StreamsAsked::RemoveRevoking(member, current));
    }

    /// Whether something is being written for longer than members take from one heartbeat to the next.
    fn is_held_up(&self, cx: &StreamsCx<'_>) -> bool {
        let interval_ms = u64::try_from(cx.config.heartbeat_interval_ms).unwrap_or(0);
        match self.phase {
            Phase::Writes(_, since, _) => cx.now.mono.ms_since(since) >= interval_ms,
            Phase::Idle | Phase::Works(_) => false,
        }
    }

    pub(super) fn rebalance_timer(&self, id: &Name) -> MemberTimer {
        let member = self.state.member(id);
        let ms = member.map_or(0, |it| it.rebalance_timeout_ms);
        MemberTimer::Rebalance(id.clone(), u64::try_from(ms).unwrap_or(0))
    }

    /// Whoever waits, and is not answered by what is being written. Nothing more comes of it.
    pub fn give_up(&mut self) -> Vec<u64> {
        let asked = std::mem::take(&mut self.asked);
        self.asked_bytes = 0;
        self.silent.clear();
        let mut tokens: Vec<u64> = asked
            .iter()
            .filter_map(|asked| match asked {
                StreamsAsked::Heartbeat(token, _) => Some(*token),
                StreamsAsked::Remove(_) | StreamsAsked::RemoveRevoking(..) => None,
            })
            .collect();
        if let Phase::Works(turn) = std::mem::replace(&mut self.phase, Phase::Idle) {
            tokens.extend(turn.replies.into_iter().map(|(token, _)| token));
            tokens.extend(turn.steps.into_iter().map(|steps| steps.token));
        }
        tokens
    }

    /// What was to be written is durable, or will never be: then it is taken back. Timers of members that are there
    /// again begin anew.
    pub fn written(&mut self, is_durable: bool, out: &mut StreamsOut) {
        let phase = std::mem::replace(&mut self.phase, Phase::Idle);
        let heard = std::mem::take(&mut self.heard);
        match phase {
            Phase::Writes(_, _, timers) if is_durable => {
                // They are answered now, and send nothing before.
                let stay = heard
                    .into_iter()
                    .filter(|it| self.state.member(it).is_some());
                out.group.timers.extend(stay.map(MemberTimer::Session));
                out.group.timers.extend(timers);
            }
            Phase::Writes(changes, ..) => {
                changes.take_back(&mut self.state);
                (self.assigns_from, self.endpoints) = (Mono(0), None);
                self.asked
                    .retain(|asked| matches!(asked, StreamsAsked::Heartbeat(..)));
                self.silent.clear();
                self.begin_sessions(out);
            }
            Phase::Idle | Phase::Works(_) => {}
        }
        out.group.goes_on = self.goes_on();
    }

    fn goes_on(&self) -> NextSlice {
        match self.has_more() {
            true => NextSlice::Next,
            false => NextSlice::No,
        }
    }

    /// All members have as long as who has just been heard of, and as long to give up tasks if they have to: somebody
    /// could not send heartbeats, or their timers may have ended.
    pub fn begin_sessions(&self, out: &mut StreamsOut) {
        for (id, _) in self.state.members() {
            out.group.timers.push(MemberTimer::Session(id.clone()));
            if self.state.current(id).state == MemberState::UnrevokedPartitions {
                out.group.timers.push(self.rebalance_timer(id));
            }
        }
    }

    /// Everything of it that is durable, or is being written.
    #[must_use]
    pub fn durable(&self) -> Vec<StreamsChange> {
        match &self.phase {
            Phase::Works(turn) => turn.changes.without(&self.state),
            Phase::Idle | Phase::Writes(..) => self.state.everything(),
        }
    }

    /// The same of the key of this change alone.
    #[must_use]
    pub fn durable_like(&self, change: &StreamsChange) -> Option<StreamsChange> {
        match &self.phase {
            Phase::Works(turn) => turn.changes.without_like(&self.state, change),
            Phase::Idle | Phase::Writes(..) => self.state.like(change),
        }
    }

    /// Does as much as is `left` of a slice, in tasks that are looked at.
    pub fn go_on(&mut self, cx: &StreamsCx<'_>, left: &mut usize, out: &mut StreamsOut) {
        while *left > 0 && out.group.write.is_none() && self.has_more() {
            let mut turn = match std::mem::replace(&mut self.phase, Phase::Idle) {
                Phase::Works(turn) => turn,
                Phase::Idle | Phase::Writes(..) => Box::new(self.begin(cx, left, out)),
            };
            match self.work(cx, &mut turn, left) {
                Worked::Yes => self.end(cx, *turn, out),
                Worked::Partly => self.phase = Phase::Works(turn),
                Worked::Waits => {
                    self.phase = Phase::Works(turn);
                    out.group.goes_on = NextSlice::Later;
                    return;
                }
            }
        }
        self.ask_for_topics(cx, out);
        out.group.goes_on = self.goes_on();
    }

    /// Takes what was asked.
    fn begin(&mut self, cx: &StreamsCx<'_>, left: &mut usize, out: &mut StreamsOut) -> StreamsTurn {
        let mut turn = StreamsTurn {
            since: cx.now.mono,
            was_empty: self.state.members().len() == 0,
            ..StreamsTurn::default()
        };
        let mut taken = 0;
        while taken < GROUP_HEARTBEATS_PER_TURN
            && *left > 0
            && let Some(asked) = self.asked.pop_front()
        {
            taken += 1;
            *left = left.saturating_sub(16);
            match asked {
                StreamsAsked::Heartbeat(token, request) => {
                    turn.asked_bytes += request.bytes();
                    self.make_way(&request, &mut turn);
                    let heard = self.heartbeat(cx, (token, &request), &mut turn, left, out);
                    if let Err(refused) = heard {
                        turn.replies.push((token, refused));
                    }
                }
                // Otherwise it was heard since.
                StreamsAsked::Remove(member) => {
                    if self.silent.contains(&member) {
                        turn.silent.insert(member);
                    }
                }
                StreamsAsked::RemoveRevoking(member, was) => {
                    let stays = Arc::ptr_eq(&self.state.current(&member), &was);
                    if stays && !turn.has_given_up(&member, &was) {
                        self.strike(&member, &mut turn);
                    }
                }
            }
        }
        for member in std::mem::take(&mut turn.silent) {
            if self.silent.contains(&member) {
                self.strike(&member, &mut turn);
            }
        }
        turn
    }

    /// What the topology of the group comes to by the metadata that there are.
    pub(super) fn look(&mut self, cx: &StreamsCx<'_>, left: &mut usize) -> Option<Arc<Configured>> {
        let topology = self.state.topology()?.clone();
        if let Some(known) = self.configured()
            && known.version == cx.topics.version()
        {
            return Some(known.clone());
        }
        *left = left.saturating_sub(topology.names());
        let configured = Arc::new(configure(&topology, cx.topics));
        self.configured = Some((topology, configured.clone()));
        Some(configured)
    }

    /// Goes on with a turn.
    fn work(&mut self, cx: &StreamsCx<'_>, turn: &mut StreamsTurn, left: &mut usize) -> Worked {
        loop {
            match &mut turn.stage {
                TurnStage::Decides => match self.decide(cx, turn, left) {
                    None => return Worked::Waits,
                    Some(stage) => turn.stage = stage,
                },
                TurnStage::Assigns(assigning) => {
                    if !assigning.go_on((&mut self.state, &mut turn.changes), left) {
                        return Worked::Partly;
                    }
                    let target = TargetEpoch {
                        epoch: self.state.epoch(),
                        made_ms: cx.now.wall_ms,
                    };
                    let change = StreamsChange::TargetEpoch(Some(target));
                    turn.changes.make(&mut self.state, change);
                    self.assigns_from = cx.now.mono.plus_ms(cx.config.assignment_interval_ms);
                    turn.stage = TurnStage::Steps;
                }
                TurnStage::Steps => {
                    let Some(steps) = turn.steps.pop_front() else {
                        return Worked::Yes;
                    };
                    let tasks = self.state.target(&steps.request.member).count()
                        + self.state.current(&steps.request.member).assigned.count();
                    *left = left.saturating_sub(16 + 4 * tasks);
                    self.step(cx, steps, turn, left);
                    if *left == 0 && !turn.steps.is_empty() {
                        return Worked::Partly;
                    }
                }
            }
        }
    }

    /// Whether there has to be a new epoch, and can be a new target. `None` if that has to wait for others.
    fn decide(
        &mut self,
        cx: &StreamsCx<'_>,
        turn: &mut StreamsTurn,
        left: &mut usize,
    ) -> Option<TurnStage> {
        let was = self.state.epoch_as_it_is();
        if self.state.members().len() == 0 {
            self.shutdown = None;
            if turn.bumps {
                let grown = StreamsEpoch {
                    epoch: was.epoch.saturating_add(1),
                    ..StreamsEpoch::clone(&was)
                };
                // It is empty, and not behind.
                let target = TargetEpoch {
                    epoch: grown.epoch,
                    made_ms: 0,
                };
                for change in [
                    StreamsChange::Epoch(Some(Arc::new(grown))),
                    StreamsChange::TargetEpoch(Some(target)),
                ] {
                    turn.changes.make(&mut self.state, change);
                }
            }
            return Some(TurnStage::Steps);
        }
        let Some(configured) = self.look(cx, left) else {
            return Some(TurnStage::Steps);
        };
        let validated = match (configured.is_ready(), self.state.topology()) {
            (true, Some(topology)) => topology.epoch,
            _ => -1,
        };
        let settings = settings(cx);
        // Who goes brings no other settings with it, as in Kafka; who asks does.
        let is_asked = !turn.steps.is_empty();
        let differs = configured.hash != was.metadata_hash
            || validated != was.validated
            || settings != was.settings;
        if turn.bumps || is_asked && differs {
            let grown = StreamsEpoch {
                epoch: was.epoch.saturating_add(1),
                metadata_hash: configured.hash,
                validated,
                settings,
                described: was.described,
            };
            let change = StreamsChange::Epoch(Some(Arc::new(grown)));
            turn.changes.make(&mut self.state, change);
            turn.bumps = false;
        }
        if turn.was_empty {
            let delay_ms = cx.config.initial_rebalance_delay_ms;
            self.gathers_until = cx.now.mono.plus_ms(delay_ms);
            turn.was_empty = false;
        }
        if cx.now.mono < self.gathers_until {
            turn.gathers = true;
            turn.delayed =
                Some("Assignment delayed due to the configured initial rebalance delay.");
            return Some(TurnStage::Steps);
        }
        if self.state.epoch() <= self.state.target_epoch() {
            return Some(TurnStage::Steps);
        }
        if cx.now.mono < self.assigns_from {
            turn.delayed = Some("Assignment delayed due to the configured assignment interval.");
            return Some(TurnStage::Steps);
        }
        if cx.room_refreshes == 0 {
            return None;
        }
        let replicas = cx.config.standby_replicas;
        *left = left.saturating_sub(self.state.members().len());
        let assigning = TaskAssignment::new(&self.state, &configured, replicas);
        Some(TurnStage::Assigns(Box::new(assigning)))
    }

    /// A turn is done: what it has decided is to be written, or there was nothing.
    fn end(&mut self, cx: &StreamsCx<'_>, turn: StreamsTurn, out: &mut StreamsOut) {
        let StreamsTurn {
            asked_bytes,
            mut changes,
            mut replies,
            timers,
            since,
            ..
        } = turn;
        self.asked_bytes -= asked_bytes;
        let timers = self.end_timers(timers, out);
        if changes.is_empty() {
            let heard = std::mem::take(&mut self.heard);
            if since < cx.now.mono {
                out.group
                    .timers
                    .extend(heard.into_iter().map(MemberTimer::Session));
            }
            return out.group.replies.append(&mut replies);
        }
        out.group.write = Some(GroupWrite {
            changes: changes.take_made(),
            replies,
        });
        self.phase = Phase::Writes(changes, cx.now.mono, timers);
    }

    /// Ends the timers that a turn ends; those that are to begin when it is durable.
    fn end_timers(&self, timers: Vec<MemberTimer>, out: &mut StreamsOut) -> Vec<MemberTimer> {
        let mut begin = BTreeMap::new();
        for timer in timers {
            match &timer {
                MemberTimer::Rebalance(member, _) | MemberTimer::Session(member) => {
                    begin.insert(member.clone(), timer);
                }
                MemberTimer::EndRebalance(member) | MemberTimer::End(member) => {
                    begin.remove(member);
                    // Who has come back since has a session.
                    let is_gone = self.state.member(member).is_none();
                    out.group.timers.push(match is_gone {
                        true => MemberTimer::End(member.clone()),
                        false => MemberTimer::EndRebalance(member.clone()),
                    });
                }
            }
        }
        begin.into_values().collect()
    }

    /// Panics if something is wrong inside. For tests and the simulator.
    pub fn invariants(&self) {
        self.state.invariants();
        let taken = match &self.phase {
            Phase::Works(turn) => turn.asked_bytes,
            Phase::Idle | Phase::Writes(..) => 0,
        };
        let asked = self.asked.iter().map(|asked| match asked {
            StreamsAsked::Heartbeat(_, request) => request.bytes(),
            StreamsAsked::Remove(_) | StreamsAsked::RemoveRevoking(..) => 0,
        });
        assert_eq!(
            asked.sum::<usize>() + taken,
            self.asked_bytes,
            "bytes of what is asked"
        );
        let is_asked = |silent: &Name| {
            let mut asked = self.asked.iter();
            asked.any(|asked| matches!(asked, StreamsAsked::Remove(member) if member == silent))
        };
        assert!(self.silent.iter().all(is_asked), "{:?}", self.silent);
    }
}

/// The settings by which targets are made, as the record of the group has them.
fn settings(cx: &StreamsCx<'_>) -> Vec<(Name, Name)> {
    let replicas = Name::from(cx.config.standby_replicas.to_string());
    vec![(Name::from("num.standby.replicas"), replicas)]
}
