//! The requests of a shard's clients, by the families that keep what they wait for.

use std::sync::Arc;

use super::control::calls::Calls;
use super::data::fetch::front::Fetches;
use super::data::markers::front::MarkerRequests;
use super::data::produce::front::Produces;
use super::data::producers::ProducerRequests;
use super::data::query::front::Queries;
use super::explain::Explains;
use super::front::Front;
use super::front::parked::Family;
use super::fx::Fx;
use super::groups::front::GroupRequests;
use super::io::ConnId;
use super::listings::Listings;
use super::peers::ClusterSetup;
use super::peers::streams::Streams;
use super::txn::front::TxnRequests;
use crate::base::limits::WAKES_PER_SLICE;
use crate::config::BrokerConfig;

/// See the module.
#[derive(Debug)]
pub(super) struct Requests {
    pub produce: Produces,
    pub fetch: Fetches,
    pub query: Queries,
    pub explain: Explains,
    pub groups: GroupRequests,
    pub transactions: TxnRequests,
    pub control: Calls,
    pub listing: Listings,
    pub markers: MarkerRequests,
    pub producers: ProducerRequests,
    /// Of other nodes; they wait for nothing.
    pub streams: Streams,
}

impl Requests {
    pub fn new(config: &BrokerConfig, cluster: Option<Arc<ClusterSetup>>) -> Self {
        let sessions_max = config.max_incremental_fetch_session_cache_slots as usize;
        Self {
            produce: Produces::default(),
            fetch: Fetches::new(sessions_max),
            query: Queries::default(),
            explain: Explains::default(),
            groups: GroupRequests::default(),
            transactions: TxnRequests::default(),
            control: Calls::new(cluster.is_some()),
            listing: Listings::default(),
            markers: MarkerRequests::default(),
            producers: ProducerRequests::default(),
            streams: Streams::new(cluster),
        }
    }

    /// A connection is gone: whatever waits for an answer to it is forgotten, here and at the owners.
    pub fn conn_closed(&mut self, front: &mut Front, conn: ConnId, fx: &mut Fx<'_>) {
        self.produce.conn_closed(conn);
        self.streams.conn_closed(conn, fx);
        let mut queries = Vec::new();
        for (id, family) in front.conn_closed(conn) {
            match family {
                Family::Produce => self.produce.forget(id),
                Family::Fetch => self.fetch.forget(id, fx),
                Family::Query => queries.push(id),
                Family::Explain => self.explain.forget(id),
                Family::Groups => self.groups.forget(id),
                Family::Transactions => self.transactions.forget(conn, id),
                Family::Control => self.control.forget(id, fx),
                Family::Listing => self.listing.forget(conn, id),
                Family::Markers => self.markers.forget(id),
                Family::Producers => self.producers.forget(id),
            }
        }
        self.query.forget(queries, fx);
        self.fetch.conn_closed(conn);
    }

    /// Panics if the table of what waits and the families know of different requests. For the simulator.
    pub fn invariants(&self, front: &Front) {
        front.parked.invariants();
        let waiting = [
            self.produce.len(),
            self.fetch.len(),
            self.query.len(),
            self.explain.len(),
            self.groups.len(),
            self.transactions.len(),
            self.control.len(),
            self.listing.len(),
            self.markers.len(),
            self.producers.len(),
        ];
        let known: usize = waiting.iter().sum();
        assert_eq!(known, front.parked.len(), "requests that wait");
    }

    /// The shard is idle: goes on with fetches and queries, some at a time.
    pub fn slice(&mut self, front: &mut Front, fx: &mut Fx<'_>) {
        self.fetch.begin_turn();
        self.due(front, fx);
        self.fetch.go_on_some(front, fx);
        for conn in front.conns.take_moved() {
            self.listing.moved(conn);
            self.query.moved(conn);
            self.groups.moved(conn);
            self.transactions.listings.moved(conn);
        }
        self.query.slice(front, fx);
        self.groups.slice(front, fx);
    }

    /// Goes on with requests whose time is up, some at a time; at a stop, with every one that has a time.
    pub fn due(&mut self, front: &mut Front, fx: &mut Fx<'_>) {
        for _ in 0..WAKES_PER_SLICE {
            if self.fetch.is_spent() {
                break;
            }
            match front.due(fx.now.mono) {
                Some((id, Family::Fetch)) => self.fetch.due(front, id, fx),
                Some((id, Family::Produce)) => self.produce.due(front, id, fx),
                Some((id, Family::Control)) => self.control.late(front, id, fx),
                // What this node does by itself is waited for however long it takes.
                // The end of a transaction its owner waits for, and for how long.
                Some((
                    _,
                    Family::Query
                    | Family::Explain
                    | Family::Groups
                    | Family::Transactions
                    | Family::Listing
                    | Family::Markers
                    | Family::Producers,
                )) => {}
                None => break,
            }
        }
    }
}
