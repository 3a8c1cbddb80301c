"""Stores on raw block devices: loop devices, made for the test, which takes root and a machine that has them."""

import contextlib
import os
import pathlib
import subprocess

from harness import paths
from harness.broker import Millrace
from harness.load import Load, make_topic
from harness.mounts import loop_device, run
from harness.suite import equal, eventually, main, test, unique

MIB = 1 << 20
SMALL = {"millrace.store.journal.bytes": str(4 * MIB), "millrace.store.initial.bytes": str(16 * MIB),
         "millrace.store.checkpoint.bytes": str(4 * MIB)}
BAD_CONFIG = 78


def millracectl(*args: str) -> subprocess.CompletedProcess:
    return subprocess.run([paths.binary("millracectl"), *args], capture_output=True, text=True, timeout=60)


def on(*devices: str) -> Millrace:
    shards = str(len(devices))
    return Millrace({**SMALL, "millrace.shards": shards, "millrace.store.devices": ",".join(devices)})


@contextlib.contextmanager
def started_by_hand(server: Millrace):
    """As `with server`, but it does not run yet."""
    try:
        yield server
    finally:
        server.__exit__(None, None, None)


def refused(server: Millrace) -> str:
    """Why the broker does not start."""
    server.spawn()
    equal(server.process.wait(30), BAD_CONFIG, "exit status")
    return server.log_tail()


def topics_of(server: Millrace) -> str:
    """What `ls` says about the stores of a broker that does not run."""
    said = millracectl("store", "ls", str(server.data))
    equal(said.returncode, 0, said.stderr)
    return said.stdout


def loaded(server: Millrace, topic: str, kills: int):
    """Load through several kills; every acknowledged record is there afterwards."""
    make_topic(server.address, topic, 4, segment_bytes=str(MIB))
    load = Load(server.address, topic, 4, rate=8000, **{"enable.idempotence": True})
    for _ in range(kills):
        before = load.acks
        eventually(lambda: load.acks > before + 4000, 30, "acknowledgements")
        server.restart()
    load.stop()
    load._producer.flush(60)
    load.verify(server.address)


@test(seconds=180)
def stores_on_devices_survive_kills_and_are_looked_into():
    with loop_device() as one, loop_device() as two, on(one, two) as server:
        loaded(server, unique("devices"), 4)
        equal([os.readlink(server.data / f"store-{n}") for n in range(2)], [one, two], "links")
        # The devices are in use: nobody else gets them.
        said = millracectl("store", "format", "--erase", one)
        assert said.returncode != 0 and "busy" in said.stderr.lower(), said
        # The links alone tell where the stores are.
        del server.overrides["millrace.store.devices"]
        server.restart()
        equal(server.stop(), 0, "exit status")
        assert "devices" in topics_of(server), topics_of(server)
        said = millracectl("store", "check", str(server.data))
        assert said.returncode == 0 and "everything is whole" in said.stdout, said
        out = server.home / "export"
        said = millracectl("store", "export", str(server.data), str(out))
        equal(said.returncode, 0, f"export: {said.stderr}")
        assert list(out.glob("devices*/*.log")), "nothing was exported"
        equal((os.stat(server.data).st_dev, sum(f.stat().st_size for f in server.data.iterdir() if not f.is_symlink()) < MIB),
              (os.stat(server.home).st_dev, True), "what is in the data directory besides")


@test(seconds=120)
def a_store_that_was_on_a_device_before_is_gone():
    """The device is made blank at its ends only: what lies between is all still there."""
    with loop_device() as device:
        for kills in (1, 2):
            with on(device) as server:
                loaded(server, unique(f"devices-{kills}"), kills)
                equal(server.stop(), 0, "exit status")
                equal([f"devices-{n}" in topics_of(server) for n in (1, 2)], [n == kills for n in (1, 2)], "topics of each run")
            said = millracectl("store", "format", device)
            assert said.returncode != 0 and "holds a store" in said.stderr and "--erase" in said.stderr, said
            equal(millracectl("store", "format", "--erase", device).returncode, 0, "exit status of format")
            assert "is blank" in millracectl("store", "format", device).stdout


@test(seconds=60)
def a_device_that_holds_something_else_is_refused_and_left_alone():
    with loop_device() as device:
        run("mkfs.ext4", "-q", "-F", device)
        before = pathlib.Path(device).read_bytes()
        with started_by_hand(on(device)) as server:
            said = refused(server)
            assert "an ext2, ext3 or ext4 filesystem" in said and f"millracectl store format --erase {device}" in said, said
            assert not (server.data / "store-0").is_symlink()
            assert pathlib.Path(device).read_bytes() == before, "the device was written to"
            said = millracectl("store", "format", "--erase", device)
            equal(said.returncode, 0, said.stderr)
            server.start()


@test(seconds=60)
def a_device_that_is_gone_is_not_replaced_by_a_file():
    with started_by_hand(on("/dev/there-is-none")) as server:
        assert "cannot read /dev/there-is-none" in refused(server)
    with loop_device() as device, on(device) as server:
        equal(server.stop(), 0, "exit status")
        (server.data / "store-0").unlink()
        (server.data / "store-0").symlink_to("/dev/there-is-none")
        del server.overrides["millrace.store.devices"]
        server.spawn()
        assert server.process.wait(30) != 0
        assert "cannot open" in server.log_tail(), server.log_tail()
        assert (server.data / "store-0").is_symlink(), "the link was replaced"


if __name__ == "__main__":
    main("devices")
