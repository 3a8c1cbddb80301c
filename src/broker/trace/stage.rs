//! What a request can spend its time on.

/// Number of stages.
pub const STAGES: usize = Stage::ALL.len();

/// What a request can spend its time on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// From the receipt of its last byte until the shard took it up.
    Queue,
    /// Being parsed and checked; and, if the partition is on the same core, appended or planned.
    Parse,
    /// On its way to the core that owns the partition.
    Hop,
    /// Being appended on another core.
    Append,
    /// A read being planned on another core, or waiting for the disk to find its place.
    Plan,
    /// Until a flush took it along: the flushes before are still on their way.
    FlushWait,
    /// The flush being built, submitted and written; durably, if it is a single write.
    Write,
    /// The fdatasync of the flush, if it needed one of its own.
    Sync,
    /// Until the flushes before were durable too and the watermark moved.
    Watermark,
    /// Until all its parts were there: the way back, other cores, the control shard.
    Answer,
    /// Until the requests before it on the connection were answered.
    Order,
    /// From its reply's being queued until the last byte of it had left.
    Send,
}

impl Stage {
    /// All, in the order in which a request meets them.
    pub const ALL: [Self; 12] = [
        Self::Queue,
        Self::Parse,
        Self::Hop,
        Self::Append,
        Self::Plan,
        Self::FlushWait,
        Self::Write,
        Self::Sync,
        Self::Watermark,
        Self::Answer,
        Self::Order,
        Self::Send,
    ];

    /// Its name for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Parse => "parse",
            Self::Hop => "hop",
            Self::Append => "append",
            Self::Plan => "plan",
            Self::FlushWait => "flush-wait",
            Self::Write => "write",
            Self::Sync => "sync",
            Self::Watermark => "watermark",
            Self::Answer => "answer",
            Self::Order => "order",
            Self::Send => "send",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_in_order_and_named_once() {
        let mut names: Vec<&str> = Stage::ALL.iter().map(|stage| stage.name()).collect();
        for (index, stage) in Stage::ALL.iter().enumerate() {
            assert_eq!(*stage as usize, index);
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), STAGES);
    }
}
