"""What can go wrong with the nodes of a cluster, one fault a row of `KINDS`; and plans of faults, drawn from a seed."""

import contextlib
import os
import pathlib
import random
import signal
import threading
from typing import Callable, NamedTuple

from confluent_kafka import KafkaException, Producer

from .load import QUIET, patiently
from .network import CLIENTS
from .nodes import Node, Observer, addresses, admin, create
from .suite import eventually, unique

# Left free on a full disk: the filesystem wants a little for itself.
FREE_BYTES = 64 << 10
# Written while a disk is full, so that its node has to notice.
FILLER_BYTES = 100_000
DELETE_SECONDS = 60
# What a stop may take on a slow machine.
STOP_SECONDS = 90
FILLER_SETTINGS = {"acks": "1", "retries": 0, "message.timeout.ms": 4000, "queue.buffering.max.kbytes": 8192}


class World:
    """The nodes and what is around them."""

    def __init__(self, nodes: list[Node], network, disks: dict[int, pathlib.Path]):
        self.nodes, self.network, self.disks = nodes, network, disks
        # What is to be said of the faults that there were.
        self.remarks: list[str] = []

    @property
    def observers(self) -> list[int]:
        """Those without a vote."""
        return [node.number for node in self.nodes if isinstance(node, Observer)]

    def node(self, number: int) -> Node:
        return self.nodes[number - 1]

    def others(self, number: int) -> list[int]:
        return [node.number for node in self.nodes if node.number != number]


# Begins the fault and returns what ends it. `other` is another node than the victim.
Begin = Callable[[World, int, int], Callable[[], None]]


def killed(world: World, victim: int, _: int):
    node = world.node(victim)
    node.kill()
    return node.spawn


def killed_twice(world: World, victim: int, _: int):
    """Once more while it starts."""
    node = world.node(victim)
    node.kill()
    node.spawn()

    def end():
        node.kill()
        node.spawn()
    return end


def all_killed(world: World, victim: int, other: int):
    """One after the other, and they come back in another order."""
    for number in [victim, *world.others(victim)]:
        world.node(number).kill()

    def end():
        for number in [other, *world.others(other)]:
            world.node(number).spawn()
    return end


def most_killed(world: World, victim: int, _: int):
    """All but the victim: who is left has no quorum."""
    dead = [world.node(number) for number in world.others(victim)]
    for node in dead:
        node.kill()

    def end():
        for node in dead:
            node.spawn()
    return end


def paused(world: World, victim: int, _: int):
    process = world.node(victim).process
    process.send_signal(signal.SIGSTOP)
    return lambda: process.send_signal(signal.SIGCONT)


def all_paused(world: World, *_):
    """One after the other, as when the machine beneath them all stands still."""
    for node in world.nodes:
        node.process.send_signal(signal.SIGSTOP)

    def end():
        for node in world.nodes:
            node.process.send_signal(signal.SIGCONT)
    return end


def restarted(world: World, victim: int, _: int):
    node = world.node(victim)
    node.stop(STOP_SECONDS)
    return node.spawn


def rolling(world: World, *_):
    """Each in turn; the next one when this one serves."""
    for node in world.nodes:
        node.stop(STOP_SECONDS)
        node.start()
    return lambda: None


def cut(*ways: Callable[[World, int, int], list[tuple[int, int]]]) -> Begin:
    """Shuts these ways (sender, receiver)."""
    def begin(world: World, victim: int, other: int):
        for way in ways:
            for sender, receiver in way(world, victim, other):
                world.network.cut(sender, receiver)
        return world.network.mend
    return begin


def to_peers(world: World, victim: int, _: int):
    return [(victim, other) for other in world.others(victim)]


def from_peers(world: World, victim: int, _: int):
    return [(other, victim) for other in world.others(victim)]


def clients(_: World, victim: int, __: int):
    return [(CLIENTS, victim), (victim, CLIENTS)]


def there(_: World, victim: int, other: int):
    return [(victim, other)]


def back(_: World, victim: int, other: int):
    return [(other, victim)]


def slow(world: World, victim: int, _: int):
    world.network.slow(victim)
    return world.network.mend


class Filler:
    """Writes large records of no interest until they are refused for want of room."""

    def __init__(self, world: World, victim: int):
        self._world, self._node, self.topic = world, world.node(victim), unique("chaos-filler")
        self.is_full = False
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        with contextlib.suppress(KafkaException):
            create(self._world.node(self._world.others(self._node.number)[0]), self.topic, 6, 3, 5)
        producer = Producer({"bootstrap.servers": addresses(self._world.nodes), **FILLER_SETTINGS, **QUIET})
        value = os.urandom(FILLER_BYTES)
        while not self._ending.is_set() and not self.is_full:
            try:
                producer.produce(self.topic, value, on_delivery=self._delivered)
                producer.poll(0)
            except BufferError:
                producer.poll(0.01)
        producer.purge()
        producer.flush(1)

    def _delivered(self, error, _):
        self.is_full |= error is not None and error.name() == "KAFKA_STORAGE_ERROR"

    def end(self):
        """Nothing of it is left."""
        self._ending.set()
        self._thread.join()
        client = admin(self._world.nodes[0])

        def delete():
            with contextlib.suppress(KafkaException):
                client.delete_topics([self.topic], request_timeout=10)[self.topic].result(15)
            return self.topic not in client.list_topics(timeout=10).topics
        patiently(lambda: eventually(delete, DELETE_SECONDS, f"{self.topic} is deleted"), DELETE_SECONDS)


def full(world: World, victim: int, _: int):
    """Somebody else fills the disk, while more is written than ever."""
    ballast = world.disks[victim] / "ballast"
    filler = Filler(world, victim)
    with open(ballast, "wb") as file:
        for _ in range(10):
            free = os.statvfs(world.disks[victim])
            with contextlib.suppress(OSError):  # The store grows meanwhile.
                os.posix_fallocate(file.fileno(), 0, max(1, free.f_bavail * free.f_frsize - FREE_BYTES))
                break

    def end():
        ballast.unlink()
        filler.end()
        if not filler.is_full:
            world.remarks.append(f"the store of node {victim} had room left")
    return end


def wiped(world: World, victim: int, _: int):
    """It comes back with an empty disk."""
    node = world.node(victim)
    node.kill()
    for store in node.data.iterdir():
        store.unlink()
    return node.spawn


class Kind(NamedTuple):
    """A kind of fault: what begins it, what it needs (`cuts`, `slow`, `disks`, `observers`, or nothing), how often it is drawn,
    the longest time that it lasts, in seconds, whether nothing else happens with it, and whether it has to find everything in
    sync, and the next one, too."""

    begin: Begin
    needs: str = ""
    weight: int = 2
    seconds: float = 5
    alone: bool = False
    calm: bool = False


KINDS = {
    "killed": Kind(killed, weight=4),
    "killed-twice": Kind(killed_twice, weight=2, seconds=1),
    "all-killed": Kind(all_killed, seconds=1, alone=True),
    "most-killed": Kind(most_killed, seconds=3, alone=True),
    "paused": Kind(paused, weight=4, seconds=8),
    "all-paused": Kind(all_paused, weight=1, alone=True),
    "restarted": Kind(restarted),
    "rolling": Kind(rolling, weight=1, seconds=0, alone=True),
    "cut-off": Kind(cut(to_peers, from_peers, clients), "cuts", weight=3, seconds=8),
    "cut-from-peers": Kind(cut(to_peers, from_peers), "cuts", weight=3, seconds=8),
    "deaf": Kind(cut(from_peers), "cuts", seconds=8),
    "mute": Kind(cut(to_peers), "cuts", seconds=8),
    "pair-cut": Kind(cut(there, back), "cuts", weight=3, seconds=8),
    "one-way-cut": Kind(cut(there), "cuts", weight=3, seconds=8),
    "clients-cut": Kind(cut(clients), "cuts", weight=1),
    "slow-link": Kind(slow, "slow", seconds=8),
    "full-disk": Kind(full, "disks", seconds=10),
    # A voter that has lost its disk is none any more, and does not come back. Who has a copy that counts must not lose it
    # while the others are behind.
    "wiped": Kind(wiped, "observers", seconds=4, alone=True, calm=True),
}


class Step(NamedTuple):
    """Faults that are there together, each with its victim and another node; for so long; and the time behind it. Whether the
    next step waits until all replicas are in sync again."""

    faults: list[tuple[str, int, int]]
    seconds: float
    pause: float
    settles: bool

    @property
    def name(self) -> str:
        return "+".join(kind for kind, _, _ in self.faults)

    def __str__(self) -> str:
        faults = " and ".join(f"{kind} {victim}" + (f" ({victim}, {other})" if "way" in kind or "pair" in kind else "") for kind, victim, other in self.faults)
        return f"{faults} for {self.seconds:.1f} s, then {self.pause:.1f} s" + (", all in sync" if self.settles else "")


def plan(rng: random.Random, kinds: list[str], nodes: int, observers: list[int], steps: int) -> list[Step]:
    """So many steps, of these kinds."""
    weights = [KINDS[kind].weight for kind in kinds]
    planned = []
    for _ in range(steps):
        chosen = rng.choices(kinds, weights)
        if not KINDS[chosen[0]].alone and rng.random() < 0.2:
            chosen += [kind for kind in rng.choices(kinds, weights) if not KINDS[kind].alone]
        victims = [rng.choice(observers)] if KINDS[chosen[0]].needs == "observers" else rng.sample(range(1, nodes + 1), len(chosen))
        faults = [(kind, victim, rng.choice([n for n in range(1, nodes + 1) if n != victim])) for kind, victim in zip(chosen, victims)]
        longest = max(KINDS[kind].seconds for kind in chosen)
        seconds = rng.uniform(0.1, 0.9) if rng.random() < 0.3 else rng.uniform(min(1, longest), longest)
        planned.append(Step(faults, min(seconds, longest), rng.choice([0.1, 1, 2, 3]), rng.random() < 0.5))
    return planned
