//! What a shard does for requests at the stores and partitions that it owns, by the families that keep it.

use super::cleaner::Cleaner;
use super::control::growth::Growth;
use super::data::fetch::owner::Plans;
use super::data::markers::owner::MarkerJobs;
use super::data::produce::owner::Delayed;
use super::data::query::owner::Lookups;
use super::fx::Fx;
use super::owner::Owner;
use super::owner::work::Worker;

/// See the module.
#[derive(Debug)]
pub(super) struct Jobs {
    pub produce: Delayed,
    pub fetch: Plans,
    pub query: Lookups,
    pub markers: MarkerJobs,
    pub growth: Growth,
    pub cleaner: Cleaner,
}

impl Jobs {
    /// Those of a shard of a node with so many.
    pub fn new(shards: u16) -> Self {
        Self {
            produce: Delayed::default(),
            fetch: Plans::default(),
            query: Lookups::default(),
            markers: MarkerJobs::default(),
            growth: Growth::default(),
            cleaner: Cleaner::new(shards),
        }
    }

    /// Does some of what was put off, and tells who waits what there is to tell.
    pub fn slice(&mut self, owner: &mut Owner, fx: &mut Fx<'_>) {
        owner.slice(fx);
        match owner.work.next() {
            Some(Worker::Fetch) => self.fetch.go_on(owner, fx),
            Some(Worker::Query) => self.query.go_on(owner, fx),
            // They read only.
            Some(
                Worker::Metadata
                | Worker::Offsets
                | Worker::Transactions
                | Worker::Replicas
                | Worker::Cleaner,
            )
            | None => {}
        }
        self.markers.go_on(owner, fx);
        self.produce.give_up_late(owner, fx);
        self.query.open_some(owner, fx);
        self.cleaner.go_on(owner, fx);
    }

    /// Goes on with some of what waited for a store to grow, as far as it has.
    pub fn grown(&mut self, owner: &mut Owner, fx: &mut Fx<'_>) {
        self.produce.go_on(owner, fx);
        self.growth.go_on(owner, fx);
    }

    /// Whether there is something to do at once.
    pub fn has_more(&self, owner: &Owner) -> bool {
        owner.has_more()
            || self.query.has_openings()
            || self.produce.has_more(owner)
            || !self.markers.is_empty()
    }

    /// Whether nobody waits for a store, or for a turn.
    pub fn is_quiet(&self, owner: &Owner) -> bool {
        self.produce.is_empty()
            && self.markers.is_empty()
            && self.growth.is_empty()
            && self.query.has_no_openings()
            && !self.has_more(owner)
    }
}
