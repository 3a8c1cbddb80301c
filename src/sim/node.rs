//! A simulated machine: its shards and connections, as long as its process lives,
//! and its disks and clocks, which outlive it.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::clock::Clock;
use super::conns::Conns;
use super::disk::{Crash, Disk};
use super::fact::host_of;
use super::net::Stream;
use super::plan::Plan;
use crate::base::{DirectoryId, Incarnation, LeaderEpoch, LogId, NodeId, Rng, ShardId, StoreId};
use crate::broker::peers::Verdict;
use crate::broker::{
    ClusterSetup, Input, MetadataStatus, Output, PeerAddress, Shard, ShardSetup, StoreSlot,
    format_store, open_store,
};
use crate::config::BrokerConfig;
use crate::controller::{BrokerAddress, Directory, Image, METADATA_LOG};
use crate::store::{DiskError, Left, Piece, StoreConfig};
use crate::wire::peer::NodeFacts;

/// What the node is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not running.
    Down,
    /// Started, not all shards are ready.
    Starting,
    /// Clients are let in.
    Up,
    /// Asked to shut down.
    Stopping,
}

/// A shard of a node, from one of its starts to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Core {
    /// The node.
    pub node: usize,
    /// Which of its starts.
    pub start: u32,
    /// The shard.
    pub shard: usize,
}

/// A store that a start has opened.
#[derive(Clone, Copy, Debug)]
pub struct Opened {
    /// Its length.
    pub len: u64,
    /// How much of it was found rotten: journal records, and logs.
    pub rot: usize,
    /// How the process before has left it.
    pub left: Left,
}

/// A shard and what its driver has to remember of it.
#[derive(Debug)]
pub struct Running {
    shard: Shard,
    /// An idle input is on its way.
    pub idle_due: bool,
    /// The last time it asked to be woken at, in virtual time.
    pub wake_at: u64,
    /// It said that it is ready.
    pub ready: bool,
    /// It said that it is drained.
    pub drained: bool,
}

/// The id of a node of a cluster.
fn id_of(number: usize) -> NodeId {
    NodeId(number as i32 + 1)
}

/// See the module.
#[derive(Debug)]
pub struct Node {
    number: usize,
    config: Arc<BrokerConfig>,
    /// The voters of its cluster besides it; none if it stands alone.
    others: Vec<usize>,
    /// It has no vote.
    pub observes: bool,
    /// The store files.
    pub disks: Vec<Disk>,
    /// The shards; none while the node is down.
    pub shards: Vec<Running>,
    /// What the node is at.
    pub state: State,
    /// How often it has started: what belongs to an earlier start is void.
    pub starts: u32,
    /// When it reached its state, in virtual time.
    pub since: u64,
    /// A shard of its process takes no more requests.
    pub takes_none: bool,
    /// Snapshots of the metadata that its process is known to have fetched.
    pub fetched: u64,
    /// The last term in which it was seen to lead.
    pub elected: Option<LeaderEpoch>,
    /// An operation was made to fail since the last start.
    pub fault_injected: bool,
    /// Its clocks.
    pub clock: Clock,
    /// Its connections.
    pub conns: Conns,
    /// Shards at the last start that was not cut off.
    pub last_shards: Option<u16>,
    /// Stores with damage that a start may refuse.
    pub excuses: BTreeSet<usize>,
    /// Messages from each shard to each other one.
    mesh: Vec<Stream>,
    /// Inputs that shards were given, and how many of them from one look at a shard's invariants to the next.
    inputs: u64,
    looks_every: u64,
}

impl Node {
    /// A node that was never started.
    #[must_use]
    pub fn new(number: usize, plan: &Plan, wall_ms: i64) -> Self {
        let mut config = plan.config.clone();
        config.host_name = host_of(number);
        let others = if plan.is_cluster() {
            config.node_id = id_of(number).0;
            let voters = 0..plan.nodes - plan.observers;
            voters.filter(|other| *other != number).collect()
        } else {
            Vec::new()
        };
        Self {
            number,
            observes: number >= plan.nodes - plan.observers,
            config: Arc::new(config),
            others,
            disks: Vec::new(),
            shards: Vec::new(),
            state: State::Down,
            starts: 0,
            since: 0,
            takes_none: false,
            fetched: 0,
            elected: None,
            fault_injected: false,
            clock: Clock::new(wall_ms),
            conns: Conns::default(),
            last_shards: None,
            excuses: BTreeSet::new(),
            mesh: Vec::new(),
            inputs: 0,
            looks_every: plan.looks_every,
        }
    }

    /// A shard of the process that runs.
    #[must_use]
    pub const fn core(&self, shard: usize) -> Core {
        Core {
            node: self.number,
            start: self.starts,
            shard,
        }
    }

    /// Whether a shard of this node still runs.
    #[must_use]
    pub fn lives(&self, core: Core) -> bool {
        self.state != State::Down && core.start == self.starts
    }

    /// Whether all shards listen at a port together.
    #[must_use]
    pub fn listens_at(&self, port: u16) -> bool {
        !self.config.is_direct() && self.config.advertised(0).1 == port
    }

    /// The port that a shard has for itself, if each has one.
    #[must_use]
    pub fn direct_port(&self, shard: usize) -> Option<u16> {
        let shard = ShardId(shard as u16);
        let direct = self.config.is_direct();
        direct.then(|| self.config.advertised_direct(0, shard).1)
    }

    /// Opens the stores, makes those that are missing, and the shards. With `cut` the machine stops while
    /// the stores are begun, and the answer is `None`.
    ///
    /// # Errors
    /// Which store cannot be opened, and why.
    pub fn start(
        &mut self,
        time: u64,
        plan: &Plan,
        shards: u16,
        cut: bool,
        rng: &mut Rng,
    ) -> Result<Option<Vec<Opened>>, (usize, String)> {
        self.clock.start(time);
        self.since = time;
        self.takes_none = false;
        self.starts += 1;
        self.fault_injected = false;
        self.state = State::Starting;
        let now = self.clock.now(time);
        let stores = self.disks.len().max(usize::from(shards));
        let mut slots: Vec<Vec<StoreSlot>> = (0..shards).map(|_| Vec::new()).collect();
        let mut opened = Vec::new();
        let config = plan.store.clone();
        for number in 0..stores {
            let id = StoreId(number as u16);
            let slot = if let Some(disk) = self.disks.get_mut(number) {
                let mut read = |pos, len| disk.read(pos, len);
                let len = disk.len();
                let (mut slot, report) =
                    open_store(id, config.clone(), &self.config, now, len, &mut read)
                        .map_err(|error| (number, format!("store-{id}: {error:?}")))?;
                opened.push(Opened {
                    len,
                    rot: report.rot.len(),
                    left: report.left,
                });
                let ops = slot.begin();
                if cut && rng.chance(1, 2) {
                    disk.perform_some(ops, rng).map_err(|why| (number, why))?;
                    self.stop(time, rng);
                    return Ok(None);
                }
                disk.perform(ops).map_err(|why| (number, why))?;
                slot
            } else {
                let (slot, ops) = format_store(id, config.clone(), rng.next_u64());
                let mut disk = Disk::default();
                disk.raw = config.raw;
                disk.perform(ops).map_err(|why| (number, why))?;
                self.disks.push(disk);
                slot
            };
            slots[number % usize::from(shards)].push(slot);
        }
        let directories: Vec<Directory> = (0..stores as u16)
            .map(|store| Directory {
                id: DirectoryId::new(self.number as u64 + 1, StoreId(store)),
                shard: ShardId(store % shards),
            })
            .collect();
        let cluster = self.cluster(rng);
        self.mesh = vec![Stream::default(); usize::from(shards) * usize::from(shards)];
        self.shards = slots
            .into_iter()
            .enumerate()
            .map(|(id, slots)| Running {
                shard: Shard::new(ShardSetup {
                    id: ShardId(id as u16),
                    shards,
                    config: Arc::clone(&self.config),
                    seed: rng.next_u64(),
                    slots,
                    directories: directories.clone(),
                    cluster: cluster.clone(),
                    board: Arc::default(),
                }),
                idle_due: false,
                wake_at: u64::MAX,
                ready: false,
                drained: false,
            })
            .collect();
        Ok(Some(opened))
    }

    /// What makes it one of several nodes.
    fn cluster(&self, rng: &mut Rng) -> Option<Arc<ClusterSetup>> {
        if self.others.is_empty() {
            return None;
        }
        let other = |number: &usize| PeerAddress {
            node: id_of(*number),
            host: host_of(*number),
            port: 9093,
        };
        let me = NodeFacts {
            node: id_of(self.number),
            directory: DirectoryId::new(self.number as u64 + 1, StoreId(0)),
            incarnation: Incarnation(self.starts.into()),
            start: rng.next_u64(),
            levels: (1, 1),
            cluster_id: None,
        };
        let mut setup = ClusterSetup::of_voters(me, self.others.iter().map(other).collect());
        setup.observes = self.observes;
        setup.reached = Some(BrokerAddress {
            listener: "CONTROLLER".to_owned(),
            host: host_of(self.number),
            port: 9093,
            shards: Vec::new(),
        });
        if self.observes && rng.chance(1, 2) {
            // It is told of one of them, as a server.
            let told = rng.below(setup.others.len() as u64) as usize;
            let server = setup.others.swap_remove(told);
            setup.servers = vec![(server.host, server.port)];
            setup.others = Vec::new();
        }
        Some(Arc::new(setup))
    }

    /// The metadata that it knows to be committed.
    #[must_use]
    pub fn image(&self) -> Option<&Image> {
        self.shards.first()?.shard.image()
    }

    /// What it knows of the metadata.
    #[must_use]
    pub fn metadata(&self) -> Option<MetadataStatus> {
        self.shards.first()?.shard.metadata()
    }

    /// How many other nodes it can talk to.
    #[must_use]
    pub fn peers_up(&self) -> usize {
        let control = self.shards.first();
        control.map_or(0, |control| control.shard.peers_up())
    }

    /// What it thinks of another node.
    pub fn verdict(&mut self, time: u64, of: NodeId) -> Option<Verdict> {
        let control = self.shards.first_mut()?;
        control.shard.verdict(self.clock.now(time), of)
    }

    /// What a start reads of each store, as they are now: position and length. Nothing else may be a reason
    /// not to start.
    ///
    /// # Errors
    /// Why a store cannot be opened.
    pub fn read_by_start(
        &self,
        time: u64,
        config: &StoreConfig,
    ) -> Result<Vec<Vec<(u64, usize)>>, String> {
        let now = self.clock.now(time);
        let opened = self.disks.iter().enumerate().map(|(number, disk)| {
            let id = StoreId(number as u16);
            let mut places = Vec::new();
            let mut read = |pos, len| {
                places.push((pos, len));
                disk.read(pos, len)
            };
            let broker = &self.config;
            let opened = open_store(id, config.clone(), broker, now, disk.len(), &mut read);
            let (slot, _) = opened.map_err(|error| format!("store-{id}: {error:?}"))?;
            if slot.usage().journal_bytes_used == 0 {
                // Everything is in the checkpoint: the journal is looked at, and nothing in it is needed.
                let ring = config.ring();
                places.retain(|(pos, _)| !ring.contains(pos));
            }
            Ok(places)
        });
        opened.collect()
    }

    /// All shards are drained: that is written to the stores. With `cut` the machine stops meanwhile. Whether all of it
    /// is there for sure.
    ///
    /// # Errors
    /// What a store did wrong.
    pub fn end(&mut self, cut: bool, rng: &mut Rng) -> Result<bool, String> {
        for running in &mut self.shards {
            for (store, ops) in running.shard.end() {
                let disk = &mut self.disks[usize::from(store.0)];
                if cut && rng.chance(1, 2) {
                    disk.perform_some(ops, rng)?;
                    return Ok(false);
                }
                disk.perform(ops)?;
            }
        }
        Ok(!cut)
    }

    /// The process is gone. Returns what became of each store's writes that were not durable.
    pub fn stop(&mut self, time: u64, rng: &mut Rng) -> Vec<Crash> {
        self.shards.clear();
        self.state = State::Down;
        self.since = time;
        self.disks.iter_mut().map(|disk| disk.crash(rng)).collect()
    }

    /// Gives a shard an input.
    pub fn handle(&mut self, time: u64, shard: usize, input: Input, out: &mut Vec<Output>) {
        let now = self.clock.now(time);
        if let Some(running) = self.shards.get_mut(shard) {
            running.shard.handle(now, input, out);
            self.inputs += 1;
            if self.inputs.is_multiple_of(self.looks_every) {
                running.shard.invariants();
            }
        }
    }

    /// The messages from one shard to another one.
    pub fn mesh(&mut self, from: usize, to: usize) -> &mut Stream {
        &mut self.mesh[from * self.shards.len() + to]
    }

    /// The bytes of pieces as they are now.
    ///
    /// # Errors
    /// What the disk says.
    pub fn read(&self, pieces: &[Piece]) -> Result<Bytes, DiskError> {
        let mut out = Vec::with_capacity(pieces.iter().map(Piece::len).sum());
        for piece in pieces {
            match piece {
                Piece::Memory(bytes) => out.extend_from_slice(bytes),
                Piece::File {
                    store, pos, len, ..
                } => {
                    let disk = self.disks.get(usize::from(store.0));
                    let disk = disk.ok_or(DiskError { errno: 2 })?;
                    out.extend_from_slice(&disk.read(*pos, *len)?);
                }
            }
        }
        Ok(out.into())
    }

    /// A piece of a file that is not durable, if there is one among these.
    #[must_use]
    pub fn not_durable(&self, pieces: &[Piece]) -> Option<String> {
        pieces.iter().find_map(|piece| match piece {
            Piece::Memory(_) => None,
            Piece::File {
                store, pos, len, ..
            } => {
                let disk = self.disks.get(usize::from(store.0))?;
                let why = disk.not_durable(*pos, *len)?;
                Some(format!("store-{store}: {len} bytes at {pos}: {why}"))
            }
        })
    }

    /// Whether every shard has said that it is ready.
    #[must_use]
    pub fn all_ready(&self) -> bool {
        self.shards.iter().all(|shard| shard.ready)
    }

    /// Whether every shard has said that it is drained, and has nothing on its way since.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.shards
            .iter()
            .all(|running| running.drained && running.shard.is_at_rest())
    }

    /// Tells the high watermarks of all logs, and where they end on the disk. What a quorum has not committed may go
    /// again.
    pub fn watermarks(&self, mut tell: impl FnMut(LogId, i64, i64)) {
        for running in &self.shards {
            for (log, (committed, durable)) in running.shard.watermarks() {
                if log == METADATA_LOG && !self.others.is_empty() {
                    continue;
                }
                tell(log, committed.0, durable.0);
            }
        }
    }
}
