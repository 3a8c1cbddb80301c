//! The command line of `store`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use millrace::store::LogLabel;

/// `store`
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// What is in them
    Ls {
        /// The broker's data directory
        directory: PathBuf,
    },
    /// Make a raw block device blank, so that millrace.store.devices takes it
    Format {
        /// The device
        device: PathBuf,
        /// Also if it holds something, which is lost
        #[arg(long)]
        erase: bool,
    },
    /// Read every batch and check it
    Check {
        /// The broker's data directory
        directory: PathBuf,
        /// Which partitions.
        #[command(flatten)]
        pick: Pick,
    },
    /// Write partitions as Kafka keeps them: TOPIC-PARTITION/OFFSET.log, .index, .timeindex
    Export {
        /// The broker's data directory
        directory: PathBuf,
        /// Directory to write into
        out: PathBuf,
        /// Which partitions.
        #[command(flatten)]
        pick: Pick,
    },
    /// Make the data directory of a new broker of partitions as Kafka keeps them: of a Kafka broker that was stopped,
    /// of `store export`, of `backup`
    Import(Import),
    /// Export what can still be read of stores that the broker refuses, and say what cannot. Nothing is changed
    Salvage {
        /// The broker's data directory
        directory: PathBuf,
        /// Directory to write into
        #[arg(long = "to", value_name = "OUT")]
        out: PathBuf,
        /// Which partitions.
        #[command(flatten)]
        pick: Pick,
    },
}

/// `backup`
#[derive(Args, Clone, Debug)]
pub struct Backup {
    /// Directory to write into, which is not there yet
    pub out: PathBuf,
    /// Topics, repeatable; all, also those of the cluster itself, if absent
    #[arg(long)]
    pub topic: Vec<String>,
}

/// `store import`
#[derive(Args, Clone, Debug)]
pub struct Import {
    /// Directories that hold TOPIC-PARTITION directories: all that log.dirs of the Kafka broker names
    #[arg(required = true)]
    pub sources: Vec<PathBuf>,
    /// The new data directory; log.dirs of --config if absent
    #[arg(long, value_name = "DIRECTORY", required_unless_present = "config")]
    pub to: Option<PathBuf>,
    /// server.properties of the broker that is to have it: node.id, cores, sizes of stores
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where nothing says which settings topics have: the defaults
    #[arg(long)]
    pub without_settings: bool,
}

/// Which partitions of a store.
#[derive(Args, Clone, Debug, Default)]
pub struct Pick {
    /// Topic; all if absent
    #[arg(long)]
    pub topic: Option<String>,
    /// Partition; all if absent
    #[arg(long)]
    pub partition: Option<i32>,
}

impl Pick {
    /// Whether this partition is among them.
    pub fn takes(&self, label: &LogLabel) -> bool {
        self.topic
            .as_ref()
            .is_none_or(|topic| *topic == label.topic)
            && self
                .partition
                .is_none_or(|partition| partition == label.partition)
    }
}
