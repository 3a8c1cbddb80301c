//! Consumer groups of KIP-848, whose partitions the coordinator assigns: members say in heartbeats what they are
//! subscribed to and what they have, and are told what is theirs.
//!
//! `state.rs` has what is known of a group, and changes by the records of `change.rs` alone, which `records.rs` reads
//! and writes. `group.rs` takes what is asked (`heartbeat.rs`) and waits (`waiting.rs`) in turns (`turn.rs`), of whom
//! `fences.rs` lets ask; members come and go in `comings.rs`; `refresh.rs` makes a new target when there has to be one,
//! by an assignor of `assign/`, and `narrowing.rs` takes out of the last one what is not wanted any more;
//! `reconcile.rs` brings a member to it, step by step. `topics.rs` is what is seen of the cluster, with regular
//! expressions as `re2.rs` reads them, `cx.rs` what goes in and out. Nothing here knows of other kinds of groups, or of
//! offsets.

mod assign;
mod change;
mod changes;
mod comings;
mod cx;
mod fences;
mod group;
mod heartbeat;
mod member;
mod narrowing;
mod partitions;
mod re2;
mod reconcile;
pub mod records;
mod refresh;
mod state;
mod topics;
mod turn;
mod waiting;

pub use assign::{Assignor, assignor};
pub use change::{GroupChange, GroupEpoch, Resolved, TargetEpoch};
pub use changes::{Changes, Changing, Keyed};
pub use cx::{
    ConsumerConfig, ConsumerCx, ConsumerOut, ConsumerWrite, GroupOut, GroupWrite, MemberTimer,
    NextSlice,
};
pub use group::{ConsumerGroup, ConsumerState};
pub use heartbeat::{ConsumerHeartbeat, ConsumerReply, JOINS, LEAVES, LEAVES_FOR_A_WHILE};
pub use member::{Current, MemberState, Subscription};
pub use partitions::{Held, Partitions};
pub(in crate::group) use refresh::hash_of;
pub use refresh::preferred_assignor;
pub use state::GroupState;
pub use topics::{GroupTopics, NoTopics};
