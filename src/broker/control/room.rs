//! Room for what the control shard decides. A change takes room in the store of the metadata log, and each
//! new partition some in the store that it goes to, whose checkpoints become longer by it; what has no room
//! in any of them is refused.
//!
//! Where it is not plain at once that there is room, the owners of the stores are asked. One that grows says
//! so when it has grown; until then the request waits, and others that would make partitions behind it, as
//! far as they may. Then the request is decided once more, by the image of that time, and asks again if it
//! takes more than it asked for.
//!
//! Until a store has made the partitions that were decided, the next one to ask asks for these too. What
//! clients may append meanwhile does not touch what a store keeps for the broker.

use std::collections::{BTreeMap, VecDeque};

use super::change::Change;
use super::growth::room_in;
use crate::base::limits::WAITING_FOR_ROOM_BYTES_MAX;
use crate::base::{ShardId, StoreId};
use crate::broker::fx::Fx;
use crate::broker::msg::{ControlCall, Msg, ReqRef};
use crate::broker::owner::Owner;
use crate::controller::{Directory, MetadataRecord};

/// The store of the metadata log.
const METADATA_STORE: StoreId = StoreId(0);

/// Bytes that are to have room, by store.
type Needs = BTreeMap<StoreId, usize>;

/// Whether there is room for a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    There,
    Full,
    /// Somebody has to be asked: [`Rooms::ask`].
    Unknown,
}

/// What stores were asked for, and whether all of them have it.
#[derive(Debug)]
struct Asked {
    needs: Needs,
    there: bool,
}

/// A request whose stores are being asked.
#[derive(Debug)]
struct Asking {
    req: ReqRef,
    call: Box<ControlCall>,
    asked: Asked,
    missing: usize,
}

/// See the module.
#[derive(Debug)]
pub struct Rooms {
    /// The stores of this node, by number.
    here: Vec<Directory>,
    asking: Option<Asking>,
    /// Those that ask next, in turn.
    waiting: VecDeque<(ReqRef, Box<ControlCall>)>,
    /// Memory of those. It is charged to their connections only as long as these are there.
    waiting_bytes: usize,
    /// For the request that is being decided once more.
    answered: Option<Asked>,
    /// Partitions that were decided and that not every shard serves yet: version of the image, what they take.
    placed: VecDeque<(u64, Needs)>,
}

impl Rooms {
    pub fn new(here: Vec<Directory>) -> Self {
        Self {
            here,
            asking: None,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            answered: None,
            placed: VecDeque::new(),
        }
    }

    /// Whether nobody waits.
    pub fn is_quiet(&self) -> bool {
        self.asking.is_none() && self.waiting.is_empty()
    }

    /// Whether a request may ask now, or there is memory for it to wait.
    fn may_wait(&self, call: &ControlCall) -> bool {
        self.asking.is_none() || self.waiting_bytes + memory(call) <= WAITING_FOR_ROOM_BYTES_MAX
    }

    fn wait(&mut self, req: ReqRef, call: Box<ControlCall>) {
        self.waiting_bytes += memory(&call);
        self.waiting.push_back((req, call));
    }

    /// A change is decided, by the image of this version.
    pub fn decided(&mut self, version: u64, records: &[MetadataRecord]) {
        let needs = self.of_partitions(records);
        if !needs.is_empty() {
            self.placed.push_back((version, needs));
        }
    }

    /// Every shard serves by this version.
    pub fn served(&mut self, version: u64) {
        while self.placed.front().is_some_and(|(of, _)| *of <= version) {
            self.placed.pop_front();
        }
    }

    /// What new partitions take of the stores of this node.
    fn of_partitions(&self, records: &[MetadataRecord]) -> Needs {
        /// As long as it is empty.
        const PARTITION_BYTES: usize = 1 << 10;
        let mut needs = Needs::new();
        for record in records {
            if let MetadataRecord::Partition(partition) = record {
                let stores = (0..).map(StoreId).zip(&self.here);
                for (store, _) in stores.filter(|(_, d)| partition.directories.contains(&d.id)) {
                    *needs.entry(store).or_default() += PARTITION_BYTES;
                }
            }
        }
        needs
    }

    fn needs(&self, change: &Change) -> Needs {
        let mut needs = self.of_partitions(&change.records);
        for (store, bytes) in self.placed.iter().flat_map(|(_, placed)| placed) {
            if let Some(need) = needs.get_mut(store) {
                *need += bytes;
            }
        }
        *needs.entry(METADATA_STORE).or_default() += change.batch.len();
        needs
    }

    /// Whether there is room for the change that a request makes.
    pub fn room_for(&self, change: &Change, call: &ControlCall, owner: &mut Owner) -> Room {
        match self.known_room(change, owner) {
            Room::Unknown if !self.may_wait(call) => Room::Full,
            room => room,
        }
    }

    fn known_room(&self, change: &Change, owner: &mut Owner) -> Room {
        let (needs, fills) = (self.needs(change), fills(change));
        if let Some(asked) = &self.answered {
            let covered = |(store, need)| asked.needs.get(store).is_some_and(|has| has >= need);
            return match asked.there {
                false => Room::Full,
                true if needs.iter().all(covered) => Room::There,
                true => Room::Unknown,
            };
        }
        if fills && !self.is_quiet() {
            return Room::Unknown;
        }
        let mut there = needs
            .iter()
            .map(|(store, need)| room_in(owner, *store, *need, fills));
        match there.try_fold((), |(), there| match there {
            Some(true) => Ok(()),
            Some(false) => Err(Room::Full),
            None => Err(Room::Unknown),
        }) {
            Ok(()) => Room::There,
            Err(room) => room,
        }
    }

    /// Asks the stores for room, or waits for its turn to; then the request is taken up again.
    pub fn ask(&mut self, req: ReqRef, call: Box<ControlCall>, change: &Change, fx: &mut Fx<'_>) {
        if self.asking.is_some() {
            return self.wait(req, call);
        }
        let (needs, fills) = (self.needs(change), fills(change));
        for (&store, &bytes) in &needs {
            let here = self.here.get(usize::from(store.0));
            let owner = here.map(|directory| directory.shard);
            let msg = Msg::Room {
                store,
                bytes,
                fills,
            };
            fx.send(owner.unwrap_or(ShardId(0)), msg);
        }
        self.asking = Some(Asking {
            req,
            call,
            missing: needs.len(),
            asked: Asked { needs, there: true },
        });
    }

    /// A store has said whether it has the room that it was asked for. Returns the request that all have answered for:
    /// it is to be decided once more, and then those that [`Rooms::next`] has.
    pub fn told(&mut self, there: bool) -> Option<(ReqRef, Box<ControlCall>)> {
        let asking = self.asking.as_mut()?;
        asking.missing -= 1;
        asking.asked.there &= there;
        if asking.missing > 0 {
            return None;
        }
        let Asking {
            req, call, asked, ..
        } = self.asking.take()?;
        self.answered = Some(asked);
        Some((req, call))
    }

    /// The next request that may ask, after one that was decided once more.
    pub fn next(&mut self) -> Option<(ReqRef, Box<ControlCall>)> {
        self.answered = None;
        if self.asking.is_some() {
            return None;
        }
        let (req, call) = self.waiting.pop_front()?;
        self.waiting_bytes -= memory(&call);
        Some((req, call))
    }
}

/// What a request keeps while it waits.
fn memory(call: &ControlCall) -> usize {
    size_of::<ControlCall>() + call.body.len()
}

/// What makes stores fuller has to leave room for the rest.
fn fills(change: &Change) -> bool {
    let mut records = change.records.iter();
    records.any(|record| matches!(record, MetadataRecord::Partition(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::control::testing::{NOW, Site, call, directories, req, topic};
    use crate::controller::Image;
    use crate::controller::testing::partition;

    /// One partition, in the store of this number.
    fn change(store: usize) -> Change {
        let mut record = partition(1, 0, 1);
        if let MetadataRecord::Partition(partition) = &mut record {
            partition.directories = vec![directories(2)[store].id];
        }
        Change::new(NOW, &Image::default(), vec![topic(1), record])
    }

    /// Something for a topic that is there: it makes no store fuller.
    fn no_partition() -> Change {
        Change::new(NOW, &Image::default(), vec![topic(1)])
    }

    struct Fixture {
        site: Site,
        rooms: Rooms,
    }

    impl Fixture {
        /// Two stores: one is here, the other one is another shard's.
        fn new() -> Self {
            Self {
                site: Site::new(),
                rooms: Rooms::new(directories(2)),
            }
        }

        fn room(&mut self, change: &Change, bytes: usize) -> Room {
            let rooms = &self.rooms;
            let call = call(bytes);
            self.site
                .act(|owner, _| rooms.room_for(change, &call, owner))
        }

        /// Asks; which stores are, and for how much.
        fn ask(&mut self, id: u64, change: &Change) -> Vec<(u16, u16, usize)> {
            let rooms = &mut self.rooms;
            self.site
                .act(|_, fx| rooms.ask(req(id), call(0), change, fx));
            let sent = self.site.sent().into_iter();
            sent.map(|(to, msg)| match msg {
                Msg::Room {
                    store,
                    bytes,
                    fills,
                } => {
                    assert!(fills, "a partition fills");
                    (to, store.0, bytes)
                }
                msg => panic!("unexpected {msg:?}"),
            })
            .collect()
        }

        fn told(&mut self, there: bool) -> Option<u64> {
            self.rooms.told(there).map(|(req, _)| req.id)
        }

        fn next(&mut self) -> Option<u64> {
            self.rooms.next().map(|(req, _)| req.id)
        }
    }

    #[test]
    fn who_has_room_here_asks_nobody() {
        let mut f = Fixture::new();
        assert_eq!(f.room(&no_partition(), 0), Room::There);
        assert_eq!(f.room(&change(0), 0), Room::There);
        assert_eq!(
            f.room(&change(1), 0),
            Room::Unknown,
            "it is another shard's"
        );
    }

    #[test]
    fn all_stores_must_have_room_before_a_request_is_decided_once_more() {
        for (answers, room) in [([true, true], Room::There), ([false, true], Room::Full)] {
            let mut f = Fixture::new();
            let log = change(1).batch.len();
            assert_eq!(f.ask(7, &change(1)), [(0, 0, log), (1, 1, 1024)]);
            assert!(!f.rooms.is_quiet());
            assert_eq!((f.told(answers[0]), f.told(answers[1])), (None, Some(7)));
            assert_eq!(f.room(&change(1), 0), room);
            assert_eq!((f.next(), f.told(true)), (None, None));
            assert!(f.rooms.is_quiet());
        }
    }

    #[test]
    fn who_takes_more_than_it_has_asked_for_asks_again() {
        let mut f = Fixture::new();
        f.ask(7, &change(1));
        (0..2).for_each(|_| _ = f.told(true));
        let mut more = change(1);
        more.records.extend(change(1).records);
        assert_eq!(f.room(&more, 0), Room::Unknown);
    }

    #[test]
    fn requests_ask_one_after_the_other() {
        let mut f = Fixture::new();
        f.ask(1, &change(1));
        assert_eq!(f.room(&change(0), 0), Room::Unknown, "not before the first");
        assert_eq!(f.room(&no_partition(), 0), Room::There, "it takes nothing");
        assert_eq!(f.room(&change(0), WAITING_FOR_ROOM_BYTES_MAX), Room::Full);
        assert_eq!(
            (f.ask(2, &change(0)), f.ask(3, &change(1))),
            (vec![], vec![])
        );
        assert_eq!((f.told(true), f.told(true)), (None, Some(1)));
        assert_eq!(f.next(), Some(2));
        assert_eq!(f.ask(2, &change(0)).len(), 1);
        assert_eq!(f.next(), None, "the second one asks");
        assert_eq!((f.told(true), f.next()), (Some(2), Some(3)));
        assert!(f.rooms.is_quiet());
    }

    #[test]
    fn what_was_decided_counts_until_every_shard_serves_it() {
        let mut f = Fixture::new();
        f.rooms.decided(5, &change(1).records);
        f.rooms.decided(6, &no_partition().records);
        assert_eq!(f.ask(1, &change(1))[1], (1, 1, 2048));
        (0..2).for_each(|_| _ = f.told(true));
        f.next();
        f.rooms.served(4);
        assert_eq!(f.ask(2, &change(1))[1], (1, 1, 2048));
        (0..2).for_each(|_| _ = f.told(true));
        f.next();
        f.rooms.served(5);
        assert_eq!(f.ask(3, &change(1))[1], (1, 1, 1024));
    }
}
