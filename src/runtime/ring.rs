//! The shard's second ring: file I/O, vectored sends and an alarm, which glommio
//! lacks or does less well. Operations are pushed during a turn of the pump and
//! submitted with one system call at its end.
//!
//! The ring owns what an operation points to until the kernel is done with it, so a
//! caller cannot get that wrong. Nothing here knows what an operation is for: each
//! carries a tag of the caller's that comes back with the result.

use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{Ordering, fence};

use bytes::Bytes;
use io_uring::{IoUring, Probe, opcode, types};
use slab::Slab;

use crate::base::{Mono, PageBuf};

/// Most slices that one send carries, the kernel's `UIO_MAXIOV`.
pub const SLICES_MAX: usize = 1024;

/// Entries of the submission queue; a turn that pushes more submits in between.
const ENTRIES: u32 = 256;
/// Entries of the completion queue. The kernel keeps what does not fit.
const COMPLETIONS: u32 = 2048;

/// One operation. Descriptors must stay open until the submit that follows.
pub enum Op {
    /// Write all of `data` at byte `pos`.
    Write {
        /// File.
        fd: RawFd,
        /// Byte position.
        pos: u64,
        /// What to write; aligned if the file was opened with O_DIRECT.
        data: Bytes,
        /// Complete only when it is durable (RWF_DSYNC).
        through: bool,
    },
    /// fdatasync.
    DataSync {
        /// File.
        fd: RawFd,
    },
    /// fallocate, extending the file.
    Allocate {
        /// File.
        fd: RawFd,
        /// Byte position.
        pos: u64,
        /// Bytes.
        len: u64,
    },
    /// Read up to `len` bytes and append them to `buf`.
    Read {
        /// File.
        fd: RawFd,
        /// Byte position.
        pos: u64,
        /// Most bytes to read; `buf` is given room for them.
        len: usize,
        /// Where to; its length grows by the result.
        buf: Vec<u8>,
    },
    /// Read into the whole of `pages`.
    Load {
        /// File.
        fd: RawFd,
        /// Byte position, a multiple of the block if the file was opened with O_DIRECT.
        pos: u64,
        /// Where to.
        pages: PageBuf,
    },
    /// Send a batch of slices on a blocking socket; the kernel waits for room by itself.
    Send {
        /// Socket.
        fd: RawFd,
        /// What to send.
        batch: Box<SendBatch>,
    },
    /// Wait until the socket takes bytes again.
    Writable {
        /// Socket.
        fd: RawFd,
    },
    /// An alarm, or a new time for the one that is set.
    Alarm {
        /// Absolute time on the monotonic clock.
        at: Box<types::Timespec>,
        /// The alarm to move, if it is set.
        moves: Option<u64>,
    },
}

impl Op {
    /// The submission entry. It points into memory owned by `self`: heap memory, which stays where
    /// it is when `self` moves.
    fn entry(&mut self) -> io_uring::squeue::Entry {
        match self {
            Self::Write {
                fd,
                pos,
                data,
                through,
            } => opcode::Write::new(types::Fd(*fd), data.as_ptr(), len32(data.len()))
                .offset(*pos)
                .rw_flags(if *through { libc::RWF_DSYNC } else { 0 })
                .build(),
            Self::DataSync { fd } => opcode::Fsync::new(types::Fd(*fd))
                .flags(types::FsyncFlags::DATASYNC)
                .build(),
            Self::Allocate { fd, pos, len } => opcode::Fallocate::new(types::Fd(*fd), *len)
                .offset(*pos)
                .build(),
            Self::Read { fd, pos, len, buf } => {
                buf.reserve(*len);
                let room = buf.spare_capacity_mut().as_mut_ptr();
                opcode::Read::new(types::Fd(*fd), room.cast(), len32(*len))
                    .offset(*pos)
                    .build()
            }
            Self::Load { fd, pos, pages } => {
                let room = pages.as_mut_bytes();
                opcode::Read::new(types::Fd(*fd), room.as_mut_ptr(), len32(room.len()))
                    .offset(*pos)
                    .build()
            }
            Self::Send { fd, batch } => {
                let more = if batch.more { libc::MSG_MORE } else { 0 };
                let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL | more;
                opcode::SendMsg::new(types::Fd(*fd), batch.header())
                    .flags(flags as u32)
                    .build()
            }
            Self::Writable { fd } => {
                opcode::PollAdd::new(types::Fd(*fd), libc::POLLOUT as u32).build()
            }
            Self::Alarm { at, moves: None } => opcode::Timeout::new(&raw const **at)
                .flags(types::TimeoutFlags::ABS)
                .build(),
            Self::Alarm {
                at,
                moves: Some(alarm),
            } => opcode::TimeoutUpdate::new(*alarm, &raw const **at)
                .flags(types::TimeoutFlags::ABS)
                .build(),
        }
    }
}

/// One operation moves at most this much; the rest comes back as a short result.
fn len32(len: usize) -> u32 {
    len.min(1 << 30) as u32
}

/// Slices for one vectored send.
pub struct SendBatch {
    parts: VecDeque<Bytes>,
    iov: Vec<libc::iovec>,
    header: libc::msghdr,
    /// Whether bytes follow that this batch does not have: the kernel then does not push a short
    /// last segment out.
    pub more: bool,
}

impl Default for SendBatch {
    fn default() -> Self {
        Self {
            parts: VecDeque::new(),
            iov: Vec::new(),
            // SAFETY: a msghdr is plain data, for which all zeroes means "nothing".
            header: unsafe { std::mem::zeroed() },
            more: false,
        }
    }
}

impl SendBatch {
    /// Adds a slice at the end.
    pub fn push(&mut self, part: Bytes) {
        self.parts.push_back(part);
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Slices in it; at most [`SLICES_MAX`] go out with one operation.
    #[must_use]
    pub fn slices(&self) -> usize {
        self.parts.len()
    }

    /// Drops the `n` bytes that were sent.
    pub fn advance(&mut self, mut n: usize) {
        while let Some(part) = self.parts.front_mut() {
            if n < part.len() {
                bytes::Buf::advance(part, n);
                return;
            }
            n -= part.len();
            self.parts.pop_front();
        }
    }

    fn header(&mut self) -> *const libc::msghdr {
        self.iov.clear();
        self.iov
            .extend(self.parts.iter().take(SLICES_MAX).map(|part| libc::iovec {
                iov_base: part.as_ptr().cast_mut().cast(),
                iov_len: part.len(),
            }));
        self.header.msg_iov = self.iov.as_mut_ptr();
        self.header.msg_iovlen = self.iov.len();
        &raw const self.header
    }
}

/// A finished operation.
pub struct Done<T> {
    /// The caller's tag.
    pub tag: T,
    /// The operation with what it owned.
    pub op: Op,
    /// Bytes moved, or the errno.
    pub result: Result<usize, i32>,
}

struct Pending<T> {
    /// `None`: for the ring itself.
    tag: Option<T>,
    op: Op,
}

/// The ring and everything the kernel may be using.
pub struct Ring<T> {
    uring: IoUring,
    pending: Slab<Pending<T>>,
    done: VecDeque<Done<T>>,
    alarm: Option<(u64, Mono)>,
}

impl<T> Ring<T> {
    /// A new ring; use it on this thread only. With `wake`, that eventfd is signalled for
    /// completions, but only between [`Ring::prepare_sleep`] and [`Ring::awake`].
    ///
    /// # Errors
    /// io_uring is missing, forbidden or out of memory.
    pub fn new(wake: Option<RawFd>) -> io::Result<Self> {
        // Completions are worked off when we enter the kernel anyway, not by interrupting the
        // thread. Kernels before 6.1 do not know that and get the plain ring.
        let uring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_cqsize(COMPLETIONS)
            .dontfork()
            .build(ENTRIES)
            .or_else(|_| {
                IoUring::builder()
                    .setup_cqsize(COMPLETIONS)
                    .dontfork()
                    .build(ENTRIES)
            })?;
        let mut ring = Self {
            uring,
            pending: Slab::new(),
            done: VecDeque::new(),
            alarm: None,
        };
        if let Some(fd) = wake {
            ring.uring.submitter().register_eventfd(fd)?;
            ring.uring.completion().disable_eventfd();
        }
        Ok(ring)
    }

    /// Names of the operations we need that this kernel does not have.
    ///
    /// # Errors
    /// The kernel cannot be asked (before 5.6).
    pub fn missing_operations(&self) -> io::Result<Vec<&'static str>> {
        let mut probe = Probe::new();
        self.uring.submitter().register_probe(&mut probe)?;
        let needed = [
            ("WRITE", opcode::Write::CODE),
            ("READ", opcode::Read::CODE),
            ("FSYNC", opcode::Fsync::CODE),
            ("FALLOCATE", opcode::Fallocate::CODE),
            ("SENDMSG", opcode::SendMsg::CODE),
            ("POLL_ADD", opcode::PollAdd::CODE),
            ("TIMEOUT", opcode::Timeout::CODE),
            ("TIMEOUT_REMOVE", opcode::TimeoutUpdate::CODE),
        ];
        Ok(needed
            .iter()
            .filter(|(_, code)| !probe.is_supported(*code))
            .map(|(n, _)| *n)
            .collect())
    }

    /// Queues an operation for the next [`Ring::submit`].
    pub fn push(&mut self, tag: T, op: Op) {
        self.enqueue(Some(tag), op);
    }

    /// Lets an operation tagged `tag` complete at `at`. There is one alarm: an earlier time moves
    /// it, a later one is ignored, since the pump looks at the clock when it rings anyway.
    pub fn set_alarm(&mut self, tag: T, at: Mono) {
        let time = types::Timespec::new()
            .sec(at.0 / 1_000_000_000)
            .nsec((at.0 % 1_000_000_000) as u32);
        match self.alarm {
            Some((_, set)) if set <= at => {}
            Some((key, _)) => {
                self.alarm = Some((key, at));
                self.enqueue(
                    None,
                    Op::Alarm {
                        at: Box::new(time),
                        moves: Some(key),
                    },
                );
            }
            None => {
                let key = self.enqueue(
                    Some(tag),
                    Op::Alarm {
                        at: Box::new(time),
                        moves: None,
                    },
                );
                self.alarm = Some((key, at));
            }
        }
    }

    /// Operations whose result is not reaped yet.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.pending.len()
    }

    /// Hands everything pushed to the kernel. Many operations complete right here.
    pub fn submit(&mut self) {
        let queue = self.uring.submission();
        if !queue.is_empty() || queue.taskrun() || queue.cq_overflow() {
            drop(queue);
            self.enter(0);
        }
    }

    /// Submits, and waits until at least one operation has completed. Blocks the thread: for
    /// start-up, benchmarks and tests.
    pub fn wait(&mut self) {
        if self.done.is_empty() {
            self.enter(1);
        }
    }

    /// The next finished operation.
    pub fn reap(&mut self) -> Option<Done<T>> {
        if self.done.is_empty() {
            self.collect();
        }
        self.done.pop_front()
    }

    /// From now on the eventfd is signalled for completions. Returns false if there already is one
    /// to look at; then nothing may be slept on.
    pub fn prepare_sleep(&mut self) -> bool {
        self.uring.completion().enable_eventfd();
        // The kernel first posts, then looks whether the eventfd is enabled; we the other way
        // round. With a full barrier on both sides one of us sees the other.
        fence(Ordering::SeqCst);
        self.done.is_empty() && self.uring.completion().is_empty() && {
            let queue = self.uring.submission();
            queue.is_empty() && !queue.taskrun() && !queue.cq_overflow()
        }
    }

    /// No more signals: the caller is looking by itself.
    pub fn awake(&mut self) {
        self.uring.completion().disable_eventfd();
    }

    fn enqueue(&mut self, tag: Option<T>, op: Op) -> u64 {
        let key = self.pending.insert(Pending { tag, op });
        let entry = self.pending[key].op.entry().user_data(key as u64);
        loop {
            // SAFETY: the entry points to heap memory owned by `pending[key]`. That is released
            // only in `collect`, when the kernel has posted the completion, and not even when the
            // ring is dropped; nobody else can reach it before.
            if unsafe { self.uring.submission().push(&entry) }.is_ok() {
                return key as u64;
            }
            self.enter(0);
        }
    }

    fn enter(&mut self, want: usize) {
        loop {
            match self.uring.submitter().submit_and_wait(want) {
                Ok(_) => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The kernel holds more completions than fit: make room for them.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EAGAIN)) => {
                    self.collect();
                }
                // Anything else is a broken ring, without which the shard cannot do anything.
                Err(error) => panic!("io_uring_enter: {error}"),
            }
        }
    }

    fn collect(&mut self) {
        for completion in self.uring.completion() {
            let key = completion.user_data();
            let Pending { tag, mut op } = self.pending.remove(key as usize);
            let result = usize::try_from(completion.result()).map_err(|_| -completion.result());
            match &mut op {
                Op::Read { buf, .. } => {
                    let filled = buf.len() + result.unwrap_or(0);
                    // SAFETY: the kernel has initialised `result` bytes of the spare capacity, and it
                    // was told of no more room than there is.
                    unsafe { buf.set_len(filled) };
                }
                Op::Alarm { moves: None, .. } => self.alarm = None,
                _ => {}
            }
            if let Some(tag) = tag {
                self.done.push_back(Done { tag, op, result });
            }
        }
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        // Closing a ring only starts to cancel what is in flight: the kernel may go on using that
        // memory for a moment, so it is not given back.
        if !self.pending.is_empty() {
            std::mem::forget(std::mem::take(&mut self.pending));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::runtime::sys;

    fn one<T>(ring: &mut Ring<T>) -> Done<T> {
        loop {
            ring.wait();
            if let Some(done) = ring.reap() {
                return done;
            }
        }
    }

    #[test]
    fn writes_syncs_and_reads_a_file() {
        let file = tempfile::tempfile().expect("a scratch file");
        let fd = file.as_raw_fd();
        let mut ring = Ring::new(None).expect("io_uring");
        assert_eq!(ring.missing_operations().ok(), Some(vec![]));
        ring.push(
            1,
            Op::Allocate {
                fd,
                pos: 0,
                len: 8192,
            },
        );
        assert_eq!(one(&mut ring).result, Ok(0));
        ring.push(
            2,
            Op::Write {
                fd,
                pos: 100,
                data: Bytes::from_static(b"abcdef"),
                through: true,
            },
        );
        assert_eq!(one(&mut ring).result, Ok(6));
        ring.push(3, Op::DataSync { fd });
        assert_eq!(one(&mut ring).tag, 3);
        let mut buf = Vec::with_capacity(3);
        buf.push(b'>');
        ring.push(
            4,
            Op::Read {
                fd,
                pos: 101,
                len: 2,
                buf,
            },
        );
        let Done {
            op: Op::Read { buf, .. },
            result: Ok(2),
            ..
        } = one(&mut ring)
        else {
            panic!("a read of two bytes");
        };
        assert_eq!(buf, b">bc");
        ring.push(5, Op::DataSync { fd: -1 });
        assert_eq!(one(&mut ring).result, Err(libc::EBADF));
    }

    #[test]
    fn a_batch_waits_for_a_slow_reader_and_arrives_in_order() {
        let (a, mut b) = UnixStream::pair().expect("sockets");
        let mut ring = Ring::new(None).expect("io_uring");
        let mut batch = Box::new(SendBatch::default());
        let mut sent = Vec::new();
        for i in 0..1000u32 {
            let part = Bytes::from(vec![i as u8; 3000]);
            sent.extend_from_slice(&part);
            batch.push(part);
        }
        ring.push(
            (),
            Op::Send {
                fd: a.as_raw_fd(),
                batch,
            },
        );
        ring.submit();
        let reader = std::thread::spawn(move || {
            let mut got = Vec::new();
            b.read_to_end(&mut got).expect("read");
            got
        });
        assert_eq!(one(&mut ring).result, Ok(sent.len()));
        drop(a);
        assert!(reader.join().expect("reader") == sent);
    }

    #[test]
    fn a_batch_can_be_resumed_anywhere() {
        let mut batch = SendBatch::default();
        batch.push(Bytes::from_static(b"abc"));
        batch.push(Bytes::from_static(b"defg"));
        batch.advance(3);
        assert_eq!(batch.slices(), 1);
        batch.advance(2);
        assert_eq!(batch.parts[0], &b"fg"[..]);
        batch.advance(2);
        assert!(batch.is_empty());
    }

    #[test]
    fn the_alarm_moves_forward_only() {
        let mut ring = Ring::new(None).expect("io_uring");
        let start = sys::now().mono;
        ring.set_alarm("late", start.plus_ms(60_000));
        ring.submit();
        ring.set_alarm("early", start.plus_ms(20));
        ring.set_alarm("later", start.plus_ms(90_000));
        assert_eq!(one(&mut ring).tag, "late");
        let took = sys::now().mono.ms_since(start);
        assert!((20..5000).contains(&took), "{took} ms");
        assert_eq!(ring.in_flight(), 0);
        ring.set_alarm("again", start);
        assert_eq!(one(&mut ring).tag, "again");
    }

    #[test]
    fn the_eventfd_is_signalled_only_while_asleep() {
        use std::os::fd::FromRawFd;
        let wake = sys::EventFd::new().expect("an eventfd");
        let mut ring = Ring::new(Some(wake.as_raw_fd())).expect("io_uring");
        let (a, mut b) = UnixStream::pair().expect("sockets");
        let count = |wake: &sys::EventFd| {
            wake.signal(); // so that reading does not block
            // SAFETY: a descriptor of our own, given away.
            let mut file = unsafe {
                std::fs::File::from_raw_fd(std::os::fd::IntoRawFd::into_raw_fd(
                    wake.reader().expect("dup"),
                ))
            };
            let mut n = [0; 8];
            file.read_exact(&mut n).expect("a count");
            u64::from_ne_bytes(n) - 1
        };
        let fill = |ring: &mut Ring<u8>| {
            ring.push(0, Op::Writable { fd: a.as_raw_fd() });
            ring.submit();
        };
        fill(&mut ring);
        assert!(!ring.prepare_sleep(), "a completion is there");
        ring.awake();
        assert_eq!(count(&wake), 0);
        assert!(ring.reap().is_some());
        // Fill the socket, then sleep on its becoming writable.
        a.set_nonblocking(true).expect("mode");
        while std::io::Write::write(&mut &a, &[0; 65536]).is_ok() {}
        fill(&mut ring);
        assert!(ring.prepare_sleep());
        let mut sink = vec![0; 1 << 20];
        b.set_nonblocking(true).expect("mode");
        while b.read(&mut sink).is_ok_and(|n| n > 0) {}
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!(count(&wake) >= 1);
        ring.awake();
        ring.submit();
        assert!(ring.reap().is_some());
    }
}
