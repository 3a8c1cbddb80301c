//! Decides which nodes have the replicas of new partitions, from counts or from
//! what the client chose.

use std::collections::HashSet;

use super::new_partitions::Replicas;
use super::new_topic::NewTopic;
use super::registered::Registered;
use crate::base::{ErrorCode, NodeId, Refused};
use crate::config::BrokerConfig;

/// The replicas of each partition of a topic described by counts.
pub(super) fn by_count(
    topic: &NewTopic,
    config: &BrokerConfig,
    brokers: &Registered,
) -> Result<Replicas, Refused> {
    let factor = match topic.replication_factor {
        -1 => config.default_replication_factor,
        n => i32::from(n),
    };
    let partitions = match topic.partitions {
        -1 => config.num_partitions,
        n => n,
    };
    if factor < 1 {
        return Err(Refused::because(
            ErrorCode::InvalidReplicationFactor,
            "Replication factor must be larger than 0, or -1 to use the default value.",
        ));
    }
    let partitions = usize::try_from(partitions)
        .ok()
        .filter(|n| *n > 0)
        .ok_or_else(|| {
            Refused::because(
                ErrorCode::InvalidPartitions,
                "Number of partitions was set to an invalid non-positive value.",
            )
        })?;
    let factor = usize::try_from(factor).unwrap_or(usize::MAX);
    are_enough(brokers, factor).map_err(|refused| {
        let why = refused.text();
        let message = format!("Unable to replicate the partition {factor} time(s): {why}");
        Refused::because(refused.code, message)
    })?;
    Ok(Replicas::Counted { partitions, factor })
}

/// Whether there are brokers for so many replicas of a partition. Some of them may be fenced.
pub(super) fn are_enough(brokers: &Registered, factor: usize) -> Result<(), Refused> {
    let registered = brokers.count();
    let why = if !brokers.iter().any(|broker| !broker.fenced) {
        "All brokers are currently fenced.".to_owned()
    } else if factor > registered {
        format!(
            "The target replication factor of {factor} cannot be reached because only {registered} \
             broker(s) are registered."
        )
    } else {
        return Ok(());
    };
    Err(Refused::because(ErrorCode::InvalidReplicationFactor, why))
}

/// The replicas of each partition of a topic whose nodes the client chose.
pub(super) fn by_assignment(topic: NewTopic, brokers: &Registered) -> Result<Replicas, Refused> {
    for (set, what) in [
        (topic.replication_factor != -1, "replication factor"),
        (topic.partitions != -1, "numPartitions"),
    ] {
        if set {
            let message = format!(
                "A manual partition assignment was specified, but {what} was not set to -1."
            );
            return Err(Refused::because(ErrorCode::InvalidRequest, message));
        }
    }
    let bad = |message| Refused::because(ErrorCode::InvalidReplicaAssignment, message);
    let mut seen = HashSet::with_capacity(topic.assignments.len());
    let mut factor = None;
    for (index, (replicas, _)) in &topic.assignments {
        if !seen.insert(*index) {
            let message =
                format!("Found multiple manual partition assignments for partition {index}");
            return Err(bad(message));
        }
        check_replicas(*index, replicas, brokers, factor)?;
        factor = Some(replicas.len());
    }
    let mut by_index = topic.assignments;
    by_index.sort_unstable_by_key(|(index, _)| *index);
    if (0..)
        .zip(&by_index)
        .any(|(want, (index, _))| want != *index)
    {
        return Err(bad(
            "partitions should be a consecutive 0-based integer sequence".to_owned(),
        ));
    }
    let chosen: Vec<_> = by_index.into_iter().map(|(_, chosen)| chosen).collect();
    Ok(Replicas::Each(chosen.into_iter()))
}

/// Checks the nodes that a client chose for one partition; `factor` is how many the partitions
/// before had.
pub(super) fn check_replicas(
    partition: i32,
    replicas: &[NodeId],
    brokers: &Registered,
    factor: Option<usize>,
) -> Result<(), Refused> {
    let bad = |message| {
        Err(Refused::because(
            ErrorCode::InvalidReplicaAssignment,
            message,
        ))
    };
    let includes = |what: String| bad(format!("The manual partition assignment includes {what}"));
    let mut seen = HashSet::with_capacity(replicas.len());
    for node in replicas {
        if !seen.insert(*node) {
            return includes(format!("the broker {node} more than once."));
        }
        if brokers.get(*node).is_none() {
            return includes(format!("broker {node}, but no such broker is registered."));
        }
    }
    match factor {
        _ if replicas.is_empty() => includes("an empty replica list.".to_owned()),
        Some(factor) if factor != replicas.len() => includes(format!(
            "a partition with {} replica(s), but this is not consistent with previous partitions, \
             which have {factor} replica(s).",
            replicas.len()
        )),
        _ if !replicas.iter().any(|node| brokers.is_node_live(*node)) => bad(format!(
            "All brokers specified in the manual partition assignment for partition {partition} are \
             fenced or in controlled shutdown."
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::testing::cluster;

    fn topic() -> NewTopic {
        NewTopic {
            name: "a".to_owned(),
            partitions: -1,
            replication_factor: -1,
            ..NewTopic::default()
        }
    }

    fn with(assignments: &[(i32, &[i32])]) -> NewTopic {
        let nodes = |nodes: &[i32]| nodes.iter().copied().map(NodeId).collect();
        NewTopic {
            assignments: assignments
                .iter()
                .map(|(index, ids)| (*index, (nodes(ids), None)))
                .collect(),
            ..topic()
        }
    }

    /// How many partitions with how many replicas, or why not, on three brokers of which the third is fenced.
    fn decide(topic: &NewTopic) -> Result<(usize, usize), ErrorCode> {
        let mut brokers = cluster(3).brokers;
        brokers.set_fenced(NodeId(3), true);
        let decided = if topic.assignments.is_empty() {
            by_count(topic, &BrokerConfig::default(), &brokers)
        } else {
            by_assignment(topic.clone(), &brokers)
        };
        let replicas = decided.map_err(|refused| refused.code)?;
        Ok((replicas.len(), replicas.factor()))
    }

    #[test]
    fn nothing_is_placed_on_fenced_brokers_alone() {
        let mut brokers = cluster(1).brokers;
        brokers.set_fenced(NodeId(1), true);
        let refused = by_count(&topic(), &BrokerConfig::default(), &brokers).unwrap_err();
        assert_eq!(refused.code, ErrorCode::InvalidReplicationFactor);
        assert!(refused.text().contains("currently fenced"));
    }

    #[test]
    fn counts() {
        assert_eq!(decide(&topic()), Ok((1, 1)));
        let three = NewTopic {
            replication_factor: 3,
            ..topic()
        };
        assert_eq!(decide(&three), Ok((1, 3)), "one of them is fenced");
        for partitions in [0, -2] {
            let topic = NewTopic {
                partitions,
                ..topic()
            };
            assert_eq!(decide(&topic), Err(ErrorCode::InvalidPartitions));
        }
        for replication_factor in [0, -2, 4] {
            let topic = NewTopic {
                replication_factor,
                ..topic()
            };
            assert_eq!(decide(&topic), Err(ErrorCode::InvalidReplicationFactor));
        }
    }

    #[test]
    fn assignments() {
        assert_eq!(decide(&with(&[(1, &[1]), (0, &[2])])), Ok((2, 1)));
        assert_eq!(decide(&with(&[(0, &[3, 1])])), Ok((1, 2)));
        let bad: [&[(i32, &[i32])]; 8] = [
            &[(0, &[])],
            &[(0, &[4])],
            &[(0, &[3])],
            &[(0, &[1]), (1, &[1, 2])],
            &[(0, &[1, 1])],
            &[(0, &[1]), (0, &[1])],
            &[(1, &[1])],
            &[(0, &[1]), (2, &[1])],
        ];
        for assignments in bad {
            let decided = decide(&with(assignments));
            assert_eq!(
                decided,
                Err(ErrorCode::InvalidReplicaAssignment),
                "{assignments:?}"
            );
        }
        let both = NewTopic {
            partitions: 1,
            ..with(&[(0, &[1])])
        };
        assert_eq!(decide(&both), Err(ErrorCode::InvalidRequest));
    }
}
