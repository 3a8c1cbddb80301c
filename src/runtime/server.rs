//! A running broker: probes, lock, listeners, one thread per shard, and the way
//! from recovery to serving to a clean stop.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::accept::Admission;
use super::bind::{Buffers, bind, claim};
use super::budget::Pool;
use super::disk::CachedFiles;
use super::fatal::{CONFIG, DISK, Fatal, SOFTWARE, SYSTEM};
use super::http::{self, Doing, Outside};
use super::memory::TailMemory;
use super::mesh::{Mesh, Phase};
use super::notify::{self, Notification};
use super::probe;
use super::report::{End, Notice, Stopped};
use super::settings::{Reloader, Settings};
use super::stores::{self, Opened};
use super::thread::{self, Plan};
use super::version::{commit, version};
use super::{device, direct};
use crate::base::{DirectoryId, Incarnation, Rng, ShardId, StoreId};
use crate::broker::trace::Board;
use crate::broker::{CONTROLLER_LISTENER, ClusterSetup, Msg, PeerAddress};
use crate::config::{Address, BrokerConfig, Endpoint, VoterAddress};
use crate::controller::{BrokerAddress, Directory, FEATURE_LEVELS};
use crate::wire::peer::NodeFacts;

/// How long shards may take to finish what is in flight.
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// A broker that serves.
pub struct Server {
    stopper: Stopper,
    settings: Arc<Settings>,
    reports: Receiver<Notice>,
    threads: Vec<JoinHandle<()>>,
    addresses: Vec<SocketAddr>,
    /// When it was started.
    began: Instant,
    /// Released when everything else is gone.
    _lock: std::fs::File,
}

/// Stops a server from another thread.
#[derive(Clone)]
pub struct Stopper {
    mesh: Arc<Mesh<Box<Msg>>>,
    reports: Sender<Notice>,
    outside: Arc<Outside>,
}

impl Stopper {
    /// No more connections are accepted, what is in flight is finished.
    pub fn stop(&self) {
        self.outside.does(Doing::Stopping);
        self.mesh.announce(Phase::Stopping);
        let _ = self.reports.send(Notice::Stopping);
    }
}

impl Server {
    /// Starts a broker. [`Server::serve`] lets clients in: whoever is to stop it when a client has seen it up takes
    /// its [`Server::stopper`] before.
    ///
    /// # Errors
    /// Why it cannot, with the exit status for it.
    pub fn start(mut config: BrokerConfig) -> Result<Self, Fatal> {
        let began = Instant::now();
        probe::system()?;
        let named = config.named("millrace.shards");
        let cores = probe::cores(config.millrace_shards.max(0) as usize, &named)?;
        let shards = u16::try_from(cores.len())
            .map_err(|_| Fatal::new(CONFIG, "millrace.shards is too large"))?;
        let dir = PathBuf::from(&config.log_dirs);
        tell_what_it_is(&config, &cores);
        let (lock, direct_io) = probe::directory(&dir)?;
        probe::warn_about(&dir, direct_io, &config.named("log.dirs"));
        device::link(&dir, &config.store_devices(), shards)?;
        let asked = config.listeners.0.clone();
        let (addresses, mut listeners) = listen(&mut config, cores.len())?;
        direct::listen(&mut config, &asked, &addresses, &mut listeners)?;
        let addresses_of_nodes = listen_to_nodes(&config, &mut listeners)?;
        warn_about_strangers(
            &config.named("listeners"),
            &[&addresses[..], &addresses_of_nodes].concat(),
        );
        config.host_name = host_name();
        tell_where_clients_connect(&config);
        let seen = Seen::of_node(&config, shards)?;

        let system = |error: io::Error| Fatal::new(SYSTEM, format!("cannot start: {error}"));
        let mut rng = Rng::new(seed().map_err(system)?);
        let (start, opened) = stores::open(&dir, direct_io, shards, &config, &mut rng)?;
        let count = opened.len() as u16;
        let mesh = Mesh::new(shards).map_err(system)?;
        let files = CachedFiles::new(count);
        let admission = Admission::of_node(
            config.max_connections.max(0) as usize,
            config.max_connections_per_ip.max(0) as usize,
        );
        let tails = TailMemory::new(shards, config.millrace_store_tail_bytes_max);
        let config = Arc::new(config);
        let settings = Settings::new(Arc::clone(&config));
        let (sender, reports) = channel();
        let directories = directories(start.set, count, shards);
        let cluster = cluster(&config, &directories, start.number, rng.next_u64());
        let by_shard = dealt(opened, shards);
        let mut threads = Vec::new();
        for (i, (core, stores)) in cores.iter().zip(by_shard).enumerate() {
            let plan = Plan {
                id: ShardId(i as u16),
                shards,
                core: *core,
                config: Arc::clone(&config),
                seed: rng.next_u64(),
                dir: dir.clone(),
                stores,
                files: Arc::clone(&files),
                mesh: Arc::clone(&mesh),
                directories: Arc::clone(&directories),
                cluster: cluster.clone(),
                listeners: std::mem::take(&mut listeners[i]),
                admission: admission.clone(),
                requests: Arc::clone(&seen.requests),
                requests_of_nodes: seen.requests_of_nodes.clone(),
                tails: Arc::clone(&tails),
                settings: Arc::clone(&settings),
                board: Arc::clone(&seen.boards[i]),
                reports: sender.clone(),
            };
            threads.push(thread::spawn(plan).map_err(system)?);
        }
        let shards_wake = Arc::clone(&mesh);
        tails
            .look_after(move || shards_wake.wake())
            .map_err(system)?;
        let stopper = Stopper {
            mesh,
            reports: sender,
            outside: seen.outside,
        };
        let server = Self {
            stopper,
            settings,
            reports,
            threads,
            addresses,
            began,
            _lock: lock,
        };
        for _ in 0..shards {
            match server.reports.recv() {
                Ok(Notice::Ready) => {}
                Ok(Notice::Failed(fatal)) => return Err(fatal),
                Ok(Notice::Ended(End::Fatal { status, message }, _)) => {
                    return Err(Fatal { status, message });
                }
                Ok(Notice::Ended(End::Drained, _) | Notice::Stopping) | Err(_) => {
                    return Err(Fatal::new(SOFTWARE, "a shard ended while starting"));
                }
            }
        }
        Ok(server)
    }

    /// Accepts connections, unless it was stopped.
    pub fn serve(&self) {
        self.stopper.mesh.announce(Phase::Serving);
        self.stopper.outside.does(Doing::Serving);
        let listening: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        tracing::info!(
            "ready: {} shards, listening on {}, after {} ms",
            self.threads.len(),
            listening.join(", "),
            self.began.elapsed().as_millis()
        );
        notify::tell(Notification::Ready);
    }

    /// Where it listens, in the order of the configured listeners.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What stops it.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// What reads its settings again.
    #[must_use]
    pub fn reloader(&self) -> Reloader {
        Reloader {
            settings: Arc::clone(&self.settings),
            mesh: Arc::clone(&self.stopper.mesh),
        }
    }

    /// Waits until it was stopped and every shard is drained, and writes to the stores that they were.
    ///
    /// # Errors
    /// A shard failed, or took longer than half a minute; or a disk did.
    pub fn wait(self) -> Result<(), Fatal> {
        let mut running = self.threads.len();
        let mut deadline: Option<Instant> = None;
        let mut stopped: Vec<Stopped> = Vec::new();
        while running > 0 {
            let left = deadline.map_or(Duration::MAX, |at| at.duration_since(Instant::now()));
            match self.reports.recv_timeout(left) {
                Ok(Notice::Stopping) => {
                    tracing::info!("stopping");
                    notify::tell(Notification::Stopping);
                    deadline.get_or_insert(Instant::now() + STOP_WITHIN);
                }
                Ok(Notice::Ended(End::Drained, stores)) => {
                    running -= 1;
                    stopped.extend(stores);
                }
                Ok(Notice::Ended(End::Fatal { status, message }, _)) => {
                    return Err(Fatal { status, message });
                }
                Ok(Notice::Failed(fatal)) => return Err(fatal),
                Ok(Notice::Ready) => {}
                Err(RecvTimeoutError::Timeout) => {
                    return Err(Fatal::new(
                        SOFTWARE,
                        format!("{running} shards were not done within {STOP_WITHIN:?}"),
                    ));
                }
                // Not while we hold a sender ourselves.
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        for thread in self.threads {
            let _ = thread.join();
        }
        // Nobody can give any store anything any more.
        for Stopped { file, ops } in stopped {
            file.perform(&ops).map_err(|error| {
                let message = format!(
                    "store-{}: cannot write that it was stopped: {error}",
                    file.id
                );
                Fatal::new(DISK, message)
            })?;
        }
        tracing::info!("stopped");
        Ok(())
    }
}

/// There is no authentication yet: whoever reaches a listener may read and delete everything.
fn warn_about_strangers(named: &str, addresses: &[SocketAddr]) {
    for address in addresses.iter().filter(|a| !a.ip().is_loopback()) {
        tracing::warn!(
            "{named}: anybody who reaches {address} can read, write and delete everything: there is no \
             authentication yet. Let only trusted hosts through, or set \
             listeners=PLAINTEXT://127.0.0.1:{}",
            address.port()
        );
    }
}

fn tell_what_it_is(config: &BrokerConfig, cores: &[usize]) {
    tracing::info!(
        "millrace {}: node {}, {} cores, data in {}",
        version(commit()),
        config.node_id,
        cores.len(),
        config.log_dirs
    );
    let names: Vec<String> = cores.iter().map(ToString::to_string).collect();
    tracing::info!("shards are on cores {}", names.join(" "));
    for change in config.different() {
        tracing::info!("not default: {change}");
    }
}

fn tell_where_clients_connect(config: &BrokerConfig) {
    for (index, listener) in config.listeners.0.iter().enumerate() {
        let (host, port) = config.advertised(index);
        let Endpoint { name, .. } = listener;
        tracing::info!("clients of {name} are told to connect to {host}:{port}");
    }
}

/// Binds every listener once per shard, and tells the configuration the ports that were chosen.
/// Sockets come per shard, with the index of the listener they are for.
type Sockets = Vec<(usize, TcpListener)>;

fn listen(
    config: &mut BrokerConfig,
    shards: usize,
) -> Result<(Vec<SocketAddr>, Vec<Sockets>), Fatal> {
    let buffers = Buffers::new(config);
    let mut addresses = Vec::new();
    let mut by_shard: Vec<Sockets> = (0..shards).map(|_| Vec::new()).collect();
    for (index, endpoint) in config.listeners.0.clone().iter().enumerate() {
        let fail = |error: io::Error| cannot_listen(endpoint, &error);
        let mut address = resolve(endpoint).map_err(fail)?;
        for sockets in &mut by_shard {
            // The first socket claims the port for itself, so that a broker already there is
            // found out rather than shared with.
            if sockets.len() == index && address.port() == 0 || addresses.len() == index {
                let first = claim(address, buffers).map_err(fail)?;
                address = first.local_addr().map_err(fail)?;
                addresses.push(address);
            }
            sockets.push((index, bind(address, true, buffers).map_err(fail)?));
        }
        config.bound(index, address.port());
    }
    Ok((addresses, by_shard))
}

fn cannot_listen(endpoint: &Endpoint, error: &io::Error) -> Fatal {
    let Endpoint { name, host, port } = endpoint;
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => ": another process listens there",
        io::ErrorKind::PermissionDenied => ": ports below 1024 need CAP_NET_BIND_SERVICE",
        _ => "",
    };
    let message = format!("cannot listen on {name}://{host}:{port}: {error}{hint}");
    Fatal::new(SYSTEM, message)
}

/// Binds the listeners for other nodes, of which each shard takes connections, too.
fn listen_to_nodes(
    config: &BrokerConfig,
    by_shard: &mut [Sockets],
) -> Result<Vec<SocketAddr>, Fatal> {
    let buffers = Buffers::new(config);
    let mut addresses = Vec::new();
    for endpoint in &config.controller_listeners {
        let fail = |error: io::Error| cannot_listen(endpoint, &error);
        // As above: a process already there is found out.
        let first = claim(resolve(endpoint).map_err(fail)?, buffers).map_err(fail)?;
        let address = first.local_addr().map_err(fail)?;
        drop(first);
        for sockets in by_shard.iter_mut() {
            let socket = bind(address, true, buffers).map_err(fail)?;
            sockets.push((CONTROLLER_LISTENER, socket));
        }
        addresses.push(address);
    }
    Ok(addresses)
}

/// What those outside see of a node: its request memory, for clients and for other nodes, and where its shards count.
struct Seen {
    requests: Arc<Pool>,
    requests_of_nodes: Option<Arc<Pool>>,
    boards: Vec<Arc<Board>>,
    outside: Arc<Outside>,
}

impl Seen {
    fn of_node(config: &BrokerConfig, shards: u16) -> Result<Self, Fatal> {
        let bytes = usize::try_from(config.queued_max_request_bytes).unwrap_or(usize::MAX);
        let (requests, requests_of_nodes) = Pool::of_node(bytes, shards, config.is_member());
        let board = || match config.millrace_metrics_listener {
            Some(_) => Board::watched(),
            None => Board::default(),
        };
        let boards: Vec<Arc<Board>> = (0..shards).map(|_| Arc::new(board())).collect();
        let pools = std::iter::once(&requests).chain(&requests_of_nodes);
        let outside = Outside::new(config.node_id, pools.cloned().collect(), boards.clone());
        listen_for_http(config, &outside)?;
        Ok(Self {
            requests,
            requests_of_nodes,
            boards,
            outside,
        })
    }
}

/// Answers requests for metrics and health from here on, if that is wanted.
fn listen_for_http(config: &BrokerConfig, outside: &Arc<Outside>) -> Result<(), Fatal> {
    let Some(Address(endpoint)) = &config.millrace_metrics_listener else {
        return Ok(());
    };
    let fail = |error: io::Error| cannot_listen(endpoint, &error);
    let listener = claim(resolve(endpoint).map_err(fail)?, Buffers::new(config)).map_err(fail)?;
    let address = listener.local_addr().map_err(fail)?;
    http::serve(listener, Arc::clone(outside)).map_err(fail)?;
    tracing::info!("metrics: http://{address}/metrics");
    Ok(())
}

/// Each shard gets a store of its own, and of those left over from a start with more shards every so-manieth.
fn dealt(opened: Vec<Opened>, shards: u16) -> Vec<Vec<Opened>> {
    let mut by_shard: Vec<Vec<Opened>> = (0..shards).map(|_| Vec::new()).collect();
    for store in opened {
        by_shard[usize::from(store.file.id.0 % shards)].push(store);
    }
    by_shard
}

/// The stores of a node, and which of its shards serves each.
fn directories(set: u64, count: u16, shards: u16) -> Arc<[Directory]> {
    let directory = |store| Directory {
        id: DirectoryId::new(set, StoreId(store)),
        shard: ShardId(store % shards),
    };
    (0..count).map(directory).collect()
}

/// What makes this node one of several, if it is; `number` counts its starts, `start` is drawn by chance.
fn cluster(
    config: &BrokerConfig,
    directories: &[Directory],
    number: u64,
    start: u64,
) -> Option<Arc<ClusterSetup>> {
    let others: Vec<PeerAddress> = config
        .other_voters()
        .into_iter()
        .map(|VoterAddress { node, host, port }| PeerAddress { node, host, port })
        .collect();
    let me = NodeFacts {
        node: config.node(),
        directory: directories.first()?.id,
        incarnation: Incarnation(number),
        start,
        levels: FEATURE_LEVELS,
        cluster_id: None,
    };
    let reached = config.reached().map(|endpoint| BrokerAddress {
        listener: endpoint.name,
        host: endpoint.host,
        port: endpoint.port,
        shards: Vec::new(),
    });
    let cluster = || ClusterSetup {
        me,
        others,
        observes: config.observes(),
        may_vote: !config.is_broker_alone(),
        servers: config.quorum_servers(),
        reached,
    };
    config.is_member().then(|| Arc::new(cluster()))
}

fn resolve(endpoint: &Endpoint) -> io::Result<SocketAddr> {
    if endpoint.host.is_empty() {
        // Both families through one socket, where the machine has IPv6 at all.
        let any = SocketAddr::from(([0u16; 8], endpoint.port));
        let v6 = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP)).is_ok();
        return Ok(if v6 {
            any
        } else {
            SocketAddr::from(([0u8; 4], endpoint.port))
        });
    }
    (endpoint.host.as_str(), endpoint.port)
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the host has no address"))
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".to_owned())
}

fn seed() -> io::Result<u64> {
    let mut seed = [0; 8];
    io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut seed)?;
    Ok(u64::from_ne_bytes(seed))
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
