//! What is said in the log of what may come again and again: what is new, not too much of that, and how much was left
//! out.

use std::fmt;

use crate::base::Mono;
use crate::base::limits::{LIFE_LOG_LINES, RARE_LOG_LINES, RARE_LOG_MS};

/// What happens to many things: topics, groups, leaders.
pub(in crate::broker) type LifeLog = FewLines<LIFE_LOG_LINES>;

/// So many lines in [`RARE_LOG_MS`].
#[derive(Debug, Default)]
pub(in crate::broker) struct FewLines<const LINES: u32> {
    /// Lines of this span of time.
    lines: u32,
    since: Mono,
    left_out: LeftOut,
}

/// How many lines were left out since the last one, to be shown at the end of the next.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::broker) struct LeftOut(u64);

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            n => write!(f, " (and {n} more like it that are not told)"),
        }
    }
}

impl<const LINES: u32> FewLines<LINES> {
    /// Says it, or counts it.
    pub fn say(&mut self, now: Mono, line: impl FnOnce(LeftOut)) {
        if let Some(left_out) = self.next(now) {
            line(left_out);
        }
    }

    /// What the next line says that was left out; `None` if it is left out itself.
    fn next(&mut self, now: Mono) -> Option<LeftOut> {
        if now.ms_since(self.since) >= RARE_LOG_MS {
            (self.since, self.lines) = (now, 0);
        }
        if self.lines >= LINES {
            self.left_out.0 += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

/// What is said of one thing; see the module.
#[derive(Debug, Default)]
pub(in crate::broker) struct RareLog {
    last: String,
    /// When that was met the last time, said or not.
    met: Mono,
    few: FewLines<RARE_LOG_LINES>,
}

impl RareLog {
    /// Says it, unless enough was said, or this was said last and has been met again and again since: what was away for
    /// a while and comes back is new.
    pub fn say(&mut self, now: Mono, what: &str, line: impl FnOnce(LeftOut)) {
        if self.last == what {
            let away_ms = now.ms_since(std::mem::replace(&mut self.met, now));
            if away_ms < RARE_LOG_MS {
                return;
            }
        }
        if let Some(left_out) = self.few.next(now) {
            what.clone_into(&mut self.last);
            self.met = now;
            line(left_out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_says_what_is_new_and_not_much_of_it() {
        let (mut log, mut lines, mut left_out) = (RareLog::default(), 0, String::new());
        let mut say = |ms: u64, what: &str| {
            log.say(Mono(ms * 1_000_000), what, |more| {
                lines += 1;
                left_out += &more.to_string();
            });
        };
        for ms in 0..3_600_000 / 1_000 {
            say(ms * 1_000, "refused");
        }
        for ms in 0..1_000 {
            say(3_600_000 + ms, if ms % 2 == 0 { "up" } else { "refused" });
        }
        say(3_600_000 + RARE_LOG_MS, "up");
        assert!(
            (RARE_LOG_LINES..=RARE_LOG_LINES + 2).contains(&lines),
            "{lines}"
        );
        assert!(left_out.starts_with(" (and "), "{left_out}");
    }

    #[test]
    fn what_comes_back_is_said_again() {
        let (mut log, mut lines) = (RareLog::default(), 0);
        let mut say = |ms: u64| log.say(Mono(ms * 1_000_000), "too large", |_| lines += 1);
        say(1);
        say(RARE_LOG_MS);
        say(2 * RARE_LOG_MS - 1);
        let hours = 3 * 60 * 60 * 1_000;
        say(hours);
        say(hours + 1);
        assert_eq!(lines, 2);
    }

    #[test]
    fn what_is_left_out_is_counted_once() {
        let mut log = FewLines::<2>::default();
        let mut told = Vec::new();
        for ms in [0, 1, 2, 3, RARE_LOG_MS, RARE_LOG_MS + 1, RARE_LOG_MS + 2] {
            log.say(Mono(ms * 1_000_000), |more| told.push(more.0));
        }
        assert_eq!(told, [0, 0, 2, 0]);
    }
}
