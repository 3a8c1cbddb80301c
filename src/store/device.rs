//! What a raw block device holds, told by its first and last bytes: before a store
//! is put onto one, nobody else's data may be there.

use super::layout::SUPERBLOCKS;
use super::superblock;

/// So many bytes at the beginning and at the end are looked at: the signatures of filesystems, partition
/// tables, volume managers and RAID lie there, and so does our superblock.
pub const LOOKED_AT: u64 = 1 << 20;

/// What lies on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// Zeroes where anything would announce itself.
    Nothing,
    /// A store of ours, whole or damaged: recovery says which.
    Store,
    /// Something else; what, for people.
    Other(&'static str),
}

/// Position and bytes by which others are known.
const SIGNATURES: [(usize, &[u8], &str); 12] = [
    (0x438, &[0x53, 0xef], "an ext2, ext3 or ext4 filesystem"),
    (0, b"XFSB", "an XFS filesystem"),
    (0x10040, b"_BHRfS_M", "a btrfs filesystem"),
    (0x400, &[0x10, 0x20, 0xf5, 0xf2], "an F2FS filesystem"),
    (0, &[b'L', b'U', b'K', b'S', 0xba, 0xbe], "a LUKS volume"),
    (512, b"LABELONE", "an LVM volume"),
    (4096, &[0xfc, 0x4e, 0x2b, 0xa9], "a part of a RAID"),
    (0, &[0xfc, 0x4e, 0x2b, 0xa9], "a part of a RAID"),
    (4086, b"SWAPSPACE2", "swap space"),
    (512, b"EFI PART", "a partition table"),
    (4096, b"EFI PART", "a partition table"),
    (510, &[0x55, 0xaa], "a partition table or a boot sector"),
];

impl Holds {
    /// Looks at the first and the last [`LOOKED_AT`] bytes of a device, or all it has.
    #[must_use]
    pub fn of(head: &[u8], tail: &[u8]) -> Self {
        let is_at =
            |pos: usize, what: &[u8]| head.get(pos..).is_some_and(|bytes| bytes.starts_with(what));
        if SUPERBLOCKS
            .iter()
            .any(|pos| is_at(*pos as usize, &superblock::MAGIC.to_le_bytes()))
        {
            return Self::Store;
        }
        if let Some((_, _, what)) = SIGNATURES.iter().find(|(pos, bytes, _)| is_at(*pos, bytes)) {
            return Self::Other(what);
        }
        if head.iter().chain(tail).all(|byte| *byte == 0) {
            Self::Nothing
        } else {
            Self::Other("data of a kind that is not known")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::StoreId;
    use crate::store::{DiskOp, Store, StoreConfig};

    #[test]
    fn only_zeroes_and_stores_are_ours() {
        let blank = vec![0; LOOKED_AT as usize];
        assert_eq!(Holds::of(&blank, &blank), Holds::Nothing);
        for (pos, bytes, what) in SIGNATURES {
            let mut head = blank.clone();
            head[pos..pos + bytes.len()].copy_from_slice(bytes);
            assert_eq!(Holds::of(&head, &blank), Holds::Other(what));
        }
        for byte in [0, 70_000, blank.len() - 1] {
            let mut other = blank.clone();
            other[byte] = 1;
            assert!(matches!(Holds::of(&other, &blank), Holds::Other(_)));
            assert!(matches!(Holds::of(&blank, &other), Holds::Other(_)));
        }
        assert_eq!(Holds::of(&[], &[]), Holds::Nothing);
    }

    #[test]
    fn a_store_is_known_by_either_superblock_and_before_there_is_one_the_device_is_blank() {
        let (_, ops) = Store::format(StoreId(0), StoreConfig::default(), 9);
        let mut head = vec![0; LOOKED_AT as usize];
        let mut copies = 0;
        for op in ops {
            let DiskOp::Write { pos, data, .. } = op else {
                continue;
            };
            // Cut off before the superblocks, formatting is simply begun again.
            if !SUPERBLOCKS.contains(&pos) {
                assert_eq!((copies, Holds::of(&head, &[])), (0, Holds::Nothing));
                continue;
            }
            let mut one = vec![0; LOOKED_AT as usize];
            for head in [&mut head, &mut one] {
                head[pos as usize..pos as usize + data.len()].copy_from_slice(&data);
                assert_eq!(Holds::of(head, &[]), Holds::Store);
            }
            copies += 1;
        }
        assert_eq!(copies, SUPERBLOCKS.len());
    }
}
