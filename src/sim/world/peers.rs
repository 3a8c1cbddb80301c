//! Nodes that talk to each other: what becomes of the links that they ask for.

use bytes::Bytes;

use super::perform::Done;
use super::{Event, Phase, World, violated};
use crate::base::limits::LINK_UP_WITHIN_MS;
use crate::broker::{Input, LinkId, LinkLost};
use crate::sim::clock::MS;
use crate::sim::conns::Socket;
use crate::sim::fact::Address;
use crate::sim::net::End;
use crate::sim::node::{Core, State};
use crate::sim::what::What;
use crate::wire::peer::{Hello, PeerMessages, ReplicaMessages};

/// Bytes of what one node sends to another before the body.
const REQUEST_HEAD: usize = 14;
/// How often the name of a node is not found, of so many times; slowly.
const NAME_LOST_EVERY: u64 = 16;
/// How often a machine whose process is gone is gone too, and says nothing.
const SILENT_EVERY: u64 = 4;

impl World {
    /// Where a client is, or a node that has dialled another one.
    pub(super) fn end(&self, client: usize) -> End {
        self.links.end(client)
    }

    /// A shard asks for a link.
    pub(super) fn dial(&mut self, core: Core, id: LinkId, (host, port): (&str, u16)) -> Done {
        let Ok(Address { node: to, .. }) = Address::parse(host, port.into()) else {
            return violated("LinksAreToNodes", format!("{core:?} dials {host}"));
        };
        let link = self.links.add(core, id, to);
        if self.shared.phase == Phase::Busy && self.rng.chance(1, NAME_LOST_EVERY) {
            let at = self.time + self.delay(LINK_UP_WITHIN_MS * MS);
            let why = LinkLost::Unresolved("the servers do not answer".to_owned());
            self.events.add(at, Event::LinkFails { link, why });
            return Ok(());
        }
        let at = self.arrival(End::Node(core.node), End::Node(to));
        self.events.add(at, Event::Dialled { link });
        Ok(())
    }

    /// Somebody wants to connect to a node.
    pub(super) fn dialled(&mut self, number: usize) -> Done {
        let Some(link) = self.links.open(number) else {
            return Ok(());
        };
        let (from, to) = (link.core.node, link.to);
        let (near, far) = (End::Node(from), End::Node(to));
        let ways = [(near, far), (far, near)];
        let is_shut = ways
            .into_iter()
            .any(|(from, to)| self.net.is_shut(self.time, from, to));
        // Nodes find each other before clients are let in.
        let listens = self.nodes[to].state != State::Down;
        let silent = is_shut || !listens && self.rng.chance(1, SILENT_EVERY);
        if silent || !listens {
            let (at, why) = if silent {
                (self.time + LINK_UP_WITHIN_MS * MS, LinkLost::TimedOut)
            } else {
                (self.arrival(far, near), LinkLost::Refused)
            };
            self.events.add(at, Event::LinkFails { link: number, why });
            return Ok(());
        }
        let shard = self.rng.below(self.nodes[to].shards.len() as u64) as usize;
        let conn = self.nodes[to].conns.open(number, shard);
        let socket = Socket { node: to, conn };
        if let Some(link) = self.links.open(number) {
            link.socket = Some(socket);
        }
        let at = self.arrival(far, near);
        let client = number;
        self.events.add(at, Event::Connected { client, socket });
        let core = self.nodes[to].core(shard);
        let peer = std::net::SocketAddr::from(([10, 1, 0, from as u8], 1000));
        let listener = 0;
        self.shard_input(
            core,
            Input::ConnOpened {
                conn,
                peer,
                listener,
            },
        )
    }

    /// A link is there.
    pub(super) fn link_up(&mut self, number: usize) -> Done {
        let Some(link) = self.links.open(number) else {
            return Ok(());
        };
        let (core, id, to) = (link.core, link.id, link.to as u64);
        self.note(core.node, What::Linked, to, id.0);
        self.shard_input(core, Input::LinkUp { link: id })
    }

    /// A link is gone, or has not come to be.
    pub(super) fn link_down(&mut self, number: usize, why: LinkLost) -> Done {
        let Some(link) = self.links.open(number) else {
            return Ok(());
        };
        link.is_open = false;
        let (core, id, to) = (link.core, link.id, link.to as u64);
        let what = match why {
            LinkLost::Refused => What::LinkRefused,
            LinkLost::Unresolved(_) => What::LinkUnresolved,
            LinkLost::TimedOut => What::LinkTimedOut,
            _ => What::LinkCut,
        };
        self.note(core.node, what, to, id.0);
        self.shard_input(core, Input::LinkDown { link: id, why })
    }

    /// The connection of a link has ended, and its shard learns of it.
    pub(super) fn link_cut(&mut self, number: usize, socket: Option<Socket>) -> Done {
        let link = self.links.open(number);
        if link.is_none_or(|link| link.socket != socket) {
            return Ok(());
        }
        let why = if self.rng.chance(1, 2) {
            LinkLost::Reset
        } else {
            LinkLost::Closed
        };
        self.link_down(number, why)
    }

    /// The answer to a request of a node.
    pub(super) fn link_answer(&mut self, number: usize, frame: Bytes) -> Done {
        let Some(link) = self.links.open(number) else {
            return Ok(());
        };
        let (core, link) = (link.core, link.id);
        self.shard_input(core, Input::LinkReceived { link, frame })
    }

    /// A shard sends on a link. What is sent has left at once.
    pub(super) fn link_send(&mut self, core: Core, id: LinkId, pieces: &[Bytes]) -> Done {
        let Some((number, link)) = self.links.named(core, id) else {
            // It does not know yet that it is gone.
            return Ok(());
        };
        let Some(socket) = link.socket else {
            return violated("LinksAreUpFirst", format!("{core:?} sends on {id:?}"));
        };
        let frame = Bytes::from(pieces.concat());
        let head = frame.first_chunk::<6>();
        let len = head.map(|head| u32::from_be_bytes([head[0], head[1], head[2], head[3]]));
        if len.map(|len| len as usize + 4) != Some(frame.len()) {
            let what = format!("{len:?} says a frame of {} bytes", frame.len());
            return violated("FramesAreWhole", what);
        }
        let key = head.map(|head| i16::from_be_bytes([head[4], head[5]]));
        if key == Some(Hello::KEY) {
            let Ok(Ok(hello)) = Hello::decode(frame.slice(REQUEST_HEAD..)) else {
                return violated("HellosAreRead", format!("{core:?} says none on {id:?}"));
            };
            link.purpose = Some(hello.purpose);
        }
        let bytes = frame.len();
        let is_answered = ![PeerMessages::KEY, ReplicaMessages::KEY]
            .map(Some)
            .contains(&key);
        self.carry(number, socket, frame, is_answered);
        let at = self.time + 1;
        self.events.add(
            at,
            Event::LinkSent {
                link: number,
                bytes,
            },
        );
        Ok(())
    }

    pub(super) fn link_sent(&mut self, number: usize, bytes: usize) -> Done {
        let Some(link) = self.links.open(number) else {
            return Ok(());
        };
        let (core, link) = (link.core, link.id);
        self.shard_input(core, Input::LinkSent { link, bytes })
    }

    /// A shard is done with a link. What it has sent may still arrive.
    pub(super) fn link_close(&mut self, core: Core, id: LinkId) {
        if let Some((_, link)) = self.links.named(core, id) {
            link.is_open = false;
            if let Some(socket) = link.socket {
                self.end_conn(socket, false);
            }
        }
    }
}
