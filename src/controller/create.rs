//! Decides on new topics: names, counts, assignments, settings, ids, places.
//! Error codes and messages are Kafka's.

use std::collections::BTreeMap;

use super::assignment::{by_assignment, by_count};
use super::draft::{Draft, Terms};
use super::new_partitions::NewPartitions;
use super::new_topic::{NewTopic, partitions_wanted};
use super::record::{ConfigResource, MetadataRecord};
use super::topic_name::check_topic_name;
use crate::base::limits::PARTITIONS_PER_REQUEST_MAX;
use crate::base::{ErrorCode, Refused, Rng, TopicId};
use crate::config::{TopicConfig, is_internal};

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

/// Creates a topic that a client wants.
///
/// # Errors
/// As Kafka's CreateTopics; the draft is unchanged.
pub fn create_topic(
    draft: &mut Draft,
    terms: &mut Terms<'_>,
    topic: NewTopic,
) -> Result<Created, Refused> {
    if is_internal(&topic.name) && draft.image().topic(&topic.name).is_none() {
        let message = format!("Creation of internal topic {} is prohibited.", topic.name);
        return Err(Refused::because(ErrorCode::InvalidRequest, message));
    }
    create(draft, terms, topic)
}

/// Creates a topic of this name with the defaults of the broker, if there is none and it may be:
/// what happens when somebody asks for a topic that is not there. This is also how the broker gets
/// its internal topics. `left` is how many partitions may still be created this way. Returns false if they are too few,
/// or the change is full: then there is no use in asking for more.
pub fn create_missing(
    draft: &mut Draft,
    terms: &mut Terms<'_>,
    name: &str,
    left: &mut usize,
) -> bool {
    let Some(topic) = missing_topic(name, terms) else {
        return true;
    };
    let partitions = partitions_wanted(0, topic.partitions, terms.config);
    // A client that asks for many topics gets the rest when it asks again. A single one of
    // more partitions than that is what the operator wants.
    if partitions > *left && *left < PARTITIONS_PER_REQUEST_MAX
        || draft
            .has_room(1 + partitions + topic.configs.len())
            .is_err()
    {
        return false;
    }
    if create(draft, terms, topic).is_ok() {
        *left = left.saturating_sub(partitions);
    }
    true
}

/// A topic as it is created without being described; `None` for an internal one that this
/// release does not use.
fn missing_topic(name: &str, terms: &Terms<'_>) -> Option<NewTopic> {
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
        topic.partitions = terms.config.offsets_topic_num_partitions;
        topic.replication_factor = own_factor(terms.config.offsets_topic_replication_factor, terms);
    } else if name == "__transaction_state" {
        let config = terms.config;
        let factor = own_factor(config.transaction_state_log_replication_factor, terms);
        let min_isr = config.transaction_state_log_min_isr.min(factor.into());
        let settings = [
            ("cleanup.policy", "compact".to_owned()),
            ("compression.type", "uncompressed".to_owned()),
            ("min.insync.replicas", min_isr.to_string()),
            (
                "segment.bytes",
                config.transaction_state_log_segment_bytes.to_string(),
            ),
            ("unclean.leader.election.enable", "false".to_owned()),
        ];
        let own = |(key, value): (&str, String)| (key.to_owned(), Some(value));
        topic.configs = settings.map(own).into();
        topic.partitions = config.transaction_state_log_num_partitions;
        topic.replication_factor = factor;
    } else if is_internal(name) {
        return None;
    }
    Some(topic)
}

/// How many replicas a topic of the broker's own has. They must not have fewer because some nodes have not registered
/// yet, so it is not counted who has: all who vote are to be brokers. A node that is alone is one.
fn own_factor(wanted: i16, terms: &Terms<'_>) -> i16 {
    let nodes = i16::try_from(terms.voters).unwrap_or(i16::MAX);
    wanted.min(nodes)
}

fn create(draft: &mut Draft, terms: &mut Terms<'_>, topic: NewTopic) -> Result<Created, Refused> {
    check_name(draft, &topic.name)?;
    let configs = check_configs(&topic)?;
    let name = topic.name.clone();
    let brokers = &draft.image().brokers;
    let replicas = if topic.assignments.is_empty() {
        by_count(&topic, terms.config, brokers)?
    } else {
        by_assignment(topic, brokers)?
    };
    let (partitions, replication_factor) = (replicas.len(), replicas.factor());
    draft.has_room(1 + partitions + configs.len())?;
    let id = topic_id(draft, terms.rng);
    let internal = is_internal(&name);
    draft.push(MetadataRecord::Topic {
        name: name.clone(),
        id,
    });
    draft.push_partitions(NewPartitions::new(id, internal, 0, replicas));
    for (key, value) in &configs {
        draft.push(MetadataRecord::Config {
            resource: ConfigResource::Topic(name.clone()),
            key: key.clone(),
            value: Some(value.clone()),
        });
    }
    Ok(Created {
        id,
        partitions,
        replication_factor,
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
    use crate::base::limits::RECORDS_PER_CHANGE_MAX;
    use crate::base::{NodeId, StoreId};
    use crate::config::BrokerConfig;
    use crate::controller::Image;
    use crate::controller::testing::{cluster, node_of, with_topics};

    fn topic(name: &str) -> NewTopic {
        NewTopic {
            name: name.to_owned(),
            partitions: -1,
            replication_factor: -1,
            ..NewTopic::default()
        }
    }

    /// Creates the topics one request after the other and tells what became of the last one.
    fn create(requests: &[&[NewTopic]]) -> (Image, Vec<Result<Created, Refused>>) {
        let config = BrokerConfig::default();
        let mut rng = Rng::new(7);
        let mut image = node_of(2);
        let mut results = Vec::new();
        for topics in requests {
            let mut draft = Draft::new(&image);
            let mut terms = Terms {
                config: &config,
                rng: &mut rng,
                voters: 1,
            };
            let created = topics.iter().map(|topic| {
                let created = create_topic(&mut draft, &mut terms, topic.clone());
                draft.settle();
                created
            });
            results = created.collect();
            image = draft.into_change().image;
        }
        (image, results)
    }

    fn refusal(topic: NewTopic) -> (ErrorCode, String) {
        let refused = create(&[&[topic]]).1.remove(0).unwrap_err();
        (refused.code, refused.text().to_owned())
    }

    #[test]
    fn a_topic_with_defaults() {
        let (image, results) = create(&[&[topic("a")]]);
        let created = results[0].as_ref().unwrap();
        assert_eq!((created.partitions, created.replication_factor), (1, 1));
        let partition = image.topic("a").unwrap().partition(0).unwrap();
        assert_eq!(*partition.replicas, [NodeId(1)]);
        assert_eq!((partition.leader, partition.leader_epoch.0), (NodeId(1), 0));
        assert_eq!(partition.log.0, 1, "0 is the log of the metadata");
    }

    /// How many replicas committed offsets get where so many nodes vote, of which so many are brokers.
    fn offsets_replicas(voters: usize, brokers: i32, wanted: i16) -> Option<usize> {
        let config = BrokerConfig {
            offsets_topic_replication_factor: wanted,
            ..BrokerConfig::default()
        };
        let image = match brokers {
            1 => node_of(2),
            more => cluster(more),
        };
        let mut draft = Draft::new(&image);
        let mut terms = Terms {
            config: &config,
            rng: &mut Rng::new(1),
            voters,
        };
        let mut left = PARTITIONS_PER_REQUEST_MAX;
        create_missing(&mut draft, &mut terms, "__consumer_offsets", &mut left);
        draft.settle();
        let topic = draft.image().topic("__consumer_offsets")?;
        let factors: Vec<usize> = topic
            .partitions
            .iter()
            .map(|it| it.replicas.len())
            .collect();
        assert_eq!(factors, [factors[0]; 50]);
        Some(factors[0])
    }

    #[test]
    fn committed_offsets_have_as_many_replicas_as_there_are_to_be_nodes_for() {
        assert_eq!(offsets_replicas(1, 1, 3), Some(1), "a node alone");
        assert_eq!(offsets_replicas(3, 3, 3), Some(3));
        assert_eq!(offsets_replicas(5, 5, 3), Some(3));
        assert_eq!(offsets_replicas(3, 3, 1), Some(1));
        assert_eq!(offsets_replicas(2, 2, 3), Some(2));
        // The others have not registered yet.
        assert_eq!(offsets_replicas(3, 2, 3), None);
        assert_eq!(offsets_replicas(3, 1, 2), None);
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
            results[1].as_ref().unwrap_err().text(),
            "Topic 'a_b' collides with existing topic: a.b"
        );
    }

    #[test]
    fn an_internal_topic_that_is_there_exists() {
        let (config, mut rng) = (BrokerConfig::default(), Rng::new(1));
        let mut draft = with_topics(&["__consumer_offsets"]);
        let mut terms = Terms {
            config: &config,
            rng: &mut rng,
            voters: 1,
        };
        for (name, code) in [
            ("__consumer_offsets", ErrorCode::TopicAlreadyExists),
            ("__cluster_metadata", ErrorCode::InvalidRequest),
        ] {
            let refused = create_topic(&mut draft, &mut terms, topic(name)).unwrap_err();
            assert_eq!(refused.code, code, "{name}");
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
            with("cleanup.policy", Some("compacted")),
            with("nonsense", Some("1")),
        ] {
            assert_eq!(refusal(bad).0, ErrorCode::InvalidConfig);
        }
    }

    #[test]
    fn no_more_missing_topics_are_looked_at_when_a_change_is_full() {
        const TOPICS: usize = RECORDS_PER_CHANGE_MAX / 2;
        let (config, mut rng) = (BrokerConfig::default(), Rng::new(1));
        let mut draft = with_topics(&[]);
        let mut terms = Terms {
            config: &config,
            rng: &mut rng,
            voters: 1,
        };
        let mut left = PARTITIONS_PER_REQUEST_MAX;
        let made = (0..2 * TOPICS).take_while(|n| {
            let goes_on = create_missing(&mut draft, &mut terms, &n.to_string(), &mut left);
            draft.settle();
            goes_on
        });
        assert_eq!(made.count(), TOPICS);
        assert_eq!(draft.image().topics().count(), TOPICS);
    }

    #[test]
    fn missing_topics_are_created_on_demand() {
        let names = [
            "a",
            "a",
            "b b",
            "__consumer_offsets",
            "__transaction_state",
            "__share_group_state",
        ];
        let draft = with_topics(&names);
        let names: Vec<_> = draft.image().topics().map(|t| t.name.to_string()).collect();
        assert_eq!(names, ["__consumer_offsets", "__transaction_state", "a"]);
        let transactions = draft.image().topic("__transaction_state").unwrap();
        assert!(transactions.internal && transactions.partitions.len() == 50);
        // One node has one replica, and needs no other one.
        assert_eq!(transactions.configs["min.insync.replicas"], "1");
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
