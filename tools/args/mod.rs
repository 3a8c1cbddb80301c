//! The command line of `millracectl`: what is common to all commands, and the list of them.

use std::sync::LazyLock;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use millrace::runtime::version::version;

use crate::answer::Answer;
use crate::failure::{Failure, Outcome, STATUSES, Status};

mod cluster;
mod configs;
mod groups;
mod profiles;
mod records;
mod store;
mod top;
mod topics;
mod transactions;

pub use cluster::{ClusterCommand, LogDirs, VotersCommand};
pub use configs::{Configs, Kind};
pub use groups::Groups;
pub use profiles::Profiles;
pub use records::{Consume, Input, Produce};
pub use store::{Backup, Import, Pick, StoreCommand};
pub use top::Top;
pub use topics::Topics;
pub use transactions::Transactions;

static VERSION: LazyLock<String> = LazyLock::new(|| version(option_env!("MILLRACE_COMMIT")));

/// Operates a Kafka cluster: topics, groups, records, and Millrace's stores.
#[derive(Debug, Parser)]
#[command(name = "millracectl", version = VERSION.as_str(), about, long_about = None, after_long_help = STATUSES)]
pub struct Cli {
    /// Brokers to ask first, comma-separated host:port; 127.0.0.1:9092 if nothing says which cluster
    #[arg(long, global = true)]
    pub bootstrap: Option<String>,
    /// A cluster that `profiles` has given a name; MILLRACE_CLUSTER in the environment if absent
    #[arg(long, global = true, value_name = "NAME", conflicts_with = "bootstrap")]
    pub cluster: Option<String>,
    /// Seconds to wait for a connection or an answer
    #[arg(long, global = true, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: u64,
    /// For programs: one line of JSON for each answer or record
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Topics: their partitions, settings, offsets and records
    #[command(subcommand)]
    Topics(Topics),
    /// Consumer groups: their members, offsets and lag
    #[command(subcommand)]
    Groups(Groups),
    /// Send lines of text as records
    Produce(Produce),
    /// Print records
    Consume(Consume),
    /// Settings of topics, brokers and groups
    #[command(subcommand)]
    Configs(Configs),
    /// Transactions: their state, and those that hang
    #[command(subcommand)]
    Transactions(Transactions),
    /// The brokers: what they can do, whether they are well, who decides, what is on their disks
    Cluster {
        /// What of that.
        #[command(subcommand)]
        command: Option<ClusterCommand>,
    },
    /// Which replica lies in which directory, and how large it is
    Logdirs(LogDirs),
    /// Show where the time of requests goes: stage by stage at the median, at the 99th percentile and at
    /// worst, and the slowest requests
    Explain(Explain),
    /// What goes on, again and again: records by topic, lag of groups, disks, and what nodes need
    Top(Top),
    /// Write what the cluster has into a directory, while it runs: topics with their settings, records, committed
    /// offsets. `store import` makes a broker of it
    Backup(Backup),
    /// Names for clusters
    #[command(subcommand)]
    Profiles(Profiles),
    /// Look into the store files of a Millrace broker that is not running
    #[command(subcommand)]
    Store(StoreCommand),
}

/// Changes of a configuration.
#[derive(Args, Clone, Debug, Default)]
pub struct Changes {
    /// Setting to change, repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_pair)]
    pub set: Vec<(String, String)>,
    /// Setting to return to its default, repeatable
    #[arg(long, value_name = "KEY")]
    pub unset: Vec<String>,
}

impl Changes {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.unset.is_empty()
    }

    /// An error if there are none.
    pub fn required(&self) -> Outcome {
        if self.is_empty() {
            let text = "nothing to change: give --set or --unset";
            return Err(Failure::new(Status::CommandLine, text));
        }
        Ok(())
    }

    /// Says what was changed.
    pub fn answer(&self, answer: Answer) -> Answer {
        answer
            .field(
                "set",
                self.set
                    .iter()
                    .map(|(key, _)| key)
                    .collect::<crate::answer::Cell>(),
            )
            .field("unset", self.unset.iter().collect::<crate::answer::Cell>())
    }
}

/// What is asked before something is lost.
#[derive(Args, Clone, Copy, Debug)]
pub struct Sure {
    /// Do it without a question
    #[arg(long, short)]
    pub yes: bool,
}

/// Whether to look once, or again and again.
#[derive(Args, Clone, Copy, Debug)]
pub struct Watch {
    /// Look again every so many seconds (2 without a number)
    #[arg(long, short, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2",
          value_parser = clap::value_parser!(u64).range(1..))]
    watch: Option<u64>,
}

impl Watch {
    /// The time between two looks.
    pub fn every(self) -> Option<Duration> {
        self.watch.map(Duration::from_secs)
    }
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
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| format!("'{text}' is not KEY=VALUE"))?;
    Ok((key.to_owned(), value.to_owned()))
}

fn parse_span(text: &str) -> Result<i64, String> {
    crate::time::parse_span(text)
        .ok_or_else(|| format!("'{text}' is no span such as 90s, 15m, 24h or 7d"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::start::Start;

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
        assert_eq!(cli.bootstrap.as_deref(), Some("h:1"));
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
            "millracectl consume t --grep (",
            "millracectl consume t --format %x",
            "millracectl consume t --json --format %v",
            "millracectl topics delete",
            "millracectl topics delete t --matching t",
            "millracectl groups reset g --to end --partition 1",
            "millracectl configs describe cluster x",
            "millracectl produce t --acks 2",
            "millracectl topics list --cluster a --bootstrap b:1",
            "millracectl transactions hanging --older-than soon",
            "millracectl produce t --codec x",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
