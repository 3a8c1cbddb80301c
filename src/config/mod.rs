//! The one configuration format: Kafka's `server.properties`, with Kafka's
//! names, units, defaults and meanings; what Kafka does not have lies under
//! `millrace.`. Every setting is declared once (`broker.rs`, `topic.rs`); from
//! that declaration come the typed field, parsing, validation, the answers of
//! DescribeConfigs and the settings page.
//!
//! There is no setting that does nothing: a Kafka setting that this broker does
//! not act on is refused by name, see `unsupported.rs`.

mod broker;
mod listeners;
mod load;
mod page;
mod properties;
mod setting;
mod topic;
mod unsupported;
mod value;

pub use broker::BrokerConfig;
pub use listeners::{Endpoint, Endpoints, ProtocolMap};
pub use load::{ConfigError, Problem, load};
pub use page::settings_page;
pub use setting::{Kind, SetError, Setting, Unit};
pub use topic::{INTERNAL_TOPICS, TopicConfig, is_internal};
pub use value::{CleanupPolicy, CompressionType, Value};
