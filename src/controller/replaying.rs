//! An image that records are being taken into, and what that makes different: whoever decides on them, and whoever
//! hears that they are committed, comes to the same.

use super::delta::Delta;
use super::image::{Image, ReplayError};
use super::record::MetadataRecord;

/// See the module.
#[derive(Clone, Debug)]
pub struct Replaying {
    /// The image with the records so far.
    pub image: Image,
    /// What is different in it.
    pub delta: Delta,
}

impl Replaying {
    /// Starts from this image.
    #[must_use]
    pub fn new(image: Image) -> Self {
        Self {
            image,
            delta: Delta::default(),
        }
    }

    /// Takes one record in.
    ///
    /// # Errors
    /// It contradicts the image.
    pub fn replay(&mut self, record: &MetadataRecord) -> Result<(), ReplayError> {
        self.delta.note(&self.image, record);
        self.image.replay(record)
    }
}
