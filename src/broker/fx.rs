//! Where the parts of a shard put what they want done.

use std::collections::VecDeque;

use super::io::Output;
use super::msg::Msg;
use crate::base::{Now, ShardId};
use crate::store::DiskOp;

/// Outputs of the input that is being handled.
#[derive(Debug)]
pub(super) struct Fx<'a> {
    /// This shard.
    pub me: ShardId,
    /// When the input was handled.
    pub now: Now,
    /// For the driver.
    pub out: &'a mut Vec<Output>,
    /// Messages of this shard to itself, handled before `Shard::handle` returns.
    pub local: &'a mut VecDeque<Msg>,
    /// Scratch space for the stores' operations.
    pub ops: Vec<DiskOp>,
}

impl Fx<'_> {
    /// Sends a message to a shard, this one or another.
    pub fn send(&mut self, to: ShardId, msg: Msg) {
        if to == self.me {
            self.local.push_back(msg);
        } else {
            self.out.push(Output::Mesh {
                to,
                msg: Box::new(msg),
            });
        }
    }
}
