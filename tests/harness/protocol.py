"""The few bare Kafka frames that tests send by hand, where a client library would be too polite."""

import socket
import struct
import time

PRODUCE = 0
FETCH = 1
LIST_OFFSETS = 2
METADATA = 3
API_VERSIONS = 18
DESCRIBE_QUORUM = 55


def frame(api: int, version: int, correlation: int, body: bytes = b"", client: bytes = b"bare") -> bytes:
    """A request with header version 1, length prefix included."""
    header = struct.pack(">hhih", api, version, correlation, len(client)) + client
    return struct.pack(">i", len(header) + len(body)) + header + body


def _crc32c_table() -> list[int]:
    table = []
    for crc in range(256):
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return table


_CRC32C = _crc32c_table()


def crc32c(data: bytes) -> int:
    """The checksum of a record batch."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC32C[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


NO_PRODUCER = (-1, -1, -1)
TRANSACTIONAL = 0x10


def batch(body: bytes, count: int, attributes: int = 0, producer: tuple[int, int, int] = NO_PRODUCER) -> bytes:
    """A record batch with these bytes in the place of its records, and a header that fits. A producer is id, epoch and sequence."""
    now = int(time.time() * 1000)  # Old records would fall to retention.
    covered = struct.pack(">hiqqqhii", attributes, count - 1, now, now, *producer, count) + body
    return struct.pack(">qiibI", 0, len(covered) + 9, -1, 2, crc32c(covered)) + covered


def record(delta: int, value: bytes) -> bytes:
    """A record without key and headers, of fewer than 57 bytes."""
    body = bytes([0, 0, 2 * delta, 1, 2 * len(value)]) + value + b"\0"
    return bytes([2 * len(body)]) + body


def produce_frame(correlation: int, topic: str, partition: int, records: bytes) -> bytes:
    """A request that sends one batch, with acks=all."""
    body = struct.pack(">hhiih", -1, -1, 30_000, 1, len(topic)) + topic.encode() + struct.pack(">iii", 1, partition, len(records)) + records
    return frame(PRODUCE, 3, correlation, body)


def produced(reply: bytes, topic: str) -> tuple[int, int, int]:
    """Correlation id, error code and offset of the answer to that."""
    (correlation,) = struct.unpack_from(">i", reply)
    _, error, offset = struct.unpack_from(">ihq", reply, 4 + 4 + 2 + len(topic) + 4)
    return correlation, error, offset


def fetch_frame(correlation: int, topic: str, partition: int, offset: int, bytes_max: int = 1 << 20) -> bytes:
    """A request that reads from one partition."""
    body = struct.pack(">iiiibih", -1, 0, 1, bytes_max, 0, 1, len(topic)) + topic.encode() + struct.pack(">iiqi", 1, partition, offset, bytes_max)
    return frame(FETCH, 4, correlation, body)


def fetched(reply: bytes, topic: str) -> int:
    """Error code of the answer to that."""
    return struct.unpack_from(">ih", reply, 4 + 4 + 4 + 2 + len(topic) + 4)[1]


class Connection:
    """A plain socket to a broker."""

    def __init__(self, port: int, timeout: float = 5, host: str = "127.0.0.1"):
        self.socket = socket.create_connection((host, port), timeout)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data: bytes):
        self.socket.sendall(data)

    def read(self, count: int) -> bytes:
        """Exactly `count` bytes; an OSError if the broker closes before."""
        got = bytearray()
        while len(got) < count:
            piece = self.socket.recv(min(count - len(got), 1 << 20))
            if not piece:
                raise ConnectionResetError(f"closed after {len(got)} of {count} bytes")
            got += piece
        return bytes(got)

    def reply(self) -> bytes:
        """The next reply: correlation id and body."""
        (length,) = struct.unpack(">i", self.read(4))
        return self.read(length)

    def closed_by_broker(self) -> bool:
        """Whether the broker closes the connection before the timeout, whatever it says first."""
        try:
            while self.socket.recv(65536):
                pass
            return True
        except ConnectionError:
            return True
        except TimeoutError:
            return False

    def api_versions(self) -> dict[int, tuple[int, int]]:
        """What the broker serves, by API key."""
        self.send(frame(API_VERSIONS, 0, 7))
        reply = self.reply()
        correlation, error, count = struct.unpack_from(">ihi", reply)
        if correlation != 7 or error != 0:
            raise ConnectionError(f"ApiVersions answered correlation {correlation}, error {error}")
        return {key: (low, high) for key, low, high in struct.iter_unpack(">hhh", reply[10:10 + 6 * count])}
