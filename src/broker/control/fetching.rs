//! Fetches a snapshot of the metadata from another node, which has cut off what this one lacks: part by part, each into
//! the log of snapshots at once, and into the image that it comes to. It counts when its end is written, too.

use super::growth::room_in;
use super::said::NodeSaid;
use super::snapshot::{BATCH_BYTES, Sum, replay_part};
use super::writes::SnapshotEnd;
use crate::base::limits::SNAPSHOT_PART_WITHIN_MS;
use crate::base::{Mono, NodeId, Offset, StoreId};
use crate::broker::fx::Fx;
use crate::broker::owner::Owner;
use crate::controller::{Image, METADATA_SNAPSHOT_LOG};
use crate::quorum::{EntryId, SnapshotMark};
use bytes::Bytes;

/// What has become of one.
#[derive(Debug)]
pub enum SnapshotFetched {
    /// There is another part, which is to be asked for.
    Partly(NodeSaid),
    /// It is whole: its end, for the write that puts it in the place of all entries, and what it comes to.
    Whole(SnapshotEnd, Box<Image>),
}

/// A snapshot that is being fetched.
#[derive(Debug)]
pub struct SnapshotFetching {
    /// Who has it.
    pub from: NodeId,
    mark: SnapshotMark,
    image: Image,
    sum: Sum,
    /// The part that is waited for.
    number: u32,
    /// It has to be here by then.
    pub until: Mono,
    /// Where it begins in the log, when it does.
    first: Option<Offset>,
}

impl SnapshotFetching {
    /// For a node whose image is this one before there are any records. Returns what is to be asked for first.
    pub fn new(now: Mono, from: NodeId, mark: SnapshotMark, nothing: Image) -> (Self, NodeSaid) {
        let ask = NodeSaid::AskPart(mark.id, 0);
        let fetching = Self {
            from,
            mark,
            image: nothing,
            sum: Sum::default(),
            number: 0,
            until: now.plus_ms(SNAPSHOT_PART_WITHIN_MS),
            first: None,
        };
        (fetching, ask)
    }

    /// The last entry that it has.
    pub const fn id(&self) -> EntryId {
        self.mark.id
    }

    /// Whether a part from this node is the one that is waited for.
    pub fn is_due(&self, from: NodeId, id: EntryId, number: u32) -> bool {
        (self.from, self.mark.id, self.number) == (from, id, number)
    }

    /// Takes the part that is waited for.
    ///
    /// # Errors
    /// It is none, it cannot be written, or there is no room for it.
    pub fn take(
        &mut self,
        records: &Bytes,
        is_last: bool,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) -> Result<SnapshotFetched, String> {
        replay_part(&mut self.image, records.clone())?;
        if room_in(owner, StoreId(0), records.len() + 2 * BATCH_BYTES, false) != Some(true) {
            return Err("store-0 has no room for it".to_owned());
        }
        if self.first.is_none() {
            self.first = owner.begin_rewrite(fx.now, METADATA_SNAPSHOT_LOG);
        }
        let batch = self.sum.part(records, fx.now.wall_ms);
        owner
            .append_internal(fx.now, METADATA_SNAPSHOT_LOG, batch)
            .map_err(|why| why.to_string())?;
        self.number += 1;
        self.until = fx.now.mono.plus_ms(SNAPSHOT_PART_WITHIN_MS);
        let id = self.mark.id;
        let Some(first) = self.first.filter(|_| is_last) else {
            return Ok(SnapshotFetched::Partly(NodeSaid::AskPart(id, self.number)));
        };
        let batch = self.sum.fetched(&self.mark, fx.now.wall_ms);
        let end = SnapshotEnd { id, first, batch };
        let image = Box::new(std::mem::take(&mut self.image));
        Ok(SnapshotFetched::Whole(end, image))
    }
}
