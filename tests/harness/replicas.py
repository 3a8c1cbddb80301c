"""The replicas of a partition as they lie in the stores of nodes that are down: exported by `millracectl`, and compared batch
by batch."""

import hashlib
import pathlib
import struct
import subprocess
from typing import NamedTuple

from . import paths

_HEADER = struct.Struct(">qiibIhiqqqhii")
_HEAD = 12


class Batch(NamedTuple):
    """What the header of a batch says, and a digest of all its bytes."""

    base: int
    last: int
    epoch: int
    producer: int
    producer_epoch: int
    sequence: int
    attributes: int
    crc: int
    bytes: int
    digest: str


def export(data: pathlib.Path, out: pathlib.Path):
    """Writes what is in the stores of a node, as Kafka keeps it."""
    done = subprocess.run([paths.binary("millracectl"), "store", "export", str(data), str(out)], capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        raise AssertionError(f"millracectl store export {data}: {done.stdout[-300:]}{done.stderr[-500:]}")


def batches(directory: pathlib.Path) -> list[Batch]:
    """Those of an exported partition, in order."""
    found = []
    for log in sorted(directory.glob("*.log")):
        content = log.read_bytes()
        at = 0
        while at < len(content):
            base, length, epoch, _, crc, attributes, last_delta, _, _, producer, producer_epoch, sequence, _ = _HEADER.unpack_from(content, at)
            whole = content[at:at + _HEAD + length]
            found.append(Batch(base, base + last_delta, epoch, producer, producer_epoch, sequence, attributes, crc, len(whole),
                               hashlib.blake2b(whole, digest_size=8).hexdigest()))
            at += len(whole)
    return found


def differences(replicas: dict[int, list[Batch]]) -> list[str]:
    """Where the copies of one partition are not the same, by node."""
    ends = {node: found[-1].last + 1 if found else 0 for node, found in replicas.items()}
    wrong = [] if len(set(ends.values())) < 2 else [f"they end at {ends}"]
    by_base = {node: {batch.base: batch for batch in found} for node, found in replicas.items()}
    for base in sorted(set().union(*by_base.values())):
        there = {node: found.get(base) for node, found in by_base.items()}
        if len(set(there.values())) > 1 and all(base < end for end in ends.values()):
            return [*wrong, f"the batch at {base} is not the same: {there}"]
    return wrong
