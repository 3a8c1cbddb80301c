//! What a group has taken of what is asked of it, and how far it is with that.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::changes::Changes;
use super::cx::MemberTimer;
use super::heartbeat::{ConsumerHeartbeat, ConsumerReply};
use super::member::Current;
use super::narrowing::Narrowing;
use super::refresh::Refresh;
use super::waiting::GroupAsked;
use crate::base::{ErrorCode, Mono, Name};

/// A member that is still to take its step in this turn.
#[derive(Debug)]
pub(super) struct MemberSteps {
    pub(super) token: u64,
    pub(super) request: Arc<ConsumerHeartbeat>,
    /// Where it was before the turn.
    pub(super) before: Arc<Current>,
}

/// A turn.
#[derive(Debug, Default)]
pub(super) struct GroupTurn {
    /// What it has taken: it may begin once more, with less of it.
    pub(super) asked: Vec<GroupAsked>,
    /// All of it is what had to [wait](super::waiting::GroupQueue) behind others.
    pub(super) is_of_later: bool,
    /// When it began.
    pub(super) since: Mono,
    pub(super) changes: Changes,
    /// How many of them were made before a new target was.
    pub(super) changed: usize,
    /// The epoch has to grow.
    pub(super) bumps: bool,
    /// Who was silent for too long, unless they are heard in it.
    pub(super) silent: BTreeSet<Name>,
    /// Heartbeats, by token, with which the group is subscribed to more, perhaps.
    pub(super) newcomers: Vec<u64>,
    pub(super) steps: VecDeque<MemberSteps>,
    /// Members that are subscribed to less: if there is no new target, the one that there is has to be narrowed.
    pub(super) narrows: Vec<Name>,
    pub(super) narrowing: Option<Narrowing>,
    pub(super) is_narrowed: bool,
    /// Timers that change when it is done, and not if it is taken back.
    pub(super) timers: Vec<MemberTimer>,
    pub(super) replies: Vec<(u64, ConsumerReply)>,
    pub(super) refresh: Option<Refresh>,
    /// There is room for what it keeps from one slice to the next; or there was none, and it waits for some.
    pub(super) has_room: bool,
    pub(super) waits: bool,
    /// The metadata that it looks at, and since when.
    pub(super) looks: Option<(u64, Mono)>,
    pub(super) is_refreshed: bool,
}

impl GroupTurn {
    /// Whether a member says in it that it has given up what it had to.
    pub(super) fn has_given_up(&self, member: &Name, current: &Current) -> bool {
        let mut steps = self.steps.iter().map(|steps| &steps.request);
        let gives_up = |owned| !current.revoking.meets(owned);
        steps.any(|it| it.member == *member && it.owned.as_ref().is_some_and(gives_up))
    }

    /// What a member has asked before it goes is answered all the same.
    pub(super) fn answer_steps(&mut self, member: &Name) {
        let (gone, stay): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.steps)
            .into_iter()
            .partition(|steps| steps.request.member == *member);
        self.steps = stay;
        let unknown = || ConsumerReply::error(ErrorCode::UnknownMemberId);
        let answers = gone.into_iter().map(|steps| (steps.token, unknown()));
        self.replies.extend(answers);
    }
}
