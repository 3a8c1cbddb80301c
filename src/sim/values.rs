//! Record values that say who wrote them, so that a reader can tell a lost, a
//! doubled, a moved or a damaged record from a good one.

/// What a record carries: its producer, and its number among the records of that producer in that
/// partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value {
    /// The producer's number in this run. Never used twice.
    pub producer: u32,
    /// 0, 1, 2 and so on, in the order of production to one partition.
    pub number: u32,
}

/// Set in the number of a producer that is not idempotent: its retries may double records.
pub const PLAIN: u32 = 1 << 31;

/// Shortest value that can carry one.
pub const VALUE_BYTES_MIN: usize = 8;

impl Value {
    /// The bytes of a record value of `len` bytes, at least [`VALUE_BYTES_MIN`]. All bytes follow
    /// from the value, so that damage to any of them shows.
    #[must_use]
    pub fn bytes(self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len.max(VALUE_BYTES_MIN));
        bytes.extend_from_slice(&self.producer.to_be_bytes());
        bytes.extend_from_slice(&self.number.to_be_bytes());
        let filler = self.filler();
        while bytes.len() < len {
            let index = bytes.len();
            bytes.push(filler.wrapping_add(index as u8));
        }
        bytes
    }

    /// Reads a value; `None` if no client of the simulator wrote these bytes.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let value = Self {
            producer: u32::from_be_bytes(*bytes.first_chunk()?),
            number: u32::from_be_bytes(*bytes.get(4..)?.first_chunk()?),
        };
        let filler = value.filler();
        let intact = bytes
            .iter()
            .enumerate()
            .skip(VALUE_BYTES_MIN)
            .all(|(index, byte)| *byte == filler.wrapping_add(index as u8));
        intact.then_some(value)
    }

    /// Whether an idempotent producer made it.
    #[must_use]
    pub const fn is_exactly_once(self) -> bool {
        self.producer & PLAIN == 0
    }

    /// The key of a record in a topic that is compacted, of which there are few.
    #[must_use]
    pub const fn key(self) -> u8 {
        (self.mixed() % 7) as u8
    }

    /// Whether it deletes its key in a topic that is compacted.
    #[must_use]
    pub const fn is_tombstone(self) -> bool {
        (self.mixed() >> 8).is_multiple_of(4)
    }

    const fn mixed(self) -> u32 {
        let mixed = self.producer.wrapping_mul(0x9e37_79b9) ^ self.number.wrapping_mul(0x85eb_ca6b);
        (mixed ^ (mixed >> 15)).wrapping_mul(0x2c1b_3c6d) >> 4
    }

    const fn filler(self) -> u8 {
        (self.producer.wrapping_mul(31).wrapping_add(self.number) & 0xff) as u8
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "p{}:{}", self.producer, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_to_any_byte_shows() {
        let value = Value {
            producer: 3,
            number: 1000,
        };
        for len in [8, 9, 300] {
            let bytes = value.bytes(len);
            assert_eq!(bytes.len(), len);
            assert_eq!(Value::parse(&bytes), Some(value));
            for index in 0..len {
                let mut damaged = bytes.clone();
                damaged[index] ^= 0x40;
                assert_ne!(Value::parse(&damaged), Some(value), "byte {index}");
            }
        }
        assert_eq!(Value::parse(&[1, 2, 3]), None);
    }
}
