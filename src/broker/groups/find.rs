//! FindCoordinator (10), versions 0-6; 4 and up ask for many keys at once.
//!
//! A group is coordinated by the broker that leads its partition of `__consumer_offsets`, a transactional id by the one
//! that leads its partition of `__transaction_state`; each topic is created when somebody first asks. There are no
//! share groups: INVALID_REQUEST. As in Kafka the key of a group is
//! not looked at: an invalid group id is refused by the requests that use it.

use std::collections::VecDeque;

use bytes::Bytes;
use kafka_wire::find_coordinator_response::Coordinator;
use kafka_wire::{FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_wire_core::StrBytes;

use super::topic::{OFFSETS_TOPIC, TRANSACTIONS_TOPIC, of_group, of_transaction};
use crate::base::{ErrorCode, Leftovers, Refused};
use crate::broker::admin::{self, Announced, Answer, Ctx, Decision, List, answer, list};
use crate::wire::{self, RequestHeader, WireError, text_size};

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE: i8 = 2;

/// Node id of an answer without a node, with an empty host and port -1.
const NO_NODE: i32 = -1;

/// Decides on the topic that has to be created before the request is answered.
pub fn create_coordinators(
    header: &RequestHeader,
    body: Bytes,
) -> Result<Box<dyn Decision>, WireError> {
    let key_type = match header.version {
        ..4 => wire::decode::<FindCoordinatorRequest>(body, header.version)?.key_type,
        // Before the keys, which may be very many.
        _ => body.first().map_or(GROUP, |first| first.cast_signed()),
    };
    Ok(admin::create_own(match key_type {
        TRANSACTION => TRANSACTIONS_TOPIC,
        _ => OFFSETS_TOPIC,
    }))
}

/// FindCoordinator, unless there is something to be created first.
pub fn find_coordinator(ctx: &Ctx<'_>, header: &RequestHeader, body: Bytes) -> Answer {
    if header.version >= 4 {
        return list::<Coordinators<true>>(ctx, header, body);
    }
    let request = wire::decode::<FindCoordinatorRequest>(body.clone(), header.version);
    match request {
        Ok(request) if is_missing(ctx, request.key_type) => Answer::Create,
        // A request that cannot be read is refused when it is answered.
        _ => find_one(ctx, header, body),
    }
}

/// The same when what could be created is there.
pub fn find_after_creation(ctx: &Ctx<'_>, header: &RequestHeader, body: Bytes) -> Answer {
    match header.version {
        ..4 => find_one(ctx, header, body),
        _ => list::<Coordinators<false>>(ctx, header, body),
    }
}

/// Whether the topic is to be created by which coordinators are found.
fn is_missing(ctx: &Ctx<'_>, key_type: i8) -> bool {
    let topic = match key_type {
        GROUP => OFFSETS_TOPIC,
        TRANSACTION => TRANSACTIONS_TOPIC,
        _ => return false,
    };
    ctx.image.topic(topic).is_none()
}

/// Finds the only key of an old version.
fn find_one(ctx: &Ctx<'_>, header: &RequestHeader, body: Bytes) -> Answer {
    answer(header, body, |request: FindCoordinatorRequest| {
        let mut response = FindCoordinatorResponse::default();
        let found = coordinator(ctx, request.key_type, &request.key);
        response.error_code = found.error_code;
        response.error_message = found.error_message;
        response.node_id = found.node_id;
        response.host = found.host;
        response.port = found.port;
        response
    })
}

/// The coordinators of many keys.
#[derive(Debug)]
struct Coordinators<const CREATE: bool> {
    key_type: i8,
    keys: VecDeque<StrBytes>,
    creates: bool,
}

impl<const CREATE: bool> List for Coordinators<CREATE> {
    type Request = FindCoordinatorRequest;
    type Element = Coordinator;
    type Part = Coordinator;

    fn new(_: i16, listed: Option<usize>) -> Self {
        Self {
            key_type: GROUP,
            keys: VecDeque::with_capacity(listed.unwrap_or(0)),
            creates: false,
        }
    }

    fn take(&mut self, key: StrBytes) {
        self.keys.push_back(key);
    }

    fn rest(&mut self, ctx: &Ctx<'_>, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
        self.key_type = request.key_type;
        self.creates = CREATE && is_missing(ctx, request.key_type);
        FindCoordinatorResponse::default()
    }

    fn next(&mut self, ctx: &Ctx<'_>, _: usize) -> Option<Coordinator> {
        let key = self.keys.pop_front()?;
        let mut found = coordinator(ctx, self.key_type, &key);
        found.key = key;
        Some(found)
    }

    fn leave(self, leftovers: &mut Leftovers) {
        leftovers.add(self.keys, |_| 0);
    }

    fn size(found: &Coordinator) -> usize {
        text_size(&found.key)
    }

    fn creates(&self) -> bool {
        self.creates
    }
}

/// The answer for one key, but for the key itself.
fn coordinator(ctx: &Ctx<'_>, key_type: i8, key: &str) -> Coordinator {
    let mut coordinator = Coordinator::default();
    match find(ctx, key_type, key) {
        Ok(found) => {
            coordinator.node_id = found.id;
            coordinator.host = found.host;
            coordinator.port = found.port;
        }
        Err(refused) => {
            coordinator.error_code = refused.code.code();
            coordinator.error_message = Some(StrBytes::from(refused.text()));
            coordinator.node_id = NO_NODE;
            coordinator.port = -1;
        }
    }
    coordinator
}

fn find(ctx: &Ctx<'_>, key_type: i8, key: &str) -> Result<Announced, Refused> {
    let refused = |message: &'static str| Err(Refused::because(ErrorCode::InvalidRequest, message));
    let found = match key_type {
        GROUP => of_group(ctx.image, key),
        TRANSACTION => of_transaction(ctx.image, key),
        SHARE => return refused("This broker does not support share groups."),
        _ => return refused("The type of the coordinator key is unknown."),
    };
    match found {
        Ok((_, partition)) => {
            let leader = ctx
                .brokers
                .leader(ctx.image, ctx.config, ctx.listener, partition);
            leader.ok_or_else(|| ErrorCode::CoordinatorNotAvailable.into())
        }
        Err(_) => Err(ErrorCode::CoordinatorNotAvailable.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ErrorCode as E;
    use crate::broker::admin::testing::Cluster;
    use crate::broker::apis::api;
    use crate::wire::client::encode_request;
    use crate::wire::parse_header;

    const FIND_COORDINATOR: i16 = 10;

    fn create(mut cluster: Cluster) -> Cluster {
        let (_, change) = cluster.decide(1, &request(1, &["g"], GROUP), create_coordinators);
        cluster.commit(&change);
        cluster
    }

    fn request(version: i16, keys: &[&str], key_type: i8) -> FindCoordinatorRequest {
        let mut request = FindCoordinatorRequest::default();
        request.key_type = key_type;
        if version >= 4 {
            request.coordinator_keys = keys.iter().map(|key| StrBytes::from(*key)).collect();
        } else {
            request.key = keys[0].into();
        }
        request
    }

    fn ask(
        cluster: &mut Cluster,
        version: i16,
        keys: &[&str],
        key_type: i8,
    ) -> FindCoordinatorResponse {
        cluster.read(
            version,
            &request(version, keys, key_type),
            find_after_creation,
        )
    }

    /// Whether something has to be created first.
    fn creates(cluster: &mut Cluster, version: i16, key_type: i8) -> bool {
        let request = request(version, &["g"], key_type);
        let frame = encode_request(5, None, version, &request).unwrap();
        let (header, body) = parse_header(frame.slice(4..), api).unwrap();
        let answer = find_coordinator(&cluster.ctx(), &header, body);
        matches!(answer, Answer::Create)
    }

    fn versions() -> std::ops::RangeInclusive<i16> {
        let api = api(FIND_COORDINATOR).unwrap();
        api.min..=api.max
    }

    #[test]
    fn all_versions_name_this_node() {
        let mut cluster = create(Cluster::new());
        let port = i32::from(cluster.ctx().config.advertised(0).1);
        for version in versions() {
            let found = ask(&mut cluster, version, &["g", "h"], GROUP);
            if version >= 4 {
                let keys: Vec<&str> = found.coordinators.iter().map(|c| c.key.as_str()).collect();
                assert_eq!(keys, ["g", "h"]);
                for one in &found.coordinators {
                    assert_eq!((one.error_code, one.port), (0, port));
                }
            } else {
                assert_eq!((found.error_code, found.port), (0, port));
            }
            let refused = [
                (TRANSACTION, E::CoordinatorNotAvailable),
                (SHARE, E::InvalidRequest),
                (9, E::InvalidRequest),
            ];
            for (key_type, want) in refused.into_iter().filter(|_| version >= 1) {
                let refused = ask(&mut cluster, version, &["g"], key_type);
                let first = refused.coordinators.first();
                let code = first.map_or(refused.error_code, |c| c.error_code);
                assert_eq!(code, want.code());
            }
        }
    }

    #[test]
    fn a_group_makes_the_topic_be_created() {
        let mut cluster = Cluster::new();
        assert!(versions().all(|version| creates(&mut cluster, version, GROUP)));
        assert!(creates(&mut cluster, 6, TRANSACTION) && !creates(&mut cluster, 6, SHARE));
        let found = ask(&mut cluster, 1, &["g"], GROUP);
        assert_eq!(
            (found.error_code, found.port),
            (E::CoordinatorNotAvailable.code(), -1)
        );
        let mut cluster = create(cluster);
        assert!(!creates(&mut cluster, 1, GROUP));
    }

    #[test]
    fn with_direct_ports_it_is_the_shard_that_has_the_partition() {
        let mut cluster = create(Cluster::direct());
        for group in 0..100 {
            let group = format!("g{group}");
            let ctx = cluster.ctx();
            let (_, partition) = of_group(ctx.image, &group).unwrap();
            let leader = ctx.brokers.leader(ctx.image, ctx.config, 0, partition);
            let want = leader.unwrap();
            let found = ask(&mut cluster, 6, &[&group], GROUP).coordinators;
            assert_eq!((found[0].node_id, found[0].port), (want.id, want.port));
        }
    }
}
