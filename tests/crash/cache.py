"""What is read through the page cache, and what never is. The filesystems and devices are made for the test, which takes
root; other tests want the data directory on ext4 or xfs."""

import contextlib
import ctypes
import errno
import hashlib
import json
import os
import pathlib
import socket
import struct
import subprocess

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from harness import paths
from harness.broker import Millrace
from harness.load import QUIET, make_topic
from harness.mounts import loop_device, mounted, run
from harness.protocol import Connection, fetch_frame
from harness.suite import Skipped, equal, main, test, unique

MIB = 1 << 20
# All reads of one reader too; and a memory tail that holds next to nothing, so that there is something to read.
ALWAYS = {"millrace.shards": "1", "millrace.fetch.page.cache": "always", "millrace.store.tail.bytes.max": str(MIB),
          "millrace.store.journal.bytes": str(4 * MIB), "millrace.store.initial.bytes": str(16 * MIB),
          "millrace.store.checkpoint.bytes": str(4 * MIB)}
RECORDS, RECORD_BYTES = 24_000, 1500
CACHESTAT = 451
# Exit status of a process that was to have a filter of system calls and cannot have one.
NO_FILTER = 113


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


def produce(server: Millrace) -> tuple[str, list[str]]:
    """A topic, and the digest of the first records of it, for any number of them."""
    topic, digest = unique("cache"), hashlib.sha256()
    digests = [digest.hexdigest()]
    make_topic(server.address, topic, segment_bytes=str(8 * MIB))
    # A store that is nearly full refuses some, and they come again: in their order.
    producer = Producer({"bootstrap.servers": server.address, "linger.ms": 20, "batch.size": 500_000, "enable.idempotence": True,
                         "queue.buffering.max.messages": RECORDS, **QUIET})
    for number in range(RECORDS):
        value = number.to_bytes(8, "big") + os.urandom(RECORD_BYTES)
        digest.update(value)
        digests.append(digest.hexdigest())
        producer.produce(topic, value, partition=0)
    equal(producer.flush(60), 0, "records that were not sent")
    return topic, digests


def consume(server: Millrace, topic: str, seconds: float = 20) -> tuple[int, str]:
    """How many records a consumer reads before none comes for so long, and their digest."""
    consumer, digest = Consumer({"bootstrap.servers": server.address, "group.id": topic, "enable.auto.commit": False, **QUIET}), hashlib.sha256()
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    left = RECORDS
    while left:
        messages = consumer.consume(min(left, 1000), seconds)
        if not messages:
            break
        for message in messages:
            assert message.error() is None, message.error()
            digest.update(message.value())
        left -= len(messages)
    consumer.close()
    return RECORDS - left, digest.hexdigest()


def reads(server: Millrace) -> dict[str, int]:
    """How the broker has read what it sent."""
    done = subprocess.run([paths.binary("millracectl"), "--bootstrap", server.address, "explain", "--json", "--since-start"],
                          capture_output=True, text=True, timeout=60)
    equal(done.returncode, 0, done.stderr)
    return json.loads(done.stdout)["disk_reads"]


def read_twice(server: Millrace) -> dict[str, int]:
    topic, digests = produce(server)
    # What was just written is in its memory.
    server.restart()
    for _ in range(2):
        equal(consume(server, topic), (RECORDS, digests[-1]), "what was read")
    return reads(server)


@contextlib.contextmanager
def ext4(options: str = "", *made: str):
    """A directory on an ext4 of its own, made and mounted with these options, and the device that it is on."""
    with loop_device() as device:
        run("mkfs.ext4", "-q", "-F", *made, device)
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
def a_file_in_blocks_smaller_than_a_page_is_read_through_it_all_the_same():
    """Of such a file nothing is in the cache in pieces larger than a page, on any kernel."""
    with ext4("", "-b", "1024") as (place, _), on(place) as server:
        through = read_twice(server)
        assert through["sent"] > 16 * MIB, through
        equal(through["unclean"], 0, "chunks that were not believed")


class WithoutCachestat(Millrace):
    """As before Linux 6.5, or where a container forbids what it does not know."""

    def become(self):
        super().become()

        class Program(ctypes.Structure):
            _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_char_p)]

        # Loads the number of the system call; that one fails with ENOSYS, all others are allowed.
        steps = [(0x20, 0, 0, 0), (0x15, 0, 1, CACHESTAT), (0x06, 0, 0, 0x00050000 | errno.ENOSYS), (0x06, 0, 0, 0x7FFF0000)]
        program = Program(len(steps), b"".join(struct.pack("HBBI", *step) for step in steps))
        libc = ctypes.CDLL(None, use_errno=True)
        # PR_SET_NO_NEW_PRIVS, then PR_SET_SECCOMP with SECCOMP_MODE_FILTER.
        one, two, none = map(ctypes.c_ulong, (1, 2, 0))
        if libc.prctl(38, one, none, none, none) != 0 or libc.prctl(22, two, ctypes.byref(program)) != 0:
            os._exit(NO_FILTER)


@test(seconds=120)
def without_cachestat_nothing_is_read_through_it():
    with ext4() as (place, _):
        server = WithoutCachestat({**ALWAYS, "millrace.store.bytes.max": str(128 * MIB)})
        server.data = place / "data"
        try:
            with server:
                past = read_twice(server)
        except RuntimeError as error:
            if server.process.poll() == NO_FILTER:
                raise Skipped("no filters of system calls") from error
            raise
        equal((past["filled"], past["sent"]), (0, 0), "bytes through the page cache")
        assert past["past"] > 16 * MIB, past


@test(seconds=180)
def what_is_being_sent_stays_though_it_was_deleted_and_its_place_is_wanted():
    with ext4() as (place, _), on(place) as server:
        topic, _ = produce(server)
        server.restart()
        asked = fetch_frame(1, topic, 0, 0, 24 * MIB)
        with Connection(server.port, timeout=60) as quick, Connection(server.port, timeout=60) as slow:
            quick.send(asked)
            expected = quick.reply()
            assert len(expected) > 16 * MIB, len(expected)
            slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            slow.send(asked)
            begun = slow.read(4 + 12 * MIB)
            admin = AdminClient({"bootstrap.servers": server.address, **QUIET})
            admin.delete_topics([topic])[topic].result(20)
            # More than the store has besides, with checkpoints that give back what was deleted.
            for _ in range(2):
                produce(server)
            got = begun[4:] + slow.read(len(expected) - 12 * MIB)
        equal(hashlib.sha256(got).hexdigest(), hashlib.sha256(expected).hexdigest(), "what the slow one got")
        through = reads(server)
        assert through["sent"] > 16 * MIB, through
        equal(through["unclean"], 0, "chunks that were not believed")


def written(file: pathlib.Path) -> list[tuple[int, int]]:
    """The blocks of 4 KiB of the device, from and to, that have something of a file."""
    found = run("filefrag", "-v", "-b4096", str(file)).splitlines()
    rows = (line.replace(".", " ").replace(":", " ").split() for line in found if "unwritten" not in line)
    return sorted((int(row[3]), int(row[4])) for row in rows if len(row) > 5 and row[0].isdigit())


@test(seconds=180)
def what_the_disk_cannot_read_is_told_and_nothing_else_is_sent():
    """The end of the device is gone, and all that is there answers EIO. What the filesystem needs is at its beginning."""
    with ext4("", "-E", "packed_meta_blocks=1") as (place, queue), on(place) as server:
        topics = [produce(server) for _ in range(2)]
        blocks = [block for begin, end in written(server.data / "store-0") for block in range(begin, end + 1)]
        image = (queue.parent / "loop" / "backing_file").read_text().strip()
        # Within the first topic.
        os.truncate(image, blocks[len(blocks) // 3] * 4096)
        read = [consume(server, topic, 6) for topic, _ in topics]
        for (count, digest), (_, digests) in zip(read, topics):
            equal(digest, digests[count], f"the first {count} records")
        assert 0 < read[0][0] < RECORDS, f"{read[0][0]} records of {RECORDS} were read"
        assert server.alive, f"the broker ended:\n{server.log_tail()}"
        told = [line for line in server.log_tail(1000).splitlines() if "cannot read " in line and " of store-0 for a reply" in line]
        assert told, f"nothing is told of it:\n{server.log_tail()}"


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
