//! A response that ends with a list, written some elements at a time; an element that ends with a list itself may be
//! written in parts, and such a part in pieces.

use bytes::{Bytes, BytesMut};
use kafka_wire::{KafkaMessage, KafkaResponse};
use kafka_wire_core::{ApiVersion, EncodeError, KafkaEncode};

use super::codec::encode_response;
use super::error::WireError;
use super::writer::list_count;

/// Bytes of the length that a frame begins with.
const PREFIX: usize = 4;

/// See the module.
#[derive(Debug)]
pub struct ListFrame {
    correlation_id: i32,
    version: i16,
    flexible: bool,
    /// The frame as it is if nothing is listed, up to the list, and from it on.
    before: BytesMut,
    behind: Bytes,
    list: Level,
    /// What the element at hand lists,
    parts: Level,
    /// and what the part of it at hand lists.
    pieces: Level,
    /// Bytes of earlier slices.
    written: usize,
}

/// Elements of a list.
#[derive(Debug, Default)]
struct Level {
    /// Those of earlier slices.
    listed: Vec<Bytes>,
    some: BytesMut,
    count: usize,
}

impl Level {
    fn add(&mut self, version: i16, element: &impl KafkaEncode) -> Result<(), WireError> {
        element.encode_into(&mut self.some, ApiVersion::new(version))?;
        self.count += 1;
        Ok(())
    }

    /// The next element around what it lists, given as it is without.
    fn add_around(
        &mut self,
        (version, flexible): (i16, bool),
        empty: &impl KafkaEncode,
        inner: Self,
        bytes_behind: usize,
    ) -> Result<(), WireError> {
        self.add(version, empty)?;
        if inner.count == 0 {
            return Ok(());
        }
        let behind = self.some.len() - usize::from(flexible) - bytes_behind;
        let behind = self.some.split_off(behind);
        let none = list_count(flexible, 0).len();
        self.some.truncate(self.some.len() - none);
        let count = list_count(flexible, inner.count);
        self.some.extend_from_slice(&count);
        if inner.listed.is_empty() {
            self.some.extend_from_slice(&inner.some);
        } else {
            self.listed.push(std::mem::take(&mut self.some).freeze());
            self.listed.extend(inner.listed);
            self.listed.push(inner.some.freeze());
        }
        self.some.extend_from_slice(&behind);
        Ok(())
    }

    /// Puts away what was written; how many bytes.
    fn end_slice(&mut self) -> usize {
        let bytes = self.some.len();
        if bytes > 0 {
            self.listed.push(std::mem::take(&mut self.some).freeze());
        }
        bytes
    }
}

impl ListFrame {
    /// The response with an empty list. What is behind the list has so many bytes, besides tagged fields.
    ///
    /// # Errors
    /// If it cannot be written in this version, as from [`encode_response`].
    pub fn new<R: KafkaResponse>(
        correlation_id: i32,
        version: i16,
        empty: &R,
        bytes_behind: usize,
    ) -> Result<Self, WireError> {
        let frame = encode_response(correlation_id, version, empty)?;
        let flexible = <R as KafkaMessage>::is_flexible(ApiVersion::new(version));
        let count = list_count(flexible, 0).len();
        let behind = frame.len() - usize::from(flexible) - bytes_behind;
        Ok(Self {
            correlation_id,
            version,
            flexible,
            before: BytesMut::from(&frame[..behind - count]),
            behind: frame.slice(behind..),
            list: Level::default(),
            parts: Level::default(),
            pieces: Level::default(),
            written: 0,
        })
    }

    /// Says what is behind the list, by a response that has it and lists nothing.
    ///
    /// # Errors
    /// As from [`Self::new`].
    pub fn set_behind<R: KafkaResponse>(&mut self, response: &R) -> Result<(), WireError> {
        let frame = encode_response(self.correlation_id, self.version, response)?;
        let list = self.before.len() + list_count(self.flexible, 0).len();
        self.behind = frame.slice(list..);
        Ok(())
    }

    /// Writes the next element.
    ///
    /// # Errors
    /// As from [`Self::new`].
    pub fn add(&mut self, element: &impl KafkaEncode) -> Result<(), WireError> {
        self.list.add(self.version, element)
    }

    /// Writes the next part of the next element.
    ///
    /// # Errors
    /// As from [`Self::new`].
    pub fn add_part(&mut self, part: &impl KafkaEncode) -> Result<(), WireError> {
        self.parts.add(self.version, part)
    }

    /// Writes the next piece of the next part.
    ///
    /// # Errors
    /// As from [`Self::new`].
    pub fn add_piece(&mut self, piece: &impl KafkaEncode) -> Result<(), WireError> {
        self.pieces.add(self.version, piece)
    }

    /// Parts of the next element that were written.
    #[must_use]
    pub const fn parts(&self) -> usize {
        self.parts.count
    }

    /// Pieces of the next part that were written.
    #[must_use]
    pub const fn pieces(&self) -> usize {
        self.pieces.count
    }

    /// Writes the next element around its parts, given as it is without. What is behind them has so many bytes, besides
    /// tagged fields.
    ///
    /// # Errors
    /// As from [`Self::new`].
    pub fn add_around(
        &mut self,
        empty: &impl KafkaEncode,
        bytes_behind: usize,
    ) -> Result<(), WireError> {
        let parts = std::mem::take(&mut self.parts);
        let form = (self.version, self.flexible);
        self.list.add_around(form, empty, parts, bytes_behind)
    }

    /// Writes the next part around its pieces, in the same way.
    ///
    /// # Errors
    /// As from [`Self::new`].
    pub fn add_part_around(
        &mut self,
        empty: &impl KafkaEncode,
        bytes_behind: usize,
    ) -> Result<(), WireError> {
        let pieces = std::mem::take(&mut self.pieces);
        let form = (self.version, self.flexible);
        self.parts.add_around(form, empty, pieces, bytes_behind)
    }

    /// Bytes that were written in earlier slices.
    #[must_use]
    pub const fn written(&self) -> usize {
        self.written
    }

    /// Puts away what was written in a slice, so that it is not copied as it becomes more.
    pub fn end_slice(&mut self) {
        for level in [&mut self.list, &mut self.parts, &mut self.pieces] {
            self.written += level.end_slice();
        }
    }

    /// The frame, when all is listed.
    ///
    /// # Errors
    /// If it is longer than a frame can be.
    pub fn finish(&mut self) -> Result<Vec<Bytes>, WireError> {
        self.end_slice();
        let mut before = std::mem::take(&mut self.before);
        before.extend_from_slice(&list_count(self.flexible, self.list.count));
        let listed: usize = self.list.listed.iter().map(Bytes::len).sum();
        let bytes = before.len() + listed + self.behind.len() - PREFIX;
        let len = i32::try_from(bytes).map_err(|_| EncodeError::FrameTooLarge { bytes })?;
        before[..PREFIX].copy_from_slice(&len.to_be_bytes());
        let mut pieces = vec![before.freeze()];
        pieces.append(&mut self.list.listed);
        pieces.push(std::mem::take(&mut self.behind));
        Ok(pieces)
    }
}

#[cfg(test)]
mod tests {
    use kafka_wire::ListOffsetsResponse;
    use kafka_wire::list_offsets_response::{
        ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
    };

    use super::*;

    #[test]
    fn what_is_written_in_parts_is_what_is_written_at_once() {
        for version in 1..=11 {
            let mut whole = ListOffsetsResponse::default();
            let mut frame = ListFrame::new(7, version, &whole, 0).unwrap();
            for (name, partitions) in [("a", 3), ("none", 0), ("b", 200), ("c", 1)] {
                let mut topic = ListOffsetsTopicResponse::default();
                topic.name = name.into();
                for index in 0..partitions {
                    let mut partition = ListOffsetsPartitionResponse::default();
                    partition.partition_index = index;
                    frame.add_part(&partition).unwrap();
                    topic.partitions.push(partition);
                    if index % 50 == 49 {
                        frame.end_slice();
                    }
                }
                assert_eq!(frame.parts(), topic.partitions.len());
                let mut empty = topic.clone();
                empty.partitions.clear();
                frame.add_around(&empty, 0).unwrap();
                whole.topics.push(topic);
            }
            let pieces = frame.finish().unwrap();
            let at_once = encode_response(7, version, &whole).unwrap();
            assert_eq!(pieces.concat(), at_once, "version {version}");
        }
    }

    #[test]
    fn what_is_written_in_pieces_is_what_is_written_at_once() {
        use kafka_wire::OffsetFetchResponse;
        use kafka_wire::offset_fetch_response::{
            OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
        };
        for version in 8..=10 {
            let mut whole = OffsetFetchResponse::default();
            let mut frame = ListFrame::new(7, version, &whole, 0).unwrap();
            for partitions in [[3, 0, 200], [0, 0, 0], [1, 200, 1]] {
                let mut group = OffsetFetchResponseGroup::default();
                for partitions in partitions {
                    let mut topic = OffsetFetchResponseTopics::default();
                    for index in 0..partitions {
                        let mut partition = OffsetFetchResponsePartitions::default();
                        partition.partition_index = index;
                        frame.add_piece(&partition).unwrap();
                        topic.partitions.push(partition);
                        if index % 50 == 49 {
                            frame.end_slice();
                        }
                    }
                    assert_eq!(frame.pieces(), topic.partitions.len());
                    let empty = OffsetFetchResponseTopics::default();
                    frame.add_part_around(&empty, 0).unwrap();
                    group.topics.push(topic);
                }
                let empty = OffsetFetchResponseGroup::default();
                frame.add_around(&empty, 2).unwrap();
                whole.groups.push(group);
            }
            let pieces = frame.finish().unwrap();
            let at_once = encode_response(7, version, &whole).unwrap();
            assert_eq!(pieces.concat(), at_once, "version {version}");
        }
    }
}
