//! Fetch, versions 4 to 18, by hand: the records of a response are pieces of the
//! store that are never joined. Flexible from version 12, topics by id from 13.

mod request;
mod response;
#[cfg(test)]
mod tests;
pub(super) mod versions;

pub use request::{FetchPartition, FetchRequest, FetchTopic, ForgottenTopic, IsolationLevel};
pub use response::{
    AbortedTransaction, FetchHead, FetchPartitionResponse, FetchTopicResponse, encode_response,
};
pub use versions::{LEADERS_FROM, TOPIC_IDS_FROM, VERSIONS};
