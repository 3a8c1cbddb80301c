//! Questions about logs, from the request to the answers: ListOffsets and its like.

mod delete_records;
mod describe_log_dirs;
pub mod front;
mod job;
mod list_offsets;
mod offset_for_leader_epoch;
mod openings;
pub mod owner;
mod questions;
