//! InitProducerId (22), versions 0-5.
//!
//! - Idempotent producers: a new id with epoch 0. A producer that asks for a new epoch (version 3,
//!   KIP-360) gets a new id instead, as from Kafka: without a transactional id nothing ties the
//!   producer to its old id.
//! - Only one of producer id and epoch is INVALID_REQUEST, so is an empty transactional id.
//! - Transactions are not supported yet: a transactional id is UNSUPPORTED_VERSION. It is fatal to
//!   every client, where an error about the coordinator would be retried until a timeout; and it
//!   says that the broker lacks something, not that the client may not do it.

use bytes::Bytes;
use kafka_wire::{InitProducerIdRequest, InitProducerIdResponse};

use super::full;
use super::handler::{Answer, Ctx, change};
use crate::base::ErrorCode;
use crate::controller::{MetadataRecord, ProducerIdAllocator};
use crate::wire::RequestHeader;

/// Answers an InitProducerId request. `ids` lives as long as the control shard.
#[must_use]
pub fn init_producer_id(
    ctx: &mut Ctx<'_>,
    ids: &mut ProducerIdAllocator,
    header: &RequestHeader,
    body: Bytes,
) -> Answer {
    change(
        header,
        body,
        |request| respond(ctx, ids, &request),
        Some(full::id_refused),
    )
}

fn respond(
    ctx: &Ctx<'_>,
    ids: &mut ProducerIdAllocator,
    request: &InitProducerIdRequest,
) -> (InitProducerIdResponse, Vec<MetadataRecord>) {
    let mut response = InitProducerIdResponse::default();
    if let Some(code) = refusal(request) {
        response.error_code = code.code();
        response.producer_epoch = -1;
        return (response, Vec::new());
    }
    let (id, record) = ids.allocate(ctx.image);
    response.producer_id = id;
    response.producer_epoch = 0;
    (response, record.into_iter().collect())
}

fn refusal(request: &InitProducerIdRequest) -> Option<ErrorCode> {
    let one_without_other = (request.producer_id == -1) != (request.producer_epoch == -1);
    match &request.transactional_id {
        Some(id) if id.is_empty() => Some(ErrorCode::InvalidRequest),
        _ if one_without_other => Some(ErrorCode::InvalidRequest),
        Some(_) => Some(ErrorCode::UnsupportedVersion),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Cluster, text};
    use super::*;

    fn request(transactional_id: Option<&str>) -> InitProducerIdRequest {
        let mut request = InitProducerIdRequest::default();
        request.transactional_id = transactional_id.map(text);
        request
    }

    fn ask(
        cluster: &mut Cluster,
        ids: &mut ProducerIdAllocator,
        version: i16,
        request: &InitProducerIdRequest,
    ) -> InitProducerIdResponse {
        cluster.ask(version, request, |ctx, header, body| {
            init_producer_id(ctx, ids, header, body)
        })
    }

    #[test]
    fn every_version_gives_a_new_id() {
        let (mut cluster, mut ids) = (Cluster::new(), ProducerIdAllocator::default());
        for version in 0..=5 {
            let response = ask(&mut cluster, &mut ids, version, &request(None));
            assert_eq!(response.error_code, 0, "version {version}");
            assert_eq!(
                (response.producer_id, response.producer_epoch),
                (version.into(), 0)
            );
            assert_eq!(
                cluster.committed,
                usize::from(version == 0),
                "one record for a block"
            );
        }
        assert_eq!(cluster.image.next_producer_id, 1000);
    }

    #[test]
    fn a_new_epoch_is_a_new_id() {
        let (mut cluster, mut ids) = (Cluster::new(), ProducerIdAllocator::default());
        let first = ask(&mut cluster, &mut ids, 3, &request(None)).producer_id;
        let mut again = request(None);
        again.producer_id = first;
        again.producer_epoch = 0;
        let response = ask(&mut cluster, &mut ids, 3, &again);
        assert_eq!((response.error_code, response.producer_epoch), (0, 0));
        assert_ne!(response.producer_id, first);
    }

    #[test]
    fn what_is_refused() {
        let (mut cluster, mut ids) = (Cluster::new(), ProducerIdAllocator::default());
        let mut half = request(None);
        half.producer_id = 7;
        for (request, code) in [
            (half, 42),
            (request(Some("")), 42),
            (request(Some("t")), 35),
        ] {
            let response = ask(&mut cluster, &mut ids, 4, &request);
            assert_eq!((response.error_code, response.producer_id), (code, -1));
            assert_eq!((response.producer_epoch, cluster.committed), (-1, 0));
        }
    }
}
