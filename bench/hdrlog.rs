//! The latencies of every second as an HdrHistogram interval log (V2), which the
//! tools of that family read: one line per second and kind, tagged with the kind,
//! values in nanoseconds.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use crate::stats::{Kind, Window};
use crate::timeline::Timeline;

/// The column of maxima is in milliseconds, as HdrHistogram's own tools have it.
const NS_PER_MS: f64 = 1e6;

/// Writes the file.
pub fn write(
    path: &Path,
    timeline: &Timeline,
    kinds: &[Kind],
    window: &Window,
) -> Result<(), String> {
    let named = |what: String| format!("cannot write {}: {what}", path.display());
    let file = File::create(path).map_err(|e| named(e.to_string()))?;
    let mut out = BufWriter::new(file);
    render(&mut out, timeline, kinds, window).map_err(named)?;
    out.flush().map_err(|e| named(e.to_string()))
}

fn render(
    out: &mut impl Write,
    timeline: &Timeline,
    kinds: &[Kind],
    window: &Window,
) -> Result<(), String> {
    let start = UNIX_EPOCH + Duration::from_nanos(window.start_wall_ns);
    let mut serializer = V2DeflateSerializer::new();
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment("millrace-bench; values in nanoseconds")
        .with_start_time(start)
        .with_base_time(start)
        .with_max_value_divisor(NS_PER_MS)
        .begin_log_with(out, &mut serializer)
        .map_err(|e| e.to_string())?;
    let mut lines: Vec<_> = kinds
        .iter()
        .flat_map(|&kind| timeline.seconds(kind).into_iter().map(move |s| (s, kind)))
        .collect();
    lines.sort_by_key(|(second, kind)| (second.second, *kind));
    for (second, kind) in lines {
        let tag = Tag::new(kind.name()).ok_or("a tag without spaces and commas")?;
        let at = Duration::from_secs(second.second);
        log.write_histogram(&second.latency, at, Duration::from_secs(1), Some(tag))
            .map_err(|e| format!("{e:?}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;

    #[test]
    fn the_log_reads_back() {
        let timeline = Timeline::default();
        for (second, kind) in [(4, Kind::EndToEnd), (2, Kind::Produce)] {
            let mut page = timeline.blank_page(second, kind);
            page.latency.record(5_000_000).unwrap();
            timeline.hand_in(page);
        }
        let window = Window::new(Duration::ZERO, Duration::from_secs(9), true);
        let mut log = Vec::new();
        render(&mut log, &timeline, &Kind::ALL, &window).unwrap();
        let entries: Vec<_> = IntervalLogIterator::new(&log).map(Result::unwrap).collect();
        let intervals = entries.iter().filter_map(|entry| match entry {
            LogEntry::Interval(interval) => Some(interval),
            _ => None,
        });
        let told: Vec<_> = intervals
            .map(|interval| {
                let bytes = base64::engine::general_purpose::STANDARD
                    .decode(interval.encoded_histogram())
                    .unwrap();
                let found: hdrhistogram::Histogram<u64> =
                    Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
                (
                    interval.tag().unwrap().as_str().to_owned(),
                    interval.start_timestamp().as_secs(),
                    found.len(),
                )
            })
            .collect();
        assert_eq!(told, [("produce".into(), 2, 1), ("e2e".into(), 4, 1)]);
    }
}
