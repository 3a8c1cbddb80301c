//! Links over a ring of their own, to listeners of the tests.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};

use super::super::sys;
use super::*;

const LINK: LinkId = LinkId(7);

struct Driver {
    links: Links,
    ring: Ring<Tag>,
    inputs: VecDeque<Input>,
}

impl Driver {
    fn new() -> Self {
        Self {
            links: Links::new(|| {}),
            ring: Ring::new().expect("a ring"),
            inputs: VecDeque::new(),
        }
    }

    fn dial(host: &str, port: u16) -> Self {
        let mut it = Self::new();
        it.dial_as(LINK, host, port);
        it
    }

    fn dial_as(&mut self, link: LinkId, host: &str, port: u16) {
        let (ring, inputs) = (&mut self.ring, &mut self.inputs);
        self.links
            .dial(link, (host, port), sys::mono(), ring, inputs);
    }

    /// A link that is up, and the other end of it.
    fn connected() -> (Self, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let mut it = Self::dial("127.0.0.1", port);
        assert!(matches!(it.next(), Input::LinkUp { link: LINK }));
        let (socket, _) = listener.accept().expect("accepted");
        (it, socket)
    }

    /// Takes completions until there is an input. What takes for ever is ended by the test's own time limit.
    fn next(&mut self) -> Input {
        loop {
            if let Some(input) = self.inputs.pop_front() {
                return input;
            }
            // Nobody rings here.
            let until = sys::mono().plus_ms(5).min(self.links.deadline());
            self.ring.wait_until(until);
            self.reap();
            let (ring, inputs) = (&mut self.ring, &mut self.inputs);
            self.links.look_after(sys::mono(), ring, inputs);
        }
    }

    fn reap(&mut self) {
        while let Some(done) = self.ring.reap() {
            let Tag::Link(id) = done.tag else {
                panic!("nothing else was asked for");
            };
            let (ring, inputs) = (&mut self.ring, &mut self.inputs);
            self.links.on_done(id, done, sys::mono(), ring, inputs);
        }
    }

    fn send(&mut self, pieces: &[&[u8]]) {
        let pieces = pieces.iter().map(|piece| Bytes::copy_from_slice(piece));
        self.links.send(LINK, pieces.collect(), &mut self.ring);
    }

    /// Why the next input says that the link is gone; and nothing of it is left.
    fn lost(&mut self) -> LinkLost {
        let Input::LinkDown { link: LINK, why } = self.next() else {
            panic!("something else");
        };
        self.is_forgotten();
        why
    }

    /// No operation goes on for a link, and there is none.
    fn is_forgotten(&mut self) {
        while self.ring.in_flight() > 0 {
            self.ring.wait();
            self.reap();
        }
        assert!(self.links.links.is_empty() && self.inputs.is_empty());
        assert_eq!(self.links.deadline(), Mono::NEVER);
    }
}

fn read(socket: &mut TcpStream, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    socket.read_exact(&mut bytes).expect("as much");
    bytes
}

#[test]
fn frames_go_both_ways_and_what_has_left_is_told() {
    let (mut it, mut other) = Driver::connected();
    it.send(&[&[0, 0, 0, 3], b"abc"]);
    it.send(&[b"", &[0, 0, 0, 1, b'd']]);
    let mut left = 0;
    while left < 12 {
        let Input::LinkSent { link: LINK, bytes } = it.next() else {
            panic!("something else");
        };
        left += bytes;
    }
    assert_eq!(left, 12);
    assert_eq!(read(&mut other, 12), b"\0\0\0\x03abc\0\0\0\x01d");
    other
        .write_all(b"\0\0\0\x02xy\0\0\0\x01z\0\0")
        .expect("sent");
    for expected in ["xy", "z"] {
        let Input::LinkReceived { link: LINK, frame } = it.next() else {
            panic!("something else");
        };
        assert_eq!(frame, expected);
    }
    other.shutdown(Shutdown::Write).expect("connected");
    assert_eq!(it.lost(), LinkLost::Closed);
    // It is gone, and what is sent goes nowhere.
    it.send(&[b"\0\0\0\x01d"]);
    assert_eq!(it.ring.in_flight(), 0);
}

#[test]
fn much_is_sent_in_its_order() {
    let (mut it, mut other) = Driver::connected();
    let all: Vec<u8> = (0..3 * BATCH_BYTES_MAX).map(|n| (n / 7) as u8).collect();
    for piece in all.chunks(500) {
        it.send(&[piece]);
    }
    let len = all.len();
    let reader = std::thread::spawn(move || read(&mut other, len));
    let mut left = 0;
    while left < len {
        let Input::LinkSent { bytes, .. } = it.next() else {
            panic!("something else");
        };
        left += bytes;
    }
    assert!(reader.join().expect("no panic") == all);
    assert_eq!(left, len);
}

#[test]
fn a_port_where_nobody_listens_refuses() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    drop(listener);
    assert_eq!(Driver::dial("127.0.0.1", port).lost(), LinkLost::Refused);
    assert_eq!(Driver::dial("localhost", port).lost(), LinkLost::Refused);
}

#[test]
fn a_name_is_looked_up() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let mut it = Driver::dial("localhost", port);
    assert!(matches!(it.next(), Input::LinkUp { link: LINK }));
    it.links.close(LINK);
    it.is_forgotten();
}

#[test]
fn a_name_without_an_address_is_told() {
    // No name has an empty label.
    let why = Driver::dial("no..host", 1).lost();
    assert!(matches!(why, LinkLost::Unresolved(_)), "{why:?}");
}

#[test]
fn lookups_are_bounded() {
    let mut it = Driver::new();
    let running = (0..LOOKUPS_MAX).map(|host| (host.to_string(), Lookup::Running));
    it.links.lookups.by_host = running.collect();
    it.dial_as(LINK, "localhost", 1);
    let why = it.lost();
    assert!(
        matches!(&why, LinkLost::Unresolved(why) if why.contains("8 names")),
        "{why:?}"
    );
}

#[test]
fn a_process_that_is_killed_is_noticed() {
    let (mut it, other) = Driver::connected();
    it.send(&[b"\0\0\0\x01d"]);
    let Input::LinkSent { .. } = it.next() else {
        panic!("something else");
    };
    // Closed with something unread: the system answers with a reset.
    drop(other);
    assert_eq!(it.lost(), LinkLost::Reset);
}

#[test]
fn what_is_no_frame_ends_the_link() {
    let (mut it, mut other) = Driver::connected();
    other.write_all(b"\0\0\0\x01xHTTP/1.1 400").expect("sent");
    assert!(matches!(it.next(), Input::LinkReceived { .. }));
    assert_eq!(it.lost(), LinkLost::Garbage);
    let (mut it, mut other) = Driver::connected();
    let large = (LINK_FRAME_BYTES_MAX as u32 + 1).to_be_bytes();
    other.write_all(&large).expect("sent");
    assert_eq!(it.lost(), LinkLost::Garbage);
}

/// An address whose system says neither yes nor no, for the queue of its listener is full; and what makes it so.
fn black_hole() -> (SocketAddr, Vec<Socket>) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let address: SocketAddr = ([127, 0, 0, 1], 0).into();
    listener.bind(&address.into()).expect("a port");
    listener.listen(0).expect("listens");
    let address = listener.local_addr().expect("its address");
    let address = address.as_socket().expect("of the internet");
    // One is taken, and the others wait; how many of them depends on the system.
    let crowd: Vec<_> = (0..4).map(|_| begin(address).expect("begun")).collect();
    let crowd = crowd.into_iter().map(Socket::from);
    (address, crowd.chain([listener]).collect())
}

#[test]
fn who_does_not_answer_is_given_up() {
    let (address, _holds) = black_hole();
    let mut it = Driver::dial("127.0.0.1", address.port());
    assert_eq!(it.lost(), LinkLost::TimedOut);
}

#[test]
fn an_address_that_does_not_answer_does_not_hide_the_next_one() {
    let (silent, _holds) = black_hole();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let good = listener.local_addr().expect("its address");
    for (addresses, is_up) in [(vec![silent, good], true), (vec![silent, silent], false)] {
        let (mut it, now) = (Driver::new(), sys::mono());
        let until = now.plus_ms(LINK_UP_WITHIN_MS);
        let left = Attempts::new(addresses.into(), until);
        it.links
            .connect(LINK, left, now, &mut it.ring, &mut it.inputs);
        if is_up {
            assert!(matches!(it.next(), Input::LinkUp { link: LINK }));
            it.links.close(LINK);
            it.is_forgotten();
        } else {
            assert_eq!(it.lost(), LinkLost::TimedOut);
            assert!(sys::mono() >= until, "it has had its time");
        }
    }
}

/// Takes longer than a dial may.
fn slow(_: &str) -> Addresses {
    std::thread::sleep(Duration::from_millis(LINK_UP_WITHIN_MS * 3 / 2));
    Ok(vec![([127, 0, 0, 1], 0).into()])
}

#[test]
fn a_name_that_is_looked_up_slowly_is_found_by_the_next_dial() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    for waits in [true, false] {
        let mut it = Driver::new();
        it.links.lookups.resolve = slow;
        it.dial_as(LINK, "slow", port);
        let why = it.lost();
        assert_eq!(
            why.to_string(),
            "no address is found for its name: it is still being looked up"
        );
        if !waits {
            // It comes when nobody waits.
            while !it.links.has_found() {
                std::thread::sleep(Duration::from_millis(10));
            }
            let (ring, inputs) = (&mut it.ring, &mut it.inputs);
            it.links.look_after(sys::mono(), ring, inputs);
        }
        // Nobody looks it up a second time.
        it.links.lookups.resolve = |_| panic!("it is looked up again");
        let next = LinkId(8);
        it.dial_as(next, "slow", port);
        if waits {
            it.dial_as(LinkId(9), "slow", port);
            assert_eq!(it.links.lookups.by_host.len(), 1);
        }
        assert!(matches!(it.next(), Input::LinkUp { .. }));
        assert!(it.links.lookups.by_host.is_empty(), "used once");
        it.links.close_all();
    }
    let (mut it, now) = (Driver::new(), Mono(0));
    it.links.lookups.keep("old".to_owned(), Vec::new(), now);
    let late = now.plus_ms(LOOKUP_KEPT_MS);
    assert_eq!(it.links.lookups.ask("old", late), Ok(None));
}

#[test]
fn nothing_is_told_of_a_link_that_is_closed() {
    for sent in [false, true] {
        let (mut it, mut other) = Driver::connected();
        if sent {
            it.send(&[b"\0\0\0\x01d"]);
        }
        other.write_all(b"\0\0\0\x01x").expect("sent");
        it.links.close(LINK);
        it.is_forgotten();
    }
    let mut it = Driver::dial("127.0.0.1", 9);
    it.links.close(LINK);
    it.is_forgotten();
    let mut it = Driver::dial("localhost", 9);
    it.links.close(LINK);
    it.is_forgotten();
}

#[test]
fn an_address_that_refuses_says_less_than_one_that_does_not_and_more_than_no_way() {
    let no_way = lost_by(&io::Error::from_raw_os_error(libc::ENETUNREACH));
    let rising = [no_way, LinkLost::Refused, LinkLost::TimedOut];
    for (at, first) in rising.iter().enumerate() {
        for (other, then) in rising.iter().enumerate() {
            let mut left = Attempts::new(VecDeque::new(), Mono(0));
            left.fail(first.clone());
            left.fail(then.clone());
            assert_eq!(left.failed.as_ref(), Some(&rising[at.max(other)]));
        }
    }
}
