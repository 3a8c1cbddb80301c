//! The hosts of coordinators: one instance for each partition of `__consumer_offsets` that this shard owns, and one
//! for each of `__transaction_state`, which loads what the partition holds, decides on requests, wants its records
//! appended, and answers when they are durable.
//!
//! `ask.rs` has what an instance is asked and what it answers, `instance.rs` one partition with its state machine
//! (`group`), `host.rs` all of a shard. `transactions.rs` is all that for transactional ids (`txn`). Nothing here
//! knows the wire, nor how records get into a log.

mod ask;
mod host;
mod instance;
mod transactions;

pub use ask::{
    CLASSIC, CONSUMER, ConsumerMember, Described, DescribedConsumer, DescribedMember,
    DescribedStreams, FetchedOf, FetchedOffset, Fetcher, GroupAnswer, GroupAsk, GroupPlace, Listed,
    OffsetsOf, Question, STREAMS, Stability, StreamsMemberShown, TopicOffsets,
};
pub use host::{Host, HostEffect};
pub use instance::InstanceState;
pub use transactions::{ListedTxn, TxnAnswer, TxnAsk, TxnFilter, TxnHost, TxnHostEffect, TxnPlace};
