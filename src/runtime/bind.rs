//! Binds listening sockets.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

/// How long a port may still be taken. The kernel tears io_uring instances down in the background, so
/// the listeners of a broker that was killed outlive its process by some milliseconds.
const PORT_FREE_WITHIN: Duration = Duration::from_secs(3);
/// Connections that the kernel completes before we accept them.
const BACKLOG: i32 = 1024;

/// Binds a port that nobody else has, waiting a little for one that is just being given up.
pub fn claim(address: SocketAddr) -> io::Result<TcpListener> {
    let deadline = Instant::now() + PORT_FREE_WITHIN;
    loop {
        match bind(address, false) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            bound => return bound,
        }
    }
}

/// Binds a port, one that others may have too if it is `shared`.
pub fn bind(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    // A restart need not wait for the connections of the one before to time out.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
