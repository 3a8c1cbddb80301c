//! A control shard and its store, whose disk does at once what it is asked; each of its writes is kept, so that a crash
//! can come behind any of them.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Control;
use super::said::NodeSaid;
use super::testing::{NOW, directories};
use crate::base::{DirectoryId, Incarnation, LogId, NodeId, Now, ShardId, StoreId};
use crate::broker::fx::Fx;
use crate::broker::io::{Output, ReadId};
use crate::broker::msg::{Called, Msg, ReqRef};
use crate::broker::owner::Owner;
use crate::broker::owner::stores::{StoreSlot, format_store, open_store};
use crate::broker::peers::{ClusterSetup, PeerAddress, PeerEvent};
use crate::config::BrokerConfig;
use crate::controller::{BrokerAddress, Directory, Image, MetadataRecord};
use crate::quorum::ReplicaKey;
use crate::store::{DiskError, DiskOp, Piece, StoreConfig};
use crate::wire::peer::NodeFacts;

#[derive(Clone, Default)]
pub struct File {
    pub bytes: Vec<u8>,
}

impl File {
    pub fn perform(&mut self, op: &DiskOp) {
        if let DiskOp::Write { pos, data, .. } = op {
            let end = *pos as usize + data.len();
            self.bytes.resize(self.bytes.len().max(end), 0);
            self.bytes[*pos as usize..end].copy_from_slice(data);
        }
    }

    fn read(&self, pos: u64, len: usize) -> bytes::Bytes {
        let there = self.bytes.get(pos as usize..).unwrap_or(&[]);
        let mut bytes = vec![0; len];
        let n = there.len().min(len);
        bytes[..n].copy_from_slice(&there[..n]);
        bytes.into()
    }
}

pub fn store_config() -> StoreConfig {
    StoreConfig {
        journal_bytes: 128 << 10,
        raw: true,
        ..StoreConfig::default()
    }
}

pub fn config() -> Arc<BrokerConfig> {
    Arc::new(BrokerConfig {
        millrace_internal_compact_bytes: 4096,
        ..BrokerConfig::default()
    })
}

fn facts(node: NodeId, directory: DirectoryId) -> NodeFacts {
    NodeFacts {
        node,
        directory,
        incarnation: Incarnation(1),
        start: 1,
        levels: (1, 2),
        cluster_id: None,
    }
}

/// Where a node is.
pub fn address(node: NodeId) -> PeerAddress {
    PeerAddress {
        node,
        host: format!("node-{node}"),
        port: 9093,
    }
}

/// A voter among others, if there are any.
fn cluster_of(node: NodeId, directory: DirectoryId, others: &[NodeId]) -> Option<ClusterSetup> {
    let me = facts(node, directory);
    let addresses = others.iter().copied().map(address).collect();
    (!others.is_empty()).then(|| ClusterSetup::of_voters(me, addresses))
}

/// A node of one shard.
pub struct Machine {
    pub owner: Owner,
    pub control: Control,
    pub file: File,
    pub out: Vec<Output>,
    local: VecDeque<Msg>,
    pub now: Now,
    /// Versions of images that were published, by how many writes there were then.
    pub published: Vec<(usize, u64)>,
    /// The file when it started, and all writes since.
    pub begun: File,
    pub writes: Vec<DiskOp>,
    /// How often the file was read.
    pub reads: usize,
    pub answers: Vec<(u64, Result<Called, String>)>,
    pub fatal: Option<String>,
}

impl Machine {
    fn with(slot: StoreSlot, file: File, others: &[NodeId]) -> Self {
        let config = match others {
            [] => config(),
            // Nothing is cut that a test wants to be there.
            _ => Arc::default(),
        };
        Self::of_config(slot, file, (config, directories(1)), others)
    }

    fn of_config(
        slot: StoreSlot,
        file: File,
        (config, here): (Arc<BrokerConfig>, Vec<Directory>),
        others: &[NodeId],
    ) -> Self {
        let directory = here[0].id;
        let cluster = cluster_of(config.node(), directory, others);
        Self::of_cluster(slot, file, (config, here), cluster)
    }

    fn of_cluster(
        slot: StoreSlot,
        file: File,
        (config, here): (Arc<BrokerConfig>, Vec<Directory>),
        cluster: Option<ClusterSetup>,
    ) -> Self {
        // A process on another disk draws other numbers.
        let set = here[0]
            .id
            .0
            .first_chunk()
            .map_or(0, |set| u64::from_be_bytes(*set));
        let seed = config.node().0 as u64 + set / 64;
        let mut machine = Self {
            owner: Owner::new(ShardId(0), Arc::clone(&config), vec![slot]),
            control: Control::new(config, 1, here, cluster.as_ref(), seed),
            begun: file.clone(),
            file,
            out: Vec::new(),
            local: VecDeque::new(),
            now: NOW,
            published: Vec::new(),
            writes: Vec::new(),
            reads: 0,
            answers: Vec::new(),
            fatal: None,
        };
        machine.settle();
        machine
    }

    /// One with a new store, that is not started.
    pub fn new() -> Self {
        Self::of(store_config())
    }

    pub fn of(store: StoreConfig) -> Self {
        Self::formatted(store, &[])
    }

    /// One with a new store, that is one of several nodes and not started.
    pub fn one_of_several(others: &[NodeId]) -> Self {
        Self::formatted(store_config(), others)
    }

    /// One of nodes 1 to `nodes`, with a new store and not started.
    pub fn node(node: i32, nodes: i32) -> Self {
        Self::node_of(node, nodes, node as u64)
    }

    /// The same, whose stores were made as this set.
    pub fn node_of(node: i32, nodes: i32, set: u64) -> Self {
        let (slot, ops) = format_store(StoreId(0), store_config(), 1);
        let mut file = File::default();
        ops.iter().for_each(|op| file.perform(op));
        let mut config = BrokerConfig::default();
        config.set("node.id", &node.to_string()).expect("a setting");
        let here = Directory {
            id: DirectoryId::new(set, StoreId(0)),
            shard: ShardId(0),
        };
        let others: Vec<NodeId> = (1..=nodes).filter(|it| *it != node).map(NodeId).collect();
        Self::of_config(slot, file, (Arc::new(config), vec![here]), &others)
    }

    /// A node without a vote, where nodes 1 to `voters` have one, with a new store and not started.
    pub fn observer(node: i32, voters: i32) -> Self {
        let (slot, ops) = format_store(StoreId(0), store_config(), 1);
        let mut file = File::default();
        ops.iter().for_each(|op| file.perform(op));
        Self::observing(slot, file, node, voters)
    }

    /// One on what a crash has left, that is started; why it is not.
    pub fn restart_as_observer(file: File, node: i32, voters: i32) -> Result<Self, String> {
        let (slot, file) = Self::slot(file)?;
        let mut machine = Self::observing(slot, file, node, voters);
        machine.start();
        machine.fatal.take().map_or(Ok(machine), Err)
    }

    fn observing(slot: StoreSlot, file: File, node: i32, voters: i32) -> Self {
        let mut config = BrokerConfig::default();
        config.set("node.id", &node.to_string()).expect("a setting");
        let here = directories(1);
        let others = (1..=voters).map(NodeId).filter(|voter| voter.0 != node);
        let me = facts(NodeId(node), here[0].id);
        let mut cluster = ClusterSetup::of_voters(me, others.map(address).collect());
        cluster.observes = true;
        cluster.may_vote = false;
        cluster.reached = Some(BrokerAddress {
            listener: "C".to_owned(),
            host: format!("node-{node}"),
            port: 9093,
            shards: Vec::new(),
        });
        Self::of_cluster(slot, file, (Arc::new(config), here), Some(cluster))
    }

    fn formatted(store: StoreConfig, others: &[NodeId]) -> Self {
        let (slot, ops) = format_store(StoreId(0), store, 1);
        let mut file = File::default();
        ops.iter().for_each(|op| file.perform(op));
        Self::with(slot, file, others)
    }

    /// One on what a crash has left, that is not started.
    pub fn stopped(file: File) -> Self {
        Self::opened(file, &[]).unwrap()
    }

    /// One on what a crash has left, that is started; why it is not.
    pub fn restart(file: File) -> Result<Self, String> {
        Self::restart_of_several(file, &[])
    }

    /// The same of one of several nodes.
    pub fn restart_of_several(file: File, others: &[NodeId]) -> Result<Self, String> {
        let mut machine = Self::opened(file, others)?;
        machine.start();
        match machine.fatal.take() {
            Some(why) => Err(why),
            None => Ok(machine),
        }
    }

    fn opened(file: File, others: &[NodeId]) -> Result<Self, String> {
        let (slot, file) = Self::slot(file)?;
        Ok(Self::with(slot, file, others))
    }

    fn slot(file: File) -> Result<(StoreSlot, File), String> {
        let len = file.bytes.len() as u64;
        let mut read = |pos, len| Ok::<_, DiskError>(file.read(pos, len));
        let opened = open_store(StoreId(0), store_config(), &config(), NOW, len, &mut read);
        let (mut slot, _) = opened.map_err(|error| format!("{error:?}"))?;
        let mut file = file;
        for op in slot.begin() {
            file.perform(&op);
        }
        Ok((slot, file))
    }

    pub fn start(&mut self) {
        self.act(Control::start);
        self.settle();
    }

    pub fn act<T>(&mut self, act: impl FnOnce(&mut Control, &mut Owner, &mut Fx<'_>) -> T) -> T {
        let mut fx = Fx {
            me: ShardId(0),
            now: self.now,
            out: &mut self.out,
            local: &mut self.local,
            ops: Vec::new(),
        };
        act(&mut self.control, &mut self.owner, &mut fx)
    }

    /// Lets everything happen.
    pub fn settle(&mut self) {
        loop {
            for msg in std::mem::take(&mut self.local) {
                match msg {
                    Msg::Image { image, .. } => {
                        self.published.push((self.writes.len(), image.version));
                        self.act(|control, owner, fx| {
                            control.served(ShardId(0), image.version, Vec::new(), owner, fx);
                        });
                    }
                    Msg::ControlDone { id, answer } => match ReqRef::number_inside(id) {
                        Some(number) => self.control.inside_done(number, answer),
                        None => self.answers.push((id, answer)),
                    },
                    msg => panic!("unexpected {msg:?}"),
                }
            }
            let outputs = std::mem::take(&mut self.out);
            let is_over = outputs.is_empty();
            for output in outputs {
                self.perform(output);
            }
            for (token, outcome) in std::mem::take(&mut self.owner.acks.told) {
                assert_eq!(outcome, Ok(()), "nobody else leads it");
                assert!(self.act(|control, owner, fx| control.durable(token, owner, fx)));
            }
            if self.fatal.is_some() {
                return;
            }
            self.control.invariants();
            self.act(|control, owner, fx| {
                control.go_on(owner, fx);
                owner.idle(fx);
            });
            let has_more = self.control.has_more() || self.owner.has_more();
            if is_over && self.out.is_empty() && self.local.is_empty() && !has_more {
                return;
            }
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Disk { store, op } => {
                self.file.perform(&op);
                let id = op.id();
                self.writes.push(op);
                self.act(|_, owner, fx| owner.on_disk(store, id, Ok(()), fx));
            }
            Output::Read { id, pieces } => {
                let bytes = self.bytes_of(pieces);
                self.read(id, bytes);
            }
            Output::Fatal { message, .. } => self.fatal = Some(message),
            output => panic!("unexpected {output:?}"),
        }
    }

    /// What these are in memory, or in the file.
    pub fn bytes_of(&self, pieces: Vec<Piece>) -> bytes::Bytes {
        let mut bytes = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Memory(memory) => bytes.extend_from_slice(&memory),
                Piece::File { pos, len, .. } => bytes.extend(self.file.read(pos, len)),
            }
        }
        bytes.into()
    }

    fn read(&mut self, id: ReadId, bytes: bytes::Bytes) {
        self.reads += 1;
        self.owner.work.read_ended(id);
        self.act(|control, owner, fx| control.read(owner, id, Ok(bytes), fx));
    }

    /// Somebody answers at the address of a node.
    pub fn up(&mut self, there: ReplicaKey) {
        let facts = facts(there.node, there.directory);
        self.act(|control, owner, fx| control.peer_event(PeerEvent::Up(facts), owner, fx));
    }

    /// A node says something.
    pub fn heard(&mut self, from: NodeId, said: &NodeSaid) {
        let heard = PeerEvent::Heard(from, said.encode());
        self.act(|control, owner, fx| control.peer_event(heard, owner, fx));
    }

    /// What is said to other nodes since the last time.
    pub fn said(&mut self) -> Vec<(NodeId, NodeSaid)> {
        let said = std::iter::from_fn(|| self.control.next_said());
        said.map(|(to, said)| (to, NodeSaid::decode(&said).expect("it is understood")))
            .collect()
    }

    /// Decides on these records, for nobody.
    pub fn commit(&mut self, records: Vec<MetadataRecord>) {
        let done =
            self.act(|control, owner, fx| control.metadata.commit_quietly(records, owner, fx));
        assert_eq!(done, Ok(Ok(())));
    }

    pub fn committed(&self) -> &Image {
        &self.control.metadata.committed
    }

    /// Where the log of the metadata begins and ends.
    pub fn offsets(&self, log: LogId) -> (i64, i64) {
        let log = &self.owner.partitions[&log].log;
        (log.start_offset().0, log.end_offset().0)
    }
}
