"""What every client is asked to do, written once: each function is a row of MATRIX.md.

A behaviour gets a `Scene` and raises if something is not as it should be; `Unsupported` comes through from a client that has no such
thing. It may return what was seen, where more than one answer is right: that then stands in the cell and is compared between brokers.
"""

import concurrent.futures
import random
import string
import time

from driver import Driver, Refused
from harness.broker import Broker
from harness.suite import equal

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
# Whatever is waited for.
SECONDS_MAX = 90
# Of one poll.
POLL_SECONDS = 1
BEHAVIOURS = []
# How often an application may make its producer and its consumer anew after the broker was killed once.
ANEW_MAX = 20
# An error without a code of Kafka's.
OF_ITS_OWN = "an error of its own"


class Scene:
    """A client and a broker."""

    def __init__(self, driver: Driver, scene_of):
        """`scene_of` makes another one, with a broker of its own: a context manager that gives the broker and the scene."""
        self.driver, self.own = driver, scene_of
        self.names = 0

    def do(self, verb: str, **fields) -> dict:
        return self.driver.do(verb, **fields)

    def unique(self, prefix: str) -> str:
        return f"{prefix}-{''.join(random.choices(string.ascii_lowercase + string.digits, k=8))}"

    def topic(self, partitions: int = 1, **config: str) -> str:
        """A new topic; made by whoever makes topics for clients that cannot."""
        name = self.unique("conformance")
        self.maker.do("create_topic", topic=name, partitions=partitions, config={k.replace("_", "."): v for k, v in config.items()})
        # Kafka answers when its controller has created it, and for a moment its broker says that there is none.
        until(lambda: name in self.maker.do("topics")["topics"], "the topic is listed")
        return name

    # Who prepares what a client may be unable to do itself; set by the runner.
    maker: Driver

    def produce(self, topic: str, records: list[dict], codec: str = "none", acks: str = "all") -> list[int]:
        return self.do("produce", topic=topic, records=records, codec=codec, acks=acks)["offsets"]

    def poll_some(self, member: str, count: int) -> list[dict]:
        """At least one record, and no more than so many."""
        return until(lambda: self.do("poll", member=member, count=count, seconds=POLL_SECONDS)["records"], "records come")

    def poll(self, member: str, count: int) -> list[dict]:
        """Exactly so many records."""
        got, deadline = [], time.monotonic() + SECONDS_MAX
        while len(got) < count and time.monotonic() < deadline:
            got += self.do("poll", member=member, count=count - len(got), seconds=POLL_SECONDS)["records"]
        equal(len(got), count, "records read")
        return got

    def read(self, topic: str, count: int, start="earliest", reset: str | None = None, committed: bool = False) -> list[dict]:
        """So many records of partition 0; what is done about an offset out of range is left to the client, if `reset` does not say."""
        member = self.unique("reader")
        self.do("open", member=member, topic=topic, start=start, reset=reset, committed=committed)
        try:
            return self.poll(member, count)
        finally:
            self.do("leave", member=member)

    def assigned(self, member: str) -> set[int]:
        told = self.do("poll", member=member, count=1, seconds=0.3)
        equal(told["records"], [], "records of an empty topic")
        return set(told["assigned"])


def until(condition, what: str):
    """Waits until something is so, and returns what it gave."""
    deadline = time.monotonic() + SECONDS_MAX
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {SECONDS_MAX} s: {what}")
        time.sleep(0.1)
    return value


def behaviour(name: str, quick: bool = False, **how):
    """Marks a row of the table; `how` are arguments of the function. `quick` ones are run by `make test`."""
    def mark(function):
        BEHAVIOURS.append((name, quick, lambda scene: function(scene, **how)))
        return function
    return mark


def record(value: str | None, key: str | None = None, **more) -> dict:
    return {"key": key, "value": value, **more}


def some(count: int, prefix: str = "v") -> list[dict]:
    return [record(f"{prefix}{i} " + "again and " * 20, f"k{i}") for i in range(count)]


def pairs(records: list[dict]) -> list[tuple]:
    return [(r["key"], r["value"]) for r in records]


def refusal(call) -> str:
    """The answer of what has to fail, as a cell has it."""
    try:
        told = call()
    except Refused as refused:
        return f"error {refused.code}" if refused.code is not None else OF_ITS_OWN
    raise AssertionError(f"it was not refused: {told!r:.200}")


# Records


def comes_back(scene: Scene, codec: str = "none", acks: str = "all"):
    topic, sent = scene.topic(), some(40)
    offsets = scene.produce(topic, sent, codec, acks)
    got = scene.read(topic, 40)
    equal(pairs(got), pairs(sent), "keys and values")
    equal([r["offset"] for r in got], list(range(40)), "offsets")
    if acks != "0" and offsets:
        equal(offsets, list(range(40)), "offsets that the producer was told")


for codec in CODECS:
    behaviour(f"records, codec {codec}", quick=codec in ("none", "zstd"), codec=codec)(comes_back)
for acks in ["0", "1"]:
    behaviour(f"records, acks={acks}", acks=acks)(comes_back)


@behaviour("keys and values that are null or empty", quick=True)
def nulls_come_back(scene: Scene):
    topic = scene.topic()
    sent = [record("v", None), record(None, "k"), record("", ""), record("ä \u2603", "ö")]
    scene.produce(topic, sent)
    equal(pairs(scene.read(topic, len(sent))), pairs(sent))


@behaviour("headers: twice the same, an empty one", quick=True)
def headers_come_back(scene: Scene):
    topic, headers = scene.topic(), [["a", "1"], ["b", ""], ["a", "2"], ["ü", "3"]]
    scene.produce(topic, [record("v", headers=headers), record("w")])
    equal([r["headers"] for r in scene.read(topic, 2)], [headers, []])


@behaviour("timestamps of the client")
def timestamps_come_back(scene: Scene):
    topic, begin = scene.topic(), int(time.time() * 1000) - 100_000
    scene.produce(topic, [record("v", timestamp=begin + at) for at in (0, 2000, 1000)])
    equal([r["timestamp"] - begin for r in scene.read(topic, 3)], [0, 2000, 1000])


@behaviour("timestamps of the broker (LogAppendTime)")
def timestamps_are_given(scene: Scene):
    topic = scene.topic(message_timestamp_type="LogAppendTime")
    before = int(time.time() * 1000)
    scene.produce(topic, [record("v", timestamp=before - 50_000)])
    at = scene.read(topic, 1)[0]["timestamp"]
    assert before <= at <= int(time.time() * 1000), f"{at - before} ms after it was sent"


@behaviour("an offset by time")
def offsets_are_found_by_time(scene: Scene):
    topic, begin = scene.topic(), int(time.time() * 1000) - 100_000
    scene.maker.do("produce", topic=topic, records=[record("v", timestamp=begin + 1000 * at) for at in range(10)], codec="none", acks="all")
    equal(scene.do("offset_at", topic=topic, timestamp=begin + 6500)["offset"], 7)
    equal(scene.do("offset_at", topic=topic, timestamp=begin)["offset"], 0)


@behaviour("from an offset in the middle")
def reads_begin_anywhere(scene: Scene):
    topic = scene.topic()
    scene.produce(topic, some(30))
    equal([r["offset"] for r in scene.read(topic, 13, start=17)], list(range(17, 30)))


@behaviour("a compacted topic: gaps in offsets")
def compacted_topics_are_read(scene: Scene):
    topic = scene.compacted
    sent = scene.compacted_records
    got = scene.read(topic, len(sent))
    equal([(r["offset"], r["key"], r["value"]) for r in got], sent)


def compact(maker: Driver, name: str) -> list[tuple]:
    """Makes a topic and waits until its first records are gone; what is left: 6 records of 46."""
    maker.do("create_topic", topic=name, partitions=1, config={
        "cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.001", "segment.ms": "1000", "min.compaction.lag.ms": "0",
        "max.compaction.lag.ms": "1000"})
    for at in range(45):
        maker.do("produce", topic=name, records=[record(f"v{at}", f"k{at % 5}")], codec="none", acks="all")
    offset, left = 45, []

    def compacted() -> bool:
        # What is written closes the segment before; itself it is not compacted.
        nonlocal offset, left
        maker.do("produce", topic=name, records=[record(f"v{offset}", "last")], codec="none", acks="all")
        offset += 1
        left = []
        maker.do("open", member="compact", topic=name, start="earliest", reset=None, committed=False)
        while not left or left[-1]["offset"] < offset - 1:
            left += maker.do("poll", member="compact", count=100, seconds=POLL_SECONDS)["records"]
        maker.do("leave", member="compact")
        time.sleep(1.1)
        return left[0]["offset"] >= 40
    until(compacted, "the topic is compacted")
    return [(r["offset"], r["key"], r["value"]) for r in left]


# Groups


def members_share(scene: Scene, protocol: str):
    topic, group = scene.topic(4), scene.unique("group")
    everything = {0, 1, 2, 3}
    scene.do("join", member="a", group=group, topic=topic, protocol=protocol)
    until(lambda: scene.assigned("a") == everything, "the first member has all partitions")
    scene.do("join", member="b", group=group, topic=topic, protocol=protocol)

    def shared() -> bool:
        a, b = scene.assigned("a"), scene.assigned("b")
        return bool(a and b) and not a & b and a | b == everything
    until(shared, "two members share the partitions")
    scene.do("leave", member="a")
    until(lambda: scene.assigned("b") == everything, "who is left has all partitions")
    scene.maker.do("produce", topic=topic, records=[record(f"v{i}", "k", partition=i % 4) for i in range(20)], codec="none", acks="all")
    equal(sorted(r["value"] for r in scene.poll("b", 20)), sorted(f"v{i}" for i in range(20)))
    scene.do("leave", member="b")


def commits_are_kept(scene: Scene, protocol: str):
    topic, group = scene.topic(), scene.unique("group")
    scene.maker.do("produce", topic=topic, records=some(20), codec="none", acks="all")
    scene.do("join", member="a", group=group, topic=topic, protocol=protocol)
    equal([r["offset"] for r in scene.poll("a", 8)], list(range(8)))
    scene.do("commit", member="a")
    scene.do("leave", member="a")
    scene.do("join", member="b", group=group, topic=topic, protocol=protocol)
    equal([r["offset"] for r in scene.poll("b", 12)], list(range(8, 20)))
    scene.do("leave", member="b")


for protocol in ["classic", "consumer"]:
    behaviour(f"a {protocol} group: members come and go", quick=protocol == "consumer", protocol=protocol)(members_share)
    behaviour(f"a {protocol} group: commit, leave, resume", quick=protocol == "classic", protocol=protocol)(commits_are_kept)


# Transactions


@behaviour("transactions: what is aborted is not seen")
def aborted_records_are_unseen(scene: Scene):
    topic, name = scene.topic(), scene.unique("txn")
    scene.do("txn_open", id=name)
    for value, end in [("a", "txn_commit"), ("b", "txn_abort"), ("c", "txn_commit")]:
        scene.do("txn_begin", id=name)
        scene.do("txn_send", id=name, topic=topic, records=[record(f"{value}{i}") for i in range(3)])
        scene.do(end, id=name)
    scene.do("txn_close", id=name)
    equal([r["value"] for r in scene.read(topic, 6, committed=True)], ["a0", "a1", "a2", "c0", "c1", "c2"])
    equal(len(scene.read(topic, 9)), 9)


@behaviour("an exactly-once copy, kill -9 of the broker within", quick=True)
def copies_are_exact(scene: Scene):
    with scene.own() as (broker, own):
        copy_exactly(own, broker, records=120, killed_at=5)


def copy_exactly(scene: Scene, broker: Broker, records: int, killed_at: int):
    source, copy, name = scene.topic(), scene.topic(), scene.unique("copy")
    scene.maker.do("produce", topic=source, records=some(records), codec="none", acks="all")
    position = transactions = made_anew = 0
    opened = False
    while position < records:
        try:
            if not opened:
                scene.do("txn_open", id=name)
                scene.do("join", member="copier", group=name, topic=source, protocol="classic", producer=name)
                opened = True
            batch = scene.poll_some("copier", 10)
            scene.do("txn_begin", id=name)
            scene.do("txn_send", id=name, topic=copy, records=[record(r["value"], r["key"]) for r in batch])
            scene.do("txn_offsets", id=name, member="copier", group=name)
            transactions += 1
            commit_while(scene, name, broker.restart if transactions == killed_at else None)
            position = batch[-1]["offset"] + 1
        except Refused:
            # As every application does: what has become of the transaction is not known, so all is made anew.
            made_anew += 1
            if transactions < killed_at or made_anew > ANEW_MAX:
                raise
            for verb, which in [("txn_close", {"id": name}), ("leave", {"member": "copier"})]:
                try:
                    scene.do(verb, **which)
                except Refused:
                    pass
            opened = False
    got = scene.read(copy, records, committed=True)
    # Keys alone say what is missing or twice there.
    equal([r["key"] for r in got], [f"k{i}" for i in range(records)], "the copy")
    equal(pairs(got), pairs(some(records)), "the copy")
    scene.do("txn_close", id=name)
    scene.do("leave", member="copier")


def commit_while(scene: Scene, name: str, something):
    """Commits a transaction, and meanwhile does something."""
    if something is None:
        scene.do("txn_commit", id=name)
        return
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        # The broker is started here: it ends with the thread that starts it.
        committed = pool.submit(scene.do, "txn_commit", id=name)
        something()
        committed.result()


# Administration


@behaviour("topics are created, listed, described, deleted", quick=True)
def topics_live_and_die(scene: Scene):
    name = scene.unique("conformance")
    scene.do("create_topic", topic=name, partitions=3, config={"retention.ms": "3600000"})
    assert name in scene.do("topics")["topics"], "it is not listed"
    equal(scene.do("describe_topic", topic=name)["partitions"], 3)
    again = refusal(lambda: scene.do("create_topic", topic=name, partitions=3, config={}))
    assert again in ("error 36", OF_ITS_OWN), f"created again: {again}"
    scene.do("delete_topic", topic=name)
    until(lambda: name not in scene.do("topics")["topics"], "it is gone")


@behaviour("settings are described and altered")
def settings_are_altered(scene: Scene):
    topic = scene.topic(retention_ms="3600000")
    equal(scene.do("describe_config", topic=topic)["config"]["retention.ms"], "3600000")
    scene.do("alter_config", topic=topic, config={"retention.ms": "7200000"})
    until(lambda: scene.do("describe_config", topic=topic)["config"]["retention.ms"] == "7200000", "it is altered")


@behaviour("partitions are added")
def partitions_are_added(scene: Scene):
    topic = scene.topic(2)
    scene.do("add_partitions", topic=topic, count=5)
    until(lambda: scene.do("describe_topic", topic=topic)["partitions"] == 5, "there are five")


@behaviour("records are deleted")
def records_are_deleted(scene: Scene):
    topic = scene.topic()
    scene.maker.do("produce", topic=topic, records=some(10), codec="none", acks="all")
    scene.do("delete_records", topic=topic, partition=0, before=6)
    equal([r["offset"] for r in scene.read(topic, 4)], [6, 7, 8, 9])


# Errors


@behaviour("error: produce to an unknown topic")
def unknown_topics_take_nothing(scene: Scene):
    return refusal(lambda: scene.produce(scene.unique("unknown"), some(1)))


@behaviour("error: describe an unknown topic")
def unknown_topics_are_not_described(scene: Scene):
    return refusal(lambda: scene.do("describe_topic", topic=scene.unique("unknown")))


@behaviour("error: a record that is too large", quick=True)
def large_records_are_refused(scene: Scene):
    topic = scene.topic(max_message_bytes="100000")
    seen = refusal(lambda: scene.produce(topic, [record("".join(random.choices(string.ascii_letters, k=200_000)))]))
    scene.produce(topic, some(1))
    equal(len(scene.read(topic, 1)), 1, "what came after it")
    return seen


@behaviour("error: an offset out of range, auto.offset.reset=none")
def offsets_out_of_range_are_refused(scene: Scene):
    topic = scene.topic()
    scene.maker.do("produce", topic=topic, records=some(10), codec="none", acks="all")
    return refusal(lambda: scene.read(topic, 1, start=1000, reset="none"))


@behaviour("an offset out of range, auto.offset.reset=earliest", quick=True)
def offsets_are_reset_to_the_first(scene: Scene):
    topic = scene.topic()
    scene.maker.do("produce", topic=topic, records=some(10), codec="none", acks="all")
    equal(scene.read(topic, 1, start=1000, reset="earliest")[0]["offset"], 0)


@behaviour("an offset out of range, auto.offset.reset=latest")
def offsets_are_reset_to_the_last(scene: Scene):
    topic = scene.topic()
    scene.maker.do("produce", topic=topic, records=some(10), codec="none", acks="all")
    scene.do("open", member="late", topic=topic, start=1000, reset="latest", committed=False)
    got = []

    def came() -> bool:
        # It is not told when it has been reset, only what comes after that.
        scene.maker.do("produce", topic=topic, records=some(1), codec="none", acks="all")
        got.extend(scene.do("poll", member="late", count=1, seconds=POLL_SECONDS)["records"])
        return bool(got)
    until(came, "a later record comes")
    scene.do("leave", member="late")
    assert 10 <= got[0]["offset"] < 1000, got
