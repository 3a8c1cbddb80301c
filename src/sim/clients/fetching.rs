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
    if (records.len() as i64) < next - from {
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
        let records =
            record::records(batch, OPENED_BYTES_MAX).map_err(|error| error.to_string())?;
        for record in records {
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
        // Compaction may have removed its last records.
        *next = (*next).max(info.last_offset() + 1);
    }
    Ok(())
}
