//! Fetch, versions 4 to 18, by hand: the records of a response are pieces of the
//! store that are never joined. Flexible from version 12, topics by id from 13.

mod request;
mod response;
#[cfg(test)]
mod tests;

use std::ops::RangeInclusive;

pub use request::{FetchPartition, FetchRequest, FetchTopic, ForgottenTopic, IsolationLevel};
pub use response::{
    AbortedTransaction, FetchHead, FetchPartitionResponse, FetchTopicResponse, encode_response,
};

/// The versions that are read and written here.
pub const VERSIONS: RangeInclusive<i16> = 4..=18;
pub(super) const FLEXIBLE_FROM: i16 = 12;
/// From this version on topics are named by id.
pub const TOPIC_IDS_FROM: i16 = 13;
pub(super) const SESSIONS_FROM: i16 = 7;
pub(super) const LOG_START_FROM: i16 = 5;
/// Fetching from the closest replica: the rack in the request, the replica in the response.
pub(super) const RACK_FROM: i16 = 11;
