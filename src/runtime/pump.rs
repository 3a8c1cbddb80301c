//! The one loop of a shard: it collects what has happened, tells [`Shard`], does what
//! the shard wants, and hands everything to the kernel at once. It alone holds the
//! shard and its connections.
//!
//! All that can happen comes through one ring: requests, connections, the disk, and
//! the eventfd that other shards raise. So a turn ends with one system call, which
//! submits what was started and, with nothing left to do, sleeps until there is.

use std::collections::VecDeque;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::Arc;

use super::accept::{Accepted, Acceptor};
use super::brain::Shard;
use super::budget::Budget;
use super::conn::{Conn, Shared};
use super::disk::Disk;
use super::link::Links;
use super::memory::TailMemory;
use super::mesh::{MeshPort, Phase};
use super::receive::Receiver;
use super::report::{End, Notice, Stopped};
use super::ring::{Done, Op, Ring};
use super::send::Sender;
use super::settings::Settings;
use super::tag::Tag;
use super::turns::TurnClock;
use super::{stalled, sys};
use crate::base::limits::READ_AHEAD_BYTES_MAX;
use crate::base::{IdMap, Mono, Now, PageBuf};
use crate::broker::{CONTROLLER_LISTENER, ConnId, Input, Msg, Output};

/// Messages taken from each other shard per turn.
const MESH_BATCH: usize = 256;
/// Completions taken per turn.
const COMPLETION_BATCH: usize = 512;
/// The clock is looked at after inputs of this [`weight`] together. Inputs of one turn at one time
/// would hide what each of them takes; a look for each costs as much as all the rest of tracing.
const LOOK_EVERY: usize = 4;
/// How often connections are looked at for being idle.
const SWEEP_MS: u64 = 1000;
/// The same while clients that may not take their replies hold much memory, which can grow fast.
const SWEEP_SOON_MS: u64 = 200;
/// How long replies may take to leave after the shard is done.
const LINGER_MS: u64 = 1000;

/// What a pump is made of.
pub struct PumpSetup {
    /// The shard, its stores recovered.
    pub shard: Shard,
    /// What its connections share.
    pub shared: Shared,
    /// Its ring.
    pub ring: Ring<Tag>,
    /// Its store files.
    pub disk: Disk,
    /// Its end of the mesh.
    pub mesh: MeshPort<Box<Msg>>,
    /// Its listening sockets.
    pub acceptor: Acceptor,
    /// `connections.max.idle.ms`.
    pub idle_ms_max: u64,
    /// Memory of replies that clients may hold which take nothing.
    pub stalled_bytes_max: usize,
    /// Which shard it is, and of how many.
    pub me: usize,
    /// See `me`.
    pub shards: usize,
    /// What the memory tails may take.
    pub tails: Arc<TailMemory>,
    /// The settings of the node.
    pub settings: Arc<Settings>,
    /// `millrace.spin.us`.
    pub spin_us: u64,
    /// Whom to tell that the shard is ready.
    pub reports: std::sync::mpsc::Sender<Notice>,
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

/// A connection: its socket is closed when neither half uses it any more.
struct Connection {
    receiver: Receiver,
    sender: Sender,
    _socket: Accepted,
}

/// A shard and everything it acts through.
pub struct Pump {
    shard: Shard,
    shared: Shared,
    ring: Ring<Tag>,
    disk: Disk,
    mesh: MeshPort<Box<Msg>>,
    acceptor: Acceptor,
    links: Links,
    idle_ms_max: u64,
    stalled_bytes_max: usize,
    me: usize,
    shards: usize,
    tails: Arc<TailMemory>,
    /// What the shard was told that its tails may take.
    tail_bytes_max: usize,
    settings: Arc<Settings>,
    /// The version of them that the shard has.
    settings_seen: u64,
    spin_us: u64,
    reports: std::sync::mpsc::Sender<Notice>,
    conns: IdMap<ConnId, Connection>,
    last_conn: u64,
    /// Connections that have, or may have, something new to do.
    dirty: Vec<ConnId>,
    /// Scratch space of [`Pump::look_after_conns`].
    looked_after: Vec<ConnId>,
    inputs: VecDeque<Input>,
    outputs: Vec<Output>,
    /// Scratch space of [`Pump::tell_sent`].
    sent: Vec<(ConnId, usize)>,
    phase: Phase,
    wake_at: Mono,
    sweep_at: Mono,
    /// When page buffers are trimmed again.
    trim_at: Mono,
    turns: TurnClock,
    ending: Option<(End, Mono)>,
    /// The other shards were told that nobody waits for an answer here any more.
    answered: bool,
}

impl Pump {
    /// A pump for a recovered shard; connections are accepted when the process says so.
    #[must_use]
    pub fn new(parts: PumpSetup) -> Self {
        let PumpSetup {
            shard,
            shared,
            ring,
            disk,
            mesh,
            acceptor,
            idle_ms_max,
            stalled_bytes_max,
            me,
            shards,
            tails,
            settings,
            spin_us,
            reports,
        } = parts;
        Self {
            shard,
            shared,
            ring,
            disk,
            links: Links::new(mesh.waker()),
            mesh,
            acceptor,
            idle_ms_max,
            stalled_bytes_max,
            me,
            shards,
            tails,
            tail_bytes_max: 0,
            settings,
            settings_seen: 0,
            spin_us,
            reports,
            conns: IdMap::default(),
            last_conn: 0,
            dirty: Vec::new(),
            looked_after: Vec::new(),
            inputs: VecDeque::from([Input::Start]),
            outputs: Vec::new(),
            sent: Vec::new(),
            phase: Phase::Starting,
            // The shard is told that it is idle at once: it may have something to start.
            wake_at: Mono(0),
            sweep_at: Mono::NEVER,
            trim_at: Mono(0),
            turns: TurnClock::default(),
            ending: None,
            answered: false,
        }
    }

    /// Runs the shard until it is drained or has failed; its stores, if all shards are drained.
    #[must_use]
    pub fn run(mut self) -> (End, Vec<Stopped>) {
        self.hear_bell(Vec::new());
        self.acceptor.start_for_nodes(&mut self.ring);
        loop {
            self.turn();
            if let Some(end) = self.ended() {
                self.conns
                    .values()
                    .for_each(|conn| conn.sender.conn().close());
                self.links.close_all();
                let stopped = match end {
                    End::Drained => self.stopped(),
                    End::Fatal { .. } => Vec::new(),
                };
                return (end, stopped);
            }
            if !self.inputs.is_empty() || !self.dirty.is_empty() {
                self.ring.submit();
                self.turned();
            } else {
                self.turned();
                if !self.spin() && self.may_sleep() {
                    self.ring.wait_until(self.next_deadline());
                } else {
                    self.ring.submit();
                }
            }
            self.mesh.awake();
        }
    }

    /// One round of inputs and outputs.
    fn turn(&mut self) {
        let mut now = sys::now();
        self.shared.now.set(now.mono);
        self.follow_phase();
        self.collect();
        let (ring, inputs) = (&mut self.ring, &mut self.inputs);
        self.links.look_after(now.mono, ring, inputs);
        self.tell_sent(now);
        let tail_bytes_max = self.tails.bytes_max(self.me);
        if tail_bytes_max != self.tail_bytes_max {
            self.tail_bytes_max = tail_bytes_max;
            self.inputs.push_back(Input::TailBytesMax(tail_bytes_max));
        }
        let settings = self.settings.newer(&mut self.settings_seen);
        self.inputs.extend(settings.map(Input::Settings));
        let due = now.mono >= self.wake_at;
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
        self.tails.missed(self.me, self.shard.tail_bytes_missed());
        if now.mono >= self.sweep_at {
            self.sweep(now.mono);
        }
        self.acceptor.retry(now.mono, &mut self.ring);
        self.shared
            .budgets()
            .for_each(|budget| budget.retry(now.mono));
        self.look_after_conns();
        self.mesh.flush();
    }

    /// A turn is over. What it started is submitted, unless that is to be one call with the sleep.
    fn turned(&mut self) {
        let began = self.shared.now.get();
        if let Some(ns) = self.turns.ended(began, sys::mono(), sys::thread_cpu_ns) {
            self.tell(sys::now(), Input::Turn { ns });
        }
    }

    /// Tells the shard which replies have left.
    fn tell_sent(&mut self, now: Now) {
        let mut sent = std::mem::take(&mut self.sent);
        self.shared.take_sent(&mut sent);
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
        let inputs = &mut self.inputs;
        self.mesh.receive(MESH_BATCH, |from, msg| {
            inputs.push_back(Input::Mesh { from, msg })
        });
    }

    fn on_completion(&mut self, done: Done<Tag>) {
        match done.tag {
            Tag::Disk(tag) => {
                self.disk
                    .on_done(tag, done.op, done.result, &mut self.ring, &mut self.inputs)
            }
            Tag::Conn(id) => self.on_sent(id, done),
            Tag::Receive(id) => self.on_received(id, done),
            Tag::Accept(place) => {
                let now = self.shared.now.get();
                let accepted =
                    self.acceptor
                        .on_done(place, done.op, done.result, now, &mut self.ring);
                if let Some(accepted) = accepted {
                    self.begin(accepted);
                }
            }
            // `turn` looks at the mesh by itself.
            Tag::Bell => {
                if let Op::Read { mut buf, .. } = done.op {
                    buf.clear();
                    self.hear_bell(buf);
                }
            }
            Tag::Link(id) => self.links.on_done(
                id,
                done,
                self.shared.now.get(),
                &mut self.ring,
                &mut self.inputs,
            ),
            Tag::Load(id, load) => self.on_loaded(id, load, done),
            Tag::Cache(id) => {
                let ended = self
                    .disk
                    .on_cached(id, done.op, done.result, &mut self.ring);
                if let Some((id, load, there)) = ended
                    && let Some(conn) = self.conns.get_mut(&id)
                {
                    let over = conn.sender.on_cached(load, there);
                    self.go_on_unless(over, id);
                }
            }
        }
    }

    fn on_loaded(&mut self, id: ConnId, load: u64, done: Done<Tag>) {
        let blocks = self.disk.on_loaded(done.op, done.result);
        if let Some(conn) = self.conns.get_mut(&id) {
            let over = conn.sender.on_loaded(load, blocks, &self.shared);
            self.go_on_unless(over, id);
        }
    }

    fn on_sent(&mut self, id: ConnId, done: Done<Tag>) {
        if let Some(conn) = self.conns.get_mut(&id) {
            let over = conn
                .sender
                .on_done(done.op, done.result, &self.shared, &mut self.ring);
            self.go_on_unless(over, id);
        }
    }

    /// A connection has something new to do, or is gone.
    fn go_on_unless(&mut self, over: bool, id: ConnId) {
        if over {
            self.forget(id);
        } else {
            self.dirty.push(id);
        }
    }

    fn on_received(&mut self, id: ConnId, done: Done<Tag>) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        conn.receiver.on_done(done, &self.shared);
        conn.receiver
            .advance(&self.shared, &mut self.ring, &mut self.inputs);
        if conn.receiver.is_over() {
            self.dirty.push(id);
        }
    }

    fn begin(&mut self, accepted: Accepted) {
        self.last_conn += 1;
        let (id, now) = (ConnId(self.last_conn), self.shared.now.get());
        let (fd, peer) = (accepted.socket.as_raw_fd(), accepted.peer);
        let listener = accepted.listener;
        let conn = Rc::new(Conn::new(id, fd, peer, now));
        conn.is_node.set(listener == CONTROLLER_LISTENER);
        self.inputs.push_back(Input::ConnOpened {
            conn: id,
            peer,
            listener,
        });
        let connection = Connection {
            receiver: Receiver::new(Rc::clone(&conn), &self.shared),
            sender: Sender::new(conn),
            _socket: accepted,
        };
        self.conns.insert(id, connection);
        self.dirty.push(id);
        self.sweep_at = self.sweep_at.min(now.plus_ms(SWEEP_MS));
    }

    fn forget(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.remove(&id) {
            conn.sender.conn().release(&self.shared);
        }
    }

    fn hear_bell(&mut self, buf: Vec<u8>) {
        let fd = self.mesh.bell().eventfd().as_raw_fd();
        let op = Op::Read {
            fd,
            pos: 0,
            len: 8,
            buf,
        };
        self.ring.push(Tag::Bell, op);
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
                if let Some(Connection { sender, .. }) = self.conns.get_mut(&conn) {
                    sender.reply(pieces, &self.shared);
                    self.dirty.push(conn);
                }
            }
            Output::TakeNoMore { conn } => {
                if let Some(Connection { receiver, .. }) = self.conns.get_mut(&conn) {
                    receiver.take_no_more();
                    self.dirty.push(conn);
                }
            }
            Output::Close { conn, why } => {
                if let Some(Connection {
                    sender, receiver, ..
                }) = self.conns.get_mut(&conn)
                {
                    let peer = sender.conn().peer;
                    self.shared
                        .closed
                        .info(|| format!("connection of {peer} closed: {why}"));
                    sender.close_when_sent();
                    // However long its client takes for what it still gets: requests cost nothing on its account.
                    receiver.take_no_more();
                    receiver.tell_closed(&mut self.inputs);
                    sender.conn().release_requests(&self.shared);
                    self.dirty.push(conn);
                }
            }
            Output::Dial { link, to } => {
                let (now, to) = (self.shared.now.get(), (to.0.as_str(), to.1));
                let (ring, inputs) = (&mut self.ring, &mut self.inputs);
                self.links.dial(link, to, now, ring, inputs);
            }
            Output::LinkSend { link, pieces } => self.links.send(link, pieces, &mut self.ring),
            Output::LinkClose { link } => self.links.close(link),
            Output::Mesh { to, msg } => self.mesh.send(to, msg),
            Output::Disk { store, op } => self.disk.perform(store, op, &mut self.ring),
            Output::Read { id, pieces } => {
                self.inputs
                    .extend(self.disk.read(id, pieces, &mut self.ring));
            }
            Output::WakeAt(at) => self.wake_at = at,
            Output::Ready => {
                // If nobody listens any more, the process is on its way out.
                let _ = self.reports.send(Notice::Ready);
            }
            Output::TakeNoRequests => {
                self.acceptor.stop();
                self.shared.stopping.set(true);
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
            self.ending = Some((end, self.shared.now.get().plus_ms(linger)));
        }
    }

    /// Whether it is time to end: a failed shard at once, a drained one when every client of every shard
    /// has the answers that were in progress, for others may still ask something of this one.
    fn ended(&mut self) -> Option<End> {
        let (end, until) = self.ending.as_ref()?;
        if *end != End::Drained {
            return Some(end.clone());
        }
        if !self.answered {
            let mut senders = self.conns.values().map(|conn| &conn.sender);
            let sent = self.dirty.is_empty()
                && senders.all(|sender| sender.is_done() && !sender.conn().is_waiting());
            if sent || self.shared.now.get() >= *until {
                self.answered = true;
                self.mesh.answered();
            }
        }
        // Until then others may have asked something of this one, and what came of it is on its way.
        (self.mesh.all_answered() && self.shard.is_at_rest()).then(|| end.clone())
    }

    /// The stores as they are left.
    fn stopped(&mut self) -> Vec<Stopped> {
        let ends = self.shard.end().into_iter();
        ends.filter_map(|(store, ops)| {
            let file = self.disk.take(store)?;
            Some(Stopped { file, ops })
        })
        .collect()
    }

    /// Lets connections that wait for the disk read on, as long as there is room for more.
    fn let_waiting_load(&mut self) {
        while let Some(next) = self.disk.next_waiting() {
            if let Some(conn) = self.conns.get_mut(&next) {
                conn.sender
                    .advance(&mut self.disk, &self.shared, &mut self.ring);
                self.dirty.push(next);
            }
        }
    }

    /// Lets every connection with something new to do go on.
    fn look_after_conns(&mut self) {
        self.let_waiting_load();
        for budget in self.shared.budgets() {
            budget.take_woken(&mut self.dirty);
        }
        // Whatever wants another pass gets it in the next turn.
        let mut ids = std::mem::take(&mut self.looked_after);
        std::mem::swap(&mut ids, &mut self.dirty);
        for id in ids.drain(..) {
            let Some(conn) = self.conns.get_mut(&id) else {
                continue;
            };
            conn.sender
                .advance(&mut self.disk, &self.shared, &mut self.ring);
            // Replies that have left make room for requests.
            conn.receiver
                .advance(&self.shared, &mut self.ring, &mut self.inputs);
            if conn.receiver.is_over() && conn.sender.kill() {
                self.forget(id);
            }
        }
        self.looked_after = ids;
        for budget in self.shared.budgets() {
            budget.take_woken(&mut self.dirty);
        }
    }

    fn sweep(&mut self, now: Mono) {
        if now >= self.trim_at {
            PageBuf::trim();
            self.trim_at = now.plus_ms(SWEEP_MS);
        }
        self.tell(sys::now(), Input::DiskReads(self.disk.reads()));
        let soon = self.close_stalled(now);
        for conn in self.conns.values().map(|conn| conn.sender.conn()) {
            if let Some(why) = self.shared.overdue(conn, self.idle_ms_max) {
                self.shared
                    .closed
                    .info(|| format!("connection of {} closed: {why}", conn.peer));
                conn.close();
                self.dirty.push(conn.id);
            }
        }
        self.sweep_at = if self.conns.is_empty() {
            // Nobody looks after it again before there are connections.
            PageBuf::trim();
            Mono::NEVER
        } else {
            now.plus_ms(if soon { SWEEP_SOON_MS } else { SWEEP_MS })
        };
    }

    /// Looks for clients that do not take their replies, and lets go of those that hold too much. Whether
    /// they hold so much that this should be looked at again soon.
    fn close_stalled(&mut self, now: Mono) -> bool {
        let senders = self.conns.values().map(|conn| &conn.sender);
        let held: usize = senders.map(Sender::held_bytes).sum();
        let loaded = self.disk.held_bytes();
        // Who takes how much matters for memory only when much is held, and then soon.
        let much = held > self.stalled_bytes_max / 2 || loaded > READ_AHEAD_BYTES_MAX / 2;
        let looks = much || self.shared.budget.is_short();
        let mut stalled = Vec::new();
        for conn in self.conns.values_mut() {
            if looks || conn.sender.conn().is_quiet_for(now, self.idle_ms_max / 2) {
                stalled.extend(conn.sender.stalled(now));
            }
        }
        self.disk
            .set_stalled(stalled.iter().map(|one| one.loaded).sum());
        // Slices of what the log's tail holds anyway cost nothing.
        let shared = PageBuf::live_bytes() > self.page_bytes_max();
        for id in stalled::to_close(&mut stalled, self.stalled_bytes_max, shared) {
            if let Some(conn) = self.conns.get(&id) {
                let conn = conn.sender.conn();
                let why = "its client does not take replies, whose memory others need";
                self.shared
                    .closed
                    .warn(|| format!("connection of {} closed: {why}", conn.peer));
                conn.close();
                self.dirty.push(id);
            }
        }
        much
    }

    /// Memory in page buffers that the whole node may have without clients that take nothing: the tails, what is
    /// read ahead, and as much again for what is being written.
    fn page_bytes_max(&self) -> usize {
        let reads = 2 * READ_AHEAD_BYTES_MAX * self.shards;
        self.tails.bytes_max_of_all().saturating_add(reads)
    }

    /// When there is something to do even if nothing happens.
    fn next_deadline(&self) -> Mono {
        let ending = match &self.ending {
            Some((_, until)) if !self.answered => *until,
            // The last shard to answer its clients rings.
            _ => Mono::NEVER,
        };
        let retries = self.shared.budgets().map(Budget::retry_at);
        let retry_at = retries.fold(Mono::NEVER, Mono::min);
        self.wake_at
            .min(self.sweep_at)
            .min(self.acceptor.retry_at())
            .min(self.links.deadline())
            .min(retry_at)
            .min(ending)
    }

    /// Polls for what may happen soon, before the thread sleeps and has to be woken for it. Whether
    /// there is something to do now.
    fn spin(&mut self) -> bool {
        if self.spin_us == 0 {
            return false;
        }
        let until = Mono(sys::mono().0 + self.spin_us * 1000).min(self.next_deadline());
        loop {
            self.ring.submit();
            let is_called =
                self.mesh.phase() != self.phase || self.settings.is_newer(self.settings_seen);
            if self.ring.has_done() || !self.mesh.is_quiet() || is_called {
                return true;
            }
            if sys::mono() >= until {
                return false;
            }
            // What completes durable writes is a thread of the kernel, on this very core.
            std::thread::yield_now();
        }
    }

    /// Whether there is nothing to do; other shards then ring the bell for what they send.
    fn may_sleep(&mut self) -> bool {
        self.inputs.is_empty()
            && self.dirty.is_empty()
            && self.mesh.prepare_sleep()
            && self.mesh.phase() == self.phase
            && !self.settings.is_newer(self.settings_seen)
            && !self.links.has_found()
            && !(self.answered && self.mesh.all_answered() && self.shard.is_at_rest())
    }

    fn follow_phase(&mut self) {
        let phase = self.mesh.phase();
        if phase == self.phase {
            return;
        }
        self.phase = phase;
        if phase == Phase::Serving {
            self.acceptor.start(&mut self.ring);
        } else {
            // It says itself when it takes no more requests.
            self.inputs.push_back(Input::Shutdown);
        }
    }
}
