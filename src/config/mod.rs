//! The one configuration format: Kafka's `server.properties`, with Kafka's
//! names, units, defaults and meanings; what Kafka does not have lies under
//! `millrace.`. Every setting is declared once (`broker.rs`, `topic.rs`, `group.rs`); from
//! that declaration come the typed field, parsing, validation, the answers of
//! DescribeConfigs and the settings page.
//!
//! Kafka's settings that this broker does not act on are in tables of their own (`inert.rs`): one whose
//! value changes nothing here is taken, with a warning where it comes from a file; one that would have to
//! do something is refused.

mod broker;
mod dynamic;
mod group;
mod group_rules;
pub mod inert;
mod listeners;
mod load;
mod page;
mod properties;
mod quorum;
mod reload;
mod setting;
mod topic;
mod unsupported;
mod value;

pub use broker::{BrokerConfig, Ignored};
pub use dynamic::{DynamicError, check_dynamic, update_of};
pub use group::GroupSettings;
pub use listeners::{Address, Endpoint, Endpoints, ProtocolMap};
pub use load::{ConfigError, Problem, load, log_settings};
pub use page::settings_page;
pub use quorum::VoterAddress;
pub use reload::{SettingChange, SettingChanges};
pub use setting::{SetError, Setting, Unit};
pub use topic::{INTERNAL_TOPICS, TopicConfig, UNCLEAN_ELECTIONS, is_internal};
pub use value::{
    CleanupPolicy, CompressionType, Kind, LogFormat, LogLevel, PageCacheReads, Share, Value,
};
