//! Gzip as Java's reader takes it: members one behind another, and what follows the last one is not looked at
//! unless it begins as a member does.

use flate2::{Crc, Decompress, FlushDecompress, Status};

use super::error::BatchError;
use super::step::{Cost, DECODER_COST, Decoded, STEP_BYTES};

/// Opens gzip; see [`super::Opener`].
#[derive(Debug, Default)]
pub(super) struct Gzip {
    /// Decodes the member at hand.
    member: Option<Box<Decompress>>,
    /// A member was read whole.
    some_whole: bool,
}

impl Gzip {
    /// Whether it is over and these bytes, all that are left, do not count.
    pub(super) fn is_over(&self, rest: &[u8], cost: &mut Cost) -> bool {
        self.member.is_none()
            && (rest.is_empty() || self.some_whole && header_len(rest, cost).is_none())
    }

    pub(super) fn step(
        &mut self,
        fed: &[u8],
        made: &mut Vec<u8>,
        cost: &mut Cost,
    ) -> Result<Decoded, BatchError> {
        let decoder = self.member.get_or_insert_with(|| {
            cost.besides += DECODER_COST;
            Box::new(Decompress::new_gzip(15))
        });
        made.resize(STEP_BYTES, 0);
        let (before_in, before_out) = (decoder.total_in(), decoder.total_out());
        let status = decoder
            .decompress(fed, made, FlushDecompress::None)
            .map_err(|_| BatchError::Compression)?;
        let step = Decoded {
            used: (decoder.total_in() - before_in) as usize,
            made: (decoder.total_out() - before_out) as usize,
            ended: status == Status::StreamEnd,
        };
        if step.ended {
            (self.member, self.some_whole) = (None, true);
        }
        Ok(step)
    }
}

/// Bytes of a member's header, if there is one that Java takes. Its texts may be as long as the input.
fn header_len(bytes: &[u8], cost: &mut Cost) -> Option<usize> {
    const CHECKSUM: u8 = 1 << 1;
    const EXTRA: u8 = 1 << 2;
    const NAME: u8 = 1 << 3;
    const COMMENT: u8 = 1 << 4;
    let &[0x1f, 0x8b, 8, flags, ..] = bytes.first_chunk::<10>()? else {
        return None;
    };
    let number = |at: usize| {
        let bytes = bytes.get(at..)?.first_chunk()?;
        Some(u16::from_le_bytes(*bytes))
    };
    let mut len = 10;
    if flags & EXTRA != 0 {
        len += 2 + usize::from(number(len)?);
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            let rest = bytes.get(len..)?;
            let end = rest.iter().position(|byte| *byte == 0);
            cost.besides += end.unwrap_or(rest.len());
            len += 1 + end?;
        }
    }
    if flags & CHECKSUM != 0 {
        let mut crc = Crc::new();
        crc.update(bytes.get(..len)?);
        if number(len)? != crc.sum() as u16 {
            return None;
        }
        len += 2;
    }
    (len <= bytes.len()).then_some(len)
}

#[cfg(test)]
mod tests {
    use super::super::Codec;
    use super::*;

    fn member(data: &[u8]) -> Vec<u8> {
        let mut packed = Vec::new();
        Codec::Gzip.compress(data, &mut packed);
        packed
    }

    fn opened(parts: &[&[u8]]) -> Option<Vec<u8>> {
        Codec::Gzip.decompress(&parts.concat(), 1 << 20).ok()
    }

    #[test]
    fn what_follows_the_last_member_does_not_count() {
        let (one, two) = (member(b"one"), member(b"two"));
        let whole = |data: &[u8]| Some(data.to_vec());
        assert_eq!(opened(&[&one]), whole(b"one"));
        assert_eq!(opened(&[&one, &two]), whole(b"onetwo"));
        for junk in [
            &b"junk"[..],
            &[0; 100],
            &[0x1f],
            &two[..9],
            b"\x1f\x8b\x07 not deflated",
        ] {
            assert_eq!(opened(&[&one, junk]), whole(b"one"), "{junk:?}");
            assert_eq!(opened(&[&one, &two, junk]), whole(b"onetwo"), "{junk:?}");
            assert_eq!(opened(&[junk, &one]), None, "{junk:?} comes first");
        }
        for cut in 10..two.len() {
            assert_eq!(opened(&[&one, &two[..cut]]), None, "it begins as a member");
        }
        for cut in 0..one.len() {
            assert_ne!(opened(&[&one[..cut]]), whole(b"one"), "{cut} bytes");
        }
        let mut damaged = one.clone();
        let crc_at = damaged.len() - 8;
        damaged[crc_at] ^= 1;
        assert_eq!(opened(&[&damaged, b"junk"]), None);
    }

    #[test]
    fn headers_are_those_that_java_takes() {
        let len_of = |bytes: &[u8]| header_len(bytes, &mut Cost::default());
        let plain = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
        let with = |flags: u8, more: &[u8]| {
            let mut header = plain.to_vec();
            header[3] = flags;
            [&header, more].concat()
        };
        assert_eq!(len_of(&plain), Some(10));
        let all = with(0b11100, b"\x02\0xxname\0comment\0");
        assert_eq!(len_of(&all), Some(all.len()));
        for cut in 0..all.len() {
            assert_eq!(len_of(&all[..cut]), None);
        }
        let mut crc = Crc::new();
        let summed = with(2, b"");
        crc.update(&summed);
        let sum = (crc.sum() as u16).to_le_bytes();
        assert_eq!(len_of(&[&summed[..], &sum].concat()), Some(12));
        assert_eq!(len_of(&[&summed[..], b"no"].concat()), None);
        let mut cost = Cost::default();
        assert_eq!(header_len(&with(8, &[1; 1 << 20]), &mut cost), None);
        assert_eq!(cost.besides, 1 << 20);
    }
}
