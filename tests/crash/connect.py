"""Kafka Connect with a file at either end, standalone and distributed: workers are killed and resumed, and so is the broker, and each
line of the input is in the topic and in the output once, in its order."""

import itertools
import json
import os
import pathlib
import time
import urllib.error
import urllib.request

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource

from harness import java, paths
from harness.broker import BROKERS, Broker, free_port
from harness.load import QUIET
from harness.nodes import addresses, cluster
from harness.suite import Skipped, equal, eventually, main, test

KIND = BROKERS[os.environ.get("BROKER", "millrace")]
TOPIC, GROUP = "lines", "workers"
# The topics that Connect keeps its own things in, and their partitions.
INTERNAL = {"config": ("connect-configs", 1), "offset": ("connect-offsets", 5), "status": ("connect-status", 3)}
# As long as it goes on, it may take its time.
STALL_SECONDS_MAX = 90
LINES = 2000

CONVERTERS = {f"{side}.converter": "org.apache.kafka.connect.storage.StringConverter" for side in ("key", "value")}
# What a worker of either kind is told. Connect's producers are not idempotent unless they are told so.
WORKER = {**CONVERTERS, "plugin.discovery": "service_load", "offset.flush.interval.ms": "500", "producer.enable.idempotence": "true"}


class Lines:
    """The file that is read, which grows."""

    def __init__(self, home: pathlib.Path):
        self.path, self.count = home / "input", 0
        self.path.touch()

    def add(self, count: int):
        with open(self.path, "a") as file:
            file.writelines(f"{line}\n" for line in wanted(self.count + count)[self.count:])
        self.count += count


def wanted(count: int) -> list[str]:
    return [f"line {number}" for number in range(count)]


def are_once(found: list[str], count: int, where: str):
    """All lines are there, in their order."""
    if found != wanted(count):
        at = next((at for at, (one, other) in enumerate(zip(found, wanted(count))) if one != other), min(len(found), count))
        raise AssertionError(f"{len(found)} lines instead of {count} in the {where}; from {at} on they are {found[at:at + 5]}")


def written(path: pathlib.Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def goes_on_until(count, enough: int, what: str):
    """Waits until what is counted is enough, as long as it grows."""
    seen, progress = -1, time.monotonic()
    while (now := count()) < enough:
        if now > seen:
            seen, progress = now, time.monotonic()
        assert time.monotonic() - progress < STALL_SECONDS_MAX, f"{what}: it stands still at {now} of {enough}"
        time.sleep(0.2)


def is_read(worker: "Worker", lines: Lines):
    """Waits until all lines are in the topic for good. What the connector has read beyond a batch it keeps until the file has grown."""
    seen, progress = -1, time.monotonic()
    while (now := worker.offset("source")) < lines.path.stat().st_size:
        if now > seen:
            seen, progress = now, time.monotonic()
        elif now >= 0:
            lines.add(1)
        assert time.monotonic() - progress < STALL_SECONDS_MAX, f"the source stands still at {now} of {lines.path.stat().st_size}"
        time.sleep(2)


def in_topic(server: "Broker | Three", count: int) -> list[str]:
    """What is committed of the topic, when at least that is."""
    consumer = Consumer({"bootstrap.servers": server.address, "group.id": "reader", "isolation.level": "read_committed",
                         "enable.partition.eof": True, "enable.auto.commit": False, **QUIET})
    consumer.assign([TopicPartition(TOPIC, 0, OFFSET_BEGINNING)])
    found, progress, is_at_end = [], time.monotonic(), False
    while len(found) < count or not is_at_end:
        for message in consumer.consume(500, 1):
            if message.error():
                is_at_end = is_at_end or message.error().code() == KafkaError._PARTITION_EOF
                continue
            found.append(message.value().decode())
            progress, is_at_end = time.monotonic(), False
        assert time.monotonic() - progress < STALL_SECONDS_MAX, f"{len(found)} of {count} records are in the topic"
    consumer.close()
    return found


def source(lines: Lines, replicas: int = 1, **settings: str) -> dict[str, str]:
    return {"connector.class": "org.apache.kafka.connect.file.FileStreamSourceConnector", "tasks.max": "1", "file": str(lines.path),
            "topic": TOPIC, "batch.size": "50", "topic.creation.default.partitions": "1", "topic.creation.default.replication.factor": str(replicas),
            **settings}


def sink(output: pathlib.Path) -> dict[str, str]:
    return {"connector.class": "org.apache.kafka.connect.file.FileStreamSinkConnector", "tasks.max": "1", "file": str(output), "topics": TOPIC,
            "consumer.override.session.timeout.ms": "6000", "consumer.override.heartbeat.interval.ms": "1500",
            "consumer.override.isolation.level": "read_committed"}


class Worker(java.Program):
    """A worker of either kind, and what it is asked by HTTP."""

    def __init__(self, main_class: str, server: "Broker | Three", settings: dict[str, str], **connectors: dict[str, str]):
        self.url = f"http://127.0.0.1:{free_port()}"
        settings = {"bootstrap.servers": server.address, "listeners": self.url, **WORKER, **settings}
        super().__init__("connect", paths.CONNECT_CLASSPATH, f"org.apache.kafka.connect.cli.{main_class}",
                         {"worker.properties": java.properties(settings),
                          **{f"{name}.properties": java.properties({"name": name, **config}) for name, config in connectors.items()}})

    def ask(self, method: str, path: str, body=None):
        """What it answers, or None where it cannot now or has no such thing."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read() or "{}")
        except urllib.error.HTTPError as error:
            if error.code in (404, 409, 500, 503):
                return None
            raise
        except OSError:
            return None

    def asked(self, method: str, path: str, body=None):
        """The same until it answers: it may just be starting, or taking turns with others."""
        def answer():
            assert self.alive, f"the worker ended with status {self.process.returncode}"
            return self.ask(method, path, body)
        return eventually(lambda: [got] if (got := answer()) is not None else None, STALL_SECONDS_MAX, f"{method} {path}")[0]

    def states(self, connector: str) -> list[str]:
        """Of the connector and of its tasks."""
        told = self.ask("GET", f"/connectors/{connector}/status")
        return [told["connector"]["state"], *(task["state"] for task in told["tasks"])] if told else []

    def runs(self, *connectors: str):
        for name in connectors:
            eventually(lambda name=name: self.states(name) == ["RUNNING", "RUNNING"], STALL_SECONDS_MAX, f"{name} runs")

    def offset(self, connector: str) -> int:
        """How far a connector has come for good: the bytes of the input, or the records of the topic."""
        told = self.ask("GET", f"/connectors/{connector}/offsets")
        if not told or not told["offsets"]:
            return -1
        offset = told["offsets"][0]["offset"]
        return offset["position"] if "position" in offset else offset["kafka_offset"]


def is_put_away(worker: Worker, lines: Lines):
    """Waits until all lines are in the output for good, and are there once."""
    is_read(worker, lines)
    goes_on_until(lambda: len(written(worker.home / "output")), lines.count, "lines in the output")
    goes_on_until(lambda: worker.offset("sink"), lines.count, "offset of the sink")
    are_once(written(worker.home / "output"), lines.count, "output")


def standalone(server: Broker) -> tuple[Worker, Lines]:
    worker = Worker("ConnectStandalone", server, {"offset.storage.file.filename": "offsets"}, source={}, sink={})
    lines = Lines(worker.home)
    for name, config in (("source", source(lines)), ("sink", sink(worker.home / "output"))):
        (worker.home / f"{name}.properties").write_text(java.properties({"name": name, **config}))
    return worker, lines


@test(seconds=240)
def a_standalone_worker_is_stopped_and_killed_and_each_line_comes_out_once():
    with KIND() as server:
        worker, lines = standalone(server)
        lines.add(LINES)
        with worker:
            is_put_away(worker, lines)
            for end in (worker.stop, worker.kill):
                end()
                lines.add(LINES)
                worker.start()
                is_put_away(worker, lines)
            server.restart()
            lines.add(LINES)
            is_put_away(worker, lines)
            equal(worker.stop(), 143, "exit status of the worker")
        are_once(in_topic(server, lines.count), lines.count, "topic")


class Three:
    """Three nodes, of which each restart is of the next one."""

    def __init__(self, nodes: list[Broker]):
        self.address, self._turns = addresses(nodes), itertools.cycle(nodes)

    def restart(self):
        next(self._turns).restart()


def distributed(server: Broker | Three, replicas: int = 1) -> Worker:
    settings = {"group.id": GROUP, "exactly.once.source.support": "enabled", "scheduled.rebalance.max.delay.ms": "0",
                "session.timeout.ms": "6000", "heartbeat.interval.ms": "1500"}
    for what, (topic, partitions) in INTERNAL.items():
        settings |= {f"{what}.storage.topic": topic, f"{what}.storage.replication.factor": str(replicas)}
        if what != "config":
            settings[f"{what}.storage.partitions"] = str(partitions)
    return Worker("ConnectDistributed", server, settings)


def has_internal_topics(server: Broker | Three):
    """Connect made them, as it wants to have them."""
    admin = AdminClient({"bootstrap.servers": server.address, **QUIET})
    there, wanted = admin.list_topics(timeout=20).topics, dict(INTERNAL.values())
    equal({name: len(there[name].partitions) for name in wanted if name in there}, wanted, "partitions of its topics")
    for resource, told in admin.describe_configs([ConfigResource("topic", name) for name in wanted]).items():
        equal(told.result(20)["cleanup.policy"].value, "compact", f"cleanup.policy of {resource.name}")


def goes_in(server: Broker | Three, worker: Worker, lines: Lines, replicas: int):
    """Lines are read into the topic while the worker and its broker are killed in the middle of their work: what is written counts with the
    offset behind it, in one transaction, or not at all."""
    worker.asked("PUT", "/connectors/source/config", source(lines, replicas, **{
        "exactly.once.support": "required",
        # Of a task that is killed: the next one reads what was committed only when that is over.
        "producer.override.transaction.timeout.ms": "6000"}))
    worker.runs("source")
    has_internal_topics(server)
    for fault in (lambda: (worker.kill(), worker.start()), server.restart, lambda: (worker.kill(), server.restart(), worker.start()),
                  *[server.restart] * (replicas - 1)):
        before = lines.path.stat().st_size
        lines.add(LINES)
        goes_on_until(lambda before=before: worker.offset("source"), before + 1000, "position of the source")
        fault()
    is_read(worker, lines)
    are_once(in_topic(server, lines.count), lines.count, "topic")


@test(seconds=400)
def a_distributed_worker_and_its_broker_are_killed_and_each_line_comes_out_once():
    with KIND() as server, distributed(server) as worker:
        lines = Lines(worker.home)
        goes_in(server, worker, lines, 1)
        worker.asked("PUT", "/connectors/sink/config", sink(worker.home / "output"))
        worker.runs("source", "sink")
        comes_out(worker, lines)
        worker.kill()
        lines.add(LINES)
        worker.start()
        worker.runs("source", "sink")
        comes_out(worker, lines)
        server.restart()
        lines.add(LINES)
        comes_out(worker, lines)
        is_stopped_and_deleted(worker)
        are_once(in_topic(server, lines.count), lines.count, "topic")


@test(seconds=400)
def a_distributed_worker_and_each_node_of_three_are_killed_and_each_line_comes_out_once():
    if KIND.name != "millrace":
        raise Skipped("Kafka is asked with one node")
    with cluster() as nodes:
        server = Three(nodes)
        with distributed(server, 3) as worker:
            lines = Lines(worker.home)
            goes_in(server, worker, lines, 3)
            worker.asked("PUT", "/connectors/sink/config", sink(worker.home / "output"))
            worker.runs("source", "sink")
            comes_out(worker, lines)


def comes_out(worker: Worker, lines: Lines):
    """Waits until all lines are in the output for good, and are there once. Between them are the markers of transactions."""
    is_read(worker, lines)
    goes_on_until(lambda: len(written(worker.home / "output")), lines.count, "lines in the output")
    kept = -1
    # What it has read is committed when its offset stays.
    while (offset := worker.offset("sink")) < lines.count or offset != kept:
        kept = offset
        time.sleep(2)
    are_once(written(worker.home / "output"), lines.count, "output")


def is_stopped_and_deleted(worker: Worker):
    """A connector is stopped, its offsets are taken back, it is deleted; and a worker that starts anew knows that."""
    for name in ("source", "sink"):
        worker.asked("PUT", f"/connectors/{name}/stop")
        eventually(lambda name=name: worker.states(name) == ["STOPPED"], STALL_SECONDS_MAX, f"{name} is stopped")
    worker.asked("DELETE", "/connectors/sink/offsets")
    eventually(lambda: worker.offset("sink") == -1, STALL_SECONDS_MAX, "the offset of the sink is taken back")
    worker.asked("DELETE", "/connectors/sink")
    eventually(lambda: worker.ask("GET", "/connectors") == ["source"], STALL_SECONDS_MAX, "the sink is deleted")
    worker.kill()
    worker.start()
    equal(worker.asked("GET", "/connectors"), ["source"], "connectors that there are")
    eventually(lambda: worker.states("source") == ["STOPPED"], STALL_SECONDS_MAX, "the source is still stopped")


if __name__ == "__main__":
    main("connect")
