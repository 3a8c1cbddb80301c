"""Requests about transactions as bare frames, each with all of its fields, so that it may be as wrong as a test wants it."""

import struct

from . import protocol

INIT_PRODUCER_ID, ADD_PARTITIONS, ADD_OFFSETS, END_TXN, WRITE_MARKERS, TXN_OFFSET_COMMIT = 22, 24, 25, 26, 27, 28
FIND_COORDINATOR = 10

# What these requests are answered, by Kafka's names.
ERRORS = {
    -1: "UNKNOWN_SERVER_ERROR", 0: "NONE", 3: "UNKNOWN_TOPIC_OR_PARTITION", 5: "LEADER_NOT_AVAILABLE", 6: "NOT_LEADER_OR_FOLLOWER",
    12: "OFFSET_METADATA_TOO_LARGE", 14: "COORDINATOR_LOAD_IN_PROGRESS", 15: "COORDINATOR_NOT_AVAILABLE", 16: "NOT_COORDINATOR",
    19: "NOT_ENOUGH_REPLICAS", 22: "ILLEGAL_GENERATION", 24: "INVALID_GROUP_ID", 25: "UNKNOWN_MEMBER_ID", 35: "UNSUPPORTED_VERSION",
    42: "INVALID_REQUEST", 45: "OUT_OF_ORDER_SEQUENCE_NUMBER", 46: "DUPLICATE_SEQUENCE_NUMBER", 47: "INVALID_PRODUCER_EPOCH",
    48: "INVALID_TXN_STATE", 49: "INVALID_PRODUCER_ID_MAPPING", 50: "INVALID_TRANSACTION_TIMEOUT", 51: "CONCURRENT_TRANSACTIONS",
    52: "TRANSACTION_COORDINATOR_FENCED", 53: "TRANSACTIONAL_ID_AUTHORIZATION_FAILED", 55: "OPERATION_NOT_ATTEMPTED",
    59: "UNKNOWN_PRODUCER_ID", 69: "GROUP_ID_NOT_FOUND", 87: "INVALID_RECORD", 90: "PRODUCER_FENCED", 100: "UNKNOWN_TOPIC_ID",
    105: "TRANSACTIONAL_ID_NOT_FOUND", 120: "TRANSACTION_ABORTABLE",
}
CLOSED = "closed"


def name(code: int) -> str:
    return ERRORS.get(code, str(code))


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out + bytes([value]))


def text(value: str | None) -> bytes:
    """A compact string, or null."""
    return b"\0" if value is None else varint(len(value.encode()) + 1) + value.encode()


def array(items: list[bytes]) -> bytes:
    return varint(len(items) + 1) + b"".join(items)


class Reader:
    """The fields of an answer of a flexible version, in their order."""

    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def take(self, form: str):
        (value,) = struct.unpack_from(">" + form, self.data, self.at)
        self.at += struct.calcsize(">" + form)
        return value

    def varint(self) -> int:
        value, shift = 0, 0
        while True:
            byte = self.take("B")
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def text(self) -> str | None:
        length = self.varint() - 1
        if length < 0:
            return None
        self.at += length
        return self.data[self.at - length:self.at].decode()

    def tags(self):
        for _ in range(self.varint()):
            self.varint()
            self.at += self.varint()

    def array(self, item) -> list:
        return [item() for _ in range(self.varint() - 1)]


Producer = tuple[int, int]
Parts = dict[str, list[int]]


class Wire:
    """A connection on which each request waits for its answer."""

    def __init__(self, port: int):
        self.port = port
        self.connection = protocol.Connection(port, timeout=20)

    def close(self):
        self.connection.socket.close()

    def ask(self, api: int, version: int, body: bytes) -> Reader:
        header = struct.pack(">hhih", api, version, 7, 4) + b"bare\0"
        self.connection.send(struct.pack(">i", len(header) + len(body)) + header + body)
        try:
            reply = self.connection.reply()
        except ConnectionError:
            self.connection = protocol.Connection(self.port, timeout=20)
            raise
        reader = Reader(reply)
        assert reader.take("i") == 7
        reader.tags()
        return reader

    def coordinator(self, key: str, of_transactions: bool) -> str:
        answer = self.ask(FIND_COORDINATOR, 3, text(key) + struct.pack(">b", of_transactions) + b"\0")
        answer.take("i")
        return name(answer.take("h"))

    def init(self, txn: str | None, timeout_ms: int = 60_000, producer: Producer = (-1, -1), version: int = 5) -> tuple[str, Producer]:
        answer = self.ask(INIT_PRODUCER_ID, version, text(txn) + struct.pack(">iqh", timeout_ms, *producer) + b"\0")
        answer.take("i")
        return name(answer.take("h")), (answer.take("q"), answer.take("h"))

    def add(self, txn: str, producer: Producer, parts: Parts, version: int = 3) -> dict[str, str]:
        """AddPartitionsToTxn of a client."""
        answer = self.ask(ADD_PARTITIONS, version, text(txn) + struct.pack(">qh", *producer) + _topics(parts) + b"\0")
        answer.take("i")
        return _errors(answer)

    def add_as_broker(self, txns: list[tuple[str, Producer, Parts]], verify_only: bool, version: int = 5) -> dict[str, dict[str, str]]:
        """AddPartitionsToTxn of a broker."""
        all_of_them = [text(txn) + struct.pack(">qh?", *producer, verify_only) + _topics(parts) + b"\0" for txn, producer, parts in txns]
        answer = self.ask(ADD_PARTITIONS, version, array(all_of_them) + b"\0")
        answer.take("i")
        assert answer.take("h") == 0

        def transaction():
            txn, errors = answer.text(), _errors(answer)
            answer.tags()
            return txn, errors
        return dict(answer.array(transaction))

    def add_offsets(self, txn: str, producer: Producer, group: str, version: int = 4) -> str:
        answer = self.ask(ADD_OFFSETS, version, text(txn) + struct.pack(">qh", *producer) + text(group) + b"\0")
        answer.take("i")
        return name(answer.take("h"))

    def end(self, txn: str, producer: Producer, commits: bool, version: int = 5) -> tuple[str, Producer | None]:
        answer = self.ask(END_TXN, version, text(txn) + struct.pack(">qh?", *producer, commits) + b"\0")
        answer.take("i")
        error = name(answer.take("h"))
        return error, (answer.take("q"), answer.take("h")) if version >= 5 else None

    def commit_offsets(self, txn: str, producer: Producer, group: str, parts: Parts, version: int = 5, member: str = "",
                       generation: int = -1) -> dict[str, str]:
        def partition(index):
            return struct.pack(">iqi", index, 5, -1) + text(None) + b"\0"
        topics = [text(topic) + array([partition(index) for index in indexes]) + b"\0" for topic, indexes in parts.items()]
        body = text(txn) + text(group) + struct.pack(">qhi", *producer, generation) + text(member) + text(None) + array(topics) + b"\0"
        answer = self.ask(TXN_OFFSET_COMMIT, version, body)
        answer.take("i")
        return _errors(answer)

    def produce(self, txn: str | None, producer: Producer, sequence: int, parts: Parts, version: int = 12, transactional: bool = True,
                attributes: int = 0) -> dict[str, str]:
        """One record for each partition, with acks=all."""
        attributes |= protocol.TRANSACTIONAL if transactional else 0
        records = protocol.batch(protocol.record(0, b"value"), 1, attributes, (*producer, sequence))
        part = varint(len(records) + 1) + records + b"\0"
        topics = [text(topic) + array([struct.pack(">i", index) + part for index in indexes]) + b"\0" for topic, indexes in parts.items()]
        answer = self.ask(protocol.PRODUCE, version, text(txn) + struct.pack(">hi", -1, 30_000) + array(topics) + b"\0")
        found = {}

        def partition(topic):
            index, error = answer.take("i"), answer.take("h")
            answer.at += 3 * 8  # Offset, time, log start.
            answer.array(lambda: (answer.take("i"), answer.text(), answer.tags()))
            answer.text()
            answer.tags()
            found[f"{topic}-{index}"] = name(error)

        def topic():
            of = answer.text()
            answer.array(lambda: partition(of))
            answer.tags()
        answer.array(topic)
        return found

    def write_markers(self, producer: Producer, commits: bool, parts: Parts, coordinator_epoch: int = 0, txn_version: int = 0,
                      version: int = 2) -> dict[str, str]:
        last = struct.pack(">b", txn_version) if version >= 2 else b""
        marker = struct.pack(">qh?", *producer, commits) + _topics(parts) + struct.pack(">i", coordinator_epoch) + last + b"\0"
        answer = self.ask(WRITE_MARKERS, version, array([marker]) + b"\0")

        def of_producer():
            answer.take("q")
            errors = _errors(answer)
            answer.tags()
            return errors
        return answer.array(of_producer)[0]


def _topics(parts: Parts) -> bytes:
    return array([text(topic) + array([struct.pack(">i", index) for index in indexes]) + b"\0" for topic, indexes in parts.items()])


def _errors(answer: Reader) -> dict[str, str]:
    """The error of each partition."""
    found = {}

    def partition(topic):
        index, error = answer.take("i"), answer.take("h")
        answer.tags()
        found[f"{topic}-{index}"] = name(error)

    def topic():
        of = answer.text()
        answer.array(lambda: partition(of))
        answer.tags()
    answer.array(topic)
    return found
