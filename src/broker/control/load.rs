//! The start of the control shard: it reads the metadata log, gives the image
//! to every shard, then reads `__consumer_offsets`. Clients are let in after that.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;

use super::groups::OFFSETS_TOPIC;
use super::reader::LogReader;
use super::run::Run;
use crate::base::{LogId, Now, Offset, TopicId};
use crate::broker::control::Control;
use crate::broker::fx::Fx;
use crate::broker::io::Output;
use crate::broker::owner::Owner;
use crate::broker::owner::settings::log_config;
use crate::config::TopicConfig;
use crate::controller::{METADATA_LOG, MetadataRecord};
use crate::store::LogLabel;

/// How far the start has come.
#[derive(Debug, Default)]
pub struct Load {
    stage: Stage,
    pub reader: LogReader,
    /// Logs of `__consumer_offsets` still to be read.
    todo: VecDeque<(i32, LogId, Offset)>,
    at: Offset,
    /// Partitions of `__consumer_offsets` of which something was skipped.
    skipped: BTreeSet<i32>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Metadata,
    Offsets,
    Done,
}

impl Load {
    /// Whether clients may be served.
    pub fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }
}

impl Control {
    /// Opens the metadata log, or makes it on the first start.
    pub fn start(&mut self, now: Now, owner: &mut Owner, fx: &mut Fx<'_>) {
        let Some(slot) = owner.slot_of(crate::base::StoreId(0)) else {
            fx.out.push(crate::broker::fatal::metadata(
                "store-0, which holds the metadata log, is missing".into(),
            ));
            return;
        };
        let label = LogLabel {
            topic: "__cluster_metadata".into(),
            // Kafka's fixed id of that topic.
            topic_id: TopicId([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
            partition: 0,
        };
        let config = TopicConfig::effective(&self.config, &Default::default());
        let mut config = log_config(&config, &self.config);
        // The history of the cluster is kept whole: the image is replayed from it.
        config.retention_ms = -1;
        config.retention_bytes = -1;
        // A decided change has to fit, however short the segments of topics are.
        config.segment_bytes = u64::MAX;
        owner.open_log(now, slot, METADATA_LOG, label, config);
        self.load.at = owner.partitions[&METADATA_LOG].log.start_offset();
        self.load.reader.load(owner, METADATA_LOG, self.load.at, fx);
    }

    /// Takes what was read.
    pub fn loaded(&mut self, now: Now, owner: &mut Owner, fx: &mut Fx<'_>) {
        while let Some((log, result)) = self.load.reader.next() {
            let result = result.map_err(|error| format!("errno {}", error.errno));
            let outcome = match self.load.stage {
                Stage::Metadata => self.loaded_metadata(now, result, owner, fx),
                Stage::Offsets => {
                    self.loaded_offsets(now, log, result, owner, fx);
                    Ok(())
                }
                Stage::Done => Ok(()),
            };
            if let Err(why) = outcome {
                fx.out.push(crate::broker::fatal::metadata(why));
                return;
            }
        }
    }

    fn loaded_metadata(
        &mut self,
        now: Now,
        result: Result<Bytes, String>,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) -> Result<(), String> {
        let at = self.load.at;
        let end = result.and_then(|bytes| {
            let mut run = Run::new(&bytes, at);
            run.each(&mut |_, value, _| {
                let value = value.ok_or("a metadata record without a value")?;
                let record = MetadataRecord::decode(value).map_err(|error| error.to_string())?;
                self.replay(&record)
            })?;
            Ok(run.next)
        });
        let end = end.map_err(|why| {
            format!(
                "the metadata log (log {METADATA_LOG} of store-0) cannot be understood from offset {at} on: {why}"
            )
        })?;
        if end > at {
            self.load.at = end;
            self.load.reader.load(owner, METADATA_LOG, end, fx);
            return Ok(());
        }
        // Everything is read.
        self.load.stage = Stage::Offsets;
        let first_start = self.first_start()?;
        if first_start.is_empty() {
            self.publish_current(fx);
        } else {
            self.commit_quietly(now, first_start, owner, fx);
        }
        if let Some(topic) = self.image().topic(OFFSETS_TOPIC) {
            let logs = topic.partitions.iter();
            self.load.todo = (0..)
                .zip(logs)
                .map(|(i, p)| (i, p.log, Offset(0)))
                .collect();
        }
        Ok(())
    }

    /// The image is served here: the logs are open, so the offsets can be read.
    pub fn image_applied(&mut self, now: Now, owner: &mut Owner, fx: &mut Fx<'_>) {
        if self.load.stage == Stage::Offsets {
            self.load_next_offsets(now, owner, fx);
        }
    }

    fn load_next_offsets(&mut self, now: Now, owner: &mut Owner, fx: &mut Fx<'_>) {
        while let Some((partition, log, at)) = self.load.todo.front_mut() {
            if owner.is_damaged(*log) {
                let partition = *partition;
                self.load.todo.pop_front();
                self.lost_offsets(now, partition, owner);
                continue;
            }
            let bounds = owner
                .partitions
                .get(log)
                .map(|p| (p.log.start_offset(), p.log.high_watermark()));
            match bounds {
                Some((start, end)) if start < end && *at < end => {
                    *at = (*at).max(start);
                    let (log, at) = (*log, *at);
                    return self.load.reader.load(owner, log, at, fx);
                }
                _ => {
                    self.load.todo.pop_front();
                }
            }
        }
        self.load.stage = Stage::Done;
        let mut effects = Vec::new();
        self.groups.loaded(now, &mut effects);
        for partition in std::mem::take(&mut self.load.skipped) {
            self.rewrite_offsets(now, partition, owner, fx);
        }
        self.group_effects(now, effects, owner, fx);
        fx.out.push(Output::Ready);
    }

    fn loaded_offsets(
        &mut self,
        now: Now,
        log: LogId,
        result: Result<Bytes, String>,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) {
        let Some((partition, _, at)) = self.load.todo.front().copied() else {
            return;
        };
        // Behind what cannot be read, the log knows where some batch begins.
        let log = owner.partitions.get(&log).map(|p| &p.log);
        let known = |at| log.map_or((at, at), |log| (log.known_after(at), log.high_watermark()));
        let outcome = result.and_then(|bytes| self.replay_offsets(partition, &bytes, at, known));
        let next = outcome.or_else(|why| {
            let (next, _) = known(at);
            self.damaged_offsets(partition, at, next, &why)
                .map(|()| next)
        });
        match (next, self.load.todo.front_mut()) {
            (Ok(next), Some((_, _, front))) if next > at => *front = next,
            _ => {
                self.load.todo.pop_front();
            }
        }
        self.load_next_offsets(now, owner, fx);
    }

    /// Gives the coordinator what was read from `at` on. Returns where to go on, or what is wrong if that is
    /// not known. `known` says where behind an offset a batch begins, and where the log ends.
    fn replay_offsets(
        &mut self,
        partition: i32,
        bytes: &[u8],
        at: Offset,
        known: impl Fn(Offset) -> (Offset, Offset),
    ) -> Result<Offset, String> {
        let mut run = Run::new(bytes, at);
        loop {
            let groups = &mut self.groups;
            let outcome = run.each(&mut |key, value, timestamp_ms| {
                if let Some(key) = key {
                    // What the coordinator does not understand is a record of a later version: it stays.
                    if let Err(error) = groups.replay(partition, key, value, timestamp_ms) {
                        tracing::warn!("{OFFSETS_TOPIC}-{partition}: {error}");
                    }
                }
                Ok(())
            });
            let Err(why) = outcome else {
                return Ok(run.next);
            };
            let from = run.next;
            let (begins, end) = known(from);
            if !run.skip(begins, end) {
                // Whoever reads on from there is told what is wrong there.
                return if from > at { Ok(from) } else { Err(why) };
            }
            if self
                .damaged_offsets(partition, from, run.next, &why)
                .is_err()
            {
                return Ok(at);
            }
        }
    }

    /// Something of a partition of `__consumer_offsets` cannot be read. As in Kafka its groups are not served
    /// then, unless the operator wants to go on without.
    fn damaged_offsets(
        &mut self,
        partition: i32,
        from: Offset,
        next: Offset,
        why: &str,
    ) -> Result<(), Unreadable> {
        let place = self.place_of_offsets(partition);
        if self.config.millrace_groups_skip_damage {
            let last = Offset(next.0 - 1);
            tracing::error!(
                "{place} is damaged ({why}): offsets {from} to {last} were skipped, the commits in them are lost"
            );
            self.load.skipped.insert(partition);
            return Ok(());
        }
        tracing::error!(
            "{place} is damaged at offset {from} ({why}): its groups get NOT_COORDINATOR, all others are served. \
             `millracectl store check` says where the damage is. Restore the store from a copy, or start once \
             with millrace.groups.skip.damage=true to go on without the commits that cannot be read"
        );
        self.groups.fail(partition);
        Err(Unreadable)
    }

    /// A partition of `__consumer_offsets` is damaged as a whole.
    fn lost_offsets(&mut self, now: Now, partition: i32, owner: &mut Owner) {
        let place = self.place_of_offsets(partition);
        if self.config.millrace_groups_skip_damage
            && let Some(topic) = self.image.topic(OFFSETS_TOPIC)
        {
            tracing::error!("{place} is damaged as a whole: the commits in it are lost");
            return owner.recreate(now, topic, partition);
        }
        tracing::error!(
            "{place} is damaged as a whole: its groups get NOT_COORDINATOR, all others are served. Restore the \
             store from a copy, or start once with millrace.groups.skip.damage=true to go on without its commits"
        );
        self.groups.fail(partition);
    }

    fn place_of_offsets(&self, partition: i32) -> String {
        let topic = self.image().topic(OFFSETS_TOPIC);
        let store = topic.and_then(|t| t.partition(partition));
        let store = store.and_then(|p| p.store).unwrap_or_default();
        format!("{OFFSETS_TOPIC}-{partition} in store-{store}")
    }
}

/// A partition is not read on.
struct Unreadable;
