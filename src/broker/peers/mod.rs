//! What a node knows of the other nodes of its cluster. There are no streams to them yet: `detector` judges whether one
//! is alive, and is used by the model of a cluster in `sim/messages`.

mod detector;

pub use detector::{Detector, OwnTime, Verdict};
