//! `produce`: sends the same batches again and again, closed loop or at a rate.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use kafka_wire::ProduceRequest as ProduceApi;
use millrace::wire::TopicRef;
use millrace::wire::client::{decode_produce, encode_produce};
use millrace::wire::produce::{ProducePartition, ProduceRequest, ProduceTopic};

use crate::args::ProduceArgs;
use crate::client::{CLIENT_ID, Conn, Topic};
use crate::load::{self, Job};
use crate::payload::Shape;
use crate::plan::Assignment;
use crate::reactor::{Client, Next};
use crate::report::Report;
use crate::stats::{Counters, Tally, Window};

/// Different batches made beforehand; more would only cost cache.
const VARIANTS: u64 = 4;
/// From this version on, Produce names topics by id instead of by name.
const PRODUCE_BY_ID_SINCE: i16 = 13;
/// Where the correlation id lies in a request frame, after length, API key and version.
const CORRELATION_AT: std::ops::Range<usize> = 8..12;

/// Runs the subcommand.
pub fn run(args: &ProduceArgs) -> Result<Report, String> {
    let records = args
        .batch_records
        .unwrap_or_else(|| Shape::records_in(args.batch_bytes, args.record.record_bytes));
    let shape = Shape {
        records,
        record_bytes: args.record.record_bytes,
        keys: args.keys,
        codec: args.record.codec,
    };
    let timestamp_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis();
    let batches: Vec<Bytes> = (0..VARIANTS)
        .map(|seed| shape.batch(seed, timestamp_ms as i64))
        .collect();
    let batch_len = batches[0].len();
    let job = ProduceJob {
        args,
        shape,
        batches,
    };
    let mut report = load::run(&args.topic, &args.load, &job)?;
    report.text(
        "batch",
        format!(
            "{records} records, {batch_len} bytes, {}",
            shape.codec.name()
        ),
    );
    report.text("acks", format!("{:?}", args.acks).to_lowercase());
    report.count("in_flight", u64::from(args.in_flight));
    if let Some(rate) = args.rate {
        report.number("rate_asked_records_per_s", rate);
    }
    Ok(report)
}

struct ProduceJob<'a> {
    args: &'a ProduceArgs,
    shape: Shape,
    batches: Vec<Bytes>,
}

impl Job for ProduceJob<'_> {
    type Client = Producer;

    fn name(&self) -> &'static str {
        "produce"
    }

    fn client(
        &self,
        conn: &Conn,
        topic: &Topic,
        assignment: &Assignment,
        place: load::Place,
        counters: &Arc<Counters>,
        window: Window,
    ) -> Result<Producer, String> {
        let by_id = topic.id.0 != [0; 16];
        let cap = if by_id {
            i16::MAX
        } else {
            PRODUCE_BY_ID_SINCE - 1
        };
        let version = conn
            .version_up_to::<ProduceApi>(cap)
            .map_err(|e| e.to_string())?;
        let requests = self.requests(topic, assignment, version);
        let pace = self.args.rate.map(|rate| {
            let per_request = requests[0].records as f64;
            Pace::new(window, rate / per_request / place.connections as f64, place)
        });
        Ok(Producer {
            requests,
            version,
            acks: self.args.acks.code(),
            in_flight_max: self.args.in_flight as usize,
            in_flight: VecDeque::new(),
            next: 0,
            correlation_id: 0,
            pace,
            counters: Arc::clone(counters),
            tally: Tally::new(window),
        })
    }
}

impl ProduceJob<'_> {
    /// The requests that a connection sends in turn: together they cover all its partitions.
    fn requests(&self, topic: &Topic, assignment: &Assignment, version: i16) -> Vec<Request> {
        let name = if version >= PRODUCE_BY_ID_SINCE {
            TopicRef::Id(topic.id)
        } else {
            TopicRef::Name(topic.name.as_str().into())
        };
        let mut variants = self.batches.iter().cycle();
        let mut requests = Vec::new();
        // With few partitions the variants still take turns.
        let rounds = self
            .batches
            .len()
            .div_ceil(assignment.partitions.len())
            .max(1);
        for _ in 0..rounds {
            for partitions in assignment
                .partitions
                .chunks(self.args.request_batches as usize)
            {
                let partitions = partitions.iter().map(|&index| ProducePartition {
                    index,
                    records: variants.next().cloned(),
                });
                let topic = ProduceTopic {
                    topic: name.clone(),
                    partitions: partitions.collect(),
                };
                requests.push(self.request(topic, version));
            }
        }
        requests
    }

    fn request(&self, topic: ProduceTopic, version: i16) -> Request {
        let batches = topic.partitions.len() as u64;
        let bytes = topic
            .partitions
            .iter()
            .flat_map(|p| &p.records)
            .map(|r| r.len() as u64)
            .sum();
        let request = ProduceRequest {
            transactional_id: None,
            acks: self.args.acks.code(),
            timeout_ms: (self.args.topic.timeout * 1000).min(i32::MAX as u64) as i32,
            topics: vec![topic],
        };
        let pieces = encode_produce(0, Some(CLIENT_ID), version, &request);
        Request {
            pieces,
            records: batches * u64::from(self.shape.records),
            bytes,
        }
    }
}

/// A request made beforehand; only the correlation id differs from one sending to the next.
struct Request {
    pieces: Vec<Bytes>,
    records: u64,
    bytes: u64,
}

impl Request {
    fn frame(&self, correlation_id: i32) -> Vec<Bytes> {
        let mut pieces = self.pieces.clone();
        let mut head = BytesMut::from(&pieces[0][..]);
        head[CORRELATION_AT].copy_from_slice(&correlation_id.to_be_bytes());
        pieces[0] = head.freeze();
        pieces
    }
}

/// When requests are due.
struct Pace {
    start: Instant,
    /// Requests per second of this connection.
    rate: f64,
    sent: u64,
}

impl Pace {
    /// Connections are staggered, so that they do not all send at the same moment.
    fn new(window: Window, rate: f64, place: load::Place) -> Self {
        let stagger = place.index as f64 / place.connections as f64 / rate;
        let start = window.start + Duration::from_secs_f64(stagger);
        Self {
            start,
            rate,
            sent: 0,
        }
    }

    fn due(&self) -> Instant {
        self.start + Duration::from_secs_f64(self.sent as f64 / self.rate)
    }
}

struct InFlight {
    correlation_id: i32,
    intended: Instant,
    request: usize,
}

/// The producer on one connection.
pub struct Producer {
    requests: Vec<Request>,
    version: i16,
    acks: i16,
    in_flight_max: usize,
    in_flight: VecDeque<InFlight>,
    next: usize,
    correlation_id: i32,
    pace: Option<Pace>,
    counters: Arc<Counters>,
    tally: Tally,
}

impl Client for Producer {
    fn next(&mut self, now: Instant) -> Next {
        if self.counters.stopped() {
            return if self.in_flight.is_empty() {
                Next::Done
            } else {
                Next::Answer
            };
        }
        if self.in_flight.len() >= self.in_flight_max {
            return Next::Answer;
        }
        let mut intended = now;
        if let Some(pace) = &mut self.pace {
            intended = pace.due();
            if intended > now {
                return Next::At(intended);
            }
            pace.sent += 1;
        }
        self.correlation_id = self.correlation_id.wrapping_add(1) & i32::MAX;
        let request = self.next;
        self.next = (self.next + 1) % self.requests.len();
        self.in_flight.push_back(InFlight {
            correlation_id: self.correlation_id,
            intended,
            request,
        });
        Next::Send(self.requests[request].frame(self.correlation_id))
    }

    fn sent(&mut self, frames: usize, now: Instant) {
        if self.acks == 0 {
            // There will be no answer: done is what the kernel has taken.
            for done in self.in_flight.drain(..frames) {
                let request = &self.requests[done.request];
                self.counters.add(request.records, request.bytes);
                self.tally.answered(done.intended, now);
            }
        }
    }

    fn answered(&mut self, frame: Bytes, now: Instant) -> Result<(), String> {
        let (correlation_id, response) =
            decode_produce(frame, self.version).map_err(|e| format!("produce answer: {e}"))?;
        let done = self
            .in_flight
            .pop_front()
            .filter(|d| d.correlation_id == correlation_id);
        let done = done.ok_or("the broker answered what was not asked")?;
        let mut refused = false;
        for partition in response.topics.iter().flat_map(|topic| &topic.partitions) {
            if !partition.error.is_none() {
                refused = true;
                self.tally.refused(partition.error, now);
                self.counters.add_error();
            }
        }
        if !refused {
            let request = &self.requests[done.request];
            self.counters.add(request.records, request.bytes);
            self.tally.answered(done.intended, now);
        }
        Ok(())
    }
}

impl load::Tallied for Producer {
    fn tally(&self) -> &Tally {
        &self.tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_fall_due_at_the_rate_and_staggered() {
        let start = Instant::now();
        let window = Window {
            start,
            from: start,
            to: start + Duration::from_secs(10),
        };
        let place = load::Place {
            index: 1,
            connections: 2,
        };
        let mut pace = Pace::new(window, 10.0, place);
        assert_eq!(pace.due() - start, Duration::from_millis(50));
        pace.sent = 20;
        assert_eq!(pace.due() - start, Duration::from_millis(2050));
    }

    #[test]
    fn only_the_correlation_id_changes() {
        let head = Bytes::from(vec![7; 30]);
        let request = Request {
            pieces: vec![head.clone(), Bytes::from_static(b"batch")],
            records: 1,
            bytes: 5,
        };
        let frame = request.frame(0x0102_0304);
        assert_eq!(frame[0][..8], head[..8]);
        assert_eq!(frame[0][8..12], [1, 2, 3, 4]);
        assert_eq!(frame[0][12..], head[12..]);
        assert_eq!(frame[1].as_ptr(), request.pieces[1].as_ptr());
    }
}
