//! What the owner of partitions notes of a request on its way, for the request's walk.

use super::stage::Stage;
use super::units::{Units, elapsed, ns};
use crate::base::Mono;
use crate::store::FlushSeq;

/// How a produce passed the owner of its partitions: when it was taken up, and how long it then
/// was appended, waited for its flush, was written, synced, and waited for the watermark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProduceStamps {
    pub(super) arrived: Mono,
    pub(super) spent: [Units; 5],
}

impl ProduceStamps {
    pub(super) const STAGES: [Stage; 5] = [
        Stage::Append,
        Stage::FlushWait,
        Stage::Write,
        Stage::Sync,
        Stage::Watermark,
    ];

    /// Taken up at `at`.
    pub fn arrived(at: Mono) -> Self {
        Self {
            arrived: at,
            spent: [0; 5],
        }
    }

    /// Appended at `at`.
    pub fn appended(&mut self, at: Mono) {
        let mut last = self.arrived;
        self.spent[0] = elapsed(&mut last, at);
    }

    /// Durable at `at`, with this flush.
    pub fn durable(&mut self, flush: &FlushStamps, at: Mono) {
        let mut last = Mono(self.arrived.0 + ns(self.spent[0]));
        for (spent, at) in
            self.spent[1..]
                .iter_mut()
                .zip([flush.started, flush.written, flush.synced, at])
        {
            *spent = elapsed(&mut last, at);
        }
    }
}

/// When a fetch passed the owner of its partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FetchStamps {
    /// Taken up.
    pub arrived: Mono,
    /// The reads are planned.
    pub planned: Mono,
}

/// The stations of one flush.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlushStamps {
    /// Which flush.
    pub seq: FlushSeq,
    /// It was closed and is being built.
    pub started: Mono,
    /// Its writes have completed; the sync begins.
    pub written: Mono,
    /// Its sync has completed.
    pub synced: Mono,
}
