//! Requests of clients that another node has to decide on: they go to whoever leads the metadata quorum, and are
//! answered when this node serves by what has come of them; and those that come here for that reason.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::said::{CallAnswer, CallSaid};
use crate::base::limits::{DECODE_BYTES_MAX, FORWARDED_AGAIN_MS, FORWARDED_BYTES_MAX};
use crate::base::{IdMap, Mono, NodeId};
use crate::broker::msg::{Called, ControlCall, ReqRef};

#[derive(Debug)]
struct Forwarded {
    /// Whose it is, and what it is, for another node if this one is gone; `None` if nobody waits for it any more.
    waits: Option<(ReqRef, Box<ControlCall>)>,
    to: NodeId,
    bytes: usize,
}

/// Requests of this node's clients.
#[derive(Debug, Default)]
pub struct Forwarding {
    numbers: u64,
    /// At another node, by number.
    forwarded: BTreeMap<u64, Forwarded>,
    /// The numbers of those that somebody waits for.
    waiting: HashMap<ReqRef, u64>,
    bytes: usize,
    /// Answered by the metadata of this version, by which this node does not serve yet.
    answered: BTreeMap<u64, VecDeque<(ReqRef, CallAnswer)>>,
    /// One came back: until then nothing is forwarded.
    pauses: Option<Mono>,
}

/// What comes of an answer.
#[derive(Debug)]
pub enum ForwardingDone {
    /// Whoever asked is told at once.
    Told(ReqRef, CallAnswer),
    /// Whoever decides now is to be asked.
    Again(ReqRef, Box<ControlCall>),
    /// There is nothing to do, or not yet.
    Nothing,
}

impl Forwarding {
    /// Whether one more request may be forwarded.
    pub fn may_begin(&mut self, now: Mono) -> bool {
        self.pauses = self.pauses.filter(|until| *until > now);
        self.bytes < FORWARDED_BYTES_MAX && self.pauses.is_none()
    }

    /// Whether there is room for one more.
    pub const fn has_room(&self) -> bool {
        self.bytes < FORWARDED_BYTES_MAX
    }

    /// When more may be, if it only takes time.
    pub const fn pauses(&self) -> Option<Mono> {
        self.pauses
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.answered.is_empty()
    }

    /// A request is to be decided on by a node: what to say to it.
    pub fn begin(
        &mut self,
        req: ReqRef,
        to: NodeId,
        call: Box<ControlCall>,
        listener: &str,
    ) -> CallSaid {
        self.numbers += 1;
        let bytes = call.memory();
        self.bytes += bytes;
        let said = CallSaid {
            number: self.numbers,
            key: call.header.key,
            version: call.header.version,
            correlation_id: call.header.correlation_id,
            listener: listener.to_owned(),
            body: call.body.clone(),
        };
        self.waiting.insert(req, self.numbers);
        let waits = Some((req, call));
        let forwarded = Forwarded { waits, to, bytes };
        self.forwarded.insert(self.numbers, forwarded);
        said
    }

    /// A node has answered, and its answer is true from this version of the metadata on; `served` is that of this
    /// node's shards.
    pub fn done(
        &mut self,
        (from, now): (NodeId, Mono),
        number: u64,
        (version, served): (u64, u64),
        answer: CallAnswer,
    ) -> ForwardingDone {
        let known = self.forwarded.get(&number);
        if known.is_none_or(|it| it.to != from) {
            return ForwardingDone::Nothing;
        }
        let Some(forwarded) = self.forwarded.remove(&number) else {
            return ForwardingDone::Nothing;
        };
        self.bytes -= forwarded.bytes;
        let Some((req, call)) = forwarded.waits else {
            return ForwardingDone::Nothing;
        };
        self.waiting.remove(&req);
        if answer == Ok(Called::Again) {
            self.pauses = Some(now.plus_ms(FORWARDED_AGAIN_MS));
            return ForwardingDone::Again(req, call);
        }
        if version <= served || answer.is_err() {
            return ForwardingDone::Told(req, answer);
        }
        let waiting = self.answered.entry(version).or_default();
        waiting.push_back((req, answer));
        ForwardingDone::Nothing
    }

    /// Nobody waits for a request any more. It takes its place until it is answered.
    pub fn cancel(&mut self, req: ReqRef) {
        let Some(number) = self.waiting.remove(&req) else {
            self.answered.retain(|_, told| {
                told.retain(|(it, _)| *it != req);
                !told.is_empty()
            });
            return;
        };
        if let Some(forwarded) = self.forwarded.get_mut(&number) {
            forwarded.waits = None;
        }
    }

    /// All shards of this node serve by this version of the metadata. Returns one of those who waited for that.
    pub fn next_served(&mut self, version: u64) -> Option<(ReqRef, CallAnswer)> {
        let mut first = self.answered.first_entry()?;
        if *first.key() > version {
            return None;
        }
        let next = first.get_mut().pop_front();
        if first.get().is_empty() {
            first.remove();
        }
        next
    }

    /// Those that another node is to decide on, or has decided on where this one does not serve by that: nobody waits
    /// for it any more.
    pub fn give_up(&mut self) -> Vec<ReqRef> {
        self.waiting.clear();
        let forwarded = self.forwarded.values_mut();
        let waits = forwarded.filter_map(|it| it.waits.take());
        let answered = std::mem::take(&mut self.answered);
        let answered = answered.into_values().flatten().map(|(req, _)| req);
        waits.map(|(req, _)| req).chain(answered).collect()
    }

    /// There is no connection to a node any more: what it was to decide on. It may have done so, as with Kafka's.
    pub fn lost(&mut self, node: NodeId) -> Vec<(ReqRef, Box<ControlCall>)> {
        let (gone, kept) = std::mem::take(&mut self.forwarded)
            .into_iter()
            .partition(|(_, it)| it.to == node);
        self.forwarded = kept;
        let gone: BTreeMap<u64, Forwarded> = gone;
        self.bytes -= gone.values().map(|it| it.bytes).sum::<usize>();
        let waited: Vec<_> = gone.into_values().filter_map(|it| it.waits).collect();
        for (req, _) in &waited {
            self.waiting.remove(req);
        }
        waited
    }
}

/// Requests that other nodes have forwarded to this one.
#[derive(Debug, Default)]
pub struct ForwardedHere {
    /// Who asks, by which number, and what it takes in memory, by the id that it has here.
    from: IdMap<u64, (NodeId, u64, usize)>,
    /// What those of each node take.
    bytes: BTreeMap<NodeId, usize>,
}

impl ForwardedHere {
    /// One came, with a number and a body of so many bytes, which has this id here. Returns whether there is room for
    /// it: a node of this release does not send more.
    pub fn insert(&mut self, id: u64, from: NodeId, (number, bytes): (u64, usize)) -> bool {
        // As its node counts it: one without a body takes something too.
        let memory = size_of::<ControlCall>() + bytes;
        let of_node = self.bytes.entry(from).or_default();
        let before = *of_node;
        *of_node += memory;
        self.from.insert(id, (from, number, memory));
        before < FORWARDED_BYTES_MAX && bytes <= DECODE_BYTES_MAX
    }

    /// One is answered: who asked, and by which number.
    pub fn done(&mut self, id: u64) -> Option<(NodeId, u64)> {
        let (node, number, memory) = self.from.remove(&id)?;
        if let Some(of_node) = self.bytes.get_mut(&node) {
            *of_node -= memory;
        }
        Some((node, number))
    }

    /// There is no connection to a node any more: the ids of its requests.
    pub fn lost(&mut self, node: NodeId) -> Vec<u64> {
        let gone = self.from.iter().filter(|(_, (from, ..))| *from == node);
        let gone: Vec<u64> = gone.map(|(id, _)| *id).collect();
        for id in &gone {
            self.from.remove(id);
        }
        self.bytes.remove(&node);
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{call, req};
    use super::*;

    const THERE: NodeId = NodeId(2);

    /// Requests that another node has decided on, by which this one does not serve yet.
    fn answered(ids: &[u64]) -> Forwarding {
        let mut it = Forwarding::default();
        for id in ids {
            let said = it.begin(req(*id), THERE, call(9), "PLAINTEXT");
            let answer = Ok(Called::Frame(Vec::new()));
            let done = it.done((THERE, Mono(1)), said.number, (5, 3), answer);
            assert!(matches!(done, ForwardingDone::Nothing));
        }
        it
    }

    #[test]
    fn what_is_decided_waits_until_this_node_serves_by_it_or_nobody_waits() {
        let mut it = answered(&[1, 2, 3]);
        assert!(it.next_served(4).is_none() && !it.is_empty());
        it.cancel(req(1));
        let next = it.next_served(5).map(|(req, _)| req);
        assert_eq!(next, Some(req(2)));
        it.cancel(req(3));
        assert!(it.is_empty() && it.next_served(9).is_none());
    }

    #[test]
    fn a_node_has_room_for_its_requests_until_they_are_answered() {
        let mut it = ForwardedHere::default();
        let half = FORWARDED_BYTES_MAX / 2;
        assert!(it.insert(1, THERE, (1, half)) && it.insert(2, THERE, (2, half)));
        assert!(!it.insert(3, THERE, (3, 0)), "no more");
        assert!(it.insert(4, NodeId(3), (1, half)), "of another one");
        for id in [1, 3] {
            assert!(it.done(id).is_some());
        }
        assert!(it.insert(5, THERE, (4, half)) && !it.insert(6, THERE, (5, 0)));
        assert_eq!(it.lost(THERE).len(), 3);
        assert!(it.insert(7, THERE, (1, half)));
    }

    /// A node that stops may never serve by it: there may be no quorum any more.
    #[test]
    fn nothing_of_what_is_given_up_is_left() {
        let mut it = answered(&[1, 2]);
        let _ = it.begin(req(3), THERE, call(9), "PLAINTEXT");
        let mut given_up = it.give_up();
        given_up.sort_by_key(|req| req.id);
        assert_eq!(given_up, [req(1), req(2), req(3)]);
        assert!(it.is_empty());
    }
}
