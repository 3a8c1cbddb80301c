//! When there is no new target, members are to give up what they are not subscribed to any more all the same: it is
//! taken out of the target that there is. In slices, since a member may have much.

use std::sync::Arc;

use super::change::GroupChange;
use super::changes::Changes;
use super::cx::ConsumerCx;
use super::partitions::Partitions;
use super::state::GroupState;
use crate::base::{Name, TopicId};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Narrowing {
    /// Members whose turn is still to come.
    members: Vec<Name>,
    /// The topic of the first of them that was looked at last, and what of the target stays.
    after: Option<TopicId>,
    kept: Partitions,
}

impl Narrowing {
    /// Begins to narrow the target of these.
    pub(super) fn of(members: Vec<Name>) -> Self {
        Self {
            members,
            ..Self::default()
        }
    }

    /// Does as much as is `left` of a slice; whether it is done.
    pub(super) fn go_on(
        &mut self,
        cx: &ConsumerCx<'_>,
        (state, changes): (&mut GroupState, &mut Changes),
        left: &mut usize,
    ) -> bool {
        while let Some(member) = self.members.last() {
            let target = state.target(member);
            for (topic, of_topic) in target.topics_after(self.after) {
                if *left == 0 {
                    return false;
                }
                *left = left.saturating_sub(2 + of_topic.len() / 8);
                self.after = Some(topic);
                let name = cx.topics.name_of(topic);
                if name.is_some_and(|name| state.wants(member, &name)) {
                    self.kept.add(topic, of_topic.iter().copied());
                }
            }
            let kept = std::mem::take(&mut self.kept);
            if kept != *target {
                let kept = Some(kept).filter(|kept| !kept.is_empty());
                let change = GroupChange::TargetOf(member.clone(), kept.map(Arc::new));
                changes.make(state, change);
            }
            self.after = None;
            self.members.pop();
        }
        true
    }
}
