//! Simulated Kafka clients. They speak real frames in every version that the
//! broker serves, behave as real clients do when a connection is cut, and tell
//! the oracle what they send and what they are told.

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_wire::KafkaRequest;
use kafka_wire_core::{StrBytes, Uuid};

use super::oracle::{Oracle, Place};
use crate::base::{ErrorCode, Now, Rng, TopicId};
use crate::broker::apis;
use crate::wire::{TopicRef, client};

mod auditor;
mod churn;
mod committer;
mod consumer;
mod fetching;
mod lookup;
mod member;
mod producer;
mod setup;
mod talk;
mod truncator;

pub use auditor::Auditor;
pub use churn::Churn;
pub use committer::Committer;
pub use consumer::Consumer;
pub use lookup::Lookup;
pub use member::Member;
pub use producer::{Producer, RECORDS_PER_BATCH_MAX};
pub use setup::{Plan as SetupTopic, Setup};
pub use talk::Talk;
pub use truncator::Truncator;

/// One millisecond in the unit of virtual time.
pub const MS: u64 = 1_000_000;

/// What a run is about at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Everything happens, and goes wrong.
    Busy,
    /// Nothing new is begun and nothing goes wrong: what was begun must end.
    Quiet,
    /// Everything is read once more.
    Audit,
}

/// What happens to the records of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// They stay.
    Kept,
    /// Retention removes them.
    Expiring,
    /// DeleteRecords removes them.
    Truncated,
}

/// A topic that clients can use.
#[derive(Clone, Debug)]
pub struct Topic {
    /// Its number in this run.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: TopicId,
    /// Its number of partitions.
    pub partitions: i32,
    /// What it is for.
    pub used: Use,
}

impl Topic {
    /// How a request names it.
    #[must_use]
    pub fn reference(&self, by_id: bool) -> TopicRef {
        if by_id {
            TopicRef::Id(self.id)
        } else {
            TopicRef::Name(self.name.as_str().into())
        }
    }

    /// Whether an answer means it.
    #[must_use]
    pub fn is(&self, topic: &TopicRef) -> bool {
        match topic {
            TopicRef::Name(name) => **name == *self.name,
            TopicRef::Id(id) => *id == self.id,
        }
    }
}

/// What all clients of a run know, out of the broker's sight.
#[derive(Debug)]
pub struct Shared {
    /// What the run is about.
    pub phase: Phase,
    /// Each shard is a broker of its own.
    pub direct: bool,
    /// Topics that exist for good, once they do.
    pub topics: Vec<Topic>,
    /// Number for the next topic.
    pub next_topic: u32,
    /// How many topics there are to be.
    pub topics_planned: usize,
    /// The offset after the last acknowledged record.
    pub ends: BTreeMap<Place, i64>,
    /// With direct ports, where Metadata says that the leader of a partition listens.
    pub leaders: BTreeMap<Place, u16>,
    /// With direct ports, where FindCoordinator says that the coordinator listens.
    pub coordinator: Option<u16>,
    /// The next offset to be committed by a group.
    pub commits: BTreeMap<(u32, Place), i64>,
    /// How often the node has started.
    pub starts: u32,
    /// How often it was told to stop.
    pub stops: u32,
    /// Batches that a full store refused.
    pub refused: u32,
    /// Bits were flipped: data that is recognizably damaged is no violation.
    pub rotten: bool,
    /// Damage that was recognized.
    pub damage_seen: u32,
}

impl Shared {
    /// The topic of that number among those that exist for good.
    #[must_use]
    pub fn topic(&self, number: u32) -> Option<&Topic> {
        self.topics.iter().find(|topic| topic.number == number)
    }

    /// All partitions of topics for which `wanted` holds.
    pub fn places(&self, wanted: impl Fn(&Topic) -> bool) -> Vec<Place> {
        let mut places = Vec::new();
        for topic in self.topics.iter().filter(|topic| wanted(topic)) {
            places.extend((0..topic.partitions).map(|partition| Place {
                topic: topic.number,
                partition,
            }));
        }
        places
    }

    /// Nobody listens at a port any more: who is told of it asks anew.
    pub fn forget_port(&mut self, port: u16) {
        self.leaders.retain(|_, leader| *leader != port);
        self.coordinator = self.coordinator.filter(|known| *known != port);
    }

    /// Whether all topics are there.
    #[must_use]
    pub fn is_set_up(&self) -> bool {
        self.topics.len() == self.topics_planned
    }
}

/// What a client wants done.
#[derive(Debug)]
pub enum Act {
    /// Connect after some time (ns).
    Connect {
        /// How long to wait.
        after: u64,
        /// The port of one shard; `None` for the one that they share.
        to: Option<u16>,
    },
    /// Send a request, length prefix included.
    Send {
        /// The request.
        frame: Bytes,
        /// Whether there is an answer to it.
        answered: bool,
    },
    /// End the connection.
    Disconnect,
    /// Wake it after some time (ns).
    Timer {
        /// How long to wait.
        after: u64,
        /// Echoed.
        token: u64,
    },
}

/// What a client may use while it handles an event.
#[derive(Debug)]
pub struct Ctx<'a> {
    /// The clocks.
    pub now: Now,
    /// Randomness.
    pub rng: &'a mut Rng,
    /// Common knowledge.
    pub shared: &'a mut Shared,
    /// The judge.
    pub oracle: &'a mut Oracle,
    /// What is to be done.
    pub acts: &'a mut Vec<Act>,
}

impl Ctx<'_> {
    /// A version of an API that the broker serves, any of them, but at least `min`.
    pub fn version(&mut self, key: i16, min: i16) -> i16 {
        let Some(api) = apis::api(key) else {
            return min;
        };
        let min = min.max(api.min);
        min + self.rng.below((api.max - min + 1) as u64) as i16
    }

    /// One of a list; it must not be empty.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.rng.below(from.len() as u64) as usize]
    }

    /// A duration of up to `ms` milliseconds, in ns.
    pub fn up_to_ms(&mut self, ms: u64) -> u64 {
        self.rng.below(ms * MS) + 1
    }
}

/// A client.
pub trait Client: std::fmt::Debug {
    /// Begins.
    fn start(&mut self, ctx: &mut Ctx<'_>);
    /// The connection is there.
    fn connected(&mut self, ctx: &mut Ctx<'_>);
    /// An answer, without its length prefix.
    fn answer(&mut self, ctx: &mut Ctx<'_>, frame: Bytes);
    /// The connection is gone, or could not be made.
    fn cut(&mut self, ctx: &mut Ctx<'_>);
    /// Its timer.
    fn timer(&mut self, ctx: &mut Ctx<'_>, token: u64);
    /// Whether it has done all that it is there for.
    fn is_done(&self) -> bool;
    /// What it is doing, for the report when it does not get done.
    fn doing(&self) -> String;
}

/// A request frame without a correlation id yet, see [`with_correlation`].
fn frame<R: KafkaRequest>(version: i16, request: &R) -> Bytes {
    client::encode_request(0, Some("sim"), version, request)
        .unwrap_or_else(|error| panic!("{} {version}: {error}", std::any::type_name::<R>()))
}

/// The frame with its correlation id, which lies behind length, key and version.
fn with_correlation(frame: &Bytes, correlation: i32) -> Bytes {
    let mut bytes = frame.to_vec();
    bytes[8..12].copy_from_slice(&correlation.to_be_bytes());
    bytes.into()
}

/// The error of a code in an answer.
fn error_of(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError)
}

fn uuid(id: TopicId) -> Uuid {
    Uuid::from_bytes(id.0)
}

fn text(text: &str) -> StrBytes {
    StrBytes::from(text)
}

/// A kafka-wire message made from its default and the fields that matter.
macro_rules! message {
    ($ty:path { $($field:ident: $value:expr),* $(,)? }) => {{
        let mut message = <$ty>::default();
        $(message.$field = $value;)*
        message
    }};
}
use message;
