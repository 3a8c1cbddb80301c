//! `consume`: fetches as fast as the broker gives, or at a rate, and looks no deeper than the
//! batch headers unless asked to.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use millrace::record;

use crate::args::{ConsumeArgs, Mode};
use crate::book::Book;
use crate::fetcher::{Fetcher, Range};
use crate::load::{self, Job, LoadClient, Site};
use crate::pace::{Due, Pace};
use crate::reactor::{Client, Next};
use crate::report::Report;
use crate::stats::{Counters, Kind, Window};
use millrace_client::Conn;

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

    fn rate(&self) -> Option<f64> {
        self.args.rate
    }

    fn paced(&self) -> &'static str {
        "fetches"
    }

    fn is_drained(&self, counters: &Counters) -> bool {
        counters.senders() == 0
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
        let assignments = site.assign(self.args.load.connections);
        let connections = assignments.len();
        for (index, assignment) in assignments.into_iter().enumerate() {
            let conn = site.connect(&assignment)?;
            let ranges = assignment.slots.iter().map(|&slot| range(slot)).collect();
            let fetcher = Fetcher::new(&conn, &site.layout, &self.args.fetch, ranges)?;
            let consumer = Consumer {
                fetcher,
                once: self.args.once,
                check_crc: self.args.check_crc,
                rate: self.args.rate.map(|rate| rate / connections as f64),
                place: (index, connections),
                pace: None,
                asked: None,
                done: false,
                counters: Arc::clone(&site.counters),
            };
            if consumer.rate.is_some() {
                site.counters.sender_added();
            }
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
    /// Fetches per second, and which connection of how many this is.
    rate: Option<f64>,
    place: (usize, usize),
    pace: Option<Pace>,
    /// When the fetch that is on its way was due.
    asked: Option<Instant>,
    done: bool,
    counters: Arc<Counters>,
}

impl Consumer {
    /// The end of the schedule: what has no answer by now, or could not even be sent, is as late as it is.
    fn finish(&mut self, book: &mut Book, now: Instant) -> Next {
        if let Some(mut pace) = self.pace.take() {
            if self.fetcher.is_waiting()
                && let Some(due) = self.asked
            {
                book.given_up(Kind::Fetch, due, now);
            }
            while let Some(due) = pace.peek().filter(|due| due.at <= now) {
                book.given_up(Kind::Fetch, due.first, now);
                pace.take();
            }
            self.counters.sender_done();
        }
        self.done = true;
        Next::Done
    }
}

impl LoadClient for Consumer {
    fn begin(&mut self, window: Window) {
        let pace = |rate| Pace::new(&window, rate, 1, None, self.place);
        self.pace = self.rate.map(pace);
    }
}

impl Client for Consumer {
    type Notes = Book;

    fn next(&mut self, book: &mut Book, now: Instant) -> Next {
        if self.done {
            return Next::Done;
        }
        if self.counters.expired() {
            return self.finish(book, now);
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
        let mut due = Due::now(now);
        if let Some(pace) = &mut self.pace {
            match pace.peek() {
                Some(next) if next.at > now => return Next::At(next.at),
                Some(next) => due = next,
                None => return self.finish(book, now),
            }
            pace.take();
            self.counters.begin(1);
        }
        self.asked = Some(due.first);
        match self.fetcher.request() {
            Some(frame) => Next::Send(vec![frame]),
            // All its partitions are empty, and others have the records.
            None => Next::Done,
        }
    }

    fn sent(&mut self, _book: &mut Book, _frames: usize, _now: Instant) {}

    fn answered(&mut self, book: &mut Book, frame: Bytes, now: Instant) -> Result<(), String> {
        if self.done {
            return Ok(());
        }
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
