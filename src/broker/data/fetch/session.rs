//! Incremental fetch sessions (KIP-227): a client names its partitions once and
//! then sends only what changed, and is answered only what changed.
//!
//! Sessions belong to the shard of the connection; a client that comes back by another connection may
//! meet another shard and is told FETCH_SESSION_ID_NOT_FOUND, upon which it starts a full session.

use std::collections::hash_map::Entry as MapEntry;
use std::collections::{BTreeMap, HashMap};

use crate::base::limits::{FETCH_SESSION_ENTRIES_MAX, REQUEST_ENTRIES_MAX, TOPIC_NAME_BYTES_MAX};
use crate::base::{ErrorCode, Mono, Now, Rng};
use crate::broker::msg::FetchedPart;
use crate::wire::TopicRef;
use crate::wire::fetch::{FetchRequest, FetchTopic, ForgottenTopic};

/// A session that was used within this time is not pushed out (Kafka's `MIN_INCREMENTAL_FETCH_SESSION_EVICTION_MS`).
const EVICTION_MS_MIN: u64 = 120_000;

/// Up to here it is less to look through them all than to make a map.
const FEW: usize = 8;

/// A partition that the client wants.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Its topic, by its place in [`WantedPartitions::topics`].
    pub topic: u32,
    pub index: i32,
    pub offset: i64,
    pub bytes_max: i32,
    pub leader_epoch: i32,
}

/// What a fetch is about.
#[derive(Debug, Default)]
pub struct WantedPartitions {
    /// Each once.
    pub topics: Vec<TopicRef>,
    /// In the order in which they are served.
    pub partitions: Vec<Asked>,
}

/// Finds topics in a list that has each once.
#[derive(Debug, Default)]
struct Places(HashMap<TopicRef, u32>);

impl Places {
    /// The place of a topic. The list may have become longer since the last time.
    fn of(&mut self, topics: &[TopicRef], topic: &TopicRef) -> Option<u32> {
        if topics.len() <= FEW {
            let place = topics.iter().position(|known| known == topic);
            return place.map(|place| place as u32);
        }
        for (place, known) in topics.iter().enumerate().skip(self.0.len()) {
            self.0.insert(known.clone(), place as u32);
        }
        self.0.get(topic).copied()
    }
}

impl WantedPartitions {
    /// What the topics of a request ask for.
    fn new(named: Vec<FetchTopic>) -> Self {
        let mut wanted = Self::default();
        let partitions = named.iter().map(|topic| topic.partitions.len());
        wanted.partitions.reserve(partitions.sum());
        let mut places = Places::default();
        for FetchTopic { topic, partitions } in named {
            let place = places.of(&wanted.topics, &topic).unwrap_or_else(|| {
                wanted.topics.push(topic);
                wanted.topics.len() as u32 - 1
            });
            let asked = partitions.iter().map(|partition| Asked {
                topic: place,
                index: partition.index,
                offset: partition.fetch_offset,
                bytes_max: partition.max_bytes,
                leader_epoch: partition.current_leader_epoch,
            });
            wanted.partitions.extend(asked);
        }
        wanted.merge();
        wanted
    }

    /// A partition that is named more than once counts as its last naming says, in the place of its first, as in Kafka.
    fn merge(&mut self) {
        let mut keys: Vec<(u32, i32)> = self.partitions.iter().map(Asked::key).collect();
        keys.sort_unstable();
        if keys.is_sorted_by(|one, next| one < next) {
            return;
        }
        let mut places: HashMap<(u32, i32), usize> = HashMap::new();
        for asked in std::mem::take(&mut self.partitions) {
            match places.entry(asked.key()) {
                MapEntry::Occupied(place) => self.partitions[*place.get()] = asked,
                MapEntry::Vacant(place) => {
                    place.insert(self.partitions.len());
                    self.partitions.push(asked);
                }
            }
        }
    }

    /// Whether a topic has a name that none can have.
    fn has_impossible_name(&self) -> bool {
        let is_impossible = |topic: &TopicRef| match topic {
            TopicRef::Name(name) => name.len() > TOPIC_NAME_BYTES_MAX,
            TopicRef::Id(_) => false,
        };
        self.topics.iter().any(is_impossible)
    }
}

impl Asked {
    fn key(&self) -> (u32, i32) {
        (self.topic, self.index)
    }
}

/// How a fetch relates to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionUse {
    /// No session: everything is answered.
    Sessionless,
    /// The first answer of a session: everything is answered.
    Full(i32),
    /// Only what changed is answered.
    Incremental(i32),
}

impl SessionUse {
    /// The session id to answer, 0 for none.
    pub fn id(self) -> i32 {
        match self {
            Self::Sessionless => 0,
            Self::Full(id) | Self::Incremental(id) => id,
        }
    }
}

#[derive(Debug)]
struct Entry {
    asked: Asked,
    /// What was last answered; -1 before.
    high_watermark: i64,
    last_stable: i64,
    log_start: i64,
    /// Position in the order of service: those that got bytes go to the back, so that a busy partition
    /// cannot starve the others when `max.bytes` is short.
    turn: u64,
}

#[derive(Debug)]
struct Session {
    /// Whether topics are named by id.
    by_id: bool,
    epoch_next: i32,
    used: Mono,
    topics: HashMap<TopicRef, Entries>,
    /// Topics, and partitions of all of them.
    entries: usize,
    turns: u64,
}

/// What a session knows of a topic's partitions.
type Entries = BTreeMap<i32, Entry>;

/// The sessions of one shard.
#[derive(Debug)]
pub struct Sessions {
    sessions: BTreeMap<i32, Session>,
    slots: usize,
    /// Topics and partitions in all sessions together.
    entries: usize,
}

impl Sessions {
    pub fn new(slots: usize) -> Self {
        Self {
            sessions: BTreeMap::new(),
            slots,
            entries: 0,
        }
    }

    /// Finds or makes the session of a request and returns all the partitions to be read. `by_id` says how
    /// this version of the request names topics; a session cannot change from one way to the other.
    pub fn open(
        &mut self,
        now: Now,
        by_id: bool,
        request: FetchRequest,
        rng: &mut Rng,
    ) -> Result<(SessionUse, WantedPartitions), ErrorCode> {
        let (id, epoch) = (request.session_id, request.session_epoch);
        let wanted = WantedPartitions::new(request.topics);
        match epoch {
            -1 => {
                self.remove(id);
                Ok((SessionUse::Sessionless, wanted))
            }
            0 => {
                self.remove(id);
                Ok((self.create(now, by_id, &wanted, rng), wanted))
            }
            _ => self.resume(now, by_id, (id, epoch), &wanted, &request.forgotten),
        }
    }

    fn create(
        &mut self,
        now: Now,
        by_id: bool,
        wanted: &WantedPartitions,
        rng: &mut Rng,
    ) -> SessionUse {
        let entries = wanted.topics.len() + wanted.partitions.len();
        let gets_one = !wanted.partitions.is_empty() && !wanted.has_impossible_name();
        if !gets_one || !self.make_room(now, entries) {
            return SessionUse::Sessionless;
        }
        let id = loop {
            let id = (rng.next_u64() & 0x7fff_ffff) as i32;
            if id != 0 && !self.sessions.contains_key(&id) {
                break id;
            }
        };
        let mut session = Session {
            by_id,
            epoch_next: 1,
            used: now.mono,
            topics: HashMap::new(),
            entries: 0,
            turns: 0,
        };
        session.put(wanted);
        self.entries += session.entries;
        self.sessions.insert(id, session);
        SessionUse::Full(id)
    }

    fn remove(&mut self, id: i32) {
        if let Some(session) = self.sessions.remove(&id) {
            self.entries -= session.entries;
        }
    }

    /// Makes room for a session of so many entries, if that can be.
    fn make_room(&mut self, now: Now, entries: usize) -> bool {
        if self.sessions.len() < self.slots && self.entries + entries <= FETCH_SESSION_ENTRIES_MAX {
            return true;
        }
        let oldest = self.sessions.iter().min_by_key(|(_, session)| session.used);
        match oldest {
            Some((&id, session)) if now.mono.ms_since(session.used) >= EVICTION_MS_MIN => {
                self.remove(id);
                self.entries + entries <= FETCH_SESSION_ENTRIES_MAX
            }
            _ => false,
        }
    }

    fn resume(
        &mut self,
        now: Now,
        by_id: bool,
        (id, epoch): (i32, i32),
        wanted: &WantedPartitions,
        forgotten: &[ForgottenTopic],
    ) -> Result<(SessionUse, WantedPartitions), ErrorCode> {
        let session = self
            .sessions
            .get_mut(&id)
            .ok_or(ErrorCode::FetchSessionIdNotFound)?;
        if epoch != session.epoch_next {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if session.by_id != by_id {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        session.epoch_next = epoch.checked_add(1).unwrap_or(1);
        session.used = now.mono;
        let before = session.entries;
        forgotten.iter().for_each(|gone| session.forget(gone));
        session.put(wanted);
        self.entries = self.entries - before + session.entries;
        let too_many =
            session.entries > REQUEST_ENTRIES_MAX || self.entries > FETCH_SESSION_ENTRIES_MAX;
        if too_many || wanted.has_impossible_name() {
            // The client names all its partitions at once then, and learns whether they are too many.
            self.remove(id);
            return Err(ErrorCode::FetchSessionIdNotFound);
        }
        Ok((SessionUse::Incremental(id), session.wanted()))
    }

    /// Begins to note what is about to be answered of these topics.
    pub fn noting(&mut self, now: Now, opened: SessionUse, topics: &[TopicRef]) -> Noting<'_> {
        let mut noting = Noting {
            all: !matches!(opened, SessionUse::Incremental(_)),
            turns: None,
            by_topic: Vec::new(),
        };
        let Some(session) = self.sessions.get_mut(&opened.id()) else {
            return noting;
        };
        session.used = now.mono;
        noting.turns = Some(&mut session.turns);
        noting.by_topic.resize_with(topics.len(), || None);
        let mut places = Places::default();
        for (topic, entries) in &mut session.topics {
            if let Some(place) = places.of(topics, topic) {
                noting.by_topic[place as usize] = Some(entries);
            }
        }
        noting
    }
}

/// Notes what partitions are about to be answered.
#[derive(Debug)]
pub struct Noting<'a> {
    /// Everything is answered.
    all: bool,
    turns: Option<&'a mut u64>,
    by_topic: Vec<Option<&'a mut Entries>>,
}

impl Noting<'_> {
    /// Notes what a partition is about to be answered; returns whether it has to be in the answer. Its topic is given
    /// by its place.
    pub fn has_to_be_told(&mut self, topic: u32, index: i32, found: &FetchedPart) -> bool {
        let entries = self.by_topic.get_mut(topic as usize);
        let entry = entries.and_then(|entries| entries.as_mut()?.get_mut(&index));
        let (Some(entry), Some(turns)) = (entry, &mut self.turns) else {
            return true;
        };
        let changed = !found.error.is_none()
            || found.bytes > 0
            || found.high_watermark != entry.high_watermark
            || found.last_stable != entry.last_stable
            || found.log_start != entry.log_start;
        entry.high_watermark = found.high_watermark;
        entry.last_stable = found.last_stable;
        entry.log_start = found.log_start;
        if found.bytes > 0 {
            **turns += 1;
            entry.turn = **turns;
        }
        changed || self.all
    }
}

impl Session {
    /// Takes up partitions, or what is now wanted of those that it has.
    fn put(&mut self, wanted: &WantedPartitions) {
        for run in wanted
            .partitions
            .chunk_by(|one, next| one.topic == next.topic)
        {
            let topic = &wanted.topics[run[0].topic as usize];
            if !self.topics.contains_key(topic) {
                self.entries += 1;
                // The name is a part of the request, which would stay as long as the session.
                self.topics.insert(topic.detached(), Entries::new());
            }
            let Some(entries) = self.topics.get_mut(topic) else {
                continue;
            };
            for asked in run {
                self.turns += 1;
                let entry = entries.entry(asked.index).or_insert_with(|| {
                    self.entries += 1;
                    Entry {
                        asked: *asked,
                        high_watermark: -1,
                        last_stable: -1,
                        log_start: -1,
                        turn: self.turns,
                    }
                });
                entry.asked = *asked;
            }
        }
    }

    /// Lets partitions go.
    fn forget(&mut self, gone: &ForgottenTopic) {
        let Some(entries) = self.topics.get_mut(&gone.topic) else {
            return;
        };
        let known = gone.partitions.iter();
        self.entries -= known
            .filter(|index| entries.remove(index).is_some())
            .count();
        if entries.is_empty() {
            self.entries -= 1;
            self.topics.remove(&gone.topic);
        }
    }

    /// All that it has, in the order of service.
    fn wanted(&self) -> WantedPartitions {
        let mut topics = Vec::with_capacity(self.topics.len());
        let mut by_turn: Vec<(u64, Asked)> = Vec::with_capacity(self.entries);
        for (topic, entries) in &self.topics {
            let topic_place = topics.len() as u32;
            topics.push(topic.clone());
            by_turn.extend(entries.values().map(|entry| {
                let asked = Asked {
                    topic: topic_place,
                    ..entry.asked
                };
                (entry.turn, asked)
            }));
        }
        by_turn.sort_unstable_by_key(|(turn, _)| *turn);
        let partitions = by_turn.into_iter().map(|(_, asked)| asked).collect();
        WantedPartitions { topics, partitions }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kafka_wire_core::StrBytes;

    use super::*;
    use crate::wire::fetch::FetchPartition;

    const NOW: Now = Now {
        mono: Mono(0),
        wall_ms: 0,
    };

    fn request(
        (session_id, session_epoch): (i32, i32),
        name: StrBytes,
        partitions: std::ops::Range<i32>,
    ) -> FetchRequest {
        let partition = |index| FetchPartition {
            index,
            current_leader_epoch: -1,
            fetch_offset: 0,
            last_fetched_epoch: -1,
            log_start_offset: -1,
            max_bytes: 1,
        };
        FetchRequest {
            session_id,
            session_epoch,
            topics: vec![FetchTopic {
                topic: TopicRef::Name(name),
                partitions: partitions.map(partition).collect(),
            }],
            ..FetchRequest::default()
        }
    }

    #[test]
    fn a_session_does_not_keep_the_memory_of_requests() {
        let frame = Bytes::from(vec![b'a'; 1000]);
        let name = StrBytes::try_from(frame.slice(10..20)).unwrap();
        let mut sessions = Sessions::new(10);
        let mut rng = Rng::new(1);
        let full = request((0, 0), name.clone(), 0..3);
        let (opened, _) = sessions.open(NOW, false, full, &mut rng).unwrap();
        // Named again, as a client does that goes on elsewhere.
        let again = request((opened.id(), 1), name, 0..3);
        let (_, wanted) = sessions.open(NOW, false, again, &mut rng).unwrap();
        assert_eq!((wanted.topics.len(), wanted.partitions.len()), (1, 3));
        let TopicRef::Name(kept) = &wanted.topics[0] else {
            panic!("named by id");
        };
        assert!(!frame.as_ptr_range().contains(&kept.as_bytes().as_ptr()));
    }

    #[test]
    fn the_partitions_of_a_topic_share_its_name() {
        let mut sessions = Sessions::new(10);
        let mut rng = Rng::new(1);
        let t = || StrBytes::from("t");
        let mut full = request((0, 0), t(), 0..3);
        full.topics.extend(request((0, 0), t(), 5..6).topics);
        let (opened, _) = sessions.open(NOW, false, full, &mut rng).unwrap();
        let again = request((opened.id(), 1), t(), 3..5);
        let (_, wanted) = sessions.open(NOW, false, again, &mut rng).unwrap();
        assert_eq!(wanted.topics, [TopicRef::Name(t())]);
        let seen: Vec<i32> = wanted.partitions.iter().map(|asked| asked.index).collect();
        assert_eq!(seen, [0, 1, 2, 5, 3, 4]);
        // When none of them is left, neither is the topic.
        let mut gone = request((opened.id(), 2), StrBytes::from("u"), 0..1);
        gone.forgotten = vec![ForgottenTopic {
            topic: TopicRef::Name(t()),
            partitions: (0..9).collect(),
        }];
        let (_, wanted) = sessions.open(NOW, false, gone, &mut rng).unwrap();
        assert_eq!((wanted.topics.len(), wanted.partitions.len()), (1, 1));
        assert_eq!(sessions.entries, 2);
    }

    #[test]
    fn a_name_that_no_topic_can_have_gets_no_session() {
        let mut sessions = Sessions::new(10);
        let mut rng = Rng::new(1);
        let named = |at, bytes: usize| request(at, StrBytes::from("t".repeat(bytes)), 0..3);
        let mut open = |request| sessions.open(NOW, false, request, &mut rng);
        let (opened, _) = open(named((0, 0), TOPIC_NAME_BYTES_MAX + 1)).unwrap();
        assert_eq!(opened, SessionUse::Sessionless);
        let (opened, _) = open(named((0, 0), TOPIC_NAME_BYTES_MAX)).unwrap();
        let refused = open(named((opened.id(), 1), TOPIC_NAME_BYTES_MAX + 1));
        assert_eq!(refused.unwrap_err(), ErrorCode::FetchSessionIdNotFound);
        assert_eq!(sessions.entries, 0);
    }

    /// What is answered is found by the place of its topic, however many there are.
    #[test]
    fn only_what_has_changed_is_told() {
        for topics in [1, FEW as i32, 100] {
            let mut sessions = Sessions::new(10);
            let mut rng = Rng::new(1);
            let name = |n: i32| StrBytes::from(format!("t{n}"));
            let mut full = request((0, 0), name(0), 0..2);
            for n in 1..topics {
                full.topics.extend(request((0, 0), name(n), 0..2).topics);
            }
            let (mut opened, mut wanted) = sessions.open(NOW, false, full, &mut rng).unwrap();
            for (epoch, changed) in [(1, 2 * topics), (2, 0), (3, 1)] {
                let mut noting = sessions.noting(NOW, opened, &wanted.topics);
                let is_told = |asked: &&Asked| {
                    let is_last =
                        wanted.topics[asked.topic as usize] == TopicRef::Name(name(topics - 1));
                    let grown = epoch == 3 && is_last && asked.index == 1;
                    let found = FetchedPart {
                        high_watermark: i64::from(grown),
                        ..FetchedPart::default()
                    };
                    noting.has_to_be_told(asked.topic, asked.index, &found)
                };
                let told = wanted.partitions.iter().filter(is_told).count();
                assert_eq!(told, changed as usize, "{topics} topics, epoch {epoch}");
                let mut next = request((opened.id(), epoch), name(0), 0..0);
                next.topics.clear();
                (opened, wanted) = sessions.open(NOW, false, next, &mut rng).unwrap();
            }
        }
    }

    #[test]
    fn the_last_naming_counts_in_the_place_of_the_first() {
        for repeat in [2, 100] {
            let mut twice = request((0, -1), StrBytes::from("t"), 0..3);
            let first = twice.topics[0].clone();
            for offset in 1..repeat {
                let mut again = first.clone();
                again
                    .partitions
                    .iter_mut()
                    .for_each(|p| p.fetch_offset = offset);
                twice.topics.push(again);
            }
            let wanted = WantedPartitions::new(twice.topics);
            let seen: Vec<_> = wanted
                .partitions
                .iter()
                .map(|a| (a.index, a.offset))
                .collect();
            assert_eq!(seen, [0, 1, 2].map(|index| (index, repeat - 1)));
        }
    }

    #[test]
    fn sessions_have_a_bound_each_and_in_all() {
        let mut sessions = Sessions::new(10_000);
        let mut rng = Rng::new(1);
        // One is the topic.
        let most = REQUEST_ENTRIES_MAX as i32 - 1;
        let mut open = |at, partitions| {
            let request = request(at, StrBytes::from("t"), partitions);
            sessions.open(NOW, false, request, &mut rng)
        };
        let (first, _) = open((0, 0), 0..most).unwrap();
        let grown = open((first.id(), 1), most..most + 1);
        assert_eq!(grown.unwrap_err(), ErrorCode::FetchSessionIdNotFound);
        let fit = FETCH_SESSION_ENTRIES_MAX / REQUEST_ENTRIES_MAX;
        for session in 0..fit + 2 {
            let (opened, wanted) = open((0, 0), 0..most).unwrap();
            assert_eq!(
                opened == SessionUse::Sessionless,
                session >= fit,
                "{session}"
            );
            assert_eq!(wanted.partitions.len(), most as usize);
        }
        // A session that ends makes room.
        let last = *sessions.sessions.keys().next().unwrap();
        let end = request((last, -1), StrBytes::from("t"), 0..1);
        sessions.open(NOW, false, end, &mut rng).unwrap();
        let entries: usize = sessions.sessions.values().map(|s| s.entries).sum();
        assert_eq!(sessions.entries, entries);
    }
}
