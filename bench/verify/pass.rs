//! What one reading of the topic saw: per partition, the value at each offset, in
//! eight bytes a record, so that tens of millions fit in memory.

use std::collections::BTreeMap;

/// Holes up to this many offsets are kept as such; a larger one ends the partition's bookkeeping
/// with a finding instead of filling memory.
const HOLE_OFFSETS_MAX: i64 = 1 << 20;

/// What lies at one offset: a record of this run, or a reason why not.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(u64);

impl Value {
    const SEQUENCE_BITS: u32 = 48;
    const SENTINEL: u64 = (u16::MAX as u64) << Self::SEQUENCE_BITS;

    /// A record that belongs to another run or to somebody else.
    pub const FOREIGN: Self = Self(Self::SENTINEL);
    /// A record whose checksum is wrong or that names another partition.
    pub const DAMAGED: Self = Self(Self::SENTINEL | 1);
    /// The offset was skipped.
    pub const ABSENT: Self = Self(Self::SENTINEL | 2);

    /// The record `sequence` of `producer`; producers are numbered below `u16::MAX` and sequences
    /// below 2^48, anything else counts as damaged.
    pub fn of(producer: u16, sequence: u64) -> Self {
        if producer == u16::MAX || sequence >> Self::SEQUENCE_BITS != 0 {
            return Self::DAMAGED;
        }
        Self(u64::from(producer) << Self::SEQUENCE_BITS | sequence)
    }

    /// Producer and sequence, if it is a record of this run.
    pub fn record(self) -> Option<(u16, u64)> {
        let producer = (self.0 >> Self::SEQUENCE_BITS) as u16;
        (producer != u16::MAX).then_some((producer, self.0 & ((1 << Self::SEQUENCE_BITS) - 1)))
    }
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.record(), *self) {
            (Some((producer, sequence)), _) => write!(f, "record {producer}:{sequence}"),
            (None, Self::FOREIGN) => f.write_str("a record of somebody else"),
            (None, Self::DAMAGED) => f.write_str("a damaged record"),
            (None, _) => f.write_str("nothing"),
        }
    }
}

/// One partition as one reading saw it.
#[derive(Clone, Debug, Default)]
pub struct PartitionPass {
    first: i64,
    values: Vec<Value>,
    /// Offsets that were skipped, as (first, one past the last).
    pub holes: Vec<(i64, i64)>,
    /// Offsets that came again or late.
    pub backwards: Vec<i64>,
}

impl PartitionPass {
    /// A reading that is to begin at offset `first`.
    pub fn starting_at(first: i64) -> Self {
        Self {
            first,
            ..Self::default()
        }
    }

    /// Takes the next record read.
    pub fn push(&mut self, offset: i64, value: Value) {
        let next = self.end();
        if offset < next {
            self.backwards.push(offset);
            return;
        }
        if offset > next {
            self.holes.push((next, offset));
            if offset - next > HOLE_OFFSETS_MAX {
                return;
            }
            let filled = (offset - self.first) as usize;
            self.values.resize(filled, Value::ABSENT);
        }
        self.values.push(value);
    }

    /// Offset of the first record read.
    pub fn first(&self) -> i64 {
        self.first
    }

    /// One past the offset of the last record read.
    pub fn end(&self) -> i64 {
        self.first + self.values.len() as i64
    }

    /// What was read at `offset`; `None` if the reading did not get there.
    pub fn at(&self, offset: i64) -> Option<Value> {
        let index = usize::try_from(offset.checked_sub(self.first)?).ok()?;
        self.values.get(index).copied()
    }

    /// Everything that was read, in order of offset.
    pub fn values(&self) -> &[Value] {
        &self.values
    }
}

/// One reading of the whole topic.
#[derive(Clone, Debug, Default)]
pub struct Pass {
    /// What to call it in messages.
    pub name: &'static str,
    /// By partition.
    pub partitions: BTreeMap<i32, PartitionPass>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_pack_and_unpack() {
        assert_eq!(Value::of(12, 345).record(), Some((12, 345)));
        assert_eq!(
            Value::of(0, (1 << 48) - 1).record(),
            Some((0, (1 << 48) - 1))
        );
        for sentinel in [Value::FOREIGN, Value::DAMAGED, Value::ABSENT] {
            assert_eq!(sentinel.record(), None);
        }
        assert_eq!(Value::of(u16::MAX, 0), Value::DAMAGED);
    }

    #[test]
    fn holes_and_repeats_are_kept() {
        let mut pass = PartitionPass::starting_at(10);
        pass.push(10, Value::of(0, 0));
        pass.push(13, Value::of(0, 1));
        pass.push(12, Value::of(0, 2));
        assert_eq!(pass.holes, [(11, 13)]);
        assert_eq!(pass.backwards, [12]);
        assert_eq!(pass.at(12), Some(Value::ABSENT));
        assert_eq!(pass.at(13), Some(Value::of(0, 1)));
        assert_eq!((pass.at(9), pass.at(14), pass.end()), (None, None, 14));
    }

    #[test]
    fn an_absurd_offset_does_not_take_the_memory() {
        let mut pass = PartitionPass::starting_at(0);
        pass.push(i64::MAX / 2, Value::of(0, 0));
        assert_eq!(pass.values().len(), 0);
        assert_eq!(pass.holes.len(), 1);
    }
}
