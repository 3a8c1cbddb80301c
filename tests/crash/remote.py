"""Clients on another machine, as far as the broker can tell: in a network namespace of their own, with a network that
takes less at a time than the one within a machine. Making the namespace takes root."""

import contextlib
import os
import random
import subprocess
import sys

from harness import paths
from harness.broker import Millrace
from harness.load import Load, make_topic, number_in, reader
from harness.suite import Skipped, equal, eventually, main, test, unique

MIB = 1 << 20
PARTITIONS = 2
# Hardly anything in memory, so that a replay comes from the store file.
SETTINGS = {"millrace.shards": "2", "millrace.store.tail.bytes.max": str(MIB), "millrace.store.checkpoint.bytes": str(8 * MIB)}


@contextlib.contextmanager
def other_machine():
    """A namespace and the two addresses of the cable to it: (name, here, there)."""
    number = random.randrange(1 << 16)
    name, here, there = f"mr{number:04x}", f"10.213.{number >> 8}.1", f"10.213.{number >> 8}.2"
    try:
        for command in (["netns", "add", name], ["link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b", "netns", name],
                        ["addr", "add", f"{here}/24", "dev", f"{name}a"], ["link", "set", f"{name}a", "up"],
                        ["-n", name, "addr", "add", f"{there}/24", "dev", f"{name}b"], ["-n", name, "link", "set", f"{name}b", "up"]):
            try:
                done = subprocess.run(["ip", *command], capture_output=True, text=True)
            except FileNotFoundError:
                raise Skipped("there is no `ip`") from None
            if done.returncode != 0:
                raise Skipped(f"ip {' '.join(command)}: {done.stderr.strip()}")
        yield name, here, there
    finally:
        subprocess.run(["ip", "link", "del", f"{name}a"], capture_output=True)
        subprocess.run(["ip", "netns", "del", name], capture_output=True)


def replay(address: str, topic: str, counts: list[int], **config: str):
    """Reads so many records of each partition; every byte of them is looked at."""
    source = reader(address, topic, len(counts), **config)
    found = [0] * len(counts)
    while found != counts:
        # It waits for as many as it is asked for.
        messages = source.consume(min(1000, sum(counts) - sum(found)), 20)
        assert messages, f"nothing more after {found} of {counts}"
        for message in messages:
            assert not message.error(), message.error()
            partition = message.partition()
            equal((message.offset(), number_in(message, partition)), (found[partition], found[partition]), "offset and record")
            found[partition] += 1
    source.close()


def replay_elsewhere(namespace: str, address: str, topic: str, counts: list[int], **config: str):
    """The same, on the other machine."""
    arguments = [address, topic, ",".join(map(str, counts)), *(f"{key}={value}" for key, value in config.items())]
    done = subprocess.run(["ip", "netns", "exec", namespace, sys.executable, __file__, "--replay", *arguments], stderr=subprocess.PIPE, text=True, timeout=90)
    equal(done.returncode, 0, f"the replay on the other machine: {done.stderr[-500:]}")


@contextlib.contextmanager
def read_bytes(server: Millrace):
    """Counts what the broker reads from the disk meanwhile, page cache not counted: a list with the bytes, at the end."""
    def read() -> int:
        with open(f"/proc/{server.process.pid}/io", encoding="ascii") as io:
            return next(int(line.split()[1]) for line in io if line.startswith("read_bytes"))

    seen: list[int] = []
    before = read()
    yield seen
    seen.append(read() - before)


@test(seconds=240)
def a_replay_over_the_network_is_right_byte_for_byte():
    with other_machine() as (namespace, here, _), Millrace(SETTINGS) as server:
        port = server.port + 1
        server.kill()
        server.overrides |= {"listeners": f"PLAINTEXT://{server.address},OUT://{here}:{port}",
                             "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,OUT:PLAINTEXT"}
        server.start()
        topic, address = unique("remote"), f"{here}:{port}"
        make_topic(server.address, topic, PARTITIONS, segment_bytes=str(4 * MIB))
        load = Load(server.address, topic, PARTITIONS, rate=20_000, **{"enable.idempotence": True})
        eventually(lambda: load.acks > 50_000, 60, "enough records")
        load.end()
        counts = [len(acked) for acked in load.acked]
        with read_bytes(server) as read:
            replay_elsewhere(namespace, address, topic, counts)
        assert read[0] > 8 * MIB, f"{read[0]} bytes from the disk: the test is not about it"
        # A client whose buffers are always full: the kernel takes what is sent in small parts.
        with read_bytes(server) as read:
            replay_elsewhere(namespace, address, topic, counts, **{"socket.receive.buffer.bytes": "8192", "fetch.message.max.bytes": "5000000"})
        assert read[0] > 8 * MIB, f"{read[0]} bytes from the disk"
        replay(server.address, topic, counts)
        assert server.alive


if __name__ == "__main__":
    if sys.argv[1:2] == ["--replay"]:
        address, topic, counts, *config = sys.argv[2:]
        replay(address, topic, [int(count) for count in counts.split(",")], **dict(pair.split("=") for pair in config))
        os._exit(0)
    main("remote")
