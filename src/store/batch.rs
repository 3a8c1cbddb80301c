//! The only things that the store knows of a batch: its length and its CRC.

use crate::base::crc::crc32c;

/// Length of the batch at the start of `bytes`, if it is there whole.
pub(super) fn batch_len(bytes: &[u8]) -> Option<usize> {
    let field: [u8; 4] = bytes.get(8..12)?.try_into().ok()?;
    let len = usize::try_from(i32::from_be_bytes(field))
        .ok()?
        .checked_add(12)?;
    (len >= 61 && len <= bytes.len()).then_some(len)
}

/// Whether a whole batch has the CRC that it carries.
pub(super) fn batch_crc_is_right(batch: &[u8]) -> bool {
    batch
        .get(17..21)
        .and_then(|crc| crc.try_into().ok())
        .is_some_and(|crc| u32::from_be_bytes(crc) == crc32c(&batch[21..]))
}
