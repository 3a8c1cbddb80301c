//! The proof that what was acknowledged is durable. A record says what was durable when it was written, so under load
//! each flush is proven by one of the next; a store at rest writes a record for that alone. Otherwise the last
//! flush, if its record rots, would look like one that a crash has torn, and be cut off in silence.

use super::Store;
use super::api::FlushSeq;
use super::pending::OpenFlush;

impl Store {
    /// Whether the store is at rest and nothing on the disk says that its last flush is durable: if that flush's
    /// record rots, it looks like one that was torn. [`prove`](Self::prove) helps.
    #[must_use]
    pub fn lacks_proof(&self) -> bool {
        let said = self.said_durable.max(self.superblock.found());
        // Of a record that is about nothing nothing can be lost.
        said < self.durable && !self.last_logs.is_empty() && self.can_prove()
    }

    /// Whether the store is at rest and logs have [remarks](Self::remark) that are not on the disk. They may wait for a
    /// flush that there is anyway; [`prove`](Self::prove) helps if none comes.
    #[must_use]
    pub fn lacks_remarks(&self) -> bool {
        !self.remarks.is_empty() && self.can_prove()
    }

    fn can_prove(&self) -> bool {
        let at_rest = self.open.is_empty() && self.flights.is_empty() && !self.failed;
        at_rest
            && !self.checkpoint_first
            && self.ring_has_room(self.record_bytes_max(&self.proof(), true))
    }

    /// Has the next [`poll`](Self::poll) write a record that is about nothing, says what is durable and holds remarks,
    /// if that [lacks](Self::lacks_proof) or [they do](Self::lacks_remarks).
    pub fn prove(&mut self) {
        if self.lacks_proof() || self.lacks_remarks() {
            let proof = self.proof();
            self.next_seq = FlushSeq(proof.seq.0 + 1);
            self.open.push_back(proof);
        }
    }

    /// The next flush, if it is about nothing.
    fn proof(&self) -> OpenFlush {
        OpenFlush {
            seq: self.next_seq,
            items: Vec::new(),
            cost: 0,
        }
    }
}
