//! Fetches on one connection: what to ask for next, and the batches of each answer.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use kafka_wire::FetchRequest;
use kafka_wire::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_wire_core::{StrBytes, Uuid};
use millrace::record::{self, BatchInfo};
use millrace::wire::client::{decode_fetch, encode_request};

use crate::args::FetchArgs;
use crate::layout::Layout;
use crate::session::Session;
use millrace_client::{CLIENT_ID, Conn, message};

/// Bytes of one answer, as Kafka's consumer has it (fetch.max.bytes).
const ANSWER_BYTES_MAX: i32 = 50 * 1024 * 1024;
/// From this version on, Fetch names topics by id instead of by name.
const FETCH_BY_ID_SINCE: i16 = 13;
/// From this version on there are fetch sessions.
const SESSIONS_SINCE: i16 = 7;

/// What is to be read of one partition.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    /// Which one, by its number in the layout.
    pub slot: usize,
    /// First offset.
    pub first: i64,
    /// One past the last offset.
    pub end: i64,
    /// Offset of the next record wanted.
    pub at: i64,
}

/// See the module.
pub struct Fetcher {
    layout: Arc<Layout>,
    version: i16,
    args: FetchArgs,
    ranges: Vec<Range>,
    by_slot: HashMap<usize, usize>,
    correlation_id: i32,
    asked: bool,
    session: Session,
}

impl Fetcher {
    /// Reads these ranges over this connection.
    pub fn new(
        conn: &Conn,
        layout: &Arc<Layout>,
        args: &FetchArgs,
        ranges: Vec<Range>,
    ) -> Result<Self, String> {
        let cap = if layout.has_ids() {
            i16::MAX
        } else {
            FETCH_BY_ID_SINCE - 1
        };
        let version = conn
            .version_up_to::<FetchRequest>(cap)
            .map_err(|e| e.to_string())?;
        if args.fetch_session && version < SESSIONS_SINCE {
            return Err(String::from("the broker has no fetch sessions"));
        }
        let by_slot = ranges
            .iter()
            .enumerate()
            .map(|(at, range)| (range.slot, at));
        Ok(Self {
            layout: Arc::clone(layout),
            version,
            session: Session::new(args.fetch_session, ranges.len()),
            args: args.clone(),
            by_slot: by_slot.collect(),
            ranges,
            correlation_id: 0,
            asked: false,
        })
    }

    /// Whether an answer is due.
    pub const fn is_waiting(&self) -> bool {
        self.asked
    }

    /// Whether everything has been read.
    pub fn is_at_end(&self) -> bool {
        self.ranges.iter().all(|range| range.at >= range.end)
    }

    /// Offset of the next record wanted, by slot.
    pub fn positions(&self) -> impl Iterator<Item = (usize, i64)> + '_ {
        self.ranges.iter().map(|range| (range.slot, range.at))
    }

    /// Begins again with the first offsets.
    pub fn rewind(&mut self) {
        for range in &mut self.ranges {
            range.at = range.first;
        }
    }

    /// The next request; `None` if there is nothing to read.
    pub fn request(&mut self) -> Option<Bytes> {
        if self.is_at_end() {
            return None;
        }
        let bytes = i32::try_from(self.args.fetch_bytes).unwrap_or(i32::MAX);
        let (session_id, session_epoch) = self.session.head();
        let wanted = self.ranges.iter();
        let wanted = wanted.map(|range| (range.at < range.end).then_some(range.at));
        let change = self.session.change(wanted);
        let mut by_topic: BTreeMap<usize, Vec<FetchPartition>> = BTreeMap::new();
        for range in change.told.iter().map(|&at| self.ranges[at]) {
            let slot = self.layout.slots[range.slot];
            by_topic
                .entry(slot.topic)
                .or_default()
                .push(message!(FetchPartition {
                    partition: slot.partition,
                    current_leader_epoch: -1,
                    fetch_offset: range.at,
                    last_fetched_epoch: -1,
                    log_start_offset: -1,
                    partition_max_bytes: bytes,
                }));
        }
        let mut forgotten: BTreeMap<usize, Vec<i32>> = BTreeMap::new();
        for range in change.forgotten.iter().map(|&at| self.ranges[at]) {
            let slot = self.layout.slots[range.slot];
            forgotten
                .entry(slot.topic)
                .or_default()
                .push(slot.partition);
        }
        let topics = by_topic.into_iter().map(|(topic, partitions)| {
            let topic = &self.layout.topics[topic];
            message!(FetchTopic {
                topic: StrBytes::from(topic.name.as_str()),
                topic_id: Uuid::from_bytes(topic.id.0),
                partitions: partitions,
            })
        });
        let forgotten = forgotten.into_iter().map(|(topic, partitions)| {
            let topic = &self.layout.topics[topic];
            message!(ForgottenTopic {
                topic: StrBytes::from(topic.name.as_str()),
                topic_id: Uuid::from_bytes(topic.id.0),
                partitions: partitions,
            })
        });
        let request = message!(FetchRequest {
            replica_id: -1,
            max_wait_ms: self.args.max_wait_ms,
            min_bytes: self.args.min_bytes,
            max_bytes: ANSWER_BYTES_MAX.max(bytes),
            session_id: session_id,
            session_epoch: session_epoch,
            topics: topics.collect(),
            forgotten_topics_data: forgotten.collect(),
        });
        self.correlation_id = self.correlation_id.wrapping_add(1) & i32::MAX;
        self.asked = true;
        let frame = encode_request(self.correlation_id, Some(CLIENT_ID), self.version, &request);
        Some(frame.expect("a fetch of known shape can be written"))
    }

    /// Gives every batch that is wanted to `take`: its slot, the first offset wanted, what its
    /// header says, its bytes. Returns the records and bytes of all of them.
    pub fn answered(
        &mut self,
        frame: Bytes,
        mut take: impl FnMut(usize, i64, &BatchInfo, &[u8]) -> Result<(), String>,
    ) -> Result<(u64, u64), String> {
        let (correlation_id, fetched) =
            decode_fetch(frame, self.version).map_err(|e| format!("fetch answer: {e}"))?;
        if !std::mem::take(&mut self.asked) || correlation_id != self.correlation_id {
            return Err(String::from("the broker answered what was not asked"));
        }
        let head = &fetched.head;
        let counts = self.session.answered(head.error, head.session_id);
        if !counts.map_err(|error| format!("fetch: {error}"))? {
            return Ok((0, 0));
        }
        let (mut records, mut bytes) = (0, 0);
        for topic in &fetched.topics {
            for partition in &topic.partitions {
                let slot = self.layout.find(&topic.topic, partition.index);
                let range = slot.and_then(|slot| self.by_slot.get(&slot));
                let range = range.map(|&at| &mut self.ranges[at]);
                let range = range.ok_or("the broker answered for a partition not asked for")?;
                let name = || self.layout.name(range.slot);
                if !partition.error.is_none() {
                    return Err(format!("fetch from {}: {}", name(), partition.error));
                }
                for batch in record::batches(&partition.records) {
                    let (info, batch) =
                        batch.map_err(|e| format!("{} at offset {}: {e}", name(), range.at))?;
                    if info.last_offset() >= range.at {
                        take(range.slot, range.at, &info, batch)
                            .map_err(|e| format!("{}: {e}", name()))?;
                        range.at = info.last_offset() + 1;
                        records += u64::try_from(info.records).unwrap_or(0);
                        bytes += batch.len() as u64;
                    }
                }
            }
        }
        Ok((records, bytes))
    }
}
