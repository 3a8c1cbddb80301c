//! Random histories of several producers and partitions: a clean one is clean, and
//! spoiled in any one way it is not, whatever the seed.

use millrace::base::Rng;

use super::*;

const PARTITIONS: i32 = 3;
const PRODUCERS: u16 = 2;
const SEEDS: u64 = 100;

/// Values of every partition in order of offset, and what was acknowledged about them.
fn clean(rng: &mut Rng) -> History {
    let mut history = History {
        idempotent: true,
        ordered: true,
        complete: true,
        ..History::default()
    };
    let mut partitions = BTreeMap::new();
    for partition in 0..PARTITIONS {
        let base = rng.below(1000) as i64;
        let mut read = PartitionPass::starting_at(base);
        let mut next = [0u64; PRODUCERS as usize];
        for _ in 0..4 + rng.below(6) {
            let producer = rng.below(PRODUCERS.into()) as u16;
            let batch = Batch {
                producer,
                partition,
                first: next[usize::from(producer)],
                count: 1 + rng.below(4) as u32,
                attempts: 1 + rng.below(3) as u32,
                offset: Some(read.end()),
            };
            for i in 0..u64::from(batch.count) {
                read.push(read.end(), Value::of(producer, batch.first + i));
            }
            next[usize::from(producer)] += u64::from(batch.count);
            history.acked.push(batch);
        }
        partitions.insert(partition, read);
    }
    let pass = |name| Pass {
        name,
        partitions: partitions.clone(),
    };
    history.passes = vec![pass("while writing"), pass("at the end")];
    history
}

/// A partition's values as a list, to be changed and read anew.
fn list(history: &History, pass: usize, partition: i32) -> (i64, Vec<Value>) {
    let read = &history.passes[pass].partitions[&partition];
    (read.first(), read.values().to_vec())
}

fn reread(history: &mut History, pass: usize, partition: i32, (first, values): (i64, Vec<Value>)) {
    let mut read = PartitionPass::starting_at(first);
    for (offset, value) in (first..).zip(values) {
        read.push(offset, value);
    }
    history.passes[pass].partitions.insert(partition, read);
}

/// Changes a partition in the same way in both readings.
fn in_both(history: &mut History, partition: i32, change: impl Fn(&mut Vec<Value>)) {
    for pass in 0..2 {
        let (first, mut values) = list(history, pass, partition);
        change(&mut values);
        reread(history, pass, partition, (first, values));
    }
}

/// Makes this one kind of error, somewhere.
fn spoil(history: &mut History, kind: Kind, rng: &mut Rng) {
    let partition = rng.below(PARTITIONS as u64) as i32;
    let (first, values) = list(history, 1, partition);
    let at = rng.below(values.len() as u64) as usize;
    match kind {
        Kind::Lost => in_both(history, partition, |values| {
            values.remove(at);
        }),
        Kind::Duplicate => in_both(history, partition, |values| values.push(values[at])),
        Kind::Disorder => in_both(history, partition, |values| {
            // Two neighbours of one producer change places.
            let same = |a: &Value, b: &Value| a.record().unwrap().0 == b.record().unwrap().0;
            let near = (0..values.len()).flat_map(|a| (a + 1..values.len()).map(move |b| (a, b)));
            let pair = { near }.find(|&(a, b)| same(&values[a], &values[b]));
            let (a, b) = pair.expect("four batches of two producers have two of one");
            values.swap(a, b);
        }),
        Kind::Misplaced => {
            let batch = rng.below(history.acked.len() as u64) as usize;
            let offset = &mut history.acked[batch].offset;
            *offset = offset.map(|offset| offset + 1);
        }
        Kind::Changed => {
            let mut before = values;
            before[at] = Value::of(0, 999);
            reread(history, 0, partition, (first, before));
        }
        Kind::Vanished => {
            let mut longer = values;
            longer.push(Value::of(0, 999));
            reread(history, 0, partition, (first, longer));
        }
        Kind::Damaged => in_both(history, partition, |values| values[at] = Value::DAMAGED),
        Kind::Hole => {
            let read = history.passes[1].partitions.get_mut(&partition).unwrap();
            read.push(read.end() + 1 + at as i64, Value::FOREIGN);
        }
        Kind::Backwards => {
            let read = history.passes[1].partitions.get_mut(&partition).unwrap();
            read.push(first + at as i64, values[at]);
        }
        Kind::Phantom => in_both(history, partition, |values| values.push(Value::of(0, 999))),
        Kind::Rejected => history
            .rejected
            .push(String::from("partition 0: INVALID_RECORD")),
    }
}

#[test]
fn clean_histories_are_clean() {
    for seed in 0..SEEDS {
        let verdict = judge(&clean(&mut Rng::new(seed)));
        assert!(
            verdict.findings.is_empty(),
            "seed {seed}: {:?}",
            verdict.findings
        );
        assert_eq!(verdict.acked, verdict.read, "seed {seed}");
    }
}

#[test]
fn every_kind_of_error_is_found_wherever_it_is() {
    for kind in Kind::ALL {
        for seed in 0..SEEDS {
            let mut rng = Rng::new(seed);
            let mut history = clean(&mut rng);
            spoil(&mut history, kind, &mut rng);
            let findings = judge(&history).findings;
            assert!(
                findings.contains_key(&kind),
                "{kind}, seed {seed}: {findings:?}"
            );
        }
    }
}

#[test]
fn one_offset_given_to_two_batches_is_found() {
    for seed in 0..SEEDS {
        let mut history = clean(&mut Rng::new(seed));
        let offset = history.acked[0].offset;
        history.acked[1].offset = offset;
        let findings = judge(&history).findings;
        assert!(findings.contains_key(&Kind::Misplaced), "seed {seed}");
    }
}
