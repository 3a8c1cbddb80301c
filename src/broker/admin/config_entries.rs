//! Settings as DescribeConfigs and CreateTopics show them: value, where it comes
//! from, and what would hold if it were not set there.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::base::NodeId;
use crate::config::inert::{self, Inert, Update};
use crate::config::{BrokerConfig, GroupSettings, Setting, TopicConfig, update_of};
use crate::controller::Image;

/// Where a value comes from, numbered as on the wire.
pub(super) const TOPIC: i8 = 1;
pub(super) const DYNAMIC_BROKER: i8 = 2;
pub(super) const DYNAMIC_DEFAULT_BROKER: i8 = 3;
pub(super) const STATIC_BROKER: i8 = 4;
pub(super) const DEFAULT: i8 = 5;
pub(super) const GROUP: i8 = 8;

/// One setting with its value.
pub(super) struct ConfigEntry {
    pub(super) setting: &'static Setting,
    /// Never told of a secret.
    pub(super) value: Option<String>,
    pub(super) source: i8,
    pub(super) read_only: bool,
    pub(super) sensitive: bool,
    /// Every place that has a value, the one that holds first.
    pub(super) synonyms: Vec<PlacedValue>,
}

/// What holds where nothing is said. Kept, because it is asked once for each setting.
static DEFAULTS: LazyLock<BrokerConfig> = LazyLock::new(BrokerConfig::default);

/// A place that has a value: name of the setting there, value, kind of place.
pub(super) type PlacedValue = (&'static str, Option<String>, i8);

/// Where the settings of this broker are.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    /// What holds: what clients have set is laid over what the file says.
    pub(super) config: &'a BrokerConfig,
    /// What clients have set for this broker, and for all.
    pub(super) own: Option<&'a BTreeMap<String, String>>,
    pub(super) all: Option<&'a BTreeMap<String, String>>,
}

impl<'a> Source<'a> {
    pub(super) fn new(config: &'a BrokerConfig, image: &'a Image) -> Self {
        Self {
            config,
            own: image.broker_configs(Some(NodeId(config.node_id))),
            all: image.broker_configs(None),
        }
    }

    /// The places that have a value of a setting of the broker: clients, the file, the default.
    fn places(self, key: &'static str) -> Vec<PlacedValue> {
        let mut places = Vec::new();
        for (settings, kind) in [
            (self.own, DYNAMIC_BROKER),
            (self.all, DYNAMIC_DEFAULT_BROKER),
        ] {
            let text = settings.and_then(|settings| settings.get(key));
            places.extend(text.map(|text| (key, Some(text.clone()), kind)));
        }
        let explicit = self.config.explicit.get(key);
        places.extend(explicit.map(|text| (key, Some(text.clone()), STATIC_BROKER)));
        let default = DEFAULTS.value(key);
        places.extend(default.map(|text| (key, Some(text), DEFAULT)));
        places
    }
}

/// The settings of a topic with these of its own.
pub(super) fn of_topic<'a>(
    source: Source<'a>,
    own: &'a BTreeMap<String, String>,
) -> impl Iterator<Item = ConfigEntry> + 'a {
    let effective = TopicConfig::effective(source.config, own);
    let acted_on = TopicConfig::SETTINGS.iter().map(move |setting| {
        let mut entry = layered(setting, own, TOPIC, source, |_| effective.show(setting.key));
        entry.value = effective.show(setting.key);
        entry
    });
    acted_on.chain(of_inert(&inert::TOPIC, source, own, TOPIC))
}

/// The settings of a group with these of its own.
pub(super) fn of_group<'a>(
    source: Source<'a>,
    own: &'a BTreeMap<String, String>,
) -> impl Iterator<Item = ConfigEntry> + 'a {
    let acted_on = GroupSettings::SETTINGS.iter().map(move |setting| {
        // As it was set, though the broker may allow less by now.
        let shown = |text: &str| text.trim().parse::<i32>().ok().map(|it| it.to_string());
        layered(setting, own, GROUP, source, shown)
    });
    acted_on.chain(of_inert(&inert::GROUP, source, own, GROUP))
}

/// Settings that change nothing, of something that has these of its own, of that kind.
pub(super) fn of_inert<'a>(
    table: &'static [Inert],
    source: Source<'a>,
    own: &'a BTreeMap<String, String>,
    kind: i8,
) -> impl Iterator<Item = ConfigEntry> + 'a {
    table.iter().map(move |inert| {
        let shown = |text: &str| inert.check(text).ok();
        let mut entry = layered(&inert.setting, own, kind, source, shown);
        if entry.synonyms.is_empty() {
            entry.value = inert.default.map(str::to_owned);
        }
        entry
    })
}

/// A setting of its own over those of the broker that it takes its value from.
fn layered(
    setting: &'static Setting,
    own: &BTreeMap<String, String>,
    kind: i8,
    source: Source<'_>,
    shown: impl Fn(&str) -> Option<String>,
) -> ConfigEntry {
    let own = own.get(setting.key);
    let mut synonyms: Vec<PlacedValue> = Vec::new();
    synonyms.extend(own.map(|text| (setting.key, shown(text), kind)));
    for key in setting.synonyms {
        synonyms.extend(source.places(key));
    }
    let first = synonyms.first();
    ConfigEntry {
        setting,
        value: first.and_then(|(_, value, _)| value.clone()),
        source: first.map_or(DEFAULT, |(_, _, source)| *source),
        read_only: false,
        sensitive: false,
        synonyms,
    }
}

/// The settings of the broker.
pub(super) fn of_broker(source: Source<'_>) -> impl Iterator<Item = ConfigEntry> {
    let acted_on = BrokerConfig::SETTINGS.iter();
    let inert = inert::BROKER.iter().map(|inert| &inert.setting);
    acted_on.chain(inert).map(move |setting| {
        let known = inert::find(&inert::BROKER, setting.key);
        let sensitive = known.is_some_and(Inert::is_sensitive);
        let mut synonyms = source.places(setting.key);
        let first = synonyms.first();
        let kind = first.map_or(DEFAULT, |(_, _, kind)| *kind);
        // What clients have set for a setting that is not acted on is only in the place.
        let value = match known {
            Some(inert) if matches!(kind, DYNAMIC_BROKER | DYNAMIC_DEFAULT_BROKER) => first
                .and_then(|(_, value, _)| value.as_deref())
                .and_then(|text| inert.check(text).ok()),
            _ => source.config.value(setting.key),
        };
        if sensitive {
            for (_, value, _) in &mut synonyms {
                *value = None;
            }
        }
        ConfigEntry {
            setting,
            value: value.filter(|_| !sensitive),
            source: kind,
            read_only: update_of(setting.key) == Some(Update::ReadOnly),
            sensitive,
            synonyms,
        }
    })
}

/// What clients have set for all brokers.
pub(super) fn of_all_brokers(source: Source<'_>) -> Vec<ConfigEntry> {
    let set = source.all.into_iter().flatten();
    let known = set.filter_map(|(key, text)| {
        let inert = inert::find(&inert::BROKER, key).map(|inert| &inert.setting);
        let setting = BrokerConfig::setting(key).or(inert)?;
        let value = Some(text.clone());
        Some(ConfigEntry {
            setting,
            value: value.clone(),
            source: DYNAMIC_DEFAULT_BROKER,
            read_only: false,
            sensitive: false,
            synonyms: vec![(setting.key, value, DYNAMIC_DEFAULT_BROKER)],
        })
    });
    known.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    fn entry(file: &str, own: &[(&str, &str)], key: &str) -> ConfigEntry {
        let broker = load(Some(file), &[]).unwrap();
        of_topic(source(&broker), &pairs(own))
            .find(|entry| entry.setting.key == key)
            .unwrap()
    }

    fn source(config: &BrokerConfig) -> Source<'_> {
        Source {
            config,
            own: None,
            all: None,
        }
    }

    fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let own = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
        pairs.iter().map(own).collect()
    }

    fn of<'e>(entries: &'e [ConfigEntry], key: &str) -> &'e ConfigEntry {
        entries.iter().find(|e| e.setting.key == key).unwrap()
    }

    #[test]
    fn what_changes_nothing_is_shown_with_where_it_comes_from() {
        let shown = entry("", &[], "flush.messages");
        let default = Some(i64::MAX.to_string());
        assert_eq!((&shown.value, shown.source), (&default, DEFAULT));
        let place = ("log.flush.interval.messages", default, DEFAULT);
        assert_eq!(shown.synonyms, [place]);
        let shown = entry("log.flush.interval.messages=7", &[], "flush.messages");
        assert_eq!(
            (shown.value.as_deref(), shown.source),
            (Some("7"), STATIC_BROKER)
        );
        let shown = entry("", &[("preallocate", " TRUE ")], "preallocate");
        assert_eq!(
            (shown.value.as_deref(), shown.source),
            (Some("true"), TOPIC)
        );
        let shown = entry("", &[], "remote.storage.enable");
        assert_eq!(
            (shown.value.as_deref(), shown.source),
            (Some("false"), DEFAULT)
        );
        assert!(shown.synonyms.is_empty());
    }

    #[test]
    fn what_clients_set_for_brokers_comes_before_the_file() {
        let file = "log.retention.ms=1000\nbackground.threads=4\nssl.key.password=geheim";
        let file = load(Some(file), &[]).unwrap();
        let all = pairs(&[("log.retention.ms", "2000"), ("num.io.threads", "16")]);
        let own = pairs(&[("log.retention.ms", "3000")]);
        let config = file.with_dynamic(Some(&all), Some(&own));
        let source = Source {
            config: &config,
            own: Some(&own),
            all: Some(&all),
        };
        let entries: Vec<_> = of_broker(source).collect();
        let retention = of(&entries, "log.retention.ms");
        assert_eq!(
            (retention.value.as_deref(), retention.source),
            (Some("3000"), DYNAMIC_BROKER)
        );
        let places: Vec<_> = retention
            .synonyms
            .iter()
            .map(|(_, text, kind)| (text.as_deref(), *kind))
            .collect();
        assert_eq!(
            places,
            [(Some("3000"), 2), (Some("2000"), 3), (Some("1000"), 4)]
        );
        assert!(!retention.read_only && of(&entries, "log.retention.hours").read_only);
        let threads = of(&entries, "num.io.threads");
        assert_eq!(
            (threads.value.as_deref(), threads.source),
            (Some("16"), DYNAMIC_DEFAULT_BROKER)
        );
        let threads = of(&entries, "background.threads");
        assert_eq!(
            (threads.value.as_deref(), threads.source),
            (Some("4"), STATIC_BROKER)
        );
        let secret = of(&entries, "ssl.key.password");
        assert!(secret.sensitive && secret.value.is_none() && secret.source == STATIC_BROKER);
        assert!(secret.synonyms.iter().all(|(_, text, _)| text.is_none()));
        let of_all: Vec<_> = of_all_brokers(source)
            .iter()
            .map(|e| e.setting.key)
            .collect();
        assert_eq!(of_all, ["log.retention.ms", "num.io.threads"]);
        let topic = pairs(&[]);
        let topic: Vec<_> = of_topic(source, &topic).collect();
        let retention = of(&topic, "retention.ms");
        assert_eq!(
            (retention.value.as_deref(), retention.source),
            (Some("3000"), DYNAMIC_BROKER)
        );
        assert_eq!(of(&entries, "broker.id").value.as_deref(), Some("1"));
    }

    #[test]
    fn the_place_that_holds_comes_first() {
        let shown = entry("", &[], "retention.ms");
        assert_eq!(
            (shown.value.as_deref(), shown.source),
            (Some("604800000"), DEFAULT)
        );
        assert_eq!(
            shown.synonyms,
            [("log.retention.hours", Some("168".to_owned()), DEFAULT)]
        );

        let shown = entry("log.retention.minutes=1", &[], "retention.ms");
        assert_eq!(
            (shown.value.as_deref(), shown.source),
            (Some("60000"), STATIC_BROKER)
        );
        assert_eq!(shown.synonyms.len(), 2);

        let shown = entry(
            "log.retention.minutes=1",
            &[("retention.ms", "7")],
            "retention.ms",
        );
        assert_eq!((shown.value.as_deref(), shown.source), (Some("7"), TOPIC));
        assert_eq!(
            shown.synonyms[0],
            ("retention.ms", Some("7".to_owned()), TOPIC)
        );
        assert_eq!(shown.synonyms.len(), 3);
    }
}
