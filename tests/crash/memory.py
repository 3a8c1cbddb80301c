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
from harness.suite import equal, eventually, main, test, unique

MIB = 1 << 20
# What one core's tail gets is then a quarter of what the group has.
ONE_CORE = {"millrace.shards": "1"}
RECORD_BYTES, AT_A_TIME = 8000, 2000


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
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


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
    """A process of the group that takes 16 MiB more with each line it is given."""
    code = "import sys\nheld = []\nfor _ in sys.stdin:\n    held.append(bytearray(b'x' * (16 << 20)))\n    print(len(held), flush=True)"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=group.join)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@test(seconds=240)
def a_large_tail_gives_back_what_others_need():
    bytes_max = 1024 * MIB
    with memory_group(bytes_max) as group, Confined(group) as server:
        records = Records(server)
        for _ in range(25):
            records.produce()
        # It takes memory when nobody else wants the core, as much as it had to forget.
        eventually(lambda: server.resident_bytes() > 280 * MIB, 60, "a tail of a quarter of the group's memory")
        large = server.resident_bytes()
        with hog(group) as other:
            taken = 0
            while server.resident_bytes() > large - 64 * MIB:
                assert taken < bytes_max, "the broker keeps all that it has"
                other.stdin.write("\n")
                other.stdin.flush()
                assert other.stdout.readline(), "memory ended before the broker gave any back"
                taken += 16 * MIB
                # It is looked at once a second how much there is.
                time.sleep(0.7)
            assert server.alive, f"the broker ended:\n{server.log_tail()}"
            records.produce()
            records.check()
        equal(server.stop(), server.stopped_status, "exit status")


if __name__ == "__main__":
    main("memory")
