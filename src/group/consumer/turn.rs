//! What a group has taken of what is asked of it, and how far it is with that.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::changes::Changes;
use super::heartbeat::{ConsumerHeartbeat, ConsumerReply};
use super::member::Current;
use super::refresh::Refresh;
use crate::base::{ErrorCode, Mono, Name};

/// What is asked of a group.
#[derive(Debug)]
pub(super) enum GroupAsked {
    Heartbeat(u64, Arc<ConsumerHeartbeat>),
    /// A member was silent for too long; unless it is heard before, or in the same turn.
    Remove(Name),
    /// A member took too long to give up partitions; unless it is somewhere else than here by now, or says that it has.
    RemoveRevoking(Name, Arc<Current>),
}

impl GroupAsked {
    /// What it takes, about, of what is counted.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Heartbeat(_, request) => request.bytes(),
            Self::Remove(_) | Self::RemoveRevoking(..) => 0,
        }
    }
}

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
    pub(super) replies: Vec<(u64, ConsumerReply)>,
    pub(super) refresh: Option<Refresh>,
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
