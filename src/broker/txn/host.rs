//! The coordinators of transactions of a shard, and what is around them: who waits for their answers, the records and
//! markers that they want written, producer ids, and what they have to load.
//!
//! A coordinator is there as long as this node leads its partition, in one epoch: another leader may have written what
//! it does not know.

use std::collections::VecDeque;

use bytes::Bytes;
use kafka_wire::InitProducerIdRequest;
use kafka_wire_core::{ApiVersion, KafkaEncode};

use super::carried::{MarkersOfNodes, answer_of, call_of, frame_of, told_of};
use super::markers::{Marked, MarkerCx, MarkerSending};
use crate::base::limits::{PRODUCER_ID_WITHIN_MS, TXN_ASKED_COST, TXN_PARTITIONS_TOLD_MAX};
use crate::base::{ErrorCode, IdMap, LeaderEpoch, Mono, NodeId, ShardId};
use crate::broker::front::Front;
use crate::broker::fx::Fx;
use crate::broker::groups::load::{LoadInto, LoadTarget, Loads};
use crate::broker::groups::{TRANSACTIONS_TOPIC, of_transaction};
use crate::broker::io::ReadId;
use crate::broker::msg::{AppendFate, Called, ControlCall, Msg, ReqRef, TransactionQuestion};
use crate::broker::own::compact;
use crate::broker::own::led::{LedPartitions, led_by, place_of, send_end};
use crate::broker::own::run::feed;
use crate::broker::owner::Owner;
use crate::broker::owner::acks::Told;
use crate::broker::owner::work::Worker;
use crate::config::BrokerConfig;
use crate::controller::{Image, transaction_version};
use crate::coordinator::{TxnAnswer, TxnAsk, TxnHost, TxnHostEffect};
use crate::record::BatchInfo;
use crate::store::DiskError;
use crate::txn::{NeedsId, TxnConfig, TxnProducer, TxnVersion};
use crate::wire::RequestHeader;

/// How long after it was refused something is tried again, ms.
const RETRY_MS: u64 = 100;
/// InitProducerId, as it is asked of the control shard.
const INIT_PRODUCER_ID: (i16, i16) = (22, 4);

/// Who waits for an answer.
#[derive(Clone, Copy, Debug)]
enum TxnAsker {
    /// A request, at this place of it.
    Request(ReqRef, u32),
    /// A shard that is asked to append to so many partitions.
    Verification(ReqRef, usize),
}

/// An append on its way.
#[derive(Clone, Copy, Debug)]
struct Appending {
    partition: i32,
    /// The number that its coordinator knows.
    append: u64,
    /// The epoch in which that one is there.
    epoch: LeaderEpoch,
}

/// What the control shard was asked for.
#[derive(Debug)]
enum Calling {
    /// A producer id, for this partition.
    ProducerId(i32, NeedsId),
    /// To ask another node about so many partitions.
    Verification(ReqRef, usize),
}

/// See the module.
#[derive(Debug)]
pub struct TxnCoordinators {
    host: TxnHost,
    /// The partitions that are led here, each with its log and the epoch.
    led: LedPartitions,
    /// Who waits for an answer, by token.
    waits: IdMap<u64, TxnAsker>,
    /// Tokens of questions, and numbers of all that is on its way.
    begun: u64,
    appends: IdMap<u64, Appending>,
    calls: IdMap<u64, Calling>,
    /// Producer ids that are waited for, in the order of their times.
    ids_until: VecDeque<(Mono, u64)>,
    markers: MarkerSending,
    of_nodes: MarkersOfNodes,
    loads: Loads,
    me: NodeId,
    /// The shard that owns each store of this node.
    owners: Vec<ShardId>,
}

impl LoadTarget for TxnHost {
    fn topic(&self) -> &'static str {
        TRANSACTIONS_TOPIC
    }

    fn whose(&self) -> &'static str {
        "transactional ids"
    }

    /// What was decided would be lost with it.
    fn skips_damage(&self, _: &BrokerConfig) -> bool {
        false
    }

    fn has_gaps(&self) -> bool {
        true
    }

    fn replay(
        &mut self,
        partition: i32,
        (_, batch): (&BatchInfo, &[u8]),
        _: &Image,
    ) -> Result<(), String> {
        feed(batch, &mut |key, value, _| {
            // What is not understood is a record of a later version: it stays.
            if let Some(key) = key
                && let Err(error) = self.replay(partition, key, value)
            {
                tracing::warn!("{TRANSACTIONS_TOPIC}-{partition}: {error}");
            }
            Ok(())
        })
    }

    fn fail(&mut self, partition: i32) {
        self.fail(partition);
    }
}

impl TxnCoordinators {
    /// None yet, on a node whose stores have these owners.
    pub fn new(config: &BrokerConfig, owners: Vec<ShardId>) -> Self {
        Self {
            host: TxnHost::new(TxnConfig {
                max_timeout_ms: config.transaction_max_timeout_ms,
                id_expiration_ms: config.transactional_id_expiration_ms.into(),
                retry_ms: RETRY_MS,
                version: TxnVersion::V0,
            }),
            led: LedPartitions::new(),
            waits: IdMap::default(),
            begun: 0,
            appends: IdMap::default(),
            calls: IdMap::default(),
            ids_until: VecDeque::new(),
            markers: MarkerSending::default(),
            of_nodes: MarkersOfNodes::default(),
            loads: Loads::new(Worker::Transactions),
            me: config.node(),
            owners,
        }
    }

    /// Whether everything that was there is loaded.
    pub fn is_loaded(&self) -> bool {
        self.loads.is_done()
    }

    /// How many transactional ids are known.
    pub const fn ids(&self) -> usize {
        self.host.usage().ids
    }

    /// Whether nothing is being written.
    pub fn is_quiet(&self) -> bool {
        self.appends.is_empty() && self.of_nodes.is_quiet()
    }

    /// When [`TxnCoordinators::tick`] has something to do.
    pub fn next_deadline(&self) -> Mono {
        let ids = self.ids_until.front().map_or(Mono::NEVER, |it| it.0);
        let markers = self.markers.next_deadline();
        let loads = self.loads.next_deadline();
        (self.host.next_deadline()).min(markers).min(ids).min(loads)
    }

    /// Panics if something is wrong inside. For the simulator.
    pub fn invariants(&self) {
        self.host.invariants();
    }

    /// The image is served by here: takes over the partitions that this shard leads, gives up those that it leads no
    /// more.
    pub fn adopted(&mut self, image: &Image, owner: &mut Owner, fx: &mut Fx<'_>) {
        let version = transaction_version(image.features);
        self.host.set_version(TxnVersion::of_number(version));
        let led = led_by(image, TRANSACTIONS_TOPIC, owner);
        let before = std::mem::replace(&mut self.led, led);
        for (index, before) in before {
            if self.led.get(&index) != Some(&before) {
                self.give_up(index);
            }
        }
        let led: Vec<i32> = self.led.keys().copied().collect();
        led.into_iter().for_each(|index| self.take_over(index));
        self.load_some(image, owner, fx);
    }

    /// Begins to load a partition that is led here, if that is not done and nothing is left of the time before.
    fn take_over(&mut self, partition: i32) {
        if let Some((log, _)) = self.led.get(&partition)
            && self.host.open(partition)
        {
            self.loads.want(partition, *log);
        }
    }

    /// A partition is led here no more, or in another epoch. What is on its way ends.
    fn give_up(&mut self, partition: i32) {
        self.loads.forget(partition);
        self.markers.forget(partition);
        self.host.unload(partition);
    }

    /// Takes questions of a request, each with its place in it and the partition.
    pub fn ask(
        &mut self,
        req: ReqRef,
        parts: Vec<(u32, i32, TxnAsk)>,
        image: &Image,
        fx: &mut Fx<'_>,
    ) {
        let (mut effects, mut told) = (Vec::new(), 0);
        for (slot, partition, ask) in parts {
            if told > TXN_PARTITIONS_TOLD_MAX {
                let answer = ask.refused(ErrorCode::CoordinatorLoadInProgress);
                let answers = vec![(slot, answer)];
                fx.send(
                    req.shard,
                    Msg::TransactionsDone {
                        id: req.id,
                        answers,
                    },
                );
                continue;
            }
            told += TXN_ASKED_COST + self.host.partitions_of(partition, &ask);
            let token = self.number();
            self.waits.insert(token, TxnAsker::Request(req, slot));
            self.host.ask(fx.now, (token, partition), ask, &mut effects);
        }
        self.perform(effects, image, fx);
    }

    /// Asks whoever coordinates a transactional id, wherever that is; or answers another shard of this node that has
    /// found out that it is this one.
    pub fn ask_transaction(
        &mut self,
        from: ShardId,
        (req, question): (ReqRef, Box<TransactionQuestion>),
        front: &Front,
        fx: &mut Fx<'_>,
    ) {
        let count = question.partitions.len();
        let refused = |error, fx: &mut Fx<'_>| {
            let errors = vec![error; count];
            fx.send(req.shard, Msg::TransactionTold { id: req.id, errors });
        };
        let place = of_transaction(&front.image, &question.transactional_id);
        let Ok((index, partition)) = place else {
            return refused(ErrorCode::NotCoordinator, fx);
        };
        if let Ok(store) = front.led(partition) {
            let shard = front.owner_of(store);
            if shard != fx.me && from == fx.me {
                return fx.send(shard, Msg::AskTransaction { req, question });
            }
            return self.put(req, index, *question, &front.image, fx);
        }
        if from != fx.me || partition.leader.0 < 0 {
            return refused(ErrorCode::NotCoordinator, fx);
        }
        let number = self.number();
        self.calls.insert(number, Calling::Verification(req, count));
        let (node, call) = (partition.leader, Box::new(call_of(&question)));
        let req = ReqRef::of_transactions(fx.me, number);
        fx.send(ShardId(0), Msg::CallNode { req, node, call });
    }

    fn put(
        &mut self,
        req: ReqRef,
        partition: i32,
        question: TransactionQuestion,
        image: &Image,
        fx: &mut Fx<'_>,
    ) {
        let count = question.partitions.len();
        let (id, partitions) = (question.transactional_id, question.partitions);
        let producer = TxnProducer {
            id: question.producer_id,
            epoch: question.producer_epoch,
        };
        let ask = match question.adds {
            true => TxnAsk::Add(id, producer, partitions, TxnVersion::V2),
            false => TxnAsk::Verify(id, producer, partitions),
        };
        let (token, mut effects) = (self.number(), Vec::new());
        self.waits.insert(token, TxnAsker::Verification(req, count));
        self.host.ask(fx.now, (token, partition), ask, &mut effects);
        self.perform(effects, image, fx);
    }

    /// Another node wants markers written in partitions that this one leads.
    pub fn write_markers(
        &mut self,
        req: ReqRef,
        call: (RequestHeader, Bytes),
        front: &Front,
        fx: &mut Fx<'_>,
    ) {
        let number = self.number();
        self.of_nodes.begin(front, (req, number), call, fx);
    }

    /// Shards of this node have written markers, or refused them.
    pub fn markers_written(
        &mut self,
        id: u64,
        results: &[(u32, ErrorCode)],
        image: &Image,
        fx: &mut Fx<'_>,
    ) {
        let number = ReqRef::number_of_transactions(id).unwrap_or(id);
        if !self.of_nodes.written(number, results, fx) {
            let marked = self.markers.written(number, results);
            self.marked(marked, image, fx);
        }
    }

    fn marked(&mut self, marked: Option<Marked>, image: &Image, fx: &mut Fx<'_>) {
        let Some(marked) = marked.filter(|it| !it.results.is_empty()) else {
            return;
        };
        let Marked {
            partition,
            id,
            round,
            results,
        } = marked;
        let mut effects = Vec::new();
        self.host
            .marked(fx.now, (partition, &id, round), results, &mut effects);
        self.perform(effects, image, fx);
    }

    /// The control shard has answered what was asked of it with this number.
    pub fn called(
        &mut self,
        number: u64,
        answer: Result<Called, String>,
        image: &Image,
        fx: &mut Fx<'_>,
    ) {
        if answer == Ok(Called::Again)
            && let Some(Calling::ProducerId(..)) = self.calls.get(&number)
        {
            return ask_for_id(number, fx);
        }
        let answer = frame_of(answer);
        match self.calls.remove(&number) {
            Some(Calling::ProducerId(partition, needs)) => {
                let (_, version) = INIT_PRODUCER_ID;
                let response = answer
                    .and_then(|frame| answer_of::<InitProducerIdRequest>(frame, version))
                    .ok()
                    .filter(|response| response.error_code == 0);
                let id = response.map(|response| response.producer_id);
                let effects = self.got_id((partition, needs), id, fx);
                self.perform(effects, image, fx);
            }
            Some(Calling::Verification(req, count)) => {
                let errors = told_of(answer, count);
                fx.send(req.shard, Msg::TransactionTold { id: req.id, errors });
            }
            None => {
                let marked = self.markers.called(number, answer);
                self.marked(marked, image, fx);
            }
        }
    }

    /// Hands on a producer id that nobody has; `None`: there is none to be had now.
    fn got_id(&mut self, of: (i32, NeedsId), id: Option<i64>, fx: &Fx<'_>) -> Vec<TxnHostEffect> {
        let mut effects = Vec::new();
        let id = id.ok_or(ErrorCode::CoordinatorNotAvailable);
        self.host.got_id(fx.now, of, id, &mut effects);
        effects
    }

    /// Lets the coordinators see the time.
    pub fn tick(&mut self, image: &Image, fx: &mut Fx<'_>) {
        if fx.now.mono < self.next_deadline() {
            return;
        }
        self.loads.tick(fx.now.mono);
        let mut effects = Vec::new();
        self.host.tick(fx.now, &mut effects);
        while let Some(&(until, number)) = self.ids_until.front()
            && until <= fx.now.mono
        {
            self.ids_until.pop_front();
            if let Some(Calling::ProducerId(partition, needs)) = self.calls.remove(&number) {
                let req = ReqRef::of_transactions(fx.me, number);
                fx.send(ShardId(0), Msg::ControlCancel { req });
                effects.extend(self.got_id((partition, needs), None, fx));
            }
        }
        self.perform(effects, image, fx);
        let marked = self.markers.overdue(fx.now.mono);
        self.marked(marked, image, fx);
    }

    /// The broker goes down.
    pub fn stop(&mut self) {
        self.host.stop();
    }

    /// Something is known of records that were to be appended.
    pub fn appended(
        &mut self,
        number: u64,
        fate: AppendFate,
        image: &Image,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) {
        let Some(&Appending {
            partition,
            append,
            epoch,
        }) = self.appends.get(&number)
        else {
            return;
        };
        let (place, mut effects) = ((partition, append), Vec::new());
        let result = match fate {
            AppendFate::Late => {
                let error = ErrorCode::RequestTimedOut;
                self.host.late(place, error, &mut effects);
                return self.perform(effects, image, fx);
            }
            AppendFate::Committed(told) => {
                if let Err(error) = told {
                    self.host.late(place, error, &mut effects);
                }
                Ok(())
            }
            AppendFate::Left(error) => {
                // What was written may be committed by another leader, or not: this one does not know any more what
                // its log says.
                let led = self.led.get(&partition);
                if led.is_some_and(|(_, of)| *of == epoch) {
                    self.led.remove(&partition);
                    self.give_up(partition);
                }
                Err(error)
            }
            AppendFate::Refused(refused) => Err(refused.code),
        };
        self.appends.remove(&number);
        self.host.appended(fx.now, place, result, &mut effects);
        self.perform(effects, image, fx);
        // It may have been the last one of a coordinator that was given up.
        self.take_over(partition);
        self.load_some(image, owner, fx);
    }

    /// Goes on with what is done in slices.
    pub fn slice(&mut self, image: &Image, owner: &mut Owner, fx: &mut Fx<'_>) {
        self.load_some(image, owner, fx);
    }

    /// Whether [`TxnCoordinators::slice`] has more to do.
    pub fn has_more(&self) -> bool {
        self.loads.has_more()
    }

    /// If the token is that of a partition that is loaded, it is read on. Unless another one leads.
    pub fn told(&mut self, told: Told) -> bool {
        self.loads.told(told)
    }

    /// A read of a partition that is being loaded has ended.
    pub fn read(
        &mut self,
        owner: &mut Owner,
        (id, result): (ReadId, Result<Bytes, DiskError>),
        image: &Image,
        fx: &mut Fx<'_>,
    ) {
        self.loads.reader.ended(owner, id, result, fx);
        self.load_some(image, owner, fx);
    }

    /// Goes on loading.
    fn load_some(&mut self, image: &Image, owner: &mut Owner, fx: &mut Fx<'_>) {
        loop {
            let mut to = LoadInto {
                host: &mut self.host,
                image,
                owner,
            };
            let Some(loaded) = self.loads.next(&mut to, fx) else {
                break;
            };
            self.host.loaded(loaded.partition);
        }
    }

    fn number(&mut self) -> u64 {
        self.begun += 1;
        self.begun
    }

    /// Does what the coordinators want.
    fn perform(&mut self, effects: Vec<TxnHostEffect>, image: &Image, fx: &mut Fx<'_>) {
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            let mut more = Vec::new();
            match effect {
                TxnHostEffect::Answer(token, answer) => self.answer(token, answer, fx),
                TxnHostEffect::NeedsProducerId(partition, needs) => {
                    let number = self.number();
                    self.calls
                        .insert(number, Calling::ProducerId(partition, needs));
                    let until = fx.now.mono.plus_ms(PRODUCER_ID_WITHIN_MS);
                    self.ids_until.push_back((until, number));
                    ask_for_id(number, fx);
                }
                TxnHostEffect::Append {
                    partition,
                    append,
                    records,
                    ends,
                } => {
                    let id = self.number();
                    let led = self.led.get(&partition).map(|(_, epoch)| *epoch);
                    let begun = led.ok_or(ErrorCode::NotLeaderOrFollower).and_then(|epoch| {
                        if self.host.is_behind(partition) {
                            // What would wait behind what is late is not waited for: it would be kept for as long.
                            return Err(ErrorCode::NotEnoughReplicas);
                        }
                        let place = place_of(image, TRANSACTIONS_TOPIC, partition);
                        let batch = (compact::batch(fx.now, &records), ends);
                        let number = ReqRef::of_transactions(fx.me, id).id;
                        send_end(place, batch, (number, epoch), fx)?;
                        Ok(Appending {
                            partition,
                            append,
                            epoch,
                        })
                    });
                    match begun {
                        Ok(begun) => drop(self.appends.insert(id, begun)),
                        Err(code) => {
                            let place = (partition, append);
                            self.host.appended(fx.now, place, Err(code), &mut more);
                        }
                    }
                }
                TxnHostEffect::Markers(partition, markers) => {
                    let Some(&(_, epoch)) = self.led.get(&partition) else {
                        continue;
                    };
                    let cx = MarkerCx {
                        image,
                        me: self.me,
                        owners: &self.owners,
                    };
                    let begun = &mut self.begun;
                    let number = || {
                        *begun += 1;
                        *begun
                    };
                    let of = (partition, epoch);
                    let known = self.markers.send(&cx, of, markers, number, fx);
                    if !known.results.is_empty() {
                        let of = (partition, &known.id, known.round);
                        self.host.marked(fx.now, of, known.results, &mut more);
                    }
                }
            }
            effects.extend(more);
        }
    }

    fn answer(&mut self, token: u64, answer: TxnAnswer, fx: &mut Fx<'_>) {
        match self.waits.remove(&token) {
            Some(TxnAsker::Request(req, slot)) => {
                let answers = vec![(slot, answer)];
                fx.send(
                    req.shard,
                    Msg::TransactionsDone {
                        id: req.id,
                        answers,
                    },
                );
            }
            Some(TxnAsker::Verification(req, count)) => {
                let errors = match answer {
                    TxnAnswer::Verified(errors) => errors,
                    TxnAnswer::Done(error) => vec![error; count],
                    _ => vec![ErrorCode::UnknownServerError; count],
                };
                fx.send(req.shard, Msg::TransactionTold { id: req.id, errors });
            }
            None => {}
        }
    }
}

/// Asks the control shard for a producer id that nobody has.
fn ask_for_id(number: u64, fx: &mut Fx<'_>) {
    let (key, version) = INIT_PRODUCER_ID;
    let mut request = InitProducerIdRequest::default();
    request.transactional_id = None;
    (request.producer_id, request.producer_epoch) = (-1, -1);
    let call = ControlCall {
        header: RequestHeader {
            key,
            version,
            correlation_id: 0,
            client_id: None,
        },
        // Nothing of it can be too long.
        body: request
            .encode_to_bytes(ApiVersion::new(version))
            .unwrap_or_default(),
        listener: 0,
    };
    let (req, call) = (ReqRef::of_transactions(fx.me, number), Box::new(call));
    fx.send(ShardId(0), Msg::Control { req, call });
}
