//! Messages about transactions, each to the part of the shard that it is for: those who lead partitions, and
//! coordinators.

use super::Shard;
use crate::base::ShardId;
use crate::broker::fx::Fx;
use crate::broker::msg::{MarkerAsker, Msg, ReqRef};
use crate::broker::txn;
use crate::wire::Api;

impl Shard {
    /// Takes one.
    pub(super) fn transaction_message(&mut self, from: ShardId, msg: Msg, fx: &mut Fx<'_>) {
        let (front, requests, owner) = (&mut self.front, &mut self.requests, &mut self.owner);
        match msg {
            Msg::AskTransaction { req, question } => {
                let question = (req, question);
                self.transactions.ask_transaction(from, question, front, fx);
            }
            Msg::TransactionTold { id, errors } => match ReqRef::number_of_transactions(id) {
                Some(number) => self.coordinators.transaction_told(number, &errors, fx),
                None => self.jobs.produce.told(owner, id, &errors, fx),
            },
            Msg::WriteMarkers { asker, markers } => {
                self.jobs.markers.begin(owner, asker, markers, fx);
            }
            Msg::MarkersWritten { asker, results } => match asker {
                MarkerAsker::Client(req) => requests.markers.done(front, req.id, results, fx),
                MarkerAsker::Coordinator(req) => {
                    let image = &front.image;
                    self.transactions
                        .markers_written(req.id, &results, image, fx);
                }
            },
            Msg::TransactionEnded {
                log,
                producer_id,
                commits,
            } => {
                let end = (producer_id, commits);
                self.coordinators.transaction_ended(log, end, owner, fx);
            }
            Msg::DescribeProducers { req, log } => {
                let (id, producers) = (req.id, owner.active_producers(log));
                fx.send(req.shard, Msg::ProducersDescribed { id, producers });
            }
            Msg::ProducersDescribed { id, producers } => {
                requests.producers.done(front, id, producers, fx);
            }
            Msg::Transactions { req, parts } => {
                self.transactions.ask(req, parts, &front.image, fx);
            }
            Msg::TransactionsDone { id, answers } => {
                requests.transactions.done(front, id, answers, fx);
            }
            Msg::CallNode { req, node, call } => match &mut self.control {
                Some(control) => control.call_node(req, node, call, fx),
                None => {
                    let answer = Err("this is not the control shard".to_owned());
                    fx.send(req.shard, Msg::ControlDone { id: req.id, answer });
                }
            },
            Msg::CallOfNode { req, call } => {
                let (header, body) = (call.header, call.body);
                if header.key == Api::WRITE_TXN_MARKERS {
                    let transactions = &mut self.transactions;
                    return transactions.write_markers(req, (header, body), front, fx);
                }
                let request = (req, &header, body);
                let planner = txn::add_partitions_to_txn;
                let transactions = &mut requests.transactions;
                transactions.begin_of_node(front, request, planner, fx);
            }
            _ => {}
        }
    }
}
