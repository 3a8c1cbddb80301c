//! Store files and devices: what they are, and that one process alone has them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a device or file may still be taken. A broker that was killed has it until the kernel has torn down
/// its io_uring, in the background: nothing it wrote can come late, after us.
const FREE_WITHIN: Duration = Duration::from_secs(5);

/// Whether a path leads to a block device.
///
/// # Errors
/// It leads nowhere.
pub fn is_device(path: &Path) -> io::Result<bool> {
    Ok(fs::metadata(path)?.file_type().is_block_device())
}

/// Opens a device with O_EXCL, waiting a little for one that is just being given up.
///
/// # Errors
/// As open(2); `EBUSY` if something else has it.
pub fn claim(options: &OpenOptions, path: &Path) -> io::Result<File> {
    when_free(io::ErrorKind::ResourceBusy, || options.open(path))
}

/// Takes a file that is open for writing, in the same way. The lock belongs to what was opened, so it is held
/// by each operation that a ring has under way with it, whatever has become of the process.
///
/// # Errors
/// As flock(2); [`ResourceBusy`](io::ErrorKind::ResourceBusy) if another process has it.
pub fn lock(file: &File) -> io::Result<()> {
    let locked = when_free(io::ErrorKind::WouldBlock, || Ok(file.try_lock()?));
    locked.map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => io::Error::new(
            io::ErrorKind::ResourceBusy,
            "another process has it open for writing, or was killed and its last writes are still under way: \
             stop that process, or try again when they are done",
        ),
        _ => error,
    })
}

/// Tries until it is not `busy` any more, or has been for too long.
fn when_free<T>(busy: io::ErrorKind, mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let deadline = Instant::now() + FREE_WITHIN;
    loop {
        match attempt() {
            Err(error) if error.kind() == busy && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            done => return done,
        }
    }
}

/// Size of an open file or block device in bytes.
///
/// # Errors
/// As lseek(2).
pub fn size(mut file: &File) -> io::Result<u64> {
    file.seek(SeekFrom::End(0))
}
