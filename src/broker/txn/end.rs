//! EndTxn (26). It is answered when it is decided; the markers come behind that.
//!
//! From version 5 on it is of a transaction of version 2 (KIP-890): the answer says as whom the producer goes on.
//! Clients that know ApiVersions' features do not send it before the cluster's `transaction.version` is 2.

use bytes::Bytes;
use kafka_wire::{EndTxnRequest, EndTxnResponse};

use super::plan::{TxnPlan, TxnPlanCx, fenced_since, fields_of, id_of, producer_of};
use crate::base::ErrorCode;
use crate::coordinator::TxnAsk;
use crate::txn::{EndTxn, TxnProducer, TxnVersion};
use crate::wire::{RequestHeader, WireError, decode};

const FENCED_SINCE: i16 = 2;
const BUMPS_EPOCH_SINCE: i16 = 5;

/// EndTxn.
pub fn end_txn(
    cx: &TxnPlanCx<'_>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<TxnPlan, WireError> {
    let request: EndTxnRequest = decode(body, header.version)?;
    let version = header.version;
    let by = match version >= BUMPS_EPOCH_SINCE {
        true => cx.version(),
        false => TxnVersion::V0,
    };
    if by.bumps_epoch() != (version >= BUMPS_EPOCH_SINCE) {
        let unsupported = Err(ErrorCode::UnsupportedVersion);
        return Ok(TxnPlan::known(response(unsupported)));
    }
    let ask = TxnAsk::End(EndTxn {
        id: id_of(&request.transactional_id),
        producer: TxnProducer {
            id: request.producer_id,
            epoch: request.producer_epoch,
        },
        commits: request.committed,
        version: by,
        fresh: None,
    });
    Ok(TxnPlan::ask(vec![ask], move |mut answers| {
        let ended = producer_of(answers.next());
        response(ended.map_err(|error| fenced_since(FENCED_SINCE, version, error)))
    }))
}

fn response(ended: Result<TxnProducer, ErrorCode>) -> EndTxnResponse {
    let mut response = EndTxnResponse::default();
    let (error, id, epoch) = fields_of(ended);
    response.error_code = error;
    (response.producer_id, response.producer_epoch) = (id, epoch);
    response
}

#[cfg(test)]
mod tests {
    use kafka_wire_core::{ApiVersion, KafkaEncode};

    use super::*;
    use crate::config::BrokerConfig;
    use crate::controller::{FEATURE_LEVEL, Image, transaction_version};

    /// Whether the coordinator is asked where the metadata are of this level.
    fn is_asked(level: u16, version: i16) -> bool {
        let mut image = Image::default();
        image.features = level;
        let cx = TxnPlanCx {
            image: &image,
            config: &BrokerConfig::default(),
        };
        let header = RequestHeader {
            key: 26,
            version,
            correlation_id: 1,
            client_id: None,
        };
        let mut request = EndTxnRequest::default();
        request.transactional_id = "t".into();
        let body = request.encode_to_bytes(ApiVersion::new(version)).unwrap();
        match end_txn(&cx, &header, body) {
            Ok(TxnPlan::Ids(asks, _)) => !asks.is_empty(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn version_2_is_refused_while_a_broker_may_not_know_it() {
        let mut levels = (0..FEATURE_LEVEL).rev();
        let before = levels.find(|level| transaction_version(*level) < 2);
        let before = before.unwrap();
        for (level, version, asked) in [
            (FEATURE_LEVEL, 5, true),
            (FEATURE_LEVEL, 4, true),
            (before, 5, false),
            (before, 4, true),
        ] {
            assert_eq!(is_asked(level, version), asked, "{level} {version}");
        }
    }
}
