//! `e2e` and `mixed`: producers and consumers at once. In `e2e` every record says
//! who sent it as which one and when it was due, so that a consumer can tell how old
//! it is and whether all came, in order. `mixed` looks no deeper than the batch
//! headers: the throughput of both directions together.

use std::collections::HashMap;
use std::sync::{Arc, Barrier, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use millrace::base::Rng;
use millrace::record::BatchInfo;

use crate::args::{Acks, E2eArgs};
use crate::book::Book;
use crate::fetcher::{Fetcher, Range};
use crate::group::{self, Kept, Positions};
use crate::load::{self, Job, LoadClient, Outcome, Site};
use crate::plan::Assignment;
use crate::produce::{Batches, senders};
use crate::reactor::{Client, Next};
use crate::report::{Percentiles, Report};
use crate::requests::Stamper;
use crate::sender::{Sender, Source, groups};
use crate::stamp::{Reading, STAMP_BYTES, Stamp};
use crate::stats::{Counters, Kind, Window, histogram};
use crate::walk;
use millrace_client::Conn;

/// How often a consumer that waits for a backlog looks whether it is there.
const BACKLOG_LOOK: Duration = Duration::from_millis(10);
/// Consumers have caught up when not more than one in so many records is still to be read.
const CAUGHT_UP_SHARE: u64 = 1000;

/// Runs `e2e`.
pub fn run(args: &E2eArgs) -> Result<Report, String> {
    measure(args, true).map(|(report, _)| report)
}

/// Runs `mixed`.
pub fn run_mixed(args: &E2eArgs) -> Result<Report, String> {
    measure(args, false).map(|(report, _)| report)
}

/// Runs either.
pub fn measure(args: &E2eArgs, stamped: bool) -> Result<(Report, Outcome), String> {
    let batches = Batches::new(&args.send, args.load.connections)?;
    let shortest = batches.templates.iter().map(|t| t.value_bytes_min()).min();
    if stamped && shortest < Some(STAMP_BYTES) {
        return Err(format!(
            "values of {STAMP_BYTES} bytes at least: a record carries its identity (or use `mixed`)"
        ));
    }
    let run = Rng::new(load::wall_ms() as u64 ^ u64::from(std::process::id()) << 32).next_u64();
    let job = E2eJob {
        args,
        batches: &batches,
        run: stamped.then_some(run),
        keepers: Mutex::default(),
    };
    let (mut report, mut outcome) = load::run(&args.topic, &args.load, &job)?;
    batches.describe(&args.send, &mut report);
    report.count("consumers", u64::from(args.fanout));
    job.judge(&mut report, &mut outcome);
    job.judge_groups(&mut report);
    Ok((report, outcome))
}

struct E2eJob<'a> {
    args: &'a E2eArgs,
    batches: &'a Batches,
    /// The run, if records carry their identity.
    run: Option<u64>,
    /// Threads of group members.
    keepers: Mutex<Vec<JoinHandle<Kept>>>,
}

impl E2eJob<'_> {
    fn read_kind(&self) -> Kind {
        match self.run {
            Some(_) => Kind::EndToEnd,
            None => Kind::Fetch,
        }
    }

    /// Lets the members of a consumer join, one per assignment, if it is to be a group; gives where
    /// each is told what to commit.
    fn join(
        &self,
        site: &Site,
        consumer: u32,
        assignments: &[Assignment],
    ) -> Result<Vec<Option<Positions>>, String> {
        let Some(name) = &self.args.group else {
            return Ok(vec![None; assignments.len()]);
        };
        let shares: Vec<Vec<usize>> = assignments.iter().map(|a| a.slots.clone()).collect();
        let (topic, name) = (&self.args.topic, format!("{name}-{consumer}"));
        let timeout = Duration::from_secs(topic.timeout);
        let members = group::join_all(&topic.bootstrap, timeout, &name, &site.layout, &shares)?;
        let every = Duration::from_millis(self.args.commit_ms.into());
        let mut keepers = self
            .keepers
            .lock()
            .expect("nothing panics while it is held");
        let mut positions = vec![None; shares.len()];
        let together = Arc::new(Barrier::new(members.len()));
        for member in members {
            // The leader gives the shares out as they are, but to whom which is its own business.
            let at = shares.iter().position(|share| *share == member.slots);
            let at = at.ok_or("the group's leader made other shares")?;
            let place = Positions::default();
            positions[at] = Some(Arc::clone(&place));
            let counters = Arc::clone(&site.counters);
            keepers.push(member.keep(place, every, counters, Arc::clone(&together)));
        }
        Ok(positions)
    }

    /// Waits until the members have left, and tells how they did.
    fn judge_groups(&self, report: &mut Report) {
        let keepers = self
            .keepers
            .lock()
            .map(|mut keepers| std::mem::take(&mut *keepers));
        let keepers = keepers.expect("nothing panics while it is held");
        if keepers.is_empty() {
            return;
        }
        report.count("group_members", keepers.len() as u64);
        let mut commits = histogram();
        for keeper in keepers {
            let Ok(kept) = keeper.join() else {
                report.fail(String::from("a group member panicked"));
                continue;
            };
            commits
                .add(&kept.commits)
                .expect("histograms of one shape add");
            if let Some(error) = kept.failure {
                report.fail(format!("a group member: {error}"));
            }
        }
        report.latency("commit_latency", Percentiles::of(&commits));
        if commits.is_empty() {
            report.fail(String::from("no member committed anything"));
        }
    }

    /// Whether everything that was acknowledged was read, once, in order.
    fn judge(&self, report: &mut Report, outcome: &mut Outcome) {
        let sent = outcome.counters.sample(Kind::Produce).records * u64::from(self.args.fanout);
        let read = outcome.counters.sample(self.read_kind()).records;
        let late = outcome.counters.late();
        let lost = sent.saturating_sub(read - late.min(read));
        report.count("records_acked_in_all", sent / u64::from(self.args.fanout));
        report.count("records_read_in_all", read);
        report.count("records_lost", lost);
        if self.run.is_some() {
            report.count("records_again_or_out_of_order", late);
        }
        if self.args.backlog_bytes > 0 {
            report.count("backlog_bytes", self.args.backlog_bytes);
            match outcome.counters.catch_up() {
                Some(time) => report.number("backlog_caught_up_s", time.as_secs_f64()),
                None => report.warn(String::from(
                    "the consumers did not catch up with the backlog",
                )),
            }
        }
        outcome.lost = lost;
        if lost > 0 && self.args.send.acks != Acks::None {
            report.fail(format!("{lost} records were acknowledged and not read"));
        } else if lost > 0 {
            report.warn(format!(
                "{lost} records were sent without acknowledgement and not read"
            ));
        }
        if late > 0 {
            report.fail(format!("{late} records were read again or out of order"));
        }
    }
}

impl Job for E2eJob<'_> {
    type Client = Party;

    fn name(&self) -> &'static str {
        match self.run {
            Some(_) => "e2e",
            None => "mixed",
        }
    }

    fn kinds(&self) -> &'static [Kind] {
        match self.run {
            Some(_) => &[Kind::Produce, Kind::EndToEnd],
            None => &[Kind::Produce, Kind::Fetch],
        }
    }

    fn rate(&self) -> Option<f64> {
        self.args.send.rate
    }

    fn clients(&self, site: &mut Site) -> Result<Vec<(Conn, Party)>, String> {
        let ends = site.bounds()?;
        let (send, timeout) = (&self.args.send, self.args.topic.timeout);
        let connections = self.args.load.connections;
        let senders = senders(
            site,
            send,
            timeout,
            connections,
            |envelope, assignment, index| {
                let groups = groups(send, assignment);
                match self.run {
                    Some(run) => {
                        let templates = Arc::clone(&self.batches.templates);
                        Source::Stamped(Stamper::new(run, index as u16, templates, groups))
                    }
                    None => Source::Prebuilt {
                        requests: self.batches.requests(envelope, &groups),
                        turn: 0,
                    },
                }
            },
        )?;
        let mut parties: Vec<(Conn, Party)> = Vec::new();
        // With more connections than partitions some would read the same ones.
        let connections = self.args.consumer_connections.min(ends.len() as u32);
        for consumer in 0..self.args.fanout {
            let assignments = site.assign(connections);
            let positions = self.join(site, consumer, &assignments)?;
            for (assignment, positions) in assignments.iter().zip(positions) {
                let conn = site.connect(assignment)?;
                let range = |slot: usize| Range {
                    slot,
                    first: ends[slot].1,
                    end: i64::MAX,
                    at: ends[slot].1,
                };
                let ranges = assignment.slots.iter().map(|&slot| range(slot)).collect();
                let fetcher = Fetcher::new(&conn, &site.layout, &self.args.fetch, ranges)?;
                let mut reader = Reader::new(fetcher, self.run, site);
                reader.backlog = (self.args.backlog_bytes > 0)
                    .then_some((self.args.backlog_bytes, self.args.fanout.into()));
                reader.positions = positions;
                parties.push((conn, Party::Reader(reader)));
            }
        }
        let senders = senders
            .into_iter()
            .map(|(conn, sender)| (conn, Party::Sender(sender)));
        parties.extend(senders);
        Ok(parties)
    }

    fn is_drained(&self, counters: &Counters) -> bool {
        let sent = counters.sample(Kind::Produce).records;
        let read = counters.sample(self.read_kind()).records;
        counters.senders() == 0 && read >= sent * u64::from(self.args.fanout)
    }
}

/// What lives on a connection.
pub enum Party {
    /// One that writes.
    Sender(Sender),
    /// One that reads.
    Reader(Reader),
}

impl LoadClient for Party {
    fn begin(&mut self, window: Window) {
        match self {
            Self::Sender(sender) => sender.begin(window),
            Self::Reader(reader) => reader.window = Some(window),
        }
    }
}

impl Client for Party {
    type Notes = Book;

    fn next(&mut self, book: &mut Book, now: Instant) -> Next {
        match self {
            Self::Sender(sender) => sender.next(book, now),
            Self::Reader(reader) => reader.next(now),
        }
    }

    fn sent(&mut self, book: &mut Book, frames: usize, now: Instant) {
        if let Self::Sender(sender) = self {
            sender.sent(book, frames, now);
        }
    }

    fn answered(&mut self, book: &mut Book, frame: Bytes, now: Instant) -> Result<(), String> {
        match self {
            Self::Sender(sender) => sender.answered(book, frame, now),
            Self::Reader(reader) => reader.answered(book, frame, now),
        }
    }
}

/// One connection of a consumer.
pub struct Reader {
    fetcher: Fetcher,
    asked: Option<Instant>,
    /// Bytes to let pile up before the first fetch, and readers of everything: until it is read.
    backlog: Option<(u64, u64)>,
    /// Where a group member finds what to commit.
    positions: Option<Positions>,
    arrivals: Option<Arrivals>,
    window: Option<Window>,
    counters: Arc<Counters>,
}

impl Reader {
    fn new(fetcher: Fetcher, run: Option<u64>, site: &Site) -> Self {
        Self {
            fetcher,
            asked: None,
            backlog: None,
            positions: None,
            arrivals: run.map(Arrivals::new),
            window: None,
            counters: Arc::clone(&site.counters),
        }
    }

    fn next(&mut self, now: Instant) -> Next {
        if self.counters.stopped() {
            return Next::Done;
        }
        if self.fetcher.is_waiting() {
            return Next::Answer;
        }
        if self.asked.is_none()
            && let Some((bytes, _)) = self.backlog
        {
            let has_piled_up = self.counters.sample(Kind::Produce).bytes >= bytes;
            if !has_piled_up && !self.counters.closed() {
                return Next::At(now + BACKLOG_LOOK);
            }
            self.counters.catching_up(false, now);
        }
        self.asked = Some(now);
        self.fetcher
            .request()
            .map_or(Next::Done, |frame| Next::Send(vec![frame]))
    }

    fn answered(&mut self, book: &mut Book, frame: Bytes, now: Instant) -> Result<(), String> {
        let Self {
            fetcher, arrivals, ..
        } = self;
        let (mut records, bytes) = fetcher.answered(frame, |slot, wanted, info, batch| {
            arrivals
                .as_mut()
                .map_or(Ok(()), |arrivals| arrivals.take(slot, wanted, info, batch))
        })?;
        if let Some(arrivals) = arrivals {
            records = std::mem::take(&mut arrivals.records);
            self.counters.add_late(std::mem::take(&mut arrivals.late));
            let window = self.window.expect("the run has begun");
            for (due_ns, count) in arrivals.due.drain(..) {
                book.latencies(Kind::EndToEnd, window.moment(due_ns), now, count);
            }
            book.done(Kind::EndToEnd, records, bytes, now);
        } else if records > 0 {
            book.done(Kind::Fetch, records, bytes, now);
            if let Some(asked) = self.asked {
                book.latency(Kind::Fetch, asked, now);
            }
        }
        if let Some(positions) = &self.positions {
            let mut positions = positions.lock().expect("nothing panics while it is held");
            positions.extend(self.fetcher.positions());
        }
        self.look_whether_caught_up(now);
        Ok(())
    }

    fn look_whether_caught_up(&mut self, now: Instant) {
        let Some((_, fanout)) = self.backlog else {
            return;
        };
        let kind = match self.arrivals {
            Some(_) => Kind::EndToEnd,
            None => Kind::Fetch,
        };
        let sent = self.counters.sample(Kind::Produce).records * fanout;
        // What comes in meanwhile is always a little ahead.
        if self.counters.sample(kind).records >= sent - sent / CAUGHT_UP_SHARE {
            self.counters.catching_up(true, now);
            self.backlog = None;
        }
    }
}

/// What came: how many, due when, and whether in order.
struct Arrivals {
    run: u64,
    /// The next sequence number by slot and producer.
    next: HashMap<(usize, u16), u64>,
    records: u64,
    late: u64,
    /// Due times, and of how many records in a row.
    due: Vec<(u64, u64)>,
}

impl Arrivals {
    fn new(run: u64) -> Self {
        Self {
            run,
            next: HashMap::new(),
            records: 0,
            late: 0,
            due: Vec::new(),
        }
    }

    fn take(
        &mut self,
        slot: usize,
        wanted: i64,
        info: &BatchInfo,
        batch: &[u8],
    ) -> Result<(), String> {
        let mut damaged = None;
        walk::values(info, batch, |offset, value| match Stamp::read(value) {
            _ if offset < wanted => {}
            Reading::Stamp(stamp) if stamp.run != self.run => {}
            Reading::Stamp(stamp) if stamp.partition == slot as i32 => self.note(slot, &stamp),
            Reading::Foreign => {}
            Reading::Stamp(_) | Reading::Damaged => damaged = damaged.or(Some(offset)),
        })?;
        damaged.map_or(Ok(()), |offset| {
            Err(format!(
                "the record at offset {offset} is not what was sent"
            ))
        })
    }

    fn note(&mut self, slot: usize, stamp: &Stamp) {
        self.records += 1;
        let next = self.next.entry((slot, stamp.producer)).or_default();
        if stamp.sequence < *next {
            self.late += 1;
        }
        *next = (*next).max(stamp.sequence + 1);
        match self.due.last_mut() {
            Some((due, count)) if *due == stamp.intended_ns => *count += 1,
            _ => self.due.push((stamp.intended_ns, 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use millrace::record::{BatchBuilder, Codec, parse};

    use super::*;

    const RUN: u64 = 77;

    fn batch(slot: i32, sequences: &[u64]) -> Bytes {
        let mut builder = BatchBuilder::new(Codec::None, 0);
        for &sequence in sequences {
            let mut value = vec![5; 60];
            let stamp = Stamp {
                run: RUN,
                producer: 1,
                partition: slot,
                sequence,
                intended_ns: 1000 + sequence / 2,
            };
            stamp.seal(&mut value);
            builder.push(0, None, Some(&value), &[]);
        }
        builder.build()
    }

    fn take(arrivals: &mut Arrivals, wanted: i64, batch: &Bytes) -> Result<(), String> {
        arrivals.take(3, wanted, &parse(batch).unwrap(), batch)
    }

    #[test]
    fn arrivals_are_counted_with_their_due_times() {
        let mut arrivals = Arrivals::new(RUN);
        take(&mut arrivals, 0, &batch(3, &[0, 1, 2])).unwrap();
        assert_eq!((arrivals.records, arrivals.late), (3, 0));
        assert_eq!(arrivals.due, [(1000, 2), (1001, 1)]);
        // Of a batch that begins before what is wanted only the rest counts.
        take(&mut arrivals, 2, &batch(3, &[3, 4, 5])).unwrap();
        assert_eq!((arrivals.records, arrivals.late), (4, 0));
    }

    #[test]
    fn repeats_and_disorder_are_seen() {
        let mut arrivals = Arrivals::new(RUN);
        take(&mut arrivals, 0, &batch(3, &[0, 2, 1, 2])).unwrap();
        assert_eq!((arrivals.records, arrivals.late), (4, 2));
    }

    #[test]
    fn others_do_not_count_and_damage_is_an_error() {
        let mut arrivals = Arrivals::new(RUN + 1);
        take(&mut arrivals, 0, &batch(3, &[0])).unwrap();
        assert_eq!(arrivals.records, 0);
        let mut arrivals = Arrivals::new(RUN);
        assert!(take(&mut arrivals, 0, &batch(4, &[0])).is_err());
        let mut bad = batch(3, &[0]).to_vec();
        let last = bad.len() - 2;
        bad[last] ^= 1;
        assert!(take(&mut arrivals, 0, &bad.into()).is_err());
    }
}
