//! Times and spans as people write them: UTC, and `90s`, `15m`, `24h`, `7d`.

use std::time::{SystemTime, UNIX_EPOCH};

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_millis() as i64
}

/// Two units of a span at most: `2d03h`, `1h05m`, `3m12s`, `4.5s`, `950ms`.
pub fn span(ms: i64) -> String {
    match ms {
        ..SECOND => format!("{ms}ms"),
        SECOND..MINUTE => format!("{}.{}s", ms / SECOND, ms % SECOND / 100),
        MINUTE..HOUR => format!("{}m{:02}s", ms / MINUTE, ms % MINUTE / SECOND),
        HOUR..DAY => format!("{}h{:02}m", ms / HOUR, ms % HOUR / MINUTE),
        _ => format!("{}d{:02}h", ms / DAY, ms % DAY / HOUR),
    }
}

/// Milliseconds of `90s`, `15m`, `24h` or `7d`.
pub fn parse_span(text: &str) -> Option<i64> {
    let unit = match text.as_bytes().last()? {
        b's' => SECOND,
        b'm' => MINUTE,
        b'h' => HOUR,
        b'd' => DAY,
        _ => return None,
    };
    let digits = &text[..text.len() - 1];
    let plain = digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| digits.parse::<i64>().ok()?.checked_mul(unit))?
}

/// `2026-01-31T12:00:00.000Z`; what is before 1970 or after 9999 as a number.
pub fn utc(ms: i64) -> String {
    const LAST: i64 = 253_402_300_799_999;
    if !(0..=LAST).contains(&ms) {
        return ms.to_string();
    }
    let (mut days, rest) = (ms / DAY, ms % DAY);
    let mut year = 1970;
    while days >= days_of(year) {
        days -= days_of(year);
        year += 1;
    }
    let mut month = 0;
    let lengths = months(year);
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    format!(
        "{year}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        month + 1,
        days + 1,
        rest / HOUR,
        rest % HOUR / MINUTE,
        rest % MINUTE / SECOND,
        rest % SECOND
    )
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of(year: i64) -> i64 {
    365 + i64::from(is_leap(year))
}

fn months(year: i64) -> [i64; 12] {
    let february = 28 + i64::from(is_leap(year));
    [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
}

/// Milliseconds since 1970 of `2026-01-31`, `2026-01-31T12:00`, `2026-01-31T12:00:00` or
/// `2026-01-31T12:00:00.000`, with or without a `Z`: UTC.
pub fn parse_utc(text: &str) -> Option<i64> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    let (date, time) = text.split_once('T').unwrap_or((text, "00:00:00"));
    let (time, fraction) = time.split_once('.').unwrap_or((time, "000"));
    let numbers = |text: &str, separator: char| -> Option<Vec<i64>> {
        let number = |part: &str| {
            let plain = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| part.parse().ok())?
        };
        text.split(separator).map(number).collect()
    };
    let [year, month, day] = numbers(date, '-')?[..] else {
        return None;
    };
    let (hour, minute, second) = match numbers(time, ':')?[..] {
        [hour, minute] => (hour, minute, 0),
        [hour, minute, second] => (hour, minute, second),
        _ => return None,
    };
    let [millis] = numbers(fraction, '.')?[..] else {
        return None;
    };
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || fraction.len() != 3 {
        return None;
    }
    let (lengths, month) = (months(year), (month - 1) as usize);
    if !(1..=lengths[month]).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days =
        (1970..year).map(days_of).sum::<i64>() + lengths[..month].iter().sum::<i64>() + day - 1;
    Some(days * DAY + hour * HOUR + minute * MINUTE + second * SECOND + millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc() {
        for (text, ms) in [
            ("2000-03-01T00:00:00Z", 951_868_800_000),
            ("2024-02-29T12:30", 1_709_209_800_000),
            ("2023-11-14T22:13:20Z", 1_700_000_000_000),
            ("2023-11-14T22:13:20.007Z", 1_700_000_000_007),
            ("1970-01-02", 86_400_000),
        ] {
            assert_eq!(parse_utc(text), Some(ms), "{text}");
            assert_eq!(parse_utc(&utc(ms)), Some(ms), "{text}");
        }
        for wrong in [
            "2023-02-29",
            "2023-13-01",
            "2023-00-01",
            "2023-01-00",
            "2023-01-01T24:00",
            "2023-01-01T12:00:00.5",
            "2023-01",
            "+2023-01-01",
            "x",
            "",
        ] {
            assert_eq!(parse_utc(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn times_are_written() {
        assert_eq!(utc(1_709_209_800_042), "2024-02-29T12:30:00.042Z");
        assert_eq!(utc(253_402_300_799_999), "9999-12-31T23:59:59.999Z");
        assert_eq!(utc(-1), "-1");
        assert_eq!(utc(i64::MAX), i64::MAX.to_string());
    }

    #[test]
    fn spans_have_two_units() {
        for (ms, text) in [
            (-5, "-5ms"),
            (999, "999ms"),
            (4_560, "4.5s"),
            (192_000, "3m12s"),
            (3_900_000, "1h05m"),
            (183_600_000, "2d03h"),
        ] {
            assert_eq!(span(ms), text);
        }
        assert_eq!(parse_span("90s"), Some(90_000));
        assert_eq!(parse_span("7d"), Some(604_800_000));
        for wrong in ["", "s", "1", "-1h", "1w", "9223372036854775807d"] {
            assert_eq!(parse_span(wrong), None, "{wrong}");
        }
    }
}
