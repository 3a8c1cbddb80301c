//! A coordinator with its log, and partitions that get markers: what the tests drive.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::state::TxnPartition;
use super::{InitTxn, MarkersToSend, TxnConfig, TxnCoordinator, TxnEffect, TxnProducer};
use crate::base::coordinating::Record;
use crate::base::{ErrorCode, Mono, Name, Now, name};

pub const CONFIG: TxnConfig = TxnConfig {
    max_timeout_ms: 900_000,
    id_expiration_ms: 7 * 86_400_000,
    retry_ms: 100,
};

/// See the module.
pub struct World {
    pub now: Now,
    pub coordinator: TxnCoordinator,
    /// What is committed.
    pub log: Vec<Record>,
    pub appends: VecDeque<(u64, Arc<[Record]>)>,
    pub markers: VecDeque<MarkersToSend>,
    pub inited: BTreeMap<u64, Result<TxnProducer, ErrorCode>>,
    pub done: BTreeMap<u64, ErrorCode>,
    pub fresh: i64,
    pub tokens: u64,
}

impl World {
    pub fn new() -> Self {
        Self {
            now: Now {
                mono: Mono(1_000_000),
                wall_ms: 1_000_000,
            },
            coordinator: TxnCoordinator::new(CONFIG),
            log: Vec::new(),
            appends: VecDeque::new(),
            markers: VecDeque::new(),
            inited: BTreeMap::new(),
            done: BTreeMap::new(),
            fresh: 1000,
            tokens: 0,
        }
    }

    pub fn take(&mut self, effects: Vec<TxnEffect>) {
        for effect in effects {
            match effect {
                TxnEffect::Append { append, records } => self.appends.push_back((append, records)),
                TxnEffect::Inited(token, result) => {
                    assert_eq!(self.inited.insert(token, result), None, "one answer");
                }
                TxnEffect::NeedsProducerId(token, mut request) => {
                    self.fresh += 1;
                    request.fresh = Some(self.fresh);
                    self.act(|it, now, out| it.init(now, token, request, out));
                }
                TxnEffect::Done(token, error) => {
                    assert_eq!(self.done.insert(token, error), None, "one answer");
                }
                TxnEffect::Markers(markers) => self.markers.push_back(markers),
            }
        }
        self.coordinator.invariants();
    }

    pub fn act(&mut self, act: impl FnOnce(&mut TxnCoordinator, Now, &mut Vec<TxnEffect>)) {
        let mut out = Vec::new();
        act(&mut self.coordinator, self.now, &mut out);
        self.take(out);
    }

    pub fn token(&mut self) -> u64 {
        self.tokens += 1;
        self.tokens
    }

    pub fn init(&mut self, id: &str, timeout_ms: i32, expected: Option<TxnProducer>) -> u64 {
        let token = self.token();
        let request = InitTxn {
            id: name(id),
            timeout_ms,
            expected,
            fresh: None,
        };
        self.act(|it, now, out| it.init(now, token, request, out));
        token
    }

    pub fn add(&mut self, id: &str, producer: TxnProducer, partitions: &[TxnPartition]) -> u64 {
        let (token, id, partitions) = (self.token(), name(id), partitions.to_vec());
        self.act(|it, now, out| it.add_partitions(now, token, (&id, producer), partitions, out));
        token
    }

    pub fn end(&mut self, id: &str, producer: TxnProducer, commits: bool) -> u64 {
        let (token, id) = (self.token(), name(id));
        self.act(|it, now, out| it.end(now, token, (&id, producer), commits, out));
        token
    }

    /// The oldest append is committed.
    pub fn commit(&mut self) -> bool {
        let Some((append, records)) = self.appends.pop_front() else {
            return false;
        };
        self.log.extend(records.iter().cloned());
        self.act(|it, now, out| it.appended(now, append, Ok(()), out));
        true
    }

    /// The oldest append is refused.
    pub fn refuse(&mut self, error: ErrorCode) {
        if let Some((append, _)) = self.appends.pop_front() {
            self.act(|it, now, out| it.appended(now, append, Err(error), out));
        }
    }

    /// All appends are committed, and what follows.
    pub fn commit_all(&mut self) {
        while self.commit() {}
    }

    /// The oldest markers are written, as this says of each.
    pub fn mark(&mut self, of: impl Fn(&TxnPartition) -> ErrorCode) -> Option<MarkersToSend> {
        let markers = self.markers.pop_front()?;
        let results = markers.partitions.iter();
        let results: Vec<_> = results.map(|it| (it.clone(), of(it))).collect();
        let place = (&markers.id, markers.round);
        self.act(|it, now, out| it.marked(now, place, results, out));
        Some(markers)
    }

    pub fn advance(&mut self, ms: u64) {
        self.now.mono = self.now.mono.plus_ms(ms);
        self.now.wall_ms += ms as i64;
        while self.coordinator.next_deadline() <= self.now.mono {
            self.act(|it, now, out| it.tick(now, &mut 7, out));
        }
    }

    /// Another one leads, which finds so many of the appends on their way in the log.
    pub fn restart(&mut self, found: usize) {
        let found = found.min(self.appends.len());
        for (_, records) in self.appends.drain(..found) {
            self.log.extend(records.iter().cloned());
        }
        self.appends.clear();
        self.markers.clear();
        self.coordinator = TxnCoordinator::new(CONFIG);
        for (key, value) in &self.log {
            self.coordinator.replay(key, value.as_deref()).unwrap();
        }
        self.coordinator.invariants();
        self.advance(0);
    }
}

pub fn partition(topic: &str, index: i32) -> (Name, i32) {
    (name(topic), index)
}
