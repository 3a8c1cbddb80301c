//! Sends the newest snapshot of the metadata to nodes that lack what was before it. It is made again of the image that
//! it was made of, part by part, as each is asked for; nothing is read from the disk for that.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use super::said::NodeSaid;
use crate::base::{Leftovers, NodeId};
use crate::broker::own::compact::PART_BYTES_MAX;
use crate::controller::{FeatureLevel, Image, ImageRecords, RecordList};
use crate::quorum::EntryId;

/// What a node has got so far.
#[derive(Debug)]
struct Sending {
    id: EntryId,
    records: ImageRecords,
    level: FeatureLevel,
    /// The part that is being made.
    part: RecordList,
    /// Its number.
    number: u32,
    /// Whether the node waits for it.
    is_wanted: bool,
    ended: bool,
}

/// See the module. At most one snapshot is on its way to each node.
#[derive(Debug, Default)]
pub struct SnapshotSending {
    /// The newest one.
    newest: Option<(EntryId, Image)>,
    to: BTreeMap<NodeId, Sending>,
    /// Who has got a part last: the others have their turn before it has another one.
    last: NodeId,
}

impl SnapshotSending {
    /// A snapshot of an image is on the disk, and takes the place of the one before.
    pub fn set_newest(&mut self, id: EntryId, image: Image, leftovers: &mut Leftovers) {
        if self.newest.as_ref().is_some_and(|(newest, _)| *newest > id) {
            // One that was fetched has overtaken it.
            return Arc::new(image).leave(leftovers);
        }
        if let Some((_, before)) = self.newest.replace((id, image)) {
            Arc::new(before).leave(leftovers);
        }
    }

    /// A node asks for a part; what is to be said at once.
    pub fn asked(
        &mut self,
        node: NodeId,
        (id, number): (EntryId, u32),
        leftovers: &mut Leftovers,
    ) -> Option<NodeSaid> {
        if number == 0 {
            self.forget(node, leftovers);
            let newest = self.newest.as_ref().filter(|(newest, _)| *newest == id);
            let Some((_, image)) = newest else {
                return Some(NodeSaid::NoPart(id));
            };
            let sending = Sending {
                id,
                records: ImageRecords::new(image),
                level: image.features.max(1),
                part: RecordList::default(),
                number,
                is_wanted: true,
                ended: false,
            };
            self.to.insert(node, sending);
            return None;
        }
        match self.to.get_mut(&node) {
            Some(it) if (it.id, it.number, it.ended) == (id, number, false) => {
                it.is_wanted = true;
                None
            }
            _ => Some(NodeSaid::NoPart(id)),
        }
    }

    /// Whether there is somebody who waits for a part.
    pub fn has_more(&self) -> bool {
        self.to.values().any(|sending| sending.is_wanted)
    }

    /// Makes parts, as long as there is something `left` of a slice; a record costs one. Returns one that is whole, and
    /// for whom.
    pub fn go_on(&mut self, left: &mut usize) -> Option<(NodeId, NodeSaid)> {
        let node = self.next()?;
        let it = self.to.get_mut(&node)?;
        while *left > 0 {
            *left -= 1;
            let record = it.records.next();
            it.ended = record.is_none();
            if let Some(record) = record {
                it.part.push(&record, it.level);
            }
            if !it.ended && it.part.len() < PART_BYTES_MAX {
                continue;
            }
            it.is_wanted = false;
            let part = NodeSaid::Part {
                id: it.id,
                number: it.number,
                is_last: it.ended,
                records: std::mem::take(&mut it.part).into_bytes(),
            };
            it.number += 1;
            self.last = node;
            return Some((node, part));
        }
        None
    }

    /// Whose part is made next.
    fn next(&self) -> Option<NodeId> {
        let behind = self.to.range((Excluded(self.last), Unbounded));
        let mut all = behind.chain(&self.to);
        all.find(|(_, it)| it.is_wanted).map(|(node, _)| *node)
    }

    /// A node is not there any more, or wants nothing.
    pub fn forget(&mut self, node: NodeId, leftovers: &mut Leftovers) {
        if let Some(sending) = self.to.remove(&node) {
            sending.records.leave(leftovers);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::LeaderEpoch;
    use crate::controller::testing;

    #[test]
    fn nodes_have_their_turns_one_after_the_other() {
        let (mut sending, mut leftovers) = (SnapshotSending::default(), Leftovers::default());
        let id = EntryId {
            term: LeaderEpoch(1),
            index: crate::quorum::EntryIndex(1),
        };
        sending.set_newest(id, testing::cluster(1), &mut leftovers);
        let mut served = Vec::new();
        for node in [1, 2, 3] {
            assert_eq!(sending.asked(NodeId(node), (id, 0), &mut leftovers), None);
        }
        for _ in 0..6 {
            let (node, _) = sending.go_on(&mut 1_000).expect("somebody waits");
            served.push(node.0);
            // It wants the next one at once.
            assert_eq!(sending.asked(node, (id, 0), &mut leftovers), None);
        }
        assert_eq!(served, [1, 2, 3, 1, 2, 3]);
    }
}
