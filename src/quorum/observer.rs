//! A replica of the metadata log that has no vote: it pulls what is committed from any voter.

use std::collections::VecDeque;

use super::entry::{EntryId, EntryIndex, HardState, Payload, QuorumEntry, SnapshotMark};
use super::message::{QuorumMessage, Says};
use super::ready::{QuorumFault, QuorumInput, QuorumRole, Ready, Write};
use super::voter::Restored;
use super::voters::{ReplicaKey, Voters};
use crate::base::{LeaderEpoch, Mono};

/// See the module. It has the interface of a [`Quorum`](super::Quorum), as far as it goes.
#[derive(Debug)]
pub struct Observer {
    me: ReplicaKey,
    voters: Voters,
    /// Which of them is asked.
    asked: usize,
    /// How long for, ms.
    patience_ms: u64,
    /// When another one is asked.
    due: Mono,
    /// The last entry that was handed out.
    last: EntryId,
    /// What the disk has behind it since this replica had a vote, and may be committed or not.
    tail: VecDeque<QuorumEntry>,
    /// What it has promised when it had one: if it has one again, it has to know.
    state: HardState,
    fetching: Option<SnapshotMark>,
    role: QuorumRole,
    numbers: u64,
    out: Ready,
}

impl Observer {
    /// A process starts with what its disk has, and hands out first what is known to be committed of the entries behind
    /// the snapshot. Who does not answer for `patience_ms` is asked no more.
    #[must_use]
    pub fn new(me: ReplicaKey, patience_ms: u64, restored: Restored, now: Mono) -> Self {
        let Restored {
            state,
            snapshot,
            entries,
        } = restored;
        let mut observer = Self {
            me,
            voters: snapshot.voters,
            asked: 0,
            patience_ms,
            due: now,
            last: snapshot.id,
            tail: entries.into(),
            state,
            fetching: None,
            role: QuorumRole::Follower {
                term: LeaderEpoch(0),
                leader: None,
            },
            numbers: 0,
            out: Ready::default(),
        };
        observer
            .tail
            .retain(|entry| entry.id.index > snapshot.id.index);
        observer.reach(snapshot.id);
        observer.hand_out_tail(state.commit);
        observer
    }

    /// All up to here is committed. What is of a term that it has not heard of it has not voted in.
    fn reach(&mut self, id: EntryId) {
        self.last = id;
        self.state.commit = self.state.commit.max(id.index);
        if id.term > self.state.term {
            self.state.term = id.term;
            self.state.vote = None;
        }
    }

    fn hand_out(&mut self, entry: QuorumEntry) {
        self.reach(entry.id);
        if let Payload::Voters(voters) = &entry.payload {
            self.voters = voters.clone();
        }
        self.out.committed.push(entry);
    }

    /// What is on the disk up to here is committed.
    fn hand_out_tail(&mut self, end: EntryIndex) {
        let count = self.tail.partition_point(|entry| entry.id.index <= end);
        let kept = self.tail.split_off(count);
        for entry in std::mem::replace(&mut self.tail, kept) {
            self.hand_out(entry);
        }
    }

    /// Something has happened: time, a message, or a snapshot's contents are here. All else is not for an observer.
    pub fn step(&mut self, now: Mono, input: QuorumInput) {
        match input {
            QuorumInput::Time if now >= self.due => {
                self.asked += 1;
                self.pull(now);
            }
            QuorumInput::Gone(who) if who == self.whom() => self.due = now,
            QuorumInput::Message(message) if message.to == self.me && message.is_sound() => {
                self.on_message(now, message);
            }
            QuorumInput::Fetched(id) => {
                let is_it = |mark: &mut SnapshotMark| id.is_none_or(|id| id == mark.id);
                let Some(mark) = self.fetching.take_if(is_it).filter(|_| id.is_some()) else {
                    return;
                };
                if mark.id > self.last {
                    self.reach(mark.id);
                    self.tail.clear();
                    self.voters = mark.voters.clone();
                    let write = self.write();
                    write.entries.clear();
                    write.truncate = None;
                    write.snapshot = Some(mark.clone());
                    self.out.committed.clear();
                    self.out.installed = Some(mark);
                }
                self.pull(now);
            }
            _ => {}
        }
    }

    /// What is wanted for all that has happened, and nothing of it again. Entries need not be on the disk before they
    /// are used: they are committed. A snapshot has to be.
    pub fn ready(&mut self) -> Ready {
        if let Some(write) = &mut self.out.write {
            write.state = self.state;
        }
        std::mem::take(&mut self.out)
    }

    /// When [`QuorumInput::Time`] is due.
    #[must_use]
    pub const fn wake_at(&self) -> Mono {
        self.due
    }

    /// Up to here entries were handed out.
    #[must_use]
    pub const fn last(&self) -> EntryIndex {
        self.last.index
    }

    fn whom(&self) -> ReplicaKey {
        let at = self.asked % self.voters.len();
        self.voters.iter().nth(at).unwrap_or(self.me)
    }

    fn pull(&mut self, now: Mono) {
        self.due = now.plus_ms(self.patience_ms);
        let pull = QuorumMessage {
            from: self.me,
            to: self.whom(),
            term: self.last.term,
            says: Says::Pull { last: self.last },
        };
        self.out.messages.push(pull);
    }

    fn write(&mut self) -> &mut Write {
        let numbers = &mut self.numbers;
        self.out.write.get_or_insert_with(|| {
            *numbers += 1;
            Write {
                number: *numbers,
                ..Write::default()
            }
        })
    }

    /// The next committed entry. It may be on the disk, or something else may be there.
    fn take(&mut self, entry: QuorumEntry) {
        match self.tail.pop_front() {
            Some(there) if there.id == entry.id => {}
            there => {
                self.tail.clear();
                let write = self.write();
                write.truncate = write.truncate.or(there.map(|there| there.id.index));
                write.entries.push(entry.clone());
            }
        }
        self.hand_out(entry);
    }

    fn on_message(&mut self, now: Mono, message: QuorumMessage) {
        let QuorumMessage {
            from, term, says, ..
        } = message;
        match says {
            Says::Pulled {
                leader,
                prev,
                entries,
            } => {
                let role = QuorumRole::Follower { term, leader };
                if let QuorumRole::Follower { term: known, .. } = self.role
                    && known <= term
                    && role != self.role
                {
                    self.role = role;
                    self.out.role = Some(role);
                }
                if prev.index == self.last.index && prev != self.last {
                    self.out.fault.get_or_insert(QuorumFault::Diverged(prev));
                }
                // What was asked for twice is answered twice.
                if prev != self.last || entries.is_empty() {
                    return;
                }
                for entry in entries {
                    self.take(entry);
                }
                self.pull(now);
            }
            Says::Outdated(mark) => {
                if self.tail.iter().any(|entry| entry.id == mark.id) {
                    self.hand_out_tail(mark.id.index);
                    return self.pull(now);
                }
                let wanted = self.fetching.as_ref().map_or(self.last, |it| it.id);
                if mark.id > wanted.max(self.last) {
                    self.fetching = Some(mark.clone());
                    self.out.fetch = Some((from, mark));
                }
            }
            _ => {}
        }
    }
}
