//! What is still valid of a partition of `__consumer_offsets`, as records. Written
//! to the end of the partition they stand for all that was there before.

use super::records;
use super::{Coordinator, Record, State};

impl Coordinator {
    /// The records of the groups: what the whole log of the partition would be replayed into, since every
    /// append of this coordinator has ended. `None` if that cannot be said now: while an append is on
    /// its way, while a group rebalances (its state is ahead of its last record then), or for good if
    /// there are records of a later version, which would be lost.
    #[must_use]
    pub fn snapshot(&self) -> Option<Vec<Record>> {
        if !self.loaded || self.foreign || !self.appends.in_flight.is_empty() {
            return None;
        }
        let mut all = Vec::new();
        for (id, entry) in &self.groups {
            let group = &entry.group;
            match group.state() {
                State::Empty | State::Stable => {}
                State::PreparingRebalance | State::CompletingRebalance | State::Dead => {
                    return None;
                }
            }
            // A group that only ever committed offsets has no record of its own.
            if group.protocol_type().is_some() {
                let value = group.to_value(|_, member| member.assignment.clone());
                let value = records::group_value(&value);
                all.push((records::group_key(id), Some(value)));
            }
            for (topic, offsets) in entry.offsets.topics() {
                for (of_topic, committed) in offsets {
                    let key = records::offset_key(id, topic, *of_topic);
                    all.push((key, Some(records::offset_value(committed))));
                }
            }
        }
        Some(all)
    }
}

#[cfg(test)]
mod tests {
    use super::super::GroupConfig;
    use super::super::testing::{Client, World};
    use crate::base::{Mono, Now};
    use crate::group::Coordinator;

    /// What a coordinator knows after it has replayed these records of the partition.
    fn replayed(records: &[super::Record]) -> Coordinator {
        let mut coordinator = Coordinator::new(GroupConfig::default(), 1);
        for (key, value) in records {
            let replayed = coordinator.replay(key, value.as_deref(), 5);
            assert!(replayed.is_ok());
        }
        let now = Now {
            mono: Mono(1),
            wall_ms: 5,
        };
        coordinator.loaded(now, &mut Vec::new());
        coordinator
    }

    fn shown(coordinator: &Coordinator) -> String {
        let group = coordinator.group("g");
        let offsets = coordinator.offsets("g");
        format!(
            "{:?} {offsets:?}",
            group.map(|g| g.to_value(|_, m| m.assignment.clone()))
        )
    }

    #[test]
    fn it_stands_for_the_whole_log() {
        let mut world = World::new(GroupConfig::default());
        let mut client = Client::new();
        world.stable(&mut [&mut client]);
        for offset in 0..20 {
            assert!(world.commit(&client, offset % 3, offset.into()).is_ok());
        }
        let log = world.log.clone();
        let snapshot = world.coordinator.snapshot().expect("nothing is going on");
        assert_eq!(snapshot.len(), 1 + 3, "the group, and its three offsets");
        assert!(snapshot.len() < log.len());
        let from_log = shown(&replayed(&log));
        assert_eq!(shown(&replayed(&snapshot)), from_log);
        // A crash before the old records are gone: they are replayed first.
        let both = [log, snapshot].concat();
        assert_eq!(shown(&replayed(&both)), from_log);
    }

    #[test]
    fn nothing_unsettled_is_written_down() {
        let mut world = World::new(GroupConfig::default());
        let mut client = Client::new();
        world.stable(&mut [&mut client]);
        world.hold_appends = true;
        assert!(world.commit(&client, 0, 1).is_ok());
        assert_eq!(world.coordinator.snapshot(), None, "a commit is on its way");
        world.flush();
        assert!(world.coordinator.snapshot().is_some());
        world.join(&mut Client::new());
        assert_eq!(world.coordinator.snapshot(), None, "the group rebalances");
    }

    #[test]
    fn not_before_everything_is_known_nor_when_it_is_forgotten() {
        let mut coordinator = Coordinator::new(GroupConfig::default(), 1);
        assert_eq!(coordinator.snapshot(), None);
        let now = Now {
            mono: Mono(1),
            wall_ms: 5,
        };
        coordinator.loaded(now, &mut Vec::new());
        assert_eq!(coordinator.snapshot(), Some(Vec::new()));
        coordinator.unload(now, &mut Vec::new());
        assert_eq!(coordinator.snapshot(), None);
        // A record of a kind that this release does not know.
        let mut coordinator = Coordinator::new(GroupConfig::default(), 1);
        let key = [0, 99, 1, 2, 3];
        assert!(coordinator.replay(&key, None, 0).is_ok());
        coordinator.loaded(now, &mut Vec::new());
        assert_eq!(coordinator.snapshot(), None);
    }
}
