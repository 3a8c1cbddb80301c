//! The command line of `transactions`.

use clap::Subcommand;

use super::{Sure, parse_span};

/// `transactions`
#[derive(Debug, Subcommand)]
pub enum Transactions {
    /// Transactional ids of all coordinators, with their state
    List {
        /// Only in this state, as Kafka calls it, such as Ongoing; repeatable
        #[arg(long = "state", value_name = "STATE")]
        states: Vec<String>,
        /// Only of this producer, repeatable
        #[arg(long = "producer", value_name = "PRODUCER-ID")]
        producers: Vec<i64>,
    },
    /// What coordinators know of transactional ids: state, producer, timeout, partitions
    Describe {
        /// Transactional ids
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Producers that partitions know, and where their open transactions begin
    Producers {
        /// The topic
        topic: String,
        /// Partitions, all if absent; repeatable
        #[arg(long = "partition", short)]
        partitions: Vec<i32>,
    },
    /// Transactions that are open in a partition and that no coordinator will end. The exit status is 4 if there
    /// are any
    Hanging {
        /// Only in this topic, repeatable
        #[arg(long = "topic", value_name = "TOPIC")]
        topics: Vec<String>,
        /// Only of producers that have written nothing for so long, as 15m; coordinators end what takes longer
        /// than transaction.max.timeout.ms
        #[arg(long, value_name = "SPAN", default_value = "15m", value_parser = parse_span)]
        older_than: i64,
    },
    /// End a hanging transaction in a partition as aborted, after a question
    Abort {
        /// The topic
        #[arg(long)]
        topic: String,
        /// The partition
        #[arg(long, short)]
        partition: i32,
        /// Where the transaction begins, as hanging and producers tell it
        #[arg(long)]
        start_offset: i64,
        /// What is asked.
        #[command(flatten)]
        yes: Sure,
    },
}
