//! Requests that list much, read some elements at a time: what is listed takes a few bytes of the request, and
//! some hundred nanoseconds of a core each.

use bytes::Bytes;
use kafka_wire::alter_configs_request::AlterConfigsResource;
use kafka_wire::create_partitions_request::CreatePartitionsTopic;
use kafka_wire::create_topics_request::CreatableTopic;
use kafka_wire::delete_topics_request::DeleteTopicState;
use kafka_wire::describe_configs_request::DescribeConfigsResource;
use kafka_wire::describe_topic_partitions_request::TopicRequest;
use kafka_wire::incremental_alter_configs_request::AlterConfigsResource as AlteredResource;
use kafka_wire::metadata_request::MetadataRequestTopic;
use kafka_wire::{
    AlterConfigsRequest, CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest,
    DescribeConfigsRequest, DescribeTopicPartitionsRequest, FindCoordinatorRequest,
    IncrementalAlterConfigsRequest, KafkaMessage, KafkaRequest, ListConfigResourcesRequest,
    MetadataRequest,
};
use kafka_wire_core::{ApiVersion, DecodeError, Decoder, KafkaDecode, StrBytes};

use super::codec::{self, decode};
use super::error::WireError;
use super::reader::Reader;
use super::shape;
use super::writer::list_count;
use crate::base::limits::{
    DECODE_BYTES_MAX, LISTED_BYTES_MAX, LISTED_ENTRIES_MAX, REQUEST_ENTRIES_MAX,
};

/// A request that lists much.
pub trait Lists: KafkaRequest + KafkaDecode + std::fmt::Debug {
    /// What is listed.
    type Item: std::fmt::Debug + Send;
    /// Whether there may be null in place of the list.
    const NULLABLE: bool = false;
    /// The version from which on there is the list.
    const SINCE: i16 = 0;
    /// Bytes before it.
    const BYTES_BEFORE: usize = 0;

    /// Reads one.
    ///
    /// # Errors
    /// If it is malformed.
    fn item(decoder: &mut Decoder, version: ApiVersion) -> Result<Self::Item, DecodeError>;

    /// What one takes of a slice, besides itself: so many things are listed in it, or it has as much [text](text_size).
    fn entries(item: &Self::Item) -> usize;
}

/// Bytes of text that take as long as an element of a list.
const BYTES_AS_ITEM: usize = 64;

/// What a text takes of a slice, besides what has it.
#[must_use]
pub fn text_size(text: &StrBytes) -> usize {
    text.len() / BYTES_AS_ITEM
}

/// The same of a text that may be missing.
#[must_use]
pub fn maybe_text_size(text: Option<&StrBytes>) -> usize {
    text.map_or(0, text_size)
}

/// What finding a text's place among others takes: those that begin alike are compared to their ends.
#[must_use]
pub fn sought_size(text: &StrBytes) -> usize {
    2 * text_size(text)
}

/// What settings with these keys and values take.
fn entries_of<'a>(settings: impl Iterator<Item = (&'a StrBytes, &'a Option<StrBytes>)>) -> usize {
    let entries = settings.map(|(key, value)| 1 + text_size(key) + maybe_text_size(value.as_ref()));
    entries.sum()
}

impl Lists for CreateTopicsRequest {
    type Item = CreatableTopic;

    fn item(decoder: &mut Decoder, version: ApiVersion) -> Result<Self::Item, DecodeError> {
        CreatableTopic::decode(decoder, version)
    }

    fn entries(topic: &CreatableTopic) -> usize {
        let configs = topic.configs.iter();
        let configs = entries_of(configs.map(|config| (&config.name, &config.value)));
        text_size(&topic.name) + topic.assignments.len() + configs
    }
}

impl Lists for CreatePartitionsRequest {
    type Item = CreatePartitionsTopic;

    fn item(decoder: &mut Decoder, version: ApiVersion) -> Result<Self::Item, DecodeError> {
        CreatePartitionsTopic::decode(decoder, version)
    }

    fn entries(topic: &CreatePartitionsTopic) -> usize {
        text_size(&topic.name) + topic.assignments.as_ref().map_or(0, Vec::len)
    }
}

impl Lists for AlterConfigsRequest {
    type Item = AlterConfigsResource;

    fn item(decoder: &mut Decoder, version: ApiVersion) -> Result<Self::Item, DecodeError> {
        AlterConfigsResource::decode(decoder, version)
    }

    fn entries(resource: &AlterConfigsResource) -> usize {
        let configs = resource.configs.iter();
        let configs = entries_of(configs.map(|config| (&config.name, &config.value)));
        text_size(&resource.resource_name) + configs
    }
}

impl Lists for IncrementalAlterConfigsRequest {
    type Item = AlteredResource;

    fn item(decoder: &mut Decoder, version: ApiVersion) -> Result<Self::Item, DecodeError> {
        AlteredResource::decode(decoder, version)
    }

    fn entries(resource: &AlteredResource) -> usize {
        let configs = resource.configs.iter();
        let configs = entries_of(configs.map(|config| (&config.name, &config.value)));
        text_size(&resource.resource_name) + configs
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

    fn entries(topic: &DeleteTopicState) -> usize {
        maybe_text_size(topic.name.as_ref())
    }
}

impl Lists for MetadataRequest {
    type Item = MetadataRequestTopic;
    const NULLABLE: bool = true;

    fn item(decoder: &mut Decoder, version: ApiVersion) -> Result<Self::Item, DecodeError> {
        MetadataRequestTopic::decode(decoder, version)
    }

    fn entries(topic: &MetadataRequestTopic) -> usize {
        // It is told by its name from all others.
        1 + maybe_text_size(topic.name.as_ref())
    }
}

impl Lists for DescribeConfigsRequest {
    type Item = DescribeConfigsResource;

    fn item(decoder: &mut Decoder, version: ApiVersion) -> Result<Self::Item, DecodeError> {
        DescribeConfigsResource::decode(decoder, version)
    }

    fn entries(resource: &DescribeConfigsResource) -> usize {
        let keys = resource.configuration_keys.iter().flatten();
        let keys: usize = keys.map(|key| 1 + text_size(key)).sum();
        text_size(&resource.resource_name) + keys
    }
}

impl Lists for DescribeTopicPartitionsRequest {
    type Item = TopicRequest;

    fn item(decoder: &mut Decoder, version: ApiVersion) -> Result<Self::Item, DecodeError> {
        TopicRequest::decode(decoder, version)
    }

    fn entries(topic: &TopicRequest) -> usize {
        text_size(&topic.name)
    }
}

impl Lists for FindCoordinatorRequest {
    type Item = StrBytes;
    const SINCE: i16 = 4;
    const BYTES_BEFORE: usize = 1;

    fn item(decoder: &mut Decoder, _: ApiVersion) -> Result<Self::Item, DecodeError> {
        decoder.read_compact_string()
    }

    fn entries(key: &StrBytes) -> usize {
        text_size(key)
    }
}

impl Lists for ListConfigResourcesRequest {
    type Item = i8;
    const SINCE: i16 = 1;

    fn item(decoder: &mut Decoder, _: ApiVersion) -> Result<Self::Item, DecodeError> {
        decoder.read_i8()
    }

    fn entries(_: &i8) -> usize {
        0
    }
}

/// See the module.
#[derive(Debug)]
pub struct ListedRequest<Q> {
    body: Bytes,
    version: i16,
    /// Looks at an element before it is decoded.
    reader: Reader,
    decoder: Decoder,
    /// Where the decoder began.
    start: usize,
    /// How many elements there are, if null is not in their place.
    listed: Option<usize>,
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
        const WHAT: &str = "list";
        let bytes = body.len();
        if bytes > LISTED_BYTES_MAX {
            return Err(WireError::TooLong { bytes });
        }
        let flexible = Q::is_flexible(ApiVersion::new(version));
        let mut reader = Reader::with_entries(body.clone(), flexible, LISTED_ENTRIES_MAX);
        let mut listed = None;
        if version >= Q::SINCE {
            reader.skip(Q::BYTES_BEFORE, WHAT)?;
            let at = reader.position();
            listed = reader.nullable_count(1, WHAT)?;
            if listed.is_none() && !Q::NULLABLE {
                return Err(WireError::Malformed { what: WHAT, at });
            }
        }
        let start = reader.position();
        let limits = codec::limits(bytes, REQUEST_ENTRIES_MAX);
        Ok(Self {
            decoder: Decoder::new(body.slice(start..), limits)?,
            body,
            version,
            reader,
            start,
            listed,
            left: listed.unwrap_or(0),
            of: std::marker::PhantomData,
        })
    }

    /// How many elements it lists; none if it has null in their place.
    #[must_use]
    pub const fn listed(&self) -> Option<usize> {
        self.listed
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
        let key = Q::API_KEY.value();
        shape::check_element(key, self.version, &mut self.reader)?;
        let item = Q::item(&mut self.decoder, ApiVersion::new(self.version))?;
        Ok(Some(item))
    }

    /// The request with an empty list, when all that was listed is read.
    ///
    /// # Errors
    /// If what is behind the list is malformed.
    pub fn rest(self) -> Result<Q, WireError> {
        debug_assert_eq!(self.left, 0);
        if self.version < Q::SINCE {
            return decode(self.body, self.version);
        }
        let flexible = Q::is_flexible(ApiVersion::new(self.version));
        let mut rest = self.body[..Q::BYTES_BEFORE].to_vec();
        rest.extend(list_count(flexible, 0));
        let behind = &self.body[self.start + self.decoder.offset()..];
        // What is too long to be decoded is not copied as a whole either.
        rest.extend_from_slice(&behind[..behind.len().min(DECODE_BYTES_MAX + 1)]);
        decode(rest.into(), self.version)
    }
}

#[cfg(test)]
mod tests {
    use kafka_wire_core::KafkaEncode;

    use super::*;

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
    fn keys_of_coordinators_come_behind_their_kind() {
        for version in 0..=6 {
            let mut request = FindCoordinatorRequest::default();
            request.key_type = i8::from(version > 0);
            match version {
                ..4 => request.key = "k".into(),
                _ => request.coordinator_keys = vec!["a".into(), "b".into()],
            }
            let body = body(&request, version);
            let listed = ListedRequest::<FindCoordinatorRequest>::new(body.clone(), version);
            let wanted = (version >= 4).then_some(2);
            assert_eq!(listed.unwrap().listed(), wanted, "version {version}");
            let (items, rest) = read::<FindCoordinatorRequest>(body, version).unwrap();
            assert_eq!(items, std::mem::take(&mut request.coordinator_keys));
            assert_eq!(rest, request);
        }
    }

    #[test]
    fn limits_hold() {
        // Names without a letter.
        let names = |count: usize| {
            let mut body = (count as i32).to_be_bytes().to_vec();
            body.resize(body.len() + 2 * count + 4, 0);
            read::<DeleteTopicsRequest>(body.into(), 1)
        };
        assert_eq!(
            names(LISTED_ENTRIES_MAX).unwrap().0.len(),
            LISTED_ENTRIES_MAX
        );
        assert!(matches!(
            names(LISTED_ENTRIES_MAX + 1),
            Err(WireError::TooManyEntries { .. })
        ));
        let long = Bytes::from(vec![0; LISTED_BYTES_MAX + 1]);
        assert!(ListedRequest::<DeleteTopicsRequest>::new(long.clone(), 1).is_err());
        assert!(ListedRequest::<DeleteTopicsRequest>::new(long.slice(1..), 1).is_ok());
        // No topic, no timeout, and much that is ignored.
        let ignored = long.slice(..DECODE_BYTES_MAX);
        let (items, rest) = read::<DeleteTopicsRequest>(ignored, 1).unwrap();
        assert_eq!((items.len(), rest.timeout_ms), (0, 0));
    }

    /// However many elements there may be, each is decoded at once.
    #[test]
    fn one_element_has_a_bound_of_its_own() {
        let configs = |count: usize| {
            let mut topic = CreatableTopic::default();
            topic.configs = vec![Default::default(); count];
            let mut request = CreateTopicsRequest::default();
            request.topics = vec![topic; 3];
            read::<CreateTopicsRequest>(body(&request, 5), 5)
        };
        assert_eq!(configs(REQUEST_ENTRIES_MAX).unwrap().0.len(), 3);
        let one_more = configs(REQUEST_ENTRIES_MAX + 1);
        assert!(matches!(one_more, Err(WireError::TooManyEntries { .. })));
    }
}
