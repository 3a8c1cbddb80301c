//! Streams of other nodes to this shard: connections that began as any other, and were greeted on. What is said on
//! them goes to the control shard, which decides about each.

use bytes::Bytes;

use super::greeting::text_of;
use crate::base::{IdMap, ShardId};
use crate::broker::front::Front;
use crate::broker::front::conns::ReplyTo;
use crate::broker::fx::Fx;
use crate::broker::io::ConnId;
use crate::broker::msg::{Msg, PeerAnswer, PeerSaid, PeerStream};
use crate::store::Piece;
use crate::wire::peer::{Hello, HelloAnswer, PeerMessage, PeerMessages, PeerRefusal};
use crate::wire::{RequestHeader, encode_own_response};

/// The shard that knows the other nodes.
const CONTROL: ShardId = ShardId(0);

/// Where it stands with a stream.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// Its hello is with the control shard, and is to be answered here with this correlation id.
    Greeting(ReplyTo, i32),
    Open,
}

/// See the module. No more than there are connections.
#[derive(Debug)]
pub struct Streams {
    /// Whether this node is one of several.
    is_member: bool,
    by_conn: IdMap<ConnId, Stage>,
}

impl Streams {
    /// None yet.
    pub fn new(is_member: bool) -> Self {
        Self {
            is_member,
            by_conn: IdMap::default(),
        }
    }

    /// A node says who it is. `Err` is the reason to close the connection.
    pub fn hello(
        &mut self,
        front: &mut Front,
        to: ReplyTo,
        header: &RequestHeader,
        body: Bytes,
        fx: &mut Fx<'_>,
    ) -> Result<(), String> {
        if self.by_conn.contains_key(&to.conn) {
            return Err("a second hello of a peer".to_owned());
        }
        let why = match Hello::decode(body).map_err(|bad| bad.to_string())? {
            _ if !self.is_member => PeerRefusal::NoMember,
            Err(why) => why,
            Ok(hello) => {
                let stage = Stage::Greeting(to, header.correlation_id);
                self.by_conn.insert(to.conn, stage);
                tell(to.conn, PeerSaid::Hello(Box::new(hello)), fx);
                return Ok(());
            }
        };
        let text = text_of(why);
        let answer = HelloAnswer::Refused { why, text };
        answer_hello(front, to, header.correlation_id, &answer, fx);
        Ok(())
    }

    /// A node says something, which is answered by nothing when the control shard has taken it: so no more waits there
    /// than may be in progress on a connection. `Err` is the reason to close the connection.
    pub fn messages(&mut self, to: ReplyTo, body: Bytes, fx: &mut Fx<'_>) -> Result<(), String> {
        if !matches!(self.by_conn.get(&to.conn), Some(Stage::Open)) {
            return Err("a peer's message without a hello before it that is answered".to_owned());
        }
        let mut messages = PeerMessages::decode(body).map_err(|bad| bad.to_string())?;
        // The last heartbeat says what those before it say.
        let is_beat = |message: &PeerMessage| matches!(message, PeerMessage::Heartbeat { .. });
        let mut beats = messages.iter().filter(|message| is_beat(message)).count();
        messages.retain(|message| {
            let is_beat = is_beat(message);
            beats -= usize::from(is_beat);
            !is_beat || beats == 0
        });
        let seq = to.seq;
        tell(to.conn, PeerSaid::Messages { seq, messages }, fx);
        Ok(())
    }

    /// The control shard says something of a stream.
    pub fn answered(
        &mut self,
        front: &mut Front,
        conn: ConnId,
        answer: PeerAnswer,
        fx: &mut Fx<'_>,
    ) {
        match (self.by_conn.get(&conn).copied(), answer) {
            (Some(Stage::Greeting(to, id)), PeerAnswer::Greeted(answer)) => {
                if matches!(answer, HelloAnswer::Welcome { .. }) {
                    self.by_conn.insert(conn, Stage::Open);
                } else {
                    // The connection stays what it was, until the other side ends it.
                    self.by_conn.remove(&conn);
                }
                answer_hello(front, to, id, &answer, fx);
            }
            (Some(_), PeerAnswer::Over(why)) => {
                self.by_conn.remove(&conn);
                front.conns.close(conn, why, fx.out);
            }
            (_, PeerAnswer::Taken(seq)) => {
                front.conns.reply(ReplyTo { conn, seq }, Vec::new(), fx.out);
            }
            // It is gone meanwhile.
            _ => {}
        }
    }

    /// A connection is gone.
    pub fn conn_closed(&mut self, conn: ConnId, fx: &mut Fx<'_>) {
        if self.by_conn.remove(&conn).is_some() {
            tell(conn, PeerSaid::Gone, fx);
        }
    }
}

fn tell(conn: ConnId, said: PeerSaid, fx: &mut Fx<'_>) {
    let stream = PeerStream { shard: fx.me, conn };
    fx.send(CONTROL, Msg::Peer { stream, said });
}

fn answer_hello(
    front: &mut Front,
    to: ReplyTo,
    correlation_id: i32,
    answer: &HelloAnswer,
    fx: &mut Fx<'_>,
) {
    let frame = encode_own_response(correlation_id, &answer.encode());
    front.conns.reply(to, vec![Piece::Memory(frame)], fx.out);
}
