//! Queries at the shard that owns the partitions: what one asks of many logs is answered in slices, and what has to be
//! read or opened waits for that.

use std::collections::VecDeque;

use bytes::Bytes;

use super::job::QueryJob;
use super::openings::{Openings, Turn};
use crate::base::limits::{
    LOGS_CHANGED_PER_SLICE, PARTITIONS_PER_SLICE, QUERY_READS_BYTES_MAX, VALIDATION_SLICE_WORK,
};
use crate::base::{ErrorCode, LeaderEpoch, LogId, Mono, Now, Offset, ShardId};
use crate::broker::data::reads::{Reading, Reads};
use crate::broker::fx::Fx;
use crate::broker::io::ReadId;
use crate::broker::msg::{Answered, Msg, Query, Reader, ReqRef};
use crate::broker::owner::Owner;
use crate::broker::owner::acks::LogWaiter;
use crate::broker::owner::work::Worker;
use crate::log::{Later, Opening, TimeLookup};
use crate::replica::Mark;
use crate::store::{DiskError, Piece};

/// What one log says to a question.
enum Step {
    Answer(Answered),
    Read(Vec<Piece>, crate::log::Ticket),
    Open(Box<Opening>),
    Later(Box<Later>),
}

/// The queries that a shard works on.
#[derive(Debug)]
pub struct Lookups {
    /// Those that have had their slice.
    put_off: VecDeque<QueryJob>,
    /// Those that have to read.
    reads: Reads<QueryJob>,
    /// Those that have to open a batch.
    openings: Openings,
    /// The shard is to stop: nothing is looked up by time any more.
    stopping: bool,
}

impl Default for Lookups {
    fn default() -> Self {
        Self {
            put_off: VecDeque::new(),
            reads: Reads::new(QUERY_READS_BYTES_MAX),
            openings: Openings::default(),
            stopping: false,
        }
    }
}

impl Lookups {
    /// Answers questions about logs of this shard.
    pub fn begin(
        &mut self,
        owner: &mut Owner,
        req: ReqRef,
        (parts, until): (Vec<(u32, LogId, Query)>, Mono),
        fx: &mut Fx<'_>,
    ) {
        let job = QueryJob {
            req,
            todo: parts,
            until,
            done: Vec::new(),
            takes_long: false,
            place: None,
            later: None,
        };
        self.ask_some(owner, job, PARTITIONS_PER_SLICE, fx);
    }

    /// Goes on with one that was put off.
    pub fn go_on(&mut self, owner: &mut Owner, fx: &mut Fx<'_>) {
        if let Some(job) = self.put_off.pop_front() {
            self.ask_some(owner, job, PARTITIONS_PER_SLICE, fx);
        }
    }

    fn put_off(&mut self, owner: &mut Owner, job: QueryJob) {
        self.put_off.push_back(job);
        owner.work.put_off(Worker::Query);
    }

    /// A read has ended: goes on with what waited for it, and with what waited for its memory.
    pub fn read(
        &mut self,
        owner: &mut Owner,
        id: ReadId,
        result: Result<Bytes, DiskError>,
        fx: &mut Fx<'_>,
    ) {
        if let Some((mut job, log, ticket)) = self.reads.ended(id) {
            match result {
                Ok(bytes) => owner.scanned(log, ticket, &bytes),
                Err(_) => job.fail(ErrorCode::KafkaStorageError),
            }
            self.ask_some(owner, job, PARTITIONS_PER_SLICE, fx);
        }
        while let Some((job, log, ticket)) = self.reads.next() {
            match owner.pieces_of(log, &ticket) {
                Some(pieces) => self.start_read(owner, pieces, (job, log, ticket), fx),
                // It is gone meanwhile: asking again will tell.
                None => self.put_off(owner, job),
            }
        }
    }

    fn start_read(
        &mut self,
        owner: &mut Owner,
        pieces: Vec<Piece>,
        reading: Reading<QueryJob>,
        fx: &mut Fx<'_>,
    ) {
        let id = owner.work.read(Worker::Query, pieces, fx);
        self.reads.started(id, reading);
    }

    /// Opens some of a batch for a lookup, if any needs it.
    pub fn open_some(&mut self, owner: &mut Owner, fx: &mut Fx<'_>) {
        match self.openings.go_on() {
            Some(Turn::Opened(job, log, opening)) => {
                if let Some(partition) = owner.partitions.get_mut(&log) {
                    partition.log.opened(&opening);
                }
                // What was found is only kept for a moment; but what else it asks for has its turn later.
                self.ask_some(owner, job, 1, fx);
            }
            Some(Turn::Ask(job)) => self.ask_some(owner, job, 1, fx),
            None => {}
        }
    }

    /// Whether [`Lookups::open_some`] has something to do.
    pub fn has_openings(&self) -> bool {
        self.openings.can_go_on()
    }

    /// Whether no lookup is to be opened, now or later.
    pub fn has_no_openings(&self) -> bool {
        self.openings.is_empty()
    }

    /// The shard is to stop: what is looked up by time is answered at once, with an error.
    pub fn stop(&mut self, owner: &mut Owner) {
        self.stopping = true;
        let mut jobs = self.openings.take_all();
        jobs.extend(self.reads.take_waiting());
        for job in jobs {
            self.put_off(owner, job);
        }
    }

    /// Forgets queries of another shard's closed connection, by their numbers in order.
    pub fn forget(&mut self, shard: ShardId, ids: &[u64]) {
        self.put_off.retain(|job| !job.is_of(shard, ids));
        self.reads.forget(|job| job.is_of(shard, ids));
        self.openings.forget(shard, ids);
    }

    /// Goes on with a query until it is answered, has to read, or has had its turn of so many questions.
    fn ask_some(&mut self, owner: &mut Owner, mut job: QueryJob, turn: usize, fx: &mut Fx<'_>) {
        let (mut asked, mut work) = (0, VALIDATION_SLICE_WORK);
        while let Some(&(slot, log, query)) = job.todo.last() {
            let changes = matches!(query, Query::DeleteBefore(_));
            if asked == turn || work == 0 || changes && owner.holds_changes() {
                return self.put_off(owner, job);
            }
            asked += 1;
            if let Some(later) = job.later.take()
                && let Some(partition) = owner.partitions.get_mut(&log)
            {
                partition.log.resume_lookup(*later);
            }
            match self.ask_log(owner, fx.now, log, query, &mut work) {
                Ok(Step::Answer(answered)) => {
                    job.todo.pop();
                    job.next_question();
                    let waits = changes && until_dropped(owner, &job, log, (slot, answered), fx);
                    if !waits {
                        job.done.push((slot, Ok(answered)));
                    }
                }
                Ok(Step::Read(pieces, ticket)) => {
                    if self.reads.may_start(&ticket) {
                        self.start_read(owner, pieces, (job, log, ticket), fx);
                    } else {
                        self.reads.wait((job, log, ticket));
                    }
                    return;
                }
                // The work is used up.
                Ok(Step::Later(later)) => job.later = Some(later),
                Ok(Step::Open(opening)) => return self.openings.push(job, log, opening),
                Err(code) => job.fail(code),
            }
        }
        if !job.done.is_empty() {
            fx.send(
                job.req.shard,
                Msg::QueryDone {
                    id: job.req.id,
                    results: job.done,
                },
            );
        }
    }

    fn ask_log(
        &self,
        owner: &mut Owner,
        now: Now,
        id: LogId,
        query: Query,
        work: &mut usize,
    ) -> Result<Step, ErrorCode> {
        let here = |offset: Offset, timestamp_ms: i64, epoch: i32| {
            Step::Answer(Answered {
                offset: offset.0,
                timestamp_ms,
                leader_epoch: epoch,
            })
        };
        let Some(partition) = owner.partitions.get_mut(&id) else {
            return Err(owner.missing(id));
        };
        let store = &owner.slots[partition.slot].store;
        let log = &mut partition.log;
        let reader = match query {
            Query::Latest(reader) | Query::MaxTimestamp(reader) | Query::AtTime(_, reader) => {
                Some(reader)
            }
            _ => None,
        };
        let end = match reader {
            Some(Reader::Committed) => log.last_stable(),
            Some(Reader::All) | None => log.high_watermark(),
        };
        // Where a log ends for its readers a new leader does not know yet, nor what they were told of times.
        match &partition.leader {
            None if query != Query::Size => return Err(ErrorCode::NotLeaderOrFollower),
            Some(leader) if reader.is_some() && !leader.is_settled(log) => {
                return Err(ErrorCode::OffsetNotAvailable);
            }
            _ => {}
        }
        let lookup = match query {
            Query::Earliest => {
                return Ok(here(
                    log.start_offset(),
                    -1,
                    log.epoch_at(log.start_offset()).0,
                ));
            }
            Query::Latest(_) => {
                return Ok(here(end, -1, log.leader_epoch().0));
            }
            Query::Size => {
                let bytes = i64::try_from(log.size_bytes()).unwrap_or(i64::MAX);
                return Ok(here(Offset(bytes), -1, -1));
            }
            Query::EpochEnd(epoch) => {
                let (epoch, end) = log.end_offset_for_epoch(LeaderEpoch(epoch));
                return Ok(here(end, -1, epoch.0));
            }
            Query::DeleteBefore(offset) => {
                *work = work.saturating_sub(VALIDATION_SLICE_WORK / LOGS_CHANGED_PER_SLICE);
                let start = owner.delete_records(now, id, Offset(offset));
                return start
                    .map(|start| here(start, -1, -1))
                    .map_err(|refused| refused.code);
            }
            // Other brokers that stop give their partitions away: it may be asked of whoever has them then.
            Query::MaxTimestamp(_) | Query::AtTime(..) if self.stopping => {
                return Err(ErrorCode::NotLeaderOrFollower);
            }
            Query::MaxTimestamp(_) => log.max_timestamp(store, work)?,
            Query::AtTime(at, _) => log.offset_for_time(store, at, work)?,
        };
        Ok(match lookup {
            TimeLookup::Found {
                offset,
                timestamp,
                epoch,
            } if offset < end => here(offset, timestamp, epoch.0),
            // Who reads what is committed is not told of what may not be: as in Kafka, nothing else is looked for.
            TimeLookup::Found { .. } => here(Offset(-1), -1, -1),
            TimeLookup::NotFound => here(Offset(-1), -1, -1),
            TimeLookup::Scan { pieces, ticket } => Step::Read(pieces, ticket),
            TimeLookup::Open(opening) => Step::Open(opening),
            TimeLookup::Later(later) => Step::Later(later),
        })
    }
}

/// Whether what a partition answers has to wait until the records that it has dropped cannot come back, nor be read of
/// another replica (KIP-107).
fn until_dropped(
    owner: &mut Owner,
    job: &QueryJob,
    log: LogId,
    (slot, answered): (u32, Answered),
    fx: &Fx<'_>,
) -> bool {
    let waiter = LogWaiter::Dropped {
        req: job.req,
        slot,
        answered,
    };
    let (start, now) = (Offset(answered.offset), fx.now.mono);
    let at = (start, owner.waits_for_others(log, job.until));
    let waits = owner.wait(log, Mark::Dropped, at, waiter).is_none();
    if waits {
        owner.may_be_late(now, log, at.1);
    }
    waits
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::{Mono, StoreId};
    use crate::broker::io::Output;
    use crate::broker::msg::LogAnswer;
    use crate::broker::owner::stores::{StoreSlot, format_store};
    use crate::broker::testing::with_fx;
    use crate::config::BrokerConfig;
    use crate::log::LogConfig;
    use crate::record::{BatchBuilder, Codec};
    use crate::store::{IoId, LogLabel, StoreConfig};

    const ME: ShardId = ShardId(0);
    const NOW: Now = Now {
        mono: Mono(1),
        wall_ms: 1_700_000_000_000,
    };

    fn slot(store: u16) -> StoreSlot {
        let config = StoreConfig {
            journal_bytes: 1 << 20,
            initial_bytes: 4 << 20,
            raw: true,
            ..StoreConfig::default()
        };
        format_store(StoreId(store), config, 1).0
    }

    /// Gives an owner something to do, performs what it wants of the disks of `stores`, and returns the
    /// answers to queries.
    fn run(
        owner: &mut Owner,
        stores: &[u16],
        held: &mut Vec<(StoreId, IoId)>,
        act: impl FnOnce(&mut Owner, &mut Fx<'_>),
    ) -> Vec<LogAnswer> {
        let ((), _, local) = with_fx(NOW, |fx| {
            act(owner, fx);
            owner.idle(fx);
            loop {
                for output in fx.out.drain(..) {
                    if let Output::Disk { store, op } = output {
                        let id = op.id();
                        held.push((store, id));
                    }
                }
                let Some(next) = held.iter().position(|(s, _)| stores.contains(&s.0)) else {
                    break;
                };
                let (store, id) = held.remove(next);
                owner.on_disk(store, id, Ok(()), fx);
                owner.idle(fx);
            }
        });
        let done = local.into_iter().filter_map(|msg| match msg {
            Msg::QueryDone { results, .. } => Some(results),
            _ => None,
        });
        done.flatten().collect()
    }

    #[test]
    fn deleted_records_are_answered_when_each_store_has_it_durable() {
        let config = Arc::new(BrokerConfig::default());
        let mut owner = Owner::new(ME, config, vec![slot(0), slot(1)]);
        let mut held = Vec::new();
        run(&mut owner, &[0, 1], &mut held, |owner, _| {
            for store in 0..2 {
                let log = LogId(10 + store as u64);
                let label = LogLabel::default();
                owner.open_own(NOW, store, log, label, LogConfig::default());
                let mut builder = BatchBuilder::new(Codec::None, NOW.wall_ms);
                builder.push(NOW.wall_ms, None, Some(b"v"), &[]);
                let batch = builder.build();
                owner.append_internal(NOW, log, batch).unwrap();
            }
        });
        let req = ReqRef { shard: ME, id: 1 };
        let delete = vec![
            (0, LogId(10), Query::DeleteBefore(1)),
            (1, LogId(99), Query::DeleteBefore(1)),
            (2, LogId(11), Query::DeleteBefore(1)),
        ];
        let slots = |answers: Vec<LogAnswer>| answers.iter().map(|a| a.0).collect::<Vec<_>>();
        // Whichever store is slow: what lies in it waits, and nothing else does.
        let first = run(&mut owner, &[1], &mut held, |owner, fx| {
            Lookups::default().begin(owner, req, (delete, Mono::NEVER), fx);
        });
        assert_eq!(slots(first), [1, 2]);
        let second = run(&mut owner, &[0, 1], &mut held, |_, _| {});
        assert_eq!(slots(second), [0]);
    }

    /// Each opens to less than a slice, all together to many of them.
    #[test]
    fn lookups_of_one_request_share_their_slices() {
        const LOGS: u64 = 40;
        const OPENED: usize = 150_000;
        let config = Arc::new(BrokerConfig::default());
        let mut owner = Owner::new(ME, config, vec![slot(0)]);
        let mut held = Vec::new();
        run(&mut owner, &[0], &mut held, |owner, _| {
            for log in 0..LOGS {
                let label = LogLabel::default();
                owner.open_own(NOW, 0, LogId(log), label, LogConfig::default());
                let mut builder = BatchBuilder::new(Codec::Zstd, NOW.wall_ms);
                builder.push(NOW.wall_ms, None, Some(&[0; OPENED]), &[]);
                builder.push(NOW.wall_ms + 1, None, None, &[]);
                let batch = builder.build();
                owner.append_internal(NOW, LogId(log), batch).unwrap();
            }
        });
        let asked = |log| {
            (
                log as u32,
                LogId(log),
                Query::AtTime(NOW.wall_ms + 1, Reader::All),
            )
        };
        let mut lookups = Lookups::default();
        let (slices, _, mut local) = with_fx(NOW, |fx| {
            let req = ReqRef { shard: ME, id: 2 };
            lookups.begin(
                &mut owner,
                req,
                ((0..LOGS).map(asked).collect(), Mono::NEVER),
                fx,
            );
            let mut slices = 1;
            while owner.has_more() || lookups.has_openings() {
                if owner.work.next().is_some() {
                    lookups.go_on(&mut owner, fx);
                }
                lookups.open_some(&mut owner, fx);
                slices += 1;
            }
            slices
        });
        assert!(
            slices >= LOGS as usize * OPENED / (2 * VALIDATION_SLICE_WORK),
            "{slices}"
        );
        let Some(Msg::QueryDone { results, .. }) = local.pop_front() else {
            panic!("no answer");
        };
        assert_eq!(results.len() as u64, LOGS);
        assert!(
            results
                .iter()
                .all(|(_, answer)| answer.is_ok_and(|a| a.offset == 1))
        );
    }
}
