//! What follows for partitions from brokers that were fenced or have come back. There may be very many, so it is done
//! in slices and in several changes: those without a leader first.

use std::sync::Arc;

use super::draft::Draft;
use super::elections::eligible;
use super::homes::rehomed;
use super::image::Image;
use super::leadership::{Eligible, fenced, preferred, unfenced};
use super::record::{MetadataRecord, PartitionRecord};
use super::topic::{Partition, Topic};
use crate::base::NodeId;
use crate::base::limits::{BALANCED_PER_CHANGE_MAX, MOVES_PER_CHANGE_MAX};
use crate::config::BrokerConfig;

/// Why partitions may have to have other leaders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// This broker was fenced, or another process of it has registered, or it is gone.
    Fenced(NodeId),
    /// This broker may lead.
    Unfenced(NodeId),
    /// A controller begins: the one before may have left something undone for brokers that may lead.
    Living,
    /// Partitions are to be led by the first of their replicas again.
    Balance,
    /// By the settings as they are now, replicas that are not in sync may lead partitions that have no leader.
    Leaderless,
}

impl Cause {
    /// How often all partitions are looked at: for those whose leader is lost, and for the others.
    const fn passes(self) -> u8 {
        match self {
            Self::Fenced(_) => 2,
            Self::Unfenced(_) | Self::Living | Self::Balance | Self::Leaderless => 1,
        }
    }

    /// How many partitions are moved by one change. Where nothing forces them only a few are: each is without a leader
    /// for a moment.
    const fn per_change(self) -> usize {
        match self {
            Self::Balance => BALANCED_PER_CHANGE_MAX,
            _ => MOVES_PER_CHANGE_MAX,
        }
    }
}

/// What followed from the fencing of a broker is recorded, so that it may return: before, it could be taken for the
/// leader that it was, in an epoch that an earlier process of it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled(NodeId);

impl Settled {
    /// For which broker.
    #[must_use]
    pub const fn node(self) -> NodeId {
        self.0
    }
}

/// See the module. Other changes may be decided between two of its own: each partition is looked at as it is then. Of a
/// change that comes to nothing the clone from before goes on; a controller that takes over begins anew for each broker
/// that is fenced or gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moves {
    cause: Cause,
    /// How often all partitions were looked at.
    pass: u8,
    /// The topic that is looked at, `None` before the first one of a pass; the next of its partitions.
    topic: Option<Arc<str>>,
    index: usize,
}

impl Moves {
    /// All that follow from this.
    #[must_use]
    pub const fn new(cause: Cause) -> Self {
        Self {
            cause,
            pass: 0,
            topic: None,
            index: 0,
        }
    }

    /// What they follow from.
    #[must_use]
    pub const fn cause(&self) -> Cause {
        self.cause
    }

    /// Which come first, the least of all: those by which partitions get a leader that have lost theirs, and last those
    /// that can wait.
    #[must_use]
    pub const fn rank(&self) -> u8 {
        match self.cause {
            Cause::Fenced(_) if self.pass == 0 => 0,
            Cause::Fenced(_) | Cause::Unfenced(_) | Cause::Living | Cause::Leaderless => 1,
            Cause::Balance => 2,
        }
    }

    /// Adds records to a change until that is full, as long as there is something `left` of a slice: to look at a
    /// partition costs one, and so does a record. Returns whether all is done. Whoever may be elected by the settings
    /// `config` is.
    pub fn go_on(&mut self, draft: &mut Draft, config: &BrokerConfig, left: &mut usize) -> bool {
        draft.go_on(left);
        let mut known = None;
        while *left > 0 && !self.is_full(draft) {
            let Some(topic) = known.take().or_else(|| self.topic(draft.image())) else {
                return true;
            };
            *left -= 1;
            let Some(partition) = topic.partitions.get(self.index) else {
                self.next_topic(draft.image());
                continue;
            };
            let index = i32::try_from(self.index).unwrap_or(i32::MAX);
            self.index += 1;
            let image = draft.image();
            if let Some(next) = self.follows((&topic, index), partition, image, config) {
                if next.elections.unclean == Some(next.leader_epoch)
                    && partition.leader_epoch != next.leader_epoch
                {
                    let (name, leader) = (&topic.name, next.leader);
                    tracing::warn!(
                        "{name}-{index}: node {leader} is to lead it, which is not in sync: what it lacks is lost"
                    );
                }
                draft.push(MetadataRecord::Partition(next));
                draft.go_on(left);
            } else {
                known = Some(topic);
            }
        }
        false
    }

    /// Whether a change has as much of this as it may.
    #[must_use]
    pub fn is_full(&self, draft: &Draft) -> bool {
        draft.len() >= self.cause.per_change()
    }

    /// Whether the broker may return, when all is recorded.
    #[must_use]
    pub const fn settled(&self) -> Option<Settled> {
        match self.cause {
            Cause::Fenced(node) if self.pass == self.cause.passes() => Some(Settled(node)),
            _ => None,
        }
    }

    fn follows(
        &self,
        (topic, index): (&Topic, i32),
        partition: &Partition,
        image: &Image,
        config: &BrokerConfig,
    ) -> Option<PartitionRecord> {
        let brokers = &image.brokers;
        match self.cause {
            Cause::Fenced(node) => {
                let is_turn = self.pass > 0 || partition.leader == node;
                let concerned = is_turn && partition.replicas.contains(&node);
                let now = concerned.then(|| partition.record(topic.id, index))?;
                let next = fenced(&now, brokers, node, eligible(config, topic));
                let homed = rehomed(next.as_ref().unwrap_or(&now), topic.internal, image);
                homed.or(next)
            }
            Cause::Unfenced(_) | Cause::Living => {
                let (isr, replicas) = (&partition.isr, &partition.replicas);
                let (in_sync, is_replica) = match self.cause {
                    Cause::Unfenced(node) => (isr.contains(&node), replicas.contains(&node)),
                    _ => (isr.len() == replicas.len(), true),
                };
                let is_led = partition.leader.0 >= 0;
                let concerned = !(in_sync && is_led) && is_replica;
                let now = concerned.then(|| partition.record(topic.id, index))?;
                let next = match is_led {
                    true => None,
                    false => unfenced(&now, brokers, eligible(config, topic)),
                };
                let homed = || rehomed(&now, topic.internal, image).filter(|_| !in_sync);
                next.or_else(homed)
            }
            Cause::Balance => {
                let first = partition.replicas.first().copied();
                let concerned = first != Some(partition.leader)
                    && first.is_some_and(|first| partition.isr.contains(&first));
                let now = concerned.then(|| partition.record(topic.id, index))?;
                preferred(&now, brokers)
            }
            Cause::Leaderless => {
                let concerned = partition.leader.0 < 0 && eligible(config, topic) == Eligible::Any;
                let now = concerned.then(|| partition.record(topic.id, index))?;
                unfenced(&now, brokers, Eligible::Any)
            }
        }
    }

    /// The topic whose turn it is. One that was removed meanwhile is followed by the next.
    fn topic(&mut self, image: &Image) -> Option<Arc<Topic>> {
        while self.pass < self.cause.passes() {
            let known = self.topic.as_deref().and_then(|name| image.topic(name));
            if let Some(topic) = known {
                return Some(Arc::clone(topic));
            }
            self.next_topic(image);
        }
        None
    }

    fn next_topic(&mut self, image: &Image) {
        let next = image.topic_after(self.topic.as_deref());
        self.topic = next.map(|topic| Arc::clone(&topic.name));
        self.index = 0;
        if self.topic.is_none() {
            self.pass += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::LeaderEpoch;
    use crate::config::UNCLEAN_ELECTIONS;
    use crate::controller::brokers;
    use crate::controller::record::ConfigResource;
    use crate::controller::testing::{cluster, create};

    /// Goes on by so much at a time, with changes of their own, and says how many there were, and whether the broker
    /// may return.
    fn follow(image: &mut Image, cause: Cause, slice: usize) -> (usize, Option<Settled>) {
        let (mut moves, mut changes) = (Moves::new(cause), 0);
        loop {
            let mut draft = Draft::new(image);
            let mut is_over = false;
            while !is_over && !moves.is_full(&draft) {
                is_over = moves.go_on(&mut draft, &BrokerConfig::default(), &mut slice.clone());
            }
            draft.settle();
            changes += usize::from(!draft.is_empty());
            *image = draft.into_change().image;
            if is_over {
                return (changes, moves.settled());
            }
        }
    }

    fn fence(image: &mut Image, node: i32, slice: usize) -> (usize, Option<Settled>) {
        let mut draft = Draft::new(image);
        let cause = brokers::fence(&mut draft, NodeId(node)).expect("it is live");
        draft.settle();
        *image = draft.into_change().image;
        follow(image, cause, slice)
    }

    fn unfence(image: &mut Image, settled: Option<Settled>, slice: usize) {
        let settled = settled.expect("it may return");
        let member = image.brokers.member(settled.node()).expect("it is known");
        let mut draft = Draft::new(image);
        let cause = brokers::unfence(&mut draft, member, settled).expect("it is the one");
        draft.settle();
        *image = draft.into_change().image;
        follow(image, cause.expect("it was fenced"), slice);
    }

    #[test]
    fn what_a_fenced_broker_led_is_led_by_another_first_and_then_it_is_in_no_isr() {
        for slice in [1, 2, 7, 1_000_000] {
            let mut image = cluster(3);
            let partitions = MOVES_PER_CHANGE_MAX + 10;
            create(&mut image, "a", partitions, 3);
            create(&mut image, "b", 3, 2);
            let led = |image: &Image, node| {
                let topics = image.topics().flat_map(|topic| topic.partitions.iter());
                topics.filter(|it| it.leader == NodeId(node)).count()
            };
            let before = led(&image, 1);
            assert!(before > 0);
            let (changes, first) = fence(&mut image, 1, slice);
            assert_eq!(changes, 2);
            assert_eq!(led(&image, 1), 0);
            assert_eq!(led(&image, -1), 0, "each has another one in sync");
            for topic in image.topics() {
                for partition in topic.partitions.iter() {
                    assert!(!partition.isr.contains(&NodeId(1)));
                    let moved = partition.replicas[0] == NodeId(1);
                    assert_eq!(partition.leader_epoch, LeaderEpoch(i32::from(moved)));
                }
            }
            image.invariants();
            let (_, second) = fence(&mut image, 2, slice);
            let (_, third) = fence(&mut image, 3, slice);
            let leaderless = led(&image, -1);
            assert_eq!(leaderless, partitions + 3, "nobody is left");
            // The last ones in sync lead again when they are back, and nobody else.
            unfence(&mut image, first, slice);
            assert_eq!(led(&image, -1), leaderless);
            unfence(&mut image, third, slice);
            assert!(led(&image, 3) >= partitions);
            unfence(&mut image, second, slice);
            assert_eq!(led(&image, -1), 0);
            image.invariants();
        }
    }

    #[test]
    fn a_controller_that_begins_does_what_was_left_for_those_that_may_lead() {
        let mut image = cluster(2);
        create(&mut image, "a", 3, 2);
        fence(&mut image, 1, 7);
        fence(&mut image, 2, 7);
        assert_eq!(follow(&mut image, Cause::Living, 7), (0, None), "nobody is");
        assert!(image.brokers.set_fenced(NodeId(2), false));
        assert_eq!(follow(&mut image, Cause::Living, 7), (1, None));
        let topic = image.topic("a").expect("it is there");
        assert!(topic.partitions.iter().all(|it| it.leader == NodeId(2)));
        assert_eq!(follow(&mut image, Cause::Living, 7), (0, None));
        image.invariants();
    }

    #[test]
    fn a_few_partitions_at_a_time_are_led_by_their_first_replicas_again() {
        let mut image = cluster(3);
        create(&mut image, "a", 4 * BALANCED_PER_CHANGE_MAX, 3);
        let (_, settled) = fence(&mut image, 1, 1_000);
        unfence(&mut image, settled, 1_000);
        assert_eq!(
            follow(&mut image, Cause::Balance, 7),
            (0, None),
            "it is in no ISR"
        );
        let topic = image.topic("a").expect("it is there").clone();
        for (index, partition) in topic.partitions.iter().enumerate() {
            let mut record = partition.record(topic.id, index as i32);
            record.isr.push(NodeId(1));
            record.partition_epoch += 1;
            image
                .replay(&MetadataRecord::Partition(record))
                .expect("it fits");
        }
        let (changes, _) = follow(&mut image, Cause::Balance, 7);
        let topic = image.topic("a").expect("it is there");
        let firsts = topic
            .partitions
            .iter()
            .filter(|it| it.replicas[0] == NodeId(1));
        assert_eq!(changes, firsts.count().div_ceil(BALANCED_PER_CHANGE_MAX));
        assert!(
            topic
                .partitions
                .iter()
                .all(|it| it.leader == it.replicas[0])
        );
        image.invariants();
    }

    #[test]
    fn topics_may_be_removed_while_their_partitions_move() {
        let mut image = cluster(2);
        for name in ["a", "b", "c"] {
            create(&mut image, name, 2, 2);
        }
        let mut draft = Draft::new(&image);
        let cause = brokers::fence(&mut draft, NodeId(1)).expect("it was live");
        draft.settle();
        let mut moves = Moves::new(cause);
        assert!(
            !moves.go_on(&mut draft, &BrokerConfig::default(), &mut 1),
            "it has begun with a"
        );
        draft.settle();
        image = draft.into_change().image;
        for name in ["a", "b"] {
            let id = image.topic(name).expect("it is there").id;
            image
                .replay(&MetadataRecord::RemoveTopic { id })
                .expect("it fits");
        }
        let mut draft = Draft::new(&image);
        assert!(moves.go_on(&mut draft, &BrokerConfig::default(), &mut 1_000));
        draft.settle();
        let image = draft.into_change().image;
        let led = image.topic("c").expect("it is there");
        assert!(led.partitions.iter().all(|it| it.leader == NodeId(2)));
    }

    #[test]
    fn where_it_is_allowed_those_lead_that_are_not_in_sync() {
        let mut image = cluster(2);
        for name in ["a", "b"] {
            create(&mut image, name, 3, 2);
        }
        let (_, first) = fence(&mut image, 1, 7);
        fence(&mut image, 2, 7);
        unfence(&mut image, first, 7);
        let led = |image: &Image, name: &str| {
            let topic = image.topic(name).expect("it is there");
            let partitions = topic.partitions.iter();
            partitions.filter(|it| it.leader == NodeId(1)).count()
        };
        assert_eq!((led(&image, "a"), led(&image, "b")), (0, 0));
        assert_eq!(follow(&mut image, Cause::Leaderless, 7), (0, None));
        let allowed = MetadataRecord::Config {
            resource: ConfigResource::Topic("b".to_owned()),
            key: UNCLEAN_ELECTIONS.to_owned(),
            value: Some("true".to_owned()),
        };
        image.replay(&allowed).expect("it fits");
        assert_eq!(follow(&mut image, Cause::Leaderless, 7), (1, None));
        assert_eq!((led(&image, "a"), led(&image, "b")), (0, 3));
        // The same when it is allowed already.
        let (_, first) = fence(&mut image, 1, 7);
        let settled = {
            let mut moves = Moves::new(Cause::Fenced(NodeId(2)));
            moves.pass = 2;
            moves.settled()
        };
        unfence(&mut image, settled, 7);
        assert_eq!(led(&image, "b"), 0);
        let topic = image.topic("b").expect("it is there");
        assert!(topic.partitions.iter().all(|it| it.leader == NodeId(2)));
        unfence(&mut image, first, 7);
        image.invariants();
    }
}
