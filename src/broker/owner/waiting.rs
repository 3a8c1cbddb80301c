//! Who waits for a mark of a partition; and who has waited for other replicas for too long, which neither a client nor
//! a coordinator does without a bound.

use super::acks::LogWaiter;
use super::{OpenLog, Owner};
use crate::base::limits::{BATCHES_WAITING_MAX, WAITS_TOLD_PER_SLICE};
use crate::base::{ErrorCode, LogId, Mono, Offset, Refused};
use crate::broker::fx::Fx;
use crate::broker::msg::Appender;
use crate::replica::Mark;

impl Owner {
    /// Until when a batch is waited for, if other replicas have to have it.
    pub fn waits_until(&self, appender: Appender, until: Mono, now: Mono) -> Mono {
        match appender {
            Appender::Client(_) => until,
            Appender::Coordinator(..) => {
                let timeout_ms = self.config.offsets_commit_timeout_ms;
                now.plus_ms(timeout_ms.unsigned_abs().into())
            }
        }
    }

    /// Until when other replicas are waited for, if there are any; what this disk does is waited for in any case.
    pub fn waits_for_others(&self, log: LogId, until: Mono) -> Mono {
        let open = self.partitions.get(&log);
        match open.is_some_and(OpenLog::leads_others) {
            true => until,
            false => Mono::NEVER,
        }
    }

    /// Somebody waits in a partition for other replicas until then.
    pub fn may_be_late(&mut self, now: Mono, log: LogId, until: Mono) {
        if until < Mono::NEVER {
            self.late.note(now, log);
        }
    }

    /// Whether one more batch may wait for other replicas.
    pub(super) fn may_wait(&self, log: LogId, mark: Mark) -> Result<(), Refused> {
        if mark == Mark::Committed
            && self.acks.waiting() >= BATCHES_WAITING_MAX
            && self.partitions.get(&log).is_some_and(OpenLog::leads_others)
        {
            let why = "Too much waits for replicas that do not keep up.";
            return Err(Refused::because(ErrorCode::NotEnoughReplicas, why));
        }
        Ok(())
    }

    /// Waits until a mark of a log is at an offset; gives the waiter back if it is, or the log is gone or is led by
    /// another node.
    pub fn wait(
        &mut self,
        log: LogId,
        mark: Mark,
        (offset, until): (Offset, Mono),
        waiter: LogWaiter,
    ) -> Option<LogWaiter> {
        let partition = self.partitions.get_mut(&log);
        match partition.map(|partition| (&mut partition.leader, &partition.log)) {
            Some((Some(leader), log)) => leader.wait(log, mark, (offset, until), waiter),
            _ => Some(waiter),
        }
    }

    /// Returns a number that is among [`Acks::told`](super::acks::Acks::told) as soon as all that is before an offset
    /// of one of the broker's own logs is committed, or this node does not lead it any more.
    pub fn tell_when_committed(&mut self, log: LogId, offset: Offset) -> u64 {
        self.tokens += 1;
        let (waiter, at) = (LogWaiter::Token(self.tokens), (offset, Mono::NEVER));
        if self.wait(log, Mark::Committed, at, waiter).is_some() {
            let open = self.partitions.get(&log);
            let outcome = match open.map(|open| open.leader.is_some()) {
                Some(true) => Ok(()),
                Some(false) => Err(ErrorCode::NotLeaderOrFollower),
                None => Err(self.missing(log)),
            };
            self.acks.told.push((self.tokens, outcome));
        }
        self.tokens
    }

    /// Tells some of those who have waited for other replicas for too long. What they wait for is in the log, and may
    /// be committed yet: a coordinator is told of that too.
    pub(super) fn end_late(&mut self, fx: &mut Fx<'_>) {
        let (now, mut left) = (fx.now.mono, WAITS_TOLD_PER_SLICE);
        while left > 0
            && let Some(log) = self.late.next(now)
        {
            left -= 1;
            let Some(open) = self.partitions.get_mut(&log) else {
                continue;
            };
            let Some(leader) = &mut open.leader else {
                continue;
            };
            while left > 0
                && let Some((mark, offset, waiter)) = leader.next_late(now)
            {
                left -= 1;
                let waits_on = match leader.has_reached(&open.log, mark, offset) {
                    true => Some(waiter),
                    false => self.acks.late(waiter, fx),
                };
                if let Some(waiter) = waits_on {
                    leader.wait_on(mark, offset, waiter);
                }
            }
            let waits = leader.may_be_late();
            match left {
                // The rest has its turn.
                0 => self.late.again(log),
                _ if waits => self.late.note(now, log),
                _ => {}
            }
        }
        self.acks.tell(fx);
    }
}
