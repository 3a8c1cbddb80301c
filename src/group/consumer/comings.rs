//! Who comes to be a member of a group, says something else than before, or goes.

use std::sync::Arc;

use super::change::GroupChange;
use super::cx::{ConsumerCx, ConsumerOut, MemberTimer};
use super::fences::refuse;
use super::group::ConsumerGroup;
use super::heartbeat::{ConsumerHeartbeat, ConsumerReply, JOINS, LEAVES, LEAVES_FOR_A_WHILE};
use super::member::{Current, Subscription};
use super::partitions::Held;
use super::topics::TopicRegex;
use super::turn::{GroupTurn, MemberSteps};
use crate::base::limits::GROUP_MEMBERS_BYTES_MAX;
use crate::base::{ErrorCode, Name};

/// Names of topics that are compared in the time that a partition takes.
const NAMES_PER_WORK: usize = 8;

impl ConsumerGroup {
    /// What is known of who sends a heartbeat: of itself, or of the static member whose place it takes.
    fn known(&self, request: &ConsumerHeartbeat) -> Option<&Arc<Subscription>> {
        let joins = request.epoch == JOINS;
        let instance = request.instance.as_deref().filter(|_| joins);
        let fixed = instance.and_then(|it| self.state.static_member(it));
        self.state.member(fixed.unwrap_or(&request.member))
    }

    /// Whether a regular expression has to be compiled for it.
    pub(super) fn compiles(&self, request: &ConsumerHeartbeat) -> bool {
        let regex = request.regex.as_ref().filter(|regex| !regex.is_empty());
        let known = self.known(request).and_then(|known| known.regex());
        request.epoch >= JOINS && regex.is_some() && regex != known
    }

    /// Whether the group comes to be subscribed to more with it, perhaps.
    pub(super) fn brings_more(&self, request: &ConsumerHeartbeat, left: &mut usize) -> bool {
        let known = self.known(request);
        let says_so = request.topics.is_some() || request.regex.is_some();
        match known {
            _ if request.epoch < JOINS => false,
            None => request.epoch == JOINS,
            Some(known) if says_so => {
                let new = request.subscription(Some(known));
                *left =
                    left.saturating_sub((new.topics.len() + known.topics.len()) / NAMES_PER_WORK);
                new.wants_more_than(known)
            }
            Some(_) => false,
        }
    }

    /// Who joins is not in its own way, nor is the static member whose place it takes, if their sessions are over.
    pub(super) fn make_way(&mut self, request: &ConsumerHeartbeat, turn: &mut GroupTurn) {
        if request.epoch != JOINS {
            return;
        }
        let instance = request.instance.as_deref();
        let fixed = instance
            .and_then(|it| self.state.static_member(it))
            .cloned();
        for member in [Some(&request.member), fixed.as_ref()] {
            if let Some(member) = member.and_then(|it| turn.silent.take(it)) {
                self.strike(&member, turn);
            }
        }
    }

    /// The first half of a heartbeat: who it is, and what it says.
    pub(super) fn heartbeat(
        &mut self,
        cx: &ConsumerCx<'_>,
        (token, request): (u64, &Arc<ConsumerHeartbeat>),
        turn: &mut GroupTurn,
        left: &mut usize,
        out: &mut ConsumerOut,
    ) -> Result<(), ConsumerReply> {
        if request.epoch < JOINS {
            let reply = self.leave(request, turn)?;
            turn.replies.push((token, reply));
            return Ok(());
        }
        if request.epoch != JOINS && self.state.is_blank() {
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
            *left = 0;
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
            self.replace(&old, &request.member, turn);
        }
        let member = request.member.clone();
        // Who joins and wants nothing changes nothing.
        let nothing = Subscription::default();
        let before = old.as_deref().unwrap_or(&nothing);
        let is_subscribed_anew = before.topics != new.topics || before.regex() != new.regex();
        if old.is_none() || new.wants_more_than(before) {
            turn.newcomers.push(token);
        }
        if is_subscribed_anew && before.wants_more_than(&new) {
            turn.narrows.push(member.clone());
            // It may not be with less.
            self.is_too_large = None;
        }
        let is_said_anew = self.state.member(&member).is_none_or(|said| **said != new);
        if is_said_anew {
            let change = GroupChange::Member(member.clone(), Some(Arc::new(new)));
            turn.changes.make(&mut self.state, change);
        }
        turn.bumps |= is_subscribed_anew;
        out.timers.push(MemberTimer::Session(member.clone()));
        self.silent.remove(&member);
        self.heard.insert(member.clone());
        turn.steps.push_back(MemberSteps {
            token,
            request: request.clone(),
            before: self.state.current(&member),
        });
        Ok(())
    }

    /// A static member comes back under another id, to which goes all that is its own.
    pub(super) fn replace(&mut self, old: &Name, new: &Name, turn: &mut GroupTurn) {
        let (member, target) = (self.state.member(old).cloned(), self.state.target(old));
        let current = Current {
            epoch: 0,
            previous_epoch: 0,
            ..Current::clone(&self.state.current(old))
        };
        self.forget(old, turn);
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
    pub(super) fn leave(
        &mut self,
        request: &ConsumerHeartbeat,
        turn: &mut GroupTurn,
    ) -> Result<ConsumerReply, ConsumerReply> {
        if self.state.is_blank() {
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
            LEAVES => self.strike(&member, turn),
            _ => {
                let away = Current {
                    epoch: LEAVES_FOR_A_WHILE,
                    revoking: Held::default(),
                    ..Current::clone(&self.state.current(&member))
                };
                turn.timers.push(MemberTimer::EndRebalance(member.clone()));
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
    pub(super) fn strike(&mut self, member: &Name, turn: &mut GroupTurn) {
        self.silent.remove(member);
        if self.state.member(member).is_some() {
            self.forget(member, turn);
            turn.bumps = true;
            // It may not be without this one.
            self.is_too_large = None;
        }
    }

    pub(super) fn forget(&mut self, member: &Name, turn: &mut GroupTurn) {
        turn.timers.push(MemberTimer::End(member.clone()));
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
}
