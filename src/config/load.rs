//! From texts to a checked [`BrokerConfig`]. All problems are reported at once,
//! each with the key, the value and what was expected.

use std::fmt;

use super::broker::{BrokerConfig, Ignored};
use super::inert::{self, Inert};
use super::properties;
use super::setting::SetError;
use super::topic::TopicConfig;
use super::unsupported;
use super::value::{LogFormat, LogLevel};
use crate::base::limits::CONFIG_PROBLEMS_MAX;

/// Other names of a setting: (taken as well, the setting).
const ALIASES: &[(&str, &str)] = &[("broker.id", "node.id"), ("log.dir", "log.dirs")];

/// What is wrong with a configuration: every problem found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// At least one, each with the line of the file, from 1, on which it stands, if it does.
    pub problems: Vec<(Option<usize>, Problem)>,
}

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A line of the file cannot be read.
    Syntax {
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
    /// A name that is known, though not as a setting of Kafka 4.
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
    /// There are more than anybody reads: what follows was not looked at.
    TooMany,
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
            Self::Syntax { why } => f.write_str(why),
            Self::Unknown { key, nearest: None } => write!(f, "unknown setting {key}"),
            Self::Unknown {
                key,
                nearest: Some(near),
            } => {
                write!(f, "unknown setting {key}: did you mean {near}?")
            }
            Self::TooMany => f.write_str("too many problems: what follows was not looked at"),
            Self::Unsupported { key } => {
                write!(
                    f,
                    "{key} is not supported, or no setting of Kafka 4: remove it"
                )
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
        for (i, (line, problem)) in self.problems.iter().enumerate() {
            let separator = if i == 0 { "" } else { "\n" };
            f.write_str(separator)?;
            if let Some(line) = line {
                write!(f, "line {line}: ")?;
            }
            problem.fmt(f)?;
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
    let lines = properties::parse(file.unwrap_or_default()).unwrap_or_else(|(line, why)| {
        problems.push((Some(line), Problem::Syntax { why }));
        Vec::new()
    });
    let lines = lines
        .iter()
        .map(|(line, key, value)| (Some(*line), key, value));
    let overrides = overrides.iter().map(|(key, value)| (None, key, value));
    for (line, key, value) in lines.chain(overrides) {
        if problems.len() >= CONFIG_PROBLEMS_MAX {
            problems.push((line, Problem::TooMany));
            break;
        }
        if let Err(problem) = apply(&mut config, line, key, value) {
            problems.push((line, problem));
        }
    }
    if problems.is_empty() {
        leave_out_controller(&mut config);
        let mut ignored = std::mem::take(&mut config.ignored);
        ignored.retain(|it| !config.names_nodes(it.key));
        config.ignored = ignored;
        problems.extend(contradictions(&config));
    }
    if problems.is_empty() {
        Ok(config)
    } else {
        Err(ConfigError { problems })
    }
}

/// How the log of a broker is wanted, by a configuration of which the rest may be wrong: to say that.
#[must_use]
pub fn log_settings(file: Option<&str>, overrides: &[(String, String)]) -> (LogFormat, LogLevel) {
    let mut config = BrokerConfig::default();
    let lines = properties::parse(file.unwrap_or_default()).unwrap_or_default();
    let lines = lines.into_iter().map(|(_, key, value)| (key, value));
    for (key, value) in lines.chain(overrides.iter().cloned()) {
        if key.starts_with("millrace.log.") {
            let _ = config.set(&key, &value);
        }
    }
    (config.millrace_log_format, config.millrace_log_level)
}

fn apply(
    config: &mut BrokerConfig,
    line: Option<usize>,
    key: &str,
    value: &str,
) -> Result<(), Problem> {
    let alias = ALIASES.iter().find(|(alias, _)| *alias == key);
    let name = alias.map_or(key, |(_, setting)| setting);
    match config.set(name, value) {
        Ok(()) => {
            let shown = config.show(name).unwrap_or_default();
            if let Some(setting) = BrokerConfig::setting(name) {
                config.explicit.insert(setting.key, shown);
                stands(config, line, setting.key);
            }
            Ok(())
        }
        Err(SetError::Invalid(expected)) => Err(bad_value(key, value, expected)),
        Err(SetError::Unknown) => match inert::find(&inert::BROKER, key) {
            Some(inert) => ignore(config, line, inert, value)
                .map_err(|expected| bad_value(key, value, expected)),
            None => Err(unknown(key)),
        },
    }
}

/// Notes where a setting stands.
fn stands(config: &mut BrokerConfig, line: Option<usize>, key: &'static str) {
    match line {
        Some(line) => config.lines.insert(key, line),
        None => config.lines.remove(key),
    };
}

/// Takes a setting that changes nothing.
fn ignore(
    config: &mut BrokerConfig,
    line: Option<usize>,
    inert: &'static Inert,
    value: &str,
) -> Result<(), String> {
    let shown = inert.check(value)?;
    inert.honour(&shown)?;
    config.explicit.insert(inert.setting.key, shown);
    stands(config, line, inert.setting.key);
    config.ignored.push(Ignored {
        line,
        key: inert.setting.key,
        why: inert.setting.doc(),
    });
    Ok(())
}

/// Kafka's broker and controller of one process talk by a listener of their own. Here they need none, so
/// what a file says of it is left out, but for other nodes.
fn leave_out_controller(config: &mut BrokerConfig) {
    let Some(names) = config.explicit.get("controller.listener.names") else {
        return;
    };
    let names: Vec<_> = names.split(',').map(str::to_ascii_uppercase).collect();
    if config.is_member() {
        let listeners = config.listeners.0.iter();
        let own = listeners.filter(|listener| names.contains(&listener.name));
        config.controller_listeners = own.cloned().collect();
    }
    let advertised = config.advertised_listeners.iter_mut().map(|all| &mut all.0);
    for listeners in advertised.chain([&mut config.listeners.0]) {
        listeners.retain(|listener| !names.contains(&listener.name));
    }
}

fn bad_value(key: &str, value: &str, expected: String) -> Problem {
    let secret = inert::find(&inert::BROKER, key).is_some_and(Inert::is_sensitive);
    let value = if secret { "(hidden)" } else { value };
    Problem::BadValue {
        key: key.to_owned(),
        value: value.to_owned(),
        expected,
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
    if let Some(inert) = inert::find(&inert::TOPIC, key)
        && !inert.setting.synonyms.is_empty()
    {
        return Problem::TopicSetting {
            key: owned,
            instead: inert.setting.synonyms,
        };
    }
    if unsupported::is_known(key) {
        return Problem::Unsupported { key: owned };
    }
    Problem::Unknown {
        key: owned,
        nearest: nearest(key),
    }
}

fn contradictions(config: &BrokerConfig) -> impl Iterator<Item = (Option<usize>, Problem)> {
    let shown = |key: &str| {
        config
            .show(key)
            .or_else(|| config.explicit.get(key).cloned())
    };
    config
        .contradictions()
        .into_iter()
        .map(move |(key, expected)| {
            let problem = Problem::BadValue {
                key: key.to_owned(),
                value: shown(key).unwrap_or_default(),
                expected,
            };
            (config.lines.get(key).copied(), problem)
        })
}

/// The setting that takes the fewest edits, if it takes few enough to be meant.
fn nearest(key: &str) -> Option<&'static str> {
    // A key is given by a person; a longer one than this resembles no setting.
    const KEY_BYTES_MAX: usize = 128;
    if key.len() > KEY_BYTES_MAX {
        return None;
    }
    let inert = inert::BROKER.iter().map(|inert| &inert.setting);
    let names = BrokerConfig::SETTINGS.iter().chain(inert);
    let names = names.map(|setting| setting.key);
    names
        .map(|name| (distance(key, name), name))
        // Of two that are as near the one that does something here comes first.
        .min_by_key(|(edits, _)| *edits)
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

    /// The problems of a text, by their lines.
    fn lines(text: &str) -> String {
        load(Some(text), &[]).unwrap_err().to_string()
    }

    /// The same without the lines.
    fn problem(text: &str) -> String {
        let problems = load(Some(text), &[]).unwrap_err().problems;
        let problems: Vec<_> = problems.iter().map(|(_, why)| why.to_string()).collect();
        problems.join("\n")
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
        let explicit: Vec<_> = config.explicit.keys().copied().collect();
        assert_eq!(explicit, ["log.dirs", "node.id", "num.partitions"]);
        assert_eq!(config.explicit["num.partitions"], "7");
        assert_eq!(config.ignored, []);
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
    fn names_of_other_releases_and_of_topics_are_refused_as_what_they_are() {
        for key in [
            "zookeeper.connect",
            "listener.name.inside.max.connections",
            "log.message.format.version",
        ] {
            let text = problem(&format!("{key}=3"));
            assert!(
                text.starts_with(key) && text.contains("remove it"),
                "{text}"
            );
        }
        assert_eq!(
            problem("segment.ms=3"),
            "segment.ms is a setting of topics: the broker's default is log.roll.ms or log.roll.hours"
        );
        assert_eq!(
            problem("flush.messages=3"),
            "flush.messages is a setting of topics: the broker's default is log.flush.interval.messages"
        );
    }

    /// The lines of a fresh Kafka 4 that are not comments, and those that people add for one node.
    const STOCK: &str = "process.roles=broker,controller\nnode.id=1\n\
        controller.quorum.bootstrap.servers=localhost:9093\n\
        listeners=PLAINTEXT://:9092,CONTROLLER://:9093\ninter.broker.listener.name=PLAINTEXT\n\
        advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093\n\
        controller.listener.names=CONTROLLER\n\
        listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL\n\
        num.network.threads=3\nnum.io.threads=8\nsocket.send.buffer.bytes=102400\n\
        socket.receive.buffer.bytes=102400\nsocket.request.max.bytes=104857600\n\
        log.dirs=/tmp/kraft-combined-logs\nnum.partitions=1\nnum.recovery.threads.per.data.dir=1\n\
        offsets.topic.replication.factor=1\nshare.coordinator.state.topic.replication.factor=1\n\
        transaction.state.log.min.isr=1\n#log.flush.interval.messages=10000\nlog.retention.hours=168\n";

    #[test]
    fn a_stock_file_of_kafka_is_one_node_with_a_warning_for_each_line_that_changes_nothing() {
        let config = load(Some(STOCK), &[]).unwrap();
        let names: Vec<_> = config.listeners.0.iter().map(|l| l.name.as_str()).collect();
        assert_eq!(names, ["PLAINTEXT"]);
        assert_eq!(config.advertised(0), ("localhost".to_owned(), 9092));
        let lines: Vec<_> = config.ignored.iter().map(|i| (i.line, i.key)).collect();
        assert_eq!(lines[0], (Some(1), "process.roles"));
        assert!(
            lines.contains(&(Some(9), "num.network.threads")),
            "{lines:?}"
        );
        assert_eq!(lines.len(), 8, "{lines:?}");
        assert_eq!(config.explicit["num.io.threads"], "8");
    }

    #[test]
    fn what_would_make_it_another_broker_is_refused_with_what_to_do() {
        let stock = |line: &str| problem(&format!("{STOCK}{line}\n"));
        for (line, why) in [
            ("process.roles=controller", "broker,controller"),
            ("controller.quorum.voters=1@a:1,2@b:1,3@c:1", "no other"),
            ("controller.quorum.voters=2@a:1", "node.id"),
            ("listeners=CONTROLLER://:9093", "at least one listener"),
            ("listeners=SSL://:9094", "neither TLS nor SASL"),
            ("authorizer.class.name=x.Y", "no authorizer"),
            (
                "max.connections.per.ip.overrides=10.0.0.1:5",
                "Not supported",
            ),
            ("num.io.threads=0", "at least 1"),
            ("num.io.thread=9", "did you mean num.io.threads?"),
        ] {
            let text = stock(line);
            assert!(text.contains(why), "{line}: {text}");
        }
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
    }

    #[test]
    fn problems_and_settings_have_their_lines() {
        assert!(lines("a=\\u00").starts_with("line 1: "));
        assert!(lines("# c\nnum.partitions=0").starts_with("line 2: num.partitions=0 is not"));
        let text = lines("num.partitions=2\n\nlog.dirs=/a,/b\nlog.dirz=/a");
        assert!(text.starts_with("line 4: unknown"), "{text}");
        let text = lines("num.partitions=2\n\nlog.dirs=/a,/b");
        assert!(text.starts_with("line 3: log.dirs"), "{text}");
        let overrides = [("num.partitions".to_owned(), "7".to_owned())];
        let text = "num.partitions=2\nlog.dirs=/a\nnum.io.threads=4\nlog.dirs=/b";
        let config = load(Some(text), &overrides).unwrap();
        let lines: Vec<_> = config.lines.into_iter().collect();
        assert_eq!(lines, [("log.dirs", 4), ("num.io.threads", 3)]);
        let wrong = [("log.dirs".to_owned(), "/a,/b".to_owned())];
        let error = load(Some("log.dirs=/a"), &wrong).unwrap_err();
        assert_eq!(error.problems[0].0, None, "not the line that it wins over");
        // Somebody has named some other file.
        let text = "not a setting\n".repeat(100_000);
        let problems = load(Some(&text), &[]).unwrap_err().problems;
        assert_eq!(problems.len(), CONFIG_PROBLEMS_MAX + 1);
        let last = (Some(CONFIG_PROBLEMS_MAX + 1), Problem::TooMany);
        assert_eq!(problems.last(), Some(&last));
    }

    #[test]
    fn how_to_log_is_known_though_the_rest_is_wrong() {
        let json = (LogFormat::Json, LogLevel::Debug);
        let text = "log.dirz=/a\nmillrace.log.format=json\nmillrace.log.level=warn";
        let over = [("millrace.log.level".to_owned(), "debug".to_owned())];
        assert_eq!(log_settings(Some(text), &over), json);
        let default = (LogFormat::Text, LogLevel::Info);
        assert_eq!(log_settings(Some("millrace.log.format=xml"), &[]), default);
        assert_eq!(log_settings(Some("a=\\u00"), &[]), default);
    }

    #[test]
    fn contradictions_are_found() {
        for text in [
            "queued.max.request.bytes=1000",
            "log.retention.ms=0",
            "log.dirs=/a,/b",
            "log.cleanup.policy=compacted",
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
