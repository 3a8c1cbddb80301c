//! The stores of a node that is being made: logs are put into them whole, by blocking writes. Nothing of it is durable
//! before [`NewStores::finish`], which is why nobody may take them for a node's before.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use millrace::base::{DirectoryId, IdMap, LeaderEpoch, LogId, Now, Offset, Rng, StoreId};
use millrace::config::BrokerConfig;
use millrace::log::recovery;
use millrace::log::{Log, LogConfig};
use millrace::runtime::disk::StoreFile;
use millrace::runtime::{blocks, hold, stores};
use millrace::store::{DiskOp, IoId, LogLabel, Store, StoreEvent};

use crate::failure::failed_at;

/// Bytes that are given to a store before they are written.
const PENDING_BYTES: usize = 4 << 20;
/// A store's file ends at a multiple of this, as the store expects of what is its own.
const REGION: u64 = 4 << 20;

/// See the module.
pub struct NewStores {
    set: u64,
    stores: Vec<NewStore>,
    next_log: u64,
    now: Now,
}

struct NewStore {
    path: PathBuf,
    file: StoreFile,
    store: Store,
    logs: IdMap<LogId, Log>,
}

/// A log that is being filled.
pub struct NewLog<'a> {
    to: &'a mut NewStore,
    id: LogId,
    now: Now,
    pending: usize,
    epoch: LeaderEpoch,
    is_new: bool,
    start: Offset,
}

/// Segments stay as they come, and nothing is too old or too much.
fn as_it_comes() -> LogConfig {
    LogConfig {
        segment_bytes: u64::MAX,
        segment_ms: i64::MAX,
        retention_ms: -1,
        retention_bytes: -1,
        ..LogConfig::default()
    }
}

impl NewStores {
    /// Makes so many stores in a directory, where there are none yet.
    pub fn make(
        directory: &Path,
        count: u16,
        config: &BrokerConfig,
        is_direct: bool,
        (now, seed): (Now, u64),
    ) -> Result<Self, String> {
        let mut rng = Rng::new(seed);
        let opened = stores::open(directory, is_direct, count, config, &mut rng);
        let (start, opened) = opened.map_err(|fatal| fatal.to_string())?;
        let new = |(id, opened): (u16, stores::Opened)| {
            let path = StoreFile::path(directory, StoreId(id));
            NewStore::open(StoreId(id), path, opened)
        };
        Ok(Self {
            set: start.set,
            stores: (0..).zip(opened).map(new).collect::<Result<_, _>>()?,
            next_log: 1,
            now,
        })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.stores.len()
    }

    /// What metadata calls a store.
    pub fn directory(&self, store: usize) -> DirectoryId {
        DirectoryId::new(self.set, StoreId(store as u16))
    }

    /// Makes the log of a partition in a store: it starts at `start`, and no batch of it is of a later epoch than this.
    pub fn log(
        &mut self,
        store: usize,
        label: LogLabel,
        (start, epoch): (Offset, LeaderEpoch),
    ) -> NewLog<'_> {
        let id = LogId(self.next_log);
        self.next_log += 1;
        self.log_with(store, id, label, (start, epoch))
    }

    /// The same with an id that is known.
    pub fn log_with(
        &mut self,
        store: usize,
        id: LogId,
        label: LogLabel,
        (start, epoch): (Offset, LeaderEpoch),
    ) -> NewLog<'_> {
        let (to, now) = (&mut self.stores[store], self.now);
        let log = Log::create(id, label, as_it_comes(), now, &mut to.store);
        to.logs.insert(id, log);
        NewLog {
            to,
            id,
            now,
            pending: 0,
            epoch,
            is_new: true,
            start,
        }
    }

    /// Makes all durable, and the stores such as a clean stop leaves.
    pub fn finish(self) -> Result<(), String> {
        self.stores.into_iter().try_for_each(NewStore::finish)
    }
}

impl NewStore {
    fn open(id: StoreId, path: PathBuf, opened: stores::Opened) -> Result<Self, String> {
        let mut settings = opened.settings;
        // Nobody reads, and what comes is written in one go.
        (settings.raw, settings.tail_bytes_max) = (true, 0);
        let file = blocks::open(&path).map_err(|error| failed_at(&path, error))?;
        let len = hold::size(&file).map_err(|error| failed_at(&path, error))?;
        let settings = (settings, as_it_comes());
        let mut read = blocks::reader(&file);
        let found = recovery::reopen(id, settings, Now::default(), len, &mut read);
        let mut store = found.map_err(|error| failed_at(&path, error))?.store;
        let begun = opened.file.perform(&store.begin());
        begun.map_err(|error| failed_at(&path, error))?;
        Ok(Self {
            path,
            file: opened.file,
            store,
            logs: IdMap::default(),
        })
    }

    fn failed(&self, error: impl std::fmt::Display) -> String {
        format!("cannot write {}: {error}", self.path.display())
    }

    /// Performs operations, and those that follow from them. What became durable is said of one log.
    fn perform(&mut self, ops: &mut Vec<DiskOp>, of: Option<LogId>) -> Result<(), String> {
        let mut events = Vec::new();
        while let Some(op) = ops.pop() {
            // All is synced at the end.
            if let DiskOp::Write { .. } = &op {
                let written = self.file.perform(std::slice::from_ref(&op));
                written.map_err(|error| self.failed(error))?;
            }
            self.store.on_disk(op.id(), Ok(()), ops, &mut events);
        }
        for event in events {
            if let StoreEvent::Durable(flush) = event
                && let Some(log) = of.and_then(|id| self.logs.get_mut(&id))
            {
                log.on_durable(flush);
                log.raise_high_watermark(log.durable_end());
            }
        }
        Ok(())
    }

    /// Writes all that is pending.
    fn settle(&mut self, of: Option<LogId>) -> Result<(), String> {
        let mut ops = Vec::new();
        loop {
            self.store.poll(&mut ops);
            let did = !ops.is_empty();
            self.perform(&mut ops, of)?;
            if self.store.checkpoint_due() {
                self.checkpoint(of)?;
            } else if !did && !self.store.has_more_to_do() {
                return match self.store.is_quiet() {
                    true => Ok(()),
                    false => Err(self.failed("the store is full: raise millrace.store.bytes.max")),
                };
            }
        }
    }

    fn checkpoint(&mut self, of: Option<LogId>) -> Result<(), String> {
        let mut ops = Vec::new();
        while !self.store.lacks_logs() {
            self.store.poll(&mut ops);
            self.store.begin_checkpoint(&mut ops);
            if !self.store.lacks_logs() {
                self.perform(&mut ops, of)?;
            }
        }
        for (id, log) in &self.logs {
            self.store.give_state(*id, log.state());
        }
        while let Some(log) = self.store.next_lacking() {
            self.store.give_state(log, Bytes::new());
        }
        self.store.checkpoint_advance(&mut ops);
        self.perform(&mut ops, of)
    }

    fn finish(mut self) -> Result<(), String> {
        self.settle(None)?;
        self.checkpoint(None)?;
        self.settle(None)?;
        let end = self.store.usage().bytes_total.next_multiple_of(REGION);
        let whole = || {
            let file = OpenOptions::new().write(true).open(&self.path)?;
            if file.metadata()?.len() < end {
                file.set_len(end)?;
            }
            file.sync_all()
        };
        whole().map_err(|error| self.failed(error))?;
        let sync = DiskOp::Sync {
            id: IoId(0),
            background: false,
        };
        let mut ops = vec![sync];
        ops.extend(self.store.end());
        let ended = self.file.perform(&ops);
        ended.map_err(|error| self.failed(error))
    }
}

impl NewLog<'_> {
    /// Its id.
    pub fn id(&self) -> LogId {
        self.id
    }

    /// Appends whole batches as they are, one behind the other; offsets may be left out before each. Those that end
    /// before the log starts are left out.
    pub fn append(&mut self, batches: &Bytes) -> Result<(), String> {
        if batches.is_empty() {
            return Ok(());
        }
        let log = log_of(&mut self.to.logs, self.id)?;
        let (now, store) = (self.now, &mut self.to.store);
        let appended = match self.is_new {
            true => log.begin_anew(now, self.start, batches, self.epoch, store),
            false => log.append_replica(now, batches, self.epoch, store),
        };
        appended.map_err(|unfit| match unfit {
            millrace::log::Unfit::Full => {
                String::from("the store is full: raise millrace.store.bytes.max")
            }
            unfit => unfit.to_string(),
        })?;
        self.is_new = false;
        self.pending += batches.len();
        if self.pending >= PENDING_BYTES {
            self.settle()?;
        }
        Ok(())
    }

    /// The next batch begins a segment.
    pub fn roll(&mut self) -> Result<(), String> {
        if self.is_new {
            return Ok(());
        }
        // A segment's first flush is one of its own, so that the last one's is whole.
        self.settle()?;
        log_of(&mut self.to.logs, self.id)?.roll(self.now, &mut self.to.store);
        Ok(())
    }

    /// All of it is there: the log ends at `end`, or where its last batch does. Returns where it starts and ends.
    pub fn finish(mut self, end: Offset) -> Result<(Offset, Offset), String> {
        self.settle()?;
        let log = log_of(&mut self.to.logs, self.id)?;
        if self.is_new && self.start.max(end) > Offset(0) {
            log.start_over(self.now, self.start.max(end), &mut self.to.store);
        } else {
            log.leave_out(self.now, end, &mut self.to.store);
        }
        self.settle()?;
        let log = log_of(&mut self.to.logs, self.id)?;
        Ok((log.start_offset(), log.end_offset()))
    }

    fn settle(&mut self) -> Result<(), String> {
        self.pending = 0;
        self.to.settle(Some(self.id))
    }
}

fn log_of(logs: &mut IdMap<LogId, Log>, id: LogId) -> Result<&mut Log, String> {
    logs.get_mut(&id)
        .ok_or_else(|| format!("log {id} is not there"))
}
