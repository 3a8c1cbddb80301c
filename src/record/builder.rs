//! Making a batch: for the broker's internal topics, the load generator, the
//! simulator's clients and the tools.

use bytes::Bytes;
use zerocopy::IntoBytes;
use zerocopy::big_endian::{I16, I32, I64, U32};

use super::batch::{BatchHeader, CONTROL, HEADER_LEN, LOG_OVERHEAD, TRANSACTIONAL, set_crc};
use super::codec::Codec;
use super::varint::{nullable_bytes_len, put_nullable_bytes, put_varlong, varlong_len};

/// Builds one batch of magic 2. Records get the offsets 0, 1, 2 and so on.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    codec: Codec,
    attributes: i16,
    base_timestamp: i64,
    max_timestamp: i64,
    producer: (i64, i16, i32),
    count: i32,
    /// Room for the header, then the records, uncompressed.
    bytes: Vec<u8>,
}

impl BatchBuilder {
    /// An empty batch. `base_timestamp` is milliseconds since 1970, best the first record's.
    #[must_use]
    pub fn new(codec: Codec, base_timestamp: i64) -> Self {
        Self::with_capacity(codec, base_timestamp, 0)
    }

    /// An empty batch with room for `bytes` bytes of records.
    #[must_use]
    pub fn with_capacity(codec: Codec, base_timestamp: i64, bytes: usize) -> Self {
        let mut buffer = Vec::with_capacity(HEADER_LEN + bytes);
        buffer.resize(HEADER_LEN, 0);
        Self {
            codec,
            attributes: i16::from(codec.id()),
            base_timestamp,
            max_timestamp: -1,
            producer: (-1, -1, -1),
            count: 0,
            bytes: buffer,
        }
    }

    /// The idempotent producer that sends it, and the sequence number of the first record.
    #[must_use]
    pub const fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> Self {
        self.producer = (id, epoch, base_sequence);
        self
    }

    /// Makes the batch part of a transaction.
    #[must_use]
    pub const fn transactional(mut self) -> Self {
        self.attributes |= TRANSACTIONAL;
        self
    }

    /// Makes it a control batch: markers of the broker, not records.
    #[must_use]
    pub const fn control(mut self) -> Self {
        self.attributes |= CONTROL;
        self
    }

    /// Adds a record. `timestamp` is milliseconds since 1970.
    pub fn push(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) {
        let timestamp_delta = timestamp.wrapping_sub(self.base_timestamp);
        let offset_delta = i64::from(self.count);
        let len = 1
            + varlong_len(timestamp_delta)
            + varlong_len(offset_delta)
            + nullable_bytes_len(key.map(<[u8]>::len))
            + nullable_bytes_len(value.map(<[u8]>::len))
            + varlong_len(headers.len() as i64)
            + headers
                .iter()
                .map(|header| header_len(header))
                .sum::<usize>();

        let out = &mut self.bytes;
        put_varlong(out, len as i64);
        out.push(0);
        put_varlong(out, timestamp_delta);
        put_varlong(out, offset_delta);
        put_nullable_bytes(out, key);
        put_nullable_bytes(out, value);
        put_varlong(out, headers.len() as i64);
        for (name, value) in headers {
            put_nullable_bytes(out, Some(name.as_bytes()));
            put_nullable_bytes(out, *value);
        }
        self.count += 1;
        self.max_timestamp = self.max_timestamp.max(timestamp);
    }

    /// Number of records so far.
    #[must_use]
    pub const fn records(&self) -> usize {
        self.count as usize
    }

    /// Bytes of the batch so far, header included, not compressed.
    #[must_use]
    pub fn uncompressed_len(&self) -> usize {
        self.bytes.len()
    }

    /// The whole batch: base offset 0, leader epoch -1, CRC set. Without records it is what
    /// compaction leaves of an emptied batch; no broker takes that from a producer.
    ///
    /// # Panics
    /// If the batch is 2 GiB or longer, which its length field cannot say.
    #[must_use]
    pub fn build(self) -> Bytes {
        let mut batch = if self.codec == Codec::None {
            self.bytes
        } else {
            let mut packed = vec![0; HEADER_LEN];
            self.codec.compress(&self.bytes[HEADER_LEN..], &mut packed);
            packed
        };
        let length = i32::try_from(batch.len() - LOG_OVERHEAD).expect("a batch is below 2 GiB");
        let (producer_id, producer_epoch, base_sequence) = self.producer;
        let header = BatchHeader {
            base_offset: I64::new(0),
            batch_length: I32::new(length),
            partition_leader_epoch: I32::new(-1),
            magic: 2,
            crc: U32::new(0),
            attributes: I16::new(self.attributes),
            last_offset_delta: I32::new((self.count - 1).max(0)),
            base_timestamp: I64::new(self.base_timestamp),
            max_timestamp: I64::new(self.max_timestamp),
            producer_id: I64::new(producer_id),
            producer_epoch: I16::new(producer_epoch),
            base_sequence: I32::new(base_sequence),
            records_count: I32::new(self.count),
        };
        batch[..HEADER_LEN].copy_from_slice(header.as_bytes());
        set_crc(&mut batch);
        batch.into()
    }
}

fn header_len((name, value): &(&str, Option<&[u8]>)) -> usize {
    nullable_bytes_len(Some(name.len())) + nullable_bytes_len(value.map(<[u8]>::len))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;
    use crate::record::{check_crc, parse, records};

    #[test]
    fn known_bytes() {
        let mut builder = BatchBuilder::new(Codec::None, 1_000).producer(9, 3, 40);
        builder.push(1_001, Some(b"k"), Some(b"v"), &[]);
        let batch = builder.build();
        // length 8: attributes, timestamp delta 1, offset delta 0, "k", "v", no headers
        assert_eq!(batch[HEADER_LEN..], [16, 0, 2, 0, 2, b'k', 2, b'v', 0]);
        let info = parse(&batch).unwrap();
        assert_eq!(
            (info.producer_id, info.producer_epoch, info.base_sequence),
            (9, 3, 40)
        );
        assert_eq!((info.base_timestamp, info.max_timestamp), (1_000, 1_001));
        assert_eq!(
            (info.len, info.records, info.leader_epoch),
            (batch.len(), 1, -1)
        );
    }

    #[test]
    fn flags() {
        let mut builder = BatchBuilder::new(Codec::Zstd, 0).transactional().control();
        builder.push(0, None, None, &[]);
        let info = parse(&builder.build()).unwrap();
        assert!(info.is_transactional() && info.is_control());
        assert_eq!(info.codec(), Codec::Zstd);
    }

    fn any_field() -> impl Strategy<Value = Option<Vec<u8>>> {
        option::of(vec(any::<u8>(), 0..20))
    }

    proptest! {
        #[test]
        fn round_trip(
            codec in 0u8..5,
            base: i32,
            list in vec(
                (any::<i32>(), any_field(), any_field(), vec(("\\PC{0,5}", any_field()), 0..4)),
                0..20,
            ),
        ) {
            let codec = Codec::from_id(codec).unwrap();
            let mut builder = BatchBuilder::new(codec, i64::from(base));
            for (timestamp, key, value, headers) in &list {
                let headers: Vec<_> =
                    headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
                builder.push(i64::from(*timestamp), key.as_deref(), value.as_deref(), &headers);
            }
            let batch = builder.build();
            prop_assert!(check_crc(&batch));
            let back: Vec<_> = records(&batch, 1 << 24).unwrap().map(Result::unwrap).collect();
            prop_assert_eq!(back.len(), list.len());
            for (i, (record, (timestamp, key, value, headers))) in back.iter().zip(&list).enumerate() {
                prop_assert_eq!(record.offset, i as i64);
                prop_assert_eq!(record.timestamp, i64::from(*timestamp));
                prop_assert_eq!(record.key.as_deref(), key.as_deref());
                prop_assert_eq!(record.value.as_deref(), value.as_deref());
                let names = record.headers.iter().map(|h| (&h.key[..], h.value.as_deref()));
                prop_assert!(names.eq(headers.iter().map(|(n, v)| (n.as_bytes(), v.as_deref()))));
            }
        }
    }
}
