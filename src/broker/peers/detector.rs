//! Whether another node is alive, as this one judges it: by what it hears, and how long it hears nothing.
//!
//! How much silence is too much follows from the silences there were: on a machine that is busy all gaps are long, and
//! nobody is accused for that. The judge's own lateness counts for nobody's silence: time in which it did not run,
//! because its machine stood still or somebody else had the core, is no time ([`OwnTime`]).

use crate::base::Mono;
use crate::base::limits::{SILENCE_MS_MAX, SILENCE_MS_MIN, STUCK_MS_MAX};

/// A process that looks at its clock more seldom than this did not run in between, in nanoseconds.
const STEP_MAX: u64 = 25_000_000;
/// The silence that is suspicious, in the longest ones that are usual.
const TIMES_USUAL: u64 = 4;
/// So much more silence is needed to take somebody for dead.
const TIMES_SUSPICIOUS: u64 = 2;
/// Silences by length: bucket n is of those below 2^(n/2) ms, the last one of all that are longer.
const BUCKETS: usize = 24;
/// When so many silences were counted, all counts are halved: what was long ago counts less.
const COUNTED_MAX: u32 = 512;
/// What is longer than all but one of so many silences is not usual.
const UNUSUAL: u32 = 100;

/// The time for which a process has run. It has to be asked every 25 ms at least, or part of it is missed.
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnTime {
    asked: Mono,
    run: Mono,
}

impl OwnTime {
    /// What it is when the clock says this.
    pub fn at(&mut self, clock: Mono) -> Mono {
        let step = clock.0.saturating_sub(self.asked.0).min(STEP_MAX);
        self.asked = self.asked.max(clock);
        self.run.0 += step;
        self.run
    }

    /// For how many ms it did not run since it was asked last.
    pub fn missed_ms(&mut self, clock: Mono) -> u64 {
        let (asked, run) = (self.asked, self.run);
        let own = self.at(clock).0 - run.0;
        clock.ms_since(Mono(asked.0 + own))
    }
}

/// What is thought of another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It is alive.
    Alive,
    /// It may be gone, or its disk hangs: nobody waits for it any more, and a leader lets it leave the ISR.
    Suspected,
    /// It is taken for dead: another one may have to lead.
    Dead,
}

/// What is thought of a node that was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// What is thought of it.
    pub verdict: Verdict,
    /// For more silence than this, in ms, it is taken for dead.
    pub silence_ms_max: u64,
}

/// What is heard of one process of another node; see the module. All times are the judge's [`OwnTime`].
#[derive(Clone, Debug)]
pub struct Detector {
    heard: Mono,
    /// The connection to it was reset, and nothing was heard since.
    is_reset: bool,
    /// It refused a connection, and nothing was heard since.
    is_refused: bool,
    /// It has a stream to the judge.
    is_streaming: bool,
    /// The age of the oldest push that it has not on its disk, when it was heard last, in ms.
    stuck_ms: u64,
    silences: [u32; BUCKETS],
    counted: u32,
}

impl Detector {
    /// Of a process that was heard now for the first time.
    #[must_use]
    pub const fn new(now: Mono) -> Self {
        Self {
            heard: now,
            is_reset: false,
            is_refused: false,
            is_streaming: true,
            stuck_ms: 0,
            silences: [0; BUCKETS],
            counted: 0,
        }
    }

    /// It is heard, whatever it says.
    pub fn hear(&mut self, now: Mono) {
        let silence = now.ms_since(self.heard);
        let bucket = (0..BUCKETS - 1).find(|bucket| silence < below(*bucket));
        self.silences[bucket.unwrap_or(BUCKETS - 1)] += 1;
        self.counted += 1;
        if self.counted >= COUNTED_MAX {
            for count in &mut self.silences {
                *count /= 2;
            }
            self.counted = self.silences.iter().sum();
        }
        self.heard = self.heard.max(now);
        (self.is_reset, self.is_refused) = (false, false);
    }

    /// It says how old the oldest push is that it has not on its disk, in ms.
    pub const fn hear_stuck(&mut self, ms: u64) {
        self.stuck_ms = ms;
    }

    /// The connection to it was reset. Whoever sees that tries once to connect again.
    pub const fn reset(&mut self) {
        self.is_reset = true;
    }

    /// Its machine says that nobody listens there: its process is gone. But for one that has a stream to the judge and
    /// is heard on it: it may only not listen, or somewhere else.
    pub const fn refused(&mut self) {
        self.is_refused = true;
    }

    /// Its stream to the judge is gone.
    pub const fn gone(&mut self) {
        self.is_streaming = false;
        self.is_reset = true;
    }

    /// It has a stream to the judge again.
    pub fn back(&mut self, now: Mono) {
        self.is_streaming = true;
        self.hear(now);
    }

    /// What is thought of it now.
    #[must_use]
    pub fn verdict(&self, now: Mono) -> Verdict {
        if self.is_refused && !self.is_streaming {
            return Verdict::Dead;
        }
        let is_odd = self.is_reset || self.stuck_ms > STUCK_MS_MAX;
        let at_least = if is_odd {
            Verdict::Suspected
        } else {
            Verdict::Alive
        };
        self.by_silence(now).max(at_least)
    }

    /// Whether nobody should be sent there for now: a connection was reset and nothing was heard since, or it is taken
    /// for dead. A little silence is usual on a busy machine, where it should send nobody away.
    #[must_use]
    pub fn is_lost(&self, now: Mono) -> bool {
        self.is_reset || self.verdict(now) == Verdict::Dead
    }

    /// Whether a connection to it was reset, and nothing was heard since.
    #[must_use]
    pub const fn is_reset(&self) -> bool {
        self.is_reset
    }

    /// The same, and how much silence it may keep.
    #[must_use]
    pub fn judged(&self, now: Mono) -> Judged {
        Judged {
            verdict: self.verdict(now),
            silence_ms_max: self.silence_ms_max(),
        }
    }

    /// For more silence than this, in ms, it is taken for dead.
    fn silence_ms_max(&self) -> u64 {
        TIMES_SUSPICIOUS * self.suspicious_ms()
    }

    /// What is thought of it for its silence alone.
    #[must_use]
    pub fn by_silence(&self, now: Mono) -> Verdict {
        let silence = now.ms_since(self.heard);
        if silence > self.silence_ms_max() {
            Verdict::Dead
        } else if silence > self.suspicious_ms() {
            Verdict::Suspected
        } else {
            Verdict::Alive
        }
    }

    /// The silence that is suspicious, in ms.
    fn suspicious_ms(&self) -> u64 {
        (TIMES_USUAL * self.usual_ms()).clamp(SILENCE_MS_MIN, SILENCE_MS_MAX)
    }

    /// The longest silence that is usual, in ms, as precisely as the buckets are.
    fn usual_ms(&self) -> u64 {
        let mut unusual = self.counted / UNUSUAL;
        for (bucket, count) in self.silences.iter().enumerate().rev() {
            match unusual.checked_sub(*count) {
                Some(left) => unusual = left,
                None => return below(bucket),
            }
        }
        0
    }
}

/// The length that the silences of a bucket do not reach, in ms.
const fn below(bucket: usize) -> u64 {
    let whole: u64 = 1 << (bucket / 2);
    if bucket.is_multiple_of(2) {
        whole
    } else {
        // Half an octave, about the root of two.
        whole + whole.div_ceil(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;

    const fn ms(n: u64) -> Mono {
        Mono(n * 1_000_000)
    }

    /// Heard so often with such silences in ms; and when last.
    fn heard(silences: impl IntoIterator<Item = u64>) -> (Detector, u64) {
        let (mut it, mut now) = (Detector::new(ms(0)), 0);
        for silence in silences {
            now += silence;
            it.hear(ms(now));
        }
        (it, now)
    }

    /// After how much silence it is thought so, in ms.
    fn after((it, last): &(Detector, u64), verdict: Verdict) -> u64 {
        let is_it = |silence: &u64| it.verdict(ms(last + silence)) >= verdict;
        (0..20_000).find(is_it).expect("at last")
    }

    #[test]
    fn who_is_heard_often_is_missed_soon() {
        for known in [heard([]), heard([10; 1_000])] {
            assert_eq!(after(&known, Verdict::Suspected), SILENCE_MS_MIN + 1);
            assert_eq!(after(&known, Verdict::Dead), 2 * SILENCE_MS_MIN + 1);
        }
    }

    #[test]
    fn who_is_heard_seldom_is_missed_later_and_at_last() {
        let slow = heard([150; 200]);
        let suspected = after(&slow, Verdict::Suspected);
        assert!((600..1_200).contains(&suspected), "{suspected}");
        let slower = heard([3_000; 200]);
        assert_eq!(after(&slower, Verdict::Suspected), SILENCE_MS_MAX + 1);
        assert_eq!(after(&slower, Verdict::Dead), 2 * SILENCE_MS_MAX + 1);
    }

    #[test]
    fn one_long_silence_changes_nothing_and_old_ones_are_forgotten() {
        let usual = [10; 400].into_iter();
        let known = heard(usual.clone().chain([5_000]).chain(usual));
        assert_eq!(after(&known, Verdict::Suspected), SILENCE_MS_MIN + 1);
        let once = heard([400; 500].into_iter().chain([10; 20_000]));
        assert_eq!(after(&once, Verdict::Suspected), SILENCE_MS_MIN + 1);
    }

    #[test]
    fn a_reset_is_suspicious_and_a_refusal_is_proof_until_it_is_heard_again() {
        for gone_first in [true, false] {
            let (mut it, last) = heard([10; 100]);
            let now = ms(last + 1);
            assert!(!it.is_lost(ms(last + SILENCE_MS_MIN + 1)), "only suspected");
            it.reset();
            assert_eq!(it.verdict(now), Verdict::Suspected);
            assert!(it.is_lost(now));
            if gone_first {
                it.gone();
                assert_eq!(it.verdict(now), Verdict::Suspected);
            }
            it.refused();
            if !gone_first {
                assert_eq!(it.verdict(now), Verdict::Suspected);
                it.gone();
            }
            assert_eq!(it.verdict(now), Verdict::Dead);
            it.back(now);
            assert_eq!(it.verdict(now), Verdict::Alive);
            assert!(!it.is_lost(now));
        }
    }

    #[test]
    fn who_is_heard_is_not_dead_because_nobody_listens_there() {
        let (mut it, last) = heard([10; 100]);
        it.refused();
        assert_eq!(it.verdict(ms(last + 1)), Verdict::Alive);
        assert_eq!(it.verdict(ms(last + 201)), Verdict::Dead, "for silence");
    }

    #[test]
    fn whose_disk_hangs_is_suspected_although_it_is_heard() {
        let (mut it, last) = heard([10; 100]);
        it.hear_stuck(STUCK_MS_MAX + 1);
        it.hear(ms(last + 10));
        assert_eq!(it.verdict(ms(last + 10)), Verdict::Suspected);
        it.hear_stuck(0);
        assert_eq!(it.verdict(ms(last + 10)), Verdict::Alive);
    }

    #[test]
    fn a_judge_that_did_not_run_accuses_nobody() {
        let mut rng = Rng::new(1);
        let (mut own, mut clock) = (OwnTime::default(), 0);
        let mut it = Detector::new(own.at(ms(clock)));
        for _ in 0..10_000 {
            // Heard every 10 ms; now and then the judge stands still, and what it was told comes behind.
            let paused = if rng.chance(1, 50) {
                rng.below(60_000)
            } else {
                0
            };
            clock += 10 + paused;
            let now = own.at(ms(clock));
            assert_eq!(it.verdict(now), Verdict::Alive);
            it.hear(now);
        }
        assert_eq!(own.at(ms(0)), own.at(ms(clock)), "a clock that goes back");
        assert_eq!(own.missed_ms(ms(clock + 25)), 0);
        assert_eq!(own.missed_ms(ms(clock + 25 + 1_025)), 1_000);
        assert_eq!(own.missed_ms(ms(0)), 0);
    }

    #[test]
    fn buckets_hold_what_is_below_them() {
        let lengths: Vec<u64> = (0..BUCKETS).map(below).collect();
        assert!(lengths.is_sorted());
        assert!(lengths[BUCKETS - 2] * TIMES_USUAL > SILENCE_MS_MAX);
    }
}
