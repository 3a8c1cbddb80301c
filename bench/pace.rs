//! When records are due. Open loop: the schedule is fixed before the run and does
//! not move when the broker is slow, so waiting in front of a slow broker counts as
//! latency (no coordinated omission).

use std::time::{Duration, Instant};

use crate::stats::Window;

/// The schedule of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    start: Instant,
    end: Instant,
    /// Records per second of this connection.
    rate: f64,
    /// Records of a request.
    records: u64,
    /// With linger records fall due one by one, and this long after its first one a batch goes out.
    linger: Option<Duration>,
    taken: u64,
}

/// A request that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// When it is to be sent.
    pub at: Instant,
    /// When its first record was due.
    pub first: Instant,
    /// Time between its records.
    pub step: Duration,
}

impl Due {
    /// A request of which all records are due now.
    pub fn now(at: Instant) -> Self {
        Self {
            at,
            first: at,
            step: Duration::ZERO,
        }
    }

    /// When record number `n` of the request was due.
    pub fn record(&self, n: u32) -> Instant {
        self.first + self.step * n
    }
}

impl Pace {
    /// `rate` records per second for connection `index` of `connections`, in requests of `records`
    /// each. Connections are staggered, so that they do not all send at the same moment.
    pub fn new(
        window: &Window,
        rate: f64,
        records: u64,
        linger: Option<Duration>,
        (index, connections): (usize, usize),
    ) -> Self {
        let period = records as f64 / rate;
        let stagger = index as f64 / connections as f64 * period;
        Self {
            start: window.start + Duration::from_secs_f64(stagger),
            end: window.to,
            rate,
            records,
            linger,
            taken: 0,
        }
    }

    /// The next request; `None` after the end of the schedule.
    pub fn peek(&self) -> Option<Due> {
        let first = self.start + self.seconds((self.taken * self.records) as f64);
        let (at, step) = match self.linger {
            None => (first, Duration::ZERO),
            Some(linger) => {
                let filled = self.seconds((self.records - 1) as f64);
                let step = self.seconds(1.0);
                // Sent when its first record has waited long enough, but if another one would
                // have come by then, it is sent because it is full.
                let wait = if linger < filled + step {
                    linger
                } else {
                    filled
                };
                (first + wait, step)
            }
        };
        (first < self.end).then_some(Due { at, first, step })
    }

    /// Goes on to the next request.
    pub fn take(&mut self) {
        self.taken += 1;
    }

    fn seconds(&self, records: f64) -> Duration {
        Duration::from_secs_f64(records / self.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn window() -> Window {
        Window::new(Duration::ZERO, Duration::from_secs(10), true)
    }

    #[test]
    fn requests_fall_due_at_the_rate_and_staggered() {
        let window = window();
        // 100 records a second in requests of 10: every 100 ms, the second connection in between.
        let mut pace = Pace::new(&window, 100.0, 10, None, (1, 2));
        assert_eq!(pace.peek(), Some(Due::now(window.start + ms(50))));
        (0..20).for_each(|_| pace.take());
        assert_eq!(pace.peek(), Some(Due::now(window.start + ms(2050))));
        (0..80).for_each(|_| pace.take());
        assert_eq!(pace.peek(), None);
    }

    #[test]
    fn with_linger_a_batch_waits_for_its_records() {
        let window = window();
        // A record every 10 ms. Full with the fifth: 40 ms after the first.
        let pace = Pace::new(&window, 100.0, 5, Some(ms(1000)), (0, 1));
        let due = pace.peek().unwrap();
        assert_eq!(due.first, window.start);
        assert_eq!(
            (due.at, due.record(4)),
            (window.start + ms(40), window.start + ms(40))
        );
        // Three come within 25 ms, and then time is over.
        let pace = Pace::new(&window, 100.0, 3, Some(ms(25)), (0, 1));
        assert_eq!(pace.peek().unwrap().at, window.start + ms(25));
    }
}
