//! What all nodes of a cluster together have ever known of its metadata.

use std::collections::BTreeMap;

use crate::quorum::{EntryId, EntryIndex};

/// What is committed of the metadata, as the nodes have said: once said it is so for ever, and for everybody.
#[derive(Debug, Default)]
pub struct Committed {
    /// Entries, and the version of the metadata behind each.
    pub entries: BTreeMap<EntryIndex, (EntryId, u64)>,
    /// What each process has come to.
    pub reached: BTreeMap<(usize, u32), EntryIndex>,
    /// Who leads in each term.
    pub leaders: BTreeMap<i32, usize>,
}
