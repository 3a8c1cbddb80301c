//! The markers of a shard's coordinators on their way: each to the shard that owns its partition, or to the node that
//! leads it, as a WriteTxnMarkers (27). What is lost is taken for refused after a while, and sent again: a log takes a
//! marker twice.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use kafka_wire::WriteTxnMarkersRequest;
use kafka_wire::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use kafka_wire_core::{ApiVersion, KafkaEncode, StrBytes};

use super::carried::answer_of;
use crate::base::limits::{MARKERS_WITHIN_MS, UNKNOWN_GONE_MS};
use crate::base::{ErrorCode, IdMap, LeaderEpoch, LogId, Mono, Name, NodeId, ShardId};
use crate::broker::fx::Fx;
use crate::broker::msg::{ControlCall, MarkerAsker, MarkerPart, Msg, ReqRef};
use crate::controller::Image;
use crate::txn::{MarkersToSend, TxnPartition, TxnVersion};
use crate::wire::{Api, RequestHeader};

/// The version in which nodes ask each other; before transactions of version 2 there may be nodes that do not know the
/// newer one.
const fn call_version(of: TxnVersion) -> i16 {
    match of.bumps_epoch() {
        true => 2,
        false => 1,
    }
}

/// What a marker says of it; it may be any number that was read from a record.
const fn marker_version(of: TxnVersion) -> i8 {
    match of.bumps_epoch() {
        true => 2,
        false => 0,
    }
}

/// Markers of one transaction that were sent together.
#[derive(Debug)]
struct Sent {
    /// The partition of `__transaction_state`, the id, and the round.
    of: (i32, Name, u64),
    version: TxnVersion,
    /// Those of which nothing is known yet, by slot, and how many they are.
    partitions: Vec<Option<TxnPartition>>,
    left: usize,
}

/// What has come of markers: of whom, and an error for each partition.
pub struct Marked {
    pub partition: i32,
    pub id: Name,
    pub round: u64,
    pub results: Vec<(TxnPartition, ErrorCode)>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct MarkerSending {
    sent: IdMap<u64, Sent>,
    /// The numbers in the order of their times, which are all as far away.
    order: VecDeque<(Mono, u64)>,
}

/// Where the log of a partition is led.
enum Place {
    Here(ShardId, LogId),
    Node(NodeId),
}

/// What is known where markers are sent from.
pub struct MarkerCx<'a> {
    pub image: &'a Image,
    pub me: NodeId,
    /// The shard that owns each store of this node.
    pub owners: &'a [ShardId],
}

impl MarkerCx<'_> {
    fn place(&self, (topic, index): &TxnPartition) -> Result<Place, ErrorCode> {
        let topic = self.image.topic(topic);
        let partition = topic.and_then(|topic| topic.partition(*index));
        let partition = partition.ok_or(ErrorCode::UnknownTopicOrPartition)?;
        if partition.leader != self.me {
            return match partition.leader.0 {
                0.. => Ok(Place::Node(partition.leader)),
                _ => Err(ErrorCode::LeaderNotAvailable),
            };
        }
        let store = partition.store.ok_or(ErrorCode::LeaderNotAvailable)?;
        let owner = self.owners.get(usize::from(store.0));
        let owner = owner.ok_or(ErrorCode::LeaderNotAvailable)?;
        Ok(Place::Here(*owner, partition.log))
    }
}

impl MarkerSending {
    /// When [`MarkerSending::overdue`] has something to say.
    pub fn next_deadline(&self) -> Mono {
        self.order.front().map_or(Mono::NEVER, |(until, _)| *until)
    }

    /// Sends markers of a partition's coordinator, which is there in this epoch; what is known at once is returned.
    pub fn send(
        &mut self,
        cx: &MarkerCx<'_>,
        (partition, epoch): (i32, LeaderEpoch),
        markers: MarkersToSend,
        mut number: impl FnMut() -> u64,
        fx: &mut Fx<'_>,
    ) -> Marked {
        let mut marked = Marked {
            partition,
            id: markers.id.clone(),
            round: markers.round,
            results: Vec::new(),
        };
        let is_old = fx.now.wall_ms.saturating_sub(markers.decided_ms) > UNKNOWN_GONE_MS;
        let (mut here, mut there) = (BTreeMap::new(), BTreeMap::new());
        for it in &markers.partitions {
            match cx.place(it) {
                Ok(Place::Here(shard, log)) => {
                    let all: &mut Vec<_> = here.entry(shard).or_default();
                    all.push((it.clone(), log));
                }
                Ok(Place::Node(node)) => {
                    let all: &mut Vec<TxnPartition> = there.entry(node).or_default();
                    all.push(it.clone());
                }
                // It was there, so it is deleted; unless this node has not heard yet that it was made.
                Err(ErrorCode::UnknownTopicOrPartition) if is_old => {
                    marked.results.push((it.clone(), ErrorCode::None));
                }
                Err(error) => marked.results.push((it.clone(), error)),
            }
        }
        let until = fx.now.mono.plus_ms(MARKERS_WITHIN_MS);
        let mut note = |partitions: Vec<TxnPartition>| {
            let number = number();
            let of = (partition, markers.id.clone(), markers.round);
            let sent = Sent {
                of,
                version: markers.version,
                left: partitions.len(),
                partitions: partitions.into_iter().map(Some).collect(),
            };
            self.sent.insert(number, sent);
            self.order.push_back((until, number));
            number
        };
        for (shard, all) in here {
            let part = |(slot, (_, log)): (usize, &(TxnPartition, _))| MarkerPart {
                slot: slot as u32,
                log: *log,
                producer_id: markers.producer.id,
                producer_epoch: markers.producer.epoch,
                coordinator_epoch: epoch.0,
                commits: markers.commits,
                version: marker_version(markers.version),
            };
            let parts = all.iter().enumerate().map(part).collect();
            let id = note(all.into_iter().map(|(it, _)| it).collect());
            let asker = MarkerAsker::Coordinator(ReqRef::of_transactions(fx.me, id));
            let markers = parts;
            fx.send(shard, Msg::WriteMarkers { asker, markers });
        }
        for (node, all) in there {
            let call = Box::new(request(&markers, epoch, &all));
            let req = ReqRef::of_transactions(fx.me, note(all));
            fx.send(ShardId(0), Msg::CallNode { req, node, call });
        }
        marked
    }

    /// A partition is coordinated here no more. What comes of its markers is nothing to who coordinates it here later,
    /// whose rounds begin anew.
    pub fn forget(&mut self, partition: i32) {
        self.sent.retain(|_, sent| sent.of.0 != partition);
    }

    /// A shard of this node has written some, or refused them.
    pub fn written(&mut self, number: u64, results: &[(u32, ErrorCode)]) -> Option<Marked> {
        let sent = self.sent.get_mut(&number)?;
        let (partition, id, round) = sent.of.clone();
        let mut known = Vec::new();
        for (slot, error) in results {
            let waiting = sent.partitions.get_mut(*slot as usize);
            if let Some(it) = waiting.and_then(Option::take) {
                sent.left -= 1;
                known.push((it, *error));
            }
        }
        if sent.left == 0 {
            self.sent.remove(&number);
        }
        Some(Marked {
            partition,
            id,
            round,
            results: known,
        })
    }

    /// Another node has answered, or is lost.
    pub fn called(&mut self, number: u64, answer: Result<Bytes, String>) -> Option<Marked> {
        let sent = self.sent.remove(&number)?;
        let version = call_version(sent.version);
        let errors = answer.and_then(|frame| answer_of::<WriteTxnMarkersRequest>(frame, version));
        let mut known = BTreeMap::new();
        match errors {
            Ok(response) => {
                let topics = response.markers.into_iter().flat_map(|it| it.topics);
                for topic in topics {
                    for it in topic.partitions {
                        let code = ErrorCode::from_code(it.error_code);
                        let code = code.unwrap_or(ErrorCode::UnknownServerError);
                        known.insert((topic.name.to_string(), it.partition_index), code);
                    }
                }
            }
            Err(why) => tracing::debug!("markers of {}: {why}", sent.of.1),
        }
        Some(of_all(sent, |it| {
            let code = known.get(&(it.0.to_string(), it.1));
            code.copied().unwrap_or(ErrorCode::RequestTimedOut)
        }))
    }

    /// The next ones of which nothing was heard for too long.
    pub fn overdue(&mut self, now: Mono) -> Option<Marked> {
        while let Some(&(until, number)) = self.order.front() {
            let is_known = self.sent.contains_key(&number);
            if is_known && until > now {
                return None;
            }
            self.order.pop_front();
            if let Some(sent) = self.sent.remove(&number) {
                return Some(of_all(sent, |_| ErrorCode::RequestTimedOut));
            }
        }
        None
    }
}

fn of_all(sent: Sent, error: impl Fn(&TxnPartition) -> ErrorCode) -> Marked {
    let (partition, id, round) = sent.of;
    let results = sent.partitions.into_iter().flatten().map(|it| {
        let error = error(&it);
        (it, error)
    });
    Marked {
        partition,
        id,
        round,
        results: results.collect(),
    }
}

/// What another node is asked for.
fn request(
    markers: &MarkersToSend,
    epoch: LeaderEpoch,
    partitions: &[TxnPartition],
) -> ControlCall {
    let mut marker = WritableTxnMarker::default();
    marker.producer_id = markers.producer.id;
    marker.producer_epoch = markers.producer.epoch;
    marker.transaction_result = markers.commits;
    marker.coordinator_epoch = epoch.0;
    marker.transaction_version = marker_version(markers.version);
    for topic in partitions.chunk_by(|one, next| one.0 == next.0) {
        let mut of_topic = WritableTxnMarkerTopic::default();
        of_topic.name = StrBytes::from(&*topic[0].0);
        of_topic.partition_indexes = topic.iter().map(|it| it.1).collect();
        marker.topics.push(of_topic);
    }
    let mut request = WriteTxnMarkersRequest::default();
    request.markers.push(marker);
    let version = call_version(markers.version);
    let body = request.encode_to_bytes(ApiVersion::new(version));
    ControlCall {
        header: RequestHeader {
            key: Api::WRITE_TXN_MARKERS,
            version,
            correlation_id: 0,
            client_id: None,
        },
        // It is in the version, and its names are those of topics.
        body: body.unwrap_or_default(),
        listener: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::name;

    #[test]
    fn what_comes_of_markers_is_for_who_has_sent_them() {
        let mut sending = MarkerSending::default();
        for (number, partition) in [(1, 4), (2, 5)] {
            let sent = Sent {
                of: (partition, name("id"), 1),
                version: TxnVersion::V2,
                partitions: vec![Some((name("topic"), 0))],
                left: 1,
            };
            sending.sent.insert(number, sent);
            sending.order.push_back((Mono(number), number));
        }
        sending.forget(4);
        let ok = [(0, ErrorCode::None)];
        assert!(sending.written(1, &ok).is_none());
        let marked = sending.written(2, &ok).unwrap();
        assert_eq!((marked.partition, marked.results.len()), (5, 1));
        assert!(sending.overdue(Mono(9)).is_none() && sending.order.is_empty());
    }
}
