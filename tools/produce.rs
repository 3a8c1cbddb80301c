//! `produce`: each line of the standard input becomes a record.

use std::collections::BTreeMap;
use std::io::{BufRead, IsTerminal};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use kafka_wire::ProduceRequest as ProduceApi;
use millrace::record::{BatchBuilder, Codec};
use millrace::wire::TopicRef;
use millrace::wire::client::{decode_produce, encode_produce_flat};
use millrace::wire::produce::{ProducePartition, ProduceRequest, ProduceTopic};

use crate::Outcome;
use crate::args::Produce;
use millrace_client::{CLIENT_ID, ClientError, Cluster, Result, Topic};

/// A batch is sent when it has this many bytes.
const BATCH_BYTES: usize = 256 * 1024;
/// From this version on, Produce names topics by id instead of by name.
const PRODUCE_BY_ID_SINCE: i16 = 13;
/// Pause before sending again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Runs the command.
pub fn run(cluster: &mut Cluster, args: &Produce, timeout: Duration) -> Outcome {
    let topic = cluster.topic(&args.topic).map_err(|e| e.to_string())?;
    if let Some(partition) = args.partition {
        topic.partition(partition).map_err(|e| e.to_string())?;
    }
    let input = std::io::stdin();
    let interactive = input.is_terminal();
    let mut sender = Sender {
        cluster,
        topic,
        codec: args.codec,
        timeout,
        batches: BTreeMap::new(),
        turn: 0,
    };
    for line in input.lock().split(b'\n') {
        let line = line.map_err(|error| format!("cannot read the standard input: {error}"))?;
        let (key, value) = split(&line, args.key_separator.as_deref());
        let partition = args.partition.unwrap_or_else(|| sender.choose(key));
        sender
            .add(partition, key, value)
            .map_err(|e| e.to_string())?;
        if interactive {
            sender.flush().map_err(|e| e.to_string())?;
        }
    }
    sender.flush().map_err(|e| e.to_string())
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

struct Sender<'a> {
    cluster: &'a mut Cluster,
    topic: Topic,
    codec: Codec,
    timeout: Duration,
    batches: BTreeMap<i32, BatchBuilder>,
    turn: usize,
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

    fn add(&mut self, partition: i32, key: Option<&[u8]>, value: &[u8]) -> Result<()> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let now_ms = now.as_millis() as i64;
        let codec = self.codec;
        let batch = self
            .batches
            .entry(partition)
            .or_insert_with(|| BatchBuilder::new(codec, now_ms));
        batch.push(now_ms, key, Some(value), &[]);
        if batch.uncompressed_len() >= BATCH_BYTES {
            self.turn += 1;
            let batch = self.batches.remove(&partition).map(BatchBuilder::build);
            batch.map_or(Ok(()), |batch| self.send(partition, &batch))?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.turn += 1;
        for (partition, batch) in std::mem::take(&mut self.batches) {
            self.send(partition, &batch.build())?;
        }
        Ok(())
    }

    /// Sends a batch until it is acknowledged; a repeated one may be there twice.
    fn send(&mut self, partition: i32, batch: &Bytes) -> Result<()> {
        let deadline = Instant::now() + self.timeout;
        loop {
            match self.try_send(partition, batch) {
                Err(error) if error.is_retriable() && Instant::now() < deadline => {
                    std::thread::sleep(RETRY_PAUSE);
                    self.cluster.forget_all();
                    if let Ok(topic) = self.cluster.topic(&self.topic.name) {
                        self.topic = topic;
                    }
                }
                other => return other,
            }
        }
    }

    fn try_send(&mut self, partition: i32, batch: &Bytes) -> Result<()> {
        let leader = self.topic.partition(partition)?.leader;
        if leader < 0 {
            return Err(ClientError::NoLeader {
                topic: self.topic.name.clone(),
                partition,
            });
        }
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
            acks: -1,
            timeout_ms: self.timeout.as_millis().min(i32::MAX as u128) as i32,
            topics: vec![ProduceTopic {
                topic,
                partitions: vec![records],
            }],
        };
        conn.send_frame(&encode_produce_flat(0, Some(CLIENT_ID), version, &request))?;
        let frame = conn.receive()?;
        let (_, response) = conn.read(decode_produce(frame, version))?;
        for answer in response.topics.iter().flat_map(|topic| &topic.partitions) {
            let what = || format!("produce to {}-{partition}", self.topic.name);
            ClientError::check(what, answer.error.code(), answer.error_message.as_deref())?;
        }
        Ok(())
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
    use super::*;

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
