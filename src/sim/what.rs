//! The kinds of things that happen in a run. All of them have to, over enough
//! seeds: a fault that no seed brings about, or a branch that none takes, is not
//! tested, whatever the number of seeds that pass.

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
    /// A connection ended: a = client, b = connection.
    Cut,
    /// The way to a node was shut: a = client, b = for how many ms.
    ShutToNode,
    /// The way from a node was shut: a = client, b = for how many ms.
    ShutFromNode,
    /// The way between a client and a node was shut: a = client, b = for how many ms.
    ShutBothWays,
    /// A client gave up a connection whose way was shut: a = client, b = connection.
    GaveUp,
    /// A connection ended, and its shard does not learn of it for long: a = client, b = connection.
    ShardUnaware,
    /// A connection ended, and its client does not learn of it for long: a = client, b = connection.
    ClientUnaware,
    /// A client's timer: a = client.
    Timer,
    /// The node crashed: a = unsynced writes.
    Crash,
    /// A shutdown was asked for.
    Shutdown,
    /// Everything that was in flight at a shutdown is finished.
    Drained,
    /// A start was refused because of rot: a = store.
    StartRefused,
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
