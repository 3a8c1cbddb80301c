//! The connections that a shard opens to other nodes. What comes and goes on one are frames, as on the connections of
//! clients, so the other end of it is an ordinary one of the other node.
//!
//! Nothing here makes the shard's thread wait: a socket is connected without blocking, and the ring says when that is
//! over; names are looked up by a thread that lives for as long as the lookup, one for each host at a time.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::frame::FrameReader;
use super::ring::{Done, Op, Ring, SLICES_MAX, SendBatch};
use super::sys;
use super::tag::Tag;
use crate::base::limits::{
    LINK_FRAME_BYTES_MAX, LINK_UNACKNOWLEDGED_MS_MAX, LINK_UP_WITHIN_MS, LOOKUP_KEPT_MS,
    LOOKUPS_MAX,
};
use crate::base::{IdMap, Mono};
use crate::broker::{Input, LinkId, LinkLost};

/// Most bytes of one send, so that one link does not keep the core for long.
const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// A link from when it is asked for until its socket is not used any more.
struct Link {
    state: State,
    /// It is over for the shard, which was told so or has said so.
    over: bool,
}

enum State {
    /// The name of this host is being looked up. Nothing is in flight.
    Resolving {
        host: String,
        port: u16,
        until: Mono,
    },
    /// An operation waits for the outcome.
    Connecting(Connecting),
    Up(Stream),
}

/// What is left to be tried.
struct Attempts {
    rest: VecDeque<SocketAddr>,
    until: Mono,
    /// Why the addresses before were nothing.
    failed: Option<LinkLost>,
}

impl Attempts {
    const fn new(rest: VecDeque<SocketAddr>, until: Mono) -> Self {
        let failed = None;
        Self {
            rest,
            until,
            failed,
        }
    }

    /// An address was nothing.
    fn fail(&mut self, why: LinkLost) {
        let before = self.failed.take();
        self.failed = Some(match before {
            Some(before) if weight(&before) >= weight(&why) => before,
            _ => why,
        });
    }
}

struct Connecting {
    socket: TcpStream,
    left: Attempts,
    /// This address has its share of the time until then.
    until: Mono,
    /// It has had it.
    is_late: bool,
}

/// A connected link.
struct Stream {
    socket: TcpStream,
    frames: FrameReader,
    receiving: bool,
    sending: bool,
    queue: VecDeque<Bytes>,
}

impl Link {
    /// Whether no operation is in flight on its socket.
    fn is_still(&self) -> bool {
        match &self.state {
            State::Resolving { .. } => true,
            State::Connecting(_) => false,
            State::Up(stream) => !stream.receiving && !stream.sending,
        }
    }

    /// Ends what is in flight.
    fn shut(&mut self) {
        match &mut self.state {
            State::Resolving { .. } => {}
            State::Connecting(connecting) => {
                connecting.left.rest.clear();
                sys::shutdown_socket(connecting.socket.as_raw_fd());
            }
            State::Up(stream) => {
                stream.queue.clear();
                sys::shutdown_socket(stream.socket.as_raw_fd());
            }
        }
    }

    fn deadline(&self) -> Mono {
        match &self.state {
            _ if self.over => Mono::NEVER,
            State::Resolving { until, .. } => *until,
            // Its socket is shut, of which the ring tells at once.
            State::Connecting(connecting) if connecting.is_late => connecting.left.until,
            State::Connecting(connecting) => connecting.until,
            State::Up(_) => Mono::NEVER,
        }
    }
}

/// The links of a shard.
pub struct Links {
    links: IdMap<LinkId, Link>,
    lookups: Lookups,
}

impl Links {
    /// None yet. `wake` wakes the shard from another thread.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            links: IdMap::default(),
            lookups: Lookups {
                resolve,
                wake: Arc::new(wake),
                found: Arc::default(),
                by_host: BTreeMap::new(),
            },
        }
    }

    /// Begins to connect.
    pub fn dial(
        &mut self,
        id: LinkId,
        (host, port): (&str, u16),
        now: Mono,
        ring: &mut Ring<Tag>,
        inputs: &mut VecDeque<Input>,
    ) {
        let until = now.plus_ms(LINK_UP_WITHIN_MS);
        if let Ok(ip) = host.parse::<IpAddr>() {
            let left = Attempts::new([SocketAddr::new(ip, port)].into(), until);
            return self.connect(id, left, now, ring, inputs);
        }
        match self.lookups.ask(host, now) {
            Ok(Some(addresses)) => {
                let left = Attempts::new(at_port(&addresses, port), until);
                self.connect(id, left, now, ring, inputs);
            }
            Ok(None) => {
                let host = host.to_owned();
                let state = State::Resolving { host, port, until };
                self.links.insert(id, Link { state, over: false });
            }
            Err(why) => {
                let why = LinkLost::Unresolved(why);
                inputs.push_back(Input::LinkDown { link: id, why });
            }
        }
    }

    /// Sends bytes behind those that wait; dropped if there is no such link any more.
    pub fn send(&mut self, id: LinkId, pieces: Vec<Bytes>, ring: &mut Ring<Tag>) {
        let Some(link) = self.links.get_mut(&id).filter(|link| !link.over) else {
            return;
        };
        if let State::Up(stream) = &mut link.state {
            let pieces = pieces.into_iter().filter(|piece| !piece.is_empty());
            stream.queue.extend(pieces);
            stream.send(id, ring);
        }
    }

    /// The shard is done with a link. It is told nothing more of it.
    pub fn close(&mut self, id: LinkId) {
        if let Some(link) = self.links.get_mut(&id) {
            link.over = true;
            link.shut();
            if link.is_still() {
                self.links.remove(&id);
            }
        }
    }

    /// Ends everything, for the pump does.
    pub fn close_all(&mut self) {
        for link in self.links.values_mut() {
            link.over = true;
            link.shut();
        }
    }

    /// Whether a lookup has ended that [`Links::look_after`] has not seen.
    pub fn has_found(&self) -> bool {
        self.lookups.found.any.load(Ordering::SeqCst)
    }

    /// When [`Links::look_after`] has something to do even if nothing happens.
    pub fn deadline(&self) -> Mono {
        let deadlines = self.links.values().map(Link::deadline);
        deadlines.min().unwrap_or(Mono::NEVER)
    }

    /// Takes what was looked up, and gives up what takes too long.
    pub fn look_after(&mut self, now: Mono, ring: &mut Ring<Tag>, inputs: &mut VecDeque<Input>) {
        if self.has_found() {
            for (host, found) in self.lookups.take() {
                self.resolved(host, found, now, ring, inputs);
            }
        }
        let late = |(id, link): (&LinkId, &Link)| (link.deadline() <= now).then_some(*id);
        if self.links.is_empty() || self.deadline() > now {
            return;
        }
        for id in self.links.iter().filter_map(late).collect::<Vec<_>>() {
            self.late(id, now, inputs);
        }
    }

    /// A name was looked up, for those who wait for it or for the next one who asks.
    fn resolved(
        &mut self,
        host: String,
        found: Addresses,
        now: Mono,
        ring: &mut Ring<Tag>,
        inputs: &mut VecDeque<Input>,
    ) {
        let waits = |(id, link): (&LinkId, &Link)| match &link.state {
            State::Resolving {
                host: it,
                port,
                until,
            } if *it == host => Some((*id, *port, *until)),
            _ => None,
        };
        let waiting: Vec<_> = self.links.iter().filter_map(waits).collect();
        let all = match found {
            Ok(all) if waiting.is_empty() => return self.lookups.keep(host, all, now),
            found => found.map_err(|error| error.to_string()),
        };
        for (link, port, until) in waiting {
            self.links.remove(&link);
            match &all {
                Ok(all) => {
                    let left = Attempts::new(at_port(all, port), until);
                    self.connect(link, left, now, ring, inputs);
                }
                Err(why) => {
                    let why = LinkLost::Unresolved(why.clone());
                    inputs.push_back(Input::LinkDown { link, why });
                }
            }
        }
    }

    /// A link, or one of its addresses, has had its time.
    fn late(&mut self, id: LinkId, now: Mono, inputs: &mut VecDeque<Input>) {
        let why = match self.links.get_mut(&id).map(|link| &mut link.state) {
            Some(State::Connecting(it)) if it.left.until > now && !it.left.rest.is_empty() => {
                it.is_late = true;
                return sys::shutdown_socket(it.socket.as_raw_fd());
            }
            Some(State::Resolving { .. }) => {
                LinkLost::Unresolved("it is still being looked up".to_owned())
            }
            _ => LinkLost::TimedOut,
        };
        self.lose(id, why, inputs);
    }

    /// Takes the completion of an operation on a link.
    pub fn on_done(
        &mut self,
        id: LinkId,
        done: Done<Tag>,
        now: Mono,
        ring: &mut Ring<Tag>,
        inputs: &mut VecDeque<Input>,
    ) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        match &mut link.state {
            State::Resolving { .. } => {}
            State::Connecting(_) if link.over => drop(self.links.remove(&id)),
            State::Connecting(_) => self.on_connected(id, &done, now, ring, inputs),
            State::Up(stream) => {
                let lost = stream.on_done(id, done, link.over, ring, inputs);
                if let Err(why) = lost {
                    self.lose(id, why, inputs);
                } else if link.over && link.is_still() {
                    self.links.remove(&id);
                }
            }
        }
    }

    /// The shard is told, once, that a link is gone.
    fn lose(&mut self, id: LinkId, why: LinkLost, inputs: &mut VecDeque<Input>) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        if !std::mem::replace(&mut link.over, true) {
            inputs.push_back(Input::LinkDown { link: id, why });
            link.shut();
        }
        if link.is_still() {
            self.links.remove(&id);
        }
    }

    /// Tries one address after the other: each has its share of the time that is left.
    fn connect(
        &mut self,
        id: LinkId,
        mut left: Attempts,
        now: Mono,
        ring: &mut Ring<Tag>,
        inputs: &mut VecDeque<Input>,
    ) {
        while let Some(address) = left.rest.pop_front() {
            match begin(address) {
                Ok(socket) => {
                    let fd = socket.as_raw_fd();
                    ring.push(Tag::Link(id), Op::Writable { fd });
                    let share = left.until.0.saturating_sub(now.0) / (left.rest.len() as u64 + 1);
                    let state = State::Connecting(Connecting {
                        socket,
                        left,
                        until: Mono(now.0.saturating_add(share)),
                        is_late: false,
                    });
                    self.links.insert(id, Link { state, over: false });
                    return;
                }
                Err(error) => left.fail(lost_by(&error)),
            }
        }
        let nowhere = || LinkLost::Unresolved("the host has no address".to_owned());
        let why = left.failed.unwrap_or_else(nowhere);
        inputs.push_back(Input::LinkDown { link: id, why });
    }

    fn on_connected(
        &mut self,
        id: LinkId,
        done: &Done<Tag>,
        now: Mono,
        ring: &mut Ring<Tag>,
        inputs: &mut VecDeque<Input>,
    ) {
        let Some(Link {
            state: State::Connecting(connecting),
            ..
        }) = self.links.remove(&id)
        else {
            return;
        };
        let Connecting {
            socket,
            mut left,
            is_late,
            ..
        } = connecting;
        let waited = done.result.map_err(io::Error::from_raw_os_error);
        match waited.and_then(|_| finish(&socket)) {
            Ok(()) if !is_late => {
                let mut stream = Stream {
                    socket,
                    frames: FrameReader::new(LINK_FRAME_BYTES_MAX),
                    receiving: false,
                    sending: false,
                    queue: VecDeque::new(),
                };
                inputs.push_back(Input::LinkUp { link: id });
                stream.receive(id, true, ring);
                let state = State::Up(stream);
                self.links.insert(id, Link { state, over: false });
            }
            failed => {
                left.fail(match failed {
                    Err(error) if !is_late => lost_by(&error),
                    _ => LinkLost::TimedOut,
                });
                drop(socket);
                self.connect(id, left, now, ring, inputs);
            }
        }
    }
}

impl Stream {
    fn receive(&mut self, id: LinkId, wait_first: bool, ring: &mut Ring<Tag>) {
        self.receiving = true;
        let op = Op::ReceiveLent {
            fd: self.socket.as_raw_fd(),
            data: None,
            wait_first,
        };
        ring.push(Tag::Link(id), op);
    }

    fn send(&mut self, id: LinkId, ring: &mut Ring<Tag>) {
        if self.sending || self.queue.is_empty() {
            return;
        }
        let mut batch = Box::<SendBatch>::default();
        let mut bytes = 0;
        while bytes < BATCH_BYTES_MAX
            && batch.slices() < SLICES_MAX
            && let Some(piece) = self.queue.pop_front()
        {
            bytes += piece.len();
            batch.push(piece);
        }
        self.push_send(id, batch, ring);
    }

    fn push_send(&mut self, id: LinkId, batch: Box<SendBatch>, ring: &mut Ring<Tag>) {
        self.sending = true;
        let fd = self.socket.as_raw_fd();
        ring.push(Tag::Link(id), Op::Send { fd, batch });
    }

    /// `Err`: it is no link any more.
    fn on_done(
        &mut self,
        id: LinkId,
        done: Done<Tag>,
        over: bool,
        ring: &mut Ring<Tag>,
        inputs: &mut VecDeque<Input>,
    ) -> Result<(), LinkLost> {
        match done.op {
            Op::Send { mut batch, .. } => {
                self.sending = false;
                let sent = done.result;
                let bytes = sent.map_err(|errno| lost_by(&io::Error::from_raw_os_error(errno)))?;
                if over {
                    return Ok(());
                }
                inputs.push_back(Input::LinkSent { link: id, bytes });
                batch.advance(bytes);
                if batch.is_empty() {
                    self.send(id, ring);
                } else {
                    self.push_send(id, batch, ring);
                }
                Ok(())
            }
            Op::ReceiveLent { data, .. } => {
                self.receiving = false;
                match done.result {
                    _ if over => return Ok(()),
                    Ok(0) => return Err(LinkLost::Closed),
                    // All buffers are lent to others, who give them back.
                    Err(libc::ENOBUFS) => {}
                    Err(errno) => return Err(lost_by(&io::Error::from_raw_os_error(errno))),
                    Ok(_) => self.take(id, data.as_deref().unwrap_or_default(), inputs)?,
                }
                self.receive(id, !done.more, ring);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Takes the frames out of what was received.
    fn take(
        &mut self,
        id: LinkId,
        bytes: &[u8],
        inputs: &mut VecDeque<Input>,
    ) -> Result<(), LinkLost> {
        let fed = self.frames.feed(bytes);
        while let Some(frame) = self.frames.pop() {
            inputs.push_back(Input::LinkReceived { link: id, frame });
        }
        fed.map_err(|_| LinkLost::Garbage)
    }
}

/// Begins to connect to an address.
fn begin(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket.into()),
    }
}

/// A socket is connected, or will not be.
fn finish(socket: &TcpStream) -> io::Result<()> {
    if let Some(error) = socket.take_error()? {
        return Err(error);
    }
    // Where nobody listens on a port of this machine, the system may connect a socket to itself: it chooses that very
    // port for it.
    if socket.peer_addr()? == socket.local_addr()? {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    // The ring waits by itself only for a socket that blocks.
    socket.set_nonblocking(false)?;
    socket.set_nodelay(true)?;
    let unacknowledged = Duration::from_millis(LINK_UNACKNOWLEDGED_MS_MAX);
    SockRef::from(socket).set_tcp_user_timeout(Some(unacknowledged))
}

/// How much a failure of one of a host's addresses says against that nobody is there: a refusal says that somebody is,
/// who knows of nobody; and this machine's own word, that it has no way, says nothing.
const fn weight(why: &LinkLost) -> u8 {
    match why {
        LinkLost::NoWay(_) => 0,
        LinkLost::Refused => 1,
        _ => 2,
    }
}

fn lost_by(error: &io::Error) -> LinkLost {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::ConnectionRefused => LinkLost::Refused,
        Kind::TimedOut => LinkLost::TimedOut,
        Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe => LinkLost::Reset,
        Kind::NetworkUnreachable | Kind::HostUnreachable | Kind::AddrNotAvailable => {
            LinkLost::NoWay(error.to_string())
        }
        _ if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => LinkLost::NoWay(error.to_string()),
        _ => LinkLost::Failed(error.to_string()),
    }
}

/// Names being looked up, each by a thread of its own: getaddrinfo(3) waits for as long as it likes. A name is looked
/// up once at a time, however often it is asked for meanwhile, and what comes late is kept for the next one who asks.
struct Lookups {
    resolve: fn(&str) -> Addresses,
    wake: Arc<dyn Fn() + Send + Sync>,
    found: Arc<Found>,
    by_host: BTreeMap<String, Lookup>,
}

enum Lookup {
    Running,
    /// Nobody has waited for it. Kept until then.
    Found(Vec<SocketAddr>, Mono),
}

/// What the threads have found.
#[derive(Default)]
struct Found {
    /// Whether there is something in `all`.
    any: AtomicBool,
    all: Mutex<Vec<(String, Addresses)>>,
}

/// Addresses of a host, their ports being nothing.
type Addresses = io::Result<Vec<SocketAddr>>;

fn resolve(host: &str) -> Addresses {
    (host, 0).to_socket_addrs().map(Iterator::collect)
}

fn at_port(addresses: &[SocketAddr], port: u16) -> VecDeque<SocketAddr> {
    let mut all: VecDeque<SocketAddr> = addresses.iter().copied().collect();
    all.iter_mut().for_each(|address| address.set_port(port));
    all
}

impl Lookups {
    /// The addresses of a host, or none yet: then [`Lookups::take`] has them some time.
    fn ask(&mut self, host: &str, now: Mono) -> Result<Option<Vec<SocketAddr>>, String> {
        self.by_host
            .retain(|_, lookup| !matches!(lookup, Lookup::Found(_, until) if *until <= now));
        match self.by_host.remove(host) {
            // Once: the next one wants to know where it is then.
            Some(Lookup::Found(addresses, _)) => return Ok(Some(addresses)),
            None => self.begin(host)?,
            Some(Lookup::Running) => {}
        }
        self.by_host.insert(host.to_owned(), Lookup::Running);
        Ok(None)
    }

    fn begin(&self, host: &str) -> Result<(), String> {
        let running = self.by_host.values();
        let running = running.filter(|lookup| matches!(lookup, Lookup::Running));
        if running.count() >= LOOKUPS_MAX {
            return Err(format!(
                "{LOOKUPS_MAX} names are being looked up, and none of the servers asked for them answers"
            ));
        }
        let (resolve, found) = (self.resolve, Arc::clone(&self.found));
        let (wake, host) = (Arc::clone(&self.wake), host.to_owned());
        let thread = std::thread::Builder::new().name("lookup".into());
        let spawned = thread.spawn(move || {
            let addresses = resolve(&host);
            let mut all = found.all.lock().unwrap_or_else(PoisonError::into_inner);
            all.push((host, addresses));
            found.any.store(true, Ordering::SeqCst);
            drop(all);
            wake();
        });
        let failed = |error| format!("no thread to look it up: {error}");
        spawned.map(drop).map_err(failed)
    }

    /// Keeps what nobody has waited for.
    fn keep(&mut self, host: String, addresses: Vec<SocketAddr>, now: Mono) {
        let until = now.plus_ms(LOOKUP_KEPT_MS);
        self.by_host.insert(host, Lookup::Found(addresses, until));
    }

    fn take(&mut self) -> Vec<(String, Addresses)> {
        let all = self.found.all.lock();
        let mut all = all.unwrap_or_else(PoisonError::into_inner);
        self.found.any.store(false, Ordering::SeqCst);
        let all = std::mem::take(&mut *all);
        for (host, _) in &all {
            self.by_host.remove(host);
        }
        all
    }
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
