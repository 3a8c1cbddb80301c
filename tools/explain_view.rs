//! What `explain` shows, as text and as JSON.

use std::fmt::Write as _;

use millrace::base::limits::TURN_TOLD_NS_MIN;
use millrace::broker::apis;
use millrace::broker::trace::{
    DiskReads, Report, RequestKind, STAGES, Slow, Stage, Stats, upper_ns,
};

use crate::table::Table;

/// Width of the bar of a slow request, in characters.
const BAR: usize = 40;

/// The requests of one node in one span of time.
pub struct View {
    report: Report,
    /// Nanoseconds; `None` for all since the start.
    span_ns: Option<u64>,
}

impl View {
    /// All requests since the broker was started.
    pub const fn since_start(report: Report) -> Self {
        Self {
            report,
            span_ns: None,
        }
    }

    /// What happened after `earlier`; since the start, if there is no earlier report of this start.
    pub fn between(earlier: Option<&Report>, mut later: Report) -> Self {
        let Some(earlier) = earlier else {
            return Self::since_start(later);
        };
        for (stats, before) in later.stats.iter_mut().zip(&earlier.stats) {
            stats.subtract(before);
        }
        later.turns.subtract(&earlier.turns);
        later.disk_reads.subtract(&earlier.disk_reads);
        let span = later.at_ns.saturating_sub(earlier.at_ns);
        Self {
            report: later,
            span_ns: Some(span),
        }
    }

    /// The slowest requests of a kind in the span, slowest first.
    fn slowest(&self, class: RequestKind, count: usize) -> Vec<&Slow> {
        let wanted = |slow: &&Slow| match self.span_ns {
            None => !slow.recent,
            Some(span) => slow.recent && slow.ago_ns <= span,
        };
        let slowest = self.report.slowest.iter().filter(wanted);
        let mut slowest: Vec<&Slow> = slowest
            .filter(|slow| RequestKind::of(slow.key) == class)
            .collect();
        slowest.sort_by_key(|slow| std::cmp::Reverse(slow.total_ns()));
        slowest.truncate(count);
        slowest
    }

    /// Where the worst request spent its time: the slowest that is remembered, else the average
    /// of the last bucket.
    fn worst(&self, class: RequestKind) -> [u64; STAGES] {
        let remembered = self.slowest(class, 1).first().map(|slow| slow.spent_ns);
        let counted = self.report.of(class).at(1.0).map(|(_, spent)| spent);
        match (remembered, counted) {
            (Some(one), Some(other)) if sum(&one) < sum(&other) => other,
            (Some(one), _) => one,
            (None, other) => other.unwrap_or_default(),
        }
    }

    /// For people.
    pub fn text(&self, slowest: usize) -> String {
        let mut out = String::new();
        let span = self.span_ns.map_or_else(
            || "since the start".to_owned(),
            |ns| format!("in {}", time(ns)),
        );
        let _ = writeln!(
            out,
            "node {}, {} shards, requests {span}",
            self.report.node, self.report.shards
        );
        for class in RequestKind::ALL {
            let stats = self.report.of(class);
            if stats.count() > 0 {
                self.class_text(class, stats, slowest, &mut out);
            }
        }
        if self.report.stats.iter().all(|stats| stats.count() == 0) {
            out.push_str("no requests\n");
        }
        let turns = &self.report.turns;
        if turns.count() > 0 {
            let _ = writeln!(
                out,
                "\nlongest turn of a core: {}, in which no other request of it gets on; {} turns of more than {}",
                time(turns.longest_ns()),
                turns.count(),
                time(TURN_TOLD_NS_MIN)
            );
        }
        let reads = &self.report.disk_reads;
        if *reads != DiskReads::default() {
            let mib = |bytes: u64| bytes.div_ceil(1 << 20);
            let _ = writeln!(
                out,
                "\nread from disk for replies: {} MiB past the page cache, {} MiB into it; {} MiB sent from it; gone \
                 before they were sent: {}; chunks not read through it because something stale may be in it: {}; calls \
                 that sent from it and took more than a millisecond: {}, {} ms together",
                mib(reads.past),
                mib(reads.filled),
                mib(reads.sent),
                reads.gone,
                reads.unclean,
                reads.slow,
                reads.slow_us / 1000
            );
        }
        out
    }

    fn class_text(&self, class: RequestKind, stats: &Stats, slowest: usize, out: &mut String) {
        let rate = self.span_ns.map_or_else(String::new, |ns| {
            format!(" ({:.0}/s)", stats.count() as f64 * 1e9 / ns.max(1) as f64)
        });
        let _ = writeln!(out, "\n{}: {} requests{rate}", class.name(), stats.count());
        let at = |share: f64| stats.at(share).map_or([0; STAGES], |(_, spent)| spent);
        let (p50, p99, worst) = (at(0.5), at(0.99), self.worst(class));
        let mut table = Table::new([
            "STAGE",
            "SHARE",
            "P50",
            "P99",
            "MAX",
            "IN-THE-P50",
            "IN-THE-P99",
            "IN-THE-WORST",
        ]);
        for stage in Stage::ALL {
            let all = stats.stage_ns(stage, 1.0);
            if all == 0 {
                continue;
            }
            table.plain_row([
                stage.name().to_owned(),
                percent(stats.share(stage)),
                time(stats.stage_ns(stage, 0.5)),
                time(stats.stage_ns(stage, 0.99)),
                time(all),
                part(&p50, stage),
                part(&p99, stage),
                part(&worst, stage),
            ]);
        }
        let latency = |share: f64| stats.at(share).map_or(0, |(bucket, _)| upper_ns(bucket));
        table.plain_row([
            "latency".to_owned(),
            "100%".to_owned(),
            time(latency(0.5)),
            time(latency(0.99)),
            time(latency(1.0)),
            time(sum(&p50)),
            time(sum(&p99)),
            time(sum(&worst)),
        ]);
        let _ = write!(out, "{table}");
        if let (waited @ 1.., longest) = stats.parked_ns(1.0) {
            let _ = writeln!(
                out,
                "{waited} of them waited for records before that: p50 {}, longest {}; not counted above",
                time(stats.parked_ns(0.5).1),
                time(longest)
            );
        }
        self.slowest_text(class, slowest, out);
    }

    fn slowest_text(&self, class: RequestKind, count: usize, out: &mut String) {
        let slowest = self.slowest(class, count);
        let Some(longest) = slowest.first().map(|slow| slow.total_ns()) else {
            return;
        };
        let seen = |stage: &Stage| {
            slowest
                .iter()
                .any(|slow| bar(slow, longest).contains(letter(*stage)))
        };
        let legend: Vec<String> = Stage::ALL
            .into_iter()
            .filter(seen)
            .map(|stage| format!("{} {}", letter(stage), stage.name()))
            .collect();
        let _ = writeln!(out, "slowest: {}", legend.join(", "));
        for slow in slowest {
            let _ = writeln!(
                out,
                "{:>8} |{:<BAR$}| {} {} {}, {} bytes, {} ago, shard {}",
                time(slow.total_ns()),
                bar(slow, longest),
                client(slow),
                api(slow.key),
                place(slow),
                slow.bytes,
                time(slow.ago_ns),
                slow.shard
            );
        }
    }

    /// For programs: one line.
    pub fn json(&self, slowest: usize) -> String {
        let classes: Vec<String> = RequestKind::ALL
            .into_iter()
            .map(|class| self.class_json(class, slowest))
            .collect();
        let turns = self.report.turns.lengths();
        let turns: Vec<String> = turns
            .map(|(ns, count)| format!(r#"{{"ns":{ns},"count":{count}}}"#))
            .collect();
        let DiskReads {
            past,
            filled,
            sent,
            gone,
            unclean,
            slow,
            slow_us,
        } = self.report.disk_reads;
        let reads = format!(
            r#"{{"past":{past},"filled":{filled},"sent":{sent},"gone":{gone},"unclean":{unclean},"slow":{slow},"slow_us":{slow_us}}}"#
        );
        let span = self.span_ns.map_or("null".to_owned(), |ns| ns.to_string());
        format!(
            r#"{{"node":{},"shards":{},"started_ms":{},"span_ns":{span},"turns":[{}],"disk_reads":{reads},"classes":[{}]}}"#,
            self.report.node,
            self.report.shards,
            self.report.started_ms,
            turns.join(","),
            classes.join(",")
        )
    }

    fn class_json(&self, class: RequestKind, slowest: usize) -> String {
        let stats = self.report.of(class);
        let at = |share: f64| stats.at(share).map_or([0; STAGES], |(_, spent)| spent);
        let (p50, p99, worst) = (at(0.5), at(0.99), self.worst(class));
        let stages: Vec<String> = Stage::ALL
            .into_iter()
            .map(|stage| {
                format!(
                    r#"{{"stage":"{}","share":{:.6},"p50_ns":{},"p99_ns":{},"max_ns":{},"in_p50_ns":{},"in_p99_ns":{},"in_worst_ns":{}}}"#,
                    stage.name(),
                    stats.share(stage),
                    stats.stage_ns(stage, 0.5),
                    stats.stage_ns(stage, 0.99),
                    stats.stage_ns(stage, 1.0),
                    p50[stage as usize],
                    p99[stage as usize],
                    worst[stage as usize]
                )
            })
            .collect();
        let slowest: Vec<String> = self
            .slowest(class, slowest)
            .iter()
            .map(|slow| slow_json(slow))
            .collect();
        let latency = |share: f64| stats.at(share).map_or(0, |(bucket, _)| upper_ns(bucket));
        format!(
            r#"{{"class":"{}","count":{},"p50_ns":{},"p99_ns":{},"max_ns":{},"parked":{},"stages":[{}],"slowest":[{}]}}"#,
            class.name(),
            stats.count(),
            latency(0.5),
            latency(0.99),
            latency(1.0),
            stats.parked_ns(1.0).0,
            stages.join(","),
            slowest.join(",")
        )
    }
}

fn slow_json(slow: &Slow) -> String {
    let spent: Vec<String> = Stage::ALL
        .into_iter()
        .map(|stage| format!(r#""{}":{}"#, stage.name(), slow.spent_ns[stage as usize]))
        .collect();
    format!(
        r#"{{"total_ns":{},"ago_ns":{},"parked_ns":{},"shard":{},"api":"{}","client":{},"topic":{},"partition":{},"partitions":{},"bytes":{},"spent_ns":{{{}}}}}"#,
        slow.total_ns(),
        slow.ago_ns,
        slow.parked_ns,
        slow.shard,
        api(slow.key),
        quoted(&slow.client),
        quoted(&slow.topic),
        slow.partition,
        slow.partitions,
        slow.bytes,
        spent.join(",")
    )
}

/// A JSON string.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn sum(spent: &[u64; STAGES]) -> u64 {
    spent.iter().fold(0, |sum, ns| sum.saturating_add(*ns))
}

fn part(spent: &[u64; STAGES], stage: Stage) -> String {
    let ns = spent[stage as usize];
    let share = ns as f64 / sum(spent).max(1) as f64;
    format!("{} {}", time(ns), percent(share))
}

fn percent(share: f64) -> String {
    format!("{:.0}%", share * 100.0)
}

/// A duration with three digits.
fn time(ns: u64) -> String {
    let ns = ns as f64;
    match ns {
        ..1e3 => format!("{ns:.0}ns"),
        ..1e6 => three(ns / 1e3, "us"),
        ..1e9 => three(ns / 1e6, "ms"),
        _ => three(ns / 1e9, "s"),
    }
}

fn three(value: f64, unit: &str) -> String {
    let digits = match value {
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$}{unit}")
}

/// The stages of a request one after the other, each as long as it took.
fn bar(slow: &Slow, longest: u64) -> String {
    let mut bar = String::new();
    let mut passed = 0u64;
    for stage in Stage::ALL {
        passed = passed.saturating_add(slow.spent_ns[stage as usize]);
        let end = (passed as f64 / longest.max(1) as f64 * BAR as f64).round() as usize;
        while bar.len() < end.min(BAR) {
            bar.push(letter(stage));
        }
    }
    bar
}

const fn letter(stage: Stage) -> char {
    match stage {
        Stage::Queue => 'q',
        Stage::Parse => 'p',
        Stage::Hop => 'h',
        Stage::Append => 'a',
        Stage::Plan => 'l',
        Stage::FlushWait => 'f',
        Stage::Write => 'W',
        Stage::Sync => 'S',
        Stage::Watermark => 'm',
        Stage::Answer => 'r',
        Stage::Order => 'o',
        Stage::Send => '>',
    }
}

fn api(key: i16) -> &'static str {
    apis::api(key).map_or("unknown", |api| api.name)
}

fn client(slow: &Slow) -> String {
    // What a client calls itself may not play tricks on the terminal.
    let name: String = slow.client.chars().filter(|c| !c.is_control()).collect();
    if name.is_empty() {
        "-".to_owned()
    } else {
        name
    }
}

fn place(slow: &Slow) -> String {
    if slow.topic.is_empty() {
        return "-".to_owned();
    }
    let more = match slow.partitions {
        0 | 1 => String::new(),
        n => format!(" and {} more", n - 1),
    };
    format!("{}-{}{more}", slow.topic, slow.partition)
}

#[cfg(test)]
mod tests {
    use millrace::broker::trace::{DiskReads, Turns};

    use super::*;

    fn slow(total: u64, stages: &[(Stage, u64)]) -> Slow {
        let mut slow = Slow {
            recent: true,
            client: "me\u{1b}".into(),
            topic: "t".into(),
            partitions: 3,
            bytes: 7,
            ..Slow::default()
        };
        for (stage, ns) in stages {
            slow.spent_ns[*stage as usize] = *ns;
        }
        assert_eq!(slow.total_ns(), total);
        slow
    }

    fn report(slowest: Vec<Slow>) -> Report {
        Report {
            node: 1,
            started_ms: 5,
            shards: 2,
            at_ns: 3_000_000_000,
            stats: Default::default(),
            slowest,
            turns: Turns::default(),
            disk_reads: DiskReads::default(),
        }
    }

    #[test]
    fn bars_are_as_long_as_requests_are_slow() {
        let long = slow(100, &[(Stage::Queue, 25), (Stage::Sync, 75)]);
        assert_eq!(
            bar(&long, 100),
            format!("{}{}", "q".repeat(10), "S".repeat(30))
        );
        let short = slow(50, &[(Stage::Send, 50)]);
        assert_eq!(bar(&short, 100), ">".repeat(20));
        assert_eq!(bar(&Slow::default(), 0), "");
    }

    #[test]
    fn only_the_slowest_of_the_span_are_shown() {
        let mut old = slow(9_000_000, &[(Stage::Sync, 9_000_000)]);
        old.ago_ns = 5_000_000_000;
        let mut ever = old.clone();
        ever.recent = false;
        let new = slow(2_000_000, &[(Stage::Sync, 2_000_000)]);
        let before = Report {
            at_ns: 1_000_000_000,
            ..report(Vec::new())
        };
        let view = View::between(Some(&before), report(vec![old, new, ever]));
        assert_eq!(view.span_ns, Some(2_000_000_000));
        let shown = view.slowest(RequestKind::Produce, 10);
        assert_eq!(shown.len(), 1);
        assert_eq!(shown[0].total_ns(), 2_000_000);
        let view = View::since_start(view.report);
        assert_eq!(
            view.slowest(RequestKind::Produce, 10)[0].total_ns(),
            9_000_000
        );
        assert!(view.slowest(RequestKind::Fetch, 10).is_empty());
    }

    #[test]
    fn times_have_three_digits() {
        let shown: Vec<String> = [0, 640, 1_234, 45_600, 999_000, 1_500_000, 31_000_000_000]
            .map(time)
            .into();
        assert_eq!(
            shown,
            [
                "0ns", "640ns", "1.23us", "45.6us", "999us", "1.50ms", "31.0s"
            ]
        );
    }

    #[test]
    fn json_is_quoted() {
        assert_eq!(quoted("a\"b\\\n"), r#""a\"b\\\u000a""#);
        let text = View::since_start(report(Vec::new())).json(3);
        assert!(text.starts_with(r#"{"node":1,"shards":2,"#), "{text}");
        assert_eq!(text.matches('{').count(), text.matches('}').count());
    }

    #[test]
    fn nothing_is_said_to_be_nothing() {
        let view = View::since_start(report(Vec::new()));
        assert!(view.text(3).contains("no requests"));
    }
}
