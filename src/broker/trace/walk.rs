//! The walk of one request through the [`Stage`]s.

use super::stage::{STAGES, Stage};
use super::stamps::ProduceStamps;
use super::units::{Units, elapsed, ns};
use crate::base::{LogId, Mono};

/// The walk of one request so far.
#[derive(Clone, Copy, Debug)]
pub struct Trace {
    /// API key.
    pub key: i16,
    /// Partitions of the request.
    pub partitions: u32,
    /// The log of the first partition; 0 if there is none.
    pub log: LogId,
    /// Bytes of the request.
    pub received: u32,
    /// Bytes of the reply.
    pub replied: u32,
    /// Whether there is a reply to wait for.
    pub answered: bool,
    last: Mono,
    /// Time by stage.
    pub spent: [Units; STAGES],
    /// The time for which a fetch had to wait for records; not counted as latency.
    pub parked: Units,
}

impl Trace {
    /// A request received at `at`.
    pub fn new(key: i16, bytes: usize, at: Mono) -> Self {
        Self {
            key,
            partitions: 0,
            log: LogId(0),
            received: u32::try_from(bytes).unwrap_or(u32::MAX),
            replied: 0,
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
        self.replied = u32::try_from(bytes).unwrap_or(u32::MAX);
    }

    /// Latency so far, in units of 64 ns.
    pub fn total(&self) -> u64 {
        self.spent.iter().map(|units| u64::from(*units)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::super::buckets::UNIT_BITS;
    use super::super::stamps::FlushStamps;
    use super::*;
    use crate::store::FlushSeq;

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
