//! FindCoordinator (10), versions 0-6; 4 and up ask for many keys at once.
//!
//! All groups are coordinated by this node. There are no transactions: asking for their
//! coordinator gets TRANSACTIONAL_ID_AUTHORIZATION_FAILED, the only error that makes
//! librdkafka fail with the message at once (it asks again on every other one, until its
//! timeout is over); to the clients in Java and Go it is fatal like any other. There are no
//! share groups either: INVALID_REQUEST. As in Kafka the key of a group is
//! not looked at: an invalid group id is refused by the requests that use it.

use kafka_wire::find_coordinator_response::Coordinator;
use kafka_wire::{FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_wire_core::StrBytes;

use super::call::{Call, GroupEffect, Origin, TopicLookup, reply};
use super::service::GroupService;
use crate::base::{ErrorCode, Now};
use crate::wire::{WireError, decode};

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE: i8 = 2;

/// Node id of an answer without a node, with an empty host and port -1.
const NO_NODE: i32 = -1;

struct Found {
    node: i32,
    host: StrBytes,
    port: i32,
}

impl GroupService {
    pub(crate) fn find_coordinator(
        &mut self,
        _: Now,
        origin: Origin,
        call: Call,
        topics: &dyn TopicLookup,
        out: &mut Vec<GroupEffect>,
    ) -> Result<(), WireError> {
        let request: FindCoordinatorRequest = decode(call.body, origin.version)?;
        let found = self.find(request.key_type, call.listener, topics);
        let mut response = FindCoordinatorResponse::default();
        if origin.version < 4 {
            match found {
                Ok(found) => {
                    response.node_id = found.node;
                    response.host = found.host;
                    response.port = found.port;
                }
                Err((error, message)) => {
                    response.error_code = error.code();
                    response.error_message = Some(StrBytes::from(message));
                    response.node_id = NO_NODE;
                    response.port = -1;
                }
            }
        } else {
            for key in request.coordinator_keys {
                let mut coordinator = Coordinator::default();
                coordinator.key = key;
                match &found {
                    Ok(found) => {
                        coordinator.node_id = found.node;
                        coordinator.host = found.host.clone();
                        coordinator.port = found.port;
                    }
                    Err((error, message)) => {
                        coordinator.error_code = error.code();
                        coordinator.error_message = Some(StrBytes::from(*message));
                        coordinator.node_id = NO_NODE;
                        coordinator.port = -1;
                    }
                }
                response.coordinators.push(coordinator);
            }
        }
        reply(origin, &response, out);
        Ok(())
    }

    fn find(
        &self,
        key_type: i8,
        listener: usize,
        topics: &dyn TopicLookup,
    ) -> Result<Found, (ErrorCode, &'static str)> {
        let refused = |message| Err((ErrorCode::InvalidRequest, message));
        match key_type {
            GROUP => {}
            TRANSACTION => {
                let message = "This broker does not support transactions.";
                return Err((ErrorCode::TransactionalIdAuthorizationFailed, message));
            }
            SHARE => return refused("This broker does not support share groups."),
            _ => return refused("The type of the coordinator key is unknown."),
        }
        let unavailable = ErrorCode::CoordinatorNotAvailable;
        if self.partitions(topics).is_err() {
            return Err((unavailable, unavailable.message()));
        }
        let Some((host, port)) = self.node.endpoints.get(listener) else {
            let error = ErrorCode::ListenerNotFound;
            return Err((error, error.message()));
        };
        Ok(Found {
            node: self.node.id,
            host: host.clone(),
            port: *port,
        })
    }
}
