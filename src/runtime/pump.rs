//! The one loop of a shard: it collects what has happened, tells [`Shard`], does what
//! the shard wants, and hands everything to the kernel at once. It alone holds the
//! shard, and it never awaits while it is telling it something.
//!
//! A turn is bounded and followed by a yield, so that connections are read in
//! between. With nothing to do it sleeps on one eventfd, which completions of the
//! ring and messages of other shards raise, or until a connection wakes it. The
//! executor looks at its sockets only when no task is ready, so a pump that is busy
//! for long raises the eventfd itself and waits for it.

use std::collections::VecDeque;
use std::net::TcpListener;
use std::os::fd::{FromRawFd, IntoRawFd, RawFd};
use std::rc::Rc;

use glommio::Task;

use super::brain::Shard;
use super::conn::{self, Event, Front};
use super::disk::{Disk, DiskTag};
use super::mesh::{MeshPort, Phase};
use super::ring::{Done, Ring};
use super::send::{Progress, Sender};
use super::server::Report;
use super::sys;
use crate::base::{IdMap, Mono, Now};
use crate::broker::{ConnId, Input, Msg, Output};

/// Messages taken from each other shard per turn.
const MESH_BATCH: usize = 256;
/// Completions taken per turn.
const COMPLETION_BATCH: usize = 512;
/// How long the pump may be busy without the executor looking at its sockets.
const BUSY_NS_MAX: u64 = 500_000;
/// The clock is looked at after inputs of this [`weight`] together. Inputs of one turn at one time
/// would hide what each of them takes; a look for each costs as much as all the rest of tracing.
const LOOK_EVERY: usize = 4;
/// How often connections are looked at for being idle.
const SWEEP_MS: u64 = 1000;
/// How long replies may take to leave after the shard is done.
const LINGER_MS: u64 = 1000;

/// What a completion of the ring is for.
#[derive(Clone, Copy, Debug)]
pub enum Tag {
    /// The store files.
    Disk(DiskTag),
    /// What a connection is being sent.
    Conn(ConnId),
    /// The time of the last wake-up has come.
    Alarm,
}

/// Why a pump ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Everything is durable and answered.
    Drained,
    /// The process has to stop.
    Fatal {
        /// Exit status.
        status: u8,
        /// For people.
        message: String,
    },
}

/// What a pump is made of.
pub struct Parts {
    /// The shard, its stores recovered.
    pub shard: Shard,
    /// The reading side of its connections.
    pub front: Rc<Front>,
    /// Its ring; raises the eventfd of `mesh`.
    pub ring: Ring<Tag>,
    /// Its store files.
    pub disk: Disk,
    /// Its end of the mesh.
    pub mesh: MeshPort<Box<Msg>>,
    /// Sockets to accept on, with the index by which the configuration knows them.
    pub listeners: Vec<(usize, TcpListener)>,
    /// `connections.max.idle.ms`.
    pub idle_ms_max: u64,
    /// Whom to tell that the shard is ready.
    pub reports: std::sync::mpsc::Sender<Report>,
}

/// How much work an input is about to be: 1 for the least, [`LOOK_EVERY`] or more for what takes long
/// by itself.
fn weight(input: &Input) -> usize {
    match input {
        Input::Request { frame, .. } => 1 + frame.len() / 1024,
        // May release all the acknowledgements of a flush.
        Input::Disk { .. } | Input::Read { .. } => LOOK_EVERY,
        _ => 1,
    }
}

/// A shard and everything it acts through.
pub struct Pump {
    shard: Shard,
    front: Rc<Front>,
    ring: Ring<Tag>,
    disk: Disk,
    mesh: MeshPort<Box<Msg>>,
    listeners: Vec<(usize, TcpListener)>,
    idle_ms_max: u64,
    reports: std::sync::mpsc::Sender<Report>,
    acceptors: Vec<(RawFd, Task<()>)>,
    senders: IdMap<ConnId, Sender>,
    /// Connections whose sender has something new to do.
    dirty: Vec<ConnId>,
    inputs: VecDeque<Input>,
    outputs: Vec<Output>,
    events: Vec<Event>,
    /// Scratch space of [`Pump::tell_sent`].
    sent: Vec<(ConnId, usize)>,
    phase: Phase,
    wake_at: Mono,
    sweep_at: Mono,
    ending: Option<(End, Mono)>,
}

impl Pump {
    /// A pump for a recovered shard; connections are accepted when the process says so.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts {
            shard,
            front,
            ring,
            disk,
            mesh,
            listeners,
            idle_ms_max,
            reports,
        } = parts;
        Self {
            shard,
            front,
            ring,
            disk,
            mesh,
            listeners,
            idle_ms_max,
            reports,
            acceptors: Vec::new(),
            senders: IdMap::default(),
            dirty: Vec::new(),
            inputs: VecDeque::from([Input::Start]),
            outputs: Vec::new(),
            events: Vec::new(),
            sent: Vec::new(),
            phase: Phase::Starting,
            // The shard is told that it is idle at once: it may have something to start.
            wake_at: Mono(0),
            sweep_at: Mono::NEVER,
            ending: None,
        }
    }

    /// Runs the shard until it is drained or has failed.
    pub async fn run(mut self) -> End {
        let mut rested = self.front.now.get();
        loop {
            let worked = self.turn();
            if let Some(end) = self.ended() {
                self.senders
                    .values()
                    .for_each(|sender| sender.conn().close());
                return end;
            }
            if !worked && self.prepare_sleep() {
                self.front.wait().await;
                rested = sys::now().mono;
            } else if self.front.now.get().0.saturating_sub(rested.0) < BUSY_NS_MAX {
                glommio::executor().yield_now().await;
            } else {
                self.mesh.bell().eventfd().signal();
                self.front.wait_for_bell().await;
                rested = sys::now().mono;
            }
            self.ring.awake();
            self.mesh.awake();
        }
    }

    /// One round of inputs, outputs and submission. False if there was nothing to do.
    fn turn(&mut self) -> bool {
        let mut now = sys::now();
        self.front.now.set(now.mono);
        self.follow_phase();
        self.collect();
        self.tell_sent(now);
        let due = now.mono >= self.wake_at;
        let worked = due || !self.inputs.is_empty() || !self.dirty.is_empty();
        if due || !self.inputs.is_empty() {
            if due {
                self.wake_at = Mono::NEVER;
            }
            let mut since_look = 0;
            while let Some(input) = self.inputs.pop_front() {
                since_look += weight(&input);
                self.tell(now, input);
                if since_look >= LOOK_EVERY {
                    now.mono = sys::mono();
                    since_look = 0;
                }
            }
            if since_look > 0 {
                now.mono = sys::mono();
            }
            self.tell(now, Input::Idle);
        }
        if now.mono >= self.sweep_at {
            self.sweep(now.mono);
        }
        self.send();
        self.mesh.flush();
        self.set_alarm();
        self.ring.submit();
        worked
    }

    /// Tells the shard which replies have left.
    fn tell_sent(&mut self, now: Now) {
        let mut sent = std::mem::take(&mut self.sent);
        self.front.take_sent(&mut sent);
        for (conn, replies) in sent.drain(..) {
            self.tell(now, Input::Sent { conn, replies });
        }
        self.sent = sent;
    }

    /// Makes inputs of everything that has happened.
    fn collect(&mut self) {
        let mut done = 0;
        while done < COMPLETION_BATCH
            && let Some(completion) = self.ring.reap()
        {
            self.on_completion(completion);
            done += 1;
        }
        self.front.take_events(&mut self.events);
        for event in self.events.drain(..) {
            match event {
                Event::Opened { conn, listener } => {
                    let (id, peer) = (conn.id, conn.peer);
                    self.senders.insert(id, Sender::new(conn));
                    self.sweep_at = self.sweep_at.min(self.front.now.get().plus_ms(SWEEP_MS));
                    self.inputs.push_back(Input::ConnOpened {
                        conn: id,
                        peer,
                        listener,
                    });
                }
                Event::Request { conn, frame, at } => {
                    self.inputs.push_back(Input::Request { conn, frame, at });
                }
                Event::Closed { conn } => {
                    self.inputs.push_back(Input::ConnClosed { conn });
                    if self.senders.get_mut(&conn).is_some_and(Sender::kill) {
                        Self::forget(&mut self.senders, conn);
                    }
                }
            }
        }
        let inputs = &mut self.inputs;
        self.mesh.receive(MESH_BATCH, |from, msg| {
            inputs.push_back(Input::Mesh { from, msg })
        });
    }

    fn on_completion(&mut self, Done { tag, op, result }: Done<Tag>) {
        match tag {
            Tag::Disk(tag) => {
                self.disk
                    .on_done(tag, op, result, &mut self.ring, &mut self.inputs);
            }
            Tag::Conn(id) => {
                let Some(sender) = self.senders.get_mut(&id) else {
                    return;
                };
                if sender.on_done(op, result, &self.front, &mut self.ring) {
                    Self::forget(&mut self.senders, id);
                } else {
                    self.dirty.push(id);
                }
            }
            // `turn` looks at the clock.
            Tag::Alarm => {}
        }
    }

    fn forget(senders: &mut IdMap<ConnId, Sender>, id: ConnId) {
        if let Some(sender) = senders.remove(&id) {
            sender.conn().release();
        }
    }

    fn tell(&mut self, now: Now, input: Input) {
        let mut outputs = std::mem::take(&mut self.outputs);
        self.shard.handle(now, input, &mut outputs);
        for output in outputs.drain(..) {
            self.perform(output);
        }
        self.outputs = outputs;
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Reply { conn, pieces } => {
                if let Some(sender) = self.senders.get_mut(&conn) {
                    sender.reply(pieces);
                    self.dirty.push(conn);
                }
            }
            Output::Close { conn, why } => {
                if let Some(sender) = self.senders.get_mut(&conn) {
                    tracing::info!(peer = %sender.conn().peer, "connection closed: {why}");
                    sender.close_when_sent();
                    self.dirty.push(conn);
                }
            }
            Output::Mesh { to, msg } => self.mesh.send(to, msg),
            Output::Disk { store, op } => self.disk.perform(store, op, &mut self.ring),
            Output::Read { id, pieces } => {
                self.inputs
                    .extend(self.disk.read(id, pieces, &mut self.ring));
            }
            Output::WakeAt(at) => self.wake_at = at,
            Output::Ready => {
                // If nobody listens any more, the process is on its way out.
                let _ = self.reports.send(Report::Ready);
            }
            Output::Drained => self.end(End::Drained),
            Output::Fatal { status, message } => self.end(End::Fatal { status, message }),
        }
    }

    /// The first end counts, except that a failure is never hidden by a success.
    fn end(&mut self, end: End) {
        let fatal = matches!(end, End::Fatal { .. });
        if self.ending.is_none() || (fatal && matches!(self.ending, Some((End::Drained, _)))) {
            let linger = if fatal { 0 } else { LINGER_MS };
            self.ending = Some((end, self.front.now.get().plus_ms(linger)));
        }
    }

    /// Whether it is time to end: a failed shard at once, a drained one when its replies have left.
    fn ended(&self) -> Option<End> {
        let (end, until) = self.ending.as_ref()?;
        let sent = self.dirty.is_empty() && self.senders.values().all(Sender::is_done);
        let stop = *end != End::Drained || sent || self.front.now.get() >= *until;
        stop.then(|| end.clone())
    }

    fn send(&mut self) {
        // Completions during this pass and senders that want another one are for the next turn.
        for id in std::mem::take(&mut self.dirty) {
            let Some(sender) = self.senders.get_mut(&id) else {
                continue;
            };
            if sender.advance(&self.disk, &self.front, &mut self.ring) == Progress::More {
                self.dirty.push(id);
            }
        }
    }

    fn sweep(&mut self, now: Mono) {
        for sender in self.senders.values() {
            if let Some(why) = self.front.overdue(sender.conn(), self.idle_ms_max) {
                tracing::info!(peer = %sender.conn().peer, "connection closed: {why}");
                sender.conn().close();
            }
        }
        self.sweep_at = if self.senders.is_empty() {
            Mono::NEVER
        } else {
            now.plus_ms(SWEEP_MS)
        };
    }

    fn set_alarm(&mut self) {
        let mut at = self.wake_at.min(self.sweep_at);
        if let Some((_, until)) = self.ending {
            at = at.min(until);
        }
        if at != Mono::NEVER {
            self.ring.set_alarm(Tag::Alarm, at);
        }
    }

    /// Arms everything that can wake the shard; false if something has happened in the meantime.
    fn prepare_sleep(&mut self) -> bool {
        self.ring.prepare_sleep()
            && self.mesh.prepare_sleep()
            && !self.front.has_events()
            && self.mesh.phase() == self.phase
    }

    fn follow_phase(&mut self) {
        let phase = self.mesh.phase();
        if phase == self.phase {
            return;
        }
        self.phase = phase;
        if phase == Phase::Serving {
            for (index, listener) in self.listeners.drain(..) {
                // SAFETY: the descriptor is a listening socket that was just given away.
                let (fd, listener) = unsafe {
                    let fd = listener.into_raw_fd();
                    (fd, glommio::net::TcpListener::from_raw_fd(fd))
                };
                let accept = conn::accept(listener, index, Rc::clone(&self.front));
                self.acceptors.push((fd, glommio::spawn_local(accept)));
            }
        } else {
            for (fd, task) in self.acceptors.drain(..) {
                // At once: the accept in progress keeps the socket open for a while after its
                // task, and so its descriptor, is gone.
                sys::shutdown_socket(fd);
                drop(task);
            }
            self.listeners.clear();
            self.inputs.push_back(Input::Shutdown);
        }
    }
}
