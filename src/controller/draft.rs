//! What the deciders work on: the image as it will be, and the records that
//! bring it there. A draft that is dropped has changed nothing, which is all
//! there is to `validate_only`.
//!
//! A decider only says what is to be done; it is done some records at a time, before the next decider looks.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::delta::Delta;
use super::image::{Image, ReplayError};
use super::new_partitions::NewPartitions;
use super::placement::Placement;
use super::record::MetadataRecord;
use super::record_list::RecordList;
use super::replaying::Replaying;
use crate::base::limits::RECORDS_PER_CHANGE_MAX;
use crate::base::{ErrorCode, Refused, Rng, StoreId};
use crate::config::BrokerConfig;

/// A change of the metadata in the making.
#[derive(Clone, Debug)]
pub struct Draft {
    replaying: Replaying,
    /// Where partitions go, from the first one on that is placed.
    placement: Option<Placement>,
    list: RecordList,
    partitions: BTreeMap<StoreId, usize>,
    /// What is decided and not in the image yet, in its order, and how many records that is.
    coming: VecDeque<Coming>,
    records: usize,
}

#[derive(Clone, Debug)]
enum Coming {
    Record(MetadataRecord),
    Partitions(NewPartitions),
}

/// A change that is whole: decided records as one entry of the metadata log, so that all of them count or none.
#[derive(Clone, Debug)]
pub struct Change {
    /// The image with it.
    pub image: Image,
    /// What is different.
    pub delta: Delta,
    /// The records: a [`RecordList`].
    pub records: Bytes,
    /// How many partitions it puts into stores of this node.
    pub partitions: BTreeMap<StoreId, usize>,
}

impl Change {
    /// These records, all at once.
    ///
    /// # Errors
    /// One does not fit.
    pub fn new(
        image: &Image,
        records: impl IntoIterator<Item = MetadataRecord>,
    ) -> Result<Self, ReplayError> {
        let mut draft = Draft::new(image);
        for record in records {
            draft.replay(&record)?;
        }
        Ok(draft.into_change())
    }
}

impl Draft {
    /// Starts from this image.
    #[must_use]
    pub fn new(image: &Image) -> Self {
        Self {
            replaying: Replaying::new(image.clone()),
            placement: None,
            list: RecordList::default(),
            partitions: BTreeMap::new(),
            coming: VecDeque::new(),
            records: 0,
        }
    }

    /// The image with the records so far.
    #[must_use]
    pub const fn image(&self) -> &Image {
        &self.replaying.image
    }

    /// Whether nothing is changed.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// How many records were added.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.records
    }

    /// Whether a change of so many records, or one of any number that is the first, may be added.
    ///
    /// # Errors
    /// POLICY_VIOLATION, as in Kafka, where the whole request gets it.
    pub fn has_room(&self, records: usize) -> Result<(), Refused> {
        if self.records == 0 || self.records + records <= RECORDS_PER_CHANGE_MAX {
            return Ok(());
        }
        let message = "Unable to perform excessively large batch operation.";
        Err(Refused::because(ErrorCode::PolicyViolation, message))
    }

    /// Adds a record.
    pub fn push(&mut self, record: MetadataRecord) {
        self.records += 1;
        self.coming.push_back(Coming::Record(record));
    }

    /// Adds partitions to a topic.
    pub fn push_partitions(&mut self, new: NewPartitions) {
        self.records += new.len();
        self.coming.push_back(Coming::Partitions(new));
    }

    /// Takes some of what was added into the image, as long as there is something `left` of a slice; a record costs
    /// one.
    ///
    /// # Panics
    /// If a record does not fit: the decider decided against another image than this one, a bug.
    pub fn go_on(&mut self, left: &mut usize) {
        while *left > 0 {
            let record = match self.coming.front_mut() {
                None => return,
                Some(Coming::Partitions(new)) => {
                    let image = &self.replaying.image;
                    let placement = self.placement.get_or_insert_with(|| Placement::new(image));
                    match new.next(image, placement) {
                        Some(record) => record,
                        None => {
                            self.coming.pop_front();
                            continue;
                        }
                    }
                }
                Some(Coming::Record(_)) => match self.coming.pop_front() {
                    Some(Coming::Record(record)) => record,
                    _ => continue,
                },
            };
            *left -= 1;
            if let Err(error) = self.replay(&record) {
                panic!("{error}");
            }
        }
    }

    /// Whether all that was added is in the image.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.coming.is_empty()
    }

    fn replay(&mut self, record: &MetadataRecord) -> Result<(), ReplayError> {
        self.count_new(record);
        self.replaying.replay(record)?;
        // The first record of a cluster comes before the one that says the level.
        let level = self.replaying.image.features.max(1);
        self.list.push(record, level);
        Ok(())
    }

    /// Counts a partition to the stores of this node that it is new to.
    fn count_new(&mut self, record: &MetadataRecord) {
        let MetadataRecord::Partition(partition) = record else {
            return;
        };
        let image = &self.replaying.image;
        let topic = image.topic_by_id(partition.topic);
        let known = topic.and_then(|topic| topic.partition(partition.index));
        let stores = (0..).map(StoreId).zip(image.here());
        for (store, here) in stores {
            let was_there = known.is_some_and(|known| known.directories.contains(here));
            if partition.directories.contains(here) && !was_there {
                *self.partitions.entry(store).or_default() += 1;
            }
        }
    }

    /// The change, when all is in the image.
    #[must_use]
    pub fn into_change(self) -> Change {
        debug_assert!(self.is_settled());
        Change {
            image: self.replaying.image,
            delta: self.replaying.delta,
            records: self.list.into_bytes(),
            partitions: self.partitions,
        }
    }

    /// Takes all of what was added into the image.
    #[cfg(test)]
    pub fn settle(&mut self) {
        self.go_on(&mut usize::MAX.clone());
    }
}

/// What the deciders need to know besides the image.
#[derive(Debug)]
pub struct Terms<'a> {
    /// Defaults and limits.
    pub config: &'a BrokerConfig,
    /// For topic ids.
    pub rng: &'a mut Rng,
    /// Nodes that have a vote about the metadata.
    pub voters: usize,
}
