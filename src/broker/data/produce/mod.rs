//! Produce, from the request to the append.

pub mod front;
mod job;
pub mod owner;
mod validation;
mod verifying;
