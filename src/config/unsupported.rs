//! Names that are no settings of Kafka 4 but that somebody may bring along, so that each can be refused
//! as what it is instead of as a typing error.

/// Families of settings: every name that begins so.
const PREFIXES: &[&str] = &[
    "confluent.",
    "listener.name.",
    "password.encoder.",
    "zookeeper.",
];

/// Settings of older releases, and some that Kafka does not tell of.
const OTHERS: &[&str] = &[
    "auto.include.jmx.reporter",
    "broker.id.generation.enable",
    "control.plane.listener.name",
    "inter.broker.protocol.version",
    "leader.imbalance.per.broker.percentage",
    "log.message.downconversion.enable",
    "log.message.format.version",
    "log.message.timestamp.difference.max.ms",
    "message.downconversion.enable",
    "message.format.version",
    "message.timestamp.difference.max.ms",
    "offsets.commit.required.acks",
    "reserved.broker.max.id",
    "server.max.startup.time.ms",
    "unclean.leader.election.interval.ms",
    "unstable.api.versions.enable",
    "unstable.feature.versions.enable",
];

/// Whether a name is known, though not as a setting.
pub(super) fn is_known(key: &str) -> bool {
    OTHERS.contains(&key) || PREFIXES.iter().any(|prefix| key.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BrokerConfig, inert};

    #[test]
    fn nothing_is_both_a_setting_and_not() {
        let inert = inert::BROKER.iter().map(|inert| &inert.setting);
        for setting in BrokerConfig::SETTINGS.iter().chain(inert) {
            assert!(!is_known(setting.key), "{}", setting.key);
        }
    }
}
