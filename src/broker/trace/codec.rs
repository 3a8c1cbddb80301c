//! A [`Report`] as bytes: the body of the answer to the private request Explain,
//! version 0. Counts are varints, and buckets that are empty are left out. Tool and
//! broker are of one release, and the first byte says so: neither guesses at another one's.

use bytes::{BufMut, Bytes};

use super::buckets::BUCKETS;
use super::disk_reads::DiskReads;
use super::report::{Report, Slow};
use super::stage::STAGES;
use super::stats::{PARKED, Row, Stats};
use super::turns::Turns;

/// Of the bytes of a report. Another one with each change of what is in them, and never 12, with which reports began
/// before they had one.
const VERSION: u8 = 1;
/// Most slow requests that are read from a report.
const SLOW_MAX: u64 = 1 << 20;

impl Report {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(4096);
        out.put_u8(VERSION);
        out.put_i32(self.node);
        out.put_i64(self.started_ms);
        out.put_u16(self.shards);
        put(&mut out, self.at_ns);
        for stats in &self.stats {
            put_stats(&mut out, stats);
        }
        put(&mut out, self.slowest.len() as u64);
        for slow in &self.slowest {
            put_slow(&mut out, slow);
        }
        put_counts(&mut out, &self.turns.0);
        self.disk_reads
            .all()
            .into_iter()
            .for_each(|count| put(&mut out, count));
        out
    }

    /// Reads one.
    ///
    /// # Errors
    /// If these are the bytes of no report, or of a broker of another release.
    pub fn decode(bytes: Bytes) -> Result<Self, &'static str> {
        let mut from = From(&bytes);
        if from.array()? != [VERSION] {
            return Err(
                "the broker is of another release, whose reports differ: use the millracectl of that",
            );
        }
        let mut report = Self {
            node: i32::from_be_bytes(from.array()?),
            started_ms: i64::from_be_bytes(from.array()?),
            shards: u16::from_be_bytes(from.array()?),
            at_ns: from.varint()?,
            stats: Default::default(),
            slowest: Vec::new(),
            turns: Turns::default(),
            disk_reads: DiskReads::default(),
        };
        for stats in &mut report.stats {
            from.stats(stats)?;
        }
        for _ in 0..from.varint()?.min(SLOW_MAX) {
            report.slowest.push(from.slow()?);
        }
        from.counts(&mut report.turns.0)?;
        let mut counts = report.disk_reads.all();
        for count in &mut counts {
            *count = from.varint()?;
        }
        report.disk_reads = DiskReads::of(counts);
        Ok(report)
    }
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put(out, text.len() as u64);
    out.put_slice(text.as_bytes());
}

fn put_stats(out: &mut Vec<u8>, stats: &Stats) {
    let rows = || {
        stats
            .rows
            .iter()
            .enumerate()
            .filter(|(_, row)| row.count > 0)
    };
    put(out, rows().count() as u64);
    for (bucket, row) in rows() {
        put(out, bucket as u64);
        put(out, row.count);
        row.spent.iter().for_each(|ns| put(out, *ns));
    }
    stats.stages.iter().for_each(|stage| put_counts(out, stage));
}

fn put_counts(out: &mut Vec<u8>, counts: &[u64; BUCKETS]) {
    let counts = || counts.iter().enumerate().filter(|(_, count)| **count > 0);
    put(out, counts().count() as u64);
    for (bucket, count) in counts() {
        put(out, bucket as u64);
        put(out, *count);
    }
}

fn put_slow(out: &mut Vec<u8>, slow: &Slow) {
    out.put_u8(u8::from(slow.recent));
    out.put_u16(slow.shard);
    out.put_i16(slow.key);
    put_text(out, &slow.client);
    put_text(out, &slow.topic);
    out.put_i32(slow.partition);
    out.put_u32(slow.partitions);
    out.put_u32(slow.bytes);
    put(out, slow.ago_ns);
    put(out, slow.parked_ns);
    slow.spent_ns.iter().for_each(|ns| put(out, *ns));
}

/// What is left to be read.
struct From<'a>(&'a [u8]);

const SHORT: &str = "the report is cut off";
const MALFORMED: &str = "the report is malformed";

impl From<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let (head, rest) = self.0.split_first_chunk().ok_or(SHORT)?;
        self.0 = rest;
        Ok(*head)
    }

    fn varint(&mut self) -> Result<u64, &'static str> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(MALFORMED)
    }

    fn bucket(&mut self) -> Result<usize, &'static str> {
        let bucket = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
        (bucket < BUCKETS).then_some(bucket).ok_or(MALFORMED)
    }

    fn text(&mut self) -> Result<String, &'static str> {
        let len = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
        let (text, rest) = self.0.split_at_checked(len).ok_or(SHORT)?;
        self.0 = rest;
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    fn spent(&mut self) -> Result<[u64; STAGES], &'static str> {
        let mut spent = [0; STAGES];
        for ns in &mut spent {
            *ns = self.varint()?;
        }
        Ok(spent)
    }

    fn stats(&mut self, stats: &mut Stats) -> Result<(), &'static str> {
        for _ in 0..self.bucket_count()? {
            let bucket = self.bucket()?;
            stats.rows[bucket] = Row {
                count: self.varint()?,
                spent: self.spent()?,
            };
        }
        for stage in 0..=PARKED {
            self.counts(&mut stats.stages[stage])?;
        }
        Ok(())
    }

    fn counts(&mut self, counts: &mut [u64; BUCKETS]) -> Result<(), &'static str> {
        for _ in 0..self.bucket_count()? {
            let bucket = self.bucket()?;
            counts[bucket] = self.varint()?;
        }
        Ok(())
    }

    fn bucket_count(&mut self) -> Result<u64, &'static str> {
        let count = self.varint()?;
        (count <= BUCKETS as u64).then_some(count).ok_or(MALFORMED)
    }

    fn slow(&mut self) -> Result<Slow, &'static str> {
        Ok(Slow {
            recent: self.array::<1>()? != [0],
            shard: u16::from_be_bytes(self.array()?),
            key: i16::from_be_bytes(self.array()?),
            client: self.text()?,
            topic: self.text()?,
            partition: i32::from_be_bytes(self.array()?),
            partitions: u32::from_be_bytes(self.array()?),
            bytes: u32::from_be_bytes(self.array()?),
            ago_ns: self.varint()?,
            parked_ns: self.varint()?,
            spent_ns: self.spent()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::stats::LiveStats;
    use super::super::turns::LiveTurns;
    use super::super::{Stage, Trace};
    use super::*;
    use crate::base::Mono;
    use crate::base::crc::crc32c;

    fn report() -> Report {
        let turns = LiveTurns::default();
        turns.add(2_000_000);
        let stats: [Stats; 3] = std::array::from_fn(|i| {
            let live = LiveStats::default();
            let mut trace = Trace::new(0, 10, Mono(0));
            trace.pass(Stage::Queue, Mono(500));
            trace.pass(Stage::Sync, Mono(1_000_000 << i));
            trace.unpark(Mono(9_000_000_000));
            live.add(&trace);
            live.read()
        });
        Report {
            node: -7,
            started_ms: i64::MIN,
            shards: 3,
            at_ns: 1 << 60,
            stats,
            slowest: vec![
                Slow {
                    recent: true,
                    shard: 2,
                    key: 20_100,
                    client: "é".into(),
                    topic: "t".into(),
                    partition: -1,
                    partitions: 4,
                    bytes: u32::MAX,
                    ago_ns: 5,
                    parked_ns: u64::MAX,
                    spent_ns: std::array::from_fn(|stage| stage as u64 * 1000),
                },
                Slow::default(),
            ],
            turns: turns.read(),
            disk_reads: DiskReads::of([1, 0, u64::MAX, 4, 5, 6, 7]),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let report = report();
        assert_eq!(Report::decode(report.encode().into()), Ok(report));
    }

    #[test]
    fn another_version_is_refused_by_name() {
        let mut bytes = report().encode();
        // As it was before there was one: how many stages there are.
        for version in [0, VERSION + 1, 12] {
            bytes[0] = version;
            let refused = Report::decode(bytes.clone().into()).unwrap_err();
            assert!(refused.contains("another release"), "{refused}");
        }
    }

    /// If this fails, reports have changed: give them another version, and then another number here.
    #[test]
    fn the_bytes_of_a_version_stay_what_they_are() {
        let bytes = report().encode();
        assert_eq!(
            (VERSION, bytes.len(), crc32c(&bytes)),
            (1, 248, 2_602_888_289)
        );
    }

    #[test]
    fn cut_off_anywhere_it_is_an_error() {
        let bytes = Bytes::from(report().encode());
        for len in 0..bytes.len() {
            assert!(Report::decode(bytes.slice(..len)).is_err(), "{len}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(at in 0usize..400, byte: u8, rest: Vec<u8>) {
            let mut bytes = report().encode();
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = Report::decode(bytes.into());
            let _ = Report::decode(rest.into());
        }
    }
}
