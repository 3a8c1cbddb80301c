//! A member of a streams group: what it says of itself, and how far it is.

use super::super::consumer::MemberState;
use super::tasks::HeldTasks;
use crate::base::Name;

/// Where the instance of a member is asked for what it has (`application.server`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserEndpoint {
    /// Host.
    pub host: Name,
    /// Port.
    pub port: u16,
}

/// What a member says of itself: the value of its metadata record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamsMember {
    /// `group.instance.id` of a static member.
    pub instance: Option<Name>,
    /// `client.rack`
    pub rack: Option<Name>,
    /// `client.id`
    pub client_id: Name,
    /// Where it came from, in Kafka's form (`/10.0.0.1`).
    pub client_host: Name,
    /// How long it may take to give up tasks, ms.
    pub rebalance_timeout_ms: i32,
    /// The epoch of its topology.
    pub topology_epoch: i32,
    /// Its process, which may have several members: they share what is kept on its disk.
    pub process: Name,
    /// See there.
    pub endpoint: Option<UserEndpoint>,
    /// `client.tag.*`; sorted by key.
    pub tags: Vec<(Name, Name)>,
}

impl StreamsMember {
    /// What it takes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        const EACH_BYTES: usize = 512;
        const TAG_BYTES: usize = 64;
        let len = |name: &Option<Name>| name.as_ref().map_or(0, |name| name.len());
        let names = [&self.client_id, &self.client_host, &self.process];
        let names: usize = names.iter().map(|name| name.len()).sum();
        let endpoint = self.endpoint.as_ref().map_or(0, |it| it.host.len());
        let tags = self.tags.iter().map(|(k, v)| TAG_BYTES + k.len() + v.len());
        EACH_BYTES + len(&self.instance) + len(&self.rack) + names + endpoint + tags.sum::<usize>()
    }

    /// Bytes of its record, about.
    #[must_use]
    pub fn record_bytes(&self) -> usize {
        self.bytes() - 512 + 32
    }

    /// Whether a static member that comes back says something by which tasks are given.
    #[must_use]
    pub fn is_assigned_as(&self, other: &Self) -> bool {
        self.topology_epoch == other.topology_epoch
            && self.rack == other.rack
            && self.tags == other.tags
            && self.process == other.process
    }
}

/// Where a member is: the value of its current assignment record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamsCurrent {
    /// The epoch that it has to name; 0 before it has one, -2 when a static member is away for a while.
    pub epoch: i32,
    /// The one before, which it names if the answer with the last one was lost.
    pub previous_epoch: i32,
    /// How far it is.
    pub state: MemberState,
    /// What it has, or is being given.
    pub assigned: HeldTasks,
    /// What it has to give up. Nobody else may run it yet.
    pub revoking: HeldTasks,
}

impl StreamsCurrent {
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
}
