//! Settings as DescribeConfigs and CreateTopics show them: value, where it comes
//! from, and what would hold if it were not set there.

use std::collections::BTreeMap;

use crate::config::{BrokerConfig, Setting, TopicConfig};

/// Where a value comes from, numbered as on the wire.
pub(super) const TOPIC: i8 = 1;
pub(super) const STATIC_BROKER: i8 = 4;
pub(super) const DEFAULT: i8 = 5;

/// One setting with its value.
pub(super) struct Entry {
    pub(super) setting: &'static Setting,
    pub(super) value: Option<String>,
    pub(super) source: i8,
    pub(super) read_only: bool,
    /// Every place that has a value, the one that holds first.
    pub(super) synonyms: Vec<(&'static str, Option<String>, i8)>,
}

/// The settings of a topic with these of its own.
pub(super) fn of_topic(
    broker: &BrokerConfig,
    own: &BTreeMap<String, String>,
) -> impl Iterator<Item = Entry> {
    let effective = TopicConfig::effective(broker, own);
    TopicConfig::SETTINGS.iter().map(move |setting| {
        let mut synonyms = Vec::new();
        let own = own.get(setting.key);
        synonyms.extend(own.map(|text| (setting.key, Some(text.clone()), TOPIC)));
        for key in setting.synonyms {
            synonyms.extend(places(broker, key));
        }
        Entry {
            setting,
            value: effective.show(setting.key),
            source: synonyms.first().map_or(DEFAULT, |(_, _, source)| *source),
            read_only: false,
            synonyms,
        }
    })
}

/// The settings of the broker. All are read-only: they are changed in the file.
pub(super) fn of_broker(broker: &BrokerConfig) -> impl Iterator<Item = Entry> {
    BrokerConfig::SETTINGS.iter().map(|setting| {
        let explicit = broker.explicit.contains(setting.key);
        Entry {
            setting,
            value: broker.show(setting.key),
            source: if explicit { STATIC_BROKER } else { DEFAULT },
            read_only: true,
            synonyms: places(broker, setting.key),
        }
    })
}

/// The places that have a value of a setting of the broker: the file, the default.
fn places(broker: &BrokerConfig, key: &'static str) -> Vec<(&'static str, Option<String>, i8)> {
    let mut places = Vec::new();
    if broker.explicit.contains(key) {
        places.push((key, broker.show(key), STATIC_BROKER));
    }
    let default = BrokerConfig::default().show(key);
    places.extend(default.map(|text| (key, Some(text), DEFAULT)));
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    fn entry(file: &str, own: &[(&str, &str)], key: &str) -> Entry {
        let broker = load(Some(file), &[]).unwrap();
        let own = own
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        of_topic(&broker, &own)
            .find(|entry| entry.setting.key == key)
            .unwrap()
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
