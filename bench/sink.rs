//! `sink`: a broker stand-in that says "stored" to everything and stores nothing.
//! What the generator reaches against it is the generator's own limit; a broker that
//! comes near that is not what was measured.

use std::collections::HashMap;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use crate::args::SinkArgs;
use crate::socket::Socket;

const PRODUCE: i16 = 0;
const METADATA: i16 = 3;
const API_VERSIONS: i16 = 18;
const INIT_PRODUCER_ID: i16 = 22;
/// Keys and versions of what is answered: versions whose answers are simple.
const APIS: [(i16, i16, i16); 4] = [
    (PRODUCE, 8, 8),
    (METADATA, 4, 4),
    (API_VERSIONS, 0, 3),
    (INIT_PRODUCER_ID, 0, 1),
];
/// Longest sleep, so that the end of the time given is noticed.
const SLEEP_MAX: Duration = Duration::from_millis(100);
/// Events taken from the kernel at once.
const EVENTS_MAX: usize = 256;
/// The event of somebody who wants to connect; connections count from 1.
const LISTENER: u64 = 0;
/// The only broker.
const NODE: i32 = 1;

/// Runs until it is killed, or for `--seconds`.
pub fn run(args: &SinkArgs) -> Result<(), String> {
    let named = |error| format!("cannot listen on {}: {error}", args.listen);
    let listener = TcpListener::bind(&args.listen).map_err(named)?;
    let address = listener.local_addr().map_err(named)?;
    if let Some(core) = args.core
        && !core_affinity::set_for_current(core_affinity::CoreId { id: core })
    {
        return Err(format!(
            "cannot pin to core {core}: is it one of this machine's?"
        ));
    }
    println!("sink on {address}: answers every produce and stores nothing");
    let site = Site {
        host: address.ip().to_string(),
        port: address.port(),
        partitions: args.partitions,
    };
    let end = args
        .seconds
        .map(|s| Instant::now() + Duration::from_secs(s));
    serve(&listener, &site, end).map_err(|error| format!("sink: {error}"))
}

/// What Metadata tells: this address, and every topic asked for with so many partitions.
#[derive(Debug)]
struct Site {
    host: String,
    port: u16,
    partitions: i32,
}

/// One thread for all connections, so that it costs as little as it can.
fn serve(listener: &TcpListener, site: &Site, end: Option<Instant>) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let poller = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let data = epoll::EventData::new_u64;
    epoll::add(&poller, listener, data(LISTENER), epoll::EventFlags::IN)?;
    let mut sockets: HashMap<u64, Socket> = HashMap::new();
    let mut number = LISTENER;
    let mut events: Vec<epoll::Event> = Vec::with_capacity(EVENTS_MAX);
    while end.is_none_or(|end| Instant::now() < end) {
        events.clear();
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(SLEEP_MAX.subsec_nanos()),
        };
        match epoll::wait(&poller, spare_capacity(&mut events), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            let id = event.data.u64();
            if id == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    let socket = Socket::new(stream)?;
                    number += 1;
                    epoll::add(&poller, socket.fd(), data(number), epoll::EventFlags::IN)?;
                    sockets.insert(number, socket);
                }
            } else if let Some(socket) = sockets.get_mut(&id)
                && exchange(socket, site).is_err()
            {
                // It has gone, or is no client of ours. Closing it takes it out of the poller.
                sockets.remove(&id);
            }
            // An answer that did not fit goes out when there is room.
            let flags = event.flags;
            let was_full = flags.contains(epoll::EventFlags::OUT);
            if let Some(socket) = sockets.get(&id)
                && (was_full || socket.is_sending())
            {
                let mut flags = epoll::EventFlags::IN;
                flags.set(epoll::EventFlags::OUT, socket.is_sending());
                epoll::modify(&poller, socket.fd(), data(id), flags)?;
            }
        }
    }
    Ok(())
}

/// Takes what has come in, and answers it together.
fn exchange(socket: &mut Socket, site: &Site) -> Result<(), String> {
    let mut answers = BytesMut::new();
    let received = socket.receive(|frame| {
        answer(&frame, site, &mut answers).ok_or_else(|| String::from("not understood"))
    });
    if !answers.is_empty() {
        socket.queue(vec![answers.freeze()]);
    }
    socket.flush().map_err(|error| error.to_string())?;
    received
}

/// Appends the answer to a request, length prefix included, if there is to be one. `None` if the
/// request makes no sense.
fn answer(request: &[u8], site: &Site, out: &mut BytesMut) -> Option<()> {
    let mut rest = Fields(request);
    let (key, version, correlation_id) = (rest.i16()?, rest.i16()?, rest.i32()?);
    let body = match key {
        API_VERSIONS => api_versions(version),
        METADATA => {
            rest.text()?;
            metadata(&mut rest, site)?
        }
        INIT_PRODUCER_ID => init_producer_id(),
        PRODUCE => {
            rest.text()?;
            match produced(&mut rest)? {
                Some(body) => body,
                None => return Some(()),
            }
        }
        _ => return None,
    };
    out.put_u32(4 + body.len() as u32);
    out.put_i32(correlation_id);
    out.extend_from_slice(&body);
    Some(())
}

fn api_versions(version: i16) -> Bytes {
    let flexible = version == 3;
    let mut out = BytesMut::new();
    // UNSUPPORTED_VERSION is answered in version 0, and the client asks again.
    out.put_i16(if (0..=3).contains(&version) { 0 } else { 35 });
    if flexible {
        out.put_u8(APIS.len() as u8 + 1);
    } else {
        out.put_i32(APIS.len() as i32);
    }
    for (key, min, max) in APIS {
        out.put_i16(key);
        out.put_i16(min);
        out.put_i16(max);
        if flexible {
            out.put_u8(0);
        }
    }
    if (1..=3).contains(&version) {
        out.put_i32(0);
    }
    if flexible {
        out.put_u8(0);
    }
    out.freeze()
}

fn metadata(rest: &mut Fields<'_>, site: &Site) -> Option<Bytes> {
    let mut out = BytesMut::new();
    out.put_i32(0);
    out.put_i32(1);
    out.put_i32(NODE);
    put_text(&mut out, &site.host);
    out.put_i32(site.port.into());
    out.put_i16(-1);
    put_text(&mut out, "sink");
    out.put_i32(NODE);
    let topics = rest.i32()?.max(0);
    out.put_i32(topics);
    for _ in 0..topics {
        out.put_i16(0);
        put_text(&mut out, rest.text()?);
        out.put_u8(0);
        out.put_i32(site.partitions);
        for partition in 0..site.partitions {
            out.put_i16(0);
            out.put_i32(partition);
            out.put_i32(NODE);
            // Itself, as all replicas and as those in sync.
            for _ in 0..2 {
                out.put_i32(1);
                out.put_i32(NODE);
            }
        }
    }
    Some(out.freeze())
}

fn init_producer_id() -> Bytes {
    let mut out = BytesMut::new();
    out.put_i32(0);
    out.put_i16(0);
    out.put_i64(1);
    out.put_i16(0);
    out.freeze()
}

/// "Stored at offset 0", for every batch; nothing for acks 0.
fn produced(rest: &mut Fields<'_>) -> Option<Option<Bytes>> {
    rest.text()?;
    let acks = rest.i16()?;
    let _timeout = rest.i32()?;
    let topics = rest.i32()?;
    let mut out = BytesMut::with_capacity(64);
    out.put_i32(topics);
    for _ in 0..topics {
        put_text(&mut out, rest.text()?);
        let partitions = rest.i32()?;
        out.put_i32(partitions);
        for _ in 0..partitions {
            out.put_i32(rest.i32()?);
            let len = usize::try_from(rest.i32()?).ok()?;
            rest.take(len)?;
            out.put_i16(0);
            out.put_i64(0);
            out.put_i64(-1);
            out.put_i64(0);
            out.put_i32(0);
            out.put_i16(-1);
        }
    }
    out.put_i32(0);
    Some((acks != 0).then(|| out.freeze()))
}

fn put_text(out: &mut BytesMut, text: &str) {
    out.put_i16(text.len() as i16);
    out.extend_from_slice(text.as_bytes());
}

/// What is left of a request.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn i16(&mut self) -> Option<i16> {
        Some(i16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn i32(&mut self) -> Option<i32> {
        Some(i32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    /// A string; null is empty.
    fn text(&mut self) -> Option<&'a str> {
        let len = usize::try_from(self.i16()?).unwrap_or(0);
        std::str::from_utf8(self.take(len)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_client::{Cluster, NewTopic, ensure_topic};

    /// The client of this program finds in it a broker with every topic.
    #[test]
    fn a_client_takes_it_for_a_broker() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let site = Site {
            host: String::from("127.0.0.1"),
            port: address.port(),
            partitions: 3,
        };
        std::thread::spawn(move || serve(&listener, &site, None));
        let patience = Duration::from_secs(10);
        let mut cluster = Cluster::connect(&address.to_string(), patience).unwrap();
        let new = NewTopic {
            name: "any",
            partitions: 1,
            replication: 1,
            configs: &[],
        };
        let topic = ensure_topic(&mut cluster, &new).unwrap();
        assert_eq!((topic.name.as_str(), topic.partitions.len()), ("any", 3));
        assert!(topic.partitions.iter().all(|p| p.leader == NODE));
    }

    #[test]
    fn nonsense_ends_the_connection() {
        let site = Site {
            host: String::new(),
            port: 1,
            partitions: 1,
        };
        for request in [
            &b""[..],
            b"\0\x03\0\x04\0\0\0\x01\0\x05ab",
            b"\0\x63\0\0\0\0\0\0",
        ] {
            assert!(answer(request, &site, &mut BytesMut::new()).is_none());
        }
    }
}
