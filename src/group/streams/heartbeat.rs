//! StreamsGroupHeartbeat: who may send what, and what is answered. As `GroupMetadataManager` of Kafka 4.4 does it.

use std::sync::Arc;

use super::super::consumer::{JOINS, LEAVES_FOR_A_WHILE};
use super::configure::StreamsStatus;
use super::member::{StreamsCurrent, StreamsMember, UserEndpoint};
use super::tasks::Tasks;
use super::topology::Topology;
use crate::base::limits::TOPIC_NAME_BYTES_MAX;
use crate::base::{ErrorCode, Name};

/// A heartbeat. What is `None` is as it was before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamsHeartbeat {
    /// Group id.
    pub group: Name,
    /// Member id.
    pub member: Name,
    /// The member's epoch; 0 of who joins, -1 of who leaves, -2 of a static member that leaves for a while.
    pub epoch: i32,
    /// The epoch of what the member knows of endpoints.
    pub endpoint_epoch: i32,
    /// `group.instance.id`
    pub instance: Option<Name>,
    /// `client.rack`
    pub rack: Option<Name>,
    /// How long it may take to give up tasks, ms.
    pub rebalance_timeout_ms: Option<i32>,
    /// The topology of who joins.
    pub topology: Option<Arc<Topology>>,
    /// The tasks that it has, if it says so of all roles.
    pub owned: Option<Tasks>,
    /// It says so of some roles only.
    pub says_part: bool,
    /// Its process.
    pub process: Option<Name>,
    /// See [`StreamsMember`].
    pub endpoint: Option<UserEndpoint>,
    /// See [`StreamsMember`].
    pub tags: Option<Vec<(Name, Name)>>,
    /// It wants all members to end.
    pub shuts_down: bool,
    /// `client.id`
    pub client_id: Name,
    /// Where it comes from, in Kafka's form (`/10.0.0.1`).
    pub client_host: Name,
}

/// Where tasks are, for those who look for what they have: of a member its endpoint, and the partitions that its active
/// tasks read, and its other tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointPartitions {
    /// Of the member.
    pub endpoint: UserEndpoint,
    /// Of what its active tasks read.
    pub active: Vec<(Name, Vec<i32>)>,
    /// Of what its standby and warmup tasks do.
    pub standby: Vec<(Name, Vec<i32>)>,
}

impl EndpointPartitions {
    /// What it takes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        const EACH_BYTES: usize = 96;
        let all = self.active.iter().chain(&self.standby);
        let all = all.map(|(_, partitions)| EACH_BYTES + partitions.len() * size_of::<i32>());
        EACH_BYTES + self.endpoint.host.len() + all.sum::<usize>()
    }
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamsReply {
    /// Success or why not.
    pub error: ErrorCode,
    /// More about that, for people.
    pub message: Option<String>,
    /// Member id; none on error.
    pub member: Name,
    /// The member's epoch from now on.
    pub epoch: i32,
    /// When the next one is due, ms; 0 for who leaves.
    pub heartbeat_interval_ms: i32,
    /// How often it is to say how far its tasks are, ms; 0 for who leaves.
    pub task_offset_interval_ms: i32,
    /// How far a task may be behind and count as warmed up, in offsets; -1 for who leaves.
    pub acceptable_recovery_lag: i64,
    /// What is to be known of the group.
    pub status: Vec<(StreamsStatus, String)>,
    /// What is the member's from now on, if that is to be told.
    pub assigned: Option<Arc<StreamsCurrent>>,
    /// The epoch of what is known of endpoints.
    pub endpoint_epoch: i32,
    /// That, if it is to be told.
    pub endpoints: Option<Arc<Vec<EndpointPartitions>>>,
}

impl StreamsReply {
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
    pub fn refused(error: ErrorCode, why: impl Into<String>) -> Self {
        Self {
            message: Some(why.into()),
            ..Self::error(error)
        }
    }
}

impl StreamsHeartbeat {
    /// What it takes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        const EACH_BYTES: usize = 1024;
        let topology = self.topology.as_ref().map_or(0, |of| of.bytes());
        let owned = self.owned.as_ref().map_or(0, Tasks::bytes);
        let said = self.says(None).bytes();
        EACH_BYTES + self.group.len() + self.member.len() + topology + owned + said
    }

    /// Why no group need be asked, whoever sends it.
    #[must_use]
    pub fn flaw(&self) -> Option<(ErrorCode, String)> {
        let is_blank = |name: &Name| name.trim().is_empty();
        let is_unset = |name: &Option<Name>| name.as_ref().is_some_and(is_blank);
        let joins = self.epoch == JOINS;
        let mut regexes = self.topology.iter().flat_map(|of| &of.subtopologies);
        let has_regex = regexes.any(|of| !of.source_regexes.is_empty());
        let mut owned = self.owned.iter().flat_map(|owned| {
            let sets = [&owned.active, &owned.standby, &owned.warmup].into_iter();
            sets.flat_map(|set| set.topics())
        });
        let is_long = owned.any(|(of, _)| of.len() > TOPIC_NAME_BYTES_MAX);
        let why = if has_regex {
            "Regular expressions for source topics are not supported yet."
        } else if is_blank(&self.member) {
            "MemberId can't be empty."
        } else if is_blank(&self.group) {
            "GroupId can't be empty."
        } else if is_unset(&self.instance) {
            "InstanceId can't be empty."
        } else if is_unset(&self.rack) {
            "RackId can't be empty."
        } else if joins && self.rebalance_timeout_ms.is_none() {
            "RebalanceTimeoutMs must be provided in first request."
        } else if joins
            && self
                .owned
                .as_ref()
                .is_some_and(|owned| !owned.active.is_empty())
        {
            "ActiveTasks must be empty when (re-)joining."
        } else if joins
            && self
                .owned
                .as_ref()
                .is_some_and(|owned| !owned.standby.is_empty())
        {
            "StandbyTasks must be empty when (re-)joining."
        } else if joins
            && self
                .owned
                .as_ref()
                .is_some_and(|owned| !owned.warmup.is_empty())
        {
            "WarmupTasks must be empty when (re-)joining."
        } else if joins && self.topology.is_none() {
            "Topology must be non-null when (re-)joining."
        } else if self.epoch == LEAVES_FOR_A_WHILE && self.instance.is_none() {
            "InstanceId can't be null."
        } else if self.epoch < LEAVES_FOR_A_WHILE {
            let epoch = self.epoch;
            let why = format!("MemberEpoch is {epoch}, but must be greater than or equal to -2.");
            return Some((ErrorCode::InvalidRequest, why));
        } else if self.says_part {
            "If one task-type is non-null, all must be non-null."
        } else if !joins && self.topology.is_some() {
            "Topology can only be provided when (re-)joining."
        } else if is_long {
            "A subtopology has a name that none can have."
        } else {
            let topology = self.topology.as_ref()?;
            return topology
                .flaw()
                .map(|why| (ErrorCode::StreamsInvalidTopology, why));
        };
        Some((ErrorCode::InvalidRequest, why.to_owned()))
    }

    /// What the member is known to say of itself with it; what it does not say is as before.
    pub(super) fn says(&self, old: Option<&StreamsMember>) -> StreamsMember {
        let mut new = old.cloned().unwrap_or(StreamsMember {
            rebalance_timeout_ms: -1,
            topology_epoch: -1,
            ..StreamsMember::default()
        });
        new.instance = self.instance.clone().or(new.instance);
        new.rack = self.rack.clone().or(new.rack);
        new.rebalance_timeout_ms = self
            .rebalance_timeout_ms
            .unwrap_or(new.rebalance_timeout_ms);
        if let Some(topology) = &self.topology {
            new.topology_epoch = topology.epoch;
        }
        if let Some(process) = &self.process {
            new.process.clone_from(process);
        }
        new.endpoint = match self.epoch {
            JOINS => self.endpoint.clone(),
            _ => self.endpoint.clone().or(new.endpoint),
        };
        if let Some(tags) = &self.tags {
            new.tags.clone_from(tags);
            new.tags.sort_unstable();
            new.tags.dedup_by(|a, b| a.0 == b.0);
        }
        new.client_id.clone_from(&self.client_id);
        new.client_host.clone_from(&self.client_host);
        new
    }

    /// Whether it comes from this member as it is: it names its epoch; or the one before, if the answer with this one
    /// may have been lost. Who joins again may do so.
    pub(super) fn check_epoch(&self, current: &StreamsCurrent) -> Result<(), StreamsReply> {
        let (received, known) = (self.epoch, current.epoch);
        if received == JOINS || received == known {
            return Ok(());
        }
        let is_behind = received == current.previous_epoch
            && self
                .owned
                .as_ref()
                .is_some_and(|owned| current.assigned.has_all(owned));
        let how = match received > known {
            true => "greater",
            false if is_behind => return Ok(()),
            false => "smaller",
        };
        let why = format!(
            "The streams group member has a {how} member epoch ({received}) than the one known by the group \
             coordinator ({known}). The member must abandon all its partitions and rejoin."
        );
        Err(StreamsReply::refused(ErrorCode::FencedMemberEpoch, why))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tasks::set_of;
    use super::*;

    #[test]
    fn flaws_are_those_of_kafka() {
        let joins = StreamsHeartbeat {
            group: Name::from("g"),
            member: Name::from("m"),
            rebalance_timeout_ms: Some(1),
            topology: Some(Arc::default()),
            owned: Some(Tasks::default()),
            ..StreamsHeartbeat::default()
        };
        assert_eq!(joins.flaw(), None);
        let change = |change: &dyn Fn(&mut StreamsHeartbeat)| {
            let mut other = joins.clone();
            change(&mut other);
            other.flaw().map_or("none".to_owned(), |(_, why)| why)
        };
        let one = || set_of([(Name::from("0"), 0)]);
        let blank = Some(Name::from(" "));
        let topology = |regexes: &[Name]| {
            let mut of = super::super::testing::subtopology("0", &["in"]);
            of.source_regexes = regexes.to_vec();
            Some(Arc::new(Topology::new(0, vec![of])))
        };
        assert!(change(&|it| it.member = Name::from("")).starts_with("MemberId"));
        assert!(change(&|it| it.group = Name::from("")).starts_with("GroupId"));
        assert!(change(&|it| it.instance.clone_from(&blank)).starts_with("InstanceId"));
        assert!(change(&|it| it.rack.clone_from(&blank)).starts_with("RackId"));
        assert!(change(&|it| it.rebalance_timeout_ms = None).starts_with("RebalanceTimeoutMs"));
        assert!(change(&|it| it.topology = None).starts_with("Topology must"));
        assert!(change(&|it| it.owned.as_mut().unwrap().active = one()).starts_with("ActiveTasks"));
        assert!(
            change(&|it| it.owned.as_mut().unwrap().standby = one()).starts_with("StandbyTasks")
        );
        assert!(change(&|it| it.owned.as_mut().unwrap().warmup = one()).starts_with("WarmupTasks"));
        assert!(change(&|it| it.says_part = true).starts_with("If one task-type"));
        assert!(change(&|it| it.epoch = 1).starts_with("Topology can only"));
        assert!(change(&|it| (it.epoch, it.topology) = (-2, None)).starts_with("InstanceId can't"));
        assert!(
            change(&|it| (it.epoch, it.topology) = (-3, None)).starts_with("MemberEpoch is -3")
        );
        assert!(change(&|it| it.topology = topology(&[Name::from("a.*")])).starts_with("Regular"));
        assert_eq!(change(&|it| it.topology = topology(&[])), "none");
        assert_eq!(change(&|it| (it.epoch, it.topology) = (-1, None)), "none");
    }
}
