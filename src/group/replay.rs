//! Durable records become state: at start all of them, at run time those of
//! offsets and deletions, as they become durable. Offsets of transactions wait for the marker, at either time.

use bytes::Bytes;

use super::consumer;
use super::coordinator::Entry;
use super::logged::{LogPlace, Replayed};
use super::pending::Pending;
use super::records::{self, Key, RecordError};
use super::streams;
use super::{ClassicGroup, Coordinator, GroupOffsets, Name, Record, TopicIds};
use crate::base::TopicId;

impl Coordinator {
    /// Applies one durable record at start: each of the partition, in log order. The timestamp
    /// stands in where an old record does not say since when a group is as it is; and the id that a
    /// topic has now where a record does not say of which one an offset is: whoever deletes it later deletes that.
    pub fn replay(&mut self, record: Replayed<'_>, ids: TopicIds<'_>) -> Result<(), RecordError> {
        let place = self.next_place(0);
        self.replay_at(record, ids, place)
    }

    /// Where the records of an append with this number are that has just ended.
    pub(super) fn next_place(&mut self, append: u64) -> LogPlace {
        self.placed += 1;
        let order = self.placed;
        LogPlace { order, append }
    }

    /// The same, also at run time.
    pub(super) fn replay_at(
        &mut self,
        record: Replayed<'_>,
        ids: TopicIds<'_>,
        place: LogPlace,
    ) -> Result<(), RecordError> {
        let replayed = self.replay_record(record, ids, place);
        self.foreign |= replayed.is_err();
        replayed
    }

    fn replay_record(
        &mut self,
        record: Replayed<'_>,
        ids: TopicIds<'_>,
        at: LogPlace,
    ) -> Result<(), RecordError> {
        let Replayed {
            key,
            value,
            timestamp_ms: record_ms,
            producer,
        } = record;
        match records::parse_key(key)? {
            Key::Offset {
                group,
                topic,
                partition,
            } => {
                let place = (group, topic, partition);
                self.replay_offset(place, value, (producer, at), ids)
            }
            Key::Group(id) => {
                let group = match value {
                    Some(value) => {
                        let mut parsed = records::parse_group_value(value)?;
                        let mut record = Bytes::copy_from_slice(value);
                        if parsed.state_since_ms.is_none() && record_ms >= 0 {
                            // A record that is written once more has another time.
                            parsed.state_since_ms = Some(record_ms);
                            record = records::group_value(&parsed);
                        }
                        let group = ClassicGroup::from_value(Name::from(id), parsed, record_ms);
                        Some((group, record))
                    }
                    None => None,
                };
                self.replay_group(Name::from(id), group);
                Ok(())
            }
            Key::Consumer(id, kind) => {
                if let Some(change) = consumer::records::parse(kind, value)? {
                    self.replay_consumer(id, change);
                }
                Ok(())
            }
            Key::Streams(id, kind) => {
                if let Some(change) = streams::records::parse(kind, value)? {
                    self.replay_streams(id, change);
                }
                Ok(())
            }
            Key::Other(_) => {
                self.foreign = true;
                Ok(())
            }
        }
    }

    fn replay_offset(
        &mut self,
        (group, topic, partition): (&str, &str, i32),
        value: Option<&[u8]>,
        (producer, place): (Option<i64>, LogPlace),
        ids: TopicIds<'_>,
    ) -> Result<(), RecordError> {
        let Some(value) = value else {
            self.change(group, |entry| entry.offsets.remove(topic, partition));
            self.forget_pending((group, topic, partition));
            return Ok(());
        };
        let mut committed = records::parse_offset_value(value)?;
        if committed.topic_id == TopicId::ZERO {
            committed.topic_id = ids(topic);
            committed.lacks_id = committed.expire_ms.is_none();
        }
        if !self.groups.contains_key(group) {
            let id = Name::from(group);
            let group = ClassicGroup::new(id.clone(), None);
            self.add(id, Entry::new(group, GroupOffsets::default()));
        }
        match producer {
            Some(producer) => {
                let pending = Pending { committed, place };
                self.put_pending((group, topic, partition), producer, pending);
            }
            None => self.change(group, |entry| {
                entry.offsets.put(topic, partition, committed, place);
            }),
        }
        Ok(())
    }

    /// The group as its record describes it, and the record.
    fn replay_group(&mut self, id: Name, group: Option<(ClassicGroup, Bytes)>) {
        let before = self.take_out(&id);
        let (offsets, pending, consumer, streams) = match before {
            Some(entry) => (entry.offsets, entry.pending, entry.consumer, entry.streams),
            None => Default::default(),
        };
        // A classic group takes the place of one of another kind that nobody is a member of, and of no other.
        let consumer = consumer.filter(|consumer| group.is_none() || !consumer.is_unused());
        let streams = streams.filter(|streams| group.is_none() || !streams.is_unused());
        let is_classic = consumer.is_none() && streams.is_none();
        // A tombstone leaves offsets alone: Kafka writes one without touching them when a group
        // goes over to the new protocol.
        let (group, record) = match group {
            None if offsets.is_empty() && pending.is_empty() && is_classic => return,
            None => (ClassicGroup::new(id.clone(), None), None),
            Some((group, record)) => (group, Some(record)),
        };
        let entry = Entry {
            group,
            offsets,
            consumer,
            streams,
            pending,
            record,
        };
        self.add(id, entry);
    }

    /// The records of a group describe a state that it is in already: what of them is durable is kept for a snapshot.
    pub(super) fn note_durable(&mut self, records: &[Record]) {
        for (key, value) in records {
            if let Ok(Key::Group(id)) = records::parse_key(key) {
                self.change(id, |entry| entry.record.clone_from(value));
            }
        }
    }
}
