//! Changes of ISRs that this node wants as a leader: asked of the controller some at a time, by way of the control
//! shard. What has come of them the metadata say. Until they do, or it is certain that nothing came of them, those that
//! are asked for count as in sync, and so do those that are to leave (KIP-497).

use super::Replication;
use crate::base::{ErrorCode, LogId, Mono, NodeProcess, ShardId, TopicId};
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
        let number = self.altering.call(logs);
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
        let open = owner.partitions.get_mut(&log)?;
        let (led, leader) = (self.led.get_mut(&log)?, open.leader.as_mut()?);
        let partition_epoch = leader.partition_epoch();
        let before = led.asks_for.take();
        let before = before.filter(|(epoch, _)| *epoch == partition_epoch);
        let wanted = || leader.wanted(&open.log, led.silent(now));
        let set = before.map(|(_, set)| set).or_else(wanted)?;
        let members = set.iter().map(|node| match *node == me.node {
            true => Some(me),
            false => led.member(*node).or_else(|| image.brokers.member(*node)),
        });
        let in_sync: Option<Vec<NodeProcess>> = members.collect();
        let alter = AlterInSync {
            leader: me,
            leader_epoch: leader.epoch(),
            partition_epoch,
            in_sync: in_sync?,
        };
        leader.ask(set.clone());
        led.asks_for = Some((partition_epoch, set));
        let label = open.log.label();
        Some((label.topic_id, label.partition, alter))
    }

    /// What has come of a call. What was done the metadata say; only of what was certainly not done the next one may
    /// ask for something else.
    pub fn altered(
        &mut self,
        number: u64,
        answer: Result<Called, String>,
        owner: &mut Owner,
        now: Mono,
    ) {
        let logs = self.altering.called(number);
        let answers = answer.and_then(altered);
        let answers = answers.unwrap_or_else(|why| {
            tracing::debug!("what has become of changes of ISRs is not known: {why}");
            Vec::new()
        });
        for log in logs {
            let label = owner.partitions.get(&log).map(|open| open.log.label());
            let told = answers.iter().find(|(topic, index, _)| {
                label.is_some_and(|label| (label.topic_id, label.partition) == (*topic, *index))
            });
            match told.map(|(.., told)| told) {
                // The metadata say it, or say why: by what they have become since.
                Some(
                    Ok(())
                    | Err(
                        ErrorCode::InvalidUpdateVersion
                        | ErrorCode::FencedLeaderEpoch
                        | ErrorCode::StaleBrokerEpoch
                        | ErrorCode::UnknownTopicId,
                    ),
                ) => {}
                Some(Err(ErrorCode::IneligibleReplica)) if !self.is_uncertain(log) => {
                    if let Some(led) = self.led.get_mut(&log) {
                        led.asks_for = None;
                    }
                    owner.alter_refused(log);
                    self.altering.later(now, log);
                }
                _ => {
                    if let Some(led) = self.led.get_mut(&log) {
                        led.is_uncertain = true;
                    }
                    self.altering.later(now, log);
                }
            }
        }
    }

    /// Whether an earlier copy of what was asked for may be done still.
    fn is_uncertain(&self, log: LogId) -> bool {
        self.led.get(&log).is_some_and(|led| led.is_uncertain)
    }
}
