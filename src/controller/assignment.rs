//! Decides which nodes have the replicas of new partitions, from counts or from
//! what the client chose.

use std::collections::HashSet;

use super::draft::Terms;
use super::new_partitions::Replicas;
use super::new_topic::NewTopic;
use crate::base::{ErrorCode, NodeId, Refused};

/// The replicas of each partition of a topic described by counts.
pub(super) fn by_count(topic: &NewTopic, terms: &Terms<'_>) -> Result<Replicas, Refused> {
    let factor = match topic.replication_factor {
        -1 => terms.config.default_replication_factor,
        n => i32::from(n),
    };
    let partitions = match topic.partitions {
        -1 => terms.config.num_partitions,
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
    let nodes = terms.nodes();
    if factor > nodes.len() as i32 {
        return Err(Refused::because(
            ErrorCode::InvalidReplicationFactor,
            format!(
                "Unable to replicate the partition {factor} time(s): The target replication factor \
                 of {factor} cannot be reached because only {} broker(s) are registered.",
                nodes.len()
            ),
        ));
    }
    Ok(Replicas::Alike(nodes.to_vec(), partitions))
}

/// The replicas of each partition of a topic whose nodes the client chose.
pub(super) fn by_assignment(topic: NewTopic, terms: &Terms<'_>) -> Result<Replicas, Refused> {
    for (set, what) in [
        (topic.replication_factor != -1, "replicationFactor"),
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
        check_replicas(replicas, &terms.nodes(), factor)?;
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
    replicas: &[NodeId],
    nodes: &[NodeId],
    factor: Option<usize>,
) -> Result<(), Refused> {
    let bad = |message: String| {
        let message = format!("The manual partition assignment includes {message}");
        Err(Refused::because(
            ErrorCode::InvalidReplicaAssignment,
            message,
        ))
    };
    let mut seen = Vec::new();
    for node in replicas {
        if seen.contains(node) {
            return bad(format!("the broker {node} more than once."));
        }
        if !nodes.contains(node) {
            return bad(format!("broker {node}, but no such broker is registered."));
        }
        seen.push(*node);
    }
    match factor {
        _ if replicas.is_empty() => bad("an empty replica list.".to_owned()),
        Some(factor) if factor != replicas.len() => bad(format!(
            "a partition with {} replica(s), but this is not consistent with previous partitions, \
             which have {factor} replica(s).",
            replicas.len()
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;
    use crate::config::BrokerConfig;

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

    /// How many partitions, or why not.
    fn decide(topic: &NewTopic) -> Result<usize, ErrorCode> {
        let (config, mut rng) = (BrokerConfig::default(), Rng::new(1));
        let terms = Terms {
            config: &config,
            rng: &mut rng,
        };
        let decided = if topic.assignments.is_empty() {
            by_count(topic, &terms)
        } else {
            by_assignment(topic.clone(), &terms)
        };
        match decided.map_err(|refused| refused.code)? {
            Replicas::Alike(nodes, count) => {
                assert_eq!(nodes, [NodeId(1)]);
                Ok(count)
            }
            Replicas::Each(each) => {
                assert!(each.clone().all(|(nodes, _)| nodes == [NodeId(1)]));
                Ok(each.len())
            }
        }
    }

    #[test]
    fn counts() {
        assert_eq!(decide(&topic()), Ok(1));
        for partitions in [0, -2] {
            let topic = NewTopic {
                partitions,
                ..topic()
            };
            assert_eq!(decide(&topic), Err(ErrorCode::InvalidPartitions));
        }
        for replication_factor in [0, -2, 2] {
            let topic = NewTopic {
                replication_factor,
                ..topic()
            };
            assert_eq!(decide(&topic), Err(ErrorCode::InvalidReplicationFactor));
        }
    }

    #[test]
    fn assignments() {
        assert_eq!(decide(&with(&[(1, &[1]), (0, &[1])])), Ok(2));
        let bad: [&[(i32, &[i32])]; 6] = [
            &[(0, &[])],
            &[(0, &[2])],
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

    #[test]
    fn every_partition_has_as_many_replicas() {
        let nodes = [NodeId(1), NodeId(2)];
        assert_eq!(check_replicas(&nodes, &nodes, Some(2)), Ok(()));
        assert!(check_replicas(&nodes[..1], &nodes, Some(2)).is_err());
    }
}
