//! Vocabulary shared by every layer: ids, time values, error codes, limits,
//! page-aligned memory, checksums. Nothing here decides anything.

pub mod codec;
pub mod coordinating;
mod counter;
pub mod crc;
pub mod error;
pub(crate) mod fields;
pub mod hash;
pub mod ids;
mod leftovers;
pub mod limits;
mod name;
mod page;
pub mod pages;
mod pool;
mod queue;
mod refused;
pub mod rng;
pub mod shared_map;
mod shared_vec;
pub mod time;
mod timers;

pub use counter::Counter;
pub use error::ErrorCode;
pub use hash::{IdMap, IdSet};
pub use ids::{
    ConnId, DirectoryId, Incarnation, LeaderEpoch, LogId, NodeId, NodeProcess, Offset, SegmentId,
    ShardId, StoreId, TopicId,
};
pub use leftovers::Leftovers;
pub use name::{Name, name};
pub use page::BLOCK;
pub use pages::PageBuf;
pub use queue::Queue;
pub use refused::Refused;
pub use rng::Rng;
pub use shared_map::SharedMap;
pub use shared_vec::SharedVec;
pub use time::{Mono, Now};
pub use timers::Timers;
