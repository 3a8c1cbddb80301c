//! Offsets that go although nobody asks for it: those of topics that are gone, and those whose retention is over. All
//! that is committed is gone through for it, in slices.
//!
//! An offset is of a topic by the topic's id, so it matters to nobody when those of a topic that is gone are deleted:
//! they are no offsets of the next topic of the name. Whoever goes through them also writes those once more whose
//! records do not say it, or a later start would take them for those of the topic that there is then. What could not be
//! written is tried again until it is.

use std::ops::Bound;

use super::progress::{GoesOn, Sweep};
use super::records;
use super::{Committed, Coordinator, Cx, Effect, Forget, Name, Record, Then, Timer};
use crate::base::limits::{GROUP_BATCH_BYTES_MAX, RECORDS_OF_OFFSETS_BYTES_MAX};
use crate::base::{Now, TopicId};

/// What a deletion takes of a slice, in offsets that are looked at.
const DELETION_WORK: usize = 4;
/// Bytes of a record that is written once more that count as an offset.
const BYTES_LOOKED: usize = 64;
/// What an append takes of it.
const APPEND_WORK: usize = 16;
/// What could not be written is tried again after so long, and after twice as long each time, up to the second one: a
/// store may be full for days.
const TRY_AGAIN_MS: [u64; 2] = [100, 10_000];

/// Deletions of one batch, and what is written once more; and what is left of the slice.
struct Deletions<'a> {
    records: Vec<Record>,
    bytes: usize,
    left: &'a mut usize,
}

impl<'a> Deletions<'a> {
    fn new(left: &'a mut usize) -> Self {
        Self {
            records: Vec::new(),
            bytes: 0,
            left,
        }
    }

    fn looked(&mut self) {
        *self.left = self.left.saturating_sub(1);
    }

    fn delete(&mut self, group: &str, topic: &str, partition: i32) {
        self.bytes += records::offset_bytes(group, topic, None);
        *self.left = self.left.saturating_sub(DELETION_WORK);
        let key = records::offset_key(group, topic, partition);
        self.records.push((key, None));
    }

    fn write_again(&mut self, group: &str, topic: &str, partition: i32, committed: &Committed) {
        let bytes = records::offset_bytes(group, topic, Some(committed));
        self.bytes += bytes;
        *self.left = self
            .left
            .saturating_sub(DELETION_WORK + bytes / BYTES_LOOKED);
        let key = records::offset_key(group, topic, partition);
        let value = records::offset_value(committed);
        self.records.push((key, Some(value)));
    }

    /// Whether there is nothing left of the slice, or of the batch.
    fn is_full(&self) -> bool {
        *self.left == 0 || self.bytes + RECORDS_OF_OFFSETS_BYTES_MAX > GROUP_BATCH_BYTES_MAX
    }
}

impl Coordinator {
    /// Topics are gone, and so is what is committed for them: [`Coordinator::sweep_part`] deletes it.
    pub fn begin_sweep(&mut self) {
        self.swept = self.appends.next;
        match &mut self.sweep {
            Some(sweep) => sweep.again = true,
            None => self.sweep = Some(self.new_sweep()),
        }
    }

    fn new_sweep(&self) -> Sweep {
        Sweep {
            waits_for: self.appends.next,
            goes_on: GoesOn::After(None),
            writes_from: None,
            is_put_off: false,
            failed: 0,
            again: false,
        }
    }

    /// Whether [`Coordinator::sweep_part`] has something to do.
    #[must_use]
    pub fn can_sweep(&self) -> bool {
        self.sweep.as_ref().is_some_and(|sweep| {
            sweep.writes_from.is_none()
                && !sweep.is_put_off
                && self.appends.have_ended_before(sweep.waits_for)
        })
    }

    /// Whether there is something to be swept, now or later.
    #[must_use]
    pub fn sweeps(&self) -> bool {
        self.sweep.is_some()
    }

    /// Looks at some more offsets, as many as are `left` of a slice, and deletes those of topics that are gone: no
    /// topic has the name, or one with another id has. Those whose records do not say of which topic they are, and
    /// could, are written once more.
    pub fn sweep_part(
        &mut self,
        now: Now,
        is_gone: impl Fn(&str, TopicId) -> bool,
        left: &mut usize,
        out: &mut Vec<Effect>,
    ) {
        if !self.can_sweep() {
            return;
        }
        let Some(sweep) = &mut self.sweep else {
            return;
        };
        let begins = std::mem::replace(&mut sweep.goes_on, GoesOn::All);
        let (from, mut within) = begins.begins();
        let mut part = Deletions::new(left);
        // The topic before, and whether it is gone.
        let mut of: Option<(&Name, TopicId, bool)> = None;
        let mut deleting = None;
        'all: for (id, entry) in self.groups.range::<Name, _>((from, Bound::Unbounded)) {
            part.looked();
            let after = within.take().filter(|(of, _)| of == id).map(|(_, at)| at);
            for (topic, partition, committed) in entry.offsets.after(after.as_ref()) {
                let topic_id = committed.topic_id;
                let gone = match of {
                    Some((last, id, gone)) if last == topic && id == topic_id => gone,
                    _ => is_gone(topic, topic_id),
                };
                of = Some((topic, topic_id, gone));
                part.looked();
                let lacks_id = committed.lacks_id && !gone;
                let committing = self.appends.committing.get(id);
                let is_committed = committing.is_some_and(|c| c.contains(topic, partition));
                let appends = &self.appends;
                let mut is_deleted = || {
                    let deleting = deleting.get_or_insert_with(|| appends.deleting());
                    deleting.contains(id)
                };
                if (gone || lacks_id) && entry.pending.contains(topic, partition) {
                    // A deletion would be one of what the transaction has, and what is written once more would count
                    // in place of it.
                    self.sweeps_behind = true;
                } else if (gone || lacks_id) && is_committed || lacks_id && is_deleted() {
                    // What is on its way is of a topic that is there, and must not be deleted; nor may what is deleted
                    // come back.
                    sweep.again = true;
                } else if gone {
                    part.delete(id, topic, partition);
                } else if committed.lacks_id {
                    part.write_again(id, topic, partition, committed);
                }
                if part.is_full() {
                    sweep.goes_on = GoesOn::Within(id.clone(), (topic.clone(), partition));
                    break 'all;
                }
            }
            if part.is_full() {
                sweep.goes_on = GoesOn::After(Some(id.clone()));
                break;
            }
        }
        let records = part.records;
        if records.is_empty() {
            return self.sweep_goes_on();
        }
        sweep.writes_from = Some(begins);
        let mut cx = Cx {
            now,
            config: &self.config,
            timers: &mut self.timers,
            appends: &mut self.appends,
            out,
        };
        // They are of many groups.
        cx.append(&Name::default(), records, Then::Sweep);
    }

    /// Deletions of a sweep are durable, or could not be written.
    pub(super) fn swept(&mut self, now: Now, is_written: bool) {
        let Some(sweep) = &mut self.sweep else {
            return;
        };
        let Some(from) = sweep.writes_from.take() else {
            return;
        };
        if is_written {
            sweep.failed = 0;
            return self.sweep_goes_on();
        }
        sweep.goes_on = from;
        sweep.is_put_off = true;
        let [first, longest] = TRY_AGAIN_MS;
        let wait_ms = (first << sweep.failed.min(16)).min(longest);
        sweep.failed += 1;
        self.timers.set_after(Timer::Sweep, now.mono, wait_ms);
    }

    /// The time has come to try again.
    pub(super) fn sweep_again(&mut self) {
        if let Some(sweep) = &mut self.sweep {
            sweep.is_put_off = false;
        }
    }

    /// A part is done: a pass that has come to its end is over, and another one begins if there is to be one.
    fn sweep_goes_on(&mut self) {
        if let Some(sweep) = &self.sweep
            && let GoesOn::All = sweep.goes_on
        {
            self.sweep = sweep.again.then(|| self.new_sweep());
        }
    }

    /// Looks for offsets whose retention is over, and for empty groups without offsets; as many as are `left` of a
    /// slice. The rest has its turn when the timer is due.
    pub(super) fn expire(&mut self, now: Now, left: &mut usize, out: &mut Vec<Effect>) {
        let (mut from, mut within) = std::mem::take(&mut self.expiry).begins();
        let mut goes_on = None;
        while goes_on.is_none()
            && let Some((id, _)) = self.groups.range((from, Bound::Unbounded)).next()
        {
            let id: Name = id.clone();
            let after = within.take().filter(|(of, _)| *of == id).map(|(_, at)| at);
            goes_on = match self.expire_some(now, &id, after.as_ref(), left, out) {
                Some(at) => Some(GoesOn::Within(id.clone(), at)),
                None if *left == 0 => Some(GoesOn::After(Some(id.clone()))),
                None => None,
            };
            from = Bound::Excluded(id);
        }
        let interval = match goes_on {
            Some(_) => 0,
            None => self.config.offsets_retention_check_interval_ms,
        };
        self.expiry = goes_on.unwrap_or_default();
        self.timers.set_after(Timer::Expiry, now.mono, interval);
    }

    /// Writes tombstones for what has expired of a group, or for all of it. Returns where to go on in it.
    fn expire_some(
        &mut self,
        now: Now,
        id: &Name,
        after: Option<&(Name, i32)>,
        left: &mut usize,
        out: &mut Vec<Effect>,
    ) -> Option<(Name, i32)> {
        let mut part = Deletions::new(left);
        part.looked();
        if self.appends.committing.contains_key(id) {
            // A commit on its way may renew an offset that looks expired; such groups can wait.
            return None;
        }
        let entry = self.groups.get(id)?;
        let times = (now.wall_ms, self.config.offsets_retention_ms);
        let mut is_whole = after.is_none();
        let mut goes_on = None;
        for (topic, partition, is_over) in entry.expired(after, times) {
            part.looked();
            // One for which a transaction has another does not expire, as in Kafka.
            let is_over = is_over && !entry.pending.contains(topic, partition);
            if is_over {
                part.delete(id, topic, partition);
            }
            is_whole &= is_over;
            if part.is_full() {
                goes_on = Some((topic.clone(), partition));
                break;
            }
        }
        let records = part.records;
        let is_unused = entry.is_unused() && entry.pending.is_empty();
        let is_buried = is_whole && goes_on.is_none() && is_unused;
        if is_buried || !records.is_empty() {
            *left = left.saturating_sub(APPEND_WORK);
        }
        if is_buried {
            self.bury(now, id, None, out);
        } else if !records.is_empty() {
            let forget = Forget::offsets(None, Vec::new());
            self.write(now, id, records, Then::Forget(forget), out);
        }
        goes_on
    }

    /// Whether everything that is known of deletions of a sweep agrees. For [`Coordinator::invariants`].
    pub(super) fn sweep_invariants(&self) {
        let written = self.appends.in_flight.values();
        let written = written.filter(|append| matches!(append.then, Then::Sweep));
        let writes = self.sweep.as_ref().map(|sweep| sweep.writes_from.is_some());
        assert!(
            !self.loaded || written.count() == usize::from(writes == Some(true)),
            "a sweep writes one batch at a time"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Client, World, commit_of};
    use super::super::{GroupConfig, NoTopics};
    use super::*;
    use crate::base::ErrorCode;
    use crate::base::limits::OFFSETS_PER_SLICE;

    const OLD: TopicId = TopicId([7; 16]);
    const NEW: TopicId = TopicId([8; 16]);

    fn commit(world: &mut World, id: TopicId, offset: i64) {
        let mut commit = commit_of("t", id, world.now);
        commit.offsets[0].committed.offset = offset;
        let (token, mut effects) = (world.token(), Vec::new());
        let coordinator = &mut world.coordinator;
        let committed = coordinator.commit(world.now, token, &commit, &mut effects);
        assert_eq!(committed, Ok(()));
        world.perform(effects);
    }

    /// Goes on with a sweep of all that is not of this topic, by slices of so many.
    fn sweep(world: &mut World, there: TopicId, slice: usize) {
        while world.coordinator.can_sweep() {
            let (mut left, mut effects) = (slice, Vec::new());
            let gone = |_: &str, id| id != there;
            let coordinator = &mut world.coordinator;
            coordinator.sweep_part(world.now, gone, &mut left, &mut effects);
            assert!(effects.len() <= 1, "one batch");
            world.perform(effects);
        }
    }

    #[test]
    fn offsets_of_topics_that_are_gone_are_deleted_in_slices() {
        for slice in [1, 7, 100, OFFSETS_PER_SLICE] {
            let mut world = World::new(GroupConfig::default());
            for group in ["a", "b", "c"] {
                let client = Client {
                    group: Name::from(group),
                    ..Client::new()
                };
                assert!(world.commit_all(&client, 0..100, 7).is_ok());
            }
            commit(&mut world, NEW, 5);
            // Still on its way when the topic goes.
            world.hold_appends = true;
            assert!(world.commit(&Client::new(), 9, 7).is_ok());
            world.coordinator.begin_sweep();
            sweep(&mut world, NEW, slice);
            assert!(world.coordinator.sweeps() && world.pending.len() == 1);
            world.flush();
            world.hold_appends = false;
            sweep(&mut world, NEW, slice);
            assert!(!world.coordinator.sweeps());
            for group in ["a", "b", "c"] {
                assert!(world.coordinator.offsets(group).unwrap().is_empty());
            }
            assert_eq!((world.offset(0), world.offset(9)), (Some(5), None));
            world.restart();
            assert_eq!((world.offset(0), world.offset(9)), (Some(5), None));
        }
    }

    #[test]
    fn what_could_not_be_deleted_is_tried_again_and_a_commit_for_the_next_topic_stays() {
        let mut world = World::new(GroupConfig::default());
        commit(&mut world, OLD, 5);
        assert!(world.commit(&Client::new(), 1, 7).is_ok());
        world.hold_appends = true;
        world.coordinator.begin_sweep();
        for n in 0..10 {
            sweep(&mut world, NEW, OFFSETS_PER_SLICE);
            world.append_ends(Err(ErrorCode::KafkaStorageError));
            let wait_ms = (TRY_AGAIN_MS[0] << n).min(TRY_AGAIN_MS[1]);
            world.advance(wait_ms - 1);
            assert!(!world.coordinator.can_sweep(), "not at once: {wait_ms}");
            world.advance(1);
        }
        commit(&mut world, NEW, 6);
        sweep(&mut world, NEW, OFFSETS_PER_SLICE);
        assert_eq!(world.pending.len(), 2, "the commit, and one deletion");
        world.flush();
        sweep(&mut world, NEW, OFFSETS_PER_SLICE);
        assert!(!world.coordinator.sweeps() && world.pending.is_empty());
        assert_eq!((world.offset(0), world.offset(1)), (Some(6), None));
    }

    #[test]
    fn a_restart_knows_which_offsets_are_of_a_topic_that_is_gone() {
        let mut world = World::new(GroupConfig::default());
        for (id, left) in [(OLD, None), (NEW, Some(5))] {
            commit(&mut world, id, 5);
            world.restart();
            world.coordinator.begin_sweep();
            sweep(&mut world, NEW, OFFSETS_PER_SLICE);
            assert_eq!(world.offset(0), left);
        }
    }

    #[test]
    fn a_commit_that_fails_leaves_what_it_was_to_replace_to_the_sweep() {
        let mut world = World::new(GroupConfig::default());
        commit(&mut world, OLD, 5);
        world.coordinator.begin_sweep();
        world.hold_appends = true;
        commit(&mut world, NEW, 6);
        sweep(&mut world, NEW, OFFSETS_PER_SLICE);
        world.append_ends(Err(ErrorCode::KafkaStorageError));
        sweep(&mut world, NEW, OFFSETS_PER_SLICE);
        world.flush();
        assert_eq!(world.offset(0), None);
    }

    #[test]
    fn topics_that_go_while_others_are_swept_are_swept_too() {
        let mut world = World::new(GroupConfig::default());
        commit(&mut world, OLD, 5);
        world.hold_appends = true;
        world.coordinator.begin_sweep();
        sweep(&mut world, NEW, OFFSETS_PER_SLICE);
        commit(&mut world, NEW, 6);
        world.coordinator.begin_sweep();
        world.flush();
        assert_eq!(world.offset(0), Some(6));
        sweep(&mut world, OLD, OFFSETS_PER_SLICE);
        world.flush();
        assert_eq!(world.offset(0), None);
    }

    #[test]
    fn groups_that_go_count_for_what_their_deletion_takes() {
        let mut world = World::new(GroupConfig::default());
        for n in 0..1000 {
            let client = Client {
                group: Name::from(n.to_string()),
                ..Client::new()
            };
            // It is given an id, and does not join with it.
            world.send_join(&client);
        }
        world.advance(20_000);
        world.hold_appends = true;
        world.now.mono = world.coordinator.next_deadline();
        let (mut left, mut effects) = (OFFSETS_PER_SLICE, Vec::new());
        world
            .coordinator
            .tick(world.now, &NoTopics, &mut left, &mut effects);
        world.perform(effects);
        let most = OFFSETS_PER_SLICE / APPEND_WORK;
        let begun = world.pending.len();
        assert!((most / 2..=most).contains(&begun), "{begun}");
    }

    #[test]
    fn what_expires_is_looked_for_in_slices() {
        const DAY: u64 = 24 * 60 * 60 * 1000;
        let mut world = World::new(GroupConfig::default());
        world.slice = 50;
        let large = Client {
            group: Name::from("large"),
            ..Client::new()
        };
        assert!(world.commit_all(&large, 0..100, 7).is_ok());
        for n in 0..50 {
            let small = Client {
                group: Name::from(n.to_string()),
                ..Client::new()
            };
            assert!(world.commit(&small, 0, 7).is_ok());
        }
        let written = world.log.len();
        world.advance(6 * DAY);
        let ticks = world.ticks;
        world.advance(DAY + 3_600_000);
        assert_eq!(world.coordinator.groups().count(), 0);
        assert!(world.log.len() - written >= 150);
        // At least so many slices, besides the passes that found nothing.
        let slices = 150 * DELETION_WORK as u64 / world.slice as u64;
        assert!(
            world.ticks - ticks > 25 * 6 + slices,
            "{}",
            world.ticks - ticks
        );
    }
}
