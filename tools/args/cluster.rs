//! The command lines of `cluster` and `logdirs`.

use clap::{Args, Subcommand};

use super::Watch;

/// `cluster`
#[derive(Clone, Debug, Subcommand)]
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
    /// Who votes about the metadata, and others who may be given a vote (KIP-853)
    Voters {
        /// What to do; without it, they are shown.
        #[command(subcommand)]
        command: Option<VotersCommand>,
    },
    /// Directories of the brokers (of Millrace, stores), how full they are and what is wrong with them
    Stores,
}

/// `cluster voters`
#[derive(Clone, Debug, Subcommand)]
pub enum VotersCommand {
    /// All replicas of the metadata, with their directories; also what `cluster voters` alone shows
    Show,
    /// Give a node a vote that follows the voters already; answered when it has caught up and all is committed
    Add {
        /// The node
        #[arg(value_name = "NODE")]
        node: i32,
        /// Where the voters reach it: the name of their controller listener, and its host and port. Millrace looks at
        /// the name alone, for nodes register where they are
        #[arg(long, value_name = "NAME://HOST:PORT", value_parser = listener)]
        listener: (String, String, u16),
        /// Its directory, where several processes have its id
        #[arg(long, value_name = "ID")]
        directory: Option<String>,
    },
    /// Take the vote from a node, say because its disk is lost
    Remove {
        /// The node
        #[arg(value_name = "NODE")]
        node: i32,
        /// The directory with which it has the vote, to be sure
        #[arg(long, value_name = "ID")]
        directory: Option<String>,
    },
}

/// `NAME://HOST:PORT`.
fn listener(text: &str) -> Result<(String, String, u16), String> {
    let parts = || {
        let (name, address) = text.split_once("://")?;
        let (host, port) = address.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let is_whole = !name.is_empty() && !host.is_empty();
        let port = port.parse().ok().filter(|port| *port > 0)?;
        is_whole.then(|| (name.to_owned(), host.to_owned(), port))
    };
    parts().ok_or_else(|| "NAME://HOST:PORT is expected".to_owned())
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
