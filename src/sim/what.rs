//! The kinds of things that happen in a run. All of them have to, over enough
//! seeds: a fault that no seed brings about, or a branch that none takes, is not
//! tested, whatever the number of seeds that pass.

/// Bytes of a large checkpoint, 6.5 MiB: more than any but those of a crowd of logs.
pub const LARGE_CHECKPOINT: u64 = 13 << 19;

/// Makes the kinds and a list of them all.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident: $per_mille:literal,)*) => {
        /// Kinds of events. All of them have to happen, see [`Counts::missing`](super::counts::Counts::missing).
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum What {
            $($(#[$doc])* $kind,)*
        }

        impl What {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// In how many of 1,000 seeds it happens, at the least: about two thirds of what was counted, so
            /// that small changes of the broker or the simulator need not touch it.
            #[must_use]
            pub const fn per_mille(self) -> u64 {
                match self {
                    $(Self::$kind => $per_mille,)*
                }
            }
        }
    };
}

kinds! {
    /// A shard was given an input that is none of those below: a = shard.
    Input: 510,
    /// A shard was told that nothing is waiting: a = shard.
    Idle: 660,
    /// A request reached a shard: a = connection, b = API key.
    Request: 660,
    /// A reply left the node: a = connection, b = CRC of the frame.
    Reply: 660,
    /// A disk operation was asked for: a = store, b = its id.
    Disk: 660,
    /// A disk operation ended: a = store, b = its id.
    DiskDone: 660,
    /// A write that is durable when it completes was asked for: a = store, b = its id.
    WrittenThrough: 660,
    /// Zeroes were written ahead of use: a = store, b = its id.
    WrittenAhead: 420,
    /// A store asked for room to grow: a = store, b = its id.
    Grown: 420,
    /// A store was made sure of: a = store, b = its id.
    Synced: 590,
    /// A disk operation failed: a = store, b = errno.
    DiskFailed: 210,
    /// A shard sent a message to another one: a = sender, b = receiver.
    Mesh: 440,
    /// A shard asked another one than the first about a group that lives there: a = sender, b = receiver.
    GroupElsewhere: 130,
    /// A client connected: a = client, b = connection.
    Connected: 660,
    /// A connection ended: a = client, b = connection.
    Cut: 660,
    /// The way to a node was shut: a = client, b = for how many ms.
    ShutToNode: 200,
    /// The way from a node was shut: a = client, b = for how many ms.
    ShutFromNode: 190,
    /// The way between a client and a node was shut: a = client, b = for how many ms.
    ShutBothWays: 200,
    /// A client gave up a connection whose way was shut: a = client, b = connection.
    GaveUp: 72,
    /// A connection ended, and its shard does not learn of it for long: a = client, b = connection.
    ShardUnaware: 260,
    /// A connection ended, and its client does not learn of it for long: a = client, b = connection.
    ClientUnaware: 270,
    /// A client's timer: a = client.
    Timer: 660,
    /// The node crashed: a = unsynced writes.
    Crash: 660,
    /// A shutdown was asked for.
    Shutdown: 200,
    /// Everything that was in flight at a shutdown is finished.
    Drained: 170,
    /// The machine stopped while it was written to the stores that all is finished.
    CutStop: 50,
    /// A start found that the node was stopped cleanly.
    StoppedCleanly: 130,
    /// A start was refused because of rot: a = store.
    StartRefused: 60,
    /// The node started: a = shards, b = stores.
    Start: 660,
    /// All shards are ready.
    Ready: 660,
    /// A store was recovered: a = store, b = its length.
    Recovered: 660,
    /// A shard said that the process must stop: a = shard, b = status.
    Fatal: 71,
    /// The wall clock jumped: a = its new lead over virtual time, ms.
    WallJump: 290,
    /// Memory tails may take more or less: a = bytes for each shard.
    MemoryChanged: 300,
    /// Bits of a store were flipped: a = store, b = position.
    Rot: 140,
    /// The run enters its next phase: a = number of the phase.
    Phase: 660,
    /// A checkpoint is being made valid: a = store.
    Checkpoint: 550,
    /// The same for one of more than [`LARGE_CHECKPOINT`] bytes: a = store, b = its bytes.
    LargeCheckpoint: 12,
    /// A reply has bytes of a store file in it: a = connection, b = how many.
    FileBytes: 520,
    /// A crash left a part of a write: a = store, b = how many writes.
    Torn: 440,
    /// A crash took a write: a = store, b = how many writes.
    Lost: 520,
    /// A crash left a write that was not durable: a = store, b = how many writes.
    Spared: 490,
    /// The machine stopped while the stores were begun.
    CutStart: 390,
    /// The node started with another number of shards: a = shards.
    Resharded: 160,
    /// The journal ring began anew: a = store.
    Wrapped: 320,
    /// The disk had no room for a store to grow: a = store.
    NoRoom: 170,
    /// A read of a store failed: a = shard.
    ReadFailed: 45,
    /// The run ends with a batch or more refused by a full store.
    Full: 31,
    /// A start found a log damaged, or a journal record: a = store, b = how many.
    RotFound: 15,
    /// Damage was seen by who read it.
    DamageRead: 90,
    /// A batch was sent that had been sent before.
    SentAgain: 470,
    /// A batch was refused because the one before it had been.
    OutOfOrder: 22,
    /// A fetch of a session named what is different from the one before.
    SessionFetch: 400,
    /// A partition was taken out of a fetch session.
    Forgotten: 240,
    /// A fetch session was not known any more.
    SessionLost: 390,
    /// A fetch asked for an offset that is not there any more.
    OutOfRange: 280,
    /// A reader was answered that the store cannot be read.
    Unreadable: 34,
    /// The record with the largest timestamp was asked for.
    FoundLargest: 96,
    /// A client went on to the shard that it was told of.
    WentHome: 190,
    /// A client of a cluster went on to another node.
    WentToAnother: 10,
    /// A node did not lead the partition, or did not know it yet.
    LedElsewhere: 10,
    /// A client of a cluster waited for an answer for too long.
    LostPatience: 1,
    /// A coordinator was not available, or not the one any more.
    NoCoordinator: 27,
    /// A member had to join again.
    JoinsAgain: 52,
    /// A member was not known any more.
    MemberUnknown: 100,
    /// A member was given its id before it could join.
    MemberIdGiven: 220,
    /// A member left its group.
    Left: 250,
    /// A topic was found to exist when it was to be created: the answer had been lost.
    CreatedBefore: 99,
    /// A batch was acknowledged.
    Acked: 580,
    /// A batch was acknowledged that other replicas may not have.
    AckedByOne: 0,
    /// A fetch was answered.
    Read: 660,
    /// A transaction was committed.
    TransactionCommitted: 0,
    /// A transaction was aborted.
    TransactionAborted: 0,
    /// A transaction was given up: its producer was fenced, or too slow.
    TransactionGivenUp: 0,
    /// A transaction took an offset of a group in.
    OffsetMoved: 0,
    /// What transactions have committed for a group was read in the end.
    MovedRead: 0,
    /// What is committed was read.
    ReadCommitted: 0,
    /// A reader came upon offsets that compaction has left out.
    Compacted: 0,
    /// There was a record at or after a time.
    FoundByTime: 180,
    /// There was none.
    NothingAtTime: 210,
    /// A partition was read from its beginning to its end.
    Audited: 660,
    /// Records were deleted.
    Deleted: 290,
    /// An offset was committed.
    Committed: 360,
    /// A committed offset was read.
    CommitRead: 400,
    /// A group had another generation than its first one.
    Rebalanced: 44,
    /// A member was told its assignment.
    Assigned: 180,
    /// A topic was made.
    Created: 660,
    /// A topic was deleted.
    Removed: 200,
    /// A node was connected to another one: a = the other one, b = link.
    Linked: 20,
    /// A node was refused by another one's machine: a = the other one, b = link.
    LinkRefused: 10,
    /// A node reached another one too late: a = the other one, b = link.
    LinkTimedOut: 10,
    /// The name of another node was not found: a = the other one, b = link.
    LinkUnresolved: 10,
    /// A link to another node ended: a = the other one, b = link.
    LinkCut: 10,
    /// A node leads the metadata quorum: a = term, b = the last entry that it has replayed.
    Elected: 20,
    /// A node has fetched a snapshot of the metadata: a = how many it has since its start.
    Fetched: 2,
}

/// How many kinds there are.
pub const KINDS: usize = What::ALL.len();
