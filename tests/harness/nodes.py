"""Several nodes that are one cluster."""

import contextlib
import dataclasses
import struct
import subprocess
import time

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from . import paths, protocol
from .broker import Millrace, free_port
from .load import QUIET
from .suite import eventually


class Node(Millrace):
    """A node of a cluster, which serves clients only when there is a quorum."""

    def __init__(self, number: int, voters: dict[int, str], host: str = Millrace.host, become=None):
        super().__init__()
        self.number, self.host, self._become = number, host, become
        self.voters, self.controller = voters, voters[number]
        self.overrides |= {
            "node.id": str(number),
            "process.roles": "broker,controller",
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://{voters[number]}",
            "advertised.listeners": f"PLAINTEXT://{self.address}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "controller.quorum.voters": ",".join(f"{node}@{address}" for node, address in voters.items()),
            "millrace.cluster.preview": "true",
            "millrace.shards": "1",
        }

    def become(self):
        super().become()
        if self._become:
            self._become(self.number)

    def __enter__(self) -> "Node":
        self.spawn()
        return self


class Observer(Node):
    """A node that has no vote: told who the voters are, or by `servers` no more than where to ask."""

    def __init__(self, number: int, nodes: list[Node], servers: list[Node] | None = None, host: str = Millrace.host, become=None):
        super().__init__(number, {**nodes[0].voters, number: f"{host}:{free_port()}"}, host, become)
        self.overrides["process.roles"] = "broker"
        if servers:
            del self.overrides["controller.quorum.voters"]
            self.overrides["controller.quorum.bootstrap.servers"] = ",".join(node.controller for node in servers)
        else:
            self.overrides["controller.quorum.voters"] = nodes[0].overrides["controller.quorum.voters"]


@contextlib.contextmanager
def cluster(count: int = 3, network=None, prepare=None, observers: int = 0):
    """Nodes that have found each other and may lead, so many of them without a vote; on machines of a network, or else on this one.
    `prepare` is given each node before its first start."""
    host = network.host if network else lambda _: Millrace.host
    voters = {number: f"{host(number)}:{free_port()}" for number in range(1, count - observers + 1)}
    with contextlib.ExitStack() as stack:
        nodes = [Node(number, voters, host(number), network and network.enter) for number in voters]
        nodes += [Observer(number, nodes, None, host(number), network and network.enter) for number in range(len(nodes) + 1, count + 1)]
        for node in nodes:
            if prepare:
                prepare(node)
            stack.enter_context(node)
        for node in nodes:
            node.wait_ready()
        # Ready means no more than registered.
        for node in nodes:
            eventually(lambda node=node: brokers(node) == set(range(1, count + 1)), 20, "all of them are brokers that may lead")
        yield nodes


def start_together(nodes):
    """Starts them, none of which need serve before the others are there."""
    for node in nodes:
        node.spawn()
    for node in nodes:
        node.wait_ready()


def restart_together(nodes):
    """kill -9 for all of them, and another start."""
    for node in nodes:
        node.kill()
    start_together(nodes)


def admin(node: Millrace) -> AdminClient:
    return AdminClient({"bootstrap.servers": node.address, **QUIET})


def create(node: Millrace, topic: str, partitions: int = 1, replicas: int = 1, seconds: float = 20, **config: str):
    """Creates a topic. A node that has decided and leads no more closes the connection, for it does not know what has
    become of it: then it is asked again, as after the death of a broker."""
    client, deadline, again = admin(node), time.monotonic() + seconds, False
    settings = {key.replace("_", "."): value for key, value in config.items()}
    while True:
        try:
            return client.create_topics([NewTopic(topic, partitions, replicas, config=settings)])[topic].result(20)
        except KafkaException as error:
            name = error.args[0].name()
            if again and name == "TOPIC_ALREADY_EXISTS":
                return None
            # Just after a start of most nodes none of them is let lead yet, as in Kafka.
            is_early = name == "INVALID_REPLICATION_FACTOR" and "currently fenced" in error.args[0].str()
            if name != "_TRANSPORT" and not is_early or time.monotonic() > deadline:
                raise
            again = again or not is_early
            time.sleep(0.1)


def kafka_tool(node: Millrace, name: str, *args: str) -> str:
    """What one of Kafka's own tools says."""
    java = ["java", "-XX:TieredStopAtLevel=1", "-Xmx256M", "-cp", paths.KAFKA_CLASSPATH, f"org.apache.kafka.tools.{name}"]
    done = subprocess.run([*java, *args, "--bootstrap-server", node.address], capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


def brokers(node: Millrace) -> set[int]:
    return set(admin(node).list_topics(timeout=10).brokers)


def topics(node: Millrace) -> set[str]:
    return set(admin(node).list_topics(timeout=10).topics)


def in_sync(node: Millrace, topic: str) -> list[tuple[int, set[int]]]:
    """The leader of each partition of a topic, and who is in sync."""
    described = admin(node).list_topics(topic, timeout=10).topics[topic].partitions
    return [(described[number].leader, set(described[number].isrs)) for number in sorted(described)]


def addresses(nodes: list[Millrace]) -> str:
    return ",".join(node.address for node in nodes)


@dataclasses.dataclass
class Quorum:
    """The metadata quorum as one node tells it: the end of the log of each replica, by node."""

    leader: int
    epoch: int
    high_watermark: int
    voters: dict[int, int]
    observers: dict[int, int]


def described_quorum(node: Millrace) -> Quorum:
    """What DescribeQuorum (version 1) is answered by a node."""
    topic = b"__cluster_metadata"
    body = b"\0" + bytes([2, len(topic) + 1]) + topic + bytes([2]) + struct.pack(">i", 0) + b"\0\0\0"
    with protocol.Connection(node.port, timeout=20) as connection:
        connection.send(protocol.frame(protocol.DESCRIBE_QUORUM, 1, 7, body))
        reply = connection.reply()
    at = 4 + 1  # Correlation id, tags.
    error, topics = struct.unpack_from(">hB", reply, at)
    if error or topics != 2:
        raise RuntimeError(f"DescribeQuorum: error {error}, {reply!r}")
    at += 3 + 1 + len(topic) + 1
    _, error, leader, epoch, high_watermark = struct.unpack_from(">ihiiq", reply, at)
    if error:
        raise RuntimeError(f"DescribeQuorum: error {error} of the partition")
    at += 22
    both = []
    for _ in range(2):
        count, at = reply[at] - 1, at + 1
        states = [struct.unpack_from(">iqqqB", reply, at + number * 29) for number in range(count)]
        both.append({state[0]: state[1] for state in states})
        at += count * 29
    return Quorum(leader, epoch, high_watermark, *both)
