//! Records of the partition as they lie in its log.

/// A record of the partition, as it is read at a start.
#[derive(Clone, Copy, Debug)]
pub struct Replayed<'a> {
    /// Its key.
    pub key: &'a [u8],
    /// Its value, none of a tombstone.
    pub value: Option<&'a [u8]>,
    /// Its timestamp, wall clock ms; -1 if it has none.
    pub timestamp_ms: i64,
    /// The producer id, if it was written in a transaction.
    pub producer: Option<i64>,
}

/// Where a durable record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogPlace {
    /// Compared with others: larger behind smaller.
    pub order: u64,
    /// The number of the append that has written it; 0 if it was there when this coordinator came.
    pub append: u64,
}
