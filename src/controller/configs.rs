//! Decides on changes of the settings of topics, brokers and groups.

use std::collections::{BTreeMap, HashSet};

use super::draft::Draft;
use super::features::groups_have_settings;
use super::group_configs::GroupConfigs;
use super::record::{ConfigResource, MetadataRecord};
use crate::base::limits::{GROUP_CONFIGS_BYTES_MAX, GROUP_CONFIGS_MAX};
use crate::base::{ErrorCode, NodeId, Refused};
use crate::config::inert::{self, Update};
use crate::config::{
    BrokerConfig, DynamicError, GroupSettings, Kind, Setting, TopicConfig, check_dynamic,
    is_internal, update_of,
};

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
    let effective = TopicConfig::effective(broker, &topic.configs);
    let mut new = Vec::new();
    for (key, op) in changes {
        let setting = TopicConfig::setting(key).or_else(|| in_table(&inert::TOPIC, key));
        let now = || match TopicConfig::setting(key) {
            Some(_) => effective.show(key),
            None => topic.configs.get(key).cloned(),
        };
        let checked = new_value(setting, key, op, now).and_then(|value| {
            match &value {
                Some(text) => TopicConfig::check(name, key, text)?,
                None if is_fixed(name, key) => {
                    return Err(format!(
                        "{name} must be compacted: {key} cannot be taken away"
                    ));
                }
                None => {}
            }
            Ok(value)
        });
        let value = checked.map_err(|m| Refused::because(ErrorCode::InvalidConfig, m))?;
        new.push((key, value));
    }
    let changed = changed(&ConfigResource::Topic(name.to_owned()), &topic.configs, new);
    push_all(draft, changed)
}

/// Changes what clients have set for one broker, or for all (`None`), all of it or nothing.
///
/// # Errors
/// As Kafka's IncrementalAlterConfigs; the draft is unchanged. What is no setting of the broker is
/// refused here, while Kafka keeps it for its plugins.
pub fn alter_broker_configs(
    draft: &mut Draft,
    broker: &BrokerConfig,
    node: Option<NodeId>,
    changes: &[(String, ConfigOp)],
) -> Result<(), Refused> {
    let invalid = |message| Refused::because(ErrorCode::InvalidRequest, message);
    let none = BTreeMap::new();
    let set = draft.image().broker_configs(node).unwrap_or(&none);
    let (mut new, mut read_only, mut single) = (Vec::new(), Vec::new(), Vec::new());
    for (key, op) in changes {
        let setting = BrokerConfig::setting(key).or_else(|| in_table(&inert::BROKER, key));
        let now = || set.get(key).cloned().or_else(|| broker.value(key));
        let value = new_value(setting, key, op, now)
            .map_err(|m| Refused::because(ErrorCode::InvalidConfig, m))?;
        let checked = match &value {
            Some(text) => check_dynamic(key, Some(text), node.is_none()),
            // What is not known any more can still be taken away.
            None if update_of(key) != Some(Update::ReadOnly) => Ok(()),
            None => Err(DynamicError::ReadOnly),
        };
        match checked {
            Ok(()) => new.push((key, value)),
            Err(DynamicError::ReadOnly) => read_only.push(key.as_str()),
            Err(DynamicError::SingleBroker) => single.push(key.as_str()),
            Err(DynamicError::Unknown) => {
                return Err(invalid(format!("Unknown broker config name: {key}")));
            }
            Err(DynamicError::Invalid(expected)) => {
                let text = value.unwrap_or_default();
                return Err(invalid(format!(
                    "Invalid value {text} for configuration {key}: expected {expected}"
                )));
            }
        }
    }
    if !read_only.is_empty() {
        let keys = read_only.join(", ");
        return Err(invalid(format!(
            "Cannot update these configs dynamically: [{keys}]. Change the broker's configuration file and restart it."
        )));
    }
    if !single.is_empty() {
        let keys = single.join(", ");
        return Err(invalid(format!(
            "Cannot update these configs at default cluster level, broker id must be specified: [{keys}]"
        )));
    }
    let changed = changed(&ConfigResource::Broker(node), set, new);
    push_all(draft, changed)
}

/// Changes settings of a group, all or none of them. There need be no such group.
///
/// # Errors
/// As Kafka's IncrementalAlterConfigs; POLICY_VIOLATION if there would be too many of them, or too large ones; the
/// draft is unchanged.
pub fn alter_group_configs(
    draft: &mut Draft,
    broker: &BrokerConfig,
    group: &str,
    changes: &[(String, ConfigOp)],
) -> Result<(), Refused> {
    let image = draft.image();
    if !groups_have_settings(image.features) {
        let message = "Not all brokers of the cluster know settings of groups yet.";
        return Err(Refused::because(ErrorCode::UnsupportedVersion, message));
    }
    let none = BTreeMap::new();
    let set = image.groups.get(group).map_or(&none, |own| own);
    let (mut new, mut own) = (Vec::new(), set.clone());
    let invalid = |message| Refused::because(ErrorCode::InvalidConfig, message);
    for (key, op) in changes {
        let setting = GroupSettings::setting(key).or_else(|| in_table(&inert::GROUP, key));
        if setting.is_none() && matches!(op, ConfigOp::Append(_) | ConfigOp::Subtract(_)) {
            return Err(invalid(format!("Unknown group config name: {key}")));
        }
        let value = new_value(setting, key, op, || set.get(key).cloned()).map_err(invalid)?;
        match &value {
            Some(text) => own.insert(key.clone(), text.clone()),
            None => own.remove(key),
        };
        new.push((key, value));
    }
    GroupSettings::check(broker, &own).map_err(invalid)?;
    let before = match set.is_empty() {
        true => 0,
        false => GroupConfigs::bytes_of(group, set),
    };
    let grows = !own.is_empty() && GroupConfigs::bytes_of(group, &own) > before;
    let bytes = image.groups.bytes() - before + GroupConfigs::bytes_of(group, &own);
    let groups = image.groups.len() + usize::from(set.is_empty());
    if grows && (bytes > GROUP_CONFIGS_BYTES_MAX || groups > GROUP_CONFIGS_MAX) {
        let message = format!(
            "Groups may have {GROUP_CONFIGS_BYTES_MAX} bytes of settings of their own, and {GROUP_CONFIGS_MAX} groups any."
        );
        return Err(Refused::because(ErrorCode::PolicyViolation, message));
    }
    let changed = changed(&ConfigResource::Group(group.to_owned()), set, new);
    push_all(draft, changed)
}

/// The changes that leave a resource with these settings and no others of its own.
#[must_use]
pub fn replacing(
    draft: &Draft,
    resource: &ConfigResource,
    wanted: Vec<(String, String)>,
) -> Vec<(String, ConfigOp)> {
    let (set, topic) = match resource {
        ConfigResource::Topic(name) => {
            let topic = draft.image().topic(name);
            (topic.map(|topic| &topic.configs), name.as_str())
        }
        ConfigResource::Broker(node) => (draft.image().broker_configs(*node), ""),
        ConfigResource::Group(id) => (draft.image().groups.get(id).map(|own| &**own), ""),
    };
    let gone = set
        .into_iter()
        .flatten()
        .filter(|(key, _)| !wanted.iter().any(|(known, _)| known == *key) && !is_fixed(topic, key));
    let gone: Vec<_> = gone
        .map(|(key, _)| (key.clone(), ConfigOp::Delete))
        .collect();
    let set = wanted
        .into_iter()
        .map(|(key, text)| (key, ConfigOp::Set(text)));
    gone.into_iter().chain(set).collect()
}

/// Whether a setting of a topic stays, whatever clients say: the broker's own topics are compacted.
fn is_fixed(topic: &str, key: &str) -> bool {
    key == "cleanup.policy" && is_internal(topic)
}

fn in_table(table: &'static [inert::Inert], key: &str) -> Option<&'static Setting> {
    inert::find(table, key).map(|inert| &inert.setting)
}

/// Whether each key is named once, which the deciders take for granted.
///
/// # Errors
/// One is named more than once.
pub fn each_once<'k>(mut keys: impl Iterator<Item = &'k str>) -> Result<(), Refused> {
    let mut known = HashSet::new();
    if keys.all(|key| known.insert(key)) {
        return Ok(());
    }
    let message = "Error due to duplicate config keys";
    Err(Refused::because(ErrorCode::InvalidRequest, message))
}

/// Records for what is not so already.
fn changed(
    resource: &ConfigResource,
    set: &BTreeMap<String, String>,
    new: Vec<(&String, Option<String>)>,
) -> Vec<MetadataRecord> {
    let new = new
        .into_iter()
        .filter(|(key, value)| set.get(*key) != value.as_ref());
    new.map(|(key, value)| MetadataRecord::Config {
        resource: resource.clone(),
        key: key.clone(),
        value,
    })
    .collect()
}

fn push_all(draft: &mut Draft, records: Vec<MetadataRecord>) -> Result<(), Refused> {
    draft.has_room(records.len())?;
    for record in records {
        draft.push(record);
    }
    Ok(())
}

/// The text that a setting is to have; `None` for the default.
fn new_value(
    setting: Option<&Setting>,
    key: &str,
    op: &ConfigOp,
    now: impl Fn() -> Option<String>,
) -> Result<Option<String>, String> {
    let list = |op: &str| match setting {
        Some(setting) if setting.kind != Kind::List => Err(format!(
            "Can't {op} to key {key} because its type is not LIST."
        )),
        _ => Ok(now().unwrap_or_default()),
    };
    Ok(Some(match op {
        // What is not known any more can still be taken away.
        ConfigOp::Delete => return Ok(None),
        ConfigOp::Set(text) => text.clone(),
        ConfigOp::Append(text) => {
            let list = list("APPEND")?;
            join_once(elements(&list).chain(elements(text)))
        }
        ConfigOp::Subtract(text) => {
            let list = list("SUBTRACT")?;
            let gone: HashSet<_> = elements(text).collect();
            join_once(elements(&list).filter(|element| !gone.contains(element)))
        }
    }))
}

fn elements(text: &str) -> impl Iterator<Item = &str> {
    let elements = text.split(',').map(str::trim);
    elements.filter(|element| !element.is_empty())
}

fn join_once<'t>(list: impl Iterator<Item = &'t str>) -> String {
    let mut once = HashSet::new();
    let list: Vec<_> = list.filter(|element| once.insert(*element)).collect();
    list.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::testing::{cluster, with_topics};

    fn draft() -> Draft {
        with_topics(&["a"])
    }

    fn alter(draft: &mut Draft, changes: &[(&str, ConfigOp)]) -> Result<(), Refused> {
        let changes: Vec<_> = changes
            .iter()
            .map(|(key, op)| ((*key).to_owned(), op.clone()))
            .collect();
        each_once(changes.iter().map(|(key, _)| key.as_str()))?;
        alter_topic_configs(draft, &BrokerConfig::default(), "a", &changes)?;
        draft.settle();
        Ok(())
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
        assert_eq!(both, Ok(()));
        let policy =
            |draft: &Draft| draft.image().topic("a").unwrap().configs["cleanup.policy"].clone();
        assert_eq!(policy(&draft), "delete,compact");
        let subtract = |text: &str| ConfigOp::Subtract(text.to_owned());
        alter(&mut draft, &[("cleanup.policy", subtract("delete"))]).unwrap();
        assert_eq!(policy(&draft), "compact");
        let none = alter(&mut draft, &[("cleanup.policy", subtract("compact"))]);
        assert_eq!(none.unwrap_err().code, ErrorCode::InvalidConfig);
        let throttled = "leader.replication.throttled.replicas";
        alter(&mut draft, &[(throttled, set("0:1"))]).unwrap();
        alter(&mut draft, &[(throttled, append("1:1,0:1"))]).unwrap();
        assert_eq!(
            draft.image().topic("a").unwrap().configs[throttled],
            "0:1,1:1"
        );
        let number = alter(&mut draft, &[("retention.ms", append("1"))]).unwrap_err();
        assert!(number.text().contains("not LIST"));
    }

    fn alter_broker(
        draft: &mut Draft,
        node: Option<i32>,
        key: &str,
        op: ConfigOp,
    ) -> Result<(), (i16, String)> {
        let changes = [(key.to_owned(), op)];
        let config = BrokerConfig::default();
        let altered = alter_broker_configs(draft, &config, node.map(NodeId), &changes);
        draft.settle();
        altered.map_err(|refused| (refused.code.code(), refused.text().to_owned()))
    }

    #[test]
    fn settings_of_brokers_are_set_and_deleted() {
        let mut draft = draft();
        alter_broker(&mut draft, None, "log.retention.ms", set("5")).unwrap();
        alter_broker(&mut draft, Some(1), "log.retention.ms", set("6")).unwrap();
        alter_broker(&mut draft, Some(1), "num.io.threads", set("16")).unwrap();
        let own = |draft: &Draft| draft.image().broker_configs(Some(NodeId(1))).cloned();
        assert_eq!(own(&draft).unwrap().len(), 2);
        assert_eq!(
            draft.image().broker_configs(None).unwrap()["log.retention.ms"],
            "5"
        );
        for key in ["log.retention.ms", "num.io.threads", "of.another.release"] {
            alter_broker(&mut draft, Some(1), key, ConfigOp::Delete).unwrap();
        }
        assert_eq!(own(&draft), None);
    }

    #[test]
    fn what_cannot_be_changed_on_a_running_broker() {
        let mut draft = draft();
        for (node, key, op, code, why) in [
            (
                None,
                "num.partitions",
                set("5"),
                42,
                "dynamically: [num.partitions]",
            ),
            (
                Some(1),
                "num.partitions",
                ConfigOp::Delete,
                42,
                "dynamically",
            ),
            (None, "listener.name", set("5"), 42, "Unknown"),
            (None, "log.retention.ms", set("x"), 42, "Invalid value x"),
            (
                None,
                "log.cleanup.policy",
                set("compacted"),
                42,
                "Invalid value compacted",
            ),
            (
                None,
                "principal.builder.class",
                set("x"),
                42,
                "cluster level",
            ),
            (
                None,
                "log.retention.ms",
                ConfigOp::Append("1".to_owned()),
                40,
                "not LIST",
            ),
        ] {
            let (found, message) = alter_broker(&mut draft, node, key, op).unwrap_err();
            assert!(
                found == code && message.contains(why),
                "{key}: {found} {message}"
            );
        }
        assert_eq!(draft.image().broker_configs(None), None);
    }

    #[test]
    fn what_is_replaced_is_what_was_not_named() {
        let mut draft = draft();
        alter(
            &mut draft,
            &[("retention.ms", set("5")), ("segment.ms", set("9"))],
        )
        .unwrap();
        let wanted = vec![("retention.ms".to_owned(), "7".to_owned())];
        let changes = replacing(&draft, &ConfigResource::Topic("a".to_owned()), wanted);
        let want = [("segment.ms", ConfigOp::Delete), ("retention.ms", set("7"))];
        assert_eq!(changes, want.map(|(key, op)| (key.to_owned(), op)));
    }

    #[test]
    fn the_brokers_own_topics_stay_compacted() {
        let config = BrokerConfig::default();
        let mut draft = with_topics(&["__consumer_offsets"]);
        let name = "__consumer_offsets".to_owned();
        let delete = [("cleanup.policy".to_owned(), ConfigOp::Delete)];
        assert!(alter_topic_configs(&mut draft, &config, &name, &delete).is_err());
        let changes = replacing(&draft, &ConfigResource::Topic(name), Vec::new());
        assert_eq!(changes, [("segment.bytes".to_owned(), ConfigOp::Delete)]);
    }

    fn alter_group(draft: &mut Draft, group: &str, key: &str, op: ConfigOp) -> Result<(), i16> {
        let changes = [(key.to_owned(), op)];
        let altered = alter_group_configs(draft, &BrokerConfig::default(), group, &changes);
        draft.settle();
        altered.map_err(|refused| refused.code.code())
    }

    #[test]
    fn groups_have_so_many_settings_and_no_more() {
        const SESSION: &str = "consumer.session.timeout.ms";
        let mut image = cluster(1);
        let config = |group: String, value: &str| MetadataRecord::Config {
            resource: ConfigResource::Group(group),
            key: SESSION.to_owned(),
            value: Some(value.to_owned()),
        };
        for n in 1..GROUP_CONFIGS_MAX {
            image.replay(&config(format!("{n}"), "50000")).unwrap();
        }
        let mut draft = Draft::new(&image);
        let large = "x".repeat(GROUP_CONFIGS_BYTES_MAX);
        for (group, result) in [
            (&*large, Err(44)),
            ("a", Ok(())),
            ("b", Err(44)),
            ("1", Ok(())),
        ] {
            let found = alter_group(&mut draft, group, SESSION, set("50001"));
            assert_eq!(found, result, "{}", &group[..1]);
        }
        // What is there may go.
        assert_eq!(
            alter_group(&mut draft, "2", SESSION, ConfigOp::Delete),
            Ok(())
        );
        assert_eq!(draft.image().groups.get("2"), None);
        assert_eq!(alter_group(&mut draft, "b", SESSION, set("50001")), Ok(()));
        // Of another release, with other bounds.
        image.replay(&config(large.clone(), "50000")).unwrap();
        let mut draft = Draft::new(&image);
        let other = "consumer.heartbeat.interval.ms";
        assert_eq!(alter_group(&mut draft, &large, other, set("5000")), Err(44));
        assert_eq!(
            alter_group(&mut draft, &large, SESSION, ConfigOp::Delete),
            Ok(())
        );
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
