//! What is still valid of a partition of `__consumer_offsets`, as records. Written to the end of the partition they
//! stand for all that was there before.
//!
//! A snapshot is made in parts, while commits go on and groups rebalance. It holds what is durable, key by key: the
//! last record that is known to be. What an append writes that is on its way stays out of it, or an older record would
//! come to lie behind a newer one. That append was begun after the snapshot, so it lies behind its beginning and
//! stands for itself, once it is durable; if it fails, what its keys had before is written after all. So:
//!
//! - appends that were begun before the snapshot have to end before its first part, since they may lie before it;
//! - those that were on their way when a part was made have to end before the snapshot is whole.
//!
//! Both are appends that exist already: no moment is needed at which nothing is on its way.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;

use super::coordinator::Entry;
use super::cx::Since;
use super::progress::{GoesOn, SnapshotPart, SnapshotProgress};
use super::records::{self, Key};
use super::{Coordinator, Name, Record};

/// Records of a part, and what else it has cost.
struct Part<'a> {
    records: Vec<Record>,
    bytes: usize,
    bytes_max: usize,
    since: &'a Since,
}

impl Part<'_> {
    /// What it costs to look at a record.
    const LOOK_BYTES: usize = 64;

    fn is_full(&self) -> bool {
        self.bytes >= self.bytes_max
    }

    /// Takes what is durable under a key, unless something else is on its way.
    fn take(&mut self, key: Bytes, value: impl FnOnce() -> Bytes) {
        self.bytes += Self::LOOK_BYTES;
        if !self.since.writes(&key) {
            let value = value();
            self.bytes += key.len() + value.len();
            self.records.push((key, Some(value)));
        }
    }

    /// Takes what a group has, but for its record and its offsets up to a place in it. Returns where to go on in it.
    fn take_group(
        &mut self,
        id: &Name,
        entry: &Entry,
        within: Option<&(Name, i32)>,
    ) -> Option<(Name, i32)> {
        self.bytes += Self::LOOK_BYTES;
        if within.is_none()
            && let Some(record) = &entry.record
        {
            self.take(records::group_key(id), || record.clone());
        }
        for (topic, partition, committed) in entry.offsets.after(within) {
            let key = records::offset_key(id, topic, partition);
            self.take(key, || records::offset_value(committed));
            if self.is_full() {
                return Some((topic.clone(), partition));
            }
        }
        None
    }
}

impl Coordinator {
    /// Bytes that a snapshot takes in a log, about.
    #[must_use]
    pub fn durable_bytes(&self) -> usize {
        self.durable_bytes
    }

    /// Begins a snapshot, which stands for what is in the log before now, and for what was asked to be appended before.
    /// False if there can be none: not everything is known, or there are records of a later version, which would be
    /// lost.
    pub fn begin_snapshot(&mut self) -> bool {
        if !self.loaded || self.foreign {
            return false;
        }
        self.appends.since = Some(Since::from(self.appends.next));
        self.snapshot = Some(SnapshotProgress {
            waits_for: self.appends.next,
            goes_on: GoesOn::After(None),
            again: BTreeSet::new(),
        });
        true
    }

    /// Goes on with the snapshot, by about so many bytes.
    pub fn snapshot_part(&mut self, bytes_max: usize) -> SnapshotPart {
        let (Some(snapshot), Some(since)) = (&mut self.snapshot, &self.appends.since) else {
            return SnapshotPart::Lost;
        };
        if !self.appends.have_ended_before(snapshot.waits_for) {
            return SnapshotPart::Wait;
        }
        let mut part = Part {
            records: Vec::new(),
            bytes: 0,
            bytes_max,
            since,
        };
        if let GoesOn::All = snapshot.goes_on {
            if snapshot.again.is_empty() {
                self.end_snapshot();
                return SnapshotPart::All;
            }
            while !part.is_full()
                && let Some(key) = snapshot.again.pop_first()
            {
                if let Some(value) = durable_value(&self.groups, &key) {
                    part.take(key, || value);
                }
            }
        } else {
            let (from, mut within) = snapshot.goes_on.begins();
            snapshot.goes_on = GoesOn::All;
            for (id, entry) in self.groups.range((from, Bound::Unbounded)) {
                let at = within.take().filter(|(of, _)| of == id).map(|(_, at)| at);
                if let Some(at) = part.take_group(id, entry, at.as_ref()) {
                    snapshot.goes_on = GoesOn::Within(id.clone(), at);
                    break;
                }
                if part.is_full() {
                    snapshot.goes_on = GoesOn::After(Some(id.clone()));
                    break;
                }
            }
        }
        let records = part.records;
        if let GoesOn::All = snapshot.goes_on {
            snapshot.waits_for = self.appends.next;
        }
        SnapshotPart::Records(records)
    }

    /// The snapshot is whole, or given up.
    pub fn end_snapshot(&mut self) {
        self.snapshot = None;
        self.appends.since = None;
    }

    /// An append has failed that perhaps stood for what its keys had before.
    pub(super) fn snapshot_again(&mut self, failed: &[Record]) {
        if let Some(snapshot) = &mut self.snapshot {
            let keys = failed.iter().map(|(key, _)| key);
            let known = keys.filter(|key| durable_value(&self.groups, key).is_some());
            snapshot.again.extend(known.cloned());
        }
    }
}

/// What is durable under a key.
fn durable_value(groups: &BTreeMap<Name, Entry>, key: &[u8]) -> Option<Bytes> {
    match records::parse_key(key).ok()? {
        Key::Group(id) => groups.get(id)?.record.clone(),
        Key::Offset {
            group,
            topic,
            partition,
        } => {
            let committed = groups.get(group)?.offsets.get(topic, partition)?;
            Some(records::offset_value(committed))
        }
        Key::Other(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::SnapshotPart;
    use super::super::testing::{Client, World};
    use super::super::{GroupConfig, Name, Record, TopicIds};
    use crate::base::{ErrorCode, Mono, Now, Rng, TopicId};
    use crate::group::Coordinator;

    const NOW: Now = Now {
        mono: Mono(1),
        wall_ms: 5,
    };

    const NO_IDS: TopicIds<'static> = &|_| TopicId::ZERO;

    /// What a coordinator knows after it has replayed these records of the partition.
    fn replayed<'a>(records: impl IntoIterator<Item = &'a Record>) -> Coordinator {
        let mut coordinator = Coordinator::new(GroupConfig::default(), 1);
        for (key, value) in records {
            let replayed = coordinator.replay(key, value.as_deref(), 5, NO_IDS);
            assert!(replayed.is_ok());
        }
        coordinator.loaded(NOW, &mut Vec::new());
        coordinator.invariants();
        coordinator
    }

    /// All groups that have something.
    fn shown(coordinator: &Coordinator) -> String {
        let groups = coordinator.groups.iter();
        let shown = groups.filter(|(_, entry)| entry.record_bytes() > 0);
        let shown =
            shown.map(|(id, entry)| format!("{id} {:?} {:?}\n", entry.record, entry.offsets));
        shown.collect()
    }

    /// A snapshot for which nothing has to be waited for.
    fn snapshot(coordinator: &mut Coordinator) -> Vec<Record> {
        assert!(coordinator.begin_snapshot());
        let mut all = Vec::new();
        loop {
            match coordinator.snapshot_part(1) {
                SnapshotPart::Records(records) => all.extend(records),
                SnapshotPart::All => return all,
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn it_stands_for_the_whole_log() {
        let mut world = World::new(GroupConfig::default());
        let mut client = Client::new();
        world.stable(&mut [&mut client]);
        for offset in 0..20 {
            assert!(world.commit(&client, offset % 3, offset.into()).is_ok());
        }
        // A rebalance that does not end: the group is ahead of its record.
        world.join(&mut Client::new());
        let log = world.log.clone();
        let snapshot = snapshot(&mut world.coordinator);
        assert_eq!(snapshot.len(), 1 + 3, "the group, and its three offsets");
        let size = |(key, value): &Record| key.len() + value.as_ref().map_or(0, |v| v.len());
        let bytes: usize = snapshot.iter().map(size).sum();
        let told = world.coordinator.durable_bytes();
        assert!(told >= bytes && told < bytes * 2, "{told} for {bytes}");
        assert!(snapshot.len() < log.len());
        let from_log = shown(&replayed(&log));
        assert_eq!(shown(&replayed(&snapshot)), from_log);
        // A crash before the old records are gone: they are replayed first.
        assert_eq!(shown(&replayed(log.iter().chain(&snapshot))), from_log);
    }

    #[test]
    fn not_before_everything_is_known_nor_when_it_is_forgotten() {
        let mut coordinator = Coordinator::new(GroupConfig::default(), 1);
        assert!(!coordinator.begin_snapshot());
        coordinator.loaded(NOW, &mut Vec::new());
        assert_eq!(snapshot(&mut coordinator), []);
        assert!(coordinator.begin_snapshot());
        coordinator.unload(NOW, &mut Vec::new());
        assert_eq!(coordinator.snapshot_part(1), SnapshotPart::Lost);
        assert!(!coordinator.begin_snapshot());
        // A record of a kind that this release does not know.
        let mut coordinator = Coordinator::new(GroupConfig::default(), 1);
        let key = [0, 99, 1, 2, 3];
        assert!(coordinator.replay(&key, None, 0, NO_IDS).is_ok());
        coordinator.loaded(NOW, &mut Vec::new());
        assert!(!coordinator.begin_snapshot());
    }

    #[test]
    fn a_group_that_says_not_since_when_it_is_as_it_is_does_not_become_younger() {
        let mut world = World::new(GroupConfig::default());
        let mut client = Client::new();
        world.stable(&mut [&mut client]);
        let (key, value) = world.log.last().cloned().unwrap();
        let mut value = super::records::parse_group_value(&value.unwrap()).unwrap();
        value.state_since_ms = None;
        let value = super::records::group_value(&value);
        let mut coordinator = Coordinator::new(GroupConfig::default(), 1);
        assert!(coordinator.replay(&key, Some(&value), 77, NO_IDS).is_ok());
        coordinator.loaded(NOW, &mut Vec::new());
        let records = snapshot(&mut coordinator);
        let value = super::records::parse_group_value(records[0].1.as_ref().unwrap()).unwrap();
        assert_eq!(value.state_since_ms, Some(77));
    }

    #[test]
    fn a_deletion_that_takes_several_batches_leaves_to_it_what_it_does_not_delete() {
        const FAILED: Result<(), ErrorCode> = Err(ErrorCode::KafkaStorageError);
        for (ends, left) in [
            (vec![Ok(()), Ok(())], 0..1),
            (vec![Ok(()), FAILED], 1..120),
            (vec![FAILED], 120..121),
        ] {
            let mut world = World::new(GroupConfig::default());
            let client = Client {
                group: Name::from("g".repeat(32_767)),
                ..Client::new()
            };
            for first in [0, 60] {
                assert!(world.commit_all(&client, first..first + 60, 7).is_ok());
            }
            let begin = world.log.len();
            world.hold_appends = true;
            assert!(world.coordinator.begin_snapshot());
            let (now, token, mut effects) = (world.now, world.token(), Vec::new());
            let coordinator = &mut world.coordinator;
            let deleted = coordinator.delete_group(now, token, &client.group, &mut effects);
            assert_eq!(deleted, Ok(()));
            world.perform(effects);
            let (mut records, mut ends) = (Vec::new(), ends.into_iter());
            loop {
                match world.coordinator.snapshot_part(1 << 20) {
                    SnapshotPart::Records(more) => records.extend(more),
                    SnapshotPart::Wait => world.append_ends(ends.next().unwrap()),
                    SnapshotPart::All => break,
                    SnapshotPart::Lost => panic!("nobody has given it up"),
                }
            }
            ends.for_each(|end| world.append_ends(end));
            assert!(world.written.contains_key(&token));
            // The second batch lies behind the snapshot, and the first one is of other keys.
            let kept = replayed(records.iter().chain(&world.log[begin..]));
            assert!(shown(&kept) == shown(&world.coordinator));
            let offsets = kept.offsets(&client.group);
            let count = offsets.map_or(0, |offsets| offsets.after(None).count());
            assert!(left.contains(&count), "{count} of {left:?}");
        }
    }

    /// A log in which appends come to lie some time after they were asked for, and before they end.
    struct Log {
        world: World,
        rng: Rng,
        batches: Vec<Batch>,
        /// How many of the world's pending appends are in the log.
        placed: usize,
        /// Batches that are surely durable.
        durable: usize,
        /// Where the snapshot that is being made begins.
        first: usize,
        /// Where the log begins, and which of its ends tell that.
        dropped: (usize, usize),
    }

    struct Batch {
        is_snapshot: bool,
        records: Vec<Record>,
    }

    impl Log {
        fn new(seed: u64) -> Self {
            let mut world = World::new(GroupConfig::default());
            world.hold_appends = true;
            Self {
                world,
                rng: Rng::new(seed),
                batches: Vec::new(),
                placed: 0,
                durable: 0,
                first: 0,
                dropped: (0, 0),
            }
        }

        fn push(&mut self, is_snapshot: bool, records: Vec<Record>) {
            self.batches.push(Batch {
                is_snapshot,
                records,
            });
        }

        /// The next append that is not in the log comes to be in it.
        fn place(&mut self) {
            if let Some(pending) = self.world.pending.get(self.placed) {
                let records = pending.records.to_vec();
                self.placed += 1;
                self.push(false, records);
            }
        }

        fn end_first(&mut self) {
            if self.placed == 0 {
                if !self.world.pending.is_empty() {
                    self.world.append_ends(Err(ErrorCode::KafkaStorageError));
                }
                return;
            }
            let own = (0..self.batches.len()).filter(|at| !self.batches[*at].is_snapshot);
            let at = own.rev().nth(self.placed - 1).unwrap();
            self.durable = self.durable.max(at + 1);
            self.placed -= 1;
            self.world.append_ends(Ok(()));
        }

        fn snapshot(&mut self) {
            let bytes_max = 1 + self.rng.below(400) as usize;
            match self.world.coordinator.snapshot_part(bytes_max) {
                SnapshotPart::Lost => {
                    self.first = self.batches.len();
                    assert!(self.world.coordinator.begin_snapshot());
                }
                SnapshotPart::Wait => assert!(!self.world.pending.is_empty()),
                SnapshotPart::Records(records) => self.push(true, records),
                SnapshotPart::All => {
                    let is_last = |batch: &Batch| batch.is_snapshot;
                    let end = self
                        .batches
                        .iter()
                        .rposition(is_last)
                        .map_or(0, |at| at + 1);
                    self.durable = self.durable.max(end);
                    self.dropped = (self.first, end.max(self.first));
                }
            }
        }

        /// Whatever end the log has after a crash: what it holds is what it would hold without snapshots.
        fn check(&self) {
            for end in self.durable..=self.batches.len() {
                let whole = self.batches[..end].iter();
                let whole = whole.filter(|batch| !batch.is_snapshot);
                let (first, _) = self.dropped;
                for first in [0, first] {
                    let kept = self.batches[first..end.max(first)].iter();
                    assert_eq!(
                        shown(&replayed(kept.flat_map(|batch| &batch.records))),
                        shown(&replayed(whole.clone().flat_map(|batch| &batch.records))),
                        "from {first} to {end}"
                    );
                }
            }
        }

        fn act(&mut self) {
            let groups = ["g", "h", "i"];
            let nobody = Client {
                group: Name::from(groups[self.rng.below(3) as usize]),
                ..Client::new()
            };
            let (world, mut effects) = (&mut self.world, Vec::new());
            match self.rng.below(12) {
                0..5 => {
                    let partition = self.rng.below(6) as i32;
                    let until = partition + 1 + self.rng.below(3) as i32;
                    let offset = self.rng.below(1000) as i64;
                    _ = world.commit_all(&nobody, partition..until, offset);
                }
                5 => {
                    let targets: Vec<_> = (0..2).map(|p| (Name::from("t"), p)).collect();
                    let (now, token) = (world.now, world.token());
                    let group = &nobody.group;
                    let coordinator = &mut world.coordinator;
                    _ = coordinator.delete_offsets(now, token, group, &targets, &mut effects);
                }
                6 => {
                    let (now, token) = (world.now, world.token());
                    let coordinator = &mut world.coordinator;
                    _ = coordinator.delete_group(now, token, &nobody.group, &mut effects);
                }
                7 => {
                    world.send_join(&Client {
                        version: 3,
                        ..nobody
                    });
                }
                8 => {
                    let joined = std::mem::take(&mut world.joined);
                    for reply in joined.into_values() {
                        for group in groups {
                            let client = Client {
                                group: Name::from(group),
                                id: reply.member.clone(),
                                generation: reply.generation,
                                ..Client::new()
                            };
                            world.sync(&client, &[(&client, "assignment")]);
                        }
                    }
                }
                _ => world.advance(self.rng.below(6_000)),
            }
            self.world.perform(effects);
        }
    }

    #[test]
    fn whatever_happens_while_it_is_made_nothing_is_lost_and_nothing_comes_back() {
        let mut finished = 0;
        for seed in 0..60 {
            let mut log = Log::new(seed);
            for _ in 0..200 {
                match log.rng.below(8) {
                    0..3 => log.act(),
                    3 | 4 => log.place(),
                    5 => log.end_first(),
                    _ => log.snapshot(),
                }
                if log.rng.chance(1, 8) {
                    log.check();
                }
            }
            finished += usize::from(log.dropped.1 > 0);
        }
        assert!(finished > 30, "{finished} of 60");
    }
}
