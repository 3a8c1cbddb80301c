//! Produce requests: made before the clock starts, or made from templates where
//! records carry their identity.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use millrace::base::crc::crc32c;
use millrace::record::HEADER_LEN;
use millrace::wire::TopicRef;
use millrace::wire::client::encode_produce;
use millrace::wire::produce::{ProducePartition, ProduceRequest, ProduceTopic};

use crate::layout::Layout;
use crate::pace::Due;
use crate::payload::Template;
use crate::stamp::Stamp;
use crate::stats::Window;
use millrace_client::CLIENT_ID;

/// From this version on, Produce names topics by id instead of by name.
pub const PRODUCE_BY_ID_SINCE: i16 = 13;
/// Where the correlation id lies in a request frame, after length, API key and version.
const CORRELATION_AT: std::ops::Range<usize> = 8..12;
/// Where the header of a batch has its checksum; it covers all that follows.
const CRC_AT: std::ops::Range<usize> = 17..21;
/// Where it has the producer's id, epoch and first sequence number.
const IDENTITY_AT: std::ops::Range<usize> = 43..57;

/// What all requests of a connection have in common.
pub struct Envelope {
    /// The topics.
    pub layout: Arc<Layout>,
    /// Version of Produce.
    pub version: i16,
    /// Acknowledgement to ask for.
    pub acks: i16,
    /// Milliseconds that the broker may take.
    pub timeout_ms: i32,
}

impl Envelope {
    /// The frame, in pieces, with batches for slots.
    fn frame(&self, correlation_id: i32, batches: Vec<(usize, Bytes)>) -> Vec<Bytes> {
        let mut by_topic: BTreeMap<usize, Vec<ProducePartition>> = BTreeMap::new();
        for (slot, batch) in batches {
            let slot = self.layout.slots[slot];
            by_topic
                .entry(slot.topic)
                .or_default()
                .push(ProducePartition {
                    index: slot.partition,
                    records: Some(batch),
                });
        }
        let topics = by_topic.into_iter().map(|(topic, partitions)| {
            let topic = &self.layout.topics[topic];
            ProduceTopic {
                topic: if self.version >= PRODUCE_BY_ID_SINCE {
                    TopicRef::Id(topic.id)
                } else {
                    TopicRef::Name(topic.name.as_str().into())
                },
                partitions,
            }
        });
        let request = ProduceRequest {
            transactional_id: None,
            acks: self.acks,
            timeout_ms: self.timeout_ms,
            topics: topics.collect(),
        };
        encode_produce(correlation_id, Some(CLIENT_ID), self.version, &request)
    }
}

/// A request made beforehand; only the correlation id, and for an idempotent producer its
/// identity, differ from one sending to the next.
pub struct Prebuilt {
    pieces: Vec<Bytes>,
    /// The pieces that are batches, with their slots.
    batches: Vec<Numbered>,
    /// Records of all batches.
    pub records: u32,
    /// Bytes of all batches.
    pub bytes: u64,
}

struct Numbered {
    piece: usize,
    slot: usize,
    records: u32,
    /// CRC of what follows the header.
    body_crc: u32,
}

impl Prebuilt {
    /// A request with these batches: slot, records, bytes.
    pub fn new(envelope: &Envelope, batches: &[(usize, u32, Bytes)]) -> Self {
        let given = batches
            .iter()
            .map(|(slot, _, batch)| (*slot, batch.clone()));
        let pieces = envelope.frame(0, given.collect());
        let numbered = batches.iter().map(|(slot, records, batch)| Numbered {
            // The batch goes out as it is: the piece with its address.
            piece: pieces
                .iter()
                .position(|piece| piece.as_ptr() == batch.as_ptr())
                .expect("a batch is a piece of its request"),
            slot: *slot,
            records: *records,
            body_crc: crc32c(&batch[HEADER_LEN..]),
        });
        Self {
            batches: numbered.collect(),
            records: batches.iter().map(|(_, records, _)| records).sum(),
            bytes: batches.iter().map(|(_, _, batch)| batch.len() as u64).sum(),
            pieces,
        }
    }

    /// The frame with this correlation id, from this producer.
    pub fn frame(&self, correlation_id: i32, identity: Option<&mut Identity>) -> Vec<Bytes> {
        let mut pieces = self.pieces.clone();
        let mut head = BytesMut::from(&pieces[0][..]);
        head[CORRELATION_AT].copy_from_slice(&correlation_id.to_be_bytes());
        pieces[0] = head.freeze();
        let Some(identity) = identity else {
            return pieces;
        };
        let mut whole = Vec::with_capacity(pieces.len() + self.batches.len());
        for (at, piece) in pieces.into_iter().enumerate() {
            match self.batches.iter().find(|batch| batch.piece == at) {
                Some(batch) => {
                    let first = identity.next(batch.slot, batch.records);
                    whole.push(identity.header(&piece, first, batch.body_crc));
                    whole.push(piece.slice(HEADER_LEN..));
                }
                None => whole.push(piece),
            }
        }
        whole
    }
}

/// An idempotent producer, and how far it is with each slot.
pub struct Identity {
    id: i64,
    epoch: i16,
    sequences: BTreeMap<usize, i32>,
}

impl Identity {
    /// A producer that has sent nothing yet.
    pub const fn new(id: i64, epoch: i16) -> Self {
        Self {
            id,
            epoch,
            sequences: BTreeMap::new(),
        }
    }

    /// Takes the sequence numbers of `records` records; returns the first.
    fn next(&mut self, slot: usize, records: u32) -> i32 {
        let next = self.sequences.entry(slot).or_default();
        let first = *next;
        // After the largest comes 0.
        *next = ((i64::from(first) + i64::from(records)) & i64::from(i32::MAX)) as i32;
        first
    }

    /// The header of `batch` in this producer's name. The checksum of the body is known, so the
    /// bytes of the batch are not looked at again.
    fn header(&self, batch: &[u8], first: i32, body_crc: u32) -> Bytes {
        let mut header = BytesMut::from(&batch[..HEADER_LEN]);
        let identity = &mut header[IDENTITY_AT];
        identity[..8].copy_from_slice(&self.id.to_be_bytes());
        identity[8..10].copy_from_slice(&self.epoch.to_be_bytes());
        identity[10..].copy_from_slice(&first.to_be_bytes());
        let crc = crc_fast::checksum_combine(
            crc_fast::CrcAlgorithm::Crc32Iscsi,
            u64::from(crc32c(&header[CRC_AT.end..])),
            u64::from(body_crc),
            (batch.len() - HEADER_LEN) as u64,
        );
        header[CRC_AT].copy_from_slice(&(crc as u32).to_be_bytes());
        header.freeze()
    }

    /// The whole batch in this producer's name.
    fn sign(&mut self, slot: usize, records: u32, batch: &Bytes) -> Bytes {
        let first = self.next(slot, records);
        let header = self.header(batch, first, crc32c(&batch[HEADER_LEN..]));
        let mut signed = BytesMut::with_capacity(batch.len());
        signed.extend_from_slice(&header);
        signed.extend_from_slice(&batch[HEADER_LEN..]);
        signed.freeze()
    }
}

/// Makes requests whose records say who sent them as which one and when they were due.
pub struct Stamper {
    /// The run, as in every record.
    pub run: u64,
    /// The connection.
    pub producer: u16,
    /// What batches look like; they take turns.
    pub templates: Arc<[Template]>,
    /// Slots of a request; requests take turns.
    pub groups: Vec<Vec<usize>>,
    /// Number of the next record, by slot.
    pub sequences: BTreeMap<usize, u64>,
    turn: usize,
}

impl Stamper {
    /// A stamper that has made nothing yet.
    pub fn new(
        run: u64,
        producer: u16,
        templates: Arc<[Template]>,
        groups: Vec<Vec<usize>>,
    ) -> Self {
        Self {
            run,
            producer,
            templates,
            groups,
            sequences: BTreeMap::new(),
            turn: 0,
        }
    }

    /// The next request: its frame, the number of its records, the bytes of its batches.
    pub fn next(
        &mut self,
        envelope: &Envelope,
        correlation_id: i32,
        due: &Due,
        window: &Window,
        mut identity: Option<&mut Identity>,
    ) -> (Vec<Bytes>, u32, u64) {
        let group = &self.groups[self.turn % self.groups.len()];
        let mut batches = Vec::with_capacity(group.len());
        let (mut records, mut bytes) = (0, 0);
        for &slot in group {
            let template = &self.templates[(self.turn + slot) % self.templates.len()];
            let sequence = self.sequences.entry(slot).or_default();
            let timestamp_ms = window.wall_ns(due.first) / 1_000_000;
            let mut batch = template.batch(timestamp_ms as i64, |n, value| {
                let stamp = Stamp {
                    run: self.run,
                    producer: self.producer,
                    // Unique within the run, over all topics.
                    partition: slot as i32,
                    sequence: *sequence + n as u64,
                    intended_ns: window.wall_ns(due.record(records + n as u32)),
                };
                stamp.seal(value);
            });
            *sequence += u64::from(template.records());
            if let Some(identity) = &mut identity {
                batch = identity.sign(slot, template.records(), &batch);
            }
            records += template.records();
            bytes += batch.len() as u64;
            batches.push((slot, batch));
        }
        self.turn += 1;
        (envelope.frame(correlation_id, batches), records, bytes)
    }
}

#[cfg(test)]
mod tests {
    use millrace::base::TopicId;
    use millrace::record::{Codec, check_crc, parse};

    use super::*;
    use crate::payload::{Content, Fill, KeyOrder, Keys, Shape, Sizes};
    use millrace_client::{Partition, Topic};

    fn envelope() -> Envelope {
        let partition = Partition {
            index: 0,
            leader: 1,
            leader_epoch: 0,
            replicas: Vec::new(),
            isr: Vec::new(),
        };
        let topic = Topic {
            name: String::from("t"),
            id: TopicId([9; 16]),
            internal: false,
            partitions: vec![partition],
        };
        Envelope {
            layout: Arc::new(Layout::new(vec![topic])),
            version: 13,
            acks: -1,
            timeout_ms: 1000,
        }
    }

    fn template() -> Template {
        Shape {
            fill: Fill::Records(3),
            sizes: Sizes::fixed(100),
            content: Content::Text,
            keys: Keys::new(0, KeyOrder::Uniform),
            codec: Codec::None,
        }
        .template(1)
    }

    fn joined(frame: &[Bytes]) -> Vec<u8> {
        frame.concat()
    }

    /// The only batch of a frame.
    fn batch_in(frame: &[Bytes], len: usize) -> Vec<u8> {
        let whole = joined(frame);
        let at = whole
            .windows(4)
            .position(|w| w == (len as i32 - 12).to_be_bytes());
        let start = at.unwrap() - 8;
        whole[start..start + len].to_vec()
    }

    #[test]
    fn only_the_correlation_id_changes() {
        let batch = template().batch(0, |_, _| {});
        let request = Prebuilt::new(&envelope(), &[(0, 3, batch.clone())]);
        let (one, other) = (request.frame(0, None), request.frame(0x0102_0304, None));
        assert_eq!(other[0][CORRELATION_AT], [1, 2, 3, 4]);
        assert_eq!(one[0][..8], other[0][..8]);
        assert_eq!(one[0][12..], other[0][12..]);
        assert_eq!(one[1].as_ptr(), batch.as_ptr());
        assert_eq!((request.records, request.bytes), (3, batch.len() as u64));
    }

    #[test]
    fn an_idempotent_producers_batches_are_signed_and_numbered() {
        let batch = template().batch(0, |_, _| {});
        let request = Prebuilt::new(&envelope(), &[(0, 3, batch.clone())]);
        let mut identity = Identity::new(77, 5);
        for first in [0, 3, 6] {
            let frame = request.frame(1, Some(&mut identity));
            assert_eq!(joined(&frame).len(), joined(&request.frame(1, None)).len());
            let signed = batch_in(&frame, batch.len());
            let info = parse(&signed).unwrap();
            assert!(check_crc(&signed));
            assert_eq!(
                (info.producer_id, info.producer_epoch, info.base_sequence),
                (77, 5, first)
            );
            assert_eq!(signed[HEADER_LEN..], batch[HEADER_LEN..]);
        }
    }

    #[test]
    fn after_the_largest_sequence_comes_zero() {
        let mut identity = Identity::new(1, 0);
        identity.sequences.insert(0, i32::MAX - 1);
        assert_eq!(identity.next(0, 3), i32::MAX - 1);
        assert_eq!(identity.next(0, 3), 1);
    }

    #[test]
    fn stamped_records_say_who_which_and_when() {
        let window = Window::new(std::time::Duration::ZERO, std::time::Duration::ZERO, true);
        let due = Due {
            at: window.start,
            first: window.start,
            step: std::time::Duration::from_micros(10),
        };
        let mut stamper = Stamper::new(42, 3, vec![template()].into(), vec![vec![0]]);
        let mut identity = Identity::new(9, 0);
        for round in 0..2 {
            let (frame, records, bytes) =
                stamper.next(&envelope(), 1, &due, &window, Some(&mut identity));
            assert_eq!(records, 3);
            let batch = batch_in(&frame, bytes as usize);
            assert!(check_crc(&batch));
            let mut stamps = Vec::new();
            crate::walk::values(&parse(&batch).unwrap(), &batch, |_, value| {
                stamps.push(Stamp::read(value));
            })
            .unwrap();
            for (n, stamp) in (0..).zip(stamps) {
                let expected = Stamp {
                    run: 42,
                    producer: 3,
                    partition: 0,
                    sequence: round * 3 + n,
                    intended_ns: window.start_wall_ns + n * 10_000,
                };
                assert_eq!(stamp, crate::stamp::Reading::Stamp(expected));
            }
        }
    }
}
