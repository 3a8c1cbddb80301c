//! System calls that the standard library does not have, each behind a safe function. Most of the crate's
//! `unsafe` is here and in `ring.rs`.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::ptr::NonNull;

use crate::base::{BLOCK, Mono, Now};

/// Reads both clocks. The monotonic one is `CLOCK_MONOTONIC` itself, which is also what the
/// ring's alarms are set by.
#[must_use]
pub fn now() -> Now {
    let mono = clock(libc::CLOCK_MONOTONIC);
    let wall = clock(libc::CLOCK_REALTIME);
    Now {
        mono: Mono(mono),
        wall_ms: (wall / 1_000_000) as i64,
    }
}

/// The monotonic clock alone: what a stamp on a request takes, some 25 ns.
#[must_use]
pub fn mono() -> Mono {
    Mono(clock(libc::CLOCK_MONOTONIC))
}

/// CPU time of the whole process so far, kernel workers included, in nanoseconds.
#[must_use]
pub fn process_cpu_ns() -> u64 {
    clock(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// CPU time of this thread so far, in nanoseconds. A system call, unlike the clocks.
#[must_use]
pub fn thread_cpu_ns() -> u64 {
    clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn clock(id: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid place for the call to write to; the clocks used exist everywhere.
    unsafe { libc::clock_gettime(id, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// A counter that another thread, or the kernel, raises to wake a shard.
#[derive(Debug)]
pub struct EventFd(OwnedFd);

impl EventFd {
    /// A new one. It blocks: it is read through io_uring, which then arms a poll.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no memory is passed.
        let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) })?;
        // SAFETY: the descriptor is new and nobody else's.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Wakes whoever reads it.
    pub fn signal(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: eight readable bytes. It can fail only when 2^64 - 2 signals are unread.
        unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// A second descriptor for the same counter.
    ///
    /// # Errors
    /// Out of descriptors.
    #[cfg(test)]
    pub fn reader(&self) -> io::Result<OwnedFd> {
        self.0.try_clone()
    }
}

impl AsRawFd for EventFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Ends both directions of a socket, so that whoever reads or writes it finds out.
pub fn shutdown_socket(fd: RawFd) {
    // SAFETY: no memory is passed. A socket that is not connected any more is what we want.
    unsafe { libc::shutdown(fd, libc::SHUT_RDWR) };
}

/// Bytes that the other end of a TCP connection has acknowledged since it was connected; `None` if the
/// system does not say.
#[must_use]
pub fn acknowledged_bytes(fd: RawFd) -> Option<u64> {
    /// Where `tcpi_bytes_acked` is in `struct tcp_info` (linux/tcp.h), which only grows at its end.
    const BYTES_ACKED: usize = 120;
    let mut info = [0u64; 32];
    let mut len = size_of_val(&info) as libc::socklen_t;
    // SAFETY: `len` writable bytes.
    let rc = unsafe {
        libc::getsockopt(
            fd,
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    (rc == 0 && len as usize >= BYTES_ACKED + 8).then(|| info[BYTES_ACKED / 8])
}

/// How many pages of a part of a file are in the page cache, ready or not; `None` if the system does not say (before
/// Linux 6.5).
#[must_use]
pub fn cached_pages(file: RawFd, pos: u64, len: u64) -> Option<u64> {
    /// `SYS_cachestat`, the same number on every architecture.
    const CACHESTAT: libc::c_long = 451;
    let range = [pos, len];
    // `struct cachestat`: in the cache, changed, being written, evicted, evicted lately.
    let mut stat = [0u64; 5];
    // SAFETY: a place of the right size to read from, and one to write to.
    let rc = unsafe {
        let (range, stat) = (range.as_ptr(), stat.as_mut_ptr());
        libc::syscall(CACHESTAT, file, range, stat, 0 as libc::c_uint)
    };
    (rc == 0).then_some(stat[0])
}

/// Lets go what the page cache has of a part of a file, as far as nobody uses it. It may wait for all other cores.
#[cfg(test)]
pub fn drop_cached(file: RawFd, pos: u64, len: u64) {
    let (pos, len) = (pos as libc::off_t, len as libc::off_t);
    // SAFETY: no memory is passed. What was not let go is found out by looking.
    unsafe { libc::posix_fadvise(file, pos, len, libc::POSIX_FADV_DONTNEED) };
}

/// What is read from the file brings in nothing beyond it.
pub fn no_read_ahead(file: &File) {
    // SAFETY: no memory is passed. It changes nothing where it is not known.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_RANDOM) };
}

/// Whether the page with this byte of a file is in the page cache, and read.
#[must_use]
pub fn is_ready(file: RawFd, pos: u64) -> bool {
    read_if_there(file, pos, &mut [0])
}

/// Reads bytes of a file if all of them are in the page cache, and does not wait for any that are not.
#[must_use]
pub fn read_if_there(file: RawFd, pos: u64, bytes: &mut [u8]) -> bool {
    let place = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: one place, of so many writable bytes.
    let read = unsafe {
        libc::preadv2(
            file,
            &raw const place,
            1,
            pos as libc::off_t,
            libc::RWF_NOWAIT,
        )
    };
    usize::try_from(read) == Ok(bytes.len())
}

/// Bytes of a page of memory.
#[must_use]
pub fn page_bytes() -> usize {
    // SAFETY: no memory is passed.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(0)
}

/// Whether the file is on a filesystem that takes out of the page cache what is written past it: ext4 or xfs.
#[must_use]
pub fn invalidates(file: &File) -> bool {
    let mut stat = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: a place of the right type; zeroes are a valid statfs.
    let stat = unsafe {
        if libc::fstatfs(file.as_raw_fd(), stat.as_mut_ptr()) != 0 {
            return false;
        }
        stat.assume_init()
    };
    [libc::EXT4_SUPER_MAGIC, libc::XFS_SUPER_MAGIC].contains(&stat.f_type) && is_written_past(file)
}

/// Whether O_DIRECT goes past the page cache with this file. With data=journal, or encrypted, ext4 takes it and writes
/// into the cache, over what may be on its way to a client.
fn is_written_past(file: &File) -> bool {
    let mut stat = MaybeUninit::<libc::statx>::zeroed();
    let (fd, path, mask) = (file.as_raw_fd(), c"".as_ptr(), libc::STATX_DIOALIGN);
    // SAFETY: an empty path, and a place of the right type; zeroes are a valid statx.
    let stat = unsafe {
        if libc::statx(fd, path, libc::AT_EMPTY_PATH, mask, stat.as_mut_ptr()) != 0 {
            return false;
        }
        stat.assume_init()
    };
    stat.stx_mask & libc::STATX_DIOALIGN != 0 && stat.stx_dio_offset_align != 0
}

/// Sends a part of a file that is in the page cache: as much as the socket takes at once.
///
/// # Errors
/// As sendfile(2): `EAGAIN` if the socket takes nothing now.
pub fn send_file(socket: RawFd, file: RawFd, pos: u64, len: usize) -> io::Result<usize> {
    let mut from = pos as libc::off_t;
    // The ring waits for a socket by itself only if it is one that blocks. It touches it when this thread enters the
    // ring, so it never sees that it does not for a moment. Rust programs ignore SIGPIPE.
    // SAFETY: no memory is passed but a valid position.
    let (sent, error) = unsafe {
        libc::fcntl(socket, libc::F_SETFL, libc::O_RDWR | libc::O_NONBLOCK);
        let (sent, error) = loop {
            let sent = libc::sendfile(socket, file, &raw mut from, len);
            let error = io::Error::last_os_error();
            if sent >= 0 || error.kind() != io::ErrorKind::Interrupted {
                break (sent, error);
            }
        };
        libc::fcntl(socket, libc::F_SETFL, libc::O_RDWR);
        (sent, error)
    };
    usize::try_from(sent).map_err(|_| error)
}

/// Reserves disk blocks for a range and extends the file over it.
///
/// # Errors
/// As fallocate(2): `ENOSPC`, `EOPNOTSUPP`.
pub fn allocate(file: &File, pos: u64, len: u64) -> io::Result<()> {
    let (pos, len) = (pos as libc::off_t, len as libc::off_t);
    // SAFETY: no memory is passed.
    check(unsafe { libc::fallocate(file.as_raw_fd(), 0, pos, len) }).map(drop)
}

/// Bytes free to us on the filesystem of `path`.
///
/// # Errors
/// As statvfs(3).
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes())?;
    let mut stat = MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: a NUL-terminated path and a place of the right type; zeroes are a valid statvfs.
    let stat = unsafe {
        check(libc::statvfs(path.as_ptr(), stat.as_mut_ptr()))?;
        stat.assume_init()
    };
    Ok(stat.f_bavail * stat.f_frsize)
}

/// Soft and hard limit of a resource (`RLIM_INFINITY` is `u64::MAX`).
#[must_use]
pub fn limit(resource: libc::__rlimit_resource_t) -> (u64, u64) {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: a valid place to write to.
    unsafe { libc::getrlimit(resource, &raw mut limit) };
    (limit.rlim_cur, limit.rlim_max)
}

/// Raises the soft limit of a resource to its hard limit; returns what holds afterwards.
pub fn raise_limit(resource: libc::__rlimit_resource_t) -> u64 {
    let (_, hard) = limit(resource);
    let wanted = libc::rlimit {
        rlim_cur: hard,
        rlim_max: hard,
    };
    // SAFETY: a valid structure. A refusal leaves the limit as it is, which the return value says.
    unsafe { libc::setrlimit(resource, &raw const wanted) };
    limit(resource).0
}

/// Does without transparent huge pages, unless `MIMALLOC_ALLOW_THP` decides. The allocator asks for them, and where
/// memory is in pieces a page fault then waits until the kernel has moved others together: milliseconds of the
/// shard's core, in which no request gets on, also for what fits into a few pages.
pub fn avoid_huge_pages() {
    if std::env::var_os("MIMALLOC_ALLOW_THP").is_none() {
        // SAFETY: no memory is passed. A refusal leaves things as they are.
        unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
    }
}

/// Lets the allocator keep what is freed for ten seconds, unless `MIMALLOC_PURGE_DELAY` says otherwise. Given
/// back to the system, memory is zeroed, and mapped page by page, when it is used again: on the core that
/// serves requests, and in a virtual machine at the hypervisor's pace. Load that comes in waves finds it
/// again; what idles goes back.
pub fn keep_freed_memory() {
    /// `mi_option_purge_delay`, the same number in mimalloc 2 and 3.
    const PURGE_DELAY: libc::c_int = 15;
    const MILLISECONDS: libc::c_long = 10_000;
    use mimalloc as _; // its symbol
    unsafe extern "C" {
        fn mi_option_set_default(option: libc::c_int, value: libc::c_long);
    }
    // SAFETY: the signature of mimalloc.h, and an option that it has.
    unsafe { mi_option_set_default(PURGE_DELAY, MILLISECONDS) };
}

/// Address space for so many bytes, without memory. What is in it stays out of core dumps. Its pages are small: one of
/// 2 MiB that a hypervisor has to find first stops the whole core until it is there, 30 to 100 ms now and then.
///
/// # Errors
/// As mmap(2): a limit, there is no overcommitting, or `bytes` is 0.
pub fn reserve(bytes: usize) -> io::Result<NonNull<u8>> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping; no memory of ours is touched.
    unsafe {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let at = libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0);
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        libc::madvise(at, bytes, libc::MADV_NOHUGEPAGE);
        libc::madvise(at, bytes, libc::MADV_DONTDUMP);
        Ok(NonNull::new_unchecked(at.cast()))
    }
}

/// Has the kernel give memory for a part of what was reserved, a page at a time: so nobody else of this process, who
/// changes what is mapped, waits for more than one of them. (madvise(2) would hold them up for all of it, and longer
/// where this thread loses the core.)
///
/// # Safety
/// `at` and `bytes` are part of what [`reserve`] gave, and nobody relies on what is in it, nor borrows it.
pub unsafe fn touch(at: NonNull<u8>, bytes: usize) {
    for page in (0..bytes).step_by(BLOCK) {
        // SAFETY: the caller's.
        unsafe { at.add(page).write_volatile(0) };
    }
}

/// Gives the memory of a part of what was reserved back, a little at a time: whoever changes what is mapped waits for
/// less than a call, which for a step as a whole takes a third of a millisecond. (In still smaller parts all of it
/// takes half as long again.)
///
/// # Safety
/// `at` and `bytes` are part of what [`reserve`] gave, and nobody relies on what is in it, nor borrows it.
pub unsafe fn depopulate(at: NonNull<u8>, bytes: usize) {
    const PART: usize = 64 * BLOCK;
    for from in (0..bytes).step_by(PART) {
        let len = PART.min(bytes - from);
        // SAFETY: the caller's. If it fails, the memory stays.
        unsafe { libc::madvise(at.add(from).as_ptr().cast(), len, libc::MADV_DONTNEED) };
    }
}

/// Gives back what was reserved.
///
/// # Safety
/// `at` and `bytes` are what [`reserve`] was asked for and gave, and nobody borrows any of it.
pub unsafe fn unreserve(at: NonNull<u8>, bytes: usize) {
    // SAFETY: the caller's.
    unsafe { libc::munmap(at.as_ptr().cast(), bytes) };
}

/// Lets this thread have the core only when no other one wants it.
pub fn step_back() {
    let lowest = libc::sched_param { sched_priority: 0 };
    // SAFETY: a valid structure; 0 is this thread. A refusal leaves things as they are.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const lowest) };
}

/// Blocks the signals that [`wait_for_signal`] waits for in this thread and those it starts.
pub fn block_signals() {
    let set = awaited_signals();
    // SAFETY: a valid set; the old mask is not asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
}

/// What a signal asks of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT, by its number: to stop.
    Stop(i32),
    /// SIGHUP: to read the settings again.
    Reload,
    /// Signals that other daemons give a meaning, by name. Their default would end the process.
    Other(&'static str),
}

/// Waits for one of these signals; they have to be blocked in every thread.
#[must_use]
pub fn wait_for_signal() -> Signal {
    let set = awaited_signals();
    let mut signal = 0;
    // SAFETY: a valid set and a place to write to.
    while unsafe { libc::sigwait(&raw const set, &raw mut signal) } != 0 {}
    if signal == libc::SIGHUP {
        return Signal::Reload;
    }
    match OTHER_SIGNALS.iter().find(|(number, _)| *number == signal) {
        Some((_, name)) => Signal::Other(name),
        None => Signal::Stop(signal),
    }
}

const STOP_SIGNALS: [i32; 2] = [libc::SIGTERM, libc::SIGINT];
/// Those whose default would end or stop the process; SIGABRT and those of faults do, as they should, and SIGKILL and
/// SIGSTOP whatever one does. SIGPIPE is ignored by the standard library, and SIGTSTP stops what a person runs in a
/// terminal, who wants that.
const OTHER_SIGNALS: [(i32, &str); 9] = [
    (libc::SIGUSR1, "SIGUSR1"),
    (libc::SIGUSR2, "SIGUSR2"),
    (libc::SIGALRM, "SIGALRM"),
    (libc::SIGVTALRM, "SIGVTALRM"),
    (libc::SIGPROF, "SIGPROF"),
    (libc::SIGIO, "SIGIO"),
    (libc::SIGPWR, "SIGPWR"),
    (libc::SIGSTKFLT, "SIGSTKFLT"),
    (libc::SIGQUIT, "SIGQUIT"),
];

fn awaited_signals() -> libc::sigset_t {
    let others = OTHER_SIGNALS.iter().map(|(number, _)| *number);
    let mut set = MaybeUninit::zeroed();
    // SAFETY: sigemptyset initialises the set, sigaddset adds valid signals to it.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in STOP_SIGNALS.into_iter().chain([libc::SIGHUP]).chain(others) {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        set.assume_init()
    }
}

/// Lets a command line program end quietly when the reader of its output is gone (`... | head`), as
/// others do. Not for a program that writes to sockets with write(2).
pub fn end_on_broken_pipe() {
    // SAFETY: SIG_DFL is a valid disposition, and no thread has been started that could rely on another.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// Whether the files of a directory live in memory alone, and are gone when the machine stops.
#[must_use]
pub fn is_in_memory(path: &Path) -> bool {
    let Ok(path) = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()) else {
        return false;
    };
    let mut stat = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: a NUL-terminated path and a place of the right type; zeroes are a valid statfs.
    let stat = unsafe {
        if libc::statfs(path.as_ptr(), stat.as_mut_ptr()) != 0 {
            return false;
        }
        stat.assume_init()
    };
    stat.f_type == libc::TMPFS_MAGIC
}

/// Cores' worth of CPU time that the control group allows, if it sets a limit.
#[must_use]
pub fn cpu_quota() -> Option<f64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    read("/sys/fs/cgroup/cpu.max")
        .and_then(|text| parse_cpu_max(&text))
        .or_else(|| {
            let quota = read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")?;
            let period = read("/sys/fs/cgroup/cpu/cpu.cfs_period_us")?;
            parse_cpu_max(&format!("{} {}", quota.trim(), period.trim()))
        })
}

/// `quota period` in microseconds; `max` or a negative quota means none.
fn parse_cpu_max(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

fn check(rc: libc::c_int) -> io::Result<libc::c_int> {
    if rc < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(rc)
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn bytes_are_acknowledged() {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let mut client = std::net::TcpStream::connect(address).expect("connected");
        let (mut socket, _) = listener.accept().expect("accepted");
        let acked = |socket: &std::net::TcpStream| {
            acknowledged_bytes(socket.as_raw_fd()).expect("this kernel says it")
        };
        let before = acked(&socket);
        socket.write_all(&[1; 1000]).expect("sent");
        client.read_exact(&mut [0; 1000]).expect("received");
        // An answer carries the acknowledgement.
        client.write_all(&[1]).expect("sent");
        socket.read_exact(&mut [0; 1]).expect("received");
        assert_eq!(acked(&socket) - before, 1000);
    }

    #[test]
    fn cpu_max_of_both_cgroup_versions() {
        assert_eq!(parse_cpu_max("150000 100000\n"), Some(1.5));
        assert_eq!(parse_cpu_max("max 100000\n"), None);
        assert_eq!(parse_cpu_max("-1 100000"), None);
        assert_eq!(parse_cpu_max(""), None);
    }
}
