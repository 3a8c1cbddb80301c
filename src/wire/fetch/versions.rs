//! The versions of Fetch, and since when it has what.

use std::ops::RangeInclusive;

/// The versions that are read and written here.
pub const VERSIONS: RangeInclusive<i16> = 4..=18;
pub const FLEXIBLE_FROM: i16 = 12;
/// From this version on topics are named by id.
pub const TOPIC_IDS_FROM: i16 = 13;
pub const SESSIONS_FROM: i16 = 7;
pub const LOG_START_FROM: i16 = 5;
/// Fetching from the closest replica: the rack in the request, the replica in the response.
pub const RACK_FROM: i16 = 11;
/// From this version on it is said who leads a partition that another broker leads.
pub const LEADERS_FROM: i16 = 16;
