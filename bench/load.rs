//! Runs a load: connects, shares the connections out among threads, keeps the
//! clock, watches the broker and the generator itself, and sums up.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::args::{LoadArgs, TopicArgs};
use crate::client::{Cluster, Conn, NewTopic, Topic, ensure_topic};
use crate::plan::{Assignment, assign};
use crate::procfs::{self, Usage};
use crate::progress::Progress;
use crate::reactor::{self, Client};
use crate::report::{Percentiles, Report};
use crate::socket::Socket;
use crate::stats::{Counters, Sample, Tally, Window};

/// How often the clock looks whether the workers have ended by themselves.
const LOOK: Duration = Duration::from_millis(20);
/// A worker that used this share of its core may have been what limited the result.
const SATURATED: f64 = 0.9;

/// A kind of load.
pub trait Job {
    /// What runs on each connection.
    type Client: Client + Tallied + Send + 'static;

    /// For the display.
    fn name(&self) -> &'static str;

    /// Called once, before the connections are made.
    fn prepare(&self, _cluster: &mut Cluster, _topic: &Topic) -> Result<(), String> {
        Ok(())
    }

    /// The client for one connection.
    fn client(
        &self,
        conn: &Conn,
        topic: &Topic,
        assignment: &Assignment,
        place: Place,
        counters: &Arc<Counters>,
        window: Window,
    ) -> Result<Self::Client, String>;
}

/// A client that has something to sum up at the end.
pub trait Tallied {
    /// What it counted.
    fn tally(&self) -> &Tally;
}

/// Which connection of how many.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Counted from 0.
    pub index: usize,
    /// Connections in all.
    pub connections: usize,
}

/// Connects to the cluster and makes the topic if it is missing.
pub fn open(args: &TopicArgs, configs: &[(String, String)]) -> Result<(Cluster, Topic), String> {
    let timeout = Duration::from_secs(args.timeout);
    let mut cluster = Cluster::connect(&args.bootstrap, timeout).map_err(|e| e.to_string())?;
    let new = NewTopic {
        name: &args.topic,
        partitions: args.partitions,
        replication: args.replication,
        configs,
    };
    let topic = ensure_topic(&mut cluster, &new).map_err(|e| e.to_string())?;
    Ok((cluster, topic))
}

/// What a worker leaves behind.
struct Worked<C> {
    clients: Vec<C>,
    ended: Instant,
    cpu: Option<Duration>,
    wall: Duration,
}

/// Runs a load from beginning to end.
pub fn run<J: Job>(topic_args: &TopicArgs, load: &LoadArgs, job: &J) -> Result<Report, String> {
    let (mut cluster, topic) = open(topic_args, &topic_args.topic_configs)?;
    job.prepare(&mut cluster, &topic)?;
    let led: Vec<(i32, i32)> = topic
        .partitions
        .iter()
        .map(|p| (p.index, p.leader))
        .collect();
    let assignments = assign(&led, load.connections as usize);
    let conns = assignments
        .iter()
        .map(|assignment| cluster.connect_to(assignment.leader))
        .collect::<Result<Vec<Conn>, _>>()
        .map_err(|e| e.to_string())?;

    let start = Instant::now();
    let from = start + Duration::from_secs(load.warmup);
    let window = Window {
        start,
        from,
        to: from + Duration::from_secs(load.seconds),
    };
    let counters = Arc::new(Counters::default());
    let mut clients = Vec::with_capacity(conns.len());
    for (index, (conn, assignment)) in conns.into_iter().zip(&assignments).enumerate() {
        let place = Place {
            index,
            connections: assignments.len(),
        };
        let client = job.client(&conn, &topic, assignment, place, &counters, window)?;
        let socket = Socket::new(conn.into_stream()).map_err(|e| e.to_string())?;
        clients.push((socket, client));
    }
    let give_up = window.to + Duration::from_secs(topic_args.timeout);
    let workers = spawn(clients, load, give_up);
    let threads = workers.len();
    let measured = watch(job.name(), load, &counters, window, &workers);
    let worked = join(workers)?;

    let mut report = Report::new(job.name());
    report.text(
        "topic",
        format!("{}, {} partitions", topic.name, topic.partitions.len()),
    );
    report.text(
        "generator",
        format!("{} connections, {threads} threads", assignments.len()),
    );
    sum_up(&mut report, &measured?, &worked, window);
    Ok(report)
}

type Worker<C> = JoinHandle<Result<Worked<C>, String>>;

fn spawn<C: Client + Send + 'static>(
    clients: Vec<(Socket, C)>,
    load: &LoadArgs,
    give_up: Instant,
) -> Vec<Worker<C>> {
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
            let core = cores.get(index).copied();
            std::thread::spawn(move || work(share, core, give_up))
        })
        .collect()
}

fn work<C: Client>(
    share: Vec<(Socket, C)>,
    core: Option<usize>,
    give_up: Instant,
) -> Result<Worked<C>, String> {
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
    let clients = reactor::run(share, give_up)?;
    let cpu = procfs::thread_cpu()
        .zip(cpu_before)
        .map(|(after, before)| after - before);
    Ok(Worked {
        clients,
        ended: Instant::now(),
        cpu,
        wall: begun.elapsed(),
    })
}

/// What was seen between the end of the warm-up and the end of the run.
struct Measured {
    sample: Sample,
    began: Instant,
    ended: Instant,
    broker: Option<(Usage, Usage)>,
}

/// Keeps the clock until the end of the window, or until all workers have ended.
fn watch<T>(
    name: &str,
    load: &LoadArgs,
    counters: &Counters,
    window: Window,
    workers: &[JoinHandle<T>],
) -> Result<Measured, String> {
    let broker = || load.broker_pid.map(procfs::process).transpose();
    let result = (|| {
        let mut progress = Progress::new(name, load.warmup + load.seconds);
        let sleep_until = |progress: &mut Progress, to: Instant| {
            while Instant::now() < to && !workers.iter().all(JoinHandle::is_finished) {
                std::thread::sleep(LOOK.min(to.saturating_duration_since(Instant::now())));
                progress.tick(window.start.elapsed(), &counters.sample());
            }
        };
        sleep_until(&mut progress, window.from);
        let (before, began, base) = (broker()?, Instant::now(), counters.sample());
        sleep_until(&mut progress, window.to);
        let (sample, ended, after) = (counters.sample(), Instant::now(), broker()?);
        progress.finish();
        Ok(Measured {
            sample: sample.since(&base),
            began,
            ended,
            broker: before.zip(after),
        })
    })();
    counters.stop();
    result
}

fn join<C>(workers: Vec<Worker<C>>) -> Result<Vec<Worked<C>>, String> {
    let ended = workers
        .into_iter()
        .map(|worker| worker.join().map_err(|_| "a worker panicked"));
    ended.map(|result| result?).collect()
}

fn sum_up<C: Tallied>(
    report: &mut Report,
    measured: &Measured,
    worked: &[Worked<C>],
    window: Window,
) {
    let mut tally = Tally::new(window);
    for client in worked.iter().flat_map(|worked| &worked.clients) {
        tally.merge(client.tally());
    }
    let last_ended = worked
        .iter()
        .map(|w| w.ended)
        .max()
        .unwrap_or(measured.ended);
    let ended = measured.ended.min(last_ended);
    let seconds = ended
        .saturating_duration_since(measured.began)
        .as_secs_f64()
        .max(1e-9);
    let Sample {
        records,
        bytes,
        requests,
        errors,
    } = measured.sample;
    report.number("seconds", seconds);
    report.count("records", records);
    report.number("records_per_s", records as f64 / seconds);
    report.number("mb_per_s", bytes as f64 / seconds / 1e6);
    report.number("requests_per_s", requests as f64 / seconds);
    report.latency("latency", Percentiles::of(&tally.latency));
    let cpu: f64 = worked
        .iter()
        .filter_map(|w| w.cpu)
        .map(|cpu| cpu.as_secs_f64())
        .sum();
    report.number("generator_cpu_s", cpu);
    let busiest = worked
        .iter()
        .filter_map(|w| Some(w.cpu?.as_secs_f64() / w.wall.as_secs_f64().max(1e-9)))
        .fold(0.0, f64::max);
    report.number("generator_busiest_thread", busiest);
    if busiest > SATURATED {
        report.warn(format!(
            "a generator thread was busy for {:.0} % of the time: the broker may be faster than \
             this; give more --cores or --threads, or larger batches",
            busiest * 100.0
        ));
    }
    if let Some((before, after)) = &measured.broker {
        let cpu = after.cpu.saturating_sub(before.cpu).as_secs_f64();
        report.number("broker_cores", cpu / seconds);
        report.number("broker_cpu_s_per_gb", cpu / (bytes as f64 / 1e9).max(1e-9));
        report.number(
            "broker_rss_mib",
            after.rss_bytes as f64 / f64::from(1 << 20),
        );
        report.number(
            "broker_rss_peak_mib",
            after.rss_peak_bytes as f64 / f64::from(1 << 20),
        );
    }
    report.count("errors", errors);
    if tally.errors_outside > 0 {
        let count = tally.errors_outside;
        report.warn(format!(
            "{count} batches were refused before or after measuring"
        ));
    }
    for (name, count) in &tally.errors {
        report.fail(format!("{count} batches were refused with {name}"));
    }
    if records == 0 {
        report.fail(String::from("nothing was transferred while measuring"));
    }
}
