//! The broker's own logs, the metadata and `__consumer_offsets`: how they are read at a start (`reader` the parts,
//! `run` the records) and written anew when they have become long (`compact`).

pub mod compact;
pub mod reader;
pub mod run;
