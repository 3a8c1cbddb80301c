//! A shard's io_uring: everything it waits for comes through it, sockets, files and
//! the bell of the mesh. Operations are pushed during a turn of the pump; one system
//! call at its end submits them all and, if there is nothing else to do, sleeps.
//!
//! The ring owns what an operation points to until the kernel is done with it, so a
//! caller cannot get that wrong. Nothing here knows what an operation is for: each
//! carries a tag of the caller's that comes back with the result.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use io_uring::{IoUring, Probe, cqueue, opcode, squeue, types};
use slab::Slab;

pub use super::batch::{SLICES_MAX, SendBatch};
pub use super::lent::LENT_BYTES;
use super::lent::{GROUP, Lender, Lent};
use super::sys;
use crate::base::{Mono, PageBuf};

/// Entries of the submission queue; a turn that pushes more submits in between.
const ENTRIES: u32 = 256;
/// Entries of the completion queue. The kernel keeps what does not fit.
const COMPLETIONS: u32 = 2048;
/// `IORING_RECVSEND_POLL_FIRST`: do not even try before the socket says that there is something.
const POLL_FIRST: u16 = 1;

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
    /// Begin to read a part of a file into the page cache.
    Advise {
        /// File, without O_DIRECT.
        fd: RawFd,
        /// Byte position.
        pos: u64,
        /// Bytes.
        len: usize,
    },
    /// Let go what the page cache has of a part of a file, as far as nobody uses it.
    Forget {
        /// File.
        fd: RawFd,
        /// Byte position.
        pos: u64,
        /// Bytes.
        len: usize,
    },
    /// Wait until a socket takes something, or never will.
    Writable {
        /// Socket.
        fd: RawFd,
    },
    /// Send a batch of slices on a blocking socket; the kernel waits for room by itself.
    Send {
        /// Socket.
        fd: RawFd,
        /// What to send.
        batch: Box<SendBatch>,
    },
    /// Accept a connection on a listening socket.
    Accept {
        /// Listening socket.
        fd: RawFd,
        /// The connection, once there is one.
        accepted: Option<OwnedFd>,
    },
    /// Receive up to `len` bytes, whatever there is, and append them to `buf`.
    Receive {
        /// Socket.
        fd: RawFd,
        /// Where to; its length grows by the result.
        buf: Vec<u8>,
        /// Most bytes to receive; `buf` is given room for them.
        len: usize,
        /// Whether the socket is known to be empty.
        wait_first: bool,
    },
    /// Receive what there is into a buffer of the ring's.
    ReceiveLent {
        /// Socket.
        fd: RawFd,
        /// What was received.
        data: Option<Lent>,
        /// Whether the socket is known to be empty.
        wait_first: bool,
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
            Self::Advise { fd, pos, len } => {
                let len = len32(*len) as libc::off_t;
                opcode::Fadvise::new(types::Fd(*fd), len, libc::POSIX_FADV_WILLNEED)
                    .offset(*pos)
                    .build()
            }
            Self::Forget { fd, pos, len } => {
                let len = len32(*len) as libc::off_t;
                opcode::Fadvise::new(types::Fd(*fd), len, libc::POSIX_FADV_DONTNEED)
                    .offset(*pos)
                    .build()
            }
            Self::Writable { fd } => {
                opcode::PollAdd::new(types::Fd(*fd), libc::POLLOUT as u32).build()
            }
            Self::Send { fd, batch } => {
                let more = if batch.more { libc::MSG_MORE } else { 0 };
                let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL | more;
                // One slice needs no list, which the kernel would have to copy and check.
                if let Some(part) = batch.only() {
                    opcode::Send::new(types::Fd(*fd), part.as_ptr(), len32(part.len()))
                        .flags(flags)
                        .build()
                } else {
                    opcode::SendMsg::new(types::Fd(*fd), batch.header())
                        .flags(flags as u32)
                        .build()
                }
            }
            Self::Accept { fd, .. } => {
                let (address, len) = (std::ptr::null_mut(), std::ptr::null_mut());
                opcode::Accept::new(types::Fd(*fd), address, len)
                    .flags(libc::SOCK_CLOEXEC)
                    .build()
            }
            Self::Receive {
                fd,
                buf,
                len,
                wait_first,
            } => {
                buf.reserve(*len);
                let room = buf.spare_capacity_mut().as_mut_ptr();
                opcode::Recv::new(types::Fd(*fd), room.cast(), len32(*len))
                    .ioprio(if *wait_first { POLL_FIRST } else { 0 })
                    .build()
            }
            Self::ReceiveLent { fd, wait_first, .. } => {
                opcode::Recv::new(types::Fd(*fd), std::ptr::null_mut(), 0)
                    .buf_group(GROUP)
                    .ioprio(if *wait_first { POLL_FIRST } else { 0 })
                    .build()
                    .flags(squeue::Flags::BUFFER_SELECT)
            }
        }
    }
}

/// One operation moves at most this much; the rest comes back as a short result.
fn len32(len: usize) -> u32 {
    len.min(1 << 30) as u32
}

/// A finished operation.
pub struct Done<T> {
    /// The caller's tag.
    pub tag: T,
    /// The operation with what it owned.
    pub op: Op,
    /// Bytes moved, or the errno.
    pub result: Result<usize, i32>,
    /// The socket holds more than was received.
    pub more: bool,
}

struct Pending<T> {
    tag: T,
    op: Op,
}

/// The ring and everything the kernel may be using.
pub struct Ring<T> {
    uring: IoUring,
    pending: Slab<Pending<T>>,
    done: VecDeque<Done<T>>,
    lender: Rc<Lender>,
}

impl<T> Ring<T> {
    /// A new ring; use it on this thread only.
    ///
    /// # Errors
    /// io_uring is missing, forbidden, too old or out of memory.
    pub fn new() -> io::Result<Self> {
        // Completions are worked off when we enter the kernel anyway, not by interrupting the
        // thread.
        let uring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(COMPLETIONS)
            .dontfork()
            .build(ENTRIES)?;
        let lender = Lender::register(&uring.submitter())?;
        Ok(Self {
            uring,
            pending: Slab::new(),
            done: VecDeque::new(),
            lender,
        })
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
            ("FADVISE", opcode::Fadvise::CODE),
            ("POLL_ADD", opcode::PollAdd::CODE),
            ("SEND", opcode::Send::CODE),
            ("SENDMSG", opcode::SendMsg::CODE),
            ("ACCEPT", opcode::Accept::CODE),
            ("RECV", opcode::Recv::CODE),
        ];
        Ok(needed
            .iter()
            .filter(|(_, code)| !probe.is_supported(*code))
            .map(|(n, _)| *n)
            .collect())
    }

    /// Queues an operation for the next [`Ring::submit`].
    pub fn push(&mut self, tag: T, op: Op) {
        let key = self.pending.insert(Pending { tag, op });
        let entry = self.pending[key].op.entry().user_data(key as u64);
        loop {
            // SAFETY: the entry points to heap memory owned by `pending[key]`. That is released
            // only in `collect`, when the kernel has posted the completion, and not even when the
            // ring is dropped; nobody else can reach it before.
            if unsafe { self.uring.submission().push(&entry) }.is_ok() {
                return;
            }
            self.enter(0, Mono::NEVER);
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
            self.enter(0, Mono::NEVER);
        }
    }

    /// Submits, and blocks the thread until at least one operation has completed.
    pub fn wait(&mut self) {
        self.wait_until(Mono::NEVER);
    }

    /// Submits, and blocks the thread until at least one operation has completed or it is `until`.
    pub fn wait_until(&mut self, until: Mono) {
        if self.done.is_empty() {
            self.enter(1, until);
        } else {
            self.submit();
        }
    }

    /// Whether an operation has finished that is not reaped yet; asks nobody.
    pub fn has_done(&mut self) -> bool {
        !self.done.is_empty() || !self.uring.completion().is_empty()
    }

    /// The next finished operation.
    pub fn reap(&mut self) -> Option<Done<T>> {
        if self.done.is_empty() {
            self.collect();
        }
        self.done.pop_front()
    }

    fn enter(&mut self, mut want: usize, until: Mono) {
        loop {
            let entered = if until == Mono::NEVER {
                self.uring.submitter().submit_and_wait(want)
            } else {
                let left = until.0.saturating_sub(sys::mono().0);
                let left = types::Timespec::from(Duration::from_nanos(left));
                let args = types::SubmitArgs::new().timespec(&left);
                self.uring.submitter().submit_with_args(want, &args)
            };
            let Err(error) = entered else { return };
            match error.raw_os_error() {
                Some(libc::ETIME) => return,
                Some(libc::EINTR) => {}
                // The kernel holds more completions than fit: make room for them, and look at them
                // before sleeping.
                Some(libc::EBUSY | libc::EAGAIN) => {
                    self.collect();
                    want = 0;
                }
                // Anything else is a broken ring, without which the shard cannot do anything.
                _ => panic!("io_uring_enter: {error}"),
            }
        }
    }

    fn collect(&mut self) {
        for completion in self.uring.completion() {
            let key = completion.user_data();
            let Pending { tag, mut op } = self.pending.remove(key as usize);
            let result = usize::try_from(completion.result()).map_err(|_| -completion.result());
            let flags = completion.flags();
            match &mut op {
                Op::Read { buf, .. } | Op::Receive { buf, .. } => {
                    let filled = buf.len() + result.unwrap_or(0);
                    // SAFETY: the kernel has initialised `result` bytes of the spare capacity, and it
                    // was told of no more room than there is.
                    unsafe { buf.set_len(filled) };
                }
                Op::ReceiveLent { data, .. } => {
                    let len = result.unwrap_or(0);
                    // SAFETY: this is the completion with that buffer, and its result.
                    *data =
                        cqueue::buffer_select(flags).map(|id| unsafe { self.lender.lent(id, len) });
                }
                Op::Accept { accepted, .. } => {
                    // SAFETY: the descriptor is new and nobody else's.
                    *accepted = result
                        .ok()
                        .map(|fd| unsafe { OwnedFd::from_raw_fd(fd as RawFd) });
                }
                _ => {}
            }
            let more = cqueue::sock_nonempty(flags);
            self.done.push_back(Done {
                tag,
                op,
                result,
                more,
            });
        }
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        // Closing a ring only starts to cancel what is in flight: the kernel may go on using that
        // memory for a moment, so it is not given back.
        self.collect();
        if !self.pending.is_empty() {
            std::mem::forget(std::mem::take(&mut self.pending));
            std::mem::forget(Rc::clone(&self.lender));
        }
    }
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
