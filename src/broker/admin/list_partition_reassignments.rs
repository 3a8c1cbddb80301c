//! ListPartitionReassignments (46), version 0.
//!
//! - A partition has one replica, which nothing moves: none is ever being reassigned, whatever is asked for.
//!   That a topic does not exist is no error, as in Kafka.

use bytes::Bytes;
use kafka_wire::{ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse};

use super::handler::{Answer, answer};
use crate::wire::RequestHeader;

/// Answers a ListPartitionReassignments request. Reads only.
#[must_use]
pub fn list_partition_reassignments(header: &RequestHeader, body: Bytes) -> Answer {
    answer(header, body, |_: ListPartitionReassignmentsRequest| {
        let mut response = ListPartitionReassignmentsResponse::default();
        // Kafka's answer without an error has an empty message, not none.
        response.error_message = None;
        response
    })
}

#[cfg(test)]
mod tests {
    use kafka_wire::list_partition_reassignments_request::ListPartitionReassignmentsTopics;

    use super::super::testing::{Cluster, text};
    use super::*;

    #[test]
    fn nothing_is_ever_reassigned() {
        let mut cluster = Cluster::with(&[("a", 1)]);
        let mut topic = ListPartitionReassignmentsTopics::default();
        topic.name = text("a");
        topic.partition_indexes = vec![0, 7];
        for topics in [None, Some(Vec::new()), Some(vec![topic])] {
            let mut request = ListPartitionReassignmentsRequest::default();
            request.topics = topics;
            let response = cluster.read(0, &request, |_, header, body| {
                list_partition_reassignments(header, body)
            });
            assert_eq!((response.error_code, response.topics.len()), (0, 0));
        }
    }
}
