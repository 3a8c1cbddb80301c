//! The records of `__transaction_state` in Kafka's binary formats, so that Kafka's tools can read the topic and a topic
//! written by Kafka can be taken over.
//!
//! Written: TransactionLogKey 0 and TransactionLogValue 1, or 0 where the cluster's `transaction.version` is 0, as in
//! Kafka. Read: values 0 and 1. Tagged fields that are not known are skipped: those of transactions that are prepared
//! first (KIP-939). Keys of other kinds are known to be unknown.

use std::collections::BTreeSet;

use bytes::{BufMut, Bytes, BytesMut};

use super::state::{NO_PRODUCER_ID, TxnFacts, TxnPartition, TxnState, TxnVersion};
use crate::base::coordinating::Record;
use crate::base::fields::{FieldReader, RecordError, put_compact_string, put_string, put_varint};
use crate::base::limits::TXN_PARTITIONS_READ_MAX;
use crate::base::name;

const KEY_VERSION: i16 = 0;
/// The first version of values with tagged fields.
const FLEXIBLE_VERSION: i16 = 1;
/// The numbers of tagged fields: the producer id before, the one that comes, the client's version of transactions.
const TAGS: [u32; 3] = [0, 1, 2];

/// The key of a transactional id.
#[must_use]
pub fn txn_key(id: &str) -> Bytes {
    let mut out = BytesMut::with_capacity(2 + 2 + id.len());
    out.put_i16(KEY_VERSION);
    put_string(&mut out, id);
    out.freeze()
}

/// The value of what is known of one, where the cluster's transactions are of this version.
#[must_use]
pub fn txn_value(facts: &TxnFacts, cluster: TxnVersion) -> Bytes {
    // Who asks by a newer version has heard that it is the cluster's, before the coordinator did.
    let is_flexible = cluster.max(facts.version) > TxnVersion::V0;
    let mut out = BytesMut::with_capacity(96 + 8 * facts.partitions.len());
    out.put_i16(if is_flexible { FLEXIBLE_VERSION } else { 0 });
    out.put_i64(facts.producer_id);
    out.put_i16(facts.epoch);
    out.put_i32(facts.timeout_ms);
    out.put_i8(facts.state.number());
    let partitions = (facts.state != TxnState::Empty).then_some(&facts.partitions);
    match is_flexible {
        true => put_compact_partitions(&mut out, partitions),
        false => put_partitions(&mut out, partitions),
    }
    out.put_i64(facts.updated_ms);
    out.put_i64(facts.start_ms);
    if is_flexible {
        put_tagged(&mut out, facts);
    }
    out.freeze()
}

/// Topics, each with its partitions, which are in order.
fn by_topic(partitions: &BTreeSet<TxnPartition>) -> Vec<(&str, Vec<i32>)> {
    let all: Vec<&TxnPartition> = partitions.iter().collect();
    let topics = all.chunk_by(|one, next| one.0 == next.0);
    let topic = |all: &[&TxnPartition]| all.iter().map(|(_, index)| *index).collect();
    topics.map(|all| (&*all[0].0, topic(all))).collect()
}

fn put_partitions(out: &mut BytesMut, partitions: Option<&BTreeSet<TxnPartition>>) {
    let Some(partitions) = partitions else {
        return out.put_i32(-1);
    };
    let topics = by_topic(partitions);
    out.put_i32(topics.len() as i32);
    for (topic, indexes) in topics {
        put_string(out, topic);
        out.put_i32(indexes.len() as i32);
        indexes.into_iter().for_each(|index| out.put_i32(index));
    }
}

/// The same, as the flexible version has it.
fn put_compact_partitions(out: &mut BytesMut, partitions: Option<&BTreeSet<TxnPartition>>) {
    let Some(partitions) = partitions else {
        return out.put_u8(0);
    };
    let topics = by_topic(partitions);
    put_varint(out, topics.len() as u32 + 1);
    for (topic, indexes) in topics {
        put_compact_string(out, topic);
        put_varint(out, indexes.len() as u32 + 1);
        indexes.into_iter().for_each(|index| out.put_i32(index));
        put_varint(out, 0);
    }
}

/// Those that differ from what stands for nothing.
fn put_tagged(out: &mut BytesMut, facts: &TxnFacts) {
    let ids = [facts.previous_producer_id, facts.next_producer_id];
    let ids = || {
        TAGS.into_iter()
            .zip(ids)
            .filter(|(_, id)| *id != NO_PRODUCER_ID)
    };
    let has_version = facts.version != TxnVersion::V0;
    put_varint(out, ids().count() as u32 + u32::from(has_version));
    for (tag, id) in ids() {
        put_varint(out, tag);
        put_varint(out, size_of::<i64>() as u32);
        out.put_i64(id);
    }
    if has_version {
        put_varint(out, TAGS[2]);
        put_varint(out, size_of::<i16>() as u32);
        out.put_i16(facts.version.number());
    }
}

/// The record of a transactional id, or its tombstone, where the cluster's transactions are of this version.
#[must_use]
pub fn txn_record(id: &str, facts: Option<&TxnFacts>, cluster: TxnVersion) -> Record {
    (txn_key(id), facts.map(|facts| txn_value(facts, cluster)))
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
    if !(0..=FLEXIBLE_VERSION).contains(&version) {
        return Err(RecordError::UnknownVersion(version));
    }
    value.compact = version == FLEXIBLE_VERSION;
    let producer_id = value.i64()?;
    let epoch = value.i16()?;
    let timeout_ms = value.i32()?;
    let [state] = value.array()?;
    let state = TxnState::of_number(state as i8).ok_or(RecordError::Malformed)?;
    let partitions = partitions(&mut value)?;
    let updated_ms = value.i64()?;
    let start_ms = value.i64()?;
    let [previous, next, client] = value.tagged_fields(TAGS)?;
    let id = |field: Option<&[u8]>| match field {
        Some(field) => Ok(i64::from_be_bytes(sized(field)?)),
        None => Ok(NO_PRODUCER_ID),
    };
    let client = client.map_or(Ok([0, 0]), sized)?;
    Ok(TxnFacts {
        producer_id,
        previous_producer_id: id(previous)?,
        next_producer_id: id(next)?,
        epoch,
        last_epoch: super::state::NO_EPOCH,
        timeout_ms,
        state,
        partitions,
        start_ms,
        updated_ms,
        version: TxnVersion::of_number(i16::from_be_bytes(client)),
    })
}

/// The bytes of a tagged field, if they are as many as there should be.
fn sized<const N: usize>(field: &[u8]) -> Result<[u8; N], RecordError> {
    field.try_into().map_err(|_| RecordError::Malformed)
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

    const CLUSTERS: [TxnVersion; 2] = [TxnVersion::V0, TxnVersion::V2];

    fn facts() -> TxnFacts {
        let facts = TxnFacts::new(4711, 60_000, 5);
        let of = |topic: &str, index| (name(topic), index);
        let partitions = [of("b", 3), of("a", 1), of("a", 0)];
        let mut facts = facts.with(partitions, TxnVersion::V0, 7);
        (facts.epoch, facts.previous_producer_id) = (9, NO_PRODUCER_ID);
        facts
    }

    fn fields(version: u8) -> Vec<u8> {
        let mut want = vec![0, version];
        want.extend(4711i64.to_be_bytes());
        want.extend(9i16.to_be_bytes());
        want.extend(60_000i32.to_be_bytes());
        want.push(1);
        want
    }

    /// The bytes that Kafka's own code writes for this.
    #[test]
    fn a_record_has_the_bytes_of_kafka() {
        let (key, value) = txn_record("id", Some(&facts()), TxnVersion::V0);
        assert_eq!(&key[..], b"\0\0\0\x02id");
        let mut want = fields(0);
        want.extend(b"\0\0\0\x02\0\x01a\0\0\0\x02\0\0\0\0\0\0\0\x01\0\x01b\0\0\0\x01\0\0\0\x03");
        want.extend(7i64.to_be_bytes());
        want.extend(7i64.to_be_bytes());
        assert_eq!(value.unwrap(), want);
        assert_eq!(txn_record("id", None, TxnVersion::V2).1, None);
    }

    #[test]
    fn the_flexible_version_has_the_bytes_of_kafka() {
        let mut value = fields(1);
        value.extend(b"\x03\x02a\x03\0\0\0\0\0\0\0\x01\0\x02b\x02\0\0\0\x03\0");
        value.extend(7i64.to_be_bytes());
        value.extend(7i64.to_be_bytes());
        // The producer id before, the one that comes, and the version of the client's transactions.
        value.extend(b"\x03\0\x08\0\0\0\0\0\0\0\x2a\x01\x08\0\0\0\0\0\0\0\x2b\x02\x02\0\x02");
        let mut want = facts();
        (want.previous_producer_id, want.next_producer_id) = (42, 43);
        want.version = TxnVersion::V2;
        for cluster in CLUSTERS {
            assert_eq!(txn_value(&want, cluster), value, "nothing of it is lost");
        }
        assert_eq!(parse_txn_value(&value).as_ref(), Ok(&want));
        // What is not known is skipped: the next epoch of a transaction that is prepared first.
        let at = value.len() - 25;
        assert_eq!(value[at..at + 2], [3, 0]);
        value[at] = 4;
        value.extend(b"\x03\x02\0\x07");
        assert_eq!(parse_txn_value(&value), Ok(want));
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        for (state, cluster) in TxnState::ALL
            .into_iter()
            .flat_map(|it| CLUSTERS.map(|of| (it, of)))
        {
            let mut facts = facts();
            facts.state = state;
            let read = parse_txn_value(&txn_value(&facts, cluster)).unwrap();
            if state == TxnState::Empty {
                facts.partitions.clear();
            }
            assert_eq!(read, facts);
        }
        assert_eq!(parse_txn_key(&txn_key("id")), Ok(Some("id")));
        assert_eq!(parse_txn_key(&[0, 9, 1]), Ok(None));
    }

    #[test]
    fn what_is_malformed_is_an_error() {
        for cluster in CLUSTERS {
            let value = txn_value(&facts(), cluster);
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
        }
        let mut field = txn_value(&facts(), TxnVersion::V2).to_vec();
        assert_eq!(field.pop(), Some(0));
        field.extend(b"\x01\0\x07\0\0\0\0\0\0\0");
        assert_eq!(parse_txn_value(&field), Err(RecordError::Malformed));
        assert!(parse_txn_key(&[0]).is_err());
    }
}
