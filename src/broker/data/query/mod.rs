//! Questions about logs: ListOffsets and its like.

pub mod describe_log_dirs;
pub mod front;
pub mod openings;
