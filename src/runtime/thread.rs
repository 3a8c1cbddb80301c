//! The thread of one shard: pins itself, recovers its stores, then runs the pump.

use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;

use glommio::{LocalExecutor, LocalExecutorBuilder, Placement};

use super::accept::{Acceptor, Admission};
use super::arena::Cells;
use super::blocks;
use super::brain::{Shard, ShardSetup, StoreSlot, open_store};
use super::budget::{Budget, Pool};
use super::conn::Shared;
use super::disk::{CachedFiles, Disk, StoreFile};
use super::fatal::{CORRUPT, DISK, Fatal, SYSTEM};
use super::memory::TailMemory;
use super::mesh::Mesh;
use super::pump::{Pump, PumpSetup};
use super::report::{End, Notice, Stopped};
use super::ring::Ring;
use super::settings::Settings;
use super::stores::Opened;
use crate::base::ShardId;
use crate::base::limits::STALLED_REPLY_BYTES_MAX;
use crate::base::pages::keep_pages_in;
use crate::broker::ClusterSetup;
use crate::broker::Msg;
use crate::broker::trace::Board;
use crate::config::BrokerConfig;
use crate::controller::Directory;

/// glommio registers this much memory for O_DIRECT files of its own, of which we have none.
const EXECUTOR_IO_MEMORY: usize = 64 * 1024;

/// Everything a shard's thread needs.
pub struct Plan {
    /// Which shard.
    pub id: ShardId,
    /// How many there are.
    pub shards: u16,
    /// The core to run on.
    pub core: usize,
    /// The settings, ports and host name filled in.
    pub config: Arc<BrokerConfig>,
    /// For the shard's randomness.
    pub seed: u64,
    /// Where the stores are.
    pub dir: PathBuf,
    /// The stores of this shard.
    pub stores: Vec<Opened>,
    /// The shard that owns each store of the node.
    pub directories: Arc<[Directory]>,
    /// What makes the node one of several, if it is.
    pub cluster: Option<Arc<ClusterSetup>>,
    /// The readable files of all stores.
    pub files: Arc<CachedFiles>,
    /// The other shards.
    pub mesh: Arc<Mesh<Box<Msg>>>,
    /// Sockets to accept on, with the index of the configured listener.
    pub listeners: Vec<(usize, TcpListener)>,
    /// Connection limits of the node, for clients and for other nodes.
    pub admission: [Arc<Admission>; 2],
    /// Request memory of the node.
    pub requests: Arc<Pool>,
    /// The same for what other nodes send, if there are others.
    pub requests_of_nodes: Option<Arc<Pool>>,
    /// Memory of the newest batches.
    pub tails: Arc<TailMemory>,
    /// The settings of the node, as they change.
    pub settings: Arc<Settings>,
    /// Where it counts.
    pub board: Arc<Board>,
    /// Whom to tell what becomes of it.
    pub reports: Sender<Notice>,
}

/// Starts the thread.
///
/// # Errors
/// The system gives no thread.
pub fn spawn(plan: Plan) -> io::Result<JoinHandle<()>> {
    let name = format!("shard-{}", plan.id);
    std::thread::Builder::new().name(name).spawn(move || {
        let reports = plan.reports.clone();
        // If nobody listens any more, the process is on its way out.
        let _ = match run(plan) {
            Ok((end, stopped)) => reports.send(Notice::Ended(end, stopped)),
            Err(fatal) => reports.send(Notice::Failed(fatal)),
        };
    })
}

fn run(mut plan: Plan) -> Result<(End, Vec<Stopped>), Fatal> {
    let executor = executor(&plan)?;
    if let Some(arena) = plan.tails.arena(usize::from(plan.id.0)) {
        keep_pages_in(Cells::new(arena));
    }
    let mut disk = Disk::new(
        Arc::clone(&plan.files),
        plan.config.millrace_fetch_page_cache,
    );
    let mut slots = Vec::new();
    for store in std::mem::take(&mut plan.stores) {
        slots.push(open(&plan, store, &mut disk)?);
    }
    let system = |error: io::Error| Fatal::new(SYSTEM, format!("cannot start a shard: {error}"));
    let mesh = plan.mesh.port(plan.id);
    let ring = Ring::new().map_err(system)?;
    let config = &plan.config;
    let frame_bytes_max = config.socket_request_max_bytes.max(1) as usize;
    let idle_ms_max = config.connections_max_idle_ms.max(1) as u64;
    let shard = Shard::new(ShardSetup {
        id: plan.id,
        shards: plan.shards,
        config: Arc::clone(config),
        seed: plan.seed,
        slots,
        directories: plan.directories.to_vec(),
        cluster: plan.cluster,
        board: plan.board,
    });
    let shards = usize::from(plan.shards);
    let parts = PumpSetup {
        shard,
        shared: Shared::new(frame_bytes_max, Budget::new(plan.requests))
            .with_nodes(plan.requests_of_nodes.map(Budget::new)),
        ring,
        disk,
        mesh,
        acceptor: Acceptor::new(plan.listeners, plan.admission),
        idle_ms_max,
        stalled_bytes_max: STALLED_REPLY_BYTES_MAX / shards,
        me: usize::from(plan.id.0),
        shards,
        tails: plan.tails,
        settings: plan.settings,
        spin_us: config.millrace_spin_us.max(0) as u64,
        reports: plan.reports,
    };
    // The pump blocks the thread when it sleeps: nothing else may run on this executor.
    Ok(executor.run(async move { Pump::new(parts).run() }))
}

fn executor(plan: &Plan) -> Result<LocalExecutor, Fatal> {
    LocalExecutorBuilder::new(Placement::Fixed(plan.core))
        .name(&format!("shard-{}", plan.id))
        .io_memory(EXECUTOR_IO_MEMORY)
        .make()
        .map_err(|error| {
            Fatal::new(
                SYSTEM,
                format!(
                    "no executor on core {}: {error}; see the limits of this process",
                    plan.core
                ),
            )
        })
}

fn open(plan: &Plan, opened: Opened, disk: &mut Disk) -> Result<StoreSlot, Fatal> {
    let Opened { file, settings } = opened;
    let id = file.id;
    let path = StoreFile::path(&plan.dir, id);
    let shown = path.display();
    let fail = |error: io::Error| Fatal::new(DISK, format!("cannot open {shown}: {error}"));
    file.publish(&path, &plan.files).map_err(fail)?;
    let cached = plan
        .files
        .get(id)
        .ok_or_else(|| fail(io::ErrorKind::NotFound.into()))?;
    let mut read = blocks::reader(cached.uncached());
    let now = super::sys::now();
    let (mut slot, report) = open_store(id, settings, &plan.config, now, file.len(), &mut read)
        .map_err(|error| Fatal::new(CORRUPT, format!("{shown}: {error}")))?;
    for warning in &report.warnings {
        tracing::warn!("{shown}: {warning}");
    }
    for rot in &report.rot {
        tracing::error!("{shown}: {rot}");
    }
    if !report.rot.is_empty() {
        tracing::error!(
            "{shown}: partitions that are not served answer KAFKA_STORAGE_ERROR until the store is restored from a \
             copy or their topic is deleted; `millracectl store salvage` writes what is left of them"
        );
    }
    tracing::info!("{shown}: {} logs; {}", report.logs, report.how_left());
    file.perform(&slot.begin()).map_err(fail)?;
    disk.add(file);
    Ok(slot)
}
