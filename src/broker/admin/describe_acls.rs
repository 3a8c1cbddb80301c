//! DescribeAcls (29), versions 1-3.
//!
//! - There is no authorizer yet, so every request is answered with SECURITY_DISABLED, as by a Kafka without
//!   one. Tools take that for "no ACLs here" where they take an unknown API for a broken broker.

use bytes::Bytes;
use kafka_wire::{DescribeAclsRequest, DescribeAclsResponse};

use super::handler::{Answer, answer, message};
use crate::base::ErrorCode;
use crate::wire::RequestHeader;

/// Answers a DescribeAcls request. Reads only.
#[must_use]
pub fn describe_acls(header: &RequestHeader, body: Bytes) -> Answer {
    answer(header, body, |_: DescribeAclsRequest| {
        let mut response = DescribeAclsResponse::default();
        response.error_code = ErrorCode::SecurityDisabled.code();
        response.error_message = Some(message("No Authorizer is configured on the broker"));
        response
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::Cluster;
    use super::*;

    #[test]
    fn every_version_says_that_there_is_no_authorizer() {
        let mut cluster = Cluster::new();
        for version in 1..=3 {
            let mut request = DescribeAclsRequest::default();
            request.resource_type_filter = 1;
            request.pattern_type_filter = 3;
            let response = cluster.read(version, &request, |_, header, body| {
                describe_acls(header, body)
            });
            assert_eq!(response.error_code, 54, "version {version}");
            assert!(response.error_message.is_some() && response.resources.is_empty());
        }
    }
}
