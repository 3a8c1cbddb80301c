//! Reading the topic back: every record becomes a value of a pass.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use millrace::record::{self, Record};

use super::pass::{PartitionPass, Pass, Value};
use super::producer::wall_ns;
use super::{Setup, patiently};
use crate::stamp::{Reading, Stamp};
use crate::stats::{histogram, record as record_latency};
use millrace_client::{ClientError, Cluster, LATEST, Position, Reader, Result, list_offsets};

/// Largest batch that is opened, decompressed.
const BATCH_BYTES_MAX: usize = 256 * 1024 * 1024;
/// How long a fetch may wait for records that are still to come.
const TAIL_WAIT: Duration = Duration::from_millis(200);

/// Reads from `from` on until the writers have finished, and then to the end: what a consumer sees
/// while brokers come and go. Also the latency from when a record was due to when it was read.
pub fn tail(
    setup: &Setup,
    from: &BTreeMap<i32, i64>,
    finished: &AtomicBool,
) -> Result<(Pass, Histogram<u64>)> {
    let mut scan = Scan::new(setup, from, "while writing")?;
    while !finished.load(Ordering::Acquire) {
        scan.poll()?;
    }
    scan.read_to_end()?;
    Ok((scan.pass, scan.latency))
}

/// Reads everything from `from` to the end.
pub fn read_all(setup: &Setup, from: &BTreeMap<i32, i64>, name: &'static str) -> Result<Pass> {
    let mut scan = Scan::new(setup, from, name)?;
    scan.read_to_end()?;
    Ok(scan.pass)
}

/// Offsets of all partitions, asked until the brokers can tell.
pub fn offsets(setup: &Setup, timestamp: i64) -> Result<BTreeMap<i32, i64>> {
    let deadline = Instant::now() + setup.patience;
    patiently(setup.patience, || {
        let mut cluster: Cluster = setup.connect()?;
        let topic = cluster.topic_with_leaders(&setup.topic.name, deadline)?;
        let indexes: Vec<i32> = topic.partitions.iter().map(|p| p.index).collect();
        list_offsets(&mut cluster, &topic, &indexes, timestamp)
    })
}

struct Scan<'a> {
    setup: &'a Setup,
    reader: Reader,
    pass: Pass,
    latency: Histogram<u64>,
}

impl<'a> Scan<'a> {
    fn new(setup: &'a Setup, from: &BTreeMap<i32, i64>, name: &'static str) -> Result<Self> {
        let positions = from
            .iter()
            .map(|(&partition, &offset)| Position { partition, offset });
        let topic = setup.topic.clone();
        let cluster = patiently(setup.patience, || setup.connect())?;
        let reader = Reader::new(cluster, topic, positions, TAIL_WAIT, setup.patience);
        let partitions = from
            .iter()
            .map(|(&partition, &first)| (partition, PartitionPass::starting_at(first)));
        let pass = Pass {
            name,
            partitions: partitions.collect(),
        };
        Ok(Self {
            setup,
            reader,
            pass,
            latency: histogram(),
        })
    }

    fn poll(&mut self) -> Result<()> {
        let Self {
            setup,
            reader,
            pass,
            latency,
        } = self;
        reader.poll(|partition, wanted, batch| {
            if let Some(read) = pass.partitions.get_mut(&partition) {
                let before = read.values().len();
                take(setup.run, partition, wanted, &batch, read, latency);
                let added = (read.values().len() - before) as u64;
                setup.read.fetch_add(added, Ordering::Relaxed);
            }
        })
    }

    /// Reads up to the offsets that are the ends now. Not to get on for as long as patience lasts
    /// is an error: the records are there and nobody can read them.
    fn read_to_end(&mut self) -> Result<()> {
        let ends = offsets(self.setup, LATEST)?;
        let mut moved = (Instant::now(), self.reader.positions().clone());
        loop {
            for (partition, end) in &ends {
                if self
                    .reader
                    .positions()
                    .get(partition)
                    .is_some_and(|at| at >= end)
                {
                    self.reader.finish(*partition);
                }
            }
            let positions = self.reader.positions();
            let Some((partition, at)) = positions.iter().next() else {
                return Ok(());
            };
            if *positions != moved.1 {
                moved = (Instant::now(), positions.clone());
            } else if moved.0.elapsed() > self.setup.patience {
                return Err(ClientError::Malformed {
                    address: format!("that leads {}-{partition}", self.setup.topic.name),
                    what: format!(
                        "the log ends at {}, but nothing comes from {at} on",
                        ends[partition]
                    ),
                });
            }
            self.poll()?;
        }
    }
}

/// Notes every record of a batch from offset `wanted` on.
fn take(
    run: u64,
    partition: i32,
    wanted: i64,
    batch: &Bytes,
    read: &mut PartitionPass,
    latency: &mut Histogram<u64>,
) {
    let Ok(info) = record::parse(batch) else {
        return;
    };
    let records = record::records(batch, BATCH_BYTES_MAX)
        .ok()
        .filter(|_| record::check_crc(batch));
    let mut next = info.base_offset.max(wanted);
    for record in records
        .into_iter()
        .flatten()
        .map_while(std::result::Result::ok)
    {
        if record.offset >= wanted {
            // Markers of transactions take offsets too, but are nobody's records.
            let value = if info.is_control() {
                Value::FOREIGN
            } else {
                value_of(run, partition, &record, latency)
            };
            read.push(record.offset, value);
            next = record.offset + 1;
        }
    }
    for offset in next..=info.last_offset() {
        read.push(offset, Value::DAMAGED);
    }
}

fn value_of(run: u64, partition: i32, record: &Record, latency: &mut Histogram<u64>) -> Value {
    match Stamp::read(record.value.as_deref().unwrap_or_default()) {
        Reading::Stamp(stamp) if stamp.run != run => Value::FOREIGN,
        Reading::Stamp(stamp) if stamp.partition == partition => {
            let age = wall_ns().saturating_sub(stamp.intended_ns);
            record_latency(latency, Duration::from_nanos(age), 1);
            Value::of(stamp.producer, stamp.sequence)
        }
        Reading::Stamp(_) | Reading::Damaged => Value::DAMAGED,
        Reading::Foreign => Value::FOREIGN,
    }
}

#[cfg(test)]
mod tests {
    use millrace::record::{BatchBuilder, Codec};

    use super::*;

    const RUN: u64 = 5;

    /// Records 0, 1, 2 of producer 9 for partition 4.
    fn batch() -> Vec<u8> {
        let mut builder = BatchBuilder::new(Codec::None, 0);
        for sequence in 0..3 {
            let mut value = vec![0; 64];
            Stamp {
                run: RUN,
                producer: 9,
                partition: 4,
                sequence,
                intended_ns: 0,
            }
            .write(&mut value);
            builder.push(0, None, Some(&value), &[]);
        }
        builder.build().to_vec()
    }

    fn read(run: u64, partition: i32, wanted: i64, batch: Vec<u8>) -> Vec<Value> {
        let mut pass = PartitionPass::starting_at(wanted);
        take(
            run,
            partition,
            wanted,
            &batch.into(),
            &mut pass,
            &mut histogram(),
        );
        pass.values().to_vec()
    }

    #[test]
    fn records_become_values() {
        let all = [Value::of(9, 0), Value::of(9, 1), Value::of(9, 2)];
        assert_eq!(read(RUN, 4, 0, batch()), all);
        assert_eq!(read(RUN, 4, 2, batch()), all[2..]);
    }

    #[test]
    fn others_are_told_apart() {
        assert_eq!(read(RUN + 1, 4, 0, batch()), [Value::FOREIGN; 3]);
        assert_eq!(read(RUN, 3, 0, batch()), [Value::DAMAGED; 3]);
    }

    #[test]
    fn a_damaged_batch_damages_all_its_offsets() {
        let mut bad = batch();
        let last = bad.len() - 1;
        bad[last] ^= 1;
        assert_eq!(read(RUN, 4, 1, bad), [Value::DAMAGED; 2]);
    }
}
