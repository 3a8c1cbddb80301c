//! A consumer group: what is asked of it, in turns. A turn takes what has come, lets members come and go, makes a new
//! target if there has to be one, lets each member who has asked take its next step, and ends when the records of all
//! that are durable: then all are answered. What comes meanwhile waits for the next turn, so each is answered by what
//! is durable alone, and what is decided can be taken back. All of a turn wait for one flush, however many they are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::change::{GroupChange, GroupEpoch, TargetEpoch};
use super::changes::Changes;
use super::cx::{ConsumerCx, ConsumerOut, ConsumerWrite, MemberTimer, NextSlice};
use super::heartbeat::{ConsumerHeartbeat, ConsumerReply};
use super::member::MemberState;
use super::narrowing::Narrowing;
use super::reconcile::{Target, reconcile};
use super::refresh::{Refresh, Refreshed, may_compile};
use super::state::GroupState;
use super::turn::{GroupTurn, MemberSteps};
use super::waiting::{GroupAsked, GroupQueue};
use crate::base::limits::{
    GROUP_HEARTBEATS_PER_TURN, GROUP_REGEX_REFRESH_MS_MIN, GROUP_REGEX_REFRESH_SHARE,
};
use crate::base::{ErrorCode, Mono, Name};

/// Where a group stands, as people are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsumerState {
    /// Nobody is a member.
    Empty,
    /// There is no target for its epoch yet.
    Assigning,
    /// Members are on their way to the target.
    Reconciling,
    /// All have what they are to have.
    Stable,
}

impl ConsumerState {
    /// Kafka's name of the state.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Assigning => "Assigning",
            Self::Reconciling => "Reconciling",
            Self::Stable => "Stable",
        }
    }
}

/// How far a turn is.
enum Worked {
    /// There is more to do.
    Partly,
    /// What is left of the slice is not enough for what is next.
    PutOff,
    /// There is no room for what is next, as long as others are at the same.
    Waits,
    /// It is done.
    Yes,
    /// The group would be too large with those who newly subscribe.
    TooLarge,
}

#[derive(Debug)]
enum Phase {
    Idle,
    Works(Box<GroupTurn>),
    /// What takes back what is being written, since when; and timers that begin when that is told.
    Writes(Changes, Mono, Vec<MemberTimer>),
}

/// See the module.
#[derive(Debug)]
pub struct ConsumerGroup {
    pub(super) state: GroupState,
    asked: GroupQueue,
    /// Of what the turn has taken too, until it is done.
    asked_bytes: usize,
    /// Who was silent for too long, which is asked to be acted on, and was not heard since.
    pub(super) silent: BTreeSet<Name>,
    /// Who was heard in the turn, and is not answered yet.
    pub(super) heard: BTreeSet<Name>,
    phase: Phase,
    /// The version of the metadata by which the target was made, or found to be right,
    seen: Option<u64>,
    /// and when it may be looked at again.
    looks_from: Mono,
    /// When another target may be made.
    assigns_from: Mono,
    /// There could be no newer target by this version of the metadata: it would be too large, whoever else comes.
    pub(super) is_too_large: Option<u64>,
    /// So many may come to be subscribed to more in a turn.
    newcomers_max: usize,
    /// The last turn was one of those who do, of whom some have to wait for others.
    was_later: bool,
}

impl Default for ConsumerGroup {
    fn default() -> Self {
        Self {
            state: GroupState::default(),
            asked: GroupQueue::default(),
            asked_bytes: 0,
            silent: BTreeSet::new(),
            heard: BTreeSet::new(),
            phase: Phase::Idle,
            seen: None,
            looks_from: Mono(0),
            assigns_from: Mono(0),
            is_too_large: None,
            newcomers_max: GROUP_HEARTBEATS_PER_TURN,
            was_later: false,
        }
    }
}

impl ConsumerGroup {
    /// What is known of it, with what is still to become durable.
    #[must_use]
    pub fn state(&self) -> &GroupState {
        &self.state
    }

    /// Makes a change that is durable: it is read from the log.
    pub fn replay(&mut self, change: GroupChange) {
        self.state.apply(change);
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
        matches!(&self.phase, Phase::Works(turn) if turn.refresh.is_some())
    }

    /// What it takes, about, with what is asked of it.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.state.bytes() + self.asked_bytes
    }

    /// Where it stands.
    #[must_use]
    pub fn shown_state(&self) -> ConsumerState {
        if self.state.members().len() == 0 {
            ConsumerState::Empty
        } else if self.state.epoch() > self.state.target_epoch() {
            ConsumerState::Assigning
        } else if !self.state.is_reconciled() {
            ConsumerState::Reconciling
        } else {
            ConsumerState::Stable
        }
    }

    /// Takes a heartbeat: it is answered by [`ConsumerGroup::go_on`] or when something is written.
    pub fn ask(&mut self, token: u64, request: ConsumerHeartbeat) {
        self.asked_bytes += request.bytes();
        self.asked
            .push(GroupAsked::Heartbeat(token, Arc::new(request)));
    }

    /// The session of a member is over: it is removed. Unless its heartbeats may be waiting behind a write that takes
    /// long, or it has no answer yet to the last one, which is none of its faults; then the session begins anew.
    pub fn session_is_over(&mut self, cx: &ConsumerCx<'_>, member: Name, out: &mut ConsumerOut) {
        if self.is_held_up(cx) || self.heard.contains(&member) {
            return out.timers.push(MemberTimer::Session(member));
        }
        self.silent.insert(member.clone());
        self.asked.push(GroupAsked::Remove(member));
    }

    /// A member took too long to give up partitions: it is removed. The same holds for it.
    pub fn rebalance_time_is_up(
        &mut self,
        cx: &ConsumerCx<'_>,
        member: Name,
        out: &mut ConsumerOut,
    ) {
        let current = self.state.current(&member);
        if current.state != MemberState::UnrevokedPartitions {
            return;
        }
        if self.is_held_up(cx) || self.heard.contains(&member) {
            let timer = self.rebalance_timer(&member);
            return out.timers.push(timer);
        }
        self.asked.push(GroupAsked::RemoveRevoking(member, current));
    }

    /// Whether something is being written for longer than members take from one heartbeat to the next.
    fn is_held_up(&self, cx: &ConsumerCx<'_>) -> bool {
        let interval_ms = u64::try_from(cx.config.heartbeat_interval_ms).unwrap_or(0);
        match self.phase {
            Phase::Writes(_, since, _) => cx.now.mono.ms_since(since) >= interval_ms,
            Phase::Idle | Phase::Works(_) => false,
        }
    }

    fn rebalance_timer(&self, id: &Name) -> MemberTimer {
        let ms = self
            .state
            .member(id)
            .map_or(0, |it| it.rebalance_timeout_ms);
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
                GroupAsked::Heartbeat(token, _) => Some(*token),
                GroupAsked::Remove(_) | GroupAsked::RemoveRevoking(..) => None,
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
    pub fn written(&mut self, is_durable: bool, out: &mut ConsumerOut) {
        let phase = std::mem::replace(&mut self.phase, Phase::Idle);
        let heard = std::mem::take(&mut self.heard);
        match phase {
            Phase::Writes(_, _, timers) if is_durable => {
                // They are answered now, and send nothing before.
                let stay = heard
                    .into_iter()
                    .filter(|it| self.state.member(it).is_some());
                out.timers.extend(stay.map(MemberTimer::Session));
                out.timers.extend(timers);
            }
            Phase::Writes(changes, ..) => {
                changes.take_back(&mut self.state);
                // It may have made a target by metadata that it has not looked at then.
                (self.seen, self.assigns_from) = (None, Mono(0));
                self.asked.forget_removals();
                self.silent.clear();
                self.begin_sessions(out);
            }
            Phase::Idle | Phase::Works(_) => {}
        }
        out.goes_on = self.goes_on();
    }

    fn goes_on(&self) -> NextSlice {
        match self.has_more() {
            true => NextSlice::Next,
            false => NextSlice::No,
        }
    }

    /// All members have as long as who has just been heard of, and as long to give up partitions if they have to:
    /// somebody could not send heartbeats, or their timers may have ended.
    pub fn begin_sessions(&self, out: &mut ConsumerOut) {
        for (id, _) in self.state.members() {
            out.timers.push(MemberTimer::Session(id.clone()));
            if self.state.current(id).state == MemberState::UnrevokedPartitions {
                out.timers.push(self.rebalance_timer(id));
            }
        }
    }

    /// Everything of it that is durable, or is being written.
    #[must_use]
    pub fn durable(&self) -> Vec<GroupChange> {
        match &self.phase {
            Phase::Works(turn) => turn.changes.without(&self.state),
            Phase::Idle | Phase::Writes(..) => self.state.all().collect(),
        }
    }

    /// The same of the key of this change alone.
    #[must_use]
    pub fn durable_like(&self, change: &GroupChange) -> Option<GroupChange> {
        match &self.phase {
            Phase::Works(turn) => turn.changes.without_like(&self.state, change),
            Phase::Idle | Phase::Writes(..) => self.state.like(change),
        }
    }

    /// Does as much as is `left` of a slice, in partitions that are looked at.
    pub fn go_on(&mut self, cx: &ConsumerCx<'_>, left: &mut usize, out: &mut ConsumerOut) {
        while *left > 0 && out.write.is_none() && self.has_more() {
            let mut turn = match std::mem::replace(&mut self.phase, Phase::Idle) {
                Phase::Works(turn) => turn,
                Phase::Idle | Phase::Writes(..) => match self.begin(cx, left, out) {
                    Some(turn) => Box::new(turn),
                    None => return self.put_off(left, out),
                },
            };
            match self.work(cx, &mut turn, left, out) {
                Worked::Yes => self.end(cx, *turn, out),
                Worked::Partly => self.phase = Phase::Works(turn),
                Worked::PutOff => {
                    self.phase = Phase::Works(turn);
                    return self.put_off(left, out);
                }
                Worked::Waits => {
                    self.phase = Phase::Works(turn);
                    out.goes_on = NextSlice::Later;
                    return;
                }
                Worked::TooLarge => self.begin_with_fewer(cx, *turn, out),
            }
        }
        out.goes_on = self.goes_on();
    }

    /// What is next takes most of a slice: it comes first in another one.
    fn put_off(&mut self, left: &mut usize, out: &mut ConsumerOut) {
        *left = 0;
        out.goes_on = NextSlice::First;
    }

    /// Takes what was asked; `None` if what is left of the slice is not enough for it.
    fn begin(
        &mut self,
        cx: &ConsumerCx<'_>,
        left: &mut usize,
        out: &mut ConsumerOut,
    ) -> Option<GroupTurn> {
        let is_of_later = self.asked.has_later() && (!self.was_later || self.asked.is_all_later());
        let is_careful = !is_of_later
            && (self.asked.has_later() || self.newcomers_max < GROUP_HEARTBEATS_PER_TURN);
        self.was_later = is_of_later;
        let mut turn = GroupTurn {
            is_of_later,
            since: cx.now.mono,
            ..GroupTurn::default()
        };
        let mut taken = 0;
        while taken < GROUP_HEARTBEATS_PER_TURN
            && *left > 0
            && let Some(asked) = self.asked.pop(is_of_later)
        {
            if is_careful && self.has_to_wait(&asked, left) {
                self.asked.defer(asked);
                (taken, *left) = (taken + 1, left.saturating_sub(16));
                continue;
            }
            if let GroupAsked::Heartbeat(_, request) = &asked
                && self.compiles(request)
                && !may_compile(cx, *left)
            {
                self.asked.put_back(is_of_later, asked);
                if taken == 0 {
                    // It is the same one's turn then.
                    self.was_later = !is_of_later;
                    return None;
                }
                break;
            }
            (taken, *left) = (taken + 1, left.saturating_sub(16));
            self.take(cx, asked, &mut turn, left, out);
            if turn.newcomers.len() >= self.newcomers_max {
                break;
            }
        }
        // Those who have to wait are no turn: others have theirs first.
        self.was_later |= turn.asked.is_empty();
        for member in std::mem::take(&mut turn.silent) {
            if self.silent.contains(&member) {
                self.strike(&member, &mut turn);
            }
        }
        Some(turn)
    }

    /// Whether something is not for a turn of those who are subscribed to no more than before.
    fn has_to_wait(&self, asked: &GroupAsked, left: &mut usize) -> bool {
        if self.asked.waits_for_later(asked.member()) {
            return true;
        }
        match asked {
            GroupAsked::Heartbeat(_, request) => self.brings_more(request, left),
            GroupAsked::Remove(_) | GroupAsked::RemoveRevoking(..) => false,
        }
    }

    /// Takes something into a turn.
    fn take(
        &mut self,
        cx: &ConsumerCx<'_>,
        asked: GroupAsked,
        turn: &mut GroupTurn,
        left: &mut usize,
        out: &mut ConsumerOut,
    ) {
        match &asked {
            GroupAsked::Heartbeat(token, request) => {
                self.make_way(request, turn);
                if let Err(refused) = self.heartbeat(cx, (*token, request), turn, left, out) {
                    turn.replies.push((*token, refused));
                }
            }
            // It was heard since.
            GroupAsked::Remove(member) if !self.silent.contains(member) => return,
            GroupAsked::Remove(member) => {
                turn.silent.insert(member.clone());
            }
            GroupAsked::RemoveRevoking(member, was) => {
                let stays = Arc::ptr_eq(&self.state.current(member), was);
                if stays && !turn.has_given_up(member, was) {
                    self.strike(member, turn);
                }
            }
        }
        turn.asked.push(asked);
    }

    /// With those who come to be subscribed to more in this turn the group would be too large: it is as if they had not
    /// asked yet. Others do not wait for them; they come in turns of their own, half as many at a time, in which it is
    /// found out with whom it would be. Who is alone with it is refused; so are all if the group is too large without
    /// them. Nobody else is told, and whoever goes is not kept.
    fn begin_with_fewer(&mut self, cx: &ConsumerCx<'_>, turn: GroupTurn, out: &mut ConsumerOut) {
        let GroupTurn {
            asked,
            changes,
            newcomers,
            is_of_later,
            ..
        } = turn;
        changes.take_back(&mut self.state);
        self.heard.clear();
        let is_too_large = self.is_too_large == Some(cx.topics.version());
        let are_refused = newcomers.len() == 1 || is_too_large;
        self.newcomers_max = (newcomers.len() / 2).max(1);
        self.was_later = true;
        let (mut back, mut refused) = (Vec::new(), Vec::new());
        for asked in asked {
            if let GroupAsked::Remove(member) = &asked {
                self.silent.insert(member.clone());
            }
            match &asked {
                GroupAsked::Heartbeat(token, request)
                    if are_refused && newcomers.contains(token) =>
                {
                    self.asked_bytes -= request.bytes();
                    refused.push(request.member.clone());
                    let why = "The group would be subscribed to more partitions, or names of topics, than it may be.";
                    let reply =
                        ConsumerReply::refused(ErrorCode::GroupMaxSizeReached, why.to_owned());
                    out.replies.push((*token, reply));
                    if self.state.member(&request.member).is_none() {
                        out.timers.push(MemberTimer::End(request.member.clone()));
                    }
                }
                GroupAsked::Heartbeat(token, _) if !is_of_later && newcomers.contains(token) => {
                    self.asked.defer(asked);
                }
                _ if !is_of_later && self.asked.waits_for_later(asked.member()) => {
                    self.asked.defer(asked);
                }
                _ => back.push(asked),
            }
        }
        for asked in back.into_iter().rev() {
            self.asked.put_back(is_of_later, asked);
        }
        for member in &refused {
            self.silent.remove(member);
        }
    }

    /// Goes on with a turn.
    fn work(
        &mut self,
        cx: &ConsumerCx<'_>,
        turn: &mut GroupTurn,
        left: &mut usize,
        out: &mut ConsumerOut,
    ) -> Worked {
        if !turn.is_refreshed {
            match self.refresh(cx, turn, left, out) {
                Worked::Yes => turn.is_refreshed = true,
                worked => return worked,
            }
        }
        if let Some(narrowing) = &mut turn.narrowing {
            if !narrowing.go_on(cx, (&mut self.state, &mut turn.changes), left) {
                return Worked::Partly;
            }
            turn.narrowing = None;
        }
        while let Some(steps) = turn.steps.pop_front() {
            *left = left.saturating_sub(16 + self.state.target(&steps.request.member).count());
            self.step(cx, steps, turn);
            if *left == 0 && !turn.steps.is_empty() {
                return Worked::Partly;
            }
        }
        Worked::Yes
    }

    /// Makes a new target, if there has to be one and can be.
    fn refresh(
        &mut self,
        cx: &ConsumerCx<'_>,
        turn: &mut GroupTurn,
        left: &mut usize,
        out: &mut ConsumerOut,
    ) -> Worked {
        if turn.refresh.is_none() {
            if cx.room_refreshes == 0 && !turn.has_room {
                match turn.waits {
                    true => return Worked::Waits,
                    // It may be done in one slice, if that is a whole one.
                    false if !may_compile(cx, *left) => return Worked::PutOff,
                    false => {}
                }
            }
            turn.refresh = self.begin_refresh(cx, turn);
        }
        let target_epoch = self.state.target_epoch();
        let refreshed = match &mut turn.refresh {
            Some(refresh) => refresh.go_on(cx, (&mut self.state, &mut turn.changes), left),
            None => Refreshed::Yes,
        };
        match refreshed {
            Refreshed::Partly | Refreshed::PutOff => {
                if !turn.has_room && cx.room_refreshes == 0 {
                    // What it knows so far would be kept, of however many groups.
                    turn.changes.take_back_to(&mut self.state, turn.changed);
                    (turn.refresh, turn.waits) = (None, true);
                    return Worked::Waits;
                }
                turn.has_room = true;
                return match refreshed {
                    Refreshed::PutOff => Worked::PutOff,
                    _ => Worked::Partly,
                };
            }
            Refreshed::TooLarge if !turn.newcomers.is_empty() => return Worked::TooLarge,
            Refreshed::TooLarge => {
                self.is_too_large = Some(cx.topics.version());
                out.is_too_large = true;
                if turn.bumps {
                    self.bump(turn, self.state.metadata_hash());
                }
                self.keep_target(turn);
            }
            Refreshed::TooEarly => {
                self.is_too_large = None;
                self.keep_target(turn);
            }
            Refreshed::Yes if turn.refresh.is_some() => self.is_too_large = None,
            Refreshed::Yes => {}
        }
        if self.state.target_epoch() != target_epoch {
            let interval_ms = cx.config.assignment_interval_ms;
            self.assigns_from = cx.now.mono.plus_ms(interval_ms);
        }
        turn.refresh = None;
        if let Some((version, since)) = turn.looks {
            let took_ms = cx.now.mono.0.saturating_sub(since.0) / 1_000_000;
            let wait_ms = (took_ms * GROUP_REGEX_REFRESH_SHARE).max(GROUP_REGEX_REFRESH_MS_MIN);
            self.looks_from = cx.now.mono.plus_ms(wait_ms);
            self.seen = Some(version);
        }
        Worked::Yes
    }

    /// There can be no target by what there is now, or it is too early for one: all go on with the one before, but for
    /// who is gone, and for what somebody does not want any more. The epoch says that it is behind, so that there will
    /// be another one when there can be.
    fn keep_target(&self, turn: &mut GroupTurn) {
        if !turn.narrows.is_empty() {
            turn.narrowing = Some(Narrowing::of(turn.narrows.clone()));
            turn.is_narrowed = true;
        }
    }

    fn bump(&mut self, turn: &mut GroupTurn, metadata_hash: i64) {
        let grown = GroupEpoch {
            epoch: self.state.epoch().saturating_add(1),
            metadata_hash,
        };
        turn.changes
            .make(&mut self.state, GroupChange::Epoch(Some(grown)));
    }

    /// A new target, if one has to be made or it is not known whether.
    fn begin_refresh(&mut self, cx: &ConsumerCx<'_>, turn: &mut GroupTurn) -> Option<Refresh> {
        if turn.bumps {
            // What was known of topics is forgotten with who was subscribed to them.
            for unused in self.state.unused_regexes() {
                turn.changes
                    .make(&mut self.state, GroupChange::Regex(unused, None));
            }
        }
        turn.changed = turn.changes.len();
        if self.state.members().len() == 0 {
            // Nobody needs a target.
            self.is_too_large = None;
            if turn.bumps {
                self.bump(turn, 0);
                // It is empty, and not behind (KAFKA-20442).
                let target = TargetEpoch {
                    epoch: self.state.epoch(),
                    made_ms: cx.now.wall_ms,
                };
                turn.changes
                    .make(&mut self.state, GroupChange::TargetEpoch(Some(target)));
            }
            return None;
        }
        let version = cx.topics.version();
        let is_new = self.seen != Some(version) && cx.now.mono >= self.looks_from;
        if is_new {
            turn.looks = Some((version, cx.now.mono));
        }
        // What was too large is so until something changes.
        let is_behind = self.state.epoch() > self.state.target_epoch()
            && self.is_too_large.is_none()
            && cx.now.mono >= self.assigns_from;
        let has_to = turn.bumps || is_new || is_behind;
        has_to.then(|| Refresh::new(&self.state, turn.bumps, is_new, self.assigns_from))
    }

    /// A turn is done: what it has decided is to be written, or there was nothing.
    fn end(&mut self, cx: &ConsumerCx<'_>, turn: GroupTurn, out: &mut ConsumerOut) {
        let GroupTurn {
            asked,
            mut changes,
            mut replies,
            newcomers,
            timers,
            since,
            ..
        } = turn;
        self.asked_bytes -= asked.iter().map(GroupAsked::bytes).sum::<usize>();
        if !newcomers.is_empty() {
            self.newcomers_max = (2 * self.newcomers_max).min(GROUP_HEARTBEATS_PER_TURN);
        }
        let timers = self.end_timers(timers, out);
        if changes.is_empty() {
            let heard = std::mem::take(&mut self.heard);
            if since < cx.now.mono {
                out.timers
                    .extend(heard.into_iter().map(MemberTimer::Session));
            }
            return out.replies.append(&mut replies);
        }
        out.write = Some(ConsumerWrite {
            changes: changes.take_made(),
            replies,
        });
        self.phase = Phase::Writes(changes, cx.now.mono, timers);
    }

    /// Ends the timers that a turn ends; those that are to begin when it is durable.
    fn end_timers(&self, timers: Vec<MemberTimer>, out: &mut ConsumerOut) -> Vec<MemberTimer> {
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
                    out.timers.push(match is_gone {
                        true => MemberTimer::End(member.clone()),
                        false => MemberTimer::EndRebalance(member.clone()),
                    });
                }
            }
        }
        begin.into_values().collect()
    }

    /// The second half of a heartbeat: the member's next step, and its answer.
    fn step(&mut self, cx: &ConsumerCx<'_>, steps: MemberSteps, turn: &mut GroupTurn) {
        let MemberSteps {
            token,
            request,
            before,
        } = steps;
        let member = request.member.clone();
        let state = &mut self.state;
        let (current, target) = (state.current(&member), state.target(&member));
        let target = Target {
            epoch: state.target_epoch(),
            partitions: &target,
            is_narrowed: turn.is_narrowed && turn.narrows.contains(&member),
        };
        let of_another = |topic, partition| state.is_of_another(topic, partition, &member);
        let next = match reconcile(&current, target, request.owned.as_ref(), of_another) {
            Ok(next) => next,
            Err(error) => {
                return turn.replies.push((token, ConsumerReply::error(error)));
            }
        };
        let next = match next == *current {
            true => current,
            false => {
                let next = Arc::new(next);
                let change = GroupChange::Current(member.clone(), Some(next.clone()));
                turn.changes.make(state, change);
                turn.timers.push(match next.state {
                    MemberState::UnrevokedPartitions => self.rebalance_timer(&member),
                    _ => MemberTimer::EndRebalance(member.clone()),
                });
                next
            }
        };
        let tells = request.is_full() || !next.assigned.has_the_same_as(&before.assigned);
        let reply = ConsumerReply {
            member: Some(member),
            epoch: next.epoch,
            heartbeat_interval_ms: cx.config.heartbeat_interval_ms,
            assigned: tells.then_some(next),
            ..ConsumerReply::default()
        };
        turn.replies.push((token, reply));
    }

    /// Panics if something is wrong inside. For tests and the simulator.
    pub fn invariants(&self) {
        self.state.invariants();
        let taken = match &self.phase {
            Phase::Works(turn) => &turn.asked[..],
            Phase::Idle | Phase::Writes(..) => &[],
        };
        let asked = self.asked.iter().chain(taken).map(GroupAsked::bytes);
        let asked: usize = asked.sum();
        assert_eq!(asked, self.asked_bytes, "bytes of what is asked");
        let is_asked = |silent: &Name| {
            let mut asked = self.asked.iter();
            asked.any(|asked| matches!(asked, GroupAsked::Remove(member) if member == silent))
        };
        assert!(self.silent.iter().all(is_asked), "{:?}", self.silent);
        self.asked.invariants();
    }
}
