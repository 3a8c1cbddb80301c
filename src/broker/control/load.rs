//! The start of the control shard: it reads the metadata log, which every shard gets as an image.

use bytes::Bytes;

use super::metadata::Metadata;
use crate::base::{Offset, TopicId};
use crate::broker::fatal;
use crate::broker::fx::Fx;
use crate::broker::own::reader::LogReader;
use crate::broker::own::run::BatchRun;
use crate::broker::owner::Owner;
use crate::broker::owner::settings::log_config;
use crate::broker::owner::work::Worker;
use crate::config::{BrokerConfig, TopicConfig};
use crate::controller::{METADATA_LOG, MetadataRecord};
use crate::store::LogLabel;

/// See the module.
#[derive(Debug)]
pub struct Load {
    pub reader: LogReader,
    at: Offset,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            reader: LogReader::new(Worker::Metadata),
            at: Offset(0),
        }
    }
}

impl Load {
    /// Opens the metadata log, or makes it on the first start.
    pub fn start(&mut self, config: &BrokerConfig, owner: &mut Owner, fx: &mut Fx<'_>) {
        let Some(slot) = owner.slot_of(crate::base::StoreId(0)) else {
            fx.out.push(fatal::metadata(
                "store-0, which holds the metadata log, is missing".into(),
            ));
            return;
        };
        let topic = TopicConfig::effective(config, &Default::default());
        let mut config = log_config(&topic, config);
        // The history of the cluster is kept whole: the image is replayed from it.
        config.retention_ms = -1;
        config.retention_bytes = -1;
        // A decided change has to fit, however short the segments of topics are.
        config.segment_bytes = u64::MAX;
        owner.open_log(fx.now, slot, METADATA_LOG, metadata_label(), config);
        owner.lead_alone(METADATA_LOG);
        let Some(partition) = owner.partitions.get(&METADATA_LOG) else {
            fx.out.push(fatal::metadata(format!(
                "log {METADATA_LOG} of store-0 is not the metadata log"
            )));
            return;
        };
        self.at = partition.log.start_offset();
        self.reader.load(owner, METADATA_LOG, self.at, fx);
    }

    /// Takes what was read. Returns whether that was all.
    ///
    /// # Errors
    /// What is wrong with the metadata.
    pub fn read(
        &mut self,
        metadata: &mut Metadata,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) -> Result<bool, String> {
        while let Some((_, result)) = self.reader.next() {
            let result = result.map_err(|error| format!("errno {}", error.errno));
            if self.read_part(result, metadata, owner, fx)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn read_part(
        &mut self,
        result: Result<Bytes, String>,
        metadata: &mut Metadata,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) -> Result<bool, String> {
        let at = self.at;
        let end = result.and_then(|bytes| {
            let mut run = BatchRun::new(&bytes, at);
            run.each(&mut |_, value, _| {
                let value = value.ok_or("a metadata record without a value")?;
                let record = MetadataRecord::decode(value).map_err(|error| error.to_string())?;
                metadata.replay(&record)
            })?;
            Ok(run.next)
        });
        let end = end.map_err(|why| {
            format!(
                "the metadata log (log {METADATA_LOG} of store-0) cannot be understood from offset {at} on: {why}"
            )
        })?;
        if end > at {
            self.at = end;
            self.reader.load(owner, METADATA_LOG, end, fx);
            return Ok(false);
        }
        Ok(true)
    }
}

/// What the metadata log is of.
pub fn metadata_label() -> LogLabel {
    LogLabel {
        topic: "__cluster_metadata".into(),
        // Kafka's fixed id of that topic.
        topic_id: TopicId([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
        partition: 0,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::broker::control::testing::{NOW, Site, batch, directories, topic, unreadable};
    use crate::controller::FEATURE_LEVEL;
    use crate::controller::testing::partition;
    use crate::log::LogConfig;
    use crate::record::{BatchBuilder, Codec};

    struct Fixture {
        site: Site,
        load: Load,
        metadata: Metadata,
    }

    impl Fixture {
        fn new() -> Self {
            let config = Arc::new(BrokerConfig::default());
            Self {
                site: Site::new(),
                load: Load::default(),
                metadata: Metadata::new(config, 1, directories(1), 1),
            }
        }

        fn write(&mut self, batch: Bytes) {
            let written = self
                .site
                .act(|owner, fx| owner.append_internal(fx.now, METADATA_LOG, batch));
            written.expect("written");
        }

        /// A start: as far as the metadata is read.
        fn start(&mut self) -> Result<(), String> {
            self.site.restart();
            let (load, metadata) = (&mut self.load, &mut self.metadata);
            let config = Arc::clone(&metadata.config);
            self.site.act(|owner, fx| load.start(&config, owner, fx));
            let all = self.site.act(|owner, fx| load.read(metadata, owner, fx))?;
            assert!(all, "it is read in one go");
            Ok(())
        }
    }

    fn decided(records: Vec<MetadataRecord>) -> Bytes {
        let mut batch = BatchBuilder::new(Codec::None, NOW.wall_ms);
        for record in records {
            let value = record.encode(FEATURE_LEVEL);
            batch.push(NOW.wall_ms, None, Some(&value), &[]);
        }
        batch.build()
    }

    #[test]
    fn a_first_start_makes_the_metadata_log_and_finds_nothing() {
        let mut f = Fixture::new();
        f.site.owner.partitions.clear();
        f.start().unwrap();
        assert_eq!(f.metadata.image.version, 0);
        assert!(f.site.owner.partitions.contains_key(&METADATA_LOG));
    }

    #[test]
    fn what_was_decided_is_replayed() {
        let mut f = Fixture::new();
        f.write(decided(vec![topic(1), partition(1, 0, 1)]));
        f.write(decided(vec![topic(2)]));
        f.start().unwrap();
        let image = &f.metadata.image;
        assert_eq!((image.version, image.next_log), (3, 2));
        assert!(image.topic("topic-1").is_some() && image.topic("topic-2").is_some());
    }

    #[test]
    fn metadata_that_cannot_be_understood_refuses_the_start() {
        let no_record = batch(b"", b"\xff what is this");
        // A removal of what is not there.
        let no_sense = decided(vec![MetadataRecord::RemoveTopic {
            id: TopicId([9; 16]),
        }]);
        for bad in [no_record, no_sense, unreadable()] {
            let mut f = Fixture::new();
            f.write(decided(vec![topic(1)]));
            f.write(bad);
            let why = f.start().unwrap_err();
            assert!(why.contains("cannot be understood"), "{why}");
        }
    }

    #[test]
    fn a_start_without_a_log_for_the_metadata_is_refused() {
        let mut other = Fixture::new();
        let owner = &mut other.site.owner;
        owner.partitions.clear();
        owner.open_log(
            NOW,
            0,
            METADATA_LOG,
            LogLabel::default(),
            LogConfig::default(),
        );
        other.site.restart();
        let mut none = Fixture::new();
        none.site.restart();
        none.site.owner.slots.clear();
        for (mut f, what) in [(other, "is not the metadata log"), (none, "is missing")] {
            let (load, config) = (&mut f.load, &f.metadata.config);
            f.site.act(|owner, fx| load.start(config, owner, fx));
            let fatal = f.site.fatal();
            assert!(fatal.is_some_and(|why| why.contains(what)), "{what}");
        }
    }
}
