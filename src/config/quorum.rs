//! Which nodes a cluster has, as far as a file says so: the roles of this one, the voters, and where they are
//! found; with the checks that Kafka makes at its start.
//!
//! A node stands alone so far. So what names other nodes is refused here, rather than taken for something else:
//! a node that begins a cluster of its own instead of joining the one that was meant serves other data. With
//! `millrace.cluster.preview` a node may be one of several: a voter, or an observer of the voters, with the broker role
//! alone or told by `controller.quorum.bootstrap.servers` where they are. It lists a listener of
//! `controller.listener.names` too (Kafka's brokers do not): other nodes reach it by that.

use std::net::IpAddr;

use super::broker::BrokerConfig;
use super::listeners::{Endpoint, Endpoints};
use super::value::Value;
use crate::base::NodeId;
use crate::base::limits::QUORUM_VOTERS_MAX;

const ROLES: &str = "process.roles";
const VOTERS: &str = "controller.quorum.voters";
const SERVERS: &str = "controller.quorum.bootstrap.servers";
const CONTROLLER_LISTENERS: &str = "controller.listener.names";
const INTER_BROKER_LISTENER: &str = "inter.broker.listener.name";
const INTER_BROKER_PROTOCOL: &str = "security.inter.broker.protocol";

/// A voter of the metadata quorum and where it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoterAddress {
    /// The node.
    pub node: NodeId,
    /// Host name or address, without the brackets of IPv6.
    pub host: String,
    /// Port; 0 only where nobody has to connect.
    pub port: u16,
}

impl VoterAddress {
    /// Reads `id@host:port`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (id, address) = text.trim().split_once('@')?;
        let (host, port) = address_of(address)?;
        let node = id.parse().ok().filter(|id| *id >= 0).map(NodeId)?;
        Some(Self { node, host, port })
    }
}

/// Reads `host:port`: characters of names and addresses, as in Kafka; with a colon only in brackets.
pub(super) fn address_of(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.trim().rsplit_once(':')?;
    let (host, colons) = match host.strip_prefix('[') {
        Some(rest) => (rest.strip_suffix(']')?, true),
        None => (host, false),
    };
    let of_host = |c: char| c.is_ascii_alphanumeric() || "-%._".contains(c) || colons && c == ':';
    let sound = !host.is_empty() && host.chars().all(of_host);
    sound.then_some((host.to_owned(), port.parse().ok()?))
}

impl BrokerConfig {
    /// The voters that the configuration names, in its order; none if it leaves that to this node.
    #[must_use]
    pub fn voters(&self) -> Vec<VoterAddress> {
        // What cannot be read has been refused before.
        let voters = self.elements(VOTERS);
        voters.filter_map(VoterAddress::parse).collect()
    }

    /// The other nodes of the cluster; none for a node that stands alone.
    #[must_use]
    pub fn other_voters(&self) -> Vec<VoterAddress> {
        let mut voters = self.voters();
        voters.retain(|voter| voter.node != self.node());
        voters
    }

    /// Whether this node has the broker role alone: the controllers, which vote about the metadata, are other nodes.
    #[must_use]
    pub fn is_broker_alone(&self) -> bool {
        let mut roles = self.elements(ROLES).peekable();
        roles.peek().is_some() && roles.all(|role| role != "controller")
    }

    /// Whether the file gives this node no vote about the metadata: it has the broker role alone, or it names no voters
    /// and where to find some, by whom it may be given one (KIP-853).
    #[must_use]
    pub fn observes(&self) -> bool {
        self.is_broker_alone() || self.is_to_be_added()
    }

    /// One with the controller role that is told where other controllers are, and not who votes. Without preview, or
    /// told of itself alone, it is a cluster of its own.
    fn is_to_be_added(&self) -> bool {
        let mut servers = self.elements(SERVERS).filter_map(address_of);
        self.millrace_cluster_preview
            && self.voters().is_empty()
            && servers.any(|(host, port)| !(self.names_this_node(&host) && self.listens_at(port)))
    }

    fn listens_at(&self, port: u16) -> bool {
        let all = self.listeners.0.iter().chain(&self.controller_listeners);
        all.chain(self.advertised_listeners.iter().flat_map(|it| &it.0))
            .any(|listener| listener.port == port)
    }

    /// Whether this node is one of several.
    #[must_use]
    pub fn is_member(&self) -> bool {
        self.observes() || !self.other_voters().is_empty()
    }

    /// Where an observer finds voters, if the configuration does not say who they are: host and port each.
    #[must_use]
    pub fn quorum_servers(&self) -> Vec<(String, u16)> {
        let servers = self.elements(SERVERS).filter_map(address_of);
        let is_used = self.observes() && self.voters().is_empty();
        servers.filter(|_| is_used).collect()
    }

    /// Where other nodes reach this one, if that has a port: its first controller listener, as it is advertised.
    #[must_use]
    pub fn reached(&self) -> Option<Endpoint> {
        let listener = self.controller_listeners.first()?;
        let advertised = self.explicit.get("advertised.listeners");
        let advertised = advertised.and_then(|list| Endpoints::parse(list).ok());
        let mut all = advertised.into_iter().flat_map(|list| list.0);
        let shown = all.find(|it| it.name == listener.name);
        let mut shown = shown.unwrap_or_else(|| listener.clone());
        if shown.names_no_host() {
            shown.host.clone_from(&self.host_name);
        }
        (shown.port > 0).then_some(shown)
    }

    /// Whether a setting that changes nothing by itself says here which nodes there are.
    pub(super) fn names_nodes(&self, key: &str) -> bool {
        self.is_member() && [ROLES, VOTERS, SERVERS, CONTROLLER_LISTENERS].contains(&key)
    }

    /// What to say of a bootstrap server that may be another node; `None` if there is none. It is not refused: the name
    /// of this machine or container, which many configurations have there, cannot be told from another's.
    #[must_use]
    pub fn bootstrap_doubt(&self) -> Option<String> {
        let servers = self.elements(SERVERS).filter_map(address_of);
        let mut servers = servers.filter(|_| !self.observes());
        let (host, port) = servers.find(|(host, _)| !self.names_this_node(host))?;
        let named = self.named(SERVERS);
        Some(format!(
            "{named} names {host}:{port}, and this node does not look there: it is a cluster of its own, the only \
             voter. If {host} is another node, stop this one: it would serve other data"
        ))
    }

    /// Whether a host is this node's for certain.
    fn names_this_node(&self, host: &str) -> bool {
        let is_loopback = host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let is = |own: &str| own.eq_ignore_ascii_case(host);
        // Those of controllers are left out of the listeners that are served.
        let set = self
            .explicit
            .get("listeners")
            .map(|set| Endpoints::parse(set));
        let set = set.into_iter().flatten();
        let served = self.advertised_listeners.iter().chain([&self.listeners]);
        is_loopback
            || is("localhost")
            || is(&self.host_name)
            || served
                .flat_map(|all| &all.0)
                .any(|endpoint| is(&endpoint.host))
            || set.flat_map(|all| all.0).any(|endpoint| is(&endpoint.host))
    }

    /// The elements of a list that was set.
    fn elements(&self, key: &str) -> impl Iterator<Item = &str> {
        let list = self.explicit.get(key).filter(|list| !list.is_empty());
        list.into_iter().flat_map(|list| list.split(','))
    }

    /// What about the nodes of the cluster cannot be, as (key, what was expected).
    pub(super) fn quorum_contradictions(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let mut require = |holds: bool, key, why: String| {
            if !holds {
                found.push((key, why));
            }
        };
        let (me, voters) = (self.node(), self.voters());
        let votes = |node| voters.iter().filter(|voter| voter.node == node).count();
        require(
            voters.len() <= QUORUM_VOTERS_MAX && voters.iter().all(|v| votes(v.node) == 1),
            VOTERS,
            format!("each node once, and {QUORUM_VOTERS_MAX} nodes at most"),
        );
        let observes = self.observes();
        let is_broker_alone = self.is_broker_alone();
        require(
            voters.is_empty() || observes || votes(me) > 0,
            VOTERS,
            format!("this node, {me} by node.id, among them: it has the controller role"),
        );
        require(
            !observes || votes(me) == 0,
            VOTERS,
            format!("other nodes than this one, {me} by node.id: it has the broker role alone"),
        );
        require(
            !is_broker_alone || self.millrace_cluster_preview,
            ROLES,
            "broker,controller: a broker alone has its controllers on other nodes, and clusters of several nodes are \
             not supported yet (to try what there is of them: millrace.cluster.preview)"
                .to_owned(),
        );
        let preview = self.millrace_cluster_preview;
        let asks = observes && preview && voters.is_empty();
        require(
            !asks || self.elements(SERVERS).next().is_some(),
            SERVERS,
            "where the controllers are: this node has the broker role alone".to_owned(),
        );
        require(
            !(observes && preview) || self.reached().is_some(),
            CONTROLLER_LISTENERS,
            "the name of a listener with a port, by which other nodes reach this one".to_owned(),
        );
        let others: Vec<String> = voters
            .iter()
            .filter(|voter| voter.node != me)
            .map(|voter| voter.node.to_string())
            .collect();
        require(
            others.is_empty() || preview,
            VOTERS,
            format!(
                "this node, {me}, and no other: clusters of several nodes are not supported yet, and nodes {} are named \
                 (to try what there is of them: millrace.cluster.preview)",
                others.join(", ")
            ),
        );
        require(
            others.is_empty() || observes || !self.controller_listeners.is_empty(),
            CONTROLLER_LISTENERS,
            "the name of a listener by which the other voters reach this node".to_owned(),
        );
        require(
            observes || self.elements(SERVERS).count() <= 1,
            SERVERS,
            "one address at most, that of this node: clusters of several nodes are not supported yet".to_owned(),
        );
        let roles: Vec<&str> = self.elements(ROLES).collect();
        require(
            roles
                .iter()
                .enumerate()
                .all(|(at, role)| !roles[..at].contains(role)),
            ROLES,
            "each role once".to_owned(),
        );
        found.extend(self.listener_name_contradictions());
        found
    }

    fn listener_name_contradictions(&self) -> Option<(&'static str, String)> {
        // Those of controllers are left out by now.
        let set = self.explicit.get("listeners").map(String::as_str);
        let all = set
            .map_or_else(|| Ok(self.listeners.clone()), Endpoints::parse)
            .ok()?;
        let is_in = |list: &Endpoints, name: &str| {
            let mut names = list.0.iter();
            names.any(|endpoint| endpoint.name.eq_ignore_ascii_case(name))
        };
        let missing = self
            .elements(CONTROLLER_LISTENERS)
            .find(|name| !is_in(&all, name));
        if let Some(name) = missing {
            let why = format!("names of listeners only, which lacks {name}");
            return Some((CONTROLLER_LISTENERS, why));
        }
        let name = self.explicit.get(INTER_BROKER_LISTENER)?;
        let advertised = self.advertised_listeners.as_ref();
        if self.explicit.contains_key(INTER_BROKER_PROTOCOL) {
            let why = format!("no value beside {INTER_BROKER_PROTOCOL}: one of the two");
            return Some((INTER_BROKER_LISTENER, why));
        }
        let there = is_in(advertised.unwrap_or(&self.listeners), name);
        let why = "a listener that is advertised to brokers, none of controller.listener.names";
        (!there).then(|| (INTER_BROKER_LISTENER, why.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::load;
    use super::*;

    #[test]
    fn voters_are_read_as_in_kafka() {
        let voter = |node, host: &str, port| VoterAddress {
            node: NodeId(node),
            host: host.to_owned(),
            port,
        };
        for (text, read) in [
            ("1@localhost:9093", voter(1, "localhost", 9093)),
            (" 0@10.0.0.1:1 ", voter(0, "10.0.0.1", 1)),
            ("3@[fe80::1%eth0]:9093", voter(3, "fe80::1%eth0", 9093)),
            ("3@a_b-c.d:0", voter(3, "a_b-c.d", 0)),
        ] {
            assert_eq!(VoterAddress::parse(text), Some(read), "{text}");
        }
        for bad in [
            "",
            "1",
            "1@",
            "1@a",
            "1@:1",
            "1@a:",
            "1@a:65536",
            "1@a:-1",
            "-1@a:1",
            "x@a:1",
            "1@a@b:1",
            "1@fe80::1:9093",
            "1@[a:1",
            "1@a]:1",
            "1@a b:1",
            "1@a/b:1",
            "2147483648@a:1",
        ] {
            assert_eq!(VoterAddress::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn one_that_names_itself_alone_is_alone() {
        let texts = [
            "",
            "process.roles=broker,controller",
            "process.roles=controller, broker",
            "controller.quorum.voters=",
            "controller.quorum.voters=1@anything:9093",
            "controller.quorum.bootstrap.servers=anything:9093",
            "controller.quorum.voters=1@[::1]:9093\ncontroller.quorum.bootstrap.servers=[::1]:9093",
            "security.inter.broker.protocol=PLAINTEXT",
            "inter.broker.listener.name=plaintext",
            "listeners=CONTROLLER://:1,OUT://:2\nlistener.security.protocol.map=OUT:PLAINTEXT,CONTROLLER:SSL\n\
             controller.listener.names=CONTROLLER\ninter.broker.listener.name=OUT",
        ];
        for text in texts {
            let config = load(Some(text), &[]);
            assert!(config.is_ok(), "{text}: {config:?}");
        }
        let config = load(Some(texts[4]), &[]).unwrap();
        assert_eq!(
            config.voters(),
            [VoterAddress::parse("1@anything:9093").unwrap()]
        );
    }

    /// A broker alone, with what it needs and this besides.
    fn observer(more: &str) -> String {
        format!(
            "process.roles=broker\nmillrace.cluster.preview=true\nnode.id=4\n\
             listeners=PLAINTEXT://:1,C://:2\ncontroller.listener.names=C\n\
             listener.security.protocol.map=C:PLAINTEXT,PLAINTEXT:PLAINTEXT\n{more}"
        )
    }

    #[test]
    fn a_broker_alone_observes_the_controllers_that_it_is_told() {
        let by_servers = observer("controller.quorum.bootstrap.servers=a:9093,b:9093");
        let config = load(Some(&by_servers), &[]).unwrap();
        assert!(config.observes() && config.is_member() && config.other_voters().is_empty());
        let servers = [("a".to_owned(), 9093), ("b".to_owned(), 9093)];
        assert_eq!(config.quorum_servers(), servers);
        assert_eq!(config.bootstrap_doubt(), None);
        assert!(config.ignored.is_empty(), "{:?}", config.ignored);
        let reached = config.reached().unwrap();
        assert_eq!(
            (&*reached.name, &*reached.host, reached.port),
            ("C", "localhost", 2)
        );
        assert_eq!(config.listeners.0.len(), 1, "clients do not come by that");
        let by_voters = observer(
            "controller.quorum.voters=1@a:1,2@b:1\ncontroller.quorum.bootstrap.servers=c:1\n\
             advertised.listeners=PLAINTEXT://x:1,C://y:7",
        );
        let config = load(Some(&by_voters), &[]).unwrap();
        assert_eq!(
            (config.other_voters().len(), config.quorum_servers()),
            (2, Vec::new())
        );
        let reached = config.reached().unwrap();
        assert_eq!((&*reached.host, reached.port), ("y", 7));
        let alone = load(Some("process.roles=broker,controller"), &[]).unwrap();
        assert!(!alone.observes() && !alone.is_member());
        for (text, why) in [
            (observer(""), "where the controllers are"),
            (
                observer("controller.quorum.voters=4@a:1"),
                "other nodes than this one, 4",
            ),
            (
                observer("controller.quorum.voters=1@a:1").replace("names=C", "names="),
                "a listener with a port",
            ),
            (
                observer("controller.quorum.voters=1@a:1").replace("C://:2", "C://:0"),
                "a listener with a port",
            ),
            (
                observer("controller.quorum.voters=1@a:1").replace("preview=true", "preview=false"),
                "on other nodes",
            ),
        ] {
            let problem = load(Some(&text), &[]).expect_err(&text).to_string();
            assert!(problem.contains(why), "{text}: {problem}");
        }
    }

    #[test]
    fn a_bootstrap_server_that_may_be_another_node_is_named() {
        let doubt = |text: &str| load(Some(text), &[]).expect(text).bootstrap_doubt();
        for own in [
            "",
            "controller.quorum.bootstrap.servers=localhost:9093",
            "controller.quorum.bootstrap.servers=127.0.0.9:9093\ncontroller.quorum.auto.join.enable=true",
            "controller.quorum.bootstrap.servers=[::1]:9093",
            "controller.quorum.bootstrap.servers=Box:9093\nadvertised.listeners=PLAINTEXT://box:9092",
            "controller.quorum.bootstrap.servers=box:9093\nlisteners=PLAINTEXT://:9092,C://box:9093\n\
             controller.listener.names=C\nlistener.security.protocol.map=C:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        ] {
            assert_eq!(doubt(own), None, "{own}");
        }
        let said = doubt("controller.quorum.bootstrap.servers=controller-1:9093").expect("a doubt");
        assert!(said.contains("names controller-1:9093"), "{said}");
    }

    #[test]
    fn what_kafka_refuses_and_what_names_others_is_refused() {
        for (text, why) in [
            ("controller.quorum.voters=1@a", "id@host:port"),
            ("controller.quorum.voters=a:9093", "id@host:port"),
            ("controller.quorum.voters=1@a:1,", "id@host:port"),
            ("controller.quorum.voters=1@a:1,1@b:1", "each node once"),
            (
                "controller.quorum.voters=2@a:1",
                "this node, 1 by node.id, among them",
            ),
            (
                "controller.quorum.voters=1@a:1,2@b:1,3@c:1",
                "and nodes 2, 3 are named",
            ),
            ("controller.quorum.bootstrap.servers=a", "host:port"),
            (
                "controller.quorum.bootstrap.servers=a:1,b:1",
                "one address at most",
            ),
            ("process.roles=controller", "broker,controller"),
            ("process.roles=broker", "on other nodes"),
            ("process.roles=broker,controller,broker", "each role once"),
            ("process.roles=broker,x", "broker, controller"),
            ("controller.listener.names=CONTROLLER", "lacks CONTROLLER"),
            (
                "inter.broker.listener.name=OUT",
                "a listener that is advertised",
            ),
            (
                "inter.broker.listener.name=PLAINTEXT\nsecurity.inter.broker.protocol=PLAINTEXT",
                "one of the two",
            ),
            (
                "listeners=PLAINTEXT://:1,C://:2\ncontroller.listener.names=C\ninter.broker.listener.name=C\n\
                 listener.security.protocol.map=C:PLAINTEXT,PLAINTEXT:PLAINTEXT",
                "none of controller.listener.names",
            ),
            (
                "listeners=PLAINTEXT://:1,SSL://:2\nadvertised.listeners=PLAINTEXT://a:1\n\
                 inter.broker.listener.name=SSL\nlistener.security.protocol.map=SSL:PLAINTEXT,PLAINTEXT:PLAINTEXT",
                "a listener that is advertised",
            ),
        ] {
            let problem = load(Some(text), &[]).expect_err(text).to_string();
            assert!(problem.contains(why), "{text}: {problem}");
        }
        let many: Vec<_> = (1..=17).map(|id| format!("{id}@a:1")).collect();
        let text = format!("controller.quorum.voters={}", many.join(","));
        let problem = load(Some(&text), &[]).expect_err("too many").to_string();
        assert!(problem.contains("16 nodes at most"), "{problem}");
    }
}
