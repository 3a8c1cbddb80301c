//! Record batches: header, CRC, validation, every codec, the records inside.

use bytes::Bytes;
use millrace::base::crc::crc32c;
use millrace::base::{LeaderEpoch, Offset};
use millrace::record::{
    BatchBuilder, BatchError, BatchInfo, Codec, HEADER_LEN, Record, RecordsSummary, batches,
    check_crc, header, parse, records, set_log_append_time, stamp, validate_produced,
    validate_records, verify_records,
};

use super::{Memory, Target, outcome};

/// What a batch may decompress to. The decoders have buffers of their own on top: LZ4's are the
/// largest, two blocks of 4 MiB.
const OUT_BYTES_MAX: usize = 256 * 1024;

pub const TARGET: Target = Target {
    name: "batch",
    corpus,
    check,
    repair,
    memory: Memory {
        fixed: 12 * 1024 * 1024,
        per_byte: 64,
    },
};

fn corpus() -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for codec in Codec::ALL {
        for count in [1, 3, 50] {
            let mut builder = BatchBuilder::new(codec, 1_000).producer(5, 1, 10);
            for i in 0..count {
                let headers: &[(&str, Option<&[u8]>)] = &[("name", Some(b"x")), ("none", None)];
                let key = i.to_string();
                let key = (i % 3 != 0).then_some(key.as_bytes());
                builder.push(
                    1_000 + i,
                    key,
                    Some(&[b'v'; 40]),
                    &headers[..i as usize % 3],
                );
            }
            out.push(builder.build().to_vec());
        }
    }
    let two = [out[0].clone(), out[4].clone()].concat();
    out.push(two);
    out
}

/// Gives the batch a length and a CRC that fit.
fn repair(input: &mut [u8]) {
    if input.len() < HEADER_LEN {
        return;
    }
    let length = (input.len() - 12) as i32;
    input[8..12].copy_from_slice(&length.to_be_bytes());
    input[16] = 2;
    let crc = crc32c(&input[21..]);
    input[17..21].copy_from_slice(&crc.to_be_bytes());
}

fn check(input: &[u8]) -> u64 {
    assert_eq!(header(input).is_some(), input.len() >= HEADER_LEN);
    check_iteration(input);
    let parsed = parse(input);
    let verdict = validate_produced(input);
    if let Ok(info) = verdict {
        assert_eq!((Ok(info), info.len), (parsed, input.len()));
        assert_eq!(info.records, info.last_offset_delta + 1);
        assert!(check_crc(input) && !info.is_control());
        check_stamping(input);
    }
    let verified = verify_records(input, OUT_BYTES_MAX);
    if let Ok(info) = verdict {
        check_taken(input, info, verified);
    }
    let opened = records(input, OUT_BYTES_MAX)
        .and_then(|records| records.collect::<Result<Vec<Record>, _>>());
    if let Ok(summary) = verified {
        let opened = opened.as_ref().expect("verified, but does not open");
        assert_eq!(
            opened.iter().map(|r| r.timestamp).max().unwrap_or(i64::MIN),
            summary.max_timestamp.0
        );
    }
    if let Ok(opened) = &opened {
        check_rebuilt(opened);
    }
    let counts = opened.as_ref().map(Vec::len);
    outcome(
        0,
        &(
            parsed.map(|info| info.codec()),
            verdict.map(|_| ()),
            verified,
            counts,
        ),
    )
}

/// A batch is stored if and only if its records are whole, or more than may be opened; then its
/// header tells their largest timestamp.
fn check_taken(input: &[u8], mut info: BatchInfo, verified: Result<RecordsSummary, BatchError>) {
    let taken = validate_records(Bytes::copy_from_slice(input), &mut info, OUT_BYTES_MAX);
    match (verified, taken) {
        (Ok(summary), Ok(batch)) => {
            // The header does not tell the smallest one.
            let stored = parse(&batch).map(|stored| BatchInfo {
                min_timestamp: info.min_timestamp,
                ..stored
            });
            assert_eq!(stored, Ok(info));
            assert!(info.min_timestamp <= info.max_timestamp);
            assert!(check_crc(&batch));
            assert_eq!(info.max_timestamp, summary.max_timestamp.0.max(-1));
        }
        (Err(error), Ok(batch)) => {
            // What is not compressed is in memory anyway: no bound applies to it.
            assert_eq!(error, BatchError::TooLarge);
            assert_eq!(&batch[HEADER_LEN..], &input[HEADER_LEN..]);
        }
        (Err(_), Err(_)) => {}
        (Ok(_), Err(why)) => panic!("good records refused: {why:?}"),
    }
}

fn check_iteration(input: &[u8]) {
    let mut taken = 0;
    let mut iter = batches(input);
    for (info, batch) in iter.by_ref().filter_map(Result::ok) {
        assert_eq!(info.len, batch.len());
        assert_eq!(batch, &input[taken..taken + info.len]);
        taken += info.len;
    }
    assert!(taken + iter.remaining() <= input.len());
}

fn check_stamping(input: &[u8]) {
    let mut copy = input.to_vec();
    stamp(&mut copy, Offset(1 << 40), LeaderEpoch(9));
    assert!(check_crc(&copy));
    assert_eq!(parse(&copy).map(|info| info.base_offset), Ok(1 << 40));
    set_log_append_time(&mut copy, 77);
    assert!(check_crc(&copy));
}

/// Records that were read can be written, and are read the same again.
fn check_rebuilt(opened: &[Record]) {
    let mut builder = BatchBuilder::new(Codec::None, 0);
    for record in opened {
        let headers: Option<Vec<_>> = record
            .headers
            .iter()
            .map(|h| Some((std::str::from_utf8(&h.key).ok()?, h.value.as_deref())))
            .collect();
        let Some(headers) = headers else { return };
        builder.push(
            record.timestamp,
            record.key.as_deref(),
            record.value.as_deref(),
            &headers,
        );
    }
    let again = records(&builder.build(), usize::MAX).expect("our own batch");
    for (record, again) in opened.iter().zip(again) {
        let again = again.expect("our own record");
        assert_eq!((&record.key, &record.value), (&again.key, &again.value));
        assert_eq!(
            (&record.headers, record.timestamp),
            (&again.headers, again.timestamp)
        );
    }
}
