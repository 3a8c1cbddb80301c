//! The simulated network: between any two ends, frames take their time, keep their
//! order within a stream, and wait while their way is shut.

use std::collections::BTreeMap;

use super::clock::delay;
use crate::base::Rng;

/// Who sends and receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// A client, by its number.
    Client(usize),
    /// A node, by its number.
    Node(usize),
}

/// One direction of a connection: nothing in it overtakes anything else.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    last: u64,
}

impl Stream {
    /// When that is there which would arrive at `at` if it were alone.
    pub fn arrives_at(&mut self, at: u64) -> u64 {
        self.last = at.max(self.last + 1);
        self.last
    }
}

/// See the module.
#[derive(Debug)]
pub struct Net {
    /// The longest time that a frame takes whose way is open, ns.
    delay_max: u64,
    /// Ways that are shut, each in one direction, and until when.
    shut: BTreeMap<(End, End), u64>,
}

impl Net {
    /// A network in which a frame takes up to so many ns.
    #[must_use]
    pub const fn new(delay_max: u64) -> Self {
        Self {
            delay_max,
            shut: BTreeMap::new(),
        }
    }

    /// Shuts the way in one direction; what is sent waits until it is open again.
    pub fn shut(&mut self, from: End, to: End, until: u64) {
        let known = self.shut.entry((from, to)).or_default();
        *known = until.max(*known);
    }

    /// Opens all ways to what is sent from now on.
    pub fn open_all(&mut self) {
        self.shut.clear();
    }

    /// Whether the way in this direction is shut.
    #[must_use]
    pub fn is_shut(&self, now: u64, from: End, to: End) -> bool {
        self.shut.get(&(from, to)).is_some_and(|until| *until > now)
    }

    /// When what is sent now arrives.
    pub fn arrival(&self, now: u64, from: End, to: End, rng: &mut Rng) -> u64 {
        let until = self.shut.get(&(from, to)).copied().unwrap_or(0);
        now.max(until) + delay(rng, self.delay_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_is_shut_in_its_direction_and_for_its_time() {
        let (mut net, mut rng) = (Net::new(100), Rng::new(1));
        let (client, node) = (End::Client(3), End::Node(0));
        net.shut(client, node, 5_000);
        net.shut(client, node, 4_000);
        assert!(net.is_shut(4_999, client, node) && !net.is_shut(5_000, client, node));
        assert!(!net.is_shut(0, node, client));
        for _ in 0..100 {
            let there = net.arrival(1_000, client, node, &mut rng);
            assert!((5_001..=5_101).contains(&there), "{there}");
            let back = net.arrival(1_000, node, client, &mut rng);
            assert!((1_001..=1_101).contains(&back), "{back}");
        }
        net.open_all();
        assert!(net.arrival(1_000, client, node, &mut rng) <= 1_101);
    }

    #[test]
    fn nothing_overtakes_within_a_stream() {
        let mut stream = Stream::default();
        assert_eq!([7, 3, 3, 20].map(|at| stream.arrives_at(at)), [7, 8, 9, 20]);
    }
}
