//! The ack journal: a text file that says what was acknowledged, so that a later
//! run (after the broker, the machine or this program was killed) can still prove
//! that all of it is there.
//!
//! ```text
//! millrace-acks 1
//! run 00c0ffee00c0ffee topic t idempotent true ordered true
//! a <producer> <partition> <first sequence> <records> <attempts> <base offset or ->
//! u <producer> <partition> <first sequence> <records> <attempts>
//! end
//! ```
//!
//! `a` lines are acknowledged batches, `u` lines batches of unknown outcome, noted
//! when the run ends; `end` says that nothing else was sent. A last line without a
//! newline was being written when the program died, and does not count.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::str::FromStr;

use super::judge::{Batch, History};

const MAGIC: &str = "millrace-acks 1";

/// Who a journal is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The run, as in every record.
    pub run: u64,
    /// The topic.
    pub topic: String,
    /// See [`History::idempotent`].
    pub idempotent: bool,
    /// See [`History::ordered`].
    pub ordered: bool,
}

impl Head {
    /// The first two lines.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let Self {
            run,
            topic,
            idempotent,
            ordered,
        } = self;
        writeln!(
            out,
            "{MAGIC}\nrun {run:016x} topic {topic} idempotent {idempotent} ordered {ordered}"
        )
    }
}

/// Notes an acknowledged batch.
pub fn write_acked(out: &mut impl Write, batch: &Batch) -> io::Result<()> {
    let offset = batch
        .offset
        .map_or_else(|| String::from("-"), |offset| offset.to_string());
    writeln!(out, "a {} {offset}", fields(batch))
}

/// Notes how the run ended: what is of unknown outcome, and that this is all.
pub fn write_end(out: &mut impl Write, unacked: &[Batch]) -> io::Result<()> {
    for batch in unacked {
        writeln!(out, "u {}", fields(batch))?;
    }
    writeln!(out, "end")
}

fn fields(batch: &Batch) -> String {
    let mut text = String::new();
    let Batch {
        producer,
        partition,
        first,
        count,
        attempts,
        ..
    } = batch;
    write!(text, "{producer} {partition} {first} {count} {attempts}").expect("strings do not fail");
    text
}

/// Reads a journal back: who it is about, and the history without readings. An error names the
/// line that makes no sense.
pub fn parse(text: &str) -> Result<(Head, History), String> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let mut lines = whole.lines().enumerate();
    if lines.next().map(|(_, line)| line) != Some(MAGIC) {
        return Err(format!(
            "not an ack journal: it does not begin with '{MAGIC}'"
        ));
    }
    let head = lines.next().and_then(|(_, line)| parse_head(line));
    let head = head.ok_or("line 2: no run, topic, idempotent and ordered")?;
    let mut history = History {
        idempotent: head.idempotent,
        ordered: head.ordered,
        ..History::default()
    };
    for (number, line) in lines {
        if !parse_line(line, &mut history) {
            return Err(format!("line {}: '{line}' makes no sense", number + 1));
        }
    }
    Ok((head, history))
}

fn parse_head(line: &str) -> Option<Head> {
    let words: Vec<&str> = line.split(' ').collect();
    let [
        "run",
        run,
        "topic",
        topic,
        "idempotent",
        idempotent,
        "ordered",
        ordered,
    ] = words[..]
    else {
        return None;
    };
    Some(Head {
        run: u64::from_str_radix(run, 16).ok()?,
        topic: topic.to_owned(),
        idempotent: idempotent.parse().ok()?,
        ordered: ordered.parse().ok()?,
    })
}

fn parse_line(line: &str, history: &mut History) -> bool {
    let mut words = line.split(' ');
    let parsed = match words.next() {
        Some("end") => {
            history.complete = true;
            Some(())
        }
        Some("a") => parse_batch(&mut words).and_then(|mut batch| {
            batch.offset = match words.next()? {
                "-" => None,
                offset => Some(offset.parse().ok()?),
            };
            history.acked.push(batch);
            Some(())
        }),
        Some("u") => parse_batch(&mut words).map(|batch| history.unacked.push(batch)),
        _ => None,
    };
    parsed.is_some() && words.next().is_none()
}

fn parse_batch<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Batch> {
    fn next<'a, T: FromStr>(words: &mut impl Iterator<Item = &'a str>) -> Option<T> {
        words.next()?.parse().ok()
    }
    Some(Batch {
        producer: next(words)?,
        partition: next(words)?,
        first: next(words)?,
        count: next(words)?,
        attempts: next(words)?,
        offset: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        Head {
            run: 0xc0ffee,
            topic: "orders".into(),
            idempotent: true,
            ordered: true,
        }
    }

    fn batch(first: u64, offset: Option<i64>) -> Batch {
        Batch {
            producer: 2,
            partition: 7,
            first,
            count: 10,
            attempts: 3,
            offset,
        }
    }

    fn written() -> String {
        let mut out = Vec::new();
        head().write(&mut out).unwrap();
        write_acked(&mut out, &batch(0, Some(1234))).unwrap();
        write_acked(&mut out, &batch(10, None)).unwrap();
        write_end(&mut out, &[batch(20, None)]).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn comes_back_as_written() {
        let (read, history) = parse(&written()).unwrap();
        assert_eq!(read, head());
        assert_eq!(history.acked, [batch(0, Some(1234)), batch(10, None)]);
        assert_eq!(history.unacked, [batch(20, None)]);
        assert!(history.complete && history.idempotent && history.ordered);
    }

    #[test]
    fn a_journal_cut_short_is_read_up_to_its_last_whole_line() {
        let text = written();
        let cut = text.find("a 2 7 10").unwrap() + "a 2 7 1".len();
        let (_, history) = parse(&text[..cut]).unwrap();
        assert_eq!(history.acked, [batch(0, Some(1234))]);
        assert!(!history.complete);
    }

    #[test]
    fn nonsense_is_named_by_its_line() {
        assert!(parse("hello\n").unwrap_err().contains("not an ack journal"));
        let broken = written().replace("u 2 7 20", "u 2 seven 20");
        assert!(parse(&broken).unwrap_err().starts_with("line 5"));
        let longer = written().replace(" 1234", " 1234 5");
        assert!(parse(&longer).unwrap_err().starts_with("line 3"));
    }
}
