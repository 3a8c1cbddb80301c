"""Requests that name more than any client would, as bodies of old versions that are easy to write by hand."""

import struct

from harness.protocol import frame
from peer.wire import string

PRODUCE, FETCH, LIST_OFFSETS, METADATA, OFFSET_COMMIT, OFFSET_FETCH, FIND_COORDINATOR, JOIN_GROUP, DESCRIBE_GROUPS = 0, 1, 2, 3, 8, 9, 10, 11, 15
CREATE_TOPICS, DELETE_TOPICS, DELETE_RECORDS, DESCRIBE_CONFIGS, ALTER_CONFIGS, DESCRIBE_LOG_DIRS, CREATE_PARTITIONS = 19, 20, 21, 32, 33, 35, 37
DELETE_GROUPS, INCREMENTAL_ALTER_CONFIGS, DESCRIBE_TOPIC_PARTITIONS = 42, 44, 75
TOPIC_RESOURCE, GROUP_RESOURCE = 2, 32
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


def find_coordinators(groups: list[str]) -> bytes:
    listed = b"".join(uvarint(len(group) + 1) + group.encode() for group in groups)
    # The newer header has tagged fields; the body begins with the kind.
    return frame(FIND_COORDINATOR, 4, 1, b"\0" + b"\0" + uvarint(len(groups) + 1) + listed + b"\0")


def describe_log_dirs() -> bytes:
    """Of all topics."""
    return frame(DESCRIBE_LOG_DIRS, 1, 1, struct.pack(">i", -1))


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


def strings(texts: list[str]) -> bytes:
    return count(texts) + b"".join(map(string, texts))


def binary(data: bytes) -> bytes:
    return struct.pack(">i", len(data)) + data


def offset_fetch(group: str, topic: str, partitions: list[int]) -> bytes:
    body = string(group) + struct.pack(">i", 1) + string(topic) + count(partitions)
    return frame(OFFSET_FETCH, 1, 1, body + struct.pack(f">{len(partitions)}i", *partitions))


def join_group(group: str, protocols: list[tuple[str, bytes]]) -> bytes:
    body = [string(group), struct.pack(">ii", 30_000, 30_000), string(""), string("consumer"), count(protocols)]
    body += [string(name) + binary(metadata) for name, metadata in protocols]
    return frame(JOIN_GROUP, 1, 1, b"".join(body))


def of_groups(api: int, groups: list[str]) -> bytes:
    """DescribeGroups or DeleteGroups."""
    return frame(api, 0, 1, strings(groups))


def create_topics(topics: list[str], validate: bool = False) -> bytes:
    made = b"".join(string(topic) + struct.pack(">ihii", 1, 1, 0, 0) for topic in topics)
    return frame(CREATE_TOPICS, 2, 1, count(topics) + made + struct.pack(">ib", 30_000, validate))


def delete_topics(topics: list[str]) -> bytes:
    return frame(DELETE_TOPICS, 1, 1, strings(topics) + struct.pack(">i", 30_000))


def describe_configs(resource: int, names: list[str]) -> bytes:
    listed = b"".join(struct.pack(">b", resource) + string(name) + struct.pack(">i", -1) for name in names)
    return frame(DESCRIBE_CONFIGS, 1, 1, count(names) + listed + b"\0")


def alter_configs(names: list[str], settings: list[tuple[str, str]]) -> bytes:
    """Of topics, to see whether it could be done."""
    wanted = count(settings) + b"".join(string(key) + string(value) for key, value in settings)
    listed = b"".join(struct.pack(">b", TOPIC_RESOURCE) + string(name) + wanted for name in names)
    return frame(ALTER_CONFIGS, 0, 1, count(names) + listed + b"\1")


def incremental_alter_configs(names: list[str], settings: list[tuple[str, int, str]], validate: bool = True) -> bytes:
    """Of topics: keys, what is done (0 sets, 2 appends), and values."""
    wanted = count(settings) + b"".join(string(key) + struct.pack(">b", operation) + string(value) for key, operation, value in settings)
    listed = b"".join(struct.pack(">b", TOPIC_RESOURCE) + string(name) + wanted for name in names)
    return frame(INCREMENTAL_ALTER_CONFIGS, 0, 1, count(names) + listed + struct.pack(">b", validate))


def create_partitions(topics: list[str], partitions: int) -> bytes:
    listed = b"".join(string(topic) + struct.pack(">ii", partitions, -1) for topic in topics)
    return frame(CREATE_PARTITIONS, 0, 1, count(topics) + listed + struct.pack(">ib", 30_000, 1))


def describe_topic_partitions(topics: list[str]) -> bytes:
    listed = b"".join(uvarint(len(topic) + 1) + topic.encode() + b"\0" for topic in topics)
    # As many partitions as there are; no cursor.
    return frame(DESCRIBE_TOPIC_PARTITIONS, 0, 1, b"\0" + uvarint(len(topics) + 1) + listed + struct.pack(">ib", FOREVER, -1) + b"\0")


def small_commits(bytes_max: int) -> bytes:
    """An OffsetCommit of as many partitions as fit."""
    entry, topics, left = struct.pack(">iqh", 0, 1, -1), [], bytes_max // 14 - 100
    while left > 0:
        some = min(left, 20_000)
        topics.append(string("nobody-has-this") + struct.pack(">i", some) + entry * some)
        left -= some
    return frame(OFFSET_COMMIT, 2, 1, string("attack") + struct.pack(">i", -1) + string("") + struct.pack(">q", -1) + count(topics) + b"".join(topics))
