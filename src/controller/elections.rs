//! Elections of leaders: who may be elected by the settings, and what clients ask for.

use super::draft::Draft;
use super::leadership::{Eligible, elect_preferred, elect_unclean};
use super::record::MetadataRecord;
use super::topic::Topic;
use crate::base::{ErrorCode, Refused};
use crate::config::{BrokerConfig, TopicConfig};

/// Who may be elected as a leader of a topic's partitions without being asked for.
#[must_use]
pub fn eligible(config: &BrokerConfig, topic: &Topic) -> Eligible {
    match TopicConfig::allows_unclean_elections(config, &topic.configs) {
        true => Eligible::Any,
        false => Eligible::InSync,
    }
}

/// The elections that clients ask for, with Kafka's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Election {
    /// Of the first replica.
    Preferred = 0,
    /// Of one that is alive, where nobody leads.
    Unclean = 1,
}

impl Election {
    /// By its number.
    #[must_use]
    pub const fn from_number(number: i8) -> Option<Self> {
        match number {
            0 => Some(Self::Preferred),
            1 => Some(Self::Unclean),
            _ => None,
        }
    }
}

/// Elects a leader of a partition.
///
/// # Errors
/// As Kafka's ElectLeaders; the draft is unchanged. POLICY_VIOLATION if it has no room for more.
pub fn elect_leader(
    draft: &mut Draft,
    name: &str,
    index: i32,
    election: Election,
) -> Result<(), Refused> {
    let image = draft.image();
    let unknown = |what: String| Refused::because(ErrorCode::UnknownTopicOrPartition, what);
    let topic = image.topic(name);
    let topic = topic.ok_or_else(|| unknown(format!("No such topic as {name}")))?;
    let partition = topic.partition(index);
    let partition =
        partition.ok_or_else(|| unknown(format!("No such partition as {name}-{index}")))?;
    let now = partition.record(topic.id, index);
    let next = match election {
        Election::Preferred => elect_preferred(&now, &image.brokers),
        Election::Unclean => elect_unclean(&now, &image.brokers),
    }?;
    draft.has_room(1)?;
    if next.elections.unclean == Some(next.leader_epoch) {
        let leader = next.leader;
        tracing::warn!(
            "{name}-{index}: node {leader} is to lead it, which is not in sync: what it lacks is lost"
        );
    }
    draft.push(MetadataRecord::Partition(next));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{LeaderEpoch, NodeId};
    use crate::controller::testing::{cluster, create};
    use crate::controller::{Image, Partition};

    fn ask(image: &mut Image, index: i32, election: Election) -> Result<NodeId, ErrorCode> {
        let mut draft = Draft::new(image);
        elect_leader(&mut draft, "a", index, election).map_err(|refused| refused.code)?;
        draft.settle();
        *image = draft.into_change().image;
        image.invariants();
        Ok(of(image).leader)
    }

    fn of(image: &Image) -> &Partition {
        &image.topic("a").unwrap().partitions[0]
    }

    /// Makes of the partition what it is with this leader and ISR.
    fn set(image: &mut Image, leader: NodeId, isr: &[NodeId]) {
        let topic = image.topic("a").unwrap();
        let mut record = topic.partitions[0].record(topic.id, 0);
        (record.leader, record.isr) = (leader, isr.to_vec());
        image.replay(&MetadataRecord::Partition(record)).unwrap();
    }

    #[test]
    fn the_first_replica_is_elected_if_it_can_lead() {
        let mut image = cluster(3);
        create(&mut image, "a", 1, 3);
        let [first, second, third] = of(&image).replicas[..] else {
            panic!("it has three");
        };
        let preferred = Election::Preferred;
        assert_eq!(
            ask(&mut image, 0, preferred),
            Err(ErrorCode::ElectionNotNeeded)
        );
        for index in [-1, 1] {
            let unknown = Err(ErrorCode::UnknownTopicOrPartition);
            assert_eq!(ask(&mut image, index, preferred), unknown);
        }
        set(&mut image, second, &[second, third]);
        let unavailable = Err(ErrorCode::PreferredLeaderNotAvailable);
        assert_eq!(ask(&mut image, 0, preferred), unavailable, "not in sync");
        set(&mut image, second, &[second, first]);
        image.brokers.set_fenced(first, true);
        assert_eq!(ask(&mut image, 0, preferred), unavailable, "not alive");
        image.brokers.set_fenced(first, false);
        let epoch = of(&image).leader_epoch.0;
        assert_eq!(ask(&mut image, 0, preferred), Ok(first));
        assert_eq!(of(&image).leader_epoch.0, epoch + 1);
        assert_eq!(of(&image).isr[..], [second, first]);
        // Nobody leads: another one in sync does, as in Kafka.
        set(&mut image, NodeId::NOBODY, &[first, third]);
        image.brokers.set_fenced(first, true);
        assert_eq!(ask(&mut image, 0, preferred), Ok(third));
    }

    #[test]
    fn whoever_is_alive_is_elected_where_nobody_leads() {
        let mut image = cluster(3);
        create(&mut image, "a", 1, 3);
        let [first, second, third] = of(&image).replicas[..] else {
            panic!("it has three");
        };
        let unclean = Election::Unclean;
        assert_eq!(
            ask(&mut image, 0, unclean),
            Err(ErrorCode::ElectionNotNeeded)
        );
        set(&mut image, NodeId::NOBODY, &[first, third]);
        image.brokers.set_fenced(first, true);
        assert_eq!(
            ask(&mut image, 0, unclean),
            Ok(third),
            "one that is in sync"
        );
        assert_eq!(of(&image).unclean_epoch(), None);
        assert_eq!(of(&image).isr[..], [first, third]);
        set(&mut image, NodeId::NOBODY, &[first]);
        for node in [second, third] {
            image.brokers.set_fenced(node, true);
        }
        let nobody = Err(ErrorCode::EligibleLeadersNotAvailable);
        assert_eq!(ask(&mut image, 0, unclean), nobody);
        image.brokers.set_fenced(second, false);
        assert_eq!(ask(&mut image, 0, unclean), Ok(second));
        let it = of(&image);
        assert_eq!((&it.isr[..], it.is_recovering()), (&[second][..], true));
        let unclean = it.leader_epoch;
        assert_eq!(it.unclean_epoch(), Some(unclean));
        let before = LeaderEpoch(unclean.0 - 1);
        assert!(
            it.overrules(before) && !it.overrules(unclean),
            "from then on"
        );
    }
}
