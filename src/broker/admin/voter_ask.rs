//! A change of the voters that a client asks for, and how it is answered when it is known what has become of it.

use kafka_wire::{
    AddRaftVoterRequest, AddRaftVoterResponse, RemoveRaftVoterRequest, RemoveRaftVoterResponse,
};

use super::handler::{outcome, reply};
use crate::base::{ErrorCode, Refused};
use crate::broker::msg::Called;
use crate::quorum::{Declined, VoterChange};
use crate::wire::{RequestHeader, WireError};

/// A change of the voters that a client asks for, as far as the metadata allow it.
#[derive(Clone, Debug)]
pub struct VoterAsk {
    pub(super) header: RequestHeader,
    /// What is to be changed.
    pub change: VoterChange,
    /// Whether the client waits until that is committed.
    pub when_committed: bool,
}

impl VoterAsk {
    /// The answer, by what the quorum has made of it.
    ///
    /// # Errors
    /// If it cannot be written in the version.
    pub fn answer(&self, outcome: Result<(), Declined>) -> Result<Called, WireError> {
        let replica = match self.change {
            VoterChange::Add(replica) | VoterChange::Remove(replica) => replica,
        };
        let refused = outcome.err().map(|declined| match declined {
            Declined::NotLeader { .. } => Refused::because(
                ErrorCode::NotLeaderOrFollower,
                "The node that was to change the voters does not lead any more: look whether it is done.".to_owned(),
            ),
            Declined::Changing | Declined::Full | Declined::TooLarge => Refused::because(
                ErrorCode::RequestTimedOut,
                "Request timed out waiting for leader to handle previous voter change request.".to_owned(),
            ),
            Declined::BadVoters => Refused::because(
                ErrorCode::InvalidRequest,
                format!("{replica} cannot be added or removed any more: the voters are others by now."),
            ),
            Declined::TooSlow => Refused::because(
                ErrorCode::RequestTimedOut,
                format!("Aborted add voter operation for {replica} since it is lagging behind."),
            ),
            Declined::LosesMajority => Refused::because(
                ErrorCode::InvalidRequest,
                format!(
                    "Without {replica} too few of the voters are there to be a majority, and nobody would decide on \
                     anything any more. Remove one that is gone instead, or add one first."
                ),
            ),
        });
        self.told(refused.as_ref())
    }

    /// The answer with this error, or none.
    pub(super) fn told(&self, refused: Option<&Refused>) -> Result<Called, WireError> {
        let (code, text) = outcome(refused);
        let frame = match self.change {
            VoterChange::Add(_) => {
                let mut response = AddRaftVoterResponse::default();
                (response.error_code, response.error_message) = (code, text);
                reply::<AddRaftVoterRequest>(&self.header, &response)?
            }
            VoterChange::Remove(_) => {
                let mut response = RemoveRaftVoterResponse::default();
                (response.error_code, response.error_message) = (code, text);
                reply::<RemoveRaftVoterRequest>(&self.header, &response)?
            }
        };
        Ok(Called::Frame(vec![frame]))
    }
}
