//! The broker's own logs, the metadata and what coordinators write: whose they are (`led`), how they are read at a
//! start (`reader` the parts, `run` the records) and written anew when they have become long (`compact`).

pub mod compact;
pub mod led;
pub mod reader;
pub mod run;
