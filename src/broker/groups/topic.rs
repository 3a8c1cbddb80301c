//! The internal topics of groups and of transactional ids, and which of their partitions is whose.

use crate::base::ErrorCode;
use crate::base::coordinating::partition_for;
use crate::controller::{Image, Partition};
use crate::coordinator::GroupAsk;

/// That of groups and committed offsets.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// The partition of a group, whose owner coordinates it.
///
/// # Errors
/// NOT_COORDINATOR if the topic does not exist.
pub fn of_group<'a>(image: &'a Image, group: &str) -> Result<(i32, &'a Partition), ErrorCode> {
    let topic = image.topic(OFFSETS_TOPIC);
    let topic = topic.ok_or(ErrorCode::NotCoordinator)?;
    let index = partition_for(group, topic.partitions.len() as i32);
    let partition = topic.partition(index).ok_or(ErrorCode::NotCoordinator)?;
    Ok((index, partition))
}

/// The partition whose owner is to be asked.
///
/// # Errors
/// What is wrong with the question, whether there is a coordinator or not; NOT_COORDINATOR.
pub fn of_ask<'a>(image: &'a Image, ask: &GroupAsk) -> Result<(i32, &'a Partition), ErrorCode> {
    match ask.flaw() {
        Some(flaw) => Err(flaw),
        None => of_group(image, ask.group()),
    }
}

/// The internal topic of transactional ids.
pub const TRANSACTIONS_TOPIC: &str = "__transaction_state";

/// The partition of a transactional id, whose owner coordinates it.
///
/// # Errors
/// NOT_COORDINATOR if the topic does not exist.
pub fn of_transaction<'a>(image: &'a Image, id: &str) -> Result<(i32, &'a Partition), ErrorCode> {
    let topic = image.topic(TRANSACTIONS_TOPIC);
    let topic = topic.ok_or(ErrorCode::NotCoordinator)?;
    let index = partition_for(id, topic.partitions.len() as i32);
    let partition = topic.partition(index).ok_or(ErrorCode::NotCoordinator)?;
    Ok((index, partition))
}
