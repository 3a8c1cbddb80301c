//! Every bound on memory and queues that is not a Kafka setting, in one place.

/// Requests of one connection that may be in progress at once; the socket is not read past that.
pub const CONN_IN_FLIGHT_MAX: usize = 64;
/// Messages one shard may have queued for another one in the mesh ring; more wait at the sender,
/// whose connections are bounded by [`CONN_IN_FLIGHT_MAX`].
pub const MESH_QUEUE_MAX: usize = 4096;
/// Largest array a decoded request may claim.
pub const DECODE_ARRAY_MAX: usize = 100_000;
/// Longest string a decoded request may carry (Kafka's own strings are 16 bit).
pub const DECODE_STRING_BYTES_MAX: usize = 32 * 1024;
/// Tagged fields that one structure of a decoded request may carry.
pub const DECODE_TAGS_MAX: usize = 256;
/// Sparse index entries kept per segment; when full, every second one is dropped and the interval doubles.
pub const SEGMENT_INDEX_ENTRIES_MAX: usize = 512;
/// Producers whose sequence state one partition remembers; the least recently used one is forgotten.
pub const PRODUCERS_PER_PARTITION_MAX: usize = 10_000;
/// Batches remembered per producer for duplicate detection, as in Kafka.
pub const PRODUCER_BATCHES_REMEMBERED: usize = 5;
