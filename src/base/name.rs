//! Ids and names, of which many tables hold the same.

use std::sync::Arc;

/// An id or name that several tables share: group, member, instance, topic, protocol.
pub type Name = Arc<str>;

/// A name; all empty ones share one, since most metadata of offsets is empty.
#[must_use]
pub fn name(text: &str) -> Name {
    match text {
        "" => Name::default(),
        _ => Name::from(text),
    }
}
