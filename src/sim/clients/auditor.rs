//! The client that comes last and reads everything once more.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use super::client::Ctx;
use super::committer::{STABLE_FROM, fetch_commit, fetch_stable, fetched_commit};
use super::consumer::{list_offsets, listed_offset};
use super::fetching::{COMMITTED_FROM, Limits, fetch, read, read_committed};
use super::finding::{ask_identity, described, group_name, looks_again};
use super::shared::{Topic, Whom};
use super::talk::{Next, Script};
use crate::base::{ErrorCode, TopicId};
use crate::sim::fact::{Fact, Moment, Place, Use};
use crate::wire::client;

#[derive(Clone, Copy, Debug)]
enum Task {
    Topic(u32),
    Start(Place),
    Read(Place, i64, i64),
    Latest(Place),
    Commit(u32, Place),
    /// What transactions have committed for a group.
    Moved(u32, Place),
    /// What is committed, from an offset on.
    Committed(Place, i64),
}

/// See the module.
#[derive(Debug, Default)]
pub struct Auditor {
    todo: Option<VecDeque<Task>>,
    version: i16,
    /// The ends that it was told.
    ends: BTreeMap<Place, i64>,
    /// Partitions to be read once more: by then compaction has removed all of what it had removed some of.
    again: Option<BTreeSet<Place>>,
    /// It pauses before it asks for the next thing.
    rest: bool,
}

impl Auditor {
    fn plan(ctx: &Ctx<'_>) -> VecDeque<Task> {
        let topics = ctx.shared.topics.iter();
        let mut todo: VecDeque<Task> = topics.map(|topic| Task::Topic(topic.number)).collect();
        let places = ctx.shared.places(|_| true);
        todo.extend(places.iter().map(|at| Task::Latest(*at)));
        todo.extend(places.iter().map(|at| Task::Start(*at)));
        // Last, when it is known where each ends.
        let transacted = |topic: &Topic| topic.used == Use::Transacted;
        let transacted = ctx.shared.places(transacted).into_iter();
        let commits = ctx.shared.commits.keys();
        todo.extend(commits.map(|(group, at)| Task::Commit(*group, *at)));
        let moves = ctx.shared.moves.iter();
        todo.extend(moves.map(|(group, at)| Task::Moved(*group, *at)));
        todo.extend(transacted.map(|at| Task::Committed(at, 0)));
        todo
    }

    fn task(&self) -> Option<Task> {
        self.todo.as_ref()?.front().copied()
    }

    fn fetched(
        &mut self,
        ctx: &mut Ctx<'_>,
        frame: Bytes,
        asked: Moment,
        (at, start, position): (Place, i64, i64),
    ) -> Result<Option<Task>, String> {
        let (_, fetched) =
            client::decode_fetch(frame, self.version).map_err(|error| error.to_string())?;
        let partition = fetched
            .topics
            .first()
            .and_then(|topic| topic.partitions.first())
            .ok_or("no partition in the answer")?;
        match partition.error {
            ErrorCode::None => {}
            // Retention went on meanwhile.
            ErrorCode::OffsetOutOfRange => return Ok(Some(Task::Start(at))),
            ErrorCode::KafkaStorageError | ErrorCode::CorruptMessage if ctx.shared.rotten => {
                ctx.shared.damaged.insert(at);
                return Ok(None);
            }
            error if ctx.is_led_elsewhere(at, error) => {
                self.rest = true;
                return Ok(Some(Task::Read(at, start, position)));
            }
            error => return Err(format!("{at}: fetch of {position}: {error}")),
        }
        // A new leader may not know yet how far it is committed.
        let end = self.ends.get(&at).copied().unwrap_or(0);
        let behind = partition.high_watermark < end;
        let end = end.max(partition.high_watermark);
        let next = read(ctx, at, asked, position, partition);
        if ctx.shared.damaged.contains(&at) {
            return Ok(None);
        }
        if ctx.shared.cluster && !self.ends.contains_key(&at) {
            self.rest = true;
            return Ok(Some(Task::Read(at, start, next)));
        }
        if next < end {
            if next == position && behind && ctx.shared.cluster {
                self.rest = true;
            } else if next == position {
                return Err(format!(
                    "{at}: nothing at {position}, with the end at {end}"
                ));
            }
            return Ok(Some(Task::Read(at, start, next)));
        }
        ctx.oracle.tell(Fact::Audited {
            at,
            log_start: start,
            end,
        });
        let again = self.again.as_mut().is_some_and(|again| again.remove(&at));
        Ok(again.then_some(Task::Start(at)))
    }

    fn fetched_committed(
        &mut self,
        ctx: &mut Ctx<'_>,
        frame: Bytes,
        (at, position): (Place, i64),
    ) -> Result<Option<Task>, String> {
        let (_, fetched) =
            client::decode_fetch(frame, self.version).map_err(|error| error.to_string())?;
        let topic = fetched.topics.first();
        let partition = topic.and_then(|topic| topic.partitions.first());
        let partition = partition.ok_or("no partition in the answer")?;
        let next = match partition.error {
            ErrorCode::None => read_committed(ctx, at, position, partition),
            error if ctx.is_led_elsewhere(at, error) => position,
            error => return Err(format!("{at}: fetch of {position}: {error}")),
        };
        // A transaction that was left is aborted when its time is over.
        let end = self.ends.get(&at);
        if end.is_none_or(|end| next < *end) || !partition.error.is_none() {
            self.rest = next == position || end.is_none();
            return Ok(Some(Task::Committed(at, next)));
        }
        self.has_read_committed(ctx);
        Ok(None)
    }

    /// Tells that all that is committed has been read, if that was the last of it.
    fn has_read_committed(&self, ctx: &mut Ctx<'_>) {
        let mut others = self.todo.iter().flatten().skip(1);
        if !others.any(|task| matches!(task, Task::Committed(..) | Task::Moved(..))) {
            ctx.oracle.tell(Fact::AuditedCommitted);
        }
    }

    /// The offset that was listed; none where the partition is refused because something of it has rotted, or if it
    /// is to be asked for again.
    fn listed(
        &mut self,
        ctx: &mut Ctx<'_>,
        frame: Bytes,
        at: Place,
    ) -> Result<Option<i64>, String> {
        match listed_offset(frame, self.version)? {
            Ok((offset, _)) => Ok(Some(offset)),
            Err(ErrorCode::KafkaStorageError) if ctx.shared.rotten => {
                ctx.shared.damaged.insert(at);
                Ok(None)
            }
            Err(error) if ctx.is_led_elsewhere(at, error) => {
                self.rest = true;
                Ok(None)
            }
            Err(error) => Err(format!("{at}: ListOffsets: {error}")),
        }
    }

    fn answered(
        &mut self,
        ctx: &mut Ctx<'_>,
        frame: Bytes,
        asked: Moment,
        task: Task,
    ) -> Result<Option<Task>, String> {
        match task {
            Task::Topic(topic) => {
                let found = described(ctx, frame, self.version)?;
                self.rest = found.is_none() && ctx.shared.cluster;
                let found = found.map(|found| found.shape(TopicId::default()));
                ctx.oracle.tell(Fact::Described {
                    node: ctx.node,
                    topic,
                    asked,
                    found,
                });
                return Ok(self.rest.then_some(task));
            }
            Task::Latest(at) => {
                if let Some(offset) = self.listed(ctx, frame, at)? {
                    let asked = ctx.as_of(at, asked);
                    ctx.oracle.tell(Fact::Latest { at, asked, offset });
                    self.ends.insert(at, offset);
                }
                return Ok(self.rest.then_some(task));
            }
            Task::Start(at) => {
                if let Some(offset) = self.listed(ctx, frame, at)? {
                    let asked = ctx.as_of(at, asked);
                    ctx.oracle.tell(Fact::Earliest { at, asked, offset });
                    if self.again.as_ref().is_some_and(|again| again.contains(&at)) {
                        ctx.oracle.tell(Fact::Auditing { at });
                    }
                    return Ok(Some(Task::Read(at, offset, offset)));
                }
                return Ok(self.rest.then_some(task));
            }
            Task::Read(at, start, position) => {
                return self.fetched(ctx, frame, asked, (at, start, position));
            }
            Task::Committed(at, position) => {
                return self.fetched_committed(ctx, frame, (at, position));
            }
            Task::Commit(group, at) | Task::Moved(group, at) => {
                let offset = match fetched_commit(frame, self.version)? {
                    Ok(offset) => offset,
                    // A transaction that was left is aborted when its time is over.
                    Err(ErrorCode::UnstableOffsetCommit) => {
                        self.rest = true;
                        return Ok(Some(task));
                    }
                    // What has rotted costs the groups of its partition.
                    Err(ErrorCode::NotCoordinator) if ctx.shared.rotten => {
                        ctx.shared.groups_lost += 1;
                        return Ok(None);
                    }
                    Err(error) if ctx.shared.cluster && looks_again(error) || ctx.passes(error) => {
                        ctx.shared.coordinators.remove(&group);
                        self.rest = true;
                        return Ok(Some(task));
                    }
                    // Every commit was cut off before there was a topic for them.
                    Err(ErrorCode::NotCoordinator) => -1,
                    Err(error) => return Err(format!("group {group}, {at}: {error}")),
                };
                if let Task::Moved(..) = task {
                    ctx.oracle.tell(Fact::MovedRead { group, offset });
                    self.has_read_committed(ctx);
                    return Ok(None);
                }
                let asked = ctx.as_of_group(&group_name(group), asked);
                ctx.oracle.tell(Fact::CommitRead {
                    group,
                    at,
                    asked,
                    offset,
                });
            }
        }
        Ok(None)
    }
}

impl Script for Auditor {
    fn next(&mut self, ctx: &mut Ctx<'_>) -> Next {
        let todo = self.todo.get_or_insert_with(|| Self::plan(ctx));
        self.again.get_or_insert_with(|| {
            let is_compacted = |topic: &Topic| topic.used.is_compacted();
            ctx.shared.places(is_compacted).into_iter().collect()
        });
        let Some(task) = todo.front().copied() else {
            return Next::Done;
        };
        if std::mem::take(&mut self.rest) {
            return Next::Pause(ctx.up_to_ms(20));
        }
        Next::Ask(match task {
            Task::Topic(number) => {
                let topic = ctx.shared.topic(number);
                let name = topic.map_or_else(String::new, |topic| topic.name.clone());
                let (version, request) = ask_identity(ctx, &name);
                self.version = version;
                request
            }
            Task::Latest(at) => {
                self.version = ctx.version(2, 1);
                list_offsets(ctx, self.version, at, -1)
            }
            Task::Start(at) => {
                self.version = ctx.version(2, 1);
                list_offsets(ctx, self.version, at, -2)
            }
            Task::Read(at, _, position) | Task::Committed(at, position) => {
                self.version = ctx.version(1, COMMITTED_FROM);
                let limits = Limits {
                    wait_ms: 0,
                    bytes_min: 0,
                    bytes_max: 1 << 20,
                    partition_bytes_max: ctx.pick(&[2000, 1 << 20]),
                    session: 0,
                    epoch: -1,
                    committed: matches!(task, Task::Committed(..)),
                };
                fetch(ctx, self.version, limits, &[(at, position)], &[])
            }
            Task::Commit(group, at) => {
                self.version = ctx.version(9, 1);
                fetch_commit(ctx, self.version, group, (-1, ""), at)
            }
            Task::Moved(group, at) => {
                self.version = ctx.version(9, STABLE_FROM);
                fetch_stable(ctx, self.version, group, at)
            }
        })
    }

    fn answer(&mut self, ctx: &mut Ctx<'_>, frame: Bytes, asked: Moment) {
        let Some(task) = self.task() else {
            return;
        };
        let next = match self.answered(ctx, frame, asked, task) {
            Ok(next) => next,
            Err(why) => {
                return ctx
                    .oracle
                    .fail("TheAuditSucceeds", format!("{task:?}: {why}"));
            }
        };
        if let Some(todo) = &mut self.todo {
            todo.pop_front();
            todo.extend(next);
        }
    }

    fn whom(&self, _ctx: &Ctx<'_>) -> Whom {
        match self.task() {
            Some(
                Task::Start(at) | Task::Latest(at) | Task::Read(at, ..) | Task::Committed(at, _),
            ) => Whom::Leader(at),
            Some(Task::Commit(group, _) | Task::Moved(group, _)) => Whom::Coordinator(group),
            Some(Task::Topic(_)) | None => Whom::Anybody,
        }
    }

    fn doing(&self) -> String {
        let todo = self.todo.as_ref();
        format!("auditor: {:?}", todo.and_then(|todo| todo.front()))
    }
}
