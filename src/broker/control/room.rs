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

use super::growth::room_in;
use crate::base::limits::WAITING_FOR_ROOM_BYTES_MAX;
use crate::base::{ShardId, StoreId};
use crate::broker::fx::Fx;
use crate::broker::msg::{ControlCall, Msg, ReqRef};
use crate::broker::owner::Owner;
use crate::controller::{Change, Directory};

/// The store of the metadata log.
const METADATA_STORE: StoreId = StoreId(0);

/// What an entry of the metadata log takes besides its records, with the state that is written behind it.
const ENTRY_BYTES: usize = 512;

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
pub struct RoomAnswer {
    needs: Needs,
    there: bool,
}

/// A request whose stores are being asked.
#[derive(Debug)]
struct Asking {
    req: ReqRef,
    call: Box<ControlCall>,
    asked: RoomAnswer,
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
            placed: VecDeque::new(),
        }
    }

    /// Whether nobody waits.
    pub fn is_quiet(&self) -> bool {
        self.asking.is_none() && self.waiting.is_empty()
    }

    /// Whether a request may ask now, or there is memory for it to wait.
    fn may_wait(&self, call: &ControlCall) -> bool {
        self.asking.is_none() || self.waiting_bytes + call.memory() <= WAITING_FOR_ROOM_BYTES_MAX
    }

    fn wait(&mut self, req: ReqRef, call: Box<ControlCall>) {
        self.waiting_bytes += call.memory();
        self.waiting.push_back((req, call));
    }

    /// A change is decided that puts so many partitions into stores, by the image of this version.
    pub fn decided(&mut self, version: u64, partitions: &BTreeMap<StoreId, usize>) {
        let needs = of_partitions(partitions);
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

    fn needs(&self, change: &Change) -> Needs {
        let mut needs = of_partitions(&change.partitions);
        for (store, bytes) in self.placed.iter().flat_map(|(_, placed)| placed) {
            if let Some(need) = needs.get_mut(store) {
                *need += bytes;
            }
        }
        *needs.entry(METADATA_STORE).or_default() += change.records.len() + ENTRY_BYTES;
        needs
    }

    /// Whether there is room for the change that a request makes; the stores may have been asked before.
    pub fn room_for(
        &self,
        change: &Change,
        call: &ControlCall,
        asked: Option<&RoomAnswer>,
        owner: &mut Owner,
    ) -> Room {
        match self.known_room(change, asked, owner) {
            Room::Unknown if !self.may_wait(call) => Room::Full,
            room => room,
        }
    }

    fn known_room(&self, change: &Change, asked: Option<&RoomAnswer>, owner: &mut Owner) -> Room {
        let (needs, fills) = (self.needs(change), fills(change));
        if let Some(asked) = asked {
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
            asked: RoomAnswer { needs, there: true },
        });
    }

    /// A store has said whether it has the room that it was asked for. Returns the request that all have answered for:
    /// it is to be decided once more, and then those that [`Rooms::next`] has.
    pub fn told(&mut self, there: bool) -> Option<(ReqRef, Box<ControlCall>, RoomAnswer)> {
        let asking = self.asking.as_mut()?;
        asking.missing -= 1;
        asking.asked.there &= there;
        if asking.missing > 0 {
            return None;
        }
        let Asking {
            req, call, asked, ..
        } = self.asking.take()?;
        Some((req, call, asked))
    }

    /// The next request that may ask, after one that was decided once more.
    pub fn next(&mut self) -> Option<(ReqRef, Box<ControlCall>)> {
        if self.asking.is_some() {
            return None;
        }
        let (req, call) = self.waiting.pop_front()?;
        self.waiting_bytes -= call.memory();
        Some((req, call))
    }
}

/// What new partitions take of their stores.
fn of_partitions(partitions: &BTreeMap<StoreId, usize>) -> Needs {
    /// As long as it is empty.
    const PARTITION_BYTES: usize = 1 << 10;
    let needs = partitions.iter();
    needs
        .map(|(store, count)| (*store, count * PARTITION_BYTES))
        .collect()
}

/// What makes stores fuller has to leave room for the rest.
fn fills(change: &Change) -> bool {
    !change.partitions.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::control::testing::{Site, call, directories, req, topic};
    use crate::controller::testing::partition;
    use crate::controller::{Image, MetadataRecord};

    fn change_of(records: Vec<MetadataRecord>) -> Change {
        let image = Image::of_node(directories(2).iter().map(|directory| directory.id));
        Change::new(&image, records).unwrap()
    }

    /// So many partitions, in the store of this number.
    fn partitions(store: usize, count: i32) -> Change {
        let mut records = vec![topic(1)];
        for index in 0..count {
            let mut record = partition(1, index, 1 + index as u64);
            if let MetadataRecord::Partition(partition) = &mut record {
                partition.directories = vec![directories(2)[store].id];
            }
            records.push(record);
        }
        change_of(records)
    }

    fn change(store: usize) -> Change {
        partitions(store, 1)
    }

    /// Something for a topic that is there: it makes no store fuller.
    fn no_partition() -> Change {
        change_of(vec![topic(1)])
    }

    struct Fixture {
        site: Site,
        rooms: Rooms,
        /// What stores have said to the request that is decided once more.
        asked: Option<RoomAnswer>,
    }

    impl Fixture {
        /// Two stores: one is here, the other one is another shard's.
        fn new() -> Self {
            Self {
                site: Site::new(),
                rooms: Rooms::new(directories(2)),
                asked: None,
            }
        }

        fn room(&mut self, change: &Change, bytes: usize) -> Room {
            let (rooms, asked) = (&self.rooms, self.asked.as_ref());
            let call = call(bytes);
            self.site
                .act(|owner, _| rooms.room_for(change, &call, asked, owner))
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
            let (req, _, asked) = self.rooms.told(there)?;
            self.asked = Some(asked);
            Some(req.id)
        }

        fn next(&mut self) -> Option<u64> {
            self.asked = None;
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
            let log = change(1).records.len() + ENTRY_BYTES;
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
        assert_eq!(f.room(&partitions(1, 2), 0), Room::Unknown);
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
        f.rooms.decided(5, &change(1).partitions);
        f.rooms.decided(6, &no_partition().partitions);
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
