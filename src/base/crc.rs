//! CRC32C (Castagnoli), the polynomial of record batches and of everything the
//! store writes.

/// CRC32C of `bytes`.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// CRC32C of the concatenation of `parts`, without joining them.
#[must_use]
pub fn crc32c_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    let mut crc = Crc32c::default();
    parts.into_iter().for_each(|part| crc.update(part));
    crc.finish()
}

/// CRC32C of bytes that come in parts.
#[derive(Clone, Debug)]
pub struct Crc32c(crc_fast::Digest);

impl Default for Crc32c {
    fn default() -> Self {
        Self(crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi))
    }
}

impl Crc32c {
    /// The next part.
    pub fn update(&mut self, part: &[u8]) {
        self.0.update(part);
    }

    /// Of all parts so far.
    #[must_use]
    pub fn finish(&self) -> u32 {
        self.0.finalize() as u32
    }
}

/// CRC32C of two runs of bytes one after the other, of which the second one has `second_len` bytes, from their own.
#[must_use]
pub fn crc32c_joined(first: u32, second: u32, second_len: u64) -> u32 {
    let kind = crc_fast::CrcAlgorithm::Crc32Iscsi;
    crc_fast::checksum_combine(kind, first.into(), second.into(), second_len) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_vector() {
        // RFC 3720 appendix B.4: 32 bytes of zeroes.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c_parts([&[0u8; 10][..], &[0u8; 22][..]]), 0x8a91_36aa);
        let joined = crc32c_joined(crc32c(&[0; 10]), crc32c(&[0; 22]), 22);
        assert_eq!(joined, 0x8a91_36aa);
        assert_eq!(crc32c_joined(7, crc32c(&[]), 0), 7);
    }
}
