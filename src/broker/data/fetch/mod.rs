//! Fetch, from the request to the plan of its reads.

pub mod front;
pub mod owner;
mod session;
mod turns;
