//! The stores under the parts of a shard that write by themselves, for their tests: disks do what they are asked when
//! the test says so.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::logs::label;
use crate::base::crc::crc32c;
use crate::base::{DirectoryId, Mono, NodeId, Now, ShardId, StoreId, TopicId};
use crate::broker::fx::Fx;
use crate::broker::io::Output;
use crate::broker::msg::{Called, ControlCall, Msg, ReqRef};
use crate::broker::owner::Owner;
use crate::broker::owner::stores::format_store;
use crate::config::BrokerConfig;
use crate::controller::{Directory, METADATA_LOGS, MetadataRecord};
use crate::log::LogConfig;
use crate::quorum::ReplicaKey;
use crate::record::{BatchBuilder, Codec};
use crate::wire::RequestHeader;

pub const NOW: Now = Now {
    mono: Mono(1),
    wall_ms: 1_700_000_000_000,
};

/// Shard 0, which owns store 0, with the logs of the metadata in it.
pub struct Site {
    pub owner: Owner,
    now: Now,
    out: Vec<Output>,
    local: VecDeque<Msg>,
}

impl Site {
    pub fn new() -> Self {
        let config = BrokerConfig::default();
        let slot = format_store(StoreId(0), config.store(), 1).0;
        let mut owner = Owner::new(ShardId(0), Arc::new(config), vec![slot]);
        let config = LogConfig::default();
        for log in METADATA_LOGS {
            owner.open_own(NOW, 0, log, label(log), config);
        }
        let mut site = Self {
            owner,
            now: NOW,
            out: Vec::new(),
            local: VecDeque::new(),
        };
        site.flush();
        site
    }

    /// All is durable, and a start finds it; no log is open.
    pub fn restart(&mut self) {
        self.flush();
        for (id, partition) in self.owner.partitions.drain() {
            let slot = &mut self.owner.slots[partition.slot];
            slot.recovered.insert(id, partition.log);
        }
    }

    /// Time passes.
    pub fn pass_ms(&mut self, ms: u64) {
        self.now.mono = self.now.mono.plus_ms(ms);
    }

    /// Lets a part do something.
    pub fn act<T>(&mut self, act: impl FnOnce(&mut Owner, &mut Fx<'_>) -> T) -> T {
        let mut fx = Fx {
            me: ShardId(0),
            now: self.now,
            out: &mut self.out,
            local: &mut self.local,
            ops: Vec::new(),
        };
        act(&mut self.owner, &mut fx)
    }

    /// Makes all durable that was appended; the tokens of those who waited for it.
    pub fn flush(&mut self) -> Vec<u64> {
        self.act(|owner, fx| owner.idle(fx));
        while let Some(at) = self
            .out
            .iter()
            .position(|out| matches!(out, Output::Disk { .. }))
        {
            if let Output::Disk { store, op } = self.out.remove(at) {
                self.act(|owner, fx| owner.on_disk(store, op.id(), Ok(()), fx));
            }
        }
        let told = std::mem::take(&mut self.owner.acks.told).into_iter();
        told.filter_map(|(token, outcome)| outcome.is_ok().then_some(token))
            .collect()
    }

    /// The messages since the last time, and to whom; panics where there is anything else for the driver.
    pub fn sent(&mut self) -> Vec<(u16, Msg)> {
        let local = self.local.drain(..).map(|msg| (0, msg));
        let mut sent: Vec<_> = local.collect();
        for output in std::mem::take(&mut self.out) {
            match output {
                Output::Mesh { to, msg } => sent.push((to.0, *msg)),
                Output::Disk { .. } => self.out.push(output),
                output => panic!("unexpected {output:?}"),
            }
        }
        sent
    }

    /// Whom of the messages since the last time are answers for, and the frames; panics where there is another one.
    pub fn answers(&mut self) -> Vec<(u64, Result<Called, String>)> {
        let sent = self.sent().into_iter();
        sent.map(|(_, msg)| match msg {
            Msg::ControlDone { id, answer } => (id, answer),
            msg => panic!("unexpected {msg:?}"),
        })
        .collect()
    }
}

/// The stores of a node, each with a shard of its own.
pub fn directories(count: u16) -> Vec<Directory> {
    let directory = |n| Directory {
        id: DirectoryId::new(1, StoreId(n)),
        shard: ShardId(n),
    };
    (0..count).map(directory).collect()
}

/// A request by its number.
pub fn req(id: u64) -> ReqRef {
    ReqRef {
        shard: ShardId(0),
        id,
    }
}

/// A replica of a node, which this one is if it is `me`.
pub fn replica(node: i32, me: i32) -> ReplicaKey {
    let directory = match node == me {
        true => directories(1)[0].id,
        false => DirectoryId([node as u8; 16]),
    };
    ReplicaKey {
        node: NodeId(node),
        directory,
    }
}

/// A request that is never looked into, with a body of so many bytes.
pub fn call(bytes: usize) -> Box<ControlCall> {
    Box::new(ControlCall {
        header: RequestHeader {
            key: 19,
            version: 5,
            correlation_id: 1,
            client_id: None,
        },
        body: vec![0; bytes].into(),
        listener: 0,
    })
}

/// A topic whose id is this byte sixteen times.
pub fn topic(id: u8) -> MetadataRecord {
    MetadataRecord::Topic {
        name: format!("topic-{id}"),
        id: TopicId([id; 16]),
    }
}

/// A batch of one record.
pub fn batch(key: &[u8], value: &[u8]) -> Bytes {
    let mut batch = BatchBuilder::new(Codec::None, 0);
    batch.push(0, Some(key), Some(value), &[]);
    batch.build()
}

/// One that says that it is compressed, and is not.
pub fn unreadable() -> Bytes {
    let mut batch = batch(b"key", b"value").to_vec();
    batch[22] = Codec::Gzip.id();
    let crc = crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch.into()
}
