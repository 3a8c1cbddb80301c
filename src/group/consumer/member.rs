//! A member of a consumer group: what it is subscribed to, and how far it is.

use super::partitions::Held;
use crate::base::Name;

/// What a member says of itself: the value of its metadata record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    /// `group.instance.id` of a static member.
    pub instance: Option<Name>,
    /// `client.rack`
    pub rack: Option<Name>,
    /// `client.id` of its last request that changed something.
    pub client_id: Name,
    /// Where it came from, in Kafka's form (`/10.0.0.1`).
    pub client_host: Name,
    /// Topics that it names; sorted, none twice.
    pub topics: Vec<Name>,
    /// The topics whose names match this besides.
    pub regex: Option<Name>,
    /// How long it may take to give up partitions, ms.
    pub rebalance_timeout_ms: i32,
    /// The assignor that it wants.
    pub assignor: Option<Name>,
}

impl Subscription {
    /// What it takes, about, as if no names of topics were shared with other members.
    #[must_use]
    pub fn bytes(&self) -> usize {
        const EACH_BYTES: usize = 512;
        const TOPIC_BYTES: usize = 32;
        let topics = self.topics.iter().map(|topic| TOPIC_BYTES + topic.len());
        let len = |name: &Option<Name>| name.as_ref().map_or(0, |name| name.len());
        let optional = [&self.instance, &self.rack, &self.regex, &self.assignor];
        let texts: usize = optional.map(len).iter().sum();
        EACH_BYTES + texts + self.client_id.len() + self.client_host.len() + topics.sum::<usize>()
    }

    /// Bytes of its record, about.
    #[must_use]
    pub fn record_bytes(&self) -> usize {
        self.bytes() - 512 + 32
    }

    /// Whether there may be topics that are among these and not among the others'.
    #[must_use]
    pub fn wants_more_than(&self, other: &Self) -> bool {
        let regex = self.regex();
        let is_named = |topic: &Name| other.topics.binary_search(topic).is_ok();
        regex.is_some() && regex != other.regex() || !self.topics.iter().all(is_named)
    }

    /// The regular expression, unless it is empty, which matches nothing.
    #[must_use]
    pub fn regex(&self) -> Option<&Name> {
        self.regex.as_ref().filter(|regex| !regex.is_empty())
    }
}

/// How a member is on its way to its target. The numbers are those of its record (`MemberState`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemberState {
    /// It has all that is its own by the target of its epoch.
    #[default]
    Stable,
    /// It is to give up partitions, and has not yet.
    UnrevokedPartitions,
    /// It lacks partitions that others have not given up yet.
    UnreleasedPartitions,
    /// A later release has written it.
    Unknown,
}

impl MemberState {
    /// Its number in a record.
    #[must_use]
    pub const fn number(self) -> i8 {
        match self {
            Self::Stable => 0,
            Self::UnrevokedPartitions => 1,
            Self::UnreleasedPartitions => 2,
            Self::Unknown => 127,
        }
    }

    /// The state of a number.
    #[must_use]
    pub const fn of(number: i8) -> Self {
        match number {
            0 => Self::Stable,
            1 => Self::UnrevokedPartitions,
            2 => Self::UnreleasedPartitions,
            _ => Self::Unknown,
        }
    }
}

/// Where a member is: the value of its current assignment record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Current {
    /// The epoch that it has to name; 0 before it has one, -2 when a static member is away for a while.
    pub epoch: i32,
    /// The one before, which it names if the answer with the last one was lost.
    pub previous_epoch: i32,
    /// How far it is.
    pub state: MemberState,
    /// What it has, or is being given.
    pub assigned: Held,
    /// What it has to give up. Nobody else may have it yet.
    pub revoking: Held,
}

impl Current {
    /// What it takes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        const EACH_BYTES: usize = 128;
        EACH_BYTES + self.assigned.bytes() + self.revoking.bytes()
    }

    /// Whether there is nothing more to do until there is another target.
    #[must_use]
    pub fn is_reconciled_to(&self, target_epoch: i32) -> bool {
        self.state == MemberState::Stable && self.epoch == target_epoch
    }

    /// The same in another epoch.
    pub(super) fn in_epoch(&self, epoch: i32) -> Self {
        Self {
            epoch,
            previous_epoch: self.epoch,
            ..self.clone()
        }
    }
}
