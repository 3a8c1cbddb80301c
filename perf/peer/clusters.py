"""Three nodes that are one cluster, of either kind, all on the broker's core. What is said of a cluster is said of all of
its nodes together."""

import contextlib
import os
import pathlib
import uuid

from confluent_kafka.admin import AdminClient

from harness import broker, nodes
from harness.load import QUIET
from harness.suite import eventually

from .systems import NEVER, TITLES, Kafka, Pinned

NODES, REPLICAS, IN_SYNC = 3, 3, 2
START_SECONDS_MAX = 180


class MillraceNode(Pinned, nodes.Node):
    """As `make cluster` starts it: one shard, durable."""


class KafkaNode(Kafka):
    """As its scripts start it: a broker that is a controller as well."""

    flush_messages = NEVER

    def __init__(self, number: int, voters: dict[int, str]):
        super().__init__()
        # All of them have the same.
        self.cluster_id = broker.cluster_id(uuid.uuid5(uuid.NAMESPACE_URL, ",".join(voters.values())))
        self.overrides |= {
            "node.id": str(number),
            "controller.quorum.voters": ",".join(f"{node}@{address}" for node, address in voters.items()),
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://{voters[number]}",
            "offsets.topic.replication.factor": str(REPLICAS),
        }
        # Kafka's own default, which the tests' single broker does without.
        del self.overrides["group.initial.rebalance.delay.ms"]


class KafkaNodeFsync(KafkaNode):
    """The same, and each append is durable before it is acknowledged."""

    flush_messages = "1"


CLUSTERS = {"kafka": KafkaNode, "millrace": MillraceNode, "kafka-fsync": KafkaNodeFsync}
assert set(CLUSTERS) <= set(TITLES)


class Cluster:
    """See the module; use it as a context manager."""

    def __init__(self, system: str):
        voters = {number: f"127.0.0.1:{broker.free_port()}" for number in range(1, NODES + 1)}
        self.nodes = [CLUSTERS[system](number, voters) for number in voters]

    def __enter__(self) -> "Cluster":
        self._stack = contextlib.ExitStack()
        with contextlib.ExitStack() as stack:
            for node in self.nodes:
                stack.push(node.__exit__)
                node.spawn()
            for node in self.nodes:
                node.wait_ready()
            eventually(lambda: len(self.brokers()) == NODES, START_SECONDS_MAX, "all of them are brokers that may lead")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error):
        return self._stack.__exit__(*error)

    def brokers(self) -> dict:
        return AdminClient({"bootstrap.servers": self.address, **QUIET}).list_topics(timeout=30).brokers

    @property
    def address(self) -> str:
        return ",".join(node.address for node in self.nodes)

    @property
    def pid(self) -> int:
        """Of the first one, for a generator that wants to know one."""
        return self.nodes[0].pid

    def cpu_seconds(self) -> float:
        return sum(node.cpu_seconds() for node in self.nodes)

    def rss_mib(self) -> float:
        return sum(node.rss_mib() for node in self.nodes)


def loopback_bytes() -> int:
    """What has gone over this machine's loopback so far, headers included."""
    for line in pathlib.Path("/proc/net/dev").read_text().splitlines():
        name, _, counts = line.partition(":")
        if name.strip() == "lo":
            return int(counts.split()[0])
    return 0


def on_core(core: str) -> None:
    """Keeps this process, and what it starts, on a core."""
    os.sched_setaffinity(0, {int(core)})
