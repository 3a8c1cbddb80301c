//! What a replica is at, whatever its role, and how that becomes what it wants done.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::config::QuorumConfig;
use super::entry::{EntryIndex, HardState, QuorumEntry, SnapshotMark};
use super::log::RaftLog;
use super::message::{QuorumMessage, Says};
use super::progress::PeerProgress;
use super::ready::{QuorumFault, QuorumRole, Ready, Write};
use super::voters::ReplicaKey;
use crate::base::limits::QUORUM_COMMITTED_PER_READY;
use crate::base::{LeaderEpoch, Mono, Rng};

/// What it is in its term.
#[derive(Debug)]
pub(super) enum Role {
    Follower { leader: Option<ReplicaKey> },
    Candidate(Ballots),
    Leader(Box<Leading>),
}

/// The votes that a candidate has.
#[derive(Debug)]
pub(super) struct Ballots {
    /// Nobody's term has changed: it only asks who would vote for it.
    pub pre: bool,
    /// The write that makes its own vote durable; only then it counts.
    pub own: u64,
    /// What others have answered, and itself.
    pub given: BTreeMap<ReplicaKey, bool>,
}

/// What a leader knows.
#[derive(Debug)]
pub(super) struct Leading {
    /// The first entry of its term: when that is committed, everything before is.
    pub began: EntryIndex,
    /// All other voters, the one that joins, and observers.
    pub others: BTreeMap<ReplicaKey, PeerProgress>,
    /// A replica that is to become a voter.
    pub joining: Option<NewVoter>,
    /// It wants somebody else to lead, until then.
    pub resigning: Option<Mono>,
}

/// A replica that is to become a voter when it has caught up.
#[derive(Debug)]
pub(super) struct NewVoter {
    pub replica: ReplicaKey,
    /// If it has by then.
    pub until: Mono,
    /// What it lacked of the log some time ago ends here.
    pub goal: EntryIndex,
    /// When that was.
    pub since: Mono,
}

/// A write on its way to the disk.
#[derive(Debug)]
struct OnItsWay {
    number: u64,
    term: LeaderEpoch,
    /// Up to here the log is on the disk then.
    last: EntryIndex,
    snapshot: Option<SnapshotMark>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Core {
    pub me: ReplicaKey,
    pub config: QuorumConfig,
    pub rng: Rng,
    pub log: RaftLog,
    pub state: HardState,
    pub role: Role,
    /// When a leader was heard of last.
    pub heard: Option<Mono>,
    /// Silence that is borne, ms: `election_ms`, or more where others are late.
    pub patience_ms: u64,
    /// When it acts by itself: stands for election, or as a leader is heard of.
    pub due: Mono,
    /// The snapshot that is being fetched.
    pub fetching: Option<SnapshotMark>,
    /// Replicas that are there and may have no vote, of `QUORUM_OBSERVERS_MAX` at most: known also while another one
    /// leads.
    pub observers: BTreeSet<ReplicaKey>,
    /// Up to here committed entries were handed out.
    pub handed: EntryIndex,
    pub out: Ready,
    announced: QuorumRole,
    written: HardState,
    /// The newest term that is on the disk.
    durable_term: LeaderEpoch,
    writes: VecDeque<OnItsWay>,
    numbers: u64,
}

impl Core {
    pub fn new(me: ReplicaKey, config: QuorumConfig, state: HardState, log: RaftLog) -> Self {
        let handed = log.snapshot().id.index;
        let role = Role::Follower { leader: None };
        Self {
            me,
            rng: Rng::new(config.seed),
            patience_ms: config.election_ms,
            config,
            log,
            role,
            heard: None,
            due: Mono::NEVER,
            fetching: None,
            observers: BTreeSet::new(),
            handed,
            out: Ready::default(),
            announced: QuorumRole::Follower {
                term: state.term,
                leader: None,
            },
            state,
            written: state,
            durable_term: state.term,
            writes: VecDeque::new(),
            numbers: 0,
        }
    }

    pub const fn term(&self) -> LeaderEpoch {
        self.state.term
    }

    /// Who leads in its term, as far as it knows.
    pub const fn leader(&self) -> Option<ReplicaKey> {
        match &self.role {
            Role::Follower { leader } => *leader,
            Role::Candidate(_) => None,
            Role::Leader(_) => Some(self.me),
        }
    }

    /// What others may take it for: one that was elected leads when its first entry is committed.
    pub fn role(&self) -> QuorumRole {
        let term = self.term();
        match &self.role {
            Role::Leader(it) if self.handed >= it.began => QuorumRole::Leader { term },
            Role::Leader(_) => QuorumRole::Follower { term, leader: None },
            _ => QuorumRole::Follower {
                term,
                leader: self.leader(),
            },
        }
    }

    /// Whether it has heard of a living leader not long ago, or is one: it will not help to elect another.
    pub fn hears_leader(&self, now: Mono) -> bool {
        match &self.role {
            Role::Leader(_) => true,
            Role::Candidate(_) | Role::Follower { leader: None } => false,
            Role::Follower { leader: Some(_) } => self
                .heard
                .is_some_and(|heard| now.ms_since(heard) < self.config.election_ms),
        }
    }

    /// Whether nobody else has a vote.
    pub fn is_only_voter(&self) -> bool {
        let voters = self.log.voters();
        voters.len() == 1 && voters.contains(self.me)
    }

    /// Waits from now on, for a time that is drawn: for the leader that is heard, or for one to be elected.
    pub fn arm(&mut self, now: Mono, is_led: bool) {
        let ms = match is_led {
            true => self.patience_ms,
            false => self.patience_ms.min(self.config.nobody_ms_max),
        };
        self.due = now.plus_ms(ms + self.rng.below(ms + 1));
    }

    /// This process did not run for so long before now: what came meanwhile it hears only from now on.
    pub fn stood_still(&mut self, ms: u64) {
        self.heard = self.heard.map(|heard| heard.plus_ms(ms));
        match &mut self.role {
            // Of that others are to hear at once.
            Role::Leader(it) => {
                for peer in it.others.values_mut() {
                    peer.heard = peer.heard.plus_ms(ms);
                }
            }
            _ => self.due = self.due.plus_ms(ms),
        }
    }

    /// Follows a leader, or nobody yet, in this term or a newer one.
    pub fn follow(&mut self, now: Mono, term: LeaderEpoch, leader: Option<ReplicaKey>) {
        if term > self.state.term {
            self.state.term = term;
            self.state.vote = None;
        }
        let was_follower = matches!(self.role, Role::Follower { .. });
        self.role = Role::Follower { leader };
        if leader.is_some() {
            self.heard = Some(now);
        }
        if leader.is_some() || !was_follower {
            self.arm(now, leader.is_some());
        }
    }

    fn message(&self, to: ReplicaKey, term: LeaderEpoch, says: Says) -> QuorumMessage {
        QuorumMessage {
            from: self.me,
            to,
            term,
            says,
        }
    }

    /// Says something that promises nothing.
    pub fn send(&mut self, to: ReplicaKey, says: Says) {
        self.send_of(to, self.term(), says);
    }

    /// The same of another term than its own.
    pub fn send_of(&mut self, to: ReplicaKey, term: LeaderEpoch, says: Says) {
        let message = self.message(to, term, says);
        self.out.messages.push(message);
    }

    /// Says something that has to be durable before.
    pub fn send_when_durable(&mut self, to: ReplicaKey, says: Says) {
        let message = self.message(to, self.term(), says);
        self.out.messages_when_durable.push(message);
    }

    /// Tells the leader that it was heard and how much of its log is on the disk by now, whatever is on its way there.
    /// A slow flush is no reason to give it up. If not even the term is there, that has to wait.
    pub fn acknowledge(&mut self, to: ReplicaKey, matched: EntryIndex) {
        if self.durable_term == self.term() {
            let matched = matched.min(self.log.durable());
            self.send(to, Says::Appended { matched });
        } else {
            self.send_when_durable(to, Says::Appended { matched });
        }
    }

    /// What is to be written next.
    pub fn write(&mut self) -> &mut Write {
        let numbers = &mut self.numbers;
        self.out.write.get_or_insert_with(|| {
            *numbers += 1;
            Write {
                number: *numbers,
                ..Write::default()
            }
        })
    }

    /// Adds an entry to the log, here and on the disk.
    pub fn append(&mut self, entry: QuorumEntry) {
        self.write().entries.push(entry.clone());
        self.log.append(entry);
    }

    /// Cuts off what no leader has, here and on the disk.
    pub fn truncate(&mut self, from: EntryIndex) {
        self.log.truncate(from);
        let last = self.log.last().index;
        for write in &mut self.writes {
            write.last = write.last.min(last);
        }
        let write = self.write();
        write.entries.retain(|entry| entry.id.index < from);
        write.truncate = Some(write.truncate.map_or(from, |before| before.min(from)));
    }

    /// A snapshot whose contents are here takes the place of the log, here and on the disk.
    pub fn install(&mut self, mark: SnapshotMark) {
        self.state.commit = mark.id.index;
        self.log.replace(mark.clone());
        for write in &mut self.writes {
            write.last = EntryIndex::ZERO;
            write.snapshot = None;
        }
        let write = self.write();
        write.entries.clear();
        write.truncate = None;
        write.snapshot = Some(mark);
    }

    /// Writes are on the disk, up to the one with this number.
    pub fn on_durable(&mut self, number: u64) {
        let done = self.writes.partition_point(|write| write.number <= number);
        for write in self.writes.drain(..done) {
            self.log.set_durable(write.last);
            self.durable_term = write.term;
            if let Some(mark) = write.snapshot {
                self.handed = mark.id.index;
                self.out.installed = Some(mark);
            }
        }
    }

    /// Something is wrong that cannot be; the first one is told.
    pub fn fault(&mut self, fault: QuorumFault) {
        self.out.fault.get_or_insert(fault);
    }

    /// Hands out entries that are committed and on this disk.
    pub fn hand_out(&mut self) {
        let end = self.state.commit.min(self.log.durable());
        let most = EntryIndex(self.handed.0 + QUORUM_COMMITTED_PER_READY as u64);
        let from = self.handed.next();
        if end < from {
            return;
        }
        self.out.committed = self.log.read(from, end.min(most), usize::MAX);
        self.handed = end.min(most);
        self.out.more = self.handed < end;
    }

    /// All that is wanted, and nothing of it again.
    pub fn ready(&mut self) -> Ready {
        let (state, written) = (self.state, self.written);
        if (state.term, state.vote) != (written.term, written.vote) || self.out.write.is_some() {
            self.write().state = state;
            self.written = state;
            let last = self.log.last().index;
            let write = self.write();
            let write = OnItsWay {
                number: write.number,
                term: state.term,
                last,
                snapshot: write.snapshot.clone(),
            };
            self.writes.push_back(write);
        } else if self.writes.is_empty() {
            let durable = std::mem::take(&mut self.out.messages_when_durable);
            self.out.messages.extend(durable);
        }
        let is_long = self.log.bytes() > self.config.snapshot_bytes;
        if is_long && self.handed > self.log.snapshot().id.index {
            self.out.snapshot_wanted = self.log.mark(self.handed);
        }
        let role = self.role();
        if role != self.announced {
            self.announced = role;
            self.out.role = Some(role);
        }
        std::mem::take(&mut self.out)
    }
}
