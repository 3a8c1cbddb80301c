//! The ring on real files and sockets.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use super::*;
use crate::runtime::sys;

fn one<T>(ring: &mut Ring<T>) -> Done<T> {
    loop {
        ring.wait();
        if let Some(done) = ring.reap() {
            return done;
        }
    }
}

#[test]
fn writes_syncs_and_reads_a_file() {
    let file = tempfile::tempfile().expect("a scratch file");
    let fd = file.as_raw_fd();
    let mut ring = Ring::new().expect("io_uring");
    assert_eq!(ring.missing_operations().ok(), Some(vec![]));
    ring.push(
        1,
        Op::Allocate {
            fd,
            pos: 0,
            len: 8192,
        },
    );
    assert_eq!(one(&mut ring).result, Ok(0));
    ring.push(
        2,
        Op::Write {
            fd,
            pos: 100,
            data: Bytes::from_static(b"abcdef"),
            through: true,
        },
    );
    assert_eq!(one(&mut ring).result, Ok(6));
    ring.push(3, Op::DataSync { fd });
    assert_eq!(one(&mut ring).tag, 3);
    let mut buf = Vec::with_capacity(3);
    buf.push(b'>');
    ring.push(
        4,
        Op::Read {
            fd,
            pos: 101,
            len: 2,
            buf,
        },
    );
    let Done {
        op: Op::Read { buf, .. },
        result: Ok(2),
        ..
    } = one(&mut ring)
    else {
        panic!("a read of two bytes");
    };
    assert_eq!(buf, b">bc");
    ring.push(5, Op::DataSync { fd: -1 });
    assert_eq!(one(&mut ring).result, Err(libc::EBADF));
}

#[test]
fn a_batch_waits_for_a_slow_reader_and_arrives_in_order() {
    let (a, mut b) = UnixStream::pair().expect("sockets");
    let mut ring = Ring::new().expect("io_uring");
    let mut batch = Box::new(SendBatch::default());
    let mut sent = Vec::new();
    for i in 0..1000u32 {
        let part = Bytes::from(vec![i as u8; 3000]);
        sent.extend_from_slice(&part);
        batch.push(part);
    }
    ring.push(
        (),
        Op::Send {
            fd: a.as_raw_fd(),
            batch,
        },
    );
    ring.submit();
    let reader = std::thread::spawn(move || {
        let mut got = Vec::new();
        b.read_to_end(&mut got).expect("read");
        got
    });
    assert_eq!(one(&mut ring).result, Ok(sent.len()));
    drop(a);
    assert!(reader.join().expect("reader") == sent);
}

#[test]
fn a_batch_can_be_resumed_anywhere() {
    let mut batch = SendBatch::default();
    batch.push(Bytes::from_static(b"abc"));
    batch.push(Bytes::from_static(b"defg"));
    batch.advance(3);
    assert_eq!(batch.slices(), 1);
    batch.advance(2);
    assert_eq!(batch.parts[0], &b"fg"[..]);
    batch.advance(2);
    assert!(batch.is_empty());
}

#[test]
fn waiting_ends_at_its_time_and_with_the_first_completion() {
    let mut ring = Ring::new().expect("io_uring");
    let start = sys::mono();
    ring.wait_until(start.plus_ms(20));
    assert!(ring.reap().is_none());
    assert!(sys::mono() >= start.plus_ms(20));
    ring.wait_until(start);
    let (server, _client) = sockets();
    let fd = server.as_raw_fd();
    let batch = Box::new(SendBatch::default());
    ring.push((), Op::Send { fd, batch });
    ring.wait_until(start.plus_ms(3_600_000));
    assert!(ring.reap().is_some());
    assert_eq!(ring.in_flight(), 0);
}

fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
    let (server, _) = listener.accept().expect("accepted");
    (server, client)
}

fn lent(socket: &TcpStream, wait_first: bool) -> Op {
    Op::ReceiveLent {
        fd: socket.as_raw_fd(),
        data: None,
        wait_first,
    }
}

#[test]
fn connections_are_accepted_and_closed_if_nobody_takes_them() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (fd, address) = (listener.as_raw_fd(), listener.local_addr().expect("bound"));
    let mut ring = Ring::new().expect("io_uring");
    for _ in 0..2 {
        ring.push((), Op::Accept { fd, accepted: None });
    }
    let mut first = TcpStream::connect(address).expect("connected");
    let mut second = TcpStream::connect(address).expect("connected");
    let Op::Accept {
        accepted: Some(socket),
        ..
    } = one(&mut ring).op
    else {
        panic!("a connection");
    };
    (&TcpStream::from(socket)).write_all(b"x").expect("sent");
    first.read_exact(&mut [0]).expect("served");
    ring.wait();
    drop(ring);
    assert_eq!(second.read(&mut [0]).ok(), Some(0));
}

#[test]
fn what_is_received_says_whether_there_is_more() {
    let (server, mut client) = sockets();
    let mut ring = Ring::new().expect("io_uring");
    client.write_all(&[7; LENT_BYTES + 10]).expect("sent");
    ring.push(1, lent(&server, false));
    let done = one(&mut ring);
    assert_eq!((done.result, done.more), (Ok(LENT_BYTES), true));
    let Op::ReceiveLent {
        data: Some(data), ..
    } = done.op
    else {
        panic!("a buffer");
    };
    assert!(data[..] == [7; LENT_BYTES]);
    let op = Op::Receive {
        fd: server.as_raw_fd(),
        buf: vec![1, 2],
        len: 100,
        wait_first: false,
    };
    ring.push(2, op);
    let done = one(&mut ring);
    assert_eq!((done.result, done.more), (Ok(10), false));
    let Op::Receive { buf, .. } = done.op else {
        panic!("a buffer");
    };
    assert_eq!(buf, [1, 2, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7]);
    // What comes later is waited for, and so is the end.
    ring.push(3, lent(&server, true));
    ring.submit();
    assert!(ring.reap().is_none());
    client.write_all(b"later").expect("sent");
    assert_eq!(one(&mut ring).result, Ok(5));
    ring.push(4, lent(&server, true));
    drop(client);
    assert_eq!(one(&mut ring).result, Ok(0));
}

#[test]
fn buffers_are_lent_again_when_they_are_given_back() {
    let (server, mut client) = sockets();
    let mut ring = Ring::new().expect("io_uring");
    let mut receive = |ring: &mut Ring<()>, byte: u8| {
        client.write_all(&[byte]).expect("sent");
        ring.push((), lent(&server, true));
        one(ring)
    };
    let mut held = Vec::new();
    let (none_left, held_all) = loop {
        let done = receive(&mut ring, held.len() as u8);
        match (done.result, done.op) {
            (
                Ok(1),
                Op::ReceiveLent {
                    data: Some(data), ..
                },
            ) => held.push(data),
            (result, _) => break (result, held.len()),
        }
    };
    assert_eq!(none_left, Err(libc::ENOBUFS));
    assert!(
        held.iter()
            .zip((0..=255u8).cycle())
            .all(|(data, byte)| data[..] == [byte])
    );
    held.truncate(1);
    for _ in 0..3 * held_all {
        assert!(matches!(receive(&mut ring, 1).result, Ok(1..)));
    }
    assert_eq!(held[0][..], [0], "what is still held is left alone");
}
