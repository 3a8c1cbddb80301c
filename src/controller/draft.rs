//! What the deciders work on: the image as it will be, and the records that
//! bring it there. A draft that is dropped has changed nothing, which is all
//! there is to `validate_only`.

use super::image::Image;
use super::placement::Placement;
use super::record::MetadataRecord;
use crate::base::limits::RECORDS_PER_CHANGE_MAX;
use crate::base::{ErrorCode, NodeId, Rng};
use crate::config::BrokerConfig;

/// A change of the metadata in the making.
#[derive(Clone, Debug)]
pub struct Draft {
    image: Image,
    records: Vec<MetadataRecord>,
}

impl Draft {
    /// Starts from this image.
    #[must_use]
    pub fn new(image: &Image) -> Self {
        Self {
            image: image.clone(),
            records: Vec::new(),
        }
    }

    /// The image with the records so far.
    #[must_use]
    pub const fn image(&self) -> &Image {
        &self.image
    }

    /// Whether a change of so many records, or one of any number that is the first, may be added.
    ///
    /// # Errors
    /// POLICY_VIOLATION, as in Kafka, where the whole request gets it.
    pub fn has_room(&self, records: usize) -> Result<(), Refused> {
        if self.records.is_empty() || self.records.len() + records <= RECORDS_PER_CHANGE_MAX {
            return Ok(());
        }
        let message = "Unable to perform excessively large batch operation.";
        Err(Refused::because(ErrorCode::PolicyViolation, message))
    }

    /// Adds a record.
    ///
    /// # Panics
    /// If it does not fit: the decider decided against another image than this one, a bug.
    pub fn push(&mut self, record: MetadataRecord) {
        if let Err(error) = self.image.replay(&record) {
            panic!("{error}");
        }
        self.records.push(record);
    }

    /// The records, in order.
    #[must_use]
    pub fn into_records(self) -> Vec<MetadataRecord> {
        self.records
    }
}

/// What the deciders need to know besides the image.
#[derive(Debug)]
pub struct Terms<'a> {
    /// Defaults and limits.
    pub config: &'a BrokerConfig,
    /// For topic ids.
    pub rng: &'a mut Rng,
    /// Where new partitions go.
    pub placement: Placement,
}

impl<'a> Terms<'a> {
    /// The terms of the node whose image it is.
    #[must_use]
    pub fn new(image: &Image, config: &'a BrokerConfig, rng: &'a mut Rng) -> Self {
        Self {
            config,
            rng,
            placement: Placement::new(image),
        }
    }

    /// The nodes that can have a replica: this one.
    #[must_use]
    pub const fn nodes(&self) -> [NodeId; 1] {
        [self.config.node()]
    }
}

/// Why a change is not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// For the client's code.
    pub code: ErrorCode,
    /// For the person in front of it.
    pub message: String,
}

impl Refused {
    /// Refuses with a message of its own.
    #[must_use]
    pub fn because(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

impl From<ErrorCode> for Refused {
    /// Refuses with the message that the error code has.
    fn from(code: ErrorCode) -> Self {
        Self::because(code, code.message())
    }
}
