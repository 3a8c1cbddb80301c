"""The three requests that the comparison sends by itself: make a topic, produce one record, delete a topic. The load
comes from `millrace-bench`; this is for moments, such as the first acknowledgement after a start."""

import functools
import struct
import time

from harness import protocol

PRODUCE, CREATE_TOPICS, DELETE_TOPICS = 0, 19, 20
TOPIC_ALREADY_EXISTS, UNKNOWN_TOPIC = 36, 3
# The last versions without tagged fields: old, and still served by all.
PRODUCE_VERSION, CREATE_VERSION, DELETE_VERSION = 3, 2, 1
POLL_SECONDS = 0.002
# What a partition gets before it is measured. Kafka makes and maps its index files when it adds the first entry, with
# the first batch behind 4 KiB of others (`index.interval.bytes`): twice this is enough.
TOUCH_BYTES, TOUCHES, TOUCHED_AT_ONCE = 5000, 2, 20


def string(text: str) -> bytes:
    return struct.pack(">h", len(text)) + text.encode()


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def varint(value: int) -> bytes:
    """Zigzag, seven bits at a time."""
    left, out = value * 2 if value >= 0 else -value * 2 - 1, bytearray()
    while left > 127:
        out.append(left & 127 | 128)
        left >>= 7
    return bytes([*out, left])


@functools.cache
def one_record(value_bytes: int = 1) -> bytes:
    """A batch of one record without key."""
    now = int(time.time() * 1000)
    # Attributes, both deltas, no key, the value, no headers.
    record = bytes(3) + varint(-1) + varint(value_bytes) + b"x" * value_bytes + bytes([0])
    record = varint(len(record)) + record
    body = struct.pack(">hiqqqhii", 0, 0, now, now, -1, -1, -1, 1) + record
    return struct.pack(">qiibI", 0, 4 + 1 + 4 + len(body), -1, 2, crc32c(body)) + body


def ask(connection: protocol.Connection, api: int, version: int, body: bytes) -> bytes:
    """The reply without its correlation id."""
    connection.send(protocol.frame(api, version, 1, body))
    return connection.reply()[4:]


def create_topic(connection: protocol.Connection, topic: str, partitions: int = 1) -> int:
    """Makes a topic and returns Kafka's error code."""
    body = struct.pack(">i", 1) + string(topic) + struct.pack(">ihiiib", partitions, 1, 0, 0, 30_000, 0)
    reply = ask(connection, CREATE_TOPICS, CREATE_VERSION, body)
    (length,) = struct.unpack_from(">h", reply, 8)
    (error,) = struct.unpack_from(">h", reply, 10 + length)
    return error


def delete_topic(port: int, topic: str) -> None:
    """Deletes a topic, if it is there."""
    with protocol.Connection(port, timeout=60) as connection:
        body = struct.pack(">i", 1) + string(topic) + struct.pack(">i", 30_000)
        reply = ask(connection, DELETE_TOPICS, DELETE_VERSION, body)
        (error,) = struct.unpack_from(">h", reply, 8 + 2 + len(topic))
        if error not in (0, UNKNOWN_TOPIC):
            raise RuntimeError(f"deleting {topic}: error {error}")


def produce(connection: protocol.Connection, topic: str, partitions: range, value_bytes: int = 1) -> set[int]:
    """Produces one record to each partition with acks=all and returns Kafka's error codes."""
    batch = one_record(value_bytes)
    body = struct.pack(">hhii", -1, -1, 30_000, 1) + string(topic) + struct.pack(">i", len(partitions))
    body += b"".join(struct.pack(">ii", index, len(batch)) + batch for index in partitions)
    reply = ask(connection, PRODUCE, PRODUCE_VERSION, body)
    at = 4 + 2 + len(topic)
    (count,) = struct.unpack_from(">i", reply, at)
    answers = struct.iter_unpack(">ihqq", reply[at + 4:at + 4 + 22 * count])
    return {error for _, error, _, _ in answers}


def make_ready(port: int, topic: str, partitions: int, seconds_max: float, alive=lambda: True) -> None:
    """Returns as soon as each partition of a topic, which is made if it is missing, has acknowledged a record;
    RuntimeError if that takes too long or the broker ends."""
    deadline = time.monotonic() + seconds_max
    last = "nothing tried"
    while time.monotonic() < deadline and alive():
        try:
            with protocol.Connection(port, timeout=max(0.1, deadline - time.monotonic())) as connection:
                error = create_topic(connection, topic, partitions)
                if error not in (0, TOPIC_ALREADY_EXISTS):
                    last = f"error {error} for making the topic"
                elif (errors := produce(connection, topic, range(partitions))) == {0}:
                    return
                else:
                    last = f"errors {sorted(errors)}"
        except OSError as failure:
            last = str(failure)
        time.sleep(POLL_SECONDS)
    raise RuntimeError(f"no acknowledgement: {last}")


def touch(port: int, topic: str, partitions: int, seconds_max: float) -> None:
    """Makes a topic if it is missing, and has every system make what it makes lazily for each of its partitions."""
    make_ready(port, topic, partitions, seconds_max)
    with protocol.Connection(port, timeout=seconds_max) as connection:
        for first in [*range(0, partitions, TOUCHED_AT_ONCE)] * TOUCHES:
            errors = produce(connection, topic, range(first, min(first + TOUCHED_AT_ONCE, partitions)), TOUCH_BYTES)
            if errors != {0}:
                raise RuntimeError(f"touching {topic}: errors {sorted(errors)}")
