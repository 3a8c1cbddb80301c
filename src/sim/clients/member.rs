//! A member of a classic consumer group: joins, is assigned partitions, commits
//! offsets for them, heartbeats, rejoins when it has to, leaves in the end.

use bytes::Bytes;
use kafka_wire as kw;

use super::client::Ctx;
use super::committer::{commit, committed, fetch_commit, fetched_commit};
use super::finding::{find_coordinator, found_coordinator, group_name, looks_again};
use super::frames::{error_of, frame, message, text};
use super::shared::{Phase, Whom};
use super::talk::{Next, Script};
use crate::base::ErrorCode;
use crate::sim::clock::MS;
use crate::sim::fact::{Address, Coordinator, Fact, Moment, Place, Process, Use};
use crate::sim::what::What;
use crate::wire::client;

/// API keys.
const COMMIT: i16 = 8;
const OFFSET_FETCH: i16 = 9;
const JOIN: i16 = 11;
const HEARTBEAT: i16 = 12;
const LEAVE: i16 = 13;
const SYNC: i16 = 14;

/// Session timeout of all members, ms.
pub const SESSION_MS: i32 = 2000;
const REBALANCE_MS: i32 = 3000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Find,
    Join,
    Sync,
    Stable,
    Leave,
    Left,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Nothing,
    Coordinator,
    Join,
    Sync,
    Heartbeat,
    Commit(Place, i64),
    Fetch(Place),
    Leave,
}

/// See the module.
#[derive(Debug)]
pub struct Member {
    group: u32,
    id: String,
    generation: i32,
    /// As the leader: what each member is to get.
    assignments: Vec<(String, Vec<u8>)>,
    mine: Vec<Place>,
    stage: Stage,
    asked: Asked,
    version: i16,
    /// Who coordinated the group when it joined.
    coordinator: Coordinator,
    /// It pauses before it asks for the next thing.
    rest: bool,
}

impl Member {
    /// A member of this group.
    #[must_use]
    pub const fn new(group: u32) -> Self {
        Self {
            group,
            id: String::new(),
            generation: -1,
            assignments: Vec::new(),
            mine: Vec::new(),
            stage: Stage::Find,
            asked: Asked::Nothing,
            version: 0,
            coordinator: (Process { node: 0, start: 0 }, None),
            rest: false,
        }
    }

    fn join(&mut self, ctx: &mut Ctx<'_>) -> Bytes {
        self.version = ctx.version(JOIN, 0);
        let protocol = message!(kw::join_group_request::JoinGroupRequestProtocol {
            name: text("round-robin"),
            metadata: Bytes::from_static(b"any"),
        });
        let mut request = message!(kw::JoinGroupRequest {
            group_id: text(&group_name(self.group)),
            session_timeout_ms: SESSION_MS,
            member_id: text(&self.id),
            protocol_type: text("sim"),
            protocols: vec![protocol],
        });
        if self.version >= 1 {
            request.rebalance_timeout_ms = REBALANCE_MS;
        }
        frame(self.version, &request)
    }

    fn joined(&mut self, ctx: &mut Ctx<'_>, frame: Bytes) -> Result<ErrorCode, String> {
        let (_, answer) = client::decode_response::<kw::JoinGroupRequest>(frame, self.version)
            .map_err(|error| error.to_string())?;
        let error = error_of(answer.error_code);
        match error {
            ErrorCode::None => {}
            ErrorCode::MemberIdRequired => {
                ctx.oracle.saw(What::MemberIdGiven);
                self.id = answer.member_id.to_string();
                return Ok(ErrorCode::None);
            }
            _ => return Ok(error),
        }
        self.id = answer.member_id.to_string();
        self.generation = answer.generation_id;
        // The node may not outlive the generation, and number another one like it after its next start.
        self.coordinator = ctx.coordinator(&group_name(self.group));
        self.stage = Stage::Sync;
        self.assignments.clear();
        if answer.leader == answer.member_id {
            let members = answer.members.iter().map(|m| m.member_id.to_string());
            self.assign(ctx, members.collect());
        }
        Ok(ErrorCode::None)
    }

    fn assign(&mut self, ctx: &Ctx<'_>, mut members: Vec<String>) {
        members.sort();
        let places = ctx.shared.places(|topic| topic.used == Use::Kept);
        let shares = members.len().max(1);
        self.assignments = members
            .into_iter()
            .enumerate()
            .map(|(index, member)| {
                let share = places.iter().skip(index).step_by(shares);
                let bytes = share.flat_map(|at| {
                    let mut bytes = at.topic.to_be_bytes().to_vec();
                    bytes.extend(at.partition.to_be_bytes());
                    bytes
                });
                (member, bytes.collect())
            })
            .collect();
    }

    fn sync(&mut self, ctx: &mut Ctx<'_>) -> Bytes {
        self.version = ctx.version(SYNC, 0);
        let mut assignments = Vec::new();
        for (member, assignment) in &self.assignments {
            ctx.oracle.tell(Fact::Assigning {
                group: self.group,
                coordinator: self.coordinator,
                generation: self.generation,
                member,
                assignment,
            });
            assignments.push(message!(
                kw::sync_group_request::SyncGroupRequestAssignment {
                    member_id: text(member),
                    assignment: Bytes::from(assignment.clone()),
                }
            ));
        }
        let mut request = message!(kw::SyncGroupRequest {
            group_id: text(&group_name(self.group)),
            generation_id: self.generation,
            member_id: text(&self.id),
            assignments: assignments,
        });
        if self.version >= 5 {
            request.protocol_type = Some(text("sim"));
            request.protocol_name = Some(text("round-robin"));
        }
        frame(self.version, &request)
    }

    fn synced(&mut self, ctx: &mut Ctx<'_>, frame: Bytes) -> Result<ErrorCode, String> {
        let (_, answer) = client::decode_response::<kw::SyncGroupRequest>(frame, self.version)
            .map_err(|error| error.to_string())?;
        if answer.error_code != 0 {
            return Ok(error_of(answer.error_code));
        }
        if self.coordinator == ctx.coordinator(&group_name(self.group)) {
            ctx.oracle.tell(Fact::Assigned {
                group: self.group,
                coordinator: self.coordinator,
                generation: self.generation,
                member: &self.id,
                assignment: &answer.assignment,
            });
        }
        self.mine = answer
            .assignment
            .chunks_exact(8)
            .map(|bytes| Place {
                topic: u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
                partition: i32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
            })
            .collect();
        self.stage = Stage::Stable;
        Ok(ErrorCode::None)
    }

    fn work(&mut self, ctx: &mut Ctx<'_>) -> Next {
        self.rest = true;
        if self.mine.is_empty() || ctx.rng.chance(1, 3) {
            self.version = ctx.version(HEARTBEAT, 0);
            self.asked = Asked::Heartbeat;
            let request = message!(kw::HeartbeatRequest {
                group_id: text(&group_name(self.group)),
                generation_id: self.generation,
                member_id: text(&self.id),
            });
            return Next::Ask(frame(self.version, &request));
        }
        let at = ctx.pick(&self.mine);
        let me = (self.generation, self.id.as_str());
        if ctx.rng.chance(2, 3) {
            self.version = ctx.version(COMMIT, 2);
            let (offset, request) = commit(ctx, self.version, self.group, me, at);
            self.asked = Asked::Commit(at, offset);
            Next::Ask(request)
        } else {
            self.version = ctx.version(OFFSET_FETCH, 1);
            self.asked = Asked::Fetch(at);
            Next::Ask(fetch_commit(ctx, self.version, self.group, me, at))
        }
    }

    fn leave(&mut self, ctx: &mut Ctx<'_>) -> Bytes {
        self.version = ctx.version(LEAVE, 0);
        let mut request = message!(kw::LeaveGroupRequest {
            group_id: text(&group_name(self.group)),
        });
        if self.version >= 3 {
            request.members = vec![message!(kw::leave_group_request::MemberIdentity {
                member_id: text(&self.id),
            })];
        } else {
            request.member_id = text(&self.id);
        }
        frame(self.version, &request)
    }

    fn answered(
        &mut self,
        ctx: &mut Ctx<'_>,
        frame: Bytes,
        asked: Moment,
    ) -> Result<ErrorCode, String> {
        let group = self.group;
        match self.asked {
            Asked::Nothing => Ok(ErrorCode::None),
            Asked::Coordinator => {
                if !found_coordinator(ctx, self.group, frame, self.version)? {
                    return Ok(ErrorCode::CoordinatorNotAvailable);
                }
                self.stage = Stage::Join;
                Ok(ErrorCode::None)
            }
            Asked::Join => self.joined(ctx, frame),
            Asked::Sync => self.synced(ctx, frame),
            Asked::Heartbeat => {
                let version = self.version;
                let (_, answer) = client::decode_response::<kw::HeartbeatRequest>(frame, version)
                    .map_err(|error| error.to_string())?;
                Ok(error_of(answer.error_code))
            }
            Asked::Commit(at, offset) => {
                let error = committed(frame, self.version)?;
                if error.is_none() {
                    ctx.oracle.tell(Fact::Committed { group, at, offset });
                }
                Ok(error)
            }
            Asked::Fetch(at) => match fetched_commit(frame, self.version)? {
                Ok(offset) => {
                    let asked = ctx.as_of_group(&group_name(group), asked);
                    ctx.oracle.tell(Fact::CommitRead {
                        group,
                        at,
                        asked,
                        offset,
                    });
                    Ok(ErrorCode::None)
                }
                // By the newest versions a member is fenced here too.
                Err(ErrorCode::StaleMemberEpoch) => Ok(ErrorCode::IllegalGeneration),
                Err(error) => Ok(error),
            },
            Asked::Leave => {
                ctx.oracle.saw(What::Left);
                self.stage = Stage::Left;
                Ok(ErrorCode::None)
            }
        }
    }
}

impl Script for Member {
    fn next(&mut self, ctx: &mut Ctx<'_>) -> Next {
        if !ctx.shared.is_set_up() && ctx.shared.phase == Phase::Busy {
            return Next::Pause(10 * MS);
        }
        if ctx.shared.phase != Phase::Busy && self.stage != Stage::Left {
            if self.id.is_empty() {
                return Next::Done;
            }
            self.stage = Stage::Leave;
        }
        if std::mem::take(&mut self.rest) {
            self.asked = Asked::Nothing;
            return Next::Pause(ctx.up_to_ms(60));
        }
        match self.stage {
            Stage::Find => {
                let (version, request) = find_coordinator(ctx, self.group);
                (self.version, self.asked) = (version, Asked::Coordinator);
                Next::Ask(request)
            }
            Stage::Join => {
                self.asked = Asked::Join;
                Next::Ask(self.join(ctx))
            }
            Stage::Sync => {
                self.asked = Asked::Sync;
                Next::Ask(self.sync(ctx))
            }
            Stage::Stable => self.work(ctx),
            Stage::Leave => {
                self.asked = Asked::Leave;
                Next::Ask(self.leave(ctx))
            }
            Stage::Left => Next::Done,
        }
    }

    fn home(&self, ctx: &mut Ctx<'_>) -> Option<Address> {
        ctx.shared.coordinators.get(&self.group).copied()
    }

    fn whom(&self, _ctx: &Ctx<'_>) -> Whom {
        match self.stage {
            Stage::Find | Stage::Left => Whom::Anybody,
            _ => Whom::Coordinator(self.group),
        }
    }

    fn answer(&mut self, ctx: &mut Ctx<'_>, frame: Bytes, asked: Moment) {
        match self.answered(ctx, frame, asked) {
            Ok(ErrorCode::None) => {}
            Ok(ErrorCode::RebalanceInProgress | ErrorCode::IllegalGeneration) => {
                ctx.oracle.saw(What::JoinsAgain);
                self.stage = Stage::Join;
            }
            Ok(ErrorCode::UnknownMemberId) => {
                ctx.oracle.saw(What::MemberUnknown);
                self.id.clear();
                self.generation = -1;
                self.stage = Stage::Join;
            }
            // These pass.
            Ok(error) if looks_again(error) || ctx.passes(error) => {
                ctx.oracle.saw(What::NoCoordinator);
                self.rest = true;
                if ctx.shared.cluster {
                    ctx.shared.coordinators.remove(&self.group);
                }
            }
            Ok(error) => {
                let what = format!("{:?} v{} of {}: {error}", self.asked, self.version, self.id);
                ctx.oracle.fail("GroupsWork", what);
            }
            Err(why) => {
                let what = format!("{:?} v{} of {}: {why}", self.asked, self.version, self.id);
                ctx.oracle.fail("GroupsWork", what);
            }
        }
    }

    fn doing(&self) -> String {
        let Self {
            id,
            generation,
            stage,
            asked,
            ..
        } = self;
        let group = group_name(self.group);
        format!("member {id} of {group}, generation {generation}, {stage:?}, asked {asked:?}")
    }
}
