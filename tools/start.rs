//! Where to begin or to end in a partition, as people write it, and what offsets that is.

use std::collections::BTreeMap;
use std::str::FromStr;

use millrace_client::{Cluster, EARLIEST, LATEST, Result as ClientResult, Topic, list_offsets};

use crate::time::{now_ms, parse_span, parse_utc};

/// What [`Start`] understands, for `--help`.
pub const FORMS: &str = "\
Positions:
  beginning, end          the first record there is, what comes next
  42                      this offset
  -n, +n                  n records before the end or after the beginning; of a group, before or
                          after its current offset
  @1700000000000          the first record of this time or later, in milliseconds since 1970
  @2026-01-31T12:00:00Z   the same in UTC; the time, or its seconds, may be left out
  @-90s, @-15m, @-24h, @-7d   the same, so long ago";

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The first record there is.
    Beginning,
    /// After the last record.
    End,
    /// This offset.
    Offset(i64),
    /// So many records before the reference: the end, or a group's current offset.
    Back(i64),
    /// So many records after the reference.
    Forward(i64),
    /// The first record of this time (milliseconds since 1970) or later.
    Time(i64),
    /// The first record that is no older than so many milliseconds.
    Ago(i64),
}

impl FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |digits: &str| {
            let plain = digits.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| digits.parse::<i64>().ok()).flatten()
        };
        let parsed = match text {
            "beginning" | "earliest" | "start" => Some(Self::Beginning),
            "end" | "latest" => Some(Self::End),
            _ => match text.as_bytes() {
                [b'@', b'-', ..] => parse_span(&text[2..]).map(Self::Ago),
                [b'-', ..] => number(&text[1..]).map(Self::Back),
                [b'+', ..] => number(&text[1..]).map(Self::Forward),
                [b'@', ..] => number(&text[1..])
                    .or_else(|| parse_utc(&text[1..]))
                    .map(Self::Time),
                _ => number(text).map(Self::Offset),
            },
        };
        parsed.ok_or_else(|| {
            format!("'{text}' is neither beginning, end, an offset, -n, +n, @time nor @-15m")
        })
    }
}

impl Start {
    /// The time that is meant, if one is.
    pub fn time_ms(self) -> Option<i64> {
        match self {
            Self::Time(time) => Some(time),
            Self::Ago(span) => Some(now_ms().saturating_sub(span)),
            _ => None,
        }
    }

    /// The offset that is meant: never outside of what the partition holds. `now` is where a
    /// group is; `timed` the offset of the time that is meant.
    fn at(self, now: Option<i64>, first: i64, end: i64, timed: Option<i64>) -> i64 {
        let at = match self {
            Self::Beginning => first,
            Self::End => end,
            Self::Offset(offset) => offset,
            Self::Back(n) => now.unwrap_or(end).saturating_sub(n),
            Self::Forward(n) => now.unwrap_or(first).saturating_add(n),
            // No record is that young: what comes next will be.
            Self::Time(_) | Self::Ago(_) => timed.filter(|offset| *offset >= 0).unwrap_or(end),
        };
        at.clamp(first, end.max(first))
    }
}

/// What a partition holds, and the offset in it that is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The first offset there is.
    pub first: i64,
    /// The offset of the next record.
    pub end: i64,
    /// What is meant.
    pub at: i64,
}

/// What `start` means in each of these partitions; `current` is where a group is.
pub fn places(
    cluster: &mut Cluster,
    topic: &Topic,
    indexes: &[i32],
    start: Start,
    current: impl Fn(i32) -> Option<i64>,
) -> ClientResult<BTreeMap<i32, Place>> {
    let firsts = list_offsets(cluster, topic, indexes, EARLIEST)?;
    let ends = list_offsets(cluster, topic, indexes, LATEST)?;
    let timed = match start.time_ms() {
        Some(time) => list_offsets(cluster, topic, indexes, time)?,
        None => BTreeMap::new(),
    };
    let place = |index: &i32| {
        let (first, end) = (*firsts.get(index)?, *ends.get(index)?);
        let at = start.at(current(*index), first, end, timed.get(index).copied());
        Some((*index, Place { first, end, at }))
    };
    Ok(indexes.iter().filter_map(place).collect())
}

/// These partitions of the topic, or all; those that it does not have are an error.
pub fn indexes(topic: &Topic, wanted: &[i32]) -> ClientResult<Vec<i32>> {
    if wanted.is_empty() {
        return Ok(topic.partitions.iter().map(|p| p.index).collect());
    }
    let mut wanted = wanted.to_vec();
    wanted.sort_unstable();
    wanted.dedup();
    wanted
        .iter()
        .try_for_each(|index| topic.partition(*index).map(|_| ()))?;
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let cases = [
            ("beginning", Start::Beginning),
            ("latest", Start::End),
            ("0", Start::Offset(0)),
            ("-10", Start::Back(10)),
            ("+3", Start::Forward(3)),
            ("@1700000000000", Start::Time(1_700_000_000_000)),
            ("@1970-01-02", Start::Time(86_400_000)),
            ("@-15m", Start::Ago(900_000)),
        ];
        for (text, start) in cases {
            assert_eq!(text.parse(), Ok(start), "{text}");
        }
        for wrong in [
            "",
            "-",
            "--1",
            "1x",
            "@",
            "@-",
            "@-1",
            "@tomorrow",
            "now",
            "+-1",
            "99999999999999999999",
        ] {
            assert!(wrong.parse::<Start>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn offsets_stay_within_the_partition() {
        let at = |start: Start, now| start.at(now, 10, 100, None);
        assert_eq!(at(Start::Beginning, Some(50)), 10);
        assert_eq!(at(Start::End, None), 100);
        assert_eq!(at(Start::Offset(5), None), 10);
        assert_eq!(at(Start::Offset(500), None), 100);
        assert_eq!(at(Start::Back(20), Some(50)), 30);
        assert_eq!(at(Start::Back(20), None), 80);
        assert_eq!(at(Start::Forward(20), Some(90)), 100);
        assert_eq!(at(Start::Forward(20), None), 30);
    }

    #[test]
    fn a_time_after_the_last_record_is_the_end() {
        assert_eq!(Start::Time(1).at(None, 0, 9, Some(-1)), 9);
        assert_eq!(Start::Ago(1).at(None, 0, 9, Some(4)), 4);
    }

    #[test]
    fn partitions_are_those_of_the_topic() {
        let partition = |index| millrace_client::Partition {
            index,
            ..Default::default()
        };
        let topic = Topic {
            partitions: (0..3).map(partition).collect(),
            ..Topic::default()
        };
        assert_eq!(indexes(&topic, &[]).unwrap(), [0, 1, 2]);
        assert_eq!(indexes(&topic, &[2, 0, 2]).unwrap(), [0, 2]);
        assert!(indexes(&topic, &[3]).is_err());
    }
}
