//! `produce`: sends the same batches again and again, closed loop or at a rate.

use std::sync::Arc;

use bytes::Bytes;

use crate::args::{ProduceArgs, SendArgs};
use crate::book::Book;
use crate::load::{self, Job, LoadClient, Site};
use crate::payload::{Shape, Template};
use crate::plan::Assignment;
use crate::reactor::{Client, Next};
use crate::report::Report;
use crate::requests::{Envelope, Prebuilt};
use crate::sender::{Sender, Source, envelope, groups};
use crate::stats::{Counters, Kind, Window};
use millrace_client::Conn;

/// Different batches made beforehand; more would only cost cache.
const VARIANTS: u64 = 4;
/// With keys more are made, so that many keys occur, up to this many bytes.
const VARIANT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// And up to this many.
const VARIANTS_MAX: u64 = 1024;

/// Runs the subcommand.
pub fn run(args: &ProduceArgs) -> Result<Report, String> {
    let batches = Batches::new(&args.send, args.load.connections)?;
    let job = ProduceJob {
        args,
        batches: &batches,
    };
    let (mut report, _) = load::run(&args.topic, &args.load, &job)?;
    batches.describe(&args.send, &mut report);
    Ok(report)
}

/// What is sent, made beforehand.
pub struct Batches {
    shape: Shape,
    /// What all batches are copies of.
    pub templates: Arc<[Template]>,
    /// As they go out: records, bytes.
    packed: Vec<(u32, Bytes)>,
}

impl Batches {
    /// Batches for this many connections.
    pub fn new(args: &SendArgs, connections: u32) -> Result<Self, String> {
        let rate = args.rate.map(|rate| rate / f64::from(connections));
        let shape = args.shape(rate)?;
        let first = shape.template(0);
        let mut variants = VARIANTS;
        if args.record.keys > 0 || args.record.payload_file.is_some() {
            let wanted = u64::from(args.record.keys / first.records().max(1)).max(64);
            let room = (VARIANT_BYTES_MAX / first.plain_len().max(1)) as u64;
            variants = wanted.min(room).clamp(VARIANTS, VARIANTS_MAX);
        }
        let templates: Arc<[Template]> = (0..variants).map(|n| shape.template(n)).collect();
        let now_ms = load::wall_ms();
        let packed = templates
            .iter()
            .map(|template| (template.records(), template.batch(now_ms, |_, _| {})))
            .collect();
        Ok(Self {
            shape,
            templates,
            packed,
        })
    }

    /// Requests for these groups of slots.
    pub fn requests(&self, envelope: &Envelope, groups: &[Vec<usize>]) -> Vec<Prebuilt> {
        // Every batch takes its turn, also with few partitions.
        let rounds = self.packed.len().div_ceil(groups.len()).max(1);
        let mut turns = self.packed.iter().cycle();
        let mut requests = Vec::new();
        for group in std::iter::repeat_n(groups, rounds).flatten() {
            let batches: Vec<(usize, u32, Bytes)> = group
                .iter()
                .zip(&mut turns)
                .map(|(&slot, (records, batch))| (slot, *records, batch.clone()))
                .collect();
            requests.push(Prebuilt::new(envelope, &batches));
        }
        requests
    }

    /// Says what was sent and how.
    pub fn describe(&self, args: &SendArgs, report: &mut Report) {
        let template = &self.templates[0];
        let packed = self.packed[0].1.len();
        let codec = self.shape.codec.name();
        let plain = template.plain_len();
        report.text(
            "batch",
            format!("{} records, {packed} bytes, {codec}", template.records()),
        );
        if packed != plain {
            report.number("compressed_to", packed as f64 / plain as f64);
        }
        let mean = template.value_bytes() as f64 / f64::from(template.records());
        report.text(
            "record_bytes",
            match &args.record.payload_file {
                Some(path) => format!("lines of {}, {mean:.0} on average", path.display()),
                None => self.shape.sizes.to_string(),
            },
        );
        report.text("keys", self.shape.keys.describe());
        report.text("acks", format!("{:?}", args.acks).to_lowercase());
        report.text("idempotent", if args.idempotent { "yes" } else { "no" });
        report.count("in_flight", u64::from(args.in_flight));
        report.text(
            "loop",
            if args.rate.is_some() {
                "open"
            } else {
                "closed"
            },
        );
        if let Some(ms) = args.linger_ms {
            report.count("linger_ms", u64::from(ms));
        }
    }
}

struct ProduceJob<'a> {
    args: &'a ProduceArgs,
    batches: &'a Batches,
}

impl Job for ProduceJob<'_> {
    type Client = Producer;

    fn name(&self) -> &'static str {
        "produce"
    }

    fn kinds(&self) -> &'static [Kind] {
        &[Kind::Produce]
    }

    fn rate(&self) -> Option<f64> {
        self.args.send.rate
    }

    fn clients(&self, site: &mut Site) -> Result<Vec<(Conn, Producer)>, String> {
        let (send, timeout) = (&self.args.send, self.args.topic.timeout);
        senders(
            site,
            send,
            timeout,
            self.args.load.connections,
            |envelope, assignment, _| Source::Prebuilt {
                requests: self.batches.requests(envelope, &groups(send, assignment)),
                turn: 0,
            },
        )
        .map(|senders| senders.into_iter().map(|(c, s)| (c, Producer(s))).collect())
    }

    fn is_drained(&self, counters: &Counters) -> bool {
        counters.senders() == 0
    }
}

/// Connections with a sender each.
pub fn senders(
    site: &mut Site,
    args: &SendArgs,
    timeout_s: u64,
    connections: u32,
    mut source: impl FnMut(&Envelope, &Assignment, usize) -> Source,
) -> Result<Vec<(Conn, Sender)>, String> {
    let assignments = site.assign(connections);
    let mut senders = Vec::with_capacity(assignments.len());
    for (index, assignment) in assignments.iter().enumerate() {
        let mut conn = site.connect(assignment)?;
        let envelope = envelope(&conn, args, timeout_s, &site.layout)?;
        let source = source(&envelope, assignment, index);
        let place = (index, assignments.len());
        let sender = Sender::new(args, source, envelope, &mut conn, place, &site.counters)?;
        senders.push((conn, sender));
    }
    Ok(senders)
}

/// A sender as a client of its own.
pub struct Producer(Sender);

impl LoadClient for Producer {
    fn begin(&mut self, window: Window) {
        self.0.begin(window);
    }
}

impl Client for Producer {
    type Notes = Book;

    fn next(&mut self, book: &mut Book, now: std::time::Instant) -> Next {
        self.0.next(book, now)
    }

    fn sent(&mut self, book: &mut Book, frames: usize, now: std::time::Instant) {
        self.0.sent(book, frames, now);
    }

    fn answered(
        &mut self,
        book: &mut Book,
        frame: Bytes,
        now: std::time::Instant,
    ) -> Result<(), String> {
        self.0.answered(book, frame, now)
    }
}
