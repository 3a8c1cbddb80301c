//! What consumers and the auditor share: fetch requests made, fetched records
//! looked at.

use bytes::Bytes;
use kafka_wire as kw;

use super::client::Ctx;
use super::frames::{frame, message, text, uuid};
use super::shared::Topic;
use crate::record;
use crate::sim::fact::{Fact, Moment, Place, Placed};
use crate::sim::values::Value;
use crate::sim::what::What;
use crate::wire::client::FetchedPartition;

/// Nothing that clients of the simulator write opens to more than this.
const OPENED_BYTES_MAX: usize = 1 << 20;
/// First fetch version that may be for what is committed alone.
pub const COMMITTED_FROM: i16 = 4;
/// First fetch version that names topics by id.
const BY_ID_FROM: i16 = 13;
/// First fetch version that says in which epoch the leader is believed to be.
const EPOCH_FROM: i16 = 9;

/// Limits and session of a fetch.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long the broker may wait.
    pub wait_ms: i32,
    /// For how many bytes it waits.
    pub bytes_min: i32,
    /// How many it may send.
    pub bytes_max: i32,
    /// How many of one partition.
    pub partition_bytes_max: i32,
    /// Session id.
    pub session: i32,
    /// Session epoch.
    pub epoch: i32,
    /// Only what is committed is wanted.
    pub committed: bool,
}

/// A fetch request of these partitions from these offsets.
pub fn fetch(
    ctx: &Ctx<'_>,
    version: i16,
    limits: Limits,
    wanted: &[(Place, i64)],
    forgotten: &[Place],
) -> Bytes {
    let by_id = version >= BY_ID_FROM;
    let mut request = message!(kw::FetchRequest {
        max_wait_ms: limits.wait_ms,
        min_bytes: limits.bytes_min,
        max_bytes: limits.bytes_max,
    });
    if version >= COMMITTED_FROM {
        request.isolation_level = i8::from(limits.committed);
    }
    if version >= 7 {
        request.session_id = limits.session;
        request.session_epoch = limits.epoch;
    }
    for topic in &ctx.shared.topics {
        let of_topic = wanted.iter().filter(|(at, _)| at.topic == topic.number);
        let partitions: Vec<_> = of_topic
            .map(|(at, offset)| {
                let mut partition = message!(kw::fetch_request::FetchPartition {
                    partition: at.partition,
                    fetch_offset: *offset,
                    partition_max_bytes: limits.partition_bytes_max,
                });
                if version >= EPOCH_FROM {
                    partition.current_leader_epoch = ctx.epoch(*at);
                }
                partition
            })
            .collect();
        if !partitions.is_empty() {
            let mut entry = message!(kw::fetch_request::FetchTopic {
                partitions: partitions
            });
            name(topic, by_id, &mut entry.topic, &mut entry.topic_id);
            request.topics.push(entry);
        }
        let gone = forgotten.iter().filter(|at| at.topic == topic.number);
        let partitions: Vec<i32> = gone.map(|at| at.partition).collect();
        if !partitions.is_empty() {
            let mut entry = message!(kw::fetch_request::ForgottenTopic {
                partitions: partitions
            });
            name(topic, by_id, &mut entry.topic, &mut entry.topic_id);
            request.forgotten_topics_data.push(entry);
        }
    }
    frame(version, &request)
}

fn name(
    topic: &Topic,
    by_id: bool,
    name: &mut kafka_wire_core::StrBytes,
    id: &mut kafka_wire_core::Uuid,
) {
    if by_id {
        *id = uuid(topic.id);
    } else {
        *name = text(&topic.name);
    }
}

/// Tells the oracle what was fetched from `from` on and returns the offset to go on with.
pub fn read(
    ctx: &mut Ctx<'_>,
    at: Place,
    asked: Moment,
    from: i64,
    fetched: &FetchedPartition,
) -> i64 {
    let (mut records, mut next, mut problem) = opened(&fetched.records, from);
    if ctx.shared.rotten {
        // A batch's base offset is outside of its CRC, in Kafka as here: of that damage a consumer sees
        // only that offsets do not follow each other.
        let mut expected = from..;
        let intact = |record: &&Placed| expected.next() == Some(record.offset);
        let intact = records.iter().take_while(intact).count();
        if intact < records.len() {
            problem = Some("offsets do not follow each other".to_owned());
            records.truncate(intact);
            next = records.last().map_or(from, |last| last.offset + 1);
        }
    }
    if let Some(problem) = problem {
        if ctx.shared.rotten {
            ctx.shared.damaged.insert(at);
        } else {
            let what = format!("{at}: read from {from}: {problem}");
            ctx.oracle.fail("ReadsAreIntact", what);
        }
    }
    let topic = ctx.shared.topic(at.topic);
    let is_compacted = topic.is_some_and(|topic| topic.used.is_compacted());
    if is_compacted && (records.len() as i64) < next - from {
        ctx.oracle.saw(What::Compacted);
    }
    // A new leader may not know yet how far others have told that it is committed.
    let knows = !ctx.shared.cluster || next > from;
    if next > fetched.high_watermark && knows {
        let what = format!(
            "{at}: read from {from} up to {next}, beyond the high watermark {}",
            fetched.high_watermark
        );
        ctx.oracle.fail("ReadsAreIntact", what);
    }
    let asked = ctx.as_of(at, asked);
    ctx.oracle.tell(Fact::Read {
        at,
        asked,
        from,
        next,
        records: &records,
        high_watermark: fetched.high_watermark,
        log_start: (fetched.log_start_offset >= 0).then_some(fetched.log_start_offset),
    });
    next
}

/// Tells the oracle what is committed of what was fetched from `from` on, as a client sees it, and returns the offset
/// to go on with.
pub fn read_committed(ctx: &mut Ctx<'_>, at: Place, from: i64, fetched: &FetchedPartition) -> i64 {
    let (records, next, problem) = opened(&fetched.records, from);
    // A new leader may not know yet how far others have told that it is committed.
    let is_beyond = next > from && next > fetched.last_stable_offset;
    if is_beyond || problem.is_some() {
        let what = format!(
            "{at}: read from {from} up to {next}, with the last stable offset {}: {problem:?}",
            fetched.last_stable_offset
        );
        ctx.oracle.fail("ReadsAreIntact", what);
    }
    let aborted = aborted(fetched);
    let is_committed =
        |record: &Placed| !aborted.iter().any(|range| range.contains(&record.offset));
    let records: Vec<Placed> = records.into_iter().filter(is_committed).collect();
    let records = &records;
    ctx.oracle.tell(Fact::ReadCommitted { at, records });
    next
}

/// Batches of transactions that were aborted, by their offsets: a producer's are from where the broker says that its
/// transaction began to where that ends.
fn aborted(fetched: &FetchedPartition) -> Vec<std::ops::RangeInclusive<i64>> {
    let mut begun: Vec<(i64, i64)> = Vec::new();
    let listed = fetched.aborted.iter().flatten();
    let mut listed: Vec<(i64, i64)> = listed.map(|it| (it.first_offset, it.producer_id)).collect();
    listed.sort_unstable();
    let mut listed = listed.into_iter().peekable();
    let mut ranges = Vec::new();
    for (info, _) in record::batches(&fetched.records).flatten() {
        while let Some(one) = listed.next_if(|(first, _)| *first <= info.last_offset()) {
            begun.push(one);
        }
        let is_begun = |(_, producer): &(i64, i64)| *producer == info.producer_id;
        match begun.iter().position(is_begun) {
            Some(place) if info.is_control() => {
                begun.swap_remove(place);
            }
            Some(_) if info.is_transactional() => {
                ranges.push(info.base_offset..=info.last_offset());
            }
            _ => {}
        }
    }
    ranges
}

/// The records from an offset on, the offset to go on with, and what is wrong with the first batch that is damaged.
fn opened(bytes: &Bytes, from: i64) -> (Vec<Placed>, i64, Option<String>) {
    let (mut placed, mut next) = (Vec::new(), from);
    let problem = open_all(bytes, from, &mut placed, &mut next).err();
    // Of a damaged batch the records before the damage count.
    next = placed
        .last()
        .map_or(next, |last: &Placed| next.max(last.offset + 1));
    (placed, next, problem)
}

fn open_all(
    bytes: &Bytes,
    from: i64,
    placed: &mut Vec<Placed>,
    next: &mut i64,
) -> Result<(), String> {
    for batch in record::batches(bytes) {
        let (info, batch) = batch.map_err(|error| error.to_string())?;
        if !record::check_crc(batch) {
            return Err(format!(
                "bad CRC in the batch of offset {}",
                info.base_offset
            ));
        }
        // What the broker says to clients is no record.
        let opened = match info.is_control() {
            true => None,
            false => Some(record::records(batch, OPENED_BYTES_MAX)),
        };
        let records = opened.transpose().map_err(|error| error.to_string())?;
        for record in records.into_iter().flatten() {
            let record = record.map_err(|error| error.to_string())?;
            // That of a tombstone is in its header.
            let header = record
                .headers
                .first()
                .and_then(|header| header.value.as_deref());
            let value = record.value.as_deref().or(header).and_then(Value::parse);
            let value = value.ok_or_else(|| format!("no value at offset {}", record.offset))?;
            if record.offset >= from {
                let timestamp = match info.timestamp_type() {
                    record::TimestampType::CreateTime => record.timestamp,
                    record::TimestampType::LogAppendTime => info.max_timestamp,
                };
                placed.push(Placed {
                    offset: record.offset,
                    value,
                    timestamp: Some(timestamp),
                });
            }
        }
        // Compaction may have removed its last records, and the end of a transaction has none for clients.
        *next = (*next).max(info.last_offset() + 1);
    }
    Ok(())
}
