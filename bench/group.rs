//! Members of a consumer group (classic protocol): they join, share the partitions
//! out, send heartbeats and commit what was read, each on a thread of its own beside
//! the connections that fetch. The partitions of a run do not change hands: a
//! rebalance in the middle of it is a failure.

use std::collections::BTreeMap;
use std::sync::{Arc, Barrier, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use hdrhistogram::Histogram;
use kafka_wire::join_group_request::JoinGroupRequestProtocol;
use kafka_wire::leave_group_request::MemberIdentity;
use kafka_wire::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_wire::sync_group_request::SyncGroupRequestAssignment;
use kafka_wire::{
    HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, OffsetCommitRequest,
    SyncGroupRequest,
};
use kafka_wire_core::{StrBytes, Uuid};
use millrace::base::ErrorCode;

use crate::layout::Layout;
use crate::stats::{Counters, histogram, record};
use millrace_client::{ClientError, Cluster, Result, message};

const PROTOCOL_TYPE: &str = "consumer";
/// All members are of this program, which assigns by its own plan.
const PROTOCOL: &str = "millrace-bench";
const SESSION_MS: i32 = 30_000;
/// How long all members together may take to join.
const JOIN_MAX: Duration = Duration::from_secs(60);
const HEARTBEAT: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(50);
/// From this version on, OffsetCommit names topics by id.
const COMMIT_BY_ID_SINCE: i16 = 10;
/// From this version on, LeaveGroup takes a list of members.
const LEAVE_LIST_SINCE: i16 = 3;

/// Offset of the next record of each slot, as the fetching side has got to.
pub type Positions = Arc<Mutex<BTreeMap<usize, i64>>>;

/// A member that has its share of the partitions.
pub struct Member {
    cluster: Cluster,
    layout: Arc<Layout>,
    group: StrBytes,
    id: StrBytes,
    generation: i32,
    /// Its partitions.
    pub slots: Vec<usize>,
}

/// What a member did until the end.
pub struct Kept {
    /// Commits that were acknowledged, and how long they took.
    pub commits: Histogram<u64>,
    /// What went wrong.
    pub failure: Option<String>,
}

/// Lets one member per share join, all at once, and waits until each has a share.
pub fn join_all(
    bootstrap: &str,
    timeout: Duration,
    group: &str,
    layout: &Arc<Layout>,
    shares: &[Vec<usize>],
) -> std::result::Result<Vec<Member>, String> {
    std::thread::scope(|scope| {
        let joining: Vec<_> = shares
            .iter()
            .map(|_| {
                scope.spawn(|| {
                    let member = Member {
                        cluster: Cluster::connect(bootstrap, timeout)?,
                        layout: Arc::clone(layout),
                        group: StrBytes::from(group),
                        id: StrBytes::default(),
                        generation: -1,
                        slots: Vec::new(),
                    };
                    member.join(shares)
                })
            })
            .collect();
        let joined = joining.into_iter().map(|member| {
            let member = member
                .join()
                .map_err(|_| String::from("a member panicked"))?;
            member.map_err(|error| format!("consumer group '{group}': {error}"))
        });
        joined.collect()
    })
}

impl Member {
    fn join(mut self, shares: &[Vec<usize>]) -> Result<Self> {
        let deadline = Instant::now() + JOIN_MAX;
        loop {
            match self.attempt(shares) {
                Ok(true) => return Ok(self),
                // Not all are there yet: the next one's joining makes it known.
                Ok(false) => self.await_rebalance(deadline)?,
                Err(error) if Instant::now() < deadline && self.may_pass(&error) => {
                    std::thread::sleep(PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether joining again may help.
    fn may_pass(&mut self, error: &ClientError) -> bool {
        let code = match error {
            ClientError::Refused { code, .. } => ErrorCode::from_code(*code),
            _ => None,
        };
        match code {
            Some(ErrorCode::UnknownMemberId) => self.id = StrBytes::default(),
            Some(ErrorCode::RebalanceInProgress | ErrorCode::IllegalGeneration) => {}
            _ if error.is_retriable() => self.cluster.forget_all(),
            _ => return false,
        }
        true
    }

    /// Joins once; whether this member has a share now.
    fn attempt(&mut self, shares: &[Vec<usize>]) -> Result<bool> {
        let mut joined = self.call_join()?;
        if joined.error_code == ErrorCode::MemberIdRequired.code() {
            self.id = joined.member_id.clone();
            joined = self.call_join()?;
        }
        ClientError::check(|| "join".into(), joined.error_code, None)?;
        (self.id, self.generation) = (joined.member_id.clone(), joined.generation_id);
        let mut assignments = Vec::new();
        if joined.leader == joined.member_id {
            let mut ids: Vec<&StrBytes> = joined.members.iter().map(|m| &m.member_id).collect();
            ids.sort();
            let complete = ids.len() == shares.len();
            for (id, share) in ids.into_iter().zip(shares) {
                let share = if complete { &share[..] } else { &[] };
                assignments.push(message!(SyncGroupRequestAssignment {
                    member_id: id.clone(),
                    assignment: assignment(&self.layout, share),
                }));
            }
        }
        let request = message!(SyncGroupRequest {
            group_id: self.group.clone(),
            generation_id: self.generation,
            member_id: self.id.clone(),
            protocol_type: Some(StrBytes::from(PROTOCOL_TYPE)),
            protocol_name: Some(StrBytes::from(PROTOCOL)),
            assignments: assignments,
        });
        let synced = self.cluster.coordinator(&self.group)?.call(&request)?;
        ClientError::check(|| "take a share".into(), synced.error_code, None)?;
        self.slots = slots_of(&self.layout, synced.assignment).unwrap_or_default();
        Ok(!self.slots.is_empty())
    }

    fn call_join(&mut self) -> Result<JoinGroupResponse> {
        let protocol = message!(JoinGroupRequestProtocol {
            name: StrBytes::from(PROTOCOL),
            metadata: subscription(&self.layout),
        });
        let request = message!(JoinGroupRequest {
            group_id: self.group.clone(),
            session_timeout_ms: SESSION_MS,
            rebalance_timeout_ms: SESSION_MS,
            member_id: self.id.clone(),
            protocol_type: StrBytes::from(PROTOCOL_TYPE),
            protocols: vec![protocol],
        });
        self.cluster.coordinator(&self.group)?.call(&request)
    }

    fn await_rebalance(&mut self, deadline: Instant) -> Result<()> {
        loop {
            std::thread::sleep(PAUSE);
            match self.heartbeat() {
                Ok(()) if Instant::now() < deadline => {}
                Err(error) if self.may_pass(&error) => return Ok(()),
                other => return other,
            }
        }
    }

    fn heartbeat(&mut self) -> Result<()> {
        let request = message!(HeartbeatRequest {
            group_id: self.group.clone(),
            generation_id: self.generation,
            member_id: self.id.clone(),
        });
        let beat = self.cluster.coordinator(&self.group)?.call(&request)?;
        ClientError::check(|| "keep the membership".into(), beat.error_code, None)
    }

    /// Keeps the membership and commits positions until the run is over; then leaves, when
    /// everybody in `together` has come so far: the first one to leave makes the others rebalance.
    pub fn keep(
        mut self,
        positions: Positions,
        commit_every: Duration,
        counters: Arc<Counters>,
        together: Arc<Barrier>,
    ) -> JoinHandle<Kept> {
        std::thread::spawn(move || {
            let mut commits = histogram();
            let mut ended = self.run(&positions, commit_every, &counters, &mut commits);
            together.wait();
            if ended.is_ok() {
                ended = self.leave();
            }
            Kept {
                commits,
                failure: ended.err().map(|error| error.to_string()),
            }
        })
    }

    fn run(
        &mut self,
        positions: &Positions,
        commit_every: Duration,
        counters: &Counters,
        commits: &mut Histogram<u64>,
    ) -> Result<()> {
        let (mut beat, mut commit) = (Instant::now(), Instant::now());
        while !counters.stopped() {
            std::thread::sleep(PAUSE.min(commit_every));
            if beat.elapsed() >= HEARTBEAT {
                beat = Instant::now();
                self.heartbeat()?;
            }
            if commit.elapsed() >= commit_every {
                commit = Instant::now();
                self.commit(positions, commits)?;
            }
        }
        self.commit(positions, commits)
    }

    fn commit(&mut self, positions: &Positions, commits: &mut Histogram<u64>) -> Result<()> {
        let begun = Instant::now();
        let now = positions
            .lock()
            .expect("nothing panics while it is held")
            .clone();
        if now.is_empty() {
            return Ok(());
        }
        let mut by_topic: BTreeMap<usize, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
        for (slot, offset) in now {
            let slot = self.layout.slots[slot];
            by_topic
                .entry(slot.topic)
                .or_default()
                .push(message!(OffsetCommitRequestPartition {
                    partition_index: slot.partition,
                    committed_offset: offset,
                    committed_leader_epoch: -1,
                    committed_metadata: Some(StrBytes::default()),
                }));
        }
        let topics = by_topic.into_iter().map(|(topic, partitions)| {
            let topic = &self.layout.topics[topic];
            message!(OffsetCommitRequestTopic {
                name: StrBytes::from(topic.name.as_str()),
                topic_id: Uuid::from_bytes(topic.id.0),
                partitions: partitions,
            })
        });
        let request = message!(OffsetCommitRequest {
            group_id: self.group.clone(),
            generation_id_or_member_epoch: self.generation,
            member_id: self.id.clone(),
            topics: topics.collect(),
        });
        let by_id = self.layout.has_ids();
        let cap = if by_id {
            i16::MAX
        } else {
            COMMIT_BY_ID_SINCE - 1
        };
        let conn = self.cluster.coordinator(&self.group)?;
        let version = conn.version_up_to::<OffsetCommitRequest>(cap)?;
        let response = conn.call_at(&request, version)?;
        for partition in response.topics.iter().flat_map(|topic| &topic.partitions) {
            ClientError::check(|| "commit".into(), partition.error_code, None)?;
        }
        record(commits, begun.elapsed(), 1);
        Ok(())
    }

    fn leave(&mut self) -> Result<()> {
        let conn = self.cluster.coordinator(&self.group)?;
        let mut request = message!(LeaveGroupRequest {
            group_id: self.group.clone(),
        });
        if conn.version::<LeaveGroupRequest>()? >= LEAVE_LIST_SINCE {
            request.members = vec![message!(MemberIdentity {
                member_id: self.id.clone(),
            })];
        } else {
            request.member_id = self.id.clone();
        }
        let left = conn.call(&request)?;
        ClientError::check(|| "leave".into(), left.error_code, None)
    }
}

/// `ConsumerProtocolSubscription` version 0: all topics.
fn subscription(layout: &Layout) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(0);
    out.put_i32(layout.topics.len() as i32);
    for topic in &layout.topics {
        put_text(&mut out, &topic.name);
    }
    out.put_i32(-1);
    out.freeze()
}

/// `ConsumerProtocolAssignment` version 0: partitions by topic.
fn assignment(layout: &Layout, slots: &[usize]) -> Bytes {
    let mut by_topic: BTreeMap<usize, Vec<i32>> = BTreeMap::new();
    for &slot in slots {
        let slot = layout.slots[slot];
        by_topic.entry(slot.topic).or_default().push(slot.partition);
    }
    let mut out = BytesMut::new();
    out.put_i16(0);
    out.put_i32(by_topic.len() as i32);
    for (topic, partitions) in by_topic {
        put_text(&mut out, &layout.topics[topic].name);
        out.put_i32(partitions.len() as i32);
        partitions
            .into_iter()
            .for_each(|partition| out.put_i32(partition));
    }
    out.put_i32(-1);
    out.freeze()
}

fn put_text(out: &mut BytesMut, text: &str) {
    out.put_i16(text.len() as i16);
    out.extend_from_slice(text.as_bytes());
}

/// The slots of an assignment; `None` if it makes no sense.
fn slots_of(layout: &Layout, mut bytes: Bytes) -> Option<Vec<usize>> {
    let _version = bytes.try_get_i16().ok()?;
    let mut slots = Vec::new();
    for _ in 0..bytes.try_get_i32().ok()? {
        let len = usize::try_from(bytes.try_get_i16().ok()?).ok()?;
        if len > bytes.len() {
            return None;
        }
        let name = String::from_utf8(bytes.split_to(len).to_vec()).ok()?;
        let topic = millrace::wire::TopicRef::Name(name.as_str().into());
        for _ in 0..bytes.try_get_i32().ok()? {
            slots.push(layout.find(&topic, bytes.try_get_i32().ok()?)?);
        }
    }
    Some(slots)
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_client::{Partition, Topic};

    fn layout() -> Layout {
        let topic = |name: &str| Topic {
            name: name.to_owned(),
            partitions: (0..3)
                .map(|index| Partition {
                    index,
                    leader: 1,
                    leader_epoch: 0,
                    replicas: Vec::new(),
                    isr: Vec::new(),
                })
                .collect(),
            ..Topic::default()
        };
        Layout::new(vec![topic("a"), topic("b")])
    }

    #[test]
    fn an_assignment_comes_back() {
        let layout = layout();
        for slots in [vec![], vec![0, 2], vec![1, 3, 5]] {
            assert_eq!(slots_of(&layout, assignment(&layout, &slots)), Some(slots));
        }
    }

    #[test]
    fn an_assignment_cut_short_is_none() {
        let layout = layout();
        let whole = assignment(&layout, &[0, 4]);
        for len in 1..whole.len() - 4 {
            assert_eq!(slots_of(&layout, whole.slice(..len)), None, "{len}");
        }
    }
}
