//! `verify`: proves a broker's promises. Producers send records that carry their
//! identity, a consumer reads along, all of it is read again at the end, and the
//! [`mod@judge`] compares: nothing acknowledged is lost, nothing is there twice, orders
//! and offsets are as promised, one offset has one value. Brokers may be stopped
//! and killed meanwhile; with the ack journal the proof can be repeated later.

mod journal;
mod judge;
mod lane;
mod pass;
mod producer;
mod reading;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use millrace::base::Rng;
use millrace::record::Codec;

use self::journal::Head;
use self::judge::{Batch, History, Kind, judge};
use self::pass::Pass;
use self::producer::{Produced, Producer};
use crate::args::{TopicArgs, VerifyArgs};
use crate::layout;
use crate::report::{Percentiles, Report};
use crate::stamp::STAMP_BYTES;
use crate::stats::histogram;
use crate::units::count_text;
use millrace_client::{self, Cluster, EARLIEST, LATEST, Topic};

/// Pause before something that failed is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// What all parts of a run share.
struct Setup {
    args: TopicArgs,
    topic: Topic,
    run: u64,
    idempotent: bool,
    in_flight: usize,
    batch_records: u32,
    record_bytes: usize,
    codec: Codec,
    rate_per_producer: Option<f64>,
    patience: Duration,
    /// Records acknowledged, records read, batches sent again: for the display.
    acked: AtomicU64,
    read: AtomicU64,
    retries: AtomicU64,
}

impl Setup {
    fn new(args: &VerifyArgs, topic: Topic, run: u64) -> Self {
        Self {
            args: args.topic.clone(),
            topic,
            run,
            idempotent: args.idempotent,
            in_flight: args.in_flight as usize,
            batch_records: args.batch_records,
            record_bytes: args.record_bytes.clamp(STAMP_BYTES as u64, 1 << 30) as usize,
            codec: args.codec,
            rate_per_producer: args.rate.map(|rate| rate / f64::from(args.producers)),
            patience: Duration::from_secs(args.patience),
            acked: AtomicU64::new(0),
            read: AtomicU64::new(0),
            retries: AtomicU64::new(0),
        }
    }

    fn connect(&self) -> millrace_client::Result<Cluster> {
        Cluster::connect(&self.args.bootstrap, Duration::from_secs(self.args.timeout))
    }
}

/// Does something again and again while it fails for a reason that passes, for as long as
/// `patience` lasts: a broker may be gone at any moment of a run, also while all is read again.
fn patiently<T>(
    patience: Duration,
    mut operation: impl FnMut() -> millrace_client::Result<T>,
) -> millrace_client::Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        match operation() {
            Err(error) if error.is_retriable() && Instant::now() < deadline => {
                std::thread::sleep(RETRY_PAUSE);
            }
            other => return other,
        }
    }
}

/// The ack journal, if one was asked for.
struct Journal {
    file: Mutex<Option<BufWriter<File>>>,
    failure: Mutex<Option<String>>,
}

impl Journal {
    fn create(path: Option<&Path>, head: &Head) -> Result<Self, String> {
        let file = path.map(|path| {
            let named = |error| format!("cannot write {}: {error}", path.display());
            let mut file = BufWriter::new(File::create(path).map_err(named)?);
            head.write(&mut file).map_err(named)?;
            Ok::<_, String>(file)
        });
        Ok(Self {
            file: Mutex::new(file.transpose()?),
            failure: Mutex::new(None),
        })
    }

    fn acked(&self, batch: &Batch) {
        self.write(|file| journal::write_acked(file, batch));
    }

    /// To the kernel, so that it survives this program's death.
    fn flush(&self) {
        self.write(Write::flush);
    }

    fn end(&self, unacked: &[Batch]) -> Result<(), String> {
        self.write(|file| journal::write_end(file, unacked).and_then(|()| file.flush()));
        let failure = self
            .failure
            .lock()
            .expect("nothing panics while it is held")
            .take();
        failure.map_or(Ok(()), |error| {
            Err(format!("cannot write the ack journal: {error}"))
        })
    }

    fn write(&self, write: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>) {
        let mut file = self.file.lock().expect("nothing panics while it is held");
        if let Some(Err(error)) = file.as_mut().map(write) {
            let mut failure = self
                .failure
                .lock()
                .expect("nothing panics while it is held");
            failure.get_or_insert(error.to_string());
        }
    }
}

/// Runs the subcommand.
pub fn run(args: &VerifyArgs) -> Result<Report, String> {
    match &args.verify_against {
        Some(path) => against(args, path),
        None => fresh(args),
    }
}

/// Sends, reads along, reads again, judges.
fn fresh(args: &VerifyArgs) -> Result<Report, String> {
    if args.idempotent && args.in_flight > 5 {
        return Err(String::from(
            "brokers remember 5 batches of an idempotent producer: --in-flight 5 at most",
        ));
    }
    if args.rate.is_some_and(|rate| rate <= 0.0) {
        return Err(String::from("--rate must be above 0"));
    }
    if args.record_bytes < STAMP_BYTES as u64 {
        return Err(format!(
            "--record-bytes {} at least: a record carries its identity",
            STAMP_BYTES
        ));
    }
    // Nothing may expire while it is to be proven there.
    let mut configs = vec![
        (String::from("retention.ms"), String::from("-1")),
        (String::from("retention.bytes"), String::from("-1")),
    ];
    configs.extend(args.topic.topic_configs.iter().cloned());
    let (_, layout) = layout::open(&args.topic, &configs)?;
    let [topic] = &layout.topics[..] else {
        return Err(String::from(
            "verify takes one topic; start it once per topic",
        ));
    };
    let topic = topic.clone();
    let run = Rng::new(producer::wall_ns() ^ u64::from(std::process::id())).next_u64();
    let setup = Setup::new(args, topic, run);
    let head = Head {
        run,
        topic: args.topic.topic.clone(),
        idempotent: args.idempotent,
        ordered: args.idempotent || args.in_flight == 1,
    };
    let journal = Journal::create(args.acks.as_deref(), &head)?;
    let from = reading::offsets(&setup, LATEST).map_err(|e| e.to_string())?;

    let wrote = write_and_tail(&setup, &journal, args, &from)?;
    journal.end(&wrote.history.unacked)?;
    if let Some(error) = &wrote.gave_up {
        return Err(format!("a producer gave up: {error}"));
    }
    let last = reading::read_all(&setup, &from, "at the end").map_err(|e| e.to_string())?;
    let mut history = wrote.history;
    history.idempotent = head.idempotent;
    history.ordered = head.ordered;
    history.passes.push(last);

    let mut report = Report::new("verify");
    let kind = if args.idempotent {
        "idempotent"
    } else {
        "plain"
    };
    report.text(
        "topic",
        format!(
            "{}, {} partitions",
            setup.topic.name,
            setup.topic.partitions.len()
        ),
    );
    report.text(
        "producers",
        format!("{} {kind}, {} in flight", args.producers, args.in_flight),
    );
    report.count("batches_sent_again", setup.retries.load(Ordering::Relaxed));
    report.count("reconnects", wrote.reconnects);
    report.latency("due_to_acked", Percentiles::of(&wrote.ack_latency));
    report.latency("due_to_read", Percentiles::of(&wrote.read_latency));
    tell(&mut report, &history);
    Ok(report)
}

/// Reads everything there is and judges it by a journal of an earlier run.
fn against(args: &VerifyArgs, path: &Path) -> Result<Report, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let (head, mut history) =
        journal::parse(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let timeout = Duration::from_secs(args.topic.timeout);
    let patience = Duration::from_secs(args.patience);
    let topic = patiently(patience, || {
        Cluster::connect(&args.topic.bootstrap, timeout)?
            .topic_with_leaders(&head.topic, Instant::now() + patience)
    })
    .map_err(|e| e.to_string())?;
    let setup = Setup::new(args, topic, head.run);
    let from = reading::offsets(&setup, EARLIEST).map_err(|e| e.to_string())?;
    let pass = reading::read_all(&setup, &from, "afterwards").map_err(|e| e.to_string())?;
    history.passes.push(pass);
    let mut report = Report::new("verify against a journal");
    report.text(
        "topic",
        format!(
            "{}, {} partitions",
            setup.topic.name,
            setup.topic.partitions.len()
        ),
    );
    if !history.complete {
        report.warn(String::from(
            "the journal has no end: its writer was killed, so records that nobody sent cannot be told",
        ));
    }
    tell(&mut report, &history);
    Ok(report)
}

/// What came of the writing phase.
struct Wrote {
    history: History,
    ack_latency: Histogram<u64>,
    read_latency: Histogram<u64>,
    reconnects: u64,
    gave_up: Option<String>,
}

fn write_and_tail(
    setup: &Setup,
    journal: &Journal,
    args: &VerifyArgs,
    from: &BTreeMap<i32, i64>,
) -> Result<Wrote, String> {
    let producers: Vec<Producer<'_>> = (0..args.producers)
        .map(|number| Producer::new(setup, journal, number))
        .collect::<millrace_client::Result<_>>()
        .map_err(|e| e.to_string())?;
    let until = Instant::now() + Duration::from_secs(args.seconds);
    let finished = AtomicBool::new(false);
    let (produced, tailed) = std::thread::scope(|scope| {
        let tail = scope.spawn(|| reading::tail(setup, from, &finished));
        let writers: Vec<_> = producers
            .into_iter()
            .map(|p| scope.spawn(move || p.run(until)))
            .collect();
        show(setup, journal, &writers);
        let produced: Vec<Produced> = writers
            .into_iter()
            .map(|w| w.join().expect("a producer does not panic"))
            .collect();
        finished.store(true, Ordering::Release);
        (produced, tail.join().expect("a reader does not panic"))
    });
    let (pass, read_latency) = tailed.map_err(|e| e.to_string())?;
    Ok(collect(produced, pass, read_latency))
}

fn collect(produced: Vec<Produced>, pass: Pass, read_latency: Histogram<u64>) -> Wrote {
    let mut wrote = Wrote {
        history: History {
            complete: true,
            passes: vec![pass],
            ..History::default()
        },
        ack_latency: histogram(),
        read_latency,
        reconnects: 0,
        gave_up: None,
    };
    for done in produced {
        wrote.history.acked.extend(done.acked);
        wrote.history.unacked.extend(done.unacked);
        wrote.history.rejected.extend(done.rejected);
        wrote
            .ack_latency
            .add(&done.latency)
            .expect("histograms of one shape add");
        wrote.reconnects += done.reconnects;
        wrote.gave_up = wrote
            .gave_up
            .or(done.gave_up.map(|error| error.to_string()));
    }
    wrote
}

/// Shows a line and saves the journal once a second, until the writers have ended.
fn show<T>(setup: &Setup, journal: &Journal, writers: &[ScopedJoinHandle<'_, T>]) {
    let start = Instant::now();
    let mut shown = 0;
    while !writers.iter().all(ScopedJoinHandle::is_finished) {
        std::thread::sleep(Duration::from_millis(20));
        if start.elapsed().as_secs() > shown {
            shown = start.elapsed().as_secs();
            journal.flush();
            eprintln!(
                "verify {shown:>4} s  {:>12} acked  {:>12} read  {:>6} sent again",
                count_text(setup.acked.load(Ordering::Relaxed)),
                count_text(setup.read.load(Ordering::Relaxed)),
                count_text(setup.retries.load(Ordering::Relaxed))
            );
        }
    }
}

/// Judges, and puts the verdict into the report: one row per kind of error.
fn tell(report: &mut Report, history: &History) {
    let verdict = judge(history);
    report.count("records_acked", verdict.acked);
    report.count("records_of_unknown_outcome", verdict.unacked);
    report.count("records_read", verdict.read);
    report.count("records_of_others", verdict.foreign);
    report.count("duplicates_of_retries", verdict.legal_duplicates);
    for kind in Kind::ALL {
        let count = verdict
            .findings
            .get(&kind)
            .map_or(0, |finding| finding.count);
        report.count(&kind.to_string(), count);
    }
    for (kind, finding) in &verdict.findings {
        let examples = finding.examples.join("; ");
        report.fail(format!(
            "{} {kind} ({}): {examples}",
            count_text(finding.count),
            kind.meaning()
        ));
    }
    if verdict.acked == 0 {
        report.fail(String::from(
            "nothing was acknowledged, so nothing is proven",
        ));
    }
    let clean = if report.is_good() {
        "CLEAN"
    } else {
        "NOT CLEAN"
    };
    report.text("verdict", clean);
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_client::ClientError;

    fn gone() -> ClientError {
        ClientError::NoLeader {
            topic: String::from("t"),
            partition: 0,
        }
    }

    #[test]
    fn what_passes_is_sat_out() {
        let mut left = 3;
        let done = patiently(Duration::from_secs(60), || {
            left -= 1;
            if left > 0 { Err(gone()) } else { Ok(7) }
        });
        assert_eq!((done.unwrap(), left), (7, 0));
    }

    #[test]
    fn what_does_not_pass_is_told_at_once_and_patience_ends() {
        let mut tries = 0;
        let failed: millrace_client::Result<()> = patiently(Duration::from_secs(60), || {
            tries += 1;
            Err(ClientError::UnknownTopic {
                topic: String::from("t"),
                nearest: None,
            })
        });
        assert!(failed.is_err() && tries == 1);
        assert!(patiently::<()>(Duration::ZERO, || Err(gone())).is_err());
    }
}
