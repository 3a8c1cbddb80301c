//! Messages between the shards of this process: one bounded queue for each ordered
//! pair, and one bell per shard that is rung only if that shard sleeps.
//!
//! Order between two shards is kept: what does not fit waits at the sender, in
//! front of everything newer.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering, fence};

use crossbeam::queue::ArrayQueue;

use super::sys::EventFd;
use crate::base::ShardId;
use crate::base::limits::MESH_QUEUE_MAX;

/// Queue places of the whole node, so that 64 shards (4,096 queues) do not take gigabytes.
const NODE_PLACES_MAX: usize = 1 << 20;

/// What the process wants of a shard; only ever moves on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Answer other shards, accept no connection yet.
    Starting = 0,
    /// Accept connections.
    Serving = 1,
    /// Finish what is in flight.
    Stopping = 2,
}

/// Wakes one shard.
pub struct Bell {
    eventfd: EventFd,
    sleeping: AtomicBool,
    phase: AtomicU8,
}

impl Bell {
    fn new() -> io::Result<Self> {
        Ok(Self {
            eventfd: EventFd::new()?,
            sleeping: AtomicBool::new(false),
            phase: AtomicU8::new(Phase::Starting as u8),
        })
    }

    /// The descriptor that the shard sleeps on.
    #[must_use]
    pub fn eventfd(&self) -> &EventFd {
        &self.eventfd
    }

    /// Rings if the shard sleeps; one system call then, none otherwise.
    pub fn ring(&self) {
        // The message was queued before; see `MeshPort::prepare_sleep` for the other side.
        fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::Relaxed) {
            self.eventfd.signal();
        }
    }
}

struct Lane<M> {
    queue: ArrayQueue<M>,
    /// The sender sleeps with more than fits and wants to hear of room.
    blocked: AtomicBool,
}

/// All queues of the node, shared by its shards.
pub struct Mesh<M> {
    bells: Vec<Bell>,
    lanes: Vec<Lane<M>>,
    /// Shards whose clients may still be waiting for an answer.
    answering: AtomicUsize,
}

impl<M> Mesh<M> {
    /// The queues between `shards` shards.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn new(shards: u16) -> io::Result<Arc<Self>> {
        let n = usize::from(shards.max(1));
        let places = (NODE_PLACES_MAX / (n * n)).clamp(64, MESH_QUEUE_MAX);
        Ok(Arc::new(Self {
            answering: AtomicUsize::new(n),
            bells: (0..n).map(|_| Bell::new()).collect::<io::Result<_>>()?,
            lanes: (0..n * n)
                .map(|i| Lane {
                    // A shard does not write to itself.
                    queue: ArrayQueue::new(if i / n == i % n { 1 } else { places }),
                    blocked: AtomicBool::new(false),
                })
                .collect(),
        }))
    }

    /// The end of one shard; each shard takes its own, once.
    #[must_use]
    pub fn port(self: &Arc<Self>, me: ShardId) -> MeshPort<M> {
        let shards = self.bells.len();
        MeshPort {
            mesh: Arc::clone(self),
            me: usize::from(me.0),
            overflow: (0..shards).map(|_| VecDeque::new()).collect(),
            written: vec![false; shards],
        }
    }

    /// Moves every shard to `phase` and wakes it.
    pub fn announce(&self, phase: Phase) {
        for bell in &self.bells {
            bell.phase.fetch_max(phase as u8, Ordering::SeqCst);
            bell.ring();
        }
    }

    /// Wakes every shard that sleeps: there is something for it to see.
    pub fn wake(&self) {
        self.bells.iter().for_each(Bell::ring);
    }

    /// A stopping shard has answered its clients. The last one wakes the others, which have stayed in
    /// order to do what is asked of them for that.
    fn answered(&self) {
        if self.answering.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.wake();
        }
    }

    fn lane(&self, from: usize, to: usize) -> &Lane<M> {
        &self.lanes[from * self.bells.len() + to]
    }
}

/// One shard's end of the mesh.
pub struct MeshPort<M> {
    mesh: Arc<Mesh<M>>,
    me: usize,
    overflow: Vec<VecDeque<M>>,
    written: Vec<bool>,
}

impl<M> MeshPort<M> {
    /// This shard's bell.
    #[must_use]
    pub fn bell(&self) -> &Bell {
        &self.mesh.bells[self.me]
    }

    /// What rings this shard's bell from any thread.
    pub fn waker(&self) -> impl Fn() + Send + Sync + use<M>
    where
        M: Send + 'static,
    {
        let (mesh, me) = (Arc::clone(&self.mesh), self.me);
        move || mesh.bells[me].ring()
    }

    /// What the process wants of this shard.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.bell().phase.load(Ordering::SeqCst) {
            0 => Phase::Starting,
            1 => Phase::Serving,
            _ => Phase::Stopping,
        }
    }

    /// See [`MeshPort::all_answered`]; to be called once.
    pub fn answered(&self) {
        self.mesh.answered();
    }

    /// Whether every shard has said that its clients are answered, so that no more is asked of this one.
    #[must_use]
    pub fn all_answered(&self) -> bool {
        self.mesh.answering.load(Ordering::SeqCst) == 0
    }

    /// Queues a message; it is sure to be seen after the next [`MeshPort::flush`].
    pub fn send(&mut self, to: ShardId, msg: M) {
        let to = usize::from(to.0);
        assert!(
            to != self.me && to < self.written.len(),
            "no such shard to write to: {to}"
        );
        self.written[to] = true;
        if self.overflow[to].is_empty() {
            let Err(msg) = self.mesh.lane(self.me, to).queue.push(msg) else {
                return;
            };
            self.overflow[to].push_back(msg);
        } else {
            self.overflow[to].push_back(msg);
        }
    }

    /// Moves on what waits for room and wakes the shards that were written to.
    pub fn flush(&mut self) {
        for to in 0..self.written.len() {
            let waiting = &mut self.overflow[to];
            if !waiting.is_empty() {
                let lane = self.mesh.lane(self.me, to);
                while let Some(msg) = waiting.pop_front() {
                    if let Err(msg) = lane.queue.push(msg) {
                        waiting.push_front(msg);
                        break;
                    }
                    self.written[to] = true;
                }
            }
            if std::mem::take(&mut self.written[to]) {
                self.mesh.bells[to].ring();
            }
        }
    }

    /// Takes up to `max` messages from each shard, in the order in which it sent them.
    pub fn receive(&mut self, max: usize, mut take: impl FnMut(ShardId, M)) {
        for from in (0..self.written.len()).filter(|from| *from != self.me) {
            let lane = self.mesh.lane(from, self.me);
            for _ in 0..max {
                let Some(msg) = lane.queue.pop() else { break };
                take(ShardId(from as u16), msg);
            }
            fence(Ordering::SeqCst);
            if lane.blocked.load(Ordering::Relaxed) && lane.blocked.swap(false, Ordering::SeqCst) {
                self.mesh.bells[from].ring();
            }
        }
    }

    /// Whether messages of this shard wait for room at a receiver.
    #[must_use]
    pub fn has_overflow(&self) -> bool {
        self.overflow.iter().any(|waiting| !waiting.is_empty())
    }

    /// From now on the bell rings. Returns false if there is a message to look at, or room for one
    /// that waits; then nothing may be slept on.
    #[must_use]
    pub fn prepare_sleep(&self) -> bool {
        self.bell().sleeping.store(true, Ordering::SeqCst);
        for (to, waiting) in self.overflow.iter().enumerate() {
            if !waiting.is_empty() {
                self.mesh
                    .lane(self.me, to)
                    .blocked
                    .store(true, Ordering::SeqCst);
            }
        }
        // A sender queues (a receiver makes room), then looks whether we sleep (are blocked); we
        // the other way round. With a full barrier on both sides one of us sees the other.
        fence(Ordering::SeqCst);
        self.is_quiet()
    }

    /// Whether there is neither a message to look at nor room for one that waits.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        (0..self.written.len())
            .filter(|other| *other != self.me)
            .all(|other| {
                self.mesh.lane(other, self.me).queue.is_empty()
                    && (self.overflow[other].is_empty()
                        || self.mesh.lane(self.me, other).queue.is_full())
            })
    }

    /// No more bells: the shard is looking by itself.
    pub fn awake(&self) {
        self.bell().sleeping.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::OwnedFd;

    use super::*;

    /// Two threads, far more messages than fit, each side asleep whenever it may: nothing is lost,
    /// reordered or slept on.
    #[test]
    fn order_and_wakes_survive_overflow() {
        const N: u64 = 200_000;
        let mesh = Mesh::new(2).expect("descriptors");
        let threads = [0u16, 1].map(|me| {
            let mut port = mesh.port(ShardId(me));
            std::thread::spawn(move || {
                let fd: OwnedFd = port.bell().eventfd().reader().expect("dup");
                let mut bell = File::from(fd);
                let (mut sent, mut received) = (0, 0);
                loop {
                    let burst = (sent + 5000).min(N);
                    while sent < burst && !port.has_overflow() {
                        port.send(ShardId(1 - me), sent);
                        sent += 1;
                    }
                    port.flush();
                    let mut got = 0;
                    port.receive(1000, |from, n| {
                        assert_eq!((from, n), (ShardId(1 - me), received));
                        received += 1;
                        got += 1;
                    });
                    if sent == N && received == N && !port.has_overflow() {
                        return;
                    }
                    let busy = got > 0 || (sent < N && !port.has_overflow());
                    if !busy && port.prepare_sleep() {
                        bell.read_exact(&mut [0; 8]).expect("a signal");
                    }
                    port.awake();
                }
            })
        });
        for thread in threads {
            thread.join().expect("no loss, no reorder");
        }
    }

    #[test]
    fn an_awake_shard_costs_no_signal() {
        let mesh = Mesh::new(2).expect("descriptors");
        let (mut a, mut b) = (mesh.port(ShardId(0)), mesh.port(ShardId(1)));
        a.send(ShardId(1), "one");
        a.flush();
        assert!(!b.prepare_sleep(), "there is mail");
        b.awake();
        b.receive(9, |_, msg| assert_eq!(msg, "one"));
        assert!(b.prepare_sleep());
        a.send(ShardId(1), "two");
        a.flush();
        let mut count = [0; 8];
        let fd = b.bell().eventfd().reader().expect("dup");
        File::from(fd).read_exact(&mut count).expect("a signal");
        assert_eq!(u64::from_ne_bytes(count), 1);
    }

    #[test]
    fn phases_only_move_on() {
        let mesh = Mesh::<()>::new(1).expect("descriptors");
        let port = mesh.port(ShardId(0));
        assert_eq!(port.phase(), Phase::Starting);
        mesh.announce(Phase::Stopping);
        mesh.announce(Phase::Serving);
        assert_eq!(port.phase(), Phase::Stopping);
    }
}
