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

impl TopicRef {
    /// The same in memory of its own: a name that was parsed is a part of the request, which stays as
    /// long as any part of it.
    #[must_use]
    pub fn detached(&self) -> Self {
        match self {
            Self::Name(name) => Self::Name(detached(name)),
            Self::Id(id) => Self::Id(*id),
        }
    }
}

/// A string in memory of its own, to be kept longer than the request that it is a part of.
#[must_use]
pub fn detached(string: &StrBytes) -> StrBytes {
    StrBytes::from(string.as_str().to_owned())
}
