//! `topics`: list, create, describe, delete, alter.

use kafka_wire::create_partitions_request::CreatePartitionsTopic;
use kafka_wire::delete_topics_request::DeleteTopicState;
use kafka_wire::describe_configs_request::DescribeConfigsResource;
use kafka_wire::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_wire::{
    CreatePartitionsRequest, DeleteTopicsRequest, DescribeConfigsRequest,
    IncrementalAlterConfigsRequest,
};
use kafka_wire_core::StrBytes;

use crate::Outcome;
use crate::args::Topics;
use crate::table::{Table, list};
use millrace_client::{
    ClientError, Cluster, EARLIEST, LATEST, NewTopic, Result, Topic, create_topic, list_offsets,
    message,
};

/// The resource type "topic" of configuration requests.
const TOPIC_RESOURCE: i8 = 2;
/// Configuration sources from which on a value is the default: broker-wide, static or built in.
const DEFAULT_SOURCES_FROM: i8 = 2;
/// Operations of IncrementalAlterConfigs.
const SET: i8 = 0;
const DELETE: i8 = 1;
/// From this version on, DeleteTopics names topics in a list of structures.
const DELETE_BY_STATE_SINCE: i16 = 6;
/// Milliseconds that a broker may take to carry out a change.
const CHANGE_TIMEOUT_MS: i32 = 30_000;

/// Runs the command.
pub fn run(cluster: &mut Cluster, command: &Topics) -> Outcome {
    let done = match command {
        Topics::List { internal } => list_topics(cluster, *internal),
        Topics::Create {
            name,
            partitions,
            replication,
            configs,
        } => {
            let new = NewTopic {
                name,
                partitions: *partitions,
                replication: *replication,
                configs,
            };
            create_topic(cluster, &new).map(|()| println!("created {name}"))
        }
        Topics::Describe { names, all_configs } => names
            .iter()
            .try_for_each(|name| describe(cluster, name, *all_configs)),
        Topics::Delete { names } => names.iter().try_for_each(|name| delete(cluster, name)),
        Topics::Alter {
            name,
            partitions,
            set,
            unset,
        } => {
            if partitions.is_none() && set.is_empty() && unset.is_empty() {
                return Err(String::from(
                    "nothing to change: give --partitions, --set or --unset",
                ));
            }
            alter(cluster, name, *partitions, set, unset)
        }
    };
    done.map_err(|error| error.to_string())
}

fn list_topics(cluster: &mut Cluster, internal: bool) -> Result<()> {
    let mut table = Table::new(&["TOPIC", "PARTITIONS", "REPLICAS"]);
    for topic in cluster
        .topics()?
        .iter()
        .filter(|topic| internal || !topic.internal)
    {
        let replicas = topic
            .partitions
            .iter()
            .map(|p| p.replicas.len())
            .max()
            .unwrap_or(0);
        table.row([
            topic.name.clone(),
            topic.partitions.len().to_string(),
            replicas.to_string(),
        ]);
    }
    print!("{table}");
    Ok(())
}

fn describe(cluster: &mut Cluster, name: &str, all_configs: bool) -> Result<()> {
    let topic = cluster.topic(name)?;
    println!("topic  {name}  id {}", topic.id);
    let led: Vec<i32> = topic
        .partitions
        .iter()
        .filter(|p| p.leader >= 0)
        .map(|p| p.index)
        .collect();
    let first = list_offsets(cluster, &topic, &led, EARLIEST)?;
    let end = list_offsets(cluster, &topic, &led, LATEST)?;
    let mut table = Table::new(&[
        "PARTITION",
        "LEADER",
        "EPOCH",
        "REPLICAS",
        "ISR",
        "FIRST",
        "END",
    ]);
    for p in &topic.partitions {
        let offset = |of: Option<&i64>| of.map(i64::to_string).unwrap_or_default();
        table.row([
            p.index.to_string(),
            if p.leader < 0 {
                "NONE".into()
            } else {
                p.leader.to_string()
            },
            p.leader_epoch.to_string(),
            list(&p.replicas),
            list(&p.isr),
            offset(first.get(&p.index)),
            offset(end.get(&p.index)),
        ]);
    }
    print!("{table}");
    describe_configs(cluster, &topic, all_configs)
}

fn describe_configs(cluster: &mut Cluster, topic: &Topic, all: bool) -> Result<()> {
    let resource = message!(DescribeConfigsResource {
        resource_type: TOPIC_RESOURCE,
        resource_name: StrBytes::from(topic.name.as_str()),
        configuration_keys: None,
    });
    let request = message!(DescribeConfigsRequest {
        resources: vec![resource]
    });
    let mut table = Table::new(&["CONFIG", "VALUE", "FROM"]);
    let mut rows = 0;
    for result in cluster.any()?.call(&request)?.results {
        let what = || format!("describe the configuration of '{}'", topic.name);
        ClientError::check(what, result.error_code, result.error_message.as_deref())?;
        for config in result.configs {
            let is_default = config.config_source >= DEFAULT_SOURCES_FROM;
            if all || !is_default {
                rows += 1;
                table.row([
                    config.name.to_string(),
                    config
                        .value
                        .map(|value| value.to_string())
                        .unwrap_or_default(),
                    if is_default {
                        "default".into()
                    } else {
                        "topic".into()
                    },
                ]);
            }
        }
    }
    if rows > 0 {
        print!("{table}");
    }
    Ok(())
}

fn delete(cluster: &mut Cluster, name: &str) -> Result<()> {
    // Names the nearest topic if there is none of this name, which the broker would not do.
    cluster.topic(name)?;
    let conn = cluster.controller()?;
    let version = conn.version::<DeleteTopicsRequest>()?;
    let mut request = message!(DeleteTopicsRequest {
        timeout_ms: CHANGE_TIMEOUT_MS
    });
    if version >= DELETE_BY_STATE_SINCE {
        request.topics = vec![message!(DeleteTopicState {
            name: Some(StrBytes::from(name))
        })];
    } else {
        request.topic_names = vec![StrBytes::from(name)];
    }
    for result in conn.call_at(&request, version)?.responses {
        let what = || format!("delete topic '{name}'");
        ClientError::check(what, result.error_code, result.error_message.as_deref())?;
    }
    println!("deleted {name}");
    Ok(())
}

fn alter(
    cluster: &mut Cluster,
    name: &str,
    partitions: Option<i32>,
    set: &[(String, String)],
    unset: &[String],
) -> Result<()> {
    cluster.topic(name)?;
    if !set.is_empty() || !unset.is_empty() {
        alter_configs(cluster, name, set, unset)?;
    }
    if let Some(count) = partitions {
        let topic = message!(CreatePartitionsTopic {
            name: StrBytes::from(name),
            count: count,
            assignments: None,
        });
        let request = message!(CreatePartitionsRequest {
            topics: vec![topic],
            timeout_ms: CHANGE_TIMEOUT_MS
        });
        for result in cluster.controller()?.call(&request)?.results {
            let what = || format!("change the number of partitions of '{name}'");
            ClientError::check(what, result.error_code, result.error_message.as_deref())?;
        }
        println!("{name} has {count} partitions now");
    }
    Ok(())
}

fn alter_configs(
    cluster: &mut Cluster,
    name: &str,
    set: &[(String, String)],
    unset: &[String],
) -> Result<()> {
    let change = |key: &str, operation: i8, value: Option<&str>| {
        message!(AlterableConfig {
            name: StrBytes::from(key),
            config_operation: operation,
            value: value.map(StrBytes::from),
        })
    };
    let sets = set.iter().map(|(key, value)| change(key, SET, Some(value)));
    let deletes = unset.iter().map(|key| change(key, DELETE, None));
    let resource = message!(AlterConfigsResource {
        resource_type: TOPIC_RESOURCE,
        resource_name: StrBytes::from(name),
        configs: sets.chain(deletes).collect(),
    });
    let request = message!(IncrementalAlterConfigsRequest {
        resources: vec![resource]
    });
    for result in cluster.controller()?.call(&request)?.responses {
        let what = || format!("change the configuration of '{name}'");
        ClientError::check(what, result.error_code, result.error_message.as_deref())?;
    }
    println!("changed the configuration of {name}");
    Ok(())
}
