//! Runs a load: connects, shares the connections out among threads, keeps the
//! clock, watches the broker and the generator itself, and sums up.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;

use crate::args::{LoadArgs, TopicArgs};
use crate::book::Book;
use crate::environment;
use crate::layout::{self, Layout};
use crate::plan::{Assignment, assign};
use crate::procfs::{self, Usage};
use crate::progress::Progress;
use crate::reactor::{self, Client};
use crate::report::Report;
use crate::socket::Socket;
use crate::stats::{Counters, Kind, Sample, Window};
use crate::timeline::Timeline;
use millrace_client::{Cluster, Conn, EARLIEST, LATEST, list_offsets};

/// How often the clock looks whether the workers have ended by themselves.
const LOOK: Duration = Duration::from_millis(20);
/// How long what was due may take after the end of the run, in open loop.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// A kind of load.
pub trait Job {
    /// What runs on each connection.
    type Client: LoadClient;

    /// For the display.
    fn name(&self) -> &'static str;

    /// What it measures, the first one being what bytes and requests are counted of.
    fn kinds(&self) -> &'static [Kind];

    /// Records per second that are due, in open loop; or whatever else [`Job::paced`] is.
    fn rate(&self) -> Option<f64> {
        None
    }

    /// What falls due.
    fn paced(&self) -> &'static str {
        "records"
    }

    /// A client for every connection.
    fn clients(&self, site: &mut Site) -> Result<Vec<(Conn, Self::Client)>, String>;

    /// Whether everything that was begun has come to its end.
    fn is_drained(&self, _counters: &Counters) -> bool {
        true
    }
}

/// A client of a load.
pub trait LoadClient: Client<Notes = Book> + Send + 'static {
    /// The clock starts.
    fn begin(&mut self, window: Window);
}

/// Where a load runs.
pub struct Site {
    cluster: Cluster,
    /// The partitions.
    pub layout: Arc<Layout>,
    /// What all clients count.
    pub counters: Arc<Counters>,
}

impl Site {
    /// Shares out this many connections.
    pub fn assign(&self, connections: u32) -> Vec<Assignment> {
        let led = self.layout.slots.iter().enumerate();
        let led: Vec<(usize, i32)> = led.map(|(slot, at)| (slot, at.leader)).collect();
        assign(&led, connections as usize)
    }

    /// A connection to the broker of an assignment.
    pub fn connect(&self, assignment: &Assignment) -> Result<Conn, String> {
        self.cluster
            .connect_to(assignment.leader)
            .map_err(|e| e.to_string())
    }

    /// First offset and end offset of every slot.
    pub fn bounds(&mut self) -> Result<Vec<(i64, i64)>, String> {
        let mut bounds = Vec::with_capacity(self.layout.slots.len());
        for topic in &self.layout.topics {
            let indexes: Vec<i32> = topic.partitions.iter().map(|p| p.index).collect();
            let mut list = |at| {
                list_offsets(&mut self.cluster, topic, &indexes, at).map_err(|e| e.to_string())
            };
            let (first, end) = (list(EARLIEST)?, list(LATEST)?);
            bounds.extend(indexes.iter().map(|index| (first[index], end[index])));
        }
        Ok(bounds)
    }
}

/// What came out, for programs that go on from there.
pub struct Outcome {
    /// What was counted, from the first moment to the last.
    pub counters: Arc<Counters>,
    /// Latencies of the window.
    pub latency: [Option<Histogram<u64>>; 3],
    /// Records per second in the window, of the first kind.
    pub rate: f64,
    /// Whether everything could be sent about when it was due.
    pub kept_up: bool,
    /// Requests that were due and never answered.
    pub unanswered: u64,
    /// Batches refused.
    pub errors: u64,
    /// Records acknowledged and not read.
    pub lost: u64,
}

/// What a worker leaves behind.
pub struct Worked {
    /// What it wrote down.
    pub book: Book,
    /// When it was done.
    pub ended: Instant,
    /// CPU time it used, and how long it ran.
    pub cpu: Option<Duration>,
    /// See `cpu`.
    pub wall: Duration,
}

/// Runs a load from beginning to end.
pub fn run<J: Job>(
    topic_args: &TopicArgs,
    load: &LoadArgs,
    job: &J,
) -> Result<(Report, Outcome), String> {
    let (cluster, layout) = layout::open(topic_args, &topic_args.topic_configs)?;
    let mut site = Site {
        cluster,
        layout: Arc::new(layout),
        counters: Arc::default(),
    };
    let mut clients = Vec::new();
    for (conn, client) in job.clients(&mut site)? {
        let socket = Socket::new(conn.into_stream()).map_err(|e| e.to_string())?;
        clients.push((socket, client));
    }
    let connections = clients.len();
    let environment = environment::describe(&mut site.cluster, load);
    let seconds = Duration::from_secs;
    let window = Window::new(
        seconds(load.warmup),
        seconds(load.seconds),
        job.rate().is_some(),
    );
    for (_, client) in &mut clients {
        client.begin(window);
    }
    let timeline = Arc::new(Timeline::default());
    let give_up = window.to + DRAIN_MAX + seconds(topic_args.timeout);
    let book = || Book::new(window, Arc::clone(&site.counters), Arc::clone(&timeline));
    let workers = spawn(clients, load, &site.counters, book, give_up);
    let threads = workers.len();
    let watch = Watch {
        job,
        load,
        counters: &site.counters,
        timeline: &timeline,
        window,
        patience: seconds(topic_args.timeout),
    };
    let measured = watch.run(&workers);
    let worked = join(workers)?;

    let mut report = Report::new(job.name());
    let partitions = site.layout.slots.len();
    report.text(
        "topic",
        match &site.layout.topics[..] {
            [topic] => format!("{}, {partitions} partitions", topic.name),
            topics => format!("{} topics, {partitions} partitions", topics.len()),
        },
    );
    if load.warmup > 0 {
        report.count("warmup_s", load.warmup);
    }
    report.text(
        "generator",
        format!("{connections} connections, {threads} threads"),
    );
    let outcome = crate::summary::sum_up(&mut report, job, &measured?, &worked, &site.counters);
    report.section("environment", environment);
    report.timeline(&timeline, job.kinds(), &window);
    if let Some(path) = &load.hdr_log {
        crate::hdrlog::write(path, &timeline, job.kinds(), &window)?;
    }
    Ok((report, outcome))
}

type Worker = JoinHandle<Result<Worked, String>>;

fn spawn<C: LoadClient>(
    clients: Vec<(Socket, C)>,
    load: &LoadArgs,
    counters: &Arc<Counters>,
    book: impl Fn() -> Book,
    give_up: Instant,
) -> Vec<Worker> {
    let cores = load
        .cores
        .as_ref()
        .map(|cores| cores.0.clone())
        .unwrap_or_default();
    let threads = if cores.is_empty() {
        load.threads as usize
    } else {
        cores.len()
    };
    let mut shares: Vec<Vec<(Socket, C)>> = Vec::new();
    shares.resize_with(threads.min(clients.len()), Vec::new);
    let count = shares.len();
    for (index, client) in clients.into_iter().enumerate() {
        shares[index % count].push(client);
    }
    shares
        .into_iter()
        .enumerate()
        .map(|(index, share)| {
            let (core, book) = (cores.get(index).copied(), book());
            let counters = Arc::clone(counters);
            std::thread::spawn(move || {
                let worked = work(share, book, core, give_up);
                if worked.is_err() {
                    counters.stop();
                }
                worked
            })
        })
        .collect()
}

fn work<C: LoadClient>(
    share: Vec<(Socket, C)>,
    mut book: Book,
    core: Option<usize>,
    give_up: Instant,
) -> Result<Worked, String> {
    if let Some(core) = core
        && !core_affinity::set_for_current(core_affinity::CoreId { id: core })
    {
        return Err(format!(
            "cannot pin a thread to core {core}: is it one of this machine's?"
        ));
    }
    // By default the kernel may wake a sleeper 50 us late, which would count as latency.
    rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1))
        .map_err(|error| format!("cannot set the timer slack: {error}"))?;
    let (begun, cpu_before) = (Instant::now(), procfs::thread_cpu());
    reactor::run(share, &mut book, give_up)?;
    book.close_pages();
    let cpu = procfs::thread_cpu()
        .zip(cpu_before)
        .map(|(after, before)| after - before);
    Ok(Worked {
        book,
        ended: Instant::now(),
        cpu,
        wall: begun.elapsed(),
    })
}

/// What was seen between the end of the warm-up and the end of the run.
pub struct Measured {
    /// What was added to the counters, by kind.
    pub samples: [Sample; 3],
    /// When the warm-up was over.
    pub began: Instant,
    /// When the run was over.
    pub ended: Instant,
    /// What the broker had used at both.
    pub broker: Option<(Usage, Usage)>,
    /// Records that were due and not sent, at most and at the end.
    pub backlog_max: u64,
    /// See `backlog_max`.
    pub backlog_end: u64,
}

/// Keeps the clock.
struct Watch<'a, J> {
    job: &'a J,
    load: &'a LoadArgs,
    counters: &'a Counters,
    timeline: &'a Timeline,
    window: Window,
    patience: Duration,
}

impl<J: Job> Watch<'_, J> {
    /// Until the end of the window, or until all workers have ended, and then until everything
    /// that was due has come to its end.
    fn run(&self, workers: &[Worker]) -> Result<Measured, String> {
        let result = self.measure(workers);
        self.counters.close();
        if result.is_ok() {
            self.drain();
        }
        self.counters.stop();
        result
    }

    /// Waits for what was begun: in open loop a while for answers, and for readers as long as they
    /// get on; in closed loop until all is there. Never longer than for one answer.
    fn drain(&self) {
        let begun = Instant::now();
        let (mut read, mut moved) = (self.records(), begun);
        while !self.job.is_drained(self.counters)
            && !self.counters.stopped()
            && begun.elapsed() < self.patience.max(DRAIN_MAX)
            && (!self.window.open || moved.elapsed() < DRAIN_MAX)
        {
            std::thread::sleep(LOOK);
            if self.window.open && begun.elapsed() >= DRAIN_MAX {
                self.counters.expire();
            }
            let now_read = self.records();
            if now_read != read {
                (read, moved) = (now_read, Instant::now());
            }
        }
    }

    /// Records of all kinds so far.
    fn records(&self) -> u64 {
        let samples = self.counters.samples();
        samples.iter().map(|sample| sample.records).sum()
    }

    fn measure(&self, workers: &[Worker]) -> Result<Measured, String> {
        let broker = || self.load.broker_pid.map(procfs::process).transpose();
        let seconds = self.load.warmup + self.load.seconds;
        let mut progress = Progress::new(self.job.name(), self.job.kinds(), seconds);
        let mut backlog_max = 0;
        let mut sleep_until = |to: Instant, measuring: bool| {
            // A worker that fails stops the others.
            while Instant::now() < to
                && !self.counters.stopped()
                && !workers.iter().all(JoinHandle::is_finished)
            {
                std::thread::sleep(LOOK.min(to.saturating_duration_since(Instant::now())));
                let backlog = self.backlog();
                if measuring {
                    backlog_max = backlog_max.max(backlog.unwrap_or(0));
                }
                progress.tick(
                    self.window.start.elapsed(),
                    self.timeline,
                    self.counters,
                    backlog,
                );
            }
        };
        sleep_until(self.window.from, false);
        let (before, began, base) = (broker()?, Instant::now(), self.counters.samples());
        sleep_until(self.window.to, true);
        let backlog_end = self.backlog().unwrap_or(0);
        let (samples, ended, after) = (self.counters.samples(), Instant::now(), broker()?);
        progress.finish();
        Ok(Measured {
            samples: Kind::ALL.map(|kind| samples[kind as usize].since(&base[kind as usize])),
            began,
            ended,
            broker: before.zip(after),
            backlog_max,
            backlog_end,
        })
    }

    /// Records that are due and whose sending has not begun.
    fn backlog(&self) -> Option<u64> {
        let rate = self.job.rate()?;
        let elapsed = Instant::now().min(self.window.to) - self.window.start;
        let due = rate * elapsed.as_secs_f64();
        Some((due as u64).saturating_sub(self.counters.begun()))
    }
}

fn join(workers: Vec<Worker>) -> Result<Vec<Worked>, String> {
    let ended = workers
        .into_iter()
        .map(|worker| worker.join().map_err(|_| "a worker panicked"));
    ended.map(|result| result?).collect()
}

/// Milliseconds since 1970.
pub fn wall_ms() -> i64 {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH);
    wall.unwrap_or_default().as_millis() as i64
}
