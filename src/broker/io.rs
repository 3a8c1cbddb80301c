//! The whole surface between a shard and its driver (`runtime` or `sim`):
//! inputs go in, outputs come out, nothing else crosses.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::msg::Msg;
use super::trace::DiskReads;
pub use crate::base::ConnId;
use crate::base::{Mono, ShardId, StoreId};
use crate::config::BrokerConfig;
use crate::store::{DiskError, DiskOp, IoId, Piece};

/// Stands for the listeners of `controller.listener.names`.
pub const CONTROLLER_LISTENER: usize = usize::MAX;

/// A connection to another node that this shard has asked for. Chosen by the shard, never reused within its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// Why there is no link, or no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkLost {
    /// No address was found for the name of the host, for this reason.
    Unresolved(String),
    /// There is no way to it from here, says this machine: of the other one that says nothing.
    NoWay(String),
    /// Nobody listens there, says the machine: if it is the right one, the process is gone.
    Refused,
    /// Nothing came of it in time, or what was sent was not acknowledged in time.
    TimedOut,
    /// The other side's system ended it: the process is gone, or its machine was started again.
    Reset,
    /// The other side closed it.
    Closed,
    /// What came were no frames, or one larger than `limits::LINK_FRAME_BYTES_MAX`.
    Garbage,
    /// Anything else that a system may say, as text: no descriptors left.
    Failed(String),
}

impl fmt::Display for LinkLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unresolved(why) => write!(f, "no address is found for its name: {why}"),
            Self::Refused => f.write_str("nobody listens there"),
            Self::TimedOut => f.write_str("it takes too long"),
            Self::Reset => f.write_str("the connection was reset"),
            Self::Closed => f.write_str("the connection was closed"),
            Self::Garbage => f.write_str("what comes from there is not this protocol"),
            Self::NoWay(why) | Self::Failed(why) => f.write_str(why),
        }
    }
}

/// A file read asked for by the shard (index scans, time lookups).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReadId(pub u64);

/// What can happen to a shard.
#[derive(Debug)]
pub enum Input {
    /// The first input: the stores are open, the other shards exist.
    Start,
    /// A connection was accepted.
    ConnOpened {
        /// The new connection.
        conn: ConnId,
        /// Address of the client.
        peer: SocketAddr,
        /// Index into the configured listeners; for the shard's own port next to one of them, the
        /// number of listeners plus that; [`CONTROLLER_LISTENER`] for one that is for other nodes alone.
        listener: usize,
    },
    /// One request frame arrived, without its length prefix.
    Request {
        /// Where it came from.
        conn: ConnId,
        /// Header and body.
        frame: Bytes,
        /// When its last byte was received.
        at: Mono,
    },
    /// Replies have left, in the order in which they were given out. Needs no [`Input::Idle`] after it.
    Sent {
        /// The connection.
        conn: ConnId,
        /// How many [`Output::Reply`]s, the empty ones included.
        replies: usize,
    },
    /// The connection is gone; replies to it are dropped.
    ConnClosed {
        /// The connection.
        conn: ConnId,
    },
    /// A link that was asked for is there: what is sent on it now is sent.
    LinkUp {
        /// The link.
        link: LinkId,
    },
    /// One frame came on a link, without its length prefix.
    LinkReceived {
        /// The link.
        link: LinkId,
        /// All of it.
        frame: Bytes,
    },
    /// Bytes of [`Output::LinkSend`] have left, in the order in which they were given out.
    LinkSent {
        /// The link.
        link: LinkId,
        /// How many more.
        bytes: usize,
    },
    /// There is no such link any more, or it has not come to be: nothing else is told of it, and what was to be sent
    /// on it may not have arrived.
    LinkDown {
        /// The link.
        link: LinkId,
        /// Why.
        why: LinkLost,
    },
    /// A message from a shard of this node.
    Mesh {
        /// The sender.
        from: ShardId,
        /// The message.
        msg: Box<Msg>,
    },
    /// A disk operation ended.
    Disk {
        /// The store it was for.
        store: StoreId,
        /// The operation.
        id: IoId,
        /// How it ended.
        result: Result<(), DiskError>,
    },
    /// A file read ended.
    Read {
        /// The read.
        id: ReadId,
        /// The bytes, exactly as many as asked for.
        result: Result<Bytes, DiskError>,
    },
    /// The shard's last turn took this many nanoseconds on its core: told of the longer ones. Needs no
    /// [`Input::Idle`] after it.
    Turn {
        /// How many.
        ns: u64,
    },
    /// How the shard has read from the disk for replies so far. Needs no [`Input::Idle`] after it.
    DiskReads(DiskReads),
    /// What the memory tails of the shard's stores may take together from now on, in bytes.
    TailBytesMax(usize),
    /// The file of settings was read again: what the shard serves by from now on, where clients have set nothing else.
    Settings(Arc<BrokerConfig>),
    /// Nothing more is waiting: the moment to start flushes. Also sent when the time of the last
    /// [`Output::WakeAt`] has come. Must follow every run of other inputs.
    Idle,
    /// Stop taking requests, finish what is in flight; answered by [`Output::Drained`].
    Shutdown,
}

/// What a shard wants done.
#[derive(Debug)]
pub enum Output {
    /// Send this reply. Replies come in the order of the requests of the connection, one for each
    /// request frame; an empty list (acks=0) is sent as nothing but still ends a request.
    Reply {
        /// Where to.
        conn: ConnId,
        /// The reply, length prefix included.
        pieces: Vec<Piece>,
    },
    /// Receive nothing more on this connection: no more of its requests are taken, but what was taken is still
    /// replied to, and then comes [`Output::Close`].
    TakeNoMore {
        /// The connection.
        conn: ConnId,
    },
    /// Close the connection after what was replied before is sent; no other replies come, and no more of its requests
    /// are taken. The shard may forget it at once: [`Input::ConnClosed`] need not wait for the client.
    Close {
        /// The connection.
        conn: ConnId,
        /// For the log.
        why: String,
    },
    /// Connect to another node; answered by [`Input::LinkUp`] or, after `limits::LINK_UP_WITHIN_MS` at the latest,
    /// [`Input::LinkDown`].
    Dial {
        /// The link that is to be.
        link: LinkId,
        /// Host name or address, and port.
        to: (String, u16),
    },
    /// Send these bytes on a link that is up. What has not left is bounded by the shard, which is told by
    /// [`Input::LinkSent`].
    LinkSend {
        /// The link.
        link: LinkId,
        /// Frames, or parts of them, length prefixes included.
        pieces: Vec<Bytes>,
    },
    /// End a link, whatever is still to be sent on it. Nothing more is told of it.
    LinkClose {
        /// The link.
        link: LinkId,
    },
    /// Hand a message to another shard; never to itself. Messages between two shards keep their order.
    Mesh {
        /// The receiver.
        to: ShardId,
        /// The message.
        msg: Box<Msg>,
    },
    /// Perform a disk operation on a store.
    Disk {
        /// The store.
        store: StoreId,
        /// The operation.
        op: DiskOp,
    },
    /// Read a range of a store file; not aligned.
    Read {
        /// Echoed in the completion.
        id: ReadId,
        /// The pieces, in order, all to be joined into one answer.
        pieces: Vec<Piece>,
    },
    /// Send [`Input::Idle`] no later than this. Replaces the one before.
    WakeAt(Mono),
    /// Clients may be let in; the driver opens its listeners when every shard has said so.
    Ready,
    /// The shard stops: no more requests of clients are taken, nor connections; what nodes say still is.
    TakeNoRequests,
    /// Nothing is in flight any more and everything is durable; when all shards have said so and are at rest, the
    /// driver may stop, and writes to the stores that it did (`Shard::end`).
    Drained,
    /// Stop the process at once with this exit status.
    Fatal {
        /// See `broker::fatal`.
        status: u8,
        /// For people: what happened and what to do.
        message: String,
    },
}
