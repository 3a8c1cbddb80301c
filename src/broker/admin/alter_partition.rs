//! AlterPartition (56), version 3: a leader asks for another ISR of its partitions. Nodes ask whoever leads the
//! metadata quorum, in Kafka's format (KIP-497, KIP-841, KIP-903); of a client it is not taken.
//!
//! - A broker epoch is the number that the metadata has given to a process when it registered.
//! - What is wrong with a partition, or with the process that asks, is answered partition by partition; the others are
//!   decided on all the same.
//! - A leader that was elected uncleanly has recovered when it asks for an ISR (`leader_recovery_state` 0).

use std::collections::VecDeque;

use bytes::Bytes;
use kafka_wire::alter_partition_request::{BrokerState, PartitionData, TopicData};
use kafka_wire::alter_partition_response as answered;
use kafka_wire::{AlterPartitionRequest, AlterPartitionResponse};
use kafka_wire_core::ApiVersion;
use kafka_wire_core::KafkaEncode;

use super::deciding::{Decided, Deciding, Decision};
use super::handler::{from_wire, reply, to_wire};
use crate::base::limits::{DECODE_BYTES_MAX, MOVES_PER_CHANGE_MAX};
use crate::base::{ErrorCode, Incarnation, LeaderEpoch, Leftovers, NodeId, NodeProcess, TopicId};
use crate::broker::msg::{Called, ControlCall};
use crate::config::BrokerConfig;
use crate::controller::{
    AlterInSync, Draft, MetadataRecord, PartitionRecord, alter_in_sync, eligible, rehomed,
    void_asked,
};
use crate::wire::client::decode_response;
use crate::wire::{self, Api, RequestHeader, WireError};

/// The one version that nodes speak.
pub const ALTER_PARTITION_VERSION: i16 = 3;

/// What comes of a partition for which another ISR was asked: topic id, index, and why it is not changed.
pub type Altered = (TopicId, i32, Result<(), ErrorCode>);

/// Asks for other ISRs of partitions, by topic id and index; at most [`MOVES_PER_CHANGE_MAX`] of them. All of them have
/// the same leader: this process.
#[must_use]
pub fn alter_partition_call(alters: &[(TopicId, i32, AlterInSync)]) -> Box<ControlCall> {
    debug_assert!(alters.len() <= MOVES_PER_CHANGE_MAX);
    let mut request = AlterPartitionRequest::default();
    if let Some((_, _, first)) = alters.first() {
        request.broker_id = first.leader.node.0;
        request.broker_epoch = epoch(first.leader);
    }
    for (topic, index, alter) in alters {
        let id = to_wire(*topic);
        if request.topics.last().is_none_or(|last| last.topic_id != id) {
            let mut topic = TopicData::default();
            topic.topic_id = id;
            request.topics.push(topic);
        }
        let mut partition = PartitionData::default();
        partition.partition_index = *index;
        partition.leader_epoch = alter.leader_epoch.0;
        partition.partition_epoch = alter.partition_epoch;
        partition.new_isr_with_epochs = alter.in_sync.iter().map(member).collect();
        if let Some(topic) = request.topics.last_mut() {
            topic.partitions.push(partition);
        }
    }
    let body = request.encode_to_bytes(ApiVersion::new(ALTER_PARTITION_VERSION));
    Box::new(ControlCall {
        header: RequestHeader {
            key: Api::ALTER_PARTITION,
            version: ALTER_PARTITION_VERSION,
            correlation_id: 0,
            client_id: None,
        },
        // Nothing of it can be too long for its field; a body that is none is refused.
        body: body.unwrap_or_default(),
        listener: 0,
    })
}

fn member(process: &NodeProcess) -> BrokerState {
    let mut state = BrokerState::default();
    state.broker_id = process.node.0;
    state.broker_epoch = epoch(*process);
    state
}

/// On the wire.
fn epoch(process: NodeProcess) -> i64 {
    i64::try_from(process.incarnation.0).unwrap_or(i64::MAX)
}

/// One that is none of ours is that of no process.
fn process(node: i32, epoch: i64) -> NodeProcess {
    NodeProcess {
        node: NodeId(node),
        incarnation: Incarnation(u64::try_from(epoch).unwrap_or(u64::MAX)),
    }
}

/// What has come of such a call, for each partition in its order. It comes from another node perhaps.
///
/// # Errors
/// It is no answer to one, for people.
pub fn altered(called: Called) -> Result<Vec<Altered>, String> {
    const PREFIX: usize = 4;
    let Called::Frame(pieces) = called else {
        return Err("an AlterPartition is answered with something else".to_owned());
    };
    let frame = match <[Bytes; 1]>::try_from(pieces) {
        Ok([frame]) => frame,
        Err(pieces) => pieces.concat().into(),
    };
    if frame.len() < PREFIX || frame.len() > DECODE_BYTES_MAX {
        return Err("the answer to an AlterPartition has a wrong length".to_owned());
    }
    let frame = frame.slice(PREFIX..);
    let decoded = decode_response::<AlterPartitionRequest>(frame, ALTER_PARTITION_VERSION);
    let (_, response) = decoded.map_err(|why| format!("the answer to an AlterPartition: {why}"))?;
    let outcome = |code| match ErrorCode::from_code(code) {
        Some(ErrorCode::None) => Ok(()),
        other => Err(other.unwrap_or(ErrorCode::UnknownServerError)),
    };
    if let Err(code) = outcome(response.error_code) {
        return Err(format!("an AlterPartition is refused: {}", code.message()));
    }
    let of_topic = |topic: answered::TopicData| {
        let id = from_wire(topic.topic_id);
        let partitions = topic.partitions.into_iter();
        partitions.map(move |it| (id, it.partition_index, outcome(it.error_code)))
    };
    Ok(response.topics.into_iter().flat_map(of_topic).collect())
}

/// Decides on an AlterPartition request.
///
/// # Errors
/// If it is malformed, or names more partitions than [`MOVES_PER_CHANGE_MAX`].
pub fn alter_partition(
    header: &RequestHeader,
    body: Bytes,
) -> Result<Box<dyn Decision>, WireError> {
    let request: AlterPartitionRequest = wire::decode(body, header.version)?;
    let partitions: usize = request.topics.iter().map(|it| it.partitions.len()).sum();
    if partitions > MOVES_PER_CHANGE_MAX {
        let what = "partitions";
        return Err(WireError::TooManyEntries { what, at: 0 });
    }
    let (mut asked, mut response) = (VecDeque::new(), AlterPartitionResponse::default());
    for (at, topic) in request.topics.into_iter().enumerate() {
        let mut answers = answered::TopicData::default();
        answers.topic_id = topic.topic_id;
        response.topics.push(answers);
        asked.extend(topic.partitions.into_iter().map(|it| (at, it)));
    }
    Ok(Box::new(Altering {
        header: header.clone(),
        leader: process(request.broker_id, request.broker_epoch),
        asked,
        response,
    }))
}

#[derive(Debug)]
struct Altering {
    header: RequestHeader,
    leader: NodeProcess,
    /// What is not decided yet, each with the place of its topic.
    asked: VecDeque<(usize, PartitionData)>,
    response: AlterPartitionResponse,
}

impl Altering {
    /// Decides on a partition as it is in the draft, to which all before it were added.
    fn decide(
        &self,
        topic: TopicId,
        asked: &PartitionData,
        draft: &mut Draft,
        config: &BrokerConfig,
    ) -> Result<PartitionRecord, ErrorCode> {
        let image = draft.image();
        let known = image.topic_by_id(topic).ok_or(ErrorCode::UnknownTopicId)?;
        let index = asked.partition_index;
        let partition = known.partition(index);
        let now = partition.ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let now = now.record(topic, index);
        let recovering = match asked.leader_recovery_state {
            0 => false,
            1 => true,
            _ => return Err(ErrorCode::InvalidRequest),
        };
        let eligible = eligible(config, known);
        let in_sync = asked.new_isr_with_epochs.iter();
        let wanted = AlterInSync {
            leader: self.leader,
            leader_epoch: LeaderEpoch(asked.leader_epoch),
            partition_epoch: asked.partition_epoch,
            in_sync: in_sync
                .map(|it| process(it.broker_id, it.broker_epoch))
                .collect(),
            recovering,
        };
        let altered = alter_in_sync(&now, &image.brokers, &wanted, eligible).map(|next| {
            // Who has left may have left for the disk that it has lost.
            let homed = (next != now).then(|| rehomed(&next, known.internal, image));
            homed.flatten().unwrap_or(next)
        });
        if altered == Err(ErrorCode::IneligibleReplica) {
            draft.push(MetadataRecord::Partition(void_asked(&now)));
        }
        let next = altered?;
        if next != now {
            draft.push(MetadataRecord::Partition(next.clone()));
        }
        Ok(next)
    }
}

/// The state of a partition, or why it is not changed, as an answer.
fn shown(index: i32, outcome: Result<PartitionRecord, ErrorCode>) -> answered::PartitionData {
    let mut shown = answered::PartitionData::default();
    shown.partition_index = index;
    match outcome {
        Ok(partition) => {
            shown.leader_id = partition.leader.0;
            shown.leader_epoch = partition.leader_epoch.0;
            shown.leader_recovery_state = i8::from(partition.elections.recovering);
            shown.isr = partition.isr.iter().map(|node| node.0).collect();
            shown.partition_epoch = partition.partition_epoch;
        }
        Err(code) => shown.error_code = code.code(),
    }
    shown
}

impl Decision for Altering {
    fn go_on(&mut self, cx: &mut Deciding<'_>, left: &mut usize) -> Result<Decided, WireError> {
        loop {
            cx.draft.go_on(left);
            if *left == 0 {
                return Ok(Decided::Partly);
            }
            let Some((at, asked)) = self.asked.pop_front() else {
                break;
            };
            *left = left.saturating_sub(1 + asked.new_isr_with_epochs.len());
            let topic = from_wire(self.response.topics[at].topic_id);
            let outcome = self.decide(topic, &asked, cx.draft, cx.ctx.config);
            let answer = shown(asked.partition_index, outcome);
            self.response.topics[at].partitions.push(answer);
        }
        let frame = reply::<AlterPartitionRequest>(&self.header, &self.response)?;
        Ok(Decided::Whole {
            commits: true,
            reply: Called::Frame(vec![frame]),
            // However full the stores are, who is in sync has to be known.
            refusal: None,
        })
    }

    fn leave(self: Box<Self>, leftovers: &mut Leftovers) {
        leftovers.add(self.asked, |(_, asked)| asked.new_isr_with_epochs.len());
        leftovers.add(self.response.topics, |topic| topic.partitions.len());
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Cluster;
    use super::*;
    use crate::controller::Image;
    use crate::wire::encode_response;

    /// What the leader of the first partition asks for, which is to be alone, of so many of its partitions.
    fn alone(image: &Image, most: usize) -> Vec<(TopicId, i32, AlterInSync)> {
        let leader = image.topic("a").unwrap().partitions[0].leader;
        let leader = image.brokers.member(leader).unwrap();
        let all = image.topics().flat_map(|topic| {
            let partitions = (0..).zip(topic.partitions.iter());
            partitions.map(move |(index, it)| (topic.id, index, it))
        });
        let led = all.filter(|(.., it)| it.leader == leader.node);
        let alter = |(topic, index, it): (TopicId, i32, &crate::controller::Partition)| {
            let alter = AlterInSync {
                leader,
                leader_epoch: it.leader_epoch,
                partition_epoch: it.partition_epoch,
                in_sync: vec![leader],
                recovering: false,
            };
            (topic, index, alter)
        };
        led.take(most).map(alter).collect()
    }

    /// The answers, after what was decided was replayed; and how many records it was.
    fn ask(cluster: &mut Cluster, alters: &[(TopicId, i32, AlterInSync)]) -> (Vec<Altered>, usize) {
        let call = alter_partition_call(alters);
        let decision = alter_partition(&call.header, call.body).unwrap();
        let (decided, change) = cluster.make(decision);
        let Decided::Whole {
            commits,
            reply,
            refusal,
        } = decided
        else {
            panic!("it is made");
        };
        assert!(commits && refusal.is_none(), "it is for no store to refuse");
        cluster.commit(&change);
        (altered(reply).unwrap(), cluster.committed)
    }

    #[test]
    fn what_a_leader_asks_for_is_so_and_what_it_may_not_changes_nothing() {
        let mut cluster = Cluster::of_three();
        let led = alone(&cluster.image, 9);
        assert!(led.len() >= 2, "{led:?}");
        let mut asked = led.clone();
        asked[0].2.partition_epoch += 1;
        // What was just changed is not what the same one says of it any more.
        asked.push(led[1].clone());
        let last = led.last().unwrap().clone();
        asked.push((TopicId([9; 16]), 0, last.2.clone()));
        asked.push((last.0, 7, last.2.clone()));
        asked.push((last.0, -1, last.2));
        let (answers, records) = ask(&mut cluster, &asked);
        let named = |it: &(TopicId, i32, AlterInSync)| (it.0, it.1);
        let answered = answers.iter().map(|it| (it.0, it.1));
        assert!(answered.eq(asked.iter().map(named)), "in their order");
        let mut expected = vec![Ok(()); led.len()];
        expected[0] = Err(ErrorCode::NotController);
        expected.extend([
            Err(ErrorCode::InvalidUpdateVersion),
            Err(ErrorCode::UnknownTopicId),
            Err(ErrorCode::UnknownTopicOrPartition),
            Err(ErrorCode::UnknownTopicOrPartition),
        ]);
        let outcomes: Vec<_> = answers.into_iter().map(|it| it.2).collect();
        assert_eq!(outcomes, expected);
        assert_eq!(records, led.len() - 1);
        for (n, (topic, index, alter)) in led.iter().enumerate() {
            let topic = cluster.image.topic_by_id(*topic).unwrap();
            let partition = topic.partition(*index).unwrap();
            let is_alone = partition.isr[..] == [alter.leader.node];
            assert_eq!(is_alone, n > 0);
            let epoch = alter.partition_epoch + i32::from(n > 0);
            assert_eq!(partition.partition_epoch, epoch);
        }
    }

    #[test]
    fn what_is_so_already_is_no_record() {
        let mut cluster = Cluster::of_three();
        let mut asked = alone(&cluster.image, 1);
        assert_eq!(ask(&mut cluster, &asked).1, 1);
        asked[0].2.partition_epoch += 1;
        let (answers, records) = ask(&mut cluster, &asked);
        assert_eq!((answers[0].2, records), (Ok(()), 0));
    }

    #[test]
    fn another_process_than_the_registered_one_is_told_so() {
        let mut cluster = Cluster::of_three();
        let asked = alone(&cluster.image, 1);
        let mut of_before = asked.clone();
        of_before[0].2.leader.incarnation.0 = 0;
        of_before[0].2.in_sync[0].incarnation.0 = 0;
        let (answers, _) = ask(&mut cluster, &of_before);
        assert_eq!(answers[0].2, Err(ErrorCode::StaleBrokerEpoch));
        for strange in [u64::MAX, 1 << 63, 9] {
            let mut cluster = Cluster::of_three();
            let mut strangers = asked.clone();
            strangers[0].2.in_sync[0].incarnation.0 = strange;
            let (answers, records) = ask(&mut cluster, &strangers);
            assert_eq!(answers[0].2, Err(ErrorCode::IneligibleReplica));
            assert_eq!(records, 1, "a newer state of the partition");
            let (answers, _) = ask(&mut cluster, &asked);
            assert_eq!(answers[0].2, Err(ErrorCode::InvalidUpdateVersion));
        }
        let call = alter_partition_call(&asked);
        let recovers = wire::decode(call.body, ALTER_PARTITION_VERSION);
        let mut recovers: AlterPartitionRequest = recovers.unwrap();
        recovers.topics[0].partitions[0].leader_recovery_state = 1;
        let version = ApiVersion::new(ALTER_PARTITION_VERSION);
        let body = recovers.encode_to_bytes(version).unwrap();
        let decision = alter_partition(&call.header, body).unwrap();
        let (Decided::Whole { reply, .. }, change) = cluster.make(decision) else {
            panic!("it is made");
        };
        assert_eq!(altered(reply).unwrap()[0].2, Err(ErrorCode::InvalidRequest));
        assert_eq!(change.image, cluster.image);
    }

    #[test]
    fn as_many_as_a_change_may_have_and_no_more() {
        let cluster = Cluster::of_three();
        let one = alone(&cluster.image, 1).remove(0);
        let decide = |partitions: usize| {
            let mut call = alter_partition_call(&[]);
            let mut request = AlterPartitionRequest::default();
            let mut topic = TopicData::default();
            topic.topic_id = to_wire(one.0);
            topic.partitions = vec![PartitionData::default(); partitions / 2];
            request.topics = vec![topic; 2];
            let version = ApiVersion::new(ALTER_PARTITION_VERSION);
            call.body = request.encode_to_bytes(version).unwrap();
            alter_partition(&call.header, call.body).map(drop)
        };
        assert_eq!(decide(MOVES_PER_CHANGE_MAX), Ok(()));
        let many = decide(MOVES_PER_CHANGE_MAX + 2);
        assert!(matches!(many, Err(WireError::TooManyEntries { .. })));
    }

    #[test]
    fn no_answer_is_taken_for_one() {
        let frame = |response: &AlterPartitionResponse| {
            encode_response(0, ALTER_PARTITION_VERSION, response).unwrap()
        };
        let mut refused = AlterPartitionResponse::default();
        assert_eq!(
            altered(Called::Frame(vec![frame(&refused)])),
            Ok(Vec::new())
        );
        refused.error_code = ErrorCode::StaleBrokerEpoch.code();
        assert!(altered(Called::Frame(vec![frame(&refused)])).is_err());
        let mut response = AlterPartitionResponse::default();
        let mut topic = answered::TopicData::default();
        topic.partitions = vec![shown(3, Err(ErrorCode::FencedLeaderEpoch))];
        topic.partitions[0].error_code = 12_345;
        response.topics = vec![topic];
        let unknown = (TopicId::ZERO, 3, Err(ErrorCode::UnknownServerError));
        let whole = frame(&response);
        let parts = vec![whole.slice(..9), whole.slice(9..)];
        assert_eq!(altered(Called::Frame(parts)), Ok(vec![unknown]));
        for len in 0..whole.len() {
            let cut = altered(Called::Frame(vec![whole.slice(..len)]));
            assert!(cut.is_err(), "{len}");
        }
        assert!(altered(Called::Frame(Vec::new())).is_err());
        assert!(altered(Called::Created).is_err());
    }
}
