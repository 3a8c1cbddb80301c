//! The command line of `millrace-bench`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::LazyLock;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use millrace::record::Codec;
use millrace::runtime::version::version;

use crate::disk::DiskArgs;
use crate::payload::{Content, Fill, KeyOrder, Keys, Shape, Sizes, read_lines, read_whole};
use crate::units::{parse_bytes, parse_cores, parse_pair};

static VERSION: LazyLock<String> = LazyLock::new(|| version(option_env!("MILLRACE_COMMIT")));

const ABOUT: &str = "Load generator and verifier for any Kafka broker";
/// What the options of the subcommands do not say.
const MANUAL: &str = "\
Closed loop and open loop
  Without --rate the next request goes out when an answer has come: the highest throughput, and
  latencies that say little, because a slow broker is asked less. With --rate requests fall due by
  the clock and latency counts from when each was due, so a broker that stalls pays for everything
  that had to wait. What was due within the measured seconds counts, whenever it is answered.

What a run tells
  ack latency     from due to acknowledged
  e2e latency     from due to read by a consumer, told by the record itself
  backlog         records that were due and could not be sent yet
  kept up         whether the backlog at the end was below a quarter of a second
  records lost    acknowledged and not read: a failure
  generator headroom   how many times more the generator could have done; it warns below 1.1
  broker cpu s per gb  CPU-seconds of --broker-pid per GB in and out together

Files
  --json     everything, with a histogram per second; compare reads it
  --html     one page with pictures
  --hdr-log  HdrHistogram interval log

Examples
  As fast as it goes, generator on core 1:
    millrace-bench produce --partitions 16 --connections 4 --record-bytes 1K --batch-bytes 64K --cores 1
  End-to-end latency at 20 000 records/s to two consumers, with pictures:
    millrace-bench e2e --partitions 8 --connections 4 --rate 20000 --linger-ms 2 --fanout 2 --html run.html
  The highest rate with p99 below 10 ms:
    millrace-bench search --partitions 8 --connections 4 --record-bytes 1K --p99-ms 10 --seconds 10
  Two systems side by side:
    millrace-bench compare millrace.json kafka.json --html both.html
  Is everything acknowledged there, also after crashes?
    millrace-bench verify --idempotent --acks acks.txt; millrace-bench verify --verify-against acks.txt
  How fast is the generator itself?
    millrace-bench sink --core 0 & millrace-bench produce --bootstrap 127.0.0.1:9192 --cores 1

Exit status: 0 done and good, 1 done and something was lost, refused or wrong, 2 could not be done.";

/// Load generator and verifier for Kafka brokers.
#[derive(Debug, Parser)]
#[command(name = "millrace-bench", version = VERSION.as_str(), about = ABOUT)]
#[command(long_about = None, after_long_help = MANUAL)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options that a subcommand shares with others and decides by itself.
const DECIDED: [(&str, &str, &[&str]); 2] = [
    ("search", "is what is searched", &["rate"]),
    (
        "omb",
        "is what the workload file says",
        &[
            "topics",
            "partitions",
            "connections",
            "seconds",
            "record_bytes",
            "payload_file",
            "compressibility",
            "keys",
            "key_order",
            "rate",
            "fanout",
            "consumer_connections",
            "backlog_bytes",
        ],
    ),
];

impl Cli {
    /// The command line of this process. What a subcommand decides is neither shown nor taken: it would
    /// have no effect.
    pub fn read() -> Self {
        Self::of(std::env::args_os()).unwrap_or_else(|error| error.exit())
    }

    fn of(
        line: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    ) -> clap::error::Result<Self> {
        let mut command = Self::command();
        for (name, _, decided) in DECIDED {
            command = command.mut_subcommand(name, |subcommand| {
                subcommand.mut_args(|arg| {
                    let hide = decided.contains(&arg.get_id().as_str());
                    arg.hide(hide)
                })
            });
        }
        let matches = command.try_get_matches_from_mut(line)?;
        for (name, why, decided) in DECIDED {
            let given = |given: &ArgMatches, id: &&&str| {
                given.value_source(id) == Some(ValueSource::CommandLine)
            };
            if let Some((called, options)) = matches.subcommand()
                && called == name
                && let Some(id) = decided.iter().find(|id| given(options, id))
            {
                let what = format!("--{} {why}", id.replace('_', "-"));
                return Err(command.error(ErrorKind::ArgumentConflict, what));
            }
        }
        Self::from_arg_matches(&matches)
    }
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Send records as fast as the broker takes them, or at a fixed rate
    Produce(ProduceArgs),
    /// Read records: what is there (replay) or what is coming (tail)
    Consume(ConsumeArgs),
    /// Send records that carry their due time and read them back: latency from due to read
    E2e(E2eArgs),
    /// Send and read at the same time without looking into the records: throughput of both
    Mixed(E2eArgs),
    /// Find the highest rate at which p99 stays under a bound and nothing is lost: e2e runs in
    /// open loop, bisected
    Search(SearchArgs),
    /// Run a workload file of the OpenMessaging Benchmark as e2e; batch, linger, acks and codec are
    /// options, as they belong to drivers there
    Omb(OmbArgs),
    /// Send and read back records that carry their identity, and prove that every promise was kept
    Verify(VerifyArgs),
    /// Put results (files of --json) side by side
    Compare(CompareArgs),
    /// Stand in for a broker: answer every produce, store nothing. The generator's own limit is
    /// what `produce` reaches against it
    Sink(SinkArgs),
    /// Measure the disk: files per partition against one store
    Disk(DiskArgs),
}

/// Which topic, where.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Topic")]
pub struct TopicArgs {
    /// Brokers to ask first, comma-separated host:port
    #[arg(long, default_value = "127.0.0.1:9092")]
    pub bootstrap: String,
    /// Topic; made if it is missing
    #[arg(long, default_value = "millrace-bench")]
    pub topic: String,
    /// Topics: above 1 they are called TOPIC-0, TOPIC-1 and so on
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub topics: u32,
    /// Partitions of each topic that has to be made
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..))]
    pub partitions: i32,
    /// Replicas of a topic that has to be made, -1 for the broker's default
    #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
    pub replication: i16,
    /// Configuration of a topic that has to be made, repeatable
    #[arg(long = "topic-config", value_name = "KEY=VALUE", value_parser = parse_pair)]
    pub topic_configs: Vec<(String, String)>,
    /// Seconds to wait for a connection or an answer
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: u64,
}

/// How to generate load, how long, and what to report.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Run")]
pub struct LoadArgs {
    /// Connections in all; at least one per broker that leads a partition
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub connections: u32,
    /// Cores to pin threads to, one thread each, as 0,2 or 4-7; not pinned if absent
    #[arg(long, value_parser = parse_cores_arg)]
    pub cores: Option<Cores>,
    /// Threads, if no cores are given
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: u32,
    /// Seconds to measure
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: u64,
    /// Seconds to run before measuring
    #[arg(long, default_value_t = 5)]
    pub warmup: u64,
    /// Process id of a broker on this machine: reports its CPU time and memory
    #[arg(long)]
    pub broker_pid: Option<u32>,
    /// Write the result to this file as JSON, with every second and its latencies
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Write the result to this file as an HTML page with pictures: percentile curve, latency and
    /// throughput over time, heat map, environment
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Write the latencies of every second to this file as an HdrHistogram interval log (V2), one
    /// tag per kind of latency, in nanoseconds
    #[arg(long, value_name = "FILE")]
    pub hdr_log: Option<PathBuf>,
}

/// A list of cores, as one argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cores(pub Vec<usize>);

fn parse_cores_arg(text: &str) -> Result<Cores, String> {
    parse_cores(text).map(Cores)
}

/// What the records look like.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Records")]
pub struct RecordArgs {
    /// Bytes of a record's value: 100, 1K, or a range as 100..2000, each length as likely
    #[arg(long, default_value = "100")]
    pub record_bytes: Sizes,
    /// Take the values from the lines of this file instead
    #[arg(long, value_name = "FILE", conflicts_with_all = ["record_bytes", "compressibility"])]
    pub payload_file: Option<PathBuf>,
    /// Take the file as one value instead of its lines.
    #[arg(skip)]
    pub payload_whole: bool,
    /// Share of each value that compression can remove, 0 to 1. Default: random letters, of
    /// which gzip and zstd remove about half and lz4 and snappy nothing
    #[arg(long, value_name = "SHARE", value_parser = parse_share)]
    pub compressibility: Option<f64>,
    /// Compression of the batches: none, gzip, snappy, lz4 or zstd
    #[arg(long, default_value = "none", value_parser = parse_codec)]
    pub codec: Codec,
    /// Distinct record keys, 0 for records without a key. Keys do not choose the partition: load is
    /// spread evenly
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=10_000_000))]
    pub keys: u32,
    /// Order of the keys
    #[arg(long, default_value = "uniform")]
    pub key_order: KeyOrder,
}

/// How records are sent.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Sending")]
pub struct SendArgs {
    /// Which records.
    #[command(flatten)]
    pub record: RecordArgs,
    /// Bytes of a batch before compression; it holds as many records as fit
    #[arg(long, default_value = "16K", value_parser = parse_bytes)]
    pub batch_bytes: u64,
    /// Records of a batch, instead of --batch-bytes
    #[arg(long, conflicts_with = "batch_bytes", value_parser = clap::value_parser!(u32).range(1..))]
    pub batch_records: Option<u32>,
    /// Batches (each of another partition) in one request, as far as a connection has partitions
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub request_batches: u32,
    /// Requests on their way per connection
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub in_flight: u32,
    /// Acknowledgement to ask for
    #[arg(long, default_value = "all")]
    pub acks: Acks,
    /// Records per second in all: open loop. Each request is due at a time of its own and its
    /// latency counts from then, whether or not it could be sent then; what cannot be sent yet is
    /// the backlog. Without it the next request follows when the window has room (closed loop)
    #[arg(long, value_name = "RECORDS", value_parser = parse_rate)]
    pub rate: Option<f64>,
    /// Milliseconds to wait for a batch to fill; needs --rate. Records then fall due one by one,
    /// a batch goes out when it is full or its first record has waited this long, and latency
    /// counts from when each record was due. Without it all records of a batch fall due at once
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u32).range(..=60_000))]
    pub linger_ms: Option<u32>,
    /// Send as an idempotent producer per connection (at most 5 in flight)
    #[arg(long)]
    pub idempotent: bool,
}

impl SendArgs {
    /// What the batches hold, for connections that each send `rate` records per second.
    pub fn shape(&self, connection_rate: Option<f64>) -> Result<Shape, String> {
        if self.idempotent && self.in_flight > 5 {
            return Err(String::from(
                "brokers remember 5 batches of an idempotent producer: --in-flight 5 at most",
            ));
        }
        if self.idempotent && self.acks != Acks::All {
            return Err(String::from("an idempotent producer needs --acks all"));
        }
        if self.linger_ms.is_some() && self.rate.is_none() {
            return Err(String::from(
                "--linger-ms needs --rate: in closed loop every batch is full",
            ));
        }
        let record = &self.record;
        let content = match (&record.payload_file, record.compressibility) {
            (Some(path), _) if record.payload_whole => read_whole(path)?,
            (Some(path), _) => read_lines(path)?,
            (None, Some(same)) => Content::Mixed { same },
            (None, None) => Content::Text,
        };
        let full = self
            .batch_records
            .map_or(Fill::Bytes(self.batch_bytes), Fill::Records);
        let mut shape = Shape {
            fill: full,
            sizes: record.record_bytes,
            content,
            keys: Keys::new(record.keys, record.key_order),
            codec: record.codec,
        };
        if let Some(rate) = connection_rate {
            // A schedule needs batches of one number of records, whatever their sizes.
            let full = shape.template(0).records();
            let in_time = self
                .linger_ms
                .map(|ms| 1 + (rate * f64::from(ms) / 1e3) as u32);
            shape.fill = Fill::Records(in_time.map_or(full, |records| records.min(full)));
        }
        Ok(shape)
    }
}

/// `produce`
#[derive(Args, Clone, Debug)]
pub struct ProduceArgs {
    /// Which topic.
    #[command(flatten)]
    pub topic: TopicArgs,
    /// How to load.
    #[command(flatten)]
    pub load: LoadArgs,
    /// What to send.
    #[command(flatten)]
    pub send: SendArgs,
}

/// `e2e` and `mixed`
#[derive(Args, Clone, Debug)]
pub struct E2eArgs {
    /// Which topic.
    #[command(flatten)]
    pub topic: TopicArgs,
    /// How to load. `--connections` are those of the producers.
    #[command(flatten)]
    pub load: LoadArgs,
    /// What to send.
    #[command(flatten)]
    pub send: SendArgs,
    /// Consumers, each of which reads everything
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub fanout: u32,
    /// Connections of each consumer; at least one per broker that leads a partition
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub consumer_connections: u32,
    /// Make each consumer a consumer group (GROUP-0, GROUP-1 and so on) that joins, sends
    /// heartbeats and commits; its members are its connections
    #[arg(long, value_name = "GROUP")]
    pub group: Option<String>,
    /// Milliseconds between commits of a member; needs --group
    #[arg(long, value_name = "MS", default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..))]
    pub commit_ms: u32,
    /// Consumers wait until this many bytes have been sent and then catch up: how long that takes
    /// is told
    #[arg(long, default_value = "0", value_parser = parse_bytes)]
    pub backlog_bytes: u64,
    /// How to fetch.
    #[command(flatten)]
    pub fetch: FetchArgs,
}

/// `search`
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Fetching")]
pub struct SearchArgs {
    /// What to run again and again; its --rate is what is searched.
    #[command(flatten)]
    pub e2e: E2eArgs,
    /// Milliseconds under which the 99th percentile is to stay
    #[arg(long, value_name = "MS", value_parser = parse_rate)]
    pub p99_ms: f64,
    /// Latency that counts: from due to read by a consumer, or from due to acknowledged
    #[arg(long, default_value = "e2e")]
    pub of: Of,
    /// Records per second to begin below; found by a closed-loop run if absent
    #[arg(long, value_name = "RECORDS", value_parser = parse_rate)]
    pub rate_max: Option<f64>,
    /// Stop when the answer is known to within this share
    #[arg(long, default_value_t = 0.05, value_parser = parse_share)]
    pub precision: f64,
}

/// `omb`
#[derive(Args, Clone, Debug)]
pub struct OmbArgs {
    /// The workload file
    pub workload: PathBuf,
    /// Seconds to measure instead of testDurationMinutes; --warmup then counts instead of
    /// warmupDurationMinutes
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub test_seconds: Option<u64>,
    /// What the file says nothing about.
    #[command(flatten)]
    pub e2e: E2eArgs,
}

/// Which latency a search looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Of {
    /// From due to read
    E2e,
    /// From due to acknowledged
    Ack,
}

/// How to fetch.
#[derive(Args, Clone, Debug)]
pub struct FetchArgs {
    /// Bytes to ask for per partition and fetch
    #[arg(long, default_value = "1M", value_parser = parse_bytes)]
    pub fetch_bytes: u64,
    /// Bytes for which the broker is to wait
    #[arg(long, default_value_t = 1)]
    pub min_bytes: i32,
    /// Milliseconds the broker is to wait for them
    #[arg(long, default_value_t = 500)]
    pub max_wait_ms: i32,
    /// Read in a fetch session (KIP-227), as consumers do: after the first request only what has
    /// changed is named. Without it every request names every partition
    #[arg(long)]
    pub fetch_session: bool,
}

/// `acks` of a produce request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Acks {
    /// No answer
    #[value(name = "0")]
    None,
    /// The leader has it
    #[value(name = "1")]
    Leader,
    /// Every replica in sync has it
    #[value(name = "all", alias = "-1")]
    All,
}

impl Acks {
    /// The number on the wire.
    pub const fn code(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Leader => 1,
            Self::All => -1,
        }
    }
}

/// `consume`
#[derive(Args, Clone, Debug)]
pub struct ConsumeArgs {
    /// Which topic.
    #[command(flatten)]
    pub topic: TopicArgs,
    /// How to load.
    #[command(flatten)]
    pub load: LoadArgs,
    /// Read what is there, again and again, or what is coming
    #[arg(long, default_value = "replay")]
    pub mode: Mode,
    /// Replay: stop at the end instead of beginning again (implies --warmup 0)
    #[arg(long)]
    pub once: bool,
    /// Fetches per second in all: open loop, in which the latency of each counts from when it was due. Without
    /// it the next fetch follows the answer to the one before (closed loop)
    #[arg(long, value_name = "FETCHES", value_parser = parse_rate, conflicts_with = "once")]
    pub rate: Option<f64>,
    /// How to fetch.
    #[command(flatten)]
    pub fetch: FetchArgs,
    /// Compute the CRC of every batch
    #[arg(long)]
    pub check_crc: bool,
}

/// What to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// From the first record to the last one that was there at the start
    Replay,
    /// From the end on
    Tail,
}

/// `compare`
#[derive(Args, Clone, Debug)]
pub struct CompareArgs {
    /// Files written by --json
    #[arg(required = true)]
    pub results: Vec<PathBuf>,
    /// What to call them, comma-separated; the names of the files if absent
    #[arg(long, value_delimiter = ',')]
    pub names: Vec<String>,
    /// Write a page with all of them over each other to this file
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// `sink`
#[derive(Args, Clone, Debug)]
pub struct SinkArgs {
    /// Address and port
    #[arg(long, default_value = "127.0.0.1:9192")]
    pub listen: String,
    /// Partitions that every topic seems to have
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(i32).range(1..=10_000))]
    pub partitions: i32,
    /// Core to pin to
    #[arg(long)]
    pub core: Option<usize>,
    /// Seconds to run; until it is killed if absent
    #[arg(long)]
    pub seconds: Option<u64>,
}

/// `verify`
#[derive(Args, Clone, Debug)]
pub struct VerifyArgs {
    /// Which topic.
    #[command(flatten)]
    pub topic: TopicArgs,
    /// Bytes of a record's value; it has room for the record's identity: 40 at least
    #[arg(long, default_value = "100", value_parser = parse_bytes)]
    pub record_bytes: u64,
    /// Compression of the batches: none, gzip, snappy, lz4 or zstd
    #[arg(long, default_value = "none", value_parser = parse_codec)]
    pub codec: Codec,
    /// Producers, each with a thread and connections of its own, each writing to every partition
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub producers: u16,
    /// Records of a batch
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub batch_records: u32,
    /// Batches on their way per producer and partition (an idempotent producer may have 5)
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub in_flight: u32,
    /// Use idempotent producers: then any duplicate is an error, and order is promised
    #[arg(long)]
    pub idempotent: bool,
    /// Records per second in all; as many as possible if absent
    #[arg(long, value_parser = parse_rate)]
    pub rate: Option<f64>,
    /// Seconds to send
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: u64,
    /// Seconds for which a broker may be gone before this program gives up
    #[arg(long, default_value_t = 120)]
    pub patience: u64,
    /// Write acknowledgements to this file, for --verify-against
    #[arg(long)]
    pub acks: Option<PathBuf>,
    /// Send nothing: prove that everything acknowledged in this file is there
    #[arg(long, value_name = "FILE", conflicts_with_all = ["acks", "idempotent", "rate"])]
    pub verify_against: Option<PathBuf>,
    /// Write the result to this file as JSON
    #[arg(long)]
    pub json: Option<PathBuf>,
}

fn parse_codec(text: &str) -> Result<Codec, String> {
    let names = Codec::ALL.map(Codec::name).join(", ");
    Codec::from_name(text).ok_or_else(|| format!("'{text}' is no codec; known are {names}"))
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = text
        .parse()
        .ok()
        .filter(|&rate: &f64| rate > 0.0 && rate <= 1e9);
    rate.ok_or_else(|| format!("'{text}' is no rate in records per second, above 0"))
}

fn parse_share(text: &str) -> Result<f64, String> {
    let share = text
        .parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| format!("'{text}' is no share from 0 to 1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Cli::of(line.split(' ')).map(|cli| cli.command)
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_is_decided_elsewhere_is_refused() {
        let command = Cli::command();
        for (name, _, decided) in DECIDED {
            let subcommand = command.find_subcommand(name).expect("it is there");
            let known = |id: &&&str| subcommand.get_arguments().any(|arg| arg.get_id() == **id);
            assert!(decided.iter().all(|id| known(&id)), "{name}");
        }
        for line in [
            "millrace-bench omb file.yaml --rate 5",
            "millrace-bench omb file.yaml --consumer-connections 5",
            "millrace-bench search --p99-ms 5 --rate 5",
        ] {
            let refused = parse(line).expect_err(line);
            assert_eq!(refused.kind(), ErrorKind::ArgumentConflict, "{refused}");
        }
        assert!(parse("millrace-bench omb file.yaml --codec lz4 --warmup 0").is_ok());
        assert!(parse("millrace-bench e2e --rate 5").is_ok());
        assert!(parse("millrace-bench consume --rate 5").is_ok());
    }

    #[test]
    fn produce_takes_its_knobs() {
        let line = "millrace-bench produce --topic t --partitions 20 --connections 4 --record-bytes 1K \
                    --batch-bytes 64K --in-flight 8 --acks 1 --seconds 3 --warmup 0 --rate 1000.5 \
                    --codec lz4 --keys 10 --cores 1-2 --broker-pid 12";
        let Ok(Command::Produce(args)) = parse(line) else {
            panic!()
        };
        assert_eq!(
            (args.topic.topic.as_str(), args.topic.partitions),
            ("t", 20)
        );
        assert_eq!(
            (args.send.record.record_bytes, args.send.batch_bytes),
            (Sizes::fixed(1024), 65536)
        );
        assert_eq!(
            (args.send.acks.code(), args.send.in_flight, args.send.rate),
            (1, 8, Some(1000.5))
        );
        assert_eq!(
            (args.send.record.codec, args.send.record.keys),
            (Codec::Lz4, 10)
        );
        assert_eq!(args.load.cores, Some(Cores(vec![1, 2])));
    }

    #[test]
    fn acks_are_kafkas() {
        for (text, code) in [("0", 0), ("1", 1), ("all", -1), ("-1", -1)] {
            let line = format!("millrace-bench produce --acks={text}");
            let Ok(Command::Produce(args)) = parse(&line) else {
                panic!("{text}")
            };
            assert_eq!(args.send.acks.code(), code);
        }
        assert!(parse("millrace-bench produce --acks 2").is_err());
    }

    #[test]
    fn nonsense_is_refused() {
        for wrong in [
            "millrace-bench produce --codec brotli",
            "millrace-bench produce --partitions 0",
            "millrace-bench produce --batch-bytes 1K --batch-records 3",
            "millrace-bench verify --verify-against f --acks g",
            "millrace-bench produce --rate 0",
            "millrace-bench consume --rate 5 --once",
            "millrace-bench produce --compressibility 2",
            "millrace-bench produce --record-bytes 5..1",
            "millrace-bench e2e --fanout 0",
            "millrace-bench consume --mode sideways",
            "millrace-bench",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
