//! `consume`: prints records.

use std::collections::BTreeMap;
use std::io::{BufWriter, ErrorKind, Write};
use std::time::Duration;

use bytes::Bytes;
use millrace::record::{self, Record};

use crate::Outcome;
use crate::args::Consume;
use crate::start::Start;
use millrace_client::{Cluster, EARLIEST, LATEST, Position, Reader, Result, Topic, list_offsets};

/// Largest batch that is opened, decompressed.
const BATCH_BYTES_MAX: usize = 256 * 1024 * 1024;
/// How long one fetch may wait.
const MAX_WAIT: Duration = Duration::from_millis(500);

/// Runs the command.
pub fn run(mut cluster: Cluster, args: &Consume, timeout: Duration) -> Outcome {
    let format = Format::parse(&args.format)?;
    let topic = cluster.topic(&args.topic).map_err(|e| e.to_string())?;
    let mut indexes = args.partitions.clone();
    if indexes.is_empty() {
        indexes = topic.partitions.iter().map(|p| p.index).collect();
    }
    let (from, ends) =
        range(&mut cluster, &topic, &indexes, args.from).map_err(|e| e.to_string())?;
    let positions = from
        .iter()
        .map(|(&partition, &offset)| Position { partition, offset });
    let mut reader = Reader::new(cluster, topic, positions, MAX_WAIT, timeout);
    let mut printer = Printer {
        out: BufWriter::new(std::io::stdout().lock()),
        topic: &args.topic,
        format,
        left: args.count.unwrap_or(u64::MAX),
        failure: None,
    };
    loop {
        if args.exit_at_end {
            for (partition, end) in &ends {
                if reader
                    .positions()
                    .get(partition)
                    .is_some_and(|at| at >= end)
                {
                    reader.finish(*partition);
                }
            }
        }
        if printer.left == 0 || reader.positions().is_empty() {
            return printer.flush();
        }
        let polled = reader.poll(|partition, wanted, batch| {
            let end = if args.exit_at_end {
                ends[&partition]
            } else {
                i64::MAX
            };
            printer.print(partition, wanted, end, &batch);
        });
        polled.map_err(|e| e.to_string())?;
        printer.flush()?;
    }
}

type Offsets = BTreeMap<i32, i64>;

/// Where to begin, and where each partition ends now.
fn range(
    cluster: &mut Cluster,
    topic: &Topic,
    indexes: &[i32],
    from: Start,
) -> Result<(Offsets, Offsets)> {
    let first = list_offsets(cluster, topic, indexes, EARLIEST)?;
    let end = list_offsets(cluster, topic, indexes, LATEST)?;
    let timed = match from {
        Start::Time(time) => list_offsets(cluster, topic, indexes, time)?,
        _ => Offsets::new(),
    };
    let begin = |index: &i32| {
        let (first, end) = (first[index], end[index]);
        let at = match from {
            Start::Beginning => first,
            Start::End => end,
            Start::Offset(offset) => offset,
            Start::Back(n) => end.saturating_sub(n),
            Start::Forward(n) => first.saturating_add(n),
            // No record is that young: what comes next will be.
            Start::Time(_) => timed
                .get(index)
                .copied()
                .filter(|at| *at >= 0)
                .unwrap_or(end),
        };
        (*index, at.clamp(first, end))
    };
    Ok((indexes.iter().map(begin).collect(), end))
}

struct Printer<'a, W: Write> {
    out: W,
    topic: &'a str,
    format: Format,
    left: u64,
    failure: Option<String>,
}

impl<W: Write> Printer<'_, W> {
    fn print(&mut self, partition: i32, wanted: i64, end: i64, batch: &Bytes) {
        let is_control = record::parse(batch).is_ok_and(|info| info.is_control());
        if self.failure.is_some() || is_control {
            return;
        }
        let result = record::records(batch, BATCH_BYTES_MAX).and_then(|records| {
            for record in records {
                let record = record?;
                if self.left > 0 && record.offset >= wanted && record.offset < end {
                    self.left -= 1;
                    if let Err(error) =
                        self.format
                            .write(&mut self.out, self.topic, partition, &record)
                    {
                        self.fail(&error);
                    }
                }
            }
            Ok(())
        });
        if let Err(error) = result {
            let at = format!(
                "{}-{partition} from offset {wanted} on: {error}",
                self.topic
            );
            self.failure.get_or_insert(at);
        }
    }

    /// A reader that has gone away (`| head`) wants no more, and that is no failure.
    fn fail(&mut self, error: &std::io::Error) {
        self.left = 0;
        if error.kind() != ErrorKind::BrokenPipe {
            self.failure.get_or_insert(format!("cannot write: {error}"));
        }
    }

    fn flush(&mut self) -> Outcome {
        if let Err(error) = self.out.flush() {
            self.fail(&error);
        }
        self.failure.take().map_or(Ok(()), Err)
    }
}

/// How a record is printed.
#[derive(Debug, PartialEq, Eq)]
struct Format(Vec<Piece>);

#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Key,
    Value,
    Topic,
    Partition,
    Offset,
    Timestamp,
    Headers,
}

impl Format {
    fn parse(text: &str) -> std::result::Result<Self, String> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            let piece = match (
                c,
                if matches!(c, '%' | '\\') {
                    chars.next()
                } else {
                    None
                },
            ) {
                ('%', Some('k')) => Piece::Key,
                ('%', Some('v' | 's')) => Piece::Value,
                ('%', Some('t')) => Piece::Topic,
                ('%', Some('p')) => Piece::Partition,
                ('%', Some('o')) => Piece::Offset,
                ('%', Some('T')) => Piece::Timestamp,
                ('%', Some('h')) => Piece::Headers,
                ('\\', Some(escaped @ ('n' | 't' | '\\'))) => {
                    plain.push(match escaped {
                        'n' => '\n',
                        't' => '\t',
                        other => other,
                    });
                    continue;
                }
                ('%', Some('%')) => {
                    plain.push('%');
                    continue;
                }
                ('%' | '\\', other) => {
                    let other = other.map(String::from).unwrap_or_default();
                    return Err(format!(
                        "'{c}{other}' in the format means nothing; see --help"
                    ));
                }
                _ => {
                    plain.push(c);
                    continue;
                }
            };
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(piece);
        }
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Self(pieces))
    }

    fn write(
        &self,
        out: &mut impl Write,
        topic: &str,
        partition: i32,
        record: &Record,
    ) -> std::io::Result<()> {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.write_all(text.as_bytes())?,
                Piece::Key => out.write_all(record.key.as_deref().unwrap_or_default())?,
                Piece::Value => out.write_all(record.value.as_deref().unwrap_or_default())?,
                Piece::Topic => out.write_all(topic.as_bytes())?,
                Piece::Partition => write!(out, "{partition}")?,
                Piece::Offset => write!(out, "{}", record.offset)?,
                Piece::Timestamp => write!(out, "{}", record.timestamp)?,
                Piece::Headers => {
                    for (i, header) in record.headers.iter().enumerate() {
                        out.write_all(if i > 0 { b"," } else { b"" })?;
                        out.write_all(&header.key)?;
                        out.write_all(b"=")?;
                        out.write_all(header.value.as_deref().unwrap_or_default())?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use millrace::record::{BatchBuilder, Codec};

    use super::*;

    fn printed(format: &str, wanted: i64, end: i64, count: u64) -> String {
        let mut builder = BatchBuilder::new(Codec::Gzip, 1000);
        builder.push(
            1000,
            Some(b"k0"),
            Some(b"v0"),
            &[("a", Some(b"1")), ("b", None)],
        );
        builder.push(1001, None, Some(b"v1"), &[]);
        builder.push(1002, Some(b"k2"), None, &[]);
        let mut printer = Printer {
            out: Vec::new(),
            topic: "t",
            format: Format::parse(format).unwrap(),
            left: count,
            failure: None,
        };
        printer.print(7, wanted, end, &builder.build());
        assert_eq!(printer.flush(), Ok(()));
        String::from_utf8(printer.out).unwrap()
    }

    #[test]
    fn records_print_as_asked() {
        assert_eq!(printed("%v\\n", 0, 9, 9), "v0\nv1\n\n");
        assert_eq!(
            printed("%t-%p@%o %T%%\\t%k=%v %h\\n", 0, 1, 9),
            "t-7@0 1000%\tk0=v0 a=1,b=\n"
        );
    }

    #[test]
    fn only_what_was_asked_for_is_printed() {
        assert_eq!(printed("%o ", 1, 9, 9), "1 2 ");
        assert_eq!(printed("%o ", 0, 2, 9), "0 1 ");
        assert_eq!(printed("%o ", 0, 9, 1), "0 ");
    }

    #[test]
    fn unknown_format_letters_are_errors() {
        for wrong in ["%x", "%", "\\q", "a\\"] {
            assert!(Format::parse(wrong).is_err(), "{wrong}");
        }
    }
}
