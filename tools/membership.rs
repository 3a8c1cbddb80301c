//! A member of a group of the consumer protocol (KIP-848): its coordinator gives it partitions of a
//! topic, and it says by heartbeats that it lives and what it has.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

use kafka_wire::ConsumerGroupHeartbeatRequest;
use kafka_wire::consumer_group_heartbeat_request::TopicPartitions;
use kafka_wire_core::{StrBytes, Uuid};
use millrace::base::ErrorCode;
use millrace_client::{ClientError, Cluster, Result, Topic, message};

use crate::offsets::{Committer, Offsets, commit, committed};

/// How long the others wait for this member to let partitions go.
const REBALANCE_TIMEOUT_MS: i32 = 60_000;
/// The epochs by which a member joins and leaves.
const JOINING: i32 = 0;
const LEAVING: i32 = -1;

/// See the module.
pub struct Membership {
    group: String,
    topic: Topic,
    id: String,
    epoch: i32,
    owned: BTreeSet<i32>,
    /// When the next heartbeat is due.
    due: Instant,
    /// What was committed last.
    committed: Offsets,
}

/// What a member has to do to have what it is given.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Partitions to let go.
    pub gone: BTreeSet<i32>,
    /// Partitions to read from now on.
    pub new: BTreeSet<i32>,
}

impl Membership {
    /// One that has not joined yet.
    pub fn new(group: &str, topic: &Topic) -> Self {
        // Its own id, which nobody else has: 128 bits of the system's randomness.
        let random = || RandomState::new().hash_one(0);
        Self {
            group: group.to_owned(),
            topic: topic.clone(),
            id: format!("{:016x}{:016x}", random(), random()),
            epoch: JOINING,
            owned: BTreeSet::new(),
            due: Instant::now(),
            committed: Offsets::new(),
        }
    }

    /// Whether partitions were given to it.
    pub fn has_some(&self) -> bool {
        !self.owned.is_empty()
    }

    /// Whether it is time to say that it lives.
    pub fn is_due(&self) -> bool {
        Instant::now() >= self.due
    }

    /// Says so. A member that was thought dead has lost everything, and joins again.
    pub fn heartbeat(&mut self, cluster: &mut Cluster) -> Result<Change> {
        let wanted = match self.say(cluster, self.epoch) {
            Ok(wanted) => wanted,
            Err(error) if is_out(&error) => {
                self.epoch = JOINING;
                self.due = Instant::now();
                Some(BTreeSet::new())
            }
            Err(error) => return Err(error),
        };
        let Some(wanted) = wanted.filter(|wanted| *wanted != self.owned) else {
            return Ok(Change::default());
        };
        let change = difference(&self.owned, &wanted);
        self.owned = wanted;
        // Another member may commit there now.
        self.committed
            .retain(|(_, partition), _| !change.gone.contains(partition));
        // The others wait for what is let go.
        self.due = Instant::now();
        Ok(change)
    }

    /// Leaves the group, so that the others need not wait for it.
    pub fn leave(&mut self, cluster: &mut Cluster) -> Result<()> {
        if self.epoch > JOINING {
            self.say(cluster, LEAVING)?;
        }
        Ok(())
    }

    /// Where the group is in the partitions of the topic.
    pub fn positions(&self, cluster: &mut Cluster) -> Result<BTreeMap<i32, i64>> {
        let all = cluster
            .retry(|cluster| committed(cluster, &self.group))?
            .into_iter();
        let of_topic = all.filter(|((topic, _), _)| *topic == self.topic.name);
        Ok(of_topic
            .map(|((_, partition), offset)| (partition, offset))
            .collect())
    }

    /// Commits what is new of these positions. False: the coordinator takes it for no member any more, or for one of
    /// an earlier epoch, which the next heartbeat mends.
    pub fn commit(
        &mut self,
        cluster: &mut Cluster,
        positions: &BTreeMap<i32, i64>,
    ) -> Result<bool> {
        let at =
            |(partition, offset): (&i32, &i64)| ((self.topic.name.clone(), *partition), *offset);
        let mut offsets: Offsets = positions.iter().map(at).collect();
        offsets.retain(|place, offset| self.committed.get(place) != Some(offset));
        if offsets.is_empty() || self.epoch == JOINING {
            return Ok(offsets.is_empty());
        }
        let (id, epoch) = (self.id.as_str(), self.epoch);
        let who = Committer { id, epoch };
        match cluster.retry(|cluster| commit(cluster, &self.group, who, &offsets)) {
            Err(error) if is_out(&error) => {
                self.due = Instant::now();
                Ok(false)
            }
            other => {
                other?;
                self.committed.extend(offsets);
                Ok(true)
            }
        }
    }

    /// The partitions that the coordinator wants it to have, if it says so.
    fn say(&mut self, cluster: &mut Cluster, epoch: i32) -> Result<Option<BTreeSet<i32>>> {
        let owned = message!(TopicPartitions {
            topic_id: Uuid::from_bytes(self.topic.id.0),
            partitions: self.owned.iter().copied().collect(),
        });
        let has_some = epoch > JOINING && !self.owned.is_empty();
        let request = message!(ConsumerGroupHeartbeatRequest {
            group_id: StrBytes::from(self.group.as_str()),
            member_id: StrBytes::from(self.id.as_str()),
            member_epoch: epoch,
            rebalance_timeout_ms: REBALANCE_TIMEOUT_MS,
            subscribed_topic_names: Some(vec![StrBytes::from(self.topic.name.as_str())]),
            topic_partitions: Some(if has_some { vec![owned] } else { Vec::new() }),
        });
        let answer = cluster.retry(|cluster| {
            let answer = cluster.coordinator(&self.group)?.call(&request)?;
            let what = || format!("be a member of group '{}'", self.group);
            ClientError::check(what, answer.error_code, answer.error_message.as_deref())?;
            Ok(answer)
        })?;
        self.epoch = answer.member_epoch;
        let interval = u64::try_from(answer.heartbeat_interval_ms).unwrap_or(0);
        self.due = Instant::now() + Duration::from_millis(interval);
        let mine = |given: &kafka_wire::consumer_group_heartbeat_response::TopicPartitions| {
            given.topic_id.to_bytes() == self.topic.id.0
        };
        Ok(answer.assignment.map(|assignment| {
            let given = assignment
                .topic_partitions
                .iter()
                .filter(|given| mine(given));
            given
                .flat_map(|given| given.partitions.iter().copied())
                .collect()
        }))
    }
}

/// Whether the coordinator has another idea of the member than it has itself.
fn is_out(error: &ClientError) -> bool {
    use ErrorCode::{FencedMemberEpoch, StaleMemberEpoch, UnknownMemberId};
    let codes = [FencedMemberEpoch, StaleMemberEpoch, UnknownMemberId].map(ErrorCode::code);
    matches!(error, ClientError::Refused { code, .. } if codes.contains(code))
}

fn difference(owned: &BTreeSet<i32>, wanted: &BTreeSet<i32>) -> Change {
    Change {
        gone: owned - wanted,
        new: wanted - owned,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_what_goes_and_what_comes() {
        let set = |list: &[i32]| list.iter().copied().collect::<BTreeSet<i32>>();
        let change = difference(&set(&[0, 1, 2]), &set(&[1, 3]));
        assert_eq!((change.gone, change.new), (set(&[0, 2]), set(&[3])));
    }

    #[test]
    fn who_is_out_joins_again() {
        let refused = |code: ErrorCode| ClientError::Refused {
            what: String::new(),
            code: code.code(),
            message: None,
        };
        assert!(is_out(&refused(ErrorCode::FencedMemberEpoch)));
        assert!(is_out(&refused(ErrorCode::StaleMemberEpoch)));
        assert!(!is_out(&refused(ErrorCode::GroupIdNotFound)));
    }

    #[test]
    fn members_have_ids_of_their_own() {
        let ids: BTreeSet<String> = (0..100)
            .map(|_| Membership::new("g", &Topic::default()).id)
            .collect();
        assert_eq!(ids.len(), 100);
    }
}
