//! How a quorum begins: which replicas are its first voters, if none of them has a disk that knows.
//!
//! A node has a *seat* for each address that its configuration gives for a controller, its own among them, and asks
//! there who sits on it. The voters are those who do, once all have answered, all are blank, and all see the same ones;
//! the one with the smallest id writes it down, and the others take it from there. So an empty disk never makes a
//! second cluster out of one that exists (it meets somebody who is not blank, or waits for who does not answer), nor
//! do two processes with the id of one node (the others see one of them at most).
//!
//! What a seat says is what was heard last on the connection that *this* node has opened to its address; nothing is
//! known of a seat whose connection is gone.

use std::fmt;
use std::sync::Arc;

use super::voters::{ReplicaKey, Voters};
use crate::base::NodeId;

/// A quorum that has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Formed {
    /// The cluster that it is of.
    pub cluster: Arc<str>,
    /// Who has a vote by what whoever says this knows to be committed. They may be others by now. What is not committed
    /// may be taken back, and who began with that would never hear of it.
    pub voters: Voters,
}

/// What a replica says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sitting {
    /// Who it is.
    pub replica: ReplicaKey,
    /// What its disk knows.
    pub knows: Knows,
}

/// What the disk of a replica knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Knows {
    /// Nothing. With the replicas that it would form a quorum with, if it sees them all.
    Blank(Option<Voters>),
    /// It is of this one.
    Formed(Formed),
}

/// An address at which a controller should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Whose it is, if the configuration says so: `controller.quorum.voters` does,
    /// `controller.quorum.bootstrap.servers` does not.
    pub node: Option<NodeId>,
    /// What was heard there.
    pub sitting: Option<Sitting>,
}

/// What a blank replica does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forming {
    /// It waits, and says that it sees these.
    Waits(WaitsFor, Option<Voters>),
    /// It begins a quorum of these, with a cluster id of its own making, as soon as its disk has that.
    Forms(Voters),
    /// It is a voter of one that has begun, as soon as its disk has that.
    Joins(Formed),
    /// It has no vote in one that has begun, and may observe it.
    Observes(Formed),
}

/// What a blank replica waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitsFor {
    /// Somebody at this seat, by its place.
    Answer(usize),
    /// That this one sees the same replicas.
    SameView(ReplicaKey),
    /// That this one begins.
    First(ReplicaKey),
    /// That a quorum begins, of which it will not be.
    Others,
}

/// Why there will be no quorum before somebody changes something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FormingError {
    /// Another node than the configuration says sits there.
    WrongNode {
        /// Whose seat it is.
        seat: NodeId,
        /// Who sits there.
        found: NodeId,
    },
    /// Two seats are the same node's, or there are too many.
    BadSeats,
    /// Somebody else has the id of this node, and sits on its seat.
    Twice(ReplicaKey),
    /// There are two clusters.
    TwoClusters(Arc<str>, Arc<str>),
}

impl fmt::Display for FormingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongNode { seat, found } => write!(
                f,
                "node {found} answers where controller.quorum.voters has node {seat}: correct it, or node.id there"
            ),
            Self::BadSeats => f.write_str(
                "two of the controllers in the configuration are one node, or there are too many: name each once",
            ),
            Self::Twice(replica) => write!(
                f,
                "another process answers as node {} at the address of this one (its store-0 is {}): \
                 give one of them another node.id",
                replica.node, replica.directory
            ),
            Self::TwoClusters(one, other) => write!(
                f,
                "the controllers in the configuration are of two clusters, {one} and {other}: \
                 name those of one cluster only"
            ),
        }
    }
}

impl std::error::Error for FormingError {}

/// What the blank replica `me` does, by what is known of the seats.
///
/// # Errors
/// The configuration or a node is wrong.
pub fn forming(me: ReplicaKey, seats: &[Seat]) -> Result<Forming, FormingError> {
    let mut formed: Option<&Formed> = None;
    for seat in seats {
        let Some(Sitting { replica, knows }) = &seat.sitting else {
            continue;
        };
        if let Some(node) = seat.node.filter(|node| *node != replica.node) {
            let found = replica.node;
            return Err(FormingError::WrongNode { seat: node, found });
        }
        if replica.node == me.node && *replica != me {
            return Err(FormingError::Twice(*replica));
        }
        if let Knows::Formed(this) = knows {
            // Who has a vote may have changed since it began, and not everybody may know.
            if let Some(other) = formed.filter(|other| other.cluster != this.cluster) {
                let (one, other) = (Arc::clone(&other.cluster), Arc::clone(&this.cluster));
                return Err(FormingError::TwoClusters(one, other));
            }
            if formed.is_none() || this.voters.contains(me) {
                formed = Some(this);
            }
        }
    }
    if let Some(formed) = formed {
        let formed = formed.clone();
        return Ok(match formed.voters.contains(me) {
            true => Forming::Joins(formed),
            false => Forming::Observes(formed),
        });
    }
    if let Some(missing) = seats.iter().position(|seat| seat.sitting.is_none()) {
        return Ok(Forming::Waits(WaitsFor::Answer(missing), None));
    }
    let sitting = seats.iter().filter_map(|seat| seat.sitting.as_ref());
    let replicas = sitting.clone().map(|sitting| sitting.replica);
    let voters = Voters::new(replicas).ok_or(FormingError::BadSeats)?;
    if !voters.contains(me) {
        return Ok(Forming::Waits(WaitsFor::Others, None));
    }
    let sees_others = |sitting: &&Sitting| {
        let sees = Knows::Blank(Some(voters.clone()));
        sitting.replica != me && sitting.knows != sees
    };
    let first = voters.iter().find(|voter| *voter < me);
    let waits = match (sitting.clone().find(sees_others), first) {
        (Some(other), _) => WaitsFor::SameView(other.replica),
        (None, Some(first)) => WaitsFor::First(first),
        (None, None) => return Ok(Forming::Forms(voters)),
    };
    Ok(Forming::Waits(waits, Some(voters)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::key_in as key;
    use super::*;

    fn seat(replica: ReplicaKey, knows: Knows) -> Seat {
        Seat {
            node: Some(replica.node),
            sitting: Some(Sitting { replica, knows }),
        }
    }

    fn nobody(node: i32) -> Seat {
        Seat {
            node: Some(NodeId(node)),
            sitting: None,
        }
    }

    fn three() -> Voters {
        Voters::new([key(1, 1), key(2, 1), key(3, 1)]).unwrap()
    }

    /// Seats of three, who all see what this says.
    fn seats(sees: Option<Voters>) -> Vec<Seat> {
        let blank = |replica| seat(replica, Knows::Blank(sees.clone()));
        three().iter().map(blank).collect()
    }

    fn formed(cluster: &str) -> Formed {
        Formed {
            cluster: cluster.into(),
            voters: three(),
        }
    }

    #[test]
    fn the_first_of_those_who_all_see_each_other_begins() {
        let (one, two) = (key(1, 1), key(2, 1));
        let mut some = seats(Some(three()));
        some[2] = nobody(3);
        let waits = |what, sees| Ok(Forming::Waits(what, sees));
        assert_eq!(forming(one, &some), waits(WaitsFor::Answer(2), None));
        let all = Some(three());
        let unseen = waits(WaitsFor::SameView(two), all.clone());
        assert_eq!(forming(one, &seats(None)), unseen);
        let same = seats(all.clone());
        assert_eq!(forming(two, &same), waits(WaitsFor::First(one), all));
        assert_eq!(forming(one, &same), Ok(Forming::Forms(three())));
        assert_eq!(forming(key(9, 1), &same), waits(WaitsFor::Others, None));
    }

    /// Configurations that name other voters see others, and wait for each other.
    #[test]
    fn who_names_other_voters_forms_nothing_with_the_others() {
        let (one, two) = (key(1, 1), key(2, 1));
        let pair = Voters::new([one, two]).unwrap();
        let fewer = [
            seat(one, Knows::Blank(Some(pair.clone()))),
            seat(two, Knows::Blank(Some(three()))),
        ];
        let waits = Ok(Forming::Waits(WaitsFor::SameView(two), Some(pair.clone())));
        assert_eq!(forming(one, &fewer), waits);
        let mut more = seats(Some(three()));
        more[0] = seat(one, Knows::Blank(Some(pair)));
        let waits = Ok(Forming::Waits(WaitsFor::SameView(one), Some(three())));
        assert_eq!(forming(two, &more), waits);
        assert_eq!(forming(key(3, 1), &more), waits);
    }

    #[test]
    fn who_is_none_of_the_first_voters_observes() {
        let mut seats = seats(None);
        seats[0] = seat(key(1, 1), Knows::Formed(formed("a")));
        seats[2] = nobody(3);
        let joins = Ok(Forming::Joins(formed("a")));
        assert_eq!(forming(key(2, 1), &seats), joins);
        assert_eq!(forming(key(3, 1), &seats), joins);
        let observes = Ok(Forming::Observes(formed("a")));
        assert_eq!(forming(key(3, 2), &seats), observes, "its disk was wiped");
        assert_eq!(forming(key(9, 1), &seats), observes);
    }

    #[test]
    fn what_somebody_has_to_correct_is_said() {
        let me = key(2, 1);
        let mut wrong = seats(None);
        wrong[2] = Seat {
            node: Some(NodeId(3)),
            ..seat(key(4, 1), Knows::Blank(None))
        };
        let mut two = seats(None);
        two[0] = seat(key(1, 1), Knows::Formed(formed("a")));
        two[2] = seat(key(3, 1), Knows::Formed(formed("b")));
        let mut twice = seats(None);
        twice[1] = seat(key(2, 7), Knows::Blank(None));
        let mut same = seats(None);
        same[2] = Seat {
            node: None,
            ..same[0].clone()
        };
        for (seats, says) in [
            (wrong, "node 4 answers where"),
            (two, "two clusters, a and b"),
            (twice, "another process answers as node 2"),
            (same, "are one node"),
        ] {
            let why = forming(me, &seats).unwrap_err().to_string();
            assert!(why.contains(says), "{why}");
        }
    }

    /// A node of the model: its disk, and what it has heard since it started.
    #[derive(Debug)]
    struct Host {
        me: ReplicaKey,
        disk: Option<Formed>,
        sees: Option<Voters>,
        heard: Vec<Option<Sitting>>,
    }

    impl Host {
        fn new(node: usize, directory: u8, of: usize) -> Self {
            Self {
                me: key(node as i32, directory),
                disk: None,
                sees: None,
                heard: vec![None; of],
            }
        }

        fn sitting(&self) -> Sitting {
            let blank = || Knows::Blank(self.sees.clone());
            Sitting {
                replica: self.me,
                knows: self.disk.clone().map_or_else(blank, Knows::Formed),
            }
        }

        /// It acts by what it has heard; the disk is written at once.
        fn act(&mut self) {
            if self.disk.is_some() {
                return;
            }
            let seats = self.heard.iter().enumerate().map(|(node, heard)| Seat {
                node: Some(NodeId(node as i32)),
                sitting: heard.clone(),
            });
            let seats: Vec<Seat> = seats.collect();
            match forming(self.me, &seats) {
                Ok(Forming::Forms(voters)) => {
                    self.disk = Some(Formed {
                        cluster: format!("{:?}", self.me).into(),
                        voters,
                    });
                }
                Ok(Forming::Joins(formed)) => self.disk = Some(formed),
                Ok(Forming::Waits(_, sees)) => self.sees = sees,
                Ok(Forming::Observes(_)) | Err(_) => {}
            }
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Event {
        /// The first hears the second, as that is now.
        Hears(usize, usize),
        /// It hears everybody.
        HearsAll(usize),
        Acts(usize),
        /// Its process ends; what others have heard of it may be old for a while.
        Restarts(usize),
        /// And its disk is another one.
        Wiped(usize),
        /// The first learns that its connection to the second is gone.
        Loses(usize, usize),
    }

    /// Behind the nodes comes one that has the id of the first, and whose own seat leads to itself.
    fn event(nodes: usize) -> impl Strategy<Value = Event> {
        let (node, all) = (0..nodes, 0..nodes + 1);
        prop_oneof![
            8 => (all.clone(), node.clone()).prop_map(|(a, b)| Event::Hears(a, b)),
            4 => node.clone().prop_map(Event::HearsAll),
            4 => all.prop_map(Event::Acts),
            1 => node.clone().prop_map(Event::Restarts),
            1 => node.clone().prop_map(Event::Wiped),
            1 => (node.clone(), node).prop_map(|(a, b)| Event::Loses(a, b)),
        ]
    }

    proptest! {
        /// Whatever is heard when, and whose disk is lost: there is one cluster, and when nothing happens any more
        /// everybody is of it who may be.
        #[test]
        fn there_is_one_quorum((nodes, events) in (2usize..5).prop_flat_map(|nodes| {
            (Just(nodes), prop::collection::vec(event(nodes), 0..200))
        })) {
            let mut hosts: Vec<Host> = (0..nodes).map(|node| Host::new(node, 0, nodes)).collect();
            let twin = nodes;
            hosts.push(Host::new(0, u8::MAX, nodes));
            let mut directory = 0;
            for event in events {
                match event {
                    Event::Hears(by, 0) if by == twin => hosts[twin].heard[0] = Some(hosts[twin].sitting()),
                    Event::Hears(by, of) => hosts[by].heard[of] = Some(hosts[of].sitting()),
                    Event::HearsAll(by) => {
                        let heard = hosts[..nodes].iter().map(|host| Some(host.sitting()));
                        hosts[by].heard = heard.collect();
                    }
                    Event::Acts(who) => hosts[who].act(),
                    Event::Loses(by, of) => hosts[by].heard[of] = None,
                    Event::Restarts(who) => {
                        hosts[who].heard.fill(None);
                        hosts[who].sees = None;
                    }
                    Event::Wiped(who) => {
                        directory += 1;
                        hosts[who] = Host::new(who, directory, nodes);
                    }
                }
                let mut clusters = hosts.iter().filter_map(|host| host.disk.as_ref());
                let first = clusters.next();
                prop_assert!(clusters.all(|formed| Some(formed) == first), "{:?}", hosts);
            }
            prop_assert_eq!(&hosts[twin].disk, &None);
            hosts.truncate(nodes);
            for _ in 0..3 {
                for by in 0..nodes {
                    for of in 0..nodes {
                        hosts[by].heard[of] = Some(hosts[of].sitting());
                    }
                }
                hosts.iter_mut().for_each(Host::act);
            }
            let formed = hosts.iter().find_map(|host| host.disk.clone());
            prop_assert!(formed.is_some());
            for host in &hosts {
                let is_voter = formed.as_ref().is_some_and(|formed| formed.voters.contains(host.me));
                prop_assert_eq!(host.disk.is_some(), is_voter);
            }
        }
    }
}
