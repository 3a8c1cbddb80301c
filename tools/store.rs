//! `store`: looks into the store files of a broker that is not running. Nothing is
//! changed; what was acknowledged shortly before a crash is seen too, since the
//! journal is replayed as at a start.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use millrace::base::{LogId, Now, StoreId};
use millrace::log::recovery::{self, Reopened};
use millrace::log::{Log, LogConfig};
use millrace::record;
use millrace::runtime::blocks;
use millrace::runtime::device::Device;
use millrace::runtime::hold;
use millrace::store::device::Holds;
use millrace::store::{BadRange, Found, LogRemains, Remains, Store, StoreConfig};

use crate::Outcome;
use crate::args::{Pick, StoreCommand};
use crate::kafka_dir::{LogWriter, range};
use crate::table::Table;

/// Runs the command.
pub fn run(command: &StoreCommand) -> Outcome {
    match command {
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
    }
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

    fn say(&self, what: impl std::fmt::Display) {
        println!("{}: {what}", self.path.display());
    }

    /// A log as the broker would go on with it.
    fn log(&self, id: LogId) -> Option<&Log> {
        self.opened.as_ref().ok()?.logs.get(&id)
    }

    /// The logs asked for, ordered by topic and partition, with the file that they are in; none, and a
    /// line about it, if the store cannot be opened.
    fn logs(&self, pick: &Pick) -> (Option<&File>, Vec<LogRemains>) {
        match (&self.opened, &self.file) {
            (Ok(opened), Ok(file)) => {
                for warning in &opened.report.warnings {
                    self.say(format_args!("warning: {warning}"));
                }
                for rot in &opened.report.rot {
                    self.say(format_args!("DAMAGED: {rot}"));
                }
                let mut logs = opened.store.remains();
                logs.retain(|log| pick.takes(&log.label));
                (Some(file), logs)
            }
            (Err(error), _) | (_, Err(error)) => {
                self.say(format_args!("UNREADABLE: {error}"));
                (None, Vec::new())
            }
        }
    }
}

/// The error at the end of a command that went on past stores which cannot be opened, and past logs of which
/// something acknowledged is lost.
fn refused(stores: &[Entry], pick: &Pick) -> Outcome {
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
fn format_device(path: &Path, erase: bool) -> Outcome {
    let shown = path.display();
    let found = Device::look(path).map_err(|error| format!("{shown}: {error}"))?;
    let what = match found.map(|device| device.holds) {
        None => return Err(format!("{shown} is no block device")),
        Some(Holds::Nothing) => {
            println!("{shown} is blank: millrace.store.devices takes it as it is");
            return Ok(());
        }
        Some(Holds::Store) => "a store of Millrace's",
        Some(Holds::Other(what)) => what,
    };
    if !erase {
        return Err(format!("{shown} holds {what}, which --erase would destroy"));
    }
    Device::erase(path).map_err(|error| format!("cannot erase {shown}: {error}"))?;
    println!("{shown} held {what}; now it is blank");
    Ok(())
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

fn ls(directory: &Path) -> Outcome {
    let _lock = lock(directory)?;
    let stores = open_all(directory)?;
    let mut table = Table::new(&[
        "STORE",
        "TOPIC",
        "PARTITION",
        "LOG",
        "SEGMENTS",
        "FIRST",
        "BYTES",
    ]);
    let mut lines = Vec::new();
    for entry in &stores {
        let path = entry.path.display();
        let opened = match &entry.opened {
            Ok(opened) => opened,
            Err(error) => {
                let mut row = vec![String::new(); 7];
                row[0] = entry.id.to_string();
                row[1] = "UNREADABLE".into();
                table.row(row);
                lines.push(format!("{path}: UNREADABLE: {error}"));
                continue;
            }
        };
        let mut logs: Vec<_> = opened.store.logs().collect();
        logs.sort_by_key(|(_, label)| (&label.topic, label.partition));
        for (log, label) in logs {
            let segments: Vec<_> = opened.store.segments(log).collect();
            table.row([
                entry.id.to_string(),
                label.topic.clone(),
                label.partition.to_string(),
                log.to_string(),
                segments.len().to_string(),
                segments
                    .first()
                    .map(|(_, base, _)| base.to_string())
                    .unwrap_or_default(),
                segments
                    .iter()
                    .map(|(.., len)| len)
                    .sum::<u64>()
                    .to_string(),
            ]);
        }
        let usage = opened.store.usage();
        lines.push(format!(
            "{path}: {} logs, {} bytes, {} of them free, journal {} of {} bytes in use, checkpoint {}; {}",
            usage.logs,
            usage.bytes_total,
            usage.chunk_bytes_free,
            usage.journal_bytes_used,
            usage.journal_bytes,
            usage.generation,
            opened.report.how_left()
        ));
        let warnings = &opened.report.warnings;
        lines.extend(warnings.iter().map(|w| format!("{path}: warning: {w}")));
        let rot = &opened.report.rot;
        lines.extend(rot.iter().map(|rot| format!("{path}: DAMAGED: {rot}")));
    }
    print!("{table}");
    for line in lines {
        println!("{line}");
    }
    refused(&stores, &Pick::default())
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

fn check(directory: &Path, pick: &Pick) -> Outcome {
    let _lock = lock(directory)?;
    let stores = open_all(directory)?;
    let (mut batches, mut bytes, mut bad) = (0_u64, 0, 0);
    for entry in &stores {
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
                    println!("DAMAGED {place}: {what}");
                }
            }
        }
    }
    println!("{batches} batches, {bytes} bytes read");
    if bad > 0 {
        return Err(format!(
            "{bad} segments are damaged; restore them from a replica or a backup"
        ));
    }
    refused(&stores, pick)?;
    println!("everything is whole");
    Ok(())
}

fn export(directory: &Path, out: &Path, pick: &Pick) -> Outcome {
    let _lock = lock(directory)?;
    let stores = open_all(directory)?;
    let (mut exported, mut short) = (0, 0);
    for entry in &stores {
        let (Some(file), logs) = entry.logs(pick) else {
            continue;
        };
        for log in logs {
            let written = LogWriter::write(&log, entry.log(log.id), file, out)?;
            println!("{}", written.target.display());
            for problem in &written.problems {
                println!("{}: {problem}", written.target.display());
            }
            if !written.missing.is_empty() {
                let missing = written.missing.join(", ");
                println!(
                    "{}: offsets {missing} are missing",
                    written.target.display()
                );
            }
            exported += 1;
            short += u64::from(!written.is_whole());
        }
    }
    if short > 0 {
        return Err(format!(
            "{short} of {exported} partitions are damaged; all that is whole was exported"
        ));
    }
    refused(&stores, pick)?;
    if exported == 0 {
        return Err(String::from(
            "nothing to export: no partition is what --topic and --partition ask for",
        ));
    }
    Ok(())
}

/// Writes what can be read of every store, whole or not.
fn salvage(directory: &Path, out: &Path, pick: &Pick) -> Outcome {
    let _lock = lock(directory)?;
    let stores = open_all(directory)?;
    let mut table = Table::new(&["PARTITION", "FIRST", "LAST", "RECORDS", "MISSING"]);
    let (mut problems, mut whole) = (Vec::new(), true);
    for entry in &stores {
        let path = entry.path.display();
        let file = match &entry.file {
            Ok(file) => file,
            Err(error) => {
                problems.push(format!("{path}: {error}"));
                continue;
            }
        };
        let logs = match &entry.opened {
            Ok(opened) => {
                let rot = opened.report.rot.iter();
                problems.extend(rot.map(|rot| format!("{path}: {rot}")));
                opened.store.remains()
            }
            Err(error) => {
                problems.push(format!("{path}: {error}"));
                match Store::salvage(entry.id, &mut blocks::reader(file)) {
                    Ok(found) => {
                        let found_problems = found.problems.iter();
                        problems.extend(found_problems.map(|what| format!("{path}: {what}")));
                        found.logs
                    }
                    Err(_) => continue,
                }
            }
        };
        for log in logs.iter().filter(|log| pick.takes(&log.label)) {
            let written = LogWriter::write(log, entry.log(log.id), file, out)?;
            let target = written.target.display();
            problems.extend(written.problems.iter().map(|p| format!("{target}: {p}")));
            whole &= written.is_whole();
            table.row([
                format!("{}-{}", log.label.topic, log.label.partition),
                written.first.map(|n| n.to_string()).unwrap_or_default(),
                written
                    .first
                    .map(|_| written.last.to_string())
                    .unwrap_or_default(),
                written.records.to_string(),
                written.missing.join(","),
            ]);
        }
    }
    print!("{table}");
    for problem in &problems {
        println!("{problem}");
    }
    if whole && problems.is_empty() {
        return Ok(());
    }
    Err("something is damaged, as said above; all that can be read was written".into())
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
