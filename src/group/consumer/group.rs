//! A consumer group: what is asked of it, in turns. A turn takes what has come, lets members come and go, makes a new
//! target if there has to be one, lets each member who has asked take its next step, and ends when the records of all
//! that are durable: then all are answered. What comes meanwhile waits for the next turn, so each is answered by what
//! is durable alone, and what is decided can be taken back. All of a turn wait for one flush, however many they are.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::change::{GroupChange, GroupEpoch};
use super::changes::Changes;
use super::cx::{ConsumerCx, ConsumerOut, ConsumerWrite, MemberTimer};
use super::fences::refuse;
use super::heartbeat::{ConsumerHeartbeat, ConsumerReply, JOINS, LEAVES, LEAVES_FOR_A_WHILE};
use super::member::{Current, MemberState};
use super::partitions::Held;
use super::reconcile::{Target, reconcile};
use super::refresh::{COMPILE_WORK, Refresh, Refreshed};
use super::state::GroupState;
use super::topics::TopicRegex;
use super::turn::{GroupAsked, GroupTurn, MemberSteps};
use crate::base::limits::{
    GROUP_HEARTBEATS_PER_TURN, GROUP_MEMBERS_BYTES_MAX, GROUP_REGEX_REFRESH_MS_MIN,
    GROUP_REGEX_REFRESH_SHARE,
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
    /// It is done.
    Yes,
    /// The group would be too large with those who newly subscribe.
    TooLarge,
}

#[derive(Debug)]
enum Phase {
    Idle,
    Works(Box<GroupTurn>),
    /// What takes back what is being written, since when.
    Writes(Changes, Mono),
}

/// See the module.
#[derive(Debug)]
pub struct ConsumerGroup {
    state: GroupState,
    asked: VecDeque<GroupAsked>,
    /// Of what the turn has taken too, until it is done.
    asked_bytes: usize,
    /// Who was silent for too long, which is asked to be acted on, and was not heard since.
    silent: BTreeSet<Name>,
    phase: Phase,
    /// The version of the metadata by which the target was made, or found to be right,
    seen: Option<u64>,
    /// and when it may be looked at again.
    looks_from: Mono,
    /// There could be no newer target when that was last tried: it would be too large, whoever else comes.
    is_too_large: bool,
    /// So many may come to be subscribed to more in a turn.
    newcomers_max: usize,
}

impl Default for ConsumerGroup {
    fn default() -> Self {
        Self {
            state: GroupState::default(),
            asked: VecDeque::new(),
            asked_bytes: 0,
            silent: BTreeSet::new(),
            phase: Phase::Idle,
            seen: None,
            looks_from: Mono(0),
            is_too_large: false,
            newcomers_max: GROUP_HEARTBEATS_PER_TURN,
        }
    }
}

/// Names of topics that are compared in the time that a partition takes.
const NAMES_PER_WORK: usize = 8;

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
            .push_back(GroupAsked::Heartbeat(token, Arc::new(request)));
    }

    /// The session of a member is over: it is removed. Unless its heartbeats may be waiting behind a write that takes
    /// long, which is none of its faults; then the session begins anew.
    pub fn session_is_over(&mut self, cx: &ConsumerCx<'_>, member: Name, out: &mut ConsumerOut) {
        if self.is_held_up(cx) {
            return out.timers.push(MemberTimer::Session(member));
        }
        self.silent.insert(member.clone());
        self.asked.push_back(GroupAsked::Remove(member));
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
        if self.is_held_up(cx) {
            let timer = self.rebalance_timer(&member);
            return out.timers.push(timer);
        }
        self.asked
            .push_back(GroupAsked::RemoveRevoking(member, current));
    }

    /// Whether something is being written for longer than members take from one heartbeat to the next.
    fn is_held_up(&self, cx: &ConsumerCx<'_>) -> bool {
        let interval_ms = u64::try_from(cx.config.heartbeat_interval_ms).unwrap_or(0);
        match self.phase {
            Phase::Writes(_, since) => cx.now.mono.ms_since(since) >= interval_ms,
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
            .into_iter()
            .filter_map(|asked| match asked {
                GroupAsked::Heartbeat(token, _) => Some(token),
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
        if let Phase::Writes(changes, _) = std::mem::replace(&mut self.phase, Phase::Idle)
            && !is_durable
        {
            changes.take_back(&mut self.state);
            // It may have made a target by metadata that it has not looked at then.
            self.seen = None;
            let is_said = |asked: &GroupAsked| matches!(asked, GroupAsked::Heartbeat(..));
            self.asked.retain(is_said);
            self.silent.clear();
            self.begin_sessions(out);
        }
        out.goes_on = self.has_more();
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
        let Phase::Works(turn) = &self.phase else {
            return self.state.all().collect();
        };
        let before = turn.changes.before();
        let all = self
            .state
            .all()
            .filter(|change| !before.contains_key(&change.key()));
        all.chain(before.values().filter(|change| change.is_value()).cloned())
            .collect()
    }

    /// The same of the key of this change alone.
    #[must_use]
    pub fn durable_like(&self, change: &GroupChange) -> Option<GroupChange> {
        if let Phase::Works(turn) = &self.phase
            && let Some(before) = turn.changes.before().remove(&change.key())
        {
            return Some(before).filter(GroupChange::is_value);
        }
        self.state.like(change)
    }

    /// Does as much as is `left` of a slice, in partitions that are looked at.
    pub fn go_on(&mut self, cx: &ConsumerCx<'_>, left: &mut usize, out: &mut ConsumerOut) {
        while *left > 0 && out.write.is_none() && self.has_more() {
            let mut turn = match std::mem::replace(&mut self.phase, Phase::Idle) {
                Phase::Works(turn) => turn,
                Phase::Idle | Phase::Writes(..) => Box::new(self.begin(cx, left, out)),
            };
            match self.work(cx, &mut turn, left, out) {
                Worked::Yes => self.end(cx, *turn, out),
                Worked::Partly => self.phase = Phase::Works(turn),
                Worked::TooLarge => self.begin_with_fewer(*turn, out),
            }
        }
        out.goes_on = self.has_more();
    }

    /// Takes what was asked.
    fn begin(&mut self, cx: &ConsumerCx<'_>, left: &mut usize, out: &mut ConsumerOut) -> GroupTurn {
        let mut turn = GroupTurn::default();
        let mut taken = 0;
        while taken < GROUP_HEARTBEATS_PER_TURN
            && *left > 0
            && let Some(asked) = self.asked.pop_front()
        {
            taken += 1;
            *left = left.saturating_sub(16);
            match &asked {
                GroupAsked::Heartbeat(token, request) => {
                    self.make_way(request, &mut turn, out);
                    if let Err(refused) =
                        self.heartbeat(cx, (*token, request), &mut turn, left, out)
                    {
                        turn.replies.push((*token, refused));
                    }
                }
                // It was heard since.
                GroupAsked::Remove(member) if !self.silent.contains(member) => continue,
                GroupAsked::Remove(member) => {
                    turn.silent.insert(member.clone());
                }
                GroupAsked::RemoveRevoking(member, was) => {
                    let stays = Arc::ptr_eq(&self.state.current(member), was);
                    if stays && !turn.has_given_up(member, was) {
                        self.strike(member, &mut turn, out);
                    }
                }
            }
            turn.asked.push(asked);
            if turn.newcomers.len() >= self.newcomers_max {
                break;
            }
        }
        for member in std::mem::take(&mut turn.silent) {
            if self.silent.contains(&member) {
                self.strike(&member, &mut turn, out);
            }
        }
        turn
    }

    /// Who joins is not in its own way, nor is the static member whose place it takes, if their sessions are over.
    fn make_way(
        &mut self,
        request: &ConsumerHeartbeat,
        turn: &mut GroupTurn,
        out: &mut ConsumerOut,
    ) {
        if request.epoch != JOINS {
            return;
        }
        let instance = request.instance.as_deref();
        let fixed = instance
            .and_then(|it| self.state.static_member(it))
            .cloned();
        for member in [Some(&request.member), fixed.as_ref()] {
            if let Some(member) = member.and_then(|it| turn.silent.take(it)) {
                self.strike(&member, turn, out);
            }
        }
    }

    /// With those who come to be subscribed to more in this turn the group would be too large: it is as if half of them
    /// had not asked yet, which is found out in the turns to come. Who is alone with it is refused; so are all if the
    /// group is too large without them. Nobody else is told, and whoever goes is not kept.
    fn begin_with_fewer(&mut self, turn: GroupTurn, out: &mut ConsumerOut) {
        let GroupTurn {
            asked,
            changes,
            newcomers,
            ..
        } = turn;
        changes.take_back(&mut self.state);
        let mut heard = Vec::new();
        let are_refused = newcomers.len() == 1 || self.is_too_large;
        self.newcomers_max = (newcomers.len() / 2).max(1);
        for asked in asked.into_iter().rev() {
            match &asked {
                GroupAsked::Heartbeat(token, request)
                    if are_refused && newcomers.contains(token) =>
                {
                    self.asked_bytes -= request.bytes();
                    heard.push(request.member.clone());
                    let why = "The group would be subscribed to more partitions, or names of topics, than it may be.";
                    let error = ErrorCode::GroupMaxSizeReached;
                    let refused = ConsumerReply::refused(error, why.to_owned());
                    out.replies.push((*token, refused));
                    if self.state.member(&request.member).is_none() {
                        out.timers.push(MemberTimer::End(request.member.clone()));
                    }
                    // Whose place it was about to take.
                    let instance = request.instance.as_deref();
                    let fixed = instance.and_then(|it| self.state.static_member(it));
                    out.timers.extend(fixed.cloned().map(MemberTimer::Session));
                }
                _ => {
                    if let GroupAsked::Remove(member) = &asked {
                        self.silent.insert(member.clone());
                    }
                    self.asked.push_front(asked);
                }
            }
        }
        for member in &heard {
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
            if turn.refresh.is_none() {
                turn.refresh = self.begin_refresh(cx, turn);
            }
            let refreshed = match &mut turn.refresh {
                Some(refresh) => refresh.go_on(cx, (&mut self.state, &mut turn.changes), left),
                None => Refreshed::Yes,
            };
            match refreshed {
                Refreshed::Partly => return Worked::Partly,
                Refreshed::TooLarge if !turn.newcomers.is_empty() => return Worked::TooLarge,
                Refreshed::TooLarge => self.keep_target(turn, out),
                Refreshed::Yes => self.is_too_large &= turn.refresh.is_none(),
            }
            turn.refresh = None;
            turn.is_refreshed = true;
            if let Some((version, since)) = turn.looks {
                let took_ms = cx.now.mono.0.saturating_sub(since.0) / 1_000_000;
                let wait_ms = (took_ms * GROUP_REGEX_REFRESH_SHARE).max(GROUP_REGEX_REFRESH_MS_MIN);
                self.looks_from = cx.now.mono.plus_ms(wait_ms);
                self.seen = Some(version);
            }
        }
        while let Some(steps) = turn.steps.pop_front() {
            *left = left.saturating_sub(16 + self.state.target(&steps.request.member).count());
            self.step(cx, steps, turn, out);
            if *left == 0 && !turn.steps.is_empty() {
                return Worked::Partly;
            }
        }
        Worked::Yes
    }

    /// There can be no target by what there is now: all go on with the one before, but for those who are gone. The
    /// epoch says that it is behind, so that there will be another one when there can be.
    fn keep_target(&mut self, turn: &mut GroupTurn, out: &mut ConsumerOut) {
        turn.changes.take_back_to(&mut self.state, turn.changed);
        (self.is_too_large, out.is_too_large) = (true, true);
        if turn.bumps {
            self.bump(turn, self.state.metadata_hash());
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
            self.is_too_large = false;
            if turn.bumps {
                self.bump(turn, 0);
            }
            return None;
        }
        let version = cx.topics.version();
        let is_new = self.seen != Some(version) && cx.now.mono >= self.looks_from;
        if is_new {
            turn.looks = Some((version, cx.now.mono));
        }
        // What was too large is so until something changes.
        let is_behind = self.state.epoch() > self.state.target_epoch() && !self.is_too_large;
        let has_to = turn.bumps || is_new || is_behind;
        has_to.then(|| Refresh::new(&self.state, turn.bumps, is_new))
    }

    /// A turn is done: what it has decided is to be written, or there was nothing.
    fn end(&mut self, cx: &ConsumerCx<'_>, turn: GroupTurn, out: &mut ConsumerOut) {
        let GroupTurn {
            asked,
            mut changes,
            mut replies,
            ..
        } = turn;
        self.asked_bytes -= asked.iter().map(GroupAsked::bytes).sum::<usize>();
        self.newcomers_max = (2 * self.newcomers_max).min(GROUP_HEARTBEATS_PER_TURN);
        if changes.is_empty() {
            return out.replies.append(&mut replies);
        }
        out.write = Some(ConsumerWrite {
            changes: changes.take_made(),
            replies,
        });
        self.phase = Phase::Writes(changes, cx.now.mono);
    }

    /// The first half of a heartbeat: who it is, and what it says.
    fn heartbeat(
        &mut self,
        cx: &ConsumerCx<'_>,
        (token, request): (u64, &Arc<ConsumerHeartbeat>),
        turn: &mut GroupTurn,
        left: &mut usize,
        out: &mut ConsumerOut,
    ) -> Result<(), ConsumerReply> {
        if request.epoch < JOINS {
            let reply = self.leave(request, turn, out)?;
            turn.replies.push((token, reply));
            return Ok(());
        }
        if request.epoch != JOINS && self.state.epoch() == 0 {
            let why = format!("Group {} not found.", request.group);
            return refuse(ErrorCode::GroupIdNotFound, why);
        }
        self.state.check_room(cx, request)?;
        if let Some(wanted) = &request.assignor
            && !cx.config.knows_assignor(wanted)
        {
            let why = format!(
                "ServerAssignor {wanted} is not supported. Supported assignors: {}.",
                cx.config.assignors.join(", ")
            );
            return refuse(ErrorCode::UnsupportedAssignor, why);
        }
        let replaces = self.state.who_is_it(request)?;
        let known = replaces.as_ref().unwrap_or(&request.member);
        let old = self.state.member(known).cloned();
        let new = request.subscription(old.as_deref());
        let changes_regex = old.as_ref().is_none_or(|old| old.regex != new.regex);
        if let Some(regex) = new.regex().filter(|_| changes_regex) {
            *left = left.saturating_sub(COMPILE_WORK);
            if TopicRegex::new(regex).is_none() {
                let why =
                    format!("SubscribedTopicRegex `{regex}` is not a valid regular expression.");
                return refuse(ErrorCode::InvalidRegularExpression, why);
            }
        }
        let names = new.topics.len() + old.as_ref().map_or(0, |old| old.topics.len());
        *left = left.saturating_sub(names / NAMES_PER_WORK);
        let grows = new
            .bytes()
            .saturating_sub(old.as_ref().map_or(0, |old| old.bytes()));
        if grows > cx.room_bytes {
            return Err(ConsumerReply::error(ErrorCode::CoordinatorNotAvailable));
        }
        if grows > 0 && self.state.members_bytes() + grows > GROUP_MEMBERS_BYTES_MAX {
            let why = "The members of the group take all the memory that they may.".to_owned();
            return refuse(ErrorCode::GroupMaxSizeReached, why);
        }
        if let Some(old) = replaces {
            self.replace(&old, &request.member, turn, out);
        }
        let member = request.member.clone();
        let is_subscribed_anew = old
            .as_ref()
            .is_none_or(|old| old.topics != new.topics || old.regex() != new.regex());
        if old.as_ref().is_none_or(|old| new.wants_more_than(old)) {
            turn.newcomers.push(token);
        }
        let is_said_anew = self.state.member(&member).is_none_or(|said| **said != new);
        if is_said_anew {
            let change = GroupChange::Member(member.clone(), Some(Arc::new(new)));
            turn.changes.make(&mut self.state, change);
        }
        turn.bumps |= is_subscribed_anew;
        out.timers.push(MemberTimer::Session(member.clone()));
        self.silent.remove(&member);
        turn.steps.push_back(MemberSteps {
            token,
            request: request.clone(),
            before: self.state.current(&member),
        });
        Ok(())
    }

    /// A static member comes back under another id, to which goes all that is its own.
    fn replace(&mut self, old: &Name, new: &Name, turn: &mut GroupTurn, out: &mut ConsumerOut) {
        let (member, target) = (self.state.member(old).cloned(), self.state.target(old));
        let current = Current {
            epoch: 0,
            previous_epoch: 0,
            ..Current::clone(&self.state.current(old))
        };
        self.forget(old, turn, out);
        let target = Some(target).filter(|target| !target.is_empty());
        let state = &mut self.state;
        turn.changes
            .make(state, GroupChange::Member(new.clone(), member));
        turn.changes
            .make(state, GroupChange::TargetOf(new.clone(), target));
        turn.changes.make(
            state,
            GroupChange::Current(new.clone(), Some(Arc::new(current))),
        );
    }

    /// Somebody leaves.
    fn leave(
        &mut self,
        request: &ConsumerHeartbeat,
        turn: &mut GroupTurn,
        out: &mut ConsumerOut,
    ) -> Result<ConsumerReply, ConsumerReply> {
        if self.state.epoch() == 0 {
            let why = format!("Group {} not found.", request.group);
            return refuse(ErrorCode::GroupIdNotFound, why);
        }
        self.state.check_instance(request)?;
        let member = request.member.clone();
        if self.state.member(&member).is_none() {
            let why = format!(
                "Member {member} is not a member of group {}.",
                request.group
            );
            return refuse(ErrorCode::UnknownMemberId, why);
        }
        match request.epoch {
            LEAVES => self.strike(&member, turn, out),
            _ => {
                let away = Current {
                    epoch: LEAVES_FOR_A_WHILE,
                    revoking: Held::default(),
                    ..Current::clone(&self.state.current(&member))
                };
                out.timers.push(MemberTimer::EndRebalance(member.clone()));
                // What it has asked before would bring it back.
                turn.answer_steps(&member);
                let change = GroupChange::Current(member.clone(), Some(Arc::new(away)));
                turn.changes.make(&mut self.state, change);
            }
        }
        Ok(ConsumerReply {
            member: Some(member),
            epoch: request.epoch,
            ..ConsumerReply::default()
        })
    }

    /// Removes a member, if it is one.
    fn strike(&mut self, member: &Name, turn: &mut GroupTurn, out: &mut ConsumerOut) {
        self.silent.remove(member);
        if self.state.member(member).is_some() {
            self.forget(member, turn, out);
            turn.bumps = true;
            // It may not be without this one.
            self.is_too_large = false;
        }
    }

    fn forget(&mut self, member: &Name, turn: &mut GroupTurn, out: &mut ConsumerOut) {
        out.timers.push(MemberTimer::End(member.clone()));
        turn.answer_steps(member);
        let changes = [
            GroupChange::Current(member.clone(), None),
            GroupChange::TargetOf(member.clone(), None),
            GroupChange::Member(member.clone(), None),
        ];
        for change in changes {
            turn.changes.make(&mut self.state, change);
        }
    }

    /// The second half of a heartbeat: the member's next step, and its answer.
    fn step(
        &mut self,
        cx: &ConsumerCx<'_>,
        steps: MemberSteps,
        turn: &mut GroupTurn,
        out: &mut ConsumerOut,
    ) {
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
                out.timers.push(match next.state {
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
    }
}
