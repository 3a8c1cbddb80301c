//! The sticky assignor: tasks stay with who runs them, or has their state, as far as all have about as much to do. As
//! `StickyTaskAssignor` of Kafka 4.4 does it, in slices. Where Kafka takes any of several that are as good, it is the
//! first here.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::super::consumer::Changes;
use super::change::StreamsChange;
use super::configure::Configured;
use super::member::StreamsCurrent;
use super::state::StreamsState;
use super::tasks::Tasks;
use crate::base::Name;

/// What a task takes of a slice, in partitions that are looked at.
const TASK_WORK: usize = 2;

/// A task: the place of its subtopology, and its partition.
type Task = (usize, i32);

/// How much a process has to do for each of its members.
#[derive(Clone, Copy, Debug)]
struct Load {
    tasks: usize,
    members: usize,
}

impl Ord for Load {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.tasks * other.members).cmp(&(other.tasks * self.members))
    }
}

impl PartialOrd for Load {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Load {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Load {}

/// A number of tasks that members should have at the most, so that all have as many.
#[derive(Debug, Default)]
struct Quota {
    tasks: usize,
    members: usize,
}

impl Quota {
    fn each(&self) -> usize {
        match self.members {
            0 => 0,
            members => self.tasks.div_ceil(members),
        }
    }

    /// A member has so many now: if that is its share, the others share the rest.
    fn has(&mut self, count: usize) {
        if self.members > 0 && count == self.each() {
            self.members -= 1;
            self.tasks = self.tasks.saturating_sub(count);
        }
    }
}

#[derive(Debug)]
struct Member {
    id: Name,
    process: usize,
    current: Arc<StreamsCurrent>,
    active: Vec<Task>,
    standby: Vec<Task>,
}

impl Member {
    fn count(&self) -> usize {
        self.active.len() + self.standby.len()
    }
}

#[derive(Debug, Default)]
struct Process {
    /// Its members, by how much they have.
    members: BTreeSet<(usize, usize)>,
    tasks: HashSet<Task>,
    count: usize,
}

impl Process {
    fn load(&self) -> Load {
        Load {
            tasks: self.count,
            members: self.members.len(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// All tasks are listed, partition by partition: from this one on,
    List(i32),
    /// and who has them, member by member.
    Gather(usize),
    /// Each stays with who runs it, from this one of the list on.
    Stay(usize),
    /// What does not goes to who has its state,
    Follow(usize),
    /// and what is left to who has least to do.
    Spread(Task),
    /// Standby tasks that go to who has their state: so many of the list are still to be looked at;
    Keep(usize),
    /// and to who has least to do, backwards from this one.
    Copy(usize, i32),
    /// Targets are written, member by member.
    Write(usize),
}

/// See the module.
#[derive(Debug)]
pub struct TaskAssignment {
    phase: Phase,
    /// By id: how many tasks each has, and whether they have state.
    subtopologies: Vec<(Name, i32, bool)>,
    /// Those that have tasks behind the partition that is listed.
    live: Vec<usize>,
    list: Vec<Task>,
    /// Of each subtopology which tasks somebody runs, and how many standby tasks are still to be given.
    given: Vec<Vec<bool>>,
    copies: Vec<Vec<usize>>,
    members: Vec<Member>,
    processes: Vec<Process>,
    by_load: BTreeSet<(Load, usize)>,
    ran: HashMap<Task, usize>,
    kept: HashMap<Task, Vec<usize>>,
    standby_replicas: usize,
    active_quota: Quota,
    quota: Quota,
}

impl TaskAssignment {
    /// Begins to give out the tasks of a topology, or none if it has none yet.
    #[must_use]
    pub fn new(state: &StreamsState, configured: &Configured, standby_replicas: usize) -> Self {
        let tasks = configured
            .subtopologies
            .iter()
            .filter(|_| configured.is_ready());
        let subtopologies: Vec<_> = tasks
            .map(|of| (of.id.clone(), of.tasks, of.is_stateful))
            .collect();
        let mut places: BTreeMap<&Name, usize> = BTreeMap::new();
        let mut processes: Vec<Process> = Vec::new();
        let mut members = Vec::with_capacity(state.members().len());
        for (place, (id, member)) in state.members().enumerate() {
            let process = *places.entry(&member.process).or_insert_with(|| {
                processes.push(Process::default());
                processes.len() - 1
            });
            processes[process].members.insert((0, place));
            members.push(Member {
                id: id.clone(),
                process,
                current: state.current(id),
                active: Vec::new(),
                standby: Vec::new(),
            });
        }
        let count = |tasks: i32| usize::try_from(tasks).unwrap_or(0);
        let active: usize = subtopologies
            .iter()
            .map(|(_, tasks, _)| count(*tasks))
            .sum();
        let stateful = subtopologies
            .iter()
            .filter(|(.., is_stateful)| *is_stateful);
        let standby: usize = stateful
            .map(|(_, tasks, _)| count(*tasks) * standby_replicas)
            .sum();
        let quota = |tasks| Quota {
            tasks,
            members: members.len(),
        };
        Self {
            phase: match subtopologies.is_empty() {
                true => Phase::Write(0),
                false => Phase::List(0),
            },
            live: (0..subtopologies.len()).collect(),
            list: Vec::new(),
            given: vec![Vec::new(); subtopologies.len()],
            copies: vec![Vec::new(); subtopologies.len()],
            by_load: processes
                .iter()
                .enumerate()
                .map(|(at, it)| (it.load(), at))
                .collect(),
            active_quota: quota(active),
            quota: quota(active + standby),
            subtopologies,
            members,
            processes,
            ran: HashMap::new(),
            kept: HashMap::new(),
            standby_replicas,
        }
    }

    /// Does as much as is `left` of a slice; whether it is done, and all targets are made.
    pub fn go_on(
        &mut self,
        (state, changes): (&mut StreamsState, &mut Changes<StreamsState>),
        left: &mut usize,
    ) -> bool {
        while *left > 0 {
            let work = match self.phase {
                Phase::List(partition) => self.list(partition),
                Phase::Gather(member) => self.gather(member),
                Phase::Stay(at) => self.stay(at),
                Phase::Follow(at) => self.follow(at),
                Phase::Spread(task) => self.spread(task),
                Phase::Keep(at) => self.keep(at),
                Phase::Copy(of, partition) => self.copy((of, partition)),
                Phase::Write(member) if member == self.members.len() => return true,
                Phase::Write(member) => self.write(member, state, changes),
            };
            *left = left.saturating_sub(work);
        }
        false
    }

    fn list(&mut self, partition: i32) -> usize {
        let work = self.live.len();
        let subtopologies = &self.subtopologies;
        self.live.retain(|of| subtopologies[*of].1 > partition);
        for of in &self.live {
            self.list.push((*of, partition));
            self.given[*of].push(false);
            self.copies[*of].push(0);
        }
        self.phase = match self.live.is_empty() {
            true => Phase::Gather(0),
            false => Phase::List(partition.saturating_add(1)),
        };
        1 + work
    }

    /// Of tasks that there are no more nothing is known.
    fn task(&self, of: &Name, partition: i32) -> Option<Task> {
        let at = self
            .subtopologies
            .binary_search_by(|(id, ..)| id.cmp(of))
            .ok()?;
        (0..self.subtopologies[at].1)
            .contains(&partition)
            .then_some((at, partition))
    }

    fn gather(&mut self, place: usize) -> usize {
        let Some(member) = self.members.get(place) else {
            self.phase = Phase::Stay(0);
            return 1;
        };
        let current = Arc::clone(&member.current);
        for (of, partition, _) in current.assigned.active.all() {
            if let Some(task) = self.task(&of, partition) {
                self.ran.insert(task, place);
            }
        }
        for (of, partition) in current.assigned.standby.all() {
            if let Some(task) = self.task(&of, partition) {
                self.kept.entry(task).or_default().push(place);
            }
        }
        self.phase = Phase::Gather(place + 1);
        TASK_WORK + current.assigned.count() * TASK_WORK
    }

    /// Gives a task to a member.
    fn give(&mut self, place: usize, task: Task, is_active: bool) {
        let member = &mut self.members[place];
        let before = member.count();
        match is_active {
            true => {
                member.active.push(task);
                self.given[task.0][task.1 as usize] = true;
            }
            false => member.standby.push(task),
        }
        let (process_at, count) = (member.process, before + 1);
        let process = &mut self.processes[process_at];
        self.by_load.remove(&(process.load(), process_at));
        process.members.remove(&(before, place));
        process.members.insert((count, place));
        process.tasks.insert(task);
        process.count += 1;
        self.by_load.insert((process.load(), process_at));
        if is_active {
            self.active_quota.has(count);
        }
        self.quota.has(count);
    }

    fn stay(&mut self, at: usize) -> usize {
        let Some(task) = self.list.get(at).copied() else {
            self.phase = Phase::Follow(0);
            return 1;
        };
        if let Some(member) = self.ran.get(&task).copied()
            && self.members[member].count() < self.active_quota.each()
        {
            self.give(member, task, true);
        }
        self.phase = Phase::Stay(at + 1);
        TASK_WORK
    }

    fn follow(&mut self, at: usize) -> usize {
        let Some((of, partition)) = self.list.get(at).copied() else {
            self.phase = Phase::Spread((0, 0));
            return 1;
        };
        self.phase = Phase::Follow(at + 1);
        let task = (of, partition);
        if self.given[of][partition as usize] {
            return 1;
        }
        if let Some(member) = self.least_of_those_who_keep(task, false)
            && self.members[member].count() < self.active_quota.each()
        {
            self.give(member, task, true);
        }
        TASK_WORK
    }

    /// Of those who have the state of a task who has least to do; none whose process has the task, if it is for another
    /// copy.
    fn least_of_those_who_keep(&self, task: Task, is_copy: bool) -> Option<usize> {
        let mut least: Option<(Load, usize, usize)> = None;
        for place in self.kept.get(&task)? {
            let member = &self.members[*place];
            let process = &self.processes[member.process];
            if is_copy && process.tasks.contains(&task) {
                continue;
            }
            let (load, count) = (process.load(), member.count());
            if least.is_none_or(|(of_least, most, _)| load < of_least && count < most) {
                least = Some((load, count, *place));
            }
        }
        least.map(|(.., place)| place)
    }

    fn spread(&mut self, (of, partition): Task) -> usize {
        let Some((_, tasks, _)) = self.subtopologies.get(of) else {
            let copies = self.standby_replicas > 0;
            self.phase = match copies {
                true => Phase::Keep(self.list.len()),
                false => Phase::Write(0),
            };
            return 1;
        };
        if partition >= *tasks {
            self.phase = Phase::Spread((of + 1, 0));
            return 1;
        }
        self.phase = Phase::Spread((of, partition + 1));
        if !self.given[of][partition as usize] {
            let least = self.by_load.first().map(|(_, at)| *at);
            if let Some(member) = least.and_then(|at| self.least_of(at)) {
                self.give(member, (of, partition), true);
            }
        }
        TASK_WORK
    }

    fn least_of(&self, process: usize) -> Option<usize> {
        self.processes[process]
            .members
            .first()
            .map(|(_, member)| *member)
    }

    fn keep(&mut self, more: usize) -> usize {
        let Some(at) = more.checked_sub(1) else {
            let last = self.subtopologies.len() - 1;
            self.phase = Phase::Copy(last, self.subtopologies[last].1 - 1);
            return 1;
        };
        self.phase = Phase::Keep(at);
        let task = self.list[at];
        if !self.subtopologies[task.0].2 {
            return 1;
        }
        for copy in 0..self.standby_replicas {
            let ran = self.ran.get(&task).copied();
            let ran = ran.filter(|it| {
                !self.processes[self.members[*it].process]
                    .tasks
                    .contains(&task)
            });
            let may = |this: &Self, it: &usize| this.members[*it].count() < this.quota.each();
            let found = ran.filter(|it| may(self, it)).or_else(|| {
                let kept = self.least_of_those_who_keep(task, true);
                kept.filter(|it| may(self, it))
            });
            let Some(member) = found else {
                self.copies[task.0][task.1 as usize] = self.standby_replicas - copy;
                break;
            };
            self.give(member, task, false);
        }
        TASK_WORK * self.standby_replicas
    }

    fn copy(&mut self, (of, partition): Task) -> usize {
        let Ok(at) = usize::try_from(partition) else {
            self.phase = match of.checked_sub(1) {
                Some(before) => Phase::Copy(before, self.subtopologies[before].1 - 1),
                None => Phase::Write(0),
            };
            return 1;
        };
        self.phase = Phase::Copy(of, partition - 1);
        let copies = self.copies[of][at];
        for _ in 0..copies {
            // It is in as many processes as it has copies, so that there are not many to be passed over.
            let mut lacking = self.by_load.iter().map(|(_, at)| *at);
            let least = lacking.find(|at| !self.processes[*at].tasks.contains(&(of, partition)));
            let Some(member) = least.and_then(|at| self.least_of(at)) else {
                break;
            };
            self.give(member, (of, partition), false);
        }
        1 + TASK_WORK * copies
    }

    fn write(
        &mut self,
        place: usize,
        state: &mut StreamsState,
        changes: &mut Changes<StreamsState>,
    ) -> usize {
        let member = &mut self.members[place];
        let by_subtopology = |all: &mut Vec<Task>| {
            let mut sets: BTreeMap<usize, Vec<i32>> = BTreeMap::new();
            for (of, partition) in std::mem::take(all) {
                sets.entry(of).or_default().push(partition);
            }
            let names = &self.subtopologies;
            super::tasks::TaskSet::of(sets.into_iter().map(|(of, all)| (names[of].0.clone(), all)))
        };
        let work = TASK_WORK + 2 * member.count();
        let target = Tasks {
            active: by_subtopology(&mut member.active),
            standby: by_subtopology(&mut member.standby),
            ..Tasks::default()
        };
        if state
            .target_as_it_is(&member.id)
            .is_none_or(|before| **before != target)
        {
            let change = StreamsChange::TargetOf(member.id.clone(), Some(Arc::new(target)));
            changes.make(state, change);
        }
        self.phase = Phase::Write(place + 1);
        work
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::consumer::{Changing, Held};
    use super::super::configure::ConfiguredSubtopology;
    use super::super::member::StreamsMember;
    use super::super::tasks::{HeldTasks, set_of};
    use super::*;
    use crate::base::Rng;

    fn topology(tasks: &[(i32, bool)]) -> Configured {
        let subtopologies = tasks.iter().enumerate();
        let subtopologies = subtopologies.map(|(at, (tasks, is_stateful))| ConfiguredSubtopology {
            id: Name::from(at.to_string()),
            tasks: *tasks,
            is_stateful: *is_stateful,
            inputs: Vec::new(),
        });
        Configured {
            subtopologies: subtopologies.collect(),
            ..Configured::default()
        }
    }

    fn group(members: &[(&str, &str)]) -> StreamsState {
        let mut state = StreamsState::default();
        for (id, process) in members {
            let member = StreamsMember {
                process: Name::from(*process),
                ..StreamsMember::default()
            };
            let change = StreamsChange::Member(Name::from(*id), Some(Arc::new(member)));
            drop(state.apply(change));
        }
        state
    }

    /// All members have their targets.
    fn reach(state: &mut StreamsState) {
        let ids: Vec<Name> = state.members().map(|(id, _)| id.clone()).collect();
        for id in &ids {
            drop(state.apply(StreamsChange::Current(id.clone(), None)));
        }
        for id in ids {
            let target = state.target(&id);
            let current = StreamsCurrent {
                assigned: HeldTasks {
                    active: Held::of(target.active.all().map(|(of, task)| (of, task, 1))),
                    standby: target.standby.clone(),
                    ..HeldTasks::default()
                },
                ..StreamsCurrent::default()
            };
            drop(state.apply(StreamsChange::Current(id, Some(Arc::new(current)))));
        }
    }

    fn assign(state: &mut StreamsState, configured: &Configured, replicas: usize, slice: usize) {
        let mut changes = Changes::default();
        let mut assigning = TaskAssignment::new(state, configured, replicas);
        while !assigning.go_on((state, &mut changes), &mut { slice }) {}
    }

    fn active(state: &StreamsState, id: &str) -> Vec<(String, i32)> {
        let target = state.target(id);
        target
            .active
            .all()
            .map(|(of, task)| (of.to_string(), task))
            .collect()
    }

    #[test]
    fn tasks_are_spread_over_processes_and_stay() {
        let mut state = group(&[("a1", "a"), ("a2", "a"), ("b1", "b")]);
        let configured = topology(&[(3, false), (3, false)]);
        assign(&mut state, &configured, 0, 1000);
        let counts = ["a1", "a2", "b1"].map(|id| active(&state, id).len());
        assert_eq!(counts, [2, 2, 2]);
        reach(&mut state);
        let before = ["a1", "a2", "b1"].map(|id| active(&state, id));
        drop(state.apply(StreamsChange::Member(
            Name::from("c1"),
            Some(Arc::default()),
        )));
        assign(&mut state, &configured, 0, 1000);
        let after = ["a1", "a2", "b1", "c1"].map(|id| active(&state, id));
        assert_eq!(after.iter().map(Vec::len).sum::<usize>(), 6);
        assert!(!after[3].is_empty());
        for (before, after) in before.iter().zip(&after) {
            assert!(
                after.iter().all(|task| before.contains(task)),
                "only who is new gets any"
            );
        }
    }

    #[test]
    fn a_standby_takes_over_and_no_process_has_a_task_twice() {
        let mut state = group(&[("a1", "a"), ("a2", "a"), ("b1", "b"), ("b2", "b")]);
        let configured = topology(&[(4, true), (2, false)]);
        assign(&mut state, &configured, 1, 1000);
        reach(&mut state);
        let standby = state.target("b1").standby.clone();
        assert!(standby.count() > 0);
        for gone in ["a1", "a2"] {
            for change in [
                StreamsChange::Current(Name::from(gone), None),
                StreamsChange::TargetOf(Name::from(gone), None),
                StreamsChange::Member(Name::from(gone), None),
            ] {
                drop(state.apply(change));
            }
        }
        assign(&mut state, &configured, 1, 1000);
        let follows = |id: &str| state.target(id).active.clone();
        for (of, task) in standby.all() {
            assert!(follows("b1").contains(of.clone(), task), "{of}-{task}");
        }
        let all = state.members().map(|(id, _)| state.target(id).count());
        assert_eq!(
            all.sum::<usize>(),
            6,
            "there is no other process for copies"
        );
    }

    /// However it is sliced: each task is run by one, each copy is in a process of its own, and nobody has much more
    /// than others.
    #[test]
    fn random_groups() {
        for seed in 0..300 {
            let mut rng = Rng::new(seed);
            let count = 1 + rng.below(7) as usize;
            let ids: Vec<(String, String)> = (0..count)
                .map(|at| (format!("m{at}"), format!("p{}", rng.below(4))))
                .collect();
            let named: Vec<(&str, &str)> = ids.iter().map(|(a, b)| (&**a, &**b)).collect();
            let mut state = group(&named);
            let processes = ids
                .iter()
                .map(|(_, process)| process)
                .collect::<BTreeSet<_>>()
                .len();
            for _ in 0..4 {
                let tasks: Vec<(i32, bool)> = (0..1 + rng.below(4))
                    .map(|_| (1 + rng.below(9) as i32, rng.chance(1, 2)))
                    .collect();
                let replicas = rng.below(3) as usize;
                let configured = topology(&tasks);
                assign(
                    &mut state,
                    &configured,
                    replicas,
                    1 + rng.below(50) as usize,
                );
                let mut runs: BTreeMap<(Name, i32), usize> = BTreeMap::new();
                let mut copies: BTreeMap<(Name, i32), BTreeSet<Name>> = BTreeMap::new();
                let mut most = (0, usize::MAX);
                for (id, member) in state.members() {
                    let target = state.target(id);
                    most = (most.0.max(target.count()), most.1.min(target.count()));
                    target
                        .active
                        .all()
                        .for_each(|task| *runs.entry(task).or_default() += 1);
                    for task in target.active.all().chain(target.standby.all()) {
                        let is_new = copies
                            .entry(task)
                            .or_default()
                            .insert(member.process.clone());
                        assert!(is_new, "a process has a task once");
                    }
                }
                let wanted: i32 = tasks.iter().map(|(tasks, _)| tasks).sum();
                assert_eq!(runs.len(), wanted as usize, "seed {seed}");
                assert!(runs.values().all(|count| *count == 1), "seed {seed}");
                for ((of, _), places) in &copies {
                    let is_stateful = tasks[of.parse::<usize>().unwrap()].1;
                    let wanted = if is_stateful { 1 + replicas } else { 1 };
                    assert_eq!(places.len(), wanted.min(processes), "seed {seed}");
                }
                if processes == count && replicas == 0 {
                    assert!(most.0 - most.1 <= 1, "seed {seed}: {most:?}");
                }
                reach(&mut state);
            }
        }
    }

    #[test]
    fn nobody_has_anything_where_there_are_no_tasks() {
        let mut state = group(&[("a", "a")]);
        assign(&mut state, &topology(&[]), 1, 1000);
        assert!(state.target_as_it_is("a").is_some_and(|it| it.is_empty()));
        let one = set_of([(Name::from("0"), 0)]);
        assign(&mut state, &topology(&[(1, false)]), 1, 1);
        assert_eq!(state.target("a").active, one);
    }
}
