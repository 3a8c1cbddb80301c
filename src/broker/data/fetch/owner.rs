//! Fetch at the shard that owns the partitions: reads are planned, and if there is too little, the logs are watched.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::base::limits::PARTITIONS_PER_SLICE;
use crate::base::{ErrorCode, IdMap, LogId, Mono, ShardId};
use crate::broker::fx::Fx;
use crate::broker::io::ReadId;
use crate::broker::msg::{FetchPart, FetchPass, FetchPlanned, FetchedPart, Msg, ReqRef, Watch};
use crate::broker::owner::work::Worker;
use crate::broker::owner::{Owner, Watched};
use crate::broker::trace::FetchStamps;
use crate::log::{ReadOutcome, Ticket};
use crate::store::DiskError;

/// The part of a fetch that one shard plans.
#[derive(Debug)]
pub struct FetchJob {
    req: ReqRef,
    pass: FetchPass,
    todo: std::vec::IntoIter<FetchPart>,
    current: Option<FetchPart>,
    logs: Vec<LogId>,
    done: Vec<FetchedPart>,
    bytes: usize,
    /// The logs are watched already.
    watching: bool,
    failed: bool,
    arrived: Mono,
}

impl FetchJob {
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
#[derive(Debug, Default)]
pub struct Plans {
    /// Those that wait, by their request.
    waiting: IdMap<ReqRef, FetchJob>,
    /// Those that have had their slice; some may be forgotten.
    put_off: VecDeque<ReqRef>,
    /// Those that have to read to find their place, by the read; some may be forgotten.
    reading: IdMap<u64, (ReqRef, LogId, Ticket)>,
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
            watching: false,
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
        let Some((req, log, ticket)) = self.reading.remove(&id.0) else {
            return;
        };
        let Some(mut job) = self.waiting.remove(&req) else {
            return;
        };
        match result {
            Ok(bytes) => owner.scanned(log, ticket, &bytes),
            Err(_) => job.fail(ErrorCode::KafkaStorageError),
        }
        self.run(owner, job, fx);
    }

    /// Goes on with a fetch until it is planned or has to read to find its place.
    fn run(&mut self, owner: &mut Owner, mut job: FetchJob, fx: &mut Fx<'_>) {
        for planned in 0.. {
            if planned == PARTITIONS_PER_SLICE && job.todo.len() > 0 {
                watch(owner, &mut job);
                self.put_off.push_back(job.req);
                self.waiting.insert(job.req, job);
                return owner.work.put_off(Worker::Fetch);
            }
            let Some(part) = job.current.take().or_else(|| job.todo.next()) else {
                break;
            };
            job.current = Some(part);
            let missing = owner.missing(part.log);
            let Some(partition) = owner.partitions.get_mut(&part.log) else {
                job.fail(missing);
                continue;
            };
            if partition.leader.is_none() {
                job.fail(ErrorCode::NotLeaderOrFollower);
                continue;
            }
            let room = job.pass.bytes_max.saturating_sub(job.bytes);
            let bytes_max = part.bytes_max.min(room);
            let store = &owner.slots[partition.slot].store;
            let oversized = match job.pass.oversized {
                None => job.bytes == 0,
                Some(slot) => slot == part.slot,
            };
            let (log, committed) = (&mut partition.log, job.pass.committed);
            let outcome = match committed {
                true => log.read_stable(store, part.offset, bytes_max, oversized),
                false => log.read(store, part.offset, bytes_max, oversized),
            };
            match outcome {
                Ok(ReadOutcome::Plan {
                    pieces,
                    bytes,
                    first_bytes_max,
                    withheld,
                    before,
                    ..
                }) => {
                    job.current = None;
                    let aborted = committed.then(|| match bytes {
                        0 => Vec::new(),
                        _ => log.aborted_between(part.offset, before),
                    });
                    job.bytes += bytes;
                    job.done.push(FetchedPart {
                        slot: part.slot,
                        error: ErrorCode::None,
                        high_watermark: log.high_watermark().0,
                        last_stable: log.last_stable().0,
                        log_start: log.start_offset().0,
                        aborted,
                        pieces,
                        bytes,
                        first_bytes_max,
                        withheld,
                    });
                }
                Ok(ReadOutcome::Scan { pieces, ticket }) => {
                    // What becomes visible during the read, of partitions that are planned already, counts.
                    watch(owner, &mut job);
                    let read = owner.work.read(Worker::Fetch, pieces, fx);
                    self.reading.insert(read.0, (job.req, part.log, ticket));
                    self.waiting.insert(job.req, job);
                    return;
                }
                Err(error) => job.fail(error),
            }
        }
        let (Watch::Until(wanted) | Watch::Count(wanted)) = job.pass.watch else {
            return planned(job, None, fx);
        };
        let missing = wanted.saturating_sub(job.bytes as u64);
        let watches = !job.failed && missing > 0;
        if !watches {
            owner.watches.cancel(job.req);
            return planned(job, None, fx);
        }
        match job.pass.watch {
            Watch::Until(_) if job.watching => owner.watches.want(job.req, missing),
            Watch::Until(_) => {
                let logs = std::mem::take(&mut job.logs);
                let watched = watched(job.pass.committed, logs);
                owner.watches.add(job.req, missing, watched);
            }
            Watch::Count(_) | Watch::No => watch(owner, &mut job),
        }
        planned(job, Some(owner.me), fx);
    }
}

/// Begins to count what becomes visible for a fetch.
fn watch(owner: &mut Owner, job: &mut FetchJob) {
    if job.pass.watch != Watch::No && !job.watching {
        job.watching = true;
        let logs = std::mem::take(&mut job.logs);
        let watched = watched(job.pass.committed, logs);
        owner.watches.count(job.req, watched);
    }
}

/// What is watched of some logs.
fn watched(committed: bool, logs: Vec<LogId>) -> impl Iterator<Item = Watched> {
    let of = if committed {
        Watched::Stable
    } else {
        Watched::Readable
    };
    logs.into_iter().map(of)
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
