//! What happened in a run: a hash over all of it, by which two runs of one seed
//! are compared, and the last events, for the report of a failure.

use std::collections::VecDeque;

use super::counts::Kinds;

/// Events kept for the report of a failure.
const KEPT: usize = 60;

/// Makes the kinds and a list of them all.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident,)*) => {
        /// Kinds of events. All of them have to happen, see [`Counts::never`](super::counts::Counts::never).
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum What {
            $($(#[$doc])* $kind,)*
        }

        impl What {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];
        }
    };
}

kinds! {
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
    /// A crash left a part of a write: a = store, b = how many writes.
    Torn,
    /// A crash took a write: a = store, b = how many writes.
    Lost,
    /// A crash left a write that was not durable: a = store, b = how many writes.
    Spared,
    /// The machine stopped while the stores were begun.
    CutStart,
    /// The node started with another number of shards: a = shards.
    Resharded,
    /// The journal ring began anew: a = store.
    Wrapped,
    /// The disk had no room for a store to grow: a = store.
    NoRoom,
    /// A read of a store failed: a = shard.
    ReadFailed,
    /// The run ends with a batch or more refused by a full store.
    Full,
    /// Damage was seen by who read it.
    DamageRead,
    /// A batch was acknowledged.
    Acked,
    /// A fetch was answered.
    Read,
    /// There was a record at or after a time.
    FoundByTime,
    /// There was none.
    NothingAtTime,
    /// A partition was read from its beginning to its end.
    Audited,
    /// Records were deleted.
    Deleted,
    /// An offset was committed.
    Committed,
    /// A committed offset was read.
    CommitRead,
    /// A group had another generation than its first one.
    Rebalanced,
    /// A member was told its assignment.
    Assigned,
    /// A topic was made.
    Created,
    /// A topic was deleted.
    Removed,
}

/// How many kinds there are.
pub const KINDS: usize = What::ALL.len();

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

    /// Notes an event. `at` is virtual time in ns.
    pub fn note(&mut self, at: u64, what: What, a: u64, b: u64) {
        for word in [at, what as u64, a, b] {
            self.hash = (self.hash ^ word)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(29);
        }
        self.events += 1;
        self.kinds.count(what);
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
        let Self { at, what, a, b } = self;
        write!(
            f,
            "{:>14.6} ms  {:<10} {a:>6} {b}",
            *at as f64 / 1e6,
            format!("{what:?}")
        )
    }
}
