//! `produce`: each line of the input becomes a record.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::time::{Duration, Instant};

use bytes::Bytes;
use indicatif::ProgressBar;
use kafka_wire::ProduceRequest as ProduceApi;
use millrace::record::{BatchBuilder, Codec};
use millrace::wire::TopicRef;
use millrace::wire::client::{decode_produce, encode_produce_flat};
use millrace::wire::produce::{ProducePartition, ProduceRequest, ProduceTopic};
use millrace_client::{CLIENT_ID, ClientError, Cluster, Result, Topic};

use crate::answer::{Answer, Output, Rows};
use crate::args::{Input, Produce};
use crate::failure::Outcome;
use crate::record_json::{NewRecord, from_json};
use crate::time::now_ms;

/// A batch is sent when it has this many bytes.
const BATCH_BYTES: usize = 256 * 1024;
/// All batches are sent when they have this many bytes together.
const HELD_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Longest line that is read.
const LINE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// From this version on, Produce names topics by id instead of by name.
const PRODUCE_BY_ID_SINCE: i16 = 13;
/// Pause before sending again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Runs the command.
pub fn run(cluster: &mut Cluster, output: Output, args: &Produce, timeout: Duration) -> Outcome {
    let topic = cluster.topic(&args.topic)?;
    let mut sender = Sender {
        cluster,
        topic,
        codec: args.codec,
        acks: args.acks,
        timeout,
        batches: BTreeMap::new(),
        held: 0,
        turn: 0,
        sent: BTreeMap::new(),
    };
    match &args.file {
        Some(path) => {
            let named = |error: io::Error| format!("cannot read {}: {error}", path.display());
            let file = File::open(path).map_err(named)?;
            let len = file.metadata().map_err(named)?.len();
            // It shows itself on a terminal alone.
            let progress = ProgressBar::new(len).wrap_read(file);
            send_lines(&mut sender, args, BufReader::new(progress), false)?;
        }
        None => {
            let input = io::stdin();
            let interactive = input.is_terminal();
            send_lines(&mut sender, args, input.lock(), interactive)?;
        }
    }
    output.show(&sender.answer())
}

fn send_lines(
    sender: &mut Sender<'_>,
    args: &Produce,
    mut input: impl BufRead,
    interactive: bool,
) -> Outcome {
    let mut line = Vec::new();
    let mut number = 0_u64;
    while next_line(&mut input, &mut line)? {
        number += 1;
        let record = record_of(&line, args).map_err(|why| format!("line {number}: {why}"))?;
        let partition = match args.partition.or(record.partition) {
            Some(partition) => sender.topic.partition(partition)?.index,
            None => sender.choose(record.key.as_deref()),
        };
        sender.add(partition, &record)?;
        if interactive {
            sender.flush()?;
        }
    }
    Ok(sender.flush()?)
}

/// The next line without its end; false at the end of the input.
fn next_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> std::result::Result<bool, String> {
    line.clear();
    let read = input.take(LINE_BYTES_MAX + 1).read_until(b'\n', line);
    read.map_err(|error| format!("cannot read the input: {error}"))?;
    if line.len() as u64 > LINE_BYTES_MAX {
        return Err(format!("a line has more than {LINE_BYTES_MAX} bytes"));
    }
    let whole = !line.is_empty();
    line.pop_if(|last| *last == b'\n');
    Ok(whole)
}

/// What a line says, with what the command line says of all of them.
fn record_of(line: &[u8], args: &Produce) -> std::result::Result<NewRecord, String> {
    let mut record = match args.input {
        Input::Json => from_json(line)?,
        Input::Lines => {
            let (key, value) = split(line, args.key_separator.as_deref());
            NewRecord {
                key: key.map(<[u8]>::to_vec),
                value: Some(value.to_vec()),
                ..NewRecord::default()
            }
        }
    };
    record.key = record
        .key
        .or_else(|| args.key.clone().map(String::into_bytes));
    record.timestamp = args.timestamp.or(record.timestamp);
    for (name, value) in &args.headers {
        record
            .headers
            .push((name.clone(), Some(value.clone().into_bytes())));
    }
    Ok(record)
}

/// Key and value of a line.
fn split<'a>(line: &'a [u8], separator: Option<&str>) -> (Option<&'a [u8]>, &'a [u8]) {
    let separator = separator
        .map(str::as_bytes)
        .filter(|separator| !separator.is_empty());
    let found = separator.and_then(|separator| {
        Some((
            line.windows(separator.len()).position(|w| w == separator)?,
            separator.len(),
        ))
    });
    match found {
        Some((at, len)) => (Some(&line[..at]), &line[at + len..]),
        None => (None, line),
    }
}

/// What was sent to a partition.
#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    records: usize,
    bytes: usize,
    /// Of the first record and the one after the last, if the broker was asked to answer.
    offsets: Option<(i64, i64)>,
}

struct Sender<'a> {
    cluster: &'a mut Cluster,
    topic: Topic,
    codec: Codec,
    acks: i16,
    timeout: Duration,
    batches: BTreeMap<i32, BatchBuilder>,
    /// Bytes in the batches.
    held: usize,
    turn: usize,
    sent: BTreeMap<i32, Sent>,
}

impl Sender<'_> {
    /// The partition of a key; without one, each batch goes to the next partition.
    fn choose(&self, key: Option<&[u8]>) -> i32 {
        let count = self.topic.partitions.len().max(1);
        match key {
            Some(key) => (murmur2(key) & 0x7fff_ffff) as i32 % count as i32,
            None => (self.turn % count) as i32,
        }
    }

    fn add(&mut self, partition: i32, record: &NewRecord) -> Result<()> {
        let time = record.timestamp.unwrap_or_else(now_ms);
        let codec = self.codec;
        let batch = self.batches.entry(partition);
        let batch = batch.or_insert_with(|| BatchBuilder::new(codec, time));
        let headers = record
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_deref()));
        let headers: Vec<(&str, Option<&[u8]>)> = headers.collect();
        let before = batch.uncompressed_len();
        batch.push(
            time,
            record.key.as_deref(),
            record.value.as_deref(),
            &headers,
        );
        let len = batch.uncompressed_len();
        self.held += len - before;
        if len >= BATCH_BYTES {
            self.turn += 1;
            if let Some(batch) = self.batches.remove(&partition) {
                self.held = self.held.saturating_sub(len);
                self.send(partition, batch)?;
            }
        }
        if self.held >= HELD_BYTES_MAX {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.turn += 1;
        self.held = 0;
        for (partition, batch) in std::mem::take(&mut self.batches) {
            self.send(partition, batch)?;
        }
        Ok(())
    }

    /// Sends a batch until it is acknowledged; a repeated one may be there twice.
    fn send(&mut self, partition: i32, batch: BatchBuilder) -> Result<()> {
        let records = batch.records();
        let batch = batch.build();
        let deadline = Instant::now() + self.timeout;
        loop {
            match self.try_send(partition, &batch) {
                Err(error) if error.is_retriable() && Instant::now() < deadline => {
                    std::thread::sleep(RETRY_PAUSE);
                    self.cluster.forget_all();
                    if let Ok(topic) = self.cluster.topic(&self.topic.name) {
                        self.topic = topic;
                    }
                }
                Err(error) => return Err(error),
                Ok(offset) => {
                    let sent = self.sent.entry(partition).or_default();
                    sent.records += records;
                    sent.bytes += batch.len();
                    if let Some(offset) = offset {
                        let first = sent.offsets.map_or(offset, |(first, _)| first);
                        sent.offsets = Some((first, offset + records as i64));
                    }
                    return Ok(());
                }
            }
        }
    }

    /// Sends a batch; the offset of its first record, if the broker was asked to answer.
    fn try_send(&mut self, partition: i32, batch: &Bytes) -> Result<Option<i64>> {
        let leader = self.topic.by_leader([partition])?;
        let leader = leader.first_key_value().map_or(-1, |(leader, _)| *leader);
        let conn = self.cluster.node(leader)?;
        let by_id = self.topic.id.0 != [0; 16];
        let version = conn.version_up_to::<ProduceApi>(if by_id {
            i16::MAX
        } else {
            PRODUCE_BY_ID_SINCE - 1
        })?;
        let topic = if version >= PRODUCE_BY_ID_SINCE {
            TopicRef::Id(self.topic.id)
        } else {
            TopicRef::Name(self.topic.name.as_str().into())
        };
        let records = ProducePartition {
            index: partition,
            records: Some(batch.clone()),
        };
        let request = ProduceRequest {
            transactional_id: None,
            acks: self.acks,
            timeout_ms: self.timeout.as_millis().min(i32::MAX as u128) as i32,
            topics: vec![ProduceTopic {
                topic,
                partitions: vec![records],
            }],
        };
        conn.send_frame(&encode_produce_flat(0, Some(CLIENT_ID), version, &request))?;
        if self.acks == 0 {
            return Ok(None);
        }
        let frame = conn.receive()?;
        let (_, response) = conn.read(decode_produce(frame, version))?;
        let mut offset = None;
        for answer in response.topics.iter().flat_map(|topic| &topic.partitions) {
            let what = || format!("produce to {}-{partition}", self.topic.name);
            ClientError::check(what, answer.error.code(), answer.error_message.as_deref())?;
            offset = Some(answer.base_offset).filter(|offset| *offset >= 0);
        }
        Ok(offset)
    }

    fn answer(&self) -> Answer {
        let mut rows = Rows::of(&[
            "partition",
            "records",
            "bytes",
            "first_offset",
            "end_offset",
        ]);
        for (partition, sent) in &self.sent {
            rows.add([
                (*partition).into(),
                sent.records.into(),
                crate::answer::Cell::Bytes(sent.bytes as u64),
                sent.offsets.map(|(first, _)| first).into(),
                sent.offsets.map(|(_, end)| end).into(),
            ]);
        }
        Answer::new()
            .field("topic", &self.topic.name)
            .field(
                "records",
                self.sent.values().map(|sent| sent.records).sum::<usize>(),
            )
            .rows("partitions", rows)
    }
}
/// MurmurHash2 with the seed of Kafka's partitioner, so that a key goes where the Java client
/// would send it.
fn murmur2(key: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ key.len() as u32;
    let mut words = key.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        let tail = rest
            .iter()
            .rev()
            .fold(0u32, |tail, byte| tail << 8 | u32::from(*byte));
        hash = (hash ^ tail).wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};

    #[test]
    fn keys_hash_as_in_kafkas_own_clients() {
        // Vectors published with Kafka's client documentation and used by all its ports.
        let vectors: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            ("abc", 479_470_107),
        ];
        for (key, hash) in vectors {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
        }
    }

    fn args(line: &str) -> Produce {
        let cli = Cli::try_parse_from(format!("millracectl produce t {line}").split_whitespace());
        let Command::Produce(args) = cli.expect("a command line").command else {
            panic!("another command")
        };
        args
    }

    #[test]
    fn the_command_line_completes_what_lines_say() {
        let plain = args("-K : --key k --header a=b --timestamp 7");
        let record = record_of(b"x:v", &plain).unwrap();
        assert_eq!(record.key.as_deref(), Some(&b"x"[..]));
        assert_eq!(record.value.as_deref(), Some(&b"v"[..]));
        assert_eq!(record.headers, [("a".to_owned(), Some(b"b".to_vec()))]);
        assert_eq!(record.timestamp, Some(7));
        let record = record_of(b"v", &plain).unwrap();
        assert_eq!(record.key.as_deref(), Some(&b"k"[..]));
        let record = record_of(
            br#"{"timestamp_ms":5,"partition":1}"#,
            &args("--input json"),
        )
        .unwrap();
        assert_eq!(
            (record.value, record.timestamp, record.partition),
            (None, Some(5), Some(1))
        );
        assert_eq!(
            (args("").acks, args("--acks -1").acks, args("--acks 0").acks),
            (-1, -1, 0)
        );
    }

    #[test]
    fn lines_end_with_a_newline_or_the_input() {
        let mut input = &b"a\n\nb"[..];
        let mut line = Vec::new();
        let mut lines = Vec::new();
        while next_line(&mut input, &mut line).unwrap() {
            lines.push(line.clone());
        }
        assert_eq!(lines, [&b"a"[..], b"", b"b"]);
    }

    #[test]
    fn lines_split_at_the_first_separator() {
        assert_eq!(
            split(b"k::v::w", Some("::")),
            (Some(&b"k"[..]), &b"v::w"[..])
        );
        assert_eq!(split(b"::v", Some("::")), (Some(&b""[..]), &b"v"[..]));
        assert_eq!(split(b"plain", Some("::")), (None, &b"plain"[..]));
        assert_eq!(split(b"a:b", None), (None, &b"a:b"[..]));
        assert_eq!(split(b"ab", Some("")), (None, &b"ab"[..]));
    }
}
