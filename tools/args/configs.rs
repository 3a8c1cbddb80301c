//! The command line of `configs`.

use clap::{Subcommand, ValueEnum};

use super::Changes;

/// `configs`
#[derive(Debug, Subcommand)]
pub enum Configs {
    /// Settings that are not the default, and where they come from
    Describe {
        /// What it is
        kind: Kind,
        /// Its name; of a broker its node id, or `default` for all brokers that have no value of their own
        name: String,
        /// Also settings that are the default
        #[arg(long)]
        all: bool,
    },
    /// Change settings: all that are named, or none
    Alter {
        /// What it is
        kind: Kind,
        /// Its name; of a broker its node id, or `default` for all brokers that have no value of their own
        name: String,
        /// What to change.
        #[command(flatten)]
        changes: Changes,
    },
}

/// What has a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A topic
    Topic,
    /// A broker, or all of them
    Broker,
    /// A group
    Group,
}
