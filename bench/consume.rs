//! `consume`: fetches as fast as the broker gives, and looks no deeper than the
//! batch headers unless asked to.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use millrace::record;

use crate::args::{ConsumeArgs, Mode};
use crate::book::Book;
use crate::client::Conn;
use crate::fetcher::{Fetcher, Range};
use crate::load::{self, Job, LoadClient, Site};
use crate::reactor::{Client, Next};
use crate::report::Report;
use crate::stats::{Counters, Kind, Window};

/// Runs the subcommand.
pub fn run(args: &ConsumeArgs) -> Result<Report, String> {
    let mut load = args.load.clone();
    if args.once {
        load.warmup = 0;
    }
    let (mut report, _) = load::run(&args.topic, &load, &ConsumeJob { args })?;
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
}

impl Job for ConsumeJob<'_> {
    type Client = Consumer;

    fn name(&self) -> &'static str {
        "consume"
    }

    fn kinds(&self) -> &'static [Kind] {
        &[Kind::Fetch]
    }

    fn clients(&self, site: &mut Site) -> Result<Vec<(Conn, Consumer)>, String> {
        let bounds = site.bounds()?;
        if self.args.mode == Mode::Replay && bounds.iter().all(|(first, end)| first >= end) {
            return Err(format!(
                "topic '{}' is empty: fill it with `millrace-bench produce`",
                self.args.topic.topic
            ));
        }
        let range = |slot: usize| {
            let (first, end) = bounds[slot];
            let (first, end) = match self.args.mode {
                Mode::Replay => (first, end),
                Mode::Tail => (end, i64::MAX),
            };
            Range {
                slot,
                first,
                end,
                at: first,
            }
        };
        let mut clients = Vec::new();
        for assignment in site.assign(self.args.load.connections) {
            let conn = site.connect(&assignment)?;
            let ranges = assignment.slots.iter().map(|&slot| range(slot)).collect();
            let fetcher = Fetcher::new(&conn, &site.layout, &self.args.fetch, ranges)?;
            let consumer = Consumer {
                fetcher,
                once: self.args.once,
                check_crc: self.args.check_crc,
                asked: None,
                counters: Arc::clone(&site.counters),
            };
            clients.push((conn, consumer));
        }
        Ok(clients)
    }
}

/// The consumer on one connection.
pub struct Consumer {
    fetcher: Fetcher,
    once: bool,
    check_crc: bool,
    asked: Option<Instant>,
    counters: Arc<Counters>,
}

impl LoadClient for Consumer {
    fn begin(&mut self, _window: Window) {}
}

impl Client for Consumer {
    type Notes = Book;

    fn next(&mut self, _book: &mut Book, now: Instant) -> Next {
        if self.counters.stopped() {
            return Next::Done;
        }
        if self.fetcher.is_waiting() {
            return Next::Answer;
        }
        if self.fetcher.is_at_end() {
            if self.once {
                return Next::Done;
            }
            self.fetcher.rewind();
        }
        self.asked = Some(now);
        match self.fetcher.request() {
            Some(frame) => Next::Send(vec![frame]),
            // All its partitions are empty, and others have the records.
            None => Next::Done,
        }
    }

    fn sent(&mut self, _book: &mut Book, _frames: usize, _now: Instant) {}

    fn answered(&mut self, book: &mut Book, frame: Bytes, now: Instant) -> Result<(), String> {
        let check_crc = self.check_crc;
        let (records, bytes) = self.fetcher.answered(frame, |_, _, info, batch| {
            if check_crc && !record::check_crc(batch) {
                return Err(format!(
                    "the batch at offset {} has a wrong CRC",
                    info.base_offset
                ));
            }
            Ok(())
        })?;
        if records > 0 {
            book.done(Kind::Fetch, records, bytes, now);
            if let Some(asked) = self.asked {
                book.latency(Kind::Fetch, asked, now);
            }
        }
        Ok(())
    }
}
