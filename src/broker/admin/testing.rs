//! A broker's metadata for the tests of the handlers: requests and responses go
//! through their bytes, records are replayed.

use kafka_wire::{CreateTopicsRequest, RequestResponsePair};

use super::{Answer, Ctx, create_topics};
use crate::base::Rng;
use crate::config::BrokerConfig;
use crate::controller::{Image, MetadataRecord};
use crate::wire::client::{decode_response, encode_request};
use crate::wire::{RequestHeader, StrBytes, parse_header};

pub(super) struct Cluster {
    pub(super) image: Image,
    pub(super) config: BrokerConfig,
    /// Records of the last request.
    pub(super) committed: usize,
    rng: Rng,
}

impl Cluster {
    pub(super) fn new() -> Self {
        let mut image = Image::default();
        image
            .replay(&MetadataRecord::Cluster {
                id: "c1".to_owned(),
            })
            .unwrap();
        let config = BrokerConfig::default();
        Self {
            image,
            config,
            committed: 0,
            rng: Rng::new(3),
        }
    }

    /// With topics of these names and numbers of partitions.
    pub(super) fn with(topics: &[(&str, i32)]) -> Self {
        let mut cluster = Self::new();
        for (name, partitions) in topics {
            let request = new_topic(name, *partitions);
            let response = cluster.ask(7, &request, create_topics);
            assert_eq!(response.topics[0].error_code, 0, "{name}");
        }
        cluster
    }

    /// The answer of a handler to a request, after its records were replayed.
    pub(super) fn ask<Q: RequestResponsePair>(
        &mut self,
        version: i16,
        request: &Q,
        handle: impl FnOnce(&mut Ctx<'_>, &RequestHeader, bytes::Bytes) -> Answer,
    ) -> Q::Response {
        let frame = encode_request(5, Some("test"), version, request).unwrap();
        let (header, body) = parse_header(frame.slice(4..)).unwrap();
        let mut ctx = Ctx {
            image: &self.image,
            config: &self.config,
            listener: 0,
            rng: &mut self.rng,
            stores: 2,
        };
        let (records, reply) = match handle(&mut ctx, &header, body) {
            Answer::Reply(reply) => (Vec::new(), reply),
            Answer::Commit { records, reply } => (records, reply),
            Answer::Malformed(why) => panic!("{why}"),
        };
        self.commit(&records);
        let (id, response) = decode_response::<Q>(reply.slice(4..), version).unwrap();
        assert_eq!(id, 5);
        response
    }

    pub(super) fn commit(&mut self, records: &[MetadataRecord]) {
        for record in records {
            let bytes = record.encode();
            self.image
                .replay(&MetadataRecord::decode(&bytes).unwrap())
                .unwrap();
        }
        self.committed = records.len();
    }

    pub(super) fn ctx(&mut self) -> Ctx<'_> {
        Ctx {
            image: &self.image,
            config: &self.config,
            listener: 0,
            rng: &mut self.rng,
            stores: 2,
        }
    }
}

pub(super) fn new_topic(name: &str, partitions: i32) -> CreateTopicsRequest {
    let mut topic = kafka_wire::create_topics_request::CreatableTopic::default();
    topic.name = text(name);
    topic.num_partitions = partitions;
    topic.replication_factor = -1;
    let mut request = CreateTopicsRequest::default();
    request.topics = vec![topic];
    request
}

pub(super) fn text(text: &str) -> StrBytes {
    StrBytes::from(text)
}
