"""What admin clients ask on the wire, byte for byte: settings with their types, and answers that no client library shows."""

import pathlib
import socket
import struct

from harness.suite import BOOTSTRAP, BROKER, equal, eventually, main, test, unique

TOPIC, NODE = 2, 4
TYPES = ["unknown", "boolean", "string", "int", "short", "long", "double", "list", "class", "password"]
# Where Millrace differs on purpose: the names (or name and what is told instead), and why.
DIFFERENT = {
    "queued.max.request.bytes": "always bounded here",
    "socket.receive.buffer.bytes": "sized by the kernel here, unless it is set",
    "node.id": "has a default here",
    "broker.id": "tells node.id",
    "log.dir": "tells log.dirs",
    "log.dirs": "has a default here, and is one directory",
    "process.roles": "always both here",
    "controller.listener.names": "has no default",
    # Kafka changes these while it runs.
    "listeners": "read at the start",
    "listener.security.protocol.map": "read at the start",
    "max.connections": "read at the start",
    "max.connections.per.ip": "read at the start",
}
# Set by the harness, for a single node.
SET = {"listeners", "log.dirs", "group.initial.rebalance.delay.ms", "log.flush.interval.messages", "offsets.topic.num.partitions"}


def text(value: str | None) -> bytes:
    return struct.pack(">h", -1) if value is None else struct.pack(">h", len(value)) + value.encode()


class Answer:
    """Reads a response field by field."""

    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def take(self, kind: str):
        (value,) = struct.unpack_from(">" + kind, self.data, self.at)
        self.at += struct.calcsize(kind) if kind in "bBhi" else 8
        return value

    def text(self) -> str | None:
        length = self.take("h")
        if length < 0:
            return None
        self.at += length
        return self.data[self.at - length:self.at].decode()


def ask(key: int, version: int, body: bytes, flexible: bool = False) -> Answer:
    """One request over a connection of its own; the answer after its header."""
    host, port = BOOTSTRAP.rsplit(":", 1)
    with socket.create_connection((host, int(port)), 20) as connection:
        frame = struct.pack(">hhi", key, version, 1) + text("admin") + (b"\0" if flexible else b"") + body
        connection.sendall(struct.pack(">i", len(frame)) + frame)
        with connection.makefile("rb") as answers:
            (length,) = struct.unpack(">i", answers.read(4))
            return Answer(answers.read(length)[5 if flexible else 4:])


def describe(kind: int, name: str) -> tuple[int, dict[str, dict]]:
    answer = ask(32, 3, struct.pack(">ib", 1, kind) + text(name) + struct.pack(">i", -1) + b"\1\1")
    answer.take("i")
    equal(answer.take("i"), 1, "resources")
    error, _, _, _ = answer.take("h"), answer.text(), answer.take("b"), answer.text()
    settings = {}
    for _ in range(answer.take("i")):
        key, value, read_only, source, secret = answer.text(), answer.text(), answer.take("b"), answer.take("b"), answer.take("b")
        synonyms = [(answer.text(), answer.text(), answer.take("b")) for _ in range(answer.take("i"))]
        settings[key] = {"value": value, "read_only": read_only, "source": source, "secret": secret, "synonyms": synonyms,
                         "type": TYPES[answer.take("b")], "documentation": answer.text()}
    return error, settings


def create(name: str, partitions: int = 1) -> int:
    answer = ask(19, 2, struct.pack(">i", 1) + text(name) + struct.pack(">ihii", partitions, 1, 0, 0) + struct.pack(">i", 9000) + b"\0")
    answer.take("i"), answer.take("i"), answer.text()
    return answer.take("h")


def alter(kind: int, name: str, *changes: tuple[str, int, str | None]) -> int:
    body = b"".join(text(key) + struct.pack(">b", how) + text(value) for key, how, value in changes)
    answer = ask(44, 0, struct.pack(">ib", 1, kind) + text(name) + struct.pack(">i", len(changes)) + body + b"\0")
    answer.take("i"), answer.take("i")
    return answer.take("h")


@test
def every_setting_is_told_with_type_and_default():
    topic = unique("admin-settings")
    equal(create(topic), 0)
    told = {kind: describe(kind, name) for kind, name in [(TOPIC, topic), (NODE, "1"), (16, "m"), (32, "g")]}
    equal({error for error, _ in told.values()}, {0})
    wrong = []
    for line in (pathlib.Path(__file__).parent / "kafka-settings.txt").read_text().splitlines():
        if line.startswith("#"):
            continue
        kind, key, type_, default, flags = line.split(" ")
        setting = told[int(kind)][1].get(key)
        if setting is None:
            wrong.append(f"{key} is not told")
            continue
        value = setting["value"]
        found = (setting["type"], "-" if value is None else value or '""',
                 ",".join(f for f, on in (("read-only", setting["read_only"]), ("secret", setting["secret"])) if on) or "-")
        if setting["source"] == 4 or key in SET:
            found = (found[0], default, found[2])
        if BROKER != "kafka" and flags == "secret":
            flags = "read-only,secret"  # Kept in no record while nothing needs it.
        differs = found != (type_, default, flags)
        if differs and (BROKER == "kafka" or key not in DIFFERENT):
            wrong.append(f"{key}: {found} instead of {(type_, default, flags)}")
        if not setting["documentation"]:
            wrong.append(f"{key} has no documentation")
    assert not wrong, "; ".join(wrong)


@test
def settings_of_the_broker_are_changed_while_it_runs():
    def retention() -> tuple[str | None, int]:
        setting = describe(NODE, "1")[1]["log.cleaner.backoff.ms"]
        return setting["value"], setting["source"]

    key = "log.cleaner.backoff.ms"
    equal(retention(), ("15000", 5))
    equal(alter(NODE, "", (key, 0, "15001")), 0)
    eventually(lambda: retention() == ("15001", 3), what="the value of all brokers holds")
    equal(describe(NODE, "")[1][key]["value"], "15001")
    equal(alter(NODE, "1", (key, 0, "15002")), 0)
    eventually(lambda: retention() == ("15002", 2), what="the broker's own value holds")
    for name in ["1", ""]:
        equal(alter(NODE, name, (key, 1, None)), 0)
    eventually(lambda: retention() == ("15000", 5), what="the default is back")
    equal(alter(NODE, "1", ("num.partitions", 0, "5")), 42, "read-only")
    equal(alter(NODE, "", ("log.retention.ms", 0, "soon")), 42, "no number")
    equal(alter(NODE, "7", ("log.retention.ms", 0, "5000000")), 42, "another broker")
    equal(alter(NODE, "", ("ssl.keystore.location", 0, "/x")), 42, "of one broker only")
    equal(alter(64, "x"), 42, "no such kind")


@test
def topics_take_a_default_of_the_broker_that_is_changed():
    topic, key = unique("admin-live"), "log.message.timestamp.after.max.ms"
    equal(create(topic), 0)

    def told() -> tuple[str | None, int]:
        setting = describe(TOPIC, topic)[1]["message.timestamp.after.max.ms"]
        return setting["value"], setting["source"]
    equal(alter(NODE, "", (key, 0, "7200000")), 0)
    eventually(lambda: told() == ("7200000", 3), what="the topic has the new default")
    equal(alter(NODE, "", (key, 1, None)), 0)
    eventually(lambda: told() == ("3600000", 5), what="the topic has the old default")


@test
def resources_without_settings_of_their_own():
    for kind, name, code in [(8, "", 42), (8, "7", 42), (8, "x", 42), (8, "1", 0), (16, "", 42), (32, "", 42), (64, "x", 42), (NODE, "7", 42)]:
        equal(describe(kind, name)[0], code, f"{kind} {name!r}")


@test
def pages_of_partitions_end_whatever_the_limit():
    topic = unique("admin-pages")
    equal(create(topic, 3), 0)
    name = bytes([len(topic) + 1]) + topic.encode()
    eventually(lambda: topic in str(ask(75, 0, b"\2" + name + b"\0" + struct.pack(">i", 9) + b"\xff\0", True).data), what="the topic is there")
    for limit, count in [(2000, 3), (2, 2), (1, 1), (0, 1), (-1, 1)]:
        answer = ask(75, 0, b"\2" + name + b"\0" + struct.pack(">i", limit) + b"\xff\0", True)
        answer.at += 4 + 1 + 2 + len(name) + 16 + 1
        equal(answer.take("B") - 1, count, f"partitions with limit {limit}")


@test
def nothing_is_reassigned_and_there_are_no_acls():
    answer = ask(46, 0, struct.pack(">i", 1000) + b"\0\0", True)
    equal((answer.take("i"), answer.take("h")), (0, 0))
    answer = ask(29, 1, b"\2" + text(None) + b"\1" + text(None) + text(None) + b"\1\1")
    equal((answer.take("i"), answer.take("h")), (0, 54), "SECURITY_DISABLED")


@test
def partitions_are_answered_once_and_by_topic():
    topic, other, none = (unique(f"admin-{name}") for name in ["again", "other", "none"])
    equal((create(topic, 3), create(other)), (0, 0))
    latest = -1

    def told(key: int, before: bytes, behind: bytes, partition: str, topics: list[tuple[str, list[int]]]) -> list:
        body = before + struct.pack(">i", len(topics))
        for name, indexes in topics:
            body += text(name) + struct.pack(">i", len(indexes)) + b"".join(struct.pack(">iq", index, latest) for index in indexes)
        answer = ask(key, 0 if key == 21 else 1, body + behind)
        answer.at += 4 if key == 21 else 0
        topics = [(answer.text(), sorted(tuple(answer.take(kind) for kind in partition) for _ in range(answer.take("i")))) for _ in range(answer.take("i"))]
        return sorted(topics)

    asked = [(topic, [0, 1, 1]), (none, [0]), (other, []), (topic, [2]), (none, [0, 1]), ("no", [])]
    eventually(lambda: told(2, struct.pack(">i", -1), b"", "ihqq", [(topic, [2]), (other, [0])]) == [(topic, [(2, 0, -1, 0)]), (other, [(0, 0, -1, 0)])], what="they are there")
    equal(told(2, struct.pack(">i", -1), b"", "ihqq", asked),
          sorted([(topic, [(0, 0, -1, 0), (1, 42, -1, -1), (2, 0, -1, 0)]), (none, [(0, 42, -1, -1), (1, 3, -1, -1)])]), "ListOffsets")
    equal(told(21, b"", struct.pack(">i", 5000), "iqh", asked),
          sorted([(topic, [(0, 0, 0), (1, 0, 0), (2, 0, 0)]), (none, [(0, -1, 3), (1, -1, 3)])]), "DeleteRecords")


@test
def a_sync_without_a_group_is_refused():
    body = text("") + struct.pack(">i", 1) + text("m") + struct.pack(">i", 0)
    equal(ask(14, 0, body).take("h"), 24, "INVALID_GROUP_ID")


if __name__ == "__main__":
    main("admin")
