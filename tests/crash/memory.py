"""A broker in a control group that has little memory, or whose memory others need too. Making one takes root."""

import contextlib
import hashlib
import os
import subprocess
import sys
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from harness.broker import Millrace
from harness.load import QUIET, make_topic
from harness.mounts import MemoryGroup, memory_group
from harness.suite import equal, main, test, unique

MIB = 1 << 20
# What one core's tail gets is then a quarter of what the group has.
ONE_CORE = {"millrace.shards": "1"}
RECORD_BYTES, AT_A_TIME = 8000, 2000
# How long the memory of a broker may stay as it is, though it is to change: the thread that sees to it has a core only
# when nobody else wants it.
STILL_SECONDS_MAX = 120
# The broker leaves others a tenth of its group. The hog takes more of that only when nothing has been given back for
# long, and never all: there is something left, however late the broker looks.
LEFT_BYTES, LEFT_BYTES_MIN, TAKEN_BYTES, LONG_SECONDS = 80 * MIB, 48 * MIB, 16 * MIB, 20


class Confined(Millrace):
    """A broker in a control group."""

    def __init__(self, group: MemoryGroup):
        super().__init__(ONE_CORE)
        self.group = group

    def become(self):
        super().become()
        self.group.join()

    def resident_bytes(self) -> int:
        with open(f"/proc/{self.process.pid}/statm") as file:
            pages = int(file.read().split()[1])
        # One that has ended has none.
        assert self.alive, f"the broker ended with status {self.process.returncode}:\n{self.log_tail()}"
        return pages * os.sysconf("SC_PAGE_SIZE")


class Course:
    """A broker's memory on its way up (1) or down (-1). It may be slow, but it may not stand still."""

    def __init__(self, server: Confined, way: int):
        self.server, self.way = server, way
        self.best, self.moved = server.resident_bytes(), time.monotonic()

    @property
    def still_seconds(self) -> float:
        return time.monotonic() - self.moved

    def look(self) -> int:
        """Where it is now."""
        now = self.server.resident_bytes()
        if (now - self.best) * self.way >= MIB:
            self.best, self.moved = now, time.monotonic()
        assert self.still_seconds < STILL_SECONDS_MAX, \
            f"{now >> 20} MiB are resident, as {STILL_SECONDS_MAX} s before; the group has {self.server.group.left_bytes() >> 20} MiB left"
        return now


class Records:
    """Records of a topic, more of them whenever it is asked for more."""

    def __init__(self, server: Millrace):
        self.server, self.topic, self.count, self.digest = server, unique("memory"), 0, hashlib.sha256()
        make_topic(server.address, self.topic)
        self.producer = Producer({"bootstrap.servers": server.address, "linger.ms": 20, "batch.size": 500_000, **QUIET})

    def produce(self):
        for _ in range(AT_A_TIME):
            value = os.urandom(RECORD_BYTES)
            self.digest.update(value)
            self.producer.produce(self.topic, value, partition=0)
        equal(self.producer.flush(60), 0, "records that were not sent")
        self.count += AT_A_TIME

    def check(self):
        """All of them are there, and as they were."""
        consumer = Consumer({"bootstrap.servers": self.server.address, "group.id": self.topic, "enable.auto.commit": False, **QUIET})
        consumer.assign([TopicPartition(self.topic, 0, OFFSET_BEGINNING)])
        digest, left = hashlib.sha256(), self.count
        while left:
            messages = consumer.consume(min(left, 1000), 20)
            assert messages, f"{left} records did not come"
            for message in messages:
                assert message.error() is None, message.error()
                digest.update(message.value())
            left -= len(messages)
        consumer.close()
        equal(digest.hexdigest(), self.digest.hexdigest(), "what was read")


@test(seconds=180)
def a_group_with_less_than_the_default_is_enough():
    """A quarter of the machine's memory would be far more than all that this group has."""
    with memory_group(384 * MIB) as group, Confined(group) as server:
        records = Records(server)
        for _ in range(40):
            records.produce()
        assert server.alive, f"the broker ended:\n{server.log_tail()}"
        records.check()
        assert server.resident_bytes() < 288 * MIB, f"{server.resident_bytes() >> 20} MiB are resident"
        equal(server.stop(), server.stopped_status, "exit status")


@contextlib.contextmanager
def hog(group: MemoryGroup):
    """A process of the group that takes more with each line it is given."""
    code = f"import sys\nheld = []\nfor _ in sys.stdin:\n    held.append(bytearray(b'x') * {TAKEN_BYTES})\n    print(len(held), flush=True)"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=group.join)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@test(seconds=600)
def a_large_tail_gives_back_what_others_need():
    with memory_group(1024 * MIB) as group, Confined(group) as server:
        records = Records(server)
        for _ in range(25):
            records.produce()
        # It takes memory when nobody else wants the core, as much as it had to forget.
        course = Course(server, 1)
        while (large := course.look()) <= 280 * MIB:
            time.sleep(0.2)
            if course.still_seconds > LONG_SECONDS:
                # What it wants is forgotten when nothing was missed for a minute.
                records.produce()
        with hog(group) as other:
            course = Course(server, -1)
            while course.look() > large - 64 * MIB:
                waited = int(course.still_seconds / LONG_SECONDS)
                if group.left_bytes() < max(LEFT_BYTES - waited * TAKEN_BYTES, LEFT_BYTES_MIN):
                    time.sleep(0.2)
                    continue
                other.stdin.write("\n")
                other.stdin.flush()
                assert other.stdout.readline(), "memory ended before the broker gave any back"
            records.produce()
            records.check()
        equal(server.stop(), server.stopped_status, "exit status")


if __name__ == "__main__":
    main("memory")
