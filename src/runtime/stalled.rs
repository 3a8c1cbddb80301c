//! Clients that do not take the replies they have asked for: which of them have to go
//! when the memory that they hold is too much. Those that would hold it longest go first;
//! a slow reader that goes on reading is none of them while others do nothing at all.

use crate::broker::ConnId;

/// A connection whose client takes next to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stalled {
    /// The connection.
    pub conn: ConnId,
    /// Memory of its replies that nobody else has.
    pub own: usize,
    /// Slices of memory that others have, or had: it may be kept alive for this connection alone.
    pub shared: usize,
    /// How much of `own` was read from disk.
    pub loaded: usize,
    /// How long it needs for all of it at the rate at which it takes bytes.
    pub drain_ms: u64,
}

/// Those that have to go, so that no more than `limit` bytes are held. `shared` says whether slices of
/// shared memory count: they cost something only if the others have let go of them.
pub fn to_close(stalled: &mut [Stalled], limit: usize, shared: bool) -> Vec<ConnId> {
    let bytes = |one: &Stalled| one.own + if shared { one.shared } else { 0 };
    let mut held: usize = stalled.iter().map(bytes).sum();
    stalled.sort_unstable_by_key(|one| std::cmp::Reverse((one.drain_ms, bytes(one))));
    let mut gone = Vec::new();
    for one in stalled.iter().filter(|one| bytes(one) > 0) {
        if held <= limit {
            break;
        }
        held -= bytes(one);
        gone.push(one.conn);
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(conn: u64, own: usize, shared: usize, drain_ms: u64) -> Stalled {
        Stalled {
            conn: ConnId(conn),
            own,
            shared,
            loaded: 0,
            drain_ms,
        }
    }

    #[test]
    fn who_needs_longest_goes_first_and_no_more_than_have_to() {
        let mut all = [
            one(1, 40, 0, 20_000),
            one(2, 40, 0, 9),
            one(3, 40, 0, 50_000),
        ];
        assert_eq!(to_close(&mut all, 120, true), []);
        assert_eq!(to_close(&mut all, 119, true), [ConnId(3)]);
        assert_eq!(to_close(&mut all, 79, true), [ConnId(3), ConnId(1)]);
        assert_eq!(
            to_close(&mut all, 0, true),
            [ConnId(3), ConnId(1), ConnId(2)]
        );
    }

    #[test]
    fn what_others_have_too_counts_only_if_it_costs_something() {
        let mut all = [one(1, 10, 1000, 5), one(2, 10, 1000, 6), one(3, 0, 50, 7)];
        assert_eq!(to_close(&mut all, 20, false), []);
        assert_eq!(to_close(&mut all, 19, false), [ConnId(2)]);
        assert_eq!(to_close(&mut all, 2020, true), [ConnId(3)]);
        assert_eq!(to_close(&mut all, 1999, true), [ConnId(3), ConnId(2)]);
    }
}
