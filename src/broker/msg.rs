//! Messages between the shards of one node. A shard also sends them to itself,
//! so that a partition is reached by one path whether it is local or not.

use std::sync::Arc;

use bytes::Bytes;

use super::replicas::said::ReplicaSaid;
use super::trace::{FetchStamps, ProduceStamps, Report};
use crate::base::{
    ConnId, ErrorCode, LeaderEpoch, LogId, Mono, NodeId, Offset, Refused, ShardId, StoreId,
};
use crate::controller::{Cause, Delta, Image, Moves};
use crate::coordinator::{GroupAnswer, Question, TxnAnswer, TxnAsk};
use crate::log::{AbortedRange, ActiveProducer, TransactionAdmission};
use crate::record::BatchInfo;
use crate::replica::Mark;
use crate::store::Piece;
use crate::wire::RequestHeader;
use crate::wire::peer::{Hello, HelloAnswer, PeerMessage};

/// A request of a client, by the shard that holds its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReqRef {
    /// The front shard.
    pub shard: ShardId,
    /// Its number for the request.
    pub id: u64,
}

impl ReqRef {
    /// Numbers with this bit are the control shard's own: of what it decides for itself, or for another node.
    const INSIDE: u64 = 1 << 63;

    /// Numbers with this bit are of what a shard asks for its replicas.
    const REPLICAS: u64 = 1 << 62;

    /// Numbers with this bit are of what coordinators of transactions want done.
    const TRANSACTIONS: u64 = 1 << 61;

    /// Numbers with this bit are of what coordinators of groups want done.
    const GROUPS: u64 = 1 << 60;

    /// One of what the coordinators of groups of a shard want done.
    #[must_use]
    pub const fn of_groups(shard: ShardId, number: u64) -> Self {
        let id = number | Self::GROUPS;
        Self { shard, id }
    }

    /// The number of one of those, if this id of a shard is one.
    #[must_use]
    pub const fn number_of_groups(id: u64) -> Option<u64> {
        match id & (Self::INSIDE | Self::REPLICAS | Self::TRANSACTIONS | Self::GROUPS) {
            Self::GROUPS => Some(id & !Self::GROUPS),
            _ => None,
        }
    }

    /// One of what the coordinators of transactions of a shard want done.
    #[must_use]
    pub const fn of_transactions(shard: ShardId, number: u64) -> Self {
        let id = number | Self::TRANSACTIONS;
        Self { shard, id }
    }

    /// The number of one of those, if this id of a shard is one.
    #[must_use]
    pub const fn number_of_transactions(id: u64) -> Option<u64> {
        match id & (Self::INSIDE | Self::REPLICAS | Self::TRANSACTIONS) {
            Self::TRANSACTIONS => Some(id & !Self::TRANSACTIONS),
            _ => None,
        }
    }

    /// One of what a shard asks for its replicas.
    #[must_use]
    pub const fn of_replicas(shard: ShardId, number: u64) -> Self {
        let id = number | Self::REPLICAS;
        Self { shard, id }
    }

    /// The number of one of those, if this id of a shard is one.
    #[must_use]
    pub const fn number_of_replicas(id: u64) -> Option<u64> {
        match id & (Self::INSIDE | Self::REPLICAS) {
            Self::REPLICAS => Some(id & !Self::REPLICAS),
            _ => None,
        }
    }

    /// One of the control shard's own.
    #[must_use]
    pub const fn inside(number: u64) -> Self {
        Self {
            shard: ShardId(0),
            id: number | Self::INSIDE,
        }
    }

    /// The number of one of the control shard's own, if this id of shard 0 is one.
    #[must_use]
    pub const fn number_inside(id: u64) -> Option<u64> {
        match id & Self::INSIDE {
            0 => None,
            _ => Some(id & !Self::INSIDE),
        }
    }
}

/// Who wants records appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Appender {
    /// A client's produce request.
    Client(ReqRef),
    /// The coordinators of that shard, by their number for it: the one of a partition that is led in this epoch.
    Coordinator(ReqRef, LeaderEpoch),
}

/// What has become of records of a coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendFate {
    /// They are committed. Whoever waits for them may have to be told an error all the same.
    Committed(Result<(), ErrorCode>),
    /// They are in the log, and other replicas take too long. More will be said of them.
    Late,
    /// They are in the log, which is not led here any more, or gone: they may be committed by another leader.
    Left(ErrorCode),
    /// They are not in the log.
    Refused(Refused),
}

/// One message of the mesh.
#[derive(Debug)]
pub enum Msg {
    /// Append to logs of one store.
    Produce {
        /// Who asks.
        appender: Appender,
        /// The batches.
        parts: ProduceParts,
    },
    /// Some parts need not wait any more, or are refused.
    ProduceDone {
        /// The front's request.
        id: u64,
        /// By slot of the request.
        results: Vec<(u32, Result<Produced, Refused>)>,
        /// When they were where.
        stamps: ProduceStamps,
    },
    /// What has become of records of a coordinator.
    Appended {
        /// Its number for them.
        id: u64,
        /// It.
        fate: AppendFate,
    },
    /// Ask the coordinator of a transactional id about a transaction. A shard sends it to itself; whoever gets it asks
    /// that coordinator, or passes it on to the shard or the node that has it.
    AskTransaction {
        /// Who asks: the shard that owns the partitions, by its number for the question.
        req: ReqRef,
        /// The question.
        question: Box<TransactionQuestion>,
    },
    /// The answer to a [`Msg::AskTransaction`]; nobody is told twice, and of what is lost the asker does not wait for
    /// ever.
    TransactionTold {
        /// The asker's number.
        id: u64,
        /// An error for each partition of the question, in its order: NONE where it is part of the ongoing transaction.
        errors: Vec<ErrorCode>,
    },
    /// End transactions in logs of the receiver.
    WriteMarkers {
        /// Who asks.
        asker: MarkerAsker,
        /// Their ends.
        markers: Vec<MarkerPart>,
    },
    /// The end of a transaction in a log of this shard is committed: for the coordinator of groups that has it.
    TransactionEnded {
        /// The log.
        log: LogId,
        /// Whose transaction.
        producer_id: i64,
        /// Committed, or else aborted.
        commits: bool,
    },
    /// Some markers of a [`Msg::WriteMarkers`] are committed, or refused.
    MarkersWritten {
        /// Who asked.
        asker: MarkerAsker,
        /// By slot of the asker: NONE when the marker is on the disks of all replicas in sync.
        results: Vec<(u32, ErrorCode)>,
    },
    /// Tell who has written to a log.
    DescribeProducers {
        /// Who asks.
        req: ReqRef,
        /// The log.
        log: LogId,
    },
    /// The answer.
    ProducersDescribed {
        /// The front's request.
        id: u64,
        /// They, by their ids.
        producers: Result<Vec<ActiveProducer>, ErrorCode>,
    },
    /// Plan reads of logs.
    Fetch {
        /// Who asks.
        req: ReqRef,
        /// What is asked for.
        pass: FetchPass,
        /// The partitions, in the order of the request.
        parts: Vec<FetchPart>,
    },
    /// The plans of one [`Msg::Fetch`].
    FetchDone {
        /// The front's request.
        id: u64,
        /// What was found.
        planned: FetchPlanned,
    },
    /// All plans of a pass together are too little: say [`Msg::FetchReady`] when so many bytes have become
    /// visible in the receiver's logs since its plan.
    FetchWatch {
        /// Who asks.
        req: ReqRef,
        /// The bytes.
        bytes: u64,
    },
    /// A watched fetch has enough now, or one of its logs is gone: ask again.
    FetchReady {
        /// The front's request.
        id: u64,
    },
    /// The request is answered: forget its watch.
    FetchCancel {
        /// Who asked.
        req: ReqRef,
    },
    /// Ask logs about offsets.
    Query {
        /// Who asks.
        req: ReqRef,
        /// Slot of the request, log, question.
        parts: Vec<(u32, LogId, Query)>,
        /// Until when other replicas are waited for.
        until: Mono,
    },
    /// The connection that asked is gone: forget these.
    QueryCancel {
        /// The front shard.
        shard: ShardId,
        /// Its numbers for the requests, in order.
        ids: Vec<u64>,
    },
    /// Answers to some of a [`Msg::Query`].
    QueryDone {
        /// The front's request.
        id: u64,
        /// By slot of the request.
        results: Vec<LogAnswer>,
    },
    /// Ask the coordinators of groups.
    Groups {
        /// Who asks.
        req: ReqRef,
        /// Version of the image that its shard serves by.
        image: u64,
        /// Place in the request, and question.
        parts: Vec<(u32, Question)>,
    },
    /// Some of them have answered.
    GroupsDone {
        /// The front's request.
        id: u64,
        /// Place in the request, and answer.
        answers: Vec<(u32, GroupAnswer)>,
    },
    /// Ask the coordinators of transactions.
    Transactions {
        /// Who asks.
        req: ReqRef,
        /// Place in the request, partition of `__transaction_state`, question.
        parts: Vec<(u32, i32, TxnAsk)>,
    },
    /// Some of them have answered.
    TransactionsDone {
        /// The front's request.
        id: u64,
        /// Place in the request, and answer.
        answers: Vec<(u32, TxnAnswer)>,
    },
    /// To the control shard: ask another node about transactions. The answer is a [`Msg::ControlDone`]; if it is lost,
    /// that is an error.
    CallNode {
        /// Who asks.
        req: ReqRef,
        /// The node.
        node: NodeId,
        /// What it is asked.
        call: Box<ControlCall>,
    },
    /// Of the control shard: another node asks about transactions. The answer is a [`Msg::ControlDone`].
    CallOfNode {
        /// The control shard's number for it.
        req: ReqRef,
        /// What is asked.
        call: Box<ControlCall>,
    },
    /// A request that only the control shard can answer.
    Control {
        /// Who asks.
        req: ReqRef,
        /// The request.
        call: Box<ControlCall>,
    },
    /// The connection of such a request is gone.
    ControlCancel {
        /// Who asked.
        req: ReqRef,
    },
    /// Its answer, or the reason to close the connection.
    ControlDone {
        /// The front's request.
        id: u64,
        /// The outcome.
        answer: Result<Called, String>,
    },
    /// Say whether a store has room for this many bytes more; while it grows the answer waits.
    Room {
        /// The store.
        store: StoreId,
        /// What is to have room.
        bytes: usize,
        /// Whether it fills the store: then not with what is kept for the broker.
        fills: bool,
    },
    /// The answer, of a store that the control shard has asked.
    RoomTold {
        /// Whether there is.
        there: bool,
    },
    /// Another node has said something on its stream, to the control shard. What it sent is charged as a request for
    /// as long as it is here.
    Peer {
        /// The stream.
        stream: PeerStream,
        /// What it said.
        said: PeerSaid,
    },
    /// What the control shard says to that, to the shard that has the stream; or the shard for which a stream of
    /// [`Msg::Replica`] is.
    PeerAnswer {
        /// The connection.
        conn: ConnId,
        /// What it says.
        answer: PeerAnswer,
    },
    /// A shard of another node has said something on its stream, to the receiver. Charged in the same way.
    Replica {
        /// Who says it.
        stream: ReplicaStream,
        /// By which connection: [`Msg::PeerAnswer`] goes there.
        back: PeerStream,
        /// What it said.
        heard: ReplicaHeard,
    },
    /// Tell where the time of requests went.
    Explain {
        /// Who asks.
        req: ReqRef,
    },
    /// What one shard has to say to that.
    Explained {
        /// The front's request.
        id: u64,
        /// Its part.
        report: Box<Report>,
    },
    /// The nodes that clients should not be sent to for now, whatever the metadata says, and whether each is lost for
    /// its silence alone.
    Lost(Vec<(NodeId, bool)>),
    /// A new metadata image, durable.
    Image {
        /// All of it.
        image: Arc<Image>,
        /// What is different since the one before.
        delta: Arc<Delta>,
    },
    /// The sender serves by this image now.
    ImageApplied {
        /// `Image::version`.
        version: u64,
        /// Logs that it has found and that the metadata has never given out.
        strays: Vec<LogId>,
    },
}

/// A stream of another node to this one: the connection that it comes by. No two are equal while the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStream {
    /// The shard that has it.
    pub shard: ShardId,
    /// Its connection there.
    pub conn: ConnId,
}

/// What comes of a stream.
#[derive(Debug)]
pub enum PeerSaid {
    /// It is to begin: answered by [`PeerAnswer::Greeted`].
    Hello(Box<Hello>),
    /// Messages, in their order: answered by [`PeerAnswer::Taken`].
    Messages {
        /// The request's number on the connection.
        seq: u64,
        /// What it says.
        messages: Vec<PeerMessage>,
    },
    /// Its connection is gone.
    Gone,
}

/// A shard of another node, with which one of this node shares partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReplicaPeer {
    /// The node.
    pub node: NodeId,
    /// The shard.
    pub shard: ShardId,
}

/// A stream of a shard of another node to one of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaStream {
    /// Who says what comes on it.
    pub from: ReplicaPeer,
    /// The start of its process.
    pub start: u64,
    /// Which stream of that process: a later one has a higher number.
    pub number: u64,
}

/// What comes of such a stream.
#[derive(Debug)]
pub enum ReplicaHeard {
    /// It has begun: what comes on one that began before it counts no more.
    Begins,
    /// Messages, in their order: answered by [`PeerAnswer::Taken`].
    Says {
        /// The request's number on the connection.
        seq: u64,
        /// What it says.
        said: Vec<ReplicaSaid>,
    },
}

/// What the control shard says of a stream, or the shard that one for replicas is for.
#[derive(Debug)]
pub enum PeerAnswer {
    /// Whether it has begun.
    Greeted(HelloAnswer),
    /// Messages are taken, those of the request with this number: the next ones may come.
    Taken(u64),
    /// It counts no more, for this reason: its connection is to be closed.
    Over(String),
}

/// What a shard that owns partitions asks the coordinator of a transactional id (KIP-890).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionQuestion {
    /// The transactional id.
    pub transactional_id: Arc<str>,
    /// Its producer, as the batches say.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i16,
    /// Whether the partitions are to become part of the transaction if they are not (transaction.version 2); otherwise
    /// it is only looked whether they are.
    pub adds: bool,
    /// Topics by name, and partitions.
    pub partitions: Vec<(Arc<str>, i32)>,
    /// Until when an answer is waited for.
    pub until: Mono,
}

/// Who wants transactions ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MarkerAsker {
    /// A WriteTxnMarkers request.
    Client(ReqRef),
    /// The coordinators of transactions of that shard, by their number for it.
    Coordinator(ReqRef),
}

impl MarkerAsker {
    /// The shard that is told.
    #[must_use]
    pub const fn shard(self) -> ShardId {
        let (Self::Client(req) | Self::Coordinator(req)) = self;
        req.shard
    }
}

/// The end of a transaction in one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkerPart {
    /// The asker's number for it.
    pub slot: u32,
    /// The partition's log.
    pub log: LogId,
    /// Whose transaction.
    pub producer_id: i64,
    /// In which epoch it is ended.
    pub producer_epoch: i16,
    /// Leader epoch of the partition of `__transaction_state`: older ones are TRANSACTION_COORDINATOR_FENCED.
    pub coordinator_epoch: i32,
    /// Committed, or else aborted.
    pub commits: bool,
    /// `transaction.version` of the transaction: from 2 on its epoch is newer than that of its records.
    pub version: i8,
}

/// On behalf of which transaction batches are appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InTransaction {
    /// Its transactional id.
    pub transactional_id: Arc<str>,
    /// Whether the partitions become part of it by that (transaction.version 2).
    pub adds: bool,
    /// Whether whoever asks knows TRANSACTION_ABORTABLE (KIP-890, part 1).
    pub knows_abortable: bool,
}

/// Batches of one request for partitions of one store.
#[derive(Debug)]
pub struct ProduceParts {
    /// The store of all of them.
    pub store: StoreId,
    /// The transaction that those belong to that are transactional.
    pub transaction: Option<InTransaction>,
    /// The mark that has to be behind each of them before it is answered.
    pub mark: Mark,
    /// Until when other replicas are waited for, if they are a client's.
    pub until: Mono,
    /// One batch for each partition.
    pub batches: Vec<ProducePart>,
}

/// A batch for one partition.
#[derive(Debug)]
pub struct ProducePart {
    /// Position in the front's request.
    pub slot: u32,
    /// The partition's log.
    pub log: LogId,
    /// Validated batch, still as the client sent it.
    pub batch: Bytes,
    /// Its header.
    pub info: BatchInfo,
    /// By what it may be appended if it is of a transaction, since it waits.
    pub admission: Option<TransactionAdmission>,
    /// A coordinator ends by it what has begun: it has some of the room that is left for the broker.
    pub ends: bool,
}

/// Where a batch ended up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Produced {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Time given by the broker, -1 unless `message.timestamp.type=LogAppendTime`.
    pub log_append_time_ms: i64,
    /// First offset of the log.
    pub log_start: Offset,
}

/// A partition to read.
#[derive(Clone, Copy, Debug)]
pub struct FetchPart {
    /// Position in the front's request.
    pub slot: u32,
    /// The partition's log.
    pub log: LogId,
    /// First offset wanted.
    pub offset: Offset,
    /// Bytes wanted of this partition at most.
    pub bytes_max: usize,
    /// Leader epoch known to the client, -1 if none.
    pub leader_epoch: i32,
}

/// A pass of a fetch over the owners of its partitions.
#[derive(Clone, Copy, Debug)]
pub struct FetchPass {
    /// Which one of the request.
    pub round: u32,
    /// Bytes after which further partitions are left empty.
    pub bytes_max: usize,
    /// The slot whose first batch is wanted whatever its size; `None` for the first one that has any.
    pub oversized: Option<u32>,
    /// What to do if there is too little.
    pub watch: Watch,
    /// Nothing is read beyond the last stable offset, and what was aborted is told.
    pub committed: bool,
}

/// What an owner has planned for a pass.
#[derive(Clone, Debug)]
pub struct FetchPlanned {
    /// Which pass.
    pub round: u32,
    /// By slot of the request.
    pub parts: Vec<FetchedPart>,
    /// The owner, if it found too little and watches for more.
    pub watching: Option<ShardId>,
    /// When they were where.
    pub stamps: FetchStamps,
}

/// What an owner does when it finds too little for a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// Nothing.
    No,
    /// It has all the partitions: it says [`Msg::FetchReady`] when this many bytes are there.
    Until(u64),
    /// Others have partitions too: unless it finds this many bytes itself, it counts what becomes visible
    /// until [`Msg::FetchWatch`] says how much is wanted.
    Count(u64),
}

/// What was read of a partition.
#[derive(Clone, Debug, Default)]
pub struct FetchedPart {
    /// Position in the front's request.
    pub slot: u32,
    /// Error, or none.
    pub error: ErrorCode,
    /// High watermark, -1 with an error.
    pub high_watermark: i64,
    /// Last stable offset, -1 with an error.
    pub last_stable: i64,
    /// First offset, -1 with an error.
    pub log_start: i64,
    /// The aborted transactions that have something in it, for those who read what is committed.
    pub aborted: Option<Vec<AbortedRange>>,
    /// The bytes.
    pub pieces: Vec<Piece>,
    /// Their length.
    pub bytes: usize,
    /// What they count for `min.bytes`: see [`ReadOutcome::Plan`](crate::log::ReadOutcome::Plan).
    pub counts: u64,
    /// The first batch among them is no longer than this.
    pub first_bytes_max: usize,
    /// There is a batch, and it is larger than what was asked for.
    pub withheld: bool,
}

/// Who asks where a log ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reader {
    /// One who reads everything (`isolation.level=read_uncommitted`).
    #[default]
    All,
    /// One who reads what is committed.
    Committed,
}

/// A question to one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query {
    /// Bytes that the log takes, as an offset.
    Size,
    /// First offset.
    Earliest,
    /// Where it ends for such a reader: the high watermark, or the last stable offset.
    Latest(Reader),
    /// Record with the largest timestamp (KIP-734); nothing if he may not read that.
    MaxTimestamp(Reader),
    /// First record at or after a time; nothing if he may not read that.
    AtTime(i64, Reader),
    /// Where a leader epoch ends (OffsetForLeaderEpoch).
    EpochEnd(i32),
    /// Drop all records before an offset, -1 for the high watermark; answered when durable.
    DeleteBefore(i64),
}

impl Query {
    /// The question of such a reader.
    #[must_use]
    pub const fn of(self, reader: Reader) -> Self {
        match self {
            Self::Latest(_) => Self::Latest(reader),
            Self::MaxTimestamp(_) => Self::MaxTimestamp(reader),
            Self::AtTime(at, _) => Self::AtTime(at, reader),
            other => other,
        }
    }
}

/// The answer of one log. Fields that do not apply are -1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The offset asked for.
    pub offset: i64,
    /// Timestamp of the record there.
    pub timestamp_ms: i64,
    /// Leader epoch there.
    pub leader_epoch: i32,
}

/// What one partition of a query is answered, and its place in the request.
pub type LogAnswer = (u32, Result<Answered, ErrorCode>);

/// What the control shard answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Called {
    /// A whole response frame.
    Frame(Vec<Bytes>),
    /// What was missing is there, if it may be: the request is to be answered by the image.
    Created,
    /// What the control shard has decided about a broker, for itself.
    Member(MemberDone),
    /// Who was to decide does not any more, and does not know what has become of it: whoever decides now is to be
    /// asked.
    Again,
}

/// What has come of a decision about a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberDone {
    /// This follows for partitions.
    Follows(NodeId, Option<Cause>),
    /// Some of what follows is recorded, or all of it.
    Moved(Moves, bool),
    /// It is refused, and why, for people.
    Refused(NodeId, String),
}

/// A request on its way to the control shard.
#[derive(Clone, Debug)]
pub struct ControlCall {
    /// Parsed header.
    pub header: RequestHeader,
    /// The body.
    pub body: Bytes,
    /// Listener by which the client came.
    pub listener: usize,
}

impl ControlCall {
    /// What it keeps while it waits.
    #[must_use]
    pub fn memory(&self) -> usize {
        size_of::<Self>() + self.body.len()
    }
}
