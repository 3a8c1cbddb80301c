//! The requests of a connection take effect in their order: each sees what those before it on the same
//! connection have done, as in Kafka, which handles one request of a connection at a time.
//!
//! Here requests of a connection are worked on together, so that pipelining pays. A request waits only
//! where it could see the difference: when it looks at something that an earlier one, not answered yet, is
//! changing. Whatever comes after a request that waits, waits behind it; so a request never sees the effect of
//! a later one either. Changes need not wait for each other: each kind is decided by one owner, in the order of
//! arrival. No request waits longer than Kafka would let it wait.

use std::collections::VecDeque;

/// A set of things that requests change and look at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Things(u8);

impl Things {
    pub const NONE: Self = Self(0);
    /// Which topics and partitions there are, and their settings.
    pub const TOPICS: Self = Self(1);
    /// The records of partitions.
    pub const RECORDS: Self = Self(1 << 1);
    /// The members of groups.
    pub const MEMBERS: Self = Self(1 << 2);
    /// The committed offsets of groups.
    pub const OFFSETS: Self = Self(1 << 3);
    const COUNT: usize = 4;
    pub const ALL: Self = Self((1 << Self::COUNT) - 1);

    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What one request changes before it is answered, and what it looks at when it begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Footprint {
    pub changes: Things,
    pub looks: Things,
}

/// What requests of an API change and look at. What is decided by the owner of the thing, in the order of
/// arrival, does not count as looking: a Produce appends behind the one before, a CreateTopics is decided
/// against a DeleteTopics that is not durable yet.
pub(super) fn footprint(key: i16) -> Footprint {
    use Things as T;
    let groups = T::MEMBERS.and(T::OFFSETS);
    let (changes, looks) = match key {
        // Produce.
        0 => (T::RECORDS, T::TOPICS),
        // Fetch, ListOffsets, OffsetForLeaderEpoch, DescribeLogDirs.
        1 | 2 | 23 | 35 => (T::NONE, T::RECORDS.and(T::TOPICS)),
        // Metadata: it may create topics.
        3 => (T::TOPICS, T::TOPICS),
        // OffsetCommit.
        8 => (T::OFFSETS, T::NONE),
        // OffsetFetch.
        9 => (T::NONE, T::OFFSETS),
        // FindCoordinator, Heartbeat, ApiVersions, InitProducerId: what they change nobody can look at.
        // DescribeAcls, ListPartitionReassignments: they look at nothing.
        10 | 12 | 18 | 22 | 29 | 46 => (T::NONE, T::NONE),
        // JoinGroup, LeaveGroup, SyncGroup.
        11 | 13 | 14 => (T::MEMBERS, T::NONE),
        // DescribeGroups, ListGroups.
        15 | 16 => (T::NONE, groups),
        // CreateTopics, AlterConfigs, CreatePartitions, IncrementalAlterConfigs.
        19 | 33 | 37 | 44 => (T::TOPICS, T::NONE),
        // DeleteTopics: what was committed for them goes too.
        20 => (T::TOPICS.and(T::RECORDS).and(T::OFFSETS), T::NONE),
        // DeleteRecords: up to a high watermark, which the records before it must have moved.
        21 => (T::RECORDS, T::RECORDS.and(T::TOPICS)),
        // DescribeConfigs, DescribeCluster, ListConfigResources, DescribeTopicPartitions.
        32 | 60 | 74 | 75 => (T::NONE, T::TOPICS),
        // DeleteGroups.
        42 => (groups, groups),
        // OffsetDelete.
        47 => (T::OFFSETS, groups),
        // Nothing is known of it: it takes its turn.
        _ => (T::ALL, T::ALL),
    };
    Footprint { changes, looks }
}

/// The requests of one connection that are in progress or have to wait.
#[derive(Debug)]
pub(super) struct Order<T> {
    /// How many in progress change each thing.
    changing: [u32; Things::COUNT],
    waiting: VecDeque<(Footprint, T)>,
}

impl<T> Default for Order<T> {
    fn default() -> Self {
        Self {
            changing: [0; Things::COUNT],
            waiting: VecDeque::new(),
        }
    }
}

impl<T> Order<T> {
    /// Whether a request that has just come may begin; if so, it counts as in progress from now on.
    pub fn begin(&mut self, footprint: Footprint) -> bool {
        let begins = self.waiting.is_empty() && self.is_free(footprint);
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
        for thing in things(footprint.changes) {
            debug_assert!(self.changing[thing] > 0, "answered, but never begun");
            self.changing[thing] = self.changing[thing].saturating_sub(1);
        }
        self.is_ready()
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
    }

    fn count(&mut self, footprint: Footprint) {
        for thing in things(footprint.changes) {
            self.changing[thing] += 1;
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
    use crate::wire::APIS;

    fn any_footprint() -> impl Strategy<Value = Footprint> {
        let things = 0..=Things::ALL.0;
        (things.clone(), things).prop_map(|(changes, looks)| Footprint {
            changes: Things(changes),
            looks: Things(looks),
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
            let looks = self.footprints[number].looks;
            for earlier in 0..number {
                let (begun, answered) = self.states[earlier];
                assert!(begun, "{number} overtook {earlier}");
                let seen = self.footprints[earlier].changes.0 & looks.0 != 0;
                assert!(answered || !seen, "{number} misses what {earlier} does");
            }
            self.states[number].0 = true;
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

        /// The first that waits looks at something that is being changed.
        fn has_a_reason(&self) -> bool {
            let Some(first) = self.states.iter().position(|(begun, _)| !begun) else {
                return true;
            };
            let looks = self.footprints[first].looks;
            self.in_progress()
                .iter()
                .any(|earlier| self.footprints[*earlier].changes.0 & looks.0 != 0)
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

    /// Whether a request of the second API waits for one of the first.
    fn waits(first: i16, second: i16) -> bool {
        let mut order: Order<()> = Order::default();
        assert!(order.begin(footprint(first)));
        !order.begin(footprint(second))
    }

    #[test]
    fn who_waits_for_whom() {
        const PRODUCE: i16 = 0;
        const FETCH: i16 = 1;
        let waiting = [
            (PRODUCE, FETCH, "Fetch"),
            (PRODUCE, 2, "ListOffsets"),
            (PRODUCE, 21, "DeleteRecords"),
            (21, 2, "DeleteRecords, ListOffsets"),
            (8, 9, "OffsetCommit, OffsetFetch"),
            (8, 15, "OffsetCommit, DescribeGroups: it may make the group"),
            (8, 42, "OffsetCommit, DeleteGroups"),
            (47, 9, "OffsetDelete, OffsetFetch"),
            (42, 16, "DeleteGroups, ListGroups"),
            (11, 15, "JoinGroup, DescribeGroups"),
            (13, 15, "LeaveGroup, DescribeGroups"),
            (13, 42, "LeaveGroup, DeleteGroups"),
            (19, 3, "CreateTopics, Metadata"),
            (19, PRODUCE, "CreateTopics, Produce"),
            (19, FETCH, "CreateTopics, Fetch"),
            (37, PRODUCE, "CreatePartitions, Produce"),
            (20, 3, "DeleteTopics, Metadata"),
            (20, PRODUCE, "DeleteTopics, Produce"),
            (20, 9, "DeleteTopics, OffsetFetch"),
            (44, 32, "IncrementalAlterConfigs, DescribeConfigs"),
            (44, PRODUCE, "IncrementalAlterConfigs, Produce"),
            (3, 3, "Metadata that creates, Metadata"),
            (-1, FETCH, "an API that nothing is known of"),
        ];
        for (first, second, what) in waiting {
            assert!(waits(first, second), "{what}");
        }
        for (first, second) in [
            (PRODUCE, PRODUCE),
            (PRODUCE, 3),
            (PRODUCE, 8),
            (FETCH, FETCH),
            (FETCH, PRODUCE),
            (FETCH, 8),
            (8, 8),
            (8, FETCH),
            (11, 12),
            (19, 20),
            (20, 19),
            (22, PRODUCE),
        ] {
            assert!(!waits(first, second), "{first}, {second}");
        }
    }

    #[test]
    fn every_api_that_only_tells_changes_nothing() {
        let tells = |name: &str| {
            ["Describe", "List"]
                .iter()
                .any(|verb| name.starts_with(verb))
                || name.ends_with("Fetch")
                || name == "ApiVersions"
        };
        for api in APIS.iter().filter(|api| tells(api.name)) {
            let known = footprint(api.key) != footprint(-1);
            let changes = footprint(api.key).changes;
            assert!(!known || changes == Things::NONE, "{}", api.name);
        }
    }

    #[test]
    fn what_comes_behind_one_that_waits_waits_too() {
        let mut order = Order::default();
        assert!(order.begin(footprint(0)));
        assert!(!order.begin(footprint(2)));
        order.wait(footprint(2), 'l');
        assert!(!order.begin(footprint(0)), "ListOffsets would see it");
        order.wait(footprint(0), 'p');
        assert!(order.answered(footprint(0)));
        assert_eq!((order.next(), order.next()), (Some('l'), Some('p')));
        assert_eq!(order.next(), None);
    }
}
