//! The request memory of a node, without sockets.

use super::*;

const SLICE: usize = 7000;
/// Two shards with sixteen slices each.
const LIMIT: usize = 32 * SLICE;

fn pool() -> Arc<Pool> {
    Pool::new(LIMIT / 7 * 8, 2)
}

fn woken(budget: &Budget) -> Vec<u64> {
    let mut ids = Vec::new();
    budget.take_woken(&mut ids);
    ids.into_iter().map(|id| id.0).collect()
}

/// Charges a frame of which nobody but its connection has anything.
fn admit(budget: &Budget, conn: ConnId, bytes: usize, grant: Grant) -> Arc<Charge> {
    budget.admit(conn, vec![0; bytes].into(), grant).1
}

fn release(budget: &Budget, charge: Arc<Charge>) {
    drop(charge);
    budget.collect();
}

fn is_overdraft(charge: &Charge) -> bool {
    charge.source == Source::Overdraft
}

#[test]
fn one_shard_may_have_what_the_others_do_not_need() {
    let pool = pool();
    let (a, b) = (
        Budget::new(Arc::clone(&pool)),
        Budget::new(Arc::clone(&pool)),
    );
    let (x, y) = (ConnId(1), ConnId(2));
    // All of it at once, though it is more than half.
    assert!(a.may_take(x, Mono(0)));
    let all = admit(&a, x, LIMIT, Grant::Shared);
    assert!(a.may_admit_small(x, 10, false).is_none());
    assert!(
        b.may_admit_small(y, 10, false).is_none(),
        "one pool for both"
    );
    release(&a, all);
    assert_eq!(
        pool.leased.load(Ordering::Relaxed),
        SLICE,
        "given back but for a slice"
    );
    assert!(b.may_take(y, Mono(0)));
    let most = admit(&b, y, LIMIT - 2 * SLICE, Grant::Shared);
    assert!(a.may_take(x, Mono(0)), "it has kept a slice");
    drop(a);
    release(&b, most);
    drop(b);
    assert_eq!(pool.leased.load(Ordering::Relaxed), 0);
}

#[test]
fn one_frame_of_the_node_may_overdraw() {
    let pool = pool();
    let budget = Budget::new(Arc::clone(&pool));
    let other = Budget::new(pool);
    let (a, b) = (ConnId(1), ConnId(2));
    assert!(budget.may_take(a, Mono(0)));
    let all = admit(&budget, a, LIMIT, Grant::Shared);
    assert!(!is_overdraft(&all));
    assert!(budget.may_take(a, Mono(0)), "takes the overdraft");
    assert!(!budget.may_take(b, Mono(0)));
    assert!(!other.may_take(b, Mono(0)), "nor on another shard");
    assert!(budget.may_take(a, Mono(0)), "keeps it");
    let over = admit(&budget, a, 50, Grant::Shared);
    assert!(is_overdraft(&over));
    assert!(!budget.may_take(a, Mono(0)), "has used it");
    assert!(!budget.may_take(b, Mono(0)));
    release(&budget, over);
    assert!(other.may_take(b, Mono(0)));
    assert!(!budget.may_take(a, Mono(0)));
    other.left(b);
    assert!(budget.may_take(a, Mono(0)), "who leaves does not keep it");
}

#[test]
fn small_requests_of_clients_that_wait_for_nothing_get_in() {
    let budget = Budget::new(pool());
    let (a, b) = (ConnId(1), ConnId(2));
    let small = SMALL_REQUEST_BYTES_MAX;
    assert_eq!(budget.may_admit_small(a, small, false), Some(Grant::Shared));
    let all = admit(&budget, a, LIMIT, Grant::Shared);
    assert_eq!(budget.may_admit_small(b, small, false), None);
    assert_eq!(budget.may_admit_small(b, small, true), Some(Grant::Reserve));
    let first = admit(&budget, b, small, Grant::Reserve);
    assert_eq!(
        budget.may_admit_small(ConnId(3), small, true),
        None,
        "it is bounded"
    );
    assert_eq!(budget.may_admit_small(ConnId(3), 1, true), None);
    release(&budget, first);
    assert_eq!(
        budget.may_admit_small(ConnId(3), small, true),
        Some(Grant::Reserve)
    );
    release(&budget, all);
    assert_eq!(budget.may_admit_small(b, small, true), Some(Grant::Shared));
}

#[test]
fn who_waits_is_woken_once_and_only_for_memory() {
    let budget = Budget::new(pool());
    let (a, b) = (Waiter::new(ConnId(1)), Waiter::new(ConnId(2)));
    let now = Mono(0);
    assert!(budget.may_take(a.conn, Mono(0)));
    let all = admit(&budget, a.conn, LIMIT + 500, Grant::Shared);
    assert!(budget.may_take(ConnId(9), Mono(0)), "the overdraft");
    assert!(!budget.is_short());
    budget.wait(&a, now);
    budget.wait(&b, now);
    budget.wait(&a, now);
    assert!(budget.is_short());
    budget.give(0);
    assert_eq!(woken(&budget), [0; 0]);
    release(&budget, all);
    assert_eq!(woken(&budget), [1, 2]);
    assert_eq!(woken(&budget), [0; 0]);
    // It is over when some time has passed without anybody waiting.
    assert!(budget.is_short());
    budget.retry(budget.retry_at());
    assert!(!budget.is_short());
    assert_eq!(budget.retry_at(), Mono::NEVER);
}

#[test]
fn what_another_shard_gives_back_is_found() {
    let pool = pool();
    let (a, b) = (Budget::new(Arc::clone(&pool)), Budget::new(pool));
    let large = a
        .may_take(ConnId(1), Mono(0))
        .then(|| admit(&a, ConnId(1), LIMIT, Grant::Shared));
    assert!(!a.has_some(), "all of it is leased");
    let waiting = Waiter::new(ConnId(2));
    b.wait(&waiting, Mono(5));
    assert!(a.is_short(), "who has it hears of that");
    let at = b.retry_at();
    assert!(at > Mono(5) && at < Mono::NEVER);
    b.retry(Mono(at.0 - 1));
    assert_eq!(woken(&b), [0; 0], "not before it is time");
    release(&a, large.expect("room"));
    b.retry(at);
    assert_eq!(woken(&b), [2]);
    assert!(b.may_take(waiting.conn, Mono(0)));
}

#[test]
fn a_frame_costs_memory_wherever_a_part_of_it_is() {
    let budget = Budget::new(pool());
    let (a, b) = (Waiter::new(ConnId(1)), ConnId(2));
    let frame = Bytes::from(vec![7; LIMIT]);
    let (frame, charge) = budget.admit(b, frame, Grant::Shared);
    let part = frame.slice(10..20);
    assert!(budget.may_take(b, Mono(0)), "the overdraft");
    let (over, of_over) = budget.admit(b, Bytes::from(vec![0; 10]), Grant::Shared);
    budget.wait(&a, Mono(0));
    // It is answered, or its connection gone; and what is left of it on its way to another shard.
    drop((frame, charge));
    budget.collect();
    assert_eq!(woken(&budget), [0; 0]);
    assert!(!budget.has_some());
    let elsewhere = std::thread::spawn(move || part == [7; 10][..]);
    assert!(elsewhere.join().expect("no panic"));
    budget.retry(Mono(1));
    assert_eq!(woken(&budget), [1]);
    assert!(budget.has_some());
    // The same for the overdraft, and for what is set aside.
    let overdrawn = || {
        budget.collect();
        budget.pool.overdrawn.load(Ordering::Relaxed)
    };
    drop(of_over);
    assert!(overdrawn());
    drop(over);
    assert!(!overdrawn());
    let small = Bytes::from(vec![0; SMALL_REQUEST_BYTES_MAX]);
    let (small, charge) = budget.admit(b, small, Grant::Reserve);
    drop(charge);
    budget.collect();
    assert_eq!(budget.reserved.get(), SMALL_REQUEST_BYTES_MAX);
    drop(small);
    budget.collect();
    assert_eq!((budget.reserved.get(), budget.held.get()), (0, 0));
}

/// A crowd that waits is not woken as a whole for each byte.
#[test]
fn a_few_at_a_time_are_woken() {
    let budget = Budget::new(pool());
    assert!(budget.may_take(ConnId(0), Mono(0)));
    let all = admit(&budget, ConnId(0), LIMIT, Grant::Shared);
    let crowd: Vec<_> = (1..=100).map(|id| Waiter::new(ConnId(id))).collect();
    crowd.iter().for_each(|conn| budget.wait(conn, Mono(0)));
    release(&budget, all);
    let mut order = woken(&budget);
    assert_eq!(order.len(), WAKE_AT_ONCE);
    while budget.is_short() {
        budget.retry(budget.retry_at());
        order.extend(woken(&budget));
    }
    assert_eq!(order, (1..=100).collect::<Vec<_>>(), "in turn");
}
