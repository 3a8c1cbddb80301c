//! Events performed: inputs given to shards, their outputs carried out.

use super::{Core, Event, Phase, Socket, State, World, violated};
use crate::base::{ShardId, StoreId};
use crate::broker::{Input, Msg, Output, fatal};
use crate::sim::disk::writes_ahead;
use crate::sim::links::Links;
use crate::sim::node::Running;
use crate::sim::oracle::Violation;
use crate::sim::what::{LARGE_CHECKPOINT, What};
use crate::store::{DiskError, DiskOp, IoId, checkpoint_bytes};

/// The disk is full.
const ENOSPC: i32 = 28;

pub(super) type Done = Result<(), Violation>;

impl World {
    pub(super) fn handle(&mut self, event: Event) -> Done {
        match event {
            Event::Start { node } => self.start_node(node),
            Event::Input { core, input } if self.lives(core) => {
                self.note(core.node, What::Input, core.shard as u64, 0);
                self.shard_input(core, input)
            }
            Event::Idle { core } if self.lives(core) => self.idle(core),
            // Void if the shard has named another time since.
            Event::Wake { core } if self.lives(core) && self.running(core).wake_at <= self.time => {
                self.idle(core)
            }
            Event::DiskDone {
                core,
                store,
                id,
                errno,
                ahead,
            } if self.lives(core) => {
                // That there is no room to grow into is the one error which costs nothing.
                let failed = errno.is_some_and(|errno| !(ahead && errno == ENOSPC));
                let result = self.disk_done(core.node, store, id, errno, failed);
                self.shard_input(core, Input::Disk { store, id, result })?;
                if failed && self.nodes[core.node].state != State::Down {
                    return violated("DiskErrorsAreFatal", format!("store-{store} goes on"));
                }
                Ok(())
            }
            Event::ReadDone { core, id, pieces } if self.lives(core) => {
                let fails = self.plan.faults.read_error;
                let fails =
                    self.shared.phase == Phase::Busy && fails > 0 && self.rng.chance(1, fails);
                let result = if fails {
                    self.note(core.node, What::ReadFailed, core.shard as u64, 0);
                    self.nodes[core.node].fault_injected = true;
                    Err(DiskError { errno: 5 })
                } else {
                    self.nodes[core.node].read(&pieces)
                };
                self.shard_input(core, Input::Read { id, result })
            }
            // Of an earlier start.
            Event::Input { .. }
            | Event::Idle { .. }
            | Event::Wake { .. }
            | Event::DiskDone { .. }
            | Event::ReadDone { .. } => Ok(()),
            Event::Request { socket, frame } => self.request(socket, &frame),
            Event::Closed { socket } => {
                let node = &mut self.nodes[socket.node];
                let Some(ended) = node.conns.remove(socket.conn, self.time) else {
                    return Ok(());
                };
                let core = node.core(ended.shard);
                self.shard_input(core, Input::ConnClosed { conn: socket.conn })
            }
            Event::Connect { client, to } => self.connect(client, to),
            Event::Connected { client, .. } if Links::is_one(client) => self.link_up(client),
            Event::Cut { client, socket } if Links::is_one(client) => self.link_cut(client, socket),
            Event::Dialled { link } => self.dialled(link),
            Event::LinkFails { link, why } => self.link_down(link, why),
            Event::LinkSent { link, bytes } => self.link_sent(link, bytes),
            Event::Connected { client, socket } => {
                let seat = self.seats.get(client);
                if seat.is_some_and(|seat| seat.socket == Some(socket)) {
                    self.note(socket.node, What::Connected, client as u64, socket.conn.0);
                    self.with_client(client, |client, ctx| client.connected(ctx));
                }
                Ok(())
            }
            Event::Answer { socket, pieces } => self.answer(socket, &pieces),
            Event::Cut { client, socket } => {
                let seat = self.seats.get_mut(client);
                if let Some(seat) = seat.filter(|seat| seat.socket == socket) {
                    seat.socket = None;
                    self.with_client(client, |client, ctx| client.cut(ctx));
                }
                Ok(())
            }
            Event::GiveUp { socket } => {
                self.give_up(socket);
                Ok(())
            }
            Event::Timer { client, token } => {
                self.trace
                    .note(self.time, None, What::Timer, client as u64, 0);
                self.with_client(client, |client, ctx| client.timer(ctx, token));
                Ok(())
            }
        }
    }

    /// Whether what is for a core is for one that runs.
    fn lives(&self, core: Core) -> bool {
        self.nodes[core.node].lives(core)
    }

    fn running(&mut self, core: Core) -> &mut Running {
        &mut self.nodes[core.node].shards[core.shard]
    }

    fn disk_done(
        &mut self,
        node: usize,
        store: StoreId,
        id: IoId,
        errno: Option<i32>,
        fatal: bool,
    ) -> Result<(), DiskError> {
        let number = u64::from(store.0);
        let it = &mut self.nodes[node];
        let Some(errno) = errno else {
            it.disks[usize::from(store.0)].complete(id);
            self.note(node, What::DiskDone, number, id.0);
            return Ok(());
        };
        if fatal {
            it.fault_injected = true;
        } else {
            it.disks[usize::from(store.0)].found_no_room(id);
            self.note(node, What::NoRoom, number, 0);
        }
        self.note(node, What::DiskFailed, number, errno as u64);
        Err(DiskError { errno })
    }

    /// Gives a shard an input, sees to it that it is told when nothing is waiting, and carries out
    /// what it wants done.
    pub(super) fn shard_input(&mut self, core: Core, input: Input) -> Done {
        if !self.lives(core) {
            return Ok(());
        }
        if !std::mem::replace(&mut self.running(core).idle_due, true) {
            let at = self.time + self.delay(self.plan.delays.idle);
            self.events.add(at, Event::Idle { core });
        }
        self.give(core, input)
    }

    fn idle(&mut self, core: Core) -> Done {
        self.note(core.node, What::Idle, core.shard as u64, 0);
        self.running(core).idle_due = false;
        self.give(core, Input::Idle)?;
        self.nothing_is_left(core)
    }

    /// A shard that would sleep now has nothing to do: told again that it is idle, it wants nothing done. Who forgets
    /// to ask for another turn would wait until something else happens, and near the end of a stop nothing does.
    fn nothing_is_left(&mut self, core: Core) -> Done {
        if !self.lives(core) || self.running(core).wake_at <= self.time {
            return Ok(());
        }
        let mut outputs = std::mem::take(&mut self.outputs);
        self.nodes[core.node].handle(self.time, core.shard, Input::Idle, &mut outputs);
        let clock = &self.nodes[core.node].clock;
        let sleeps = |output: &Output| match output {
            Output::WakeAt(deadline) => clock.time_of(*deadline) > self.time,
            _ => false,
        };
        let left = outputs.drain(..).find(|output| !sleeps(output));
        self.outputs = outputs;
        left.map_or(Ok(()), |left| {
            violated(
                "NothingIsLeft",
                format!("{core:?} was about to sleep, and then wanted {left:?}"),
            )
        })
    }

    pub(super) fn give(&mut self, core: Core, input: Input) -> Done {
        let mut outputs = std::mem::take(&mut self.outputs);
        self.nodes[core.node].handle(self.time, core.shard, input, &mut outputs);
        for output in outputs.drain(..) {
            self.perform(core, output)?;
            if !self.lives(core) {
                break;
            }
        }
        outputs.clear();
        self.outputs = outputs;
        self.metadata_agrees(core)?;
        let it = &self.nodes[core.node];
        if it.state == State::Stopping && it.is_over() {
            return self.drained(core.node);
        }
        Ok(())
    }

    pub(super) fn perform(&mut self, core: Core, output: Output) -> Done {
        let Core { node, shard, .. } = core;
        match output {
            Output::Reply { conn, pieces } => return self.reply(Socket { node, conn }, pieces),
            // Whatever its client sends from here on is not looked at.
            Output::TakeNoMore { .. } => {}
            Output::Close { conn, why } => return self.close(Socket { node, conn }, &why),
            Output::Dial { link, to } => return self.dial(core, link, (&to.0, to.1)),
            Output::LinkSend { link, pieces } => return self.link_send(core, link, &pieces),
            Output::LinkClose { link } => self.link_close(core, link),
            Output::Mesh { to, msg } => {
                let to = usize::from(to.0);
                self.note(node, What::Mesh, shard as u64, to as u64);
                if to > 0 && matches!(*msg, Msg::Groups { .. }) {
                    self.note(node, What::GroupElsewhere, shard as u64, to as u64);
                }
                let at = self.time + self.delay(self.plan.delays.mesh);
                let at = self.nodes[node].mesh(shard, to).arrives_at(at);
                let from = ShardId(shard as u16);
                let input = Input::Mesh { from, msg };
                let core = Core { shard: to, ..core };
                self.events.add(at, Event::Input { core, input });
            }
            Output::Disk { store, op } => return self.disk(core, store, op),
            Output::Read { id, pieces } => {
                if let Some(what) = self.nodes[node].not_durable(&pieces) {
                    return violated("OnlyDurableIsRead", what);
                }
                let at = self.time + self.delay(self.plan.delays.disk);
                self.events.add(at, Event::ReadDone { core, id, pieces });
            }
            Output::WakeAt(deadline) => {
                let at = self.nodes[node].clock.time_of(deadline);
                let before = std::mem::replace(&mut self.running(core).wake_at, at);
                // One that is still to come need not come twice: a busy shard names the same time for long.
                if at < u64::MAX && (at != before || at <= self.time) {
                    let at = at.max(self.time + 1);
                    self.events.add(at, Event::Wake { core });
                }
            }
            Output::Ready => {
                self.running(core).ready = true;
                let it = &mut self.nodes[node];
                if it.all_ready() && it.state == State::Starting {
                    it.state = State::Up;
                    it.since = self.time;
                    self.note(node, What::Ready, 0, 0);
                }
            }
            Output::TakeNoRequests => self.nodes[core.node].takes_none = true,
            Output::Drained => {
                self.running(core).drained = true;
            }
            Output::Fatal { status, message } => return self.fatal(core, status, message),
        }
        Ok(())
    }

    fn fatal(&mut self, core: Core, status: u8, message: String) -> Done {
        let node = core.node;
        self.note(node, What::Fatal, core.shard as u64, u64::from(status));
        if self.shared.rotten {
            // Rot may cost the metadata; it makes no write fail.
            if status != fatal::STATUS_METADATA {
                return violated("NoFatalWithoutCause", message);
            }
            self.damage_noticed(&message);
            return Ok(());
        }
        if !self.nodes[node].fault_injected {
            return violated("NoFatalWithoutCause", message);
        }
        self.crash(node);
        self.restart_soon(node);
        Ok(())
    }

    fn disk(&mut self, core: Core, store: StoreId, op: DiskOp) -> Done {
        let node = core.node;
        let id = op.id();
        let allocates = matches!(op, DiskOp::Allocate { .. });
        let number = u64::from(store.0);
        self.note(node, What::Disk, number, id.0);
        let ahead = writes_ahead(&op);
        let kind = match op {
            DiskOp::Allocate { .. } => Some(What::Grown),
            DiskOp::Sync { .. } => Some(What::Synced),
            DiskOp::Write { .. } if ahead => Some(What::WrittenAhead),
            DiskOp::Write { through, .. } => through.then_some(What::WrittenThrough),
        };
        if let Some(kind) = kind {
            self.note(node, kind, number, id.0);
        }
        if let DiskOp::Write { pos: 0, data, .. } = &op {
            self.note(node, What::Checkpoint, number, 0);
            let bytes = checkpoint_bytes(data).unwrap_or(0);
            if bytes > LARGE_CHECKPOINT {
                self.note(node, What::LargeCheckpoint, number, bytes);
            }
        }
        let disk = &mut self.nodes[node].disks[usize::from(store.0)];
        let wraps = !ahead && disk.wraps(&op, &self.plan.store.ring());
        if let Err(what) = disk.issue(op) {
            return violated("WritesAreProper", format!("store-{store}: {what}"));
        }
        if wraps {
            self.note(node, What::Wrapped, number, 0);
        }
        let faults = self.plan.faults.disk_error;
        let fails = self.shared.phase == Phase::Busy && faults > 0 && self.rng.chance(1, faults);
        let mut errno = fails.then(|| if self.rng.chance(1, 3) { ENOSPC } else { 5 });
        let scarce = self.plan.faults.no_room;
        if allocates && errno.is_none() && scarce > 0 && self.time < self.relief {
            errno = self.rng.chance(scarce, 8).then_some(ENOSPC);
        }
        let at = self.time + self.delay(self.plan.delays.disk);
        self.events.add(
            at,
            Event::DiskDone {
                core,
                store,
                id,
                errno,
                ahead: ahead || allocates,
            },
        );
        Ok(())
    }
}
