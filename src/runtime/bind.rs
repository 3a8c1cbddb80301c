//! Binds listening sockets.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::config::BrokerConfig;

/// How long a port may still be taken. The kernel tears io_uring instances down in the background, so
/// the listeners of a broker that was killed outlive its process by some milliseconds.
const PORT_FREE_WITHIN: Duration = Duration::from_secs(3);
/// Connections that the kernel completes before we accept them.
const BACKLOG: i32 = 1024;

/// Sizes of the buffers in the kernel, which accepted sockets have from their listener; the kernel decides where there
/// is none. It takes twice as much, for what is around the bytes, up to `net.core.wmem_max` and `rmem_max`.
#[derive(Clone, Copy, Default)]
pub struct Buffers {
    send: Option<usize>,
    receive: Option<usize>,
}

impl Buffers {
    /// As the settings say.
    pub fn new(config: &BrokerConfig) -> Self {
        let size = |bytes: i32| usize::try_from(bytes).ok().filter(|bytes| *bytes > 0);
        Self {
            send: size(config.socket_send_buffer_bytes),
            receive: size(config.socket_receive_buffer_bytes),
        }
    }
}

/// Binds a port that nobody else has, waiting a little for one that is just being given up.
pub fn claim(address: SocketAddr, buffers: Buffers) -> io::Result<TcpListener> {
    let deadline = Instant::now() + PORT_FREE_WITHIN;
    loop {
        match bind(address, false, buffers) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            bound => return bound,
        }
    }
}

/// Binds a port, one that others may have too if it is `shared`.
pub fn bind(address: SocketAddr, shared: bool, buffers: Buffers) -> io::Result<TcpListener> {
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
    if let Some(bytes) = buffers.send {
        socket.set_send_buffer_size(bytes)?;
    }
    if let Some(bytes) = buffers.receive {
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use socket2::SockRef;

    use super::*;

    #[test]
    fn accepted_sockets_have_the_buffers_that_the_settings_say() {
        let config = BrokerConfig {
            socket_receive_buffer_bytes: 50_000,
            ..BrokerConfig::default()
        };
        let listener = claim(([127, 0, 0, 1], 0).into(), Buffers::new(&config)).expect("a port");
        let address = listener.local_addr().expect("its address");
        let _client = std::net::TcpStream::connect(address).expect("connected");
        let (socket, _) = listener.accept().expect("a connection");
        let socket = SockRef::from(&socket);
        let sizes = (
            socket.send_buffer_size().expect("its size"),
            socket.recv_buffer_size().expect("its size"),
        );
        assert_eq!(sizes, (2 * 102_400, 2 * 50_000));
        let kernel = BrokerConfig {
            socket_send_buffer_bytes: -1,
            ..BrokerConfig::default()
        };
        let kernel = Buffers::new(&kernel);
        assert_eq!((kernel.send, kernel.receive), (None, None));
    }
}
