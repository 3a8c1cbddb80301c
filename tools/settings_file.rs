//! What partitions alone do not say, in a file beside them: `store export` and `backup` write it, `store import` reads
//! it. Topics with their settings; the ids of producers.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use millrace::base::TopicId;
use millrace::controller::Image;
use serde_json::{Map, Value, json};

use crate::failure::failed_at;

/// Its name in the directory.
pub const NAME: &str = "millrace-topics.json";
/// The version that is written, and the only one that is read.
const VERSION: u64 = 1;

/// What is known of a cluster that is taken over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TakenOver {
    /// Its id.
    pub cluster_id: Option<String>,
    /// By name.
    pub topics: BTreeMap<String, TopicFacts>,
    /// No producer has this id, or a larger one.
    pub next_producer_id: i64,
    /// What is not taken over, for people.
    pub notes: Vec<String>,
}

/// A topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicFacts {
    /// Its id.
    pub id: TopicId,
    /// How many partitions it has.
    pub partitions: i32,
    /// Its own settings.
    pub configs: BTreeMap<String, String>,
}

impl TakenOver {
    /// As the metadata of a broker has it.
    pub fn of_image(image: &Image) -> Self {
        let facts = image.topics().map(|topic| {
            let facts = TopicFacts {
                id: topic.id,
                partitions: topic.partitions.len() as i32,
                configs: topic.configs.clone(),
            };
            (topic.name.to_string(), facts)
        });
        Self {
            cluster_id: image.cluster_id.as_ref().map(ToString::to_string),
            topics: facts.collect(),
            next_producer_id: image.next_producer_id,
            notes: Vec::new(),
        }
    }

    /// Takes in what another directory of the same cluster says.
    pub fn merge(&mut self, other: Self) {
        self.topics.extend(other.topics);
        self.next_producer_id = self.next_producer_id.max(other.next_producer_id);
        for note in other.notes {
            if !self.notes.contains(&note) {
                self.notes.push(note);
            }
        }
    }

    /// Writes it, for partitions in this directory.
    pub fn write(&self, directory: &Path) -> Result<(), String> {
        let topic = |(name, facts): (&String, &TopicFacts)| {
            let mut fields = Map::new();
            fields.insert("topic".into(), json!(name));
            fields.insert("id".into(), json!(facts.id.to_string()));
            fields.insert("partitions".into(), json!(facts.partitions));
            fields.insert("configs".into(), json!(facts.configs));
            Value::Object(fields)
        };
        let topics: Vec<Value> = self.topics.iter().map(topic).collect();
        let all = json!({
            "version": VERSION,
            "cluster_id": self.cluster_id,
            "next_producer_id": self.next_producer_id,
            "topics": topics,
        });
        let path = directory.join(NAME);
        let written = fs::write(&path, format!("{all:#}\n"));
        written.map_err(|error| failed_at(&path, error))
    }
}

/// Reads the file of a directory; `None` if there is none.
pub fn read(directory: &Path) -> Result<Option<TakenOver>, String> {
    let path = directory.join(NAME);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed_at(&path, error)),
    };
    let failed = |what: &str| failed_at(&path, what);
    let all: Value = serde_json::from_slice(&text).map_err(|error| failed(&error.to_string()))?;
    if all["version"].as_u64() != Some(VERSION) {
        return Err(failed("it is of another version of millracectl"));
    }
    let mut found = TakenOver {
        cluster_id: all["cluster_id"].as_str().map(str::to_owned),
        next_producer_id: all["next_producer_id"].as_i64().unwrap_or(0),
        ..TakenOver::default()
    };
    let topics = all["topics"]
        .as_array()
        .ok_or_else(|| failed("it has no topics"))?;
    for topic in topics {
        let (name, facts) = facts_of(topic).ok_or_else(|| failed("a topic is none"))?;
        found.topics.insert(name, facts);
    }
    Ok(Some(found))
}

fn facts_of(topic: &Value) -> Option<(String, TopicFacts)> {
    let configs = topic["configs"].as_object()?.iter();
    let configs = configs.map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
    let facts = TopicFacts {
        id: TopicId::parse(topic["id"].as_str()?)?,
        partitions: i32::try_from(topic["partitions"].as_i64()?).ok()?,
        configs: configs.collect::<Option<_>>()?,
    };
    Some((topic["topic"].as_str()?.to_owned(), facts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let out = tempfile::tempdir().unwrap();
        assert_eq!(read(out.path()), Ok(None));
        let configs = [("cleanup.policy", "compact"), ("retention.ms", "5")];
        let facts = TopicFacts {
            id: TopicId([7; 16]),
            partitions: 3,
            configs: configs
                .map(|(key, value)| (key.into(), value.into()))
                .into(),
        };
        let wanted = TakenOver {
            cluster_id: Some("c".into()),
            topics: [("a \"topic\"".to_owned(), facts)].into(),
            next_producer_id: 4000,
            notes: Vec::new(),
        };
        wanted.write(out.path()).unwrap();
        assert_eq!(read(out.path()), Ok(Some(wanted)));
        for bad in [
            "",
            "{}",
            r#"{"version":2,"topics":[]}"#,
            r#"{"version":1,"topics":[{}]}"#,
        ] {
            fs::write(out.path().join(NAME), bad).unwrap();
            assert!(read(out.path()).is_err(), "{bad}");
        }
    }
}
