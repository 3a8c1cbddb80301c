//! What becomes of a partition whose log is damaged here as a whole, and which another node leads.

use std::sync::Arc;

use super::follow::HAS_NOTHING;
use super::said::{ReplicaSaid, ReplicaWhat};
use super::*;
use crate::base::{
    DirectoryId, Incarnation, LeaderEpoch, LogId, Mono, NodeId, NodeProcess, Now, Offset, StoreId,
    TopicId,
};
use crate::broker::owner::Owner;
use crate::broker::owner::adopt::Adoption;
use crate::broker::owner::stores::format_store;
use crate::broker::peers::PeerAddress;
use crate::broker::testing::with_fx;
use crate::config::BrokerConfig;
use crate::controller::{
    Delta, Directory, Elections, Image, MetadataRecord, PartitionRecord, Registration,
};
use crate::log::recovery::DamagedLog;
use crate::replica::{EpochEnd, LeaderLog, Term};
use crate::store::StoreConfig;
use crate::wire::peer::NodeFacts;

const NOW: Now = Now {
    mono: Mono(1),
    wall_ms: 1_700_000_000_000,
};
const LOG: LogId = LogId(1);
const OTHER: NodeId = NodeId(2);

const fn process(node: NodeId) -> NodeProcess {
    NodeProcess {
        node,
        incarnation: Incarnation(1),
    }
}

/// A node that has the log of a partition damaged, in which everything before offset 50 was known to be committed.
struct Damaged {
    owner: Owner,
    image: Image,
    replicas: Replication,
    me: NodeId,
}

impl Damaged {
    fn new(elections: Elections) -> Self {
        let config = BrokerConfig::default();
        let me = config.node();
        let store = StoreConfig {
            journal_bytes: 1 << 20,
            initial_bytes: 4 << 20,
            raw: true,
            ..config.store()
        };
        let slots = vec![format_store(StoreId(0), store, 1).0];
        let mut owner = Owner::new(ShardId(0), Arc::new(config), slots);
        owner.roles.replicates = true;
        owner.damaged.insert(LOG, 0);
        let known = DamagedLog {
            committed: Offset(50),
            epoch: LeaderEpoch(4),
        };
        owner.slots[0].damaged.insert(LOG, known);
        let directory = |node: NodeId| DirectoryId::new(node.0 as u64, StoreId(0));
        let mut image = Image::of_node([directory(me)]);
        image.features = crate::controller::FEATURE_LEVEL;
        for node in [me, OTHER] {
            let registration = Registration {
                member: process(node),
                directories: vec![Directory {
                    id: directory(node),
                    shard: ShardId(0),
                }],
                ..Registration::default()
            };
            image.replay(&MetadataRecord::Broker(registration)).unwrap();
        }
        let partition = PartitionRecord {
            topic: TopicId([1; 16]),
            index: 0,
            log: LOG,
            replicas: vec![me, OTHER],
            directories: vec![directory(me), directory(OTHER)],
            isr: vec![OTHER],
            leader: OTHER,
            leader_epoch: LeaderEpoch(7),
            partition_epoch: 7,
            elections,
        };
        let topic = MetadataRecord::Topic {
            name: "a".to_owned(),
            id: TopicId([1; 16]),
        };
        for record in [topic, MetadataRecord::Partition(partition)] {
            image.replay(&record).unwrap();
        }
        let facts = NodeFacts {
            node: me,
            directory: directory(me),
            incarnation: Incarnation(1),
            start: 1,
            levels: (1, 2),
            cluster_id: Some("a".into()),
        };
        let other = PeerAddress {
            node: OTHER,
            host: "other".to_owned(),
            port: 9093,
        };
        let setup = ClusterSetup::of_voters(facts, vec![other]);
        let mut it = Self {
            owner,
            image,
            replicas: Replication::new(Arc::new(setup), ShardId(0), 1),
            me,
        };
        let everything = Arc::new(Delta::everything());
        let mut adoption = Adoption::new(Arc::new(it.image.clone()), everything);
        it.owner.adopt(NOW, &mut adoption, 100).expect("the end");
        it.go_on();
        it
    }

    fn go_on(&mut self) {
        let (replicas, owner, image) = (&mut self.replicas, &mut self.owner, &self.image);
        with_fx(NOW, |fx| replicas.go_on(true, (image, owner), fx));
    }

    /// The leader answers what it was asked, with a log that ends there; whether the damaged one is there still.
    fn answered(&mut self, asked: EpochEnd, end: i64) -> bool {
        let from = ReplicaPeer {
            node: OTHER,
            shard: ShardId(0),
        };
        let (epoch, end) = (LeaderEpoch(7), Offset(end));
        let log = LeaderLog {
            ends: EpochEnd { epoch, end },
            start: Offset(0),
            end,
            committed: Offset(0),
            tombstones: Offset(0),
        };
        let said = ReplicaSaid {
            log: LOG,
            term: Term {
                epoch,
                leader: process(OTHER),
                follower: process(self.me),
            },
            what: ReplicaWhat::Answers { asked, log },
        };
        let (replicas, owner, image) = (&mut self.replicas, &mut self.owner, &self.image);
        with_fx(NOW, |fx| replicas.heard(from, said, image, owner, fx));
        self.go_on();
        self.owner.is_damaged(LOG)
    }
}

/// Its leader may have a damaged one too, and not have said so yet.
#[test]
fn what_is_damaged_is_kept_until_the_leader_has_shown_that_it_has_what_was_there() {
    let mut it = Damaged::new(Elections::default());
    assert!(it.owner.is_damaged(LOG), "nobody has said anything yet");
    let other = EpochEnd {
        epoch: LeaderEpoch(3),
        end: Offset(50),
    };
    assert!(it.answered(other, 50), "that was not asked");
    assert!(it.answered(HAS_NOTHING, 49), "the leader lacks something");
    assert!(!it.answered(HAS_NOTHING, 50), "it is made anew");
    let open = &it.owner.partitions[&LOG];
    assert!(open.leader.is_none() && open.log.end_offset() == Offset(0));
}

#[test]
fn after_an_unclean_election_what_the_leader_has_is_all_that_counts() {
    let mut it = Damaged::new(Elections {
        unclean: Some(LeaderEpoch(6)),
        ..Elections::default()
    });
    assert!(it.owner.is_damaged(LOG));
    assert!(!it.answered(HAS_NOTHING, 10));
    // What was there was of that election, or of a later one.
    let mut it = Damaged::new(Elections {
        unclean: Some(LeaderEpoch(4)),
        ..Elections::default()
    });
    assert!(it.answered(HAS_NOTHING, 10));
}

/// Nothing of it can be read: it is enough that the leader has begun its epoch, which one that is damaged has not.
#[test]
fn of_what_nothing_is_known_an_answer_is_waited_for() {
    let mut it = Damaged::new(Elections::default());
    it.owner.slots[0].damaged.clear();
    assert!(it.owner.is_damaged(LOG));
    assert!(!it.answered(HAS_NOTHING, 0));
}
