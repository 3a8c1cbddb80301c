//! JoinGroup (11), Heartbeat (12), LeaveGroup (13), SyncGroup (14).

use bytes::Bytes;
use kafka_wire::leave_group_response::MemberResponse;
use kafka_wire::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, LeaveGroupRequest, LeaveGroupResponse,
    SyncGroupRequest,
};

use super::call::{Call, GroupEffect, Origin, TopicLookup, name, reply, text};
use super::service::{GroupService, Wait};
use crate::base::{ErrorCode, Now};
use crate::group::join::JoinRequest;
use crate::group::member::without_duplicates;
use crate::group::rebalance::{Leaving, SyncRequest};
use crate::group::{Effect, JoinReply, Name, Protocol, SyncReply, coordinator};
use crate::wire::{RequestHeader, WireError, decode};

impl GroupService {
    pub(crate) fn join_group(
        &mut self,
        now: Now,
        origin: Origin,
        call: Call,
        topics: &dyn TopicLookup,
        out: &mut Vec<GroupEffect>,
    ) -> Result<(), WireError> {
        let request: JoinGroupRequest = decode(call.body, origin.version)?;
        let request = join_request(&call.header, call.client_host, request);
        let wait = self.wait(Wait::Join(origin));
        let mut effects = Vec::new();
        match self.serving_member(&request.group, topics) {
            Ok(partitions) => {
                self.coordinator
                    .join(now, wait, request, partitions, &mut effects);
            }
            Err(error) => {
                effects.push(Effect::Joined(
                    wait,
                    JoinReply::error(error, request.member),
                ));
            }
        }
        self.perform(effects, out);
        Ok(())
    }

    pub(crate) fn sync_group(
        &mut self,
        now: Now,
        origin: Origin,
        call: Call,
        topics: &dyn TopicLookup,
        out: &mut Vec<GroupEffect>,
    ) -> Result<(), WireError> {
        let request: SyncGroupRequest = decode(call.body, origin.version)?;
        // From version 5 on the two must be there (KIP-559).
        let incomplete = origin.version >= 5
            && (request.protocol_type.is_none() || request.protocol_name.is_none());
        let error = match self.serving_member(&request.group_id, topics) {
            Err(ErrorCode::CoordinatorNotAvailable) => ErrorCode::CoordinatorNotAvailable,
            _ if !incomplete && request.group_id.is_empty() => ErrorCode::InvalidGroupId,
            Err(error) => error,
            Ok(_) if incomplete => ErrorCode::InconsistentGroupProtocol,
            Ok(_) => ErrorCode::None,
        };
        let wait = self.wait(Wait::Sync(origin));
        let mut effects = Vec::new();
        if error.is_none() {
            self.coordinator
                .sync(now, wait, sync_request(request), &mut effects);
        } else {
            effects.push(Effect::Synced(wait, SyncReply::error(error)));
        }
        self.perform(effects, out);
        Ok(())
    }

    pub(crate) fn heartbeat(
        &mut self,
        now: Now,
        origin: Origin,
        call: Call,
        topics: &dyn TopicLookup,
        out: &mut Vec<GroupEffect>,
    ) -> Result<(), WireError> {
        let request: HeartbeatRequest = decode(call.body, origin.version)?;
        let request = coordinator::HeartbeatRequest {
            group: name(&request.group_id),
            member: name(&request.member_id),
            instance: request.group_instance_id.as_ref().map(name),
            generation: request.generation_id,
        };
        let mut effects = Vec::new();
        let error = match self.serving_member(&request.group, topics) {
            Ok(_) => self.coordinator.heartbeat(now, &request, &mut effects),
            Err(error) => error,
        };
        let mut response = HeartbeatResponse::default();
        response.error_code = error.code();
        reply(origin, &response, out);
        self.perform(effects, out);
        Ok(())
    }

    pub(crate) fn leave_group(
        &mut self,
        now: Now,
        origin: Origin,
        call: Call,
        topics: &dyn TopicLookup,
        out: &mut Vec<GroupEffect>,
    ) -> Result<(), WireError> {
        let request: LeaveGroupRequest = decode(call.body, origin.version)?;
        let leaving = leaving(origin.version, &request);
        let mut effects = Vec::new();
        let left = match self.serving_member(&request.group_id, topics) {
            Ok(_) => self
                .coordinator
                .leave(now, &request.group_id, &leaving, &mut effects),
            Err(error) => Err(error),
        };
        reply(origin, &leave_response(origin.version, &leaving, left), out);
        self.perform(effects, out);
        Ok(())
    }
}

fn join_request(
    header: &RequestHeader,
    client_host: String,
    request: JoinGroupRequest,
) -> JoinRequest {
    let protocols = request.protocols.into_iter().map(|p| Protocol {
        name: name(&p.name),
        // A slice of the request would keep all of it as long as the member is there.
        metadata: Bytes::copy_from_slice(&p.metadata),
    });
    JoinRequest {
        group: name(&request.group_id),
        member: name(&request.member_id),
        instance: request.group_instance_id.as_ref().map(name),
        client_id: header
            .client_id
            .as_ref()
            .map_or_else(|| Name::from(""), name),
        client_host: Name::from(client_host),
        session_timeout_ms: request.session_timeout_ms,
        // Version 0 has one timeout for both.
        rebalance_timeout_ms: match header.version {
            0 => request.session_timeout_ms,
            _ => request.rebalance_timeout_ms,
        },
        protocol_type: name(&request.protocol_type),
        protocols: without_duplicates(protocols.collect()),
        needs_member_id: header.version >= 4,
        may_skip_assignment: header.version >= 9,
    }
}

fn sync_request(request: SyncGroupRequest) -> SyncRequest {
    let assignments = request.assignments.into_iter();
    SyncRequest {
        group: name(&request.group_id),
        member: name(&request.member_id),
        instance: request.group_instance_id.as_ref().map(name),
        generation: request.generation_id,
        protocol_type: request.protocol_type.as_ref().map(name),
        protocol: request.protocol_name.as_ref().map(name),
        assignments: assignments
            .map(|a| (name(&a.member_id), Bytes::copy_from_slice(&a.assignment)))
            .collect(),
    }
}

fn leaving(version: i16, request: &LeaveGroupRequest) -> Vec<Leaving> {
    if version < 3 {
        return vec![Leaving {
            member: name(&request.member_id),
            instance: None,
        }];
    }
    let members = request.members.iter().map(|m| Leaving {
        member: name(&m.member_id),
        instance: m.group_instance_id.as_ref().map(name),
    });
    members.collect()
}

fn leave_response(
    version: i16,
    leaving: &[Leaving],
    left: Result<Vec<ErrorCode>, ErrorCode>,
) -> LeaveGroupResponse {
    let mut response = LeaveGroupResponse::default();
    match left {
        Err(error) => response.error_code = error.code(),
        Ok(errors) if version < 3 => {
            response.error_code = errors.first().map_or(0, |e| e.code());
        }
        Ok(errors) => {
            for (leaving, error) in leaving.iter().zip(errors) {
                let mut member = MemberResponse::default();
                member.member_id = text(&leaving.member);
                member.group_instance_id = leaving.instance.as_ref().map(text);
                member.error_code = error.code();
                response.members.push(member);
            }
        }
    }
    response
}
