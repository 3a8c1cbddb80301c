//! Requests that begin with a list, read some elements at a time: what is listed takes a few bytes of the request, and
//! some hundred nanoseconds of a core each.

use bytes::Bytes;
use kafka_wire::alter_configs_request::AlterConfigsResource;
use kafka_wire::create_partitions_request::CreatePartitionsTopic;
use kafka_wire::create_topics_request::CreatableTopic;
use kafka_wire::delete_topics_request::DeleteTopicState;
use kafka_wire::incremental_alter_configs_request::AlterConfigsResource as AlteredResource;
use kafka_wire::metadata_request::MetadataRequestTopic;
use kafka_wire::{
    AlterConfigsRequest, CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest,
    IncrementalAlterConfigsRequest, KafkaMessage, KafkaRequest, MetadataRequest,
};
use kafka_wire_core::{ApiVersion, DecodeError, Decoder, KafkaDecode, StrBytes};

use super::codec::{self, decode};
use super::error::WireError;
use super::writer::list_count;

/// A request that begins with a list.
pub trait Lists: KafkaRequest + KafkaDecode + std::fmt::Debug {
    /// What is listed.
    type Item: std::fmt::Debug + Send;
    /// Whether there may be null in place of the list.
    const NULLABLE: bool = false;

    /// Reads one.
    ///
    /// # Errors
    /// If it is malformed.
    fn item(decoder: &mut Decoder, version: ApiVersion) -> Result<Self::Item, DecodeError>;

    /// What one takes of a slice, besides itself: so many things are listed in it, or it has that many bytes times
    /// [`BYTES_AS_ITEM`].
    fn entries(item: &Self::Item) -> usize;
}

/// Bytes of values that take as long as an element of a list.
pub const BYTES_AS_ITEM: usize = 64;

/// What settings with these values take.
fn entries_of<'a>(values: impl Iterator<Item = &'a Option<StrBytes>>) -> usize {
    let entries = values.map(|value| 1 + value.as_ref().map_or(0, StrBytes::len) / BYTES_AS_ITEM);
    entries.sum()
}

impl Lists for CreateTopicsRequest {
    type Item = CreatableTopic;

    fn item(decoder: &mut Decoder, version: ApiVersion) -> Result<Self::Item, DecodeError> {
        CreatableTopic::decode(decoder, version)
    }

    fn entries(topic: &CreatableTopic) -> usize {
        let values = topic.configs.iter().map(|config| &config.value);
        topic.assignments.len() + entries_of(values)
    }
}

impl Lists for CreatePartitionsRequest {
    type Item = CreatePartitionsTopic;

    fn item(decoder: &mut Decoder, version: ApiVersion) -> Result<Self::Item, DecodeError> {
        CreatePartitionsTopic::decode(decoder, version)
    }

    fn entries(topic: &CreatePartitionsTopic) -> usize {
        topic.assignments.as_ref().map_or(0, Vec::len)
    }
}

impl Lists for AlterConfigsRequest {
    type Item = AlterConfigsResource;

    fn item(decoder: &mut Decoder, version: ApiVersion) -> Result<Self::Item, DecodeError> {
        AlterConfigsResource::decode(decoder, version)
    }

    fn entries(resource: &AlterConfigsResource) -> usize {
        entries_of(resource.configs.iter().map(|config| &config.value))
    }
}

impl Lists for IncrementalAlterConfigsRequest {
    type Item = AlteredResource;

    fn item(decoder: &mut Decoder, version: ApiVersion) -> Result<Self::Item, DecodeError> {
        AlteredResource::decode(decoder, version)
    }

    fn entries(resource: &AlteredResource) -> usize {
        entries_of(resource.configs.iter().map(|config| &config.value))
    }
}

impl Lists for DeleteTopicsRequest {
    type Item = DeleteTopicState;

    fn item(decoder: &mut Decoder, version: ApiVersion) -> Result<Self::Item, DecodeError> {
        if version.value() >= 6 {
            return DeleteTopicState::decode(decoder, version);
        }
        let mut state = DeleteTopicState::default();
        state.name = Some(match Self::is_flexible(version) {
            true => decoder.read_compact_string()?,
            false => decoder.read_string()?,
        });
        Ok(state)
    }

    fn entries(_: &DeleteTopicState) -> usize {
        0
    }
}

impl Lists for MetadataRequest {
    type Item = MetadataRequestTopic;
    const NULLABLE: bool = true;

    fn item(decoder: &mut Decoder, version: ApiVersion) -> Result<Self::Item, DecodeError> {
        MetadataRequestTopic::decode(decoder, version)
    }

    fn entries(_: &MetadataRequestTopic) -> usize {
        0
    }
}

/// See the module.
#[derive(Debug)]
pub struct ListedRequest<Q> {
    body: Bytes,
    version: i16,
    decoder: Decoder,
    /// Elements that are still to be read.
    left: usize,
    of: std::marker::PhantomData<fn() -> Q>,
}

impl<Q: Lists> ListedRequest<Q> {
    /// Begins to read a request's body.
    ///
    /// # Errors
    /// As from [`decode`], as far as it is read.
    pub fn new(body: Bytes, version: i16) -> Result<Self, WireError> {
        let kafkas = ApiVersion::new(version);
        let mut decoder = codec::decoder::<Q>(body.clone(), kafkas)?;
        let length = match (Q::NULLABLE, Q::is_flexible(kafkas)) {
            (false, false) => Some(decoder.read_array_len()?),
            (false, true) => Some(decoder.read_compact_array_len()?),
            (true, false) => decoder.read_nullable_array_len()?,
            (true, true) => decoder.read_compact_nullable_array_len()?,
        };
        Ok(Self {
            body,
            version,
            decoder,
            left: length.map_or(0, |length| length.get()),
            of: std::marker::PhantomData,
        })
    }

    /// The next element.
    ///
    /// # Errors
    /// If it is malformed.
    pub fn read(&mut self) -> Result<Option<Q::Item>, WireError> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        self.left = left;
        let item = Q::item(&mut self.decoder, ApiVersion::new(self.version))?;
        Ok(Some(item))
    }

    /// The request with an empty list, when all that was listed is read.
    ///
    /// # Errors
    /// If what is behind the list is malformed.
    pub fn rest(self) -> Result<Q, WireError> {
        debug_assert_eq!(self.left, 0);
        let flexible = Q::is_flexible(ApiVersion::new(self.version));
        let mut rest = list_count(flexible, 0);
        rest.extend_from_slice(&self.body[self.decoder.offset()..]);
        decode(rest.into(), self.version)
    }
}

#[cfg(test)]
mod tests {
    use kafka_wire_core::KafkaEncode;

    use super::*;
    use crate::base::limits::{DECODE_BYTES_MAX, REQUEST_ENTRIES_MAX};

    fn body<Q: KafkaEncode>(request: &Q, version: i16) -> Bytes {
        let mut body = bytes::BytesMut::new();
        request
            .encode_into(&mut body, ApiVersion::new(version))
            .unwrap();
        body.freeze()
    }

    /// Reads a request bit by bit: what was listed, and the rest.
    fn read<Q: Lists>(body: Bytes, version: i16) -> Result<(Vec<Q::Item>, Q), WireError> {
        let mut listed = ListedRequest::<Q>::new(body, version)?;
        let mut items = Vec::new();
        while let Some(item) = listed.read()? {
            items.push(item);
        }
        Ok((items, listed.rest()?))
    }

    #[test]
    fn what_is_read_in_parts_is_what_is_read_at_once() {
        for version in 2..=7 {
            let mut request = CreateTopicsRequest::default();
            for name in ["a", "b"] {
                let mut topic = CreatableTopic::default();
                topic.name = name.into();
                topic.num_partitions = 7;
                request.topics.push(topic);
            }
            (request.timeout_ms, request.validate_only) = (9, true);
            let body = body(&request, version);
            let (items, rest) = read::<CreateTopicsRequest>(body.clone(), version).unwrap();
            assert_eq!(items, request.topics, "version {version}");
            assert_eq!((rest.timeout_ms, rest.validate_only), (9, true));
            assert!(read::<CreateTopicsRequest>(body.slice(..body.len() - 2), version).is_err());
            assert!(read::<CreateTopicsRequest>(body.slice(..9), version).is_err());
        }
    }

    #[test]
    fn topics_to_delete_are_names_or_states() {
        for version in 1..=6 {
            let mut request = DeleteTopicsRequest::default();
            let mut state = DeleteTopicState::default();
            state.name = Some("a".into());
            match version {
                6 => request.topics = vec![state.clone()],
                _ => request.topic_names = vec!["a".into()],
            }
            request.timeout_ms = 9;
            let read = read::<DeleteTopicsRequest>(body(&request, version), version);
            let (items, rest) = read.unwrap();
            assert_eq!(
                (items, rest.timeout_ms),
                (vec![state], 9),
                "version {version}"
            );
        }
    }

    #[test]
    fn a_list_may_be_null_where_kafka_has_it() {
        for version in 1..=12 {
            let mut request = MetadataRequest::default();
            request.topics = None;
            request.allow_auto_topic_creation = true;
            let (items, rest) = read::<MetadataRequest>(body(&request, version), version).unwrap();
            assert!(items.is_empty() && rest.allow_auto_topic_creation);
        }
        let null = Bytes::from_static(&[0xff; 4]);
        assert!(read::<AlterConfigsRequest>(null, 0).is_err());
    }

    #[test]
    fn limits_hold() {
        let many = (REQUEST_ENTRIES_MAX as i32 + 1).to_be_bytes();
        assert!(ListedRequest::<DeleteTopicsRequest>::new(many.to_vec().into(), 1).is_err());
        let long = Bytes::from(vec![0; DECODE_BYTES_MAX + 1]);
        assert!(ListedRequest::<DeleteTopicsRequest>::new(long.clone(), 1).is_err());
        // No topic, no timeout, and much that is ignored.
        let (items, rest) = read::<DeleteTopicsRequest>(long.slice(1..), 1).unwrap();
        assert_eq!((items.len(), rest.timeout_ms), (0, 0));
    }
}
