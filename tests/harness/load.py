"""Load that remembers what it was promised: producers with a journal of acknowledgements, and readers that compare.

A record says who it is (partition, number) and carries padding that follows from that, so that any byte that is not
the one sent is seen, and a reader needs no memory of what was sent.
"""

import threading
import time
import zlib

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from .suite import equal

QUIET = {"log_level": 2, "reconnect.backoff.max.ms": 250, "topic.metadata.refresh.interval.ms": 2000}
AFTER_A_START = {"NOT_LEADER_FOR_PARTITION", "LEADER_NOT_AVAILABLE", "NOT_COORDINATOR", "COORDINATOR_NOT_AVAILABLE", "COORDINATOR_LOAD_IN_PROGRESS",
                 "UNKNOWN_TOPIC_OR_PART", "OFFSET_NOT_AVAILABLE", "_TRANSPORT", "_TIMED_OUT", "_WAIT_COORD", "_DESTROY_BROKER"}
PADDING = bytes((i * i + i // 7) % 251 for i in range(200_000))
# Most records are small and go through the journal; some are large enough to be written straight to their place.
SMALL, LARGE, LARGE_EVERY = 700, 90_000, 97


def patiently(call, seconds: float = 20):
    """Calls until it works: just after a start, leaders and coordinators may still be on their way."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return call()
        except KafkaException as error:
            if not error.args[0].retriable() and error.args[0].name() not in AFTER_A_START or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def make_topic(address: str, name: str, partitions: int = 1, **config: str):
    """Creates a topic and waits until it is there."""
    settings = {key.replace("_", "."): value for key, value in config.items()}
    admin = AdminClient({"bootstrap.servers": address, **QUIET})
    admin.create_topics([NewTopic(name, partitions, 1, config=settings)])[name].result(20)


def value_of(partition: int, number: int) -> bytes:
    """The value of record `number` of a partition."""
    mixed = zlib.crc32(b"%d/%d" % (partition, number))
    size = mixed % (LARGE if number % LARGE_EVERY == 0 else SMALL)
    start = mixed % 4096
    return b"%d/%d/" % (partition, number) + PADDING[start:start + size]


class Load:
    """A producer on a thread of its own that keeps on, whatever happens to the broker, until it is told to end."""

    def __init__(self, address: str, topic: str, partitions: int, rate: int = 4000, first: int = 0, **config):
        """`first` is the number of its first record in each partition: several who write to one topic are told apart by it."""
        self.topic, self.partitions, self.rate, self.first = topic, partitions, rate, first
        self.sent = [0] * partitions
        # number -> offset, by partition; an offset of -1 is a promise without an address.
        self.acked: list[dict[int, int]] = [{} for _ in range(partitions)]
        self.errors: list[str] = []
        self.idempotent = bool(config.get("enable.idempotence"))
        self._ending = threading.Event()
        self._producer = Producer({"bootstrap.servers": address, "acks": "all", "linger.ms": 3, "message.timeout.ms": 120_000,
                                   "retry.backoff.ms": 50, "retry.backoff.max.ms": 250, "queue.buffering.max.messages": 5000, **QUIET, **config})
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        began = time.monotonic()
        count = 0
        while not self._ending.is_set():
            ahead = count / self.rate - (time.monotonic() - began)
            if ahead > 0:
                self._producer.poll(min(ahead, 0.05))
                continue
            partition = count % self.partitions
            number = self.first + self.sent[partition]
            try:
                self._producer.produce(self.topic, value_of(partition, number), partition=partition, on_delivery=self._note(number))
            except BufferError:
                self._producer.poll(0.05)
                began, count = time.monotonic(), partition  # The broker is away: no rush to catch up later.
                continue
            self.sent[partition] += 1
            count += 1
            self._producer.poll(0)

    def _note(self, number: int):
        def on_delivery(error, message):
            if error:
                self.errors.append(str(error))
            else:
                offset = message.offset()
                self.acked[message.partition()][number] = -1 if offset is None else offset
                self.acknowledged(message.partition())
        return on_delivery

    def acknowledged(self, partition: int):
        """Called for each record; for those who want to know when."""

    @property
    def acks(self) -> int:
        """Acknowledged so far."""
        return sum(map(len, self.acked))

    def stop(self):
        """Sends no more."""
        self._ending.set()
        self._thread.join(20)

    def end(self, flush_seconds: float = 60):
        """Sends no more and waits for the last acknowledgements."""
        self.stop()
        equal(self._producer.flush(flush_seconds), 0, "records still unacknowledged")
        equal(self.errors[:3], [], "failed deliveries")

    def verify(self, address: str):
        """Everything acknowledged is where it was promised to be, and nothing is there that was not sent."""
        found = read_all(address, self.topic, self.partitions)
        for partition, numbers in enumerate(found):
            what = f"{self.topic}-{partition}"
            for number, offset in self.acked[partition].items():
                if offset >= 0:
                    there = numbers[offset] if offset < len(numbers) else None
                    equal(there, number, f"{what}: the record acknowledged at offset {offset}")
            equal(sorted(set(self.acked[partition]) - set(numbers)), [], f"{what}: acknowledged and lost")
            assert all(0 <= n < self.sent[partition] for n in numbers), f"{what}: a record that was never sent"
            if self.idempotent:
                wrong = next((at for at, number in enumerate(numbers) if number != at), None)
                assert wrong is None, f"{what}: each once and in order: from offset {wrong - 5} on {numbers[wrong - 5:wrong + 15]}"


def number_in(message, partition: int) -> int:
    """Which record this is; an AssertionError if a byte of it is wrong."""
    value = message.value()
    try:
        told, number, _ = value.split(b"/", 2)
    except ValueError:
        raise AssertionError(f"{partition}/{message.offset()} is no record of ours: {value[:60]!r}") from None
    equal(int(told), partition, "partition in the record")
    assert value == value_of(partition, int(number)), f"{partition}/{message.offset()}: record {number} is damaged"
    return int(number)


def reader(address: str, topic: str, partitions: int, **config) -> Consumer:
    """A consumer of a whole topic from its beginning, without a group."""
    source = Consumer({"bootstrap.servers": address, "group.id": "unused", "enable.auto.commit": False, "auto.offset.reset": "error",
                       "check.crcs": True, **QUIET, **config})
    source.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in range(partitions)])
    return source


def read_all(address: str, topic: str, partitions: int, seconds: float = 60) -> list[list[int]]:
    """The record numbers of each partition by offset, up to the end as it is now."""
    source = reader(address, topic, partitions)
    ends = [patiently(lambda p=p: source.get_watermark_offsets(TopicPartition(topic, p), timeout=20)[1]) for p in range(partitions)]
    found: list[list[int]] = [[] for _ in range(partitions)]
    deadline = time.monotonic() + seconds
    while any(len(f) < end for f, end in zip(found, ends)):
        assert time.monotonic() < deadline, f"{topic}: read {[len(f) for f in found]} of {ends} in {seconds} s"
        for message in source.consume(1000, 0.5):
            if message.error():
                if message.error().retriable() or message.error().code() < 0:
                    continue
                raise AssertionError(f"{topic}: {message.error()}")
            partition = message.partition()
            equal(message.offset(), len(found[partition]), f"{topic}-{partition}: next offset")
            found[partition].append(number_in(message, partition))
    source.close()
    return found


class Watcher:
    """A consumer that reads along on a thread of its own. What it was shown once must never change."""

    def __init__(self, address: str, topic: str, partitions: int):
        self.topic = topic
        self.seen: list[list[int]] = [[] for _ in range(partitions)]
        self.error: Exception | None = None
        self._ending = threading.Event()
        self._source = reader(address, topic, partitions)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        try:
            while not self._ending.is_set():
                for message in self._source.consume(500, 0.2):
                    if not message.error():
                        partition = message.partition()
                        equal(message.offset(), len(self.seen[partition]), f"{self.topic}-{partition}: next offset seen")
                        self.seen[partition].append(number_in(message, partition))
                    elif message.error().code() > 0 and not message.error().retriable():
                        raise AssertionError(f"{self.topic}: {message.error()}")
        except Exception as error:
            self.error = error
        self._source.close()

    def end(self, address: str):
        """Stops and compares with what is there now."""
        self._ending.set()
        self._thread.join(20)
        if self.error:
            raise self.error
        for partition, numbers in enumerate(read_all(address, self.topic, len(self.seen))):
            seen = self.seen[partition]
            equal(numbers[:len(seen)], seen, f"{self.topic}-{partition}: what a consumer had seen before")
