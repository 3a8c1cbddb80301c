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
//!
//! So it is with transactions. What one has committed that is not over yet counts by where its record lies, not by
//! where its marker does, so no record may come to lie between the two that says what was committed before:
//!
//! - what there is under a key of which a transaction has an offset is written when none has any more;
//! - transactions of which there are records before the beginning have to be over before the snapshot is whole. What
//!   they have committed is written once more: their markers lie behind the beginning, and nothing before it stays.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;

use super::consumer;
use super::coordinator::Entry;
use super::cx::{Appends, Since};
use super::logged::LogPlace;
use super::progress::{GoesOn, SnapshotPart, SnapshotProgress};
use super::records::{self, Key};
use super::streams;
use super::{Committed, Coordinator, Name, Record};

/// Records of a part, and what else it has cost.
struct Part<'a> {
    records: Vec<Record>,
    bytes: usize,
    bytes_max: usize,
    appends: &'a Appends,
    since: &'a Since,
    skipped: &'a mut BTreeSet<Bytes>,
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

    /// Takes a committed offset, unless its record lies behind the beginning, or a transaction has one.
    fn take_offset(
        &mut self,
        (id, entry): (&str, &Entry),
        (topic, partition): (&str, i32),
        (committed, place): (&Committed, LogPlace),
    ) {
        self.bytes += Self::LOOK_BYTES;
        if self.since.began_before(place) {
            return;
        }
        let key = records::offset_key(id, topic, partition);
        if self.is_unstable((id, entry), (topic, partition)) {
            self.bytes += key.len();
            self.skipped.insert(key);
        } else {
            self.take(key, || records::offset_value(committed));
        }
    }

    /// Whether a transaction has an offset for a partition, or writes one.
    fn is_unstable(&self, (id, entry): (&str, &Entry), (topic, partition): (&str, i32)) -> bool {
        let writes = self.appends.unstable.get(id);
        entry.pending.contains(topic, partition)
            || writes.is_some_and(|writes| writes.contains(topic, partition))
    }

    /// Takes what is durable under a key.
    fn take_key(&mut self, groups: &BTreeMap<Name, Entry>, key: Bytes) {
        self.bytes += Self::LOOK_BYTES;
        match records::parse_key(&key) {
            Ok(Key::Group(id)) => {
                let record = groups.get(id).and_then(|entry| entry.record.clone());
                if let Some(record) = record {
                    self.take(key, || record);
                }
            }
            Ok(Key::Offset {
                group,
                topic,
                partition,
            }) => {
                let entry = groups.get(group);
                let placed = entry.and_then(|entry| {
                    let committed = entry.offsets.get(topic, partition)?;
                    Some((entry, committed, entry.offsets.place(topic, partition)?))
                });
                if let Some((entry, committed, place)) = placed {
                    let of = (topic, partition);
                    self.take_offset((group, entry), of, (committed, place));
                }
            }
            Ok(Key::Consumer(id, kind)) => {
                let consumer = groups.get(id).and_then(|entry| entry.consumer.as_ref());
                let like = consumer::records::parse(kind, None).ok().flatten();
                let durable = consumer
                    .zip(like)
                    .and_then(|(it, like)| it.durable_like(&like));
                if let Some(change) = durable {
                    self.take_record(consumer::records::record(id, &change));
                }
            }
            Ok(Key::Streams(id, kind)) => {
                let streams = groups.get(id).and_then(|entry| entry.streams.as_ref());
                let like = streams::records::parse(kind, None).ok().flatten();
                let durable = streams
                    .zip(like)
                    .and_then(|(it, like)| it.durable_like(&like));
                if let Some(change) = durable {
                    self.take_record(streams::records::record(id, &change));
                }
            }
            Ok(Key::Other(_)) | Err(_) => {}
        }
    }

    /// Takes what is durable of a group that is no classic one.
    fn take_record(&mut self, record: Record) {
        if let (key, Some(value)) = record {
            self.take(key, || value);
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
        if within.is_none()
            && let Some(consumer) = &entry.consumer
        {
            let durable = consumer.durable();
            let records = durable.iter();
            records
                .map(|change| consumer::records::record(id, change))
                .for_each(|record| self.take_record(record));
        }
        if within.is_none()
            && let Some(streams) = &entry.streams
        {
            let durable = streams.durable();
            let records = durable.iter();
            records
                .map(|change| streams::records::record(id, change))
                .for_each(|record| self.take_record(record));
        }
        for (topic, partition, committed, place) in entry.offsets.placed_after(within) {
            self.take_offset((id, entry), (topic, partition), (committed, place));
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
        self.appends.since = Some(Since::begins(self.appends.next));
        self.snapshot = Some(SnapshotProgress {
            waits_for: self.appends.next,
            goes_on: GoesOn::After(None),
            again: BTreeSet::new(),
            skipped: BTreeSet::new(),
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
        let SnapshotProgress {
            waits_for,
            goes_on,
            again,
            skipped,
        } = snapshot;
        let mut part = Part {
            records: Vec::new(),
            bytes: 0,
            bytes_max,
            appends: &self.appends,
            since,
            skipped,
        };
        if let GoesOn::All = goes_on {
            let mut looked = false;
            while !part.is_full()
                && let Some(key) = next_again(&self.groups, again, &mut part)
            {
                looked = true;
                part.take_key(&self.groups, key);
            }
            if !looked {
                let reaches_back = self
                    .open
                    .oldest()
                    .is_some_and(|append| append < since.from());
                if reaches_back || !part.skipped.is_empty() {
                    return SnapshotPart::Wait;
                }
                self.end_snapshot();
                return SnapshotPart::All;
            }
        } else {
            let (from, mut within) = goes_on.begins();
            *goes_on = GoesOn::All;
            for (id, entry) in self.groups.range((from, Bound::Unbounded)) {
                let at = within.take().filter(|(of, _)| of == id).map(|(_, at)| at);
                if let Some(at) = part.take_group(id, entry, at.as_ref()) {
                    *goes_on = GoesOn::Within(id.clone(), at);
                    break;
                }
                if part.is_full() {
                    *goes_on = GoesOn::After(Some(id.clone()));
                    break;
                }
            }
        }
        let records = part.records;
        if let GoesOn::All = goes_on {
            *waits_for = self.appends.next;
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
            let known = keys.filter(|key| is_durable(&self.groups, key));
            snapshot.again.extend(known.cloned());
        }
    }

    /// A marker has made an offset count whose record is at this place. One that lies before the beginning is written
    /// once more, whether its key had its turn or not.
    pub(super) fn snapshot_moved(&mut self, place: LogPlace, key: impl FnOnce() -> Bytes) {
        if let (Some(snapshot), Some(since)) = (&mut self.snapshot, &self.appends.since)
            && !since.began_before(place)
        {
            snapshot.again.insert(key());
        }
    }
}

/// What is to be written of what was not before: the next key, if it can be.
fn next_again(
    groups: &BTreeMap<Name, Entry>,
    again: &mut BTreeSet<Bytes>,
    part: &mut Part<'_>,
) -> Option<Bytes> {
    again.pop_first().or_else(|| {
        let key = part.skipped.first()?;
        match is_unstable(groups, part, key) {
            true => None,
            false => part.skipped.pop_first(),
        }
    })
}

/// Whether a transaction has an offset under this key, or writes one, and what was committed before lies before the
/// beginning.
fn is_unstable(groups: &BTreeMap<Name, Entry>, part: &Part<'_>, key: &[u8]) -> bool {
    let Ok(Key::Offset {
        group,
        topic,
        partition,
    }) = records::parse_key(key)
    else {
        return false;
    };
    let Some(entry) = groups.get(group) else {
        return false;
    };
    let place = entry.offsets.place(topic, partition);
    place.is_some_and(|place| !part.since.began_before(place))
        && part.is_unstable((group, entry), (topic, partition))
}

/// Whether something is durable under a key.
fn is_durable(groups: &BTreeMap<Name, Entry>, key: &[u8]) -> bool {
    match records::parse_key(key) {
        Ok(Key::Group(id)) => groups.get(id).is_some_and(|entry| entry.record.is_some()),
        Ok(Key::Offset {
            group,
            topic,
            partition,
        }) => {
            let entry = groups.get(group);
            entry.is_some_and(|entry| entry.offsets.get(topic, partition).is_some())
        }
        // What there was before may be there again only when the failure is told to the group.
        Ok(Key::Consumer(..) | Key::Streams(..)) => true,
        Ok(Key::Other(_)) | Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::SnapshotPart;
    use super::super::testing::{Client, Logged, LoggedOffsets, World, replay};
    use super::super::{GroupConfig, Name, Replayed, TopicIds};
    use crate::base::{ErrorCode, Mono, Now, Rng, TopicId};
    use crate::group::Coordinator;

    const NOW: Now = Now {
        mono: Mono(1),
        wall_ms: 5,
    };

    const NO_IDS: TopicIds<'static> = &|_| TopicId::ZERO;

    /// What a coordinator knows after it has replayed these records of the partition.
    fn replayed<'a>(log: impl IntoIterator<Item = &'a Logged>) -> Coordinator {
        let mut coordinator = Coordinator::new(GroupConfig::default(), 1);
        for logged in log {
            replay(&mut coordinator, logged, 5, NO_IDS);
        }
        coordinator.loaded(NOW, &mut Vec::new());
        coordinator.invariants();
        coordinator
    }

    /// All groups that have something.
    fn shown(coordinator: &Coordinator) -> String {
        let groups = coordinator.groups.iter();
        let shown = groups.filter(|(_, entry)| entry.record_bytes() > 0);
        let shown = shown.map(|(id, entry)| {
            let offsets: Vec<_> = entry.offsets.after(None).collect();
            format!("{id} {:?} {offsets:?}\n", entry.record)
        });
        shown.collect()
    }

    /// A snapshot for which nothing has to be waited for.
    fn snapshot(coordinator: &mut Coordinator) -> Vec<Logged> {
        assert!(coordinator.begin_snapshot());
        let mut all = Vec::new();
        loop {
            match coordinator.snapshot_part(1) {
                SnapshotPart::Records(records) => all.extend(Logged::all(&records, None)),
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
        let size = |logged: &Logged| match logged {
            Logged::Record((key, value), _) => key.len() + value.as_ref().map_or(0, |v| v.len()),
            Logged::Marker(..) => 0,
        };
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
        assert!(snapshot(&mut coordinator).is_empty());
        assert!(coordinator.begin_snapshot());
        coordinator.unload(NOW, &mut Vec::new());
        assert_eq!(coordinator.snapshot_part(1), SnapshotPart::Lost);
        assert!(!coordinator.begin_snapshot());
        // A record of a kind that this release does not know.
        let mut coordinator = Coordinator::new(GroupConfig::default(), 1);
        let record = Replayed {
            key: &[0, 99, 1, 2, 3],
            value: None,
            timestamp_ms: 0,
            producer: None,
        };
        assert!(coordinator.replay(record, NO_IDS).is_ok());
        coordinator.loaded(NOW, &mut Vec::new());
        assert!(!coordinator.begin_snapshot());
    }

    #[test]
    fn a_group_that_says_not_since_when_it_is_as_it_is_does_not_become_younger() {
        let mut world = World::new(GroupConfig::default());
        let mut client = Client::new();
        world.stable(&mut [&mut client]);
        let Some(Logged::Record((key, value), None)) = world.log.last().cloned() else {
            panic!("a record");
        };
        let mut value = super::records::parse_group_value(&value.unwrap()).unwrap();
        value.state_since_ms = None;
        let value = super::records::group_value(&value);
        let mut coordinator = Coordinator::new(GroupConfig::default(), 1);
        let logged = Logged::Record((key, Some(value)), None);
        replay(&mut coordinator, &logged, 77, NO_IDS);
        coordinator.loaded(NOW, &mut Vec::new());
        let records = snapshot(&mut coordinator);
        let Logged::Record((_, Some(value)), _) = &records[0] else {
            panic!("a record");
        };
        let value = super::records::parse_group_value(value).unwrap();
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
                    SnapshotPart::Records(more) => records.extend(Logged::all(&more, None)),
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
        is_marker: bool,
        logged: Vec<Logged>,
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

        fn push(&mut self, is_snapshot: bool, logged: Vec<Logged>) {
            let is_marker = matches!(logged[..], [Logged::Marker(..)]);
            self.batches.push(Batch {
                is_snapshot,
                is_marker,
                logged,
            });
        }

        /// The next append that is not in the log comes to be in it.
        fn place(&mut self) {
            if let Some(pending) = self.world.pending.get(self.placed) {
                let logged = pending.logged().collect();
                self.placed += 1;
                self.push(false, logged);
            }
        }

        /// One in a transaction may be in the log, and is at once.
        fn verify(&mut self) {
            self.world.verified(Ok(()));
            while self.placed < self.world.pending.len() {
                self.place();
            }
        }

        /// A transaction is over: a marker comes to be in the log.
        fn end_transaction(&mut self) {
            let (producer, commits) = (self.rng.below(2) as i64, self.rng.chance(1, 2));
            self.world.end_transaction(producer, commits, self.placed);
            self.push(false, vec![Logged::Marker(producer, commits)]);
            if self.placed == 0 {
                self.durable = self.batches.len();
            }
        }

        fn end_first(&mut self) {
            if self.placed == 0 {
                if !self.world.pending.is_empty() {
                    self.world.append_ends(Err(ErrorCode::KafkaStorageError));
                }
                return;
            }
            let is_append = |batch: &Batch| !batch.is_snapshot && !batch.is_marker;
            let own = (0..self.batches.len()).filter(|at| is_append(&self.batches[*at]));
            let at = own.rev().nth(self.placed - 1).unwrap();
            let behind = self.batches[at + 1..].iter();
            let behind = behind.take_while(|batch| !is_append(batch));
            let marker = behind
                .enumerate()
                .filter(|(_, batch)| batch.is_marker)
                .last();
            let end = marker.map_or(at + 1, |(n, _)| at + 2 + n);
            self.durable = self.durable.max(end);
            self.placed -= 1;
            self.world.append_ends(Ok(()));
        }

        fn snapshot(&mut self) {
            let bytes_max = 1 + self.rng.below(400) as usize;
            let world = &mut self.world;
            match world.coordinator.snapshot_part(bytes_max) {
                SnapshotPart::Lost => {
                    self.first = self.batches.len();
                    assert!(self.world.coordinator.begin_snapshot());
                }
                SnapshotPart::Wait => {
                    let nothing_waits = world.pending.is_empty() && world.parked.is_empty();
                    assert!(!nothing_waits || !world.coordinator.all_pending().is_empty());
                }
                SnapshotPart::Records(records) if records.is_empty() => {}
                SnapshotPart::Records(records) => {
                    self.push(true, Logged::all(&records, None).collect());
                }
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

        /// Whatever end the log has after a crash, and however transactions end then: what it holds is what it would
        /// hold without snapshots.
        fn check(&mut self) {
            let ends = [&[][..], &[0, 1], &[1, 0], &[1]];
            let ends = ends.map(|ends| -> Vec<Logged> {
                ends.iter().map(|of| Logged::Marker(*of, true)).collect()
            });
            let ends_there = self.batches.len() - self.durable;
            for end in [0, self.rng.below(ends_there as u64 + 1), ends_there as u64] {
                let end = self.durable + end as usize;
                let whole = self.batches[..end].iter();
                let whole = whole.filter(|batch| !batch.is_snapshot);
                let whole = whole.flat_map(|batch| &batch.logged);
                let (first, _) = self.dropped;
                for ends in &ends {
                    let all = replayed(whole.clone().chain(ends));
                    let by_the_rules = LoggedOffsets::of(whole.clone().chain(ends));
                    assert_eq!(all.all_committed(), by_the_rules.committed());
                    for first in [0, first] {
                        let kept = self.batches[first..end.max(first)].iter();
                        let kept = kept.flat_map(|batch| &batch.logged).chain(ends);
                        assert_eq!(
                            shown(&replayed(kept)),
                            shown(&all),
                            "from {first} to {end}, then {ends:?}"
                        );
                    }
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
            match self.rng.below(15) {
                12.. => {
                    let producer = self.rng.below(2) as i64;
                    let partition = self.rng.below(6) as i32;
                    let until = partition + 1 + self.rng.below(3) as i32;
                    let offset = self.rng.below(1000) as i64;
                    _ = world.commit_in_transaction(&nobody, producer, partition..until, offset);
                }
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
            for _ in 0..300 {
                match log.rng.below(10) {
                    0..3 => log.act(),
                    3 | 4 => log.place(),
                    5 => log.end_first(),
                    6 => log.verify(),
                    7 => log.end_transaction(),
                    _ => log.snapshot(),
                }
                if log.rng.chance(1, 20) {
                    log.check();
                }
            }
            finished += usize::from(log.dropped.1 > 0);
        }
        assert!(finished > 30, "{finished} of 60");
    }
}
