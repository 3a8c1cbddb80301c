//! Decides on more partitions for a topic, and on its removal.

use super::assignment::{are_enough, check_replicas};
use super::draft::Draft;
use super::new_partitions::{Chosen, NewPartitions, Replicas};
use super::record::MetadataRecord;
use crate::base::limits::PARTITIONS_PER_REQUEST_MAX;
use crate::base::{ErrorCode, Refused, TopicId};

/// More partitions that somebody wants for a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MorePartitions {
    /// The topic.
    pub name: String,
    /// How many partitions it is to have then.
    pub count: i32,
    /// The nodes of each new partition and its store, if the client chose them.
    pub assignments: Option<Vec<Chosen>>,
}

/// Adds partitions to a topic.
///
/// # Errors
/// As Kafka's CreatePartitions; the draft is unchanged.
pub fn add_partitions(draft: &mut Draft, wanted: MorePartitions) -> Result<(), Refused> {
    let name = &wanted.name;
    let topic = draft
        .image()
        .topic(name)
        .ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if topic.internal {
        // Groups are spread over the partitions by their hash: another count loses their offsets.
        let message = format!("The number of partitions of internal topic {name} is fixed.");
        return Err(Refused::because(ErrorCode::InvalidRequest, message));
    }
    let (id, known) = (topic.id, topic.partitions.len());
    let factor = topic
        .partitions
        .first()
        .map(|partition| partition.replicas.len());
    let additional = additional(&wanted, known)?;
    let brokers = &draft.image().brokers;
    if let Some(assignments) = &wanted.assignments {
        if assignments.len() != additional {
            let message = format!(
                "Attempted to add {additional} additional partition(s), but only {} assignment(s) were specified.",
                assignments.len()
            );
            return Err(Refused::because(
                ErrorCode::InvalidReplicaAssignment,
                message,
            ));
        }
        for (index, (replicas, _)) in (0..).zip(assignments) {
            let index = i32::try_from(known)
                .unwrap_or(i32::MAX)
                .saturating_add(index);
            check_replicas(index, replicas, brokers, factor)?;
        }
    } else {
        are_enough(brokers, factor.unwrap_or(1))?;
    }
    draft.has_room(additional)?;
    let replicas = match wanted.assignments {
        Some(chosen) => Replicas::Each(chosen.into_iter()),
        None => Replicas::Counted {
            partitions: additional,
            factor: factor.unwrap_or(1),
        },
    };
    draft.push_partitions(NewPartitions::new(id, false, known, replicas));
    Ok(())
}

/// How many partitions have to be added.
fn additional(wanted: &MorePartitions, known: usize) -> Result<usize, Refused> {
    let (name, count) = (&wanted.name, wanted.count);
    let invalid = |message| Refused::because(ErrorCode::InvalidPartitions, message);
    match usize::try_from(count).unwrap_or(0).checked_sub(known) {
        Some(0) => Err(invalid(format!("Topic already has {known} partition(s)."))),
        Some(more) if more > PARTITIONS_PER_REQUEST_MAX => Err(Refused::because(
            ErrorCode::PolicyViolation,
            "Excessively large number of partitions per request.",
        )),
        Some(more) => Ok(more),
        None => Err(invalid(format!(
            "The topic {name} currently has {known} partition(s); {count} would not be an increase."
        ))),
    }
}

/// Removes a topic.
///
/// # Errors
/// There is none of this id, or it belongs to the broker; the draft is unchanged.
pub fn remove_topic(draft: &mut Draft, id: TopicId) -> Result<(), Refused> {
    let topic = draft
        .image()
        .topic_by_id(id)
        .ok_or(ErrorCode::UnknownTopicId)?;
    if topic.internal {
        let message = format!("Deletion of internal topic {} is prohibited.", topic.name);
        return Err(Refused::because(ErrorCode::InvalidRequest, message));
    }
    draft.has_room(1)?;
    draft.push(MetadataRecord::RemoveTopic { id });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::NodeId;
    use crate::controller::testing::with_topics;

    fn more(count: i32, assignments: Option<&[&[i32]]>) -> Result<usize, Refused> {
        let mut draft = with_topics(&["a"]);
        let nodes = |nodes: &&[i32]| (nodes.iter().copied().map(NodeId).collect(), None);
        let wanted = MorePartitions {
            name: "a".to_owned(),
            count,
            assignments: assignments.map(|all| all.iter().map(nodes).collect()),
        };
        add_partitions(&mut draft, wanted)?;
        draft.settle();
        Ok(draft.image().topic("a").unwrap().partitions.len())
    }

    fn code(count: i32, assignments: Option<&[&[i32]]>) -> ErrorCode {
        more(count, assignments).unwrap_err().code
    }

    #[test]
    fn partitions_are_added() {
        assert_eq!(more(3, None), Ok(3));
        assert_eq!(more(3, Some(&[&[1], &[1]])), Ok(3));
    }

    #[test]
    fn what_is_no_increase_is_refused() {
        for count in [1, 0, -1] {
            assert_eq!(code(count, None), ErrorCode::InvalidPartitions);
        }
        assert_eq!(code(i32::MAX, None), ErrorCode::PolicyViolation);
        for assignments in [
            &[&[1][..]][..],
            &[&[1], &[]],
            &[&[1], &[9]],
            &[&[1], &[1, 1]],
        ] {
            assert_eq!(
                code(3, Some(assignments)),
                ErrorCode::InvalidReplicaAssignment
            );
        }
    }

    #[test]
    fn topics_are_removed_unless_they_are_the_brokers() {
        let mut draft = with_topics(&["a", "__consumer_offsets"]);
        let a = draft.image().topic("a").unwrap().id;
        let offsets = draft.image().topic("__consumer_offsets").unwrap().id;
        assert_eq!(remove_topic(&mut draft, a), Ok(()));
        draft.settle();
        assert_eq!(
            remove_topic(&mut draft, a).unwrap_err().code,
            ErrorCode::UnknownTopicId
        );
        assert_eq!(
            remove_topic(&mut draft, offsets).unwrap_err().code,
            ErrorCode::InvalidRequest
        );
    }
}
