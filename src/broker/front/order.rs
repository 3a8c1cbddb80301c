//! The requests of a connection take effect in their order: each sees what those before it on the same
//! connection have done, as in Kafka, which handles one request of a connection at a time.
//!
//! Here requests of a connection are worked on together, so that pipelining pays. A request waits only
//! where it, or an earlier one, could see the difference: when it looks at something that an earlier one, not answered
//! yet, is changing, or changes something that an earlier one, which takes several turns, is still to look at.
//! Whatever comes after a request that waits, waits behind it; so a request never sees the effect of a later one
//! either. What neither changes nor looks at anything passes by: a heartbeat that waited for somebody's long answer
//! would come too late. It stays behind whoever changes the members of groups, because it tells whether there is one.
//! A rebalance does not wait for ever either: who joins, syncs or leaves passes what has nothing to do with groups, but
//! no commit, which counts only if its sender is a member when it is decided on. Other changes need not wait for each
//! other: each kind is decided by one owner, in the order of arrival. No request waits longer than Kafka would let it
//! wait.

use std::collections::VecDeque;

/// A set of things that requests change and look at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Things(u8);

impl Things {
    pub const NONE: Self = Self(0);
    /// Topics and partitions that come.
    pub const NEW_TOPICS: Self = Self(1);
    /// Topics that are there: that they stay, and their settings.
    pub const OLD_TOPICS: Self = Self(1 << 1);
    /// Which topics and partitions there are, and their settings.
    pub const TOPICS: Self = Self::NEW_TOPICS.and(Self::OLD_TOPICS);
    /// The records of partitions.
    pub const RECORDS: Self = Self(1 << 2);
    /// The members of groups.
    pub const MEMBERS: Self = Self(1 << 3);
    /// The committed offsets of groups.
    pub const OFFSETS: Self = Self(1 << 4);
    /// What is known of transactional ids.
    pub const TRANSACTIONS: Self = Self(1 << 5);
    const COUNT: usize = 6;
    pub const ALL: Self = Self((1 << Self::COUNT) - 1);

    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// What one request changes before it is answered, what it looks at when it begins, and what it goes on to look at
/// until it is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    pub changes: Things,
    pub looks: Things,
    pub watches: Things,
}

impl Footprint {
    /// Whether a request, though it came later, may begin before one that waits.
    const fn passes(self, waiting: Self) -> bool {
        const MEMBERS: Things = Things::MEMBERS;
        let own = self.changes.and(self.looks).and(self.watches);
        if own.0 == 0 {
            return !waiting.changes.meets(MEMBERS);
        }
        let others = waiting.looks.and(waiting.watches);
        MEMBERS.0 | own.0 == MEMBERS.0
            && !waiting.changes.meets(MEMBERS.and(Things::OFFSETS))
            && !others.meets(MEMBERS)
    }
}

/// The requests of one connection that are in progress or have to wait.
#[derive(Debug)]
pub struct Order<T> {
    /// How many in progress change each thing.
    changing: [u32; Things::COUNT],
    /// How many in progress are still to look at each.
    watching: [u32; Things::COUNT],
    waiting: VecDeque<(Footprint, T)>,
}

impl<T> Default for Order<T> {
    fn default() -> Self {
        Self {
            changing: [0; Things::COUNT],
            watching: [0; Things::COUNT],
            waiting: VecDeque::new(),
        }
    }
}

impl<T> Order<T> {
    /// Whether a request that has just come may begin; if so, it counts as in progress from now on.
    pub fn begin(&mut self, footprint: Footprint) -> bool {
        let mut waiting = self.waiting.iter();
        let passes = waiting.all(|(earlier, _)| footprint.passes(*earlier));
        let begins = passes && self.is_free(footprint);
        if begins {
            self.count(footprint);
        }
        begins
    }

    /// Keeps a request that may not begin yet.
    pub fn wait(&mut self, footprint: Footprint, request: T) {
        self.waiting.push_back((footprint, request));
    }

    /// A request that had begun is answered. Returns whether one that waits may begin now.
    pub fn answered(&mut self, footprint: Footprint) -> bool {
        let counts = [
            (&mut self.changing, footprint.changes),
            (&mut self.watching, footprint.watches),
        ];
        for (counts, of) in counts {
            for thing in things(of) {
                debug_assert!(counts[thing] > 0, "answered, but never begun");
                counts[thing] = counts[thing].saturating_sub(1);
            }
        }
        self.is_ready()
    }

    /// Those that wait will not begin any more.
    pub fn forget_waiting(&mut self) {
        self.waiting.clear();
    }

    /// The first of those that wait, if it may begin now; it counts as in progress from now on.
    pub fn next(&mut self) -> Option<T> {
        if !self.is_ready() {
            return None;
        }
        let (footprint, request) = self.waiting.pop_front()?;
        self.count(footprint);
        Some(request)
    }

    fn is_ready(&self) -> bool {
        let first = self.waiting.front();
        first.is_some_and(|(footprint, _)| self.is_free(*footprint))
    }

    fn is_free(&self, footprint: Footprint) -> bool {
        things(footprint.looks).all(|thing| self.changing[thing] == 0)
            && things(footprint.changes).all(|thing| self.watching[thing] == 0)
    }

    fn count(&mut self, footprint: Footprint) {
        for thing in things(footprint.changes) {
            self.changing[thing] += 1;
        }
        for thing in things(footprint.watches) {
            self.watching[thing] += 1;
        }
    }
}

fn things(of: Things) -> impl Iterator<Item = usize> {
    (0..Things::COUNT).filter(move |thing| of.0 & (1 << thing) != 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_footprint() -> impl Strategy<Value = Footprint> {
        let things = 0..=Things::ALL.0;
        (things.clone(), things.clone(), things).prop_map(|(changes, looks, watches)| Footprint {
            changes: Things(changes),
            looks: Things(looks),
            watches: Things(watches),
        })
    }

    /// A connection whose requests are answered in any order.
    #[derive(Default)]
    struct Fixture {
        order: Order<usize>,
        footprints: Vec<Footprint>,
        /// By request: begun, answered.
        states: Vec<(bool, bool)>,
    }

    impl Fixture {
        fn arrive(&mut self, footprint: Footprint) {
            let number = self.footprints.len();
            self.footprints.push(footprint);
            self.states.push((false, false));
            if self.order.begin(footprint) {
                self.begun(number);
            } else {
                self.order.wait(footprint, number);
                assert!(self.has_a_reason(), "{number} waits for nothing");
            }
        }

        fn begun(&mut self, number: usize) {
            for earlier in 0..number {
                let (begun, answered) = self.states[earlier];
                let passes = self.footprints[number].passes(self.footprints[earlier]);
                assert!(begun || passes, "{number} overtook {earlier}");
                assert!(
                    answered || !self.is_seen(earlier, number),
                    "{number} misses what {earlier} does, or shows what it does itself"
                );
            }
            self.states[number].0 = true;
        }

        /// Whether the one sees what the other does.
        fn is_seen(&self, earlier: usize, later: usize) -> bool {
            let (earlier, later) = (&self.footprints[earlier], &self.footprints[later]);
            earlier.changes.0 & later.looks.0 != 0 || later.changes.0 & earlier.watches.0 != 0
        }

        fn answer(&mut self, number: usize) {
            self.states[number].1 = true;
            let ready = self.order.answered(self.footprints[number]);
            let mut begun = 0;
            while let Some(next) = self.order.next() {
                self.begun(next);
                begun += 1;
            }
            assert_eq!(ready, begun > 0);
            assert!(self.has_a_reason());
        }

        fn in_progress(&self) -> Vec<usize> {
            (0..self.states.len())
                .filter(|number| self.states[*number] == (true, false))
                .collect()
        }

        /// The first that waits does so for one in progress.
        fn has_a_reason(&self) -> bool {
            let Some(first) = self.states.iter().position(|(begun, _)| !begun) else {
                return true;
            };
            self.in_progress()
                .into_iter()
                .any(|earlier| self.is_seen(earlier, first))
        }
    }

    #[test]
    fn a_heartbeat_passes_what_waits_but_nobody_who_joins_or_leaves() {
        let fetch = Footprint {
            watches: Things::OFFSETS,
            ..Footprint::default()
        };
        let changes = |changes| Footprint {
            changes,
            ..Footprint::default()
        };
        let (commit, leave) = (changes(Things::OFFSETS), changes(Things::MEMBERS));
        let heartbeat = Footprint::default();
        let mut order = Order::default();
        assert!(order.begin(fetch));
        assert!(!order.begin(commit));
        order.wait(commit, "commit");
        assert!(order.begin(heartbeat));
        assert!(!order.begin(leave), "all else keeps its order");
        order.wait(leave, "leave");
        assert!(!order.begin(heartbeat));
        assert!(order.answered(fetch));
        assert_eq!(order.next(), Some("commit"));
    }

    #[test]
    fn who_joins_passes_what_waits_but_neither_commits_nor_questions_about_members() {
        let join = Footprint {
            changes: Things::MEMBERS,
            ..Footprint::default()
        };
        let looks = |looks| Footprint {
            looks,
            ..Footprint::default()
        };
        let changes = |changes| Footprint {
            changes,
            ..Footprint::default()
        };
        let produce = changes(Things::RECORDS);
        for (waits, passes) in [
            (looks(Things::RECORDS), true),
            (looks(Things::RECORDS.and(Things::OFFSETS)), true),
            (looks(Things::RECORDS.and(Things::MEMBERS)), false),
            (
                Footprint {
                    changes: Things::OFFSETS,
                    ..looks(Things::RECORDS)
                },
                false,
            ),
        ] {
            let mut order = Order::default();
            assert!(order.begin(produce));
            assert!(!order.begin(waits));
            order.wait(waits, ());
            assert_eq!(order.begin(join), passes, "{waits:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_the_order_of_answers_each_request_sees_those_before(
            steps: Vec<Option<prop::sample::Index>>,
            footprints in prop::collection::vec(any_footprint(), 0..40),
        ) {
            let mut f = Fixture::default();
            let mut arriving = footprints.iter();
            for step in steps {
                let open = f.in_progress();
                match step {
                    Some(which) if !open.is_empty() => f.answer(open[which.index(open.len())]),
                    _ => if let Some(footprint) = arriving.next() {
                        f.arrive(*footprint);
                    },
                }
            }
            while let Some(newest) = f.in_progress().pop() {
                f.answer(newest);
            }
            prop_assert!(f.states.iter().all(|state| *state == (true, true)), "one never began");
        }
    }
}
