//! How far a snapshot of a coordinator is.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::effect::Record;
use super::name::Name;

/// A snapshot that is being made.
#[derive(Debug)]
pub(super) struct SnapshotProgress {
    /// Appends with smaller numbers have to end before it goes on.
    pub waits_for: u64,
    pub goes_on: GoesOn,
    /// Keys that appends were to write which have failed.
    pub again: BTreeSet<Bytes>,
}

/// Where a snapshot goes on.
#[derive(Clone, Debug)]
pub(super) enum GoesOn {
    /// With the first group behind this one.
    After(Option<Name>),
    /// In this group, with the offsets behind this one.
    Within(Name, (Name, i32)),
    /// Every group has been gone through.
    All,
}

/// What comes next of a snapshot.
#[derive(Debug, PartialEq, Eq)]
pub enum SnapshotPart {
    /// Records to be appended now, before anything else happens; perhaps none.
    Records(Vec<Record>),
    /// Nothing before another append has ended.
    Wait,
    /// It is whole: when its last part is durable, what was before its beginning is not needed any more.
    All,
    /// It has been given up.
    Lost,
}
