//! Which charts a set of runs has, from the JSON of their results.

use serde_json::Value as Json;

use super::axis::Axis;
use super::svg::{Cell, Line, colour, heat_map, line_chart};

/// Percentiles drawn over time, as they are called in files and in legends.
const OVER_TIME: [(&str, &str); 4] = [
    ("p50_ms", "p50"),
    ("p99_ms", "p99"),
    ("p99_9_ms", "p99.9"),
    ("max_ms", "max"),
];

/// One result.
#[derive(Clone, Debug)]
pub struct Run {
    /// What to call it.
    pub name: String,
    /// Its JSON.
    pub json: Json,
}

impl Run {
    /// Kinds of latency that were measured.
    pub fn kinds(&self) -> Vec<String> {
        let seconds = self.json["timeline"]["seconds"].as_object();
        seconds.map_or_else(Vec::new, |kinds| kinds.keys().cloned().collect())
    }

    fn seconds(&self, kind: &str) -> &[Json] {
        let seconds = self.json["timeline"]["seconds"][kind].as_array();
        seconds.map_or(&[], Vec::as_slice)
    }

    /// A figure of every second, at the middle of the second. What is left over after the end of
    /// the run fills no second and would look like a drop.
    fn over_time(&self, kind: &str, figure: &str) -> Vec<(f64, f64)> {
        let end = self.json["timeline"]["measured_to_second"].as_u64();
        let points = self.seconds(kind).iter();
        points
            .filter(|s| s["second"].as_u64() < end.or(Some(u64::MAX)))
            .filter_map(|s| Some((s["second"].as_f64()? + 0.5, s[figure].as_f64()?)))
            .collect()
    }

    fn curve(&self, kind: &str) -> Vec<(f64, f64)> {
        let points = self.json["percentile_curves"][kind].as_array();
        let points = points.map_or(&[][..], Vec::as_slice).iter();
        points
            .filter_map(|p| Some((p[0].as_f64()?, p[1].as_f64()?)))
            .collect()
    }

    /// Number of latencies of a kind.
    fn count(&self, kind: &str) -> u64 {
        let keys = [
            format!("{kind}_latency"),
            "ack_latency".into(),
            "latency".into(),
        ];
        let keys = keys
            .iter()
            .filter(|key| kind == "produce" || *key != "ack_latency");
        keys.filter_map(|key| self.json[key.as_str()]["count"].as_u64())
            .next()
            .unwrap_or(0)
    }

    /// Warm-up and drain: what is not measured.
    fn unmeasured(&self, end: f64) -> Vec<(f64, f64)> {
        let timeline = &self.json["timeline"];
        let at = |key: &str| timeline[key].as_f64();
        let warm_up = at("measured_from_second").map(|from| (0.0, from));
        let drain = at("measured_to_second").map(|to| (to, end));
        warm_up
            .into_iter()
            .chain(drain)
            .filter(|(from, to)| from < to)
            .collect()
    }
}

/// What a kind of latency is called in headings.
fn title_of(kind: &str) -> &'static str {
    match kind {
        "produce" => "acknowledgement",
        "fetch" => "fetch",
        _ => "end-to-end",
    }
}

/// All charts of these runs, in the order of the page.
pub fn charts(runs: &[Run]) -> Vec<String> {
    let mut kinds: Vec<String> = Vec::new();
    for kind in runs.iter().flat_map(Run::kinds) {
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    let mut charts = Vec::new();
    charts.extend(kinds.iter().map(|kind| percentile_chart(runs, kind)));
    charts.extend(kinds.iter().map(|kind| latency_chart(runs, kind)));
    charts.push(throughput_chart(runs, &kinds));
    for run in runs {
        charts.extend(
            run.kinds()
                .iter()
                .map(|kind| heat_chart(run, kind, runs.len() > 1)),
        );
    }
    charts
}

fn values(lines: &[Line]) -> impl Iterator<Item = f64> + '_ {
    lines
        .iter()
        .flat_map(|line| &line.points)
        .map(|point| point.1)
}

fn percentile_chart(runs: &[Run], kind: &str) -> String {
    let lines: Vec<Line> = runs
        .iter()
        .enumerate()
        .map(|(n, run)| Line {
            name: run.name.clone(),
            colour: colour(n),
            dashed: false,
            points: run.curve(kind),
        })
        .collect();
    let count = runs.iter().map(|run| run.count(kind)).max().unwrap_or(0);
    let x = Axis::percentile("percentile, %", count);
    let y = Axis::log("latency, ms (log)", values(&lines));
    let title = format!("Percentiles of {} latency", title_of(kind));
    line_chart(&title, &x, &y, &lines, &[])
}

fn time_axis(runs: &[Run]) -> (Axis, f64) {
    let seconds = runs
        .iter()
        .flat_map(|run| run.kinds().into_iter().map(move |kind| (run, kind)))
        .filter_map(|(run, kind)| run.seconds(&kind).last()?["second"].as_f64());
    let end = seconds.fold(0.0, f64::max) + 1.0;
    (Axis::between("seconds since the start", 0.0, end), end)
}

fn latency_chart(runs: &[Run], kind: &str) -> String {
    let mut lines = Vec::new();
    if let [run] = runs {
        for (n, (figure, name)) in OVER_TIME.iter().enumerate() {
            lines.push(Line {
                name: (*name).to_owned(),
                colour: colour(n),
                dashed: *figure == "max_ms",
                points: run.over_time(kind, figure),
            });
        }
    } else {
        for (n, run) in runs.iter().enumerate() {
            for (figure, name) in [OVER_TIME[0], OVER_TIME[1]] {
                lines.push(Line {
                    name: format!("{} {name}", run.name),
                    colour: colour(n),
                    dashed: figure == "p50_ms",
                    points: run.over_time(kind, figure),
                });
            }
        }
    }
    let (x, end) = time_axis(runs);
    let y = Axis::log("latency, ms (log)", values(&lines));
    let title = format!("{} latency, second by second", title_of(kind));
    line_chart(&capitalised(&title), &x, &y, &lines, &shade(runs, end))
}

fn throughput_chart(runs: &[Run], kinds: &[String]) -> String {
    let mut lines = Vec::new();
    for (n, run) in runs.iter().enumerate() {
        for kind in kinds.iter().filter(|kind| run.kinds().contains(kind)) {
            let verb = if kind == "produce" { "in" } else { "out" };
            let name = match runs.len() {
                1 => verb.to_owned(),
                _ => format!("{} {verb}", run.name),
            };
            lines.push(Line {
                name,
                colour: if runs.len() == 1 {
                    colour(lines.len())
                } else {
                    colour(n)
                },
                dashed: verb == "out",
                points: run.over_time(kind, "mb"),
            });
        }
    }
    let (x, end) = time_axis(runs);
    let y = Axis::linear("MB/s", values(&lines));
    line_chart(
        "Throughput, second by second",
        &x,
        &y,
        &lines,
        &shade(runs, end),
    )
}

/// What no run measured; runs of different lengths are not shaded.
fn shade(runs: &[Run], end: f64) -> Vec<(f64, f64)> {
    let first = runs[0].unmeasured(end);
    if runs.iter().all(|run| run.unmeasured(end) == first) {
        first
    } else {
        Vec::new()
    }
}

fn heat_chart(run: &Run, kind: &str, several: bool) -> String {
    let decade = run.json["timeline"]["histogram_buckets_per_decade_from_1_us"].as_f64();
    let decade = decade.filter(|buckets| *buckets >= 1.0).unwrap_or(20.0);
    // In milliseconds; buckets begin at a microsecond.
    let edge = |bucket: u64| 10f64.powf(bucket as f64 / decade) / 1e3;
    let mut cells = Vec::new();
    for second in run.seconds(kind) {
        let at = second["second"].as_f64().unwrap_or(0.0);
        for pair in second["histogram"].as_array().into_iter().flatten() {
            if let (Some(bucket), Some(count)) = (pair[0].as_u64(), pair[1].as_u64()) {
                cells.push(Cell {
                    x: (at, at + 1.0),
                    y: (edge(bucket), edge(bucket + 1)),
                    count,
                });
            }
        }
    }
    let (x, _) = time_axis(std::slice::from_ref(run));
    let y = Axis::log(
        "latency, ms (log)",
        cells.iter().flat_map(|cell| [cell.y.0, cell.y.1]),
    );
    let mut title = format!("{} latency as a heat map", title_of(kind));
    if several {
        title.push_str(": ");
        title.push_str(&run.name);
    }
    heat_map(&capitalised(&title), &x, &y, &cells)
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(chars).collect()
    })
}
