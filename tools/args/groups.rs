//! The command line of `groups`.

use clap::Subcommand;

use super::Watch;
use crate::start::{FORMS, Start};

/// `groups`
#[derive(Debug, Subcommand)]
pub enum Groups {
    /// All groups of all brokers, with type and state
    List,
    /// State, members with their partitions, offsets, and how far behind they are in records and in time
    Describe {
        /// Groups
        #[arg(required = true)]
        groups: Vec<String>,
        /// How often.
        #[command(flatten)]
        watch: Watch,
    },
    /// Delete groups without members, and their offsets
    Delete {
        /// Groups
        #[arg(required = true)]
        groups: Vec<String>,
    },
    /// Move a group's offsets; the group must have no members. Shows the plan; --execute does it
    #[command(visible_alias = "reset", after_help = FORMS)]
    ResetOffsets {
        /// The group
        group: String,
        /// Topic, repeatable; if absent, all partitions of which the group has offsets
        #[arg(long = "topic", value_name = "TOPIC")]
        topics: Vec<String>,
        /// Partitions, all if absent; repeatable
        #[arg(long = "partition", short, requires = "topics")]
        partitions: Vec<i32>,
        /// Where to
        #[arg(long, value_name = "POSITION", allow_hyphen_values = true)]
        to: Start,
        /// Do it
        #[arg(long)]
        execute: bool,
    },
}
