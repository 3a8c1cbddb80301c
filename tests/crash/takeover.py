"""`millracectl store import`: a broker goes on with what a real Apache Kafka left on its disk, or an export of ours, record by record."""

import json
import pathlib
import random
import subprocess
import tempfile
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec

from harness import paths
from harness.broker import Broker, Kafka, Millrace
from harness.load import QUIET, Load, make_topic, patiently
from harness.suite import equal, eventually, main, test, unique

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
PARTITIONS = 3
RECORDS_PER_CODEC = 1500
# Kafka compacts at once, and producers are remembered for a day.
INTERNAL = {"offsets.topic.num.partitions": "3", "transaction.state.log.num.partitions": "3"}
KAFKA = {"log.cleaner.backoff.ms": "200", "log.initial.task.delay.ms": "200", **INTERNAL}
SMALL = {"millrace.store.journal.bytes": str(4 << 20), "millrace.store.initial.bytes": str(16 << 20)}


def ctl(*args: str) -> dict:
    """The answer of a command that is to succeed."""
    done = subprocess.run([paths.binary("millracectl"), "--json", *map(str, args)], capture_output=True, text=True, timeout=120)
    equal(done.returncode, 0, f"millracectl {' '.join(map(str, args))}: {done.stdout[-500:]}{done.stderr[-1000:]}")
    return json.loads(done.stdout)


def refused(*args: str) -> str:
    """What a command says that is to be refused."""
    done = subprocess.run([paths.binary("millracectl"), *map(str, args)], capture_output=True, text=True, timeout=120)
    equal(done.returncode, 1, f"millracectl {' '.join(map(str, args))}: {done.stdout[-500:]}{done.stderr[-500:]}")
    return done.stderr


class Seen:
    """What clients see of topics: every record with all that it has, where logs begin and end, ids, settings, commits."""

    def __init__(self, broker: Broker, topics: list[str], group: str):
        admin = AdminClient({"bootstrap.servers": broker.address, **QUIET})
        described = patiently(lambda: admin.describe_topics(TopicCollection(topics)))
        self.partitions, self.ids = {}, {}
        for name, future in described.items():
            topic = future.result(20)
            self.partitions[name], self.ids[name] = len(topic.partitions), str(topic.topic_id)
        all_of = [TopicPartition(name, p) for name, count in self.partitions.items() for p in range(count)]
        self.first = self._offsets(admin, all_of, OffsetSpec.earliest())
        self.end = self._offsets(admin, all_of, OffsetSpec.latest())
        self.records = {level: self._read(broker, all_of, level) for level in ["read_uncommitted", "read_committed"]}
        self.settings = {}
        for name in topics:
            entries = admin.describe_configs([ConfigResource(ConfigResource.Type.TOPIC, name)])
            (entries,) = [future.result(20) for future in entries.values()]
            # Those that are the topic's own.
            self.settings[name] = {key: entry.value for key, entry in entries.items() if entry.source == 1}
        consumer = Consumer({"bootstrap.servers": broker.address, "group.id": group, **QUIET})
        committed = patiently(lambda: consumer.committed(all_of, timeout=20))
        self.committed = {(at.topic, at.partition): (at.offset, at.metadata) for at in committed}
        consumer.close()

    @staticmethod
    def _offsets(admin: AdminClient, wanted: list[TopicPartition], spec) -> dict:
        futures = admin.list_offsets({at: spec for at in wanted})
        return {(at.topic, at.partition): future.result(20).offset for at, future in futures.items()}

    @staticmethod
    def _read(broker: Broker, wanted: list[TopicPartition], level: str) -> dict:
        consumer = Consumer({"bootstrap.servers": broker.address, "group.id": "nobody", "isolation.level": level,
                             "enable.partition.eof": True, "enable.auto.commit": False, **QUIET})
        consumer.assign([TopicPartition(at.topic, at.partition, OFFSET_BEGINNING) for at in wanted])
        found, open_ones = {}, {(at.topic, at.partition) for at in wanted}
        deadline = time.monotonic() + 60
        while open_ones:
            assert time.monotonic() < deadline, f"not read to the end: {open_ones}"
            message = consumer.poll(1)
            if message is None:
                continue
            if message.error():
                equal(message.error().code(), KafkaError._PARTITION_EOF, str(message.error()))
                open_ones.discard((message.topic(), message.partition()))
                continue
            found[message.topic(), message.partition(), message.offset()] = (
                message.timestamp(), message.key(), message.value(), tuple(message.headers() or []), message.leader_epoch())
        consumer.close()
        return found

    def is_as(self, other: "Seen", settings: dict | None = None):
        """The same, but for settings that are said here."""
        for level, records in other.records.items():
            mine = self.records[level]
            equal(len(mine), len(records), f"records, {level}")
            different = [at for at, record in records.items() if mine.get(at) != record]
            equal([(at, mine.get(at), records[at]) for at in different[:2]], [], f"records that differ, {level}")
        equal(self.first, other.first, "first offsets")
        equal(self.end, other.end, "end offsets")
        equal(self.ids, other.ids, "topic ids")
        equal(self.committed, other.committed, "committed offsets")
        equal(self.settings, other.settings if settings is None else settings, "settings of topics")


def produce(address: str, topic: str, codecs: list[str] = CODECS):
    """Records of all kinds: with and without key, value, headers, of times that do not only go forward."""
    errors = []
    for codec in codecs:
        producer = Producer({"bootstrap.servers": address, "compression.type": codec, "linger.ms": 5, "batch.size": 20_000,
                             "enable.idempotence": True, **QUIET})
        rng, began = random.Random(codec), int(time.time() * 1000)
        for n in range(RECORDS_PER_CODEC):
            value = None if n % 10 == 9 else f"{codec}/{n}/{rng.randbytes(rng.randrange(400)).hex()}"
            headers = [("codec", codec.encode()), ("none", None)] if n % 4 == 0 else None
            producer.produce(topic, value, None if n % 3 == 0 else f"key-{n % 50}", partition=n % PARTITIONS,
                             timestamp=began + n - n % 7 * 3, headers=headers,
                             on_delivery=lambda error, _: errors.append(str(error)) if error else None)
            producer.poll(0)
        equal(producer.flush(30), 0, "records still unacknowledged")
    equal(errors[:3], [], "failed deliveries")


def transactions(address: str, topic: str, open_id: str, group: str):
    """One that is committed with an offset of a group, one that is aborted, and one that is left open."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": group, **QUIET})
    for name, end in [("committed", "commit_transaction"), ("aborted", "abort_transaction"), (open_id, None)]:
        producer = Producer({"bootstrap.servers": address, "transactional.id": name, "transaction.timeout.ms": 60_000, **QUIET})
        patiently(lambda: producer.init_transactions(30))
        producer.begin_transaction()
        for n in range(50):
            producer.produce(topic, f"{name}-{n}", partition=n % PARTITIONS)
        equal(producer.flush(30), 0, "records still unacknowledged")
        if name == "committed":
            producer.send_offsets_to_transaction([TopicPartition(topic, 0, 7, "of a transaction")], consumer.consumer_group_metadata(), 20)
        if end:
            getattr(producer, end)(30)
    consumer.close()
    return producer


def compacted(broker: Broker, topic: str):
    """A topic of few keys that the broker has compacted: offsets are missing within and between batches."""
    make_topic(broker.address, topic, PARTITIONS, cleanup_policy="compact", segment_ms="1000", min_cleanable_dirty_ratio="0.01")
    producer = Producer({"bootstrap.servers": broker.address, "linger.ms": 50, "compression.type": "lz4", **QUIET})

    def some(count: int, keys: int):
        for n in range(count):
            producer.produce(topic, f"{n}" * 20, f"k{n % keys}", partition=n % PARTITIONS)
        equal(producer.flush(30), 0, "records still unacknowledged")

    some(600, 150)
    some(600, 60)

    def done():
        # What is appended after a second rolls, and what was rolled can be compacted.
        some(3, 3)
        time.sleep(1.1)
        found = Seen._read(broker, [TopicPartition(topic, p) for p in range(PARTITIONS)], "read_uncommitted")
        return len(found) < 700

    eventually(done, 60, "the topic is compacted")
    producer.produce(topic, None, "k1", partition=1)
    producer.flush(30)


class World:
    """Topics of all kinds on a broker, which is then stopped or left running, and what clients saw of them."""

    def __init__(self, broker: Broker, stop: bool = True):
        self.plain, self.compact, self.group = unique("plain"), unique("compact"), unique("group")
        self.empty, self.open_id = unique("empty"), unique("open")
        make_topic(broker.address, self.plain, PARTITIONS, segment_bytes=str(1 << 20))
        make_topic(broker.address, self.empty, 1, retention_ms="12345678")
        produce(broker.address, self.plain)
        compacted(broker, self.compact)
        producer = transactions(broker.address, self.plain, self.open_id, self.group)
        admin = AdminClient({"bootstrap.servers": broker.address, **QUIET})
        # The log starts within a batch in one partition; another one has nothing left.
        gone = [TopicPartition(self.plain, 1, 777), TopicPartition(self.empty, 0, 0)]
        for future in admin.delete_records(gone).values():
            future.result(20)
        consumer = Consumer({"bootstrap.servers": broker.address, "group.id": self.group, "enable.auto.commit": False, **QUIET})
        patiently(lambda: consumer.commit(offsets=[TopicPartition(self.plain, 1, 800, "noted")], asynchronous=False))
        consumer.close()
        self.topics = [self.plain, self.compact, self.empty]
        if not stop:
            producer.abort_transaction(30)
        self.seen = Seen(broker, self.topics, self.group)
        if stop:
            equal(broker.stop(60), broker.stopped_status, "exit status")
        del producer


def goes_on(broker: Broker, world: World):
    """Who comes to the new broker is served: the transaction that was open can be ended, producers and groups go on."""
    producer = Producer({"bootstrap.servers": broker.address, "transactional.id": world.open_id, **QUIET})
    patiently(lambda: producer.init_transactions(30))
    producer.begin_transaction()
    producer.produce(world.plain, b"after", partition=0)
    producer.commit_transaction(30)
    committed = Seen._read(broker, [TopicPartition(world.plain, 0)], "read_committed")
    values = [record[2] for record in committed.values()]
    assert b"after" in values, "a record of a new transaction"
    equal([value for value in values if value and value.startswith(world.open_id.encode())], [], "records of one that was open")
    produce(broker.address, world.plain, ["zstd"])


@test(seconds=400)
def kafkas_directory_is_taken_over():
    """Every codec, gaps of compaction, markers, an open transaction, deleted records, commits, settings, ids; and back to Kafka's form again."""
    with Kafka(KAFKA) as kafka:
        world = World(kafka)
        with tempfile.TemporaryDirectory(prefix="millrace-taken-") as home:
            target = pathlib.Path(home) / "data"
            answer = ctl("store", "import", kafka.data, "--to", target)
            equal([row for row in answer["left_out"] if row["place"] in world.topics], [], "what is left out of topics")
            again = refused("store", "import", kafka.data, "--to", target)
            assert "has stores already" in again, again
            # Offsets of batches that are no longer what they were.
            with Taken(target) as broker:
                after = Seen(broker, world.topics, world.group)
                after.is_as(world.seen)
                goes_on(broker, world)
                broker.restart()
                after = Seen(broker, world.topics, world.group)
                equal(broker.stop(), 0, "exit status")
            # What is exported is taken over as well.
            out, second = pathlib.Path(home) / "out", pathlib.Path(home) / "second"
            ctl("store", "export", target, out)
            ctl("store", "import", out, "--to", second)
            with Taken(second) as broker:
                Seen(broker, world.topics, world.group).is_as(after)


@test(seconds=300)
def a_backup_of_a_running_broker_is_restored():
    """While others write: what was there before is there with all that it has, and of what comes meanwhile a beginning."""
    with Millrace({**SMALL, **INTERNAL}) as source, tempfile.TemporaryDirectory(prefix="millrace-backup-") as home:
        world, busy = World(source, stop=False), unique("busy")
        make_topic(source.address, busy, 2)
        load = Load(source.address, busy, 2, rate=1000, **{"enable.idempotence": True})
        eventually(lambda: load.acks > 1000, 30, "acknowledgements")
        acked, out, target = [len(of) for of in load.acked], pathlib.Path(home) / "out", pathlib.Path(home) / "data"
        answer = ctl("--bootstrap", source.address, "backup", out)
        assert {row["topic"] for row in answer["partitions"]} >= {*world.topics, busy, "__consumer_offsets"}, answer
        assert "it is there already" in refused("--bootstrap", source.address, "backup", out)
        load.end()
        ctl("store", "import", out, "--to", target)
        with Taken(target) as broker:
            Seen(broker, world.topics, world.group).is_as(world.seen)
            wanted = [TopicPartition(busy, p) for p in range(2)]
            mine, all_of = (Seen._read(one, wanted, "read_committed") for one in (broker, source))
            equal([at for at, record in mine.items() if all_of[at] != record][:2], [], "records that differ")
            for partition, count in enumerate(acked):
                offsets = sorted(offset for _, p, offset in mine if p == partition)
                equal(offsets, list(range(len(offsets))), "offsets")
                assert len(offsets) >= count, f"{len(offsets)} of {count} that were acknowledged before"
            goes_on(broker, world)


class Taken(Millrace):
    """A broker on a directory that is there."""

    def __init__(self, data: pathlib.Path, overrides: dict[str, str] | None = None):
        super().__init__({"node.id": "1", **SMALL, **(overrides or {})})
        self.data = data


@test(seconds=200)
def what_cannot_be_taken_over_is_refused():
    """A broker that runs or was killed, damage, what is missing: said with its place, and nothing is left but a place that says so."""
    with Kafka(KAFKA) as kafka, tempfile.TemporaryDirectory(prefix="millrace-taken-") as home:
        topic, target = unique("refused"), pathlib.Path(home) / "data"
        make_topic(kafka.address, topic, PARTITIONS)
        produce(kafka.address, topic, ["gzip"])
        assert "was not stopped in order" in refused("store", "import", kafka.data, "--to", target)
        equal(kafka.stop(60), kafka.stopped_status, "exit status")
        log = kafka.data / f"{topic}-1" / f"{0:020}.log"
        whole = log.read_bytes()
        for damaged, why in [(whole[:-10], "goes beyond the end"), (whole[:100] + b"\xff" + whole[101:], "wrong CRC"),
                             (whole[:16] + b"\x01" + whole[17:], "magic")]:
            log.write_bytes(damaged)
            said = refused("store", "import", kafka.data, "--to", target)
            assert why in said and str(log) in said, said
            # Nobody takes it for a data directory, and another import says what is in its way.
            equal(sorted(path.name for path in target.glob("store-*")), [], "stores")
            assert "did not come to its end" in refused("store", "import", kafka.data, "--to", target)
            subprocess.run(["rm", "-r", str(target / "importing")], check=True)
        log.write_bytes(whole)
        moved = kafka.data / f"{topic}-1"
        moved.rename(home + "/elsewhere")
        assert f"partition 1 of {topic}" in refused("store", "import", kafka.data, "--to", target)
        pathlib.Path(home + "/elsewhere").rename(moved)
        ctl("store", "import", kafka.data, "--to", target)


if __name__ == "__main__":
    main("takeover")
