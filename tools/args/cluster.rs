//! The command lines of `cluster` and `logdirs`.

use clap::{Args, Subcommand};

use super::Watch;

/// `cluster`
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum ClusterCommand {
    /// The brokers and what they can do; also what `cluster` alone shows
    Nodes,
    /// What is wrong: brokers, partitions, directories. The exit status is 4 if anything is
    Health {
        /// How often.
        #[command(flatten)]
        watch: Watch,
    },
    /// Who decides about the metadata, and how far the others are
    Quorum {
        /// How often.
        #[command(flatten)]
        watch: Watch,
    },
    /// Directories of the brokers (of Millrace, stores), how full they are and what is wrong with them
    Stores,
}

/// `logdirs`
#[derive(Args, Debug)]
pub struct LogDirs {
    /// Only of this topic, repeatable
    #[arg(long = "topic", value_name = "TOPIC")]
    pub topics: Vec<String>,
    /// Only on this broker, repeatable
    #[arg(long = "node", value_name = "NODE")]
    pub nodes: Vec<i32>,
}
