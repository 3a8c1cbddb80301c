//! How requests name a topic.

use kafka_wire_core::StrBytes;

use crate::base::TopicId;

/// A topic as a request names it: by name in old versions, by id in new ones. The answer uses
/// the same form.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TopicRef {
    /// By name.
    Name(StrBytes),
    /// By id (KIP-516).
    Id(TopicId),
}
