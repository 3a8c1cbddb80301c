//! Durable records become state: at start all of them, at run time those of
//! offsets and deletions, as they become durable.

use super::coordinator::Entry;
use super::records::{self, Key, RecordError};
use super::{ClassicGroup, Coordinator, GroupOffsets, Name};

impl Coordinator {
    /// Applies one durable record: at start each record of the topic, in log order. The timestamp
    /// (wall clock ms) stands in where an old record does not say since when a group is as it is.
    pub fn replay(
        &mut self,
        partition: i32,
        key: &[u8],
        value: Option<&[u8]>,
        record_ms: i64,
    ) -> Result<(), RecordError> {
        let replayed = self.replay_record(partition, key, value, record_ms);
        if replayed.is_err() {
            self.foreign.insert(partition);
        }
        replayed
    }

    fn replay_record(
        &mut self,
        partition: i32,
        key: &[u8],
        value: Option<&[u8]>,
        record_ms: i64,
    ) -> Result<(), RecordError> {
        match records::parse_key(key)? {
            Key::Offset {
                group,
                topic,
                partition: of_topic,
            } => self.replay_offset(partition, group, topic, of_topic, value),
            Key::Group(id) => {
                let group = match value {
                    Some(value) => {
                        let value = records::parse_group_value(value)?;
                        Some(ClassicGroup::from_value(
                            Name::from(id),
                            partition,
                            value,
                            record_ms,
                        ))
                    }
                    None => None,
                };
                self.replay_group(partition, Name::from(id), group);
                Ok(())
            }
            Key::Other(_) => {
                self.foreign.insert(partition);
                Ok(())
            }
        }
    }

    fn replay_offset(
        &mut self,
        partition: i32,
        group: &str,
        topic: &str,
        of_topic: i32,
        value: Option<&[u8]>,
    ) -> Result<(), RecordError> {
        let Some(value) = value else {
            if let Some(entry) = self.groups.get_mut(group) {
                entry.offsets.remove(topic, of_topic);
            }
            return Ok(());
        };
        let committed = records::parse_offset_value(value)?;
        if let Some(entry) = self.groups.get_mut(group) {
            entry.offsets.put(topic, of_topic, committed);
            return Ok(());
        }
        let id = Name::from(group);
        let group = ClassicGroup::new(id.clone(), partition, None);
        let mut offsets = GroupOffsets::default();
        offsets.put(topic, of_topic, committed);
        self.groups.insert(id, Entry { group, offsets });
        Ok(())
    }

    fn replay_group(&mut self, partition: i32, id: Name, group: Option<ClassicGroup>) {
        let offsets = self
            .groups
            .remove(&id)
            .map(|entry| entry.offsets)
            .unwrap_or_default();
        // A tombstone leaves offsets alone: Kafka writes one without touching them when a group
        // goes over to the new protocol.
        let group = match group {
            None if offsets.is_empty() => return,
            None => ClassicGroup::new(id.clone(), partition, None),
            Some(group) => group,
        };
        self.groups.insert(id, Entry { group, offsets });
    }
}
