//! Fetches that wait for `fetch.min.bytes`. A watch counts the bytes that become
//! visible in its logs and speaks up once, when it has enough; nothing polls.

use super::owner::Partition;
use super::{Fx, Msg, ReqRef};
use crate::base::{IdMap, LogId};

#[derive(Debug)]
struct Watch {
    /// 0 once it has spoken up.
    bytes_missing: u64,
    logs: Vec<LogId>,
}

/// The watches on the partitions of one shard. At most one for each fetch in progress.
#[derive(Debug, Default)]
pub(super) struct Watches {
    by_req: IdMap<(u16, u64), Watch>,
}

impl Watches {
    /// Waits until `bytes_missing` more bytes are visible in `logs` together.
    pub fn add(
        &mut self,
        req: ReqRef,
        bytes_missing: u64,
        logs: Vec<LogId>,
        partitions: &mut IdMap<LogId, Partition>,
    ) {
        for log in &logs {
            if let Some(partition) = partitions.get_mut(log) {
                partition.watchers.push(req);
            }
        }
        self.by_req.insert(
            (req.shard.0, req.id),
            Watch {
                bytes_missing,
                logs,
            },
        );
    }

    /// Forgets the watch of a request, if it has one.
    pub fn cancel(&mut self, req: ReqRef, partitions: &mut IdMap<LogId, Partition>) {
        let Some(watch) = self.by_req.remove(&(req.shard.0, req.id)) else {
            return;
        };
        for log in watch.logs {
            if let Some(partition) = partitions.get_mut(&log) {
                partition.watchers.retain(|watcher| *watcher != req);
            }
        }
    }

    /// `bytes` more are visible in a partition. A watch that has enough stays registered, silent,
    /// until its request cancels or renews it: so no partition collects watchers of the past.
    pub fn advanced(&mut self, partition: &Partition, bytes: u64, fx: &mut Fx<'_>) {
        for req in &partition.watchers {
            let Some(watch) = self.by_req.get_mut(&(req.shard.0, req.id)) else {
                continue;
            };
            if watch.bytes_missing == 0 {
                continue;
            }
            watch.bytes_missing = watch.bytes_missing.saturating_sub(bytes);
            if watch.bytes_missing == 0 {
                fx.send(req.shard, Msg::FetchReady { id: req.id });
            }
        }
    }
}
