//! Reads of the store files that somebody waits for, and the queries that wait until there is memory for theirs.
//!
//! A read is counted until it has ended, whether or not anybody still wants it. Those that wait have nothing but
//! their ticket, so they neither hold bytes nor keep a part of the file from being used anew.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::base::limits::{LOAD_BYTES_MIN, QUERY_READS_BYTES_MAX};
use crate::base::{ErrorCode, IdMap, LogId, Now, Offset, ShardId};
use crate::broker::data::fetch::front::FetchJob;
use crate::broker::data::query::front::QueryJob;
use crate::broker::fx::Fx;
use crate::broker::io::{Output, ReadId};
use crate::broker::owner::{Later, Owner};
use crate::log::{ReadOutcome, Ticket};
use crate::store::{DiskError, Piece};

/// What goes on when a read has ended.
#[derive(Debug)]
pub enum ReadJob {
    Fetch(FetchJob, LogId, Ticket),
    Query(QueryJob, LogId, Ticket),
    LoadScan(LogId, Ticket, Offset),
    Load(LogId),
    /// Nobody waits for it any more; it was for a query, and of so many bytes.
    Forgotten(usize),
}

impl ReadJob {
    /// What it takes of the memory for queries.
    fn cost(&self) -> usize {
        match self {
            Self::Query(.., ticket) => cost(ticket),
            Self::Forgotten(cost) => *cost,
            Self::Fetch(..) | Self::LoadScan(..) | Self::Load(..) => 0,
        }
    }
}

fn cost(ticket: &Ticket) -> usize {
    ticket.bytes().max(LOAD_BYTES_MIN)
}

/// See the module.
#[derive(Debug, Default)]
pub struct Reads {
    started: u64,
    on_their_way: IdMap<u64, ReadJob>,
    /// What those of queries take.
    taken: usize,
    /// In turn; if any, there is a query's read on its way.
    waiting: VecDeque<(QueryJob, LogId, Ticket)>,
}

impl Reads {
    /// A read is started for this.
    pub fn start(&mut self, job: ReadJob) -> ReadId {
        self.taken += job.cost();
        self.started += 1;
        self.on_their_way.insert(self.started, job);
        ReadId(self.started)
    }

    /// A read has ended: who waited for it.
    pub fn ended(&mut self, id: ReadId) -> Option<ReadJob> {
        let job = self.on_their_way.remove(&id.0)?;
        self.taken -= job.cost();
        Some(job)
    }

    /// Whether a query may read now.
    pub fn may_start(&self, ticket: &Ticket) -> bool {
        self.waiting.is_empty() && self.has_room(ticket)
    }

    fn has_room(&self, ticket: &Ticket) -> bool {
        self.taken == 0 || self.taken + cost(ticket) <= QUERY_READS_BYTES_MAX
    }

    /// A query that may not.
    pub fn wait(&mut self, job: QueryJob, log: LogId, ticket: Ticket) {
        self.waiting.push_back((job, log, ticket));
    }

    /// The next query that may read now, to be asked for until there is none when a read has ended.
    pub fn next(&mut self) -> Option<(QueryJob, LogId, Ticket)> {
        let (.., ticket) = self.waiting.front()?;
        if !self.has_room(ticket) {
            return None;
        }
        self.waiting.pop_front()
    }

    /// Takes out all that wait.
    pub fn take_waiting(&mut self) -> impl Iterator<Item = QueryJob> {
        std::mem::take(&mut self.waiting)
            .into_iter()
            .map(|(job, ..)| job)
    }

    /// Forgets queries of a shard, by their numbers in order.
    pub fn forget(&mut self, shard: ShardId, ids: &[u64]) {
        self.waiting.retain(|(job, ..)| !job.is_of(shard, ids));
        for read in self.on_their_way.values_mut() {
            if matches!(read, ReadJob::Query(job, ..) if job.is_of(shard, ids)) {
                *read = ReadJob::Forgotten(read.cost());
            }
        }
    }
}

impl Owner {
    fn start_read(&mut self, pieces: Vec<Piece>, job: ReadJob, fx: &mut Fx<'_>) {
        let id = self.reads.start(job);
        fx.out.push(Output::Read { id, pieces });
    }

    /// Reads on for a fetch that cannot go on without bytes from the file.
    pub fn scan_for_fetch(
        &mut self,
        pieces: Vec<Piece>,
        job: FetchJob,
        log: LogId,
        ticket: Ticket,
        fx: &mut Fx<'_>,
    ) {
        self.start_read(pieces, ReadJob::Fetch(job, log, ticket), fx);
    }

    /// The same for a query, once there is memory for it.
    pub fn scan_for_query(
        &mut self,
        pieces: Vec<Piece>,
        job: QueryJob,
        log: LogId,
        ticket: Ticket,
        fx: &mut Fx<'_>,
    ) {
        if self.reads.may_start(&ticket) {
            self.start_read(pieces, ReadJob::Query(job, log, ticket), fx);
        } else {
            self.reads.wait(job, log, ticket);
        }
    }

    /// Reads for queries that have waited until there is memory for it.
    fn read_for_waiting(&mut self, fx: &mut Fx<'_>) {
        while let Some((job, log, ticket)) = self.reads.next() {
            let pieces = self.partitions.get(&log).and_then(|partition| {
                let store = &self.slots[partition.slot].store;
                partition.log.pieces_of(store, &ticket)
            });
            match pieces {
                Some(pieces) => self.start_read(pieces, ReadJob::Query(job, log, ticket), fx),
                // It is gone meanwhile: asking again will tell.
                None => self.go_on_later(Later::Query(job)),
            }
        }
    }

    /// A read of the store file ended: go on with what waited for it.
    pub fn on_read(
        &mut self,
        now: Now,
        id: ReadId,
        result: Result<Bytes, DiskError>,
        fx: &mut Fx<'_>,
    ) {
        let Some(job) = self.reads.ended(id) else {
            return;
        };
        match job {
            ReadJob::Forgotten(_) => {}
            ReadJob::Fetch(mut job, log, ticket) => {
                match result {
                    Ok(bytes) => self.scanned(log, ticket, &bytes),
                    Err(_) => job.fail(ErrorCode::KafkaStorageError),
                }
                self.run_fetch(job, fx);
            }
            ReadJob::Query(mut job, log, ticket) => {
                match result {
                    Ok(bytes) => self.scanned(log, ticket, &bytes),
                    Err(_) => job.fail(ErrorCode::KafkaStorageError),
                }
                self.run_query(now, job, fx);
            }
            ReadJob::LoadScan(log, ticket, offset) => match result {
                Ok(bytes) => {
                    self.scanned(log, ticket, &bytes);
                    self.load(log, offset, fx);
                }
                Err(error) => self.loaded.push_back((log, Err(error))),
            },
            ReadJob::Load(log) => self.loaded.push_back((log, result)),
        }
        self.read_for_waiting(fx);
    }

    fn scanned(&mut self, log: LogId, ticket: Ticket, bytes: &[u8]) {
        if let Some(partition) = self.partitions.get_mut(&log) {
            // What cannot be understood is reported by the read that follows.
            let _ = partition.log.scanned(ticket, bytes);
        }
    }

    /// Reads the next part of a log from `offset` into memory; it comes back through
    /// [`Owner::loaded`], empty at the high watermark. For the control shard's own topics.
    pub fn load(&mut self, log: LogId, offset: Offset, fx: &mut Fx<'_>) {
        /// Large enough that a start is few reads, small enough to be no burden.
        const LOAD_BYTES: usize = 1 << 20;
        /// What Linux says of blocks whose checksum is wrong.
        const EBADMSG: i32 = 74;
        let Some(partition) = self.partitions.get_mut(&log) else {
            self.loaded.push_back((log, Ok(Bytes::new())));
            return;
        };
        let store = &self.slots[partition.slot].store;
        match partition.log.read(store, offset, LOAD_BYTES, true) {
            Ok(ReadOutcome::Plan { pieces, .. }) => {
                if let Some(bytes) = in_memory(&pieces) {
                    self.loaded.push_back((log, Ok(bytes)));
                } else {
                    self.start_read(pieces, ReadJob::Load(log), fx);
                }
            }
            Ok(ReadOutcome::Scan { pieces, ticket }) => {
                self.start_read(pieces, ReadJob::LoadScan(log, ticket, offset), fx);
            }
            // Dropped meanwhile: the next read begins where the log does.
            Err(ErrorCode::OffsetOutOfRange) => self.loaded.push_back((log, Ok(Bytes::new()))),
            // An end here would forget all that comes after it.
            Err(_) => {
                let error = DiskError { errno: EBADMSG };
                self.loaded.push_back((log, Err(error)));
            }
        }
    }
}

fn in_memory(pieces: &[Piece]) -> Option<Bytes> {
    match pieces {
        [] => Some(Bytes::new()),
        [Piece::Memory(bytes)] => Some(bytes.clone()),
        many => {
            let mut joined = Vec::with_capacity(many.iter().map(Piece::len).sum());
            for piece in many {
                match piece {
                    Piece::Memory(bytes) => joined.extend_from_slice(bytes),
                    Piece::File { .. } => return None,
                }
            }
            Some(joined.into())
        }
    }
}
