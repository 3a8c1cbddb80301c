//! What a shard is asked and told of transactions: by those who lead partitions, and by coordinators. There are no
//! coordinators yet.

use super::Shard;
use crate::base::ErrorCode;
use crate::broker::fx::Fx;
use crate::broker::msg::{MarkerAsker, Msg};

impl Shard {
    /// One of the messages about transactions.
    pub(super) fn transaction_message(&mut self, msg: Msg, fx: &mut Fx<'_>) {
        let (front, requests, owner) = (&mut self.front, &mut self.requests, &mut self.owner);
        match msg {
            Msg::AskTransaction { req, question } => {
                let errors = vec![ErrorCode::NotCoordinator; question.partitions.len()];
                fx.send(req.shard, Msg::TransactionTold { id: req.id, errors });
            }
            Msg::TransactionTold { id, errors } => self.jobs.produce.told(owner, id, &errors, fx),
            Msg::WriteMarkers { asker, markers } => {
                self.jobs.markers.begin(owner, asker, markers, fx);
            }
            Msg::MarkersWritten { asker, results } => match asker {
                MarkerAsker::Client(req) => requests.markers.done(front, req.id, results, fx),
                MarkerAsker::Coordinator(_) => {}
            },
            Msg::DescribeProducers { req, log } => {
                let (id, producers) = (req.id, owner.active_producers(log));
                fx.send(req.shard, Msg::ProducersDescribed { id, producers });
            }
            Msg::ProducersDescribed { id, producers } => {
                requests.producers.done(front, id, producers, fx);
            }
            _ => {}
        }
    }
}
