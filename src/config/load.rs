//! From texts to a checked [`BrokerConfig`]. All problems are reported at once,
//! each with the key, the value and what was expected.

use std::fmt;

use super::broker::BrokerConfig;
use super::properties;
use super::setting::SetError;
use super::topic::TopicConfig;
use super::unsupported;

/// Other names of a setting: (taken as well, the setting).
const ALIASES: &[(&str, &str)] = &[("broker.id", "node.id"), ("log.dir", "log.dirs")];

/// What is wrong with a configuration: every problem found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// At least one.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A line of the file cannot be read.
    Syntax {
        /// From 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// No such setting.
    Unknown {
        /// As given.
        key: String,
        /// The known setting that looks most like it, if one does.
        nearest: Option<&'static str>,
    },
    /// A setting of Kafka's that this broker does not act on.
    Unsupported {
        /// As given.
        key: String,
    },
    /// A setting of topics given to the broker.
    TopicSetting {
        /// As given.
        key: String,
        /// The broker's settings for the same thing.
        instead: &'static [&'static str],
    },
    /// A value that is not allowed, by itself or next to another one.
    BadValue {
        /// The setting.
        key: String,
        /// As given.
        value: String,
        /// What is allowed.
        expected: String,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax { line, why } => write!(f, "line {line}: {why}"),
            Self::Unknown { key, nearest: None } => write!(f, "unknown setting {key}"),
            Self::Unknown {
                key,
                nearest: Some(near),
            } => {
                write!(f, "unknown setting {key}: did you mean {near}?")
            }
            Self::Unsupported { key } => {
                write!(f, "Kafka setting {key} is not supported yet: remove it")
            }
            Self::TopicSetting { key, instead } => {
                let instead = instead.join(" or ");
                write!(
                    f,
                    "{key} is a setting of topics: the broker's default is {instead}"
                )
            }
            Self::BadValue {
                key,
                value,
                expected,
            } => {
                write!(f, "{key}={value} is not allowed: expected {expected}")
            }
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            let separator = if i == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Reads a configuration: the text of a `server.properties`, if there is one, and settings that
/// win over it. What comes later wins, as in Kafka.
///
/// # Errors
/// Everything that is wrong, see [`Problem`].
pub fn load(
    file: Option<&str>,
    overrides: &[(String, String)],
) -> Result<BrokerConfig, ConfigError> {
    let mut config = BrokerConfig::default();
    let mut problems = Vec::new();
    let mut pairs = properties::parse(file.unwrap_or_default()).unwrap_or_else(|(line, why)| {
        problems.push(Problem::Syntax { line, why });
        Vec::new()
    });
    pairs.extend_from_slice(overrides);
    for (key, value) in &pairs {
        if let Err(problem) = apply(&mut config, key, value) {
            problems.push(problem);
        }
    }
    if problems.is_empty() {
        problems.extend(contradictions(&config));
    }
    if problems.is_empty() {
        Ok(config)
    } else {
        Err(ConfigError { problems })
    }
}

fn apply(config: &mut BrokerConfig, key: &str, value: &str) -> Result<(), Problem> {
    let alias = ALIASES.iter().find(|(alias, _)| *alias == key);
    let name = alias.map_or(key, |(_, setting)| setting);
    match config.set(name, value) {
        Ok(()) => {
            config
                .explicit
                .extend(BrokerConfig::setting(name).map(|setting| setting.key));
            Ok(())
        }
        Err(SetError::Invalid(expected)) => Err(Problem::BadValue {
            key: key.to_owned(),
            value: value.to_owned(),
            expected,
        }),
        Err(SetError::Unknown) => Err(unknown(key)),
    }
}

fn unknown(key: &str) -> Problem {
    let owned = key.to_owned();
    if let Some(setting) = TopicConfig::setting(key) {
        return Problem::TopicSetting {
            key: owned,
            instead: setting.synonyms,
        };
    }
    if unsupported::is_broker_setting(key) {
        return Problem::Unsupported { key: owned };
    }
    Problem::Unknown {
        key: owned,
        nearest: nearest(key),
    }
}

fn contradictions(config: &BrokerConfig) -> impl Iterator<Item = Problem> {
    config
        .contradictions()
        .into_iter()
        .map(|(key, expected)| Problem::BadValue {
            key: key.to_owned(),
            value: config.show(key).unwrap_or_default(),
            expected,
        })
}

/// The setting that takes the fewest edits, if it takes few enough to be meant.
fn nearest(key: &str) -> Option<&'static str> {
    // A key is given by a person; a longer one than this resembles no setting.
    const KEY_BYTES_MAX: usize = 128;
    if key.len() > KEY_BYTES_MAX {
        return None;
    }
    let names = BrokerConfig::SETTINGS.iter().map(|setting| setting.key);
    names
        .map(|name| (distance(key, name), name))
        .min()
        .filter(|(edits, name)| *edits <= name.len().div_ceil(3))
        .map(|(_, name)| name)
}

/// Levenshtein's distance: insertions, deletions and replacements from `a` to `b`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        load(Some(text), &[]).unwrap_err().to_string()
    }

    #[test]
    fn nothing_given_is_the_default() {
        assert_eq!(load(None, &[]), Ok(BrokerConfig::default()));
    }

    #[test]
    fn a_file_and_overrides() {
        let overrides = [("num.partitions".to_owned(), "7".to_owned())];
        let config = load(
            Some("broker.id=3\nlog.dir=/data\nnum.partitions=2"),
            &overrides,
        )
        .unwrap();
        assert_eq!((config.node_id, config.num_partitions), (3, 7));
        assert_eq!(config.log_dirs, "/data");
        let explicit: Vec<_> = config.explicit.iter().copied().collect();
        assert_eq!(explicit, ["log.dirs", "node.id", "num.partitions"]);
    }

    #[test]
    fn a_typing_error_gets_a_suggestion() {
        assert_eq!(
            problem("log.retention.hour=1"),
            "unknown setting log.retention.hour: did you mean log.retention.hours?"
        );
        assert_eq!(problem("colour=red"), "unknown setting colour");
    }

    #[test]
    fn settings_that_would_do_nothing_are_refused() {
        assert_eq!(
            problem("num.network.threads=3"),
            "Kafka setting num.network.threads is not supported yet: remove it"
        );
        assert_eq!(
            problem("listener.name.inside.ssl.keystore.location=x"),
            "Kafka setting listener.name.inside.ssl.keystore.location is not supported yet: remove it"
        );
        assert_eq!(
            problem("segment.ms=3"),
            "segment.ms is a setting of topics: the broker's default is log.roll.ms or log.roll.hours"
        );
    }

    #[test]
    fn every_problem_is_named() {
        let text = problem("num.partitions=0\nfetch.max.bytes=lots\nlog.cleanup.polic=delete");
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[0],
            "num.partitions=0 is not allowed: expected 1 to 2147483647"
        );
        assert_eq!(
            lines[1],
            "fetch.max.bytes=lots is not allowed: expected a whole number of 32 bits"
        );
        assert_eq!(
            lines[2],
            "unknown setting log.cleanup.polic: did you mean log.cleanup.policy?"
        );
        assert!(problem("a=\\u00").starts_with("line 1"));
    }

    #[test]
    fn contradictions_are_found() {
        for text in [
            "queued.max.request.bytes=1000",
            "log.retention.ms=0",
            "log.dirs=/a,/b",
            "log.cleanup.policy=compact",
            "millrace.store.journal.bytes=4194305",
            "listeners=OUT://:1",
            "advertised.listeners=OUT://host:1",
            "advertised.listeners=PLAINTEXT://0.0.0.0:1",
            "millrace.cluster.id=a b",
            "group.min.session.timeout.ms=1800001",
        ] {
            let key = text.split('=').next().unwrap();
            assert!(problem(text).starts_with(key), "{text}: {}", problem(text));
        }
    }

    #[test]
    fn named_listeners_can_be_mapped() {
        let text = "listeners=OUT://:1\nlistener.security.protocol.map=OUT:PLAINTEXT";
        assert!(load(Some(text), &[]).is_ok());
    }

    #[test]
    fn edits_are_counted() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
    }
}
