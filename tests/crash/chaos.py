"""A cluster of three or five nodes under load, to which something else happens every few seconds. In the end nothing that
was promised may be broken. `CHAOS_SEED` repeats what a run has done, `CHAOS_ROUNDS` says how many rounds there are of each
number of nodes, `CHAOS_FROM` with which of them to begin, `CHAOS_FAULTS=a,b` chooses kinds of faults (harness/faults.py),
`CHAOS_KEEP` a directory for what is kept of a round that failed."""

import contextlib
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import tempfile
import time
import traceback

from confluent_kafka import KafkaException

from harness import replicas
from harness.crowd import Churn, Gaps, Members, Timed
from harness.faults import KINDS, Step, World, plan
from harness.load import Watcher, read_all
from harness.mounts import ext4
from harness.network import machines
from harness.nodes import addresses, admin, cluster, create, start_together, topics
from harness.suite import Skipped, equal, eventually, main, test, unique

SEED = os.environ.get("CHAOS_SEED") or str(random.randrange(1 << 32))
ROUNDS = int(os.environ.get("CHAOS_ROUNDS", 1))
FROM = int(os.environ.get("CHAOS_FROM", 1))
CHOSEN = [kind for kind in os.environ.get("CHAOS_FAULTS", "").split(",") if kind]
KEEP = os.environ.get("CHAOS_KEEP")
STEPS = int(os.environ.get("CHAOS_STEPS", 4))
# A cluster lives for so many rounds, then another one is made.
ROUNDS_OF_A_CLUSTER = 4
MIB = 1 << 20
# Small, so that checkpoints happen, and the store has to grow.
SETTINGS = {"millrace.store.journal.bytes": str(4 * MIB), "millrace.store.initial.bytes": str(16 * MIB), "millrace.store.checkpoint.bytes": str(4 * MIB),
            "offsets.topic.num.partitions": "4", "offsets.topic.replication.factor": "3"}
RATE = int(os.environ.get("CHAOS_RATE", 250))
# Of each shard: enough for a round, and little enough to be filled.
DISK_MIB = 96 * max(1, RATE // 250)
NEWCOMERS_RATE = 50
CODECS = ["none", "lz4", "zstd", "snappy", "gzip"]
# What a cluster may take when nothing goes wrong any more; generous, since machines are slow.
CALM_SECONDS = 90
# The longest that one round may take, with everything.
ROUND_SECONDS = 420


def note(text: str):
    for line in text.splitlines():
        print(f"note chaos: {line}", flush=True)


class Broken(Exception):
    """A promise was not kept: each as (topic, partition, offset, what)."""

    def __init__(self, wrong: list[tuple[str, int, int, str]]):
        super().__init__("; ".join(f"{topic}-{partition} at {offset}: {what}" if topic else what for topic, partition, offset, what in wrong[:4])
                         + (f"; and {len(wrong) - 4} more" if len(wrong) > 4 else ""))
        self.wrong = wrong


class Table:
    """The longest times without an acknowledgement, by the fault that was there."""

    def __init__(self):
        self.seen: dict[str, list[tuple[float, float]]] = {}

    def add(self, name: str, gaps: tuple[float, float]):
        self.seen.setdefault(name, []).append(gaps)

    def say(self):
        if self.seen:
            note(f"{'longest time without an acknowledgement, s':44} {'times':>5} {'a partition: median, most':>26} {'all: median, most':>18}")
        for name, gaps in sorted(self.seen.items()):
            one, all_ = zip(*gaps)
            note(f"  {name:42} {len(gaps):5} {statistics.median(one):18.1f} {max(one):7.1f} {statistics.median(all_):10.1f} {max(all_):7.1f}")


class Round:
    """One topic that two producers share and one of another, a group, a reader and an admin client; and faults, with each of
    which comes a further producer."""

    def __init__(self, world: World, rng: random.Random):
        self.world, self.gaps, self.rng = world, Gaps(), rng
        self.topics = {unique("chaos-shared"): 4, unique("chaos-other"): 3}
        shared, other = self.topics
        for topic, partitions in self.topics.items():
            create(world.nodes[0], topic, partitions, 3, 60, min_insync_replicas="2", segment_bytes=str(rng.choice([1, 8, 64]) * MIB))
        address = addresses(world.nodes)
        self.loads: list[Timed] = []
        for topic, codec, rate in [(shared, "none", RATE), (shared, rng.choice(CODECS), RATE), (other, rng.choice(CODECS), RATE)]:
            self.join(topic, codec, rate)
        self.watcher = Watcher(address, shared, self.topics[shared])
        self.members = Members(address, self.topics)
        self.churn = Churn(address, 3)

    def join(self, topic: str, codec: str, rate: int):
        """One more producer."""
        self.loads.append(Timed(self.gaps, len(self.loads), addresses(self.world.nodes), topic, self.topics[topic], rate, **{
            "enable.idempotence": True, "compression.type": codec, "linger.ms": self.rng.choice([0, 3, 20]), "message.timeout.ms": 300_000}))

    def step(self, step: Step, table: Table):
        note(f"  {step}")
        for node in self.world.nodes:
            assert node.alive, f"node {node.number} has ended by itself: {node.process.returncode}"
        needs_calm = any(KINDS[kind].calm for kind, _, _ in step.faults)
        if needs_calm:
            self.calm()
        self.gaps.begin()
        with contextlib.ExitStack() as ends:
            for kind, victim, other in step.faults:
                ends.callback(KINDS[kind].begin(self.world, victim, other))
            # The first batches of a producer are the ones that nobody knows what to expect of.
            self.join(self.rng.choice(list(self.topics)), self.rng.choice(CODECS), NEWCOMERS_RATE)
            time.sleep(step.seconds)
        while self.world.remarks:
            note(f"    {self.world.remarks.pop()}")
        time.sleep(step.pause)
        if step.settles or needs_calm:
            self.calm()
        table.add(step.name, self.gaps.longest())

    def calm(self):
        """All serve, all replicas are in sync, and every producer goes on."""
        for node in self.world.nodes:
            node.start_seconds_max = CALM_SECONDS
            node.wait_ready()
        eventually(lambda: not self.not_in_sync(), CALM_SECONDS, Words(lambda: f"all in sync again: {self.not_in_sync()[:6]}"))
        before = [[len(acked) for acked in load.acked] for load in self.loads]
        eventually(lambda: all(len(acked) > b for load, counts in zip(self.loads, before) for acked, b in zip(load.acked, counts)),
                   CALM_SECONDS, Words(lambda: f"acknowledgements for every partition: {self.silent(before)}"))

    def silent(self, before: list[list[int]]) -> list[str]:
        return [f"producer {load.who}, {load.topic}-{partition}" for load, counts in zip(self.loads, before)
                for partition, (acked, count) in enumerate(zip(load.acked, counts)) if len(acked) <= count]

    def not_in_sync(self) -> list[str]:
        """Partitions of which some node does not say that all replicas are in sync."""
        lacking = []
        for node in self.world.nodes:
            try:
                known = admin(node).list_topics(timeout=10).topics
            except KafkaException as error:
                return [f"node {node.number}: {error}"]
            for topic in known.values():
                for number, partition in topic.partitions.items():
                    if set(partition.isrs) != set(partition.replicas) or partition.leader < 0:
                        lacking.append(f"node {node.number} says {topic.topic}-{number}: leader {partition.leader}, in sync {sorted(partition.isrs)} "
                                       f"of {sorted(partition.replicas)}")
        return lacking

    def end(self):
        """Nothing goes wrong any more, and everybody says what of it is not as he was promised."""
        self.world.network.mend()
        self.calm()
        for load in self.loads:
            load.stop()
        self.churn.end()
        for load in self.loads:
            equal(load._producer.flush(CALM_SECONDS), 0, "records still unacknowledged")
        wrong = []
        address = addresses(self.world.nodes)
        ends = {}
        for topic, partitions in self.topics.items():
            found = read_all(address, topic, partitions, CALM_SECONDS)
            ends |= {(topic, partition): len(numbers) for partition, numbers in enumerate(found)}
            for load in self.loads:
                if load.topic == topic:
                    wrong += [(topic, *what) for what in load.wrong(found)]
        if wrong:
            raise Broken(wrong)
        eventually(lambda: not self.members.behind(ends), CALM_SECONDS, Words(lambda: f"the group reads to the end: {self.members.behind(ends)}"))
        self.members.end()
        wrong += [("", 0, 0, what) for what in self.members.wrong()]
        for node in self.world.nodes:
            wrong += [("", 0, 0, f"node {node.number}: {what}") for what in self.churn.wrong(topics(node))]
        try:
            self.watcher.end(address)
        except AssertionError as error:
            wrong.append(("", 0, 0, f"a reader: {error}"))
        if wrong:
            raise Broken(wrong)
        eventually(lambda: not self.not_in_sync(), CALM_SECONDS, Words(lambda: f"all in sync in the end: {self.not_in_sync()[:6]}"))

    def compare(self):
        """All nodes are stopped at once, their replicas compared, and they start again."""
        stop(self.world)
        with tempfile.TemporaryDirectory(prefix="millrace-chaos-") as out:
            found = exported(self.world, pathlib.Path(out))
        wrong = []
        for name, copies in found.items():
            topic, _, partition = name.rpartition("-")
            if topic in self.topics:
                equal(len(copies), 3, f"copies of {name}")
                wrong += [(topic, int(partition), 0, what) for what in replicas.differences(copies)]
        if wrong:
            raise Broken(wrong)
        start_together(self.world.nodes)

    def clean_up(self):
        self.churn.clean_up()
        client = admin(self.world.nodes[0])
        for waits in client.delete_topics([*self.topics], request_timeout=20).values():
            with contextlib.suppress(KafkaException):
                waits.result(30)

    def abandon(self):
        """Ends everybody, after a failure."""
        for load in self.loads:
            load.stop()
            load._producer.purge()
        for user in (self.watcher, self.members, self.churn):
            user._ending.set()


class Words:
    """What is said only if it has to be."""

    def __init__(self, say):
        self._say = say

    def __str__(self) -> str:
        return self._say()


def stop(world: World):
    """All at once, in order."""
    for node in world.nodes:
        node.process.terminate()
    for node in world.nodes:
        try:
            equal(node.process.wait(CALM_SECONDS), node.stopped_status, f"exit status of node {node.number}")
        except subprocess.TimeoutExpired:
            raise AssertionError(f"node {node.number} does not stop within {CALM_SECONDS} s of SIGTERM") from None


def exported(world: World, out: pathlib.Path) -> dict[str, dict[int, list[replicas.Batch]]]:
    """The batches of each partition, by node."""
    found: dict[str, dict[int, list[replicas.Batch]]] = {}
    for node in world.nodes:
        replicas.export(node.data, out / str(node.number))
        for directory in (out / str(node.number)).iterdir():
            found.setdefault(directory.name, {})[node.number] = replicas.batches(directory)
    return found


def keep(world: World, name: str, words: list[str], broken: Broken | None) -> pathlib.Path:
    """Saves what the nodes have said and what is on their disks, and ends them."""
    place = pathlib.Path(KEEP or tempfile.mkdtemp(prefix="millrace-chaos-kept-")) / name
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for node in world.nodes:
        if node.alive:
            node.kill()
        shutil.copy(node.log_path, place / f"node-{node.number}.log")
    (place / "what.txt").write_text("\n".join(words) + "\n")
    try:
        found = exported(world, place)
    except Exception as error:
        (place / "no-export.txt").write_text(f"{error}\n")
        return place
    lines = []
    for topic, partition, offset, what in broken.wrong if broken else ():
        lines.append(f"{topic}-{partition} at {offset}: {what}")
        for node, copy in found.get(f"{topic}-{partition}", {}).items():
            lines += [f"  node {node}: {batch}" for batch in copy if batch.base - 200 <= offset <= batch.last + 200]
    (place / "batches.txt").write_text("\n".join(lines) + "\n")
    for directory in place.glob("*/chaos-filler*"):
        shutil.rmtree(directory)
    return place


def complaints(world: World, since: dict[int, int]) -> list[str]:
    """What nodes have said of faults of their own since then."""
    said = []
    for node in world.nodes:
        log = node.log_path.read_text(errors="replace")
        said += [f"node {node.number}: {line}" for line in log[since.get(node.number, 0):].splitlines()
                 if "panicked" in line or " ERROR " in line and "the store is full" not in line]
        since[node.number] = len(log)
    return said


def possible(world: World, why_no_disks: str) -> list[str]:
    """The kinds of faults that can be had here; of the others it is said why not."""
    lacking = {"cuts": world.network.why_no_cuts, "slow": world.network.why_not_slow, "disks": None if world.disks else why_no_disks,
               "observers": None if world.observers else "each node of this cluster has a vote"}
    wanted = CHOSEN or list(KINDS)
    for need, why in lacking.items():
        if without := [name for name in wanted if KINDS[name].needs == need and why]:
            note(f"not possible here: {', '.join(without)} ({why})")
    kinds = [name for name in wanted if not lacking.get(KINDS[name].needs)]
    note(f"faults: {', '.join(kinds)}")
    if not kinds:
        raise Skipped("none of these faults is possible here")
    return kinds


def life(count: int, rounds: range, table: Table, failed: list[str]) -> int:
    """One cluster, for so many rounds; how many of them it has had. It ends with the first that fails."""
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(machines(count))
        # The rounds of a cluster have it in common, whichever of them is repeated.
        rng = random.Random(f"{SEED}/{count}/{(rounds[0] - 1) // ROUNDS_OF_A_CLUSTER}")
        shards, observers = rng.randint(1, min(2, os.cpu_count() or 1)), rng.choice([0, max(0, count - 3)])
        disks, why = {}, ""
        try:
            for number in range(1, count + 1):
                disks[number] = stack.enter_context(ext4(DISK_MIB * shards))
        except Skipped as skipped:
            disks, why = {}, " ".join(str(skipped).split())

        def prepare(node):
            node.overrides |= SETTINGS | {"millrace.shards": str(shards)}
            if disks:
                node.data = disks[node.number] / "data"
        world = World(stack.enter_context(cluster(count, network, prepare, observers)), network, disks)
        kinds = possible(world, why)
        since: dict[int, int] = {}
        for done, number in enumerate(rounds, 1):
            words, broken = [f"seed {SEED}, {count} nodes, round {number}"], None
            note(f"round {number} of {count} nodes, {observers} of them without a vote, with {shards} shards, seed {SEED}")
            rng = random.Random(f"{SEED}/{count}/{number}")
            users = None
            try:
                planned = plan(rng, kinds, count, world.observers, STEPS)
                users = Round(world, rng)
                for step in planned:
                    words.append(f"{time.strftime('%T')} {step}")
                    users.step(step, table)
                words.append(f"{time.strftime('%T')} calm")
                users.end()
                users.compare()
                users.clean_up()
                acks = sum(load.acks for load in users.loads)
                note(f"  {acks} records, {users.members.commits} commits, {len(users.churn.gone)} topics made and deleted: all as promised")
            except Exception as error:
                broken = error if isinstance(error, Broken) else None
                words += [f"{time.strftime('%T')} {type(error).__name__}: {error}", traceback.format_exc(), *([str(w) for w in broken.wrong] if broken else [])]
                if users:
                    users.abandon()
                place = keep(world, f"{SEED}-{count}-{number}", words, broken)
                failed.append(f"round {number}: {error}")
                note(f"FAILED {failed[-1]}\n  kept in {place}")
            for line in complaints(world, since)[:5]:
                note(f"  said: {line}")
            if broken or failed and failed[-1].startswith(f"round {number}:"):
                return done
    return len(rounds)


def run(count: int):
    note(f"CHAOS_SEED={SEED} repeats this run")
    table, failed, at = Table(), [], FROM
    try:
        while at < FROM + ROUNDS:
            cluster_ends = at + ROUNDS_OF_A_CLUSTER - (at - 1) % ROUNDS_OF_A_CLUSTER
            at += life(count, range(at, min(cluster_ends, FROM + ROUNDS)), table, failed)
    finally:
        table.say()
    assert not failed, f"{len(failed)} of {ROUNDS} rounds failed (seed {SEED}): {failed[0]}"


@test(seconds=60 + ROUND_SECONDS * ROUNDS)
def three_nodes():
    run(3)


@test(seconds=60 + ROUND_SECONDS * ROUNDS)
def five_nodes():
    run(5)


if __name__ == "__main__":
    main("chaos")
