//! Changes of ISRs that this node wants as a leader: asked of the controller some at a time, by way of the control shard.
//! What has come of them the metadata say. Until they do, or it is certain that nothing came of them, those that are
//! asked for count as in sync, and so do those that are to leave (KIP-497).

use std::collections::BTreeMap;

use super::Replication;
use crate::base::limits::{ALTERS_PER_CALL_MAX, REPLICA_ALTERS_AGAIN_MS};
use crate::base::{ErrorCode, IdSet, LogId, Mono, NodeProcess, ShardId, TopicId};
use crate::broker::admin::{alter_partition_call, altered};
use crate::broker::fx::Fx;
use crate::broker::msg::{Called, Msg, ReqRef};
use crate::broker::owner::Owner;
use crate::controller::{AlterInSync, Image};

/// See the module.
#[derive(Debug, Default)]
pub struct Altering {
    /// Whose ISR is to be looked at.
    wanted: IdSet<LogId>,
    /// Those that are asked for again then: it is not known what has come of them.
    again: BTreeMap<Mono, Vec<LogId>>,
    /// What the call that is under way asks for, and its number.
    calling: Option<(u64, Vec<LogId>)>,
    calls: u64,
}

impl Altering {
    /// The ISR of a partition may have to be changed.
    pub fn look_at(&mut self, log: LogId) {
        self.wanted.insert(log);
    }

    /// The next ones to be looked at, if no call is under way.
    pub fn take(&mut self, now: Mono) -> Vec<LogId> {
        while let Some(first) = self.again.first_entry()
            && *first.key() <= now
        {
            self.wanted.extend(first.remove());
        }
        if self.calling.is_some() {
            return Vec::new();
        }
        let some = self.wanted.iter().copied().take(ALTERS_PER_CALL_MAX);
        let some: Vec<LogId> = some.collect();
        for log in &some {
            self.wanted.remove(log);
        }
        some
    }

    /// These are asked for: the number of the call.
    pub fn call(&mut self, logs: Vec<LogId>) -> u64 {
        self.calls += 1;
        self.calling = Some((self.calls, logs));
        self.calls
    }

    /// A call is over: what it has asked for.
    pub fn called(&mut self, number: u64) -> Vec<LogId> {
        let calling = self.calling.take_if(|(calling, _)| *calling == number);
        calling.map_or_else(Vec::new, |(_, logs)| logs)
    }

    /// Nothing certain has come of this one: it is asked for again in a while.
    pub fn later(&mut self, now: Mono, log: LogId) {
        let at = now.plus_ms(REPLICA_ALTERS_AGAIN_MS);
        self.again.entry(at).or_default().push(log);
    }

    /// When something is due.
    pub fn deadline(&self, now: Mono) -> Mono {
        if self.calling.is_none() && !self.wanted.is_empty() {
            return now;
        }
        let again = self.again.first_key_value();
        again.map_or(Mono::NEVER, |(at, _)| *at)
    }
}

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
