"""Topics of which the newest record of each key is kept (`cleanup.policy=compact`): on one node, on three, and killed meanwhile."""

import random
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import ConfigResource, ResourceType

from harness.broker import Millrace
from harness.load import QUIET, make_topic, patiently
from harness.nodes import addresses, admin, cluster, create, in_sync
from harness.suite import equal, eventually, main, test, unique

MIB = 1 << 20
# Whatever can be cleaned is, at once.
EAGER = {"log.cleaner.backoff.ms": "100", "millrace.shards": "1"}
TOPIC = {"cleanup_policy": "compact", "segment_bytes": str(MIB), "min_cleanable_dirty_ratio": "0.01"}
KEYS = 300


class Table:
    """Writes records of a few keys, and knows what each offset got."""

    def __init__(self, address: str, topic: str, **config):
        self.topic, self.written, self.failed = topic, {}, 0
        self._producer = Producer({"bootstrap.servers": address, "linger.ms": 5, "enable.idempotence": True, "message.timeout.ms": 120_000,
                                   **QUIET, **config})
        self._random = random.Random(topic)
        self._number = 0

    def write(self, count: int):
        for _ in range(count):
            self._number += 1
            key = f"key-{self._random.randrange(KEYS)}"
            value = None if self._random.random() < 0.05 else f"{self._number}-".encode() + self._random.randbytes(900)
            self.put(key, value)

    def put(self, key: str, value: bytes | None):
        def delivered(error, message):
            if error:
                self.failed += 1
            else:
                self.written[message.offset()] = (key, value)

        while True:
            try:
                return self._producer.produce(self.topic, value, key, partition=0, on_delivery=delivered)
            except BufferError:
                self._producer.poll(0.1)

    def flush(self):
        self._producer.flush(120)
        equal(self.failed, 0, "records that failed")

    def newest(self) -> dict[str, tuple[int, bytes | None]]:
        return {key: (offset, value) for offset, (key, value) in sorted(self.written.items())}

    def check(self, address: str) -> int:
        """Everything that is there was written there, and of each key the newest record is there. Returns how many records there are."""
        found = read(address, self.topic)
        equal([offset for offset, *_ in found], sorted(offset for offset, *_ in found), "offsets in order")
        newest = {}
        for offset, key, value in found:
            assert self.written[offset] == (key, value), f"offset {offset} has another record than was written there"
            newest[key] = (offset, value)
        for key, (offset, value) in self.newest().items():
            if value is None and key not in newest:
                continue
            assert newest.get(key) == (offset, value), f"{key}: the newest is of {offset}, what is there of {newest.get(key, ['nothing'])[0]}"
        return len(found)


def read(address: str, topic: str) -> list[tuple[int, str, bytes | None]]:
    consumer = Consumer({"bootstrap.servers": address, "group.id": unique("g"), "enable.partition.eof": True, "auto.offset.reset": "error",
                         **QUIET})
    found = []
    try:
        consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
        end = time.monotonic() + 60
        while time.monotonic() < end:
            message = consumer.poll(1)
            if message is None:
                continue
            if message.error():
                if message.error().code() == KafkaError._PARTITION_EOF:
                    return found
                raise KafkaException(message.error())
            found.append((message.offset(), message.key().decode(), message.value()))
    finally:
        consumer.close()
    raise AssertionError("the end is not reached")


def shrinks(table: Table, address: str, below: float, seconds: float = 60) -> int:
    """Waits until less than that share of what was written is there."""
    counts = [table.check(address)]

    def is_small() -> bool:
        counts.append(table.check(address))
        return counts[-1] < below * len(table.written)

    eventually(is_small, seconds, f"compaction; of {len(table.written)} records there were {counts}")
    return counts[-1]


@test(seconds=240)
def of_each_key_the_newest_record_stays():
    """With every codec, over kill -9 at any moment and a restart."""
    with Millrace(EAGER) as server:
        for codec in ["none", "gzip", "snappy", "lz4", "zstd"]:
            topic = unique(f"compact-{codec}")
            make_topic(server.address, topic, 1, **TOPIC)
            table = Table(server.address, topic, **{"compression.type": codec})
            for _ in range(3):
                table.write(2500)
                table.flush()
                server.kill()
                server.start()
                table.check(server.address)
            # The newest two megabytes may be in the active segment, and in one that was just begun.
            shrinks(table, server.address, 0.75)
            equal(server.stop(), server.stopped_status, "exit status")
            server.start()
            table.check(server.address)


@test(seconds=120)
def tombstones_go_and_nothing_comes_back():
    with Millrace(EAGER) as server:
        topic = unique("tombstones")
        make_topic(server.address, topic, 1, **TOPIC, delete_retention_ms="500")
        table = Table(server.address, topic)
        for key in range(50):
            table.put(f"gone-{key}", b"value")
        for key in range(50):
            table.put(f"gone-{key}", None)

        def has_gone() -> bool:
            table.write(1500)
            table.flush()
            keys = {key for _, key, _ in read(server.address, topic)}
            return not any(key.startswith("gone-") for key in keys)

        eventually(has_gone, 60, "tombstones that are gone")
        table.check(server.address)
        server.kill()
        server.start()
        table.check(server.address)
        assert not any(key.startswith("gone-") for _, key, _ in read(server.address, topic))


@test(seconds=60)
def what_has_no_key_is_refused_and_the_policy_can_be_changed():
    with Millrace(EAGER) as server:
        topic = unique("policy")
        make_topic(server.address, topic, 1, **{**TOPIC, "cleanup_policy": "delete"})

        def produce(key) -> KafkaError | None:
            errors = []
            producer = Producer({"bootstrap.servers": server.address, **QUIET})
            producer.produce(topic, b"value", key, partition=0, on_delivery=lambda error, _: errors.append(error))
            producer.flush(20)
            return errors[0]

        equal(produce(None), None, "without a key, as long as nothing is compacted")
        resource = ConfigResource(ResourceType.TOPIC, topic, set_config={"cleanup.policy": "compact,delete"})
        client = admin(server)
        patiently(lambda: [future.result(10) for future in client.alter_configs([resource]).values()])
        eventually(lambda: (error := produce(None)) and error.code() == KafkaError.INVALID_RECORD, 10, "a refusal")
        equal(produce("key"), None, "with a key")

        def deletes() -> str | None:
            try:
                client.delete_records([TopicPartition(topic, 0, 1)])[TopicPartition(topic, 0, 1)].result(10)
            except KafkaException as error:
                return error.args[0].name()
            return None

        equal(deletes(), None, "records can be deleted where the policy says delete too")
        only = ConfigResource(ResourceType.TOPIC, topic, set_config={"cleanup.policy": "compact"})
        [future.result(10) for future in client.alter_configs([only]).values()]
        eventually(lambda: deletes() == "POLICY_VIOLATION", 10, "a refusal, as from Kafka")


@test(seconds=240)
def replicas_are_compacted_each_and_agree():
    """Whoever leads serves of each key what was written last; who was away meanwhile catches up from what is left."""
    def eager(node):
        node.overrides |= EAGER

    with cluster(prepare=eager) as nodes:
        topic = unique("compact-replicated")
        create(nodes[0], topic, 1, 3, **TOPIC, min_insync_replicas="2", delete_retention_ms="500")
        table = Table(addresses(nodes), topic, **{"socket.timeout.ms": 3000, "request.timeout.ms": 2000})
        for away in nodes:
            table.write(2000)
            table.flush()
            away.kill()
            table.write(4000)
            table.flush()
            others = [node for node in nodes if node is not away]
            table.check(addresses(others))
            away.start()
            eventually(lambda: all(len(isr) == 3 for _, isr in in_sync(others[0], topic)), 60, "all replicas in sync")
        shrinks(table, addresses(nodes), 0.6)
        for left in nodes:
            # Each of them leads in turn.
            for node in nodes:
                if node is not left:
                    node.stop()
                    break
            eventually(lambda: table.check(addresses([n for n in nodes if n.alive])) > 0, 60, "who is left")
            for node in nodes:
                if not node.alive:
                    node.start()
            eventually(lambda: all(len(isr) == 3 for _, isr in in_sync(left, topic)), 60, "all replicas in sync")


if __name__ == "__main__":
    main("compaction")
