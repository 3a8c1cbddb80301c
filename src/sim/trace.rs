//! What happened in a run: a hash over all of it, by which two runs of one seed
//! are compared, and the last events, for the report of a failure.

use std::collections::VecDeque;

use super::counts::Kinds;
use super::what::What;

/// Events kept for the report of a failure.
const KEPT: usize = 60;

/// One event.
#[derive(Clone, Copy, Debug)]
struct Entry {
    at: u64,
    node: Option<usize>,
    what: What,
    a: u64,
    b: u64,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Trace {
    hash: u64,
    events: u64,
    kinds: Kinds,
    last: VecDeque<Entry>,
    verbose: bool,
}

impl Trace {
    /// An empty trace; a verbose one prints each event as it happens.
    #[must_use]
    pub fn new(verbose: bool) -> Self {
        Self {
            hash: 0,
            events: 0,
            kinds: Kinds::default(),
            last: VecDeque::with_capacity(KEPT),
            verbose,
        }
    }

    /// Notes an event, of a node or of the run. `at` is virtual time in ns.
    pub fn note(&mut self, at: u64, node: Option<usize>, what: What, a: u64, b: u64) {
        let place = node.map_or(0, |node| node as u64 + 1);
        for word in [at, place, what as u64, a, b] {
            self.hash = (self.hash ^ word)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(29);
        }
        self.events += 1;
        self.kinds.count(what);
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        let entry = Entry {
            at,
            node,
            what,
            a,
            b,
        };
        self.last.push_back(entry);
        if self.verbose {
            println!("{entry}");
        }
    }

    /// Prints a text at once if this run is a verbose one.
    pub fn say(&self, at: u64, text: impl FnOnce() -> String) {
        if self.verbose {
            println!("{:>14.6} ms  {}", at as f64 / 1e6, text());
        }
    }

    /// The hash over all events so far.
    #[must_use]
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    /// Number of events so far.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// How many events of each kind there were.
    #[must_use]
    pub const fn kinds(&self) -> &Kinds {
        &self.kinds
    }

    /// The last events, one on each line.
    #[must_use]
    pub fn last_events(&self) -> String {
        self.last.iter().map(|entry| format!("{entry}\n")).collect()
    }
}

impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            at,
            node,
            what,
            a,
            b,
        } = self;
        let place = node.map_or_else(String::new, |node| format!("n{node}"));
        write!(
            f,
            "{:>14.6} ms  {place:<3} {:<10} {a:>6} {b}",
            *at as f64 / 1e6,
            format!("{what:?}")
        )
    }
}
