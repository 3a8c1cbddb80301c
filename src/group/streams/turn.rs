//! What a streams group has taken of what is asked of it, and how far it is with that.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::super::consumer::{Changes, MemberTimer};
use super::assign::TaskAssignment;
use super::configure::StreamsStatus;
use super::heartbeat::{StreamsHeartbeat, StreamsReply};
use super::member::{StreamsCurrent, StreamsMember};
use super::state::StreamsState;
use crate::base::{ErrorCode, Mono, Name};

/// What is asked of a group.
#[derive(Debug)]
pub(super) enum StreamsAsked {
    Heartbeat(u64, Arc<StreamsHeartbeat>),
    /// A member was silent for too long; unless it is heard before, or in the same turn.
    Remove(Name),
    /// A member took too long to give up tasks; unless it is somewhere else than here by now, or says that it has.
    RemoveRevoking(Name, Arc<StreamsCurrent>),
}

/// A member that is still to take its step in this turn.
#[derive(Debug)]
pub(super) struct StreamsSteps {
    pub(super) token: u64,
    pub(super) request: Arc<StreamsHeartbeat>,
    /// What it was, and where, before the turn.
    pub(super) was: Option<Arc<StreamsMember>>,
    pub(super) before: Arc<StreamsCurrent>,
    /// It takes the place of a static member.
    pub(super) replaces: bool,
    pub(super) status: Vec<(StreamsStatus, String)>,
}

/// How far a turn is.
#[derive(Debug, Default)]
pub(super) enum TurnStage {
    /// It is to be found out whether there has to be a new target.
    #[default]
    Decides,
    /// One is made.
    Assigns(Box<TaskAssignment>),
    /// Members take their steps.
    Steps,
}

/// A turn.
#[derive(Debug, Default)]
pub(super) struct StreamsTurn {
    /// When it began.
    pub(super) since: Mono,
    /// Bytes of what it has taken.
    pub(super) asked_bytes: usize,
    pub(super) changes: Changes<StreamsState>,
    /// The epoch has to grow.
    pub(super) bumps: bool,
    /// Nobody was a member when it began.
    pub(super) was_empty: bool,
    /// Why there is no new target yet.
    pub(super) delayed: Option<&'static str>,
    /// Nobody is given anything, since more members may come.
    pub(super) gathers: bool,
    pub(super) silent: BTreeSet<Name>,
    pub(super) steps: VecDeque<StreamsSteps>,
    /// Timers that change when it is done, and not if it is taken back.
    pub(super) timers: Vec<MemberTimer>,
    pub(super) replies: Vec<(u64, StreamsReply)>,
    pub(super) stage: TurnStage,
}

impl StreamsTurn {
    /// Whether a member says in it that it has given up what it had to.
    pub(super) fn has_given_up(&self, member: &Name, current: &StreamsCurrent) -> bool {
        let mut steps = self.steps.iter().map(|steps| &steps.request);
        steps.any(|it| {
            let gives_up = it
                .owned
                .as_ref()
                .is_some_and(|owned| !current.revoking.meets(owned));
            it.member == *member && gives_up
        })
    }

    /// What a member has asked before it goes is answered all the same.
    pub(super) fn answer_steps(&mut self, member: &Name) {
        let (gone, stay): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.steps)
            .into_iter()
            .partition(|steps| steps.request.member == *member);
        self.steps = stay;
        let unknown = || StreamsReply::error(ErrorCode::UnknownMemberId);
        let answers = gone.into_iter().map(|steps| (steps.token, unknown()));
        self.replies.extend(answers);
    }
}
