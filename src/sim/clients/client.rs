//! What a client is: it is told what happens to it and says what it wants done.

use bytes::Bytes;

use super::shared::{Leader, Shared, Whom};
use crate::base::{ErrorCode, Now, Rng};
use crate::broker::apis;
use crate::sim::clock::MS;
use crate::sim::fact::{Address, Coordinator, Moment, Place, Process};
use crate::sim::oracle::Oracle;
use crate::sim::what::What;

/// What a client wants done.
#[derive(Debug)]
pub enum Act {
    /// Connect after some time (ns).
    Connect {
        /// How long to wait.
        after: u64,
        /// Where one shard listens; `None` for where any does, of any node.
        to: Option<Address>,
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
    /// The node that it is connected to, or was last.
    pub node: usize,
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
    /// The process that the client is connected to.
    #[must_use]
    pub fn process(&self) -> Process {
        Process {
            node: self.node,
            start: self.shared.lives[self.node].starts,
        }
    }

    /// Whether the node that the client is connected to is the one to ask, as far as is known.
    #[must_use]
    pub fn is_at(&self, whom: Whom) -> bool {
        let known = self.shared.address(whom);
        known.is_some_and(|address| address.node == self.node)
    }

    /// The leader epoch of a partition, if it is known; else -1, which is no belief.
    #[must_use]
    pub fn epoch(&self, at: Place) -> i32 {
        let leader = self.shared.leaders.get(&at).filter(|_| self.shared.cluster);
        leader.and_then(|Leader { epoch, .. }| *epoch).unwrap_or(-1)
    }

    /// When that was known which the node's answer to what it was asked has to show of a partition.
    #[must_use]
    pub fn as_of(&self, at: Place, asked: Moment) -> Moment {
        let topic = self.shared.names.get(&at.topic);
        topic.map_or(asked, |(_, topic)| {
            let partition = (*topic, at.partition);
            self.shared.reigns.as_of(partition, self.node, asked)
        })
    }

    /// The same of what it has to show of a group.
    #[must_use]
    pub fn as_of_group(&self, group: &str, asked: Moment) -> Moment {
        let reigns = &self.shared.reigns;
        let partition = reigns.of_group(group);
        partition.map_or(asked, |it| reigns.as_of(it, self.node, asked))
    }

    /// The process that coordinates a group, if it is the one that the client is connected to, and the epoch in which
    /// it does: a generation that is not finished outlives neither.
    #[must_use]
    pub fn coordinator(&self, group: &str) -> Coordinator {
        let reigns = &self.shared.reigns;
        let known = reigns
            .of_group(group)
            .and_then(|(topic, index)| reigns.of(topic, index));
        let epoch = known
            .and_then(|known| known.leader())
            .map(|(_, epoch)| epoch);
        (self.process(), epoch)
    }

    /// The epoch in which the node leads a partition in truth, if it does.
    #[must_use]
    pub fn reign(&self, at: Place) -> Option<i32> {
        let (leader, epoch) = self.shared.replicated(at)?.leader()?;
        (leader == self.node).then_some(epoch)
    }

    /// Whether an error passes in a cluster: who was asked does not know all yet, or does not know who decides.
    #[must_use]
    pub const fn passes(&self, error: ErrorCode) -> bool {
        let passes = matches!(
            error,
            ErrorCode::UnknownTopicOrPartition
                | ErrorCode::UnknownTopicId
                | ErrorCode::LeaderNotAvailable
                | ErrorCode::NotLeaderOrFollower
                | ErrorCode::FencedLeaderEpoch
                | ErrorCode::UnknownLeaderEpoch
                | ErrorCode::OffsetNotAvailable
                | ErrorCode::RequestTimedOut
                | ErrorCode::NotController
                | ErrorCode::NotEnoughReplicas
                | ErrorCode::NotEnoughReplicasAfterAppend
                | ErrorCode::InvalidReplicationFactor
        );
        self.shared.cluster && passes
    }

    /// The same of an error of a partition, whose leader is then looked for again.
    pub fn is_led_elsewhere(&mut self, at: Place, error: ErrorCode) -> bool {
        let passes = self.passes(error);
        if passes {
            self.oracle.saw(What::LedElsewhere);
            self.shared.leaders.remove(&at);
        }
        passes
    }

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
