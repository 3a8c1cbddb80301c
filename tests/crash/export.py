"""`millracectl store` on what a broker left behind, with Kafka's own DumpLogSegments as the judge of what it exports."""

import json
import pathlib
import random
import re
import subprocess
import tempfile
import time

from confluent_kafka import Consumer, Producer, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from harness import paths
from harness.broker import Millrace
from harness.load import QUIET, make_topic, patiently
from harness.suite import equal, main, test, unique

PARTITIONS = 2
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
RECORDS_PER_CODEC = 2400
# Kafka's smallest segment.bytes, and about how much of it one codec fills: half of each value does not compress.
SEGMENT_BYTES = 1 << 20
VALUE_BYTES = 1500
# Small batches, so that the indexes have something to say about every segment.
BATCH_BYTES = 30_000
# Small, so that checkpoints put sealed segments into chunks while the newest records are in the journal only.
SMALL = {"millrace.store.journal.bytes": str(4 << 20), "millrace.store.initial.bytes": str(16 << 20),
         "millrace.store.checkpoint.bytes": str(2 << 20)}
# What DumpLogSegments prints about a segment that Kafka would not have written. Its exit status does not tell.
COMPLAINTS = re.compile(r"isvalid: false|mismatch|not found|is followed by|out of order|error|exception|corrupt|invalid bytes|failed", re.I)
# The tool's count begins at -1 in each file, so it wonders at the first record of every segment but the first.
FIRST_RECORD = re.compile(r"\s*-1 is followed by \d+$")
# The value of a record of `__consumer_offsets`.
COMMITTED = re.compile(r" payload: (\{.*\})")
RECORD = re.compile(r"^\| offset: (\d+) .*?(?: payload: (.*))?$")

# (partition, offset) -> value as text, None for a record without one.
Records = dict[tuple[int, int], str | None]


def millracectl(*args: str) -> str:
    """The output of a command that is to succeed."""
    done = subprocess.run([paths.binary("millracectl"), *args], capture_output=True, text=True, timeout=60)
    equal(done.returncode, 0, f"millracectl {' '.join(args)}: {done.stdout}{done.stderr}")
    return done.stdout


class Sent:
    """Records that were produced, by where the broker said that it put them."""

    def __init__(self):
        self.records: Records = {}
        self.errors: list[str] = []

    def delivered(self, error, message):
        if error:
            self.errors.append(error.name())
            return
        value = message.value()
        self.records[message.partition(), message.offset()] = value.decode() if value is not None else None

    def send(self, producer: Producer, topic: str, name: str, count: int):
        rng = random.Random(name)
        began = int(time.time() * 1000)
        for n in range(count):
            noise = rng.randbytes(rng.randrange(VALUE_BYTES // 2)).hex()
            # Every tenth has no value, every third no key, and time does not only go forward.
            value = None if n % 10 == 9 else f"{name}/{n}/{noise}"
            key = None if n % 3 == 0 else f"key-{n % 50}"
            headers = [("codec", name), ("none", None)] if n % 4 == 0 else None
            producer.produce(topic, value, key, partition=n % PARTITIONS, timestamp=began + n - n % 7 * 3,
                             headers=headers, on_delivery=self.delivered)
            if n % 100 == 0:
                producer.poll(0)
        equal(producer.flush(30), 0, "records still unacknowledged")
        equal(self.errors[:3], [], "failed deliveries")


def produce(address: str, topic: str) -> Records:
    """Fills the topic through every codec."""
    sent = Sent()
    for codec in CODECS:
        producer = Producer({"bootstrap.servers": address, "compression.type": codec, "linger.ms": 5, "batch.size": BATCH_BYTES,
                             "enable.idempotence": True, **QUIET})
        sent.send(producer, topic, codec, RECORDS_PER_CODEC)
    equal(len(sent.records), len(CODECS) * RECORDS_PER_CODEC, "records with an offset of their own")
    return sent.records


def dump(files: list[pathlib.Path], how: str = "--print-data-log") -> list[str]:
    """What DumpLogSegments says about these files, all of it without complaint."""
    command = ["java", "-XX:TieredStopAtLevel=1", "-cp", paths.KAFKA_CLASSPATH, "org.apache.kafka.tools.DumpLogSegments",
               how, "--files", ",".join(map(str, files))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    equal(done.returncode, 0, f"DumpLogSegments: {done.stdout[-300:]}{done.stderr[-1000:]}")
    lines = done.stdout.splitlines()
    # Lines of records hold what clients sent, which may be any word.
    told = [line for line in lines if not line.startswith("| ")] + done.stderr.splitlines()
    complaints = [line for line in told if COMPLAINTS.search(line) and not FIRST_RECORD.match(line)]
    equal(complaints[:3], [], "complaints of DumpLogSegments")
    return lines


def check_partition(directory: pathlib.Path, partition: int, wanted: Records):
    """The exported partition is what was produced, in segments that Kafka accepts."""
    logs = sorted(directory.glob("*.log"))
    assert len(logs) > 2, f"only {len(logs)} segments: {logs}"
    assert all(log.stat().st_size <= SEGMENT_BYTES for log in logs), "a segment above segment.bytes"
    assert all(log.with_suffix(".index").stat().st_size >= 8 for log in logs[:-1]), "a full segment without index entries"
    assert all(log.with_suffix(".timeindex").stat().st_size >= 12 for log in logs[:-1]), "a full segment without time index entries"
    lines = dump([log.with_suffix(suffix) for log in logs for suffix in (".log", ".index", ".timeindex")])
    for log in logs:
        assert any(str(log) in line for line in lines), f"{log.name} was not dumped"
    found = {}
    for line in filter(lambda line: line.startswith("| "), lines):
        offset, value = RECORD.match(line).groups()
        found[partition, int(offset)] = value
    codecs = {match[1] for line in lines if (match := re.search(r" compresscodec: (\w+)", line))}
    equal(codecs, set(CODECS), "codecs of the exported batches")
    mine = {at: value for at, value in wanted.items() if at[0] == partition}
    equal(len(found), len(mine), f"partition {partition}: exported records")
    different = [at for at in mine if found.get(at) != mine[at]]
    equal(different[:5], [], f"partition {partition}: records that are not what was produced")


def check_store(data: pathlib.Path, topic: str, wanted: Records):
    """Lists, checks and exports the store of a broker that is not running."""
    listed = [line.split() for line in millracectl("store", "ls", str(data)).splitlines() if f" {topic} " in line]
    equal(sorted(fields[2] for fields in listed), [str(p) for p in range(PARTITIONS)], "partitions in `store ls`")
    checked = millracectl("store", "check", str(data))
    assert "everything is whole" in checked and "DAMAGED" not in checked, checked
    with tempfile.TemporaryDirectory(prefix="millrace-export-") as out:
        exported = millracectl("store", "export", str(data), out)
        directories = [pathlib.Path(out) / f"{topic}-{partition}" for partition in range(PARTITIONS)]
        assert all(str(directory) in exported for directory in directories), exported
        for partition, directory in enumerate(directories):
            check_partition(directory, partition, wanted)
        # The broker's own topics are exported too, and no worse.
        others = [f for d in pathlib.Path(out).iterdir() if d not in directories for f in sorted(d.glob("*.*index")) + sorted(d.glob("*.log"))]
        if others:
            dump(others)


@test(seconds=240)
def kafka_reads_what_the_store_exports():
    """After a kill, when the journal is replayed, and after an orderly end."""
    with Millrace(SMALL) as server:
        topic = unique("export")
        make_topic(server.address, topic, PARTITIONS, segment_bytes=str(SEGMENT_BYTES))
        wanted = produce(server.address, topic)
        refused = subprocess.run([paths.binary("millracectl"), "store", "ls", str(server.data)], capture_output=True, text=True, timeout=60)
        assert refused.returncode != 0 and "a broker is running" in refused.stderr, refused
        server.kill()
        check_store(server.data, topic, wanted)
        server.start()
        equal(server.stop(), server.stopped_status, "exit status after SIGTERM")
        check_store(server.data, topic, wanted)


@test(seconds=120)
def kafka_reads_what_groups_have_committed():
    """Its own decoder finds the offset, and the id of the topic that it is of."""
    with Millrace(SMALL) as server:
        topic, group = unique("export"), unique("group")
        make_topic(server.address, topic)
        admin = AdminClient({"bootstrap.servers": server.address, **QUIET})
        described = admin.describe_topics(TopicCollection([topic]))[topic].result(20)
        consumer = Consumer({"bootstrap.servers": server.address, "group.id": group, "enable.auto.commit": False, **QUIET})
        patiently(lambda: consumer.commit(offsets=[TopicPartition(topic, 0, 42, "note")], asynchronous=False))
        consumer.close()
        equal(server.stop(), server.stopped_status, "exit status after SIGTERM")
        with tempfile.TemporaryDirectory(prefix="millrace-export-") as out:
            millracectl("store", "export", str(server.data), out)
            lines = dump(sorted(pathlib.Path(out).glob("__consumer_offsets-*/*.log")), "--offsets-decoder")
        told = [json.loads(COMMITTED.search(line)[1]) for line in lines if group in line and '"offset":42' in line]
        equal([value["version"] for value in told], ["4"], "versions of the records of the commit")
        data = told[0]["data"]
        # librdkafka writes an id in the other alphabet of base64.
        topic_id = str(described.topic_id).translate(str.maketrans("+/", "-_"))
        equal((data["metadata"].rstrip("\0"), data.get("topicId")), ("note", topic_id), "the commit")


if __name__ == "__main__":
    main("export")
