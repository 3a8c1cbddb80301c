//! Who a group takes for its member, and what those may ask of it.

use super::cx::ConsumerCx;
use super::heartbeat::{ConsumerHeartbeat, ConsumerReply, JOINS, LEAVES_FOR_A_WHILE};
use super::state::GroupState;
use crate::base::{ErrorCode, Name, TopicId};

pub(super) fn refuse<T>(error: ErrorCode, why: String) -> Result<T, ConsumerReply> {
    Err(ConsumerReply::refused(error, why))
}

impl GroupState {
    pub(super) fn check_room(
        &self,
        cx: &ConsumerCx<'_>,
        request: &ConsumerHeartbeat,
    ) -> Result<(), ConsumerReply> {
        if self.member(&request.member).is_some() {
            return Ok(());
        }
        if self.members().len() >= cx.config.max_size {
            let max = cx.config.max_size;
            let why =
                format!("The consumer group has reached its maximum capacity of {max} members.");
            return refuse(ErrorCode::GroupMaxSizeReached, why);
        }
        match request.bytes() > cx.room_bytes {
            true => Err(ConsumerReply::error(ErrorCode::CoordinatorNotAvailable)),
            false => Ok(()),
        }
    }

    /// Whether it is a member, or may become one; and the static member whose place it takes.
    pub(super) fn who_is_it(
        &self,
        request: &ConsumerHeartbeat,
    ) -> Result<Option<Name>, ConsumerReply> {
        let member = &request.member;
        let unknown = || {
            let why = format!(
                "Member {member} is not a member of group {}.",
                request.group
            );
            ConsumerReply::refused(ErrorCode::UnknownMemberId, why)
        };
        let joins = request.epoch == JOINS;
        if let Some(instance) = &request.instance {
            let Some(fixed) = self.static_member(instance) else {
                return match joins {
                    true => Ok(None),
                    false => Err(unknown()),
                };
            };
            if !joins {
                self.check_instance(request)?;
                request.check_epoch(&self.current(fixed))?;
                return Ok(None);
            }
            if self.current(fixed).epoch != LEAVES_FOR_A_WHILE {
                let why = format!(
                    "Static member {member} with instance id {instance} cannot join the group because the instance \
                     id is owned by {fixed} member."
                );
                return refuse(ErrorCode::UnreleasedInstanceId, why);
            }
            return Ok(Some(fixed.clone()));
        }
        match self.member(member) {
            Some(_) => request.check_epoch(&self.current(member))?,
            None if joins => {}
            None => return Err(unknown()),
        }
        Ok(None)
    }

    /// UNKNOWN_MEMBER_ID or FENCED_INSTANCE_ID unless it is the member of its instance.
    pub(super) fn check_instance(&self, request: &ConsumerHeartbeat) -> Result<(), ConsumerReply> {
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
    /// now. One of an epoch before may commit for what it was given by then (KIP-1251), or gives up at the moment. In a
    /// transaction ILLEGAL_GENERATION, by which producers abort.
    ///
    /// # Errors
    /// As said.
    pub fn check_commit<'a>(
        &self,
        (member, epoch): (&str, i32),
        knows_epochs: bool,
        in_transaction: bool,
        mut places: impl Iterator<Item = (&'a TopicId, i32)>,
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
        let has_had_since = |(topic, partition): (&TopicId, i32)| {
            let held = [&current.assigned, &current.revoking];
            let mut given = held.iter().filter_map(|it| it.epoch_of(*topic, partition));
            given.any(|given| epoch >= given)
        };
        let may = epoch == current.epoch
            || epoch >= 0 && epoch < current.epoch && places.all(has_had_since);
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
