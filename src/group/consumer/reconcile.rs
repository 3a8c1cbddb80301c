//! How a member gets from what it has to what it is to have: first it gives up, then it is given what nobody else has
//! any more. As `CurrentAssignmentBuilder` of Kafka 4.4 does it, but that there is always a target by what members are
//! subscribed to.

use super::member::{Current, MemberState};
use super::partitions::{Held, Partitions};
use crate::base::{ErrorCode, TopicId};

/// The target of a member.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Its epoch.
    pub epoch: i32,
    /// What is to be the member's.
    pub partitions: &'a Partitions,
    /// It has become less, in the same epoch.
    pub is_narrowed: bool,
}

/// The next step of a member, which may be where it is.
///
/// # Errors
/// FENCED_MEMBER_EPOCH if nobody knows what it has, and it does not say that this is nothing.
pub fn reconcile(
    current: &Current,
    target: Target<'_>,
    owned: Option<&Partitions>,
    is_of_another: impl Fn(TopicId, i32) -> bool,
) -> Result<Current, ErrorCode> {
    if current.is_reconciled_to(target.epoch) && !target.is_narrowed {
        return Ok(current.clone());
    }
    let next = |epoch| Ok(next_step(current, epoch, target, owned, &is_of_another));
    match current.state {
        MemberState::Stable | MemberState::UnreleasedPartitions => next(current.epoch),
        // It has given up what it does not name any more.
        MemberState::UnrevokedPartitions if still_owns(owned, &current.revoking) => {
            Ok(current.clone())
        }
        MemberState::UnrevokedPartitions => next(current.epoch),
        MemberState::Unknown if owned.is_none_or(|owned| !owned.is_empty()) => {
            Err(ErrorCode::FencedMemberEpoch)
        }
        MemberState::Unknown => next(target.epoch),
    }
}

/// Whether a member has some of these, as far as it has said.
fn still_owns(owned: Option<&Partitions>, these: &Held) -> bool {
    owned.is_none_or(|owned| these.meets(owned))
}

fn next_step(
    current: &Current,
    epoch: i32,
    target: Target<'_>,
    owned: Option<&Partitions>,
    is_of_another: &impl Fn(TopicId, i32) -> bool,
) -> Current {
    let is_to_stay = |(topic, partition, _): &(TopicId, i32, i32)| {
        target.partitions.contains(*topic, *partition)
    };
    let held = || current.assigned.all();
    let revoking = Held::of(held().filter(|it| !is_to_stay(it)));
    let assigned = Held::of(held().filter(is_to_stay));
    if !revoking.is_empty() && still_owns(owned, &revoking) {
        return Current {
            state: MemberState::UnrevokedPartitions,
            assigned,
            revoking,
            ..current.in_epoch(epoch)
        };
    }
    let new = target.partitions.all();
    let new = new.filter(|(topic, partition)| assigned.epoch_of(*topic, *partition).is_none());
    let mut lacks = false;
    let given = new.filter(|(topic, partition)| {
        let is_taken = is_of_another(*topic, *partition);
        lacks |= is_taken;
        !is_taken
    });
    let given: Vec<_> = given.map(|(topic, of)| (topic, of, target.epoch)).collect();
    let assigned = Held::of(assigned.all().chain(given));
    Current {
        state: match lacks {
            true => MemberState::UnreleasedPartitions,
            false => MemberState::Stable,
        },
        assigned,
        revoking: Held::default(),
        ..current.in_epoch(target.epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: TopicId = TopicId([1; 16]);

    fn held(partitions: &[i32], epoch: i32) -> Held {
        Held::of(partitions.iter().map(|p| (T, *p, epoch)))
    }

    fn set(partitions: &[i32]) -> Partitions {
        let mut set = Partitions::default();
        set.add(T, partitions.iter().copied());
        set
    }

    fn step(current: &Current, target: &[i32], owned: Option<&[i32]>, others: &[i32]) -> Current {
        let target = set(target);
        let target = Target {
            epoch: 5,
            partitions: &target,
            is_narrowed: false,
        };
        let owned = owned.map(set);
        let of_another = |_, partition| others.contains(&partition);
        reconcile(current, target, owned.as_ref(), of_another).unwrap()
    }

    #[test]
    fn it_gives_up_before_it_is_given_and_waits_for_others() {
        let before = Current {
            epoch: 4,
            previous_epoch: 3,
            state: MemberState::Stable,
            assigned: held(&[1, 2], 4),
            revoking: Held::default(),
        };
        let revoking = step(&before, &[2, 3, 4], None, &[4]);
        assert_eq!(revoking.state, MemberState::UnrevokedPartitions);
        assert_eq!((revoking.epoch, &revoking.assigned), (4, &held(&[2], 4)));
        assert_eq!(revoking.revoking, held(&[1], 4));
        for owned in [None, Some(&[1, 2][..]), Some(&[1])] {
            assert_eq!(step(&revoking, &[2, 3, 4], owned, &[4]), revoking);
        }
        let lacking = step(&revoking, &[2, 3, 4], Some(&[2]), &[4]);
        assert_eq!(lacking.state, MemberState::UnreleasedPartitions);
        let all: Vec<_> = lacking.assigned.all().map(|(_, p, at)| (p, at)).collect();
        assert_eq!((lacking.epoch, &*all), (5, &[(2, 4), (3, 5)][..]));
        assert_eq!(
            step(&lacking, &[2, 3, 4], None, &[4]).assigned,
            lacking.assigned
        );
        let stable = step(&lacking, &[2, 3, 4], None, &[]);
        assert_eq!(stable.state, MemberState::Stable);
        assert_eq!(stable.assigned.count(), 3);
        assert_eq!(step(&stable, &[2, 3, 4], None, &[]), stable);
    }

    #[test]
    fn who_says_at_once_that_it_has_given_up_goes_on_at_once() {
        let before = Current {
            epoch: 4,
            assigned: held(&[1], 4),
            ..Current::default()
        };
        let after = step(&before, &[2], Some(&[]), &[]);
        assert_eq!((after.state, after.epoch), (MemberState::Stable, 5));
        assert_eq!(after.assigned, held(&[2], 5));
    }

    #[test]
    fn of_a_state_that_is_not_known_it_starts_anew() {
        let before = Current {
            epoch: 4,
            state: MemberState::Unknown,
            ..Current::default()
        };
        let target = set(&[1]);
        let target = Target {
            epoch: 5,
            partitions: &target,
            is_narrowed: false,
        };
        let fenced = reconcile(&before, target, None, |_, _| false);
        assert_eq!(fenced, Err(ErrorCode::FencedMemberEpoch));
        assert_eq!(step(&before, &[1], Some(&[]), &[]).epoch, 5);
    }
}
