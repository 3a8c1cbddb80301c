//! The committed offsets of one group. They change only by replaying durable records.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::classic::ClassicGroup;
use super::logged::LogPlace;
use super::state::State;
use crate::base::Name;
use crate::base::TopicId;

/// The id that the topic of a name has, zero if there is none.
pub type TopicIds<'a> = &'a dyn Fn(&str) -> TopicId;

/// An offset somebody committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Id of the topic, which tells it from others of its name. Zero if a record that does not say it, of an older
    /// build or Kafka, was read when there was no topic of the name.
    pub topic_id: TopicId,
    /// The next offset to be read.
    pub offset: i64,
    /// Leader epoch of the last record read, -1 if unknown.
    pub leader_epoch: i32,
    /// The client's own text.
    pub metadata: Name,
    /// When it was committed, wall clock ms.
    pub commit_ms: i64,
    /// When it expires, wall clock ms, if the client chose a retention itself (up to v4).
    pub expire_ms: Option<i64>,
    /// Its record could say of which topic it is, and does not: it is to be written once more.
    pub lacks_id: bool,
}

impl Committed {
    /// Whether it is of the topic of its name that has this id.
    #[must_use]
    pub fn is_of(&self, id: TopicId) -> bool {
        id != TopicId::ZERO && self.topic_id == id
    }
}

/// One partition of an OffsetCommit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetToCommit {
    /// Topic name.
    pub topic: Name,
    /// Partition.
    pub partition: i32,
    /// What is committed.
    pub committed: Committed,
}

/// A committed offset, and where its record is.
#[derive(Clone, Debug)]
struct Placed {
    committed: Committed,
    place: LogPlace,
}

/// All committed offsets of a group.
#[derive(Clone, Debug, Default)]
pub struct GroupOffsets {
    by_topic: BTreeMap<Name, BTreeMap<i32, Placed>>,
    /// How many there are, and the bytes of their names and metadata.
    count: usize,
    text_bytes: usize,
    /// What they take, about.
    bytes: usize,
}

/// What an offset and a topic take by themselves.
const OFFSET_BYTES: usize = 128;
const TOPIC_BYTES: usize = 256;

impl GroupOffsets {
    /// The offset of one partition.
    #[must_use]
    pub fn get(&self, topic: &str, partition: i32) -> Option<&Committed> {
        let placed = self.by_topic.get(topic)?.get(&partition)?;
        Some(&placed.committed)
    }

    /// Where the record of one partition is.
    pub(super) fn place(&self, topic: &str, partition: i32) -> Option<LogPlace> {
        let placed = self.by_topic.get(topic)?.get(&partition)?;
        Some(placed.place)
    }

    /// Whether there is no offset.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_topic.is_empty()
    }

    /// Everything behind this partition of a topic, in the order of their names.
    pub fn after<'a>(
        &'a self,
        after: Option<&(Name, i32)>,
    ) -> impl Iterator<Item = (&'a Name, i32, &'a Committed)> + use<'a> {
        let placed = self.placed_after(after);
        placed.map(|(topic, partition, committed, _)| (topic, partition, committed))
    }

    /// The same, with the places of their records.
    pub(super) fn placed_after<'a>(
        &'a self,
        after: Option<&(Name, i32)>,
    ) -> impl Iterator<Item = (&'a Name, i32, &'a Committed, LogPlace)> + use<'a> {
        let after = after.cloned();
        let from = after.as_ref();
        let from = from.map_or(Bound::Unbounded, |(topic, _)| Bound::Included(topic));
        let topics = self.by_topic.range::<Name, _>((from, Bound::Unbounded));
        topics.flat_map(move |(topic, offsets)| {
            let from = match &after {
                Some((first, partition)) if first == topic => Bound::Excluded(*partition),
                _ => Bound::Unbounded,
            };
            let offsets = offsets.range((from, Bound::Unbounded));
            offsets.map(move |(partition, Placed { committed, place })| {
                (topic, *partition, committed, *place)
            })
        })
    }

    /// Bytes that their records take in a log, about, for a group with an id of this length.
    pub(super) fn record_bytes(&self, id_bytes: usize) -> usize {
        /// What a record has besides names and metadata.
        const FIXED_BYTES: usize = 68;
        self.count * (id_bytes + FIXED_BYTES) + self.text_bytes
    }

    /// What they take, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn put(
        &mut self,
        topic: &str,
        partition: i32,
        committed: Committed,
        place: LogPlace,
    ) {
        self.count += 1;
        self.text_bytes += topic.len() + committed.metadata.len();
        self.bytes += OFFSET_BYTES + committed.metadata.len();
        let Some(offsets) = self.by_topic.get_mut(topic) else {
            self.bytes += TOPIC_BYTES + topic.len();
            let offsets = BTreeMap::from([(partition, Placed { committed, place })]);
            self.by_topic.insert(Name::from(topic), offsets);
            return;
        };
        if let Some(before) = offsets.insert(partition, Placed { committed, place }) {
            self.uncount(topic, &before.committed);
        }
    }

    pub(super) fn remove(&mut self, topic: &str, partition: i32) {
        let Some(offsets) = self.by_topic.get_mut(topic) else {
            return;
        };
        let removed = offsets.remove(&partition);
        if offsets.is_empty() {
            self.bytes -= TOPIC_BYTES + topic.len();
            self.by_topic.remove(topic);
        }
        if let Some(removed) = removed {
            self.uncount(topic, &removed.committed);
        }
    }

    /// One of this topic is not there any more.
    fn uncount(&mut self, topic: &str, committed: &Committed) {
        self.count -= 1;
        self.text_bytes -= topic.len() + committed.metadata.len();
        self.bytes -= OFFSET_BYTES + committed.metadata.len();
    }

    /// Panics if something was counted wrongly. For tests and the simulator.
    pub(super) fn invariants(&self) {
        let mut again = Self::default();
        for (topic, partition, committed, place) in self.placed_after(None) {
            again.put(topic, partition, committed.clone(), place);
        }
        let counts = |offsets: &Self| (offsets.count, offsets.text_bytes, offsets.bytes);
        assert_eq!(counts(self), counts(&again), "counts of offsets");
    }

    /// What has expired by now, from a place on, if it counts from [`ClassicGroup::expiry_base`] and topics are used
    /// that are.
    pub(super) fn expired<'a, F: Fn(&str) -> bool + 'a>(
        &'a self,
        (since, is_used): (Option<Option<i64>>, F),
        after: Option<&(Name, i32)>,
        (now_ms, retention_ms): (i64, i64),
    ) -> impl Iterator<Item = (&'a Name, i32, bool)> + use<'a, F> {
        let offsets = since.map(|since| (since, self.after(after)));
        // The topic before, and whether it is subscribed to.
        let mut of: Option<(&Name, bool)> = None;
        let offsets = offsets.into_iter();
        let offsets = offsets.flat_map(|(since, offsets)| offsets.map(move |it| (since, it)));
        offsets.map(move |(since, (topic, partition, committed))| {
            let is_used = match of {
                Some((last, is_used)) if Name::ptr_eq(last, topic) => is_used,
                _ => is_used(topic),
            };
            of = Some((topic, is_used));
            let base = since.unwrap_or(committed.commit_ms);
            let is_over = match committed.expire_ms {
                Some(at) => now_ms >= at,
                None => now_ms.saturating_sub(base) >= retention_ms,
            };
            (topic, partition, is_over && !is_used)
        })
    }
}

impl ClassicGroup {
    /// From when the retention of this group's offsets counts: `None`, they do not expire now;
    /// `Some(None)`, from each commit; `Some(Some(ms))`, from the moment the group became empty.
    pub(super) fn expiry_base(&self) -> Option<Option<i64>> {
        if self.protocol_type().is_none() {
            return Some(None);
        }
        match self.state() {
            State::Empty => Some(self.state_since_ms()),
            // Topics the group left behind expire while it goes on with others.
            State::Stable if self.knows_subscription() => Some(None),
            State::Stable
            | State::PreparingRebalance
            | State::CompletingRebalance
            | State::Dead => None,
        }
    }
}
