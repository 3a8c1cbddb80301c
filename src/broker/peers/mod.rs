//! The other nodes of the cluster. The control shard has a link to each of them (`hub`, `outgoing`): it dials, greets,
//! dials again, and says at least every 25 ms that it is there. Streams of other nodes come to any shard (`streams`),
//! which hands on to the control shard what is said on them. So each pair of nodes has two streams, one for each
//! direction. `greeting` is who may talk with whom; `detector` judges whether another node is alive.
//!
//! Streams for replicas are other ones, from shard to shard (`broker/replicas`): the shard to which one comes judges
//! the hello by itself, and hands on what is said to the shard that is meant.
//!
//! A node that stands alone has none of this: it is given no [`ClusterSetup`], and refuses those who greet it.

mod detector;
mod greeting;
mod hub;
pub(super) mod outgoing;
pub(super) mod streams;

pub use detector::{Detector, Judged, OwnTime, Verdict};
pub use greeting::{ClusterSetup, PeerAddress};
pub(super) use hub::Peers;
pub use hub::{PeerEvent, Unsent};
