//! The decision that is being made, a slice of it at a time.

use std::sync::Arc;

use super::metadata::Metadata;
use super::queue::{CallTurn, ToDecide};
use crate::base::Now;
use crate::broker::admin::{Decided, Deciding, Decision};
use crate::broker::apis;
use crate::broker::msg::ControlCall;
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
    pub fn begin(mut turn: CallTurn, metadata: &Metadata) -> Result<Self, (CallTurn, String)> {
        let decision = match &mut turn.call {
            ToDecide::Inside(decision) => {
                decision.take().ok_or_else(|| "it was decided".to_owned())
            }
            ToDecide::Client(call) => decision_of(call),
        };
        match decision {
            Ok(decision) => Ok(Self {
                turn,
                decision,
                draft: Draft::new(&metadata.image),
                config: Arc::clone(&metadata.config),
            }),
            Err(why) => Err((turn, why)),
        }
    }

    /// Goes on, as long as there is something `left` of a slice.
    pub fn go_on(
        &mut self,
        metadata: &mut Metadata,
        producer_ids: &mut ProducerIdAllocator,
        left: &mut usize,
        now: Now,
    ) -> Result<Decided, WireError> {
        let listener = match &self.turn.call {
            ToDecide::Client(call) => call.listener,
            ToDecide::Inside(_) => 0,
        };
        let is_member = metadata.membership.is_some();
        let (ctx, quorum) = metadata.ctx(&self.config, listener, now.mono);
        let mut cx = Deciding {
            ctx,
            draft: &mut self.draft,
            producer_ids,
            quorum,
            is_member,
            now,
        };
        self.decision.go_on(&mut cx, left)
    }
}

/// How a request is decided on.
fn decision_of(call: &ControlCall) -> Result<Box<dyn Decision>, String> {
    let (key, version) = (call.header.key, call.header.version);
    let decider = apis::decider(key, version);
    let decider = decider
        .ok_or_else(|| format!("version {version} of API key {key} decides on nothing here"))?;
    decider(&call.header, call.body.clone()).map_err(|why| why.to_string())
}
