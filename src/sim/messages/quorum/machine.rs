//! A node of the model: its replica, its disk, and the image that its entries make.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::base::{DirectoryId, LeaderEpoch, NodeId, Now};
use crate::quorum::{
    Declined, EntryId, EntryIndex, Flaw, HardState, Payload, Quorum, QuorumConfig, QuorumEntry,
    QuorumFault, QuorumInput, QuorumMessage, QuorumRole, Ready, ReplicaKey, Restored, SnapshotMark,
    VoterChange, Voters, Write,
};
use crate::sim::messages::cluster::{Effect, Machine};
use crate::sim::net::End;

/// Nothing is wrong with it.
pub const RIGHT: u8 = 0;
/// A vote is not on the disk.
pub const VOTE_NOT_DURABLE: u8 = 1;
/// Messages leave before what they promise is durable.
pub const EARLY: u8 = 2;
/// A disk that lost everything is taken for the one that it was.
pub const OLD_ID: u8 = 3;
/// A snapshot becomes durable, and what was promised with the next write only.
pub const SNAPSHOT_ALONE: u8 = 4;
/// From here on a rule within the quorum is broken: [`Flaw`].
pub const WITHIN: u8 = 5;

/// Those rules.
pub const FLAWS: [Flaw; 5] = [
    Flaw::CommitsOlderTerms,
    Flaw::IgnoresLogs,
    Flaw::CountsObservers,
    Flaw::CommitsUncompared,
    Flaw::ChangesAtOnce,
];

/// An attempt of a user: who, and its count.
pub type Value = (usize, u64);

/// What is said.
#[derive(Clone, Debug)]
pub enum Said {
    /// A replica to another, as bytes.
    Quorum(Bytes),
    /// A user wants this committed.
    Propose(Value),
    /// To the user: it is, as this entry.
    Committed(Value, EntryId),
    /// To the user: not here, perhaps there.
    Refused(Value, Option<usize>),
    /// To another node: this replica is there, and may have no vote.
    Observes(ReplicaKey),
    /// A user wants other voters.
    Change(VoterChange),
    /// To itself: writes are durable.
    Durable(u64),
    /// To itself: a snapshot is durable.
    Snapshotted(EntryIndex),
    /// The contents of a snapshot are wanted.
    Fetch(EntryId),
    /// They are this.
    Contents(SnapshotMark, Image),
}

/// What all entries up to one make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// The last of them.
    pub last: EntryId,
    /// A hash over all of them.
    pub hash: u64,
}

impl Image {
    fn apply(&mut self, entry: &QuorumEntry) {
        let payload = match &entry.payload {
            Payload::LeaderChange => 1,
            Payload::Records(records) => crate::base::crc::crc32c(records).into(),
            Payload::Voters(voters) => 2 + voters.len() as u64,
        };
        for word in [entry.id.index.0, entry.id.term.0 as u64, payload] {
            let mixed = (self.hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            self.hash = mixed.rotate_left(29);
        }
        self.last = entry.id;
    }
}

/// What outlives a process.
#[derive(Clone, Debug)]
pub struct Disk {
    /// How often it was made anew.
    pub generation: u8,
    restored: Option<Restored>,
    /// What is in the snapshot.
    contents: Image,
}

impl Default for Disk {
    fn default() -> Self {
        Self {
            generation: 1,
            restored: None,
            contents: Image::default(),
        }
    }
}

impl Disk {
    fn log(&self) -> Option<Fact> {
        let it = self.restored.as_ref()?;
        let entries = it.entries.iter().map(|entry| entry.id);
        Some(Fact::Log(it.snapshot.id, entries.collect()))
    }

    /// Does what a write says. The contents of a snapshot were brought before.
    fn write(&mut self, write: Write, fetched: Option<Image>) {
        let Some(it) = &mut self.restored else {
            return;
        };
        if let (Some(mark), Some(contents)) = (write.snapshot, fetched) {
            it.snapshot = mark;
            it.entries.clear();
            self.contents = contents;
        }
        if let Some(from) = write.truncate {
            it.entries.retain(|entry| entry.id.index < from);
        }
        it.entries.extend(write.entries);
        it.state = write.state;
    }
}

/// What becomes known of a node.
#[derive(Clone, Debug)]
pub enum Fact {
    /// It has started, as this replica.
    Started(ReplicaKey),
    /// Its disk has what no replica writes.
    Unreadable(String),
    /// Its log on the disk: the entry that its snapshot ends with, and those behind it.
    Log(EntryId, Vec<EntryId>),
    /// It was elected.
    Elected(LeaderEpoch, ReplicaKey),
    /// An entry is committed, and the image behind it is this.
    Applied(QuorumEntry, Image),
    /// It has begun with a snapshot.
    Installed(Image),
    /// It has noticed something that cannot be.
    Fault(QuorumFault),
    /// A log was cut, a change of the voters was begun, a voter was too slow to become one.
    Snapshotted,
    /// The same.
    Changed(Result<EntryId, Declined>),
}

#[derive(Debug)]
enum Kind {
    Whole(Box<Quorum>),
    /// What its disk has cannot be used.
    Broken,
}

/// See the module. The first `VOTERS` nodes have a vote in the beginning, the others observe.
#[derive(Debug)]
pub struct Member<const FLAW: u8, const VOTERS: usize> {
    me: ReplicaKey,
    kind: Kind,
    disk: Disk,
    image: Image,
    waiting: BTreeMap<EntryId, (End, Value)>,
    /// The snapshot that is wanted, who is asked for it next, and how often somebody was.
    fetching: Option<(SnapshotMark, usize, u32)>,
    fetched: Option<Image>,
    is_snapshotting: bool,
    elected: Option<LeaderEpoch>,
    /// What the log is when writes are durable.
    logs: VecDeque<(u64, Fact)>,
    /// What the judge has not seen.
    pub facts: Vec<Fact>,
}

type Effects<M> = Vec<Effect<M>>;

fn key(node: usize, generation: u8) -> ReplicaKey {
    ReplicaKey {
        node: NodeId(node as i32),
        directory: DirectoryId([generation; 16]),
    }
}

/// Who has a vote in the beginning.
pub fn first_voters(voters: usize) -> Voters {
    Voters::new((0..voters).map(|node| key(node, 1))).expect("voters")
}

/// The node of a replica.
pub fn node_of(replica: ReplicaKey) -> usize {
    replica.node.0 as usize
}

/// What a user's value looks like in an entry.
fn records((user, count): Value) -> Bytes {
    let mut bytes = vec![0; 100];
    bytes[0] = user as u8;
    bytes[8..16].copy_from_slice(&count.to_le_bytes());
    bytes.into()
}

/// The value in an entry.
pub fn value_of(entry: &QuorumEntry) -> Option<Value> {
    match &entry.payload {
        Payload::Records(records) => {
            let count = records[8..16].try_into().expect("eight bytes");
            Some((usize::from(records[0]), u64::from_le_bytes(count)))
        }
        Payload::LeaderChange | Payload::Voters(_) => None,
    }
}

impl<const FLAW: u8, const VOTERS: usize> Member<FLAW, VOTERS> {
    fn step(&mut self, now: Now, input: QuorumInput) -> Effects<Self> {
        match &mut self.kind {
            Kind::Whole(quorum) => quorum.step(now.mono, input),
            Kind::Broken => {}
        }
        self.do_all()
    }

    /// Does what is wanted, until nothing is.
    fn do_all(&mut self) -> Effects<Self> {
        let mut effects = Vec::new();
        loop {
            let ready = match &mut self.kind {
                Kind::Whole(quorum) => quorum.ready(),
                Kind::Broken => return effects,
            };
            let more = ready.more;
            self.perform(ready, &mut effects);
            if !more {
                break;
            }
        }
        if let Kind::Whole(quorum) = &self.kind {
            let elected = quorum.elected();
            if elected != self.elected {
                self.elected = elected;
                self.facts
                    .extend(elected.map(|term| Fact::Elected(term, self.me)));
            }
        }
        effects
    }

    fn perform(&mut self, ready: Ready, effects: &mut Effects<Self>) {
        let to = |message: &QuorumMessage| End::Node(node_of(message.to));
        let said = |message: &QuorumMessage| Said::Quorum(message.encode().into());
        for message in &ready.messages {
            effects.push(Effect::Send(to(message), said(message)));
        }
        if let Some(mut write) = ready.write {
            if let (VOTE_NOT_DURABLE, Some(it)) = (FLAW, &self.disk.restored)
                && write.entries.is_empty()
                && write.snapshot.is_none()
            {
                write.state = it.state;
            }
            let (number, is_snapshot) = (write.number, write.snapshot.is_some());
            let fetched = self.fetched.take_if(|_| is_snapshot);
            self.disk.write(write, fetched);
            if let (SNAPSHOT_ALONE, true, Some(it)) = (FLAW, is_snapshot, &mut self.disk.restored) {
                it.state = HardState::default();
            }
            let log = self.disk.log().map(|log| (number, log));
            self.logs.extend(log);
            effects.push(Effect::Persist(self.disk.clone()));
            effects.push(Effect::TellWhenDurable(Said::Durable(number)));
        }
        for message in &ready.messages_when_durable {
            let (to, said) = (to(message), said(message));
            effects.push(match FLAW {
                EARLY => Effect::Send(to, said),
                _ => Effect::SendWhenDurable(to, said),
            });
        }
        if ready.installed.is_some() {
            self.image = self.disk.contents;
            self.facts.push(Fact::Installed(self.image));
        }
        for entry in ready.committed {
            self.apply(entry, effects);
        }
        if let Some(QuorumRole::Follower { .. }) = ready.role {
            // What becomes of what they proposed nobody knows.
            self.waiting.clear();
        }
        if let Some((from, mark)) = ready.fetch {
            self.fetching = Some((mark, node_of(from), 0));
            self.fetch(effects);
        }
        if let Some(mark) = ready.snapshot_wanted
            && !self.is_snapshotting
        {
            self.snapshot(mark, effects);
        }
        self.facts.extend(ready.fault.map(Fact::Fault));
        self.facts
            .extend(ready.changed.map(|(_, outcome)| Fact::Changed(outcome)));
    }

    fn apply(&mut self, entry: QuorumEntry, effects: &mut Effects<Self>) {
        self.image.apply(&entry);
        if let Some((user, value)) = self.waiting.remove(&entry.id) {
            let committed = Said::Committed(value, entry.id);
            effects.push(Effect::Send(user, committed));
        }
        self.facts.push(Fact::Applied(entry, self.image));
    }

    /// Asks for the contents of a snapshot, of who offered it first and then of anybody.
    fn fetch(&mut self, effects: &mut Effects<Self>) {
        if let Some((mark, from, times)) = &mut self.fetching {
            effects.push(Effect::Send(End::Node(*from), Said::Fetch(mark.id)));
            *from = (*from + 1) % VOTERS;
            *times += 1;
        }
    }

    /// Writes the image down: what is before it need not be kept.
    fn snapshot(&mut self, mark: SnapshotMark, effects: &mut Effects<Self>) {
        let Some(it) = &mut self.disk.restored else {
            return;
        };
        if mark.id <= it.snapshot.id {
            return;
        }
        assert_eq!(mark.id, self.image.last, "it is of what was handed out");
        self.is_snapshotting = true;
        let index = mark.id.index;
        it.snapshot = mark;
        it.entries.retain(|entry| entry.id.index > index);
        self.disk.contents = self.image;
        effects.push(Effect::Persist(self.disk.clone()));
        let told = Said::Snapshotted(index);
        effects.push(Effect::TellWhenDurable(told));
    }

    fn proposed(&mut self, now: Now, user: End, value: Value) -> Effects<Self> {
        let Kind::Whole(quorum) = &mut self.kind else {
            return Vec::new();
        };
        match quorum.propose(now.mono, records(value)) {
            Ok(id) => {
                self.waiting.insert(id, (user, value));
                self.do_all()
            }
            Err(declined) => {
                let leader = match declined {
                    Declined::NotLeader { leader } => leader.map(node_of),
                    _ => None,
                };
                vec![Effect::Send(user, Said::Refused(value, leader))]
            }
        }
    }
}

impl<const FLAW: u8, const VOTERS: usize> Machine for Member<FLAW, VOTERS> {
    type Message = Said;
    type Durable = Disk;

    fn start(me: usize, nodes: usize, durable: &Disk) -> Self {
        Self::start_with(me, nodes, durable, 0)
    }

    fn start_with(me: usize, _nodes: usize, durable: &Disk, seed: u64) -> Self {
        let mut disk = durable.clone();
        let new = || Restored::empty(first_voters(VOTERS));
        let restored = disk.restored.get_or_insert_with(new).clone();
        let me_key = key(me, disk.generation);
        let image = disk.contents;
        let mut facts = vec![Fact::Started(me_key), Fact::Installed(image)];
        facts.extend(disk.log());
        let kind = {
            let config = QuorumConfig {
                heartbeat_ms: 15,
                election_ms: 60,
                nobody_ms_max: 200,
                joining_ms: 1_000,
                append_bytes: if FLAW == WITHIN {
                    1
                } else {
                    [1, 500, 1_000][seed as usize % 3]
                },
                in_flight_bytes: if FLAW == WITHIN { 1 } else { 4_000 },
                log_bytes: 40_000,
                snapshot_bytes: 5_000,
                seed,
                flaw: usize::from(FLAW)
                    .checked_sub(usize::from(WITHIN))
                    .map(|at| FLAWS[at]),
            };
            match Quorum::new(me_key, config, restored, Now::default().mono) {
                Ok(quorum) => Kind::Whole(Box::new(quorum)),
                Err(error) => {
                    facts.push(Fact::Unreadable(error.to_string()));
                    Kind::Broken
                }
            }
        };
        Self {
            me: me_key,
            kind,
            disk,
            image,
            waiting: BTreeMap::new(),
            fetching: None,
            fetched: None,
            is_snapshotting: false,
            elected: None,
            logs: VecDeque::new(),
            facts,
        }
    }

    fn wiped(durable: &Disk) -> Disk {
        Disk {
            generation: durable.generation + u8::from(FLAW != OLD_ID),
            ..Disk::default()
        }
    }

    fn take(&mut self, now: Now, from: End, message: Said) -> Effects<Self> {
        match message {
            Said::Quorum(bytes) => match QuorumMessage::decode(&bytes) {
                Ok(message) => self.step(now, QuorumInput::Message(message)),
                Err(error) => panic!("{error}: {bytes:?}"),
            },
            Said::Propose(value) => self.proposed(now, from, value),
            Said::Change(change) => {
                if let Kind::Whole(quorum) = &mut self.kind {
                    // Who asked looks at what becomes of it.
                    _ = quorum.change(now.mono, change);
                }
                self.do_all()
            }
            Said::Observes(who) => self.step(now, QuorumInput::Observer(who, true)),
            Said::Durable(number) => {
                let done = self.logs.partition_point(|(write, _)| *write <= number);
                let last = self.logs.drain(..done).last();
                self.facts.extend(last.map(|(_, log)| log));
                self.step(now, QuorumInput::Durable(number))
            }
            Said::Snapshotted(index) => {
                self.is_snapshotting = false;
                self.facts.push(Fact::Snapshotted);
                self.step(now, QuorumInput::Snapshotted(index))
            }
            Said::Fetch(id) => match &self.disk.restored {
                Some(it) if it.snapshot.id == id => {
                    let contents = Said::Contents(it.snapshot.clone(), self.disk.contents);
                    vec![Effect::Send(from, contents)]
                }
                _ => Vec::new(),
            },
            Said::Contents(mark, contents) => {
                if self
                    .fetching
                    .take_if(|(wanted, ..)| *wanted == mark)
                    .is_none()
                {
                    return Vec::new();
                }
                self.fetched = Some(contents);
                self.step(now, QuorumInput::Fetched(Some(mark.id)))
            }
            Said::Committed(..) | Said::Refused(..) => Vec::new(),
        }
    }

    fn tick(&mut self, now: Now) -> Effects<Self> {
        let mut effects = self.step(now, QuorumInput::Time);
        let is_gone = |wanted: &mut (SnapshotMark, usize, u32)| wanted.2 > 20;
        if self.fetching.take_if(is_gone).is_some() {
            effects.extend(self.step(now, QuorumInput::Fetched(None)));
        }
        self.fetch(&mut effects);
        if let Kind::Whole(_) = &self.kind {
            // Also one that has a vote, as far as it knows: it may have lost it, or the observer may have one.
            let to = (0..=VOTERS).filter(|node| *node != node_of(self.me));
            let is_there = |node| Effect::Send(End::Node(node), Said::Observes(self.me));
            effects.extend(to.map(is_there));
        }
        effects
    }
}
