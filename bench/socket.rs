//! A non-blocking connection that sends frames in pieces, without joining them,
//! and cuts what comes back into frames.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};

use bytes::{Buf, Bytes};
use rustix::buffer::spare_capacity;

/// Longest answer that is accepted, in bytes.
const FRAME_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Pieces given to one vectored send.
const PIECES_PER_SEND: usize = 64;
/// Room for incoming bytes while no long frame is expected.
const INBOX_BYTES: usize = 64 * 1024;

/// See the module.
pub struct Socket {
    stream: TcpStream,
    outbox: VecDeque<Piece>,
    inbox: Vec<u8>,
}

struct Piece {
    bytes: Bytes,
    ends_frame: bool,
}

impl Socket {
    /// Takes over a connected socket.
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            outbox: VecDeque::new(),
            inbox: Vec::new(),
        })
    }

    /// For the poller.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Whether something waits to be sent.
    pub fn is_sending(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Queues one frame.
    pub fn queue(&mut self, pieces: Vec<Bytes>) {
        let last = pieces.len().saturating_sub(1);
        for (i, bytes) in pieces.into_iter().enumerate() {
            self.outbox.push_back(Piece {
                bytes,
                ends_frame: i == last,
            });
        }
    }

    /// Sends what the socket takes; returns how many frames went out completely.
    pub fn flush(&mut self) -> io::Result<usize> {
        let mut frames = 0;
        while !self.outbox.is_empty() {
            let mut slices = [IoSlice::new(&[]); PIECES_PER_SEND];
            let pieces = self.outbox.len().min(PIECES_PER_SEND);
            for (slice, piece) in slices.iter_mut().zip(&self.outbox) {
                *slice = IoSlice::new(&piece.bytes);
            }
            match self.stream.write_vectored(&slices[..pieces]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => frames += self.drop_sent(sent),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(frames)
    }

    fn drop_sent(&mut self, mut sent: usize) -> usize {
        let mut frames = 0;
        while let Some(front) = self.outbox.front_mut() {
            if front.bytes.len() > sent {
                front.bytes.advance(sent);
                break;
            }
            sent -= front.bytes.len();
            frames += usize::from(front.ends_frame);
            self.outbox.pop_front();
        }
        frames
    }

    /// Receives what is there and gives every whole frame, without its length prefix, to `take`.
    /// The memory of a long frame is used again if `take` keeps nothing of it.
    pub fn receive(
        &mut self,
        mut take: impl FnMut(Bytes) -> Result<(), String>,
    ) -> Result<(), String> {
        loop {
            self.reserve()?;
            let room = self.inbox.capacity() - self.inbox.len();
            match rustix::io::read(&self.stream, spare_capacity(&mut self.inbox)) {
                Ok(0) => return Err(String::from("the broker closed the connection")),
                Ok(got) => {
                    self.cut(&mut take)?;
                    if got < room {
                        // That was all: asking again would only cost a system call.
                        return Ok(());
                    }
                }
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(format!("cannot receive: {error}")),
            }
        }
    }

    /// Makes room for the rest of the frame that is coming in.
    fn reserve(&mut self) -> Result<(), String> {
        let wanted = frame_len(&self.inbox)?.unwrap_or(0).max(INBOX_BYTES);
        self.inbox
            .reserve(wanted.saturating_sub(self.inbox.len()).max(1));
        Ok(())
    }

    fn cut(&mut self, take: &mut impl FnMut(Bytes) -> Result<(), String>) -> Result<(), String> {
        let mut at = 0;
        while let Some(len) = frame_len(&self.inbox[at..])? {
            let rest = &self.inbox[at..];
            if rest.len() < len {
                break;
            }
            if at == 0 && rest.len() == len && len > INBOX_BYTES {
                return self.give_whole(take);
            }
            take(Bytes::copy_from_slice(&rest[4..len]))?;
            at += len;
        }
        self.inbox.drain(..at);
        Ok(())
    }

    /// Lends the inbox itself, which holds exactly one frame.
    fn give_whole(
        &mut self,
        take: &mut impl FnMut(Bytes) -> Result<(), String>,
    ) -> Result<(), String> {
        let frame = Bytes::from(std::mem::take(&mut self.inbox));
        take(frame.slice(4..))?;
        if frame.is_unique() {
            self.inbox = frame.into();
            self.inbox.clear();
        }
        Ok(())
    }
}

/// Length of the frame that begins `bytes`, prefix included, if the prefix is there.
fn frame_len(bytes: &[u8]) -> Result<Option<usize>, String> {
    let Some(prefix) = bytes.first_chunk() else {
        return Ok(None);
    };
    let len = usize::try_from(i32::from_be_bytes(*prefix)).unwrap_or(usize::MAX);
    if len > FRAME_BYTES_MAX {
        return Err(format!("the broker announces an answer of {len} bytes"));
    }
    Ok(Some(4 + len))
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use super::*;

    fn pair() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (Socket::new(near).unwrap(), listener.accept().unwrap().0)
    }

    fn frame(len: usize) -> Vec<u8> {
        let mut frame = (len as u32).to_be_bytes().to_vec();
        frame.extend((0..len).map(|i| i as u8));
        frame
    }

    #[test]
    fn frames_go_out_whole_and_are_counted() {
        let (mut socket, mut peer) = pair();
        socket.queue(vec![Bytes::from_static(b"ab"), Bytes::from_static(b"cd")]);
        socket.queue(vec![Bytes::from_static(b"ef")]);
        assert_eq!(socket.flush().unwrap(), 2);
        assert!(!socket.is_sending());
        let mut got = [0; 6];
        peer.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"abcdef");
    }

    #[test]
    fn frames_come_in_however_they_are_cut() {
        let (mut socket, mut peer) = pair();
        let lens = [10, 0, 200_000, 3, 100_000];
        let mut bytes: Vec<u8> = lens.iter().flat_map(|&len| frame(len)).collect();
        let writer = std::thread::spawn(move || {
            for part in bytes.chunks_mut(7001) {
                peer.write_all(part).unwrap();
            }
            peer
        });
        let mut got = Vec::new();
        while got.len() < lens.len() {
            socket
                .receive(|frame| {
                    assert!(frame.iter().enumerate().all(|(i, b)| *b == i as u8));
                    got.push(frame.len());
                    Ok(())
                })
                .unwrap();
        }
        assert_eq!(got, lens);
        drop(writer.join().unwrap());
        // Loopback delivers the end at once or a little later; until then there is nothing to read.
        let closed = (0..1000).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            socket.receive(|_| Ok(())).err()
        });
        assert_eq!(closed.as_deref(), Some("the broker closed the connection"));
    }

    #[test]
    fn an_absurd_length_is_refused() {
        assert!(frame_len(b"HTTP/1.1 400").is_err());
        assert!(frame_len(&[0xff; 4]).is_err());
        assert_eq!(frame_len(&[0, 0, 0]), Ok(None));
        assert_eq!(frame_len(&[0, 0, 0, 5, 1]), Ok(Some(9)));
    }
}
