//! The decision that is being made, a slice of it at a time.

use std::sync::Arc;

use super::metadata::Metadata;
use super::queue::CallTurn;
use crate::broker::admin::{Decided, Deciding, Decision};
use crate::broker::apis::{self, Handler};
use crate::config::BrokerConfig;
use crate::controller::{Draft, ProducerIdAllocator};
use crate::wire::WireError;

/// See the module. Nobody else changes the metadata until it is made.
#[derive(Debug)]
pub struct Making {
    pub turn: CallTurn,
    pub decision: Box<dyn Decision>,
    pub draft: Draft,
    /// The settings that it began with.
    config: Arc<BrokerConfig>,
}

impl Making {
    /// Begins to decide on a request.
    ///
    /// # Errors
    /// The reason to close its connection, and the request.
    pub fn begin(turn: CallTurn, metadata: &Metadata) -> Result<Self, (CallTurn, String)> {
        let call = &turn.call;
        let key = call.header.key;
        let decider = match apis::served(key).map(|served| served.handler) {
            Some(Handler::Control(decider) | Handler::ImageOrCreate(_, _, decider)) => decider,
            _ => return Err((turn, format!("API key {key} decides on nothing"))),
        };
        match decider(&call.header, call.body.clone()) {
            Ok(decision) => Ok(Self {
                turn,
                decision,
                draft: Draft::new(&metadata.image),
                config: Arc::clone(&metadata.config),
            }),
            Err(why) => Err((turn, why.to_string())),
        }
    }

    /// Goes on, as long as there is something `left` of a slice.
    pub fn go_on(
        &mut self,
        metadata: &mut Metadata,
        producer_ids: &mut ProducerIdAllocator,
        left: &mut usize,
    ) -> Result<Decided, WireError> {
        let mut cx = Deciding {
            ctx: metadata.ctx(&self.config, self.turn.call.listener),
            draft: &mut self.draft,
            producer_ids,
        };
        self.decision.go_on(&mut cx, left)
    }
}
