//! `consume`: prints records.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use millrace::record::{self, Record};
use millrace::runtime::sys;
use millrace_client::{BATCH_BYTES_MAX, Cluster, Position, Reader, Topic};

use crate::answer::Output;
use crate::args::Consume;
use crate::failure::{Outcome, Status};
use crate::format::Format;
use crate::membership::{Change, Membership};
use crate::pattern::Pattern;
use crate::record_json::to_json;
use crate::start::{Start, indexes, places};

/// How long one fetch may wait.
const MAX_WAIT: Duration = Duration::from_millis(500);

/// How often is looked whether partitions were given, while there are none.
const PAUSE: Duration = Duration::from_millis(50);

/// Runs the command.
pub fn run(mut cluster: Cluster, output: Output, args: &Consume, timeout: Duration) -> Outcome {
    let topic = cluster.topic(&args.topic)?;
    let indexes = indexes(&topic, &args.partitions)?;
    let mut member = args
        .group
        .as_ref()
        .map(|group| Membership::new(group, &topic));
    // As a member it is told what to read.
    let begin = match &member {
        None => places(&mut cluster, &topic, &indexes, args.from, |_| None)?,
        Some(_) => BTreeMap::new(),
    };
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
    let mut reader = Reader::new(cluster, topic.clone(), positions, MAX_WAIT, timeout);
    let mut printer = Printer {
        out: BufWriter::new(io::stdout().lock()),
        topic: &args.topic,
        form: Form::of(output, args),
        grep: args.grep.as_ref(),
        left: args.count.unwrap_or(u64::MAX),
        next: BTreeMap::new(),
        failure: None,
    };
    let stop = member.as_ref().map(|_| stopped_by_signals());
    loop {
        if let Some(member) = member.as_mut().filter(|member| member.is_due()) {
            take_turn(member, &mut reader, &mut printer, &topic, args.from)?;
        }
        for (partition, end) in ends.iter().flatten() {
            let at = reader.positions().get(partition);
            if at.is_some_and(|at| at >= end) {
                reader.finish(*partition);
            }
        }
        let given = member
            .as_ref()
            .is_none_or(|member| ends.is_some() && member.has_some());
        let stopped = stop
            .as_ref()
            .is_some_and(|stop| stop.load(Ordering::Relaxed));
        if printer.left == 0 || stopped || (reader.positions().is_empty() && given) {
            break;
        }
        if reader.positions().is_empty() {
            std::thread::sleep(PAUSE);
            continue;
        }
        reader.poll(|partition, wanted, batch| {
            let end = ends.as_ref().and_then(|ends| ends.get(&partition));
            printer.print(partition, wanted, end.copied().unwrap_or(i64::MAX), &batch);
        })?;
        printer.flush()?;
    }
    printer.flush()?;
    if let Some(mut member) = member {
        if !member.commit(reader.cluster(), &printer.next)? {
            member.heartbeat(reader.cluster())?;
            if !member.commit(reader.cluster(), &printer.next)? {
                return Err("others of the group have its partitions by now, and will read the last records again".into());
            }
        }
        member.leave(reader.cluster())?;
    }
    Ok(())
}

/// What a member does from time to time: commits what was printed, says that it lives, and takes and lets go
/// partitions as it is told. Where the group has no offset it begins at `from`.
fn take_turn<W: Write>(
    member: &mut Membership,
    reader: &mut Reader,
    printer: &mut Printer<'_, W>,
    topic: &Topic,
    from: Start,
) -> Outcome {
    member.commit(reader.cluster(), &printer.next)?;
    let Change { gone, new } = member.heartbeat(reader.cluster())?;
    for partition in gone {
        reader.finish(partition);
        printer.next.remove(&partition);
    }
    if new.is_empty() {
        return Ok(());
    }
    let committed = member.positions(reader.cluster())?;
    let new: Vec<i32> = new.into_iter().collect();
    for (partition, place) in places(reader.cluster(), topic, &new, from, |_| None)? {
        let offset = committed.get(&partition);
        // What was committed may be deleted by now.
        let offset = offset.map_or(place.at, |at| (*at).clamp(place.first, place.end));
        reader.seek(Position { partition, offset });
        // Where it begins is committed too, so that it is the same place for who comes next.
        printer.next.insert(partition, offset);
    }
    Ok(())
}

/// Becomes true with the first signal that would end the process, so that a member can leave its group; the second
/// one does end it.
fn stopped_by_signals() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    sys::block_signals();
    let stopping = Arc::clone(&stop);
    std::thread::spawn(move || {
        let _first = sys::wait_for_signal();
        stopping.store(true, Ordering::Relaxed);
        let _second = sys::wait_for_signal();
        std::process::exit(Status::Failed as i32);
    });
    stop
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
    /// The offset after what was dealt with, by partition.
    next: BTreeMap<i32, i64>,
    failure: Option<String>,
}

impl<W: Write> Printer<'_, W> {
    fn print(&mut self, partition: i32, wanted: i64, end: i64, batch: &Bytes) {
        if self.failure.is_none()
            && let Err(error) = self.try_print(partition, wanted, end, batch)
        {
            let place = format!("{}-{partition} from offset {wanted} on", self.topic);
            self.failure = Some(format!("{place}: {error}"));
        }
    }

    fn try_print(
        &mut self,
        partition: i32,
        wanted: i64,
        end: i64,
        batch: &Bytes,
    ) -> Result<(), Box<dyn Error>> {
        let info = record::parse(batch)?;
        if !info.is_control() {
            for record in record::records(batch, BATCH_BYTES_MAX)? {
                let record = record?;
                if self.left == 0 || record.offset >= end {
                    return Ok(());
                }
                if record.offset < wanted {
                    continue;
                }
                if self.wants(&record) {
                    self.left -= 1;
                    self.write(partition, &record)?;
                }
                self.next.insert(partition, record.offset + 1);
            }
        }
        if self.left > 0 {
            self.next.insert(partition, end.min(info.last_offset() + 1));
        }
        Ok(())
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

    /// What is printed of three records, and the offset after what was dealt with.
    fn dealt_with(
        form: &str,
        grep: Option<&str>,
        range: std::ops::Range<i64>,
        count: u64,
    ) -> (String, Option<i64>) {
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
            next: BTreeMap::new(),
            failure: None,
        };
        printer.print(7, range.start, range.end, &builder.build());
        printer.flush().unwrap();
        (
            String::from_utf8(printer.out).unwrap(),
            printer.next.remove(&7),
        )
    }

    fn printed(form: &str, grep: Option<&str>, range: std::ops::Range<i64>, count: u64) -> String {
        dealt_with(form, grep, range, count).0
    }

    #[test]
    fn what_was_dealt_with_is_what_a_group_commits() {
        let next = |grep, range, count| dealt_with("%v", grep, range, count).1;
        assert_eq!(next(None, 0..9, 9), Some(3));
        assert_eq!(
            next(None, 0..9, 2),
            Some(2),
            "the third one was not printed"
        );
        assert_eq!(
            next(Some("nowhere"), 0..9, 1),
            Some(3),
            "looked at is dealt with"
        );
        assert_eq!(next(None, 0..2, 9), Some(2), "the end is not passed");
        assert_eq!(next(None, 0..9, 0), None);
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
