//! The requests about metadata, one file per family. A handler looks at the image and answers, on any shard. What
//! changes something is decided on the control shard, by the newest image: a [`Decision`] comes to a draft and to the
//! reply that is sent when the records are durable and every shard has the new image.

mod alter_configs;
mod alter_partition;
mod altering;
mod api_versions;
mod auto_create;
mod brokers;
mod config_entries;
mod create_partitions;
mod create_topics;
mod deciding;
mod delete_topics;
mod describe_acls;
mod describe_cluster;
mod describe_configs;
mod describe_quorum;
mod describe_topic_partitions;
mod elect_leaders;
mod full;
mod handler;
mod incremental_alter_configs;
mod init_producer_id;
mod list_config_resources;
mod list_partition_reassignments;
mod listing;
mod metadata;
mod once;
mod raft_voters;
#[cfg(test)]
pub(in crate::broker) mod testing;
mod unregister_broker;
mod voter_ask;

pub use alter_configs::alter_configs;
pub use alter_partition::{
    ALTER_PARTITION_VERSION, Altered, alter_partition, alter_partition_call, altered,
};
pub use api_versions::api_versions;
pub use auto_create::{auto_create, create_own};
pub use brokers::{Announced, Brokers};
pub use create_partitions::create_partitions;
pub use create_topics::create_topics;
pub use deciding::{Decided, Decider, Deciding, Decision};
pub use delete_topics::delete_topics;
pub use describe_acls::describe_acls;
pub use describe_cluster::describe_cluster;
pub use describe_configs::describe_configs;
pub use describe_quorum::describe_quorum;
pub use describe_topic_partitions::describe_topic_partitions;
pub use elect_leaders::elect_leaders;
pub use handler::{Answer, Ctx, ImageHandler, Listing, Progress, answer};
pub use incremental_alter_configs::incremental_alter_configs;
pub use init_producer_id::init_producer_id;
pub use list_config_resources::list_config_resources;
pub use list_partition_reassignments::list_partition_reassignments;
pub use listing::{List, list};
pub use metadata::{metadata, metadata_after_creation};
pub use raft_voters::{add_raft_voter, remove_raft_voter};
pub use unregister_broker::unregister_broker;
pub use voter_ask::VoterAsk;
