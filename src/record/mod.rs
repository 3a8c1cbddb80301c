//! The record batch, magic 2: the unit in which Kafka produces, stores,
//! replicates and fetches. The same bytes travel from the producer to the disk
//! and on to the consumer; the broker looks at the header, checks the CRC, walks
//! the records and stamps base offset and leader epoch, which lie outside the CRC.
//!
//! - [`header`], [`parse`], [`batches`]: look at batches without opening them;
//! - [`validate_produced`], [`validate_records`]: what a batch from a producer, and
//!   what the records inside it, must satisfy;
//! - [`stamp`], [`set_log_append_time`], [`set_create_time`]: what the broker changes in place;
//! - [`records`], [`verify_records`]: open a batch, whatever its codec;
//! - [`BatchBuilder`]: make one; [`EndMarker`]: what ends a transaction.

mod batch;
mod builder;
mod codec;
mod error;
mod gzip;
mod lz4;
mod marker;
mod opener;
mod pack;
mod raw;
mod records;
pub mod seek;
mod snappy;
mod step;
mod thin;
mod validate;
mod varint;
mod walk;

pub use batch::{
    BatchHeader, BatchInfo, Batches, HEADER_LEN, TimestampType, batches, check_crc, header, parse,
    set_create_time, set_log_append_time, stamp,
};
pub use builder::BatchBuilder;
pub use codec::Codec;
pub use error::BatchError;
pub use marker::EndMarker;
pub use opener::Opener;
pub use records::{Record, RecordHeader, Records, records, verify_records};
pub use thin::{KeyWalk, KeyedRecord, Thinned, Thinning, emptied, with_horizon};
pub use validate::{
    Validation, produced_header, validate_header, validate_produced, validate_records,
};
pub use walk::RecordsSummary;
