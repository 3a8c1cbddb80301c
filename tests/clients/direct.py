"""Direct ports: each core is announced as a broker of its own, and unmodified clients go to the core that has the data.
The suites of the real clients run against such a broker too."""

import json
import os
import pathlib
import socket
import struct
import subprocess

from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from harness import paths
from harness.broker import Millrace
from harness.load import QUIET, Load, Watcher, make_topic
from harness.protocol import Connection, frame
from harness.suite import equal, eventually, main, test, unique

SHARDS = 2
DIRECT = {"millrace.shards": str(SHARDS), "millrace.direct.ports": "1"}
# node.id is 1.
IDS = [10_000, 10_001]
LIST_OFFSETS = 2
HERE = pathlib.Path(__file__).resolve().parent


def port_of(server: Millrace, shard: int) -> int:
    return server.port + 1 + shard


def leaders(address: str, topic: str) -> dict[int, int]:
    metadata = AdminClient({"bootstrap.servers": address, **QUIET}).list_topics(topic, timeout=20)
    return {index: partition.leader for index, partition in metadata.topics[topic].partitions.items()}


def explain(server: Millrace) -> list[dict]:
    done = subprocess.run([paths.binary("millracectl"), "--bootstrap", server.address, "explain", "--since-start", "--json"],
                          capture_output=True, text=True, timeout=60)
    equal(done.returncode, 0, done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines()]


def refused(status: int, words: list[str], **overrides: str):
    server = Millrace({key.replace("_", "."): value for key, value in overrides.items()})
    try:
        server.spawn()
        equal(server.process.wait(20), status, server.log_tail())
        for word in words:
            assert word in server.log_tail(), f"{word} is missing in {server.log_tail()}"
    finally:
        server.__exit__(None, None, None)


@test
def each_core_is_a_broker():
    with Millrace(DIRECT) as server:
        admin = AdminClient({"bootstrap.servers": server.address, **QUIET})
        cluster = admin.describe_cluster(request_timeout=10).result(20)
        equal({node.id: node.port for node in cluster.nodes}, {id_: port_of(server, n) for n, id_ in enumerate(IDS)})
        equal(cluster.controller.id, IDS[0])
        topic = unique("direct")
        make_topic(server.address, topic, 4)
        equal(sorted(leaders(server.address, topic).values()), sorted(IDS * 2))
        # Any port will do to begin with.
        for shard in range(SHARDS):
            equal(leaders(f"127.0.0.1:{port_of(server, shard)}", topic), leaders(server.address, topic))
        for id_ in IDS:
            broker = ConfigResource(ResourceType.BROKER, str(id_))
            equal(admin.describe_configs([broker])[broker].result(20)["node.id"].value, "1")


@test
def clients_go_to_the_core_that_has_the_data():
    with Millrace(DIRECT) as server:
        topic = unique("direct")
        make_topic(server.address, topic, 4)
        load = Load(server.address, topic, 4)
        watcher = Watcher(server.address, topic, 4)
        eventually(lambda: load.acks > 2000 and sum(map(len, watcher.seen)) > 2000, 30, "records going through")
        load.end()
        watcher.end(server.address)
        load.verify(server.address)
        reports = explain(server)
        # Two brokers as clients see it, one process that answers for both.
        equal([(report["node"], report["shards"]) for report in reports], [(1, SHARDS)])
        for requests in reports[0]["classes"][:2]:
            assert requests["count"] > 0, requests
            hops = {stage["stage"]: stage["max_ns"] for stage in requests["stages"] if stage["stage"] in ("hop", "append", "plan")}
            equal(hops, {"hop": 0, "append": 0, "plan": 0}, f"{requests['class']}: what went to another core")


@test
def every_core_serves_every_partition():
    with Millrace(DIRECT) as server:
        topic = unique("direct")
        make_topic(server.address, topic, 2)
        name = struct.pack(">h", len(topic)) + topic.encode()
        partitions = struct.pack(">i", 2) + b"".join(struct.pack(">iq", index, -1) for index in range(2))
        body = struct.pack(">ii", -1, 1) + name + partitions
        for port in [server.port, *(port_of(server, shard) for shard in range(SHARDS))]:
            with Connection(port) as connection:
                connection.send(frame(LIST_OFFSETS, 1, 7, body))
                reply = connection.reply()[4 + 4 + len(name):]
            found = [struct.unpack_from(">ihqq", reply, 4 + 22 * n) for n in range(2)]
            equal(sorted((index, error, offset) for index, error, _, offset in found), [(0, 0, 0), (1, 0, 0)], f"port {port}")


def shard_of(group: str) -> int:
    """The shard that has the partition of a group: those of __consumer_offsets go to the stores in turn."""
    hashed = 0
    for char in group:
        hashed = (31 * hashed + ord(char)) & 0xFFFFFFFF
    return abs(hashed - (hashed >> 31 << 32)) % 50 % SHARDS


@test
def groups_are_spread_and_listed_once():
    with Millrace(DIRECT) as server:
        topic = unique("direct")
        by_shard = {shard_of(group): group for group in (unique("direct-group") for _ in range(40))}
        equal(sorted(by_shard), list(range(SHARDS)))
        make_topic(server.address, topic, 2)
        load = Load(server.address, topic, 2)
        eventually(lambda: load.acks > 100, 20, "acknowledgements")
        load.end()
        members = []
        for group in by_shard.values():
            member = Consumer({"bootstrap.servers": server.address, "group.id": group, "auto.offset.reset": "earliest", **QUIET})
            member.subscribe([topic])
            eventually(lambda: member.consume(100, 1), 30, "records")
            member.commit(asynchronous=False)
            members.append(member)
        admin = AdminClient({"bootstrap.servers": server.address, **QUIET})
        # librdkafka asks every broker and puts the answers one after the other.
        listed = [one.group_id for one in admin.list_consumer_groups(request_timeout=10).result(20).valid]
        equal(sorted(listed), sorted(by_shard.values()))
        for shard, group in by_shard.items():
            coordinator = admin.describe_consumer_groups([group])[group].result(20).coordinator
            equal((coordinator.id, coordinator.port), (IDS[shard], port_of(server, shard)))
        for member in members:
            member.close()


@test
def fewer_cores_and_the_mode_switched_off():
    with Millrace(DIRECT) as server:
        topic = unique("direct")
        make_topic(server.address, topic, 4)
        load = Load(server.address, topic, 4)
        eventually(lambda: load.acks > 500, 20, "acknowledgements")
        load.end()
        for overrides, want in [({"millrace.shards": "1"}, {10_000}), ({"millrace.shards": "2", "millrace.direct.ports": "0"}, {1})]:
            equal(server.stop(), 0, "exit status")
            server.overrides.update(overrides)
            server.start()
            equal(set(leaders(server.address, topic).values()), want)
            load.verify(server.address)


@test
def ports_that_cannot_be_had():
    refused(78, ["millrace.direct.ports", "no port is left"], listeners="PLAINTEXT://127.0.0.1:65534", **{"millrace_direct_ports": "1", "millrace_shards": "2"})
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused(71, ["millrace.direct.ports", str(port)], listeners=f"PLAINTEXT://127.0.0.1:{port - 1}", **{"millrace_direct_ports": "1", "millrace_shards": "1"})


def suite(command: list[str], *tests: str):
    """Another suite, or some tests of it, against a broker with direct ports."""
    with Millrace(DIRECT) as server:
        env = {**os.environ, "BOOTSTRAP": server.address, "BROKER": "millrace", "DIRECT_IDS": ",".join(map(str, IDS))}
        done = subprocess.run([*command, *tests], cwd=HERE, env=env, capture_output=True, text=True, timeout=500)
        lines = done.stdout.splitlines()
        equal([line for line in lines if line.startswith("FAIL")], [], done.stderr[-2000:])
        passed = sum(line.startswith("ok ") for line in lines)
        assert passed >= max(len(tests), 1), done.stdout + done.stderr


@test(seconds=300)
def suite_kcat():
    suite([str(paths.PYTHON), "kcat.py"])


@test(seconds=500)
def suite_confluent():
    suite([str(paths.PYTHON), "confluent.py"])


@test(seconds=300)
def suite_java():
    suite([str(paths.PYTHON), "java_tools.py"], "api_versions_are_told", "topics_live_and_die", "console_to_console",
          "offsets_and_deleted_records", "groups_live_and_die")


@test(seconds=300)
def suite_kafkajs():
    suite(["node", "node/kafkajs.js"])


@test(seconds=300)
def suite_franz_go():
    suite([str(paths.DEPS / "franz-go-client")])


if __name__ == "__main__":
    main("direct")
