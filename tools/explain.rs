//! `explain`: where the time of requests goes, as the broker itself saw it: stages at
//! the median, at the 99th percentile and at worst, and the slowest requests one by one.

use std::time::{Duration, Instant};

use millrace::base::ErrorCode;
use millrace::broker::trace::Report;
use millrace::wire::Api;

use millrace_client::{ClientError, Cluster, Result};

use crate::answer::Output;
use crate::args::Explain;
use crate::explain_view::View;
use crate::failure::{Failure, Outcome};

/// Runs the command.
pub fn run(mut cluster: Cluster, output: Output, args: &Explain) -> Outcome {
    if args.since_start {
        let reports = ask(&mut cluster)?;
        return print(reports.into_iter().map(View::since_start), output, args);
    }
    let span = Duration::from_secs(args.seconds);
    let mut before = ask(&mut cluster)?;
    loop {
        let began = Instant::now();
        if !output.is_json() {
            eprintln!("looking at the requests of {} s ...", args.seconds);
        }
        std::thread::sleep(span.saturating_sub(began.elapsed()));
        let after = ask(&mut cluster)?;
        let views = after.iter().map(|after| {
            // The counts of a broker that was started in between begin with that.
            let earlier = before
                .iter()
                .find(|b| b.node == after.node && b.started_ms == after.started_ms);
            View::between(earlier, after.clone())
        });
        if args.watch {
            output.top_of_screen()?;
        }
        print(views, output, args)?;
        if !args.watch {
            return Ok(());
        }
        before = after;
    }
}

fn print(views: impl Iterator<Item = View>, output: Output, args: &Explain) -> Outcome {
    for view in views {
        output.text(&if output.is_json() {
            view.json(args.slowest) + "\n"
        } else {
            view.text(args.slowest)
        })?;
    }
    Ok(())
}

/// The reports of all nodes. A node that is announced as several brokers answers for all of itself
/// each time, and counts once.
fn ask(cluster: &mut Cluster) -> Outcome<Vec<Report>> {
    cluster.metadata(Some(&[]))?;
    let ids: Vec<i32> = cluster.brokers().keys().copied().collect();
    let mut reports: Vec<Report> = Vec::new();
    for id in ids {
        let report = ask_broker(cluster, id)?;
        if reports.iter().all(|known| known.node != report.node) {
            reports.push(report);
        }
    }
    Ok(reports)
}

fn ask_broker(cluster: &mut Cluster, id: i32) -> Outcome<Report> {
    let address = cluster.brokers().get(&id).cloned().unwrap_or_default();
    let mut body = body(cluster, id).map_err(|error| match error {
        ClientError::Lost { source, .. } if source.kind() != std::io::ErrorKind::TimedOut => {
            Failure::from(format!(
                "{address} does not know the request: it is no Millrace, or an older one (it ended the connection: \
                 {source})"
            ))
        }
        error => error.into(),
    })?;
    let cut_off = || format!("{address}: the answer is cut off");
    if body.len() < 2 {
        return Err(cut_off().into());
    }
    let report = body.split_off(2);
    let code = i16::from_be_bytes([body[0], body[1]]);
    if code != 0 {
        let text = ErrorCode::from_code(code).map_or("unknown error", ErrorCode::message);
        return Err(format!("{address}: {text} ({code})").into());
    }
    Report::decode(report).map_err(|why| format!("{address}: {why}").into())
}

fn body(cluster: &mut Cluster, id: i32) -> Result<bytes::Bytes> {
    cluster.node(id)?.call_own(Api::EXPLAIN)
}
