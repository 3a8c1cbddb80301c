//! Where replicas go whose directory their broker has no more: its disk is gone, and others have what was there.

use super::image::Image;
use super::leadership::changed;
use super::record::PartitionRecord;
use super::registered::Registration;
use crate::base::DirectoryId;

/// Replicas of brokers that have registered without the directories that they are in get others there, and begin with
/// nothing, as in Kafka (KIP-858). Not those that are in sync still: nobody who counts has what such a one had, and it
/// may come back. `None` if there is nothing to be done.
#[must_use]
pub fn rehomed(
    partition: &PartitionRecord,
    is_internal: bool,
    image: &Image,
) -> Option<PartitionRecord> {
    let mut next = partition.clone();
    for (node, directory) in partition.replicas.iter().zip(&mut next.directories) {
        if !partition.isr.contains(node)
            && let Some(broker) = image.brokers.get(*node)
            && broker.directories.iter().all(|it| it.id != *directory)
            && let Some(home) = home(partition, broker, is_internal, image)
        {
            *directory = home;
            // What it has had is gone.
            next.elections.left.retain(|it| it != node);
        }
    }
    changed(partition, next)
}

/// The directory of a broker that has least.
fn home(
    partition: &PartitionRecord,
    broker: &Registration,
    is_internal: bool,
    image: &Image,
) -> Option<DirectoryId> {
    let here = &broker.directories;
    // Internal topics count nowhere: there each has its turn, as where all have as much.
    let load = |id: DirectoryId| {
        if is_internal {
            0
        } else {
            image.load(id).replicas
        }
    };
    let turn = |at: usize| (at as u64 + partition.log.0) % here.len() as u64;
    let homes = here.iter().enumerate();
    let least = homes.min_by_key(|(at, it)| (load(it.id), turn(*at)));
    least.map(|(_, it)| it.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Incarnation, NodeId};
    use crate::config::BrokerConfig;
    use crate::controller::testing::{broker, cluster, create};
    use crate::controller::{Cause, Draft, MetadataRecord, Moves, Partition};

    /// A process of a broker registers that has two new directories, or one that it had and a new one.
    fn comes_back(image: &mut Image, node: i32, has: usize) -> Vec<DirectoryId> {
        let mut process = image.brokers.get(NodeId(node)).unwrap().clone();
        let new = broker(node + 50, 2).directories;
        process.directories.truncate(has);
        process.directories.extend(&new[has..]);
        process.member.incarnation = Incarnation(process.member.incarnation.0 + 1);
        process.fenced = true;
        let ids = process.directories.iter().map(|it| it.id).collect();
        image.replay(&MetadataRecord::Broker(process)).unwrap();
        follow(image, Cause::Fenced(NodeId(node)));
        ids
    }

    fn follow(image: &mut Image, cause: Cause) {
        let mut moves = Moves::new(cause);
        loop {
            let mut draft = Draft::new(image);
            let is_over = moves.go_on(&mut draft, &BrokerConfig::default(), &mut 10_000);
            draft.settle();
            *image = draft.into_change().image;
            image.invariants();
            if is_over {
                return;
            }
        }
    }

    /// In which directories a broker's replicas are, and whether each is in sync.
    fn replicas(image: &Image, node: i32) -> Vec<(DirectoryId, bool)> {
        let partitions = image.topics().flat_map(|topic| topic.partitions.iter());
        let of_node = partitions.filter_map(|it| {
            let place = it.replicas.iter().position(|it| it.0 == node)?;
            Some((it.directories[place], it.isr.contains(&NodeId(node))))
        });
        of_node.collect()
    }

    #[test]
    fn what_a_lost_disk_had_goes_to_those_that_there_are() {
        for has in [0, 1] {
            let mut image = cluster(3);
            create(&mut image, "a", 12, 3);
            let before = replicas(&image, 2);
            let ids = comes_back(&mut image, 2, has);
            let after = replicas(&image, 2);
            assert_eq!(before.len(), after.len());
            for ((was, _), (is, in_sync)) in before.iter().zip(&after) {
                assert!(ids.contains(is) && !in_sync);
                assert!(!ids.contains(was) || is == was, "what is there stays");
            }
            for id in &ids {
                let there = after.iter().filter(|it| it.0 == *id).count();
                assert_eq!(there, 6, "both have as much");
            }
        }
    }

    /// It would be elected with nothing, by a leader that has lost something and begun nothing.
    #[test]
    fn who_was_taken_out_of_the_isr_and_has_lost_its_disk_has_nothing_that_counts() {
        let mut image = cluster(2);
        create(&mut image, "a", 2, 2);
        comes_back(&mut image, 2, 2);
        let led = |image: &Image| {
            let partitions = image.topic("a").unwrap().partitions.clone();
            partitions.iter().find(|it| it.replicas[0].0 == 1).cloned()
        };
        let left = led(&image).expect("one is led by the first");
        assert_eq!((left.leader.0, left.left()), (1, &[NodeId(2)][..]));
        comes_back(&mut image, 2, 0);
        let left = led(&image).expect("it is still");
        assert_eq!((left.leader.0, left.left()), (1, &[][..]));
    }

    #[test]
    fn the_last_one_in_sync_keeps_the_place_that_it_had() {
        let mut image = cluster(2);
        create(&mut image, "alone", 3, 1);
        create(&mut image, "both", 4, 2);
        let of = |image: &Image, name: &str| image.topic(name).unwrap().partitions.clone();
        let alone = of(&image, "alone");
        // The other one is down: nobody else has what the broker had.
        image.brokers.set_fenced(NodeId(1), true);
        let ids = comes_back(&mut image, 2, 0);
        for (now, then) in of(&image, "alone").iter().zip(alone.iter()) {
            assert_eq!((&now.directories, &now.isr), (&then.directories, &then.isr));
        }
        assert!(of(&image, "both").iter().all(|it| it.isr.len() == 2));
        // When the other one leads and is in sync alone, there is somebody to have it from.
        image.brokers.set_fenced(NodeId(1), false);
        follow(&mut image, Cause::Unfenced(NodeId(1)));
        let both = image.topic("both").unwrap().clone();
        let is_home = |partition: &Partition| {
            assert_eq!(partition.leader, NodeId(1));
            let place = partition.replicas.iter().position(|it| it.0 == 2).unwrap();
            ids.contains(&partition.directories[place])
        };
        for (index, partition) in both.partitions.iter().enumerate() {
            assert!(!is_home(partition));
            let mut record = partition.record(both.id, index as i32);
            record.isr.retain(|it| *it == NodeId(1));
            record.partition_epoch += 1;
            let homed = rehomed(&record, false, &image).expect("its directory is lost");
            assert_eq!(homed.partition_epoch, record.partition_epoch + 1);
            // The controller has changed meanwhile: it is looked at once more.
            let change = if index == 0 { record } else { homed };
            image.replay(&MetadataRecord::Partition(change)).unwrap();
            assert_eq!(is_home(&of(&image, "both")[index]), index > 0);
        }
        follow(&mut image, Cause::Unfenced(NodeId(2)));
        assert!(of(&image, "both").iter().all(is_home));
        for partition in of(&image, "both").iter() {
            let record = partition.record(both.id, 0);
            assert_eq!(rehomed(&record, false, &image), None);
        }
    }
}
