//! The command line of `topics`.

use clap::Subcommand;

use super::{Changes, Sure, parse_pair};
use crate::pattern::Pattern;
use crate::start::{FORMS, Start};

/// `topics`
#[derive(Debug, Subcommand)]
pub enum Topics {
    /// Names, partitions and replicas
    List {
        /// Also the cluster's own topics
        #[arg(long)]
        internal: bool,
        /// Only those in whose name this regular expression is found
        #[arg(long, value_name = "REGEX")]
        matching: Option<Pattern>,
    },
    /// Make a topic
    Create {
        /// Its name
        name: String,
        /// Number of partitions, -1 for the broker's default
        #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
        partitions: i32,
        /// Number of replicas, -1 for the broker's default
        #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
        replication: i16,
        /// Setting to change, repeatable
        #[arg(long = "set", visible_alias = "config", value_name = "KEY=VALUE", value_parser = parse_pair)]
        configs: Vec<(String, String)>,
    },
    /// Partitions with leaders, replicas, offsets and bytes, and the configuration that differs from the default
    Describe {
        /// Topics
        #[arg(required = true)]
        names: Vec<String>,
        /// Also configuration that is the default
        #[arg(long)]
        all_configs: bool,
    },
    /// Change the configuration or add partitions
    Alter {
        /// The topic
        name: String,
        /// New number of partitions in all
        #[arg(long)]
        partitions: Option<i32>,
        /// The configuration.
        #[command(flatten)]
        changes: Changes,
    },
    /// Delete topics and all their records; by a pattern after showing them and a question
    Delete {
        /// Topics
        #[arg(required_unless_present = "matching", conflicts_with = "matching")]
        names: Vec<String>,
        /// Those in whose name this regular expression is found, but for the cluster's own
        #[arg(long, value_name = "REGEX")]
        matching: Option<Pattern>,
        /// Do it without a question
        #[arg(long, short, requires = "matching")]
        yes: bool,
    },
    /// Delete the oldest records of partitions, after showing how many and a question
    #[command(after_help = FORMS)]
    DeleteRecords {
        /// The topic
        name: String,
        /// Delete what is before this position
        #[arg(long, value_name = "POSITION", allow_hyphen_values = true)]
        before: Start,
        /// Partitions, all if absent; repeatable
        #[arg(long = "partition", short)]
        partitions: Vec<i32>,
        /// What is asked.
        #[command(flatten)]
        yes: Sure,
    },
    /// Offsets of partitions: the first and the end, or those of a position
    #[command(after_help = FORMS)]
    Offsets {
        /// The topic
        name: String,
        /// The position
        #[arg(long, value_name = "POSITION", allow_hyphen_values = true)]
        at: Option<Start>,
        /// Partitions, all if absent; repeatable
        #[arg(long = "partition", short)]
        partitions: Vec<i32>,
    },
}
