//! What a service manager is told, if one has started the process and asks for it: that it serves, and that it ends.
//! The protocol is that of sd_notify(3): a datagram to the socket that NOTIFY_SOCKET names, and nothing else.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// What there is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notification {
    /// Clients are let in, to all partitions that the node serves.
    Ready,
    /// No more clients are let in; what is in flight is ended.
    Stopping,
}

impl Notification {
    const fn text(self) -> &'static str {
        match self {
            Self::Ready => "READY=1\nSTATUS=serving\n",
            Self::Stopping => "STOPPING=1\nSTATUS=stopping\n",
        }
    }
}

/// Tells whoever started the process, if that is wanted. Nothing depends on its being heard.
pub fn tell(what: Notification) {
    let Some(to) = std::env::var_os("NOTIFY_SOCKET").filter(|to| !to.is_empty()) else {
        return;
    };
    if let Err(error) = send(&to, what) {
        tracing::warn!(
            "the service manager cannot be told that the broker is {what:?} (NOTIFY_SOCKET={}): {error}",
            to.display()
        );
    }
}

/// A name with an @ in front is one of Linux' own, which is no file.
fn send(to: &OsStr, what: Notification) -> io::Result<()> {
    let to = match to.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(to)?,
    };
    let socket = UnixDatagram::unbound()?;
    // A manager that does not read must not hold us up.
    socket.set_nonblocking(true)?;
    socket.send_to_addr(what.text().as_bytes(), &to).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 100];
        let len = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..len].to_vec()).unwrap()
    }

    #[test]
    fn a_manager_hears_it_by_either_kind_of_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str(), Notification::Ready).unwrap();
        assert!(heard(&socket).starts_with("READY=1\n"));
        let name = format!("millrace-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        send(OsStr::new(&format!("@{name}")), Notification::Stopping).unwrap();
        assert!(heard(&socket).starts_with("STOPPING=1\n"));
        let nobody = directory.path().join("nobody");
        assert!(send(nobody.as_os_str(), Notification::Ready).is_err());
    }
}
