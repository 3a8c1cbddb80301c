"""kafka-python: an independent implementation of the protocol in plain Python."""

import threading
import time

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka import errors
from kafka.admin import KafkaAdminClient, NewPartitions, NewTopic
from kafka.structs import OffsetAndMetadata

from harness.suite import BOOTSTRAP, equal, eventually, main, test, unique

admin = KafkaAdminClient(bootstrap_servers=BOOTSTRAP)


def make_topic(prefix: str, partitions: int = 1, **configs: str) -> str:
    name = unique(prefix)
    admin.create_topics([NewTopic(name, partitions, 1, topic_configs=configs)], timeout_ms=20_000)
    return name


def produce(topic: str, records: list[dict], **config) -> list:
    producer = KafkaProducer(bootstrap_servers=BOOTSTRAP, **config)
    try:
        futures = [producer.send(topic, **record) for record in records]
        producer.flush(30)
        return [future.get(30) for future in futures]
    finally:
        producer.close(10)


def consumer(*topics: str, **config) -> KafkaConsumer:
    defaults = {"bootstrap_servers": BOOTSTRAP, "auto_offset_reset": "earliest", "enable_auto_commit": False}
    return KafkaConsumer(*topics, **{**defaults, **config})


def read(source: KafkaConsumer, count: int, seconds: float = 30) -> list:
    got, deadline = [], time.monotonic() + seconds
    while len(got) < count and time.monotonic() < deadline:
        for records in source.poll(timeout_ms=500, max_records=count - len(got)).values():
            got += records
    equal(len(got), count, "records read")
    return got


def read_topic(topic: str, count: int, partitions: int = 1) -> list:
    source = consumer()
    source.assign([TopicPartition(topic, p) for p in range(partitions)])
    source.seek_to_beginning()
    try:
        return read(source, count)
    finally:
        source.close()


@test
def topics_are_created_listed_grown_deleted():
    name = make_topic("kp-topic", 2)
    assert name in admin.list_topics()
    try:
        admin.create_topics([NewTopic(name, 1, 1)])
        raise AssertionError("a second topic of the same name was created")
    except errors.TopicAlreadyExistsError:
        pass
    admin.create_partitions({name: NewPartitions(3)})
    eventually(lambda: consumer_partitions(name) == {0, 1, 2}, what="three partitions")
    admin.delete_topics([name])
    eventually(lambda: name not in admin.list_topics(), what="the topic is gone")


def consumer_partitions(topic: str) -> set[int] | None:
    source = consumer()
    try:
        return source.partitions_for_topic(topic)
    finally:
        source.close()


@test
def every_level_of_acks():
    for acks in [0, 1, "all"]:
        name = make_topic("kp-acks")
        sent = produce(name, [{"value": b"%d" % i} for i in range(200)], acks=acks, enable_idempotence=False)
        if acks != 0:
            equal([m.offset for m in sent], list(range(200)), f"offsets with acks={acks}")
        equal([r.value for r in read_topic(name, 200)], [b"%d" % i for i in range(200)], f"values with acks={acks}")


@test
def gzip_keys_headers_times_and_nulls():
    name = make_topic("kp-gzip")
    now = int(time.time() * 1000)
    records = [{"key": b"k%d" % i, "value": b"v" * i if i % 3 else None, "timestamp_ms": now + i, "headers": [("h", b"%d" % i)]}
               for i in range(100)]
    produce(name, records, compression_type="gzip", linger_ms=50)
    got = read_topic(name, 100)
    equal([(r.key, r.value, r.timestamp, list(r.headers)) for r in got],
          [(r["key"], r["value"], r["timestamp_ms"], r["headers"]) for r in records])


@test
def idempotent_producer():
    name = make_topic("kp-idempotent", 3)
    produce(name, [{"value": b"%d" % i, "partition": i % 3} for i in range(3000)], enable_idempotence=True)
    got = read_topic(name, 3000, 3)
    for p in range(3):
        equal([int(r.value) for r in got if r.partition == p], list(range(p, 3000, 3)), f"partition {p}")


@test
def offsets_watermarks_and_seek():
    name = make_topic("kp-offsets")
    start = int(time.time() * 1000) - 100_000
    produce(name, [{"value": b"%d" % i, "timestamp_ms": start + 1000 * i} for i in range(50)])
    partition = TopicPartition(name, 0)
    source = consumer()
    source.assign([partition])
    equal(source.beginning_offsets([partition]), {partition: 0})
    equal(source.end_offsets([partition]), {partition: 50})
    at = source.offsets_for_times({partition: start + 20_001})[partition]
    equal((at.offset, at.timestamp), (21, start + 21_000))
    equal(source.offsets_for_times({partition: start + 90_000})[partition], None)
    source.seek(partition, 42)
    equal([r.offset for r in read(source, 8)], list(range(42, 50)))
    source.close()


@test
def too_large_a_record_is_refused():
    name = make_topic("kp-large", **{"max.message.bytes": "2000"})
    try:
        produce(name, [{"value": b"x" * 5000}])
        raise AssertionError("it was not refused")
    except errors.MessageSizeTooLargeError:
        pass


@test(seconds=90)
def a_group_rebalances_and_commits():
    name, group = make_topic("kp-group", 4), unique("kp-group")
    produce(name, [{"value": b"%d" % i, "partition": i % 4} for i in range(200)])
    ending = [threading.Event(), threading.Event()]
    seen: list[set[bytes]] = [set(), set()]
    owned: list[set[int]] = [set(), set()]

    def member(i: int):
        try:
            poll(i)
        except Exception as error:
            owned[i] = {str(error)}  # Shows up where partitions are expected.
            raise

    def poll(i: int):
        source = consumer(group_id=group, session_timeout_ms=10_000, heartbeat_interval_ms=500)
        # Knows the topic before it joins: a leader of kafka-python 3.0.12 that joins again because it only then
        # learnt of the partitions forgets its own assignment if a poll ends meanwhile, whatever the broker.
        equal(source.partitions_for_topic(name), {0, 1, 2, 3})
        source.subscribe([name])
        while not ending[i].is_set():
            for records in source.poll(timeout_ms=200).values():
                seen[i].update(r.value for r in records)
                try:
                    source.commit()
                except (errors.CommitFailedError, errors.RebalanceInProgressError):
                    pass  # A rebalance is on: the records will be read again.
            owned[i] = {p.partition for p in source.assignment()}
        owned[i] = set()
        source.close()
    threads = [threading.Thread(target=member, args=[i], daemon=True) for i in range(2)]
    for thread in threads:
        thread.start()
    eventually(lambda: [len(o) for o in owned] == [2, 2] and owned[0] | owned[1] == {0, 1, 2, 3}, 30, "two partitions each")
    eventually(lambda: len(seen[0] | seen[1]) == 200, 20, "all records")
    ending[0].set()
    eventually(lambda: owned[1] == {0, 1, 2, 3}, 30, "the other one has all partitions")
    ending[1].set()
    for thread in threads:
        thread.join(20)
    source = consumer(group_id=group)
    equal([source.committed(TopicPartition(name, p)) for p in range(4)], [50] * 4)
    source.commit({TopicPartition(name, 0): OffsetAndMetadata(7, "note", -1)})
    equal(source.committed(TopicPartition(name, 0), metadata=True).metadata, "note")
    source.close()


if __name__ == "__main__":
    main("kafka-python")
