//! What coordinators of any kind have in common: which partition is whose, what clients are told when an append of
//! theirs fails, and the shape of a record.

use bytes::Bytes;

use super::ErrorCode;

/// A record of a coordinator's partition: key and value, no value for a tombstone.
pub type Record = (Bytes, Option<Bytes>);

/// The partition of `__consumer_offsets` that holds a group, or of `__transaction_state` that holds a transactional id:
/// Java's `String.hashCode` over UTF-16
/// units, its absolute value (0 for the one that has none), modulo the number of partitions.
#[must_use]
pub fn partition_for(id: &str, partitions: i32) -> i32 {
    let hash = id.encode_utf16().fold(0i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    hash.checked_abs().unwrap_or(0) % partitions.max(1)
}

/// What Kafka tells clients when an append of the coordinator fails with `error`.
#[must_use]
pub fn client_error(error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::UnknownTopicOrPartition
        | ErrorCode::NotEnoughReplicas
        | ErrorCode::NotEnoughReplicasAfterAppend
        | ErrorCode::RequestTimedOut => ErrorCode::CoordinatorNotAvailable,
        ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError => ErrorCode::NotCoordinator,
        ErrorCode::MessageTooLarge
        | ErrorCode::RecordListTooLarge
        | ErrorCode::InvalidFetchSize => ErrorCode::UnknownServerError,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_those_of_java() {
        // "test".hashCode() == 3556498, "console-consumer-1".hashCode() is negative in Java.
        assert_eq!(partition_for("test", 50), 3_556_498 % 50);
        assert_eq!(partition_for("", 50), 0);
        // hashCode() == Integer.MIN_VALUE, which has no absolute value.
        assert_eq!(partition_for("polygenelubricants", 50), 0);
        // Surrogate pairs count as two units: U+1F600 is d83d de00.
        assert_eq!(partition_for("\u{1F600}", 1 << 30), 0xd83d * 31 + 0xde00);
    }
}
