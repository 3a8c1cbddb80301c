//! A response that ends with a list, written some elements at a time.

use bytes::{Bytes, BytesMut};
use kafka_wire::{KafkaMessage, KafkaResponse};
use kafka_wire_core::{ApiVersion, EncodeError, KafkaEncode};

use crate::wire::{self, RequestHeader, WireError};

/// Bytes of the length that a frame begins with.
const PREFIX: usize = 4;

/// See the module.
#[derive(Debug)]
pub(super) struct ListFrame {
    correlation_id: i32,
    version: i16,
    flexible: bool,
    /// The frame as it is if nothing is listed, up to the list, and from it on.
    before: BytesMut,
    behind: Bytes,
    listed: Vec<Bytes>,
    some: BytesMut,
    count: usize,
}

impl ListFrame {
    /// The response with an empty list. What is behind the list has so many bytes, besides tagged fields.
    pub fn new<R: KafkaResponse>(
        header: &RequestHeader,
        empty: &R,
        bytes_behind: usize,
    ) -> Result<Self, WireError> {
        let (correlation_id, version) = (header.correlation_id, header.version);
        let frame = wire::encode_response(correlation_id, version, empty)?;
        let flexible = <R as KafkaMessage>::is_flexible(ApiVersion::new(version));
        let count = wire::list_count(flexible, 0).len();
        let behind = frame.len() - usize::from(flexible) - bytes_behind;
        Ok(Self {
            correlation_id,
            version,
            flexible,
            before: BytesMut::from(&frame[..behind - count]),
            behind: frame.slice(behind..),
            listed: Vec::new(),
            some: BytesMut::new(),
            count: 0,
        })
    }

    /// Says what is behind the list, by a response that has it and lists nothing.
    pub fn set_behind<R: KafkaResponse>(&mut self, response: &R) -> Result<(), WireError> {
        let frame = wire::encode_response(self.correlation_id, self.version, response)?;
        let list = self.before.len() + wire::list_count(self.flexible, 0).len();
        self.behind = frame.slice(list..);
        Ok(())
    }

    /// Writes the next element.
    pub fn add(&mut self, element: &impl KafkaEncode) -> Result<(), WireError> {
        element.encode_into(&mut self.some, ApiVersion::new(self.version))?;
        self.count += 1;
        Ok(())
    }

    /// Puts away what was written in a slice, so that it is not copied as it becomes more.
    pub fn end_slice(&mut self) {
        if !self.some.is_empty() {
            self.listed.push(std::mem::take(&mut self.some).freeze());
        }
    }

    /// The frame, when all is listed.
    pub fn finish(&mut self) -> Result<Vec<Bytes>, WireError> {
        self.end_slice();
        let mut before = std::mem::take(&mut self.before);
        before.extend_from_slice(&wire::list_count(self.flexible, self.count));
        let listed: usize = self.listed.iter().map(Bytes::len).sum();
        let bytes = before.len() + listed + self.behind.len() - PREFIX;
        let len = i32::try_from(bytes).map_err(|_| EncodeError::FrameTooLarge { bytes })?;
        before[..PREFIX].copy_from_slice(&len.to_be_bytes());
        let mut pieces = vec![before.freeze()];
        pieces.append(&mut self.listed);
        pieces.push(std::mem::take(&mut self.behind));
        Ok(pieces)
    }
}
