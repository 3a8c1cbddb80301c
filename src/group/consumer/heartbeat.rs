//! ConsumerGroupHeartbeat: who may send what, and what is answered. As `GroupMetadataManager` of Kafka 4.4 does it.

use std::sync::Arc;

use super::member::{Current, Subscription};
use super::partitions::Partitions;
use crate::base::limits::TOPIC_NAME_BYTES_MAX;
use crate::base::{ErrorCode, Name};

/// The epoch of who joins.
pub const JOINS: i32 = 0;
/// That of who leaves.
pub const LEAVES: i32 = -1;
/// That of a static member that leaves for a while.
pub const LEAVES_FOR_A_WHILE: i32 = -2;

/// A heartbeat. What is `None` is as it was before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsumerHeartbeat {
    /// Group id.
    pub group: Name,
    /// Member id.
    pub member: Name,
    /// The member's epoch; [`JOINS`], [`LEAVES`] or [`LEAVES_FOR_A_WHILE`].
    pub epoch: i32,
    /// `group.instance.id`
    pub instance: Option<Name>,
    /// `client.rack`
    pub rack: Option<Name>,
    /// How long it may take to give up partitions, ms.
    pub rebalance_timeout_ms: Option<i32>,
    /// Topics.
    pub topics: Option<Vec<Name>>,
    /// A regular expression of topics.
    pub regex: Option<Name>,
    /// The assignor that it wants.
    pub assignor: Option<Name>,
    /// The partitions that it has.
    pub owned: Option<Partitions>,
    /// `client.id`
    pub client_id: Name,
    /// Where it comes from, in Kafka's form (`/10.0.0.1`).
    pub client_host: Name,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsumerReply {
    /// Success or why not.
    pub error: ErrorCode,
    /// More about that, for people.
    pub message: Option<String>,
    /// Member id; none on error.
    pub member: Option<Name>,
    /// The member's epoch from now on.
    pub epoch: i32,
    /// When the next one is due, ms.
    pub heartbeat_interval_ms: i32,
    /// What is the member's from now on, if that is to be told: [`Current::assigned`].
    pub assigned: Option<Arc<Current>>,
}

impl ConsumerReply {
    /// A refusal.
    #[must_use]
    pub fn error(error: ErrorCode) -> Self {
        Self {
            error,
            ..Self::default()
        }
    }

    /// The same, with a reason.
    #[must_use]
    pub fn refused(error: ErrorCode, why: String) -> Self {
        Self {
            message: Some(why),
            ..Self::error(error)
        }
    }
}

impl ConsumerHeartbeat {
    /// What it takes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        const EACH_BYTES: usize = 512;
        const TOPIC_BYTES: usize = 32;
        let len = |name: &Option<Name>| name.as_ref().map_or(0, |name| name.len());
        let optional = [&self.instance, &self.rack, &self.regex, &self.assignor];
        let texts: usize = optional.map(len).iter().sum();
        let topics = self.topics.iter().flatten();
        let topics: usize = topics.map(|topic| TOPIC_BYTES + topic.len()).sum();
        let owned = self.owned.as_ref().map_or(0, Partitions::bytes);
        let names = self.member.len() + self.client_id.len() + self.client_host.len();
        EACH_BYTES + texts + topics + owned + names
    }

    /// Why no group need be asked, whoever sends it: INVALID_REQUEST.
    #[must_use]
    pub fn flaw(&self) -> Option<&'static str> {
        let is_blank = |name: &Name| name.trim().is_empty();
        let is_long = |name: &Name| name.len() > TOPIC_NAME_BYTES_MAX;
        let is_unset = |name: &Option<Name>| name.as_ref().is_some_and(is_blank);
        Some(if is_blank(&self.group) {
            "GroupId can't be empty."
        } else if is_unset(&self.instance) {
            "InstanceId can't be empty."
        } else if is_unset(&self.rack) {
            "RackId can't be empty."
        } else if self.epoch == JOINS && self.rebalance_timeout_ms.is_none() {
            "RebalanceTimeoutMs must be provided in first request."
        } else if self.epoch == JOINS && !self.owned.as_ref().is_some_and(Partitions::is_empty) {
            "TopicPartitions must be empty when (re-)joining."
        } else if self.epoch == JOINS && self.topics.is_none() && self.regex.is_none() {
            "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining."
        } else if self.epoch == LEAVES_FOR_A_WHILE && self.instance.is_none() {
            "InstanceId can't be null."
        } else if self.epoch < LEAVES_FOR_A_WHILE {
            "MemberEpoch is invalid."
        } else if self.topics.iter().flatten().any(is_long) {
            "SubscribedTopicNames has a name that no topic can have."
        } else {
            return None;
        })
    }

    /// What the member is known to say of itself with it; what it does not say is as before.
    pub(super) fn subscription(&self, old: Option<&Subscription>) -> Subscription {
        let mut new = old.cloned().unwrap_or(Subscription {
            rebalance_timeout_ms: -1,
            ..Subscription::default()
        });
        let ConsumerHeartbeat {
            instance,
            rack,
            rebalance_timeout_ms,
            topics,
            regex,
            assignor,
            client_id,
            client_host,
            ..
        } = self;
        new.instance = instance.clone().or(new.instance);
        new.rack = rack.clone().or(new.rack);
        new.assignor = assignor.clone().or(new.assignor);
        new.rebalance_timeout_ms = rebalance_timeout_ms.unwrap_or(new.rebalance_timeout_ms);
        if let Some(topics) = topics {
            new.topics.clone_from(topics);
            new.topics.sort_unstable();
            new.topics.dedup();
        }
        new.regex = regex.clone().or(new.regex);
        new.client_id.clone_from(client_id);
        new.client_host.clone_from(client_host);
        new
    }

    /// Whether it says all that there is to say: then all is told to it.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let subscribes = self.topics.is_some() || self.regex.is_some();
        let says_all = self.rebalance_timeout_ms.is_some() && subscribes && self.owned.is_some();
        self.epoch == JOINS || says_all
    }

    /// Whether it comes from this member as it is: it names its epoch; or the one before, if the answer with this one
    /// may have been lost.
    pub(super) fn check_epoch(&self, current: &Current) -> Result<(), ConsumerReply> {
        let (received, known) = (self.epoch, current.epoch);
        let fenced = |how| {
            let why = format!(
                "The consumer group member has a {how} member epoch ({received}) than the one known by the group \
                 coordinator ({known}). The member must abandon all its partitions and rejoin."
            );
            Err(ConsumerReply::refused(ErrorCode::FencedMemberEpoch, why))
        };
        if received > known {
            return fenced("greater");
        }
        let is_behind = received == current.previous_epoch
            && self
                .owned
                .as_ref()
                .is_some_and(|owned| current.assigned.has_all(owned));
        match received == known || is_behind {
            true => Ok(()),
            false => fenced("smaller"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flaws_are_those_of_kafka() {
        let joins = ConsumerHeartbeat {
            group: Name::from("g"),
            member: Name::from("m"),
            rebalance_timeout_ms: Some(1),
            topics: Some(Vec::new()),
            owned: Some(Partitions::default()),
            ..ConsumerHeartbeat::default()
        };
        assert_eq!(joins.flaw(), None);
        let mut some = Partitions::default();
        some.add(crate::base::TopicId([1; 16]), [1]);
        let blank = Some(Name::from(" "));
        let change = |change: &dyn Fn(&mut ConsumerHeartbeat)| {
            let mut other = joins.clone();
            change(&mut other);
            other.flaw().unwrap_or("none")
        };
        assert!(change(&|it| it.group = Name::from("")).starts_with("GroupId"));
        assert!(change(&|it| it.instance.clone_from(&blank)).starts_with("InstanceId"));
        assert!(change(&|it| it.rack.clone_from(&blank)).starts_with("RackId"));
        assert!(change(&|it| it.rebalance_timeout_ms = None).starts_with("RebalanceTimeoutMs"));
        assert!(change(&|it| it.owned = None).starts_with("TopicPartitions"));
        assert!(change(&|it| it.owned = Some(some.clone())).starts_with("TopicPartitions"));
        assert!(change(&|it| it.topics = None).starts_with("Either"));
        assert!(change(&|it| it.epoch = -2).starts_with("InstanceId can't be null"));
        assert!(change(&|it| it.epoch = -3).starts_with("MemberEpoch"));
        assert_eq!(change(&|it| (it.epoch, it.owned) = (-1, None)), "none");
    }
}
