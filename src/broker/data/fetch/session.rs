//! Incremental fetch sessions (KIP-227): a client names its partitions once and
//! then sends only what changed, and is answered only what changed.
//!
//! Sessions belong to the shard of the connection; a client that comes back by another connection may
//! meet another shard and is told FETCH_SESSION_ID_NOT_FOUND, upon which it starts a full session.

use std::collections::hash_map::Entry as MapEntry;
use std::collections::{BTreeMap, HashMap};

use crate::base::limits::{FETCH_SESSION_ENTRIES_MAX, REQUEST_ENTRIES_MAX};
use crate::base::{ErrorCode, Mono, Now, Rng};
use crate::broker::msg::FetchedPart;
use crate::wire::TopicRef;
use crate::wire::fetch::FetchRequest;

/// A session that was used within this time is not pushed out (Kafka's `MIN_INCREMENTAL_FETCH_SESSION_EVICTION_MS`).
const EVICTION_MS_MIN: u64 = 120_000;

/// A partition that the client wants.
#[derive(Clone, Debug)]
pub struct Asked {
    pub topic: TopicRef,
    pub index: i32,
    pub offset: i64,
    pub bytes_max: i32,
    pub leader_epoch: i32,
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
    entries: HashMap<(TopicRef, i32), Entry>,
    turns: u64,
}

/// The sessions of one shard.
#[derive(Debug)]
pub struct Sessions {
    sessions: BTreeMap<i32, Session>,
    slots: usize,
    /// Partitions in all sessions together.
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
    ) -> Result<(SessionUse, Vec<Asked>), ErrorCode> {
        let (id, epoch) = (request.session_id, request.session_epoch);
        let forgotten: Vec<(TopicRef, i32)> = request
            .forgotten
            .iter()
            .flat_map(|gone| {
                gone.partitions
                    .iter()
                    .map(|index| (gone.topic.clone(), *index))
            })
            .collect();
        let asked = asked(request);
        match epoch {
            -1 => {
                self.remove(id);
                Ok((SessionUse::Sessionless, asked))
            }
            0 => {
                self.remove(id);
                Ok((self.create(now, by_id, &asked, rng), asked))
            }
            _ => self.resume(now, by_id, (id, epoch), asked, &forgotten),
        }
    }

    fn create(&mut self, now: Now, by_id: bool, asked: &[Asked], rng: &mut Rng) -> SessionUse {
        if asked.is_empty() || !self.make_room(now, asked.len()) {
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
            entries: HashMap::new(),
            turns: 0,
        };
        for asked in asked {
            session.put(asked.clone());
        }
        self.entries += session.entries.len();
        self.sessions.insert(id, session);
        SessionUse::Full(id)
    }

    fn remove(&mut self, id: i32) {
        if let Some(session) = self.sessions.remove(&id) {
            self.entries -= session.entries.len();
        }
    }

    /// Makes room for a session of so many partitions, if that can be.
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
        asked: Vec<Asked>,
        forgotten: &[(TopicRef, i32)],
    ) -> Result<(SessionUse, Vec<Asked>), ErrorCode> {
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
        let before = session.entries.len();
        for key in forgotten {
            session.entries.remove(key);
        }
        for asked in asked {
            session.put(asked);
        }
        let after = session.entries.len();
        self.entries = self.entries - before + after;
        if after > REQUEST_ENTRIES_MAX || self.entries > FETCH_SESSION_ENTRIES_MAX {
            // The client names all its partitions at once then, and learns whether they are too many.
            self.remove(id);
            return Err(ErrorCode::FetchSessionIdNotFound);
        }
        let mut entries: Vec<&Entry> = session.entries.values().collect();
        entries.sort_by_key(|entry| entry.turn);
        let all = entries.into_iter().map(|entry| entry.asked.clone());
        Ok((SessionUse::Incremental(id), all.collect()))
    }

    /// Notes what a partition is about to be answered; returns whether it has to be in the answer.
    pub fn answered(
        &mut self,
        now: Now,
        opened: &SessionUse,
        topic: &TopicRef,
        index: i32,
        found: &FetchedPart,
    ) -> bool {
        let Some(session) = self.sessions.get_mut(&opened.id()) else {
            return true;
        };
        session.used = now.mono;
        session.turns += 1;
        let turn = session.turns;
        let Some(entry) = session.entries.get_mut(&(topic.clone(), index)) else {
            return true;
        };
        let changed = !found.error.is_none()
            || found.bytes > 0
            || found.high_watermark != entry.high_watermark
            || found.log_start != entry.log_start;
        entry.high_watermark = found.high_watermark;
        entry.log_start = found.log_start;
        if found.bytes > 0 {
            entry.turn = turn;
        }
        changed || matches!(opened, SessionUse::Full(_))
    }
}

impl Session {
    fn put(&mut self, asked: Asked) {
        let key = (asked.topic.clone(), asked.index);
        self.turns += 1;
        match self.entries.get_mut(&key) {
            Some(entry) => {
                let topic = std::mem::replace(&mut entry.asked, asked).topic;
                entry.asked.topic = topic;
            }
            None => {
                // The name is a part of the request, which would stay as long as the session.
                let topic = asked.topic.detached();
                let entry = Entry {
                    asked: Asked {
                        topic: topic.clone(),
                        ..asked
                    },
                    high_watermark: -1,
                    log_start: -1,
                    turn: self.turns,
                };
                self.entries.insert((topic, key.1), entry);
            }
        }
    }
}

/// The partitions of a request. One that is named more than once counts as its last naming says, in the
/// place of its first, as in Kafka.
fn asked(request: FetchRequest) -> Vec<Asked> {
    /// Up to here it is less to look through them all.
    const FEW: usize = 8;
    let mut all: Vec<Asked> = Vec::new();
    let mut places: HashMap<(TopicRef, i32), usize> = HashMap::new();
    let topics = request.topics.iter();
    let few = topics.map(|topic| topic.partitions.len()).sum::<usize>() <= FEW;
    for topic in request.topics {
        for partition in topic.partitions {
            let asked = Asked {
                topic: topic.topic.clone(),
                index: partition.index,
                offset: partition.fetch_offset,
                bytes_max: partition.max_bytes,
                leader_epoch: partition.current_leader_epoch,
            };
            if few {
                let same =
                    |known: &&mut Asked| known.index == asked.index && known.topic == asked.topic;
                match all.iter_mut().find(same) {
                    Some(known) => *known = asked,
                    None => all.push(asked),
                }
                continue;
            }
            match places.entry((topic.topic.clone(), partition.index)) {
                MapEntry::Occupied(place) => all[*place.get()] = asked,
                MapEntry::Vacant(place) => {
                    place.insert(all.len());
                    all.push(asked);
                }
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kafka_wire_core::StrBytes;

    use super::*;
    use crate::wire::fetch::{FetchPartition, FetchTopic};

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
        let (_, asked) = sessions.open(NOW, false, again, &mut rng).unwrap();
        assert_eq!(asked.len(), 3);
        for asked in asked {
            let TopicRef::Name(kept) = asked.topic else {
                panic!("named by id");
            };
            assert!(!frame.as_ptr_range().contains(&kept.as_bytes().as_ptr()));
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
            let asked = asked(twice);
            let seen: Vec<_> = asked.iter().map(|a| (a.index, a.offset)).collect();
            assert_eq!(seen, [0, 1, 2].map(|index| (index, repeat - 1)));
        }
    }

    #[test]
    fn sessions_have_a_bound_each_and_in_all() {
        let mut sessions = Sessions::new(10_000);
        let mut rng = Rng::new(1);
        let most = REQUEST_ENTRIES_MAX as i32;
        let mut open = |at, partitions| {
            let request = request(at, StrBytes::from("t"), partitions);
            sessions.open(NOW, false, request, &mut rng)
        };
        let (first, _) = open((0, 0), 0..most).unwrap();
        let grown = open((first.id(), 1), most..most + 1);
        assert_eq!(grown.unwrap_err(), ErrorCode::FetchSessionIdNotFound);
        let fit = FETCH_SESSION_ENTRIES_MAX / REQUEST_ENTRIES_MAX;
        for session in 0..fit + 2 {
            let (opened, asked) = open((0, 0), 0..most).unwrap();
            assert_eq!(
                opened == SessionUse::Sessionless,
                session >= fit,
                "{session}"
            );
            assert_eq!(asked.len(), REQUEST_ENTRIES_MAX);
        }
        // A session that ends makes room.
        let last = *sessions.sessions.keys().next().unwrap();
        let end = request((last, -1), StrBytes::from("t"), 0..1);
        sessions.open(NOW, false, end, &mut rng).unwrap();
        let entries: usize = sessions.sessions.values().map(|s| s.entries.len()).sum();
        assert_eq!(sessions.entries, entries);
    }
}
