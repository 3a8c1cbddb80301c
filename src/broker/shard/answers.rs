//! What the control shard has answered, told to whichever part of the shard has asked.

use super::Shard;
use crate::broker::apis::{self, Handler};
use crate::broker::front::conns::ReplyTo;
use crate::broker::fx::Fx;
use crate::broker::msg::{Called, ControlCall, ReqRef};

impl Shard {
    /// What the control shard was asked for has an answer, whoever of this shard has asked.
    pub(super) fn control_done(
        &mut self,
        id: u64,
        answer: Result<Called, String>,
        fx: &mut Fx<'_>,
    ) {
        let front = &mut self.front;
        if let Some(number) = ReqRef::number_inside(id) {
            if let Some(control) = &mut self.control {
                control.inside_done(number, answer);
            }
        } else if let Some(number) = ReqRef::number_of_transactions(id) {
            self.transactions.called(number, answer, &front.image, fx);
        } else if let Some(number) = ReqRef::number_of_replicas(id) {
            if let Some(replicas) = &mut self.others.replicas {
                replicas.altered(number, answer, &self.owner, fx.now.mono);
            }
        } else if let Some(number) = ReqRef::number_of_groups(id) {
            // Whether they are there the group sees by itself, and asks again if not.
            self.coordinators.topics_created(number);
        } else if let Some((to, call)) = self.requests.control.done(front, id, answer, fx) {
            self.answer_after_creation(to, call, fx);
        }
    }

    /// Answers a request when what was missing for it is created, as far as it may be.
    fn answer_after_creation(&mut self, to: ReplyTo, call: ControlCall, fx: &mut Fx<'_>) {
        let served = apis::served(call.header.key);
        let answered = match served.map(|served| served.handler) {
            Some(Handler::ImageOrCreate(_, handler, _)) => self.answer(to, call, handler, fx),
            _ => Err(format!("API key {} creates nothing", call.header.key)),
        };
        if let Err(why) = answered {
            self.front.conns.fail(to, why, fx.out);
        }
    }
}
