"""Where things are in a store file: just enough of the layout (src/store) to damage it on purpose."""

import pathlib
import struct

BLOCK = 4096
SUPERBLOCKS = (0, BLOCK)
RING_START = 16 * BLOCK

_SUPERBLOCK = struct.Struct("<8sIIHQQQQQQIQII")
_COPY = struct.Struct("<HB")
_RECORD = struct.Struct("<4sIQQQIIQ")


class StoreFile:
    """One store file. Only look at it while the broker is down."""

    def __init__(self, path: pathlib.Path):
        self.path = path
        newest = None
        for at in SUPERBLOCKS:
            fields = _SUPERBLOCK.unpack(self.read(at, _SUPERBLOCK.size))
            assert fields[0] == b"MILLRACE", f"no superblock at {at} of {path}"
            if newest is None or fields[6] > newest[6]:
                newest, newest_at = fields, at
        (_, _, _, _, self.uuid, self.journal_bytes, self.generation, self.chunks_end, self.flush, self.ring_pos, _,
         self.checkpoint_len, _, _) = newest
        # Of each copy of the checkpoint, where its chunks are (or, of a very large one, those of a list of them).
        self.checkpoint_copies, at = [], newest_at + _SUPERBLOCK.size
        for _ in range(2):
            count, _ = _COPY.unpack(self.read(at, _COPY.size))
            table = self.read(at + _COPY.size, 9 * count)
            self.checkpoint_copies.append([pos for pos, _ in struct.iter_unpack("<QB", table)])
            at += _COPY.size + len(table)

    def read(self, pos: int, length: int) -> bytes:
        with open(self.path, "rb") as file:
            file.seek(pos)
            return file.read(length)

    def flip(self, pos: int):
        """Inverts one bit; a second time restores it."""
        byte = self.read(pos, 1)[0]
        with open(self.path, "r+b") as file:
            file.seek(pos)
            file.write(bytes([byte ^ 0x10]))

    def live_records(self) -> list[tuple[int, int]]:
        """(position, length) of the journal records after the checkpoint, in order."""
        found, seq, at = [], self.flush + 1, self.ring_pos
        while True:
            # A record that did not fit before the end of the ring is at its start.
            for start in (at, -(-at // self.journal_bytes) * self.journal_bytes):
                pos = RING_START + start % self.journal_bytes
                magic, _, uuid, this, _, _, length, _ = _RECORD.unpack(self.read(pos, _RECORD.size))
                if (magic, uuid, this) == (b"MRJ5", self.uuid, seq):
                    break
            else:
                return found
            found.append((pos, length))
            at = start + -(-length // BLOCK) * BLOCK
            seq += 1

    def find(self, wanted: bytes) -> int:
        """Where bytes are in the chunk area; -1 if they are only in the journal or nowhere."""
        start = RING_START + self.journal_bytes
        return self.path.read_bytes().find(wanted, start)


def store_files(data: pathlib.Path) -> list[StoreFile]:
    """The stores of a broker's directory."""
    return [StoreFile(path) for path in sorted(data.glob("store-*")) if path.is_file()]
