//! What becomes of offsets that are committed in transactions (KIP-98): they become committed offsets, or are
//! forgotten, by the marker that ends the transaction in the log of the partition.
//!
//! Of two commits for a partition the one counts that is later in the log, whenever the transaction is over, as in
//! Kafka (`OffsetMetadataManager.replayEndTransactionMarker`). So everything durable has an order, that of the log,
//! in which appends end; they are begun in another one, since a transaction has to be looked at first.

use super::pending::Pending;
use super::{Coordinator, records};
use crate::base::{Name, TopicId};

impl Coordinator {
    /// A commit in a transaction is durable.
    pub(super) fn put_pending(
        &mut self,
        (group, topic, partition): (&str, &str, i32),
        producer: i64,
        pending: Pending,
    ) {
        let Some((id, _)) = self.groups.get_key_value(group) else {
            return;
        };
        let (id, append) = (id.clone(), pending.place.append);
        let mut name = None;
        self.change(group, |entry| {
            name = Some(entry.pending.put(topic, partition, producer, pending));
        });
        if let Some(name) = name {
            self.open.add(producer, (id, name, partition), append);
        }
    }

    /// An offset is deleted, and with it those of transactions.
    pub(super) fn forget_pending(&mut self, (group, topic, partition): (&str, &str, i32)) {
        let mut producers = Vec::new();
        self.change(group, |entry| {
            producers = entry.pending.take_all(topic, partition);
        });
        if !producers.is_empty() {
            let offset = (Name::from(group), Name::from(topic), partition);
            for producer in producers {
                self.open.remove(producer, &offset);
            }
        }
    }

    /// A marker that is committed: the transaction of a producer is over, and its offsets count, or never will. To be
    /// told in the order of the log, among the ends of appends.
    pub fn marker(&mut self, producer: i64, commits: bool) {
        let Some(open) = self.open.end(producer) else {
            return;
        };
        let was_swept = open.since < self.swept;
        for (group, topic, partition) in open.offsets {
            self.end_pending((&group, &topic, partition), producer, commits);
        }
        // Of topics that went meanwhile, or that keep others from being swept.
        if std::mem::take(&mut self.sweeps_behind) || (was_swept && commits) {
            self.begin_sweep();
        }
    }

    fn end_pending(
        &mut self,
        (group, topic, partition): (&Name, &Name, i32),
        producer: i64,
        commits: bool,
    ) {
        let mut becomes = None;
        self.change(group, |entry| {
            let Some(pending) = entry.pending.take(topic, partition, producer) else {
                return;
            };
            let (before, place) = (entry.offsets.place(topic, partition), pending.place);
            if commits && before.is_none_or(|before| before.order < place.order) {
                becomes = Some(place);
                entry
                    .offsets
                    .put(topic, partition, pending.committed, place);
            }
        });
        if let Some(place) = becomes {
            self.snapshot_moved(place, || records::offset_key(group, topic, partition));
        }
    }

    /// Whether an offset of the topic with this id may change by itself: a transaction that is not over has one.
    #[must_use]
    pub fn is_unstable(&self, group: &str, topic: &str, partition: i32, id: TopicId) -> bool {
        let writes = self.appends.unstable.get(group);
        let entry = self.groups.get(group);
        writes.is_some_and(|writes| writes.contains(topic, partition))
            || entry.is_some_and(|entry| entry.pending.contains_of(topic, partition, id))
    }

    /// Panics if what groups have and what transactions have is not the same. For [`Coordinator::invariants`].
    pub(super) fn pending_invariants(&self) {
        let of_group = |id: &str| self.groups.get(id).map(|entry| &entry.pending);
        let of_transactions = self.open.invariants(of_group);
        let of_groups = self.groups.values().map(|it| it.pending.invariants());
        assert_eq!(of_groups.sum::<usize>(), of_transactions, "pending offsets");
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Client, World, commit_of};
    use super::super::{GroupConfig, State, TransactionalProducer};
    use super::*;
    use crate::base::limits::OFFSETS_PER_COMMIT_MAX;
    use crate::base::{ErrorCode as E, Name};

    const ID: TopicId = TopicId([7; 16]);

    fn world() -> World {
        World::new(GroupConfig::default())
    }

    fn unstable(world: &World, partition: i32) -> bool {
        world.coordinator.is_unstable("g", "t", partition, ID)
    }

    #[test]
    fn they_count_when_the_transaction_is_committed_and_are_forgotten_when_it_is_not() {
        let (mut w, client) = (world(), Client::new());
        assert!(w.commit(&client, 0, 3).is_ok());
        assert!(w.commit_in_transaction(&client, 1, 0..2, 5).is_ok());
        assert_eq!((w.offset(0), w.offset(1)), (Some(3), None));
        assert_eq!([0, 1, 2].map(|p| unstable(&w, p)), [true, true, false]);
        w.end_transaction(2, true, 0);
        assert_eq!(w.offset(1), None, "of another producer");
        w.restart();
        w.end_transaction(1, true, 0);
        assert_eq!((w.offset(0), w.offset(1)), (Some(5), Some(5)));
        assert_eq!([0, 1].map(|p| unstable(&w, p)), [false, false]);
        assert!(w.commit_in_transaction(&client, 1, 0..2, 6).is_ok());
        w.end_transaction(1, false, 0);
        w.end_transaction(1, true, 0);
        assert_eq!((w.offset(0), w.offset(1)), (Some(5), Some(5)));
        assert!(!unstable(&w, 0));
    }

    #[test]
    fn of_two_commits_the_later_one_counts_whenever_the_transaction_is_over() {
        let (mut w, client) = (world(), Client::new());
        assert!(w.commit_in_transaction(&client, 1, 0..1, 5).is_ok());
        assert!(w.commit_in_transaction(&client, 2, 0..1, 6).is_ok());
        assert!(w.commit_in_transaction(&client, 1, 1..2, 7).is_ok());
        assert!(w.commit(&client, 1, 4).is_ok());
        w.end_transaction(2, true, 0);
        w.end_transaction(1, true, 0);
        assert_eq!((w.offset(0), w.offset(1)), (Some(6), Some(4)));
        w.restart();
        assert_eq!((w.offset(0), w.offset(1)), (Some(6), Some(4)));
        // The last one of a transaction, too.
        assert!(w.commit_in_transaction(&client, 1, 0..1, 9).is_ok());
        assert!(w.commit_in_transaction(&client, 1, 0..1, 8).is_ok());
        w.end_transaction(1, true, 0);
        assert_eq!(w.offset(0), Some(8));
    }

    #[test]
    fn what_is_on_its_way_is_unstable_and_may_come_to_nothing() {
        let (mut w, client) = (world(), Client::new());
        w.hold_appends = true;
        let refused = w.commit_in_transaction(&client, 1, 0..1, 5).unwrap();
        let taken = w.commit_in_transaction(&client, 1, 1..2, 5).unwrap();
        assert!(unstable(&w, 0) && unstable(&w, 1));
        w.verified(Err(E::InvalidTxnState));
        assert_eq!(w.written.remove(&refused), Some(E::InvalidTxnState));
        assert!(!unstable(&w, 0) && unstable(&w, 1));
        w.verified(Ok(()));
        w.append_ends(Ok(()));
        assert_eq!(w.written.remove(&taken), Some(E::None));
        assert!(unstable(&w, 1));
    }

    #[test]
    fn the_group_is_asked_as_far_as_the_request_names_a_member() {
        let mut w = world();
        let mut client = Client::new();
        w.stable(&mut [&mut client]);
        let nobody = Client::new();
        assert!(w.commit_in_transaction(&nobody, 1, 0..1, 5).is_ok());
        assert_eq!(w.commit(&nobody, 0, 5), Err(E::UnknownMemberId));
        let mut other = client.clone();
        other.generation += 1;
        let refused = w.commit_in_transaction(&other, 1, 0..1, 5);
        assert_eq!(refused, Err(E::IllegalGeneration));
        other.id = Name::from("other");
        let refused = w.commit_in_transaction(&other, 1, 0..1, 5);
        assert_eq!(refused, Err(E::UnknownMemberId));
        let mut unknown = Client {
            group: Name::from("unknown"),
            version: 9,
            ..Client::new()
        };
        assert!(w.commit_in_transaction(&unknown, 1, 0..1, 5).is_ok());
        unknown.group = Name::from("another");
        unknown.generation = 0;
        let refused = w.commit_in_transaction(&unknown, 1, 0..1, 5);
        assert_eq!(refused, Err(E::IllegalGeneration));
        // A rebalance that has not ended is no reason.
        let token = w.join(&mut client);
        w.finish_join(&mut client, token);
        assert_eq!(w.state(), State::CompletingRebalance);
        assert!(w.commit_in_transaction(&client, 1, 0..1, 6).is_ok());
        assert_eq!(w.commit(&client, 0, 6), Err(E::RebalanceInProgress));
    }

    #[test]
    fn who_deletes_an_offset_or_a_group_deletes_what_transactions_have() {
        let (mut w, client) = (world(), Client::new());
        let group = Name::from("g");
        assert!(w.commit(&client, 0, 3).is_ok());
        assert!(w.commit_in_transaction(&client, 1, 0..3, 5).is_ok());
        let (token, mut effects) = (w.token(), Vec::new());
        let targets = [0, 1].map(|partition| (Name::from("t"), partition));
        let coordinator = &mut w.coordinator;
        let deleted = coordinator.delete_offsets(w.now, token, &group, &targets, &mut effects);
        assert_eq!(deleted, Ok(vec![E::None; 2]));
        w.perform(effects);
        assert_eq!([0, 1, 2].map(|p| unstable(&w, p)), [false, false, true]);
        let (token, mut effects) = (w.token(), Vec::new());
        let coordinator = &mut w.coordinator;
        let deleted = coordinator.delete_group(w.now, token, &group, &mut effects);
        assert_eq!(deleted, Ok(()));
        w.perform(effects);
        assert_eq!(w.written[&token], E::None);
        w.end_transaction(1, true, 0);
        assert!(w.coordinator.group("g").is_none() && w.coordinator.offsets("g").is_none());
        w.restart();
        assert!(w.coordinator.group("g").is_none());
    }

    #[test]
    fn neither_what_a_transaction_is_about_to_replace_expires_nor_its_group() {
        const WEEKS_MS: u64 = 3 * 7 * 24 * 60 * 60 * 1000;
        let (mut w, client) = (world(), Client::new());
        assert!(w.commit_all(&client, 0..2, 3).is_ok());
        assert!(w.commit_in_transaction(&client, 1, 0..1, 5).is_ok());
        w.advance(WEEKS_MS);
        assert_eq!((w.offset(0), w.offset(1)), (Some(3), None));
        w.end_transaction(1, false, 0);
        w.advance(WEEKS_MS);
        assert!(w.coordinator.group("g").is_none());
        assert!(w.commit_in_transaction(&client, 1, 0..1, 5).is_ok());
        w.advance(WEEKS_MS);
        assert!(w.coordinator.group("g").is_some(), "it has nothing else");
        w.end_transaction(1, false, 0);
        w.advance(WEEKS_MS);
        assert!(w.coordinator.group("g").is_none());
    }

    #[test]
    fn a_transaction_has_no_more_offsets_than_a_commit() {
        let (mut w, client) = (world(), Client::new());
        let half = OFFSETS_PER_COMMIT_MAX as i32 / 2;
        for _ in 0..3 {
            assert!(w.commit_in_transaction(&client, 1, 0..half, 5).is_ok());
        }
        w.hold_appends = true;
        assert!(
            w.commit_in_transaction(&client, 1, half..2 * half, 5)
                .is_ok()
        );
        let more = w.commit_in_transaction(&client, 1, 2 * half..2 * half + 1, 5);
        assert_eq!(more, Err(E::UnknownServerError));
        assert!(w.commit_in_transaction(&client, 2, 0..half, 5).is_ok());
        w.flush();
        let more = w.commit_in_transaction(&client, 1, 2 * half..2 * half + 1, 5);
        assert_eq!(more, Err(E::UnknownServerError));
        assert!(
            w.commit_in_transaction(&client, 1, 0..1, 6).is_ok(),
            "again"
        );
    }

    #[test]
    fn offsets_of_topics_that_are_gone_are_swept_when_transactions_let_them() {
        const NEW: TopicId = TopicId([8; 16]);
        let sweep = |w: &mut World| {
            while w.coordinator.can_sweep() {
                let (mut left, mut effects) = (100, Vec::new());
                let gone = |_: &str, id| id != NEW;
                let coordinator = &mut w.coordinator;
                coordinator.sweep_part(w.now, gone, &mut left, &mut effects);
                w.perform(effects);
            }
        };
        let (mut w, client) = (world(), Client::new());
        // Of the topic before, one of them in a transaction, and then one of the next of its name in another.
        assert!(w.commit_all(&client, 0..2, 3).is_ok());
        assert!(w.commit_in_transaction(&client, 1, 1..3, 5).is_ok());
        w.coordinator.begin_sweep();
        let mut next = commit_of("t", NEW, w.now);
        next.producer = Some(TransactionalProducer {
            id: 2,
            epoch: 0,
            transactional_id: Name::from("x"),
            adds: false,
            knows_abortable: true,
        });
        let (token, mut effects) = (w.token(), Vec::new());
        let committed = w.coordinator.commit(w.now, token, &next, &mut effects);
        assert_eq!(committed, Ok(()));
        w.perform(effects);
        sweep(&mut w);
        assert!(!w.coordinator.sweeps());
        assert_eq!([0, 1, 2].map(|p| w.offset(p)), [Some(3), Some(3), None]);
        w.end_transaction(1, true, 0);
        assert_eq!([0, 1, 2].map(|p| w.offset(p)), [Some(3), Some(5), Some(5)]);
        sweep(&mut w);
        assert_eq!([0, 1, 2].map(|p| w.offset(p)), [Some(3), None, None]);
        w.end_transaction(2, false, 0);
        sweep(&mut w);
        assert_eq!(w.offset(0), None);
        assert!(!w.coordinator.sweeps());
    }
}
