//! `consume`: fetches as fast as the broker gives, and looks no deeper than the
//! batch headers unless asked to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use millrace::record;
use millrace::wire::client::{FetchedPartition, decode_fetch, encode_request};

use crate::args::{ConsumeArgs, Mode};
use crate::client::{
    CLIENT_ID, Cluster, Conn, EARLIEST, LATEST, Position, Topic, fetch_request, fetch_version,
    list_offsets,
};
use crate::load::{self, Job, Tallied};
use crate::plan::Assignment;
use crate::reactor::{Client, Next};
use crate::report::Report;
use crate::stats::{Counters, Tally, Window};

/// Bytes of one answer, as Kafka's consumer has it (fetch.max.bytes).
const ANSWER_BYTES_MAX: i32 = 50 * 1024 * 1024;

/// Runs the subcommand.
pub fn run(args: &ConsumeArgs) -> Result<Report, String> {
    let mut load = args.load.clone();
    if args.once {
        load.warmup = 0;
    }
    let job = ConsumeJob {
        args,
        bounds: Mutex::default(),
    };
    let mut report = load::run(&args.topic, &load, &job)?;
    report.text("mode", format!("{:?}", args.mode).to_lowercase());
    report.text(
        "crc",
        if args.check_crc {
            "checked"
        } else {
            "not checked"
        },
    );
    Ok(report)
}

struct ConsumeJob<'a> {
    args: &'a ConsumeArgs,
    /// First offset and end offset of every partition.
    bounds: Mutex<BTreeMap<i32, (i64, i64)>>,
}

impl Job for ConsumeJob<'_> {
    type Client = Consumer;

    fn name(&self) -> &'static str {
        "consume"
    }

    fn prepare(&self, cluster: &mut Cluster, topic: &Topic) -> Result<(), String> {
        let indexes: Vec<i32> = topic.partitions.iter().map(|p| p.index).collect();
        let mut list = |at| list_offsets(cluster, topic, &indexes, at).map_err(|e| e.to_string());
        let (first, end) = (list(EARLIEST)?, list(LATEST)?);
        let mut bounds = self.bounds.lock().expect("nothing panics while it is held");
        for index in indexes {
            bounds.insert(index, (first[&index], end[&index]));
        }
        let empty = bounds.values().all(|(first, end)| first >= end);
        if empty && self.args.mode == Mode::Replay {
            return Err(format!(
                "topic '{}' is empty: fill it with `millrace-bench produce`",
                topic.name
            ));
        }
        Ok(())
    }

    fn client(
        &self,
        conn: &Conn,
        topic: &Topic,
        assignment: &Assignment,
        _place: load::Place,
        counters: &Arc<Counters>,
        window: Window,
    ) -> Result<Consumer, String> {
        let bounds = self.bounds.lock().expect("nothing panics while it is held");
        let ranges = assignment.partitions.iter().map(|&partition| {
            let (first, end) = bounds[&partition];
            match self.args.mode {
                Mode::Replay => Range {
                    partition,
                    first,
                    end,
                    at: first,
                },
                Mode::Tail => Range {
                    partition,
                    first: end,
                    end: i64::MAX,
                    at: end,
                },
            }
        });
        Ok(Consumer {
            topic: topic.clone(),
            version: fetch_version(conn, topic).map_err(|e| e.to_string())?,
            ranges: ranges.collect(),
            args: self.args.clone(),
            correlation_id: 0,
            asked: None,
            counters: Arc::clone(counters),
            tally: Tally::new(window),
        })
    }
}

/// What is to be read of one partition.
#[derive(Clone, Copy, Debug)]
struct Range {
    partition: i32,
    first: i64,
    end: i64,
    at: i64,
}

/// The consumer on one connection.
pub struct Consumer {
    topic: Topic,
    version: i16,
    ranges: Vec<Range>,
    args: ConsumeArgs,
    correlation_id: i32,
    asked: Option<Instant>,
    counters: Arc<Counters>,
    tally: Tally,
}

impl Consumer {
    fn is_at_end(&self) -> bool {
        self.ranges.iter().all(|range| range.at >= range.end)
    }

    fn take(&mut self, partition: &FetchedPartition) -> Result<(u64, u64), String> {
        let name = format!("{}-{}", self.topic.name, partition.index);
        if !partition.error.is_none() {
            return Err(format!("fetch from {name}: {}", partition.error));
        }
        let range = self
            .ranges
            .iter_mut()
            .find(|range| range.partition == partition.index);
        let range =
            range.ok_or_else(|| format!("the broker answered for {name}, which was not asked"))?;
        let (mut records, mut bytes) = (0, 0);
        for batch in record::batches(&partition.records) {
            let (info, batch) = batch.map_err(|e| format!("{name} at offset {}: {e}", range.at))?;
            if self.args.check_crc && !record::check_crc(batch) {
                return Err(format!(
                    "{name}: the batch at offset {} has a wrong CRC",
                    info.base_offset
                ));
            }
            if info.last_offset() >= range.at {
                range.at = info.last_offset() + 1;
                records += u64::try_from(info.records).unwrap_or(0);
                bytes += batch.len() as u64;
            }
        }
        Ok((records, bytes))
    }
}

impl Client for Consumer {
    fn next(&mut self, now: Instant) -> Next {
        if self.asked.is_some() {
            return Next::Answer;
        }
        if self.counters.stopped() || self.args.once && self.is_at_end() {
            return Next::Done;
        }
        if self.is_at_end() {
            for range in &mut self.ranges {
                range.at = range.first;
            }
        }
        let positions = self.ranges.iter().filter(|range| range.at < range.end);
        let positions: Vec<Position> = positions
            .map(|r| Position {
                partition: r.partition,
                offset: r.at,
            })
            .collect();
        if positions.is_empty() {
            // All its partitions are empty, and others have the records.
            return Next::Done;
        }
        let bytes = i32::try_from(self.args.fetch_bytes).unwrap_or(i32::MAX);
        let mut request = fetch_request(
            &self.topic,
            &positions,
            self.args.max_wait_ms,
            self.args.min_bytes,
            bytes,
        );
        request.max_bytes = ANSWER_BYTES_MAX.max(bytes);
        self.correlation_id = self.correlation_id.wrapping_add(1) & i32::MAX;
        self.asked = Some(now);
        let frame = encode_request(self.correlation_id, Some(CLIENT_ID), self.version, &request);
        Next::Send(vec![frame.expect("a fetch of known shape can be written")])
    }

    fn sent(&mut self, _frames: usize, _now: Instant) {}

    fn answered(&mut self, frame: Bytes, now: Instant) -> Result<(), String> {
        let (correlation_id, fetched) =
            decode_fetch(frame, self.version).map_err(|e| format!("fetch answer: {e}"))?;
        let asked = self
            .asked
            .take()
            .filter(|_| correlation_id == self.correlation_id);
        let asked = asked.ok_or("the broker answered what was not asked")?;
        if !fetched.head.error.is_none() {
            return Err(format!(
                "fetch from '{}': {}",
                self.topic.name, fetched.head.error
            ));
        }
        let (mut records, mut bytes) = (0, 0);
        for partition in fetched.topics.iter().flat_map(|topic| &topic.partitions) {
            let (more_records, more_bytes) = self.take(partition)?;
            records += more_records;
            bytes += more_bytes;
        }
        if records > 0 {
            self.counters.add(records, bytes);
            self.tally.answered(asked, now);
        }
        Ok(())
    }
}

impl Tallied for Consumer {
    fn tally(&self) -> &Tally {
        &self.tally
    }
}
