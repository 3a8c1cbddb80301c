"""What is read through the page cache, and what never is. The filesystems and devices are made for the test, which takes
root; other tests want the data directory on ext4 or xfs."""

import contextlib
import ctypes
import hashlib
import json
import os
import pathlib
import subprocess

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from harness import paths
from harness.broker import Millrace
from harness.load import QUIET, make_topic
from harness.mounts import loop_device, mounted, run
from harness.suite import Skipped, equal, main, test, unique

MIB = 1 << 20
# All reads of one reader too; and a memory tail that holds next to nothing, so that there is something to read.
ALWAYS = {"millrace.shards": "1", "millrace.fetch.page.cache": "always", "millrace.store.tail.bytes.max": str(MIB),
          "millrace.store.journal.bytes": str(4 * MIB), "millrace.store.initial.bytes": str(16 * MIB),
          "millrace.store.checkpoint.bytes": str(4 * MIB)}
RECORDS, RECORD_BYTES = 24_000, 1500
CACHESTAT = 451


def cached_pages(file: pathlib.Path) -> int:
    """Pages of a file that are in the page cache."""
    libc, stat = ctypes.CDLL(None, use_errno=True), (ctypes.c_uint64 * 5)()
    with open(file, "rb") as opened:
        if libc.syscall(CACHESTAT, opened.fileno(), (ctypes.c_uint64 * 2)(0, 0), stat, 0) != 0:
            raise Skipped("no cachestat before Linux 6.5")
    return stat[0]


def let_go(file: pathlib.Path):
    """Takes all of a file out of the page cache."""
    with open(file, "rb") as opened:
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    equal(cached_pages(file), 0, "pages of the store that stay in the page cache")


def produce(server: Millrace) -> tuple[str, str]:
    """A topic, and the digest of what is in it."""
    topic, digest = unique("cache"), hashlib.sha256()
    make_topic(server.address, topic, segment_bytes=str(8 * MIB))
    producer = Producer({"bootstrap.servers": server.address, "linger.ms": 20, "batch.size": 500_000,
                         "queue.buffering.max.messages": RECORDS, **QUIET})
    for number in range(RECORDS):
        value = number.to_bytes(8, "big") + os.urandom(RECORD_BYTES)
        digest.update(value)
        producer.produce(topic, value, partition=0)
    equal(producer.flush(60), 0, "records that were not sent")
    return topic, digest.hexdigest()


def consume(server: Millrace, topic: str) -> str:
    """The digest of what a consumer reads."""
    consumer, digest = Consumer({"bootstrap.servers": server.address, "group.id": topic, "enable.auto.commit": False, **QUIET}), hashlib.sha256()
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    left = RECORDS
    while left:
        messages = consumer.consume(min(left, 1000), 20)
        assert messages, f"{left} records did not come"
        for message in messages:
            assert message.error() is None, message.error()
            digest.update(message.value())
        left -= len(messages)
    consumer.close()
    return digest.hexdigest()


def reads(server: Millrace) -> dict[str, int]:
    """How the broker has read what it sent."""
    done = subprocess.run([paths.binary("millracectl"), "--bootstrap", server.address, "explain", "--json", "--since-start"],
                          capture_output=True, text=True, timeout=60)
    equal(done.returncode, 0, done.stderr)
    return json.loads(done.stdout)["disk_reads"]


def read_twice(server: Millrace) -> dict[str, int]:
    topic, digest = produce(server)
    # What was just written is in its memory.
    server.restart()
    for _ in range(2):
        equal(consume(server, topic), digest, "what was read")
    return reads(server)


@contextlib.contextmanager
def ext4(options: str = ""):
    """A directory on an ext4 of its own, and the device that it is on."""
    with loop_device() as device:
        run("mkfs.ext4", "-q", "-F", device)
        with mounted(*(["-o", options] if options else []), device) as place:
            yield place, pathlib.Path("/sys/block") / pathlib.Path(device).name / "queue"


def on(place: pathlib.Path) -> Millrace:
    server = Millrace({**ALWAYS, "millrace.store.bytes.max": str(128 * MIB)})
    server.data = place / "data"
    return server


@test(seconds=120)
def a_file_is_read_through_it_and_a_raw_device_never_is():
    with ext4() as (place, _), on(place) as server:
        through = read_twice(server)
        assert through["sent"] > 16 * MIB, through
        assert through["unclean"] == 0, through
    with loop_device() as device, Millrace({**ALWAYS, "millrace.store.devices": device}) as server:
        past = read_twice(server)
        equal((past["filled"], past["sent"]), (0, 0), "bytes of a device through the page cache")
        assert past["past"] > 16 * MIB, past


@test(seconds=120)
def a_file_whose_direct_writes_go_into_it_is_not_read_through_it():
    """ext4 takes O_DIRECT with data=journal, and writes to the page cache."""
    with ext4("data=journal") as (place, _), on(place) as server:
        past = read_twice(server)
        equal((past["filled"], past["sent"]), (0, 0), "bytes through the page cache")
        assert past["past"] > 16 * MIB, past


@test(seconds=120)
def a_device_that_reads_little_ahead_is_read_through_it_all_the_same():
    with ext4() as (place, queue):
        # What the kernel brings in at once is the larger of the two.
        (queue / "read_ahead_kb").write_text("32")
        (queue / "max_sectors_kb").write_text("32")
        with on(place) as server:
            through = read_twice(server)
            assert through["sent"] > 16 * MIB, through
            assert through["gone"] < 20, through


@test(seconds=120)
def tools_leave_it_empty():
    with ext4() as (place, _), on(place) as server:
        topic, _ = produce(server)
        equal(server.stop(), server.stopped_status, "exit status")
        store = server.data / "store-0"
        out = place / "export"
        for command in (["check", str(server.data)], ["ls", str(server.data)], ["export", str(server.data), str(out)]):
            let_go(store)
            done = subprocess.run([paths.binary("millracectl"), "store", *command], capture_output=True, text=True, timeout=60)
            equal(done.returncode, 0, done.stdout + done.stderr)
            equal(cached_pages(store), 0, f"pages of the store in the page cache after {command[0]}")
        assert list(out.glob(f"{topic}*/*.log")), "nothing was exported"
        server.start()


if __name__ == "__main__":
    main("cache")
