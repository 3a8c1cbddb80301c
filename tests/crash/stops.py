"""Orderly ends and disorderly starts: SIGTERM under load, and two brokers that want the same thing."""

import json
import os
import re
import signal
import socket
import struct
import subprocess
import time
import zlib

from harness import paths
from harness.broker import BROKERS, Broker
from harness.load import Load, make_topic
from harness.protocol import LIST_OFFSETS, METADATA, Connection, batch, frame, produce_frame, produced, record
from harness.suite import equal, eventually, main, test, unique

KIND = BROKERS[os.environ.get("BROKER", "millrace")]


@test(seconds=180)
def sigterm_under_load_loses_nothing():
    with KIND() as server:
        topic = unique("stops-load")
        make_topic(server.address, topic, 4)
        load = Load(server.address, topic, 4, **{"enable.idempotence": True})
        for _ in range(3):
            before = load.acks
            eventually(lambda: load.acks > before + 500, 30, "acknowledgements")
            equal(server.stop(20), server.stopped_status, "exit status")
            server.start()
        load.end()
        load.verify(server.address)


@test(seconds=120)
def an_idle_broker_stops_quickly():
    with KIND() as server:
        began = time.monotonic()
        equal(server.stop(20), server.stopped_status, "exit status")
        assert time.monotonic() - began < 10, "it took longer than 10 s"


def said_of_stores(server: Broker, logs_from: int) -> list[str]:
    """How the newest start found each store to be left."""
    return re.findall(r"store-\d+: \d+ logs; (new|stopped cleanly|was not stopped cleanly)", server.log_path.read_text()[logs_from:])


def listed_of_stores(server: Broker) -> list[str]:
    """The same as `millracectl store ls` has it."""
    done = subprocess.run([paths.binary("millracectl"), "store", "ls", "--json", str(server.data)], capture_output=True, text=True, timeout=60)
    equal(done.returncode, 0, f"millracectl: {done.stdout}{done.stderr}")
    return [store["left"] for store in json.loads(done.stdout)["stores"]]


if KIND.name == "millrace":  # Kafka keeps a file for it.
    @test(seconds=180)
    def a_clean_stop_is_told_from_a_kill():
        """By every store, whatever the other shards were still asked for; and once, for the start behind it alone."""
        clean, unclean = ["stopped cleanly"] * 2, ["was not stopped cleanly"] * 2
        with KIND({"millrace.shards": "2"}) as server:
            equal(said_of_stores(server, 0), ["new"] * 2, "a new node")
            topic = unique("stops-clean")
            make_topic(server.address, topic, 4)
            load = Load(server.address, topic, 4, **{"enable.idempotence": True})
            for stops in [True, False, True, True, False, False]:
                before = load.acks
                eventually(lambda: load.acks > before + 200, 30, "acknowledgements")
                if stops:
                    equal(server.stop(20), server.stopped_status, "exit status")
                else:
                    server.kill()
                wanted = clean if stops else unclean
                for _ in range(2):
                    equal(listed_of_stores(server), wanted, "a look from outside, which changes nothing")
                size = len(server.log_path.read_text())
                server.start()
                equal(said_of_stores(server, size), wanted, "the start")
            load.end()
            load.verify(server.address)


def refused(second: Broker) -> str:
    """Starts a broker that must not come up; returns what it said."""
    second.spawn()
    try:
        status = second.process.wait(60)
    except subprocess.TimeoutExpired:
        second.kill()
        raise AssertionError("the second broker keeps running") from None
    assert status != 0, "the second broker ended as if all was well"
    return second.log_tail()


@test(seconds=120)
def a_second_broker_on_the_same_directory_is_refused():
    with KIND() as first:
        topic = unique("stops-second")
        make_topic(first.address, topic)
        second = KIND()
        second.data = first.data
        if KIND.name == "kafka":
            second.home = first.home  # Its settings name ports, too; the lock comes first.
        said = refused(second)
        assert re.search(r"(?i)lock|in use|using|another", said), said
        assert str(first.data) in said or KIND.name == "kafka", f"it does not say which directory: {said}"
        still_serves(first, topic)


@test(seconds=120)
def a_second_broker_on_the_same_port_is_refused():
    with KIND() as first:
        topic = unique("stops-port")
        make_topic(first.address, topic)
        second = KIND()
        second.port = first.port
        said = refused(second)
        assert re.search(r"(?i)address already in use|in use", said), said
        still_serves(first, topic)


def varint(value: int) -> bytes:
    value, out = (value << 1) ^ (value >> 63), bytearray()
    while value > 0x7F:
        out.append(0x80 | value & 0x7F)
        value >>= 7
    return bytes(out) + bytes([value])


def bomb(size: int) -> bytes:
    """A batch whose newest record lies behind a value of so many zeros."""
    head = b"\0" + varint(-5) + varint(0) + varint(-1) + varint(size)
    packer = zlib.compressobj(1, wbits=31)
    body = packer.compress(varint(len(head) + size + 1) + head)
    for _ in range(size >> 20):
        body += packer.compress(bytes(1 << 20))
    body += packer.compress(b"\0" + record(1, b"newest")) + packer.flush()
    return batch(body, 2, attributes=1)


if KIND.name == "millrace":  # Kafka opens it all, in threads that a stop does not wait for.
    @test(seconds=120)
    def a_stop_does_not_wait_for_what_is_to_be_opened():
        """Lookups by time and produced batches that would take minutes."""
        with KIND() as server:
            topic = unique("stops-bombs")
            make_topic(server.address, topic)
            large, small = bomb(200 << 20), bomb(24 << 20)
            with Connection(server.port, timeout=30) as connection:
                connection.send(produce_frame(1, topic, 0, large))
                equal(produced(connection.reply(), topic)[1], 0, "error code of the large one")
            newest = large[35:43]
            lookup = struct.pack(">iih", -1, 1, len(topic)) + topic.encode() + struct.pack(">ii", 1, 0) + newest
            asking = [Connection(server.port) for _ in range(800)]
            for n, connection in enumerate(asking):
                connection.send(frame(LIST_OFFSETS, 1, 2, lookup) if n % 8 == 0 else produce_frame(3, topic, 0, small))
            # It has begun with them.
            time.sleep(1)
            equal(server.stop(20), server.stopped_status, "exit status")
            for connection in asking:
                connection.socket.close()
            server.start()
            after = unique("stops-after")
            make_topic(server.address, after)
            still_serves(server, after)


if KIND.name == "millrace":  # Kafka takes no notice of a second signal.
    @test(seconds=120)
    def a_second_sigterm_ends_it_at_once():
        """The first one waits for replies that nobody reads, the second one does not; what was acknowledged is there."""
        with KIND() as server:
            topic = unique("stops-twice")
            make_topic(server.address, topic, 4)
            load = Load(server.address, topic, 4)
            eventually(lambda: load.acks > 2000, 30, "acknowledgements")
            with Connection(server.port, timeout=2) as deaf:
                deaf.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                try:
                    while True:
                        deaf.send(frame(METADATA, 1, 5, struct.pack(">i", -1)) * 100)
                except TimeoutError:
                    pass  # It is held back, because its replies wait to be sent.
                # Two that are sent before the first one is looked at are one.
                while server.alive:
                    server.process.send_signal(signal.SIGTERM)
                    time.sleep(0.02)
                equal(server.process.returncode, 128 + signal.SIGTERM, "exit status after the second SIGTERM")
            server.start()
            load.end()
            load.verify(server.address)


if KIND.name == "millrace":  # Kafka ignores settings that it does not know.
    @test(seconds=60)
    def unknown_settings_are_refused_with_a_suggestion():
        said = refused(KIND({"log.segment.byte": "1000000"}))
        assert "log.segment.byte" in said and "log.segment.bytes" in said, said


def still_serves(server: Broker, topic: str):
    load = Load(server.address, topic, 1)
    eventually(lambda: load.acks > 100, 20, "acknowledgements from the first broker")
    load.end()
    load.verify(server.address)


if __name__ == "__main__":
    main("stops")
