//! Where to begin in a partition, as people write it.

use std::str::FromStr;

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
            _ => match text.as_bytes().first() {
                Some(b'-') => number(&text[1..]).map(Self::Back),
                Some(b'+') => number(&text[1..]).map(Self::Forward),
                Some(b'@') => number(&text[1..])
                    .or_else(|| parse_utc(&text[1..]))
                    .map(Self::Time),
                _ => number(text).map(Self::Offset),
            },
        };
        parsed.ok_or_else(|| {
            format!("'{text}' is neither beginning, end, an offset, -n, +n nor @time")
        })
    }
}

/// Milliseconds since 1970 of `2026-01-31`, `2026-01-31T12:00` or `2026-01-31T12:00:00`, with or
/// without a `Z`: UTC.
fn parse_utc(text: &str) -> Option<i64> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    let (date, time) = text.split_once('T').unwrap_or((text, "00:00:00"));
    let numbers = |text: &str, separator: char| -> Option<Vec<i64>> {
        text.split(separator)
            .map(|part| part.parse().ok().filter(|n| *n >= 0))
            .collect()
    };
    let [year, month, day] = numbers(date, '-')?[..] else {
        return None;
    };
    let (hour, minute, second) = match numbers(time, ':')?[..] {
        [hour, minute] => (hour, minute, 0),
        [hour, minute, second] => (hour, minute, second),
        _ => return None,
    };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let lengths = [
        31,
        if leap { 29 } else { 28 },
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let length = *lengths.get(usize::try_from(month - 1).ok()?)?;
    let sound = (1970..=9999).contains(&year) && (1..=length).contains(&day);
    if !sound || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let past = year - 1;
    let leap_days = |year: i64| year / 4 - year / 100 + year / 400;
    let days = (year - 1970) * 365 + leap_days(past) - leap_days(1969)
        + lengths[..(month - 1) as usize].iter().sum::<i64>()
        + day
        - 1;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000)
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
            "@tomorrow",
            "now",
            "+-1",
            "99999999999999999999",
        ] {
            assert!(wrong.parse::<Start>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_are_utc() {
        assert_eq!(parse_utc("2000-03-01T00:00:00Z"), Some(951_868_800_000));
        assert_eq!(parse_utc("2024-02-29T12:30"), Some(1_709_209_800_000));
        assert_eq!(parse_utc("2023-11-14T22:13:20Z"), Some(1_700_000_000_000));
        for wrong in [
            "2023-02-29",
            "2023-13-01",
            "2023-00-01",
            "2023-01-01T24:00",
            "2023-01",
            "x",
        ] {
            assert_eq!(parse_utc(wrong), None, "{wrong}");
        }
    }
}
