//! The settings page: every setting with type, unit, default and meaning, in
//! Markdown, from the same table that the broker reads its file with.

use std::fmt::Write;

use super::broker::BrokerConfig;
use super::group::GroupSettings;
use super::inert::{self, Inert};
use super::setting::Setting;
use super::topic::TopicConfig;

/// The text of `millrace --list-settings`.
#[must_use]
pub fn settings_page() -> String {
    let mut page = String::from(
        "# Settings\n\n\
         Millrace reads Kafka's `server.properties`: Kafka's names, units, defaults and meanings; what \
         Kafka does not have begins with `millrace.`. What is not listed here is refused.\n\n\
         ## Broker\n\n",
    );
    let broker = BrokerConfig::default();
    table(&mut page, BrokerConfig::SETTINGS, |key| broker.show(key));
    page.push_str(
        "\n## Topic\n\n\
         Set when a topic is created, or later with Kafka's tools; without it, the broker's setting holds.\n\n",
    );
    let topic = TopicConfig::default();
    table(&mut page, TopicConfig::SETTINGS, |key| topic.show(key));
    page.push_str(
        "\n## Group\n\n\
         Set with Kafka's tools (`kafka-configs.sh --entity-type groups`), whether there is such a group or not; \
         without it, the broker's setting holds, and its bounds hold always.\n\n",
    );
    let group = GroupSettings::default();
    table(&mut page, GroupSettings::SETTINGS, |key| group.show(key));
    page.push_str(
        "\n## Settings of Kafka whose value changes nothing here\n\n\
         They are described to clients and taken, with a warning where they stand in the file. A value that would have \
         to do something is refused: for some settings there is only one.\n\n\
         ### Broker\n\n",
    );
    inert_table(&mut page, &inert::BROKER);
    page.push_str("\n### Topic\n\n");
    inert_table(&mut page, &inert::TOPIC);
    page.push_str("\n### Group\n\n");
    inert_table(&mut page, &inert::GROUP);
    page
}

fn inert_table(page: &mut String, table: &[Inert]) {
    page.push_str("| Setting | Default | What it is in Kafka |\n|---|---|---|\n");
    for inert in table {
        let default = match inert.default {
            None => "not set".to_owned(),
            Some("") => "empty".to_owned(),
            Some(text) => format!("`{text}`"),
        };
        let only = inert
            .only()
            .map_or_else(String::new, |only| format!(" Only: {only}."));
        let (key, doc) = (inert.setting.key, inert.setting.doc());
        // Writing to a String cannot fail.
        let _ = writeln!(page, "| `{key}` | {default} | {doc}{only} |");
    }
}

fn table(page: &mut String, settings: &[Setting], show: impl Fn(&str) -> Option<String>) {
    page.push_str("| Setting | Type | Default | Meaning |\n|---|---|---|---|\n");
    for setting in settings {
        let default =
            show(setting.key).map_or_else(|| "not set".to_owned(), |text| format!("`{text}`"));
        let unit = match setting.unit.name() {
            "" => String::new(),
            unit => format!(", {unit}"),
        };
        let valid = setting
            .valid_values()
            .map_or_else(String::new, |v| format!(" Valid: {v}."));
        let broker = match setting.synonyms {
            [] => String::new(),
            names => format!(" Broker: `{}`.", names.join("`, `")),
        };
        let (key, kind, doc) = (setting.key, setting.kind.name(), setting.doc());
        // Writing to a String cannot fail.
        let _ = writeln!(
            page,
            "| `{key}` | {kind}{unit} | {default} | {doc}{valid}{broker} |"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_setting_is_on_the_page_with_its_meaning() {
        let page = settings_page();
        let inert = inert::BROKER.iter().chain(inert::TOPIC.iter());
        let inert = inert.chain(inert::GROUP.iter());
        let inert = inert.map(|inert| &inert.setting);
        let acted_on = BrokerConfig::SETTINGS.iter().chain(TopicConfig::SETTINGS);
        let acted_on = acted_on.chain(GroupSettings::SETTINGS);
        for setting in acted_on.chain(inert) {
            assert!(
                page.contains(&format!("| `{}` |", setting.key)),
                "{}",
                setting.key
            );
            let doc = setting.doc();
            assert!(
                doc.len() > 20 && doc.ends_with('.'),
                "{}: {doc}",
                setting.key
            );
        }
        assert!(page.contains("| `log.retention.hours` | int, hours | `168` |"));
    }

    #[test]
    fn every_key_is_declared_once_and_says_its_unit() {
        for settings in [
            BrokerConfig::SETTINGS,
            TopicConfig::SETTINGS,
            GroupSettings::SETTINGS,
        ] {
            let keys: BTreeSet<_> = settings.iter().map(|setting| setting.key).collect();
            assert_eq!(keys.len(), settings.len());
            for setting in settings {
                let unit = match setting.key.rsplit('.').next() {
                    Some("ms") => "ms",
                    Some("minutes") => "minutes",
                    Some("hours") => "hours",
                    Some("bytes") => "bytes",
                    _ => continue,
                };
                assert_eq!(setting.unit.name(), unit, "{}", setting.key);
            }
        }
    }
}
