//! What every record of a verification run carries: who sent it, as which one, for
//! when, and a checksum over all of it, so that a reader can tell each record apart
//! and see a single changed bit.

use millrace::base::crc::crc32c_parts;

/// Bytes of a stamp; the shortest record value there is. The rest of the value is filling.
pub const STAMP_BYTES: usize = 40;
const MAGIC: [u8; 4] = *b"MRV1";
const CRC_AT: usize = STAMP_BYTES - 4;

/// Identity of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The run, so that several runs may share a topic.
    pub run: u64,
    /// The producer within the run.
    pub producer: u16,
    /// The partition it was sent to.
    pub partition: i32,
    /// Number of the record within its producer and partition, from 0.
    pub sequence: u64,
    /// When it was due to be sent, nanoseconds since 1970.
    pub intended_ns: u64,
}

/// What a value turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// A whole record of a verification run.
    Stamp(Stamp),
    /// Not written by a verifier.
    Foreign,
    /// Written by a verifier, but not what it wrote.
    Damaged,
}

impl Stamp {
    /// Fills `value` (at least [`STAMP_BYTES`] long) with this stamp, filling, and checksum.
    pub fn write(&self, value: &mut [u8]) {
        // The filling differs from record to record, so that bytes of one record in the place of
        // another one's cannot pass the checksum.
        let step = self.sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut word = step ^ self.run;
        for chunk in value[STAMP_BYTES..].chunks_mut(8) {
            chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
            word = word.wrapping_add(step);
        }
        self.seal(value);
    }

    /// Writes this stamp in front of a filling that is there, and the checksum of both.
    pub fn seal(&self, value: &mut [u8]) {
        value[0..4].copy_from_slice(&MAGIC);
        value[4..12].copy_from_slice(&self.run.to_be_bytes());
        value[12..14].copy_from_slice(&self.producer.to_be_bytes());
        value[14..16].copy_from_slice(&[0; 2]);
        value[16..20].copy_from_slice(&self.partition.to_be_bytes());
        value[20..28].copy_from_slice(&self.sequence.to_be_bytes());
        value[28..36].copy_from_slice(&self.intended_ns.to_be_bytes());
        let crc = checksum(value);
        value[CRC_AT..STAMP_BYTES].copy_from_slice(&crc.to_be_bytes());
    }

    /// Reads a value back.
    pub fn read(value: &[u8]) -> Reading {
        if value.get(0..4) != Some(&MAGIC) {
            return Reading::Foreign;
        }
        if value.len() < STAMP_BYTES || checksum(value).to_be_bytes() != value[CRC_AT..STAMP_BYTES]
        {
            return Reading::Damaged;
        }
        let u64_at = |at: usize| u64::from_be_bytes(std::array::from_fn(|i| value[at + i]));
        Reading::Stamp(Self {
            run: u64_at(4),
            producer: u16::from_be_bytes([value[12], value[13]]),
            partition: i32::from_be_bytes(std::array::from_fn(|i| value[16 + i])),
            sequence: u64_at(20),
            intended_ns: u64_at(28),
        })
    }
}

fn checksum(value: &[u8]) -> u32 {
    crc32c_parts([&value[..CRC_AT], &value[STAMP_BYTES..]])
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp {
        run: 7,
        producer: 3,
        partition: 5,
        sequence: 99,
        intended_ns: 1 << 60,
    };

    #[test]
    fn comes_back_as_written() {
        for len in [STAMP_BYTES, STAMP_BYTES + 1, 200, 1023] {
            let mut value = vec![0xaa; len];
            STAMP.write(&mut value);
            assert_eq!(Stamp::read(&value), Reading::Stamp(STAMP));
        }
    }

    #[test]
    fn every_changed_byte_is_seen() {
        let mut value = vec![0; 100];
        STAMP.write(&mut value);
        for at in 4..value.len() {
            let mut bad = value.clone();
            bad[at] ^= 0x10;
            assert_eq!(Stamp::read(&bad), Reading::Damaged, "byte {at}");
        }
        assert_eq!(Stamp::read(&value[..99]), Reading::Damaged);
        assert_eq!(Stamp::read(&value[..STAMP_BYTES - 1]), Reading::Damaged);
    }

    #[test]
    fn other_values_are_foreign() {
        assert_eq!(Stamp::read(b""), Reading::Foreign);
        assert_eq!(Stamp::read(b"hello, world"), Reading::Foreign);
    }
}
