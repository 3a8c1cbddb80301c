//! The brokers of a cluster: what the newest process of each has registered, and whether it is fenced.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::features::{FEATURE_LEVEL, FeatureLevel};
use crate::base::{DirectoryId, ErrorCode, NodeId, NodeProcess, ShardId};

/// A directory of a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Directory {
    /// Which.
    pub id: DirectoryId,
    /// The shard of the broker that serves what is in it.
    pub shard: ShardId,
}

/// Where clients of a listener reach a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerAddress {
    /// Name of the listener.
    pub listener: String,
    /// Host to connect to.
    pub host: String,
    /// Port to connect to.
    pub port: u16,
    /// The ports of its shards, if each is announced as a broker of its own.
    pub shards: Vec<u16>,
}

/// What a process of a broker has registered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registration {
    /// The node, and which of its processes: Kafka's broker epoch, larger with each registration of any broker.
    pub member: NodeProcess,
    /// Random, of the process: a registration that is asked for twice is one (Kafka's incarnation id).
    pub start: [u8; 16],
    /// Whether it may neither lead nor be let into an ISR, and is not shown to clients.
    pub fenced: bool,
    /// The newest feature level that it reads.
    pub level: FeatureLevel,
    /// Where it stands, for replicas that are to stand apart.
    pub rack: Option<String>,
    /// Where clients reach it, each listener once.
    pub addresses: Vec<BrokerAddress>,
    /// All directories it has, in the order of its stores.
    pub directories: Vec<Directory>,
}

/// See the module. A clone shares all with the original.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registered {
    known: Arc<BTreeMap<NodeId, Registration>>,
}

impl Registered {
    /// A process registers, in place of the one of its node before it.
    ///
    /// # Errors
    /// STALE_BROKER_EPOCH if a later process of its node has registered.
    pub fn register(&mut self, new: Registration) -> Result<(), ErrorCode> {
        if let Some(known) = self.known.get(&new.member.node)
            && known.member.incarnation > new.member.incarnation
        {
            return Err(ErrorCode::StaleBrokerEpoch);
        }
        Arc::make_mut(&mut self.known).insert(new.member.node, new);
        Ok(())
    }

    /// Fences the registered process of a node, or ends that. Returns whether there is one.
    pub fn set_fenced(&mut self, node: NodeId, is_fenced: bool) -> bool {
        if !self.known.contains_key(&node) {
            return false;
        }
        if let Some(known) = Arc::make_mut(&mut self.known).get_mut(&node) {
            known.fenced = is_fenced;
        }
        true
    }

    /// Forgets a node. Returns whether it had registered.
    pub fn remove(&mut self, node: NodeId) -> bool {
        self.known.contains_key(&node) && Arc::make_mut(&mut self.known).remove(&node).is_some()
    }

    /// Whether it shares all with another one: nothing has changed since one was cloned of the other.
    #[must_use]
    pub fn shares_all(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.known, &other.known)
    }

    /// What a node has registered.
    #[must_use]
    pub fn get(&self, node: NodeId) -> Option<&Registration> {
        self.known.get(&node)
    }

    /// What each node has registered, by node.
    pub fn iter(&self) -> impl Iterator<Item = &Registration> {
        self.known.values()
    }

    /// The feature level that may be written from now on instead of this one, since all that have registered read it,
    /// and this release does; `newest` is a node that reads all that this release does, whatever it has registered.
    #[must_use]
    pub fn level_to_raise_to(
        &self,
        from: FeatureLevel,
        newest: Option<NodeId>,
    ) -> Option<FeatureLevel> {
        let others = self.iter().filter(|it| Some(it.member.node) != newest);
        let least = others.map(|it| it.level).min().unwrap_or(FEATURE_LEVEL);
        Some(least.min(FEATURE_LEVEL)).filter(|level| *level > from)
    }

    /// How many nodes have registered, fenced ones too.
    #[must_use]
    pub fn count(&self) -> usize {
        self.known.len()
    }

    /// The nodes that have registered, fenced ones too.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeId> {
        self.known.keys().copied().collect()
    }

    /// The process of a node that is registered.
    #[must_use]
    pub fn member(&self, node: NodeId) -> Option<NodeProcess> {
        self.get(node).map(|known| known.member)
    }

    /// Whether a process is the one of its node that is registered, and is not fenced.
    #[must_use]
    pub fn is_live(&self, member: NodeProcess) -> bool {
        let known = self.get(member.node);
        known.is_some_and(|known| known.member == member && !known.fenced)
    }

    /// Whether a node has registered and is not fenced.
    #[must_use]
    pub fn is_node_live(&self, node: NodeId) -> bool {
        self.get(node).is_some_and(|known| !known.fenced)
    }

    /// Whether nobody but this node has registered.
    #[must_use]
    pub fn has_none_but(&self, node: NodeId) -> bool {
        self.known.keys().all(|known| *known == node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Incarnation;

    fn process(node: i32, incarnation: u64) -> Registration {
        Registration {
            member: NodeProcess {
                node: NodeId(node),
                incarnation: Incarnation(incarnation),
            },
            fenced: true,
            ..Registration::default()
        }
    }

    #[test]
    fn the_newest_process_of_a_node_counts() {
        let mut brokers = Registered::default();
        brokers.register(process(1, 7)).expect("the first");
        assert!(brokers.set_fenced(NodeId(1), false) && !brokers.set_fenced(NodeId(2), false));
        assert!(brokers.is_live(process(1, 7).member) && brokers.is_node_live(NodeId(1)));
        assert!(!brokers.is_live(process(1, 6).member));
        let old = brokers.clone();
        brokers.register(process(1, 8)).expect("a later one");
        assert!(!brokers.is_node_live(NodeId(1)), "it is fenced at first");
        assert_eq!(
            brokers.register(process(1, 7)),
            Err(ErrorCode::StaleBrokerEpoch)
        );
        assert!(old.is_live(process(1, 7).member), "a clone is what it was");
        assert!(brokers.has_none_but(NodeId(1)) && !brokers.has_none_but(NodeId(2)));
    }
}
