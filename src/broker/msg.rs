//! Messages between the shards of one node.

/// One message of the mesh.
#[derive(Debug)]
pub enum Msg {
    /// Placeholder until the first real message.
    Nothing,
}
