//! A shard that does what its clients tell it to, for the tests of the driver. The
//! first byte of a frame is a command, see [`Shard::request`].

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::base::{BLOCK, IdMap, Mono, Now, PageBuf, ShardId, StoreId};
use crate::broker::trace::Board;
use crate::broker::{ClusterSetup, ConnId, Input, LinkId, Output, ReadId};
use crate::config::BrokerConfig;
use crate::controller::Directory;
use crate::store::{ChunkPin, DiskError, DiskOp, IoId, Piece, RecoveryReport, StoreConfig};

/// Length of a formatted store.
pub const STORE_BYTES: usize = 4 << 20;

/// The byte that a formatted store has at `pos`, from the journal on: what is before belongs to the driver.
pub fn pattern(pos: u64) -> u8 {
    (pos ^ (pos >> 8) ^ (pos >> 16)) as u8
}

/// A directory on the disk that the build is on: what is in memory only has no page cache to drop,
/// and a killed test leaves nothing among the sources.
pub fn scratch() -> tempfile::TempDir {
    let exe = std::env::current_exe().expect("this program");
    tempfile::tempdir_in(exe.parent().expect("its directory")).expect("a scratch directory")
}

pub struct StoreSlot(StoreId);

impl StoreSlot {
    pub fn begin(&mut self) -> Vec<DiskOp> {
        Vec::new()
    }
}

pub struct ShardSetup {
    pub id: ShardId,
    pub shards: u16,
    pub config: Arc<BrokerConfig>,
    pub seed: u64,
    pub slots: Vec<StoreSlot>,
    pub directories: Vec<Directory>,
    pub cluster: Option<Arc<ClusterSetup>>,
    pub board: Arc<Board>,
}

pub fn open_store(
    id: StoreId,
    _settings: StoreConfig,
    _config: &BrokerConfig,
    _now: Now,
    file_len: u64,
    read: &mut dyn FnMut(u64, usize) -> Result<Bytes, DiskError>,
) -> Result<(StoreSlot, RecoveryReport), String> {
    let bytes = read(4097, 100).map_err(|error| format!("{error:?}"))?;
    if file_len >= STORE_BYTES as u64 && bytes[..] == pattern_bytes(4097, 100)[..] {
        Ok((StoreSlot(id), RecoveryReport::default()))
    } else {
        Err("not the pattern".into())
    }
}

pub fn pattern_bytes(pos: u64, len: usize) -> Vec<u8> {
    (pos..pos + len as u64).map(pattern).collect()
}

pub fn format_store(id: StoreId, _settings: StoreConfig, _seed: u64) -> (StoreSlot, Vec<DiskOp>) {
    let mut pages = PageBuf::zeroed(STORE_BYTES);
    pages
        .as_mut_bytes()
        .copy_from_slice(&pattern_bytes(0, STORE_BYTES));
    let write = DiskOp::Write {
        id: IoId(0),
        pos: 0,
        data: pages.freeze(),
        background: false,
        through: false,
    };
    (
        StoreSlot(id),
        vec![
            write,
            DiskOp::Sync {
                id: IoId(1),
                background: false,
            },
        ],
    )
}

#[derive(Default)]
struct Conn {
    /// Replies in order; `None` is not known yet. With the number of the first.
    replies: VecDeque<Option<Vec<Piece>>>,
    first: u64,
    peer: String,
    /// No more requests of it are looked at.
    ending: bool,
}

#[derive(Default)]
pub struct Shard {
    store: StoreId,
    conns: IdMap<ConnId, Conn>,
    timers: Vec<(Mono, ConnId, u64)>,
    next_io: u64,
    ios: IdMap<IoId, (ConnId, u64, Option<DiskOp>)>,
    reads: IdMap<ReadId, (ConnId, u64)>,
    links: IdMap<LinkId, (ConnId, u64)>,
    draining: bool,
}

impl Shard {
    pub fn new(setup: ShardSetup) -> Self {
        let ShardSetup {
            id,
            shards,
            config,
            seed: _,
            slots,
            directories,
            cluster,
            board: _,
        } = setup;
        assert!(
            id.0 < shards
                && cluster.is_none()
                && !slots.is_empty()
                && !directories.is_empty()
                && !config.host_name.is_empty()
        );
        Self {
            store: slots[0].0,
            ..Self::default()
        }
    }

    /// It has no tail.
    pub fn tail_bytes_missed(&self) -> u64 {
        0
    }

    pub fn is_at_rest(&self) -> bool {
        self.ios.is_empty()
    }

    pub fn end(&mut self) -> Vec<(StoreId, Vec<DiskOp>)> {
        Vec::new()
    }

    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::ConnOpened { conn, peer, .. } => {
                let peer = peer.to_string();
                self.conns.insert(
                    conn,
                    Conn {
                        peer,
                        ..Conn::default()
                    },
                );
            }
            Input::Sent { .. }
            | Input::Turn { .. }
            | Input::DiskReads(_)
            | Input::TailBytesMax(_)
            | Input::Settings(_) => {}
            Input::ConnClosed { conn } => drop(self.conns.remove(&conn)),
            Input::Start => out.push(Output::Ready),
            Input::Request { conn, frame, .. } => self.request(now, conn, &frame, out),
            Input::LinkUp { link } => {
                let hello = Bytes::from_static(b"\0\0\0\x04ehoi");
                let pieces = vec![hello.slice(..2), hello.slice(2..)];
                out.push(Output::LinkSend { link, pieces });
            }
            Input::LinkSent { bytes, .. } => assert!((1..=8).contains(&bytes)),
            Input::LinkReceived { link, frame } => {
                let (conn, n) = self.links.remove(&link).expect("a link we asked for");
                out.push(Output::LinkClose { link });
                self.reply(conn, n, vec![Piece::Memory(frame)], out);
            }
            Input::LinkDown { link, why } => {
                let (conn, n) = self.links.remove(&link).expect("a link we asked for");
                let why = format!("{why:?}");
                self.reply(conn, n, vec![Piece::Memory(why.into())], out);
            }
            Input::Mesh { .. } => unreachable!("nobody sends any"),
            Input::Disk { store, id, result } => self.on_disk(store, id, result, out),
            Input::Read { id, result } => {
                let (conn, n) = self.reads.remove(&id).expect("a read we asked for");
                let bytes = result.unwrap_or_else(|e| Bytes::from(format!("errno {}", e.errno)));
                self.reply(conn, n, vec![Piece::Memory(bytes)], out);
            }
            Input::Idle => self.on_time(now, out),
            Input::Shutdown => {
                self.draining = true;
                out.push(Output::TakeNoRequests);
            }
        }
        if self.draining && self.ios.is_empty() {
            out.push(Output::Drained);
        }
    }

    /// `e` echo, `n` no reply, `c` echo and close, `x` fail, `t` + ms: echo later, `f` + pos + len:
    /// file range, `r` + pos + len: the same through a read, `w` + pos: write a block of 'w' and
    /// sync, `b` + len: that many bytes of memory, in pieces, `p`: who the client is, `q`: take no more, `d` + port +
    /// host: say "ehoi" there, and reply with what comes of it.
    fn request(&mut self, now: Now, conn: ConnId, frame: &Bytes, out: &mut Vec<Output>) {
        let state = self
            .conns
            .get_mut(&conn)
            .expect("opened before its requests");
        if state.ending {
            return;
        }
        state.ending = matches!(frame[0], b'c' | b'q');
        let n = state.first + state.replies.len() as u64;
        state.replies.push_back(None);
        let number = |at: usize| {
            u64::from_be_bytes(frame[at..at + 8].try_into().expect("eight bytes of it"))
        };
        let range = || Piece::File {
            store: self.store,
            pos: number(1),
            len: number(9) as usize,
            pin: ChunkPin::default(),
            begins: None,
        };
        match frame[0] {
            b'n' => self.reply_raw(conn, n, vec![], out),
            b'q' => out.push(Output::TakeNoMore { conn }),
            b'p' => {
                let peer = state.peer.clone();
                self.reply(conn, n, vec![Piece::Memory(peer.into())], out);
            }
            b'd' => {
                self.next_io += 1;
                let link = LinkId(self.next_io);
                self.links.insert(link, (conn, n));
                let host = String::from_utf8_lossy(&frame[9..]).into_owned();
                let to = (host, number(1) as u16);
                out.push(Output::Dial { link, to });
            }
            b'x' => out.push(Output::Fatal {
                status: 99,
                message: "told to".into(),
            }),
            b't' => {
                self.timers.push((now.mono.plus_ms(number(1)), conn, n));
                self.on_time(now, out);
            }
            b'f' => {
                let pieces = vec![range(), Piece::Memory(frame.clone())];
                self.reply(conn, n, pieces, out);
            }
            b'r' => {
                self.next_io += 1;
                self.reads.insert(ReadId(self.next_io), (conn, n));
                let pieces = vec![Piece::Memory(frame.slice(..1)), range(), range()];
                out.push(Output::Read {
                    id: ReadId(self.next_io),
                    pieces,
                });
            }
            b'w' => {
                self.next_io += 1;
                let id = IoId(self.next_io);
                let mut page = PageBuf::zeroed(BLOCK);
                page.as_mut_bytes().fill(b'w');
                let (pos, data) = (number(1), page.freeze());
                let op = DiskOp::Write {
                    id,
                    pos,
                    data,
                    background: frame.len() > 9,
                    through: false,
                };
                let sync = DiskOp::Sync {
                    id,
                    background: false,
                };
                self.ios.insert(id, (conn, n, Some(sync)));
                out.push(Output::Disk {
                    store: self.store,
                    op,
                });
            }
            b'b' => {
                let chunk = Bytes::from(vec![b'b'; 1000]);
                let pieces = (0..number(1) / 1000)
                    .map(|_| Piece::Memory(chunk.clone()))
                    .collect();
                self.reply(conn, n, pieces, out);
            }
            command => {
                // Replies have none of a request's memory.
                let echo = Bytes::copy_from_slice(frame);
                self.reply(conn, n, vec![Piece::Memory(echo)], out);
                if command == b'c' {
                    out.push(Output::Close {
                        conn,
                        why: "told to".into(),
                    });
                }
            }
        }
    }

    fn on_disk(
        &mut self,
        store: StoreId,
        id: IoId,
        result: Result<(), DiskError>,
        out: &mut Vec<Output>,
    ) {
        let (conn, n, next) = self.ios.remove(&id).expect("an operation we asked for");
        match (result, next) {
            (Ok(()), Some(op)) => {
                self.ios.insert(id, (conn, n, None));
                out.push(Output::Disk { store, op });
            }
            (Ok(()), None) => self.reply(conn, n, vec![Piece::Memory("done".into())], out),
            (Err(e), _) => {
                let text = format!("errno {}", e.errno);
                self.reply(conn, n, vec![Piece::Memory(text.into())], out);
            }
        }
    }

    fn on_time(&mut self, now: Now, out: &mut Vec<Output>) {
        let due: Vec<_> = self
            .timers
            .extract_if(.., |timer| timer.0 <= now.mono)
            .collect();
        for (_, conn, n) in due {
            self.reply(conn, n, vec![Piece::Memory("late".into())], out);
        }
        if let Some(at) = self.timers.iter().map(|timer| timer.0).min() {
            out.push(Output::WakeAt(at));
        }
    }

    fn reply(&mut self, conn: ConnId, n: u64, mut pieces: Vec<Piece>, out: &mut Vec<Output>) {
        let len: usize = pieces.iter().map(Piece::len).sum();
        let prefix = Bytes::copy_from_slice(&(len as u32).to_be_bytes());
        pieces.insert(0, Piece::Memory(prefix));
        self.reply_raw(conn, n, pieces, out);
    }

    fn reply_raw(&mut self, conn: ConnId, n: u64, pieces: Vec<Piece>, out: &mut Vec<Output>) {
        let Some(state) = self.conns.get_mut(&conn) else {
            return;
        };
        state.replies[(n - state.first) as usize] = Some(pieces);
        while let Some(Some(_)) = state.replies.front() {
            let pieces = state
                .replies
                .pop_front()
                .flatten()
                .expect("looked at just now");
            state.first += 1;
            out.push(Output::Reply { conn, pieces });
        }
    }
}
