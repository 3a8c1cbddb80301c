//! What goes wrong: machines that stop, clocks that jump, connections that end,
//! ways that are shut, bits that flip.

use super::{Ending, Event, Phase, Socket, World, violated};
use crate::base::BLOCK;
use crate::broker::{ConnId, Input};
use crate::sim::clients::{Auditor, Talk};
use crate::sim::clock::MS;
use crate::sim::disk::Crash;
use crate::sim::fact::Fact;
use crate::sim::links::Links;
use crate::sim::net::End;
use crate::sim::node::State;
use crate::sim::oracle::Violation;
use crate::sim::what::What;

/// The longest time for which a way is shut, or one side does not learn that a connection has ended.
const SILENCE_MAX: u64 = 2_000 * MS;
/// What rots in the copies of something lies within so many bytes: of one and the same thing.
const NEAR: u64 = 32;
/// How long a client waits on a connection whose way is shut.
const PATIENCE: u64 = 300 * MS;
/// Something happens to a link between nodes no more often than this. A quorum forms, and elects, when enough links
/// are there at a time, which they never are if each ends before the next one is there; and as long as nodes wait for
/// that hardly any events but these happen.
const LINKS_SPARED: u64 = 500 * MS;

impl World {
    /// Lets things go wrong, each with its probability.
    pub(super) fn go_wrong(&mut self) {
        let faults = self.plan.faults;
        let mut happens = |distance: u64| distance > 0 && self.rng.chance(1, distance);
        let (cut, jump) = (happens(faults.cut), happens(faults.wall_jump));
        let (crash, shutdown) = (happens(faults.crash), happens(faults.shutdown));
        let (shut, memory) = (happens(faults.shut), happens(faults.memory));
        let node = self.rng.below(self.nodes.len() as u64) as usize;
        if cut {
            self.cut_one(node);
        }
        if shut {
            self.shut_one(node);
        }
        if jump {
            // Not farther apart than timestamps from before a jump may lie in the future.
            let lead_ms = self.wall_ms + self.rng.below(3_000_000) as i64;
            self.nodes[node].clock.jump(lead_ms);
            self.note(node, What::WallJump, lead_ms as u64, 0);
        }
        if memory {
            self.change_memory(node);
        }
        if crash && self.nodes[node].state != State::Down {
            self.crash(node);
            self.restart_soon(node);
        } else if shutdown && self.nodes[node].state == State::Up {
            self.shut_down(node);
        }
    }

    /// The shards of a node get another bound for their memory tails.
    fn change_memory(&mut self, node: usize) {
        const BYTES_MAX: u64 = 4 << 20;
        let bytes = (BYTES_MAX >> self.rng.below(12)) as usize;
        if self.nodes[node].state == State::Down {
            return;
        }
        self.note(node, What::MemoryChanged, bytes as u64, 0);
        for shard in 0..self.nodes[node].shards.len() {
            let core = self.nodes[node].core(shard);
            let input = Input::TailBytesMax(bytes);
            self.events.add(self.time, Event::Input { core, input });
        }
    }

    /// A machine stops.
    pub(super) fn crash(&mut self, node: usize) {
        self.tell_watermarks(node);
        self.oracle.tell(Fact::Crashed { node });
        let crashes = self.nodes[node].stop(self.time, &mut self.rng);
        let unsynced: usize = crashes.iter().map(|crash| crash.unsynced).sum();
        self.note(node, What::Crash, unsynced as u64, 0);
        for (store, crash) in crashes.iter().enumerate() {
            let Crash {
                lost, torn, spared, ..
            } = *crash;
            let left = [
                (What::Lost, lost),
                (What::Torn, torn),
                (What::Spared, spared),
            ];
            for (what, writes) in left.into_iter().filter(|(_, writes)| *writes > 0) {
                self.note(node, what, store as u64, writes as u64);
            }
        }
        for socket in self.links.end_all(node) {
            let requests_lost = self.rng.chance(1, 2);
            self.end_conn(socket, requests_lost);
        }
        for (conn, client) in self.nodes[node].conns.end_all() {
            let socket = Some(Socket { node, conn });
            let at = self.arrival(End::Node(node), self.end(client));
            self.events.add(at, Event::Cut { client, socket });
        }
    }

    pub(super) fn restart_soon(&mut self, node: usize) {
        let at = self.time + self.delay(200 * MS);
        self.events.add(at, Event::Start { node });
    }

    pub(super) fn shut_down(&mut self, node: usize) {
        self.note(node, What::Shutdown, 0, 0);
        self.nodes[node].state = State::Stopping;
        self.nodes[node].since = self.time;
        self.shared.lives[node].stops += 1;
        for shard in 0..self.nodes[node].shards.len() {
            let at = self.time + self.delay(self.plan.delays.mesh);
            let core = self.nodes[node].core(shard);
            let input = Input::Shutdown;
            self.events.add(at, Event::Input { core, input });
        }
    }

    /// All shards of a node are drained: the process ends.
    pub(super) fn drained(&mut self, node: usize) -> Result<(), Violation> {
        self.note(node, What::Drained, 0, 0);
        let busy = self.shared.phase == Phase::Busy;
        let cut = busy && self.plan.faults.crash > 0 && self.rng.chance(1, 4);
        let whole = match self.nodes[node].end(cut, &mut self.rng) {
            Ok(whole) => whole,
            Err(what) => return violated("WritesAreProper", what),
        };
        self.crash(node);
        self.oracle.tell(Fact::Stopped { node, whole });
        if self.ending != Ending::ShutDown {
            self.restart_soon(node);
            return Ok(());
        }
        if self.nodes.iter().any(|node| node.state != State::Down) {
            return Ok(());
        }
        self.ending = Ending::RottenAudit;
        for node in 0..self.nodes.len() {
            self.rot_stopped(node)?;
            self.restart_soon(node);
        }
        self.audit_rotten();
        Ok(())
    }

    /// Flips bits of a node that was shut down, and remembers which of its stores may refuse to start.
    fn rot_stopped(&mut self, node: usize) -> Result<(), Violation> {
        let read = self.nodes[node].read_by_start(self.time, &self.plan.store);
        let read = match read {
            Ok(read) => read,
            Err(why) => return violated("RecoverySucceeds", why),
        };
        let ring = self.plan.store.ring();
        let rotten = if self.rng.chance(1, 4) {
            self.rot(node, 4)
        } else {
            self.rot_copies(node, &read)
        };
        for (store, pos) in rotten {
            let holds = |(start, len): &(u64, usize)| (*start..start + *len as u64).contains(&pos);
            let is_read = read[store].iter().any(holds);
            if is_read {
                self.nodes[node].excuses.insert(store);
            }
            // A record of the journal is about any number of logs, everything else about one.
            let in_record = is_read && ring.contains(&pos);
            self.may_damage(if in_record { usize::MAX } else { 1 });
        }
        Ok(())
    }

    /// Bits were flipped that may have damaged so many partitions more.
    pub(super) fn may_damage(&mut self, partitions: usize) {
        let known = self.damaged_max.unwrap_or(0);
        self.damaged_max = Some(known.saturating_add(partitions));
    }

    /// What has rotted costs the partitions that it is of, and no others.
    pub(super) fn rot_is_confined(&self) -> Result<(), Violation> {
        let damaged = &self.shared.damaged;
        match self.damaged_max {
            Some(most) if damaged.len() > most => {
                let what = format!("{damaged:?} are damaged by {most} bits");
                violated("RotIsConfined", what)
            }
            _ => Ok(()),
        }
    }

    /// Flips fewer than so many bits of each store of a node; says where.
    pub(super) fn rot(&mut self, node: usize, bits: u64) -> Vec<(usize, u64)> {
        self.shared.rotten = true;
        let mut places = Vec::new();
        for store in 0..self.nodes[node].disks.len() {
            for _ in 0..self.rng.below(bits) {
                if let Some(pos) = self.nodes[node].disks[store].rot(&mut self.rng) {
                    self.note(node, What::Rot, store as u64, pos);
                    places.push((store, pos));
                }
            }
        }
        places
    }

    /// Flips a bit or two of what a start reads of a store, and some near the same place in each copy of it.
    fn rot_copies(&mut self, node: usize, read: &[Vec<(u64, usize)>]) -> Vec<(usize, u64)> {
        self.shared.rotten = true;
        let mut places = Vec::new();
        for _ in 0..=self.rng.below(2) {
            let all = read.iter().enumerate();
            let blocks: Vec<(usize, u64)> = all
                .flat_map(|(store, places)| places.iter().map(move |place| (store, *place)))
                .flat_map(|(store, (start, len))| {
                    let blocks = (start..start + len as u64).step_by(BLOCK);
                    blocks.map(move |block| (store, block))
                })
                .collect();
            let Some(&(store, block)) = blocks.get(self.rng.below(blocks.len() as u64) as usize)
            else {
                continue;
            };
            let pos = block + self.rng.below(BLOCK as u64);
            let copies = self.nodes[node].disks[store].twins(pos);
            for pos in std::iter::once(pos).chain(copies) {
                let near = pos / NEAR * NEAR + self.rng.below(NEAR);
                self.nodes[node].disks[store].flip(near, &mut self.rng);
                self.note(node, What::Rot, store as u64, near);
                places.push((store, near));
            }
        }
        places
    }

    /// Everything is read once more: served right or refused, never wrong and never in silence.
    pub(super) fn audit_rotten(&mut self) {
        self.phase_since = self.time;
        self.add_client(Box::new(Talk::new(Auditor::default())));
    }

    /// One of a node's connections to which something may happen, and whose it is.
    fn any_conn(&mut self, node: usize) -> Option<(ConnId, usize)> {
        let (conn, client) = self.nodes[node].conns.any(&mut self.rng)?;
        if Links::is_one(client) {
            if self.time < self.links_spared {
                return None;
            }
            self.links_spared = self.time + LINKS_SPARED;
        }
        Some((conn, client))
    }

    /// A connection ends at any moment. Requests on their way may still arrive; answers do not. One side may not
    /// learn of it for long.
    fn cut_one(&mut self, node: usize) {
        let Some((conn, client)) = self.any_conn(node) else {
            return;
        };
        let requests_lost = self.rng.chance(1, 2);
        let silence = self.delay(SILENCE_MAX);
        let (shard_later, client_later) = match self.rng.below(8) {
            0 => (silence, 0),
            1 => (0, silence),
            _ => (0, 0),
        };
        if shard_later > 0 {
            self.note(node, What::ShardUnaware, client as u64, conn.0);
        }
        if client_later > 0 {
            self.note(node, What::ClientUnaware, client as u64, conn.0);
        }
        let socket = Socket { node, conn };
        self.end_conn_later(socket, requests_lost, shard_later, client_later);
    }

    /// The way between a client and a node is shut, in one direction or in both.
    fn shut_one(&mut self, node: usize) {
        let Some((conn, client)) = self.any_conn(node) else {
            return;
        };
        let lasts = self.delay(SILENCE_MAX);
        let until = self.time + lasts;
        let (what, to_node, from_node) = match self.rng.below(3) {
            0 => (What::ShutToNode, true, false),
            1 => (What::ShutFromNode, false, true),
            _ => (What::ShutBothWays, true, true),
        };
        self.note(node, what, client as u64, lasts / MS);
        let (client, end) = (self.end(client), End::Node(node));
        if to_node {
            self.net.shut(client, end, until);
        }
        if from_node {
            self.net.shut(end, client, until);
        }
        if lasts > PATIENCE {
            let socket = Socket { node, conn };
            self.events
                .add(self.time + PATIENCE, Event::GiveUp { socket });
        }
    }
}
