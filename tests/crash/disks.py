"""Disks that are less than one would wish: without O_DIRECT, and smaller than the store may grow. They are mounted for
the test, which takes root."""

import os
import pathlib
import re

from confluent_kafka.admin import AdminClient

from harness.broker import Millrace
from harness.load import QUIET, Load, make_topic
from harness.mounts import ext4, mounted
from harness.suite import Skipped, equal, eventually, main, test, unique

MIB = 1 << 20
SMALL = {"millrace.shards": "1", "millrace.store.journal.bytes": str(4 * MIB), "millrace.store.initial.bytes": str(16 * MIB),
         "millrace.store.checkpoint.bytes": str(4 * MIB)}


def has_direct(place: pathlib.Path) -> bool:
    try:
        os.close(os.open(place / "probe", os.O_RDWR | os.O_CREAT | os.O_DIRECT))
        return True
    except OSError:
        return False
    finally:
        (place / "probe").unlink(missing_ok=True)


def on(place: pathlib.Path, settings: dict[str, str]) -> Millrace:
    server = Millrace(settings)
    server.data = place / "data"
    return server


@test(seconds=120)
def without_o_direct_it_says_so_and_loses_nothing():
    """ramfs has none; tmpfs has had it since Linux 6.6."""
    with mounted("-t", "ramfs", "ramfs") as place:
        if has_direct(place):
            raise Skipped("ramfs takes O_DIRECT on this kernel: there is no filesystem without it to be had")
        with on(place, {**SMALL, "millrace.store.bytes.max": str(128 * MIB)}) as server:
            assert re.search(r"WARN .*no O_DIRECT.*page cache and.*fdatasync", server.log_tail()), server.log_tail()
            topic = unique("disks-buffered")
            make_topic(server.address, topic, 2, segment_bytes=str(MIB))
            load = Load(server.address, topic, 2, rate=8000, **{"enable.idempotence": True})
            for _ in range(3):
                before = load.acks
                eventually(lambda: load.acks > before + 3000, 30, "acknowledgements")
                server.restart()
            load.end()
            load.verify(server.address)
            equal(server.stop(), server.stopped_status, "exit status")
            server.start()
            load.verify(server.address)


def fill(server: Millrace, topic: str) -> Load:
    """Produces until it is refused, and sees to it that the process does not mind."""
    load = Load(server.address, topic, 2, rate=20_000, retries=0)
    eventually(lambda: load.errors, 90, "the disk is full")
    load.stop()
    load._producer.flush(30)
    assert all("KAFKA_STORAGE_ERROR" in error for error in load.errors), load.errors[:3]
    assert server.alive, server.log_tail()
    return load


def takes_again(server: Millrace, topic: str, count: int):
    """So many records are acknowledged within a time in which a store looks for room several times."""
    load = Load(server.address, topic, 1, rate=2000)
    eventually(lambda: load.acks > count, 40, "acknowledgements")
    load.end()
    return load


@test(seconds=240)
def a_disk_that_is_full_before_the_store_is_refuses_and_loses_nothing():
    """Nothing stops the store from growing but the disk. It is as a store that is full: it can be read, killed, started
    and stopped, and what is deleted makes room."""
    with ext4(96) as place, on(place, SMALL) as server:
        topic, other = unique("disks-full"), unique("disks-other")
        make_topic(server.address, topic, 2, segment_bytes=str(MIB))
        make_topic(server.address, other)
        load = fill(server, topic)
        assert load.acks > 10_000, f"only {load.acks} acknowledged before the disk was full"
        assert "no room" in server.log_path.read_text(), server.log_tail()
        load.verify(server.address)
        server.restart()
        load.verify(server.address)
        equal(server.stop(), server.stopped_status, "exit status on the full disk")
        server.start()
        load.verify(server.address)
        admin = AdminClient({"bootstrap.servers": server.address, **QUIET})
        admin.delete_topics([topic])[topic].result(20)
        again = takes_again(server, other, 5000)
        equal(server.stop(), server.stopped_status, "exit status")
        server.start()
        again.verify(server.address)


@test(seconds=180)
def room_that_is_made_on_a_full_disk_is_used():
    """Somebody else filled the disk. When they are gone the store grows, without a restart."""
    with ext4(128) as place:
        ballast = place / "ballast"
        with open(ballast, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, 48 * MIB)
        with on(place, SMALL) as server:
            topic, other = unique("disks-room"), unique("disks-other")
            make_topic(server.address, topic, 2, segment_bytes=str(MIB))
            make_topic(server.address, other)
            load = fill(server, topic)
            size = (place / "data" / "store-0").stat().st_size
            ballast.unlink()
            again = takes_again(server, other, 5000)
            assert (place / "data" / "store-0").stat().st_size > size, "it did not grow"
            load.verify(server.address)
            again.verify(server.address)


if __name__ == "__main__":
    main("disks")
