//! A view of the cluster: its brokers, who leads what, and one connection to each
//! broker that was needed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kafka_wire::metadata_request::MetadataRequestTopic;
use kafka_wire::metadata_response::MetadataResponseTopic;
use kafka_wire::{FindCoordinatorRequest, MetadataRequest, MetadataResponse};
use kafka_wire_core::StrBytes;

use super::nearest::nearest;
use super::{ClientError, Conn, Result, message};
use millrace::base::{ErrorCode, TopicId};

/// Pause between two attempts of something that needs time: an election, a restart.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// What FindCoordinator may be asked for.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

/// One partition as Metadata tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partition {
    /// Index in the topic, from 0.
    pub index: i32,
    /// Node id of the leader, -1 if there is none.
    pub leader: i32,
    /// Leader epoch, -1 if the broker does not tell.
    pub leader_epoch: i32,
    /// Node ids of all replicas, the preferred leader first.
    pub replicas: Vec<i32>,
    /// Node ids of the replicas in sync.
    pub isr: Vec<i32>,
}

/// One topic as Metadata tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its id, zero from brokers before 2.8.
    pub id: TopicId,
    /// Whether it belongs to the cluster itself, such as `__consumer_offsets`.
    pub internal: bool,
    /// Partitions in the order of their indexes.
    pub partitions: Vec<Partition>,
}

impl Topic {
    /// The partition of this index.
    pub fn partition(&self, index: i32) -> Result<&Partition> {
        self.partitions
            .iter()
            .find(|p| p.index == index)
            .ok_or_else(|| ClientError::UnknownPartition {
                topic: self.name.clone(),
                partition: index,
                partitions: self.partitions.len(),
            })
    }

    /// These partitions by the node id of their leader; one that has none is an error.
    pub fn by_leader(
        &self,
        partitions: impl IntoIterator<Item = i32>,
    ) -> Result<BTreeMap<i32, Vec<i32>>> {
        let mut by_leader: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for index in partitions {
            let leader = self.partition(index)?.leader;
            if leader < 0 {
                return Err(ClientError::NoLeader {
                    topic: self.name.clone(),
                    partition: index,
                });
            }
            by_leader.entry(leader).or_default().push(index);
        }
        Ok(by_leader)
    }
}

/// The cluster behind a list of bootstrap addresses.
pub struct Cluster {
    bootstrap: Vec<String>,
    timeout: Duration,
    seed: Option<Conn>,
    brokers: BTreeMap<i32, String>,
    conns: BTreeMap<i32, Conn>,
    controller: i32,
}

impl Cluster {
    /// Connects to the first of the comma-separated `host:port` addresses that answers.
    pub fn connect(bootstrap: &str, timeout: Duration) -> Result<Self> {
        let bootstrap = bootstrap.split(',').map(|a| a.trim().to_owned()).collect();
        let mut cluster = Self {
            bootstrap,
            timeout,
            seed: None,
            brokers: BTreeMap::new(),
            conns: BTreeMap::new(),
            controller: -1,
        };
        cluster.metadata(Some(&[]))?;
        Ok(cluster)
    }

    /// `host:port` of every live broker, by node id, as of the last metadata.
    pub fn brokers(&self) -> &BTreeMap<i32, String> {
        &self.brokers
    }

    /// Asks for metadata of these topics (all if `None`) and takes over the list of brokers.
    pub fn metadata(&mut self, topics: Option<&[&str]>) -> Result<MetadataResponse> {
        let mut request = message!(MetadataRequest {
            topics: None,
            allow_auto_topic_creation: false
        });
        request.topics = topics.map(|names| {
            names
                .iter()
                .map(|name| {
                    message!(MetadataRequestTopic {
                        name: Some(StrBytes::from(*name))
                    })
                })
                .collect()
        });
        let response = match self.any()?.call(&request) {
            // A kept connection may have died long ago, with its broker: look for another one.
            Err(error) if error.is_retriable() => {
                self.forget_all();
                self.any()?.call(&request)?
            }
            other => other?,
        };
        self.brokers = response
            .brokers
            .iter()
            .map(|b| (b.node_id, host_port(&b.host, b.port)))
            .collect();
        self.controller = response.controller_id;
        Ok(response)
    }

    /// All topics of the cluster, by name.
    pub fn topics(&mut self) -> Result<Vec<Topic>> {
        let mut topics: Vec<Topic> = self.metadata(None)?.topics.iter().map(topic_of).collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// One topic. Unknown: an error that names the nearest existing one.
    pub fn topic(&mut self, name: &str) -> Result<Topic> {
        let response = self.metadata(Some(&[name]))?;
        let Some(found) = response.topics.first() else {
            return Err(self.unknown_topic(name)?);
        };
        if found.error_code == ErrorCode::UnknownTopicOrPartition.code() {
            return Err(self.unknown_topic(name)?);
        }
        ClientError::check(|| format!("look up topic '{name}'"), found.error_code, None)?;
        Ok(topic_of(found))
    }

    /// The topic once every partition of it has a leader; waits for that until `deadline`.
    pub fn topic_with_leaders(&mut self, name: &str, deadline: Instant) -> Result<Topic> {
        loop {
            let failure = match self.topic(name) {
                Ok(topic) => match topic.partitions.iter().find(|p| p.leader < 0) {
                    None => return Ok(topic),
                    Some(p) => ClientError::NoLeader {
                        topic: topic.name.clone(),
                        partition: p.index,
                    },
                },
                Err(error) => error,
            };
            if !failure.is_retriable() || Instant::now() >= deadline {
                return Err(failure);
            }
            std::thread::sleep(RETRY_PAUSE);
        }
    }

    /// A connection to this broker, made if there is none yet.
    pub fn node(&mut self, id: i32) -> Result<&mut Conn> {
        if !self.conns.contains_key(&id) {
            let conn = self.connect_to(id)?;
            self.conns.insert(id, conn);
        }
        Ok(self.conns.get_mut(&id).expect("inserted above"))
    }

    /// A new connection to this broker, for the caller to own.
    pub fn connect_to(&self, id: i32) -> Result<Conn> {
        let address = self
            .brokers
            .get(&id)
            .ok_or_else(|| ClientError::Unreachable {
                address: format!("with node id {id}"),
                source: std::io::Error::new(
                    std::io::ErrorKind::NotFound,
                    "the cluster's metadata does not list it",
                ),
            })?;
        Conn::connect(address, self.timeout)
    }

    /// A connection to the broker to which changes of topics are sent.
    pub fn controller(&mut self) -> Result<&mut Conn> {
        match self.controller {
            id if self.brokers.contains_key(&id) => self.node(id),
            _ => self.any(),
        }
    }

    /// A connection to the coordinator of this consumer group.
    pub fn coordinator(&mut self, group: &str) -> Result<&mut Conn> {
        let id = self.find_coordinator(GROUP, group)?;
        self.node(id)
    }

    /// A connection to the coordinator of this transactional id.
    pub fn transaction_coordinator(&mut self, id: &str) -> Result<&mut Conn> {
        let id = self.find_coordinator(TRANSACTION, id)?;
        self.node(id)
    }

    /// Does something that may be done twice, again and again while it fails for a reason that
    /// passes: a leader or a coordinator that is still starting, a connection that broke.
    pub fn retry<T>(&mut self, mut operation: impl FnMut(&mut Self) -> Result<T>) -> Result<T> {
        let deadline = Instant::now() + self.timeout;
        loop {
            match operation(self) {
                Err(error) if error.is_retriable() && Instant::now() < deadline => {
                    std::thread::sleep(RETRY_PAUSE);
                    self.forget_all();
                }
                other => return other,
            }
        }
    }

    /// Closes what is kept, so that the next use connects afresh.
    pub fn forget_all(&mut self) {
        self.seed = None;
        self.conns.clear();
    }

    /// Any connection: a kept one, else the first bootstrap address or known broker that answers.
    pub fn any(&mut self) -> Result<&mut Conn> {
        if self.seed.is_none() {
            let mut failure = None;
            for address in self.bootstrap.iter().chain(self.brokers.values()) {
                match Conn::connect(address, self.timeout) {
                    Ok(conn) => {
                        self.seed = Some(conn);
                        break;
                    }
                    Err(error) => failure = failure.or(Some(error)),
                }
            }
            if let (None, Some(failure)) = (&self.seed, failure) {
                return Err(failure);
            }
        }
        Ok(self
            .seed
            .as_mut()
            .expect("split yields at least one address"))
    }

    fn find_coordinator(&mut self, kind: i8, name: &str) -> Result<i32> {
        let conn = self.any()?;
        let version = conn.version::<FindCoordinatorRequest>()?;
        let key = StrBytes::from(name);
        let mut request = if version >= 4 {
            message!(FindCoordinatorRequest {
                coordinator_keys: vec![key]
            })
        } else {
            message!(FindCoordinatorRequest { key: key })
        };
        request.key_type = kind;
        let response = conn.call_at(&request, version)?;
        let of = if kind == GROUP {
            "group"
        } else {
            "transactional id"
        };
        let what = || format!("find the coordinator of {of} '{name}'");
        let (id, host, port) = match response.coordinators.first() {
            Some(found) => {
                ClientError::check(what, found.error_code, found.error_message.as_deref())?;
                (found.node_id, &found.host, found.port)
            }
            None => {
                ClientError::check(what, response.error_code, response.error_message.as_deref())?;
                (response.node_id, &response.host, response.port)
            }
        };
        self.brokers.insert(id, host_port(host, port));
        Ok(id)
    }

    fn unknown_topic(&mut self, name: &str) -> Result<ClientError> {
        let topics = self.topics()?;
        let nearest = nearest(name, topics.iter().map(|t| t.name.as_str())).map(str::to_owned);
        Ok(ClientError::UnknownTopic {
            topic: name.to_owned(),
            nearest,
        })
    }
}

fn topic_of(found: &MetadataResponseTopic) -> Topic {
    let mut partitions: Vec<Partition> = found
        .partitions
        .iter()
        .map(|p| Partition {
            index: p.partition_index,
            leader: p.leader_id,
            leader_epoch: p.leader_epoch,
            replicas: p.replica_nodes.clone(),
            isr: p.isr_nodes.clone(),
        })
        .collect();
    partitions.sort_by_key(|p| p.index);
    Topic {
        name: found
            .name
            .as_ref()
            .map(|n| n.to_string())
            .unwrap_or_default(),
        id: TopicId(found.topic_id.to_bytes()),
        internal: found.is_internal,
        partitions,
    }
}

/// Joins a host and a port; an IPv6 address needs its brackets.
fn host_port(host: &str, port: i32) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_join() {
        assert_eq!(host_port("broker-1", 9092), "broker-1:9092");
        assert_eq!(host_port("::1", 9092), "[::1]:9092");
    }

    #[test]
    fn a_partition_that_is_not_there_is_named() {
        let topic = Topic {
            name: "t".into(),
            partitions: vec![Partition::default()],
            ..Topic::default()
        };
        assert!(topic.partition(0).is_ok());
        let text = topic.partition(3).unwrap_err().to_string();
        assert_eq!(
            text,
            "topic 't' has no partition 3: it has 1, counted from 0"
        );
    }

    #[test]
    fn a_dead_broker_is_reported_with_advice() {
        // Port 9 (discard) of the loopback is served nowhere these programs are run.
        let error = Cluster::connect("127.0.0.1:9", Duration::from_secs(1))
            .err()
            .expect("no broker there");
        assert!(
            error.to_string().contains("Check that the broker runs"),
            "{error}"
        );
        assert!(error.is_retriable());
    }
}
