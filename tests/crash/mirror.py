"""MirrorMaker 2 between two clusters of one broker each: records, settings and offsets of groups arrive, each record once, while the
program is killed and resumed and so is the broker that it writes to. The one it reads from is of the same kind, unless `SOURCE` says another:
`SOURCE=kafka tests/crash/run mirror` is a move from Apache Kafka."""

import os
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, ConsumerGroupTopicPartitions, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewPartitions

from harness import java, paths
from harness.broker import BROKERS, Broker, free_port
from harness.load import QUIET, make_topic, patiently
from harness.suite import equal, eventually, main, test

KIND = BROKERS[os.environ.get("BROKER", "millrace")]
SOURCE_KIND = BROKERS[os.environ.get("SOURCE", KIND.name)]
SOURCE, TARGET = "north", "south"
TOPIC = "parcels"
REMOTE = f"{SOURCE}.{TOPIC}"
PARTITIONS = 3
RECORDS = 1500
STALL_SECONDS_MAX = 90
BEGAN_MS = int(time.time() * 1000) - 3_600_000


def program(source: Broker, target: Broker) -> java.Program:
    """In one direction, exactly once, and as quick to see what is new as can be."""
    quick = {f"{what}.interval.seconds": "1" for what in ("emit.checkpoints", "sync.group.offsets", "refresh.topics", "refresh.groups",
                                                          "sync.topic.configs", "emit.heartbeats")}
    one_replica = {f"{what}.replication.factor": "1" for what in ("checkpoints.topic", "heartbeats.topic", "offset-syncs.topic",
                                                                  "config.storage", "offset.storage", "status.storage")}
    return java.Program("mirror", paths.CONNECT_CLASSPATH, "org.apache.kafka.connect.mirror.MirrorMaker", {"mirror.properties": java.properties({
        "clusters": f"{SOURCE}, {TARGET}",
        f"{SOURCE}.bootstrap.servers": source.address,
        f"{TARGET}.bootstrap.servers": target.address,
        f"{SOURCE}->{TARGET}.enabled": "true",
        f"{TARGET}->{SOURCE}.enabled": "false",
        f"{SOURCE}->{TARGET}.topics": TOPIC,
        f"{SOURCE}->{TARGET}.groups": "readers-.*",
        "replication.factor": "1",
        **one_replica,
        **quick,
        "sync.group.offsets.enabled": "true",
        # The place of each record is told, not only of every hundredth.
        "offset.lag.max": "0",
        "offset.flush.interval.ms": "500",
        f"{TARGET}.exactly.once.source.support": "enabled",
        "dedicated.mode.enable.internal.rest": "true",
        "listeners": f"http://127.0.0.1:{free_port()}",
        "plugin.discovery": "service_load",
        "scheduled.rebalance.max.delay.ms": "0",
        "session.timeout.ms": "6000",
        "heartbeat.interval.ms": "1500",
    })})


def row(number: int) -> tuple:
    """Key, value, headers and timestamp of a record."""
    return f"k{number % 97}", f"parcel {number}", [("number", str(number).encode()), ("empty", b"")], BEGAN_MS + number


def fill(server: Broker, numbers: range, partitions: int = PARTITIONS):
    producer = Producer({"bootstrap.servers": server.address, "enable.idempotence": True, **QUIET})
    for number in numbers:
        key, value, headers, at = row(number)
        producer.produce(TOPIC, value, key, partition=number % partitions, headers=headers, timestamp=at)
    equal(producer.flush(STALL_SECONDS_MAX), 0, "records that are not taken")


def reader(server: Broker, group: str = "onlooker") -> Consumer:
    return Consumer({"bootstrap.servers": server.address, "group.id": group, "isolation.level": "read_committed", "enable.partition.eof": True,
                     "enable.auto.commit": False, "auto.offset.reset": "earliest", "metadata.recovery.strategy": "none", **QUIET})


def read_on(consumer: Consumer, partitions: int, enough: int) -> list[list[tuple]]:
    """What is read of each partition to its end, when that is enough."""
    found, at_end, count, progress = [[] for _ in range(partitions)], set(), 0, time.monotonic()
    while count < enough or len(at_end) < partitions:
        for message in consumer.consume(500, 1):
            if message.error():
                if message.error().code() == KafkaError._PARTITION_EOF:
                    at_end.add(message.partition())
                continue
            at_end.discard(message.partition())
            found[message.partition()].append((message.key().decode(), message.value().decode(), message.headers(), message.timestamp()[1]))
            count, progress = count + 1, time.monotonic()
        assert time.monotonic() - progress < STALL_SECONDS_MAX, f"it stands still: {count} of {enough} records are there"
    return found


def in_remote(server: Broker, partitions: int, enough: int) -> list[list[tuple]]:
    consumer = reader(server)
    eventually(lambda: partitions_of(server, REMOTE) == partitions, STALL_SECONDS_MAX, "the topic is at the other cluster")
    consumer.assign([TopicPartition(REMOTE, partition, OFFSET_BEGINNING) for partition in range(partitions)])
    found = read_on(consumer, partitions, enough)
    consumer.close()
    return found


def all_rows(*fills: tuple[range, int]) -> list[list[tuple]]:
    """What these have written to each partition."""
    found = [[] for _ in range(fills[-1][1])]
    for numbers, partitions in fills:
        for number in numbers:
            found[number % partitions].append(row(number))
    return found


def admin(server: Broker) -> AdminClient:
    return AdminClient({"bootstrap.servers": server.address, **QUIET})


def partitions_of(server: Broker, topic: str) -> int:
    described = admin(server).list_topics(timeout=20).topics.get(topic)
    return len(described.partitions) if described else 0


def setting(server: Broker, topic: str, name: str) -> str:
    client, resource = admin(server), ConfigResource("topic", topic)
    return patiently(lambda: client.describe_configs([resource])[resource].result(20))[name].value


def take(server: Broker, group: str, count: int) -> int:
    """A group reads so many records of each partition and commits that; returns how many are left."""
    consumer = reader(server, group)
    places = [TopicPartition(TOPIC, partition, 0) for partition in range(PARTITIONS)]
    ends = [consumer.get_watermark_offsets(place, timeout=20)[1] for place in places]
    taken = [TopicPartition(TOPIC, partition, min(count, end)) for partition, end in enumerate(ends)]
    patiently(lambda: consumer.commit(offsets=taken, asynchronous=False))
    consumer.close()
    return sum(ends) - sum(place.offset for place in taken)


def offsets(server: Broker, group: str, topic: str) -> dict[int, int]:
    """What is committed of a topic, by partition."""
    client, asked = admin(server), [ConsumerGroupTopicPartitions(group)]
    told = patiently(lambda: client.list_consumer_group_offsets(asked)[group].result(20))
    return {place.partition: place.offset for place in told.topic_partitions if place.topic == topic and place.offset >= 0}


def arrives(target: Broker, group: str, beyond: dict[int, int] | None = None) -> dict[int, int]:
    """Waits until the offsets of a group are at the other cluster and stay what they are."""
    was: dict[int, int] = {}

    def settled():
        nonlocal was
        before, was = was, offsets(target, group, REMOTE)
        if was != before:
            time.sleep(3)
        return was == before and len(was) == PARTITIONS and all(was[at] > offset for at, offset in (beyond or {}).items())
    eventually(settled, STALL_SECONDS_MAX, f"offsets of {group} arrive")
    return was


def goes_on_reading(target: Broker, group: str, left: int, at_most: int):
    """At the other cluster a group misses nothing of what is left, and reads no more than so much."""
    consumer = reader(target, group)
    consumer.assign(consumer.committed([TopicPartition(REMOTE, partition) for partition in range(PARTITIONS)], timeout=20))
    found = read_on(consumer, PARTITIONS, left)
    consumer.close()
    assert left <= sum(map(len, found)) <= at_most, f"{sum(map(len, found))} records are read, {left} are left"


@test(seconds=400)
def topics_and_offsets_arrive_while_the_program_and_its_target_are_killed():
    with SOURCE_KIND() as source, KIND() as target:
        make_topic(source.address, TOPIC, PARTITIONS, retention_ms="86400000", max_message_bytes="2000000")
        first = range(RECORDS)
        fill(source, first)
        with program(source, target) as mirror:
            equal(in_remote(target, PARTITIONS, RECORDS), all_rows((first, PARTITIONS)), "records at the other cluster")
            equal(setting(target, REMOTE, "retention.ms"), "86400000", "retention.ms")
            equal(setting(target, REMOTE, "max.message.bytes"), "2000000", "max.message.bytes")
            # Each is killed in the middle of its work, behind a part of the records.
            for fault in (lambda: (mirror.kill(), mirror.start()), target.restart):
                more = range(first.stop, first.stop + RECORDS)
                fill(source, more)
                in_remote(target, PARTITIONS, first.stop + 1)
                fault()
                first = range(more.stop)
            equal(in_remote(target, PARTITIONS, first.stop), all_rows((first, PARTITIONS)), "records at the other cluster")

            # Two groups: one has read everything, the other one has not.
            equal(take(source, "readers-all", 1 << 60), 0)
            left = take(source, "readers-some", RECORDS // PARTITIONS)
            arrives(target, "readers-some")
            at_end = arrives(target, "readers-all")
            goes_on_reading(target, "readers-all", 0, 0)
            goes_on_reading(target, "readers-some", left, first.stop)
            assert partitions_of(target, f"{SOURCE}.checkpoints.internal") == 1 and partitions_of(target, "heartbeats") == 1
            assert partitions_of(source, f"mm2-offset-syncs.{TARGET}.internal") == 1

            # What the source changes later arrives too.
            client = admin(source)
            client.create_partitions([NewPartitions(TOPIC, PARTITIONS + 1)])[TOPIC].result(20)
            more = range(first.stop, first.stop + RECORDS)
            eventually(lambda: partitions_of(source, TOPIC) == PARTITIONS + 1, what="the new partition")
            fill(source, more, PARTITIONS + 1)
            found = in_remote(target, PARTITIONS + 1, more.stop)
            equal(found, all_rows((first, PARTITIONS), (more, PARTITIONS + 1)), "records at the other cluster")
            equal(take(source, "readers-all", 1 << 60), 0)
            arrives(target, "readers-all", at_end)
            mirror.stop()


if __name__ == "__main__":
    main("mirror")
