//! Changes of ISRs that this node wants as a leader: asked of the controller some at a time, by way of the control
//! shard. What has come of them the metadata say. Until they do, or it is certain that nothing came of them, those that
//! are asked for count as in sync, and so do those that are to leave (KIP-497).

use std::collections::BTreeMap;

use super::Replication;
use crate::base::{ErrorCode, LogId, Mono, NodeId, NodeProcess, ShardId, TopicId};
use crate::broker::admin::{alter_partition_call, altered};
use crate::broker::fx::Fx;
use crate::broker::msg::{Called, Msg, ReqRef};
use crate::broker::owner::Owner;
use crate::controller::{AlterInSync, Image};

impl Replication {
    /// Asks for some of the ISRs that are wanted.
    pub(super) fn alter_some(&mut self, image: &Image, owner: &mut Owner, fx: &mut Fx<'_>) {
        let (mut logs, mut alters) = (Vec::new(), Vec::new());
        for log in self.altering.take(fx.now.mono) {
            if let Some(alter) = self.alter(log, image, owner, fx.now.mono) {
                logs.push(log);
                alters.push(alter);
            }
        }
        if logs.is_empty() {
            return;
        }
        let number = self.altering.call(fx.now.mono, logs);
        let req = ReqRef::of_replicas(fx.me, number);
        let call = alter_partition_call(&alters);
        fx.send(ShardId(0), Msg::Control { req, call });
    }

    /// What to ask for a partition, if it is led still: what was asked for before, or what is wanted.
    fn alter(
        &mut self,
        log: LogId,
        image: &Image,
        owner: &mut Owner,
        now: Mono,
    ) -> Option<(TopicId, i32, AlterInSync)> {
        let me = owner.roles.me()?;
        if owner.has_lost(log) {
            return hands_on(log, image, owner);
        }
        let wanted = self.wanted(log, image, owner, now);
        let open = owner.partitions.get_mut(&log)?;
        let (led, leader) = (self.led.get_mut(&log)?, open.leader.as_mut()?);
        let partition_epoch = leader.partition_epoch();
        let before = led.asks_for.as_ref();
        let before = before.filter(|(epoch, _)| *epoch == partition_epoch);
        let in_sync = match before {
            Some((_, in_sync)) => in_sync.clone(),
            None => {
                let member = |node: &NodeId| match *node == me.node {
                    true => Some(me),
                    false => led.member(*node).or_else(|| image.brokers.member(*node)),
                };
                let members = wanted?.iter().map(member).collect::<Option<Vec<_>>>()?;
                for node in led.nodes() {
                    let stays = members.iter().any(|member| member.node == node);
                    if !stays && leader.is_in_sync(node) == Some(true) {
                        led.leaves(now, node);
                    }
                }
                leader.ask(members.iter().map(|member| member.node).collect());
                members
            }
        };
        led.asks_for = Some((partition_epoch, in_sync.clone()));
        let alter = AlterInSync {
            leader: me,
            leader_epoch: leader.epoch(),
            partition_epoch,
            in_sync,
            recovering: false,
        };
        let label = open.log.label();
        Some((label.topic_id, label.partition, alter))
    }

    /// What has come of a call. Whatever it is, the metadata say it: what is refused for good is a newer state of the
    /// partition, too. Where nothing certain has come of it the same is asked for again.
    pub fn altered(
        &mut self,
        number: u64,
        answer: Result<Called, String>,
        owner: &Owner,
        now: Mono,
    ) {
        let logs = self.altering.called(number);
        let answers = answer.and_then(altered).unwrap_or_else(|why| {
            tracing::debug!("what has become of changes of ISRs is not known: {why}");
            Vec::new()
        });
        let told = answers.into_iter();
        let told = told.map(|(topic, index, told)| ((topic, index), told));
        let told: BTreeMap<(TopicId, i32), Result<(), ErrorCode>> = told.collect();
        for log in logs {
            let told = owner.place_of(log).and_then(|place| told.get(&place));
            if matches!(told, None | Some(Err(ErrorCode::NotController))) {
                self.altering.later(now, log);
            }
        }
    }
}

/// What to ask for a partition that this node is to lead and cannot, for something of it is lost here: that it is in
/// sync no more, and one of those leads that were when its epoch began. Of the last one nothing is given up, unless
/// elections are allowed by which something is lost: the controller knows.
fn hands_on(log: LogId, image: &Image, owner: &Owner) -> Option<(TopicId, i32, AlterInSync)> {
    let leader = owner.roles.me()?;
    let (topic, index) = owner.place_of(log)?;
    let partition = image.topic_by_id(topic)?.partition(index)?;
    if partition.leader != leader.node || partition.log != log {
        return None;
    }
    let left = partition.left().iter();
    let left = left.filter(|node| !partition.isr.contains(node));
    let others = partition.isr.iter().filter(|node| **node != leader.node);
    let in_sync: Vec<NodeProcess> = others
        .chain(left)
        .filter_map(|node| image.brokers.member(*node))
        .collect();
    let alter = AlterInSync {
        leader,
        leader_epoch: partition.leader_epoch,
        partition_epoch: partition.partition_epoch,
        in_sync,
        recovering: false,
    };
    (partition.replicas.len() > 1).then_some((topic, index, alter))
}
