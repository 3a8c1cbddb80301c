//! Where the time of requests went. Each request carries a [`Trace`] from its
//! receipt until its answer has left; finished ones are counted in [`Tracer`], which
//! `millracectl explain` asks for.
//!
//! A trace is a walk through [`Stage`]s: each stamp says that the time since the stamp before
//! was spent in one stage. So the stages of a request always add up to its latency, whatever
//! path it took and whichever stamps it missed.
//!
//! There is no clock here. Stamps are the `now` of the input that is handled, which the driver
//! reads once per input. What one input takes on the core is therefore seen when the next one
//! comes: parsing and, on the same core, appending end with the input after the request.

mod buckets;
mod codec;
mod report;
mod stats;
mod tracer;
mod turns;

pub use buckets::{BUCKETS, UNIT_BITS, bucket_of, upper_ns};
pub use report::{Report, Slow};
pub use stats::{Class, Stats};
pub(super) use tracer::{ClientName, Tracer};
pub use turns::Turns;

use super::StoreSlot;
use crate::base::{LogId, Mono};
use crate::store::FlushSeq;

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

/// The walk of one request so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trace {
    /// API key.
    pub key: i16,
    /// Partitions of the request.
    pub partitions: u32,
    /// The log of the first partition; 0 if there is none.
    pub log: LogId,
    /// Of the request, and of the reply if that is larger.
    pub bytes: u32,
    /// Whether there is a reply to wait for.
    pub answered: bool,
    last: Mono,
    /// Time by stage.
    pub spent: [Units; STAGES],
    /// The time for which a fetch had to wait for records; not counted as latency.
    pub parked: Units,
}

/// A duration in units of 64 ns, up to four and a half minutes: half the memory of nanoseconds in
/// each request in progress. Not before its time: `last` moves by whole units, so that what is
/// left over counts for the next stage.
type Units = u32;

/// The time from `last` until `at`, which moves `last`. A time of the past is no time.
fn elapsed(last: &mut Mono, at: Mono) -> Units {
    let units = at.0.saturating_sub(last.0) >> UNIT_BITS;
    last.0 += units << UNIT_BITS;
    Units::try_from(units).unwrap_or(Units::MAX)
}

/// Units as nanoseconds.
const fn ns(units: Units) -> u64 {
    (units as u64) << UNIT_BITS
}

impl Trace {
    /// A request received at `at`.
    pub fn new(key: i16, bytes: usize, at: Mono) -> Self {
        Self {
            key,
            partitions: 0,
            log: LogId(0),
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            answered: true,
            last: at,
            spent: [0; STAGES],
            parked: 0,
        }
    }

    /// The time since the last stamp was spent in `stage`. A stamp of the past says nothing: parts
    /// of one request run side by side, and the later one counts.
    pub fn pass(&mut self, stage: Stage, at: Mono) {
        let spent = &mut self.spent[stage as usize];
        *spent = spent.saturating_add(elapsed(&mut self.last, at));
    }

    /// The time since the last stamp was spent waiting for records.
    pub fn unpark(&mut self, at: Mono) {
        let parked = elapsed(&mut self.last, at);
        self.parked = self.parked.saturating_add(parked);
    }

    /// Takes over what the owner of the partitions noted.
    pub fn pass_produce(&mut self, stamps: &ProduceStamps) {
        let mut at = stamps.arrived;
        self.pass(Stage::Hop, at);
        for (stage, units) in ProduceStamps::STAGES.into_iter().zip(stamps.spent) {
            at.0 += ns(units);
            self.pass(stage, at);
        }
    }

    /// What it is about, for people: its first log and the number of its partitions.
    pub fn describe(&mut self, log: LogId, partitions: usize) {
        self.log = log;
        self.partitions = u32::try_from(partitions).unwrap_or(u32::MAX);
    }

    /// The reply has so many bytes; none means that the request is not answered at all.
    pub fn replied(&mut self, bytes: usize) {
        self.answered = bytes > 0;
        self.bytes = self.bytes.max(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    /// Latency so far, in units of 64 ns.
    pub fn total(&self) -> u64 {
        self.spent.iter().map(|units| u64::from(*units)).sum()
    }
}

/// How a produce passed the owner of its partitions: when it was taken up, and how long it then
/// was appended, waited for its flush, was written, synced, and waited for the watermark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProduceStamps {
    arrived: Mono,
    spent: [Units; 5],
}

impl ProduceStamps {
    const STAGES: [Stage; 5] = [
        Stage::Append,
        Stage::FlushWait,
        Stage::Write,
        Stage::Sync,
        Stage::Watermark,
    ];

    /// Taken up at `at`.
    pub fn arrived(at: Mono) -> Self {
        Self {
            arrived: at,
            spent: [0; 5],
        }
    }

    /// Appended at `at`.
    pub fn appended(&mut self, at: Mono) {
        let mut last = self.arrived;
        self.spent[0] = elapsed(&mut last, at);
    }

    /// Durable at `at`, with this flush.
    pub fn durable(&mut self, flush: &FlushStamps, at: Mono) {
        let mut last = Mono(self.arrived.0 + ns(self.spent[0]));
        for (spent, at) in
            self.spent[1..]
                .iter_mut()
                .zip([flush.started, flush.written, flush.synced, at])
        {
            *spent = elapsed(&mut last, at);
        }
    }
}

/// When a fetch passed the owner of its partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FetchStamps {
    /// Taken up.
    pub arrived: Mono,
    /// The reads are planned.
    pub planned: Mono,
}

/// The stations of one flush.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlushStamps {
    /// Which flush.
    pub seq: FlushSeq,
    /// It was closed and is being built.
    pub started: Mono,
    /// Its writes have completed; the sync begins.
    pub written: Mono,
    /// Its sync has completed.
    pub synced: Mono,
}

impl StoreSlot {
    /// The store has started its flushes up to `newest`.
    pub(super) fn flushes_started(&mut self, newest: FlushSeq, now: Mono) {
        let known = self.flushes.back().map_or(self.durable, |flush| flush.seq);
        for seq in known.0 + 1..=newest.0 {
            self.flushes.push_back(FlushStamps {
                seq: FlushSeq(seq),
                started: now,
                ..FlushStamps::default()
            });
        }
    }

    /// The stamps of a flush that is on its way.
    pub(super) fn flush_stamps(&mut self, seq: FlushSeq) -> Option<&mut FlushStamps> {
        let first = self.flushes.front()?.seq;
        let index = seq.0.checked_sub(first.0)?;
        self.flushes.get_mut(usize::try_from(index).ok()?)
    }

    /// Forgets the flushes up to this one.
    pub(super) fn flushes_durable(&mut self, seq: FlushSeq) {
        while self.flushes.front().is_some_and(|flush| flush.seq <= seq) {
            self.flushes.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A time that is a whole number of units.
    const fn at(units: u64) -> Mono {
        Mono(units << UNIT_BITS)
    }

    fn spent(trace: &Trace, stage: Stage) -> u32 {
        trace.spent[stage as usize]
    }

    fn stamps() -> ProduceStamps {
        let mut stamps = ProduceStamps::arrived(at(30));
        stamps.appended(at(31));
        let flush = FlushStamps {
            seq: FlushSeq(1),
            started: at(50),
            written: at(150),
            synced: at(350),
        };
        stamps.durable(&flush, at(400));
        stamps
    }

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

    #[test]
    fn a_produce_by_way_of_another_core() {
        let mut trace = Trace::new(0, 100, at(0));
        trace.pass(Stage::Queue, at(10));
        trace.pass(Stage::Parse, at(14));
        trace.pass_produce(&stamps());
        trace.pass(Stage::Answer, at(420));
        trace.pass(Stage::Order, at(420));
        trace.pass(Stage::Send, at(450));
        assert_eq!(trace.spent, [10, 4, 16, 1, 0, 19, 100, 200, 50, 20, 0, 30]);
        assert_eq!(trace.total(), 450);
    }

    #[test]
    fn on_the_same_core_there_is_no_hop() {
        let mut trace = Trace::new(0, 100, at(0));
        trace.pass(Stage::Queue, at(30));
        trace.pass(Stage::Parse, at(31));
        trace.pass_produce(&stamps());
        assert_eq!(spent(&trace, Stage::Hop), 0);
        assert_eq!(spent(&trace, Stage::Append), 0);
        assert_eq!(spent(&trace, Stage::Parse), 1);
        assert_eq!(trace.total(), 400);
    }

    #[test]
    fn what_did_not_happen_takes_no_time() {
        // A duplicate is answered without a flush.
        let mut trace = Trace::new(0, 100, at(5));
        trace.pass(Stage::Queue, at(6));
        trace.pass_produce(&ProduceStamps::default());
        trace.pass(Stage::Answer, at(8));
        assert_eq!(spent(&trace, Stage::Answer), 2);
        assert_eq!(trace.total(), 3);
    }

    #[test]
    fn a_flush_of_which_nothing_is_known_counts_for_the_watermark() {
        // It went into a checkpoint.
        let mut trace = Trace::new(0, 100, at(5));
        let mut stamps = ProduceStamps::arrived(at(6));
        stamps.appended(at(8));
        stamps.durable(&FlushStamps::default(), at(100));
        trace.pass_produce(&stamps);
        assert_eq!(spent(&trace, Stage::Append), 2);
        assert_eq!(spent(&trace, Stage::Watermark), 92);
        assert_eq!(trace.total(), 95);
    }

    #[test]
    fn what_is_less_than_a_unit_is_not_lost() {
        let mut trace = Trace::new(0, 100, Mono(0));
        for ns in 1..=6400 {
            trace.pass(Stage::Queue, Mono(ns));
        }
        assert_eq!(trace.total(), 100);
    }

    #[test]
    fn very_long_is_long() {
        let mut trace = Trace::new(11, 100, Mono(0));
        trace.pass(Stage::Answer, Mono(u64::MAX / 2));
        trace.pass(Stage::Answer, Mono(u64::MAX));
        assert_eq!(trace.total(), u64::from(u32::MAX));
    }

    #[test]
    fn waiting_for_records_is_no_latency() {
        let mut trace = Trace::new(1, 100, at(0));
        trace.pass(Stage::Parse, at(3));
        trace.unpark(at(500_000));
        trace.pass(Stage::Send, at(500_004));
        assert_eq!((trace.parked, trace.total()), (499_997, 7));
    }
}
