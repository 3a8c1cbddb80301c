//! Durable records become state: at start all of them, at run time those of
//! offsets and deletions, as they become durable.

use bytes::Bytes;

use super::coordinator::Entry;
use super::records::{self, Key, RecordError};
use super::{ClassicGroup, Coordinator, GroupOffsets, Name, Record, TopicIds};
use crate::base::TopicId;

impl Coordinator {
    /// Applies one durable record: at start each record of the partition, in log order. The timestamp
    /// (wall clock ms) stands in where an old record does not say since when a group is as it is; and the id that a
    /// topic has now where a record does not say of which one an offset is: whoever deletes it later deletes that.
    pub fn replay(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        record_ms: i64,
        ids: TopicIds<'_>,
    ) -> Result<(), RecordError> {
        let replayed = self.replay_record(key, value, record_ms, ids);
        self.foreign |= replayed.is_err();
        replayed
    }

    fn replay_record(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        record_ms: i64,
        ids: TopicIds<'_>,
    ) -> Result<(), RecordError> {
        match records::parse_key(key)? {
            Key::Offset {
                group,
                topic,
                partition,
            } => self.replay_offset((group, topic, partition), value, ids),
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
        ids: TopicIds<'_>,
    ) -> Result<(), RecordError> {
        let Some(value) = value else {
            self.change(group, |entry| entry.offsets.remove(topic, partition));
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
        self.change(group, |entry| {
            entry.offsets.put(topic, partition, committed);
        });
        Ok(())
    }

    /// The group as its record describes it, and the record.
    fn replay_group(&mut self, id: Name, group: Option<(ClassicGroup, Bytes)>) {
        let before = self.take_out(&id);
        let offsets = before.map(|entry| entry.offsets).unwrap_or_default();
        // A tombstone leaves offsets alone: Kafka writes one without touching them when a group
        // goes over to the new protocol.
        let (group, record) = match group {
            None if offsets.is_empty() => return,
            None => (ClassicGroup::new(id.clone(), None), None),
            Some((group, record)) => (group, Some(record)),
        };
        let entry = Entry {
            group,
            offsets,
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
