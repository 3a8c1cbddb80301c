//! The values of a batch in place: a consumer that looks into every record must not
//! be what is measured.

use millrace::record::{BatchInfo, Codec, HEADER_LEN};

/// Largest batch that is opened, decompressed.
const BATCH_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Gives offset and value of every record of a batch to `take`; null values are given as empty.
pub fn values(
    info: &BatchInfo,
    batch: &[u8],
    mut take: impl FnMut(i64, &[u8]),
) -> Result<(), String> {
    let body = batch.get(HEADER_LEN..).unwrap_or_default();
    let unpacked;
    let mut rest = if info.codec() == Codec::None {
        body
    } else {
        unpacked = info.codec().decompress(body, BATCH_BYTES_MAX);
        unpacked
            .as_deref()
            .map_err(|e| format!("batch at offset {}: {e}", info.base_offset))?
    };
    for _ in 0..info.records {
        let record = field(&mut rest).and_then(|record| parse(record?));
        let (delta, value) = record
            .ok_or_else(|| format!("batch at offset {}: malformed record", info.base_offset))?;
        take(info.base_offset + delta, value.unwrap_or_default());
    }
    Ok(())
}

/// Offset delta and value of a record, its length taken off.
fn parse(record: &[u8]) -> Option<(i64, Option<&[u8]>)> {
    let mut rest = record.get(1..)?;
    let _timestamp_delta = varint(&mut rest)?;
    let offset_delta = varint(&mut rest)?;
    let _key = field(&mut rest)?;
    Some((offset_delta, field(&mut rest)?))
}

/// Bytes after their length; -1 is null.
fn field<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let Ok(len) = usize::try_from(varint(rest)?) else {
        return Some(None);
    };
    let (bytes, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    Some(Some(bytes))
}

fn varint(rest: &mut &[u8]) -> Option<i64> {
    let mut raw = 0u64;
    for (at, &byte) in rest.iter().enumerate().take(10) {
        raw |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            *rest = &rest[at + 1..];
            return Some((raw >> 1) as i64 ^ -((raw & 1) as i64));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use millrace::record::{BatchBuilder, parse as parse_batch};

    use super::*;

    #[test]
    fn every_value_comes_with_its_offset() {
        for codec in Codec::ALL {
            let mut builder = BatchBuilder::new(codec, 500);
            builder.push(500, Some(b"key"), Some(&[7; 300]), &[]);
            builder.push(99, None, None, &[("h", Some(b"1"))]);
            let batch = builder.build();
            let mut got = Vec::new();
            values(&parse_batch(&batch).unwrap(), &batch, |offset, value| {
                got.push((offset, value.to_vec()));
            })
            .unwrap();
            assert_eq!(got, [(0, vec![7; 300]), (1, vec![])], "{codec:?}");
        }
    }

    #[test]
    fn what_is_cut_short_is_an_error() {
        let mut builder = BatchBuilder::new(Codec::None, 0);
        builder.push(0, None, Some(b"hello"), &[]);
        let batch = builder.build();
        let info = parse_batch(&batch).unwrap();
        for len in 0..batch.len() {
            assert!(values(&info, &batch[..len], |_, _| ()).is_err(), "{len}");
        }
    }
}
