//! Decides on changes of a topic's settings.

use std::collections::BTreeSet;

use super::draft::{Draft, Refused};
use super::record::{ConfigResource, MetadataRecord};
use crate::base::ErrorCode;
use crate::config::{BrokerConfig, Kind, TopicConfig};

/// One change of one setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigOp {
    /// To this text.
    Set(String),
    /// Back to the default.
    Delete,
    /// Add these elements to a list.
    Append(String),
    /// Take these elements out of a list.
    Subtract(String),
}

/// Changes settings of a topic, all or none of them.
///
/// # Errors
/// As Kafka's IncrementalAlterConfigs; the draft is unchanged.
pub fn alter_topic_configs(
    draft: &mut Draft,
    broker: &BrokerConfig,
    name: &str,
    changes: &[(String, ConfigOp)],
) -> Result<(), Refused> {
    let Some(topic) = draft.image().topic(name) else {
        let message = format!("The topic '{name}' does not exist.");
        return Err(Refused::because(
            ErrorCode::UnknownTopicOrPartition,
            message,
        ));
    };
    let mut keys = BTreeSet::new();
    if changes.iter().any(|(key, _)| !keys.insert(key)) {
        let message = "Error due to duplicate config keys";
        return Err(Refused::because(ErrorCode::InvalidRequest, message));
    }
    let effective = TopicConfig::effective(broker, &topic.configs);
    let mut records = Vec::new();
    for (key, op) in changes {
        let value = new_value(name, key, op, &effective)
            .map_err(|message| Refused::because(ErrorCode::InvalidConfig, message))?;
        if topic.configs.get(key) != value.as_ref() {
            records.push(MetadataRecord::Config {
                resource: ConfigResource::Topic(name.to_owned()),
                key: key.clone(),
                value,
            });
        }
    }
    for record in records {
        draft.push(record);
    }
    Ok(())
}

/// The text that a setting is to have; `None` for the default.
fn new_value(
    topic: &str,
    key: &str,
    op: &ConfigOp,
    effective: &TopicConfig,
) -> Result<Option<String>, String> {
    let value = match op {
        // What is not known any more can still be taken away.
        ConfigOp::Delete => return Ok(None),
        ConfigOp::Set(text) => text.clone(),
        ConfigOp::Append(text) => {
            let mut list = list(key, "APPEND", effective)?;
            list.extend(elements(text));
            join_once(&list)
        }
        ConfigOp::Subtract(text) => {
            let mut list = list(key, "SUBTRACT", effective)?;
            let gone: Vec<_> = elements(text).collect();
            list.retain(|element| !gone.contains(element));
            join_once(&list)
        }
    };
    TopicConfig::check(topic, key, &value)?;
    Ok(Some(value))
}

/// The elements that a list has now.
fn list(key: &str, op: &str, effective: &TopicConfig) -> Result<Vec<String>, String> {
    match TopicConfig::setting(key) {
        Some(setting) if setting.kind != Kind::List => Err(format!(
            "Can't {op} to key {key} because its type is not LIST."
        )),
        _ => Ok(elements(&effective.show(key).unwrap_or_default()).collect()),
    }
}

fn elements(text: &str) -> impl Iterator<Item = String> {
    let elements = text.split(',').map(|element| element.trim().to_owned());
    elements.filter(|element| !element.is_empty())
}

fn join_once(list: &[String]) -> String {
    let mut once: Vec<&str> = Vec::new();
    for element in list {
        if !once.contains(&element.as_str()) {
            once.push(element);
        }
    }
    once.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;
    use crate::controller::{Image, Terms, create_missing};

    fn draft() -> Draft {
        let (config, mut rng, image) = (BrokerConfig::default(), Rng::new(1), Image::default());
        let mut draft = Draft::new(&image);
        create_missing(
            &mut draft,
            &mut Terms::new(&image, &config, &mut rng, 1),
            ["a"],
        );
        draft
    }

    fn alter(draft: &mut Draft, changes: &[(&str, ConfigOp)]) -> Result<(), Refused> {
        let changes: Vec<_> = changes
            .iter()
            .map(|(key, op)| ((*key).to_owned(), op.clone()))
            .collect();
        alter_topic_configs(draft, &BrokerConfig::default(), "a", &changes)
    }

    fn set(text: &str) -> ConfigOp {
        ConfigOp::Set(text.to_owned())
    }

    #[test]
    fn settings_are_set_and_deleted() {
        let mut draft = draft();
        alter(
            &mut draft,
            &[("retention.ms", set("5")), ("segment.ms", set("9"))],
        )
        .unwrap();
        assert_eq!(draft.image().topic("a").unwrap().configs.len(), 2);
        alter(&mut draft, &[("retention.ms", ConfigOp::Delete)]).unwrap();
        assert_eq!(draft.image().topic("a").unwrap().configs.len(), 1);
    }

    #[test]
    fn what_changes_nothing_makes_no_record() {
        let mut draft = draft();
        alter(&mut draft, &[("retention.ms", set("5"))]).unwrap();
        let version = draft.image().version;
        alter(
            &mut draft,
            &[("retention.ms", set("5")), ("segment.ms", ConfigOp::Delete)],
        )
        .unwrap();
        assert_eq!(draft.image().version, version);
    }

    #[test]
    fn all_or_nothing() {
        let mut draft = draft();
        let changes = [("retention.ms", set("5")), ("segment.ms", set("x"))];
        assert_eq!(
            alter(&mut draft, &changes).unwrap_err().code,
            ErrorCode::InvalidConfig
        );
        assert!(draft.image().topic("a").unwrap().configs.is_empty());
        let changes = [("retention.ms", set("5")), ("retention.ms", set("6"))];
        assert_eq!(
            alter(&mut draft, &changes).unwrap_err().code,
            ErrorCode::InvalidRequest
        );
    }

    #[test]
    fn lists() {
        let mut draft = draft();
        let append = |text: &str| ConfigOp::Append(text.to_owned());
        assert_eq!(
            alter(&mut draft, &[("cleanup.policy", append("delete"))]),
            Ok(())
        );
        let both = alter(&mut draft, &[("cleanup.policy", append("compact"))]);
        assert_eq!(both.unwrap_err().code, ErrorCode::InvalidConfig);
        let none = ConfigOp::Subtract("delete".to_owned());
        assert!(alter(&mut draft, &[("cleanup.policy", none)]).is_err());
        let number = alter(&mut draft, &[("retention.ms", append("1"))]).unwrap_err();
        assert!(number.message.contains("not LIST"));
    }

    #[test]
    fn unknown_topic() {
        let changes = [("retention.ms".to_owned(), set("5"))];
        let refused = alter_topic_configs(&mut draft(), &BrokerConfig::default(), "b", &changes);
        assert_eq!(
            refused.unwrap_err().code,
            ErrorCode::UnknownTopicOrPartition
        );
    }
}
