"""Whose store it is: a start is refused, and nothing written, when a store of the node is missing, older than the others or
somebody else's; put right, it starts again with all records."""

import contextlib
import hashlib
import shutil

from harness.broker import Millrace
from harness.load import Load, make_topic
from harness.suite import equal, main, test, unique

MIB = 1 << 20
SHARDS = 3
SMALL = {"millrace.shards": str(SHARDS), "millrace.store.journal.bytes": str(4 * MIB), "millrace.store.initial.bytes": str(16 * MIB),
         "millrace.store.checkpoint.bytes": str(2 * MIB)}
BAD_DIRECTORY = 73


def loaded(server: Millrace, topic: str) -> Load:
    make_topic(server.address, topic, 2 * SHARDS)
    load = Load(server.address, topic, 2 * SHARDS, rate=2_000)
    while load.acks < 1_000:
        assert not load.errors, load.errors[:3]
    load.end()
    return load


def content(server: Millrace) -> dict[str, str]:
    """All files but the lock, which names the last process that had it."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in server.data.iterdir() if path.name != ".lock"}


def refused(server: Millrace, *said: str):
    before = content(server)
    server.spawn()
    equal(server.process.wait(30), BAD_DIRECTORY, "exit status")
    last = server.log_tail(3)
    for part in said:
        assert part in last, f"{part!r} is not said: {last}"
    equal(content(server), before, "files after a start that was refused")


@contextlib.contextmanager
def stopped(starts: int = 2):
    """A node that was started so often, stopped, and what it had acknowledged."""
    with Millrace(SMALL) as server:
        loads = []
        for number in range(starts):
            if number:
                server.start()
            loads.append(loaded(server, unique(f"identity-{number}")))
            equal(server.stop(), 0, "exit status")
        yield server, loads
        for _ in range(2):
            server.start()
            for load in loads:
                load.verify(server.address)
            server.kill()


@test(seconds=180)
def a_store_that_is_missing_is_not_made_again():
    with stopped() as (server, _):
        for number in range(SHARDS):
            path, aside = server.data / f"store-{number}", server.home / "aside"
            path.rename(aside)
            for shards in (SHARDS, 1):
                server.overrides["millrace.shards"] = str(shards)
                refused(server, str(server.data), f"store-{number} is missing", "put it back" if number else "Put it back")
            server.overrides["millrace.shards"] = str(SHARDS)
            aside.rename(path)


@test(seconds=180)
def an_older_store_among_newer_ones_is_refused():
    with Millrace(SMALL) as server:
        first = loaded(server, unique("identity-old"))
        equal(server.stop(), 0, "exit status")
        old = server.home / "old"
        shutil.copytree(server.data, old)
        server.start()
        second = loaded(server, unique("identity-new"))
        server.kill()
        for number in range(SHARDS):
            path, aside = server.data / f"store-{number}", server.home / "aside"
            path.rename(aside)
            shutil.copy(old / path.name, path)
            refused(server, f"store-{number} is an older copy", "has started 1 times since")
            path.unlink()
            aside.rename(path)
        server.start()
        for load in (first, second):
            load.verify(server.address)
        equal(server.stop(), 0, "exit status")
        # All of one moment belong together.
        for number in range(SHARDS):
            shutil.copy(old / f"store-{number}", server.data)
        server.start()
        first.verify(server.address)


@test(seconds=180)
def a_store_of_another_node_is_refused():
    with stopped() as (server, _), Millrace(SMALL) as other:
        loaded(other, unique("identity-other"))
        equal(other.stop(), 0, "exit status")
        for number in (1, SHARDS):
            path, aside = server.data / f"store-{number}", server.home / "aside"
            if number < SHARDS:
                path.rename(aside)
            shutil.copy(other.data / "store-1", path)
            refused(server, f"store-{number} and store-0 belong to different nodes")
            path.unlink()
            if number < SHARDS:
                aside.rename(path)


@test(seconds=120)
def another_node_id_is_refused():
    with stopped(1) as (server, _):
        server.overrides["node.id"] = "2"
        refused(server, "node.id is 2", "set node.id=1")
        del server.overrides["node.id"]


@test(seconds=120)
def more_shards_and_fewer_keep_what_there_is():
    with stopped(1) as (server, loads):
        for shards in (SHARDS + 2, 1, SHARDS):
            server.overrides["millrace.shards"] = str(shards)
            server.start()
            loads.append(loaded(server, unique(f"identity-{shards}")))
            server.kill()
        equal(len(list(server.data.glob("store-*"))), SHARDS + 2, "stores")
        (server.data / f"store-{SHARDS + 1}").rename(server.home / "aside")
        refused(server, f"store-{SHARDS + 1} is missing")
        (server.home / "aside").rename(server.data / f"store-{SHARDS + 1}")


if __name__ == "__main__":
    main("identity")
