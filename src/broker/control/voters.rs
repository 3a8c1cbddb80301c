//! Changes of the voters that clients ask for (KIP-853): one at a time, begun at the quorum when it is decided, and
//! answered when its entry is committed, or appended if the client does not want to wait for more.

use super::Control;
use super::voting::VoterChanging;
use crate::broker::admin::VoterAsk;
use crate::broker::fx::Fx;
use crate::broker::msg::ReqRef;
use crate::broker::owner::Owner;
use crate::quorum::{Declined, EntryId, Restored, VoterChange};

impl Control {
    /// The voters are to be changed, as far as the metadata say that they may.
    pub(super) fn change_voters(
        &mut self,
        req: ReqRef,
        ask: VoterAsk,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) {
        let begun = match (&self.voting, &mut self.metadata.quorum) {
            // Its answer is still to come.
            (Some(_), _) => Err(Declined::Changing),
            (None, Some(quorum)) => quorum.change(ask.change, owner, fx),
            (None, None) => Err(Declined::NotLeader { leader: None }),
        };
        if let Err(declined) = begun {
            return self.answer_voters(req, &ask, Err(declined), fx);
        }
        match ask.change {
            VoterChange::Add(replica) => {
                tracing::info!(
                    "{replica} is to have a vote about the metadata, when it has caught up"
                );
            }
            VoterChange::Remove(replica) => {
                tracing::info!("{replica} is to have no vote about the metadata any more");
            }
        }
        let entry = None;
        self.voting = Some(VoterChanging { req, ask, entry });
    }

    /// The quorum has appended the entry that makes the change, or given it up.
    pub(super) fn voters_changed(&mut self, outcome: Result<EntryId, Declined>, fx: &mut Fx<'_>) {
        let Some(mut changing) = self.voting.take() else {
            return;
        };
        match outcome {
            Ok(id) if changing.ask.when_committed => {
                changing.entry = Some(id);
                self.voting = Some(changing);
            }
            outcome => {
                let outcome = outcome.map(drop);
                self.answer_voters(changing.req, &changing.ask, outcome, fx);
            }
        }
    }

    /// The voters that an entry names are committed.
    pub(super) fn voters_committed(&mut self, id: EntryId, fx: &mut Fx<'_>) {
        if let Some(quorum) = &self.metadata.quorum {
            tracing::info!(
                "the voters about the metadata are {:?}",
                quorum.quorum().committed_voters()
            );
        }
        let is_it = |changing: &mut VoterChanging| changing.entry == Some(id);
        if let Some(changing) = self.voting.take_if(is_it) {
            self.answer_voters(changing.req, &changing.ask, Ok(()), fx);
        }
    }

    /// This node leads no more: whoever leads next may make the change, or not.
    pub(super) fn voters_unknown(&mut self, fx: &mut Fx<'_>) {
        if let Some(changing) = self.voting.take() {
            let declined = Err(Declined::NotLeader { leader: None });
            self.answer_voters(changing.req, &changing.ask, declined, fx);
        }
    }

    fn answer_voters(
        &mut self,
        req: ReqRef,
        ask: &VoterAsk,
        outcome: Result<(), Declined>,
        fx: &mut Fx<'_>,
    ) {
        match ask.answer(outcome) {
            Ok(called) => self.metadata.reply(req, called, fx),
            Err(why) => super::refuse(req, why.to_string(), fx),
        }
    }

    /// Says what people should know of this replica's vote, as its disk knows the voters.
    pub(super) fn tell_of_vote(&self, restored: &Restored) {
        for doubt in self.others.doubts(restored, &self.metadata.committed) {
            tracing::warn!("{doubt}");
        }
    }
}
