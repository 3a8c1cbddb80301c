"""Everybody who uses a cluster at once: producers who share a topic, a group that reads it, one who creates and deletes
topics. Each remembers what he was promised, and says at the end what of it is not so."""

import contextlib
import os
import threading
import time

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from .load import QUIET, Load, patiently
from .suite import unique

# A client waits a minute for a node that says nothing; meanwhile what is for it fills the client's memory.
IMPATIENT = {"socket.timeout.ms": 4000, "request.timeout.ms": 3000}
# Records of a producer in a partition: its numbers begin with so many times its own number.
SPAN = 1 << 32
# How long somebody may take to end.
ENDING_SECONDS_MAX = 60


# What producers and members of a group say of themselves on standard error, for whoever hunts a fault: "cgrp,eos", for example.
DEBUGGED = {"debug": os.environ["CHAOS_CLIENT_DEBUG"], "log_level": 7} if "CHAOS_CLIENT_DEBUG" in os.environ else {}


class Gaps:
    """The longest time without an acknowledgement since a moment: of one partition, and of all of them."""

    def __init__(self):
        self._last: dict[tuple[str, int], float] = {}
        self._longest: dict[tuple[str, int], float] = {}
        self._lock = threading.Lock()

    def saw(self, *partition):
        now = time.monotonic()
        with self._lock:
            for key in (partition, ("all", 0)):
                self._longest[key] = max(self._longest.get(key, 0), now - self._last.get(key, now))
                self._last[key] = now

    def begin(self):
        """Forgets what was before."""
        now = time.monotonic()
        with self._lock:
            self._last = dict.fromkeys(self._last, now)
            self._longest = dict.fromkeys(self._last, 0)

    def longest(self) -> tuple[float, float]:
        """Of any one partition; of all together. What still waits counts."""
        now = time.monotonic()
        with self._lock:
            gaps = {key: max(self._longest.get(key, 0), now - last) for key, last in self._last.items()}
        return max(gaps.values(), default=0), gaps.get(("all", 0), 0)


class Timed(Load):
    """A load that says when it was answered. Several write to one topic."""

    def __init__(self, gaps: Gaps, who: int, *args, **config):
        self._gaps, self.who = gaps, who
        super().__init__(*args, first=who * SPAN, **IMPATIENT, **DEBUGGED, **config)

    def acknowledged(self, partition: int):
        self._gaps.saw(self.topic, partition)

    def wrong(self, found: list[list[int]]) -> list[tuple[int, int, str]]:
        """What is not as promised: partition, offset, and what it is."""
        wrong = []
        for error in self.errors[:3]:
            wrong.append((0, 0, f"a delivery of producer {self.who} failed: {error}"))
        for partition, numbers in enumerate(found):
            mine = [(offset, n - self.first) for offset, n in enumerate(numbers) if n // SPAN == self.who]
            there: dict[int, int] = {}
            last = -1
            for offset, number in mine:
                what = f"producer {self.who}: record {number}"
                if number >= self.sent[partition]:
                    wrong.append((partition, offset, f"{what} was never sent"))
                elif number in there:
                    wrong.append((partition, offset, f"{what} is a duplicate of the one at offset {there[number]}"))
                elif number < last:
                    wrong.append((partition, offset, f"{what} comes after {last}"))
                there.setdefault(number, offset)
                last = max(last, number)
            for number, offset in self.acked[partition].items():
                number -= self.first
                if number not in there:
                    wrong.append((partition, offset, f"producer {self.who}: record {number}, acknowledged at this offset, is lost"))
                elif 0 <= offset != there[number]:
                    wrong.append((partition, offset, f"producer {self.who}: record {number}, acknowledged at this offset, is at {there[number]}"))
        return wrong


class Members:
    """A group of consumers: what it was told that it has committed never goes back."""

    def __init__(self, address: str, topics: dict[str, int], count: int = 2):
        self.address, self.topics, self.group = address, topics, unique("chaos-group")
        self.committed: dict[tuple[str, int], int] = {}
        # Those that nobody has answered may have happened, and may happen late.
        self.unsure: dict[tuple[str, int], set[int]] = {}
        self.failures: list[str] = []
        self.commits = 0
        self._lock, self._ending = threading.Lock(), threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True, name=f"member-{number}") for number in range(1, count + 1)]
        # What each waits for, and since when.
        self._doing: dict[str, tuple[str, float]] = {}
        for thread in self._threads:
            thread.start()

    def _run(self):
        member = Consumer({"bootstrap.servers": self.address, "group.id": self.group, "enable.auto.commit": False, "auto.offset.reset": "earliest",
                           "session.timeout.ms": 8000, "heartbeat.interval.ms": 1000, "socket.timeout.ms": 10_000, "on_commit": self._committed,
                           **QUIET, **DEBUGGED})
        member.subscribe(list(self.topics))
        while not self._ending.is_set():
            marks = {}
            self._does("consume")
            for message in member.consume(200, 0.3):
                if not message.error():
                    marks[message.topic(), message.partition()] = message.offset() + 1
            if marks:
                # Who waits for the answer may wait for ten minutes: if its coordinator is gone, and found again before the
                # client puts the commit off until that is found, librdkafka looks for it so seldom.
                self._does(f"commit {marks}")
                with contextlib.suppress(KafkaException):
                    member.commit(offsets=[TopicPartition(*key, offset) for key, offset in marks.items()])
        self._does("close")
        member.close()

    def _does(self, what: str):
        self._doing[threading.current_thread().name] = what, time.monotonic()

    def _committed(self, error, marks: list[TopicPartition]):
        """What has become of a commit."""
        if error:
            self.failures.append(error.name())
        with self._lock:
            self.commits += not error
            for mark in marks:
                key = mark.topic, mark.partition
                if error or mark.error:
                    self.unsure.setdefault(key, set()).add(mark.offset)
                else:
                    self.committed[key] = max(self.committed.get(key, 0), mark.offset)

    def behind(self, ends: dict[tuple[str, int], int]) -> list[str]:
        """Where it has not committed as much as there is."""
        return [f"{topic}-{partition}: {self.committed.get((topic, partition), 0)} of {end}" for (topic, partition), end in ends.items()
                if self.committed.get((topic, partition), 0) < end]

    def end(self):
        """No member is left."""
        self._ending.set()
        for thread in self._threads:
            thread.join(ENDING_SECONDS_MAX)
        now = time.monotonic()
        left = [f"{thread.name}, in {self._doing[thread.name][0]} for {now - self._doing[thread.name][1]:.0f} s"
                for thread in self._threads if thread.is_alive()]
        assert not left, f"of the group {self.group} do not come to an end: {'; '.join(left)}"

    def wrong(self) -> list[str]:
        """Committed offsets that have gone back."""
        asker = Consumer({"bootstrap.servers": self.address, "group.id": self.group, **QUIET})
        wanted = [TopicPartition(topic, partition) for topic, partitions in self.topics.items() for partition in range(partitions)]
        found = {(mark.topic, mark.partition): mark.offset for mark in patiently(lambda: asker.committed(wanted, timeout=20), 60)}
        asker.close()
        wrong = []
        for key, offset in self.committed.items():
            if found[key] < offset:
                late = " (by a commit that was not answered)" if found[key] in self.unsure.get(key, ()) else ""
                wrong.append(f"the group {self.group} had committed {offset} of {key[0]}-{key[1]}, and {found[key]} is what there is{late}")
        return wrong


class Churn:
    """An admin client that creates topics, and deletes most of them again."""

    def __init__(self, address: str, replicas: int, pause: float = 0.7):
        self._name, self._replicas, self._pause = unique("chaos-churn"), replicas, pause
        self._client = AdminClient({"bootstrap.servers": address, **IMPATIENT, **QUIET})
        self.there: list[str] = []
        self.gone: list[str] = []
        # What has become of them nobody has said.
        self.unsure: list[str] = []
        self.failures: list[str] = []
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        count = 0
        while not self._ending.wait(self._pause):
            count += 1
            name = f"{self._name}-{count}"
            made = self._done(lambda: self._client.create_topics([NewTopic(name, 2, self._replicas)], request_timeout=10)[name].result(20))
            (self.there if made else self.unsure).append(name)
            if count % 4 and self.there:
                name = self.there.pop(0)
                deleted = self._done(lambda: self._client.delete_topics([name], request_timeout=10)[name].result(20))
                (self.gone if deleted else self.unsure).append(name)

    def _done(self, call) -> bool:
        try:
            call()
            return True
        except KafkaException as error:
            self.failures.append(error.args[0].name())
            return False

    def end(self):
        self._ending.set()
        self._thread.join(ENDING_SECONDS_MAX)
        assert not self._thread.is_alive(), "who creates topics does not come to an end"

    def wrong(self, topics: set[str]) -> list[str]:
        """What one of the nodes knows of topics that is not so."""
        return ([f"{name} was created and is not there" for name in self.there if name not in topics]
                + [f"{name} was deleted and is there" for name in self.gone if name in topics])

    def clean_up(self):
        """Deletes what it has left."""
        names = self.there + self.unsure
        for waits in self._client.delete_topics(names, request_timeout=20).values() if names else ():
            self._done(lambda waits=waits: waits.result(30))
