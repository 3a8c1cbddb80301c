//! Kafka's settings whose value changes nothing here, as data: tables in text (`kafka_*.txt`), one line
//! for each. They are described like every other setting and
//! taken as far as they can be honoured, so that what was written for Kafka works as it is.

use std::sync::LazyLock;

use super::broker::BrokerConfig;
use super::quorum::{self, VoterAddress};
use super::setting::{ANY, Setting, Unit};
use super::value::Kind;

/// Who may change a setting while the broker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// Nobody: it is read at the start.
    ReadOnly,
    /// Clients, for one broker or for all.
    Cluster,
    /// Clients, for one broker.
    Broker,
    /// Clients, with the topic or group that it belongs to.
    Resource,
}

/// Which values can be honoured, of those that are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Honoured {
    /// All of them: they change nothing.
    All,
    /// This one. Any other would have to do something.
    Only(&'static str),
    /// Both roles of a process, or the broker's alone.
    Roles,
    /// None by itself: it is another name of a setting.
    Alias,
}

/// One setting that changes nothing.
#[derive(Debug)]
pub struct Inert {
    /// What is known of it besides.
    pub setting: Setting,
    /// Kafka's default; `None` if it has none.
    pub default: Option<&'static str>,
    /// Who may change it.
    pub update: Update,
    pub(super) honoured: Honoured,
    valid: Valid,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Valid {
    Any,
    /// Numbers in the range of the setting.
    Range,
    /// The same, and -1.
    RangeOrMinusOne,
    OneOf,
    OneOfInAnyCase,
    NotEmpty,
    /// `partition:broker` each, or `*`.
    Replicas,
    /// `id@host:port` each.
    Voters,
    /// `host:port` each.
    Servers,
}

/// Settings of the broker.
pub static BROKER: LazyLock<Vec<Inert>> = LazyLock::new(|| table(include_str!("kafka_broker.txt")));
/// Settings of topics.
pub static TOPIC: LazyLock<Vec<Inert>> = LazyLock::new(|| table(include_str!("kafka_topic.txt")));
/// Settings of groups.
pub static GROUP: LazyLock<Vec<Inert>> = LazyLock::new(|| table(include_str!("kafka_group.txt")));
/// Settings of subscriptions to metrics of clients.
pub static CLIENT_METRICS: LazyLock<Vec<Inert>> =
    LazyLock::new(|| table(include_str!("kafka_client_metrics.txt")));

/// The setting of this name, if the table has it.
#[must_use]
pub fn find(table: &'static [Inert], key: &str) -> Option<&'static Inert> {
    let at = table.binary_search_by(|inert| inert.setting.key.cmp(key));
    at.ok().map(|at| &table[at])
}

impl Inert {
    /// Checks a value by Kafka's rules and gives it in the form in which it is shown.
    ///
    /// # Errors
    /// What was expected instead.
    pub fn check(&self, text: &str) -> Result<String, String> {
        let text = text.trim();
        let expected = || Err(self.expected());
        match self.setting.kind {
            Kind::Boolean => match text.to_ascii_lowercase() {
                known if known == "true" || known == "false" => Ok(known),
                _ => Err("true or false".to_owned()),
            },
            Kind::Short => self.number(text.parse::<i16>().map(i64::from), "16 bits"),
            Kind::Int => self.number(text.parse::<i32>().map(i64::from), "32 bits"),
            Kind::Long => self.number(text.parse::<i64>(), "64 bits"),
            Kind::Double => match text.parse::<f64>() {
                Ok(number) => Ok(number.to_string()),
                Err(_) => Err("a number".to_owned()),
            },
            Kind::String | Kind::Class | Kind::Password if self.allows(text) => Ok(text.to_owned()),
            Kind::List if self.valid == Valid::Replicas && text == "*" => Ok(text.to_owned()),
            Kind::List => {
                let elements: Vec<_> = text.split(',').map(str::trim).collect();
                let allowed =
                    text.is_empty() || elements.iter().all(|element| self.allows(element));
                if allowed {
                    Ok(elements.join(","))
                } else {
                    expected()
                }
            }
            Kind::String | Kind::Class | Kind::Password => expected(),
        }
    }

    fn number<E>(&self, number: Result<i64, E>, bits: &str) -> Result<String, String> {
        let Ok(number) = number else {
            return Err(format!("a whole number of {bits}"));
        };
        let (min, max) = self.setting.range;
        let also = self.valid == Valid::RangeOrMinusOne && number == -1;
        if number >= min && number <= max || also {
            return Ok(number.to_string());
        }
        let also = if self.valid == Valid::RangeOrMinusOne {
            ", or -1"
        } else {
            ""
        };
        Err(self.expected() + also)
    }

    /// What is allowed, for people.
    fn expected(&self) -> String {
        let elements = match self.valid {
            Valid::Voters => "id@host:port",
            Valid::Servers => "host:port",
            _ => return self.setting.valid_values().unwrap_or_default(),
        };
        format!("{elements}, separated by commas")
    }

    /// Whether a text, or an element of a list, is allowed.
    fn allows(&self, text: &str) -> bool {
        let choices = self.setting.choices;
        match self.valid {
            Valid::OneOf => choices.contains(&text),
            Valid::OneOfInAnyCase => choices
                .iter()
                .any(|choice| choice.eq_ignore_ascii_case(text)),
            Valid::NotEmpty => !text.is_empty(),
            Valid::Replicas => text.split_once(':').is_some_and(|(partition, broker)| {
                partition.parse::<u32>().is_ok() && broker.parse::<u32>().is_ok()
            }),
            Valid::Voters => VoterAddress::parse(text).is_some(),
            Valid::Servers => quorum::address_of(text).is_some(),
            Valid::Any | Valid::Range | Valid::RangeOrMinusOne => true,
        }
    }

    /// Checks that a value which is allowed can be honoured as well.
    ///
    /// # Errors
    /// What can be honoured, and why nothing else.
    pub fn honour(&self, text: &str) -> Result<(), String> {
        let has = |role| text.split(',').any(|element| element.trim() == role);
        let because = self.setting.doc();
        match self.honoured {
            Honoured::Only("") if !text.is_empty() => Err(format!("none: {because}")),
            Honoured::Only(value) if text != value => Err(format!("{value}: {because}")),
            Honoured::Roles if !has("broker") => Err(format!(
                "broker,controller: a controller alone is no process of its own here. {because}"
            )),
            _ => Ok(()),
        }
    }

    /// The only value that can be honoured, for people; `None` if every one can.
    #[must_use]
    pub fn only(&self) -> Option<&'static str> {
        match self.honoured {
            Honoured::Only("") => Some("empty"),
            Honoured::Only(value) => Some(value),
            Honoured::Roles | Honoured::Alias | Honoured::All => None,
        }
    }

    /// Whether it is a secret, which is never told.
    #[must_use]
    pub fn is_sensitive(&self) -> bool {
        self.setting.kind == Kind::Password
    }
}

impl BrokerConfig {
    /// The value of a setting of the broker, whether it is acted on or not; `None` if it has none.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<String> {
        match key {
            "broker.id" => self.show("node.id"),
            "log.dir" => self.show("log.dirs"),
            _ if Self::setting(key).is_some() => self.show(key),
            _ => {
                let default = || find(&BROKER, key)?.default.map(str::to_owned);
                self.explicit.get(key).cloned().or_else(default)
            }
        }
    }
}

/// Reads a table. It is part of the program, so that a line which cannot be read is a bug, and the first
/// test that looks at the table finds it.
fn table(text: &'static str) -> Vec<Inert> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| row(line).unwrap_or_else(|| unreachable!("not a line of a table: {line}")))
        .collect()
}

fn row(line: &'static str) -> Option<Inert> {
    let columns: Vec<&'static str> = line.split(" | ").collect();
    let [key, kind, default, update, valid, honoured, synonym, doc] = columns[..] else {
        return None;
    };
    let (valid, range, choices) = parse_valid(valid)?;
    let setting = Setting {
        key,
        kind: Kind::ALL.into_iter().find(|known| known.name() == kind)?,
        unit: unit(key),
        range,
        choices: choices.leak(),
        synonyms: match synonym {
            "-" => &[],
            name => vec![name].leak(),
        },
        doc_lines: vec![doc].leak(),
    };
    Some(Inert {
        setting,
        default: match default {
            "-" => None,
            "\"\"" => Some(""),
            text => Some(text),
        },
        update: match update {
            "read-only" => Update::ReadOnly,
            "cluster" => Update::Cluster,
            "broker" => Update::Broker,
            "topic" | "group" => Update::Resource,
            _ => return None,
        },
        honoured: match honoured {
            "-" => Honoured::All,
            "alias" => Honoured::Alias,
            "roles" => Honoured::Roles,
            only => Honoured::Only(only.strip_prefix('=')?),
        },
        valid,
    })
}

fn parse_valid(text: &'static str) -> Option<(Valid, (i64, i64), Vec<&'static str>)> {
    if let Some(choices) = text.strip_prefix("one of ") {
        let (valid, choices) = match choices.strip_suffix(" in any case") {
            Some(choices) => (Valid::OneOfInAnyCase, choices),
            None => (Valid::OneOf, choices),
        };
        return Some((valid, ANY, choices.split(',').collect()));
    }
    if let Some((min, max)) = text.split_once("..") {
        let (valid, max) = match max.strip_suffix(" or -1") {
            Some(max) => (Valid::RangeOrMinusOne, max),
            None => (Valid::Range, max),
        };
        let max = if max.is_empty() {
            Ok(i64::MAX)
        } else {
            max.parse()
        };
        return Some((valid, (min.parse().ok()?, max.ok()?), Vec::new()));
    }
    let valid = match text {
        "-" => Valid::Any,
        "not empty" => Valid::NotEmpty,
        "partition:broker" => Valid::Replicas,
        "id@host:port" => Valid::Voters,
        "host:port" => Valid::Servers,
        _ => return None,
    };
    Some((valid, ANY, Vec::new()))
}

fn unit(key: &str) -> Unit {
    match key.rsplit('.').next() {
        Some("ms") => Unit::Ms,
        Some("minutes") => Unit::Minutes,
        Some("hours") => Unit::Hours,
        Some("bytes") => Unit::Bytes,
        _ => Unit::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BrokerConfig, GroupSettings, TopicConfig};

    fn topic(key: &str) -> &'static Inert {
        find(&TOPIC, key).unwrap()
    }

    #[test]
    fn tables_are_sorted_because_they_are_searched_so() {
        for table in [&BROKER, &TOPIC, &GROUP, &CLIENT_METRICS] {
            assert!(table.is_sorted_by_key(|inert| inert.setting.key));
        }
    }

    #[test]
    fn every_default_is_allowed_and_honoured() {
        for inert in BROKER.iter().chain(TOPIC.iter()).chain(GROUP.iter()) {
            let default = inert.default.unwrap_or_default();
            if inert.default.is_some() {
                let shown = inert.check(default);
                assert!(shown.is_ok(), "{}: {shown:?}", inert.setting.key);
            }
            if inert.honoured != Honoured::Alias {
                assert_eq!(inert.honour(default), Ok(()), "{}", inert.setting.key);
            }
        }
    }

    #[test]
    fn nothing_is_both_acted_on_and_not() {
        for inert in BROKER.iter() {
            assert!(
                BrokerConfig::setting(inert.setting.key).is_none(),
                "{}",
                inert.setting.key
            );
        }
        for inert in TOPIC.iter() {
            assert!(TopicConfig::setting(inert.setting.key).is_none());
            for synonym in inert.setting.synonyms {
                assert!(find(&BROKER, synonym).is_some(), "{synonym}");
            }
        }
        for inert in GROUP.iter() {
            assert!(GroupSettings::setting(inert.setting.key).is_none());
        }
    }

    #[test]
    fn values_are_checked_as_by_kafka_and_shown_in_one_form() {
        assert_eq!(topic("flush.ms").check(" 007 "), Ok("7".to_owned()));
        assert!(
            topic("flush.ms")
                .check("-1")
                .unwrap_err()
                .contains("at least 0")
        );
        assert!(topic("flush.ms").check("1k").is_err());
        assert_eq!(topic("preallocate").check("TRUE"), Ok("true".to_owned()));
        assert!(topic("preallocate").check("1").is_err());
        let factor = find(&BROKER, "log.cleaner.io.buffer.load.factor").unwrap();
        assert_eq!(factor.check(".25"), Ok("0.25".to_owned()));
        assert!(factor.check("a quarter").is_err());
        assert_eq!(
            topic("compression.gzip.level").check("-1"),
            Ok("-1".to_owned())
        );
        let wrong = topic("compression.gzip.level").check("10").unwrap_err();
        assert_eq!(wrong, "1 to 9, or -1");
        let throttled = topic("leader.replication.throttled.replicas");
        for good in ["", "*", "0:1", "0:1, 1:1"] {
            assert!(throttled.check(good).is_ok(), "{good}");
        }
        for bad in ["x", "0:", "0:1,", "0:1,*"] {
            assert!(throttled.check(bad).is_err(), "{bad}");
        }
        let migration = find(&BROKER, "group.consumer.migration.policy").unwrap();
        assert!(migration.check("Disabled").is_ok() && migration.check("no").is_err());
    }

    #[test]
    fn what_would_have_to_do_something_is_not_honoured() {
        let broker = |key| find(&BROKER, key).unwrap();
        for (key, good, bad) in [
            ("process.roles", "controller,broker", "controller"),
            (
                "authorizer.class.name",
                "",
                "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            ),
            ("remote.log.storage.system.enable", "false", "true"),
        ] {
            assert_eq!(broker(key).honour(good), Ok(()), "{key}");
            assert!(broker(key).honour(bad).is_err(), "{key}");
        }
        assert!(topic("remote.storage.enable").honour("true").is_err());
    }
}
