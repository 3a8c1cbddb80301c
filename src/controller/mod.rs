//! The cluster's metadata as a state machine. Deciders look at the [`Image`] and
//! return records and an answer; replaying a [`MetadataRecord`] is the only way
//! the image changes. So a restart, and later a failover, run the same code as
//! the first time. Nothing here knows the wire.

mod assignment;
mod bootstrap;
mod brokers;
mod configs;
mod create;
mod delta;
mod draft;
mod elections;
mod features;
mod group_configs;
mod homes;
mod image;
mod leadership;
mod moves;
mod new_partitions;
mod new_topic;
mod partitions;
mod placement;
mod producer_ids;
mod record;
mod record_codec;
mod record_list;
mod registered;
mod replaying;
mod snapshot;
#[cfg(test)]
pub mod testing;
mod topic;
mod topic_name;
mod topics;

pub use bootstrap::{addresses, bootstrap, first_records};
pub use brokers::{Joining, fence, may_be_removed, register, remove_broker, unfence};
pub use configs::{
    ConfigOp, alter_broker_configs, alter_group_configs, alter_topic_configs, each_once, replacing,
};
pub use create::{Created, create_missing, create_topic};
pub use delta::Delta;
pub use draft::{Change, Draft, Terms};
pub use elections::{Election, elect_leader, eligible};
pub use features::{
    FEATURE_LEVEL, FEATURE_LEVELS, FeatureLevel, GROUP_VERSIONS, STREAMS_VERSIONS,
    TRANSACTION_VERSIONS, group_version, groups_have_settings, streams_version,
    transaction_version,
};
pub use group_configs::GroupConfigs;
pub use homes::rehomed;
pub use image::{
    DirectoryLoad, Image, METADATA_LOG, METADATA_LOGS, METADATA_SNAPSHOT_LOG, METADATA_STATE_LOG,
    ReplayError,
};
pub use leadership::{AlterInSync, Eligible, alter_in_sync, fenced, unfenced, void_asked};
pub use moves::{Cause, Moves, Settled};
pub use new_topic::{NewTopic, partitions_wanted};
pub use partitions::{MorePartitions, add_partitions, remove_topic};
pub use placement::Placement;
pub use producer_ids::{PRODUCER_ID_BLOCK, ProducerIdAllocator};
pub use record::{ConfigResource, Elections, MetadataRecord, PartitionRecord};
pub use record_codec::BadRecord;
pub use record_list::{RecordList, RecordListReader};
pub use registered::{BrokerAddress, Directory, Registered, Registration};
pub use replaying::Replaying;
pub use snapshot::ImageRecords;
pub use topic::{Partition, Topic};
pub use topic_name::check_topic_name;
