//! Who a streams group takes for its member, and what those may ask of it.

use super::super::consumer::{JOINS, LEAVES_FOR_A_WHILE};
use super::configure::Configured;
use super::cx::StreamsCx;
use super::heartbeat::{StreamsHeartbeat, StreamsReply};
use super::state::StreamsState;
use super::tasks::{TaskSet, Tasks};
use crate::base::{ErrorCode, Name};

pub(super) fn refuse<T>(error: ErrorCode, why: String) -> Result<T, StreamsReply> {
    Err(StreamsReply::refused(error, why))
}

impl StreamsState {
    pub(super) fn check_room(
        &self,
        cx: &StreamsCx<'_>,
        request: &StreamsHeartbeat,
    ) -> Result<(), StreamsReply> {
        let instance = request.instance.as_deref();
        if self.member(&request.member).is_some()
            || instance.is_some_and(|it| self.static_member(it).is_some())
        {
            return Ok(());
        }
        let max = cx.config.max_size;
        if request.epoch == JOINS && self.members().len() >= max {
            let why =
                format!("The streams group has reached its maximum capacity of {max} members.");
            return refuse(ErrorCode::GroupMaxSizeReached, why);
        }
        match request.bytes() > cx.room_bytes {
            true => Err(StreamsReply::error(ErrorCode::CoordinatorNotAvailable)),
            false => Ok(()),
        }
    }

    /// Whether it is a member, or may become one; and the static member whose place it takes.
    pub(super) fn who_is_it(
        &self,
        request: &StreamsHeartbeat,
    ) -> Result<Option<Name>, StreamsReply> {
        let (member, joins) = (&request.member, request.epoch == JOINS);
        let Some(instance) = &request.instance else {
            return match self.member(member) {
                Some(_) => request.check_epoch(&self.current(member)).map(|()| None),
                None if joins => Ok(None),
                None => Err(unknown(request)),
            };
        };
        if !joins {
            self.check_instance(request)?;
            return request.check_epoch(&self.current(member)).map(|()| None);
        }
        let Some(fixed) = self.static_member(instance) else {
            return Ok(None);
        };
        if self.current(fixed).epoch != LEAVES_FOR_A_WHILE {
            let why = format!(
                "Static member {member} with instance id {instance} cannot join the group because the instance id is \
                 owned by {fixed} member."
            );
            return refuse(ErrorCode::UnreleasedInstanceId, why);
        }
        Ok(Some(fixed.clone()))
    }

    /// UNKNOWN_MEMBER_ID or FENCED_INSTANCE_ID unless it is the member of its instance.
    pub(super) fn check_instance(&self, request: &StreamsHeartbeat) -> Result<(), StreamsReply> {
        let Some(instance) = &request.instance else {
            return Ok(());
        };
        let Some(fixed) = self.static_member(instance) else {
            let why = format!("Instance id {instance} is unknown.");
            return refuse(ErrorCode::UnknownMemberId, why);
        };
        if *fixed != request.member {
            let why = format!(
                "Static member {} with instance id {instance} was fenced by member {fixed}.",
                request.member
            );
            return refuse(ErrorCode::FencedInstanceId, why);
        }
        Ok(())
    }

    /// UNKNOWN_MEMBER_ID or STALE_MEMBER_EPOCH unless the offsets of these partitions may be committed by this member
    /// now. One of an epoch before may commit for what the tasks read that it was given by then. In a transaction
    /// ILLEGAL_GENERATION, by which producers abort.
    ///
    /// # Errors
    /// As said.
    pub fn check_commit<'a>(
        &self,
        (member, epoch): (&str, i32),
        knows_epochs: bool,
        in_transaction: bool,
        mut places: impl Iterator<Item = (&'a Name, i32)>,
    ) -> Result<(), ErrorCode> {
        let is_nobody = epoch < 0 && member.is_empty();
        if epoch < 0 && self.members().len() == 0 || in_transaction && is_nobody {
            return Ok(());
        }
        if self.member(member).is_none() {
            return Err(ErrorCode::UnknownMemberId);
        }
        if !in_transaction && !knows_epochs {
            return Err(ErrorCode::UnsupportedVersion);
        }
        let current = self.current(member);
        let mut has_had_all = || {
            let readers = self.topology().map(|it| it.readers()).unwrap_or_default();
            places.all(|(topic, partition)| {
                let Some(reader) = readers.get(topic) else {
                    return false;
                };
                let held = [&current.assigned, &current.revoking].into_iter();
                let mut given =
                    held.filter_map(|it| it.active.epoch_of(Name::clone(reader), partition));
                given.next().is_some_and(|given| epoch >= given)
            })
        };
        let may = epoch == current.epoch || epoch >= 0 && epoch < current.epoch && has_had_all();
        match may {
            true => Ok(()),
            false if in_transaction => Err(ErrorCode::IllegalGeneration),
            false => Err(ErrorCode::StaleMemberEpoch),
        }
    }

    /// UNKNOWN_MEMBER_ID or STALE_MEMBER_EPOCH unless this member may be told offsets; whoever names no member may.
    ///
    /// # Errors
    /// As said.
    pub fn check_fetch(&self, member: Option<&str>, epoch: i32) -> Result<(), ErrorCode> {
        let member = member.unwrap_or("");
        if member.is_empty() && epoch < 0 {
            return Ok(());
        }
        if self.member(member).is_none() {
            return Err(ErrorCode::UnknownMemberId);
        }
        match self.current(member).epoch == epoch {
            true => Ok(()),
            false => Err(ErrorCode::StaleMemberEpoch),
        }
    }
}

pub(super) fn unknown(request: &StreamsHeartbeat) -> StreamsReply {
    let (member, group) = (&request.member, &request.group);
    let why = format!("Member {member} is not a member of group {group}.");
    StreamsReply::refused(ErrorCode::UnknownMemberId, why)
}

/// INVALID_REQUEST unless there are these tasks.
pub(super) fn check_tasks(configured: &Configured, owned: &Tasks) -> Result<(), StreamsReply> {
    let check = |set: &TaskSet| {
        for (of, tasks) in set.topics() {
            let Some(known) = configured.subtopology(&of) else {
                let why = format!("Subtopology {of} does not exist in the topology.");
                return refuse(ErrorCode::InvalidRequest, why);
            };
            let count = known.tasks;
            if let Some(task) = tasks.iter().find(|task| !(0..count).contains(*task)) {
                let why = format!(
                    "Task {task} for subtopology {of} is invalid. Number of tasks for this subtopology: {count}"
                );
                return refuse(ErrorCode::InvalidRequest, why);
            }
        }
        Ok(())
    };
    [&owned.active, &owned.standby, &owned.warmup]
        .into_iter()
        .try_for_each(check)
}
