//! One worker thread's event loop: epoll over its connections, each with a client
//! that decides what to send and looks at what comes back. Only clients to whom
//! something happened are looked at, so that hundreds of idle ones cost nothing.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use crate::socket::Socket;

/// Frames queued on a socket before the client is asked for more: what the kernel has not taken
/// yet. A client that gets no answers (acks 0) is held back by this alone.
const FRAMES_QUEUED_MAX: usize = 4;
/// Longest sleep, after which every client is asked: so the end of a run is noticed.
const SLEEP_MAX: Duration = Duration::from_millis(50);

/// What a client wants next.
pub enum Next {
    /// Send this frame.
    Send(Vec<Bytes>),
    /// Ask again at this time.
    At(Instant),
    /// Ask again after an answer.
    Answer,
    /// Nothing more will be sent and nothing more is expected.
    Done,
}

/// What all clients of a thread write into.
pub trait Notes {
    /// Called often; the clock as the thread sees it.
    fn tick(&mut self, now: Instant);
}

/// What lives on a connection.
pub trait Client {
    /// What it writes into.
    type Notes: Notes;
    /// What to do next.
    fn next(&mut self, notes: &mut Self::Notes, now: Instant) -> Next;
    /// `frames` of the frames queued have been handed to the kernel, in order.
    fn sent(&mut self, notes: &mut Self::Notes, frames: usize, now: Instant);
    /// An answer came, without its length prefix.
    fn answered(
        &mut self,
        notes: &mut Self::Notes,
        frame: Bytes,
        now: Instant,
    ) -> Result<(), String>;
}

struct Seat<C> {
    socket: Socket,
    client: C,
    queued: usize,
    wants_write: bool,
    /// When it asked to be woken, if it did.
    wake: Option<Instant>,
    done: bool,
}

/// Runs the clients until all are done, and gives them back. The first failure ends the run; not to
/// be done at `give_up` is one.
pub fn run<C: Client>(
    clients: Vec<(Socket, C)>,
    notes: &mut C::Notes,
    give_up: Instant,
) -> Result<Vec<C>, String> {
    let poller = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(epoll_error)?;
    let mut seats = Vec::with_capacity(clients.len());
    for (index, (socket, client)) in clients.into_iter().enumerate() {
        epoll::add(&poller, socket.fd(), data(index), epoll::EventFlags::IN)
            .map_err(epoll_error)?;
        seats.push(Seat {
            socket,
            client,
            queued: 0,
            wants_write: false,
            wake: None,
            done: false,
        });
    }
    let mut open = seats.len();
    let mut timers: BinaryHeap<Reverse<(Instant, usize)>> = BinaryHeap::new();
    let mut ready: Vec<usize> = (0..seats.len()).collect();
    let mut sweep = Instant::now() + SLEEP_MAX;
    let mut events: Vec<epoll::Event> = Vec::with_capacity(seats.len().max(1));
    loop {
        for index in ready.drain(..) {
            let seat = &mut seats[index];
            if seat.done {
                continue;
            }
            if let Some(at) = seat.pump(notes)?
                && seat.wake.is_none_or(|wake| at < wake)
            {
                seat.wake = Some(at);
                timers.push(Reverse((at, index)));
            }
            if seat.done {
                // What it still gets would wake the thread for nothing.
                epoll::delete(&poller, seat.socket.fd()).map_err(epoll_error)?;
                open -= 1;
            } else {
                seat.watch(&poller, index)?;
            }
        }
        if open == 0 {
            break;
        }
        let wake = timers
            .peek()
            .map_or(sweep, |Reverse((at, _))| sweep.min(*at));
        wait(&poller, &mut events, wake)?;
        let now = Instant::now();
        notes.tick(now);
        for event in &events {
            let index = event.data.u64() as usize;
            seats[index].receive(notes)?;
            ready.push(index);
        }
        while let Some(&Reverse((at, index))) = timers.peek().filter(|t| t.0.0 <= now) {
            timers.pop();
            if seats[index].wake == Some(at) {
                seats[index].wake = None;
                ready.push(index);
            }
        }
        if now >= sweep {
            if now >= give_up {
                return Err(String::from(
                    "the broker stopped answering: requests are still open",
                ));
            }
            sweep = now + SLEEP_MAX;
            ready.clear();
            ready.extend((0..seats.len()).filter(|&index| !seats[index].done));
        }
    }
    Ok(seats.into_iter().map(|seat| seat.client).collect())
}

fn wait(
    poller: &impl std::os::fd::AsFd,
    events: &mut Vec<epoll::Event>,
    until: Instant,
) -> Result<(), String> {
    events.clear();
    let timeout = until.saturating_duration_since(Instant::now());
    let timeout = Timespec {
        tv_sec: timeout.as_secs() as i64,
        tv_nsec: i64::from(timeout.subsec_nanos()),
    };
    match epoll::wait(poller, spare_capacity(events), Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(epoll_error(error)),
    }
}

fn epoll_error(error: rustix::io::Errno) -> String {
    format!("epoll: {error}")
}

fn data(index: usize) -> epoll::EventData {
    epoll::EventData::new_u64(index as u64)
}

impl<C: Client> Seat<C> {
    /// Queues and sends what can be; returns when the client wants to be asked again.
    fn pump(&mut self, notes: &mut C::Notes) -> Result<Option<Instant>, String> {
        loop {
            self.flush(notes)?;
            if self.done || self.queued >= FRAMES_QUEUED_MAX {
                return Ok(None);
            }
            match self.client.next(notes, Instant::now()) {
                Next::Send(pieces) => {
                    self.socket.queue(pieces);
                    self.queued += 1;
                }
                Next::At(at) => return Ok(Some(at)),
                Next::Answer => return Ok(None),
                Next::Done => {
                    // What is still queued has to go out first.
                    self.done = self.queued == 0;
                    return Ok(None);
                }
            }
        }
    }

    fn flush(&mut self, notes: &mut C::Notes) -> Result<(), String> {
        let frames = self
            .socket
            .flush()
            .map_err(|error| format!("cannot send: {error}"))?;
        if frames > 0 {
            self.queued -= frames;
            self.client.sent(notes, frames, Instant::now());
        }
        Ok(())
    }

    fn receive(&mut self, notes: &mut C::Notes) -> Result<(), String> {
        let client = &mut self.client;
        self.socket
            .receive(|frame| client.answered(notes, frame, Instant::now()))
    }

    /// Asks the poller for writability exactly while something waits to be sent.
    fn watch(&mut self, poller: &impl std::os::fd::AsFd, index: usize) -> Result<(), String> {
        let wants_write = self.socket.is_sending();
        if wants_write != self.wants_write {
            let mut flags = epoll::EventFlags::IN;
            flags.set(epoll::EventFlags::OUT, wants_write);
            epoll::modify(poller, self.socket.fd(), data(index), flags).map_err(epoll_error)?;
            self.wants_write = wants_write;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// Sends `total` frames, at most two at once, and expects each back.
    struct Echoes {
        total: usize,
        asked: usize,
        sent: usize,
        answered: usize,
        pause_until: Option<Instant>,
    }

    struct Blank;

    impl Notes for Blank {
        fn tick(&mut self, _now: Instant) {}
    }

    impl Client for Echoes {
        type Notes = Blank;

        fn next(&mut self, _: &mut Blank, now: Instant) -> Next {
            if let Some(at) = self.pause_until.filter(|at| now < *at) {
                return Next::At(at);
            }
            if self.answered == self.total {
                return Next::Done;
            }
            if self.asked == self.total || self.asked - self.answered == 2 {
                return Next::Answer;
            }
            self.asked += 1;
            let body = vec![self.asked as u8; 300_000];
            let prefix = (body.len() as u32).to_be_bytes();
            Next::Send(vec![Bytes::copy_from_slice(&prefix), body.into()])
        }

        fn sent(&mut self, _: &mut Blank, frames: usize, _now: Instant) {
            self.sent += frames;
        }

        fn answered(&mut self, _: &mut Blank, frame: Bytes, _now: Instant) -> Result<(), String> {
            self.answered += 1;
            let whole = frame.len() == 300_000 && frame.iter().all(|b| *b == self.answered as u8);
            if whole {
                Ok(())
            } else {
                Err(String::from("not what was sent"))
            }
        }
    }

    /// A peer that sends everything back, or nothing at all.
    fn peer(answers: bool) -> (Socket, std::thread::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut far = listener.accept().unwrap().0;
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 65536];
            while let Ok(len) = far.read(&mut buffer) {
                if len == 0 || (answers && far.write_all(&buffer[..len]).is_err()) {
                    return;
                }
            }
        });
        (Socket::new(near).unwrap(), thread)
    }

    fn echoes(total: usize, pause_until: Option<Instant>) -> Echoes {
        Echoes {
            total,
            asked: 0,
            sent: 0,
            answered: 0,
            pause_until,
        }
    }

    #[test]
    fn every_frame_is_sent_and_answered() {
        let (first, one) = peer(true);
        let (second, two) = peer(true);
        let start = Instant::now();
        let later = start + Duration::from_millis(30);
        let clients = vec![(first, echoes(9, None)), (second, echoes(5, Some(later)))];
        let done = run(clients, &mut Blank, start + Duration::from_secs(30)).unwrap();
        assert!(Instant::now() >= later);
        assert_eq!((done[0].sent, done[0].answered), (9, 9));
        assert_eq!((done[1].sent, done[1].answered), (5, 5));
        one.join().unwrap();
        two.join().unwrap();
    }

    #[test]
    fn silence_ends_the_run() {
        let (socket, thread) = peer(false);
        let give_up = Instant::now() + Duration::from_millis(150);
        let failure = run(vec![(socket, echoes(1, None))], &mut Blank, give_up).err();
        assert!(failure.unwrap().contains("stopped answering"));
        thread.join().unwrap();
    }
}
