//! What a Kafka broker's `__cluster_metadata-0` says of topics: their settings, how many partitions they have, and
//! which producer ids are given out. Read are TopicRecord, PartitionRecord, ConfigRecord, RemoveTopicRecord and
//! ProducerIdsRecord in the framing of KIP-631, of the newest snapshot (KIP-630) and what follows it in the log. What
//! else is there is of nodes, or named as not taken over.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use millrace::base::TopicId;
use millrace::record;

use crate::failure::failed_at;
use crate::kafka_source::SegmentReader;
use crate::settings_file::{TakenOver, TopicFacts};

/// Records of metadata are small, and so are their batches.
const OPENED_BYTES_MAX: usize = 64 << 20;
/// The framing that is read.
const FRAME: u32 = 1;
/// Kinds of resources in ConfigRecord.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// Reads the directory of the log.
pub fn read(directory: &Path) -> Result<TakenOver, String> {
    let failed = |error: std::io::Error| failed_at(directory, error);
    let (mut snapshot, mut segments) = (None, Vec::new());
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let (Some(stem), Some(kind)) = (path.file_stem(), path.extension()) else {
            continue;
        };
        let stem = stem.to_string_lossy();
        match kind.to_str() {
            Some("log") => segments.extend(stem.parse::<i64>().map(|base| (base, path.clone()))),
            Some("checkpoint") => {
                let end = stem
                    .split_once('-')
                    .and_then(|(end, _)| end.parse::<i64>().ok());
                snapshot = snapshot.max(end.map(|end| (end, path.clone())));
            }
            _ => {}
        }
    }
    segments.sort();
    let mut metadata = Metadata::default();
    let from = match &snapshot {
        Some((end, path)) => {
            metadata.file(path, i64::MIN)?;
            *end
        }
        None => i64::MIN,
    };
    for (_, path) in &segments {
        metadata.file(path, from)?;
    }
    Ok(metadata.end())
}

#[derive(Default)]
struct Metadata {
    topics: BTreeMap<TopicId, (String, TopicFacts)>,
    ids: BTreeMap<String, TopicId>,
    next_producer_id: i64,
    /// What there is that is not taken over: how many of each.
    others: BTreeMap<&'static str, u64>,
}

impl Metadata {
    /// Takes the records of a file that are at this offset or behind it.
    fn file(&mut self, path: &Path, from: i64) -> Result<(), String> {
        let mut file = SegmentReader::open(path)?;
        let mut batch = Vec::new();
        loop {
            let at = file.at();
            batch.clear();
            let Some(info) = file.next_batch(&mut batch)? else {
                return Ok(());
            };
            if info.is_control() || info.last_offset() < from {
                continue;
            }
            let bad =
                |what: &dyn std::fmt::Display| format!("{}: byte {at}: {what}", path.display());
            let records = record::records(&batch, OPENED_BYTES_MAX).map_err(|what| bad(&what))?;
            for record in records {
                let record = record.map_err(|what| bad(&what))?;
                if record.offset >= from {
                    let value = record.value.unwrap_or_default();
                    let taken = self.take(&mut Fields(&value));
                    taken.ok_or_else(|| bad(&"a metadata record that is none of Kafka 4's"))?;
                }
            }
        }
    }

    fn take(&mut self, fields: &mut Fields<'_>) -> Option<()> {
        if fields.varint()? != FRAME {
            return None;
        }
        let kind = fields.varint()?;
        let _version = fields.varint()?;
        match kind {
            2 => {
                let (name, id) = (fields.text()??.to_owned(), fields.id()?);
                self.ids.insert(name.clone(), id);
                let facts = TopicFacts {
                    id,
                    ..TopicFacts::default()
                };
                self.topics.insert(id, (name, facts));
            }
            3 => {
                let (partition, id) = (fields.i32()?, fields.id()?);
                if let Some((_, facts)) = self.topics.get_mut(&id) {
                    facts.partitions = facts.partitions.max(partition.checked_add(1)?);
                }
            }
            4 => self.config(fields)?,
            9 => {
                if let Some((name, _)) = self.topics.remove(&fields.id()?) {
                    self.ids.remove(&name);
                }
            }
            15 => {
                let (_broker, _epoch) = (fields.i32()?, fields.i64()?);
                self.next_producer_id = self.next_producer_id.max(fields.i64()?);
            }
            11 => {
                *self
                    .others
                    .entry("users with a password (SCRAM)")
                    .or_default() += 1
            }
            14 => *self.others.entry("quotas").or_default() += 1,
            18 => *self.others.entry("access control entries").or_default() += 1,
            // Of nodes, features and how the log begins.
            _ => {}
        }
        Some(())
    }

    fn config(&mut self, fields: &mut Fields<'_>) -> Option<()> {
        let kind = fields.i8()?;
        let (resource, key) = (fields.text()??.to_owned(), fields.text()??.to_owned());
        let value = fields.text()?.map(str::to_owned);
        match kind {
            TOPIC => {
                let id = self.ids.get(&resource);
                if let Some((_, facts)) = id.and_then(|id| self.topics.get_mut(id)) {
                    match value {
                        Some(value) => facts.configs.insert(key, value),
                        None => facts.configs.remove(&key),
                    };
                }
            }
            BROKER => {
                *self
                    .others
                    .entry("settings of brokers that clients have changed")
                    .or_default() += 1
            }
            _ => {
                *self
                    .others
                    .entry("settings of groups and of clients' metrics")
                    .or_default() += 1
            }
        }
        Some(())
    }

    fn end(self) -> TakenOver {
        let note =
            |(what, count): (&str, u64)| format!("{what} ({count} records) are not taken over");
        TakenOver {
            cluster_id: None,
            topics: self.topics.into_values().collect(),
            next_producer_id: self.next_producer_id,
            notes: self.others.into_iter().map(note).collect(),
        }
    }
}

/// The fields of a record, in Kafka's flexible encoding.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    fn i8(&mut self) -> Option<i8> {
        self.array().map(i8::from_be_bytes)
    }

    fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_be_bytes)
    }

    fn id(&mut self) -> Option<TopicId> {
        self.array().map(TopicId)
    }

    fn varint(&mut self) -> Option<u32> {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).ok();
            }
        }
        None
    }

    /// A compact string, which may be null.
    fn text(&mut self) -> Option<Option<&'a str>> {
        let Some(len) = self.varint()?.checked_sub(1) else {
            return Some(None);
        };
        let (text, rest) = self.0.split_at_checked(len as usize)?;
        self.0 = rest;
        std::str::from_utf8(text).ok().map(Some)
    }
}

#[cfg(test)]
mod tests {
    use millrace::base::{LeaderEpoch, Offset};
    use millrace::record::{BatchBuilder, Codec};

    use super::*;

    const A: TopicId = TopicId([1; 16]);
    const B: TopicId = TopicId([2; 16]);

    fn text(text: &str) -> Vec<u8> {
        [&[text.len() as u8 + 1], text.as_bytes()].concat()
    }

    fn topic(name: &str, id: TopicId) -> Vec<u8> {
        [&[1, 2, 0][..], &text(name), &id.0, &[0]].concat()
    }

    fn config(kind: i8, name: &str, key: &str, value: Option<&str>) -> Vec<u8> {
        let value = value.map_or(vec![0], text);
        [
            &[1, 4, 0, kind as u8][..],
            &text(name),
            &text(key),
            &value,
            &[0],
        ]
        .concat()
    }

    /// A file of batches of one record, from this offset on.
    fn write(path: &Path, base: i64, records: &[Vec<u8>]) {
        let mut file = Vec::new();
        for (at, record) in (base..).zip(records) {
            let mut batch = BatchBuilder::new(Codec::None, 5);
            batch.push(5, None, Some(record), &[]);
            let mut batch = batch.build().to_vec();
            record::stamp(&mut batch, Offset(at), LeaderEpoch(1));
            file.extend(batch);
        }
        fs::write(path, file).unwrap();
    }

    #[test]
    fn the_snapshot_and_what_follows_it_are_read() {
        let out = tempfile::tempdir().unwrap();
        let file = |name: &str| out.path().join(name);
        let partition = |at: u8, id: TopicId| [&[1, 3, 1, 0, 0, 0, at][..], &id.0, &[0]].concat();
        let ids = [&[1, 15, 0][..], &[0; 12], &4000_i64.to_be_bytes(), &[0]].concat();
        let snapshot = [
            topic("a", A),
            partition(0, A),
            partition(2, A),
            config(2, "a", "k", Some("v")),
            ids,
        ];
        write(
            &file("00000000000000000009-0000000001.checkpoint"),
            0,
            &snapshot,
        );
        write(
            &file("00000000000000000004-0000000001.checkpoint"),
            0,
            &[topic("old", B)],
        );
        let removed = [&[1, 9, 0][..], &B.0, &[0]].concat();
        let behind = [
            topic("before", TopicId([3; 16])),
            topic("b", B),
            config(2, "a", "k", None),
            config(2, "a", "n", Some("w")),
            config(4, "1", "x", Some("y")),
            removed,
        ];
        write(&file("00000000000000000008.log"), 8, &behind);
        let found = read(out.path()).unwrap();
        let facts = TopicFacts {
            id: A,
            partitions: 3,
            configs: [("n".into(), "w".into())].into(),
        };
        assert_eq!(found.topics, [("a".to_owned(), facts)].into());
        assert_eq!(found.next_producer_id, 4000);
        assert_eq!(found.notes.len(), 1, "{:?}", found.notes);
    }

    #[test]
    fn what_is_no_metadata_is_refused() {
        for bad in [
            vec![],
            vec![2, 2, 0],
            vec![1, 2, 0, 9, b'a'],
            vec![1, 4, 0, 2, 0],
        ] {
            let out = tempfile::tempdir().unwrap();
            write(&out.path().join("00000000000000000000.log"), 0, &[bad]);
            let refused = read(out.path()).unwrap_err();
            assert!(refused.contains("byte 0"), "{refused}");
        }
    }
}
