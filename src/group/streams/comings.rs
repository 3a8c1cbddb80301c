//! Who comes to be a member of a streams group, says something else than before, goes, or takes its next step.

use std::sync::Arc;

use super::super::consumer::{JOINS, LEAVES, LEAVES_FOR_A_WHILE, MemberState, MemberTimer};
use super::change::StreamsChange;
use super::configure::{Configured, StreamsStatus, configure};
use super::cx::{StreamsCx, StreamsOut};
use super::fences::{check_tasks, refuse, unknown};
use super::group::StreamsGroup;
use super::heartbeat::{EndpointPartitions, StreamsHeartbeat, StreamsReply};
use super::member::{StreamsCurrent, StreamsMember};
use super::reconcile::{TaskHolders, reconcile};
use super::state::StreamsState;
use super::tasks::{HeldTasks, TaskSet, Tasks};
use super::topology::Topology;
use super::turn::{StreamsSteps, StreamsTurn};
use crate::base::limits::{
    GROUP_MEMBERS_BYTES_MAX, PARTITIONS_PER_REQUEST_MAX, STREAMS_CREATE_RETRY_MS,
    STREAMS_ENDPOINTS_MAX,
};
use crate::base::{ErrorCode, Name};

/// Tasks as a member sees them.
struct SeenBy<'a>(&'a StreamsState, &'a Name);

impl TaskHolders for SeenBy<'_> {
    fn runs_elsewhere(&self, of: &Name, task: i32) -> bool {
        self.0.runs_elsewhere(of, task, self.1)
    }

    fn is_in_process(&self, of: &Name, task: i32) -> (bool, bool) {
        self.0.is_in_process(of, task, self.1)
    }
}

impl StreamsGroup {
    /// Who joins is not in its own way, nor is the static member whose place it takes, if their sessions are over.
    pub(super) fn make_way(&mut self, request: &StreamsHeartbeat, turn: &mut StreamsTurn) {
        if request.epoch != JOINS {
            return;
        }
        let instance = request.instance.as_deref();
        let fixed = instance
            .and_then(|it| self.state.static_member(it))
            .cloned();
        for member in [Some(&request.member), fixed.as_ref()] {
            if let Some(member) = member.and_then(|it| turn.silent.take(it)) {
                self.strike(&member, turn);
            }
        }
    }

    /// The first half of a heartbeat: who it is, and what it says.
    pub(super) fn heartbeat(
        &mut self,
        cx: &StreamsCx<'_>,
        (token, request): (u64, &Arc<StreamsHeartbeat>),
        turn: &mut StreamsTurn,
        left: &mut usize,
        out: &mut StreamsOut,
    ) -> Result<(), StreamsReply> {
        if request.epoch < JOINS {
            let reply = self.leave(request, turn)?;
            turn.replies.push((token, reply));
            return Ok(());
        }
        if request.epoch != JOINS && self.state.is_blank() {
            let why = format!("Group {} not found.", request.group);
            return refuse(ErrorCode::GroupIdNotFound, why);
        }
        self.state.check_room(cx, request)?;
        let replaces = self.state.who_is_it(request)?;
        let topology = self.new_topology(cx, request, left)?;
        if topology.is_none() {
            self.check_topics(cx, request, left)?;
        }
        let known = replaces.as_ref().unwrap_or(&request.member);
        let old = self.state.member(known).cloned();
        let new = request.says(old.as_deref());
        let grows = new
            .bytes()
            .saturating_sub(old.as_ref().map_or(0, |old| old.bytes()));
        if grows + topology.as_ref().map_or(0, |it| it.bytes()) > cx.room_bytes {
            return Err(StreamsReply::error(ErrorCode::CoordinatorNotAvailable));
        }
        if grows > 0 && self.state.members_bytes() + grows > GROUP_MEMBERS_BYTES_MAX {
            let why = "The members of the group take all the memory that they may.".to_owned();
            return refuse(ErrorCode::GroupMaxSizeReached, why);
        }
        let mut status = Vec::new();
        if let Some(topology) = topology {
            let change = StreamsChange::Topology(Some(topology));
            turn.changes.make(&mut self.state, change);
        } else if let Some(topology) = self.state.topology()
            && new.topology_epoch < topology.epoch
        {
            let why = format!(
                "The member's topology epoch {} is behind the group's topology epoch {}.",
                new.topology_epoch, topology.epoch
            );
            status.push((StreamsStatus::StaleTopology, why));
        }
        if let Some(old) = &replaces {
            self.replace(old, &request.member, turn);
        }
        let member = request.member.clone();
        let is_static = request.instance.is_some();
        let is_same =
            |old: &Arc<StreamsMember>| **old == new || is_static && old.is_assigned_as(&new);
        turn.bumps |= !old.as_ref().is_some_and(is_same);
        let was = old.clone();
        if self.state.member(&member).is_none_or(|said| **said != new) {
            let change = StreamsChange::Member(member.clone(), Some(Arc::new(new)));
            turn.changes.make(&mut self.state, change);
        }
        if request.shuts_down {
            self.shutdown.get_or_insert_with(|| member.clone());
        }
        out.group.timers.push(MemberTimer::Session(member.clone()));
        self.silent.remove(&member);
        self.heard.insert(member.clone());
        turn.steps.push_back(StreamsSteps {
            token,
            request: request.clone(),
            was,
            before: self.state.current(&member),
            replaces: replaces.is_some(),
            status,
        });
        Ok(())
    }

    /// The topology of who joins, if the group has none yet.
    fn new_topology(
        &self,
        cx: &StreamsCx<'_>,
        request: &StreamsHeartbeat,
        left: &mut usize,
    ) -> Result<Option<Arc<Topology>>, StreamsReply> {
        let (Some(said), known) = (&request.topology, self.state.topology()) else {
            return match self.state.topology() {
                Some(_) => Ok(None),
                // Its record is lost.
                None => Err(StreamsReply::error(ErrorCode::UnknownServerError)),
            };
        };
        let Some(known) = known else {
            *left = left.saturating_sub(said.names());
            return match configure(said, cx.topics).invalid {
                Some(why) => refuse(ErrorCode::StreamsInvalidTopology, why),
                None => Ok(Some(said.clone())),
            };
        };
        if known.epoch <= said.epoch && known != said {
            let why = "Topology updates are not supported yet.".to_owned();
            return refuse(ErrorCode::InvalidRequest, why);
        }
        Ok(None)
    }

    /// STREAMS_INVALID_TOPOLOGY if the topology of the group cannot be with the topics that there are by now;
    /// INVALID_REQUEST if the member says that it has tasks which there are not.
    fn check_topics(
        &mut self,
        cx: &StreamsCx<'_>,
        request: &StreamsHeartbeat,
        left: &mut usize,
    ) -> Result<(), StreamsReply> {
        let Some(configured) = self.look(cx, left) else {
            return Ok(());
        };
        if let Some(why) = &configured.invalid {
            return refuse(ErrorCode::StreamsInvalidTopology, why.clone());
        }
        match &request.owned {
            Some(owned) if configured.is_ready() => {
                *left = left.saturating_sub(owned.count());
                check_tasks(&configured, owned)
            }
            _ => Ok(()),
        }
    }

    /// A static member comes back under another id, to which goes all that is its own.
    fn replace(&mut self, old: &Name, new: &Name, turn: &mut StreamsTurn) {
        let (member, target) = (self.state.member(old).cloned(), self.state.target(old));
        let current = StreamsCurrent {
            epoch: 0,
            previous_epoch: 0,
            ..StreamsCurrent::clone(&self.state.current(old))
        };
        self.forget(old, turn);
        for change in [
            StreamsChange::Member(new.clone(), member),
            StreamsChange::TargetOf(new.clone(), Some(target)),
            StreamsChange::Current(new.clone(), Some(Arc::new(current))),
        ] {
            turn.changes.make(&mut self.state, change);
        }
    }

    /// Somebody leaves.
    fn leave(
        &mut self,
        request: &StreamsHeartbeat,
        turn: &mut StreamsTurn,
    ) -> Result<StreamsReply, StreamsReply> {
        if self.state.is_blank() {
            let why = format!("Group {} not found.", request.group);
            return refuse(ErrorCode::GroupIdNotFound, why);
        }
        self.state.check_instance(request)?;
        let member = request.member.clone();
        if self.state.member(&member).is_none() {
            return Err(unknown(request));
        }
        if request.shuts_down {
            self.shutdown.get_or_insert_with(|| member.clone());
        }
        // Only a static member leaves for a while.
        if request.epoch == LEAVES || request.instance.is_none() {
            self.strike(&member, turn);
        } else {
            let current = self.state.current(&member);
            let active = current.assigned.active.all();
            let away = StreamsCurrent {
                epoch: LEAVES_FOR_A_WHILE,
                assigned: HeldTasks {
                    // Whoever comes back may commit at once.
                    active: super::tasks::HeldTaskSet::of(
                        active.map(|(of, task, _)| (of, task, 0)),
                    ),
                    ..current.assigned.clone()
                },
                revoking: HeldTasks::default(),
                ..StreamsCurrent::clone(&current)
            };
            turn.timers.push(MemberTimer::EndRebalance(member.clone()));
            // What it has asked before would bring it back.
            turn.answer_steps(&member);
            let change = StreamsChange::Current(member.clone(), Some(Arc::new(away)));
            turn.changes.make(&mut self.state, change);
        }
        Ok(StreamsReply {
            member,
            epoch: request.epoch,
            ..StreamsReply::default()
        })
    }

    /// Removes a member, if it is one.
    pub(super) fn strike(&mut self, member: &Name, turn: &mut StreamsTurn) {
        self.silent.remove(member);
        if self.state.member(member).is_some() {
            self.forget(member, turn);
            turn.bumps = true;
        }
    }

    fn forget(&mut self, member: &Name, turn: &mut StreamsTurn) {
        turn.timers.push(MemberTimer::End(member.clone()));
        turn.answer_steps(member);
        for change in [
            StreamsChange::Current(member.clone(), None),
            StreamsChange::TargetOf(member.clone(), None),
            StreamsChange::Member(member.clone(), None),
        ] {
            turn.changes.make(&mut self.state, change);
        }
    }

    /// The second half of a heartbeat: the member's next step, and its answer.
    pub(super) fn step(
        &mut self,
        cx: &StreamsCx<'_>,
        steps: StreamsSteps,
        turn: &mut StreamsTurn,
        left: &mut usize,
    ) {
        let StreamsSteps {
            token,
            request,
            was,
            before,
            replaces,
            mut status,
        } = steps;
        let member = request.member.clone();
        let (current, target) = (self.state.current(&member), self.state.target(&member));
        // As long as more members may come, nobody is given anything.
        let nothing = Tasks::default();
        let target = if turn.gathers { &nothing } else { &*target };
        let next = reconcile(
            &current,
            (self.state.target_epoch(), target),
            request.owned.as_ref(),
            &SeenBy(&self.state, &member),
        );
        let next = match next {
            Ok(next) if next == *current => current,
            Ok(next) => {
                let next = Arc::new(next);
                let change = StreamsChange::Current(member.clone(), Some(next.clone()));
                turn.changes.make(&mut self.state, change);
                turn.timers.push(match next.state {
                    MemberState::UnrevokedPartitions => self.rebalance_timer(&member),
                    _ => MemberTimer::EndRebalance(member.clone()),
                });
                next
            }
            Err(error) => {
                return turn.replies.push((token, StreamsReply::error(error)));
            }
        };
        let has_changed = !next.assigned.has_the_same_as(&before.assigned);
        let endpoint = self
            .state
            .member(&member)
            .and_then(|it| it.endpoint.as_ref());
        let had_endpoint = was.as_ref().and_then(|it| it.endpoint.as_ref());
        if endpoint != had_endpoint || endpoint.is_some() && (has_changed || replaces) {
            self.endpoint_epoch = self.endpoint_epoch.wrapping_add(1);
        }
        let configured = self.look(cx, left);
        let tells_endpoints = self.endpoint_epoch != request.endpoint_epoch;
        let endpoints = match &configured {
            Some(configured) if tells_endpoints => Some(self.tell_endpoints(configured, left)),
            _ => None,
        };
        let delayed = turn
            .delayed
            .map(|why| (StreamsStatus::AssignmentDelayed, why.to_owned()));
        let problem = configured.as_ref().and_then(|it| it.problem.clone());
        let shutdown = self.shutdown.as_ref().map(|who| {
            let why = format!(
                "Streams group member {who} encountered a fatal error and requested a shutdown for the entire \
                 application."
            );
            (StreamsStatus::ShutdownApplication, why)
        });
        status.extend(delayed.into_iter().chain(problem).chain(shutdown));
        let tells = request.epoch == JOINS || has_changed;
        let reply = StreamsReply {
            member,
            epoch: next.epoch,
            heartbeat_interval_ms: cx.config.heartbeat_interval_ms,
            task_offset_interval_ms: cx.config.task_offset_interval_ms,
            acceptable_recovery_lag: cx.config.acceptable_recovery_lag,
            status,
            assigned: tells.then_some(next),
            endpoint_epoch: self.endpoint_epoch,
            endpoints,
            ..StreamsReply::default()
        };
        turn.replies.push((token, reply));
    }

    /// Where the tasks of all members are that can be asked for what they have.
    fn tell_endpoints(
        &mut self,
        configured: &Configured,
        left: &mut usize,
    ) -> Arc<Vec<EndpointPartitions>> {
        if let Some((epoch, version, known)) = &self.endpoints
            && (*epoch, *version) == (self.endpoint_epoch, configured.version)
        {
            return known.clone();
        }
        let (mut all, mut more) = (Vec::new(), STREAMS_ENDPOINTS_MAX);
        for (id, member) in self.state.members() {
            let Some(endpoint) = &member.endpoint else {
                continue;
            };
            let current = self.state.current(id);
            let active = current.assigned.active.all();
            let active = active.map(|(of, task, _)| (of, task));
            let others = current.assigned.standby.all();
            let others = others.chain(current.assigned.warmup.all());
            all.push(EndpointPartitions {
                endpoint: endpoint.clone(),
                active: partitions(configured, &super::tasks::set_of(active), &mut more),
                standby: partitions(configured, &super::tasks::set_of(others), &mut more),
            });
            if more == 0 {
                all.clear();
                break;
            }
        }
        *left = left.saturating_sub(STREAMS_ENDPOINTS_MAX - more);
        let all = Arc::new(all);
        self.endpoints = Some((self.endpoint_epoch, configured.version, all.clone()));
        all
    }

    /// Internal topics that are missing are to be created, which whoever does that may have done already.
    pub(super) fn ask_for_topics(&mut self, cx: &StreamsCx<'_>, out: &mut StreamsOut) {
        let missing = self.configured().filter(|it| !it.missing.is_empty());
        let missing = missing
            .filter(|it| it.version == cx.topics.version())
            .cloned();
        if let Some(configured) = missing
            && self.state.members().len() > 0
            && cx.now.mono >= self.creates_from
        {
            self.creates_from = cx.now.mono.plus_ms(STREAMS_CREATE_RETRY_MS);
            // More than one request may create have their turn when those are there.
            let mut left = PARTITIONS_PER_REQUEST_MAX;
            let fits = configured.missing.iter().take_while(|topic| {
                let count = usize::try_from(topic.partitions).unwrap_or(usize::MAX);
                let is_first = left == PARTITIONS_PER_REQUEST_MAX;
                let fits = count <= left;
                left = left.saturating_sub(count);
                fits || is_first
            });
            out.creates = fits.cloned().collect();
        }
    }
}

/// What these tasks read, as far as `more` may be told.
fn partitions(configured: &Configured, tasks: &TaskSet, more: &mut usize) -> Vec<(Name, Vec<i32>)> {
    let mut all = Vec::new();
    for (of, tasks) in tasks.topics() {
        let inputs = configured.subtopology(&of).into_iter();
        for (topic, count) in inputs.flat_map(|of| &of.inputs) {
            let read: Vec<i32> = tasks.iter().copied().filter(|task| task < count).collect();
            *more = more.saturating_sub(1 + tasks.len());
            if *more == 0 {
                return all;
            }
            if !read.is_empty() {
                all.push((topic.clone(), read));
            }
        }
    }
    all
}
