//! What happened in a run: a hash over all of it, by which two runs of one seed
//! are compared, and the last events, for the report of a failure.

use std::collections::VecDeque;

/// Events kept for the report of a failure.
const KEPT: usize = 60;

/// Kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A shard was given an input that is none of those below: a = shard.
    Input,
    /// A shard was told that nothing is waiting: a = shard.
    Idle,
    /// A request reached a shard: a = connection, b = API key.
    Request,
    /// A reply left the node: a = connection, b = CRC of the frame.
    Reply,
    /// A disk operation was asked for: a = store, b = its id.
    Disk,
    /// A disk operation ended: a = store, b = its id.
    DiskDone,
    /// A disk operation failed: a = store, b = errno.
    DiskFailed,
    /// A shard sent a message to another one: a = sender, b = receiver.
    Mesh,
    /// A client connected: a = client, b = connection.
    Connected,
    /// A connection was cut: a = client, b = connection.
    Cut,
    /// A client's timer: a = client.
    Timer,
    /// The node crashed: a = unsynced writes.
    Crash,
    /// A shutdown was asked for.
    Shutdown,
    /// The node started: a = shards, b = stores.
    Start,
    /// All shards are ready.
    Ready,
    /// A store was recovered: a = store, b = its length.
    Recovered,
    /// A shard said that the process must stop: a = shard, b = status.
    Fatal,
    /// The wall clock jumped: a = its new lead over virtual time, ms.
    WallJump,
    /// Bits of a store were flipped: a = store, b = position.
    Rot,
    /// The run enters its next phase: a = number of the phase.
    Phase,
    /// A checkpoint is being made valid: a = store.
    Checkpoint,
    /// A reply has bytes of a store file in it: a = connection, b = how many.
    FileBytes,
}

/// How many kinds there are.
const KINDS: usize = What::FileBytes as usize + 1;

/// One event.
#[derive(Clone, Copy, Debug)]
struct Entry {
    at: u64,
    what: What,
    a: u64,
    b: u64,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Trace {
    hash: u64,
    events: u64,
    counts: [u64; KINDS],
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
            counts: [0; KINDS],
            last: VecDeque::with_capacity(KEPT),
            verbose,
        }
    }

    /// Notes an event. `at` is virtual time in ns.
    pub fn note(&mut self, at: u64, what: What, a: u64, b: u64) {
        for word in [at, what as u64, a, b] {
            self.hash = (self.hash ^ word)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(29);
        }
        self.events += 1;
        self.counts[what as usize] += 1;
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        let entry = Entry { at, what, a, b };
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

    /// How many events of a kind there were.
    #[must_use]
    pub const fn count(&self, what: What) -> u64 {
        self.counts[what as usize]
    }

    /// The last events, one on each line.
    #[must_use]
    pub fn last_events(&self) -> String {
        self.last.iter().map(|entry| format!("{entry}\n")).collect()
    }
}

impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { at, what, a, b } = self;
        write!(
            f,
            "{:>14.6} ms  {:<10} {a:>6} {b}",
            *at as f64 / 1e6,
            format!("{what:?}")
        )
    }
}
