//! Topics that come into being because somebody asks for them
//! (`auto.create.topics.enable`, and the flag of Metadata from version 4 on).
//!
//! The shard that has a Metadata request goes as far as there is nothing to create; if there is, the control shard
//! commits the records of [`auto_create`] for [`topics_to_auto_create`], and then the request is answered from the new
//! image. Names that cannot be created are left out, and
//! the answer says why.

use bytes::Bytes;
use kafka_wire::MetadataRequest;
use kafka_wire::metadata_request::MetadataRequestTopic;

use super::handler::Ctx;
use crate::config::is_internal;
use crate::controller::{Draft, MetadataRecord, Terms, check_topic_name, create_missing};
use crate::wire::{self, RequestHeader};

/// The topics that have to be created before a Metadata request is answered; mostly none.
#[must_use]
pub fn topics_to_auto_create(ctx: &Ctx<'_>, header: &RequestHeader, body: Bytes) -> Vec<String> {
    if !ctx.config.auto_create_topics_enable {
        return Vec::new();
    }
    // A request that cannot be read is refused when it is answered.
    let Ok(request) = wire::decode::<MetadataRequest>(body, header.version) else {
        return Vec::new();
    };
    if !request.allow_auto_topic_creation {
        return Vec::new();
    }
    let topics = named_topics(header.version, &request).unwrap_or_default();
    let by_name = topics.iter().filter(|topic| topic.topic_id.is_zero());
    let names = by_name.filter_map(|topic| topic.name.as_deref());
    let missing = names.filter(|name| ctx.image.topic(name).is_none() && can_exist(name));
    missing.map(str::to_owned).collect()
}

/// The topics that a request names; `None` for all.
pub(super) fn named_topics(
    version: i16,
    request: &MetadataRequest,
) -> Option<&[MetadataRequestTopic]> {
    let topics = request.topics.as_deref()?;
    (version > 0 || !topics.is_empty()).then_some(topics)
}

/// Whether a topic that is missing is created for those who ask for it and allow it.
pub(super) fn may_be_created(ctx: &Ctx<'_>, name: &str) -> bool {
    ctx.config.auto_create_topics_enable && can_exist(name)
}

fn can_exist(name: &str) -> bool {
    check_topic_name(name).is_ok() && (!is_internal(name) || name == "__consumer_offsets")
}

/// The records that create those of the topics that are missing. Also for `__consumer_offsets`,
/// when the first group is looked for. None if there is nothing to do.
#[must_use]
pub fn auto_create(ctx: &mut Ctx<'_>, names: &[String]) -> Vec<MetadataRecord> {
    let mut draft = Draft::new(ctx.image);
    let mut terms = Terms::new(ctx.image, ctx.config, ctx.rng);
    create_missing(&mut draft, &mut terms, names.iter().map(String::as_str));
    draft.into_records()
}

#[cfg(test)]
mod tests {
    use kafka_wire::metadata_request::MetadataRequestTopic;

    use super::super::testing::{Cluster, text};
    use super::*;
    use crate::broker::apis;
    use crate::wire::client::encode_request;
    use crate::wire::parse_header;

    fn wanted(cluster: &mut Cluster, version: i16, allow: bool, names: &[&str]) -> Vec<String> {
        let one = |name: &&str| {
            let mut topic = MetadataRequestTopic::default();
            topic.name = Some(text(name));
            topic
        };
        let mut request = MetadataRequest::default();
        request.allow_auto_topic_creation = allow;
        request.topics = Some(names.iter().map(one).collect());
        let frame = encode_request(1, None, version, &request).unwrap();
        let (header, body) = parse_header(frame.slice(4..), apis::api).unwrap();
        topics_to_auto_create(&cluster.ctx(), &header, body)
    }

    #[test]
    fn missing_topics_are_wanted() {
        let mut cluster = Cluster::with(&[("a", 1)]);
        let names = [
            "a",
            "b",
            "no good",
            "__consumer_offsets",
            "__transaction_state",
        ];
        for version in 0..=13 {
            let want = ["b", "__consumer_offsets"];
            assert_eq!(wanted(&mut cluster, version, true, &names), want);
        }
        assert_eq!(wanted(&mut cluster, 4, false, &names), [""; 0]);
        cluster.config.auto_create_topics_enable = false;
        assert_eq!(wanted(&mut cluster, 4, true, &names), [""; 0]);
    }

    #[test]
    fn what_is_wanted_is_created_once() {
        let mut cluster = Cluster::new();
        cluster.config.num_partitions = 3;
        let names = ["b".to_owned(), "b".to_owned()];
        let records = auto_create(&mut cluster.ctx(), &names);
        cluster.commit(&records);
        assert_eq!(cluster.image.topic("b").unwrap().partitions.len(), 3);
        assert_eq!(auto_create(&mut cluster.ctx(), &names), []);
    }
}
