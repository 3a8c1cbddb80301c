//! Durable records become state: at start all of them, at run time those of
//! offsets and deletions, as they become durable.

use super::coordinator::Entry;
use super::records::{self, Key, RecordError};
use super::{ClassicGroup, Coordinator, GroupOffsets, Name};

impl Coordinator {
    /// Applies one durable record: at start each record of the partition, in log order. The timestamp
    /// (wall clock ms) stands in where an old record does not say since when a group is as it is.
    pub fn replay(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        record_ms: i64,
    ) -> Result<(), RecordError> {
        let replayed = self.replay_record(key, value, record_ms);
        self.foreign |= replayed.is_err();
        replayed
    }

    fn replay_record(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        record_ms: i64,
    ) -> Result<(), RecordError> {
        match records::parse_key(key)? {
            Key::Offset {
                group,
                topic,
                partition,
            } => self.replay_offset(group, topic, partition, value),
            Key::Group(id) => {
                let group = match value {
                    Some(value) => {
                        let value = records::parse_group_value(value)?;
                        Some(ClassicGroup::from_value(Name::from(id), value, record_ms))
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
        group: &str,
        topic: &str,
        partition: i32,
        value: Option<&[u8]>,
    ) -> Result<(), RecordError> {
        let Some(value) = value else {
            if let Some(entry) = self.groups.get_mut(group) {
                entry.offsets.remove(topic, partition);
            }
            return Ok(());
        };
        let committed = records::parse_offset_value(value)?;
        if let Some(entry) = self.groups.get_mut(group) {
            entry.offsets.put(topic, partition, committed);
            return Ok(());
        }
        let id = Name::from(group);
        let group = ClassicGroup::new(id.clone(), None);
        let mut offsets = GroupOffsets::default();
        offsets.put(topic, partition, committed);
        self.groups.insert(id, Entry { group, offsets });
        Ok(())
    }

    fn replay_group(&mut self, id: Name, group: Option<ClassicGroup>) {
        let offsets = self
            .groups
            .remove(&id)
            .map(|entry| entry.offsets)
            .unwrap_or_default();
        // A tombstone leaves offsets alone: Kafka writes one without touching them when a group
        // goes over to the new protocol.
        let group = match group {
            None if offsets.is_empty() => return,
            None => ClassicGroup::new(id.clone(), None),
            Some(group) => group,
        };
        self.groups.insert(id, Entry { group, offsets });
    }
}
