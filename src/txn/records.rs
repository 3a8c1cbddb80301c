//! The records of `__transaction_state` in Kafka's binary formats, so that Kafka's tools can read the topic and a topic
//! written by Kafka can be taken over.
//!
//! Written: TransactionLogKey 0, TransactionLogValue 0, as Kafka does while `transaction.version` is not above 1. Read:
//! values 0 and 1. Of the tagged fields of version 1 the producer id before is read, and all others are skipped: those
//! of transactions of version 2, which are not kept here. Keys of other kinds are known to be unknown.

use std::collections::BTreeSet;

use bytes::{BufMut, Bytes, BytesMut};

use super::state::{TxnFacts, TxnPartition, TxnState};
use crate::base::coordinating::Record;
use crate::base::fields::{FieldReader, RecordError, put_string};
use crate::base::limits::TXN_PARTITIONS_READ_MAX;
use crate::base::name;

const KEY_VERSION: i16 = 0;
const VALUE_VERSION: i16 = 0;
/// The number of the tagged field that has the producer id before.
const PREVIOUS_PRODUCER_ID_TAG: u32 = 0;

/// The key of a transactional id.
#[must_use]
pub fn txn_key(id: &str) -> Bytes {
    let mut out = BytesMut::with_capacity(2 + 2 + id.len());
    out.put_i16(KEY_VERSION);
    put_string(&mut out, id);
    out.freeze()
}

/// The value of what is known of one.
#[must_use]
pub fn txn_value(facts: &TxnFacts) -> Bytes {
    let mut out = BytesMut::with_capacity(64 + 8 * facts.partitions.len());
    out.put_i16(VALUE_VERSION);
    out.put_i64(facts.producer_id);
    out.put_i16(facts.epoch);
    out.put_i32(facts.timeout_ms);
    out.put_i8(facts.state.number());
    if facts.state == TxnState::Empty {
        out.put_i32(-1);
    } else {
        put_partitions(&mut out, &facts.partitions);
    }
    out.put_i64(facts.updated_ms);
    out.put_i64(facts.start_ms);
    out.freeze()
}

/// Topics, each with its partitions, which are in order.
fn put_partitions(out: &mut BytesMut, partitions: &BTreeSet<TxnPartition>) {
    let all: Vec<&TxnPartition> = partitions.iter().collect();
    let topics = || all.chunk_by(|one, next| one.0 == next.0);
    out.put_i32(topics().count() as i32);
    for topic in topics() {
        put_string(out, &topic[0].0);
        out.put_i32(topic.len() as i32);
        topic.iter().for_each(|(_, index)| out.put_i32(*index));
    }
}

/// The record of a transactional id, or its tombstone.
#[must_use]
pub fn txn_record(id: &str, facts: Option<&TxnFacts>) -> Record {
    (txn_key(id), facts.map(txn_value))
}

/// Reads a key: a transactional id; `None` for a record of a kind that this broker does not keep.
///
/// # Errors
/// If it is malformed.
pub fn parse_txn_key(key: &[u8]) -> Result<Option<&str>, RecordError> {
    let mut key = FieldReader {
        rest: key,
        compact: false,
    };
    match key.i16()? {
        KEY_VERSION => key.text().map(Some),
        _ => Ok(None),
    }
}

/// Reads a value.
///
/// # Errors
/// If it is malformed, or of a version or a state that is not known.
pub fn parse_txn_value(value: &[u8]) -> Result<TxnFacts, RecordError> {
    let mut value = FieldReader {
        rest: value,
        compact: false,
    };
    let version = value.i16()?;
    if !(0..=1).contains(&version) {
        return Err(RecordError::UnknownVersion(version));
    }
    value.compact = version >= 1;
    let producer_id = value.i64()?;
    let epoch = value.i16()?;
    let timeout_ms = value.i32()?;
    let [state] = value.array()?;
    let state = TxnState::of_number(state as i8).ok_or(RecordError::Malformed)?;
    let partitions = partitions(&mut value)?;
    let updated_ms = value.i64()?;
    let start_ms = value.i64()?;
    let previous = value.tagged_field(PREVIOUS_PRODUCER_ID_TAG)?;
    let previous = previous.and_then(|bytes| bytes.try_into().ok());
    Ok(TxnFacts {
        producer_id,
        previous_producer_id: previous.map_or(-1, i64::from_be_bytes),
        epoch,
        last_epoch: super::state::NO_EPOCH,
        timeout_ms,
        state,
        partitions,
        start_ms,
        updated_ms,
    })
}

fn partitions(value: &mut FieldReader<'_>) -> Result<BTreeSet<TxnPartition>, RecordError> {
    let mut partitions = BTreeSet::new();
    let Some(topics) = value.length(FieldReader::i32)? else {
        return Ok(partitions);
    };
    for _ in 0..topics {
        let topic = name(value.text()?);
        for _ in 0..value.array_len()? {
            partitions.insert((topic.clone(), value.i32()?));
            if partitions.len() > TXN_PARTITIONS_READ_MAX {
                return Err(RecordError::Malformed);
            }
        }
        value.skip_tagged_fields()?;
    }
    Ok(partitions)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> TxnFacts {
        let facts = TxnFacts::new(4711, 60_000, 5);
        let of = |topic: &str, index| (name(topic), index);
        let mut facts = facts.with([of("b", 3), of("a", 1), of("a", 0)], 7);
        facts.epoch = 9;
        facts
    }

    /// The bytes that Kafka's own code writes for this.
    #[test]
    fn a_record_has_the_bytes_of_kafka() {
        let (key, value) = txn_record("id", Some(&facts()));
        assert_eq!(&key[..], b"\0\0\0\x02id");
        let mut want = vec![0, 0];
        want.extend(4711i64.to_be_bytes());
        want.extend(9i16.to_be_bytes());
        want.extend(60_000i32.to_be_bytes());
        want.push(1);
        want.extend(b"\0\0\0\x02\0\x01a\0\0\0\x02\0\0\0\0\0\0\0\x01\0\x01b\0\0\0\x01\0\0\0\x03");
        want.extend(7i64.to_be_bytes());
        want.extend(7i64.to_be_bytes());
        assert_eq!(value.unwrap(), want);
        assert_eq!(txn_record("id", None).1, None);
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        for state in TxnState::ALL {
            let mut facts = facts();
            facts.state = state;
            let read = parse_txn_value(&txn_value(&facts)).unwrap();
            if state == TxnState::Empty {
                facts.partitions.clear();
            }
            assert_eq!(read, facts);
        }
        assert_eq!(parse_txn_key(&txn_key("id")), Ok(Some("id")));
        assert_eq!(parse_txn_key(&[0, 9, 1]), Ok(None));
    }

    #[test]
    fn the_flexible_version_is_read() {
        let mut value = vec![0, 1];
        value.extend(4711i64.to_be_bytes());
        value.extend(9i16.to_be_bytes());
        value.extend(60_000i32.to_be_bytes());
        value.push(1);
        value.extend(b"\x03\x02a\x03\0\0\0\0\0\0\0\x01\0\x02b\x02\0\0\0\x03\0");
        value.extend(7i64.to_be_bytes());
        value.extend(7i64.to_be_bytes());
        // The producer id before, and the version of the client's transactions.
        value.extend(b"\x02\0\x08\0\0\0\0\0\0\0\x2a\x02\x02\0\x02");
        let read = parse_txn_value(&value).unwrap();
        let mut want = facts();
        want.previous_producer_id = 42;
        assert_eq!(read, want);
    }

    #[test]
    fn what_is_malformed_is_an_error() {
        let value = txn_value(&facts());
        for len in 0..value.len() {
            assert!(parse_txn_value(&value[..len]).is_err(), "{len}");
        }
        let mut of_later = value.to_vec();
        of_later[1] = 2;
        assert_eq!(
            parse_txn_value(&of_later),
            Err(RecordError::UnknownVersion(2))
        );
        let mut state = value.to_vec();
        state[16] = 99;
        assert!(parse_txn_value(&state).is_err());
        assert!(parse_txn_key(&[0]).is_err());
    }
}
