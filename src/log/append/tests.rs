//! What is refused, which offsets batches get, when segments roll.

use super::*;
use crate::base::Offset;
use crate::base::limits::{PRODUCER_KEPT_MS, PRODUCERS_PER_PARTITION_MAX, WATERMARK_PLACES_MAX};
use crate::log::LogConfig;
use crate::log::segment::SEGMENT_DELTA_MAX;
use crate::log::testing::{Draft, Fixture, START_MS};
use crate::store::FlushSeq;

fn config() -> LogConfig {
    LogConfig::default()
}

#[test]
fn offsets_and_the_high_watermark() {
    let mut f = Fixture::new(config(), 0);
    let first = f.append(&Draft::plain(&[START_MS; 3], 10)).unwrap();
    let second = f.append(&Draft::plain(&[START_MS; 2], 10)).unwrap();
    assert_eq!(
        (first.base_offset, first.last_offset),
        (Offset(0), Offset(2))
    );
    assert_eq!(
        (second.base_offset, second.last_offset),
        (Offset(3), Offset(4))
    );
    assert_eq!(first.log_append_time, -1);
    assert_eq!(f.log.high_watermark(), Offset(0));
    assert_eq!(f.durable(FlushSeq(0)), 0);
    f.settle();
    assert_eq!(f.log.high_watermark(), Offset(5));
    assert_eq!(f.durable(second.flush.unwrap()), 0, "it did not move");
}

#[test]
fn the_high_watermark_moves_by_flushes_that_are_durable() {
    let mut f = Fixture::new(config(), 0);
    let mut flushes = Vec::new();
    for _ in 0..4 {
        let draft = Draft::plain(&[START_MS; 10], 10);
        flushes.extend(f.append(&draft).unwrap().flush);
        f.disk.settle();
    }
    let size = f.log.size_bytes() / 4;
    f.log.on_durable(flushes[2]);
    assert_eq!(f.log.durable_end(), Offset(30));
    assert_eq!(f.log.high_watermark(), Offset(0), "nobody has raised it");
    let mut raise = |to, bytes, mark| {
        assert_eq!(f.log.raise_high_watermark(Offset(to)), bytes);
        assert_eq!(f.log.high_watermark(), Offset(mark));
        f.log.check_live();
    };
    raise(9, 0, 0);
    raise(29, 2 * size, 20);
    raise(5, 0, 20);
    raise(99, size, 30);
    f.durable(flushes[3]);
    assert_eq!(f.log.high_watermark(), Offset(40));
}

#[test]
fn what_a_watermark_that_stands_still_takes_is_bounded() {
    let mut f = Fixture::new(config(), 0);
    for n in 0..=WATERMARK_PLACES_MAX as i64 {
        let flush = f.append(&Draft::plain(&[START_MS], 10)).unwrap().flush;
        f.disk.settle();
        f.log.on_durable(flush.unwrap());
        assert_eq!(f.log.durable_end(), Offset(n + 1));
    }
    f.log.check_live();
    let most = WATERMARK_PLACES_MAX as i64;
    f.log.raise_high_watermark(Offset(most));
    assert_eq!(f.log.high_watermark(), Offset(most - 1));
    f.log.raise_high_watermark(Offset(most + 1));
    assert_eq!(f.log.high_watermark(), Offset(most + 1));
}

#[test]
fn sizes_are_bounded() {
    let mut f = Fixture::new(
        LogConfig {
            max_message_bytes: 500,
            segment_bytes: 300,
            ..config()
        },
        0,
    );
    let refused = |f: &mut Fixture, len| f.append(&Draft::plain(&[START_MS], len)).unwrap_err();
    let too_large = refused(&mut f, 500).to_string();
    assert!(too_large.starts_with("MESSAGE_TOO_LARGE: "), "{too_large}");
    assert!(
        too_large.contains("max.message.bytes allows 500"),
        "{too_large}"
    );
    assert_eq!(refused(&mut f, 300).code, ErrorCode::RecordListTooLarge);
    let (batch, info) = Draft::plain(&[START_MS], 200).build();
    f.log.set_config(LogConfig {
        max_message_bytes: 100,
        ..*f.log.config()
    });
    assert_eq!(refused(&mut f, 200).code, ErrorCode::MessageTooLarge);
    f.log
        .append_internal(f.now, batch, &info, &mut f.disk.store)
        .expect("the broker's own records are not bounded");
}

/// A crowd of strangers must not make a retry look new.
#[test]
fn who_has_just_written_keeps_its_place() {
    let mut f = Fixture::new(config(), 0);
    let by = |id, sequence| {
        let mut draft = Draft::plain(&[START_MS], 10);
        draft.producer = Some((id, 0, sequence));
        draft
    };
    let send = |f: &mut Fixture, id, sequence| {
        let sent = f.append(&by(id, sequence));
        sent.map(|sent| sent.base_offset.0)
            .map_err(|refused| refused.code)
    };
    let max = PRODUCERS_PER_PARTITION_MAX as i64;
    assert_eq!(send(&mut f, 0, 7), Ok(0));
    for id in 1..max {
        assert_eq!(send(&mut f, id, 0), Ok(id));
    }
    assert_eq!(send(&mut f, max, 0), Err(ErrorCode::KafkaStorageError));
    assert_eq!(send(&mut f, 0, 7), Ok(0), "a duplicate");
    assert_eq!(send(&mut f, 1, 1), Ok(max), "it is known");
    // The oldest have been silent for long.
    f.now.mono = f.now.mono.plus_ms(PRODUCER_KEPT_MS);
    assert_eq!(send(&mut f, 1, 2), Ok(max + 1));
    f.now.mono = f.now.mono.plus_ms(PRODUCER_KEPT_MS);
    assert_eq!(send(&mut f, max, 0), Ok(max + 2));
    assert_eq!(send(&mut f, 0, 7), Ok(max + 3), "unknown, it may begin");
    assert_eq!(send(&mut f, 1, 1), Ok(max), "it was heard of since");
}

#[test]
fn timestamps_are_bounded() {
    let mut f = Fixture::new(
        LogConfig {
            timestamp_before_max_ms: 100,
            timestamp_after_max_ms: 50,
            ..config()
        },
        0,
    );
    let mut send = |timestamps: &[i64]| {
        f.append(&Draft::plain(timestamps, 10))
            .map(|a| a.base_offset.0)
            .map_err(|e| e.code)
    };
    let refused = Err(ErrorCode::InvalidTimestamp);
    assert_eq!(send(&[START_MS - 101]), refused);
    assert_eq!(send(&[START_MS, START_MS + 51]), refused);
    assert_eq!(send(&[START_MS - 100, START_MS + 50]), Ok(0));
    assert_eq!(send(&[-1]), Ok(2), "no timestamp is no wrong timestamp");
}

#[test]
fn it_is_the_records_that_must_be_in_time() {
    let mut f = Fixture::new(
        LogConfig {
            timestamp_before_max_ms: 100,
            timestamp_after_max_ms: 50,
            ..config()
        },
        0,
    );
    let mut send = |base: i64, timestamps: &[i64]| {
        let mut builder = record::BatchBuilder::new(record::Codec::Gzip, base);
        for timestamp in timestamps {
            builder.push(*timestamp, None, Some(b"v"), &[]);
        }
        let batch = builder.build();
        let mut info = record::validate_produced(&batch).unwrap();
        let batch = record::validate_records(batch, &mut info, 1 << 20).unwrap();
        f.log
            .append(f.now, batch, &info, &mut f.disk.store)
            .map(|a| a.base_offset.0)
            .map_err(|e| e.code)
    };
    let refused = Err(ErrorCode::InvalidTimestamp);
    assert_eq!(send(START_MS + 9_000, &[START_MS]), Ok(0));
    assert_eq!(send(0, &[START_MS, -1]), Ok(1));
    assert_eq!(send(START_MS, &[START_MS - 101, START_MS]), refused);
    assert_eq!(send(START_MS, &[-1, START_MS - 101, START_MS]), refused);
    assert_eq!(send(START_MS, &[START_MS, START_MS + 51]), refused);
    assert_eq!(send(0, &[-1, -1]), Ok(3));
    assert_eq!(send(0, &[i64::MIN]), refused);
}

/// Kafka 4.3.1 takes it where the topic has CreateTime and the header a timestamp that is in time, and
/// stores it without the bit; a topic with LogAppendTime refuses it.
#[test]
fn a_producer_that_says_log_append_time() {
    let mut f = Fixture::new(config(), 0);
    let said = |max: i64| {
        let mut bytes = Draft::plain(&[START_MS, START_MS + 1], 10)
            .build()
            .0
            .to_vec();
        record::set_log_append_time(&mut bytes, max);
        let info = record::validate_produced(&bytes).unwrap();
        (Bytes::from(bytes), info)
    };
    let send = |f: &mut Fixture, max| {
        let (batch, mut info) = said(max);
        let batch = record::validate_records(batch, &mut info, 1 << 20).unwrap();
        f.log
            .append(f.now, batch, &info, &mut f.disk.store)
            .map(|a| a.log_append_time)
            .map_err(|e| e.code)
    };
    let refused = Err(ErrorCode::InvalidTimestamp);
    assert_eq!(send(&mut f, START_MS - 7), Ok(-1));
    assert_eq!(send(&mut f, START_MS + (1 << 40)), refused);
    assert_eq!(send(&mut f, -1), refused);
    f.settle();
    let bytes = f.read(0, 1000, true).unwrap();
    let info = record::parse(&bytes).unwrap();
    assert!(record::check_crc(&bytes));
    assert_eq!(info.timestamp_type(), TimestampType::CreateTime);
    assert_eq!(info.max_timestamp, START_MS - 7);
    f.log.set_config(LogConfig {
        timestamp_type: TimestampType::LogAppendTime,
        ..config()
    });
    assert_eq!(send(&mut f, START_MS), refused);
}

#[test]
fn log_append_time_is_stamped() {
    let mut f = Fixture::new(
        LogConfig {
            timestamp_type: TimestampType::LogAppendTime,
            timestamp_before_max_ms: 100,
            ..config()
        },
        0,
    );
    let appended = f.append(&Draft::plain(&[5, 6], 10)).unwrap();
    assert_eq!(appended.log_append_time, START_MS);
    f.settle();
    let bytes = f.read(0, 1000, true).unwrap();
    let info = record::parse(&bytes).unwrap();
    assert!(record::check_crc(&bytes));
    assert_eq!(info.max_timestamp, START_MS);
    assert_eq!(info.timestamp_type(), TimestampType::LogAppendTime);
    let mut draft = Draft::plain(&[5, 6], 10);
    draft.producer = Some((1, 0, 0));
    assert!(f.append(&draft).unwrap().flush.is_some());
    f.now.wall_ms += 9;
    let again = f.append(&draft).unwrap();
    assert_eq!(
        (again.flush, again.base_offset, again.log_append_time),
        (None, Offset(2), START_MS)
    );
}

#[test]
fn duplicates_write_nothing() {
    let mut f = Fixture::new(config(), 0);
    let mut draft = Draft::plain(&[START_MS; 3], 10);
    draft.producer = Some((9, 1, 0));
    let original = f.append(&draft).unwrap();
    let again = f.append(&draft).unwrap();
    assert_eq!(
        again,
        Appended {
            flush: None,
            ..original
        }
    );
    draft.producer = Some((9, 1, 4));
    assert_eq!(
        f.append(&draft).unwrap_err().code,
        ErrorCode::OutOfOrderSequenceNumber
    );
    draft.producer = Some((9, 0, 3));
    assert_eq!(
        f.append(&draft).unwrap_err().code,
        ErrorCode::InvalidProducerEpoch
    );
    assert_eq!(f.log.end_offset(), Offset(3));
}

#[test]
fn segments_roll_by_size_and_by_time() {
    let mut f = Fixture::new(
        LogConfig {
            segment_bytes: 1000,
            segment_ms: 100,
            ..config()
        },
        0,
    );
    let bases = |f: &Fixture| -> Vec<i64> { f.log.segments.iter().map(|s| s.base.0).collect() };
    for _ in 0..3 {
        f.append(&Draft::plain(&[START_MS], 400)).unwrap();
    }
    assert_eq!(bases(&f), [0, 2]);
    f.append(&Draft::plain(&[START_MS + 100], 10)).unwrap();
    assert_eq!(bases(&f), [0, 2], "not yet");
    f.append(&Draft::plain(&[START_MS + 101], 10)).unwrap();
    assert_eq!(
        bases(&f),
        [0, 2, 4],
        "the records' time counts, not the clock's"
    );
    f.append(&Draft::plain(&[-1], 10)).unwrap();
    f.now.wall_ms += 1000;
    f.append(&Draft::plain(&[-1], 10)).unwrap();
    assert_eq!(bases(&f), [0, 2, 4]);
    f.append(&Draft::plain(&[START_MS + 400], 10)).unwrap();
    f.log.active_mut().first_timestamp = NO_TIMESTAMP;
    f.now.wall_ms += 101;
    f.append(&Draft::plain(&[-1], 10)).unwrap();
    assert_eq!(
        bases(&f),
        [0, 2, 4, 7, 8],
        "the clock's, where records have none"
    );
}

#[test]
fn a_log_of_many_segments_gets_no_short_ones() {
    let mut f = Fixture::new(
        LogConfig {
            segment_ms: 1,
            ..config()
        },
        0,
    );
    let append = |f: &mut Fixture, bytes: usize| {
        f.now.wall_ms += 2;
        f.append(&Draft::plain(&[f.now.wall_ms], bytes)).unwrap();
        f.settle();
    };
    for _ in 0..SEGMENTS_BY_AGE_MAX + 100 {
        append(&mut f, 10);
    }
    assert_eq!(f.log.segments.len(), SEGMENTS_BY_AGE_MAX);
    assert_eq!(f.log.end_offset().0, SEGMENTS_BY_AGE_MAX as i64 + 100);
    assert_eq!(f.log.active().batches, 101);
    for _ in 0..2 {
        append(&mut f, SEGMENT_BYTES_OF_MANY as usize / 2);
    }
    append(&mut f, 10);
    assert_eq!(f.log.active().batches, 1, "that one was not short");
}

/// Its records would stay for twice their time otherwise.
#[test]
fn a_log_of_many_segments_gets_those_that_are_long_open() {
    const SHARE_MS: i64 = 100;
    let mut f = Fixture::new(
        LogConfig {
            segment_ms: 1,
            retention_ms: SHARE_MS * SEGMENTS_BY_AGE_MAX as i64,
            ..config()
        },
        0,
    );
    let append = |f: &mut Fixture, ms: i64| {
        f.now.wall_ms += ms;
        f.append(&Draft::plain(&[f.now.wall_ms], 10)).unwrap();
        f.settle();
    };
    for _ in 0..SEGMENTS_BY_AGE_MAX {
        append(&mut f, 2);
    }
    for (ms, batches) in [(2, 2), (SHARE_MS - 2, 3), (1, 1), (SHARE_MS, 2), (1, 1)] {
        append(&mut f, ms);
        assert_eq!(f.log.active().batches, batches, "after {ms} ms more");
    }
}

#[test]
fn full_segments_keep_nobody_from_rolling_by_age() {
    const SHARE_MS: i64 = 100;
    let config = LogConfig {
        segment_bytes: SEGMENT_BYTES_OF_MANY,
        segment_ms: 1,
        retention_ms: SHARE_MS * SEGMENTS_BY_AGE_MAX as i64,
        ..config()
    };
    let mut f = Fixture::new(config, 0);
    let append = |f: &mut Fixture, ms: i64, bytes: usize| {
        f.now.wall_ms += ms;
        f.append(&Draft::plain(&[f.now.wall_ms], bytes)).unwrap();
        f.settle();
        f.log.segments.len()
    };
    let short = 2 * SEGMENTS_BY_AGE_MAX;
    for _ in 0..short {
        append(&mut f, SHARE_MS + 1, 10);
    }
    assert_eq!(append(&mut f, SHARE_MS + 1, 10), short, "one more");
    // The first of them fits into the last short one.
    let bytes = SEGMENT_BYTES_OF_MANY as usize * 5 / 8;
    for n in 0..20 {
        assert_eq!(append(&mut f, 0, bytes), short + n);
    }
    for n in 20..24 {
        assert_eq!(append(&mut f, SHARE_MS + 1, 10), short + n);
    }
}

/// The clock stands still: it is the client that says when its records are from.
#[test]
fn a_log_of_many_segments_gets_no_more_than_as_many_again() {
    for (retention_ms, step_ms) in [(0, 2), (999, 2), (5 * SEGMENTS_BY_AGE_MAX as i64, 6)] {
        let mut f = Fixture::new(
            LogConfig {
                segment_ms: 1,
                retention_ms,
                ..config()
            },
            0,
        );
        let batches = 3 * SEGMENTS_BY_AGE_MAX as i64;
        for n in 0..batches {
            f.append(&Draft::plain(&[START_MS + n * step_ms], 10))
                .unwrap();
            f.settle();
        }
        assert_eq!(f.log.end_offset(), Offset(batches));
        assert_eq!(f.log.segments.len(), 2 * SEGMENTS_BY_AGE_MAX);
    }
}

#[test]
fn epochs_are_stamped_and_cached() {
    use crate::base::LeaderEpoch;
    let mut f = Fixture::new(config(), 0);
    f.fill(2, 10);
    assert!(
        f.log
            .begin_epoch(LeaderEpoch(3), &mut f.disk.store)
            .is_some()
    );
    assert!(
        f.log
            .begin_epoch(LeaderEpoch(2), &mut f.disk.store)
            .is_none()
    );
    f.fill(1, 10);
    let bytes = f.read(2, 1000, true).unwrap();
    assert_eq!(record::parse(&bytes).unwrap().leader_epoch, 3);
    assert_eq!(f.log.epoch_at(Offset(1)), LeaderEpoch(0));
    assert_eq!(
        f.log.end_offset_for_epoch(LeaderEpoch(1)),
        (LeaderEpoch(0), Offset(2))
    );
    assert_eq!(
        f.log.end_offset_for_epoch(LeaderEpoch(3)),
        (LeaderEpoch(3), Offset(3))
    );
}

#[test]
fn gaps_may_be_longer_than_a_segment_reaches() {
    const FAR: i64 = SEGMENT_DELTA_MAX + 100;
    let mut f = Fixture::new(config(), 0);
    let draft = Draft::plain(&[START_MS], 10);
    f.append_stamped(&draft, 5, 0).unwrap();
    f.append_stamped(&draft, FAR, 0).unwrap();
    f.append_stamped(&draft, 4 * FAR, 0).unwrap();
    assert_eq!(f.log.segment_count(), 3);
    f.settle();
    for restart in [false, true] {
        if restart {
            f.restart();
        }
        assert_eq!(f.read_bases(0, 1000), [5, FAR, 4 * FAR]);
        assert_eq!(f.read_bases(2 * FAR, 1000), [4 * FAR]);
    }
    // A segment goes that began with a gap: what it left out is behind the one before.
    assert_eq!(f.truncate(3 * FAR), Ok(3 * FAR));
    f.append_stamped(&draft, 4 * FAR - 200, 0).unwrap();
    assert_eq!(f.truncate(4 * FAR - 200), Ok(4 * FAR - 200));
    f.settle();
    f.file();
    f.restart();
    assert_eq!(f.read_bases(0, 1000), [5, FAR]);
    assert_eq!(f.log.end_offset(), Offset(4 * FAR - 200));
    // The last segment is empty, and does not reach so far. Nothing is lost for that.
    f.append_stamped(&draft, 9 * FAR, 0).unwrap();
    f.settle();
    f.restart();
    assert_eq!(f.read_bases(0, 1000), [5, FAR, 9 * FAR]);
    assert_eq!(f.read_bases(5 * FAR, 1000), [9 * FAR]);
}

#[test]
fn a_log_that_begins_with_a_long_gap_starts_behind_it() {
    const FAR: i64 = SEGMENT_DELTA_MAX + 100;
    let mut f = Fixture::new(config(), 0);
    let draft = Draft::plain(&[START_MS], 10);
    f.append_stamped(&draft, FAR, 3).unwrap();
    f.settle();
    for restart in [false, true] {
        if restart {
            f.restart();
        }
        assert_eq!(f.log.start_offset(), Offset(FAR));
        assert_eq!(f.read_bases(FAR, 1000), [FAR]);
        assert_eq!(f.log.epoch_at(Offset(FAR)), crate::base::LeaderEpoch(3));
    }
}
