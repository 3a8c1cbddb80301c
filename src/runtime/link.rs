//! The connections that a shard opens to other nodes. What comes and goes on one are frames, as on the connections of
//! clients, so the other end of it is an ordinary one of the other node.
//!
//! Nothing here makes the shard's thread wait: a socket is connected without blocking, and the ring says when that is
//! over; names are looked up by a thread that lives for as long as the lookup.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::frame::FrameReader;
use super::ring::{Done, Op, Ring, SLICES_MAX, SendBatch};
use super::sys;
use super::tag::Tag;
use crate::base::limits::{
    LINK_FRAME_BYTES_MAX, LINK_UNACKNOWLEDGED_MS_MAX, LINK_UP_WITHIN_MS, LOOKUPS_MAX,
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
    /// The name is being looked up. Nothing is in flight.
    Resolving {
        until: Mono,
    },
    /// An operation waits for the outcome.
    Connecting(Connecting),
    Up(Stream),
}

struct Connecting {
    socket: TcpStream,
    /// Where to try next.
    rest: VecDeque<SocketAddr>,
    until: Mono,
    /// Why the addresses before were nothing. One that is refused says less than another one.
    failed: Option<LinkLost>,
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
                connecting.rest.clear();
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
            State::Resolving { until } => *until,
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
                wake: Arc::new(wake),
                running: Arc::default(),
                found: Arc::default(),
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
            return self.connect(id, [SocketAddr::new(ip, port)].into(), until, ring, inputs);
        }
        match self.lookups.begin(id, host, port) {
            Ok(()) => {
                let link = Link {
                    state: State::Resolving { until },
                    over: false,
                };
                self.links.insert(id, link);
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
            for (id, found) in self.lookups.take() {
                let Some(link) = self.links.remove(&id) else {
                    continue;
                };
                match (link.state, found) {
                    (State::Resolving { until }, Ok(addresses)) => {
                        self.connect(id, addresses, until, ring, inputs);
                    }
                    (_, Err(error)) => inputs.push_back(Input::LinkDown {
                        link: id,
                        why: LinkLost::Unresolved(error.to_string()),
                    }),
                    // An id is not used again.
                    (_, Ok(_)) => {}
                }
            }
        }
        let late = |(id, link): (&LinkId, &Link)| (link.deadline() <= now).then_some(*id);
        if self.links.is_empty() || self.deadline() > now {
            return;
        }
        for id in self.links.iter().filter_map(late).collect::<Vec<_>>() {
            self.lose(id, LinkLost::TimedOut, inputs);
        }
    }

    /// Takes the completion of an operation on a link.
    pub fn on_done(
        &mut self,
        id: LinkId,
        done: Done<Tag>,
        ring: &mut Ring<Tag>,
        inputs: &mut VecDeque<Input>,
    ) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        match &mut link.state {
            State::Resolving { .. } => {}
            State::Connecting(_) if link.over => drop(self.links.remove(&id)),
            State::Connecting(_) => self.on_connected(id, &done, ring, inputs),
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

    /// Tries one address after the other.
    fn connect(
        &mut self,
        id: LinkId,
        mut rest: VecDeque<SocketAddr>,
        until: Mono,
        ring: &mut Ring<Tag>,
        inputs: &mut VecDeque<Input>,
    ) {
        let mut failed = None;
        while let Some(address) = rest.pop_front() {
            match begin(address) {
                Ok(socket) => {
                    let fd = socket.as_raw_fd();
                    ring.push(Tag::Link(id), Op::Writable { fd });
                    let state = State::Connecting(Connecting {
                        socket,
                        rest,
                        until,
                        failed,
                    });
                    self.links.insert(id, Link { state, over: false });
                    return;
                }
                Err(error) => failed = Some(worse(failed, lost_by(&error))),
            }
        }
        let nowhere = || LinkLost::Unresolved("the host has no address".to_owned());
        let why = failed.unwrap_or_else(nowhere);
        inputs.push_back(Input::LinkDown { link: id, why });
    }

    fn on_connected(
        &mut self,
        id: LinkId,
        done: &Done<Tag>,
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
            rest,
            until,
            failed,
        } = connecting;
        let waited = done.result.map_err(io::Error::from_raw_os_error);
        match waited.and_then(|_| finish(&socket)) {
            Ok(()) => {
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
            Err(error) => {
                let why = worse(failed, lost_by(&error));
                if rest.is_empty() {
                    return inputs.push_back(Input::LinkDown { link: id, why });
                }
                drop(socket);
                self.connect(id, rest, until, ring, inputs);
                if let Some(Link {
                    state: State::Connecting(next),
                    ..
                }) = self.links.get_mut(&id)
                {
                    let later = next.failed.take();
                    next.failed = Some(later.map_or(why.clone(), |later| worse(Some(why), later)));
                }
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

/// Of two addresses of one host, what speaks less for that nobody is there.
fn worse(before: Option<LinkLost>, now: LinkLost) -> LinkLost {
    match before {
        Some(before) if before != LinkLost::Refused => before,
        _ => now,
    }
}

fn lost_by(error: &io::Error) -> LinkLost {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::ConnectionRefused => LinkLost::Refused,
        Kind::TimedOut => LinkLost::TimedOut,
        Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe => LinkLost::Reset,
        _ => LinkLost::Failed(error.to_string()),
    }
}

/// Names being looked up, each by a thread of its own: getaddrinfo(3) waits for as long as it likes.
struct Lookups {
    wake: Arc<dyn Fn() + Send + Sync>,
    running: Arc<AtomicUsize>,
    found: Arc<Found>,
}

/// What the threads have found.
#[derive(Default)]
struct Found {
    /// Whether there is something in `all`.
    any: AtomicBool,
    all: Mutex<Vec<(LinkId, Addresses)>>,
}

type Addresses = io::Result<VecDeque<SocketAddr>>;

impl Lookups {
    fn begin(&self, id: LinkId, host: &str, port: u16) -> Result<(), String> {
        // One that was given up goes on until the system lets it go.
        if self.running.load(Ordering::SeqCst) >= LOOKUPS_MAX {
            return Err(format!(
                "{LOOKUPS_MAX} names are being looked up, and none of the servers asked for them answers"
            ));
        }
        self.running.fetch_add(1, Ordering::SeqCst);
        let (running, found) = (Arc::clone(&self.running), Arc::clone(&self.found));
        let (wake, host) = (Arc::clone(&self.wake), host.to_owned());
        let thread = std::thread::Builder::new().name("lookup".into());
        let spawned = thread.spawn(move || {
            let addresses = (host.as_str(), port).to_socket_addrs();
            let addresses = addresses.map(Iterator::collect);
            let mut all = found.all.lock().unwrap_or_else(PoisonError::into_inner);
            all.push((id, addresses));
            found.any.store(true, Ordering::SeqCst);
            drop(all);
            running.fetch_sub(1, Ordering::SeqCst);
            wake();
        });
        spawned.map(drop).map_err(|error| {
            self.running.fetch_sub(1, Ordering::SeqCst);
            format!("no thread to look it up: {error}")
        })
    }

    fn take(&self) -> Vec<(LinkId, Addresses)> {
        let mut all = self
            .found
            .all
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.found.any.store(false, Ordering::SeqCst);
        std::mem::take(&mut all)
    }
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
