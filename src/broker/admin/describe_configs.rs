//! DescribeConfigs (32), versions 1-4.
//!
//! - Topics and brokers: every setting that Kafka has, and ours. Broker: by this node's id; the empty name
//!   is what clients have set for all brokers.
//! - Types from version 3 on, synonyms and documentation when asked for. Secrets are never told.
//! - Groups: every setting that Kafka has, whether there is such a group or not. Subscriptions to metrics of clients:
//!   Kafka's settings at their defaults, whatever the name. Loggers of a broker: none, because their levels cannot be
//!   changed here.
//! - Resources of other kinds are INVALID_REQUEST. A resource that comes twice is answered once. Those
//!   behind a bound on the answer's bytes are INVALID_REQUEST: a few bytes of a request become many of the answer.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use kafka_wire::describe_configs_request::DescribeConfigsResource;
use kafka_wire::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_wire::{DescribeConfigsRequest, DescribeConfigsResponse};
use kafka_wire_core::StrBytes;

use super::config_entries::{self, ConfigEntry, DEFAULT, Source};
use super::handler::{Answer, Ctx, outcome};
use super::listing::{List, list};
use super::once::Once;
use crate::base::limits::CONFIGS_BYTES_MAX;
use crate::base::{ErrorCode, Leftovers, Refused};
use crate::config::inert;
use crate::controller::check_topic_name;
use crate::wire::{Lists, RequestHeader, text_size};

/// The kinds of resources that have settings, numbered as on the wire.
pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;
pub(super) const BROKER_LOGGER: i8 = 8;
pub(super) const CLIENT_METRICS: i8 = 16;
pub(super) const GROUP: i8 = 32;

/// Answers a DescribeConfigs request. Reads only.
#[must_use]
pub fn describe_configs(ctx: &Ctx<'_>, header: &RequestHeader, body: Bytes) -> Answer {
    list::<Described>(ctx, header, body)
}

/// The resources that are described.
#[derive(Debug)]
struct Described {
    /// Each once.
    resources: Once<(i8, StrBytes), DescribeConfigsResource>,
    synonyms: bool,
    documentation: bool,
}

impl List for Described {
    type Request = DescribeConfigsRequest;
    type Element = DescribeConfigsResult;
    type Part = DescribeConfigsResourceResult;

    fn new(_: i16, listed: Option<usize>) -> Self {
        Self {
            resources: Once::with_capacity(listed.unwrap_or(0)),
            synonyms: false,
            documentation: false,
        }
    }

    fn take(&mut self, resource: DescribeConfigsResource) {
        let name = (resource.resource_type, resource.resource_name.clone());
        self.resources.push(name, resource);
    }

    fn rest(&mut self, _: &Ctx<'_>, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
        self.synonyms = request.include_synonyms;
        self.documentation = request.include_documentation;
        DescribeConfigsResponse::default()
    }

    fn prepare(&mut self, left: &mut usize) -> bool {
        // Its keys are looked at once more.
        let next = self.resources.peek();
        *left = left.saturating_sub(next.map_or(0, DescribeConfigsRequest::entries));
        true
    }

    fn next(&mut self, ctx: &Ctx<'_>, written: usize) -> Option<DescribeConfigsResult> {
        let (resource, _) = self.resources.next()?;
        let mut result = DescribeConfigsResult::default();
        result.resource_type = resource.resource_type;
        result.resource_name = resource.resource_name.clone();
        let entries = match written > CONFIGS_BYTES_MAX {
            true => Err(too_many()),
            false => entries(ctx, &resource),
        };
        (result.error_code, result.error_message) = outcome(entries.as_ref().err());
        let keys = Keys::of(&resource);
        let wanted = entries.unwrap_or_default().into_iter();
        let wanted = wanted.filter(|entry| keys.have(entry));
        result.configs = wanted.map(|entry| self.shown(entry)).collect();
        Some(result)
    }

    fn leave(self, leftovers: &mut Leftovers) {
        self.resources
            .leave(leftovers, DescribeConfigsRequest::entries);
    }

    fn size(result: &DescribeConfigsResult) -> usize {
        text_size(&result.resource_name) + result.configs.len()
    }
}

fn entries(ctx: &Ctx<'_>, resource: &DescribeConfigsResource) -> Result<Vec<ConfigEntry>, Refused> {
    let name = resource.resource_name.as_str();
    let source = Source::new(ctx.config, ctx.image);
    let named = |what: &str| {
        let why = format!("{what} must not be empty");
        let refused = Refused::because(ErrorCode::InvalidRequest, why);
        if name.is_empty() {
            Err(refused)
        } else {
            Ok(())
        }
    };
    let none = BTreeMap::new();
    match resource.resource_type {
        TOPIC => {
            check_topic_name(name)
                .map_err(|why| Refused::because(ErrorCode::InvalidTopicException, why))?;
            let topic = ctx
                .image
                .topic(name)
                .ok_or(ErrorCode::UnknownTopicOrPartition)?;
            Ok(config_entries::of_topic(source, &topic.configs).collect())
        }
        BROKER if name.is_empty() => Ok(config_entries::of_all_brokers(source)),
        BROKER => {
            check_broker(ctx, name)?;
            Ok(config_entries::of_broker(source).collect())
        }
        BROKER_LOGGER => {
            named("Broker id")?;
            check_broker(ctx, name)?;
            Ok(Vec::new())
        }
        CLIENT_METRICS => {
            named("Client metrics subscription name")?;
            let defaults = config_entries::of_inert(&inert::CLIENT_METRICS, source, &none, DEFAULT);
            Ok(defaults.collect())
        }
        GROUP => {
            named("Group name")?;
            let own = ctx.image.groups.get(name).map_or(&none, |own| own);
            Ok(config_entries::of_group(source, own).collect())
        }
        other => Err(unsupported(other)),
    }
}

/// Checks that a broker resource is this broker.
pub(super) fn check_broker(ctx: &Ctx<'_>, name: &str) -> Result<(), Refused> {
    let own = ctx.brokers.controller();
    let why = match name.parse::<i32>() {
        Ok(id) if ctx.brokers.is_here(id) => return Ok(()),
        Ok(_) => {
            format!("Unexpected broker id, expected {own} or empty string, but received {name}")
        }
        Err(_) => format!("Broker id must be an integer, but it is: {name}"),
    };
    Err(Refused::because(ErrorCode::InvalidRequest, why))
}

/// Refuses a kind of resource that has no settings here.
pub(super) fn unsupported(resource_type: i8) -> Refused {
    let why = format!("Unsupported resource type: {resource_type}");
    Refused::because(ErrorCode::InvalidRequest, why)
}

/// Refuses a resource for which the answer has no room.
fn too_many() -> Refused {
    let why = format!(
        "An answer has room for {CONFIGS_BYTES_MAX} bytes of settings: ask for the others in another request"
    );
    Refused::because(ErrorCode::InvalidRequest, why)
}

/// The settings that are asked for of a resource; all of them, if none is named. There may be as many as a request has
/// room for, of any length.
struct Keys<'a>(Option<HashSet<&'a [u8]>>);

impl<'a> Keys<'a> {
    fn of(resource: &'a DescribeConfigsResource) -> Self {
        /// Longer than the name of any setting.
        const KEY_BYTES_MAX: usize = 256;
        let keys = resource.configuration_keys.as_deref().unwrap_or_default();
        let possible = keys.iter().filter(|key| key.len() <= KEY_BYTES_MAX);
        Self((!keys.is_empty()).then(|| possible.map(StrBytes::as_bytes).collect()))
    }

    fn have(&self, entry: &ConfigEntry) -> bool {
        let keys = self.0.as_ref();
        keys.is_none_or(|keys| keys.contains(entry.setting.key.as_bytes()))
    }
}

impl Described {
    fn shown(&self, entry: ConfigEntry) -> DescribeConfigsResourceResult {
        let mut shown = DescribeConfigsResourceResult::default();
        shown.name = entry.setting.key.into();
        shown.value = entry.value.map(Into::into);
        shown.read_only = entry.read_only;
        shown.is_sensitive = entry.sensitive;
        shown.config_source = entry.source;
        shown.config_type = entry.setting.kind as i8;
        shown.documentation = self.documentation.then(|| entry.setting.doc().into());
        if self.synonyms {
            let synonyms = entry.synonyms.into_iter().map(|(key, value, source)| {
                let mut synonym = DescribeConfigsSynonym::default();
                synonym.name = key.into();
                synonym.value = value.map(Into::into);
                synonym.source = source;
                synonym
            });
            shown.synonyms = synonyms.collect();
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Cluster, text};
    use super::*;
    use crate::config::{BrokerConfig, GroupSettings, TopicConfig};
    use crate::controller::{ConfigResource, MetadataRecord};

    fn request(kind: i8, name: &str, keys: Option<&[&str]>) -> DescribeConfigsRequest {
        let mut resource = DescribeConfigsResource::default();
        resource.resource_type = kind;
        resource.resource_name = text(name);
        resource.configuration_keys = keys.map(|keys| keys.iter().map(|key| text(key)).collect());
        let mut request = DescribeConfigsRequest::default();
        request.resources = vec![resource];
        request
    }

    fn ask(
        cluster: &mut Cluster,
        version: i16,
        request: &DescribeConfigsRequest,
    ) -> DescribeConfigsResult {
        let answer = cluster.read(version, request, |ctx, header, body| {
            describe_configs(ctx, header, body)
        });
        answer.results.into_iter().next().unwrap()
    }

    #[test]
    fn every_version_describes_topics_and_brokers() {
        let mut cluster = Cluster::with(&[("a", 1)]);
        for version in 1..=4 {
            let topic = ask(&mut cluster, version, &request(TOPIC, "a", None));
            assert_eq!(topic.configs.len(), of_topics(), "version {version}");
            let broker = ask(&mut cluster, version, &request(BROKER, "1", None));
            assert_eq!(
                broker.configs.len(),
                BrokerConfig::SETTINGS.len() + inert::BROKER.len()
            );
            let read_only = |key: &str| {
                let mut configs = broker.configs.iter();
                configs.find(|c| c.name.as_str() == key).unwrap().read_only
            };
            assert!(read_only("num.partitions") && !read_only("log.retention.ms"));
            let group = ask(&mut cluster, version, &request(GROUP, "g", None));
            assert_eq!(
                group.configs.len(),
                GroupSettings::SETTINGS.len() + inert::GROUP.len()
            );
            let metrics = ask(&mut cluster, version, &request(CLIENT_METRICS, "m", None));
            assert_eq!(metrics.configs.len(), 3);
        }
    }

    #[test]
    fn what_a_group_has_of_its_own_comes_first() {
        let mut cluster = Cluster::new();
        let record = MetadataRecord::Config {
            resource: ConfigResource::Group("g".to_owned()),
            key: "consumer.session.timeout.ms".to_owned(),
            value: Some("050000".to_owned()),
        };
        cluster.image.replay(&record).unwrap();
        for (group, value, source, synonyms) in [
            ("g", "50000", config_entries::GROUP, 2),
            ("h", "45000", DEFAULT, 1),
        ] {
            let mut wanted = request(GROUP, group, Some(&["consumer.session.timeout.ms"]));
            (wanted.include_synonyms, wanted.include_documentation) = (true, true);
            let found = ask(&mut cluster, 4, &wanted).configs.remove(0);
            assert_eq!(found.value, Some(text(value)));
            assert_eq!(found.config_source, source);
            assert_eq!(found.synonyms.len(), synonyms);
            assert_eq!((found.config_type, found.read_only), (3, false));
            assert!(found.documentation.unwrap().contains("heartbeat"));
        }
    }

    fn of_topics() -> usize {
        TopicConfig::SETTINGS.len() + inert::TOPIC.len()
    }

    #[test]
    fn a_request_of_nothing_but_resources_is_answered_within_a_bound() {
        let mut cluster = Cluster::new();
        let mut many = request(GROUP, "g", None);
        many.resources.extend(request(GROUP, "g", None).resources);
        let mut codes = |request: &DescribeConfigsRequest| {
            let answer = cluster.read(1, request, |ctx, header, body| {
                describe_configs(ctx, header, body)
            });
            let results = answer.results.iter();
            results.map(|result| result.error_code).collect::<Vec<_>>()
        };
        assert_eq!(codes(&many), [0], "each once");
        let mut described = Described::new(4, Some(2));
        for name in ["a", "b"] {
            described.take(request(GROUP, name, None).resources.remove(0));
        }
        // Each has its answer: a client would wait for what was left out.
        for (written, code) in [(CONFIGS_BYTES_MAX, 0), (CONFIGS_BYTES_MAX + 1, 42)] {
            let result = described.next(&cluster.ctx(), written).unwrap();
            assert_eq!(
                (result.error_code, result.configs.is_empty()),
                (code, code != 0)
            );
        }
        assert!(described.next(&cluster.ctx(), 0).is_none());
    }

    #[test]
    fn what_is_asked_for_is_shown() {
        let mut cluster = Cluster::with(&[("a", 1)]);
        let mut wanted = request(TOPIC, "a", Some(&["retention.ms", "nonsense"]));
        let plain = ask(&mut cluster, 4, &wanted);
        assert_eq!(plain.configs.len(), 1);
        assert_eq!(plain.configs[0].config_type, 5);
        assert_eq!(plain.configs[0].documentation, None);
        assert!(plain.configs[0].synonyms.is_empty());
        wanted.include_documentation = true;
        wanted.include_synonyms = true;
        let full = ask(&mut cluster, 4, &wanted);
        assert!(
            full.configs[0]
                .documentation
                .as_ref()
                .unwrap()
                .contains("older")
        );
        assert_eq!(
            full.configs[0].synonyms[0].name,
            text("log.retention.hours")
        );
        let all = ask(&mut cluster, 4, &request(TOPIC, "a", Some(&[])));
        assert_eq!(all.configs.len(), of_topics());
    }

    #[test]
    fn with_direct_ports_a_core_is_a_broker_and_so_is_the_node() {
        let mut cluster = Cluster::direct();
        for (name, code) in [
            ("1", 0),
            ("10000", 0),
            ("10001", 0),
            ("10002", 42),
            ("2", 42),
        ] {
            let result = ask(&mut cluster, 4, &request(BROKER, name, None));
            assert_eq!(result.error_code, code, "{name}");
            assert_eq!(result.configs.is_empty(), code != 0, "{name}");
        }
    }

    #[test]
    fn what_is_not_there() {
        let mut cluster = Cluster::new();
        for (kind, name, code) in [
            (TOPIC, "x", 3),
            (TOPIC, "no good", 17),
            (BROKER, "2", 42),
            (BROKER, "one", 42),
            (BROKER, "", 0),
            (BROKER_LOGGER, "1", 0),
            (BROKER_LOGGER, "2", 42),
            (BROKER_LOGGER, "", 42),
            (GROUP, "", 42),
            (CLIENT_METRICS, "", 42),
            (64, "1", 42),
        ] {
            let result = ask(&mut cluster, 4, &request(kind, name, None));
            assert_eq!(
                (result.error_code, result.configs.len()),
                (code, 0),
                "{kind} {name}"
            );
        }
    }
}
