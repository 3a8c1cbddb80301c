//! From what was measured to what is reported, with doubts about the measurement.

use std::sync::Arc;

use crate::load::{Job, Measured, Outcome, Worked};
use crate::report::{Percentiles, Report};
use crate::stats::{Counters, Kind, Sample, histogram};

/// A worker that used this share of its core may have been what limited the result.
const SATURATED: f64 = 0.9;
/// Seconds of records that may wait at the end before it counts as not keeping up.
const BACKLOG_SECONDS_MAX: f64 = 0.25;

/// Puts everything into the report.
pub fn sum_up<J: Job>(
    report: &mut Report,
    job: &J,
    measured: &Measured,
    worked: &[Worked],
    counters: &Arc<Counters>,
) -> Outcome {
    let last_ended = worked.iter().map(|w| w.ended).max();
    let ended = measured.ended.min(last_ended.unwrap_or(measured.ended));
    let seconds = ended
        .saturating_duration_since(measured.began)
        .as_secs_f64();
    let seconds = seconds.max(1e-9);
    let kinds = job.kinds();
    let main = measured.samples[kinds[0] as usize];
    report.number("seconds", seconds);
    throughput(report, "", &main, seconds);
    for &kind in &kinds[1..] {
        let sample = measured.samples[kind as usize];
        throughput(report, &format!("{}_", kind.name()), &sample, seconds);
    }
    let latency = Kind::ALL.map(|kind| merged(worked, kind));
    for &kind in kinds {
        let key = if kinds.len() == 1 {
            String::from("latency")
        } else {
            format!(
                "{}_latency",
                if kind == Kind::Produce {
                    "ack"
                } else {
                    kind.name()
                }
            )
        };
        let empty = histogram();
        let found = latency[kind as usize].as_ref().unwrap_or(&empty);
        report.latency(&key, Percentiles::of(found));
        report.distribution(kind, found);
    }
    generator(report, worked);
    broker(report, measured, seconds);
    let kept_up = backlog(report, job.rate(), job.paced(), measured);
    let errors = complaints(report, measured, worked);
    if measured.samples.iter().all(|sample| sample.records == 0) {
        report.fail(String::from("nothing was transferred while measuring"));
    }
    Outcome {
        counters: Arc::clone(counters),
        latency,
        rate: main.records as f64 / seconds,
        kept_up,
        unanswered: worked.iter().map(|w| w.book.unanswered).sum(),
        errors,
        lost: 0,
    }
}

fn throughput(report: &mut Report, prefix: &str, sample: &Sample, seconds: f64) {
    report.count(&format!("{prefix}records"), sample.records);
    let mut rate =
        |key: &str, count: f64| report.number(&format!("{prefix}{key}"), count / seconds);
    rate("records_per_s", sample.records as f64);
    rate("mb_per_s", sample.bytes as f64 / 1e6);
    rate("requests_per_s", sample.requests as f64);
}

fn merged(worked: &[Worked], kind: Kind) -> Option<hdrhistogram::Histogram<u64>> {
    let mut found = worked.iter().filter_map(|w| w.book.total(kind));
    let mut sum = found.next()?.clone();
    for more in found {
        sum.add(more).expect("histograms of one shape add");
    }
    Some(sum)
}

fn generator(report: &mut Report, worked: &[Worked]) {
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
    // What the generator could do if the broker were not in the way.
    report.number("generator_headroom", 1.0 / busiest.max(1e-3));
    if busiest > SATURATED {
        report.warn(format!(
            "a generator thread was busy for {:.0} % of the time: the broker may be faster than \
             this; give more --cores or --threads, or larger batches",
            busiest * 100.0
        ));
    }
}

fn broker(report: &mut Report, measured: &Measured, seconds: f64) {
    let Some((before, after)) = &measured.broker else {
        return;
    };
    let bytes: u64 = measured.samples.iter().map(|sample| sample.bytes).sum();
    let cpu = after.cpu.saturating_sub(before.cpu).as_secs_f64();
    report.number("broker_cores", cpu / seconds);
    report.number("broker_cpu_s_per_gb", cpu / (bytes as f64 / 1e9).max(1e-9));
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    report.number("broker_rss_mib", mib(after.rss_bytes));
    report.number("broker_rss_peak_mib", mib(after.rss_peak_bytes));
}

/// Open loop: whether the broker took what was due.
fn backlog(report: &mut Report, rate: Option<f64>, paced: &str, measured: &Measured) -> bool {
    let Some(rate) = rate else {
        return true;
    };
    report.number(&format!("rate_asked_{paced}_per_s"), rate);
    report.count(&format!("backlog_max_{paced}"), measured.backlog_max);
    report.count(&format!("backlog_end_{paced}"), measured.backlog_end);
    let seconds = measured.backlog_end as f64 / rate;
    report.number("backlog_end_ms", seconds * 1e3);
    let kept_up = seconds <= BACKLOG_SECONDS_MAX;
    report.text("kept_up", if kept_up { "yes" } else { "no" });
    if !kept_up {
        report.warn(format!(
            "the rate could not be followed: at the end {} {paced} were due and not sent; latencies \
             grow with the length of the run",
            measured.backlog_end
        ));
    }
    kept_up
}

fn complaints(report: &mut Report, measured: &Measured, worked: &[Worked]) -> u64 {
    report.count("errors", measured.samples[0].errors);
    let unanswered: u64 = worked.iter().map(|w| w.book.unanswered).sum();
    if unanswered > 0 {
        report.warn(format!(
            "{unanswered} requests that were due had no answer when the run was given up; each \
             counts as its age then, which is less than the truth"
        ));
    }
    let outside: u64 = worked.iter().map(|w| w.book.errors_outside).sum();
    if outside > 0 {
        report.warn(format!(
            "{outside} batches were refused before or after measuring"
        ));
    }
    let mut refused = std::collections::BTreeMap::new();
    for (name, count) in worked.iter().flat_map(|w| &w.book.errors) {
        *refused.entry(*name).or_insert(0u64) += count;
    }
    for (name, count) in &refused {
        report.fail(format!("{count} batches were refused with {name}"));
    }
    outside + refused.values().sum::<u64>()
}
