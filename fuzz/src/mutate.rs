//! Damage: what goes wrong with bytes, by accident and by malice.

use millrace::base::Rng;

/// Numbers at which length and count checks go wrong.
const NASTY: [i64; 16] = [
    0,
    1,
    -1,
    -2,
    2,
    61,
    127,
    128,
    255,
    32_767,
    32_768,
    65_535,
    i32::MAX as i64,
    i32::MIN as i64,
    i64::MAX,
    i64::MIN,
];

/// Damages `bytes` in one to six places; `other` is another input to take bytes from.
pub fn mutate(bytes: &mut Vec<u8>, other: &[u8], rng: &mut Rng) {
    for _ in 0..=rng.below(6) {
        once(bytes, other, rng);
    }
}

fn once(bytes: &mut Vec<u8>, other: &[u8], rng: &mut Rng) {
    let at = rng.below(bytes.len() as u64) as usize;
    let Some(&byte) = bytes.get(at) else {
        bytes.extend_from_slice(other);
        return;
    };
    match rng.below(10) {
        0 => bytes[at] = byte ^ (1 << rng.below(8)),
        1 => bytes[at] = rng.next_u64() as u8,
        2 => bytes[at] = byte.wrapping_add(rng.below(9) as u8).wrapping_sub(4),
        3 | 4 => overwrite_number(bytes, at, rng),
        5 => {
            bytes.drain(at..at + short(bytes.len() - at, rng));
        }
        6 => {
            let from = rng.below(other.len() as u64) as usize;
            let taken = &other[from..from + short(other.len() - from, rng)];
            bytes.splice(at..at, taken.iter().copied());
        }
        7 => {
            let copy = bytes[at..at + short(bytes.len() - at, rng)].to_vec();
            let to = rng.below(bytes.len() as u64) as usize;
            bytes.splice(to..to, copy);
        }
        8 => {
            let len = short((bytes.len() - at).min(other.len()), rng);
            let from = rng.below((other.len() - len) as u64 + 1) as usize;
            bytes[at..at + len].copy_from_slice(&other[from..from + len]);
        }
        _ => bytes.truncate(at),
    }
}

/// Overwrites one to eight bytes with a number, big endian.
fn overwrite_number(bytes: &mut [u8], at: usize, rng: &mut Rng) {
    let width = (1usize << rng.below(4)).min(bytes.len() - at);
    let number = match rng.below(3) {
        0 => bytes.len() as i64 - at as i64 - width as i64,
        1 => rng.below(300) as i64,
        _ => NASTY[rng.below(NASTY.len() as u64) as usize],
    };
    bytes[at..at + width].copy_from_slice(&number.to_be_bytes()[8 - width..]);
}

/// A length up to `max`, mostly short.
fn short(max: usize, rng: &mut Rng) -> usize {
    let bound = if rng.chance(3, 4) { max.min(16) } else { max };
    rng.below(bound as u64 + 1) as usize
}
