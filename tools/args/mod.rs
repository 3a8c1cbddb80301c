//! The command line of `millracectl`.

use std::path::PathBuf;
use std::sync::LazyLock;

use clap::{Args, Parser, Subcommand};
use millrace::record::Codec;
use millrace::runtime::version::version;
use millrace::store::LogLabel;

use crate::start::Start;

static VERSION: LazyLock<String> = LazyLock::new(|| version(option_env!("MILLRACE_COMMIT")));

/// Operates a Kafka cluster: topics, groups, records, and Millrace's stores.
#[derive(Debug, Parser)]
#[command(name = "millracectl", version = VERSION.as_str(), about, long_about = None)]
pub struct Cli {
    /// Brokers to ask first, comma-separated host:port
    #[arg(long, global = true, default_value = "127.0.0.1:9092")]
    pub bootstrap: String,
    /// Seconds to wait for a connection or an answer
    #[arg(long, global = true, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: u64,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Topics: list, create, describe, delete, alter
    #[command(subcommand)]
    Topics(Topics),
    /// Consumer groups: list, describe, delete, reset-offsets
    #[command(subcommand)]
    Groups(Groups),
    /// Send each line of the standard input as a record
    Produce(Produce),
    /// Print records
    Consume(Consume),
    /// Show the brokers and what they can do
    Cluster,
    /// Show where the time of requests goes: stage by stage at the median, at the 99th percentile and at
    /// worst, and the slowest requests
    Explain(Explain),
    /// Look into the store files of a Millrace broker that is not running
    #[command(subcommand)]
    Store(StoreCommand),
}

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

/// `topics`
#[derive(Debug, Subcommand)]
pub enum Topics {
    /// Names, partitions and replicas
    List {
        /// Also the cluster's own topics
        #[arg(long)]
        internal: bool,
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
        /// Configuration, repeatable
        #[arg(long = "config", value_name = "KEY=VALUE", value_parser = parse_pair)]
        configs: Vec<(String, String)>,
    },
    /// Partitions with leaders and offsets, and the configuration that differs from the default
    Describe {
        /// Topics
        #[arg(required = true)]
        names: Vec<String>,
        /// Also configuration that is the default
        #[arg(long)]
        all_configs: bool,
    },
    /// Delete topics and all their records
    Delete {
        /// Topics
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Change the configuration or add partitions
    Alter {
        /// The topic
        name: String,
        /// New number of partitions in all
        #[arg(long)]
        partitions: Option<i32>,
        /// Configuration to set, repeatable
        #[arg(long, value_name = "KEY=VALUE", value_parser = parse_pair)]
        set: Vec<(String, String)>,
        /// Configuration to return to its default, repeatable
        #[arg(long, value_name = "KEY")]
        unset: Vec<String>,
    },
}

/// `groups`
#[derive(Debug, Subcommand)]
pub enum Groups {
    /// All groups of all brokers
    List,
    /// Members, offsets and lag
    Describe {
        /// The group
        group: String,
    },
    /// Delete groups without members, and their offsets
    Delete {
        /// Groups
        #[arg(required = true)]
        groups: Vec<String>,
    },
    /// Move a group's offsets; the group must have no members. Shows the plan; --execute does it
    ResetOffsets {
        /// The group
        group: String,
        /// The topic
        #[arg(long)]
        topic: String,
        /// Partitions, all if absent; repeatable
        #[arg(long = "partition")]
        partitions: Vec<i32>,
        /// beginning, end, an offset, +n or -n from the current offset, or a time as
        /// @1700000000000 (ms) or @2026-01-31T12:00:00Z
        #[arg(long, allow_hyphen_values = true)]
        to: Start,
        /// Do it
        #[arg(long)]
        execute: bool,
    },
}

/// `produce`
#[derive(Args, Debug)]
pub struct Produce {
    /// The topic
    pub topic: String,
    /// Text between key and value; a line without it has no key
    #[arg(long, short = 'K')]
    pub key_separator: Option<String>,
    /// Partition; by key (as Kafka's clients choose it), or in turn without a key, if absent
    #[arg(long, short)]
    pub partition: Option<i32>,
    /// Compression: none, gzip, snappy, lz4 or zstd
    #[arg(long, default_value = "none", value_parser = parse_codec)]
    pub codec: Codec,
}

/// `consume`
#[derive(Args, Debug)]
pub struct Consume {
    /// The topic
    pub topic: String,
    /// Partitions, all if absent; repeatable
    #[arg(long = "partition", short)]
    pub partitions: Vec<i32>,
    /// beginning, end, an offset, -n for the last n of each partition, or a time as
    /// @1700000000000 (ms) or @2026-01-31T12:00:00Z
    #[arg(long, short = 'o', default_value = "end", allow_hyphen_values = true)]
    pub from: Start,
    /// Stop after this many records
    #[arg(long, short = 'n')]
    pub count: Option<u64>,
    /// Stop at the end of what is there now
    #[arg(long, short = 'e')]
    pub exit_at_end: bool,
    /// %k key, %v value, %t topic, %p partition, %o offset, %T timestamp (ms), %h headers, %%;
    /// \n, \t, \\ as usual
    #[arg(long, short, default_value = "%v\\n")]
    pub format: String,
}

/// `explain`
#[derive(Args, Debug)]
pub struct Explain {
    /// Seconds to look at
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: u64,
    /// Go on, showing each time what has happened since the last
    #[arg(long, short, conflicts_with = "since_start")]
    pub watch: bool,
    /// Do not wait: everything since the broker was started
    #[arg(long)]
    pub since_start: bool,
    /// How many of the slowest requests to show, of each kind
    #[arg(long, short = 'n', default_value_t = 5)]
    pub slowest: usize,
    /// One line of JSON for each broker
    #[arg(long)]
    pub json: bool,
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| format!("'{text}' is not KEY=VALUE"))?;
    Ok((key.to_owned(), value.to_owned()))
}

fn parse_codec(text: &str) -> Result<Codec, String> {
    let names = Codec::ALL.map(Codec::name).join(", ");
    Codec::from_name(text).ok_or_else(|| format!("'{text}' is no codec; known are {names}"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn commands_take_their_options_anywhere() {
        let cli =
            parse("millracectl topics create t --partitions 3 --config a=b=c --bootstrap h:1")
                .unwrap();
        assert_eq!(cli.bootstrap, "h:1");
        let Command::Topics(Topics::Create {
            name,
            partitions,
            replication,
            configs,
        }) = cli.command
        else {
            panic!()
        };
        assert_eq!((name.as_str(), partitions, replication), ("t", 3, -1));
        assert_eq!(configs, [("a".to_owned(), "b=c".to_owned())]);
    }

    #[test]
    fn starts_may_be_negative() {
        let cli = parse("millracectl consume t -o -5 -n 2 -e").unwrap();
        let Command::Consume(args) = cli.command else {
            panic!()
        };
        assert_eq!(
            (args.from, args.count, args.exit_at_end),
            (Start::Back(5), Some(2), true)
        );
        let cli = parse("millracectl groups reset-offsets g --topic t --to -5").unwrap();
        assert!(matches!(
            cli.command,
            Command::Groups(Groups::ResetOffsets {
                to: Start::Back(5),
                execute: false,
                ..
            })
        ));
    }

    #[test]
    fn nonsense_is_refused() {
        for wrong in [
            "millracectl",
            "millracectl topics describe",
            "millracectl topics create t --config x",
            "millracectl consume t --from yesterday",
            "millracectl produce t --codec x",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
