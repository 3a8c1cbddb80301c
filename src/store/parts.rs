//! Bytes in parts, as a checkpoint's content is gathered and written: what is short is copied together, what is long
//! is shared.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::base::codec::Put;
use crate::base::crc::Crc32c;

/// What is shorter than this is copied.
const SHARED_BYTES_MIN: usize = 16 << 10;
/// Until there is so much.
const COPIED_BYTES: usize = 64 << 10;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Parts {
    parts: Vec<Bytes>,
    /// What comes after them.
    copied: Vec<u8>,
    len: u64,
    /// Of the parts.
    crc: Crc32c,
}

impl Parts {
    /// How many bytes there are.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Appends bytes that live on.
    pub fn share(&mut self, bytes: Bytes) {
        if bytes.len() < SHARED_BYTES_MIN {
            return self.put(&bytes);
        }
        self.close();
        self.len += bytes.len() as u64;
        self.push(bytes);
    }

    /// All of it, and its CRC.
    pub fn finish(mut self) -> (Vec<Bytes>, u32) {
        self.close();
        (self.parts, self.crc.finish())
    }

    fn close(&mut self) {
        if !self.copied.is_empty() {
            let copied = std::mem::take(&mut self.copied);
            self.push(copied.into());
        }
    }

    fn push(&mut self, part: Bytes) {
        self.crc.update(&part);
        self.parts.push(part);
    }
}

impl Put for Parts {
    fn put(&mut self, bytes: &[u8]) {
        if self.copied.len() + bytes.len() > COPIED_BYTES {
            self.close();
        }
        if self.copied.capacity() == 0 {
            self.copied.reserve_exact(COPIED_BYTES.max(bytes.len()));
        }
        self.copied.extend_from_slice(bytes);
        self.len += bytes.len() as u64;
    }
}

/// Takes the first `len` bytes, or all that there are.
pub(super) fn take(parts: &mut VecDeque<Bytes>, mut len: usize) -> Vec<Bytes> {
    let mut taken = Vec::new();
    while len > 0
        && let Some(first) = parts.front_mut()
    {
        let part = first.split_to(first.len().min(len));
        len -= part.len();
        if first.is_empty() {
            parts.pop_front();
        }
        taken.push(part);
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::crc::crc32c;

    #[test]
    fn all_bytes_are_there_in_their_order_and_the_long_ones_are_not_copied() {
        let lens = [1, SHARED_BYTES_MIN, 0, 30_000, 5, 9000, 60_000, 10_000];
        let runs: Vec<Bytes> = lens
            .iter()
            .map(|len| vec![*len as u8; *len].into())
            .collect();
        let mut parts = Parts::default();
        for (n, run) in runs.iter().enumerate() {
            match n % 2 {
                0 => parts.put(run),
                _ => parts.share(run.clone()),
            }
        }
        let all = runs.concat();
        assert_eq!(parts.len(), all.len() as u64);
        let (parts, crc) = parts.finish();
        assert_eq!((parts.concat(), crc), (all.clone(), crc32c(&all)));
        let shared = |run: &Bytes| parts.iter().any(|part| part.as_ptr() == run.as_ptr());
        assert!(shared(&runs[1]) && shared(&runs[3]) && !shared(&runs[6]));
        let (mut rest, mut taken) = (VecDeque::from(parts), Vec::new());
        for len in [0, 1, 50_000, 7, 200_000] {
            let some = take(&mut rest, len).concat();
            assert_eq!(some.len(), len.min(all.len() - taken.len()));
            taken.extend(some);
        }
        assert!(taken == all && rest.is_empty());
    }
}
