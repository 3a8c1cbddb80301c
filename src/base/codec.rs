//! Little-endian encoding of structures of our own, of the store and between nodes, and a reader that
//! never goes past the end: what comes from a disk or a peer is not trusted.

use bytes::Bytes;

/// Appends fixed-width integers to a buffer.
pub trait Put {
    /// Bytes as they are.
    fn put(&mut self, bytes: &[u8]);

    /// One byte.
    fn u8(&mut self, n: u8) {
        self.put(&[n]);
    }
    /// 16 bits.
    fn u16(&mut self, n: u16) {
        self.put(&n.to_le_bytes());
    }
    /// 32 bits.
    fn u32(&mut self, n: u32) {
        self.put(&n.to_le_bytes());
    }
    /// 64 bits.
    fn u64(&mut self, n: u64) {
        self.put(&n.to_le_bytes());
    }
    /// 32 bits, signed.
    fn i32(&mut self, n: i32) {
        self.put(&n.to_le_bytes());
    }
    /// 64 bits, signed.
    fn i64(&mut self, n: i64) {
        self.put(&n.to_le_bytes());
    }
}

impl Put for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// What [`Reader::size`] accepts: more than any store holds, and sums of a few cannot overflow.
const SIZE_MAX: u64 = 1 << 60;

/// Reads what [`Put`] wrote; `None` at the end of the bytes.
#[derive(Debug)]
pub struct Reader {
    bytes: Bytes,
    at: usize,
}

impl Reader {
    /// A reader of these bytes.
    #[must_use]
    pub const fn new(bytes: Bytes) -> Self {
        Self { bytes, at: 0 }
    }

    /// Whether all of them were taken.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// The next `len` bytes, shared.
    pub fn take(&mut self, len: usize) -> Option<Bytes> {
        let end = self.at.checked_add(len)?;
        if end > self.bytes.len() {
            return None;
        }
        let taken = self.bytes.slice(self.at..end);
        self.at = end;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let end = self.at.checked_add(N)?;
        let array = self.bytes.get(self.at..end)?.try_into().ok()?;
        self.at = end;
        Some(array)
    }

    /// An id of 16 bytes.
    pub fn id(&mut self) -> Option<[u8; 16]> {
        self.array()
    }
    /// One byte.
    pub fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }
    /// 16 bits.
    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }
    /// 32 bits.
    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }
    /// 64 bits.
    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
    /// A position, a length or a running number: one that arithmetic may be done on.
    pub fn size(&mut self) -> Option<u64> {
        self.u64().filter(|n| *n <= SIZE_MAX)
    }
    /// 32 bits, signed.
    pub fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_le_bytes)
    }
    /// 64 bits, signed.
    pub fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }
}
