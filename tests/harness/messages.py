"""Any request and answer of the Kafka protocol in any version, as dictionaries of their fields.

What they look like is asked of the Java client that `make setup` has installed. Requests can be as wrong as a test wants
them: null where none may be, bytes in the place of a field, tags that nobody knows.
"""

import dataclasses
import functools
import json
import pathlib
import struct
import subprocess
import uuid

from . import paths, protocol

SCHEMAS_JAVA = pathlib.Path(__file__).resolve().parents[1] / "clients" / "java" / "Schemas.java"
NUMBERS = {"boolean": "?", "int8": "b", "int16": "h", "uint16": "H", "int32": "i", "uint32": "I", "int64": "q", "float64": "d"}
# What these fields have where nothing is asked of them, other than nothing at all.
DEFAULTS = {"replica_id": -1, "current_leader_epoch": -1, "leader_epoch": -1, "last_fetched_epoch": -1, "log_start_offset": -1,
            "generation_id_or_member_epoch": -1, "generation_id": -1, "committed_leader_epoch": -1, "producer_id": -1, "producer_epoch": -1,
            "retention_time_ms": -1, "commit_timestamp": -1, "session_epoch": -1, "timeout_ms": 10_000, "transaction_timeout_ms": 10_000,
            "duration_filter": -1,
            "response_partition_limit": 2000, "cluster_id": None, "max_bytes": 1 << 20, "partition_max_bytes": 1 << 20}
TAGS = "tags"
NO_ID = uuid.UUID(int=0)


@dataclasses.dataclass(frozen=True)
class Raw:
    """These bytes in the place of a field, whatever its type."""

    data: bytes


@dataclasses.dataclass(frozen=True)
class Api:
    """One API with its stable versions, and by version the fields of its messages and the versions of its headers."""

    key: int
    name: str
    min: int
    max: int
    request: dict[int, list]
    response: dict[int, list]
    headers: dict[int, tuple[int, int]]

    def is_flexible(self, version: int) -> bool:
        return self.headers[version][0] >= 2

    @property
    def turns(self) -> list[int]:
        """The oldest and the newest version, and the two between which messages became flexible."""
        flexible = [version for version in self.request if self.is_flexible(version)][:1]
        return sorted({self.min, self.max, *flexible, *(max(version - 1, self.min) for version in flexible)})

    @functools.cached_property
    def names(self) -> set[str]:
        """All fields that a request has in some version."""
        return {name for fields in self.request.values() for name in _names(fields)}


def _names(fields: list):
    for name, kind in fields:
        if name is None:
            yield from _names(list(kind.values()))
            continue
        yield name
        while isinstance(kind, list):
            if kind[0] == "struct":
                yield from _names(kind[2])
                break
            kind = kind[2]


class Protocol:
    """All APIs by name, and the names of errors by code."""

    def __init__(self):
        done = subprocess.run(["java", "-XX:TieredStopAtLevel=1", "-cp", paths.KAFKA_CLASSPATH, str(SCHEMAS_JAVA)],
                              check=True, capture_output=True, text=True, timeout=60)
        errors, *apis = map(json.loads, done.stdout.splitlines())
        self.errors = {int(code): name for code, name in errors.items()}
        self.apis = {api["name"]: self._api(**api) for api in apis}

    @staticmethod
    def _api(request, response, headers, **plain) -> Api:
        by_version = [{int(version): what for version, what in of.items()} for of in (request, response, headers)]
        return Api(**plain, request=by_version[0], response=by_version[1], headers=by_version[2])


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out + bytes([value]))


def _length(kind: str, length: int | None) -> bytes:
    """The length before a string, bytes or an array; None is null."""
    if kind.startswith("compact"):
        return varint(0 if length is None else length + 1)
    return struct.pack(">h" if "string" in kind else ">i", -1 if length is None else length)


def default(name: str, kind):
    if name in DEFAULTS:
        return DEFAULTS[name]
    if isinstance(kind, list):
        return None if kind[1] else {} if kind[0] == "struct" else []
    if "nullable" in kind:
        return None
    return "" if "string" in kind else b"" if "bytes" in kind or "records" in kind else NO_ID if kind == "uuid" else 0


def _encode(kind, value, in_struct: bool = True) -> bytes:
    if isinstance(value, Raw):
        return value.data
    if isinstance(kind, list):
        of, nullable, inner = kind
        if of == "struct":
            if value is None:
                return b"\xff"
            return (b"\x01" if nullable else b"") + encode(inner, value)
        return _length(of, None if value is None else len(value)) + b"".join(_encode(inner, one) for one in value or [])
    if kind == "uuid":
        return value.bytes
    if kind in NUMBERS:
        return struct.pack(">" + NUMBERS[kind], value)
    data = None if value is None else value.encode() if isinstance(value, str) else value
    return _length(kind, None if data is None else len(data)) + (data or b"")


def encode(fields: list, values: dict) -> bytes:
    """The fields that are named, defaults for the others, and the tags."""
    out = bytearray()
    for name, kind in fields:
        if name is not None:
            out += _encode(kind, values[name] if name in values else default(name, kind))
            continue
        tags = {int(tag): _encode(of, values[named]) for tag, (named, of) in kind.items() if named in values}
        tags.update(values.get(TAGS, {}))
        out += varint(len(tags))
        for tag, data in sorted(tags.items()):
            out += varint(tag) + varint(len(data)) + data
    return bytes(out)


class Reader:
    """The fields of a message, in their order."""

    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        assert 0 <= count <= len(self.data) - self.at, f"{count} bytes at {self.at} of {len(self.data)}"
        self.at += count
        return self.data[self.at - count:self.at]

    def number(self, form: str):
        return struct.unpack(">" + form, self.take(struct.calcsize(">" + form)))[0]

    def varint(self) -> int:
        value = shift = 0
        while True:
            (byte,) = self.take(1)
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def length(self, kind: str) -> int:
        if kind.startswith("compact"):
            return self.varint() - 1
        return self.number("h" if "string" in kind else "i")

    def value(self, kind):
        if isinstance(kind, list):
            of, nullable, inner = kind
            if of == "struct":
                return None if nullable and self.number("b") < 0 else self.fields(inner)
            length = self.length(of)
            return None if length < 0 else [self.value(inner) for _ in range(length)]
        if kind == "uuid":
            return uuid.UUID(bytes=self.take(16))
        if kind in NUMBERS:
            return self.number(NUMBERS[kind])
        length = self.length(kind)
        data = None if length < 0 else self.take(length)
        return data.decode() if data is not None and "string" in kind else data

    def fields(self, fields: list) -> dict:
        found = {}
        for name, kind in fields:
            if name is not None:
                found[name] = self.value(kind)
                continue
            for _ in range(self.varint()):
                tag, size = self.varint(), self.varint()
                until = self.at + size
                named, of = kind.get(str(tag), (f"tag {tag}", None))
                found[named] = self.take(size).hex() if of is None else self.value(of)
                assert self.at == until, f"{named} has {size} bytes, and was read up to {self.at - until} from its end"
        return found


# The correlation id of what is asked behind a Produce, which may be one without an answer.
BEHIND = 8


class Closed(Exception):
    """The broker has closed the connection instead of answering."""


class Silent(Exception):
    """The broker does not answer, or not in time, and the connection is open."""


class Asker:
    """A connection on which each request waits for its answer; a new one when the broker has closed it."""

    def __init__(self, port: int, timeout: float = 20):
        self.port, self.timeout = port, timeout
        self.protocol = _protocol()
        self.connection: protocol.Connection | None = None

    def close(self):
        if self.connection:
            self.connection.socket.close()
            self.connection = None

    def frame(self, api: Api, version: int, body: bytes) -> bytes:
        """A request with a header that fits, also of a version that does not exist."""
        known = min(max(version, api.min), api.max)
        header = struct.pack(">hhih", api.key, version, 7, 3) + b"odd" + (b"\0" if api.is_flexible(known) else b"")
        return struct.pack(">i", len(header) + len(body)) + header + body

    def send(self, frame: bytes):
        self.connection = self.connection or protocol.Connection(self.port, self.timeout)
        self.connection.send(frame)

    def receive(self, api: Api, version: int) -> dict:
        """The answer to the request that was sent last, which has to be read to its end."""
        try:
            reader = Reader(self.connection.reply())
        except ConnectionError:
            self.close()
            raise Closed from None
        except TimeoutError:
            self.close()
            raise Silent from None
        correlation = reader.number("i")
        if correlation == BEHIND:
            raise Silent
        assert correlation == 7
        if api.key == protocol.PRODUCE and self.connection:
            self.connection.reply()
        if api.headers[version][1] >= 1:
            reader.fields([[None, {}]])
        answer = reader.fields(api.response[version])
        assert reader.at == len(reader.data), f"{len(reader.data) - reader.at} bytes after the answer"
        return answer

    def ask_bytes(self, api: Api, version: int, body: bytes) -> dict:
        """The answer to a request of these bytes."""
        try:
            self.send(self.frame(api, version, body))
            if api.key == protocol.PRODUCE:
                self.send(protocol.frame(protocol.API_VERSIONS, 0, BEHIND))
        except ConnectionError:
            self.close()
            raise Closed from None
        known = version in api.request
        if not known and api.key == protocol.API_VERSIONS:
            version, known = 0, True  # So that who asks for what does not exist can read it.
        return self.receive(api, version if known else api.max)

    def ask(self, name: str, version: int, **values) -> dict:
        """The answer to a request of these fields; those that its version lacks are left out."""
        api = self.protocol.apis[name]
        return self.ask_bytes(api, version, self.body(api, version, values))

    @staticmethod
    def body(api: Api, version: int, values: dict) -> bytes:
        unknown = set(values) - api.names - {TAGS}
        assert not unknown, f"{api.name} has no {', '.join(unknown)}"
        return encode(api.request[version], values)


@functools.cache
def _protocol() -> Protocol:
    return Protocol()
