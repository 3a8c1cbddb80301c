//! InitProducerId (22), versions 0-5.
//!
//! - Idempotent producers: a new id with epoch 0. A producer that asks for a new epoch (version 3,
//!   KIP-360) gets a new id instead, as from Kafka: without a transactional id nothing ties the
//!   producer to its old id.
//! - Only one of producer id and epoch is INVALID_REQUEST, so is an empty transactional id.
//! - A transactional id is for its coordinator (`broker::txn`), and nobody brings one here: UNSUPPORTED_VERSION.

use bytes::Bytes;
use kafka_wire::{InitProducerIdRequest, InitProducerIdResponse};

use super::deciding::{Decided, Deciding, Decision};
use super::full;
use super::handler::reply;
use crate::base::{ErrorCode, Leftovers};
use crate::broker::msg::Called;
use crate::wire::{self, RequestHeader, WireError};

/// Decides on an InitProducerId request.
pub fn init_producer_id(
    header: &RequestHeader,
    body: Bytes,
) -> Result<Box<dyn Decision>, WireError> {
    Ok(Box::new(Init {
        request: wire::decode(body, header.version)?,
        header: header.clone(),
    }))
}

#[derive(Debug)]
struct Init {
    header: RequestHeader,
    request: InitProducerIdRequest,
}

impl Decision for Init {
    fn go_on(&mut self, cx: &mut Deciding<'_>, left: &mut usize) -> Result<Decided, WireError> {
        let mut response = InitProducerIdResponse::default();
        if let Some(code) = refusal(&self.request) {
            response.error_code = code.code();
            response.producer_epoch = -1;
        } else {
            let (id, record) = cx.producer_ids.allocate(cx.ctx.image);
            record.into_iter().for_each(|record| cx.draft.push(record));
            cx.draft.go_on(&mut 1);
            response.producer_id = id;
            response.producer_epoch = 0;
        }
        *left = left.saturating_sub(1);
        let frame = |response| {
            let frame = reply::<InitProducerIdRequest>(&self.header, response)?;
            Ok::<_, WireError>(Called::Frame(vec![frame]))
        };
        Ok(Decided::Whole {
            commits: true,
            reply: frame(&response)?,
            refusal: Some(frame(&full::id_refused())?),
        })
    }

    fn leave(self: Box<Self>, _: &mut Leftovers) {}
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

    #[test]
    fn every_version_gives_a_new_id() {
        let mut cluster = Cluster::new();
        for version in 0..=5 {
            let response = cluster.ask(version, &request(None), init_producer_id);
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
        let mut cluster = Cluster::new();
        let first = cluster.ask(3, &request(None), init_producer_id).producer_id;
        let mut again = request(None);
        again.producer_id = first;
        again.producer_epoch = 0;
        let response = cluster.ask(3, &again, init_producer_id);
        assert_eq!((response.error_code, response.producer_epoch), (0, 0));
        assert_ne!(response.producer_id, first);
    }

    #[test]
    fn what_is_refused() {
        let mut cluster = Cluster::new();
        let mut half = request(None);
        half.producer_id = 7;
        for (request, code) in [
            (half, 42),
            (request(Some("")), 42),
            (request(Some("t")), 35),
        ] {
            let response = cluster.ask(4, &request, init_producer_id);
            assert_eq!((response.error_code, response.producer_id), (code, -1));
            assert_eq!((response.producer_epoch, cluster.committed), (-1, 0));
        }
    }
}
