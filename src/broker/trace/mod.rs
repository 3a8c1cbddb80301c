//! Where the time of requests went. Each request carries a `Trace` from its
//! receipt until its answer has left; finished ones are counted in `Tracer`, which
//! `millracectl explain` asks for.
//!
//! A trace is a walk through [`Stage`]s: each stamp says that the time since the stamp before
//! was spent in one stage. So the stages of a request always add up to its latency, whatever
//! path it took and whichever stamps it missed.
//!
//! There is no clock here. Stamps are the `now` of the input that is handled, which the driver
//! reads once per input. What one input takes on the core is therefore seen when the next one
//! comes: parsing and, on the same core, appending end with the input after the request.

mod board;
mod buckets;
mod codec;
mod disk_reads;
mod report;
mod stage;
mod stamps;
mod stats;
mod topics;
mod tracer;
mod turns;
mod units;
mod walk;

pub use board::{Board, PartitionStanding, TopicCounts};
pub use buckets::{BUCKETS, UNIT_BITS, bucket_of, upper_ns};
pub use disk_reads::{DiskReads, SLOW_SEND_US};
pub use report::{Report, Slow};
pub use stage::{STAGES, Stage};
pub use stamps::{FetchStamps, FlushStamps, ProduceStamps};
pub use stats::{PARKED, RequestKind, Row, Stats};
pub(super) use topics::CountedTopics;
pub(super) use tracer::{ClientName, Tracer};
pub use turns::Turns;
pub(super) use walk::Trace;
