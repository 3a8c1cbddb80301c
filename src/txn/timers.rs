//! What the coordinator does by itself: the next step of an id, when it is time for it.

use super::coordinator::TxnCoordinator;
use super::effect::{NeedsId, TxnEffect};
use super::entry::{Marking, TxnEntry, TxnThen};
use super::state::TxnState;
use crate::base::limits::{PRODUCER_ID_WITHIN_MS, TXN_PARTITIONS_PER_STEP};
use crate::base::{Mono, Name, Now};

/// What is to be done with an id next.
enum Step {
    /// Nothing before something else ends.
    Wait,
    /// Nothing before this.
    At(Mono),
    /// Markers.
    Mark(bool),
    /// Its transaction takes too long.
    Abort,
    /// Nobody has used it for a long time.
    Forget,
}

impl TxnCoordinator {
    /// Does what is due of an id, and notes when there is something to do next.
    pub(super) fn go_on(&mut self, now: Now, id: &Name, out: &mut Vec<TxnEffect>) {
        if self.is_unloading {
            return;
        }
        let Some(entry) = self.ids.get(id) else {
            return self.timers.cancel(id);
        };
        match self.next_step(now, entry) {
            Step::Wait => self.timers.cancel(id),
            Step::At(at) => self.timers.set(id.clone(), at),
            Step::Mark(commits) => {
                self.timers.cancel(id);
                self.mark(now, id, commits, out);
            }
            Step::Abort => self.abort(now, id, None, out),
            Step::Forget => self.write(id, None, TxnThen::Nothing, out),
        }
    }

    /// The same, unless there is much to do, which is left to a slice of [`TxnCoordinator::tick`]: many may come to
    /// this at the same time.
    pub(super) fn go_on_soon(&mut self, now: Now, id: &Name, out: &mut Vec<TxnEffect>) {
        match self.cost_of(id) > 1 && !self.is_unloading {
            true => self.timers.set(id.clone(), now.mono),
            false => self.go_on(now, id, out),
        }
    }

    /// What a step of an id costs, in those of an id with few partitions.
    fn cost_of(&self, id: &Name) -> usize {
        let entry = self.ids.get(id);
        let partitions = entry.map_or(0, |entry| entry.facts.partitions.len());
        1 + partitions / TXN_PARTITIONS_PER_STEP
    }

    /// Aborts a transaction that takes too long; with this producer id that nobody has, if there is one.
    fn abort(&mut self, now: Now, id: &Name, fresh: Option<i64>, out: &mut Vec<TxnEffect>) {
        let Some(entry) = self.ids.get(id) else {
            return;
        };
        if let Some(by) = self.ending(&entry.facts, self.config.version, fresh) {
            let facts = entry.facts.fenced(by, now.wall_ms);
            return self.write(id, Some(facts), TxnThen::Fence(None), out);
        }
        // Should none come, it is asked for again.
        self.not_before(id, now.mono.plus_ms(PRODUCER_ID_WITHIN_MS));
        out.push(TxnEffect::NeedsProducerId(NeedsId::Abort(id.clone())));
    }

    /// A producer id is there for that, or is not: whatever has become of the transaction meanwhile.
    pub(super) fn abort_with(
        &mut self,
        now: Now,
        id: &Name,
        fresh: Option<i64>,
        out: &mut Vec<TxnEffect>,
    ) {
        let Some(fresh) = fresh else {
            return self.not_before(id, now.mono.plus_ms(self.config.retry_ms));
        };
        self.not_before(id, now.mono);
        match self.ids.get(id).map(|entry| self.next_step(now, entry)) {
            Some(Step::Abort) if !self.is_unloading => self.abort(now, id, Some(fresh), out),
            _ => self.go_on(now, id, out),
        }
    }

    /// Nothing is done of itself with an id before this.
    fn not_before(&mut self, id: &Name, at: Mono) {
        let is_known = self.change(id, |entry| match entry {
            Some(entry) => {
                entry.not_before = at;
                entry.pending.is_none() && !entry.marking.as_ref().is_some_and(Marking::waits)
            }
            None => false,
        });
        if is_known && !self.is_unloading {
            self.timers.set(id.clone(), at);
        }
    }

    fn next_step(&self, now: Now, entry: &TxnEntry) -> Step {
        if entry.pending.is_some() {
            return Step::Wait;
        }
        let marks_at = entry.marking.as_ref().map_or(Mono(0), Marking::next);
        let at = entry.not_before.max(marks_at);
        if at == Mono::NEVER {
            return Step::Wait;
        }
        if at > now.mono {
            return Step::At(at);
        }
        let facts = &entry.facts;
        let (due_ms, step) = match facts.state {
            TxnState::PrepareCommit => return Step::Mark(true),
            TxnState::PrepareAbort => return Step::Mark(false),
            TxnState::Ongoing => (
                facts.start_ms.saturating_add(facts.timeout_ms.into()),
                Step::Abort,
            ),
            TxnState::Empty | TxnState::CompleteCommit | TxnState::CompleteAbort => (
                facts
                    .updated_ms
                    .saturating_add(self.config.id_expiration_ms),
                Step::Forget,
            ),
        };
        match u64::try_from(due_ms.saturating_sub(now.wall_ms)) {
            Ok(left) if left > 0 => Step::At(now.mono.plus_ms(left)),
            _ => step,
        }
    }

    /// Whether the transaction of an id takes too long, and nothing keeps it from being aborted.
    pub(super) fn is_overdue(&self, now: Now, id: &Name) -> bool {
        let entry = self.ids.get(id);
        entry.is_some_and(|entry| matches!(self.next_step(now, entry), Step::Abort))
    }

    /// Does what is due, for so many ids of few partitions at most; the rest still is.
    pub fn tick(&mut self, now: Now, left: &mut usize, out: &mut Vec<TxnEffect>) {
        while *left > 0
            && let Some(id) = self.timers.pop_due(now.mono)
        {
            *left = left.saturating_sub(self.cost_of(&id));
            self.go_on(now, &id, out);
        }
    }

    /// When [`TxnCoordinator::tick`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Mono {
        self.timers.next_deadline()
    }
}
