//! The other nodes, as the control shard of this one knows them: who answers at the address of each, what it says of a
//! quorum that forms, and what is to be said to it. The first voters are those that the configuration names; an
//! observer may have been told no more than where to ask. Who votes from then on the metadata say, and the
//! configuration no more than where those are that it names: all others are known when they have come, or registered.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::said::NodeSaid;
use super::voting::how_to_vote_again;
use crate::base::limits::FORMING_TELL_MS;
use crate::base::{Mono, NodeId};
use crate::broker::peers::{ClusterSetup, PeerAddress};
use crate::controller::{Image, Registered};
use crate::quorum::{
    Forming, FormingError, Knows, Payload, ReplicaKey, Restored, Seat, Sitting, Voters, WaitsFor,
    forming,
};

/// Another node.
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
    setup: Option<ClusterSetup>,
    known: BTreeMap<NodeId, Other>,
    /// Where nodes are that links are to be opened to.
    to_know: VecDeque<PeerAddress>,
    /// The brokers that are among them.
    learned: Registered,
    to_say: VecDeque<(NodeId, Bytes)>,
    /// Whom this node sees, while it is blank.
    sees: Option<Voters>,
    /// When that is to be said again.
    tell_at: Mono,
    /// What was said in the log last about why there is no quorum.
    told: String,
}

impl Others {
    /// Those of a cluster, of which nobody has answered yet; none of a node that stands alone.
    pub fn new(me: ReplicaKey, setup: Option<&ClusterSetup>) -> Self {
        let others = setup.iter().flat_map(|setup| &setup.others);
        let others = others.map(|other| (other.node, Other::default()));
        Self {
            me,
            known: others.collect(),
            setup: setup.cloned(),
            to_know: VecDeque::new(),
            learned: Registered::default(),
            to_say: VecDeque::new(),
            sees: None,
            tell_at: Mono(0),
            told: String::new(),
        }
    }

    /// Whether this node stands alone.
    pub const fn is_alone(&self) -> bool {
        self.setup.is_none()
    }

    /// Whether the configuration says where another node is, as that of a voter.
    fn names(&self, node: NodeId) -> bool {
        self.setup.as_ref().is_some_and(|setup| setup.names(node))
    }

    fn observes(&self) -> bool {
        self.setup.as_ref().is_some_and(|setup| setup.observes)
    }

    /// Those who are there.
    pub fn there(&self) -> Vec<ReplicaKey> {
        let there = self.known.values().filter_map(|other| other.there);
        there.collect()
    }

    /// Tells a node where the voters are, if this is one of them: by its configuration, or as these are and brokers are
    /// registered, once there is a quorum.
    pub fn tell_voters(&mut self, node: NodeId, known: Option<(&Voters, &Image)>) {
        let Some(setup) = &self.setup else {
            return;
        };
        let votes = match known {
            Some((voters, _)) => voters.contains(self.me),
            None => !setup.observes,
        };
        if self.names(node) || !votes {
            return;
        }
        let mut addresses = setup.others.clone();
        if let Some((voters, image)) = known {
            let others = voters.iter().map(|voter| voter.node);
            let others = others.filter(|it| *it != self.me.node && *it != node);
            addresses = others
                .filter_map(|it| setup.address_of(it, image))
                .collect();
        }
        self.say(node, NodeSaid::Nodes(addresses));
    }

    /// A voter says where the others are.
    pub fn told(&mut self, addresses: Vec<PeerAddress>) {
        if self.observes() {
            self.to_know.extend(addresses);
        }
    }

    /// What is committed says where brokers are.
    pub fn learn(&mut self, image: &Image) {
        let Some(setup) = &self.setup else {
            return;
        };
        if !self.has_to_learn(image) {
            return;
        }
        self.learned = image.brokers.clone();
        let others = image.brokers.iter().filter(|broker| {
            let node = broker.member.node;
            node != self.me.node && !setup.names(node)
        });
        let known = others.filter_map(|broker| setup.registered(broker));
        self.to_know.extend(known);
    }

    /// Whether it says more than was learned.
    pub fn has_to_learn(&self, image: &Image) -> bool {
        !self.is_alone() && !image.brokers.shares_all(&self.learned)
    }

    /// The next one to which a link is to be opened.
    pub fn next_known(&mut self) -> Option<PeerAddress> {
        self.to_know.pop_front()
    }

    /// Whether this replica can begin with what its disk has. One that stands alone has to be the only voter: nobody
    /// else would be heard.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn may_join(&self, restored: &Restored) -> Result<(), String> {
        let (me, voters) = (self.me, newest_voters(restored));
        if !self.is_alone() {
            return Ok(());
        }
        if !voters.contains(me) {
            return Err(format!(
                "this is {me}, which is none of the voters of the metadata in its log.dirs: use the directory that \
                 belongs to this node"
            ));
        }
        let nodes = voters.iter().map(|voter| voter.node);
        let missing: Vec<NodeId> = nodes.filter(|node| *node != me.node).collect();
        match missing.is_empty() {
            true => Ok(()),
            false => Err(format!(
                "the metadata is of the voters {voters:?}, and controller.quorum.voters does not say where nodes \
                 {missing:?} are"
            )),
        }
    }

    /// What people should know of this replica's vote, by what its disk has: who has one the metadata say, and the
    /// configuration only where to look for others.
    pub fn doubts(&self, restored: &Restored, image: &Image) -> Vec<String> {
        let Some(setup) = &self.setup else {
            return Vec::new();
        };
        let (me, voters) = (self.me, newest_voters(restored));
        let mut doubts = Vec::new();
        match voters.iter().find(|voter| voter.node == me.node) {
            Some(voter) if voter != me => doubts.push(how_to_vote_again(voter, me)),
            Some(_) if !setup.may_vote => doubts.push(format!(
                "this is {me}, which has a vote by the metadata, and process.roles gives it the broker role alone: set it \
                 to broker,controller, or take the vote from it (millracectl cluster voters remove {})",
                me.node
            )),
            None if !setup.observes => doubts.push(format!(
                "this is {me}, which has no vote by the metadata, whatever controller.quorum.voters says: the voters are \
                 {voters:?} (millracectl cluster voters add {} gives it one)",
                me.node
            )),
            _ => {}
        }
        if voters.contains(me) {
            let nodes = voters.iter().map(|voter| voter.node);
            let is_missing = |it: &NodeId| *it != me.node && setup.address_of(*it, image).is_none();
            let missing: Vec<NodeId> = nodes.filter(is_missing).collect();
            if !missing.is_empty() {
                doubts.push(format!(
                    "the metadata is of the voters {voters:?}, and neither controller.quorum.voters nor the metadata say \
                     where nodes {missing:?} are: they are heard when they come by themselves"
                ));
            }
        }
        doubts.extend(self.named_in_vain(voters));
        doubts
    }

    /// What to say if the configuration names voters that have no vote by the metadata.
    fn named_in_vain(&self, voters: &Voters) -> Option<String> {
        let named = self.setup.iter().flat_map(ClusterSetup::voters);
        let in_vain: Vec<NodeId> = named.filter(|node| !voters.has_node(*node)).collect();
        (!in_vain.is_empty()).then(|| {
            format!(
                "controller.quorum.voters names nodes {in_vain:?}, which have no vote: the voters of the metadata are \
                 {voters:?}, and naming others does not change them"
            )
        })
    }

    /// Somebody answers at the address of a node. Returns who did before, if that was somebody else.
    pub fn up(&mut self, there: ReplicaKey) -> Option<ReplicaKey> {
        let other = Other {
            there: Some(there),
            says: None,
        };
        let before = self.known.insert(there.node, other);
        self.tell_at = Mono(0);
        before?.there.filter(|before| *before != there)
    }

    /// Nobody does any more. What was to be said to it is void; who it was.
    pub fn down(&mut self, node: NodeId) -> Option<ReplicaKey> {
        self.to_say.retain(|(to, _)| *to != node);
        if !self.names(node) {
            return self.known.remove(&node)?.there;
        }
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

    /// Whether this replica answers at the address of its node.
    pub fn is_there(&self, replica: ReplicaKey) -> bool {
        let other = self.known.get(&replica.node);
        other.is_some_and(|it| it.there == Some(replica))
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
        let observes = self.observes();
        // What other observers know they were told as well. Of a quorum that there is anybody may tell: those whom the
        // configuration names may have no vote any more.
        let seats = self.known.iter().filter(|(node, other)| {
            let is_formed = matches!(other.says, Some(Knows::Formed(_)));
            observes || is_formed || self.names(**node)
        });
        let others = seats.map(|(node, other)| Seat {
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
        let own = (!observes).then_some(own);
        let seats: Vec<Seat> = own.into_iter().chain(others).collect();
        let (sees, why) = match forming(self.me, &seats) {
            Ok(Forming::Waits(waits, sees)) => (sees, waits_for(waits, &seats)),
            Ok(forms) => return Some(forms),
            Err(_) if seats.is_empty() => (None, "no controller has answered".to_owned()),
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

/// The voters by what a disk has, committed or not.
fn newest_voters(restored: &Restored) -> &Voters {
    let mut newest = restored.entries.iter().rev();
    let newest = newest.find_map(|entry| match &entry.payload {
        Payload::Voters(voters) => Some(voters),
        Payload::LeaderChange | Payload::Records(_) => None,
    });
    newest.unwrap_or(&restored.snapshot.voters)
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
