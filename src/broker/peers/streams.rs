//! Streams of other nodes to this shard: connections that began as any other, and were greeted on. What is said on
//! them goes to the control shard.

use std::sync::Arc;

use bytes::Bytes;

use super::greeting::{ClusterSetup, text_of};
use crate::base::{IdMap, NodeProcess, ShardId};
use crate::broker::front::Front;
use crate::broker::front::conns::ReplyTo;
use crate::broker::fx::Fx;
use crate::broker::io::ConnId;
use crate::broker::msg::{Msg, PeerSaid, PeerStream};
use crate::store::Piece;
use crate::wire::peer::{Hello, HelloAnswer, PEER_VERSION, PeerMessages, PeerRefusal};
use crate::wire::{RequestHeader, encode_own_response};

/// The shard that knows the other nodes.
const CONTROL: ShardId = ShardId(0);

/// See the module. No more than there are connections.
#[derive(Debug, Default)]
pub struct Streams {
    /// What makes this node one of several, if it is.
    cluster: Option<Arc<ClusterSetup>>,
    by_conn: IdMap<ConnId, PeerStream>,
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
        let read = Hello::decode(body).map_err(|bad| bad.to_string())?;
        let answer = match self.greet(front.image.cluster_id.as_deref(), read) {
            Ok((stream, welcome)) => {
                self.by_conn.insert(to.conn, stream);
                let said = PeerSaid::Hello;
                fx.send(CONTROL, Msg::Peer { stream, said });
                welcome
            }
            // The connection stays what it was, until the other side ends it.
            Err((why, text)) => HelloAnswer::Refused { why, text },
        };
        let frame = encode_own_response(header.correlation_id, &answer.encode());
        front.conns.reply(to, vec![Piece::Memory(frame)], fx.out);
        Ok(())
    }

    fn greet(
        &self,
        cluster_id: Option<&str>,
        hello: Result<Hello, PeerRefusal>,
    ) -> Result<(PeerStream, HelloAnswer), (PeerRefusal, String)> {
        let refused = |why| (why, text_of(why));
        let cluster = self.cluster.as_ref();
        let cluster = cluster.ok_or_else(|| refused(PeerRefusal::NoMember))?;
        let hello = hello.map_err(refused)?;
        let me = cluster.facts(cluster_id);
        cluster.may_come(&me, &hello)?;
        let process = NodeProcess {
            node: hello.from.node,
            incarnation: hello.from.incarnation,
        };
        let stream = PeerStream {
            process,
            number: hello.number,
        };
        let (version, from) = (PEER_VERSION, me);
        Ok((stream, HelloAnswer::Welcome { version, from }))
    }

    /// A node says something. It is not answered. `Err` is the reason to close the connection.
    pub fn messages(
        &mut self,
        front: &mut Front,
        to: ReplyTo,
        body: Bytes,
        fx: &mut Fx<'_>,
    ) -> Result<(), String> {
        let Some(stream) = self.by_conn.get(&to.conn).copied() else {
            return Err("a peer's message without a hello before it".to_owned());
        };
        let messages = PeerMessages::decode(body).map_err(|bad| bad.to_string())?;
        let said = PeerSaid::Messages(messages);
        fx.send(CONTROL, Msg::Peer { stream, said });
        front.conns.reply(to, Vec::new(), fx.out);
        Ok(())
    }

    /// A connection is gone.
    pub fn conn_closed(&mut self, conn: ConnId, fx: &mut Fx<'_>) {
        if let Some(stream) = self.by_conn.remove(&conn) {
            let said = PeerSaid::Gone;
            fx.send(CONTROL, Msg::Peer { stream, said });
        }
    }
}
