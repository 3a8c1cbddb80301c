//! The log in memory: the entries since the last snapshot, and which of them are on the disk.

use std::collections::VecDeque;
use std::fmt;

use super::entry::{EntryId, EntryIndex, Payload, QuorumEntry, SnapshotMark};
use super::voters::{ReplicaKey, Voters};

/// What a disk has given back cannot have been written by a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestoreError(pub(super) &'static str);

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the metadata log cannot be used: {}", self.0)
    }
}

impl std::error::Error for RestoreError {}

/// See the module.
#[derive(Debug)]
pub(super) struct RaftLog {
    /// The entry before the first one that is kept.
    before: EntryId,
    /// The newest snapshot, which is not before that.
    snapshot: SnapshotMark,
    entries: VecDeque<QuorumEntry>,
    bytes: usize,
    /// Up to here it is on the disk.
    durable: EntryIndex,
    /// Who has a vote from where on: behind the snapshot, and behind each entry that says so.
    voters: Vec<(EntryIndex, Voters)>,
}

impl RaftLog {
    /// What the disk has: a snapshot, which may be the empty one that a quorum begins with, and all entries that follow
    /// it; those before it are not needed.
    ///
    /// # Errors
    /// There is a gap, or terms go back.
    pub fn restored(
        snapshot: SnapshotMark,
        entries: Vec<QuorumEntry>,
    ) -> Result<Self, RestoreError> {
        let mut log = Self::new(snapshot);
        for entry in entries {
            let (last, id) = (log.last(), entry.id);
            if id.index < log.before.index {
                continue;
            }
            if id.index == log.before.index {
                if id != log.before {
                    return Err(RestoreError("entries are not those of the snapshot"));
                }
                continue;
            }
            if id.index != last.index.next() || id.term < last.term {
                return Err(RestoreError("entries do not follow each other"));
            }
            log.append(entry);
        }
        log.durable = log.last().index;
        Ok(log)
    }

    fn new(snapshot: SnapshotMark) -> Self {
        Self {
            before: snapshot.id,
            voters: vec![(snapshot.id.index, snapshot.voters.clone())],
            snapshot,
            entries: VecDeque::new(),
            bytes: 0,
            durable: EntryIndex::ZERO,
        }
    }

    /// A snapshot takes the place of all of it. Nothing of it is on the disk yet.
    pub fn replace(&mut self, snapshot: SnapshotMark) {
        *self = Self::new(snapshot);
    }

    /// The entry before the first one that is kept.
    pub const fn before(&self) -> EntryId {
        self.before
    }

    /// The last entry.
    pub fn last(&self) -> EntryId {
        self.entries.back().map_or(self.before, |entry| entry.id)
    }

    /// The newest snapshot.
    pub const fn snapshot(&self) -> &SnapshotMark {
        &self.snapshot
    }

    /// What its entries take, in bytes.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Up to here it is on the disk.
    pub const fn durable(&self) -> EntryIndex {
        self.durable
    }

    /// The disk has it up to here.
    pub fn set_durable(&mut self, index: EntryIndex) {
        self.durable = self.durable.max(index.min(self.last().index));
    }

    /// Who has a vote by what the log says last, committed or not.
    pub fn voters(&self) -> &Voters {
        &self.voters[self.voters.len() - 1].1
    }

    /// Who has a vote by what the log says up to this place, and who would by each entry behind it.
    fn voters_from(&self, index: EntryIndex) -> &[(EntryIndex, Voters)] {
        let in_force = self.voters.partition_point(|(since, _)| *since <= index);
        &self.voters[in_force.saturating_sub(1)..]
    }

    /// Whether a replica has a vote, or had one before a change that is not committed.
    pub fn may_have_vote(&self, replica: ReplicaKey, commit: EntryIndex) -> bool {
        let mut sets = self.voters_from(commit).iter();
        sets.any(|(_, voters)| voters.contains(replica))
    }

    /// Who has a vote by what the log says up to this place.
    pub fn voters_at(&self, index: EntryIndex) -> &Voters {
        &self.voters_from(index)[0].1
    }

    /// What a snapshot up to this place is of, if the entry is kept.
    pub fn mark(&self, index: EntryIndex) -> Option<SnapshotMark> {
        let voters = self.voters_at(index).clone();
        self.id(index).map(|id| SnapshotMark { id, voters })
    }

    /// The entry that says so, or the snapshot.
    pub fn voters_since(&self) -> EntryIndex {
        self.voters[self.voters.len() - 1].0
    }

    fn at(&self, index: EntryIndex) -> Option<usize> {
        index
            .0
            .checked_sub(self.before.index.0 + 1)
            .map(|at| at as usize)
    }

    /// The entry at this place.
    pub fn get(&self, index: EntryIndex) -> Option<&QuorumEntry> {
        self.entries.get(self.at(index)?)
    }

    /// Which entry is at this place, if it is kept or is the one before.
    pub fn id(&self, index: EntryIndex) -> Option<EntryId> {
        if index == self.before.index {
            return Some(self.before);
        }
        self.get(index).map(|entry| entry.id)
    }

    /// Whether this entry is in the log, as far as it is kept.
    pub fn has(&self, id: EntryId) -> bool {
        self.id(id.index) == Some(id)
    }

    /// Entries from this place on and up to `end`, as many as have so many bytes but one at least.
    pub fn read(&self, from: EntryIndex, end: EntryIndex, bytes: usize) -> Vec<QuorumEntry> {
        let mut read = Vec::new();
        let mut left = bytes;
        let kept = self.at(from).into_iter();
        for entry in kept.flat_map(|at| self.entries.iter().skip(at)) {
            if entry.id.index > end || (entry.cost() > left && !read.is_empty()) {
                break;
            }
            left = left.saturating_sub(entry.cost());
            read.push(entry.clone());
        }
        read
    }

    /// Adds an entry, which is the next one.
    pub fn append(&mut self, entry: QuorumEntry) {
        debug_assert_eq!(entry.id.index, self.last().index.next());
        if let Payload::Voters(voters) = &entry.payload {
            self.voters.push((entry.id.index, voters.clone()));
        }
        self.bytes += entry.cost();
        self.entries.push_back(entry);
    }

    /// Gives up the entries from this place on.
    pub fn truncate(&mut self, from: EntryIndex) {
        let keep = self.at(from).unwrap_or(0);
        for entry in self.entries.drain(keep.min(self.entries.len())..) {
            self.bytes -= entry.cost();
        }
        let last = self.last().index;
        self.voters.retain(|(since, _)| *since <= last);
        self.durable = self.durable.min(last);
    }

    /// There is a snapshot up to an entry that is kept.
    pub fn set_snapshot(&mut self, mark: SnapshotMark) {
        self.voters.retain(|(since, _)| *since > mark.id.index);
        self.voters.insert(0, (mark.id.index, mark.voters.clone()));
        self.snapshot = mark;
    }

    /// Forgets entries up to this one, which is in the snapshot.
    pub fn cut(&mut self, up_to: EntryIndex) {
        let kept = self.at(up_to.next()).unwrap_or(0);
        for entry in self.entries.drain(..kept.min(self.entries.len())) {
            self.bytes -= entry.cost();
            self.before = entry.id;
        }
    }

    /// The last entry that is not newer than this one: where a log that has it may be the same as this one.
    pub fn not_newer_than(&self, id: EntryId) -> EntryId {
        let mut index = id.index.min(self.last().index);
        while let Some(found) = self.id(index) {
            if found.term <= id.term || found == self.before {
                return found;
            }
            index = index.before();
        }
        self.before
    }
}
