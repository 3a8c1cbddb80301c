//! `store`: looks into the store files of a broker that is not running. Nothing is
//! changed; what was acknowledged shortly before a crash is seen too, since the
//! journal is replayed as at a start.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use millrace::base::{LogId, Offset, StoreId};
use millrace::record;
use millrace::runtime::blocks;
use millrace::runtime::device::{self, Device};
use millrace::store::device::Holds;
use millrace::store::{LogLabel, RecoveryReport, Store, StoreConfig};

use crate::Outcome;
use crate::args::{Pick, StoreCommand};
use crate::kafka_dir::{SegmentWriter, partition_directory};
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
    }
}

/// The broker's lock file in its data directory.
const LOCK_FILE: &str = ".lock";

/// One store file, recovered in memory.
struct Opened {
    path: PathBuf,
    file: File,
    store: Store,
    report: RecoveryReport,
}

impl Opened {
    fn open(path: &Path, id: StoreId) -> Result<Self, String> {
        let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let file = blocks::open(path).map_err(|e| named(&e))?;
        let len = device::size(&file).map_err(|e| named(&e))?;
        let config = StoreConfig::default();
        let (store, report) =
            Store::recover(id, config, len, &mut blocks::reader(&file), &mut |_| {})
                .map_err(|e| named(&e))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            store,
            report,
        })
    }

    /// The logs asked for, ordered by topic and partition.
    fn logs(&self, pick: &Pick) -> Vec<(LogId, LogLabel)> {
        let mut logs: Vec<(LogId, LogLabel)> = self
            .store
            .logs()
            .map(|(id, label)| (id, label.clone()))
            .filter(|(_, l)| pick.takes(l))
            .collect();
        logs.sort_by(|a, b| (&a.1.topic, a.1.partition).cmp(&(&b.1.topic, b.1.partition)));
        logs
    }

    fn segments(&self, log: LogId) -> Vec<(Offset, u64)> {
        self.store.segments(log).collect()
    }
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

/// All stores of a data directory.
fn open_all(directory: &Path) -> Result<Vec<Opened>, String> {
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
    files
        .iter()
        .map(|(id, path)| Opened::open(path, *id))
        .collect()
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
    for opened in &stores {
        for (log, label) in opened.logs(&Pick::default()) {
            let segments = opened.segments(log);
            table.row([
                opened.store.id().to_string(),
                label.topic,
                label.partition.to_string(),
                log.to_string(),
                segments.len().to_string(),
                segments
                    .first()
                    .map(|(base, _)| base.to_string())
                    .unwrap_or_default(),
                segments.iter().map(|(_, len)| len).sum::<u64>().to_string(),
            ]);
        }
    }
    print!("{table}");
    for opened in &stores {
        let usage = opened.store.usage();
        println!(
            "{}: {} logs, {} bytes, {} of them free, journal {} of {} bytes in use, checkpoint {}",
            opened.path.display(),
            usage.logs,
            usage.bytes_total,
            usage.chunk_bytes_free,
            usage.journal_bytes_used,
            usage.journal_bytes,
            usage.generation
        );
        warn(opened);
    }
    Ok(())
}

fn warn(opened: &Opened) {
    for warning in &opened.report.warnings {
        println!("{}: warning: {warning}", opened.path.display());
    }
}

fn check(directory: &Path, pick: &Pick) -> Outcome {
    let _lock = lock(directory)?;
    let (mut batches, mut bytes, mut bad) = (0, 0, 0);
    for opened in open_all(directory)? {
        warn(&opened);
        for (log, label) in opened.logs(pick) {
            for (base, len) in opened.segments(log) {
                let place = format!("{}-{} segment {base}", label.topic, label.partition);
                let mut last = base.0 - 1;
                let mut disorder = None;
                let found = opened
                    .store
                    .inspect_segment(log, base, &mut blocks::reader(&opened.file), &mut |batch| {
                        match record::parse(batch) {
                            Ok(info) if info.base_offset > last => last = info.last_offset(),
                            Ok(info) => disorder = disorder.or(Some(info.base_offset)),
                            Err(_) => disorder = disorder.or(Some(last + 1)),
                        }
                    })
                    .map_err(|error| format!("{place}: cannot be read (errno {})", error.errno))?;
                batches += found.batches;
                bytes += found.bytes;
                let damage = found
                    .bad
                    .map(|range| format!("{} at byte {}", range.why, range.pos));
                let damage = damage
                    .or(disorder
                        .map(|offset| format!("offset {offset} does not follow the one before")))
                    .or((found.bytes != len)
                        .then(|| format!("{} of {len} bytes are there", found.bytes)));
                if let Some(damage) = damage {
                    bad += 1;
                    println!("DAMAGED {place}: {damage}");
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
    println!("everything is whole");
    Ok(())
}

fn export(directory: &Path, out: &Path, pick: &Pick) -> Outcome {
    let _lock = lock(directory)?;
    let mut exported = 0;
    for opened in open_all(directory)? {
        for (log, label) in opened.logs(pick) {
            let target = partition_directory(out, &label).map_err(|e| e.to_string())?;
            for (base, _) in opened.segments(log) {
                export_segment(&opened, log, base, &target)?;
            }
            println!("{}", target.display());
            exported += 1;
        }
    }
    if exported == 0 {
        return Err(String::from(
            "nothing to export: no partition is what --topic and --partition ask for",
        ));
    }
    Ok(())
}

fn export_segment(opened: &Opened, log: LogId, base: Offset, target: &Path) -> Outcome {
    let mut segment = SegmentWriter::create(target, base.0).map_err(|e| e.to_string())?;
    let mut written = Ok(());
    let found = opened
        .store
        .inspect_segment(log, base, &mut blocks::reader(&opened.file), &mut |batch| {
            if written.is_ok() {
                written = record::parse(batch)
                    .map_err(io::Error::other)
                    .and_then(|info| segment.append(&info, batch));
            }
        })
        .map_err(|error| format!("segment {base} cannot be read (errno {})", error.errno))?;
    written
        .and_then(|()| segment.finish())
        .map_err(|e| format!("{}: {e}", target.display()))?;
    found.bad.map_or(Ok(()), |bad| {
        Err(format!(
            "{}: segment {base} is damaged at byte {} ({}); what lies before it was exported",
            target.display(),
            bad.pos,
            bad.why
        ))
    })
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
