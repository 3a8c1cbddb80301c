//! What transactions promise.

use super::invariant::{By, Invariant};
use crate::sim::fact::{Fact, Moment, Place, Placed};
use crate::sim::values::Value;

/// Who reads what is committed sees all of a transaction that was committed, once, and nothing of one that was aborted,
/// or that nobody wanted to commit. An offset that is part of it moves with it: each group is at the one of the last
/// transaction that was committed.
#[derive(Debug, Default)]
pub struct TransactionsAreWhole {
    /// Which transaction a record is of.
    of: By<Value, u64>,
    transactions: By<u64, Known>,
    /// Where a record was read as one that is committed.
    read: By<Value, (Place, i64)>,
    /// What was read in the end as the offset of a group.
    moved: By<u32, i64>,
}

/// What is known of a transaction.
#[derive(Debug, Default)]
struct Known {
    /// What was acknowledged of it.
    acked: Vec<Value>,
    /// It may be committed.
    may_commit: bool,
    /// Whether it was, if that was told.
    commits: Option<bool>,
    /// Of which group an offset may be part of it, and whether it is for sure.
    moves: Option<(u32, bool)>,
}

impl TransactionsAreWhole {
    fn read(&mut self, at: Place, record: &Placed) -> Result<(), String> {
        let Placed { value, offset, .. } = *record;
        let known = *self.read.entry(value).or_insert((at, offset));
        if known != (at, offset) {
            let (other, before) = known;
            return Err(format!(
                "{value} is committed at {at}, offset {offset}, and at {other}, offset {before}"
            ));
        }
        let Some(number) = self.of.get(&value) else {
            return Err(format!("{at}: {value} is of no transaction"));
        };
        match self.transactions.get(number) {
            Some(Known {
                commits: Some(false),
                ..
            }) => Err(format!(
                "{at}: {value} at offset {offset} is of transaction {number}, which was aborted"
            )),
            Some(known) if known.may_commit => Ok(()),
            _ => Err(format!(
                "{at}: {value} at offset {offset} is of transaction {number}, which nobody has committed"
            )),
        }
    }

    /// The offset of a group was read: the number of a transaction, which is committed by that.
    fn moved(&mut self, group: u32, offset: i64) -> Result<(), String> {
        self.moved.insert(group, offset);
        let Ok(number) = u64::try_from(offset) else {
            return Ok(());
        };
        let known = self.transactions.get_mut(&number);
        let known = known.filter(|known| known.moves.is_some_and(|(of, _)| of == group));
        let Some(known) = known else {
            return Err(format!(
                "group {group} is at {offset}, which no transaction has"
            ));
        };
        if !known.may_commit || known.commits == Some(false) {
            let commits = known.commits;
            return Err(format!(
                "group {group} is at the offset of transaction {number}, which was not committed ({commits:?})"
            ));
        }
        known.commits = Some(true);
        Ok(())
    }

    fn audited(&self) -> Result<(), String> {
        for (number, known) in &self.transactions {
            let is_read = |value: &&Value| self.read.contains_key(value);
            let read = known.acked.iter().filter(is_read).count();
            let is_committed = known.commits == Some(true) || read > 0;
            if let Some((group, true)) = known.moves.filter(|_| is_committed)
                && let Some(offset) = self.moved.get(&group)
                && *offset < *number as i64
            {
                return Err(format!(
                    "group {group} is at {offset}, and transaction {number} was committed ({:?}) with that offset",
                    known.commits
                ));
            }
            if is_committed && read < known.acked.len() {
                let lacks = known.acked.iter().find(|value| !is_read(value));
                return Err(format!(
                    "of transaction {number}, which was committed ({:?}), {read} of {} records are there: {lacks:?} is not",
                    known.commits,
                    known.acked.len()
                ));
            }
        }
        Ok(())
    }
}

impl Invariant for TransactionsAreWhole {
    fn name(&self) -> &'static str {
        "TransactionsAreWhole"
    }

    fn see(&mut self, _now: Moment, fact: &Fact<'_>) -> Result<(), String> {
        match *fact {
            Fact::Transacting {
                transaction,
                first,
                count,
            } => {
                for number in first.number..first.number + count {
                    self.of.insert(Value { number, ..first }, transaction);
                }
                self.transactions.entry(transaction).or_default();
            }
            Fact::Acked { records, .. } => {
                for record in records {
                    let number = self.of.get(&record.value);
                    if let Some(known) = number.and_then(|it| self.transactions.get_mut(it))
                        && !known.acked.contains(&record.value)
                    {
                        known.acked.push(record.value);
                    }
                }
            }
            Fact::Deciding { transaction } => {
                self.transactions.entry(transaction).or_default().may_commit = true;
            }
            Fact::Ended {
                transaction,
                commits,
            } => {
                let known = self.transactions.entry(transaction).or_default();
                known.commits = Some(commits);
                let is_read = |value: &Value| self.read.contains_key(value);
                if let Some(value) = known.acked.iter().find(|value| !commits && is_read(value)) {
                    return Err(format!(
                        "transaction {transaction} was aborted, and {value} was read"
                    ));
                }
            }
            Fact::Moving { transaction, group } => {
                let known = self.transactions.entry(transaction).or_default();
                known.moves = Some((group, false));
            }
            Fact::Moved { transaction } => {
                let known = self.transactions.entry(transaction).or_default();
                known.moves = known.moves.map(|(group, _)| (group, true));
            }
            Fact::MovedRead { group, offset } => return self.moved(group, offset),
            Fact::ReadCommitted { at, records } => {
                return records.iter().try_for_each(|record| self.read(at, record));
            }
            Fact::AuditedCommitted => return self.audited(),
            _ => {}
        }
        Ok(())
    }
}
