"""Requests that name more than any client would, as bodies of old versions that are easy to write by hand."""

import struct

from harness.protocol import frame
from peer.wire import string

PRODUCE, FETCH, LIST_OFFSETS, METADATA, OFFSET_COMMIT, DELETE_RECORDS = 0, 1, 2, 3, 8, 21
FOREVER = 2**31 - 1
# The newest offset.
LATEST = -1


def count(items) -> bytes:
    return struct.pack(">i", len(items))


def produce(topic: str, batches: list[tuple[int, bytes]]) -> bytes:
    """One topic's batches, by partition."""
    body = [struct.pack(">hhii", -1, -1, 30_000, 1), string(topic), count(batches)]
    for partition, batch in batches:
        body += [struct.pack(">ii", partition, len(batch)), batch]
    return frame(PRODUCE, 7, 1, b"".join(body))


def uvarint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def produce_nothing(topic: str, megabytes: int) -> bytes:
    """As many partitions without records as fit into so many bytes: six bytes each."""
    entry, topics, left = bytes(6), [], megabytes * 1_000_000 // 6
    name = uvarint(len(topic) + 1) + topic.encode()
    while left > 0:
        some = min(left, 100_000)
        topics.append(name + uvarint(some + 1) + entry * some + b"\0")
        left -= some
    # The newer header has tagged fields; the body begins with no transactional id.
    body = b"\0" + b"\0" + struct.pack(">hi", -1, 30_000) + uvarint(len(topics) + 1) + b"".join(topics) + b"\0"
    return frame(PRODUCE, 9, 1, body)


def fetch(topic: str, partitions: list[tuple[int, int]], max_wait_ms: int, min_bytes: int, max_bytes: int = 50 << 20) -> bytes:
    """Of one topic, partitions and the offsets to begin at."""
    body = [struct.pack(">iiiibi", -1, max_wait_ms, min_bytes, max_bytes, 0, 1), string(topic), count(partitions)]
    body += [struct.pack(">iqi", *asked, max_bytes) for asked in partitions]
    return frame(FETCH, 4, 1, b"".join(body))


def list_offsets(topic: str, partitions: range, timestamp: int) -> bytes:
    asked = b"".join(struct.pack(">iq", index, timestamp) for index in partitions)
    return frame(LIST_OFFSETS, 1, 1, struct.pack(">ii", -1, 1) + string(topic) + count(partitions) + asked)


def metadata(topics: list[str]) -> bytes:
    return frame(METADATA, 1, 1, count(topics) + b"".join(map(string, topics)))


def delete_records(topic: str, partitions: range, offset: int) -> bytes:
    asked = b"".join(struct.pack(">iq", index, offset) for index in partitions)
    return frame(DELETE_RECORDS, 0, 1, struct.pack(">i", 1) + string(topic) + count(partitions) + asked + struct.pack(">i", 30_000))


def offset_commit(group: str, topic: str, partitions: list[int], offset: int) -> bytes:
    """By nobody in particular, as a tool does it."""
    body = [string(group), struct.pack(">i", -1), string(""), struct.pack(">q", -1), struct.pack(">i", 1), string(topic), count(partitions)]
    body += [struct.pack(">iqh", index, offset, -1) for index in partitions]
    return frame(OFFSET_COMMIT, 2, 1, b"".join(body))
