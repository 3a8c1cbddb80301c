"""confluent-kafka-python (current librdkafka): admin, producers, consumers, groups."""

import os
import subprocess
import threading
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka import IsolationLevel
from confluent_kafka.admin import (AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic,
                                   OffsetSpec, ResourceType)
from confluent_kafka import ConsumerGroupTopicPartitions

from harness.suite import BOOTSTRAP, BROKER, equal, eventually, main, test, unique

admin = AdminClient({"bootstrap.servers": BOOTSTRAP})


def make_topic(prefix: str, partitions: int = 1, **config: str) -> str:
    name = unique(prefix)
    settings = {key.replace("_", "."): value for key, value in config.items()}
    admin.create_topics([NewTopic(name, partitions, 1, config=settings)])[name].result(20)
    return name


def produce(topic: str, records, **config):
    """Produces (key, value) pairs or dictionaries of arguments; returns the delivered messages in order."""
    delivered, errors = [], []

    def on_delivery(error, message):
        (errors if error else delivered).append(error or message)
    producer = Producer({"bootstrap.servers": BOOTSTRAP, "linger.ms": 5, **config})
    for record in records:
        arguments = record if isinstance(record, dict) else {"key": record[0], "value": record[1]}
        while True:
            try:
                producer.produce(topic, on_delivery=on_delivery, **arguments)
                break
            except BufferError:
                producer.poll(0.1)
    equal(producer.flush(30), 0, "messages left unsent")
    if errors:
        raise KafkaException(errors[0])
    return delivered


def consumer(**config) -> Consumer:
    # The broker says that to members of groups of the consumer protocol.
    session = {} if config.get("group.protocol") == "consumer" else {"session.timeout.ms": 10000}
    return Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": unique("confluent"), "auto.offset.reset": "earliest",
                     "enable.auto.commit": False, **session, **config})


def read(source: Consumer, count: int, seconds: float = 30) -> list:
    """The next `count` messages."""
    got, deadline = [], time.monotonic() + seconds
    while len(got) < count and time.monotonic() < deadline:
        for message in source.consume(count - len(got), 0.5):
            if message.error():
                raise KafkaException(message.error())
            got.append(message)
    equal(len(got), count, "messages read")
    return got


def read_topic(topic: str, count: int, partitions: int = 1, **config) -> list:
    source = consumer(**config)
    source.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in range(partitions)])
    try:
        return read(source, count)
    finally:
        source.close()


def refused(call) -> int:
    """The error code with which a call fails."""
    try:
        call()
    except KafkaException as error:
        return error.args[0].code()
    raise AssertionError("it was not refused")


# Administration


@test
def topics_are_created_listed_described_deleted():
    name = make_topic("confluent-topic", 3, retention_ms="3600000")
    equal(refused(lambda: admin.create_topics([NewTopic(name, 1, 1)])[name].result(20)), KafkaError.TOPIC_ALREADY_EXISTS)
    told = admin.list_topics(timeout=10).topics[name]
    equal(sorted(told.partitions), [0, 1, 2])
    equal({len(p.replicas) for p in told.partitions.values()}, {1})
    config = describe_config(name)
    equal(config["retention.ms"].value, "3600000")
    assert not config["retention.ms"].is_default and config["segment.bytes"].is_default
    admin.delete_topics([name])[name].result(20)
    eventually(lambda: name not in admin.list_topics(timeout=10).topics, what="the topic is gone")
    equal(refused(lambda: admin.delete_topics([name])[name].result(20)), KafkaError.UNKNOWN_TOPIC_OR_PART)


def describe_config(name: str) -> dict:
    resource = ConfigResource(ResourceType.TOPIC, name)
    return admin.describe_configs([resource])[resource].result(20)


@test
def bad_topics_are_refused():
    def create(name: str, partitions: int = 1, replicas: int = 1, config: dict | None = None) -> int:
        new = NewTopic(name, partitions, replicas, config=config or {})
        return refused(lambda: admin.create_topics([new])[name].result(20))
    equal(create("no/slash"), KafkaError.TOPIC_EXCEPTION)
    equal(create("x" * 250), KafkaError.TOPIC_EXCEPTION)
    equal(create(unique("bad"), replicas=9), KafkaError.INVALID_REPLICATION_FACTOR)
    equal(create(unique("bad"), config={"no.such.setting": "1"}), KafkaError.INVALID_CONFIG)
    equal(create(unique("bad"), config={"retention.ms": "soon"}), KafkaError.INVALID_CONFIG)


@test
def validate_only_creates_nothing():
    name = unique("confluent-dry")
    admin.create_topics([NewTopic(name, 1, 1)], validate_only=True)[name].result(20)
    assert name not in admin.list_topics(timeout=10).topics


@test
def the_old_way_to_alter_configs_replaces_them():
    name = make_topic("confluent-replace", retention_ms="5000000", segment_ms="600000")
    resource = ConfigResource(ResourceType.TOPIC, name, set_config={"retention.ms": "7000000", "flush.messages": "1000"})
    admin.alter_configs([resource])[resource].result(20)

    def own() -> dict[str, str]:
        return {key: entry.value for key, entry in describe_config(name).items() if entry.source == 1}
    eventually(lambda: own() == {"retention.ms": "7000000", "flush.messages": "1000"}, what="only what was named is set")


@test
def partitions_are_added():
    name = make_topic("confluent-grow", 2)
    produce(name, [{"value": b"x", "partition": 1}])
    admin.create_partitions([NewPartitions(name, 5)])[name].result(20)
    equal(len(admin.list_topics(timeout=10).topics[name].partitions), 5)
    equal(refused(lambda: admin.create_partitions([NewPartitions(name, 3)])[name].result(20)), KafkaError.INVALID_PARTITIONS)
    produce(name, [{"value": b"y", "partition": 4}])
    equal(sorted(m.value() for m in read_topic(name, 2, 5)), [b"x", b"y"])


@test
def topic_configs_are_altered():
    name = make_topic("confluent-config")

    def alter(key: str, value: str | None, how: AlterConfigOpType):
        entry = ConfigEntry(key, value, incremental_operation=how)
        resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[entry])
        admin.incremental_alter_configs([resource])[resource].result(20)
    alter("max.message.bytes", "20000", AlterConfigOpType.SET)
    eventually(lambda: describe_config(name)["max.message.bytes"].value == "20000", what="the new value is told")
    equal(refused(lambda: produce(name, [(None, os.urandom(30000))])), KafkaError.MSG_SIZE_TOO_LARGE)
    alter("max.message.bytes", None, AlterConfigOpType.DELETE)
    eventually(lambda: describe_config(name)["max.message.bytes"].is_default, what="the default is back")
    produce(name, [(None, os.urandom(30000))])
    equal(refused(lambda: alter("retention.ms", "never", AlterConfigOpType.SET)), KafkaError.INVALID_CONFIG)


@test
def the_cluster_describes_itself():
    cluster = admin.describe_cluster(request_timeout=10).result(20)
    assert cluster.cluster_id, "no cluster id"
    assert cluster.controller.id in [node.id for node in cluster.nodes]
    controller = ConfigResource(ResourceType.BROKER, str(cluster.controller.id))
    config = admin.describe_configs([controller])[controller].result(20)
    equal(config["log.segment.bytes"].value, "1073741824")


@test
def offsets_are_listed_and_records_deleted():
    name = make_topic("confluent-offsets")
    before = int(time.time() * 1000) - 1000
    produce(name, [{"value": b"%d" % i, "timestamp": before + i} for i in range(10)], **{"linger.ms": 0})
    partition = TopicPartition(name, 0)

    def offset(spec) -> int:
        return admin.list_offsets({partition: spec}, isolation_level=IsolationLevel.READ_UNCOMMITTED)[partition].result(20).offset
    equal([offset(OffsetSpec.earliest()), offset(OffsetSpec.latest()), offset(OffsetSpec.for_timestamp(before + 4))], [0, 10, 4])
    equal(offset(OffsetSpec.max_timestamp()), 9)
    before_five = TopicPartition(name, 0, 5)
    equal(admin.delete_records([before_five])[before_five].result(20).low_watermark, 5)
    equal(offset(OffsetSpec.earliest()), 5)
    equal([m.value() for m in read_topic(name, 5)], [b"5", b"6", b"7", b"8", b"9"])


# Producing and consuming


@test
def every_level_of_acks():
    for acks in ["0", "1", "all"]:
        name = make_topic(f"confluent-acks-{acks}")
        delivered = produce(name, [(b"k", b"%d" % i) for i in range(500)], acks=acks)
        if acks != "0":
            equal([m.offset() for m in delivered], list(range(500)), f"offsets with acks={acks}")
        equal([m.value() for m in read_topic(name, 500)], [b"%d" % i for i in range(500)], f"values with acks={acks}")


@test
def every_codec_with_keys_headers_and_times():
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"]:
        name = make_topic(f"confluent-{codec}")
        now = int(time.time() * 1000)
        records = [{"key": b"k%d" % i, "value": b"v" * i, "timestamp": now + i, "headers": [("n", b"%d" % i), ("none", None), ("n", b"")]}
                   for i in range(200)]
        produce(name, records, **{"compression.type": codec, "linger.ms": 50})
        for i, message in enumerate(read_topic(name, 200, **{"check.crcs": True})):
            equal((message.key(), message.value(), message.offset(), message.timestamp()[1], message.headers()),
                  (b"k%d" % i, b"v" * i, i, now + i, [("n", b"%d" % i), ("none", None), ("n", b"")]), codec)


@test
def nulls_and_empties_stay_apart():
    name = make_topic("confluent-null")
    pairs = [(None, b"v"), (b"", b""), (b"k", None), (None, None)]
    produce(name, pairs)
    equal([(m.key(), m.value()) for m in read_topic(name, 4)], pairs)


@test
def idempotent_producer_over_many_partitions():
    name = make_topic("confluent-idempotent", 4)
    records = [{"key": b"%d" % (i % 16), "value": b"%d" % i, "partition": i % 4} for i in range(20000)]
    produce(name, records, **{"enable.idempotence": True})
    by_partition: dict[int, list[int]] = {p: [] for p in range(4)}
    for message in read_topic(name, 20000, 4):
        by_partition[message.partition()].append(int(message.value()))
    for partition, values in by_partition.items():
        equal(values, list(range(partition, 20000, 4)), f"partition {partition}")


@test
def large_messages_and_small_fetches():
    name = make_topic("confluent-large")
    values = [os.urandom(900_000) for _ in range(8)]
    produce(name, [(None, v) for v in values], **{"message.max.bytes": 1_000_000})
    # A batch larger than any limit of the fetch comes whole, or a consumer would be stuck for ever.
    got = read_topic(name, 8, **{"fetch.message.max.bytes": 1000, "fetch.max.bytes": 1_000_000, "message.max.bytes": 1_000_000})
    assert [m.value() for m in got] == values, "not the same bytes"


@test
def log_append_time():
    name = make_topic("confluent-append-time", message_timestamp_type="LogAppendTime")
    produce(name, [{"value": b"x", "timestamp": 1000}])
    kind, at = read_topic(name, 1)[0].timestamp()
    equal(kind, 2, "timestamp type")
    assert abs(at - time.time() * 1000) < 60_000, at


@test
def watermarks_and_offsets_for_times():
    name = make_topic("confluent-times", 2)
    start = int(time.time() * 1000) - 100_000
    produce(name, [{"value": b"%d" % i, "partition": 0, "timestamp": start + 1000 * i} for i in range(50)])
    source = consumer()
    equal(source.get_watermark_offsets(TopicPartition(name, 0), timeout=10), (0, 50))
    equal(source.get_watermark_offsets(TopicPartition(name, 1), timeout=10), (0, 0))

    def offset(at: int) -> int:
        return source.offsets_for_times([TopicPartition(name, 0, at)], timeout=10)[0].offset
    equal([offset(start), offset(start + 20_000), offset(start + 20_001), offset(start - 5)], [0, 20, 21, 0])
    equal(offset(start + 90_000), -1, "a time after the last record")
    source.close()


@test
def seek_pause_and_resume():
    name = make_topic("confluent-seek")
    produce(name, [(None, b"%d" % i) for i in range(100)])
    source = consumer()
    source.assign([TopicPartition(name, 0, OFFSET_BEGINNING)])
    read(source, 10)
    source.seek(TopicPartition(name, 0, 90))
    equal([m.offset() for m in read(source, 10)], list(range(90, 100)))
    source.seek(TopicPartition(name, 0, 3))
    equal(read(source, 1)[0].value(), b"3")
    source.pause([TopicPartition(name, 0)])
    equal(source.consume(1, 1.0), [], "messages while paused")
    source.resume([TopicPartition(name, 0)])
    equal(read(source, 1)[0].value(), b"4")
    source.close()


@test
def a_position_out_of_range_is_an_error_or_a_reset():
    name = make_topic("confluent-range")
    produce(name, [(None, b"%d" % i) for i in range(5)])
    source = consumer(**{"auto.offset.reset": "error"})
    source.assign([TopicPartition(name, 0, 1000)])

    def code():
        message = source.poll(0.5)
        return message is not None and message.error() is not None and message.error().code()
    equal(eventually(code, what="an error"), KafkaError._AUTO_OFFSET_RESET)
    source.close()
    source = consumer()
    source.assign([TopicPartition(name, 0, 1000)])
    equal(read(source, 1)[0].offset(), 0)
    source.close()


@test
def a_waiting_fetch_is_answered_at_once():
    name = make_topic("confluent-longpoll")
    source = consumer(**{"fetch.wait.max.ms": 20_000})
    source.assign([TopicPartition(name, 0, OFFSET_BEGINNING)])
    source.poll(1)
    threading.Timer(0.5, lambda: produce(name, [(None, b"now")])).start()
    began = time.monotonic()
    equal(read(source, 1)[0].value(), b"now")
    assert time.monotonic() - began < 10, "the record waited for the deadline of the fetch"
    source.close()


# Groups


class Member:
    """A group member on a thread of its own: consumes, commits, and remembers what it saw and was given."""

    def __init__(self, group: str, topic: str, **config):
        self.seen: list[tuple[int, int, bytes]] = []
        self.owned: set[int] = set()
        self.error: Exception | None = None
        self._ending = threading.Event()
        self._consumer = consumer(**{"group.id": group, **config})
        self._thread = threading.Thread(target=self._run, args=[topic], daemon=True)
        self._thread.start()

    def _run(self, topic: str):
        def assigned(_, partitions):
            self.owned |= {p.partition for p in partitions}

        def revoked(_, partitions):
            self.owned -= {p.partition for p in partitions}
        self._consumer.subscribe([topic], on_assign=assigned, on_revoke=revoked, on_lost=revoked)
        try:
            while not self._ending.is_set():
                message = self._consumer.poll(0.1)
                if message is not None and not message.error():
                    self.seen.append((message.partition(), message.offset(), message.value()))
                    self._consumer.store_offsets(message)
        except Exception as error:
            self.error = error
        self._consumer.close()

    def leave(self):
        self._ending.set()
        self._thread.join(20)
        if self.error:
            raise self.error


AUTO = {"enable.auto.commit": True, "enable.auto.offset.store": False, "auto.commit.interval.ms": 200}


def rebalances(**config):
    """Three members come and go; every record is seen, at the end each exactly by its owner."""
    name, group = make_topic("confluent-rebalance", 6), unique("confluent-rebalance")
    produce(name, [{"value": b"a%d" % i, "partition": i % 6} for i in range(600)])
    members = [Member(group, name, **AUTO, **config) for _ in range(3)]

    def shared(count: int) -> bool:
        owned = [m.owned for m in members]
        return all(len(o) == 6 // count for o in owned) and set().union(*owned) == set(range(6))
    try:
        eventually(lambda: shared(3), 40, "two partitions for each of three")
        eventually(lambda: len({v for m in members for _, _, v in m.seen}) == 600, 20, "all records seen")
        members.pop().leave()
        eventually(lambda: shared(2), 40, "three partitions for each of two")
        before = [len(m.seen) for m in members]
        produce(name, [{"value": b"b%d" % i, "partition": i % 6} for i in range(600)])
        eventually(lambda: len({v for m in members for _, _, v in m.seen if v[:1] == b"b"}) == 600, 20, "all new records seen")
        equal(sum(len(m.seen) for m in members) - sum(before), 600, "new records, each seen once")
    finally:
        for member in members:
            member.leave()
    source = consumer(**{"group.id": group})
    committed = source.committed([TopicPartition(name, p) for p in range(6)], timeout=10)
    equal([p.offset for p in committed], [200] * 6, "committed when all had left")
    source.close()


@test(seconds=150)
def a_group_rebalances_eagerly():
    rebalances(**{"partition.assignment.strategy": "range"})


@test(seconds=150)
def a_group_rebalances_cooperatively():
    rebalances(**{"partition.assignment.strategy": "cooperative-sticky"})


@test(seconds=90)
def static_members_come_back_without_a_rebalance():
    name, group = make_topic("confluent-static", 4), unique("confluent-static")
    stays = Member(group, name, **AUTO, **{"group.instance.id": "stays"})
    goes = Member(group, name, **AUTO, **{"group.instance.id": "goes"})
    eventually(lambda: len(stays.owned) == 2 and len(goes.owned) == 2, 40, "two partitions each")
    owned = (set(stays.owned), set(goes.owned))
    goes.leave()
    back = Member(group, name, **AUTO, **{"group.instance.id": "goes"})
    eventually(lambda: back.owned == owned[1], 20, "the same partitions as before")
    equal(stays.owned, owned[0], "the other's partitions")
    for member in (back, stays):
        member.leave()


@test
def commits_are_kept_and_told():
    name, group = make_topic("confluent-commit", 2), unique("confluent-commit")
    produce(name, [{"value": b"%d" % i, "partition": 0} for i in range(20)])
    source = consumer(**{"group.id": group})
    source.subscribe([name])
    last = read(source, 7)[-1]
    source.commit(message=last, asynchronous=False)
    source.close()
    source = consumer(**{"group.id": group})
    equal([p.offset for p in source.committed([TopicPartition(name, 0), TopicPartition(name, 1)], timeout=10)], [7, -1001])
    source.subscribe([name])
    equal(read(source, 1)[0].value(), b"7", "first message after the commit")
    # Metadata goes along with the offset.
    source.commit(offsets=[TopicPartition(name, 0, 9, "why not")], asynchronous=False)
    equal([(p.offset, p.metadata) for p in source.committed([TopicPartition(name, 0)], timeout=10)], [(9, "why not")])
    source.close()


@test
def groups_are_listed_described_altered_deleted():
    name, group = make_topic("confluent-groups", 2), unique("confluent-groups")
    produce(name, [(None, b"x")] * 5)
    member = Member(group, name, **AUTO)
    eventually(lambda: len(member.owned) == 2, what="partitions assigned")
    assert group in [g.group_id for g in admin.list_consumer_groups().result(20).valid]
    told = admin.describe_consumer_groups([group])[group].result(20)
    equal((told.state.name, told.partition_assignor, len(told.members)), ("STABLE", "range", 1))
    equal({p.partition for p in told.members[0].assignment.topic_partitions}, {0, 1})
    equal(refused(lambda: admin.delete_consumer_groups([group])[group].result(20)), KafkaError.NON_EMPTY_GROUP)
    member.leave()
    eventually(lambda: admin.describe_consumer_groups([group])[group].result(20).state.name == "EMPTY", what="the group is empty")
    wanted = ConsumerGroupTopicPartitions(group, [TopicPartition(name, 0, 3), TopicPartition(name, 1, 0)])
    admin.alter_consumer_group_offsets([wanted])[group].result(20)
    told = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group].result(20)
    equal({(p.partition, p.offset) for p in told.topic_partitions}, {(0, 3), (1, 0)})
    admin.delete_consumer_groups([group])[group].result(20)
    assert group not in [g.group_id for g in admin.list_consumer_groups().result(20).valid]
    equal(refused(lambda: admin.delete_consumer_groups([group])[group].result(20)), KafkaError.GROUP_ID_NOT_FOUND)


@test(seconds=60)
def min_bytes_are_summed_over_partitions():
    name = make_topic("confluent-min-bytes", 6)
    source = consumer(**{"fetch.min.bytes": 100_000, "fetch.wait.max.ms": 60_000, "socket.timeout.ms": 90_000})
    source.assign([TopicPartition(name, p, 0) for p in range(6)])
    # From offsets that need no asking: the question would wait behind the first fetch, of one partition, for a minute.
    # Once each has been read, every fetch asks for all.
    produce(name, [{"value": os.urandom(110_000), "partition": p} for p in range(6)])
    read(source, 6, 20)
    # Each broker sums up its own; with direct ports each core is one.
    pairs = [(2, 3), (5, 4)] if len(admin.list_topics(timeout=20).brokers) == 1 else []
    for first, second in [(0, 0), (1, 1), *pairs]:
        for partition in first, second:
            produce(name, [{"value": os.urandom(60_000), "partition": partition}])
        read(source, 2, 20)
    source.close()


@test()
def a_commit_is_seen_by_what_is_asked_behind_it():
    name, group = make_topic("confluent-behind"), unique("confluent-behind")
    source = consumer(**{"group.id": group})
    place = TopicPartition(name, 0, 0)
    source.assign([place])
    source.commit(offsets=[TopicPartition(name, 0, 1)], asynchronous=False)
    told = []
    for offset in range(2, 42):
        source.commit(offsets=[TopicPartition(name, 0, offset)], asynchronous=True)
        told.append(source.committed([place], timeout=10)[0].offset)
    equal(told, list(range(2, 42)), "committed right behind each commit")
    source.close()


@test(seconds=60)
def a_member_that_dies_is_missed():
    name, group = make_topic("confluent-dead", 2), unique("confluent-dead")
    quick = {"session.timeout.ms": 6000, "heartbeat.interval.ms": 1000}
    dying = subprocess.Popen(["kcat", "-b", BOOTSTRAP, "-q", *(a for k, v in quick.items() for a in ("-X", f"{k}={v}")),
                              "-G", group, name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        def members() -> int:
            return len(admin.describe_consumer_groups([group])[group].result(20).members)
        eventually(lambda: members() == 1, what="the first member is there")
        alive = Member(group, name, **AUTO, **quick)
        eventually(lambda: len(alive.owned) == 1, what="one partition each")
    finally:
        dying.kill()
        dying.wait()
    eventually(lambda: len(alive.owned) == 2, 25, "the survivor has both partitions")
    alive.leave()


def transactional(of: str, **config) -> Producer:
    producer = Producer({"bootstrap.servers": BOOTSTRAP, "transactional.id": of, **config})
    producer.init_transactions(30)
    return producer


def send(producer: Producer, topic: str, values):
    for number, value in enumerate(values):
        producer.produce(topic, value, partition=number % 2)
    equal(producer.flush(20), 0, "messages left unsent")


def visible(topic: str, level: str) -> list[str]:
    """What two partitions hold for those who read at this level."""
    source, got, ended = consumer(**{"isolation.level": level, "enable.partition.eof": True}), [], set()
    source.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in (0, 1)])
    deadline = time.monotonic() + 30
    while len(ended) < 2 and time.monotonic() < deadline:
        message = source.poll(0.5)
        if message is None:
            continue
        if message.error():
            equal(message.error().code(), KafkaError._PARTITION_EOF, "the error")
            ended.add(message.partition())
        else:
            got.append(message.value().decode())
    source.close()
    equal(len(ended), 2, "partitions read to their end")
    return sorted(got)


@test
def transactions_commit_and_abort():
    topic = make_topic("confluent-tx", 2)
    producer = transactional(unique("confluent-tx"))
    for name, commits in [("a", True), ("b", False), ("c", True)]:
        producer.begin_transaction()
        send(producer, topic, [f"{name}{number}" for number in range(4)])
        equal([it for it in visible(topic, "read_committed") if it[0] == name], [], "it is still open")
        producer.commit_transaction(30) if commits else producer.abort_transaction(30)
    committed = [f"{name}{number}" for name in "ac" for number in range(4)]
    eventually(lambda: visible(topic, "read_committed") == committed, 20, "what is committed, and no more")
    equal(len(visible(topic, "read_uncommitted")), 12, "records of all of them")


@test
def a_later_producer_fences_an_earlier_one():
    topic, name = make_topic("confluent-tx", 2), unique("confluent-tx")
    zombie = transactional(name)
    zombie.begin_transaction()
    send(zombie, topic, ["zombie"])
    producer = transactional(name)
    producer.begin_transaction()
    send(producer, topic, ["new"])
    producer.commit_transaction(30)
    try:
        zombie.commit_transaction(30)
        raise AssertionError("it was not fenced")
    except KafkaException as error:
        assert error.args[0].fatal(), error
        equal(error.args[0].code(), KafkaError._FENCED, "the error")
    eventually(lambda: visible(topic, "read_committed") == ["new"], 20, "the zombie's is aborted")


@test
def a_transaction_that_takes_too_long_is_aborted():
    topic = make_topic("confluent-tx", 2)
    producer = transactional(unique("confluent-tx"), **{"transaction.timeout.ms": 1500})
    producer.begin_transaction()
    send(producer, topic, ["late"])
    # Kafka looks every ten seconds.
    eventually(lambda: last_stable(topic) > 0, 30, "the end of the transaction")
    try:
        producer.commit_transaction(30)
        raise AssertionError("it is committed")
    except KafkaException as error:
        assert not error.args[0].retriable(), error
    equal(visible(topic, "read_committed"), [], "what is committed")


@test(seconds=90)
def records_are_copied_with_their_offsets_once():
    source, copy, group = make_topic("confluent-from", 2), make_topic("confluent-to", 2), unique("confluent-copy")
    values = [f"{number:02}" for number in range(20)]
    produce(source, [{"value": value, "partition": int(value) % 2} for value in values])
    reader = consumer(**{"group.id": group})
    reader.subscribe([source])
    producer = transactional(unique("confluent-copy"))
    asked = [ConsumerGroupTopicPartitions(group, [TopicPartition(source, partition) for partition in (0, 1)])]

    def stable() -> set[int]:
        """The errors of the offsets for those who ask for stable ones."""
        told = admin.list_consumer_group_offsets(asked, require_stable=True)[group].result(20)
        return {partition.error.code() if partition.error else 0 for partition in told.topic_partitions}

    for turn in range(6):
        commits = turn % 3 != 1
        producer.begin_transaction()
        for message in read(reader, 5):
            value = message.value()
            producer.produce(copy, value, partition=int(value) % 2)
        ends = reader.position(reader.assignment())
        producer.send_offsets_to_transaction(ends, reader.consumer_group_metadata(), 30)
        assert KafkaError.UNSTABLE_OFFSET_COMMIT in stable(), "the transaction is not over"
        if commits:
            producer.commit_transaction(30)
        else:
            producer.abort_transaction(30)
            for partition in reader.committed(reader.assignment(), 20):
                partition.offset = max(partition.offset, 0)
                reader.seek(partition)
    eventually(lambda: stable() == {0}, 20, "the end of the last transaction")
    equal(sum(partition.offset for partition in reader.committed(reader.assignment(), 20)), 20, "offsets committed")
    equal(visible(copy, "read_committed"), values, "records copied")
    reader.close()


# Groups of the consumer protocol (KIP-848)


class Joined:
    """A member of a group of the consumer protocol, which polls in a thread of its own until it is closed."""

    def __init__(self, group: str, *topics: str, **config):
        self._consumer = consumer(**{"group.id": group, "group.protocol": "consumer", **config})
        self.values, self.errors = [], []
        self.owned: set[tuple[str, int]] = set()
        self._stops = threading.Event()

        def assigned(_, given):
            self.owned = self.owned | {(p.topic, p.partition) for p in given}

        def revoked(_, taken):
            self.owned = self.owned - {(p.topic, p.partition) for p in taken}
        self._consumer.subscribe(list(topics), on_assign=assigned, on_revoke=revoked, on_lost=revoked)
        self._thread = threading.Thread(target=self._poll)
        self._thread.start()

    def _poll(self):
        while not self._stops.is_set():
            message = self._consumer.poll(0.1)
            if message is not None and message.error():
                self.errors.append(message.error())
            elif message is not None:
                self.values.append(message.value())
                # What is refused of a commit is not raised.
                refused = [partition.error for partition in self._consumer.commit(message, asynchronous=False) if partition.error]
                self.errors.extend(refused)

    def close(self):
        self._stops.set()
        self._thread.join()
        self._consumer.close()
        equal(self.errors, [], "errors of a member")


def spread(*members: Joined, of: set[tuple[str, int]], each: set[int]):
    """Waits until the members share these partitions, each so many of them."""
    def are_shared() -> bool:
        parts = [member.owned for member in members]
        return sum(map(len, parts)) == len(of) and set().union(*parts) == of and {len(part) for part in parts} <= each
    eventually(are_shared, 40, f"{len(members)} members share {len(of)} partitions")


def partitions(topic: str, count: int) -> set[tuple[str, int]]:
    return {(topic, p) for p in range(count)}


@test(seconds=150)
def consumer_protocol_rebalances():
    rebalances(**{"group.protocol": "consumer"})


@test(seconds=120)
def consumer_protocol_members_share_and_commit():
    topic, group = make_topic("confluent-848", 6), unique("confluent-848")
    all_of = partitions(topic, 6)
    first = Joined(group, topic)
    spread(first, of=all_of, each={6})
    second = Joined(group, topic, **{"group.remote.assignor": "uniform"})
    spread(first, second, of=all_of, each={3})
    third = Joined(group, topic)
    spread(first, second, third, of=all_of, each={2})
    values = [b"%d" % n for n in range(60)]
    produce(topic, [(value, value) for value in values])
    eventually(lambda: len(first.values + second.values + third.values) >= 60, 30, "all is read")
    equal(sorted(first.values + second.values + third.values), sorted(values), "records, each read once")
    second.close()
    spread(first, third, of=all_of, each={3})
    told = admin.describe_consumer_groups([group])[group].result(20)
    equal((told.state.name, len(told.members)), ("STABLE", 2))
    equal(told.type.name, "CONSUMER")
    first.close()
    third.close()
    wanted = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, p) for p in range(6)])
    committed = admin.list_consumer_group_offsets([wanted])[group].result(20).topic_partitions
    equal(sum(max(p.offset, 0) for p in committed), 60, "offsets committed")
    eventually(lambda: admin.describe_consumer_groups([group])[group].result(20).state.name == "EMPTY", 20, "it is empty")
    admin.delete_consumer_groups([group])[group].result(20)
    assert group not in [g.group_id for g in admin.list_consumer_groups().result(20).valid]


@test(seconds=120)
def consumer_protocol_follows_topics():
    prefix, group = unique("confluent-848-regex"), unique("confluent-848")
    first = f"{prefix}.a"
    admin.create_topics([NewTopic(first, 2, 1)])[first].result(20)
    member = Joined(group, f"^{prefix}[.].*")
    spread(member, of=partitions(first, 2), each={2})
    second = f"{prefix}.b"
    admin.create_topics([NewTopic(second, 1, 1)])[second].result(20)
    spread(member, of=partitions(first, 2) | partitions(second, 1), each={3})
    admin.create_partitions([NewPartitions(first, 4)])[first].result(20)
    spread(member, of=partitions(first, 4) | partitions(second, 1), each={5})
    admin.delete_topics([second])[second].result(20)
    spread(member, of=partitions(first, 4), each={4})
    member.close()


@test(seconds=120)
def consumer_protocol_static_members_come_back():
    topic, group = make_topic("confluent-848-static", 4), unique("confluent-848")
    stays, away = Joined(group, topic), Joined(group, topic, **{"group.instance.id": "one"})
    spread(stays, away, of=partitions(topic, 4), each={2})
    had, kept = away.owned, stays.owned
    away.close()
    back = Joined(group, topic, **{"group.instance.id": "one"})
    eventually(lambda: back.owned == had, 30, "it has what it had")
    equal(stays.owned, kept, "what the other one has")
    stays.close()
    back.close()


def last_stable(topic: str) -> int:
    spec = {TopicPartition(topic, 0): OffsetSpec.latest()}
    level = IsolationLevel.READ_COMMITTED
    return admin.list_offsets(spec, isolation_level=level)[TopicPartition(topic, 0)].result(20).offset


if __name__ == "__main__":
    main("confluent")
