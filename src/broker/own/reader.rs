//! Reads the broker's own logs part by part, at a start.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::base::{ErrorCode, IdMap, LogId, Offset};
use crate::broker::fx::Fx;
use crate::broker::io::ReadId;
use crate::broker::owner::Owner;
use crate::broker::owner::work::Worker;
use crate::log::{ReadOutcome, Ticket};
use crate::store::{DiskError, Piece};

/// What is being read from the file.
#[derive(Debug)]
enum Reading {
    /// A part of a log.
    Part(LogId),
    /// What is needed to find where a part from this offset on lies.
    Place(LogId, Ticket, Offset),
}

/// See the module.
#[derive(Debug)]
pub struct LogReader {
    worker: Worker,
    reading: IdMap<u64, Reading>,
    parts: VecDeque<(LogId, Result<Bytes, DiskError>)>,
}

impl LogReader {
    /// One whose reads are this worker's.
    pub fn new(worker: Worker) -> Self {
        Self {
            worker,
            reading: IdMap::default(),
            parts: VecDeque::new(),
        }
    }

    /// The next part that was read.
    pub fn next(&mut self) -> Option<(LogId, Result<Bytes, DiskError>)> {
        self.parts.pop_front()
    }

    /// As if a part had been read.
    #[cfg(test)]
    pub fn push(&mut self, log: LogId, part: Result<Bytes, DiskError>) {
        self.parts.push_back((log, part));
    }

    /// Reads the next part of a log from `offset` into memory; it comes back through
    /// [`LogReader::next`], empty at the high watermark.
    pub fn load(&mut self, owner: &mut Owner, log: LogId, offset: Offset, fx: &mut Fx<'_>) {
        /// Large enough that a start is few reads, small enough to be no burden.
        const LOAD_BYTES: usize = 1 << 20;
        let Some(partition) = owner.partitions.get_mut(&log) else {
            self.parts.push_back((log, Ok(Bytes::new())));
            return;
        };
        let store = &owner.slots[partition.slot].store;
        match partition.log.read(store, offset, LOAD_BYTES, true) {
            Ok(ReadOutcome::Plan { pieces, .. }) => {
                if let Some(bytes) = in_memory(&pieces) {
                    self.parts.push_back((log, Ok(bytes)));
                } else {
                    self.read(owner, pieces, Reading::Part(log), fx);
                }
            }
            Ok(ReadOutcome::Scan { pieces, ticket }) => {
                self.read(owner, pieces, Reading::Place(log, ticket, offset), fx);
            }
            // Dropped meanwhile: the next read begins where the log does.
            Err(ErrorCode::OffsetOutOfRange) => self.parts.push_back((log, Ok(Bytes::new()))),
            // An end here would forget all that comes after it.
            Err(_) => {
                let errno = DiskError::EBADMSG;
                self.parts.push_back((log, Err(DiskError { errno })));
            }
        }
    }

    fn read(&mut self, owner: &mut Owner, pieces: Vec<Piece>, what: Reading, fx: &mut Fx<'_>) {
        let id = owner.work.read(self.worker, pieces, fx);
        self.reading.insert(id.0, what);
    }

    /// A read has ended.
    pub fn ended(
        &mut self,
        owner: &mut Owner,
        id: ReadId,
        result: Result<Bytes, DiskError>,
        fx: &mut Fx<'_>,
    ) {
        match (self.reading.remove(&id.0), result) {
            (Some(Reading::Part(log)), result) => self.parts.push_back((log, result)),
            (Some(Reading::Place(log, ticket, offset)), Ok(bytes)) => {
                owner.scanned(log, ticket, &bytes);
                self.load(owner, log, offset, fx);
            }
            (Some(Reading::Place(log, ..)), Err(error)) => self.parts.push_back((log, Err(error))),
            (None, _) => {}
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
