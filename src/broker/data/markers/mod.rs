//! WriteTxnMarkers, and the ends of transactions that coordinators want written, from the request to the append.

pub mod front;
pub mod owner;
