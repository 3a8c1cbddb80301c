//! `explain`: where the time of requests goes, as the broker itself saw it: stages at
//! the median, at the 99th percentile and at worst, and the slowest requests one by one.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use millrace::base::ErrorCode;
use millrace::broker::trace::Report;
use millrace::wire::Api;

use crate::Outcome;
use crate::args::Explain;
use crate::explain_view::View;
use millrace_client::{ClientError, Cluster, Result};

/// Runs the command.
pub fn run(mut cluster: Cluster, args: &Explain) -> Outcome {
    if args.since_start {
        let reports = ask(&mut cluster)?;
        print(reports.into_iter().map(View::since_start), args);
        return Ok(());
    }
    let span = Duration::from_secs(args.seconds);
    let mut before = ask(&mut cluster)?;
    loop {
        let began = Instant::now();
        if !args.json {
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
        if args.watch && std::io::stdout().is_terminal() {
            // Clears the screen.
            print!("\x1b[2J\x1b[H");
        }
        print(views, args);
        if !args.watch {
            return Ok(());
        }
        before = after;
    }
}

fn print(views: impl Iterator<Item = View>, args: &Explain) {
    for view in views {
        if args.json {
            println!("{}", view.json(args.slowest));
        } else {
            print!("{}", view.text(args.slowest));
        }
    }
}

/// The reports of all nodes. A node that is announced as several brokers answers for all of itself
/// each time, and counts once.
fn ask(cluster: &mut Cluster) -> std::result::Result<Vec<Report>, String> {
    cluster.metadata(Some(&[])).map_err(|e| e.to_string())?;
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

fn ask_broker(cluster: &mut Cluster, id: i32) -> std::result::Result<Report, String> {
    let address = cluster.brokers().get(&id).cloned().unwrap_or_default();
    let mut body = body(cluster, id).map_err(|error| match error {
        ClientError::Lost { source, .. } if source.kind() != std::io::ErrorKind::TimedOut => {
            format!(
                "{address} does not know the request: it is no Millrace, or an older one (it ended the connection: {source})"
            )
        }
        error => error.to_string(),
    })?;
    let cut_off = || format!("{address}: the answer is cut off");
    if body.len() < 2 {
        return Err(cut_off());
    }
    let report = body.split_off(2);
    let code = i16::from_be_bytes([body[0], body[1]]);
    if code != 0 {
        let text = ErrorCode::from_code(code).map_or("unknown error", ErrorCode::message);
        return Err(format!("{address}: {text} ({code})"));
    }
    Report::decode(report).map_err(|why| format!("{address}: {why}"))
}

fn body(cluster: &mut Cluster, id: i32) -> Result<bytes::Bytes> {
    cluster.node(id)?.call_own(Api::EXPLAIN)
}
