//! The events to come, by virtual time. Events of the same moment happen in an
//! order drawn from the seed: no order that the code could come to rely on.

use std::collections::BTreeMap;

use crate::base::Rng;

/// See the module.
#[derive(Debug)]
pub struct Queue<E> {
    events: BTreeMap<(u64, u64, u64), E>,
    added: u64,
    rng: Rng,
}

impl<E> Queue<E> {
    /// An empty queue.
    #[must_use]
    pub const fn new(rng: Rng) -> Self {
        Self {
            events: BTreeMap::new(),
            added: 0,
            rng,
        }
    }

    /// Adds an event that happens at `at` (ns).
    pub fn add(&mut self, at: u64, event: E) {
        self.added += 1;
        let tie = self.rng.next_u64();
        self.events.insert((at, tie, self.added), event);
    }

    /// Takes the next event.
    pub fn take(&mut self) -> Option<(u64, E)> {
        let ((at, ..), event) = self.events.pop_first()?;
        Some((at, event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_orders_and_ties_are_drawn() {
        let run = |seed| {
            let mut queue = Queue::new(Rng::new(seed));
            for n in 0..20 {
                queue.add(7, n);
            }
            queue.add(6, 100);
            let mut order = Vec::new();
            while let Some((_, n)) = queue.take() {
                order.push(n);
            }
            order
        };
        assert_eq!(run(1)[0], 100);
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }
}
