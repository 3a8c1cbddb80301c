//! `configs`: the settings of topics, brokers and groups, which other commands use too.

use std::collections::BTreeMap;

use kafka_wire::describe_configs_request::DescribeConfigsResource;
use kafka_wire::describe_configs_response::DescribeConfigsResourceResult;
use kafka_wire::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_wire::{DescribeConfigsRequest, IncrementalAlterConfigsRequest};
use kafka_wire_core::StrBytes;
use millrace_client::{ClientError, Cluster, Conn, Result, message};

use crate::answer::{Answer, Cell, Output, Rows};
use crate::args::{Changes, Configs, Kind};
use crate::failure::Outcome;

/// Topics in one request for settings.
const TOPICS_AT_ONCE: usize = 500;
/// Operations of IncrementalAlterConfigs.
const SET: i8 = 0;
const DELETE: i8 = 1;
/// The name of what counts for all brokers that have no value of their own.
const ALL_BROKERS: &str = "default";

impl Kind {
    /// The resource type on the wire.
    fn code(self) -> i8 {
        match self {
            Self::Topic => 2,
            Self::Broker => 4,
            Self::Group => 32,
        }
    }

    /// How errors call it.
    fn noun(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Broker => "broker",
            Self::Group => "group",
        }
    }

    /// Whether a value from this source was set for the resource itself, or at least for its kind.
    fn is_set(self, source: &str) -> bool {
        match self {
            Self::Topic => source == "topic",
            Self::Broker => source != "default",
            Self::Group => source == "group",
        }
    }
}

/// Where a value comes from (KIP-226), as scripts may rely on.
fn source(code: i8) -> &'static str {
    match code {
        1 => "topic",
        2 => "broker",
        3 => "all-brokers",
        4 => "file",
        5 => "default",
        6 => "broker-logger",
        7 => "client-metrics",
        8 => "group",
        _ => "unknown",
    }
}

/// Runs the command.
pub fn run(cluster: &mut Cluster, output: Output, command: &Configs) -> Outcome {
    let answer = match command {
        Configs::Describe { kind, name, all } => {
            let rows = describe(cluster, *kind, name, *all)?;
            Answer::new()
                .field("kind", kind.noun())
                .field("name", name)
                .rows("configs", rows)
        }
        Configs::Alter {
            kind,
            name,
            changes,
        } => {
            changes.required()?;
            alter(cluster, *kind, name, changes)?;
            changes.answer(
                Answer::new()
                    .field("kind", kind.noun())
                    .field("altered", name),
            )
        }
    };
    output.show(&answer)
}

/// The connection that answers for a resource: a broker for itself, any for everything else.
fn who<'a>(cluster: &'a mut Cluster, kind: Kind, name: &str) -> Result<&'a mut Conn> {
    match (kind, name.parse()) {
        (Kind::Broker, Ok(id)) => cluster.node(id),
        _ => cluster.controller(),
    }
}

fn resource_name(kind: Kind, name: &str) -> StrBytes {
    match kind {
        Kind::Broker if name == ALL_BROKERS => StrBytes::from(""),
        _ => StrBytes::from(name),
    }
}

/// What the broker says of a resource that there is.
fn described(
    cluster: &mut Cluster,
    kind: Kind,
    name: &str,
) -> Result<Vec<DescribeConfigsResourceResult>> {
    let resource = message!(DescribeConfigsResource {
        resource_type: kind.code(),
        resource_name: resource_name(kind, name),
        configuration_keys: None,
    });
    let request = message!(DescribeConfigsRequest {
        resources: vec![resource]
    });
    let mut configs = Vec::new();
    for result in who(cluster, kind, name)?.call(&request)?.results {
        let what = || format!("describe the configuration of {} '{name}'", kind.noun());
        ClientError::check(what, result.error_code, result.error_message.as_deref())?;
        configs.extend(result.configs);
    }
    Ok(configs)
}

/// Its configuration: what was set, or also defaults.
pub fn describe(cluster: &mut Cluster, kind: Kind, name: &str, all: bool) -> Result<Rows> {
    if kind == Kind::Topic {
        // Names the nearest topic if there is none of this name, which the broker would not do.
        cluster.topic(name)?;
    }
    let mut rows = Rows::of(&["name", "value", "source", "read_only", "sensitive"]);
    for config in described(cluster, kind, name)? {
        let source = source(config.config_source);
        if all || kind.is_set(source) {
            rows.add([
                Cell::from(&config.name),
                config.value.as_ref().into(),
                source.into(),
                config.read_only.into(),
                config.is_sensitive.into(),
            ]);
        }
    }
    Ok(rows)
}

/// The settings that a topic has for itself, but for those whose values are not told.
pub fn own_of_topic(cluster: &mut Cluster, name: &str) -> Result<BTreeMap<String, String>> {
    let configs = described(cluster, Kind::Topic, name)?.into_iter();
    let own = configs.filter(|config| Kind::Topic.is_set(source(config.config_source)));
    let told = own.filter_map(|config| Some((config.name.to_string(), config.value?.to_string())));
    Ok(told.collect())
}

/// One setting of these topics, as the brokers have it, by topic; what is not told is left out.
pub fn of_topics(
    cluster: &mut Cluster,
    topics: &[&str],
    key: &str,
) -> Result<BTreeMap<String, String>> {
    let mut values = BTreeMap::new();
    for some in topics.chunks(TOPICS_AT_ONCE) {
        let resources = some.iter().map(|topic| {
            message!(DescribeConfigsResource {
                resource_type: Kind::Topic.code(),
                resource_name: StrBytes::from(*topic),
                configuration_keys: Some(vec![StrBytes::from(key)]),
            })
        });
        let request = message!(DescribeConfigsRequest {
            resources: resources.collect()
        });
        for result in cluster.any()?.call(&request)?.results {
            let found = result
                .configs
                .into_iter()
                .find(|config| config.name.as_str() == key);
            if let Some(value) = found.and_then(|config| config.value) {
                values.insert(result.resource_name.to_string(), value.to_string());
            }
        }
    }
    Ok(values)
}

/// Changes its configuration: all of it or nothing.
pub fn alter(cluster: &mut Cluster, kind: Kind, name: &str, changes: &Changes) -> Result<()> {
    if kind == Kind::Topic {
        cluster.topic(name)?;
    }
    let change = |key: &str, operation: i8, value: Option<&str>| {
        message!(AlterableConfig {
            name: StrBytes::from(key),
            config_operation: operation,
            value: value.map(StrBytes::from),
        })
    };
    let sets = changes
        .set
        .iter()
        .map(|(key, value)| change(key, SET, Some(value)));
    let deletes = changes.unset.iter().map(|key| change(key, DELETE, None));
    let resource = message!(AlterConfigsResource {
        resource_type: kind.code(),
        resource_name: resource_name(kind, name),
        configs: sets.chain(deletes).collect(),
    });
    let request = message!(IncrementalAlterConfigsRequest {
        resources: vec![resource]
    });
    for result in who(cluster, kind, name)?.call(&request)?.responses {
        let what = || format!("change the configuration of {} '{name}'", kind.noun());
        ClientError::check(what, result.error_code, result.error_message.as_deref())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_set_is_told_from_what_is_so_anyway() {
        for (kind, set, not) in [
            (
                Kind::Topic,
                &["topic"][..],
                &["broker", "all-brokers", "file", "default"][..],
            ),
            (
                Kind::Broker,
                &["broker", "all-brokers", "file"],
                &["default"],
            ),
            (Kind::Group, &["group"], &["file", "default"]),
        ] {
            assert!(set.iter().all(|source| kind.is_set(source)), "{kind:?}");
            assert!(!not.iter().any(|source| kind.is_set(source)), "{kind:?}");
        }
        assert_eq!((source(5), source(99)), ("default", "unknown"));
    }

    #[test]
    fn all_brokers_have_an_empty_name_on_the_wire() {
        assert_eq!(resource_name(Kind::Broker, "default").as_str(), "");
        assert_eq!(resource_name(Kind::Broker, "1").as_str(), "1");
        assert_eq!(resource_name(Kind::Topic, "default").as_str(), "default");
    }
}
