"""`kill -9` at random moments: what was acknowledged is there afterwards, what was seen stays."""

import os
import random
import subprocess
import sys
import tempfile
import time

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic, ResourceType

from harness import paths
from harness.broker import BROKERS, Broker
from harness.load import QUIET, Load, Watcher, make_topic, patiently
from harness.suite import equal, eventually, main, test, unique

KILLS = int(os.environ.get("KILLS", 20))
SEED = os.environ.get("SEED") or str(random.randrange(1 << 32))
PARTITIONS = 6

rng = random.Random(SEED)


def start() -> Broker:
    return BROKERS[os.environ.get("BROKER", "millrace")]()


def kill_and_start(server: Broker):
    """Kills the broker, now and then once more while it recovers, and waits until it serves again."""
    server.kill()
    while rng.random() < 0.25:
        server.spawn()
        time.sleep(rng.uniform(0, 0.4))
        server.kill()
    server.start()


@test(seconds=120 + 20 * KILLS)
def acknowledged_records_survive():
    print(f"seed {SEED}", file=sys.stderr)
    with start() as server:
        once, plain = unique("kills-idempotent"), unique("kills-plain")
        make_topic(server.address, once, PARTITIONS, segment_bytes="1048576")
        make_topic(server.address, plain, PARTITIONS)
        loads = [Load(server.address, once, PARTITIONS, **{"enable.idempotence": True}), Load(server.address, plain, PARTITIONS, **{"compression.type": "lz4"})]
        watcher = Watcher(server.address, once, PARTITIONS)
        for kill in range(KILLS):
            before = [load.acks for load in loads]
            eventually(lambda: all(load.acks > b for load, b in zip(loads, before)), 30, f"acknowledgements before kill {kill + 1}")
            time.sleep(rng.uniform(0, 0.8))
            kill_and_start(server)
        for load in loads:
            load.end()
        for load in loads:
            load.verify(server.address)
        watcher.end(server.address)
        server.restart()
        for load in loads:
            load.verify(server.address)
        print(f"{KILLS} kills, {sum(load.acks for load in loads)} acknowledged", file=sys.stderr)


@test(seconds=120 + 20 * KILLS)
def topics_configs_and_commits_survive():
    """Each change is acknowledged, then the broker is killed at once."""
    with start() as server:
        admin = AdminClient({"bootstrap.servers": server.address, **QUIET})
        kept, grown, group = unique("kills-kept"), unique("kills-grown"), unique("kills-group")
        make_topic(server.address, kept)
        make_topic(server.address, grown)
        committer = Consumer({"bootstrap.servers": server.address, "group.id": group, **QUIET})
        topic = ConfigResource(ResourceType.TOPIC, kept)
        for round_ in range(max(3, KILLS // 4)):
            made = f"{kept}-{round_}"
            admin.create_topics([NewTopic(made, 3, 1)])[made].result(20)
            kill_and_start(server)
            equal(len(listed(admin)[made].partitions), 3, "partitions of a topic just made")

            patiently(lambda: committer.commit(offsets=[TopicPartition(kept, 0, round_)], asynchronous=False))
            kill_and_start(server)
            equal(committed(server.address, group, kept), round_, "committed offset")

            value = str(3_600_000 + round_)
            change = ConfigResource(ResourceType.TOPIC, kept, incremental_configs=[
                ConfigEntry("retention.ms", value, incremental_operation=AlterConfigOpType.SET)])
            admin.incremental_alter_configs([change])[change].result(20)
            admin.create_partitions([NewPartitions(grown, round_ + 2)])[grown].result(20)
            admin.delete_topics([made])[made].result(20)
            kill_and_start(server)
            equal(admin.describe_configs([topic])[topic].result(20)["retention.ms"].value, value, "retention.ms")
            equal(len(listed(admin)[grown].partitions), round_ + 2, "partitions of a topic just grown")
            assert made not in listed(admin), "a deleted topic is back"


@test(seconds=120 + 20 * KILLS)
def the_load_generator_finds_nothing_missing():
    """The same with `millrace-bench verify`: far more records a second, and another implementation of the check."""
    with start() as server, tempfile.NamedTemporaryFile() as journal:
        topic = ["--bootstrap", server.address, "--topic", unique("kills-bench"), "--partitions", "8"]
        seconds = max(10, KILLS) + 4
        bench = subprocess.Popen([paths.binary("millrace-bench"), "verify", *topic, "--idempotent", "--seconds", str(seconds), "--patience", "90",
                                  "--acks", journal.name], stdout=sys.stderr)
        try:
            # The last kill falls into the sending: what the verifier does after that asks only once.
            end = time.monotonic() + seconds - 4
            while time.monotonic() < end:
                time.sleep(rng.uniform(0.5, 3))
                equal(bench.poll(), None, "status of the verifier while it sends")
                kill_and_start(server)
            equal(bench.wait(120), 0, "status of the verifier")
        finally:
            bench.kill()
        server.restart()
        again = subprocess.run([paths.binary("millrace-bench"), "verify", *topic, "--verify-against", journal.name], stdout=sys.stderr, timeout=120)
        equal(again.returncode, 0, "status of the verifier after one more restart")


def listed(admin: AdminClient) -> dict:
    return admin.list_topics(timeout=20).topics


def committed(address: str, group: str, topic: str) -> int:
    source = Consumer({"bootstrap.servers": address, "group.id": group, **QUIET})
    try:
        return patiently(lambda: source.committed([TopicPartition(topic, 0)], timeout=20)[0].offset)
    finally:
        source.close()


if __name__ == "__main__":
    main("kills")
