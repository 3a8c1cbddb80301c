"""The main job: a real file of a million lines goes in through one client and comes out byte for byte through a group
of another, while the broker is killed with `kill -9` and started again, twice.

The file is the source code of the crates we depend on: text by many hands, on every machine that can build us. Each
line goes in as a record of its own whose key is the line's number, so that the lines can be put back in order.
"""

import hashlib
import json
import os
import pathlib
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from harness import broker, paths
from harness.suite import equal, eventually, main, test, unique

LINES = int(os.environ.get("MAINJOB_LINES", 1_000_000))
PARTITIONS = 6
MEMBERS = 3
# What a member notes of each record: partition, offset, line number, length of the line that follows.
NOTE = struct.Struct("<iqqi")


def corpus() -> bytes:
    """Our dependencies' sources, one after the other in the order of their names, as many as it takes."""
    metadata = json.loads(subprocess.run(["cargo", "metadata", "--format-version=1", "--offline", "--filter-platform", "x86_64-unknown-linux-gnu"],
                                         cwd=paths.ROOT, check=True, capture_output=True).stdout)
    needed = {node["id"] for node in metadata["resolve"]["nodes"]}
    folders = sorted(pathlib.Path(p["manifest_path"]).parent for p in metadata["packages"] if p["id"] in needed and p["source"])
    text, count = bytearray(), 0
    for folder in folders:
        for file in sorted(folder.rglob("*.rs")):
            source = file.read_bytes()
            source += b"" if source.endswith(b"\n") else b"\n"
            text += source
            count += source.count(b"\n")
        if count >= LINES:
            return bytes(text)
    raise AssertionError(f"only {count} lines of sources found, {LINES} wanted")


def member(address: str, group: str, topic: str, path: str):
    """One group member, a process of its own: writes what it reads to a file, then commits, until it is told to leave."""
    leaving = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: leaving.set())
    source = Consumer({"bootstrap.servers": address, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False,
                       "session.timeout.ms": 10_000, "check.crcs": True, "log_level": 2, "reconnect.backoff.max.ms": 500})
    source.subscribe([topic])
    with open(path, "wb") as out:
        while not leaving.is_set():
            got = False
            for message in source.consume(5000, 0.2):
                if message.error():
                    continue
                value = message.value() or b""
                out.write(NOTE.pack(message.partition(), message.offset(), int(message.key()), len(value)) + value)
                got = True
            if got:
                out.flush()
                commit(source)
    source.close()


def commit(source: Consumer):
    """A commit may fail while the broker is down or the group rebalances: then the records are simply read again."""
    try:
        source.commit(asynchronous=False)
    except Exception as error:
        print(f"commit: {error}", file=sys.stderr)


class Job:
    """Producer, members and the notes they leave."""

    def __init__(self, server: broker.Broker, text: bytes, folder: str):
        self.server, self.text, self.folder = server, text, folder
        self.topic, self.group = unique("mainjob"), unique("mainjob")
        admin = AdminClient({"bootstrap.servers": server.address})
        admin.create_topics([NewTopic(self.topic, PARTITIONS, 1)])[self.topic].result(20)
        self.fed = 0
        self.members: list[subprocess.Popen] = []

    def start_members(self):
        for i in range(MEMBERS):
            self.members.append(subprocess.Popen([sys.executable, __file__, "member", self.server.address, self.group, self.topic, f"{self.folder}/{i}"]))

    def start_producer(self):
        # kcat gives up when all brokers it knows are down at once. So it is told of one more, which never says a word.
        self.mute = socket.create_server(("127.0.0.1", 0))
        settings = ["enable.idempotence=true", "acks=all", "linger.ms=5", "topic.partitioner=murmur2_random", "reconnect.backoff.max.ms=500",
                    "api.version.request.timeout.ms=300000"]
        self.kcat = subprocess.Popen(["kcat", "-P", "-b", f"{self.server.address},127.0.0.1:{self.mute.getsockname()[1]}", "-t", self.topic,
                                      "-K\t", *(a for setting in settings for a in ("-X", setting))], stdin=subprocess.PIPE)
        threading.Thread(target=self._feed, daemon=True).start()

    def _feed(self):
        """Writes the numbered lines into kcat, which takes them as fast as the broker acknowledges them."""
        try:
            with self.kcat.stdin as pipe:
                for number, line in enumerate(self.text[:-1].split(b"\n")):
                    pipe.write(b"%d\t%s\n" % (number, line))
                    self.fed = number + 1
        except BrokenPipeError:
            pass  # kcat ended; its status tells.

    def wait_all_committed(self):
        """Until the group has committed the end of every partition."""
        source = Consumer({"bootstrap.servers": self.server.address, "group.id": self.group})
        every = [TopicPartition(self.topic, p) for p in range(PARTITIONS)]

        def done() -> bool:
            ends = [source.get_watermark_offsets(p, timeout=10)[1] for p in every]
            return [p.offset for p in source.committed(every, timeout=10)] == ends
        eventually(done, 120, "everything is committed")
        source.close()

    def end(self):
        for process in self.members:
            process.terminate()
        for process in self.members:
            process.wait(30)

    def records(self) -> dict[tuple[int, int], tuple[int, bytes]]:
        """(partition, offset) -> (line number, line), from all members. What was read twice must be the same twice."""
        found: dict[tuple[int, int], tuple[int, bytes]] = {}
        for i in range(MEMBERS):
            notes = pathlib.Path(f"{self.folder}/{i}").read_bytes()
            assert notes, f"member {i} has read nothing"
            at = 0
            while at < len(notes):
                partition, offset, number, length = NOTE.unpack_from(notes, at)
                at += NOTE.size + length
                record = (number, notes[at - length:at])
                equal(found.setdefault((partition, offset), record), record, f"{partition}/{offset} read twice")
        return found


@test(seconds=400)
def a_million_lines_through_two_kills():
    text = corpus()
    count = text.count(b"\n")
    with tempfile.TemporaryDirectory() as folder, broker.BROKERS[os.environ.get("BROKER", "millrace")]() as server:
        job = Job(server, text, folder)
        try:
            job.start_members()
            job.start_producer()
            for part in (1, 2):
                eventually(lambda: job.fed > part * count // 3 or job.kcat.poll() is not None, 120, f"{part}/3 of the lines are in")
                equal(job.kcat.poll(), None, "kcat's status, before all lines were in")
                server.restart()
            equal(job.kcat.wait(150), 0, "kcat's status")
            job.wait_all_committed()
        finally:
            job.kcat.kill()
            job.end()
        check(job.records(), text, count)


def check(records: dict[tuple[int, int], tuple[int, bytes]], text: bytes, count: int):
    for partition in range(PARTITIONS):
        offsets = sorted(offset for p, offset in records if p == partition)
        equal(offsets, list(range(len(offsets))), f"offsets of partition {partition}")
    # As many records as lines: an idempotent producer leaves no duplicate behind, whatever happens to the broker.
    equal(len(records), count, "records")
    lines = dict(records.values())
    equal(len(lines), count, "different lines")
    back = b"\n".join(lines[number] for number in range(count)) + b"\n"
    print(f"{count} lines, {len(text)} bytes, sha256 {hashlib.sha256(back).hexdigest()}", file=sys.stderr)
    assert back == text, "the text that came out is not the text that went in"


if __name__ == "__main__":
    if sys.argv[1:2] == ["member"]:
        member(*sys.argv[2:])
    else:
        main("mainjob")
