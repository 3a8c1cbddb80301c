//! DescribeProducers (key 61), version 0: who has written to partitions, and since when he has a transaction open, for
//! those who look for one that nobody ends (KIP-664). The partitions are asked one after the other.
//!
//! Deviations: an answer has [`PRODUCERS_DESCRIBED_MAX`] producers, and those of one partition more; one that would
//! have more is none, and closes the connection.

use bytes::Bytes;
use kafka_wire::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use kafka_wire::{DescribeProducersRequest, DescribeProducersResponse};

use crate::base::limits::PRODUCERS_DESCRIBED_MAX;
use crate::base::{ErrorCode, IdMap};
use crate::broker::front::Front;
use crate::broker::front::conns::ReplyTo;
use crate::broker::front::parked::Family;
use crate::broker::fx::Fx;
use crate::broker::msg::{Msg, ReqRef};
use crate::controller::check_topic_name;
use crate::log::ActiveProducer;
use crate::store::Piece;
use crate::wire::{self, RequestHeader};

/// A request of which partitions are still to be asked.
#[derive(Debug)]
struct PendingProducers {
    reply_to: ReplyTo,
    correlation_id: i32,
    version: i16,
    /// What is to be asked, the next one last: topics by their places in the response.
    todo: Vec<(usize, i32)>,
    response: DescribeProducersResponse,
    /// Producers in it.
    told: usize,
}

/// The requests of a shard's clients to describe producers.
#[derive(Debug, Default)]
pub struct ProducerRequests {
    waiting: IdMap<u64, PendingProducers>,
}

impl ProducerRequests {
    /// Takes a request. `Err` closes the connection.
    pub fn begin(
        &mut self,
        front: &mut Front,
        reply_to: ReplyTo,
        header: &RequestHeader,
        body: Bytes,
        fx: &mut Fx<'_>,
    ) -> Result<(), String> {
        let request = wire::decode::<DescribeProducersRequest>(body, header.version)
            .map_err(|error| error.to_string())?;
        let mut pending = PendingProducers {
            reply_to,
            correlation_id: header.correlation_id,
            version: header.version,
            todo: Vec::new(),
            response: DescribeProducersResponse::default(),
            told: 0,
        };
        for (place, topic) in request.topics.into_iter().enumerate() {
            let indexes = topic.partition_indexes.iter();
            pending.todo.extend(indexes.map(|index| (place, *index)));
            let mut answered = TopicResponse::default();
            answered.name = topic.name;
            pending.response.topics.push(answered);
        }
        if pending.todo.len() > PRODUCERS_DESCRIBED_MAX {
            return Err(format!(
                "it names {} partitions at once",
                pending.todo.len()
            ));
        }
        pending.todo.reverse();
        let id = front.park(reply_to, Family::Producers);
        self.waiting.insert(id, pending);
        self.go_on(front, id, fx)
    }

    /// Asks the next partition, or answers.
    fn go_on(&mut self, front: &mut Front, id: u64, fx: &mut Fx<'_>) -> Result<(), String> {
        let Some(pending) = self.waiting.get_mut(&id) else {
            return Ok(());
        };
        while let Some((place, index)) = pending.todo.last() {
            let name = pending
                .response
                .topics
                .get(*place)
                .map(|topic| topic.name.clone());
            let name = name.unwrap_or_default();
            let found = match check_topic_name(&name) {
                Ok(()) => front.led_log(&name, *index),
                Err(_) => Err(ErrorCode::InvalidTopicException),
            };
            match found {
                Ok((shard, log)) => {
                    let req = ReqRef { shard: fx.me, id };
                    fx.send(shard, Msg::DescribeProducers { req, log });
                    return Ok(());
                }
                Err(error) => pending.take(Err(error)),
            }
        }
        front.parked.unpark(id);
        let Some(pending) = self.waiting.remove(&id) else {
            return Ok(());
        };
        let (id, version) = (pending.correlation_id, pending.version);
        let frame = wire::encode_response(id, version, &pending.response);
        let frame = frame.map_err(|error| error.to_string())?;
        let pieces = vec![Piece::Memory(frame)];
        front.conns.reply(pending.reply_to, pieces, fx.out);
        Ok(())
    }

    /// A partition has answered.
    pub fn done(
        &mut self,
        front: &mut Front,
        id: u64,
        producers: Result<Vec<ActiveProducer>, ErrorCode>,
        fx: &mut Fx<'_>,
    ) {
        let Some(pending) = self.waiting.get_mut(&id) else {
            return;
        };
        let reply_to = pending.reply_to;
        pending.take(producers);
        let too_many = pending.told > PRODUCERS_DESCRIBED_MAX && !pending.todo.is_empty();
        let went_on = match too_many {
            true => Err("its partitions have too many producers for one answer".to_owned()),
            false => self.go_on(front, id, fx),
        };
        if let Err(why) = went_on {
            self.waiting.remove(&id);
            front.parked.unpark(id);
            front.conns.fail(reply_to, why, fx.out);
        }
    }

    /// How many wait for something.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Nobody waits for the answer any more.
    pub fn forget(&mut self, id: u64) {
        self.waiting.remove(&id);
    }
}

impl PendingProducers {
    /// What the partition says that was asked.
    fn take(&mut self, producers: Result<Vec<ActiveProducer>, ErrorCode>) {
        let Some((place, index)) = self.todo.pop() else {
            return;
        };
        let mut answered = PartitionResponse::default();
        answered.partition_index = index;
        match producers {
            Ok(producers) => {
                self.told += producers.len();
                answered.active_producers = producers.iter().map(state_of).collect();
            }
            Err(error) => answered.error_code = error.code(),
        }
        if let Some(topic) = self.response.topics.get_mut(place) {
            topic.partitions.push(answered);
        }
    }
}

fn state_of(producer: &ActiveProducer) -> ProducerState {
    let mut state = ProducerState::default();
    state.producer_id = producer.producer_id;
    state.producer_epoch = producer.producer_epoch.into();
    state.last_sequence = producer.last_sequence;
    state.last_timestamp = producer.last_timestamp;
    state.coordinator_epoch = producer.coordinator_epoch;
    state.current_txn_start_offset = producer.transaction.map_or(-1, |first| first.0);
    state
}
