//! Fetch at the shard that owns the partitions: reads are planned, and if there is too little, the logs are watched.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::base::limits::{
    ABORTED_PER_PARTITION_PLANNED, FETCH_PIECES_MAX, FETCH_READS_BYTES_MAX, PARTITIONS_PER_SLICE,
};
use crate::base::{ErrorCode, IdMap, LogId, Mono, ShardId};
use crate::broker::data::reads::{Reading, Reads};
use crate::broker::front::check_epoch;
use crate::broker::fx::Fx;
use crate::broker::io::ReadId;
use crate::broker::msg::{FetchPart, FetchPass, FetchPlanned, FetchedPart, Msg, ReqRef, Watch};
use crate::broker::owner::work::Worker;
use crate::broker::owner::{Owner, Watched};
use crate::broker::trace::FetchStamps;
use crate::log::{ReadOutcome, Ticket};
use crate::store::{DiskError, Piece};

/// The part of a fetch that one shard plans.
#[derive(Debug)]
pub struct FetchJob {
    req: ReqRef,
    pass: FetchPass,
    todo: std::vec::IntoIter<FetchPart>,
    current: Option<FetchPart>,
    logs: Vec<LogId>,
    /// How many of them are watched already.
    watched: usize,
    done: Vec<FetchedPart>,
    bytes: usize,
    /// What they [count](FetchedPart::counts).
    counted: u64,
    /// What the lists of aborted transactions take.
    aborted_bytes: usize,
    pieces: usize,
    failed: bool,
    arrived: Mono,
}

/// How many pieces are planned and sent, how many bytes in memory gone through, and how many aborted transactions
/// told, in the time that a partition takes.
const PIECES_PER_WORK: usize = 16;
const BYTES_PER_WORK: usize = 4096;
const ABORTED_PER_WORK: usize = 256;
/// Bytes of a response for each aborted transaction.
const ABORTED_BYTES: usize = 16;

impl FetchJob {
    /// Bytes that further partitions may have. The first one that has records is told of all that was aborted.
    fn room(&self) -> usize {
        match self.pieces < FETCH_PIECES_MAX {
            true => (self.pass.bytes_max).saturating_sub(self.bytes + self.aborted_bytes),
            false => 0,
        }
    }

    /// Whether the first batch of this partition is wanted whatever its size.
    fn may_be_oversized(&self, slot: u32) -> bool {
        match self.pass.oversized {
            None => self.bytes == 0,
            Some(oversized) => oversized == slot,
        }
    }

    /// Takes what was found in a partition, for which so many bytes in memory were gone through. What it took, in
    /// partitions.
    fn take(&mut self, found: FetchedPart, looked_at: usize) -> usize {
        let told = found.aborted.as_ref().map_or(0, Vec::len);
        let pieces = found.pieces.len();
        self.bytes += found.bytes;
        self.counted += found.counts;
        self.aborted_bytes += told * ABORTED_BYTES;
        self.pieces += pieces;
        self.done.push(found);
        pieces / PIECES_PER_WORK + looked_at / BYTES_PER_WORK + told / ABORTED_PER_WORK
    }

    /// The partition at hand cannot be read.
    pub fn fail(&mut self, error: ErrorCode) {
        if let Some(part) = self.current.take() {
            self.failed = true;
            self.done.push(FetchedPart {
                slot: part.slot,
                error,
                high_watermark: -1,
                last_stable: -1,
                log_start: -1,
                ..Default::default()
            });
        }
    }
}

/// The fetches that a shard plans for.
#[derive(Debug)]
pub struct Plans {
    /// Those that wait, by their request.
    waiting: IdMap<ReqRef, FetchJob>,
    /// Those that have had their slice; some may be forgotten.
    put_off: VecDeque<ReqRef>,
    /// Those that have to read to find their place; some may be forgotten.
    reads: Reads<ReqRef>,
}

impl Default for Plans {
    fn default() -> Self {
        Self {
            waiting: IdMap::default(),
            put_off: VecDeque::new(),
            reads: Reads::new(FETCH_READS_BYTES_MAX),
        }
    }
}

impl Plans {
    /// Plans reads for a fetch.
    pub fn begin(
        &mut self,
        owner: &mut Owner,
        req: ReqRef,
        pass: FetchPass,
        parts: Vec<FetchPart>,
        fx: &mut Fx<'_>,
    ) {
        owner.watches.cancel(req);
        let job = FetchJob {
            req,
            pass,
            arrived: fx.now.mono,
            logs: parts.iter().map(|part| part.log).collect(),
            done: Vec::with_capacity(parts.len()),
            todo: parts.into_iter(),
            current: None,
            bytes: 0,
            counted: 0,
            aborted_bytes: 0,
            pieces: 0,
            watched: 0,
            failed: false,
        };
        self.run(owner, job, fx);
    }

    /// Goes on with one that was put off.
    pub fn go_on(&mut self, owner: &mut Owner, fx: &mut Fx<'_>) {
        while let Some(req) = self.put_off.pop_front() {
            if let Some(job) = self.waiting.remove(&req) {
                return self.run(owner, job, fx);
            }
        }
    }

    /// Nobody waits for the plan of a request any more.
    pub fn forget(&mut self, owner: &mut Owner, req: ReqRef) {
        owner.watches.cancel(req);
        self.waiting.remove(&req);
    }

    /// Goes on with one whose read has ended.
    pub fn read(
        &mut self,
        owner: &mut Owner,
        id: ReadId,
        result: Result<Bytes, DiskError>,
        fx: &mut Fx<'_>,
    ) {
        if let Some((req, log, ticket)) = self.reads.ended(id)
            && let Some(mut job) = self.waiting.remove(&req)
        {
            match result {
                Ok(bytes) => owner.scanned(log, ticket, &bytes),
                Err(_) => job.fail(ErrorCode::KafkaStorageError),
            }
            self.run(owner, job, fx);
        }
        while let Some((req, log, ticket)) = self.reads.next() {
            if !self.waiting.contains_key(&req) {
                continue;
            }
            match owner.pieces_of(log, &ticket) {
                Some(pieces) => self.start_read(owner, pieces, (req, log, ticket), fx),
                // It is gone meanwhile: asking again will tell.
                None => self.put_off(owner, req),
            }
        }
    }

    fn start_read(
        &mut self,
        owner: &mut Owner,
        pieces: Vec<Piece>,
        reading: Reading<ReqRef>,
        fx: &mut Fx<'_>,
    ) {
        let id = owner.work.read(Worker::Fetch, pieces, fx);
        self.reads.started(id, reading);
    }

    fn put_off(&mut self, owner: &mut Owner, req: ReqRef) {
        self.put_off.push_back(req);
        owner.work.put_off(Worker::Fetch);
    }

    /// Goes on with a fetch until it is planned or has to read to find its place.
    fn run(&mut self, owner: &mut Owner, mut job: FetchJob, fx: &mut Fx<'_>) {
        let mut work = 0;
        loop {
            if work >= PARTITIONS_PER_SLICE && job.todo.len() > 0 {
                watch(owner, &mut job);
                self.put_off(owner, job.req);
                self.waiting.insert(job.req, job);
                return;
            }
            let Some(part) = job.current.take().or_else(|| job.todo.next()) else {
                break;
            };
            job.current = Some(part);
            work += 1;
            match plan(owner, &mut job, part) {
                Ok(Step::Planned(more)) => {
                    job.current = None;
                    work += more;
                }
                Ok(Step::Scan(pieces, ticket)) => {
                    // What becomes visible during the read, of partitions that are planned already, counts.
                    watch(owner, &mut job);
                    let reading = (job.req, part.log, ticket);
                    self.waiting.insert(job.req, job);
                    if self.reads.may_start(&ticket) {
                        self.start_read(owner, pieces, reading, fx);
                    } else {
                        self.reads.wait(reading);
                    }
                    return;
                }
                Err(error) => job.fail(error),
            }
        }
        let (Watch::Until(wanted) | Watch::Count(wanted)) = job.pass.watch else {
            return planned(job, None, fx);
        };
        let missing = wanted.saturating_sub(job.counted);
        let watches = !job.failed && missing > 0;
        if !watches {
            owner.watches.cancel(job.req);
            return planned(job, None, fx);
        }
        match job.pass.watch {
            Watch::Until(_) if job.watched == 0 => {
                owner.watches.add(job.req, missing, watched(&mut job));
            }
            Watch::Until(_) => {
                watch(owner, &mut job);
                owner.watches.want(job.req, missing);
            }
            Watch::Count(_) | Watch::No => watch(owner, &mut job),
        }
        planned(job, Some(owner.me), fx);
    }
}

/// What comes of a partition of a fetch.
enum Step {
    /// It is planned, which took as much as so many others.
    Planned(usize),
    /// This is to be read to find its place.
    Scan(Vec<Piece>, Ticket),
}

/// Plans a partition of a fetch.
fn plan(owner: &mut Owner, job: &mut FetchJob, part: FetchPart) -> Result<Step, ErrorCode> {
    let missing = owner.missing(part.log);
    let partition = owner.partitions.get_mut(&part.log).ok_or(missing)?;
    // As in Kafka at each attempt: another may lead by now than the one that the front knew of.
    let leader = partition.leader.as_ref();
    let leader = leader.ok_or(ErrorCode::NotLeaderOrFollower)?;
    check_epoch(part.leader_epoch, leader.epoch())?;
    let (room, oversized) = (job.room(), job.may_be_oversized(part.slot));
    let bytes_max = part.bytes_max.min(room);
    let store = &owner.slots[partition.slot].store;
    let (log, committed) = (&mut partition.log, job.pass.committed);
    let outcome = match committed {
        true => log.read_stable(store, part.offset, bytes_max, oversized),
        false => log.read(store, part.offset, bytes_max, oversized),
    };
    match outcome? {
        ReadOutcome::Scan { pieces, ticket } => Ok(Step::Scan(pieces, ticket)),
        ReadOutcome::Plan {
            pieces,
            bytes,
            counts,
            first_bytes_max,
            withheld,
            before,
            looked_at,
            ..
        } => {
            let aborted = committed.then(|| match bytes {
                0 => Vec::new(),
                _ => log.aborted_between(part.offset, before),
            });
            // Where the request has no room for more there is nothing to be waited for.
            let counts = match withheld && room < part.bytes_max {
                true => ReadOutcome::ENOUGH,
                false => counts,
            };
            let found = FetchedPart {
                slot: part.slot,
                error: ErrorCode::None,
                high_watermark: log.high_watermark().0,
                last_stable: log.last_stable().0,
                log_start: log.start_offset().0,
                aborted,
                pieces,
                bytes,
                counts,
                first_bytes_max,
                withheld,
            };
            // Any of them may have to be looked at for that.
            let known = log.kept().aborted * usize::from(committed);
            let work = known / ABORTED_PER_PARTITION_PLANNED + job.take(found, looked_at);
            Ok(Step::Planned(work))
        }
    }
}

/// Begins to count what becomes visible for a fetch in the partitions that are planned and in the one at hand.
fn watch(owner: &mut Owner, job: &mut FetchJob) {
    if job.pass.watch != Watch::No {
        owner.watches.count(job.req, watched(job));
    }
}

/// What is to be watched of the partitions so far that are not watched yet.
fn watched(job: &mut FetchJob) -> impl Iterator<Item = Watched> {
    let of = if job.pass.committed {
        Watched::Stable
    } else {
        Watched::Readable
    };
    let planned = job.logs.len() - job.todo.len();
    let more = job.watched..planned;
    job.watched = planned;
    job.logs[more].iter().copied().map(of)
}

fn planned(job: FetchJob, watching: Option<ShardId>, fx: &mut Fx<'_>) {
    fx.send(
        job.req.shard,
        Msg::FetchDone {
            id: job.req.id,
            planned: FetchPlanned {
                round: job.pass.round,
                parts: job.done,
                watching,
                stamps: FetchStamps {
                    arrived: job.arrived,
                    planned: fx.now.mono,
                },
            },
        },
    );
}

#[cfg(test)]
mod tests;
