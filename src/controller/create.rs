//! Decides on new topics: names, counts, assignments, settings, ids, places.
//! Error codes and messages are Kafka's.

use std::collections::{BTreeMap, HashSet};

use super::assignment::{by_assignment, by_count};
use super::draft::{Draft, Refused, Terms};
use super::new_topic::NewTopic;
use super::partitions::new_partition;
use super::record::{ConfigResource, MetadataRecord};
use super::topic_name::check_topic_name;
use crate::base::limits::PARTITIONS_PER_REQUEST_MAX;
use crate::base::{ErrorCode, Rng, TopicId};
use crate::config::{BrokerConfig, TopicConfig, is_internal};

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// Its id.
    pub id: TopicId,
    /// How many partitions.
    pub partitions: usize,
    /// How many replicas of each.
    pub replication_factor: usize,
    /// Its own settings.
    pub configs: BTreeMap<String, String>,
}

/// Creates what can be created of the topics that a client wants: one result for each name.
pub fn create_topics(
    draft: &mut Draft,
    terms: &mut Terms<'_>,
    topics: &[NewTopic],
) -> Vec<(String, Result<Created, Refused>)> {
    let too_many = partitions_in_all(topics, terms.config) > PARTITIONS_PER_REQUEST_MAX;
    let (mut once, mut twice) = (HashSet::with_capacity(topics.len()), HashSet::new());
    for topic in topics {
        if !once.insert(&topic.name) {
            twice.insert(&topic.name);
        }
    }
    let mut results = Vec::new();
    for topic in topics.iter().filter(|topic| once.remove(&topic.name)) {
        let result = if too_many {
            Err(Refused::because(
                ErrorCode::PolicyViolation,
                "Excessively large number of partitions per request.",
            ))
        } else if twice.contains(&topic.name) {
            Err(Refused::because(
                ErrorCode::InvalidRequest,
                "Duplicate topic name.",
            ))
        } else if is_internal(&topic.name) && draft.image().topic(&topic.name).is_none() {
            Err(Refused::because(
                ErrorCode::InvalidRequest,
                format!("Creation of internal topic {} is prohibited.", topic.name),
            ))
        } else {
            create_topic(draft, terms, topic)
        };
        results.push((topic.name.clone(), result));
    }
    results
}

/// Creates, of these names, those that are missing and allowed, with the defaults of the broker:
/// what happens when somebody asks for a topic that is not there. This is also how the broker gets
/// its internal topics.
pub fn create_missing<'n>(
    draft: &mut Draft,
    terms: &mut Terms<'_>,
    names: impl IntoIterator<Item = &'n str>,
) {
    let mut left = PARTITIONS_PER_REQUEST_MAX;
    for name in names {
        let Some(topic) = missing_topic(name, terms.config) else {
            continue;
        };
        let partitions = partitions_in_all(std::slice::from_ref(&topic), terms.config);
        // A client that asks for many topics gets the rest when it asks again. A single one of
        // more partitions than that is what the operator wants.
        if partitions > left && left < PARTITIONS_PER_REQUEST_MAX {
            return;
        }
        if create_topic(draft, terms, &topic).is_ok() {
            left = left.saturating_sub(partitions);
        }
    }
}

/// A topic as it is created without being described; `None` for an internal one that this
/// release does not use.
fn missing_topic(name: &str, config: &BrokerConfig) -> Option<NewTopic> {
    let mut topic = NewTopic {
        name: name.to_owned(),
        partitions: -1,
        replication_factor: -1,
        ..NewTopic::default()
    };
    if name == "__consumer_offsets" {
        let settings = [
            ("cleanup.policy", "compact"),
            ("segment.bytes", "104857600"),
        ];
        let own = |(key, value): (&str, &str)| (key.to_owned(), Some(value.to_owned()));
        topic.configs = settings.map(own).into();
        topic.partitions = config.offsets_topic_num_partitions;
        topic.replication_factor = 1;
    } else if is_internal(name) {
        return None;
    }
    Some(topic)
}

fn partitions_in_all(topics: &[NewTopic], config: &BrokerConfig) -> usize {
    let count = |topic: &NewTopic| match topic.partitions {
        _ if !topic.assignments.is_empty() => topic.assignments.len(),
        -1 => usize::try_from(config.num_partitions).unwrap_or(0),
        n => usize::try_from(n).unwrap_or(0),
    };
    topics.iter().map(count).fold(0, usize::saturating_add)
}

fn create_topic(
    draft: &mut Draft,
    terms: &mut Terms<'_>,
    topic: &NewTopic,
) -> Result<Created, Refused> {
    check_name(draft, &topic.name)?;
    let configs = check_configs(topic)?;
    let partitions = if topic.assignments.is_empty() {
        by_count(topic, terms)?
    } else {
        by_assignment(topic, terms)?
    };
    draft.has_room(1 + partitions.len() + configs.len())?;
    let id = topic_id(draft, terms.rng);
    let name = topic.name.clone();
    draft.push(MetadataRecord::Topic {
        name: name.clone(),
        id,
    });
    for (index, replicas) in (0..).zip(&partitions) {
        let place = topic.places.get(&index).copied();
        let record = new_partition(draft, terms, &name, replicas, place);
        draft.push(record);
    }
    for (key, value) in &configs {
        draft.push(MetadataRecord::Config {
            resource: ConfigResource::Topic(name.clone()),
            key: key.clone(),
            value: Some(value.clone()),
        });
    }
    Ok(Created {
        id,
        partitions: partitions.len(),
        replication_factor: partitions.first().map_or(0, Vec::len),
        configs,
    })
}

fn check_name(draft: &Draft, name: &str) -> Result<(), Refused> {
    let invalid = |message| Refused::because(ErrorCode::InvalidTopicException, message);
    check_topic_name(name).map_err(invalid)?;
    if draft.image().topic(name).is_some() {
        let message = format!("Topic '{name}' already exists.");
        return Err(Refused::because(ErrorCode::TopicAlreadyExists, message));
    }
    match draft.image().colliding_with(name) {
        Some(other) => Err(invalid(format!(
            "Topic '{name}' collides with existing topic: {other}"
        ))),
        None => Ok(()),
    }
}

fn check_configs(topic: &NewTopic) -> Result<BTreeMap<String, String>, Refused> {
    let mut configs = BTreeMap::new();
    for (key, value) in &topic.configs {
        let checked = match value {
            Some(value) => TopicConfig::check(&topic.name, key, value).map(|()| value),
            None => Err(format!("Null value not supported for topic configs: {key}")),
        };
        let value = checked.map_err(|m| Refused::because(ErrorCode::InvalidConfig, m))?;
        configs.insert(key.clone(), value.clone());
    }
    Ok(configs)
}

/// A random id that no topic has. Kafka's ids never begin with '-', which a command line would
/// take for an option.
fn topic_id(draft: &Draft, rng: &mut Rng) -> TopicId {
    loop {
        let id = TopicId(rng.uuid());
        if !id.to_string().starts_with('-') && draft.image().topic_by_id(id).is_none() {
            return id;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{DirectoryId, NodeId, StoreId};
    use crate::controller::Image;

    fn topic(name: &str) -> NewTopic {
        NewTopic {
            name: name.to_owned(),
            partitions: -1,
            replication_factor: -1,
            ..NewTopic::default()
        }
    }

    fn node() -> Image {
        Image::of_node([0, 1].map(|store| DirectoryId::new(1, StoreId(store))))
    }

    /// Creates the topics one request after the other and tells what became of the last one.
    fn create(requests: &[&[NewTopic]]) -> (Image, Vec<Result<Created, Refused>>) {
        let config = BrokerConfig::default();
        let mut rng = Rng::new(7);
        let mut image = node();
        let mut results = Vec::new();
        for topics in requests {
            let mut draft = Draft::new(&image);
            let mut terms = Terms::new(&image, &config, &mut rng);
            let named = create_topics(&mut draft, &mut terms, topics);
            results = named.into_iter().map(|(_, result)| result).collect();
            for record in draft.into_records() {
                image.replay(&record).unwrap();
            }
        }
        (image, results)
    }

    fn refusal(topic: NewTopic) -> (ErrorCode, String) {
        let refused = create(&[&[topic]]).1.remove(0).unwrap_err();
        (refused.code, refused.message)
    }

    #[test]
    fn a_topic_with_defaults() {
        let (image, results) = create(&[&[topic("a")]]);
        let created = results[0].as_ref().unwrap();
        assert_eq!((created.partitions, created.replication_factor), (1, 1));
        let partition = image.topic("a").unwrap().partition(0).unwrap();
        assert_eq!(partition.replicas, [NodeId(1)]);
        assert_eq!((partition.leader, partition.leader_epoch.0), (NodeId(1), 0));
        assert_eq!(partition.log.0, 1, "0 is the log of the metadata");
    }

    #[test]
    fn partitions_get_logs_of_their_own_and_spread() {
        let (image, _) = create(&[&[NewTopic {
            partitions: 4,
            ..topic("a")
        }]]);
        let partitions = &image.topic("a").unwrap().partitions;
        let logs: Vec<_> = partitions
            .iter()
            .map(|p| (p.log.0, p.store.unwrap().0))
            .collect();
        assert_eq!(logs, [(1, 0), (2, 1), (3, 0), (4, 1)]);
    }

    #[test]
    fn names() {
        assert_eq!(refusal(topic("a b")).0, ErrorCode::InvalidTopicException);
        assert_eq!(
            refusal(topic("__consumer_offsets")).0,
            ErrorCode::InvalidRequest
        );
        let (_, results) = create(&[&[topic("a")], &[topic("a")]]);
        assert_eq!(
            results[0].as_ref().unwrap_err().code,
            ErrorCode::TopicAlreadyExists
        );
        let (_, results) = create(&[&[topic("a.b"), topic("a_b"), topic("ab")]]);
        assert!(results[0].is_ok() && results[2].is_ok());
        assert_eq!(
            results[1].as_ref().unwrap_err().message,
            "Topic 'a_b' collides with existing topic: a.b"
        );
        let (image, results) = create(&[&[topic("a"), topic("b"), topic("a")]]);
        assert_eq!(results.len(), 2);
        assert_eq!(
            results[0].as_ref().unwrap_err().code,
            ErrorCode::InvalidRequest
        );
        assert!(image.topic("a").is_none() && image.topic("b").is_some());
    }

    #[test]
    fn an_internal_topic_that_is_there_exists() {
        let (config, mut rng, image) = (BrokerConfig::default(), Rng::new(1), node());
        let mut draft = Draft::new(&image);
        let mut terms = Terms::new(&image, &config, &mut rng);
        create_missing(&mut draft, &mut terms, ["__consumer_offsets"]);
        for (name, code) in [
            ("__consumer_offsets", ErrorCode::TopicAlreadyExists),
            ("__cluster_metadata", ErrorCode::InvalidRequest),
        ] {
            let results = create_topics(&mut draft, &mut terms, &[topic(name)]);
            assert_eq!(results[0].1.as_ref().unwrap_err().code, code, "{name}");
        }
    }

    #[test]
    fn too_many_partitions() {
        for partitions in [10_001, i32::MAX] {
            let (code, _) = refusal(NewTopic {
                partitions,
                ..topic("a")
            });
            assert_eq!(code, ErrorCode::PolicyViolation);
        }
    }

    #[test]
    fn settings() {
        let with = |key: &str, value: Option<&str>| NewTopic {
            configs: vec![(key.to_owned(), value.map(str::to_owned))],
            ..topic("a")
        };
        let (image, _) = create(&[&[with("retention.ms", Some("5"))]]);
        assert_eq!(image.topic("a").unwrap().configs["retention.ms"], "5");
        for bad in [
            with("retention.ms", None),
            with("retention.ms", Some("x")),
            with("cleanup.policy", Some("compact")),
            with("nonsense", Some("1")),
        ] {
            assert_eq!(refusal(bad).0, ErrorCode::InvalidConfig);
        }
    }

    #[test]
    fn missing_topics_are_created_on_demand() {
        let (config, mut rng, image) = (BrokerConfig::default(), Rng::new(1), node());
        let mut draft = Draft::new(&image);
        let mut terms = Terms::new(&image, &config, &mut rng);
        let names = ["a", "a", "b b", "__consumer_offsets", "__transaction_state"];
        create_missing(&mut draft, &mut terms, names);
        let names: Vec<_> = draft.image().topics().map(|t| t.name.to_string()).collect();
        assert_eq!(names, ["__consumer_offsets", "a"]);
        let offsets = draft.image().topic("__consumer_offsets").unwrap();
        assert!(offsets.internal);
        assert_eq!(offsets.partitions.len(), 50);
        let in_store = |n| {
            let stores = offsets.partitions.iter().map(|p| p.store);
            stores.filter(|store| *store == Some(StoreId(n))).count()
        };
        assert_eq!(
            [in_store(0), in_store(1)],
            [25, 25],
            "every core gets its share"
        );
        assert_eq!(offsets.configs["cleanup.policy"], "compact");
    }
}
