//! How a shard comes to rest. What other nodes may lead they are given first, while this one serves on; then what was
//! taken is finished, and nothing new is taken; then a checkpoint makes the next start fast.

use super::{Draining, Shard};
use crate::base::limits::LEAVES_WITHIN_MS;
use crate::broker::control::Control;
use crate::broker::fx::Fx;
use crate::broker::io::Output;

impl Shard {
    /// The node is to stop.
    pub(super) fn shutdown(&mut self, fx: &mut Fx<'_>) {
        if let Some(control) = &mut self.control {
            control.leave();
        }
        self.draining = Draining::Leaving(fx.now.mono.plus_ms(LEAVES_WITHIN_MS));
        self.leave(fx);
    }

    /// Goes on with the first step: when others lead what they may, or it has taken too long, the next one begins.
    pub(super) fn leave(&mut self, fx: &mut Fx<'_>) {
        let Draining::Leaving(until) = self.draining else {
            return;
        };
        let has_left = match &mut self.control {
            Some(control) => control.has_left(),
            None => !self.owner.roles.may_lead(),
        };
        if fx.now.mono < until && (!has_left || self.owner.leads_others()) {
            return;
        }
        self.draining = Draining::InFlight;
        fx.out.push(Output::TakeNoRequests);
        self.front.draining = true;
        self.requests.produce.validations.stop();
        self.requests.listing.stop(&mut self.front, fx);
        self.jobs.query.stop(&mut self.owner);
        self.jobs.produce.stop();
        self.jobs.cleaner.wind_down(&mut self.owner);
        self.owner.wind_down();
        self.others.leave_replicas();
        self.coordinators.stop(&self.front.image, &self.owner, fx);
        self.transactions.stop();
        if let Some(control) = &mut self.control {
            control.stop(&mut self.owner, fx);
        }
    }

    /// Whether a shutdown has a step to take when all is quiet.
    pub(super) fn drains(&self) -> bool {
        matches!(self.draining, Draining::InFlight | Draining::Checkpoint)
    }

    /// Whether everything that was taken is finished.
    pub(super) fn is_quiet(&self) -> bool {
        self.owner.is_quiet()
            && self.jobs.is_quiet(&self.owner)
            && self.images.is_empty()
            && self.front.parked.next_deadline().is_none()
            && self.requests.produce.validations.is_empty()
            && self.requests.listing.is_empty()
            && !self.requests.fetch.has_more(&self.front)
            && self.requests.query.is_quiet()
            && self.requests.groups.is_quiet()
            && self.coordinators.is_quiet()
            && self.transactions.is_quiet()
            && self.control.as_ref().is_none_or(Control::is_quiet)
    }

    /// Goes on with a shutdown: first what was taken is finished, then a checkpoint makes the next start fast.
    pub(super) fn drain(&mut self, fx: &mut Fx<'_>) {
        if self.drains() && self.control.as_ref().is_some_and(Control::may_leave) {
            self.others.stop_peers(fx);
        }
        if !self.drains() || !self.is_quiet() {
            return;
        }
        if self.draining == Draining::InFlight {
            self.draining = Draining::Checkpoint;
            // What is in flight may have waited for replicas.
            self.others.stop_replicas(fx);
            self.owner.want_checkpoint();
        } else {
            self.draining = Draining::Done;
            fx.out.push(Output::Drained);
        }
    }
}
