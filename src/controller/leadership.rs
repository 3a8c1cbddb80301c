//! Who leads a partition and who is in sync: what follows from brokers that are fenced or come back, and from what a
//! leader asks for.

use super::record::{PartitionRecord, are_once};
use super::registered::Registered;
use crate::base::{ErrorCode, LeaderEpoch, NodeId, NodeProcess};

/// What a leader asks for (AlterPartition).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlterInSync {
    /// The leader.
    pub leader: NodeProcess,
    /// The epoch in which it leads.
    pub leader_epoch: LeaderEpoch,
    /// The state of the partition that it wants changed.
    pub partition_epoch: i32,
    /// Who is to be in sync.
    pub in_sync: Vec<NodeProcess>,
    /// It has not recovered yet from that it was elected though it may lack something.
    pub recovering: bool,
}

/// Who may be elected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eligible {
    /// Those that are in sync: nothing is lost.
    InSync,
    /// If none of those can lead, any replica that is alive, which is in sync alone then: what was committed and is not
    /// there is lost. As Kafka's `unclean.leader.election.enable` allows it.
    Any,
}

/// What follows for a partition from the fencing of a broker: it leaves the ISR if one that is alive stays there, and
/// leads no more. `None` if nothing does. A process that registers is fenced first, so no leader ever goes on in an
/// epoch that was given to an earlier process of its node.
#[must_use]
pub fn fenced(
    partition: &PartitionRecord,
    brokers: &Registered,
    node: NodeId,
    eligible: Eligible,
) -> Option<PartitionRecord> {
    let mut next = partition.clone();
    let others = next.isr.iter().filter(|other| **other != node);
    if others
        .clone()
        .any(|other| counts(partition, brokers, *other))
    {
        let others: Vec<NodeId> = others.copied().collect();
        let leaves = others.len() < next.isr.len();
        next.isr = others;
        if leaves && next.leader != NodeId::NOBODY && next.leader != node {
            next.elections.left.push(node);
        }
    }
    if next.leader == node {
        elect(&mut next, brokers, |it| it != node, eligible);
    }
    changed(partition, next)
}

/// What follows for a partition from the return of a broker, or of what is known of it: one that has no leader may have
/// one. `None` if nothing does.
#[must_use]
pub fn unfenced(
    partition: &PartitionRecord,
    brokers: &Registered,
    eligible: Eligible,
) -> Option<PartitionRecord> {
    let mut next = partition.clone();
    if next.leader == NodeId::NOBODY {
        elect(&mut next, brokers, |_| true, eligible);
    }
    changed(partition, next)
}

/// What follows for a partition that another replica than the first leads, though that is alive and in sync: it leads.
/// `None` if nothing does.
#[must_use]
pub fn preferred(partition: &PartitionRecord, brokers: &Registered) -> Option<PartitionRecord> {
    let first = partition.replicas.first()?;
    if partition.leader == *first {
        return None;
    }
    let mut next = partition.clone();
    elect(&mut next, brokers, |_| true, Eligible::InSync);
    // Whoever leads stays so if the first one cannot.
    if next.leader != *first {
        return None;
    }
    changed(partition, next)
}

/// As a client asks for it (ElectLeaders): the first replica leads; or, if that cannot and nobody does, another one
/// that is in sync. As Kafka's `ReplicationControlManager.electLeader`.
///
/// # Errors
/// ELECTION_NOT_NEEDED if it leads already, PREFERRED_LEADER_NOT_AVAILABLE if nobody else would lead than before.
pub fn elect_preferred(
    partition: &PartitionRecord,
    brokers: &Registered,
) -> Result<PartitionRecord, ErrorCode> {
    if partition.replicas.first() == Some(&partition.leader) {
        return Err(ErrorCode::ElectionNotNeeded);
    }
    let next = preferred(partition, brokers);
    let next = next.or_else(|| unfenced(partition, brokers, Eligible::InSync));
    next.ok_or(ErrorCode::PreferredLeaderNotAvailable)
}

/// As a client asks for it: whoever is alive leads a partition that has no leader, one that is in sync first.
///
/// # Errors
/// ELECTION_NOT_NEEDED if it has one, ELIGIBLE_LEADERS_NOT_AVAILABLE if no replica is alive.
pub fn elect_unclean(
    partition: &PartitionRecord,
    brokers: &Registered,
) -> Result<PartitionRecord, ErrorCode> {
    if partition.leader != NodeId::NOBODY {
        return Err(ErrorCode::ElectionNotNeeded);
    }
    let next = unfenced(partition, brokers, Eligible::Any);
    next.ok_or(ErrorCode::EligibleLeadersNotAvailable)
}

/// What a leader asks for, done. A set without itself says that it cannot lead, for it has lost something: it leaves
/// the ISR, and one of the others leads. Kafka's controller takes no such set; there a broker that loses a log has no
/// directory for it any more.
///
/// # Errors
/// As Kafka's controller: STALE_BROKER_EPOCH of a process that is not the registered one, or has not returned yet and
/// says that it cannot lead; FENCED_LEADER_EPOCH,
/// INVALID_UPDATE_VERSION of a state that has been changed since, NOT_CONTROLLER of what this controller does not know
/// yet, INVALID_REQUEST of a broker that does not lead, a set with others than replicas, or a leader that is recovering
/// and not alone, or was not. INELIGIBLE_REPLICA of a member that is fenced or gone, or without the directory that its
/// replica is in. ELIGIBLE_LEADERS_NOT_AVAILABLE if the leader is the last one that may have all of it.
pub fn alter_in_sync(
    partition: &PartitionRecord,
    brokers: &Registered,
    asked: &AlterInSync,
    eligible: Eligible,
) -> Result<PartitionRecord, ErrorCode> {
    if brokers.member(asked.leader.node) != Some(asked.leader) {
        return Err(ErrorCode::StaleBrokerEpoch);
    }
    if asked.leader_epoch < partition.leader_epoch {
        return Err(ErrorCode::FencedLeaderEpoch);
    }
    if asked.leader_epoch > partition.leader_epoch
        || asked.partition_epoch > partition.partition_epoch
    {
        return Err(ErrorCode::NotController);
    }
    if asked.partition_epoch < partition.partition_epoch {
        return Err(ErrorCode::InvalidUpdateVersion);
    }
    let nodes: Vec<NodeId> = asked.in_sync.iter().map(|member| member.node).collect();
    let are_replicas = nodes.iter().all(|node| partition.replicas.contains(node));
    let leads = partition.leader == asked.leader.node;
    if !leads || !are_replicas || !are_once(&nodes) {
        return Err(ErrorCode::InvalidRequest);
    }
    if !nodes.contains(&partition.leader) {
        // What it led before it returns, an earlier process of it may have led in this epoch, and committed without
        // those who were taken out of the ISR since. It is given to others by itself, as a fenced broker's.
        if !brokers.is_live(asked.leader) {
            return Err(ErrorCode::StaleBrokerEpoch);
        }
        return hand_on(partition, brokers, &nodes, eligible);
    }
    if asked.recovering && (nodes.len() > 1 || !partition.elections.recovering) {
        return Err(ErrorCode::InvalidRequest);
    }
    let may =
        |member: &NodeProcess| brokers.is_live(*member) && counts(partition, brokers, member.node);
    if !asked.in_sync.iter().all(may) {
        return Err(ErrorCode::IneligibleReplica);
    }
    let mut next = partition.clone();
    next.isr = nodes;
    next.elections.recovering = asked.recovering;
    // It has begun its epoch.
    next.elections.left.clear();
    Ok(changed(partition, next).unwrap_or_else(|| partition.clone()))
}

/// The leader has lost something, and has begun nothing in its epoch. It is in the ISR no more, if another one that was
/// there when its epoch began has its replica still: that one leads when it is alive, at once or later. Otherwise it
/// stays what it is, and what is left of its log counts, for a person; unless its election was unclean, or such are
/// allowed: then one behind it leads that is alive, so that each has its turn once.
fn hand_on(
    partition: &PartitionRecord,
    brokers: &Registered,
    others: &[NodeId],
    eligible: Eligible,
) -> Result<PartitionRecord, ErrorCode> {
    let (leader, left) = (partition.leader, &partition.elections.left);
    let had_all = |node: &NodeId| partition.isr.contains(node) || left.contains(node);
    if !others.iter().all(had_all) {
        return Err(ErrorCode::InvalidRequest);
    }
    let mut next = partition.clone();
    // Nothing was committed without those that were taken out since: they have all that the others have.
    let is_back =
        |node: &&NodeId| partition.replicas.contains(node) && !partition.isr.contains(node);
    let back = left.iter().filter(is_back);
    next.isr.extend(back);
    next.isr.retain(|node| *node != leader);
    if others.iter().any(|it| has_kept(partition, brokers, *it)) {
        elect(&mut next, brokers, |it| it != leader, Eligible::InSync);
        return Ok(changed(partition, next).unwrap_or_else(|| partition.clone()));
    }
    let elections = &partition.elections;
    let is_unclean = elections.unclean == Some(partition.leader_epoch);
    let may_lose = eligible == Eligible::Any || elections.recovering && is_unclean;
    let place = |node| partition.replicas.iter().position(|it| *it == node);
    next.isr.clone_from(&partition.isr);
    if may_lose {
        let behind = |it| place(it) > place(leader);
        elect(&mut next, brokers, behind, Eligible::Any);
    }
    match next.leader == leader || next.leader == NodeId::NOBODY {
        true => Err(ErrorCode::EligibleLeadersNotAvailable),
        false => Ok(changed(partition, next).unwrap_or_else(|| partition.clone())),
    }
}

/// A change that is refused because of its members, for good: the partition stays what it is, as a newer state of
/// itself. Another copy of what was asked for, that may be on its way still, asks for a change of an older state then,
/// and never happens when its members have become eligible.
#[must_use]
pub fn void_asked(partition: &PartitionRecord) -> PartitionRecord {
    let mut next = partition.clone();
    next.partition_epoch = next.partition_epoch.saturating_add(1);
    next
}

/// Whether a replica can lead, and be in sync: its broker is alive, and has the directory that the replica is in. One
/// whose stores were made anew has lost what it had (KIP-858).
fn counts(partition: &PartitionRecord, brokers: &Registered, node: NodeId) -> bool {
    let is_alive = brokers.get(node).is_some_and(|broker| !broker.fenced);
    is_alive && has_kept(partition, brokers, node)
}

/// Whether a broker has, as far as is known, the directory that its replica is in.
fn has_kept(partition: &PartitionRecord, brokers: &Registered, node: NodeId) -> bool {
    let mut replicas = partition.replicas.iter().zip(&partition.directories);
    let directory = replicas.find(|(replica, _)| **replica == node);
    match (brokers.get(node), directory) {
        (Some(broker), Some((_, id))) => broker.directories.iter().any(|it| it.id == *id),
        _ => false,
    }
}

/// The first replica of those that `may` and are alive leads that is in sync, or else another one if such are eligible;
/// or nobody. In an epoch of its own in any case.
fn elect(
    partition: &mut PartitionRecord,
    brokers: &Registered,
    may: impl Fn(NodeId) -> bool,
    eligible: Eligible,
) {
    let can = |node: &&NodeId| may(**node) && counts(partition, brokers, **node);
    let mut able = partition.replicas.iter().filter(can);
    let in_sync = able.clone().find(|node| partition.isr.contains(node));
    let unclean = match eligible {
        Eligible::Any if in_sync.is_none() => able.next(),
        _ => None,
    };
    let leader = in_sync.or(unclean).copied().unwrap_or(NodeId::NOBODY);
    let is_unclean = unclean.is_some();
    if leader == partition.leader {
        return;
    }
    let epoch = LeaderEpoch(partition.leader_epoch.0.saturating_add(1));
    (partition.leader, partition.leader_epoch) = (leader, epoch);
    partition.elections.left.clear();
    if is_unclean {
        partition.isr = vec![leader];
        partition.elections.recovering = true;
        partition.elections.unclean = Some(epoch);
    }
}

/// What a partition becomes, as a newer state of itself; `None` if it stays what it is.
pub(super) fn changed(
    partition: &PartitionRecord,
    mut next: PartitionRecord,
) -> Option<PartitionRecord> {
    if next == *partition {
        return None;
    }
    next.partition_epoch = next.partition_epoch.saturating_add(1);
    Some(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{DirectoryId, Incarnation, LogId, ShardId, TopicId};
    use crate::controller::{Directory, Elections, Registration};

    const fn member(node: i32, incarnation: u64) -> NodeProcess {
        NodeProcess {
            node: NodeId(node),
            incarnation: Incarnation(incarnation),
        }
    }

    /// A process that has not shown yet that it is alive.
    fn process(node: i32, incarnation: u64) -> Registration {
        Registration {
            member: member(node, incarnation),
            fenced: true,
            directories: vec![Directory {
                id: DirectoryId([node as u8; 16]),
                shard: ShardId(0),
            }],
            ..Registration::default()
        }
    }

    fn nodes(ids: &[i32]) -> Vec<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    /// Three live brokers, of which the first leads.
    fn three() -> (PartitionRecord, Registered) {
        let mut brokers = Registered::default();
        for node in 1..=3 {
            brokers.register(process(node, 7)).expect("the first");
            brokers.set_fenced(NodeId(node), false);
        }
        let partition = PartitionRecord {
            topic: TopicId([1; 16]),
            index: 0,
            log: LogId(1),
            replicas: nodes(&[1, 2, 3]),
            directories: [1, 2, 3].map(|node| DirectoryId([node; 16])).into(),
            isr: nodes(&[1, 2, 3]),
            leader: NodeId(1),
            leader_epoch: LeaderEpoch(4),
            partition_epoch: 9,
            elections: Elections::default(),
        };
        (partition, brokers)
    }

    fn alter(
        partition: &PartitionRecord,
        brokers: &Registered,
        asked: &AlterInSync,
    ) -> Result<PartitionRecord, ErrorCode> {
        alter_in_sync(partition, brokers, asked, Eligible::InSync)
    }

    fn fence(partition: &mut PartitionRecord, brokers: &mut Registered, node: i32) {
        brokers.set_fenced(NodeId(node), true);
        if let Some(next) = fenced(partition, brokers, NodeId(node), Eligible::InSync) {
            *partition = next;
        }
    }

    #[test]
    fn the_next_replica_in_sync_leads_and_the_last_one_stays_in_sync() {
        let (mut it, mut brokers) = three();
        fence(&mut it, &mut brokers, 1);
        assert_eq!((it.leader, it.leader_epoch), (NodeId(2), LeaderEpoch(5)));
        assert_eq!((it.isr.clone(), it.partition_epoch), (nodes(&[2, 3]), 10));
        fence(&mut it, &mut brokers, 3);
        assert_eq!((it.leader, it.leader_epoch), (NodeId(2), LeaderEpoch(5)));
        fence(&mut it, &mut brokers, 2);
        assert_eq!(
            (it.leader, it.leader_epoch),
            (NodeId::NOBODY, LeaderEpoch(6))
        );
        assert_eq!(it.isr, nodes(&[2]), "nobody else has all of it");
        brokers.set_fenced(NodeId(1), false);
        assert_eq!(unfenced(&it, &brokers, Eligible::InSync), None);
        brokers.set_fenced(NodeId(2), false);
        let next = unfenced(&it, &brokers, Eligible::InSync).expect("it leads again");
        assert_eq!(
            (next.leader, next.leader_epoch),
            (NodeId(2), LeaderEpoch(7))
        );
    }

    /// Whoever of the two comes back first leads: nothing was acknowledged without either.
    #[test]
    fn the_isr_stays_as_it_is_when_all_of_it_is_gone_at_once() {
        let (mut it, mut brokers) = three();
        it.isr = nodes(&[1, 2]);
        brokers.set_fenced(NodeId(1), true);
        brokers.set_fenced(NodeId(2), true);
        for node in [1, 2] {
            if let Some(next) = fenced(&it, &brokers, NodeId(node), Eligible::InSync) {
                it = next;
            }
        }
        assert_eq!(
            (it.leader, it.isr.clone()),
            (NodeId::NOBODY, nodes(&[1, 2]))
        );
        brokers.set_fenced(NodeId(1), false);
        let next = unfenced(&it, &brokers, Eligible::InSync).expect("it leads again");
        assert_eq!(next.leader, NodeId(1));
    }

    #[test]
    fn who_has_lost_its_directory_neither_leads_nor_is_in_sync() {
        let (mut it, mut brokers) = three();
        it.isr = nodes(&[1]);
        fence(&mut it, &mut brokers, 1);
        let mut wiped = process(1, 8);
        wiped.directories[0].id = DirectoryId([9; 16]);
        wiped.fenced = false;
        brokers.register(wiped).expect("a later one");
        assert_eq!(
            unfenced(&it, &brokers, Eligible::InSync),
            None,
            "it has nothing"
        );
        it.leader = NodeId(2);
        it.isr = nodes(&[2]);
        let asked = AlterInSync {
            leader: member(2, 7),
            leader_epoch: it.leader_epoch,
            partition_epoch: it.partition_epoch,
            in_sync: vec![member(2, 7), member(1, 8)],
            recovering: false,
        };
        assert_eq!(
            alter(&it, &brokers, &asked),
            Err(ErrorCode::IneligibleReplica)
        );
    }

    #[test]
    fn a_leader_that_starts_anew_gets_an_epoch_of_its_own() {
        let (mut it, mut brokers) = three();
        it.isr = nodes(&[1]);
        brokers.register(process(1, 8)).expect("a later one");
        let next = fenced(&it, &brokers, NodeId(1), Eligible::InSync).expect("it leads no more");
        assert_eq!(
            (next.leader, next.leader_epoch),
            (NodeId::NOBODY, LeaderEpoch(5))
        );
        assert_eq!(
            brokers.register(process(1, 7)),
            Err(ErrorCode::StaleBrokerEpoch)
        );
        assert!(!brokers.is_live(member(1, 7)) && !brokers.is_live(member(1, 8)));
    }

    #[test]
    fn the_isr_is_changed_by_the_leader_that_knows_it_and_to_live_members() {
        let (it, mut brokers) = three();
        let asked = |in_sync: &[NodeProcess]| AlterInSync {
            leader: member(1, 7),
            leader_epoch: LeaderEpoch(4),
            partition_epoch: 9,
            in_sync: in_sync.to_vec(),
            recovering: false,
        };
        let some = asked(&[member(1, 7), member(2, 7)]);
        let code = |asked: &AlterInSync, brokers: &Registered| alter(&it, brokers, asked);
        let next = code(&some, &brokers).expect("it may");
        assert_eq!((next.isr, next.partition_epoch), (nodes(&[1, 2]), 10));
        let same = code(&asked(&[1, 2, 3].map(|n| member(n, 7))), &brokers);
        assert_eq!(same, Ok(it.clone()), "nothing is changed by it");
        type Change = fn(&mut AlterInSync);
        let refused = |change: Change| {
            let mut asked = some.clone();
            change(&mut asked);
            code(&asked, &brokers).expect_err("it may not")
        };
        let cases: [(Change, ErrorCode); 10] = [
            (
                |it| it.in_sync.push(member(1, 7)),
                ErrorCode::InvalidRequest,
            ),
            (|it| it.leader = member(1, 6), ErrorCode::StaleBrokerEpoch),
            (
                |it| it.leader_epoch = LeaderEpoch(3),
                ErrorCode::FencedLeaderEpoch,
            ),
            (
                |it| it.leader_epoch = LeaderEpoch(5),
                ErrorCode::NotController,
            ),
            (|it| it.partition_epoch = 10, ErrorCode::NotController),
            (|it| it.partition_epoch = 8, ErrorCode::InvalidUpdateVersion),
            (|it| it.leader = member(2, 7), ErrorCode::InvalidRequest),
            (
                |it| it.in_sync.clear(),
                ErrorCode::EligibleLeadersNotAvailable,
            ),
            (
                |it| it.in_sync = vec![member(4, 7)],
                ErrorCode::InvalidRequest,
            ),
            (
                |it| it.in_sync.push(member(4, 7)),
                ErrorCode::InvalidRequest,
            ),
        ];
        for (change, expected) in cases {
            assert_eq!(refused(change), expected);
        }
        brokers.register(process(2, 8)).expect("a later one");
        brokers.set_fenced(NodeId(2), false);
        assert_eq!(code(&some, &brokers), Err(ErrorCode::IneligibleReplica));
        let new = asked(&[member(1, 7), member(2, 8)]);
        assert!(code(&new, &brokers).is_ok());
        brokers.set_fenced(NodeId(2), true);
        assert_eq!(code(&new, &brokers), Err(ErrorCode::IneligibleReplica));
    }

    #[test]
    fn a_leader_that_has_lost_something_hands_on_to_whoever_has_all_of_it() {
        let (mut it, mut brokers) = three();
        it.isr = nodes(&[1, 2]);
        let asked = |in_sync: &[i32]| AlterInSync {
            leader: member(1, 7),
            leader_epoch: LeaderEpoch(4),
            partition_epoch: 9,
            in_sync: in_sync.iter().map(|node| member(*node, 7)).collect(),
            recovering: false,
        };
        let hands_on = |it: &PartitionRecord, brokers: &Registered| {
            let mut in_sync = it.isr.clone();
            in_sync.retain(|node| *node != NodeId(1));
            let in_sync: Vec<i32> = in_sync.iter().map(|node| node.0).collect();
            alter(it, brokers, &asked(&in_sync))
        };
        let next = hands_on(&it, &brokers).expect("the other one has all of it");
        assert_eq!((next.leader, next.isr), (NodeId(2), nodes(&[2])));
        assert_eq!(
            (next.leader_epoch, next.partition_epoch),
            (LeaderEpoch(5), 10)
        );
        let late = alter(&it, &brokers, &asked(&[3]));
        assert_eq!(late, Err(ErrorCode::InvalidRequest), "it has not all of it");
        // Away, but it comes back with what it had.
        brokers.set_fenced(NodeId(2), true);
        let next = hands_on(&it, &brokers).expect("the other one has all of it");
        assert_eq!(
            (next.leader, next.isr.clone()),
            (NodeId::NOBODY, nodes(&[2]))
        );
        assert_eq!(next.leader_epoch, LeaderEpoch(5));
        brokers.set_fenced(NodeId(2), false);
        let led = unfenced(&next, &brokers, Eligible::InSync).expect("it leads");
        assert_eq!((led.leader, led.leader_epoch), (NodeId(2), LeaderEpoch(6)));
        // Nobody else has anything.
        let mut wiped = process(2, 8);
        wiped.directories[0].id = DirectoryId([9; 16]);
        brokers.register(wiped).expect("a later one");
        let stays = Err(ErrorCode::EligibleLeadersNotAvailable);
        assert_eq!(hands_on(&it, &brokers), stays);
        it.isr = nodes(&[1]);
        assert_eq!(hands_on(&it, &brokers), stays);
    }

    #[test]
    fn the_first_replica_leads_again_when_it_is_alive_and_in_sync() {
        let (mut it, mut brokers) = three();
        assert_eq!(preferred(&it, &brokers), None, "it does");
        fence(&mut it, &mut brokers, 1);
        assert_eq!(it.leader, NodeId(2));
        assert_eq!(preferred(&it, &brokers), None, "it is gone");
        brokers.set_fenced(NodeId(1), false);
        assert_eq!(preferred(&it, &brokers), None, "it is not in sync");
        it.isr = nodes(&[2, 3, 1]);
        let next = preferred(&it, &brokers).expect("it may");
        assert_eq!(
            (next.leader, next.leader_epoch),
            (NodeId(1), LeaderEpoch(6))
        );
        assert_eq!(
            (next.partition_epoch, next.isr),
            (it.partition_epoch + 1, it.isr)
        );
    }

    /// Otherwise the copy would let in a member that has not what was committed without it meanwhile.
    #[test]
    fn what_is_refused_for_its_members_is_refused_for_every_copy_of_it() {
        let (it, mut brokers) = three();
        brokers.set_fenced(NodeId(3), true);
        let asked = AlterInSync {
            leader: member(1, 7),
            leader_epoch: LeaderEpoch(4),
            partition_epoch: 9,
            in_sync: [1, 2, 3].map(|node| member(node, 7)).into(),
            recovering: false,
        };
        let refused = alter(&it, &brokers, &asked);
        assert_eq!(refused, Err(ErrorCode::IneligibleReplica));
        let next = void_asked(&it);
        assert_eq!((next.partition_epoch, &next.isr), (10, &it.isr));
        brokers.set_fenced(NodeId(3), false);
        let late = alter(&next, &brokers, &asked);
        assert_eq!(late, Err(ErrorCode::InvalidUpdateVersion));
    }

    /// All were down, and the first that is back has a damaged copy: the next one registers before that has said so,
    /// and is taken out of the ISR, though it has everything.
    #[test]
    fn a_leader_that_has_begun_nothing_hands_on_to_who_was_taken_out_of_the_isr_since() {
        let (mut it, mut brokers) = three();
        it.isr = nodes(&[1, 2, 3]);
        fence(&mut it, &mut brokers, 2);
        brokers.register(process(2, 8)).expect("a later one");
        fence(&mut it, &mut brokers, 3);
        assert_eq!((it.leader, it.isr.clone()), (NodeId(1), nodes(&[1])));
        let asked = |it: &PartitionRecord, in_sync: &[NodeProcess]| AlterInSync {
            leader: member(1, 7),
            leader_epoch: it.leader_epoch,
            partition_epoch: it.partition_epoch,
            in_sync: in_sync.to_vec(),
            recovering: false,
        };
        let others = [member(2, 8), member(3, 7)];
        let next = alter(&it, &brokers, &asked(&it, &others)).expect("they have all of it");
        assert_eq!(
            (next.leader, next.isr.clone()),
            (NodeId::NOBODY, nodes(&[2, 3]))
        );
        assert!(next.elections.left.is_empty(), "it is of the epoch before");
        brokers.set_fenced(NodeId(3), false);
        let next = alter(&it, &brokers, &asked(&it, &others)).expect("they have all of it");
        assert_eq!((next.leader, next.isr), (NodeId(3), nodes(&[2, 3])));
        // One that has begun its epoch may have committed something without them.
        let begun = alter(&it, &brokers, &asked(&it, &[member(1, 7)])).expect("it may");
        assert_eq!(begun.partition_epoch, it.partition_epoch + 1);
        let late = alter(&begun, &brokers, &asked(&begun, &others));
        assert_eq!(late, Err(ErrorCode::InvalidRequest));
        let alone = alter(&begun, &brokers, &asked(&begun, &[]));
        assert_eq!(alone, Err(ErrorCode::EligibleLeadersNotAvailable));
        // Nor does it count what was so in an epoch before.
        let mut later = it.clone();
        fence(&mut later, &mut brokers, 1);
        assert_eq!(
            (later.leader, later.isr.clone()),
            (NodeId::NOBODY, nodes(&[1]))
        );
        assert!(later.elections.left.is_empty());
    }

    /// A process of the leader's node is registered, and what follows from its predecessor's end is not decided yet:
    /// that one has led in this epoch, and committed without whoever was taken out of the ISR.
    #[test]
    fn who_has_not_returned_hands_on_nothing_of_its_predecessors_epoch() {
        let (mut it, mut brokers) = three();
        fence(&mut it, &mut brokers, 3);
        assert_eq!((it.leader, it.isr.clone()), (NodeId(1), nodes(&[1, 2])));
        assert_eq!(
            it.elections.left,
            nodes(&[3]),
            "it asks for nothing meanwhile"
        );
        brokers.register(process(1, 8)).expect("a later one");
        brokers.set_fenced(NodeId(3), false);
        for others in [vec![member(2, 7), member(3, 7)], Vec::new()] {
            let asked = AlterInSync {
                leader: member(1, 8),
                leader_epoch: it.leader_epoch,
                partition_epoch: it.partition_epoch,
                in_sync: others,
                recovering: false,
            };
            let refused = alter_in_sync(&it, &brokers, &asked, Eligible::Any);
            assert_eq!(refused, Err(ErrorCode::StaleBrokerEpoch));
        }
    }

    #[test]
    fn what_an_unclean_election_allowed_is_not_allowed_in_a_later_epoch() {
        let (mut it, mut brokers) = three();
        it.isr = nodes(&[1]);
        fence(&mut it, &mut brokers, 1);
        it = elect_unclean(&it, &brokers).expect("somebody is alive");
        assert_eq!((it.leader, it.elections.recovering), (NodeId(2), true));
        fence(&mut it, &mut brokers, 2);
        brokers.set_fenced(NodeId(2), false);
        it = unfenced(&it, &brokers, Eligible::InSync).expect("it is back");
        let asked = AlterInSync {
            leader: member(2, 7),
            leader_epoch: it.leader_epoch,
            partition_epoch: it.partition_epoch,
            in_sync: Vec::new(),
            recovering: false,
        };
        let nobody = Err(ErrorCode::EligibleLeadersNotAvailable);
        assert_eq!(alter(&it, &brokers, &asked), nobody);
    }

    #[test]
    fn one_that_is_not_in_sync_leads_only_where_that_is_allowed_and_nobody_else_can() {
        let (mut it, mut brokers) = three();
        it.isr = nodes(&[1, 2]);
        brokers.set_fenced(NodeId(1), true);
        let next = fenced(&it, &brokers, NodeId(1), Eligible::Any).expect("it is lost");
        assert_eq!((next.leader, next.isr), (NodeId(2), nodes(&[2])));
        assert_eq!(next.elections, Elections::default(), "that one was in sync");
        it.isr = nodes(&[1]);
        let next = fenced(&it, &brokers, NodeId(1), Eligible::InSync).expect("it is lost");
        assert_eq!(
            (next.leader, next.isr.clone()),
            (NodeId::NOBODY, nodes(&[1]))
        );
        assert_eq!(unfenced(&next, &brokers, Eligible::InSync), None);
        let later = unfenced(&next, &brokers, Eligible::Any).expect("it is allowed by now");
        let next = fenced(&it, &brokers, NodeId(1), Eligible::Any).expect("it is lost");
        for (next, epoch) in [(next, 5), (later, 6)] {
            assert_eq!((next.leader, next.isr), (NodeId(2), nodes(&[2])));
            assert_eq!(next.leader_epoch, LeaderEpoch(epoch));
            let unclean = Some(LeaderEpoch(epoch));
            assert_eq!(
                (next.elections.recovering, next.elections.unclean),
                (true, unclean)
            );
        }
    }

    #[test]
    fn a_leader_that_is_recovering_is_alone_until_it_says_that_it_has() {
        let (mut it, mut brokers) = three();
        it.isr = nodes(&[1]);
        brokers.set_fenced(NodeId(1), true);
        it = fenced(&it, &brokers, NodeId(1), Eligible::Any).expect("it is lost");
        let asked = |it: &PartitionRecord, in_sync: &[i32], recovering| AlterInSync {
            leader: member(2, 7),
            leader_epoch: it.leader_epoch,
            partition_epoch: it.partition_epoch,
            in_sync: in_sync.iter().map(|node| member(*node, 7)).collect(),
            recovering,
        };
        let refused = alter(&it, &brokers, &asked(&it, &[2, 3], true));
        assert_eq!(refused, Err(ErrorCode::InvalidRequest));
        assert_eq!(
            alter(&it, &brokers, &asked(&it, &[2], true)),
            Ok(it.clone())
        );
        let next = alter(&it, &brokers, &asked(&it, &[2, 3], false)).expect("it has");
        assert_eq!(
            (next.elections.recovering, &next.isr),
            (false, &nodes(&[2, 3]))
        );
        let unclean = Some(LeaderEpoch(5));
        assert_eq!(
            next.elections.unclean, unclean,
            "who comes back later has to know"
        );
        let again = alter(&next, &brokers, &asked(&next, &[2], true));
        assert_eq!(again, Err(ErrorCode::InvalidRequest));
    }

    /// Each has its turn once: a partition without a good copy does not go round.
    #[test]
    fn where_something_may_be_lost_one_behind_a_leader_that_cannot_lead_does() {
        let (mut it, brokers) = three();
        it.isr = nodes(&[1]);
        let alone = |it: &PartitionRecord| AlterInSync {
            leader: brokers.member(it.leader).expect("it leads"),
            leader_epoch: it.leader_epoch,
            partition_epoch: it.partition_epoch,
            in_sync: Vec::new(),
            recovering: false,
        };
        let nobody = Err(ErrorCode::EligibleLeadersNotAvailable);
        assert_eq!(alter(&it, &brokers, &alone(&it)), nobody);
        for (leader, eligible) in [(2, Eligible::Any), (3, Eligible::InSync)] {
            let next = alter_in_sync(&it, &brokers, &alone(&it), eligible);
            it = next.expect("the next one is alive");
            assert_eq!((it.leader, &it.isr), (NodeId(leader), &nodes(&[leader])));
            assert!(it.elections.recovering);
        }
        let last = alter_in_sync(&it, &brokers, &alone(&it), Eligible::Any);
        assert_eq!(last, nobody);
    }
}
