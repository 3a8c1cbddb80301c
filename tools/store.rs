//! `store`: looks into the store files of a broker that is not running. Nothing is
//! changed; what was acknowledged shortly before a crash is seen too, since the
//! journal is replayed as at a start.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use millrace::base::{LogId, Now, StoreId};
use millrace::broker::MetadataReader;
use millrace::controller::{METADATA_LOG, METADATA_SNAPSHOT_LOG};
use millrace::log::recovery::{self, Reopened};
use millrace::log::{Log, LogConfig};
use millrace::record;
use millrace::runtime::blocks;
use millrace::runtime::device::Device;
use millrace::runtime::hold;
use millrace::store::device::Holds;
use millrace::store::{BadRange, Found, LogRemains, Remains, Store, StoreConfig};

use crate::answer::{Answer, Cell, Output, Rows};
use crate::args::{Pick, StoreCommand};
use crate::failure::Outcome;
use crate::import;
use crate::kafka_dir::{LogWriter, range, write_starts};
use crate::settings_file::TakenOver;

/// Runs the command.
pub fn run(output: Output, command: &StoreCommand) -> Outcome {
    let seen = match command {
        StoreCommand::Ls { directory } => ls(directory),
        StoreCommand::Format { device, erase } => format_device(device, *erase),
        StoreCommand::Check { directory, pick } => check(directory, pick),
        StoreCommand::Export {
            directory,
            out,
            pick,
        } => export(directory, out, pick),
        StoreCommand::Salvage {
            directory,
            out,
            pick,
        } => salvage(directory, out, pick),
        StoreCommand::Import(args) => import::import(args).map(|answer| Seen {
            answer,
            verdict: Ok(()),
        }),
    }?;
    output.show(&seen.answer)?;
    Ok(seen.verdict?)
}

/// What was found, and the error at the end if it is not all well.
struct Seen {
    answer: Answer,
    verdict: Result<(), String>,
}

impl Seen {
    fn new(answer: Answer, problems: Problems, verdict: Result<(), String>) -> Self {
        let answer = answer.rows("problems", problems.0);
        let answer = answer.field("whole", verdict.is_ok());
        Self {
            answer: match verdict {
                Ok(()) => answer.note("everything is whole"),
                Err(_) => answer,
            },
            verdict,
        }
    }
}

/// What is not as it should be, and where.
struct Problems(Rows);

impl Problems {
    fn none() -> Self {
        Self(Rows::of(&["place", "kind", "what"]))
    }

    fn add(&mut self, place: impl ToString, kind: &str, what: impl ToString) {
        let kind = Cell::from(kind).alarm(kind != WARNING);
        self.0
            .add([place.to_string().into(), kind, what.to_string().into()]);
    }
}

/// Kinds of problems.
const WARNING: &str = "warning";
const DAMAGED: &str = "DAMAGED";
const UNREADABLE: &str = "UNREADABLE";

/// What was written of partitions.
fn written_rows() -> Rows {
    Rows::of(&[
        "path",
        "first_offset",
        "last_offset",
        "records",
        "missing_offsets",
    ])
}

fn written_row(rows: &mut Rows, problems: &mut Problems, written: &LogWriter) {
    let target = written.target.display();
    for problem in &written.problems {
        problems.add(&target, DAMAGED, problem);
    }
    rows.add([
        target.to_string().into(),
        written.first.into(),
        written.first.map(|_| written.last).into(),
        written.records.into(),
        Cell::from_iter(&written.missing),
    ]);
}

/// The broker's lock file in its data directory.
const LOCK_FILE: &str = ".lock";

/// A store file, and what it is or why it cannot be opened.
struct Entry {
    id: StoreId,
    path: PathBuf,
    file: Result<File, String>,
    opened: Result<Reopened, String>,
}

impl Entry {
    fn open(path: &Path, id: StoreId) -> Self {
        let file = blocks::open(path).map_err(|e| e.to_string());
        let opened = file.as_ref().map_err(Clone::clone).and_then(|file| {
            let len = hold::size(file).map_err(|e| e.to_string())?;
            let settings = (StoreConfig::default(), LogConfig::default());
            let mut read = blocks::reader(file);
            recovery::reopen(id, settings, Now::default(), len, &mut read)
                .map_err(|e| e.to_string())
        });
        Self {
            id,
            path: path.to_owned(),
            file,
            opened,
        }
    }

    /// What a start would say about the store.
    fn problems(&self, problems: &mut Problems) {
        let path = self.path.display();
        match (&self.opened, &self.file) {
            (Ok(opened), Ok(_)) => {
                for warning in &opened.report.warnings {
                    problems.add(&path, WARNING, warning);
                }
                for rot in &opened.report.rot {
                    problems.add(&path, DAMAGED, rot);
                }
            }
            (Err(error), _) | (_, Err(error)) => problems.add(&path, UNREADABLE, error),
        }
    }

    /// A log as the broker would go on with it.
    fn log(&self, id: LogId) -> Option<&Log> {
        self.opened.as_ref().ok()?.logs.get(&id)
    }

    /// What its metadata says of topics; nothing in a store that has none.
    fn taken_over(&self) -> Result<TakenOver, String> {
        let (Some(file), logs) = self.logs(&Pick::default()) else {
            return Ok(TakenOver::default());
        };
        let mut reader = MetadataReader::default();
        for id in [METADATA_SNAPSHOT_LOG, METADATA_LOG] {
            let log = logs.iter().find(|log| log.id == id);
            for segment in log.iter().flat_map(|log| &log.segments) {
                let mut taken = Ok(());
                segment.walk(&mut blocks::reader(file), &mut |found| {
                    if let (Found::Batch(batch), Ok(())) = (found, &taken) {
                        taken = reader.take(id, batch);
                    }
                });
                taken.map_err(|what| format!("the settings of topics cannot be read: {what}"))?;
            }
        }
        Ok(TakenOver::of_image(&reader.end()))
    }

    /// The logs asked for, ordered by topic and partition, with the file that they are in; none if the
    /// store cannot be opened.
    fn logs(&self, pick: &Pick) -> (Option<&File>, Vec<LogRemains>) {
        let (Ok(opened), Ok(file)) = (&self.opened, &self.file) else {
            return (None, Vec::new());
        };
        let mut logs = opened.store.remains();
        logs.retain(|log| pick.takes(&log.label));
        (Some(file), logs)
    }
}

/// The error at the end of a command that went on past stores which cannot be opened, and past logs of which
/// something acknowledged is lost.
fn refused(stores: &[Entry], pick: &Pick) -> Result<(), String> {
    let salvage = "`millracectl store salvage DIRECTORY --to OUT` writes what can still be read";
    let bad = stores.iter().filter(|entry| entry.opened.is_err()).count();
    if bad > 0 {
        return Err(format!(
            "{bad} of {} stores cannot be opened; {salvage} of them",
            stores.len()
        ));
    }
    let opened = stores.iter().filter_map(|entry| entry.opened.as_ref().ok());
    let damaged = opened.flat_map(|opened| opened.store.damaged());
    let damaged = damaged.filter(|(_, label, _)| pick.takes(label)).count();
    if damaged > 0 {
        return Err(format!(
            "{damaged} partitions are damaged, and a broker does not serve them; {salvage} of them"
        ));
    }
    Ok(())
}

/// Keeps a broker from starting on the directory while it is read, and refuses one that a broker
/// has: its files change under our eyes.
fn lock(directory: &Path) -> Result<Option<File>, String> {
    let Ok(file) = File::open(directory.join(LOCK_FILE)) else {
        // A copy or a backup: nobody's.
        return Ok(None);
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(format!(
            "a broker is running on {}: stop it first, or look at a copy",
            directory.display()
        )),
        Err(TryLockError::Error(error)) => {
            Err(format!("cannot lock {}: {error}", directory.display()))
        }
    }
}

/// Makes a device blank; nothing is lost unless asked for.
fn format_device(path: &Path, erase: bool) -> Result<Seen, String> {
    let shown = path.display();
    let found = Device::look(path).map_err(|error| format!("{shown}: {error}"))?;
    let held = match found.map(|device| device.holds) {
        None => return Err(format!("{shown} is no block device")),
        Some(Holds::Nothing) => None,
        Some(Holds::Store) => Some("a store of Millrace's"),
        Some(Holds::Other(what)) => Some(what),
    };
    if let Some(what) = held {
        if !erase {
            return Err(format!("{shown} holds {what}, which --erase would destroy"));
        }
        Device::erase(path).map_err(|error| format!("cannot erase {shown}: {error}"))?;
    }
    let answer = Answer::new()
        .field("device", shown.to_string())
        .field("held", held);
    Ok(Seen {
        answer: answer.note("it is blank: millrace.store.devices takes it as it is"),
        verdict: Ok(()),
    })
}

/// All stores of a data directory, each by itself.
fn open_all(directory: &Path) -> Result<Vec<Entry>, String> {
    let named = |error: io::Error| format!("cannot read {}: {error}", directory.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(named)? {
        let name = entry.map_err(named)?.file_name();
        if let Some(id) = store_id(&name.to_string_lossy()) {
            files.push((id, directory.join(name)));
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(format!(
            "{} holds no store-<n> file: give the directory that log.dirs names in the broker's configuration",
            directory.display()
        ));
    }
    Ok(files
        .iter()
        .map(|(id, path)| Entry::open(path, *id))
        .collect())
}

fn store_id(name: &str) -> Option<StoreId> {
    name.strip_prefix("store-")?.parse().ok().map(StoreId)
}

fn ls(directory: &Path) -> Result<Seen, String> {
    let _lock = lock(directory)?;
    let stores = open_all(directory)?;
    let mut logs = Rows::of(&[
        "store",
        "topic",
        "partition",
        "log",
        "segments",
        "first_offset",
        "bytes",
    ]);
    let mut table = Rows::of(&[
        "path",
        "logs",
        "bytes",
        "free_bytes",
        "journal_bytes",
        "journal_used_bytes",
        "checkpoint",
        "left",
        "details",
    ]);
    let mut problems = Problems::none();
    for entry in &stores {
        entry.problems(&mut problems);
        let Ok(opened) = &entry.opened else { continue };
        let mut found: Vec<_> = opened.store.logs().collect();
        found.sort_by_key(|(_, label)| (&label.topic, label.partition));
        for (log, label) in found {
            let segments: Vec<_> = opened.store.segments(log).collect();
            logs.add([
                entry.id.to_string().into(),
                Cell::from(&label.topic),
                label.partition.into(),
                log.to_string().into(),
                segments.len().into(),
                segments.first().map(|(_, base, _)| base.0).into(),
                segments.iter().map(|(.., len)| len).sum::<u64>().into(),
            ]);
        }
        let usage = opened.store.usage();
        let how_left = opened.report.how_left();
        let (left, details) = match how_left.split_once(": ") {
            Some((left, details)) => (left, Some(details)),
            None => (how_left.as_str(), None),
        };
        table.add([
            entry.path.display().to_string().into(),
            (usage.logs as u64).into(),
            Cell::Bytes(usage.bytes_total),
            Cell::Bytes(usage.chunk_bytes_free),
            Cell::Bytes(usage.journal_bytes),
            Cell::Bytes(usage.journal_bytes_used),
            usage.generation.into(),
            left.into(),
            details.into(),
        ]);
    }
    let verdict = refused(&stores, &Pick::default());
    let answer = Answer::new().rows("logs", logs).rows("stores", table);
    Ok(Seen {
        answer: answer.rows("problems", problems.0),
        verdict,
    })
}

/// What is found in a segment that is checked.
#[derive(Default)]
struct Segment {
    /// Offsets may be left out in it.
    leaves_out: bool,
    /// The offset that is due.
    next: i64,
    batches: u64,
    bytes: u64,
    damage: Vec<String>,
    /// Damage was met before what comes next, which explains that something is missing.
    explained: bool,
}

impl Segment {
    /// Goes through all of it; `end` is where what follows it begins.
    fn walk(&mut self, segment: &Remains, end: Option<i64>, file: &File) {
        segment.walk(&mut blocks::reader(file), &mut |found| match found {
            Found::Batch(batch) => {
                self.batches += 1;
                self.bytes += batch.len() as u64;
                match record::parse(batch) {
                    Ok(info) => {
                        self.follows(info.base_offset);
                        self.next = self.next.max(info.last_offset() + 1);
                    }
                    Err(error) => {
                        self.damage.push(error.to_string());
                        self.explained = true;
                    }
                }
            }
            Found::Damage(BadRange { pos, why }) => {
                self.damage.push(format!("{why} at byte {pos}"));
                self.explained = true;
            }
        });
        if let Some(end) = end {
            self.follows(end);
        }
    }

    /// Something begins at this offset.
    fn follows(&mut self, offset: i64) {
        if offset < self.next {
            self.damage
                .push(format!("offset {offset} does not follow the one before"));
        } else if offset > self.next && !self.leaves_out && !self.explained {
            let missing = range(self.next, offset);
            self.damage.push(format!("offsets {missing} are missing"));
        }
        self.explained = false;
    }
}

fn check(directory: &Path, pick: &Pick) -> Result<Seen, String> {
    let _lock = lock(directory)?;
    let stores = open_all(directory)?;
    let (mut batches, mut bytes, mut bad) = (0_u64, 0_u64, 0);
    let mut problems = Problems::none();
    for entry in &stores {
        entry.problems(&mut problems);
        let (Some(file), logs) = entry.logs(pick) else {
            continue;
        };
        for log in logs {
            let known = entry.log(log.id);
            for (number, segment) in log.segments.iter().enumerate() {
                let base = segment.base.unwrap_or_default();
                let place = format!("{}-{} segment {base}", log.label.topic, log.label.partition);
                let next = log.segments.get(number + 1).and_then(|next| next.base);
                let end = next.or_else(|| known.map(Log::end_offset));
                let mut checked = Segment {
                    // Of a log that is damaged it is not known.
                    leaves_out: known.is_none_or(|log| log.leaves_out(segment.id)),
                    next: base.0,
                    ..Segment::default()
                };
                checked.walk(segment, end.map(|end| end.0), file);
                batches += checked.batches;
                bytes += checked.bytes;
                bad += u64::from(!checked.damage.is_empty());
                for what in checked.damage {
                    problems.add(&place, DAMAGED, what);
                }
            }
        }
    }
    let answer = Answer::new()
        .field("batches", batches)
        .field("bytes", Cell::Bytes(bytes));
    let verdict = if bad > 0 {
        Err(format!(
            "{bad} segments are damaged; restore them from a replica or a backup"
        ))
    } else {
        refused(&stores, pick)
    };
    Ok(Seen::new(answer, problems, verdict))
}

fn export(directory: &Path, out: &Path, pick: &Pick) -> Result<Seen, String> {
    let _lock = lock(directory)?;
    let stores = open_all(directory)?;
    let (mut rows, mut problems, mut short) = (written_rows(), Problems::none(), 0);
    let mut starts = Vec::new();
    for entry in &stores {
        entry.problems(&mut problems);
        let (Some(file), logs) = entry.logs(pick) else {
            continue;
        };
        for log in logs {
            let known = entry.log(log.id);
            let written = LogWriter::write(&log, known, file, out)?;
            let start = known.map(|known| known.start_offset().0);
            let label = &log.label;
            starts.extend(start.map(|at| (label.topic.to_string(), label.partition, at)));
            short += u64::from(!written.is_whole());
            written_row(&mut rows, &mut problems, &written);
        }
    }
    let exported = rows.len();
    if exported > 0 {
        write_starts(out, &starts)?;
    }
    for entry in &stores {
        match entry.taken_over() {
            Ok(known) if known.topics.is_empty() => {}
            Ok(known) => known.write(out)?,
            Err(what) => problems.add(entry.path.display(), DAMAGED, what),
        }
    }
    let verdict = if short > 0 {
        Err(format!(
            "{short} of {exported} partitions are damaged; all that is whole was exported"
        ))
    } else {
        refused(&stores, pick).and_then(|()| match exported {
            0 => Err(String::from(
                "nothing to export: no partition is what --topic and --partition ask for",
            )),
            _ => Ok(()),
        })
    };
    Ok(Seen::new(
        Answer::new().rows("partitions", rows),
        problems,
        verdict,
    ))
}

/// Writes what can be read of every store, whole or not.
fn salvage(directory: &Path, out: &Path, pick: &Pick) -> Result<Seen, String> {
    let _lock = lock(directory)?;
    let stores = open_all(directory)?;
    let (mut rows, mut problems, mut whole) = (written_rows(), Problems::none(), true);
    for entry in &stores {
        entry.problems(&mut problems);
        let path = entry.path.display();
        let Ok(file) = &entry.file else {
            whole = false;
            continue;
        };
        let logs = match &entry.opened {
            Ok(opened) => {
                whole &= opened.report.rot.is_empty();
                opened.store.remains()
            }
            Err(_) => {
                whole = false;
                match Store::salvage(entry.id, &mut blocks::reader(file)) {
                    Ok(found) => {
                        for what in &found.problems {
                            problems.add(&path, DAMAGED, what);
                        }
                        found.logs
                    }
                    Err(_) => continue,
                }
            }
        };
        for log in logs.iter().filter(|log| pick.takes(&log.label)) {
            let written = LogWriter::write(log, entry.log(log.id), file, out)?;
            whole &= written.is_whole() && written.problems.is_empty();
            written_row(&mut rows, &mut problems, &written);
        }
    }
    let damaged = "something is damaged, as said above; all that can be read was written";
    let verdict = if whole {
        Ok(())
    } else {
        Err(damaged.to_owned())
    };
    Ok(Seen::new(
        Answer::new().rows("partitions", rows),
        problems,
        verdict,
    ))
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
