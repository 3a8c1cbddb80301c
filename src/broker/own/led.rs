//! The partitions of a topic of the broker's own that are led by this shard, whose coordinators are here, and the
//! batches that those append.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::base::{ErrorCode, LeaderEpoch, LogId, Mono, ShardId, StoreId};
use crate::broker::fx::Fx;
use crate::broker::msg::{Appender, InTransaction, Msg, ProducePart, ProduceParts, ReqRef};
use crate::broker::owner::Owner;
use crate::controller::Image;
use crate::record;
use crate::replica::Mark;

/// Partitions by number, each with its log and the epoch in which it is led.
pub type LedPartitions = BTreeMap<i32, (LogId, LeaderEpoch)>;

/// Those of a topic that this shard leads by an image, which it serves by.
pub fn led_by(image: &Image, topic: &str, owner: &Owner) -> LedPartitions {
    let (topic, me) = (image.topic(topic), owner.config.node());
    let partitions = topic.iter().flat_map(|topic| topic.partitions.iter());
    let led = (0..).zip(partitions).filter(|(_, partition)| {
        let slot = partition.store.and_then(|store| owner.slot_of(store));
        let open = owner.partitions.get(&partition.log);
        // Of a log that is damaged it is said when it is loaded.
        let leads = open.is_none_or(|open| open.leader.is_some());
        partition.leader == me && slot.is_some() && leads
    });
    let led = led.map(|(index, it)| (index, (it.log, it.leader_epoch)));
    led.collect()
}

/// Store and log of a partition.
pub fn place_of(image: &Image, topic: &str, partition: i32) -> Option<(StoreId, LogId)> {
    let partition = image.topic(topic)?.partition(partition)?;
    Some((partition.store?, partition.log))
}

/// Sends a batch of a coordinator to its partition's owner, this shard: it is told of it by [`Msg::Appended`] with this
/// number.
///
/// # Errors
/// There is no such partition, or that is no batch.
pub fn send_batch(
    place: Option<(StoreId, LogId)>,
    (batch, transaction): (Bytes, Option<InTransaction>),
    of: (u64, LeaderEpoch),
    fx: &mut Fx<'_>,
) -> Result<(), ErrorCode> {
    send(place, (batch, transaction, false), of, fx)
}

/// The same of one that may [end](ProducePart::ends) a transaction.
///
/// # Errors
/// As of [`send_batch`].
pub fn send_end(
    place: Option<(StoreId, LogId)>,
    (batch, ends): (Bytes, bool),
    of: (u64, LeaderEpoch),
    fx: &mut Fx<'_>,
) -> Result<(), ErrorCode> {
    send(place, (batch, None, ends), of, fx)
}

fn send(
    place: Option<(StoreId, LogId)>,
    (batch, transaction, ends): (Bytes, Option<InTransaction>, bool),
    (id, epoch): (u64, LeaderEpoch),
    fx: &mut Fx<'_>,
) -> Result<(), ErrorCode> {
    let (store, log) = place.ok_or(ErrorCode::CoordinatorNotAvailable)?;
    let info = record::parse(&batch).map_err(|_| ErrorCode::UnknownServerError)?;
    let part = ProducePart {
        slot: 0,
        log,
        batch,
        info,
        admission: None,
        ends,
    };
    let me: ShardId = fx.me;
    fx.send(
        me,
        Msg::Produce {
            appender: Appender::Coordinator(ReqRef { shard: me, id }, epoch),
            parts: ProduceParts {
                store,
                transaction,
                mark: Mark::Committed,
                until: Mono::NEVER,
                batches: vec![part],
            },
        },
    );
    Ok(())
}
