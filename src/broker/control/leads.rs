//! The control shard begins to decide when this node leads, and ends that: who waits is told to ask whoever leads next.

use super::follows::{Then, answer};
use super::queue::ToDecide;
use super::{Control, refuse};
use crate::broker::fx::Fx;
use crate::broker::msg::{Called, ReqRef};
use crate::broker::owner::Owner;
use crate::controller::ProducerIdAllocator;
use crate::quorum::Declined;

impl Control {
    /// This node decides from now on, once what it has to say about itself is committed.
    pub(super) fn begin_deciding(
        &mut self,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) -> Result<(), String> {
        self.begins_late = false;
        let records = self.metadata.first_start()?;
        if records.is_empty() {
            if self.others.is_alone() {
                self.metadata.publish_current(fx);
            }
            return Ok(());
        }
        match self.metadata.commit_quietly(records, owner, fx)? {
            // It leads no more, and is about to be told so.
            Ok(()) | Err(Declined::NotLeader { .. }) => Ok(()),
            Err(Declined::Full) => {
                self.begins_late = true;
                Ok(())
            }
            Err(declined) => Err(format!("metadata cannot be committed: {declined:?}")),
        }
    }

    /// This node does not decide any more: whoever waits for that is told.
    pub(super) fn resign(&mut self, fx: &mut Fx<'_>) {
        (self.begins_late, self.is_declined) = (false, false);
        self.members.resign();
        self.voters_unknown(fx);
        self.producer_ids = ProducerIdAllocator::default();
        if let Some(making) = self.making.take() {
            making.decision.leave(&mut self.metadata.leftovers);
            self.queue.push_front(making.turn);
        }
        // Who leads now decides on what waits, where that is known, and once more on what may be lost.
        for then in self.metadata.forget_decided() {
            if let Then::Answer(req, _) = then {
                self.not_controller(req, fx);
            }
        }
        for turn in self.queue.drain() {
            match turn.call {
                ToDecide::Client(call) if !self.others.is_alone() => {
                    self.queue.push(turn.req, ToDecide::Client(call));
                }
                _ => self.not_controller(turn.req, fx),
            }
        }
        self.resign_waiting(fx);
    }

    /// The same for who waits for room, but for the one that stores are asked for.
    pub(super) fn resign_waiting(&mut self, fx: &mut Fx<'_>) {
        while let Some((req, _)) = self.metadata.rooms.next() {
            self.not_controller(req, fx);
        }
    }

    /// This node does not decide what a request asks for, or what it has decided was not committed: whoever decides now
    /// is asked. Where there is nobody else its connection is closed, as that of a broker which is gone.
    pub(super) fn not_controller(&self, req: ReqRef, fx: &mut Fx<'_>) {
        if self.others.is_alone() {
            let why = "this node is not the controller any more".to_owned();
            return refuse(req, why, fx);
        }
        answer(req, Called::Again, fx);
    }
}
