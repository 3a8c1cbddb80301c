//! Transactions in the life of a log.

use proptest::prelude::*;

use super::{Draft, EndOfTransaction, Model};
use crate::base::Offset;

#[derive(Clone, Copy, Debug)]
pub(super) enum Transact {
    /// So many records of it.
    Records(usize),
    /// One of the broker's own, without a sequence.
    Own,
    /// Its end, by which its epoch may grow (`transaction.version` 2).
    End { commits: bool, bumps: bool },
}

pub(super) fn transact() -> impl Strategy<Value = Transact> {
    prop_oneof![
        4 => (1..4usize).prop_map(Transact::Records),
        1 => Just(Transact::Own),
        3 => any::<(bool, bool)>().prop_map(|(commits, bumps)| Transact::End { commits, bumps }),
    ]
}

/// A batch of a transaction, as the log has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) id: i64,
    pub(super) epoch: i16,
    pub(super) base: i64,
    /// Its first sequence and how many records; `None` without a sequence.
    pub(super) records: Option<(i32, usize)>,
    /// Whether it is the end of it, and commits.
    pub(super) end: Option<bool>,
}

/// A transaction by what is in the log: its producer, first offset, offset of its marker, and whether it was committed.
pub(super) type Transaction = (i64, i64, Option<(i64, bool)>);

pub(super) fn transactions(steps: &[Step]) -> Vec<Transaction> {
    let mut all: Vec<Transaction> = Vec::new();
    for step in steps {
        let open = all.iter_mut().find(|it| it.0 == step.id && it.2.is_none());
        match (open, step.end) {
            (None, None) => all.push((step.id, step.base, None)),
            (Some(open), Some(commits)) => open.2 = Some((step.base, commits)),
            _ => {}
        }
    }
    all
}

impl Model {
    /// Epoch and next sequence of a producer of transactions.
    pub(super) fn next_of(&self, id: i64) -> (i16, i32) {
        let mut next = (0, 0);
        for step in self.steps.iter().filter(|step| step.id == id) {
            if step.epoch != next.0 {
                next = (step.epoch, 0);
            }
            if let Some((sequence, records)) = step.records {
                next.1 = sequence + records as i32;
            }
        }
        next
    }

    pub(super) fn transact(&mut self, id: i64, what: Transact) {
        let (epoch, sequence) = self.next_of(id);
        let (mut step, len, wall_ms) = (
            Step {
                id,
                epoch,
                base: self.end,
                records: None,
                end: None,
            },
            self.f.log.size_bytes(),
            self.f.now.wall_ms,
        );
        let is_open = transactions(&self.steps)
            .iter()
            .any(|it| it.0 == id && it.2.is_none());
        if !is_open && !matches!(what, Transact::End { .. }) {
            self.f.verified(id, epoch);
        }
        match what {
            Transact::Records(records) => {
                let mut draft = Draft::plain(&vec![wall_ms; records], 30);
                draft.producer = Some((id, epoch, sequence));
                draft.transactional = true;
                let base = self.f.append(&draft).unwrap().base_offset.0;
                self.appended(&draft, base);
                step.records = Some((sequence, records));
            }
            Transact::Own => {
                let base = self.f.append_own(id, epoch).unwrap().base_offset.0;
                let len = self.f.log.size_bytes() - len;
                self.push_len(self.epoch(), len as usize, base, vec![wall_ms]);
            }
            Transact::End { commits, bumps } => {
                step.epoch += i16::from(bumps);
                step.end = Some(commits);
                let end = EndOfTransaction {
                    producer_id: id,
                    producer_epoch: step.epoch,
                    coordinator_epoch: 0,
                    commits,
                    version: if bumps { 2 } else { 0 },
                };
                let ended = self
                    .f
                    .log
                    .append_end(self.f.now, &end, &mut self.f.disk.store);
                let (base, len) = (ended.unwrap().base_offset.0, self.f.log.size_bytes() - len);
                self.push_len(self.epoch(), len as usize, base, vec![wall_ms]);
            }
        }
        assert_eq!(self.batches.last().map(|batch| batch.base), Some(step.base));
        self.steps.push(step);
    }

    pub(super) fn last_stable(&self) -> i64 {
        let all = transactions(&self.steps);
        let unstable = all
            .iter()
            .filter(|it| it.2.is_none_or(|(last, _)| last >= self.durable));
        let first = unstable.map(|it| it.1).min();
        first.map_or(self.durable, |first| {
            first.min(self.durable).max(self.log_start)
        })
    }

    /// What those leave out who read what is committed between two offsets.
    pub(super) fn aborted(&self, from: i64, to: i64) -> Vec<(i64, i64, i64)> {
        let all = transactions(&self.steps);
        let aborted = all.into_iter().filter_map(|(id, first, end)| match end {
            Some((last, false)) if last >= from && first < to => Some((last, id, first)),
            _ => None,
        });
        let mut aborted: Vec<_> = aborted.collect();
        aborted.sort_unstable();
        aborted
    }

    pub(super) fn compare_transactions(&self) {
        let log = &self.f.log;
        assert_eq!(log.last_stable().0, self.last_stable());
        let places = [
            self.log_start,
            (self.log_start + self.end) / 2,
            self.durable,
            self.end,
        ];
        for from in places {
            for to in places {
                let found = log.aborted_between(Offset(from), Offset(to));
                let found = found
                    .iter()
                    .map(|it| (it.last.0, it.producer_id, it.first.0));
                assert_eq!(
                    found.collect::<Vec<_>>(),
                    self.aborted(from, to),
                    "{from} to {to}"
                );
            }
        }
        for it in transactions(&self.steps).iter().filter(|it| it.2.is_none()) {
            assert!(
                log.has_open_transaction(it.0, self.next_of(it.0).0),
                "{it:?}"
            );
        }
        let open = transactions(&self.steps)
            .iter()
            .filter(|it| it.2.is_none())
            .count();
        assert_eq!(log.producers.open(), open);
    }
}
