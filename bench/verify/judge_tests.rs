//! A clean history, and one bad history for every kind of error: a verifier that
//! cannot fail would prove nothing.

use super::*;

const RECORDS_PER_BATCH: u32 = 2;

/// One producer, one partition, `batches` batches, all acknowledged and read twice.
fn clean(batches: u64) -> History {
    let acked: Vec<Batch> = (0..batches)
        .map(|n| Batch {
            producer: 1,
            partition: 0,
            first: n * u64::from(RECORDS_PER_BATCH),
            count: RECORDS_PER_BATCH,
            attempts: 1,
            offset: Some(100 + (n * u64::from(RECORDS_PER_BATCH)) as i64),
        })
        .collect();
    let values: Vec<Value> = (0..batches * u64::from(RECORDS_PER_BATCH))
        .map(|sequence| Value::of(1, sequence))
        .collect();
    History {
        idempotent: true,
        ordered: true,
        acked,
        complete: true,
        passes: vec![pass("while writing", &values), pass("at the end", &values)],
        ..History::default()
    }
}

fn pass(name: &'static str, values: &[Value]) -> Pass {
    let mut read = PartitionPass::starting_at(100);
    for (offset, value) in (100..).zip(values) {
        read.push(offset, *value);
    }
    Pass {
        name,
        partitions: [(0, read)].into(),
    }
}

/// Replaces both readings by this one.
fn reread(history: &mut History, values: &[Value]) {
    history.passes = vec![pass("while writing", values), pass("at the end", values)];
}

fn kinds(history: &History) -> Vec<(Kind, u64)> {
    judge(history)
        .findings
        .iter()
        .map(|(kind, finding)| (*kind, finding.count))
        .collect()
}

fn values(sequences: &[u64]) -> Vec<Value> {
    sequences
        .iter()
        .map(|&sequence| Value::of(1, sequence))
        .collect()
}

#[test]
fn a_clean_run_is_clean() {
    let verdict = judge(&clean(3));
    assert!(verdict.findings.is_empty(), "{:?}", verdict.findings);
    assert_eq!((verdict.acked, verdict.read, verdict.unacked), (6, 6, 0));
}

#[test]
fn a_lost_tail_is_found() {
    let mut history = clean(3);
    reread(&mut history, &values(&[0, 1, 2, 3]));
    assert_eq!(kinds(&history), [(Kind::Lost, 2)]);
}

#[test]
fn a_record_lost_in_the_middle_is_found() {
    let mut history = clean(3);
    reread(&mut history, &values(&[0, 1, 2, 4, 5]));
    // What follows the lost one has moved down, away from its acknowledged offset.
    assert_eq!(kinds(&history), [(Kind::Lost, 1), (Kind::Misplaced, 2)]);
}

#[test]
fn nothing_read_at_all_is_found() {
    let mut history = clean(1);
    history.passes.clear();
    assert_eq!(kinds(&history), [(Kind::Lost, 2)]);
}

#[test]
fn a_duplicate_of_an_idempotent_producer_is_found() {
    let mut history = clean(2);
    history.acked[1].attempts = 2;
    reread(&mut history, &values(&[0, 1, 2, 3, 2, 3]));
    assert_eq!(kinds(&history), [(Kind::Duplicate, 2)]);
}

#[test]
fn without_idempotence_only_a_retried_batch_may_be_there_twice() {
    let mut history = clean(2);
    history.idempotent = false;
    reread(&mut history, &values(&[0, 1, 2, 3, 2, 3]));
    assert_eq!(kinds(&history), [(Kind::Duplicate, 2)]);
    history.acked[1].attempts = 2;
    let verdict = judge(&history);
    assert!(verdict.findings.is_empty());
    assert_eq!(verdict.legal_duplicates, 2);
}

#[test]
fn swapped_batches_are_found_if_order_was_promised() {
    let mut history = clean(2);
    history.acked[0].offset = Some(102);
    history.acked[1].offset = Some(100);
    reread(&mut history, &values(&[2, 3, 0, 1]));
    assert_eq!(kinds(&history), [(Kind::Disorder, 2)]);
    history.ordered = false;
    assert!(judge(&history).findings.is_empty());
}

#[test]
fn a_wrong_offset_in_the_ack_is_found() {
    let mut history = clean(2);
    history.acked[1].offset = Some(103);
    assert_eq!(kinds(&history), [(Kind::Misplaced, 2)]);
    // Without an offset in the acknowledgement there is nothing to compare.
    history.acked[1].offset = None;
    assert!(judge(&history).findings.is_empty());
}

#[test]
fn an_offset_with_two_values_is_found() {
    let mut history = clean(2);
    history.unacked.push(Batch {
        first: 4,
        offset: None,
        ..history.acked[0]
    });
    let seen = values(&[0, 1, 4, 5]);
    history.passes[0] = pass("while writing", &seen);
    assert_eq!(kinds(&history), [(Kind::Changed, 2)]);
}

#[test]
fn what_was_read_and_is_gone_is_found_even_if_never_acked() {
    let mut history = clean(2);
    history.unacked.push(Batch {
        first: 4,
        offset: None,
        ..history.acked[0]
    });
    history.passes[0] = pass("while writing", &values(&[0, 1, 2, 3, 4]));
    assert_eq!(kinds(&history), [(Kind::Vanished, 1)]);
}

#[test]
fn damage_holes_and_repeats_are_found_in_every_reading() {
    let mut history = clean(2);
    history.acked.truncate(1);
    let mut read = PartitionPass::starting_at(100);
    read.push(100, Value::of(1, 0));
    read.push(101, Value::of(1, 1));
    read.push(103, Value::DAMAGED);
    read.push(103, Value::DAMAGED);
    for pass in &mut history.passes {
        pass.partitions.insert(0, read.clone());
    }
    assert_eq!(
        kinds(&history),
        [(Kind::Damaged, 2), (Kind::Hole, 2), (Kind::Backwards, 2)]
    );
}

#[test]
fn a_record_that_nobody_sent_is_found() {
    let mut history = clean(1);
    reread(&mut history, &values(&[0, 1, 2]));
    assert_eq!(kinds(&history), [(Kind::Phantom, 1)]);
    // A verifier that was killed may have sent it.
    history.complete = false;
    assert!(judge(&history).findings.is_empty());
}

#[test]
fn a_refusal_is_found() {
    let mut history = clean(1);
    history
        .rejected
        .push("partition 0: OUT_OF_ORDER_SEQUENCE_NUMBER".into());
    assert_eq!(kinds(&history), [(Kind::Rejected, 1)]);
}

#[test]
fn others_records_are_counted_and_not_judged() {
    let mut history = clean(1);
    let mut mixed = values(&[0, 1]);
    mixed.push(Value::FOREIGN);
    reread(&mut history, &mixed);
    let verdict = judge(&history);
    assert!(verdict.findings.is_empty());
    assert_eq!((verdict.read, verdict.foreign), (2, 1));
}

#[test]
fn unacked_records_may_be_there_or_not() {
    let mut history = clean(1);
    history.unacked.push(Batch {
        first: 2,
        offset: None,
        ..history.acked[0]
    });
    assert!(judge(&history).findings.is_empty());
    reread(&mut history, &values(&[0, 1, 2, 3]));
    assert!(judge(&history).findings.is_empty());
}

#[test]
fn examples_are_few_and_counts_are_whole() {
    let mut history = clean(50);
    history.passes.clear();
    let verdict = judge(&history);
    let lost = &verdict.findings[&Kind::Lost];
    assert_eq!((lost.count, lost.examples.len()), (100, 5));
    assert_eq!(lost.examples[0], "record 1:0 of partition 0");
}
