//! ListOffsets (key 2, versions 1 to 11), OffsetForLeaderEpoch (23, 2 to 4) and
//! DeleteRecords (21, 0 to 2): questions about offsets that the logs answer.
//!
//! Deviations: the special timestamps of tiered storage (-4, -5, -6) are answered as Kafka does without
//! tiered storage: -4 as the earliest, -5 and -6 as unknown (-1). A lookup may have to read and open a batch;
//! it waits for the disk without holding up the shard.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use kafka_wire as kw;

use super::describe_log_dirs::Sizes;
use super::openings::Place;
use crate::base::limits::{PARTITIONS_PER_SLICE, REQUEST_ENTRIES_MAX, VALIDATION_SLICE_WORK};
use crate::base::{ErrorCode, LeaderEpoch, LogId, Now, Offset, ShardId};
use crate::broker::front::conns::ReplyTo;
use crate::broker::front::{Front, Pending, check_epoch, here};
use crate::broker::fx::Fx;
use crate::broker::msg::{Answer, Answered, Msg, Query, ReqRef};
use crate::broker::owner::ack::Ack;
use crate::broker::owner::{Later, Owner};
use crate::log::{Opening, TimeLookup};
use crate::store::Piece;
use crate::wire::{self, RequestHeader, StrBytes, TopicRef};

/// Which API a pending query answers, with what it echoes of the request.
#[derive(Debug)]
pub enum Shape {
    ListOffsets(kw::ListOffsetsRequest),
    EpochEnd(kw::OffsetForLeaderEpochRequest),
    DeleteRecords(kw::DeleteRecordsRequest),
    LogDirs(Sizes),
}

/// A query whose partitions are being asked.
#[derive(Debug)]
pub struct PendingQuery {
    reply_to: ReplyTo,
    correlation_id: i32,
    version: i16,
    shape: Shape,
    slots: Vec<Option<Result<Answered, ErrorCode>>>,
    open: usize,
    /// Who was asked.
    owners: Vec<ShardId>,
}

/// The part of a query that one shard works on.
#[derive(Debug)]
pub struct QueryJob {
    req: ReqRef,
    todo: Vec<(u32, LogId, Query)>,
    /// Answers so far.
    done: Vec<Answer>,
    /// Answers that wait until a store of this shard has made durable what they say, by its slot.
    changed: BTreeMap<usize, Vec<Answer>>,
    /// The question at hand takes long.
    pub takes_long: bool,
    /// It has waited for its turn to open a batch, and has a place for it.
    pub place: Option<Place>,
}

impl QueryJob {
    /// The question at hand cannot be answered.
    pub fn fail(&mut self, code: ErrorCode) {
        if let Some((slot, ..)) = self.todo.pop() {
            self.next_question();
            self.done.push((slot, Err(code)));
        }
    }

    fn next_question(&mut self) {
        self.takes_long = false;
        self.place = None;
    }

    /// Whether it is one of these requests of a shard, which are in order.
    pub fn is_of(&self, shard: ShardId, ids: &[u64]) -> bool {
        self.req.shard == shard && ids.binary_search(&self.req.id).is_ok()
    }
}

impl PendingQuery {
    /// Whom to tell that nobody waits for it any more. What changes logs is done all the same, as in Kafka.
    pub fn owners_to_tell(&self) -> &[ShardId] {
        match self.shape {
            Shape::DeleteRecords(_) => &[],
            _ => &self.owners,
        }
    }
}

impl Front {
    /// ListOffsets.
    pub fn list_offsets(
        &mut self,
        reply_to: ReplyTo,
        header: &RequestHeader,
        body: Bytes,
        fx: &mut Fx<'_>,
    ) -> Result<(), String> {
        let mut request: kw::ListOffsetsRequest =
            wire::decode(body, header.version).map_err(|error| error.to_string())?;
        let twice = merge_mentions(&mut request);
        let mut asks = Vec::new();
        for topic in &request.topics {
            let name = TopicRef::Name(topic.name.clone());
            for partition in &topic.partitions {
                let place = (topic.name.clone(), partition.partition_index);
                let query = if twice.contains(&place) {
                    Err(ErrorCode::InvalidRequest)
                } else {
                    query_of(partition.timestamp, header.version)
                };
                let epoch = partition.current_leader_epoch;
                asks.push((name.clone(), partition.partition_index, epoch, query));
            }
        }
        self.ask(reply_to, header, asks, Shape::ListOffsets(request), fx)
    }

    /// OffsetForLeaderEpoch.
    pub fn offset_for_leader_epoch(
        &mut self,
        reply_to: ReplyTo,
        header: &RequestHeader,
        body: Bytes,
        fx: &mut Fx<'_>,
    ) -> Result<(), String> {
        let request: kw::OffsetForLeaderEpochRequest =
            wire::decode(body, header.version).map_err(|error| error.to_string())?;
        let mut asks = Vec::new();
        for topic in &request.topics {
            let name = TopicRef::Name(topic.topic.clone());
            for partition in &topic.partitions {
                let query = Ok(Query::EpochEnd(partition.leader_epoch));
                let epoch = partition.current_leader_epoch;
                asks.push((name.clone(), partition.partition, epoch, query));
            }
        }
        self.ask(reply_to, header, asks, Shape::EpochEnd(request), fx)
    }

    /// DeleteRecords.
    pub fn delete_records(
        &mut self,
        reply_to: ReplyTo,
        header: &RequestHeader,
        body: Bytes,
        fx: &mut Fx<'_>,
    ) -> Result<(), String> {
        let request: kw::DeleteRecordsRequest =
            wire::decode(body, header.version).map_err(|error| error.to_string())?;
        let mut asks = Vec::new();
        for topic in &request.topics {
            let name = TopicRef::Name(topic.name.clone());
            for partition in &topic.partitions {
                let query = Ok(Query::DeleteBefore(partition.offset));
                asks.push((name.clone(), partition.partition_index, -1, query));
            }
        }
        self.ask(reply_to, header, asks, Shape::DeleteRecords(request), fx)
    }

    /// Asks the owners of partitions, and answers when all have.
    ///
    /// # Errors
    /// More partitions than one request may name: the reason to close the connection.
    pub fn ask(
        &mut self,
        reply_to: ReplyTo,
        header: &RequestHeader,
        asks: Vec<(TopicRef, i32, i32, Result<Query, ErrorCode>)>,
        shape: Shape,
        fx: &mut Fx<'_>,
    ) -> Result<(), String> {
        if asks.len() > REQUEST_ENTRIES_MAX {
            return Err(format!("more than {REQUEST_ENTRIES_MAX} partitions"));
        }
        self.ask_all(reply_to, header, asks, shape, fx);
        Ok(())
    }

    /// As [`ask`](Self::ask), however many there are: for lists that are bounded by what exists.
    pub fn ask_all(
        &mut self,
        reply_to: ReplyTo,
        header: &RequestHeader,
        asks: Vec<(TopicRef, i32, i32, Result<Query, ErrorCode>)>,
        shape: Shape,
        fx: &mut Fx<'_>,
    ) {
        let mut by_shard: BTreeMap<ShardId, Vec<(u32, LogId, Query)>> = BTreeMap::new();
        let mut slots = Vec::with_capacity(asks.len());
        for (topic, index, epoch, query) in asks {
            let slot = slots.len() as u32;
            let located = query.and_then(|query| {
                let (topic, partition) = self.partition(&topic, index)?;
                if matches!(query, Query::DeleteBefore(_)) && topic.internal {
                    return Err(ErrorCode::InvalidTopicException);
                }
                check_epoch(epoch, partition.leader_epoch)?;
                let owner = self.owner_of(here(partition)?);
                Ok((owner, partition.log, query))
            });
            slots.push(match located {
                Ok((owner, log, query)) => {
                    by_shard.entry(owner).or_default().push((slot, log, query));
                    None
                }
                // Not an error but an offset that is not known.
                Err(ErrorCode::None) => Some(Ok(Answered {
                    offset: -1,
                    timestamp_ms: -1,
                    leader_epoch: -1,
                })),
                Err(code) => Some(Err(code)),
            });
        }
        let pending = PendingQuery {
            reply_to,
            correlation_id: header.correlation_id,
            version: header.version,
            shape,
            open: by_shard.values().map(Vec::len).sum(),
            owners: by_shard.keys().copied().collect(),
            slots,
        };
        if pending.open == 0 {
            self.finish_query(pending, fx);
            return;
        }
        let id = self.park(reply_to, Pending::Query(pending));
        let req = ReqRef { shard: fx.me, id };
        for (shard, parts) in by_shard {
            fx.send(shard, Msg::Query { req, parts });
        }
    }

    /// Some logs have answered.
    pub fn query_done(&mut self, id: u64, results: Vec<Answer>, fx: &mut Fx<'_>) {
        let Some(Pending::Query(pending)) = self.pending_mut(id) else {
            return;
        };
        for (slot, result) in results {
            pending.slots[slot as usize] = Some(result);
            pending.open -= 1;
        }
        if pending.open == 0
            && let Some(Pending::Query(pending)) = self.unpark(id)
        {
            self.finish_query(pending, fx);
        }
    }

    fn finish_query(&mut self, pending: PendingQuery, fx: &mut Fx<'_>) {
        let mut answers = pending
            .slots
            .into_iter()
            .map(|slot| slot.unwrap_or(Err(ErrorCode::UnknownServerError)));
        let (id, version) = (pending.correlation_id, pending.version);
        let frame = match pending.shape {
            Shape::ListOffsets(request) => {
                let response = list_offsets_response(request, version, &mut answers);
                wire::encode_response(id, version, &response)
            }
            Shape::EpochEnd(request) => {
                let response = epoch_end_response(request, &mut answers);
                wire::encode_response(id, version, &response)
            }
            Shape::DeleteRecords(request) => {
                let response = delete_records_response(request, &mut answers);
                wire::encode_response(id, version, &response)
            }
            Shape::LogDirs(sizes) => {
                let dir = self.config.log_dirs.as_str();
                wire::encode_response(id, version, &sizes.response(dir, &mut answers))
            }
        };
        self.reply_or_close(pending.reply_to, frame, fx);
    }
}

/// What a timestamp of ListOffsets asks for; `ErrorCode::None` for what is never known here.
fn query_of(timestamp: i64, version: i16) -> Result<Query, ErrorCode> {
    match timestamp {
        at if at >= 0 => Ok(Query::AtTime(at)),
        -1 => Ok(Query::Latest),
        -2 => Ok(Query::Earliest),
        -3 if version >= 7 => Ok(Query::MaxTimestamp),
        -4 if version >= 8 => Ok(Query::Earliest),
        -5 if version >= 9 => Err(ErrorCode::None),
        -6 if version >= 11 => Err(ErrorCode::None),
        _ => Err(ErrorCode::UnsupportedVersion),
    }
}

/// Makes one mention of each topic and partition that is mentioned more than once; returns the partitions
/// that are.
fn merge_mentions(request: &mut kw::ListOffsetsRequest) -> HashSet<(StrBytes, i32)> {
    let mut seen = HashSet::new();
    let mut twice = HashSet::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let place = (topic.name.clone(), partition.partition_index);
            if let Some(again) = seen.replace(place) {
                twice.insert(again);
            }
        }
    }
    if twice.is_empty() {
        return twice;
    }
    seen.clear();
    let mut at = HashMap::new();
    for mut topic in std::mem::take(&mut request.topics) {
        let name = topic.name.clone();
        topic
            .partitions
            .retain(|asked| seen.insert((name.clone(), asked.partition_index)));
        let index = *at.entry(name).or_insert(request.topics.len());
        match request.topics.get_mut(index) {
            Some(known) => known.partitions.append(&mut topic.partitions),
            None => request.topics.push(topic),
        }
    }
    twice
}

/// The answers in the order in which the partitions were asked.
type Answers<'a> = &'a mut dyn Iterator<Item = Result<Answered, ErrorCode>>;

fn next(answers: Answers<'_>) -> (i16, Answered) {
    const UNKNOWN: Answered = Answered {
        offset: -1,
        timestamp_ms: -1,
        leader_epoch: -1,
    };
    match answers.next() {
        Some(Ok(answered)) => (ErrorCode::None.code(), answered),
        Some(Err(code)) => (code.code(), UNKNOWN),
        None => (ErrorCode::UnknownServerError.code(), UNKNOWN),
    }
}

fn list_offsets_response(
    request: kw::ListOffsetsRequest,
    version: i16,
    answers: Answers<'_>,
) -> kw::ListOffsetsResponse {
    let mut response = kw::ListOffsetsResponse::default();
    for topic in request.topics {
        let mut out = kw::list_offsets_response::ListOffsetsTopicResponse::default();
        out.name = topic.name;
        for partition in topic.partitions {
            let (error_code, answered) = next(answers);
            let mut result = kw::list_offsets_response::ListOffsetsPartitionResponse::default();
            result.partition_index = partition.partition_index;
            result.error_code = error_code;
            result.timestamp = answered.timestamp_ms;
            result.offset = answered.offset;
            result.leader_epoch = if version >= 4 {
                answered.leader_epoch
            } else {
                -1
            };
            out.partitions.push(result);
        }
        response.topics.push(out);
    }
    response
}

fn epoch_end_response(
    request: kw::OffsetForLeaderEpochRequest,
    answers: Answers<'_>,
) -> kw::OffsetForLeaderEpochResponse {
    let mut response = kw::OffsetForLeaderEpochResponse::default();
    for topic in request.topics {
        let mut out = kw::offset_for_leader_epoch_response::OffsetForLeaderTopicResult::default();
        out.topic = topic.topic;
        for partition in topic.partitions {
            let (error_code, answered) = next(answers);
            let mut result = kw::offset_for_leader_epoch_response::EpochEndOffset::default();
            result.partition = partition.partition;
            result.error_code = error_code;
            result.leader_epoch = answered.leader_epoch;
            result.end_offset = answered.offset;
            out.partitions.push(result);
        }
        response.topics.push(out);
    }
    response
}

fn delete_records_response(
    request: kw::DeleteRecordsRequest,
    answers: Answers<'_>,
) -> kw::DeleteRecordsResponse {
    let mut response = kw::DeleteRecordsResponse::default();
    for topic in request.topics {
        let mut out = kw::delete_records_response::DeleteRecordsTopicResult::default();
        out.name = topic.name;
        for partition in topic.partitions {
            let (error_code, answered) = next(answers);
            let mut result = kw::delete_records_response::DeleteRecordsPartitionResult::default();
            result.partition_index = partition.partition_index;
            result.low_watermark = answered.offset;
            result.error_code = error_code;
            out.partitions.push(result);
        }
        response.topics.push(out);
    }
    response
}

/// What one log says to a question.
enum Step {
    Answer(Answered),
    Read(Vec<Piece>, crate::log::Ticket),
    Open(Box<Opening>),
}

impl Owner {
    /// Answers questions about logs of this shard.
    pub fn query(
        &mut self,
        now: Now,
        req: ReqRef,
        parts: Vec<(u32, LogId, Query)>,
        fx: &mut Fx<'_>,
    ) {
        let job = QueryJob {
            req,
            todo: parts,
            done: Vec::new(),
            changed: BTreeMap::new(),
            takes_long: false,
            place: None,
        };
        self.run_query(now, job, fx);
    }

    /// Goes on with a query.
    pub fn run_query(&mut self, now: Now, job: QueryJob, fx: &mut Fx<'_>) {
        self.ask_some(now, job, PARTITIONS_PER_SLICE, fx);
    }

    /// Goes on with a query until it is answered, has to read, or has had its turn of so many questions.
    pub fn ask_some(&mut self, now: Now, mut job: QueryJob, turn: usize, fx: &mut Fx<'_>) {
        let (mut asked, mut work) = (0, VALIDATION_SLICE_WORK);
        while let Some(&(slot, log, query)) = job.todo.last() {
            if asked == turn || work == 0 {
                return self.go_on_later(Later::Query(job));
            }
            asked += 1;
            let Some(partition) = self.partitions.get(&log) else {
                job.fail(self.missing(log));
                continue;
            };
            let store = partition.slot;
            match self.ask_log(now, log, query, &mut work) {
                Ok(Step::Answer(answered)) => {
                    job.todo.pop();
                    job.next_question();
                    let answers = match query {
                        Query::DeleteBefore(_) => job.changed.entry(store).or_default(),
                        _ => &mut job.done,
                    };
                    answers.push((slot, Ok(answered)));
                }
                Ok(Step::Read(pieces, ticket)) => {
                    return self.scan_for_query(pieces, job, log, ticket, fx);
                }
                Ok(Step::Open(opening)) => return self.open_for_query(job, log, opening),
                Err(code) => job.fail(code),
            }
        }
        let req = job.req;
        // Each store acknowledges what lies in it: a shard may own several, and they flush apart.
        for (store, answers) in job.changed {
            self.ack_after(store, Ack::Query { req, answers }, fx);
        }
        if !job.done.is_empty() {
            fx.send(
                req.shard,
                Msg::QueryDone {
                    id: req.id,
                    results: job.done,
                },
            );
        }
    }

    fn ask_log(
        &mut self,
        now: Now,
        log: LogId,
        query: Query,
        work: &mut usize,
    ) -> Result<Step, ErrorCode> {
        let partition = self
            .partitions
            .get_mut(&log)
            .ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let slot = &mut self.slots[partition.slot];
        let log = &mut partition.log;
        let here = |offset: Offset, timestamp_ms: i64, epoch: i32| {
            Step::Answer(Answered {
                offset: offset.0,
                timestamp_ms,
                leader_epoch: epoch,
            })
        };
        let lookup = match query {
            Query::Earliest => {
                return Ok(here(
                    log.start_offset(),
                    -1,
                    log.epoch_at(log.start_offset()).0,
                ));
            }
            Query::Latest => {
                return Ok(here(log.high_watermark(), -1, log.leader_epoch().0));
            }
            Query::Size => {
                let bytes = i64::try_from(log.size_bytes()).unwrap_or(i64::MAX);
                return Ok(here(Offset(bytes), -1, -1));
            }
            Query::EpochEnd(epoch) => {
                let (epoch, end) = log.end_offset_for_epoch(LeaderEpoch(epoch));
                return Ok(here(end, -1, epoch.0));
            }
            Query::DeleteBefore(offset) => {
                let start = log
                    .delete_records(now, Offset(offset), &mut slot.store)
                    .map_err(|(code, _)| code)?;
                slot.newest = slot.newest.max(slot.store.pending_seq());
                return Ok(here(start, -1, -1));
            }
            // Other brokers that stop give their partitions away: it may be asked of whoever has them then.
            Query::MaxTimestamp | Query::AtTime(_) if self.stopping => {
                return Err(ErrorCode::NotLeaderOrFollower);
            }
            Query::MaxTimestamp => log.max_timestamp(&slot.store, work)?,
            Query::AtTime(at) => log.offset_for_time(&slot.store, at, work)?,
        };
        Ok(match lookup {
            TimeLookup::Found {
                offset,
                timestamp,
                epoch,
            } => here(offset, timestamp, epoch.0),
            TimeLookup::NotFound => here(Offset(-1), -1, -1),
            TimeLookup::Scan { pieces, ticket } => Step::Read(pieces, ticket),
            TimeLookup::Open(opening) => Step::Open(opening),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Arc;

    use super::*;
    use crate::base::{Mono, StoreId};
    use crate::broker::io::Output;
    use crate::broker::msg::ProducePart;
    use crate::broker::owner::stores::{StoreSlot, format_store};
    use crate::config::BrokerConfig;
    use crate::log::LogConfig;
    use crate::record::{self, BatchBuilder, Codec};
    use crate::store::{IoId, LogLabel, StoreConfig};

    const ME: ShardId = ShardId(0);
    const NOW: Now = Now {
        mono: Mono(1),
        wall_ms: 1_700_000_000_000,
    };

    fn slot(store: u16) -> StoreSlot {
        let config = StoreConfig {
            journal_bytes: 1 << 20,
            initial_bytes: 4 << 20,
            raw: true,
            ..StoreConfig::default()
        };
        format_store(StoreId(store), config, 1).0
    }

    /// Gives an owner something to do, performs what it wants of the disks of `stores`, and returns the
    /// answers to queries.
    fn run(
        owner: &mut Owner,
        stores: &[u16],
        held: &mut Vec<(StoreId, IoId)>,
        act: impl FnOnce(&mut Owner, &mut Fx<'_>),
    ) -> Vec<Answer> {
        let (mut out, mut local) = (Vec::new(), VecDeque::new());
        let mut fx = Fx {
            me: ME,
            now: NOW.mono,
            out: &mut out,
            local: &mut local,
            ops: Vec::new(),
        };
        act(owner, &mut fx);
        owner.idle(NOW, &mut fx);
        loop {
            for output in fx.out.drain(..) {
                if let Output::Disk { store, op } = output {
                    let id = op.id();
                    held.push((store, id));
                }
            }
            let Some(next) = held.iter().position(|(s, _)| stores.contains(&s.0)) else {
                break;
            };
            let (store, id) = held.remove(next);
            owner.on_disk(store, id, Ok(()), &mut fx);
            owner.idle(NOW, &mut fx);
        }
        let done = local.into_iter().filter_map(|msg| match msg {
            Msg::QueryDone { results, .. } => Some(results),
            _ => None,
        });
        done.flatten().collect()
    }

    #[test]
    fn deleted_records_are_answered_when_each_store_has_it_durable() {
        let config = Arc::new(BrokerConfig::default());
        let mut owner = Owner::new(ME, config, vec![slot(0), slot(1)]);
        let mut held = Vec::new();
        run(&mut owner, &[0, 1], &mut held, |owner, _| {
            for store in 0..2 {
                let log = LogId(10 + store as u64);
                let label = LogLabel::default();
                owner.open_log(NOW, store, log, label, LogConfig::default());
                let mut builder = BatchBuilder::new(Codec::None, NOW.wall_ms);
                builder.push(NOW.wall_ms, None, Some(b"v"), &[]);
                let batch = builder.build();
                let info = record::parse(&batch).unwrap();
                owner.append(NOW, log, batch, &info).unwrap();
            }
        });
        let req = ReqRef { shard: ME, id: 1 };
        let delete = vec![
            (0, LogId(10), Query::DeleteBefore(1)),
            (1, LogId(99), Query::DeleteBefore(1)),
            (2, LogId(11), Query::DeleteBefore(1)),
        ];
        let slots = |answers: Vec<Answer>| answers.iter().map(|a| a.0).collect::<Vec<_>>();
        // Whichever store is slow: what lies in it waits, and nothing else does.
        let first = run(&mut owner, &[1], &mut held, |owner, fx| {
            owner.query(NOW, req, delete, fx);
        });
        assert_eq!(slots(first), [1, 2]);
        let second = run(&mut owner, &[0, 1], &mut held, |_, _| {});
        assert_eq!(slots(second), [0]);
    }

    /// Each opens to less than a slice, all together to many of them.
    #[test]
    fn lookups_of_one_request_share_their_slices() {
        const LOGS: u64 = 40;
        const OPENED: usize = 150_000;
        let config = Arc::new(BrokerConfig::default());
        let mut owner = Owner::new(ME, config, vec![slot(0)]);
        let mut held = Vec::new();
        run(&mut owner, &[0], &mut held, |owner, fx| {
            for log in 0..LOGS {
                let label = LogLabel::default();
                owner.open_log(NOW, 0, LogId(log), label, LogConfig::default());
                let mut builder = BatchBuilder::new(Codec::Zstd, NOW.wall_ms);
                builder.push(NOW.wall_ms, None, Some(&[0; OPENED]), &[]);
                builder.push(NOW.wall_ms + 1, None, None, &[]);
                let batch = builder.build();
                let info = record::parse(&batch).unwrap();
                let part = ProducePart {
                    slot: 0,
                    log: LogId(log),
                    batch,
                    info,
                };
                owner.produce(NOW, ReqRef { shard: ME, id: 1 }, StoreId(0), vec![part], fx);
            }
        });
        let (mut out, mut local) = (Vec::new(), VecDeque::new());
        let mut fx = Fx {
            me: ME,
            now: NOW.mono,
            out: &mut out,
            local: &mut local,
            ops: Vec::new(),
        };
        let asked = |log| (log as u32, LogId(log), Query::AtTime(NOW.wall_ms + 1));
        owner.query(
            NOW,
            ReqRef { shard: ME, id: 2 },
            (0..LOGS).map(asked).collect(),
            &mut fx,
        );
        let mut slices = 1;
        while owner.has_more() {
            owner.slice(NOW, &mut fx);
            slices += 1;
        }
        assert!(
            slices >= LOGS as usize * OPENED / (2 * VALIDATION_SLICE_WORK),
            "{slices}"
        );
        let Some(Msg::QueryDone { results, .. }) = local.pop_front() else {
            panic!("no answer");
        };
        assert_eq!(results.len() as u64, LOGS);
        assert!(
            results
                .iter()
                .all(|(_, answer)| answer.is_ok_and(|a| a.offset == 1))
        );
    }

    /// As Kafka 4.3.1 answers.
    #[test]
    fn special_timestamps_have_versions() {
        use ErrorCode::{None as NeverKnown, UnsupportedVersion as Unsupported};
        for (timestamp, version, wanted) in [
            (0, 1, Ok(Query::AtTime(0))),
            (-1, 1, Ok(Query::Latest)),
            (-2, 1, Ok(Query::Earliest)),
            (-3, 6, Err(Unsupported)),
            (-3, 7, Ok(Query::MaxTimestamp)),
            (-4, 7, Err(Unsupported)),
            (-4, 8, Ok(Query::Earliest)),
            (-5, 8, Err(Unsupported)),
            (-5, 9, Err(NeverKnown)),
            (-6, 10, Err(Unsupported)),
            (-6, 11, Err(NeverKnown)),
            (-7, 11, Err(Unsupported)),
        ] {
            let query = query_of(timestamp, version);
            assert_eq!(query, wanted, "{timestamp} in version {version}");
        }
    }

    #[test]
    fn what_is_mentioned_twice_is_answered_once() {
        let request = |topics: &[(&str, &[i32])]| {
            let mut request = kw::ListOffsetsRequest::default();
            for (name, partitions) in topics {
                let mut topic = kw::list_offsets_request::ListOffsetsTopic::default();
                topic.name = StrBytes::from(*name);
                for index in *partitions {
                    let mut one = kw::list_offsets_request::ListOffsetsPartition::default();
                    one.partition_index = *index;
                    topic.partitions.push(one);
                }
                request.topics.push(topic);
            }
            request
        };
        let mut asked = request(&[("a", &[0, 1]), ("a", &[2])]);
        assert!(merge_mentions(&mut asked).is_empty());
        assert_eq!(asked, request(&[("a", &[0, 1]), ("a", &[2])]), "as it was");
        let mut asked = request(&[("a", &[0, 1, 0, 0]), ("b", &[0]), ("a", &[2, 1])]);
        let twice = merge_mentions(&mut asked);
        assert_eq!(asked, request(&[("a", &[0, 1, 2]), ("b", &[0])]));
        let a = StrBytes::from("a");
        assert_eq!(twice, HashSet::from([(a.clone(), 0), (a, 1)]));
    }
}
