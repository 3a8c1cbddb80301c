//! One worker thread's event loop: epoll over its connections, each with a client
//! that decides what to send and looks at what comes back.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use crate::socket::Socket;

/// Frames queued on a socket before the client is asked for more: what the kernel has not taken
/// yet. A client that gets no answers (acks 0) is held back by this alone.
const FRAMES_QUEUED_MAX: usize = 4;
/// Longest sleep, so that the end of a run is noticed.
const SLEEP_MAX: Duration = Duration::from_millis(100);

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

/// What lives on a connection.
pub trait Client {
    /// What to do next.
    fn next(&mut self, now: Instant) -> Next;
    /// `frames` of the frames queued have been handed to the kernel, in order.
    fn sent(&mut self, frames: usize, now: Instant);
    /// An answer came, without its length prefix.
    fn answered(&mut self, frame: Bytes, now: Instant) -> Result<(), String>;
}

struct Seat<C> {
    socket: Socket,
    client: C,
    queued: usize,
    wants_write: bool,
    done: bool,
}

/// Runs the clients until all are done, and gives them back. The first failure ends the run; not to
/// be done at `give_up` is one.
pub fn run<C: Client>(clients: Vec<(Socket, C)>, give_up: Instant) -> Result<Vec<C>, String> {
    let poller = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|e| format!("epoll: {e}"))?;
    let mut seats = Vec::with_capacity(clients.len());
    for (index, (socket, client)) in clients.into_iter().enumerate() {
        epoll::add(&poller, socket.fd(), data(index), epoll::EventFlags::IN)
            .map_err(|e| format!("epoll: {e}"))?;
        seats.push(Seat {
            socket,
            client,
            queued: 0,
            wants_write: false,
            done: false,
        });
    }
    let mut events: Vec<epoll::Event> = Vec::with_capacity(seats.len().max(1));
    while seats.iter().any(|seat| !seat.done) {
        let now = Instant::now();
        if now >= give_up {
            return Err(String::from(
                "the broker stopped answering: requests are still open",
            ));
        }
        let mut wake = now + SLEEP_MAX;
        for (index, seat) in seats.iter_mut().enumerate() {
            if let Some(at) = seat.pump()? {
                wake = wake.min(at);
            }
            seat.watch(&poller, index)?;
        }
        events.clear();
        let timeout = wake.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: timeout.as_secs() as i64,
            tv_nsec: i64::from(timeout.subsec_nanos()),
        };
        match epoll::wait(&poller, spare_capacity(&mut events), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(format!("epoll: {error}")),
        }
        for event in &events {
            seats[event.data.u64() as usize].receive()?;
        }
    }
    Ok(seats.into_iter().map(|seat| seat.client).collect())
}

fn data(index: usize) -> epoll::EventData {
    epoll::EventData::new_u64(index as u64)
}

impl<C: Client> Seat<C> {
    /// Queues and sends what can be; returns when the client wants to be asked again.
    fn pump(&mut self) -> Result<Option<Instant>, String> {
        loop {
            self.flush()?;
            if self.done || self.queued >= FRAMES_QUEUED_MAX {
                return Ok(None);
            }
            match self.client.next(Instant::now()) {
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

    fn flush(&mut self) -> Result<(), String> {
        let frames = self
            .socket
            .flush()
            .map_err(|error| format!("cannot send: {error}"))?;
        if frames > 0 {
            self.queued -= frames;
            self.client.sent(frames, Instant::now());
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<(), String> {
        if self.done {
            return Ok(());
        }
        let client = &mut self.client;
        self.socket
            .receive(|frame| client.answered(frame, Instant::now()))
    }

    /// Asks the poller for writability exactly while something waits to be sent.
    fn watch(&mut self, poller: &impl std::os::fd::AsFd, index: usize) -> Result<(), String> {
        let wants_write = self.socket.is_sending();
        if wants_write != self.wants_write {
            let mut flags = epoll::EventFlags::IN;
            flags.set(epoll::EventFlags::OUT, wants_write);
            epoll::modify(poller, self.socket.fd(), data(index), flags)
                .map_err(|e| format!("epoll: {e}"))?;
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

    impl Client for Echoes {
        fn next(&mut self, now: Instant) -> Next {
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

        fn sent(&mut self, frames: usize, _now: Instant) {
            self.sent += frames;
        }

        fn answered(&mut self, frame: Bytes, _now: Instant) -> Result<(), String> {
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
        let done = run(clients, start + Duration::from_secs(30)).unwrap();
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
        let failure = run(vec![(socket, echoes(1, None))], give_up).err();
        assert!(failure.unwrap().contains("stopped answering"));
        thread.join().unwrap();
    }
}
