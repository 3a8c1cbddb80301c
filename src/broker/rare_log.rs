//! What is said in the log of what may come again and again: what is new, and not too much of that.

use crate::base::Mono;
use crate::base::limits::{RARE_LOG_LINES, RARE_LOG_MS};

/// What is said of one thing; see the module.
#[derive(Debug, Default)]
pub(in crate::broker) struct RareLog {
    last: String,
    /// Lines of this span of time.
    lines: u32,
    since: Mono,
}

impl RareLog {
    /// Says it, unless it was said last or enough was.
    pub fn say(&mut self, now: Mono, what: &str, line: impl FnOnce()) {
        if self.last == what {
            return;
        }
        if now.ms_since(self.since) >= RARE_LOG_MS {
            (self.since, self.lines) = (now, 0);
        }
        if self.lines < RARE_LOG_LINES {
            self.lines += 1;
            what.clone_into(&mut self.last);
            line();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_says_what_is_new_and_not_much_of_it() {
        let (mut log, mut lines) = (RareLog::default(), 0);
        let mut say = |ms: u64, what: &str| log.say(Mono(ms * 1_000_000), what, || lines += 1);
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
    }
}
