//! What the control shard does with those of other nodes: how a quorum forms, what its replicas say to each other, and
//! snapshots that are sent and fetched.

use bytes::Bytes;

use super::driver::QuorumDriver;
use super::fetching::{SnapshotFetched, SnapshotFetching};
use super::follows::tell;
use super::forwarding::ForwardingDone;
use super::queue::ToDecide;
use super::said::{CallSaid, NodeSaid};
use super::{Control, Snapshotting};
use crate::base::{DirectoryId, Mono, NodeId, TopicId};
use crate::broker::apis;
use crate::broker::fatal;
use crate::broker::fx::Fx;
use crate::broker::msg::{Called, ControlCall, Msg, ReqRef};
use crate::broker::owner::Owner;
use crate::broker::peers::{Judged, PeerEvent, Peers, Unsent, Verdict};
use crate::controller::MetadataRecord;
use crate::quorum::{
    Formed, Forming, Knows, QuorumInput, ReplicaKey, Restored, Sitting, SnapshotMark,
};
use crate::wire::RequestHeader;
use crate::wire::peer::PeerMessage;

/// Whether a request is for that node alone, and for no other one that decides.
fn is_of_nodes(call: &ControlCall) -> bool {
    apis::is_of_nodes(call.header.key, call.header.version)
}

impl Control {
    /// Takes what other nodes have said, and says what is to be said to them. Returns whether there was anything.
    pub fn talk(&mut self, peers: &mut Peers, owner: &mut Owner, fx: &mut Fx<'_>) -> bool {
        let (mut has_talked, mut late) = (false, Vec::new());
        if let Some(image) = self.metadata.known() {
            self.others.learn(image);
        }
        loop {
            if let Some(event) = peers.next_event() {
                self.peer_event(event, owner, fx);
            } else if let Some((node, said)) = self.next_said() {
                let message = PeerMessage::Quorum(said.clone());
                let sent = peers.send(fx.now.mono, node, message, fx.out);
                // A node that takes less than it is sent: what nobody says again is said when it takes more.
                if sent == Err(Unsent::Full) && NodeSaid::is_said_once(&said) {
                    late.push((node, said));
                }
            } else if let Some(address) = self.others.next_known() {
                peers.know(address);
            } else {
                self.others.say_later(late);
                return has_talked;
            }
            has_talked = true;
        }
    }

    /// Something has become of another node, or it has said something.
    pub(super) fn peer_event(&mut self, event: PeerEvent, owner: &mut Owner, fx: &mut Fx<'_>) {
        match event {
            PeerEvent::Up(facts) => {
                let there = ReplicaKey {
                    node: facts.node,
                    directory: facts.directory,
                };
                let before = self.others.up(there);
                let quorum = self.metadata.quorum.as_ref();
                let known =
                    quorum.map(|it| (it.quorum().committed_voters(), &self.metadata.committed));
                self.others.tell_voters(facts.node, known);
                // Whoever has no vote gets the log all the same, and one that has one now may have none later.
                if let Some(before) = before {
                    self.quorum_input(QuorumInput::Observer(before, false), owner, fx);
                }
                self.quorum_input(QuorumInput::Observer(there, true), owner, fx);
                if let Some(sitting) = self.sitting() {
                    self.others.say(facts.node, NodeSaid::Sits(sitting));
                }
                self.form(owner, fx);
            }
            PeerEvent::Down(node, _) => {
                if let Some(there) = self.others.down(node) {
                    self.quorum_input(QuorumInput::Observer(there, false), owner, fx);
                }
                self.forgotten_by(node, fx);
                self.sending.forget(node, &mut self.metadata.leftovers);
                if self.fetching.as_ref().is_some_and(|it| it.from == node) {
                    self.give_up_fetching("the connection is gone", owner, fx);
                }
            }
            PeerEvent::Heard(node, bytes) => match NodeSaid::decode(&bytes) {
                Some(said) => self.heard(node, said, owner, fx),
                None => self.is_strange(node, &bytes),
            },
        }
    }

    /// A node says what this release does not know, or what is damaged.
    #[cfg_attr(not(test), expect(clippy::unused_self, reason = "tests look at them"))]
    fn is_strange(&mut self, node: NodeId, bytes: &Bytes) {
        let len = bytes.len();
        tracing::warn!("node {node} says what this release does not understand, in {len} bytes");
        #[cfg(test)]
        self.strange.push_back((node, bytes.clone()));
    }

    /// The next thing to be said to another node.
    pub(super) fn next_said(&mut self) -> Option<(NodeId, Bytes)> {
        if let Some(quorum) = &mut self.metadata.quorum {
            while let Some(message) = quorum.next_message() {
                // One whose store was made anew does not take what is for the one before.
                if self.others.is_there(message.to) {
                    self.others.say(message.to.node, NodeSaid::Quorum(message));
                }
            }
        }
        self.others.next_said()
    }

    fn heard(&mut self, node: NodeId, said: NodeSaid, owner: &mut Owner, fx: &mut Fx<'_>) {
        match said {
            NodeSaid::Quorum(message) if self.others.may_be(node, message.from) => {
                self.quorum_input(QuorumInput::Message(message), owner, fx);
            }
            NodeSaid::Sits(sitting) if sitting.replica.node == node => {
                if let (Knows::Blank(_), Some(own)) = (&sitting.knows, self.sitting()) {
                    self.others.say(node, NodeSaid::Sits(own));
                }
                self.others.sits(sitting);
                self.form(owner, fx);
            }
            NodeSaid::Quorum(_) | NodeSaid::Sits(_) => {}
            NodeSaid::Nodes(addresses) => self.others.told(addresses),
            NodeSaid::AskPart(id, number) => {
                let leftovers = &mut self.metadata.leftovers;
                if let Some(said) = self.sending.asked(node, (id, number), leftovers) {
                    self.others.say(node, said);
                }
            }
            NodeSaid::Part {
                id,
                number,
                is_last,
                records,
            } => {
                let is_due = |it: &SnapshotFetching| it.is_due(node, id, number);
                if self.fetching.as_ref().is_some_and(is_due) {
                    self.take_part(&records, is_last, owner, fx);
                }
            }
            NodeSaid::Ask(ask) if ask.node() == node => self.members.ask(node, ask),
            NodeSaid::Ask(_) => {}
            NodeSaid::Call(call) => self.called(node, call, owner, fx),
            NodeSaid::Called {
                number,
                metadata,
                answer,
            } => {
                let versions = (metadata, self.metadata.served_by_all());
                let from = (node, fx.now.mono);
                match self.forwarding.done(from, number, versions, answer) {
                    ForwardingDone::Told(req, answer) => tell(req, answer, fx),
                    ForwardingDone::Again(req, call) if is_of_nodes(&call) => {
                        tell(req, Err(format!("node {node} does not answer")), fx);
                    }
                    ForwardingDone::Again(req, call) => {
                        self.queue.push(req, ToDecide::Client(call));
                        self.decide_some(owner, fx);
                    }
                    ForwardingDone::Nothing => {}
                }
                self.forward_some(fx.now.mono);
            }
            NodeSaid::NoPart(id) => {
                let is_it = |it: &SnapshotFetching| (it.from, it.id()) == (node, id);
                if self.fetching.as_ref().is_some_and(is_it) {
                    self.give_up_fetching("it is not there any more", owner, fx);
                }
            }
        }
    }

    /// What this node says of itself, once its disk knows of a quorum.
    fn sitting(&self) -> Option<Sitting> {
        let quorum = self.metadata.quorum.as_ref()?;
        let cluster = self.metadata.committed.cluster_id.as_deref()?;
        let is_durable = self.snapshot.as_ref().is_none_or(|it| !it.is_first);
        is_durable.then(|| Sitting {
            replica: self.me,
            knows: Knows::Formed(Formed {
                cluster: cluster.into(),
                voters: quorum.quorum().committed_voters().clone(),
            }),
        })
    }

    /// If this node is blank: begins a quorum with the others, or becomes one of it.
    pub(super) fn form(&mut self, owner: &mut Owner, fx: &mut Fx<'_>) {
        if !self.is_blank {
            return;
        }
        let wanted = self.metadata.config.millrace_cluster_id.clone();
        let formed = match self.others.form(fx.now.mono) {
            Some(Forming::Forms(voters)) => Formed {
                cluster: match &wanted {
                    Some(id) => id.as_str().into(),
                    None => TopicId(self.metadata.random_id()).to_string().into(),
                },
                voters,
            },
            Some(Forming::Joins(formed) | Forming::Observes(formed)) => formed,
            Some(Forming::Waits(..)) | None => return,
        };
        self.is_blank = false;
        if let Some(wanted) = wanted.filter(|wanted| **wanted != *formed.cluster) {
            let id = formed.cluster;
            let why = format!(
                "the cluster id of the other voters is {id}, but millrace.cluster.id is {wanted}"
            );
            return fx.out.push(fatal::metadata(why));
        }
        tracing::info!(
            "the metadata quorum of cluster {}: {:?}",
            formed.cluster,
            formed.voters
        );
        let id = formed.cluster.to_string();
        if let Err(why) = self
            .metadata
            .committed
            .replay(&MetadataRecord::Cluster { id })
        {
            return fx.out.push(fatal::metadata(why.to_string()));
        }
        let restored = Restored::empty(formed.voters);
        let (mark, image) = (restored.snapshot.clone(), &self.metadata.committed);
        self.snapshot = Some(Snapshotting::new(mark, image, Some(restored)));
        self.decide_some(owner, fx);
    }

    /// A request that another node was asked for by a client, and that this one is to decide on.
    fn called(&mut self, node: NodeId, call: CallSaid, owner: &mut Owner, fx: &mut Fx<'_>) {
        self.numbers += 1;
        let req = ReqRef::inside(self.numbers);
        let is_taken = self
            .forwarded
            .insert(self.numbers, node, (call.number, call.body.len()));
        let is_of_nodes = apis::is_of_nodes(call.key, call.version);
        let is_known = is_of_nodes || apis::decider(call.key, call.version).is_some();
        let why = match (is_taken, is_known) {
            (true, true) => None,
            (true, false) => Some("it is nothing that another node decides on"),
            (false, _) => Some("more is forwarded than a node may"),
        };
        if let Some(why) = why {
            return self.inside_done(self.numbers, Err(why.to_owned()));
        }
        let listeners = &self.metadata.config.listeners.0;
        let named = listeners.iter().position(|it| it.name == call.listener);
        let call = ControlCall {
            header: RequestHeader {
                key: call.key,
                version: call.version,
                correlation_id: call.correlation_id,
                client_id: None,
            },
            // It may wait for long, and what has brought it would be charged to the other node's connection.
            body: Bytes::copy_from_slice(&call.body),
            listener: named.unwrap_or(0),
        };
        if is_of_nodes {
            let call = Box::new(call);
            return fx.send(fx.me, Msg::CallOfNode { req, call });
        }
        // Until this node leads, or knows who does.
        self.queue.push(req, ToDecide::Client(Box::new(call)));
        self.forward_some(fx.now.mono);
        self.decide_some(owner, fx);
    }

    /// A shard asks another node about transactions.
    pub fn call_node(
        &mut self,
        req: ReqRef,
        node: NodeId,
        call: Box<ControlCall>,
        fx: &mut Fx<'_>,
    ) {
        if !self.others.is_up(node) || !self.forwarding.has_room() {
            return tell(req, Err(format!("node {node} cannot be asked now")), fx);
        }
        let call = self.forwarding.begin(req, node, call, "");
        self.others.say(node, NodeSaid::Call(call));
    }

    /// Something is decided, and true, that this shard has asked itself for.
    pub fn inside_done(&mut self, number: u64, answer: Result<Called, String>) {
        let Some((node, theirs)) = self.forwarded.done(number) else {
            return self.members.done(number, answer);
        };
        let said = NodeSaid::Called {
            number: theirs,
            metadata: self.metadata.committed.version,
            answer,
        };
        self.others.say(node, said);
    }

    /// Passes requests on that wait for whoever leads. Those of other nodes go back: they know by now, or ask again.
    pub(super) fn forward_some(&mut self, now: Mono) {
        if !self.forwarding.may_begin(now) {
            return;
        }
        let leader = self.metadata.quorum.as_ref().and_then(QuorumDriver::leader);
        let Some(leader) = leader.filter(|it| *it != self.me && self.others.is_up(it.node)) else {
            return;
        };
        while self.forwarding.may_begin(now)
            && let Some(turn) = self.queue.pop()
        {
            let ToDecide::Client(call) = turn.call else {
                continue;
            };
            if let Some(number) = ReqRef::number_inside(turn.req.id) {
                self.inside_done(number, Ok(Called::Again));
                continue;
            }
            let listeners = &self.metadata.config.listeners.0;
            let listener = listeners.get(call.listener).map_or("", |it| &it.name);
            let call = self.forwarding.begin(turn.req, leader.node, call, listener);
            self.others.say(leader.node, NodeSaid::Call(call));
        }
    }

    /// Tells those whose answers are true for this node's clients by now.
    pub(super) fn answer_forwarded(&mut self, fx: &mut Fx<'_>) {
        let version = self.metadata.served_by_all();
        while let Some((req, answer)) = self.forwarding.next_served(version) {
            tell(req, answer, fx);
        }
    }

    /// There is no connection to a node any more: it does not answer what it was asked, which whoever leads next is,
    /// nor is it told anything.
    fn forgotten_by(&mut self, node: NodeId, fx: &mut Fx<'_>) {
        for (req, call) in self.forwarding.lost(node) {
            if is_of_nodes(&call) {
                tell(
                    req,
                    Err(format!("there is no connection to node {node}")),
                    fx,
                );
                continue;
            }
            self.queue.push(req, ToDecide::Client(call));
        }
        for number in self.forwarded.lost(node) {
            self.queue.cancel(ReqRef::inside(number), self.decides());
        }
    }

    /// Asks whoever leads for what this node needs to be a broker that leads.
    fn ask_to_be_member(&mut self, fx: &Fx<'_>) {
        let leads = self.metadata.leads();
        let quorum = self.metadata.quorum.as_ref();
        let leader = quorum.and_then(|quorum| match leads {
            true => Some(self.me),
            false => quorum.leader(),
        });
        let Some(leader) = leader else {
            return;
        };
        if let Some(ask) = self.metadata.member_ask(fx.now.mono) {
            match leads {
                true => self.members.ask(leader.node, ask),
                false => self.others.say(leader.node, NodeSaid::Ask(ask)),
            }
        }
    }

    /// Looks which brokers are gone, if this node leads: `judged` says what is thought of a node. A leader that is
    /// gone need not be waited for; those that are late are.
    pub fn look_at_others(
        &mut self,
        mut judged: impl FnMut(NodeId) -> Option<(DirectoryId, Judged)>,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) {
        if self.leaves_at != Mono::NEVER || self.leaves {
            // Others need not talk to a node that stops.
            return;
        }
        let (now, me) = (fx.now.mono, self.me.node);
        let image = &self.metadata.image;
        let heard = |node| judged(node).map(|(directory, it)| (directory, it.verdict));
        self.members.look(now, me, image, heard);
        let config = &self.metadata.config;
        if config.auto_leader_rebalance_enable {
            let seconds = config.leader_imbalance_check_interval_seconds;
            self.members.balance(now, 1000 * seconds.unsigned_abs());
        }
        let Some(quorum) = &mut self.metadata.quorum else {
            return;
        };
        quorum.bear(now, |node| {
            judged(node).map_or(0, |(_, it)| it.silence_ms_max)
        });
        if let Some(leader) = quorum.leader()
            && judged(leader.node).is_some_and(|(_, it)| it.verdict == Verdict::Dead)
        {
            self.quorum_input(QuorumInput::Gone(leader), owner, fx);
        }
    }

    /// The node is about to stop: others are to lead what they may.
    pub fn leave(&mut self) {
        if let Some(membership) = &mut self.metadata.membership {
            membership.leave();
        }
    }

    /// Whether they do, as far as this node knows: the metadata say that it leads nothing, and that nobody waits for
    /// it.
    pub fn has_left(&mut self) -> bool {
        let node = self.me.node;
        let Some(membership) = &self.metadata.membership else {
            return true;
        };
        let Some(image) = self.metadata.known() else {
            return false;
        };
        if self.has_left.0 != image.version {
            let mut partitions = image.topics().flat_map(|topic| topic.partitions.iter());
            let mut leads = || {
                partitions.any(|partition| {
                    let counts = partition.isr.contains(&node) && partition.isr.len() > 1;
                    partition.leader == node || counts
                })
            };
            self.has_left = (image.version, !membership.wants(node, image) && !leads());
        }
        self.has_left.1
    }

    /// Whether a node that is to stop need not be there for the others any more.
    pub fn may_leave(&self) -> bool {
        let quorum = self.metadata.quorum.as_ref();
        // Whoever leads instead of this node may need its vote until it does.
        let is_led = quorum.is_none_or(|quorum| quorum.leader().is_some());
        is_led && self.forwarding.is_empty() || self.leaves
    }

    /// A node that stops has waited long enough for others: whoever waits for them is told.
    fn give_up_all(&mut self, fx: &mut Fx<'_>) {
        if self.others.is_alone() {
            return;
        }
        self.resign(fx);
        let waiting = self.queue.drain().into_iter().map(|turn| turn.req);
        for req in waiting.chain(self.forwarding.give_up()) {
            let answer = Err("the broker stops".to_owned());
            tell(req, answer, fx);
        }
    }

    /// When something of it is due.
    pub(super) fn others_wake_at(&self) -> Mono {
        let asks = self.metadata.member_asks_at();
        let forms = self.is_blank.then(|| self.others.tell_at());
        let fetches = self.fetching.as_ref().map(|it| it.until);
        let forwards = self.forwarding.pauses();
        let due = forms.into_iter().chain(fetches).chain(asks).chain(forwards);
        due.fold(self.leaves_at.min(self.members.deadline()), Mono::min)
    }

    /// Does what it is time for, and what there is to do with snapshots.
    pub(super) fn others_go_on(&mut self, owner: &mut Owner, fx: &mut Fx<'_>) {
        self.form(owner, fx);
        let now = fx.now.mono;
        self.members.pass(now);
        if self.fetching.as_ref().is_some_and(|it| it.until <= now) {
            self.give_up_fetching("it does not come", owner, fx);
        }
        if self.leaves_at <= now {
            (self.leaves, self.leaves_at) = (true, Mono::NEVER);
            self.give_up_all(fx);
        }
        self.fetch_some(fx);
        self.ask_to_be_member(fx);
        self.forward_some(now);
        // Decisions go on meanwhile, however many nodes want all of it.
        let share = self.left.div_ceil(2);
        let mut left = share;
        while let Some((node, part)) = self.sending.go_on(&mut left) {
            self.others.say(node, part);
        }
        self.left -= share - left;
    }

    /// Begins to fetch a snapshot, if one is wanted.
    pub(super) fn fetch_some(&mut self, fx: &Fx<'_>) {
        if self.fetched.is_some() {
            // It has its turn when that counts.
            return;
        }
        let quorum = self.metadata.quorum.as_mut();
        let Some((from, mark)) = quorum.and_then(|quorum| quorum.next_fetch()) else {
            return;
        };
        self.stop_snapshotting(fx);
        let (id, from) = (mark.id, from.node);
        tracing::info!(
            "the metadata up to entry {} is fetched from node {from}",
            id.index
        );
        let nothing = self.metadata.nothing();
        let (fetching, ask) = SnapshotFetching::new(fx.now.mono, from, mark, nothing);
        self.fetching = Some(fetching);
        self.others.say(from, ask);
    }

    /// A snapshot that is being written down would stand between the parts of the other one.
    fn stop_snapshotting(&mut self, fx: &Fx<'_>) {
        if let Some(snapshot) = self.snapshot.take_if(|it| it.written.is_none()) {
            snapshot.writer.leave(&mut self.metadata.leftovers);
            if let Some(quorum) = &mut self.metadata.quorum {
                quorum.not_snapshotted(fx.now.mono);
            }
        }
    }

    fn take_part(&mut self, records: &Bytes, is_last: bool, owner: &mut Owner, fx: &mut Fx<'_>) {
        let Some(fetching) = &mut self.fetching else {
            return;
        };
        let from = fetching.from;
        match fetching.take(records, is_last, owner, fx) {
            Ok(SnapshotFetched::Partly(ask)) => self.others.say(from, ask),
            Ok(SnapshotFetched::Whole(end, image)) => {
                self.fetching = None;
                self.fetched = Some((end.id, image));
                let quorum = self.metadata.quorum.as_mut();
                if !quorum.is_some_and(|quorum| quorum.fetched(Some(end), owner, fx)) {
                    self.fetched = None;
                }
                self.decide_some(owner, fx);
            }
            Err(why) => self.give_up_fetching(&why, owner, fx),
        }
    }

    /// The leader offers it again, or a newer one.
    fn give_up_fetching(&mut self, why: &str, owner: &mut Owner, fx: &mut Fx<'_>) {
        if let Some(fetching) = self.fetching.take() {
            tracing::warn!(
                "the snapshot of the metadata from node {} is given up: {why}",
                fetching.from
            );
            if let Some(quorum) = &mut self.metadata.quorum {
                quorum.fetched(None, owner, fx);
            }
        }
    }

    /// What was fetched is on the disk, and true.
    pub(super) fn installed(&mut self, mark: &SnapshotMark, fx: &mut Fx<'_>) -> Result<(), String> {
        let fetched = self.fetched.take_if(|(id, _)| *id == mark.id);
        let (id, image) =
            fetched.ok_or("a snapshot of the metadata that nobody has fetched counts")?;
        let leftovers = &mut self.metadata.leftovers;
        self.sending.set_newest(id, (*image).clone(), leftovers);
        self.metadata.install(id, *image, fx);
        Ok(())
    }
}
