//! What is given to the store: it goes to the last flush that has not begun, or to a new one behind that.

use super::Store;
use super::api::FlushSeq;
use super::journal::Entry;
use super::pending::{Item, OpenFlush};
use crate::base::limits::FLUSH_ITEMS_MAX;

impl Store {
    pub(super) fn push_entry(&mut self, entry: Entry) -> FlushSeq {
        self.push_item(Item::Entry(entry))
    }

    pub(super) fn push_item(&mut self, item: Item) -> FlushSeq {
        self.push_together(vec![item])
    }

    /// Gives items to one flush, so that all of them survive a crash or none.
    pub(super) fn push_together(&mut self, items: Vec<Item>) -> FlushSeq {
        let mut cost = 0;
        for item in &items {
            debug_assert!(!self.lacks(item.log()), "a checkpoint needs it as it was");
            cost += item.cost();
            let growth = item.state_growth();
            self.state_bytes += growth;
            self.since_checkpoint.state_bytes += growth;
        }
        let (bytes, count) = (self.config.flush_bytes_max, FLUSH_ITEMS_MAX);
        let last = self.open.back_mut();
        let fits = |open: &&mut OpenFlush| {
            open.cost + cost <= bytes && open.items.len() + items.len() <= count
        };
        if let Some(open) = last.filter(fits) {
            open.cost += cost;
            open.items.extend(items);
            return open.seq;
        }
        let seq = self.next_seq;
        self.next_seq = FlushSeq(seq.0 + 1);
        self.open.push_back(OpenFlush { seq, items, cost });
        seq
    }
}
