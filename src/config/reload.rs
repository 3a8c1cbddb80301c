//! A configuration that is read again while the broker runs: what of it takes effect, and what waits for a start.

use std::fmt;

use super::broker::BrokerConfig;
use super::dynamic::LIVE;

/// What takes effect besides the settings that clients may change, too: also what those stand in for.
const ALSO: &[&str] = &[
    "log.retention.hours",
    "log.retention.minutes",
    "log.roll.hours",
    "millrace.log.level",
];

/// One setting that is different.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingChange {
    /// Where it stands and what it is called: see [`BrokerConfig::named`].
    pub named: String,
    /// Its value before, if it has one.
    pub before: Option<String>,
    /// Its value now, if it has one.
    pub after: Option<String>,
}

impl fmt::Display for SettingChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "not set".to_owned());
        let (before, after) = (shown(&self.before), shown(&self.after));
        write!(f, "{}: {before} -> {after}", self.named)
    }
}

/// The settings that are different.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettingChanges {
    /// Those that take effect.
    pub applied: Vec<SettingChange>,
    /// Those that take effect at the next start.
    pub waiting: Vec<SettingChange>,
}

impl BrokerConfig {
    /// A setting as people find it: with its place, which is a line of the file, the command line, or nowhere.
    #[must_use]
    pub fn named(&self, key: &str) -> String {
        match (&self.file, self.lines.get(key)) {
            (Some(file), Some(line)) => format!("{file}:{line}: {key}"),
            (None, Some(line)) => format!("line {line}: {key}"),
            (_, None) if self.explicit.contains_key(key) => format!("--override {key}"),
            (_, None) => format!("{key} (default)"),
        }
    }

    /// The settings that are not what they are by default, as people find them, with their values.
    pub fn different(&self) -> impl Iterator<Item = SettingChange> {
        let default = Self::default();
        Self::SETTINGS.iter().filter_map(move |setting| {
            let (before, after) = (default.show(setting.key), self.show(setting.key));
            (before != after).then(|| SettingChange {
                named: self.named(setting.key),
                before,
                after,
            })
        })
    }

    /// What is different in a configuration that was read again.
    #[must_use]
    pub fn changes(&self, read: &Self) -> SettingChanges {
        let mut changes = SettingChanges::default();
        for setting in Self::SETTINGS {
            let (before, after) = (self.show(setting.key), read.show(setting.key));
            if before != after {
                let list = if is_applied(setting.key) {
                    &mut changes.applied
                } else {
                    &mut changes.waiting
                };
                list.push(SettingChange {
                    named: read.named(setting.key),
                    before,
                    after,
                });
            }
        }
        changes
    }

    /// This one with what takes effect of one that was read again.
    ///
    /// # Errors
    /// Why that is none: it contradicts what stays as it is until the next start, or it is another node's.
    pub fn with(&self, read: &Self) -> Result<Self, Vec<String>> {
        let others = [
            ("node.id", self.node_id != read.node_id),
            ("log.dirs", self.log_dirs != read.log_dirs),
        ];
        let others = others.iter().filter(|(_, is_other)| *is_other);
        let mut problems: Vec<String> = others
            .map(|(key, _)| {
                format!(
                    "{}: these are the settings of another node",
                    read.named(key)
                )
            })
            .collect();
        let mut next = self.clone();
        next.apply(read);
        let contradictions = next.contradictions().into_iter();
        problems.extend(contradictions.map(|(key, why)| {
            format!(
                "{}: together with what waits for a start: {why}",
                read.named(key)
            )
        }));
        match problems.is_empty() {
            true => Ok(next),
            false => Err(problems),
        }
    }

    /// Takes over what takes effect of a configuration that was read again.
    pub fn apply(&mut self, read: &Self) {
        for key in LIVE.iter().chain(ALSO) {
            self.take_over(key, read);
            self.explicit.remove(key);
            self.explicit.extend(
                read.explicit
                    .get_key_value(key)
                    .map(|(key, text)| (*key, text.clone())),
            );
            self.lines.remove(key);
            self.lines.extend(
                read.lines
                    .get_key_value(key)
                    .map(|(key, line)| (*key, *line)),
            );
        }
    }
}

fn is_applied(key: &str) -> bool {
    LIVE.contains(&key) || ALSO.contains(&key)
}

#[cfg(test)]
mod tests {
    use super::super::load::load;
    use super::*;

    fn read(text: &str) -> BrokerConfig {
        let mut config = load(Some(text), &[]).unwrap();
        config.file = Some("f".to_owned());
        config
    }

    fn shown(changes: &[SettingChange]) -> Vec<String> {
        changes.iter().map(SettingChange::to_string).collect()
    }

    #[test]
    fn the_same_time_in_other_units_changes_nothing() {
        let hours: i64 = 30 * 24;
        let ms = read(&format!(
            "log.retention.ms={}\nlog.roll.ms={}",
            hours * 3_600_000,
            hours * 3_600_000
        ));
        let others = [
            format!("log.retention.hours={hours}\nlog.roll.hours={hours}"),
            format!(
                "log.retention.minutes={}\nlog.roll.hours={hours}",
                hours * 60
            ),
        ];
        for other in others {
            let now = ms.with(&read(&other)).expect("they agree");
            assert_eq!(
                (now.retention_ms(), now.roll_ms()),
                (ms.retention_ms(), ms.roll_ms())
            );
        }
    }

    #[test]
    fn settings_of_another_node_are_none() {
        let before = read("log.dirs=/a\nlog.retention.hours=1000");
        for other in ["", "log.dirs=/b", "log.dirs=/a\nnode.id=2"] {
            assert!(before.with(&read(other)).is_err(), "{other:?}");
        }
        assert!(before.with(&read("log.dirs=/a")).is_ok());
    }

    #[test]
    fn what_is_read_again_is_applied_as_far_as_it_may_be() {
        let before = read("log.retention.ms=5\nnum.partitions=3\nnum.io.threads=3\nlog.dirs=/a");
        let after =
            read("num.partitions=4\nmillrace.log.level=debug\nnum.io.threads=4\nlog.dirs=/a");
        let changes = before.changes(&after);
        assert_eq!(
            shown(&changes.applied),
            [
                "log.retention.ms (default): 5 -> not set",
                "f:2: millrace.log.level: info -> debug"
            ]
        );
        assert_eq!(shown(&changes.waiting), ["f:1: num.partitions: 3 -> 4"]);
        let mut now = before.clone();
        now.apply(&after);
        assert_eq!(now.log_retention_ms, None);
        assert_eq!(now.num_partitions, 3, "which waits");
        assert_eq!(now.explicit.get("log.retention.ms"), None);
        assert_eq!(now.explicit["millrace.log.level"], "debug");
        assert_eq!(now.lines["millrace.log.level"], 2);
        let changes = now.changes(&after);
        assert_eq!((changes.applied.len(), changes.waiting.len()), (0, 1));
        now.apply(&before);
        assert_eq!(now, before);
    }

    #[test]
    fn what_is_not_default_is_told_with_its_place() {
        let overrides = [("node.id".to_owned(), "7".to_owned())];
        let mut config = load(Some("\nlog.dirs=/a\nnum.partitions=1"), &overrides).unwrap();
        config.file = Some("/etc/x".to_owned());
        let different: Vec<_> = config.different().collect();
        assert_eq!(
            shown(&different),
            [
                "--override node.id: 1 -> 7",
                "/etc/x:2: log.dirs: millrace-data -> /a"
            ]
        );
    }

    #[test]
    fn every_setting_that_takes_effect_is_one() {
        for key in ALSO {
            assert!(BrokerConfig::setting(key).is_some(), "{key}");
        }
    }
}
