//! A coordinator with its log, and partitions that get markers: what the tests drive.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::state::{TxnPartition, TxnVersion};
use super::{
    EndTxn, InitTxn, MarkersToSend, NeedsId, TxnConfig, TxnCoordinator, TxnEffect, TxnProducer,
};
use crate::base::coordinating::Record;
use crate::base::{ErrorCode, Mono, Name, Now, name};

pub const CONFIG: TxnConfig = TxnConfig {
    max_timeout_ms: 900_000,
    id_expiration_ms: 7 * 86_400_000,
    retry_ms: 100,
    version: TxnVersion::V0,
};

/// See the module.
pub struct World {
    pub now: Now,
    pub coordinator: TxnCoordinator,
    /// What is committed.
    pub log: Vec<Record>,
    pub appends: VecDeque<(u64, Arc<[Record]>)>,
    /// Whether the last one of them ends a transaction.
    pub ends: bool,
    pub markers: VecDeque<MarkersToSend>,
    /// What was answered to those that ask as whom they go on.
    pub producers: BTreeMap<u64, Result<TxnProducer, ErrorCode>>,
    pub done: BTreeMap<u64, ErrorCode>,
    pub fresh: i64,
    /// Who waits for producer ids, if there are none.
    pub without_id: Option<Vec<NeedsId>>,
    pub tokens: u64,
    pub version: TxnVersion,
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
            ends: false,
            markers: VecDeque::new(),
            producers: BTreeMap::new(),
            done: BTreeMap::new(),
            fresh: 1000,
            without_id: None,
            tokens: 0,
            version: CONFIG.version,
        }
    }

    pub fn take(&mut self, effects: Vec<TxnEffect>) {
        for effect in effects {
            match effect {
                TxnEffect::Append {
                    append,
                    records,
                    ends,
                } => {
                    self.appends.push_back((append, records));
                    self.ends = ends;
                }
                TxnEffect::Producer(token, result) => {
                    assert_eq!(self.producers.insert(token, result), None, "one answer");
                }
                TxnEffect::NeedsProducerId(needs) => match &mut self.without_id {
                    Some(waiting) => waiting.push(needs),
                    None => self.give_id(needs),
                },
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

    pub fn give_id(&mut self, needs: NeedsId) {
        self.fresh += 1;
        let fresh = self.fresh;
        self.act(|it, now, out| it.got_id(now, needs, Ok(fresh), out));
    }

    /// Producer ids are to be had, or are not.
    pub fn let_ids(&mut self, are_there: bool) {
        if !are_there {
            self.without_id.get_or_insert_default();
            return;
        }
        for needs in self.without_id.take().unwrap_or_default() {
            self.give_id(needs);
        }
    }

    /// The cluster's version of transactions is this, whoever leads.
    pub fn set_version(&mut self, version: TxnVersion) {
        self.version = version;
        self.coordinator.set_version(version);
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
        let (token, id) = (self.token(), name(id));
        let more = (partitions.to_vec(), self.version);
        self.act(|it, now, out| it.add_partitions(now, token, (&id, producer), more, out));
        token
    }

    pub fn end(&mut self, id: &str, producer: TxnProducer, commits: bool) -> u64 {
        self.end_by(id, producer, commits, TxnVersion::V0)
    }

    /// By a client of this version.
    pub fn end_by(
        &mut self,
        id: &str,
        producer: TxnProducer,
        commits: bool,
        version: TxnVersion,
    ) -> u64 {
        let token = self.token();
        let request = EndTxn {
            id: name(id),
            producer,
            commits,
            version,
            fresh: None,
        };
        self.act(|it, now, out| it.end(now, token, request, out));
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
        self.without_id = self.without_id.take().map(|_| Vec::new());
        self.coordinator = TxnCoordinator::new(CONFIG);
        self.coordinator.set_version(self.version);
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
