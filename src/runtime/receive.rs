//! The receiving half of a connection: requests are read off its socket for as long
//! as there is room for more in progress. It stops in front of a frame for which
//! there is none, and the client feels that through its socket.
//!
//! Small frames are copied out of a buffer that the ring lends; the rest of a large
//! one is received into the memory that becomes the frame.

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use super::conn::{Conn, Front};
use super::frame::{BadFrame, FrameReader};
use super::pump::Tag;
use super::ring::{Done, LENT_BYTES, Op, Ring};
use crate::broker::Input;

/// If a frame lacks more than this, it is received into its own memory.
const DIRECT_BYTES_MIN: usize = LENT_BYTES / 2;

/// Why nothing more is received.
enum Ending {
    /// The client, or we, closed the connection.
    Closed,
    Failed(io::Error),
    Garbage(BadFrame),
}

/// The receiving half of a connection.
pub struct Receiver {
    conn: Rc<Conn>,
    frames: FrameReader,
    in_flight: bool,
    /// The socket held more than the last operation took.
    more: bool,
    /// What to end with when the frames before it have been taken.
    ending: Option<Ending>,
    over: bool,
}

impl Receiver {
    /// For a new connection.
    #[must_use]
    pub fn new(conn: Rc<Conn>, front: &Front) -> Self {
        Self {
            conn,
            frames: FrameReader::new(front.frame_bytes_max),
            in_flight: false,
            more: false,
            ending: None,
            over: false,
        }
    }

    /// Whether the connection has ended and the socket is not used here any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Takes the completion of the operation in flight.
    pub fn on_done(&mut self, done: Done<Tag>, front: &Front) {
        self.in_flight = false;
        self.more = done.more;
        let op = match (done.result, done.op) {
            (Ok(0), _) => return self.ending = Some(Ending::Closed),
            (Ok(_), op) => op,
            // All buffers are lent to others: the next attempt comes after they were given back.
            (Err(libc::ENOBUFS), _) => return self.more = true,
            (Err(errno), _) => {
                let error = io::Error::from_raw_os_error(errno);
                return self.ending = Some(Ending::Failed(error));
            }
        };
        self.conn.received(front.now.get());
        match op {
            Op::Receive { buf, .. } => self.frames.give_back(buf),
            Op::ReceiveLent {
                data: Some(data), ..
            } => {
                if let Err(bad) = self.frames.feed(&data) {
                    self.ending = Some(Ending::Garbage(bad));
                }
            }
            _ => {}
        }
    }

    /// Takes the frames there is room for, then receives more or ends.
    pub fn advance(&mut self, front: &Front, ring: &mut Ring<Tag>, inputs: &mut VecDeque<Input>) {
        if self.over || self.in_flight {
            return;
        }
        if self.conn.is_closing() {
            self.ending.get_or_insert(Ending::Closed);
        } else if !self.take_frames(front, inputs) {
            return;
        }
        match self.ending.take() {
            Some(ending) => self.end(&ending, front, inputs),
            None => self.receive(front, ring),
        }
    }

    /// False if a frame is left for which there is no room.
    fn take_frames(&mut self, front: &Front, inputs: &mut VecDeque<Input>) -> bool {
        while self.frames.has_ready() {
            // While it was received, a large frame's memory was charged already.
            let charged = self.conn.has_partial();
            if !self.may_go_on(charged, front) {
                return false;
            }
            if let Some(frame) = self.frames.pop() {
                self.conn.admit(frame.len(), &front.budget);
                inputs.push_back(Input::Request {
                    conn: self.conn.id,
                    frame,
                    at: front.now.get(),
                });
            }
        }
        true
    }

    /// Whether there is room; if not, whatever makes some leads to [`Receiver::advance`].
    fn may_go_on(&self, charged: bool, front: &Front) -> bool {
        if !self.conn.has_room() {
            return false;
        }
        let memory = charged || front.budget.may_take(self.conn.id);
        if !memory {
            front.budget.wait(&self.conn);
        }
        memory
    }

    fn receive(&mut self, front: &Front, ring: &mut Ring<Tag>) {
        let fd = self.conn.fd;
        let wait_first = !self.more;
        let op = if self.frames.missing() > DIRECT_BYTES_MIN {
            if !self.may_go_on(false, front) {
                return;
            }
            let (buf, len) = self.frames.lend();
            let held = self.frames.received() + len;
            self.conn.charge_partial(held, &front.budget);
            Op::Receive {
                fd,
                buf,
                len,
                wait_first,
            }
        } else {
            Op::ReceiveLent {
                fd,
                data: None,
                wait_first,
            }
        };
        self.in_flight = true;
        ring.push(Tag::Receive(self.conn.id), op);
    }

    fn end(&mut self, ending: &Ending, front: &Front, inputs: &mut VecDeque<Input>) {
        let peer = self.conn.peer;
        match ending {
            Ending::Closed => tracing::debug!(%peer, "connection ended"),
            Ending::Failed(error) => tracing::debug!(%peer, %error, "connection ended"),
            Ending::Garbage(bad) => front
                .garbage
                .warn(|| format!("connection of {peer} closed: {}", bad.diagnosis())),
        }
        self.over = true;
        self.conn.charge_partial(0, &front.budget);
        front.budget.left(self.conn.id);
        self.conn.close();
        inputs.push_back(Input::ConnClosed { conn: self.conn.id });
    }
}
