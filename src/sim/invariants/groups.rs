//! What the group coordinator promises.

use super::invariant::{By, Growing, Invariant};
use crate::sim::fact::{Coordinator, Fact, Moment, Place};

/// A committed offset that is read is the last one acknowledged before, or one sent after that.
#[derive(Debug, Default)]
pub struct CommittedOffsetSurvives {
    acked: By<(u32, Place), Growing>,
    sent: By<(u32, Place), By<i64, ()>>,
}

impl Invariant for CommittedOffsetSurvives {
    fn name(&self) -> &'static str {
        "CommittedOffsetSurvives"
    }

    fn see(&mut self, now: Moment, fact: &Fact<'_>) -> Result<(), String> {
        match *fact {
            Fact::Committing { group, at, offset } => {
                let sent = self.sent.entry((group, at)).or_default();
                sent.insert(offset, ());
            }
            Fact::Committed { group, at, offset } => {
                self.acked
                    .entry((group, at))
                    .or_default()
                    .learn(now, offset);
            }
            Fact::CommitRead {
                group,
                at,
                asked,
                offset,
            } => {
                let acked = self.acked.get(&(group, at)).and_then(|a| a.at(asked));
                let sent = self.sent.get(&(group, at));
                let was_sent = sent.is_some_and(|sent| sent.contains_key(&offset));
                if offset < acked.unwrap_or(-1) || (offset != -1 && !was_sent) {
                    return Err(format!(
                        "group {group}, {at}: read {offset}, acknowledged was {acked:?}"
                    ));
                }
                // Having been read it must not go back either.
                if offset >= 0 {
                    self.acked
                        .entry((group, at))
                        .or_default()
                        .learn(now, offset);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// In one generation a member gets the assignment that the leader gave it.
#[derive(Debug, Default)]
pub struct AssignmentsAgree {
    given: By<(u32, Coordinator, i32, String), Vec<u8>>,
}

impl Invariant for AssignmentsAgree {
    fn name(&self) -> &'static str {
        "AssignmentsAgree"
    }

    fn see(&mut self, _now: Moment, fact: &Fact<'_>) -> Result<(), String> {
        match *fact {
            Fact::Assigning {
                group,
                coordinator,
                generation,
                member,
                assignment,
            } => {
                let key = (group, coordinator, generation, member.to_owned());
                let before = self
                    .given
                    .entry(key)
                    .or_insert_with(|| assignment.to_owned());
                if before != assignment {
                    return Err(format!(
                        "group {group}, generation {generation}: two leaders"
                    ));
                }
            }
            Fact::Assigned {
                group,
                coordinator,
                generation,
                member,
                assignment,
            } => {
                let key = (group, coordinator, generation, member.to_owned());
                // A generation that was finished before the last start is not known here.
                if let Some(given) = self.given.get(&key)
                    && given != assignment
                {
                    return Err(format!(
                        "group {group}, generation {generation}: {member} was given {given:?} and told {assignment:?}"
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
