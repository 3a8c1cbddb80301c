//! x
#[allow(dead_code)]
mod client;
fn main() {}
