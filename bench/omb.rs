//! `omb`: runs a workload file of the OpenMessaging Benchmark. The file says how
//! many topics, partitions, producers and consumers, how large, how fast and how
//! long; what belongs to a driver there (batch, linger, acks, codec) are options here.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::args::{E2eArgs, OmbArgs};
use crate::e2e;
use crate::payload::{KeyOrder, Sizes};
use crate::report::Report;
use millrace_client::nearest;

/// Keys that the benchmark's key distributors have.
const KEYS: u32 = 10_000;
/// Fields that are read.
const FIELDS: [&str; 15] = [
    "name",
    "topics",
    "partitionsPerTopic",
    "keyDistributor",
    "messageSize",
    "payloadFile",
    "useRandomizedPayloads",
    "randomBytesRatio",
    "subscriptionsPerTopic",
    "producersPerTopic",
    "consumerPerSubscription",
    "producerRate",
    "consumerBacklogSizeGB",
    "testDurationMinutes",
    "warmupDurationMinutes",
];
/// Fields that make no difference here.
const IGNORED: [&str; 2] = ["randomizedPayloadPoolSize", "backlogDrainRatio"];

/// Runs the subcommand.
pub fn run(args: &OmbArgs) -> Result<Report, String> {
    let named = |what: String| format!("{}: {what}", args.workload.display());
    let text = std::fs::read_to_string(&args.workload).map_err(|e| named(e.to_string()))?;
    let workload = Workload::parse(&text).map_err(named)?;
    for name in &workload.ignored {
        eprintln!("millrace-bench: {name} makes no difference here");
    }
    let folder = args.workload.parent().unwrap_or(Path::new(""));
    let e2e_args = workload
        .apply(&args.e2e, folder, args.test_seconds)
        .map_err(named)?;
    let (mut report, _) = e2e::measure(&e2e_args, true)?;
    report.retitle("omb");
    report.text("workload", &*workload.name);
    Ok(report)
}

/// A workload file.
#[derive(Debug, PartialEq)]
struct Workload {
    name: String,
    topics: u32,
    partitions_per_topic: i32,
    key_distributor: String,
    message_size: u64,
    payload_file: Option<String>,
    /// Share of random bytes, if payloads are random.
    random_bytes: Option<f64>,
    subscriptions_per_topic: u32,
    producers_per_topic: u32,
    consumers_per_subscription: u32,
    producer_rate: f64,
    backlog_gb: u64,
    test_minutes: f64,
    warmup_minutes: f64,
    ignored: Vec<String>,
}

impl Workload {
    fn parse(text: &str) -> Result<Self, String> {
        let fields = Fields::parse(text)?;
        let random: bool = fields.get("useRandomizedPayloads", false)?;
        let ratio = fields.get("randomBytesRatio", 0.0)?;
        let workload = Self {
            name: fields.get("name", String::from("unnamed"))?,
            topics: fields.need("topics")?,
            partitions_per_topic: fields.need("partitionsPerTopic")?,
            key_distributor: fields.get("keyDistributor", String::from("NO_KEY"))?,
            message_size: fields.need("messageSize")?,
            payload_file: fields.find("payloadFile").map(str::to_owned),
            random_bytes: random.then_some(ratio),
            subscriptions_per_topic: fields.need("subscriptionsPerTopic")?,
            producers_per_topic: fields.need("producersPerTopic")?,
            consumers_per_subscription: fields.get("consumerPerSubscription", 1)?,
            producer_rate: fields.need("producerRate")?,
            backlog_gb: fields.get("consumerBacklogSizeGB", 0)?,
            test_minutes: fields.need("testDurationMinutes")?,
            warmup_minutes: fields.get("warmupDurationMinutes", 1.0)?,
            ignored: fields.ignored(),
        };
        let positive = [
            ("topics", f64::from(workload.topics)),
            (
                "partitionsPerTopic",
                f64::from(workload.partitions_per_topic),
            ),
            (
                "subscriptionsPerTopic",
                f64::from(workload.subscriptions_per_topic),
            ),
            ("producersPerTopic", f64::from(workload.producers_per_topic)),
            (
                "consumerPerSubscription",
                f64::from(workload.consumers_per_subscription),
            ),
            ("testDurationMinutes", workload.test_minutes),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, value)| *value <= 0.0) {
            return Err(format!("{name} must be above 0"));
        }
        if !(0.0..=1.0).contains(&ratio) {
            return Err(String::from("randomBytesRatio must be from 0 to 1"));
        }
        if workload.producer_rate < 0.0 || workload.warmup_minutes < 0.0 {
            return Err(String::from(
                "producerRate and warmupDurationMinutes cannot be negative",
            ));
        }
        Ok(workload)
    }

    /// The options, with what the file says put in.
    fn apply(
        &self,
        options: &E2eArgs,
        folder: &Path,
        test_seconds: Option<u64>,
    ) -> Result<E2eArgs, String> {
        let mut args = options.clone();
        args.topic.topics = self.topics;
        args.topic.partitions = self.partitions_per_topic;
        args.load.connections = self.topics.saturating_mul(self.producers_per_topic);
        args.consumer_connections = self.topics.saturating_mul(self.consumers_per_subscription);
        args.fanout = self.subscriptions_per_topic;
        args.backlog_bytes = self.backlog_gb.saturating_mul(1 << 30);
        let seconds = |minutes: f64| (minutes * 60.0).round() as u64;
        args.load.seconds = test_seconds.unwrap_or_else(|| seconds(self.test_minutes).max(1));
        if test_seconds.is_none() {
            args.load.warmup = seconds(self.warmup_minutes);
        }
        // 0 means as fast as it goes.
        args.send.rate = (self.producer_rate > 0.0).then_some(self.producer_rate);
        let record = &mut args.send.record;
        record.record_bytes = Sizes {
            min: self.message_size,
            max: self.message_size,
        };
        (record.keys, record.key_order) = match self.key_distributor.as_str() {
            "NO_KEY" => (0, KeyOrder::Uniform),
            "KEY_ROUND_ROBIN" => (KEYS, KeyOrder::RoundRobin),
            "RANDOM_NANO" => (KEYS, KeyOrder::Uniform),
            other => {
                return Err(format!(
                    "keyDistributor {other} is unknown; known are NO_KEY, KEY_ROUND_ROBIN, RANDOM_NANO"
                ));
            }
        };
        match (self.random_bytes, &self.payload_file) {
            (Some(random), _) => record.compressibility = Some(1.0 - random),
            (None, Some(file)) => {
                record.payload_file = Some(find_file(file, folder)?);
                record.payload_whole = true;
            }
            (None, None) => {}
        }
        Ok(args)
    }
}

/// Payload files are named as seen from the benchmark's own folder, of which workloads are a part.
fn find_file(name: &str, folder: &Path) -> Result<PathBuf, String> {
    let places = [
        folder.join(name),
        folder.join("..").join(name),
        PathBuf::from(name),
    ];
    let found = places.into_iter().find(|place| place.is_file());
    found.ok_or_else(|| {
        format!("payloadFile {name} is neither beside this file, nor above it, nor here")
    })
}

/// The fields of a flat YAML file, which is what workloads are.
struct Fields(Vec<(String, String)>);

impl Fields {
    fn parse(text: &str) -> Result<Self, String> {
        let mut fields: Vec<(String, String)> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let wrong = |what: String| Err(format!("line {}: {what}", number + 1));
            let line = without_comment(line);
            if line.trim().is_empty() || line.trim() == "---" {
                continue;
            }
            let Some((key, value)) = line.split_once(':') else {
                return wrong(format!("'{}' is not name: value", line.trim()));
            };
            if line.starts_with([' ', '\t', '-']) {
                return wrong(String::from("workloads have no nested fields or lists"));
            }
            let key = key.trim();
            if !FIELDS.contains(&key) && !IGNORED.contains(&key) {
                let known = FIELDS.iter().chain(&IGNORED).copied();
                let hint = nearest(key, known)
                    .map_or_else(String::new, |n| format!("; did you mean {n}?"));
                return wrong(format!("unknown field {key}{hint}"));
            }
            if fields.iter().any(|(known, _)| known == key) {
                return wrong(format!("{key} is there twice"));
            }
            let value = value.trim().trim_matches(['"', '\'']);
            if value != "null" && !value.is_empty() {
                fields.push((key.to_owned(), value.to_owned()));
            }
        }
        Ok(Self(fields))
    }

    fn find(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    fn get<T: FromStr<Err: Display>>(&self, name: &str, default: T) -> Result<T, String> {
        let Some(value) = self.find(name) else {
            return Ok(default);
        };
        value
            .parse()
            .map_err(|error| format!("{name}: '{value}': {error}"))
    }

    fn need<T: FromStr<Err: Display>>(&self, name: &str) -> Result<T, String> {
        let value = self
            .find(name)
            .ok_or_else(|| format!("{name} is missing"))?;
        value
            .parse()
            .map_err(|error| format!("{name}: '{value}': {error}"))
    }

    fn ignored(&self) -> Vec<String> {
        let names = self.0.iter().map(|(name, _)| name);
        names
            .filter(|name| IGNORED.contains(&name.as_str()))
            .cloned()
            .collect()
    }
}

/// A comment begins with a `#` at the start or after a space, outside quotes.
fn without_comment(line: &str) -> &str {
    let (mut quote, mut before) = (None, ' ');
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (None, '#') if before.is_whitespace() => return &line[..at],
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            _ => {}
        }
        before = c;
    }
    line
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    const WORKLOAD: &str = "\
# A comment
name: \"1 topic # 16 partitions / 1 kB\"

topics: 2
partitionsPerTopic: 16
messageSize: 1024   # bytes
useRandomizedPayloads: true
randomBytesRatio: 0.25
randomizedPayloadPoolSize: 1000
subscriptionsPerTopic: 3
consumerPerSubscription: 2
producersPerTopic: 4
producerRate: 50000
consumerBacklogSizeGB: 1
testDurationMinutes: 15
";

    fn options() -> E2eArgs {
        let line = [
            "millrace-bench",
            "e2e",
            "--batch-bytes",
            "128K",
            "--acks",
            "1",
        ];
        match Cli::try_parse_from(line).map(|cli| cli.command) {
            Ok(Command::E2e(args)) => args,
            _ => panic!(),
        }
    }

    fn applied(workload: &str) -> E2eArgs {
        let workload = Workload::parse(workload).unwrap();
        workload.apply(&options(), Path::new(""), None).unwrap()
    }

    #[test]
    fn a_workload_becomes_options() {
        let args = applied(WORKLOAD);
        assert_eq!((args.topic.topics, args.topic.partitions), (2, 16));
        assert_eq!(
            (
                args.load.connections,
                args.consumer_connections,
                args.fanout
            ),
            (8, 4, 3)
        );
        assert_eq!((args.load.seconds, args.load.warmup), (900, 60));
        assert_eq!(args.send.rate, Some(50_000.0));
        assert_eq!(args.send.record.record_bytes, Sizes::fixed(1024));
        assert_eq!(args.send.record.compressibility, Some(0.75));
        assert_eq!(args.backlog_bytes, 1 << 30);
        // Not the file's business.
        assert_eq!(args.send.batch_bytes, 128 << 10);
        let workload = Workload::parse(WORKLOAD).unwrap();
        assert_eq!(workload.name, "1 topic # 16 partitions / 1 kB");
        assert_eq!(workload.ignored, ["randomizedPayloadPoolSize"]);
    }

    #[test]
    fn keys_and_full_speed() {
        let text = WORKLOAD.replace("50000", "0") + "keyDistributor: KEY_ROUND_ROBIN\n";
        let args = applied(&text);
        assert_eq!(args.send.rate, None);
        assert_eq!(
            (args.send.record.keys, args.send.record.key_order),
            (10_000, KeyOrder::RoundRobin)
        );
        let wrong = Workload::parse(&text.replace("ROUND_ROBIN", "SOMEHOW")).unwrap();
        assert!(
            wrong
                .apply(&options(), Path::new(""), None)
                .unwrap_err()
                .contains("NO_KEY")
        );
    }

    #[test]
    fn a_payload_file_is_found_above_the_workloads() {
        let folder = tempfile::tempdir().unwrap();
        let workloads = folder.path().join("workloads");
        std::fs::create_dir_all(&workloads).unwrap();
        std::fs::create_dir(folder.path().join("payload")).unwrap();
        std::fs::write(folder.path().join("payload/p.data"), "x").unwrap();
        assert!(find_file("payload/p.data", &workloads).is_ok());
        assert!(find_file("payload/q.data", &workloads).is_err());
    }

    #[test]
    fn mistakes_are_named() {
        let error = |text: &str| Workload::parse(text).unwrap_err();
        let misspelt = error(&WORKLOAD.replace("producerRate", "producersRate"));
        assert!(
            misspelt.contains("line 13") && misspelt.contains("producerRate?"),
            "{misspelt}"
        );
        assert!(error(&WORKLOAD.replace("topics: 2", "topics: two")).contains("topics: 'two'"));
        assert!(error(&WORKLOAD.replace("topics: 2", "topics: 0")).contains("above 0"));
        assert!(error("topics: 1").contains("partitionsPerTopic is missing"));
        assert!(error("topics: 1\ntopics: 2").contains("twice"));
        assert!(error("topics:\n  - a: 1").contains("line 2"));
        assert!(error("hello").contains("line 1"));
    }
}
