//! The requests that write: commits and deletions; and what happens when an
//! append has ended.

use std::collections::{BTreeMap, BTreeSet};

use super::consumer::ConsumerReply;
use super::consumers::tombstones_of_kind;
use super::coordinator::Entry;
use super::cx::{Appends, Committing, Counts, InFlight, Leftover};
use super::records::{self, Key};
use super::streams::StreamsReply;
use super::{
    Coordinator, Cx, Effect, Forget, Name, News, OffsetToCommit, Record, Replayed, State, Then,
    TransactionalProducer, client_error,
};
use crate::base::limits::TOMBSTONES_PER_BATCH_MAX;
use crate::base::{ErrorCode, Now, TopicId, limits};

/// An OffsetCommit, or a TxnOffsetCommit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitRequest {
    /// Group id.
    pub group: Name,
    /// Member id, empty for who is no member.
    pub member: Name,
    /// `group.instance.id`
    pub instance: Option<Name>,
    /// The generation, -1 for who is no member.
    pub generation: i32,
    /// The client understands GROUP_ID_NOT_FOUND (v9); older ones get ILLEGAL_GENERATION.
    pub knows_group_id_not_found: bool,
    /// In whose transaction, if in one: then it counts when that is committed.
    pub producer: Option<TransactionalProducer>,
    /// What to commit.
    pub offsets: Vec<OffsetToCommit>,
}

impl Coordinator {
    /// OffsetCommit and TxnOffsetCommit. After `Ok` the token gets [`Effect::Written`].
    pub fn commit(
        &mut self,
        now: Now,
        token: u64,
        request: &CommitRequest,
        out: &mut Vec<Effect>,
    ) -> Result<(), ErrorCode> {
        let in_transaction = request.producer.is_some();
        let consumer = self.consumer_group(&request.group);
        if let Some(consumer) = consumer {
            let of = (&*request.member, request.generation);
            let offsets = request.offsets.iter();
            let places = offsets.map(|o| (&o.committed.topic_id, o.partition));
            let knows_epochs = request.knows_group_id_not_found;
            consumer
                .state()
                .check_commit(of, knows_epochs, in_transaction, places)?;
        }
        if let Some(streams) = self.streams_group(&request.group) {
            let of = (&*request.member, request.generation);
            let offsets = request.offsets.iter();
            let places = offsets.map(|o| (&o.topic, o.partition));
            let knows_epochs = request.knows_group_id_not_found;
            streams
                .state()
                .check_commit(of, knows_epochs, in_transaction, places)?;
        }
        let entry = self.groups.get(&request.group);
        let is_classic = entry.is_none_or(Entry::is_classic);
        let checked = self.with_group(now, &request.group, out, |group, cx| {
            if !is_classic {
                return match group.state() {
                    State::Dead => Err(ErrorCode::CoordinatorNotAvailable),
                    _ => Ok(()),
                };
            }
            group.check_commit(
                &request.member,
                request.instance.as_deref(),
                request.generation,
                in_transaction,
            )?;
            if !in_transaction {
                group.touch(cx, &request.member);
            }
            Ok(())
        });
        match checked {
            Some(checked) => checked?,
            // Somebody who assigns partitions to itself; the group comes to be with the record.
            None if request.generation < 0 && self.room.groups > 0 => {}
            None if request.generation < 0 => return Err(ErrorCode::CoordinatorNotAvailable),
            None if request.knows_group_id_not_found && !in_transaction => {
                return Err(ErrorCode::GroupIdNotFound);
            }
            None => return Err(ErrorCode::IllegalGeneration),
        }
        let group = &request.group;
        let offsets = each_once(&request.offsets);
        let bytes: usize = offsets
            .iter()
            .map(|o| records::offset_bytes(group, &o.topic, Some(&o.committed)))
            .sum();
        let count = match &request.producer {
            Some(producer) => self.count_in_transaction(producer, group, &offsets),
            None => offsets.len(),
        };
        if count > limits::OFFSETS_PER_COMMIT_MAX || bytes > limits::GROUP_BATCH_BYTES_MAX {
            return Err(client_error(ErrorCode::RecordListTooLarge));
        }
        if bytes > self.room.bytes {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        if offsets.is_empty() {
            out.push(Effect::Written(token, ErrorCode::None));
            return Ok(());
        }
        let mut records = Vec::with_capacity(offsets.len());
        let mut ids = BTreeMap::new();
        let places = offsets.iter().map(|o| (&o.topic, o.partition));
        self.appends
            .commits(group, request.producer.as_ref(), places);
        for o in offsets {
            if o.committed.expire_ms.is_some() {
                ids.insert(o.topic.clone(), o.committed.topic_id);
            }
            let key = records::offset_key(group, &o.topic, o.partition);
            records.push((key, Some(records::offset_value(&o.committed))));
        }
        let commit = Committing {
            token: Some(token),
            ids,
            producer: request.producer.clone(),
        };
        self.write(now, group, records, Then::Commit(commit), out);
        Ok(())
    }

    /// How many offsets a transaction has with these.
    fn count_in_transaction(
        &self,
        producer: &TransactionalProducer,
        group: &Name,
        offsets: &[&OffsetToCommit],
    ) -> usize {
        let more = offsets.iter().map(|o| (&o.topic, o.partition));
        let on_their_way = self.appends.of_producers.get(&producer.id);
        on_their_way.copied().unwrap_or(0) + self.open.count_with(producer.id, group, more)
    }

    /// OffsetDelete: one error for each partition, or one for all. After `Ok` the token gets
    /// [`Effect::Written`].
    pub fn delete_offsets(
        &mut self,
        now: Now,
        token: u64,
        group: &Name,
        targets: &[(Name, i32)],
        out: &mut Vec<Effect>,
    ) -> Result<Vec<ErrorCode>, ErrorCode> {
        if group.is_empty() {
            return Err(ErrorCode::InvalidGroupId);
        }
        let entry = self.to_delete(group)?;
        match entry.group.state() {
            // It is not gone before that is committed.
            State::Dead => return Err(ErrorCode::CoordinatorNotAvailable),
            State::Empty => {}
            State::PreparingRebalance | State::CompletingRebalance | State::Stable => {
                if !entry.group.is_consumer() {
                    return Err(ErrorCode::NonEmptyGroup);
                }
            }
        }
        let committing = self.appends.committing.get(group);
        let mut found = BTreeSet::new();
        let mut errors = Vec::with_capacity(targets.len());
        for target in targets {
            let (topic, partition) = target;
            if entry.is_subscribed_to(topic) {
                errors.push(ErrorCode::GroupSubscribedToTopic);
                continue;
            }
            errors.push(ErrorCode::None);
            if entry.offsets.get(topic, *partition).is_some()
                || entry.pending.contains(topic, *partition)
                || committing.is_some_and(|c| c.contains(topic, *partition))
            {
                found.insert(target.clone());
            }
        }
        let forget = Forget::offsets(Some(token), found.into_iter().collect());
        self.forget(now, group, forget, out);
        Ok(errors)
    }

    /// DeleteGroups, one group. After `Ok` the token gets [`Effect::Written`].
    pub fn delete_group(
        &mut self,
        now: Now,
        token: u64,
        group: &Name,
        out: &mut Vec<Effect>,
    ) -> Result<(), ErrorCode> {
        let entry = self.to_delete(group)?;
        match entry.group.state() {
            State::Dead => Err(ErrorCode::CoordinatorNotAvailable),
            State::PreparingRebalance | State::CompletingRebalance | State::Stable => {
                Err(ErrorCode::NonEmptyGroup)
            }
            State::Empty => {
                let consumer = entry.consumer.as_ref();
                let consumer = consumer.filter(|consumer| !consumer.is_unused());
                let streams = entry.streams.as_ref();
                let streams = streams.filter(|streams| !streams.is_unused());
                let members = consumer.map(|it| it.state().members().len());
                let members = members.or(streams.map(|it| it.state().members().len()));
                match members {
                    None => {}
                    // Somebody may be about to be one.
                    Some(0) => return Err(ErrorCode::CoordinatorNotAvailable),
                    Some(_) => return Err(ErrorCode::NonEmptyGroup),
                }
                self.bury(now, group, Some(token), out);
                Ok(())
            }
        }
    }

    /// A group of which something is to be deleted. One that comes to be with a commit which is on its way is not there
    /// yet, but that it is not cannot be said either.
    fn to_delete(&self, group: &Name) -> Result<&Entry, ErrorCode> {
        let unknown = match self.appends.committing.contains_key(group) {
            true => ErrorCode::CoordinatorNotAvailable,
            false => ErrorCode::GroupIdNotFound,
        };
        self.groups.get(group).ok_or(unknown)
    }

    /// Writes tombstones for everything that an empty group has. Until they are durable it is
    /// Dead: it takes neither members nor commits, which the tombstones would not cover.
    pub(super) fn bury(&mut self, now: Now, id: &Name, token: Option<u64>, out: &mut Vec<Effect>) {
        if let Some(entry) = self.groups.get_mut(id) {
            entry.group.become_state(State::Dead, now.wall_ms);
            self.forget(now, id, Forget::group(token), out);
        }
    }

    /// Deletes, a batch at a time: the next one is made when the one before is durable.
    fn forget(&mut self, now: Now, id: &Name, mut forget: Forget, out: &mut Vec<Effect>) {
        let mut records = match &mut forget.left {
            Leftover::Offsets(left) => {
                let some: Vec<_> = left.drain(..fitting(id, left)).collect();
                tombstones(id, &some)
            }
            Leftover::Group => {
                let (some, is_all) = self.some_of(id);
                if is_all {
                    forget.left = Leftover::Offsets(Vec::new());
                }
                tombstones(id, &some)
            }
        };
        if forget.group && forget.is_whole() {
            records.extend(self.groups.get(id).into_iter().flat_map(tombstones_of_kind));
            records.push((records::group_key(id), None));
        }
        self.write(now, id, records, Then::Forget(forget), out);
    }

    /// Some offsets of a group, also of transactions and of those that are on their way, as many as are deleted in one
    /// batch; whether these are all. What is on its way and not among them is durable when the batch is.
    fn some_of(&self, id: &Name) -> (Vec<(Name, i32)>, bool) {
        let committing = self.appends.committing.get(id).into_iter();
        let coming = committing.flat_map(Counts::all);
        let entry = self.groups.get(id);
        let durable = entry.into_iter().flat_map(|it| it.offsets.after(None));
        let durable = durable.map(|(topic, partition, _)| (topic, partition));
        let pending = entry.into_iter().flat_map(|it| it.pending.places());
        let known = durable.chain(pending);
        let known = known.map(|(topic, partition)| (topic.clone(), partition));
        let mut all = coming.chain(known);
        let mut some: Vec<_> = all.by_ref().take(TOMBSTONES_PER_BATCH_MAX).collect();
        let fit = fitting(id, &some);
        let is_all = fit == some.len() && all.next().is_none();
        some.truncate(fit);
        (some, is_all)
    }

    /// Appends records; if there are none, what should happen then happens now.
    pub(super) fn write(
        &mut self,
        now: Now,
        group: &Name,
        records: Vec<Record>,
        then: Then,
        out: &mut Vec<Effect>,
    ) {
        if records.is_empty() {
            let nothing = InFlight {
                group: group.clone(),
                records: records.into(),
                then,
                is_late: false,
            };
            return self.written(now, nothing, (0, ErrorCode::None), out);
        }
        let mut cx = Cx {
            now,
            config: &self.config,
            timers: &mut self.timers,
            appends: &mut self.appends,
            out,
        };
        cx.append(group, records, then);
    }

    /// An append is in the log, and other replicas take too long for it, or fewer are there than should be: who waits
    /// for it is told this. It may be committed yet, so it stays on its way, as for Kafka's coordinator, until
    /// [`Coordinator::appended`] says what has become of it: forgotten here, it would come back with whoever replays
    /// the log next, whatever was decided since. What is decided meanwhile comes behind it, here and there.
    pub fn late(&mut self, now: Now, append: u64, error: ErrorCode, out: &mut Vec<Effect>) {
        let in_flight = self.appends.in_flight.get_mut(&append);
        let Some(late) = in_flight.filter(|it| !it.is_late) else {
            return;
        };
        late.is_late = true;
        self.appends.late += 1;
        let error = client_error(error);
        let token = match &mut late.then {
            // Nobody waits, and a sweep goes on when it is known.
            Then::Nothing | Then::Sweep => None,
            Then::Consumer(replies) => {
                let refused = |(token, _)| Effect::Heartbeat(token, ConsumerReply::error(error));
                out.extend(std::mem::take(replies).into_iter().map(refused));
                None
            }
            Then::Streams(replies) => {
                let refused =
                    |(token, _)| Effect::StreamsHeartbeat(token, StreamsReply::error(error));
                out.extend(std::mem::take(replies).into_iter().map(refused));
                None
            }
            Then::Commit(commit) => commit.token.take(),
            Then::Forget(forget) => {
                // A group that is deleted is Dead for so long: who joins it now would be buried.
                forget.is_given_up = true;
                forget.token.take()
            }
            then @ (Then::Assign(..) | Then::StaticMember(..)) => {
                let then = std::mem::replace(then, Then::Nothing);
                let told = InFlight {
                    group: late.group.clone(),
                    records: Vec::new().into(),
                    then,
                    is_late: true,
                };
                return self.written(now, told, (append, error), out);
            }
        };
        out.extend(token.map(|token| Effect::Written(token, error)));
    }

    /// Whether there is a [late](Self::late) append: what is written now would wait behind it.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.appends.late > 0
    }

    /// The append of [`Effect::Append`] ended: it is committed, or will never be as far as this coordinator is there
    /// to see. Those that are committed end in the order of the log, which is the one in which they were asked for, but
    /// for those in transactions, which may come to be in the log later.
    pub fn appended(
        &mut self,
        now: Now,
        append: u64,
        result: Result<(), ErrorCode>,
        out: &mut Vec<Effect>,
    ) {
        if let Some(ended) = self.appends.end(append) {
            let told = |error| match &ended.then {
                Then::Commit(Committing {
                    producer: Some(producer),
                    ..
                }) => transaction_error(error, producer),
                _ => client_error(error),
            };
            let error = result.err().map_or(ErrorCode::None, told);
            if !error.is_none() {
                self.snapshot_again(&ended.records);
            } else if ended.then.follows_state() {
                self.note_durable(&ended.records);
            }
            self.written(now, ended, (append, error), out);
        }
    }

    /// An append with this number has ended so.
    fn written(
        &mut self,
        now: Now,
        ended: InFlight,
        (append, error): (u64, ErrorCode),
        out: &mut Vec<Effect>,
    ) {
        let InFlight {
            group: id,
            records,
            then,
            is_late: _,
        } = ended;
        match then {
            Then::Nothing => {}
            Then::Assign(generation, assignments) => {
                self.with_group(now, &id, out, |group, cx| {
                    group.assignment_stored(cx, generation, assignments, error);
                });
            }
            Then::StaticMember(member, reply) => {
                self.with_group(now, &id, out, |group, cx| {
                    group.static_member_stored(cx, &member, &reply, error);
                });
            }
            Then::Consumer(replies) => self.consumer_written(now, &id, replies, error, out),
            Then::Streams(replies) => self.streams_written(now, &id, replies, error, out),
            Then::Commit(commit) => {
                let producer = commit.producer.as_ref();
                self.appends.commit_ended(&id, producer, &records);
                if error.is_none() {
                    self.replay_all(append, &records, Some(&commit));
                }
                let token = commit.token;
                out.extend(token.map(|token| Effect::Written(token, error)));
            }
            Then::Forget(forget) => {
                if error.is_none() {
                    self.replay_all(append, &records, None);
                }
                self.forgotten(now, &id, forget, error, out);
            }
            Then::Sweep => {
                if error.is_none() {
                    self.replay_all(append, &records, None);
                }
                self.swept(now, error.is_none());
            }
        }
    }

    /// Some of what is to be deleted is, or could not be.
    fn forgotten(
        &mut self,
        now: Now,
        id: &Name,
        forget: Forget,
        error: ErrorCode,
        out: &mut Vec<Effect>,
    ) {
        let is_whole = forget.is_whole();
        let error = match error {
            ErrorCode::None if !is_whole && self.loaded && !forget.is_given_up => {
                return self.forget(now, id, forget, out);
            }
            ErrorCode::None if !is_whole => ErrorCode::NotCoordinator,
            error => error,
        };
        if forget.group && !error.is_none() {
            self.with_group(now, id, out, |group, cx| {
                group.become_state(State::Empty, cx.now.wall_ms);
            });
        }
        if forget.group && error.is_none() {
            out.push(Effect::News(id.clone(), News::Deleted));
        }
        let answer = forget.token.map(|token| Effect::Written(token, error));
        out.extend(answer);
    }

    fn replay_all(&mut self, append: u64, records: &[Record], commit: Option<&Committing>) {
        let id = |topic: &str| {
            let known = commit.and_then(|commit| commit.ids.get(topic));
            known.copied().unwrap_or(TopicId::ZERO)
        };
        let producer = commit.and_then(|commit| commit.producer.as_ref());
        let producer = producer.map(|producer| producer.id);
        let place = self.next_place(append);
        for (key, value) in records {
            let record = Replayed {
                key,
                value: value.as_deref(),
                timestamp_ms: -1,
                producer,
            };
            let replayed = self.replay_at(record, &id, place);
            debug_assert!(replayed.is_ok(), "own records can be read");
        }
    }
}

/// What the producer of a transaction is told when an append in it fails with `error`, perhaps because its coordinator
/// has said so. NETWORK_EXCEPTION older clients do not know here; as in Kafka they are told something by which they try
/// again without looking for another coordinator.
#[must_use]
pub fn transaction_error(error: ErrorCode, producer: &TransactionalProducer) -> ErrorCode {
    match error {
        ErrorCode::NetworkException => ErrorCode::CoordinatorLoadInProgress,
        ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch,
        ErrorCode::TransactionAbortable if !producer.knows_abortable => ErrorCode::InvalidTxnState,
        error => client_error(error),
    }
}

impl Appends {
    /// One is about to commit offsets of a group, perhaps in a transaction.
    fn commits<'a>(
        &mut self,
        group: &Name,
        producer: Option<&TransactionalProducer>,
        places: impl Iterator<Item = (&'a Name, i32)> + Clone,
    ) {
        let committing = self.committing.entry(group.clone()).or_default();
        let add = |counts: &mut Counts| {
            let places = places.clone();
            places.for_each(|(topic, partition)| counts.add(topic, partition));
        };
        add(committing);
        if let Some(producer) = producer {
            add(self.unstable.entry(group.clone()).or_default());
            *self.of_producers.entry(producer.id).or_default() += places.clone().count();
        }
    }

    /// It has ended.
    fn commit_ended(
        &mut self,
        group: &Name,
        producer: Option<&TransactionalProducer>,
        records: &[Record],
    ) {
        let unstable = producer.map(|_| &mut self.unstable);
        for counts in [Some(&mut self.committing), unstable].into_iter().flatten() {
            let Some(of_group) = counts.get_mut(group) else {
                continue;
            };
            for (key, _) in records {
                if let Ok(Key::Offset {
                    topic, partition, ..
                }) = records::parse_key(key)
                {
                    of_group.remove(topic, partition);
                }
            }
            if of_group.is_empty() {
                counts.remove(group);
            }
        }
        if let Some(producer) = producer
            && let Some(count) = self.of_producers.get_mut(&producer.id)
        {
            *count = count.saturating_sub(records.len());
            if *count == 0 {
                self.of_producers.remove(&producer.id);
            }
        }
    }
}

/// The offsets of a commit, by topic and partition; the last one counts.
fn each_once(offsets: &[OffsetToCommit]) -> Vec<&OffsetToCommit> {
    let place = |o: &OffsetToCommit| (o.committed.topic_id, o.partition);
    let mut sorted: Vec<&OffsetToCommit> = offsets.iter().collect();
    sorted.sort_by_key(|o| place(o));
    // The first of equals stays, so they are turned around.
    sorted.reverse();
    sorted.dedup_by_key(|o| place(o));
    sorted
}

/// How many of these deletions fit into one batch; one always does.
fn fitting(group: &str, targets: &[(Name, i32)]) -> usize {
    let mut bytes = 0;
    let fits = |(topic, _): &&(Name, i32)| {
        bytes += records::offset_bytes(group, topic, None);
        bytes <= limits::GROUP_BATCH_BYTES_MAX
    };
    let some = targets.iter().take(TOMBSTONES_PER_BATCH_MAX);
    some.take_while(fits).count().max(1).min(targets.len())
}

fn tombstones(group: &str, targets: &[(Name, i32)]) -> Vec<Record> {
    let key =
        |(topic, partition): &(Name, i32)| (records::offset_key(group, topic, *partition), None);
    targets.iter().map(key).collect()
}
