//! What a connection holds and for how long, without sockets.

use super::super::budget::Pool;
use super::*;

const IDLE_MS: u64 = 600_000;

struct Bench {
    shared: Shared,
    conn: Conn,
    frames: FrameReader,
}

impl Bench {
    fn new() -> Self {
        let shared = Shared::new(1 << 20, Budget::new(Pool::new(2 << 20, 1)));
        shared.now.set(Mono(0));
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        Self {
            shared,
            conn: Conn::new(ConnId(1), -1, peer, Mono(0)),
            frames: FrameReader::new(1 << 20),
        }
    }

    /// Some bytes come, `ms` after they were waited for.
    fn receive(&mut self, bytes: &[u8], ms: u64) {
        self.conn.receiving(&self.frames, &self.shared);
        self.pass(ms);
        self.frames.feed(bytes).expect("a good stream");
        self.conn.received(&self.frames, &self.shared);
    }

    /// Three requests that are not small.
    fn admit_three(&self) {
        for _ in 0..3 {
            let frame = vec![0; SMALL_REQUEST_BYTES_MAX + 1].into();
            self.conn
                .admit(&self.frames, frame, Grant::Shared, &self.shared);
        }
    }

    fn pass(&self, ms: u64) {
        self.shared.now.set(self.shared.now.get().plus_ms(ms));
    }

    /// Whether it is to be closed, and whether it would be if memory were short.
    fn overdue(&self) -> [bool; 2] {
        let calm = self.shared.overdue(&self.conn, IDLE_MS).is_some();
        let other = Waiter::new(ConnId(2));
        let now = self.shared.now.get();
        self.shared.budget.wait(&other, now);
        let short = self.shared.overdue(&self.conn, IDLE_MS).is_some();
        for _ in 0..3 {
            self.shared.budget.retry(self.shared.budget.retry_at());
        }
        assert!(!self.shared.budget.is_short());
        [calm, short]
    }
}

#[test]
fn a_byte_now_and_then_is_not_enough() {
    let mut bench = Bench::new();
    // Between requests there is all the time in the world.
    bench.receive(&[], 100_000);
    assert_eq!(bench.overdue(), [false, false]);
    bench.receive(&1_000_000u32.to_be_bytes(), 500);
    assert_eq!(bench.overdue(), [false, false]);
    bench.receive(&[1], 900);
    assert_eq!(bench.overdue(), [false, false]);
    bench.receive(&[1], 200);
    assert_eq!(bench.overdue(), [false, true], "more than a second");
    bench.receive(&[1], 8800);
    assert_eq!(bench.overdue(), [false, true]);
    // The wait that is not over counts, too.
    bench.conn.receiving(&bench.frames, &bench.shared);
    bench.pass(200);
    assert_eq!(bench.overdue(), [true, true], "more than ten");
}

#[test]
fn a_slow_line_is_enough() {
    let mut bench = Bench::new();
    bench.receive(&1_000_000u32.to_be_bytes(), 0);
    // 4 KiB a second, for four minutes.
    for _ in 0..240 {
        bench.receive(&[1; 4096], 1000);
        assert!(!bench.overdue()[0]);
    }
    assert!(bench.overdue()[1]);
    // Slower than that it has no more than the ten seconds.
    for _ in 0..20 {
        bench.receive(&[1; 10], 1000);
    }
    assert!(bench.overdue()[0]);
}

#[test]
fn only_time_for_which_we_read_counts_and_only_for_this_request() {
    let mut bench = Bench::new();
    bench.receive(&1000u32.to_be_bytes(), 0);
    bench.receive(&[1; 10], 5000);
    // We do not read: it has no room, or there is no memory.
    bench.pass(60_000);
    assert_eq!(bench.overdue(), [false, true]);
    bench.receive(&[1; 10], 4000);
    assert_eq!(bench.overdue(), [false, true]);
    // The rest of it, and the beginning of the next one.
    let mut rest = vec![1; 980];
    rest.extend(1000u32.to_be_bytes());
    bench.receive(&rest, 500);
    assert_eq!(bench.overdue(), [false, false]);
}

#[test]
fn a_client_that_is_gone_by_half_is_waited_for_while_it_takes_something() {
    let mut bench = Bench::new();
    bench.receive(&[], 0);
    bench.conn.admit(
        &bench.frames,
        vec![0; 100].into(),
        Grant::Shared,
        &bench.shared,
    );
    bench.pass(60_000);
    assert_eq!(bench.overdue(), [false, false], "it is our turn");
    bench.conn.half_closed(&bench.shared);
    bench.pass(HALF_CLOSED_MS_MAX - 1);
    assert_eq!(bench.overdue(), [false, false]);
    bench.conn.took_something(bench.shared.now.get());
    bench.pass(HALF_CLOSED_MS_MAX - 1);
    assert_eq!(bench.overdue(), [false, false]);
    bench.pass(1);
    assert_eq!(bench.overdue(), [true, true]);
}

#[test]
fn who_does_not_take_a_reply_is_idle_who_waits_for_one_is_not() {
    let mut bench = Bench::new();
    bench.receive(&[], 0);
    bench.conn.admit(
        &bench.frames,
        vec![0; 100].into(),
        Grant::Shared,
        &bench.shared,
    );
    bench.pass(2 * IDLE_MS);
    assert_eq!(bench.overdue(), [false, false]);
    bench.conn.reply_queued(1000, &bench.shared);
    assert_eq!(bench.overdue(), [true, true]);
    bench.conn.took_something(bench.shared.now.get());
    assert_eq!(bench.overdue(), [false, false]);
    bench.conn.sent(1000, 1, &bench.shared);
    bench.pass(IDLE_MS);
    assert_eq!(bench.overdue(), [true, true]);
}

#[test]
fn one_connection_has_a_bound_in_bytes() {
    let bench = Bench::new();
    let half = Bytes::from(vec![0; CONN_REQUEST_BYTES_MAX / 2]);
    for room in [true, true, false] {
        assert_eq!(bench.conn.has_room(&bench.shared), room);
        bench
            .conn
            .admit(&bench.frames, half.clone(), Grant::Shared, &bench.shared);
    }
    for room in [false, true] {
        bench.conn.reply_queued(0, &bench.shared);
        assert_eq!(bench.conn.has_room(&bench.shared), room);
    }
}

#[test]
fn a_request_costs_memory_until_its_reply_is_made() {
    let bench = Bench::new();
    let all = vec![0; 2 << 20];
    let may_take = |conn| bench.shared.budget.may_take(ConnId(conn), Mono(0));
    bench
        .conn
        .admit(&bench.frames, all.into(), Grant::Shared, &bench.shared);
    assert!(may_take(2), "the overdraft");
    assert!(!may_take(3));
    // Its client does not take the reply.
    bench.conn.reply_queued(1000, &bench.shared);
    assert!(may_take(3));
    assert!(bench.conn.is_waiting());
    // Replies that are not sent count as requests in progress do.
    for _ in 1..CONN_IN_FLIGHT_MAX {
        assert!(bench.conn.has_room(&bench.shared));
        bench
            .conn
            .admit(&bench.frames, vec![0].into(), Grant::Shared, &bench.shared);
        bench.conn.reply_queued(0, &bench.shared);
    }
    assert!(!bench.conn.has_room(&bench.shared));
    bench.conn.sent(1000, CONN_IN_FLIGHT_MAX, &bench.shared);
    assert!(bench.conn.has_room(&bench.shared) && !bench.conn.is_waiting());
}

/// Calm, nobody has to go; while memory is short, it is not kept for longer than some seconds.
fn held_for_a_while(bench: &Bench, expected: bool) {
    bench.pass(HELD_MS_MAX - 1);
    assert_eq!(bench.overdue(), [false, false]);
    bench.pass(1);
    assert_eq!(bench.overdue(), [false, expected]);
}

#[test]
fn what_waits_for_others_keeps_little_for_long() {
    const FETCH: u8 = 1;
    const PRODUCE: u8 = 0;
    let large = SMALL_REQUEST_BYTES_MAX + 1;
    for (key, bytes, goes) in [
        (FETCH, large, true),
        (FETCH, large - 1, false),
        (PRODUCE, large, false),
    ] {
        let bench = Bench::new();
        let mut frame = vec![0; bytes];
        frame[1] = key;
        bench
            .conn
            .admit(&bench.frames, frame.into(), Grant::Shared, &bench.shared);
        held_for_a_while(&bench, goes);
        bench.conn.reply_queued(0, &bench.shared);
        assert_eq!(bench.overdue(), [false, false]);
    }
}

#[test]
fn who_takes_no_replies_keeps_no_half_request() {
    for taken in [false, true] {
        let mut bench = Bench::new();
        bench.receive(&1_000_000u32.to_be_bytes(), 0);
        bench.receive(&[1; SMALL_REQUEST_BYTES_MAX + 1], 0);
        for _ in 0..2 {
            bench.conn.admit(
                &bench.frames,
                vec![0; 10].into(),
                Grant::Shared,
                &bench.shared,
            );
            bench
                .conn
                .reply_queued(CONN_REPLY_BYTES_MAX / 2, &bench.shared);
        }
        bench.conn.receiving(&bench.frames, &bench.shared);
        bench.conn.received(&bench.frames, &bench.shared);
        assert!(!bench.conn.has_room(&bench.shared));
        if taken {
            bench.conn.sent(CONN_REPLY_BYTES_MAX, 2, &bench.shared);
            assert!(bench.conn.has_room(&bench.shared));
            bench.conn.receiving(&bench.frames, &bench.shared);
            bench.conn.received(&bench.frames, &bench.shared);
        }
        held_for_a_while(&bench, !taken);
    }
}

/// What a request behind them asks for may not be made before they have left.
#[test]
fn who_takes_no_reply_keeps_no_large_request_behind_it() {
    for (taken, bytes) in [
        (false, SMALL_REQUEST_BYTES_MAX + 1),
        (false, SMALL_REQUEST_BYTES_MAX),
        (true, SMALL_REQUEST_BYTES_MAX + 1),
    ] {
        let bench = Bench::new();
        for len in [10, bytes] {
            let frame = vec![0; len].into();
            bench
                .conn
                .admit(&bench.frames, frame, Grant::Shared, &bench.shared);
        }
        bench.conn.reply_queued(1000, &bench.shared);
        if taken {
            bench.conn.sent(1000, 1, &bench.shared);
        }
        held_for_a_while(&bench, !taken && bytes > SMALL_REQUEST_BYTES_MAX);
    }
}

/// It takes a long reply, slowly, with other requests behind it or what there is no room for.
#[test]
fn who_takes_a_reply_at_a_good_pace_is_waited_for() {
    let good = RECEIVE_BYTES_PER_SECOND_MIN[1];
    for (bytes_a_second, in_progress, goes) in [
        (good, true, false),
        (good, false, false),
        (good / 4, true, true),
        (good / 4, false, true),
    ] {
        let mut bench = Bench::new();
        let frame = || vec![0; SMALL_REQUEST_BYTES_MAX + 1].into();
        for _ in 0..2 {
            let (conn, shared) = (&bench.conn, &bench.shared);
            conn.admit(&bench.frames, frame(), Grant::Shared, shared);
        }
        bench
            .conn
            .reply_queued(4 * CONN_REPLY_BYTES_MAX, &bench.shared);
        if !in_progress {
            bench.conn.reply_queued(1000, &bench.shared);
            bench.receive(&1_000_000u32.to_be_bytes(), 0);
            bench.receive(&[1; SMALL_REQUEST_BYTES_MAX + 1], 0);
            bench.conn.receiving(&bench.frames, &bench.shared);
            bench.conn.received(&bench.frames, &bench.shared);
        }
        assert!(!bench.conn.has_room(&bench.shared));
        let mut is_overdue = false;
        for second in 1..=20 {
            bench.pass(1000);
            let now = bench.shared.now.get();
            bench.conn.acknowledged(second * bytes_a_second, now);
            is_overdue |= bench.overdue()[1];
        }
        assert_eq!(is_overdue, goes, "{bytes_a_second}, {in_progress}");
    }
}

/// Nobody looks while there is memory: what was taken of this reply by then counts, and not what was of another one.
#[test]
fn what_was_taken_before_anybody_looked_counts() {
    for (taken, goes) in [(0, true), (60 * RECEIVE_BYTES_PER_SECOND_MIN[1], false)] {
        let bench = Bench::new();
        bench.admit_three();
        let (conn, shared) = (&bench.conn, &bench.shared);
        conn.reply_queued(100 << 20, shared);
        conn.reply_queued(100 << 20, shared);
        bench.pass(60_000);
        conn.sent(100 << 20, 1, shared);
        bench.pass(60_000);
        conn.acknowledged((100 << 20) + taken, shared.now.get());
        assert_eq!(bench.overdue(), [false, goes]);
    }
}

/// The socket takes all at once, and the client what it can.
#[test]
fn what_is_taken_out_of_a_large_socket_buffer_counts() {
    for (rate, goes) in [(32 << 10, true), (128 << 10, false)] {
        let bench = Bench::new();
        bench.admit_three();
        let (conn, shared) = (&bench.conn, &bench.shared);
        conn.reply_queued(4 << 20, shared);
        conn.reply_queued(4 << 20, shared);
        conn.sent(4 << 20, 1, shared);
        for second in 0..30 {
            conn.acknowledged(second * rate, shared.now.get());
            bench.pass(1_000);
        }
        assert_eq!(bench.overdue(), [false, goes], "{rate} bytes a second");
    }
}

/// Its client has taken replies, and it is others that it waits for.
#[test]
fn who_takes_replies_has_room_again() {
    let mut bench = Bench::new();
    bench.receive(&1_000_000u32.to_be_bytes(), 0);
    bench.receive(&[1; SMALL_REQUEST_BYTES_MAX + 1], 0);
    bench
        .conn
        .reply_queued(CONN_REPLY_BYTES_MAX - 1, &bench.shared);
    bench.conn.reply_queued(1, &bench.shared);
    assert!(!bench.conn.has_room(&bench.shared));
    bench.conn.sent(CONN_REPLY_BYTES_MAX - 1, 1, &bench.shared);
    assert!(bench.conn.has_room(&bench.shared));
    held_for_a_while(&bench, false);
}

#[test]
fn the_overdraft_is_kept_for_some_seconds() {
    let bench = Bench::new();
    bench.shared.budget.take(2 << 20);
    let may_take = || {
        bench
            .shared
            .budget
            .may_take(bench.conn.id, bench.shared.now.get())
    };
    assert!(may_take());
    bench.pass(HELD_MS_MAX);
    assert_eq!(bench.overdue(), [false, true]);
    // There is memory again: it does without.
    bench.shared.budget.give(2 << 20);
    assert!(may_take());
    assert_eq!(bench.overdue(), [false, false]);
}

/// Two nodes whose clients hold all their memory, and wait for what the other one says, hear each other all the same.
#[test]
fn what_a_node_sends_does_not_wait_for_memory_that_clients_hold() {
    let (of_clients, of_nodes) = Pool::of_node(8 << 20, 1, true);
    let mut bench = Bench::new();
    bench.shared =
        Shared::new(1 << 20, Budget::new(of_clients)).with_nodes(of_nodes.map(Budget::new));
    bench.shared.now.set(Mono(0));
    // Clients hold all, the overdraft and what is set aside for small requests included.
    let of_clients = &bench.shared.budget;
    let mut held = Vec::new();
    for conn in 10..20 {
        while of_clients.may_take(ConnId(conn), Mono(0)) {
            let frame = vec![0; 1 << 20].into();
            held.push(of_clients.admit(ConnId(conn), frame, Grant::Shared));
        }
    }
    while of_clients.may_admit_small(ConnId(1), 1000, true).is_some() {
        let frame = vec![0; 1000].into();
        held.push(of_clients.admit(ConnId(1), frame, Grant::Reserve));
    }
    let large = |bench: &Bench| {
        let budget = bench.shared.budget_of(&bench.conn);
        budget.may_take(bench.conn.id, Mono(0))
    };
    assert!(!large(&bench));
    bench.conn.is_node.set(true);
    for _ in 0..100 {
        assert!(large(&bench));
        let frame = vec![0; 1 << 20].into();
        let (conn, shared) = (&bench.conn, &bench.shared);
        let frame = conn.admit(&bench.frames, frame, Grant::Shared, shared);
        conn.reply_queued(0, shared);
        conn.sent(0, 1, shared);
        drop(frame);
        bench.shared.budget_of(conn).collect();
    }
    // And the other way round.
    for _ in 0..2 {
        let frame = vec![0; 1 << 20].into();
        bench
            .conn
            .admit(&bench.frames, frame, Grant::Shared, &bench.shared);
        large(&bench);
    }
    drop(held);
    bench.shared.budget.collect();
    bench.conn.is_node.set(false);
    assert!(large(&bench));
}

#[test]
fn a_node_may_be_silent_and_may_send_what_a_client_has_sent_to_it() {
    let mut bench = Bench::new();
    let max = bench.shared.frame_bytes_max_of(&bench.conn);
    bench.conn.is_node.set(true);
    let of_nodes = bench.shared.frame_bytes_max_of(&bench.conn);
    assert_eq!((max, of_nodes), (1 << 20, (1 << 20) + 256));
    bench.receive(&[], 0);
    bench.pass(IDLE_MS);
    assert_eq!(bench.overdue(), [true, true], "it has not said who it is");
    bench.receive(&[0, 0, 0, 1, 7], 0);
    bench.pass(IDLE_MS);
    assert_eq!(bench.overdue(), [false, false]);
    bench.conn.is_node.set(false);
    assert_eq!(bench.overdue(), [true, true]);
}
