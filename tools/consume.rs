//! `consume`: prints records.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::time::Duration;

use bytes::Bytes;
use millrace::record::{self, Record};
use millrace_client::{BATCH_BYTES_MAX, Cluster, Position, Reader};

use crate::answer::Output;
use crate::args::Consume;
use crate::failure::Outcome;
use crate::format::Format;
use crate::pattern::Pattern;
use crate::record_json::to_json;
use crate::start::{Start, indexes, places};

/// How long one fetch may wait.
const MAX_WAIT: Duration = Duration::from_millis(500);

/// Runs the command.
pub fn run(mut cluster: Cluster, output: Output, args: &Consume, timeout: Duration) -> Outcome {
    let topic = cluster.topic(&args.topic)?;
    let indexes = indexes(&topic, &args.partitions)?;
    let begin = places(&mut cluster, &topic, &indexes, args.from, |_| None)?;
    let to = args.to.or(args.exit_at_end.then_some(Start::End));
    let ends: Option<BTreeMap<i32, i64>> = match to {
        Some(to) => {
            let places = places(&mut cluster, &topic, &indexes, to, |_| None)?;
            Some(
                places
                    .into_iter()
                    .map(|(index, place)| (index, place.at))
                    .collect(),
            )
        }
        None => None,
    };
    let positions = begin.iter().map(|(&partition, place)| Position {
        partition,
        offset: place.at,
    });
    let mut reader = Reader::new(cluster, topic, positions, MAX_WAIT, timeout);
    let mut printer = Printer {
        out: BufWriter::new(io::stdout().lock()),
        topic: &args.topic,
        form: Form::of(output, args),
        grep: args.grep.as_ref(),
        left: args.count.unwrap_or(u64::MAX),
        failure: None,
    };
    loop {
        for (partition, end) in ends.iter().flatten() {
            let at = reader.positions().get(partition);
            if at.is_some_and(|at| at >= end) {
                reader.finish(*partition);
            }
        }
        if printer.left == 0 || reader.positions().is_empty() {
            return printer.flush();
        }
        reader.poll(|partition, wanted, batch| {
            let end = ends.as_ref().and_then(|ends| ends.get(&partition));
            printer.print(partition, wanted, end.copied().unwrap_or(i64::MAX), &batch);
        })?;
        printer.flush()?;
    }
}

/// How a record is printed.
enum Form<'a> {
    Text(&'a Format),
    Json,
}

impl<'a> Form<'a> {
    fn of(output: Output, args: &'a Consume) -> Self {
        if output.is_json() {
            Self::Json
        } else {
            Self::Text(&args.format)
        }
    }
}

struct Printer<'a, W: Write> {
    out: W,
    topic: &'a str,
    form: Form<'a>,
    grep: Option<&'a Pattern>,
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
                if self.left > 0 && (wanted..end).contains(&record.offset) && self.wants(&record) {
                    self.left -= 1;
                    if let Err(error) = self.write(partition, &record) {
                        self.left = 0;
                        self.failure = Some(format!("cannot write: {error}"));
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

    fn wants(&self, record: &Record) -> bool {
        self.grep.is_none_or(|pattern| {
            let parts = [&record.key, &record.value];
            parts
                .into_iter()
                .flatten()
                .any(|bytes| pattern.finds(bytes))
        })
    }

    fn write(&mut self, partition: i32, record: &Record) -> io::Result<()> {
        match self.form {
            Form::Text(format) => format.write(&mut self.out, self.topic, partition, record),
            Form::Json => writeln!(self.out, "{}", to_json(self.topic, partition, record)),
        }
    }

    fn flush(&mut self) -> Outcome {
        if let Err(error) = self.out.flush() {
            self.failure.get_or_insert(format!("cannot write: {error}"));
        }
        self.failure
            .take()
            .map_or(Ok(()), |failure| Err(failure.into()))
    }
}

#[cfg(test)]
mod tests {
    use millrace::record::{BatchBuilder, Codec};

    use super::*;

    fn printed(form: &str, grep: Option<&str>, range: std::ops::Range<i64>, count: u64) -> String {
        let mut builder = BatchBuilder::new(Codec::Gzip, 1000);
        let headers: [(&str, Option<&[u8]>); 2] = [("a", Some(b"1")), ("b", None)];
        builder.push(1000, Some(b"k0"), Some(b"v0"), &headers);
        builder.push(1001, None, Some(b"v1"), &[]);
        builder.push(1002, Some(b"k2"), None, &[]);
        let format = form.parse().unwrap_or("".parse().unwrap());
        let grep = grep.map(|text| text.parse().unwrap());
        let mut printer = Printer {
            out: Vec::new(),
            topic: "t",
            form: if form == "json" {
                Form::Json
            } else {
                Form::Text(&format)
            },
            grep: grep.as_ref(),
            left: count,
            failure: None,
        };
        printer.print(7, range.start, range.end, &builder.build());
        printer.flush().unwrap();
        String::from_utf8(printer.out).unwrap()
    }

    #[test]
    fn records_print_as_asked() {
        assert_eq!(printed("%v\\n", None, 0..9, 9), "v0\nv1\nnull\n");
        assert_eq!(printed("%h", None, 0..1, 9), "a=1,b=null");
        let lines = printed("json", None, 2..9, 9);
        assert_eq!(
            lines,
            "{\"topic\":\"t\",\"partition\":7,\"offset\":2,\"timestamp_ms\":1002,\"key\":\"k2\",\"value\":null,\
             \"headers\":[]}\n"
        );
    }

    #[test]
    fn only_what_was_asked_for_is_printed() {
        assert_eq!(printed("%o ", None, 1..9, 9), "1 2 ");
        assert_eq!(printed("%o ", None, 0..2, 9), "0 1 ");
        assert_eq!(printed("%o ", None, 0..9, 1), "0 ");
        assert_eq!(printed("%o ", Some("[12]$"), 0..9, 9), "1 2 ");
        assert_eq!(printed("%o ", Some("[12]$"), 0..9, 1), "1 ");
    }
}
