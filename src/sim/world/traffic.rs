//! Frames carried between clients and nodes, and connections made and ended.

use bytes::Bytes;

use super::perform::Done;
use super::{Event, Socket, World, violated};
use crate::base::crc::crc32c;
use crate::broker::Input;
use crate::sim::clock::MS;
use crate::sim::conns::{Expected, watched};
use crate::sim::fact::Address;
use crate::sim::links::Links;
use crate::sim::net::End;
use crate::sim::node::State;
use crate::sim::what::What;
use crate::store::Piece;
use crate::wire::client;

impl World {
    /// When what leaves one end now reaches the other.
    pub(super) fn arrival(&mut self, from: End, to: End) -> u64 {
        self.net.arrival(self.time, from, to, &mut self.rng)
    }

    /// The node and shard that a connection comes to, if one listens there and the way is open.
    fn listener(&mut self, client: usize, to: Option<Address>) -> Option<(usize, usize)> {
        let node = to.map_or_else(
            || self.rng.below(self.nodes.len() as u64) as usize,
            |to| to.node,
        );
        let (near, far) = (End::Client(client), End::Node(node));
        let ways = [(near, far), (far, near)];
        let is_shut = |(from, to)| self.net.is_shut(self.time, from, to);
        let it = self.nodes.get(node)?;
        if it.state != State::Up || ways.into_iter().any(is_shut) {
            return None;
        }
        let shards = it.shards.len();
        let shard = match to {
            None => self.rng.below(shards as u64) as usize,
            Some(to) if it.listens_at(to.port) => self.rng.below(shards as u64) as usize,
            Some(to) => (0..shards).find(|shard| it.direct_port(*shard) == Some(to.port))?,
        };
        Some((node, shard))
    }

    pub(super) fn connect(&mut self, client: usize, to: Option<Address>) -> Done {
        let Some((node, shard)) = self.listener(client, to) else {
            if let Some(to) = to {
                self.shared.forget(to);
            }
            let at = self.time + 10 * MS + self.delay(40 * MS);
            let socket = None;
            self.events.add(at, Event::Cut { client, socket });
            return Ok(());
        };
        let conn = self.nodes[node].conns.open(client, shard);
        let socket = Socket { node, conn };
        if let Some(seat) = self.seats.get_mut(client) {
            (seat.socket, seat.node) = (Some(socket), node);
        }
        let at = self.arrival(End::Node(node), End::Client(client));
        self.events.add(at, Event::Connected { client, socket });
        let peer = std::net::SocketAddr::from(([10, 0, 0, client as u8], 1000));
        let listener = 0;
        let core = self.nodes[node].core(shard);
        self.shard_input(
            core,
            Input::ConnOpened {
                conn,
                peer,
                listener,
            },
        )
    }

    /// A client sends a request.
    pub(super) fn send(&mut self, client: usize, frame: Bytes, answered: bool) {
        let Some(socket) = self.seats[client].socket else {
            return;
        };
        self.carry(client, socket, frame, answered);
    }

    /// A request goes to a shard, from a client or by a link.
    pub(super) fn carry(&mut self, client: usize, socket: Socket, frame: Bytes, answered: bool) {
        let at = self.arrival(self.end(client), End::Node(socket.node));
        if let Some(conn) = self.nodes[socket.node].conns.get(socket.conn) {
            conn.on_the_way.push_back(answered);
            let at = conn.to_shard.arrives_at(at);
            self.events.add(at, Event::Request { socket, frame });
        }
    }

    pub(super) fn request(&mut self, socket: Socket, frame: &Bytes) -> Done {
        let node = &mut self.nodes[socket.node];
        let stopping = node.takes_none;
        let Some(conn) = node.conns.get(socket.conn) else {
            return Ok(());
        };
        let answered = conn.on_the_way.pop_front().unwrap_or(true);
        if stopping || conn.requests_lost {
            return Ok(());
        }
        let key = i16::from_be_bytes([frame[4], frame[5]]);
        let correlation = i32::from_be_bytes([frame[8], frame[9], frame[10], frame[11]]);
        let (frame, had) = watched(frame.slice(4..));
        conn.expected.push_back(Expected {
            correlation,
            key,
            answered,
            since: self.time,
            had,
        });
        let shard = conn.shard;
        let (core, at) = (node.core(shard), node.clock.now(self.time).mono);
        self.note(socket.node, What::Request, socket.conn.0, key as u64);
        self.shard_input(
            core,
            Input::Request {
                conn: socket.conn,
                frame,
                at,
            },
        )
    }

    /// A shard replies.
    pub(super) fn reply(&mut self, socket: Socket, pieces: Vec<Piece>) -> Done {
        let Socket { node, conn: id } = socket;
        let not_durable = self.nodes[node].not_durable(&pieces);
        let Some(conn) = self.nodes[node].conns.get(id) else {
            return violated(
                "RepliesInOrder",
                format!("a reply to {socket:?}, which is gone"),
            );
        };
        let Some(expected) = conn.expected.pop_front() else {
            return violated("RepliesInOrder", format!("{socket:?}: a reply to nothing"));
        };
        if pieces.is_empty() == expected.answered {
            let what = format!("{socket:?}: {} pieces for {expected:?}", pieces.len());
            return violated("RepliesInOrder", what);
        }
        let first = pieces.first().map(|piece| match piece {
            Piece::Memory(bytes) => bytes.get(4..8).map(<[u8]>::to_vec),
            Piece::File { .. } => None,
        });
        if let Some(first) = first
            && first.as_deref() != Some(&expected.correlation.to_be_bytes()[..])
        {
            let what = format!("{socket:?}: {first:?} answers {expected:?}");
            return violated("RepliesInOrder", what);
        }
        if let Some(what) = not_durable {
            return violated("OnlyDurableIsRead", what);
        }
        let (client, shard, ended) = (conn.client, conn.shard, conn.ended);
        self.nodes[node].conns.answered(expected, self.time);
        let in_file = |piece: &Piece| matches!(piece, Piece::File { .. });
        let file_bytes: usize = pieces.iter().filter(|p| in_file(p)).map(Piece::len).sum();
        if file_bytes > 0 {
            self.note(node, What::FileBytes, id.0, file_bytes as u64);
        }
        if !pieces.is_empty() && !ended {
            let at = self.arrival(End::Node(node), self.end(client));
            if let Some(conn) = self.nodes[node].conns.get(id) {
                let at = conn.to_client.arrives_at(at);
                self.events.add(at, Event::Answer { socket, pieces });
            }
        }
        let core = self.nodes[node].core(shard);
        self.give(
            core,
            Input::Sent {
                conn: id,
                replies: 1,
            },
        )
    }

    pub(super) fn answer(&mut self, socket: Socket, pieces: &[Piece]) -> Done {
        // The bytes are read when they are sent: until then the pieces hold what they name.
        let node = &mut self.nodes[socket.node];
        let Some(conn) = node.conns.get(socket.conn).filter(|conn| !conn.ended) else {
            return Ok(());
        };
        let client = conn.client;
        let frame = match node.read(pieces) {
            Ok(frame) => frame,
            Err(error) => {
                return violated("OnlyDurableIsRead", format!("errno {}", error.errno));
            }
        };
        let crc = u64::from(crc32c(&frame));
        self.note(socket.node, What::Reply, socket.conn.0, crc);
        let len = frame.first_chunk().map(|len| u32::from_be_bytes(*len));
        if len.map(|len| len as usize + 4) != Some(frame.len()) {
            let what = format!("length {len:?} of a frame of {} bytes", frame.len());
            return violated("AnswersAreWellFormed", what);
        }
        let frame = frame.slice(4..);
        debug_assert!(client::correlation_id(&frame).is_some());
        if Links::is_one(client) {
            return self.link_answer(client, frame);
        }
        self.with_client(client, |client, ctx| client.answer(ctx, frame));
        Ok(())
    }

    /// The shard closes a connection. Clients of the simulator give it a reason in one case only: an
    /// acks=0 produce that failed, or that others do not decide on what is asked of a node that stops; and other nodes
    /// when they use another one.
    pub(super) fn close(&mut self, socket: Socket, why: &str) -> Done {
        let node = &mut self.nodes[socket.node];
        let waits_for_others = self.plan.is_cluster() && node.state == State::Stopping;
        let conn = node.conns.get(socket.conn);
        if let Some(conn) = conn
            && !conn.ended
            && !waits_for_others
            && if Links::is_one(conn.client) {
                self.links.is_used(conn.client)
            } else {
                conn.expected.iter().all(|expected| expected.answered)
            }
        {
            return violated("NoCloseWithoutReason", format!("{socket:?}: {why}"));
        }
        self.end_conn(socket, true);
        Ok(())
    }

    /// A client has waited long enough for a way to open.
    pub(super) fn give_up(&mut self, socket: Socket) {
        let conn = self.nodes[socket.node].conns.get(socket.conn);
        let Some(conn) = conn.filter(|conn| !conn.ended) else {
            return;
        };
        let client = conn.client;
        self.note(socket.node, What::GaveUp, client as u64, socket.conn.0);
        self.end_conn(socket, true);
        // It knows by itself.
        let socket = Some(socket);
        self.events.add(self.time, Event::Cut { client, socket });
    }

    /// A connection ends, and both sides will learn of it.
    pub(super) fn end_conn(&mut self, socket: Socket, requests_lost: bool) {
        self.end_conn_later(socket, requests_lost, 0, 0);
    }

    /// The same, where the sides may learn of it later than the news takes.
    pub(super) fn end_conn_later(
        &mut self,
        socket: Socket,
        requests_lost: bool,
        shard_later: u64,
        client_later: u64,
    ) {
        let conn = self.nodes[socket.node].conns.get(socket.conn);
        let Some(client) = conn.filter(|conn| !conn.ended).map(|conn| conn.client) else {
            return;
        };
        let (near, far) = (self.end(client), End::Node(socket.node));
        let to_shard = self.arrival(near, far) + shard_later;
        let to_client = self.arrival(far, near) + client_later;
        // What waits for its way to open is still with the client, and goes with the connection.
        let held = self.net.is_shut(self.time, near, far);
        if let Some(conn) = self.nodes[socket.node].conns.get(socket.conn) {
            conn.ended = true;
            conn.requests_lost = requests_lost || held;
            let at = conn.to_shard.arrives_at(to_shard);
            self.events.add(at, Event::Closed { socket });
        }
        self.note(socket.node, What::Cut, client as u64, socket.conn.0);
        let socket = Some(socket);
        self.events.add(to_client, Event::Cut { client, socket });
    }
}
