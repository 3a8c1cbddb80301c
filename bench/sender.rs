//! The producer on one connection: sends requests in turn, closed loop or when they
//! are due, and notes how long each took.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use kafka_wire::{InitProducerIdRequest, ProduceRequest as ProduceApi};
use millrace::wire::client::decode_produce;

use crate::args::SendArgs;
use crate::book::Book;
use crate::layout::Layout;
use crate::pace::{Due, Pace};
use crate::plan::Assignment;
use crate::reactor::Next;
use crate::requests::{Envelope, Identity, PRODUCE_BY_ID_SINCE, Prebuilt, Stamper};
use crate::stats::{Counters, Kind, Window};
use millrace_client::{ClientError, Conn, message};

/// Where requests come from.
pub enum Source {
    /// Made beforehand, to be sent in turn.
    Prebuilt {
        /// Together they cover all partitions of the connection.
        requests: Vec<Prebuilt>,
        /// The next one.
        turn: usize,
    },
    /// Made when they are sent.
    Stamped(Stamper),
}

struct InFlight {
    correlation_id: i32,
    due: Due,
    records: u32,
    bytes: u64,
}

/// See the module.
pub struct Sender {
    source: Source,
    envelope: Envelope,
    in_flight_max: usize,
    in_flight: VecDeque<InFlight>,
    correlation_id: i32,
    identity: Option<Identity>,
    /// Records per second and how long batches wait, until the run begins.
    rate: Option<(f64, Option<std::time::Duration>)>,
    place: (usize, usize),
    pace: Option<Pace>,
    window: Option<Window>,
    counters: Arc<Counters>,
    done: bool,
}

/// The partitions of each request of a connection, which together cover all its partitions.
pub fn groups(args: &SendArgs, assignment: &Assignment) -> Vec<Vec<usize>> {
    let chunks = assignment.slots.chunks(args.request_batches as usize);
    chunks.map(<[usize]>::to_vec).collect()
}

/// What requests on this connection have in common.
pub fn envelope(
    conn: &Conn,
    args: &SendArgs,
    timeout_s: u64,
    layout: &Arc<Layout>,
) -> Result<Envelope, String> {
    let cap = if layout.has_ids() {
        i16::MAX
    } else {
        PRODUCE_BY_ID_SINCE - 1
    };
    Ok(Envelope {
        layout: Arc::clone(layout),
        version: conn
            .version_up_to::<ProduceApi>(cap)
            .map_err(|e| e.to_string())?,
        acks: args.acks.code(),
        timeout_ms: timeout_s.saturating_mul(1000).min(i32::MAX as u64) as i32,
    })
}

impl Sender {
    /// A sender that has sent nothing yet, connection `place.0` of `place.1`.
    pub fn new(
        args: &SendArgs,
        source: Source,
        envelope: Envelope,
        conn: &mut Conn,
        place: (usize, usize),
        counters: &Arc<Counters>,
    ) -> Result<Self, String> {
        let identity = args
            .idempotent
            .then(|| init_producer_id(conn))
            .transpose()?;
        let linger = args
            .linger_ms
            .map(|ms| std::time::Duration::from_millis(ms.into()));
        counters.sender_added();
        Ok(Self {
            source,
            envelope,
            in_flight_max: args.in_flight as usize,
            in_flight: VecDeque::new(),
            correlation_id: 0,
            identity,
            rate: args.rate.map(|rate| (rate / place.1 as f64, linger)),
            place,
            pace: None,
            window: None,
            counters: Arc::clone(counters),
            done: false,
        })
    }

    /// The clock starts.
    pub fn begin(&mut self, window: Window) {
        self.window = Some(window);
        let records = match &self.source {
            Source::Prebuilt { requests, .. } => u64::from(requests[0].records),
            Source::Stamped(stamper) => stamper.groups[0]
                .iter()
                .map(|_| u64::from(stamper.templates[0].records()))
                .sum(),
        };
        self.pace = self
            .rate
            .map(|(rate, linger)| Pace::new(&window, rate, records, linger, self.place));
    }

    /// What to do next.
    pub fn next(&mut self, book: &mut Book, now: Instant) -> Next {
        if self.done {
            return Next::Done;
        }
        if self.counters.expired() {
            return self.wind_up(book, now);
        }
        if self.counters.closed() && self.pace.is_none() {
            return self.wait_for_answers();
        }
        if self.in_flight.len() >= self.in_flight_max {
            return Next::Answer;
        }
        let mut due = Due::now(now);
        if let Some(pace) = &mut self.pace {
            match pace.peek() {
                Some(next) if next.at > now => return Next::At(next.at),
                Some(next) => due = next,
                None => return self.wait_for_answers(),
            }
            pace.take();
        }
        Next::Send(self.request(due))
    }

    fn request(&mut self, due: Due) -> Vec<Bytes> {
        self.correlation_id = self.correlation_id.wrapping_add(1) & i32::MAX;
        let (frame, records, bytes) = match &mut self.source {
            Source::Prebuilt { requests, turn } => {
                let request = &requests[*turn];
                *turn = (*turn + 1) % requests.len();
                let frame = request.frame(self.correlation_id, self.identity.as_mut());
                (frame, request.records, request.bytes)
            }
            Source::Stamped(stamper) => stamper.next(
                &self.envelope,
                self.correlation_id,
                &due,
                &self.window.expect("the run has begun"),
                self.identity.as_mut(),
            ),
        };
        self.counters.begin(records.into());
        self.in_flight.push_back(InFlight {
            correlation_id: self.correlation_id,
            due,
            records,
            bytes,
        });
        frame
    }

    /// The run is over. In closed loop what is on its way is waited for. In open loop there was
    /// time for that: what is still due or on its way counts as being as late as it is now.
    fn wind_up(&mut self, book: &mut Book, now: Instant) -> Next {
        let Some(pace) = &mut self.pace else {
            return self.wait_for_answers();
        };
        for open in self.in_flight.drain(..) {
            book.given_up(Kind::Produce, open.due.first, now);
        }
        while let Some(due) = pace.peek().filter(|due| due.at <= now) {
            book.given_up(Kind::Produce, due.first, now);
            pace.take();
        }
        self.finish()
    }

    fn wait_for_answers(&mut self) -> Next {
        if self.in_flight.is_empty() {
            self.finish()
        } else {
            Next::Answer
        }
    }

    fn finish(&mut self) -> Next {
        self.done = true;
        self.counters.sender_done();
        Next::Done
    }

    /// `frames` frames have been handed to the kernel.
    pub fn sent(&mut self, book: &mut Book, frames: usize, now: Instant) {
        if self.envelope.acks == 0 {
            // There will be no answer: done is what the kernel has taken.
            for done in self.in_flight.drain(..frames.min(self.in_flight.len())) {
                note(book, &done, now);
            }
        }
    }

    /// An answer came.
    pub fn answered(&mut self, book: &mut Book, frame: Bytes, now: Instant) -> Result<(), String> {
        if self.done {
            return Ok(());
        }
        let (correlation_id, response) = decode_produce(frame, self.envelope.version)
            .map_err(|e| format!("produce answer: {e}"))?;
        let done = self
            .in_flight
            .pop_front()
            .filter(|d| d.correlation_id == correlation_id);
        let done = done.ok_or("the broker answered what was not asked")?;
        let mut refused = false;
        for partition in response.topics.iter().flat_map(|topic| &topic.partitions) {
            if !partition.error.is_none() {
                refused = true;
                book.refused(partition.error, now);
            }
        }
        if !refused {
            note(book, &done, now);
        }
        Ok(())
    }
}

/// Notes a request that is done: one latency, or one per record if they were not due at once.
fn note(book: &mut Book, done: &InFlight, now: Instant) {
    book.done(Kind::Produce, done.records.into(), done.bytes, now);
    let latencies = if done.due.step.is_zero() {
        1
    } else {
        done.records
    };
    for n in 0..latencies {
        book.latency(Kind::Produce, done.due.record(n), now);
    }
}

fn init_producer_id(conn: &mut Conn) -> Result<Identity, String> {
    // No transactional id and no earlier identity: a fresh, merely idempotent producer.
    let request = message!(InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: i32::MAX,
        producer_id: -1,
        producer_epoch: -1,
    });
    let deadline = Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let response = conn.call(&request).map_err(|e| e.to_string())?;
        let what = || String::from("ask for a producer id");
        match ClientError::check(what, response.error_code, None) {
            Ok(()) => return Ok(Identity::new(response.producer_id, response.producer_epoch)),
            Err(error) if error.is_retriable() && Instant::now() < deadline => {
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}
