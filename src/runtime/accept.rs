//! The listening sockets of a shard, accepted on through its ring, and the limits
//! on how many connections there may be.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

use super::logging::Often;
use super::ring::{Op, Ring};
use super::sys;
use super::tag::Tag;
use crate::base::Mono;
use crate::base::limits::ACCEPTS_PER_TURN;
use crate::broker::CONTROLLER_LISTENER;

/// How long to wait after a failure: out of descriptors or memory, most likely, so let some
/// connections end first.
const RETRY_MS: u64 = 50;

/// Connection counts of the whole node. A lock, but only where a connection begins or ends.
pub struct Admission {
    connections_max: usize,
    per_ip_max: usize,
    by_ip: Mutex<(usize, HashMap<IpAddr, usize>)>,
}

impl Admission {
    /// With Kafka's two limits.
    #[must_use]
    pub fn new(connections_max: usize, per_ip_max: usize) -> Arc<Self> {
        Arc::new(Self {
            connections_max,
            per_ip_max,
            by_ip: Mutex::default(),
        })
    }

    /// Those of a node with Kafka's two limits for clients: for them, and for other nodes, whose connections clients
    /// must not keep out.
    #[must_use]
    pub fn of_node(connections_max: usize, per_ip_max: usize) -> [Arc<Self>; 2] {
        let of_nodes = Self::new(connections_max, usize::MAX);
        [Self::new(connections_max, per_ip_max), of_nodes]
    }

    fn enter(&self, ip: IpAddr) -> Result<(), &'static str> {
        let mut counts = self.by_ip.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.0 >= self.connections_max {
            return Err("max.connections is reached");
        }
        let of_ip = counts.1.entry(ip).or_default();
        if *of_ip >= self.per_ip_max {
            return Err("max.connections.per.ip is reached");
        }
        *of_ip += 1;
        counts.0 += 1;
        Ok(())
    }

    fn leave(&self, ip: IpAddr) {
        let mut counts = self.by_ip.lock().unwrap_or_else(PoisonError::into_inner);
        counts.0 -= 1;
        if let Some(of_ip) = counts.1.get_mut(&ip) {
            *of_ip -= 1;
            if *of_ip == 0 {
                counts.1.remove(&ip);
            }
        }
    }
}

/// A connection's socket, which counts as one until it is dropped.
pub struct Accepted {
    /// The socket, in blocking mode.
    pub socket: TcpStream,
    /// The client.
    pub peer: SocketAddr,
    /// Index into the configured listeners.
    pub listener: usize,
    admission: Arc<Admission>,
}

impl Drop for Accepted {
    fn drop(&mut self) {
        self.admission.leave(self.peer.ip());
    }
}

struct Listener {
    /// Index into the configured listeners.
    index: usize,
    socket: TcpListener,
}

/// The listening sockets of a shard.
pub struct Acceptor {
    listeners: Vec<Listener>,
    admission: [Arc<Admission>; 2],
    /// Listeners by their place that are to be tried again, and when.
    failed: Vec<usize>,
    retry_at: Mono,
    stopped: bool,
    refused: Often,
}

impl Acceptor {
    /// For sockets that come with the index by which the configuration knows them; see [`Admission::of_node`].
    #[must_use]
    pub fn new(sockets: Vec<(usize, TcpListener)>, admission: [Arc<Admission>; 2]) -> Self {
        let listener = |(index, socket)| Listener { index, socket };
        Self {
            listeners: sockets.into_iter().map(listener).collect(),
            admission,
            failed: Vec::new(),
            retry_at: Mono::NEVER,
            stopped: false,
            refused: Often::default(),
        }
    }

    /// Begins to accept: so many at once that a crowd which comes again after a restart is taken in quickly,
    /// and so few that the others are served in between.
    pub fn start(&self, ring: &mut Ring<Tag>) {
        self.start_some(ring, |listener| listener.index != CONTROLLER_LISTENER);
    }

    /// The same for other nodes, which find each other before clients are let in.
    pub fn start_for_nodes(&self, ring: &mut Ring<Tag>) {
        self.start_some(ring, |listener| listener.index == CONTROLLER_LISTENER);
    }

    fn start_some(&self, ring: &mut Ring<Tag>, which: impl Fn(&Listener) -> bool) {
        let listeners = self.listeners.iter().enumerate();
        for (place, _) in listeners.filter(|(_, listener)| which(listener)) {
            for _ in 0..ACCEPTS_PER_TURN {
                self.accept(place, ring);
            }
        }
    }

    /// Accepts nothing more, at once: an operation in progress keeps its socket open for a while.
    pub fn stop(&mut self) {
        for listener in self.listeners.drain(..) {
            sys::shutdown_socket(listener.socket.as_raw_fd());
        }
        self.stopped = true;
        self.retry_at = Mono::NEVER;
    }

    /// When [`Acceptor::retry`] has something to do.
    #[must_use]
    pub fn retry_at(&self) -> Mono {
        self.retry_at
    }

    /// Tries again on sockets that failed, if it is time to.
    pub fn retry(&mut self, now: Mono, ring: &mut Ring<Tag>) {
        if now >= self.retry_at {
            self.retry_at = Mono::NEVER;
            for place in std::mem::take(&mut self.failed) {
                self.accept(place, ring);
            }
        }
    }

    /// Takes the completion of the listener at `place`: a connection, if there is one to serve.
    pub fn on_done(
        &mut self,
        place: usize,
        op: Op,
        result: Result<usize, i32>,
        now: Mono,
        ring: &mut Ring<Tag>,
    ) -> Option<Accepted> {
        if self.stopped {
            return None;
        }
        match (op, result) {
            (
                Op::Accept {
                    accepted: Some(socket),
                    ..
                },
                Ok(_),
            ) => {
                self.accept(place, ring);
                self.admit(socket, self.listeners[place].index)
            }
            (_, Err(libc::ECONNABORTED | libc::EINTR)) => {
                self.accept(place, ring);
                None
            }
            (_, result) => {
                let errno = result.err().unwrap_or(libc::EIO);
                self.refused.warn(|| {
                    let error = std::io::Error::from_raw_os_error(errno);
                    format!("cannot accept connections: {error}")
                });
                self.failed.push(place);
                self.retry_at = self.retry_at.min(now.plus_ms(RETRY_MS));
                None
            }
        }
    }

    fn accept(&self, place: usize, ring: &mut Ring<Tag>) {
        let fd = self.listeners[place].socket.as_raw_fd();
        ring.push(Tag::Accept(place), Op::Accept { fd, accepted: None });
    }

    fn admit(&mut self, socket: OwnedFd, listener: usize) -> Option<Accepted> {
        let socket = TcpStream::from(socket);
        // Fails if the connection is gone already.
        let peer = canonical(socket.peer_addr().ok()?);
        let [of_clients, of_nodes] = &self.admission;
        let admission = if listener == CONTROLLER_LISTENER {
            of_nodes
        } else {
            of_clients
        };
        if let Err(why) = admission.enter(peer.ip()) {
            self.refused
                .warn(|| format!("connection of {peer} refused: {why}"));
            return None;
        }
        // Without it small replies wait for the client's delayed acknowledgement; if it fails the
        // connection is already gone, which reading finds out.
        let _ = socket.set_nodelay(true);
        if listener == CONTROLLER_LISTENER {
            // Nothing goes to the other node by which it would be seen that its machine is gone.
            let keepalive = TcpKeepalive::new()
                .with_time(Duration::from_secs(60))
                .with_interval(Duration::from_secs(10))
                .with_retries(3);
            let _ = SockRef::from(&socket).set_tcp_keepalive(&keepalive);
        }
        Some(Accepted {
            socket,
            peer,
            listener,
            admission: Arc::clone(admission),
        })
    }
}

/// The address of a client as it knows it itself: a listener for both families sees IPv4 clients as
/// `::ffff:192.0.2.1`.
fn canonical(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those that are there already are taken by one submission.
    #[test]
    fn a_crowd_is_accepted_many_at_a_time() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let crowd: Vec<_> = (0..3 * ACCEPTS_PER_TURN)
            .map(|_| TcpStream::connect(address).expect("connected"))
            .collect();
        let admission = Admission::of_node(1000, 1000);
        let mut acceptor = Acceptor::new(vec![(0, listener)], admission);
        let mut ring = Ring::new().expect("a ring");
        acceptor.start(&mut ring);
        let mut all = Vec::new();
        while all.len() < crowd.len() {
            let before = all.len();
            ring.wait();
            while let Some(done) = ring.reap() {
                let Tag::Accept(place) = done.tag else {
                    panic!("nothing else was asked for");
                };
                all.extend(acceptor.on_done(place, done.op, done.result, Mono(0), &mut ring));
            }
            assert_eq!(all.len() - before, ACCEPTS_PER_TURN);
        }
        acceptor.stop();
    }

    #[test]
    fn clients_are_shown_as_they_know_themselves() {
        for (seen, shown) in [
            ("[::ffff:192.0.2.7]:5", "192.0.2.7:5"),
            ("192.0.2.7:5", "192.0.2.7:5"),
            ("[2001:db8::1]:5", "[2001:db8::1]:5"),
            ("[::1]:5", "[::1]:5"),
        ] {
            let seen: SocketAddr = seen.parse().expect("an address");
            assert_eq!(canonical(seen).to_string(), shown);
        }
    }

    #[test]
    fn clients_keep_no_node_out() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let mut acceptor = Acceptor::new(Vec::new(), Admission::of_node(2, 1));
        let mut come = |index| {
            let _client = TcpStream::connect(address).expect("connected");
            let (socket, _) = listener.accept().expect("accepted");
            acceptor.admit(socket.into(), index)
        };
        let client = come(0);
        assert!(client.is_some() && come(0).is_none());
        let nodes = [CONTROLLER_LISTENER; 2].map(&mut come);
        assert!(nodes.iter().all(Option::is_some), "from one machine");
        assert!(come(CONTROLLER_LISTENER).is_none());
    }

    #[test]
    fn admission_counts_both_limits() {
        let admission = Admission::new(3, 2);
        let (a, b) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        assert!(admission.enter(a).is_ok());
        assert!(admission.enter(a).is_ok());
        assert!(admission.enter(a).is_err_and(|why| why.contains("per.ip")));
        assert!(admission.enter(b).is_ok());
        assert!(
            admission
                .enter(b)
                .is_err_and(|why| why.contains("max.connections is"))
        );
        admission.leave(a);
        assert!(admission.enter(b).is_ok());
    }
}
