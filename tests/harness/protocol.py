"""The few bare Kafka frames that tests send by hand, where a client library would be too polite."""

import socket
import struct

API_VERSIONS = 18
METADATA = 3
FETCH = 1


def frame(api: int, version: int, correlation: int, body: bytes = b"", client: bytes = b"bare") -> bytes:
    """A request with header version 1, length prefix included."""
    header = struct.pack(">hhih", api, version, correlation, len(client)) + client
    return struct.pack(">i", len(header) + len(body)) + header + body


class Connection:
    """A plain socket to a broker."""

    def __init__(self, port: int, timeout: float = 5):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)

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
