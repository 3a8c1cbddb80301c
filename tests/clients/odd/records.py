"""Odd requests to partitions that have records: batches that are none, offsets and epochs that are not there."""

import struct

from harness.protocol import batch, crc32c, record
from scene import NOBODY, Scene, part

OFFSETS = (-3, -2, -1, 0, 3, 4, 6, 7, 100, 2**63 - 1)


def rewritten(data: bytes, at: int, form: str, value, checked: bool = True) -> bytes:
    """A batch with another value in its header, and a checksum that fits unless it is not to."""
    data = bytearray(data)
    struct.pack_into(">" + form, data, at, value)
    if checked:
        struct.pack_into(">I", data, 17, crc32c(bytes(data[21:])))
    return bytes(data)


def produce(s: Scene, label: str, topic: str, data: bytes | None, versions=None, index: int = 0, **how):
    s.ask_all("Produce", label, versions, **{"acks": -1, **how}, topic_data=[s.named(topic, [part(index, records=data)])])


def odd_batches(s: Scene):
    """What is no batch, or not one that may be written."""
    s.counted["base_offset"] = "OFFSET"
    topic, compacted = s.topic("topic", 2), s.topic("compacted", 1, cleanup_policy="compact")
    one = batch(record(0, b"value"), 1)
    two = batch(record(0, b"one") + record(1, b"two"), 2)
    odd = {
        "checksum": rewritten(one, 17, "I", 1, False), "magic 0": rewritten(one, 16, "b", 0), "magic 1": rewritten(one, 16, "b", 1),
        "magic 3": rewritten(one, 16, "b", 3), "length + 1": rewritten(one, 8, "i", len(one) - 11),
        "length - 1": rewritten(one, 8, "i", len(one) - 13),
        "length 0": rewritten(one, 8, "i", 0), "length -1": rewritten(one, 8, "i", -1), "two batches": one + one,
        "a batch and a half": one + one[:30],
        "base offset 5": rewritten(one, 0, "q", 5), "base offset -1": rewritten(one, 0, "q", -1),
        "leader epoch 7": rewritten(one, 12, "i", 7),
        "count 2": rewritten(one, 57, "i", 2), "count 0": rewritten(one, 57, "i", 0), "count -1": rewritten(one, 57, "i", -1),
        "last delta 1": rewritten(one, 23, "i", 1), "last delta -1": rewritten(one, 23, "i", -1),
        "two and count 1": rewritten(two, 57, "i", 1),
        "two and last delta 0": rewritten(two, 23, "i", 0), "codec 5": rewritten(one, 21, "h", 5), "codec 7": rewritten(one, 21, "h", 7),
        "gzip that is none": rewritten(one, 21, "h", 1), "snappy that is none": rewritten(one, 21, "h", 2),
        "lz4 that is none": rewritten(one, 21, "h", 3),
        "zstd that is none": rewritten(one, 21, "h", 4), "append time": rewritten(one, 21, "h", 8),
        "transactional": rewritten(one, 21, "h", 16),
        "control": rewritten(one, 21, "h", 32), "control and transactional": rewritten(one, 21, "h", 48),
        "delete horizon": rewritten(one, 21, "h", 64),
        "attributes -1": rewritten(one, 21, "h", -1), "first time -1": rewritten(one, 27, "q", -1),
        "times -1": rewritten(rewritten(one, 27, "q", -1), 35, "q", -1),
        "largest time 0": rewritten(one, 35, "q", 0), "a time far ahead": rewritten(one, 27, "q", 2**62),
        "producer and no epoch": rewritten(one, 43, "q", 77),
        "epoch and no producer": rewritten(one, 51, "h", 3), "sequence and no producer": rewritten(one, 53, "i", 3),
        "deltas 0 and 0": batch(record(0, b"one") + record(0, b"two"), 2),
        "deltas 1 and 0": batch(record(1, b"one") + record(0, b"two"), 2),
        "delta 5": batch(record(5, b"one"), 1), "records of noise": batch(b"\xff" * 30, 1), "no records": batch(b"", 0),
        "bytes after the records": batch(record(0, b"one") + b"\0\0\0", 1), "a record that is cut": batch(record(0, b"value")[:-2], 1),
        "a value of length -2": batch(bytes([14, 0, 0, 0, 1, 3, 0, 0]), 1), "many headers": batch(bytes([14, 0, 0, 0, 1, 0, 126, 0]), 1),
        "a header key of length -1": batch(bytes([16, 0, 0, 0, 1, 0, 2, 1, 0]), 1),
    }
    for word, data in odd.items():
        produce(s, word, topic, data)
    for version in (3, 6, 7, 13):
        produce(s, "zstd", topic, rewritten(one, 21, "h", 4), [version], 1)
    produce(s, "without a key where one is needed", compacted, one)
    for acks in (1, -1, 2, -2):
        produce(s, f"acks {acks} to nobody", NOBODY, one, acks=acks)
        produce(s, f"acks {acks} to partition 9", topic, one, None, 9, acks=acks)
    produce(s, "too large", s.topic("small", 1, max_message_bytes="60"), one)
    produce(s, "larger than a segment", s.topic("segment", 1, segment_bytes="1048576"), batch(record(0, b"v" * 40) * 30_000, 30_000))


def sequences(s: Scene):
    """Idempotent producers that are not."""
    topic = s.topic("topic", 3)
    answer = s.do("InitProducerId", transactional_id=None)
    id_, epoch = answer["producer_id"], answer["producer_epoch"]
    steps = [(0, 3, 0, "not the first"), (0, 0, 0, "first"), (0, 0, 0, "first again"), (0, 2, 0, "one is missing"), (0, 1, 0, "second"),
             (0, 0, 0, "first once more"),
             (0, 5, 1, "next epoch, not the first"), (0, 0, 1, "next epoch"), (0, 2, 0, "epoch before"),
             (0, 1, 1, "second of the next epoch"), (1, 0, -1, "no epoch"),
             (1, -1, 0, "no sequence"), (1, -2, 0, "sequence -2"), (1, 2**31 - 1, 0, "last sequence")]
    for index, sequence, ahead, word in steps:
        made = batch(record(0, b"value"), 1, 0, (id_, -1 if ahead < 0 else epoch + ahead, sequence))
        produce(s, f"sequence: {word}", topic, made, [9], index)
    for number in range(7):
        produce(s, f"sequence: {number} in a row", topic, batch(record(0, b"value"), 1, 0, (id_, epoch, number)), [9], 2)
    for number in (1, 3, 6):
        produce(s, f"sequence: {number} again", topic, batch(record(0, b"value"), 1, 0, (id_, epoch, number)), [9], 2)
    produce(s, "sequence: nobody's id", topic, batch(record(0, b"value"), 1, 0, (987_654, 0, 4)), [9], 1)
    s.ask("DescribeProducers", "of sequences", 0, topics=[s.named(topic, [0, 1, 2])])


def filled(s: Scene, suffix: str) -> str:
    """A topic with offsets 0 to 5, of which 0 to 2 are deleted in partition 1."""
    topic = s.topic(suffix, 2)
    for index in (0, 1):
        for number in range(6):
            made = rewritten(rewritten(batch(record(0, b"value"), 1), 27, "q", 1000 * (number + 1)), 35, "q", 1000 * (number + 1))
            s.do("Produce", 9, acks=-1, topic_data=[s.named(topic, [part(index, records=made)])])
    s.do("DeleteRecords", topics=[s.named(topic, [part(1, offset=3)])])
    return topic


def reads(s: Scene):
    """Offsets, epochs and times where there are records, where there were some, and where there are none yet."""
    topic = filled(s, "topic")
    for version in s.apis["Fetch"].turns:
        for index in (0, 1):
            for offset in OFFSETS:
                s.ask("Fetch", f"partition {index} at {offset}", version, min_bytes=0,
                      topics=[s.named(topic, [part(index, fetch_offset=offset)])])
        for bytes_max in (-1, 0, 1, 80, 100, 200):
            s.ask("Fetch", f"{bytes_max} bytes", version, min_bytes=0, max_bytes=bytes_max,
                  topics=[s.named(topic, [part(0, fetch_offset=0)])])
            s.ask("Fetch", f"{bytes_max} bytes of each", version, min_bytes=0, topics=[s.named(topic, [
                part(0, fetch_offset=0, partition_max_bytes=bytes_max), part(1, fetch_offset=4, partition_max_bytes=bytes_max)])])
        for word, named in {"no such partition": s.named(topic, [part(9, fetch_offset=0)]),
                            "no such topic": s.named(NOBODY, [part(0, fetch_offset=0)]),
                            "the same twice": s.named(topic, [part(0, fetch_offset=0), part(0, fetch_offset=2)])}.items():
            s.ask("Fetch", word, version, min_bytes=0, topics=[named])
        for epoch in (-2, 0, 1, 9):
            s.ask("Fetch", f"leader epoch {epoch}", version, min_bytes=0,
                  topics=[s.named(topic, [part(0, fetch_offset=2, current_leader_epoch=epoch)])])
        for epoch in (-2, 0, 1, 9):
            for offset in (2, 6, 7):
                s.ask("Fetch", f"last fetched epoch {epoch} at {offset}", version, min_bytes=0, topics=[
                    s.named(topic, [part(0, fetch_offset=offset, last_fetched_epoch=epoch)])])
        for session, epoch in ((0, 1), (0, 5), (77, 0), (77, 1), (77, -1), (0, -1), (-1, 1)):
            s.ask("Fetch", f"session {session} at {epoch}", version, min_bytes=0, session_id=session, session_epoch=epoch, topics=[
                s.named(topic, [part(0, fetch_offset=5)])])
        for replica in (0, 1, 5, -2, -3):
            s.ask("Fetch", f"replica {replica}", version, min_bytes=0, replica_id=replica,
                  topics=[s.named(topic, [part(0, fetch_offset=5)])])
    for version in (1, 2, 4, 5, 6, 7, 8, 9, 10, 11):
        for time in (-6, -5, -4, -3, -2, -1, 0, 1, 1000, 3500, 6000, 6001, 2**62):
            for index in (0, 1):
                s.ask("ListOffsets", f"partition {index} at {time}", version, topics=[s.named(topic, [part(index, timestamp=time)])])
        for word, named in {"no such partition": s.named(topic, [part(9, timestamp=-1)]),
                            "no such topic": s.named(NOBODY, [part(0, timestamp=-1)]),
                            "the same twice": s.named(topic, [part(0, timestamp=-1), part(0, timestamp=-2)])}.items():
            s.ask("ListOffsets", word, version, topics=[named])
        for replica in (0, 5, -2, -3):
            s.ask("ListOffsets", f"replica {replica}", version, replica_id=replica, topics=[s.named(topic, [part(0, timestamp=-1)])])
        for epoch in (0, 1, 9):
            s.ask("ListOffsets", f"leader epoch {epoch}", version,
                  topics=[s.named(topic, [part(0, timestamp=-1, current_leader_epoch=epoch)])])
    for epoch in (-1, 0, 1, 9):
        for current in (-1, 0, 1):
            s.ask_all("OffsetForLeaderEpoch", f"epoch {epoch} at {current}", replica_id=-1, topics=[
                s.named(topic, [part(1, leader_epoch=epoch, current_leader_epoch=current)])])
    s.ask_all("OffsetForLeaderEpoch", "no such partition", topics=[s.named(topic, [part(9, leader_epoch=0)])])
    s.ask_all("OffsetForLeaderEpoch", "no such topic", topics=[s.named(NOBODY, [part(0, leader_epoch=0)])])
    s.ask_all("OffsetForLeaderEpoch", "the same twice", topics=[s.named(topic, [part(0, leader_epoch=0), part(0, leader_epoch=0)])])


def deletes(s: Scene):
    """How far records may be deleted, and where."""
    topic, compacted = filled(s, "topic"), s.topic("compacted", 1, cleanup_policy="compact")
    for version in s.apis["DeleteRecords"].turns:
        for offset in (-2, 7, 2**63 - 1, 0, 1):
            for index in (0, 1):
                s.ask("DeleteRecords", f"partition {index} before {offset}", version, topics=[s.named(topic, [part(index, offset=offset)])])
        s.ask("DeleteRecords", "no such partition", version, topics=[s.named(topic, [part(9, offset=0)])])
        s.ask("DeleteRecords", "no such topic", version, topics=[s.named(NOBODY, [part(0, offset=0)])])
        s.ask("DeleteRecords", "compacted", version, topics=[s.named(compacted, [part(0, offset=0)])])
        s.ask("DeleteRecords", "one that is and one that is not", version, topics=[s.named(topic, [part(0, offset=1), part(9, offset=0)])])
    s.ask("DeleteRecords", "all there is", 2, topics=[s.named(topic, [part(0, offset=-1)])])
    s.ask("Fetch", "what is deleted", 12, min_bytes=0, topics=[s.named(topic, [part(0, fetch_offset=0)])])
    s.ask("ListOffsets", "what is deleted", 7, topics=[s.named(topic, [part(0, timestamp=-2)])])


SCENES = {"batches": odd_batches, "sequences": sequences, "reads": reads, "deletes": deletes}
