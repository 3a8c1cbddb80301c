//! How a member gets from the tasks that it has to those that it is to have: first it gives up, then it is given what
//! nobody else runs any more. As `CurrentAssignmentBuilder` of Kafka 4.4 does it.

use super::super::consumer::{Held, MemberState};
use super::member::StreamsCurrent;
use super::tasks::{HeldTasks, Loose, Tasks, loose, set_of};
use crate::base::{ErrorCode, Name};

/// What keeps a task from being given to the member.
pub trait TaskHolders {
    /// Another member runs it, or has not given it up yet.
    fn runs_elsewhere(&self, of: &Name, task: i32) -> bool;

    /// Another member of the same process runs it; and one has it as a replica: a process keeps the state of a task
    /// once.
    fn is_in_process(&self, of: &Name, task: i32) -> (bool, bool);
}

/// The next step of a member, which may be where it is. What it has is known only if it says so of all roles.
///
/// # Errors
/// FENCED_MEMBER_EPOCH if nobody knows what it has, and it does not say that this is nothing.
pub fn reconcile(
    current: &StreamsCurrent,
    (target_epoch, target): (i32, &Tasks),
    owned: Option<&Tasks>,
    holders: &dyn TaskHolders,
) -> Result<StreamsCurrent, ErrorCode> {
    if current.is_reconciled_to(target_epoch) {
        return Ok(current.clone());
    }
    let next = |epoch| {
        let step = Step {
            current,
            target,
            target_epoch,
            owned,
            holders,
        };
        Ok(step.take(epoch))
    };
    match current.state {
        MemberState::Stable | MemberState::UnreleasedPartitions => next(current.epoch),
        MemberState::UnrevokedPartitions if still_has(owned, &current.revoking) => {
            Ok(current.clone())
        }
        // An epoch of its own, so that what it said before is not taken for what it says now.
        MemberState::UnrevokedPartitions => next(current.epoch.saturating_add(1)),
        MemberState::Unknown if owned.is_none_or(|owned| !owned.is_empty()) => {
            Err(ErrorCode::FencedMemberEpoch)
        }
        MemberState::Unknown => next(target_epoch),
    }
}

/// Whether a member has some of these, as far as it has said.
fn still_has(owned: Option<&Tasks>, these: &HeldTasks) -> bool {
    owned.is_none_or(|owned| these.meets(owned))
}

struct Step<'a> {
    current: &'a StreamsCurrent,
    target: &'a Tasks,
    target_epoch: i32,
    owned: Option<&'a Tasks>,
    holders: &'a dyn TaskHolders,
}

/// What becomes of the tasks of a role.
struct Moves {
    kept: Loose,
    revoked: Loose,
    given: Loose,
}

impl Step<'_> {
    fn take(&self, epoch: i32) -> StreamsCurrent {
        let had = &self.current.assigned;
        let active_had: Loose = had.active.all().map(|(of, task, _)| (of, task)).collect();
        let (standby_had, warmup_had) = (loose(&had.standby), loose(&had.warmup));
        let active_target = loose(&self.target.active);
        let mut lacks = false;
        let active = moves(&active_had, &active_target, &mut lacks, |of, task| {
            let (_, replica) = self.holders.is_in_process(of, task);
            self.holders.runs_elsewhere(of, task) || replica
        });
        let replicated = |of: &Name, task: i32| {
            let (active, replica) = self.holders.is_in_process(of, task);
            active || replica
        };
        let standby_target = loose(&self.target.standby);
        let mut standby = moves(&standby_had, &standby_target, &mut lacks, replicated);
        let warmup_target = loose(&self.target.warmup);
        let mut warmup = moves(&warmup_had, &warmup_target, &mut lacks, replicated);
        // A member that stops to run a task, and keeps its state, is given that at once: it is there.
        let demoted: Loose = standby.given.intersection(&active_had).cloned().collect();
        standby.kept_at_once(demoted);
        // So is one that keeps it for another purpose, and gives nothing up for it.
        let warmed: Loose = warmup.given.intersection(&standby_had).cloned().collect();
        standby.revoked.retain(|task| !warmed.contains(task));
        warmup.kept_at_once(warmed);
        let cooled: Loose = standby.given.intersection(&warmup_had).cloned().collect();
        warmup.revoked.retain(|task| !cooled.contains(task));
        standby.kept_at_once(cooled);
        // What becomes active is not given up either, and kept as it is until it does.
        standby.revoked.retain(|task| !active_target.contains(task));
        warmup.revoked.retain(|task| !active_target.contains(task));
        let revoking = HeldTasks {
            active: self.held(&active.revoked),
            standby: set_of(standby.revoked),
            warmup: set_of(warmup.revoked),
        };
        let has_to_revoke = !revoking.is_empty() && still_has(self.owned, &revoking);
        let stays = |task: &&(Name, i32)| {
            let is_promoted_now = !has_to_revoke && active.given.contains(*task);
            active_target.contains(*task) && !is_promoted_now
        };
        standby
            .kept
            .extend(standby_had.iter().filter(stays).cloned());
        warmup.kept.extend(warmup_had.iter().filter(stays).cloned());
        let (epoch, previous_epoch) = match has_to_revoke {
            true => (epoch, self.current.epoch),
            false => (self.target_epoch, self.current.epoch),
        };
        if has_to_revoke {
            return StreamsCurrent {
                epoch,
                previous_epoch,
                state: MemberState::UnrevokedPartitions,
                assigned: HeldTasks {
                    active: self.held(&active.kept),
                    standby: set_of(standby.kept),
                    warmup: set_of(warmup.kept),
                },
                revoking,
            };
        }
        standby.kept.extend(standby.given);
        warmup.kept.extend(warmup.given);
        let kept = self.held(&active.kept);
        let given = active.given.into_iter();
        let given = given.map(|(of, task)| (of, task, self.target_epoch));
        StreamsCurrent {
            epoch,
            previous_epoch,
            state: match lacks {
                true => MemberState::UnreleasedPartitions,
                false => MemberState::Stable,
            },
            assigned: HeldTasks {
                active: Held::of(kept.all().chain(given)),
                standby: set_of(standby.kept),
                warmup: set_of(warmup.kept),
            },
            revoking: HeldTasks::default(),
        }
    }

    /// Active tasks that it has, each with the epoch in which it was given.
    fn held(&self, tasks: &Loose) -> Held<Name> {
        let all = self.current.assigned.active.all();
        Held::of(all.filter(|(of, task, _)| tasks.contains(&(of.clone(), *task))))
    }
}

impl Moves {
    /// These are among what it has from now on, and not given later.
    fn kept_at_once(&mut self, tasks: Loose) {
        for task in tasks {
            self.given.remove(&task);
            self.kept.insert(task);
        }
    }
}

fn moves(
    had: &Loose,
    target: &Loose,
    lacks: &mut bool,
    is_held: impl Fn(&Name, i32) -> bool,
) -> Moves {
    let given = target.difference(had).filter(|(of, task)| {
        let is_held = is_held(of, *task);
        *lacks |= is_held;
        !is_held
    });
    Moves {
        kept: had.intersection(target).cloned().collect(),
        revoked: had.difference(target).cloned().collect(),
        given: given.cloned().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tasks of one subtopology that another member runs, or has as replicas in the same process.
    #[derive(Default)]
    struct Others {
        run: Vec<i32>,
        beside: Vec<i32>,
    }

    impl TaskHolders for Others {
        fn runs_elsewhere(&self, _: &Name, task: i32) -> bool {
            self.run.contains(&task)
        }

        fn is_in_process(&self, _: &Name, task: i32) -> (bool, bool) {
            (false, self.beside.contains(&task))
        }
    }

    fn name() -> Name {
        Name::from("0")
    }

    fn tasks(active: &[i32], standby: &[i32]) -> Tasks {
        let set = |all: &[i32]| set_of(all.iter().map(|task| (name(), *task)));
        Tasks {
            active: set(active),
            standby: set(standby),
            ..Tasks::default()
        }
    }

    fn held(active: &[i32], epoch: i32, standby: &[i32]) -> HeldTasks {
        HeldTasks {
            active: Held::of(active.iter().map(|task| (name(), *task, epoch))),
            standby: tasks(&[], standby).standby,
            ..HeldTasks::default()
        }
    }

    fn has(epoch: i32, assigned: HeldTasks) -> StreamsCurrent {
        StreamsCurrent {
            epoch,
            previous_epoch: epoch - 1,
            assigned,
            ..StreamsCurrent::default()
        }
    }

    fn step(
        current: &StreamsCurrent,
        target: &Tasks,
        owned: Option<&Tasks>,
        others: &Others,
    ) -> StreamsCurrent {
        reconcile(current, (7, target), owned, others).unwrap()
    }

    #[test]
    fn it_gives_up_before_it_is_given_and_waits_for_others() {
        let others = Others {
            run: vec![4],
            ..Others::default()
        };
        let target = tasks(&[2, 3, 4], &[]);
        let before = has(4, held(&[1, 2], 4, &[]));
        let revoking = step(&before, &target, None, &others);
        assert_eq!(revoking.state, MemberState::UnrevokedPartitions);
        assert_eq!(
            (revoking.epoch, &revoking.assigned),
            (4, &held(&[2], 4, &[]))
        );
        assert_eq!(revoking.revoking, held(&[1], 4, &[]));
        for owned in [None, Some(tasks(&[1, 2], &[])), Some(tasks(&[1], &[]))] {
            assert_eq!(step(&revoking, &target, owned.as_ref(), &others), revoking);
        }
        let lacking = step(&revoking, &target, Some(&tasks(&[2], &[])), &others);
        assert_eq!(
            (lacking.epoch, lacking.state),
            (7, MemberState::UnreleasedPartitions)
        );
        let active: Vec<_> = lacking
            .assigned
            .active
            .all()
            .map(|(_, task, at)| (task, at))
            .collect();
        assert_eq!(active, [(2, 4), (3, 7)]);
        let stable = step(&lacking, &target, None, &Others::default());
        assert_eq!(
            (stable.state, stable.assigned.count()),
            (MemberState::Stable, 3)
        );
        assert_eq!(step(&stable, &target, None, &others), stable);
    }

    #[test]
    fn what_it_runs_becomes_a_standby_at_once_and_the_other_way_round_when_it_may() {
        let before = has(4, held(&[1], 4, &[2]));
        let others = Others {
            run: vec![2],
            ..Others::default()
        };
        let target = tasks(&[2], &[1]);
        let revoking = step(&before, &target, None, &others);
        assert_eq!(revoking.assigned, held(&[], 4, &[1, 2]), "both are kept");
        assert_eq!(
            revoking.revoking,
            held(&[1], 4, &[]),
            "and one is run no more"
        );
        let waiting = step(&revoking, &target, Some(&tasks(&[], &[1, 2])), &others);
        assert_eq!(waiting.state, MemberState::UnreleasedPartitions);
        assert_eq!(waiting.assigned, held(&[], 4, &[1, 2]));
        let all = step(&waiting, &target, None, &Others::default());
        assert_eq!(
            (all.state, &all.assigned),
            (MemberState::Stable, &held(&[2], 7, &[1]))
        );
    }

    #[test]
    fn a_process_keeps_the_state_of_a_task_once() {
        let others = Others {
            beside: vec![1],
            ..Others::default()
        };
        for target in [tasks(&[1], &[]), tasks(&[], &[1])] {
            let lacking = step(&has(4, HeldTasks::default()), &target, None, &others);
            assert_eq!(lacking.state, MemberState::UnreleasedPartitions);
            assert!(lacking.assigned.is_empty());
        }
    }

    #[test]
    fn of_a_state_that_is_not_known_it_starts_anew() {
        let before = StreamsCurrent {
            state: MemberState::Unknown,
            ..has(4, HeldTasks::default())
        };
        let target = tasks(&[1], &[]);
        let fenced = reconcile(&before, (7, &target), None, &Others::default());
        assert_eq!(fenced, Err(ErrorCode::FencedMemberEpoch));
        assert_eq!(
            step(
                &before,
                &target,
                Some(&Tasks::default()),
                &Others::default()
            )
            .epoch,
            7
        );
    }
}
