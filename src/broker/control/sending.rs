//! Sends the newest snapshot of the metadata to nodes that lack what was before it. It is made again of the image that
//! it was made of, part by part, as each is asked for; nothing is read from the disk for that.

use std::collections::BTreeMap;
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
        for (node, it) in self.to.iter_mut().filter(|(_, it)| it.is_wanted) {
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
                return Some((*node, part));
            }
        }
        None
    }

    /// A node is not there any more, or wants nothing.
    pub fn forget(&mut self, node: NodeId, leftovers: &mut Leftovers) {
        if let Some(sending) = self.to.remove(&node) {
            sending.records.leave(leftovers);
        }
    }
}
