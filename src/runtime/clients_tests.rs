//! What one client can do to the others: those that announce and do not send, that
//! ask and do not take, that hang up half-way, that go on while the broker stops.

use std::net::Shutdown;

use super::*;

fn small_memory() -> Broker {
    Broker::start(&[
        ("millrace.shards", "1"),
        ("socket.request.max.bytes", "1000000"),
        ("message.max.bytes", "900000"),
        ("queued.max.request.bytes", "2000000"),
    ])
}

/// Whether the broker has not closed the connection, and has not sent anything.
fn is_open(client: &Client) -> bool {
    client.0.set_nonblocking(true).expect("mode");
    let answer = client.0.peek(&mut [0; 1]);
    client.0.set_nonblocking(false).expect("mode");
    matches!(answer, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

fn large_echo() -> Vec<u8> {
    let mut frame = vec![b'e'; 900_000];
    frame[899_999] = 7;
    frame
}

#[test]
fn what_is_only_announced_takes_no_memory() {
    let broker = small_memory();
    let announced: Vec<_> = (0..100)
        .map(|_| {
            let mut client = broker.connect();
            client.0.write_all(&900_000u32.to_be_bytes()).expect("sent");
            client.0.write_all(b"eee").expect("sent");
            client
        })
        .collect();
    let mut honest = broker.connect();
    for _ in 0..3 {
        assert_eq!(honest.call(b"echo"), b"echo");
        assert!(honest.call(&large_echo()) == large_echo());
    }
    assert!(announced.iter().all(is_open), "nobody had to go for that");
}

#[test]
fn who_stalls_with_all_the_memory_has_to_go() {
    let broker = small_memory();
    let whole = framed(&large_echo());
    let stalled: Vec<_> = (0..4)
        .map(|_| {
            let client = broker.connect();
            fill(&client, &whole[..890_000]);
            client
        })
        .collect();
    let mut honest = broker.connect();
    assert_eq!(honest.call(b"echo"), b"echo");
    assert!(stalled.iter().all(is_open), "small requests get in besides");
    assert!(honest.call(&large_echo()) == large_echo());
    assert!(!stalled.iter().all(is_open), "large ones in their place");
}

/// More than the sockets between them take.
#[test]
fn who_does_not_take_its_replies_keeps_no_memory_for_requests() {
    let broker = small_memory();
    let deaf: Vec<_> = (0..4)
        .map(|_| {
            let client = broker.connect();
            let whole = framed(&large_echo());
            fill(&client, &whole.repeat(20));
            client
        })
        .collect();
    let mut honest = broker.connect();
    assert!(honest.call(&large_echo()) == large_echo());
    drop(deaf);
}

/// Close once all is sent, or take no more while one is not answered: what comes behind is not even received.
#[test]
fn a_connection_that_is_ending_keeps_no_memory_for_requests() {
    for last in [b"c", b"q"] {
        let broker = small_memory();
        let ending: Vec<_> = (0..4)
            .map(|_| {
                let mut client = broker.connect();
                client.send(&command(b'b', &[3_900_000]));
                client.send(last);
                fill(&client, &framed(&large_echo()).repeat(2));
                client
            })
            .collect();
        let mut honest = broker.connect();
        assert!(honest.call(&large_echo()) == large_echo());
        drop(ending);
    }
}

#[test]
fn a_client_that_has_said_all_is_answered_and_then_hung_up_on() {
    let broker = Broker::start(&[]);
    let mut client = broker.connect();
    let asked = [
        framed(&command(b't', &[300])),
        framed(&command(b'w', &[3 << 20])),
        framed(&command(b'b', &[9_000_000])),
        framed(&command(b'f', &[71_000, 2_000_000])),
        framed(b"e1"),
        framed(b"echo that is cut off")[..9].to_vec(),
    ];
    client.0.write_all(&asked.concat()).expect("sent");
    client.0.shutdown(Shutdown::Write).expect("half closed");
    assert_eq!(client.receive(), b"late");
    assert_eq!(client.receive(), b"done");
    assert!(client.receive() == [b'b'; 9_000_000]);
    assert!(client.receive()[..2_000_000] == pattern_bytes(71_000, 2_000_000));
    assert_eq!(client.receive(), b"e1");
    assert!(client.is_closed());
}

#[test]
fn a_client_that_asks_nothing_and_hangs_up_is_gone_at_once() {
    let broker = Broker::start(&[("max.connections", "1")]);
    let mut client = broker.connect();
    assert_eq!(client.call(b"echo"), b"echo");
    client.0.shutdown(Shutdown::Write).expect("half closed");
    assert!(client.is_closed());
}

/// Clients that never leave a moment without a request would keep a shard from ever being done.
#[test]
fn a_shard_that_is_never_idle_stops_and_answers_what_it_has_taken() {
    let mut broker = Broker::start(&[]);
    let address = broker.server.as_ref().expect("running").addresses()[0];
    let one = framed(&command(b'w', &[1 << 20]));
    let clients: Vec<_> = (0..6)
        .map(|_| {
            let mut client = broker.connect();
            let mut writer = client.0.try_clone().expect("a second handle");
            let one = one.clone();
            std::thread::spawn(move || {
                let sender = std::thread::spawn(move || while writer.write_all(&one).is_ok() {});
                let mut replies = 0;
                let mut prefix = [0; 4];
                while client.0.read_exact(&mut prefix).is_ok() {
                    let mut reply = [0; 4];
                    client.0.read_exact(&mut reply).expect("all of it");
                    assert_eq!(&reply, b"done");
                    replies += 1;
                }
                drop(client.0.shutdown(Shutdown::Both));
                sender.join().expect("sender");
                replies
            })
        })
        .collect();
    let mut last = broker.connect();
    for _ in 0..20 {
        assert_eq!(last.call(b"echo"), b"echo");
    }
    last.send(&command(b't', &[200]));
    last.send(b"echo");
    while last.0.peek(&mut [0; 1]).is_err() {}
    // Everything before the stop is taken, since one is answered that came later.
    let mut waiting = broker.connect();
    waiting.send(b"e");
    assert_eq!(waiting.receive(), b"e");
    waiting.send(&command(b't', &[400]));
    waiting.send(b"n");
    std::thread::sleep(Duration::from_millis(100));
    broker.stop().expect("a clean stop");
    assert_eq!(last.receive(), b"late");
    assert_eq!(waiting.receive(), b"late");
    assert!(waiting.is_closed());
    for client in clients {
        assert!(client.join().expect("client") > 0);
    }
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn a_listener_for_both_families_shows_ipv4_clients_as_such() {
    let broker = Broker::start(&[("listeners", "PLAINTEXT://:0")]);
    let port = broker.server.as_ref().expect("running").addresses()[0].port();
    let socket = TcpStream::connect(("127.0.0.1", port)).expect("connected");
    let me = socket.local_addr().expect("an address");
    assert_eq!(Client(socket).call(b"p"), me.to_string().as_bytes());
}
