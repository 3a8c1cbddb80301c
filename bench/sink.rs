//! `sink`: a broker stand-in that says "stored" to everything and stores nothing.
//! What the generator reaches against it is the generator's own limit; a broker that
//! comes near that is not what was measured.

use std::io::{BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use crate::args::SinkArgs;

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
/// Longest request, in bytes.
const FRAME_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Room for what comes in at once on a connection.
const INBOX_BYTES: usize = 256 * 1024;
/// The only broker.
const NODE: i32 = 1;

/// Runs until it is killed, or for `--seconds`.
pub fn run(args: &SinkArgs) -> Result<(), String> {
    let named = |error| format!("cannot listen on {}: {error}", args.listen);
    let listener = TcpListener::bind(&args.listen).map_err(named)?;
    let address = listener.local_addr().map_err(named)?;
    // Threads inherit it.
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
    let accept = move || {
        for stream in listener.incoming().flatten() {
            let site = site.clone();
            // An error means that the other side has gone or is no client of ours.
            std::thread::spawn(move || drop(serve(stream, &site)));
        }
    };
    match args.seconds {
        Some(seconds) => {
            std::thread::spawn(accept);
            std::thread::sleep(Duration::from_secs(seconds));
        }
        None => accept(),
    }
    Ok(())
}

/// What Metadata tells: this address, and every topic asked for with so many partitions.
#[derive(Clone, Debug)]
struct Site {
    host: String,
    port: u16,
    partitions: i32,
}

fn serve(stream: TcpStream, site: &Site) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut out = stream.try_clone()?;
    let mut input = BufReader::with_capacity(INBOX_BYTES, stream);
    let mut body = Vec::new();
    let mut answers = BytesMut::new();
    loop {
        let mut prefix = [0; 4];
        input.read_exact(&mut prefix)?;
        let len = u32::from_be_bytes(prefix) as usize;
        if len > FRAME_BYTES_MAX {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        body.resize(len, 0);
        input.read_exact(&mut body)?;
        answer(&body, site, &mut answers).ok_or(std::io::ErrorKind::InvalidData)?;
        // What came in together is answered together.
        if input.buffer().len() < 4 {
            out.write_all(&answers)?;
            answers.clear();
        }
    }
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
    use crate::client::{Cluster, NewTopic, ensure_topic};

    /// The client of this program finds in it a broker with every topic.
    #[test]
    fn a_client_takes_it_for_a_broker() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let site = Site {
                host: String::from("127.0.0.1"),
                port: address.port(),
                partitions: 3,
            };
            for stream in listener.incoming().flatten() {
                let site = site.clone();
                std::thread::spawn(move || drop(serve(stream, &site)));
            }
        });
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
