//! The start of the control shard: it reads the metadata log, gives the image
//! to every shard, then reads `__consumer_offsets`. Clients are let in after that.

use std::collections::VecDeque;

use bytes::Bytes;

use super::control::Control;
use super::control_groups::OFFSETS_TOPIC;
use super::owner::{Owner, log_config};
use super::{Fx, Output};
use crate::base::{LogId, Now, Offset, TopicId};
use crate::config::TopicConfig;
use crate::controller::{METADATA_LOG, MetadataRecord};
use crate::record;
use crate::store::LogLabel;

/// How far the start has come.
#[derive(Debug, Default)]
pub(super) struct Load {
    stage: Stage,
    /// Logs of `__consumer_offsets` still to be read.
    todo: VecDeque<(i32, LogId, Offset)>,
    at: Offset,
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
            fx.out.push(super::fatal::metadata(
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
        owner.load(METADATA_LOG, self.load.at, fx);
    }

    /// Takes what was read.
    pub fn loaded(&mut self, now: Now, owner: &mut Owner, fx: &mut Fx<'_>) {
        while let Some((log, result)) = owner.loaded.pop_front() {
            let bytes = match result {
                Ok(bytes) => bytes,
                Err(error) => {
                    let why = format!("log {log} cannot be read: errno {}", error.errno);
                    fx.out.push(super::fatal::metadata(why));
                    return;
                }
            };
            let outcome = match self.load.stage {
                Stage::Metadata => self.loaded_metadata(now, &bytes, owner, fx),
                Stage::Offsets => self.loaded_offsets(now, &bytes, owner, fx),
                Stage::Done => Ok(()),
            };
            if let Err(why) = outcome {
                fx.out.push(super::fatal::metadata(why));
                return;
            }
        }
    }

    fn loaded_metadata(
        &mut self,
        now: Now,
        bytes: &Bytes,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) -> Result<(), String> {
        let end = for_each_record(bytes, &mut |_, value, _| {
            let value = value.ok_or("a metadata record without a value")?;
            let record = MetadataRecord::decode(value).map_err(|error| error.to_string())?;
            self.replay(&record)
        })
        .map_err(|why| format!("the metadata log cannot be understood: {why}"))?;
        if let Some(end) = end {
            self.load.at = end;
            owner.load(METADATA_LOG, end, fx);
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
        while let Some((_, log, at)) = self.load.todo.front_mut() {
            let bounds = owner
                .partitions
                .get(log)
                .map(|p| (p.log.start_offset(), p.log.high_watermark()));
            match bounds {
                Some((start, end)) if start < end && *at < end => {
                    *at = (*at).max(start);
                    let (log, at) = (*log, *at);
                    return owner.load(log, at, fx);
                }
                _ => {
                    self.load.todo.pop_front();
                }
            }
        }
        self.load.stage = Stage::Done;
        let mut effects = Vec::new();
        self.groups.loaded(now, &mut effects);
        self.group_effects(now, effects, owner, fx);
        fx.out.push(Output::Ready);
    }

    fn loaded_offsets(
        &mut self,
        now: Now,
        bytes: &Bytes,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) -> Result<(), String> {
        let Some((partition, ..)) = self.load.todo.front().copied() else {
            return Ok(());
        };
        let groups = &mut self.groups;
        let end = for_each_record(bytes, &mut |key, value, timestamp_ms| {
            if let Some(key) = key {
                // What the coordinator does not understand is a record of a later version: it stays.
                if let Err(error) = groups.replay(partition, key, value, timestamp_ms) {
                    tracing::warn!("{OFFSETS_TOPIC}-{partition}: {error}");
                }
            }
            Ok(())
        })
        .map_err(|why| format!("{OFFSETS_TOPIC}-{partition} cannot be read: {why}"))?;
        match (end, self.load.todo.front_mut()) {
            (Some(end), Some((_, _, at))) => *at = end,
            _ => {
                self.load.todo.pop_front();
            }
        }
        self.load_next_offsets(now, owner, fx);
        Ok(())
    }
}

/// Takes key, value and timestamp of a record.
type Each<'a> = &'a mut dyn FnMut(Option<&[u8]>, Option<&[u8]>, i64) -> Result<(), String>;

/// Feeds every record of a run of batches to `each` and returns the offset that
/// follows, or `None` if there was no batch.
fn for_each_record(bytes: &Bytes, each: Each<'_>) -> Result<Option<Offset>, String> {
    /// The broker writes these batches itself, uncompressed: what could be written can be read.
    const OPENED_BYTES_MAX: usize = i32::MAX as usize;
    let mut end = None;
    for batch in record::batches(bytes) {
        let (info, batch) = batch.map_err(|error| error.to_string())?;
        if !record::check_crc(batch) {
            return Err(format!(
                "bad CRC in the batch at offset {}",
                info.base_offset
            ));
        }
        let records =
            record::records(batch, OPENED_BYTES_MAX).map_err(|error| error.to_string())?;
        for record in records {
            let record = record.map_err(|error| error.to_string())?;
            each(
                record.key.as_deref(),
                record.value.as_deref(),
                record.timestamp,
            )?;
        }
        end = Some(Offset(info.last_offset() + 1));
    }
    Ok(end)
}
