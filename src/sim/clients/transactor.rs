//! A producer with transactions: it begins, writes to some partitions, and commits or aborts, one step after the other.
//! Several may share an id, and fence each other.
//!
//! Of each transaction it tells the oracle what is in it, when it may be committed, and how it has ended. If it has to
//! begin anew, what it has not asked to be committed must never be read.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use kafka_wire as kw;

use super::client::Ctx;
use super::finding::{ask_for, looks_again, told, transactional_id};
use super::frames::{error_of, frame, message, text};
use super::moves;
use super::shared::{Phase, Whom};
use super::talk::{Next, Script};
use crate::base::ErrorCode;
use crate::broker::apis;
use crate::record::{BatchBuilder, Codec};
use crate::sim::fact::{Fact, Moment, Place, Placed, Use};
use crate::sim::values::{PLAIN, Value};
use crate::sim::what::What;
use crate::wire::client;
use crate::wire::produce::{ProducePartition, ProduceRequest, ProduceTopic};

/// API keys.
const INIT_PRODUCER_ID: i16 = 22;
const END_TRANSACTION: i16 = 26;
/// The last version of it that is a client's.
const ADD_BY_CLIENTS_MAX: i16 = 3;
/// The first version of the end of a transaction that gives the next one an epoch of its own (KIP-890), and of Produce
/// with which partitions need not be added first.
const EPOCH_EACH_FROM: i16 = 5;
const ADDS_FROM: i16 = 12;
/// And the last versions before those.
const PRODUCE_MIN: i16 = 3;

/// See the module.
#[derive(Debug)]
pub struct Transactor {
    id: u32,
    /// Of its values.
    producer: u32,
    /// Each transaction has an epoch of its own, and partitions need not be added.
    is_new: bool,
    timeout_ms: i32,
    value_bytes_max: usize,
    /// Producer id and epoch.
    me: Option<(i64, i16)>,
    sequences: BTreeMap<Place, i32>,
    /// Values made so far.
    made: u32,
    current: Option<Transaction>,
    asked: Option<Asked>,
    rest: bool,
}

#[derive(Debug)]
struct Transaction {
    number: u64,
    commits: bool,
    batches: VecDeque<Batch>,
    added: Vec<Place>,
    /// The offset that it commits behind them, if it does.
    moves: Option<Move>,
}

#[derive(Clone, Copy, Debug)]
struct Move {
    at: Place,
    is_added: bool,
}

#[derive(Debug)]
struct Batch {
    at: Place,
    first: Value,
    count: u32,
    bytes: Bytes,
}

#[derive(Clone, Copy, Debug)]
enum Asked {
    /// A coordinator, of the group or of transactions.
    Coordinator(i16, Whom),
    Init(i16),
    Add(i16, Place),
    Produce(i16),
    AddOffsets(i16),
    Commit(i16),
    End(i16),
}

/// What becomes of a request that was refused.
enum Refused {
    /// It is asked again.
    Again,
    /// The producer begins anew.
    Anew,
    /// That must not be.
    Wrong,
}

impl Transactor {
    /// A producer with this transactional id, whose values have that number.
    #[must_use]
    pub fn new(id: u32, producer: u32, value_bytes_max: usize, rng: &mut crate::base::Rng) -> Self {
        let ends = apis::api(END_TRANSACTION).map_or(0, |api| api.max);
        Self {
            id,
            // It is not for what is judged of idempotence to judge: the broker may have what is not committed.
            producer: producer | PLAIN,
            is_new: ends >= EPOCH_EACH_FROM && rng.chance(1, 2),
            timeout_ms: [300, 2_000, 5_000][rng.below(3) as usize],
            value_bytes_max,
            me: None,
            sequences: BTreeMap::new(),
            made: 0,
            current: None,
            asked: None,
            rest: false,
        }
    }

    fn init(&mut self, ctx: &mut Ctx<'_>) -> Next {
        let version = ctx.version(INIT_PRODUCER_ID, 0);
        let request = message!(kw::InitProducerIdRequest {
            transactional_id: Some(text(&transactional_id(self.id))),
            transaction_timeout_ms: self.timeout_ms,
        });
        self.asked = Some(Asked::Init(version));
        Next::Ask(frame(version, &request))
    }

    fn begin(&mut self, ctx: &mut Ctx<'_>, (id, epoch): (i64, i16)) {
        let places = ctx.shared.places(|topic| topic.used == Use::Transacted);
        ctx.shared.transactions_begun += 1;
        let number = ctx.shared.transactions_begun;
        let mut batches = VecDeque::new();
        for _ in 0..=ctx.rng.below(3) {
            let at = ctx.pick(&places);
            let first = Value {
                producer: self.producer,
                number: self.made,
            };
            let count = 1 + ctx.rng.below(3) as u32;
            let sequence = self.sequences.entry(at).or_default();
            let base = ctx.now.wall_ms;
            let mut builder = BatchBuilder::new(Codec::None, base)
                .producer(id, epoch, *sequence)
                .transactional();
            for number in first.number..first.number + count {
                let len = 8 + ctx.rng.below(self.value_bytes_max as u64) as usize;
                let value = Value { number, ..first };
                builder.push(base, None, Some(&value.bytes(len)), &[]);
            }
            (self.made, *sequence) = (self.made + count, *sequence + count as i32);
            batches.push_back(Batch {
                at,
                first,
                count,
                bytes: builder.build(),
            });
        }
        self.current = Some(Transaction {
            number,
            commits: ctx.rng.chance(2, 3),
            batches,
            added: Vec::new(),
            moves: None,
        });
        if ctx.rng.chance(1, 2) {
            self.moves(ctx, number);
        }
    }

    /// The transaction commits an offset too.
    fn moves(&mut self, ctx: &mut Ctx<'_>, transaction: u64) {
        let group = moves::group_of(self.id);
        if let (Some(at), Some(current)) = (moves::place(ctx), &mut self.current) {
            let is_added = self.is_new;
            current.moves = Some(Move { at, is_added });
            ctx.shared.moves.insert((group, at));
            ctx.oracle.tell(Fact::Moving { transaction, group });
        }
    }

    /// The next step of the transaction that is under way.
    fn go_on(&mut self, ctx: &mut Ctx<'_>, me: (i64, i16)) -> Next {
        let Some(current) = &self.current else {
            return Next::Pause(ctx.up_to_ms(5));
        };
        let Some(batch) = current.batches.front() else {
            let (number, commits) = (current.number, current.commits);
            return match current.moves {
                Some(it) => self.move_offset(ctx, me, (it, number)),
                None => self.end(ctx, me, (number, commits)),
            };
        };
        if !self.is_new && !current.added.contains(&batch.at) {
            let at = batch.at;
            return self.add(ctx, me, at);
        }
        ctx.oracle.tell(Fact::Transacting {
            transaction: current.number,
            first: batch.first,
            count: batch.count,
        });
        let Batch {
            at, first, count, ..
        } = *batch;
        ctx.oracle.tell(Fact::Sent { at, first, count });
        let max = apis::api(0).map_or(PRODUCE_MIN, |api| api.max);
        let (min, max) = match self.is_new {
            true => (ADDS_FROM, max),
            false => (PRODUCE_MIN, ADDS_FROM - 1),
        };
        let version = min + ctx.rng.below((max - min + 1) as u64) as i16;
        let Some(topic) = ctx.shared.topic(at.topic) else {
            return Next::Pause(ctx.up_to_ms(5));
        };
        let request = ProduceRequest {
            transactional_id: Some(text(&transactional_id(self.id))),
            acks: -1,
            timeout_ms: 30_000,
            topics: vec![ProduceTopic {
                topic: topic.reference(version >= 13),
                partitions: vec![ProducePartition {
                    index: at.partition,
                    records: Some(batch.bytes.clone()),
                }],
            }],
        };
        self.asked = Some(Asked::Produce(version));
        Next::Ask(client::encode_produce_flat(
            0,
            Some("sim"),
            version,
            &request,
        ))
    }

    fn add(&mut self, ctx: &mut Ctx<'_>, (id, epoch): (i64, i16), at: Place) -> Next {
        let version = ctx.rng.below(ADD_BY_CLIENTS_MAX as u64 + 1) as i16;
        let name = ctx.shared.topic(at.topic).map_or("", |topic| &topic.name);
        let topic = message!(kw::add_partitions_to_txn_request::AddPartitionsToTxnTopic {
            name: text(name),
            partitions: vec![at.partition],
        });
        let request = message!(kw::AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: text(&transactional_id(self.id)),
            v3_and_below_producer_id: id,
            v3_and_below_producer_epoch: epoch,
            v3_and_below_topics: vec![topic],
        });
        self.asked = Some(Asked::Add(version, at));
        Next::Ask(frame(version, &request))
    }

    fn move_offset(
        &mut self,
        ctx: &mut Ctx<'_>,
        me: (i64, i16),
        (it, number): (Move, u64),
    ) -> Next {
        if !it.is_added {
            let (version, request) = moves::add(ctx, self.id, me);
            self.asked = Some(Asked::AddOffsets(version));
            return Next::Ask(request);
        }
        let of = (self.id, self.is_new);
        let (version, request) = moves::commit(ctx, of, me, (it.at, number));
        self.asked = Some(Asked::Commit(version));
        Next::Ask(request)
    }

    fn end(
        &mut self,
        ctx: &mut Ctx<'_>,
        (id, epoch): (i64, i16),
        (transaction, commits): (u64, bool),
    ) -> Next {
        let version = match self.is_new {
            true => ctx.version(END_TRANSACTION, EPOCH_EACH_FROM),
            false => ctx.rng.below(EPOCH_EACH_FROM as u64) as i16,
        };
        if commits {
            ctx.oracle.tell(Fact::Deciding { transaction });
        }
        let request = message!(kw::EndTxnRequest {
            transactional_id: text(&transactional_id(self.id)),
            producer_id: id,
            producer_epoch: epoch,
            committed: commits,
        });
        self.asked = Some(Asked::End(version));
        Next::Ask(frame(version, &request))
    }

    /// It begins anew, with another epoch.
    fn begin_anew(&mut self, ctx: &mut Ctx<'_>) {
        if self.current.take().is_some() {
            ctx.oracle.saw(What::TransactionGivenUp);
        }
        self.me = None;
        self.rest = true;
    }

    fn refused(&mut self, ctx: &mut Ctx<'_>, error: ErrorCode) -> Result<(), String> {
        match refused(ctx, error) {
            Refused::Again => {
                if error != ErrorCode::ConcurrentTransactions {
                    ctx.shared.transactions.remove(&self.id);
                }
                self.rest = true;
            }
            Refused::Anew => self.begin_anew(ctx),
            Refused::Wrong => return Err(error.to_string()),
        }
        Ok(())
    }

    fn answered(&mut self, ctx: &mut Ctx<'_>, bytes: Bytes) -> Result<(), String> {
        let malformed = |error: crate::wire::WireError| error.to_string();
        match self.asked.take() {
            None => Ok(()),
            Some(Asked::Coordinator(version, whom)) => {
                told(ctx, whom, version, bytes)?;
                self.rest = ctx.shared.address(whom).is_none();
                Ok(())
            }
            Some(Asked::AddOffsets(version)) => match moves::added(bytes, version)? {
                ErrorCode::None => {
                    if let Some(it) = self.current.as_mut().and_then(|it| it.moves.as_mut()) {
                        it.is_added = true;
                    }
                    Ok(())
                }
                error => self.refused(ctx, error),
            },
            Some(Asked::Commit(version)) => match moves::committed(bytes, version)? {
                ErrorCode::None => {
                    if let Some(current) = &mut self.current {
                        let transaction = current.number;
                        current.moves = None;
                        ctx.oracle.tell(Fact::Moved { transaction });
                    }
                    Ok(())
                }
                error => {
                    if looks_again(error) {
                        let group = moves::group_of(self.id);
                        ctx.shared.coordinators.remove(&group);
                    }
                    self.refused(ctx, error)
                }
            },
            Some(Asked::Init(version)) => {
                let (_, answer) =
                    client::decode_response::<kw::InitProducerIdRequest>(bytes, version)
                        .map_err(malformed)?;
                match error_of(answer.error_code) {
                    ErrorCode::None => {
                        self.me = Some((answer.producer_id, answer.producer_epoch));
                        self.sequences.clear();
                        Ok(())
                    }
                    error => self.refused(ctx, error),
                }
            }
            Some(Asked::Add(version, at)) => {
                let (_, answer) =
                    client::decode_response::<kw::AddPartitionsToTxnRequest>(bytes, version)
                        .map_err(malformed)?;
                let topic = answer.results_by_topic_v3_and_below.first();
                let partition = topic.and_then(|topic| topic.results_by_partition.first());
                let partition = partition.ok_or("no partition in the answer")?;
                match error_of(partition.partition_error_code) {
                    ErrorCode::None => {
                        if let Some(current) = &mut self.current {
                            current.added.push(at);
                        }
                        Ok(())
                    }
                    error => self.refused(ctx, error),
                }
            }
            Some(Asked::Produce(version)) => self.produced(ctx, bytes, version),
            Some(Asked::End(version)) => {
                let (_, answer) = client::decode_response::<kw::EndTxnRequest>(bytes, version)
                    .map_err(malformed)?;
                let error = error_of(answer.error_code);
                if !error.is_none() {
                    return self.refused(ctx, error);
                }
                if version >= EPOCH_EACH_FROM {
                    self.me = Some((answer.producer_id, answer.producer_epoch));
                    self.sequences.clear();
                }
                if let Some(current) = self.current.take() {
                    ctx.oracle.tell(Fact::Ended {
                        transaction: current.number,
                        commits: current.commits,
                    });
                }
                Ok(())
            }
        }
    }

    fn produced(&mut self, ctx: &mut Ctx<'_>, bytes: Bytes, version: i16) -> Result<(), String> {
        let (_, response) =
            client::decode_produce(bytes, version).map_err(|error| error.to_string())?;
        let topic = response.topics.first();
        let answer = topic.and_then(|topic| topic.partitions.first());
        let answer = answer.ok_or("no partition in the answer")?;
        let Some(current) = &mut self.current else {
            return Ok(());
        };
        let Some(batch) = current.batches.front() else {
            return Ok(());
        };
        let at = batch.at;
        match answer.error {
            ErrorCode::None => {
                let records: Vec<Placed> = (0..batch.count)
                    .map(|index| Placed {
                        offset: answer.base_offset + i64::from(index),
                        value: Value {
                            number: batch.first.number + index,
                            ..batch.first
                        },
                        timestamp: None,
                    })
                    .collect();
                current.batches.pop_front();
                let end = answer.base_offset + records.len() as i64;
                let known = ctx.shared.ends.entry(at).or_default();
                *known = end.max(*known);
                let records = &records;
                ctx.oracle.tell(Fact::Acked { at, records });
                Ok(())
            }
            error if ctx.is_led_elsewhere(at, error) => {
                self.rest = true;
                Ok(())
            }
            error => self.refused(ctx, error),
        }
    }
}

fn refused(ctx: &Ctx<'_>, error: ErrorCode) -> Refused {
    match error {
        ErrorCode::ConcurrentTransactions | ErrorCode::OperationNotAttempted => Refused::Again,
        error if looks_again(error) || ctx.passes(error) => Refused::Again,
        // Nor has the leader heard from the coordinator.
        ErrorCode::NotLeaderOrFollower | ErrorCode::NotEnoughReplicas => Refused::Again,
        // Another one has the id now, or it took too long.
        ErrorCode::ProducerFenced
        | ErrorCode::InvalidProducerEpoch
        | ErrorCode::InvalidTxnState
        | ErrorCode::InvalidProducerIdMapping
        | ErrorCode::TransactionAbortable => Refused::Anew,
        _ => Refused::Wrong,
    }
}

impl Script for Transactor {
    fn next(&mut self, ctx: &mut Ctx<'_>) -> Next {
        if !ctx.shared.is_set_up() && ctx.shared.phase == Phase::Busy {
            return Next::Pause(ctx.up_to_ms(10));
        }
        if std::mem::take(&mut self.rest) {
            return Next::Pause(ctx.up_to_ms(20));
        }
        let is_busy = ctx.shared.phase == Phase::Busy;
        if self.current.is_none() && !is_busy && (self.me.is_some() || self.made == 0) {
            return Next::Done;
        }
        // A node that stands alone is ready to be it when it was asked for.
        let mut whom = vec![Whom::Transactions(self.id)];
        if self.current.as_ref().is_some_and(|it| it.moves.is_some()) {
            whom.push(Whom::Coordinator(moves::group_of(self.id)));
        }
        whom.retain(|whom| ctx.shared.address(*whom).is_none());
        if !ctx.shared.cluster
            && let Some(whom) = whom.first().copied()
        {
            let (version, request) = ask_for(ctx, whom);
            self.asked = Some(Asked::Coordinator(version, whom));
            return Next::Ask(request);
        }
        // What it has given up is over when it has begun anew.
        let Some(me) = self.me else {
            return self.init(ctx);
        };
        if self.current.is_none() {
            self.begin(ctx, me);
            return Next::Pause(ctx.up_to_ms(10));
        }
        if is_busy && ctx.rng.chance(1, 40) {
            // It may be too slow.
            return Next::Pause(ctx.up_to_ms(2 * self.timeout_ms as u64));
        }
        self.go_on(ctx, me)
    }

    fn answer(&mut self, ctx: &mut Ctx<'_>, frame: Bytes, _asked: Moment) {
        if let Err(why) = self.answered(ctx, frame) {
            let what = format!("{}: {why}", self.doing());
            ctx.oracle.fail("GoodTransactionsAreTaken", what);
        }
    }

    fn whom(&self, _ctx: &Ctx<'_>) -> Whom {
        let current = self.current.as_ref().filter(|_| self.me.is_some());
        let next = current.map(|it| (it.batches.front(), &it.added, it.moves));
        match next {
            Some((Some(batch), added, _)) if self.is_new || added.contains(&batch.at) => {
                Whom::Leader(batch.at)
            }
            Some((None, _, Some(Move { is_added: true, .. }))) => {
                Whom::Coordinator(moves::group_of(self.id))
            }
            _ => Whom::Transactions(self.id),
        }
    }

    fn lost(&mut self, ctx: &mut Ctx<'_>) {
        if let Some(Asked::Commit(_)) = self.asked.take()
            && !self.is_new
        {
            // It may come yet, when the next transaction of its epoch has added the group: then it counts there, and
            // so it does with Kafka.
            self.begin_anew(ctx);
        }
    }

    fn doing(&self) -> String {
        let Self {
            id,
            producer,
            is_new,
            me,
            current,
            asked,
            ..
        } = self;
        format!(
            "transactor {producer:#x} of {id}, new {is_new}, {me:?}, asked {asked:?}, transaction {:?}",
            current
                .as_ref()
                .map(|it| (it.number, it.commits, it.batches.len()))
        )
    }
}
