"""Record batches of a few bytes that decompress to many: one record whose value is zeros. Made by hand, because no
compressor is as wasteful as its format allows."""

import functools
import struct
import time
import zlib

from harness.protocol import crc32c
from peer.wire import varint

GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4
CODECS = {"gzip": GZIP, "snappy": SNAPPY, "lz4": LZ4, "zstd": ZSTD}
# Snappy's longest copy is of 64 bytes and takes 3: what it makes of the megabyte that a topic takes at most.
OPENS_TO = {GZIP: 30 << 20, SNAPPY: 16 << 20, LZ4: 30 << 20, ZSTD: 30 << 20}
LZ4_BLOCK, ZSTD_BLOCK = 4 << 20, 128 << 10
# For lookups by time: no record is as late as its batch says, so all of it has to be looked at.
LATER_MS = 60_000


def record_start(opened: int) -> bytes:
    """What precedes a value of zeros in a record of about `opened` bytes; it ends with a zero, too, for no headers."""
    value = opened - 32
    head = bytes(3) + varint(-1) + varint(value)
    return varint(len(head) + value + 1) + head


def record_bytes(opened: int) -> tuple[bytes, int]:
    start = record_start(opened)
    return start, opened - 32 + 1


def gzip(start: bytes, zeros: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return packer.compress(start + bytes(zeros)) + packer.flush()


def snappy(start: bytes, zeros: int) -> bytes:
    """One raw block: literals, a zero, and copies of it."""
    length, left = len(start) + zeros, bytearray()
    while length > 127:
        left.append(length & 127 | 128)
        length >>= 7
    left.append(length)
    literal = start + b"\0"
    copies, rest = divmod(zeros - 1, 64)
    packed = bytes(left) + bytes([len(literal) - 1 << 2]) + literal + b"\xfe\1\0" * copies
    return packed + (bytes([rest - 1 << 2 | 2, 1, 0]) if rest else b"")


def lz4_block(start: bytes, opened: int) -> bytes:
    """`opened` bytes: `start`, and zeros as one match. The format wants the last bytes to be literals."""
    tail = bytes(16)
    literal = start + b"\0"
    match = opened - len(literal) - len(tail) - 4
    extra, last = divmod(match - 15, 255)
    packed = bytes([len(literal) << 4 | 15]) + literal + b"\1\0" + b"\xff" * extra + bytes([last])
    return packed + bytes([15 << 4, len(tail) - 15]) + tail


def lz4(start: bytes, zeros: int) -> bytes:
    assert len(start) < 14
    out, left = [bytes.fromhex("04224d18607073")], len(start) + zeros
    while left > 0:
        block = lz4_block(start, min(left, LZ4_BLOCK))
        out.append(struct.pack("<I", len(block)) + block)
        left, start = left - LZ4_BLOCK, b""
    return b"".join(out) + bytes(4)


def zstd(start: bytes, zeros: int) -> bytes:
    """A frame of run-length blocks: four bytes for 128 KiB each."""
    blocks, rest = divmod(zeros, ZSTD_BLOCK)
    header = lambda kind, size, last: struct.pack("<I", size << 3 | kind << 1 | last)[:3]
    out = [bytes.fromhex("28b52ffd"), bytes([0, 7 << 3]), header(0, len(start), 0), start]
    return b"".join([*out, (header(1, ZSTD_BLOCK, 0) + b"\0") * blocks, header(1, rest, 1), b"\0"])


PACK = {GZIP: gzip, SNAPPY: snappy, LZ4: lz4, ZSTD: zstd}


@functools.cache
def bomb(codec: int, opened: int = 0) -> bytes:
    """A batch of one record that opens to about `opened` bytes; as many as the codec can, if that is 0."""
    start, zeros = record_bytes(opened or OPENS_TO[codec])
    now = int(time.time() * 1000)
    covered = struct.pack(">hiqqqhii", codec, 0, now, now + LATER_MS, -1, -1, -1, 1) + PACK[codec](start, zeros)
    return struct.pack(">qiibI", 0, len(covered) + 9, -1, 2, crc32c(covered)) + covered
