//! What the leader of a partition decides: which appends it takes, where the high watermark stands, and who need not
//! wait any more.

use super::in_sync::InSync;
use super::waits::Waits;
use crate::base::{ErrorCode, LeaderEpoch, Mono, NodeId, Offset, Refused};
use crate::log::Log;
use crate::store::{FlushSeq, Store};

/// What is known of a log up to some offset, and somebody may wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The durable end: all records before it are on the leader's disk. `acks=1`.
    Durable,
    /// The high watermark: they are on the disks of all in-sync replicas. `acks=all`.
    Committed,
    /// The low watermark: no record before it comes back, here or at another replica that is in sync.
    Dropped,
}

const MARKS: [Mark; 3] = [Mark::Durable, Mark::Committed, Mark::Dropped];

impl Mark {
    /// Where it is.
    fn of(self, in_sync: &InSync, log: &Log) -> Offset {
        match self {
            Self::Durable => log.durable_end(),
            Self::Committed => log.high_watermark(),
            Self::Dropped => in_sync.low_watermark(log.durable_start()),
        }
    }
}

/// A partition's leader. `W` is who waits.
#[derive(Debug)]
pub struct Leader<W> {
    epoch: LeaderEpoch,
    /// Where its epoch begins in its log.
    began: Offset,
    /// The state of the partition that it knows.
    partition_epoch: i32,
    in_sync: InSync,
    durable: Waits<W>,
    committed: Waits<W>,
    dropped: Waits<W>,
}

impl<W> Leader<W> {
    /// This node leads a partition, alone. What is committed is known when it [is told](Self::assign) that it is so.
    #[must_use]
    pub fn alone(me: NodeId) -> Self {
        Self::begins(me, LeaderEpoch(0), Offset(0))
    }

    /// This node leads a partition from now on, in an epoch that begins where its log ends. Who else has to have a
    /// record it [is told](Self::assign).
    #[must_use]
    pub fn begins(me: NodeId, epoch: LeaderEpoch, began: Offset) -> Self {
        Self {
            epoch,
            began,
            partition_epoch: -1,
            in_sync: InSync::alone(me),
            durable: Waits::default(),
            committed: Waits::default(),
            dropped: Waits::default(),
        }
    }

    /// The epoch in which it leads.
    #[must_use]
    pub const fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// The state of the partition that it knows: what it asks for is a change of that.
    #[must_use]
    pub const fn partition_epoch(&self) -> i32 {
        self.partition_epoch
    }

    /// Whether the beginning of its epoch is committed: before that it does not know how far others have told clients
    /// that records are.
    #[must_use]
    pub fn is_settled(&self, log: &Log) -> bool {
        log.high_watermark() >= self.began
    }

    /// Who should have a copy, who of them is in sync, and `min.insync.replicas`, in this state of the partition.
    /// Returns the bytes that become readable by it, as [`Leader::on_durable`].
    pub fn assign(
        &mut self,
        (log, store): (&mut Log, &mut Store),
        partition_epoch: i32,
        (replicas, in_sync): (&[NodeId], &[NodeId]),
        min_in_sync: usize,
    ) -> u64 {
        let is_newer = partition_epoch > self.partition_epoch;
        self.partition_epoch = partition_epoch.max(self.partition_epoch);
        self.in_sync
            .assign(replicas, in_sync, min_in_sync, is_newer);
        self.commit(log, store)
    }

    /// Which ISR to [ask](Self::ask) for: see [`InSync::wanted`].
    #[must_use]
    pub fn wanted(&self, log: &Log, silent: impl Fn(NodeId) -> bool) -> Option<Vec<NodeId>> {
        let least = (self.began, log.durable_start());
        self.in_sync.wanted(log.known_committed(), least, silent)
    }

    /// This ISR is asked for: see [`InSync::ask`].
    pub fn ask(&mut self, in_sync: Vec<NodeId>) {
        self.in_sync.ask(in_sync);
    }

    /// See [`InSync::is_in_sync`].
    #[must_use]
    pub fn is_in_sync(&self, node: NodeId) -> Option<bool> {
        self.in_sync.is_in_sync(node)
    }

    /// Whether no other node has the partition.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.in_sync.is_alone()
    }

    /// Another replica has everything before `durable` on its disk. As [`Leader::on_durable`].
    pub fn on_replicated(
        &mut self,
        (log, store): (&mut Log, &mut Store),
        replica: NodeId,
        durable: Offset,
    ) -> u64 {
        self.in_sync.reached(replica, durable);
        self.commit(log, store)
    }

    /// Nothing before this comes back at another replica. Returns whether that moves the low watermark.
    pub fn on_dropped(&mut self, log: &Log, replica: NodeId, start: Offset) -> bool {
        let low = |in_sync: &InSync| in_sync.low_watermark(log.durable_start());
        let before = low(&self.in_sync);
        self.in_sync.dropped(replica, start);
        low(&self.in_sync) > before
    }

    /// Another replica [asks](super::Following::ask), or has told that [it lost](super::FollowerStopped::has_lost)
    /// something: if it is not in sync, nor may be, what was [on its disk](Self::on_replicated) does not say any more
    /// that it may join.
    pub fn on_asked(&mut self, replica: NodeId) {
        self.in_sync.compares(replica);
    }

    /// Whether another replica, which is in sync or may be, says that less is on its disk than it had said in this
    /// epoch, or than is committed: something was lost there. It has to leave the ISR before it is
    /// [counted](Self::on_replicated) again.
    #[must_use]
    pub fn has_lost(&self, replica: NodeId, durable: Offset, log: &Log) -> bool {
        (self.in_sync).has_lost(replica, durable, log.known_committed())
    }

    /// A flush of the leader's own, and all before it, are on its disk. Returns the bytes that become readable;
    /// [`Leader::next_reached`] then says who need not wait any more.
    pub fn on_durable(&mut self, (log, store): (&mut Log, &mut Store), flush: FlushSeq) -> u64 {
        log.on_durable(flush);
        self.commit(log, store)
    }

    /// The one place where the high watermark of a leader moves. What is durable here is committed where there is no
    /// other replica, so nothing has to be written down there.
    fn commit(&self, log: &mut Log, store: &mut Store) -> u64 {
        let committed = self.in_sync.committed(log.durable_end());
        let readable = committed.map_or(0, |committed| log.raise_high_watermark(committed));
        if !self.in_sync.is_alone() {
            log.write_watermark(store);
        }
        readable
    }

    /// Whether an append that waits for this may be taken.
    ///
    /// # Errors
    /// NOT_ENOUGH_REPLICAS for `acks=all` while fewer are in sync than `min.insync.replicas` asks for.
    pub fn admit(&self, mark: Mark) -> Result<(), Refused> {
        if mark != Mark::Committed || self.in_sync.are_enough() {
            return Ok(());
        }
        let why = "Fewer replicas are in sync than min.insync.replicas asks for.";
        Err(Refused::because(ErrorCode::NotEnoughReplicas, why))
    }

    /// Whether it can say if everything before an offset may be deleted; [`Log::DELETE_ALL`] is as far as the high
    /// watermark.
    ///
    /// # Errors
    /// OFFSET_NOT_AVAILABLE, which clients retry, for what is beyond the high watermark before the leader
    /// [is settled](Self::is_settled).
    pub fn may_delete(&self, log: &Log, before: Offset) -> Result<(), Refused> {
        let is_known = before != Log::DELETE_ALL && before <= log.high_watermark();
        if is_known || self.is_settled(log) {
            return Ok(());
        }
        let why = "This node has begun to lead the partition, and does not know yet what of it is committed.";
        Err(Refused::because(ErrorCode::OffsetNotAvailable, why))
    }

    /// Waits until a mark is at `offset`, but not [beyond](Self::next_late) `until`; gives the waiter back if it is.
    pub fn wait(
        &mut self,
        log: &Log,
        mark: Mark,
        (offset, until): (Offset, Mono),
        waiter: W,
    ) -> Option<W> {
        if mark.of(&self.in_sync, log) >= offset {
            return Some(waiter);
        }
        self.waits(mark).push(offset, until, waiter);
        None
    }

    /// The next one who need not wait any more, and what that comes to: NOT_ENOUGH_REPLICAS_AFTER_APPEND, as Kafka's
    /// `Partition.checkEnoughReplicasReachOffset` says it, if the high watermark is there and fewer are in sync by now
    /// than `min.insync.replicas` asks for. As long as they are fewer it does not move (KIP-966), so that is rare.
    pub fn next_reached(&mut self, log: &Log) -> Option<(W, Result<(), ErrorCode>)> {
        let reached = |mark: Mark| {
            let at = mark.of(&self.in_sync, log);
            Some((self.waits(mark).pop(at)?, mark))
        };
        let (waiter, mark) = MARKS.into_iter().find_map(reached)?;
        let outcome = match mark == Mark::Committed && !self.in_sync.are_enough() {
            true => Err(ErrorCode::NotEnoughReplicasAfterAppend),
            false => Ok(()),
        };
        Some((waiter, outcome))
    }

    /// The next one who has waited for other replicas for too long, and what for.
    pub fn next_late(&mut self, now: Mono) -> Option<(Mark, Offset, W)> {
        let marks = [Mark::Committed, Mark::Dropped].into_iter();
        let mut late = marks.filter_map(|mark| {
            let (offset, waiter) = self.waits(mark).pop_late(now)?;
            Some((mark, offset, waiter))
        });
        late.next()
    }

    /// Whether a mark is at `offset`: who waits for that is about to be [told](Self::next_reached), in his turn.
    #[must_use]
    pub fn has_reached(&self, log: &Log, mark: Mark, offset: Offset) -> bool {
        mark.of(&self.in_sync, log) >= offset
    }

    /// Somebody who [was late](Self::next_late) waits on, however long it takes.
    pub fn wait_on(&mut self, mark: Mark, offset: Offset, waiter: W) {
        self.waits(mark).push(offset, Mono::NEVER, waiter);
    }

    /// Whether somebody waits for other replicas no longer than until some time.
    #[must_use]
    pub fn may_be_late(&self) -> bool {
        self.committed.may_be_late() || self.dropped.may_be_late()
    }

    /// The next one who waits, whether it need or not: for one that leads no more.
    pub fn next_left(&mut self) -> Option<W> {
        MARKS
            .into_iter()
            .find_map(|mark| self.waits(mark).pop(Offset(i64::MAX)))
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.durable.is_empty() && self.committed.is_empty() && self.dropped.is_empty()
    }

    fn waits(&mut self, mark: Mark) -> &mut Waits<W> {
        match mark {
            Mark::Durable => &mut self.durable,
            Mark::Committed => &mut self.committed,
            Mark::Dropped => &mut self.dropped,
        }
    }

    /// Panics if somebody waits for what is reached, and need not be told still. For the simulator.
    pub fn invariants(&self, log: &Log, is_told: bool) {
        let waits = [&self.durable, &self.committed, &self.dropped];
        for (waits, mark) in waits.into_iter().zip(MARKS) {
            match is_told {
                true => waits.invariants(mark.of(&self.in_sync, log)),
                false => waits.are_in_order(),
            }
        }
    }
}
