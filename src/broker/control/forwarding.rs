//! Requests of clients that another node has to decide on: they go to whoever leads the metadata quorum, and are
//! answered when this node serves by what has come of them; and those that come here for that reason.

use std::collections::{BTreeMap, VecDeque};

use super::said::{CallAnswer, CallSaid};
use crate::base::limits::{DECODE_BYTES_MAX, FORWARDED_BYTES_MAX, FORWARDED_WITHIN_MS};
use crate::base::{IdMap, Mono, NodeId};
use crate::broker::msg::{ControlCall, ReqRef};

#[derive(Debug)]
struct Forwarded {
    req: ReqRef,
    /// What it is, for another node if this one is gone.
    call: Box<ControlCall>,
    to: NodeId,
    bytes: usize,
    /// It has to be answered by then.
    until: Mono,
}

/// Requests of this node's clients.
#[derive(Debug, Default)]
pub struct Forwarding {
    numbers: u64,
    /// At another node, by number.
    forwarded: BTreeMap<u64, Forwarded>,
    bytes: usize,
    /// Answered by the metadata of this version, by which this node does not serve yet.
    answered: BTreeMap<u64, VecDeque<(ReqRef, CallAnswer)>>,
}

impl Forwarding {
    /// Whether one more request may be forwarded.
    pub const fn has_room(&self) -> bool {
        self.bytes < FORWARDED_BYTES_MAX
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.forwarded.is_empty() && self.answered.is_empty()
    }

    /// A request is to be decided on by a node: what to say to it.
    pub fn begin(
        &mut self,
        req: ReqRef,
        (to, now): (NodeId, Mono),
        call: Box<ControlCall>,
        listener: &str,
    ) -> CallSaid {
        self.numbers += 1;
        let bytes = call.memory();
        self.bytes += bytes;
        let until = now.plus_ms(FORWARDED_WITHIN_MS);
        let said = CallSaid {
            number: self.numbers,
            key: call.header.key,
            version: call.header.version,
            correlation_id: call.header.correlation_id,
            listener: listener.to_owned(),
            body: call.body.clone(),
        };
        let forwarded = Forwarded {
            req,
            call,
            to,
            bytes,
            until,
        };
        self.forwarded.insert(self.numbers, forwarded);
        said
    }

    /// A node has answered, and its answer is true from this version of the metadata on; `served` is that of this
    /// node's shards. Returns who is to be told at once.
    pub fn done(
        &mut self,
        from: NodeId,
        number: u64,
        (version, served): (u64, u64),
        answer: CallAnswer,
    ) -> Option<(ReqRef, CallAnswer)> {
        let forwarded = self.forwarded.get(&number).filter(|it| it.to == from)?;
        let req = forwarded.req;
        self.bytes -= forwarded.bytes;
        self.forwarded.remove(&number);
        if version <= served || answer.is_err() {
            return Some((req, answer));
        }
        let waiting = self.answered.entry(version).or_default();
        waiting.push_back((req, answer));
        None
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

    /// When the first of them is late.
    pub fn until(&self) -> Option<Mono> {
        let (_, first) = self.forwarded.first_key_value()?;
        Some(first.until)
    }

    /// Those that were not answered in time: request and answer may have been lost with a connection, and what has
    /// become of it is not known.
    pub fn late(&mut self, now: Mono) -> Vec<ReqRef> {
        let mut late = Vec::new();
        while let Some(first) = self.forwarded.first_entry()
            && first.get().until <= now
        {
            let forwarded = first.remove();
            self.bytes -= forwarded.bytes;
            late.push(forwarded.req);
        }
        late
    }

    /// There is no connection to a node any more: what it was to decide on. It may have done so, as with Kafka's.
    pub fn lost(&mut self, node: NodeId) -> Vec<(ReqRef, Box<ControlCall>)> {
        let (gone, kept) = std::mem::take(&mut self.forwarded)
            .into_iter()
            .partition(|(_, it)| it.to == node);
        self.forwarded = kept;
        let gone: BTreeMap<u64, Forwarded> = gone;
        self.bytes -= gone.values().map(|it| it.bytes).sum::<usize>();
        gone.into_values().map(|it| (it.req, it.call)).collect()
    }
}

/// Requests that other nodes have forwarded to this one.
#[derive(Debug, Default)]
pub struct ForwardedHere {
    /// Who asks, by which number, and what it takes in memory, by the id that it has here.
    from: IdMap<u64, (NodeId, u64, usize)>,
}

impl ForwardedHere {
    /// One came, with a number and a body of so many bytes, which has this id here. Returns whether there is room for
    /// it: a node of this release does not send more.
    pub fn insert(&mut self, id: u64, from: NodeId, (number, bytes): (u64, usize)) -> bool {
        let of_node = self.from.values().filter(|(node, ..)| *node == from);
        let before: usize = of_node.map(|(.., bytes)| bytes).sum();
        // As its node counts it: one without a body takes something too.
        let memory = size_of::<ControlCall>() + bytes;
        self.from.insert(id, (from, number, memory));
        before < FORWARDED_BYTES_MAX && bytes <= DECODE_BYTES_MAX
    }

    /// One is answered: who asked, and by which number.
    pub fn done(&mut self, id: u64) -> Option<(NodeId, u64)> {
        let (node, number, _) = self.from.remove(&id)?;
        Some((node, number))
    }

    /// There is no connection to a node any more: the ids of its requests.
    pub fn lost(&mut self, node: NodeId) -> Vec<u64> {
        let gone = self.from.iter().filter(|(_, (from, ..))| *from == node);
        let gone: Vec<u64> = gone.map(|(id, _)| *id).collect();
        for id in &gone {
            self.from.remove(id);
        }
        gone
    }
}
