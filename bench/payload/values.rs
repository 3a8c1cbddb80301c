//! Values of records: how long they are, and what they say.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use millrace::base::Rng;

use crate::units::parse_bytes;

/// Characters of text. 16 different ones, four bits of information in each byte, so that
/// compression finds about what it finds in real text: half.
const LETTERS: &[u8; 16] = b"etaoin shrdlucmf";
/// What compression finds again and again.
const PHRASE: &[u8; 32] = b"the quick brown fox jumps again ";

/// Lengths of values, in bytes, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Shortest.
    pub min: u64,
    /// Longest.
    pub max: u64,
}

impl Sizes {
    /// All of one length.
    #[cfg(test)]
    pub const fn fixed(bytes: u64) -> Self {
        Self {
            min: bytes,
            max: bytes,
        }
    }

    /// One of them, each as likely.
    pub fn draw(&self, rng: &mut Rng) -> usize {
        (self.min + rng.below(self.max - self.min + 1)) as usize
    }
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (min, max) = text.split_once("..").unwrap_or((text, text));
        let sizes = Self {
            min: parse_bytes(min)?,
            max: parse_bytes(max)?,
        };
        if sizes.min > sizes.max || sizes.max > 1 << 30 {
            return Err(format!(
                "'{text}' is no size or range of sizes, as 1K or 100..2000"
            ));
        }
        Ok(sizes)
    }
}

impl std::fmt::Display for Sizes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.min == self.max {
            write!(f, "{}", self.min)
        } else {
            write!(f, "{}..{}", self.min, self.max)
        }
    }
}

/// What values say.
#[derive(Clone, Debug)]
pub enum Content {
    /// Random letters.
    Text,
    /// Random bytes, except for this share of each value, which is always the same.
    Mixed {
        /// 0 for nothing but random bytes, 1 for none.
        same: f64,
    },
    /// These, in turn from a random one on; sizes do not matter then.
    Lines(Arc<[Bytes]>),
}

impl Content {
    /// Puts a value into `value`, of `len` bytes unless its length is given.
    pub fn fill(&self, len: usize, rng: &mut Rng, value: &mut Vec<u8>) {
        value.clear();
        match self {
            Self::Text => {
                while value.len() < len {
                    let mut bits = rng.next_u64();
                    for _ in 0..16.min(len - value.len()) {
                        value.push(LETTERS[(bits & 15) as usize]);
                        bits >>= 4;
                    }
                }
            }
            Self::Mixed { same } => {
                let random = ((1.0 - same) * len as f64).round() as usize;
                while value.len() < random {
                    let word = rng.next_u64().to_le_bytes();
                    let rest = random - value.len();
                    value.extend_from_slice(&word[..rest.min(8)]);
                }
                value.extend(PHRASE.iter().cycle().take(len - random));
            }
            Self::Lines(lines) => {
                let line = rng.below(lines.len() as u64) as usize;
                value.extend_from_slice(&lines[line]);
            }
        }
    }
}

/// The lines of a file, as values. Empty ones are left out.
pub fn read_lines(path: &Path) -> Result<Content, String> {
    let named = |what: &dyn std::fmt::Display| format!("{}: {what}", path.display());
    let text = Bytes::from(std::fs::read(path).map_err(|error| named(&error))?);
    let lines = text.split(|&byte| byte == b'\n');
    let lines: Arc<[Bytes]> = lines
        .filter(|line| !line.is_empty())
        .map(|line| text.slice_ref(line))
        .collect();
    if lines.is_empty() {
        return Err(named(&"no lines to send"));
    }
    Ok(Content::Lines(lines))
}

/// A file as the only value.
pub fn read_whole(path: &Path) -> Result<Content, String> {
    let value = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(Content::Lines([Bytes::from(value)].into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(content: &Content, len: usize) -> Vec<u8> {
        let mut value = Vec::new();
        content.fill(len, &mut Rng::new(3), &mut value);
        value
    }

    fn packed(content: &Content) -> f64 {
        let plain = value(content, 100_000);
        let packed = zstd::encode_all(&plain[..], 3).unwrap();
        packed.len() as f64 / plain.len() as f64
    }

    #[test]
    fn compression_finds_what_was_asked_for() {
        assert!((0.4..0.6).contains(&packed(&Content::Text)));
        for (same, left) in [(0.0, 0.98..1.02), (0.5, 0.48..0.55), (0.9, 0.08..0.15)] {
            let got = packed(&Content::Mixed { same });
            assert!(left.contains(&got), "{same}: {got}");
        }
    }

    #[test]
    fn lengths_are_exact() {
        for content in [Content::Text, Content::Mixed { same: 0.3 }] {
            for len in [0, 1, 7, 100, 1025] {
                assert_eq!(value(&content, len).len(), len);
            }
        }
    }

    #[test]
    fn sizes_are_numbers_or_ranges() {
        assert_eq!("1K".parse(), Ok(Sizes::fixed(1024)));
        assert_eq!(
            "100..2K".parse(),
            Ok(Sizes {
                min: 100,
                max: 2048
            })
        );
        for wrong in ["", "..", "5..", "9..3", "2G..3G"] {
            assert!(wrong.parse::<Sizes>().is_err(), "{wrong}");
        }
        let sizes = Sizes { min: 5, max: 7 };
        let mut rng = Rng::new(1);
        let drawn: std::collections::BTreeSet<_> = (0..100).map(|_| sizes.draw(&mut rng)).collect();
        assert_eq!(Vec::from_iter(drawn), [5, 6, 7]);
    }

    #[test]
    fn lines_come_from_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "one\n\ntwo\nthree").unwrap();
        let content = read_lines(file.path()).unwrap();
        let line = value(&content, 9999);
        assert!([&b"one"[..], b"two", b"three"].contains(&&line[..]));
        std::fs::write(file.path(), "\n\n").unwrap();
        assert!(read_lines(file.path()).is_err());
    }
}
