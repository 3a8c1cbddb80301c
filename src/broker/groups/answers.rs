//! GroupAnswers to what had to wait for other members, or for a write.

use kafka_wire::join_group_response::JoinGroupResponseMember;
use kafka_wire::{JoinGroupResponse, OffsetCommitResponse, SyncGroupResponse};
use kafka_wire_core::StrBytes;

use super::plan::text;
use crate::base::ErrorCode;
use crate::coordinator::GroupAnswer;
use crate::group::{JoinReply, SyncReply};

pub fn join_response(version: i16, joined: JoinReply) -> JoinGroupResponse {
    let mut response = JoinGroupResponse::default();
    response.error_code = joined.error.code();
    response.generation_id = joined.generation;
    response.protocol_type = joined.protocol_type.as_ref().map(text);
    response.protocol_name = match &joined.protocol {
        Some(protocol) => Some(text(protocol)),
        // Nullable from version 7 on.
        None => Some(StrBytes::default()).filter(|_| version < 7),
    };
    response.leader = text(&joined.leader);
    response.skip_assignment = joined.skip_assignment;
    response.member_id = text(&joined.member);
    let members = joined.members.into_iter().map(|joined| {
        let mut member = JoinGroupResponseMember::default();
        member.member_id = text(&joined.member);
        member.group_instance_id = joined.instance.as_ref().map(text);
        member.metadata = joined.metadata;
        member
    });
    response.members = members.collect();
    response
}

pub fn sync_response(synced: SyncReply) -> SyncGroupResponse {
    let mut response = SyncGroupResponse::default();
    response.error_code = synced.error.code();
    response.protocol_type = synced.protocol_type.as_ref().map(text);
    response.protocol_name = synced.protocol.as_ref().map(text);
    response.assignment = synced.assignment;
    response
}

/// Puts the outcome of the commit where no error is yet. If it failed as a whole, that also goes
/// before the length of some metadata.
pub fn set_commit_error(response: &mut OffsetCommitResponse, error: ErrorCode) {
    let too_large = ErrorCode::OffsetMetadataTooLarge.code();
    let partitions = response.topics.iter_mut().flat_map(|t| &mut t.partitions);
    for partition in partitions {
        let code = partition.error_code;
        if code == 0 || (code == too_large && !error.is_none()) {
            partition.error_code = error.code();
        }
    }
}

/// The error of an answer that has nothing else to it; one that is not of its question is a fault of our own.
pub fn error_of(answer: Option<GroupAnswer>) -> ErrorCode {
    match answer {
        Some(GroupAnswer::Done(error)) => error,
        other => {
            debug_assert!(false, "an answer to something else: {other:?}");
            ErrorCode::UnknownServerError
        }
    }
}
