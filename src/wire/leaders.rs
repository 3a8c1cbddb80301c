//! What is said of who leads a partition to a client that asks somebody else (KIP-951), so that it need not ask for the
//! metadata first.

use kafka_wire_core::StrBytes;

use super::writer::Writer;

/// Who leads a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CurrentLeader {
    /// Id of the broker, as clients know it.
    pub id: i32,
    /// The epoch in which it leads.
    pub epoch: i32,
}

/// Where a broker that leads something is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEndpoint {
    /// Its id.
    pub id: i32,
    /// Host to connect to.
    pub host: StrBytes,
    /// Port to connect to.
    pub port: i32,
}

/// Number of the tagged field of endpoints, in Produce and Fetch.
const ENDPOINTS: u32 = 0;

impl Writer {
    /// Ends a structure whose one tagged field, of this number, says who leads, if something is to be said of that.
    pub(super) fn leader_tag(&mut self, tag: u32, leader: Option<CurrentLeader>) {
        let Some(leader) = leader.filter(|_| self.flexible) else {
            return self.no_tags();
        };
        self.tag(tag, |out| {
            out.i32(leader.id);
            out.i32(leader.epoch);
            out.no_tags();
        });
    }

    /// Ends a response whose one tagged field says where brokers are, if there are any.
    pub(super) fn endpoints_tag(&mut self, endpoints: &[NodeEndpoint]) {
        if endpoints.is_empty() {
            return self.no_tags();
        }
        self.tag(ENDPOINTS, |out| {
            out.len(Some(endpoints.len()));
            for endpoint in endpoints {
                out.i32(endpoint.id);
                out.nullable_string(Some(&endpoint.host));
                out.i32(endpoint.port);
                // Its rack.
                out.nullable_string(None);
                out.no_tags();
            }
        });
    }

    /// The only tagged field of a structure that is flexible.
    fn tag(&mut self, tag: u32, write: impl FnOnce(&mut Self)) {
        let mut field = Self::with_capacity(16, true);
        write(&mut field);
        self.uvarint(1);
        self.uvarint(tag);
        self.uvarint(field.out.len() as u32);
        self.out.append(&mut field.out);
    }
}
