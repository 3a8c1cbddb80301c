//! The store files of one shard: what the store wants written goes out through the
//! ring, with O_DIRECT, and so does what is read, for connections and to look for a place
//! in a log: a replay would only drive everything else out of the page cache, and on a
//! device the page cache may not know what was written past it. Only what several
//! connections read goes through it (`cached`).

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::cached::{self, Cached, Way};
use super::hold;
use super::range::Range;
use super::readers::Reader;
use super::ring::{Op, Ring};
use super::sys;
use super::tag::{DiskTag, Tag};
use crate::base::limits::{LOAD_BYTES_MIN, LOADS_IN_FLIGHT_BYTES_MAX, READ_AHEAD_BYTES_MAX};
use crate::base::{BLOCK, IdMap, PageBuf, StoreId};
use crate::broker::trace::DiskReads;
use crate::broker::{ConnId, Input, ReadId};
use crate::config::PageCacheReads;
use crate::store::{DiskError, DiskOp, Piece};

/// Background operations in flight while somebody waits for a foreground one, and while nobody does.
const BACKGROUND_MAX: [usize; 2] = [2, 8];

/// A store's file as all shards may read it.
pub struct CachedFile {
    /// Without O_DIRECT.
    file: File,
    /// With O_DIRECT, if the filesystem has it.
    direct: Option<File>,
    /// Whether the page cache may be asked too.
    both: bool,
}

impl CachedFile {
    /// The descriptor that knows of every write, whatever the page cache holds.
    #[must_use]
    pub fn uncached(&self) -> &File {
        self.direct.as_ref().unwrap_or(&self.file)
    }

    /// The descriptor for what may be read by way of the page cache. Nothing is ever written by it.
    #[must_use]
    fn cached(&self) -> Option<&File> {
        self.both.then_some(&self.file)
    }
}

/// The readable side of every store of the node: a reply may hold ranges of any, since requests
/// are answered by whatever shard owns the partition.
pub struct CachedFiles(Vec<OnceLock<CachedFile>>);

impl CachedFiles {
    /// For the stores `0..stores`, none open yet.
    #[must_use]
    pub fn new(stores: u16) -> Arc<Self> {
        Arc::new(Self((0..stores).map(|_| OnceLock::new()).collect()))
    }

    /// The file of a store, once it is open.
    #[must_use]
    pub fn get(&self, store: StoreId) -> Option<&CachedFile> {
        self.0.get(usize::from(store.0))?.get()
    }
}

/// One store's file, open for writing.
pub struct StoreFile {
    /// The store.
    pub id: StoreId,
    written: File,
    direct: bool,
    reserved: u64,
}

impl StoreFile {
    /// Path of a store's file.
    #[must_use]
    pub fn path(dir: &Path, id: StoreId) -> PathBuf {
        dir.join(format!("store-{id}"))
    }

    /// The stores that exist in a directory, in order. A file of a format that was cut off bears
    /// another name and is not among them.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn list(dir: &Path) -> io::Result<Vec<StoreId>> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(dir)? {
            let name = entry?.file_name();
            let id = name
                .to_str()
                .and_then(|name| name.strip_prefix("store-")?.parse().ok());
            ids.extend(id.map(StoreId));
        }
        ids.sort_unstable();
        Ok(ids)
    }

    /// Opens a store's file.
    ///
    /// # Errors
    /// As open(2).
    pub fn open(id: StoreId, path: &Path, direct: bool) -> io::Result<Self> {
        Self::open_with(id, path, direct, false)
    }

    fn open_with(id: StoreId, path: &Path, direct: bool, create: bool) -> io::Result<Self> {
        // Nobody else may have it, such as a mounted filesystem that is on a device, or another broker.
        let device = !create && hold::is_device(path)?;
        let direct = direct || device;
        let exclusive = if device { libc::O_EXCL } else { 0 };
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(create)
            .truncate(create)
            .custom_flags(exclusive | if direct { libc::O_DIRECT } else { 0 });
        let written = if device {
            hold::claim(&options, path)?
        } else {
            let file = options.open(path)?;
            hold::lock(&file)?;
            file
        };
        let reserved = hold::size(&written)?;
        Ok(Self {
            id,
            written,
            direct,
            reserved,
        })
    }

    /// Makes a new store: performs what formatting it takes under another name, then gives the
    /// file its own, so that there never is a half-formatted store.
    ///
    /// # Errors
    /// As open(2) and write(2).
    pub fn create(id: StoreId, dir: &Path, direct: bool, ops: &[DiskOp]) -> io::Result<Self> {
        let path = Self::path(dir, id);
        let unfinished = path.with_extension("unfinished");
        let mut file = Self::open_with(id, &unfinished, direct, true)?;
        file.perform(ops)?;
        file.written.sync_all()?;
        file.reserved = file.written.metadata()?.len();
        fs::rename(&unfinished, &path)?;
        File::open(dir)?.sync_all()?;
        Ok(file)
    }

    /// Makes a new store on a blank device. Each step is durable before the next one, so that what was cut off
    /// before the superblocks, which come last, leaves the device blank.
    ///
    /// # Errors
    /// As open(2) and write(2).
    pub fn on_device(id: StoreId, path: &Path, ops: &[DiskOp]) -> io::Result<Self> {
        let file = Self::open(id, path, true)?;
        for op in ops {
            if let DiskOp::Write { pos, data, .. } = op {
                file.written.write_all_at(data, *pos)?;
            }
            file.written.sync_data()?;
        }
        Ok(file)
    }

    /// Performs operations one after the other.
    ///
    /// # Errors
    /// As write(2) and fdatasync(2).
    pub fn perform(&self, ops: &[DiskOp]) -> io::Result<()> {
        for op in ops {
            match op {
                DiskOp::Write { pos, data, .. } => self.written.write_all_at(data, *pos)?,
                DiskOp::Sync { .. } => self.written.sync_data()?,
                DiskOp::Allocate { .. } => {}
            }
        }
        Ok(())
    }

    /// Opens the file for reading, for all shards.
    ///
    /// # Errors
    /// As open(2).
    pub fn publish(&self, path: &Path, files: &CachedFiles) -> io::Result<()> {
        let file = File::open(path)?;
        sys::no_read_ahead(&file);
        let file = CachedFile {
            both: self.direct && cached::is_coherent(&file),
            file,
            direct: self
                .direct
                .then(|| {
                    let mut options = OpenOptions::new();
                    options.read(true).custom_flags(libc::O_DIRECT).open(path)
                })
                .transpose()?,
        };
        if let Some(slot) = files.0.get(usize::from(self.id.0)) {
            let _ = slot.set(file);
        }
        Ok(())
    }

    /// Length of the file in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.reserved
    }

    /// Whether nothing was ever written to it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.reserved == 0
    }
}

struct State {
    file: StoreFile,
    /// Background operations that yield.
    yielding: VecDeque<DiskOp>,
    foreground: usize,
    background: usize,
    /// That the disk is full was said.
    full: bool,
}

/// A read whose pieces are on their way.
struct JoinedRead {
    parts: Vec<Piece>,
    /// What there is so far of the parts that the kernel read only the beginning of.
    begun: Vec<Vec<u8>>,
    missing: usize,
    failed: Option<DiskError>,
}

/// Memory that was read for a connection; counts as long as somebody has a slice of it.
struct Loaded {
    pages: PageBuf,
    held: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for Loaded {
    fn as_ref(&self) -> &[u8] {
        self.pages.as_bytes()
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        self.held.fetch_sub(self.pages.len(), Ordering::Relaxed);
    }
}

/// What a read counts in the disk's queue: a short one takes its time too.
fn load_cost(len: usize) -> usize {
    len.max(LOAD_BYTES_MIN)
}

/// The store files a shard writes, and all that it reads.
pub struct Disk {
    cached: Arc<CachedFiles>,
    stores: IdMap<StoreId, State>,
    reads: IdMap<ReadId, JoinedRead>,
    /// Cost of the reads for connections that are on their way.
    loading: usize,
    /// What is read by way of the page cache.
    by_cache: Cached,
    /// Bytes read for connections that are not sent yet.
    held: Arc<AtomicUsize>,
    /// Those of them that wait for clients which take nothing: they are not in the way of others.
    stalled: usize,
    /// Connections that wait until fewer reads are on their way, in turn,
    waiting: VecDeque<ConnId>,
    /// and to look up.
    waits: IdMap<ConnId, ()>,
}

impl Disk {
    /// No store yet.
    #[must_use]
    pub fn new(cached: Arc<CachedFiles>, setting: PageCacheReads) -> Self {
        Self {
            cached,
            by_cache: Cached::new(setting),
            stores: IdMap::default(),
            reads: IdMap::default(),
            loading: 0,
            held: Arc::default(),
            stalled: 0,
            waiting: VecDeque::new(),
            waits: IdMap::default(),
        }
    }

    /// Gives a store's file back, at the end.
    pub fn take(&mut self, store: StoreId) -> Option<StoreFile> {
        self.stores.remove(&store).map(|state| state.file)
    }

    /// Takes over a store's file, which is to be open in the table of readable ones.
    pub fn add(&mut self, file: StoreFile) {
        let state = State {
            yielding: VecDeque::new(),
            foreground: 0,
            background: 0,
            full: false,
            file,
        };
        self.stores.insert(state.file.id, state);
    }

    /// How many bytes a connection may read now. If there is nothing in flight for it, `still`, it may
    /// always read something, if not at once: then [`Disk::next_waiting`] will name it.
    pub fn may_load(&mut self, conn: ConnId, still: bool) -> usize {
        let Some(room) = self.load_room() else {
            if still && self.waits.insert(conn, ()).is_none() {
                self.waiting.push_back(conn);
            }
            return 0;
        };
        let held = self.held.load(Ordering::Relaxed) + self.loading;
        let memory = (READ_AHEAD_BYTES_MAX + self.stalled).saturating_sub(held);
        let least = if still { LOAD_BYTES_MIN } else { 0 };
        room.min(memory.max(least))
    }

    /// Bytes that may be read now besides what is being read, if that is enough for one more read.
    fn load_room(&self) -> Option<usize> {
        let idle = self.stores.values().all(|state| state.foreground == 0);
        let room = LOADS_IN_FLIGHT_BYTES_MAX[usize::from(idle)].saturating_sub(self.loading);
        (room >= LOAD_BYTES_MIN).then_some(room)
    }

    /// Reads the blocks of a range, for a connection that knows it as `id`.
    ///
    /// # Errors
    /// There is no such store.
    pub fn load(
        &mut self,
        conn: ConnId,
        id: u64,
        range: &Range,
        ring: &mut Ring<Tag>,
    ) -> io::Result<()> {
        let file = self
            .cached
            .get(range.store)
            .ok_or(io::ErrorKind::NotFound)?;
        let fd = file.uncached().as_raw_fd();
        let pages = PageBuf::stale(range.in_block() + range.len);
        self.by_cache.counts.past += range.len as u64;
        self.loading += load_cost(pages.len());
        let pos = range.pos - range.in_block() as u64;
        ring.push(Tag::Load(conn, id), Op::Load { fd, pos, pages });
        Ok(())
    }

    /// How the next part of a range is to be read.
    pub fn way(&mut self, reader: &Reader, range: &Range, ring: &mut Ring<Tag>) -> Way {
        let file = self.cached.get(range.store).and_then(CachedFile::cached);
        file.map_or(Way::Past, |file| {
            self.by_cache.way(file, reader, range, ring)
        })
    }

    /// Brings a range into the page cache, for a connection that knows it as `id`.
    ///
    /// # Errors
    /// There is no such store.
    pub fn fill(
        &mut self,
        conn: ConnId,
        id: u64,
        range: Range,
        ring: &mut Ring<Tag>,
    ) -> io::Result<()> {
        let file = self.cached.get(range.store).and_then(CachedFile::cached);
        let file = file.ok_or(io::ErrorKind::NotFound)?;
        self.loading += load_cost(range.len);
        self.by_cache.fill(file, conn, id, range, ring);
        Ok(())
    }

    /// An operation of the filling has ended: which range of which connection is over, and whether it is in the page
    /// cache now.
    pub fn on_cached(
        &mut self,
        id: usize,
        op: Op,
        result: Result<usize, i32>,
        ring: &mut Ring<Tag>,
    ) -> Option<(ConnId, u64, bool)> {
        let (conn, load, len, there) = self.by_cache.on_done(id, op, result, ring)?;
        self.loading -= load_cost(len);
        Some((conn, load, there))
    }

    /// Sends what a socket takes of the first `len` bytes of a range that is in the page cache; `None` if it is not
    /// any more.
    ///
    /// # Errors
    /// As sendfile(2): `EAGAIN` if the socket takes nothing now.
    pub fn send_cached(
        &mut self,
        socket: RawFd,
        range: &Range,
        len: usize,
    ) -> io::Result<Option<usize>> {
        let file = self.cached.get(range.store).and_then(CachedFile::cached);
        let file = file.ok_or(io::ErrorKind::NotFound)?;
        self.by_cache.send(file, socket, range, len)
    }

    /// What was read for connections so far.
    #[must_use]
    pub const fn reads(&self) -> DiskReads {
        self.by_cache.counts
    }

    /// A read for a connection has ended: what was read, from the beginning of its first block on.
    pub fn on_loaded(&mut self, op: Op, result: Result<usize, i32>) -> io::Result<Bytes> {
        let Op::Load { pages, .. } = op else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        self.loading -= load_cost(pages.len());
        let read = result.map_err(io::Error::from_raw_os_error)?;
        self.held.fetch_add(pages.len(), Ordering::Relaxed);
        let held = Arc::clone(&self.held);
        let blocks = Bytes::from_owner(Loaded { pages, held });
        Ok(blocks.slice(..read.min(blocks.len())))
    }

    /// How many of the bytes that were read wait for clients which take nothing. They have a bound of their
    /// own, together with all that such clients hold.
    pub fn set_stalled(&mut self, bytes: usize) {
        self.stalled = bytes;
    }

    /// Bytes read for connections that are not sent yet.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// A connection that may try again, as long as there is room: to be asked until there is none, for whoever is
    /// named may not want to read any more.
    pub fn next_waiting(&mut self) -> Option<ConnId> {
        if self.waiting.is_empty() {
            return None;
        }
        self.load_room()?;
        let next = self.waiting.pop_front()?;
        self.waits.remove(&next);
        Some(next)
    }

    /// Starts an operation of the store's.
    pub fn perform(&mut self, store: StoreId, op: DiskOp, ring: &mut Ring<Tag>) {
        let state = self.stores.get_mut(&store).expect("a store of this shard");
        state.perform(op, ring);
    }

    /// Starts to read pieces into one answer; it comes at once if all of it is in memory.
    pub fn read(&mut self, id: ReadId, pieces: Vec<Piece>, ring: &mut Ring<Tag>) -> Option<Input> {
        let mut missing = 0;
        for (part, piece) in pieces.iter().enumerate() {
            if let Piece::File {
                store, pos, len, ..
            } = piece
                && *len > 0
            {
                let file = self.cached.get(*store).expect("a store of this node");
                let (fd, skip) = (file.uncached().as_raw_fd(), pos % BLOCK as u64);
                let (pos, pages) = (pos - skip, PageBuf::stale(skip as usize + len));
                let tag = Tag::Disk(DiskTag::Read { id, part });
                ring.push(tag, Op::Load { fd, pos, pages });
                missing += 1;
            }
        }
        let read = JoinedRead {
            begun: vec![Vec::new(); pieces.len()],
            parts: pieces,
            missing,
            failed: None,
        };
        if missing == 0 {
            return Some(read.finish(id));
        }
        self.reads.insert(id, read);
        None
    }

    /// Takes a completion; what the shard has to hear of is added to `inputs`.
    pub fn on_done(
        &mut self,
        tag: DiskTag,
        op: Op,
        result: Result<usize, i32>,
        ring: &mut Ring<Tag>,
        inputs: &mut VecDeque<Input>,
    ) {
        match tag {
            DiskTag::Store {
                store,
                id,
                background,
            } => {
                let allocated = match &op {
                    Op::Allocate { pos, len, .. } => Some((pos + len, *len)),
                    _ => None,
                };
                let Some(result) = settle(tag, op, result, ring) else {
                    return;
                };
                let state = self.stores.get_mut(&store).expect("a store of this shard");
                if let Some((end, len)) = allocated {
                    state.allocated(end, len, &result);
                }
                state.ended(background, ring);
                inputs.push_back(Input::Disk { store, id, result });
            }
            DiskTag::Read { id, part } => {
                let Some(read) = self.reads.get_mut(&id) else {
                    return;
                };
                let Op::Load { fd, pos, pages } = op else {
                    return;
                };
                if let Some(op) = read.take(part, (fd, pos, pages), result) {
                    ring.push(Tag::Disk(tag), op);
                    return;
                }
                read.missing -= 1;
                if read.missing == 0 {
                    let read = self.reads.remove(&id).expect("looked up above");
                    inputs.push_back(read.finish(id));
                }
            }
        }
    }
}

/// The result of a store operation. A short write is gone on with and gives `None`: it did not
/// fail, the kernel only took it in parts.
fn settle(
    tag: DiskTag,
    op: Op,
    result: Result<usize, i32>,
    ring: &mut Ring<Tag>,
) -> Option<Result<(), DiskError>> {
    Some(match (op, result) {
        (_, Err(errno)) => Err(DiskError { errno }),
        (Op::Write { data, .. }, Ok(0)) if !data.is_empty() => Err(DiskError { errno: libc::EIO }),
        (
            Op::Write {
                fd,
                pos,
                data,
                through,
            },
            Ok(n),
        ) if n < data.len() => {
            let op = Op::Write {
                fd,
                pos: pos + n as u64,
                data: data.slice(n..),
                through,
            };
            ring.push(Tag::Disk(tag), op);
            return None;
        }
        (_, Ok(_)) => Ok(()),
    })
}

impl State {
    fn perform(&mut self, op: DiskOp, ring: &mut Ring<Tag>) {
        match &op {
            DiskOp::Write {
                background: true, ..
            }
            | DiskOp::Sync {
                background: true, ..
            } => {
                self.yielding.push_back(op);
                self.start_background(ring);
            }
            _ => self.start(op, ring),
        }
    }

    /// Tells the operator how large the file has become, and once that it cannot become larger.
    fn allocated(&mut self, end: u64, len: u64, result: &Result<(), DiskError>) {
        let store = self.file.id;
        match result {
            Ok(()) => {
                self.file.reserved = self.file.reserved.max(end);
                self.full = false;
                tracing::info!("store-{store} has {} MiB of the disk", end >> 20);
            }
            Err(error) if error.errno == libc::EOPNOTSUPP => {}
            Err(error) if !self.full => {
                self.full = true;
                tracing::warn!(
                    "store-{store}: the filesystem has no room for {} MiB more (errno {}): when the store is full, \
                     producers are refused until records are deleted or there is room on the filesystem",
                    len >> 20,
                    error.errno
                );
            }
            Err(_) => {}
        }
    }

    fn start_background(&mut self, ring: &mut Ring<Tag>) {
        while self.background < BACKGROUND_MAX[usize::from(self.foreground == 0)] {
            let Some(op) = self.yielding.pop_front() else {
                return;
            };
            self.start(op, ring);
        }
    }

    fn start(&mut self, op: DiskOp, ring: &mut Ring<Tag>) {
        let (store, fd) = (self.file.id, self.file.written.as_raw_fd());
        let (id, background, op) = match op {
            DiskOp::Write {
                id,
                pos,
                data,
                background,
                through,
            } => (
                id,
                background,
                Op::Write {
                    fd,
                    pos,
                    data,
                    through,
                },
            ),
            DiskOp::Sync { id, background } => (id, background, Op::DataSync { fd }),
            DiskOp::Allocate { id, pos, len } => (id, true, Op::Allocate { fd, pos, len }),
        };
        if background {
            self.background += 1
        } else {
            self.foreground += 1
        }
        ring.push(
            Tag::Disk(DiskTag::Store {
                store,
                id,
                background,
            }),
            op,
        );
    }

    fn ended(&mut self, background: bool, ring: &mut Ring<Tag>) {
        if background {
            self.background -= 1
        } else {
            self.foreground -= 1
        }
        self.start_background(ring);
    }
}

impl JoinedRead {
    /// Takes what was read of a part; the operation to go on with if that was not all of it.
    fn take(
        &mut self,
        part: usize,
        (fd, pos, pages): (RawFd, u64, PageBuf),
        result: Result<usize, i32>,
    ) -> Option<Op> {
        let begun = &mut self.begun[part];
        let Piece::File {
            pos: start, len, ..
        } = self.parts[part]
        else {
            return None;
        };
        let missing = len - begun.len();
        let skip = (start + begun.len() as u64 - pos) as usize;
        let read = match result {
            Ok(n) => n.min(pages.len()).saturating_sub(skip).min(missing),
            Err(errno) => {
                self.failed = Some(DiskError { errno });
                return None;
            }
        };
        if read == missing && begun.is_empty() {
            let bytes = pages.freeze().slice(skip..skip + read);
            self.parts[part] = Piece::Memory(bytes);
            return None;
        }
        begun.extend_from_slice(&pages.as_bytes()[skip..skip + read]);
        if read == missing {
            self.parts[part] = Piece::Memory(std::mem::take(begun).into());
            return None;
        }
        if read == 0 {
            self.failed = Some(DiskError { errno: libc::EIO });
            return None;
        }
        let next = start + begun.len() as u64;
        let skip = next % BLOCK as u64;
        Some(Op::Load {
            fd,
            pos: next - skip,
            pages: PageBuf::stale(skip as usize + missing - read),
        })
    }

    fn finish(self, id: ReadId) -> Input {
        if let Some(error) = self.failed {
            return Input::Read {
                id,
                result: Err(error),
            };
        }
        let mut parts: Vec<Bytes> = self
            .parts
            .into_iter()
            .filter_map(|piece| match piece {
                Piece::Memory(bytes) => Some(bytes),
                Piece::File { .. } => None, // empty ones are never read
            })
            .collect();
        let joined = if parts.len() == 1 {
            parts.remove(0)
        } else {
            parts.concat().into()
        };
        Input::Read {
            id,
            result: Ok(joined),
        }
    }
}

#[cfg(test)]
#[path = "disk_tests.rs"]
mod tests;
