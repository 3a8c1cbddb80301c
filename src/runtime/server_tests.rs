//! Real sockets, real files, a fake shard (`fake.rs` says what frames make it do).

use std::io::{Read, Write};
use std::net::TcpStream;

use super::super::brain::{STORE_BYTES, pattern_bytes, scratch};
use super::super::disk::StoreFile;
use super::super::fatal::DIRECTORY;
use super::*;
use crate::base::StoreId;
use crate::config;
use std::path::Path;

#[path = "clients_tests.rs"]
mod clients;

struct Broker {
    server: Option<Server>,
    dir: tempfile::TempDir,
}

/// A server that lets nobody in yet.
fn started(dir: &Path, settings: &[(&str, &str)]) -> Result<Server, Fatal> {
    let dir = dir.display().to_string();
    let mut all = vec![("listeners", "PLAINTEXT://127.0.0.1:0"), ("log.dirs", &dir)];
    all.push(("millrace.shards", "2"));
    all.extend_from_slice(settings);
    let all: Vec<_> = all
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    Server::start(config::load(None, &all).expect("good settings"))
}

fn start_in(dir: &Path, settings: &[(&str, &str)]) -> Result<Server, Fatal> {
    started(dir, settings).inspect(Server::serve)
}

impl Broker {
    fn start(settings: &[(&str, &str)]) -> Self {
        let dir = scratch();
        let server = start_in(dir.path(), settings).expect("started");
        Self {
            server: Some(server),
            dir,
        }
    }

    fn connect(&self) -> Client {
        let address = self.server.as_ref().expect("running").addresses()[0];
        let socket = TcpStream::connect(address).expect("connected");
        socket.set_nodelay(true).expect("an option");
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect("an option");
        Client(socket)
    }

    fn stop(&mut self) -> Result<(), Fatal> {
        let server = self.server.take().expect("running");
        server.stopper().stop();
        server.wait()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if self.server.is_some() {
            let _ = self.stop();
        }
    }
}

struct Client(TcpStream);

fn framed(frame: &[u8]) -> Vec<u8> {
    [&(frame.len() as u32).to_be_bytes()[..], frame].concat()
}

fn command(name: u8, numbers: &[u64]) -> Vec<u8> {
    let numbers: Vec<_> = numbers.iter().flat_map(|n| n.to_be_bytes()).collect();
    [&[name][..], &numbers].concat()
}

impl Client {
    fn send(&mut self, frame: &[u8]) {
        self.0.write_all(&framed(frame)).expect("sent");
    }

    fn receive(&mut self) -> Vec<u8> {
        let mut prefix = [0; 4];
        self.0.read_exact(&mut prefix).expect("a reply");
        let mut reply = vec![0; u32::from_be_bytes(prefix) as usize];
        self.0.read_exact(&mut reply).expect("all of the reply");
        reply
    }

    fn call(&mut self, frame: &[u8]) -> Vec<u8> {
        self.send(frame);
        self.receive()
    }

    /// Whether the broker closes the connection without sending anything more.
    fn is_closed(&mut self) -> bool {
        matches!(self.0.read(&mut [0; 16]), Ok(0))
            || matches!(self.0.read(&mut [0; 1]), Err(e) if e.kind() == io::ErrorKind::ConnectionReset)
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    answers_in_order(&[]);
}

/// Requests, timers, writes, connections and the end all reach a core that is never found asleep.
#[test]
fn a_spinning_core_misses_nothing() {
    answers_in_order(&[("millrace.spin.us", "1000000")]);
}

fn answers_in_order(settings: &[(&str, &str)]) {
    let mut broker = Broker::start(settings);
    let mut clients: Vec<_> = (0..4).map(|_| broker.connect()).collect();
    for client in &mut clients {
        let mut bytes = Vec::new();
        for i in 0..500u32 {
            match i % 50 {
                7 => bytes.extend(framed(&command(b't', &[3]))),
                9 => bytes.extend(framed(b"n")),
                11 => bytes.extend(framed(&command(b'w', &[u64::from(i) << 12]))),
                _ => bytes.extend(framed(format!("echo {i}").as_bytes())),
            }
        }
        client.0.write_all(&bytes).expect("sent");
    }
    for client in &mut clients {
        for i in 0..500 {
            match i % 50 {
                7 => assert_eq!(client.receive(), b"late"),
                9 => {}
                11 => assert_eq!(client.receive(), b"done"),
                _ => assert_eq!(client.receive(), format!("echo {i}").as_bytes()),
            }
        }
    }
    broker.stop().expect("a clean stop");
}

#[test]
fn frames_may_be_split_anywhere_and_large() {
    let broker = Broker::start(&[]);
    let mut client = broker.connect();
    for byte in [framed(b"echo"), framed(b"efgh")].concat() {
        client.0.write_all(&[byte]).expect("sent");
    }
    assert_eq!(client.receive(), b"echo");
    assert_eq!(client.receive(), b"efgh");
    let large: Vec<u8> = std::iter::once(b'e')
        .chain((0..5_000_000u32).map(|i| i as u8))
        .collect();
    let mut writer = client.0.try_clone().expect("a second handle");
    let expected = large.clone();
    let sender = std::thread::spawn(move || {
        let all = [framed(b"e1"), framed(&large), framed(b"e2"), framed(&large)].concat();
        all.chunks(77_777)
            .for_each(|part| writer.write_all(part).expect("sent"));
    });
    assert_eq!(client.receive(), b"e1");
    assert!(client.receive() == expected);
    assert_eq!(client.receive(), b"e2");
    assert!(client.receive() == expected);
    sender.join().expect("sender");
}

#[test]
fn garbage_closes_its_own_connection_only() {
    let broker = Broker::start(&[("socket.request.max.bytes", "1000")]);
    let mut good = broker.connect();
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0x16, 3, 1, 0, 5],
        &[0; 4],
        &[0xff; 9],
    ] {
        let mut bad = broker.connect();
        bad.0.write_all(garbage).expect("sent");
        assert!(bad.is_closed());
        assert_eq!(good.call(b"echo"), b"echo");
    }
    // What came before it is still answered, however long that takes.
    let mut late = broker.connect();
    let asked =
        [command(b't', &[300]), vec![b'e'; 1000], vec![b'e'; 1001]].map(|frame| framed(&frame));
    late.0.write_all(&asked.concat()).expect("sent");
    assert_eq!(good.call(b"echo"), b"echo");
    assert_eq!(late.receive(), b"late");
    assert_eq!(late.receive(), [b'e'; 1000]);
    assert!(late.is_closed());
}

#[test]
fn a_slow_reader_holds_up_nobody_else() {
    const BYTES: usize = 10_000_000;
    let broker = Broker::start(&[]);
    let mut slow: Vec<_> = (0..4).map(|_| broker.connect()).collect();
    for client in &mut slow {
        for _ in 0..3 {
            client.send(&command(b'b', &[BYTES as u64]));
            client.send(&command(b'f', &[70_005, 3_000_000]));
        }
    }
    let mut quick: Vec<_> = (0..4).map(|_| broker.connect()).collect();
    let began = Instant::now();
    for _ in 0..100 {
        for client in &mut quick {
            assert_eq!(client.call(b"echo"), b"echo");
        }
    }
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    let expected = pattern_bytes(70_005, 3_000_000);
    for client in &mut slow {
        for _ in 0..3 {
            assert!(client.receive() == [b'b'; BYTES]);
            assert!(client.receive()[..3_000_000] == expected);
        }
    }
}

/// Sends until the socket takes no more for a while; how many bytes that was.
fn fill(client: &Client, bytes: &[u8]) -> usize {
    client.0.set_nonblocking(true).expect("mode");
    let (mut sent, mut idle) = (0, 0);
    while sent < bytes.len() && idle < 20 {
        match (&client.0).write(&bytes[sent..]) {
            Ok(n) => (sent, idle) = (sent + n, 0),
            Err(_) => {
                idle += 1;
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
    client.0.set_nonblocking(false).expect("mode");
    sent
}

#[test]
fn requests_in_progress_are_bounded_by_memory() {
    let broker = Broker::start(&[
        ("socket.request.max.bytes", "1000000"),
        ("message.max.bytes", "900000"),
        ("queued.max.request.bytes", "2000000"),
    ]);
    let mut client = broker.connect();
    let mut frame = command(b't', &[700]);
    frame.resize(1_000_000, 0);
    let frame = framed(&frame);
    let all: Vec<u8> = frame
        .iter()
        .copied()
        .cycle()
        .take(frame.len() * 40)
        .collect();
    // There is memory for one frame and a part, and one more may overdraw; the rest has to stay in
    // socket buffers, which hold a few MB.
    let sent = fill(&client, &all);
    assert!(sent < 30_000_000, "{sent} bytes were taken");
    // Others with small requests come through in the meantime.
    assert_eq!(broker.connect().call(b"echo"), b"echo");
    let rest = all[sent..].to_vec();
    let mut writer = client.0.try_clone().expect("a second handle");
    let count = sent / frame.len() + 3;
    let sender = std::thread::spawn(move || writer.write_all(&rest));
    for _ in 0..count.min(6) {
        assert_eq!(client.receive(), b"late");
    }
    drop(client.0.shutdown(std::net::Shutdown::Both));
    drop(sender.join());
}

#[test]
fn requests_in_progress_are_bounded_by_number() {
    let broker = Broker::start(&[]);
    let mut client = broker.connect();
    let one = framed(&command(b't', &[250]));
    let began = Instant::now();
    let n = crate::base::limits::CONN_IN_FLIGHT_MAX;
    client.0.write_all(&one.repeat(2 * n)).expect("sent");
    for i in 0..2 * n {
        assert_eq!(client.receive(), b"late");
        let expected = if i < n { 250 } else { 500 };
        assert!(
            began.elapsed() >= Duration::from_millis(expected),
            "reply {i}"
        );
    }
}

#[test]
fn half_frames_do_not_wait_for_each_other_for_ever() {
    let broker = Broker::start(&[
        ("socket.request.max.bytes", "1000000"),
        ("message.max.bytes", "900000"),
        ("queued.max.request.bytes", "1000000"),
    ]);
    let clients: Vec<_> = (0..6).map(|_| broker.connect()).collect();
    let mut frame = vec![b'e'; 900_000];
    frame[899_999] = 7;
    let bytes = framed(&frame);
    let threads: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            let (bytes, frame) = (bytes.clone(), frame.clone());
            std::thread::spawn(move || {
                let mut writer = client.0.try_clone().expect("a second handle");
                let sender = std::thread::spawn(move || {
                    for part in bytes.chunks(300_000) {
                        writer.write_all(part).expect("sent");
                        std::thread::sleep(Duration::from_millis(20));
                    }
                });
                assert!(client.receive() == frame);
                sender.join().expect("sender");
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("every one is answered");
    }
}

#[test]
fn a_thousand_connections() {
    let broker = Broker::start(&[]);
    let mut clients: Vec<_> = (0..1000).map(|_| broker.connect()).collect();
    for round in 0..3 {
        for (i, client) in clients.iter_mut().enumerate() {
            client.send(format!("e{round}-{i}").as_bytes());
        }
        for (i, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.receive(), format!("e{round}-{i}").as_bytes());
        }
    }
}

#[test]
fn connection_limits_are_kept() {
    let broker = Broker::start(&[("max.connections.per.ip", "2")]);
    let (mut a, mut b) = (broker.connect(), broker.connect());
    assert_eq!(a.call(b"e1"), b"e1");
    assert_eq!(b.call(b"e2"), b"e2");
    assert!(broker.connect().is_closed());
    drop(a);
    let again = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        let mut client = broker.connect();
        let _ = client.0.write_all(&framed(b"e3"));
        matches!(client.0.read(&mut [0; 6]), Ok(6))
    });
    assert!(again, "a place that was given up is given away");
}

#[test]
fn idle_connections_are_closed_busy_ones_are_not() {
    let broker = Broker::start(&[("connections.max.idle.ms", "300")]);
    let (mut idle, mut busy) = (broker.connect(), broker.connect());
    busy.send(&command(b't', &[2500]));
    let began = Instant::now();
    assert!(idle.is_closed());
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert_eq!(busy.receive(), b"late");
}

#[test]
fn files_are_written_read_and_sent() {
    let broker = Broker::start(&[]);
    let mut client = broker.connect();
    let reply = client.call(&command(b'f', &[71_000, 2_000_000]));
    assert!(reply[..2_000_000] == pattern_bytes(71_000, 2_000_000));
    let reply = client.call(&command(b'r', &[4000, 10_000]));
    let range = pattern_bytes(4000, 10_000);
    assert!(reply == [b"r", &range[..], &range[..]].concat());
    assert_eq!(client.call(&command(b'w', &[1 << 20])), b"done");
    assert_eq!(
        client.call(&command(b'r', &[(1 << 20) + 10, 3])),
        b"rwwwwww"
    );
    assert_eq!(client.call(&command(b'w', &[100 << 20, 1])), b"done");
    let reply = client.call(&command(b'f', &[(100 << 20) - 1, 3]));
    assert_eq!(reply[..3], [0, b'w', b'w']);
    assert_eq!(client.call(&command(b'w', &[77])), b"errno 22");
    // A range that is not there ends the connection, and nothing else.
    client.send(&command(b'f', &[1 << 40, 10]));
    assert!(client.is_closed() || client.is_closed());
    assert_eq!(broker.connect().call(b"echo"), b"echo");
}

#[test]
fn a_connection_can_be_closed_after_its_last_reply() {
    let broker = Broker::start(&[]);
    let mut client = broker.connect();
    client
        .0
        .write_all(&[framed(b"e1"), framed(b"n"), framed(b"close")].concat())
        .expect("sent");
    assert_eq!(client.receive(), b"e1");
    assert_eq!(client.receive(), b"close");
    assert!(client.is_closed());
}

#[test]
fn stopping_finishes_what_is_in_flight_and_starting_again_finds_it() {
    let mut broker = Broker::start(&[]);
    let mut client = broker.connect();
    client.send(&command(b'w', &[STORE_BYTES as u64]));
    assert_eq!(client.receive(), b"done");
    let address = broker.server.as_ref().expect("running").addresses()[0];
    broker.stop().expect("a clean stop");
    assert!(TcpStream::connect(address).is_err());
    // With one shard less, its store is adopted.
    let dir = broker.dir.path();
    let server = start_in(dir, &[("millrace.shards", "1")]).expect("started again");
    let refused = start_in(dir, &[]).err().expect("the directory is taken");
    assert_eq!(refused.status, DIRECTORY);
    server.stopper().stop();
    server.wait().expect("a clean stop");
    // A store that cannot be recovered stops the start.
    std::fs::write(StoreFile::path(dir, StoreId(1)), vec![1; STORE_BYTES]).expect("spoiled");
    let refused = start_in(dir, &[]).err().expect("spoiled");
    assert_eq!(refused.status, super::super::fatal::CORRUPT);
    assert!(refused.message.contains("store-1"), "{refused}");
}

/// Whoever sees it serve may stop it: what does that is there before.
#[test]
fn a_stop_is_heard_before_clients_are_let_in() {
    let dir = scratch();
    let server = started(dir.path(), &[]).expect("started");
    let address = server.addresses()[0];
    let stopper = server.stopper();
    stopper.stop();
    server.serve();
    server.wait().expect("a clean stop");
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn a_fatal_shard_ends_the_server_with_its_status() {
    let mut broker = Broker::start(&[]);
    broker.connect().send(b"x");
    let server = broker.server.take().expect("running");
    let fatal = server.wait().expect_err("failed");
    assert_eq!((fatal.status, &fatal.message[..]), (99, "told to"));
}

#[test]
fn a_taken_port_is_not_shared() {
    let broker = Broker::start(&[]);
    let address = broker.server.as_ref().expect("running").addresses()[0];
    let dir = scratch();
    let listener = format!("PLAINTEXT://{address}");
    let refused = start_in(dir.path(), &[("listeners", &listener)])
        .err()
        .expect("taken");
    assert_eq!(refused.status, SYSTEM);
    assert!(refused.message.contains("another process"), "{refused}");
}

/// Three servers of one process: each says something to the others over a link of its own.
#[test]
fn shards_talk_to_other_nodes() {
    let mut brokers: Vec<_> = (0..3).map(|_| Broker::start(&[])).collect();
    let ports: Vec<u16> = brokers
        .iter()
        .map(|broker| broker.server.as_ref().expect("running").addresses()[0].port())
        .collect();
    let say =
        |port: u16, host: &str| [&command(b'd', &[port.into()])[..], host.as_bytes()].concat();
    for broker in &brokers {
        let mut client = broker.connect();
        for port in &ports {
            for host in ["127.0.0.1", "localhost"] {
                client.send(&say(*port, host));
                assert_eq!(client.receive(), b"ehoi", "{host}");
            }
        }
        client.send(&say(1, "no..host"));
        let answer = String::from_utf8(client.receive()).expect("text");
        assert!(answer.starts_with("Unresolved"), "{answer}");
    }
    // One of them stops, and the others find that out at once.
    brokers.remove(1).stop().expect("stopped");
    let mut client = brokers[0].connect();
    client.send(&say(ports[1], "127.0.0.1"));
    assert_eq!(client.receive(), b"Refused");
    // One accepts and says nothing until it closes; one talks nonsense.
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = other.local_addr().expect("its address").port();
    for (says, comes) in [(&b""[..], "Closed"), (b"\x80\0\0\0", "Garbage")] {
        client.send(&say(port, "127.0.0.1"));
        let (mut socket, _) = other.accept().expect("accepted");
        socket.read_exact(&mut [0; 8]).expect("what is said first");
        socket.write_all(says).expect("sent");
        drop(socket);
        assert_eq!(client.receive(), comes.as_bytes());
    }
}
