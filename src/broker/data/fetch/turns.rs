//! Whose turn it is among the fetches that have come. Those of a session go one after the other: as in Kafka, which
//! looks at a request when the one before it is answered. All together ask for a bounded number of partitions between
//! two idle moments, and then in each; connections take turns at that, a fetch each.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use crate::base::IdMap;
use crate::base::limits::FETCHED_PER_TURN;
use crate::broker::front::Head;
use crate::broker::front::conns::ReplyTo;
use crate::broker::io::ConnId;

/// What a fetch takes besides its partitions, in partitions.
const FETCH_COST: usize = 8;

/// A fetch that has not begun.
#[derive(Debug)]
pub struct Waiting {
    pub reply_to: ReplyTo,
    pub head: Head,
    pub body: Bytes,
    /// The session that it goes on with.
    pub session: Option<i32>,
    /// It is the one that may.
    holds: bool,
}

/// See the module.
#[derive(Debug)]
pub struct FetchTurns {
    waiting: IdMap<u64, Waiting>,
    /// Those that wait for a turn, by connection.
    by_conn: IdMap<u64, VecDeque<u64>>,
    /// The connections above, in the order of their turns.
    turns: VecDeque<ConnId>,
    /// The sessions of fetches in progress, and who waits for each, in the order in which they came.
    held: BTreeMap<i32, BTreeSet<u64>>,
    /// Partitions that may still be asked for before the shard is idle.
    left: usize,
}

impl Default for FetchTurns {
    fn default() -> Self {
        Self {
            waiting: IdMap::default(),
            by_conn: IdMap::default(),
            turns: VecDeque::new(),
            held: BTreeMap::new(),
            left: FETCHED_PER_TURN,
        }
    }
}

impl FetchTurns {
    /// Whether a fetch that has just come may begin; if so, it holds its session.
    pub fn may_begin(&mut self, session: Option<i32>) -> bool {
        if self.is_spent() || !self.turns.is_empty() {
            return false;
        }
        session.is_none_or(|session| self.hold(session))
    }

    fn hold(&mut self, session: i32) -> bool {
        match self.held.entry(session) {
            Entry::Vacant(free) => {
                free.insert(BTreeSet::new());
                true
            }
            Entry::Occupied(_) => false,
        }
    }

    /// Keeps a fetch that may not, for [`FetchTurns::next`].
    pub fn wait(
        &mut self,
        id: u64,
        (reply_to, head, body): (ReplyTo, Head, Bytes),
        session: Option<i32>,
    ) {
        let waiting = Waiting {
            reply_to,
            head,
            body,
            session,
            holds: false,
        };
        self.waiting.insert(id, waiting);
        self.queue(reply_to.conn, id);
    }

    fn queue(&mut self, conn: ConnId, id: u64) {
        let queue = self.by_conn.entry(conn.0).or_default();
        if queue.is_empty() {
            self.turns.push_back(conn);
        }
        queue.push_back(id);
    }

    /// Takes the next fetch that may begin, if one may; it holds its session.
    pub fn next(&mut self) -> Option<(u64, Waiting)> {
        while !self.is_spent()
            && let Some(id) = self.next_in_turn()
        {
            let Some(waiting) = self.waiting.get(&id) else {
                continue;
            };
            if let (Some(session), false) = (waiting.session, waiting.holds)
                && !self.hold(session)
            {
                self.held.entry(session).or_default().insert(id);
                self.spend(0);
                continue;
            }
            return Some((id, self.waiting.remove(&id)?));
        }
        None
    }

    fn next_in_turn(&mut self) -> Option<u64> {
        let conn = self.turns.pop_front()?;
        let queue = self.by_conn.get_mut(&conn.0)?;
        let id = queue.pop_front();
        if queue.is_empty() {
            self.by_conn.remove(&conn.0);
        } else {
            self.turns.push_back(conn);
        }
        id
    }

    /// The fetch in progress of a session is over: the next one holds it, and has its turn.
    pub fn release(&mut self, session: i32) {
        let next = self.held.get_mut(&session).and_then(BTreeSet::pop_first);
        match next.and_then(|id| Some((id, self.waiting.get_mut(&id)?))) {
            Some((id, waiting)) => {
                waiting.holds = true;
                let conn = waiting.reply_to.conn;
                self.queue(conn, id);
            }
            None => {
                self.held.remove(&session);
            }
        }
    }

    /// Nobody waits for the answer any more. Whether it was one of those that have not begun.
    pub fn forget(&mut self, id: u64) -> bool {
        let Some(waiting) = self.waiting.remove(&id) else {
            return false;
        };
        if let Some(session) = waiting.session {
            if waiting.holds {
                self.release(session);
            } else if let Some(behind) = self.held.get_mut(&session) {
                behind.remove(&id);
            }
        }
        true
    }

    /// A connection is gone, and all its fetches are forgotten.
    pub fn closed(&mut self, conn: ConnId) {
        if self.by_conn.remove(&conn.0).is_some() {
            self.turns.retain(|turn| *turn != conn);
        }
    }

    /// The shard is idle.
    pub fn begin_turn(&mut self) {
        self.left = FETCHED_PER_TURN;
    }

    /// A fetch asks for so many partitions.
    pub fn spend(&mut self, partitions: usize) {
        self.left = self.left.saturating_sub(partitions + FETCH_COST);
    }

    /// Whether no more may be asked for before the shard is idle.
    pub fn is_spent(&self) -> bool {
        self.left == 0
    }

    /// Whether somebody waits for a turn.
    pub fn has_more(&self) -> bool {
        !self.turns.is_empty()
    }

    /// How many have not begun.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }
}
