//! What the broker needs of the machine, found out at start rather than at the first
//! request, each with the setting to change.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use super::fatal::{DIRECTORY, Fatal, SYSTEM};
use super::ring::Ring;
use super::sys;
use crate::base::{BLOCK, PageBuf};

/// glommio does not start an executor with less locked memory than this.
const MEMLOCK_MIN: u64 = 512 * 1024;
/// Fewer descriptors than this are worth a warning.
const NOFILE_LOW: u64 = 10_000;

/// The cores to run on, one shard each; several shards share a core if more are asked for than
/// there are. `named` is where that is set.
///
/// # Errors
/// The affinity mask cannot be read.
pub fn cores(wanted: usize, named: &str) -> Result<Vec<usize>, Fatal> {
    let allowed: Vec<usize> = core_affinity::get_core_ids()
        .filter(|ids| !ids.is_empty())
        .ok_or_else(|| Fatal::new(SYSTEM, "cannot find out which cores this process may use"))?
        .iter()
        .map(|core| core.id)
        .collect();
    let quota = sys::cpu_quota().map_or(usize::MAX, |cores| cores.ceil().max(1.0) as usize);
    let shards = if wanted == 0 {
        allowed.len().min(quota)
    } else {
        wanted
    };
    if shards > allowed.len() {
        tracing::warn!(
            "{named}: {shards} shards, but only {} cores may be used: shards will share cores",
            allowed.len()
        );
    }
    Ok((0..shards).map(|i| allowed[i % allowed.len()]).collect())
}

/// Checks kernel and limits, and raises the limits that may be raised.
///
/// # Errors
/// What is missing, and how to provide it.
pub fn system() -> Result<(), Fatal> {
    let ring = Ring::<()>::new().map_err(|error| {
        let fix = match error.raw_os_error() {
            Some(libc::EPERM) => {
                "set sysctl kernel.io_uring_disabled=0, and in a container allow the io_uring \
                 system calls in its seccomp profile"
            }
            Some(libc::ENOMEM) => "raise the locked-memory limit (ulimit -l, LimitMEMLOCK=)",
            Some(libc::ENOSYS | libc::EINVAL) => {
                "use Linux 6.1 or later, in a container with io_uring allowed"
            }
            _ => "see dmesg",
        };
        Fatal::new(SYSTEM, format!("io_uring is not available: {error}; {fix}"))
    })?;
    let missing = ring.missing_operations().unwrap_or_else(|_| vec!["PROBE"]);
    if !missing.is_empty() {
        return Err(Fatal::new(
            SYSTEM,
            format!(
                "io_uring lacks {}: use Linux 6.1 or later",
                missing.join(", ")
            ),
        ));
    }
    let memlock = sys::raise_limit(libc::RLIMIT_MEMLOCK);
    if memlock < MEMLOCK_MIN {
        return Err(Fatal::new(
            SYSTEM,
            format!(
                "the locked-memory limit is {memlock} bytes, {MEMLOCK_MIN} are needed: raise it \
                 (ulimit -l {}, LimitMEMLOCK= of the service)",
                MEMLOCK_MIN / 1024
            ),
        ));
    }
    let files = sys::raise_limit(libc::RLIMIT_NOFILE);
    if files < NOFILE_LOW {
        tracing::warn!(
            "at most {files} descriptors, which bounds the number of connections: raise the limit \
             (ulimit -n, LimitNOFILE= of the service)"
        );
    }
    Ok(())
}

/// Takes the data directory for this process: makes it, locks it, writes to it. The lock lasts
/// until the returned file is closed. The flag says whether the filesystem has O_DIRECT.
///
/// # Errors
/// The directory is not usable, or another process has it.
pub fn directory(dir: &Path) -> Result<(File, bool), Fatal> {
    let shown = dir.display();
    let fail = |what: &str, error: &io::Error| {
        Fatal::new(
            DIRECTORY,
            format!("cannot {what} the directory of log.dirs, {shown}: {error}"),
        )
    };
    fs::create_dir_all(dir).map_err(|error| fail("create", &error))?;
    let lock = lock(dir)?;
    let direct = try_direct(dir).map_err(|error| fail("write to", &error))?;
    Ok((lock, direct))
}

/// Warns of what does not suit a data directory; `named` is where it is set.
pub fn warn_about(dir: &Path, direct: bool, named: &str) {
    let shown = dir.display();
    if sys::is_in_memory(dir) {
        tracing::warn!(
            "{named}: {shown} is in memory (tmpfs): everything is lost when the machine stops, acknowledged \
             or not. Put log.dirs on a disk"
        );
    }
    if !direct {
        tracing::warn!(
            "{named}: the filesystem of {shown} has no O_DIRECT: writes go through the page cache and \
             fdatasync. They are as durable, but slower. Put log.dirs on ext4 or XFS"
        );
    }
}

fn lock(dir: &Path) -> Result<File, Fatal> {
    let path = dir.join(".lock");
    let shown = path.display();
    let fail = |error: &io::Error| Fatal::new(DIRECTORY, format!("cannot lock {shown}: {error}"));
    let open = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path);
    let file = open.map_err(|error| fail(&error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => {
            let holder = fs::read_to_string(&path).unwrap_or_default();
            return Err(Fatal::new(
                DIRECTORY,
                format!(
                    "{shown} is locked by process {}: another broker uses this directory",
                    holder.trim()
                ),
            ));
        }
        Err(fs::TryLockError::Error(error)) => return Err(fail(&error)),
    }
    let pid = format!("{}\n", std::process::id());
    let written = file
        .set_len(0)
        .and_then(|()| file.write_all_at(pid.as_bytes(), 0));
    match written {
        // The number only says who has the lock.
        Err(error) if !is_full(&error) => Err(fail(&error)),
        _ => Ok(file),
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Writes a block, makes it durable and reads it back; with O_DIRECT if the filesystem has it,
/// which the result says.
fn try_direct(dir: &Path) -> io::Result<bool> {
    let path = dir.join(".probe");
    let attempt = |flags: i32| -> io::Result<()> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .custom_flags(flags)
            .open(&path)?;
        let mut block = PageBuf::zeroed(BLOCK);
        block.as_mut_bytes().fill(0xa5);
        file.write_all_at(block.as_bytes(), 0)?;
        file.sync_data()?;
        let mut back = PageBuf::zeroed(BLOCK);
        file.read_exact_at(back.as_mut_bytes(), 0)?;
        if back.as_bytes() == block.as_bytes() {
            Ok(())
        } else {
            Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a block read back differs",
            ))
        }
    };
    let direct = match attempt(libc::O_DIRECT) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => {
            match attempt(0) {
                Err(error) if !is_full(&error) => Err(error),
                _ => Ok(false),
            }
        }
        // A full disk does not keep a broker from serving what it has, and from making room: that the
        // file could be opened says enough.
        Err(error) if is_full(&error) => Ok(true),
        Err(error) => Err(error),
    };
    let _ = fs::remove_file(&path);
    direct
}

/// Warns if the disk is about to be full.
pub fn warn_if_full(dir: &Path, needed: u64) {
    if let Ok(free) = sys::free_bytes(dir)
        && free < needed
    {
        tracing::warn!(
            "only {} MiB are free in {}, new stores want {} MiB",
            free >> 20,
            dir.display(),
            needed >> 20
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_will_do() {
        assert_eq!(system(), Ok(()));
        assert!(!cores(0, "").expect("cores").is_empty());
        assert_eq!(cores(5, "").expect("cores").len(), 5);
    }

    #[test]
    fn a_directory_is_taken_once() {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let path = dir.path().join("data");
        let (held, _) = directory(&path).expect("the first one gets it");
        let refused = directory(&path).expect_err("the second one does not");
        assert_eq!(refused.status, DIRECTORY);
        assert!(
            refused.message.contains(&std::process::id().to_string()),
            "{refused}"
        );
        drop(held);
        assert!(directory(&path).is_ok());
        assert!(!path.join(".probe").exists());
    }

    #[test]
    fn a_file_is_no_directory() {
        let file = tempfile::NamedTempFile::new().expect("a scratch file");
        let refused = directory(&file.path().join("data")).expect_err("not below a file");
        assert!(refused.message.contains("log.dirs"));
    }
}
