//! A store with the logs that recovery found in it, as the driver hands it to
//! the shard that is to own it.

use std::collections::VecDeque;

use bytes::Bytes;

use super::settings::log_config;
use crate::base::limits::{PROOF_AFTER_MS, REMARKS_AFTER_MS};
use crate::base::{IdMap, LogId, Mono, Now, StoreId};
use crate::broker::trace::FlushStamps;
use crate::config::{BrokerConfig, TopicConfig};
use crate::controller::METADATA_LOGS;
use crate::log::Log;
use crate::log::recovery::{self, DamagedLog, Reopened};
use crate::store::{
    DiskError, DiskOp, FlushSeq, RecoverError, RecoveryReport, Store, StoreConfig, Usage,
};

/// A store of a shard and what is on its way to it.
#[derive(Debug)]
pub struct StoreSlot {
    /// The store.
    pub store: Store,
    /// Logs found by recovery that no image has claimed yet.
    pub(crate) recovered: IdMap<LogId, Log>,
    /// What is known of those that are damaged.
    pub(crate) damaged: IdMap<LogId, DamagedLog>,
    /// Logs with changes that are not durable yet, by the flush that they are part of.
    pub(crate) changed: VecDeque<(FlushSeq, LogId)>,
    /// The flushes on their way, in order.
    pub(crate) flushes: VecDeque<FlushStamps>,
    /// Flushes that are durable.
    pub(crate) durable: FlushSeq,
    /// When the store is to say on the disk that its last flush is durable, if nothing else says it before.
    pub(crate) prove_at: Option<Mono>,
}

impl StoreSlot {
    fn new(store: Store, recovered: IdMap<LogId, Log>, damaged: IdMap<LogId, DamagedLog>) -> Self {
        Self {
            durable: store.durable_seq(),
            store,
            recovered,
            damaged,
            changed: VecDeque::new(),
            flushes: VecDeque::new(),
            prove_at: None,
        }
    }

    /// How the store is used.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.store.usage()
    }

    /// What makes a store that was opened one that may be written; see [`Store::begin`].
    #[must_use]
    pub fn begin(&mut self) -> Vec<DiskOp> {
        self.store.begin()
    }

    /// A store that has been at rest for a moment says what is durable: the last flush would look torn if its record
    /// rotted. Under load the next flush says it. What logs remark can wait longer for one.
    pub(crate) fn prove_at_rest(&mut self, now: Mono) {
        let after_ms = match (self.store.lacks_proof(), self.store.lacks_remarks()) {
            (true, _) => PROOF_AFTER_MS,
            (false, true) => REMARKS_AFTER_MS,
            (false, false) => return self.prove_at = None,
        };
        let latest = now.plus_ms(after_ms);
        let at = self.prove_at.map_or(latest, |at| at.min(latest));
        self.prove_at = Some(at);
        if at <= now {
            self.store.prove();
            self.prove_at = None;
        }
    }

    /// The first log that has changed and all of whose changes with a flush up to this one are durable; it stays the
    /// first one until [`StoreSlot::told`].
    pub(crate) fn first_changed(&self) -> Option<(FlushSeq, LogId)> {
        let first = self.changed.front().copied();
        first.filter(|(flush, _)| *flush <= self.durable)
    }

    /// All logs of which [`StoreSlot::first_changed`] is the first one.
    pub(crate) fn untold(&self) -> impl Iterator<Item = LogId> + '_ {
        let durable = |(flush, _): &&(FlushSeq, LogId)| *flush <= self.durable;
        self.changed.iter().take_while(durable).map(|(_, log)| *log)
    }

    /// All who waited for the first log that has changed are told.
    pub(crate) fn told(&mut self) {
        self.changed.pop_front();
    }

    /// Somebody may wait in a log no more, for another reason than a flush: it is the next one to be looked at.
    pub(crate) fn tell_next(&mut self, log: LogId) {
        self.changed.push_front((FlushSeq(0), log));
    }

    /// The store has started its flushes up to `newest`.
    pub(crate) fn flushes_started(&mut self, newest: FlushSeq, now: Mono) {
        let known = self.flushes.back().map_or(self.durable, |flush| flush.seq);
        for seq in known.0 + 1..=newest.0 {
            self.flushes.push_back(FlushStamps {
                seq: FlushSeq(seq),
                started: now,
                ..FlushStamps::default()
            });
        }
    }

    /// The stamps of a flush that is on its way.
    pub(crate) fn flush_stamps(&mut self, seq: FlushSeq) -> Option<&mut FlushStamps> {
        let first = self.flushes.front()?.seq;
        let index = seq.0.checked_sub(first.0)?;
        self.flushes.get_mut(usize::try_from(index).ok()?)
    }

    /// Forgets the flushes that are durable and of which nobody is to be told any more.
    pub(crate) fn forget_told(&mut self) {
        let first = self.changed.front().map(|(flush, _)| *flush);
        while let Some(flush) = self.flushes.front()
            && flush.seq <= self.durable
            && first.is_none_or(|first| flush.seq < first)
        {
            self.flushes.pop_front();
        }
    }
}

/// Makes a new store. The driver performs the operations before it does anything else with it.
#[must_use]
pub fn format_store(id: StoreId, config: StoreConfig, seed: u64) -> (StoreSlot, Vec<DiskOp>) {
    let (store, ops) = Store::format(id, config, seed);
    (
        StoreSlot::new(store, IdMap::default(), IdMap::default()),
        ops,
    )
}

/// Opens a store after a stop or a crash: replays its journal and rebuilds its logs. Reads block. The driver
/// performs what [`StoreSlot::begin`] says before it does anything else with it.
///
/// A log that is damaged is not among the slot's: its partition is refused, and all others are served.
///
/// # Errors
/// When the store is damaged where it must not be, or another version of the broker wrote it; nothing is changed
/// then.
pub fn open_store(
    id: StoreId,
    config: StoreConfig,
    broker: &BrokerConfig,
    now: Now,
    file_len: u64,
    read: &mut dyn FnMut(u64, usize) -> Result<Bytes, DiskError>,
) -> Result<(StoreSlot, RecoveryReport), RecoverError> {
    let topic = TopicConfig::effective(broker, &Default::default());
    let settings = (config, log_config("", &topic, broker));
    let Reopened {
        store,
        logs,
        damaged,
        mut report,
    } = recovery::reopen(id, settings, now, file_len, read)?;
    let metadata = METADATA_LOGS.into_iter().find(|log| store.is_damaged(*log));
    if id == StoreId(0)
        && let Some(log) = metadata
    {
        report.rot.push(
            "without the cluster's metadata no topic is known: restore the store from a copy, or take the topics \
             out with `millracectl store salvage`"
                .to_owned(),
        );
        return Err(RecoverError::corrupt_log(log, report.rot.join("; ")));
    }
    Ok((StoreSlot::new(store, logs, damaged), report))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{LeaderEpoch, Mono, Offset};
    use crate::log::LogConfig;
    use crate::store::LogLabel;

    /// A store of one log whose state a checkpoint holds; perhaps the log is damaged as well.
    fn opened(state: Bytes, rot: bool) -> Result<(StoreSlot, RecoveryReport), RecoverError> {
        let settings = StoreConfig {
            journal_bytes: 128 << 10,
            raw: true,
            ..StoreConfig::default()
        };
        let (mut slot, mut ops) = format_store(StoreId(1), settings.clone(), 1);
        let (store, log) = (&mut slot.store, LogId(7));
        store.create_log(log, LogLabel::default(), Offset(0));
        let (mut image, mut events, mut asked) = (Vec::new(), Vec::new(), false);
        loop {
            for op in std::mem::take(&mut ops) {
                if let DiskOp::Write { pos, data, .. } = &op {
                    let end = *pos as usize + data.len();
                    image.resize(image.len().max(end), 0);
                    image[*pos as usize..end].copy_from_slice(data);
                }
                store.on_disk(op.id(), Ok(()), &mut ops, &mut events);
            }
            store.poll(&mut ops);
            if !ops.is_empty() {
                continue;
            }
            if asked {
                break;
            }
            asked = true;
            store.checkpoint(vec![(log, state.clone())], &mut ops);
            if rot {
                // What a batch that is none has to say is not believed.
                let batch = Bytes::from_static(&[0; 70]);
                store.append_anyway(log, batch, Offset(0), LeaderEpoch(0));
            }
        }
        let now = Now {
            mono: Mono(0),
            wall_ms: 0,
        };
        let config = BrokerConfig::default();
        let len = image.len() as u64;
        open_store(StoreId(1), settings, &config, now, len, &mut |pos, len| {
            let mut bytes = vec![0; len];
            let there = image.get(pos as usize..).unwrap_or(&[]);
            let n = there.len().min(len);
            bytes[..n].copy_from_slice(&there[..n]);
            Ok(bytes.into())
        })
    }

    #[test]
    fn what_another_version_wrote_is_refused_and_not_given_up() {
        for rot in [false, true] {
            let opened = opened(Bytes::from_static(&[99, 0]), rot);
            assert!(
                matches!(opened, Err(RecoverError::Unknown(_))),
                "{opened:?}"
            );
        }
        let (mut slot, _) = format_store(StoreId(1), StoreConfig::default(), 1);
        let (label, config) = (LogLabel::default(), LogConfig::default());
        let log = Log::create(LogId(7), label, config, Now::default(), &mut slot.store);
        let cut_off = log.state().slice(..1);
        let (slot, report) = opened(cut_off, false).expect("all others are served");
        assert!(slot.store.is_damaged(LogId(7)) && report.rot.len() == 1);
    }
}
