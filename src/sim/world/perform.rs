//! Events performed: inputs given to shards, their outputs carried out, frames
//! carried between clients and shards.

use bytes::Bytes;

use super::{Event, State, World, violated};
use crate::base::{StoreId, crc::crc32c};
use crate::broker::{ConnId, Input, Output};
use crate::sim::clients::Phase;
use crate::sim::clock::MS;
use crate::sim::net::Expected;
use crate::sim::oracle::Violation;
use crate::sim::what::What;
use crate::store::{DiskError, DiskOp, Piece};
use crate::wire::client;

/// The disk is full.
const ENOSPC: i32 = 28;

type Done = Result<(), Violation>;

impl World {
    pub(super) fn handle(&mut self, event: Event) -> Done {
        let starts = self.node.starts;
        let running = self.node.state != State::Down;
        let is_now = |start: u32| running && start == starts;
        match event {
            Event::Start => self.start_node(),
            Event::Input {
                start,
                shard,
                input,
            } if is_now(start) => {
                self.trace.note(self.time, What::Input, shard as u64, 0);
                self.shard_input(shard, input)
            }
            Event::Idle { start, shard } if is_now(start) => self.idle(shard),
            Event::Wake { start, shard } if is_now(start) => {
                // Void if the shard has named another time since.
                if self.node.shards[shard].wake_at <= self.time {
                    self.idle(shard)
                } else {
                    Ok(())
                }
            }
            Event::DiskDone {
                start,
                shard,
                store,
                id,
                errno,
                ahead,
            } if is_now(start) => {
                // That there is no room to grow into is the one error which costs nothing.
                let failed = errno.is_some_and(|errno| !(ahead && errno == ENOSPC));
                let result = self.disk_done(store, id, errno, failed);
                self.shard_input(shard, Input::Disk { store, id, result })?;
                if failed && self.node.state != State::Down {
                    return violated("DiskErrorsAreFatal", format!("store-{store} goes on"));
                }
                Ok(())
            }
            Event::ReadDone {
                start,
                shard,
                id,
                pieces,
            } if is_now(start) => {
                let fails = self.plan.faults.read_error;
                let fails =
                    self.shared.phase == Phase::Busy && fails > 0 && self.rng.chance(1, fails);
                let result = if fails {
                    self.trace
                        .note(self.time, What::ReadFailed, shard as u64, 0);
                    self.node.fault_injected = true;
                    Err(DiskError { errno: 5 })
                } else {
                    self.node.read(&pieces)
                };
                self.shard_input(shard, Input::Read { id, result })
            }
            Event::Request { conn, frame } => self.request(conn, frame),
            Event::Closed { conn } => match self.net.remove(conn) {
                Some(ended) => self.shard_input(ended.shard, Input::ConnClosed { conn }),
                None => Ok(()),
            },
            Event::Connect { client, to } => self.connect(client, to),
            Event::Connected { client, conn } => {
                if self
                    .clients
                    .get(client)
                    .is_some_and(|(_, its)| *its == Some(conn))
                {
                    self.trace
                        .note(self.time, What::Connected, client as u64, conn.0);
                    self.with_client(client, |client, ctx| client.connected(ctx));
                }
                Ok(())
            }
            Event::Answer { conn, pieces } => self.answer(conn, &pieces),
            Event::Cut { client, conn } => {
                let its = self.clients.get_mut(client).map(|(_, its)| its);
                if let Some(its) = its.filter(|its| **its == conn) {
                    *its = None;
                    self.with_client(client, |client, ctx| client.cut(ctx));
                }
                Ok(())
            }
            Event::Timer { client, token } => {
                self.trace.note(self.time, What::Timer, client as u64, 0);
                self.with_client(client, |client, ctx| client.timer(ctx, token));
                Ok(())
            }
            // Of an earlier start.
            Event::Input { .. }
            | Event::Idle { .. }
            | Event::Wake { .. }
            | Event::DiskDone { .. }
            | Event::ReadDone { .. } => Ok(()),
        }
    }

    fn disk_done(
        &mut self,
        store: StoreId,
        id: crate::store::IoId,
        errno: Option<i32>,
        fatal: bool,
    ) -> Result<(), DiskError> {
        let store = u64::from(store.0);
        if let Some(errno) = errno {
            self.node.fault_injected |= fatal;
            if !fatal {
                self.node.disks[store as usize].found_no_room(id);
                self.trace.note(self.time, What::NoRoom, store, 0);
            }
            self.trace
                .note(self.time, What::DiskFailed, store, errno as u64);
            return Err(DiskError { errno });
        }
        self.trace.note(self.time, What::DiskDone, store, id.0);
        self.node.disks[store as usize].complete(id);
        Ok(())
    }

    /// Gives a shard an input, sees to it that it is told when nothing is waiting, and carries out
    /// what it wants done.
    pub(super) fn shard_input(&mut self, shard: usize, input: Input) -> Done {
        if self.node.state == State::Down {
            return Ok(());
        }
        if !self.node.shards[shard].idle_due {
            self.node.shards[shard].idle_due = true;
            let at = self.time + self.delay(self.plan.delays.idle);
            let start = self.node.starts;
            self.events.add(at, Event::Idle { start, shard });
        }
        self.give(shard, input)
    }

    fn idle(&mut self, shard: usize) -> Done {
        self.trace.note(self.time, What::Idle, shard as u64, 0);
        self.node.shards[shard].idle_due = false;
        self.give(shard, Input::Idle)
    }

    fn give(&mut self, shard: usize, input: Input) -> Done {
        let mut outputs = std::mem::take(&mut self.outputs);
        self.node.handle(self.time, shard, input, &mut outputs);
        for output in outputs.drain(..) {
            self.perform(shard, output)?;
            if self.node.state == State::Down {
                break;
            }
        }
        outputs.clear();
        self.outputs = outputs;
        Ok(())
    }

    fn perform(&mut self, shard: usize, output: Output) -> Done {
        let start = self.node.starts;
        match output {
            Output::Reply { conn, pieces } => return self.reply(conn, pieces),
            // Whatever its client sends from here on is not looked at.
            Output::TakeNoMore { .. } => {}
            Output::Close { conn, why } => return self.close(conn, why),
            Output::Mesh { to, msg } => {
                let to = usize::from(to.0);
                self.trace
                    .note(self.time, What::Mesh, shard as u64, to as u64);
                let at = self.time + self.delay(self.plan.delays.mesh);
                let at = self.node.mesh_arrives_at(shard, to, at);
                let from = crate::base::ShardId(shard as u16);
                let input = Input::Mesh { from, msg };
                self.events.add(
                    at,
                    Event::Input {
                        start,
                        shard: to,
                        input,
                    },
                );
            }
            Output::Disk { store, op } => return self.disk(shard, store, op),
            Output::Read { id, pieces } => {
                if let Some(what) = self.node.not_durable(&pieces) {
                    return violated("OnlyDurableIsRead", what);
                }
                let at = self.time + self.delay(self.plan.delays.disk);
                self.events.add(
                    at,
                    Event::ReadDone {
                        start,
                        shard,
                        id,
                        pieces,
                    },
                );
            }
            Output::WakeAt(deadline) => {
                let at = self.node.clock.time_of(deadline);
                let before = std::mem::replace(&mut self.node.shards[shard].wake_at, at);
                // One that is still to come need not come twice: a busy shard names the same time for long.
                if at < u64::MAX && (at != before || at <= self.time) {
                    let at = at.max(self.time + 1);
                    self.events.add(at, Event::Wake { start, shard });
                }
            }
            Output::Ready => {
                self.node.shards[shard].ready = true;
                if self.node.all_ready() && self.node.state == State::Starting {
                    self.trace.note(self.time, What::Ready, 0, 0);
                    self.node.state = State::Up;
                    self.node.since = self.time;
                }
            }
            Output::Drained => {
                self.node.shards[shard].drained = true;
                if self.node.all_drained() {
                    return self.drained();
                }
            }
            Output::Fatal { status, message } => return self.fatal(shard, status, &message),
        }
        Ok(())
    }

    fn fatal(&mut self, shard: usize, status: u8, message: &str) -> Done {
        self.trace
            .note(self.time, What::Fatal, shard as u64, u64::from(status));
        if self.shared.rotten {
            return self.damage_noticed(message);
        }
        if !self.node.fault_injected {
            return violated("NoFatalWithoutCause", message.to_owned());
        }
        self.crash();
        self.restart_soon();
        Ok(())
    }

    fn disk(&mut self, shard: usize, store: StoreId, op: DiskOp) -> Done {
        let id = op.id();
        let allocates = matches!(op, DiskOp::Allocate { .. });
        let number = u64::from(store.0);
        self.trace.note(self.time, What::Disk, number, id.0);
        if matches!(op, DiskOp::Write { pos: 0, .. }) {
            self.trace.note(self.time, What::Checkpoint, number, 0);
        }
        let zeroes = matches!(&op, DiskOp::Write { background: true, data, .. } if data.iter().all(|byte| *byte == 0));
        let ahead = allocates || zeroes;
        let disk = &mut self.node.disks[usize::from(store.0)];
        if !zeroes && disk.wraps(&op, &self.plan.store.ring()) {
            self.trace.note(self.time, What::Wrapped, number, 0);
        }
        if let Err(what) = self.node.disks[usize::from(store.0)].issue(op) {
            return violated("WritesAreProper", format!("store-{store}: {what}"));
        }
        let faults = self.plan.faults.disk_error;
        let fails = self.shared.phase == Phase::Busy && faults > 0 && self.rng.chance(1, faults);
        let mut errno = fails.then(|| if self.rng.chance(1, 3) { ENOSPC } else { 5 });
        let scarce = self.plan.faults.no_room;
        if allocates && errno.is_none() && scarce > 0 && self.time < self.relief {
            errno = self.rng.chance(scarce, 8).then_some(ENOSPC);
        }
        let at = self.time + self.delay(self.plan.delays.disk);
        let start = self.node.starts;
        self.events.add(
            at,
            Event::DiskDone {
                start,
                shard,
                store,
                id,
                errno,
                ahead,
            },
        );
        Ok(())
    }

    /// The shard that a connection to a port of its own, or to the common one, comes to, if one listens there.
    fn shard_at(&mut self, port: Option<u16>) -> Option<usize> {
        let shards = self.node.shards.len();
        match port {
            None => Some(self.rng.below(shards as u64) as usize),
            Some(port) => (0..shards).find(|shard| self.plan.direct_port(*shard) == Some(port)),
        }
    }

    fn connect(&mut self, client: usize, to: Option<u16>) -> Done {
        let shard = match self.node.state {
            State::Up => self.shard_at(to),
            _ => None,
        };
        let Some(shard) = shard else {
            if let Some(port) = to {
                self.shared.forget_port(port);
            }
            let at = self.time + 10 * MS + self.delay(40 * MS);
            self.events.add(at, Event::Cut { client, conn: None });
            return Ok(());
        };
        let conn = self.net.open(client, shard);
        self.clients[client].1 = Some(conn);
        let delay = self.delay(self.plan.delays.net);
        self.events
            .add(self.time + delay, Event::Connected { client, conn });
        let peer = std::net::SocketAddr::from(([10, 0, 0, client as u8], 1000));
        let listener = 0;
        self.shard_input(
            shard,
            Input::ConnOpened {
                conn,
                peer,
                listener,
            },
        )
    }

    fn request(&mut self, id: ConnId, frame: Bytes) -> Done {
        let stopping = self.node.state == State::Stopping;
        let Some(conn) = self.net.get(id) else {
            return Ok(());
        };
        let answered = conn.on_the_way.pop_front().unwrap_or(true);
        if stopping || conn.requests_lost {
            return Ok(());
        }
        let key = i16::from_be_bytes([frame[4], frame[5]]);
        let correlation = i32::from_be_bytes([frame[8], frame[9], frame[10], frame[11]]);
        conn.expected.push_back(Expected {
            correlation,
            key,
            answered,
            since: self.time,
        });
        let shard = conn.shard;
        self.trace.note(self.time, What::Request, id.0, key as u64);
        let at = self.node.clock.now(self.time).mono;
        self.shard_input(
            shard,
            Input::Request {
                conn: id,
                frame: frame.slice(4..),
                at,
            },
        )
    }

    fn reply(&mut self, id: ConnId, pieces: Vec<Piece>) -> Done {
        let delay = self.delay(self.plan.delays.net);
        let not_durable = self.node.not_durable(&pieces);
        let Some(conn) = self.net.get(id) else {
            return violated(
                "RepliesInOrder",
                format!("a reply to {id:?}, which is gone"),
            );
        };
        let Some(expected) = conn.expected.pop_front() else {
            return violated("RepliesInOrder", format!("{id:?}: a reply to nothing"));
        };
        if pieces.is_empty() == expected.answered {
            let what = format!("{id:?}: {} pieces for {expected:?}", pieces.len());
            return violated("RepliesInOrder", what);
        }
        let first = pieces.first().map(|piece| match piece {
            Piece::Memory(bytes) => bytes.get(4..8).map(<[u8]>::to_vec),
            Piece::File { .. } => None,
        });
        if let Some(first) = first
            && first.as_deref() != Some(&expected.correlation.to_be_bytes()[..])
        {
            let what = format!("{id:?}: {first:?} answers {expected:?}");
            return violated("RepliesInOrder", what);
        }
        if let Some(what) = not_durable {
            return violated("OnlyDurableIsRead", what);
        }
        let in_file = |piece: &Piece| matches!(piece, Piece::File { .. });
        let file_bytes: usize = pieces.iter().filter(|p| in_file(p)).map(Piece::len).sum();
        if file_bytes > 0 {
            self.trace
                .note(self.time, What::FileBytes, id.0, file_bytes as u64);
        }
        if !pieces.is_empty() && !conn.client_gone {
            let at = conn.client_gets_at(self.time + delay);
            self.events.add(at, Event::Answer { conn: id, pieces });
        }
        let shard = conn.shard;
        let sent = Input::Sent {
            conn: id,
            replies: 1,
        };
        self.give(shard, sent)
    }

    fn answer(&mut self, id: ConnId, pieces: &[Piece]) -> Done {
        // The bytes are read when they are sent: until then the pieces hold what they name.
        let Some(conn) = self.net.get(id).filter(|conn| !conn.client_gone) else {
            return Ok(());
        };
        let client = conn.client;
        let frame = match self.node.read(pieces) {
            Ok(frame) => frame,
            Err(error) => {
                return violated("OnlyDurableIsRead", format!("errno {}", error.errno));
            }
        };
        self.trace
            .note(self.time, What::Reply, id.0, u64::from(crc32c(&frame)));
        let len = frame.first_chunk().map(|len| u32::from_be_bytes(*len));
        if len.map(|len| len as usize + 4) != Some(frame.len()) {
            let what = format!("length {len:?} of a frame of {} bytes", frame.len());
            return violated("AnswersAreWellFormed", what);
        }
        let frame = frame.slice(4..);
        debug_assert!(client::correlation_id(&frame).is_some());
        self.with_client(client, |client, ctx| client.answer(ctx, frame));
        Ok(())
    }

    /// The shard closes a connection. Clients of the simulator give it a reason in one case only: an
    /// acks=0 produce that failed.
    fn close(&mut self, id: ConnId, why: String) -> Done {
        let conn = self.net.get(id);
        if let Some(conn) = conn
            && conn.expected.iter().all(|expected| expected.answered)
            && !conn.client_gone
        {
            return violated("NoCloseWithoutReason", format!("{id:?}: {why}"));
        }
        self.end_conn(id, true);
        Ok(())
    }
}
