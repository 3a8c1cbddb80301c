//! One classic consumer group: its state, its members and the books kept about
//! them. What happens when somebody joins is in `join.rs`, how a generation ends
//! and the next one begins in `rebalance.rs`.

use std::collections::{BTreeMap, BTreeSet};

use super::cx::{Cx, Timer};
use super::effect::{JoinReply, JoinedMember, SyncReply};
use super::member::{Member, Protocol};
use super::state::State;
use super::subscribed::Subscribed;
use crate::base::ErrorCode;
use crate::base::Name;

/// The protocol type of consumers, whose metadata the coordinator may look into.
pub const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

/// What a member id that was handed out takes, about.
pub(super) fn id_bytes(id: &str) -> usize {
    const EACH_BYTES: usize = 256;
    EACH_BYTES + id.len()
}

/// A classic group. Tables are ordered so that the same events give the same answers.
#[derive(Debug)]
pub struct ClassicGroup {
    pub(super) id: Name,
    pub(super) state: State,
    pub(super) state_since_ms: Option<i64>,
    pub(super) generation: i32,
    pub(super) protocol_type: Option<Name>,
    pub(super) protocol: Option<Name>,
    pub(super) leader: Option<Name>,
    pub(super) members: BTreeMap<Name, Member>,
    pub(super) statics: BTreeMap<Name, Name>,
    /// How many members support each protocol; no zeroes.
    pub(super) supported: BTreeMap<Name, usize>,
    /// Members whose JoinGroup waits.
    pub(super) awaiting_join: usize,
    /// Member ids handed out whose owner has not joined yet.
    pub(super) pending_join: BTreeSet<Name>,
    /// Members of this generation that have not synced.
    pub(super) pending_sync: BTreeSet<Name>,
    /// The time to sync is over: those who have not synced are being removed, and a rebalance follows.
    pub(super) evicting: bool,
    pub(super) subscribed: Subscribed,
    /// In PreparingRebalance: it was Empty before, so the initial delay applies.
    pub(super) initial: bool,
    /// Somebody joined during the initial delay.
    pub(super) new_member_added: bool,
    /// What is left of the time by which the initial delay may be extended, ms, and the last delay.
    pub(super) initial_left_ms: (u64, u64),
    /// The leader's assignment of this generation is being written.
    pub(super) storing: bool,
    /// What the members take, and the member ids that were handed out.
    pub(super) bytes: usize,
    /// How many members are still to be told what is decided,
    pub(super) untold: usize,
    /// how many of them are to be told of the generation,
    pub(super) untold_joins: usize,
    /// and the last one that was; they are behind it.
    pub(super) told_to: Option<Name>,
}

impl ClassicGroup {
    pub(super) fn new(id: Name, since_ms: Option<i64>) -> Self {
        Self {
            id,
            state: State::Empty,
            state_since_ms: since_ms,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            statics: BTreeMap::new(),
            supported: BTreeMap::new(),
            awaiting_join: 0,
            pending_join: BTreeSet::new(),
            pending_sync: BTreeSet::new(),
            evicting: false,
            subscribed: Subscribed::Unknown,
            initial: false,
            new_member_added: false,
            initial_left_ms: (0, 0),
            storing: false,
            bytes: 0,
            untold: 0,
            untold_joins: 0,
            told_to: None,
        }
    }

    /// Group id.
    #[must_use]
    pub fn id(&self) -> &Name {
        &self.id
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Since when, wall clock ms, if known.
    #[must_use]
    pub fn state_since_ms(&self) -> Option<i64> {
        self.state_since_ms
    }

    /// The current generation.
    #[must_use]
    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// `consumer` for consumers, `connect` for Connect workers, `None` if nobody ever joined.
    #[must_use]
    pub fn protocol_type(&self) -> Option<&Name> {
        self.protocol_type.as_ref()
    }

    /// The protocol chosen for this generation.
    #[must_use]
    pub fn protocol(&self) -> Option<&Name> {
        self.protocol.as_ref()
    }

    /// Member id of the leader.
    #[must_use]
    pub fn leader(&self) -> Option<&Name> {
        self.leader.as_ref()
    }

    /// The members by id.
    pub fn members(&self) -> impl ExactSizeIterator<Item = (&Name, &Member)> {
        self.members.iter()
    }

    /// Whether its consumers may be subscribed to the topic; yes if that cannot be known.
    #[must_use]
    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        match &self.subscribed {
            Subscribed::Known(topics) => topics.contains(topic),
            Subscribed::Unknown | Subscribed::Looking(_) => self.is_consumer(),
        }
    }

    pub(super) fn knows_subscription(&self) -> bool {
        self.is_consumer() && matches!(self.subscribed, Subscribed::Known(_))
    }

    pub(super) fn is_consumer(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER_PROTOCOL_TYPE)
    }

    pub(super) fn size(&self) -> usize {
        self.members.len()
    }

    pub(super) fn member(&self, id: &str) -> Option<&Member> {
        self.members.get(id)
    }

    pub(super) fn member_mut(&mut self, id: &str) -> Option<&mut Member> {
        self.members.get_mut(id)
    }

    pub(super) fn member_ids(&self) -> Vec<Name> {
        self.members.keys().cloned().collect()
    }

    pub(super) fn static_member(&self, instance: &str) -> Option<&Name> {
        self.statics.get(instance)
    }

    pub(super) fn is_leader(&self, id: &str) -> bool {
        self.leader.as_deref() == Some(id)
    }

    pub(super) fn awaiting_join(&self) -> usize {
        self.awaiting_join
    }

    /// Whether nobody is missing. Who is still to be told of this generation has not joined the next one.
    pub(super) fn all_joined(&self) -> bool {
        self.untold_joins == 0
            && self.members.len() == self.awaiting_join
            && self.pending_join.is_empty()
    }

    /// The longest of the members' rebalance timeouts, ms.
    pub(super) fn rebalance_timeout_ms(&self) -> u64 {
        let longest = self.members.values().map(|m| m.rebalance_timeout_ms).max();
        u64::try_from(longest.unwrap_or(0)).unwrap_or(0)
    }

    pub(super) fn become_state(&mut self, next: State, now_ms: i64) {
        assert!(
            self.state.may_become(next),
            "group {} cannot go from {:?} to {next:?}",
            self.id,
            self.state
        );
        self.initial = self.state == State::Empty && next == State::PreparingRebalance;
        self.new_member_added = false;
        self.state = next;
        self.state_since_ms = Some(now_ms);
    }

    /// UNKNOWN_MEMBER_ID or FENCED_INSTANCE_ID if the request is not from a current member.
    pub(super) fn check_member(
        &self,
        member: &str,
        instance: Option<&str>,
    ) -> Result<(), ErrorCode> {
        if let Some(instance) = instance {
            match self.statics.get(instance) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(current) if **current != *member => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        match self.members.contains_key(member) {
            true => Ok(()),
            false => Err(ErrorCode::UnknownMemberId),
        }
    }

    /// Whether somebody with these protocols could be a member: one of them is known to everybody.
    pub(super) fn supports(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        if self.state == State::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols
                .iter()
                .any(|p| self.supporters(&p.name) == self.members.len())
    }

    pub(super) fn supporters(&self, protocol: &str) -> usize {
        self.supported.get(protocol).copied().unwrap_or(0)
    }

    /// The protocol with the most votes among those that all support. Each member votes for the
    /// first one of its list. Ties go to the earliest in the leader's list.
    pub(super) fn vote(&self) -> Option<Name> {
        let everybody = self.members.len();
        let all = self.supported.iter().filter(|(_, of)| **of == everybody);
        let of_all: BTreeSet<&Name> = all.map(|(name, _)| name).collect();
        if of_all.len() == 1 {
            return of_all.into_iter().next().cloned();
        }
        let mut votes: BTreeMap<&Name, usize> = BTreeMap::new();
        for member in self.members.values() {
            let mut protocols = member.protocols.iter();
            let choice = protocols.find(|p| of_all.contains(&p.name));
            *votes.entry(&choice?.name).or_default() += 1;
        }
        let leader = self.leader.as_ref().and_then(|id| self.members.get(id))?;
        let mut best: Option<(&Name, usize)> = None;
        for protocol in &leader.protocols {
            let count = votes.get(&protocol.name).copied().unwrap_or(0);
            if count > best.map_or(0, |(_, most)| most) {
                best = Some((&protocol.name, count));
            }
        }
        best.map(|(name, _)| name.clone())
    }

    /// Enters a member in all books. The first one sets the protocol type and leads.
    pub(super) fn insert(&mut self, id: Name, member: Member) {
        if let Some(instance) = &member.instance {
            self.statics.insert(instance.clone(), id.clone());
        }
        self.leader.get_or_insert_with(|| id.clone());
        self.count_protocols(&member.protocols, true);
        self.awaiting_join += usize::from(member.join.is_some());
        self.not_pending(&id);
        self.bytes += id.len() + member.bytes();
        let old = self.members.insert(id, member);
        assert!(old.is_none(), "a member is entered once");
    }

    /// Remembers a member id that is handed out.
    pub(super) fn hand_out(&mut self, id: Name) {
        self.bytes += id_bytes(&id);
        self.pending_join.insert(id);
    }

    /// The owner of an id that was handed out has joined, or is not waited for any more; false if there is none.
    pub(super) fn not_pending(&mut self, id: &str) -> bool {
        let was = self.pending_join.remove(id);
        self.bytes -= if was { id_bytes(id) } else { 0 };
        was
    }

    pub(super) fn set_protocol_type(&mut self, protocol_type: Name) {
        self.protocol_type = Some(protocol_type);
    }

    /// Strikes a member, or an id handed out, from all books. What it waits for is answered with
    /// UNKNOWN_MEMBER_ID, so that a client that is still there starts over.
    pub(super) fn remove(&mut self, cx: &mut Cx<'_>, id: &Name) -> Option<Member> {
        self.answer_join(
            cx,
            id,
            JoinReply::error(ErrorCode::UnknownMemberId, Name::from("")),
        );
        self.answer_sync(cx, id, SyncReply::error(ErrorCode::UnknownMemberId));
        cx.timers
            .cancel(&Timer::Session(self.id.clone(), id.clone()));
        self.not_pending(id);
        self.pending_sync.remove(id);
        let member = self.members.remove(id)?;
        self.bytes -= id.len() + member.bytes();
        self.count_protocols(&member.protocols, false);
        if let Some(instance) = &member.instance {
            self.statics.remove(instance);
        }
        if self.is_leader(id) {
            self.leader = None;
            self.choose_leader_if_none();
        }
        Some(member)
    }

    /// Gives a static member's place to a new member id.
    pub(super) fn rename(&mut self, cx: &mut Cx<'_>, old: &Name, new: Name) {
        self.answer_join(
            cx,
            old,
            JoinReply::error(ErrorCode::FencedInstanceId, old.clone()),
        );
        self.answer_sync(cx, old, SyncReply::error(ErrorCode::FencedInstanceId));
        cx.timers
            .cancel(&Timer::Session(self.id.clone(), old.clone()));
        let Some(member) = self.members.remove(old) else {
            return;
        };
        self.bytes = self.bytes + new.len() - old.len();
        if self.is_leader(old) {
            self.leader = Some(new.clone());
        }
        if self.pending_sync.remove(old) {
            self.pending_sync.insert(new.clone());
        }
        self.subscribed.start_over();
        if let Some(instance) = &member.instance {
            self.statics.insert(instance.clone(), new.clone());
        }
        self.members.insert(new, member);
    }

    pub(super) fn update_protocols(&mut self, id: &str, protocols: Vec<Protocol>) {
        if let Some(member) = self.members.get_mut(id) {
            let before = member.bytes();
            let old = std::mem::replace(&mut member.protocols, protocols);
            self.bytes = self.bytes + member.bytes() - before;
            let new = member.protocols.clone();
            self.count_protocols(&old, false);
            self.count_protocols(&new, true);
        }
    }

    fn count_protocols(&mut self, protocols: &[Protocol], add: bool) {
        for protocol in protocols {
            let count = self.supported.entry(protocol.name.clone()).or_default();
            *count = if add {
                *count + 1
            } else {
                count.saturating_sub(1)
            };
            if *count == 0 {
                self.supported.remove(&protocol.name);
            }
        }
    }

    pub(super) fn choose_leader_if_none(&mut self) {
        if self.leader.is_none() {
            self.leader = self.members.keys().next().cloned();
        }
    }

    /// Makes sure that the leader is one who has joined; false if nobody has.
    pub(super) fn elect_joined_leader(&mut self) -> bool {
        let leader = self.leader.as_ref().and_then(|id| self.members.get(id));
        if leader.is_some_and(|m| m.join.is_some()) {
            return true;
        }
        let joined = self.members.iter().find(|(_, m)| m.join.is_some());
        match joined {
            Some((id, _)) => self.leader = Some(id.clone()),
            None => return false,
        }
        true
    }

    /// Parks a JoinGroup. A request that the same member had waiting was abandoned by its client
    /// (a new connection); it gets an answer that would make it try again.
    pub(super) fn park_join(&mut self, cx: &mut Cx<'_>, id: &Name, token: u64) {
        self.answer_join(
            cx,
            id,
            JoinReply::error(ErrorCode::RebalanceInProgress, id.clone()),
        );
        if let Some(member) = self.members.get_mut(id) {
            member.join = Some(token);
            self.awaiting_join += 1;
        }
    }

    /// Parks a SyncGroup, likewise.
    pub(super) fn park_sync(&mut self, cx: &mut Cx<'_>, id: &Name, token: u64) {
        self.answer_sync(cx, id, SyncReply::error(ErrorCode::RebalanceInProgress));
        if let Some(member) = self.members.get_mut(id) {
            member.sync = Some(token);
        }
    }

    /// Answers the JoinGroup that a member has waiting, if any.
    pub(super) fn answer_join(&mut self, cx: &mut Cx<'_>, id: &str, reply: JoinReply) -> bool {
        let waiting = self.change(id, |member| {
            member.joined = false;
            member.join.take()
        });
        let waiting = waiting.flatten();
        if let Some(token) = waiting {
            self.awaiting_join -= 1;
            cx.joined(token, reply);
        }
        waiting.is_some()
    }

    /// Answers the SyncGroup that a member has waiting, if any.
    pub(super) fn answer_sync(&mut self, cx: &mut Cx<'_>, id: &str, reply: SyncReply) -> bool {
        let waiting = self.change(id, |member| {
            member.synced = None;
            member.sync.take()
        });
        let waiting = waiting.flatten();
        if let Some(token) = waiting {
            cx.synced(token, reply);
        }
        waiting.is_some()
    }

    /// A successful join of the current generation; the leader gets everybody's metadata.
    pub(super) fn join_reply(&self, member: &Name, leader: Name, with_members: bool) -> JoinReply {
        let protocol = self.protocol.as_deref().unwrap_or("");
        // Nobody but the leader goes through all of them.
        let joined = with_members.then(|| self.members.iter());
        JoinReply {
            error: ErrorCode::None,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader,
            skip_assignment: false,
            member: member.clone(),
            members: joined
                .into_iter()
                .flatten()
                .map(|(id, m)| JoinedMember {
                    member: id.clone(),
                    instance: m.instance.clone(),
                    metadata: m.metadata(protocol),
                })
                .collect(),
        }
    }

    /// The join reply of a member in the generation that has just begun or still is.
    pub(super) fn current_join_reply(&self, member: &Name) -> JoinReply {
        let leader = self.leader.clone().unwrap_or_else(|| Name::from(""));
        self.join_reply(member, leader, self.is_leader(member))
    }

    pub(super) fn touch(&self, cx: &mut Cx<'_>, member: &Name) {
        if let Some(m) = self.members.get(member) {
            cx.after(
                Timer::Session(self.id.clone(), member.clone()),
                m.session_ms(),
            );
        }
    }

    /// Chooses the protocol of a generation, and begins to look for what its consumers are subscribed to.
    pub(super) fn choose_protocol(&mut self, cx: &mut Cx<'_>) {
        self.protocol = self.vote();
        self.begin_looking_for_topics();
        self.look_for_some_topics(cx);
    }

    /// Begins to look for the topics of the generation's protocol.
    pub(super) fn begin_looking_for_topics(&mut self) {
        self.subscribed = match self.is_consumer() {
            true => Subscribed::looking(),
            false => Subscribed::Unknown,
        };
    }

    /// Looks for so many of them, members counted too.
    pub(super) fn look_for_topics(&mut self, topics: usize) {
        let protocol = self.protocol.as_deref().unwrap_or("");
        self.subscribed.look(&self.members, protocol, topics);
    }

    /// Looks for some of them.
    pub(super) fn look_for_some_topics(&mut self, cx: &mut Cx<'_>) {
        /// Topics that take as long as telling a member.
        const TOPICS_PER_MEMBER: usize = 8;
        self.look_for_topics(cx.config.told_at_a_time * TOPICS_PER_MEMBER);
        if self.subscribed.is_looking() {
            self.will_go_on(cx);
        }
    }
}
