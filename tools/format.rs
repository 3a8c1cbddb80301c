//! How `consume` prints a record.

use std::io::{self, Write};
use std::str::FromStr;

use millrace::record::Record;

use crate::time;

/// What stands for a key, a value or a header's value that is absent.
const NULL: &[u8] = b"null";

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Key,
    KeyLength,
    Value,
    ValueLength,
    Topic,
    Partition,
    Offset,
    Timestamp,
    Utc,
    Headers,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            if !matches!(c, '%' | '\\') {
                plain.push(c);
                continue;
            }
            let piece = match (c, chars.next()) {
                ('%', Some('k')) => Piece::Key,
                ('%', Some('K')) => Piece::KeyLength,
                ('%', Some('v' | 's')) => Piece::Value,
                ('%', Some('V' | 'S')) => Piece::ValueLength,
                ('%', Some('t')) => Piece::Topic,
                ('%', Some('p')) => Piece::Partition,
                ('%', Some('o')) => Piece::Offset,
                ('%', Some('T')) => Piece::Timestamp,
                ('%', Some('d')) => Piece::Utc,
                ('%', Some('h')) => Piece::Headers,
                (_, Some(escaped)) if escape(c, escaped).is_some() => {
                    plain.extend(escape(c, escaped));
                    continue;
                }
                (c, other) => {
                    let other = other.map(String::from).unwrap_or_default();
                    return Err(format!(
                        "'{c}{other}' in the format means nothing; see --help"
                    ));
                }
            };
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(piece);
        }
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Self(pieces))
    }
}

fn escape(sign: char, escaped: char) -> Option<char> {
    match (sign, escaped) {
        ('\\', 'n') => Some('\n'),
        ('\\', 't') => Some('\t'),
        ('\\', 'r') => Some('\r'),
        ('\\', '0') => Some('\0'),
        ('\\', '\\') => Some('\\'),
        ('%', '%') => Some('%'),
        _ => None,
    }
}

impl Format {
    /// Writes a record.
    pub fn write(
        &self,
        out: &mut impl Write,
        topic: &str,
        partition: i32,
        record: &Record,
    ) -> io::Result<()> {
        let length = |bytes: Option<&[u8]>| bytes.map_or(-1, |bytes| bytes.len() as i64);
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.write_all(text.as_bytes())?,
                Piece::Key => out.write_all(record.key.as_deref().unwrap_or(NULL))?,
                Piece::KeyLength => write!(out, "{}", length(record.key.as_deref()))?,
                Piece::Value => out.write_all(record.value.as_deref().unwrap_or(NULL))?,
                Piece::ValueLength => write!(out, "{}", length(record.value.as_deref()))?,
                Piece::Topic => out.write_all(topic.as_bytes())?,
                Piece::Partition => write!(out, "{partition}")?,
                Piece::Offset => write!(out, "{}", record.offset)?,
                Piece::Timestamp => write!(out, "{}", record.timestamp)?,
                Piece::Utc => out.write_all(time::utc(record.timestamp).as_bytes())?,
                Piece::Headers => {
                    for (i, header) in record.headers.iter().enumerate() {
                        out.write_all(if i > 0 { b"," } else { b"" })?;
                        out.write_all(&header.key)?;
                        out.write_all(b"=")?;
                        out.write_all(header.value.as_deref().unwrap_or(NULL))?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn written(format: &str) -> String {
        let record = Record {
            offset: 5,
            timestamp: 1000,
            key: Some(Bytes::from_static(b"k")),
            value: None,
            headers: Vec::new(),
        };
        let mut out = Vec::new();
        let format: Format = format.parse().unwrap();
        format.write(&mut out, "t", 7, &record).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn letters_stand_for_parts_of_a_record() {
        assert_eq!(written("%t-%p@%o %T%%\\t%k=%v"), "t-7@5 1000%\tk=null");
        assert_eq!(written("%K %S %d"), "1 -1 1970-01-01T00:00:01.000Z");
    }

    #[test]
    fn unknown_letters_are_errors() {
        for wrong in ["%x", "%", "\\q", "a\\", "%n"] {
            assert!(wrong.parse::<Format>().is_err(), "{wrong}");
        }
    }
}
