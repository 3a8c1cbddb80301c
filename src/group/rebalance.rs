//! From generation to generation: the join phase and its timers, SyncGroup and the
//! assignment, heartbeats, members that leave or fall silent.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::classic::ClassicGroup;
use super::cx::{Cx, Then, Timer};
use super::effect::{News, SyncReply};
use super::state::State;
use crate::base::Name;
use crate::base::{ErrorCode, limits};

/// A SyncGroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncRequest {
    /// Group id.
    pub group: Name,
    /// Member id.
    pub member: Name,
    /// `group.instance.id`
    pub instance: Option<Name>,
    /// The generation that the member joined.
    pub generation: i32,
    /// If given, it must be the group's.
    pub protocol_type: Option<Name>,
    /// If given, it must be the generation's.
    pub protocol: Option<Name>,
    /// From the leader: who gets what.
    pub assignments: Vec<(Name, Bytes)>,
}

/// Somebody who leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaving {
    /// Member id; may be empty if the instance is given (removal by an administrator).
    pub member: Name,
    /// `group.instance.id`
    pub instance: Option<Name>,
}

impl ClassicGroup {
    /// Something changed that needs a new generation, or may complete the one being prepared.
    pub(super) fn rebalance_or_complete(&mut self, cx: &mut Cx<'_>) {
        match self.state {
            State::Empty | State::CompletingRebalance | State::Stable => self.prepare_rebalance(cx),
            State::PreparingRebalance => self.complete_join_if_all_joined(cx),
            State::Dead => {}
        }
    }

    /// Starts the join phase.
    pub(super) fn prepare_rebalance(&mut self, cx: &mut Cx<'_>) {
        let was_completing = self.state == State::CompletingRebalance;
        if was_completing {
            self.decide_syncs(ErrorCode::RebalanceInProgress, BTreeMap::new());
        }
        self.storing = false;
        self.evicting = false;
        self.pending_sync.clear();
        self.subscribed.end();
        cx.timers.cancel(&Timer::Sync(self.id.clone()));
        self.become_state(State::PreparingRebalance, cx.now.wall_ms);
        let generation = self.generation;
        cx.tell(&self.id, News::Rebalances { generation });
        if was_completing {
            self.begin_telling(cx);
        }
        if self.initial {
            // The first members of a group tend to come together: wait for the others, so that
            // there is one rebalance and not one for each.
            let delay = cx.config.initial_rebalance_delay_ms;
            self.initial_left_ms = (self.rebalance_timeout_ms().saturating_sub(delay), delay);
            cx.after(Timer::Join(self.id.clone()), delay);
        } else if self.all_joined() {
            self.complete_join(cx);
        } else {
            cx.after(Timer::Join(self.id.clone()), self.rebalance_timeout_ms());
        }
    }

    /// Ends the join phase early if nobody is missing, but never the initial delay.
    pub(super) fn complete_join_if_all_joined(&mut self, cx: &mut Cx<'_>) {
        if self.state == State::PreparingRebalance && !self.initial && self.all_joined() {
            self.complete_join(cx);
        }
    }

    /// The timer of the join phase fired.
    pub(super) fn join_time_is_up(&mut self, cx: &mut Cx<'_>) {
        if self.state != State::PreparingRebalance {
            return;
        }
        if self.untold_joins > 0 {
            // Not everybody has had a chance to join again.
            return cx.after(Timer::Join(self.id.clone()), self.rebalance_timeout_ms());
        }
        let (left, delay) = self.initial_left_ms;
        if self.initial && self.new_member_added && left != 0 {
            self.new_member_added = false;
            let next = cx.config.initial_rebalance_delay_ms.min(left);
            self.initial_left_ms = (left.saturating_sub(delay), next);
            cx.after(Timer::Join(self.id.clone()), next);
        } else {
            self.complete_join(cx);
        }
    }

    /// Ends the join phase: who has not joined is out (static members keep their place until
    /// their session ends), the others form the next generation.
    fn complete_join(&mut self, cx: &mut Cx<'_>) {
        cx.timers.cancel(&Timer::Join(self.id.clone()));
        let members = self.members();
        let absent = members.filter(|(_, m)| m.join.is_none() && m.instance.is_none());
        let absent = absent.map(|(id, _)| id.clone()).collect();
        if !self.remove_some(cx, absent) {
            // Who joins meanwhile is in.
            return cx.after(Timer::Join(self.id.clone()), 0);
        }
        if self.size() == 0 {
            return self.become_empty(cx);
        }
        if !self.elect_joined_leader() {
            // Only static members, none of which has joined: give them another round.
            let round_ms = self.rebalance_timeout_ms().max(limits::GROUP_ROUND_MS_MIN);
            return cx.after(Timer::Join(self.id.clone()), round_ms);
        }
        self.next_generation();
        self.choose_protocol(cx);
        self.become_state(State::CompletingRebalance, cx.now.wall_ms);
        self.pending_sync = self.members.keys().cloned().collect();
        self.decide_joins();
        cx.after(Timer::Sync(self.id.clone()), self.rebalance_timeout_ms());
        self.begin_telling(cx);
    }

    /// Removes members, as many as go into a slice. Returns whether these were all.
    fn remove_some(&mut self, cx: &mut Cx<'_>, members: Vec<Name>) -> bool {
        for id in members.iter().take(cx.config.told_at_a_time) {
            self.remove(cx, id);
        }
        members.len() <= cx.config.told_at_a_time
    }

    fn next_generation(&mut self) {
        self.generation = self.generation.checked_add(1).unwrap_or(0);
        self.storing = false;
        self.pending_sync.clear();
    }

    fn become_empty(&mut self, cx: &mut Cx<'_>) {
        self.next_generation();
        self.choose_protocol(cx);
        self.become_state(State::Empty, cx.now.wall_ms);
        cx.tell(&self.id, News::Empty);
        self.write_metadata(cx);
    }

    /// Handles a SyncGroup.
    pub(super) fn sync(&mut self, cx: &mut Cx<'_>, token: u64, request: SyncRequest) {
        if let Err(error) = self.check_sync(&request) {
            return cx.synced(token, SyncReply::error(error));
        }
        let id = &request.member;
        match self.state {
            State::Empty => cx.synced(token, SyncReply::error(ErrorCode::UnknownMemberId)),
            State::Dead => cx.synced(token, SyncReply::error(ErrorCode::CoordinatorNotAvailable)),
            State::PreparingRebalance => {
                cx.synced(token, SyncReply::error(ErrorCode::RebalanceInProgress));
            }
            State::CompletingRebalance => {
                self.park_sync(cx, id, token);
                self.has_synced(cx, id);
                if self.is_leader(id) && !self.storing && !self.evicting {
                    self.store_assignment(cx, request);
                }
            }
            State::Stable => {
                self.has_synced(cx, id);
                let assignment = self.member(id).map(|m| m.assignment.clone());
                cx.synced(token, self.sync_reply(assignment.unwrap_or_default()));
            }
        }
    }

    fn check_sync(&self, request: &SyncRequest) -> Result<(), ErrorCode> {
        if self.state == State::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        self.check_member(&request.member, request.instance.as_deref())?;
        if request.generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        let differs = |theirs: &Option<Name>, ours: Option<&Name>| {
            theirs.is_some() && theirs.as_ref() != ours
        };
        if differs(&request.protocol_type, self.protocol_type())
            || differs(&request.protocol, self.protocol())
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        Ok(())
    }

    fn has_synced(&mut self, cx: &mut Cx<'_>, member: &Name) {
        self.pending_sync.remove(member);
        if self.pending_sync.is_empty() && !self.evicting {
            cx.timers.cancel(&Timer::Sync(self.id.clone()));
        }
    }

    pub(super) fn sync_reply(&self, assignment: Bytes) -> SyncReply {
        SyncReply {
            error: ErrorCode::None,
            protocol_type: self.protocol_type().cloned(),
            protocol: self.protocol().cloned(),
            assignment,
        }
    }

    /// The leader's assignment came: it counts when it is durable.
    fn store_assignment(&mut self, cx: &mut Cx<'_>, request: SyncRequest) {
        let mut assignments: BTreeMap<Name, Bytes> = request.assignments.into_iter().collect();
        let mut members = self.members.keys().peekable();
        assignments.retain(|id, _| {
            while members.next_if(|member| *member < id).is_some() {}
            members.next_if(|member| *member == id).is_some()
        });
        self.storing = true;
        let record = self.metadata_record(&assignments);
        let then = Then::Assign(self.generation, assignments);
        cx.append(&self.id, vec![record], then);
    }

    /// The assignment of `generation` is durable, or not.
    pub(super) fn assignment_stored(
        &mut self,
        cx: &mut Cx<'_>,
        generation: i32,
        assignments: BTreeMap<Name, Bytes>,
        error: ErrorCode,
    ) {
        if self.state != State::CompletingRebalance || generation != self.generation {
            // A rebalance began meanwhile and has answered everybody.
            return;
        }
        self.storing = false;
        if error.is_none() {
            self.decide_syncs(ErrorCode::None, assignments);
            self.become_state(State::Stable, cx.now.wall_ms);
            let news = News::Stable {
                generation,
                members: self.size(),
            };
            cx.tell(&self.id, news);
            self.begin_telling(cx);
        } else {
            self.decide_syncs(error, BTreeMap::new());
            self.rebalance_or_complete(cx);
        }
    }

    /// The timer of the sync phase fired: who has not synced is out.
    pub(super) fn sync_time_is_up(&mut self, cx: &mut Cx<'_>) {
        match self.state {
            State::CompletingRebalance | State::Stable if self.untold_joins > 0 => {
                // Not everybody has had a chance to.
                cx.after(Timer::Sync(self.id.clone()), self.rebalance_timeout_ms());
            }
            State::CompletingRebalance | State::Stable
                if self.evicting || !self.pending_sync.is_empty() =>
            {
                let silent = self.pending_sync.iter().cloned().collect();
                self.evicting = !self.remove_some(cx, silent);
                match self.evicting {
                    // Who syncs meanwhile stays, but there is a rebalance all the same.
                    true => cx.after(Timer::Sync(self.id.clone()), 0),
                    false => self.prepare_rebalance(cx),
                }
            }
            State::CompletingRebalance
            | State::Stable
            | State::Empty
            | State::PreparingRebalance
            | State::Dead => {}
        }
    }

    /// A sign of life.
    pub(super) fn heartbeat(
        &mut self,
        cx: &mut Cx<'_>,
        member: &Name,
        instance: Option<&str>,
        generation: i32,
    ) -> ErrorCode {
        if self.state == State::Dead {
            return ErrorCode::CoordinatorNotAvailable;
        }
        if let Err(error) = self.check_member(member, instance) {
            return error;
        }
        if generation != self.generation {
            return ErrorCode::IllegalGeneration;
        }
        match self.state {
            State::Empty | State::Dead => ErrorCode::UnknownMemberId,
            State::PreparingRebalance => {
                self.touch(cx, member);
                ErrorCode::RebalanceInProgress
            }
            State::CompletingRebalance | State::Stable => {
                self.touch(cx, member);
                ErrorCode::None
            }
        }
    }

    /// Nothing was heard of a member, or of the owner of an id that was handed out.
    pub(super) fn session_is_over(&mut self, cx: &mut Cx<'_>, id: &Name) {
        if self.not_pending(id) {
            self.complete_join_without(cx);
        } else if self
            .member(id)
            .is_some_and(|m| !m.has_satisfied_heartbeat())
        {
            self.remove(cx, id);
            match self.state {
                State::Stable | State::CompletingRebalance => self.prepare_rebalance(cx),
                State::PreparingRebalance => self.complete_join_without(cx),
                State::Empty | State::Dead => {}
            }
        }
    }

    /// Somebody who was waited for is gone. Unlike a join, this may end the initial delay.
    fn complete_join_without(&mut self, cx: &mut Cx<'_>) {
        if self.state == State::PreparingRebalance && self.all_joined() {
            self.complete_join(cx);
        }
    }

    /// Members leave; one error code for each.
    pub(super) fn leave(
        &mut self,
        cx: &mut Cx<'_>,
        leaving: &[Leaving],
    ) -> Result<Vec<ErrorCode>, ErrorCode> {
        if self.state == State::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        let errors: Vec<ErrorCode> = leaving.iter().map(|l| self.leave_one(cx, l)).collect();
        if errors.iter().any(|e| e.is_none()) {
            match self.state {
                State::Stable | State::CompletingRebalance => self.prepare_rebalance(cx),
                State::PreparingRebalance => self.complete_join_if_all_joined(cx),
                State::Empty | State::Dead => {}
            }
        }
        Ok(errors)
    }

    fn leave_one(&mut self, cx: &mut Cx<'_>, leaving: &Leaving) -> ErrorCode {
        let instance = leaving.instance.as_deref();
        if leaving.member.is_empty() {
            let Some(id) = instance.and_then(|i| self.static_member(i)).cloned() else {
                return ErrorCode::UnknownMemberId;
            };
            self.remove(cx, &id);
            return ErrorCode::None;
        }
        if !self.pending_join.contains(&leaving.member)
            && let Err(error) = self.check_member(&leaving.member, instance)
        {
            return error;
        }
        self.remove(cx, &leaving.member);
        ErrorCode::None
    }

    /// Whether this member may commit offsets now. In a transaction neither the state counts nor, as long as the
    /// request names no member, who is one: its versions before 3 have no place for that.
    pub(super) fn check_commit(
        &self,
        member: &str,
        instance: Option<&str>,
        generation: i32,
        in_transaction: bool,
    ) -> Result<(), ErrorCode> {
        match self.state {
            State::Dead => return Err(ErrorCode::CoordinatorNotAvailable),
            // Consumers that assign themselves, and tools.
            State::Empty if generation < 0 => return Ok(()),
            State::Empty
            | State::PreparingRebalance
            | State::CompletingRebalance
            | State::Stable => {}
        }
        if generation < 0 && member.is_empty() && instance.is_none() {
            return match in_transaction {
                true => Ok(()),
                false => Err(ErrorCode::UnknownMemberId),
            };
        }
        self.check_member(member, instance)?;
        if generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        match self.state {
            State::CompletingRebalance if !in_transaction => Err(ErrorCode::RebalanceInProgress),
            State::Empty
            | State::PreparingRebalance
            | State::CompletingRebalance
            | State::Stable
            | State::Dead => Ok(()),
        }
    }
}
