//! The verdict: compares what was acknowledged with what was read. Pure, so that
//! each kind of error can be shown to be found.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use super::pass::Value;
use super::pass::{PartitionPass, Pass};

/// Examples kept of each kind of finding.
const EXAMPLES_MAX: usize = 5;

/// A run of records that one producer sent to one partition in one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The producer within the run.
    pub producer: u16,
    /// The partition.
    pub partition: i32,
    /// Sequence of its first record.
    pub first: u64,
    /// Number of records.
    pub count: u32,
    /// How often it was sent.
    pub attempts: u32,
    /// Base offset it was acknowledged with. `None`: acknowledged without one (the broker knew it
    /// as a duplicate, but no longer where it is).
    pub offset: Option<i64>,
}

/// All that is known about a run.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Whether the producers were idempotent: then a duplicate is an error.
    pub idempotent: bool,
    /// Whether a producer's order within a partition was promised: it is for idempotent producers
    /// and for those with one request in flight.
    pub ordered: bool,
    /// Batches acknowledged.
    pub acked: Vec<Batch>,
    /// Batches sent and neither acknowledged nor finally refused.
    pub unacked: Vec<Batch>,
    /// Whether `acked` and `unacked` together are all that was ever sent. Not so if the verifier
    /// itself was killed: then what it had not noted yet cannot be judged.
    pub complete: bool,
    /// Answers that a correct broker does not give, such as a refused sequence number.
    pub rejected: Vec<String>,
    /// Readings, the last one complete.
    pub passes: Vec<Pass>,
}

/// A kind of error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Acknowledged and not there.
    Lost,
    /// There more often than allowed.
    Duplicate,
    /// A producer's records are not in the order in which it sent them.
    Disorder,
    /// Not at the offset that the acknowledgement named.
    Misplaced,
    /// One offset, two values.
    Changed,
    /// Read once and gone later.
    Vanished,
    /// Checksum wrong, or in the wrong partition.
    Damaged,
    /// Offsets without a record.
    Hole,
    /// Offsets that came twice or out of order in one reading.
    Backwards,
    /// A record that nobody sent.
    Phantom,
    /// The broker refused what it had to accept.
    Rejected,
}

impl Kind {
    /// Every kind, in the order of the table.
    pub const ALL: [Self; 11] = [
        Self::Lost,
        Self::Duplicate,
        Self::Disorder,
        Self::Misplaced,
        Self::Changed,
        Self::Vanished,
        Self::Damaged,
        Self::Hole,
        Self::Backwards,
        Self::Phantom,
        Self::Rejected,
    ];

    /// One line for the table.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Lost => "acknowledged, but not there",
            Self::Duplicate => "stored more than once",
            Self::Disorder => "stored in another order than sent",
            Self::Misplaced => "not at the acknowledged offset",
            Self::Changed => "one offset read with two values",
            Self::Vanished => "read once, gone later",
            Self::Damaged => "checksum or partition wrong",
            Self::Hole => "offset without a record",
            Self::Backwards => "offset read twice or late",
            Self::Phantom => "record that nobody sent",
            Self::Rejected => "refused without reason",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = format!("{self:?}").to_lowercase();
        f.pad(&name)
    }
}

/// How often a kind of error was found, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finding {
    /// Records (or offsets) concerned.
    pub count: u64,
    /// The first few, in words.
    pub examples: Vec<String>,
}

/// The outcome.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Records acknowledged.
    pub acked: u64,
    /// Records sent without a known outcome.
    pub unacked: u64,
    /// Records of this run in the last reading, duplicates included.
    pub read: u64,
    /// Records of others in the last reading.
    pub foreign: u64,
    /// Duplicates of batches that were sent more than once without idempotence: Kafka's contract.
    pub legal_duplicates: u64,
    /// Errors by kind; empty means clean.
    pub findings: BTreeMap<Kind, Finding>,
}

impl Verdict {
    fn add(&mut self, kind: Kind, count: u64, example: impl FnOnce() -> String) {
        let finding = self.findings.entry(kind).or_default();
        finding.count += count;
        if finding.examples.len() < EXAMPLES_MAX {
            finding.examples.push(example());
        }
    }
}

/// Judges a run.
pub fn judge(history: &History) -> Verdict {
    let mut verdict = Verdict::default();
    let records = |batches: &[Batch]| batches.iter().map(|b| u64::from(b.count)).sum();
    verdict.acked = records(&history.acked);
    verdict.unacked = records(&history.unacked);
    for text in &history.rejected {
        verdict.add(Kind::Rejected, 1, || text.clone());
    }
    for pass in &history.passes {
        judge_pass(pass, &mut verdict);
    }
    let empty = Pass::default();
    let last = history.passes.last().unwrap_or(&empty);
    for earlier in history.passes.iter().rev().skip(1) {
        compare(earlier, last, &mut verdict);
    }
    judge_records(history, last, &mut verdict);
    verdict
}

/// What one reading shows by itself.
fn judge_pass(pass: &Pass, verdict: &mut Verdict) {
    for (partition, read) in &pass.partitions {
        for &(from, to) in &read.holes {
            verdict.add(Kind::Hole, (to - from) as u64, || {
                format!("partition {partition}, offsets {from}..{to}, {}", pass.name)
            });
        }
        for offset in &read.backwards {
            verdict.add(Kind::Backwards, 1, || {
                format!("partition {partition}, offset {offset}, {}", pass.name)
            });
        }
        for (offset, _) in (read.first()..)
            .zip(read.values())
            .filter(|(_, v)| **v == Value::DAMAGED)
        {
            verdict.add(Kind::Damaged, 1, || {
                format!("partition {partition}, offset {offset}, {}", pass.name)
            });
        }
    }
}

/// What an earlier reading saw must still be there, and be the same.
fn compare(earlier: &Pass, last: &Pass, verdict: &mut Verdict) {
    for (partition, before) in &earlier.partitions {
        let after = last.partitions.get(partition);
        for (offset, &was) in (before.first()..).zip(before.values()) {
            match after.and_then(|after| after.at(offset)) {
                Some(is) if is == was => {}
                Some(is) => verdict.add(Kind::Changed, 1, || {
                    format!("partition {partition}, offset {offset}: first {was:?}, then {is:?}")
                }),
                None => verdict.add(Kind::Vanished, 1, || {
                    format!("partition {partition}, offset {offset}: {was:?}")
                }),
            }
        }
    }
}

/// What one producer has to do with one partition.
#[derive(Default)]
struct Stream<'a> {
    acked: Vec<&'a Batch>,
    unacked: Vec<&'a Batch>,
    /// Sequence and offset of its records in the last reading, in order of offset.
    read: Vec<(u64, i64)>,
}

fn judge_records(history: &History, last: &Pass, verdict: &mut Verdict) {
    let mut streams: HashMap<(i32, u16), Stream<'_>> = HashMap::new();
    for batch in &history.acked {
        streams
            .entry((batch.partition, batch.producer))
            .or_default()
            .acked
            .push(batch);
    }
    for batch in &history.unacked {
        streams
            .entry((batch.partition, batch.producer))
            .or_default()
            .unacked
            .push(batch);
    }
    for (&partition, read) in &last.partitions {
        for (offset, value) in (read.first()..).zip(read.values()) {
            if let Some((producer, sequence)) = value.record() {
                verdict.read += 1;
                streams
                    .entry((partition, producer))
                    .or_default()
                    .read
                    .push((sequence, offset));
            } else if *value == Value::FOREIGN {
                verdict.foreign += 1;
            }
        }
    }
    // In a fixed order, so that the same history gives the same examples.
    let mut streams: Vec<_> = streams.into_iter().collect();
    streams.sort_by_key(|(key, _)| *key);
    let nothing = PartitionPass::default();
    for ((partition, producer), mut stream) in streams {
        let place = Place {
            partition,
            producer,
            history,
        };
        stream.acked.sort_by_key(|batch| batch.first);
        stream.unacked.sort_by_key(|batch| batch.first);
        stream.read.sort_unstable();
        place.judge_stored(&stream, verdict);
        let read = last.partitions.get(&partition).unwrap_or(&nothing);
        place.judge_acked(&stream, read, verdict);
    }
}

/// Names of what is being judged.
struct Place<'a> {
    partition: i32,
    producer: u16,
    history: &'a History,
}

impl Place<'_> {
    fn of(&self, sequence: u64) -> String {
        format!(
            "record {}:{sequence} of partition {}",
            self.producer, self.partition
        )
    }

    /// Duplicates, order and phantoms among the records that are there.
    fn judge_stored(&self, stream: &Stream<'_>, verdict: &mut Verdict) {
        let mut before: Option<(u64, i64)> = None;
        let mut latest = (0, i64::MIN);
        for &(sequence, offset) in &stream.read {
            if before.is_some_and(|(same, _)| same == sequence) {
                self.duplicate(stream, sequence, offset, verdict);
                continue;
            }
            before = Some((sequence, offset));
            // Sorted by sequence, so first occurrences must come in order of offset.
            if self.history.ordered && offset < latest.1 {
                verdict.add(Kind::Disorder, 1, || {
                    format!(
                        "{} at offset {offset}, before {} at {}",
                        self.of(sequence),
                        latest.0,
                        latest.1
                    )
                });
            }
            if offset > latest.1 {
                latest = (sequence, offset);
            }
            if self.history.complete && sent_in(stream, sequence).is_none() {
                verdict.add(Kind::Phantom, 1, || {
                    format!("{} at offset {offset}", self.of(sequence))
                });
            }
        }
    }

    fn duplicate(&self, stream: &Stream<'_>, sequence: u64, offset: i64, verdict: &mut Verdict) {
        let retried = sent_in(stream, sequence).map_or(!self.history.complete, |b| b.attempts > 1);
        if retried && !self.history.idempotent {
            verdict.legal_duplicates += 1;
        } else {
            verdict.add(Kind::Duplicate, 1, || {
                format!("{} again at offset {offset}", self.of(sequence))
            });
        }
    }

    /// Everything acknowledged must be there, and where it was said to be.
    fn judge_acked(&self, stream: &Stream<'_>, read: &PartitionPass, verdict: &mut Verdict) {
        for batch in &stream.acked {
            for i in 0..u64::from(batch.count) {
                let sequence = batch.first + i;
                let at = stream.read.partition_point(|&(s, _)| s < sequence);
                if stream.read.get(at).is_none_or(|&(s, _)| s != sequence) {
                    verdict.add(Kind::Lost, 1, || self.of(sequence));
                    continue;
                }
                let Some(offset) = batch.offset.map(|base| base + i as i64) else {
                    continue;
                };
                let found = read.at(offset);
                if found != Some(Value::of(self.producer, sequence)) {
                    verdict.add(Kind::Misplaced, 1, || {
                        let found = found.unwrap_or(Value::ABSENT);
                        format!(
                            "{} acknowledged at offset {offset}, where {found:?} is",
                            self.of(sequence)
                        )
                    });
                }
            }
        }
    }
}

/// The batch in which a record was sent.
fn sent_in<'a>(stream: &Stream<'a>, sequence: u64) -> Option<&'a Batch> {
    let find = |batches: &[&'a Batch]| {
        let after = batches.partition_point(|batch| batch.first <= sequence);
        let batch = *batches.get(after.checked_sub(1)?)?;
        (sequence - batch.first < u64::from(batch.count)).then_some(batch)
    };
    find(&stream.acked).or_else(|| find(&stream.unacked))
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "seeded_tests.rs"]
mod seeded_tests;
