//! JoinGroup: new members, members with an id that was handed out before, static
//! members that come back, members that join again.

use super::classic::ClassicGroup;
use super::cx::{Cx, NEW_MEMBER_JOIN_TIMEOUT_MS, StaticReply, Then, Timer};
use super::effect::JoinReply;
use super::member::{Member, Protocol, carried};
use super::records;
use super::state::State;
use crate::base::Name;
use crate::base::{ErrorCode, limits};

/// A JoinGroup, checked for what needs no group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinRequest {
    /// Group id.
    pub group: Name,
    /// Member id; empty for one who has none.
    pub member: Name,
    /// `group.instance.id`
    pub instance: Option<Name>,
    /// `client.id`
    pub client_id: Name,
    /// Where it comes from, in Kafka's form (`/10.0.0.1`).
    pub client_host: Name,
    /// ms
    pub session_timeout_ms: i32,
    /// ms
    pub rebalance_timeout_ms: i32,
    /// `consumer`, `connect`, ...
    pub protocol_type: Name,
    /// In order of preference, without duplicates.
    pub protocols: Vec<Protocol>,
    /// v4 and up: a dynamic member joins with an id that it was given before (KIP-394).
    pub needs_member_id: bool,
    /// v9 and up: the client understands that it need not compute an assignment.
    pub may_skip_assignment: bool,
}

impl JoinRequest {
    /// What it takes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let instance = self.instance.as_deref().unwrap_or("");
        let names = [&*self.member, instance, &self.client_id, &self.client_host];
        carried(names, &self.protocols)
    }
}

impl ClassicGroup {
    /// Handles a JoinGroup. `new_id` is the member id for somebody who has none.
    pub(super) fn join(&mut self, cx: &mut Cx<'_>, token: u64, request: JoinRequest, new_id: Name) {
        let refused = if !self.has_room_for(&request.member, cx.config.max_size) {
            let member = request.member.clone();
            self.remove(cx, &member);
            Some(ErrorCode::GroupMaxSizeReached)
        } else if self.state == State::Dead {
            Some(ErrorCode::CoordinatorNotAvailable)
        } else if !self.supports(&request.protocol_type, &request.protocols)
            || request.protocols.len() > limits::PROTOCOLS_PER_MEMBER_MAX
        {
            Some(ErrorCode::InconsistentGroupProtocol)
        } else if !self.has_bytes_for(&request, &new_id) {
            Some(ErrorCode::GroupMaxSizeReached)
        } else {
            None
        };
        match refused {
            Some(ErrorCode::GroupMaxSizeReached) => {
                let reply = JoinReply::error(ErrorCode::GroupMaxSizeReached, Name::from(""));
                cx.joined(token, reply);
            }
            Some(error) => cx.joined(token, JoinReply::error(error, request.member)),
            None if request.member.is_empty() => self.join_unknown(cx, token, request, new_id),
            None => self.join_known(cx, token, request),
        }
    }

    /// Whether `group.max.size` lets this one in. During a rebalance the places go to those who
    /// have joined so far.
    fn has_room_for(&self, member: &str, max_size: usize) -> bool {
        match self.state {
            State::Empty | State::Dead => true,
            State::PreparingRebalance => {
                self.member(member).is_some_and(|m| m.join.is_some())
                    || self.awaiting_join() < max_size
            }
            State::CompletingRebalance | State::Stable => {
                self.member(member).is_some() || self.size() < max_size
            }
        }
    }

    /// Whether what it carries goes into the group's record, in the place of what it had if it is a member.
    fn has_bytes_for(&self, request: &JoinRequest, new_id: &Name) -> bool {
        let replaced = request.instance.as_deref();
        let replaced = replaced.and_then(|i| self.static_member(i));
        let (id, old) = match request.member.is_empty() {
            true => (new_id, replaced),
            false => (&request.member, Some(&request.member)),
        };
        let old = old.and_then(|id| Some(id.len() + self.member(id)?.bytes()));
        let instance = request.instance.as_deref().unwrap_or("");
        let names = [&**id, instance, &request.client_id, &request.client_host];
        let bytes = self.bytes - old.unwrap_or(0) + carried(names, &request.protocols);
        bytes <= limits::GROUP_MEMBERS_BYTES_MAX
    }

    fn join_unknown(&mut self, cx: &mut Cx<'_>, token: u64, request: JoinRequest, new_id: Name) {
        let replaced = request
            .instance
            .as_ref()
            .and_then(|i| self.static_member(i))
            .cloned();
        match replaced {
            Some(old) => self.replace_static(cx, token, request, &old, new_id),
            None if request.instance.is_some() || !request.needs_member_id => {
                self.add(cx, token, request, new_id);
            }
            None if self.pending_join.len() >= limits::GROUP_PENDING_MEMBERS_MAX => {
                let reply = JoinReply::error(ErrorCode::GroupMaxSizeReached, Name::from(""));
                cx.joined(token, reply);
            }
            None => {
                self.hand_out(new_id.clone());
                let session_ms = u64::try_from(request.session_timeout_ms).unwrap_or(0);
                cx.after(Timer::Session(self.id.clone(), new_id.clone()), session_ms);
                cx.joined(token, JoinReply::error(ErrorCode::MemberIdRequired, new_id));
            }
        }
    }

    fn join_known(&mut self, cx: &mut Cx<'_>, token: u64, request: JoinRequest) {
        let id = request.member.clone();
        if self.pending_join.contains(&id) {
            if request.instance.is_some() {
                // Ids are handed out to dynamic members only. Kafka fails here as well.
                return cx.joined(token, JoinReply::error(ErrorCode::UnknownServerError, id));
            }
            return self.add(cx, token, request, id);
        }
        if let Err(error) = self.check_member(&id, request.instance.as_deref()) {
            return cx.joined(token, JoinReply::error(error, id));
        }
        let same = self
            .member(&id)
            .is_some_and(|m| m.protocols == request.protocols);
        match self.state {
            State::PreparingRebalance => self.update(cx, token, request),
            // It did not get the answer to its join, or asks again; nothing has changed.
            State::CompletingRebalance if same => cx.joined(token, self.current_join_reply(&id)),
            State::CompletingRebalance => self.update(cx, token, request),
            // A leader joins again to have the assignment made anew.
            State::Stable if self.is_leader(&id) || !same => self.update(cx, token, request),
            State::Stable => cx.joined(token, self.current_join_reply(&id)),
            State::Empty | State::Dead => {
                cx.joined(token, JoinReply::error(ErrorCode::UnknownMemberId, id));
            }
        }
    }

    /// A member joins again, perhaps with other protocols: a rebalance.
    fn update(&mut self, cx: &mut Cx<'_>, token: u64, request: JoinRequest) {
        let id = request.member.clone();
        self.set_request(cx, token, &id, request);
        self.rebalance_or_complete(cx);
    }

    fn set_request(&mut self, cx: &mut Cx<'_>, token: u64, id: &Name, request: JoinRequest) {
        self.update_protocols(id, request.protocols);
        if let Some(member) = self.member_mut(id) {
            member.rebalance_timeout_ms = request.rebalance_timeout_ms;
            member.session_timeout_ms = request.session_timeout_ms;
        }
        self.park_join(cx, id, token);
    }

    fn add(&mut self, cx: &mut Cx<'_>, token: u64, request: JoinRequest, id: Name) {
        if self.size() == 0 {
            self.set_protocol_type(request.protocol_type);
        }
        let member = Member {
            instance: request.instance,
            client_id: request.client_id,
            client_host: request.client_host,
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            session_timeout_ms: request.session_timeout_ms,
            protocols: request.protocols,
            assignment: bytes::Bytes::new(),
            is_new: true,
            join: Some(token),
            sync: None,
            joined: false,
            synced: None,
        };
        self.insert(id.clone(), member);
        self.new_member_added |= self.initial && self.state == State::PreparingRebalance;
        cx.after(
            Timer::Session(self.id.clone(), id),
            NEW_MEMBER_JOIN_TIMEOUT_MS,
        );
        self.rebalance_or_complete(cx);
    }

    /// A static member came back without its member id: it gets a new one, and the old one is
    /// fenced. If the group is stable and the protocol stays the same there is no rebalance:
    /// it goes on with the assignment it had.
    fn replace_static(
        &mut self,
        cx: &mut Cx<'_>,
        token: u64,
        request: JoinRequest,
        old: &Name,
        new: Name,
    ) {
        let old_leader = self.leader().cloned().unwrap_or_else(|| Name::from(""));
        let may_skip = request.may_skip_assignment;
        self.rename(cx, old, new.clone());
        self.set_request(cx, token, &new, request);
        self.touch(cx, &new);
        match self.state {
            State::Stable if self.vote() == self.protocol => {
                let reply = StaticReply {
                    generation: self.generation,
                    may_skip,
                    old_leader,
                };
                let value = records::group_value(&self.to_value(|_, m| m.assignment.clone()));
                let record = (records::group_key(&self.id), Some(value));
                let then = Then::StaticMember(new, reply);
                cx.append(&self.id.clone(), vec![record], then);
            }
            State::Stable | State::CompletingRebalance => self.prepare_rebalance(cx),
            State::PreparingRebalance => self.complete_join_if_all_joined(cx),
            // No members in these states, hence no static ones.
            State::Empty | State::Dead => {}
        }
    }

    /// The new id of a static member is durable, or not. Not: the client is told so and joins
    /// again without an id, which replaces the one that nobody got to know.
    pub(super) fn static_member_stored(
        &mut self,
        cx: &mut Cx<'_>,
        member: &Name,
        reply: &StaticReply,
        error: ErrorCode,
    ) {
        if self.state != State::Stable || self.generation != reply.generation {
            // A rebalance began meanwhile; the join is part of it and is answered with it.
            return;
        }
        self.touch(cx, member);
        if !error.is_none() {
            self.answer_join(cx, member, JoinReply::error(error, Name::from("")));
            return;
        }
        let leads = self.is_leader(member);
        let mut answer = match reply.may_skip {
            true => self.current_join_reply(member),
            false => self.join_reply(member, reply.old_leader.clone(), false),
        };
        answer.skip_assignment = reply.may_skip && leads;
        self.answer_join(cx, member, answer);
    }
}
