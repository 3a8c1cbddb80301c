//! The nodes of the configuration besides this one, as its control shard knows them: who answers at the address of
//! each, what it says of a quorum that forms, and what is to be said to it.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::said::NodeSaid;
use crate::base::limits::FORMING_TELL_MS;
use crate::base::{Mono, NodeId};
use crate::quorum::{
    Forming, FormingError, Knows, Payload, ReplicaKey, Restored, Seat, Sitting, Voters, WaitsFor,
    forming,
};

/// A node of the configuration.
#[derive(Debug, Default)]
struct Other {
    /// Who answers at its address, as long as the link to it is there.
    there: Option<ReplicaKey>,
    /// What that one has said of itself.
    says: Option<Knows>,
}

/// See the module. None of them for a node that stands alone.
#[derive(Debug)]
pub struct Others {
    me: ReplicaKey,
    known: BTreeMap<NodeId, Other>,
    to_say: VecDeque<(NodeId, Bytes)>,
    /// Whom this node sees, while it is blank.
    sees: Option<Voters>,
    /// When that is to be said again.
    tell_at: Mono,
    /// What was said in the log last about why there is no quorum.
    told: String,
}

impl Others {
    /// These, of which nobody has answered yet.
    pub fn new(me: ReplicaKey, others: impl IntoIterator<Item = NodeId>) -> Self {
        let others = others.into_iter().map(|node| (node, Other::default()));
        Self {
            me,
            known: others.collect(),
            to_say: VecDeque::new(),
            sees: None,
            tell_at: Mono(0),
            told: String::new(),
        }
    }

    /// Whether the configuration names none.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Whether it is a node of the configuration.
    pub fn knows(&self, node: NodeId) -> bool {
        self.known.contains_key(&node)
    }

    /// Whether this replica can be one of a quorum with what its disk has: it has to have a vote, and to know where the
    /// others are.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn may_join(&self, restored: &Restored) -> Result<(), String> {
        let (me, newest) = (self.me, restored.entries.iter().rev());
        let newest = newest.filter_map(|entry| match &entry.payload {
            Payload::Voters(voters) => Some(voters),
            Payload::LeaderChange | Payload::Records(_) => None,
        });
        let mut voters = newest.chain([&restored.snapshot.voters]);
        let Some(voters) = voters.next().filter(|voters| voters.contains(me)) else {
            return Err(format!(
                "this is {me}, which is none of the voters of the metadata in its log.dirs: use the directory that \
                 belongs to this node"
            ));
        };
        let nodes = voters.iter().map(|voter| voter.node);
        let missing = nodes.filter(|node| *node != me.node && !self.knows(*node));
        let missing: Vec<NodeId> = missing.collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(format!(
            "the metadata is of the voters {voters:?}, and controller.quorum.voters does not say where nodes \
             {missing:?} are"
        ))
    }

    /// Somebody answers at the address of a node.
    pub fn up(&mut self, there: ReplicaKey) {
        if let Some(other) = self.known.get_mut(&there.node) {
            *other = Other {
                there: Some(there),
                says: None,
            };
            self.tell_at = Mono(0);
        }
    }

    /// Nobody does any more. What was to be said to it is void; who it was.
    pub fn down(&mut self, node: NodeId) -> Option<ReplicaKey> {
        self.to_say.retain(|(to, _)| *to != node);
        let other = self.known.get_mut(&node)?;
        other.says = None;
        other.there.take()
    }

    /// Says something to a node, if there is a link to it.
    pub fn say(&mut self, to: NodeId, said: NodeSaid) {
        if self.is_up(to) {
            self.to_say.push_back((to, said.encode()));
        }
    }

    /// Whether a replica of a node can be who talks to this one in the node's name: who answers at its address, if
    /// somebody does.
    pub fn may_be(&self, node: NodeId, replica: ReplicaKey) -> bool {
        let there = self.known.get(&node).and_then(|other| other.there);
        replica.node == node && there.is_none_or(|there| there == replica)
    }

    /// Whether something can be said to a node.
    pub fn is_up(&self, node: NodeId) -> bool {
        self.known.get(&node).is_some_and(|it| it.there.is_some())
    }

    /// The next thing to be said.
    pub fn next_said(&mut self) -> Option<(NodeId, Bytes)> {
        self.to_say.pop_front()
    }

    /// Keeps what a node does not take now. It comes first, in its order, the next time.
    pub fn say_later(&mut self, late: Vec<(NodeId, Bytes)>) {
        let mut late: VecDeque<(NodeId, Bytes)> = late.into();
        late.append(&mut self.to_say);
        self.to_say = late;
    }

    /// Somebody says what it knows of a quorum. It counts if it is who answers at the address of its node.
    pub fn sits(&mut self, sitting: Sitting) {
        if let Some(other) = self.known.get_mut(&sitting.replica.node)
            && other.there == Some(sitting.replica)
        {
            other.says = Some(sitting.knows);
        }
    }

    /// When [`Others::form`] is due again.
    pub const fn tell_at(&self) -> Mono {
        self.tell_at
    }

    /// This node is blank: what it does by what is known of the others. `None`: it waits.
    pub fn form(&mut self, now: Mono) -> Option<Forming> {
        let others = self.known.iter().map(|(node, other)| Seat {
            node: Some(*node),
            sitting: other.there.zip(other.says.clone()).map(|it| Sitting {
                replica: it.0,
                knows: it.1,
            }),
        });
        let own = Seat {
            node: Some(self.me.node),
            sitting: Some(self.blank()),
        };
        let seats: Vec<Seat> = [own].into_iter().chain(others).collect();
        let (sees, why) = match forming(self.me, &seats) {
            Ok(Forming::Waits(waits, sees)) => (sees, waits_for(waits, &seats)),
            Ok(Forming::Observes(formed)) => {
                let why = format!(
                    "this node is none of the voters of cluster {}, and new voters cannot be added yet",
                    formed.cluster
                );
                (None, why)
            }
            Ok(forms) => return Some(forms),
            Err(why) => (None, FormingError::to_string(&why)),
        };
        if std::mem::replace(&mut self.sees, sees.clone()) != sees {
            self.tell_at = Mono(0);
        }
        if self.told != why {
            tracing::info!("no metadata quorum yet: {why}");
            self.told = why;
        }
        if self.tell_at <= now {
            self.tell_at = now.plus_ms(FORMING_TELL_MS);
            let nodes: Vec<NodeId> = self.known.keys().copied().collect();
            for node in nodes {
                self.say(node, NodeSaid::Sits(self.blank()));
            }
        }
        None
    }

    /// What this node says of itself as long as it is blank.
    fn blank(&self) -> Sitting {
        Sitting {
            replica: self.me,
            knows: Knows::Blank(self.sees.clone()),
        }
    }
}

/// What a blank node waits for, for people.
fn waits_for(waits: WaitsFor, seats: &[Seat]) -> String {
    match waits {
        WaitsFor::Answer(at) => {
            let node = seats.get(at).and_then(|seat| seat.node);
            let node = node.map_or_else(|| "another node".to_owned(), |it| format!("node {it}"));
            format!("{node} has not answered; all voters have to, once")
        }
        WaitsFor::SameView(other) => format!("node {} does not see all of them", other.node),
        WaitsFor::First(first) => format!("node {} begins it", first.node),
        WaitsFor::Others => "it will be of other nodes".to_owned(),
    }
}
