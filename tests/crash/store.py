"""The store of Millrace: when it is full, and when the disk gives back other bytes than were written."""

import pathlib
import re
import subprocess
import tempfile
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic, ResourceType

from harness import paths, protocol
from harness.broker import Millrace
from harness.load import QUIET, Load, make_topic, number_in, patiently, read_all, reader, value_of
from harness.store import BLOCK, SUPERBLOCKS, store_files
from harness.suite import equal, eventually, main, test, unique

MIB = 1 << 20
# One store, so that it is known where things are; small, so that checkpoints come often and sealed data is in chunks.
SMALL = {"millrace.shards": "1", "millrace.store.journal.bytes": str(4 * MIB), "millrace.store.initial.bytes": str(16 * MIB),
         "millrace.store.checkpoint.bytes": str(2 * MIB)}
# What a few records fill neither the ring of, nor is a checkpoint due: whatever was flushed is in the journal.
NO_CHECKPOINT = {**SMALL, "millrace.store.journal.bytes": str(32 * MIB), "millrace.store.initial.bytes": str(64 * MIB),
                 "millrace.store.checkpoint.bytes": str(512 * MIB)}
# How many flushes there are at least after the load, whatever the machine made of that.
SINGLE_FLUSHES = 40
# A shorter journal record is about nothing; it says that the one before it is durable.
RECORD_BYTES_MIN = 100


# Full


def fill(server: Millrace, topic: str) -> Load:
    """Produces until it is refused. What was refused is refused with Kafka's error for it, at once."""
    load = Load(server.address, topic, 2, rate=20_000, retries=0)
    eventually(lambda: load.errors, 60, "the store is full")
    load.stop()
    load._producer.flush(30)
    assert all("KAFKA_STORAGE_ERROR" in error for error in load.errors), load.errors[:3]
    return load


@test(seconds=240)
def a_full_store_refuses_and_loses_nothing():
    with Millrace({**SMALL, "millrace.store.bytes.max": str(48 * MIB)}) as server:
        topic = unique("store-full")
        make_topic(server.address, topic, 2, segment_bytes=str(MIB))
        load = fill(server, topic)
        load.verify(server.address)
        # A restart finds no more room than there was, and neither loses nor needs any.
        server.restart()
        load.verify(server.address)
        admin = AdminClient({"bootstrap.servers": server.address, **QUIET})
        # Space is given back by deleting records; then producing works again, without a restart.
        ends = [len(numbers) for numbers in read_all(server.address, topic, 2)]
        gone = [TopicPartition(topic, p, end - 10) for p, end in enumerate(ends)]
        for future in admin.delete_records(gone).values():
            future.result(20)
        second = unique("store-again")
        make_topic(server.address, second)
        again = Load(server.address, second, 1, rate=500)
        eventually(lambda: again.acks > 500, 40, "acknowledgements after records were deleted")
        again.end()
        again.verify(server.address)
        server.restart()
        again.verify(server.address)


def refusal(future) -> str:
    """The error that a call of the admin client ended with."""
    try:
        future.result(20)
    except KafkaException as error:
        return error.args[0].name()
    return "none"


@test(seconds=120)
def a_full_store_answers_every_change():
    """What needs room is refused by an answer, not by the end of the connection; what gives room back is done."""
    with Millrace({**SMALL, "millrace.store.bytes.max": str(48 * MIB)}) as server:
        topic = unique("store-answers")
        make_topic(server.address, topic, 2, segment_bytes=str(MIB))
        fill(server, topic).verify(server.address)
        admin = AdminClient({"bootstrap.servers": server.address, **QUIET})
        other = unique("store-refused")
        # So many that the room which the last refused batch would have needed is not enough for them.
        for _ in range(3):
            equal(refusal(admin.create_topics([NewTopic(other, 1000, 1)])[other]), "KAFKA_STORAGE_ERROR", "CreateTopics")
            equal(refusal(admin.create_partitions([NewPartitions(topic, 1000)])[topic]), "KAFKA_STORAGE_ERROR", "CreatePartitions")
        assert other not in admin.list_topics(timeout=20).topics, "a refused topic exists"
        equal(len(admin.list_topics(timeout=20).topics[topic].partitions), 2, "partitions")
        # A setting takes hardly any room, and may be what ends the trouble.
        change = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[
            ConfigEntry("retention.ms", "86400000", incremental_operation=AlterConfigOpType.SET)])
        equal(refusal(admin.incremental_alter_configs([change])[change]), "none", "IncrementalAlterConfigs")
        # So may a producer of the broker's own kind, which needs an id: it gets as far as its first record.
        producer = Producer({"bootstrap.servers": server.address, "enable.idempotence": True, "message.timeout.ms": 3000, "retries": 3, **QUIET})
        told = [None]
        # Or its tenth: what was inline when the store was full has its place in chunks after a checkpoint.
        while told[-1] is None and len(told) <= 100:
            producer.produce(topic, b"x" * 100_000, partition=0, on_delivery=lambda error, _: told.append(error and error.name()))
            producer.flush(20)
        assert told[-1] in ("KAFKA_STORAGE_ERROR", "_MSG_TIMED_OUT"), told
        assert not re.search(r"clos.*full", server.log_path.read_text()), server.log_tail()
        equal(refusal(admin.delete_topics([topic])[topic]), "none", "DeleteTopics")
        eventually(lambda: refusal(admin.create_topics([NewTopic(other, 1, 1)])[other]) == "none", 30, "room for a topic")


@test(seconds=240)
def a_full_store_kept_at_it_survives_kills():
    """Producers that keep trying, deletes that make room, and kills in between."""
    with Millrace({**SMALL, "millrace.store.bytes.max": str(48 * MIB)}) as server:
        admin = AdminClient({"bootstrap.servers": server.address, **QUIET})
        for round_ in range(4):
            topic = unique(f"store-kept-{round_}")
            patiently(lambda: make_topic(server.address, topic, 2))
            load = Load(server.address, topic, 2, rate=20_000, retries=0)
            eventually(lambda: load.errors, 60, "the store is full")
            server.kill()
            load.stop()
            load._producer.purge()
            server.start()
            load.verify(server.address)
            admin.delete_topics([topic])[topic].result(20)
            eventually(lambda: produces(server), 40, "room after the topic was deleted")


def produces(server: Millrace) -> bool:
    topic = unique("store-probe")
    make_topic(server.address, topic)
    load = Load(server.address, topic, 1, rate=100, retries=0)
    try:
        eventually(lambda: load.acks + len(load.errors) > 3, 10, "an answer")
    finally:
        load.stop()
    return not load.errors


# Compaction


@test(seconds=180)
def committed_offsets_stay_few_and_survive_kills():
    """The broker's own topic keeps what is valid: an offset that was committed once and long ago, and the last one of
    those that were committed again and again."""
    offsets = TopicPartition("__consumer_offsets", 0)
    with Millrace({"millrace.internal.compact.bytes": "65536", "offsets.topic.num.partitions": "1"}) as server:
        topic = unique("store-offsets")
        make_topic(server.address, topic, 2)
        config = {"bootstrap.servers": server.address, "enable.auto.commit": False, **QUIET}
        rare, often = Consumer({**config, "group.id": "rare"}), Consumer({**config, "group.id": "often"})

        def commit(consumer: Consumer, offset: int):
            patiently(lambda: consumer.commit(offsets=[TopicPartition(topic, 1, offset, "metadata " * 20)], asynchronous=False))

        def committed(consumer: Consumer) -> int:
            return patiently(lambda: consumer.committed([TopicPartition(topic, 1)], timeout=20)[0].offset)

        commit(rare, 7)
        began = 0
        for round_ in range(4):
            for n in range(1, 1001):
                commit(often, round_ * 1000 + n)
            low, high = patiently(lambda: often.get_watermark_offsets(offsets, timeout=20))
            assert low > began, f"nothing was dropped in round {round_}: offsets {low} to {high}"
            assert high - low < 1000, f"offsets {low} to {high} in round {round_}"
            began = low
            server.restart()
            equal((committed(rare), committed(often)), (7, (round_ + 1) * 1000), f"committed offsets after kill {round_ + 1}")
        equal(server.stop(), server.stopped_status, "exit status")
        checked = subprocess.run([paths.binary("millracectl"), "store", "check", str(server.data)], capture_output=True, text=True, timeout=60)
        assert "everything is whole" in checked.stdout, checked
        rare.close()
        often.close()


@test(seconds=180)
def the_metadata_log_stays_short_and_survives_kills():
    """Topics that come and go leave nothing behind; those that stay are there with all that was said about them."""
    with Millrace({"millrace.internal.compact.bytes": "16384", "millrace.shards": "2"}) as server:
        kept = unique("store-kept")
        make_topic(server.address, kept, 3, retention_ms="12345678")
        load = Load(server.address, kept, 3, rate=500, **{"enable.idempotence": True})
        first = 0
        for _ in range(4):
            admin = AdminClient({"bootstrap.servers": server.address, **QUIET})
            for _ in range(12):
                gone = unique("store-gone")
                patiently(lambda: admin.create_topics([NewTopic(gone, 60, 1)])[gone].result(20))
                admin.delete_topics([gone])[gone].result(20)
            change = ConfigResource(ResourceType.TOPIC, kept, incremental_configs=[
                ConfigEntry("max.message.bytes", str(2_000_000 + first), incremental_operation=AlterConfigOpType.SET)])
            admin.incremental_alter_configs([change])[change].result(20)
            server.kill()
            listed = subprocess.run([paths.binary("millracectl"), "store", "ls", str(server.data)], capture_output=True, text=True, timeout=60)
            (fields,) = [line.split() for line in listed.stdout.splitlines() if " __cluster_metadata " in line]
            assert int(fields[5]) > first and int(fields[6]) < 40_000, f"first offset {first} before; now {fields}"
            server.start()
            wanted = {"max.message.bytes": str(2_000_000 + first), "retention.ms": "12345678"}
            first = int(fields[5])
            topic = ConfigResource(ResourceType.TOPIC, kept)
            found = patiently(lambda: admin.describe_configs([topic])[topic].result(20))
            equal({key: found[key].value for key in wanted}, wanted, "settings")
            equal({name: len(t.partitions) for name, t in admin.list_topics(timeout=20).topics.items()}, {kept: 3}, "topics")
        load.end()
        load.verify(server.address)


# Rot


class Filled:
    """A broker that was filled with known records and killed, and its one store file."""

    def __init__(self, settings: dict[str, str], acks: int, rest: float = 0):
        self.server = Millrace(settings)
        self.server.start()
        self.topic = unique("store-rot")
        make_topic(self.server.address, self.topic, 2)
        self.load = Load(self.server.address, self.topic, 2, rate=8000)
        eventually(lambda: self.load.acks > acks, 60, "enough records")
        self.load.end()
        self.flushed_singly(SINGLE_FLUSHES)
        time.sleep(rest)
        self.server.kill()
        (self.store,) = store_files(self.server.data)

    def flushed_singly(self, count: int):
        """So many records, each acknowledged, and so flushed, before the next one is sent."""
        producer = Producer({"bootstrap.servers": self.server.address, "linger.ms": 0, **QUIET})
        self.single = unique("store-single")
        make_topic(self.server.address, self.single)
        for _ in range(count):
            producer.produce(self.single, b"single", partition=0)
            equal(producer.flush(20), 0, "unacknowledged")

    def __enter__(self) -> "Filled":
        return self

    def __exit__(self, *error):
        self.server.__exit__(*error)

    def all_there(self):
        self.server.start()
        self.load.verify(self.server.address)

    def refuses(self, word: str):
        """The broker must not start: it would have to drop what it promised. It says what is damaged and where."""
        self.server.spawn()
        try:
            status = self.server.process.wait(30)
        except subprocess.TimeoutExpired:
            raise AssertionError("it started on a damaged store") from None
        assert status != 0, "exit status 0"
        said = self.server.log_tail(10)
        assert "damaged" in said and word in said and self.store.path.name in said, said


@test(seconds=120)
def one_rotten_superblock_costs_nothing():
    with Filled(SMALL, 30_000) as filled:
        for at in SUPERBLOCKS:
            before = filled.store.read(at, BLOCK)
            filled.store.flip(at + 40)
            rotten = filled.store.read(at, BLOCK)
            filled.all_there()
            said = filled.server.log_tail()
            assert "superblock" in said, said
            filled.server.kill()
            # A checkpoint made meanwhile has written it anew; if there was none, it is still as it was.
            if filled.store.read(at, BLOCK) == rotten:
                filled.store.flip(at + 40)
                equal(filled.store.read(at, BLOCK), before, "superblock")


@test(seconds=120)
def two_rotten_superblocks_are_refused():
    with Filled(SMALL, 30_000) as filled:
        for at in SUPERBLOCKS:
            filled.store.flip(at + 40)
        filled.refuses("superblock")
        for at in SUPERBLOCKS:
            filled.store.flip(at + 40)
        filled.all_there()


@test(seconds=120)
def a_checkpoint_that_rots_once_costs_nothing_and_twice_is_refused():
    with Filled(SMALL, 30_000) as filled:
        assert filled.store.checkpoint_len > 100, "there is no checkpoint"
        first, second = (chunks[0] + 50 for chunks in filled.store.checkpoint_copies)
        filled.store.flip(first)
        filled.store.flip(second)
        filled.refuses("checkpoint")
        filled.store.flip(second)
        filled.all_there()
        assert "copy 0 of the checkpoint" in filled.server.log_tail(), filled.server.log_tail()


@test(seconds=180)
def a_rotten_journal_record_costs_the_partitions_that_it_is_about():
    """A bad record with good ones behind it cannot be a torn write. What it was about is not served, and never again until the
    topic is deleted; everything else is."""
    with Filled(NO_CHECKPOINT, 200) as filled:
        records = [record for record in filled.store.live_records() if record[1] > RECORD_BYTES_MIN]
        assert len(records) >= SINGLE_FLUSHES, f"only {len(records)} records in the journal"
        # Of those that were flushed one by one.
        pos, length = records[-SINGLE_FLUSHES // 2]
        filled.store.flip(pos + length // 2)
        checked = subprocess.run([paths.binary("millracectl"), "store", "check", str(filled.server.data)], capture_output=True, text=True, timeout=60)
        assert checked.returncode != 0 and f"{filled.single}-0" in checked.stdout, checked
        filled.all_there()
        said = filled.server.log_tail()
        assert "the journal's record" in said and f"{filled.single}-0 (log" in said and "damaged" in said, said
        admin = AdminClient({"bootstrap.servers": filled.server.address, **QUIET})
        for _ in range(2):
            equal(refused_produce(filled.server, filled.single), "KAFKA_STORAGE_ERROR", "produce")
            equal(refused_fetch(filled.server, filled.single), "KAFKA_STORAGE_ERROR", "fetch")
            assert produces(filled.server)
            filled.load.verify(filled.server.address)
            # A stop makes a checkpoint, without the record.
            equal(filled.server.stop(), filled.server.stopped_status, "exit status")
            filled.server.start()
        admin.delete_topics([filled.single])[filled.single].result(20)
        eventually(lambda: filled.single not in admin.list_topics(timeout=20).topics, 20, "the topic is gone")
        make_topic(filled.server.address, filled.single)
        equal(refused_produce(filled.server, filled.single), "none", "produce to the new topic")
        filled.server.restart()
        equal(refused_produce(filled.server, filled.single), "none", "produce after a restart")
        assert "damaged" not in filled.server.log_path.read_text().rsplit("millrace 0.", 1)[-1], filled.server.log_tail()


@test(seconds=120)
def a_last_record_that_rots_is_told_from_a_torn_one():
    """A store at rest says on the disk that its last flush is durable."""
    with Filled(NO_CHECKPOINT, 200, rest=0.5) as filled:
        last, proof = filled.store.live_records()[-2:]
        assert proof[1] < RECORD_BYTES_MIN < last[1], (last, proof)
        filled.store.flip(last[0] + last[1] // 2)
        filled.server.start()
        said = filled.server.log_tail()
        assert "the journal's record" in said and f"{filled.single}-0 (log" in said and "damaged" in said, said
        equal(refused_produce(filled.server, filled.single), "KAFKA_STORAGE_ERROR", "produce")
        filled.load.verify(filled.server.address)


def refused_produce(server: Millrace, topic: str) -> str:
    """The error that a record gets, without retries."""
    producer = Producer({"bootstrap.servers": server.address, "retries": 0, "linger.ms": 0, **QUIET})
    told: list[str] = []
    producer.produce(topic, b"x", partition=0, on_delivery=lambda error, _: told.append(error.name() if error else "none"))
    equal(producer.flush(20), 0, "unanswered")
    return told[0]


def refused_fetch(server: Millrace, topic: str) -> str:
    """The error that the question for the first offset gets."""
    with protocol.Connection(server.port) as connection:
        connection.send(protocol.fetch_frame(1, topic, 0, 0))
        return {56: "KAFKA_STORAGE_ERROR", 0: "none"}[protocol.fetched(connection.reply(), topic)]


@test(seconds=120)
def two_rotten_journal_records_in_a_row_are_refused():
    """Nothing says what the first of them was about."""
    with Filled(NO_CHECKPOINT, 200) as filled:
        records = filled.store.live_records()
        places = [pos + length // 2 for pos, length in records[len(records) // 2:][:2]]
        for place in places:
            filled.store.flip(place)
        filled.refuses("journal")
        salvaged(filled, lost=3 * SINGLE_FLUSHES)
        for place in places:
            filled.store.flip(place)
        filled.all_there()


def salvaged(filled: Filled, lost: int):
    """Almost all of a store that the broker refuses comes out, byte for byte, and the store stays as it is."""
    before = filled.store.path.read_bytes()
    with tempfile.TemporaryDirectory(prefix="millrace-salvage-") as out:
        tool = [paths.binary("millracectl"), "store"]
        done = subprocess.run([*tool, "salvage", str(filled.server.data), "--to", out], capture_output=True, text=True, timeout=60)
        assert done.returncode != 0 and "damaged" in done.stderr and " are lost" in done.stdout, done
        for partition in range(2):
            log = b"".join(path.read_bytes() for path in sorted(pathlib.Path(out, f"{filled.topic}-{partition}").glob("*.log")))
            wanted = len(filled.load.acked[partition])
            there = sum(value_of(partition, number) in log for number in range(wanted))
            assert there >= wanted - lost and there > 0, f"{there} of {wanted} records of partition {partition}: {done.stdout}"
    assert filled.store.path.read_bytes() == before, "the store was changed"


@test(seconds=120)
def a_rotten_record_is_never_served_as_good():
    """Rot in a sealed chunk: the broker serves all other records; the damaged batch fails its checksum at the reader."""
    with Filled(SMALL, 30_000) as filled:
        # A record of the beginning, which a checkpoint has long put into a chunk.
        number = next(n for n in range(100, 2000) if len(value_of(0, n)) > 400)
        at = filled.store.find(value_of(0, number))
        assert at >= 0, "the record is not in a chunk"
        filled.store.flip(at + 200)
        filled.server.start()
        address = filled.server.address
        equal(read_until_damage(address, filled.topic, 0) <= number, True, "damage seen at or before the damaged record")
        # Partition 1 is whole.
        source = Consumer({"bootstrap.servers": address, "group.id": "unused", "check.crcs": True, **QUIET})
        source.assign([TopicPartition(filled.topic, 1, 0)])
        wanted = len(filled.load.acked[1])
        got = 0
        while got < wanted:
            for message in source.consume(min(1000, wanted - got), 5):
                assert not message.error(), message.error()
                number_in(message, 1)
                got += 1
        source.close()
        assert filled.server.alive


@test(seconds=180)
def rotten_commits_cost_the_groups_of_their_partition_alone():
    """A commit in a chunk rots: the node starts, groups of other partitions are served, those of this one are refused until the
    operator lets the commit go; then everything is as before without it, and the setting need not stay."""
    skip = "millrace.groups.skip.damage"
    with Millrace({**SMALL, "offsets.topic.num.partitions": "2"}) as server:
        topic = unique("store-commits")
        make_topic(server.address, topic, 1)

        def group(name: str) -> Consumer:
            return Consumer({"bootstrap.servers": server.address, "enable.auto.commit": False, "group.id": name, **QUIET})

        def commit(consumer: Consumer, offset: int, note: str = ""):
            metadata = note + "m" * 2000
            patiently(lambda: consumer.commit(offsets=[TopicPartition(topic, 0, offset, metadata)], asynchronous=False))

        def committed(consumer: Consumer) -> int:
            return patiently(lambda: consumer.committed([TopicPartition(topic, 0)], timeout=20)[0].offset)

        # Groups of partition 1 and of partition 0, as Java hashes their names.
        rotten, whole, early = group("a"), group("b"), group("c")
        commit(early, 5)
        for n in range(1, 41):
            commit(rotten, n, f"rotten-{n:04}-")
            commit(whole, n)
        equal(server.stop(), server.stopped_status, "exit status")
        (store,) = store_files(server.data)
        at = store.find(b"rotten-0020-")
        assert at >= 0, "the commit is not in a chunk"
        store.flip(at + 500)
        server.start()
        equal(committed(whole), 40, "offset of a group whose partition is whole")
        for refused in (rotten, early):
            try:
                found = refused.committed([TopicPartition(topic, 0)], timeout=3)
                raise AssertionError(f"a refused group got {found}")
            except KafkaException as error:
                assert error.args[0].code() in (KafkaError.NOT_COORDINATOR, KafkaError._TIMED_OUT, KafkaError._WAIT_COORD), error
        said = server.log_tail()
        assert "__consumer_offsets-1 in store-0 is damaged at offset 20" in said and skip in said, said
        assert produces(server)
        server.overrides[skip] = "true"
        server.restart()
        equal([committed(g) for g in (early, rotten, whole)], [5, 40, 40], "offsets with the damage skipped")
        assert "offsets 20 to 20 were skipped" in server.log_tail(), server.log_tail()
        commit(rotten, 50)
        del server.overrides[skip]
        server.restart()
        equal([committed(g) for g in (early, rotten, whole)], [5, 50, 40], "offsets without the setting")
        for consumer in (rotten, whole, early):
            consumer.close()


def read_until_damage(address: str, topic: str, partition: int) -> int:
    """How many records a reader that checks CRCs gets before it is told of damage."""
    source = reader(address, topic, 1)
    source.assign([TopicPartition(topic, partition, 0)])
    got = 0
    try:
        while True:
            messages = eventually(lambda: source.consume(1000, 0.5), 10, f"records or an error after {got} records")
            for message in messages:
                if message.error():
                    assert message.error().code() in (KafkaError._BAD_MSG, KafkaError.INVALID_MSG, KafkaError.KAFKA_STORAGE_ERROR), message.error()
                    return got
                number_in(message, partition)
                got += 1
    except KafkaException as error:
        raise AssertionError(f"after {got} records: {error}") from error
    finally:
        source.close()


if __name__ == "__main__":
    main("store")
