//! How far a snapshot of a coordinator is, or what else goes through all that it has.

use std::collections::BTreeSet;
use std::ops::Bound;

use bytes::Bytes;

use super::effect::Record;
use crate::base::Name;

/// A snapshot that is being made.
#[derive(Debug)]
pub(super) struct SnapshotProgress {
    /// Appends with smaller numbers have to end before it goes on.
    pub waits_for: u64,
    pub goes_on: GoesOn,
    /// Keys that appends were to write which have failed, or of offsets that count by a marker.
    pub again: BTreeSet<Bytes>,
    /// Keys of which transactions that are not over have offsets: a record that is written now would lie behind those.
    pub skipped: BTreeSet<Bytes>,
}

/// A pass through all offsets that deletes those of topics that are gone.
#[derive(Debug)]
pub(super) struct Sweep {
    /// Appends with smaller numbers have to end before it goes on: they may commit for topics that are gone.
    pub waits_for: u64,
    pub goes_on: GoesOn,
    /// Where the records begin that are being written.
    pub writes_from: Option<GoesOn>,
    /// What could not be written is not tried again yet.
    pub is_put_off: bool,
    /// How often that was so since something was written.
    pub failed: u32,
    /// There is to be another pass.
    pub again: bool,
}

/// Where it goes on.
#[derive(Clone, Debug)]
pub(super) enum GoesOn {
    /// With the first group behind this one.
    After(Option<Name>),
    /// In this group, with the offsets behind this one.
    Within(Name, (Name, i32)),
    /// Every group has been gone through.
    All,
}

impl Default for GoesOn {
    /// From the first group on.
    fn default() -> Self {
        Self::After(None)
    }
}

impl GoesOn {
    /// The groups that are still to be gone through, and from where on the first one, if it is this one.
    #[allow(clippy::type_complexity)]
    pub fn begins(&self) -> (Bound<Name>, Option<(Name, (Name, i32))>) {
        match self {
            Self::After(None) | Self::All => (Bound::Unbounded, None),
            Self::After(Some(id)) => (Bound::Excluded(id.clone()), None),
            Self::Within(id, at) => (Bound::Included(id.clone()), Some((id.clone(), at.clone()))),
        }
    }
}

/// What comes next of a snapshot.
#[derive(Debug, PartialEq, Eq)]
pub enum SnapshotPart {
    /// Records to be appended now, before anything else happens; perhaps none.
    Records(Vec<Record>),
    /// Nothing before another append has ended, or a transaction is over.
    Wait,
    /// It is whole: when its last part is durable, what was before its beginning is not needed any more.
    All,
    /// It has been given up.
    Lost,
}
