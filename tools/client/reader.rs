//! Reads partitions of one topic from given offsets on, following leaders and
//! sitting out restarts: the consuming side of the verifier and of `consume`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_wire::FetchRequest;
use kafka_wire::fetch_request::{FetchPartition, FetchTopic};
use kafka_wire_core::{StrBytes, Uuid};
use millrace::record;
use millrace::wire::client::{Fetched, decode_fetch};

use super::{
    ClientError, Cluster, Conn, EARLIEST, Result, Topic, is_retriable, list_offsets, message,
};

/// From this version on, Fetch names topics by id instead of by name.
const FETCH_BY_ID_SINCE: i16 = 13;
/// Pause before asking again after an error that passes.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// Largest batch that is opened, decompressed.
pub const BATCH_BYTES_MAX: usize = 256 * 1024 * 1024;
/// The session epoch that says "no fetch session" (KIP-227).
const NO_SESSION: i32 = -1;

/// Where to go on reading in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The partition.
    pub partition: i32,
    /// Offset of the next record wanted.
    pub offset: i64,
}

/// The newest Fetch version for this topic on this connection.
pub fn fetch_version(conn: &Conn, topic: &Topic) -> Result<i16> {
    let by_id = topic.id.0 != [0; 16];
    let cap = if by_id {
        i16::MAX
    } else {
        FETCH_BY_ID_SINCE - 1
    };
    conn.version_up_to::<FetchRequest>(cap)
}

/// A fetch of one topic without a fetch session, as a consumer.
pub fn fetch_request(
    topic: &Topic,
    positions: &[Position],
    max_wait_ms: i32,
    min_bytes: i32,
    max_bytes: i32,
) -> FetchRequest {
    let partitions = positions.iter().map(|at| {
        message!(FetchPartition {
            partition: at.partition,
            current_leader_epoch: -1,
            fetch_offset: at.offset,
            last_fetched_epoch: -1,
            log_start_offset: -1,
            partition_max_bytes: max_bytes,
        })
    });
    let asked = message!(FetchTopic {
        topic: StrBytes::from(topic.name.as_str()),
        topic_id: Uuid::from_bytes(topic.id.0),
        partitions: partitions.collect(),
    });
    message!(FetchRequest {
        replica_id: -1,
        max_wait_ms: max_wait_ms,
        min_bytes: min_bytes,
        max_bytes: max_bytes,
        session_epoch: NO_SESSION,
        topics: vec![asked],
    })
}

/// Asks once for a byte at least, and at most for `max_bytes` beyond the first batch.
fn fetch(
    conn: &mut Conn,
    topic: &Topic,
    positions: &[Position],
    wait_ms: i32,
    max_bytes: i32,
) -> Result<Fetched> {
    let version = fetch_version(conn, topic)?;
    let request = fetch_request(topic, positions, wait_ms, 1, max_bytes);
    conn.send(&request, version)?;
    let frame = conn.receive()?;
    let (_, fetched) = conn.read(decode_fetch(frame, version))?;
    let what = || format!("fetch from '{}'", topic.name);
    ClientError::check(what, fetched.head.error.code(), None)?;
    Ok(fetched)
}

/// Milliseconds since 1970 of the first record that is at this offset or after it; none if nothing is there.
/// Where the records of the offset are deleted, it is the time of the first one that is left.
pub fn record_time(cluster: &mut Cluster, topic: &Topic, at: Position) -> Result<Option<i64>> {
    let leader = topic.by_leader([at.partition])?;
    let Some((&leader, _)) = leader.first_key_value() else {
        return Ok(None);
    };
    let first = list_offsets(cluster, topic, &[at.partition], EARLIEST)?;
    let first = first.get(&at.partition).copied().unwrap_or(at.offset);
    let at = Position {
        offset: at.offset.max(first),
        ..at
    };
    // The smallest answer there is: one batch.
    let fetched = fetch(cluster.node(leader)?, topic, &[at], 0, 1)?;
    for partition in fetched.topics.iter().flat_map(|topic| &topic.partitions) {
        let what = || format!("fetch from {}-{}", topic.name, at.partition);
        ClientError::check(what, partition.error.code(), None)?;
        for batch in record::batches(&partition.records) {
            let time = batch.and_then(|(_, batch)| time_in(batch, at.offset));
            let time = time.map_err(|error| ClientError::Malformed {
                address: format!("that leads {}-{}", topic.name, at.partition),
                what: format!("records at offset {}: {error}", at.offset),
            })?;
            if time.is_some() {
                return Ok(time);
            }
        }
    }
    Ok(None)
}

fn time_in(batch: &[u8], offset: i64) -> std::result::Result<Option<i64>, record::BatchError> {
    for record in record::records(batch, BATCH_BYTES_MAX)? {
        let record = record?;
        if record.offset >= offset {
            return Ok(Some(record.timestamp));
        }
    }
    Ok(None)
}

/// Reads on from one position per partition.
pub struct Reader {
    cluster: Cluster,
    topic: Topic,
    positions: BTreeMap<i32, i64>,
    /// How long one fetch may wait for data.
    max_wait: Duration,
    /// Bytes asked for at once.
    max_bytes: i32,
    /// How long trouble that passes is sat out before it is reported.
    patience: Duration,
    trouble_since: Option<Instant>,
}

impl Reader {
    /// A reader of `topic` from these positions on.
    pub fn new(
        cluster: Cluster,
        topic: Topic,
        positions: impl IntoIterator<Item = Position>,
        max_wait: Duration,
        patience: Duration,
    ) -> Self {
        let positions = positions
            .into_iter()
            .map(|at| (at.partition, at.offset))
            .collect();
        let max_bytes = 4 * 1024 * 1024;
        Self {
            cluster,
            topic,
            positions,
            max_wait,
            max_bytes,
            patience,
            trouble_since: None,
        }
    }

    /// Offset of the next record wanted, by partition.
    pub fn positions(&self) -> &BTreeMap<i32, i64> {
        &self.positions
    }

    /// The cluster, for other requests between polls.
    pub fn cluster(&mut self) -> &mut Cluster {
        &mut self.cluster
    }

    /// Reads a partition from here on.
    pub fn seek(&mut self, at: Position) {
        self.positions.insert(at.partition, at.offset);
    }

    /// Stops reading a partition.
    pub fn finish(&mut self, partition: i32) {
        self.positions.remove(&partition);
    }

    /// Fetches once from every leader and gives each batch of records to `take`, in order within a
    /// partition: partition, first offset wanted (a batch may begin before it), the batch.
    /// Restarts, elections and lost connections are sat out for as long as patience lasts.
    pub fn poll(&mut self, mut take: impl FnMut(i32, i64, Bytes)) -> Result<()> {
        match self.fetch_all(&mut take) {
            Ok(()) => {
                self.trouble_since = None;
                Ok(())
            }
            Err(error) if error.is_retriable() => {
                let since = *self.trouble_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= self.patience {
                    return Err(error);
                }
                std::thread::sleep(RETRY_PAUSE);
                self.cluster.forget_all();
                match self.cluster.topic(&self.topic.name) {
                    Ok(topic) => self.topic = topic,
                    Err(error) if error.is_retriable() => {}
                    Err(error) => return Err(error),
                }
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn fetch_all(&mut self, take: &mut impl FnMut(i32, i64, Bytes)) -> Result<()> {
        let by_leader = self.topic.by_leader(self.positions.keys().copied())?;
        // With several leaders nobody may hold up the others for the whole wait.
        let wait = self.max_wait / by_leader.len().max(1) as u32;
        for (leader, partitions) in by_leader {
            let at = |partition: i32| Position {
                partition,
                offset: self.positions[&partition],
            };
            let positions: Vec<Position> = partitions.into_iter().map(at).collect();
            let response = self.fetch(leader, &positions, wait.as_millis() as i32)?;
            self.take_response(&positions, response, take)?;
        }
        Ok(())
    }

    fn fetch(&mut self, leader: i32, positions: &[Position], wait_ms: i32) -> Result<Fetched> {
        let conn = self.cluster.node(leader)?;
        fetch(conn, &self.topic, positions, wait_ms, self.max_bytes)
    }

    fn take_response(
        &mut self,
        asked: &[Position],
        response: Fetched,
        take: &mut impl FnMut(i32, i64, Bytes),
    ) -> Result<()> {
        let mut passing = None;
        for partition in response
            .topics
            .into_iter()
            .flat_map(|topic| topic.partitions)
        {
            let index = partition.index;
            let what = || format!("fetch from {}-{index}", self.topic.name);
            let outcome = ClientError::check(what, partition.error.code(), None);
            if let Err(error) = outcome {
                if !is_retriable(partition.error) {
                    return Err(error);
                }
                passing = Some(error);
                continue;
            }
            let Some(at) = asked.iter().find(|at| at.partition == index) else {
                continue;
            };
            let next = self.take_batches(*at, &partition.records, take)?;
            self.positions.insert(index, next);
        }
        passing.map_or(Ok(()), Err)
    }

    fn take_batches(
        &self,
        at: Position,
        records: &Bytes,
        take: &mut impl FnMut(i32, i64, Bytes),
    ) -> Result<i64> {
        let mut next = at.offset;
        for batch in record::batches(records) {
            let (info, batch) = batch.map_err(|error| ClientError::Malformed {
                address: format!("that leads {}-{}", self.topic.name, at.partition),
                what: format!("records at offset {next}: {error}"),
            })?;
            if info.last_offset() < next {
                continue;
            }
            take(at.partition, next, records.slice_ref(batch));
            next = info.last_offset() + 1;
        }
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use millrace::record::{BatchBuilder, Codec};

    use super::*;

    #[test]
    fn the_time_of_an_offset_is_that_of_its_record_or_the_next() {
        let mut builder = BatchBuilder::new(Codec::None, 1000);
        (0..3).for_each(|n| builder.push(1000 + n, None, Some(b"v"), &[]));
        let batch = builder.build();
        assert_eq!(time_in(&batch, 0), Ok(Some(1000)));
        assert_eq!(time_in(&batch, 2), Ok(Some(1002)));
        assert_eq!(time_in(&batch, 3), Ok(None));
    }
}
