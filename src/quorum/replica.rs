//! A replica of the metadata log, which has a vote or observes.

use bytes::Bytes;

use super::config::QuorumConfig;
use super::core::{Core, Role};
use super::entry::{EntryId, EntryIndex, HardState, Payload, QuorumEntry, SnapshotMark};
use super::log::{RaftLog, RestoreError};
use super::message::{QuorumMessage, Says};
use super::ready::{Declined, QuorumInput, QuorumRole, Ready, VoterChange};
use super::voters::{ReplicaKey, Voters};
use super::{election, following, leading};
use crate::base::limits::QUORUM_ENTRY_BYTES_MAX;
use crate::base::{LeaderEpoch, Mono};

/// What a disk gives back of a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// What it has promised.
    pub state: HardState,
    /// The newest snapshot; its contents are the driver's.
    pub snapshot: SnapshotMark,
    /// All entries that follow it; others before them do no harm.
    pub entries: Vec<QuorumEntry>,
}

impl Restored {
    /// The empty log that a quorum of these voters begins with.
    #[must_use]
    pub fn empty(voters: Voters) -> Self {
        Self {
            state: HardState::default(),
            snapshot: SnapshotMark {
                id: EntryId::default(),
                voters,
            },
            entries: Vec::new(),
        }
    }
}

/// See the module of this folder.
#[derive(Debug)]
pub struct Quorum(Core);

impl Quorum {
    /// A process starts, as this replica, with what its disk has.
    ///
    /// # Errors
    /// No replica can have written that.
    pub fn new(
        me: ReplicaKey,
        config: QuorumConfig,
        restored: Restored,
        now: Mono,
    ) -> Result<Self, RestoreError> {
        let mut state = restored.state;
        let log = RaftLog::restored(restored.snapshot, restored.entries)?;
        state.commit = state.commit.max(log.snapshot().id.index);
        if state.term < log.last().term {
            return Err(RestoreError("the state is older than the entries"));
        }
        if state.commit > log.last().index {
            return Err(RestoreError("committed entries are missing"));
        }
        let mut core = Core::new(me, config, state, log);
        core.arm(now, false);
        if core.is_only_voter() {
            // There is nobody to wait for.
            core.due = now;
        }
        Ok(Self(core))
    }

    /// Something has happened. [`Quorum::ready`] says what is wanted for it.
    pub fn step(&mut self, now: Mono, input: QuorumInput) {
        let core = &mut self.0;
        match input {
            QuorumInput::Time if now < core.due => {}
            QuorumInput::Time => match core.role {
                Role::Leader(_) => leading::on_time(core, now),
                _ => election::stand(core, now),
            },
            QuorumInput::Message(message) => self.on_message(now, message),
            QuorumInput::Durable(number) => {
                core.on_durable(number);
                election::on_durable(core, now, number);
                leading::commit(core, now);
            }
            QuorumInput::Gone(who) => {
                leading::on_gone(core, who);
                if core.leader() == Some(who) {
                    core.follow(now, core.term(), None);
                    core.heard = None;
                    // One after the other: of those that stand at the same time nobody is elected.
                    let voters = core.log.voters();
                    let before = voters
                        .iter()
                        .filter(|voter| *voter != who)
                        .position(|voter| voter == core.me);
                    let turn_ms = before.unwrap_or(0) as u64 * core.config.heartbeat_ms;
                    let jitter_ms = core.rng.below(core.config.heartbeat_ms / 8 + 1);
                    core.due = now.plus_ms(turn_ms + jitter_ms);
                }
            }
            QuorumInput::StoodStill(ms) => core.stood_still(ms),
            QuorumInput::Patience(ms) => core.patience_ms = ms.max(core.config.election_ms),
            QuorumInput::Observer(who, is_there) => leading::observe(core, now, who, is_there),
            QuorumInput::Snapshotted(index) => self.on_snapshotted(now, index),
            QuorumInput::Fetched(id) => following::on_fetched(core, id),
            QuorumInput::Resign => leading::resign(core, now),
        }
    }

    /// Proposes a batch of records as one entry. When it is handed out as committed it is so for good; if another entry
    /// is in its place, it never will be; and until then nobody knows, whatever becomes of this process.
    ///
    /// # Errors
    /// It is not taken.
    pub fn propose(&mut self, now: Mono, records: Bytes) -> Result<EntryId, Declined> {
        if records.len() > QUORUM_ENTRY_BYTES_MAX {
            return Err(Declined::TooLarge);
        }
        leading::propose(&mut self.0, now, Payload::Records(records))
    }

    /// Begins a change of the voters, which [`Ready::changed`] says the end of.
    ///
    /// # Errors
    /// It is not begun.
    pub fn change(&mut self, now: Mono, change: VoterChange) -> Result<(), Declined> {
        leading::change(&mut self.0, now, change)
    }

    /// What is wanted for all that has happened, and nothing of it again.
    pub fn ready(&mut self) -> Ready {
        let core = &mut self.0;
        core.hand_out();
        leading::send_all(core);
        core.ready()
    }

    /// When [`QuorumInput::Time`] is due.
    #[must_use]
    pub const fn wake_at(&self) -> Mono {
        self.0.due
    }

    /// What it is.
    #[must_use]
    pub fn role(&self) -> QuorumRole {
        self.0.role()
    }

    /// The term in which it was elected and leads, though perhaps it may not be asked for anything yet.
    #[must_use]
    pub fn elected(&self) -> Option<LeaderEpoch> {
        matches!(self.0.role, Role::Leader(_)).then_some(self.0.state.term)
    }

    /// What it is at.
    pub(super) const fn core(&self) -> &Core {
        &self.0
    }

    /// What it has promised by now.
    #[must_use]
    pub const fn state(&self) -> HardState {
        self.0.state
    }

    /// Who has a vote by its log, committed or not: not what a snapshot says, see [`Ready::snapshot_wanted`].
    #[must_use]
    pub fn voters(&self) -> &Voters {
        self.0.log.voters()
    }

    /// Who has a vote by what is known to be committed: nothing takes that back, which may still become of the newest
    /// entry that says so. What others begin with has to be this.
    #[must_use]
    pub fn committed_voters(&self) -> &Voters {
        self.0.log.voters_at(self.0.state.commit)
    }

    /// What its entries in memory take, in bytes.
    #[must_use]
    pub const fn log_bytes(&self) -> usize {
        self.0.log.bytes()
    }

    fn on_message(&mut self, now: Mono, message: QuorumMessage) {
        let core = &mut self.0;
        let QuorumMessage { from, to, term, .. } = message;
        if to != core.me || from == core.me || !message.is_sound() {
            return;
        }
        let is_taken = match &message.says {
            _ if term < core.term() => {
                tell_newer(core, &message);
                false
            }
            _ if term > core.term() => takes_newer(core, now, &message),
            _ => true,
        };
        if !is_taken {
            return;
        }
        match message.says {
            Says::Vote(vote) => election::on_vote(core, now, from, term, vote),
            Says::Voted { pre, granted } => {
                election::on_voted(core, now, from, term, (pre, granted));
            }
            Says::Append {
                prev,
                entries,
                commit,
            } => following::on_append(core, now, from, (prev, commit), entries),
            Says::Offer(mark) => following::on_offer(core, now, from, mark),
            Says::Appended { matched } => leading::on_appended(core, now, from, matched),
            Says::Rejected { prev, hint } => leading::on_rejected(core, now, from, prev, hint),
            Says::Elect if core.leader() == Some(from) => {
                election::stand_for_real(core, now, true);
            }
            Says::Elect => {}
        }
    }

    fn on_snapshotted(&mut self, now: Mono, index: EntryIndex) {
        let core = &mut self.0;
        let is_new = index > core.log.snapshot().id.index && index <= core.handed;
        let Some(mark) = core.log.mark(index).filter(|_| is_new) else {
            return;
        };
        core.log.set_snapshot(mark);
        // Who is a little behind need not fetch all of it for that, as long as there is room.
        let mut up_to = index;
        if let Role::Leader(it) = &core.role
            && core.log.bytes() < core.config.log_bytes / 2
        {
            let ms = core.config.election_ms;
            let others = it
                .others
                .values()
                .filter(|peer| now.ms_since(peer.heard) < ms);
            up_to = others
                .map(|peer| peer.matched)
                .min()
                .map_or(index, |least| least.min(index));
        }
        core.log.cut(up_to);
    }
}

/// Something of an earlier term. Who leads or asks for a vote in it has to learn that it is over.
fn tell_newer(core: &mut Core, message: &QuorumMessage) {
    let hint = core.log.last();
    let answer = match &message.says {
        Says::Vote(vote) => Says::Voted {
            pre: vote.pre,
            granted: false,
        },
        Says::Append { prev, .. } => Says::Rejected { prev: *prev, hint },
        Says::Offer(mark) => Says::Rejected {
            prev: mark.id,
            hint,
        },
        _ => return,
    };
    core.send(message.from, answer);
}

/// Something of a later term, which is this replica's too from then on: but for votes that are only asked about, and
/// those that are asked for while there is a leader, which are not taken.
fn takes_newer(core: &mut Core, now: Mono, message: &QuorumMessage) -> bool {
    let term = message.term;
    match &message.says {
        Says::Vote(vote) if vote.pre => {}
        Says::Vote(vote) if !vote.by_leader && core.hears_leader(now) => return false,
        Says::Voted { pre, granted } if *pre && *granted => {}
        Says::Append { .. } | Says::Offer(_) => core.follow(now, term, Some(message.from)),
        _ => core.follow(now, term, None),
    }
    true
}
