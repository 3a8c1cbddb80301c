//! UnregisterBroker (64), version 0: a broker that will not come back is forgotten (`kafka-cluster unregister`).
//!
//! - An id that nobody has registered is BROKER_ID_NOT_REGISTERED.
//! - A broker that is live is INVALID_REQUEST: it would register again. Kafka takes it, and is left with a broker that
//!   serves nobody.
//! - What it led is led by others, and it is in no ISR that has another member, before it is forgotten. If that is more
//!   than one change may be, what fits is recorded and the answer is REQUEST_TIMED_OUT: clients ask again. Partitions
//!   keep it among their replicas, as in Kafka; one that registers under its id later goes on with them.
//! - The feature level of the metadata is raised, if it was the last one that did not read the next one. One that votes
//!   about the metadata would be lost by that: it is INVALID_REQUEST until it is of a newer release.
//! - A process of it that is alive all the same, and was only fenced, ends when it hears of it.

use bytes::Bytes;
use kafka_wire::{UnregisterBrokerRequest, UnregisterBrokerResponse};

use super::deciding::{Decided, Deciding, Decision};
use super::handler::{outcome, reply};
use crate::base::{ErrorCode, Leftovers, NodeId, Refused};
use crate::broker::msg::Called;
use crate::controller::{Cause, FEATURE_LEVEL, Moves, may_be_removed, remove_broker};
use crate::wire::{self, RequestHeader, WireError};

/// Decides on an UnregisterBroker request.
///
/// # Errors
/// If it is malformed.
pub fn unregister_broker(
    header: &RequestHeader,
    body: Bytes,
) -> Result<Box<dyn Decision>, WireError> {
    let request: UnregisterBrokerRequest = wire::decode(body, header.version)?;
    let node = NodeId(request.broker_id);
    Ok(Box::new(Unregistering {
        header: header.clone(),
        node,
        moves: None,
        comes_to: Removing::Partly,
    }))
}

/// See the module.
#[derive(Debug)]
struct Unregistering {
    header: RequestHeader,
    node: NodeId,
    /// Of partitions: nearly always all were made when it was fenced. `None` until it is known that it may be
    /// forgotten.
    moves: Option<Moves>,
    /// What the draft comes to, when it is settled.
    comes_to: Removing,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Removing {
    Partly,
    Whole,
    /// The change is as large as it may be.
    Full,
}

impl Unregistering {
    /// Goes on.
    fn remove(&mut self, cx: &mut Deciding<'_>, left: &mut usize) -> Result<Removing, Refused> {
        cx.draft.go_on(left);
        if !cx.draft.is_settled() {
            return Ok(Removing::Partly);
        }
        if self.comes_to != Removing::Partly {
            return Ok(self.comes_to);
        }
        let moves = match &mut self.moves {
            Some(moves) => moves,
            None => {
                may_be_removed(cx.draft.image(), self.node)?;
                self.may_raise(cx)?;
                self.moves.insert(Moves::new(Cause::Fenced(self.node)))
            }
        };
        let is_done = moves.go_on(cx.draft, cx.ctx.config, left);
        if !is_done && moves.is_full(cx.draft) {
            self.comes_to = Removing::Full;
        }
        if let Some(settled) = moves.settled().filter(|_| is_done) {
            remove_broker(cx.draft, settled)?;
            self.comes_to = Removing::Whole;
        }
        Ok(Removing::Partly)
    }
}

impl Unregistering {
    /// Whether the level may be raised without it. One that votes, and is of an earlier release, could read no more of
    /// the metadata then, and could not vote.
    fn may_raise(&self, cx: &Deciding<'_>) -> Result<(), Refused> {
        let votes = cx.quorum.is_some_and(|it| it.voters().has_node(self.node));
        let known = cx.draft.image().brokers.get(self.node);
        match known.filter(|known| votes && known.level < FEATURE_LEVEL) {
            Some(_) => {
                let why = format!(
                    "Broker {} votes about the metadata, and is of an earlier release: start a newer one there first.",
                    self.node
                );
                Err(Refused::because(ErrorCode::InvalidRequest, why))
            }
            None => Ok(()),
        }
    }
}

impl Decision for Unregistering {
    fn go_on(&mut self, cx: &mut Deciding<'_>, left: &mut usize) -> Result<Decided, WireError> {
        *left = left.saturating_sub(1);
        let (commits, refused) = match self.remove(cx, left) {
            Ok(Removing::Partly) => return Ok(Decided::Partly),
            Ok(Removing::Whole) => (true, None),
            Ok(Removing::Full) => {
                let why = format!(
                    "What broker {} led is being given to others: try again in a moment.",
                    self.node
                );
                let refused = Refused::because(ErrorCode::RequestTimedOut, why);
                (true, Some(refused))
            }
            Err(refused) => (false, Some(refused)),
        };
        let mut response = UnregisterBrokerResponse::default();
        (response.error_code, response.error_message) = outcome(refused.as_ref());
        let frame = reply::<UnregisterBrokerRequest>(&self.header, &response)?;
        Ok(Decided::Whole {
            commits,
            reply: Called::Frame(vec![frame]),
            // It makes the metadata smaller.
            refusal: None,
        })
    }

    fn leave(self: Box<Self>, _: &mut Leftovers) {}
}

#[cfg(test)]
mod tests {
    use super::super::testing::Cluster;
    use super::*;
    use crate::base::limits::MOVES_PER_CHANGE_MAX;
    use crate::controller::testing::create;

    #[test]
    fn more_than_one_change_may_move_is_moved_by_several() {
        let mut cluster = Cluster::of_three();
        create(&mut cluster.image, "many", MOVES_PER_CHANGE_MAX + 1, 3);
        cluster.image.brokers.set_fenced(NodeId(2), true);
        assert_eq!(ask(&mut cluster, 2), ErrorCode::RequestTimedOut.code());
        assert_eq!(cluster.committed, MOVES_PER_CHANGE_MAX);
        while ask(&mut cluster, 2) != 0 {
            assert!(cluster.committed > 0, "it goes on");
        }
        assert_eq!(cluster.image.brokers.nodes(), [NodeId(1), NodeId(3)]);
    }

    /// Its code for this broker.
    fn ask(cluster: &mut Cluster, node: i32) -> i16 {
        let mut request = UnregisterBrokerRequest::default();
        request.broker_id = node;
        cluster.ask(0, &request, unregister_broker).error_code
    }

    #[test]
    fn only_those_are_forgotten_who_are_there_and_not_live() {
        let mut cluster = Cluster::of_three();
        assert_eq!(
            ask(&mut cluster, 9),
            ErrorCode::BrokerIdNotRegistered.code()
        );
        assert_eq!(
            ask(&mut cluster, -1),
            ErrorCode::BrokerIdNotRegistered.code()
        );
        assert_eq!(ask(&mut cluster, 2), ErrorCode::InvalidRequest.code());
        assert_eq!(cluster.image.brokers.count(), 3);
        cluster.image.brokers.set_fenced(NodeId(2), true);
        assert_eq!(ask(&mut cluster, 2), 0);
        assert_eq!(cluster.image.brokers.nodes(), [NodeId(1), NodeId(3)]);
        assert_eq!(
            ask(&mut cluster, 2),
            ErrorCode::BrokerIdNotRegistered.code()
        );
    }

    #[test]
    fn who_is_forgotten_leads_nothing_and_is_in_no_isr() {
        let mut cluster = Cluster::of_three();
        cluster.image.brokers.set_fenced(NodeId(2), true);
        let led = |cluster: &Cluster| {
            let partitions = cluster
                .image
                .topics()
                .flat_map(|topic| topic.partitions.iter());
            partitions
                .filter(|it| it.leader == NodeId(2) || it.isr.contains(&NodeId(2)))
                .count()
        };
        assert!(led(&cluster) > 0, "it was only fenced");
        assert_eq!(ask(&mut cluster, 2), 0);
        assert_eq!(led(&cluster), 0);
    }
}
