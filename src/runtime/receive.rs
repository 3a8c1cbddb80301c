//! The receiving half of a connection: requests are read off its socket for as long
//! as there is room for more in progress. It stops in front of a frame for which
//! there is none, and the client feels that through its socket.
//!
//! Small frames are copied out of a buffer that the ring lends; the rest of a large
//! one is received into the memory that becomes the frame.

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use super::budget::Grant;
use super::conn::{Conn, Shared};
use super::frame::{BadFrame, FrameReader};
use super::ring::{Done, LENT_BYTES, Op, Ring};
use super::tag::Tag;
use crate::base::limits::SMALL_REQUEST_BYTES_MAX;
use crate::broker::Input;

/// If a frame lacks more than this, it is received into its own memory,
const DIRECT_BYTES_MIN: usize = LENT_BYTES / 2;
/// once so much of it has come. Before, its client has only announced it.
const DIRECT_FROM_BYTES: usize = LENT_BYTES / 4;
// A frame that is not small is received into its own memory at least once, and asks for memory then.
const _: () = assert!(DIRECT_FROM_BYTES + LENT_BYTES + DIRECT_BYTES_MIN <= SMALL_REQUEST_BYTES_MAX);

/// Why nothing more is received.
enum Ending {
    /// The client, or we, closed the connection.
    Closed,
    Failed(io::Error),
    Garbage(BadFrame),
    /// No more requests are taken.
    Refused,
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
    /// Nothing more is received, but the client gets what it has asked for.
    answering: bool,
    /// No more requests are taken, those included that are here.
    refused: bool,
    /// The shard knows that the connection is gone.
    told: bool,
    over: bool,
}

impl Receiver {
    /// For a new connection.
    #[must_use]
    pub fn new(conn: Rc<Conn>, shared: &Shared) -> Self {
        Self {
            frames: FrameReader::new(shared.frame_bytes_max_of(&conn)),
            conn,
            in_flight: false,
            more: false,
            ending: None,
            answering: false,
            refused: false,
            told: false,
            over: false,
        }
    }

    /// Whether the connection has ended and the socket is not used here any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Takes no more requests, and receives nothing from the next [`Receiver::advance`] on.
    pub fn take_no_more(&mut self) {
        self.refused = true;
    }

    /// Tells the shard, once, that the connection is gone.
    pub fn tell_closed(&mut self, inputs: &mut VecDeque<Input>) {
        if !std::mem::replace(&mut self.told, true) {
            inputs.push_back(Input::ConnClosed { conn: self.conn.id });
        }
    }

    /// Takes the completion of the operation in flight.
    pub fn on_done(&mut self, done: Done<Tag>, shared: &Shared) {
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
        self.conn.received(&self.frames, shared);
    }

    /// Takes the frames there is room for, then receives more or ends.
    pub fn advance(&mut self, shared: &Shared, ring: &mut Ring<Tag>, inputs: &mut VecDeque<Input>) {
        if self.over || self.in_flight {
            return;
        }
        if self.conn.is_closing() {
            self.ending.get_or_insert(Ending::Closed);
        } else if self.refused {
            self.ending.get_or_insert(Ending::Refused);
        } else if shared.stopping.get() && !self.conn.is_node.get() {
            // What is in progress is still answered; nothing more is taken.
            if self.ending.is_none() {
                return;
            }
        } else if !self.take_frames(shared, inputs) {
            return;
        }
        match &self.ending {
            None => self.receive(shared, ring),
            // As in Kafka, what came before garbage is answered, and so is a client that only shuts its sending
            // side down.
            Some(Ending::Closed | Ending::Garbage(_) | Ending::Refused)
                if !self.conn.is_closing() && self.conn.is_waiting() =>
            {
                self.receive_no_more(shared)
            }
            Some(_) => self.end(shared, inputs),
        }
    }

    /// False if a frame is left for which there is no room.
    fn take_frames(&mut self, shared: &Shared, inputs: &mut VecDeque<Input>) -> bool {
        while let Some(len) = self.frames.next_len() {
            let Some(grant) = self.may_admit(len, shared) else {
                return false;
            };
            if let Some(frame) = self.frames.pop() {
                let frame = self.conn.admit(&self.frames, frame, grant, shared);
                inputs.push_back(Input::Request {
                    conn: self.conn.id,
                    frame,
                    at: shared.now.get(),
                });
            }
        }
        true
    }

    /// Whether there is room for a whole frame; if not, whatever makes some leads to [`Receiver::advance`].
    fn may_admit(&self, len: usize, shared: &Shared) -> Option<Grant> {
        if !self.conn.has_room(shared) {
            return None;
        }
        if len > SMALL_REQUEST_BYTES_MAX {
            // It was asked for while it was received.
            return Some(Grant::Shared);
        }
        let alone = !self.conn.is_waiting();
        let budget = shared.budget_of(&self.conn);
        let grant = budget.may_admit_small(self.conn.id, len, alone);
        if grant.is_none() {
            budget.wait(&self.conn.waiter, shared.now.get());
        }
        grant
    }

    fn receive(&mut self, shared: &Shared, ring: &mut Ring<Tag>) {
        let fd = self.conn.fd;
        let wait_first = !self.more;
        let large = self.frames.missing() > DIRECT_BYTES_MIN;
        let op = if large && self.frames.received() >= DIRECT_FROM_BYTES {
            if !self.conn.has_room(shared) {
                return;
            }
            let budget = shared.budget_of(&self.conn);
            if !budget.may_take(self.conn.id, shared.now.get()) {
                budget.wait(&self.conn.waiter, shared.now.get());
                return;
            }
            let (buf, len) = self.frames.lend();
            self.conn.charge_partial(self.frames.memory(), shared);
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
        self.conn.receiving(&self.frames, shared);
        ring.push(Tag::Receive(self.conn.id), op);
    }

    /// Everything in progress is still answered; if the client has gone, unless that takes too long.
    fn receive_no_more(&mut self, shared: &Shared) {
        if !self.answering {
            self.answering = true;
            self.frames = FrameReader::new(shared.frame_bytes_max_of(&self.conn));
            self.conn.receives_no_more(shared);
            if matches!(self.ending, Some(Ending::Closed)) {
                self.conn.half_closed(shared);
            }
        }
    }

    fn end(&mut self, shared: &Shared, inputs: &mut VecDeque<Input>) {
        let peer = self.conn.peer;
        match &self.ending {
            None | Some(Ending::Closed | Ending::Refused) => {
                tracing::debug!(%peer, "connection ended")
            }
            Some(Ending::Failed(error)) => tracing::debug!(%peer, %error, "connection ended"),
            Some(Ending::Garbage(bad)) => shared
                .garbage
                .warn(|| format!("connection of {peer} closed: {}", bad.diagnosis())),
        }
        self.over = true;
        self.frames = FrameReader::new(shared.frame_bytes_max_of(&self.conn));
        self.conn.receives_no_more(shared);
        self.conn.close();
        self.tell_closed(inputs);
    }
}
