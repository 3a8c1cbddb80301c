//! Streams of other nodes to this shard: connections that began as any other, and were greeted on. What is said on
//! them goes to the control shard, which decides about each; or, if it is about replicas, to the shard that it is for.

use std::sync::Arc;

use bytes::Bytes;

use super::greeting::{ClusterSetup, GreetingRefused, text_of};
use crate::base::{IdMap, NodeId, ShardId};
use crate::broker::front::Front;
use crate::broker::front::conns::ReplyTo;
use crate::broker::fx::Fx;
use crate::broker::io::ConnId;
use crate::broker::msg::{
    Msg, PeerAnswer, PeerSaid, PeerStream, ReplicaHeard, ReplicaPeer, ReplicaStream,
};
use crate::broker::replicas::said::ReplicaSaid;
use crate::store::Piece;
use crate::wire::peer::{
    Hello, HelloAnswer, NodeFacts, PEER_VERSION, PeerMessage, PeerMessages, PeerRefusal, Purpose,
};
use crate::wire::{RequestHeader, encode_own_response};

/// The shard that knows the other nodes.
const CONTROL: ShardId = ShardId(0);

/// Where it stands with a stream.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// Its hello is with the control shard, and is to be answered here with this correlation id.
    Greeting(ReplyTo, i32),
    Open,
    /// It is for replicas, and for that shard.
    Replicas(ReplicaStream, ShardId),
}

/// See the module. No more than there are connections.
#[derive(Debug)]
pub struct Streams {
    /// The other nodes, if this one is one of several.
    cluster: Option<Arc<ClusterSetup>>,
    by_conn: IdMap<ConnId, Stage>,
}

impl Streams {
    /// None yet.
    pub fn new(cluster: Option<Arc<ClusterSetup>>) -> Self {
        Self {
            cluster,
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
        let hello = Hello::decode(body).map_err(|bad| bad.to_string())?;
        let answer = match (hello, &self.cluster) {
            (_, None) => refused(PeerRefusal::NoMember),
            (Err(why), _) => refused(why),
            (Ok(hello), Some(cluster)) => match hello.purpose {
                Purpose::Metadata => {
                    let stage = Stage::Greeting(to, header.correlation_id);
                    self.by_conn.insert(to.conn, stage);
                    tell(to.conn, PeerSaid::Hello(Box::new(hello)), fx);
                    return Ok(());
                }
                Purpose::Replicas { from, to: shard } => {
                    let me = cluster.facts(front.image.cluster_id.as_deref());
                    match may_replicate(cluster, &me, &hello, front.shards) {
                        Ok(()) => {
                            let node = hello.from.node;
                            let stream = ReplicaStream {
                                from: ReplicaPeer { node, shard: from },
                                start: hello.from.start,
                                number: hello.number,
                            };
                            self.by_conn.insert(to.conn, Stage::Replicas(stream, shard));
                            hand_on(to.conn, (stream, shard), ReplicaHeard::Begins, fx);
                            HelloAnswer::Welcome {
                                version: PEER_VERSION,
                                from: me,
                            }
                        }
                        Err((why, text)) => HelloAnswer::Refused { why, text },
                    }
                }
            },
        };
        answer_hello(front, to, header.correlation_id, &answer, fx);
        Ok(())
    }

    /// A shard of a node says something about replicas; as [`Streams::messages`].
    pub fn replica_messages(
        &mut self,
        to: ReplyTo,
        body: Bytes,
        fx: &mut Fx<'_>,
    ) -> Result<(), String> {
        let Some(Stage::Replicas(stream, shard)) = self.by_conn.get(&to.conn).copied() else {
            return Err("a message about replicas without a hello for them".to_owned());
        };
        let said = ReplicaSaid::decode_all(body).map_err(|bad| bad.to_string())?;
        let heard = ReplicaHeard::Says { seq: to.seq, said };
        hand_on(to.conn, (stream, shard), heard, fx);
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

    /// The control shard says something of a stream, or the shard that it is for.
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
        match self.by_conn.remove(&conn) {
            None | Some(Stage::Replicas(..)) => {}
            Some(Stage::Greeting(..) | Stage::Open) => tell(conn, PeerSaid::Gone, fx),
        }
    }
}

fn refused(why: PeerRefusal) -> HelloAnswer {
    let text = text_of(why);
    HelloAnswer::Refused { why, text }
}

/// Whether a shard of another node may begin a stream about replicas. Of the nodes' own streams two that do not know
/// their cluster yet may have one; of these not.
fn may_replicate(
    cluster: &ClusterSetup,
    me: &NodeFacts,
    hello: &Hello,
    shards: u16,
) -> Result<(), GreetingRefused> {
    cluster.may_come(me, hello)?;
    if me.cluster_id.is_none() || hello.from.cluster_id.is_none() {
        let text = "one of the two nodes does not know yet of which cluster it is".to_owned();
        return Err((PeerRefusal::NotYet, text));
    }
    match hello.purpose {
        Purpose::Replicas { from, to }
            if i32::from(from.0) < NodeId::SHARD_IDS && to.0 < shards =>
        {
            Ok(())
        }
        _ => {
            let text = format!("node {} has {shards} shards", me.node);
            Err((PeerRefusal::NoShard, text))
        }
    }
}

/// Hands on what comes of a stream for replicas.
fn hand_on(
    conn: ConnId,
    (stream, to): (ReplicaStream, ShardId),
    heard: ReplicaHeard,
    fx: &mut Fx<'_>,
) {
    let back = PeerStream { shard: fx.me, conn };
    let msg = Msg::Replica {
        stream,
        back,
        heard,
    };
    fx.send(to, msg);
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
