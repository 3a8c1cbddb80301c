//! Whether a batch is too large for its topic.

use crate::base::{ErrorCode, Refused};
use crate::record::BatchInfo;

/// Whether a topic that allows `max` bytes takes a batch of a client.
///
/// # Errors
/// MESSAGE_TOO_LARGE, and what to do about it.
pub fn check_message_size(info: &BatchInfo, max: u64) -> Result<(), Refused> {
    if info.len as u64 <= max {
        return Ok(());
    }
    let message = format!(
        "The record batch has {} bytes, max.message.bytes allows {max}: lower batch.size and max.request.size of \
         the producer, or raise max.message.bytes of the topic.",
        info.len
    );
    Err(Refused::because(ErrorCode::MessageTooLarge, message))
}
