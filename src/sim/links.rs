//! Links between nodes, which a node's shard asks for. To the node that is dialled the other one is a client like any
//! other, with a number behind those of the clients; so frames between nodes take their time, keep their order, are cut
//! off and wait for a way that is shut, as all others do.

use std::collections::BTreeMap;

use super::conns::Socket;
use super::net::End;
use super::node::Core;
use crate::broker::LinkId;
use crate::wire::peer::Purpose;

/// The number of the first link among those of clients.
const FIRST: usize = 1 << 32;

/// A link, from when it is asked for.
#[derive(Debug)]
pub struct Link {
    /// Who has asked for it.
    pub core: Core,
    /// Its name there.
    pub id: LinkId,
    /// The node that is dialled.
    pub to: usize,
    /// Its connection there, once there is one.
    pub socket: Option<Socket>,
    /// What it is for, once its shard has said so.
    pub purpose: Option<Purpose>,
    /// Its shard is told of it, and can send.
    pub is_open: bool,
}

/// All links that there have been, by their number as clients.
#[derive(Debug, Default)]
pub struct Links {
    all: BTreeMap<usize, Link>,
}

impl Links {
    /// A link is asked for: its number.
    pub fn add(&mut self, core: Core, id: LinkId, to: usize) -> usize {
        let number = FIRST + self.all.len();
        let link = Link {
            core,
            id,
            to,
            socket: None,
            purpose: None,
            is_open: true,
        };
        self.all.insert(number, link);
        number
    }

    /// Where a client is, or who has asked for a link.
    #[must_use]
    pub fn end(&self, client: usize) -> End {
        let link = self.all.get(&client);
        link.map_or(End::Client(client), |link| End::Node(link.core.node))
    }

    /// Whether it is the number of a link.
    #[must_use]
    pub const fn is_one(client: usize) -> bool {
        client >= FIRST
    }

    /// A link that is open.
    pub fn open(&mut self, number: usize) -> Option<&mut Link> {
        self.all.get_mut(&number).filter(|link| link.is_open)
    }

    /// Whether its shard uses it, as far as that knows, and has begun no later one to the same node for the same.
    #[must_use]
    pub fn is_used(&self, number: usize) -> bool {
        let Some(link) = self.all.get(&number).filter(|link| link.is_open) else {
            return false;
        };
        let mut later = self.all.range(number + 1..).map(|(_, link)| link);
        !later.any(|later| {
            let is_same = later.core.node == link.core.node && later.to == link.to;
            is_same && later.purpose == link.purpose
        })
    }

    /// The open link of this name.
    pub fn named(&mut self, core: Core, id: LinkId) -> Option<(usize, &mut Link)> {
        let all = self.all.iter_mut().rev();
        let mut open = all.filter(|(_, link)| link.is_open);
        let (number, link) = open.find(|(_, link)| link.core == core && link.id == id)?;
        Some((*number, link))
    }

    /// A node is gone, and with it all that it has asked for; their connections.
    pub fn end_all(&mut self, node: usize) -> Vec<Socket> {
        let all = self.all.values_mut();
        let of_node = all.filter(|link| link.is_open && link.core.node == node);
        of_node
            .filter_map(|link| {
                link.is_open = false;
                link.socket
            })
            .collect()
    }
}
