//! Ends of transactions at the shard that owns the partitions: appended some at a time, each of which is answered when
//! it is committed.

use std::collections::VecDeque;

use crate::base::ErrorCode;
use crate::base::limits::{LOGS_CHANGED_PER_SLICE, MARKERS_WAITING_MAX};
use crate::broker::fx::Fx;
use crate::broker::msg::{MarkerAsker, MarkerPart};
use crate::broker::owner::Owner;

/// Markers that wait for a turn.
#[derive(Debug, Default)]
pub struct MarkerJobs {
    waiting: VecDeque<(MarkerAsker, MarkerPart)>,
}

impl MarkerJobs {
    /// Ends transactions in logs of this shard. Of what is too much the askers are told to come again.
    pub fn begin(
        &mut self,
        owner: &mut Owner,
        asker: MarkerAsker,
        markers: Vec<MarkerPart>,
        fx: &mut Fx<'_>,
    ) {
        let waits = !self.waiting.is_empty();
        for marker in markers {
            if self.waiting.len() < MARKERS_WAITING_MAX {
                self.waiting.push_back((asker, marker));
            } else {
                (owner.acks).marked(asker, marker.slot, ErrorCode::NotEnoughReplicas);
            }
        }
        match waits {
            true => owner.acks.tell(fx),
            false => self.go_on(owner, fx),
        }
    }

    /// Goes on with some of those that wait.
    pub fn go_on(&mut self, owner: &mut Owner, fx: &mut Fx<'_>) {
        for _ in 0..LOGS_CHANGED_PER_SLICE {
            if owner.holds_changes() {
                break;
            }
            let Some((asker, marker)) = self.waiting.pop_front() else {
                break;
            };
            owner.write_marker(fx.now, asker, marker);
        }
        owner.acks.tell(fx);
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}
