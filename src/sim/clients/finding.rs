//! Where a client has to go with a request: it asks any node who leads a partition, or coordinates a group, and all
//! clients know it from then on.

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_wire as kw;

use super::client::Ctx;
use super::frames::{error_of, frame, message, text};
use super::shared::{Leader, Whom};
use crate::base::{ErrorCode, TopicId};
use crate::sim::fact::{Address, Fact, Place};
use crate::sim::what::What;
use crate::wire::client;

/// API keys.
const METADATA: i16 = 3;
const FIND_COORDINATOR: i16 = 10;
/// First Metadata version that must not create topics,
const READS_FROM: i16 = 4;
/// that tells leader epochs,
const EPOCHS_FROM: i16 = 7;
/// and that tells topic ids.
const IDS_FROM: i16 = 10;

/// The name of a group.
pub fn group_name(group: u32) -> String {
    format!("group-{group}")
}

/// A Metadata request for one topic, which must not create it, and its version, at least `min`.
pub fn ask_metadata(ctx: &mut Ctx<'_>, min: i16, name: &str) -> (i16, Bytes) {
    // A node that does not know the topic yet would have it created.
    let min = if ctx.shared.cluster {
        min.max(READS_FROM)
    } else {
        min
    };
    let version = ctx.version(METADATA, min);
    (version, metadata(version, name))
}

fn metadata(version: i16, name: &str) -> Bytes {
    let topic = message!(kw::metadata_request::MetadataRequestTopic {
        name: Some(text(name)),
    });
    let mut request = message!(kw::MetadataRequest {
        topics: Some(vec![topic]),
    });
    // Before that there is no such field, and before 10 no ids.
    request.allow_auto_topic_creation = version < READS_FROM;
    frame(version, &request)
}

/// The same with the id of the topic in the answer.
pub fn ask_identity(ctx: &mut Ctx<'_>, name: &str) -> (i16, Bytes) {
    ask_metadata(ctx, IDS_FROM, name)
}

/// What Metadata tells of a topic.
#[derive(Clone, Debug)]
pub struct Described {
    /// Its id; `None` before the version that tells it.
    pub id: Option<TopicId>,
    /// Where each partition's leader listens, if it has one.
    pub leaders: Vec<Option<Leader>>,
}

impl Described {
    /// Id and number of partitions. An id that is not told is the one that is known.
    #[must_use]
    pub fn shape(&self, known: TopicId) -> (TopicId, usize) {
        (self.id.unwrap_or(known), self.leaders.len())
    }

    /// Clients go where Metadata sends them, once the topic has its number.
    pub fn follow(&self, ctx: &mut Ctx<'_>, topic: u32) {
        for (partition, leader) in (0..).zip(&self.leaders) {
            let at = Place { topic, partition };
            if let Some(leader) = *leader {
                let Leader { address, epoch } = leader;
                let node = address.node;
                ctx.oracle.tell(Fact::Led { at, epoch, node });
                ctx.shared.leaders.insert(at, leader);
            }
        }
    }
}

/// The topic asked for, if it exists. Its leaders have to be among the brokers of the same answer; in a cluster a
/// partition may have none.
pub fn described(ctx: &Ctx<'_>, frame: Bytes, version: i16) -> Result<Option<Described>, String> {
    let (_, response) = client::decode_response::<kw::MetadataRequest>(frame, version)
        .map_err(|error| error.to_string())?;
    let topic = response.topics.first().ok_or("no topic in the answer")?;
    match error_of(topic.error_code) {
        ErrorCode::None => {}
        ErrorCode::UnknownTopicOrPartition => return Ok(None),
        error => return Err(error.to_string()),
    }
    let mut leaders = BTreeMap::new();
    for partition in &topic.partitions {
        let mut leader = None;
        if partition.leader_id >= 0 || !ctx.shared.cluster {
            let mut brokers = response.brokers.iter();
            let broker = brokers.find(|broker| broker.node_id == partition.leader_id);
            let unknown = || format!("{} leads, which is no broker", partition.leader_id);
            let broker = broker.ok_or_else(unknown)?;
            leader = Some(Leader {
                address: Address::parse(&broker.host, broker.port)?,
                epoch: (version >= EPOCHS_FROM).then_some(partition.leader_epoch),
            });
        }
        leaders.insert(partition.partition_index, leader);
    }
    if !leaders.keys().copied().eq(0..topic.partitions.len() as i32) {
        return Err(format!("partitions {:?}", leaders.keys()));
    }
    Ok(Some(Described {
        id: (version >= IDS_FROM).then(|| TopicId(*topic.topic_id.as_bytes())),
        leaders: leaders.into_values().collect(),
    }))
}

/// The transactional id of that number.
pub fn transactional_id(id: u32) -> String {
    format!("transactional-{id}")
}

/// Asks for the coordinator of a group, which makes the broker ready to be it.
pub fn find_coordinator(ctx: &mut Ctx<'_>, group: u32) -> (i16, Bytes) {
    let version = ctx.version(FIND_COORDINATOR, 0);
    find(version, &group_name(group), 0)
}

/// The same of transactions.
fn find_transactions(ctx: &mut Ctx<'_>, id: u32) -> (i16, Bytes) {
    let version = ctx.version(FIND_COORDINATOR, 1);
    find(version, &transactional_id(id), 1)
}

fn find(version: i16, name: &str, kind: i8) -> (i16, Bytes) {
    let mut request = kw::FindCoordinatorRequest::default();
    request.key_type = kind;
    if version >= 4 {
        request.coordinator_keys = vec![text(name)];
    } else {
        request.key = text(name);
    }
    (version, frame(version, &request))
}

/// Whether the coordinator was found; from then on it is known where it listens.
pub fn found_coordinator(
    ctx: &mut Ctx<'_>,
    group: u32,
    frame: Bytes,
    version: i16,
) -> Result<bool, String> {
    let found = found(ctx, frame, version)?;
    if let Some(address) = found {
        ctx.shared.coordinators.insert(group, address);
    }
    Ok(found.is_some())
}

/// Where a coordinator listens, if there is one now.
fn found(ctx: &Ctx<'_>, frame: Bytes, version: i16) -> Result<Option<Address>, String> {
    let (_, response) = client::decode_response::<kw::FindCoordinatorRequest>(frame, version)
        .map_err(|error| error.to_string())?;
    let (code, host, port) = if version >= 4 {
        let first = response.coordinators.first();
        let first = first.ok_or("no coordinator in the answer")?;
        (first.error_code, &first.host, first.port)
    } else {
        (response.error_code, &response.host, response.port)
    };
    match error_of(code) {
        ErrorCode::None => Address::parse(host, port).map(Some),
        ErrorCode::CoordinatorNotAvailable => Ok(None),
        error if ctx.passes(error) => Ok(None),
        error => Err(error.to_string()),
    }
}

/// Whether an error means that the coordinator has to be looked for again.
pub fn looks_again(error: ErrorCode) -> bool {
    matches!(
        error,
        ErrorCode::CoordinatorNotAvailable
            | ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::NotCoordinator
            | ErrorCode::KafkaStorageError
    )
}

/// In a cluster: asks where one has to go, and how that is asked.
pub fn ask_for(ctx: &mut Ctx<'_>, whom: Whom) -> (i16, Bytes) {
    match whom {
        Whom::Leader(Place { topic, .. }) => {
            let (name, _) = ctx.shared.names.get(&topic).cloned().unwrap_or_default();
            // One that comes and goes is told by its id from another one of its name.
            let stays = ctx.shared.topic(topic).is_some();
            ask_metadata(ctx, if stays { 0 } else { IDS_FROM }, &name)
        }
        Whom::Coordinator(group) => find_coordinator(ctx, group),
        Whom::Transactions(id) => find_transactions(ctx, id),
        Whom::Anybody => ask_metadata(ctx, 0, "nothing"),
    }
}

/// The answer to that: what is known is known to all.
pub fn told(ctx: &mut Ctx<'_>, whom: Whom, version: i16, frame: Bytes) -> Result<(), String> {
    match whom {
        Whom::Leader(Place { topic, .. }) => {
            let found = described(ctx, frame, version)?;
            let known = ctx.shared.names.get(&topic).map(|(_, id)| *id);
            let is_it = |found: &Described| found.id.is_none() || found.id == known;
            if let Some(found) = found.filter(is_it) {
                found.follow(ctx, topic);
            }
        }
        Whom::Coordinator(group) => {
            if !found_coordinator(ctx, group, frame, version)? {
                ctx.oracle.saw(What::NoCoordinator);
            }
        }
        Whom::Transactions(id) => match found(ctx, frame, version)? {
            Some(address) => {
                ctx.shared.transactions.insert(id, address);
            }
            None => ctx.oracle.saw(What::NoCoordinator),
        },
        Whom::Anybody => {}
    }
    Ok(())
}
