//! Produce, from the request to the append.

pub mod front;
pub mod validation;
