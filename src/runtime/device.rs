//! Raw block devices as stores. In the data directory a link `store-<n>` leads to the
//! device, so that whoever looks for a store finds it in the same place as a file.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt, symlink};
use std::path::Path;

use super::blocks;
use super::disk::StoreFile;
use super::fatal::{CONFIG, DISK, Fatal};
use super::hold::{is_device, size};
use crate::base::StoreId;
use crate::store::DiskError;
use crate::store::device::{Holds, LOOKED_AT};

/// A device that a store is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its size in bytes.
    pub bytes: u64,
    /// What is on it.
    pub holds: Holds,
}

impl Device {
    /// Looks at a device, or at what a link leads to; `None` if it is none.
    ///
    /// # Errors
    /// It is not there or cannot be read.
    pub fn look(path: &Path) -> io::Result<Option<Self>> {
        if !is_device(path)? {
            return Ok(None);
        }
        // Not with O_EXCL: what has it otherwise is found out when it is written to.
        let (bytes, holds) = look_at(&blocks::open(path)?)?;
        Ok(Some(Self { bytes, holds }))
    }

    /// Erases what is looked at to tell what a device holds. Nobody may use it: not a mounted filesystem
    /// (which is found out), not a broker.
    ///
    /// # Errors
    /// As open(2) and write(2); `EBUSY` if it is in use.
    pub fn erase(path: &Path) -> io::Result<()> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_EXCL)
            .open(path)?;
        let bytes = size(&file)?;
        let zeroes = vec![0; LOOKED_AT.min(bytes) as usize];
        for pos in [0, bytes - zeroes.len() as u64] {
            file.write_all_at(&zeroes, pos)?;
        }
        file.sync_all()
    }
}

fn look_at(file: &File) -> io::Result<(u64, Holds)> {
    let bytes = size(file)?;
    let len = LOOKED_AT.min(bytes) as usize;
    let mut read = blocks::reader(file);
    let mut at = |pos| {
        let error = |error: DiskError| io::Error::from_raw_os_error(error.errno);
        read(pos, len).map_err(error)
    };
    let (head, tail) = (at(0)?, at(bytes - len as u64)?);
    Ok((bytes, Holds::of(&head, &tail)))
}

/// Makes the links for the stores of a directory, store `n` on device `n`.
///
/// # Errors
/// There are too few devices, one is not there or not ours, or a store is elsewhere already.
pub fn link(dir: &Path, devices: &[&str], shards: u16) -> Result<(), Fatal> {
    if devices.is_empty() {
        return Ok(());
    }
    if devices.len() < usize::from(shards) {
        let message = format!(
            "millrace.store.devices names {} devices, but there are {shards} shards: name one for each, or set \
             millrace.shards",
            devices.len()
        );
        return Err(Fatal::new(CONFIG, message));
    }
    for (n, device) in (0..).zip(devices) {
        link_one(&StoreFile::path(dir, StoreId(n)), Path::new(device))?;
    }
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(|error| Fatal::new(DISK, format!("cannot sync {}: {error}", dir.display())))
}

fn link_one(path: &Path, device: &Path) -> Result<(), Fatal> {
    let (place, shown) = (path.display(), device.display());
    let config = |why: String| Err(Fatal::new(CONFIG, format!("millrace.store.devices: {why}")));
    match fs::read_link(path) {
        Ok(target) if target == device => return Ok(()),
        Ok(target) => {
            return config(format!(
                "{place} is on {}, not on {shown}. If it was moved, remove that link",
                target.display()
            ));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(_) => return config(format!("{place} is a file, and stays one")),
    }
    match Device::look(device) {
        Ok(Some(Device {
            holds: Holds::Other(what),
            ..
        })) => config(format!(
            "{shown} holds {what}. If nobody needs it any more: millracectl store format --erase {shown}"
        )),
        Ok(Some(_)) => symlink(device, path)
            .map_err(|error| Fatal::new(DISK, format!("cannot make the link {place}: {error}"))),
        Ok(None) => config(format!("{shown} is no block device")),
        Err(error) => config(format!("cannot read {shown}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_device_or_too_few_is_refused() {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let path = dir.path().join("file");
        fs::write(&path, b"a file").expect("written");
        let name = path.to_str().expect("text");
        let refused = |devices: &[&str], shards| {
            let fatal = link(dir.path(), devices, shards).expect_err("refused");
            assert_eq!(fatal.status, CONFIG);
            fatal.message
        };
        assert!(refused(&[name], 2).contains("1 devices, but there are 2 shards"));
        assert!(refused(&[name], 1).contains("no block device"));
        assert!(refused(&["/dev/there-is-none"], 1).contains("cannot read"));
        assert_eq!(link(dir.path(), &[], 2), Ok(()));
        assert_eq!(Device::look(&path).expect("a look"), None);
        fs::write(StoreFile::path(dir.path(), StoreId(0)), b"a store").expect("written");
        assert!(refused(&[name], 1).contains("is a file, and stays one"));
    }

    #[test]
    fn a_store_stays_on_its_device() {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let path = StoreFile::path(dir.path(), StoreId(0));
        symlink("/dev/one", &path).expect("a link");
        assert_eq!(link(dir.path(), &["/dev/one"], 1), Ok(()));
        let fatal = link(dir.path(), &["/dev/two"], 1).expect_err("refused");
        assert!(fatal.message.contains("is on /dev/one, not on /dev/two"));
    }
}
