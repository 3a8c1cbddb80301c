//! The command lines of `produce` and `consume`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use millrace::record::Codec;

use super::parse_pair;
use crate::format::Format;
use crate::pattern::Pattern;
use crate::start::{FORMS, Start};
use crate::time::parse_utc;

/// `produce`
#[derive(Args, Debug)]
pub struct Produce {
    /// The topic
    pub topic: String,
    /// File to read, showing on a terminal how far it is; the standard input if absent
    #[arg(long)]
    pub file: Option<PathBuf>,
    /// What a line is
    #[arg(long, value_enum, default_value_t = Input::Lines)]
    pub input: Input,
    /// Text between key and value; a line without it has no key
    #[arg(long, short = 'K')]
    pub key_separator: Option<String>,
    /// Key of records that have none
    #[arg(long, short)]
    pub key: Option<String>,
    /// Header of every record, repeatable
    #[arg(long = "header", short = 'H', value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub headers: Vec<(String, String)>,
    /// Time of every record, in milliseconds since 1970 or as 2026-01-31T12:00:00Z; now, or what JSON says, if absent
    #[arg(long, value_parser = parse_time)]
    pub timestamp: Option<i64>,
    /// Partition; by key (as Kafka's clients choose it), or in turn without a key, if absent
    #[arg(long, short)]
    pub partition: Option<i32>,
    /// Whose answer to wait for: all (replicas in sync), 1 (the leader) or 0 (nobody)
    #[arg(long, default_value = "all", value_parser = parse_acks, allow_negative_numbers = true)]
    pub acks: i16,
    /// Compression: none, gzip, snappy, lz4 or zstd
    #[arg(long, default_value = "none", value_parser = parse_codec)]
    pub codec: Codec,
}

/// What a line of the input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Input {
    /// The value, or key and value
    Lines,
    /// A JSON object with key, value, headers, timestamp_ms, partition, as consume --json prints it
    Json,
}

/// `consume`
#[derive(Args, Debug)]
#[command(after_help = FORMS)]
pub struct Consume {
    /// The topic
    pub topic: String,
    /// Partitions, all if absent; repeatable
    #[arg(long = "partition", short)]
    pub partitions: Vec<i32>,
    /// As a member of this group, of the consumer protocol (KIP-848): its coordinator gives it partitions, and what
    /// was printed is committed
    #[arg(long, short, conflicts_with = "partitions")]
    pub group: Option<String>,
    /// Where to begin; as a member, where the group has no offset
    #[arg(
        long,
        short = 'o',
        value_name = "POSITION",
        default_value = "end",
        allow_hyphen_values = true
    )]
    pub from: Start,
    /// Where to stop: before this position; what comes after the end that is there now is not waited for
    #[arg(long, value_name = "POSITION", allow_hyphen_values = true)]
    pub to: Option<Start>,
    /// Stop after this many records
    #[arg(long, short = 'n')]
    pub count: Option<u64>,
    /// Stop at the end of what is there now
    #[arg(long, short = 'e', conflicts_with = "to")]
    pub exit_at_end: bool,
    /// Only records in whose key or value this regular expression is found
    #[arg(long, value_name = "REGEX")]
    pub grep: Option<Pattern>,
    /// %k key, %v value, %K and %V their lengths, %t topic, %p partition, %o offset, %T timestamp (ms), %d the same
    /// in UTC, %h headers, %%; \n, \t, \r, \0, \\ as usual. What is absent is null, with the length -1
    #[arg(long, short, default_value = "%v\\n", conflicts_with = "json")]
    pub format: Format,
}

fn parse_time(text: &str) -> Result<i64, String> {
    let number = text.parse().ok().filter(|ms| *ms >= 0);
    let wrong = || format!("'{text}' is neither milliseconds since 1970 nor a time");
    number.or_else(|| parse_utc(text)).ok_or_else(wrong)
}

fn parse_acks(text: &str) -> Result<i16, String> {
    match text {
        "all" | "-1" => Ok(-1),
        "1" => Ok(1),
        "0" => Ok(0),
        _ => Err(format!("'{text}' is neither all, 1 nor 0")),
    }
}

fn parse_codec(text: &str) -> Result<Codec, String> {
    let names = Codec::ALL.map(Codec::name).join(", ");
    Codec::from_name(text).ok_or_else(|| format!("'{text}' is no codec; known are {names}"))
}
